"""The official `openai` and `openrouter` packages ask for responses through the gateway, over both routes."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import openai
import pytest
from openai.types.responses import Response
from openrouter import OpenRouter, errors
from pydantic import BaseModel
from tests.deployment import Deployment, TestWorkspace

MODEL, THINKER = "openai/gpt-4.1-mini", "openai/gpt-5-mini"
WEATHER: Any = [{
    "type": "function", "name": "get_weather", "description": "The weather in a city", "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}]


def keys(mark: str) -> dict[str, str]:
    """Keys of a test's own, so that what they are billed can be told apart."""
    return {"openai": "sk-proj-" + mark * 24, "openrouter": "sk-or-v1-" + mark * 32}


@dataclass
class Route:
    """A workspace whose first route is `name`. Whatever a test calls must be booked as it is billed."""

    name: str
    provider: str
    workspace: TestWorkspace
    keys: dict[str, str]

    def billed(self) -> int:
        return sum(int(self.workspace.deployment.emulator.total_nusd(key)) for key in self.keys.values())

    def booked(self) -> int:
        return sum(int(receipt["cost_nusd"] or 0) for receipt in self.workspace.receipts())


@pytest.fixture(scope="module")
def made(desk: Deployment) -> dict[str, Route]:
    direct, routed = keys("5e"), keys("5f")
    both = desk.add_workspace("direct", providers=("openrouter", "openai"), keys=direct)
    one = desk.add_workspace("routed", keys=routed)
    return {
        "openai": Route("direct:openai", "openai", both, direct),
        "openrouter": Route("openrouter:openrouter", "openrouter", one, routed),
    }


@pytest.fixture(params=["openai", "openrouter"])
def route(made: dict[str, Route], request: pytest.FixtureRequest) -> Iterator[Route]:
    """Each route, its receipts compared with the bill after every test."""
    route = made[request.param]
    yield route
    assert route.booked() == route.billed()


