"""Scripted faults: which requests they hit, how often, and what they do to an answer.

A fault that is a named refusal takes the body from `errors`; the others bend the answer, its frames, or the
connection. An `error_mid_stream` has four shapes: "provider" (the provider's own frame, then the end), "continue" (the
stream goes on after it), "bare" (JSON without any framing, as Google has sent), "final" (inside OpenRouter's usage
chunk). `bill` says what the book records for a broken answer: "none", "sent" (what was sent), or "whole".

`raw` sends bytes (given as Latin-1 text) in an answer's place and then ends, resets or holds the connection, or goes on
with the answer. Places in a stream are counted in frames with content (`bending`).
"""

from dataclasses import dataclass, field, replace
from typing import Any

from . import errors
from .bending import (
    content_place,
    done_at,
    filler_of,
    garbled,
    inserted,
    repeated,
    reported_early,
    reported_twice,
    stopped,
    stopped_at_byte,
    stopped_inside,
    unending,
    unfinished,
    with_final_error,
)
from .dice import Dice
from .plan import HONEST, Event, Json, Twist

MATCHES = {"provider", "model", "key", "path", "stream", "method"}

# name -> parameter -> default. Every fault also takes `bill`.
PARAMETERS: dict[str, dict[str, Any]] = {
    "custom": {"status": 500, "headers": {}, "body": ""},
    "silence": {},
    "slow_head": {"seconds": 1.0},
    "slow_first_content": {"seconds": 1.0},
    "stall_after": {"events": 1, "content": None},
    "cut_after": {"events": None, "bytes": None, "content": None, "reset": False},
    "cut_inside": {"what": "frame", "after": 1, "reset": False},
    "cut_before_headers": {"reset": False},
    "raw": {"data": "", "then": "cut", "every_s": 0.0},
    "last_answer": {},
    "swapped_kind": {},
    "endless": {"what": "comment", "after": 0, "every_s": 0.05},
    "no_finish": {},
    "early_usage": {},
    "repeat": {"kind": "end"},
    "unknown_event": {"after": 1},
    "after_end": {},
    "invalid_utf8": {"after": 1},
    "other_model": {"model": "someone-else/entirely"},
    "until_close": {"version": "1.1", "share": 1.0},
    "unfinished_chunks": {},
    "bad_chunk": {"share": 0.5},
    "slow_bytes": {"size": 16, "every_s": 0.0002},
    "deflate": {"bare": False},
    "brotli": {},
    "malformed_event": {"after": 1},
    "missing_end": {"finish": True},
    "missing_usage": {},
    "zero_usage": {},
    "null_usage": {},
    "usage_twice": {},
    "html_login_200": {},
    "retry_after_on_200": {"seconds": 55},
    "echo_key": {"where": "error"},
    "gzip": {"share": 1.0},
    "wrong_content_length": {"delta": 10, "share": 1.0},
    "redirect_307": {"location": "https://example.com/elsewhere"},
    "set_cookie": {},
    "huge_event": {"bytes": 1_048_576, "after": 0},
    "crlf": {},
    "error_in_200": {"error": "overloaded", "where": "top"},
    "error_in_first_event": {"error": "overloaded"},
    "error_mid_stream": {"error": "overloaded", "after": 2, "shape": "provider"},
    "finish_error": {"reason": "MALFORMED_FUNCTION_CALL"},
    "native_finish_error": {},
}
_CHOICES: dict[tuple[str, str], set[str]] = {
    ("raw", "then"): {"cut", "reset", "hold", "answer"},
    ("cut_inside", "what"): {"frame", "character"},
    ("endless", "what"): {"comment", "ping", "head", "blank"},
    ("repeat", "kind"): {"head", "finish", "usage", "end"},
    ("until_close", "version"): {"1.0", "1.1"},
    ("echo_key", "where"): {"error", "header", "event", "text"},
    ("error_mid_stream", "shape"): {"provider", "continue", "bare", "final"},
}
_NEEDS_PROVIDER = {"native_finish_error": {"openrouter"}, "finish_error": {"openrouter", "google"}}


_LATE = b'data: {"id":"late","choices":[{"index":0,"delta":{"content":"late"}}]}\n\n'


