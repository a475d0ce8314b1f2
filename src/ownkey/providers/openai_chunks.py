"""The parts of a chat-completions answer that Ownkey reads, as one typed decode per chunk or body.

Whatever is not named here is skipped by the decoder without becoming an object. Scalars are `Any` because a
provider's odd type in a field of no consequence must not fail a good answer.
"""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from ownkey.domain.usage import Usage
from ownkey.providers.reported_cost import reported_cost_nusd

# No model reads or writes so much in one call: a larger count is a broken report, not a bill.
MAX_TOKENS = 1_000_000_000

NOTHING = msgspec.Raw()

_RESPONSES_NAMES = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "prompt_tokens_details": "input_tokens_details",
    "completion_tokens_details": "output_tokens_details",
}


class Function(msgspec.Struct, gc=False):
    name: Any = None
    arguments: Any = None


class Custom(msgspec.Struct, gc=False):
    name: Any = None
    input: Any = None


class ToolDelta(msgspec.Struct, gc=False):
    index: Any = None
    id: Any = None
    function: Function | None = None
    custom: Custom | None = None

    @property
    def name(self) -> Any:
        return self.function.name if self.function else self.custom.name if self.custom else None

    @property
    def arguments(self) -> Any:
        """A function's JSON, or a custom tool's free text."""
        return self.function.arguments if self.function else self.custom.input if self.custom else None


class Delta(msgspec.Struct, gc=False):
    """A stream's `delta` or a body's `message`: the same fields."""

    content: Any = None
    tool_calls: list[ToolDelta] | None = None
    reasoning: Any = None
    reasoning_content: Any = None
    reasoning_details: msgspec.Raw = NOTHING
    refusal: Any = None
    function_call: Function | None = None
    annotations: msgspec.Raw = NOTHING
    audio: msgspec.Raw = NOTHING
    images: msgspec.Raw = NOTHING


class Choice(msgspec.Struct, gc=False):
    index: Any = 0
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: Any = None
    native_finish_reason: Any = None
    finish_details: Any = None
    error: msgspec.Raw = NOTHING


class Chunk(msgspec.Struct, gc=False):
    """A chunk of a stream, or a whole body."""

    id: Any = None
    model: Any = None
    choices: list[Choice] | None = None
    usage: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING


class EmbeddingsBody(msgspec.Struct, gc=False):
    """A whole embeddings body; `data` stays text, however many floats it holds."""

    id: Any = None
    model: Any = None
    data: msgspec.Raw = NOTHING
    usage: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: Any = None
    cache_write_tokens: Any = None
    audio_tokens: Any = None
    cached_tokens_details: Any = None


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Any = None
    audio_tokens: Any = None


class _CostDetails(msgspec.Struct, gc=False):
    upstream_inference_cost: msgspec.Raw = NOTHING


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: Any = None
    completion_tokens: Any = None
    total_tokens: Any = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    cost: msgspec.Raw = NOTHING
    cost_details: _CostDetails | None = None
    is_byok: Any = None


class _ResponsesUsage(msgspec.Struct, gc=False, rename=_RESPONSES_NAMES.get):
    """The same counts under the names of `/responses`."""

    prompt_tokens: Any = None
    completion_tokens: Any = None
    total_tokens: Any = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    cost: msgspec.Raw = NOTHING
    cost_details: _CostDetails | None = None
    is_byok: Any = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
decode_embeddings = msgspec.json.Decoder(EmbeddingsBody).decode
_decode_usage = msgspec.json.Decoder(_Usage).decode
_decode_responses_usage = msgspec.json.Decoder(_ResponsesUsage).decode


def says_something(raw: msgspec.Raw) -> bool:
    """Whether a field left undecoded is there and neither null nor empty."""
    if raw is NOTHING:
        return False
    size = memoryview(raw).nbytes
    return size > 4 or (size > 2 and bytes(raw) != b"null")


def read_usage(raw: msgspec.Raw) -> Usage | None:
    """Usage in disjoint classes; None where nothing usable is reported.

    A missing, negative or absurd count makes the whole report unusable: unknown is not zero, and the caller of
    this function estimates. Costs are read from their digits.
    """
    return _read_report(raw, _decode_usage)


def read_responses_usage(raw: msgspec.Raw) -> Usage | None:
    """The same for a report of `/responses`."""
    return _read_report(raw, _decode_responses_usage)


def _read_report(
    raw: msgspec.Raw, decode: Callable[[msgspec.Raw], _Usage] | Callable[[msgspec.Raw], _ResponsesUsage]
) -> Usage | None:
    if not says_something(raw):
        return None
    try:
        usage = decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    prompt = _count(usage.prompt_tokens)
    completion = _count(usage.completion_tokens)
    if prompt is None:
        return None
    if completion is None:  # Embeddings have none.
        if usage.completion_tokens is not None:
            return None
        completion = 0
    given = usage.prompt_tokens_details or _PromptDetails()
    cached = _part(given.cached_tokens, prompt)
    written = _part(given.cache_write_tokens, prompt - cached)
    heard = _part(given.audio_tokens, prompt - written)
    replayed = _cached_audio(given, heard, cached, prompt - written)
    made = usage.completion_tokens_details or _CompletionDetails()
    reasoning = _count(made.reasoning_tokens) or 0
    if reasoning and _count(usage.total_tokens) == prompt + completion + reasoning:
        completion += reasoning  # A host that counts thoughts beside the answer says so in its total.
    reasoning = min(reasoning, completion)
    spoken = _part(made.audio_tokens, completion - reasoning)
    return Usage(
        input=prompt - cached - written - (heard - replayed),
        cache_read=cached - replayed,
        cache_write_5m=written,
        output=completion - reasoning - spoken,
        reasoning=reasoning,
        audio_input=heard - replayed,
        audio_output=spoken,
        audio_cache_read=replayed,
        cost_nusd=_cost_nusd(usage),
        is_byok=usage.is_byok is True,
    )


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def _part(value: object, whole: int) -> int:
    """A count that is part of `whole`: never more than it."""
    return min(_count(value) or 0, whole)


def _cached_audio(given: _PromptDetails, heard: int, cached: int, read: int) -> int:
    """How much of the sound came from the cache: as stated, and at least what would not fit beside it."""
    details = given.cached_tokens_details
    stated = details.get("audio_tokens") if isinstance(details, dict) else None
    return max(_part(stated, min(heard, cached)), heard + cached - read, 0)


def _cost_nusd(usage: _Usage | _ResponsesUsage) -> int | None:
    upstream = _digits(usage.cost_details.upstream_inference_cost) if usage.cost_details else None
    return reported_cost_nusd(_digits(usage.cost), is_byok=usage.is_byok is True, upstream=upstream)


def _digits(raw: msgspec.Raw) -> Decimal | None:
    try:
        return Decimal(bytes(raw).decode("ascii").strip('"'))
    except (InvalidOperation, UnicodeDecodeError):
        return None
