"""A closed-loop load generator on bare asyncio protocols: cheap enough not to be what is measured."""

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import cast

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass
class Load:
    """What a run saw. Latencies are seconds."""

    answers: int = 0
    errors: int = 0
    latencies: list[float] = field(default_factory=list)
    first_error: bytes = b""


class _Caller(asyncio.Protocol):
    """One keep-alive connection that always has one call in flight, until `stop_at`."""

    def __init__(self, request: bytes, load: Load, stop_at: float, done: "asyncio.Future[None]") -> None:
        self._request = request
        self._load = load
        self._stop_at = stop_at
        self._done = done
        self._buffer = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is no subclass of it
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._buffer[:head_end]
        length = _LENGTH.search(head)
        if length is not None:
            if len(self._buffer) < head_end + 4 + int(length[1]):
                return
        elif not self._buffer.endswith(b"0\r\n\r\n"):
            return
        self._count(head)
        self._buffer = b""
        if time.perf_counter() < self._stop_at:
            self._send()
        else:
            self._finish()

    def _count(self, head: bytes) -> None:
        load = self._load
        if head.startswith(b"HTTP/1.1 200"):
            load.answers += 1
            load.latencies.append(time.perf_counter() - self._sent_at)
        else:
            load.errors += 1
            load.first_error = load.first_error or self._buffer[:2_000]

    def connection_lost(self, error: Exception | None) -> None:
        self._finish()

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)
        if self._transport is not None:
            self._transport.close()


async def run_load(host: str, port: int, request: bytes, connections: int, seconds: float) -> tuple[Load, float]:
    """Returns what was seen and how long it took."""
    loop = asyncio.get_running_loop()
    load = Load()
    begun = time.perf_counter()
    futures = []
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(lambda d=done: _Caller(request, load, begun + seconds, d), host, port)
        futures.append(done)
    await asyncio.wait_for(asyncio.gather(*futures), seconds + 30)
    return load, time.perf_counter() - begun
