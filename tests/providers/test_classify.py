"""Every row of the failure tables for any provider, OpenAI and OpenRouter; and what is read beside the class."""

import json
from typing import Any

import pytest
from openai_recordings import Exchange, exchanges, params

from ownkey.domain.failures import Failure, FailureClass
from ownkey.providers.classify import (
    ANY_RULES,
    ErrorFacts,
    FailureTable,
    classify,
    match_rule,
    read_error_object,
    retry_after_ms,
)
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openai.failures import FAILURES as OPENAI_FAILURES
from ownkey.providers.openrouter import OpenRouterProvider
from ownkey.providers.openrouter.failures import FAILURES as OPENROUTER_FAILURES

C = FailureClass
PROVIDERS = {"openai": OpenAIProvider(), "openrouter": OpenRouterProvider()}


def o(code: Any = None, type: Any = None, message: str = "Said the provider.") -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


def r(code: Any = None, message: str = "Said the provider.", **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **more}}


# rule id, status, body, class
OPENAI = [
    ("openai.missing_scopes", 401, o(message="Missing scopes: model.request"), C.SCOPE),
    ("openai.missing_scopes", 403, o(message="Missing scopes: api.embeddings.write."), C.SCOPE),
    ("openai.funds_code", 429, o("insufficient_quota", "insufficient_quota"), C.FUNDS),
    ("openai.funds_code", 429, o("credit_balance_exhausted"), C.FUNDS),
    ("openai.funds_code", 429, o("organization_spend_limit_exceeded"), C.FUNDS),
    ("openai.funds_code", 429, o("project_spend_limit_exceeded"), C.FUNDS),
    ("openai.funds_code", 429, o("organization_usage_limit_exceeded"), C.FUNDS),
    ("openai.rate_limit_code", 429, o("rate_limit_exceeded", "requests"), C.RATE_LIMIT),
    ("openai.rate_limit_code", 429, o("slow_down", "rate_limit_error"), C.RATE_LIMIT),
    ("openai.auth", 401, o("invalid_api_key", "invalid_request_error"), C.AUTH),
    ("openai.auth", 403, o("unsupported_country_region_territory", "request_forbidden"), C.AUTH),
    ("openai.model_missing", 404, o("model_not_found", "invalid_request_error"), C.MODEL_MISSING),
    ("openai.model_missing", 400, o("model_not_found", "invalid_request_error"), C.MODEL_MISSING),
    ("openai.too_long", 400, o("context_length_exceeded", "invalid_request_error"), C.TOO_LONG),
    ("openai.policy", 400, o("content_policy_violation", "invalid_request_error"), C.POLICY),
    ("openai.policy", 400, o("invalid_prompt", "invalid_request_error"), C.POLICY),
    ("openai.overload", 503, o("server_is_overloaded", "service_unavailable_error"), C.OVERLOAD),
    ("openai.overload", 200, o("server_error", "server_error"), C.OVERLOAD),
    ("openai.funds_type", 429, o(None, "insufficient_quota"), C.FUNDS),
    ("openai.rate_limit_type", 429, o(None, "tokens"), C.RATE_LIMIT),
    ("openai.too_long_text", 400, o(None, "invalid_request_error", "maximum context length is 8192"),
     C.TOO_LONG),
    ("any.overload", 500, o(None, "server_error"), C.OVERLOAD),
    ("any.overload", 408, o(), C.OVERLOAD),
    ("any.overload", 409, o(), C.OVERLOAD),
    ("any.overload", 524, None, C.OVERLOAD),
    ("any.auth", 403, o(message="You must be a member of an organization to use the API"), C.AUTH),
    ("any.auth", 401, None, C.AUTH),
    ("any.funds", 402, o(), C.FUNDS),
    ("any.rate_limit", 429, None, C.RATE_LIMIT),
    ("any.request", 422, o(None, "invalid_request_error"), C.REQUEST),
    ("any.in_answer_request", 200, o(None, "invalid_request_error"), C.REQUEST),
    ("any.else", 200, o(), C.OVERLOAD),
    ("any.else", 307, None, C.OVERLOAD),
]
OPENROUTER = [
    ("openrouter.in_flight_budget", 402, r(402, metadata={"limit_source": "openrouter_in_flight_budget"}),
     C.RATE_LIMIT),
    ("openrouter.can_only_afford", 402, r(402, "You requested up to 4096 tokens, but can only afford 12."), C.FUNDS),
    ("openrouter.budget", 403, r(403, metadata={"limit_source": "openrouter_key_limit"}), C.FUNDS),
    ("openrouter.budget", 403, r(403, metadata={"limit_source": "openrouter_workspace_budget"}), C.FUNDS),
    ("openrouter.budget", 403, r(403, metadata={"limit_source": "openrouter_guardrail_budget"}), C.FUNDS),
    ("openrouter.budget", 402, r(402, metadata={"limit_source": "openrouter_credits"}), C.FUNDS),
    ("openrouter.key_limit", 403, r(403, "Key limit exceeded (monthly limit)."), C.FUNDS),
    ("openrouter.payment_required", 200, r(None, metadata={"error_type": "payment_required"}), C.FUNDS),
    ("openrouter.model_missing", 404, r(None, availability={"code": "model_not_found"}), C.MODEL_MISSING),
    ("openrouter.model_missing", 400, r(None, availability={"code": "model_deprecated"}), C.MODEL_MISSING),
    ("openrouter.restricted", 404, r(None, availability={"code": "privacy_restricted"}), C.SCOPE),
    ("openrouter.restricted", 404, r(None, availability={"code": "region_restricted"}), C.SCOPE),
    ("openrouter.restricted", 404, r(None, availability={"code": "constraint_filtered"}), C.SCOPE),
    ("openrouter.moderation", 403, r(403, metadata={"reasons": ["violence"], "flagged_input": "…"}), C.POLICY),
    ("openrouter.policy", 400, r(400, error_type="content_policy_violation"), C.POLICY),
    ("openrouter.too_long", 400, r(400, metadata={"error_type": "context_length_exceeded"}), C.TOO_LONG),
    ("openrouter.rate_limited", 429,
     r(None, error_type="rate_limit_exceeded", http_status=429, availability={"code": "capacity_exhausted"}),
     C.RATE_LIMIT),
    ("openrouter.authentication", 401, r(401, error_type="authentication"), C.AUTH),
    ("openrouter.unavailable", 200, r(502, metadata={"error_type": "provider_unavailable"}), C.OVERLOAD),
    ("openrouter.too_long_text", 400, r(400, "This endpoint's maximum context length is 32768 tokens."), C.TOO_LONG),
    ("openrouter.too_long_text", 400,
     r(400, "Provider returned error", metadata={"raw": '{"error":{"message":"prompt is too long: 9 > 8"}}'}),
     C.TOO_LONG),
    ("openrouter.invalid_model", 400, r(400, "acme/none is not a valid model ID"), C.MODEL_MISSING),
    ("openrouter.no_endpoints", 404, r(404, "No endpoints found matching your data policy."), C.SCOPE),
    ("openrouter.no_endpoints", 404, r(404, "No allowed providers are available for the model."), C.SCOPE),
    ("openrouter.not_found", 404, r(404), C.MODEL_MISSING),
    ("openrouter.auth", 401, r(401, "User not found."), C.AUTH),
    ("openrouter.funds", 402, r(402, "Insufficient credits"), C.FUNDS),
    ("openrouter.rate_limit", 429, r("429"), C.RATE_LIMIT),
    ("openrouter.rate_limit", 200, r("429"), C.RATE_LIMIT),
    ("openrouter.overload", 408, r(408), C.OVERLOAD),
    ("openrouter.overload", 502, r(502, "Provider returned error", metadata={"raw": {"error": "boom"}}), C.OVERLOAD),
    ("openrouter.overload", 200, r(503), C.OVERLOAD),
    ("any.auth", 403, r(403), C.AUTH),
    ("any.request", 400, r(400), C.REQUEST),
    ("any.else", 200, r("odd_word"), C.OVERLOAD),
]
TABLES: dict[str, tuple[list[Any], FailureTable]] = {
    "openai": (OPENAI, OPENAI_FAILURES),
    "openrouter": (OPENROUTER, OPENROUTER_FAILURES),
}
ROWS = [
    pytest.param(provider, *row, id=f"reconstructed-{provider}-{n}-{row[0]}")
    for provider, (rows, _) in TABLES.items()
    for n, row in enumerate(rows)
]


