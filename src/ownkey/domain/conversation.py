"""The neutral form between dialects: what was asked, and what came back, owned by no provider.

A request is decoded into ChatRequest only when the caller's dialect is not the upstream's; otherwise its bytes
pass through. An answer, whole or streamed, is a sequence of the same events, so one codec serves both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from ownkey.domain.failures import Failure
from ownkey.domain.usage import Usage


class Untranslatable(Exception):
    """A request's part that this route cannot carry. `what` names the parameter as the caller wrote it."""

    def __init__(self, what: str, why: str = "") -> None:
        super().__init__(f"{what}: {why}" if why else what)
        self.what = what
        self.why = why


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    cache_control: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """An image: inline (`media_type` and base64 `data`) or by `url`; exactly one of `data`, `url` is set."""

    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    detail: str | None = None
    cache_control: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A file given inline: base64 `data` with its media type and name."""

    media_type: str
    data: str
    filename: str | None = None
    cache_control: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Audio:
    """Inline audio: base64 `data`, `format` as in the chat dialect ("wav", "mp3")."""

    format: str
    data: str


@dataclass(frozen=True, slots=True)
class Refusal:
    text: str


Part = Text | Image | Document | Audio | Refusal


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model asked for; `arguments` is the JSON text as produced (maybe empty, maybe broken)."""

    id: str
    name: str
    arguments: str
    cache_control: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `reasoning_details` keeps OpenRouter's shape ({"type": "reasoning.text", "text", "signature", …}),
    which carries thought signatures through a stateless client. `tool_call_id` is set on role "tool"; there
    `is_error` says that the tool failed, and that its content tells why.
    """

    role: Literal["system", "user", "assistant", "tool"]
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_details: tuple[Mapping[str, Any], ...] = ()
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str | None
    parameters: Mapping[str, Any] | None
    strict: bool | None = None
    cache_control: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    mode: Literal["auto", "none", "required", "named"]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """`schema` None means any JSON object."""

    schema: Mapping[str, Any] | None = None
    name: str | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to continue. None means "the caller said nothing", never a default of ours.

    `rest` holds what has no neutral form: parameter name → raw value. A codec either carries an entry, or
    raises Untranslatable for it; hints (user, metadata, store, …) may be left behind and are then named on
    the receipt.
    """

    messages: tuple[Message, ...]
    stream: bool = False
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    json_format: JsonFormat | None = None
    reasoning_effort: str | None = None
    reasoning_max_tokens: int | None = None
    rest: Mapping[str, Any] = field(default_factory=dict)


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class Started:
    """The provider's id and the model that answers."""

    id: str
    model: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of visible reasoning; `details` are the same pieces in OpenRouter's reasoning_details shape,
    signatures and redacted blocks included (then `text` may be empty)."""

    text: str
    details: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    index: int
    id: str
    name: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    index: int
    arguments: str


@dataclass(frozen=True, slots=True)
class Annotations:
    """Citations and the like, in the chat dialect's `annotations` shape."""

    items: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of an embeddings call, in the order of its inputs: no part of a conversation."""

    vectors: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class UsageReport:
    usage: Usage


@dataclass(frozen=True, slots=True)
class Finished:
    reason: FinishReason
    native_reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The provider said, inside its answer, that it failed."""

    failure: Failure


Event = (
    Started
    | TextDelta
    | RefusalDelta
    | ReasoningDelta
    | ToolCallStart
    | ToolCallDelta
    | Annotations
    | Embedded
    | UsageReport
    | Finished
    | Failed
)
