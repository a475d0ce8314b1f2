"""Sending a planned answer over one connection, with its timing, its fault and its bill."""

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from .answers import Settings
from .bending import no_text
from .dice import Dice
from .doors import head
from .faults import Rule, bend
from .framing import is_framed, send_framed
from .plan import ID_BYTES, TIME_BYTES, Event, Plan, Usage
from .server import Exchange, Hangup, status_line

_COMMENT = b": OPENROUTER PROCESSING\n\n"
_PADDING = b"\n         \n"
KEY_MARK = b"~the-key~"
LOGIN = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><form>Sign in to continue</form></body></html>"

WriteBill = Callable[[Usage, bool], None]


@dataclass(slots=True)
class Show:
    """One answer on its way: the plan, the ids, the key that may be echoed, and how to write the bill."""

    exchange: Exchange
    plan: Plan
    provider: str
    head_id: str
    body_id: str
    now: int
    settings: Settings
    write_bill: WriteBill
    dice: Dice
    rule: Rule | None = None
    key: str = ""
    error_frame: bytes = b""
    error_body: bytes = b""
    billed: bool = False

    @property
    def fault(self) -> str:
        return self.rule.name if self.rule is not None else ""

    def bill(self, usage: Usage, *, aborted: bool, default: Literal["none", "sent", "whole"] = "whole") -> None:
        """Write the bill, once. A fault's own `bill` decides before `default`."""
        if self.billed:
            return
        self.billed = True
        how = (self.rule.bill if self.rule is not None else None) or default
        if how == "whole" or (how == "sent" and self.provider == "google"):
            self.write_bill(self.plan.usage, aborted)
        elif how == "sent":
            self.write_bill(usage, aborted)


def filled(data: bytes, body_id: str, now: int) -> bytes:
    """The plan's bytes with the request's id and time in the places of their marks."""
    return data.replace(ID_BYTES, body_id.encode()).replace(TIME_BYTES, b"%d" % now)


def is_instant(settings: Settings) -> bool:
    """True if nothing has to wait, so that an answer can leave in one write."""
    return not (settings.latency_s or settings.first_content_s or settings.gap_s or settings.split)


def send_now(show: Show) -> None:
    """The fast path: the whole answer in one write."""
    plan = show.plan
    show.bill(plan.usage, aborted=False)
    exchange = show.exchange
    lines = head(show.provider, show.head_id, stream=plan.stream)
    if not plan.stream:
        exchange.respond(200, lines, filled(plan.body, show.body_id, show.now))
        return
    exchange.start(200, lines)
    exchange.write(filled(plan.joined, show.body_id, show.now))
    exchange.finish()


async def play(show: Show) -> None:
    """The slow path: timing and faults."""
    started = show.exchange.monotonic()
    settings, plan = show.settings, show.plan
    latency = settings.latency_s
    if show.rule is not None and show.fault == "slow_head":
        latency += float(show.rule.params["seconds"])
    try:
        await show.exchange.sleep(latency)
        if show.rule is not None and is_framed(show.fault, show.rule.params):
            await _play_framed(show, show.rule)
        elif plan.stream and show.fault not in {"html_login_200"}:
            await _play_stream(show)
        else:
            await _play_whole(show)
    except Hangup:
        share = min(1.0, (show.exchange.monotonic() - started) / latency) if latency > 0 and not plan.stream else 0.0
        made = 0 if plan.stream else int(plan.usage.output * share)
        show.bill(plan.usage.so_far(made), aborted=True, default="sent")
        raise


def _head(show: Show, *, stream: bool) -> bytes:
    content_type = b"text/html; charset=utf-8" if show.fault == "html_login_200" else None
    lines = head(show.provider, show.head_id, stream=stream, content_type=content_type)
    match show.rule:
        case Rule(name="retry_after_on_200", params=params):
            lines += b"retry-after: %d\r\n" % int(params["seconds"])
        case Rule(name="set_cookie"):
            lines += b"set-cookie: __cf_bm=emulated; path=/; HttpOnly; Secure\r\n"
        case Rule(name="echo_key", params={"where": "header"}):
            lines += b"x-debug-credential: %s\r\n" % show.key.encode()
        case Rule(name="gzip" | "deflate" | "brotli" as name):
            lines += b"content-encoding: %s\r\n" % {"brotli": "br"}.get(name, name).encode()
        case _:
            pass
    return lines


