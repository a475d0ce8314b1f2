"""The models the emulator serves and what they cost.

List prices of the providers' own pages in USD per million tokens, as strings: a price is digits, not a float.
"""

from dataclasses import dataclass, replace

from ownkey.domain.money import ceil_div, parse_usd_nusd

PROVIDERS = ("openrouter", "openai", "anthropic", "google")


@dataclass(frozen=True, slots=True)
class Rates:
    """Nano-USD per million tokens of each disjoint class."""

    input: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output: int

    def cost_nusd(self, tokens: tuple[int, int, int, int, int]) -> int:
        """The cost of (input, cache_read, cache_write_5m, cache_write_1h, output), rounded up once."""
        fresh, read, write_5m, write_1h, output = tokens
        micro = (
            fresh * self.input
            + read * self.cache_read
            + write_5m * self.cache_write_5m
            + write_1h * self.cache_write_1h
            + output * self.output
        )
        return ceil_div(micro, 1_000_000)


@dataclass(frozen=True, slots=True)
class Price:
    """Rates, and other rates for prompts above `long_over` tokens where the provider has such a tier."""

    rates: Rates
    long_over: int | None = None
    long: Rates | None = None

    def rates_for(self, prompt_tokens: int) -> Rates:
        if self.long is not None and self.long_over is not None and prompt_tokens > self.long_over:
            return self.long
        return self.rates


@dataclass(frozen=True, slots=True)
class Model:
    """One model under all its names. `native` is its id at its maker, `dated` the snapshot the maker answers with."""

    slug: str
    maker: str
    name: str
    price: Price
    native: str | None = None
    dated: str = ""
    canonical: str = ""
    context: int = 128_000
    max_output: int = 16_384
    kind: str = "chat"
    thinks: bool = False
    sees: bool = True
    created: int = 1_750_000_000
    dimensions: int = 0
    host: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def free(self) -> bool:
        return self.slug.endswith(":free")


def rates(
    input_usd: str,
    output_usd: str = "0",
    cache_read_usd: str | None = None,
    cache_write_5m_usd: str | None = None,
    cache_write_1h_usd: str | None = None,
) -> Rates:
    """Rates from USD per million tokens. A class without its own price costs what fresh input costs."""
    return Rates(
        input=parse_usd_nusd(input_usd),
        cache_read=parse_usd_nusd(cache_read_usd if cache_read_usd is not None else input_usd),
        cache_write_5m=parse_usd_nusd(cache_write_5m_usd if cache_write_5m_usd is not None else input_usd),
        cache_write_1h=parse_usd_nusd(cache_write_1h_usd if cache_write_1h_usd is not None else input_usd),
        output=parse_usd_nusd(output_usd),
    )


def _openai(name: str, label: str, dated: str, price: Rates, **more: object) -> Model:
    base = Model(slug=f"openai/{name}", maker="openai", name=f"OpenAI: {label}", price=Price(price), native=name)
    return replace(base, dated=dated, canonical=f"openai/{dated}", host="OpenAI", **more)  # type: ignore[arg-type]


def _anthropic(tier: str, dated: str, price: Price, **more: object) -> Model:
    base = Model(
        slug=f"anthropic/claude-{tier}-4.5",
        maker="anthropic",
        name=f"Anthropic: Claude {tier.capitalize()} 4.5",
        price=price,
        native=f"claude-{tier}-4-5",
    )
    return replace(
        base,
        dated=f"claude-{tier}-4-5-{dated}",
        canonical=f"anthropic/claude-4.5-{tier}-{dated}",
        aliases=(f"claude-{tier}-4-5-{dated}",),
        context=200_000,
        max_output=64_000,
        thinks=True,
        host="Anthropic",
        **more,  # type: ignore[arg-type]
    )


def _google(name: str, label: str, price: Price, **more: object) -> Model:
    base = Model(slug=f"google/{name}", maker="google", name=f"Google: {label}", price=price, native=name)
    return replace(base, dated=name, canonical=f"google/{name}", host="Google AI Studio", **more)  # type: ignore[arg-type]


