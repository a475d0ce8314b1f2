"""What is asked of Gemini: every parameter carried where it belongs, named as left behind, or refused."""

import json
from functools import cache, partial
from typing import Any

import msgspec
import pytest
from anthropic_google_wire import WIRE
from chat_parameters import QUESTION, RAW, SCHEMA, TOOL, TYPED, ask, assert_placed, refusal
from google.genai import types

from ownkey.domain.conversation import (
    Audio,
    ChatRequest,
    Document,
    Failed,
    Image,
    JsonFormat,
    Message,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    Untranslatable,
)
from ownkey.domain.exchange import Origin
from ownkey.domain.secret import Secret
from ownkey.domain.wire import EmbeddingsRequest
from ownkey.providers.google import GoogleProvider
from ownkey.providers.google.codec import GenerateCodec
from ownkey.providers.google.embeddings import EmbeddingsCodec

CODEC = GenerateCodec()
FLASH = "gemini-2.5-flash"
THIRD = "gemini-3-flash-preview"
PREFIX = "GoogleCloudAiplatformV1beta1"
# In Google's API for developers; the schemas at hand are its cloud's, which lacks them.
DEVELOPERS_ONLY = {("FunctionCall", "id"), ("FunctionResponse", "id")}


@cache
def schemas() -> dict[str, Any]:
    path = WIRE / "specs" / "gemini-generate-content.schemas.json"
    return dict(json.loads(path.read_text())["schemas"]) if path.is_file() else {}


def check(value: Any, schema: dict[str, Any], where: str) -> None:
    """Validate against Google's discovery schema, unknown fields included."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(PREFIX)
        target = schemas()[schema["$ref"]]
        assert isinstance(value, dict), where
        for key, child in value.items():
            if (name, key) not in DEVELOPERS_ONLY:
                assert key in target["properties"], f"{where}.{key} is not in {name}"
                check(child, target["properties"][key], f"{where}.{key}")
        return
    match schema["type"]:
        case "array":
            assert isinstance(value, list), where
            for child in value:
                check(child, schema["items"], f"{where}[]")
        case "string":
            assert isinstance(value, str), where
            assert value in schema.get("enum", [value]), where
        case "integer":
            assert isinstance(value, int), where
        case "number":
            assert isinstance(value, int | float), where
        case "boolean":
            assert isinstance(value, bool), where


def encode(request: ChatRequest, model: str = FLASH, limit: int = 4_000) -> dict[str, Any]:
    """The body, after Google's schemas and the official SDK's types have accepted it."""
    body = msgspec.json.decode(CODEC.encode_chat(model, request, limit))
    assert isinstance(body, dict)
    if schemas():
        check(upper_levels(body), {"$ref": f"{PREFIX}GenerateContentRequest"}, "request")
    for content in body["contents"]:
        types.Content.model_validate(content)
    types.GenerationConfig.model_validate(body["generationConfig"])
    for tool in body.get("tools", ()):
        types.Tool.model_validate(tool)
    return body


def upper_levels(body: dict[str, Any]) -> dict[str, Any]:
    """The schemas name thinking levels in capitals; the API takes both (google-genai, ThinkingLevel)."""
    copy: dict[str, Any] = json.loads(json.dumps(body))
    thinking = copy["generationConfig"].get("thinkingConfig", {})
    if "thinkingLevel" in thinking:
        thinking["thinkingLevel"] = thinking["thinkingLevel"].upper()
    return copy


refused = partial(refusal, encode)


def config(**fields: Any) -> dict[str, Any]:
    return {"generationConfig": {"maxOutputTokens": 4_000} | fields}


DECLARED = {"name": "get_weather", "description": "Weather of a city", "parametersJsonSchema": SCHEMA}
CARRIED: dict[str, dict[str, Any]] = {
    "max_completion_tokens": config(),
    "max_tokens": config(),
    "messages": {"contents": [{"role": "user", "parts": [{"text": "What is the weather?"}]}]},
    "temperature": config(temperature=0.3),
    "top_p": config(topP=0.5),
    "top_k": config(topK=7),
    "stop": config(stopSequences=["END"]),
    "seed": config(seed=7),
    "frequency_penalty": config(frequencyPenalty=0.5),
    "presence_penalty": config(presencePenalty=0.5),
    "tools": {"tools": [{"functionDeclarations": [DECLARED]}]},
    "tool_choice": {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["get_weather"]}}},
    "response_format": config(responseMimeType="application/json", responseJsonSchema=SCHEMA),
    "reasoning_effort": config(thinkingConfig={"thinkingBudget": 2_000, "includeThoughts": True}),
}
LEFT_BEHIND = {
    "cache_control",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "session_id",
    "store",
    "trace",
    "usage",
    "user",
}
# The model and streaming are in the URL; the shape of the stream is the dialect's.
ELSEWHERE = {"model", "stream", "stream_options"}


@pytest.mark.parametrize("name", sorted({*TYPED, *RAW}))
def test_no_parameter_is_dropped_silently(name: str) -> None:
    """Carried where it belongs, named by dropped_hints, or refused under the caller's own name for it."""
    assert_placed(name, CODEC, encode, CARRIED, LEFT_BEHIND, ELSEWHERE)


