"""Anthropic's answers, streamed or whole, as neutral events.

A whole answer is read by the very code that reads a stream: each of its blocks is opened and closed at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ownkey.domain.conversation import (
    Annotations,
    Event,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReport,
)
from ownkey.providers.anthropic.encode import REASONING_FORMAT
from ownkey.providers.anthropic.usage import read_report, took_over, usage_of
from ownkey.providers.classify import UNREADABLE, read_error_object
from ownkey.providers.sse import SseFrame
from ownkey.providers.translated import AnswerReader, Judge, broken

_FINISH: Mapping[str, FinishReason] = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "pause_turn": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
    # The provider closed a context that grew too long; the answer goes on in the next turn, as after `pause_turn`.
    "compaction": FinishReason.STOP,
}

_KNOWN = frozenset(
    {
        "content_block_delta", "content_block_start", "content_block_stop", "error", "message_delta",
        "message_start", "message_stop", "ping",
    }
)  # fmt: skip


_NOTHING = msgspec.Raw()


class _Message(msgspec.Struct):
    id: str = ""
    model: str = ""
    usage: msgspec.Raw = _NOTHING
    content: list[dict[str, Any]] = []
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None


class _WireEvent(msgspec.Struct):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: dict[str, Any] | None = None
    delta: dict[str, Any] | None = None
    usage: msgspec.Raw = _NOTHING


class _Whole(_Message):
    type: str = ""
    error: Any = None


class _Typed(msgspec.Struct):
    type: str


_EVENTS = msgspec.json.Decoder(_WireEvent)
_TYPES = msgspec.json.Decoder(_Typed)
_WHOLE = msgspec.json.Decoder(_Whole)


@dataclass(slots=True)
class _Block:
    """An open content block. `tool` is its index among the tool calls, `thought` among the thoughts; `start` is
    where its text begins."""

    type: str
    tool: int | None = None
    thought: int = 0
    given_input: Any = None
    wrote: bool = False
    start: int = 0
    citations: list[Mapping[str, Any]] = field(default_factory=list)


class MessagesReader(AnswerReader):
    """Reads one stream of the Messages API. `judge` reads an error inside an answer as its provider means it."""

    def __init__(self, judge: Judge) -> None:
        super().__init__(judge)
        self._opening: Started | None = None
        self._blocks: dict[int, _Block] = {}
        self._usage: dict[str, Any] = {}
        self._has_last_report = False
        self._started = False
        self._tool_count = 0
        self._thought_count = 0
        self._text_length = 0

    def read_frame(self, frame: SseFrame) -> Sequence[Event]:
        """The events of one frame. The cut tail of an answer that is whole already takes nothing from it."""
        if frame.data is None:
            return self._read_bare(frame)
        if frame.data == b"[DONE]":
            # OpenRouter's own end; it makes nothing whole that is not.
            return self._fail_or_ignore(broken("stream ended early"))
        try:
            event = _EVENTS.decode(frame.data)
        except UNREADABLE:
            if _is_of_another_type(frame.data):
                return ()
            return self._fail_or_ignore(broken("stream cut" if frame.partial else "malformed event"))
        if event.type == "error":
            return self._named(self._fail(self._judge(read_error_object(frame.data))))
        return self._named(self._read(event))

    def read_whole(self, body: bytes) -> Sequence[Event]:
        """The events of a whole answer."""
        try:
            whole = _WHOLE.decode(body)
        except UNREADABLE:
            return self._fail(broken("malformed body"))
        if whole.type == "error" or whole.error is not None:
            return self._fail(self._judge(read_error_object(body)))
        if whole.type != "message" or whole.stop_reason is None:
            return self._fail(broken("body without an answer"))
        events = self._named(self._start(whole))
        self.seen.ended = True
        return events

    def _read(self, event: _WireEvent) -> Sequence[Event]:
        match event.type:
            case "content_block_delta":
                return self._delta(event.index, event.delta or {})
            case "content_block_start":
                return self._open(event.index, event.content_block or {})
            case "content_block_stop":
                return self._close(event.index)
            case "message_start":
                return self._start(event.message or _Message())
            case "message_delta":
                return self._finish(event.delta or {}, event.usage)
            case "message_stop":
                return (*self._report_late(event.usage), *self._end())
            case _:
                return ()

    def _named(self, events: Sequence[Event]) -> Sequence[Event]:
        """The start of an answer is told with its first piece: only then it is known which model answers."""
        if not events or self._opening is None:
            return events
        started = Started(self._opening.id, self.seen.model or self._opening.model)
        self._opening = None
        return (started, *events)

    def _end(self) -> Sequence[Event]:
        self.seen.ended = self.seen.complete
        return () if self.seen.complete else self._fail(broken("stream ended early"))

    def _start(self, message: _Message) -> Sequence[Event]:
        """A second start before any content repeats the first; after content it is another answer spliced in,
        whose blocks would be taken for parts of the one before."""
        if self._started and (self._blocks or self.seen.content):
            return self._fail(broken("answer restarted"))
        if not self._started:
            self._started = True
            self._opening = Started(message.id, message.model)
        self.seen.response_id = message.id or None
        self.seen.model = message.model or None
        self._usage = {}
        self._report(message.usage, final=message.stop_reason is not None)
        events: list[Event] = []
        # An answer that continues the provider's own tool loop may come whole in its first event.
        for position, block in enumerate(message.content):
            events += self._open(position, block)
            events += self._close(position)
        if message.stop_reason is not None:
            details = {"stop_reason": message.stop_reason, "stop_details": message.stop_details}
            events += self._finish(details, _NOTHING)
        return events

    def _open(self, index: int, block: dict[str, Any]) -> Sequence[Event]:
        kind = str(block.get("type"))
        opened = self._blocks[index] = _Block(kind, start=self._text_length)
        match kind:
            case "text":
                cited = block.get("citations")
                cited = cited if isinstance(cited, list) else []
                opened.citations = [_annotation(item) for item in cited if _has_url(item)]
                return self._text(_string(block, "text"))
            case "thinking":
                opened.thought = self._next_thought()
                return (
                    *self._thought(opened, _string(block, "thinking")),
                    *self._signed(opened, _string(block, "signature")),
                )
            case "redacted_thinking":
                self._saw(_string(block, "data"))
                opened.thought = self._next_thought()
                detail = {"type": "reasoning.encrypted", "data": _string(block, "data"), "index": opened.thought}
                return (ReasoningDelta("", (detail | {"format": REASONING_FORMAT},)),)
            case "tool_use":
                opened.tool = self._tool_count
                opened.given_input = block.get("input")
                self._tool_count += 1
                self.seen.content = True
                return (ToolCallStart(opened.tool, _string(block, "id"), _string(block, "name")),)
            case "fallback":
                # Another model answers from here on, and is what the answer costs.
                served = block.get("to")
                self._hand_over(_string(served, "model") if isinstance(served, dict) else None)
                return ()
            case _:
                # Server tools and their results are the provider's own business; the text quotes them.
                return ()

    def _delta(self, index: int, delta: dict[str, Any]) -> Sequence[Event]:
        block = self._blocks.get(index)
        if block is None:
            return self._fail(broken("delta without a block"))
        match delta.get("type"):
            case "text_delta":
                return self._text(_string(delta, "text"))
            case "input_json_delta" if block.tool is not None:
                piece = _string(delta, "partial_json")
                if not piece:
                    return ()
                block.wrote = True
                self._saw(piece)
                return (ToolCallDelta(block.tool, piece),)
            case "thinking_delta":
                return self._thought(block, _string(delta, "thinking"))
            case "signature_delta":
                return self._signed(block, _string(delta, "signature"))
            case "citations_delta" if _has_url(delta.get("citation")):
                block.citations.append(_annotation(delta["citation"]))
                return ()
            case _:
                return ()

    def _close(self, index: int) -> Sequence[Event]:
        block = self._blocks.get(index)
        if block is None:
            return ()
        if block.tool is not None and not block.wrote:
            # A call without arguments streams none; JSON clients need the empty object.
            block.wrote = True
            text = msgspec.json.encode(block.given_input or {}).decode()
            self._saw(text)
            return (ToolCallDelta(block.tool, text),)
        if block.citations:
            span = {"start_index": block.start, "end_index": self._text_length}
            items = tuple({"type": "url_citation", "url_citation": {**item, **span}} for item in block.citations)
            block.citations = []
            return (Annotations(items),)
        return ()

    def _hand_over(self, model: str | None) -> None:
        if model:
            self.seen.model = self.seen.took_over = model

    def _finish(self, delta: dict[str, Any], usage: msgspec.Raw) -> Sequence[Event]:
        self._report(usage, final=True)
        native = delta.get("stop_reason")
        if not isinstance(native, str):
            return ()
        events: list[Event] = [event for index in self._blocks for event in self._close(index)]
        reason = _FINISH.get(native, FinishReason.STOP)
        details = delta.get("stop_details")
        if reason is FinishReason.CONTENT_FILTER and isinstance(details, dict):
            explanation = _string(details, "explanation")
            if explanation:
                events.append(RefusalDelta(explanation))
        if not self.seen.complete:  # An answer finishes once, however often it is said.
            events.append(self._finished(reason, native))
        self.seen.unreported = not self._has_last_report
        if self.seen.usage is not None and self._has_last_report:
            events.append(UsageReport(self.seen.usage))
        return events

    def _text(self, text: str) -> Sequence[Event]:
        if not text:
            return ()
        self._saw(text)
        self._text_length += len(text)
        return (TextDelta(text),)

    def _thought(self, block: _Block, text: str) -> Sequence[Event]:
        if not text:
            return ()
        self._saw(text)
        detail = {"type": "reasoning.text", "text": text, "format": REASONING_FORMAT, "index": block.thought}
        return (ReasoningDelta(text, (detail,)),)

    def _signed(self, block: _Block, signature: str) -> Sequence[Event]:
        if not signature:
            return ()
        detail = {"type": "reasoning.text", "signature": signature, "format": REASONING_FORMAT, "index": block.thought}
        return (ReasoningDelta("", (detail,)),)

    def _next_thought(self) -> int:
        self._thought_count += 1
        return self._thought_count - 1

    def _report(self, usage: msgspec.Raw, *, final: bool) -> bool:
        """Reports are cumulative: the last value of each counter holds, one that is missing keeps its own."""
        stated = read_report(usage, final=final)
        if stated is None:  # What went before is not what the answer cost.
            self._usage, self.seen.usage = {}, None
        if not stated:
            return False
        self._usage |= stated
        self._has_last_report |= final and "output_tokens" in stated
        self.seen.usage = usage_of(self._usage)
        self._hand_over(took_over(self._usage))
        return True

    def _report_late(self, usage: msgspec.Raw) -> Sequence[Event]:
        """The very last event may still say what the answer cost."""
        reported = self._report(usage, final=True)
        self.seen.unreported = not self._has_last_report
        return (UsageReport(self.seen.usage),) if reported and self.seen.usage is not None else ()


def _is_of_another_type(data: bytes) -> bool:
    """Whether an event is of a type that is newer than this code: it may look as it likes."""
    try:
        return _TYPES.decode(data).type not in _KNOWN
    except UNREADABLE:
        return False


def _string(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _has_url(citation: object) -> bool:
    return isinstance(citation, dict) and isinstance(citation.get("url"), str)


def _annotation(citation: Mapping[str, Any]) -> dict[str, Any]:
    """A citation of a web page; the chat dialect's span is filled in when its text is complete."""
    fields = {"url": citation["url"], "title": _string(citation, "title")}
    quoted = _string(citation, "cited_text")
    return fields | {"content": quoted} if quoted else fields
