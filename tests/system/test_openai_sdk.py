"""The official `openai` package against the gateway: it must not notice that Ownkey is there."""

import asyncio
import json
import time
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel
from tests.deployment import Deployment, TestWorkspace

PROMPT: Any = [{"role": "user", "content": "Say something short about pelicans."}]
WEATHER: Any = [{
    "type": "function",
    "function": {
        "name": "get_weather", "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
                       "additionalProperties": False},
    },
}]
ROUTES = [
    ("openai/gpt-4.1-mini", "openrouter", "openrouter:openrouter"),
    ("openai/gpt-4.1-mini", "openai", "direct:openai"),
    ("anthropic/claude-haiku-4.5", "anthropic", "direct:anthropic"),
    ("google/gemini-2.5-flash", "google", "direct:google"),
]


@pytest.fixture(scope="module")
def workspaces(desk: Deployment) -> dict[str, TestWorkspace]:
    """One workspace a direct provider, and one with OpenRouter alone."""
    made = {"openrouter": desk.add_workspace("openrouter only")}
    for provider in ("openai", "anthropic", "google"):
        made[provider] = desk.add_workspace(provider, providers=("openrouter", provider))
    return made


@pytest.mark.parametrize(("model", "provider", "route"), ROUTES)
def test_a_chat_answer_is_whole(
    workspaces: dict[str, TestWorkspace], model: str, provider: str, route: str
) -> None:
    """T1, T3, T14, X8: a chat call is answered over the expected route, with usage and a receipt."""
    raw = workspaces[provider].client().chat.completions.with_raw_response.create(model=model, messages=PROMPT)
    answer = raw.parse()

    assert raw.headers["x-ownkey-route"] == route
    assert raw.headers["x-ownkey-funding"] == "byok"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    receipt = workspaces[provider].receipt(raw.headers["x-ownkey-receipt"])
    assert receipt["code"] is None
    assert len(receipt["attempts"]) == 1


@pytest.mark.parametrize(("model", "provider", "route"), ROUTES)
def test_a_stream_ends_with_usage_where_it_was_asked_for(
    workspaces: dict[str, TestWorkspace], model: str, provider: str, route: str
) -> None:
    """X4: deltas, one finish, and a usage chunk only for callers who asked."""
    client = workspaces[provider].client()
    for asked in (True, False):
        options: Any = {"stream_options": {"include_usage": True}} if asked else {}
        chunks = list(client.chat.completions.create(model=model, messages=PROMPT, stream=True, **options))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        finishes = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]

        assert text
        # OpenRouter repeats its last choice, finish reason included, in the usage chunk.
        assert finishes == ["stop"] or (asked and provider == "openrouter" and finishes == ["stop", "stop"])
        assert any(c.usage for c in chunks) == asked


@pytest.mark.parametrize(("model", "provider", "route"), ROUTES)
@pytest.mark.parametrize("stream", [False, True])
def test_tools_are_called_and_their_results_understood(
    workspaces: dict[str, TestWorkspace], model: str, provider: str, route: str, stream: bool
) -> None:
    """X8: a tool call comes out with an id, a name and JSON arguments, and its result can be sent back."""
    client = workspaces[provider].client()
    messages: Any = [{"role": "user", "content": "call the tool get_weather for Paris"}]
    asked: Any = {"model": model, "messages": messages, "tools": WEATHER, "tool_choice": "required"}
    if stream:
        name, arguments, call_id = "", "", ""
        for chunk in client.chat.completions.create(stream=True, **asked):
            for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
                call_id = call.id or call_id
                assert call.function is not None
                name = call.function.name or name
                arguments += call.function.arguments or ""
    else:
        answer = client.chat.completions.create(**asked)
        assert answer.choices[0].finish_reason == "tool_calls"
        made = answer.choices[0].message.tool_calls
        assert made
        first: Any = made[0]
        name, arguments, call_id = first.function.name, first.function.arguments, first.id

    assert name == "get_weather"
    assert isinstance(json.loads(arguments), dict)
    again = client.chat.completions.create(model=model, tools=WEATHER, messages=[
        *messages,
        {"role": "assistant", "tool_calls": [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}]},
        {"role": "tool", "tool_call_id": call_id, "content": "sunny, 21 degrees"},
    ])
    assert again.choices[0].finish_reason in ("stop", "tool_calls")


class Triage(BaseModel):
    category: Literal["billing", "bug", "question"]
    urgent: bool


@pytest.mark.parametrize(("model", "provider", "route"), ROUTES)
def test_structured_output_parses(
    workspaces: dict[str, TestWorkspace], model: str, provider: str, route: str
) -> None:
    """T18, X8: a JSON schema is honoured, so that the SDK's own parser returns a typed value."""
    answer = workspaces[provider].client().chat.completions.parse(
        model=model, response_format=Triage,
        messages=[{"role": "user", "content": "My invoice is wrong and I am furious."}],
    )

    parsed = answer.choices[0].message.parsed
    assert isinstance(parsed, Triage)


def test_several_answers_come_back(workspaces: dict[str, TestWorkspace]) -> None:
    """`n` asks for several answers and is passed through with its bound multiplied."""
    answer = workspaces["openai"].client().chat.completions.create(model="gpt-4.1-mini", messages=PROMPT, n=3)

    assert [c.index for c in answer.choices] == [0, 1, 2]