@pytest.mark.parametrize(("provider", "rule", "status", "body", "cls"), ROWS)
def test_each_row_of_the_table(provider: str, rule: str, status: int, body: Any, cls: FailureClass) -> None:
    """The first matching rule is the row's own, and decides the class."""
    table = TABLES[provider][1]
    facts = table.read(status, {}, (body or {}).get("error"))

    assert match_rule(facts, table.rules).id == rule
    assert classify(facts, table.rules).cls is cls


@pytest.mark.parametrize("provider", TABLES, ids=lambda name: f"reconstructed-{name}")
def test_no_row_is_without_a_test(provider: str) -> None:
    """A rule that nothing exercises is a guess."""
    rows, failures = TABLES[provider]
    both = {row[0] for table, _ in TABLES.values() for row in table}

    assert {rule.id for rule in failures.rules} <= {row[0] for row in rows}
    assert {rule.id for rule in ANY_RULES} <= both


RECORDED = {
    "invalid_api_key": (C.AUTH, "401 invalid_api_key"),
    "model_not_found": (C.MODEL_MISSING, "404 model_not_found"),
    "insufficient_quota": (C.FUNDS, "429 insufficient_quota"),
    "unsupported_parameter": (C.REQUEST, "400 unsupported_parameter"),
    "unsupported_value": (C.REQUEST, "400 unsupported_value"),
    "invalid_value": (C.REQUEST, "400 invalid_value"),
}


