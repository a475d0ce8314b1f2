"""What a request can hide: a bill above its hold, a field that is lost on the way, a body that crashes its reader."""

import contextlib
import json
from typing import Any

import pytest

from ownkey.dialects.anthropic_messages import AnthropicDialect
from ownkey.dialects.openai_chat import OpenAICall, OpenAIDialect
from ownkey.domain.conversation import Untranslatable
from ownkey.domain.wire import BadRequest, Edits
from ownkey.providers.anthropic import encode as anthropic
from ownkey.providers.google import encode as google
from ownkey.providers.openai_requests import encode_chat as encode_openai

HI = [{"role": "user", "content": "hi"}]
CLAUDE, GEMINI = "claude-sonnet-4-5", "gemini-2.5-flash"
TOOL = {"type": "function", "function": {"name": "f"}}


def chat(**fields: Any) -> OpenAICall:
    return OpenAIDialect().decode("chat", json.dumps({"model": "m", "messages": HI, **fields}).encode())


def said(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [part]}]


# --- the bound


@pytest.mark.parametrize("name", ["web_search_options", "moderation", "image_config"])
def test_an_empty_object_switches_a_service_on(name: str) -> None:
    """`"web_search_options": {}` is how OpenAI's own examples search."""
    assert chat(**{name: {}}).shape.unboundable == (name,)
    assert chat(**{name: None}).shape.unboundable == ()


BREAKPOINT = {"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}


def test_a_part_may_ask_for_a_cache_lifetime_without_a_listed_price() -> None:
    """In chat and in responses, whatever holds the part."""
    item = {"role": "user", "content": [{**BREAKPOINT, "type": "input_text"}]}
    responses = OpenAIDialect().decode("responses", json.dumps({"model": "m", "input": [item]}).encode())

    assert chat(messages=said(BREAKPOINT)).shape.unboundable == ("prompt_cache_breakpoint.ttl",)
    assert responses.shape.unboundable == ("prompt_cache_breakpoint.ttl",)


@pytest.mark.parametrize("ttl", [None, "30m"])
def test_the_standard_cache_lifetime_has_a_price(ttl: str | None) -> None:
    part = {**BREAKPOINT, "prompt_cache_breakpoint": {"mode": "explicit", "ttl": ttl}}

    assert chat(messages=said(part)).shape.unboundable == ()


def test_an_escaped_key_hides_no_cache_lifetime() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"prompt_cache_options":{"\\u0074tl":"12h"}}'

    assert OpenAIDialect().decode("chat", body).shape.unboundable == ("prompt_cache_options.ttl",)


@pytest.mark.parametrize("kind", ["application/pdf", "video/mp4"])
def test_what_only_calls_itself_an_image_is_held_as_what_it_is(kind: str) -> None:
    part = {"type": "image_url", "image_url": {"url": f"data:{kind};base64,AAAA"}}

    assert chat(messages=said(part)).shape.beyond_text == ("image_url",)


@pytest.mark.parametrize("price", ["1_0", "0_0", "-1", -1, " 1", "+1", "1e-999", "Infinity", "", [], "١"])
def test_a_price_ceiling_that_readers_take_differently_is_none(price: Any) -> None:
    """Ours takes its place: what OpenRouter makes of these digits is not ours to guess."""
    body = chat(provider={"max_price": {"prompt": price}}).native_body(Edits("m", max_price={"prompt": "20"}))

    assert json.loads(body)["provider"]["max_price"] == {"prompt": "20"}


@pytest.mark.parametrize("price", ["1.5", 1.5, 0, "0", 2e-6, "3E-7", 19.999999])
def test_a_lower_price_ceiling_stays_as_it_is_written(price: Any) -> None:
    call = chat(provider={"max_price": {"prompt": price}})

    assert call.native_body(Edits("m", max_price={"prompt": "20"})) == call.body


def test_the_limit_is_never_set_under_its_older_name() -> None:
    """Models that reason refuse `max_tokens`, which was only there as null."""
    body = json.loads(chat(max_tokens=None).native_body(Edits("m", output_limit=9)))

    assert (body["max_tokens"], body["max_completion_tokens"]) == (None, 9)


# --- crashes


def test_a_thinking_field_named_twice_is_refused_at_the_door() -> None:
    """Not later, when the budget is to be lowered under a hold."""
    body = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"thinking":{"type":"a","type":"b"}}'
    with pytest.raises(BadRequest, match="twice"):
        AnthropicDialect().decode("messages", body)


