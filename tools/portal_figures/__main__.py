"""`python -m tools.portal_figures`: fills a database with a million receipts in one workspace, times each query and
each whole page, and weighs what a first load brings.

`--folder` names one to keep: the second run takes its database as it is. Figures move with the machine; the contract is
150 ms at the 95th percentile. Widths and targets are the matrix's: `make screenshots` says what breaks them.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ownkey.domain.records import Finding
from ownkey.store.sqlite import SQLiteStore
from tools.portal_figures.fill import NOW_MS, WORKSPACE, fill, make_receipts, open_filled
from tools.portal_figures.measure import Bench, Row
from tools.portal_figures.whole import DATABASE, measure_pages, show_weights

MOST_MS = 150.0
SHOWN = 12


async def run(options: argparse.Namespace, path: Path) -> int:
    begun = time.perf_counter()
    store = await open_filled(path, options.receipts, options.days, options.projects, options.seed)
    print(f"{options.receipts:,} receipts in {time.perf_counter() - begun:.0f} s, {path.stat().st_size >> 20} MB")
    workspace = await store.load_workspace(WORKSPACE)
    assert workspace is not None
    bench = Bench(store, workspace, options.rounds)
    slow = 0
    for name, (title, measure) in {
        "pages": ("Activity, pages", bench.pages), "traces": ("Activity, by trace", bench.traces),
        "around": ("Activity, around", bench.around), "spend": ("Spend", bench.spend),
    }.items():
        if options.only in (None, name):
            slow += show(title, await measure())
    if options.only in (None, "verify"):
        await show_checks(store, options)
    await store.close()
    if options.only in (None, "whole"):
        rows, sizes = await measure_pages(path.parent, options.rounds)
        slow += show("Whole pages", rows) + show_weights(sizes)
    return 1 if slow else 0


async def show_checks(store: SQLiteStore, options: argparse.Namespace) -> None:
    """Both checks of the books: everything, and what 100 new calls touched."""
    async def timed(name: str, check: Callable[[int], Awaitable[Sequence[Finding]]]) -> None:
        begun, cpu = time.perf_counter(), time.process_time()
        findings = await check(NOW_MS)
        print(f"  {time.perf_counter() - begun:8.2f} s {time.process_time() - cpu:8.2f} s of CPU  {name}, "
              f"{len(findings)} findings")

    print("\nThe checks of the books")
    await timed("everything", store.verify)
    await fill(store, (
        replace(receipt, id=f"{time.time_ns():x}{receipt.id}") for receipt in make_receipts(
            100, 1, options.projects, options.seed)
    ))
    await timed("what 100 new calls touched", store.verify_recent)


def show(title: str, rows: list[Row]) -> int:
    """The slowest rows of a group, and how many pass the limit."""
    slow = [row for row in rows if row.p95_ms > MOST_MS]
    worst = sorted(rows, key=lambda row: -row.p95_ms)[:SHOWN]
    print(f"\n{title}: {len(rows)} queries, {len(slow)} over {MOST_MS:.0f} ms at p95; the slowest:")
    print(f"  {'p50 ms':>8} {'p95 ms':>8} {'most':>8} {'cpu':>8}  query")
    for row in worst:
        print(f"  {row.p50_ms:8.1f} {row.p95_ms:8.1f} {row.most_ms:8.1f} {row.cpu_ms:8.1f}  {row.name}")
    return len(slow)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.portal_figures")
    parser.add_argument("--receipts", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=92)
    parser.add_argument("--projects", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("pages", "traces", "around", "spend", "verify", "whole"))
    parser.add_argument("--folder", type=Path, help="one to keep the database in, or to take it from")
    options = parser.parse_args()
    if options.folder is not None:
        raise SystemExit(asyncio.run(run(options, options.folder / DATABASE)))
    with tempfile.TemporaryDirectory(prefix="ownkey-figures-") as folder:
        raise SystemExit(asyncio.run(run(options, Path(folder) / DATABASE)))


if __name__ == "__main__":
    main()
