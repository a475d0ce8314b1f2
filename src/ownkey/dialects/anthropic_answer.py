"""Neutral events written as a Message: the events of a stream, or one body.

Anthropic's content blocks stand one after the other and never overlap, so what other providers interleave is put in
order here: a tool call keeps its block open until its arguments are whole, and what comes meanwhile waits. A whole
answer is made of the very blocks that its stream would have.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ownkey.dialects.anthropic_thoughts import ANTHROPIC_FORMAT, CITATION_MARK, seal, text_key
from ownkey.dialects.openai_answer import signature_detail
from ownkey.domain.conversation import (
    Annotations,
    Embedded,
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReport,
)
from ownkey.domain.usage import Usage

_STOP_REASONS = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
}
# Anthropic's own, which say more than the neutral reason (the official SDK's StopReason).
_OWN_REASONS = frozenset(
    {"end_turn", "stop_sequence", "pause_turn", "model_context_window_exceeded", "compaction"}
)

Json = dict[str, Any]
Content = TextDelta | RefusalDelta | ReasoningDelta | ToolCallStart | ToolCallDelta | Annotations


def usage_fields(usage: Usage | None) -> Json:
    """Usage in Anthropic's classes: its input excludes the cache, its output includes thinking."""
    usage = usage or Usage()
    written = usage.cache_write_5m + usage.cache_write_1h
    fields: Json = {
        "input_tokens": usage.input + usage.audio_input,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cache_read + usage.audio_cache_read,
        "output_tokens": usage.total_output,
    }
    if written:
        fields["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        }
    if usage.reasoning:
        fields["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    counted = {f"{name}_requests": count for name, count in usage.units}
    if counted:
        fields["server_tool_use"] = {"web_search_requests": 0, "web_fetch_requests": 0, **counted}
    return fields


@dataclass(slots=True)
class _Block:
    """A content block while it is written. `detail` is what identifies a thought and, sealed, becomes its signature;
    `tool` is a call's index in the neutral events."""

    fields: Json
    pieces: list[str] = field(default_factory=list)
    citations: list[Json] = field(default_factory=list)
    detail: Json | None = None
    signature: str = ""
    tool: int | None = None

    @property
    def kind(self) -> str:
        return str(self.fields["type"])

    def continues(self, key: Json) -> bool:
        """Whether a piece of this type, index and format belongs to this thought."""
        detail = self.detail
        return detail is not None and not self.signature and all(detail.get(name) == key[name] for name in key)

    def finished(self) -> Json:
        """The block as it stands in a whole answer."""
        text = "".join(self.pieces)
        match self.kind:
            case "text":
                return {"type": "text", "text": text, "citations": self.citations or None}
            case "thinking":
                return {"type": "thinking", "thinking": text, "signature": self.signature}
            case "tool_use":
                return {**self.fields, "input": _input(text)}
            case _:
                return self.fields


class _Blocks:
    """Puts content in order, as the wire events of one block after the other; `done` are the blocks that are closed."""

    def __init__(self) -> None:
        self.done: list[Json] = []
        self._open: _Block | None = None
        self._waiting: deque[Content] = deque()
        self._marks: list[Json] = []
        self._citations: list[Json] = []

    def take(self, event: Content) -> Iterator[Json]:
        """The wire events that `event` gives rise to now; it may have to wait for a tool call's end."""
        if self._is_own(event) or (not self._waiting and self._fits()):
            yield from self._write(event)
            yield from self._resume()
        else:
            self._waiting.append(event)

    def end(self) -> Iterator[Json]:
        """No more content comes: what waited, and the end of the last block."""
        while self._waiting:
            yield from self._close()
            yield from self._resume()
        yield from self._flush_marks()
        if self._citations:
            yield from self._text("")
        yield from self._close()

    # --- order

    def _is_own(self, event: Content) -> bool:
        """Whether an event goes on with the call whose block is open."""
        block = self._open
        return isinstance(event, ToolCallDelta) and block is not None and block.tool == event.index

    def _fits(self) -> bool:
        """Whether something else can be written without breaking off a call whose arguments are not whole."""
        block = self._open
        return block is None or block.tool is None or _is_whole(block.pieces)

    def _resume(self) -> Iterator[Json]:
        """Write what waited in its order as far as it can be; a call that is opened takes its own pieces along."""
        while self._waiting and self._fits():
            event = self._waiting.popleft()
            yield from self._write(event)
            if isinstance(event, ToolCallStart):
                own = [waiting for waiting in self._waiting if self._is_own(waiting)]
                self._waiting = deque(waiting for waiting in self._waiting if not self._is_own(waiting))
                for piece in own:
                    yield from self._write(piece)

    # --- content

    def _write(self, event: Content) -> Iterator[Json]:
        match event:
            case Annotations():
                yield from self._cite(event)
            case ReasoningDelta():
                yield from self._think(event)
            case TextDelta(text=text) | RefusalDelta(text=text):
                yield from self._flush_marks()
                yield from self._text(text)
            case ToolCallStart():
                if event.signature is not None:
                    detail = signature_detail(event.id, event.signature, event.index)
                    self._marks.append({"type": "redacted_thinking", "data": seal(detail)})
                yield from self._flush_marks()
                # A result must be able to name its call, and some hosts give a call no id.
                call_id = event.id or f"toolu_{len(self.done)}_{event.index}"
                named = {"type": "tool_use", "id": call_id, "name": event.name, "input": {}}
                yield from self._start(_Block(named, tool=event.index))
            case ToolCallDelta():
                block = self._open
                # White space after whole arguments may come when their block is closed already.
                if block is not None and block.tool == event.index:
                    block.pieces.append(event.arguments)
                    yield self._delta({"type": "input_json_delta", "partial_json": event.arguments})

    def _text(self, text: str) -> Iterator[Json]:
        block = self._open
        if block is None or block.kind != "text":
            block = _Block({"type": "text", "text": ""})
            yield from self._start(block)
        if text:
            block.pieces.append(text)
            yield self._delta({"type": "text_delta", "text": text})
        citations, self._citations = self._citations, []
        for citation in citations:
            block.citations.append(citation)
            yield self._delta({"type": "citations_delta", "citation": citation})

    def _cite(self, event: Annotations) -> Iterator[Json]:
        """Citations belong to the text before them; without one they wait for the next."""
        self._citations += [_citation(item) for item in event.items if _is_web_page(item)]
        if self._citations and self._open is not None and self._open.kind == "text":
            yield from self._text("")

    def _think(self, event: ReasoningDelta) -> Iterator[Json]:
        details: list[Mapping[str, Any]] = list(event.details)
        if event.text and not any(_text_of(detail) for detail in details):
            details.insert(0, {"type": "reasoning.text", "text": event.text})
        for detail in details:
            if text_key(detail) is None:
                self._marks.append(_redacted(detail))
                if self._open is None or self._open.kind != "text":
                    yield from self._flush_marks()
            else:
                yield from self._flush_marks()
                yield from self._thought(detail)

    def _thought(self, detail: Mapping[str, Any]) -> Iterator[Json]:
        key = {name: detail.get(name) for name in ("type", "index", "format")}
        block = self._open
        if block is None or not block.continues(key):
            block = _Block({"type": "thinking", "thinking": "", "signature": ""}, detail=key)
            yield from self._start(block)
        text = _text_of(detail)
        if text:
            block.pieces.append(text)
            yield self._delta({"type": "thinking_delta", "thinking": text})
        signature = detail.get("signature")
        if detail.get("format") == ANTHROPIC_FORMAT:
            if isinstance(signature, str) and signature:
                yield self._sign(block, signature)
            return
        stated = {name: value for name, value in detail.items() if value is not None and name != text_key(detail)}
        block.detail = {**(block.detail or {}), **stated}
        if signature:
            yield self._sign(block, seal(_stated(block.detail)))

    def _sign(self, block: _Block, signature: str) -> Json:
        block.signature = signature
        return self._delta({"type": "signature_delta", "signature": signature})

    def _flush_marks(self) -> Iterator[Json]:
        """Opaque thoughts stand in blocks of their own. They wait while a text goes on: citations may follow it."""
        marks, self._marks = self._marks, []
        for mark in marks:
            yield from self._start(_Block(mark))
            yield from self._close()

    # --- blocks

    def _start(self, block: _Block) -> Iterator[Json]:
        yield from self._close()
        self._open = block
        yield {"type": "content_block_start", "index": len(self.done), "content_block": block.fields}

    def _delta(self, delta: Json) -> Json:
        return {"type": "content_block_delta", "index": len(self.done), "delta": delta}

    def _close(self) -> Iterator[Json]:
        block = self._open
        if block is None:
            return
        detail = block.detail
        if detail is not None and not block.signature and detail.get("format") != ANTHROPIC_FORMAT:
            # Even a thought without a signature is sealed: Anthropic would refuse it, so it must be known as foreign.
            yield self._sign(block, seal(_stated(detail)))
        if block.tool is not None and not block.pieces:
            block.pieces.append("{}")
            yield self._delta({"type": "input_json_delta", "partial_json": "{}"})
        self._open = None
        yield {"type": "content_block_stop", "index": len(self.done)}
        self.done.append(block.finished())


class MessagesEncoder:
    """Writes one answer. What the provider does not say (id, model) is taken from the call."""

    def __init__(self, model: str, answer_id: str) -> None:
        self._id = answer_id
        self._model = model
        self._blocks = _Blocks()
        self._started = False
        self._called = False
        self._refusal: list[str] = []
        self._usage: Usage | None = None
        self._finish: Finished | None = None

    def encode(self, events: Iterable[Event]) -> bytes:
        """The frames for these events; none for events that only the end of the answer tells."""
        return b"".join(_frame(event) for event in self._events(events))

    def end(self) -> bytes:
        """The end of the last block, why the answer ended, its usage, and the terminator."""
        last = {
            "type": "message_delta",
            "delta": {**self._stop(), "stop_sequence": None},
            "usage": usage_fields(self._usage),
        }
        events = [*self._start(), *self._blocks.end(), last, {"type": "message_stop"}]
        return b"".join(_frame(event) for event in events)

    def whole(self, events: Iterable[Event]) -> bytes:
        """The complete body for a whole answer's events."""
        for _ in (*self._events(events), *self._blocks.end()):
            pass
        message = self._message() | {"content": self._blocks.done, "usage": usage_fields(self._usage)}
        return msgspec.json.encode(message | self._stop())

    def _events(self, events: Iterable[Event]) -> Iterator[Json]:
        for event in events:
            match event:
                case Started():
                    self._id, self._model = event.id or self._id, event.model or self._model
                case UsageReport():
                    self._usage = event.usage
                case Finished():
                    self._finish = event
                case Failed() | Embedded():
                    pass
                case _:
                    self._note(event)
                    yield from self._start()
                    yield from self._blocks.take(event)

    def _note(self, event: Content) -> None:
        if isinstance(event, RefusalDelta):
            self._refusal.append(event.text)
        self._called = self._called or isinstance(event, ToolCallStart)

    def _start(self) -> Iterator[Json]:
        """What the input costs is known at the end only; until then it is told as nothing, which is allowed."""
        if not self._started:
            self._started = True
            yield {"type": "message_start", "message": self._message()}

    def _message(self) -> Json:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_fields(None),
        }

    def _stop(self) -> Json:
        finish = self._finish
        reason = finish.reason if finish else FinishReason.STOP
        if reason is FinishReason.STOP and self._refusal:
            reason = FinishReason.CONTENT_FILTER
        own = finish is not None and finish.native_reason in _OWN_REASONS
        if reason is FinishReason.STOP and self._called and not own:
            reason = FinishReason.TOOL_CALLS  # A forced call ends with "stop" at OpenAI.
        finer = own and finish is not None and finish.reason is reason
        stop: Json = {"stop_reason": finish.native_reason if finish and finer else _STOP_REASONS[reason]}
        if reason is FinishReason.CONTENT_FILTER:
            explanation = "".join(self._refusal) or None
            stop["stop_details"] = {"type": "refusal", "category": None, "explanation": explanation}
        return stop


def _frame(event: Json) -> bytes:
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"


def _stated(detail: Json) -> Json:
    return {name: value for name, value in detail.items() if value is not None}


def _text_of(detail: Mapping[str, Any]) -> str:
    value = detail.get(text_key(detail) or "")
    return value if isinstance(value, str) else ""


def _redacted(detail: Mapping[str, Any]) -> Json:
    """An opaque thought: Anthropic's own as it was, another maker's sealed."""
    data = detail.get("data")
    if detail.get("format") == ANTHROPIC_FORMAT and isinstance(data, str):
        return {"type": "redacted_thinking", "data": data}
    return {"type": "redacted_thinking", "data": seal(detail)}


def _is_web_page(item: Mapping[str, Any]) -> bool:
    cited = item.get("url_citation")
    return isinstance(cited, dict) and isinstance(cited.get("url"), str)


def _citation(item: Mapping[str, Any]) -> Json:
    cited = item["url_citation"]
    return {
        "type": "web_search_result_location",
        "url": cited["url"],
        "title": cited.get("title") or None,
        "cited_text": cited.get("content") or "",
        "encrypted_index": CITATION_MARK,
    }


def _is_whole(pieces: list[str]) -> bool:
    last = next((piece for piece in reversed(pieces) if piece.strip()), "")
    if not last.rstrip().endswith("}"):
        return False
    try:
        msgspec.json.decode("".join(pieces))
    except (ValueError, RecursionError):
        return False
    return True


def _input(arguments: str) -> Json:
    """A call's arguments as the object that Anthropic promises; broken ones in the wrapping that its documentation
    names for them ("Fine-grained tool streaming")."""
    try:
        value = msgspec.json.decode(arguments)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"INVALID_JSON": arguments}
