"""M14: the add-on paid with credits over 24 months: one charge a period, whatever repeats, sleeps or breaks."""

import asyncio
import contextlib
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from store_kit import ACTOR, Clock, add_workspace, open_store

from ownkey.domain.billing import DAY_MS, AddonState, PlanTerms, anniversary, at_call
from ownkey.domain.workspace import EntitlementState
from ownkey.store import SQLiteStore
from ownkey.store.connection import Connection

GRACE = 3 * DAY_MS


def ms(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp()) * 1_000  # type: ignore[misc,arg-type]


async def charges(store: SQLiteStore, workspace_id: str) -> list[int]:
    """The starts of the periods that were charged, oldest first, once for every entry."""
    rows = await store.load_ledger(workspace_id, limit=1_000)
    found = [row for row in rows if row["kind"] == "addon"]
    assert all(sum(p["amount_credits"] for p in row["postings"]) == 500 for row in found)
    return sorted(int(row["idem_key"].rpartition(":")[2]) for row in found)


async def grant(store: SQLiteStore, workspace_id: str, amount: int, key: str, at_ms: int) -> None:
    await store.grant_credits(
        workspace_id, amount, "topup", expires_at_ms=None, idem_key=key, at_ms=at_ms, actor=ACTOR
    )


async def standing(store: SQLiteStore, workspace_id: str, at_ms: int) -> EntitlementState:
    state = await store.load_workspace(workspace_id)
    assert state is not None
    return at_call(state.entitlement, state.paid_until_ms, state.grace_until_ms, at_ms)


async def _breaks(store: SQLiteStore) -> None:
    """An operation that fails: the batch that it was in is undone and worked on again."""
    def operation(conn: Connection) -> None:
        raise RuntimeError("scripted")

    with contextlib.suppress(RuntimeError):
        await store.writer.submit(operation)


@pytest.mark.parametrize("seed", range(6))
async def test_24_months_one_charge_a_period(tmp_path: Path, seed: int) -> None:
    """M14: from 31 January over 29 February 2028, with repeats, sleeps, new zones, broken batches and restarts."""
    chance = random.Random(seed)
    start = ms(2027, 1, 31, 9, 30)
    clock = Clock(start)
    store = open_store(tmp_path / "a.db", clock)
    try:
        ws = await add_workspace(store, entitlement=EntitlementState.NONE, at_ms=start)
        await grant(store, ws.id, 500 * 24 + 499, "first", start)
        await store.start_credits_addon(ws.id, 500, GRACE, at_ms=start, actor=ACTOR)
        end, steps = anniversary(start, 24), 0
        while clock.ms < end - 1:
            steps += 1
            clock.ms = min(end - 1, clock.ms + chance.choice((60_000, 3_600_000, DAY_MS, 2 * DAY_MS)))
            match chance.randrange(5):
                case 0:
                    await asyncio.gather(*(store.renew_addons(clock.ms) for _ in range(3)), _breaks(store))
                case 1:
                    await store.save_settings(
                        ws.id, {"timezone": chance.choice(("Europe/Berlin", "Pacific/Apia", "UTC"))},
                        at_ms=clock.ms, actor=ACTOR,
                    )
                    await store.renew_addons(clock.ms)
                case 2 if chance.random() < 0.1:
                    await store.close()
                    store = open_store(tmp_path / "a.db", clock)
                case _:
                    await store.renew_addons(clock.ms)
            assert await standing(store, ws.id, clock.ms) in (EntitlementState.ACTIVE, EntitlementState.GRACE)
        found = await charges(store, ws.id)

        print(f"M14 rail: periods 24, charges {len(found)}, distinct {len(set(found))}, clock steps {steps}")
        assert found == [anniversary(start, n) for n in range(24)]
        assert (await store.load_wallet(ws.id)).balance_credits == 499
        assert list(await store.verify(clock.ms)) == []
    finally:
        await store.close()


