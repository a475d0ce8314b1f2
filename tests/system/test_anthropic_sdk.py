"""The official `anthropic` package against the gateway: over every provider it must not notice that Ownkey is there."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx
import pytest
from tests.deployment import Deployment, TestWorkspace

PROMPT: Any = [{"role": "user", "content": "Say something short about pelicans."}]
WEATHER: Any = {
    "name": "get_weather", "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
                     "additionalProperties": False},
}
CLOCK: Any = {**WEATHER, "name": "get_time", "description": "The time in a city"}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ROUTES = [
    ("anthropic/claude-haiku-4.5", "anthropic", "direct:anthropic"),
    ("anthropic/claude-haiku-4.5", "openrouter", "openrouter:openrouter"),
    ("openai/gpt-4.1-mini", "openai", "direct:openai"),
    ("google/gemini-2.5-flash", "google", "direct:google"),
]
EVERYWHERE = pytest.mark.parametrize(("model", "provider", "route"), ROUTES, ids=[name for _, name, _ in ROUTES])
BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


def key_of(provider: str, n: str) -> str:
    return {"openrouter": "sk-or-v1-", "openai": "sk-proj-", "anthropic": "sk-ant-api03-", "google": "AQ.Ab8"}[
        provider
    ] + n * 40


@pytest.fixture(scope="module")
def workspaces(desk: Deployment) -> dict[str, TestWorkspace]:
    """One workspace a direct provider, and one with OpenRouter alone; each with keys of its own, so own bills."""
    made = {}
    for n, provider in enumerate(("openrouter", "openai", "anthropic", "google")):
        keys = {name: key_of(name, f"e{n}") for name in ("openrouter", provider)}
        made[provider] = desk.add_workspace(f"messages over {provider}", providers=tuple(keys), keys=keys)
    return made


def client_of(workspace: TestWorkspace, base: str = "", **options: Any) -> anthropic.Anthropic:
    named: Any = {"api_key": workspace.token, "max_retries": 0, "timeout": 30, **options}
    return anthropic.Anthropic(
        base_url=workspace.deployment.url + base, http_client=anthropic.DefaultHttpxClient(trust_env=False), **named
    )


def ask(workspace: TestWorkspace, streamed: bool, base: str = "", **asked: Any) -> tuple[Any, Any]:
    """The final message and the answer's headers, whole or through the SDK's own accumulator."""
    client = client_of(workspace, base)
    asked = {"max_tokens": 300, "messages": PROMPT, **asked}
    if not streamed:
        raw = client.messages.with_raw_response.create(**asked)
        return raw.parse(), raw.headers
    with client.messages.stream(**asked) as stream:
        return stream.get_final_message(), stream.response.headers


@contextmanager
def billed_alike(desk: Deployment, workspace: TestWorkspace, provider: str, route: str) -> Iterator[list[Any]]:
    """What the emulator bills inside this block is what the receipts of the answers, appended to the list, say."""
    key = key_of("openrouter" if route.startswith("openrouter") else provider, _mark(workspace))
    before = desk.emulator.total_nusd(key)
    headers: list[Any] = []
    yield headers
    receipts = [workspace.receipt(one["x-ownkey-receipt"]) for one in headers]
    assert [one["x-ownkey-route"] for one in headers] == [route] * len(headers)
    assert all(receipt["code"] is None and len(receipt["attempts"]) == 1 for receipt in receipts)
    assert sum(int(receipt["cost_nusd"]) for receipt in receipts) == desk.emulator.total_nusd(key) - before > 0


_MARKS: dict[str, str] = {}


def _mark(workspace: TestWorkspace) -> str:
    return _MARKS[workspace.id]


@pytest.fixture(autouse=True, scope="module")
def marks(workspaces: dict[str, TestWorkspace]) -> None:
    for n, provider in enumerate(("openrouter", "openai", "anthropic", "google")):
        _MARKS[workspaces[provider].id] = f"e{n}"


@EVERYWHERE
@BOTH
def test_a_message_is_whole_and_costs_what_the_provider_bills(
    desk: Deployment, workspaces: dict[str, TestWorkspace], model: str, provider: str, route: str, streamed: bool
) -> None:
    """Text, stop, usage, model and headers; the receipt equals the bill."""
    with billed_alike(desk, workspaces[provider], provider, route) as headers:
        message, head = ask(workspaces[provider], streamed, model=model)
        headers.append(head)

    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert "".join(block.text for block in message.content)
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0
    assert head["x-ownkey-funding"] == "byok"
    attempt = workspaces[provider].receipt(head["x-ownkey-receipt"])["attempts"][0]
    assert attempt["usage"]["input"] == message.usage.input_tokens


@EVERYWHERE
@BOTH
def test_parallel_tools_are_called_and_their_results_understood(
    desk: Deployment, workspaces: dict[str, TestWorkspace], model: str, provider: str, route: str, streamed: bool
) -> None:
    """Two calls with names, ids and inputs; the SDK's own content goes back with their results."""
    messages: Any = [{"role": "user", "content": "call get_weather and get_time in parallel for Paris"}]
    asked: Any = {"model": model, "tools": [WEATHER, CLOCK]}
    with billed_alike(desk, workspaces[provider], provider, route) as headers:
        message, head = ask(workspaces[provider], streamed, messages=messages, **asked)
        headers.append(head)
        calls = [block for block in message.content if block.type == "tool_use"]
        results: Any = [
            {"type": "tool_result", "tool_use_id": calls[0].id, "content": [{"type": "text", "text": "sunny"}]},
            {"type": "tool_result", "tool_use_id": calls[1].id, "content": "no clock", "is_error": True},
        ]
        history: Any = [
            *messages, {"role": "assistant", "content": message.content}, {"role": "user", "content": results},
        ]
        after, head = ask(workspaces[provider], streamed, messages=history, **asked)
        headers.append(head)

    assert message.stop_reason == "tool_use"
    assert [call.name for call in calls] == ["get_weather", "get_time"]
    assert all("city" in call.input for call in calls)
    assert len({call.id for call in calls}) == 2
    assert after.stop_reason == "end_turn"


