"""What is asked of Anthropic: every parameter carried where it belongs, named as left behind, or refused."""

import base64
from functools import partial
from typing import Any

import msgspec
import pytest
from anthropic.types import message_create_params
from anthropic_google_wire import exhaust
from chat_parameters import QUESTION, RAW, SCHEMA, TOOL, TYPED, ask, assert_placed, openai_parameters, refusal
from pydantic import TypeAdapter

from ownkey.domain.conversation import (
    Audio,
    ChatRequest,
    Document,
    Image,
    JsonFormat,
    Message,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from ownkey.domain.exchange import Origin
from ownkey.domain.secret import Secret
from ownkey.providers.anthropic import AnthropicProvider
from ownkey.providers.anthropic.codec import MessagesCodec

CODEC = MessagesCodec()
SONNET = "claude-sonnet-4-5"
ADAPTIVE = "claude-opus-4-7"
PARAMS = TypeAdapter(message_create_params.MessageCreateParams)
# Accepted by the API for older models, no longer in the SDK's types.
BEYOND_THE_TYPES = {"temperature", "top_p", "top_k"}


def encode(request: ChatRequest, model: str = SONNET, limit: int = 4_000) -> dict[str, Any]:
    """The body, after the official SDK's types have accepted it."""
    body = msgspec.json.decode(CODEC.encode_chat(model, request, limit))
    known = set(message_create_params.MessageCreateParamsNonStreaming.__annotations__)
    known |= set(message_create_params.MessageCreateParamsBase.__annotations__)
    assert set(body) <= known | BEYOND_THE_TYPES
    exhaust(PARAMS.validate_python(body))
    assert isinstance(body, dict)
    return body


refused = partial(refusal, encode)
CARRIED: dict[str, dict[str, Any]] = {
    "max_completion_tokens": {"max_tokens": 4_000},
    "max_tokens": {"max_tokens": 4_000},
    "messages": {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is the weather?"}]}]},
    "model": {"model": SONNET},
    "stream": {"stream": True},
    "temperature": {"temperature": 0.3},
    "top_p": {"top_p": 0.5},
    "top_k": {"top_k": 7},
    "stop": {"stop_sequences": ["END"]},
    "tools": {"tools": [{"name": "get_weather", "description": "Weather of a city", "input_schema": SCHEMA}]},
    "tool_choice": {"tool_choice": {"type": "tool", "name": "get_weather"}},
    "parallel_tool_calls": {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    "response_format": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    "reasoning_effort": {"thinking": {"type": "enabled", "budget_tokens": 2_000}},
    "user": {"metadata": {"user_id": "user-1"}},
    "safety_identifier": {"metadata": {"user_id": "user-hash"}},
    "cache_control": {"cache_control": {"type": "ephemeral"}},
}
LEFT_BEHIND = {
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "session_id",
    "store",
    "trace",
    "usage",
}
DIALECT = {"stream_options"}


@pytest.mark.parametrize("name", sorted({*TYPED, *RAW}))
def test_no_parameter_is_dropped_silently(name: str) -> None:
    """Carried where it belongs, named by dropped_hints, or refused under the caller's own name for it."""
    assert_placed(name, CODEC, encode, CARRIED, LEFT_BEHIND, DIALECT)


def test_every_parameter_of_openais_document_is_tried() -> None:
    """A parameter that OpenAI adds must be placed."""
    assert openai_parameters() <= {*TYPED, *RAW}


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 1), ("logprobs", False), ("logit_bias", {}), ("presence_penalty", 0), ("modalities", ["text"])],
)
def test_a_value_that_asks_for_nothing_is_no_obstacle(name: str, value: Any) -> None:
    """Many clients send every default."""
    assert encode(ask(rest={name: value, "seed": None})) == encode(ask())


@pytest.mark.parametrize(("tier", "sent"), [("auto", "auto"), ("default", "standard_only")])
def test_service_tiers_are_mapped(tier: str, sent: str) -> None:
    """OpenAI's standard processing is Anthropic's."""
    assert encode(ask(rest={"service_tier": tier}))["service_tier"] == sent