def test_model_and_stream_are_in_the_url_and_the_key_is_not() -> None:
    """Errors quote the URL."""
    provider = GoogleProvider()
    codec = provider.codec("openai", "chat")
    assert codec is not None
    assert (codec[0].wire, codec[1]) == ("google.generate", "translated")
    embeddings = provider.codec("openai", "embeddings")
    assert embeddings is not None
    assert provider.codec("openai", "responses") is None
    assert provider.codec("anthropic", "messages") == codec
    assert not provider.stops_billing(FLASH)
    origin = Origin("https", "generativelanguage.googleapis.com", 443, "/v1beta")

    def path(wire: Any, model: str, stream: bool) -> str:
        sent = provider.request(origin, wire, model, b"{}", stream, Secret("AQ.x"), {"anthropic-beta": "x"})
        assert {name for name, _ in sent.headers} == {"content-type", "accept"}
        assert (sent.credential_header, sent.credential_prefix) == ("x-goog-api-key", "")
        return sent.path

    assert path(codec[0], FLASH, False) == "/models/gemini-2.5-flash:generateContent"
    assert path(codec[0], FLASH, True) == "/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    assert path(embeddings[0], "models/e", False) == "/models/e:batchEmbedContents"
    assert path(codec[0], "../x?key=1", False) == "/models/..%2Fx%3Fkey%3D1:generateContent"


def test_system_messages_lead_and_later_ones_stay_in_place() -> None:
    """The instruction is one; a later message keeps its place with a mark."""
    messages = (
        Message("system", (Text("One."),)),
        Message("user", (Text("Hi"),)),
        Message("assistant", (Text("Hello"),)),
        Message("system", (Text("Be short."),)),
        Message("user", (Text("Go on"),)),
    )

    body = encode(ask(messages=messages))

    assert body["systemInstruction"] == {"parts": [{"text": "One."}]}
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user"]
    assert body["contents"][2]["parts"] == [{"text": "[system message]\nBe short."}, {"text": "Go on"}]


def test_results_carry_the_functions_name_from_the_history() -> None:
    """The chat dialect gives results an id only; parallel results share one turn."""
    calls = (ToolCall("call_1", "f", '{"a": 1}'), ToolCall("call_2", "g", ""))
    messages = (
        *QUESTION,
        Message("assistant", tool_calls=calls),
        Message("tool", (Text("two"),), tool_call_id="call_2"),
        Message("tool", (Text("one"),), tool_call_id="call_1"),
        Message("user", (Text("And?"),)),
    )

    contents = encode(ask(messages=messages, tools=(TOOL,)))["contents"]

    assert contents[1]["parts"] == [
        {"functionCall": {"name": "f", "args": {"a": 1}, "id": "call_1"}},
        {"functionCall": {"name": "g", "args": {}, "id": "call_2"}},
    ]
    assert contents[2]["parts"] == [
        {"functionResponse": {"name": "g", "response": {"output": "two"}, "id": "call_2"}},
        {"functionResponse": {"name": "f", "response": {"output": "one"}, "id": "call_1"}},
        {"text": "And?"},
    ]
    orphan = (*QUESTION, Message("tool", (Text("?"),), tool_call_id="call_9"))
    assert refused(ask(messages=orphan)) == "messages[].tool_call_id"


