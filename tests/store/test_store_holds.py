"""A hold is room that is really there, or a refusal that says exactly why not."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from store_kit import (
    ACTOR,
    DAY,
    NOV,
    USD,
    add_workspace,
    credits_request,
    finish,
    open_store,
    receipt,
    release,
    request,
    settle,
    take,
    terms,
)

from ownkey.domain.booking import HoldGranted, HoldRefused
from ownkey.domain.errors import Unavailable
from ownkey.domain.receipts import HoldState
from ownkey.store import SQLiteStore


async def refused(store: SQLiteStore, req) -> HoldRefused:
    answer = await store.hold(req)
    assert isinstance(answer, HoldRefused), answer
    return answer


async def test_a_hold_reserves_and_its_end_moves_exactly_that(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 10 * USD, 80, at_ms=NOV, actor=ACTOR)
    req = request(ws.id, 3 * USD)

    granted = await take(store, req)
    assert (granted.bound_nusd, granted.cap.held_nusd, granted.cap.spent_nusd) == (3 * USD, 3 * USD, 0)
    booked = await finish(store, req, settle(req, 1 * USD))

    money = await store.load_money(ws.id, NOV)
    assert money.cap is not None
    assert (money.cap.spent_nusd, money.cap.held_nusd, money.has_cap) == (1 * USD, 0, True)
    assert booked.cap is not None
    assert (booked.cap.spent_before_nusd, booked.cap.spent_after_nusd) == (0, 1 * USD)
    assert booked.cap.resets_at == "2026-12-01T00:00:00Z"


async def test_without_a_cap_everything_is_admitted_and_still_counted(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    req = request(ws.id, 5_000 * USD)
    granted = await take(store, req)
    await finish(store, req, settle(req, 4_000 * USD))

    assert granted.cap.cap_nusd is None
    assert (await store.load_cap(ws.id, NOV)).spent_nusd == 4_000 * USD


async def test_only_other_holds_in_the_way_is_busy(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 10, 80, at_ms=NOV, actor=ACTOR)
    first = request(ws.id, 8)
    await take(store, first)

    answer = await refused(store, request(ws.id, 5))
    assert (answer.code, answer.needed_nusd, answer.cap.held_nusd) == ("spend_cap_busy", 5, 8)

    await finish(store, first, settle(first, 1))
    second = request(ws.id, 5)
    assert isinstance(await store.hold(second), HoldGranted)
    await finish(store, second, release(second))


async def test_a_call_larger_than_what_is_left_is_too_low_and_pauses_nobody(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 1_000, 80, at_ms=NOV, actor=ACTOR)

    answer = await refused(store, request(ws.id, 1_001))

    assert answer.code == "spend_cap_too_low"
    assert (await store.load_cap(ws.id, NOV)).state == "active"


async def test_less_than_a_hundredth_left_and_nothing_held_pauses_with_alerts(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 1_000, 80, at_ms=NOV, actor=ACTOR)
    big = request(ws.id, 1_000)
    await take(store, big)
    await finish(store, big, settle(big, 995))

    answer = await refused(store, request(ws.id, 6))

    setting = await store.load_cap(ws.id, NOV)
    assert (answer.code, answer.cap.paused) == ("ai_paused", True)
    assert (setting.state, setting.pause_reason) == ("paused", "no_room")
    assert [(a["threshold"], a["state"]) for a in await store.load_alerts(ws.id)] == [(80, "due"), (100, "due")]
    assert len(await store.load_outbox(ws.id, limit=10)) == 4
    assert (await refused(store, request(ws.id, 1))).code == "ai_paused"


async def test_fit_lowers_the_output_limit_to_what_is_left(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 1_000_000, 80, at_ms=NOV, actor=ACTOR)
    t = terms(2_000_000, output_limit=1_000, min_output=256)
    req = request(ws.id, 1, terms=t, shrink=True)

    granted = await take(store, req)

    assert (granted.output_limit, granted.shrunk, granted.bound_nusd) == (500, True, 1_000_000)
    await finish(store, req, release(req))
    unwilling = await refused(store, request(ws.id, 1, terms=t, shrink=False))
    assert unwilling.code == "spend_cap_too_low"


async def test_fit_never_goes_below_the_least_output(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 400_000, 80, at_ms=NOV, actor=ACTOR)
    t = terms(2_000_000, output_limit=1_000, min_output=256)

    answer = await refused(store, request(ws.id, 1, terms=t, shrink=True))

    assert (answer.code, answer.needed_nusd) == ("spend_cap_too_low", 512_000)


async def test_a_paid_probe_passes_a_pause_by_arithmetic_alone(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 1_000, 80, at_ms=NOV, actor=ACTOR)
    big = request(ws.id, 1_000)
    await take(store, big)
    await finish(store, big, settle(big, 995))
    await refused(store, request(ws.id, 6))

    small = request(ws.id, 5, probe=True)
    assert isinstance(await store.hold(small), HoldGranted)
    await finish(store, small, settle(small, 2))
    assert (await refused(store, request(ws.id, 5, probe=True))).code == "ai_paused"


async def test_a_model_without_a_price_runs_only_where_nothing_is_at_stake(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    req = request(ws.id, None)
    granted = await take(store, req)
    booked = await finish(store, req, settle(req, None))
    assert (granted.bound_nusd, booked.cost_nusd) == (0, None)

    await store.save_cap(ws.id, 1_000, 80, at_ms=NOV, actor=ACTOR)
    assert (await refused(store, request(ws.id, None))).code == "unpriced_model"
    assert (await refused(store, credits_request(ws.id, 1, terms=None))).code == "unpriced_model"


async def test_a_priced_attempt_of_unknown_cost_counts_whole(store: SQLiteStore) -> None:
    """Unknown is never 0 under a cap, and the receipt says what was booked."""
    ws = await add_workspace(store)
    req = request(ws.id, 70)
    await take(store, req)
    booked = await finish(store, req, settle(req, None))

    assert (booked.cost_nusd, booked.attempts[0].cost_nusd) == (70, 70)


async def test_a_bound_past_int64_is_refused_and_harms_nobody(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 2**63 - 1, 80, at_ms=NOV, actor=ACTOR)
    assert (await refused(store, request(ws.id, 2**64))).code == "spend_cap_too_low"
    first = request(ws.id, 2**62)
    await take(store, first)
    second = request(ws.id, 2**62 + 10**6)
    assert (await refused(store, second)).code == "spend_cap_busy"
    await finish(store, first, release(first))


async def test_credits_hold_the_bound_with_markup_and_charge_what_was_delivered(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 100, "topup", expires_at_ms=None, idem_key="g1", at_ms=NOV, actor=ACTOR)
    req = credits_request(ws.id, 50_000_000)  # × 1.2 = 60,000,000 = 6 credits

    granted = await take(store, req)
    assert granted.bound_credits == 6
    assert (await store.load_wallet(ws.id)).held_credits == 6
    booked = await finish(store, req, settle(req, 20_000_000))  # × 1.2 = 24,000,000 = 3 credits, 6,000,000 carry

    wallet = await store.load_wallet(ws.id)
    assert (booked.charge_nusd, booked.charge_credits, booked.absorbed_nusd) == (24_000_000, 3, 0)
    assert (wallet.balance_credits, wallet.held_credits, wallet.carry_nusd) == (97, 0, 6_000_000)
    assert (await store.load_cap(ws.id, NOV)).spent_nusd == 0  # credits are not the workspace's spend
    entry = (await store.load_ledger(ws.id, limit=1))[0]
    assert (entry["idem_key"], entry["postings"][0]["destination"]) == (f"hold:{req.hold_id}", "revenue:usage")


async def test_many_small_calls_lose_the_rounded_sum_not_a_credit_each(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 10, "promo", expires_at_ms=None, idem_key="g", at_ms=NOV, actor=ACTOR)
    for _ in range(50):
        req = credits_request(ws.id, 1_000_000)
        await take(store, req)
        await finish(store, req, settle(req, 100_000))

    assert (await store.load_wallet(ws.id)).balance_credits == 10 - 1  # 50 × 120,000 = 6,000,000 of 10,000,000


async def test_short_credits_are_refused_with_figures_or_fitted(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 3, "plan", expires_at_ms=None, idem_key="p", at_ms=NOV, actor=ACTOR)
    answer = await refused(store, credits_request(ws.id, 50_000_000))
    assert (answer.code, answer.needed_credits, answer.free_credits) == ("insufficient_credits", 6, 3)

    t = terms(50_000_000, output_limit=1_000, min_output=100)
    req = credits_request(ws.id, 1, terms=t, shrink=True)
    granted = await take(store, req)
    assert (granted.output_limit, granted.bound_credits) == (500, 3)
    await finish(store, req, release(req))


async def test_always_use_this_key_is_a_law_of_the_database(tmp_path: Path, store: SQLiteStore) -> None:
    """G19, X3: while it is on no hold takes credits, not even by code that believes otherwise."""
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 100, "topup", expires_at_ms=None, idem_key="g", at_ms=NOV, actor=ACTOR)
    running = credits_request(ws.id, 10_000_000)
    await take(store, running)
    await store.save_settings(ws.id, {"always_use_key": True}, at_ms=NOV, actor=ACTOR)

    assert (await refused(store, credits_request(ws.id, 10_000_000))).code == "always_use_key_unavailable"
    other = sqlite3.connect(tmp_path / "ownkey.db")
    with pytest.raises(sqlite3.IntegrityError, match="Always use this key"):
        other.execute(
            "INSERT INTO hold(id, workspace_id, call_id, attempt, funding, bound_nusd, bound_credits, priced,"
            " price_version, credit_price_nusd, markup_bps, after_audit, boot_id, created_at_ms, expires_at_ms,"
            " context) VALUES ('h', ?, 'c', 1, 'credits', 1, 1, 1, 1, 1, 0, 0, 'b', 1, 1, '')", (ws.id,),
        )
    other.close()
    await finish(store, running, settle(running, 5_000_000))  # what was in flight finishes


async def test_credits_never_pass_a_paused_cap(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 100, "topup", expires_at_ms=None, idem_key="g", at_ms=NOV, actor=ACTOR)
    await store.save_cap(ws.id, 0, 80, at_ms=NOV, actor=ACTOR)

    assert (await refused(store, credits_request(ws.id, 10))).code == "ai_paused"


async def test_credits_for_a_failing_key_have_a_monthly_limit_of_their_own(store: SQLiteStore) -> None:
    ws = await add_workspace(store, credits_if_key_fails_limit=10)
    await store.grant_credits(ws.id, 100, "topup", expires_at_ms=None, idem_key="g", at_ms=NOV, actor=ACTOR)
    first = credits_request(ws.id, 50_000_000, key_failed=True)
    await take(store, first)
    answer = await refused(store, credits_request(ws.id, 50_000_000, key_failed=True))
    assert (answer.code, answer.free_credits) == ("insufficient_credits", 4)

    await finish(store, first, settle(first, 20_000_000))
    assert (await store.load_money(ws.id, NOV)).key_failure_used_credits == 3
    third = credits_request(ws.id, 50_000_000, key_failed=True)
    await take(store, third)
    await finish(store, third, release(third))

    await store.save_settings(ws.id, {"credits_if_key_fails": False}, at_ms=NOV, actor=ACTOR)
    assert (await refused(store, credits_request(ws.id, 1, key_failed=True))).code == "insufficient_credits"
    next_month = await store.load_money(ws.id, NOV + 20 * DAY)
    assert next_month.key_failure_used_credits == 0


async def test_a_thousand_concurrent_holds_never_pass_the_cap_and_use_it(store: SQLiteStore) -> None:
    """X1, M1, M10: overshoot 0, at least 95% of what fits is admitted, in far fewer commits than holds."""
    ws = await add_workspace(store)
    cap = 600 * 1_000_000
    await store.save_cap(ws.id, cap, 80, at_ms=NOV, actor=ACTOR)
    before = store.writer.batches
    requests = [request(ws.id, 1_000_000) for _ in range(1_000)]

    answers = await asyncio.gather(*[store.hold(r) for r in requests])

    granted = [r for r, a in zip(requests, answers, strict=True) if isinstance(a, HoldGranted)]
    assert len(granted) == 600
    assert {a.code for a in answers if isinstance(a, HoldRefused)} == {"spend_cap_busy"}
    assert store.writer.batches - before < 100
    assert (await store.load_cap(ws.id, NOV)).held_nusd == cap
    await asyncio.gather(*[finish(store, r, settle(r, 1_000_000)) for r in granted])
    setting = await store.load_cap(ws.id, NOV)
    assert (setting.spent_nusd, setting.held_nusd, setting.state) == (cap, 0, "paused")


async def test_small_calls_use_the_cap_to_its_end(store: SQLiteStore) -> None:
    """M9: 1,000 small calls with fit and waiting settle at least 99% of the cap before it pauses."""
    ws = await add_workspace(store)
    cap = 100_000_000
    await store.save_cap(ws.id, cap, 80, at_ms=NOV, actor=ACTOR)
    refusals = []

    async def call() -> None:
        req = request(ws.id, 1, terms=terms(2_000_000, output_limit=1_000, min_output=100), shrink=True)
        for _ in range(40):
            answer = await store.hold(req)
            if isinstance(answer, HoldGranted):
                await asyncio.sleep(0)
                await finish(store, req, settle(req, answer.bound_nusd // 4))
                return
            if answer.code != "spend_cap_busy":
                refusals.append(answer.code)
                return
            await store.wait_for_room(ws.id, 2)
        refusals.append("gave up")

    await asyncio.gather(*[call() for _ in range(1_000)])

    setting = await store.load_cap(ws.id, NOV)
    assert setting.spent_nusd * 100 >= cap * 99
    assert setting.spent_nusd <= cap
    assert "gave up" not in refusals


async def test_waiting_for_room_ends_when_a_hold_does(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 10, 80, at_ms=NOV, actor=ACTOR)
    req = request(ws.id, 10)
    await take(store, req)
    await refused(store, request(ws.id, 5))

    waiting = asyncio.create_task(store.wait_for_room(ws.id, 60))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await finish(store, req, release(req))
    await asyncio.wait_for(waiting, 1)


async def test_an_end_between_the_refusal_and_the_wait_is_not_missed(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 10, 80, at_ms=NOV, actor=ACTOR)
    req = request(ws.id, 10)
    await take(store, req)
    await refused(store, request(ws.id, 5))
    await finish(store, req, release(req))

    await asyncio.wait_for(store.wait_for_room(ws.id, 60), 1)


async def test_a_hold_whose_caller_left_is_released(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    req = request(ws.id, 10)
    task = asyncio.create_task(store.hold(req))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.end_call(None, receipt(req, (req, release(req)), status=499))

    assert (await store.load_cap(ws.id, NOV)).held_nusd == 0


async def test_too_many_waiting_holds_are_refused_at_once(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    ws = await add_workspace(store)
    tasks = [asyncio.create_task(store.hold(request(ws.id, 1))) for _ in range(3_000)]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    await store.close()

    assert any(isinstance(a, Unavailable) for a in answers)
    assert all(isinstance(a, Unavailable | HoldGranted) for a in answers)


async def test_periods_follow_the_month_and_a_late_end_stays_in_its_own(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 1_000, 80, at_ms=NOV, actor=ACTOR)
    req = request(ws.id, 1_000)
    await take(store, req)
    december = NOV + 20 * DAY
    other = request(ws.id, 600, at_ms=december, expires_at_ms=december + 1)
    granted = await take(store, other)
    assert granted.cap.period_key == "2026-12"
    booked = await finish(store, req, settle(req, 1_000, at_ms=december + 5))
    await finish(store, other, settle(other, 600))

    assert booked.cap.period == "2026-11"
    assert (await store.load_cap(ws.id, december)).spent_nusd == 600
    assert await store.load_alerts(ws.id) == []  # after a period's end nobody is alerted about it


async def test_every_hold_state_ends_once(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    req = request(ws.id, 100)
    await take(store, req)
    await finish(store, req, settle(req, 40))
    again = await store.end_attempt(settle(req, 90))
    released = await store.end_attempt(release(req, state=HoldState.RELEASED))

    assert (again.cost_nusd, released.cost_nusd) == (40, 40)
    assert (await store.load_cap(ws.id, NOV)).spent_nusd == 40


async def test_a_lowered_cap_below_what_is_held_makes_even_a_free_call_wait(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    req = request(ws.id, 100)
    await take(store, req)
    await store.save_cap(ws.id, 50, 80, at_ms=NOV, actor=ACTOR)

    assert (await refused(store, request(ws.id, 0, shrink=True))).code == "spend_cap_busy"
    await finish(store, req, settle(req, 20))
    free = request(ws.id, 0, shrink=True)
    await take(store, free)
    await finish(store, free, settle(free, 0))
