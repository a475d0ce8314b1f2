"""One AI call, from admission to receipt: hold before the first byte, settle on every exit.

`complete` is the story: admit, try, and on every path end what was begun. What follows a failure is decided by
`domain.routing`, what an end costs by `outcome`; here things are only done in order.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ownkey.domain.booking import AttemptEnd, HoldGranted, HoldRefused, HoldRequest
from ownkey.domain.errors import StoreError
from ownkey.domain.failures import Failure, FailureClass, find_reset_ms
from ownkey.domain.product import Payers, Product
from ownkey.domain.receipts import Basis, HoldState, Skip
from ownkey.domain.refusals import Code, Refusal, Refused
from ownkey.domain.routing import After, Mark, Route, Step, code_for, decide_after
from ownkey.domain.wire import BadRequest, ErrorFields
from ownkey.domain.workspace import Health
from ownkey.gateway import words
from ownkey.gateway.attempt import AttemptResult, Runner, take_cancellation
from ownkey.gateway.calls import CallLog, CallRequest
from ownkey.gateway.circuits import Circuits
from ownkey.gateway.codecs import Provider
from ownkey.gateway.context import encode_context
from ownkey.gateway.opening import Opening
from ownkey.gateway.plan import Plan, PlanInputs, Planned, check_feature, find_task, make_plan
from ownkey.gateway.ports import Books, Clock, Directory, HealthLog, PriceRefresh, Prices, Reply

HOLD_GRACE_MS = 60_000
OVERLOAD_RETRY_S = 0.25
RETRY_JITTER = 0.1
PRICE_REFRESH_S = 3.0

logger = logging.getLogger("ownkey")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class House:
    """The collaborators of a call, put together once by bootstrap. `statuses` is the doors' table."""

    product: Product
    providers: Mapping[str, Provider]
    directory: Directory
    books: Books
    prices: Prices
    health: HealthLog
    clock: Clock
    circuits: Circuits
    runner: Runner
    statuses: Mapping[Code, int]
    price_refresh: PriceRefresh | None = None


