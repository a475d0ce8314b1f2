"""What makes a bound true is sent along, and what a stream said before it was finished is no bill."""

import json
from decimal import Decimal
from typing import Any

from tests.gateway.gateway_kit import (
    CHAT,
    CLAUDE,
    INPUT_NPM,
    OUTPUT_NPM,
    Exchange,
    Rig,
    broken,
    cost,
    sse,
    whole_answer,
)

MESSAGES = {"model": CLAUDE, "max_tokens": 200, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
PROSE = "pelicans fly low over grey water in winter"


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %s\n" % kind.encode() + sse({"type": kind, **fields})[0]


BEGUN = [
    event("message_start", message={
        "id": "gen-1", "type": "message", "role": "assistant", "model": CLAUDE, "content": [], "stop_reason": None,
        "usage": {"input_tokens": 10, "output_tokens": 1},
    }),
    event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": PROSE}),
]


def sent_provider(rig: Rig) -> Any:
    return json.loads(rig.upstream.sent[-1].body).get("provider")


async def test_openrouter_is_told_the_prices_of_the_bound(desk: Rig) -> None:
    """Under a cap `provider.max_price` carries the listed prices in USD per million tokens: OpenRouter then uses no
    endpoint that could cost more than what was held."""
    workspace = await desk.workspace("a", "openrouter")
    await desk.cap(workspace, 10**9)
    desk.script(whole_answer())

    await desk.call(workspace)

    limits = sent_provider(desk)["max_price"]
    assert {name: Decimal(text) * 10**9 for name, text in limits.items()} == {
        "prompt": INPUT_NPM, "completion": OUTPUT_NPM,
    }
    await desk.check()


async def test_without_anything_at_stake_no_price_is_asked_for(desk: Rig) -> None:
    """Without a cap and without credits the customer's own routing at OpenRouter is left alone."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(whole_answer())

    await desk.call(workspace, CHAT)

    assert sent_provider(desk) is None
    await desk.check()


async def test_a_cut_stream_is_not_settled_by_its_first_report(desk: Rig) -> None:
    """Anthropic's streams begin with a report of one token. After a cut the cap is told the high estimate: the
    reported input, and one token for every byte of content that came."""
    workspace = await desk.workspace("a", "openrouter")
    await desk.cap(workspace, 10**9)
    desk.script(Exchange([*BEGUN, broken()]))

    await desk.call(workspace, MESSAGES, path="/v1/messages")

    attempt = (await desk.receipt(workspace))["attempts"][0]
    assert (attempt["state"], attempt["basis"]) == ("settled", "estimated")
    assert await desk.spent(workspace) >= cost(10, len(PROSE))
    await desk.check()
