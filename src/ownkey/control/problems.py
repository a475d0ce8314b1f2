"""Why a change was not made: one code, one sentence, one fix.

A refusal (domain.refusals) answers an AI call; a problem answers somebody who changes or reads settings. The door
holds the table from code to HTTP status, and a test demands that it names every code here.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from enum import StrEnum

from ownkey.domain.phrases import Phrase, together


class ProblemCode(StrEnum):
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    INVALID = "invalid_value"
    UNKNOWN_PROVIDER = "unknown_provider"
    ACKNOWLEDGEMENT_REQUIRED = "acknowledgement_required"
    CREDENTIAL_MALFORMED = "credential_malformed"
    CREDENTIAL_WRONG_KIND = "credential_wrong_kind"
    CREDENTIAL_NOT_ACCEPTED = "credential_not_accepted"
    CREDENTIAL_UNREACHABLE = "credential_unreachable"
    CONNECT_UNKNOWN = "connect_unknown"
    CONNECT_USED = "connect_used"
    CONNECT_EXPIRED = "connect_expired"
    CONNECT_CANCELLED = "connect_cancelled"
    CONNECT_REFUSED = "connect_refused"
    CONNECT_UNREACHABLE = "connect_unreachable"
    LINK_UNKNOWN = "link_unknown"
    LINK_USED = "link_used"
    LINK_EXPIRED = "link_expired"
    LINK_WRONG_MODE = "link_wrong_mode"
    SESSION_ENDED = "session_ended"
    FOREIGN_REQUEST = "foreign_request"
    SIGN_IN_REFUSED = "sign_in_refused"
    SIGN_IN_EXPIRED = "sign_in_expired"
    SIGN_IN_LOCKED = "sign_in_locked"
    SIGN_IN_BUSY = "sign_in_busy"
    REAUTHENTICATION_REQUIRED = "reauthentication_required"
    ROLE_REQUIRED = "role_required"
    OIDC_REFUSED = "oidc_refused"
    OIDC_UNREACHABLE = "oidc_unreachable"
    ADDON_EXISTS = "addon_exists"
    NOT_ENOUGH_CREDITS = "not_enough_credits"
    BILLING_OFF = "billing_off"
    BILLING_REFUSED = "billing_refused"
    BILLING_UNREACHABLE = "billing_unreachable"
    TOO_MANY_ROWS = "too_many_rows"
    TOO_MANY_TESTS = "too_many_tests"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    IDEMPOTENCY_IN_PROGRESS = "idempotency_in_progress"
    DATA_KEY_CLOSED = "data_key_closed"
    STORE_UNAVAILABLE = "store_unavailable"


class Problem(Exception):
    """`param` names the field at fault; `flow` the page that fixes it; `details` are JSON values."""

    def __init__(
        self, code: ProblemCode, message: str, fix: str, *, param: str | None = None, flow: str = "",
        retry_after_s: int | None = None, details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fix = fix
        self.param = param
        self.flow = flow
        self.retry_after_s = retry_after_s
        self.details = details or {}


def not_found(kind: str, name: str, where: str = Phrase("in this workspace")) -> Problem:
    """The one answer for what does not exist and for what belongs to somebody else: it repeats what was asked for
    and knows nothing more."""
    return Problem(
        ProblemCode.NOT_FOUND,
        Phrase("There is no {kind} {name} {where}.", kind=kind, name=name[:80], where=where),
        Phrase("Check the id and the workspace; lists show what exists."),
    )


def invalid(param: str, message: str, fix: str) -> Problem:
    """A field's value that cannot be taken."""
    return Problem(ProblemCode.INVALID, message, fix, param=param)


def suggest(word: str, known: Iterable[str]) -> str:
    """How a list of accepted words is told, with the likely one first: `Did you mean X? Use one of: X, Y.`"""
    words = list(known)
    close = get_close_matches(word.lower(), words, n=1)
    if not words:
        return Phrase("There are none yet.")
    guess = Phrase("Did you mean {word}?", word=close[0]) if close else ""
    return together(guess, Phrase("Use one of: {words}.", words=", ".join(words)))