async def undisturbed(work: Coroutine[Any, Any, T]) -> T:
    """Finish `work` even if this task is cancelled meanwhile, and raise Disturbed then.

    Money that has begun to move is always brought to an end; a hang-up waits for it.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
            take_cancellation()
        except Exception:  # noqa: BLE001 - task.result() below raises it, after the bookkeeping here
            break
    if cancelled is not None and task.exception() is None:
        raise Disturbed(task.result()) from cancelled
    return task.result()


class Disturbed(Exception):
    """The work was finished, and the task was cancelled meanwhile. Carries the result."""

    def __init__(self, result: object) -> None:
        super().__init__()
        self.result = result


class Interrupted(Exception):
    """The caller hung up, or this process is stopping: nothing more is sent for this call."""


class Gateway:
    """The use case. One instance serves every call of the process."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def complete(self, request: CallRequest, reply: Reply) -> None:
        """Answer one call. Whatever happens, its holds end, and it leaves a receipt.

        Raises StoreError where the books cannot be written and the caller has heard nothing yet.
        """
        log = self._open_log(request)
        try:
            await self._answer(log, reply)
        except StoreError:
            log.end_opening()
            if not log.begun:
                raise
            await reply.finish(self._stream_error(log, words.books_closed()))
        finally:
            log.end_opening()

    async def _answer(self, log: CallLog, reply: Reply) -> None:
        try:
            await self.admit(log)
            self._open(log, reply)
            await self._try_in_turn(log, reply)
        except Refused as refused:
            await self._refuse(log, refused.refusal, reply)
        except StoreError:
            raise
        except (Interrupted, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError):
                take_cancellation()
            if not log.booked:
                await self._refuse(log, words.interrupted(reply.gone), reply)
        except Exception:
            logger.exception("unexpected error in call %s", log.id)
            if not log.booked:
                await self._refuse(log, words.internal(log.id), reply)

    def _open(self, log: CallLog, reply: Reply) -> None:
        """From now on a silent stream's caller is kept waiting with comments."""
        assert log.call is not None
        if log.call.stream:
            routing = self._house.product.routing
            waited_s = self._house.clock.monotonic() - log.started
            log.opening = Opening(
                reply, opening_headers(log), log.request.dialect.keepalive, routing.keepalive_after_s - waited_s,
                routing.keepalive_every_s,
            )

    async def refuse(self, request: CallRequest, refusal: Refusal, reply: Reply) -> None:
        """A call whose body the door could not read: refused with a receipt, like any other."""
        await self._refuse(self._open_log(request), refusal, reply)

    def _open_log(self, request: CallRequest) -> CallLog:
        clock = self._house.clock
        now = clock.monotonic()
        return CallLog(
            id=clock.new_id("call"), request=request, at_ms=clock.now_ms(), started=now,
            deadline=now + self._house.product.routing.deadline_s,
        )

    async def admit(self, log: CallLog, unusable: frozenset[str] = frozenset(), on_trial: str = "") -> Plan:
        """Gates 1 to 5: rights, task, entitlement and payer. Sets `log.plan`. Raises Refused. `unusable`: credentials
        that cannot be opened; `on_trial`: the one that this call is trying already."""
        house, request = self._house, log.request
        workspace = request.workspace
        if log.call is None:
            try:
                log.call = request.dialect.decode(request.endpoint, request.body)
            except BadRequest as error:
                raise Refused(Refusal(
                    Code.BAD_REQUEST, str(error), "Correct the request body.", param=error.param,
                )) from error
        call = log.call
        task = find_task(house.product, request.task, call.model)
        log.task = None if task is None else task.name
        log.gather = call.stream and (request.stream or ("live" if task is None else task.stream)) == "whole"
        check_rights(request, None if task is None else task.name)
        check_feature(workspace, task)
        if task is not None and task.deadline_s is not None:
            log.deadline = log.started + min(house.product.routing.deadline_s, float(task.deadline_s))
        platform = None
        if house.product.payers is Payers.WITH_CREDITS:
            platform = await house.directory.load_platform()
        money = await house.books.load_money(workspace.id, log.at_ms)
        log.cap_before = money.cap
        inputs = PlanInputs(
            product=house.product, providers=house.providers, workspace=workspace, platform=platform, money=money,
            prices=house.prices.current(), dialect=request.dialect.name, call=call, task=task,
            now=house.clock.monotonic(), now_ms=log.at_ms, unusable=unusable,
            on_trial=on_trial, is_flagged=house.prices.is_flagged,
        )
        plan = log.plan = make_plan(inputs, house.circuits)
        if plan.refusal is not None:
            raise Refused(plan.refusal)
        if plan.decision.incident:
            log.notes.append("the saved key cannot be opened; credits paid instead")
        return plan

    async def _try_in_turn(self, log: CallLog, reply: Reply) -> None:
        """The one attempt loop. Returns when the caller has its answer; raises Refused if nothing answers."""
        house, plan = self._house, log.plan
        assert plan is not None
        index, tries, tries_here, unusable = 0, 0, 0, frozenset[str]()
        while True:
            planned = plan.attempts[index]
            tries, tries_here = tries + 1, tries_here + 1
            hold = await self._hold(log, plan, planned, tries)
            house.circuits.begin(
                planned.circuit, planned.provider.id, planned.trial, house.clock.monotonic()
            )
            result = await house.runner.run(log, planned, hold, tries, reply, self._others_remain(plan, index, tries))
            log.take(planned, result)
            if result.bug is not None:
                logger.error("unexpected error in call %s", log.id, exc_info=result.bug)
                await self._refuse(log, words.internal(log.id), reply)
                return
            if result.stopped:
                raise Interrupted
            if result.unopenable:
                await self._end_attempt(log)
                unusable |= {planned.credential.id}
                house.health.mark_undecryptable(planned.credential, house.clock.now_ms())
                plan = await self.admit(log, unusable)
                behind = find_behind(plan, planned)
                if behind is None:
                    assert result.failure is not None
                    raise Refused(words.key_failed(log.attempts, plan.unhealthy) or words.all_failed(
                        Code.CREDENTIAL_REJECTED, result.failure, planned.route, log.attempts, None
                    ))
                index, tries_here = behind, 0
                continue
            if result.failure is None or result.gone:
                self._remember_success(planned, result)
                await self._finish(log, planned, result, reply)
                return
            if tries < house.product.routing.max_attempts and await self._refresh_price(log, plan, planned, result):
                await self._end_attempt(log)
                plan = await self.admit(log, unusable, planned.credential.id)
                again = find_again(plan, planned)
                if again is None:
                    await self._give_up(log, planned, result, After(Step.STOP, code_for(result.failure.cls)), reply)
                    return
                index, tries_here = again, 0
                continue
            failure = self._judge_rejection(planned, result.failure)
            log.attempts[-1] = replace(log.attempts[-1], failure=failure.cls.value)
            routing = house.product.routing
            retries = routing.direct_retries if planned.route is Route.DIRECT else routing.last_route_retries
            after = decide_after(
                failure, planned.route, answer_started=result.committed, retried=tries_here > retries,
                fail_on_direct_auth=log.request.workspace.on_direct_auth_failure == "fail",
                credits_on_key_failure=plan.decision.credits_on_key_failure,
            )
            self._remember_failure(log, planned, failure, after)
            following, wait_s = self._next(log, plan, index, after, failure, tries)
            if following is None:
                await self._give_up(log, planned, result, after, reply)
                return
            await self._end_attempt(log)
            if wait_s:
                await asyncio.sleep(wait_s)
            if following != index:
                index, tries_here = following, 0

    # --- holds

    async def _hold(self, log: CallLog, plan: Plan, planned: Planned, n: int) -> HoldGranted:
        """Gate 6. Waits a little while only other calls' holds stand in the way. Raises Refused."""
        house = self._house
        product = house.product
        request = HoldRequest(
            hold_id=house.clock.new_id("hold"), workspace_id=log.request.workspace.id, call_id=log.id, attempt=n,
            funding=planned.funding, terms=planned.terms, price_version=plan.price_version,
            at_ms=house.clock.now_ms(),
            expires_at_ms=log.at_ms + int((log.deadline - log.started) * 1000) + HOLD_GRACE_MS,
            timezone=log.request.workspace.timezone, shrink=product.shrink_to_fit,
            context=encode_context(log) if n == 1 else "",
            credits=product.credits if planned.route is Route.CREDITS else None,
            key_failed=planned.route is Route.CREDITS and plan.decision.credits_on_key_failure,
        )
        wait_until = min(log.deadline, house.clock.monotonic() + product.busy_wait_s)
        while True:
            answer = await self._hold_once(request, log)
            if isinstance(answer, HoldGranted):
                log.cap_before = log.cap_before if n > 1 else answer.cap
                return answer
            left_s = wait_until - house.clock.monotonic()
            if answer.code != Code.SPEND_CAP_BUSY or left_s <= 0:
                raise self.hold_refused(log, plan, planned, answer)
            await house.books.wait_for_room(request.workspace_id, left_s)

    async def _hold_once(self, request: HoldRequest, log: CallLog) -> HoldGranted | HoldRefused:
        """A granted hold is due from here on: whole, until its attempt knows better. One whose caller hung up while
        it was written is given back."""
        try:
            answer = await undisturbed(self._house.books.hold(request))
        except Disturbed as disturbed:
            if isinstance(disturbed.result, HoldGranted):
                log.due = release(request.hold_id, request.workspace_id, self._house.clock.now_ms())
            raise Interrupted from disturbed
        if isinstance(answer, HoldGranted):
            log.due = whole(request, answer)
        return answer

    def hold_refused(self, log: CallLog, plan: Plan, planned: Planned, answer: HoldRefused) -> Refused:
        """The hold's code; but credits that cannot step in for a failed key leave the key's own code standing."""
        refusal = words.hold_refused(answer, 1 + int(self._house.clock.chance() * 5))
        if answer.cap is not None:
            log.cap_before = answer.cap
        if planned.route is Route.CREDITS and plan.decision.credits_on_key_failure:
            log.skips.append(Skip(Route.CREDITS, planned.provider.id, planned.slug, str(refusal.message)))
            refusal = words.key_failed(log.attempts, plan.unhealthy) or refusal
        return Refused(words.with_attempts(refusal, log.attempts))

    # --- ends

    async def _finish(self, log: CallLog, planned: Planned, result: AttemptResult, reply: Reply) -> None:
        """The attempt answered, or the caller left: book it, write the receipt, then let the caller go."""
        log.serve(planned, result)
        log.status = 499 if result.gone and not result.seen.complete else 200
        log.finish_reason = result.seen.finish_reason
        await self._end_call(log, reply)
        await self._house.runner.deliver(log, planned, result, reply)

    async def _give_up(
        self, log: CallLog, planned: Planned, result: AttemptResult, after: After, reply: Reply
    ) -> None:
        """Nothing else can answer."""
        assert result.failure is not None
        retry_after_s = self._retry_after_s(log, result.failure) if after.code is Code.PROVIDER_UNAVAILABLE else None
        await self._refuse(
            log, words.all_failed(after.code, result.failure, planned.route, log.attempts, retry_after_s), reply
        )

    async def _refuse(self, log: CallLog, refusal: Refusal, reply: Reply) -> None:
        """The call's last word is no: book what is due, then say so in the caller's dialect, in the stream if it has
        begun."""
        log.refusal = refusal
        fields = self.error_fields(log, refusal)
        log.end_opening()
        log.status = 200 if log.begun else fields.status
        await self._end_call(log, reply)
        if log.begun:
            await reply.finish(self._stream_error(log, refusal))
            return
        headers = [
            ("content-type", "application/json"), (log.request.dialect.request_id_header, log.id),
            *receipt_headers(log),
        ]
        if fields.retry_after_s is not None:
            headers.append(("retry-after", str(fields.retry_after_s)))
        if fields.status == 502 or (log.attempts and log.attempts[-1].failure == "bad_output"):
            headers.append(("x-should-retry", "false"))
        await reply.start(fields.status, headers)
        await reply.finish(log.request.dialect.encode_error(fields))

    async def _end_attempt(self, log: CallLog) -> None:
        """Book an attempt that another will follow. Raises Interrupted if nobody waits for that one."""
        assert log.due is not None
        try:
            await undisturbed(self._house.books.end_attempt(log.due))
        except Disturbed as disturbed:
            log.due = None
            raise Interrupted from disturbed
        log.due = None

    async def _end_call(self, log: CallLog, reply: Reply) -> None:
        """Book what is due and the receipt, in one transaction. Once: what follows changes no figure."""
        house = self._house
        log.hung_up = log.hung_up or reply.gone
        with contextlib.suppress(Disturbed):
            await undisturbed(house.books.end_call(log.due, log.receipt(house.clock.monotonic())))
        log.due, log.booked = None, True

    # --- what follows

    def _others_remain(self, plan: Plan, index: int, tries: int) -> bool:
        """Whether a failure here could still be answered by another attempt."""
        if tries >= self._house.product.routing.max_attempts:
            return False
        here = plan.attempts[index]
        return any((a.route is Route.CREDITS) == (here.route is Route.CREDITS) for a in plan.attempts[index + 1:])

    def _next(
        self, log: CallLog, plan: Plan, index: int, after: After, failure: Failure, tries: int
    ) -> tuple[int | None, float]:
        """The next attempt's index and the wait before it; None: nothing is left, or there is no time for it."""
        now = self._house.clock.monotonic()
        limits = self._house.product.routing
        if after.step is Step.STOP or tries >= limits.max_attempts or now >= log.deadline:
            return None, 0.0
        here = plan.attempts[index]
        rest = range(index + 1, len(plan.attempts))
        same_payer = [i for i in rest if (plan.attempts[i].route is Route.CREDITS) == (here.route is Route.CREDITS)]
        step = after.step
        if step is Step.RETRY:
            wait_s = retry_wait_s(failure)
            jittered_s = wait_s * (1 + self._house.clock.chance() * RETRY_JITTER)
            direct = here.route is Route.DIRECT
            longest_s = limits.retry_wait_with_route_s if direct and same_payer else limits.retry_wait_max_s
            if wait_s <= longest_s and now + jittered_s < log.deadline:
                return index, jittered_s
            step = Step.NEXT_ROUTE if direct else Step.NEXT_MODEL
        return find_following(plan, index, step), 0.0

    def _retry_after_s(self, log: CallLog, failure: Failure) -> int | None:
        plan = log.plan
        if plan is None:
            return None
        keys = tuple(a.circuit for a in plan.attempts)
        wait = self._house.circuits.shortest_wait_s(keys, self._house.clock.monotonic())
        stated = None if failure.retry_after_ms is None else failure.retry_after_ms / 1000
        waits = [w for w in (wait, stated) if w is not None]
        return max(1, int(min(waits) + 0.999)) if waits else None

    async def _refresh_price(self, log: CallLog, plan: Plan, planned: Planned, result: AttemptResult) -> bool:
        """Our own price limit may be out of date where OpenRouter has no endpoint below it: look again, once."""
        failure, refresh = result.failure, self._house.price_refresh
        if failure is None or refresh is None or log.price_refreshed or not blames_price(failure, plan, planned):
            return False
        log.price_refreshed = True
        left_s = log.deadline - self._house.clock.monotonic()
        return left_s > 0 and await refresh.refresh(planned.slug, min(PRICE_REFRESH_S, left_s))

    def _judge_rejection(self, planned: Planned, failure: Failure) -> Failure:
        """A rejected key is marked. One that a free probe has just found good is rejected for this model only."""
        if failure.cls is not FailureClass.AUTH or self._house.health.mark(
            planned.credential, Health.REJECTED, failure.signal, self._house.clock.now_ms()
        ):
            return failure
        return replace(failure, cls=FailureClass.SCOPE)

    def _remember_success(self, planned: Planned, result: AttemptResult) -> None:
        """Only what the provider said tells that a route works: a caller who left before proves nothing."""
        if result.failure is None and (result.seen.content or result.seen.complete):
            self._house.circuits.record_success(planned.circuit, planned.provider.id, self._house.clock.monotonic())
            if planned.credential.health is not Health.OK:
                self._house.health.mark(planned.credential, Health.OK, "answered", self._house.clock.now_ms())

    def _remember_failure(self, log: CallLog, planned: Planned, failure: Failure, after: After) -> None:
        house = self._house
        now = house.clock.monotonic()
        if after.mark is Mark.REJECTED:  # A free probe finds out when it is good again; money may be back at once.
            house.circuits.note_trial(planned.circuit[1], now)
        match after.mark:
            case Mark.NO_FUNDS:
                house.health.mark(
                    planned.credential, Health.NO_FUNDS, failure.signal, house.clock.now_ms(),
                    resets_at_ms=find_reset_ms(failure, house.clock.now_ms()),
                )
            case Mark.MODEL_OFF:
                house.circuits.switch_model_off(planned.circuit, failure.signal, now)
            case Mark.CIRCUIT:
                house.circuits.record_failure(planned.circuit, planned.provider.id, failure, now)
            case Mark.NONE | Mark.REJECTED:
                pass
        if after.alert_operator:
            log.notes.append("the platform's own key failed")

    # --- words for the caller

    def error_fields(self, log: CallLog, refusal: Refusal) -> ErrorFields:
        status = refusal.status or self._house.statuses[refusal.code]
        return ErrorFields(
            status=status, code=refusal.code.value, message=str(refusal.message), fix=str(refusal.fix),
            fix_url=self._house.product.fix_url(refusal.flow or f"receipt:{log.id}"), receipt=log.id,
            param=refusal.param, retry_after_s=refusal.retry_after_s, resets_at=refusal.resets_at,
            details=refusal.details,
        )

    def _stream_error(self, log: CallLog, refusal: Refusal) -> bytes:
        return log.request.dialect.encode_stream_error(self.error_fields(log, refusal), log.call, log.seen)


