"""Every row of Anthropic's failure table, against recorded answers and against rebuilt ones, told apart by id."""

import json
from typing import Any

import pytest
from anthropic_google_wire import Exchange, exchanges, fold, json_values, not_recorded, params, read_streamed
from hypothesis import given
from hypothesis import strategies as st

from ownkey.domain.failures import FailureClass
from ownkey.providers.anthropic import AnthropicProvider
from ownkey.providers.anthropic.codec import MessagesCodec
from ownkey.providers.anthropic.failures import FAILURES

RECORDED_CLASS = {400: FailureClass.REQUEST, 401: FailureClass.AUTH, 404: FailureClass.MODEL_MISSING}


@pytest.mark.parametrize("item", params([item for item in exchanges("anthropic") if item.status != 200]))
def test_a_recorded_refusal_has_its_class(item: Exchange) -> None:
    """Statuses 400, 401 and 404 are all that anybody recorded."""
    failure = AnthropicProvider().decode_failure(item.status, item.headers, item.body)

    assert failure.cls is RECORDED_CLASS[item.status]
    assert failure.status == item.status
    assert failure.unbilled


def envelope(kind: str, message: str = "text", code: str | None = None) -> bytes:
    error: dict[str, Any] = {"type": kind, "message": message}
    if code is not None:
        error["details"] = {"error_code": code}
    return json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()


BAD_REQUEST = "invalid_request_error"
ROWS = [
    ("anthropic.spend_limit", 429, envelope("rate_limit_error", code="enforced_spend_limit_reached"), "funds"),
    ("anthropic.spend_limit", 429, envelope("rate_limit_error", code="contract_spend_limit_reached"), "funds"),
    ("anthropic.organization_on_hold", 400, envelope(BAD_REQUEST, code="organization_on_hold"), "auth"),
    ("anthropic.billing", 402, envelope("billing_error"), "funds"),
    ("anthropic.credit_balance", 400, envelope(BAD_REQUEST, "Your credit balance is too low to …"), "funds"),
    ("anthropic.own_limit", 400, envelope(BAD_REQUEST, "You have reached your specified API usage limits."), "funds"),
    (
        "anthropic.own_limit",
        400,
        envelope(BAD_REQUEST, "You have reached your specified workspace API usage limits."),
        "funds",
    ),
    ("anthropic.organization_disabled", 400, envelope(BAD_REQUEST, "This organization has been disabled."), "auth"),
    ("anthropic.rate_limit", 429, envelope("rate_limit_error"), "rate_limit"),
    ("anthropic.authentication", 401, envelope("authentication_error"), "auth"),
    ("anthropic.permission", 403, envelope("permission_error"), "auth"),
    ("anthropic.model_missing", 404, envelope("not_found_error", "model: claude-none"), "model_missing"),
    ("any.request", 404, envelope("not_found_error", "Not found: file"), "request"),
    ("anthropic.too_large", 413, envelope("request_too_large"), "too_long"),
    (
        "anthropic.too_large",
        413,
        b'{"error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}',
        "too_long",
    ),
    ("anthropic.too_large_status", 413, b"<html>413</html>", "too_long"),
    ("anthropic.too_long", 400, envelope(BAD_REQUEST, "prompt is too long: 200001 tokens > 200000"), "too_long"),
    (
        "anthropic.too_long",
        400,
        envelope(BAD_REQUEST, "input length and `max_tokens` exceed context limit: 1 + 2 > 3"),
        "too_long",
    ),
    ("anthropic.policy", 400, envelope(BAD_REQUEST, "Output blocked by content filtering policy"), "policy"),
    ("anthropic.overload", 529, envelope("overloaded_error"), "overload"),
    ("anthropic.overload", 500, envelope("api_error"), "overload"),
    ("anthropic.overload", 504, envelope("timeout_error"), "overload"),
    ("any.overload", 520, b"<html>edge</html>", "overload"),
    ("any.auth", 401, b"", "auth"),
    ("any.funds", 402, b"{}", "funds"),
    ("any.rate_limit", 429, b"[1]", "rate_limit"),
    ("any.request", 400, envelope(BAD_REQUEST, "messages: field required"), "request"),
]


