"""One streamed answer on its way to the caller: bytes in, the caller's bytes out, watched as they pass."""

from typing import Protocol

from ownkey.domain.wire import Seen
from ownkey.gateway.codecs import EventEncoder, EventReader, Passthrough


class Relay(Protocol):
    """`seen` grows with every feed; what comes out is whole frames of the caller's dialect."""

    seen: Seen

    def feed(self, data: bytes) -> bytes: ...

    def eof(self) -> bytes: ...


class PassthroughRelay:
    """Upstream and caller speak the same: frames pass as they came."""

    def __init__(self, reader: Passthrough) -> None:
        self._reader = reader
        self.seen = reader.seen

    def feed(self, data: bytes) -> bytes:
        return b"".join(self._reader.feed(data))

    def eof(self) -> bytes:
        return b"".join(self._reader.eof())


class TranslatedRelay:
    """Upstream events become frames of the caller's dialect; the end is written by us, once."""

    def __init__(self, reader: EventReader, encoder: EventEncoder) -> None:
        self._reader = reader
        self._encoder = encoder
        self._closed = False
        self.seen = reader.seen

    def feed(self, data: bytes) -> bytes:
        return self._with_end(self._encoder.encode(self._reader.feed(data)))

    def eof(self) -> bytes:
        frames = self._encoder.encode(self._reader.eof())
        if self.seen.complete and self.seen.failure is None:
            self.seen.ended = True
        return self._with_end(frames)

    def _with_end(self, frames: bytes) -> bytes:
        if self.seen.ended and self.seen.complete and self.seen.failure is None and not self._closed:
            self._closed = True
            return frames + self._encoder.end()
        return frames
