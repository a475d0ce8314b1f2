"""A caller as a server hands one to the door: asks, reads fast or slowly, and may hang up."""

import asyncio
import json
from typing import Any


class Caller:
    """One request. `pause_s`: how long every piece of the answer takes to be read."""

    def __init__(self, body: dict[str, Any], pause_s: float = 0.0) -> None:
        self._body: bytes | None = json.dumps(body).encode()
        self._pause_s = pause_s
        self._left = asyncio.Event()
        self.status = 0
        self.head: dict[str, str] = {}
        self.size = 0
        self.tail = b""
        self.ended = False

    async def receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if self._left.is_set():
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.head = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        self.size += len(message["body"])
        self.tail = (self.tail + message["body"])[-2_000:]
        self.ended = not message["more_body"]
        if self._pause_s:
            await asyncio.sleep(self._pause_s)

    def hang_up(self) -> None:
        self._left.set()

    @property
    def gone(self) -> bool:
        return self._left.is_set()

    @property
    def receipt(self) -> str | None:
        return self.head.get("x-ownkey-receipt")

    @property
    def code(self) -> str:
        """The refusal's code; "" for an answer."""
        if self.status in (0, 200):
            return ""
        try:
            error = json.loads(self.tail)["error"]
        except ValueError:
            return "?"
        return str(error.get("code") or error.get("type"))
