"""The most a request can cost: the bound of a hold, computed before the first upstream byte.

A tokenizer that works on bytes makes no more tokens than there are bytes; everything that is not text is held
at the context window or at the model table's maximum. Too high costs a little headroom for seconds; too low
would cost money, so every doubt is resolved upwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ownkey.domain.money import TOKENS_PER_MILLION, ceil_div
from ownkey.domain.pricing import ModelPrice

INPUT_MARGIN_TOKENS = 1_024
"""For what providers add themselves: with tools Anthropic adds a prompt of up to 804 tokens (docs, "Tool use")."""

EMBEDDING_MARGIN_TOKENS = 64
"""A text that is embedded is not wrapped into a conversation: at most its two ends are marked, which the quotes
around each text have paid for."""

DEFAULT_OUTPUT_TOKENS = 4_096
MIN_OUTPUT_TOKENS = 256


@dataclass(frozen=True, slots=True)
class RequestShape:
    """What the bound needs to know of a request, as its dialect read it.

    `text_bytes`: raw body length if it is ASCII without `\\u` escapes, else the larger of the raw length and the
    UTF-8 length of the decoded text in NFKC. `image_bytes` is how many of those bytes are inline image data,
    `silent_bytes` how many are settings that no model reads, or the object around them. `embeds`: nothing is added
    around the text.
    `beyond_text` names the parts whose tokens cannot be told from the body (file ids, audio, documents, stored
    conversations). `output_limit` is the caller's own limit; `answers` is n × best_of. `unboundable` names what
    has no priced maximum (server tools, plugins, fields off the allow-list). `fallback_models` are the caller's
    further models (OpenRouter's `models`). `cache_writes` is the longest cache lifetime that the request asks for
    (Anthropic's `cache_control`, with its `ttl`): a dialect that sees no such request says "none", and only then
    the price of a cache write is left out.
    """

    text_bytes: int
    image_count: int = 0
    image_bytes: int = 0
    beyond_text: tuple[str, ...] = ()
    output_limit: int | None = None
    answers: int = 1
    unboundable: tuple[str, ...] = ()
    fallback_models: tuple[str, ...] = ()
    service_tier: str | None = None
    cache_writes: Literal["none", "5m", "1h"] = "1h"
    silent_bytes: int = 0
    embeds: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """A bound as a function of the output limit, so that a limit can be lowered to what still fits.

    All `_npm` values are tokens × nano-USD per million. `factor` is (numerator, denominator): OpenRouter adds up
    to 5% for provider keys kept inside it. `extra_nusd` is media, request and tool fees.
    """

    input_npm: int
    output_npm_per_token: int
    factor: tuple[int, int]
    extra_nusd: int
    output_limit: int
    min_output: int

    def bound_nusd(self, output_limit: int) -> int:
        """The most the attempt can cost with this output limit."""
        numerator, denominator = self.factor
        npm = self.input_npm + output_limit * self.output_npm_per_token
        return ceil_div(npm * numerator, denominator * TOKENS_PER_MILLION) + self.extra_nusd

    def fit(self, room_nusd: int) -> int | None:
        """The largest output limit in [min_output, output_limit] whose bound is at most `room_nusd`."""
        if self.bound_nusd(self.output_limit) <= room_nusd:
            return self.output_limit
        if self.output_npm_per_token == 0 or self.bound_nusd(self.min_output) > room_nusd:
            return None
        numerator, denominator = self.factor
        npm = (room_nusd - self.extra_nusd) * denominator * TOKENS_PER_MILLION // numerator
        return min(self.output_limit, (npm - self.input_npm) // self.output_npm_per_token)


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What the model table says: windows in tokens; `byte_level` marks tokenizers that never make more tokens
    than bytes; `image_tokens` is the most one image can cost, None if unknown."""

    context_window: int
    max_output_tokens: int
    byte_level: bool
    image_tokens: int | None


def estimate_input_tokens(shape: RequestShape, limits: ModelLimits) -> int:
    """`in_ub`: the most input tokens the provider can bill for this request."""
    if not limits.byte_level or shape.beyond_text:
        return limits.context_window
    if shape.image_count and limits.image_tokens is None:
        return limits.context_window
    images = shape.image_count * (limits.image_tokens or 0)
    text = max(0, shape.text_bytes - shape.image_bytes - shape.silent_bytes)
    margin = EMBEDDING_MARGIN_TOKENS if shape.embeds else INPUT_MARGIN_TOKENS
    return min(limits.context_window, text + margin + images)


def estimate_output_limit(shape: RequestShape, task_limit: int | None, limits: ModelLimits) -> int:
    """`out_ub`: the caller's limit, else the task's, else 4,096; at most the model's. Always sent upstream.

    0 for a model that writes nothing (embeddings). Reasoning is inside the limit on every route we serve.
    """
    wanted = shape.output_limit if shape.output_limit is not None else task_limit or DEFAULT_OUTPUT_TOKENS
    return min(max(1, wanted), limits.max_output_tokens)


# Makers whose hosts write a cache only when the request says so. OpenAI's newer models write one by themselves, and
# of others we do not know.
_WRITES_ON_REQUEST = ("claude", "gemini", "qwen")


def plan_terms(
    shape: RequestShape,
    price: ModelPrice,
    limits: ModelLimits,
    *,
    output_limit: int,
    min_output: int,
    openrouter: bool,
) -> Terms | None:
    """The terms of an attempt's bound at the dearest prices the request can reach; None: no price.

    They are one model's: where the request itself names fallback models, take `dearest_terms` of all of them.
    """
    at_tier = price.at_service_tier(shape.service_tier)
    if at_tier is None:
        return None
    input_tokens = estimate_input_tokens(shape, limits)
    dimensions = ["input", "cache_read", *_cache_writes(shape, at_tier)]
    if shape.beyond_text:
        dimensions += ["audio_input", "audio_cache_read"]
    input_rate = _dearest(at_tier, dimensions, input_tokens)
    output_rate = _dearest(at_tier, ["output", "reasoning", "audio_output"], input_tokens)
    if price.free:
        input_rate, output_rate = input_rate or 0, output_rate or 0
    if input_rate is None or (output_rate is None and output_limit):
        return None
    return Terms(
        input_npm=input_tokens * input_rate,
        output_npm_per_token=shape.answers * (output_rate or 0),
        factor=(105, 100) if openrouter else (1, 1),
        extra_nusd=price.units.get("request", 0) + shape.image_count * price.units.get("image", 0),
        output_limit=output_limit,
        min_output=min(min_output, output_limit),
    )


def dearest_terms(terms: Sequence[Terms]) -> Terms:
    """Terms whose bound covers each of `terms`: any of several models may answer. Their factors are one."""
    assert len({one.factor for one in terms}) == 1
    return Terms(
        input_npm=max(one.input_npm for one in terms),
        output_npm_per_token=max(one.output_npm_per_token for one in terms),
        factor=terms[0].factor,
        extra_nusd=max(one.extra_nusd for one in terms),
        output_limit=max(one.output_limit for one in terms),
        min_output=min(one.min_output for one in terms),
    )


def _dearest(price: ModelPrice, dimensions: Sequence[str], input_tokens: int) -> int | None:
    rates = [price.dearest(dimension, input_tokens) for dimension in dimensions]
    return max((rate for rate in rates if rate is not None), default=None)


def _cache_writes(shape: RequestShape, price: ModelPrice) -> tuple[str, ...]:
    if shape.cache_writes == "1h":
        return ("cache_write_5m", "cache_write_1h")
    on_request = any(maker in price.model for maker in _WRITES_ON_REQUEST)
    return () if shape.cache_writes == "none" and on_request else ("cache_write_5m",)
