"""Recorded answers, written as Messages, say the same to the official SDK; recorded requests stay as they are."""

import contextlib
import json
from typing import Any

import pytest
from tests.dialects.anthropic_sdk import parse, resend, streamed_bytes, whole_bytes
from tests.providers import openai_recordings
from tests.providers.anthropic_google_wire import (
    Exchange,
    Reading,
    exchanges,
    fold,
    history_of,
    params,
    read_exchange,
)

from ownkey.dialects.anthropic_answer import usage_fields
from ownkey.dialects.anthropic_messages import AnthropicDialect
from ownkey.domain.conversation import ChatRequest, Event, Tool, Untranslatable
from ownkey.domain.wire import Edits
from ownkey.providers.anthropic import AnthropicProvider
from ownkey.providers.anthropic.encode import encode_chat as to_anthropic
from ownkey.providers.google import GoogleProvider
from ownkey.providers.google.encode import encode_chat as to_google
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openai_requests import encode_chat as to_openai
from ownkey.providers.openrouter import OpenRouterProvider

ANTHROPIC: Any = AnthropicProvider().codec("anthropic", "messages")
GOOGLE: Any = GoogleProvider().codec("anthropic", "messages")
OPENAI: Any = {
    "openai": OpenAIProvider().codec("openai", "chat"), "openrouter": OpenRouterProvider().codec("openai", "chat"),
}
STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}

# One recorder kept only the content of some answers; others belong to other endpoints of the same provider.
NOT_MESSAGES = ("count_tokens", "test_anthropic_model_usage_limit_exceeded", "skills__", "spliced-message-start")
CLAUDES = [
    item for item in exchanges("anthropic")
    if item.status == 200 and not item.body.startswith(b"[{'") and not any(name in item.name for name in NOT_MESSAGES)
]
GEMINIS = [item for item in exchanges("google") if item.status == 200 and "mbed" not in item.url + item.name]
# A custom tool's arguments are no JSON; no caller of Messages can ask for one.
CHATS = [
    item for item in openai_recordings.exchanges()
    if item.endpoint == "chat" and item.status == 200 and "custom_tool" not in item.name
]
REQUESTS = [
    item for item in exchanges("anthropic")
    if isinstance(item.request, dict) and "messages" in item.url and item.status == 200
]
BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


def written(events: list[Event], streamed: bool) -> Any:
    return parse(streamed_bytes(events) if streamed else whole_bytes(events), streamed)


def content(message: Any) -> list[Any]:
    """What of a message has a neutral form, neighbouring texts joined: blocks of server tools are left out."""
    found: list[Any] = []
    for block in message.content:
        match block.type:
            case "text" if found and isinstance(found[-1], str):
                found[-1] += block.text
            case "text" if block.text:
                found.append(block.text)
            case "tool_use":
                found.append(("tool_use", block.id, block.name, block.input))
            case "thinking" if block.thinking or block.signature:
                found.append(("thinking", block.thinking, block.signature))
            case "redacted_thinking":
                found.append(("redacted_thinking", block.data))
    return found


def tool_calls(message: Any) -> list[tuple[str, str, Any]]:
    return [(block.id, block.name, block.input) for block in message.content if block.type == "tool_use"]


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def seal_free_thoughts(message: Any) -> str:
    return "".join(block.thinking for block in message.content if block.type == "thinking")


@pytest.mark.parametrize("item", params(CLAUDES))
@BOTH
def test_claudes_answers_say_the_same_when_written_again(item: Exchange, streamed: bool) -> None:
    """Text, calls, thoughts with their signatures, the stop and the usage, as the SDK read them before."""
    original: Any = parse(item.body, item.streamed)
    seen, events = read_exchange(ANTHROPIC[0], item)
    again = written(events, streamed)
    explained = original.stop_details.explanation if original.stop_details is not None else None

    assert content(again) == content(original) + ([explained] if explained else [])
    assert again.stop_reason == original.stop_reason
    assert (again.id, again.model) == (original.id, seen.model)
    assert seen.usage is not None
    for name, value in usage_fields(seen.usage).items():
        if isinstance(value, int):
            assert getattr(again.usage, name) == value
            if not seen.usage.others:
                assert value == (getattr(original.usage, name) or 0)


