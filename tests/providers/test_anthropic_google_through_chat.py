"""A chat client that knows nothing of Anthropic or Google, and keeps nothing but its messages.

Recorded answers are written as chat completions, accumulated as clients of the chat dialect do it, sent back in
the next request, and must reach the provider as the blocks, calls and signatures that it sent.
"""

import json
from typing import Any

import msgspec
import pytest
from anthropic_google_wire import Exchange, data_events, exchanges, params, read_streamed
from openai.lib.streaming._deltas import accumulate_delta
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from ownkey.dialects.openai_chat import OpenAIDialect
from ownkey.providers.anthropic.codec import MessagesCodec
from ownkey.providers.google.codec import GenerateCodec

DIALECT = OpenAIDialect()
QUESTION = {"role": "user", "content": "Question"}
CODECS: dict[str, Any] = {"anthropic": MessagesCodec(), "google": GenerateCodec()}
MODELS = {"anthropic": "claude-sonnet-4-5", "google": "gemini-2.5-flash"}


def ask(messages: list[Any], tools: list[str]) -> Any:
    """A decoded call of the chat dialect."""
    described = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in tools]
    body = {"model": "m", "messages": messages} | ({"tools": described} if tools else {})
    return DIALECT.decode("chat", json.dumps(body).encode())


def streamed_message(codec: Any, body: bytes) -> dict[str, Any]:
    """What a client accumulates from our stream with the official SDK's own rule."""
    encoder = DIALECT.encoder(ask([QUESTION], []), 1, "chatcmpl-1")
    frames = encoder.encode(read_streamed(codec.events(), [body])) + encoder.end()
    message: dict[Any, Any] = {}
    for line in frames.decode().splitlines():
        if line.startswith("data: {"):
            ChatCompletionChunk.model_validate_json(line[6:])
            for choice in json.loads(line[6:])["choices"]:
                accumulate_delta(message, choice["delta"])
    for call in message.get("tool_calls", ()):
        del call["index"]
    return message


def whole_message(codec: Any, body: bytes) -> dict[str, Any]:
    """The message of our whole answer."""
    encoder = DIALECT.encoder(ask([QUESTION], []), 1, "chatcmpl-1")
    answer = encoder.whole(codec.decode_whole(body)[1])
    ChatCompletion.model_validate_json(answer)
    message: dict[str, Any] = json.loads(answer)["choices"][0]["message"]
    return message


def sent_back(provider: str, item: Exchange) -> list[dict[str, Any]]:
    """The provider's body for the next turn: its turns."""
    codec = CODECS[provider]
    message = streamed_message(codec, item.body) if item.streamed else whole_message(codec, item.body)
    calls = message.get("tool_calls") or []
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "1"} for call in calls]
    turns = [QUESTION, message, *(results or [QUESTION])]
    request = ask(turns, sorted({call["function"]["name"] for call in calls})).neutral_chat()
    body = msgspec.json.decode(codec.encode_chat(MODELS[provider], request, 4_000))
    return list(body.get("messages") or body["contents"])


def anthropic_answers() -> list[Exchange]:
    def blocks(item: Exchange) -> set[str]:
        events = data_events(item.body) if item.streamed else [json.loads(item.body)]
        found = [event.get("content_block") for event in events] if item.streamed else events[0].get("content", [])
        return {block["type"] for block in found if block}

    return [
        item
        for item in exchanges("anthropic")
        if item.status == 200
        and not item.body.startswith(b"[")
        and "spliced" not in item.name
        and blocks(item) & {"thinking", "redacted_thinking", "tool_use"}
    ]


@pytest.mark.parametrize("item", params(anthropic_answers()))
def test_claudes_blocks_come_back(item: Exchange) -> None:
    """Thoughts with their signatures, then calls with their ids and inputs."""
    turns = sent_back("anthropic", item)

    kept = ("thinking", "redacted_thinking", "tool_use")
    assert [block for block in turns[1]["content"] if block["type"] in kept] == original_blocks(item)


def original_blocks(item: Exchange) -> list[dict[str, Any]]:
    """The blocks as Anthropic sent them, put together here without the code under test; thoughts first."""
    blocks: dict[int, dict[str, Any]] = {}
    if item.streamed:
        for event in data_events(item.body):
            at = event.get("index")
            if event["type"] == "content_block_start":
                blocks[at] = dict(event["content_block"]) | {"json": ""}
            elif event["type"] == "content_block_delta":
                delta = event["delta"]
                for key, source in (("thinking", "thinking"), ("signature", "signature"), ("json", "partial_json")):
                    if source in delta:
                        blocks[at][key] = blocks[at].get(key, "") + delta[source]
    else:
        blocks = {at: dict(block) | {"json": ""} for at, block in enumerate(json.loads(item.body)["content"])}
    found = []
    for _, block in sorted(blocks.items()):
        match block["type"]:
            case "thinking":
                found.append({key: block[key] for key in ("type", "thinking", "signature")})
            case "redacted_thinking":
                found.append({key: block[key] for key in ("type", "data")})
            case "tool_use":
                given = json.loads(block["json"]) if block["json"] else block["input"]
                found.append({"type": "tool_use", "id": block["id"], "name": block["name"], "input": given})
    return sorted(found, key=lambda block: block["type"] == "tool_use")


def google_answers() -> list[Exchange]:
    return [
        item
        for item in exchanges("google")
        if item.status == 200
        and not any(name in item.name for name in ("interactions", "speech", "models", "embed"))
        and (b"thoughtSignature" in item.body or b'"functionCall"' in item.body)
    ]


@pytest.mark.parametrize("item", params(google_answers()))
def test_geminis_calls_and_signatures_come_back(item: Exchange) -> None:
    """Calls with names, arguments and signatures; the signature of a text; thoughts."""
    chunks = list(data_events(item.body)) if item.streamed else [json.loads(item.body)]
    parts = [part for chunk in chunks for part in chunk["candidates"][0].get("content", {}).get("parts", [])]
    turns = sent_back("google", item)
    sent = turns[1]["parts"]

    calls = [part for part in parts if part.get("functionCall", {}).get("name")]
    ours = [part for part in sent if "functionCall" in part]
    assert [part["functionCall"]["name"] for part in ours] == [part["functionCall"]["name"] for part in calls]
    if b"partialArgs" not in item.body:
        assert [part["functionCall"]["args"] for part in ours] == [
            part["functionCall"].get("args", {}) for part in calls
        ]
    assert [part.get("thoughtSignature") for part in ours] == [part.get("thoughtSignature") for part in calls]
    if not calls:
        signatures = [part["thoughtSignature"] for part in parts if "thoughtSignature" in part]
        assert [part["thoughtSignature"] for part in sent if "thoughtSignature" in part] == signatures
    thoughts = "".join(part["text"] for part in parts if part.get("thought"))
    assert "".join(part["text"] for part in sent if part.get("thought")) == thoughts
