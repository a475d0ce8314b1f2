"""The front door of the emulated Stripe: fault, key, account, version, Idempotency-Key, answer.

Everything under /v1 is the API, /_control is for tests, the rest are the pages a customer's browser sees.
"""

import asyncio
import base64
import re
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from ownkey.emulator.server import Exchange

from . import API_VERSION, pages
from .billing import run_due
from .checkout import expire_old
from .control import Control
from .delivery import Postman
from .doors import INCLUDES, find
from .faults import Faults, Rule
from .form import Form, parse
from .lists import expanded
from .refusals import Json, Refusal, broken, forbidden, invalid, key_in_use, key_reused, unauthenticated
from .world import Origin, World

_KEY = re.compile(r"(sk|rk)_(test|live)_[A-Za-z0-9]{8,}")
_TICK_S = 0.2
_DAY = 86_400


@dataclass(slots=True)
class Seen:
    """One request of the log."""

    method: str
    path: str
    status: int
    idempotency_key: str | None
    replayed: bool
    fault: str | None
    at: float


@dataclass(slots=True)
class Kept:
    """What an Idempotency-Key remembers. No body yet: its first request still runs."""

    fingerprint: str
    at: int
    status: int = 0
    body: bytes = b""


class Stripe:
    """One account behind one address."""

    def __init__(self, seed: int = 0, wall: Callable[[], float] = time.time) -> None:
        self.world = World(seed, wall)
        self.faults = Faults(seed)
        self.postman = Postman(self.world)
        self.requests: deque[Seen] = deque(maxlen=5000)
        self.count = 0
        self._control = Control(self)
        self._ticking: asyncio.Task[None] | None = None
        self.world.later = self._later

    def start(self, url: str) -> None:
        """Begin: `url` is what links point to. Time moves from here on."""
        self.world.url = url
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def close(self) -> None:
        """Stop the clock and the deliveries."""
        if self._ticking is not None:
            self._ticking.cancel()
        await self.postman.close()

    def reset(self) -> None:
        """An account as new."""
        self.postman.forget()
        self.faults.rules.clear()
        self.requests.clear()
        self.count = 0
        self.world.reset()

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, act)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                self.catch_up()
            except Exception:  # noqa: BLE001 - a defect must be seen and must not stop the time
                sys.stderr.write(traceback.format_exc())

    def catch_up(self) -> int:
        """Do what the account's time has made due."""
        return run_due(self.world, None, self.world.wall_now()) + expire_old(self.world)

    # requests

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        raw, _, query = exchange.target.partition(b"?")
        path, method = unquote(raw.decode("latin-1")), exchange.method.decode("latin-1")
        if path.startswith("/_control"):
            await self._control.handle(exchange, method, path, query.decode("latin-1"))
        elif path.startswith("/v1/"):
            await self._api(exchange, method, path, query.decode("latin-1"))
        else:
            self._page(exchange, method, path)

    def _page(self, exchange: Exchange, method: str, path: str) -> None:
        values = dict(parse_qsl(exchange.body.decode("utf-8", "replace"), keep_blank_values=True))
        page = pages.answer(self.world, method, path, values)
        lines = b"content-type: text/html; charset=utf-8\r\ncache-control: no-store\r\n"
        if page.location:
            target = page.location.replace("\r", "").replace("\n", "")
            lines += b"location: " + target.encode("ascii", "ignore") + b"\r\n"
        exchange.respond(page.status, lines, page.html.encode())

    async def _api(self, exchange: Exchange, method: str, path: str, query: str) -> None:
        rule = self.faults.take(method, path)
        key = exchange.headers.get(b"idempotency-key", b"").decode("latin-1") or None
        seen = Seen(method, path, 0, key, False, rule.name if rule else None, time.time())
        self.count += 1
        self.requests.append(seen)
        if rule is not None and await self._fails_early(exchange, rule, seen):
            return
        ident = self.world.new_id("req_", 14)
        text = query if method in ("GET", "DELETE") else exchange.body.decode("utf-8", "replace")
        headers: dict[str, str] = {"request-id": ident}
        try:
            self._admit(exchange)
            status, body = await self._answer(method, path, text, Origin(ident, key), rule, headers)
        except Refusal as refusal:
            status, body = _error(refusal, ident)
            headers |= refusal.headers
        seen.status, seen.replayed = status, headers.get("idempotent-replayed") == "true"
        if rule is not None and rule.after and await self._fails_late(exchange, rule, ident):
            return
        _send(exchange, status, body, headers, key)

    def _admit(self, exchange: Exchange) -> None:
        """Whose key is this, for which account, in which version?"""
        settings = self.world.settings
        given = _credential(exchange.headers.get(b"authorization", b"").decode("latin-1"))
        if not given:
            raise unauthenticated(
                "You did not provide an API key. You need to provide your API key in the Authorization header, using "
                "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
            )
        shape = _KEY.fullmatch(given)
        wanted = "live" if settings.livemode else "test"
        if not shape or shape[2] != wanted or (settings.keys and given not in settings.keys):
            raise unauthenticated(f"Invalid API Key provided: {given[:8]}{'*' * 8}{given[-4:]}")
        account = exchange.headers.get(b"stripe-account", b"").decode("latin-1")
        if account and account != settings.account:
            raise forbidden(
                f"The provided key '{given[:8]}{'*' * 8}' does not have access to account '{account}' (or that account "
                "does not exist). Application access may have been revoked.", "account_invalid",
            )  # fmt: skip
        version = exchange.headers.get(b"stripe-version", b"").decode("latin-1")
        if version and version != API_VERSION:
            raise invalid(f"Invalid Stripe API version: {version}. This emulator speaks {API_VERSION}.")

    async def _answer(
        self, method: str, path: str, text: str, origin: Origin, rule: Rule | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        key = origin.idempotency_key if method == "POST" else None
        fingerprint = sha256(f"{method} {path} {text}".encode()).hexdigest()
        if key is not None:
            if len(key) > 255:
                raise invalid("The idempotency key provided is too long: at most 255 characters.")
            kept = self._kept(key, fingerprint)
            if kept is not None:
                headers["idempotent-replayed"] = "true"
                headers["original-request"] = origin.request or ""
                return kept.status, kept.body
            self.world.idempotent[key] = Kept(fingerprint, self.world.now())
        saved = False
        try:
            if rule is not None and rule.name == "slow":
                await asyncio.sleep(float(rule.params["seconds"]))
            self.catch_up()
            status, body, saved = self._do(method, path, text, origin)
        finally:
            if key is not None and not saved:
                self.world.idempotent.pop(key, None)
        if key is not None and saved:
            entry = self.world.idempotent.get(key)
            if entry is not None:
                entry.status, entry.body = status, body
        return status, body

    def _kept(self, key: str, fingerprint: str) -> Kept | None:
        """The saved answer of this key; Refused where it is another request's, or still being made."""
        entry: Kept | None = self.world.idempotent.get(key)
        if entry is None or entry.at < self.world.now() - _DAY:
            return None
        if entry.fingerprint != fingerprint:
            raise key_reused(key)
        if not entry.status:
            raise key_in_use(key)
        return entry

    def _do(self, method: str, path: str, text: str, origin: Origin) -> tuple[int, bytes, bool]:
        """Status, body, and whether an Idempotency-Key keeps them. What is refused leaves nothing."""
        try:
            handler, idents = find(method, path)
            with self.world.request(origin):
                form = Form(parse(text))
                paths = form.texts("expand") or []
                thing = handler(self.world, form, *idents)
                answer = expanded(self.world, thing, paths, INCLUDES)
        except Refusal as refusal:
            status, body = _error(refusal, origin.request or "")
            return status, body, refusal.saved
        return 200, _encoded(answer), True

    # faults

    async def _fails_early(self, exchange: Exchange, rule: Rule, seen: Seen) -> bool:
        """Whether the fault answers instead, before any effect."""
        if rule.after or rule.name == "slow":
            return False
        if rule.name == "silence":
            await exchange.forever()
        elif rule.name == "reset":
            exchange.cut(reset=True)
        elif rule.name == "not_json":
            seen.status = int(rule.params["status"])
            exchange.respond(seen.status, b"content-type: text/html\r\n", b"<html><h1>Bad gateway</h1></html>")
        else:
            refusal = rule.refusal() or broken()
            seen.status, body = _error(refusal, "req_fault")
            _send(exchange, seen.status, body, {"request-id": "req_fault", **refusal.headers}, None)
        return True

    async def _fails_late(self, exchange: Exchange, rule: Rule, ident: str) -> bool:
        """Whether the fault swallows an answer whose effect has happened."""
        if rule.name == "silence":
            await exchange.forever()
        elif rule.name in ("reset", "lost_answer"):
            exchange.cut(reset=True)
        else:
            refusal = rule.refusal() or broken()
            status, body = _error(refusal, ident)
            _send(exchange, status, body, {"request-id": ident, **refusal.headers}, None)
        return True

    def shown(self, limit: int) -> list[Json]:
        """The last requests, oldest first."""
        return [asdict(entry) for entry in list(self.requests)[-limit:]]


def _credential(header: str) -> str:
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode("latin-1").partition(":")[0]
        except ValueError:
            return ""
    return ""


def _encoded(answer: Any) -> bytes:
    return msgspec.json.encode(answer)


def _error(refusal: Refusal, ident: str) -> tuple[int, bytes]:
    log = f"https://dashboard.stripe.com/test/logs/{ident}"
    return refusal.status, _encoded({"error": {**refusal.error, "request_log_url": log}})


def _send(exchange: Exchange, status: int, body: bytes, headers: dict[str, str], key: str | None) -> None:
    lines = {"content-type": "application/json", "stripe-version": API_VERSION, **headers}
    if key is not None:
        lines["idempotency-key"] = key
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    exchange.respond(status, text.encode("latin-1", "ignore"), body)
