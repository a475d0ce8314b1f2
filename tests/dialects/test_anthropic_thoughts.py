"""Thoughts of other makers travel through clients of Anthropic's SDK, and come back to their maker as they were."""

import json
from typing import Any

import pytest
from tests.dialects.anthropic_sdk import parse, resend, streamed_bytes, whole_bytes

from ownkey.dialects.anthropic_messages import AnthropicDialect, MessagesCall
from ownkey.dialects.anthropic_thoughts import CITATION_MARK, MARK, OPENROUTER_MARK, seal, unseal
from ownkey.domain.conversation import (
    Annotations,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Untranslatable,
)
from ownkey.domain.wire import BadRequest, Edits
from ownkey.providers.anthropic.encode import encode_chat as to_anthropic
from ownkey.providers.google.encode import encode_chat as to_google
from ownkey.providers.openai_requests import dropped_hints as openai_hints
from ownkey.providers.openai_requests import encode_chat as to_openai

GEMINI = "google-gemini-v1"
CLAUDE = "anthropic-claude-v1"
TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
DONE = Finished(FinishReason.TOOL_CALLS, "STOP")
BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])

# What the reader of Gemini's answers tells: a visible thought, a signed call, and a second one without a signature.
SIGNED_CALL: list[Event] = [
    Started("r", "gemini-3-pro"),
    ReasoningDelta("let me ", ({"type": "reasoning.text", "text": "let me ", "format": GEMINI, "index": 0},)),
    ReasoningDelta("see", ({"type": "reasoning.text", "text": "see", "format": GEMINI, "index": 0},)),
    ToolCallStart(0, "c0", "f", signature="SIG+/=="),
    ToolCallDelta(0, '{"a":1}'),
    ToolCallStart(1, "c1", "f"),
    ToolCallDelta(1, "{}"),
    DONE,
]
SIGNED_TEXT: list[Event] = [
    Started("r", "gemini-3-pro"),
    TextDelta("The answer."),
    ReasoningDelta("", ({"type": "reasoning.encrypted", "data": "TXT==", "format": GEMINI, "index": 0},)),
    Finished(FinishReason.STOP, "STOP"),
]
CLAUDES: list[Event] = [
    Started("m", "claude-x"),
    ReasoningDelta("hm", ({"type": "reasoning.text", "text": "hm", "format": CLAUDE, "index": 0},)),
    ReasoningDelta("", ({"type": "reasoning.text", "signature": "SIG", "format": CLAUDE, "index": 0},)),
    ReasoningDelta("", ({"type": "reasoning.encrypted", "data": "RED", "format": CLAUDE, "index": 1},)),
    ToolCallStart(0, "c0", "f"),
    ToolCallDelta(0, "{}"),
    DONE,
]


def returned(events: list[Event], streamed: bool) -> list[dict[str, Any]]:
    """An answer's content as the SDK, which appended it to its messages, sends it back."""
    body = streamed_bytes(events) if streamed else whole_bytes(events)
    return resend(parse(body, streamed).content)


def next_turn(blocks: list[dict[str, Any]], **fields: Any) -> MessagesCall:
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "r"}
        for block in blocks if block["type"] == "tool_use"
    ]
    body = {
        "model": "m", "max_tokens": 9_000, "tools": [TOOL], **fields, "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": blocks},
            {"role": "user", "content": results or "and now?"},
        ],
    }
    return AnthropicDialect().decode("messages", json.dumps(body).encode())


@BOTH
def test_geminis_thought_signatures_come_back_to_gemini(streamed: bool) -> None:
    """Of a tool call and of a text, byte by byte, at the part that they belong to."""
    called = json.loads(to_google("gemini-3-pro", next_turn(returned(SIGNED_CALL, streamed)).neutral_chat(), 99))
    thought, first, second = called["contents"][1]["parts"]
    said = json.loads(to_google("gemini-3-pro", next_turn(returned(SIGNED_TEXT, streamed)).neutral_chat(), 99))

    assert thought == {"text": "let me see", "thought": True}
    assert (first["functionCall"]["args"], first["thoughtSignature"]) == ({"a": 1}, "SIG+/==")
    assert "thoughtSignature" not in second
    assert said["contents"][1]["parts"] == [{"text": "The answer.", "thoughtSignature": "TXT=="}]


@BOTH
def test_a_lost_signature_is_refused_by_the_provider_that_needs_it(streamed: bool) -> None:
    """A client that drops the opaque block has lost it, and is told so."""
    kept = [block for block in returned(SIGNED_CALL, streamed) if block["type"] != "redacted_thinking"]

    with pytest.raises(Untranslatable):
        to_google("gemini-3-pro", next_turn(kept).neutral_chat(), 99)


