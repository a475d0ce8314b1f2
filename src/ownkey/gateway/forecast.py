"""What would become of an attempt: whether its hold would be granted now, and what each failure would lead to. Pure.

The hold itself decides in its own transaction; this reads the same figures by the same rules, and takes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ownkey.domain.booking import CapFigures, HoldRefused, MoneyView
from ownkey.domain.bounds import Terms
from ownkey.domain.caps import CapAnswer, answer_refusal
from ownkey.domain.failures import Failure, FailureClass
from ownkey.domain.ledger import fundable_nusd, hold_credits
from ownkey.domain.product import CreditRules, Product
from ownkey.domain.refusals import Code
from ownkey.domain.routing import Route, Step, decide_after
from ownkey.domain.workspace import WorkspaceState
from ownkey.gateway.complete import find_following
from ownkey.gateway.plan import Plan, Planned


@dataclass(frozen=True, slots=True)
class Room:
    """What a hold would take now. `output_limit` is what fits, 0 where the model has no limit or no price."""

    bound_nusd: int
    bound_credits: int
    output_limit: int
    shrunk: bool


def forecast_hold(planned: Planned, money: MoneyView, product: Product, key_limit: int | None) -> Room | HoldRefused:
    """`key_limit` is what "Use credits if my key fails" still allows, None for a hold that it does not bound."""
    terms = planned.terms
    if planned.route is Route.CREDITS:
        free = money.balance_credits - money.held_credits
        free = free if key_limit is None else min(free, key_limit)
        return _credits(terms, free, money.cap, product.credits, product.shrink_to_fit)
    if terms is None:
        return Room(0, 0, 0, False)
    return _cap(terms, money.cap, product.shrink_to_fit)


def _cap(terms: Terms, cap: CapFigures | None, shrink: bool) -> Room | HoldRefused:
    limit = terms.output_limit
    if cap is None or (cap.cap_nusd is None and not cap.paused):
        return Room(terms.bound_nusd(limit), 0, limit, False)
    left = -1 if cap.cap_nusd is None or cap.paused else cap.cap_nusd - cap.spent_nusd - cap.held_nusd
    if 0 <= terms.bound_nusd(limit) <= left:
        return Room(terms.bound_nusd(limit), 0, limit, False)
    fitting = terms.fit(left) if shrink and left >= 0 else None
    if fitting is not None:
        return Room(terms.bound_nusd(fitting), 0, fitting, fitting < limit)
    needed = terms.bound_nusd(terms.min_output if shrink else limit)
    match answer_refusal(cap.cap_nusd, cap.spent_nusd, cap.held_nusd, cap.paused, needed):
        case CapAnswer.PAUSED | CapAnswer.PAUSE_NOW:
            return HoldRefused(Code.AI_PAUSED, needed, cap)
        case CapAnswer.BUSY:
            return HoldRefused(Code.SPEND_CAP_BUSY, needed, cap)
        case CapAnswer.TOO_LOW:
            return HoldRefused(Code.SPEND_CAP_TOO_LOW, needed, cap)


def _credits(
    terms: Terms | None, free: int, cap: CapFigures | None, rules: CreditRules, shrink: bool
) -> Room | HoldRefused:
    if terms is None:
        return HoldRefused(Code.UNPRICED_MODEL, 0, cap)
    limit: int | None = terms.output_limit
    if hold_credits(terms.bound_nusd(terms.output_limit), rules) > free:
        limit = terms.fit(fundable_nusd(free, rules)) if shrink else None
    if limit is None:
        needed = terms.bound_nusd(terms.min_output if shrink else terms.output_limit)
        return HoldRefused(Code.INSUFFICIENT_CREDITS, needed, cap, hold_credits(needed, rules), max(0, free))
    bound = terms.bound_nusd(limit)
    return Room(bound, hold_credits(bound, rules), limit, limit < terms.output_limit)


def key_failure_left(plan: Plan, workspace: WorkspaceState, money: MoneyView) -> int | None:
    """What credits may still give for failing keys this month; None where that does not bound this plan's credits."""
    limit = workspace.credits_if_key_fails_limit
    if not plan.decision.credits_on_key_failure or limit is None:
        return None
    return max(0, limit - money.key_failure_used_credits)


@dataclass(frozen=True, slots=True)
class Consequence:
    """What these failures of an attempt lead to. `next_n` is the number of the attempt that follows, None: none, and
    the caller gets `code`. `again`: the same route is tried once more first."""

    failures: tuple[FailureClass, ...]
    again: bool
    next_n: int | None
    code: Code | None


def forecast_failures(plan: Plan, index: int, product: Product, *, fail_on_direct_auth: bool) -> Sequence[Consequence]:
    """Every class of failure before the answer has begun, those with the same consequence together."""
    found: dict[tuple[bool, int | None, Code | None], list[FailureClass]] = {}
    for cls in FailureClass:
        found.setdefault(_after(plan, index, product, cls, fail_on_direct_auth), []).append(cls)
    return [
        Consequence(tuple(failures), again, next_n, code) for (again, next_n, code), failures in found.items()
    ]


def _after(
    plan: Plan, index: int, product: Product, cls: FailureClass, fail_on_direct_auth: bool
) -> tuple[bool, int | None, Code | None]:
    planned, routing = plan.attempts[index], product.routing
    retries = routing.direct_retries if planned.route is Route.DIRECT else routing.last_route_retries
    again = False
    after = None
    for retried in (retries == 0, True):
        after = decide_after(
            Failure(cls, ""), planned.route, answer_started=False, retried=retried,
            fail_on_direct_auth=fail_on_direct_auth, credits_on_key_failure=plan.decision.credits_on_key_failure,
        )
        if after.step is not Step.RETRY:
            break
        again = True
    assert after is not None
    if index + 1 >= routing.max_attempts:
        return again, None, after.code
    following = find_following(plan, index, after.step)
    return (again, None, after.code) if following is None else (again, following + 1, None)


def tell_consequences(found: Sequence[Consequence]) -> list[Mapping[str, object]]:
    """As JSON values."""
    return [
        {"failures": [cls.value for cls in one.failures], "again": one.again, "next": one.next_n,
         "code": None if one.code is None else one.code.value}
        for one in found
    ]
