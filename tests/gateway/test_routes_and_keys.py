"""Which route is tried, what a failing key does, and when credits step in."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.gateway.gateway_kit import (
    CHAT,
    CLAUDE,
    MINI,
    STALL,
    Exchange,
    Rig,
    broken,
    cost,
    delta,
    refusal,
    sse,
    whole_answer,
)
from tests.store.store_kit import ACTOR, NOV, credential

from ownkey.domain.workspace import EntitlementState
from ownkey.gateway.calls import CallRequest

TRIAGE = {"model": "task:auto_triage", "messages": CHAT["messages"]}


async def grant(rig: Rig, workspace: str, credits: int) -> None:
    await rig.store.grant_credits(
        workspace, credits, "operator", expires_at_ms=None, idem_key=f"grant:{workspace}", at_ms=NOV, actor=ACTOR
    )


async def customer(rig: Rig, name: str = "a", credits: int = 1_000, **settings: Any) -> str:
    """A customer of the app builder with a key and credits; the platform's own key stands behind."""
    await rig.workspace("platform", "openrouter", kind="platform")
    workspace = await rig.workspace(name, "openrouter", entitlement=EntitlementState.INCLUDED, plan="enterprise")
    await grant(rig, workspace, credits)
    changes = {"credits_if_key_fails": True, **settings}
    await rig.store.save_settings(workspace, changes, at_ms=NOV, actor=ACTOR)
    return workspace


async def balance(rig: Rig, workspace: str) -> int:
    return (await rig.store.load_wallet(workspace)).balance_credits


async def test_a_direct_route_that_failed_twice_is_skipped_and_then_tried_by_one(desk: Rig) -> None:
    """Circuit: open after two failures; when its time is over one call is the trial, the others go on skipping."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    desk.script(refusal(503), whole_answer(), refusal(503), whole_answer())
    await desk.call(workspace)
    await desk.call(workspace)
    await desk.call(workspace)
    assert desk.upstream.hosts == ["openai", "openrouter", "openai", "openrouter", "openrouter"]

    desk.clock.ahead_s += 6
    gate = asyncio.Event()
    desk.script(Exchange(whole_answer().parts, headers=whole_answer().headers, before_head=[gate]), whole_answer())
    trial, _ = desk.begin(workspace)
    await desk.upstream.begun.wait()
    await desk.call(workspace)
    gate.set()
    await trial
    await desk.call(workspace)

    assert desk.upstream.hosts == ["openai", "openrouter", "openai"]
    await desk.check()


async def test_an_open_circuit_is_no_reason_where_nothing_else_is_left(desk: Rig) -> None:
    """The last route is tried however often it failed."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(refusal(503))
    await desk.call(workspace)
    desk.script(whole_answer())

    assert (await desk.call(workspace)).status == 200


async def test_a_rate_limited_model_is_skipped_while_another_model_is_left(desk: Rig) -> None:
    """A task with several models does not run into the same rate limit again and again."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(refusal(429, **{"retry-after": "60"}), whole_answer())
    first = await desk.call(workspace, TRIAGE)
    second = await desk.call(workspace, TRIAGE)

    assert (first.status, second.status) == (200, 200)
    models = [b'"model":"' + m.encode() in r.body.replace(b" ", b"") for r in desk.upstream.sent for m in (MINI,)]
    assert models == [True, False, False]


async def test_explaining_uses_up_no_trial(desk: Rig) -> None:
    """X7: a dry run changes nothing that a call would see."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(refusal(401))
    await desk.call(workspace)
    desk.clock.ahead_s += 31
    request = CallRequest(
        await _principal(desk, workspace), await _state(desk, workspace), desk.app._plane.openai, "chat",
        b'{"model":"openai/gpt-4.1-mini","messages":[{"role":"user","content":"x"}]}',
    )
    told = [(await desk.explainer.explain(request))["would"] for _ in range(3)]

    assert told == ["answer"] * 3


async def _principal(rig: Rig, workspace: str) -> Any:
    return await rig.app._plane.authentication.check(workspace.encode(), twice=False)


async def _state(rig: Rig, workspace: str) -> Any:
    return await rig.store.load_workspace(workspace)