@BOTH
def test_a_forced_single_tool_is_a_tool_use_everywhere(workspaces: dict[str, TestWorkspace], streamed: bool) -> None:
    """`tool_choice` any and tool, whatever the provider calls them."""
    for model, provider, route in ROUTES:
        for choice in ({"type": "any"}, {"type": "tool", "name": "get_time"}):
            message, head = ask(
                workspaces[provider], streamed, model=model, tools=[WEATHER, CLOCK], tool_choice=choice
            )
            assert head["x-ownkey-route"] == route
            assert message.stop_reason == "tool_use"
            names = {block.name for block in message.content if block.type == "tool_use"}
            assert names == {"get_time"} if choice["type"] == "tool" else names


@pytest.mark.parametrize(
    ("model", "provider", "route", "thinking"),
    [
        ("anthropic/claude-sonnet-4.5", "anthropic", "direct:anthropic", {"type": "enabled", "budget_tokens": 1024}),
        ("anthropic/claude-sonnet-4.5", "openrouter", "openrouter:openrouter",
         {"type": "enabled", "budget_tokens": 1024}),
        ("google/gemini-2.5-flash", "google", "direct:google", {"type": "enabled", "budget_tokens": 1024}),
    ],
    ids=["anthropic", "openrouter", "google"],
)
@BOTH
def test_thoughts_go_round(
    desk: Deployment, workspaces: dict[str, TestWorkspace], model: str, provider: str, route: str,
    thinking: dict[str, Any], streamed: bool,
) -> None:
    """Signed thinking comes out as a block; sent back before a tool's result, the next turn takes the same route."""
    messages: Any = [{"role": "user", "content": "think, then call the tool get_weather for Paris"}]
    asked: Any = {"model": model, "tools": [WEATHER], "thinking": thinking, "max_tokens": 3_000}
    with billed_alike(desk, workspaces[provider], provider, route) as headers:
        message, head = ask(workspaces[provider], streamed, messages=messages, **asked)
        headers.append(head)
        call = next(block for block in message.content if block.type == "tool_use")
        history: Any = [
            *messages, {"role": "assistant", "content": message.content},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]},
        ]
        after, head = ask(workspaces[provider], streamed, messages=history, **asked)
        headers.append(head)

    thought = message.content[0]
    assert thought.type == "thinking"
    assert thought.thinking
    assert thought.signature
    assert after.stop_reason == "end_turn"


