"""The official `openrouter` package against the gateway: only its server's address and its key are others."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from openrouter import OpenRouter, errors, operations
from tests.deployment import Deployment, TestWorkspace, deployed
from tests.wire_specs import assert_valid, operation_validator

MINI = "openai/gpt-4.1-mini"
VECTORS = "openai/text-embedding-3-small"
PROMPT: Any = [{"role": "user", "content": "Say something short about pelicans."}]


def client(deployment: Deployment, token: str, **more: Any) -> OpenRouter:
    return OpenRouter(
        api_key=token, server_url=f"{deployment.url}/api/v1", retry_config=None,
        client=httpx.Client(trust_env=False, timeout=30), **more,
    )


def get(workspace: TestWorkspace, path: str, token: str | None = None, **headers: str) -> httpx.Response:
    return httpx.get(
        workspace.deployment.url + path, trust_env=False, timeout=30,
        headers={"authorization": f"Bearer {token or workspace.token}", **headers},
    )


@pytest.fixture(scope="module")
def routed(desk: Deployment) -> TestWorkspace:
    """OpenRouter alone, under a cap."""
    return desk.add_workspace("routed", cap_usd="10")


@pytest.fixture(scope="module")
def direct(desk: Deployment) -> TestWorkspace:
    """A direct key beside it, no cap."""
    return desk.add_workspace("direct", providers=("openrouter", "openai", "anthropic"))


@pytest.fixture
def sdk(routed: TestWorkspace) -> OpenRouter:
    return client(routed.deployment, routed.token)


def test_chat_whole_and_streamed(sdk: OpenRouter) -> None:
    """O3: text, finish reason, usage with its cost, and OpenRouter's own fields pass."""
    whole: Any = sdk.chat.send(model=MINI, messages=PROMPT, provider={"sort": "price"})
    streamed: Any = sdk.chat.send(model=MINI, messages=PROMPT, stream=True)
    chunks = list(streamed)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)

    assert whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.cost > 0
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.cost == whole.usage.cost


def test_embeddings(sdk: OpenRouter) -> None:
    """One vector a text, in order."""
    answer: Any = sdk.embeddings.generate(model=VECTORS, input=["a cat", "a dog"])

    assert [row.index for row in answer.data] == [0, 1]
    assert len(answer.data[0].embedding) == 1_536


def test_the_key_shows_the_cap_and_the_books(desk: Deployment) -> None:
    """O5: the token's label, the workspace's cap and what is left of it, and usage that equals the bill book."""
    key = "sk-or-v1-" + "0f" * 32
    workspace = desk.add_workspace("keyed", cap_usd="2.50", keys={"openrouter": key})
    sdk = client(desk, workspace.token)
    before = sdk.api_keys.get_current_key_metadata().data
    sdk.chat.send(model=MINI, messages=PROMPT)
    sdk.chat.send(model="anthropic/claude-haiku-4.5", messages=PROMPT)
    after = sdk.api_keys.get_current_key_metadata().data
    billed = desk.emulator.total_nusd(key) / 1e9

    assert (before.label, before.limit, before.limit_remaining, before.limit_reset) == ("test", 2.5, 2.5, "monthly")
    assert (before.usage, before.byok_usage, before.is_free_tier, before.is_management_key) == (0, 0, False, False)
    assert billed > 0
    for amount in (after.usage, after.usage_daily, after.usage_weekly, after.usage_monthly):
        assert amount == pytest.approx(billed)
    assert after.limit_remaining == pytest.approx(2.5 - billed)
    assert after.byok_usage == 0
    assert after.effective_budget is not None
    assert after.effective_budget.remaining_usd == after.limit_remaining
    assert after.effective_budget.resets_at is not None
    assert after.effective_budget.resets_at > datetime.now(UTC)


def test_direct_keys_are_byok_usage(direct: TestWorkspace) -> None:
    """What the customer's own provider key paid is what OpenRouter calls byok usage; no cap, no limit."""
    sdk = client(direct.deployment, direct.token)
    sdk.chat.send(model=MINI, messages=PROMPT)
    found = sdk.api_keys.get_current_key_metadata().data

    assert found.byok_usage_monthly > 0
    assert (found.limit, found.limit_remaining, found.limit_reset, found.effective_budget) == (None, None, None, None)
    assert found.include_byok_in_limit


