"""List prices of the four providers, as whole nano-dollars: exact digits in, rounded up, never a float.

Three sources, the first that knows a model wins: the operator's own prices, OpenRouter's public model list (its
route only), and the list of the `genai-prices` package, which comes with the product and needs no network. What
cannot be priced from tokens alone (images made, minutes, searches a model starts by itself) stays without a
price: unknown is refused under a cap, and a guess would overdraw it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal, DecimalException
from functools import cache
from typing import Any, Protocol

import msgspec
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseStartsWith,
    MatchLogic,
    ModelInfo,
    Provider,
    TieredPrices,
)
from genai_prices.types import ModelPrice as ListedPrice

from ownkey.domain.endpoints import Endpoint
from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.domain.models import native_id
from ownkey.domain.money import NUSD_PER_USD, ceil_div
from ownkey.domain.pricing import ModelPrice, PriceList, Rate, Rates, check_price
from ownkey.domain.product import PROVIDERS
from ownkey.providers.upstream import UpstreamResponse

# genai-prices → dimension.
_TOKEN_PRICES: Mapping[str, str] = {
    "input_mtok": "input",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write_5m",
    "cache_write_5m_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "cache_audio_read_mtok": "audio_cache_read",
}
_PIECE_PRICES: Mapping[str, str] = {
    "web_searches_kcount": "web_search",
    "storage_searches_kcount": "file_search",
    "requests_kcount": "request",
}

# Prices of pictures and films that are read: on the direct route an embeddings request holds texts only.
_NOT_EMBEDDED = frozenset({"input_image_mtok", "input_video_mtok"})

_TIER_KEYS = ("service_tier", "speed")

_EXACT = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
_FETCH_S = 30.0
_LIST_BYTES = 32 * 2**20
_SLUG = re.compile(r"~?[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*(?::[\w\-]+)?", re.ASCII)

# OpenRouter's `pricing` → dimension, in USD per token. A 0 here means "not priced apart", except for the first two.
_OPENROUTER_TOKENS: Mapping[str, str] = {
    "prompt": "input",
    "completion": "output",
    "input_cache_read": "cache_read",
    "input_cache_write": "cache_write_5m",
    "input_cache_write_1h": "cache_write_1h",
    "internal_reasoning": "reasoning",
    "audio": "audio_input",
    "audio_output": "audio_output",
}
_OPENROUTER_PIECES = ("request", "image", "web_search")

# Models that search, or work in loops of their own, whatever the request says: tokens do not bound their bill.
_BILLS_BY_ITSELF = re.compile(
    r"~?(perplexity/.*|openrouter/.*|switchpoint/.*|.*-search-(preview|api).*|.*-deep-research.*|.*:online|.*:batch)"
)

# Models whose images or speech are dearer than their text, and are not listed apart in the package.
_MAKES_MEDIA = re.compile(r".*(-image|nano-banana|-omni|imagen|lyria|veo-|sora|-tts|-audio-preview|-live|realtime).*")


class Upstream(Protocol):
    async def send(self, request: UpstreamRequest, *, head_timeout_s: float) -> UpstreamResponse: ...


class ListedPrices:
    """Both lists behind one door, for the use case that keeps prices current."""

    def __init__(self, upstream: Upstream, openrouter: Origin) -> None:
        self._upstream = upstream
        self._origin = openrouter

    async def load_openrouter(self) -> PriceList:
        """OpenRouter's list now. Raises UpstreamError, or ValueError for an answer that is no list of models."""
        body = await self._fetch("/models")
        prices = parse_openrouter_models(body)
        if not prices:
            raise ValueError("OpenRouter's list of models has no price in it")
        aliases = openrouter_aliases(body)
        with suppress(UpstreamError, ValueError):
            # The chat models are worth having without it; embeddings then keep the shipped list's price.
            prices += parse_openrouter_models(await self._fetch("/embeddings/models"))
        return PriceList(tuple(prices), aliases)

    def list_shipped(self, today: date) -> PriceList:
        """What the product was shipped with, as it holds on `today`."""
        return PriceList(tuple(list_prices(today)), list_aliases())

    async def load_endpoints(self, slug: str, timeout_s: float) -> Sequence[Endpoint]:
        """The hosts of one model, with their prices, now. Raises UpstreamError, or ValueError for an answer that is
        no list of endpoints. Hosts whose prices cannot be read are left out."""
        if not _SLUG.fullmatch(slug):
            raise ValueError("not a model's slug")
        return parse_openrouter_endpoints(slug, await self._fetch(f"/models/{slug}/endpoints", timeout_s))

    async def _fetch(self, path: str, timeout_s: float = _FETCH_S) -> bytes:
        """The lists are public: no credential goes with the request."""
        request = UpstreamRequest(self._origin, "GET", path, (("accept", "application/json"),), b"")
        response = await self._upstream.send(request, head_timeout_s=timeout_s)
        try:
            if response.status != 200:
                raise ValueError(f"OpenRouter answered {path} with status {response.status}")
            return await response.read_all(timeout_s, _LIST_BYTES)
        finally:
            response.close()


