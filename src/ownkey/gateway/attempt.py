"""One attempt: open the credential, send, watch the answer, and say how it ended.

Nothing reaches the caller before the first content: until then another attempt may still answer. The end of an
answer is handed back to the caller of `run`, who books it first and delivers it then.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ownkey.domain.booking import AttemptEnd, HoldGranted
from ownkey.domain.bounds import RequestShape, estimate_input_tokens
from ownkey.domain.errors import StoreError
from ownkey.domain.exchange import Origin
from ownkey.domain.failures import Failure, FailureClass, UpstreamError
from ownkey.domain.models import hides_reasoning
from ownkey.domain.money import format_usd
from ownkey.domain.product import Product, RoutingLimits
from ownkey.domain.receipts import AttemptRecord
from ownkey.domain.routing import Funding
from ownkey.domain.wire import ANSWERING, Edits, Seen
from ownkey.gateway.calls import CallLog, Progress
from ownkey.gateway.codecs import EventEncoder, Provider
from ownkey.gateway.outcome import Outcome, decide_outcome
from ownkey.gateway.plan import Plan, Planned
from ownkey.gateway.ports import Clock, Journal, Opener, Reply, Upstream, UpstreamResponse
from ownkey.gateway.relay import PassthroughRelay, Relay, TranslatedRelay

RESPONSE_LIMIT_BYTES = 64 * 1024 * 1024
ERROR_LIMIT_BYTES = 1024 * 1024
ERROR_BODY_S = 10.0
END_OF_BODY_S = 0.02
READS_AFTER_END = 3
ARRIVED_S = 0.002
READS_BEFORE_LEAVING = 100
JOURNAL_EVERY_S = 5.0
MAX_DRAINS = 64
NO_ENDPOINTS = ("no_endpoints", "privacy_restricted", "region_restricted", "constraint_filtered")
"""OpenRouter's signals for a model that it has, but not for this request. Only the first leaves the reason open."""


@dataclass(slots=True)
class AttemptResult:
    """`body` is a whole answer; `tail` the last frames of a stream: both wait until the end is booked. `gone`: the
    caller hung up; `stopped`: this process is stopping."""

    record: AttemptRecord
    end: AttemptEnd | None
    failure: Failure | None
    seen: Seen
    gone: bool = False
    stopped: bool = False
    committed: bool = False
    unopenable: bool = False
    bug: Exception | None = None
    first_content_ms: int | None = None
    body: bytes = b""
    tail: bytes = b""


@dataclass(slots=True)
class _Answer:
    body: bytes = b""
    tail: bytes = b""


class Unopenable(Exception):
    """The credential's ciphertext cannot be opened."""


