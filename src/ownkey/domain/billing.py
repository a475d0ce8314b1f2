"""The add-on: what its payments entitle a workspace to, when its periods begin, and what is taken back with a refund.

Pure: facts go in (a Stripe subscription as fetched, an anniversary, a balance), a value comes out. Times are Unix
milliseconds in UTC.
"""

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal, assert_never

from ownkey.domain.workspace import EntitlementState, WorkspaceState

DAY_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PaymentsDown(Exception):
    """Stripe did not answer, or not sensibly: nothing is known, and it may be asked again."""


class PaymentsRefused(Exception):
    """Stripe understood and said no. `code` is its word, "" without one."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code


class EventRefused(Exception):
    """A webhook that is not Stripe's, not for us, or too old. `reason` names which, for the log and never in full."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Rail(StrEnum):
    """How an add-on is paid: by a card at Stripe, or with the workspace's own credits."""

    CARD = "card"
    CREDITS = "credits"


class AddonState(StrEnum):
    """What the payments themselves say. `PAST_DUE`: a renewal is owed. `LAPSED`: the grace for it is over, only a new
    purchase helps. `ENDED`: it was cancelled and its last paid period is over. `PENDING`: never paid."""

    PENDING = "pending"
    ACTIVE = "active"
    CANCELLING = "cancelling"
    PAST_DUE = "past_due"
    LAPSED = "lapsed"
    ENDED = "ended"


LIVE = frozenset({AddonState.ACTIVE, AddonState.CANCELLING, AddonState.PAST_DUE})
"""An add-on that renews, or still runs: no second one may be bought beside it."""


@dataclass(frozen=True, slots=True)
class Addon:
    """A workspace's add-on. `anchor_ms` is the start of its first period, from which anniversaries are counted.

    `paid_until_ms` ends what is paid, `grace_until_ms` the days after it in which a renewal may still come.
    `amount` is what a period costs: cents on the card rail, credits on the other. `subscription` and `customer` are
    Stripe's ids, "" on the credits rail; `over`: Stripe never brings that subscription back to life.
    """

    workspace_id: str
    rail: Rail
    state: AddonState
    anchor_ms: int
    paid_until_ms: int
    grace_until_ms: int
    amount: int
    grace_ms: int
    subscription: str = ""
    customer: str = ""
    over: bool = False


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What stands in the workspace's row, and `at_call` reads."""

    state: EntitlementState
    paid_until_ms: int | None = None
    grace_until_ms: int | None = None


def at_call(
    state: EntitlementState, paid_until_ms: int | None, grace_until_ms: int | None, now_ms: int
) -> EntitlementState:
    """The entitlement at one instant: whatever has ended by then has ended, whether or not any job has run.

    Without an end, a state lasts until somebody changes it.
    """
    match state:
        case EntitlementState.INCLUDED | EntitlementState.NONE | EntitlementState.INACTIVE:
            return state
        case EntitlementState.ACTIVE:
            if paid_until_ms is None or now_ms < paid_until_ms:
                return state
            in_grace = grace_until_ms is not None and now_ms < grace_until_ms
            return EntitlementState.GRACE if in_grace else EntitlementState.INACTIVE
        case EntitlementState.CANCELLING:
            return state if paid_until_ms is None or now_ms < paid_until_ms else EntitlementState.NONE
        case EntitlementState.GRACE:
            if grace_until_ms is None or now_ms < grace_until_ms:
                return state
            # Who has paid before is told to renew; who only left a plan was never subscribed.
            return EntitlementState.NONE if paid_until_ms is None else EntitlementState.INACTIVE
        case _:
            assert_never(state)


def entitlement_of(addon: Addon) -> Entitlement:
    """What an add-on entitles to, while the plan itself does not include it."""
    match addon.state:
        case AddonState.PENDING | AddonState.ENDED:
            return Entitlement(EntitlementState.NONE)
        case AddonState.ACTIVE:
            return Entitlement(EntitlementState.ACTIVE, addon.paid_until_ms, addon.grace_until_ms)
        case AddonState.CANCELLING:
            return Entitlement(EntitlementState.CANCELLING, addon.paid_until_ms)
        case AddonState.PAST_DUE:
            return Entitlement(EntitlementState.GRACE, addon.paid_until_ms, addon.grace_until_ms)
        case AddonState.LAPSED:
            return Entitlement(EntitlementState.INACTIVE, addon.paid_until_ms)
        case _:
            assert_never(addon.state)