def test_media_are_carried_inline() -> None:
    """Gemini reads images, sound and documents from the body, and fetches nothing for a caller."""
    parts = (
        Image(media_type="image/png", data="AAAA"),
        Document("application/pdf", "AAAA", "a.pdf"),
        Audio("mp3", "AAAA"),
    )
    sent = encode(ask(messages=(Message("user", parts),)))["contents"][0]["parts"]
    assert [part["inlineData"]["mimeType"] for part in sent] == ["image/png", "application/pdf", "audio/mp3"]
    for part in (
        Image(url="https://example.com/a.png"),
        Image(media_type="image/gif", data="AAAA"),
        Document("application/zip", "AAAA"),
        Audio("pcm16", "AAAA"),
    ):
        assert refused(ask(messages=(Message("user", (part,)),))).startswith("messages[].content[].")


def test_images_in_tool_results_need_the_third_generation() -> None:
    """Older models would not see them."""
    image = Image(media_type="image/png", data="AAAA")
    call = Message(
        "assistant",
        tool_calls=(ToolCall("a", "f", "{}"),),
        reasoning_details=({"type": "reasoning.encrypted", "data": "c2ln", "id": "a", "format": "google-gemini-v1"},),
    )
    request = ask(messages=(*QUESTION, call, Message("tool", (Text("see"), image), tool_call_id="a")), tools=(TOOL,))

    response = encode(request, THIRD)["contents"][2]["parts"][0]["functionResponse"]

    assert response["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]
    assert refused(request) == "messages[].content"


@pytest.mark.parametrize(
    ("choice", "strict", "expected"),
    [
        (None, False, None),
        (None, True, {"mode": "VALIDATED"}),
        (ToolChoice("auto"), False, {"mode": "AUTO"}),
        (ToolChoice("auto"), True, {"mode": "VALIDATED"}),
        (ToolChoice("required"), False, {"mode": "ANY"}),
        (ToolChoice("none"), False, {"mode": "NONE"}),
    ],
)
def test_tool_choices_are_mapped(choice: ToolChoice | None, strict: bool, expected: Any) -> None:
    """A strict tool asks for calls that hold to their schema."""
    tool = Tool("f", None, SCHEMA, strict)
    body = encode(ask(tools=(tool,), tool_choice=choice))

    assert body.get("toolConfig") == (expected and {"functionCallingConfig": expected})


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        (FLASH, "none", {"thinkingBudget": 0}),
        (FLASH, "low", {"thinkingBudget": 800, "includeThoughts": True}),
        ("gemini-2.5-flash-lite", "minimal", {"thinkingBudget": 512, "includeThoughts": True}),
        ("gemini-2.5-pro", "high", {"thinkingBudget": 3_200, "includeThoughts": True}),
        (THIRD, "minimal", {"thinkingLevel": "minimal", "includeThoughts": True}),
        ("gemini-3-pro-preview", "minimal", {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini-3.1-pro-preview", "medium", {"thinkingLevel": "medium", "includeThoughts": True}),
        ("gemini-2.0-flash", "none", None),
    ],
)
def test_effort_is_asked_for_as_the_model_takes_it(model: str, effort: str, expected: Any) -> None:
    """A budget for the second generation, a level for the third."""
    assert encode(ask(reasoning_effort=effort), model)["generationConfig"].get("thinkingConfig") == expected


def test_json_without_a_schema_is_json_mode() -> None:
    """What the chat dialect's json_object asks for."""
    sent = encode(ask(json_format=JsonFormat()))["generationConfig"]

    assert sent == {"maxOutputTokens": 4_000, "responseMimeType": "application/json"}


@pytest.mark.parametrize(
    ("what", "fields", "model"),
    [
        ("n", {"rest": {"n": 2}}, FLASH),
        ("logprobs", {"rest": {"logprobs": True}}, FLASH),
        ("seed", {"rest": {"seed": 2**40}}, FLASH),
        ("seed", {"rest": {"seed": "x"}}, FLASH),
        ("frequency_penalty", {"rest": {"frequency_penalty": "x"}}, FLASH),
        ("stop", {"stop": tuple("abcdef")}, FLASH),
        ("parallel_tool_calls", {"tools": (TOOL,), "parallel_tool_calls": False}, FLASH),
        ("response_format", {"tools": (TOOL,), "json_format": JsonFormat()}, FLASH),
        ("tools[].function.name", {"tools": (Tool("1f", None, None),)}, FLASH),
        ("reasoning_effort", {"reasoning_effort": "low"}, "gemini-2.0-flash"),
        ("reasoning_effort", {"reasoning_effort": "none"}, "gemini-2.5-pro"),
        ("reasoning_effort", {"reasoning_effort": "none"}, THIRD),
        ("reasoning_effort", {"reasoning_effort": "xhigh"}, THIRD),
        ("reasoning_effort", {"reasoning_effort": "medium"}, "gemini-3-pro-preview"),
        ("reasoning_effort", {"reasoning_effort": "heroic"}, FLASH),
        ("reasoning.max_tokens", {"reasoning_max_tokens": 100}, "gemini-2.5-pro"),
        ("reasoning.max_tokens", {"reasoning_max_tokens": 100}, THIRD),
        ("reasoning", {"reasoning_max_tokens": 100, "reasoning_effort": "low"}, FLASH),
        ("messages", {"messages": ()}, FLASH),
        ("messages", {"messages": (*QUESTION, Message("assistant", (Text("It is"),)))}, FLASH),
        ("messages", {"messages": (Message("system", (Text("s"),)), *QUESTION)}, "gemma-3-27b-it"),
        ("tools", {"tools": (TOOL,)}, "gemma-3-27b-it"),
        ("model", {}, "gemini-2.5-flash-image"),
    ],
)
def test_what_gemini_cannot_be_asked_is_refused_by_name(what: str, fields: dict[str, Any], model: str) -> None:
    """The direct route is skipped and the receipt can say why."""
    assert refused(ask(**fields), model) == what


SCHEMAS_LOST = [
    {"type": "string", "pattern": "a"},
    {"type": "string", "minLength": 2},
    {"type": "string", "format": "email"},
    {"type": "number", "exclusiveMinimum": 1},
    {"type": "array", "uniqueItems": True},
    {"oneOf": [{"type": "string"}]},
    {"allOf": [{"type": "string"}, {"minLength": 1}]},
    {"enum": [True]},
    {"not": {}},
    {"$ref": "#/$defs/a", "minLength": 1, "$defs": {"a": {"type": "string"}}},
    {"patternProperties": {"a": {}}},
]


@pytest.mark.parametrize("schema", SCHEMAS_LOST)
def test_a_schema_is_never_loosened(schema: dict[str, Any]) -> None:
    """What Gemini would ignore is refused in an answer's schema and a strict tool's, and told in any other."""
    wrapped = {"type": "object", "properties": {"x": schema}} | {k: schema[k] for k in ("$defs",) if k in schema}
    assert refused(ask(json_format=JsonFormat(wrapped))) == "response_format"
    assert refused(ask(tools=(Tool("f", None, wrapped, strict=True),))) == "tools[].function.parameters"
    body = encode(ask(tools=(Tool("f", None, wrapped),)))
    if "oneOf" not in schema:
        sent = body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"]["properties"]["x"]
        assert any(key in sent["description"] for key in schema)


def test_a_schema_keeps_what_gemini_knows() -> None:
    """Constants become enumerations of one, nullable enumerations a choice; annotations go."""
    schema = {
        "$schema": "x",
        "type": "object",
        "properties": {
            "a": {"type": "string", "enum": ["x", "y"], "default": "x"},
            "b": {"const": "x"},
            "c": {"type": ["string", "null"], "enum": ["x", None]},
            "d": {"$ref": "#/$defs/n", "description": "A number"},
            "e": {"type": "array", "items": {"type": "integer", "minimum": 1}, "maxItems": 3},
            "f": {"allOf": [{"$ref": "#/$defs/n"}]},
        },
        "required": ["a"],
        "additionalProperties": False,
        "$defs": {"n": {"type": "number"}},
    }

    sent = encode(ask(json_format=JsonFormat(schema)))["generationConfig"]["responseJsonSchema"]

    assert sent == {
        "type": "object",
        "properties": {
            "a": {"type": "string", "enum": ["x", "y"]},
            "b": {"enum": ["x"]},
            "c": {"anyOf": [{"enum": ["x"], "type": "string"}, {"type": "null"}]},
            "d": {"anyOf": [{"$ref": "#/$defs/n"}], "description": "A number"},
            "e": {"type": "array", "items": {"type": "integer", "minimum": 1}, "maxItems": 3},
            "f": {"$ref": "#/$defs/n"},
        },
        "required": ["a"],
        "additionalProperties": False,
        "$defs": {"n": {"type": "number"}},
    }


def test_the_third_generation_demands_the_signatures_of_an_open_turn() -> None:
    """Without them Gemini refuses; older turns need none."""
    call = Message("assistant", tool_calls=(ToolCall("a", "f", "{}"),))
    result = Message("tool", (Text("1"),), tool_call_id="a")

    assert refused(ask(messages=(*QUESTION, call, result), tools=(TOOL,)), THIRD) == "messages[].reasoning_details"
    closed = (*QUESTION, call, result, Message("assistant", (Text("One"),)), *QUESTION)
    assert len(encode(ask(messages=closed, tools=(TOOL,)), THIRD)["contents"]) == 5
    assert len(encode(ask(messages=(*QUESTION, call, result), tools=(TOOL,)))["contents"]) == 3


def test_cache_marks_are_left_behind_by_name() -> None:
    """Gemini caches by itself; the marks change no answer."""
    mark = {"type": "ephemeral"}
    in_part = ask(messages=(Message("user", (Text("Hi", mark),)),))
    in_tool = ask(tools=(Tool("f", None, None, cache_control=mark),))

    assert CODEC.dropped_hints(in_part) == CODEC.dropped_hints(in_tool) == ("cache_control",)
    assert CODEC.dropped_hints(ask()) == ()


def test_foreign_reasoning_is_refused() -> None:
    """Another provider's signature means nothing here."""
    detail = {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "anthropic-claude-v1"}
    answer = Message("assistant", (Text("It rains"),), reasoning_details=(detail,))

    assert refused(ask(messages=(*QUESTION, answer, *QUESTION))) == "messages[].reasoning_details"


def test_embeddings_go_out_text_by_text() -> None:
    """One request a text, each with its dimensions; tokens of OpenAI's are refused."""
    codec = EmbeddingsCodec()
    request = EmbeddingsRequest(("a", "b"), 768, "base64", single=False)

    body = json.loads(codec.encode_embeddings("gemini-embedding-001", request))

    assert body == {
        "requests": [
            {
                "model": "models/gemini-embedding-001",
                "content": {"parts": [{"text": text}]},
                "outputDimensionality": 768,
            }
            for text in ("a", "b")
        ]
    }
    for inputs in (((1, 2),), ("",), ("a",) * 101):
        with pytest.raises(Untranslatable):
            codec.encode_embeddings("m", EmbeddingsRequest(inputs, None, "float", single=True))


def test_embeddings_that_cannot_be_read_are_a_failure() -> None:
    """reconstructed: an error inside a 200, and half a body."""
    codec = EmbeddingsCodec()
    error = b'{"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}'

    bodies = ((error, "overload"), (b'{"embeddings": [{"val', "network"), (b'{"embeddings": []}', "network"))
    for body, expected in bodies:
        seen, events = codec.decode_whole(body)
        assert seen.failure is not None
        assert seen.failure.cls.value == expected
        assert events == (Failed(seen.failure),)
