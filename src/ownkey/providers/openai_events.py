"""Chat-completions answers as neutral events, for callers who speak another dialect."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ownkey.domain.conversation import (
    Annotations,
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
from ownkey.domain.wire import Seen
from ownkey.providers.classify import UNREADABLE
from ownkey.providers.openai_chunks import Choice, Chunk, Delta, Function, decode_chunk, says_something
from ownkey.providers.openai_wire import ChatObserver, Judge, broken, finish_reason, observe_chat
from ownkey.providers.sse import FrameTooLarge, SseFrame, SseParser

_FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class _Teller:
    """Tells chunks (or one whole body) as events. Only the first choice: others have no neutral form."""

    def __init__(self) -> None:
        self._started = False
        self._finished = False
        self._calls: set[int] = set()

    def tell(self, chunk: Chunk, seen: Seen, reported: bool) -> list[Event]:
        """The events of one chunk that `seen` has already taken in."""
        events: list[Event] = []
        if not self._started and chunk.choices:
            self._started = True
            events.append(Started(seen.response_id or "", seen.model or ""))
        for choice in chunk.choices or ():
            if choice.index in (0, None):
                events += self._choice(choice)
        if reported and seen.usage is not None:
            events.append(UsageReport(seen.usage))
        return events

    def _choice(self, choice: Choice) -> list[Event]:
        events: list[Event] = []
        part = choice.delta if choice.delta is not None else choice.message
        if part is not None:
            events += _reasoning(part)
            if text := _text(part.content):
                events.append(TextDelta(text))
            if isinstance(part.refusal, str) and part.refusal:
                events.append(RefusalDelta(part.refusal))
            events += self._tool_calls(part)
            if says_something(part.annotations):
                events.append(Annotations(tuple(_objects(part.annotations))))
        reason = finish_reason(choice)
        if isinstance(reason, str) and not self._finished:
            self._finished = True
            native = choice.native_finish_reason
            native = native if isinstance(native, str) else reason
            events.append(Finished(_FINISH.get(reason, FinishReason.STOP), native))
        return events

    def _tool_calls(self, part: Delta) -> list[Event]:
        events: list[Event] = []
        for position, call in enumerate(part.tool_calls or ()):
            index = call.index if type(call.index) is int else position
            if index not in self._calls:
                self._calls.add(index)
                events.append(ToolCallStart(index, _or_empty(call.id), _or_empty(call.name)))
            if arguments := _or_empty(call.arguments):
                events.append(ToolCallDelta(index, arguments))
        if part.function_call is not None and not part.tool_calls:
            events += self._function_call(part.function_call)
        return events

    def _function_call(self, call: Function) -> list[Event]:
        """The form that came before `tool_calls`: one call at most, and without an id, so its name stands for one."""
        events: list[Event] = []
        if 0 not in self._calls:
            self._calls.add(0)
            events.append(ToolCallStart(0, f"call_{_or_empty(call.name)}", _or_empty(call.name)))
        if arguments := _or_empty(call.arguments):
            events.append(ToolCallDelta(0, arguments))
        return events


def _or_empty(value: object) -> str:
    return value if isinstance(value, str) else ""


def _text(content: Any) -> str:
    """The text of a delta or message; some hosts send a list of parts even there."""
    if isinstance(content, list):
        return "".join(_or_empty(part.get("text")) for part in content if isinstance(part, dict))
    return _or_empty(content)


def _reasoning(part: Delta) -> list[Event]:
    text = _or_empty(part.reasoning) or _or_empty(part.reasoning_content)
    details = tuple(_objects(part.reasoning_details)) if says_something(part.reasoning_details) else ()
    return [ReasoningDelta(text, details)] if text or details else []


def _objects(raw: msgspec.Raw) -> list[dict[str, Any]]:
    value = msgspec.json.decode(raw)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


class ChatEvents:
    """Turns a chat stream into neutral events and observes it."""

    def __init__(self, judge: Judge) -> None:
        self._observer = ChatObserver(judge)
        self._teller = _Teller()
        self._parser = SseParser()
        self._failed = False
        self.seen = self._observer.seen

    def feed(self, data: bytes) -> Sequence[Event]:
        """The events that `data` completes."""
        if self._failed:
            return ()
        try:
            frames = self._parser.feed(data)
        except FrameTooLarge:
            self._observer.fail("event too large")
            frames = []
        return self._with_failure(self._read(frames))

    def eof(self) -> Sequence[Event]:
        """The upstream closed: what was left; a failure if the answer was not whole."""
        if self._failed:
            return ()
        events = self._read(self._parser.eof())
        if not self.seen.ended and self.seen.failure is None:
            self._observer.done()
        return self._with_failure(events)

    def _with_failure(self, events: list[Event]) -> list[Event]:
        if self.seen.failure is not None and not self._failed:
            self._failed = True
            events.append(Failed(self.seen.failure))
        return events

    def _read(self, frames: Sequence[SseFrame]) -> list[Event]:
        events: list[Event] = []
        for frame in frames:
            if self.seen.failure is not None or self.seen.ended:
                break
            if frame.data == b"[DONE]":
                self._observer.done()
            elif frame.data is not None:
                events += self._read_chunk(frame.data)
            else:
                self._observer.take_silent(frame)
        return events

    def _read_chunk(self, data: bytes) -> list[Event]:
        before = self.seen.usage
        try:
            chunk = decode_chunk(data)
            self._observer.see(chunk, data)
            if self.seen.failure is not None:
                return []
            return self._teller.tell(chunk, self.seen, self.seen.usage is not before)
        except UNREADABLE:
            if not self.seen.complete:
                self._observer.fail("malformed event")
            return []


def decode_chat(body: bytes, judge: Judge) -> tuple[Seen, list[Event]]:
    """A whole chat body as the same events that its stream would have given."""
    seen, answer = observe_chat(body, judge)
    if seen.failure is not None or answer is None:
        return seen, [Failed(seen.failure)] if seen.failure is not None else []
    try:
        return seen, _Teller().tell(answer, seen, seen.usage is not None)
    except UNREADABLE:
        seen.failure = broken("answer is not a chat completion")
        return seen, [Failed(seen.failure)]