class FaultError(ValueError):
    """A fault that does not exist or takes no such parameter."""


@dataclass(slots=True)
class Rule:
    """One scripted fault. `left` None means: always. The first `skip` requests that match pass unharmed."""

    id: int
    match: Json
    name: str
    params: Json
    left: int | None = None
    skip: int = 0
    probability: float = 1.0
    hits: int = 0
    bill: str | None = None

    def as_json(self) -> Json:
        return {
            "id": self.id,
            "match": self.match,
            "fault": {"name": self.name, **self.params, **({"bill": self.bill} if self.bill else {})},
            "left": self.left,
            "skip": self.skip,
            "probability": self.probability,
            "hits": self.hits,
        }


@dataclass(frozen=True, slots=True)
class Target:
    """What a rule can match on."""

    provider: str
    method: str
    path: str
    key: str
    models: tuple[str, ...] = ()
    stream: bool = False


@dataclass(slots=True)
class Faults:
    """The rules in force; the first that matches a request is used."""

    rules: list[Rule] = field(default_factory=list)
    _next: int = 1
    _dice: Dice = field(default_factory=lambda: Dice(0, "faults"))

    def reset(self, seed: int) -> None:
        self.rules.clear()
        self._dice = Dice(seed, "faults")

    def add(self, asked: Json) -> Rule:
        """A rule from {match?, times?, skip?, probability?, fault: {name, …}}. Raises FaultError."""
        fault = asked.get("fault")
        if isinstance(fault, str):
            fault = {"name": fault}
        if not isinstance(fault, dict) or not isinstance(fault.get("name"), str):
            raise FaultError("fault: give an object with a name")
        name = fault["name"]
        match = asked.get("match") or {}
        if unknown := set(match) - MATCHES:
            raise FaultError(f"match takes {sorted(MATCHES)}, not {sorted(unknown)}")
        given = {key: value for key, value in fault.items() if key not in {"name", "bill"}}
        params = _parameters(name, match.get("provider"), given)
        bill = fault.get("bill")
        if bill not in {None, "none", "sent", "whole"}:
            raise FaultError('bill takes "none", "sent" or "whole"')
        times = asked.get("times", 1)
        rule = Rule(
            self._next,
            match,
            name,
            params,
            times,
            int(asked.get("skip", 0)),
            float(asked.get("probability", 1)),
            0,
            bill,
        )
        self._next += 1
        self.rules.append(rule)
        return rule

    def remove(self, rule_id: int) -> bool:
        before = len(self.rules)
        self.rules = [rule for rule in self.rules if rule.id != rule_id]
        return len(self.rules) < before

    def take(self, target: Target) -> Rule | None:
        """The fault for this request, counted as used."""
        for rule in self.rules:
            if rule.left == 0 or not _hits(rule, target):
                continue
            if rule.skip > 0:
                rule.skip -= 1
                continue
            if rule.probability < 1 and not self._dice.happens(rule.probability):
                continue
            if rule.left is not None:
                rule.left -= 1
            rule.hits += 1
            return rule
        return None


def _parameters(name: str, provider: Any, given: Json) -> Json:
    if name in PARAMETERS:
        allowed = PARAMETERS[name]
        if provider is not None and provider not in _NEEDS_PROVIDER.get(name, {provider}):
            raise FaultError(f"{name} is no fault of {provider}")
    elif name in errors.names(provider):
        allowed = {"wait_s": 7.0, "tokens": 0, "limit": 0, "headers": {}, "message": ""}
    else:
        known = sorted({*PARAMETERS, *errors.names(provider)})
        raise FaultError(
            f"no fault {name!r}" + (f" of {provider}" if provider else "") + f"; known: {', '.join(known)}"
        )
    if unknown := set(given) - set(allowed):
        raise FaultError(f"{name} takes {sorted(allowed)}, not {sorted(unknown)}")
    for key, value in given.items():
        chosen = _CHOICES.get((name, key))
        if chosen is not None and value not in chosen:
            raise FaultError(f"{name}: {key} is one of {', '.join(sorted(chosen))}")
    inner = given.get("error")
    if inner is not None and inner not in errors.names(provider):
        raise FaultError(f"no error {inner!r}; known: {', '.join(errors.names(provider))}")
    return {**allowed, **given}