@pytest.fixture(params=["/v1", "/api/v1"])
def base(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_response_is_whole(route: Route, base: str) -> None:
    """Text, status and usage arrive, over the expected route, with a receipt that says what it cost."""
    client = route.workspace.client(base)
    raw = client.responses.with_raw_response.create(model=MODEL, input="hello", instructions="Be kind.")
    answer = raw.parse()
    receipt = route.workspace.receipt(raw.headers["x-ownkey-receipt"])

    assert raw.headers["x-ownkey-route"] == route.name
    assert (answer.status, bool(answer.output_text)) == ("completed", True)
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert (receipt["endpoint"], receipt["code"], receipt["finish_reason"]) == ("responses", None, "stop")
    assert receipt["usage"]["output"] == answer.usage.output_tokens
    assert receipt["basis"] == ("computed" if route.provider == "openai" else "actual")
    assert int(receipt["cost_nusd"]) > 0


def test_a_stream_adds_up(route: Route, base: str) -> None:
    """The deltas are the text of the last event's response, which ends the stream; the numbers have no gap."""
    events: Any = list(route.workspace.client(base).responses.create(model=MODEL, input="hello", stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")

    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == text != ""
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert route.workspace.receipts()[0]["stream"] is True


def test_the_sdks_stream_helper(route: Route, base: str) -> None:
    """It follows the events one by one and returns the whole answer."""
    with route.workspace.client(base).responses.stream(model=MODEL, input="hello") as stream:
        for _ in stream:
            pass
        answer = stream.get_final_response()

    assert answer.output_text


class Triage(BaseModel):
    category: Literal["billing", "bug", "question"]
    urgent: bool


@pytest.mark.parametrize("stream", [False, True])
def test_structured_output_parses(route: Route, stream: bool) -> None:
    """A JSON schema is honoured, whole and streamed."""
    client = route.workspace.client()
    if stream:
        with client.responses.stream(model=MODEL, input="My invoice is wrong.", text_format=Triage) as events:
            answer = events.get_final_response()
    else:
        answer = client.responses.parse(model=MODEL, input="My invoice is wrong.", text_format=Triage)

    assert isinstance(answer.output_parsed, Triage)


@pytest.mark.parametrize("stream", [False, True])
def test_an_agents_turns(route: Route, stream: bool) -> None:
    """What the model gave back, encrypted reasoning and tool call, goes in again with the tool's result."""
    client = route.workspace.client()
    asked: Any = {
        "model": THINKER, "tools": WEATHER, "store": False, "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "high", "summary": "auto"},
    }
    items: list[Any] = [{"role": "user", "content": "call the tool get_weather for Paris"}]
    answer = finish(client, stream, input=items, tool_choice="required", **asked)
    thoughts = [item for item in answer.output if item.type == "reasoning"]
    calls = [item for item in answer.output if item.type == "function_call"]

    assert route.workspace.receipts()[0]["finish_reason"] == "tool_calls"
    assert route.workspace.receipts()[0]["usage"]["reasoning"] > 0
    assert thoughts[0].encrypted_content
    assert isinstance(json.loads(calls[0].arguments), dict)
    items += answer.output
    items += [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
    again = finish(client, stream, input=items, **asked)
    assert again.status == "completed"
    assert again.output


def finish(client: openai.OpenAI, stream: bool, **asked: Any) -> Response:
    """The whole answer, however it comes."""
    if not stream:
        return client.responses.create(**asked)
    return next(
        event.response for event in client.responses.create(stream=True, **asked) if event.type == "response.completed"
    )


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_cut(route: Route, stream: bool) -> None:
    """The limit's end is `incomplete`, says why, and is billed."""
    client = route.workspace.client()
    asked: Any = {"model": MODEL, "input": "[emulator output_tokens=500] hi", "max_output_tokens": 40}
    if stream:
        last: Any = list(client.responses.create(stream=True, **asked))[-1]
        assert last.type == "response.incomplete"
        answer = last.response
    else:
        answer = client.responses.create(**asked)

    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    receipt = route.workspace.receipts()[0]
    assert (receipt["finish_reason"], receipt["code"], receipt["usage"]["output"]) == ("length", None, 40)


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_the_models_own(route: Route, stream: bool) -> None:
    """It reaches the caller as an answer that refuses."""
    asked: Any = {"model": MODEL, "input": "[emulator refuse=refusal] hi"}
    client = route.workspace.client()
    if stream:
        kinds = [event.type for event in client.responses.create(stream=True, **asked)]
        assert "response.refusal.delta" in kinds
    else:
        message: Any = client.responses.create(**asked).output[0]
        assert message.content[0].type == "refusal"
    assert route.workspace.receipts()[0]["status"] == 200


def test_an_image_is_seen(route: Route) -> None:
    """An inline image passes, and its bytes are not held as text."""
    content: Any = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 400_000, "detail": "auto"},
    ]
    answer = route.workspace.client().responses.create(model=MODEL, input=[{"role": "user", "content": content}])

    assert answer.output_text


def test_a_task_is_a_model(route: Route) -> None:
    """The product's model for the task answers, with the task's own limit on the output."""
    answer = route.workspace.client().responses.create(model="task:auto_triage", input="hello")

    assert "gpt-4.1-mini" in answer.model
    assert answer.max_output_tokens


async def test_the_async_client_streams_many_at_once(made: dict[str, Route]) -> None:
    """Thirty streams at once over two routes, each whole and each its own; all of them are booked as billed."""
    clients = [route.workspace.async_client() for route in made.values()]

    async def one(n: int) -> str:
        async with clients[n % 2].responses.stream(model=MODEL, input=f"number {n}, please") as stream:
            return (await stream.get_final_response()).output_text

    texts = await asyncio.gather(*(one(n) for n in range(30)))

    assert all(texts)
    for client in clients:
        await client.close()
    assert all(route.booked() == route.billed() for route in made.values())


# --- no


def test_errors_are_the_sdks_own_types(route: Route) -> None:
    """The SDK raises its typed error for each refusal, with our code inside."""

    def raised(kind: type[openai.APIStatusError], **asked: Any) -> openai.APIStatusError:
        with pytest.raises(kind) as info:
            route.workspace.client().responses.create(**{"model": MODEL, "input": "hi", **asked})
        return info.value

    assert raised(openai.NotFoundError, model="no-such-model").code == "unknown_model"
    assert raised(openai.PermissionDeniedError, model="task:translation").code == "feature_disabled"
    background = raised(openai.BadRequestError, background=True)
    assert (background.code, background.param) == ("bad_request", "background")
    missing = raised(openai.BadRequestError, input=[])
    assert (missing.code, missing.param) == ("bad_request", "input")


def test_hosted_tools_need_a_workspace_without_a_cap(made: dict[str, Route]) -> None:
    """What has no known maximum is refused by name where money is at stake."""
    workspace = made["openai"].workspace
    workspace.set_cap("5")
    try:
        with pytest.raises(openai.BadRequestError) as info:
            workspace.client().responses.create(model=MODEL, input="hi", tools=[{"type": "web_search"}])
        assert "tools: web_search" in info.value.message
        assert workspace.client().responses.create(model=MODEL, input="hi", tools=WEATHER).output
    finally:
        workspace.set_cap(None)


def test_what_one_provider_has_stored_is_not_sent_to_another(made: dict[str, Route]) -> None:
    """With two possible routes a reference is refused; with one it goes there, and OpenRouter stores nothing."""
    asked: Any = {"model": MODEL, "input": "go on", "previous_response_id": "resp_1"}
    with pytest.raises(openai.BadRequestError) as info:
        made["openai"].workspace.client().responses.create(**asked)
    assert info.value.param == "previous_response_id"
    assert made["openai"].workspace.receipts()[0]["attempts"] == []

    with pytest.raises(openai.BadRequestError, match="not supported"):
        made["openrouter"].workspace.client().responses.create(**asked)
    assert len(made["openrouter"].workspace.receipts()[0]["attempts"]) == 1


def test_an_openrouter_only_field_goes_to_openrouter(made: dict[str, Route]) -> None:
    """It skips the direct route instead of being refused there."""
    raw = made["openai"].workspace.client().responses.with_raw_response.create(
        model=MODEL, input="hi", extra_body={"provider": {"sort": "price"}}
    )

    assert raw.headers["x-ownkey-route"] == "openrouter:openrouter"


@pytest.mark.parametrize("error", ["rate_limit", "overloaded"])
def test_an_error_before_the_first_word_moves_on(desk: Deployment, error: str) -> None:
    """Inside a stream of status 200, before any content: the next route answers, and the caller sees one answer."""
    own = keys({"rate_limit": "cc", "overloaded": "dd"}[error])
    both = desk.add_workspace(f"moves on {error}", providers=("openai", "openrouter"), keys=own)
    desk.emulator.add_fault({"name": "error_in_first_event", "error": error}, provider="openai", key=own["openai"])
    events: Any = list(both.client().responses.create(model=MODEL, input="hello", stream=True))
    attempts = both.receipts()[0]["attempts"]

    assert events[-1].type == "response.completed"
    assert [event.type for event in events].count("response.created") == 1
    assert [attempt["provider"] for attempt in attempts] == ["openai", "openrouter"]
    assert attempts[0]["failure"] == ("rate_limit" if error == "rate_limit" else "overload")


@pytest.mark.parametrize("fault", ["error", "cut", "malformed"])
def test_a_stream_that_breaks_raises(desk: Deployment, base: str, fault: str) -> None:
    """After the first word no other route can take over: the SDK raises, with our code and receipt."""
    faults: dict[str, Any] = {
        "error": {"name": "error_mid_stream", "error": "overloaded", "after": 3},
        "cut": {"name": "cut_after", "content": 3},
        "malformed": {"name": "malformed_event", "after": 3},
    }
    own = keys(f"{len(base)}{list(faults).index(fault)}")
    workspace = desk.add_workspace(f"breaks {fault} {base}", keys=own)
    # Slowly, so that the first words are on their way before the stream breaks.
    desk.emulator.set({"gap_s": 0.05}, provider="openrouter", key=own["openrouter"])
    desk.emulator.add_fault(faults[fault], provider="openrouter", key=own["openrouter"])
    stream = workspace.client(base).responses.create(model=MODEL, input="hello", stream=True)
    seen: list[str] = []
    with pytest.raises(openai.APIError) as info:
        seen.extend(event.type for event in stream)

    assert "response.output_text.delta" in seen
    assert "response.completed" not in seen
    receipt = workspace.receipts()[0]
    assert isinstance(info.value.body, dict)
    assert info.value.body["receipt"] == receipt["id"]
    assert receipt["code"] == "provider_unavailable"


# --- the openrouter package


@pytest.fixture
def router(made: dict[str, Route], request: pytest.FixtureRequest) -> Iterator[OpenRouter]:
    workspace = made[request.param].workspace
    with httpx.Client(trust_env=False, timeout=30) as http:
        yield OpenRouter(
            api_key=workspace.token, server_url=workspace.deployment.url + "/api/v1", client=http, retry_config=None
        )
    assert made[request.param].booked() == made[request.param].billed()


@pytest.mark.parametrize("router", ["openai", "openrouter"], indirect=True)
def test_the_openrouter_sdk_asks_for_responses(router: OpenRouter) -> None:
    """Whole, with tools and streamed, whichever route answers."""
    whole: Any = router.responses.send(model=MODEL, input="hello")
    called: Any = router.responses.send(
        model=MODEL, input="call the tool get_weather for Paris", tools=WEATHER, tool_choice="required"
    )
    with router.responses.send(model=MODEL, input="hello", stream=True) as stream:
        events: list[Any] = list(stream)

    assert whole.status == "completed"
    assert called.output[-1].name == "get_weather"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].type == "response.completed"
    assert events[-1].response.status == "completed"


@pytest.mark.parametrize("router", ["openrouter"], indirect=True)
def test_the_openrouter_sdk_raises_its_own_errors(router: OpenRouter) -> None:
    """Typed by status, readable as its envelope."""
    with pytest.raises(errors.NotFoundResponseError):
        router.responses.send(model="no-such-model", input="hello")
    with pytest.raises(errors.BadRequestResponseError):
        router.responses.send(model=MODEL, input=[])
