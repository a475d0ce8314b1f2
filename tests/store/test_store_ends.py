"""Every end is booked once, where it belongs, and says so: overage, alerts, late ends, corrections."""

from dataclasses import replace
from pathlib import Path

import pytest
from store_kit import (
    ACTOR,
    DAY,
    NOV,
    Clock,
    add_workspace,
    credits_request,
    finish,
    open_store,
    receipt,
    release,
    request,
    settle,
    take,
)

from ownkey.domain.receipts import HoldState
from ownkey.store import SQLiteStore


async def spend(store: SQLiteStore, workspace_id: str, cost: int, **changes) -> None:
    req = request(workspace_id, cost, **changes)
    await take(store, req)
    await finish(store, req, settle(req, cost))


async def thresholds(store: SQLiteStore, workspace_id: str) -> list[tuple[int, int, str]]:
    return [(a["cap_version"], a["threshold"], a["state"]) for a in await store.load_alerts(workspace_id)]


async def test_each_threshold_alerts_once_with_its_two_messages(store: SQLiteStore) -> None:
    """T23: 80% and 100%, each once per period and cap value."""
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 100, 80, at_ms=NOV, actor=ACTOR)
    await spend(store, ws.id, 79)
    assert await thresholds(store, ws.id) == []
    await spend(store, ws.id, 1)
    await spend(store, ws.id, 5)
    assert await thresholds(store, ws.id) == [(2, 80, "due")]
    await spend(store, ws.id, 15)
    assert await thresholds(store, ws.id) == [(2, 80, "due"), (2, 100, "due")]

    outbox = await store.load_outbox(ws.id, limit=10)
    assert sorted((o["channel"], o["kind"]) for o in outbox) == [
        ("email", "ai_paused"), ("email", "spend_threshold"), ("event", "ai_paused"), ("event", "spend_threshold"),
    ]
    paused = next(o["payload"] for o in outbox if o["kind"] == "ai_paused")
    assert (paused["cap_nusd"], paused["spent_nusd"], paused["reason"]) == ("100", "100", "reached")


async def test_a_jump_over_both_thresholds_alerts_both(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 100, 80, at_ms=NOV, actor=ACTOR)
    await spend(store, ws.id, 100)

    assert await thresholds(store, ws.id) == [(2, 80, "due"), (2, 100, "due")]


async def test_raising_resumes_lowering_pauses_clearing_frees_zero_stops(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 100, 80, at_ms=NOV, actor=ACTOR)
    await spend(store, ws.id, 100)
    assert (await store.load_cap(ws.id, NOV)).state == "paused"

    raised = await store.save_cap(ws.id, 200, 80, at_ms=NOV, actor=ACTOR)
    assert (raised.state, raised.version) == ("active", 3)
    lowered = await store.save_cap(ws.id, 50, 80, at_ms=NOV, actor=ACTOR)
    assert (lowered.state, lowered.pause_reason) == ("paused", "reached")
    cleared = await store.save_cap(ws.id, None, 80, at_ms=NOV, actor=ACTOR)
    assert (cleared.state, cleared.cap_nusd) == ("active", None)
    zero = await store.save_cap(ws.id, 0, 80, at_ms=NOV, actor=ACTOR)
    assert zero.state == "paused"
    assert (await store.hold(request(ws.id, 0))).code == "ai_paused"


async def test_a_threshold_met_under_the_old_cap_stays_silent_under_the_new(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 100, 80, at_ms=NOV, actor=ACTOR)
    await spend(store, ws.id, 85)
    await store.save_cap(ws.id, 102, 80, at_ms=NOV, actor=ACTOR)
    await store.save_cap(ws.id, 85, 80, at_ms=NOV, actor=ACTOR)

    assert await thresholds(store, ws.id) == [
        (2, 80, "due"), (3, 80, "silent"), (4, 80, "silent"), (4, 100, "due"),
    ]


