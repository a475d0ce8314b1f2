"""What a body may hold, what it is refused for, and what its greatest cost depends on."""

import json
import unicodedata
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownkey.dialects.openai_chat import OpenAIDialect, OpenRouterDialect
from ownkey.dialects.openai_fields import STEERING
from ownkey.domain.bounds import RequestShape
from ownkey.domain.conversation import (
    Audio,
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
from ownkey.domain.wire import BadRequest, Edits, EmbeddingsRequest, Endpoint

DIALECT = OpenAIDialect()
HI = [{"role": "user", "content": "Hi"}]
PNG = "data:image/png;base64,iVBORw0KGgo="


def chat(**more: Any) -> Any:
    return DIALECT.decode("chat", json.dumps({"model": "m", "messages": HI} | more).encode())


def shape(**more: Any) -> RequestShape:
    return chat(**more).shape


def parts(*content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(content)}]


REFUSED: dict[str, tuple[dict[str, Any], str | None]] = {
    "no model": ({"model": None}, "model"),
    "an empty model": ({"model": ""}, "model"),
    "a model of another type": ({"model": 7}, "model"),
    "no messages": ({"messages": None}, "messages"),
    "empty messages": ({"messages": []}, "messages"),
    "messages as text": ({"messages": "Hi"}, "messages"),
    "messages of texts": ({"messages": ["Hi"]}, "messages"),
    "stream": ({"stream": "yes"}, "stream"),
    "n": ({"n": "2"}, "n"),
    "n zero": ({"n": 0}, "n"),
    "n true": ({"n": True}, "n"),
    "max_tokens": ({"max_tokens": -1}, "max_tokens"),
    "max_completion_tokens": ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
    "stream_options": ({"stream_options": []}, "stream_options"),
    "include_usage": ({"stream_options": {"include_usage": 1}}, "include_usage"),
    "tools": ({"tools": {}}, "tools"),
    "models": ({"models": "m"}, "models"),
    "provider": ({"provider": "openai"}, "provider"),
    "max_price": ({"provider": {"max_price": 7}}, None),
    "service_tier": ({"service_tier": 1}, "service_tier"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_bodies_are_refused_with_the_field(name: str) -> None:
    """One sentence, and the field it is about."""
    more, param = REFUSED[name]
    with pytest.raises(BadRequest) as caught:
        chat(**more)

    assert caught.value.param == param
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("name", [*sorted(STEERING), "API_BASE", "aws_region", "litellm_x"])
def test_fields_that_steer_egress_are_refused(name: str) -> None:
    """Where a request goes is the operator's to say."""
    with pytest.raises(BadRequest, match="not accepted"):
        chat(**{name: "https://evil.example"})


def test_duplicates_inside_what_is_edited_are_refused() -> None:
    """An edit must hit the one that counts."""
    for inner in (b'"provider":{"max_price":{},"max_price":{}}', b'"stream_options":{"a":1,"a":2}'):
        with pytest.raises(BadRequest, match="twice"):
            DIALECT.decode("chat", b'{"model":"m","messages":[{}],' + inner + b"}")


def test_a_plain_call() -> None:
    """The least a chat needs, and what is made of it."""
    call = chat(stream=True, max_tokens=9, n=2, service_tier="flex")

    assert (call.endpoint, call.model, call.stream, call.include_usage) == ("chat", "m", True, False)
    assert replace(call.shape, silent_bytes=0) == RequestShape(
        text_bytes=len(call.body), cache_writes="none", output_limit=9, answers=2, service_tier="flex"
    )
    assert call.router_fields == ()


def test_usage_is_asked_for_by_openai_and_always_sent_by_openrouter() -> None:
    """The two surfaces differ."""
    body = json.dumps({"model": "m", "messages": HI, "stream": True}).encode()

    assert chat(stream_options={"include_usage": True}).include_usage
    assert not chat(stream_options={"include_usage": False}).include_usage
    assert not chat(stream_options=None).include_usage
    assert OpenRouterDialect().decode("chat", body).include_usage


def test_fields_of_the_router() -> None:
    """They skip direct routes; some of them have a neutral form."""
    call = chat(models=["a", "b"], provider={"order": ["x"]}, plugins=None, top_k=5, user="u")

    assert call.router_fields == ("models", "provider", "top_k")
    assert call.translatable_fields == ("top_k",)
    assert call.shape.fallback_models == ("a", "b")


UNBOUNDABLE: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "unknown field": ({"agentic_loop": 3}, ("agentic_loop",)),
    "best_of": ({"best_of": 2}, ("best_of",)),
    "web search": ({"web_search_options": {"x": 1}}, ("web_search_options",)),
    "empty plugins": ({"plugins": []}, ()),
    "plugins": ({"plugins": [{"id": "web"}]}, ("plugins",)),
    "preset": ({"preset": "x"}, ("preset",)),
    "server tool": ({"tools": [{"type": "openrouter:web_search"}]}, ("tools: openrouter:web_search",)),
    "client tools": ({"tools": [{"type": "function"}, {"type": "custom"}]}, ()),
    "online": ({"model": "a/b:online"}, (":online",)),
    "online fallback": ({"models": ["a/b:online"]}, (":online",)),
    "audio out": ({"modalities": ["text", "audio"], "audio": {"voice": "x"}}, ("audio", "modalities")),
    "text out": ({"modalities": ["text"]}, ()),
    "prediction": ({"prediction": {"type": "content", "content": "x"}}, ("prediction",)),
    "null": ({"plugins": None, "tools": None, "modalities": None}, ()),
}


@pytest.mark.parametrize("name", UNBOUNDABLE)
def test_what_has_no_priced_maximum(name: str) -> None:
    """It is named, so that a cap can refuse it."""
    more, expected = UNBOUNDABLE[name]

    assert shape(**more).unboundable == expected


def test_answers_multiply() -> None:
    """n × best_of."""
    assert shape(n=2, best_of=3).answers == 6


def test_the_greater_of_two_limits_counts() -> None:
    """Either may be the one that the provider obeys."""
    assert shape(max_tokens=10, max_completion_tokens=20).output_limit == 20


MEDIA: dict[str, tuple[list[dict[str, Any]], tuple[int, int, tuple[str, ...]]]] = {
    "inline image": (parts({"type": "image_url", "image_url": {"url": PNG}}), (1, len(PNG), ())),
    "linked image": (parts({"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}), (1, 0, ())),
    "short form": (parts({"type": "image_url", "image_url": PNG}), (1, len(PNG), ())),
    "audio": (parts({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}), (0, 0, ("input_audio",))),
    "file": (parts({"type": "file", "file": {"file_id": "file-1"}}), (0, 0, ("file",))),
    "video": (parts({"type": "video_url", "video_url": {"url": "https://a.example"}}), (0, 0, ("video_url",))),
    "unknown": (parts({"type": "hologram"}), (0, 0, ("hologram",))),
    "no type": (parts({"image_url": {"url": PNG}}), (0, 0, ("None",))),
    "texts": (parts({"type": "text", "text": "image_url"}, {"type": "refusal", "refusal": "No"}), (0, 0, ())),
    "earlier audio": ([{"role": "assistant", "audio": {"id": "audio_1"}}], (0, 0, ("audio",))),
    "earlier images": (
        [{"role": "assistant", "content": None, "images": [{"type": "image_url", "image_url": {"url": PNG}}]}],
        (1, len(PNG), ()),
    ),
}


@pytest.mark.parametrize("name", MEDIA)
def test_media(name: str) -> None:
    """Images are counted, all else that is not text is named."""
    messages, expected = MEDIA[name]
    found = shape(messages=messages)

    assert (found.image_count, found.image_bytes, found.beyond_text) == expected


def test_escapes_hide_no_media() -> None:
    """Keys and kinds are read decoded."""
    body = rb'{"model":"m","messages":[{"\u0063ontent":[{"t\u0079pe":"f\u0069le"}]}]}'

    assert DIALECT.decode("chat", body).shape.beyond_text == ("file",)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
def test_text_bytes_cover_every_reading(text: str, ascii_: bool) -> None:
    """Never less than the raw body, nor than the decoded text in NFKC."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}, ensure_ascii=ascii_).encode()
    found = DIALECT.decode("chat", body).shape.text_bytes

    assert found >= len(body)
    assert found >= len(unicodedata.normalize("NFKC", text).encode())
    if body.isascii() and b"\\u" not in body:
        assert found == len(body)


def test_text_bytes_of_characters_that_grow() -> None:
    """One character of three bytes is thirty-three in NFKC."""
    assert chat(messages=[{"role": "user", "content": "\ufdfa" * 100}]).shape.text_bytes >= 3_300


def test_a_body_that_is_not_utf8_is_refused() -> None:
    """Its text has no length."""
    with pytest.raises(BadRequest):
        DIALECT.decode("chat", b'{"model":"m","messages":[{"content":"\xff"}]}')


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": None}, "input"), ({"input": ""}, "input"), ({"input": []}, "input"), ({"input": {}}, "input"),
        ({"models": ["m"]}, "models"), ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
    ],
)
def test_wrong_embeddings_are_refused(more: dict[str, Any], param: str) -> None:
    """Above all several models: their vectors do not mix."""
    with pytest.raises(BadRequest) as caught:
        DIALECT.decode("embeddings", json.dumps({"model": "m", "input": "x"} | more).encode())

    assert caught.value.param == param


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("one", EmbeddingsRequest(("one",), None, "float", True)),
        (["one", "two"], EmbeddingsRequest(("one", "two"), None, "float", False)),
        ([1, 2], EmbeddingsRequest(((1, 2),), None, "float", True)),
        ([[1], [2, 3]], EmbeddingsRequest(((1,), (2, 3)), None, "float", False)),
    ],
)
def test_embeddings_inputs(given_: Any, expected: EmbeddingsRequest) -> None:
    """Texts and tokens, alone or in a list."""
    call = DIALECT.decode("embeddings", json.dumps({"model": "m", "input": given_}).encode())

    assert call.neutral_embeddings() == expected
    assert not call.stream


def test_embeddings_of_more_than_text() -> None:
    """OpenRouter takes images there; they are counted, and have no neutral form."""
    content = [{"type": "image_url", "image_url": {"url": PNG}}]
    call = DIALECT.decode("embeddings", json.dumps({"model": "m", "input": [{"content": content}]}).encode())

    assert (call.shape.image_count, call.shape.image_bytes) == (1, len(PNG))
    with pytest.raises(BadRequest):
        call.neutral_embeddings()


def test_embeddings_take_no_output_limit() -> None:
    """Only the model changes."""
    call = DIALECT.decode("embeddings", b'{"model":"m","input":"x"}')

    assert call.native_body(Edits("n", output_limit=5, include_usage=True)) == b'{"model":"n","input":"x"}'


def test_the_neutral_form() -> None:
    """Every part in its place, the rest under its name."""
    detail = {"type": "reasoning.text", "text": "hm", "signature": "s"}
    call = chat(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "name": "Ann", "content": [
                {"type": "text", "text": "See", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
                {"type": "input_audio", "input_audio": {"format": "wav", "data": "AA"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BB"}},
            ]},
            {"role": "assistant", "content": None, "refusal": "No.", "reasoning_details": [detail], "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "done"},
        ],
        stream=True, max_tokens=10, max_completion_tokens=20, temperature=1, top_p=0.5, top_k=3, stop="END",
        tools=[{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"},
                                                 "strict": True}, "cache_control": {"type": "ephemeral"}}],
        tool_choice={"type": "function", "function": {"name": "f"}}, parallel_tool_calls=False,
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        reasoning_effort="low", seed=7, user=None, n=2, stream_options={"include_usage": True},
    )
    request = call.neutral_chat()

    ephemeral = {"type": "ephemeral"}
    assert request.messages == (
        Message("system", (Text("Be brief."),)),
        Message("user", (
            Text("See", ephemeral),
            Image("image/png", "iVBORw0KGgo=", detail="low"),
            Image(url="https://a.example/b.png"),
            Audio("wav", "AA"),
            Document("application/pdf", "BB", "a.pdf"),
        ), name="Ann"),
        Message("assistant", (Refusal("No."),), (ToolCall("c1", "f", "{}"),), reasoning_details=(detail,)),
        Message("tool", (Text("done"),), tool_call_id="c1"),
    )
    assert (request.stream, request.max_output_tokens, request.temperature, request.top_p) == (True, 20, 1, 0.5)
    assert (request.top_k, request.stop, request.parallel_tool_calls) == (3, ("END",), False)
    assert request.tools == (Tool("f", "d", {"type": "object"}, True, ephemeral),)
    assert request.tool_choice == ToolChoice("named", "f")
    assert request.json_format == JsonFormat({"type": "object"}, "s")
    assert request.reasoning_effort == "low"
    assert request.rest == {"seed": 7, "n": 2}


REST: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "allowed tools": ({"tool_choice": {"type": "allowed_tools"}}, {"tool_choice": {"type": "allowed_tools"}}),
    "custom tool": ({"tools": [{"type": "custom", "custom": {}}]}, {"tools": [{"type": "custom", "custom": {}}]}),
    "grammar": ({"response_format": {"type": "grammar"}}, {"response_format": {"type": "grammar"}}),
    "functions": ({"functions": [{"name": "f"}], "function_call": "auto"},
                  {"functions": [{"name": "f"}], "function_call": "auto"}),
    "file id": ({"messages": parts({"type": "file", "file": {"file_id": "f"}})}, {"content.file": True}),
    "video": ({"messages": parts({"type": "video_url"})}, {"content.video_url": True}),
    "old call": ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, {"function_call": True}),
    "old result": ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, {"function_call": True}),
    "spoken": ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, {"messages.audio": True}),
    "exclude": ({"reasoning": {"effort": "low", "exclude": True}}, {"reasoning": {"exclude": True}}),
    "stream options": ({"stream_options": {"include_obfuscation": False}},
                       {"stream_options": {"include_obfuscation": False}}),
}


@pytest.mark.parametrize("name", REST)
def test_what_has_no_neutral_form_is_kept_by_name(name: str) -> None:
    """So that a translator carries it or refuses, and nothing is lost."""
    more, expected = REST[name]

    assert chat(**more).neutral_chat().rest == expected


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        ({"effort": "high"}, ("high", None)), ({"max_tokens": 900}, (None, 900)), ({"enabled": True}, ("medium", None)),
        ({"enabled": False}, ("none", None)), ({"enabled": True, "max_tokens": 5}, (None, 5)), ({}, (None, None)),
    ],
)
def test_openrouters_reasoning(reasoning: dict[str, Any], expected: tuple[str | None, int | None]) -> None:
    """Effort, budget, or just a switch."""
    request = chat(reasoning=reasoning).neutral_chat()

    assert (request.reasoning_effort, request.reasoning_max_tokens) == expected


@pytest.mark.parametrize(
    "more",
    [
        {"messages": [{"role": "king", "content": "x"}]}, {"messages": [{"content": "x"}]},
        {"messages": [{"role": "user", "content": 7}]}, {"messages": parts(7)},
        {"messages": parts({"type": "text"})}, {"messages": parts({"type": "image_url"})},
        {"messages": parts({"type": "image_url", "image_url": {"url": "data:image/png,raw"}})},
        {"messages": [{"role": "assistant", "tool_calls": {}}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]},
        {"messages": [{"role": "assistant", "reasoning_details": "x"}]},
        {"temperature": "hot"}, {"top_k": 1.5}, {"stop": 7}, {"stop": [7]}, {"tools": [7]},
        {"tools": [{"type": "function"}]}, {"tool_choice": "maybe"}, {"tool_choice": 7},
        {"response_format": {"type": "json_schema"}}, {"reasoning_effort": 7}, {"parallel_tool_calls": "no"},
    ],
)
def test_what_no_route_could_read_is_refused(more: dict[str, Any]) -> None:
    """A sentence, never an exception of another kind."""
    with pytest.raises(BadRequest):
        chat(**more).neutral_chat()


@pytest.mark.parametrize(("extra", "lifetime"), [
    ("", "none"), (', "cache_control": {"type": "ephemeral"}', "5m"),
    (', "cache_control": {"type": "ephemeral", "ttl": "1h"}', "1h"), (', "user": "\\u0063ache"', "1h"),
])  # fmt: skip
def test_a_cache_write_is_held_only_where_it_can_be_asked_for(extra: str, lifetime: str) -> None:
    """The longest cache lifetime that a body can ask for is found, also where an escape could hide the word."""
    body = ('{"model": "m", "messages": [{"role": "user", "content": "x"}]' + extra + "}").encode()

    assert OpenAIDialect().decode("chat", body).shape.cache_writes == lifetime


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("chat", b'{"model":"m/x","messages":[{"role":"user","content":[{"type":"text","text":"a","x":1e400}]}]}'),
        ("chat", b'{"model":"m/x","temperature":1e400,"tools":[{"a":1e999}],"messages":[{"role":"user"}]}'),
        ("embeddings", b'{"model":"m/x","input":[{"content":1e400}]}'),
    ],
    ids=["in a part", "in a tool", "in an input"],
)
def test_a_number_that_no_reader_takes_is_refused(endpoint: Endpoint, body: bytes) -> None:
    """Bad input: JSON sets numbers no limit; one too large is the caller's mistake and never an internal error."""
    with pytest.raises(BadRequest, match="too large to be read"):
        OpenAIDialect().decode(endpoint, body).neutral_chat()


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        (b'{"model":"gpt-5-mini","messages":[1],"max_tokens" : 50}',
         b'{"model":"gpt-5-mini","messages":[1],"max_completion_tokens" : 50}'),
        (b'{"max_tokens":50,"model":"gpt-5-mini","messages":["\\"max_tokens\\":"]}',
         b'{"max_completion_tokens":50,"model":"gpt-5-mini","messages":["\\"max_tokens\\":"]}'),
        (b'{"model":"gpt-5-mini","messages":[1],"max_completion_tokens":50}', None),
        (b'{"model":"gpt-5-mini","messages":[1],"max_tokens":null}', None),
        (b'{"model":"gpt-5-mini","messages":[1],"max_tokens":50,"max_completion_tokens":60}', None),
        (b'{"model":"gpt-5-mini","messages":[1]}', None),
    ],
    ids=["older", "first, and its name in a text", "newer", "null", "both", "none"],
)
def test_an_older_limit_goes_out_under_its_newer_name(sent: bytes, got: bytes | None) -> None:
    """Drop-in: models that reason refuse `max_tokens`; only its name changes, and only where it stands alone."""
    body = sent.replace(b"[1]", b'[{"role":"user","content":"x"}]').replace(b'["\\"', b'[{"role":"user","content":"\\"')
    body = body.replace(b':"]', b':"}]')
    want = None if got is None else got.replace(b"[1]", b'[{"role":"user","content":"x"}]').replace(
        b'["\\"', b'[{"role":"user","content":"\\"'
    ).replace(b':"]', b':"}]')
    call = OpenAIDialect().decode("chat", body)

    assert call.native_body(Edits("gpt-5-mini", newer_limit=True)) == (want or body)
    assert call.native_body(Edits("gpt-5-mini")) == body


@pytest.mark.parametrize("field", ["n", "best_of"])
def test_more_answers_than_any_provider_makes_are_refused(field: str) -> None:
    """Bad input: a count that no provider takes must not become a hold, or an estimate, of billions."""
    body = {"model": "m/x", "messages": [{"role": "user", "content": "x"}], field: 10**12}
    with pytest.raises(BadRequest, match="at most 128"):
        OpenAIDialect().decode("chat", json.dumps(body).encode())


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_openrouters_models_can_name_the_model_alone(endpoint: Endpoint) -> None:
    """O3: `model` is optional beside `models`; the first is the one that is asked for."""
    fields = {"messages": [{"role": "user", "content": "x"}]} if endpoint == "chat" else {"input": "x"}
    body = json.dumps({"models": ["openai/gpt-4.1-mini", "google/gemini-2.5-flash"], **fields}).encode()
    call = OpenRouterDialect().decode(endpoint, body)

    assert call.model == "openai/gpt-4.1-mini"
    assert call.native_body(Edits("openai/gpt-4.1-mini")) == body
    with pytest.raises(BadRequest, match="`model` is missing"):
        OpenAIDialect().decode(endpoint, body)