def test_hints_that_do_not_fit_are_named() -> None:
    """One id of the end user is known; a name of a speaker and an image's detail have no place."""
    both = ask(rest={"user": "a", "safety_identifier": "b"})
    assert encode(both)["metadata"] == {"user_id": "b"}
    assert CODEC.dropped_hints(both) == ("user",)
    assert CODEC.dropped_hints(ask(rest={"user": "x" * 300})) == ("user",)
    image = Image(url="https://example.com/a.png", detail="low")
    named = ask(messages=(Message(role="user", parts=(image,), name="Ada"),))
    assert CODEC.dropped_hints(named) == ("messages[].name", "messages[].content[].image_url.detail")


def test_system_messages_lead_and_later_ones_stay_in_place() -> None:
    """Moved to the front, a later one would change what it refers to."""
    messages = (
        Message(role="system", parts=(Text("One."), Text("Two.", {"type": "ephemeral"}))),
        Message(role="system", parts=(Text("Three."),)),
        Message(role="user", parts=(Text("Hi"),)),
        Message(role="assistant", parts=(Text("Hello"),)),
        Message(role="system", parts=(Text("Be short."),)),
        Message(role="user", parts=(Text("Go on"),)),
    )

    body = encode(ask(messages=messages))

    assert body["system"] == [
        {"type": "text", "text": "One."},
        {"type": "text", "text": "Two.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Three."},
    ]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert [block["text"] for block in body["messages"][2]["content"]] == ["[system message]\nBe short.", "Go on"]


def test_a_conversation_of_system_messages_alone_asks_with_the_last() -> None:
    """Anthropic needs a user's turn."""
    body = encode(ask(messages=(Message("system", (Text("A"),)), Message("system", (Text("B"),)))))

    assert body["system"] == [{"type": "text", "text": "A"}]
    assert body["messages"][0]["content"] == [{"type": "text", "text": "[system message]\nB"}]


def test_parallel_results_come_first_in_one_user_turn() -> None:
    """Anthropic refuses results that are split over turns or follow other text."""
    calls = (ToolCall("call_1", "f", '{"a": 1}'), ToolCall("weird id:2", "g", ""))
    messages = (
        *QUESTION,
        Message(role="assistant", parts=(Text("Let me see"), Refusal("or not")), tool_calls=calls),
        Message(role="system", parts=(Text("hurry"),)),
        Message(role="tool", parts=(Text("one", {"type": "ephemeral"}),), tool_call_id="call_1"),
        Message(role="tool", tool_call_id="weird id:2"),
        Message(role="user", parts=(Text("And?"),)),
    )

    body = encode(ask(messages=messages, tools=(TOOL,)))

    assistant, results = body["messages"][1]["content"], body["messages"][2]["content"]
    assert [block["type"] for block in assistant] == ["text", "text", "tool_use", "tool_use"]
    assert [block.get("input") for block in assistant[2:]] == [{"a": 1}, {}]
    assert results[0] == {
        "type": "tool_result",
        "tool_use_id": "call_1",
        "cache_control": {"type": "ephemeral"},
        "content": [{"type": "text", "text": "one"}],
    }
    assert results[1] == {"type": "tool_result", "tool_use_id": assistant[3]["id"]}
    assert assistant[3]["id"].startswith("toolu_")
    assert [block["text"] for block in results[2:]] == ["[system message]\nhurry", "And?"]


