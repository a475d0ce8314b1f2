"""A mailbox to look into: an SMTP server that keeps what it is sent, a page that shows it, and a host's endpoint.

`python -m ownkey.emulator.mailbox --port 0 --smtp-port 0` prints its addresses as one line of JSON. It delivers
nothing, listens on loopback only and forgets everything when it ends. Faults make it behave like servers do on a bad
day: answers of 4xx and 5xx at any stage, resets, silence.
"""

import argparse
import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from html import escape
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .server import Exchange, Server

MAX_MESSAGE_BYTES = 1 << 20
TOLERANCE_S = 300
_STAGES = ("connect", "mail", "rcpt", "data", "body", "event")
_PAGE_HEADERS = (
    b"content-type: text/html; charset=utf-8\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
    b"referrer-policy: no-referrer\r\n"
    b"content-security-policy: default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'\r\n"
)
_JSON_HEADERS = b"content-type: application/json\r\ncache-control: no-store\r\n"


@dataclass(slots=True)
class Fault:
    """`code` is an SMTP or HTTP status, "reset" or "stall". `to` limits it to recipients that contain the text."""

    stage: str
    code: int | str
    times: int
    to: str = ""


@dataclass(slots=True)
class Mailbox:
    """What has arrived, oldest first, and the faults that are still to come."""

    secrets: tuple[bytes, ...] = ()
    user: str = ""
    password: str = ""
    mails: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    connections: int = 0

    def fault(self, stage: str, to: str = "") -> int | str | None:
        """The next fault of this stage, used up by asking."""
        for fault in self.faults:
            if fault.stage == stage and fault.to in to:
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
                return fault.code
        return None

    def keep(self, sender: str, recipients: Sequence[str], data: bytes) -> None:
        message = message_from_bytes(data, policy=default)
        text, html = message.get_body(("plain",)), message.get_body(("html",))
        self.mails.append({
            "n": len(self.mails) + 1, "at": round(time.time(), 3), "envelope_from": sender,
            "recipients": list(recipients), "from": str(message["from"]), "to": str(message["to"]),
            "subject": str(message["subject"]).strip(), "message_id": str(message["message-id"]),
            "headers": [[name, str(value)] for name, value in message.items()],
            "text": text.get_content() if text else "", "html": html.get_content() if html else "",
        })

    def verified(self, headers: dict[bytes, bytes], body: bytes) -> bool:
        """Standard Webhooks: a fresh time, and a signature of one of our secrets."""
        ident, at = headers.get(b"webhook-id", b""), headers.get(b"webhook-timestamp", b"")
        if not at.isdigit() or abs(int(at) - time.time()) > TOLERANCE_S:
            return False
        given = [part[3:] for part in headers.get(b"webhook-signature", b"").split(b" ") if part.startswith(b"v1,")]
        signed = ident + b"." + at + b"." + body
        return any(
            hmac.compare_digest(base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()), signature)
            for secret in self.secrets for signature in given
        )


# --- SMTP


class _Quit(Exception):
    """The conversation is over."""


