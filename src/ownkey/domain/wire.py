"""What dialects and providers hand to the gateway and back, as values.

They live below all three, so that an adapter can build them without importing the use case that reads them;
the gateway's own words for the codecs themselves are the protocols in `gateway/codecs.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ownkey.domain.failures import Failure
from ownkey.domain.usage import Usage

Endpoint = Literal["chat", "embeddings", "responses", "messages", "count_tokens"]
"""`chat` and `responses` are OpenAI's ways to ask for an answer, `messages` is Anthropic's; `count_tokens` only
measures a `messages` request and costs nothing."""

ANSWERING: frozenset[Endpoint] = frozenset({"chat", "responses", "messages"})
"""Endpoints that a model answers with text: their answers have an output limit, and may be streamed."""


class BadRequest(Exception):
    """The caller's body cannot be understood. `param` names the field, if there is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(slots=True)
class Seen:
    """What one attempt's answer has shown so far. Mutable: it grows while bytes arrive.

    `content` turns true at the first text, tool-call or reasoning delta (role frames, empty deltas, lifecycle
    events and comments are no content). `complete` turns true when the provider's own mark of a whole answer
    was seen (finish_reason on every choice, message_delta with stop_reason, finishReason …); `ended` when its
    terminator was ([DONE], message_stop, EOF). `failure` is an error found inside the answer: it decides,
    whatever else was seen. `usage` is the last report. `content_bytes` counts bytes of delivered content.
    `refused` turns true when the model or the provider's filter refused inside a good answer: class `policy`,
    passed on as the dialect's own refusal. `sequence_number` is the last one of a stream whose events are numbered:
    an error event of ours goes on from there. `unreported`: the answer is complete, but `usage` is an interim report.
    `took_over` is another model than the one asked for, which the provider let finish the answer: its prices hold.
    """

    content: bool = False
    complete: bool = False
    ended: bool = False
    failure: Failure | None = None
    usage: Usage | None = None
    response_id: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    content_bytes: int = 0
    choices_open: set[int] = field(default_factory=set)
    refused: bool = False
    sequence_number: int | None = None
    unreported: bool = False
    took_over: str | None = None


@dataclass(frozen=True, slots=True)
class Edits:
    """The only fields that change in a body that passes through.

    `model`: the upstream's id for the model. `output_limit`: set where the caller's limit is missing or
    lowered to fit (None: leave as it is). `include_usage`: make sure a stream ends with usage. `max_price`:
    OpenRouter's `provider.max_price` in USD per million tokens, as decimal text (None: leave). `newer_limit`: the
    upstream's model refuses chat's older name of the limit, `max_tokens`, so that it goes out under the newer one.
    """

    model: str
    output_limit: int | None = None
    include_usage: bool = False
    max_price: Mapping[str, str] | None = None
    require_parameters: bool = False
    newer_limit: bool = False


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """Texts or token lists to embed. `encoding` is "float" or "base64"."""

    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None
    encoding: str
    single: bool


@dataclass(frozen=True, slots=True)
class ErrorFields:
    """A refusal as every dialect's envelope needs it; docs/errors.md has the list of codes."""

    status: int
    code: str
    message: str
    fix: str
    fix_url: str | None
    receipt: str | None
    param: str | None = None
    retry_after_s: int | None = None
    resets_at: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)