def after_leaving_plan(addon: Addon | None, grace_ms: int, now_ms: int) -> Entitlement:
    """A plan that includes BYOK was left: what is paid goes on, else the days of grace begin."""
    if addon is not None and _at(entitlement_of(addon), now_ms) in _WORKING:
        return entitlement_of(addon)
    return Entitlement(EntitlementState.GRACE, None, now_ms + grace_ms)


def with_addon(present: Entitlement, by_operator: bool, addon: Addon, now_ms: int) -> Entitlement:
    """The entitlement of a workspace once its add-on has changed.

    A plan that includes BYOK is not touched. What an operator has set by hand, and the grace after leaving such a
    plan, give way to what is paid, and not to what is not.
    """
    found = entitlement_of(addon)
    if present.state is EntitlementState.INCLUDED:
        return present
    by_hand = by_operator or (present.state is EntitlementState.GRACE and present.paid_until_ms is None)
    if by_hand and _at(found, now_ms) not in _WORKING and _at(present, now_ms) in _WORKING:
        return present
    return found


def _at(found: Entitlement, now_ms: int) -> EntitlementState:
    return at_call(found.state, found.paid_until_ms, found.grace_until_ms, now_ms)


_WORKING = frozenset({EntitlementState.ACTIVE, EntitlementState.CANCELLING, EntitlementState.GRACE})


# --- periods


def anniversary(anchor_ms: int, months: int) -> int:
    """`months` after the anchor, at its time of day in UTC, on its day or the month's last one.

    Always counted from the original day: 31 January, 28 February, 31 March.
    """
    anchor = _EPOCH + timedelta(milliseconds=anchor_ms)
    years, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    day = min(anchor.day, monthrange(years, month + 1)[1])
    return (anchor.replace(year=years, month=month + 1, day=day) - _EPOCH) // timedelta(milliseconds=1)


def period_index(anchor_ms: int, at_ms: int) -> int:
    """The number of the period that contains `at_ms`: 0 is the first; -1 lies before it."""
    anchor, at = (_EPOCH + timedelta(milliseconds=ms) for ms in (anchor_ms, at_ms))
    months = (at.year - anchor.year) * 12 + at.month - anchor.month
    return months if anniversary(anchor_ms, months) <= at_ms else months - 1


# --- the credits rail


@dataclass(frozen=True, slots=True)
class CreditsRenewal:
    """What becomes of a due renewal: the add-on afterwards, and the start of the period that is charged now.

    `charge_start_ms` None: nothing is charged.
    """

    addon: Addon
    charge_start_ms: int | None


def start_with_credits(workspace_id: str, amount: int, grace_ms: int, now_ms: int) -> Addon:
    """The first period of an add-on that is paid with credits, or of one that had lapsed: it begins now."""
    paid_until = anniversary(now_ms, 1)
    return Addon(
        workspace_id, Rail.CREDITS, AddonState.ACTIVE, now_ms, paid_until, paid_until + grace_ms, amount, grace_ms
    )


def renew_with_credits(addon: Addon, free_credits: int, now_ms: int) -> CreditsRenewal:
    """Renew what is due at `now_ms`, with what no call holds. Nothing due: the same value comes back.

    While it can still be paid, the period that has begun is charged, once, and the anniversaries stay. Periods that
    passed whole while no process ran are not charged afterwards. What is short grows no debt.
    """
    if addon.state is AddonState.CANCELLING:
        over = now_ms >= addon.paid_until_ms
        return CreditsRenewal(replace(addon, state=AddonState.ENDED) if over else addon, None)
    if addon.state not in (AddonState.ACTIVE, AddonState.PAST_DUE) or now_ms < addon.paid_until_ms:
        return CreditsRenewal(addon, None)
    if addon.state is AddonState.PAST_DUE and now_ms >= addon.grace_until_ms:
        return CreditsRenewal(replace(addon, state=AddonState.LAPSED), None)
    index = period_index(addon.anchor_ms, now_ms)
    start = anniversary(addon.anchor_ms, index)
    if free_credits >= addon.amount:
        paid_until = anniversary(addon.anchor_ms, index + 1)
        paid = replace(
            addon, state=AddonState.ACTIVE, paid_until_ms=paid_until, grace_until_ms=paid_until + addon.grace_ms
        )
        return CreditsRenewal(paid, start)
    if now_ms >= start + addon.grace_ms:
        return CreditsRenewal(replace(addon, state=AddonState.LAPSED), None)
    owed = replace(addon, state=AddonState.PAST_DUE, paid_until_ms=start, grace_until_ms=start + addon.grace_ms)
    return CreditsRenewal(owed, None)


