"""Whatever went wrong, as one envelope: {"error": {"code", "message", "fix": {"text", "url"}, …}}."""

from typing import Any

import msgspec

from ownkey.api.manage_schemas import ErrorBody, ErrorOut, FixOut
from ownkey.api.statuses import STATUSES
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.errors import Conflict, NotFound, StoreError
from ownkey.domain.phrases import as_plain
from ownkey.domain.product import Product
from ownkey.domain.refusals import Refused
from ownkey.domain.scrub import scrub
from ownkey.pages.statuses import PROBLEM_STATUSES

Encoded = tuple[int, bytes, list[tuple[bytes, bytes]]]


def problem_of(error: Refused | Problem | StoreError) -> Refused | Problem:
    """A store's error in this door's words. Its own text may name rows, so it is not repeated."""
    if isinstance(error, Refused | Problem):
        return error
    if isinstance(error, NotFound):
        return Problem(ProblemCode.NOT_FOUND, "There is no such object here.",
                       "Check the id and the workspace; lists show what exists.")
    if isinstance(error, Conflict):
        return Problem(ProblemCode.CONFLICT, "The change contradicts what is stored now.",
                       "Read the current state and try again.")
    return Problem(ProblemCode.STORE_UNAVAILABLE, "The books cannot be written now, so nothing was changed.",
                   "Try again shortly; the operator's log says why.", retry_after_s=2)


class ErrorEnvelope:
    """Encodes problems with the product's own deep links."""

    def __init__(self, product: Product) -> None:
        self._product = product

    def encode(self, error: Refused | Problem) -> Encoded:
        source: Any = error.refusal if isinstance(error, Refused) else error
        status = error.refusal.status or STATUSES[error.refusal.code] if isinstance(error, Refused) else (
            PROBLEM_STATUSES[error.code]
        )
        url = self._product.fix_url(source.flow) if source.flow else None
        # Sentences may repeat a name that the caller sent: a key pasted into the wrong place goes no further.
        body = ErrorBody(
            code=source.code.value, message=scrub(source.message)[0], fix=FixOut(text=scrub(source.fix)[0], url=url)
        )
        if source.param is not None:
            body.param = scrub(source.param)[0]
        if source.details:
            body.details = dict(source.details)
        headers: list[tuple[bytes, bytes]] = []
        if source.retry_after_s is not None:
            body.retry_after_s = source.retry_after_s
            headers.append((b"retry-after", str(source.retry_after_s).encode()))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return status, msgspec.json.encode(ErrorOut(error=body), enc_hook=as_plain), headers

    def internal(self, error_id: str) -> Encoded:
        body = ErrorBody(
            code="internal_error", message="Something went wrong on our side; nothing is known to have changed.",
            fix=FixOut(text="Try again; if it repeats, tell the operator this id.", url=None), id=error_id,
        )
        return 500, msgspec.json.encode(ErrorOut(error=body), enc_hook=as_plain), []
