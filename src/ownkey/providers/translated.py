"""Answers that become neutral events: what the streams and bodies of every translated provider share.

A provider brings a reader, which says what one frame or one body means, and the encoding of its requests. Cutting
the stream, telling a whole answer from a broken one, and relaying to callers who speak the format live here.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ownkey.domain.conversation import ChatRequest, Event, Failed, Finished, FinishReason
from ownkey.domain.failures import Failure, FailureClass
from ownkey.domain.wire import EmbeddingsRequest, Seen
from ownkey.providers.sse import FrameTooLarge, SseFrame, SseParser


def broken(signal: str) -> Failure:
    """The failure of an answer whose bytes broke off or are not what they should be."""
    return Failure(FailureClass.NETWORK, signal, "The provider's answer broke off or cannot be read.", 200)


class AnswerReader(ABC):
    """Reads one answer, streamed or whole, into `seen` and neutral events."""

    def __init__(self) -> None:
        self.seen = Seen()
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
            if self.seen.failure is not None or self.seen.ended:
                break
            events += self.read_frame(frame)
        return events

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
        """What was left, if it is a whole frame, and the terminator that a complete answer lacks."""
        relayed = self._relay([frame for frame in self._sse.eof() if not frame.partial])
        terminated = self.seen.ended
        self._reader.eof()
        if self._terminator and self.seen.failure is None and not terminated:
            relayed.append(self._terminator)
        return relayed

    def _relay(self, frames: Sequence[SseFrame]) -> list[bytes]:
        relayed: list[bytes] = []
        for frame in frames:
            self._reader.read_frames((frame,))
            if self.seen.failure is not None:
                break
            relayed.append(frame.raw)
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
