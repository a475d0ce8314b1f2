"""Google's failures as recorded, and as they come inside answers and streams, told apart by id."""

import json
from typing import Any

import pytest
from anthropic_google_wire import Exchange, exchanges, fold, json_values, not_recorded, params, read_streamed
from hypothesis import given
from hypothesis import strategies as st

from ownkey.domain.conversation import Finished
from ownkey.domain.failures import FailureClass
from ownkey.providers.google import GoogleProvider
from ownkey.providers.google.codec import GenerateCodec

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


CHUNK = b'data: {"candidates":[{"content":{"parts":[{"text":"Hi"}]}}],"responseId":"r","modelVersion":"g"}\n\n'


@pytest.mark.parametrize(
    "shape", [pytest.param(s, id=f"reconstructed-{s['classification']}") for s in not_recorded("google") if s["stream"]]
)
def test_an_error_without_framing_is_found_at_every_split(shape: dict[str, Any]) -> None:
    """Pretty-printed JSON in a stream's place, whole, byte by byte and behind content."""
    body = shape["body"].encode()
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))], [CHUNK + body]):
        read = fold(read_streamed(GenerateCodec().events(), pieces))
        assert read.failure is not None
        assert read.failure.cls.value == "overload"


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
    assert seen.complete


def test_a_finish_reason_on_every_chunk_finishes_once() -> None:
    """reconstructed: the first one makes it whole, and what follows it still counts."""
    chunks = [finished("STOP", "Hel"), finished("STOP", "lo"), finished("MAX_TOKENS")]
    reader = GenerateCodec().events()
    body = b"".join(b"data: " + chunk + b"\n\n" for chunk in chunks[:2])
    events = read_streamed(reader, [body])

    assert (fold(events).text, fold(events).finish) == ("Hello", "stop")
    assert reader.seen.failure is None
    again = read_streamed(GenerateCodec().events(), [b"data: " + chunks[0] + b"\n\ndata: " + chunks[2] + b"\n\n"])
    assert [event.reason.value for event in again if isinstance(event, Finished)] == ["stop", "length"]


def test_a_limit_of_the_request_is_a_length() -> None:
    """reconstructed: the answer could go on in another request."""
    assert fold(GenerateCodec().decode_whole(finished("CONTINUATION", "x"))[1]).finish == "length"


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
