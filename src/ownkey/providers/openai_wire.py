"""Watches OpenAI's wire formats, chat completions and embeddings, while their bytes pass to the caller.

Three providers' errors and two callers' envelopes meet in this format, so the observers take the provider's way
of judging an error as a function and hold everything else themselves.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from ownkey.domain.bounds import RequestShape
from ownkey.domain.failures import Failure, FailureClass
from ownkey.domain.wire import Seen
from ownkey.providers.classify import UNREADABLE, read_error_object
from ownkey.providers.openai_chunks import (
    NOTHING,
    Choice,
    Chunk,
    Delta,
    Function,
    ToolDelta,
    decode_chunk,
    decode_embeddings,
    read_usage,
    says_something,
)
from ownkey.providers.sse import FrameTooLarge, SseFrame, SseParser

# Judges the `error` that an answer holds, whatever it is.
Judge = Callable[[object], Failure]

_DONE_FRAME = b"data: [DONE]\n\n"
# How JSON and pages begin: what some edges send in a stream's place.
_NO_STREAM = (b"{", b"[", b"<")
_BROKEN_FINISHES = frozenset({"error", "network_error"})


class WatchedCall(Protocol):
    """What a reader needs of a call: whether usage was asked for, and how many answers."""

    @property
    def include_usage(self) -> bool: ...

    @property
    def shape(self) -> RequestShape: ...


class AnswerObserver(ABC):
    """Grows `seen` from an answer; what every format of this family has in common."""

    __slots__ = ("_judge", "seen")

    def __init__(self, judge: Judge) -> None:
        self.seen = Seen()
        self._judge = judge

    @abstractmethod
    def done(self) -> bool:
        """Take the terminator in; return whether the answer before it was whole."""

    def take_rest(self, frames: Sequence[SseFrame]) -> None:  # noqa: B027 - most formats take nothing in
        """Take in what came together with an error and after it: it is not relayed."""

    def fail(self, signal: str) -> None:
        """Note that the answer's bytes broke off or are not what they should be."""
        if self.seen.failure is None:
            self.seen.failure = broken(signal)

    def take_silent(self, frame: SseFrame) -> bool:
        """Take in a frame without data (a comment, or lines that readers skip); return whether to relay it.

        Some edges answer 200 with a bare JSON error, or with a page.
        """
        text = frame.raw.strip()
        if not text.startswith(_NO_STREAM):
            return True
        if not self.seen.complete:
            answer = read_error_object(text)
            if answer is not None and answer.get("error"):
                self.seen.failure = self._judge(answer["error"])
            else:
                self.fail("not an event stream")
        return False


