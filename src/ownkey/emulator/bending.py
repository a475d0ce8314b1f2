"""What a scripted fault does to the frames of a stream: pure functions from frames to frames.

Places are counted in frames that bring content: "after 0" is before the first of them, after the stream's opening.
"""

import re
from dataclasses import replace
from typing import Any

import msgspec

from .plan import Event

_NOT_UTF8 = b"\xff"
COMMENT = b": still here\n\n"


def content_place(events: list[Event], wanted: int) -> int:
    """The index just after the `wanted`-th frame that brings content; before the first of them for 0."""
    seen = 0
    for index, event in enumerate(events):
        if event.kind in {"finish", "usage", "end"}:
            return index
        if event.kind == "content":
            if wanted <= 0:
                return index
            seen += 1
            if seen >= wanted:
                return index + 1
    return len(events)


def done_at(events: list[Event], place: int) -> int:
    """How many output tokens exist before `place`."""
    return events[place - 1].done if place else 0


def with_final_error(events: list[Event], error_body: bytes) -> list[Event]:
    """The usage chunk carries the error and no finish, and `[DONE]` follows: OpenRouter's recorded way."""
    found = msgspec.json.decode(error_body)
    error = msgspec.json.encode(found.get("error", {}) if isinstance(found, dict) else {})
    made: list[Event] = []
    for event in events:
        if event.kind == "usage":
            data = _without_reason(event.data)
            event = replace(event, data=data.replace(b"data: {", b'data: {"error":%s,' % error, 1))
        made.append(event)
    return made


def _without_reason(data: bytes) -> bytes:
    return re.sub(rb'"((?:native_)?finish_reason)":"[A-Za-z_]+"', rb'"\1":null', data)


def unfinished(events: list[Event]) -> list[Event]:
    """Everything but the word that the answer is complete: OpenRouter says it again in its usage chunk."""
    return [replace(event, data=_without_reason(event.data)) for event in events if event.kind != "finish"]


def stopped(events: list[Event], count: int, kind: Any) -> list[Event]:
    """The first `count` frames, then the break."""
    kept = events[:count]
    return [*kept, Event(b"", kind, done_at(kept, len(kept)))]


def stopped_at_byte(events: list[Event], size: int, kind: Any) -> list[Event]:
    """The first `size` bytes, then the break."""
    kept: list[Event] = []
    for event in events:
        if size < len(event.data):
            kept.append(replace(event, data=event.data[:size]))
            break
        kept.append(event)
        size -= len(event.data)
    return [*kept, Event(b"", kind, done_at(kept, len(kept)))]


def stopped_inside(events: list[Event], what: str, after: int, kind: Any) -> list[Event]:
    """A break inside the frame at `after`: in its middle, or between the bytes of one character."""
    place = content_place(events, after)
    if place >= len(events):
        return stopped(events, place, kind)
    data = events[place].data
    size = len(data) // 2
    if what == "character":
        size = next((index + 1 for index, byte in enumerate(data) if byte >= 0xC0), size)
    before = sum(len(event.data) for event in events[:place])
    return stopped_at_byte(events, before + size, kind)


def inserted(events: list[Event], after: int, data: bytes, kind: Any) -> list[Event]:
    """`data` as a frame of its own at `after`."""
    place = content_place(events, after)
    return [*events[:place], Event(data, kind, done_at(events, place)), *events[place:]]


def no_text(data: bytes) -> bytes:
    """The data with one byte that no UTF-8 text holds: inside a character, else inside the last quoted word."""
    if (place := next((index for index, byte in enumerate(data) if byte >= 0xC0), -1)) >= 0:
        return data[:place] + _NOT_UTF8 + data[place + 1 :]
    head, quote, tail = data.rpartition(b'"')
    return head + _NOT_UTF8 + quote + tail


def garbled(events: list[Event], after: int) -> list[Event]:
    """The frame at `after` is no UTF-8."""
    place = content_place(events, after)
    return [
        replace(event, data=no_text(event.data)) if index == place else event for index, event in enumerate(events)
    ]


def unending(events: list[Event], after: int, filler: bytes) -> list[Event]:
    """From `after` on nothing but `filler`, again and again."""
    place = content_place(events, after)
    return [*events[:place], Event(filler, "endless", done_at(events, place))]


def filler_of(events: list[Event], what: str) -> bytes:
    """What a stream says when it says nothing: a comment, the provider's ping, or its last opening frame again."""
    if what == "blank":
        return b"\n\n"
    wanted = {"ping": "ping", "head": "head"}.get(what)
    before = events[: content_place(events, 0)]
    return next((event.data for event in reversed(before) if event.kind == wanted), COMMENT)


def repeated(events: list[Event], kind: str) -> list[Event]:
    """Every frame of one kind comes twice."""
    made: list[Event] = []
    for event in events:
        made.append(event)
        if event.kind == kind:
            made.append(replace(event))
    return made


def reported_twice(events: list[Event]) -> list[Event]:
    """The last usage report comes twice."""
    reports = [event for event in events if event.kind == "usage"] or [
        event for event in events if event.kind == "finish"
    ]
    made: list[Event] = []
    for event in events:
        made.append(event)
        if reports and event is reports[-1]:
            made.append(replace(event))
    return made


def reported_early(events: list[Event]) -> list[Event]:
    """The usage report comes before the first content."""
    reports = [event for event in events if event.kind == "usage"]
    rest = [event for event in events if event.kind != "usage"]
    place = content_place(rest, 0)
    return [*rest[:place], *(replace(event, kind="head", done=0) for event in reports), *rest[place:]]
