"""What traffic suspects is confirmed for free, what failed is probed in time, and what works again is restored."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.control.house import ACTOR, KEYS, FakeResponse, House, open_house

from ownkey.control.credentials import CardState
from ownkey.control.health import ASK_AGAIN_MS, GOOD_FOR_MS, LOOK_AHEAD_MS, MAX_TASKS
from ownkey.domain.exchange import UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.domain.health import KEY_LIMIT, REPROBE_AUTH_MS, REPROBE_FUNDS_MS, Evidence, Sign
from ownkey.domain.workspace import Credential, EntitlementState, Health, WorkspaceState

OPENROUTER_401 = (401, {"error": {"code": 401, "message": "User not found."}})
ANTHROPIC_401 = (401, {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}})
OPENAI_401 = (401, {"error": {"message": "Incorrect API key", "type": "invalid_request_error",
                              "code": "invalid_api_key", "param": None}})
GOOGLE_400 = (400, {"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT", "details": [
    {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]}})
SCOPES_401 = (401, {"error": {"message": "You have insufficient permissions for this operation. Missing scopes: "
                              "api.model.read.", "type": "invalid_request_error", "param": None, "code": None}})
REFUSALS = {"openrouter": OPENROUTER_401, "anthropic": ANTHROPIC_401, "openai": OPENAI_401, "google": GOOGLE_400}
PATHS = {"openrouter": "/key", "anthropic": "/models", "openai": "/models", "google": "/models"}

UNHEALTHY, RECOVERED = "credential_unhealthy", "credential_recovered"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


async def key_of(house: House, workspace: WorkspaceState, provider: str = "openrouter") -> Credential:
    return (await house.again(workspace)).credentials[provider]


async def notices(house: House, workspace: WorkspaceState) -> dict[str, int]:
    """E-mails about keys' health, by kind."""
    rows = await house.store.load_outbox(workspace.id, limit=500)
    told = [row["kind"] for row in rows if row["channel"] == "email"]
    return dict(Counter(kind for kind in told if kind.startswith("credential_")))


async def settle(house: House) -> None:
    """Until no probe is under way and all that was marked is written."""
    for _ in range(100):
        await house.store.check_writable()
        if not house.keeper._tasks:
            break
        await asyncio.sleep(0)
    await house.store.check_writable()


async def refuse(house: House, workspace: WorkspaceState, provider: str = "openrouter") -> bool:
    """A call was rejected for the key's sake."""
    taken = house.keeper.mark(
        await key_of(house, workspace, provider), Health.REJECTED, "401", house.clock.at_ms
    )
    await settle(house)
    return taken


def probes(house: House, provider: str = "openrouter") -> int:
    return sum(1 for request in house.upstream.sent if request.path.partition("?")[0].endswith(PATHS[provider]))


@pytest.mark.parametrize("provider", ["openrouter", "anthropic", "openai", "google"])
async def test_a_revoked_key_is_confirmed_within_seconds_and_told_once(house: House, provider: str) -> None:
    """X6: the free probe of that provider, with the key in its own header; one notice however many calls fail."""
    workspace = await house.with_key(provider)
    key = await key_of(house, workspace, provider)
    house.upstream.script[PATHS[provider]] = REFUSALS[provider]
    house.upstream.sent.clear()

    for _ in range(20):
        assert house.keeper.mark(key, Health.REJECTED, "401", house.clock.at_ms)
    await settle(house)

    assert len(house.upstream.sent) == 1
    assert house.upstream.sent[0].method == "GET"
    assert house.upstream.sent[0].credential is not None
    after = await key_of(house, workspace, provider)
    assert (after.health, after.probe_failures) == (Health.REJECTED, 1)
    assert after.next_probe_ms >= house.clock.at_ms + REPROBE_AUTH_MS
    assert await notices(house, workspace) == {UNHEALTHY: 1}
    view = (await house.desk.incidents.list(workspace, 10))[0]
    assert (view.provider, view.cause, view.closed_at_ms) == (provider, "rejected", None)


@pytest.mark.parametrize(("provider", "answer"), [
    ("openrouter", None), ("anthropic", None), ("google", None), ("openai", None), ("openai", SCOPES_401),
])
async def test_an_outage_that_answers_401_costs_one_call_and_no_notice(
    house: House, provider: str, answer: Any
) -> None:
    """OpenRouter outages have: the probe passes and the key is back. A restricted OpenAI key may not list models."""
    workspace = await house.with_key(provider)
    if answer is not None:
        house.upstream.script["/models"] = answer

    assert await refuse(house, workspace, provider)

    assert (await key_of(house, workspace, provider)).health is Health.OK
    assert await notices(house, workspace) == {}
    assert await house.desk.incidents.list(workspace, 10) == ()