class ChatObserver(AnswerObserver):
    """Grows `seen` from chunks; raises what decoding raises. `expected` is how many choices a whole answer has."""

    __slots__ = ("_closed", "_expected")

    def __init__(self, judge: Judge, expected: int = 1) -> None:
        super().__init__(judge)
        self._expected = expected
        self._closed: set[int] = set()

    def see(self, chunk: Chunk, data: bytes) -> bool:
        """Take one chunk in; return whether its choices said anything new (content or a finish).

        `data` is the text the chunk was decoded from, read again only where it holds an error.
        """
        seen = self.seen
        if seen.response_id is None and isinstance(chunk.id, str) and chunk.id:
            seen.response_id = chunk.id
        if seen.model is None and isinstance(chunk.model, str) and chunk.model:
            seen.model = chunk.model
        if chunk.usage is not NOTHING:
            seen.usage = read_usage(chunk.usage) or seen.usage
        if chunk.error is not NOTHING and says_something(chunk.error):
            self._fail(data)
            return True
        news = False
        for choice in chunk.choices or ():
            if self._see_choice(choice, data):
                news = True
        return news

    def _see_choice(self, choice: Choice, data: bytes) -> bool:
        seen = self.seen
        index = choice.index if type(choice.index) is int else 0
        if index not in self._closed and index not in seen.choices_open:
            seen.choices_open.add(index)
            seen.complete = False
        news = False
        part = choice.delta if choice.delta is not None else choice.message
        if part is not None:
            size = _content_bytes(part)
            if size:
                seen.content = news = True
                seen.content_bytes += size
            if part.refusal:
                seen.refused = True
        reason = finish_reason(choice)
        if reason == "error" or (choice.error is not NOTHING and says_something(choice.error)):
            self._fail(data)
            return True
        if reason is not None and index not in self._closed:
            if str(choice.native_finish_reason) in _BROKEN_FINISHES and not seen.content:
                seen.failure = broken("upstream_finish_error", FailureClass.OVERLOAD)
                return True
            self._close(index, str(reason))
            news = True
        return news

    def _close(self, index: int, reason: str) -> None:
        seen = self.seen
        self._closed.add(index)
        seen.choices_open.discard(index)
        if seen.finish_reason is None or index == 0:
            seen.finish_reason = reason
        if reason == "content_filter":
            seen.refused = True
        seen.complete = not seen.choices_open and len(self._closed) >= self._expected

    def _fail(self, data: bytes) -> None:
        """Judge the error that `data` holds; where it only says that there was one, the route is down."""
        answer = read_error_object(data) or {}
        if not answer.get("error"):
            choices = answer.get("choices")
            first = next((c for c in choices or () if isinstance(c, dict) and c.get("error")), None)
            answer = first or {"error": {"message": "", "code": "finish_error"}}
        self.seen.failure = self._judge(answer["error"])

    def done(self) -> bool:
        """Take the terminator in; return whether the answer before it was whole."""
        seen = self.seen
        if not seen.complete and self._closed and not seen.choices_open:
            seen.complete = True  # Fewer answers than asked for, all of them finished.
        if not seen.complete:
            self.fail("stream ended without finish")
            return False
        seen.ended = True
        return True


def finish_reason(choice: Choice) -> Any:
    """Why a choice ended, None while it has not. The first vision models (2023) said it in `finish_details`."""
    details = choice.finish_details
    if choice.finish_reason is not None or not isinstance(details, dict):
        return choice.finish_reason
    return "length" if details.get("type") == "max_tokens" else "stop"


def broken(signal: str, cls: FailureClass = FailureClass.NETWORK) -> Failure:
    return Failure(cls=cls, signal=signal, status=200)


def _content_bytes(part: Delta) -> int:
    """Bytes of content in a delta or message: text, refusal, reasoning, tool calls, media."""
    content = part.content
    size = 0 if not content else len(content) if type(content) is str and content.isascii() else size_of(content)
    if part.tool_calls:
        size += sum(_call_size(call) or 1 for call in part.tool_calls)
    reasoning = part.reasoning or part.reasoning_content
    if reasoning:
        size += size_of(reasoning)
    elif part.reasoning_details is not NOTHING and says_something(part.reasoning_details):
        size += _details_size(part.reasoning_details)
    if part.refusal:
        size += size_of(part.refusal)
    if part.function_call is not None:
        size += _call_size(part.function_call)
    for media in (part.audio, part.images):
        if media is not NOTHING and says_something(media):
            size += memoryview(media).nbytes
    return size


def size_of(value: object) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    return len(msgspec.json.encode(value))


def _call_size(call: ToolDelta | Function) -> int:
    return sum(size_of(text) for text in (call.name, call.arguments) if text)


def _details_size(raw: msgspec.Raw) -> int:
    """Reasoning that comes only as details: summaries, encrypted blocks, signatures. Empty frames are none."""
    details = msgspec.json.decode(raw)
    texts = (
        detail.get(name)
        for detail in (details if isinstance(details, list) else ())
        if isinstance(detail, dict)
        for name in ("text", "summary", "data", "signature")
    )
    return sum(size_of(text) for text in texts if text)


