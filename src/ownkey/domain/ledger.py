"""Credits: a double-entry ledger in which nothing is ever changed, and the arithmetic of a charge.

A posting names both of its ends and a positive amount, so it cannot be unbalanced.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ownkey.domain.money import ceil_div
from ownkey.domain.product import CreditRules


@dataclass(frozen=True, slots=True)
class Posting:
    source: str
    destination: str
    amount_credits: int

    def __post_init__(self) -> None:
        if self.amount_credits <= 0 or self.source == self.destination:
            raise ValueError("a posting moves a positive amount between two accounts")


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """Postings that happen together, once: `idem_key` is unique for ever."""

    idem_key: str
    kind: str
    postings: tuple[Posting, ...]


@dataclass(frozen=True, slots=True)
class Lot:
    """One grant or purchase. `expires_at_ms` None: never expires."""

    id: str
    remaining_credits: int
    expires_at_ms: int | None
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class Charge:
    """What a managed call takes: `charge_nusd` is its price, `credits` the whole credits moved (may be 0),
    `carry_nusd` the paid-for rest of a credit that the next charge uses first."""

    charge_nusd: int
    credits: int
    carry_nusd: int


def price_of(cost_nusd: int, rules: CreditRules) -> int:
    """The managed price of a cost: with markup, rounded up once."""
    return ceil_div(cost_nusd * (10_000 + rules.markup_bps), 10_000)


def hold_credits(bound_nusd: int, rules: CreditRules) -> int:
    """Whole credits that cover the bound's managed price."""
    return ceil_div(price_of(bound_nusd, rules), rules.price_nusd)


def fundable_nusd(credits_free: int, rules: CreditRules) -> int:
    """The largest bound that `credits_free` whole credits can cover: the inverse of hold_credits, rounded down."""
    return max(0, credits_free) * rules.price_nusd * 10_000 // (10_000 + rules.markup_bps)


def plan_charge(cost_nusd: int, held_credits: int, carry_nusd: int, rules: CreditRules) -> tuple[Charge, int]:
    """The charge for a delivered cost, at most the hold, and what the platform absorbs (nano-USD)."""
    charge_nusd = price_of(cost_nusd, rules)
    need = max(0, charge_nusd - carry_nusd)
    credits = ceil_div(need, rules.price_nusd)
    absorbed = 0
    if credits > held_credits:
        payable = carry_nusd + held_credits * rules.price_nusd
        absorbed = charge_nusd - payable
        charge_nusd = payable
        credits = held_credits
    return Charge(charge_nusd, credits, carry_nusd + credits * rules.price_nusd - charge_nusd), absorbed


def plan_draw(lots: Sequence[Lot], amount_credits: int, destination: str) -> tuple[Posting, ...]:
    """Postings that take an amount from the lots: soonest expiry first, then oldest.

    Raises ValueError if the lots do not hold that much.
    """
    order = sorted(
        lots, key=lambda lot: (lot.expires_at_ms is None, lot.expires_at_ms or 0, lot.created_at_ms, lot.id)
    )
    postings = []
    for lot in order:
        take = min(lot.remaining_credits, amount_credits)
        if take > 0:
            postings.append(Posting(f"lot:{lot.id}", destination, take))
            amount_credits -= take
    if amount_credits > 0:
        raise ValueError("the lots hold fewer credits than the charge")
    return tuple(postings)


def debt_account(workspace_id: str) -> str:
    """What was taken back after it had been spent: the one account that may be below 0."""
    return f"debt:{workspace_id}"


def frozen_account(workspace_id: str) -> str:
    """What is under dispute."""
    return f"frozen:{workspace_id}"


def plan_take_back(
    lots: Sequence[Lot], own_lot: str | None, free_credits: int, amount_credits: int, debt: str, destination: str
) -> tuple[Posting, ...]:
    """Postings that take credits back from a workspace: out of the lot they came in, then the others, then debt.

    `free_credits` is what no call holds: what a call has reserved stays its own, the rest becomes debt.
    """
    own = [lot for lot in lots if lot.id == own_lot]
    others = [lot for lot in lots if lot.id != own_lot]
    left = amount_credits
    postings: list[Posting] = []
    for group in (own, others):
        here = min(left, max(0, free_credits), sum(lot.remaining_credits for lot in group))
        if here > 0:
            postings += plan_draw(group, here, destination)
            left -= here
            free_credits -= here
    if left > 0:
        postings.append(Posting(debt, destination, left))
    return tuple(postings)


def plan_give_back(taken: Sequence[Posting], debt_credits: int, new_lot: str) -> tuple[Posting, ...]:
    """The reverse of a `plan_take_back`: each lot gets its own back.

    What had become debt lifts what is left of the debt (`debt_credits`); where new credits have repaid it since, the
    rest arrives in `new_lot`.
    """
    postings = []
    for posting in reversed(taken):
        amount = posting.amount_credits
        if posting.source.startswith("debt:"):
            lifted = min(amount, debt_credits)
            if lifted > 0:
                postings.append(Posting(posting.destination, posting.source, lifted))
            if amount > lifted:
                postings.append(Posting(posting.destination, new_lot, amount - lifted))
        else:
            postings.append(Posting(posting.destination, posting.source, amount))
    return tuple(postings)
