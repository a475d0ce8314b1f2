"""Daily totals agree with receipts, CSV and ledger to the nano-USD, whatever is written and corrected."""

import csv
import io
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from activity_kit import live
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from store_kit import ACTOR, DAY, NOV, Clock, add_workspace, finish, open_store, request, settle, take

from ownkey.control.csv_rows import RECEIPT_COLUMNS, receipt_cells, to_line
from ownkey.domain.activity import Amounts, TotalRow
from ownkey.domain.receipts import Receipt
from ownkey.domain.records import ReceiptFilter
from ownkey.store import SQLiteStore, totals
from ownkey.store.recovery import expire_calls

SINCE, UNTIL = "2026-10-01", "2027-12-31"
CALLS = 160

FILTERS: tuple[dict[str, Any], ...] = (
    {}, {"task": "chat"}, {"task": ""}, {"project": "p1"}, {"project": "=cmd|p3"}, {"provider": "openrouter"},
    {"provider": "anthropic"}, {"provider": ""}, {"model": "gpt-4.1-mini"}, {"model": "Claude-Haiku-4-5"},
    {"credential": "cred_openai"}, {"funding": "byok"}, {"funding": "credits"}, {"funding": ""}, {"outcome": "ok"},
    {"outcome": "refused"}, {"outcome": "failed"}, {"outcome": "cancelled"}, {"code": "ai_paused"},
    {"refused": True}, {"refused": False}, {"since_day": "2026-12-01", "until_day": "2026-12-31"},
)
GROUPS: tuple[tuple[str, ...], ...] = (
    (), ("day",), ("month",), ("task",), ("project",), ("funding",), ("outcome",), ("provider",), ("model",),
    ("credential",), ("basis",), ("route",), ("day", "funding"), ("task", "model"), ("project", "outcome"),
)


async def read_all(store: SQLiteStore, workspace_id: str, query: ReceiptFilter) -> list[Receipt]:
    """Every receipt of a filter, page by page."""
    found: list[Receipt] = []
    before: str | None = None
    while True:
        page = await store.load_receipts(workspace_id, replace(query, before=before, limit=37))
        found += [msgspec.convert(row, Receipt, strict=False) for row in page]
        if len(page) < 37:
            return found
        before = page[-1]["id"]


def in_csv(receipts: list[Receipt]) -> list[dict[str, str]]:
    text = to_line(RECEIPT_COLUMNS) + "".join(to_line(receipt_cells(receipt)) for receipt in receipts)
    return list(csv.DictReader(io.StringIO(text, newline="")))


def summed(rows: list[TotalRow]) -> Amounts:
    return Amounts(*(sum(row.amounts[n] for row in rows) for n in range(len(Amounts._fields))))


async def agree(store: SQLiteStore, workspace_id: str, query: ReceiptFilter) -> int:
    """Chart, table and CSV of one filter; returns its cost."""
    receipts = await read_all(store, workspace_id, query)
    rows = in_csv(receipts)
    cost = sum(int(row["cost_nano_usd"] or 0) for row in rows)
    for by in GROUPS:
        total = summed(list(await store.load_totals(workspace_id, SINCE, UNTIL, by, query)))
        assert (total.calls, total.cost_nusd) == (len(rows), cost), (query, by)
        assert total.charge_credits == sum(int(row["charge_credits"]) for row in rows), (query, by)
        assert total.unknown_calls == sum(row["cost_complete"] == "no" for row in rows), (query, by)
        assert total.tokens_input == sum(int(row["tokens_input"]) for row in rows), (query, by)
    sums = await store.load_sums(workspace_id, query)
    assert (sums.calls, sums.cost_nusd) == (len(rows), cost)
    assert sum(receipt.cost_nusd or 0 for receipt in receipts if receipt.cost_nusd is not None) <= cost
    return cost


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=some.integers(0, 10**6))
async def test_chart_table_csv_and_ledger_agree(tmp_path: Path, seed: int) -> None:
    """T25, T26: for every filter and every grouping the same calls, credits and nano-USD; without a filter, the
    ledger's too, hold by hold."""
    folder = tmp_path / str(seed)
    folder.mkdir(exist_ok=True)
    (folder / "ownkey.db").unlink(missing_ok=True)
    clock = Clock()
    store = open_store(folder / "ownkey.db", clock)
    try:
        ws, other = await add_workspace(store), await add_workspace(store, "other")
        for workspace in (ws, other):
            await store.grant_credits(workspace.id, 200, "topup", expires_at_ms=None, idem_key=f"g{workspace.id}",
                                      at_ms=NOV, actor=ACTOR)
        await live(store, ws.id, CALLS, seed)
        await live(store, other.id, 20, seed + 1)
        for changes in FILTERS:
            await agree(store, ws.id, ReceiptFilter(**changes))
        conn = sqlite3.connect(folder / "ownkey.db")
        (ledger,) = conn.execute(
            "SELECT sum(coalesce(h.cost_nusd, 0) + coalesce(c.cost_delta_nusd, 0)) FROM hold h "
            "LEFT JOIN correction c ON c.hold_id = h.id WHERE h.workspace_id = ?", (ws.id,)
        ).fetchone()
        (cap,) = conn.execute("SELECT sum(spent_nusd) FROM cap_period WHERE workspace_id = ?", (ws.id,)).fetchone()
        conn.close()
        (whole,) = await store.load_totals(ws.id, SINCE, UNTIL, ())

        assert whole.amounts.cost_nusd == ledger
        assert whole.own_nusd == cap
        assert list(await store.verify(clock.ms + 100 * DAY)) == []
    finally:
        await store.close()


