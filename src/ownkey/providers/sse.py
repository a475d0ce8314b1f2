"""Server-sent events cut into frames whose bytes, joined, are the stream again.

Written for relaying: every frame keeps its exact bytes, so that what a provider sent can be passed on
unchanged and looked at aside. Framing follows the WHATWG standard (HTML, "Server-sent events"): LF, CRLF and
CR, comments, several `data:` lines, a byte-order mark; a character split between chunks is whole again.
"""

import re

import msgspec

MAX_FRAME_BYTES = 10 * 1024 * 1024

# A blank line ends a frame. A CR after LF is a whole line end only if no LF follows, hence the lookahead.
_END = re.compile(rb"\n\n|\n\r\n|\n\r(?=[^\n])|\r\r")
_BOM = b"\xef\xbb\xbf"


class FrameTooLarge(Exception):
    """A frame grew beyond MAX_FRAME_BYTES before it ended: no provider's event, and not ours to buffer."""


class SseFrame(msgspec.Struct, frozen=True, gc=False):
    """One frame. `raw` is its bytes with the terminator; `data` is None where no `data:` line was (comments).

    `partial` marks a frame that the stream's end cut off before its blank line.
    """

    raw: bytes
    event: bytes | None
    data: bytes | None
    partial: bool = False


class SseParser:
    """Cuts a stream of chunks into frames. The same bytes give the same frames, however they are split."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[SseFrame]:
        """Return the frames that `data` completes. Raises FrameTooLarge."""
        pending = self._pending
        if pending:
            if _END.search(pending[-2:] + data) is None:
                pending += data
                if len(pending) > MAX_FRAME_BYTES:
                    raise FrameTooLarge
                return []
            data = bytes(pending) + data
            pending.clear()
        if b"\r" in data:
            return self._cut_any(data)
        parts = data.split(b"\n\n")
        rest = parts.pop()
        if rest:
            pending += rest
        if len(data) > MAX_FRAME_BYTES and max(map(len, (*parts, rest))) > MAX_FRAME_BYTES:
            raise FrameTooLarge
        frames = []
        for part in parts:
            if part[:6] == b"data: " and b"\n" not in part:
                frames.append(SseFrame(part + b"\n\n", None, part[6:]))
            else:
                frames.append(_parse(part + b"\n\n"))
        return frames

    def eof(self) -> list[SseFrame]:
        """Return what was left when the stream ended: at most one frame, marked partial if it has no end."""
        raw = bytes(self._pending)
        self._pending.clear()
        if not raw:
            return []
        return [_parse(raw, partial=bool(raw.strip(b"\r\n")) and not raw.endswith(b"\n\r"))]

    def _cut_any(self, data: bytes) -> list[SseFrame]:
        frames = []
        start = 0
        for end in _END.finditer(data):
            frames.append(_parse(data[start : end.end()]))
            start = end.end()
        self._pending += data[start:]
        if len(data) > MAX_FRAME_BYTES and (
            len(self._pending) > MAX_FRAME_BYTES or any(len(frame.raw) > MAX_FRAME_BYTES for frame in frames)
        ):
            raise FrameTooLarge
        return frames


def _parse(raw: bytes, partial: bool = False) -> SseFrame:
    """Read one frame's fields. `id:` and `retry:` are for reconnecting clients and mean nothing here."""
    event: bytes | None = None
    data: bytes | None = None
    for line in raw.removeprefix(_BOM).splitlines():
        if line[:5] == b"data:":
            value = line[6:] if line[5:6] == b" " else line[5:]
            data = value if data is None else data + b"\n" + value
        elif line[:6] == b"event:":
            event = line[7:] if line[6:7] == b" " else line[6:]
        elif line == b"data":
            data = b"" if data is None else data + b"\n"
    return SseFrame(raw, event, data, partial)