def test_the_older_address_of_the_key_answers_alike(routed: TestWorkspace) -> None:
    """`/auth/key` is what older clients ask."""
    assert get(routed, "/api/v1/auth/key").json() == get(routed, "/api/v1/key").json()


@pytest.mark.parametrize("by", ["answer", "receipt"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("model", "where", "host"), [
    (MINI, "routed", "OpenRouter"), (MINI, "direct", "OpenAI"), ("anthropic/claude-haiku-4.5", "direct", "Anthropic"),
])
def test_a_generation_is_found_by_what_the_caller_has(
    request: pytest.FixtureRequest, model: str, where: str, host: str, stream: bool, by: str
) -> None:
    """X2: by the answer's own id and by the receipt's, with tokens, cost and timing of that call."""
    workspace: TestWorkspace = request.getfixturevalue(where)
    raw = workspace.post("/api/v1/chat/completions", {"model": model, "messages": PROMPT, "stream": stream})
    frames = [line.removeprefix("data: ") for line in raw.text.splitlines() if line.startswith("data: {")]
    first = json.loads(frames[0]) if stream else raw.json()
    receipt = workspace.receipt(raw.headers["x-ownkey-receipt"])
    found = client(workspace.deployment, workspace.token).generations.get_generation(
        id=first["id"] if by == "answer" else raw.headers["x-ownkey-receipt"]
    ).data

    byok = where == "direct"
    assert found.request_id == receipt["id"]
    assert (found.is_byok, found.provider_name, found.streamed) == (byok, host, stream)
    assert found.tokens_prompt > 0
    assert found.tokens_completion > 0
    assert found.finish_reason == "stop"
    assert not found.cancelled
    assert found.total_cost + (found.upstream_inference_cost if byok else 0) == pytest.approx(
        float(receipt["cost_usd"]))
    assert (found.total_cost == 0) == byok
    assert found.latency <= receipt["duration_ms"]
    assert found.provider_responses[-1].status == 200


def test_nobody_elses_generation_is_found(routed: TestWorkspace, direct: TestWorkspace) -> None:
    """Another workspace's id, an invented one: the same 404, in OpenRouter's envelope."""
    made = routed.post("/api/v1/chat/completions", {"model": MINI, "messages": PROMPT})
    answers = [get(direct, f"/api/v1/generation?id={ident}") for ident in (
        made.json()["id"], made.headers["x-ownkey-receipt"], "gen-0-nothing")]
    for answer in answers:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["metadata"]["ownkey_code"]) == (
            404, 404, "unknown_generation")
    with pytest.raises(errors.NotFoundResponseError):
        client(direct.deployment, direct.token).generations.get_generation(id="gen-0-nothing")


def test_models_and_their_pages(sdk: OpenRouter, routed: TestWorkspace) -> None:
    """The list with prices and abilities, the user's, the count, one model, its hosts, the embeddings, the hosts."""
    listed: Any = sdk.models.list()
    mine: Any = sdk.models.list_for_user(security=operations.ListModelsUserSecurity(bearer=routed.token))
    vectors: Any = sdk.embeddings.list_models()
    one: Any = sdk.models.get(author="openai", slug="gpt-4.1-mini")
    hosts = sdk.endpoints.list(author="openai", slug="gpt-4.1-mini").data
    by_id = {model.id: model for model in listed.result.data}
    mini = by_id[MINI]

    assert (mini.pricing.prompt, mini.pricing.completion, mini.pricing.input_cache_read) == (
        "0.0000004", "0.0000016", "0.0000001")
    assert mini.context_length == 1_047_576
    assert {"tools", "structured_outputs"} <= set(mini.supported_parameters)
    assert "image" in mini.architecture.input_modalities
    assert VECTORS not in by_id
    assert {model.id for model in vectors.result.data} >= {VECTORS}
    assert {model.id for model in mine.result.data} <= set(by_id)
    assert sdk.models.count().data.count == listed.result.total_count
    assert one.data.id == MINI
    assert hosts.endpoints[0].provider_name == "OpenAI"
    assert hosts.endpoints[0].pricing.completion == "0.0000016"
    assert {"openai", "google-ai-studio", "groq"} <= {host.slug for host in sdk.providers.list().data}


