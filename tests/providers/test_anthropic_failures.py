"""Anthropic's failures as recorded, and as they come in the middle of a stream, told apart by id."""

import json
from typing import Any

import pytest
from anthropic_google_wire import Exchange, exchanges, fold, json_values, params, read_streamed
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
