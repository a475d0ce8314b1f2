"""Answers and errors as the official SDKs of OpenAI and OpenRouter read them."""

import base64
import json
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from openai import APIError, OpenAI
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openrouter.components import ChatResult, ChatStreamChunk

from ownkey.dialects.openai_answer import encode_embeddings
from ownkey.dialects.openai_chat import OpenAIDialect, OpenRouterDialect
from ownkey.domain.bounds import RequestShape
from ownkey.domain.conversation import (
    Annotations,
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReport,
)
from ownkey.domain.failures import Failure, FailureClass
from ownkey.domain.usage import Usage
from ownkey.domain.wire import EmbeddingsRequest, ErrorFields
from ownkey.providers.openai import OpenAIProvider

USAGE = Usage(input=5, cache_read=3, cache_write_5m=2, output=4, reasoning=6, cost_nusd=1_500, is_byok=False)
DETAIL = {"type": "reasoning.text", "text": "hm", "index": 0, "format": "anthropic-claude-v1"}
SIGNED = {"type": "reasoning.text", "signature": "sig", "index": 0, "format": "anthropic-claude-v1"}
CITED = {"type": "url_citation", "url_citation": {
    "url": "https://example.com", "title": "t", "start_index": 0, "end_index": 1}}
EVENTS: list[Event] = [
    Started("msg-1", "claude-x"),
    ReasoningDelta("hm", (DETAIL,)),
    ReasoningDelta("", (SIGNED,)),
    TextDelta("Hel"),
    TextDelta("lo"),
    Annotations((CITED,)),
    ToolCallStart(0, "c1", "f"),
    ToolCallDelta(0, '{"a":'),
    ToolCallStart(1, "c2", "g", signature="th"),
    ToolCallDelta(0, "1}"),
    UsageReport(USAGE),
    Finished(FinishReason.TOOL_CALLS, "tool_use"),
]


def encoder(dialect: str = "openai", usage: bool = True) -> Any:
    chosen = {"openai": OpenAIDialect(), "openrouter": OpenRouterDialect()}[dialect]
    call = SimpleNamespace(endpoint="chat", model="task:x", include_usage=usage)
    return chosen.encoder(call, 1_700_000_000, "call_1")


def stream(events: list[Event], **kwargs: Any) -> bytes:
    writer = encoder(**kwargs)
    return b"".join(writer.encode([event]) for event in events) + writer.end()


def chunks(data: bytes) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in data.decode().split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.mark.parametrize("dialect", ["openai", "openrouter"])
def test_every_chunk_is_one_that_the_sdks_know(dialect: str) -> None:
    """Strictly validated by both."""
    for chunk in chunks(stream(EVENTS, dialect=dialect)):
        ChatCompletionChunk.model_validate(chunk, strict=True)
        ChatStreamChunk.model_validate(chunk)


