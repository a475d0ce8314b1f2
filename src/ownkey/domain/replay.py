"""A month under other settings: who would have paid each call, and how much, as far as a receipt can tell.

Pure: a receipt goes in, sums grow. The payer is chosen by the payer decision itself and a cost is computed by the
pricing functions themselves; what no receipt can tell is counted and named, never made up.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final

from ownkey.domain.activity import model_slug
from ownkey.domain.caps import is_reached
from ownkey.domain.ledger import plan_charge
from ownkey.domain.models import native_id
from ownkey.domain.phrases import Phrase
from ownkey.domain.pricing import PriceBook, compute_cost_nusd
from ownkey.domain.product import CreditRules
from ownkey.domain.receipts import KEY_TEST, AttemptRecord, Receipt
from ownkey.domain.refusals import Code
from ownkey.domain.routing import PayerState, Route, decide

BPS: Final = 10_000
_ALL_CREDITS: Final = 2**40

CANNOT_KNOW: Final = (
    Phrase(
        "Calls that were refused then and would have run are counted, but nobody knows what they would have cost."
    ),
    Phrase(
        "A call that would have gone another way is priced with today's price list and the tokens that were reported "
        "then; the other way might have answered with other tokens."
    ),
    Phrase(
        "The way that is tried first is taken to answer, unless that call's receipt shows that it failed."
    ),
    Phrase(
        "Holds are not replayed: a call is refused once the cap is reached, not because too little is left under it."
    ),
    Phrase(
        "Keys, plan and switches that the replay does not change are taken as they are now, not as they were; the "
        "balance is taken to suffice."
    ),
)
"""What stands beside every result."""

_PAYER_CODES = frozenset({
    Code.OPENROUTER_KEY_REQUIRED, Code.ALWAYS_USE_KEY_UNAVAILABLE, Code.ADDON_REQUIRED, Code.ADDON_INACTIVE,
    Code.MINIMUM_BALANCE_REQUIRED, Code.INSUFFICIENT_CREDITS, Code.AI_PAUSED, Code.SPEND_CAP_TOO_LOW,
    Code.SPEND_CAP_BUSY,
})


@dataclass(frozen=True, slots=True)
class ReplayRules:
    """The settings to replay under. `payer` is the payer decision's input for a call with no direct key and no pause;
    `direct` the providers with a direct key, `embeddings` those whose vectors may come directly. `fee_bps` is
    OpenRouter's fee for buying credits; `credits` what a credit is worth and the markup."""

    payer: PayerState
    direct: frozenset[str]
    embeddings: frozenset[str]
    cap_nusd: int | None
    credits: CreditRules
    fee_bps: int
    model_ids: Mapping[str, Mapping[str, str]]


@dataclass(slots=True)
class ReplaySums:
    """`before` is what the receipts say, `after` what would have been; amounts are nano-USD paid with own keys, without
    fees. `fee_base_…` is what went through OpenRouter with an own key. `unknown` calls have no price on their new
    way, or no usage; `would_run` were refused then; `newly_refused` were answered then. `paused_at_ms`: the cap."""

    calls: int = 0
    tests: int = 0
    before_nusd: int = 0
    before_credits: int = 0
    before_refused: int = 0
    before_fee_base_nusd: int = 0
    after_nusd: int = 0
    after_credits: int = 0
    after_refused: int = 0
    after_fee_base_nusd: int = 0
    carry_nusd: int = 0
    moved: int = 0
    unknown: int = 0
    would_run: int = 0
    newly_refused: int = 0
    paused_at_ms: int | None = None
    routes: dict[str, int] = field(default_factory=dict)


def sums_of(data: Mapping[str, Any]) -> ReplaySums:
    """Sums from a checkpoint."""
    known = {f.name for f in fields(ReplaySums)}
    return ReplaySums(**{name: value for name, value in data.items() if name in known})