def receipt_headers(log: CallLog) -> list[tuple[str, str]]:
    """The three headers on every answer: which receipt, who paid, over which route."""
    served = log.served
    if served is None:
        return [("x-ownkey-receipt", log.id), ("x-ownkey-funding", "none"), ("x-ownkey-route", "none")]
    return [
        ("x-ownkey-receipt", log.id), ("x-ownkey-funding", served.funding.value),
        ("x-ownkey-route", f"{served.route.value}:{served.provider.id}"),
    ]


def opening_headers(log: CallLog) -> list[tuple[str, str]]:
    """The head of a stream that nobody has answered yet: who will, and for whose money, is not known."""
    return [
        ("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-store"),
        (log.request.dialect.request_id_header, log.id), ("x-ownkey-receipt", log.id),
    ]


def blames_price(failure: Failure, plan: Plan, planned: Planned) -> bool:
    """Whether OpenRouter may know the model, but not below the price limit that we sent."""
    return (
        failure.cls is FailureClass.MODEL_MISSING and failure.signal.endswith("no_endpoints") and plan.at_stake
        and planned.provider.id == "openrouter"
    )


def find_following(plan: Plan, index: int, step: Step) -> int | None:
    """The place of the attempt that a step leads to from `index`; None: nothing follows."""
    here = plan.attempts[index]
    rest = range(index + 1, len(plan.attempts))
    same_payer = [i for i in rest if (plan.attempts[i].route is Route.CREDITS) == (here.route is Route.CREDITS)]
    match step:
        case Step.STOP:
            return None
        case Step.RETRY:
            return index
        case Step.NEXT_ROUTE if same_payer:
            return same_payer[0]
        case Step.NEXT_ROUTE if plan.unhealthy is None:
            return None
        case Step.NEXT_ROUTE | Step.CREDITS:
            # Behind a direct route stands the OpenRouter key; where that is known to fail, credits stand there.
            return next((i for i in rest if plan.attempts[i].route is Route.CREDITS), None)
        case Step.NEXT_MODEL:
            return next((i for i in same_payer if plan.attempts[i].model_index > here.model_index), None)


