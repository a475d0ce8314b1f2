"""The caller's side of HTTP: one reply written, a hang-up noticed. Reading is `pages.wire`'s."""

import asyncio
from collections.abc import Sequence
from typing import Any

from ownkey.pages.wire import (
    BodyStalled,
    BodyTooLarge,
    HungUp,
    Message,
    Receive,
    Scope,
    Send,
    read_body,
)

__all__ = [
    "AsgiReply", "BodyStalled", "BodyTooLarge", "HangUpWatch", "HungUp", "Message", "Receive", "Scope", "Send",
    "read_body", "watch_for_hang_up",
]

WATCH_AFTER_S = 0.03
CLIENT_STALL_S = 60.0


class AsgiReply:
    """The gateway's Reply over ASGI. The head goes out with the first body bytes.

    A caller who takes nothing for `stall_s` while bytes wait for it counts as gone, like one who hung up.
    """

    __slots__ = ("_head", "_send", "_stall_s", "_started", "cancel_on_gone", "finished", "gone")

    def __init__(self, send: Send, stall_s: float = CLIENT_STALL_S) -> None:
        self._send = send
        self._stall_s = stall_s
        self._head: Message | None = None
        self._started = False
        self.gone = False
        self.cancel_on_gone = True
        self.finished = False

    async def start(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        assert not self._started, "an answer has one head"
        self._head = {
            "type": "http.response.start", "status": status,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        }

    async def write(self, data: bytes) -> None:
        await self._put(data, more_body=True)

    async def finish(self, data: bytes = b"") -> None:
        self.finished = True
        if self._head is not None and not self._started:
            self._head["headers"].append((b"content-length", str(len(data)).encode()))
        await self._put(data, more_body=False)

    async def _put(self, data: bytes, *, more_body: bool) -> None:
        if self.gone:
            return
        try:
            async with asyncio.timeout(self._stall_s):
                # Noted when it is done: a keep-alive comment that is cancelled before leaves the head to the answer.
                if self._head is not None and not self._started:
                    await self._send(self._head)
                    self._started = True
                await self._send({"type": "http.response.body", "body": data, "more_body": more_body})
        except OSError:  # also a TimeoutError; ASGI servers may raise it for a caller who is gone
            self.gone = True


class HangUpWatch:
    """Watches for the caller's hang-up from a moment after the start on: a call that is answered at once, as most
    are that never wait, is spared a task of its own. Nothing is missed: a hang-up stays readable."""

    __slots__ = ("_call", "_receive", "_reply", "_task", "_timer")

    def __init__(
        self, receive: Receive, reply: AsgiReply, call: "asyncio.Task[Any]", after_s: float = WATCH_AFTER_S
    ) -> None:
        self._receive = receive
        self._reply = reply
        self._call = call
        self._task: asyncio.Task[None] | None = None
        self._timer = call.get_loop().call_later(after_s, self._begin)

    def _begin(self) -> None:
        self._task = self._call.get_loop().create_task(watch_for_hang_up(self._receive, self._reply, self._call))

    def end(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()


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
