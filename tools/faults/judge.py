"""The rules that every case is held to, and the short word that the table shows. Nothing of the gateway is used."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tools.faults.callers import Heard, error_of
from tools.faults.house import DEADLINE_S
from tools.faults.kinds import CODES, Case, Effect, Json

GRACE_S = 1.0
MASK = "***"
_GOOD_ENDS = {"chat": {"stop"}, "embeddings": {"stop"}, "responses": {"completed"}, "messages": {"end_turn"}}
_TERMINATOR = {
    "chat": re.compile(rb"^data: ?\[DONE\]", re.M), "messages": re.compile(rb'"type": ?"message_stop"'),
    "responses": re.compile(rb'"type": ?"response\.(?:completed|incomplete)"'),
}


@dataclass(slots=True)
class Evidence:
    """All that is known of one case once it is over. Amounts in nano-USD."""

    case: Case
    text: str
    keys: dict[str, str]
    heard: Heard
    receipt: Json = field(default_factory=dict)
    spent: int = 0
    held: int = 0
    bound: int = 0
    billed: int = 0
    keepalive: bool = False
    vectors: list[float] | None = None

    @property
    def attempts(self) -> list[Json]:
        return list(self.receipt.get("attempts") or [])

    @property
    def code(self) -> str:
        """Our code for the error that the caller got, from its body or from the stream's last event."""
        error = last_error(self.heard.wire.body)
        told = (error.get("metadata") or {}).get("ownkey_code") if isinstance(error.get("metadata"), dict) else None
        return str(told or error.get("code") or "")


@dataclass(slots=True)
class Verdict:
    """`word` is the table's; `broken` are the rules that the case broke: (rule, what happened)."""

    case: Case
    word: str
    broken: list[tuple[str, str]] = field(default_factory=list)
    heals: bool = False
    healed: bool = False
    seconds: float = 0.0
    keepalive: bool = False


def judge(evidence: Evidence) -> Verdict:
    """Hold one case to every rule."""
    case, heard = evidence.case, evidence.heard
    verdict = Verdict(case, word_of(evidence), seconds=heard.seconds, keepalive=evidence.keepalive)
    for rules in (_time, _answer, _secrets, _money, _path):
        verdict.broken += rules(evidence)
    wanted = wanted_of(case)
    verdict.heals = wanted == "answer" and struck_effect(case).when != "harmless"
    verdict.healed = verdict.heals and not heard.raised
    return verdict


def struck_effect(case: Case) -> Effect:
    """What the fault is to the provider that is asked first."""
    effect = case.fault.effect(case.target(case.struck[0]))
    assert effect is not None
    return effect


def last_effect(case: Case) -> Effect:
    effect = case.fault.effect(case.target(case.struck[-1]))
    assert effect is not None
    return effect


def wanted_of(case: Case) -> str:
    """What must come of it: "answer", "event" (an error at the end of a begun stream) or an error code."""
    first = struck_effect(case)
    if first.when == "harmless" or (first.late and case.where != "direct" and last_effect(case).late):
        return "answer"
    begun = case.mode == "live" and first.when == "after"
    if begun:
        return "event"
    match case.where:
        case "direct":
            return CODES[first.cls] if first.stops else "answer"
        case "once":
            return "answer" if first.retried else CODES[first.cls]
        case "both" if first.stops:
            return CODES[first.cls]
        case _:
            last = last_effect(case)
            if last.when == "harmless" or last.late:
                return "answer"
            return "event" if case.mode == "live" and last.when == "after" else CODES[last.cls]


# --- the rules


def _time(evidence: Evidence) -> Iterator[tuple[str, str]]:
    heard = evidence.heard
    if heard.hung or heard.seconds > DEADLINE_S + GRACE_S:
        yield "hang", f"{heard.seconds:.1f} s"


def _answer(evidence: Evidence) -> Iterator[tuple[str, str]]:
    case, heard = evidence.case, evidence.heard
    if heard.wire.broken and not heard.hung:
        yield "broken", heard.wire.broken
    wanted = wanted_of(case)
    if not heard.raised:
        if (wrong := not_whole(evidence)) is not None:
            yield "truncated", wrong
        elif wanted not in {"answer", "event"}:
            yield "unexpected", f"an answer where {wanted} was expected"
        return
    yield from _clear_error(evidence)
    if wanted == "answer":
        yield "not healed", f"{heard.wire.status} {evidence.code} {heard.raised}: {heard.said[:120]}"
    elif wanted != "event" and evidence.code != wanted:
        yield "unexpected", f"{evidence.code or heard.raised} where {wanted} was expected"


