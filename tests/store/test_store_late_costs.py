"""Lost costs: remembered with the receipt, booked once, kept apart from the estimate, over when nobody knows them."""

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
    attempt,
    credential,
    credits_request,
    open_store,
    receipt,
    request,
    settle,
    take,
)

from ownkey.domain.booking import HoldRequest
from ownkey.domain.late_costs import WAITS_S, LateCost, next_try_ms
from ownkey.domain.receipts import Basis, Receipt
from ownkey.domain.routing import Route
from ownkey.domain.workspace import WorkspaceState
from ownkey.store import SQLiteStore

GENERATION = "gen-1795000000-abc"


async def customer(store: SQLiteStore, name: str = "acme") -> WorkspaceState:
    """A workspace with an OpenRouter key."""
    ws = await add_workspace(store, name)
    await store.save_credential(credential(ws.id, id=f"cred_{name}"), at_ms=NOV, actor=ACTOR)
    return ws


async def cut(
    store: SQLiteStore, req: HoldRequest, estimate: int, *, delivered: int = 0, **changes: Any
) -> Receipt:
    """A call whose answer broke off: settled with an estimate, its generation known."""
    await take(store, req)
    end = settle(req, estimate, basis=Basis.ESTIMATED, maybe_billed=True, delivered_cost_nusd=delivered)
    values = {"request_id": GENERATION, "maybe_billed": True, "credential_id": "cred_acme", "ended_ms": 1_000}
    one = replace(attempt(req, end), **(values | changes))
    return await store.end_call(end, receipt(req, attempts=(one,), cost_nusd=estimate, basis=Basis.ESTIMATED))


async def due(store: SQLiteStore, at_ms: int = NOV + DAY) -> LateCost:
    (late,) = await store.load_due_late_costs(at_ms, 10)
    return late


async def test_a_lost_cost_is_remembered_with_its_receipt(store: SQLiteStore) -> None:
    """Ten seconds after the attempt's end it is due, with the key that paid."""
    ws = await customer(store)
    req = request(ws.id, 1_000)
    await cut(store, req, 900)

    assert await store.load_due_late_costs(NOV + 10_999, 10) == []
    assert await due(store, NOV + 11_000) == LateCost(
        req.hold_id, ws.id, req.call_id, GENERATION, ws.id, "cred_acme", 1, 0, NOV + 1_000
    )


async def test_the_answers_own_id_serves_where_the_head_had_none(store: SQLiteStore) -> None:
    ws = await customer(store)
    await cut(store, request(ws.id, 1_000), 900, request_id=None, response_id="gen-2")

    assert (await due(store)).generation_id == "gen-2"


@pytest.mark.parametrize(
    "changes",
    [
        {"request_id": None}, {"request_id": "req_123"}, {"request_id": "gen-1/../../key"}, {"provider": "openai"},
        {"maybe_billed": False}, {"basis": Basis.ACTUAL}, {"basis": Basis.COMPUTED},
    ],
    ids=str,
)
async def test_nothing_is_asked_where_openrouter_knows_no_more(store: SQLiteStore, changes: dict[str, Any]) -> None:
    ws = await customer(store)
    await cut(store, request(ws.id, 1_000), 900, **changes)

    assert await store.load_due_late_costs(NOV + DAY, 10) == []


async def test_it_is_booked_once_and_kept_apart_from_the_estimate(store: SQLiteStore) -> None:
    """The cap counts what was billed; the receipt tells both figures, and where the second is from."""
    ws = await customer(store)
    await store.save_cap(ws.id, 10_000, 80, at_ms=NOV, actor=ACTOR)
    req = request(ws.id, 1_000)
    await cut(store, req, 900)
    late = await due(store)

    assert await store.book_late_cost(late, 123, NOV + 20_000)
    assert not await store.book_late_cost(late, 456, NOV + 30_000)

    assert (await store.load_cap(ws.id, NOV)).spent_nusd == 123
    assert await store.load_due_late_costs(NOV + DAY, 10) == []
    stored = await store.load_receipt(ws.id, req.call_id)
    assert (stored["cost_nusd"], stored["basis"]) == (123, "actual")
    (shown,) = stored["attempts"]
    assert (shown["cost_nusd"], shown["basis"], shown["maybe_billed"]) == (123, "actual", False)
    assert shown["correction"] == {
        "origin": "openrouter_generation", "estimated_nusd": 900, "estimated_basis": "estimated",
        "reported_nusd": 123, "at_ms": NOV + 20_000,
    }
    assert stored["notes"] == [
        "Cost corrected from US$0.0000009 to OpenRouter's own record of it: US$0.000000123."
    ]
    (row,) = await store.load_spend(ws.id, since_day="2026-11-01", until_day="2026-11-30", by="basis")
    assert (row["basis"], row["cost_nusd"]) == ("actual", 123)