def _bytes_of(show: Show, data: bytes) -> bytes:
    """The plan's bytes as this request's answer, bent where a fault changes words of it."""
    data = filled(data, show.body_id, show.now)
    match show.rule:
        case Rule(name="echo_key", params={"where": "text"}):
            return data.replace(KEY_MARK, show.key.encode())
        case Rule(name="other_model", params=params):
            # The field, not the word: an answer may speak of models.
            return data.replace(b'"%s"' % show.plan.served.encode(), b'"%s"' % str(params["model"]).encode())
        case _:
            return data


async def _play_framed(show: Show, rule: Rule) -> None:
    plan = show.plan
    payload = _bytes_of(show, plan.joined if plan.stream else plan.body)
    show.bill(plan.usage, aborted=False)
    await send_framed(show.exchange, _head(show, stream=plan.stream), payload, rule.name, rule.params)


def _error_body(show: Show) -> bytes | None:
    """The body of a 200 that is an error, if the fault wants one."""
    if show.fault not in {"error_in_200", "error_in_first_event", "error_mid_stream"}:
        return None
    return show.error_body


async def _play_whole(show: Show) -> None:
    plan, exchange, rule = show.plan, show.exchange, show.rule
    body = _bytes_of(show, plan.body)
    lines = _head(show, stream=False)
    error = _error_body(show)
    if error is not None or show.fault == "html_login_200":
        show.bill(plan.usage, aborted=True, default="none")
        exchange.respond(200, lines, LOGIN if error is None else error)
        return
    early = show.provider == "openrouter" and show.settings.first_content_s > 0
    if early:
        exchange.start(200, lines)
        await _wait(show, show.settings.first_content_s, _PADDING)
    elif show.settings.first_content_s > 0:
        await exchange.sleep(show.settings.first_content_s)
    match rule:
        case Rule(name="gzip"):
            body = gzip.compress(body, mtime=0)
        case Rule(name="malformed_event"):
            body = body[: max(1, len(body) // 2)]
        case Rule(name="huge_event", params=params):
            body = b" " * int(params["bytes"]) + body
        case Rule(name="slow_first_content", params=params):
            await exchange.sleep(float(params["seconds"]))
        case Rule(name="invalid_utf8"):
            body = no_text(body)
        case Rule(name="endless", params=params):
            await _pad_forever(show, lines, float(params["every_s"]))
        case Rule(name="stall_after" | "cut_after" | "cut_inside"):
            await _break_whole(show, rule, lines, body)
            return
        case _:
            pass
    show.bill(plan.usage, aborted=False)
    if early:
        exchange.write(body)
        exchange.finish()
    elif show.settings.split:
        await _in_shreds(show, lines, body)
    else:
        exchange.respond(200, lines, body)


async def _pad_forever(show: Show, lines: bytes, every_s: float) -> None:
    """Blanks before a JSON answer that never comes: OpenRouter's sign of life, without an end."""
    show.exchange.start(200, lines)
    while True:
        show.exchange.write(_PADDING)
        await show.exchange.sleep(every_s)


async def _break_whole(show: Show, rule: Rule, lines: bytes, body: bytes) -> None:
    """Send a part of a whole answer under a head that promises all of it."""
    wanted = rule.params.get("bytes")
    half = len(body) // 2
    if rule.params.get("what") == "character":
        half = next((place + 1 for place in range(len(body)) if body[place] >= 0xC0), half)
    part = body[: int(wanted)] if wanted is not None else body[:half]
    show.bill(show.plan.usage, aborted=True)
    show.exchange.raw(b"%s%scontent-length: %d\r\n\r\n%s" % (status_line(200), lines, len(body), part))
    if rule.name == "stall_after":
        await show.exchange.forever()
    await show.exchange.drain()
    await show.exchange.sleep(0.01)
    show.exchange.cut(reset=bool(rule.params.get("reset")))


async def _in_shreds(show: Show, lines: bytes, data: bytes) -> None:
    exchange = show.exchange
    exchange.start(200, lines)
    for shred in shreds(data, show.dice):
        exchange.write(shred)
        await exchange.sleep(0.0005)
    exchange.finish()


def shreds(data: bytes, dice: Dice) -> list[bytes]:
    """`data` cut at random bytes."""
    made: list[bytes] = []
    start = 0
    while start < len(data):
        end = start + dice.between(1, 200)
        made.append(data[start:end])
        start = end
    return made


async def _wait(show: Show, seconds: float, filler: bytes) -> None:
    """Wait, showing a sign of life every now and then, as OpenRouter does."""
    every = show.settings.comment_every_s
    while seconds > 0:
        if show.provider == "openrouter" and every > 0:
            show.exchange.write(filler)
        step = min(seconds, every) if every > 0 else seconds
        await show.exchange.sleep(step)
        seconds -= step


async def _play_stream(show: Show) -> None:
    plan, exchange, settings, rule = show.plan, show.exchange, show.settings, show.rule
    events = [replace(event, data=_bytes_of(show, event.data)) for event in plan.events]
    if rule is not None:
        frame = filled(show.error_frame, show.body_id, show.now)
        events = bend(rule, events, frame, show.error_body)
    exchange.start(200, _head(show, stream=True))
    wait = settings.first_content_s
    if rule is not None and rule.name == "slow_first_content":
        wait += float(rule.params["seconds"])
    done = 0
    spoke = False
    squeeze = zlib.compressobj(wbits=31) if show.fault == "gzip" else None
    try:
        for event in events:
            if event.kind == "content" or event.done > done:
                await (_wait(show, wait, _COMMENT) if not spoke else exchange.sleep(settings.gap_s))
                spoke = True
            if event.kind in {"finish", "usage", "end"}:
                show.bill(plan.usage, aborted=False)
            elif event.kind == "endless":
                await _repeat_forever(show, event.data)
            elif event.kind in {"stall", "cut", "reset", "error"}:
                await _break_stream(show, event, done)
                if event.kind != "error":
                    return
            data = event.data if squeeze is None else squeeze.compress(event.data) + squeeze.flush(zlib.Z_SYNC_FLUSH)
            if settings.split:
                for shred in shreds(data, show.dice):
                    exchange.write(shred)
                    await exchange.sleep(0.0005)
            else:
                exchange.write(data)
            await exchange.drain()
            done = event.done
            if event.kind == "error" and not _goes_on(show):
                break
    except Hangup:
        show.bill(plan.usage.so_far(done), aborted=True, default="sent")
        raise
    show.bill(plan.usage, aborted=False)
    if squeeze is not None:
        exchange.write(squeeze.flush())
    exchange.finish()


async def _repeat_forever(show: Show, data: bytes) -> None:
    """The same frame until the client leaves."""
    assert show.rule is not None
    while True:
        show.exchange.write(data)
        await show.exchange.sleep(float(show.rule.params["every_s"]))


def _goes_on(show: Show) -> bool:
    return show.rule is not None and show.rule.params.get("shape") == "continue"


async def _break_stream(show: Show, event: Event, done: int) -> None:
    exchange = show.exchange
    default: Literal["none", "sent"] = "sent" if done else "none"
    if event.kind == "stall":
        await exchange.forever()
    show.bill(show.plan.usage.so_far(done), aborted=True, default=default)
    if event.kind in {"cut", "reset"}:
        await exchange.drain()
        await exchange.sleep(0.01)
        exchange.cut(reset=event.kind == "reset")