def not_whole(evidence: Evidence) -> str | None:
    """What is missing from an answer that the caller took for one; None if nothing is."""
    case, heard = evidence.case, evidence.heard
    endpoint = case.lane.endpoint
    if endpoint == "embeddings":
        return None if heard.vectors == evidence.vectors else "other vectors"
    if heard.finish not in _GOOD_ENDS[endpoint]:
        return f"finish is {heard.finish}"
    if heard.text != evidence.text:
        return f"text is {heard.text[:60]!r} ({len(heard.text)} of {len(evidence.text)} characters)"
    if case.mode != "body":
        if _TERMINATOR[endpoint].search(heard.wire.body) is None:
            return "no terminator"
        if endpoint == "responses" and heard.said != evidence.text:
            return "the last event holds another text"
    return None


def _clear_error(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """An error has a status, or is the stream's last event; it has a code and the receipt's id, and no good end."""
    case, wire = evidence.case, evidence.heard.wire
    if evidence.heard.hung:
        return
    error = last_error(wire.body)
    if not evidence.code:
        yield "unclear", f"{wire.status} without a code: {bytes(wire.body[-200:])!r}"
    if not error.get("receipt"):
        yield "unclear", "an error without its receipt"
    if wire.status == 200:
        if case.mode == "body":
            yield "unclear", "a 200 that is an error"
        elif _TERMINATOR[case.lane.endpoint].search(wire.body) is not None:
            yield "truncated", "a terminator in a stream that failed"


def last_error(body: bytes | bytearray) -> dict[str, Any]:
    """The error that a body is, or that a stream ends with."""
    text = bytes(body).strip()
    if text.startswith(b"{"):
        return error_of(text)
    frames = [line[5:].strip() for line in text.split(b"\n") if line.startswith(b"data:")]
    return error_of(frames[-1]) if frames else {}


def _secrets(evidence: Evidence) -> Iterator[tuple[str, str]]:
    wire = evidence.heard.wire
    seen = bytes(wire.body) + json.dumps(wire.headers).encode() + json.dumps(evidence.receipt).encode()
    seen += evidence.heard.said.encode()
    for provider, key in evidence.keys.items():
        if key.encode() in seen:
            yield "leaked", f"the {provider} key"


def _money(evidence: Evidence) -> Iterator[tuple[str, str]]:
    if not evidence.receipt:
        yield "receipt", "there is none"
        return
    if evidence.held:
        yield "hold", f"{evidence.held} nUSD are still held"
    free = not {"*", evidence.case.lane.upstream, evidence.case.lane.endpoint}.isdisjoint(evidence.case.fault.free)
    if (evidence.billed > evidence.spent and not free) or evidence.spent > evidence.bound:
        yield "money", f"billed {evidence.billed}, spent {evidence.spent}, held {evidence.bound}"


def _path(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The attempts on the receipt are the ones that the fault should lead to."""
    case = evidence.case
    if not evidence.attempts:
        if evidence.receipt:
            yield "not struck", f"no attempt: {evidence.receipt.get('skips')}"
        return
    first, effect = evidence.attempts[0], struck_effect(case)
    if first["provider"] != case.struck[0]:
        yield "not struck", f"{first['provider']} was asked first: {evidence.receipt.get('skips')}"
    elif effect.when == "harmless":
        if first.get("failure"):
            yield "not harmless", f"{first['failure']}: {first['signal']}"
    elif not first.get("failure"):
        if (case.fault.replaced and case.where == "once") or (effect.late and case.where == "router"):
            return
        yield "unnoticed", f"a {effect.cls} was taken for an answer"
    elif _kind(first["failure"]) != _kind(effect.cls) and not (case.fault.slowly and first["failure"] == "timeout"):
        yield "class", f"{first['failure']} ({first['signal']}) where {effect.cls} was expected"


def _kind(cls: str) -> str:
    """Classes that are handled alike everywhere are not told apart here: `classes` have their own tests."""
    return "passing" if cls in {"network", "overload"} else cls


# --- the word

_SHORT = {
    "provider_unavailable": "", "credential_rejected": " rejected", "credential_out_of_funds": " funds",
    "unknown_model": "", "bad_request": "", "context_too_long": " too long", "content_refused": " refused",
}


def word_of(evidence: Evidence) -> str:
    """What came of it, in a word or two."""
    heard = evidence.heard
    if heard.hung:
        return "HANG"
    if heard.raised:
        if heard.wire.status == 200:
            return "error event"
        return f"{heard.wire.status}{_SHORT.get(evidence.code, f' {evidence.code}')}"
    if not_whole(evidence) is not None:
        return "TRUNCATED"
    providers = [attempt["provider"] for attempt in evidence.attempts]
    if len(providers) <= 1:
        return "answered"
    return "other route" if providers[0] != providers[-1] else "second try"