SHAPES = {
    "overloaded": "overload",
    "rate_limit": "rate_limit",
    "quota (tier monthly threshold)": "funds",
    "quota (no credit)": "funds",
    "quota (own spend limit)": "funds",
    "billing": "funds",
    "permission": "auth",
    "too_large (Cloudflare; NO top-level type / request_id)": "too_long",
    "server": "overload",
    "timeout": "overload",
    "mid-stream overloaded": "overload",
}


@pytest.mark.parametrize(
    "shape", [pytest.param(s, id=f"reconstructed-{s['classification']}") for s in not_recorded("anthropic")]
)
def test_a_shape_of_the_collection_has_its_class(shape: dict[str, Any]) -> None:
    """The rebuilt answers kept beside the recordings."""
    expected = SHAPES[shape["classification"]]
    if shape["stream"]:
        read = fold(read_streamed(MessagesCodec().events(), [shape["body"].encode()]))
        assert read.failure is not None
        assert read.failure.cls.value == expected
        assert not read.failure.unbilled
        return
    body = json.dumps(shape["body"]).replace("<starts: ", "").encode()

    assert FAILURES.judge_refusal(shape["status"], {}, body).cls.value == expected


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        pytest.param("overloaded_error", "overload", id="reconstructed-overloaded"),
        pytest.param("rate_limit_error", "rate_limit", id="reconstructed-rate_limit"),
        pytest.param("authentication_error", "auth", id="reconstructed-auth"),
        pytest.param("billing_error", "funds", id="reconstructed-billing"),
        pytest.param("invalid_request_error", "request", id="reconstructed-request"),
        pytest.param("never_heard_of", "overload", id="reconstructed-unknown"),
    ],
)
def test_an_error_inside_a_stream_fails_the_answer_with_its_class(kind: str, cls: str) -> None:
    """After content too; nothing that follows counts."""
    start = b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","model":"c"}}\n\n'
    block = b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"Hi"}}\n\n'
    error = b"event: error\ndata: " + envelope(kind) + b"\n\n"
    relay = MessagesCodec().passthrough(None)
    reader = MessagesCodec().events()

    read = fold(read_streamed(reader, [start + block + error + block]))

    assert read.text == "Hi"
    assert read.failure is not None
    assert read.failure.cls.value == cls
    assert not reader.seen.complete
    assert list(relay.feed(start + block + error + block)) == [start, block]


def test_a_stated_wait_counts_only_with_a_refusal() -> None:
    """Anthropic sends Retry-After with good answers too."""
    assert FAILURES.judge_refusal(429, {"Retry-After": "7"}, envelope("rate_limit_error")).retry_after_ms == 7_000
    assert FAILURES.judge_refusal(400, {"Retry-After": "7"}, envelope(BAD_REQUEST)).retry_after_ms is None


JSON = json_values(st.integers())
EVENTS = st.sampled_from(
    ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "error"]
)


@given(
    st.lists(
        st.tuples(
            EVENTS,
            st.dictionaries(
                st.sampled_from(["message", "content_block", "delta", "usage", "error", "index"]),
                st.dictionaries(
                    st.sampled_from(
                        ["type", "text", "id", "usage", "citations", "citation", "input", "stop_reason", "content"]
                    ),
                    JSON | st.sampled_from(["text", "thinking", "tool_use", "text_delta", "input_json_delta"]),
                )
                | JSON,
            ),
        ),
        max_size=6,
    )
)
def test_no_event_breaks_the_reader(events: list[tuple[str, dict[str, Any]]]) -> None:
    """Whatever the provider sends is an event or a failure, never an exception."""
    body = b"".join(b"data: " + json.dumps({"type": kind} | rest).encode() + b"\n\n" for kind, rest in events)
    reader = MessagesCodec().events()

    read_streamed(reader, [body])

    assert reader.seen.ended
    assert reader.seen.complete or reader.seen.failure is not None
