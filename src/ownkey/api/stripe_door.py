"""Stripe's way in: one address, authenticated by Stripe's signature over the very bytes, and by nothing else.

What is not signed leaves no row and learns nothing. 2xx means that the event needs not come again; a 503 asks for it.
"""

import logging

import msgspec

from ownkey.api.http import BodyStalled, BodyTooLarge, HungUp, Receive, Scope, Send, read_body
from ownkey.control.payment_events import PaymentEvents
from ownkey.domain.billing import EventRefused
from ownkey.domain.errors import StoreError

PATH = "/manage/v1/webhooks/stripe"
BODY_LIMIT_BYTES = 1024 * 1024
BODY_IDLE_S = 10.0

log = logging.getLogger("ownkey.billing")


class StripeDoor:
    """The ASGI callable for `PATH`."""

    def __init__(self, events: PaymentEvents) -> None:
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await _say(send, 405, "method_not_allowed", "Stripe posts its events here.", [(b"allow", b"POST")])
            return
        if not self._events.on:
            await _say(send, 404, "not_found", "Nothing is paid by card here.")
            return
        try:
            raw = await read_body(receive, BODY_LIMIT_BYTES, BODY_IDLE_S)
        except HungUp:
            return
        except (BodyTooLarge, BodyStalled):
            await _say(send, 413, "body_too_large", "The event is too large, or did not arrive.")
            return
        await self._receive(scope, raw, send)

    async def _receive(self, scope: Scope, raw: bytes, send: Send) -> None:
        signatures = [value for name, value in scope["headers"] if name == b"stripe-signature"]
        try:
            if len(signatures) != 1:
                raise EventRefused("without one signature")
            applied = await self._events.receive(raw, signatures[0].decode("latin-1"))
        except EventRefused as error:
            log.warning("a webhook was refused: %s", error.reason)
            await _say(send, 400, "webhook_refused", "This is not an event of Stripe's for this server.")
        except StoreError:
            await _say(send, 503, "store_unavailable", "The books cannot be written now; send it again.")
        else:
            if applied.state == "failed":
                await _say(send, 503, "billing_unreachable", "The event could not be worked on; send it again.")
            else:
                await _json(send, 200, {"received": applied.state})


async def _say(
    send: Send, status: int, code: str, message: str, more: list[tuple[bytes, bytes]] | None = None
) -> None:
    await _json(send, status, {"error": {"code": code, "message": message}}, more)


async def _json(send: Send, status: int, value: object, more: list[tuple[bytes, bytes]] | None = None) -> None:
    body = msgspec.json.encode(value)
    await send({"type": "http.response.start", "status": status, "headers": [
        (b"content-type", b"application/json"), (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"), (b"content-length", str(len(body)).encode()), *(more or []),
    ]})
    await send({"type": "http.response.body", "body": body})