class Conversation:
    """One SMTP connection."""

    def __init__(self, box: Mailbox, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._box, self._reader, self._writer = box, reader, writer
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._known = not box.user

    async def run(self) -> None:
        self._box.connections += 1
        with contextlib.suppress(_Quit, ConnectionError, asyncio.IncompleteReadError, ValueError):
            if await self._meet("connect") is False:
                return
            await self._say("220 mailbox ready")
            while line := await self._reader.readline():
                await self._answer(line.decode("utf-8", "replace").rstrip("\r\n"))
        with contextlib.suppress(ConnectionError):
            self._writer.close()

    async def _answer(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        match verb.upper():
            case "EHLO":
                offers = ["mailbox", "8BITMIME", "SMTPUTF8", *(["AUTH PLAIN"] if self._box.user else [])]
                await self._say(*(f"250{'-' if n < len(offers) - 1 else ' '}{offer}" for n, offer in enumerate(offers)))
            case "HELO" | "NOOP":
                await self._say("250 ok")
            case "RSET":
                self._sender, self._recipients = None, []
                await self._say("250 ok")
            case "AUTH":
                await self._auth(rest)
            case "MAIL":
                if not self._known:
                    await self._say("530 log in first")
                elif await self._meet("mail"):
                    self._sender = _address(rest)
                    self._recipients = []
                    await self._say("250 ok")
            case "RCPT":
                to = _address(rest)
                if self._sender is None:
                    await self._say("503 MAIL first")
                elif await self._meet("rcpt", to):
                    self._recipients.append(to)
                    await self._say("250 ok")
            case "DATA":
                await self._data()
            case "QUIT":
                await self._say("221 bye")
                raise _Quit
            case _:
                await self._say("502 not known here")

    async def _auth(self, rest: str) -> None:
        how, _, blob = rest.partition(" ")
        try:
            _, user, password = base64.b64decode(blob, validate=True).decode().split("\0")
        except (binascii.Error, ValueError):
            user = password = ""
        right = how.upper() == "PLAIN" and (user, password) == (self._box.user, self._box.password)
        self._known = self._known or right
        await self._say("235 welcome" if right else "535 wrong user or password")

    async def _data(self) -> None:
        if not self._recipients or self._sender is None:
            await self._say("503 RCPT first")
            return
        if not await self._meet("data"):
            return
        await self._say("354 go on")
        lines: list[bytes] = []
        size = 0
        while (line := await self._reader.readline()) not in (b".\r\n", b""):
            size += len(line)
            lines.append(line[1:] if line.startswith(b".") else line)
        sender, recipients = self._sender, self._recipients
        self._sender, self._recipients = None, []
        if size > MAX_MESSAGE_BYTES:
            await self._say("552 too large")
        elif await self._meet("body", recipients[0]):
            self._box.keep(sender, recipients, b"".join(lines))
            await self._say("250 kept")

    async def _meet(self, stage: str, to: str = "") -> bool:
        """Play the fault that waits for this stage. False: it was answered."""
        code = self._box.fault(stage, to)
        if code is None:
            return True
        if code == "stall":
            await asyncio.sleep(3_600)
        if code == "reset":
            sock: socket.socket = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
            raise _Quit
        await self._say(f"{code} as the fault says")
        return False

    async def _say(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await self._writer.drain()


def _address(rest: str) -> str:
    """"FROM:<a@b> SIZE=1" → "a@b"."""
    return rest.partition(":")[2].strip().partition(" ")[0].strip("<>")


# --- HTTP


class Pages:
    """The mailbox over HTTP: pages for people, JSON for tests, and the endpoint for events."""

    def __init__(self, box: Mailbox) -> None:
        self._box = box

    async def handle(self, exchange: Exchange) -> None:
        parts = urlsplit(exchange.target.decode("ascii", "replace"))
        method = exchange.method.decode()
        match (method, parts.path):
            case ("GET", "/"):
                exchange.respond(200, _PAGE_HEADERS, self._list().encode())
            case ("GET", "/mail"):
                self._show(exchange, parse_qs(parts.query).get("n", [""])[0])
            case ("GET", "/api/mails"):
                _json(exchange, {"mails": self._box.mails, "connections": self._box.connections})
            case ("GET", "/api/events"):
                _json(exchange, {"events": self._box.events})
            case ("POST", "/events"):
                await self._event(exchange)
            case ("POST", "/api/faults"):
                self._add_fault(exchange)
            case ("DELETE", "/api/mails"):
                self._box.mails.clear()
                self._box.events.clear()
                self._box.faults.clear()
                _json(exchange, {})
            case _:
                _json(exchange, {"error": "there is nothing here"}, 404)

    async def _event(self, exchange: Exchange) -> None:
        code = self._box.fault("event")
        right = self._box.verified(exchange.headers, exchange.body)
        try:
            body = json.loads(exchange.body)
        except ValueError:
            body = None
        self._box.events.append({
            "id": exchange.headers.get(b"webhook-id", b"").decode("ascii", "replace"), "verified": right,
            "signatures": len(exchange.headers.get(b"webhook-signature", b"").split()), "answered": code or 204,
            "body": body,
        })
        if code == "reset":
            exchange.cut(reset=True)
        elif code == "stall":
            await exchange.forever()
        elif code is not None:
            exchange.respond(int(code), b"", b"")
        else:
            exchange.respond(204 if right else 401, b"", b"")

    def _add_fault(self, exchange: Exchange) -> None:
        try:
            given = json.loads(exchange.body)
            fault = Fault(str(given["stage"]), given["code"], int(given.get("times", 1)), str(given.get("to", "")))
            if fault.stage not in _STAGES or not (isinstance(fault.code, int) or fault.code in ("reset", "stall")):
                raise ValueError("no such fault")
        except (ValueError, KeyError, TypeError) as error:
            _json(exchange, {"error": f"a fault has a stage of {', '.join(_STAGES)} and a code: {error}"}, 400)
            return
        self._box.faults.append(fault)
        _json(exchange, {}, 201)

    def _list(self) -> str:
        mails = "".join(
            f'<tr><td>{mail["n"]}</td><td><a href="/mail?n={mail["n"]}">{escape(mail["subject"])}</a></td>'
            f'<td>{escape(mail["to"])}</td></tr>' for mail in reversed(self._box.mails)
        )
        events = "".join(
            f'<tr><td>{escape(str((event["body"] or {}).get("type", "?")))}</td>'
            f'<td>{"signature verified" if event["verified"] else "NOT VERIFIED"}</td>'
            f'<td><pre>{escape(json.dumps(event["body"], indent=1, ensure_ascii=False))}</pre></td></tr>'
            for event in reversed(self._box.events)
        )
        return _page("Mailbox", (
            f"<h1>Mailbox</h1><p>{len(self._box.mails)} e-mails, newest first. Nothing here reaches anybody.</p>"
            f'<table><tr><th>#</th><th>Subject</th><th>To</th></tr>{mails}</table>'
            f"<h2>Events to the host</h2><table><tr><th>Type</th><th>Signature</th><th>Event</th></tr>{events}</table>"
        ))

    def _show(self, exchange: Exchange, n: str) -> None:
        mail = next((mail for mail in self._box.mails if str(mail["n"]) == n), None)
        if mail is None:
            exchange.respond(404, _PAGE_HEADERS, _page("Mailbox", "<h1>There is no such e-mail.</h1>").encode())
            return
        # An empty sandbox: no script, no form, no navigation; and the page's policy holds inside the frame as well.
        exchange.respond(200, _PAGE_HEADERS, _page(str(mail["subject"]), (
            f'<p><a href="/">All e-mails</a></p><h1>{escape(mail["subject"])}</h1>'
            f'<p>From {escape(mail["from"])} to {escape(mail["to"])}<br><code>{escape(mail["message_id"])}</code></p>'
            f'<iframe sandbox="" title="The e-mail as HTML" srcdoc="{escape(mail["html"], quote=True)}"></iframe>'
            f'<h2>As plain text</h2><pre>{escape(mail["text"])}</pre>'
        )).encode())


_STYLES = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.4rem .8rem .4rem 0;border-bottom:1px solid #8886;vertical-align:top}"
    "pre{white-space:pre-wrap;margin:0}pre,code,h1{overflow-wrap:anywhere}"
    "iframe{width:100%;height:32rem;border:1px solid #8886;border-radius:8px}"
)


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{_STYLES}</style></head><body>{body}</body></html>"
    )


def _json(exchange: Exchange, value: Any, status: int = 200) -> None:
    exchange.respond(status, _JSON_HEADERS, json.dumps(value, ensure_ascii=False).encode())


# --- starting


def _secret(text: str) -> bytes:
    return base64.b64decode(text.removeprefix("whsec_"), validate=True)


async def serve(port: int, smtp_port: int, box: Mailbox) -> None:
    """Serve on 127.0.0.1 until SIGTERM or SIGINT."""
    talking: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        try:
            await Conversation(box, reader, writer).run()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            talking.discard(task)

    pages = Server(Pages(box).handle)
    bound = await pages.listen("127.0.0.1", port)
    smtp = await asyncio.start_server(talk, "127.0.0.1", smtp_port, limit=MAX_MESSAGE_BYTES)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    sys.stdout.write(json.dumps({
        "url": f"http://127.0.0.1:{bound}", "smtp_port": smtp.sockets[0].getsockname()[1]
    }) + "\n")
    sys.stdout.flush()
    await stopped.wait()
    smtp.close()
    for task in tuple(talking):
        task.cancel()
    await pages.close()


def main(given: list[str] | None = None) -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m ownkey.emulator.mailbox", description="A mailbox on loopback.")
    parser.add_argument("--port", type=int, default=0, help="of the page; 0 takes a free one")
    parser.add_argument("--smtp-port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--secret", type=_secret, action="append", default=[], help="whsec_… of events; repeat it")
    parser.add_argument("--user", default="", help="ask for this login")
    parser.add_argument("--password", default="")
    options = parser.parse_args(given)
    box = Mailbox(secrets=tuple(options.secret), user=options.user, password=options.password)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.port, options.smtp_port, box))


if __name__ == "__main__":
    main()