def test_lists_are_filtered_paged_and_sorted(routed: TestWorkspace) -> None:
    """What a client asks for is done; what cannot be done is refused by name, never ignored."""
    def ids(query: str) -> list[str]:
        return [entry["id"] for entry in get(routed, f"/api/v1/models?{query}").json()["data"]]

    everything = ids("output_modalities=all&limit=1000")
    first = get(routed, "/api/v1/models?limit=2&q=claude").json()
    second = get(routed, first["links"]["next"]).json()
    dear = ids("sort=pricing-high-to-low&model_authors=anthropic")

    assert VECTORS in everything
    assert len(first["data"]) == 2
    assert first["total_count"] == second["total_count"] > 2
    assert not {e["id"] for e in first["data"]} & {e["id"] for e in second["data"]}
    assert dear.index("anthropic/claude-opus-4.5") < dear.index("anthropic/claude-haiku-4.5")
    assert MINI in ids("max_price=0.4&max_output_price=1.6&supported_parameters=tools&input_modalities=image")
    assert MINI not in ids("max_price=0.39")
    assert "meta-llama/llama-3.3-70b-instruct" not in ids("input_modalities=image")
    for query, param in (("category=legal", "category"), ("limit=0", "limit"), ("sort=most-popular", "sort"),
                         ("limit=2&limit=3", "query"), ("context=lots", "context"), ("offset=-1", "offset")):
        answer = get(routed, f"/api/v1/models?{query}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), query


def test_a_priceless_model_is_not_offered_under_a_cap(desk: Deployment) -> None:
    """`/models/user` lists what can be called now: without a price nothing can be held against a cap."""
    desk.emulator.control("POST", "models", {
        "slug": "example/odd:online", "native": "odd", "input": "1", "output": "2", "context": 8_000})
    with deployed(desk.home / "second", emulator=desk.emulator) as fresh:
        capped = fresh.add_workspace("capped", cap_usd="1")
        free = fresh.add_workspace("free")

        def listed(workspace: TestWorkspace, path: str) -> set[str]:
            return {entry["id"] for entry in get(workspace, f"/api/v1/{path}").json()["data"]}

        assert "example/odd:online" in listed(capped, "models")
        assert "example/odd:online" not in listed(capped, "models/user")
        assert "example/odd:online" in listed(free, "models/user")


def test_credits_are_for_managers(builder: Deployment) -> None:
    """A workspace token gets OpenRouter's 403; a service token that may manage reads granted and used."""
    workspace = builder.manage("POST", "workspaces", {"name": "Credits", "plan": "pro"})
    token = builder.manage("POST", f"workspaces/{workspace['id']}/tokens", {"label": "t"})["token"]
    builder.manage("POST", f"workspaces/{workspace['id']}/credits/grants", {"amount_credits": 500},
                   token=builder.operator)
    builder.emulator.add_key("openrouter", "sk-or-v1-" + "9c" * 32)
    builder.manage("PUT", "platform/credentials/openrouter", {"key": "sk-or-v1-" + "9c" * 32},
                   token=builder.operator)
    own = TestWorkspace(builder, workspace["id"], token)
    balance = builder.manage("GET", f"workspaces/{workspace['id']}/credits")["balance_credits"]
    made = own.post("/api/v1/chat/completions", {"model": MINI, "messages": PROMPT, "max_tokens": 4_000})
    refused = get(own, "/api/v1/credits")
    answer = get(own, "/api/v1/credits", builder.service, **{"x-ownkey-workspace": workspace["id"]})
    nameless = get(own, "/api/v1/credits", builder.service)
    key = client(builder, token).api_keys.get_current_key_metadata().data
    charged = own.receipt(made.headers["x-ownkey-receipt"])["charge_credits"]

    assert made.status_code == 200, made.text
    assert made.headers["x-ownkey-funding"] == "credits"
    with pytest.raises(errors.ForbiddenResponseError):
        client(builder, token).credits.get_credits()
    assert refused.json()["error"]["code"] == 403
    assert answer.json()["data"]["total_credits"] == pytest.approx(balance * 0.01)
    assert answer.json()["data"]["total_usage"] == pytest.approx(charged * 0.01)
    assert nameless.status_code == 400
    assert key.usage == pytest.approx(charged * 0.01)
    assert (key.limit, key.limit_remaining) == (None, None)


def test_a_limited_token_sees_its_own_part(desk: Deployment) -> None:
    """Usage and generations of other tasks are not a limited token's to see."""
    workspace = desk.add_workspace("limited")
    limited = desk.manage("POST", f"workspaces/{workspace.id}/tokens", {"label": "l", "tasks": ["draft_reply"]})
    other = workspace.post("/api/v1/chat/completions", {"model": MINI, "messages": PROMPT})
    sdk = client(desk, limited["token"])
    before = sdk.api_keys.get_current_key_metadata().data.usage
    sdk.chat.send(model="task:draft_reply", messages=PROMPT)

    assert before == 0
    assert sdk.api_keys.get_current_key_metadata().data.usage > 0
    with pytest.raises(errors.NotFoundResponseError):
        sdk.generations.get_generation(id=other.json()["id"])


@pytest.mark.parametrize(("ask", "kind"), [
    (lambda s: s.chat.send(model="nobody/no-such-model", messages=PROMPT), errors.BadRequestResponseError),
    (lambda s: s.chat.send(model="task:no_such_task", messages=PROMPT), errors.BadRequestResponseError),
    (lambda s: s.generations.get_generation(id="gen-none"), errors.NotFoundResponseError),
    (lambda s: s.endpoints.list(author="nobody", slug="nothing"), errors.NotFoundResponseError),
], ids=["unpriced", "unknown task", "unknown generation", "unknown model"])
def test_errors_are_typed(sdk: OpenRouter, ask: Callable[[OpenRouter], Any], kind: type[Exception]) -> None:
    """Our refusals become the SDK's own exceptions, with a sentence."""
    with pytest.raises(kind) as caught:
        ask(sdk)

    assert len(str(caught.value)) > 20


def test_refusals_by_money_and_by_token_are_typed(desk: Deployment) -> None:
    """No key: 402. No token: 401. Nobody retries for an hour."""
    bare = desk.manage("POST", "workspaces", {"name": "Bare"})
    token = desk.manage("POST", f"workspaces/{bare['id']}/tokens", {"label": "t"})["token"]
    with pytest.raises(errors.PaymentRequiredResponseError):
        client(desk, token).chat.send(model=MINI, messages=PROMPT)
    with pytest.raises(errors.UnauthorizedResponseError):
        client(desk, "ok_" + "x" * 36).api_keys.get_current_key_metadata()


SPEC_PATHS = [
    ("/key", "/key"), ("/generation?id={id}", "/generation"), ("/models", "/models"),
    ("/models/user", "/models/user"), ("/models/count", "/models/count"), ("/embeddings/models", "/embeddings/models"),
    ("/models/openai/gpt-4.1-mini/endpoints", "/models/{author}/{slug}/endpoints"),
    ("/model/openai/gpt-4.1-mini", "/model/{author}/{slug}"), ("/providers", "/providers"),
    ("/models?output_modalities=all&limit=1000", "/models"),
]


@pytest.mark.parametrize(("path", "operation"), SPEC_PATHS, ids=[path for path, _ in SPEC_PATHS])
@pytest.mark.parametrize("catalogue", ["read", "silent"])
def test_answers_follow_the_published_schema(
    request: pytest.FixtureRequest, path: str, operation: str, catalogue: str
) -> None:
    """Every answer validates against OpenRouter's own OpenAPI, also where its list could not be read."""
    workspace: TestWorkspace = request.getfixturevalue("routed" if catalogue == "read" else "unlisted")
    made = workspace.post("/api/v1/chat/completions", {"model": MINI, "messages": PROMPT})
    answer = get(workspace, "/api/v1" + path.replace("{id}", made.json()["id"]))

    assert answer.status_code == 200, answer.text
    assert_valid(operation_validator("openrouter.openapi.yaml", operation, "get"), answer.json())


def test_our_errors_follow_the_published_schema(routed: TestWorkspace) -> None:
    """400, 401 and 404 as the OpenAPI has them."""
    for path, operation, status, token in (
        ("/generation?id=none", "/generation", "404", None), ("/key", "/key", "401", "ok_" + "x" * 36),
        ("/models?limit=x", "/models", "400", None), ("/credits", "/credits", "403", None),
    ):
        answer = get(routed, "/api/v1" + path, token)
        assert answer.status_code == int(status)
        assert_valid(operation_validator("openrouter.openapi.yaml", operation, "get", status), answer.json())


@pytest.fixture(scope="module")
def unlisted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestWorkspace]:
    """A deployment that reads no lists: only the shipped prices are known."""
    home: Path = tmp_path_factory.mktemp("unlisted")
    with deployed(home, extra="[prices]\nsync = false\n") as deployment:
        yield deployment.add_workspace("unlisted")


