"""Versioned prices, and the cost of usage under them. Unknown is unknown, and never 0.

A price version is immutable: a hold names its version and is settled with it, whatever prices do meanwhile.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ownkey.domain.money import TOKENS_PER_MILLION, ceil_div
from ownkey.domain.usage import Usage

MAX_NUSD_PER_MILLION = 10_000 * 10**9
MAX_NUSD_PER_PIECE = 100 * 10**9

DIMENSIONS = (
    "input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning", "audio_input", "audio_output",
    "audio_cache_read",
)

STANDARD_TIERS = frozenset({"auto", "default", "standard", "standard_only"})
"""Service tiers that are billed at the list price: what the providers call no special service."""

DISCOUNT_TIERS = frozenset({"flex"})
"""Service tiers that are only ever cheaper than the list price; without a price of their own it bounds them."""


@dataclass(frozen=True, slots=True)
class Rate:
    """nano-USD per million tokens of one dimension, for requests of at least `min_input_tokens` input tokens."""

    min_input_tokens: int
    nusd_per_million: int


Rates = Mapping[str, tuple[Rate, ...]]
"""Dimension → tiers, ascending by `min_input_tokens`, the first at 0."""


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """Prices of one model on one provider.

    A tier's rate holds for all tokens of a request that reaches it, not only for those above. `units` are nano-USD
    per piece ("request", "image"). `service_tiers` holds, by service tier, the rates that differ from `rates`.
    `context_window` and `max_output_tokens` are the model's, None if unknown.
    """

    provider: str
    model: str
    rates: Rates
    units: Mapping[str, int] = field(default_factory=dict)
    free: bool = False
    context_window: int | None = None
    max_output_tokens: int | None = None
    source: str = ""
    service_tiers: Mapping[str, Rates] = field(default_factory=dict)

    def rate(self, dimension: str, input_tokens: int) -> int | None:
        """nano-USD per million tokens at this input size; None where the dimension has no price of its own."""
        tiers = self.rates.get(dimension)
        if not tiers:
            return None
        price = tiers[0].nusd_per_million
        for tier in tiers[1:]:
            if input_tokens >= tier.min_input_tokens:
                price = tier.nusd_per_million
        return price

    def dearest(self, dimension: str, input_tokens: int | None = None) -> int | None:
        """The highest tier of a dimension that a request of up to `input_tokens` can reach (None: any size)."""
        tiers = self.rates.get(dimension)
        if not tiers:
            return None
        if len(tiers) == 1:
            return tiers[0].nusd_per_million
        reached = [t for t in tiers[1:] if input_tokens is None or input_tokens >= t.min_input_tokens]
        return max(tier.nusd_per_million for tier in (tiers[0], *reached))

    def at_service_tier(self, tier: str | None) -> "ModelPrice | None":
        """The prices of a request in this service tier, for its bound and for its cost; None: unknown."""
        if tier is None or tier in STANDARD_TIERS:
            return self
        own = self.service_tiers.get(tier)
        if own is not None:
            return replace(self, rates={**self.rates, **own}, service_tiers={tier: own})
        return self if tier in DISCOUNT_TIERS or self.free else None


# Where a provider states no price for a class, its tokens are billed as the class it is a part of.
_FALLBACK = {
    "cache_read": "input", "cache_write_5m": "input", "cache_write_1h": "cache_write_5m", "reasoning": "output",
    "audio_input": "input", "audio_output": "output", "audio_cache_read": "cache_read",
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


def compute_cost_nusd(
    usage: Usage, price: ModelPrice, price_of: Callable[[str], ModelPrice | None] | None = None
) -> int | None:
    """ceil(Σ tokens × price / 10^6) + units, rounded up once a model; None if a class that was used has no price.

    `price_of` finds the prices of other models that worked on the same call; without one of theirs the whole is
    unknown.
    """
    cost = _own_cost_nusd(usage, price)
    for model, part in usage.others:
        other = price if not model else price_of(model) if price_of is not None else None
        more = None if other is None else compute_cost_nusd(part, other)
        if cost is None or more is None:
            return None
        cost += more
    return cost


def _own_cost_nusd(usage: Usage, price: ModelPrice) -> int | None:
    if price.free:
        return 0
    total_input = usage.total_input
    total = 0
    for dimension, tokens in (
        ("input", usage.input), ("cache_read", usage.cache_read), ("cache_write_5m", usage.cache_write_5m),
        ("cache_write_1h", usage.cache_write_1h), ("output", usage.output), ("reasoning", usage.reasoning),
        ("audio_input", usage.audio_input), ("audio_output", usage.audio_output),
        ("audio_cache_read", usage.audio_cache_read),
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


_DATE = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")

# Variants of a slug that choose among the model's hosts and leave its list price alone; `provider.max_price` keeps
# dearer hosts out. Others (":free", ":thinking", ":extended") are models of their own.
_SAME_PRICE_VARIANTS = (":nitro", ":floor", ":exacto")


@dataclass(frozen=True, slots=True)
class PriceBook:
    """One activated price version. Keys are (provider, native model id)."""

    version: int
    created_by: str
    prices: Mapping[tuple[str, str], ModelPrice]
    aliases: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def find(self, provider: str, model: str) -> ModelPrice | None:
        """The price of a model under its id, a listed alias, or a dated snapshot of either.

        A snapshot that costs something else than its family is listed by itself, and is found first. The search
        reads this version alone, so it gives the same answer as long as the version lives.
        """
        found = self._listed(provider, model)
        if found is None and provider == "openrouter":
            for variant in _SAME_PRICE_VARIANTS:
                if model.endswith(variant):
                    model = model.removesuffix(variant)
                    found = self._listed(provider, model)
        if found is None and (undated := _DATE.sub("", model)) != model:
            found = self._listed(provider, undated)
        return found

    def _listed(self, provider: str, model: str) -> ModelPrice | None:
        found = self.prices.get((provider, model))
        if found is None:
            alias = self.aliases.get((provider, model))
            if alias is not None:
                found = self.prices.get((provider, alias))
        return found


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices from one source; `aliases` maps (provider, other name) to the model they belong to."""

    prices: tuple[ModelPrice, ...]
    aliases: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Merged:
    """What a new version holds. `held_back` are sentences for the operator: what was left out or kept, and why."""

    prices: tuple[ModelPrice, ...]
    aliases: Mapping[tuple[str, str], str]
    held_back: tuple[str, ...]


