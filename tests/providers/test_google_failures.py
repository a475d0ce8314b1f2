"""Every row of Google's failure table, against recorded answers and against rebuilt ones, told apart by id."""

import json
from typing import Any

import pytest
from anthropic_google_wire import Exchange, exchanges, fold, json_values, not_recorded, params, read_streamed
from hypothesis import given
from hypothesis import strategies as st

from ownkey.domain.failures import FailureClass
from ownkey.providers.google import GoogleProvider
from ownkey.providers.google.codec import GenerateCodec
from ownkey.providers.google.failures import FAILURES

RECORDED_CLASS = {400: FailureClass.AUTH, 404: FailureClass.MODEL_MISSING, 429: FailureClass.RATE_LIMIT}


@pytest.mark.parametrize("item", params([item for item in exchanges("google") if item.status != 200]))
def test_a_recorded_refusal_has_its_class(item: Exchange) -> None:
    """A bad key is a 400 here; a wait is stated in the body."""
    failure = GoogleProvider().decode_failure(item.status, item.headers, item.body)

    assert failure.cls is RECORDED_CLASS[item.status]
    assert failure.unbilled
    if item.status == 429:
        assert failure.retry_after_ms == 34_400


def envelope(code: int, status: str, message: str = "text", *details: dict[str, Any]) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "status": status, "details": details}}).encode()


def quota(name: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": name}]}


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12s"}
EXHAUSTED = "RESOURCE_EXHAUSTED"


def reason(name: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": name}


ROWS = [
    ("google.bad_key", 400, envelope(400, "INVALID_ARGUMENT", "bad", reason("API_KEY_INVALID")), "auth"),
    ("google.unauthenticated", 401, envelope(401, "UNAUTHENTICATED"), "auth"),
    ("google.permission", 403, envelope(403, "PERMISSION_DENIED", "Your API key was reported as leaked"), "auth"),
    ("google.daily_quota", 429, envelope(429, EXHAUSTED, "q", quota("RequestsPerDayPerProject"), RETRY), "funds"),
    ("google.daily_quota", 429, envelope(429, EXHAUSTED, "q", quota("RequestsPerDayPerProject")), "funds"),
    ("google.minute_quota", 429, envelope(429, EXHAUSTED, "q", quota("TokensPerMinute"), RETRY), "rate_limit"),
    ("google.stated_wait", 429, envelope(429, EXHAUSTED, "q", RETRY), "rate_limit"),
    ("google.quota", 429, envelope(429, EXHAUSTED), "funds"),
    ("google.quota", 429, b"[" + envelope(429, EXHAUSTED) + b"]", "funds"),
    ("google.billing", 400, envelope(400, "FAILED_PRECONDITION", "Please enable billing on your project"), "funds"),
    ("google.precondition", 400, envelope(400, "FAILED_PRECONDITION", "User location is not supported"), "auth"),
    ("google.model_missing", 404, envelope(404, "NOT_FOUND"), "model_missing"),
    ("google.model_missing_status", 404, b"<html>", "model_missing"),
    (
        "google.too_long",
        400,
        envelope(
            400, "INVALID_ARGUMENT", "The input token count (2) exceeds the maximum number of tokens allowed (1)."
        ),
        "too_long",
    ),
    ("google.too_large", 413, b"", "too_long"),
    ("any.request", 400, envelope(400, "INVALID_ARGUMENT", "Unknown name"), "request"),
    ("any.overload", 503, envelope(503, "UNAVAILABLE", "The model is overloaded."), "overload"),
    ("any.overload", 500, envelope(500, "INTERNAL"), "overload"),
    ("any.overload", 504, envelope(504, "DEADLINE_EXCEEDED"), "overload"),
    ("any.auth", 401, b"<html>", "auth"),
]


SHAPES = {
    "overloaded": "overload",
    "key revoked (leaked)": "auth",
    "project denied": "auth",
    "billing/region precondition": "auth",
    "server": "overload",
    "timeout": "overload",
    "daily quota (no RetryInfo)": "funds",
    "mid-stream overloaded, BREAKS SSE FRAMING (pretty-printed JSON, no data: prefix)": "overload",
    "list-wrapped error (OpenAI-compat and some streams)": "funds",
}


@pytest.mark.parametrize(
    "shape", [pytest.param(s, id=f"reconstructed-{s['classification']}") for s in not_recorded("google")]
)
def test_a_shape_of_the_collection_has_its_class(shape: dict[str, Any]) -> None:
    """The rebuilt answers kept beside the recordings."""
    expected = SHAPES[shape["classification"]]
    if not shape["stream"]:
        assert FAILURES.judge_refusal(shape["status"], {}, json.dumps(shape["body"]).encode()).cls.value == expected
        return
    body = shape["body"].encode()
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))], [CHUNK + body]):
        read = fold(read_streamed(GenerateCodec().events(), pieces))
        assert read.failure is not None
        assert read.failure.cls.value == expected


