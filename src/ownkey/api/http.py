"""The caller's side of HTTP: one request read with its limits, one reply written, a hang-up noticed."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CLIENT_PROGRESS_S = 60.0


class BodyTooLarge(Exception):
    """The request's body is over the limit; reading stopped there."""


class BodyStalled(Exception):
    """No byte of the body came for the idle time."""


class HungUp(Exception):
    """The caller closed before the body was whole."""


async def read_body(receive: Receive, limit_bytes: int, idle_s: float) -> bytes:
    """The whole request body. Raises BodyTooLarge, BodyStalled or HungUp."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise HungUp
    body: bytes = message.get("body", b"")
    if len(body) > limit_bytes:
        raise BodyTooLarge
    if not message.get("more_body", False):
        return body
    parts, size = [body], len(body)
    while True:
        try:
            message = await asyncio.wait_for(receive(), idle_s)
        except TimeoutError as error:
            raise BodyStalled from error
        if message["type"] == "http.disconnect":
            raise HungUp
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise BodyTooLarge
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


class AsgiReply:
    """The gateway's Reply over ASGI. The head goes out with the first body bytes."""

    __slots__ = ("_head", "_send", "_started", "cancel_on_gone", "finished", "gone")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: Message | None = None
        self._started = False
        self.gone = False
        self.cancel_on_gone = True
        self.finished = False

    async def start(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        self._head = {
            "type": "http.response.start", "status": status,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        }

    async def write(self, data: bytes) -> None:
        if self.gone:
            return
        await self._send_head()
        async with asyncio.timeout(CLIENT_PROGRESS_S):
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        self.finished = True
        if self.gone:
            return
        if self._head is not None and not self._started:
            self._head["headers"].append((b"content-length", str(len(data)).encode()))
        await self._send_head()
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def _send_head(self) -> None:
        if self._head is not None and not self._started:
            self._started = True
            await self._send(self._head)


async def watch_for_hang_up(receive: Receive, reply: AsgiReply, call: "asyncio.Task[Any]") -> None:
    """Tells the call when its caller is gone; cancels it where reading on would only cost money."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            if not reply.finished:
                reply.gone = True
                if reply.cancel_on_gone:
                    call.cancel()
            return
