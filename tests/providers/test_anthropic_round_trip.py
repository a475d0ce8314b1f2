"""What Claude says comes back to it unchanged through a client that keeps nothing but messages: properties."""

import json
from typing import Any

from anthropic_google_wire import WORDS, fold, history_of, json_values, read_streamed
from chat_parameters import QUESTION, TOOL, ask
from hypothesis import given, settings
from hypothesis import strategies as st
from test_anthropic_requests import CODEC, encode

from ownkey.domain.conversation import Message, Text, ToolCall

IDS = st.from_regex(r"\Atoolu_[A-Za-z0-9_-]{1,20}\Z")
JSON = json_values(st.integers(-(2**53), 2**53))
THOUGHTS = st.lists(
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": st.text(max_size=20), "signature": WORDS})
    | st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": WORDS}),
    max_size=3,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.just("tool_use"),
            "id": IDS,
            "name": WORDS,
            "input": st.dictionaries(st.text(max_size=6), JSON, max_size=3),
        }
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda block: block["id"],
)


def as_stream(message: dict[str, Any], cuts: int) -> bytes:
    """The message as Anthropic would stream it, each text in `cuts` pieces."""
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message | {"content": [], "stop_reason": None}}
    ]
    for index, block in enumerate(message["content"]):
        empty = {key: "" if key in ("text", "thinking", "signature") else value for key, value in block.items()}
        if block["type"] == "tool_use":
            empty["input"] = {}
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        deltas: list[dict[str, Any]] = []
        for kind, key, text in (
            ("text_delta", "text", block.get("text", "")),
            ("thinking_delta", "thinking", block.get("thinking", "")),
            ("input_json_delta", "partial_json", json.dumps(block.get("input")) if "input" in block else ""),
        ):
            size = -(-len(text) // cuts) or 1
            deltas += [{"type": kind, key: text[at : at + size]} for at in range(0, len(text), size)]
        if block.get("signature"):
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}})
    events.append({"type": "message_stop"})
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


@settings(max_examples=150)
@given(THOUGHTS, st.lists(WORDS, max_size=1), CALLS, st.integers(1, 4))
def test_an_answer_comes_back_as_it_was(
    thoughts: list[dict[str, Any]], texts: list[str], calls: list[dict[str, Any]], cuts: int
) -> None:
    """Whole or streamed, through a client that keeps nothing but messages: the same blocks, ids, signatures."""
    content = [*thoughts, *({"type": "text", "text": text} for text in texts), *calls]
    message = {
        "type": "message",
        "id": "msg_1",
        "model": "claude",
        "content": content,
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    whole = CODEC.decode_whole(json.dumps(message).encode())[1]
    streamed = read_streamed(CODEC.events(), [as_stream(message, cuts)])

    for events in (whole, streamed):
        read = fold(events)
        assert read.finish == "tool_calls"
        request = ask(messages=tuple(history_of(read)), tools=(TOOL,))
        assert encode(request)["messages"][1]["content"] == content


@given(st.lists(WORDS, min_size=2, max_size=2, unique=True))
def test_foreign_tool_ids_stay_pairs(ids: list[str]) -> None:
    """An id that Anthropic refuses is replaced, the same way in the call and in its result."""
    calls = tuple(ToolCall(name, "f", "{}") for name in ids)
    results = tuple(Message("tool", (Text(name),), tool_call_id=name) for name in ids)
    body = encode(ask(messages=(*QUESTION, Message("assistant", tool_calls=calls), *results), tools=(TOOL,)))

    used = [block["id"] for block in body["messages"][1]["content"]]
    assert used == [block["tool_use_id"] for block in body["messages"][2]["content"]]
    assert len(set(used)) == 2