@BOTH
def test_a_signature_that_gemini_demands_is_not_lost(desk: Deployment, streamed: bool) -> None:
    """Gemini 3 refuses a tool turn without its thought signature: with the SDK's content the direct route is taken,
    without the block that carries it that route is skipped by name. (The emulator has no such model: both end in 404.)
    """
    keys = {name: key_of(name, f"f{int(streamed)}") for name in ("openrouter", "google")}
    workspace = desk.add_workspace("gemini three", providers=tuple(keys), keys=keys)
    messages: Any = [{"role": "user", "content": "call the tool get_weather for Paris"}]
    message, _ = ask(workspace, streamed, model="google/gemini-2.5-flash", tools=[WEATHER], messages=messages)
    call = next(block for block in message.content if block.type == "tool_use")
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]}

    def attempts(content: Any) -> tuple[list[str], list[Any]]:
        history: Any = [*messages, {"role": "assistant", "content": content}, result]
        with pytest.raises(anthropic.NotFoundError) as refused:
            ask(workspace, streamed, model="google/gemini-3-pro-preview", tools=[WEATHER], messages=history)
        told: Any = refused.value.body
        skipped = workspace.receipt(told["error"]["receipt"])["skips"]
        return [attempt["provider"] for attempt in told["error"]["attempts"]], [skip["why"] for skip in skipped]

    assert attempts(message.content) == (["google", "openrouter"], [])
    tried, skipped = attempts([call])
    assert tried == ["openrouter"]
    assert any("reasoning_details" in why for why in skipped)


def test_another_makers_thoughts_do_not_break_a_conversation(workspaces: dict[str, TestWorkspace]) -> None:
    """A turn that Gemini thought through is continued by Claude: its thoughts stay behind, and the receipt says so."""
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    message, _ = ask(
        workspaces["google"], True, model="google/gemini-2.5-flash", thinking=thinking, max_tokens=3_000,
        messages=[{"role": "user", "content": "think about it"}],
    )
    assert message.content[0].type == "thinking"
    history: Any = [
        {"role": "user", "content": "think about it"}, {"role": "assistant", "content": message.content},
        {"role": "user", "content": "go on"},
    ]
    for provider in ("anthropic", "openrouter"):
        after, head = ask(workspaces[provider], False, model="anthropic/claude-haiku-4.5", messages=history)
        assert after.stop_reason == "end_turn"
        attempt = workspaces[provider].receipt(head["x-ownkey-receipt"])["attempts"][0]
        assert attempt["dropped"] == ["messages[].content[].thinking"]


@EVERYWHERE
def test_images_and_system_reach_every_provider(
    workspaces: dict[str, TestWorkspace], model: str, provider: str, route: str
) -> None:
    """An inline image and a system prompt in blocks."""
    content: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
    ]
    plain, _ = ask(workspaces[provider], False, model=model, messages=[{"role": "user", "content": "What is this?"}])
    message, head = ask(
        workspaces[provider], False, model=model, messages=[{"role": "user", "content": content}],
        system=[{"type": "text", "text": "You are brief."}],
    )

    assert head["x-ownkey-route"] == route
    assert message.usage.input_tokens > plain.usage.input_tokens
    assert message.content[0].text


@EVERYWHERE
@BOTH
def test_a_schema_is_obeyed(
    workspaces: dict[str, TestWorkspace], model: str, provider: str, route: str, streamed: bool
) -> None:
    """`output_config.format` gives JSON of that shape from every provider."""
    schema = {
        "type": "object", "properties": {"category": {"enum": ["bug", "question"], "type": "string"}},
        "required": ["category"], "additionalProperties": False,
    }
    message, head = ask(
        workspaces[provider], streamed, model=model,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )

    assert head["x-ownkey-route"] == route
    assert json.loads("".join(block.text for block in message.content))["category"] in ("bug", "question")