async def test_the_same_cap_saved_again_resumes_after_no_room(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 1_000, 80, at_ms=NOV, actor=ACTOR)
    await spend(store, ws.id, 995)
    assert (await store.hold(request(ws.id, 6))).code == "ai_paused"

    saved = await store.save_cap(ws.id, 1_000, 80, at_ms=NOV, actor=ACTOR)
    assert saved.state == "active"
    await spend(store, ws.id, 5)


async def test_a_new_month_begins_active_and_a_cap_of_zero_stays_quietly_paused(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 100, 80, at_ms=NOV, actor=ACTOR)
    await spend(store, ws.id, 100)
    december = NOV + 20 * DAY
    assert not (await store.load_money(ws.id, december)).cap_paused
    await spend(store, ws.id, 10, at_ms=december)
    await store.save_cap(ws.id, 0, 80, at_ms=december, actor=ACTOR)
    sent = len(await store.load_outbox(ws.id, limit=50))
    january = december + 31 * DAY
    assert (await store.load_money(ws.id, january)).cap_paused
    assert (await store.hold(request(ws.id, 0, at_ms=january))).code == "ai_paused"

    assert len(await store.load_outbox(ws.id, limit=50)) == sent


async def test_overage_is_booked_in_full_alarmed_and_flagged(store: SQLiteStore, clock: Clock) -> None:
    ws = await add_workspace(store)
    req = request(ws.id, 100)
    await take(store, req)
    await finish(store, req, settle(req, 150))

    setting = await store.load_cap(ws.id, NOV)
    assert (setting.spent_nusd, setting.overage_nusd) == (150, 50)
    assert store.is_flagged("openrouter", "m", 1)
    assert {o["kind"] for o in await store.load_outbox(ws.id, limit=5)} == {"overage"}


