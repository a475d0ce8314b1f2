"""What is announced, in the transaction that makes it so: each thing once, in whatever order and how often it comes."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from store_kit import (
    ACTOR,
    DAY,
    NOV,
    Clock,
    add_workspace,
    credential,
    credits_request,
    finish,
    open_store,
    request,
    settle,
    take,
)

from ownkey.domain.health import Evidence, Sign
from ownkey.domain.records import Member
from ownkey.domain.workspace import EntitlementState, Health, Role
from ownkey.store import SQLiteStore

DEC = NOV + 14 * DAY  # 2026-12-01T00:00:00Z


async def told(store: SQLiteStore, workspace: str, *kinds: str) -> list[dict[str, Any]]:
    """Payloads of events of these kinds, oldest first; every event has its e-mail."""
    rows = await store.load_outbox(workspace, limit=1_000)
    by_channel = {
        channel: [(row["kind"], row["payload"]) for row in reversed(rows) if row["channel"] == channel]
        for channel in ("email", "event")
    }
    assert by_channel["email"] == by_channel["event"]
    return [{"kind": kind, **payload} for kind, payload in by_channel["event"] if not kinds or kind in kinds]


async def pause(store: SQLiteStore, workspace: str) -> None:
    await store.save_cap(workspace, 1_000, 80, at_ms=NOV, actor=ACTOR)
    req = request(workspace, 1_000)
    await take(store, req)
    await finish(store, req, settle(req, 1_000))
    cap = await store.load_cap(workspace, NOV)
    assert cap is not None
    assert cap.state == "paused"


async def test_a_raised_cap_says_that_ai_is_back(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await pause(store, ws.id)
    await store.save_cap(ws.id, 1_000, 80, at_ms=NOV + 1, actor=ACTOR)  # still paused: nothing resumed
    assert await told(store, ws.id, "ai_resumed") == []

    await asyncio.gather(*(store.save_cap(ws.id, 9_000, 80, at_ms=NOV + 2, actor=ACTOR) for _ in range(5)))

    (resumed,) = await told(store, ws.id, "ai_resumed")
    assert (resumed["cause"], resumed["cap_nusd"], resumed["cap_version"]) == ("cap_changed", "9000", 4)


@pytest.mark.parametrize("first", ["a call", "the job", "both at once"])
async def test_a_new_month_says_so_once_whoever_begins_it(store: SQLiteStore, clock: Clock, first: str) -> None:
    ws = await add_workspace(store)
    await pause(store, ws.id)
    clock.ms = DEC
    call = request(ws.id, 100, at_ms=DEC, expires_at_ms=DEC + 180_000)
    assert await store.roll_periods(DEC - 1) == 0
    match first:
        case "a call":
            await take(store, call)
            assert await store.roll_periods(DEC) == 0
        case "the job":
            assert await store.roll_periods(DEC) == 1
            await take(store, call)
        case _:
            await asyncio.gather(take(store, call), store.roll_periods(DEC), store.roll_periods(DEC))
    await finish(store, call, settle(call, 100))

    (resumed,) = await told(store, ws.id, "ai_resumed")
    assert (resumed["cause"], resumed["period"], resumed["at"]) == ("new_period", "2026-12", "2026-12-01T00:00:00Z")


async def test_a_month_that_begins_paused_resumes_nothing(store: SQLiteStore, clock: Clock) -> None:
    """A cap of 0 is a standing wish; an unpaused month that ends is no news either."""
    zero, free = await add_workspace(store, "zero"), await add_workspace(store, "free")
    await store.save_cap(zero.id, 0, 80, at_ms=NOV, actor=ACTOR)
    await store.save_cap(free.id, 5_000, 80, at_ms=NOV, actor=ACTOR)
    clock.ms = DEC
    assert await store.roll_periods(DEC) == 1
    await take(store, req := request(free.id, 10, at_ms=DEC, expires_at_ms=DEC + 180_000))
    await finish(store, req, settle(req, 10))

    assert await told(store, zero.id, "ai_resumed") == await told(store, free.id, "ai_resumed") == []
    assert await store.roll_periods(DEC + 1) == 0


async def test_every_change_that_decides_who_pays_is_told_with_the_payer(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_credential(credential(ws.id), at_ms=NOV, actor=ACTOR)
    await store.save_settings(ws.id, {"always_use_key": True}, at_ms=NOV, actor=ACTOR)
    await store.save_settings(ws.id, {"always_use_key": True, "name": "other"}, at_ms=NOV, actor=ACTOR)
    await store.set_credential_status(ws.id, "openrouter", "disabled", at_ms=NOV, actor=ACTOR)
    await store.set_credential_status(ws.id, "openrouter", "disabled", at_ms=NOV, actor=ACTOR)
    await store.save_settings(ws.id, {"always_use_key": False}, at_ms=NOV, actor=ACTOR)
    await store.save_settings(ws.id, {"credits_if_key_fails": False}, at_ms=NOV, actor=ACTOR)
    await store.set_credential_status(ws.id, "openrouter", "enabled", at_ms=NOV, actor=ACTOR)
    await store.save_credential(credential(ws.id, version=2), at_ms=NOV, actor=ACTOR)
    await store.save_credential(credential(ws.id, "anthropic"), at_ms=NOV, actor=ACTOR)
    await store.delete_credential(ws.id, "openrouter", at_ms=NOV, actor=ACTOR)

    changes = await told(store, ws.id, "payer_changed", "settings_changed")
    assert [(c["kind"], c["payer_after"]) for c in changes] == [
        ("payer_changed", "your_key"), ("settings_changed", "your_key"), ("payer_changed", "nobody"),
        ("payer_changed", "credits"), ("settings_changed", "credits"), ("payer_changed", "your_key"),
        ("settings_changed", "your_key"), ("settings_changed", "your_key"), ("payer_changed", "credits"),
    ]
    assert changes[1]["changes"] == [{"what": "always_use_key", "before": False, "after": True}]
    assert {change["by"] for change in changes} == {"operator:test"}
    assert "CIPHERTEXT" not in str(changes)


async def test_entitlements_are_told_by_what_they_became(store: SQLiteStore) -> None:
    ws = await add_workspace(store, entitlement=EntitlementState.NONE)
    await store.save_credential(credential(ws.id), at_ms=NOV, actor=ACTOR)
    for state, grace in (("active", None), ("grace", NOV + DAY), ("inactive", None), ("included", None),
                         ("grace", NOV + DAY), ("none", None)):
        await store.save_settings(
            ws.id, {"entitlement": EntitlementState(state), "grace_until_ms": grace}, at_ms=NOV, actor=ACTOR
        )

    found = [row for row in await told(store, ws.id) if row["kind"].startswith("addon")]
    assert [row["kind"] for row in found] == [
        "addon_active", "addon_payment_failed", "addon_inactive", "addon_included", "addon_grace", "addon_ended",
    ]
    assert found[1]["until"] == "2026-11-18T00:00:00Z"
    assert [row["payer_after"] for row in found] == [
        "your_key", "your_key", "credits", "your_key", "your_key", "credits",
    ]


async def test_the_end_of_grace_is_told_a_day_before_and_when_it_comes(store: SQLiteStore) -> None:
    ws = await add_workspace(store, entitlement=EntitlementState.INCLUDED)
    until = NOV + 3 * DAY
    await store.save_settings(
        ws.id, {"entitlement": EntitlementState.GRACE, "grace_until_ms": until}, at_ms=NOV, actor=ACTOR
    )
    counts = [
        await store.announce_grace(at)
        for at in (NOV, until - DAY - 1, until - DAY, until - DAY, until - 1, until, until + DAY)
    ]

    assert counts == [0, 0, 1, 0, 0, 1, 0]
    assert [row["kind"] for row in await told(store, ws.id)] == ["addon_grace", "addon_grace_ending", "addon_ended"]


async def failing(store: SQLiteStore, workspace: str) -> None:
    """A key that is suspected, then confirmed as failing."""
    await store.save_credential(credential(workspace), at_ms=NOV, actor=ACTOR)
    await store.grant_credits(workspace, 1_000, "topup", expires_at_ms=None, idem_key="g", at_ms=NOV, actor=ACTOR)


async def test_credits_that_step_in_are_told_once_an_incident(store: SQLiteStore) -> None:
    """Also where the first call was paid before the failure was confirmed, and where many come at once."""
    ws = await add_workspace(store, credits_if_key_fails_limit=500)
    await failing(store, ws.id)
    key = (await store.load_workspace(ws.id)).credentials["openrouter"]
    store.mark(key, Health.REJECTED, "401", NOV + 10)
    await take(store, credits_request(ws.id, 10_000_000, key_failed=True, at_ms=NOV + 11))
    await store.note_health(ws.id, key.id, 1, Evidence(Sign.REJECTED, "401", NOV + 20, scheduled=True))
    await asyncio.gather(*(
        take(store, credits_request(ws.id, 10_000_000, key_failed=True, at_ms=NOV + 30)) for _ in range(8)
    ))

    (step_in,) = await told(store, ws.id, "credits_step_in")
    assert (step_in["since"], step_in["limit_credits"]) == ("2026-11-17T00:00:00Z", 500)
    assert len(await told(store, ws.id, "credential_unhealthy")) == 1

    await store.note_health(ws.id, key.id, 1, Evidence(Sign.ANSWERED, "", NOV + DAY))
    key = (await store.load_workspace(ws.id)).credentials["openrouter"]
    store.mark(key, Health.NO_FUNDS, "402", NOV + 2 * DAY)
    await take(store, credits_request(ws.id, 10_000_000, key_failed=True, at_ms=NOV + 2 * DAY + 1,
                                      expires_at_ms=NOV + 3 * DAY))
    assert [row["cause"] for row in await told(store, ws.id, "credits_step_in")] == ["rejected", "no_funds"]


async def test_ordinary_credit_calls_are_no_step_in(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await failing(store, ws.id)
    await take(store, credits_request(ws.id, 10_000_000))

    assert await told(store, ws.id, "credits_step_in") == []


async def spend(store: SQLiteStore, workspace: str, credits: int) -> None:
    req = credits_request(workspace, credits * 10_000_000)
    await take(store, req)
    await finish(store, req, settle(req, credits * 10_000_000 * 10 // 12))


async def test_each_crossing_of_the_minimum_balance_is_told_once(store: SQLiteStore) -> None:
    """By a charge, an expiry and a grant alike; and a balance that only moves below the minimum is no news."""
    await store.save_minimums({"pro": 10, "enterprise": 0})
    ws = await add_workspace(store, entitlement=EntitlementState.ACTIVE)
    await store.save_credential(credential(ws.id), at_ms=NOV, actor=ACTOR)

    async def grant(key: str, amount: int, expires: int | None = None) -> None:
        await store.grant_credits(ws.id, amount, "topup", expires_at_ms=expires, idem_key=key, at_ms=NOV, actor=ACTOR)

    await store.save_settings(ws.id, {"on_direct_auth_failure": "fail"}, at_ms=NOV, actor=ACTOR)
    await grant("a", 12)
    await grant("a", 12)
    await spend(store, ws.id, 5)
    await spend(store, ws.id, 1)
    await grant("b", 50, NOV + DAY)
    await store.expire_credits(NOV + DAY)
    await store.expire_credits(NOV + DAY)

    found = await told(store, ws.id, "balance_low", "balance_restored")
    assert [(row["kind"], row["balance_credits"] >= 10) for row in found] == [
        ("balance_low", False), ("balance_restored", True), ("balance_low", False), ("balance_restored", True),
        ("balance_low", False),
    ]
    assert {row["minimum_credits"] for row in found} == {10}
    assert found[-1]["at"] == "2026-11-18T00:00:00Z"


@pytest.mark.parametrize("case", ["included", "no key", "no minimum"])
async def test_a_balance_that_stops_no_call_is_no_news(store: SQLiteStore, case: str) -> None:
    await store.save_minimums({} if case == "no minimum" else {"pro": 10})
    entitled = EntitlementState.INCLUDED if case == "included" else EntitlementState.ACTIVE
    ws = await add_workspace(store, entitlement=entitled)
    if case != "no key":
        await store.save_credential(credential(ws.id), at_ms=NOV, actor=ACTOR)
    await store.grant_credits(ws.id, 12, "topup", expires_at_ms=None, idem_key="a", at_ms=NOV, actor=ACTOR)
    await spend(store, ws.id, 5)

    assert await told(store, ws.id, "balance_low", "balance_restored") == []


async def test_leases_of_a_dead_process_are_free_at_start(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 0, 80, at_ms=NOV, actor=ACTOR)
    (first,) = await store.claim_outbox("email", NOV, NOV + DAY, limit=1)
    await store.close()
    store = open_store(tmp_path / "a.db")
    (again,) = await store.claim_outbox("email", NOV, NOV + DAY, limit=1)

    assert (again.key, again.attempts) == (first.key, 2)
    assert not await store.save_outbox_result(first, "failed", NOV, reason="late", at_ms=NOV)
    assert await store.save_outbox_result(again, "sent", NOV, reason="", at_ms=NOV)
    await store.close()


async def test_two_deliverers_never_claim_one_row(store: SQLiteStore) -> None:
    ids = [(await add_workspace(store, f"w{n}")).id for n in range(20)]
    for ident in ids:
        await store.save_cap(ident, 0, 80, at_ms=NOV, actor=ACTOR)
    batches: Sequence[Sequence[Any]] = await asyncio.gather(*(
        store.claim_outbox("event", NOV, NOV + DAY, limit=7) for _ in range(12)
    ))

    claimed = [due.id for batch in batches for due in batch]
    assert len(claimed) == len(set(claimed)) == 20


async def test_mute_settings_are_kept_until_they_are_changed(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    ann = Member(ws.id, "ann", "ann@example.com", "Ann", Role.OWNER, frozenset({"spend"}))
    await store.save_member(ann, at_ms=NOV, actor=ACTOR)
    await store.save_member(replace(ann, name="Anna", muted=None), at_ms=NOV, actor=ACTOR)
    await store.save_member(Member(ws.id, "bob", "bob@example.com", "", Role.MEMBER), at_ms=NOV, actor=ACTOR)

    assert list(await store.load_told(ws.id)) == [replace(ann, name="Anna")]
    await store.save_member(replace(ann, muted=frozenset()), at_ms=NOV, actor=ACTOR)
    assert [member.muted for member in await store.load_told(ws.id)] == [frozenset()]
