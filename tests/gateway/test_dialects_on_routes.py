"""What a call of each dialect may be answered by, and what it costs, whoever answers inside it."""

import base64
import json
import struct
from dataclasses import replace
from typing import Any

from tests.gateway.gateway_kit import CLAUDE, JSON_TYPE, Exchange, Rig, prices, sse
from tests.store.store_kit import NOV

from ownkey.domain.pricing import ModelPrice, Rate

EMBED = {"model": "google/gemini-embedding-001", "input": ["a", "bc"]}
VECTORS = [[0.25, -1.0], [0.5, 2.0]]
MESSAGES = {"model": CLAUDE, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
DEAR = 10


def embeddings_of_google(**usage: int) -> Exchange:
    body: dict[str, Any] = {"embeddings": [{"values": vector} for vector in VECTORS]}
    if usage:
        body["usageMetadata"] = usage
    return Exchange([json.dumps(body).encode()], headers=JSON_TYPE)


def embeddings_of_openrouter() -> Exchange:
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(VECTORS)]
    usage = {"prompt_tokens": 2, "total_tokens": 2, "cost": 0.00000002}
    body = {"object": "list", "model": "google/gemini-embedding-001", "data": data, "usage": usage}
    return Exchange([json.dumps(body).encode()], headers=JSON_TYPE)


async def add_prices(rig: Rig, *more: ModelPrice) -> None:
    named = {(price.provider, price.model) for price in more}
    kept = [price for price in prices() if (price.provider, price.model) not in named]
    await rig.store.activate_prices([*kept, *more], {}, author="test", at_ms=NOV)


def priced(provider: str, model: str, factor: int = 1) -> ModelPrice:
    rates = {"input": (Rate(0, factor * 10**9),), "output": (Rate(0, factor * 5 * 10**9),)}
    return ModelPrice(provider, model, rates, source="test")


async def test_embeddings_go_through_openrouter_unless_both_routes_give_the_same_vectors(desk: Rig) -> None:
    """Shipped: OpenAI's only. The receipt says why Google's own route was left out."""
    workspace = await desk.workspace("a", "openrouter", "google")
    desk.script(embeddings_of_openrouter())
    caller = await desk.call(workspace, EMBED, path="/v1/embeddings")

    assert caller.status == 200
    assert desk.upstream.hosts == ["openrouter"]
    receipt = await desk.receipt(workspace)
    assert [skip["why"] for skip in receipt["skips"]] == [
        "embeddings of google go direct only where direct_embeddings lists it"
    ]


