"""One model's hosts on OpenRouter, and the price that lets the cheapest of them answer again.

A hold's prices travel with its request as `provider.max_price`; OpenRouter then refuses every dearer host. Where all
hosts have become dearer than the listed price, the price to hold is that of the cheapest host that works, and the
dearest of everything else on all hosts which that price admits: whichever of them answers, the hold covers it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ownkey.domain.pricing import DIMENSIONS, ModelPrice, Rate, rate_or_fallback


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One host's prices. `works`: OpenRouter says that it is up."""

    price: ModelPrice
    works: bool


def price_to_admit(current: ModelPrice, endpoints: Sequence[Endpoint]) -> ModelPrice | None:
    """The price that admits the cheapest working host; None if the current one admits a host that works already, or
    there is no host: then the price was not the reason."""
    working = [endpoint.price for endpoint in endpoints if endpoint.works]
    candidates = working or [endpoint.price for endpoint in endpoints]
    if not candidates or any(_admits(current, price) for price in candidates):
        return None
    cheapest = min(candidates, key=lambda price: (_total(price), _dearest(price, "input")))
    # A host that is down may be up again when the call comes.
    admitted = [endpoint.price for endpoint in endpoints if _admits(cheapest, endpoint.price)]
    return replace(
        current,
        rates={name: tiers for name in DIMENSIONS if (tiers := _dearest_tiers(name, admitted))},
        units={unit: max(p.units.get(unit, 0) for p in admitted) for p in admitted for unit in p.units},
        free=cheapest.free, service_tiers={}, source=cheapest.source,
        context_window=_largest([current.context_window, *(p.context_window for p in admitted)]),
    )


def _admits(limit: ModelPrice, price: ModelPrice) -> bool:
    """What OpenRouter compares: text in and text out, at their dearest."""
    return all(_dearest(price, name) <= _dearest(limit, name) for name in ("input", "output"))


def _dearest(price: ModelPrice, dimension: str) -> int:
    return price.dearest(dimension) or 0


def _total(price: ModelPrice) -> int:
    return _dearest(price, "input") + _dearest(price, "output")


def _dearest_tiers(dimension: str, prices: Sequence[ModelPrice]) -> tuple[Rate, ...]:
    """The highest of all hosts' rates at every input size; none if no host prices the dimension by itself."""
    starts = sorted({tier.min_input_tokens for price in prices for tier in price.rates.get(dimension, ())})
    if not starts:
        return ()
    # A host without a price of its own bills the dimension as a wider one, whose tiers count here too.
    starts = sorted({0, *starts, *(t.min_input_tokens for p in prices for tiers in p.rates.values() for t in tiers)})
    merged: list[Rate] = []
    for start in starts:
        rate = max(rate_or_fallback(price, dimension, start) or 0 for price in prices)
        if not merged or merged[-1].nusd_per_million != rate:
            merged.append(Rate(start, rate))
    return tuple(merged)


def _largest(sizes: Sequence[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return max(known) if known else None