def test_media_are_carried_inline_or_by_https() -> None:
    """PDF and text files become documents; what Anthropic cannot read is refused."""
    text = base64.b64encode("grüß".encode()).decode()
    parts = (
        Image(media_type="image/png", data="AAAA", cache_control={"type": "ephemeral"}),
        Image(url="https://example.com/a.png"),
        Document("application/pdf", "AAAA", "a.pdf"),
        Document("text/plain", text),
    )

    content = encode(ask(messages=(Message("user", parts),)))["messages"][0]["content"]

    assert content[0] == {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
        "cache_control": {"type": "ephemeral"},
    }
    assert content[1]["source"] == {"type": "url", "url": "https://example.com/a.png"}
    assert content[2]["source"]["media_type"] == "application/pdf"
    assert content[2]["title"] == "a.pdf"
    assert content[3]["source"] == {"type": "text", "media_type": "text/plain", "data": "grüß"}
    for part in (
        Image(url="http://example.com/a.png"),
        Image(media_type="image/bmp", data="AAAA"),
        Document("text/plain", "no base64!"),
        Document("application/zip", "AAAA"),
        Audio("wav", "AAAA"),
    ):
        assert refused(ask(messages=(Message("user", (part,)),))).startswith("messages[].content[].")


@pytest.mark.parametrize(
    ("choice", "single", "expected"),
    [
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("none"), False, {"type": "none"}),
        (None, True, None),
    ],
)
def test_tool_choices_are_mapped(choice: ToolChoice | None, single: bool | None, expected: Any) -> None:
    """Calls one at a time are asked for inside the choice."""
    body = encode(ask(tools=(TOOL,), tool_choice=choice, parallel_tool_calls=single))

    assert body.get("tool_choice") == expected


def test_a_strict_tool_keeps_its_constraints_or_is_refused() -> None:
    """A loose schema is guidance and goes as it is; a strict one must be enforced."""
    loose = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}}
    assert encode(ask(tools=(Tool("f", None, loose),)))["tools"] == [{"name": "f", "input_schema": loose}]
    assert refused(ask(tools=(Tool("f", None, loose, strict=True),))) == "tools[].function.parameters"
    strict = encode(ask(tools=(Tool("f", None, SCHEMA, strict=True),)))["tools"][0]
    assert (strict["strict"], strict["input_schema"]) == (True, SCHEMA)
    marked = Tool("f", None, SCHEMA, cache_control={"type": "ephemeral"})
    assert encode(ask(tools=(marked,)))["tools"][0]["cache_control"] == {"type": "ephemeral"}
    assert encode(ask(tools=(Tool("f", None, None, True),)))["tools"][0]["input_schema"]["type"] == "object"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 2},
        {"type": "integer", "minimum": 1},
        {"type": "array", "items": {"type": "string"}, "minItems": 2},
        {"oneOf": [{"type": "string"}, {"type": "null"}]},
        {"type": "object"},
        {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
        {"type": "string", "pattern": "^(?=a)b$"},
        {"type": "string", "format": "idn-email"},
        {"$ref": "https://example.com/schema"},
        {"$defs": {"node": {"type": "array", "items": {"$ref": "#/$defs/node"}}}, "$ref": "#/$defs/node"},
        {"type": "object", "properties": {"self": {"$ref": "#"}}, "additionalProperties": False},
        {"type": "array", "items": True},
    ],
)
def test_a_schema_is_never_loosened(schema: dict[str, Any]) -> None:
    """What Anthropic would not enforce is refused by name."""
    wrapped = {"type": "object", "properties": {"x": schema}, "additionalProperties": False}
    wrapped |= {key: schema[key] for key in ("$defs",) if key in schema}
    assert refused(ask(json_format=JsonFormat(wrapped))) == "response_format"


def test_an_open_object_that_names_its_keys_is_closed() -> None:
    """That narrows it: every answer still fits the caller's schema. Annotations go."""
    schema = {"$schema": "x", "type": "object", "properties": {"a": {"type": "string", "examples": ["b"]}}}

    sent = encode(ask(json_format=JsonFormat(schema)))["output_config"]["format"]["schema"]

    assert sent == {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("claude-sonnet-4-20250514", "low", {"thinking": {"type": "enabled", "budget_tokens": 1_024}}),
        (SONNET, "high", {"thinking": {"type": "enabled", "budget_tokens": 3_200}}),
        (SONNET, "none", {}),
        ("claude-sonnet-4-6", "minimal", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        (
            ADAPTIVE,
            "xhigh",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "xhigh"}},
        ),
        (ADAPTIVE, "none", {}),
        ("claude-opus-5", "none", {"thinking": {"type": "disabled"}}),
        ("claude-sonnet-5-5", "none", {"thinking": {"type": "between_tools"}}),
    ],
)
def test_effort_is_asked_for_as_the_model_takes_it(model: str, effort: str, expected: dict[str, Any]) -> None:
    """A budget for older generations, an effort for newer ones."""
    body = encode(ask(reasoning_effort=effort), model)

    assert {key: body[key] for key in ("thinking", "output_config") if key in body} == expected