@pytest.mark.parametrize("odd", [{"format": [1]}, {"format": {}}, {"required": 5}, {"required": [{}]}])
def test_a_schema_of_odd_types_is_no_error_of_ours(odd: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", **odd}}, "required": ["a"],
              "additionalProperties": False}  # fmt: skip
    if "required" in odd:
        schema |= odd
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}}
    request = chat(response_format=wanted).neutral_chat()
    for encode, model in ((encode_openai, "gpt-4o"), (anthropic.encode_chat, CLAUDE), (google.encode_chat, GEMINI)):
        with contextlib.suppress(Untranslatable):
            encode(model, request, 100)


# --- what would be lost


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"messages": [*HI, {"role": "assistant", "content": "y", "prefix": True}, *HI]}, "messages[].prefix"),
        ({"messages": said({"type": "text", "text": "x", "voice": "low"})}, "messages[].content[].voice"),
        ({"messages": said({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "crop": [1]}})},
         "messages[].content[].image_url.crop"),
        ({"tools": [{**TOOL, "lazy": True}]}, "tools[].lazy"),
        ({"tools": [{"type": "function", "function": {"name": "f", "examples": ["x"]}}]}, "tools[].function.examples"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    ],
)
def test_a_field_that_nobody_reads_is_refused_by_name(fields: dict[str, Any], name: str) -> None:
    request = chat(**fields).neutral_chat()
    for encode, model in ((anthropic.encode_chat, CLAUDE), (google.encode_chat, GEMINI)):
        with pytest.raises(Untranslatable) as refused:
            encode(model, request, 100)
        assert refused.value.what == name


def test_what_clients_send_back_unasked_is_no_obstacle() -> None:
    """The official SDK's own dump of a message, and a streamed call's index."""
    call = {"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"}}
    echoed = {"role": "assistant", "content": None, "refusal": None, "annotations": [], "audio": None,
              "function_call": None, "tool_calls": [call]}  # fmt: skip
    result = {"role": "tool", "tool_call_id": "c", "content": "ok"}
    request = chat(messages=[*HI, echoed, result], tools=[TOOL]).neutral_chat()

    assert request.rest == {}
    assert json.loads(anthropic.encode_chat(CLAUDE, request, 100))["messages"][1]["content"][0]["type"] == "tool_use"


def test_hints_of_a_message_are_named() -> None:
    cited = {"role": "assistant", "content": "y", "annotations": [{"type": "url_citation"}]}
    request = chat(messages=[*said({**BREAKPOINT}), cited, *HI]).neutral_chat()
    named = {"messages[].annotations", "messages[].content[].prompt_cache_breakpoint"}

    assert named <= set(anthropic.dropped_hints(request))
    assert named <= set(google.dropped_hints(request))


def test_gemini_is_told_no_file_names_and_the_receipt_says_so() -> None:
    part = {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}}

    assert "messages[].content[].file.filename" in google.dropped_hints(chat(messages=said(part)).neutral_chat())


def test_the_description_of_a_format_reaches_the_model() -> None:
    """OpenAI tells it to the model; so does a schema's own description elsewhere."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"],
              "additionalProperties": False}  # fmt: skip
    described = {"name": "n", "schema": schema, "description": "in metres"}
    request = chat(response_format={"type": "json_schema", "json_schema": described}).neutral_chat()

    for body in (anthropic.encode_chat(CLAUDE, request, 100), google.encode_chat(GEMINI, request, 100)):
        assert b'"description":"in metres"' in body


def test_two_descriptions_of_a_format_do_not_fit_into_one() -> None:
    described = {"name": "n", "schema": {"type": "object", "description": "mine"}, "description": "in metres"}
    request = chat(response_format={"type": "json_schema", "json_schema": described}).neutral_chat()
    with pytest.raises(Untranslatable) as refused:
        google.encode_chat(GEMINI, request, 100)

    assert refused.value.what == "response_format.json_schema.description"


def test_a_result_has_the_name_of_the_call_before_it() -> None:
    """Some clients count their calls anew in each turn."""
    turns = []
    for name in ("f", "g"):
        call = {"id": "call_0", "type": "function", "function": {"name": name, "arguments": "{}"}}
        turns += [{"role": "assistant", "content": None, "tool_calls": [call]},
                  {"role": "tool", "tool_call_id": "call_0", "content": name}]  # fmt: skip
    body = json.loads(google.encode_chat(GEMINI, chat(messages=[*HI, *turns], tools=[TOOL]).neutral_chat(), 100))
    results = [part["functionResponse"] for turn in body["contents"] for part in turn["parts"]
               if "functionResponse" in part]  # fmt: skip

    assert [(result["name"], result["response"]["output"]) for result in results] == [("f", "f"), ("g", "g")]
