"""A price that was looked up again in the middle of a call: the plan is made anew, and no rule is left behind."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.gateway.conftest import TIMES
from tests.gateway.gateway_kit import CHAT, CLAUDE, JSON_TYPE, MINI, Exchange, Rig, open_rig, refusal, whole_answer
from tests.gateway.test_routes_and_keys import balance, customer
from tests.store.store_kit import ACTOR, NOV, credential

from ownkey.domain.workspace import CredentialStatus

NO_ENDPOINTS = Exchange(
    [b'{"error":{"code":404,"message":"No endpoints found that match your max_price"}}'], status=404, headers=JSON_TYPE
)
MINUTE_S = 60.0


class Found:
    """A price refresh that always finds a newer price; `then` is done meanwhile."""

    def __init__(self, then: Any = None) -> None:
        self._then = then

    async def refresh(self, slug: str, timeout_s: float) -> bool:
        if self._then is not None:
            await self._then()
        return True


def with_refresh(rig: Rig, then: Any = None) -> None:
    rig.gateway._house = replace(rig.house, price_refresh=Found(then))


async def test_a_looked_up_price_is_no_attempt_more_than_allowed(tmp_path: Path) -> None:
    """`max_attempts` bounds what is sent for one call, whatever the reason to send again."""
    async with open_rig(tmp_path, **TIMES, max_attempts=1) as rig:
        with_refresh(rig)
        workspace = await rig.workspace("a", "openrouter")
        await rig.cap(workspace, 10**9)
        rig.script(NO_ENDPOINTS, whole_answer())
        caller = await rig.call(workspace)

        assert (caller.status, len(rig.upstream.sent)) == (404, 1)
        await rig.check()


async def test_the_trial_of_a_sick_key_goes_on_after_a_looked_up_price(desk: Rig) -> None:
    """The one call that finds out whether a key works again is not refused by its own trial."""
    workspace = await desk.workspace("a", "openrouter")
    await desk.cap(workspace, 10**9)
    desk.script(refusal(402))
    await desk.call(workspace)
    desk.clock.ahead_s += 20 * MINUTE_S
    with_refresh(desk)
    desk.script(NO_ENDPOINTS, whole_answer())
    caller = await desk.call(workspace)

    assert (caller.status, len(desk.upstream.sent)) == (200, 2)
    await desk.check()


async def test_a_looked_up_price_of_a_sick_keys_trial_leads_to_no_credits(builder: Rig) -> None:
    """F10: a missing endpoint is no failing key, so the same key goes on, and credits are not touched."""
    workspace = await customer(builder)
    builder.script(refusal(402), whole_answer())
    await builder.call(workspace)
    builder.clock.ahead_s += 20 * MINUTE_S
    with_refresh(builder)
    before = await balance(builder, workspace)
    builder.script(NO_ENDPOINTS, whole_answer())
    caller = await builder.call(workspace)

    assert (caller.status, caller.head["x-ownkey-funding"]) == (200, "byok")
    assert await balance(builder, workspace) == before
    await builder.check()


async def test_a_call_that_went_to_credits_never_goes_back_to_the_key(builder: Rig) -> None:
    """The payer changes once: where credits cannot go on after a looked-up price, the call ends."""
    workspace = await customer(builder)

    async def platform_key_goes() -> None:
        platform = await builder.store.load_platform()
        assert platform is not None
        await builder.store.set_credential_status(
            platform.id, "openrouter", CredentialStatus.DISABLED, at_ms=NOV, actor=ACTOR
        )

    with_refresh(builder, platform_key_goes)
    builder.script(refusal(401), NO_ENDPOINTS, whole_answer())
    caller = await builder.call(workspace)

    receipt = await builder.receipt(workspace)
    assert [attempt["route"] for attempt in receipt["attempts"]] == ["openrouter", "credits"]
    assert caller.status >= 400
    await builder.check()


async def test_a_platform_key_that_cannot_be_opened_does_not_lead_back_to_the_rejected_key(builder: Rig) -> None:
    """F10: the key's own code stands, and its provider is not asked a second time."""
    workspace = await customer(builder)
    builder.opener.broken.add("cred_platform_openrouter")
    builder.script(refusal(401))
    caller = await builder.call(workspace)

    assert (caller.status, caller.error["code"]) == (502, "credential_rejected")
    assert len(builder.upstream.sent) == 1
    await builder.check()


async def test_a_key_that_cannot_be_opened_does_not_start_the_call_again(tmp_path: Path) -> None:
    """Routes that have failed in this call are behind it: the same model's next route answers."""
    async with open_rig(tmp_path, **TIMES, last_route_retries=0) as rig:
        workspace = await rig.workspace("a", "openrouter", "openai", "anthropic")
        tasks = {**rig.product.tasks}
        tasks["auto_triage"] = replace(tasks["auto_triage"], models=(MINI, CLAUDE))
        object.__setattr__(rig.product, "tasks", tasks)
        rig.opener.broken.add("cred_a_anthropic")
        rig.script(refusal(503), refusal(503), whole_answer())
        caller = await rig.call(workspace, {"model": "task:auto_triage", "messages": CHAT["messages"]})

        receipt = await rig.receipt(workspace)
        told = [(attempt["route"], attempt["status"]) for attempt in receipt["attempts"]]
        assert told == [("direct", 503), ("openrouter", 503), ("direct", None), ("openrouter", 200)]
        assert (caller.status, receipt["attempts"][-1]["model"]) == (200, CLAUDE)
        await rig.check()


async def test_a_direct_route_that_may_be_retried_has_the_same_routes_behind_it(tmp_path: Path) -> None:
    """F10 with `direct_retries`: a wait that is too long leads where no retry would have led, to credits here."""
    async with open_rig(tmp_path, "app-builder", **TIMES, direct_retries=1) as builder:
        product = replace(builder.product, direct_providers=("anthropic",))
        builder.gateway._house = replace(builder.house, product=product)
        workspace = await customer(builder)
        builder.script(refusal(401), whole_answer())
        await builder.call(workspace)
        saved = credential(workspace, "anthropic", id="cred_a_anthropic", origin="https://api.anthropic.com/v1")
        await builder.store.save_credential(saved, at_ms=NOV, actor=ACTOR)
        builder.script(refusal(429, code="rate_limit_error", **{"retry-after": "60"}), whole_answer())
        caller = await builder.call(workspace, {**CHAT, "model": CLAUDE})

        assert (caller.status, caller.head["x-ownkey-funding"]) == (200, "credits")
        await builder.check()


async def test_what_a_provider_has_stored_is_not_looked_for_behind_another_while_a_circuit_is_open(desk: Rig) -> None:
    """Stateful calls: two routes could hold it, whether or not one of them rests for a moment."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    desk.script(refusal(503), whole_answer(), refusal(503), whole_answer())
    await desk.call(workspace)
    await desk.call(workspace)
    desk.script(whole_answer())
    body = {"model": MINI, "input": "hi", "previous_response_id": "resp_1"}
    caller = await desk.call(workspace, body, path="/v1/responses")

    assert (caller.status, caller.error["param"]) == (400, "previous_response_id")
    assert desk.upstream.sent == []