async def test_a_day_is_the_workspaces_own(store: SQLiteStore) -> None:
    """A call at 23:30 in New York is of that day, though it is the next in UTC; days add up to the cap's month."""
    ws = await add_workspace(store, timezone="America/New_York")
    late = NOV + 4 * 3_600_000  # 2026-11-17T04:00Z is 23:00 of the 16th there
    req = request(ws.id, 100, at_ms=late, timezone="America/New_York")
    await take(store, req)
    await finish(store, req, settle(req, 7), at_ms=late)
    (row,) = await store.load_totals(ws.id, "2026-11-16", "2026-11-16", ("day",))

    assert (row.keys, row.amounts.cost_nusd) == ({"day": "2026-11-16"}, 7)
    assert await store.load_totals(ws.id, "2026-11-17", "2026-11-30", ()) == []
    (found,) = await store.load_receipts(ws.id, ReceiptFilter(since_day="2026-11-16", until_day="2026-11-16"))
    assert found["id"] == req.call_id


async def test_a_call_whose_process_died_is_counted_once(store: SQLiteStore, clock: Clock) -> None:
    """What recovery wrote gives way to the call's own receipt, in the totals too."""
    ws = await add_workspace(store)
    req = request(ws.id, 1_000)
    await take(store, req)
    await store.writer.submit(lambda conn: expire_calls(conn, NOV + DAY, expired_by_ms=NOV + DAY))
    (died,) = await store.load_totals(ws.id, SINCE, UNTIL, ())
    await store.end_call(settle(req, 10), (await _receipt_of(req)))
    (own,) = await store.load_totals(ws.id, SINCE, UNTIL, ())

    assert (died.amounts.calls, died.amounts.cost_nusd) == (1, 1_000)
    assert (own.amounts.calls, own.amounts.cost_nusd) == (1, 10)


async def _receipt_of(req: Any) -> Receipt:
    from store_kit import receipt

    return receipt(req, (req, settle(req, 10)))


async def test_an_older_database_is_filled_in_at_start(tmp_path: Path, clock: Clock) -> None:
    """Receipts and entries from before these tables get the same totals, days, pages and statement."""
    path = tmp_path / "older.db"
    store = open_store(path, clock)
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 50, "topup", expires_at_ms=None, idem_key="g", at_ms=NOV, actor=ACTOR)
    await live(store, ws.id, 80, 3)
    before = [await store.load_totals(ws.id, SINCE, UNTIL, by) for by in GROUPS]
    lines = await store.load_statement(ws.id, before=None, limit=100)
    await store.close()
    conn = sqlite3.connect(path)
    for table in ("shape", "share", "conversation", "activity", "receipt_share", "day_total", "task_day", "project_day",
                  "conversation_month", "statement_line"):
        conn.execute(f"DELETE FROM {table}")
    conn.commit()
    conn.close()
    again = open_store(path, clock)
    try:
        assert [await again.load_totals(ws.id, SINCE, UNTIL, by) for by in GROUPS] == before
        assert await again.load_statement(ws.id, before=None, limit=100) == lines
        assert list(await again.verify(clock.ms + 100 * DAY)) == []
    finally:
        await again.close()


@pytest.mark.parametrize(("sql", "check"), [
    ("UPDATE day_total SET cost_nusd = cost_nusd + 1", "day_total"),
    ("UPDATE task_day SET calls = calls + 1", "task_day"),
    ("DELETE FROM project_day", "project_day"),
    ("UPDATE conversation_month SET cost_nusd = cost_nusd + 1", "conversation_month"),
    ("UPDATE activity SET cost_nusd = cost_nusd + 1", "activity.receipt"),
    ("DELETE FROM activity", "activity.receipt"),
    ("UPDATE receipt_share SET cost_nusd = cost_nusd + 1", "receipt_share"),
    ("UPDATE shape SET task = task || 'x'", "activity.receipt"),
    ("UPDATE statement_line SET balance = balance + 1", "statement.balance"),
    ("DELETE FROM statement_line WHERE entry_id = 1", "statement.entry"),
])
async def test_verify_names_what_was_tampered_with(tmp_path: Path, clock: Clock, sql: str, check: str) -> None:
    """X9: totals and statements are books too."""
    path = tmp_path / "ownkey.db"
    store = open_store(path, clock)
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 50, "topup", expires_at_ms=None, idem_key="g", at_ms=NOV, actor=ACTOR)
    await live(store, ws.id, 30, 9)
    await store.close()
    conn = sqlite3.connect(path)
    conn.execute(sql)
    conn.commit()
    conn.close()
    store = open_store(path, clock)
    findings = {found.check for found in await store.verify(clock.ms + 100 * DAY)}
    await store.close()

    assert check in findings


async def test_what_totals_cannot_tell_is_refused(store: SQLiteStore) -> None:
    """No grouping or filter is guessed at."""
    ws = await add_workspace(store)
    with pytest.raises(ValueError, match="grouped by"):
        await store.load_totals(ws.id, SINCE, UNTIL, ("doc",))
    with pytest.raises(ValueError, match="no conversation"):
        await store.load_totals(ws.id, SINCE, UNTIL, (), ReceiptFilter(conversation="c"))


def test_the_smallest_table_that_can_answer_is_read() -> None:
    """Most pages' sums come out of a few rows a day."""
    assert "task_day" in totals._sum_by(("day", "funding"), frozenset(), False)
    assert "task_day" in totals._sum_by(("model",), frozenset({"task"}), False)
    assert "project_day" in totals._sum_by(("project",), frozenset({"funding"}), False)
    assert "day_total" in totals._sum_by(("model",), frozenset({"project"}), False)