def cancel_with_credits(addon: Addon) -> Addon:
    """No renewal: it works to the end of what is paid. What is owed is not paid any more, and ends at once."""
    match addon.state:
        case AddonState.ACTIVE:
            return replace(addon, state=AddonState.CANCELLING)
        case AddonState.PAST_DUE:
            return replace(addon, state=AddonState.ENDED)
        case _:
            return addon


def keep_with_credits(addon: Addon, now_ms: int) -> Addon:
    """Undo a cancellation while its last period still runs."""
    if addon.state is AddonState.CANCELLING and now_ms < addon.paid_until_ms:
        return replace(addon, state=AddonState.ACTIVE)
    return addon


# --- the card rail


@dataclass(frozen=True, slots=True)
class SubscriptionFacts:
    """A Stripe subscription as fetched. `workspace_id`, `order_id` and `purpose` are our metadata on it, "" if absent.

    `status` is Stripe's word. `owed_since_ms` is when its newest invoice was finalised, None if unknown.
    `failed_payment`: it was ended because nobody paid. `amount_cents` is one period's price.
    """

    id: str
    customer: str
    workspace_id: str
    order_id: str
    purpose: str
    status: str
    created_ms: int
    period_start_ms: int
    period_end_ms: int
    cancel_at_ms: int | None
    cancel_at_period_end: bool
    ended_at_ms: int | None
    failed_payment: bool
    owed_since_ms: int | None
    amount_cents: int
    currency: str
    livemode: bool


def card_addon(facts: SubscriptionFacts, grace_ms: int) -> Addon:
    """The add-on as its subscription says; total over every status that Stripe has or may add."""
    state, paid_until, grace_until = _card_state(facts, grace_ms)
    return Addon(
        facts.workspace_id, Rail.CARD, state, facts.created_ms, paid_until, grace_until, facts.amount_cents, grace_ms,
        facts.id, facts.customer, is_over_at_stripe(facts.status),
    )


def _card_state(facts: SubscriptionFacts, grace_ms: int) -> tuple[AddonState, int, int]:
    end = facts.period_end_ms
    owed = facts.period_start_ms if facts.owed_since_ms is None else facts.owed_since_ms
    match facts.status:
        case "active" | "trialing":
            if facts.cancel_at_period_end or facts.cancel_at_ms is not None:
                end = end if facts.cancel_at_ms is None else min(end, facts.cancel_at_ms)
                return AddonState.CANCELLING, end, end
            return AddonState.ACTIVE, end, end + grace_ms
        case "past_due" | "unpaid":
            return AddonState.PAST_DUE, facts.period_start_ms, owed + grace_ms
        case "canceled" if facts.failed_payment:
            # Stripe has given up collecting; our own days of grace still run from the failure.
            return AddonState.PAST_DUE, facts.period_start_ms, owed + grace_ms
        case "canceled":
            over = end if facts.ended_at_ms is None else facts.ended_at_ms
            return AddonState.ENDED, over, over
        case "paused":
            return AddonState.LAPSED, facts.period_start_ms, facts.period_start_ms
        case _:
            # incomplete, incomplete_expired, and what is not known yet: nothing was paid, nothing is granted.
            return AddonState.PENDING, facts.period_start_ms, facts.period_start_ms


class Adoption(StrEnum):
    """What a fetched subscription means for the add-on that we know. `SECOND`: both would be paid for."""

    TAKE = "take"
    STALE = "stale"
    SECOND = "second"


def adopt(known: Addon | None, facts: SubscriptionFacts, now_ms: int) -> Adoption:
    """Whether the facts replace what is known, whatever the order in which events arrive.

    A first payment that failed changes nothing, a subscription that has ended never comes back, and of two the newer
    one counts, once the older one is over.
    """
    if not was_ever_paid(facts):
        return Adoption.STALE
    dead = is_over_at_stripe(facts.status)
    if known is None:
        return Adoption.TAKE
    if known.subscription == facts.id:
        return Adoption.STALE if known.over and not dead else Adoption.TAKE
    if not known.over and (known.rail is Rail.CARD or is_live(known, now_ms)):
        return Adoption.STALE if dead else Adoption.SECOND
    return Adoption.TAKE if facts.created_ms >= known.anchor_ms else Adoption.STALE


