"""The front door: sends a request to the data plane, the management API, the pages of workspaces and operators, the
browser's way back from OpenRouter, the door of Stripe's events or the health checks, and to nothing else.
"""

import logging
from collections.abc import Awaitable, Callable, Collection

import msgspec

from ownkey.api.http import Message, Receive, Scope, Send
from ownkey.api.stripe_door import PATH as STRIPE_PATH

logger = logging.getLogger("ownkey")

App = Callable[[Scope, Receive, Send], Awaitable[None]]
Ready = Callable[[], Awaitable[str | None]]

MAX_HEADER_FIELDS = 100
MAX_HEADER_BYTES = 32 * 1024


class FrontDoor:
    """`ready` returns None, or why this process cannot serve now. `allowed_hosts` empty: any Host header. `portal` and
    `console` are None where this deployment has no such pages."""

    def __init__(
        self, *, data_plane: App, manage: App, connect: App, stripe: App, ready: Ready, allowed_hosts: Collection[str],
        portal: App | None = None, console: App | None = None, header_fields: int = MAX_HEADER_FIELDS,
        header_bytes: int = MAX_HEADER_BYTES,
    ) -> None:
        self._header_fields = header_fields
        self._header_bytes = header_bytes
        self._data_plane = data_plane
        self._manage = manage
        self._portal = portal
        self._console = console
        self._connect = connect
        self._stripe = stripe
        self._ready = ready
        self._allowed = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._route(scope, receive, watched_send)
        except Exception:
            logger.exception("unexpected error at %s", scope["path"][:80])
            if not started:
                await _plain(send, 500, {"error": {
                    "code": "internal_error", "message": "Something broke inside Ownkey; nothing was lost.",
                    "type": "server_error", "fix": {"text": "Look at the server's log.", "url": None}, "param": None,
                }})

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        problem = self._check(headers)
        path: str = scope["path"]
        if problem is not None:
            await _plain(send, 400, {"error": {
                "code": "bad_request", "message": problem, "type": "invalid_request_error", "param": None,
                "fix": {"text": "Correct the request's headers.", "url": None},
            }})
        elif path.startswith(("/v1/", "/api/v1/")):
            await self._data_plane(scope, receive, send)
        elif path == "/healthz":
            await _plain(send, 200, {"status": "ok"})
        elif path == "/readyz":
            why_not = await self._ready()
            await _plain(send, 200 if why_not is None else 503, {"status": why_not or "ready"})
        elif path == STRIPE_PATH:
            await self._stripe(scope, receive, send)
        elif path.startswith("/manage/"):
            await self._manage(scope, receive, send)
        elif self._portal is not None and (path == "/portal" or path.startswith("/portal/")):
            await self._portal(scope, receive, send)
        elif self._console is not None and (path == "/console" or path.startswith("/console/")):
            await self._console(scope, receive, send)
        elif path.startswith("/connect/"):
            await self._connect(scope, receive, send)
        else:
            await _plain(send, 404, {"error": {
                "code": "unknown_endpoint", "message": "There is nothing at this path.",
                "type": "invalid_request_error", "param": None,
                "fix": {"text": "AI calls: /v1 or /api/v1. Management: /manage/v1. Pages: /portal, /console. "
                                "Health: /healthz, /readyz.", "url": None},
            }})

    def _check(self, headers: "list[tuple[bytes, bytes]]") -> str | None:
        if len(headers) > MAX_HEADER_FIELDS or sum([len(n) + len(v) for n, v in headers]) > MAX_HEADER_BYTES:
            return "The request has too many or too large headers."
        if self._allowed:
            host = next((v.decode("latin-1") for n, v in headers if n == b"host"), "")
            name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
            if name.lower() not in self._allowed:
                return "This server does not answer for that Host."
        return None


async def _plain(send: Send, status: int, value: object) -> None:
    body = msgspec.json.encode(value)
    await send({"type": "http.response.start", "status": status, "headers": [
        (b"content-type", b"application/json"), (b"cache-control", b"no-store"),
        (b"content-length", str(len(body)).encode()),
    ]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
