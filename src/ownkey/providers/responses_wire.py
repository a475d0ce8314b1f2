"""Watches OpenAI's Responses, whole and streamed, while their bytes pass to the caller.

OpenAI and OpenRouter send the same events; OpenAI's stream ends with its last event, OpenRouter's with `[DONE]`.
An error can come inside a good stream, as `error`, as `response.failed`, or as both: the first one decides.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from ownkey.domain.failures import FailureClass
from ownkey.domain.usage import Usage
from ownkey.domain.wire import Seen
from ownkey.providers.classify import UNREADABLE, read_error_object
from ownkey.providers.openai_chunks import NOTHING, read_responses_usage, says_something
from ownkey.providers.openai_wire import AnswerObserver, Judge, StreamPassthrough, broken, size_of
from ownkey.providers.responses_events import (
    Answer,
    Event,
    Item,
    decode_answer,
    decode_event,
    decode_item,
    decode_items,
)
from ownkey.providers.sse import SseFrame

_ERRORS = frozenset({"error", "response.error", "response.failed"})
_CLOSED = {"response.completed": "completed", "response.incomplete": "incomplete", "response.cancelled": "cancelled"}
_OPENED = frozenset({"response.created", "response.queued", "response.in_progress"})
_CUTS = {"max_output_tokens": "length", "content_filter": "content_filter"}


class ResponsesObserver(AnswerObserver):
    """Grows `seen` from events, or from one body. `terminated`: a whole stream ends with `[DONE]`."""

    __slots__ = ("_callers_turn", "_delivered", "_fees", "_items", "_terminated")

    def __init__(self, judge: Judge, terminated: bool) -> None:
        super().__init__(judge)
        self._terminated = terminated
        self._delivered: dict[int, int] = {}
        self._fees: dict[str, int] = {}
        self._items = 0
        self._callers_turn = False

    def see(self, event: Event, data: bytes) -> None:
        """Take one event in; `data` is the text it was decoded from, read again only where it holds an error.

        Raises what decoding raises.
        """
        seen = self.seen
        kind = event.type if type(event.type) is str else ""
        place = event.output_index if type(event.output_index) is int else -1
        if kind.endswith(".delta"):
            if event.delta:
                self._add(place, size_of(event.delta))
                seen.refused = seen.refused or kind == "response.refusal.delta"
        elif kind in _ERRORS or (not kind.startswith("response.") and says_something(event.error)):
            self._take_usage(event.response)
            self._fail(data)
        elif kind == "":
            self.fail("malformed event")
        elif kind in ("response.output_item.added", "response.output_item.done"):
            if says_something(event.item):  # An item that is announced empty stands for nothing.
                take = self._take_item if kind.endswith("done") else self._open_item
                take(decode_item(event.item), place)
        elif kind in _OPENED:
            if seen.response_id is None and says_something(event.response):
                self._name(decode_answer(event.response))
        elif kind in _CLOSED:
            self._take_end(decode_answer(event.response), _CLOSED[kind], data)
        elif kind == "response.image_generation_call.partial_image":
            self._add(place, len(data))
        if seen.failure is None and type(event.sequence_number) is int:
            seen.sequence_number = event.sequence_number  # Of what the caller gets, not of an error held back.

    def see_whole(self, body: bytes) -> None:
        """Take a whole body in. Raises what decoding raises."""
        answer = decode_answer(body)
        if answer.output is NOTHING and not says_something(answer.error):
            self.fail("answer is not a response")
        else:
            self._take_end(answer, answer.status, body)

    def _take_end(self, answer: Answer, status: Any, data: bytes) -> None:
        self._name(answer)
        if status == "failed" or says_something(answer.error):
            self.seen.usage = read_responses_usage(answer.usage)
            self._fail(data)
        else:
            self._close(answer, status)

    def _name(self, answer: Answer) -> None:
        if isinstance(answer.id, str) and answer.id and self.seen.response_id is None:
            self.seen.response_id = answer.id
        if isinstance(answer.model, str) and answer.model:
            self.seen.model = answer.model

    def _add(self, place: int, size: int) -> None:
        """Content came for the output item at `place`."""
        self._delivered[place] = self._delivered.get(place, 0) + size
        self.seen.content = True
        self.seen.content_bytes += size

    def _open_item(self, item: Item, place: int) -> None:
        """A call is content from its first event on, like a chat's; other items begin empty."""
        if item.is_call:
            self._add(place, size_of(item.name) if item.name else 1)

    def _take_item(self, item: Item, place: int) -> None:
        """A finished item: what its deltas have not brought counts now, such as encrypted reasoning."""
        self._items += 1
        more = item.size() - self._delivered.get(place, 0)
        if more > 0:
            self._add(place, more)
        self._callers_turn = self._callers_turn or item.is_callers_turn
        self.seen.refused = self.seen.refused or item.refuses
        if fee := item.fee:
            self._fees[fee] = self._fees.get(fee, 0) + 1

    def _close(self, answer: Answer, status: Any) -> None:
        """Take the finished answer in; its items only where none of them came by themselves."""
        seen = self.seen
        if not self._items and says_something(answer.output):
            for place, item in enumerate(decode_items(answer.output)):
                if item is not None:
                    self._take_item(item, place)
        usage = read_responses_usage(answer.usage)
        seen.usage = usage and _with_fees(usage, self._fees)
        match status:
            case "completed" | "complete":  # The format's own word, and one that stored answers have.
                seen.finish_reason = "tool_calls" if self._callers_turn else "stop"
                seen.complete = True
            case "incomplete":
                details = answer.incomplete_details
                reason = details.get("reason") if isinstance(details, dict) else None
                seen.finish_reason = _CUTS.get(str(reason), str(reason or "length"))
                seen.refused = seen.refused or reason == "content_filter"
                seen.complete = True
            case "cancelled":
                seen.failure = broken("answer was cancelled", FailureClass.OVERLOAD)
            case _:
                self.fail("answer without finish")
        seen.ended = seen.complete and not self._terminated

    def _fail(self, data: bytes) -> None:
        """Judge the error in an event or a body, or say that it states none."""
        found = read_error_object(data) or {}
        outer = found["response"] if isinstance(found.get("response"), dict) else found
        told = bool(outer.get("error")) or found.get("type") in ("error", "response.error")
        self.seen.failure = self._judge(found if told else {"code": "server_error", "message": ""})

    def _take_usage(self, response: msgspec.Raw) -> None:
        """What a failed answer reports is billed; it may report nothing."""
        if says_something(response):
            answer = decode_answer(response)
            self._name(answer)
            self.seen.usage = read_responses_usage(answer.usage) or self.seen.usage

    def take_rest(self, frames: Sequence[SseFrame]) -> None:
        """After `error` mostly comes `response.failed`, and with it the usage."""
        for frame in frames:
            if frame.data is None or b"usage" not in frame.data:
                continue
            try:
                self._take_usage(decode_event(frame.data).response)
            except UNREADABLE:
                return

    def done(self) -> bool:
        """Take the stream's end in; return whether the answer before it was whole."""
        if not self.seen.complete:
            self.fail("stream ended early")
            return False
        self.seen.ended = True
        return True


def _with_fees(usage: Usage, fees: dict[str, int]) -> Usage:
    """Usage with the pieces that are billed beside tokens; a reported cost holds them already."""
    if not fees or usage.cost_nusd is not None:
        return usage
    return replace(usage, units=tuple(fees.items()))


class ResponsesPassthrough(StreamPassthrough):
    """Relays a stream of Responses, each event decoded once."""

    __slots__ = ("_events",)

    def __init__(self, judge: Judge, terminated: bool) -> None:
        self._events = ResponsesObserver(judge, terminated)
        super().__init__(self._events)

    def _look(self, data: bytes) -> bool:
        try:
            self._events.see(decode_event(data), data)
        except UNREADABLE:
            if not self.seen.complete:  # Where the answer is whole already, a broken tail takes nothing from it.
                self._events.fail("malformed event")
            return False
        return self.seen.failure is None


def observe_response(body: bytes, judge: Judge) -> Seen:
    """What a whole 200 body shows. A broken or unfinished one sets `failure`."""
    observer = ResponsesObserver(judge, terminated=False)
    try:
        observer.see_whole(body)
    except UNREADABLE:
        observer.fail("answer is not a response")
    observer.seen.ended = observer.seen.failure is None
    return observer.seen
