"""The failure classes as data: every line of the contract's tables, each with the answers that must end in it.

An answer's body is recorded where anybody recorded one, else taken from the collection of rebuilt shapes that lies
beside the recordings, else written here. Nothing that was not recorded is called so.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

WIRE = Path(__file__).resolve().parents[2].parent / "shared" / "wire"
ABSENT = f"recorded traffic is absent: {WIRE}"


@dataclass(frozen=True)
class Recorded:
    """The first recorded answer of a provider with this status whose body holds every needle. `event` picks the
    JSON of one event out of a recorded stream."""

    provider: str
    status: int
    needles: tuple[str, ...]
    event: str = ""

    def body(self) -> bytes | None:
        for path in sorted((WIRE / "recordings").glob(f"*/{self.provider}/*")):
            found = _recorded(path)
            if found is not None and found[0] == self.status and all(n in found[1] for n in self.needles):
                return (_event(found[1], self.event) if self.event else found[1]).encode()
        return None


@dataclass(frozen=True)
class Shape:
    """The nth rebuilt answer of this classification; `words` replace the placeholders in its texts."""

    provider: str
    classification: str
    n: int = 0
    words: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes | None:
        shapes = [s for s in _shapes() if (s["provider"], s["classification"]) == (self.provider, self.classification)]
        if not shapes:
            return None
        body = shapes[self.n]["body"]
        text = body if isinstance(body, str) else json.dumps(body)
        for old, new in self.words.items():
            assert old in text, f"{old} is not in the shape"
            text = text.replace(old, new)
        return text.encode()


Body = Recorded | Shape | bytes
Place = Literal["refusal", "error", "whole", "stream"]
"""A status; an `error` inside a 200; a whole answer with 200; a stream with 200."""


@dataclass(frozen=True)
class Row:
    """One answer: its rule ("" where no rule is asked, because the answer itself says it) and what is read of it."""

    provider: str
    rule: str
    cls: str
    status: int
    given: Body
    at: Place = "refusal"
    headers: Mapping[str, str] = field(default_factory=dict)
    expect: Mapping[str, Any] = field(default_factory=dict)

    @property
    def evidence(self) -> str:
        return "recorded" if isinstance(self.given, Recorded) else "reconstructed"

    def body(self) -> bytes | None:
        """None: the folder that it lies in is absent."""
        return self.given if isinstance(self.given, bytes) else self.given.body()


@dataclass(frozen=True)
class Line:
    """A line of the contract: provider, signal and class in its words, and the answers that show it."""

    provider: str
    signal: str
    cls: str
    rows: tuple[Row, ...]


def _line(provider: str, signal: str, cls: str, *rows: tuple[Any, ...]) -> Line:
    """`rows`: (rule, status, body) and further fields of Row as a mapping. A provider or class of its own where the
    line speaks of several."""
    made = []
    for rule, status, given, *more in rows:
        values = {"provider": provider, "cls": cls, **(more[0] if more else {})}
        made.append(Row(rule=rule, status=status, given=given, **values))
    return Line(provider, signal, cls, tuple(made))


def _o(code: Any = None, kind: Any = None, message: str = "Said the provider.") -> bytes:
    """OpenAI's envelope."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


def _a(kind: str, message: str = "Said the provider.", code: str | None = None, **more: Any) -> bytes:
    """Anthropic's envelope."""
    error: dict[str, Any] = {"type": kind, "message": message, **more}
    if code is not None:
        error["details"] = {"error_code": code}
    return json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()


def _g(code: int, status: str, message: str = "Said the provider.", *details: dict[str, Any]) -> bytes:
    """Google's envelope."""
    return json.dumps({"error": {"code": code, "message": message, "status": status, "details": details}}).encode()


def _r(code: Any = None, message: str = "Said the provider.", **more: Any) -> bytes:
    """OpenRouter's envelope."""
    return json.dumps({"error": {"code": code, "message": message, **more}}).encode()


