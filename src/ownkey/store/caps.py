"""Spend caps as settings: every save is a new version, put in force and evaluated in the same transaction."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from ownkey.domain.caps import PeriodRow, due_thresholds, is_reached, plan_period
from ownkey.domain.errors import NotFound
from ownkey.domain.money import check_nusd
from ownkey.domain.records import Actor, CapSetting
from ownkey.store.audit import load_audit, save_audit
from ownkey.store.connection import Connection, snapshot
from ownkey.store.core import Core
from ownkey.store.periods import (
    PAUSED_AND_OVER,
    announce_resumed,
    ensure_period,
    load_cap_in_force,
    load_newest,
    load_period,
    roll_periods,
    save_alerts,
    set_cap,
)

_INSERT = """
INSERT INTO cap_version(workspace_id, version, cap_nusd, threshold, actor, at_ms, period_key, used_nusd)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_ZONE = "SELECT timezone FROM workspace WHERE id = ?"
_ALERTS = """
SELECT p.period_key, a.cap_version, a.threshold, a.state, a.cap_nusd, a.spent_nusd, a.reason, a.at_ms
FROM alert a JOIN cap_period p ON p.id = a.period_id AND p.workspace_id = a.workspace_id
WHERE a.workspace_id = ? ORDER BY a.period_id, a.cap_version, a.threshold
"""


def _setting(row: PeriodRow) -> CapSetting:
    period = row.period
    return CapSetting(
        row.workspace_id, row.cap_version, row.cap_nusd, row.threshold, period.key, period.starts_at_ms,
        period.ends_at_ms, period.timezone, row.spent_nusd, row.held_nusd + row.leased_nusd, row.overage_nusd,
        "active" if row.paused is None else "paused", row.paused,
    )


def save_cap(
    conn: Connection, workspace_id: str, cap_nusd: int | None, threshold: int, at_ms: int, actor: Actor
) -> CapSetting | NotFound:
    """The alert that was due under the old version stays silent under the new one; a newly due one is sent."""
    found = conn.execute(_ZONE, (workspace_id,)).fetchone()
    if found is None:
        return NotFound("no such workspace")
    row = load_period(conn, workspace_id, ensure_period(conn, workspace_id, at_ms, found[0]))
    version, old_cap, old_threshold = load_cap_in_force(conn, workspace_id)
    # What earlier versions admitted stays admitted: verify needs the figure to hold the new version to its own.
    used_nusd = row.spent_nusd + row.held_nusd + row.leased_nusd
    conn.execute(_INSERT, (
        workspace_id, version + 1, cap_nusd, threshold, f"{actor.kind}:{actor.id}", at_ms, row.period.key, used_nusd,
    ))
    met_before, was_paused = frozenset(due_thresholds(row)), row.paused is not None
    row = set_cap(conn, row, version + 1, cap_nusd, threshold)
    save_alerts(conn, row, at_ms, silent=met_before)
    if was_paused and row.paused is None:
        announce_resumed(conn, row, "cap_changed", at_ms)
    save_audit(
        conn, workspace_id, "cap.changed", row.period.key, {"cap_nusd": old_cap, "threshold": old_threshold},
        {"cap_nusd": cap_nusd, "threshold": threshold}, at_ms=at_ms, actor=actor,
    )
    return _setting(row)


def read_cap(conn: sqlite3.Connection, workspace_id: str, at_ms: int) -> CapSetting | None:
    found = conn.execute(_ZONE, (workspace_id,)).fetchone()
    if found is None:
        return None
    newest = load_newest(conn, workspace_id)
    previous = None if newest is None else newest[1]
    period = plan_period(at_ms, found[0], previous)
    if newest is not None and period is previous:
        return _setting(load_period(conn, workspace_id, newest[0]))
    version, cap_nusd, threshold = load_cap_in_force(conn, workspace_id)
    paused = is_reached(cap_nusd, 0)
    return CapSetting(
        workspace_id, version, cap_nusd, threshold, period.key, period.starts_at_ms, period.ends_at_ms,
        period.timezone, 0, 0, 0, "paused" if paused else "active", "reached" if paused else None,
    )


class CapsPart(Core):
    """Satisfies `control.ports.Caps`."""

    async def save_cap(
        self, workspace_id: str, cap_nusd: int | None, threshold: int, *, at_ms: int, actor: Actor
    ) -> CapSetting:
        """Raises AmountError for a cap that does not fit, ValueError for a threshold outside 1 to 100."""
        if cap_nusd is not None:
            check_nusd(cap_nusd)
        if not 1 <= threshold <= 100:
            raise ValueError("the threshold is a percentage from 1 to 100")
        saved = await self._write(
            lambda conn: save_cap(conn, workspace_id, cap_nusd, threshold, at_ms, actor), workspace_id
        )
        self._rooms.wake(workspace_id, everyone=True)
        return saved

    async def load_cap(self, workspace_id: str, at_ms: int) -> CapSetting | None:
        with snapshot(self._near):
            return read_cap(self._near, workspace_id, at_ms)

    async def load_alerts(self, workspace_id: str) -> Sequence[Mapping[str, Any]]:
        names = ("period", "cap_version", "threshold", "state", "cap_nusd", "spent_nusd", "reason", "at_ms")
        rows = await self._read(lambda conn: conn.execute(_ALERTS, (workspace_id,)).fetchall())
        return [dict(zip(names, row, strict=True)) for row in rows]

    async def roll_periods(self, at_ms: int, *, limit: int = 500) -> int:
        """A job: a month that ended paused is followed by the next; returns the months begun."""
        if not self._near.execute(PAUSED_AND_OVER, (at_ms, 1)).fetchone():
            return 0
        return await self._write(lambda conn: roll_periods(conn, at_ms, limit))

    async def load_audit(self, workspace_id: str | None, *, limit: int) -> Sequence[Mapping[str, Any]]:
        return await self._read(lambda conn: load_audit(conn, workspace_id, limit))