async def test_a_second_rejection_of_a_good_key_speaks_of_the_model(house: House) -> None:
    """The key has just proved good: nothing is marked, and the caller leaves the model out. Minutes later it may be
    suspected anew."""
    workspace = await house.with_key()
    assert await refuse(house, workspace)
    written = (await key_of(house, workspace)).health_at_ms

    house.clock.pass_s(2)
    assert not await refuse(house, workspace)
    assert (await key_of(house, workspace)).health_at_ms == written
    house.clock.pass_s(GOOD_FOR_MS / 1_000)
    assert await refuse(house, workspace)


async def test_a_key_revoked_just_after_it_proved_good_is_found_out(house: House) -> None:
    """Believed, but asked again once a minute: its models would else be switched off one by one."""
    workspace = await house.with_key()
    assert await refuse(house, workspace)
    house.upstream.script["/key"] = OPENROUTER_401
    house.clock.pass_s(ASK_AGAIN_MS / 1_000)
    before = probes(house)

    assert not await refuse(house, workspace)

    assert probes(house) == before + 1
    assert (await key_of(house, workspace)).health is Health.REJECTED
    assert await notices(house, workspace) == {UNHEALTHY: 1}


async def test_a_key_is_asked_about_once_a_minute_however_often_it_is_rejected(house: House) -> None:
    """Calls that were in flight go on failing after the verdict, and one model of a good key may refuse for ever."""
    workspace = await house.with_key()
    before, key = probes(house), await key_of(house, workspace)
    for _ in range(29):
        house.keeper.mark(key, Health.REJECTED, "401", house.clock.at_ms)
        await settle(house)
        house.clock.pass_s(4)

    assert probes(house) == before + 2


@pytest.mark.parametrize("answer", [
    UpstreamError("connect refused", sent=False, received=False),
    UpstreamError("no head in 10 s", sent=True, received=False, timeout=True),
    (503, b"<html>"), (429, {"error": {"code": 429, "message": "slow down"}}), (200, b"no json"),
])
async def test_a_probe_without_a_verdict_leaves_the_suspicion_and_asks_again(house: House, answer: Any) -> None:
    """Skipped meanwhile, nobody told; the job asks soon, and the verdict decides."""
    workspace = await house.with_key()
    house.upstream.script["/key"] = answer
    await refuse(house, workspace)
    suspect = await key_of(house, workspace)
    assert (suspect.health, suspect.probe_failures) == (Health.REJECTED, 0)
    assert suspect.next_probe_ms - house.clock.at_ms <= 6_000
    assert await notices(house, workspace) == {}
    card = house.desk.credentials.view(await house.again(workspace), "openrouter")
    assert (card.state, "being checked" in card.sentence) == (CardState.UNHEALTHY, True)

    house.upstream.script["/key"] = OPENROUTER_401
    house.clock.pass_s(6)
    assert await house.keeper.probe_due() == 1
    assert (await key_of(house, workspace)).probe_failures == 1
    assert await notices(house, workspace) == {UNHEALTHY: 1}


