"""A small HTTP/1.1 server that hands every answer the connection itself.

A fault must be able to reset a connection before its head, lie about its length, or fall silent; ASGI servers rightly
forbid all of that. One `Exchange` is one request; requests that arrive together on a connection are answered in order.
"""

import asyncio
import socket
import struct
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, cast

import httptools

Handler = Callable[["Exchange"], Coroutine[Any, Any, None] | None]

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_HIGH_WATER = 256 * 1024


def status_line(status: int) -> bytes:
    """The first line of an answer's head."""
    return b"HTTP/1.1 %d %s\r\n" % (status, _REASONS.get(status, b"Unknown"))


_OK = status_line(200)


class Hangup(Exception):
    """The client closed the connection."""


class Exchange:
    """One request and the way to its answer. Header names are lower case."""

    __slots__ = ("body", "connection", "headers", "keep_alive", "method", "started", "status", "target")

    def __init__(
        self,
        connection: "Connection",
        method: bytes,
        target: bytes,
        headers: dict[bytes, bytes],
        body: bytes,
        keep_alive: bool,
    ) -> None:
        self.connection = connection
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.keep_alive = keep_alive
        self.started = False
        self.status = 0

    @property
    def gone(self) -> bool:
        """True once the client has hung up."""
        return self.connection.lost

    @property
    def peer(self) -> str:
        """The client's address."""
        name = self.connection.transport.get_extra_info("peername")
        return str(name[0]) if name else ""

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Send a whole answer. `headers` are whole lines, each ending in CRLF."""
        self.status = status
        line = _OK if status == 200 else status_line(status)
        self.connection.transport.write(b"%s%scontent-length: %d\r\n\r\n%s" % (line, headers, len(body), body))
        self.connection.answered(self)

    def start(self, status: int, headers: bytes) -> None:
        """Send the head of an answer that comes in pieces."""
        self.started = True
        self.status = status
        self.connection.transport.write(b"%s%stransfer-encoding: chunked\r\n\r\n" % (status_line(status), headers))

    def write(self, data: bytes) -> None:
        """Send one piece. An empty piece would end the answer, so it is skipped."""
        if self.connection.lost:
            raise Hangup
        if data:
            self.connection.transport.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def drain(self) -> None:
        """Wait until the client reads what was sent."""
        await self.connection.writable()
        if self.connection.lost:
            raise Hangup

    def monotonic(self) -> float:
        """Seconds on the clock that `sleep` waits on."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Let time pass, or raise Hangup at once when the client leaves."""
        await self.connection.sleep(seconds)

    async def forever(self) -> None:
        """Wait until the client leaves."""
        while True:
            await self.connection.sleep(3600.0)

    def finish(self) -> None:
        """End an answer that came in pieces."""
        if not self.connection.lost:
            self.connection.transport.write(b"0\r\n\r\n")
        self.connection.answered(self)

    def raw(self, data: bytes) -> None:
        """Send bytes as they are, head and framing included."""
        self.started = True
        self.connection.transport.write(data)

    def cut(self, *, reset: bool) -> None:
        """Close the connection: after what was sent has left, or with a reset that may overtake it."""
        transport = self.connection.transport
        if reset:
            sock = transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()


class Connection(asyncio.Protocol):
    """One client. Answers are written in the order of the requests."""

    __slots__ = (
        "_body", "_busy", "_expired", "_headers", "_loop", "_parser", "_paused", "_queue", "_server", "_target",
        "_task", "_waiter", "last", "lost", "transport",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Exchange] = deque()
        self._busy = False
        self._expired = False
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self.last = False  # the next request on this connection is answered with a reset
        self.lost = False
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._server.connections.discard(self)
        self._queue.clear()
        self._wake()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.transport.close()
        except httptools.HttpParserError:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()

    # the parser's side

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = {}
        self._body = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        parser = self._parser
        exchange = Exchange(self, parser.get_method(), self._target, self._headers, body, parser.should_keep_alive())
        if self._busy:
            self._queue.append(exchange)
        else:
            self._dispatch(exchange)

    # the answers' side

    def _dispatch(self, exchange: Exchange) -> None:
        if self.last:
            exchange.cut(reset=True)
            return
        self._busy = True
        try:
            work = self._server.handler(exchange)
        except Exception:  # noqa: BLE001 - a defect of the emulator must be seen as one, not as a hanging test
            self._defect()
            return
        if work is not None:
            self._task = self._loop.create_task(self._run(exchange, work))
            self._server.tasks.add(self._task)
            self._task.add_done_callback(self._server.tasks.discard)

    async def _run(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Hangup:
            if not self.lost:
                self.transport.close()
        except Exception:  # noqa: BLE001 - as above
            self._defect()

    def _defect(self) -> None:
        """Say on stderr what went wrong, and answer in no provider's words."""
        sys.stderr.write(traceback.format_exc())
        self.transport.write(b"HTTP/1.1 599 Emulator Defect\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def answered(self, exchange: Exchange) -> None:
        """The answer is complete: take the next request, or close where keep-alive was declined."""
        self._busy = False
        if not exchange.keep_alive:
            self.transport.close()
        elif self._queue:
            self._dispatch(self._queue.popleft())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _expire(self) -> None:
        self._expired = True
        self._wake()

    async def writable(self) -> None:
        while self._paused and not self.lost:
            self._waiter = self._loop.create_future()
            await self._waiter

    async def sleep(self, seconds: float) -> None:
        if self.lost:
            raise Hangup
        if seconds <= 0:
            return
        self._expired = False
        timer = self._loop.call_later(seconds, self._expire)
        try:
            # A resumed transport wakes the same waiter; the flag tells it from the timer.
            while not self._expired:
                self._waiter = self._loop.create_future()
                await self._waiter
                if self.lost:
                    raise Hangup
        finally:
            timer.cancel()


class Server:
    """Listens on one loopback address and hands every request to `handler`."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> int:
        """Start listening and return the port (a free one when asked for 0)."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Connection(self), host, port, backlog=2048)
        return int(self._listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.connections):
            connection.transport.abort()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
