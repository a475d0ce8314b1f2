"""generateContent as one codec: requests into it, answers out of it."""

from collections.abc import Sequence

from ownkey.domain.conversation import ChatRequest, Event, Untranslatable
from ownkey.domain.wire import EmbeddingsRequest, Seen
from ownkey.providers.google import encode
from ownkey.providers.google.events import GenerateReader
from ownkey.providers.sse import FrameTooLarge, SseParser


class GeneratePassthrough:
    """Relays a stream as received and reads it aside. Gemini's streams have no terminator to supply."""

    def __init__(self) -> None:
        self._reader = GenerateReader()
        self._sse = SseParser()
        self.seen = self._reader.seen

    def feed(self, data: bytes) -> Sequence[bytes]:
        """The whole frames that `data` completes, up to the first one that fails the answer."""
        relayed = []
        try:
            frames = self._sse.feed(data)
        except FrameTooLarge:
            self._reader.reject_frame()
            return ()
        for frame in frames:
            self._reader.read_frames((frame,))
            if self.seen.failure is not None:
                break
            relayed.append(frame.raw)
        return relayed

    def eof(self) -> Sequence[bytes]:
        """What was left, if it is a whole frame."""
        frames = self._sse.eof()
        self._reader.read_frames(frames)
        self._reader.eof()
        return [frame.raw for frame in frames if not frame.partial and self.seen.failure is None]


class GenerateCodec:
    """Satisfies the gateway's Codec for `google.generate`."""

    wire = "google.generate"

    def encode_chat(self, model: str, request: ChatRequest, output_limit: int) -> bytes:
        """The provider's body. Raises Untranslatable for what it cannot carry."""
        return encode.encode_chat(model, request, output_limit)

    def encode_embeddings(self, model: str, request: EmbeddingsRequest) -> bytes:
        """Embeddings have a codec of their own."""
        raise Untranslatable("input", "embeddings are another endpoint")

    def dropped_hints(self, request: ChatRequest) -> tuple[str, ...]:
        """The hints that `encode_chat` leaves behind, for the receipt."""
        return encode.dropped_hints(request)

    def passthrough(self, call: object) -> GeneratePassthrough:
        """For callers who speak Google's own format."""
        return GeneratePassthrough()

    def events(self) -> GenerateReader:
        """A reader for one stream."""
        return GenerateReader()

    def observe_whole(self, body: bytes) -> Seen:
        """What a whole 200 body shows."""
        return self.decode_whole(body)[0]

    def decode_whole(self, body: bytes) -> tuple[Seen, Sequence[Event]]:
        """A whole 200 body as neutral events."""
        reader = GenerateReader()
        events = reader.read_whole(body)
        return reader.seen, events
