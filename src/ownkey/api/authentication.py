"""Who asks: the bearer token of a request becomes a principal, or one 401 that repeats nothing.

A token whose checksum is wrong never reaches the store.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from ownkey.api.http import Scope
from ownkey.domain import tokens
from ownkey.domain.refusals import Code, Refusal, Refused
from ownkey.domain.workspace import Principal

Authenticate = Callable[[Scope], Awaitable[Principal]]


class _Directory(Protocol):
    async def load_principal(self, token_digest: bytes) -> Principal | None: ...


class _Clock(Protocol):
    def now_ms(self) -> int: ...


class BearerAuthentication:
    """Finds the principal of `Authorization: Bearer ok_…`. Raises Refused(INVALID_TOKEN)."""

    def __init__(self, directory: _Directory, clock: _Clock) -> None:
        self._directory = directory
        self._clock = clock

    async def __call__(self, scope: Scope) -> Principal:
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        return await self.check(values[0] if values else None, twice=len(values) > 1)

    async def check(self, header: bytes | None, *, twice: bool, api_key: bytes | None = None) -> Principal:
        """The same for a door that has read its headers already; `twice`: there was more than one. `api_key` is the
        value of `x-api-key`, where Anthropic's clients put a token; both together must be one and the same."""
        if api_key is not None:
            own = b"Bearer " + api_key.strip()
            if header is not None and header.partition(b" ")[2].strip() != api_key.strip():
                raise invalid_token("Authorization and x-api-key hold two different tokens.")
            header = own
        if header is None:
            raise invalid_token("No access token was sent.")
        if twice:
            raise invalid_token("More than one Authorization header was sent.")
        scheme, _, token = header.partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not tokens.is_well_formed(token):
            if token.startswith((b"sk-", b"AIza", b"AQ.")):
                raise invalid_token("This is a provider key, not an Ownkey access token; it was not used.")
            raise invalid_token("This is no Ownkey access token.")
        principal = await self._directory.load_principal(tokens.digest(token))
        expired = principal is not None and principal.expires_at_ms is not None and (
            principal.expires_at_ms <= self._clock.now_ms()
        )
        if principal is None or expired:
            raise invalid_token("The access token is unknown, revoked or expired.")
        return principal


def invalid_token(sentence: str) -> Refused:
    return Refused(Refusal(
        Code.INVALID_TOKEN, sentence,
        "Send `Authorization: Bearer ok_…` with an access token of this deployment (`ownkey token add`; management "
        "needs one made with `--service`).",
    ))
