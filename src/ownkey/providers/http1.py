"""One HTTP/1.1 client connection that knows what was sent, what came back, and how it broke.

It never connects, never retries and never holds a credential: bytes of a request's head pass through `begin`
and are gone. One future a wait and one lazy timer a connection replace asyncio's streams, queues and
`timeout()`, which together cost more than the rest of a call.
"""

import asyncio
import math
import zlib
from collections.abc import Callable
from typing import cast

import httptools

from ownkey.domain.failures import UpstreamError

MAX_FIELDS = 1000
HIGH_WATER = 256 * 1024  # unread body bytes at which reading stops
WRITE_PIECE = 64 * 1024
MAX_INFLATED = 64 * 1024 * 1024
_INFLATE_PIECE = 64 * 1024
_MAX_FRAMING = 64 * 1024  # bytes of chunk framing or trailers in a row without a byte of body
_TIMER_SLACK_S = 0.002  # uvloop's timers count whole milliseconds
_NEVER = math.inf


class Connection(asyncio.Protocol):
    """`begin` a request, await `head`, `read` the body, then `rest` in a pool or `abort`.

    After `head`: `status`, `headers` (lower-case names, duplicates joined by ", ", no set-cookie), `body_bytes`
    (body bytes arrived, without chunk framing, before decompression).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_lost: "Callable[[Connection], None]",
        *,
        max_head_bytes: int,
    ) -> None:
        self._loop = loop
        self._on_lost = on_lost
        self._max_head_bytes = max_head_bytes
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = _NEVER
        self._timed_out = False
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._reading_paused = False
        self._writing_paused = False
        self._unsent: memoryview | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._framing_bytes = 0
        self._head_done = True
        self._complete = True  # nothing is asked yet: any byte now is one too many
        self._until_close = False
        self._keep_alive = True
        self._failure: str | None = None
        self._sent = False
        self._received = False
        self.alive = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body_bytes = 0

    # What the owner calls

    def begin(self, head: bytes, body: bytes) -> None:
        """Start an exchange. From here on a byte may have reached the peer."""
        self._chunks = []
        self._fields = []
        self._buffered = self._head_bytes = self._framing_bytes = self.body_bytes = self.status = 0
        self._head_done = self._complete = self._until_close = self._received = self._timed_out = False
        transport = self._transport
        if transport is None or not self.alive:
            self._sent = False
            self._failure = "connection closed before the request"
            return
        self._sent = True
        if len(body) <= WRITE_PIECE:
            transport.write(head + body)
        else:
            transport.write(head)
            self._unsent = memoryview(body)

    async def head(self, deadline: float) -> None:
        """Send what is left of the body and wait for the answer's head, whichever comes first.

        An early answer ends the sending. Raises UpstreamError; the connection is then of no more use.
        """
        while not self._head_done:
            if self._failure is not None:
                raise self.error(self._failure)
            if self._unsent is not None and not self._writing_paused:
                self._write_piece(self._unsent)
            else:
                await self._wait(deadline, "no answer head in time")
        if self._unsent is not None:
            self._unsent = None
            self._keep_alive = False

    async def read(self, deadline: float) -> bytes:
        """The next body bytes as sent, b"" at a proper end. After a timeout it may be called again."""
        while True:
            data = self.take()
            if data or self._complete:
                return data
            if self._failure is not None:
                raise self.error(self._failure)
            await self._wait(deadline, "no answer bytes in time")

    def take(self) -> bytes:
        """The body bytes that are already here, maybe none."""
        chunks = self._chunks
        if not chunks:
            return b""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._buffered = 0
        if self._reading_paused:
            self._reading_paused = False
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()
        return data

    @property
    def reusable(self) -> bool:
        """Whether another exchange may follow: this one was sent, answered and taken to its end."""
        return (
            self.alive
            and self._keep_alive
            and self._complete
            and not self._chunks
            and self._transport is not None
            and not self._transport.is_closing()
            and self._transport.get_write_buffer_size() == 0
        )

    def rest(self, idle_s: float) -> None:
        """Stay open without an exchange, for at most this long. The next wait ends it."""
        self._wait_until(self._loop.time() + idle_s)

    def abort(self) -> None:
        """Close at once; unsent bytes are dropped."""
        self.alive = False
        if self._transport is not None:
            self._transport.abort()

    def error(self, signal: str, *, timeout: bool = False) -> UpstreamError:
        """An error that carries what this exchange knows."""
        return UpstreamError(signal, sent=self._sent, received=self._received, timeout=timeout)

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses
        self.alive = True

    def data_received(self, data: bytes) -> None:
        if self._complete or self._parser is None:
            self.abort()  # nothing was asked, or more came than the answer declared
            return
        self._received = True
        before = self.body_bytes
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # After a complete answer the rest is not ours to read; the answer itself stands.
            if not self._complete and self._failure is None:
                self._failure = f"malformed answer: {error}"
            self.abort()
        else:
            if not self._head_done:
                self._head_bytes += len(data)
                if self._head_bytes > self._max_head_bytes:
                    self._break_off("answer head too large")
            elif self.body_bytes == before and not self._complete:
                self._framing_bytes += len(data)
                if self._framing_bytes > _MAX_FRAMING:
                    self._break_off("too much chunk framing")
            else:
                self._framing_bytes = 0
            if self._buffered > HIGH_WATER and not self._reading_paused and not self._complete:
                self._reading_paused = True
                if self._transport is not None:
                    self._transport.pause_reading()
        self._notify()

    def eof_received(self) -> None:
        self._ended("connection closed")
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended("connection closed" if exc is None else "connection reset")
        self._transport = None
        self._parser = None  # it refers back to this object
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._notify()

    # What the parser calls

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))  # trailers come here too, and are never looked at

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        fields = self._fields
        if sum([len(name) + len(value) + 4 for name, value in fields]) > self._max_head_bytes:
            self._refuse("answer head too large")
        if len(fields) > MAX_FIELDS:
            self._refuse("too many answer headers")
        if status == 101 or not 100 <= status <= 599:
            self._refuse(f"unasked status {status}")
        if status < 200:
            self._fields = []
            return
        headers: dict[str, str] = {}
        for raw_name, raw_value in fields:
            name = raw_name.decode("ascii").lower()
            value = raw_value.decode("latin-1").rstrip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        headers.pop("set-cookie", None)
        coding = headers.get("transfer-encoding")
        if coding is not None and coding.lower() != "chunked":
            self._refuse("unasked transfer-encoding")
        self._until_close = coding is None and "content-length" not in headers
        self._keep_alive = self._parser.should_keep_alive()
        self.status = status
        self.headers = headers
        self._head_done = True

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        size = len(body)
        self._buffered += size
        self.body_bytes += size

    def on_message_complete(self) -> None:
        if self._head_done:  # otherwise an interim 1xx ended
            self._complete = True

    # Inside

    def _write_piece(self, unsent: memoryview) -> None:
        assert self._transport is not None
        self._transport.write(unsent[:WRITE_PIECE])
        self._unsent = unsent[WRITE_PIECE:] if len(unsent) > WRITE_PIECE else None

    def _refuse(self, signal: str) -> None:
        """Stop the parser from inside one of its callbacks."""
        self._failure = signal
        raise ValueError(signal)

    def _break_off(self, signal: str) -> None:
        self._failure = signal
        self.abort()

    def _ended(self, how: str) -> None:
        self.alive = False
        if not self._complete and self._failure is None:
            if not self._received:
                self._failure = f"{how} before any answer"
            elif not self._head_done:
                self._failure = f"{how} inside the answer's head"
            elif self._until_close and how == "connection closed":
                self._complete = True
            else:
                self._failure = f"{how} before the answer's end"
        self._notify()

    def _notify(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _wait(self, deadline: float, signal: str) -> None:
        self._waiter = self._loop.create_future()
        self._wait_until(deadline)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._deadline = _NEVER
        if self._timed_out:
            self._timed_out = False
            raise self.error(signal, timeout=True)

    def _wait_until(self, deadline: float) -> None:
        """Note the deadline. The timer is moved only if it would ring too late: it mostly rings for nothing."""
        self._deadline = deadline
        if self._timer is None or self._timer_at > deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self._loop.call_at(deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        deadline = self._deadline
        if deadline == _NEVER or not self.alive:
            return
        if self._loop.time() + _TIMER_SLACK_S < deadline:
            self._wait_until(deadline)
        elif self._waiter is None:
            self.abort()  # a rest is over
        elif not self._waiter.done():
            self._timed_out = True
            self._waiter.set_result(None)


class Inflater:
    """Decompresses a gzip or deflate body nobody asked for, piece by piece, up to 64 MiB in all.

    Raises ValueError with a stable text for a broken, cut, continued or oversized body.
    """

    def __init__(self, encoding: str) -> None:
        self._deflate = encoding == "deflate"
        self._zlib = None if self._deflate else zlib.decompressobj(31)
        self._pending = b""
        self._fed = False
        self._more = False  # zlib took all input but holds output back
        self._total = 0

    def feed(self, data: bytes) -> None:
        """Add compressed bytes."""
        self._fed = True
        self._pending += data

    def take(self) -> bytes:
        """The next decompressed piece; b"" if more has to be fed first."""
        if not self._pending and not self._more:
            return b""
        if self._zlib is None:
            if len(self._pending) < 2:
                return b""
            # "deflate" means zlib's format, but some send the bare one: zlib's two-byte header tells.
            first, second = self._pending[0], self._pending[1]
            bare = first & 15 != 8 or (first * 256 + second) % 31 != 0
            self._zlib = zlib.decompressobj(-15 if bare else 15)
        if self._zlib.eof:
            raise ValueError("bytes after the compressed answer's end")
        try:
            data = self._zlib.decompress(self._pending, _INFLATE_PIECE)
        except zlib.error:
            raise ValueError("broken compressed answer") from None
        self._pending = self._zlib.unconsumed_tail or self._zlib.unused_data
        self._more = len(data) == _INFLATE_PIECE and not self._zlib.eof
        self._total += len(data)
        if self._total > MAX_INFLATED:
            raise ValueError("decompressed answer too large")
        return data

    def finish(self) -> None:
        """Check that the compressed body ended where its transport did. No byte at all is an empty body."""
        if self._pending or (self._zlib is not None and self._fed and not self._zlib.eof):
            raise ValueError("cut compressed answer")
