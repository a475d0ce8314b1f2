"""What calls do with a key that failed: one real call when its time has come, none while only a probe may tell."""

import asyncio

import pytest
from tests.gateway.gateway_kit import Exchange, Rig, refusal, whole_answer

from ownkey.domain.health import Evidence, Sign
from ownkey.domain.workspace import Credential, Health

MINUTE_S = 60.0


async def key_of(rig: Rig, workspace: str, provider: str = "openai") -> Credential:
    await rig.store.check_writable()
    state = await rig.store.load_workspace(workspace)
    assert state is not None
    return state.credentials[provider]


async def emails(rig: Rig, workspace: str) -> list[str]:
    rows = await rig.store.load_outbox(workspace, limit=50)
    return sorted(row["kind"] for row in rows if row["channel"] == "email" and row["kind"].startswith("credential"))


async def test_a_direct_key_without_funds_is_tried_by_one_call_when_its_time_has_come(desk: Rig) -> None:
    """15 minutes without a try; then of two calls at once one tries; it fails, and the next try is half an hour
    away; the one after that is answered, and the key is back."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    desk.script(refusal(402), whole_answer())
    await desk.call(workspace)
    assert desk.upstream.hosts == ["openai", "openrouter"]
    assert (await key_of(desk, workspace)).health is Health.NO_FUNDS

    desk.clock.ahead_s += 14 * MINUTE_S
    desk.script(whole_answer())
    await desk.call(workspace)
    assert desk.upstream.hosts == ["openrouter"]

    desk.clock.ahead_s += 3 * MINUTE_S
    gate = asyncio.Event()
    desk.script(Exchange(refusal(402).parts, status=402, before_head=[gate]), whole_answer(), whole_answer())
    trial, _ = desk.begin(workspace)
    await desk.upstream.begun.wait()
    await desk.call(workspace)
    gate.set()
    await trial
    assert desk.upstream.hosts == ["openai", "openrouter", "openrouter"]
    assert (await key_of(desk, workspace)).probe_failures == 1

    desk.clock.ahead_s += 29 * MINUTE_S
    desk.script(whole_answer())
    await desk.call(workspace)
    desk.clock.ahead_s += 5 * MINUTE_S
    await desk.call(workspace)
    assert desk.upstream.hosts == ["openrouter", "openai"]
    assert (await key_of(desk, workspace)).health is Health.OK
    assert await emails(desk, workspace) == ["credential_recovered", "credential_unhealthy"]
    await desk.check()


async def test_a_stated_reset_is_waited_for_by_calls(desk: Rig) -> None:
    """A day's quota: nothing is tried before its end, however often 15 minutes pass."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    key = await key_of(desk, workspace)
    desk.house.health.mark(
        key, Health.NO_FUNDS, "daily quota", desk.clock.now_ms(), resets_at_ms=desk.clock.now_ms() + 20 * 3_600_000
    )
    await desk.store.check_writable()
    desk.script(whole_answer())
    for _ in range(19):
        desk.clock.ahead_s += 60 * MINUTE_S
        await desk.call(workspace)
    assert set(desk.upstream.hosts) == {"openrouter"}

    desk.clock.ahead_s += 61 * MINUTE_S
    desk.script(whole_answer())
    await desk.call(workspace)
    assert desk.upstream.hosts == ["openai"]


async def test_a_rejected_direct_key_is_tried_by_no_call(desk: Rig) -> None:
    """Only a free probe, a Test or a new key brings it back: no customer's call pays for the asking."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    key = await key_of(desk, workspace)
    await desk.store.note_health(
        workspace, key.id, key.version, Evidence(Sign.REJECTED, "401", desk.clock.now_ms())
    )
    desk.script(whole_answer())
    for _ in range(3):
        desk.clock.ahead_s += 600 * MINUTE_S
        await desk.call(workspace)
    assert set(desk.upstream.hosts) == {"openrouter"}

    await desk.store.note_health(
        workspace, key.id, key.version, Evidence(Sign.ACCEPTED, "probe", desk.clock.now_ms())
    )
    desk.script(whole_answer())
    await desk.call(workspace)
    assert desk.upstream.hosts == ["openai"]


@pytest.mark.parametrize("status", [401, 402])
async def test_a_burst_that_fails_together_is_one_incident_at_most(desk: Rig, status: int) -> None:
    """Fifty calls in flight fail for one key: what they say is one fact, or one suspicion."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(refusal(status))
    await asyncio.gather(*[desk.call(workspace) for _ in range(50)])
    await desk.store.check_writable()

    assert len(await desk.store.load_incidents(workspace)) == (1 if status == 402 else 0)
    assert await emails(desk, workspace) == (["credential_unhealthy"] if status == 402 else [])
    assert (await key_of(desk, workspace, "openrouter")).probe_failures == 0