async def test_embeddings_of_google_where_the_product_lists_it(desk: Rig) -> None:
    """Translated both ways, as floats or base64; tokens from the report, or estimated where none is told."""
    workspace = await desk.workspace("a", "openrouter", "google")
    product = replace(desk.product, direct_embeddings=("openai", "google"))
    desk.gateway._house = replace(desk.house, product=product)
    await add_prices(desk, ModelPrice("google", "gemini-embedding-001", {"input": (Rate(0, 10**9),)}, source="test"))

    desk.script(embeddings_of_google(promptTokenCount=7))
    floats = await desk.call(workspace, EMBED, path="/v1/embeddings")
    desk.script(embeddings_of_google())
    encoded = await desk.call(workspace, {**EMBED, "encoding_format": "base64"}, path="/v1/embeddings")

    assert floats.status == encoded.status == 200
    assert desk.upstream.sent[0].path == "/models/gemini-embedding-001:batchEmbedContents"
    assert [entry["embedding"] for entry in floats.json["data"]] == VECTORS
    assert floats.json["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    packed = [base64.b64decode(entry["embedding"]) for entry in encoded.json["data"]]
    assert [list(struct.unpack("<2f", raw)) for raw in packed] == VECTORS
    assert encoded.json["usage"]["prompt_tokens"] == 1
    receipt = await desk.receipt(workspace)
    assert receipt["basis"] == "estimated"
    assert receipt["attempts"][0]["maybe_billed"]


def message_stream(model: str, **usage: Any) -> Exchange:
    handed = {"type": "fallback", "from": {"model": "claude-haiku-4-5"}, "to": {"model": model}}
    events = [
        {"type": "message_start", "message": {"id": "m", "model": "claude-haiku-4-5", "content": [],
                                              "usage": {"input_tokens": 10, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": handed},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4, **usage}},
        {"type": "message_stop"},
    ]  # fmt: skip
    return Exchange(sse(*events))


async def test_a_model_that_took_over_is_paid_at_its_own_price(desk: Rig) -> None:
    """Within the same answer, in the same version of prices."""
    workspace = await desk.workspace("a", "openrouter", "anthropic")
    await add_prices(desk, priced("anthropic", "claude-opus-9", DEAR))
    desk.script(message_stream("claude-opus-9"))
    await desk.call(workspace, MESSAGES, path="/v1/messages", stream=True)

    receipt = await desk.receipt(workspace)
    assert (receipt["basis"], int(receipt["cost_nusd"])) == ("computed", DEAR * (10 * 1_000 + 4 * 5_000))


async def test_a_model_that_took_over_without_a_price_counts_as_the_whole_hold(desk: Rig) -> None:
    """Never as the price of another, and never as nothing."""
    workspace = await desk.workspace("a", "openrouter", "anthropic")
    await desk.cap(workspace, 10**9)
    desk.script(message_stream("claude-unheard-of"))
    await desk.call(workspace, MESSAGES, path="/v1/messages", stream=True)

    receipt = await desk.receipt(workspace)
    bound = int(receipt["attempts"][0]["bound_nusd"])
    assert (receipt["basis"], int(receipt["cost_nusd"])) == ("unknown", bound)
    assert await desk.spent(workspace) == bound > 0


async def test_an_advisor_is_paid_besides(desk: Rig) -> None:
    """Its tokens are in no class of the answer's own usage, and have their own price."""
    workspace = await desk.workspace("a", "openrouter", "anthropic")
    await add_prices(desk, priced("anthropic", "claude-haiku-4-5"), priced("anthropic", "claude-opus-9", DEAR))
    steps = [
        {"type": "message", "input_tokens": 10, "output_tokens": 4},
        {"type": "advisor_message", "model": "claude-opus-9", "input_tokens": 20, "output_tokens": 2},
    ]
    desk.script(message_stream("claude-haiku-4-5", iterations=steps))
    await desk.call(workspace, MESSAGES, path="/v1/messages", stream=True)

    receipt = await desk.receipt(workspace)
    own, advisor = 10 * 1_000 + 4 * 5_000, DEAR * (20 * 1_000 + 2 * 5_000)
    assert int(receipt["cost_nusd"]) == own + advisor
    assert receipt["usage"]["others"][0][0] == "claude-opus-9"
    assert (receipt["usage"]["input"], receipt["usage"]["output"]) == (10, 4)


async def test_messages_through_openrouter_cost_what_it_says(desk: Rig) -> None:
    """To the last digit, passed through as it came."""
    workspace = await desk.workspace("a", "openrouter")
    body = (
        b'{"id":"gen-1","type":"message","role":"assistant","model":"anthropic/claude-haiku-4.5","content":'
        b'[{"type":"text","text":"hi"}],"stop_reason":"end_turn","provider":"Anthropic","usage":{"input_tokens":3,'
        b'"output_tokens":2,"cost":0.000000123456,"is_byok":false}}'
    )
    desk.script(Exchange([body], headers=JSON_TYPE))
    caller = await desk.call(workspace, MESSAGES, path="/v1/messages")

    assert (caller.status, caller.body) == (200, body)
    assert desk.upstream.sent[0].path == "/messages"
    receipt = await desk.receipt(workspace)
    assert (receipt["basis"], int(receipt["cost_nusd"])) == ("actual", 124)


async def test_counting_tokens_costs_nothing_and_is_anthropics_alone(desk: Rig) -> None:
    workspace = await desk.workspace("a", "openrouter", "anthropic")
    await desk.cap(workspace, 10**9)
    desk.script(Exchange([b'{"input_tokens":14}'], headers=JSON_TYPE))
    body = {key: value for key, value in MESSAGES.items() if key != "max_tokens"}
    caller = await desk.call(workspace, body, path="/v1/messages/count_tokens")

    assert (caller.status, caller.json) == (200, {"input_tokens": 14})
    assert [request.path for request in desk.upstream.sent] == ["/messages/count_tokens"]
    assert int((await desk.receipt(workspace))["cost_nusd"]) == 0
    assert await desk.spent(workspace) == 0
