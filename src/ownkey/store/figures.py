"""What pages show of calls and money: searches and sums, on readers of their own: no long check delays a page."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from ownkey.domain.activity import (
    ActivitySums,
    Amounts,
    Choices,
    CostlyTrace,
    MeterSums,
    TotalRow,
    TraceLine,
    month_days,
    parse_day,
)
from ownkey.domain.errors import Unavailable
from ownkey.domain.records import UNFILTERED, ReceiptFilter
from ownkey.domain.statement import StatementLine
from ownkey.store import receipt_search, statement, totals
from ownkey.store.audit import load_audit_from
from ownkey.store.connection import open_reader, snapshot
from ownkey.store.core import Core

T = TypeVar("T")

READERS = 2
_CACHE = "PRAGMA cache_size = -16000"
_SPEND_BY = ("task", "model", "provider", "conversation", "project", "day", "basis")


class FigureReaders:
    """A few connections that cannot write, each on a thread of its own; opened when first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(READERS, "ownkey-figures")
        self._mine = threading.local()
        self._opened: list[sqlite3.Connection] = []

    def submit(self, query: Callable[[sqlite3.Connection], T]) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._threads, self._run, query)

    def _run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        conn: sqlite3.Connection | None = getattr(self._mine, "conn", None)
        if conn is None:
            conn = self._mine.conn = open_reader(self._path)
            conn.execute(_CACHE)
            self._opened.append(conn)
        with snapshot(conn):
            return query(conn)

    def close(self) -> None:
        """Waits for what is being read."""
        self._threads.shutdown()
        for conn in self._opened:
            conn.close()
        self._opened.clear()


