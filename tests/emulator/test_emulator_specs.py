"""What the emulator says validates against the providers' published schemas, and looks like their recordings."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import anthropic.types as anthropic_types
import httpx
import jsonschema
import pytest
import yaml
from emulator_wire import KEYS, PROVIDERS, ask, frames, headers, request_of

from emulator_process import EmulatorHandle

WIRE = Path(__file__).resolve().parents[3] / "shared" / "wire"
PROMPTS = {
    "text": {},
    "tools": {"text": "use get_weather and get_time in parallel"},
    "refusal": {"text": "[emulator refuse=refusal] hi"},
    "cut": {"text": "[emulator output_tokens=500] hi"},
}
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

pytestmark = pytest.mark.skipif(not WIRE.exists(), reason="the folder ../shared/wire is not here")


@cache
def spec(name: str) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return nullable(yaml.load((WIRE / "specs" / name).read_text(), loader))


def nullable(found: Any) -> Any:
    """OpenAPI 3.0's `nullable`, which these 3.1 documents still use in places, as JSON Schema says it."""
    if isinstance(found, dict):
        made = {key: nullable(value) for key, value in found.items()}
        return {"anyOf": [made, {"type": "null"}]} if made.get("nullable") is True else made
    return [nullable(value) for value in found] if isinstance(found, list) else found


@cache
def validator(name: str, schema: str) -> Any:
    if name.endswith(".json"):
        document = discovery(json.loads((WIRE / "specs" / name).read_text())["schemas"])
        schema = next(title for title in document if title.endswith(schema))
        components: Any = {"schemas": document}
    else:
        components = spec(name)["components"]
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": components})


def discovery(found: Any) -> Any:
    """Google's discovery schemas as JSON schemas: references by name, 64-bit numbers as strings."""
    if isinstance(found, dict):
        made = {key: discovery(value) for key, value in found.items() if key != "id" or isinstance(value, dict)}
        if isinstance(made.get("$ref"), str):
            made["$ref"] = f"#/components/schemas/{made['$ref']}"
        if made.get("type") == "any":
            del made["type"]
        return made
    return [discovery(value) for value in found] if isinstance(found, list) else found


def assert_valid(name: str, schema: str, answer: Any) -> None:
    errors = [
        f"{list(error.absolute_path)}: {error.message[:200]}"
        for found in validator(name, schema).iter_errors(answer)
        for error in [jsonschema.exceptions.best_match([found])]
        if error is not None
    ]

    assert errors == []


def chat_request(emulator: EmulatorHandle, provider: str, case: str, *, stream: bool = False, **more: Any) -> Any:
    """A request of one of the kinds in PROMPTS, in the provider's words."""
    text = PROMPTS[case].get("text", "hello")
    if case == "tools":
        names = ("get_weather", "get_time")
        match provider:
            case "anthropic":
                more["tools"] = [{"name": name, "input_schema": TOOL} for name in names]
            case "google":
                declared = [{"name": name, "parametersJsonSchema": TOOL} for name in names]
                more["tools"] = [{"functionDeclarations": declared}]
            case _:
                more["tools"] = [{"type": "function", "function": {"name": name, "parameters": TOOL}} for name in names]
    return request_of(emulator, provider, text, stream=stream, **more)


@pytest.mark.parametrize("case", PROMPTS)
@pytest.mark.parametrize("provider", ["openai", "openrouter"])
def test_chat_validates(emulator: EmulatorHandle, http: httpx.Client, provider: str, case: str) -> None:
    """Whole chat answers and every chunk of streamed ones validate against the provider's OpenAPI."""
    name, schemas = {
        "openai": ("openai.openapi.yaml", ("CreateChatCompletionResponse", "CreateChatCompletionStreamResponse")),
        "openrouter": ("openrouter.openapi.yaml", ("ChatResult", "ChatStreamChunk")),
    }[provider]
    whole = http.request(**chat_request(emulator, provider, case))
    streamed = http.request(**chat_request(emulator, provider, case, stream=True))

    assert_valid(name, schemas[0], whole.json())
    for chunk in frames(streamed):
        if chunk != "[DONE]":
            assert_valid(name, schemas[1], chunk)