@pytest.mark.parametrize(
    "item", params([item for item in exchanges() if item.status >= 400 and item.provider in PROVIDERS])
)
def test_recorded_refusals(item: Exchange) -> None:
    """Real error answers fall into the contract's classes."""
    failure = PROVIDERS[item.provider].decode_failure(item.status, item.headers, item.body)
    error = json.loads(item.body)["error"]

    expected, signal = RECORDED.get(str(error.get("code")), (None, None))
    if error.get("code") == "model_not_found" and item.status == 400:
        signal = "400 model_not_found"
    if expected is None:
        expected = {400: C.REQUEST, 404: C.REQUEST, 429: C.RATE_LIMIT, 500: C.OVERLOAD, 401: C.AUTH}[item.status]
    assert failure.cls is expected
    if signal:
        assert failure.signal == signal
    assert failure.status == item.status
    assert failure.unbilled


@pytest.mark.parametrize(
    ("status", "headers", "stated", "wait"),
    [
        (429, {"retry-after": "2"}, None, 2_000),
        (429, {"retry-after": "0.5"}, None, 500),
        (429, {"retry-after-ms": "125", "retry-after": "2"}, None, 125),
        (429, {"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None, 30_000),
        (429, {"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None, None),
        (429, {"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None, 0),
        (429, {"retry-after": "soon"}, None, None),
        (429, {"retry-after": "-5"}, None, None),
        (429, {"retry-after": "999999999"}, None, 24 * 3_600_000),
        (429, {}, 40_000, 40_000),
        (503, {"retry-after": "1"}, None, 1_000),
        (402, {"retry-after": "1"}, None, 1_000),
        (400, {"retry-after": "1"}, 1_000, None),
        (200, {"retry-after": "1"}, None, None),
    ],
    ids=lambda value: f"reconstructed-{value}",
)
def test_stated_waits(status: int, headers: dict[str, str], stated: int | None, wait: int | None) -> None:
    """Milliseconds before seconds before dates before the body; only where a wait means something; at most a day."""
    assert retry_after_ms(ErrorFacts(status, headers=headers, retry_after_ms=stated)) == wait


def test_openrouters_availability_states_a_wait_reconstructed() -> None:
    """`availability.retry_after` is in seconds."""
    body = json.dumps(r(None, error_type="rate_limit_exceeded", availability={"retry_after": 40})).encode()

    assert PROVIDERS["openrouter"].decode_failure(429, {}, body).retry_after_ms == 40_000


@pytest.mark.parametrize("status", [408, 504, 524, 200], ids=lambda status: f"reconstructed-{status}")
def test_failures_that_may_be_billed(status: int) -> None:
    """A time-out at a gateway does not tell whether the model went on; a 200 was answered."""
    assert not PROVIDERS["openai"].decode_failure(status, {}, b"").unbilled


def test_a_credential_is_never_quoted_reconstructed() -> None:
    """Auth texts are ours; others are cut and scrubbed; codes that look like keys are no codes."""
    key = "sk-or-v1-" + "a1b2c3d4" * 8
    auth = PROVIDERS["openai"].decode_failure(401, {}, json.dumps(o("invalid_api_key", message=f"Bad {key}")).encode())
    other = PROVIDERS["openrouter"].decode_failure(
        500, {}, json.dumps(r("sk-abcdefgh12345678", f"Broke with {key} " + "x" * 900, param=key)).encode()
    )

    assert auth.message == "The provider did not accept the credential."
    assert key not in repr(other)
    assert "sk-abc" not in repr(other)
    assert other.signal == "500 overload"
    assert len(other.message) <= 301


def test_a_smaller_call_may_pass_reconstructed() -> None:
    """"can only afford N" spares the credential; other lack of funds does not."""
    body = json.dumps(r(402, "This request requires more credits; can only afford 12.")).encode()

    assert PROVIDERS["openrouter"].decode_failure(402, {}, body).spares_credential
    assert not PROVIDERS["openrouter"].decode_failure(402, {}, b"{}").spares_credential


def test_the_upstreams_own_words_reconstructed() -> None:
    """"Provider returned error" is replaced by what the provider returned."""
    body = json.dumps(r(429, "Provider returned error", metadata={"provider_name": "Acme", "raw": "slow down, please"}))

    assert PROVIDERS["openrouter"].decode_failure(429, {}, body.encode()).message == "Acme: slow down, please"


HOSTILE = [b"", b"<html>", b"null", b"[]", b"[1]", b'{"error":null}', b'{"error":[]}', b'{"error":"x"}', b"\xff",
           b'{"error":{"code":{},"message":[],"metadata":3,"availability":[],"type":7,"param":{}}}',
           b'{"error":{"code":true,"metadata":{"raw":7,"reasons":"x"}}}', b"[" * 100_000,
           b'[{"error":{"code":429,"message":"in a list"}}]', b'{"error":{"code":1e999}}']


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda name: f"reconstructed-{name}")
@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_no_body_breaks_the_classifier(provider: str, body: bytes) -> None:
    """HTML, nonsense and odd types fall back to the status."""
    failure: Failure = PROVIDERS[provider].decode_failure(503, {"retry-after": "x"}, body)

    assert failure.cls is C.OVERLOAD or b"429" in body
    assert failure.status == 503


def test_a_list_of_one_error_is_unwrapped_reconstructed() -> None:
    """Google answers so on some paths; others are left alone."""
    assert read_error_object(b'[{"error":{}}]') == {"error": {}}
    assert read_error_object(b"[{},{}]") is None
