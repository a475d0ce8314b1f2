"""Model names: one slug names a model everywhere, and here is what each provider calls it and what it can hold.

A model is named by its OpenRouter slug, because OpenRouter is the one route every call has. A name that these
rules do not know goes to OpenRouter as it stands: a wrong guess of a native id would cost a failed attempt on
every call. Rules checked against the providers' model lists in November 2026.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from ownkey.domain.bounds import ModelLimits
from ownkey.domain.pricing import ModelPrice
from ownkey.domain.product import DIRECT_PROVIDERS

UNKNOWN_CONTEXT_TOKENS = 2_097_152
"""The largest window any model list shows (Gemini 1.5 Pro); an unknown model is held at it."""

BATCH_CONTEXT_TOKENS = 16_777_216
"""Embeddings: a model's window bounds each text, not the request. 2,048 texts of 8,192 tokens."""

# Their native names do not follow from the slug: Anthropic's older models have an alias or a date in them.
_ANTHROPIC_NAMES: Mapping[str, str] = {
    "claude-3-haiku": "claude-3-haiku-20240307",
    "claude-3-opus": "claude-3-opus-latest",
    "claude-3.5-haiku": "claude-3-5-haiku-latest",
    "claude-3.5-sonnet": "claude-3-5-sonnet-latest",
    "claude-3.7-sonnet": "claude-3-7-sonnet-latest",
    "claude-opus-4": "claude-opus-4-0",
    "claude-sonnet-4": "claude-sonnet-4-0",
}

_ANTHROPIC_DIRECT = re.compile(r"claude-[a-z]+-\d+(\.\d+)?(-\d{8})?")

# Not served by OpenAI at all (open weights, OpenRouter's own effort variants, image variants), or served on
# `/responses` only (pro, codex, deep research), which the chat route does not speak.
_OPENAI_ROUTER_ONLY = re.compile(r"gpt-oss-.*|.*-high|.*-pro|.*-image(-.*)?|.*codex.*|.*-deep-research|.*:.*")
_OPENAI_DIRECT = re.compile(r"(gpt-|chatgpt-|o\d|text-embedding-).*")

_GOOGLE_DIRECT = re.compile(r"gemini-.*|gemma-.*-it")

_DATED = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")

# A dated model that costs something else than its undated name keeps its date on OpenRouter too.
_DATE_MATTERS = frozenset({"gpt-4o-2024-05-13"})


def split_slug(slug: str) -> tuple[str, str, str]:
    """(author, name, variant) of an OpenRouter slug: "a/b:free" → ("a", "b", "free"). Missing parts are ""."""
    author, slash, rest = slug.partition("/")
    if not slash:
        author, rest = "", slug
    name, _, variant = rest.partition(":")
    return author, name, variant


def direct_provider(slug: str) -> str | None:
    """The provider that makes this model and could serve it directly; None: OpenRouter only."""
    found = native_id(slug, {})
    return found[0] if found else None


def native_id(slug: str, overrides: Mapping[str, Mapping[str, str]]) -> tuple[str, str] | None:
    """(provider, its own id) of a model, or None where only OpenRouter serves it.

    `overrides` is provider → slug → native id, from the configuration; "" means OpenRouter only.
    """
    for provider in DIRECT_PROVIDERS:
        native = overrides.get(provider, {}).get(slug)
        if native is not None:
            return (provider, native) if native else None
    author, name, variant = split_slug(slug)
    if variant or author not in DIRECT_PROVIDERS or not name:
        return None
    derived = _DERIVE[author](name)
    return (author, derived) if derived else None


def _anthropic_id(name: str) -> str | None:
    if name in _ANTHROPIC_NAMES:
        return _ANTHROPIC_NAMES[name]
    return name.replace(".", "-") if _ANTHROPIC_DIRECT.fullmatch(name) else None


def _openai_id(name: str) -> str | None:
    if _OPENAI_ROUTER_ONLY.fullmatch(name) or not _OPENAI_DIRECT.fullmatch(name):
        return None
    return f"{name}-latest" if name.endswith("-chat") else name


def _google_id(name: str) -> str | None:
    return name if _GOOGLE_DIRECT.fullmatch(name) and "-image" not in name else None


_DERIVE = {"anthropic": _anthropic_id, "openai": _openai_id, "google": _google_id}