def list_prices(today: date) -> list[ModelPrice]:
    """The list prices that hold on `today` (UTC), from the package; every price in it passes `check_price`.

    OpenRouter's embedding models are missing from the package; OpenRouter bills the maker's list price
    (OpenRouter docs, "Pricing"), so they take it until OpenRouter's own list is read.
    """
    noon = datetime.combine(today, time(12), UTC)
    prices = [
        price
        for provider in _providers()
        for model in provider.models
        if _is_bounded(provider.id, model.id) and (price := _list_price(provider.id, model, noon)) is not None
    ]
    embeddings = [
        replace(price, provider="openrouter", model=f"{price.provider}/{price.model}", source=f"{_SOURCE}, maker's")
        for price in prices
        if price.provider != "openrouter" and "embedding" in price.model
    ]
    return [price for price in (*prices, *embeddings) if check_price(price) is None]


def list_aliases() -> dict[tuple[str, str], str]:
    """(provider, other name) → the id in `list_prices`: the names the package knows, and those that slugs lead to."""
    aliases: dict[tuple[str, str], str] = {}
    for provider in _providers():
        ids = {model.id for model in provider.models}
        for name in _known_names(provider):
            listed = resolve(provider.id, name) if name not in ids else None
            if listed is not None:
                aliases[provider.id, name] = listed
        if provider.id == "openrouter":
            aliases |= _dashed_slugs(ids)
    return aliases


def resolve(provider: str, model: str) -> str | None:
    """The listed id of a dated or alias id, by the package's own matching; None: not listed."""
    found = next((one for one in _providers() if one.id == provider), None)
    listed = found.find_model(model.removeprefix("models/")) if found else None
    return listed.id if listed else None


def parse_openrouter_models(body: bytes) -> list[ModelPrice]:
    """The prices in an answer of OpenRouter's `GET /models` or `GET /embeddings/models`.

    Raises ValueError if it is no such answer. A single entry that cannot be priced (no number, below 0 as for
    `openrouter/auto`, images as output) is left out.
    """
    parsed = (_openrouter_price(entry) for entry in _entries(body))
    return [price for price in parsed if price is not None]


def parse_openrouter_endpoints(slug: str, body: bytes) -> list[Endpoint]:
    """The hosts in an answer of OpenRouter's `GET /models/{author}/{slug}/endpoints`, priced as the model `slug`.

    Raises ValueError if it is no such answer. `discount` is not taken off: a hold may only err upwards.
    """
    try:
        data = _EXACT.decode(body).get("data")
    except msgspec.DecodeError as error:
        raise ValueError(f"not a list of endpoints: {error}") from error
    hosts = data.get("endpoints") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(hosts, list):
        raise ValueError("not a list of endpoints: no `data.endpoints`")
    found = []
    for host in hosts:
        if not isinstance(host, dict):
            continue
        price = _openrouter_price({
            "id": slug, "pricing": host.get("pricing"), "context_length": host.get("context_length"),
            "architecture": data.get("architecture"),
        })
        if price is not None:
            # Statuses below 0 mark hosts that are down or about to be (OpenRouter's OpenAPI description).
            found.append(Endpoint(price, host.get("status", 0) in (0, None)))
    return found


def openrouter_aliases(body: bytes) -> dict[tuple[str, str], str]:
    """("openrouter", other name) → slug, from the same answer: answers name a model's permanent slug."""
    pairs = [(entry.get("canonical_slug"), entry.get("id")) for entry in _entries(body)]
    permanent = {
        ("openrouter", name): slug
        for name, slug in pairs
        if isinstance(name, str) and isinstance(slug, str) and name != slug and ":" not in slug
    }
    return _dashed_slugs({slug for _, slug in pairs if isinstance(slug, str)}) | permanent


_SOURCE = "genai-prices"


