"""What a provider says about a key for free: whether it is real, what it may reach, what is left on it.

No URL, host or model comes from a caller: paths are constants, origins come from the configuration.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote

from ownkey.control.ports import Clock, ProbeProvider, Upstream
from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import Failure, FailureClass, UpstreamError
from ownkey.domain.key_readings import KeyUsage
from ownkey.domain.money import AmountError, parse_usd_nusd
from ownkey.domain.secret import Secret

# Free requests that need a valid key (providers' API references, November 2026). OpenRouter's `GET /models` is
# public and proves nothing.
AUTH_PATHS: Mapping[str, str] = {
    "openrouter": "/key", "openai": "/models", "anthropic": "/models?limit=1000", "google": "/models?pageSize=1000",
}
REACH_PATHS: Mapping[str, str] = {"openrouter": "/models/user"}

_SPANS = ("daily", "weekly", "monthly")

LIST_LIMIT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What the free probe told. `models` are native ids that the key may use, None if the provider gave no list.

    `limit_nusd`, `limit_left_nusd` and `limit_reset` are the key's own limit at the provider (None: not told, or
    no limit). `management` marks a key that manages and cannot run models. `usage` is what OpenRouter counts on it.
    """

    models: frozenset[str] | None = None
    limit_nusd: int | None = None
    limit_left_nusd: int | None = None
    limit_reset: str | None = None
    expires_at: str | None = None
    management: bool = False
    exhausted: bool = False
    usage: KeyUsage | None = None


class AuthProber:
    """Sends the free requests and reads their answers."""

    def __init__(
        self, upstream: Upstream, providers: Mapping[str, ProbeProvider], origins: Mapping[str, Origin], clock: Clock
    ) -> None:
        self._upstream = upstream
        self._providers = providers
        self._origins = origins
        self._clock = clock

    async def ask(self, provider: str, secret: Secret, deadline: float) -> KeyFacts | Failure:
        """The authentication probe. `deadline` is on the monotonic clock. Never raises for a provider's fault."""
        asked_ms = self._clock.now_ms()
        answer = await self._get(provider, AUTH_PATHS[provider], secret, deadline)
        if isinstance(answer, Failure):
            return answer
        if provider != "openrouter":
            return KeyFacts(models=read_models(answer))
        return replace(read_key(answer), usage=read_usage(answer, asked_ms, max(asked_ms, self._clock.now_ms())))

    async def reach(self, provider: str, secret: Secret, facts: KeyFacts, deadline: float) -> KeyFacts | Failure:
        """The facts with the list of models that this key may use, where that is a request of its own."""
        path = REACH_PATHS.get(provider)
        if path is None:
            return facts
        answer = await self._get(provider, path, secret, deadline)
        return answer if isinstance(answer, Failure) else replace(facts, models=read_models(answer))

    async def find_generation(
        self, secret: Secret, generation_id: str, deadline: float
    ) -> Mapping[str, Any] | Failure:
        """OpenRouter's record of a past generation of this key's account. Free; a 404 may mean "not yet"."""
        path = f"/generation?id={quote(generation_id, safe='')}"
        return await self._get("openrouter", path, secret, deadline)

    async def _get(self, provider: str, path: str, secret: Secret, deadline: float) -> dict[str, Any] | Failure:
        left = deadline - self._clock.monotonic()
        if left <= 0:
            return Failure(FailureClass.TIMEOUT, "no time left")
        try:
            response = await self._upstream.send(self._request(provider, path, secret), head_timeout_s=left)
            try:
                body = await response.read_all(max(0.1, deadline - self._clock.monotonic()), LIST_LIMIT_BYTES)
            finally:
                response.close()
        except UpstreamError as error:
            return failure_of(error)
        if response.status != 200:
            return self._providers[provider].decode_failure(response.status, response.headers, body)
        return _object(body) or Failure(FailureClass.OVERLOAD, "200 without JSON", status=200)

    def _request(self, provider: str, path: str, secret: Secret) -> UpstreamRequest:
        """A GET with the same authentication as a call: how a key travels is known in one place only."""
        found = self._providers[provider].codec("openai", "chat")
        assert found is not None, "every provider answers chat"
        call = self._providers[provider].request(
            self._origins[provider], found[0], "probe", b"", False, secret, {}
        )
        headers = tuple(pair for pair in call.headers if not pair[0].lower().startswith("content-"))
        return replace(call, method="GET", path=path, headers=headers, body=b"")


def failure_of(error: UpstreamError) -> Failure:
    """A broken exchange as a failure: NETWORK or TIMEOUT; unbilled only if nothing was sent."""
    return Failure(
        FailureClass.TIMEOUT if error.timeout else FailureClass.NETWORK, error.signal, unbilled=not error.sent
    )


def read_key(answer: Mapping[str, Any]) -> KeyFacts:
    """OpenRouter's `GET /key`. Amounts are decimal digits in USD; a missing or null limit is none."""
    data = answer.get("data")
    fields: Mapping[str, Any] = data if isinstance(data, dict) else {}
    left = fields.get("limit_remaining")
    return KeyFacts(
        limit_nusd=_amount(fields.get("limit")),
        limit_left_nusd=_amount(left),
        limit_reset=_text(fields.get("limit_reset")),
        expires_at=_text(fields.get("expires_at")),
        management=fields.get("is_management_key") is True or fields.get("is_provisioning_key") is True,
        exhausted=_is_used_up(left),
    )


def read_usage(answer: Mapping[str, Any], asked_ms: int, answered_ms: int) -> KeyUsage | None:
    """The totals in OpenRouter's `GET /key`, from their digits; None if either is missing: unknown is never 0."""
    data = answer.get("data")
    fields: Mapping[str, Any] = data if isinstance(data, dict) else {}
    usage, byok = _total(fields.get("usage")), _total(fields.get("byok_usage"))
    if usage is None or byok is None:
        return None
    daily, weekly, monthly = (_total(fields.get(f"usage_{span}")) for span in _SPANS)
    byok_daily, byok_weekly, byok_monthly = (_total(fields.get(f"byok_usage_{span}")) for span in _SPANS)
    return KeyUsage(
        asked_ms, answered_ms, usage, byok, daily, weekly, monthly, byok_daily, byok_weekly, byok_monthly,
        limit_nusd=_amount(fields.get("limit")), limit_left_nusd=_amount(fields.get("limit_remaining")),
        limit_reset=_text(fields.get("limit_reset")),
    )


def read_models(answer: Mapping[str, Any]) -> frozenset[str] | None:
    """Native ids in a provider's model list; None for an answer that is no list."""
    rows = answer.get("data", answer.get("models"))
    if not isinstance(rows, list):
        return None
    names = (row.get("id", row.get("name")) for row in rows if isinstance(row, dict))
    return frozenset(name.removeprefix("models/") for name in names if isinstance(name, str))


def moment_ms(text: str | None) -> int | None:
    """A provider's RFC 3339 time as Unix milliseconds; None for what is no time, or has no zone."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else int(moment.timestamp() * 1_000)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _amount(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        return parse_usd_nusd(max(value, Decimal(0)) if not isinstance(value, str) else value)
    except AmountError:
        return None


def _total(value: object) -> int | None:
    """A running total; a negative one is none that could be compared."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        return parse_usd_nusd(value)
    except AmountError:
        return None


def _is_used_up(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return False
    try:
        return Decimal(value) <= 0
    except InvalidOperation:
        return False


def _text(value: object) -> str | None:
    return value[:60] if isinstance(value, str) and value else None