class FiguresPart(Core):
    """Satisfies `control.ports.Totals`, `ActivityRows`, `Statements`, and the lists of `control.ports.Receipts`."""

    _figures: FigureReaders

    async def _see(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._figures.submit(query)
        except sqlite3.OperationalError as error:
            raise Unavailable(f"The database cannot be read now: {error}") from error

    async def load_receipts(self, workspace_id: str, query: ReceiptFilter) -> Sequence[Mapping[str, Any]]:
        """One page of documents, newest first."""
        return await self._see(lambda conn: receipt_search.find_receipts(conn, workspace_id, query))

    async def count_since(self, workspace_id: str, query: ReceiptFilter, receipt_id: str, *, most: int) -> int:
        return await self._see(
            lambda conn: receipt_search.count_since(conn, workspace_id, query, receipt_id, most)
        )

    async def load_last_written(self, workspace_id: str) -> str | None:
        return await self._see(lambda conn: receipt_search.last_written(conn, workspace_id))

    async def load_traces(
        self, workspace_id: str, query: ReceiptFilter, cursor: str | None
    ) -> tuple[Sequence[TraceLine], str | None]:
        return await self._see(lambda conn: receipt_search.find_traces(conn, workspace_id, query, cursor))

    async def load_sums(self, workspace_id: str, query: ReceiptFilter) -> ActivitySums:
        return await self._see(lambda conn: receipt_search.load_sums(conn, workspace_id, query))

    async def load_hours(
        self, workspace_id: str, query: ReceiptFilter
    ) -> Sequence[tuple[int, str, str, int]]:
        return await self._see(lambda conn: receipt_search.load_hours(conn, workspace_id, query))

    async def load_totals(
        self, workspace_id: str, since_day: str, until_day: str, by: tuple[str, ...],
        where: ReceiptFilter = UNFILTERED, *, brief: bool = False,
    ) -> Sequence[TotalRow]:
        query = totals.within_days(where, since_day, until_day)
        return await self._see(lambda conn: totals.load_totals(conn, workspace_id, query, by, brief=brief))

    async def load_costly_traces(self, workspace_id: str, month: str, *, limit: int) -> Sequence[CostlyTrace]:
        number = int(month[:4]) * 100 + int(month[5:])
        return await self._see(lambda conn: receipt_search.load_costly(conn, workspace_id, number, limit))

    async def load_last_calls(self, workspace_id: str, by: str) -> Mapping[str, int]:
        return await self._see(lambda conn: receipt_search.load_last_calls(conn, workspace_id, by))

    async def load_choices(self, workspace_id: str) -> Choices:
        return await self._see(lambda conn: receipt_search.load_choices(conn, workspace_id))

    async def load_meter(
        self, workspace_id: str, conversation: str, tasks: frozenset[str], projects: frozenset[str]
    ) -> MeterSums:
        return await self._see(
            lambda conn: receipt_search.load_meter(conn, workspace_id, conversation, tasks, projects)
        )

    async def load_spend(
        self, workspace_id: str, *, since_day: str, until_day: str, by: str
    ) -> Sequence[Mapping[str, Any]]:
        """Raises ValueError for a grouping that does not exist."""
        if by not in _SPEND_BY:
            raise ValueError(f"spend is summed by {', '.join(sorted(_SPEND_BY))}")
        if by == "conversation":
            month = since_day[:7]
            if (since_day, until_day) != month_days(month):
                raise ValueError("conversations are summed by whole months")
            found = await self.load_costly_traces(workspace_id, month, limit=-1)
            whole = await self.load_totals(workspace_id, since_day, until_day, ())
            return _with_untraced(whole, [
                _spend_row(by, t.conversation, t.calls, t.cost_nusd, t.charge_credits, t.unknown_calls) for t in found
            ])
        rows = await self.load_totals(workspace_id, since_day, until_day, (by,))
        return [_spent(by, row) for row in rows if by not in _TOUCHED or row.amounts.attempts]

    async def load_receipts_in_order(
        self, workspace_id: str, since_day: str, until_day: str, after: str | None, *, limit: int
    ) -> Sequence[Mapping[str, Any]]:
        since, until = parse_day(since_day), parse_day(until_day)
        return await self._see(
            lambda conn: receipt_search.find_in_order(conn, workspace_id, since, until, after, limit)
        )

    async def load_entries_in_order(self, workspace_id: str, after: int, *, limit: int) -> Sequence[Mapping[str, Any]]:
        return await self._see(lambda conn: statement.load_entries(conn, workspace_id, after, limit))

    async def load_audit_in_order(self, workspace_id: str, after: int, *, limit: int) -> Sequence[Mapping[str, Any]]:
        return await self._see(lambda conn: load_audit_from(conn, workspace_id, after, limit))

    async def load_statement(
        self, workspace_id: str, *, before: int | None, limit: int, kinds: Sequence[str] = ()
    ) -> Sequence[StatementLine]:
        return await self._see(lambda conn: statement.load_lines(conn, workspace_id, before, limit, kinds))


_TOUCHED = {"provider": "touched_provider", "model": "touched_model", "basis": "touched_basis"}


def _spent(by: str, row: TotalRow) -> dict[str, Any]:
    """A call's cost belongs to the attempts that caused it: a failover has spent at two providers, and counts twice."""
    a = row.amounts
    if by in _TOUCHED:
        return _spend_row(
            by, row.keys[by], getattr(a, _TOUCHED[by]), a.cost_nusd, a.charge_credits, a.unknown_attempts
        )
    return _spend_row(by, row.keys[by], a.calls, a.cost_nusd, a.charge_credits, a.unknown_calls)


def _with_untraced(whole: Sequence[TotalRow], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """And the calls that belong to no conversation."""
    a = whole[0].amounts if whole else Amounts()
    rest = [
        every - sum(row[name] for row in rows) for name, every in (
            ("calls", a.calls), ("cost_nusd", a.cost_nusd), ("charge_credits", a.charge_credits),
            ("unknown_cost_calls", a.unknown_calls),
        )
    ]
    return [*rows, _spend_row("conversation", None, *rest)] if rest[0] else rows


def _spend_row(
    by: str, key: str | None, calls: int, cost_nusd: int, charge_credits: int, unknown: int
) -> dict[str, Any]:
    return {by: key, "calls": calls, "cost_nusd": cost_nusd, "charge_credits": charge_credits,
            "unknown_cost_calls": unknown}
