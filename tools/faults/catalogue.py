"""The faults, as data: what the emulator is told to do, and what it must lead to."""

from collections.abc import Iterator
from typing import Any

from tools.faults.kinds import HARMLESS, Effect, Fault, Json, Script, Target, after, before

FIRST_S = 0.9
"""How long the gateway under test waits for first content, and for a stream to go on."""

TRAP = "where nobody may go"
"""Stands in a script for an address that notes its visitors."""

_MEGABYTES = 11 * 2**20
_PASSING = before("network")
_SLOW = before("timeout", late=True)


def faults() -> list[Fault]:
    """All rows, in the order of the page."""
    found = [*_connections(), *_heads(), *_framings(), *_bodies(), *_streams(), *_usages(), *_errors_inside(),
             *_statuses(), *_named()]
    names = [fault.name for fault in found]
    assert len(names) == len(set(names)), "two faults have the same name"
    return found


def _always(name: str, **params: Any) -> Script:
    return lambda _target: {"name": name, **params}


def _raw(data: str, then: str = "cut", **params: Any) -> Script:
    return _always("raw", data=data, then=then, **params)


def _raw_head(then: str, **params: Any) -> Script:
    """A 200's head and no byte of its body."""
    def script(target: Target) -> Json:
        kind = "text/event-stream" if target.stream else "application/json"
        frame = "transfer-encoding: chunked" if target.stream else "content-length: 900"
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{frame}\r\n\r\n"
        return {"name": "raw", "data": head, "then": then, **params}
    return script


def _instead(body: Any, kind: str = "application/json", status: int = 200, **headers: str) -> Script:
    told = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return _always("custom", status=status, headers=told, body=body)


def _connections() -> Iterator[Fault]:
    group = "The connection"
    late = before("timeout")
    yield Fault("refused", group, _always(""), _PASSING, _PASSING, wall="refused")
    yield Fault("connect unanswered", group, _always(""), late, late, wall="unanswered")
    yield Fault("closed before the head", group, _always("cut_before_headers"), _PASSING, _PASSING, replaced=True)
    yield Fault("reset before the head", group, _always("cut_before_headers", reset=True), _PASSING, _PASSING,
                replaced=True)
    yield Fault("silent", group, _always("silence"), late, late)
    yield Fault("silent, and bills", group, _always("silence", bill="whole"), late, late)
    yield Fault("closed after the head", group, _raw_head("cut"), _PASSING, _PASSING)
    yield Fault("reset after the head", group, _raw_head("reset"), _PASSING, _PASSING)
    yield Fault("silent after the head", group, _raw_head("hold"), late, late)
    yield Fault("slow head", group, _always("slow_head", seconds=FIRST_S + 0.6), _SLOW, _SLOW)
    yield Fault("head byte by byte", group, _raw_head("hold", every_s=0.05), late, late)
    yield Fault("closed after the answer", group, _always("last_answer"), HARMLESS, HARMLESS,
                alone=True, twice=True)