async def test_too_few_credits_wait_and_are_paid_when_credits_arrive(store: SQLiteStore) -> None:
    """Grace, tried again daily and when credits arrive; the anniversaries stay; no debt grows."""
    start = ms(2026, 1, 31)
    ws = await add_workspace(store, entitlement=EntitlementState.NONE, at_ms=start)
    await grant(store, ws.id, 700, "a", start)
    await store.start_credits_addon(ws.id, 500, GRACE, at_ms=start, actor=ACTOR)
    due = ms(2026, 2, 28)
    await store.renew_addons(due)
    owed = await standing(store, ws.id, due)
    await store.renew_addons(due + DAY_MS // 2)
    await grant(store, ws.id, 299, "b", due + DAY_MS)
    short = await charges(store, ws.id)
    await grant(store, ws.id, 1, "c", due + 2 * DAY_MS)
    addon = await store.load_addon(ws.id)

    assert owed is EntitlementState.GRACE
    assert len(short) == 1
    assert await charges(store, ws.id) == [start, due]
    assert addon is not None
    assert addon.paid_until_ms == ms(2026, 3, 31)
    assert (await store.load_wallet(ws.id)).balance_credits == 0
    assert list(await store.verify(due + 2 * DAY_MS)) == []


async def test_grace_that_is_over_needs_a_new_purchase_which_begins_a_new_period(store: SQLiteStore) -> None:
    """Inactive: credits that arrive later are not taken; who subscribes again starts on that day."""
    start = ms(2026, 1, 31)
    ws = await add_workspace(store, entitlement=EntitlementState.NONE, at_ms=start)
    await grant(store, ws.id, 500, "a", start)
    await store.start_credits_addon(ws.id, 500, GRACE, at_ms=start, actor=ACTOR)
    due = ms(2026, 2, 28)
    for hours in range(0, 120, 6):
        await store.renew_addons(due + hours * 3_600_000)
    late = due + 10 * DAY_MS
    await grant(store, ws.id, 2_000, "b", late)
    await store.renew_addons(late)
    inactive = await standing(store, ws.id, late)
    untouched = (await store.load_wallet(ws.id)).balance_credits
    addon = await store.start_credits_addon(ws.id, 500, GRACE, at_ms=late, actor=ACTOR)
    again = await store.start_credits_addon(ws.id, 500, GRACE, at_ms=late + 1, actor=ACTOR)

    assert (inactive, untouched) == (EntitlementState.INACTIVE, 2_000)
    assert addon is not None
    assert addon == again
    assert (addon.anchor_ms, addon.paid_until_ms) == (late, anniversary(late, 1))
    assert await charges(store, ws.id) == [start, late]
    assert list(await store.verify(late)) == []


async def test_cancel_keep_and_end(store: SQLiteStore) -> None:
    start = ms(2026, 1, 31)
    ws = await add_workspace(store, entitlement=EntitlementState.NONE, at_ms=start)
    await grant(store, ws.id, 5_000, "a", start)
    await store.start_credits_addon(ws.id, 500, GRACE, at_ms=start, actor=ACTOR)
    await store.change_credits_addon(ws.id, False, at_ms=start, actor=ACTOR)
    cancelled = await standing(store, ws.id, start)
    await store.change_credits_addon(ws.id, True, at_ms=start, actor=ACTOR)
    kept = await standing(store, ws.id, start)
    await store.change_credits_addon(ws.id, False, at_ms=start, actor=ACTOR)
    due = ms(2026, 2, 28)
    for _ in range(3):
        await store.renew_addons(due)
    addon = await store.load_addon(ws.id)

    assert (cancelled, kept) == (EntitlementState.CANCELLING, EntitlementState.ACTIVE)
    assert await standing(store, ws.id, due) is EntitlementState.NONE
    assert addon is not None
    assert addon.state is AddonState.ENDED
    assert await charges(store, ws.id) == [start]


async def test_enterprise_cancels_the_renewal_and_prorates_nothing(store: SQLiteStore) -> None:
    start = ms(2026, 1, 31)
    ws = await add_workspace(store, entitlement=EntitlementState.NONE, at_ms=start)
    await grant(store, ws.id, 5_000, "a", start)
    await store.start_credits_addon(ws.id, 500, GRACE, at_ms=start, actor=ACTOR)
    included = PlanTerms("enterprise", True, GRACE, 0, True)
    await store.save_settings(ws.id, {"plan": "enterprise"}, at_ms=start + DAY_MS, actor=ACTOR, terms=included)
    await store.renew_addons(ms(2026, 2, 28))
    there = await standing(store, ws.id, ms(2026, 3, 15))

    assert there is EntitlementState.INCLUDED
    assert await charges(store, ws.id) == [start]
    assert (await store.load_wallet(ws.id)).balance_credits == 4_500
    assert list(await store.verify(ms(2026, 3, 15))) == []


async def test_nothing_is_taken_that_a_call_holds(store: SQLiteStore) -> None:
    """A renewal takes what is free, and leaves a call its reserved credits."""
    from store_kit import NOV, credits_request, take

    ws = await add_workspace(store, entitlement=EntitlementState.NONE)
    await grant(store, ws.id, 1_002, "a", NOV)
    await store.start_credits_addon(ws.id, 500, GRACE, at_ms=NOV, actor=ACTOR)
    due = anniversary(NOV, 1)
    held = await take(store, credits_request(ws.id, 40_000_000, at_ms=due, expires_at_ms=due + 180_000))
    await store.renew_addons(due)

    assert held is not None
    assert await standing(store, ws.id, due) is EntitlementState.GRACE
    assert len(await charges(store, ws.id)) == 1


async def test_cycle_credits_arrive_each_month_once(tmp_path: Path) -> None:
    """G30: each cycle's credits, once, over restarts and repeats; a dearer plan brings the difference at once."""
    start = ms(2026, 1, 31)
    clock = Clock(start)
    pro = PlanTerms("pro", False, GRACE, 1_000, True)
    max_plan = PlanTerms("max", False, GRACE, 3_000, True)
    store = open_store(tmp_path / "a.db", clock)
    try:
        ws = await add_workspace(store, entitlement=EntitlementState.NONE, at_ms=start, terms=pro)
        first = (await store.load_wallet(ws.id)).balance_credits
        for plan, terms in (("max", max_plan), ("pro", pro), ("max", max_plan)):
            await store.save_settings(ws.id, {"plan": plan}, at_ms=start + DAY_MS, actor=ACTOR, terms=terms)
        upgraded = (await store.load_wallet(ws.id)).balance_credits
        at = datetime(2026, 2, 1, tzinfo=UTC)
        while at < datetime(2027, 2, 1, tzinfo=UTC):
            at += timedelta(days=5)
            clock.ms = int(at.timestamp()) * 1_000
            await asyncio.gather(store.run_cycles(clock.ms), store.run_cycles(clock.ms))
        await store.close()
        store = open_store(tmp_path / "a.db", clock)
        await store.run_cycles(clock.ms)

        assert (first, upgraded) == (1_000, 3_000)
        assert (await store.load_wallet(ws.id)).balance_credits == 3_000 * 13
        assert list(await store.verify(clock.ms)) == []
    finally:
        await store.close()


async def test_credits_of_a_cycle_expire_where_the_plan_says_so(store: SQLiteStore) -> None:
    start = ms(2026, 1, 31)
    ws = await add_workspace(
        store, entitlement=EntitlementState.NONE, at_ms=start, terms=PlanTerms("trial", False, GRACE, 100, False)
    )
    due = ms(2026, 2, 28)
    await store.run_cycles(due)
    await store.expire_credits(due)

    assert (await store.load_wallet(ws.id)).balance_credits == 100
    assert list(await store.verify(due)) == []