async def test_an_unhealthy_key_lets_one_call_through_in_a_while(desk: Rig) -> None:
    """Rejected once: for 30 s calls get the key's code without a request; then one is the trial, and so on."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(refusal(401))
    codes = [(await desk.call(workspace)).error["code"] for _ in range(3)]
    asked = [len(desk.upstream.sent)]
    desk.clock.ahead_s += 31
    codes += [(await desk.call(workspace)).error["code"] for _ in range(3)]
    asked.append(len(desk.upstream.sent))

    assert codes == ["credential_rejected"] * 6
    assert asked == [1, 2]
    receipt = await desk.receipt(workspace)
    assert receipt["attempts"] == []
    assert receipt["row"] == "F8"
    assert "rejected" in receipt["skips"][0]["why"]
    await desk.check()


async def test_a_caller_who_left_early_does_not_make_a_key_healthy(desk: Rig) -> None:
    """A hang-up before any answer proves nothing about the key."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(refusal(401))
    await desk.call(workspace)
    desk.clock.ahead_s += 31
    desk.script(Exchange(before_head=[STALL]))
    task, caller = desk.begin(workspace)
    await desk.upstream.begun.wait()
    caller.hang_up()
    await task

    assert (await _state(desk, workspace)).credentials["openrouter"].health == "rejected"


async def test_a_price_that_proved_wrong_counts_as_none_under_a_cap(desk: Rig) -> None:
    """Overage: a bill above the hold makes (provider, model, price version) unpriced where a cap applies."""
    workspace = await desk.workspace("a", "openrouter")
    await desk.cap(workspace, 10**9)
    report = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": 0.5}
    desk.script(whole_answer(usage=report))
    first = await desk.call(workspace)
    second = await desk.call(workspace)

    assert first.status == 200
    assert await desk.spent(workspace) == 500_000_000
    assert (second.status, second.error["code"]) == (400, "unpriced_model")
    await desk.check()


async def test_a_key_that_cannot_be_opened_is_left_for_another(desk: Rig) -> None:
    """An undecryptable direct key: its hold is released, OpenRouter answers, an incident is opened."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    desk.opener.broken.add("cred_a_openai")
    desk.script(whole_answer())

    caller = await desk.call(workspace)

    assert caller.status == 200
    assert desk.upstream.hosts == ["openrouter"]
    receipt = await desk.receipt(workspace)
    assert [a["state"] for a in receipt["attempts"]] == ["released", "settled"]
    assert [i["cause"] for i in await desk.store.load_incidents(workspace)] == ["undecryptable"]
    await desk.check()


async def test_an_unopenable_openrouter_key_without_another_payer(desk: Rig) -> None:
    """byok_only: `openrouter_key_required`, with the attempt that was given back."""
    workspace = await desk.workspace("a", "openrouter")
    desk.opener.broken.add("cred_a_openrouter")
    desk.script(whole_answer())

    caller = await desk.call(workspace)

    assert (caller.status, caller.error["code"]) == (402, "openrouter_key_required")
    assert desk.upstream.sent == []
    receipt = await desk.receipt(workspace)
    assert (receipt["row"], receipt["cost_nusd"]) == ("F4", 0)
    await desk.check()


async def test_a_retry_has_a_hold_of_its_own(desk: Rig) -> None:
    """The last route retries once; each try is held, ended and told by itself."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(broken(received=False), whole_answer())

    assert (await desk.call(workspace)).status == 200
    receipt = await desk.receipt(workspace)
    assert len({a["hold_id"] for a in receipt["attempts"]}) == 2
    assert receipt["cost_nusd"] == sum(a["cost_nusd"] for a in receipt["attempts"]) == await desk.spent(workspace)
    await desk.check()


@pytest.mark.parametrize("retries", [0, 1, 2])
async def test_the_last_route_is_retried_as_often_as_configured(desk: Rig, retries: int) -> None:
    """[routing] last_route_retries."""
    limits = replace(desk.product.routing, last_route_retries=retries, max_attempts=10)
    house = replace(desk.house, product=replace(desk.product, routing=limits))
    desk.gateway._house = house
    workspace = await desk.workspace("a", "openrouter")
    desk.script(broken(sent=False, received=False))

    await desk.call(workspace)

    assert len(desk.upstream.sent) == 1 + retries


