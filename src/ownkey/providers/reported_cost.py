"""What OpenRouter says it bills, in whole nano-dollars: the same rule under every wire format it answers in."""

from decimal import Decimal

from ownkey.domain.money import AmountError, parse_usd_nusd


def reported_cost_nusd(cost: Decimal | None, *, is_byok: bool, upstream: Decimal | None) -> int | None:
    """`cost`, and for a provider key kept inside OpenRouter what that provider bills (`upstream`), rounded up once.

    Without `is_byok`, upstream_inference_cost repeats the cost and is not added (OpenRouter docs, "Usage
    accounting"). None where either needed figure is missing: unknown, never 0.
    """
    if cost is not None and is_byok:
        if upstream is None:
            return None
        try:
            cost += upstream
        except ArithmeticError:  # A signalling NaN, or beyond any exponent.
            return None
    if cost is None:
        return None
    try:
        return parse_usd_nusd(cost)
    except AmountError:
        return None