def _is_bounded(provider: str, model: str) -> bool:
    if _BILLS_BY_ITSELF.fullmatch(model) or _MAKES_MEDIA.fullmatch(model):
        return False
    # Google's list has Vertex's Claude models; the OpenRouter list of the package leaves audio prices out.
    return not (provider == "google" and model.startswith("claude-")) and "openai/gpt-audio" not in model


@cache
def _providers() -> tuple[Provider, ...]:
    return tuple(provider for provider in get_snapshot().providers if provider.id in PROVIDERS)


def _known_names(provider: Provider) -> set[str]:
    names = {name for model in provider.models for name in _names(model.match)}
    slugs = (model.id for one in _providers() if one.id == "openrouter" for model in one.models)
    natives = (native_id(slug, {}) for slug in slugs)
    return names | {native[1] for native in natives if native is not None and native[0] == provider.id}


def _names(match: MatchLogic) -> Iterator[str]:
    match match:
        case ClauseEquals():
            yield match.equals
        case ClauseStartsWith():
            yield match.starts_with
        case ClauseEndsWith():
            yield match.ends_with
        case ClauseContains():
            yield match.contains
        case ClauseOr():
            for clause in match.or_:
                yield from _names(clause)
        case _:
            return


def _dashed_slugs(slugs: Iterable[str]) -> dict[tuple[str, str], str]:
    """OpenRouter takes Anthropic's own spelling behind the slash as well: claude-haiku-4-5 for claude-haiku-4.5."""
    return {
        ("openrouter", slug.replace(".", "-")): slug
        for slug in slugs
        if slug.startswith("anthropic/") and "." in slug
    }


def _list_price(provider: str, model: ModelInfo, at: datetime) -> ModelPrice | None:
    listed = model.get_prices(at)
    rates = _rates(provider, model.id, listed)
    if rates is None:
        return None
    free = not rates and provider == "openrouter" and model.id.endswith(":free")
    if free:
        rates = {"input": (Rate(0, 0),), "output": (Rate(0, 0),)}
    if "input" not in rates:
        return None
    return ModelPrice(
        provider=provider,
        model=model.id,
        rates=rates,
        units={} if free else _pieces(listed),
        free=free,
        context_window=model.context_window,
        source=_SOURCE,
        service_tiers=_service_tiers(provider, model, at),
    )


def _service_tiers(provider: str, model: ModelInfo, at: datetime) -> dict[str, Rates]:
    """The dearer and cheaper ways to be served: service tiers by name, and Anthropic's `speed` as the tier "fast"."""
    tiers: dict[str, Rates] = {}
    named = {(key, v.when[key]) for v in model.price_variants or () for key in _TIER_KEYS if set(v.when) == {key}}
    standard = _rates(provider, model.id, model.get_prices(at))
    for key, name in sorted(named):
        own = _rates(provider, model.id, model.get_prices(at, {key: name}))
        if own and own != standard:
            tiers[name] = own
    return tiers


def _rates(provider: str, model: str, listed: ListedPrice) -> dict[str, tuple[Rate, ...]] | None:
    """Dimension → tiers; None if something is priced that tokens of our classes cannot count."""
    rates: dict[str, tuple[Rate, ...]] = {}
    only_texts = provider == "google" and listed.output_mtok is None
    for key, value in vars(listed).items():
        if value is None or key in _PIECE_PRICES or (only_texts and key in _NOT_EMBEDDED):
            continue
        if key not in _TOKEN_PRICES:
            return None
        rates[_TOKEN_PRICES[key]] = _tiers(value)
    return _with_cache_writes(provider, model, rates)


def _tiers(value: Decimal | TieredPrices) -> tuple[Rate, ...]:
    if isinstance(value, TieredPrices):
        # The package's tier begins above its start, ours at its start.
        return (Rate(0, _nusd(value.base)), *(Rate(tier.start + 1, _nusd(tier.price)) for tier in value.tiers))
    return (Rate(0, _nusd(value)),)


def _pieces(listed: ListedPrice) -> dict[str, int]:
    """Per thousand there, a piece here."""
    values = vars(listed)
    return {
        unit: ceil_div(_nusd(value), 1_000)
        for key, unit in _PIECE_PRICES.items()
        if isinstance(value := values.get(key), Decimal)
    }


