"""Anthropic's callers at OpenAI: what each generation of models is asked, and what it is not."""

import base64
import json
from typing import Any

import pytest
from chat_parameters import QUESTION, SCHEMA, TOOL, ask

from ownkey.domain.conversation import (
    Document,
    Image,
    JsonFormat,
    Message,
    Text,
    Tool,
    ToolCall,
    Untranslatable,
)
from ownkey.providers.openai_requests import encode_chat
from ownkey.providers.openai_schema import strict_schema

PDF = Document("application/pdf", "JVBERi0=", "a.pdf")


def encode(request: Any, model: str = "gpt-4.1") -> dict[str, Any]:
    body: dict[str, Any] = json.loads(encode_chat(model, request, 500))
    return body


def refused(request: Any, model: str = "gpt-4.1") -> str:
    with pytest.raises(Untranslatable) as caught:
        encode_chat(model, request, 500)
    return caught.value.what


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        ("gpt-4.1", "none", None), ("gpt-4.1", None, None), ("o3", "high", "high"), ("o4-mini", "minimal", "low"),
        ("gpt-5", "minimal", "minimal"), ("gpt-5-mini-2025-08-07", "low", "low"), ("gpt-5.1", "none", "none"),
        ("gpt-5.2", "xhigh", "xhigh"), ("gpt-5.6", "max", "max"), ("my-own", "max", "max"),
    ],
)  # fmt: skip
def test_effort_is_asked_in_the_models_own_words(model: str, effort: str | None, sent: str | None) -> None:
    assert encode(ask(reasoning_effort=effort), model).get("reasoning_effort") == sent


@pytest.mark.parametrize(
    ("model", "effort"),
    [
        ("gpt-4o", "low"), ("o3", "none"), ("gpt-5", "none"), ("gpt-5", "xhigh"), ("gpt-5.1", "xhigh"),
        ("gpt-5.2", "max"),
    ],
)  # fmt: skip
def test_an_effort_that_the_model_has_not_is_no_other_effort(model: str, effort: str) -> None:
    assert refused(ask(reasoning_effort=effort), model) == "reasoning_effort"


def test_a_budget_of_tokens_is_refused_and_none_at_all_is_not() -> None:
    """OpenAI has efforts only; a number of tokens would be a bound that nobody keeps."""
    assert refused(ask(reasoning_max_tokens=2_000), "gpt-5") == "reasoning.max_tokens"
    assert refused(ask(reasoning_max_tokens=2_000, reasoning_effort="low"), "gpt-5.1") == "reasoning.max_tokens"
    assert encode(ask(reasoning_max_tokens=0), "gpt-5.1")["reasoning_effort"] == "none"


@pytest.mark.parametrize(
    "fields", [{"temperature": 0.2}, {"top_p": 0.9}, {"stop": ("END",)}], ids=["temperature", "top_p", "stop"]
)
def test_sampling_only_where_the_model_does_not_reason(fields: dict[str, Any]) -> None:
    """A reasoning model answers 400, which ends the call: OpenRouter is asked instead."""
    name = next(iter(fields))
    for model in ("gpt-4.1", "gpt-4o-mini", "gpt-5-chat-latest", "gpt-5.1", "gpt-5.4"):
        assert name in encode(ask(**fields), model)
    for model in ("o3", "gpt-5", "gpt-5-nano", "gpt-5.5", "gpt-6"):
        assert refused(ask(**fields), model) == name
    assert refused(ask(**fields, reasoning_effort="low"), "gpt-5.1") == name
    assert name in encode(ask(**fields, reasoning_effort="none"), "gpt-5.5")


def test_values_that_ask_for_nothing_are_left_out() -> None:
    body = encode(ask(temperature=1, top_p=1, top_k=0), "gpt-5")

    assert not {"temperature", "top_p", "top_k"} & set(body)
    assert refused(ask(top_k=4)) == "top_k"
    assert refused(ask(stop=("a", "b", "c", "d", "e"))) == "stop"


def test_newer_models_take_tools_only_while_they_do_not_reason() -> None:
    """Their chat completions refuse functions together with reasoning, their default included."""
    tools = {"tools": (TOOL,)}
    for model, effort in (("gpt-5.2", "low"), ("gpt-5.4", "high"), ("gpt-5.5", None), ("gpt-5.6", "low")):
        assert refused(ask(**tools, reasoning_effort=effort), model) == "tools"
    for model, effort in (("gpt-5", "high"), ("gpt-5.1", "low"), ("gpt-5.4", None), ("gpt-5.6", "none"), ("o3", "low")):
        assert encode(ask(**tools, reasoning_effort=effort), model)["tools"]