def take_cancellation() -> None:
    """This task was cancelled and goes on to settle. Python counts cancellations, and a count left standing would
    break every later `asyncio.timeout` of the task (3.11: it compares with zero)."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


class Runner:
    """Sends attempts. One instance serves every call of the process."""

    def __init__(
        self, *, product: Product, origins: Mapping[str, Origin], opener: Opener, upstream: Upstream, clock: Clock,
        journal: Journal, response_limit_bytes: int = RESPONSE_LIMIT_BYTES,
    ) -> None:
        self._product = product
        self._limits = product.routing
        self._origins = origins
        self._opener = opener
        self._upstream = upstream
        self._clock = clock
        self._journal = journal
        self._limit_bytes = response_limit_bytes
        self.drains = 0

    async def run(
        self, log: CallLog, planned: Planned, hold: HoldGranted, n: int, reply: Reply, others: bool
    ) -> AttemptResult:
        """One attempt under its hold. `others`: another attempt could still answer. Never raises for what an
        upstream or a caller does; the result carries the end to be booked."""
        progress = Progress(hold)
        if planned.funding is Funding.CREDITS:
            progress.journal_at = self._clock.monotonic() + JOURNAL_EVERY_S
        answer = _Answer()
        started_ms = log.elapsed_ms(self._clock.monotonic())
        failure: Failure | None = None
        unopenable = stopped = False
        bug: Exception | None = None
        reply.cancel_on_gone = planned.provider.stops_billing(planned.native_model)
        try:
            try:
                failure = await self._exchange(log, planned, hold, progress, answer, reply, others)
            except UpstreamError as error:
                progress.sent = error.sent
                failure = failure_of(error)
            except Unopenable:
                unopenable = True
                failure = Failure(FailureClass.AUTH, "the saved key cannot be opened", unbilled=True)
            except Exception as error:  # noqa: BLE001 - a bug of ours still ends its hold; it is logged above
                bug = error
                failure = Failure(FailureClass.BAD_OUTPUT, "internal error")
        except asyncio.CancelledError:
            take_cancellation()
            stopped = not reply.gone
            if stopped:
                failure = Failure(FailureClass.NETWORK, "this server is stopping")
        finally:
            reply.cancel_on_gone = True
        gone = reply.gone
        outcome = self._outcome(planned, hold, progress, failure, gone)
        record = self._record(log, planned, hold, n, progress, failure, outcome, started_ms, gone)
        delivered = progress.committed or (failure is None and not gone)
        end = AttemptEnd(
            hold.hold_id, log.request.workspace.id, outcome.state, outcome.basis, outcome.cost_nusd,
            outcome.delivered_cost_nusd if delivered else 0, outcome.maybe_billed,
            progress.seen.content_bytes if delivered else 0, self._clock.now_ms(),
        )
        return AttemptResult(
            record, end, failure, progress.seen, gone=gone, stopped=stopped, committed=progress.committed,
            unopenable=unopenable, bug=bug, first_content_ms=progress.first_content_ms, body=answer.body,
            tail=answer.tail,
        )

    async def deliver(self, log: CallLog, planned: Planned, result: AttemptResult, reply: Reply) -> None:
        """The last bytes of an answer whose end is booked; all of them, where it was gathered or is no stream."""
        if not result.committed:
            await start_answer(log, planned, reply)
        await reply.finish(result.tail or result.body)

    # --- the exchange

    async def _exchange(
        self, log: CallLog, planned: Planned, hold: HoldGranted, progress: Progress, answer: _Answer, reply: Reply,
        others: bool,
    ) -> Failure | None:
        call = log.call
        assert call is not None
        body = self._body(log, planned, hold)
        try:
            secret = self._opener.open(planned.owner, planned.credential)
        except ValueError as error:
            raise Unopenable from error
        headers = {**self._product.attribution, **log.request.headers}
        request = planned.provider.request(
            self._origins[planned.provider.id], planned.codec, planned.native_model, body, call.stream, secret, headers
        )
        now = self._clock.monotonic()
        patience = self._limits.first_content_s if call.stream else self._limits.response_s
        if hides_reasoning(planned.slug):
            patience += self._limits.hidden_reasoning_s
        answer_by = min(log.deadline, now + patience) if others else log.deadline
        if answer_by <= now:
            return Failure(FailureClass.TIMEOUT, "the call's deadline has passed", unbilled=True)
        progress.sent = True
        response = await self._upstream.send(request, head_timeout_s=answer_by - now)
        try:
            progress.status = response.status
            progress.request_id = request_id(planned.provider, response.headers)
            if response.status != 200:
                text = await self._error_body(response, log)
                refused = planned.provider.decode_failure(response.status, response.headers, text)
                return explain_no_endpoints(refused, log, planned)
            if call.stream:
                failure = await self._stream(log, planned, response, progress, answer, reply, answer_by)
            else:
                failure = await self._whole(log, planned, response, progress, answer, answer_by)
            if failure is not None:
                response.discard()
            return failure
        finally:
            response.close()

    async def _error_body(self, response: UpstreamResponse, log: CallLog) -> bytes:
        """What an error says; nothing if it breaks off: its status alone says enough."""
        try:
            return await response.read_all(
                min(ERROR_BODY_S, max(0.1, log.deadline - self._clock.monotonic())), ERROR_LIMIT_BYTES
            )
        except UpstreamError:
            return b""

    def _body(self, log: CallLog, planned: Planned, hold: HoldGranted) -> bytes:
        call, plan = log.call, log.plan
        assert call is not None
        assert plan is not None
        if planned.mode == "translated":
            if plan.chat is not None and (hold.shrunk or planned.translated_body is None):
                return planned.codec.encode_chat(planned.native_model, plan.chat, hold.output_limit)
            assert planned.translated_body is not None
            return planned.translated_body
        asked = call.shape.output_limit
        limit = None
        if call.endpoint in ANSWERING and (asked is None or hold.output_limit < asked) and hold.output_limit > 0:
            limit = hold.output_limit
        return call.native_body(Edits(
            model=planned.native_model,
            output_limit=limit,
            include_usage=call.stream and call.endpoint == "chat",
            max_price=max_price(plan, planned, call.shape),
            require_parameters=self._product.strict_parameters and planned.provider.id == "openrouter",
            newer_limit=planned.provider.id == "openai" and hides_reasoning(planned.slug),
        ))

    async def _whole(
        self, log: CallLog, planned: Planned, response: UpstreamResponse, progress: Progress, answer: _Answer,
        answer_by: float,
    ) -> Failure | None:
        body = await response.read_all(max(0.1, answer_by - self._clock.monotonic()), self._limit_bytes)
        if planned.mode == "passthrough":
            progress.seen = planned.codec.observe_whole(body)
            answer.body = body
        else:
            progress.seen, events = planned.codec.decode_whole(body)
            if progress.seen.failure is None:
                answer.body = self._encoder(log).whole(events)
        seen = progress.seen
        progress.first_content_ms = log.elapsed_ms(self._clock.monotonic())
        return seen.failure

    async def _stream(
        self, log: CallLog, planned: Planned, response: UpstreamResponse, progress: Progress, answer: _Answer,
        reply: Reply, first_by: float,
    ) -> Failure | None:
        kind = response.headers.get("content-type", "text/event-stream")
        if not kind.startswith("text/event-stream"):
            return await self._not_a_stream(planned, response, progress, kind)
        relay = self._relay(log, planned)
        progress.seen = relay.seen
        drain = _Drain(self)
        try:
            return await self._relay_all(log, planned, response, progress, answer, reply, first_by, relay, drain)
        finally:
            drain.end()

    async def _relay_all(
        self, log: CallLog, planned: Planned, response: UpstreamResponse, progress: Progress, answer: _Answer,
        reply: Reply, first_by: float, relay: Relay, drain: "_Drain",
    ) -> Failure | None:
        """Read to the end, holding everything back until the first content; None: a whole answer, or nobody is
        there to read it any more."""
        seen, pending = relay.seen, bytearray()
        patience = _Patience(self._limits, log.deadline, first_by, self._clock.monotonic())
        while True:
            now = self._clock.monotonic()
            if reply.gone and (reply.cancel_on_gone or not drain.begin(now + self._limits.drain_s)):
                await read_what_came(response, relay)
                return None
            try:
                chunk = await read_in_time(response, patience.until(seen, now, drain.until) - now)
            except UpstreamError as error:
                if seen.complete:
                    answer.tail = bytes(pending) + relay.eof()
                    return None
                if error.timeout:
                    await read_what_came(response, relay)
                    return timeout_failure(seen, log, self._clock.monotonic())
                raise
            before_bytes = seen.content_bytes
            pending += relay.feed(chunk) if chunk else relay.eof()
            progress.unread_bytes = 0 if seen.content_bytes != before_bytes else progress.unread_bytes + len(chunk)
            if seen.content and progress.first_content_ms is None:
                progress.first_content_ms = log.elapsed_ms(self._clock.monotonic())
            commits = (seen.content or seen.complete) and seen.failure is None and not log.gather
            if commits and not progress.committed and not reply.gone:
                progress.committed = True
                await start_answer(log, planned, reply)
            if seen.failure is None and (seen.ended or not chunk):
                if chunk:
                    await read_to_end(response)
                answer.tail = bytes(pending)
                return None
            if progress.committed and pending and not reply.gone:
                before = self._clock.monotonic()
                try:
                    await reply.write(bytes(pending))
                except asyncio.CancelledError:
                    await read_what_came(response, relay)
                    raise
                patience.extend(self._clock.monotonic() - before)
                pending.clear()
                if progress.journal_at is not None and now >= progress.journal_at:
                    progress.journal_at = now + JOURNAL_EVERY_S
                    await self._write_journal(log, planned, progress)
            if reply.gone:
                pending.clear()
            if seen.failure is not None:
                progress.unread = bool(chunk) and seen.failure.cls is FailureClass.NETWORK
                return seen.failure
            if log.gather and len(pending) > self._limits.whole_bytes:
                progress.unread = True
                return Failure(FailureClass.BAD_OUTPUT, "the answer is too large to be gathered first", status=200)
            if len(pending) > self._limit_bytes:
                progress.unread = True
                return Failure(FailureClass.NETWORK, "too much before the first content", status=200)

    async def _write_journal(self, log: CallLog, planned: Planned, progress: Progress) -> None:
        """Should this process die, credits pay for what was delivered until now, and for no more."""
        if_cut = self._outcome(planned, progress.hold, progress, Failure(FailureClass.NETWORK, ""), gone=False)
        with contextlib.suppress(StoreError):  # the delivery goes on; a journal that is behind charges less
            await self._journal.journal_delivery(
                log.request.workspace.id, progress.hold.hold_id, progress.seen.content_bytes,
                if_cut.delivered_cost_nusd,
            )

    async def _not_a_stream(
        self, planned: Planned, response: UpstreamResponse, progress: Progress, kind: str
    ) -> Failure:
        """A 200 that is no event stream: an error in JSON, or somebody's HTML page."""
        body = await response.read_all(ERROR_BODY_S, ERROR_LIMIT_BYTES)
        if planned.mode == "passthrough":
            seen = planned.codec.observe_whole(body)
        else:
            seen, _ = planned.codec.decode_whole(body)
        if seen.failure is not None:
            progress.seen = Seen(failure=seen.failure, usage=seen.usage)
            return seen.failure
        progress.seen = seen
        return Failure(FailureClass.OVERLOAD, f"200 {kind.split(';')[0]} where a stream was asked", status=200)

    def _relay(self, log: CallLog, planned: Planned) -> Relay:
        assert log.call is not None
        if planned.mode == "passthrough":
            return PassthroughRelay(planned.codec.passthrough(log.call))
        return TranslatedRelay(planned.codec.events(), self._encoder(log))

    def _encoder(self, log: CallLog) -> EventEncoder:
        assert log.call is not None
        return log.request.dialect.encoder(log.call, log.at_ms // 1000, log.id)

    # --- the end

    def _outcome(
        self, planned: Planned, hold: HoldGranted, progress: Progress, failure: Failure | None, gone: bool
    ) -> Outcome:
        seen = progress.seen
        if failure is None and gone and not seen.complete:
            failure = Failure(FailureClass.NETWORK, "the caller hung up")
        reported = seen.complete and not seen.unreported
        final = seen.usage is not None and (reported or not planned.codec.interim_usage)
        bills_on = not seen.complete and not planned.provider.stops_billing(planned.native_model)
        price = planned.price if seen.took_over is None else planned.price_of(seen.took_over)
        return decide_outcome(
            seen=seen, failure=failure, sent=progress.sent, final_usage=final, price=price,
            price_of=planned.price_of, terms=planned.terms, output_limit=hold.output_limit,
            unseen=bills_on or progress.unread or hides_reasoning(planned.slug), unread_bytes=progress.unread_bytes,
        )

    def _record(
        self, log: CallLog, planned: Planned, hold: HoldGranted, n: int, progress: Progress,
        failure: Failure | None, outcome: Outcome, started_ms: int, gone: bool,
    ) -> AttemptRecord:
        credential = planned.credential
        own = planned.owner.id == log.request.workspace.id
        return AttemptRecord(
            n=n, route=planned.route, provider=planned.provider.id, model=planned.native_model,
            credential_id=credential.id if own else "", credential_label=credential.label if own else "platform",
            credential_hint=credential.hint if own else "", hold_id=hold.hold_id,
            bound_nusd=None if planned.terms is None else hold.bound_nusd, state=outcome.state, basis=outcome.basis,
            cost_nusd=outcome.cost_nusd, usage=outcome.usage, status=progress.status,
            failure=None if failure is None else failure.cls.value,
            signal="the caller hung up" if gone and failure is None else "" if failure is None else failure.signal,
            message="" if failure is None else failure.message,
            request_id=progress.request_id or (progress.seen.response_id or "")[:200] or None,
            started_ms=started_ms, first_content_ms=progress.first_content_ms,
            ended_ms=log.elapsed_ms(self._clock.monotonic()), maybe_billed=outcome.maybe_billed,
            output_limit=hold.output_limit or None, shrunk=hold.shrunk, dropped=planned.dropped,
            response_id=(progress.seen.response_id or "")[:200] or None, credential_version=credential.version,
        )


class _Patience:
    """Until when the next bytes are waited for. What a slow caller takes is not the upstream's time."""

    def __init__(self, limits: RoutingLimits, deadline: float, first_by: float, now: float) -> None:
        self._limits = limits
        self._deadline = deadline
        self._first_by = first_by
        self._moved_at = now
        self._moved_bytes = 0
        self._complete_at: float | None = None

    def until(self, seen: Seen, now: float, drain_by: float | None) -> float:
        if seen.complete:
            if self._complete_at is None:
                self._complete_at = now
            return self._complete_at + self._limits.tail_s
        self._complete_at = None
        if seen.content_bytes != self._moved_bytes:
            self._moved_at, self._moved_bytes = now, seen.content_bytes
        until = min(self._deadline, self._moved_at + self._limits.stall_s) if seen.content else self._first_by
        return until if drain_by is None else min(until, drain_by)

    def extend(self, by_s: float) -> None:
        self._moved_at += by_s
        if self._complete_at is not None:
            self._complete_at += by_s


class _Drain:
    """Reading on after a hang-up, because this provider bills to the end anyway: bounded in time and number."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.until: float | None = None

    def begin(self, until: float) -> bool:
        """False: too many are being drained already."""
        if self.until is None:
            if self._runner.drains >= MAX_DRAINS:
                return False
            self._runner.drains += 1
            self.until = until
        return True

    def end(self) -> None:
        if self.until is not None:
            self._runner.drains -= 1


async def read_in_time(response: UpstreamResponse, left_s: float) -> bytes:
    """The next bytes; a time that is over is over, however fast the next bytes come."""
    if left_s <= 0:
        raise UpstreamError("no time left", sent=True, received=True, timeout=True)
    return await response.read_chunk(left_s)


async def read_what_came(response: UpstreamResponse, relay: Relay) -> None:
    """Before a stream is left: what has arrived is billed, so it is counted, though nobody will read it."""
    try:
        for _ in range(READS_BEFORE_LEAVING):
            chunk = await response.read_chunk(ARRIVED_S)
            if not chunk:
                return
            relay.feed(chunk)
    except UpstreamError:
        return


async def read_to_end(response: UpstreamResponse) -> None:
    """After the last event the body usually ends at once: then the connection can be used again."""
    try:
        for _ in range(READS_AFTER_END):
            if not await response.read_chunk(END_OF_BODY_S):
                return
    except UpstreamError:
        return


def max_price(plan: Plan, planned: Planned, shape: RequestShape) -> Mapping[str, str] | None:
    """OpenRouter's `provider.max_price` carries the bound's prices: dearer endpoints are refused there."""
    price = planned.price
    if not plan.at_stake or planned.provider.id != "openrouter" or price is None or price.free:
        return None
    limits = {}
    input_tokens = estimate_input_tokens(shape, planned.limits)
    for name, dimension in (("prompt", "input"), ("completion", "output")):
        rate = price.dearest(dimension, input_tokens)
        if rate is not None:
            limits[name] = format_usd(rate)
    return limits


def answer_headers(log: CallLog, planned: Planned, content_type: str) -> list[tuple[str, str]]:
    """The head of an answer. The receipt's id stands also where the dialect's SDKs look for a request's."""
    return [
        ("content-type", content_type), ("cache-control", "no-store"), (log.request.dialect.request_id_header, log.id),
        ("x-ownkey-receipt", log.id), ("x-ownkey-funding", planned.funding.value),
        ("x-ownkey-route", f"{planned.route.value}:{planned.provider.id}"),
    ]


def request_id(provider: Provider, headers: Mapping[str, str]) -> str | None:
    """The provider's id of the exchange, for its support desk."""
    name = provider.request_id_header
    return None if name is None else headers.get(name, "")[:200] or None


async def start_answer(log: CallLog, planned: Planned, reply: Reply) -> None:
    """The head of an answer, unless a silent stream's caller has got one already."""
    log.end_opening()
    if not log.begun:
        stream = log.call is not None and log.call.stream
        kind = "text/event-stream; charset=utf-8" if stream else "application/json"
        await reply.start(200, answer_headers(log, planned, kind))


def explain_no_endpoints(failure: Failure, log: CallLog, planned: Planned) -> Failure:
    """OpenRouter's "no endpoints" has three causes that only the request tells apart: the caller's own `provider`
    preferences, our price limit, or the customer's settings at OpenRouter (what the classifier assumes)."""
    call, plan = log.call, log.plan
    if failure.cls is not FailureClass.SCOPE or not failure.signal.endswith(NO_ENDPOINTS) or call is None:
        return failure
    if "provider" in call.router_fields:
        return replace(failure, cls=FailureClass.REQUEST, param="provider")
    if plan is not None and plan.at_stake and planned.price is not None and failure.signal.endswith(NO_ENDPOINTS[0]):
        return replace(
            failure, cls=FailureClass.MODEL_MISSING,
            message="OpenRouter has no endpoint for this model at the listed price or below, or its settings exclude "
            "all of them.",
        )
    return failure


def failure_of(error: UpstreamError) -> Failure:
    """A broken exchange as a failure; nothing was billed if nothing was sent."""
    cls = FailureClass.TIMEOUT if error.timeout else FailureClass.NETWORK
    return Failure(cls, error.signal, unbilled=not error.sent)


def timeout_failure(seen: Seen, log: CallLog, now: float) -> Failure:
    if now >= log.deadline:
        return Failure(FailureClass.TIMEOUT, "the call's deadline has passed")
    return Failure(FailureClass.TIMEOUT, "the stream stalled" if seen.content else "no first content in time")
