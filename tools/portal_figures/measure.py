"""What is measured: each query by name, through the functions that pages call, many times in a row."""

import math
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from ownkey.control.search import ActivityControl
from ownkey.control.totals import TotalsControl
from ownkey.domain.records import ReceiptFilter
from ownkey.domain.workspace import WorkspaceState
from ownkey.store.sqlite import SQLiteStore
from tools.portal_figures.fill import NOW_MS, RARE_MODEL, RARE_PROJECT, WORKSPACE

PAGE = 50
DEEP = (100, 5_000, 200_000)
"""How many pages' rows before a deep page begins: the second, the hundredth, the four thousandth."""

Query = Callable[[], Awaitable[object]]


class Clock:
    def now_ms(self) -> int:
        return NOW_MS

    def monotonic(self) -> float:
        return time.monotonic()

    def new_id(self, prefix: str) -> str:
        return prefix


@dataclass(frozen=True)
class Row:
    """Wall times, and the median of the processor's time in this process: what a busy machine does not stretch."""

    name: str
    p50_ms: float
    p95_ms: float
    most_ms: float
    cpu_ms: float


SINGLE = {
    "no filter": ReceiptFilter(),
    "task common": ReceiptFilter(task="chat"),
    "task rare": ReceiptFilter(task="key_test"),
    "outcome ok": ReceiptFilter(outcome="ok"),
    "outcome cancelled": ReceiptFilter(outcome="cancelled"),
    "outcome refused": ReceiptFilter(outcome="refused"),
    "funding credits": ReceiptFilter(funding="credits"),
    "provider common": ReceiptFilter(provider="openrouter"),
    "provider rare": ReceiptFilter(provider="google"),
    "model common": ReceiptFilter(model="claude-haiku-4-5"),
    "model rare": ReceiptFilter(model=RARE_MODEL),
    "model unknown": ReceiptFilter(model="nobody/nothing"),
    "project common": ReceiptFilter(project="proj_0000"),
    "project rare": ReceiptFilter(project=RARE_PROJECT),
    "credential common": ReceiptFilter(credential="cred_openrouter"),
    "credential rare": ReceiptFilter(credential="cred_google"),
    "code": ReceiptFilter(code="content_refused"),
    "one day": ReceiptFilter(since_day="2026-11-10", until_day="2026-11-10"),
    "a month": ReceiptFilter(since_day="2026-10-01", until_day="2026-10-31"),
    "trace": ReceiptFilter(conversation="conv_00007000"),
}
PAIRED = (
    "task common", "task rare", "outcome ok", "outcome cancelled", "outcome refused", "funding credits",
    "provider common", "provider rare", "model common", "model rare", "project common", "project rare",
    "credential rare", "code", "one day", "a month",
)


def pairs() -> dict[str, ReceiptFilter]:
    """Every pair of filters on different fields."""
    found = {}
    for n, first in enumerate(PAIRED):
        for second in PAIRED[n + 1:]:
            one, two = SINGLE[first], SINGLE[second]
            changed = {
                name: getattr(two, name) for name in two.__dataclass_fields__
                if getattr(two, name) != getattr(ReceiptFilter(), name)
            }
            if all(getattr(one, name) is None for name in changed):
                found[f"{first} + {second}"] = replace(one, **changed)
    return found


class Bench:
    """`rounds` runs of each query; times are those of the control function, the wait for its reader included."""

    def __init__(self, store: SQLiteStore, workspace: WorkspaceState, rounds: int) -> None:
        self.activity = ActivityControl(store, Clock())
        self.totals = TotalsControl(store, Clock())
        self.store = store
        self.workspace = workspace
        self.rounds = rounds

    async def time(self, name: str, query: Query) -> Row:
        took, used = [], []
        for _ in range(self.rounds):
            begun, worked = time.perf_counter(), time.process_time()
            await query()
            took.append((time.perf_counter() - begun) * 1_000)
            used.append((time.process_time() - worked) * 1_000)
        took.sort()
        nearest = math.ceil(len(took) * 0.95) - 1
        return Row(name, statistics.median(took), took[nearest], took[-1], statistics.median(used))

    async def receipt_after(self, rows: int) -> str | None:
        """The id of a receipt that stands about so many rows back."""
        ids = await self.store._see(lambda conn: conn.execute(
            "SELECT r.id FROM activity a JOIN receipt r ON r.seq = a.seq WHERE a.workspace_id = ? "
            "ORDER BY a.place DESC LIMIT 1 OFFSET ?", (WORKSPACE, rows),
        ).fetchone())
        return None if ids is None else ids[0]

    async def pages(self) -> list[Row]:
        ws, activity = self.workspace, self.activity
        rows = []
        for name, query in {**SINGLE, **pairs()}.items():
            rows.append(await self.time(f"page 1, {name}", lambda q=query: activity.page(ws, q, limit=PAGE)))
        deep = [(back, await self.receipt_after(back)) for back in DEEP]
        for back, before in deep:
            for name, query in {**SINGLE, **pairs()}.items():
                rows.append(await self.time(
                    f"page after {back}, {name}", lambda q=query, b=before: activity.page(ws, q, b, limit=PAGE)
                ))
        return rows

    async def traces(self) -> list[Row]:
        ws, activity = self.workspace, self.activity
        rows = []
        for name, query in {**SINGLE, **pairs()}.items():
            rows.append(await self.time(f"by trace, {name}", lambda q=query: activity.traces(ws, q)))
        for name, query in SINGLE.items():
            cursor = None
            for _ in range(20):
                cursor = (await activity.traces(ws, query, cursor)).next_cursor or cursor
            rows.append(await self.time(
                f"by trace 20 pages on, {name}", lambda q=query, c=cursor: activity.traces(ws, q, c)
            ))
        return rows

    async def around(self) -> list[Row]:
        """What stands around the rows: sums, histogram, new calls, choices."""
        ws, activity = self.workspace, self.activity
        rows = []
        before = await self.receipt_after(2_000)
        for name, query in SINGLE.items():
            rows.append(await self.time(f"sums, {name}", lambda q=query: activity.sums(ws, q)))
            rows.append(await self.time(f"histogram, {name}", lambda q=query: activity.histogram(ws, q)))
            rows.append(await self.time(
                f"new calls, {name}", lambda q=query: activity.new_calls(ws, q, before or "")
            ))
        rows.append(await self.time("choices", lambda: activity.choices(ws)))
        return rows

    async def spend(self) -> list[Row]:
        ws, totals = self.workspace, self.totals
        rows = [await self.time("spend chart", lambda: totals.chart(ws)),
                await self.time("spend chart, last month", lambda: totals.chart(ws, "2026-10"))]
        for by in ("day", "task", "model", "provider", "project", "funding", "credential"):
            rows.append(await self.time(f"spend by {by}", lambda b=by: totals.spend(ws, b, "2026-10")))
        rows.append(await self.time(
            "spend by model, one task", lambda: totals.spend(ws, "model", "2026-10", ReceiptFilter(task="chat"))
        ))
        rows.append(await self.time("spend by task, one project", lambda: totals.spend(
            ws, "task", "2026-10", ReceiptFilter(project="proj_0003"))))
        rows.append(await self.time("all months", lambda: totals.months(ws)))
        rows.append(await self.time("costliest conversations", lambda: totals.costliest(ws, "2026-10")))
        rows.append(await self.time("tasks with last call", lambda: totals.by_task(ws)))
        rows.append(await self.time("projects with last call", lambda: totals.by_project(ws)))
        rows.append(await self.time("credentials with last use", lambda: totals.by_credential(ws)))
        return rows