def test_without_openrouters_list_the_price_book_answers(unlisted: TestWorkspace) -> None:
    """Nothing is claimed that nobody said: prices and windows from the book, abilities only the sure ones."""
    entry = get(unlisted, f"/api/v1/model/{MINI}").json()["data"]
    hosts = get(unlisted, f"/api/v1/models/{MINI}/endpoints").json()["data"]

    assert entry["pricing"]["prompt"] == "0.0000004"
    assert entry["supported_parameters"] == ["max_tokens", "stop", "temperature", "top_p"]
    assert hosts["endpoints"] == []
    assert {"openrouter"} <= {row["slug"] for row in get(unlisted, "/api/v1/providers").json()["data"]}


def test_the_anthropic_sdk_lists_models(routed: TestWorkspace) -> None:
    """`/v1/models` is Anthropic's where the request is: paged, by id, and with its own errors."""
    sdk = anthropic.Anthropic(
        api_key=routed.token, base_url=routed.deployment.url, max_retries=0,
        http_client=anthropic.DefaultHttpxClient(trust_env=False),
    )
    names = [model.id for model in sdk.models.list(limit=2)]
    page = sdk.models.list(limit=2)
    last = sdk.models.list(limit=1, before_id=names[2])
    one = sdk.models.retrieve("task:draft_reply")

    assert len(names) == len(set(names)) > 2
    assert "task:draft_reply" in names
    assert VECTORS not in names
    assert (page.has_more, page.first_id, page.last_id) == (True, names[0], names[1])
    assert [model.id for model in last.data] == [names[1]]
    assert (one.id, one.type) == ("task:draft_reply", "model")
    assert one.created_at.year >= 2025
    with pytest.raises(anthropic.NotFoundError):
        sdk.models.retrieve("nothing")
    with pytest.raises(anthropic.BadRequestError):
        sdk.models.list(limit=5_000)