OPERATOR = "operator"
CONFIGURED = "ownkey.toml"
"""The sources of the operator's own prices, set while running and in the file: they are taken as they are."""


def merge_prices(overrides: Sequence[ModelPrice], lists: Sequence[PriceList], current: PriceBook | None) -> Merged:
    """One price a model: the operator's, else the first list's that has it; of several overrides the first.

    An insane price is left out. A change against `current` by more than 5x, from free or to free, keeps the
    current price until the operator sets one.
    """
    merged = {(price.provider, price.model): price for price in reversed(overrides)}
    held_back: list[str] = []
    for price in (price for source in lists for price in source.prices):
        key = (price.provider, price.model)
        if key in merged:
            continue
        wrong = check_price(price)
        if wrong is not None:
            held_back.append(f"{wrong}; left out.")
            continue
        before = current.prices.get(key) if current else None
        if before is not None and before.source not in (OPERATOR, CONFIGURED) and is_suspicious_change(before, price):
            held_back.append(f"{price.provider} {price.model}: a change by more than 5x or to free; kept as it was.")
            merged[key] = before
        else:
            merged[key] = price
    aliases = {
        alias: model
        for source in reversed(lists)
        for alias, model in source.aliases.items()
        if alias not in merged and (alias[0], model) in merged
    }
    return Merged(tuple(merged.values()), aliases, tuple(held_back))


def check_price(price: ModelPrice) -> str | None:
    """What is wrong with a price, as a sentence; None if it is sane."""
    name = f"{price.provider} {price.model}"
    for rates in (price.rates, *price.service_tiers.values()):
        for dimension, tiers in rates.items():
            if dimension not in DIMENSIONS:
                return f"{name}: {dimension} is no price dimension"
            starts = [tier.min_input_tokens for tier in tiers]
            if not tiers or starts[0] != 0 or starts != sorted(set(starts)):
                return f"{name}: the tiers of {dimension} do not start at 0 and ascend"
            for tier in tiers:
                if not 0 <= tier.nusd_per_million <= MAX_NUSD_PER_MILLION:
                    return f"{name}: {dimension} is outside US$0 to US$10,000 per million"
                if tier.nusd_per_million == 0 and not price.free and dimension in ("input", "output"):
                    return f"{name}: {dimension} is 0 but the model is not marked free"
                if tier.nusd_per_million and price.free:
                    return f"{name}: {dimension} has a price but the model is marked free"
    for unit, amount in price.units.items():
        if not 0 <= amount <= MAX_NUSD_PER_PIECE:
            return f"{name}: {unit} is outside US$0 to US$100 a piece"
    return None


def is_suspicious_change(old: ModelPrice, new: ModelPrice) -> bool:
    """A change by more than 5x either way, from free or to free, waits for an operator."""
    if new.free != old.free:
        return True
    for dimension in DIMENSIONS:
        if _jumps(old.dearest(dimension), new.dearest(dimension)):
            return True
    return any(_jumps(old.units.get(unit), new.units.get(unit)) for unit in old.units)


def _jumps(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and (after > 5 * before or before > 5 * after)


def price_to_json(price: ModelPrice) -> dict[str, Any]:
    """Plain values for storage; `price_from_json` is its inverse."""
    data: dict[str, Any] = {
        "provider": price.provider, "model": price.model, "free": price.free, "source": price.source,
        "context_window": price.context_window, "max_output_tokens": price.max_output_tokens,
        "rates": _rates_to_json(price.rates), "units": dict(price.units),
    }
    if price.service_tiers:
        data["service_tiers"] = {tier: _rates_to_json(rates) for tier, rates in price.service_tiers.items()}
    return data


def price_from_json(data: Mapping[str, Any]) -> ModelPrice:
    return ModelPrice(
        provider=data["provider"], model=data["model"], free=data["free"], source=data["source"],
        context_window=data["context_window"], max_output_tokens=data["max_output_tokens"],
        rates=_rates_from_json(data["rates"]), units=dict(data["units"]),
        service_tiers={tier: _rates_from_json(rates) for tier, rates in data.get("service_tiers", {}).items()},
    )


def _rates_to_json(rates: Rates) -> dict[str, list[list[int]]]:
    return {name: [[t.min_input_tokens, t.nusd_per_million] for t in tiers] for name, tiers in rates.items()}


def _rates_from_json(data: Mapping[str, Any]) -> dict[str, tuple[Rate, ...]]:
    return {name: tuple(Rate(start, price) for start, price in tiers) for name, tiers in data.items()}