_PAID_ONCE = frozenset({"active", "trialing", "past_due", "unpaid", "canceled", "paused"})


def was_ever_paid(facts: SubscriptionFacts) -> bool:
    """False for a first payment that was not made, or not yet, and for a status that is not known."""
    return facts.status in _PAID_ONCE


def is_over_at_stripe(status: str) -> bool:
    """A subscription that Stripe never brings back to life."""
    return status in ("canceled", "incomplete_expired")


def is_live(addon: Addon, now_ms: int) -> bool:
    """Whether it renews or still works: a second one must not be bought."""
    return addon.state in LIVE and _at(entitlement_of(addon), now_ms) in _WORKING


def as_of(addon: Addon, now_ms: int) -> Addon:
    """The add-on once what has run out by `now_ms` is written down. A renewal that nobody has heard of yet is not
    given up here: Stripe is asked first."""
    if addon.state is AddonState.PAST_DUE and now_ms >= addon.grace_until_ms:
        return replace(addon, state=AddonState.LAPSED)
    if addon.state is AddonState.CANCELLING and now_ms >= addon.paid_until_ms:
        return replace(addon, state=AddonState.ENDED)
    return addon


# --- orders


Purpose = Literal["addon", "topup"]


class OrderState(StrEnum):
    """`NEW`: written, not yet at Stripe. `OPEN`: a checkout page exists. `PAID`: what was bought is there, be it the
    credits or the subscription; it never changes again."""

    NEW = "new"
    OPEN = "open"
    PAID = "paid"
    EXPIRED = "expired"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody was about to buy, written before Stripe heard of it. `credits` arrive with a top-up."""

    id: str
    workspace_id: str
    purpose: Purpose
    rail: Rail
    amount_cents: int
    currency: str
    credits: int
    state: OrderState
    return_url: str
    customer: str
    created_at_ms: int
    checkout: str = ""
    url: str = ""
    subscription: str = ""
    payment_intent: str = ""


@dataclass(frozen=True, slots=True)
class BillingBooks:
    """What is bought and what it entitles to, all of one moment. `orders` newest first; `workspace` None if deleted."""

    workspace: WorkspaceState | None
    addon: Addon | None
    balance_credits: int
    orders: tuple[Order, ...]


@dataclass(frozen=True, slots=True)
class CheckoutFacts:
    """A Checkout session as fetched; `order_id`, `workspace_id`, `purpose` are our metadata on it, "" if absent."""

    id: str
    order_id: str
    workspace_id: str
    purpose: str
    mode: str
    status: str
    payment_status: str
    amount_cents: int | None
    currency: str
    url: str
    customer: str
    subscription: str
    payment_intent: str
    expires_at_ms: int
    livemode: bool


@dataclass(frozen=True, slots=True)
class InvoiceFacts:
    """A Stripe invoice as fetched, with the payments that were made for it."""

    id: str
    subscription: str
    customer: str
    status: str
    amount_paid_cents: int
    currency: str
    period_start_ms: int
    created_ms: int
    payment_intents: tuple[str, ...]
    livemode: bool


@dataclass(frozen=True, slots=True)
class RefundFacts:
    """A refund as fetched. `status` is Stripe's word."""

    id: str
    payment_intent: str
    amount_cents: int
    currency: str
    status: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class DisputeFacts:
    """A dispute as fetched. `withdrawn_cents` is what it takes off the balance."""

    id: str
    payment_intent: str
    amount_cents: int
    currency: str
    status: str
    created_ms: int
    livemode: bool


