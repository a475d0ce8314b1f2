"""A recent check reads what calls and payments touched; a whole one finds the rest, at the latest a day later."""

import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from activity_kit import live_a_call
from store_kit import ACTOR, AUDIT_KEY, DAY, NOV, Clock, add_workspace, finish, open_store, request, settle, take

from ownkey.domain.errors import Unavailable
from ownkey.domain.receipts import Receipt
from ownkey.domain.workspace import WorkspaceState
from ownkey.jobs.rounds import VERIFY_S, verify_job
from ownkey.store.book_checks import SETTLED_MS, BookChecks

HOUR = 3_600_000
SHORT = int(VERIFY_S * 1_000)


class Past:
    """Calls of October, which is closed; calls of today are made when a test asks for them."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path, self.clock, self.dice = path, clock, random.Random(5)
        self.store = open_store(path, clock)

    async def begin(self) -> None:
        self.workspace: WorkspaceState = await add_workspace(self.store)
        self.clock.ms = NOV - 40 * DAY
        await self.store.grant_credits(
            self.workspace.id, 100_000, "topup", expires_at_ms=None, idem_key="g", at_ms=self.clock.ms, actor=ACTOR
        )
        self.made = await self.call(30)
        self.clock.ms = NOV

    async def call(self, count: int = 12) -> list[Receipt]:
        return [
            await live_a_call(self.store, self.workspace.id, self.dice, self.clock.ms + n) for n in range(count)
        ]

    async def found(self) -> set[str]:
        return {finding.check for finding in await self.store.verify_recent(self.clock.ms)}

    def spoil(self, statement: str) -> None:
        conn = sqlite3.connect(self.path)
        for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            conn.execute(f"DROP TRIGGER {name}")
        assert conn.execute(statement).rowcount > 0, statement
        conn.commit()
        conn.close()


@pytest.fixture
async def past(tmp_path: Path, clock: Clock) -> AsyncIterator[Past]:
    past = Past(tmp_path / "ownkey.db", clock)
    await past.begin()
    yield past
    await past.store.close()


TODAY, OLD = "(SELECT max(day) FROM day_total)", "(SELECT min(day) FROM day_total)"
NEW, FIRST = "(SELECT max(seq) FROM receipt)", "(SELECT min(seq) FROM receipt WHERE cost_nusd > 0)"
HELD = "(SELECT max(r.seq) FROM receipt r JOIN hold h ON h.call_id = r.id)"
PAID = "(SELECT max(seq) FROM receipt WHERE charge_credits > 0)"
LINE, ENTRY = "(SELECT max(entry_id) FROM statement_line)", "(SELECT max(id) FROM ledger_entry WHERE kind = 'charge')"


@pytest.mark.parametrize(("statement", "check"), [
    (f"UPDATE day_total SET cost_nusd = cost_nusd + 1 WHERE day = {TODAY}", "day_total"),
    (f"DELETE FROM day_total WHERE day = {TODAY}", "day_total"),
    (f"UPDATE task_day SET calls = calls + 1 WHERE day = {TODAY}", "task_day"),
    (f"UPDATE project_day SET cost_nusd = cost_nusd + 1 WHERE day = {TODAY}", "project_day"),
    (f"UPDATE receipt SET cost_nusd = cost_nusd + 1 WHERE seq = {NEW}", "activity.receipt"),
    (f"UPDATE receipt SET charge_credits = charge_credits + 7 WHERE seq = {PAID}", "receipt.charge"),
    (f"DELETE FROM activity WHERE seq = {NEW}", "activity.receipt"),
    (f"DELETE FROM receipt WHERE seq = {HELD}", "receipt.missing"),
    (f"UPDATE receipt_share SET cost_nusd = cost_nusd + 1 WHERE seq = {NEW}", "receipt_share"),
    ("UPDATE conversation_month SET calls = calls + 1 WHERE month = 202611", "conversation_month"),
    ("DELETE FROM conversation_month WHERE month = 202611", "conversation_month"),
    (f"UPDATE statement_line SET balance = balance + 1 WHERE entry_id = {LINE}", "statement.balance"),
    (f"UPDATE statement_line SET credits = credits + 1 WHERE entry_id = {LINE}", "statement.entry"),
    (f"DELETE FROM posting WHERE entry_id = {ENTRY}", "L2.entry"),
    ("UPDATE cap_period SET spent_nusd = spent_nusd + 1 WHERE period_key = '2026-10'", "cap_period.spent_nusd"),
    ("UPDATE wallet SET balance_credits = balance_credits + 1", "L3.balance"),
    ("UPDATE audit SET actor_id = 'nobody' WHERE n = 1", "audit.chain"),
])
async def test_what_calls_touched_is_read_again(past: Past, statement: str, check: str) -> None:
    """Wrong figures of calls since the last clean check, and of whatever is not written once a call: at the next
    round."""
    assert await past.store.verify(past.clock.ms) == []
    past.clock.ms += SHORT
    await past.call(60)
    assert await past.found() == set()
    past.spoil(statement)

    assert check in await past.found()


@pytest.mark.parametrize(("statement", "check"), [
    (f"UPDATE day_total SET cost_nusd = cost_nusd + 1 WHERE day = {OLD}", "day_total"),
    (f"UPDATE task_day SET calls = calls + 1 WHERE day = {OLD}", "task_day"),
    (f"UPDATE receipt SET cost_nusd = cost_nusd + 1 WHERE seq = {FIRST}", "activity.receipt"),
    (f"UPDATE project_day SET calls = calls + 1 WHERE day = {OLD}", "project_day"),
])
async def test_a_wrong_figure_of_a_closed_month_is_found_within_a_day(past: Past, statement: str, check: str) -> None:
    """Rounds in between do not read it again, and say nothing wrong; `ownkey verify` finds it at once."""
    told: list[set[str]] = []

    class Watched:
        async def verify(self, at_ms: int) -> list[object]:
            found = list(await past.store.verify(at_ms))
            told.append({finding.check for finding in found})
            return found

        async def verify_recent(self, at_ms: int) -> list[object]:
            found = list(await past.store.verify_recent(at_ms))
            told.append({finding.check for finding in found})
            return found

    job = verify_job(Watched(), lambda: past.clock.ms)  # type: ignore[arg-type]
    await job.run()
    past.clock.ms += SHORT
    await past.call()
    past.spoil(statement)
    while past.clock.ms < NOV + DAY:
        await job.run()
        past.clock.ms += 6 * HOUR
    await job.run()

    assert told[0] == set()
    assert check in told[-1]
    assert check in {finding.check for finding in await past.store.verify(past.clock.ms)}
    assert all(check not in found for found in told[:-1])


async def test_an_old_call_that_was_corrected_is_read_again(past: Past) -> None:
    """A correction may come days after its call, whose receipt and day it changes."""
    await past.store.verify(past.clock.ms)
    past.clock.ms += SHORT
    old = next(made for made in past.made if made.code is None and made.cost_nusd)
    await past.store.correct_hold(
        past.workspace.id, old.attempts[-1].hold_id, 3_000_000, delivered_cost_nusd=0, origin="operator",
        at_ms=past.clock.ms,
    )
    assert await past.found() == set()
    past.spoil(f"UPDATE receipt SET cost_nusd = cost_nusd + 1 WHERE id = '{old.id}'")

    assert "receipt.cost" in await past.found()


async def test_days_of_another_zone_are_read_whole(past: Past) -> None:
    """Where it is tomorrow already: a call belongs to a day that has not begun in UTC."""
    zone = "Pacific/Kiritimati"
    far = await add_workspace(past.store, "far", timezone=zone)
    await past.store.verify(past.clock.ms)
    past.clock.ms = NOV + 10 * HOUR + HOUR // 2
    wish = request(far.id, 100, at_ms=past.clock.ms, timezone=zone)
    await take(past.store, wish)
    await finish(past.store, wish, settle(wish, 7), at_ms=past.clock.ms)

    assert await past.found() == set()
    past.spoil(f"UPDATE day_total SET calls = calls + 1 WHERE day = {TODAY}")
    assert "day_total" in await past.found()


async def test_what_was_found_is_found_until_it_is_over(past: Past) -> None:
    """No check that found something counts as one that had seen all before it."""
    await past.store.verify(past.clock.ms)
    await past.call()
    past.spoil(f"UPDATE day_total SET cost_nusd = cost_nusd + 1 WHERE day = {TODAY}")
    for _ in range(4):
        past.clock.ms += SETTLED_MS + SHORT
        assert "day_total" in await past.found()
    past.spoil(f"UPDATE day_total SET cost_nusd = cost_nusd - 1 WHERE day = {TODAY}")
    past.spoil(f"UPDATE task_day SET calls = calls + 1 WHERE day = {OLD}")
    for _ in range(2):
        assert "task_day" in {finding.check for finding in await past.store.verify(past.clock.ms)}
        assert "task_day" in await past.found()


async def test_a_receipt_that_is_young_is_read_until_it_is_settled(past: Past) -> None:
    """The receipt of a call that was given up may be replaced by the call's own, under its old number."""
    await past.store.verify(past.clock.ms)
    await past.call()
    past.clock.ms += SHORT
    assert await past.found() == set()
    past.spoil(f"UPDATE day_total SET cost_nusd = cost_nusd + 1 WHERE day = {TODAY}")

    assert "day_total" in await past.found()


