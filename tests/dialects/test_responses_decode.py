"""What a Responses body may hold, what it is refused for, what it points at, and what its greatest cost depends on."""

import functools
import json
import typing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from openai.types.responses.response_create_params import ResponseCreateParamsBase
from openrouter.components import ResponsesRequest

from ownkey.dialects import openai_fields as fields
from ownkey.dialects.openai_chat import OpenAIDialect, OpenRouterDialect
from ownkey.domain.bounds import RequestShape
from ownkey.domain.wire import BadRequest, Edits

OPENAI, OPENROUTER = OpenAIDialect(), OpenRouterDialect()
SPECS = Path(__file__).resolve().parents[2].parent / "shared" / "wire" / "specs"
PNG = "data:image/png;base64,iVBORw0KGgo="
KNOWN = fields.OPENAI_RESPONSES | fields.OPENROUTER_RESPONSES


def decode(dialect: OpenAIDialect = OPENAI, **more: Any) -> Any:
    body = {"model": "m", "input": "Hi"} | more
    return dialect.decode("responses", json.dumps({k: v for k, v in body.items() if v is not ...}).encode())


def shape(*items: Any, **more: Any) -> RequestShape:
    found: RequestShape = decode(**({"input": list(items)} if items else {}), **more).shape
    return found


def said(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


REFUSED: dict[str, tuple[dict[str, Any], str | None]] = {
    "no model": ({"model": ...}, "model"),
    "a model of another type": ({"model": 7}, "model"),
    "no input": ({"input": ...}, "input"),
    "null input": ({"input": None}, "input"),
    "an empty text": ({"input": ""}, "input"),
    "an empty list": ({"input": []}, "input"),
    "input of another type": ({"input": 7}, "input"),
    "an object as input": ({"input": {"role": "user"}}, "input"),
    "a list of texts": ({"input": ["Hi"]}, "input"),
    "background": ({"background": True}, "background"),
    "background of another type": ({"background": "yes"}, "background"),
    "stream": ({"stream": "yes"}, "stream"),
    "max_output_tokens": ({"max_output_tokens": 0}, "max_output_tokens"),
    "max_output_tokens as text": ({"max_output_tokens": "20"}, "max_output_tokens"),
    "text": ({"text": "json"}, "text"),
    "reasoning": ({"reasoning": "high"}, "reasoning"),
    "stream_options": ({"stream_options": []}, "stream_options"),
    "prompt": ({"prompt": "pmpt_1"}, "prompt"),
    "provider": ({"provider": "openai"}, "provider"),
    "a provider that names a field twice": ({"provider": {"max_price": 3}}, None),
    "tools": ({"tools": {"type": "function"}}, "tools"),
    "tools inside an item": ({"input": [{"type": "additional_tools", "tools": 3}]}, "input.tools"),
    "models": ({"models": "a"}, "models"),
    "service_tier": ({"service_tier": 3}, "service_tier"),
    "a base URL": ({"base_url": "http://elsewhere"}, "base_url"),
    "another key": ({"api_key": "k"}, "api_key"),
    "litellm": ({"litellm_metadata": {}}, "litellm_metadata"),
}


@pytest.mark.parametrize("dialect", [OPENAI, OPENROUTER], ids=["openai", "openrouter"])
@pytest.mark.parametrize("case", REFUSED)
def test_bad_bodies_are_refused_by_name(dialect: OpenAIDialect, case: str) -> None:
    """The sentence names the field, so does `param`."""
    more, param = REFUSED[case]
    with pytest.raises(BadRequest) as info:
        decode(dialect, **more)

    assert info.value.param == param
    if param is not None:
        assert f"`{param}`" in str(info.value)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'"text"', b'{"model":"m","input":"a","input":"b"}', b'{"model":"m","input":"\xff"}',
     b'{"model":"m","input":' + b"[" * 100 + b"]" * 100 + b"}"],
)
def test_what_is_no_body(body: bytes) -> None:
    """No JSON, no object, a field twice, no UTF-8, too deep: refused, never a crash."""
    with pytest.raises(BadRequest):
        OPENAI.decode("responses", body)


@pytest.mark.parametrize(
    "item",
    [
        {"role": "user", "content": [{"type": ["a"]}, 7, None, {"type": {"b": 1}}]},
        {"type": {"a": 1}, "content": 7},
        {"type": "function_call_output", "output": {"type": 3}},
        {},
        {"type": 7, "role": 8},
    ],
)
def test_odd_items_do_not_crash(item: Any) -> None:
    """What cannot be understood is beyond text at most; the provider says what is wrong with it."""
    assert isinstance(shape(item), RequestShape)


def test_a_stored_beginning_needs_no_input() -> None:
    """OpenAI asks for one of them at least."""
    for name, value in (("previous_response_id", "resp_1"), ("conversation", "conv_1"), ("prompt", {"id": "p"})):
        for given in (..., [], None):
            call = decode(input=given, **{name: value})
            assert call.stateful == (name,)
            assert name in call.shape.beyond_text


# --- state