@pytest.mark.parametrize("provider", ["anthropic", "openrouter"])
def test_the_prompt_cache_is_used_and_billed(
    desk: Deployment, workspaces: dict[str, TestWorkspace], provider: str
) -> None:
    """`cache_control` passes through: written first, then read, and the receipts follow the bill."""
    mark = {"type": "ephemeral", "ttl": "1h"}
    system: Any = [{"type": "text", "text": f"{provider} rules " * 200, "cache_control": mark}]
    route = {name: route for _, name, route in ROUTES}[provider]
    with billed_alike(desk, workspaces[provider], provider, route) as headers:
        first, head = ask(workspaces[provider], False, model="anthropic/claude-haiku-4.5", system=system)
        headers.append(head)
        second, head = ask(workspaces[provider], True, model="anthropic/claude-haiku-4.5", system=system)
        headers.append(head)

    assert first.usage.cache_creation_input_tokens > 0
    assert first.usage.cache_creation.ephemeral_1h_input_tokens == first.usage.cache_creation_input_tokens
    assert second.usage.cache_read_input_tokens == first.usage.cache_creation_input_tokens


def test_cache_marks_are_left_behind_and_named_elsewhere(workspaces: dict[str, TestWorkspace]) -> None:
    """OpenAI and Gemini cache by themselves: the hint is on the receipt."""
    content: Any = [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]
    for model, provider, route in ROUTES[2:]:
        _, head = ask(workspaces[provider], False, model=model, messages=[{"role": "user", "content": content}])
        assert head["x-ownkey-route"] == route
        attempt = workspaces[provider].receipt(head["x-ownkey-receipt"])["attempts"][0]
        assert "cache_control" in attempt["dropped"]


def test_tokens_are_counted_for_nothing(desk: Deployment, workspaces: dict[str, TestWorkspace]) -> None:
    """`count_tokens` agrees with what is billed, and costs nothing, under a cap of nothing to spare too."""
    workspace = workspaces["anthropic"]
    client = client_of(workspace)
    counted = client.messages.with_raw_response.count_tokens(
        model="anthropic/claude-haiku-4.5", messages=PROMPT, system="be brief", tools=[WEATHER]
    )
    before = desk.emulator.total_nusd(key_of("anthropic", _mark(workspace)))
    message, _ = ask(workspace, False, model="anthropic/claude-haiku-4.5", system="be brief", tools=[WEATHER])

    assert counted.parse().input_tokens == message.usage.input_tokens
    receipt = workspace.receipt(counted.headers["x-ownkey-receipt"])
    assert (receipt["code"], receipt["cost_nusd"]) == (None, "0")
    assert desk.emulator.total_nusd(key_of("anthropic", _mark(workspace))) > before


def test_counting_without_anthropic_is_refused_in_words(workspaces: dict[str, TestWorkspace]) -> None:
    """Nobody else counts with Claude's tokenizer: the refusal says so, and is none that an SDK would repeat."""
    for provider, model in (("openrouter", "anthropic/claude-haiku-4.5"), ("openai", "openai/gpt-4.1-mini")):
        with pytest.raises(anthropic.BadRequestError) as refused:
            client_of(workspaces[provider]).messages.count_tokens(model=model, messages=PROMPT)

        told: Any = refused.value.body
        assert "count_tokens" in told["error"]["message"]
        assert "Anthropic key" in told["error"]["fix"]["text"]


@pytest.mark.parametrize("how", ["x-api-key", "bearer"])
def test_both_ways_to_say_who_asks(workspaces: dict[str, TestWorkspace], how: str) -> None:
    """The SDK's `api_key` and its `auth_token`."""
    workspace = workspaces["anthropic"]
    token = workspace.token
    named: Any = {"api_key": token} if how == "x-api-key" else {"api_key": None, "auth_token": token}
    message = client_of(workspace, **named).messages.create(
        model="anthropic/claude-haiku-4.5", max_tokens=50, messages=PROMPT
    )
    assert message.content