async def test_what_is_settled_is_not_read_again(past: Past) -> None:
    """An hour after a clean check that had seen it, a day without new calls costs nothing."""
    await past.store.verify(past.clock.ms)
    await past.call()
    for _ in range(2):
        past.clock.ms += SETTLED_MS + SHORT
        assert await past.found() == set()
    past.clock.ms += SETTLED_MS
    assert await past.found() == set()
    past.spoil(f"UPDATE day_total SET cost_nusd = cost_nusd + 1 WHERE day = {TODAY}")

    assert await past.found() == set()
    await past.call(1)
    assert "day_total" in await past.found()


async def test_the_first_check_of_a_process_is_a_whole_one(past: Past) -> None:
    """What was clean is remembered by the process alone: a database that was changed while none ran is read whole."""
    await past.store.verify(past.clock.ms)
    await past.store.close()
    past.spoil(f"UPDATE day_total SET cost_nusd = cost_nusd + 1 WHERE day = {OLD}")
    past.store = open_store(past.path, past.clock, "boot-2")

    assert "day_total" in await past.found()


async def test_a_check_that_takes_too_long_ends(past: Past) -> None:
    """Every statement of a check has a time, and none goes on when the store closes."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    checks = BookChecks(past.path, AUDIT_KEY, whole_limit_s=0.05)
    with checks._reader(0.05) as conn, pytest.raises(sqlite3.OperationalError, match="interrupted"):
        conn.execute(endless)

    def read_for_ever(at_ms: int) -> list[object]:
        with checks._reader(60.0) as conn:
            return conn.execute(endless).fetchall()

    running = checks._thread.submit(read_for_ever, 0)
    checks.close()
    with pytest.raises(sqlite3.OperationalError):
        running.result()


async def test_pages_and_calls_do_not_wait_for_a_check(past: Past) -> None:
    """While a check has its snapshot, lists are read and calls are booked."""
    checks: BookChecks = past.store._checks
    with checks._reader(60.0) as conn:
        conn.execute("BEGIN")
        before = conn.execute("SELECT count(*) FROM receipt").fetchone()
        await past.call(3)

        assert await past.store.load_last_written(past.workspace.id) is not None
        assert conn.execute("SELECT count(*) FROM receipt").fetchone() == before
    assert await past.store.verify(past.clock.ms) == []


async def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """The job of the clock hears Unavailable, as of any read."""
    checks = BookChecks(tmp_path / "nowhere" / "a.db", AUDIT_KEY)
    with pytest.raises(Unavailable, match="could not be checked"):
        await checks.recent(NOV)
    checks.close()
