"""Addresses that can be made to fail before any provider hears of it: nobody listens, or nobody takes the call."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator


class Walls:
    """One loopback port a provider: open (bytes pass to the emulator), `refused`, or `unanswered`."""

    def __init__(self, emulator_port: int) -> None:
        self.ports: dict[str, int] = {}
        self._emulator_port = emulator_port
        self._servers: dict[str, asyncio.Server] = {}
        self._full: dict[str, list[socket.socket]] = {}
        self._pipes: set[asyncio.Task[None]] = set()
        self._trap: asyncio.Server | None = None
        self.trapped = 0

    async def start(self, providers: tuple[str, ...]) -> None:
        """A free port each, all open."""
        for provider in providers:
            with socket.socket() as found:
                found.bind(("127.0.0.1", 0))
                self.ports[provider] = found.getsockname()[1]
            await self._open(provider)

    async def trap(self) -> str:
        """The address of a listener that nobody has a reason to visit, for redirects; `trapped` counts who does."""
        if self._trap is None:
            self._trap = await asyncio.start_server(self._visited, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._trap.sockets[0].getsockname()[1]}/v1/chat/completions"

    async def _visited(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.trapped += 1
        writer.close()

    async def stop(self) -> None:
        """Every connection and listener gone."""
        if self._trap is not None:
            self._trap.close()
        for provider in tuple(self.ports):
            self._close(provider)
        for pipe in tuple(self._pipes):
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def broken(self, how: str, providers: tuple[str, ...]) -> AsyncIterator[None]:
        """These addresses fail for a while, and so do the connections that were open to them."""
        for provider in providers:
            self._close(provider)
        for pipe in tuple(self._pipes):
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)
        if how == "unanswered":
            for provider in providers:
                self._fill(provider)
        try:
            yield
        finally:
            for provider in providers:
                self._close(provider)
                await self._open(provider)

    async def _open(self, provider: str) -> None:
        self._servers[provider] = await asyncio.start_server(
            self._connected, "127.0.0.1", self.ports[provider], reuse_address=True
        )

    def _close(self, provider: str) -> None:
        if (server := self._servers.pop(provider, None)) is not None:
            server.close()
        for one in self._full.pop(provider, []):
            one.close()

    def _fill(self, provider: str) -> None:
        """A listener that never accepts, and its queue full: the next connect gets no answer at all."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.ports[provider]))
        listener.listen(0)
        waiting = [listener]
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", self.ports[provider]))
            waiting.append(one)
        self._full[provider] = waiting

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pipes.add(task)
        try:
            inner, outer = await asyncio.open_connection("127.0.0.1", self._emulator_port)
            try:
                await asyncio.gather(_pipe(reader, outer), _pipe(inner, writer))
            finally:
                outer.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._pipes.discard(task)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
