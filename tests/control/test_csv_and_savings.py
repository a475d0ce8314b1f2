"""CSV that no spreadsheet misreads; savings with their assumption; statements with balances; filters from URLs."""

import csv
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as some
from tests.control.house import ACTOR, House, open_house
from tests.control.test_long_work import a_receipt, fill

from ownkey.control.csv_rows import (
    AMOUNT_COLUMNS,
    RECEIPT_COLUMNS,
    STATEMENT_COLUMNS,
    receipt_cells,
    to_line,
)
from ownkey.control.problems import Problem
from ownkey.control.savings import make_savings, tell_assumption
from ownkey.domain.activity import Amounts, TotalRow
from ownkey.domain.caps import plan_period
from ownkey.domain.records import ReceiptFilter
from ownkey.domain.routing import Funding, Route

DOCS = Path(__file__).resolve().parent.parent.parent / "docs" / "csv.md"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


@given(some.lists(some.one_of(some.none(), some.integers(), some.text()), min_size=2, max_size=6))
def test_a_line_is_read_back_as_it_was_written(cells: list[str | int | None]) -> None:
    """RFC 4180: whatever stands in a text, the reader finds the same cells; a formula has an apostrophe in front."""
    (row,) = csv.reader(io.StringIO(to_line(cells), newline=""), strict=True)

    for cell, read in zip(cells, row, strict=True):
        text = "" if cell is None else str(cell)
        guarded = isinstance(cell, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") and text
        assert read == (f"'{text}" if guarded else text)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_text_is_a_formula(text: str) -> None:
    """Portal 9: each of the six beginnings; numbers below zero stay numbers."""
    line = to_line((text, -5))

    assert line.startswith(("'", '"\''))
    assert line.endswith(",-5\r\n")


async def test_hostile_names_come_out_as_text(house: House) -> None:
    """A trace that is a formula, a task with quotes and line ends: one record each."""
    workspace = await house.workspace()
    receipt = a_receipt(workspace, 1, 1, conversation="=HYPERLINK(\"x\")", task="a\r\nb,\"c\"", project="-2")
    row = dict(zip(RECEIPT_COLUMNS, next(csv.reader(io.StringIO(to_line(receipt_cells(receipt)), newline=""))),
                   strict=True))

    assert (row["trace"], row["task"], row["project"]) == ("'=HYPERLINK(\"x\")", "a\r\nb,\"c\"", "'-2")
    assert (row["time"], row["cost_nano_usd"], row["cost_usd"], row["basis"], row["funding"]) == (
        "1970-01-01T00:00:00.001Z", "1000001", "0.001000001", "actual", "byok")


def test_the_platforms_own_key_is_in_no_export() -> None:
    """A call that credits paid names no credential."""
    class Place:
        id = "w"

    receipt = a_receipt(cast(Any, Place()), 1, 1, funding=Funding.CREDITS)
    receipt = replace(receipt, attempts=(replace(receipt.attempts[0], route=Route.CREDITS),))
    row = dict(zip(RECEIPT_COLUMNS, receipt_cells(receipt), strict=True))

    assert (row["credential"], row["credential_label"], row["credential_hint"]) == (None, None, None)


def test_every_column_is_documented() -> None:
    """docs/csv.md has a line for each."""
    text = DOCS.read_text()

    assert [name for name in (*RECEIPT_COLUMNS, *AMOUNT_COLUMNS, *STATEMENT_COLUMNS) if f"`{name}`" not in text] == []


async def test_rows_are_streamed_a_page_at_a_time(house: House) -> None:
    """What is in memory is a page, however many rows there are; new calls do not slip in."""
    workspace = await house.workspace()
    await fill(house, workspace, 1_100)
    sizes = []
    async for chunk in house.desk.exports.receipts(workspace, ReceiptFilter()):
        sizes.append(chunk.rows)
        await house.store.end_call(None, a_receipt(workspace, 5_000 + len(sizes), house.clock.at_ms + len(sizes)))

    assert sizes == [0, 500, 500, 102] or sizes == [0, 500, 500, 101]
    assert await house.desk.exports.count(workspace, ReceiptFilter(task="draft_reply")) == 1_100 + len(sizes)


async def test_a_spend_table_as_csv_is_the_table(house: House) -> None:
    """Portal 9: chart, table and CSV of one month, by each thing, the same nano-USD."""
    workspace = await house.workspace()
    made = await fill(house, workspace, 50)
    cost = sum(receipt.cost_nusd or 0 for receipt in made)
    for by in ("day", "task", "model", "provider", "project", "funding", "outcome", "credential"):
        text = await house.desk.exports.spend(workspace, by, "2026-11")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        table = await house.desk.totals.spend(workspace, by, "2026-11")

        assert sum(int(row["cost_nano_usd"]) for row in rows) == table.total.cost_nusd == cost, by
        assert sum(int(row["calls"]) for row in rows) == table.total.calls == 50, by
    chart = await house.desk.totals.chart(workspace, "2026-11")
    assert chart.total.cost_nusd == cost
    assert len({row.keys["day"] for row in chart.rows}) == 30
    with pytest.raises(Problem):
        await house.desk.totals.spend(workspace, "conversation", "2026-11")


async def test_uses_of_tasks_projects_and_credentials(house: House) -> None:
    """Each with its month and its last call, also where that was long ago."""
    workspace = await house.workspace()
    await fill(house, workspace, 5, project="p1")
    old = a_receipt(workspace, 77, house.clock.at_ms - 90 * 86_400_000, project="old", task="old_task")
    await house.store.end_call(None, old)
    projects = await house.desk.totals.by_project(workspace)
    tasks = await house.desk.totals.by_task(workspace)
    credentials = await house.desk.totals.by_credential(workspace)

    assert projects["p1"].amounts.calls == 5
    assert (projects["old"].amounts.calls, projects["old"].last_at_ms) == (0, old.at_ms)
    assert tasks["old_task"].last_at_ms == old.at_ms
    assert credentials["cred_1"].last_at_ms == house.clock.at_ms - 1_000
    assert [line.conversation for line in await house.desk.totals.costliest(workspace, limit=1)] == ["c4"]


def row(route: str, provider: str, model: str, answered: int, unknown: int = 0) -> TotalRow:
    return TotalRow({"route": route, "provider": provider, "model": model},
                    Amounts(answered_nusd=answered, unknown_attempts=unknown), answered)


def test_what_direct_keys_save() -> None:
    """T4, T13: the fee on what was paid directly, and on what OpenRouter carried for models that could go directly."""
    found = make_savings(plan_period(1_794_873_600_000, "UTC", None), [
        row("direct", "anthropic", "claude-haiku-4-5", 1_000_000_001), row("direct", "openai", "gpt-4.1-mini", 10, 2),
        row("openrouter", "openrouter", "anthropic/claude-haiku-4.5", 2_000_000_000),
        row("openrouter", "openrouter", "meta-llama/llama-3.3-70b-instruct", 7_000_000_000),
        row("credits", "openrouter", "openai/gpt-4.1-mini", 9_000_000_000),
    ], 550, ("anthropic", "openai", "google"))

    assert found.saved_nusd == (1_000_000_011 * 550) // 10_000
    assert found.would_save_nusd == 2_000_000_000 * 550 // 10_000
    assert found.unknown_attempts == 2
    assert [(p.provider, p.paid_nusd, p.through_openrouter_nusd) for p in found.providers] == [
        ("anthropic", 1_000_000_001, 2_000_000_000), ("openai", 10, 0)]
    assert "5.5%" in found.assumption
    assert [tell_assumption(bps).split(" is ")[1].split("%")[0] for bps in (0, 500, 525)] == ["0", "5", "5.25"]


async def test_savings_of_a_month_come_from_receipts(house: House) -> None:
    """A call that OpenRouter answered could have been saved on."""
    workspace = await house.workspace()
    made = await fill(house, workspace, 4)
    found = await house.desk.savings.month(workspace, "2026-11")

    assert found.would_save_nusd == sum(r.cost_nusd or 0 for r in made) * 550 // 10_000
    assert found.saved_nusd == 0


async def test_a_statement_has_every_movement_and_its_balance(tmp_path: Path) -> None:
    """G30: grants, newest first, page by page; the last balance is the wallet's."""
    async with open_house(tmp_path, "app-builder") as house:
        workspace = await house.workspace()
        for n in range(7):
            await house.desk.credits.grant(workspace, n + 1, "topup", None, f"order-{n}", ACTOR)
        lines, before = [], None
        while True:
            page = await house.desk.statement.page(workspace, before, 3)
            lines += page.lines
            before = page.next_before
            if before is None:
                break
        wallet = await house.store.load_wallet(workspace.id)
        text = "".join([part async for part in house.desk.exports.statement(workspace)])
        rows = list(csv.DictReader(io.StringIO(text, newline="")))

        assert lines[0].balance == wallet.balance_credits == sum(line.credits for line in lines)
        assert [line.credits for line in lines[:3]] == [7, 6, 5]
        assert lines[0].what == "Top-up"
        assert [int(row["balance_credits"]) for row in rows] == [line.balance for line in lines]


async def test_a_filter_is_read_from_an_address(house: House) -> None:
    """Portal 4.4: filters stand in the URL; what cannot be meant gets its field and fix."""
    workspace = await house.workspace()
    read = house.desk.activity.read_filter
    query = read(workspace, {
        "task": " triage ", "funding": "nobody", "project": "none", "trace": "", "month": "2026-11",
        "since": "2026-11-05",
    })

    assert (query.task, query.funding, query.project, query.conversation) == ("triage", "", "", None)
    assert (query.since_day, query.until_day) == ("2026-11-05", "2026-11-30")
    for values, param in (
        ({"outcome": "okay"}, "outcome"), ({"funding": "cash"}, "funding"), ({"since": "yesterday"}, "since"),
        ({"month": "11"}, "month"), ({"since": "2026-11-02", "until": "2026-11-01"}, "until"), ({"tsk": "x"}, "tsk"),
        ({"task": "x" * 201}, "task"),
    ):
        with pytest.raises(Problem) as caught:
            read(workspace, values)
        assert caught.value.param == param


async def test_activity_says_what_is_new_and_draws_it(house: House) -> None:
    """A page with its mark; "3 new"; bars by day, and by hour where one day is shown."""
    workspace = await house.workspace()
    await fill(house, workspace, 60)
    page = await house.desk.activity.page(workspace, ReceiptFilter(), limit=25)
    following = await house.desk.activity.page(workspace, ReceiptFilter(), page.next_before, limit=25)
    for n in range(3):
        await house.store.end_call(None, a_receipt(workspace, 900 + n, house.clock.at_ms + n))
    assert page.newest is not None
    new = await house.desk.activity.new_calls(workspace, ReceiptFilter(outcome="ok"), page.newest)
    days = await house.desk.activity.histogram(workspace, ReceiptFilter())
    hours = await house.desk.activity.histogram(
        workspace, ReceiptFilter(since_day="2026-11-18", until_day="2026-11-18")
    )
    traces = await house.desk.activity.traces(workspace, ReceiptFilter(), limit=5)

    assert len({row["id"] for row in (*page.receipts, *following.receipts)}) == 50
    assert new == 3
    assert len(days) == 30
    assert sum(sum(bar.calls.values()) for bar in days) == 63
    assert len(hours) == 24
    assert len(traces.lines) == 5
    assert traces.next_cursor is not None
    assert (await house.desk.activity.sums(workspace, ReceiptFilter(conversation="c1"))).calls > 0
    assert "draft_reply" in (await house.desk.activity.choices(workspace)).tasks