def test_a_thinking_budget_is_carried_where_there_is_one() -> None:
    """Between Anthropic's minimum and the output limit, on models that know budgets."""
    assert encode(ask(reasoning_max_tokens=2_048))["thinking"] == {"type": "enabled", "budget_tokens": 2_048}
    assert "thinking" not in encode(ask(reasoning_max_tokens=0))
    both = encode(ask(reasoning_effort="none", json_format=JsonFormat(SCHEMA)), "claude-opus-4-6")
    assert "thinking" not in both
    combined = encode(ask(reasoning_effort="high", json_format=JsonFormat(SCHEMA)), "claude-opus-4-6")
    assert set(combined["output_config"]) == {"effort", "format"}


@pytest.mark.parametrize(
    ("what", "fields", "model", "limit"),
    [
        ("temperature", {"temperature": 1.2}, SONNET, 4_000),
        ("temperature", {"temperature": 0.3}, ADAPTIVE, 4_000),
        ("temperature", {"temperature": 0.3, "reasoning_effort": "low"}, SONNET, 8_000),
        ("top_p", {"top_p": 0.5, "reasoning_effort": "low"}, SONNET, 8_000),
        ("top_p", {"top_p": 0.5, "temperature": 0.3}, SONNET, 4_000),
        ("top_p", {"top_p": 0.5}, ADAPTIVE, 4_000),
        ("top_k", {"top_k": 5}, ADAPTIVE, 4_000),
        ("stop", {"stop": ("\n",)}, SONNET, 4_000),
        ("reasoning_effort", {"reasoning_effort": "low"}, "claude-3-5-haiku-20241022", 4_000),
        ("reasoning_effort", {"reasoning_effort": "low"}, SONNET, 1_024),
        ("reasoning_effort", {"reasoning_effort": "xhigh"}, "claude-opus-4-6", 4_000),
        ("reasoning_effort", {"reasoning_effort": "none"}, "claude-opus-5-5", 4_000),
        ("reasoning_effort", {"reasoning_effort": "heroic"}, SONNET, 4_000),
        ("reasoning.max_tokens", {"reasoning_max_tokens": 1_000}, SONNET, 4_000),
        ("reasoning.max_tokens", {"reasoning_max_tokens": 4_000}, SONNET, 4_000),
        ("reasoning.max_tokens", {"reasoning_max_tokens": 2_000}, ADAPTIVE, 4_000),
        ("reasoning", {"reasoning_max_tokens": 2_000, "reasoning_effort": "low"}, SONNET, 4_000),
        (
            "tool_choice",
            {"tools": (TOOL,), "tool_choice": ToolChoice("required"), "reasoning_effort": "low"},
            SONNET,
            8_000,
        ),
        ("response_format", {"json_format": JsonFormat()}, SONNET, 4_000),
        ("response_format", {"json_format": JsonFormat(SCHEMA)}, "claude-sonnet-4-0", 4_000),
        ("tools[].function.strict", {"tools": (Tool("f", None, SCHEMA, True),)}, "claude-3-opus", 4_000),
        ("tools[].function.parameters", {"tools": (Tool("f", None, {"type": "array"}),)}, SONNET, 4_000),
        ("messages", {"messages": ()}, SONNET, 4_000),
        ("messages", {"messages": (Message("user", (Text(""),)),)}, SONNET, 4_000),
        ("messages", {"messages": (Message("assistant", (Text("I"),)), *QUESTION)}, SONNET, 4_000),
        ("messages", {"messages": (*QUESTION, Message("assistant", (Text("It is"),)))}, ADAPTIVE, 4_000),
        ("messages", {"messages": (Message("system", (Image(url="https://e"),)), *QUESTION)}, SONNET, 4_000),
        ("tools", {"messages": (*QUESTION, Message("assistant", tool_calls=(ToolCall("a", "f", ""),)))}, SONNET, 4_000),
        ("cache_control", {"rest": {"cache_control": "yes"}}, SONNET, 4_000),
    ],
)
def test_what_anthropic_cannot_be_asked_is_refused_by_name(
    what: str, fields: dict[str, Any], model: str, limit: int
) -> None:
    """The direct route is skipped and the receipt can say why."""
    assert refused(ask(**fields), model, limit) == what