def find_again(plan: Plan, planned: Planned) -> int | None:
    """The place of the same route in a plan made anew; where it is gone, the same payer's next model; else None."""
    same_payer = [
        (i, a) for i, a in enumerate(plan.attempts) if (a.route is Route.CREDITS) == (planned.route is Route.CREDITS)
    ]
    same = (i for i, a in same_payer if a.route is planned.route and a.slug == planned.slug)
    later = (i for i, a in same_payer if a.model_index > planned.model_index)
    return next(same, next(later, None))


def find_behind(plan: Plan, planned: Planned) -> int | None:
    """The first attempt of a plan made anew that stands behind `planned`, whose key cannot be opened: what stood before
    it has failed. Credits stand there only where they pay anyway, or where the key before them is known to fail."""
    key_only = plan.decision.credits_on_key_failure and plan.unhealthy is None
    to_credits = planned.route is Route.CREDITS or not key_only
    behind = (i for i, a in enumerate(plan.attempts) if place(a) > place(planned))
    return next((i for i in behind if to_credits or plan.attempts[i].route is not Route.CREDITS), None)


def place(planned: Planned) -> tuple[bool, int, bool]:
    """Where an attempt stands in every plan: the customer's keys first, model by model, each direct first."""
    return planned.route is Route.CREDITS, planned.model_index, planned.route is not Route.DIRECT