async def test_an_announced_wait_is_told_and_not_waited_for(desk: Rig) -> None:
    """A rate limit longer than `retry_wait_max_s` is no retry; the caller hears when to come back."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(refusal(429, **{"retry-after": "40"}))

    caller = await desk.call(workspace)

    assert (caller.status, len(desk.upstream.sent)) == (503, 1)
    assert 38 <= int(caller.head["retry-after"]) <= 40


async def test_credits_step_in_for_a_failing_key(builder: Rig) -> None:
    """F10: the key is rejected, credits answer; the receipt names both, the key is marked, and is skipped next time."""
    workspace = await customer(builder)
    builder.script(refusal(401), whole_answer())
    first = await builder.call(workspace)
    second = await builder.call(workspace)

    assert (first.head["x-ownkey-funding"], second.head["x-ownkey-funding"]) == ("credits", "credits")
    assert len(builder.upstream.sent) == 3
    receipt = await builder.receipt(workspace)
    assert receipt["row"] == "F10"
    assert receipt["skips"][0]["route"] == "openrouter"
    assert await balance(builder, workspace) < 1_000
    await builder.check()


@pytest.mark.parametrize("status", [429, 500, 503, 404, 400])
async def test_credits_never_step_in_for_an_outage(builder: Rig, status: int) -> None:
    """X3: only a failing key leads to credits."""
    workspace = await customer(builder)
    builder.script(refusal(status))

    caller = await builder.call(workspace)

    assert caller.status != 200
    assert await balance(builder, workspace) == 1_000
    assert all(a["route"] == "openrouter" for a in (await builder.receipt(workspace))["attempts"])
    await builder.check()


@pytest.mark.parametrize(("status", "code"), [(401, "credential_rejected"), (402, "credential_out_of_funds")])
async def test_credits_that_cannot_step_in_leave_the_keys_code(builder: Rig, status: int, code: str) -> None:
    """F10 with the month's limit too small: the key's own code stands, also when the key was skipped as unhealthy."""
    workspace = await customer(builder, credits_if_key_fails_limit=1)
    builder.script(refusal(status))
    body = {**CHAT, "max_tokens": 30_000, "messages": [{"role": "user", "content": "x" * 400_000}]}
    first = await builder.call(workspace, body)
    second = await builder.call(workspace, body)

    assert (first.error["code"], second.error["code"]) == (code, code)
    assert len(builder.upstream.sent) == 1
    assert (await builder.receipt(workspace))["skips"][-1]["route"] == "credits"
    assert await balance(builder, workspace) == 1_000
    await builder.check()


async def test_a_retry_of_credits_that_cannot_be_held_is_short_of_credits(builder: Rig) -> None:
    """F13: no key of the customer's was tried, so none is blamed."""
    await builder.workspace("platform", "openrouter", kind="platform")
    workspace = await builder.workspace("b")
    await grant(builder, workspace, 1)
    builder.script(broken(received=False), whole_answer())

    async def refused(request: Any) -> Any:
        if request.attempt > 1:
            await builder.store.save_settings(workspace, {"always_use_key": True}, at_ms=NOV, actor=ACTOR)
        return await hold(request)

    hold, builder.store.hold = builder.store.hold, refused  # type: ignore[method-assign]
    caller = await builder.call(workspace)

    assert caller.error["code"] == "always_use_key_unavailable"
    assert await balance(builder, workspace) == 1
    await builder.check()


async def test_always_on_moves_no_credit(builder: Rig) -> None:
    """X3: with Always use this key nothing but the key is tried."""
    workspace = await customer(builder, always_use_key=True)
    builder.script(refusal(401))

    caller = await builder.call(workspace)

    assert (caller.status, caller.error["code"]) == (502, "credential_rejected")
    assert caller.head["x-should-retry"] == "false"
    assert await balance(builder, workspace) == 1_000
    await builder.check()


async def test_a_failed_direct_route_before_an_unhealthy_key_leads_to_credits(builder: Rig) -> None:
    """F10: where the OpenRouter key is known to fail, credits stand in its place behind the direct route."""
    product = replace(builder.product, direct_providers=("anthropic",))
    builder.gateway._house = replace(builder.house, product=product)
    workspace = await customer(builder)
    builder.script(refusal(401), whole_answer())
    await builder.call(workspace)
    saved = credential(workspace, "anthropic", id="cred_a_anthropic", origin="https://api.anthropic.com/v1")
    await builder.store.save_credential(saved, at_ms=NOV, actor=ACTOR)
    builder.script(refusal(529), whole_answer())

    caller = await builder.call(workspace, {**CHAT, "model": CLAUDE})

    assert (caller.status, caller.head["x-ownkey-funding"]) == (200, "credits")
    assert builder.upstream.hosts == ["anthropic", "openrouter"]
    await builder.check()