def normalize_requested(name: str) -> str | None:
    """The slug of a model as a caller named it; None: nobody's model.

    Callers of the official SDKs name a bare native id, maybe dated ("claude-haiku-4-5-20251001") or with a path
    ("models/gemini-2.5-flash"); others name the slug. A slug is not checked against any list.
    """
    name = name.strip()
    provider = _native_provider(name)
    if provider is None:
        author, slash, rest = name.partition("/")
        return name if slash and author and rest else None
    native = name.removeprefix("models/")
    if provider == "anthropic":
        return f"anthropic/{_anthropic_slug(native)}"
    if provider == "openai":
        undated = native if native in _DATE_MATTERS else _DATED.sub("", native)
        return f"openai/{undated.removesuffix('-latest') if undated.endswith('-chat-latest') else undated}"
    return f"google/{native}"


def requested_native(name: str) -> tuple[str, str] | None:
    """(provider, id) where the caller named a native id: its direct route uses exactly that id, date included."""
    name = name.strip()
    provider = _native_provider(name)
    return (provider, name.removeprefix("models/")) if provider else None


def _native_provider(name: str) -> str | None:
    bare = name.removeprefix("models/")
    if "/" in bare or ":" in bare:
        return None
    if bare.startswith("claude-"):
        return "anthropic"
    if bare.startswith(("gemini-", "gemma-")):
        return "google"
    return "openai" if name == bare and _OPENAI_DIRECT.fullmatch(bare) else None


def _anthropic_slug(native: str) -> str:
    name = _DATED.sub("", native).removesuffix("-latest")
    name = re.sub(r"^claude-(\d)-(\d)-", r"claude-\1.\2-", name)
    name = re.sub(r"-(\d+)-0$", r"-\1", name)
    return re.sub(r"-(\d+)-(\d+)$", r"-\1.\2", name)


@dataclass(frozen=True, slots=True)
class _Family:
    """A row of the model table. `image_tokens` is the documented maximum of one image, None where there is none."""

    pattern: re.Pattern[str]
    context_window: int
    max_output_tokens: int
    image_tokens: int | None = None


def _family(pattern: str, context: int, output: int, image: int | None = None) -> _Family:
    return _Family(re.compile(pattern), context, output, image)


# First match wins. Windows err upwards where a longer one can be switched on (Claude's 1M beta). Images:
# - OpenAI, "Images and vision": an image is scaled into 2048 × 768, so at most 8 tiles (base + 8 × tile), or for
#   the small models 1,536 patches × the model's factor. Models the page does not list have no row with a maximum.
# - Anthropic, "Vision": about 1,600 tokens, 4,784 from Opus 4.7 on; held a tenth above, since "about" is no limit.
# - Google, "Media resolution": at most 2,240 from Gemini 3 on; before that an image is cut into any number of tiles.
_FAMILIES: tuple[_Family, ...] = (
    _family(r".*embed.*", BATCH_CONTEXT_TOKENS, 0),
    _family(r"anthropic/claude-3[.-]5.*", 200_000, 8_192, 1_760),
    _family(r"anthropic/claude-3[.-]7.*", 200_000, 128_000, 1_760),
    _family(r"anthropic/claude-3-.*", 200_000, 4_096, 1_760),
    _family(r"anthropic/claude-opus-4([.-][01])?(-\d{8})?", 200_000, 32_000, 1_760),
    _family(r"anthropic/claude-(sonnet-4([.-][0-6])?|haiku-4[.-]5|opus-4[.-]5)(-\d{8})?", 1_000_000, 64_000, 1_760),
    _family(r"anthropic/claude-opus-4[.-]6(-\d{8})?", 1_000_000, 128_000, 1_760),
    _family(r"~?anthropic/claude-.*", 1_000_000, 128_000, 5_263),
    _family(r"openai/gpt-4o-mini.*", 128_000, 16_384, 48_169),
    _family(r"openai/(gpt-4o|chatgpt-4o).*", 128_000, 16_384, 1_445),
    _family(r"openai/gpt-4\.1-nano.*", 1_047_576, 32_768, 3_779),
    _family(r"openai/gpt-4\.1-mini.*", 1_047_576, 32_768, 2_489),
    _family(r"openai/gpt-4\.1.*", 1_047_576, 32_768, 1_445),
    _family(r"openai/gpt-4-turbo.*", 128_000, 4_096, 1_445),
    _family(r"openai/gpt-4(-\d{4})?", 8_192, 8_192),
    _family(r"openai/gpt-3\.5.*", 16_385, 4_096),
    _family(r"openai/gpt-5-nano.*", 400_000, 128_000, 3_779),
    _family(r"openai/gpt-5-mini.*", 400_000, 128_000, 2_489),
    _family(r"openai/gpt-5(-chat.*|-\d{4}.*)?", 400_000, 128_000, 1_190),
    _family(r"openai/o4-mini.*", 200_000, 100_000, 2_642),
    _family(r"openai/o\d.*", 200_000, 100_000, 1_275),
    _family(r"~?openai/gpt-.*", 1_050_000, 128_000),
    _family(r"google/gemini-(2\.0|.*1\.5).*", 2_097_152, 8_192),
    _family(r"google/gemini-2\.5.*", 1_048_576, 65_536),
    _family(r"~?google/gemini-[3-9].*", 1_048_576, 65_536, 2_240),
)

