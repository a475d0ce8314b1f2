"""The most a request can cost: the bound of a hold, computed before the first upstream byte.

A tokenizer that works on bytes makes no more tokens than there are bytes; everything that is not text is held
at the context window or at the model table's maximum. Too high costs a little headroom for seconds; too low
would cost money, so every doubt is resolved upwards.
"""

from dataclasses import dataclass

from ownkey.domain.money import TOKENS_PER_MILLION, ceil_div
from ownkey.domain.pricing import ModelPrice

INPUT_MARGIN_TOKENS = 1_024
DEFAULT_OUTPUT_TOKENS = 4_096
MIN_OUTPUT_TOKENS = 256


@dataclass(frozen=True, slots=True)
class RequestShape:
    """What the bound needs to know of a request, as its dialect read it.

    `text_bytes`: raw body length if it is ASCII without `\\u` escapes, else the larger of the raw length and the
    UTF-8 length of the decoded text in NFKC. `image_bytes` is how many of those bytes are inline image data.
    `beyond_text` names the parts whose tokens cannot be told from the body (file ids, audio, documents, stored
    conversations). `output_limit` is the caller's own limit; `answers` is n × best_of. `unboundable` names what
    has no priced maximum (server tools, plugins, fields off the allow-list). `fallback_models` are the caller's
    further models (OpenRouter's `models`). `effort` is the requested reasoning effort.
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
    text = max(0, shape.text_bytes - shape.image_bytes)
    return min(limits.context_window, text + INPUT_MARGIN_TOKENS + images)


def estimate_output_limit(shape: RequestShape, task_limit: int | None, limits: ModelLimits) -> int:
    """`out_ub`: the caller's limit, else the task's, else 4,096; at most the model's. Always sent upstream."""
    wanted = shape.output_limit if shape.output_limit is not None else task_limit or DEFAULT_OUTPUT_TOKENS
    return max(1, min(wanted, limits.max_output_tokens))


def plan_terms(
    shape: RequestShape,
    price: ModelPrice,
    limits: ModelLimits,
    *,
    output_limit: int,
    min_output: int,
    openrouter: bool,
) -> Terms | None:
    """The terms of an attempt's bound at the dearest prices the request can reach; None: no price."""
    in_rate = max(
        (r for r in (price.dearest(d) for d in ("input", "cache_write_5m", "cache_write_1h", "audio_input"))
         if r is not None),
        default=None,
    )
    out_rate = max(
        (r for r in (price.dearest(d) for d in ("output", "reasoning")) if r is not None), default=None
    )
    if price.free:
        in_rate, out_rate = in_rate or 0, out_rate or 0
    if in_rate is None:
        return None
    if out_rate is None:
        if output_limit:
            return None
        out_rate = 0
    return Terms(
        input_npm=estimate_input_tokens(shape, limits) * in_rate,
        output_npm_per_token=shape.answers * out_rate,
        factor=(105, 100) if openrouter else (1, 1),
        extra_nusd=price.units.get("request", 0),
        output_limit=output_limit,
        min_output=min(min_output, output_limit),
    )