async def test_a_charge_is_for_what_was_delivered(builder: Rig) -> None:
    """M3: credits pay the reported cost with the markup; a failed attempt before it costs none."""
    await builder.workspace("platform", "openrouter", kind="platform")
    workspace = await builder.workspace("b")
    await grant(builder, workspace, 100)
    builder.script(broken(received=False), whole_answer())

    assert (await builder.call(workspace)).status == 200
    receipt = await builder.receipt(workspace)
    assert receipt["charge_nusd"] == -(-cost(10, 5) * 12 // 10)
    assert receipt["charge_credits"] == 1
    assert await balance(builder, workspace) == 99
    await builder.check()


async def test_credits_pay_what_was_journalled_if_the_process_dies(
    builder: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long stream paid with credits writes down what it has delivered; an expired hold charges no more than that."""
    monkeypatch.setattr("ownkey.gateway.attempt.JOURNAL_EVERY_S", 0.01)
    await builder.workspace("platform", "openrouter", kind="platform")
    workspace = await builder.workspace("b")
    await grant(builder, workspace, 100)
    long = "pelican " * 500
    builder.script(Exchange([p for _ in range(4) for p in (0.02, *sse(delta(long)))] + [STALL]))
    task, caller = builder.begin(workspace, {**CHAT, "max_tokens": 4_000, "stream": True})
    await caller.started.wait()
    await asyncio.sleep(0.1)
    await builder.store.expire_holds(builder.clock.now_ms() + 3_600_000)

    paid = 100 - await balance(builder, workspace)
    caller.hang_up()
    await task
    assert paid == 1
    await builder.check()


async def test_a_refused_plan_names_its_row(builder: Rig) -> None:
    """The first matching row of the payer decision is on the receipt of a refused call too."""
    unpaid = await builder.workspace("unpaid", entitlement=EntitlementState.NONE)
    await builder.store.save_settings(unpaid, {"always_use_key": True}, at_ms=NOV, actor=ACTOR)

    caller = await builder.call(unpaid)

    assert caller.error["code"] == "addon_required"
    receipt = await builder.receipt(unpaid)
    assert (receipt["row"], receipt["code"], receipt["attempts"]) == ("F1", "addon_required", [])


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": CHAT["messages"]}), ("/v1/responses", {"input": "x"}),
        ("/v1/messages", {"messages": CHAT["messages"], "max_tokens": 9}), ("/v1/embeddings", {"input": "x"}),
    ],
)
async def test_a_task_without_a_name_is_unknown(desk: Rig, path: str, fields: dict[str, Any]) -> None:
    """Bad input: `task:` names no task, in every dialect."""
    workspace = await desk.workspace("a", "openrouter")
    caller = await desk.call(workspace, {**fields, "model": "task:"}, path=path)

    assert caller.status == 400
    assert b"unknown_task" in caller.body


async def test_a_wrong_endpoint_is_the_callers_mistake_and_no_keys(desk: Rig) -> None:
    """A model that makes embeddings is not asked for answers: no route is tried, and none is switched off."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    desk.script(whole_answer())
    chat = await desk.call(workspace, {**CHAT, "model": "text-embedding-3-small"})
    vectors = await desk.call(workspace, {"model": "gpt-4o-mini", "input": "x"}, path="/v1/embeddings")

    assert [(c.status, c.error["code"], c.error["param"]) for c in (chat, vectors)] == [
        (400, "bad_request", "model")
    ] * 2
    assert desk.upstream.sent == []


async def test_responses_below_openais_least_limit_go_to_openrouter(desk: Rig) -> None:
    """Adding a direct key breaks no call that worked: OpenAI takes no limit below 16, OpenRouter takes any."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    desk.script(refusal(503))
    await desk.call(workspace, {"model": MINI, "input": "x", "max_output_tokens": 5}, path="/v1/responses")

    assert set(desk.upstream.hosts) == {"openrouter"}
    assert "max_output_tokens" in (await desk.receipt(workspace))["skips"][0]["why"]


async def test_an_unknown_tier_is_named(desk: Rig) -> None:
    """Under a cap a tier without a price is refused by its own name."""
    workspace = await desk.workspace("a", "openrouter")
    await desk.cap(workspace, 10**9)
    caller = await desk.call(workspace, {**CHAT, "service_tier": "priority"})

    assert (caller.error["code"], caller.error["param"]) == ("unpriced_model", "service_tier")
    assert "priority" in caller.error["message"]
