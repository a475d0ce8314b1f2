"""A dry run: what would happen to a call now, and why. Takes no hold; nothing is sent or stored."""

from collections.abc import Mapping, Sequence
from typing import Any

from ownkey.domain.ledger import hold_credits
from ownkey.domain.money import format_usd
from ownkey.domain.phrases import Phrase, together
from ownkey.domain.product import Product
from ownkey.domain.receipt_words import KEY_UNOPENABLE, explain_route, name_skip
from ownkey.domain.receipts import Skip, provider_name
from ownkey.domain.refusals import Refused
from ownkey.domain.routing import Route
from ownkey.gateway.calls import CallLog, CallRequest
from ownkey.gateway.complete import Gateway, House
from ownkey.gateway.forecast import (
    Room,
    forecast_failures,
    forecast_hold,
    key_failure_left,
    tell_consequences,
)
from ownkey.gateway.plan import Plan, Planned
from ownkey.gateway.words import cap_details


class Explainer:
    """Uses the gateway's own admission, so that it can never tell a different story."""

    def __init__(self, gateway: Gateway, house: House) -> None:
        self._gateway = gateway
        self._house = house

    async def explain(self, request: CallRequest) -> Mapping[str, Any]:
        """JSON values: would it be answered, by whom and for whose money, in which order, at most for how much."""
        house = self._house
        now = house.clock.monotonic()
        log = CallLog("explain", request, house.clock.now_ms(), now, now + house.product.routing.deadline_s)
        try:
            plan = await self._gateway.admit(log)
            room = self._room(log, plan)
        except Refused as refused:
            fields = self._gateway.error_fields(log, refused.refusal)
            skips = [*([] if log.plan is None else log.plan.skips), *log.skips]
            return {
                "would": "refuse", "sentence": _refused(fields.code, refused.refusal.message, skips),
                "row": None if log.plan is None else log.plan.decision.row,
                "status": fields.status, "code": fields.code, "message": refused.refusal.message,
                "fix": {"text": refused.refusal.fix, "url": fields.fix_url if refused.refusal.flow else None},
                "flow": refused.refusal.flow, "param": fields.param, "details": dict(fields.details),
                "skipped": [_skip(s) for s in skips],
            }
        fail_on_auth = request.workspace.on_direct_auth_failure == "fail"
        return _describe(plan, room, house.product, fail_on_auth)

    def _room(self, log: CallLog, plan: Plan) -> Room:
        """What the first attempt's hold would take. Raises Refused as the hold would."""
        first, money = plan.attempts[0], plan.money
        assert money is not None
        answer = forecast_hold(
            first, money, self._house.product, key_failure_left(plan, log.request.workspace, money)
        )
        if isinstance(answer, Room):
            return answer
        raise self._gateway.hold_refused(log, plan, first, answer)


def _refused(code: str, message: str, skips: Sequence[Skip]) -> str:
    left = list(dict.fromkeys(
        Phrase("{route} for {model}: {why}", route=name_skip(skip), model=skip.model, why=skip.why) for skip in skips
    ))
    not_used = Phrase("Not used: {reasons}.", reasons=together(*left, between="; ")) if left else ""
    return together(Phrase("Refused with {code}: {message}", code=code, message=message), not_used)


def _describe(plan: Plan, room: Room, product: Product, fail_on_auth: bool) -> Mapping[str, Any]:
    first, max_attempts = plan.attempts[0], product.routing.max_attempts
    notes = (KEY_UNOPENABLE,) if plan.decision.incident else ()
    because = explain_route(plan.decision.row, first.route, first.slug, plan.skips, notes=notes)
    return {
        "would": "answer",
        "row": plan.decision.row,
        "because": because,
        "sentence": _sentence(plan, first, because, max_attempts),
        "task": None if plan.task is None else plan.task.name,
        "funding": first.funding.value,
        "at_most_attempts": max_attempts,
        "hold": _hold(first, room),
        "attempts": [
            {**_attempt(n, planned, product), "after": tell_consequences(
                forecast_failures(plan, n - 1, product, fail_on_direct_auth=fail_on_auth)
            )} for n, planned in enumerate(plan.attempts, 1)
        ],
        "skipped": [_skip(s) for s in plan.skips],
        "cap": None if plan.money is None or plan.money.cap is None else cap_details(plan.money.cap),
    }


def _hold(first: Planned, room: Room) -> Mapping[str, Any]:
    """What the first attempt would reserve before a byte leaves."""
    return {
        "usd": None if first.terms is None else format_usd(room.bound_nusd),
        "credits": room.bound_credits if first.route is Route.CREDITS else None,
        "output_limit": room.output_limit or first.output_limit or None, "shrunk": room.shrunk,
    }


def _sentence(plan: Plan, first: Planned, because: str, max_attempts: int) -> str:
    payer = Phrase("credits") if first.route is Route.CREDITS else Phrase(
        "the workspace's own {provider} key {hint}", provider=provider_name(first.provider.id),
        hint=first.credential.hint,
    )
    others, more = min(len(plan.attempts), max_attempts) - 1, ""
    if others == 1:
        more = Phrase("; if it fails, one more attempt may follow")
    elif others > 1:
        more = Phrase("; if it fails, up to {count} more attempts may follow", count=others)
    return Phrase(
        "{provider} would be called with {model}, paid by {payer}, because {because}{more}.",
        provider=provider_name(first.provider.id), model=first.native_model, payer=payer, because=because, more=more,
    )


def _attempt(n: int, planned: Planned, product: Product) -> Mapping[str, Any]:
    terms = planned.terms
    own = planned.route is not Route.CREDITS
    return {
        "n": n, "route": planned.route.value, "provider": planned.provider.id, "model": planned.native_model,
        "key": planned.credential.hint if own else "platform", "funding": planned.funding.value,
        "format": planned.mode, "left_out": list(planned.dropped),
        "at_most_usd": None if terms is None else format_usd(terms.bound_nusd(terms.output_limit)),
        "at_most_credits": None if own or terms is None else hold_credits(
            terms.bound_nusd(terms.output_limit), product.credits
        ),
        "output_limit": planned.output_limit or None,
    }


def _skip(skip: Skip) -> Mapping[str, Any]:
    return {"route": skip.route.value, "provider": skip.provider, "model": skip.model, "why": skip.why}
