"""The replay upstream: four providers' prefixes on one loopback port, answering with recorded bytes and nothing else.

Each exchange has provider keys of its own, so the key that a request carries says which recording answers it: no
request needs a mark. Streams go out in pieces cut at random, the same ones on every run.
"""

import asyncio
import json
import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tools.fidelity.bodies import PROVIDERS, Recording

PREFIXES = {
    "openrouter": "/openrouter/api/v1", "openai": "/openai/v1", "anthropic": "/anthropic/v1",
    "google": "/google/v1beta",
}
# Recorded headers that mean something to a gateway; the rest is the recording's own transport.
_KEPT = ("request-id", "x-request-id", "x-generation-id", "retry-after", "retry-after-ms", "x-should-retry", "date")
_FALLBACK = json.dumps({"error": {"code": 503, "message": "No answer on this route: the other one is replayed."}})
MAX_PIECES = 12


@dataclass(slots=True)
class Seat:
    """One exchange at the replay server. `requests` are the model calls that reached the recorded route."""

    recording: Recording
    requests: list[tuple[str, Any]] = field(default_factory=list)
    fallbacks: int = 0


class ReplayServer:
    """Serves on 127.0.0.1; `port` is known after `start`."""

    def __init__(self) -> None:
        self._seats: dict[str, Seat] = {}
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close every connection, so that its task ends by itself and not by the loop's end."""
        if self._server is not None:
            self._server.close()
            for writer in self._connections:
                writer.transport.abort()
            await asyncio.sleep(0.01)

    def base(self, provider: str) -> str:
        """A provider's base URL, as the gateway is configured with it."""
        return f"http://127.0.0.1:{self.port}{PREFIXES[provider]}"

    def seat(self, recording: Recording, keys: Mapping[str, str]) -> Seat:
        """A place for one exchange, found again by any of its provider keys."""
        seat = Seat(recording)
        for key in keys.values():
            self._seats[key] = seat
        return seat

    # --- HTTP

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            return
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await _read_body(reader, headers)
        await self._answer(method, target, headers, body, writer)
        return headers.get("connection", "").lower() != "close"

    async def _answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        path = target.partition("?")[0]
        provider = next((name for name in PROVIDERS if path.startswith(PREFIXES[name] + "/")), "")
        seat = self._seats.get(_key(headers))
        if seat is None or not provider:
            return await _send(writer, 401, {}, b'{"error":{"code":401,"message":"unknown key"}}')
        if method == "GET":
            return await _send(writer, 200, {}, _probe(provider, path))
        if provider != seat.recording.provider:
            seat.fallbacks += 1
            return await _send(writer, 503, {}, _FALLBACK.encode())
        seat.requests.append((target.removeprefix(PREFIXES[provider]), _decoded(body)))
        return await self._replay(seat.recording, writer)

    async def _replay(self, recording: Recording, writer: asyncio.StreamWriter) -> None:
        headers = {name: recording.headers[name] for name in _KEPT if name in recording.headers}
        stated = recording.headers.get("content-type", "")
        if recording.status == 200 and recording.streamed:
            event_stream = "event-stream" in stated or not recording.body.lstrip().startswith((b"{", b"["))
            stated = stated if "event-stream" in stated else "text/event-stream" if event_stream else stated
        headers["content-type"] = stated or "application/json"
        if "event-stream" in headers["content-type"]:
            await _send_pieces(writer, recording.status, headers, cut(recording.name, recording.body))
        else:
            await _send(writer, recording.status, headers, recording.body)


def cut(name: str, body: bytes) -> list[bytes]:
    """A body in 1 to MAX_PIECES pieces; where it is cut depends on the name alone."""
    dice = random.Random(zlib.crc32(name.encode()))
    inside = range(1, len(body))
    places = sorted(dice.sample(inside, min(len(inside), dice.randrange(MAX_PIECES))))
    return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]


def _key(headers: Mapping[str, str]) -> str:
    return (
        headers.get("x-api-key") or headers.get("x-goog-api-key") or headers.get("authorization", "").partition(" ")[2]
    )


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _probe(provider: str, path: str) -> bytes:
    """The free requests by which a key is found to be good."""
    if path.endswith("/key"):
        value: dict[str, Any] = {"data": {"label": "fidelity", "limit": None, "limit_remaining": None, "usage": 0}}
    elif provider == "google":
        value = {"models": []}
    else:
        value = {"data": []}
    return json.dumps(value).encode()


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    parts = []
    while True:
        size = int((await reader.readline()).split(b";")[0], 16)
        parts.append(await reader.readexactly(size))
        await reader.readline()
        if not size:
            return b"".join(parts)


def _head(status: int, headers: Mapping[str, str], framing: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Recorded", *(f"{name}: {value}" for name, value in headers.items()), framing]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


async def _send(writer: asyncio.StreamWriter, status: int, headers: Mapping[str, str], body: bytes) -> None:
    kind = {} if "content-type" in headers else {"content-type": "application/json"}
    writer.write(_head(status, {**kind, **headers}, f"content-length: {len(body)}") + body)
    await writer.drain()


async def _send_pieces(
    writer: asyncio.StreamWriter, status: int, headers: Mapping[str, str], pieces: list[bytes]
) -> None:
    writer.write(_head(status, headers, "transfer-encoding: chunked"))
    for piece in pieces:
        if piece:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(0)
    writer.write(b"0\r\n\r\n")
    await writer.drain()
