"""The deployment's models in the three shapes that clients read: OpenAI's, Anthropic's and OpenRouter's.

What a model costs is told by the price book that holds are made with; what it can do, by OpenRouter's own list where
that was read.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from ownkey.domain.models import split_slug
from ownkey.domain.money import NUSD_PER_USD, TOKENS_PER_MILLION, format_usd
from ownkey.domain.pricing import CONFIGURED, OPERATOR, ModelPrice, PriceBook
from ownkey.domain.product import Product
from ownkey.domain.refusals import Code, Refusal, Refused

CREATED_S: Final = 1_735_689_600

_FAMILIES: Final[Mapping[str, str]] = {
    "openai": "GPT", "anthropic": "Claude", "google": "Gemini", "x-ai": "Grok", "cohere": "Cohere", "amazon": "Nova",
    "qwen": "Qwen", "deepseek": "DeepSeek", "mistralai": "Mistral",
}
_TOKEN_PRICES: Final = (
    ("input", "prompt"), ("output", "completion"), ("cache_read", "input_cache_read"),
    ("cache_write_5m", "input_cache_write"), ("cache_write_1h", "input_cache_write_1h"),
    ("reasoning", "internal_reasoning"), ("audio_input", "audio"), ("audio_output", "audio_output"),
)
_TIERED: Final = frozenset({
    "prompt", "completion", "input_cache_read", "input_cache_write", "input_cache_write_1h", "audio",
})
_PIECES: Final = ("request", "image", "web_search")

# What every chat model takes; more is claimed only where OpenRouter's list says so.
_SURE_PARAMETERS: Final = ("max_tokens", "stop", "temperature", "top_p")


def model_names(product: Product) -> list[str]:
    """`task:<name>` entries, then the models that tasks name."""
    slugs = sorted({slug for task in product.tasks.values() for slug in task.models})
    return [*(f"task:{name}" for name in product.tasks), *slugs]


def openai_models(product: Product) -> list[dict[str, Any]]:
    """The deployment's models and `task:<name>` entries, in OpenAI's shape."""
    return [
        {"id": name, "object": "model", "created": CREATED_S,
         "owned_by": name.split("/")[0] if "/" in name else "ownkey"}
        for name in model_names(product)
    ]


def anthropic_models(product: Product) -> list[dict[str, Any]]:
    """The same in Anthropic's shape, tasks by their titles. Embeddings are left out: that API has none."""
    at = datetime.fromtimestamp(CREATED_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    chat = {slug for task in product.tasks.values() if task.endpoint == "chat" for slug in task.models}
    names = {f"task:{task.name}": task.title for task in product.tasks.values() if task.endpoint == "chat"}
    names |= {slug: slug for slug in sorted(chat)}
    return [
        {"type": "model", "id": name, "display_name": title, "created_at": at} for name, title in names.items()
    ]


def openrouter_models(
    product: Product, book: PriceBook, public: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Slug → entry in OpenRouter's shape, sorted: what OpenRouter lists, and the product's own models and prices.

    Where its list could not be read, whatever the price book knows: that may be a model that is no longer served.
    """
    vectors = {slug for task in product.tasks.values() if task.endpoint == "embeddings" for slug in task.models}
    priced = {model: price for (provider, model), price in book.prices.items() if provider == "openrouter"}
    own = {slug for task in product.tasks.values() for slug in task.models}
    own |= {slug for slug, price in priced.items() if price.source in (OPERATOR, CONFIGURED)}
    return {
        slug: _entry(slug, priced.get(slug), public.get(slug), slug in vectors)
        for slug in sorted({*public, *own} if public else {*priced, *own})
    }


def _entry(
    slug: str, price: ModelPrice | None, public: Mapping[str, Any] | None, makes_vectors: bool
) -> dict[str, Any]:
    made = _plain_entry(slug, price, makes_vectors)
    made |= {name: value for name, value in (public or {}).items() if _fits(made.get(name), value)}
    if price is not None and (public is None or price.source in (OPERATOR, CONFIGURED)):
        made["pricing"] = openrouter_pricing(price)
    made["links"] = {"details": f"/api/v1/models/{slug}/endpoints"}
    return made


def _fits(ours: object, theirs: object) -> bool:
    """Whether their field can take the place of ours: a text for a text, an object for an object."""
    return not isinstance(ours, str | list | dict) or isinstance(theirs, type(ours))


def _plain_entry(slug: str, price: ModelPrice | None, makes_vectors: bool) -> dict[str, Any]:
    """What can be said of a model without OpenRouter's list."""
    author = split_slug(slug)[0]
    vectors = makes_vectors or "embedding" in slug
    output = "embeddings" if vectors else "text"
    context = None if price is None else price.context_window
    return {
        "id": slug, "canonical_slug": slug, "hugging_face_id": None, "name": slug, "created": CREATED_S,
        "description": "", "context_length": context,
        "architecture": {
            "modality": f"text->{output}", "input_modalities": ["text"], "output_modalities": [output],
            "tokenizer": _FAMILIES.get(author, "Other"), "instruct_type": None,
        },
        # OpenRouter's own sign for a price that cannot be told beforehand.
        "pricing": {"prompt": "-1", "completion": "-1"} if price is None else openrouter_pricing(price),
        "top_provider": {
            "context_length": context, "max_completion_tokens": None if price is None else price.max_output_tokens,
            "is_moderated": False,
        },
        "per_request_limits": None, "supported_parameters": [] if vectors else list(_SURE_PARAMETERS),
        "default_parameters": {}, "supported_voices": None, "knowledge_cutoff": None, "expiration_date": None,
    }


def openrouter_pricing(price: ModelPrice) -> dict[str, Any]:
    """A price as OpenRouter writes it: USD per token, per request and per image, as decimal digits."""
    pricing: dict[str, Any] = {"prompt": "0", "completion": "0"}
    overrides: dict[int, dict[str, Any]] = {}
    for dimension, name in _TOKEN_PRICES:
        for tier in price.rates.get(dimension, ()):
            if tier.min_input_tokens == 0:
                pricing[name] = per_token(tier.nusd_per_million)
            elif name in _TIERED:
                # Their tiers begin above the stated size, ours at it.
                start = tier.min_input_tokens - 1
                overrides.setdefault(start, {"min_prompt_tokens": start})[name] = per_token(tier.nusd_per_million)
    pricing |= {name: _plain(format_usd(price.units[name])) for name in _PIECES if name in price.units}
    if overrides:
        pricing["overrides"] = [overrides[start] for start in sorted(overrides)]
    return pricing


def per_token(nusd_per_million: int) -> str:
    """USD per token as decimal digits, exact."""
    whole, rest = divmod(nusd_per_million, NUSD_PER_USD * TOKENS_PER_MILLION)
    return _plain(f"{whole}.{rest:015d}")


def _plain(digits: str) -> str:
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def show_models(listed: list[dict[str, Any]], path: str, query: bytes, *, paged: bool) -> dict[str, Any]:
    """`/v1/models` and `/v1/models/{id}`; `paged`: as Anthropic's lists are. Raises Refused."""
    wanted = path.removeprefix("/v1/models").removeprefix("/")
    if wanted:
        for model in listed:
            if model["id"] == wanted:
                return model
        raise _unknown_model(wanted)
    return _page(listed, query) if paged else {"object": "list", "data": listed}


def _page(listed: list[dict[str, Any]], query: bytes) -> dict[str, Any]:
    """One page behind `after_id` or before `before_id`, 20 models unless `limit` says otherwise (1 to 1000)."""
    asked = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    text, after, before = asked.get("limit", "20"), asked.get("after_id"), asked.get("before_id")
    limit = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0
    if not 1 <= limit <= 1_000:
        raise Refused(Refusal(
            Code.BAD_REQUEST, "limit must be a whole number from 1 to 1000.", "Correct it, or leave it out.",
            param="limit",
        ))
    ids = [entry["id"] for entry in listed]
    for mark in (after, before):
        if mark is not None and mark not in ids:
            raise _unknown_model(mark)
    start = 0 if after is None else ids.index(after) + 1
    end = len(ids) if before is None else ids.index(before)
    found = listed[start:end]
    page = found[-limit:] if before is not None and after is None else found[:limit]
    return {
        "data": page, "has_more": len(found) > len(page), "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def _unknown_model(name: str) -> Refused:
    return Refused(Refusal(
        Code.UNKNOWN_MODEL, f"The model {name[:80]!r} is not listed here.", "GET /v1/models lists the models.",
        param="model",
    ))
