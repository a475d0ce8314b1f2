"""What the emulated models say: the same for the same seed, within the limits, and as the schema wants."""

import json
import math
from typing import Any

import httpx
import jsonschema
import pytest
from emulator_wire import CHAT_MODELS, KEYS, PROVIDERS, ask, frames, headers, streamed_text_of, text_of, usage_of
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator_process import EmulatorHandle, start_emulator
from ownkey.emulator.dice import Dice, count_tokens, cut_to_tokens
from ownkey.emulator.embeddings import embed
from ownkey.emulator.schema import instance

SCHEMAS: dict[str, Any] = {
    "classification": {
        "type": "object",
        "properties": {"label": {"type": "string", "enum": ["bug", "question", "praise"]}},
        "required": ["label"],
        "additionalProperties": False,
    },
    "references": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["name", "children", "next"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "numbers": {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "minimum": 3, "maximum": 3},
            "b": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "c": {"type": "integer", "multipleOf": 7, "minimum": 1},
            "d": {"type": ["number", "null"]},
        },
        "required": ["a", "b", "c", "d"],
    },
    "arrays": {
        "type": "array",
        "minItems": 2,
        "maxItems": 4,
        "uniqueItems": True,
        "items": {"oneOf": [{"type": "string", "minLength": 3, "maxLength": 9}, {"const": 5}]},
    },
    "merged": {
        "allOf": [
            {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]},
            {"properties": {"y": {"type": "string", "format": "date-time"}}, "required": ["y"]},
        ]
    },
    "tuple": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "null"}], "items": False},
}


@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_instances_validate(name: str, seed: int) -> None:
    """Every instance is valid against its schema, whatever the dice."""
    jsonschema.validate(instance(SCHEMAS[name], Dice(seed)), SCHEMAS[name])


def test_a_mentioned_label_is_chosen() -> None:
    """A classification picks the label that the text names."""
    assert {instance(SCHEMAS["classification"], Dice(n), "This is a QUESTION")["label"] for n in range(9)} == {
        "question"
    }