def check_rights(request: CallRequest, task: str | None) -> None:
    """Gate 2. Raises Refused."""
    principal = request.principal
    why, fix = None, "Use a token with the right to do this."
    if "call" not in principal.scopes:
        why = "This token may not make AI calls."
    elif request.workspace.status != "active":
        why = "This workspace is suspended."
        fix = f"Ask the operator to lift it: ownkey workspace set {request.workspace.external_id} --status active."
    elif principal.tasks and (task is None or task not in principal.tasks):
        why = f"This token is limited to the tasks {', '.join(sorted(principal.tasks))}."
    elif principal.projects and (request.project is None or request.project not in principal.projects):
        why = f"This token is limited to the projects {', '.join(sorted(principal.projects))}."
    if why is not None:
        raise Refused(Refusal(Code.FORBIDDEN, why, fix))


def retry_wait_s(failure: Failure) -> float:
    """How long to wait before the same route's second try."""
    if failure.retry_after_ms is not None:
        return failure.retry_after_ms / 1000
    return OVERLOAD_RETRY_S if failure.cls == "overload" else 0.0


def release(hold_id: str, workspace_id: str, at_ms: int) -> AttemptEnd:
    """The end of a hold whose attempt never left the house."""
    return AttemptEnd(hold_id, workspace_id, HoldState.RELEASED, Basis.NONE, 0, 0, False, 0, at_ms)


def whole(request: HoldRequest, granted: HoldGranted) -> AttemptEnd:
    """The end of an attempt of which nothing is known but that it may have been sent."""
    return AttemptEnd(
        request.hold_id, request.workspace_id, HoldState.SETTLED, Basis.ESTIMATED,
        None if request.terms is None else granted.bound_nusd, 0, True, 0, request.at_ms,
    )