@BOTH
def test_claudes_own_thoughts_stay_claudes_own(streamed: bool) -> None:
    """Native signatures and redacted blocks bear no mark, and go back as they came."""
    blocks = returned(CLAUDES, streamed)
    assert blocks[:2] == [
        {"type": "thinking", "thinking": "hm", "signature": "SIG"}, {"type": "redacted_thinking", "data": "RED"},
    ]
    call = next_turn(blocks)

    assert call.native_body(Edits("m")) == call.body
    assert call.left_out("m") == ()
    asked = call.neutral_chat()
    assert json.loads(to_anthropic("claude-haiku-4-5", asked, 9_000))["messages"][1]["content"][:2] == blocks[:2]


@BOTH
@pytest.mark.parametrize(
    ("encode", "model"), [(to_openai, "gpt-4.1-mini"), (to_google, "gemini-3-pro")], ids=["openai", "google"]
)
def test_claudes_thoughts_are_refused_elsewhere(encode: Any, model: str, streamed: bool) -> None:
    """Signed thoughts mean something to the model that thought them; the route is skipped and says why."""
    with pytest.raises(Untranslatable):
        encode(model, next_turn(returned(CLAUDES, streamed)).neutral_chat(), 99)


@BOTH
def test_thoughts_without_a_signature_are_no_obstacle_to_openai(streamed: bool) -> None:
    """Plain text of a thought is left behind, and named."""
    events: list[Event] = [ReasoningDelta("hm"), TextDelta("x"), Finished(FinishReason.STOP, "stop")]
    blocks = returned(events, streamed)
    asked = next_turn(blocks).neutral_chat()

    assert blocks[0]["thinking"] == "hm"
    assert json.loads(to_openai("gpt-4.1-mini", asked, 99))["messages"][1] == {"role": "assistant", "content": "x"}
    assert "messages[].reasoning" in openai_hints(asked)


@BOTH
@pytest.mark.parametrize("events", [SIGNED_CALL, SIGNED_TEXT], ids=["call", "text"])
def test_anthropic_never_sees_what_it_could_not_verify(events: list[Event], streamed: bool) -> None:
    """In a body that passes through, another maker's thoughts are taken out; all other bytes stay."""
    blocks = returned(events, streamed)
    call = next_turn(blocks)
    sent = json.loads(call.native_body(Edits("claude-x")))
    left = [block for block in blocks if block["type"] not in ("thinking", "redacted_thinking")]

    assert len(left) < len(blocks)
    assert call.left_out("claude-x") == ("messages[].content[].thinking",)
    assert sent["messages"][1]["content"] == left
    assert MARK.encode() not in call.native_body(Edits("claude-x"))
    assert sent["messages"][::2] == json.loads(call.body)["messages"][::2]


def test_an_unsigned_thought_of_ours_is_foreign_to_anthropic() -> None:
    """It would refuse a thought without its own signature."""
    blocks = returned([ReasoningDelta("hm"), TextDelta("x"), DONE], True)
    sent = json.loads(next_turn(blocks).native_body(Edits("claude-x")))

    assert sent["messages"][1]["content"] == [{"type": "text", "text": "x"}]


def test_a_message_of_foreign_thoughts_alone_is_left_out() -> None:
    """Nobody accepts a message without content."""
    blocks = returned([ReasoningDelta("hm"), Finished(FinishReason.LENGTH, "length")], True)
    sent = json.loads(next_turn(blocks).native_body(Edits("claude-x")))

    assert [message["role"] for message in sent["messages"]] == ["user", "user"]


def test_openrouter_gets_a_makers_thoughts_back_in_its_own_envelope() -> None:
    """Where the maker itself is asked through it; from another maker's model they are kept away."""
    blocks = returned(SIGNED_CALL, True)
    call = next_turn(blocks)
    to_maker = json.loads(call.native_body(Edits("google/gemini-3-pro")))["messages"][1]["content"]
    to_other = json.loads(call.native_body(Edits("openai/gpt-5")))["messages"][1]["content"]

    assert [block["type"] for block in to_maker] == ["redacted_thinking", "redacted_thinking", "tool_use", "tool_use"]
    assert call.left_out("google/gemini-3-pro") == ()
    details = [unseal(block["data"], "") for block in to_maker[:2]]
    assert all(block["data"].startswith(OPENROUTER_MARK) for block in to_maker[:2])
    assert details[0] == {"type": "reasoning.text", "text": "let me see", "format": GEMINI}
    assert details[1] is not None
    assert (details[1]["data"], details[1]["id"]) == ("SIG+/==", "c0")
    assert [block["type"] for block in to_other] == ["tool_use", "tool_use"]