def test_an_image_is_seen(workspaces: dict[str, TestWorkspace]) -> None:
    """An inline image reaches every provider that takes images."""
    pixel = (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    content: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}"}},
    ]
    for model, provider, route in ROUTES:
        raw = workspaces[provider].client().chat.completions.with_raw_response.create(
            model=model, messages=[{"role": "user", "content": content}]
        )
        assert raw.headers["x-ownkey-route"] == route
        assert raw.parse().choices[0].message.content


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_are_the_same_on_both_routes(
    workspaces: dict[str, TestWorkspace], encoding: Literal["float", "base64"]
) -> None:
    """T18, T19: embeddings in both encodings, and the same vectors over the direct route and over OpenRouter."""
    vectors = []
    for provider in ("openai", "openrouter"):
        answer = workspaces[provider].client().embeddings.create(
            model="openai/text-embedding-3-small", input=["pelican", "invoice"], encoding_format=encoding,
            dimensions=64,
        )
        assert len(answer.data) == 2
        assert answer.usage.prompt_tokens > 0
        vectors.append([item.embedding for item in answer.data])

    assert vectors[0] == vectors[1]


def test_a_task_is_a_model(workspaces: dict[str, TestWorkspace]) -> None:
    """T18, T19, X8: `task:<name>` picks the product's model for the task, for chat and for embeddings."""
    client = workspaces["openrouter"].client()
    listed = [model.id for model in client.models.list()]
    assert "task:auto_triage" in listed

    chat = client.chat.completions.create(model="task:auto_triage", messages=PROMPT)
    embedded = client.embeddings.create(model="task:knowledge", input="a question")

    assert "gpt-4.1-mini" in chat.model
    assert len(embedded.data[0].embedding) > 0


def test_errors_are_the_sdks_own_types(desk: Deployment, workspaces: dict[str, TestWorkspace]) -> None:
    """X8: the SDK raises its typed error for each refusal, with our code inside."""
    good = workspaces["openrouter"]

    def raised(kind: type[openai.APIStatusError], model: str, **options: Any) -> openai.APIStatusError:
        with pytest.raises(kind) as info:
            good.client(**options).chat.completions.create(model=model, messages=PROMPT)
        return info.value

    with pytest.raises(openai.AuthenticationError) as unauthenticated:
        openai.OpenAI(
            api_key="ok_nonsense", base_url=desk.url + "/v1", max_retries=0,
            http_client=openai.DefaultHttpxClient(trust_env=False),
        ).models.list()
    assert unauthenticated.value.code == "invalid_token"
    assert raised(openai.NotFoundError, "no-such-model").code == "unknown_model"
    assert raised(openai.PermissionDeniedError, "task:translation").code == "feature_disabled"
    good.set_cap("0")
    try:
        paused = raised(openai.APIStatusError, "task:auto_triage")
        assert (paused.status_code, paused.code) == (402, "ai_paused")
    finally:
        good.set_cap(None)
    good = desk.add_workspace("rejected", keys={"openrouter": "sk-or-v1-" + "6b" * 32})
    desk.emulator.add_fault("auth_401", times=None, provider="openrouter")
    rejected = raised(openai.InternalServerError, "openai/gpt-4.1-mini")
    assert (rejected.status_code, rejected.code) == (502, "credential_rejected")


def test_the_sdk_does_not_retry_what_no_retry_can_heal(
    desk: Deployment, workspaces: dict[str, TestWorkspace]
) -> None:
    """402 and 502 answers are asked once, also by an SDK that retries."""
    workspace = desk.add_workspace("retries", keys={"openrouter": "sk-or-v1-" + "9e" * 32})
    workspace.set_cap("0")
    client = workspace.client(max_retries=2)

    with pytest.raises(openai.APIStatusError):
        client.chat.completions.create(model="task:auto_triage", messages=PROMPT)

    assert len(workspace.receipts()) == 1


def test_a_client_that_gives_up_is_settled(desk: Deployment, workspaces: dict[str, TestWorkspace]) -> None:
    """X1: a client's timeout is a hang-up: the call is settled, leaves a receipt and holds nothing."""
    workspace = desk.add_workspace("impatient", cap_usd="5", keys={"openrouter": "sk-or-v1-" + "7d" * 32})
    desk.emulator.set({"latency_s": 3.0}, provider="openrouter")

    with pytest.raises(openai.APITimeoutError):
        workspace.client(timeout=0.5).chat.completions.create(model="openai/gpt-4.1-mini", messages=PROMPT)

    until = time.monotonic() + 10
    while not (found := workspace.receipts()) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(found) == 1
    assert found[0]["hung_up"] is True
    assert workspace.cap()["held_nusd"] == "0"


async def test_the_async_client_streams_many_at_once(workspaces: dict[str, TestWorkspace]) -> None:
    """The async client: thirty streams at once, each whole and each its own."""
    client = workspaces["openrouter"].async_client()

    async def one(n: int) -> str:
        stream = await client.chat.completions.create(
            model="openai/gpt-4.1-mini", stream=True, messages=[{"role": "user", "content": f"number {n}, please"}]
        )
        return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    texts = await asyncio.gather(*(one(n) for n in range(30)))

    assert all(texts)
    await client.close()


def test_openrouters_surface_answers_in_its_shape(workspaces: dict[str, TestWorkspace]) -> None:
    """O3: under /api/v1 the usage carries OpenRouter's cost, and errors have an integer code."""
    workspace = workspaces["openrouter"]
    answer = workspace.post("/api/v1/chat/completions", {"model": "openai/gpt-4.1-mini", "messages": PROMPT})
    refused = workspace.post("/api/v1/chat/completions", {"model": "nothing", "messages": PROMPT})

    assert answer.status_code == 200
    assert answer.json()["usage"]["cost"] > 0
    assert refused.status_code == 404
    assert refused.json()["error"]["code"] == 404
    assert refused.json()["error"]["metadata"]["ownkey_code"] == "unknown_model"
