"""ASGI's words, and the reading of a request's body within its limits: what every door needs of a server."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


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
