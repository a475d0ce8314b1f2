"""The emulated /responses of OpenAI and OpenRouter: every kind of answer validates, errors come as they do there."""

import json
from typing import Any

import httpx
import pytest
from emulator_wire import frames, headers
from test_emulator_specs import TOOL, WIRE, assert_valid, spec

from emulator_process import EmulatorHandle

MODELS = {"openai": "gpt-5-mini", "openrouter": "openai/gpt-5-mini"}
SCHEMA = {
    "type": "object", "properties": {"urgent": {"type": "boolean"}}, "required": ["urgent"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "name": name, "parameters": TOOL, "strict": False, "description": "d"}
    for name in ("get_weather", "get_time")
]
CASES: dict[str, dict[str, Any]] = {
    "text": {"input": "hello"},
    "items": {"input": [
        {"role": "user", "content": [{"type": "input_text", "text": "What is this?"},
                                     {"type": "input_image", "image_url": "data:image/png;base64,AA==",
                                      "detail": "auto"}]},
    ], "instructions": "Be brief."},
    "tools": {"input": "use get_weather and get_time in parallel", "tools": TOOLS},
    "reasoning": {"input": "think", "reasoning": {"effort": "high", "summary": "auto"},
                  "include": ["reasoning.encrypted_content"], "store": False},
    "schema": {"input": "a ticket", "text": {"format": {"type": "json_schema", "name": "t", "schema": SCHEMA}}},
    "refusal": {"input": "[emulator refuse=refusal] hi"},
    "cut": {"input": "[emulator output_tokens=500] hi", "max_output_tokens": 60},
}


def ask(
    emulator: EmulatorHandle, http: httpx.Client, provider: str, body: dict[str, Any], *, stream: bool = False
) -> httpx.Response:
    body = {"model": MODELS[provider], **body}
    if provider == "openrouter":
        body.pop("store", None)
    if stream:
        body["stream"] = True
    return http.post(emulator.base(provider) + "/responses", json=body, headers=headers(provider))


def schemas(provider: str) -> tuple[str, str]:
    """The provider's document, and what it calls a whole answer."""
    return f"{provider}.openapi.yaml", "Response" if provider == "openai" else "OpenResponsesResult"


def event_schema(provider: str, kind: str) -> str:
    """The name of the schema of one streamed event."""
    components = spec(f"{provider}.openapi.yaml")["components"]["schemas"]
    if provider == "openrouter":
        return str(components["StreamEvents"]["discriminator"]["mapping"][kind].rsplit("/", 1)[1])
    for branch in components["ResponseStreamEvent"]["anyOf"]:
        name = branch["$ref"].rsplit("/", 1)[1]
        if kind in components[name]["properties"]["type"]["enum"]:
            return str(name)
    raise AssertionError(f"no event {kind}")


def check_events(provider: str, answer: httpx.Response) -> list[Any]:
    found = [event for event in frames(answer) if event != "[DONE]"]
    for event in found:
        checked = json.loads(json.dumps(event))
        if checked.get("response", {}).get("usage", {}) is None:
            del checked["response"]["usage"]  # null in recorded response.created, though no schema has a null
        assert_valid(f"{provider}.openapi.yaml", event_schema(provider, event["type"]), checked)
    assert [event["sequence_number"] for event in found] == sorted({event["sequence_number"] for event in found})
    return found


@pytest.mark.skipif(not WIRE.exists(), reason="the folder ../shared/wire is not here")
@pytest.mark.parametrize("provider", MODELS)
@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_answer_validates(
    emulator: EmulatorHandle, http: httpx.Client, provider: str, case: str
) -> None:
    """Whole and event by event, by the provider's own OpenAPI; both say the same."""
    document, schema = schemas(provider)
    whole = ask(emulator, http, provider, CASES[case])
    streamed = ask(emulator, http, provider, CASES[case], stream=True)

    assert (whole.status_code, streamed.status_code) == (200, 200), streamed.text[:3000]
    assert_valid(document, schema, whole.json())
    events = check_events(provider, streamed)
    last = events[-1]["response"]
    assert events[-1]["type"] == f"response.{whole.json()['status']}"
    assert [item["type"] for item in last["output"]] == [item["type"] for item in whole.json()["output"]]
    assert last["usage"]["output_tokens"] == whole.json()["usage"]["output_tokens"]
    assert (b"event: " in streamed.content) == (provider == "openai")
    assert streamed.content.endswith(b"data: [DONE]\n\n") == (provider == "openrouter")