def test_one_call_at_a_time() -> None:
    single = ask(tools=(TOOL,), parallel_tool_calls=False)

    assert encode(single)["parallel_tool_calls"] is False
    assert refused(single, "o3") == "parallel_tool_calls"
    assert "parallel_tool_calls" not in encode(ask(tools=(TOOL,), parallel_tool_calls=True), "o3")


def test_an_assistants_turn_is_not_continued() -> None:
    """Anthropic continues it; OpenAI would answer anew."""
    assert refused(ask(messages=(*QUESTION, Message("assistant", (Text("It is"),))))) == "messages"


def test_schemas_that_must_hold_are_strict_or_refused() -> None:
    """Optional keys, free keys and keywords that strict mode does not know."""
    body = encode(ask(json_format=JsonFormat(SCHEMA, "an answer!", True), tools=(Tool("f", None, SCHEMA, True),)))
    described = body["response_format"]["json_schema"]
    assert described == {"name": "answer", "schema": SCHEMA, "strict": True}
    assert body["tools"][0]["function"] == {"name": "f", "parameters": SCHEMA, "strict": True}
    for broken in (
        {**SCHEMA, "required": []}, {**SCHEMA, "additionalProperties": True}, {"type": "array", "items": SCHEMA},
        {**SCHEMA, "allOf": [{}]}, {**SCHEMA, "properties": {"city": {"type": "string", "minLength": 2}}},
        {**SCHEMA, "properties": {"city": {"type": "string", "format": "uri"}}},
        {**SCHEMA, "properties": {"city": {"type": "object"}}}, {**SCHEMA, "properties": {"city": True}},
    ):  # fmt: skip
        assert refused(ask(json_format=JsonFormat(broken, None, True))) == "response_format"
        assert refused(ask(tools=(Tool("f", None, broken, True),))) == "tools[].function.parameters"
        if broken["type"] == "object":
            assert encode(ask(tools=(Tool("f", None, broken),)))["tools"]
    nested = {
        "type": "object", "properties": {"a": {"anyOf": [{"$ref": "#/$defs/b"}, {"type": "null"}]}}, "required": ["a"],
        "additionalProperties": False, "$schema": "x", "$defs": {"b": {"type": "string", "examples": ["x"]}},
    }  # fmt: skip
    assert strict_schema(nested, "s") == {
        **{key: value for key, value in nested.items() if key != "$schema"}, "$defs": {"b": {"type": "string"}},
    }  # fmt: skip


def test_documents_pictures_and_their_limits() -> None:
    """A PDF is a file, a plain text its own words; what OpenAI does not read is refused by name."""
    note = Document("text/plain", base64.b64encode("é".encode()).decode(), "note.txt")
    body = encode(ask(messages=(Message("user", (PDF, note)),)))

    file = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}
    assert body["messages"][0]["content"] == [
        {"type": "file", "file": file}, {"type": "text", "text": "[note.txt]\né"},
    ]  # fmt: skip
    for part, what in (
        (Document("text/csv", "YQ=="), "messages[].content[].file"),
        (Document("text/plain", "%"), "messages[].content[].file"),
        (Image("image/heic", "YQ=="), "messages[].content[].image_url"),
    ):
        assert refused(ask(messages=(Message("user", (part,)),))) == what


def test_tool_results_are_text_and_a_failure_says_so() -> None:
    """The format has no flag for a failed tool, and no pictures in results."""
    long_id = "call_" + "x" * 60
    call = Message("assistant", tool_calls=(ToolCall(long_id, "get_weather", "{}"),))

    def with_result(*parts: Any, **fields: Any) -> Any:
        result = Message("tool", tuple(parts), tool_call_id=long_id, **fields)
        return ask(messages=(*QUESTION, call, result), tools=(TOOL,))

    messages = encode(with_result(Text("no such city"), is_error=True))["messages"]
    assert messages[2]["content"] == [
        {"type": "text", "text": "[tool error]\n"}, {"type": "text", "text": "no such city"},
    ]  # fmt: skip
    assert messages[2]["tool_call_id"] == messages[1]["tool_calls"][0]["id"]
    assert len(messages[2]["tool_call_id"]) <= 40
    assert encode(with_result())["messages"][2]["content"] == ""
    assert refused(with_result(Image("image/png", "YQ=="))) == "messages[].content"
    assert refused(with_result(PDF)) == "messages[].content"


def test_names_that_openai_does_not_accept() -> None:
    assert refused(ask(tools=(Tool("a" * 65, None, SCHEMA),))) == "tools[].function.name"
    assert refused(ask(tools=(Tool("a.b", None, SCHEMA),))) == "tools[].function.name"
