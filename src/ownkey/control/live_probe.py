"""The one small paid call of a key's Test: held like any call, ended like any call, with a receipt.

What it may cost is bounded before it is sent; a cap that has no room for it skips it, and the result says so.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ownkey.control.ports import Books, Clock, PriceVersions, ProbeProvider, Upstream
from ownkey.control.probes import failure_of
from ownkey.domain.booking import AttemptEnd, CapFigures, HoldGranted, HoldRefused, HoldRequest
from ownkey.domain.bounds import RequestShape, plan_terms
from ownkey.domain.conversation import ChatRequest, Message, Text
from ownkey.domain.exchange import Origin
from ownkey.domain.failures import Failure, FailureClass, UpstreamError
from ownkey.domain.models import limits
from ownkey.domain.pricing import ModelPrice, compute_cost_nusd
from ownkey.domain.receipts import KEY_TEST, AttemptRecord, Basis, HoldState
from ownkey.domain.routing import Funding, Route
from ownkey.domain.secret import Secret
from ownkey.domain.usage import Usage
from ownkey.domain.wire import EmbeddingsRequest, Seen
from ownkey.domain.workspace import WorkspaceState

OUTPUT_TOKENS = 16
ANSWER_LIMIT_BYTES = 4 * 1024 * 1024
HOLD_GRACE_MS = 60_000


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """What is called: a model by its slug and by the provider's own id."""

    endpoint: Literal["chat", "embeddings"]
    slug: str
    native: str


@dataclass(frozen=True, slots=True)
class ProbeOutcome:
    """`skipped` says why nothing was sent; else `failure` is None if content came back."""

    target: ProbeTarget
    failure: Failure | None = None
    skipped: str = ""
    latency_ms: int = 0
    cost_nusd: int | None = None
    record: AttemptRecord | None = None
    usage: Usage | None = None
    price_version: int | None = None
    cap: CapFigures | None = None


@dataclass(frozen=True, slots=True)
class ProbeKey:
    """The key under test, without its plaintext in sight."""

    secret: Secret
    credential_id: str
    label: str
    hint: str
    version: int = 0


@dataclass(slots=True)
class _Exchange:
    """What one attempt has seen so far, so that any exit can book it."""

    failure: Failure | None = None
    seen: Seen | None = None
    status: int | None = None
    ended_ms: int = 0