@pytest.mark.parametrize("arguments", ["{broken", "[1]", "1"])
def test_broken_arguments_of_a_past_call_are_refused(arguments: str) -> None:
    """They cannot be sent as the object that Anthropic demands."""
    call = ToolCall("a", "f", arguments)
    request = ask(messages=(*QUESTION, Message("assistant", tool_calls=(call,))), tools=(TOOL,))

    assert refused(request) == "messages[].tool_calls[].function.arguments"


def test_prefill_is_carried_where_the_model_continues_it() -> None:
    """Older models go on from the assistant's words."""
    body = encode(ask(messages=(*QUESTION, Message("assistant", (Text("It is"),)))))

    assert body["messages"][-1] == {"role": "assistant", "content": [{"type": "text", "text": "It is"}]}


@pytest.mark.parametrize(
    "detail",
    [
        {"type": "reasoning.text", "text": "hm"},
        {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "google-gemini-v1"},
        {"type": "reasoning.summary", "summary": "hm", "format": "anthropic-claude-v1"},
        {"type": "reasoning.encrypted", "format": "anthropic-claude-v1"},
    ],
)
def test_reasoning_that_cannot_be_verified_is_refused(detail: dict[str, Any]) -> None:
    """Lost signatures and other providers' thoughts skip the direct route."""
    answer = Message("assistant", (Text("It rains"),), reasoning_details=(detail,))

    assert refused(ask(messages=(*QUESTION, answer, *QUESTION))) == "messages[].reasoning_details"


def test_thinking_needs_the_thoughts_of_an_open_tool_turn() -> None:
    """With a budget, Anthropic refuses a tool turn that lost its first block."""
    call = Message("assistant", tool_calls=(ToolCall("a", "f", "{}"),))
    result = Message("tool", (Text("1"),), tool_call_id="a")
    thinking: dict[str, Any] = {"tools": (TOOL,), "reasoning_effort": "medium"}

    assert refused(ask(messages=(*QUESTION, call, result), **thinking)) == "messages[].reasoning_details"
    answered = (*QUESTION, call, result, Message("assistant", (Text("One"),)), *QUESTION)
    assert encode(ask(messages=answered, **thinking))["thinking"]["type"] == "enabled"


def test_the_request_carries_key_version_and_beta_in_headers() -> None:
    """The credential has its own header; no plaintext is in the request."""
    provider = AnthropicProvider()
    codec = provider.codec("openai", "chat")
    assert codec is not None
    assert (codec[0].wire, codec[1]) == ("anthropic.messages", "translated")
    assert provider.codec("openrouter", "chat") is not None
    speaks_messages = provider.codec("anthropic", "messages")
    assert speaks_messages is not None
    assert speaks_messages[1] == "passthrough"
    assert provider.codec("openai", "embeddings") is None
    assert provider.stops_billing(SONNET)
    origin = Origin("https", "api.anthropic.com", 443, "/v1")

    given = {"Anthropic-Beta": "x", "http-referer": "https://a.example", "x-openrouter-metadata": "enabled"}
    sent = provider.request(origin, codec[0], SONNET, b"{}", True, Secret("sk"), given)

    assert (sent.method, sent.path, sent.credential_header, sent.credential_prefix) == (
        "POST",
        "/messages",
        "x-api-key",
        "",
    )
    assert dict(sent.headers) == {
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "x",
        "content-type": "application/json",
        "accept": "text/event-stream",
    }