def _quota(name: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": name}]}


def _reason(name: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": name}


def _blocked(**fields: Any) -> bytes:
    usage = {"promptTokenCount": 3, "totalTokenCount": 3}
    return json.dumps({"usageMetadata": usage, "responseId": "r", **fields}).encode()


def _finished(native: str) -> bytes:
    return _blocked(candidates=[{"content": {"parts": []}, "finishReason": native, "index": 0}])


def _chat(**choice: Any) -> bytes:
    message = {"role": "assistant", "content": "", **choice.pop("message", {})}
    return json.dumps({
        "id": "gen-1", "object": "chat.completion", "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}],
    }).encode()


def _chunks(*chunks: dict[str, Any], done: bool = False) -> bytes:
    text = "".join(f"data: {json.dumps({'id': 'gen-1', 'object': 'chat.completion.chunk', **c})}\n\n" for c in chunks)
    return (text + ("data: [DONE]\n\n" if done else "")).encode()


_RETRY_12 = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12s"}
_USED_UP = "RESOURCE_EXHAUSTED"
_BAD = "invalid_request_error"
_HTML = b"<!DOCTYPE html><html><head><title>edge error</title></head></html>"
_AVAILABILITY = "capacity_exhausted (no code field!)"
_PACIFIC = {"resets_daily": "America/Los_Angeles"}

LINES: tuple[Line, ...] = (
    # --- any provider
    _line(
        "any", "408, 409, any 5xx not listed below", "overload",
        ("any.overload", 500, Recorded("openai", 500, ("server_error",)), {"provider": "openai"}),
        ("any.overload", 408, _o(), {"provider": "openai"}),
        ("any.overload", 409, _o(), {"provider": "openai"}),
        *(("any.overload", status, _HTML, {"provider": "openai"}) for status in range(520, 525)),
        *(("any.overload", status, _HTML, {"provider": "anthropic"}) for status in range(520, 525)),
        *(("any.overload", status, _HTML, {"provider": "google"}) for status in range(520, 525)),
        *(("openrouter.overload", status, _HTML, {"provider": "openrouter"}) for status in range(520, 525)),
        ("any.overload", 409, _a("conflict_error"), {"provider": "anthropic"}),
        ("any.overload", 503, Shape("google", "overloaded"), {"provider": "google"}),
        ("any.overload", 500, Shape("google", "server"), {"provider": "google"}),
        ("any.overload", 504, Shape("google", "timeout"), {"provider": "google"}),
        ("any.overload", 200, b'{"code":503,"status":"UNAVAILABLE"}', {"provider": "google", "at": "error"}),
        ("any.overload", 200, b'{"status":"UNAVAILABLE"}', {"provider": "google", "at": "error"}),
        ("any.else", 200, b"{}", {"provider": "openai", "at": "error"}),
        ("any.else", 200, b'{"code":"odd_word"}', {"provider": "openrouter", "at": "error"}),
        ("any.else", 307, b"", {"provider": "openai"}),
    ),
    _line(
        "any", "401, 403 not listed below", "auth",
        ("any.auth", 401, b"", {"provider": "openai"}),
        ("any.auth", 403, _o(message="You must be a member of an organization."), {"provider": "openai"}),
        ("any.auth", 401, b"", {"provider": "anthropic"}),
        ("any.auth", 401, _HTML, {"provider": "google"}),
        ("any.auth", 403, _r(403), {"provider": "openrouter"}),
        ("any.auth", 403, _r(None, error_type="permission_denied"), {"provider": "openrouter"}),
        ("any.auth", 200, b'{"error_type":"permission_denied"}', {"provider": "openrouter", "at": "error"}),
    ),
    _line(
        "any", "402 not listed below", "funds",
        ("any.funds", 402, _o(), {"provider": "openai"}),
        ("any.funds", 402, b"{}", {"provider": "anthropic"}),
        ("any.funds", 402, b"", {"provider": "google"}),
    ),
    _line(
        "any", "429 not listed below", "rate_limit",
        ("any.rate_limit", 429, _HTML, {"provider": "openai"}),
        ("any.rate_limit", 429, b"[1]", {"provider": "anthropic"}),
    ),
    _line(
        "any", "other 4xx not listed below", "request",
        ("any.request", 400, Recorded("openai", 400, ("unsupported_parameter",)), {"provider": "openai"}),
        ("any.request", 400, Recorded("anthropic", 400, ("invalid_request_error",)), {"provider": "anthropic"}),
        ("any.request", 422, _o(None, _BAD), {"provider": "openai"}),
        ("any.request", 404, b'{"detail":"Not Found"}', {"provider": "openai", "expect": {"message": "Not Found"}}),
        ("any.request", 404, b'{"error":"Not Found"}', {"provider": "openai", "expect": {"message": "Not Found"}}),
        ("any.request", 404, _a("not_found_error", "Not found: file"), {"provider": "anthropic"}),
        ("any.request", 400, _g(400, "INVALID_ARGUMENT", "Unknown name"), {"provider": "google"}),
        ("any.request", 400, _r(400), {"provider": "openrouter"}),
        ("any.request", 200, b'{"error_type":"unprocessable"}', {"provider": "openrouter", "at": "error"}),
        ("any.in_answer_request", 200, b'{"type":"invalid_request_error"}', {"provider": "openai", "at": "error"}),
    ),
    # --- openai
    _line(
        "openai", "429 code rate_limit_exceeded, slow_down; type requests, tokens", "rate_limit",
        ("openai.rate_limit_code", 429, Shape("openai", "rate_limit"), {
            "headers": {"retry-after-ms": "1250", "retry-after": "2"}, "expect": {"retry_after_ms": 1_250},
        }),
        ("openai.rate_limit_code", 429, Shape("openai", "rate_limit (ramp)")),
        ("openai.rate_limit_type", 429, _o(None, "requests")),
        ("openai.rate_limit_type", 429, _o(None, "tokens")),
        ("openai.rate_limit_type", 429, _o(None, "rate_limit_error")),
        ("openai.rate_limit_code", 200, b'{"code":"rate_limit_exceeded","message":"Slow."}', {"at": "error"}),
    ),
    _line(
        "openai", "429 type insufficient_quota, or code of a spend limit; the same inside a 200 stream", "funds",
        ("openai.insufficient_quota", 200, Recorded("openai", 200, ("response.failed", "insufficient_quota"), "error"),
         {"at": "error", "expect": {"signal": "200 insufficient_quota", "unbilled": False}}),
        ("openai.insufficient_quota", 200,
         Recorded("openai", 200, ("response.failed", "insufficient_quota"), "response.failed"), {"at": "error"}),
        ("openai.insufficient_quota", 429, Shape("openai", "quota", 0)),
        *(("openai.funds_code", 429, Shape("openai", "quota", n)) for n in (1, 2, 3, 4)),
        ("openai.funds_code", 400, _o("billing_hard_limit_reached", _BAD)),
        ("openai.funds_code", 429, _o("billing_not_active", "billing_not_active")),
        ("openai.funds_type", 429, _o(None, "insufficient_quota")),
    ),
    _line(
        "openai", '401/403 "Missing scopes"', "scope",
        ("openai.missing_scopes", 401, _o(None, _BAD, "You have insufficient permissions. Missing scopes: a.request")),
        ("openai.missing_scopes", 403, _o(None, "server_error", "Missing scopes: api.embeddings.write.")),
    ),
    _line(
        "openai", "401 invalid_api_key", "auth",
        ("openai.invalid_key", 401, Recorded("openai", 401, ("invalid_api_key",)),
         {"expect": {"message": "The provider did not accept the credential."}}),
    ),
    _line(
        "openai", "403 region, IP, membership", "auth",
        ("openai.auth_code", 403, _o("unsupported_country_region_territory", "request_forbidden")),
        ("openai.auth_code", 403, _o("ip_not_authorized", _BAD)),
        ("openai.auth_code", 401, _o("account_deactivated", _BAD)),
    ),
    _line(
        "openai", "404 model_not_found; 400 model_not_found on /responses", "model_missing",
        ("openai.model_missing", 404, Recorded("openai", 404, ("model_not_found",)),
         {"expect": {"signal": "404 model_not_found"}}),
        ("openai.model_missing", 400, Recorded("openai", 400, ("model_not_found",)),
         {"expect": {"signal": "400 model_not_found", "param": "model"}}),
    ),
    _line(
        "openai", "400 context_length_exceeded", "too_long",
        ("openai.too_long", 400, _o("context_length_exceeded", _BAD)),
        ("openai.too_long", 200, b'{"type":"response.failed","response":{"error":{"code":"context_length_exceeded"}}}',
         {"at": "error"}),
        ("openai.too_long_text", 400, _o(None, _BAD, "This model's maximum context length is 8192 tokens.")),
    ),
    _line(
        "openai", "400 content_policy_violation, invalid_prompt", "policy",
        ("openai.policy", 400, _o("content_policy_violation", _BAD)),
        ("openai.policy", 400, _o("invalid_prompt", _BAD)),
        ("openai.policy", 200, b'{"code":"image_content_policy_violation","message":"No."}', {"at": "error"}),
        ("openai.policy", 200, b'{"code":"bio_policy","message":"No."}', {"at": "error"}),
    ),
    _line(
        "openai", "in an answer: server_error, server_is_overloaded", "overload",
        ("openai.overload", 503, Shape("openai", "overloaded")),
        ("openai.overload", 200, b'{"code":"server_error","message":"Broke."}', {"at": "error"}),
        ("openai.overload", 200, b'{"type":"error","code":"server_is_overloaded","message":"Busy.","param":null}',
         {"at": "error", "expect": {"signal": "200 server_is_overloaded"}}),
    ),
    _line(
        "openai", "in an answer: the SDK's codes for an unusable input", "request",
        ("openai.input", 200, b'{"code":"image_too_small","message":"Small.","param":"input"}',
         {"at": "error", "expect": {"param": "input", "provider_code": "image_too_small"}}),
    ),
    # --- anthropic
    _line(
        "anthropic", "429 rate_limit_error", "rate_limit",
        ("anthropic.rate_limit", 429, Shape("anthropic", "rate_limit"),
         {"headers": {"Retry-After": "7"}, "expect": {"retry_after_ms": 7_000}}),
        ("anthropic.rate_limit", 429, _a("rate_limit_error", code="ramp_limit_exceeded")),
        ("anthropic.rate_limit", 200, b'{"type":"rate_limit_error","message":"Slow."}', {"at": "error"}),
    ),
    _line(
        "anthropic", "429 details.error_code of a spend limit; 402 billing_error", "funds",
        ("anthropic.spend_limit", 429, Shape("anthropic", "quota (tier monthly threshold)")),
        ("anthropic.spend_limit", 429, _a("rate_limit_error", code="contract_spend_limit_reached")),
        ("anthropic.spend_limit", 402, _a("billing_error", code="linked_organization_billing_unavailable")),
        ("anthropic.billing", 402, Shape("anthropic", "billing")),
    ),
    _line(
        "anthropic", '400 "Your credit balance is too low", "You have reached your specified"', "funds",
        ("anthropic.credit_balance", 400, Shape("anthropic", "quota (no credit)", words={"<starts: ": ""})),
        ("anthropic.own_limit", 400, Shape("anthropic", "quota (own spend limit)", words={"<starts: ": ""})),
        ("anthropic.own_limit", 400, _a(_BAD, "You have reached your specified workspace API usage limits.")),
        ("anthropic.own_limit", 400, _a(
            _BAD, "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
        ), {"expect": {"resets_at_ms": 1_796_083_200_000}}),
    ),
    _line(
        "anthropic", "401 authentication_error; 403 permission_error", "auth",
        ("anthropic.authentication", 401, Recorded("anthropic", 401, ("authentication_error",))),
        ("anthropic.permission", 403, Shape("anthropic", "permission")),
        ("anthropic.organization_on_hold", 400, _a(_BAD, code="organization_on_hold")),
        ("anthropic.organization_disabled", 400, _a(_BAD, "This organization has been disabled.")),
    ),
    _line(
        "anthropic", "the organisation's own set-up, in details.error_code", "scope",
        ("anthropic.organization_setup", 400, _a(_BAD, code="organization_type_not_supported")),
        ("anthropic.organization_setup", 400, _a(_BAD, code="cmek_key_disabled")),
    ),
    _line(
        "anthropic", '404 not_found_error, "model: …"', "model_missing",
        ("anthropic.model_missing", 404, Recorded("anthropic", 404, ("not_found_error", "model: "))),
    ),
    _line(
        "anthropic", '400 "prompt is too long"; 413', "too_long",
        ("anthropic.too_long", 400, _a(_BAD, "prompt is too long: 200001 tokens > 200000")),
        ("anthropic.too_long", 400, _a(_BAD, "input length and `max_tokens` exceed context limit: 1 + 2 > 3")),
        ("anthropic.too_large", 413, Shape("anthropic", "too_large (Cloudflare; NO top-level type / request_id)")),
        ("anthropic.too_large_status", 413, _HTML),
    ),
    _line(
        "anthropic", "529, 500, 504; event: error inside a stream", "overload",
        ("anthropic.overload", 529, Shape("anthropic", "overloaded")),
        ("anthropic.overload", 500, Shape("anthropic", "server")),
        ("anthropic.overload", 504, Shape("anthropic", "timeout"), {"expect": {"unbilled": False}}),
        ("", 200, Shape("anthropic", "mid-stream overloaded"), {"at": "stream"}),
    ),
    _line(
        "anthropic", "400 blocked by content filtering policy", "policy",
        ("anthropic.policy", 400, _a(_BAD, "Output blocked by content filtering policy")),
    ),
    # --- google
    _line(
        "google", "429 RESOURCE_EXHAUSTED with RetryInfo, quotaId …PerMinute…", "rate_limit",
        ("google.minute_quota", 429, Recorded("google", 429, ("PerMinute", "RetryInfo")),
         {"expect": {"retry_after_ms": 34_400}}),
        ("google.minute_quota", 429, _g(429, _USED_UP, "q", _quota("TokensPerMinute"), _RETRY_12),
         {"expect": {"retry_after_ms": 12_000}}),
        ("google.stated_wait", 429, _g(429, _USED_UP, "q", _RETRY_12)),
        ("google.minute_quota", 200, _g(429, _USED_UP, "q", _quota("TokensPerMinute"), _RETRY_12),
         {"at": "error", "expect": {"retry_after_ms": 12_000}}),
    ),
    _line(
        "google", "429, quotaId …PerDay…, or no RetryInfo", "funds",
        ("google.daily_quota", 429, _g(429, _USED_UP, "q", _quota("RequestsPerDayPerProject"), _RETRY_12),
         {"expect": _PACIFIC}),
        ("google.daily_quota", 200, _g(429, _USED_UP, "q", _quota("RequestsPerDayPerProject")),
         {"at": "error", "expect": _PACIFIC}),
        ("google.quota", 429, Shape("google", "daily quota (no RetryInfo)"), {"expect": {"resets_daily": None}}),
        ("google.quota", 429, Shape("google", "list-wrapped error (OpenAI-compat and some streams)")),
        ("google.quota", 200, Shape("google", "list-wrapped error (OpenAI-compat and some streams)"), {"at": "error"}),
    ),
    _line(
        "google", "400, details reason API_KEY_INVALID; 401; 403 PERMISSION_DENIED", "auth",
        ("google.bad_key", 400, Recorded("google", 400, ("API_KEY_INVALID",))),
        ("google.blocked_key", 403, _g(403, "PERMISSION_DENIED", "b", _reason("API_KEY_SERVICE_BLOCKED"))),
        ("google.unauthenticated", 401, _g(401, "UNAUTHENTICATED")),
        ("google.permission", 403, Shape("google", "key revoked (leaked)")),
        ("google.permission", 403, Shape("google", "project denied")),
    ),
    _line(
        "google", "400 FAILED_PRECONDITION that names billing", "funds",
        ("google.billing", 400, _g(400, "FAILED_PRECONDITION", "Please enable billing on your project")),
    ),
    _line(
        "google", "400 FAILED_PRECONDITION else", "auth",
        ("google.precondition", 400, Shape("google", "billing/region precondition")),
        ("google.precondition", 400, _g(400, "FAILED_PRECONDITION", "User location is not supported")),
    ),
    _line(
        "google", "404 NOT_FOUND", "model_missing",
        ("google.model_missing", 404, Recorded("google", 404, ("NOT_FOUND",))),
        ("google.model_missing_status", 404, _HTML),
    ),
    _line(
        "google", '400 "input token count … exceeds the maximum"', "too_long",
        ("google.too_long", 400, _g(
            400, "INVALID_ARGUMENT", "The input token count (2) exceeds the maximum number of tokens allowed (1)."
        )),
        ("google.too_large", 413, b""),
    ),
    _line(
        "google",
        "200 promptFeedback.blockReason, finishReason SAFETY, PROHIBITED_CONTENT, BLOCKLIST, SPII, RECITATION",
        "policy",
        ("", 200, _blocked(promptFeedback={"blockReason": "PROHIBITED_CONTENT"}), {"at": "whole"}),
        *(("", 200, _finished(native), {"at": "whole"})
          for native in ("SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION")),
    ),
    _line(
        "google", "200 finishReason MALFORMED_FUNCTION_CALL, UNEXPECTED_TOOL_CALL, MISSING_THOUGHT_SIGNATURE",
        "bad_output",
        *(("", 200, _finished(native), {"at": "whole", "expect": {"unbilled": False}})
          for native in ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MISSING_THOUGHT_SIGNATURE")),
    ),
    _line(
        "google", "mid-stream, raw pretty-printed JSON without data:", "overload",
        ("", 200, Shape(
            "google", "mid-stream overloaded, BREAKS SSE FRAMING (pretty-printed JSON, no data: prefix)"
        ), {"at": "stream"}),
    ),
    _line(
        "anthropic, openai", "200 stop_reason refusal; message.refusal, finish content_filter", "policy",
        ("", 200, json.dumps({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "c", "content": [],
            "stop_reason": "refusal", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
        }).encode(), {"provider": "anthropic", "at": "whole"}),
        ("", 200, _chat(message={"content": None, "refusal": "No."}), {"provider": "openai", "at": "whole"}),
        ("", 200, _chat(finish_reason="content_filter"), {"provider": "openai", "at": "whole"}),
    ),
    # --- openrouter
    _line(
        "openrouter", "401", "auth",
        ("openrouter.auth", 401, _r(401, "User not found.")),
        ("openrouter.authentication", 401, _r(401, error_type="authentication")),
        ("openrouter.auth", 401, _a("authentication_error")),
        ("openrouter.auth", 200, _a("authentication_error"), {"at": "error"}),
    ),
    _line(
        "openrouter",
        '402; 403 "Key limit exceeded"; 403 with limit_source key, workspace or guardrail budget', "funds",
        ("openrouter.budget", 402, Shape("openrouter", "credits")),
        ("openrouter.funds", 402, _r(402, "Insufficient credits")),
        ("openrouter.payment_required", 200, b'{"metadata":{"error_type":"payment_required"}}', {"at": "error"}),
        ("openrouter.key_limit", 403, _r(403, "Key limit exceeded (monthly limit).")),
        ("openrouter.budget", 403, Shape("openrouter", "key/workspace/guardrail budget", words={
            "<ts>": "2026-12-01T00:00:00.000Z",
        }), {"expect": {"resets_at_ms": 1_796_083_200_000, "spares_credential": False}}),
        ("openrouter.budget", 403, _r(403, metadata={
            "limit_source": "openrouter_workspace_budget", "resets_at": 1_796_083_200,
        }), {"expect": {"resets_at_ms": 1_796_083_200_000}}),
        ("openrouter.budget", 403, _r(403, metadata={
            "limit_source": "openrouter_guardrail_budget", "resets_at": "1796083200000",
        }), {"expect": {"resets_at_ms": 1_796_083_200_000}}),
        ("openrouter.budget", 403, json.dumps({
            "type": "error", "error": {"type": "permission_error", "message": "m", "error_type": "permission_denied"},
            "request_id": None, "metadata": {"limit_source": "openrouter_key_limit"},
        }).encode()),
        ("openrouter.funds", 402, _a("billing_error")),
    ),
    _line(
        "openrouter", '402 "can only afford N" tokens', "funds",
        ("openrouter.can_only_afford", 402, Shape("openrouter", "max_tokens unaffordable"),
         {"expect": {"spares_credential": True}}),
        ("openrouter.can_only_afford", 402, _r(
            402, "You can only afford 12.", error_type="payment_required",
            metadata={"limit_source": "openrouter_credits"},
        ), {"expect": {"spares_credential": True}}),
    ),
    _line(
        "openrouter", "402 + Retry-After, limit_source: openrouter_in_flight_budget", "rate_limit",
        ("openrouter.in_flight_budget", 402, Shape("openrouter", "in-flight budget (TRANSIENT)"),
         {"headers": {"Retry-After": "3"}, "expect": {"retry_after_ms": 3_000}}),
    ),
    _line(
        "openrouter", "403 with metadata.reasons", "policy",
        ("openrouter.moderation", 403, Shape("openrouter", "moderation")),
        ("openrouter.policy", 400, _r(400, error_type="content_policy_violation")),
        ("openrouter.policy", 200, b'{"error_type":"refusal","message":"No."}', {"at": "error"}),
    ),
    _line(
        "openrouter", "404 no endpoints; availability {privacy,region}_restricted, constraint_filtered", "scope",
        *(("openrouter.restricted", 404, _r(None, availability={"code": code}))
          for code in ("privacy_restricted", "region_restricted", "constraint_filtered")),
        ("openrouter.restricted_in_words", 404, _r(404, "No endpoints found matching your data policy.")),
        ("openrouter.no_endpoints", 404, _r(404, "No allowed providers are available for the model.")),
        ("openrouter.no_endpoints", 404, _r(404, "No endpoints found for this model.", error_type="not_found")),
    ),
    _line(
        "openrouter", "400/404 availability model_not_found, model_deprecated", "model_missing",
        ("openrouter.model_missing", 404, _r(None, availability={"code": "model_not_found"})),
        ("openrouter.model_missing", 400, _r(None, availability={"code": "model_deprecated"})),
        ("openrouter.invalid_model", 400, _r(400, "acme/none is not a valid model ID")),
        ("openrouter.not_found", 404, _r(404)),
    ),
    _line(
        "openrouter", "429", "rate_limit",
        ("openrouter.rate_limit", 429, Recorded("openrouter", 429, ("temporarily rate-limited",))),
        ("openrouter.rate_limited", 429, Shape("openrouter", _AVAILABILITY), {"expect": {"retry_after_ms": 40_000}}),
        ("openrouter.rate_limited", 200, Shape("openrouter", _AVAILABILITY),
         {"at": "error", "expect": {"retry_after_ms": 40_000}}),
        ("openrouter.rate_limited", 200, b'{"availability":{"code":"capacity_exhausted"}}', {"at": "error"}),
        ("openrouter.rate_limit", 429, _r("429")),
        ("openrouter.rate_limit", 200, b'{"code":"429"}', {"at": "error"}),
        ("openrouter.rate_limit", 429, _a("rate_limit_error")),
        ("openrouter.rate_limit", 200, _a("rate_limit_error"), {"at": "error"}),
    ),
    _line(
        "openrouter", "400 context length", "too_long",
        ("openrouter.too_long", 400, _r(400, metadata={"error_type": "context_length_exceeded"})),
        ("openrouter.too_long_text", 400, _r(400, "This endpoint's maximum context length is 32768 tokens.")),
        ("openrouter.too_long_text", 400, _r(400, "Provider returned error", metadata={
            "raw": '{"error":{"message":"prompt is too long: 9 > 8"}}',
        })),
        ("openrouter.too_long_text", 400, _r(400, "Provider returned error", error_type="invalid_request", metadata={
            "raw": {"error": {"message": "The input token count exceeds the maximum."}},
        })),
        ("openrouter.too_large", 413, _a("request_too_large")),
    ),
    _line(
        "openrouter", "408, 5xx", "overload",
        ("openrouter.overload", 408, Shape("openrouter", "timeout"), {"expect": {"unbilled": False}}),
        ("openrouter.overload", 502, Shape("openrouter", "provider invalid response", words={
            "<string or object>": "boom", "<p>": "Acme",
        }), {"expect": {"message": "Acme: boom"}}),
        ("openrouter.overload", 503, Shape("openrouter", "no provider")),
        ("openrouter.unavailable", 200, _a("overloaded_error", error_type="provider_overloaded"), {"at": "error"}),
        ("openrouter.overload", 200, _a("overloaded_error"), {"at": "error"}),
        ("openrouter.retryable", 404, _r(None, availability={"code": "warming_up", "retryable": True})),
    ),
    _line(
        "openrouter", "200 body: top-level error, choices[0].error, finish error", "overload",
        ("", 200, Shape("openrouter", "error inside non-stream body"), {"at": "whole"}),
        ("", 200, b'{"error":{"code":502,"message":"Broke."}}', {"at": "whole"}),
        ("", 200, b'{"error":{"code":429,"message":"Slow."}}', {"at": "whole", "cls": "rate_limit"}),
        ("", 200, b'{"error":{"code":"402","message":"Empty."}}', {"at": "whole", "cls": "funds"}),
        ("", 200, _chat(finish_reason="error"), {"at": "whole"}),
    ),
    _line(
        "openrouter",
        "200 stream chunk with error: it alone decides, whatever finish_reason and [DONE] say", "rate_limit",
        ("", 200, Shape("openrouter", "mid-stream, documented"), {"at": "stream"}),
        ("", 200, Shape("openrouter", "mid-stream, empty choices"), {"at": "stream", "cls": "overload"}),
        ("", 200, _chunks(
            {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": None}], "error": {"code": "429", "message": "m"},
             "usage": {"prompt_tokens": 1, "completion_tokens": 1}}, done=True,
        ), {"at": "stream"}),
    ),
    _line(
        "openrouter", "finish looks good, native_finish_reason error/network_error, no content", "overload",
        *(("", 200, _chat(native_finish_reason=native), {"at": "whole"}) for native in ("error", "network_error")),
    ),
)


def _event(body: str, wanted: str) -> str:
    """The JSON of the first event of this type."""
    for line in body.splitlines():
        text = line.removeprefix("data:").strip()
        if text.startswith("{") and json.loads(text).get("type") == wanted:
            return text
    raise AssertionError(f"no event {wanted} in the recording")


@cache
def _recorded(path: Path) -> tuple[int, str] | None:
    text = path.read_text()
    if path.parts[-3] == "vercel+ai":  # Bodies only: an error's status is inferred from its code.
        if path.name.endswith(".chunks.txt"):
            return 200, text
        if '"error"' not in text[:20]:
            return None
        return (429 if any(word in text for word in ("insufficient_quota", "RESOURCE_EXHAUSTED")) else 400), text
    if path.suffix != ".json":
        return None
    data = json.loads(text)
    return int(path.stem[:3]), data["response"]["body"]


@cache
def _shapes() -> list[dict[str, Any]]:
    path = WIRE / "error-shapes.not-recorded.json"
    return json.loads(path.read_text()) if path.is_file() else []