def test_openrouters_surface_has_messages_too(workspaces: dict[str, TestWorkspace]) -> None:
    """Under /api/v1 the same format, and a limit that may be left out."""
    workspace = workspaces["openrouter"]
    message, head = ask(workspace, True, base="/api", model="anthropic/claude-haiku-4.5")
    unlimited = workspace.post("/api/v1/messages", {"model": "anthropic/claude-haiku-4.5", "messages": PROMPT})

    assert message.stop_reason == "end_turn"
    assert head["x-ownkey-route"] == "openrouter:openrouter"
    assert unlimited.status_code == 200, unlimited.text


def test_the_beta_client_is_served_too(workspaces: dict[str, TestWorkspace]) -> None:
    """The same endpoint with a query and a header, whole and streamed, over every provider."""
    for model, provider, route in ROUTES:
        client = client_of(workspaces[provider])
        beta = "interleaved-thinking-2025-05-14"
        asked: Any = {"model": model, "max_tokens": 200, "messages": PROMPT, "betas": [beta]}
        raw = client.beta.messages.with_raw_response.create(**asked)
        with client.beta.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()

        assert raw.headers["x-ownkey-route"] == route
        assert raw.parse().stop_reason == streamed.stop_reason == "end_turn"


@pytest.mark.parametrize("provider", ["openai", "google"])
def test_a_conversation_that_cannot_be_read_is_refused_by_place(
    workspaces: dict[str, TestWorkspace], provider: str
) -> None:
    """A clear 400 in Anthropic's envelope, before anything is sent."""
    model = {name: model for model, name, _ in ROUTES}[provider]
    broken: Any = [{"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}]
    with pytest.raises(anthropic.BadRequestError) as refused:
        client_of(workspaces[provider]).messages.create(model=model, max_tokens=50, messages=broken)

    told: Any = refused.value.body
    assert told["error"]["param"] == "messages[0].content[0].source.media_type"


def test_a_task_is_a_model(workspaces: dict[str, TestWorkspace]) -> None:
    """`task:<name>` picks the product's model, whoever made it."""
    message, _ = ask(workspaces["openrouter"], True, model="task:auto_triage")

    assert "gpt-4.1-mini" in message.model


def test_what_a_route_cannot_carry_skips_it_by_name(desk: Deployment) -> None:
    """OpenAI takes four stop sequences: OpenRouter answers, and the receipt says why."""
    keys = {"openrouter": key_of("openrouter", "d0"), "openai": key_of("openai", "d0")}
    workspace = desk.add_workspace("named", providers=tuple(keys), keys=keys)
    _, head = ask(workspace, False, model="openai/gpt-4.1-mini", stop_sequences=["a", "b", "c", "d", "e"])

    assert head["x-ownkey-route"] == "openrouter:openrouter"
    assert any("stop" in skip["why"] for skip in workspace.receipt(head["x-ownkey-receipt"])["skips"])


def test_a_limit_left_out_is_asked_for(workspaces: dict[str, TestWorkspace]) -> None:
    """As Anthropic does."""
    refused = workspaces["anthropic"].post("/v1/messages", {"model": "anthropic/claude-haiku-4.5", "messages": PROMPT})

    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "bad_request", "max_tokens")


def test_errors_are_the_sdks_own_types(desk: Deployment, workspaces: dict[str, TestWorkspace]) -> None:
    """The SDK raises its typed error for each refusal, with our code, fix and receipt inside."""
    good = workspaces["openrouter"]

    def raised(kind: type[anthropic.APIStatusError], model: str, **options: Any) -> Any:
        with pytest.raises(kind) as info:
            client_of(good, **options).messages.create(model=model, max_tokens=50, messages=PROMPT)
        body: Any = info.value.body
        assert body["type"] == "error"
        assert body["error"]["fix"]["text"]
        return body["error"]

    assert raised(anthropic.AuthenticationError, "x", api_key="ok_nonsense")["code"] == "invalid_token"
    assert raised(anthropic.NotFoundError, "no-such-model")["code"] == "unknown_model"
    assert raised(anthropic.PermissionDeniedError, "task:translation")["code"] == "feature_disabled"
    good.set_cap("0")
    try:
        paused = raised(anthropic.PaymentRequiredError, "task:auto_triage")
        assert (paused["type"], paused["code"]) == ("billing_error", "ai_paused")
        assert paused["receipt"]
    finally:
        good.set_cap(None)
    desk.emulator.add_fault("auth_401", times=None, provider="anthropic")
    lonely = desk.add_workspace("rejected", keys={"openrouter": "sk-or-v1-" + "6c" * 32})
    desk.emulator.add_fault("auth_401", times=None, provider="openrouter")
    with pytest.raises(anthropic.InternalServerError) as rejected:
        client_of(lonely).messages.create(model="anthropic/claude-haiku-4.5", max_tokens=50, messages=PROMPT)
    told: Any = rejected.value.body
    assert (rejected.value.status_code, told["error"]["code"]) == (502, "credential_rejected")


@EVERYWHERE
def test_a_stream_that_breaks_raises_and_is_never_taken_for_whole(
    desk: Deployment, workspaces: dict[str, TestWorkspace], model: str, provider: str, route: str
) -> None:
    """After the first content a cut is an error event, from whichever wire it was read."""
    desk.emulator.add_fault({"name": "cut_after", "content": 2}, times=None, provider=provider)
    desk.emulator.add_fault({"name": "cut_after", "content": 2}, times=None, provider="openrouter")
    client = client_of(workspaces[provider])
    seen: list[str] = []

    def read() -> None:
        with client.messages.stream(model=model, max_tokens=300, messages=PROMPT) as stream:
            seen.extend(event.type for event in stream)

    with pytest.raises(anthropic.APIStatusError) as info:
        read()
    assert "message_stop" not in seen
    told: Any = info.value.body
    assert (told["type"], told["error"]["code"]) == ("error", "provider_unavailable")


@EVERYWHERE
def test_a_refusal_is_a_stop_reason(
    workspaces: dict[str, TestWorkspace], model: str, provider: str, route: str
) -> None:
    """Whatever the provider calls it."""
    message, _ = ask(
        workspaces[provider], False, model=model,
        messages=[{"role": "user", "content": "[emulator refuse=refusal]"}],
    )
    assert message.stop_reason == "refusal"


async def test_the_async_client_streams_many_at_once(workspaces: dict[str, TestWorkspace]) -> None:
    """Twenty streams at once over four providers, each whole."""

    async def one(n: int) -> str:
        model, provider, _ = ROUTES[n % len(ROUTES)]
        client = anthropic.AsyncAnthropic(
            api_key=workspaces[provider].token, base_url=workspaces[provider].deployment.url, max_retries=0,
            http_client=anthropic.DefaultAsyncHttpxClient(trust_env=False),
        )
        async with client, client.messages.stream(
            model=model, max_tokens=200, messages=[{"role": "user", "content": f"number {n}, please"}]
        ) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            assert (await stream.get_final_message()).stop_reason == "end_turn"
        return text

    assert all(await asyncio.gather(*(one(n) for n in range(20))))


def test_raw_frames_are_anthropics(workspaces: dict[str, TestWorkspace]) -> None:
    """A reader without the SDK sees named events, one terminator, and no other dialect's."""
    for model, provider, _ in ROUTES:
        workspace = workspaces[provider]
        answer = httpx.post(
            workspace.deployment.url + "/v1/messages", timeout=30, trust_env=False,
            headers={"x-api-key": workspace.token, "anthropic-version": "2023-06-01"},
            json={"model": model, "max_tokens": 100, "messages": PROMPT, "stream": True},
        )
        events = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]

        assert answer.headers["content-type"].startswith("text/event-stream")
        assert events[0] == "message_start"
        assert events[-2:] == ["message_delta", "message_stop"]
        assert events.count("message_stop") == 1
        assert "[DONE]" not in answer.text