@pytest.mark.parametrize(
    ("more", "stateful"),
    [
        ({}, ()),
        ({"previous_response_id": None, "conversation": None, "prompt": None}, ()),
        ({"previous_response_id": "resp_1"}, ("previous_response_id",)),
        ({"conversation": {"id": "conv_1"}}, ("conversation",)),
        ({"prompt": {"id": "pmpt_1"}}, ("prompt",)),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, ("item_reference",)),
        ({"input": [{"id": "msg_1"}]}, ("item_reference",)),
        ({"input": [{"type": "message", "role": "assistant", "id": "msg_1", "content": "a"}]}, ()),
        ({"input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gA"}]}, ()),
        ({"store": True}, ()),
    ],
)
def test_what_points_at_stored_things(more: dict[str, Any], stateful: tuple[str, ...]) -> None:
    """Only one provider has them; an item's own id is no reference."""
    assert decode(**more).stateful == stateful


# --- money


def test_text_alone_is_bounded() -> None:
    """Instructions, items and tools of a plain agent's turn are text, the call and its result among them."""
    tool = {"type": "function", "name": "f", "parameters": {}}
    call = decode(
        instructions="Be kind.", tools=[tool, {"type": "custom", "name": "g"}], store=False, include=["x"],
        reasoning={"effort": "low"}, text={"format": {"type": "text"}}, max_output_tokens=400,
        input=[
            said({"type": "input_text", "text": "Hi"}),
            {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "gAAAA"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "sunny"},
            {"type": "custom_tool_call_output", "call_id": "d", "output": [{"type": "input_text", "text": "a"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]},
            {"type": "shell_call_output", "call_id": "e", "output": [{"stdout": "a", "stderr": ""}]},
        ],
    )

    assert replace(call.shape, silent_bytes=0) == RequestShape(
        text_bytes=len(call.body), output_limit=400, cache_writes="none", beyond_text=(), unboundable=()
    )
    assert call.router_fields == call.translatable_fields == call.stateful == ()


def test_images_are_counted_where_they_are() -> None:
    """In messages, in what tools gave back and on screens; inline bytes are no text."""
    found = shape(
        said({"type": "input_image", "image_url": PNG}, {"type": "input_image", "file_id": "file_1"}),
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": PNG}]},
        {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": PNG}},
        said({"type": "input_image", "image_url": {"url": "https://a/b.png"}}),
    )

    assert (found.image_count, found.image_bytes, found.beyond_text) == (5, 3 * len(PNG), ())


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (said({"type": "input_file", "file_id": "file_1"}), "input_file"),
        (said({"type": "input_file", "file_data": "data:application/pdf;base64,AA=="}), "input_file"),
        (said({"type": "input_audio", "input_audio": {"data": "AA=="}}), "input_audio"),
        (said({"type": "input_video", "video_url": "https://a"}), "input_video"),
        ({"type": "function_call_output", "output": [{"type": "input_file", "file_url": "https://a"}]}, "input_file"),
        ({"type": "item_reference", "id": "msg_1"}, "item_reference"),
        ({"type": "reasoning", "id": "rs_1", "summary": []}, "reasoning"),
        ({"type": "compaction", "encrypted_content": "gA"}, "compaction"),
        ({"type": "file_search_call", "id": "fs_1", "queries": []}, "file_search_call"),
        ({"type": "image_generation_call", "id": "ig_1"}, "image_generation_call"),
        ({"type": "never_heard_of"}, "never_heard_of"),
    ],
)
def test_what_is_more_than_its_text(item: Any, name: str) -> None:
    """Files, sound, stored and unknown items: their tokens cannot be told from the body."""
    assert shape(item).beyond_text == (name,)


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "g"}]}, ()),
        ({"tools": [{"type": "web_search"}, {"type": "mcp"}]}, ("tools: web_search", "tools: mcp")),
        ({"tools": [{"type": "openrouter:web_search"}]}, ("tools: openrouter:web_search",)),
        ({"tools": [{"type": {"a": 1}}, 3]}, ("tools: {'a': 1}", "tools: None")),
        ({"tools": [{"type": "namespace", "tools": []}]}, ("tools: namespace",)),
        ({"input": [{"type": "additional_tools", "tools": [{"type": "mcp"}]}]}, ("tools: mcp",)),
        ({"input": [{"type": "additional_tools", "tools": [{"type": "function"}]}]}, ()),
        ({"prompt": {"id": "pmpt_1"}}, ("prompt",)),
        ({"context_management": [{"type": "compaction"}]}, ("context_management",)),
        ({"plugins": [{"id": "web"}]}, ("plugins",)),
        ({"plugins": []}, ()),
        ({"image_config": {"a": 1}}, ("image_config",)),
        ({"modalities": ["text", "image"]}, ("modalities",)),
        ({"modalities": ["text"]}, ()),
        ({"stop_server_tools_when": {"a": 1}}, ("stop_server_tools_when",)),
        ({"moderation": {"a": 1}}, ("moderation",)),
        ({"prompt_cache_options": {"mode": "explicit"}}, ()),
        ({"prompt_cache_options": {"mode": "explicit", "ttl": "30m"}}, ()),
        ({"prompt_cache_options": {"ttl": "12h"}}, ("prompt_cache_options.ttl",)),
        ({"brand_new_field": 1}, ("brand_new_field",)),
        ({"model": "a:online"}, (":online",)),
        ({"background": False}, ()),
    ],
)
def test_what_has_no_known_maximum(more: dict[str, Any], names: tuple[str, ...]) -> None:
    """Tools that the provider runs, whatever may bring them, and every field that nobody has read about."""
    assert decode(**more).shape.unboundable == names