# Tokenizers that never make more tokens than the text has bytes. Byte-level BPE starts from single bytes and only
# merges them: OpenAI's tiktoken, Anthropic's, Llama 3 and later, Qwen, DeepSeek, Mistral's Tekken, GLM, Kimi.
# SentencePiece with byte fallback (Gemini, Gemma, Llama 2, Mistral's older ones) takes pieces of one or more
# characters and falls back to single bytes for what it does not know, so it is at most one token a byte as well;
# its one extra leading piece is inside the margin. Other families are held at their context window.
_BYTE_LEVEL = re.compile(
    r"~?(anthropic|openai|google|meta-llama|qwen|deepseek|mistralai|z-ai|moonshotai)/.*"
)
_NOT_BYTE_LEVEL = re.compile(r"google/(palm|lyria).*")


# They bill reasoning that a chat answer does not show, or shows as a summary: OpenAI's reasoning models (docs,
# "Reasoning"), Gemini's thoughts (docs, "Thinking": on by default from 2.5 on), Grok's; and what a router chooses.
_HIDES_REASONING = re.compile(
    r"~?(openai/(o\d|gpt-[5-9]|gpt-oss|codex).*|google/gemini-(2\.5|[3-9]).*|x-ai/grok-[3-9].*|anthropic/claude-.*:thinking"
    r"|openrouter/.*)"
)


def hides_reasoning(slug: str) -> bool:
    """Whether output may be billed that no reader of the answer sees, so that its bytes bound nothing."""
    return _HIDES_REASONING.fullmatch(slug) is not None


def makes_embeddings(slug: str) -> bool | None:
    """Whether a model makes embeddings and nothing else; None where it is not known."""
    author, name, _ = split_slug(slug)
    family, _ = _look_up(f"{author}/{name}")
    return None if family is None else family.max_output_tokens == 0


@lru_cache(maxsize=4_096)
def _look_up(full: str) -> tuple[_Family | None, bool]:
    """The row of "author/name", and whether its tokenizer is byte-level. Callers choose names, so it is bounded."""
    family = next((row for row in _FAMILIES if row.pattern.fullmatch(full)), None)
    return family, _BYTE_LEVEL.fullmatch(full) is not None and _NOT_BYTE_LEVEL.fullmatch(full) is None


def limits(provider: str, model: str, price: ModelPrice | None) -> ModelLimits:
    """What is known of a model on a route. `model` is the slug, or the provider's own id with a direct `provider`.

    A window that only the price list tells may be rounded down there, so the larger of the two counts.
    """
    author, name, _ = split_slug(model)
    family, byte_level = _look_up(f"{author or provider}/{name}")
    listed_window = price.context_window if price else None
    listed_output = price.max_output_tokens if price else None
    if family is None:
        window = listed_window or UNKNOWN_CONTEXT_TOKENS
        return ModelLimits(window, listed_output or window, byte_level, None)
    window = max(family.context_window, listed_window or 0)
    output = family.max_output_tokens if listed_output is None or not family.max_output_tokens else listed_output
    return ModelLimits(window, output, byte_level, family.image_tokens)