def replay_call(sums: ReplaySums, receipt: Receipt, rules: ReplayRules, prices: PriceBook) -> None:
    """Add one call, the calls of a month in the order of time. Tests of keys are counted and left out."""
    if receipt.task == KEY_TEST:
        sums.tests += 1
        return
    sums.calls += 1
    own, through = _own_nusd(receipt)
    sums.before_nusd += own
    sums.before_fee_base_nusd += through
    sums.before_credits += receipt.charge_credits
    refused_then = receipt.code is not None and not receipt.attempts
    sums.before_refused += refused_then
    if refused_then and receipt.code not in _PAYER_CODES:
        sums.after_refused += 1
        return
    slug = model_slug(receipt.served_model or receipt.requested_model)
    paused = is_reached(rules.cap_nusd, sums.after_nusd)
    decision = decide(replace(rules.payer, direct_usable=_direct(slug, receipt, rules) is not None, cap_paused=paused))
    if decision.refusal is not None:
        sums.after_refused += 1
        sums.newly_refused += not refused_then and receipt.code is None
        return
    if refused_then:
        sums.would_run += 1
        return
    _pay(sums, receipt, slug, decision.routes[0], rules, prices)
    if sums.paused_at_ms is None and is_reached(rules.cap_nusd, sums.after_nusd):
        sums.paused_at_ms = receipt.at_ms


def _pay(
    sums: ReplaySums, receipt: Receipt, slug: str, route: Route, rules: ReplayRules, prices: PriceBook
) -> None:
    answered = next((a for a in reversed(receipt.attempts) if a.failure is None), None)
    tried = {(a.route, a.provider) for a in receipt.attempts}
    place = (route, _direct(slug, receipt, rules) if route is Route.DIRECT else "openrouter")
    if answered is None or place in tried:
        # It went this way then, first or for a while, or nobody answered at all: as it was.
        _as_it_was(sums, receipt, rules)
        return
    sums.moved += 1
    cost = _cost_on(route, answered, slug, rules, prices)
    if cost is None:
        sums.unknown += 1
        return
    sums.routes[route.value] = sums.routes.get(route.value, 0) + 1
    if route is Route.CREDITS:
        _charge(sums, cost, rules)
        return
    sums.after_nusd += cost
    if route is Route.OPENROUTER:
        sums.after_fee_base_nusd += cost


def _as_it_was(sums: ReplaySums, receipt: Receipt, rules: ReplayRules) -> None:
    own, through = _own_nusd(receipt)
    sums.after_nusd += own
    sums.after_fee_base_nusd += through
    if receipt.cost_nusd is None:
        sums.unknown += 1
    if receipt.charge_nusd:
        cost = sum(a.cost_nusd or 0 for a in receipt.attempts if a.route is Route.CREDITS)
        _charge(sums, cost, rules)
    if receipt.attempts:
        route = receipt.attempts[-1].route.value
        sums.routes[route] = sums.routes.get(route, 0) + 1


def _charge(sums: ReplaySums, cost_nusd: int, rules: ReplayRules) -> None:
    charge, _ = plan_charge(cost_nusd, _ALL_CREDITS, sums.carry_nusd, rules.credits)
    sums.after_credits += charge.credits
    sums.carry_nusd = charge.carry_nusd


def _own_nusd(receipt: Receipt) -> tuple[int, int]:
    """(paid with own keys, the part of it that went through OpenRouter)."""
    direct = sum(a.cost_nusd or 0 for a in receipt.attempts if a.route is Route.DIRECT)
    through = sum(a.cost_nusd or 0 for a in receipt.attempts if a.route is Route.OPENROUTER)
    return direct + through, through


def _direct(slug: str, receipt: Receipt, rules: ReplayRules) -> str | None:
    """The provider that a direct key would call for this model; None: there is none."""
    native = native_id(slug, rules.model_ids)
    if native is None or native[0] not in rules.direct:
        return None
    return None if "embedding" in receipt.endpoint and native[0] not in rules.embeddings else native[0]


def _cost_on(
    route: Route, answered: AttemptRecord, slug: str, rules: ReplayRules, prices: PriceBook
) -> int | None:
    """What the same tokens cost on another way; through OpenRouter they cost the same whoever's key it is."""
    if answered.route is not Route.DIRECT and route is not Route.DIRECT:
        return answered.cost_nusd
    if answered.usage is None:
        return None
    native = native_id(slug, rules.model_ids) if route is Route.DIRECT else ("openrouter", slug)
    price = None if native is None else prices.find(*native)
    if price is None:
        return None
    return compute_cost_nusd(replace(answered.usage, cost_nusd=None), price)


def tell_result(sums: ReplaySums, rules: ReplayRules) -> dict[str, Any]:
    """The result as plain JSON: both sides, the difference, and what cannot be known."""
    return {
        **asdict(sums), "fee_bps": rules.fee_bps,
        "before_fee_nusd": sums.before_fee_base_nusd * rules.fee_bps // BPS,
        "after_fee_nusd": sums.after_fee_base_nusd * rules.fee_bps // BPS,
        "cannot_know": list(CANNOT_KNOW),
    }