def assert_same(read: Reading, message: Any) -> None:
    assert text_of(message) == read.text + read.refusal
    assert seal_free_thoughts(message) == read.reasoning
    assert tool_calls(message) == [(call.id, call.name, json.loads(call.arguments or "{}")) for call in read.calls]
    stop = STOPS[str(read.finish)]
    if stop == "end_turn" and (read.refusal or read.calls):
        stop = "refusal" if read.refusal else "tool_use"
    assert message.stop_reason == stop
    if read.usage is not None:
        usage = message.usage
        counted = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
        assert (counted, usage.output_tokens) == (read.usage.total_input, read.usage.total_output)


@pytest.mark.parametrize("item", params(GEMINIS))
@BOTH
def test_geminis_answers_say_the_same_as_a_message(item: Exchange, streamed: bool) -> None:
    """Text, thoughts, calls and the stop; answers that failed have none of them."""
    seen, events = read_exchange(GOOGLE[0], item)
    if seen.failure is None:
        assert_same(fold(events), written(events, streamed))


@pytest.mark.parametrize("item", openai_recordings.params(CHATS))
@BOTH
def test_chat_answers_say_the_same_as_a_message(item: openai_recordings.Exchange, streamed: bool) -> None:
    """The first choice, which is all that a Message can hold."""
    codec = OPENAI[item.provider][0]
    if item.streamed:
        reader = codec.events()
        events = [*reader.feed(item.body), *reader.eof()]
        seen = reader.seen
    else:
        seen, events = codec.decode_whole(item.body)
    if seen.failure is None:
        assert_same(fold(events), written(list(events), streamed))


@pytest.mark.parametrize("item", params(GEMINIS))
@BOTH
def test_geminis_answers_go_back_to_gemini_as_through_the_chat_dialect(item: Exchange, streamed: bool) -> None:
    """Both dialects carry the same thought signatures to the same places."""
    seen, events = read_exchange(GOOGLE[0], item)
    read = fold(events)
    if seen.failure is not None or not (read.text or read.calls):
        return
    tools = tuple({call.name: Tool(call.name, None, {"type": "object"}) for call in read.calls}.values())
    expected = ChatRequest(messages=tuple(history_of(read)), tools=tools)
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": f"result {index}"}
        for index, call in enumerate(read.calls)
    ]
    body = {
        "model": "m", "max_tokens": 99,
        "tools": [{"name": tool.name, "input_schema": {"type": "object"}} for tool in tools],
        "messages": [
            {"role": "user", "content": "Question"},
            {"role": "assistant", "content": resend(written(events, streamed).content)},
            {"role": "user", "content": results or "go on"},
        ],
    }
    asked = AnthropicDialect().decode("messages", json.dumps(body).encode()).neutral_chat()
    sent = json.loads(to_google("gemini-2.5-flash", asked, 99))

    try:
        through_chat = json.loads(to_google("gemini-2.5-flash", expected, 99))
    except Untranslatable:
        assert not read.calls  # A history that ends with the model is refused: the question that follows is ours.
        through_chat = None
    signatures = [detail for detail in read.details if detail.get("data") or detail.get("signature")]
    model_turn = sent["contents"][1]["parts"]
    assert any("thoughtSignature" in part for part in model_turn) == bool(signatures)
    if through_chat is not None:
        assert model_turn == through_chat["contents"][1]["parts"]


@pytest.mark.parametrize("item", params(REQUESTS))
def test_requests_pass_through_as_they_are(item: Exchange) -> None:
    """Byte by byte, in two spellings; and every route that speaks another format takes or refuses them by name."""
    for body in (json.dumps(item.request), json.dumps(item.request, indent=2, ensure_ascii=False)):
        endpoint: Any = "count_tokens" if "count_tokens" in item.url else "messages"
        call = AnthropicDialect().decode(endpoint, body.encode())
        assert call.native_body(Edits(call.model)) == body.encode()
        assert call.stream is (item.request.get("stream") is True)
    request = call.neutral_chat()
    for encode, model in (
        (to_anthropic, "claude-sonnet-4-5"), (to_openai, "gpt-4.1-mini"), (to_google, "gemini-2.5-flash"),
    ):
        with contextlib.suppress(Untranslatable):
            assert json.loads(encode(model, request, 5_000))
