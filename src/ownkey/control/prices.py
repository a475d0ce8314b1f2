"""The price version in force, and an operator's overrides: a new version each, never a changed one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ownkey.control import ports
from ownkey.control.ports import Actor, Clock
from ownkey.control.problems import invalid
from ownkey.domain.money import AmountError, parse_usd_nusd
from ownkey.domain.pricing import DIMENSIONS, OPERATOR, ModelPrice, PriceBook, Rate, check_price
from ownkey.domain.product import PROVIDERS


class _Store(ports.PriceVersions, Protocol):
    pass


@dataclass(frozen=True, slots=True)
class Override:
    """An operator's price of one model, USD per million tokens as decimal text, by dimension. Dimensions that are not
    named keep the price that they have; `free` leaves the model without any."""

    provider: str
    model: str
    usd_per_million: Mapping[str, str]
    free: bool = False


class PriceControl:
    def __init__(self, store: _Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def current(self) -> PriceBook:
        return self._store.current()

    def check(self, override: Override) -> None:
        """Whether it could be taken as it is. Raises Problem."""
        book = self._store.current()
        self._price("overrides[0]", override, book.prices.get((override.provider, override.model)))

    async def override(self, overrides: Sequence[Override], actor: Actor) -> PriceBook:
        """All of them or none, in one new version. Raises Problem."""
        book = self._store.current()
        prices = dict(book.prices)
        for n, override in enumerate(overrides):
            price = self._price(f"overrides[{n}]", override, prices.get((override.provider, override.model)))
            prices[price.provider, price.model] = price
        return await self._store.activate_prices(
            list(prices.values()), book.aliases, author=f"{actor.kind}:{actor.id}", at_ms=self._clock.now_ms()
        )

    def _price(self, param: str, override: Override, before: ModelPrice | None) -> ModelPrice:
        if override.provider not in PROVIDERS:
            raise invalid(f"{param}.provider", f"{override.provider[:40]!r} is not a provider.",
                          f"Use one of: {', '.join(PROVIDERS)}.")
        if not override.model or len(override.model) > 200:
            raise invalid(f"{param}.model", "A price needs the provider's own model id.", "Name the model.")
        base = before or ModelPrice(override.provider, override.model, {})
        rates = {} if override.free else dict(base.rates)
        for dimension, text in override.usd_per_million.items():
            if dimension not in DIMENSIONS:
                raise invalid(f"{param}.usd_per_million", f"There is no price dimension {dimension[:40]!r}.",
                              f"Use: {', '.join(DIMENSIONS)}.")
            rates[dimension] = (Rate(0, _amount(f"{param}.usd_per_million.{dimension}", text)),)
        if not override.free and ("input" not in rates):
            raise invalid(f"{param}.usd_per_million", "A price needs at least its input dimension.", "Add input.")
        # The source is what a price sync looks at: it leaves an operator's price alone.
        price = ModelPrice(
            override.provider, override.model, rates, units=base.units, free=override.free,
            context_window=base.context_window, max_output_tokens=base.max_output_tokens, source=OPERATOR,
        )
        wrong = check_price(price)
        if wrong is not None:
            raise invalid(param, f"{wrong}.", "Correct the price, or mark the model free.")
        return price


def _amount(param: str, text: str) -> int:
    try:
        return parse_usd_nusd(text)
    except AmountError as error:
        raise invalid(param, f"{text[:40]!r} is not an amount in USD per million tokens.",
                      "Write digits with a decimal point, such as 0.15.") from error