@pytest.mark.parametrize("model", ["anthropic/claude-sonnet-4.5", "google/gemini-2.5-pro", "openai/gpt-5"])
def test_reasoning_validates(emulator: EmulatorHandle, http: httpx.Client, model: str) -> None:
    """OpenRouter's reasoning details validate for every format."""
    request = request_of(emulator, "openrouter", model=model, reasoning={"effort": "high"})
    streamed = request_of(emulator, "openrouter", model=model, reasoning={"effort": "high"}, stream=True)

    assert_valid("openrouter.openapi.yaml", "ChatResult", http.request(**request).json())
    for chunk in frames(http.request(**streamed)):
        if chunk != "[DONE]":
            assert_valid("openrouter.openapi.yaml", "ChatStreamChunk", chunk)


@pytest.mark.parametrize("provider", ["openai", "openrouter"])
def test_embeddings_validate(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """Embedding answers validate."""
    model = "text-embedding-3-small" if provider == "openai" else "openai/text-embedding-3-small"
    answer = http.post(
        emulator.base(provider) + "/embeddings", json={"model": model, "input": "x"}, headers=headers(provider)
    ).json()

    if provider == "openai":
        assert_valid("openai.openapi.yaml", "CreateEmbeddingResponse", answer)
    else:
        paths = spec("openrouter.openapi.yaml")["paths"]
        schema = paths["/embeddings"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer, {**schema, "components": spec("openrouter.openapi.yaml")["components"]})


def event_schema(kind: str) -> str:
    """The name of the schema of one streamed event: the union of all says nothing useful about a mistake."""
    schemas = spec("openai.openapi.yaml")["components"]["schemas"]
    for branch in schemas["ResponseStreamEvent"]["anyOf"]:
        name = branch["$ref"].rsplit("/", 1)[1]
        if kind in schemas[name]["properties"]["type"]["enum"]:
            return str(name)
    raise AssertionError(f"no event {kind}")


@pytest.mark.parametrize("case", ["text", "tools", "cut"])
def test_responses_validate(emulator: EmulatorHandle, http: httpx.Client, case: str) -> None:
    """OpenAI's Responses validate, whole and event by event."""
    body: dict[str, Any] = {
        "model": "gpt-4.1-mini",
        "input": PROMPTS[case].get("text", "hello"),
        "max_output_tokens": 60,
    }
    if case == "tools":
        body["tools"] = [
            {"type": "function", "name": "get_weather", "parameters": TOOL, "strict": True, "description": "Weather"}
        ]
    url = emulator.base("openai") + "/responses"
    whole = http.post(url, json=body, headers=headers("openai"))
    streamed = http.post(url, json={**body, "stream": True}, headers=headers("openai"))

    assert_valid("openai.openapi.yaml", "Response", whole.json())
    for event in frames(streamed):
        if event.get("response", {}).get("usage", {}) is None:
            del event["response"]["usage"]  # null in every recorded response.created, though the schema has no null
        assert_valid("openai.openapi.yaml", event_schema(event["type"]), event)


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/models", "ModelsListResponse"),
        ("/models/user", "ModelsListResponse"),
        ("/embeddings/models", "ModelsListResponse"),
    ],
)
def test_model_lists_validate(emulator: EmulatorHandle, http: httpx.Client, path: str, schema: str) -> None:
    """OpenRouter's model lists validate and are not empty."""
    answer = http.get(emulator.base("openrouter") + path, headers=headers("openrouter")).json()

    assert answer["data"]
    assert_valid("openrouter.openapi.yaml", schema, answer)


@pytest.mark.parametrize("case", PROMPTS)
def test_google_validates(emulator: EmulatorHandle, http: httpx.Client, case: str) -> None:
    """Gemini answers validate against the published schemas, whole and chunk by chunk."""
    whole = http.request(**chat_request(emulator, "google", case))
    streamed = http.request(**chat_request(emulator, "google", case, stream=True))

    for answer in [whole.json(), *frames(streamed)]:
        assert_valid("gemini-generate-content.schemas.json", "GenerateContentResponse", answer)


@pytest.mark.parametrize("case", PROMPTS)
def test_anthropic_validates(emulator: EmulatorHandle, http: httpx.Client, case: str) -> None:
    """Messages and their events validate strictly against the SDK's types."""
    whole = http.request(**chat_request(emulator, "anthropic", case))
    streamed = http.request(**chat_request(emulator, "anthropic", case, stream=True))
    kinds = {
        "message_start": anthropic_types.RawMessageStartEvent,
        "content_block_start": anthropic_types.RawContentBlockStartEvent,
        "content_block_delta": anthropic_types.RawContentBlockDeltaEvent,
        "content_block_stop": anthropic_types.RawContentBlockStopEvent,
        "message_delta": anthropic_types.RawMessageDeltaEvent,
        "message_stop": anthropic_types.RawMessageStopEvent,
    }

    anthropic_types.Message.model_validate(whole.json())
    for event in frames(streamed):
        if event["type"] != "ping":
            kinds[event["type"]].model_validate(event)


