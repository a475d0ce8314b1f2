"""Versioned prices, and the cost of usage under them. Unknown is unknown, and never 0.

A price version is immutable: a hold names its version and is settled with it, whatever prices do meanwhile.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ownkey.domain.money import TOKENS_PER_MILLION, ceil_div
from ownkey.domain.usage import Usage

MAX_NUSD_PER_MILLION = 10_000 * 10**9

DIMENSIONS = (
    "input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning", "audio_input", "audio_output",
)


@dataclass(frozen=True, slots=True)
class Rate:
    """nano-USD per million tokens of one dimension, for inputs of at least `min_input_tokens`."""

    min_input_tokens: int
    nusd_per_million: int


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """Prices of one model on one provider.

    `rates` maps a dimension to its tiers, ascending by `min_input_tokens` (the first at 0). `units` are nano-USD
    per piece ("request", "web_search"). `context_window` and `max_output_tokens` are the model's, None if unknown.
    """

    provider: str
    model: str
    rates: Mapping[str, tuple[Rate, ...]]
    units: Mapping[str, int] = field(default_factory=dict)
    free: bool = False
    context_window: int | None = None
    max_output_tokens: int | None = None
    source: str = ""

    def rate(self, dimension: str, input_tokens: int) -> int | None:
        """nano-USD per million tokens at this input size; None where the dimension has no price of its own."""
        tiers = self.rates.get(dimension)
        if not tiers:
            return None
        price = tiers[0].nusd_per_million
        for tier in tiers[1:]:
            if input_tokens > tier.min_input_tokens:
                price = tier.nusd_per_million
        return price

    def dearest(self, dimension: str) -> int | None:
        """The highest tier of a dimension."""
        tiers = self.rates.get(dimension)
        return max(tier.nusd_per_million for tier in tiers) if tiers else None


# Where a provider states no price for a class, its tokens are billed as the class it is a part of.
_FALLBACK = {
    "cache_read": "input", "cache_write_5m": "input", "cache_write_1h": "cache_write_5m", "reasoning": "output",
    "audio_input": "input", "audio_output": "output",
}


def rate_or_fallback(price: ModelPrice, dimension: str, input_tokens: int) -> int | None:
    """The dimension's rate, else that of the class it is billed as, else None."""
    name: str | None = dimension
    while name is not None:
        rate = price.rate(name, input_tokens)
        if rate is not None:
            return rate
        name = _FALLBACK.get(name)
    return None


def compute_cost_nusd(usage: Usage, price: ModelPrice) -> int | None:
    """ceil(Σ tokens × price / 10^6) + units, rounded up once; None if a class that was used has no price."""
    if price.free:
        return 0
    total_input = usage.total_input
    total = 0
    for dimension, tokens in (
        ("input", usage.input), ("cache_read", usage.cache_read), ("cache_write_5m", usage.cache_write_5m),
        ("cache_write_1h", usage.cache_write_1h), ("output", usage.output), ("reasoning", usage.reasoning),
        ("audio_input", usage.audio_input), ("audio_output", usage.audio_output),
    ):
        if tokens:
            rate = rate_or_fallback(price, dimension, total_input)
            if rate is None:
                return None
            total += tokens * rate
    cost = ceil_div(total, TOKENS_PER_MILLION) + price.units.get("request", 0)
    for name, count in usage.units:
        unit = price.units.get(name)
        if unit is None:
            return None
        cost += count * unit
    return cost


@dataclass(frozen=True, slots=True)
class PriceBook:
    """One activated price version. Keys are (provider, native model id)."""

    version: int
    created_by: str
    prices: Mapping[tuple[str, str], ModelPrice]
    aliases: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def find(self, provider: str, model: str) -> ModelPrice | None:
        """The price of a model, also under a dated or alias id that the version lists."""
        found = self.prices.get((provider, model))
        if found is None:
            alias = self.aliases.get((provider, model))
            if alias is not None:
                found = self.prices.get((provider, alias))
        return found


def check_price(price: ModelPrice) -> str | None:
    """What is wrong with a price, as a sentence; None if it is sane."""
    for dimension, tiers in price.rates.items():
        for tier in tiers:
            if not 0 <= tier.nusd_per_million <= MAX_NUSD_PER_MILLION:
                return f"{price.provider} {price.model}: {dimension} is outside US$0 to US$10,000 per million"
            if tier.nusd_per_million == 0 and not price.free and dimension in ("input", "output"):
                return f"{price.provider} {price.model}: {dimension} is 0 but the model is not marked free"
    return None


def is_suspicious_change(old: ModelPrice, new: ModelPrice) -> bool:
    """A change by more than 5x, or to free, waits for an operator."""
    if new.free and not old.free:
        return True
    for dimension in ("input", "output"):
        before, after = old.dearest(dimension), new.dearest(dimension)
        if before and after is not None and (after > 5 * before or before > 5 * after):
            return True
    return False


def price_to_json(price: ModelPrice) -> dict[str, Any]:
    """Plain values for storage; `price_from_json` is its inverse."""
    return {
        "provider": price.provider, "model": price.model, "free": price.free, "source": price.source,
        "context_window": price.context_window, "max_output_tokens": price.max_output_tokens,
        "rates": {d: [[t.min_input_tokens, t.nusd_per_million] for t in tiers] for d, tiers in price.rates.items()},
        "units": dict(price.units),
    }


def price_from_json(data: Mapping[str, Any]) -> ModelPrice:
    return ModelPrice(
        provider=data["provider"], model=data["model"], free=data["free"], source=data["source"],
        context_window=data["context_window"], max_output_tokens=data["max_output_tokens"],
        rates={d: tuple(Rate(m, n) for m, n in tiers) for d, tiers in data["rates"].items()},
        units=dict(data["units"]),
    )
