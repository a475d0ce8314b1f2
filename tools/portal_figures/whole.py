"""Whole pages over the filled database, through the portal's own door: milliseconds on the server, bytes to load."""

import gzip
import math
import statistics
import time
from pathlib import Path

from tests.portal.visiting import Portal, Seen, open_portal

from ownkey.domain.records import ReceiptFilter
from tools.assets.__main__ import BUDGET_BYTES, weights
from tools.portal_figures.fill import NOW_MS, WORKSPACE
from tools.portal_figures.measure import Row

DATABASE = "ownkey.db"
"""The name under which a process finds its database in a folder."""

PAGES = (
    "/portal/credentials", "/portal/features", "/portal/spend", "/portal/spend?by=model", "/portal/spend?by=project",
    "/portal/activity", "/portal/activity?outcome=failed", "/portal/activity?group=trace", "/portal/projects",
    "/portal/plans", "/portal/plans/credits", "/portal/why", "/portal/exports",
)


async def measure_pages(folder: Path, rounds: int) -> tuple[list[Row], dict[str, int]]:
    """A row a page (and one for a receipt), and each page's compressed bytes."""
    async with open_portal(folder, "app-builder") as portal:
        portal.control.clock.at_ms = NOW_MS
        workspace = await portal.control.store.load_workspace(WORKSPACE)
        assert workspace is not None
        portal.workspace = workspace
        newest = await portal.control.store.load_receipts(WORKSPACE, ReceiptFilter(limit=1))
        addresses = (*PAGES, f"/portal/calls/{newest[0]['id']}")
        rows, sizes = [], {}
        for address in addresses:
            row, seen = await _measure(portal, address, rounds)
            rows.append(row)
            sizes[row.name] = len(gzip.compress(seen.html.encode(), 9))
        return rows, sizes


async def _measure(portal: Portal, address: str, rounds: int) -> tuple[Row, Seen]:
    walls, cpu = [], []
    seen = await portal.get(address)
    assert seen.status == 200, f"{address}: {seen.status} {seen.text[:200]}"
    for _ in range(rounds):
        began, worked = time.perf_counter(), time.process_time()
        seen = await portal.get(address)
        walls.append((time.perf_counter() - began) * 1_000)
        cpu.append((time.process_time() - worked) * 1_000)
    walls.sort()
    p95 = walls[min(len(walls) - 1, math.ceil(len(walls) * 0.95) - 1)]
    name = address if "/calls/" not in address else "/portal/calls/<receipt>"
    return Row(name, statistics.median(walls), p95, walls[-1], statistics.median(cpu)), seen


def show_weights(sizes: dict[str, int]) -> int:
    """What a first load brings, compressed; returns how many pages pass the budget."""
    assets = sum(size for name, size in weights().items() if not name.endswith("embed.js"))
    heaviest = max(sizes, key=lambda name: sizes[name])
    print(f"\nFirst load, compressed: {assets:,} bytes of style and scripts, at most {sizes[heaviest]:,} of a page "
          f"({heaviest}): {assets + sizes[heaviest]:,} of {BUDGET_BYTES:,}")
    return sum(assets + size > BUDGET_BYTES for size in sizes.values())
