"""What the books are asked and what they answer: a hold before the first byte, an end after the last.

A hold is a durable row with one terminal state. Whatever happens to a call, exactly one of settle, release or
expire happens to each of its holds.
"""

from dataclasses import dataclass

from ownkey.domain.bounds import Terms
from ownkey.domain.product import CreditRules
from ownkey.domain.receipts import Basis, HoldState
from ownkey.domain.routing import Funding


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """Ask for room before an attempt.

    `terms` None: the model has no price and nothing is at stake (no cap, BYOK): the hold is a row with bound 0.
    `shrink`: a smaller output limit may be granted. `probe` is a Test's paid probe: while paused it is admitted by
    arithmetic alone. `context` is the call as JSON text, enough to write a receipt if this process dies; it is
    kept on the first attempt's row. `settings_version` is the workspace's as the decision saw it: a hold of funding
    credits is refused if Always use this key has been switched on since. `limit_credits` bounds the month's
    credits under "Use credits if my key fails" (None: no bound; only for such holds).
    """

    hold_id: str
    workspace_id: str
    call_id: str
    attempt: int
    funding: Funding
    terms: Terms | None
    price_version: int
    at_ms: int
    expires_at_ms: int
    timezone: str
    shrink: bool
    probe: bool = False
    context: str = ""
    credits: CreditRules | None = None
    key_failed: bool = False


@dataclass(frozen=True, slots=True)
class CapFigures:
    """The cap's row around a booking, in nano-USD."""

    period_key: str
    cap_nusd: int | None
    spent_nusd: int
    held_nusd: int
    resets_at_ms: int
    paused: bool


@dataclass(frozen=True, slots=True)
class HoldGranted:
    """`output_limit` is what may be sent upstream (lowered if `shrunk`)."""

    hold_id: str
    bound_nusd: int
    bound_credits: int
    output_limit: int
    shrunk: bool
    cap: CapFigures


@dataclass(frozen=True, slots=True)
class HoldRefused:
    """`code` is one of ai_paused, spend_cap_busy, spend_cap_too_low, unpriced_model, insufficient_credits,
    always_use_key_unavailable. `needed_nusd` is the smallest bound asked for; figures are read in the same
    database transaction."""

    code: str
    needed_nusd: int
    cap: CapFigures | None = None
    needed_credits: int = 0
    free_credits: int = 0


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended, to be booked once.

    `state` is SETTLED or RELEASED. `cost_nusd` is what the cap counts (None: unknown price, counted as 0 and said
    so); `delivered_cost_nusd` what credits are charged for: the cost of what the caller got, at most the hold.
    """

    hold_id: str
    workspace_id: str
    state: HoldState
    basis: Basis
    cost_nusd: int | None
    delivered_cost_nusd: int
    maybe_billed: bool
    delivered_bytes: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Booked:
    """What the end moved. `overage_nusd` > 0: the provider billed above the hold, which is alarmed."""

    cost_nusd: int
    charge_nusd: int
    charge_credits: int
    absorbed_nusd: int
    overage_nusd: int
    cap: CapFigures | None


@dataclass(frozen=True, slots=True)
class MoneyView:
    """The figures that the payer decision needs, as of now."""

    cap_paused: bool
    has_cap: bool
    balance_credits: int
    held_credits: int
    key_failure_used_credits: int
    cap: CapFigures | None
