"""What `ownkey why` says of real calls, and what explain says before them: the payer, the key and the true reason."""

from dataclasses import replace
from typing import Any

from tests.gateway.gateway_kit import (
    CHAT,
    MINI,
    STALL,
    Exchange,
    Rig,
    delta,
    refusal,
    sse,
    whole_answer,
)
from tests.gateway.test_routes_and_keys import TRIAGE, customer

from ownkey.control.receipts import why_sentence
from ownkey.domain.product import Task

STREAM = {**CHAT, "stream": True}


async def why(rig: Rig, workspace: str) -> str:
    return why_sentence(await rig.receipt(workspace))


async def explained(rig: Rig, workspace: str, body: Any = CHAT) -> Any:
    return (await rig.call(workspace, body, path="/v1/explain")).json


async def test_credits_that_stepped_in_say_so_at_once_and_later(builder: Rig) -> None:
    """F10: in the call that found the key rejected, and in the next, which skips it; explain says the same."""
    workspace = await customer(builder)
    builder.script(refusal(401), whole_answer())
    await builder.call(workspace)
    first = await why(builder, workspace)
    later = await explained(builder, workspace)
    await builder.call(workspace)
    second = await why(builder, workspace)

    for told in (first, second):
        assert "because your own key failed and Use credits if my key fails is on: " in told
        assert "connected and enabled" not in told
    assert "OpenRouter rejected the key sk" in first
    assert "the OpenRouter key was skipped: the key is marked rejected" in second
    assert later["because"] in second
    assert "paid by credits, because your own key failed" in later["sentence"]


async def test_a_direct_route_that_failed_or_rests_is_the_reason(desk: Rig) -> None:
    """F8: OpenRouter answers because the direct key was not used, and the sentence says why."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    body = {**CHAT, "model": MINI}
    desk.script(refusal(503), whole_answer(), refusal(503), whole_answer(), whole_answer())
    told = []
    for _ in range(3):
        await desk.call(workspace, body)
        told.append(await why(desk, workspace))
    dry = await explained(desk, workspace, body)

    assert "because on the direct route OpenAI was overloaded or broken (overload: " in told[0]
    assert "because the direct OpenAI key was not used: circuit open after " in told[2]
    assert "because the direct OpenAI key was not used: circuit open after " in dry["sentence"]
    assert not any("direct keys first" in sentence for sentence in (*told, dry["sentence"]))
    assert all("paid by the workspace's own OpenRouter key sk" in sentence for sentence in told)


async def test_an_answer_that_broke_off_names_payer_and_key(desk: Rig) -> None:
    """A part was sent: nothing was refused, and somebody pays for it."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange([*sse(delta("one")), STALL]))
    caller = await desk.call(workspace, STREAM)
    told = await why(desk, workspace)

    assert caller.status == 200
    assert told.startswith(f"OpenRouter began to answer with {MINI}, paid by the workspace's own OpenRouter key sk")
    assert "the answer broke off (provider_unavailable)" in told
    assert "Refused" not in told


async def test_a_hang_up_names_payer_and_key(desk: Rig) -> None:
    """Also an answer that nobody waited for costs somebody something."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange([*sse(delta("one")), STALL]))
    task, caller = desk.begin(workspace, STREAM)
    await caller.started.wait()
    caller.hang_up()
    await task

    told = await why(desk, workspace)
    assert told.startswith(
        f"The caller hung up while OpenRouter was answering with {MINI}, paid by the workspace's own OpenRouter key sk"
    )


async def test_explain_promises_no_more_attempts_than_are_made(desk: Rig) -> None:
    """`max_attempts` bounds the story, however many routes there are."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    names = tuple(f"openai/{name}" for name in ("gpt-4.1-mini", "gpt-4.1", "gpt-4.1-nano"))
    task = Task("auto_triage", "Triage", "chat", names)
    product = replace(desk.product, tasks={**desk.product.tasks, "auto_triage": task})
    desk.gateway._house = desk.explainer._house = replace(desk.house, product=product)
    found = await explained(desk, workspace, TRIAGE)

    assert len(found["attempts"]) > product.routing.max_attempts
    assert f"up to {product.routing.max_attempts - 1} more attempts may follow" in found["sentence"]
    assert found["at_most_attempts"] == product.routing.max_attempts


async def test_an_explained_refusal_names_the_routes_that_are_left_out(desk: Rig) -> None:
    """Nothing can answer, and each route says why it cannot."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(refusal(401), refusal(401))
    await desk.call(workspace)
    await desk.call(workspace)
    found = await explained(desk, workspace)

    assert found["would"] == "refuse"
    assert found["skipped"][0]["route"] == "openrouter"
    assert f"Not used: the OpenRouter key for {MINI}: {found['skipped'][0]['why']}" in found["sentence"]