@dataclass(frozen=True, slots=True)
class EventHint:
    """What a verified event says happened, and to which object: a hint, never the truth about it."""

    id: str
    type: str
    created_ms: int
    livemode: bool
    account: str
    object_type: str
    object_id: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """What Stripe says now about the objects that an event touches. `failed_checkout`: its delayed payment failed."""

    checkout: CheckoutFacts | None = None
    subscription: SubscriptionFacts | None = None
    invoice: InvoiceFacts | None = None
    refunds: tuple[RefundFacts, ...] = ()
    dispute: DisputeFacts | None = None
    failed_checkout: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of an event. `workspace_id` "" : of no workspace that we know."""

    state: Literal["processed", "ignored", "quarantined", "failed", "duplicate"]
    reason: str = ""
    workspace_id: str = ""


def order_mismatch(order: Order, facts: CheckoutFacts) -> str:
    """Why a session is not what was ordered, in words; "" where everything agrees."""
    expected: dict[str, tuple[object, object]] = {
        "workspace": (order.workspace_id, facts.workspace_id), "order": (order.id, facts.order_id),
        "purpose": (order.purpose, facts.purpose), "currency": (order.currency, facts.currency),
        "amount in cents": (order.amount_cents, facts.amount_cents),
        "mode": ("subscription" if order.purpose == "addon" else "payment", facts.mode),
        "rail": (Rail.CARD, order.rail),
    }
    if order.checkout:
        expected["checkout"] = (order.checkout, facts.id)
    return _differences(expected)


def subscription_mismatch(order: Order, facts: SubscriptionFacts) -> str:
    """Why a subscription is not what was ordered; "" where everything agrees."""
    expected: dict[str, tuple[object, object]] = {
        "workspace": (order.workspace_id, facts.workspace_id), "order": (order.id, facts.order_id),
        "purpose": (order.purpose, facts.purpose or order.purpose), "currency": (order.currency, facts.currency),
        "amount in cents": (order.amount_cents, facts.amount_cents), "rail": (Rail.CARD, order.rail),
    }
    if order.purpose != "addon":
        expected["purpose"] = ("addon", order.purpose)
    if order.subscription:
        expected["subscription"] = (order.subscription, facts.id)
    return _differences(expected)


def _differences(expected: Mapping[str, tuple[object, object]]) -> str:
    return "; ".join(
        f"{name}: ordered {wanted}, found {'nothing' if got in ('', None) else got}"
        for name, (wanted, got) in expected.items() if wanted != got
    )


def refunded_credits(credits: int, amount_cents: int, taken_cents: int) -> int:
    """The credits that leave with a refund or a dispute of `taken_cents` of a top-up: their share, rounded down.

    It depends on nothing else that became of the payment, so every order of events takes the same.
    """
    return credits * taken_cents // amount_cents


def dispute_outcome(status: str) -> Literal["open", "won", "lost", "warning"]:
    """What a dispute's status means for the money. An early warning (an inquiry) moves none."""
    match status:
        case "won" | "prevented":
            return "won"
        case "lost":
            return "lost"
        case "warning_needs_response" | "warning_under_review" | "warning_closed":
            return "warning"
        case _:
            return "open"


# --- credits that a plan brings each cycle


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """What arriving at a plan means, as the configuration says. `rollover`: unused cycle credits stay."""

    name: str
    included: bool
    grace_ms: int
    cycle_credits: int
    rollover: bool


@dataclass(frozen=True, slots=True)
class CycleGrant:
    """Credits of one cycle: due at `starts_at_ms`; `expires_at_ms` None where they roll over."""

    starts_at_ms: int
    credits: int
    expires_at_ms: int | None


MOST_CYCLES_AT_ONCE = 36


def due_cycles(
    anchor_ms: int, next_index: int, granted_credits: int, terms: PlanTerms, now_ms: int
) -> tuple[tuple[CycleGrant, ...], int, int]:
    """The grants that are due, the next cycle's index, and what the present cycle has had by then.

    `granted_credits` is what the cycle before `next_index` has had: a dearer plan in mid-cycle brings the difference,
    going back and forth brings nothing twice. Cycles that passed while no process ran are made up for where credits
    roll over, and skipped where they would have expired.
    """
    now_index = period_index(anchor_ms, now_ms)
    grants = []
    if next_index == now_index + 1 and terms.cycle_credits > granted_credits:
        grants.append(_cycle(anchor_ms, now_index, terms.cycle_credits - granted_credits, terms.rollover))
        granted_credits = terms.cycle_credits
    first = max(next_index, now_index - MOST_CYCLES_AT_ONCE + 1) if terms.rollover else max(next_index, now_index)
    for index in range(first, now_index + 1):
        grants.append(_cycle(anchor_ms, index, terms.cycle_credits, terms.rollover))
        granted_credits = terms.cycle_credits
    return tuple(g for g in grants if g.credits > 0), max(next_index, now_index + 1), granted_credits


def _cycle(anchor_ms: int, index: int, credits: int, rollover: bool) -> CycleGrant:
    expires = None if rollover else anniversary(anchor_ms, index + 1)
    return CycleGrant(anniversary(anchor_ms, index), credits, expires)