# recordings


def shape(value: Any, path: str = "") -> set[str]:
    """Every place of a JSON value as `a.b[].c`; what is inside arguments and schemas is not shape."""
    if isinstance(value, dict):
        places = set()
        for name, inner in value.items():
            here = f"{path}.{name}" if path else name
            places.add(here)
            if name not in {"args", "input", "tools", "metadata"}:
                places |= shape(inner, here)
        return places
    if isinstance(value, list):
        return {place for inner in value for place in shape(inner, f"{path}[]")}
    return set()


@cache
def recorded_shapes(provider: str) -> tuple[tuple[frozenset[str], ...], tuple[frozenset[str], ...]]:
    """The shapes of recorded chat answers: (whole ones, streams united chunk by chunk)."""
    whole, streamed = [], []
    paths = {
        "openai": "chat/completions",
        "openrouter": "chat/completions",
        "anthropic": "/v1/messages",
        "google": "GenerateContent",
    }
    for line in (WIRE / "recordings" / "index.jsonl").read_text().splitlines():
        row = json.loads(line)
        url = str(row["url"] or "")
        if row["provider"] != provider or row["status"] != 200:
            continue
        if paths[provider].lower() not in url.lower() or "count_tokens" in url:
            continue
        body = json.loads((WIRE / "recordings" / row["id"]).read_text())["response"]["body"].strip()
        if body.startswith("{"):
            whole.append(frozenset(shape(json.loads(body))))
        elif "data: {" in body:
            lines = body.replace("\r\n", "\n").split("\n")
            chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
            streamed.append(frozenset().union(*(shape(chunk) for chunk in chunks)))
    return tuple(whole), tuple(streamed)


@pytest.mark.recorded
@pytest.mark.parametrize("case", ["text", "tools"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_shapes_are_recorded(emulator: EmulatorHandle, http: httpx.Client, provider: str, case: str) -> None:
    """No field is invented, and every field that all recordings share is there."""
    whole_shapes, stream_shapes = recorded_shapes(provider)
    whole = shape(http.request(**chat_request(emulator, provider, case)).json())
    chunks = frames(http.request(**chat_request(emulator, provider, case, stream=True)))
    streamed = set().union(*(shape(chunk) for chunk in chunks if chunk != "[DONE]"))

    assert whole - set().union(*whole_shapes) == set()
    assert streamed - set().union(*stream_shapes) == set()
    content = {"choices[].message.content", "content[].text"}
    assert frozenset.intersection(*whole_shapes) - content <= whole
    assert frozenset.intersection(*stream_shapes) <= streamed


@pytest.mark.recorded
@pytest.mark.parametrize("provider", PROVIDERS)
def test_event_order_is_recorded(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """A stream starts and ends as the recorded ones do."""
    text = ask(http, emulator, provider, stream=True).text
    endings = {
        "openai": "data: [DONE]\n\n",
        "openrouter": "data: [DONE]\n\n",
        "anthropic": "}\n\n",
        "google": "}\r\n\r\n",
    }

    assert text.endswith(endings[provider])
    if provider == "anthropic":
        kinds = [line.removeprefix("event: ") for line in text.split("\n") if line.startswith("event: ")]
        assert kinds[:3] == ["message_start", "content_block_start", "ping"]
        assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert ("\r\n" in text) is (provider == "google")


@pytest.mark.recorded
@pytest.mark.parametrize("provider", PROVIDERS)
def test_refusal_of_a_wrong_key_is_recorded(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """An unknown key gets the recorded status, envelope and code."""
    answer = http.request(**request_of(emulator, provider, key="wrong-" + KEYS[provider]))
    expected = {
        "openai": (401, "invalid_api_key"),
        "anthropic": (401, "authentication_error"),
        "google": (400, "API_KEY_INVALID"),
        "openrouter": (401, "User not found."),
    }[provider]

    assert answer.status_code == expected[0]
    assert expected[1] in answer.text