def _with_cache_writes(
    provider: str, model: str, rates: dict[str, tuple[Rate, ...]]
) -> dict[str, tuple[Rate, ...]]:
    """Cache writes as a whole price on OpenRouter's route, which lists only a part of it for two makers.

    Gemini: its list names the storage alone, the tokens are billed as input besides (OpenRouter docs, "Prompt
    caching"). Anthropic: a write for an hour costs twice the input (same page) and is often not listed.
    """
    inputs, writes = rates.get("input"), rates.get("cache_write_5m")
    if provider != "openrouter" or not inputs or not writes:
        return rates
    if "google/" in model and writes[0].nusd_per_million < inputs[0].nusd_per_million:
        storage = max(tier.nusd_per_million for tier in writes)
        rates["cache_write_5m"] = tuple(replace(t, nusd_per_million=t.nusd_per_million + storage) for t in inputs)
    if "anthropic/" in model and "cache_write_1h" not in rates:
        rates["cache_write_1h"] = tuple(replace(t, nusd_per_million=2 * t.nusd_per_million) for t in inputs)
    return rates


def _nusd(usd: Decimal) -> int:
    """USD → nano-USD, rounded up, exact for any number of digits."""
    numerator, denominator = usd.as_integer_ratio()
    return ceil_div(numerator * NUSD_PER_USD, denominator)


def _entries(body: bytes) -> list[dict[str, Any]]:
    try:
        data = _EXACT.decode(body)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a list of models: {error}") from error
    entries = data.get("data")
    if not isinstance(entries, list):
        raise ValueError("not a list of models: no `data`")
    return [entry for entry in entries if isinstance(entry, dict)]


def _openrouter_price(entry: Mapping[str, Any]) -> ModelPrice | None:
    slug, pricing, top = entry.get("id"), entry.get("pricing"), entry.get("top_provider")
    if not isinstance(slug, str) or not isinstance(pricing, dict):
        return None
    if _BILLS_BY_ITSELF.fullmatch(slug) or not _writes_tokens(entry):
        return None
    try:
        base = {name: _per_token(pricing[key]) for key, name in _OPENROUTER_TOKENS.items() if key in pricing}
        units = {key: _nusd(_number(pricing[key])) for key in _OPENROUTER_PIECES if key in pricing}
        rates = _openrouter_rates(base, _overrides(pricing.get("overrides")))
    except (ValueError, DecimalException):
        return None
    if "input" not in base:
        return None
    free = not any(base.values()) and not any(units.values())
    if free and not rates:
        rates = {"input": (Rate(0, 0),), "output": (Rate(0, 0),)}
    return ModelPrice(
        provider="openrouter",
        model=slug,
        rates=rates if free else _with_cache_writes("openrouter", slug, rates),
        units={name: amount for name, amount in units.items() if amount},
        free=free,
        context_window=_count(entry.get("context_length")),
        max_output_tokens=_count(top.get("max_completion_tokens")) if isinstance(top, dict) else None,
        source="openrouter",
    )


def _writes_tokens(entry: Mapping[str, Any]) -> bool:
    architecture = entry.get("architecture")
    outputs = architecture.get("output_modalities") if isinstance(architecture, dict) else None
    return outputs is None or set(outputs) <= {"text", "embeddings", "audio"}


def _overrides(value: object) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("not a list of overrides")
    return value


def _openrouter_rates(
    base: Mapping[str, int], overrides: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[Rate, ...]]:
    """Base prices and long-context tiers. A price that holds at certain hours only is held against every hour."""
    always = {name: amount for name, amount in base.items() if amount}
    tiers: dict[int, dict[str, int]] = {}
    for override in overrides:
        start = int(_number(override.get("min_prompt_tokens", -1)) + 1) if "min_prompt_tokens" in override else 0
        for key, name in _OPENROUTER_TOKENS.items():
            if key in override:
                amount = _per_token(override[key])
                target = always if start == 0 else tiers.setdefault(start, {})
                timed = "utc_start" in override or "utc_end" in override
                target[name] = max(amount, target.get(name, 0)) if timed or start == 0 else amount
    return {
        name: (
            Rate(0, always[name]),
            *(Rate(start, tier[name]) for start, tier in sorted(tiers.items()) if name in tier),
        )
        for name in always
    }


def _number(value: object) -> Decimal:
    """A price's digits. Raises ValueError for what is none, is below 0 or is beyond any price."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError("not a number")
    number = Decimal(value)
    if not number.is_finite() or number < 0 or abs(number.adjusted()) > 40:
        raise ValueError("not a price")
    return number


def _per_token(value: object) -> int:
    """USD per token → nano-USD per million tokens."""
    return _nusd(_number(value).scaleb(6))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