class StreamPassthrough(ABC):
    """Relays a stream frame by frame as received, and shows every frame to an observer."""

    __slots__ = ("_observer", "_parser", "seen")

    def __init__(self, observer: AnswerObserver) -> None:
        self._observer = observer
        self.seen = observer.seen
        self._parser = SseParser()

    def feed(self, data: bytes) -> Sequence[bytes]:
        """Whole frames to relay. After `seen.failure` is set, no further frame comes out."""
        if self.seen.failure is not None:
            return ()
        try:
            frames = self._parser.feed(data)
        except FrameTooLarge:
            self._observer.fail("event too large")
            return ()
        return self._relay(frames)

    def eof(self) -> Sequence[bytes]:
        """The upstream closed: what was left of it, and the terminator if a whole answer had none."""
        if self.seen.failure is not None:
            return ()
        relayed = self._relay(self._parser.eof())
        if self.seen.ended or self.seen.failure is not None or not self._observer.done():
            return relayed
        return [*relayed, _DONE_FRAME]

    def _relay(self, frames: Sequence[SseFrame]) -> list[bytes]:
        relayed: list[bytes] = []
        for at, frame in enumerate(frames):
            if self.seen.ended:
                return relayed  # Nothing after the terminator belongs to the answer, or can take from it.
            if frame.data is None:
                if not self._observer.take_silent(frame):
                    return relayed
            elif frame.data == b"[DONE]":
                if not self._observer.done():
                    return relayed
            elif not self._look(frame.data):
                if self.seen.failure is not None:
                    self._observer.take_rest(frames[at + 1 :])
                    return relayed
                continue
            relayed.append(frame.raw if not frame.partial else frame.raw.rstrip(b"\r\n") + b"\n\n")
        return relayed

    @abstractmethod
    def _look(self, data: bytes) -> bool:
        """Observe one event; return whether to relay it."""


class ChatPassthrough(StreamPassthrough):
    """Relays a chat stream; withholds only usage that nobody asked for."""

    __slots__ = ("_chunks", "_usage_asked")

    def __init__(self, judge: Judge, call: WatchedCall) -> None:
        self._chunks = ChatObserver(judge, call.shape.answers)
        super().__init__(self._chunks)
        self._usage_asked = call.include_usage

    def _look(self, data: bytes) -> bool:
        try:
            chunk = decode_chunk(data)
            news = self._chunks.see(chunk, data)
        except UNREADABLE:
            if self.seen.complete:
                return False  # The answer is whole already: a broken tail takes nothing from it.
            self._chunks.fail("malformed event")
            return False
        if self.seen.failure is not None:
            return False
        return news or self._usage_asked or not says_something(chunk.usage)


def observe_chat(body: bytes, judge: Judge) -> tuple[Seen, Chunk | None]:
    """Read a whole chat body once: what it shows, and its parts for translation (None if it is broken)."""
    observer = ChatObserver(judge)
    seen = observer.seen
    try:
        answer = decode_chunk(body)
        observer.see(answer, body)
    except UNREADABLE:
        observer.fail("answer is not a chat completion")
        return seen, None
    if seen.failure is None and not answer.choices:
        observer.fail("answer without choices")
    if seen.failure is None and not seen.complete:
        observer.fail("answer without finish")
    seen.ended = seen.failure is None
    return seen, answer


def observe_embeddings(body: bytes, judge: Judge) -> Seen:
    """Read a whole embeddings body without decoding its vectors."""
    seen = Seen()
    try:
        answer = decode_embeddings(body)
        if not body.isascii():
            body.decode()  # what decoding skips it does not check, and no caller could read it
    except UNREADABLE:
        seen.failure = broken("answer is not a list of embeddings")
        return seen
    if says_something(answer.error):
        seen.failure = judge((read_error_object(body) or {}).get("error"))
        return seen
    if not says_something(answer.data):
        seen.failure = broken("answer without embeddings")
        return seen
    seen.model = answer.model if isinstance(answer.model, str) else None
    if isinstance(answer.id, str) and answer.id:
        seen.response_id = answer.id
    seen.usage = read_usage(answer.usage)
    seen.content = seen.complete = seen.ended = True
    return seen