def test_the_openai_sdk_still_lists_models(routed: TestWorkspace) -> None:
    """Without Anthropic's header the list is OpenAI's, in one page."""
    sdk = routed.client()
    names = [model.id for model in sdk.models.list()]

    assert {"task:draft_reply", MINI} <= set(names)
    assert sdk.models.retrieve(MINI).owned_by == "openai"
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("nothing")



@pytest.mark.parametrize(("path", "body"), [
    ("messages", {"model": "anthropic/claude-haiku-4.5", "max_tokens": 64, "messages": PROMPT}),
    ("messages", {"model": MINI, "max_tokens": 64, "messages": PROMPT}),
    ("responses", {"model": MINI, "input": "Say something short."}),
    ("embeddings", {"model": VECTORS, "input": "a cat"}),
], ids=["messages", "messages translated", "responses", "embeddings"])
@pytest.mark.parametrize("where", ["routed", "direct"])
def test_every_dialects_answer_leads_to_its_generation(
    request: pytest.FixtureRequest, where: str, path: str, body: dict[str, Any]
) -> None:
    """Whatever was called under /api/v1, the id in the answer is enough; an answer without one has its receipt."""
    workspace: TestWorkspace = request.getfixturevalue(where)
    answer = workspace.post(f"/api/v1/{path}", body)
    ident = answer.json().get("id") or answer.headers["x-ownkey-receipt"]
    found = get(workspace, f"/api/v1/generation?id={ident}")

    assert answer.status_code == 200, answer.text
    assert found.status_code == 200, found.text
    assert found.json()["data"]["request_id"] == answer.headers["x-ownkey-receipt"]
    assert found.json()["data"]["api_type"] == ("embeddings" if path == "embeddings" else "completions")
