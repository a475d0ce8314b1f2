"""What an attempt's end means for the books: which state, on which basis, how much for the cap, how much for credits.

Caps are told the high estimate and credits the low one: whatever is unknown never hides spend and never takes a
credit for something that was not delivered.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from ownkey.domain.bounds import Terms
from ownkey.domain.failures import Failure
from ownkey.domain.money import ceil_div
from ownkey.domain.pricing import ModelPrice, compute_cost_nusd
from ownkey.domain.receipts import Basis, HoldState
from ownkey.domain.usage import Usage
from ownkey.domain.wire import Seen

BYTES_PER_DELIVERED_TOKEN = 8

PriceOf = Callable[[str], ModelPrice | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`usage` is what the receipt shows: reported, or the high estimate where nothing was."""

    state: HoldState
    basis: Basis
    cost_nusd: int | None
    delivered_cost_nusd: int
    maybe_billed: bool
    usage: Usage | None


def nothing_billed() -> Outcome:
    """Nothing was written to the socket, or the provider is known not to bill this failure."""
    return Outcome(HoldState.RELEASED, Basis.NONE, 0, 0, maybe_billed=False, usage=None)


def decide_outcome(
    *,
    seen: Seen,
    failure: Failure | None,
    sent: bool,
    final_usage: bool,
    price: ModelPrice | None,
    terms: Terms | None,
    output_limit: int,
    unseen: bool = False,
    unread_bytes: int = 0,
    price_of: PriceOf | None = None,
) -> Outcome:
    """The end of one attempt, by the table of the money contract.

    `failure` None: it answered. `final_usage`: `seen.usage` is the provider's last word, not an interim report.
    `terms` None: the model has no price and nothing was at stake. `output_limit` is what was granted and sent.
    `price` is that of the model that answered, `price_of` finds those of others that worked on the same call.
    `unseen`: output may be billed that never came here (the provider goes on after a cut, or hides its reasoning).
    `unread_bytes` came after the last content that was read: an event may have been on its way.
    """
    if not sent or (failure is not None and failure.unbilled and not seen.content):
        return nothing_billed()
    if seen.usage is not None and final_usage:
        return _reported(seen, seen.usage, failure, price, price_of)
    if seen.content or (failure is None and seen.complete):
        return _estimated(seen, price, terms, output_limit, unseen, unread_bytes)
    if terms is None:
        return Outcome(HoldState.SETTLED, Basis.UNKNOWN, None, 0, maybe_billed=True, usage=None)
    bound = terms.bound_nusd(output_limit)
    return Outcome(HoldState.SETTLED, Basis.ESTIMATED, bound, 0, maybe_billed=True, usage=None)


def _reported(
    seen: Seen, usage: Usage, failure: Failure | None, price: ModelPrice | None, price_of: PriceOf | None
) -> Outcome:
    if usage.cost_nusd is not None:
        cost: int | None = usage.cost_nusd
        basis = Basis.ACTUAL
    else:
        cost = None if price is None else compute_cost_nusd(usage, price, price_of)
        basis = Basis.UNKNOWN if cost is None else Basis.COMPUTED
    delivered = cost or 0
    if failure is not None and not seen.content:
        delivered = 0
    return Outcome(HoldState.SETTLED, basis, cost, delivered, maybe_billed=False, usage=usage)


def _estimated(
    seen: Seen, price: ModelPrice | None, terms: Terms | None, output_limit: int, unseen: bool, unread_bytes: int
) -> Outcome:
    """Content came, but no final usage: high for the cap, low for credits, both at most the hold."""
    bytes_out = seen.content_bytes + unread_bytes
    last = seen.usage
    reported = last is not None and last.total_input > 0
    if last is not None and reported:
        high = replace(last, output=max(last.output, bytes_out - last.reasoning), cost_nusd=None)
        low = replace(last, output=last.output or _low_output(seen), cost_nusd=None)
    else:
        high = Usage(output=bytes_out)
        low = Usage(output=_low_output(seen))
    if terms is None or price is None:
        return Outcome(HoldState.SETTLED, Basis.UNKNOWN, None, 0, maybe_billed=True, usage=high)
    bound = terms.bound_nusd(output_limit)
    # The input part of the bound stands in for a report that never came: nothing can be missed.
    high_cost = bound if unseen else terms.bound_nusd(min(bytes_out, output_limit))
    if reported and not unseen:
        computed = compute_cost_nusd(high, price)
        numerator, denominator = terms.factor
        high_cost = bound if computed is None else ceil_div(computed * numerator, denominator)
    low_cost = compute_cost_nusd(low, price) or 0
    return Outcome(
        HoldState.SETTLED, Basis.ESTIMATED, min(high_cost, bound), min(low_cost, bound), maybe_billed=True, usage=high,
    )


def _low_output(seen: Seen) -> int:
    return ceil_div(seen.content_bytes, BYTES_PER_DELIVERED_TOKEN)