async def test_a_free_model_that_bills_after_all_is_flagged(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    req = request(ws.id, 0)
    await take(store, req)
    await finish(store, req, settle(req, 5))

    assert store.is_flagged("openrouter", "m", 1)
    assert (await store.load_cap(ws.id, NOV)).overage_nusd == 5


async def test_overage_flags_survive_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    ws = await add_workspace(store)
    req = request(ws.id, 100)
    await take(store, req)
    await finish(store, req, settle(req, 150))
    await store.close()
    store = open_store(tmp_path / "a.db", boot_id="boot-2")

    assert store.overage_flags() == {("openrouter", "m", 1)}
    await store.close()


async def test_a_charge_never_exceeds_its_hold_and_the_rest_is_the_platforms(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 100, "topup", expires_at_ms=None, idem_key="g", at_ms=NOV, actor=ACTOR)
    req = credits_request(ws.id, 10_000_000)
    granted = await take(store, req)
    booked = await finish(store, req, settle(req, 90_000_000))

    assert booked.charge_credits == granted.bound_credits == 2
    assert booked.absorbed_nusd == 90_000_000 - booked.charge_nusd


async def test_sent_without_an_answer_counts_whole_on_the_cap_and_costs_no_credit(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 100, "topup", expires_at_ms=None, idem_key="g", at_ms=NOV, actor=ACTOR)
    req = credits_request(ws.id, 10_000_000)
    await take(store, req)
    booked = await finish(store, req, settle(req, 10_000_000, delivered_cost_nusd=0, maybe_billed=True))

    assert (booked.charge_nusd, booked.charge_credits, booked.absorbed_nusd) == (0, 0, 10_000_000)
    assert (await store.load_wallet(ws.id)).balance_credits == 100


async def test_a_call_with_several_attempts_has_one_receipt_with_their_sum(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    first = request(ws.id, 100)
    second = replace(first, hold_id=first.hold_id + "b", attempt=2, context="")
    await take(store, first)
    failed = settle(first, 30, maybe_billed=True)
    await store.end_attempt(failed)
    await take(store, second)
    good = settle(second, 50)
    booked = await store.end_call(good, receipt(first, (first, failed), (second, good)))

    assert booked.cost_nusd == 80
    assert (booked.cap.spent_before_nusd, booked.cap.spent_after_nusd) == (0, 80)


async def test_a_refused_call_leaves_a_receipt_without_money(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    req = request(ws.id, 1)
    refused = receipt(req, code="ai_paused", status=402, message="AI is paused.")
    stored = await store.end_call(None, refused)

    assert stored == refused
    assert (await store.load_receipt(ws.id, req.call_id))["code"] == "ai_paused"


async def test_a_late_end_corrects_an_expired_hold_once(store: SQLiteStore, clock: Clock) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 100, 80, at_ms=NOV, actor=ACTOR)
    req = request(ws.id, 100)
    await take(store, req)
    clock.ms = NOV + DAY
    assert await store.expire_holds(clock.ms) == 1
    expired = await store.load_cap(ws.id, clock.ms)
    assert (expired.spent_nusd, expired.state) == (100, "paused")
    assert (await store.load_receipt(ws.id, req.call_id))["message"].startswith("The process stopped")

    late = await finish(store, req, settle(req, 30, at_ms=clock.ms))
    again = await store.end_attempt(settle(req, 99, at_ms=clock.ms))

    setting = await store.load_cap(ws.id, clock.ms)
    assert (setting.spent_nusd, setting.state) == (30, "active")
    assert (late.cost_nusd, again.cost_nusd) == (30, 30)
    assert (await store.load_receipt(ws.id, req.call_id))["status"] == 200
    assert await store.expire_holds(clock.ms) == 0


async def test_a_late_end_above_the_hold_moves_nothing_up(store: SQLiteStore, clock: Clock) -> None:
    ws = await add_workspace(store)
    req = request(ws.id, 100)
    await take(store, req)
    clock.ms = NOV + DAY
    await store.expire_holds(clock.ms)
    late = await finish(store, req, settle(req, 400, at_ms=clock.ms))

    assert (late.cost_nusd, late.attempts[0].cost_nusd) == (100, 100)
    assert (await store.load_cap(ws.id, clock.ms)).spent_nusd == 100


async def test_a_correction_gives_credits_back_to_the_lots_that_paid(store: SQLiteStore, clock: Clock) -> None:
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 3, "promo", expires_at_ms=NOV + DAY, idem_key="a", at_ms=NOV, actor=ACTOR)
    await store.grant_credits(ws.id, 50, "topup", expires_at_ms=None, idem_key="b", at_ms=NOV, actor=ACTOR)
    req = credits_request(ws.id, 50_000_000)
    await take(store, req)
    charged = await finish(store, req, settle(req, 40_000_000))  # 48,000,000: 5 credits, 3 of them the promo's
    assert charged.charge_credits == 5

    booked = await store.correct_hold(
        ws.id, req.hold_id, 10_000_000, delivered_cost_nusd=10_000_000, origin="generation report", at_ms=NOV + 5_000
    )

    wallet = await store.load_wallet(ws.id)
    assert booked is not None
    assert (booked.charge_nusd, booked.charge_credits) == (12_000_000, 2)
    assert (wallet.balance_credits, wallet.carry_nusd) == (51, 8_000_000)
    assert (await store.load_receipt(ws.id, req.call_id))["charge_credits"] == 2
    assert await store.correct_hold(
        ws.id, req.hold_id, 0, delivered_cost_nusd=0, origin="again", at_ms=NOV + 6_000
    ) is None


async def test_a_correction_never_charges_more(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 50, "topup", expires_at_ms=None, idem_key="b", at_ms=NOV, actor=ACTOR)
    req = credits_request(ws.id, 50_000_000)
    await take(store, req)
    charged = await finish(store, req, settle(req, 10_000_000))
    booked = await store.correct_hold(
        ws.id, req.hold_id, 50_000_000, delivered_cost_nusd=50_000_000, origin="report", at_ms=NOV + 5_000
    )

    assert booked is not None
    assert booked.charge_nusd == charged.charge_nusd


async def test_an_open_hold_is_not_corrected_and_only_the_books_expire(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    req = request(ws.id, 10)
    await take(store, req)
    assert await store.correct_hold(
        ws.id, req.hold_id, 1, delivered_cost_nusd=0, origin="x", at_ms=NOV
    ) is None
    with pytest.raises(ValueError, match="only the books"):
        await store.end_attempt(settle(req, 1, state=HoldState.EXPIRED))
    await finish(store, req, release(req))


async def test_the_journal_bounds_what_a_dead_process_charges(store: SQLiteStore, clock: Clock) -> None:
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 50, "topup", expires_at_ms=None, idem_key="b", at_ms=NOV, actor=ACTOR)
    req = credits_request(ws.id, 50_000_000)
    await take(store, req)
    await store.journal_delivery(ws.id, req.hold_id, 4_000, 5_000_000)
    await store.journal_delivery(ws.id, req.hold_id, 3_000, 4_000_000)  # an old report changes nothing
    clock.ms = NOV + DAY
    await store.expire_holds(clock.ms)

    stored = await store.load_receipt(ws.id, req.call_id)
    assert (stored["charge_nusd"], stored["charge_credits"], stored["cost_nusd"]) == (6_000_000, 1, 50_000_000)
    assert stored["absorbed_nusd"] == 44_000_000


async def test_no_other_workspace_can_end_a_hold(store: SQLiteStore) -> None:
    ws, other = await add_workspace(store), await add_workspace(store, "other")
    req = request(ws.id, 10)
    await take(store, req)
    nothing = await store.end_attempt(settle(req, 5, workspace_id=other.id))
    assert (nothing.cost_nusd, nothing.cap) == (0, None)
    assert (await store.load_cap(ws.id, NOV)).held_nusd == 10
    await finish(store, req, release(req))


async def test_a_release_costs_nothing_whatever_it_says(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    req = request(ws.id, 100)
    await take(store, req)
    booked = await store.end_attempt(replace(release(req), cost_nusd=70, delivered_cost_nusd=70))
    await store.end_call(None, receipt(req, (req, release(req))))

    assert booked.cost_nusd == 0
    assert (await store.load_cap(ws.id, NOV)).spent_nusd == 0


async def test_a_receipt_is_written_once(store: SQLiteStore, clock: Clock) -> None:
    """A second receipt of a call, and the job that looks for forgotten ones, change nothing."""
    ws = await add_workspace(store)
    req = request(ws.id, 100)
    await take(store, req)
    end = settle(req, 10)
    await store.end_attempt(end)
    await store.end_call(None, receipt(req, (req, end)))
    await store.end_call(None, receipt(req, (req, end), message="another story"))
    clock.ms = NOV + DAY

    assert await store.expire_holds(clock.ms) == 0
    assert (await store.load_receipt(ws.id, req.call_id))["message"] == ""


async def test_credits_come_back_to_the_lot_that_paid_last(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 3, "promo", expires_at_ms=NOV + DAY, idem_key="a", at_ms=NOV, actor=ACTOR)
    await store.grant_credits(ws.id, 50, "topup", expires_at_ms=None, idem_key="b", at_ms=NOV, actor=ACTOR)
    req = credits_request(ws.id, 50_000_000)
    await take(store, req)
    await finish(store, req, settle(req, 40_000_000))
    await store.correct_hold(
        ws.id, req.hold_id, 10_000_000, delivered_cost_nusd=10_000_000, origin="report", at_ms=NOV + 5_000
    )

    correction, charge = (await store.load_ledger(ws.id, limit=2))
    moved = [
        [(p["source"], p["destination"], p["amount_credits"]) for p in entry["postings"]]
        for entry in (charge, correction)
    ]
    assert moved == [
        [("lot:1", "revenue:usage", 3), ("lot:2", "revenue:usage", 2)],
        [("revenue:usage", "lot:2", 2), ("revenue:usage", "lot:1", 1)],
    ]