CHUNK = b'data: {"candidates":[{"content":{"parts":[{"text":"Hi"}]}}],"responseId":"r","modelVersion":"g"}\n\n'


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(b"data: " + envelope(503, "UNAVAILABLE") + b"\n\n", id="reconstructed-data"),
        pytest.param(b"data: [" + envelope(503, "UNAVAILABLE") + b"]\n\n", id="reconstructed-list"),
        pytest.param(
            json.dumps(json.loads(envelope(503, "UNAVAILABLE")), indent=2).encode() + b"\n", id="reconstructed-bare"
        ),
        pytest.param(b"data: {not json\n\n", id="reconstructed-malformed"),
    ],
)
def test_an_error_inside_a_stream_fails_the_answer(error: bytes) -> None:
    """After content too, in each framing that was seen; what follows does not count."""
    reader = GenerateCodec().events()

    read = fold(read_streamed(reader, [CHUNK + error + CHUNK]))

    assert read.text == "Hi"
    assert read.failure is not None
    assert read.failure.cls.value == ("network" if b"not json" in error else "overload")
    assert not reader.seen.complete


def finished(native: str, text: str = "", **more: str) -> bytes:
    parts = [{"text": text}] if text else []
    candidate = {"content": {"parts": parts}, "finishReason": native, "index": 0} | more
    usage = {"promptTokenCount": 3, "totalTokenCount": 3}
    return json.dumps({"candidates": [candidate], "usageMetadata": usage, "responseId": "r"}).encode()


@pytest.mark.parametrize(
    "native",
    [
        pytest.param(name, id=f"reconstructed-{name}")
        for name in ("SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION", "LANGUAGE", "OTHER")
    ],
)
def test_withheld_content_is_the_dialects_own_refusal(native: str) -> None:
    """Class policy inside a good answer: finished by the filter, marked refused, its usage kept."""
    seen, events = GenerateCodec().decode_whole(finished(native, finishMessage="Blocked."))
    read = fold(events)

    assert (read.finish, read.native, read.refusal) == ("content_filter", native, "Blocked.")
    assert seen.refused
    assert seen.failure is None
    assert seen.usage is not None
    assert seen.usage.input == 3


@pytest.mark.parametrize(
    "native",
    [
        pytest.param(name, id=f"reconstructed-{name}")
        for name in ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MISSING_THOUGHT_SIGNATURE")
    ],
)
def test_an_unusable_answer_is_bad_output(native: str) -> None:
    """The model's output cannot be used, and was paid for: its usage is kept."""
    seen, events = GenerateCodec().decode_whole(finished(native))
    failure = fold(events).failure

    assert failure is not None
    assert (failure.cls, failure.signal) == (FailureClass.BAD_OUTPUT, f"200 {native}")
    assert not failure.unbilled
    assert seen.usage is not None


def test_a_blocked_prompt_is_the_dialects_own_refusal() -> None:
    """reconstructed: no candidate at all, only the prompt's feedback."""
    body = b'{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":5}}'
    seen, events = GenerateCodec().decode_whole(body)
    read = fold(events)

    assert (read.finish, read.native) == ("content_filter", "PROHIBITED_CONTENT")
    assert "PROHIBITED_CONTENT" in read.refusal
    assert seen.refused
    assert seen.complete


JSON = json_values(st.integers())
KEYS = [
    "parts",
    "text",
    "functionCall",
    "name",
    "args",
    "partialArgs",
    "jsonPath",
    "groundingChunks",
    "groundingSupports",
    "segment",
    "groundingChunkIndices",
    "web",
    "@type",
    "details",
]
TREE = st.recursive(
    JSON | st.sampled_from(["$.a", "$.a[0]", "$[0]"]),
    lambda child: st.lists(child, max_size=3) | st.dictionaries(st.sampled_from(KEYS), child, max_size=4),
    max_leaves=10,
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "candidates": st.lists(
                    st.fixed_dictionaries(
                        {},
                        optional={
                            "content": st.fixed_dictionaries({"parts": st.lists(TREE, max_size=3)}) | TREE,
                            "groundingMetadata": TREE,
                            "finishReason": JSON,
                        },
                    ),
                    max_size=2,
                ),
                "error": TREE,
                "promptFeedback": TREE,
                "usageMetadata": TREE,
            },
        ),
        max_size=4,
    )
)
def test_no_chunk_breaks_the_reader(chunks: list[Any]) -> None:
    """Whatever the provider sends is an event or a failure, never an exception."""
    body = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    reader = GenerateCodec().events()

    read_streamed(reader, [body])

    assert reader.seen.ended
    assert reader.seen.complete or reader.seen.failure is not None
