"""Exports as streams of CSV: calls by any filter of Activity, a month's spend, the credits statement. Reads only.

Rows are read a page at a time and sent on, so that a million take no more memory than a hundred. What was written after
the first row was read is not in the file.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ownkey.control import ports
from ownkey.control.csv_rows import (
    AMOUNT_COLUMNS,
    RECEIPT_COLUMNS,
    STATEMENT_COLUMNS,
    receipt_cells,
    statement_cells,
    to_line,
    total_cells,
    utc_time,
)
from ownkey.control.ports import Clock, ReceiptFilter
from ownkey.control.receipts import to_receipt
from ownkey.control.totals import TotalsControl
from ownkey.domain.records import UNFILTERED
from ownkey.domain.statement import StatementLine
from ownkey.domain.workspace import WorkspaceState

PAGE = 500
STREAM_MOST = 10_000
"""Up to this many rows are streamed at once; more are work (`control.work`)."""

CSV_TYPE = "text/csv; charset=utf-8; header=present"


class _Store(ports.Receipts, ports.Totals, ports.ActivityRows, ports.Statements, Protocol):
    pass


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some lines of a file. `rows` counts the records in it (a header is none), `last` is the receipt id of the last,
    from which the rest can be read later."""

    text: str
    rows: int
    last: str | None


class ExportControl:
    def __init__(self, store: _Store, totals: TotalsControl, clock: Clock) -> None:
        self._store = store
        self._totals = totals
        self._clock = clock

    async def count(self, workspace: WorkspaceState, query: ReceiptFilter) -> int:
        """How many rows the file of a filter has now."""
        if query.receipt is not None:
            return len(await self._store.load_receipts(workspace.id, query))
        return (await self._store.load_sums(workspace.id, replace(query, before=None))).calls

    def file_name(self, workspace: WorkspaceState, what: str) -> str:
        """Such as ownkey-receipts-acme-2026-11-22.csv: letters, digits, - and _ only."""
        day = utc_time(self._clock.now_ms())[:10]
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in workspace.external_id)[:60]
        return f"ownkey-{what}-{safe}-{day}.csv"

    async def receipts(
        self, workspace: WorkspaceState, query: ReceiptFilter, after: str | None = None
    ) -> AsyncIterator[Chunk]:
        """Newest first. `after` continues behind a receipt: then there is no header."""
        if after is None:
            yield Chunk(to_line(RECEIPT_COLUMNS), 0, None)
        before = after
        while True:
            found = await self._store.load_receipts(workspace.id, replace(query, before=before, limit=PAGE))
            if found:
                before = str(found[-1]["id"])
                text = "".join(to_line(receipt_cells(to_receipt(receipt))) for receipt in found)
                yield Chunk(text, len(found), before)
            if len(found) < PAGE or query.receipt is not None:
                return

    async def spend(
        self, workspace: WorkspaceState, by: str, month: str | None = None, where: ReceiptFilter = UNFILTERED
    ) -> str:
        """The table of a month, as the page shows it, its columns exact. Raises Problem."""
        table = await self._totals.spend(workspace, by, month, where)
        lines = [to_line(("month", by, *AMOUNT_COLUMNS))]
        lines += [to_line((table.period.key, *total_cells((by,), row))) for row in table.rows]
        return "".join(lines)

    async def statement(self, workspace: WorkspaceState, kinds: Sequence[str] = ()) -> AsyncIterator[str]:
        """Every movement of credits, or those of some kinds of entry, newest first."""
        yield to_line(STATEMENT_COLUMNS)
        before: int | None = None
        while True:
            found: Sequence[StatementLine] = await self._store.load_statement(
                workspace.id, before=before, limit=PAGE, kinds=kinds
            )
            if found:
                before = found[-1].entry
                yield "".join(to_line(statement_cells(line)) for line in found)
            if len(found) < PAGE:
                return
