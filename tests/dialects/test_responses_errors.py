"""A Responses stream that fails after it began ends so that no reader takes it for an answer."""

import json
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
from openrouter import OpenRouter
from openrouter.components import ErrorEvent, StreamEventsResponseFailed

from ownkey.dialects.openai_chat import OpenAIDialect, OpenRouterDialect
from ownkey.domain.failures import FailureClass
from ownkey.domain.wire import ErrorFields, Seen
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openrouter import OpenRouterProvider

ERROR = ErrorFields(
    status=503, code="provider_unavailable", message="The stream broke off.", fix="Try again.", fix_url=None,
    receipt="rcp_1", retry_after_s=3, details={"attempts": []},
)
CALL: Any = SimpleNamespace(endpoint="responses")
DIALECTS = {"openai": OpenAIDialect(), "openrouter": OpenRouterDialect()}
BEGUN: Any = [
    {"type": "response.created", "sequence_number": 0, "response": {
        "id": "resp_9", "object": "response", "model": "gpt-4.1", "status": "in_progress", "output": [],
        "created_at": 1, "error": None, "incomplete_details": None, "instructions": None, "metadata": {},
        "parallel_tool_calls": True, "temperature": 1, "tool_choice": "auto", "tools": [], "top_p": 1,
        "completed_at": None, "frequency_penalty": 0, "presence_penalty": 0,
    }},
    {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": {
        "id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}},
    {"type": "response.content_part.added", "sequence_number": 2, "output_index": 0, "content_index": 0,
     "item_id": "msg_1", "part": {"type": "output_text", "text": "", "annotations": []}},
    {"type": "response.output_text.delta", "sequence_number": 3, "output_index": 0, "content_index": 0,
     "item_id": "msg_1", "delta": "Once", "logprobs": []},
]


def frames(name: str) -> bytes:
    """The beginning of an answer in the dialect's frames, and our end of it."""
    begun = b""
    for event in BEGUN:
        begun += (f"event: {event['type']}\n" if name == "openai" else "").encode()
        begun += b"data: " + json.dumps(event).encode() + b"\n\n"
    return begun + DIALECTS[name].encode_stream_error(ERROR, CALL, seen_of(name, begun))


def seen_of(name: str, body: bytes) -> Seen:
    provider: Any = OpenAIProvider() if name == "openai" else OpenRouterProvider()
    reader = provider.codec(name, "responses")[0].passthrough(None)
    reader.feed(body)
    return reader.seen  # type: ignore[no-any-return]


def told(body: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: ")]


def serve(body: bytes) -> httpx.MockTransport:
    return httpx.MockTransport(
        lambda request: httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    )


def client(body: bytes, **more: Any) -> openai.OpenAI:
    return openai.OpenAI(
        api_key="x", base_url="http://test.invalid/v1", http_client=httpx.Client(transport=serve(body)), **more
    )


@pytest.mark.parametrize("name", DIALECTS)
def test_the_end_goes_on_from_what_the_caller_got(name: str) -> None:
    """Numbers, id and model continue; code, sentence, fix and receipt are in both events; there is no terminator."""
    error, failed = told(frames(name))[-2:]

    assert (error["type"], error["sequence_number"]) == ("error", 4)
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", 5)
    assert (error["code"], error["message"], error["param"]) == (ERROR.code, ERROR.message, None)
    response = failed["response"]
    assert (response["id"], response["model"], response["status"]) == ("resp_9", "gpt-4.1", "failed")
    for inside in (error["error"], response["error"]):
        assert inside["message"] == ERROR.message
        assert inside["fix"] == {"text": "Try again.", "url": None}
        assert inside["receipt"] == "rcp_1"
        assert inside["retry_after"] == 3
    assert response["error"]["code"] == ERROR.code
    assert b"[DONE]" not in frames(name)
    assert b"response.completed" not in frames(name)
    assert (b"event: response.failed\n" in frames(name)) == (name == "openai")


def test_each_envelope_is_its_dialects() -> None:
    """OpenRouter's code is the status, ours is beside it."""
    assert told(frames("openai"))[-2]["error"]["code"] == ERROR.code
    inside = told(frames("openrouter"))[-2]["error"]
    assert (inside["code"], inside["metadata"]["ownkey_code"]) == (503, ERROR.code)


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("helper", [False, True], ids=["create", "stream"])
def test_the_openai_sdk_raises(name: str, helper: bool) -> None:
    """Its plain stream and its helper give what came, then raise with our code; neither returns an answer."""
    sdk = client(frames(name))
    seen: list[str] = []

    def read() -> None:
        if helper:
            with sdk.responses.stream(model="m", input="x") as stream:
                seen.extend(event.type for event in stream)
        else:
            seen.extend(event.type for event in sdk.responses.create(model="m", input="x", stream=True))

    with pytest.raises(openai.APIError, match="broke off") as info:
        read()

    assert "response.output_text.delta" in seen
    assert "response.completed" not in seen
    assert isinstance(info.value.body, dict)
    assert info.value.body["receipt"] == "rcp_1"


@pytest.mark.parametrize("name", DIALECTS)
def test_the_openrouter_sdk_reads_both_events(name: str) -> None:
    """It parses them as its own types: an error, and a response that failed."""
    sdk = OpenRouter(
        api_key="x", server_url="http://test.invalid/api/v1", client=httpx.Client(transport=serve(frames(name))),
        retry_config=None,
    )
    events: list[Any] = list(sdk.responses.send(model="m", input="x", stream=True))

    error, failed = events[-2:]
    assert isinstance(error, ErrorEvent)
    assert (error.code, error.message, error.sequence_number) == (ERROR.code, ERROR.message, 4)
    assert isinstance(failed, StreamEventsResponseFailed)
    assert failed.response.status == "failed"
    assert failed.response.error is not None
    assert failed.response.error.code == ERROR.code


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("seen", [None, Seen()], ids=["nothing", "no event"])
def test_an_error_before_anything_came(name: str, seen: Seen | None) -> None:
    """After a keep-alive alone the events are the first ones, and the receipt is their id."""
    body = DIALECTS[name].encode_stream_error(ERROR, CALL, seen)
    error, failed = told(body)

    assert (error["sequence_number"], failed["sequence_number"]) == (0, 1)
    assert failed["response"]["id"] == "rcp_1"
    with pytest.raises(openai.APIError, match="broke off"):
        list(client(body).responses.create(model="m", input="x", stream=True))


@pytest.mark.parametrize("name", DIALECTS)
def test_our_own_readers_call_it_a_failure(name: str) -> None:
    """One Ownkey behind another does not take it for an answer."""
    seen = seen_of(name, frames(name))

    assert seen.failure is not None
    assert seen.failure.cls is FailureClass.OVERLOAD
    assert not seen.complete


@pytest.mark.parametrize("name", DIALECTS)
def test_a_chats_error_is_a_chats(name: str) -> None:
    """The endpoint decides the form."""
    for call in (None, SimpleNamespace(endpoint="chat")):
        chunk = told(DIALECTS[name].encode_stream_error(ERROR, call, None))[0]
        assert chunk["choices"][0]["finish_reason"] == "error"
