"""The Messages API as one codec: requests into it, answers out of it."""

from collections.abc import Sequence

from ownkey.domain.conversation import ChatRequest, Event, Untranslatable
from ownkey.domain.wire import EmbeddingsRequest, Seen
from ownkey.providers.anthropic import encode
from ownkey.providers.anthropic.events import MessagesReader
from ownkey.providers.sse import FrameTooLarge, SseFrame, SseParser

_END = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class MessagesPassthrough:
    """Relays a stream of messages as received and reads it aside."""

    def __init__(self) -> None:
        self._reader = MessagesReader()
        self._sse = SseParser()
        self.seen = self._reader.seen

    def feed(self, data: bytes) -> Sequence[bytes]:
        """The whole frames that `data` completes, up to the first one that fails the answer."""
        try:
            return self._relay(self._sse.feed(data))
        except FrameTooLarge:
            self._reader.reject_frame()
            return ()

    def eof(self) -> Sequence[bytes]:
        """What was left, and the terminator that a complete answer lacks."""
        relayed = [*self._relay([frame for frame in self._sse.eof() if not frame.partial])]
        terminated = self.seen.ended
        self._reader.eof()
        if self.seen.failure is None and not terminated:
            relayed.append(_END)
        return relayed

    def _relay(self, frames: Sequence[SseFrame]) -> Sequence[bytes]:
        relayed = []
        for frame in frames:
            self._reader.read_frames((frame,))
            if self.seen.failure is not None:
                break
            relayed.append(frame.raw)
        return relayed


class MessagesCodec:
    """Satisfies the gateway's Codec for `anthropic.messages`."""

    wire = "anthropic.messages"

    def encode_chat(self, model: str, request: ChatRequest, output_limit: int) -> bytes:
        """The provider's body. Raises Untranslatable for what it cannot carry."""
        return encode.encode_chat(model, request, output_limit)

    def encode_embeddings(self, model: str, request: EmbeddingsRequest) -> bytes:
        """Anthropic has no embeddings."""
        raise Untranslatable("input", "the provider has no embeddings")

    def dropped_hints(self, request: ChatRequest) -> tuple[str, ...]:
        """The hints that `encode_chat` leaves behind, for the receipt."""
        return encode.dropped_hints(request)

    def passthrough(self, call: object) -> MessagesPassthrough:
        """For callers who speak Anthropic's own format."""
        return MessagesPassthrough()

    def events(self) -> MessagesReader:
        """A reader for one stream."""
        return MessagesReader()

    def observe_whole(self, body: bytes) -> Seen:
        """What a whole 200 body shows."""
        return self.decode_whole(body)[0]

    def decode_whole(self, body: bytes) -> tuple[Seen, Sequence[Event]]:
        """A whole 200 body as neutral events."""
        reader = MessagesReader()
        events = reader.read_whole(body)
        return reader.seen, events
