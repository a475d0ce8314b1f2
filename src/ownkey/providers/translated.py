"""Answers that become neutral events: what the streams and bodies of every translated provider share.

A provider brings a reader, which says what one frame or one body means, and the encoding of its requests. Cutting
the stream, telling a whole answer from a broken one, and relaying to callers who speak the format live here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from ownkey.domain.conversation import ChatRequest, Event, Failed, Finished, FinishReason
from ownkey.domain.failures import Failure, FailureClass
from ownkey.domain.wire import EmbeddingsRequest, Seen
from ownkey.providers.classify import read_error_object
from ownkey.providers.sse import FrameTooLarge, SseFrame, SseParser

# Judges the error that an answer holds: its `error`, or the whole answer or event around it.
Judge = Callable[[object], Failure]

# How JSON and pages begin: what some edges send in a stream's place.
_NO_STREAM = (b"{", b"[", b"<")


def broken(signal: str) -> Failure:
    """The failure of an answer whose bytes broke off or are not what they should be."""
    return Failure(FailureClass.NETWORK, signal, "The provider's answer broke off or cannot be read.", 200)


class AnswerReader(ABC):
    """Reads one answer, streamed or whole, into `seen` and neutral events. `ignored` says of the last frame that it
    could not be read and took nothing from an answer that was whole already."""

    def __init__(self, judge: Judge) -> None:
        self.seen = Seen()
        self.ignored = False
        self._judge = judge
        self._sse = SseParser()

    @abstractmethod
    def read_frame(self, frame: SseFrame) -> Sequence[Event]:
        """The events of one frame. Never raises, whatever it holds."""

    @abstractmethod
    def read_whole(self, body: bytes) -> Sequence[Event]:
        """The events of a whole answer. Never raises, whatever it holds."""

    def feed(self, data: bytes) -> Sequence[Event]:
        """The events that `data` completes."""
        try:
            frames = self._sse.feed(data)
        except FrameTooLarge:
            return self.reject_frame()
        return self.read_frames(frames)

    def reject_frame(self) -> Sequence[Event]:
        """The stream sent an event too large to be one: the answer has failed."""
        return self._fail(broken("event too large")) if self.seen.failure is None else ()

    def eof(self) -> Sequence[Event]:
        """The upstream closed: what it left, and a failure if the answer is not whole."""
        events = [*self.read_frames(self._sse.eof()), *self._fail_unless_complete("stream ended early")]
        self.seen.ended = True
        return events

    def read_frames(self, frames: Sequence[SseFrame]) -> Sequence[Event]:
        """The events of these frames. After a failure or the terminator nothing counts any more."""
        events: list[Event] = []
        for frame in frames:
            self.ignored = False
            if self.seen.failure is not None or self.seen.ended:
                break
            events += self.read_frame(frame)
        return events

    def _read_bare(self, frame: SseFrame) -> Sequence[Event]:
        """Lines without data: comments, or a bare error or page in the middle of a stream."""
        text = frame.raw.strip()
        if not text.startswith(_NO_STREAM):
            return ()
        document = read_error_object(text.partition(b"\ndata:")[0])
        if document is not None and document.get("error"):
            return self._fail(self._judge(document))
        return self._fail_or_ignore(broken("not an event stream"))

    def _fail_or_ignore(self, failure: Failure) -> Sequence[Event]:
        """A broken tail takes nothing from an answer that is whole already."""
        if self.seen.complete:
            self.ignored = True
            return ()
        return self._fail(failure)

    def _fail(self, failure: Failure) -> Sequence[Event]:
        self.seen.failure = failure
        return (Failed(failure),)

    def _fail_unless_complete(self, signal: str) -> Sequence[Event]:
        return self._fail(broken(signal)) if self.seen.failure is None and not self.seen.complete else ()

    def _saw(self, text: str) -> None:
        if text:
            self.seen.content = True
            self.seen.content_bytes += len(text.encode("utf-8", "surrogatepass"))

    def _finished(self, reason: FinishReason, native: str) -> Event:
        self.seen.complete = True
        self.seen.refused = reason is FinishReason.CONTENT_FILTER
        self.seen.finish_reason = reason.value
        return Finished(reason, native)


class AnswerRelay:
    """Relays a stream as received and reads it aside. `terminator` ends a complete answer that lacks its own."""

    def __init__(self, reader: AnswerReader, terminator: bytes) -> None:
        self._reader = reader
        self._terminator = terminator
        self._sse = SseParser()
        self.seen = reader.seen

    def feed(self, data: bytes) -> Sequence[bytes]:
        """The whole frames that `data` completes, up to the first one that fails the answer."""
        try:
            frames = self._sse.feed(data)
        except FrameTooLarge:
            self._reader.reject_frame()
            return ()
        return self._relay(frames)

    def eof(self) -> Sequence[bytes]:
        """What was left, made a whole frame, and the terminator that a complete answer lacks."""
        relayed = self._relay(self._sse.eof())
        terminated = self.seen.ended
        self._reader.eof()
        if self._terminator and self.seen.failure is None and not terminated:
            relayed.append(self._terminator)
        return relayed

    def _relay(self, frames: Sequence[SseFrame]) -> list[bytes]:
        relayed: list[bytes] = []
        for frame in frames:
            if self.seen.ended:
                # Nothing after the terminator belongs to the answer; OpenRouter's `[DONE]` is one too many here: the
                # anthropic SDK reads every named event as JSON.
                if not frame.partial and frame.data is None:
                    relayed.append(frame.raw)
                continue
            self._reader.read_frames((frame,))
            if self.seen.failure is not None:
                break
            if self._reader.ignored or (frame.partial and frame.data is None):
                continue
            relayed.append(frame.raw if not frame.partial else frame.raw.rstrip(b"\r\n") + b"\n\n")
        return relayed


class TranslatedCodec(ABC):
    """The gateway's Codec over an AnswerReader. `terminator` ends its streams; empty where their end is EOF."""

    wire: str
    interim_usage = True
    terminator = b""

    @abstractmethod
    def encode_chat(self, model: str, request: ChatRequest, output_limit: int) -> bytes:
        """The provider's body. Raises Untranslatable for what it cannot carry."""

    @abstractmethod
    def encode_embeddings(self, model: str, request: EmbeddingsRequest) -> bytes:
        """The same for embeddings."""

    @abstractmethod
    def dropped_hints(self, request: ChatRequest) -> tuple[str, ...]:
        """The hints that `encode_chat` leaves behind, for the receipt."""

    @abstractmethod
    def events(self) -> AnswerReader:
        """A reader for one answer."""

    def passthrough(self, call: object) -> AnswerRelay:
        """For callers who speak the provider's own format."""
        return AnswerRelay(self.events(), self.terminator)

    def observe_whole(self, body: bytes) -> Seen:
        """What a whole 200 body shows."""
        return self.decode_whole(body)[0]

    def decode_whole(self, body: bytes) -> tuple[Seen, Sequence[Event]]:
        """A whole 200 body as neutral events."""
        reader = self.events()
        events = reader.read_whole(body)
        return reader.seen, events