async def test_a_cap_that_only_the_estimate_reached_is_open_again(store: SQLiteStore) -> None:
    """The alerts of the estimate stay the only ones; that AI goes on is said."""
    ws = await customer(store)
    await store.save_cap(ws.id, 1_000, 80, at_ms=NOV, actor=ACTOR)
    await cut(store, request(ws.id, 1_000), 1_000)
    assert (await store.load_cap(ws.id, NOV)).state == "paused"
    told = await store.load_outbox(ws.id, limit=20)

    await store.book_late_cost(await due(store), 850, NOV + 20_000)

    setting = await store.load_cap(ws.id, NOV)
    assert (setting.state, setting.spent_nusd, setting.held_nusd) == ("active", 850, 0)
    since = await store.load_outbox(ws.id, limit=20)
    assert since[2:] == told
    assert [(row["kind"], row["payload"]["cause"]) for row in since[:2]] == [("ai_resumed", "corrected")] * 2


async def test_a_rise_within_the_hold_pauses_and_alerts(store: SQLiteStore) -> None:
    ws = await customer(store)
    await store.save_cap(ws.id, 1_000, 80, at_ms=NOV, actor=ACTOR)
    await cut(store, request(ws.id, 1_000), 100)

    await store.book_late_cost(await due(store), 1_000, NOV + 20_000)

    assert (await store.load_cap(ws.id, NOV)).state == "paused"
    assert {a["threshold"] for a in await store.load_alerts(ws.id)} == {80, 100}


async def test_a_report_above_the_hold_is_booked_up_to_it_and_alarmed(store: SQLiteStore) -> None:
    """Spend moves within the hold; that the price is wrong is said, and counts from now on."""
    ws = await customer(store)
    req = request(ws.id, 1_000)
    await cut(store, req, 900)

    assert await store.book_late_cost(await due(store), 5_000, NOV + 20_000)

    setting = await store.load_cap(ws.id, NOV)
    assert (setting.spent_nusd, setting.overage_nusd) == (1_000, 0)
    (shown,) = (await store.load_receipt(ws.id, req.call_id))["attempts"]
    assert (shown["cost_nusd"], shown["basis"], shown["correction"]["reported_nusd"]) == (1_000, "estimated", 5_000)
    assert store.is_flagged("openrouter", "m", 1)
    assert "overage" in {row["kind"] for row in await store.load_outbox(ws.id, limit=9)}


async def test_a_cost_that_had_no_price_becomes_known(store: SQLiteStore) -> None:
    ws = await customer(store)
    req = request(ws.id, None)
    await take(store, req)
    end = settle(req, None, basis=Basis.UNKNOWN, maybe_billed=True)
    one = replace(attempt(req, end), request_id=GENERATION, maybe_billed=True, credential_id="cred_acme")
    await store.end_call(end, receipt(req, attempts=(one,), cost_nusd=None, basis=Basis.UNKNOWN))

    await store.book_late_cost(await due(store), 77, NOV + 20_000)

    stored = await store.load_receipt(ws.id, req.call_id)
    assert (stored["cost_nusd"], stored["basis"], stored["attempts"][0]["correction"]["estimated_nusd"]) == (
        77, "actual", None,
    )


async def test_a_charge_moves_down_only_and_with_the_platforms_key(store: SQLiteStore) -> None:
    """Credits were charged for the least that was delivered; a lower bill gives some back, a higher takes none."""
    platform = await add_workspace(store, "platform", kind="platform")
    await store.save_credential(credential(platform.id, id="cred_platform"), at_ms=NOV, actor=ACTOR)
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 100, "topup", expires_at_ms=None, idem_key="g", at_ms=NOV, actor=ACTOR)
    costs = []
    for bill in (10_000_000, 45_000_000):
        req = credits_request(ws.id, 50_000_000)
        written = await cut(store, req, 50_000_000, delivered=40_000_000, route=Route.CREDITS, credential_id="")
        late = await due(store)
        assert (late.owner_id, late.credential_id) == (platform.id, "cred_platform")
        await store.book_late_cost(late, bill, NOV + 20_000)
        stored = await store.load_receipt(ws.id, req.call_id)
        costs.append((written.charge_nusd, stored["charge_nusd"], stored["cost_nusd"], stored["absorbed_nusd"]))

    assert costs == [(48_000_000, 12_000_000, 10_000_000, 0), (48_000_000, 48_000_000, 45_000_000, 0)]