def _hits(rule: Rule, target: Target) -> bool:
    match = rule.match
    if rule.name not in PARAMETERS and rule.name not in errors.TABLES[target.provider]:
        return False
    if target.provider not in _NEEDS_PROVIDER.get(rule.name, {target.provider}):
        return False
    return (
        match.get("provider") in {None, target.provider}
        and match.get("key") in {None, target.key}
        and ("model" not in match or match["model"] in target.models)
        and ("path" not in match or str(match["path"]) in target.path)
        and ("stream" not in match or bool(match["stream"]) == target.stream)
        and ("method" not in match or str(match["method"]).upper() == target.method)
    )


def twist_of(rule: Rule | None) -> Twist:
    """How the rule bends the usage report and the finish."""
    match rule.name if rule is not None else "":
        case "missing_usage":
            return replace(HONEST, usage="missing")
        case "zero_usage":
            return replace(HONEST, usage="zero")
        case "null_usage":
            return replace(HONEST, usage="null")
        case "finish_error":
            assert rule is not None
            return replace(HONEST, finish_error=True, finish_reason=str(rule.params["reason"]))
        case "native_finish_error":
            return replace(HONEST, native_error=True)
        case _:
            return HONEST


def bend(rule: Rule, events: list[Event], error_frame: bytes, error_body: bytes = b"{}") -> list[Event]:
    """The frames as the fault sends them. `error_frame` and `error_body` are the provider's for the rule's error."""
    params = rule.params
    match rule.name:
        case "stall_after" | "cut_after":
            kind = "stall" if rule.name == "stall_after" else _cut(params)
            return _broken_off(events, params, kind)
        case "cut_inside":
            return stopped_inside(events, str(params["what"]), int(params["after"]), _cut(params))
        case "malformed_event":
            return inserted(events, int(params["after"]), b'data: {"id": "broken, "choices": [\n\n', "head")
        case "unknown_event":
            return inserted(events, int(params["after"]), b'event: news\ndata: {"type":"news","x":[1,{}]}\n\n', "ping")
        case "invalid_utf8":
            return garbled(events, int(params["after"]))
        case "endless":
            return unending(events, int(params["after"]), filler_of(events, str(params["what"])))
        case "no_finish":
            return unfinished(events)
        case "early_usage":
            return reported_early(events)
        case "repeat":
            return repeated(events, str(params["kind"]))
        case "after_end":
            return [*events, Event(_LATE, "end")]
        case "missing_end":
            dropped = {"end"} if params["finish"] else {"end", "finish", "usage"}
            return [event for event in events if event.kind not in dropped]
        case "usage_twice":
            return reported_twice(events)
        case "huge_event":
            return inserted(events, int(params["after"]), b": " + b"x" * int(params["bytes"]) + b"\n\n", "ping")
        case "crlf":
            return [replace(event, data=event.data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")) for event in events]
        case "error_in_first_event":
            # A Responses stream has begun before it can fail; the others say nothing first.
            begun = [event for event in events[:2] if b"response." in event.data[:40]]
            return [*begun, Event(error_frame, "error")]
        case "error_mid_stream" if params["shape"] == "final":
            return with_final_error(events, error_body)
        case "echo_key" if params["where"] in {"text", "header"}:
            return events
        case "error_mid_stream" | "echo_key":
            place = content_place(events, int(params.get("after", 1)))
            return [*events[:place], Event(error_frame, "error", done_at(events, place)), *_rest(params, events, place)]
        case _:
            return events


def _cut(params: Json) -> str:
    return "reset" if params["reset"] else "cut"


def _broken_off(events: list[Event], params: Json, kind: str) -> list[Event]:
    """Ended after so many bytes, so many frames with content, or so many frames of any kind."""
    if params.get("bytes") is not None:
        return stopped_at_byte(events, int(params["bytes"]), kind)
    if params.get("content") is not None:
        return stopped(events, content_place(events, int(params["content"])), kind)
    return stopped(events, int(1 if params["events"] is None else params["events"]), kind)


def _rest(params: Json, events: list[Event], place: int) -> list[Event]:
    return events[place:] if params.get("shape") == "continue" else []