def test_router_fields_are_openrouters_own() -> None:
    """They skip direct routes; null is as if it were not there."""
    call = decode(OPENROUTER, models=["a", "b"], provider={"sort": "price"}, top_k=None, session_id="s", user="u")

    assert call.router_fields == ("models", "provider", "session_id")
    assert call.translatable_fields == ()
    assert call.shape.fallback_models == ("a", "b")


@pytest.mark.parametrize("dialect", [OPENAI, OPENROUTER], ids=["openai", "openrouter"])
def test_a_stream_is_read_from_the_body(dialect: OpenAIDialect) -> None:
    assert decode(dialect, stream=True).stream
    assert not decode(dialect, stream=False).stream
    assert not decode(dialect).stream


# --- the bytes


@pytest.mark.parametrize(
    ("body", "edits", "expected"),
    [
        ('{ "model":"m", "input" : "Hi" }', Edits("m"), '{ "model":"m", "input" : "Hi" }'),
        (
            '{"model":"m","input":"Hi"}', Edits("n", output_limit=50),
            '{"model":"n","input":"Hi","max_output_tokens":50}',
        ),
        (
            '{"max_output_tokens":90,"model":"m","input":"Hi"}', Edits("m", output_limit=50),
            '{"max_output_tokens":50,"model":"m","input":"Hi"}',
        ),
        (
            '{"max_output_tokens":20,"model":"m","input":"Hi"}', Edits("m", output_limit=50),
            '{"max_output_tokens":20,"model":"m","input":"Hi"}',
        ),
        (
            '{"max_output_tokens":null,"model":"m","input":"Hi"}', Edits("m", output_limit=50),
            '{"max_output_tokens":50,"model":"m","input":"Hi"}',
        ),
        (
            '{"model":"m","input":"Hi","stream":true}', Edits("m", include_usage=True),
            '{"model":"m","input":"Hi","stream":true}',
        ),
        (
            '{"model":"m","input":"Hi","provider":{"sort":"price"}}',
            Edits("m", max_price={"prompt": "1"}, require_parameters=True),
            '{"model":"m","input":"Hi","provider":{"sort":"price","max_price":{"prompt":"1"},"require_parameters":true}}',
        ),
    ],
)
def test_only_what_is_edited_changes(body: str, edits: Edits, expected: str) -> None:
    """Model, output limit and OpenRouter's price ceiling; usage needs no asking for."""
    assert OPENAI.decode("responses", body.encode()).native_body(edits) == expected.encode()


# --- the documents


@functools.cache
def documented(provider: str) -> frozenset[str]:
    """The top-level request fields of /responses in a provider's OpenAPI document."""
    path = SPECS / f"{provider}.openapi.yaml"
    if not path.exists():
        pytest.skip(f"the OpenAPI documents are absent: {SPECS}")
    document = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
    asked = document["paths"]["/responses"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return frozenset(_properties(document["components"]["schemas"], asked))


def _properties(schemas: dict[str, Any], schema: dict[str, Any]) -> set[str]:
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
    found = set(schema.get("properties", ()))
    for part in schema.get("allOf", ()):
        found |= _properties(schemas, part)
    return found


@pytest.mark.parametrize("provider", ["openai", "openrouter"])
def test_every_documented_field_is_known(provider: str) -> None:
    """A new field of either provider shows up here, to be sorted by what it means for money and routing."""
    assert documented(provider) - KNOWN == set()


def test_the_lists_say_whose_a_field_is() -> None:
    """What OpenAI documents may go there; what only OpenRouter documents skips direct routes."""
    openai, openrouter = documented("openai"), documented("openrouter")

    assert openai == fields.OPENAI_RESPONSES
    assert openrouter - openai <= fields.OPENROUTER_RESPONSES
    assert fields.OPENROUTER_RESPONSES.isdisjoint(openai)


def test_fields_of_the_sdks_are_bounded_only_if_known() -> None:
    """The installed SDKs may be newer than the documents: what they add has no known maximum until it is sorted."""
    sdk = {field.alias or name for name, field in ResponsesRequest.model_fields.items()}
    sdk |= set(typing.get_type_hints(ResponseCreateParamsBase))
    unknown = sdk - KNOWN

    assert {"model", "input", "tools"} <= sdk
    for name in unknown:
        assert decode(**{name: {"a": 1}}).shape.unboundable == (name,)