def test_a_stream_of_chunks() -> None:
    """Role first, fragments by index, finish, usage, each with the provider's id and model."""
    written = chunks(stream(EVENTS))
    deltas = [chunk["choices"][0]["delta"] for chunk in written if chunk["choices"]]

    assert deltas == [
        {"role": "assistant", "reasoning": "hm", "reasoning_details": [DETAIL]},
        {"reasoning_details": [SIGNED]},
        {"content": "Hel"},
        {"content": "lo"},
        {"annotations": [CITED]},
        {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
        {
            "tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "g", "arguments": ""}}],
            "reasoning_details": [{"type": "reasoning.encrypted", "data": "th", "id": "c2",
                                   "format": "google-gemini-v1", "index": 1}],
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
        {},
    ]
    assert {(chunk["id"], chunk["model"], chunk["created"]) for chunk in written} == {
        ("msg-1", "claude-x", 1_700_000_000)
    }
    assert written[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert written[-1]["choices"] == []
    assert all(chunk["usage"] is None for chunk in written[:-1])
    assert written[-1]["usage"] == {
        "prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 6, "audio_tokens": 0},
    }


def test_usage_only_where_it_was_asked_for() -> None:
    """Not even as null."""
    assert not any("usage" in chunk for chunk in chunks(stream(EVENTS, usage=False)))


def test_openrouters_stream_has_cost_and_native_finish() -> None:
    """As its own does."""
    written = chunks(stream(EVENTS, dialect="openrouter"))

    assert written[-2]["choices"][0]["native_finish_reason"] == "tool_use"
    assert written[-1]["usage"]["cost"] == 0.0000015
    assert written[-1]["usage"]["is_byok"] is False


def test_what_the_provider_does_not_name_is_named_by_us() -> None:
    """Id and model of the call; an answer without content still has its role."""
    written = chunks(stream([Started("", ""), Failed(Failure(FailureClass.NETWORK, "x")),
                             Finished(FinishReason.LENGTH, "max")]))

    assert [(chunk["id"], chunk["model"]) for chunk in written] == [("call_1", "task:x")]
    assert written[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


@pytest.mark.parametrize("dialect", ["openai", "openrouter"])
def test_a_whole_answer(dialect: str) -> None:
    """The same events as one body, which both SDKs accept."""
    body = json.loads(encoder(dialect).whole(EVENTS))
    ChatCompletion.model_validate(body, strict=True)
    if dialect == "openrouter":
        ChatResult.model_validate(body)

    message = body["choices"][0]["message"]
    assert message["content"] == "Hello"
    assert message["reasoning"] == "hm"
    assert message["reasoning_details"] == [
        DETAIL | {"signature": "sig"},
        {"type": "reasoning.encrypted", "data": "th", "id": "c2", "format": "google-gemini-v1", "index": 1},
    ]
    assert [(c["id"], c["function"]["arguments"]) for c in message["tool_calls"]] == [("c1", '{"a":1}'), ("c2", "")]
    assert message["annotations"] == [CITED]
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    assert body["usage"]["total_tokens"] == 20
    assert body["model"] == "claude-x"


def test_a_whole_refusal() -> None:
    """In the dialect's own field."""
    events = [
        Started("i", "m"), RefusalDelta("No"), RefusalDelta("."), Finished(FinishReason.CONTENT_FILTER, "refusal")]
    message = json.loads(encoder().whole(events))["choices"][0]["message"]

    assert (message["content"], message["refusal"]) == (None, "No.")


def test_written_and_read_again_is_the_same() -> None:
    """Encoder and reader are each other's inverse, usage included."""
    reader = OpenAIProvider().codec("anthropic", "messages")[0].events()  # type: ignore[index]
    events = [event for event in EVENTS if not (isinstance(event, ToolCallStart) and event.signature)]
    read = [*reader.feed(stream(events)), *reader.eof()]

    expected = [event for event in events if not isinstance(event, Finished | UsageReport)]
    usage = Usage(input=5, cache_read=3, cache_write_5m=2, output=4, reasoning=6)
    assert read == [*expected, Finished(FinishReason.TOOL_CALLS, "tool_calls"), UsageReport(usage)]


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(encoding: str) -> None:
    """Plain numbers, or little-endian float32 in base64, which is what the SDK asks for by default."""
    request = EmbeddingsRequest(("a", "b"), None, encoding, False)
    body = json.loads(encode_embeddings(request, "m", [[0.5, -1.0], [2.0, 0.25]], Usage(input=7)))
    CreateEmbeddingResponse.construct(**body)

    first = body["data"][0]["embedding"]
    if encoding == "base64":
        first = list(struct.unpack("<2f", base64.b64decode(first)))
    assert first == [0.5, -1.0]
    assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


ERROR = ErrorFields(
    status=402, code="ai_paused", message="Paused.", fix="Raise the cap.", fix_url="https://a.example/cap",
    receipt="call_1", retry_after_s=3, resets_at="2026-11-01T00:00:00Z", details={"attempts": [1], "code": "x"},
)


def test_openais_error_envelope() -> None:
    """Code, message, fix and receipt inside; details never hide them."""
    assert json.loads(OpenAIDialect().encode_error(ERROR)) == {"error": {
        "message": "Paused.", "type": "insufficient_quota", "param": None, "code": "ai_paused",
        "fix": {"text": "Raise the cap.", "url": "https://a.example/cap"}, "receipt": "call_1", "retry_after": 3,
        "resets_at": "2026-11-01T00:00:00Z", "attempts": [1],
    }}


def test_openrouters_error_envelope() -> None:
    """The integer status as code, ours in the metadata."""
    error = json.loads(OpenRouterDialect().encode_error(ERROR))["error"]

    assert error["code"] == 402
    assert error["metadata"] == {
        "attempts": [1], "code": "x", "error_type": "payment_required", "ownkey_code": "ai_paused",
    }
    assert (error["type"], error["fix"]["text"], error["receipt"]) == ("insufficient_quota", "Raise the cap.", "call_1")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (403, "permission_error"),
     (404, "invalid_request_error"), (429, "rate_limit_error"), (502, "server_error"),
     (503, "service_unavailable_error")],
)
def test_error_types(status: int, kind: str) -> None:
    """By status, in OpenAI's words."""
    error = ErrorFields(status, "c", "m", "f", None, None)

    assert json.loads(OpenAIDialect().encode_error(error))["error"]["type"] == kind


@pytest.mark.parametrize("dialect", [OpenAIDialect(), OpenRouterDialect()], ids=["openai", "openrouter"])
def test_a_stream_error_is_an_error_to_every_reader(dialect: Any) -> None:
    """The OpenAI SDK raises, OpenRouter's parses it, and our own reader calls it a failure."""
    frame = dialect.encode_stream_error(ERROR, None, None)
    reader = OpenAIProvider().codec("openai", "chat")[0].passthrough(  # type: ignore[index]
        SimpleNamespace(include_usage=True, shape=RequestShape(0))
    )

    assert list(reader.feed(frame)) == []
    assert reader.seen.failure is not None
    assert json.loads(frame[6:])["choices"][0]["finish_reason"] == "error"
    if dialect.name == "openrouter":
        assert ChatStreamChunk.model_validate(json.loads(frame[6:])).error.code == 402

    import httpx

    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, headers={"content-type": "text/event-stream"}, content=frame)
    )
    client = OpenAI(api_key="x", base_url="http://test.invalid/v1", http_client=httpx.Client(transport=transport))
    with pytest.raises(APIError, match="Paused"):
        list(client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True))