MODELS: tuple[Model, ...] = (
    _openai("gpt-4.1-mini", "GPT-4.1 Mini", "gpt-4.1-mini-2025-04-14", rates("0.40", "1.60", "0.10"),
            context=1_047_576, max_output=32_768, created=1_744_651_381),
    _openai("gpt-4.1", "GPT-4.1", "gpt-4.1-2025-04-14", rates("2.00", "8.00", "0.50"),
            context=1_047_576, max_output=32_768, created=1_744_651_385),
    _openai("gpt-4o-mini", "GPT-4o-mini", "gpt-4o-mini-2024-07-18", rates("0.15", "0.60", "0.075"),
            created=1_721_260_800),
    _openai("gpt-5-mini", "GPT-5 Mini", "gpt-5-mini-2025-08-07", rates("0.25", "2.00", "0.025"),
            context=400_000, max_output=128_000, thinks=True, created=1_754_587_407),
    _openai("gpt-5", "GPT-5", "gpt-5-2025-08-07", rates("1.25", "10.00", "0.125"),
            context=400_000, max_output=128_000, thinks=True, created=1_754_587_413),
    _openai("text-embedding-3-small", "Text Embedding 3 Small", "text-embedding-3-small", rates("0.02"),
            context=8_192, max_output=0, kind="embedding", dimensions=1_536, sees=False, created=1_705_948_997),
    _openai("text-embedding-3-large", "Text Embedding 3 Large", "text-embedding-3-large", rates("0.13"),
            context=8_192, max_output=0, kind="embedding", dimensions=3_072, sees=False, created=1_705_953_180),
    _anthropic("haiku", "20251001", Price(rates("1.00", "5.00", "0.10", "1.25", "2.00")), created=1_760_547_638),
    _anthropic("sonnet", "20250929", Price(
        rates("3.00", "15.00", "0.30", "3.75", "6.00"), 200_000, rates("6.00", "22.50", "0.60", "7.50", "12.00"),
    ), created=1_759_161_676),
    _anthropic("opus", "20251101", Price(rates("5.00", "25.00", "0.50", "6.25", "10.00")), created=1_764_010_580),
    _google("gemini-2.5-flash", "Gemini 2.5 Flash", Price(rates("0.30", "2.50", "0.03")),
            context=1_048_576, max_output=65_536, thinks=True, created=1_750_172_488),
    _google("gemini-2.5-pro", "Gemini 2.5 Pro", Price(
        rates("1.25", "10.00", "0.125"), 200_000, rates("2.50", "15.00", "0.25"),
    ), context=1_048_576, max_output=65_536, thinks=True, created=1_750_169_544),
    _google("gemini-2.5-flash-lite", "Gemini 2.5 Flash Lite", Price(rates("0.10", "0.40", "0.01")),
            context=1_048_576, max_output=65_536, created=1_753_200_276),
    _google("gemini-embedding-001", "Gemini Embedding 001", Price(rates("0.15")),
            context=2_048, max_output=0, kind="embedding", dimensions=3_072, sees=False, created=1_752_000_000),
    Model("meta-llama/llama-3.3-70b-instruct", "meta-llama", "Meta: Llama 3.3 70B Instruct",
          Price(rates("0.59", "0.79", "0.295")), canonical="meta-llama/llama-3.3-70b-instruct", context=131_072,
          sees=False, host="Groq", created=1_733_506_137),
    Model("meta-llama/llama-3.3-70b-instruct:free", "meta-llama", "Meta: Llama 3.3 70B Instruct (free)",
          Price(rates("0", "0")), canonical="meta-llama/llama-3.3-70b-instruct:free", context=131_072,
          sees=False, host="Venice", created=1_733_506_137),
)  # fmt: skip


class Catalogue:
    """The models by provider and id, and the price each provider asks for each."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Back to the published models and prices."""
        self._by_id: dict[str, dict[str, Model]] = {provider: {} for provider in PROVIDERS}
        self._prices: dict[tuple[str, str], Price] = {}
        for model in MODELS:
            self.add(model)

    def add(self, model: Model) -> None:
        self._by_id["openrouter"][model.slug] = model
        if model.canonical and model.canonical != model.slug:
            self._by_id["openrouter"].setdefault(model.canonical, model)
        if model.native is not None and model.maker in self._by_id:
            names = (model.native, *model.aliases, *([model.dated] if model.dated else []))
            for name in names:
                self._by_id[model.maker][name] = model

    def find(self, provider: str, model_id: str) -> Model | None:
        """The model that `provider` knows under `model_id`."""
        return self._by_id[provider].get(model_id)

    def listed(self, provider: str) -> list[Model]:
        """Each of the provider's models once."""
        return list(dict.fromkeys(self._by_id[provider].values()))

    def price(self, provider: str, model: Model) -> Price:
        return self._prices.get((provider, model.slug), model.price)

    def set_price(self, provider: str, model: Model, price: Price) -> None:
        self._prices[provider, model.slug] = price