def _heads() -> Iterator[Fault]:
    group = "The head"
    yield Fault("text before the status line", group, _raw("hello there\r\n", "answer"), _PASSING, _PASSING)
    yield Fault("another protocol", group, _raw("SSH-2.0-OpenSSH_9.6\r\n"), _PASSING, _PASSING)
    yield Fault("HTTP/2 frames", group, _raw("\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64", "hold"), _PASSING, _PASSING)
    yield Fault("TLS on a plain port", group, _raw("\x15\x03\x01\0\x02\x02\x46"), _PASSING, _PASSING)
    yield Fault("status without a number", group, _raw("HTTP/1.1 fine\r\n\r\n"), _PASSING, _PASSING)
    yield Fault("head of 200 KB", group, _raw(f"HTTP/1.1 200 OK\r\nx-big: {'x' * 200_000}\r\n\r\n", "hold"), _PASSING,
                _PASSING)
    many = "".join(f"x-{n}: y\r\n" for n in range(2_000))
    yield Fault("2,000 headers", group, _raw(f"HTTP/1.1 200 OK\r\n{many}content-length: 2\r\n\r\n{{}}"), _PASSING,
                _PASSING)
    yield Fault("two lengths", group,
                _raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 5\r\n\r\n{}   "), _PASSING, _PASSING)
    yield Fault("length and chunks", group,
                _raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
                _PASSING, _PASSING)
    yield Fault("100 Continue first", group, _raw("HTTP/1.1 100 Continue\r\n\r\n", "answer"), HARMLESS, HARMLESS)
    hint = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
    yield Fault("103 three times first", group, _raw(hint * 3, "answer"), HARMLESS, HARMLESS)
    yield Fault("103 and no answer", group, _raw(hint, "hold"), before("timeout"), before("timeout"))
    yield Fault("101 Switching Protocols", group,
                _raw("HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", "hold"),
                _PASSING, _PASSING)
    yield Fault("cookies", group, _always("set_cookie"), HARMLESS, HARMLESS)
    yield Fault("Retry-After on a 200", group, _always("retry_after_on_200"), HARMLESS, HARMLESS)


def _framings() -> Iterator[Fault]:
    group = "The framing"
    half = {"share": 0.5}
    yield Fault("HTTP/1.0, no length", group, _always("until_close", version="1.0"), HARMLESS, HARMLESS)
    yield Fault("no length, closed at the end", group, _always("until_close"), HARMLESS, HARMLESS)
    yield Fault("no length, closed in the middle", group, _always("until_close", **half), _PASSING, after("network"))
    yield Fault("length too long", group, _always("wrong_content_length", delta=300), _PASSING, HARMLESS)
    yield Fault("length too short", group, _always("wrong_content_length", delta=0, **half), _PASSING,
                after("network"), alone=True)
    yield Fault("last chunk missing", group, _always("unfinished_chunks"), _PASSING, HARMLESS)
    yield Fault("chunk size is no number", group, _always("bad_chunk"), _PASSING, after("network"))
    yield Fault("a few bytes at a time", group, _always("slow_bytes"), HARMLESS, HARMLESS)
    yield Fault("gzip unasked", group, _always("gzip"), HARMLESS, HARMLESS)
    yield Fault("gzip cut", group, _always("gzip", **half), _PASSING, after("network"))
    yield Fault("deflate unasked", group, _always("deflate"), HARMLESS, HARMLESS)
    yield Fault("bare deflate unasked", group, _always("deflate", bare=True), HARMLESS, HARMLESS)
    yield Fault("brotli unasked", group, _always("brotli"), _PASSING, _PASSING)


_EMPTY: dict[str, Json] = {
    "chat": {"id": "x", "object": "chat.completion", "choices": []},
    "embeddings": {"object": "list", "data": [], "model": "x"},
    "generateContent": {"candidates": [], "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}},
}
_HOLLOW: dict[str, Json] = {
    "chat": {"id": "x", "object": "chat.completion", "model": "x"},
    "embeddings": {"object": "list", "model": "x"},
    "responses": {"id": "resp_x", "object": "response", "model": "x"},
    "messages": {"id": "msg_x", "type": "message", "role": "assistant"},
    "generateContent": {"modelVersion": "x"},
}


def _by_endpoint(bodies: dict[str, Json]) -> Script:
    def script(target: Target) -> Json | None:
        body = bodies.get(target.endpoint)
        return None if body is None else {
            "name": "custom", "status": 200, "headers": {"content-type": "application/json"}, "body": body,
        }
    return script


def _swapped(target: Target) -> Json | None:
    return None if target.endpoint == "embeddings" else {"name": "swapped_kind"}


def _bodies() -> Iterator[Fault]:
    group = "The body of a 200"
    stream = "text/event-stream"
    for name, script in (
        ("a login page", _always("html_login_200")), ("nothing", _instead("", "application/json")),
        ("{}", _instead("{}", "application/json")), ("[]", _instead("[]", "application/json")),
        ("null", _instead("null", "application/json")), ("a word", _instead("OK", "text/plain")),
        ("cut JSON, proper length", _instead('{"id": "x", "choices": [{"index"', "application/json")),
        ("fields missing", _by_endpoint(_HOLLOW)), ("empty lists", _by_endpoint(_EMPTY)),
    ):
        yield Fault(name, group, script, _PASSING, _PASSING)
    yield Fault("a stream where JSON was asked", group, _swapped, _PASSING, None)
    yield Fault("JSON where a stream was asked", group, _swapped, None, before("overload"))
    yield Fault("an empty stream", group, _instead("", stream), None, _PASSING)
    yield Fault("only [DONE]", group, _instead("data: [DONE]\n\n", stream), None, _PASSING)
    yield Fault("only comments, then the end", group, _instead(": hello\n\n: hello\n\n", stream), None, _PASSING)
    yield Fault("JSON under a stream's type", group, _instead("{}", stream), None, _PASSING)
    yield Fault("another model's name", group, _always("other_model"), HARMLESS, HARMLESS)
    yield Fault("JSON broken off inside", group, _always("malformed_event"), _PASSING, None)
    yield Fault("11 MB of blanks first", group, _always("huge_event", bytes=_MEGABYTES), HARMLESS, None)


def _streams() -> Iterator[Fault]:
    group = "The stream"
    late, lost = after("timeout"), after("network")
    first, slow = _PASSING, before("timeout")
    yield Fault("slow first content", group, _always("slow_first_content", seconds=FIRST_S + 0.6), _SLOW, _SLOW)
    yield Fault("stalls before content", group, _always("stall_after", content=0), slow, slow)
    yield Fault("stalls after content", group, _always("stall_after", content=3), slow, late)
    yield Fault("closed before content", group, _always("cut_after", content=0), first, first)
    yield Fault("closed after content", group, _always("cut_after", content=3), first, lost)
    yield Fault("reset before content", group, _always("cut_after", content=0, reset=True), first, first)
    yield Fault("reset after content", group, _always("cut_after", content=3, reset=True), first, lost)
    yield Fault("closed inside the first content", group, _always("cut_inside", after=0), None, first)
    yield Fault("closed inside a frame", group, _always("cut_inside", after=3), first, lost)
    yield Fault("closed inside a character", group, _always("cut_inside", what="character", after=3), first, lost)
    yield Fault("no terminator", group, _always("missing_end"), None, HARMLESS)
    yield Fault("ends without finish", group, _always("missing_end", finish=False), None, lost)
    yield Fault("terminator without finish", group, _always("no_finish"), None, lost)
    yield Fault("malformed before content", group, _always("malformed_event", after=0), None, first)
    yield Fault("malformed after content", group, _always("malformed_event", after=3), None, lost)
    yield Fault("no UTF-8 before content", group, _always("invalid_utf8", after=0), first, first)
    yield Fault("no UTF-8 after content", group, _always("invalid_utf8", after=3), None, lost)
    yield Fault("an event of 11 MB before content", group, _always("huge_event", bytes=_MEGABYTES), None, first,
                slowly=True, alone=True)
    yield Fault("an event of 11 MB after content", group, _always("huge_event", bytes=_MEGABYTES, after=3), None, lost,
                slowly=True, alone=True)
    for what in ("comment", "ping", "head", "blank"):
        name = {"comment": "comments", "ping": "pings", "head": "opening events", "blank": "blank lines"}[what]
        yield Fault(f"{name} without end, before content", group, _always("endless", what=what),
                    slow if what == "blank" else None, slow)
    yield Fault("comments without end, after content", group, _always("endless", after=3), None, late)
    yield Fault("pings without end, after content", group, _always("endless", what="ping", after=3), None, late)
    yield Fault("unknown events between", group, _unknown, None, HARMLESS)
    yield Fault("CRLF", group, _always("crlf"), None, HARMLESS)
    yield Fault("terminator twice", group, _always("repeat", kind="end"), None, HARMLESS)
    yield Fault("finish twice", group, _always("repeat", kind="finish"), None, HARMLESS, only=_CHAT)
    yield Fault("opening twice", group, _always("repeat", kind="head"), None, HARMLESS, only=_CHAT)
    yield Fault("content behind the terminator", group, _always("after_end"), None, HARMLESS)


def _unknown(target: Target) -> Json | None:
    """Chat streams have no kinds of events: there an unknown one is an answer without choices."""
    return None if target.endpoint == "chat" else {"name": "unknown_event"}


_CHAT = frozenset({"chat"})


def _usages() -> Iterator[Fault]:
    group = "The usage report"
    for name, free in (("missing_usage", ()), ("zero_usage", ("*",)), ("null_usage", ())):
        yield Fault(name.replace("_", " "), group, _always(name), HARMLESS, HARMLESS, free=frozenset(free),
                    unread_by=frozenset({"openrouter"} if name == "null_usage" else ()))
    yield Fault("usage twice", group, _usage_twice, None, HARMLESS)
    yield Fault("usage before content", group, _always("early_usage"), None, HARMLESS)


def _usage_twice(target: Target) -> Json | None:
    """Google's last report comes with the last words of the answer: twice is another answer there."""
    return None if target.provider == "google" else {"name": "usage_twice"}


def _errors_inside() -> Iterator[Fault]:
    group = "An error under a 200"
    full = before("overload")
    yield Fault("error as the body", group, _always("error_in_200"), full, None)
    yield Fault("error in a choice", group, _always("error_in_200", where="choice"), full, None,
                only=frozenset({"openrouter"}))
    busy = {"error": {"message": "Overloaded", "type": "server_error", "code": 503}}
    yield Fault("error as JSON, no stream", group, _instead(busy), None, full)
    yield Fault("error as the first event", group, _always("error_in_first_event"), None, full)
    yield Fault("rate limit as the first event", group, _always("error_in_first_event", error="rate_limit"), None,
                before("rate_limit"))
    yield Fault("error before content", group, _always("error_mid_stream", after=0), None, full)
    yield Fault("error after content", group, _always("error_mid_stream", after=3), None, after("overload"))
    yield Fault("error, and the stream goes on", group, _always("error_mid_stream", after=3, shape="continue"), None,
                after("overload"))
    yield Fault("error without framing", group, _always("error_mid_stream", after=3, shape="bare"), None,
                after("overload"))
    yield Fault("error in the usage chunk", group, _final, None, after("overload"))
    yield Fault("finish_reason error", group, _finish_error, before("overload"), after("overload"),
                own={"google": before("bad_output")})
    yield Fault("native finish error, no content", group, _native, before("overload"), before("overload"))
    yield Fault("key echoed in an error", group, _always("echo_key"), before("auth"), before("auth"))
    yield Fault("key echoed in an event", group, _echoed_event, None, after("auth"))
    yield Fault("key echoed in a header", group, _always("echo_key", where="header"), HARMLESS, HARMLESS)
    yield Fault("key echoed in the text", group, _always("echo_key", where="text"), HARMLESS, HARMLESS,
                answers="masked")


def _echoed_event(target: Target) -> Json | None:
    """OpenRouter's Responses have a few codes only; a bad key has none."""
    if (target.provider, target.endpoint) == ("openrouter", "responses"):
        return None
    return {"name": "echo_key", "where": "event", "bill": "sent"}


def _final(target: Target) -> Json | None:
    if (target.provider, target.endpoint) != ("openrouter", "chat"):
        return None
    return {"name": "error_mid_stream", "after": 3, "shape": "final"}


def _finish_error(target: Target) -> Json | None:
    known = target.provider == "google" or (target.provider, target.endpoint) == ("openrouter", "chat")
    return {"name": "finish_error"} if known else None


def _native(target: Target) -> Json | None:
    return {"name": "native_finish_error"} if (target.provider, target.endpoint) == ("openrouter", "chat") else None


def _statuses() -> Iterator[Fault]:
    group = "A status without words"
    for status in (204, 205, 206, 300, 304):
        yield Fault(f"{status}", group, _instead("", status=status), before("overload"), before("overload"))
    for status in (301, 302, 303, 307, 308):
        script = _always("custom", status=status, headers={"location": TRAP, "content-type": "text/html"}, body="")
        yield Fault(f"{status} elsewhere", group, script, before("overload"), before("overload"))
    for status in (405, 406, 410, 415, 418, 422, 424, 425, 431, 451):
        yield Fault(f"{status} empty", group, _instead("", status=status), before("request"), before("request"))
    for status in (401, 403):
        yield Fault(f"{status} empty", group, _instead("", status=status), before("auth"), before("auth"))
    yield Fault("402 empty", group, _instead("", status=402), before("funds"), before("funds"))
    yield Fault("429 empty", group, _instead("", status=429), before("rate_limit"), before("rate_limit"),
                own={"google": before("funds")})
    for status in (408, 409, 500, 501, 502, 503, 504, 505, 507, 511, 520, 521, 522, 523, 524, 525, 527, 529, 530, 599):
        yield Fault(f"{status} empty", group, _instead("", status=status), before("overload"), before("overload"))
    kept, lost, unkept = (
        before("rate_limit", wait="short"), before("rate_limit"), before("overload", wait="long"),
    )
    for name, status, effect, headers in (
        ("1 second", 429, kept, {"retry-after": "1"}), ("300 ms", 429, kept, {"retry-after-ms": "300"}),
        ("a past date", 429, lost, {"retry-after": "Thu, 01 Jan 2015 00:00:00 GMT"}),
        ("no time", 429, lost, {"retry-after": "soon"}), ("an hour", 503, unkept, {"retry-after": "3600"}),
    ):
        script = _always("custom", status=status, headers=headers, body="")
        # Google has no such header in milliseconds, and a 429 of it that tells no wait is a spent quota.
        yield Fault(f"{status}, Retry-After {name}", group, script, effect, effect,
                    own={"google": before("funds")} if name == "300 ms" else {})


_RATE, _FUNDS, _AUTH, _SCOPE = before("rate_limit"), before("funds"), before("auth"), before("scope")
_OVER, _MISSING, _LONG = before("overload"), before("model_missing"), before("too_long")
_POLICY, _REQUEST = before("policy"), before("request")
_EDGE = dict.fromkeys((
    "bad_gateway_html_502", "unavailable_html_503", "gateway_timeout_html_504", "edge_520_html", "edge_522_html",
    "edge_524_html", "overloaded", "server_500", "timeout_504", "timeout_408", "conflict_409",
), _OVER)
NAMED: dict[str, dict[str, Effect]] = {
    "openai": {
        **dict.fromkeys(("rate_limit", "rate_limit_retry_after", "rate_limit_tokens", "slow_down"), _RATE),
        **dict.fromkeys(("insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded",
                         "project_spend_limit_exceeded", "organization_usage_limit_exceeded"), _FUNDS),
        **dict.fromkeys(("auth_401", "no_key_401", "region_403"), _AUTH),
        **dict.fromkeys(("scope_401", "scope_403"), _SCOPE),
        **dict.fromkeys(("model_missing_404", "model_missing_400", "model_forbidden_403"), _MISSING),
        "context_too_long": _LONG, "policy": _POLICY, "invalid_prompt": _POLICY, "bad_request": _REQUEST, **_EDGE,
    },
    "anthropic": {
        **dict.fromkeys(("rate_limit", "rate_limit_retry_after"), _RATE),
        **dict.fromkeys(("enforced_spend_limit_429", "contract_spend_limit_429", "billing_402",
                         "credit_balance_low_400", "usage_limit_400", "workspace_limit_400"), _FUNDS),
        **dict.fromkeys(("auth_401", "no_key_401", "permission_403"), _AUTH),
        "model_missing_404": _MISSING, "context_too_long": _LONG, "too_large_413": _LONG, "policy": _POLICY,
        "bad_request": _REQUEST, **_EDGE,
    },
    "google": {
        **dict.fromkeys(("rate_limit", "rate_limit_retry_after"), _RATE),
        **dict.fromkeys(("insufficient_quota", "daily_quota_429", "list_wrapped_429", "billing_400"), _FUNDS),
        **dict.fromkeys(("auth_401", "auth_400", "expired_400", "no_key_403", "leaked_403", "permission_403",
                         "precondition_400"), _AUTH),
        "model_missing_404": _MISSING, "context_too_long": _LONG, "bad_request": _REQUEST, **_EDGE,
    },
    "openrouter": {
        **dict.fromkeys(("rate_limit", "rate_limit_retry_after", "capacity_exhausted_429", "in_flight_402"), _RATE),
        **dict.fromkeys(("insufficient_quota", "can_only_afford_402", "key_limit_403", "workspace_budget_403",
                         "guardrail_budget_403"), _FUNDS),
        **dict.fromkeys(("auth_401", "no_key_401", "management_403", "management_401"), _AUTH),
        # Under a cap the prices of the hold are sent along: no endpoint is left within them.
        "no_endpoints_404": _MISSING, "max_price_404": _MISSING,
        **dict.fromkeys(("privacy_restricted_404", "region_restricted_404",
                         "constraint_filtered_404"), _SCOPE),
        **dict.fromkeys(("model_missing_404", "model_deprecated_404", "model_missing_400"), _MISSING),
        **dict.fromkeys(("upstream_502", "upstream_object_502", "overloaded_529"), _OVER),
        "context_too_long": _LONG, "policy": _POLICY, "bad_request": _REQUEST, "string_code_400": _REQUEST,
        **{name: effect for name, effect in _EDGE.items() if name != "conflict_409"},
    },
}
"""The class of every refusal that the emulator can give by name. A second table, on purpose: it may not be the
gateway's own."""


def _named() -> Iterator[Fault]:
    group = "A provider's own refusal"
    for name in dict.fromkeys(name for table in NAMED.values() for name in table):
        by_provider = {provider: table[name] for provider, table in NAMED.items() if name in table}
        usual = next(iter(by_provider.values()))
        yield Fault(name, group, _refusal(name, frozenset(by_provider)), usual, usual, own=by_provider)


def _refusal(name: str, providers: frozenset[str]) -> Script:
    # The envelope of /messages has no place for OpenRouter's code, and these words alone do not tell why.
    left_out = "messages" if name == "constraint_filtered_404" else ""
    return lambda target: (
        {"name": name} if target.provider in providers and target.endpoint != left_out else None
    )