@given(text=st.text(), limit=st.integers(0, 30))
def test_cutting_keeps_to_the_limit(text: str, limit: int) -> None:
    """A cut text costs at most the limit, is a beginning, and tokens never outnumber bytes."""
    cut = cut_to_tokens(text, limit)

    assert count_tokens(cut) <= limit or cut == text
    assert text.startswith(cut)
    assert count_tokens(text) <= len(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_same_seed_says_the_same(http: httpx.Client, provider: str) -> None:
    """Two emulators with one seed agree word for word; another seed says something else."""
    said = []
    for seed in (3, 3, 4):
        handle = start_emulator(seed=seed)
        try:
            handle.add_key(provider, KEYS[provider])
            said.append(text_of(provider, ask(http, handle, provider).json()))
        finally:
            handle.stop()

    assert said[0] == said[1]
    assert said[0] != said[2]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("limit", [1, 7, 40])
def test_the_limit_is_kept(emulator: EmulatorHandle, http: httpx.Client, provider: str, limit: int) -> None:
    """A long answer is cut at the limit, says so, and streams the same."""
    text = "[emulator output_tokens=400] go"
    whole = ask(http, emulator, provider, text, limit=limit).json()
    streamed = frames(ask(http, emulator, provider, text, limit=limit, stream=True))
    finish = {
        "openai": lambda: whole["choices"][0]["finish_reason"] == "length",
        "openrouter": lambda: whole["choices"][0]["finish_reason"] == "length",
        "anthropic": lambda: whole["stop_reason"] == "max_tokens",
        "google": lambda: whole["candidates"][0]["finishReason"] == "MAX_TOKENS",
    }

    assert usage_of(provider, whole)["output"] <= limit
    assert len(text_of(provider, whole).encode()) <= 4 * limit
    assert finish[provider]()
    assert streamed_text_of(provider, streamed) == text_of(provider, whole)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_tokens_never_outnumber_bytes(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """The prompt is charged less than its body has bytes, the answer less than its text has."""
    for text in ("", "é", "日本語" * 40, "plain " * 100):
        answer = ask(http, emulator, provider, text or " ")
        usage = usage_of(provider, answer.json())

        assert usage["input"] <= len(answer.request.content)
        assert usage["output"] <= len(text_of(provider, answer.json()).encode())


@pytest.mark.parametrize("provider", PROVIDERS)
def test_length_is_set_by_the_control_api(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """output_tokens and text decide the answer, and a rule for one model leaves the others alone."""
    emulator.set({"output_tokens": 123}, provider=provider)
    long = usage_of(provider, ask(http, emulator, provider, limit=1000).json())["output"]
    emulator.set({"text": "exactly this"}, model=CHAT_MODELS[provider])
    exact = text_of(provider, ask(http, emulator, provider).json())
    emulator.control("DELETE", "settings")

    assert 122 <= long <= 123
    assert exact == "exactly this"
    assert text_of(provider, ask(http, emulator, provider).json()) != "exactly this"


def test_stop_sequences_stop(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """The text ends before the stop; Anthropic says which one it was."""
    emulator.set({"text": "one two three"})
    openai = ask(http, emulator, "openai", stop=["two"]).json()
    anthropic = ask(http, emulator, "anthropic", stop_sequences=["two"]).json()
    google = ask(http, emulator, "google", generationConfig={"stopSequences": ["two"]}).json()

    assert text_of("openai", openai) == text_of("anthropic", anthropic) == text_of("google", google) == "one "
    assert (anthropic["stop_reason"], anthropic["stop_sequence"]) == ("stop_sequence", "two")
    assert openai["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_images_cost_tokens(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """An image adds the same number of tokens however long its data is."""
    counts = []
    for data in ("QUJD", "QUJD" * 500):
        match provider:
            case "anthropic":
                source = {"type": "base64", "media_type": "image/png", "data": data}
                content: Any = [{"type": "text", "text": "see"}, {"type": "image", "source": source}]
                body = {"messages": [{"role": "user", "content": content}]}
            case "google":
                inline = {"mimeType": "image/png", "data": data}
                body = {"contents": [{"role": "user", "parts": [{"text": "see"}, {"inlineData": inline}]}]}
            case _:
                image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
                body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, image]}]}
        counts.append(usage_of(provider, ask(http, emulator, provider, **body).json())["input"])

    assert counts[0] == counts[1] > 200


def test_similar_texts_are_near() -> None:
    """Vectors have length one, and texts that share words are nearer than others."""

    def dot(a: str, b: str) -> float:
        return math.fsum(x * y for x, y in zip(embed("m", a, 256, 256), embed("m", b, 256, 256), strict=True))

    assert dot("my invoice is wrong", "my invoice is wrong") == pytest.approx(1, abs=1e-6)
    assert dot("my invoice is wrong", "the invoice looks wrong") > dot("my invoice is wrong", "a cat sleeps outside")


def test_google_and_router_embeddings_agree(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """The Gemini embedding is the same on both routes, and usage can be left out."""
    url = emulator.base("google") + "/models/gemini-embedding-001:batchEmbedContents"
    body = {"requests": [{"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "a cat"}]}}]}
    direct = http.post(url, json=body, headers=headers("google")).json()
    routed = http.post(
        emulator.base("openrouter") + "/embeddings",
        json={"model": "google/gemini-embedding-001", "input": "a cat"},
        headers=headers("openrouter"),
    ).json()
    emulator.set({"google_embedding_usage": False}, provider="google")
    silent = http.post(url, json=body, headers=headers("google")).json()

    assert direct["embeddings"][0]["values"] == routed["data"][0]["embedding"]
    assert direct["usageMetadata"]["promptTokenCount"] > 0
    assert "usageMetadata" not in silent


def test_a_tool_result_gets_a_text(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """After a tool has answered the model talks, so that an agent's loop ends."""
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "call the tool"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "seen"},
    ]
    answer = ask(http, emulator, "openai", messages=messages, tools=tools).json()

    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["choices"][0]["message"]["content"]


def test_json_mode_is_json(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """json_object gives an object."""
    answer = ask(http, emulator, "openai", response_format={"type": "json_object"}).json()

    assert isinstance(json.loads(text_of("openai", answer)), dict)


def test_google_streams_an_array_without_sse(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """streamGenerateContent without alt=sse is a JSON array."""
    url = emulator.base("google") + "/models/gemini-2.5-flash:streamGenerateContent"
    body = {"contents": [{"parts": [{"text": "hi"}]}]}
    answer = http.post(url, json=body, headers=headers("google"))
    streamed = http.post(url + "?alt=sse", json=body, headers=headers("google"))

    assert text_of("google", answer.json()[0]) == streamed_text_of("google", frames(streamed))