class LiveProbe:
    """Sends one held call and books its end, whatever happens to the caller meanwhile."""

    def __init__(
        self, upstream: Upstream, providers: Mapping[str, ProbeProvider], origins: Mapping[str, Origin], books: Books,
        prices: PriceVersions, clock: Clock,
    ) -> None:
        self._upstream = upstream
        self._providers = providers
        self._origins = origins
        self._books = books
        self._prices = prices
        self._clock = clock

    def price_of(self, provider: str, target: ProbeTarget) -> ModelPrice | None:
        return self._prices.current().find(provider, target.native)

    async def send(
        self, workspace: WorkspaceState, provider: str, target: ProbeTarget, key: ProbeKey, *, call_id: str, n: int,
        deadline: float,
    ) -> ProbeOutcome:
        """One attempt, number `n` of the Test `call_id`."""
        codec, body = self._encode(provider, target)
        if codec is None:
            return ProbeOutcome(target, skipped=f"{provider} has no {target.endpoint} here")
        granted = await self._hold(workspace, provider, target, len(body), call_id, n, deadline)
        if isinstance(granted, str):
            return ProbeOutcome(target, skipped=granted)
        began = self._clock.monotonic()
        exchange = _Exchange(failure=Failure(FailureClass.TIMEOUT, "the Test was cancelled"))
        try:
            await self._exchange(exchange, provider, target, codec, body, key, deadline)
        finally:
            exchange.ended_ms = max(1, round((self._clock.monotonic() - began) * 1_000))
            outcome = await asyncio.shield(self._end(workspace, provider, target, key, granted, exchange, n))
        return outcome

    def _encode(self, provider: str, target: ProbeTarget) -> tuple[Any, bytes]:
        found = self._providers[provider].codec("openai", target.endpoint)
        if found is None:
            return None, b""
        codec = found[0]
        if target.endpoint == "embeddings":
            request = EmbeddingsRequest(inputs=("ok",), dimensions=None, encoding="float", single=True)
            return codec, codec.encode_embeddings(target.native, request)
        chat = ChatRequest(
            messages=(Message("user", (Text("Reply with the word ok."),)),), max_output_tokens=OUTPUT_TOKENS
        )
        return codec, codec.encode_chat(target.native, chat, OUTPUT_TOKENS)

    async def _hold(
        self, workspace: WorkspaceState, provider: str, target: ProbeTarget, size: int, call_id: str, n: int,
        deadline: float,
    ) -> HoldGranted | str:
        book = self._prices.current()
        price = book.find(provider, target.native)
        output = 0 if target.endpoint == "embeddings" else OUTPUT_TOKENS
        terms = None if price is None else plan_terms(
            RequestShape(text_bytes=size, output_limit=output), price, limits(provider, target.slug, price),
            output_limit=output, min_output=output, openrouter=provider == "openrouter",
        )
        now = self._clock.now_ms()
        left_ms = max(0, int((deadline - self._clock.monotonic()) * 1_000))
        answer = await self._books.hold(HoldRequest(
            hold_id=self._clock.new_id("hold"), workspace_id=workspace.id, call_id=call_id, attempt=n,
            funding=Funding.BYOK, terms=terms, price_version=book.version, at_ms=now,
            expires_at_ms=now + left_ms + HOLD_GRACE_MS, timezone=workspace.timezone, shrink=False, probe=True,
            context=json.dumps({
                "id": call_id, "at_ms": now, "endpoint": target.endpoint, "task": KEY_TEST,
                "requested_model": target.slug, "provider": provider, "dialect": "openai",
                "route": _route(provider).value,
            }),
        ))
        return _refusal_words(answer) if isinstance(answer, HoldRefused) else answer

    async def _exchange(
        self, exchange: _Exchange, provider: str, target: ProbeTarget, codec: Any, body: bytes, key: ProbeKey,
        deadline: float,
    ) -> None:
        adapter = self._providers[provider]
        request = adapter.request(
            self._origins[provider], codec, target.native, body, False, key.secret, {}
        )
        left = deadline - self._clock.monotonic()
        if left <= 0:
            exchange.failure = Failure(FailureClass.TIMEOUT, "no time left", unbilled=True)
            return
        try:
            response = await self._upstream.send(request, head_timeout_s=left)
            exchange.status = response.status
            try:
                answer = await response.read_all(
                    max(0.1, deadline - self._clock.monotonic()), ANSWER_LIMIT_BYTES
                )
            finally:
                response.close()
        except UpstreamError as error:
            exchange.failure = failure_of(error)
            return
        if response.status != 200:
            exchange.failure = adapter.decode_failure(response.status, response.headers, answer)
            return
        exchange.seen, _ = codec.decode_whole(answer)
        exchange.failure = exchange.seen.failure

    async def _end(
        self, workspace: WorkspaceState, provider: str, target: ProbeTarget, key: ProbeKey, granted: HoldGranted,
        exchange: _Exchange, n: int,
    ) -> ProbeOutcome:
        usage = None if exchange.seen is None else exchange.seen.usage
        price = self._prices.current().find(provider, target.native)
        state, basis, cost = _booking(exchange, usage, price, granted.bound_nusd)
        maybe_billed = basis is Basis.ESTIMATED
        booked = await self._books.end_attempt(AttemptEnd(
            hold_id=granted.hold_id, workspace_id=workspace.id, state=state, basis=basis, cost_nusd=cost,
            delivered_cost_nusd=0, maybe_billed=maybe_billed,
            delivered_bytes=0 if exchange.seen is None else exchange.seen.content_bytes, at_ms=self._clock.now_ms(),
        ))
        failure = exchange.failure
        record = AttemptRecord(
            n=n, route=_route(provider), provider=provider,
            model=target.native, credential_id=key.credential_id, credential_label=key.label,
            credential_hint=key.hint, hold_id=granted.hold_id, bound_nusd=granted.bound_nusd, state=state, basis=basis,
            cost_nusd=None if cost is None else booked.cost_nusd, usage=usage, status=exchange.status,
            failure=None if failure is None else failure.cls.value, signal="" if failure is None else failure.signal,
            message="" if failure is None else failure.message,
            request_id=None if exchange.seen is None else exchange.seen.response_id, started_ms=0,
            first_content_ms=None if failure is not None else exchange.ended_ms, ended_ms=exchange.ended_ms,
            maybe_billed=maybe_billed, output_limit=granted.output_limit, credential_version=key.version,
        )
        return ProbeOutcome(
            target, failure=failure, latency_ms=exchange.ended_ms, cost_nusd=record.cost_nusd, record=record,
            usage=usage, price_version=self._prices.current().version, cap=booked.cap,
        )


def _route(provider: str) -> Route:
    return Route.OPENROUTER if provider == "openrouter" else Route.DIRECT


def _booking(
    exchange: _Exchange, usage: Usage | None, price: ModelPrice | None, bound_nusd: int
) -> tuple[HoldState, Basis, int | None]:
    """How an attempt ends in the books: reported, computed, estimated at the full hold, or unbilled."""
    if exchange.failure is not None and exchange.failure.unbilled:
        return HoldState.RELEASED, Basis.NONE, 0
    if usage is not None and usage.cost_nusd is not None:
        return HoldState.SETTLED, Basis.ACTUAL, usage.cost_nusd
    if price is None:
        return HoldState.SETTLED, Basis.UNKNOWN, None
    computed = None if usage is None else compute_cost_nusd(usage, price)
    if computed is not None:
        return HoldState.SETTLED, Basis.COMPUTED, computed
    return HoldState.SETTLED, Basis.ESTIMATED, bound_nusd


def _refusal_words(refused: HoldRefused) -> str:
    match refused.code:
        case "ai_paused":
            return "the spend cap is reached and has no room for the small paid call; only the free checks ran"
        case "spend_cap_too_low" | "spend_cap_busy":
            return "the spend cap has no room for the small paid call now; only the free checks ran"
        case "unpriced_model":
            return "the model has no price and a spend cap applies; only the free checks ran"
        case _:
            return "the small paid call was not possible; only the free checks ran"