async def test_a_rejected_key_is_probed_less_and_less_often_until_it_works(house: House) -> None:
    """5 min doubling to 6 h by the clock; each probe once; one recovery notice, and calls use the key again."""
    workspace = await house.with_key()
    await house.keeper.probe_due()
    house.upstream.script["/key"] = OPENROUTER_401
    await refuse(house, workspace)
    waits = []
    for _ in range(9):
        due = (await key_of(house, workspace)).next_probe_ms
        waits.append((due - house.clock.at_ms) / 60_000)
        house.clock.pass_s((due - LOOK_AHEAD_MS - house.clock.at_ms) / 1_000 - 1)
        assert await house.keeper.probe_due() == 0
        house.clock.pass_s(1)
        assert await house.keeper.probe_due() == 1
        assert await house.keeper.probe_due() == 0
    assert [wait // 5 * 5 for wait in waits[:3]] == [5, 10, 20]
    assert all(wait <= 6 * 66 for wait in waits)
    assert waits[-1] >= 360

    house.upstream.script.pop("/key")
    house.clock.pass_s(7 * 3_600)
    await house.keeper.probe_due()
    assert (await key_of(house, workspace)).health is Health.OK
    assert await notices(house, workspace) == {UNHEALTHY: 1, RECOVERED: 1}
    assert [i.closed_at_ms for i in await house.desk.incidents.list(workspace, 10)] == [house.clock.at_ms]


async def test_a_providers_retry_after_holds_the_probes_back(house: House) -> None:
    """429 with a wait of an hour: not one probe before."""
    workspace = await house.with_key()
    house.upstream.script["/key"] = OPENROUTER_401
    await refuse(house, workspace)
    original = house.upstream.send

    async def busy(request: UpstreamRequest, *, head_timeout_s: float) -> FakeResponse:
        response = await original(request, head_timeout_s=head_timeout_s)
        response.headers = {"content-type": "application/json", "retry-after": "3600"}
        return response

    house.upstream.script["/key"] = (429, {"error": {"code": 429, "message": "slow down"}})
    house.upstream.send = busy  # type: ignore[method-assign]
    house.clock.pass_s(400)
    assert await house.keeper.probe_due() == 1
    house.clock.pass_s(3_500)
    assert await house.keeper.probe_due() == 0
    house.clock.pass_s(500)
    assert await house.keeper.probe_due() == 1


async def test_a_keys_own_limit_is_seen_and_its_end_too(house: House) -> None:
    """OpenRouter's GET /key tells that the limit is used up, and without a paid call that it has room again."""
    workspace = await house.with_key()
    key = await key_of(house, workspace)
    house.upstream.script["/key"] = (200, {"data": {"limit": 5, "limit_remaining": 0, "limit_reset": "monthly"}})
    house.keeper.mark(key, Health.NO_FUNDS, "403 key_limit", house.clock.at_ms)
    await settle(house)

    seen = await key_of(house, workspace)
    assert (seen.health, seen.health_signal, seen.probe_failures) == (Health.NO_FUNDS, KEY_LIMIT, 0)
    assert await notices(house, workspace) == {UNHEALTHY: 1}
    house.clock.pass_s((seen.next_probe_ms - house.clock.at_ms) / 1_000)
    assert await house.keeper.probe_due() == 1
    assert (await key_of(house, workspace)).health is Health.NO_FUNDS
    house.upstream.script["/key"] = (200, {"data": {"limit": 10, "limit_remaining": 5}})
    house.clock.pass_s(6 * 3_600)
    assert await house.keeper.probe_due() == 1
    assert (await key_of(house, workspace)).health is Health.OK
    assert await notices(house, workspace) == {UNHEALTHY: 1, RECOVERED: 1}
    assert not [r for r in house.upstream.sent if r.path.startswith("/chat")]


async def test_an_empty_account_is_told_at_once_and_waits_for_a_call(house: House) -> None:
    """A limit that is not used up says nothing about the account's money: only a real call can."""
    workspace = await house.with_key()
    house.upstream.script["/key"] = (200, {"data": {"limit": 10, "limit_remaining": 9}})
    house.keeper.mark(await key_of(house, workspace), Health.NO_FUNDS, "402", house.clock.at_ms)
    await settle(house)
    assert await notices(house, workspace) == {UNHEALTHY: 1}
    sick = await key_of(house, workspace)
    assert sick.next_probe_ms >= house.clock.at_ms + REPROBE_FUNDS_MS

    house.clock.pass_s(3_600)
    assert await house.keeper.probe_due() == 0
    house.keeper.mark(sick, Health.NO_FUNDS, "402", house.clock.at_ms)
    await settle(house)
    failed = await key_of(house, workspace)
    assert failed.probe_failures == 1
    assert failed.next_probe_ms >= house.clock.at_ms + 2 * REPROBE_FUNDS_MS
    house.keeper.mark(failed, Health.OK, "answered", house.clock.at_ms)
    await settle(house)
    assert (await key_of(house, workspace)).health is Health.OK
    assert await notices(house, workspace) == {UNHEALTHY: 1, RECOVERED: 1}


async def test_a_key_that_is_not_used_is_not_probed(house: House) -> None:
    """Disabled: not at all. Kept for an add-on that is not active, or of a suspended workspace: neither."""
    workspace = await house.with_key()
    house.upstream.script["/key"] = OPENROUTER_401
    await refuse(house, workspace)
    before = probes(house)
    await house.desk.credentials.set_enabled(await house.again(workspace), "openrouter", False, ACTOR)
    house.clock.pass_s(3_600)
    assert await house.keeper.probe_due() == 0
    await house.desk.credentials.set_enabled(await house.again(workspace), "openrouter", True, ACTOR)
    for changes in ({"status": "suspended"}, {"status": "active", "entitlement": EntitlementState.INACTIVE}):
        await house.store.save_settings(workspace.id, changes, at_ms=house.clock.at_ms, actor=ACTOR)
        house.clock.pass_s(7 * 3_600)
        await house.keeper.probe_due()
        assert probes(house) == before
        assert (await key_of(house, workspace)).next_probe_ms > house.clock.at_ms

    await house.store.save_settings(
        workspace.id, {"entitlement": EntitlementState.INCLUDED}, at_ms=house.clock.at_ms, actor=ACTOR
    )
    house.clock.pass_s(7 * 3_600)
    await house.keeper.probe_due()
    assert probes(house) == before + 1


async def test_a_restart_in_the_middle_of_a_confirmation_loses_nothing(house: House) -> None:
    """The process ends while the probe hangs: it is cancelled, the suspicion stays, and the next start probes."""
    workspace = await house.with_key()
    hanging = asyncio.Event()
    original = house.upstream.send

    async def hang(request: UpstreamRequest, *, head_timeout_s: float) -> FakeResponse:
        hanging.set()
        await asyncio.Event().wait()
        return await original(request, head_timeout_s=head_timeout_s)

    house.upstream.send = hang  # type: ignore[method-assign]
    assert house.keeper.mark(await key_of(house, workspace), Health.REJECTED, "401", house.clock.at_ms)
    await hanging.wait()
    await house.keeper.stop()
    assert not house.keeper._tasks
    assert house.keeper.mark(await key_of(house, workspace), Health.REJECTED, "401", house.clock.at_ms)
    assert not house.keeper._tasks

    house.upstream.send = original  # type: ignore[method-assign]
    await house.store.check_writable()
    assert await house.keeper.probe_due() == 1
    assert (await key_of(house, workspace)).health is Health.OK
    assert await notices(house, workspace) == {}


async def test_probes_at_once_are_bounded(house: House) -> None:
    """A thousand keys rejected at once are not a thousand probes at once; the rest is the job's."""
    workspace = await house.with_key()
    key = await key_of(house, workspace)
    running = asyncio.Event()

    async def hang(request: UpstreamRequest, *, head_timeout_s: float) -> FakeResponse:
        await running.wait()
        return FakeResponse(503, b"")

    house.upstream.send = hang  # type: ignore[method-assign]
    for n in range(1_000):
        house.keeper._look_into(replace(key, id=f"cred_{n}"), house.clock.at_ms)

    assert len(house.keeper._tasks) == MAX_TASKS
    running.set()
    await settle(house)


async def test_a_key_that_cannot_be_opened_is_the_operators_matter(house: House) -> None:
    """Found by a probe: marked, one notice, and no further probe."""
    workspace = await house.with_key()
    house.opener.broken = True
    await refuse(house, workspace)

    assert (await key_of(house, workspace)).undecryptable
    assert await notices(house, workspace) == {UNHEALTHY: 1}
    house.clock.pass_s(3_600)
    assert await house.keeper.probe_due() == 0
    status = await house.desk.status.show(await house.again(workspace))
    assert "The saved OpenRouter key cannot be opened." in status.attention


async def test_the_status_says_what_calls_do_meanwhile(house: House) -> None:
    """The payer sentence is true now: no key pays that its provider refuses."""
    workspace = await house.with_key()
    await house.save_key(workspace, "anthropic")
    house.upstream.script["/key"] = OPENROUTER_401
    await refuse(house, workspace)

    status = await house.desk.status.show(await house.again(workspace))

    assert status.headline == "Needs attention"
    assert status.attention == ("OpenRouter does not accept the saved key.",)
    tail = KEYS["openrouter"][-4:]
    assert status.sentence == (
        f"Claude calls use your own key. OpenRouter does not accept the saved key (…{tail}): other calls fail until it "
        "works again or is replaced."
    )


@pytest.mark.parametrize(("always", "fails", "platform", "payer", "says"), [
    (True, True, True, "your_key", "Credits are not touched."),
    (False, False, True, "your_key", "credits are not used."),
    (False, True, True, "credits", "credits pay for AI calls until it works again"),
    (False, True, False, "your_key", "fail until it works again or is replaced; credits are not used."),
])
async def test_with_credits_the_status_says_who_stands_in(
    tmp_path: Path, always: bool, fails: bool, platform: bool, payer: str, says: str
) -> None:
    """The switches decide, and the sentence tells; credits that no key of the platform's can spend stand in for
    nothing."""
    async with open_house(tmp_path, "app-builder") as house:
        if platform:
            await house.desk.credentials.save(
                await house.desk.workspaces.platform(ACTOR), "openrouter", "sk-or-v1-" + "ab" * 32, label="",
                save_anyway=False, address="", actor=ACTOR,
            )
        workspace = await house.with_key(plan="enterprise")
        await house.desk.workspaces.change(
            workspace, {"always_use_key": always, "credits_if_key_fails": fails}, ACTOR
        )
        await house.desk.credits.grant(workspace, 1_000, "operator", None, "k", ACTOR)
        house.keeper.mark(await key_of(house, workspace), Health.NO_FUNDS, "402", house.clock.at_ms)
        await settle(house)
        status = await house.desk.status.show(await house.again(workspace))

    assert status.payer == payer, status
    assert says in status.sentence


async def test_a_key_that_ends_soon_is_told_ahead(house: House) -> None:
    """`expires_at` of OpenRouter: kept when saved, told within a week of it, and told when it is over."""
    house.upstream.script["/key"] = (200, {"data": {"expires_at": "2026-12-01T00:00:00Z"}})
    workspace = await house.with_key()
    told = []
    for seconds in (0, 6 * 86_400, 10 * 86_400):
        house.clock.pass_s(seconds)
        told.append((await house.desk.status.show(await house.again(workspace))).attention)

    assert (await key_of(house, workspace)).expires_at_ms == 1_796_083_200_000
    assert told == [
        (), ("The saved OpenRouter key expires on 1 Dec 2026, 00:00 UTC: save a new one before.",),
        ("The saved OpenRouter key expired on 1 Dec 2026, 00:00 UTC: save a new one.",),
    ]


async def test_a_bug_in_one_probe_stops_no_other(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, without the key, and the round goes on."""
    first = await house.with_key()
    second = await house.with_key(name="Other")
    house.upstream.script["/key"] = OPENROUTER_401
    for workspace in (first, second):
        await refuse(house, workspace)
    asked: list[str] = []

    def answer(request: UpstreamRequest) -> Any:
        asked.append(request.path)
        if len(asked) == 1:
            raise RuntimeError("a bug")
        return OPENROUTER_401

    house.upstream.script["/key"] = answer
    house.clock.pass_s(400)
    with caplog.at_level(logging.ERROR, "ownkey.health"):
        assert await house.keeper.probe_due() == 2

    failures = [(await key_of(house, workspace)).probe_failures for workspace in (first, second)]
    assert sorted(failures) == [1, 2]
    assert "a key's probe failed: RuntimeError" in caplog.text
    assert KEYS["openrouter"][10:30] not in caplog.text


async def test_an_open_incident_says_what_is_wrong_now(house: House) -> None:
    """Rejected first, out of funds now: the present cause leads, and the first one stays told."""
    workspace = await house.with_key()
    key = await key_of(house, workspace)
    for health, sign in ((Health.REJECTED, Sign.REJECTED), (Health.NO_FUNDS, Sign.NO_FUNDS)):
        found = Evidence(sign, f"signal of {health.value}", house.clock.at_ms)
        await house.store.note_health(workspace.id, key.id, key.version, found)
    view = (await house.desk.incidents.list(await house.again(workspace), 10))[0]
    card = await key_of(house, workspace)
    await house.store.note_health(
        workspace.id, key.id, key.version, Evidence(Sign.ANSWERED, "test: works", house.clock.at_ms)
    )
    closed = (await house.desk.incidents.list(await house.again(workspace), 10))[0]

    assert (view.cause, view.signal) == (card.health.value, card.health_signal) == ("no_funds", "signal of no_funds")
    assert view.sentence.startswith("OpenRouter says that there are no funds behind the saved key (signal of no_funds)")
    assert view.sentence.endswith("When it began: OpenRouter does not accept the saved key (signal of rejected).")
    assert (closed.cause, closed.closed_at_ms is not None) == ("rejected", True)