@pytest.mark.parametrize("provider", MODELS)
def test_each_case_is_what_it_says(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """A refusal refuses, a schema is kept, tools are called, thoughts are encrypted, a limit cuts."""
    got = {case: ask(emulator, http, provider, body).json() for case, body in CASES.items()}
    items = {case: {item["type"]: item for item in answer["output"]} for case, answer in got.items()}

    assert items["refusal"]["message"]["content"][0]["type"] == "refusal"
    assert isinstance(json.loads(items["schema"]["message"]["content"][0]["text"])["urgent"], bool)
    assert {item["name"] for item in got["tools"]["output"] if item["type"] == "function_call"} == {
        "get_weather", "get_time",
    }
    assert items["reasoning"]["reasoning"]["encrypted_content"]
    assert got["reasoning"]["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
    assert (got["cut"]["status"], got["cut"]["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert got["cut"]["usage"]["output_tokens"] == 60


def test_openai_gives_encrypted_reasoning_to_who_asks(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """Without `include` the item has none: it is found again by its id."""
    body = {key: value for key, value in CASES["reasoning"].items() if key != "include"}
    for stream in (False, True):
        assert "encrypted_content" not in ask(emulator, http, "openai", body, stream=stream).text


@pytest.mark.parametrize(
    ("provider", "body", "param"),
    [
        ("openai", {}, "input"),
        ("openai", {"input": []}, "input"),
        ("openai", {"input": "a", "max_output_tokens": 15}, "max_output_tokens"),
        ("openrouter", {}, "input"),
        ("openrouter", {"input": "a", "previous_response_id": "resp_1"}, "previous_response_id"),
    ],
)
def test_what_is_refused(
    emulator: EmulatorHandle, http: httpx.Client, provider: str, body: dict[str, Any], param: str
) -> None:
    """A request without input, a limit that is too small, and state where there is none."""
    answer = ask(emulator, http, provider, body)

    assert answer.status_code == 400
    assert param in answer.json()["error"]["message"]


@pytest.mark.parametrize("provider", MODELS)
@pytest.mark.parametrize("error", ["rate_limit", "overloaded", "server_500"])
def test_an_error_in_a_stream(emulator: EmulatorHandle, http: httpx.Client, provider: str, error: str) -> None:
    """`error`, then `response.failed`, numbered higher than what came before, and no good end."""
    emulator.add_fault({"name": "error_mid_stream", "error": error, "after": 1}, provider=provider)
    answer = ask(emulator, http, provider, {"input": "hello"}, stream=True)
    events = [event for event in frames(answer) if event != "[DONE]"]

    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    failed = events[-1]["response"]
    assert failed["status"] == "failed"
    assert failed["error"]["message"]
    assert failed["id"] == events[0]["response"]["id"]
    numbers = [event["sequence_number"] for event in events]
    assert numbers == sorted(set(numbers))
    assert b"response.completed" not in answer.content


@pytest.mark.skipif(not WIRE.exists(), reason="the folder ../shared/wire is not here")
def test_openrouters_error_events_validate(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """By its OpenAPI, both of them."""
    emulator.add_fault({"name": "error_mid_stream", "error": "rate_limit", "after": 1}, provider="openrouter")
    events = check_events("openrouter", ask(emulator, http, "openrouter", {"input": "hello"}, stream=True))

    assert events[-2]["code"] == "rate_limit_exceeded"
