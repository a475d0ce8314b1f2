"""What is read of an error beside its class: waits, resets, texts, nothing secret; and that nothing breaks it."""

import json
from typing import Any

import pytest
from openai_recordings import Exchange, exchanges, params

from ownkey.domain.failures import Failure, FailureClass, find_reset_ms, next_midnight_ms
from ownkey.providers.anthropic import AnthropicProvider
from ownkey.providers.anthropic.failures import FAILURES as ANTHROPIC
from ownkey.providers.classify import (
    ErrorFacts,
    FailureTable,
    innermost_error,
    read_error_object,
    retry_after_ms,
    stated_time_ms,
)
from ownkey.providers.google import GoogleProvider
from ownkey.providers.google.failures import FAILURES as GOOGLE
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openai.failures import FAILURES as OPENAI
from ownkey.providers.openrouter import OpenRouterProvider
from ownkey.providers.openrouter.failures import FAILURES as OPENROUTER

C = FailureClass
PROVIDERS = {
    "openai": OpenAIProvider(), "openrouter": OpenRouterProvider(), "anthropic": AnthropicProvider(),
    "google": GoogleProvider(),
}
TABLES = {"openai": OPENAI, "openrouter": OPENROUTER, "anthropic": ANTHROPIC, "google": GOOGLE}


def o(code: Any = None, type: Any = None, message: str = "Said the provider.") -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


def r(code: Any = None, message: str = "Said the provider.", **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **more}}


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


KEYS = {
    "openai": "sk-proj-" + "b2C4" * 12, "openrouter": "sk-or-v1-" + "a1b2c3d4" * 8,
    "anthropic": "sk-ant-api03-" + "c3D4" * 12, "google": "AIza" + "Sy3x" * 9,
}


@pytest.mark.parametrize("at", ["status", "answer"], ids=lambda at: f"reconstructed-{at}")
@pytest.mark.parametrize("provider", TABLES)
def test_no_field_of_an_error_carries_a_key(provider: str, at: str) -> None:
    """Wherever a provider echoes a key (text, code, type, parameter, reason, the upstream's words), it is masked."""
    key = KEYS[provider]
    error = {
        "message": f"Broke with {key}.", "code": key, "type": key, "param": f"model {key}", "status": key,
        "error_type": key, "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": key}],
        "metadata": {"raw": f"upstream said {key}", "provider_name": key, "limit_source": key},
        "availability": {"code": key},
    }
    for variant in (error, {**error, "message": "Provider returned error"}, {**error, "details": {"error_code": key}}):
        if at == "status":
            failure = TABLES[provider].judge_refusal(418, {}, json.dumps({"error": variant}).encode())
        else:
            failure = TABLES[provider].judge_error(variant)

        assert key not in repr(failure)
        assert key[:16] not in repr(failure)


@pytest.mark.parametrize(
    ("now", "midnight"),
    [
        ("2026-11-22T07:59:59+00:00", "2026-11-22T08:00:00+00:00"),
        ("2026-11-22T08:00:00+00:00", "2026-11-23T08:00:00+00:00"),
        ("2026-07-01T12:00:00+00:00", "2026-07-02T07:00:00+00:00"),
        # Clocks go forward on 8 March and back on 1 November: those days have 23 and 25 hours.
        ("2026-03-08T09:30:00+00:00", "2026-03-09T07:00:00+00:00"),
        ("2026-11-01T07:30:00+00:00", "2026-11-02T08:00:00+00:00"),
    ],
    ids=lambda value: f"reconstructed-{value[:13]}",
)
def test_a_quota_of_a_day_ends_at_midnight_in_los_angeles(now: str, midnight: str) -> None:
    """Also on the two days a year that are not 24 hours long."""
    at_ms, expected = stated_time_ms(now), stated_time_ms(midnight)
    assert at_ms is not None

    daily = Failure(C.FUNDS, "q", resets_daily="America/Los_Angeles")

    assert next_midnight_ms(at_ms, "America/Los_Angeles") == expected
    assert find_reset_ms(daily, at_ms) == expected


def test_a_reset_that_is_over_says_nothing_reconstructed() -> None:
    """Nor does a failure without one."""
    assert find_reset_ms(Failure(C.FUNDS, "q", resets_at_ms=5), 6) is None
    assert find_reset_ms(Failure(C.FUNDS, "q", resets_at_ms=7), 6) == 7
    assert find_reset_ms(Failure(C.FUNDS, "q"), 6) is None


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2026-12-01T00:00:00Z", 1_796_083_200_000), ("2026-12-01T00:00:00.250+00:00", 1_796_083_200_250),
        ("2026-12-01T01:00:00+01:00", 1_796_083_200_000), ("2026-12-01", 1_796_083_200_000),
        (1_796_083_200, 1_796_083_200_000), (1_796_083_200_000, 1_796_083_200_000),
        ("1796083200000", 1_796_083_200_000), ("soon", None), (None, None), (True, None), (0, None), (10**30, None),
        ("9" * 40, None), (1.5, None),
    ],
    ids=lambda value: f"reconstructed-{str(value)[:24]}",
)
def test_stated_moments(value: object, moment: int | None) -> None:
    """ISO 8601 with or without a zone, seconds or milliseconds; anything else is no moment."""
    assert stated_time_ms(value) == moment


def test_only_lack_of_funds_has_a_reset_reconstructed() -> None:
    """A moderation's metadata may hold any field; a rate limit has a wait instead."""
    body = json.dumps(r(403, metadata={"reasons": ["x"], "resets_at": "2026-12-01T00:00:00Z"})).encode()

    assert PROVIDERS["openrouter"].decode_failure(403, {}, body).resets_at_ms is None


def test_an_event_is_judged_by_the_error_inside_it_reconstructed() -> None:
    """The error, its event and its answer are one failure; a caller's own `metadata` has no say in it."""
    error = {"code": "rate_limit_exceeded", "message": "Slow."}
    wrapped: list[Any] = [
        error, {"error": error}, [{"error": error}], {"type": "error", "error": error}, {"type": "error", **error},
        {"type": "response.failed", "response": {"status": "failed", "error": error}},
    ]
    mine = {"response": {"error": {"code": 403, "message": "m"}, "metadata": {"limit_source": "mine"}}}

    assert {OPENAI.judge_error(item) for item in wrapped} == {OPENAI.judge_error(error)}
    assert OPENROUTER.judge_error(mine).cls is C.AUTH
    assert innermost_error({"response": {"error": None}}) == {"error": None}


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: f"reconstructed-{len(table.rules)}")
def test_waits_inside_streams_count_for_the_same_statuses(table: FailureTable) -> None:
    """A wait in an error that is no 402, 429 or 5xx is no wait, and none is longer than a day."""
    for code, waits in ((400, False), (403, False), (402, True), (429, True), (503, True)):
        error = {"code": code, "availability": {"retry_after": 10**8}, "details": [
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{10**8}s"}
        ]}
        wait = table.judge_error(error).retry_after_ms

        assert wait is None or (waits and wait == 24 * 3_600_000)
    if table in (OPENROUTER, GOOGLE):
        assert table.judge_error(error).retry_after_ms == 24 * 3_600_000


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