def test_what_came_through_openrouter_goes_on_to_its_maker() -> None:
    """OpenRouter's envelope is understood on a direct route, kept for OpenRouter, and taken away from Anthropic."""
    detail = {"type": "reasoning.encrypted", "data": "SIG", "format": GEMINI, "id": "c0"}
    sealed = OPENROUTER_MARK + seal(detail).removeprefix(MARK)
    block = {"type": "redacted_thinking", "data": sealed}
    call = next_turn([block, {"type": "tool_use", "id": "c0", "name": "f", "input": {}}])
    parts = json.loads(to_google("gemini-3-pro", call.neutral_chat(), 99))["contents"][1]["parts"]

    assert parts[0]["thoughtSignature"] == "SIG"
    assert json.loads(call.native_body(Edits("google/gemini-3-pro")))["messages"][1]["content"][0] == block
    to_claude = json.loads(call.native_body(Edits("claude-x")))["messages"][1]["content"]
    assert [block["type"] for block in to_claude] == ["tool_use"]


@pytest.mark.parametrize("damage", [MARK, MARK + "!!", MARK + "bm8=", MARK + "W10=", "ownkey.reasoning.v9:e30="])
@pytest.mark.parametrize("kind", ["thinking", "redacted_thinking"])
def test_a_damaged_or_newer_mark_skips_the_route_by_place(kind: str, damage: str) -> None:
    """Silently dropped, it would be missed by the provider only, in words that nobody understands."""
    field = "signature" if kind == "thinking" else "data"
    block = {"type": kind, "thinking": "x", field: damage}
    call = next_turn([block, {"type": "text", "text": "x"}])

    for encode, model in ((to_openai, "gpt-4.1-mini"), (to_google, "gemini-2.5-flash")):
        with pytest.raises(Untranslatable) as refused:
            encode(model, call.neutral_chat(), 99)
        assert refused.value.what == f"messages[1].content[0].{field}"


def test_a_damaged_mark_is_no_obstacle_to_a_body_that_passes_through() -> None:
    """There it is left out, whole or damaged; and a message that could not be edited is refused at once."""
    call = next_turn([{"type": "redacted_thinking", "data": MARK + "!!"}, {"type": "text", "text": "x"}])
    for model in ("claude-x", "google/gemini-3-pro"):
        content = json.loads(call.native_body(Edits(model)))["messages"][1]["content"]
        assert content == [{"type": "text", "text": "x"}]

    twice = call.body.replace(b'"role": "assistant"', b'"role": "user", "role": "assistant"')
    with pytest.raises(BadRequest):
        AnthropicDialect().decode("messages", twice)


def test_our_citations_stay_here() -> None:
    """They say in Anthropic's shape what another provider cited; Anthropic would refuse them as its own."""
    cited = {"type": "url_citation", "url_citation": {"url": "https://e.com", "title": "t"}}
    blocks = returned([TextDelta("x"), Annotations((cited,)), Finished(FinishReason.STOP, "STOP")], True)
    call = next_turn(blocks)

    assert blocks[0]["citations"][0]["encrypted_index"] == CITATION_MARK
    assert call.left_out("claude-x") == ("messages[].content[].citations",)
    assert json.loads(call.native_body(Edits("claude-x")))["messages"][1]["content"] == [{"type": "text", "text": "x"}]
    assert call.neutral_chat().rest == {}


def test_white_space_and_order_stay_around_what_is_taken_out() -> None:
    """Other messages, and the other members of the message, keep their bytes."""
    ours = json.dumps({"type": "redacted_thinking", "data": seal({"type": "reasoning.encrypted", "data": "d"})})
    body = (
        '{"max_tokens" : 9,"messages":[{ "content": "q" ,"role":"user"},{"role":"assistant", "content": [ %s,'
        '{"text" : "x","type":"text"} ],"odd":1.0}, {"role":"user","content":"n"}], "model":"m" }'
    )
    sent = AnthropicDialect().decode("messages", (body % ours).encode()).native_body(Edits("m")).decode()

    assert sent == (
        '{"max_tokens" : 9,"messages":[{ "content": "q" ,"role":"user"},{"role":"assistant", "content": ['
        '{"text" : "x","type":"text"}],"odd":1.0},{"role":"user","content":"n"}], "model":"m" }'
    )