async def test_giving_up_is_said_on_the_receipt(store: SQLiteStore) -> None:
    ws = await customer(store)
    req = request(ws.id, 1_000)
    await cut(store, req, 900)
    late = await due(store)

    await store.give_up_late_cost(late, "OpenRouter has no record of it")
    await store.give_up_late_cost(late, "again")

    stored = await store.load_receipt(ws.id, req.call_id)
    assert (stored["cost_nusd"], stored["basis"]) == (900, "estimated")
    assert stored["notes"] == ["The cost stays an estimate: OpenRouter has no record of it."]
    assert await store.load_due_late_costs(NOV + DAY, 10) == []


async def test_a_key_that_was_never_stored_is_said_at_once(store: SQLiteStore) -> None:
    """A Test of a key that was only typed: nobody can ask for its generation."""
    ws = await add_workspace(store)
    req = request(ws.id, 1_000)
    await cut(store, req, 900, credential_id="")

    assert (await store.load_receipt(ws.id, req.call_id))["notes"] == [
        "The cost stays an estimate: the key that paid is not stored any more."
    ]


async def test_it_survives_a_restart_and_waits_its_turn(tmp_path: Path) -> None:
    """Tries and the time of the next one are on the disk."""
    store = open_store(tmp_path / "a.db")
    ws = await customer(store)
    await cut(store, request(ws.id, 1_000), 900)
    await store.retry_late_cost(await due(store), "not yet", NOV + 70_000)
    await store.close()
    store = open_store(tmp_path / "a.db", Clock(NOV + 60_000), boot_id="boot-2")

    assert await store.load_due_late_costs(NOV + 69_999, 10) == []
    assert (await due(store, NOV + 70_000)).tries == 1
    assert list(await store.verify(NOV + 60_000)) == []
    await store.close()


async def test_a_correction_by_hand_comes_first(store: SQLiteStore) -> None:
    """Never twice: the late cost finds its hold corrected and is over."""
    ws = await customer(store)
    req = request(ws.id, 1_000)
    await cut(store, req, 900)
    await store.correct_hold(ws.id, req.hold_id, 300, delivered_cost_nusd=0, origin="operator", at_ms=NOV + 2_000)

    assert not await store.book_late_cost(await due(store), 123, NOV + 20_000)
    assert (await store.load_cap(ws.id, NOV)).spent_nusd == 300
    assert await store.load_due_late_costs(NOV + DAY, 10) == []


async def test_verify_sees_a_lost_cost_that_is_not_what_it_says(tmp_path: Path) -> None:
    """Booked without a correction is drift."""
    store = open_store(tmp_path / "a.db")
    ws = await customer(store)
    req = request(ws.id, 1_000)
    await cut(store, req, 900)
    await store.writer.submit(lambda conn: conn.execute("UPDATE late_cost SET state = 'booked'").rowcount)

    (finding,) = await store.verify(NOV + 60_000)
    assert (finding.check, finding.workspace_id, finding.ids) == ("late_cost.state", ws.id, (req.hold_id,))
    await store.close()


def test_the_waits_grow_and_end_within_a_day() -> None:
    """10 s, a minute, ten, an hour, three, six, twelve; a stated wait is a floor; after a day it is over."""
    late = LateCost("h", "w", "c", "gen-1", "w", "k", 1, 0, 0)
    now, waits = WAITS_S[0] * 1_000, []
    while True:
        then = next_try_ms(late, now, None)
        if then is None:
            break
        waits.append((then - now) // 1_000)
        late, now = replace(late, tries=late.tries + 1), then

    assert waits == [60, 600, 3_600, 10_800, 21_600, 43_200]
    assert now <= DAY
    assert next_try_ms(replace(late, tries=0), 0, 120_000) == 120_000
    assert next_try_ms(replace(late, tries=0), DAY - 1_000, None) is None


def test_the_jobs_question_is_answered_by_an_index(tmp_path: Path) -> None:
    """Asked every two seconds, it reads only what waits."""
    import sqlite3

    from ownkey.store.late_costs import _DUE
    from ownkey.store.schema import migrate

    conn = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    migrate(conn)
    plan = " ".join(row[3] for row in conn.execute("EXPLAIN QUERY PLAN " + _DUE, (0, 1)).fetchall())
    conn.close()

    assert "late_cost_due" in plan
