"""The cap's period rows: created by the first hold, paused and resumed by figures, alerted exactly once.

Runs inside the writer's transaction: what these functions read cannot change before they write.
"""

import sqlite3
from dataclasses import replace
from typing import Any

from ownkey.domain.booking import CapFigures
from ownkey.domain.caps import PauseReason, Period, PeriodRow, due_thresholds, is_reached, plan_period
from ownkey.domain.notices import Kind
from ownkey.store.connection import Connection
from ownkey.store.notices import announce, utc_text

_NEWEST = """
SELECT id, period_key, starts_at_ms, ends_at_ms, timezone FROM cap_period
WHERE workspace_id = ? ORDER BY period_key DESC LIMIT 1
"""
_CAP_IN_FORCE = """
SELECT version, cap_nusd, threshold FROM cap_version WHERE workspace_id = ? ORDER BY version DESC LIMIT 1
"""
_CREATE = """
INSERT INTO cap_period(workspace_id, period_key, starts_at_ms, ends_at_ms, timezone, cap_version, cap_nusd,
  threshold, state, pause_reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_LOAD = """
SELECT id, workspace_id, period_key, starts_at_ms, ends_at_ms, timezone, cap_version, cap_nusd, threshold,
  spent_nusd, held_nusd, leased_nusd, overage_nusd, pause_reason
FROM cap_period WHERE id = ? AND workspace_id = ?
"""
_SET_PAUSE = "UPDATE cap_period SET state = ?, pause_reason = ? WHERE id = ? AND workspace_id = ?"
_SET_CAP = """
UPDATE cap_period SET cap_version = ?, cap_nusd = ?, threshold = ?, state = ?, pause_reason = ?
WHERE id = ? AND workspace_id = ?
"""
PAUSED_AND_OVER = """
SELECT p.workspace_id, w.timezone FROM cap_period p JOIN workspace w ON w.id = p.workspace_id
WHERE p.state = 'paused' AND p.ends_at_ms <= ? AND w.status <> 'deleted' AND NOT EXISTS (
  SELECT 1 FROM cap_period n WHERE n.workspace_id = p.workspace_id AND n.period_key > p.period_key)
ORDER BY p.ends_at_ms LIMIT ?
"""
_INSERT_ALERT = """
INSERT INTO alert(workspace_id, period_id, cap_version, threshold, state, cap_nusd, spent_nusd, reason, at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""

_MEMORY_LIMIT = 100_000


def row_of(values: tuple[Any, ...]) -> PeriodRow:
    """A PeriodRow from the columns that `_LOAD` names, in its order."""
    (row_id, workspace_id, key, starts, ends, zone, version, cap, threshold, spent, held, leased, overage,
     reason) = values
    return PeriodRow(
        row_id, workspace_id, Period(key, starts, ends, zone), version, cap, threshold, spent, held, leased,
        overage, None if reason is None else PauseReason(reason),
    )


def figures_of(row: PeriodRow) -> CapFigures:
    return CapFigures(
        row.period.key, row.cap_nusd, row.spent_nusd, row.held_nusd + row.leased_nusd, row.period.ends_at_ms,
        row.paused is not None,
    )


def load_newest(conn: sqlite3.Connection, workspace_id: str) -> tuple[int, Period] | None:
    """The workspace's newest period and its row id."""
    found = conn.execute(_NEWEST, (workspace_id,)).fetchone()
    return None if found is None else (found[0], Period(*found[1:]))


def load_cap_in_force(conn: sqlite3.Connection, workspace_id: str) -> tuple[int, int | None, int]:
    """(version, cap_nusd, threshold); every workspace has at least version 1."""
    found: tuple[int, int | None, int] | None = conn.execute(_CAP_IN_FORCE, (workspace_id,)).fetchone()
    return (0, None, 80) if found is None else found


def load_period(conn: sqlite3.Connection, workspace_id: str, period_id: int) -> PeriodRow:
    return row_of(conn.execute(_LOAD, (period_id, workspace_id)).fetchone())


def ensure_period(conn: Connection, workspace_id: str, at_ms: int, timezone: str) -> int:
    """The row id of the period that contains `at_ms`; created with the cap in force if this is its first use."""
    known = conn.periods.get(workspace_id)
    if known is not None and at_ms < known[1]:
        return known[0]
    newest = load_newest(conn, workspace_id)
    previous = None if newest is None else newest[1]
    period = plan_period(at_ms, timezone, previous)
    if newest is not None and period is previous:
        period_id = newest[0]
    else:
        period_id = _create_period(conn, workspace_id, period, at_ms)
        if newest is not None:
            _resume_with(conn, workspace_id, newest[0], period_id, at_ms)
    if len(conn.periods) >= _MEMORY_LIMIT:
        conn.periods.clear()
    conn.periods[workspace_id] = (period_id, period.ends_at_ms)
    return period_id


def _create_period(conn: Connection, workspace_id: str, period: Period, at_ms: int) -> int:
    version, cap_nusd, threshold = load_cap_in_force(conn, workspace_id)
    paused = PauseReason.REACHED if is_reached(cap_nusd, 0) else None
    period_id = conn.execute(_CREATE, (
        workspace_id, period.key, period.starts_at_ms, period.ends_at_ms, period.timezone, version, cap_nusd,
        threshold, "active" if paused is None else "paused", paused,
    )).lastrowid
    assert period_id is not None
    if paused is not None:
        # A cap of 0 is a standing wish, known when it was saved: a new month with it is no news.
        save_alerts(conn, load_period(conn, workspace_id, period_id), at_ms, silent=frozenset({threshold, 100}))
    return period_id


def pause(conn: Connection, row: PeriodRow, reason: PauseReason) -> PeriodRow:
    conn.execute(_SET_PAUSE, ("paused", reason, row.id, row.workspace_id))
    return replace(row, paused=reason)


def resume(conn: Connection, row: PeriodRow) -> PeriodRow:
    conn.execute(_SET_PAUSE, ("active", None, row.id, row.workspace_id))
    return replace(row, paused=None)


def set_cap(conn: Connection, row: PeriodRow, version: int, cap_nusd: int | None, threshold: int) -> PeriodRow:
    """Put a new cap version into a period and evaluate it at once: above spent is active, else paused."""
    reason = PauseReason.REACHED if is_reached(cap_nusd, row.spent_nusd) else None
    conn.execute(_SET_CAP, (
        version, cap_nusd, threshold, "active" if reason is None else "paused", reason, row.id, row.workspace_id,
    ))
    return replace(row, cap_version=version, cap_nusd=cap_nusd, threshold=threshold, paused=reason)


def after_spend(conn: Connection, row: PeriodRow, at_ms: int, *, call: str = "") -> PeriodRow:
    """Pause if the cap is reached now, and write the alerts that are due. `call` is the one that spent, "" for none."""
    if row.paused is None and is_reached(row.cap_nusd, row.spent_nusd):
        row = pause(conn, row, PauseReason.REACHED)
    save_alerts(conn, row, at_ms, call=call)
    return row


def save_alerts(
    conn: Connection, row: PeriodRow, at_ms: int, *, silent: frozenset[int] = frozenset(), call: str = ""
) -> None:
    """Each due threshold once per (workspace, period, cap version), its messages in the same transaction. `call` is
    the one that set them off, "" for none."""
    if at_ms >= row.period.ends_at_ms:
        return
    for threshold in due_thresholds(row):
        key = (row.id, row.cap_version, threshold)
        if key in conn.alerted:
            continue
        # A cap of 0 is no AI: that it is reached is said, and no percentage of nothing.
        quiet = threshold in silent or (row.cap_nusd == 0 and threshold != 100)
        added = conn.execute(_INSERT_ALERT, (
            row.workspace_id, row.id, row.cap_version, threshold, "silent" if quiet else "due", row.cap_nusd,
            row.spent_nusd, row.paused, at_ms,
        )).rowcount
        if added and not quiet:
            _announce(conn, row, threshold, at_ms, call)
        if len(conn.alerted) >= _MEMORY_LIMIT:
            conn.alerted.clear()
        conn.alerted.add(key)


def _announce(conn: Connection, row: PeriodRow, threshold: int, at_ms: int, call: str) -> None:
    payload = {
        "workspace_id": row.workspace_id, "period": row.period.key, "cap_version": row.cap_version,
        "threshold": threshold, "cap_nusd": str(row.cap_nusd), "spent_nusd": str(row.spent_nusd),
        "held_nusd": str(row.held_nusd + row.leased_nusd), "reason": row.paused,
        "resets_at": utc_text(row.period.ends_at_ms), "at": utc_text(at_ms), **({"call": call} if call else {}),
    }
    kind = Kind.AI_PAUSED if threshold == 100 else Kind.SPEND_THRESHOLD
    announce(
        conn, row.workspace_id, f"alert:{row.id}:{row.cap_version}:{threshold}", kind, payload, at_ms, group="spend"
    )


def _resume_with(conn: Connection, workspace_id: str, old_id: int, new_id: int, at_ms: int) -> None:
    """A new month began: where the old one ended paused and this one is not, AI is back."""
    if load_period(conn, workspace_id, old_id).paused is None:
        return
    row = load_period(conn, workspace_id, new_id)
    if row.paused is None:
        announce_resumed(conn, row, "new_period", at_ms)


def announce_resumed(conn: Connection, row: PeriodRow, cause: str, at_ms: int) -> None:
    """AI goes on: `cause` is "cap_changed", "new_period" or "corrected". Once per period and cap version."""
    if at_ms >= row.period.ends_at_ms:
        return
    announce(conn, row.workspace_id, f"resumed:{row.id}:{row.cap_version}", Kind.AI_RESUMED, {
        "workspace_id": row.workspace_id, "period": row.period.key, "cap_version": row.cap_version,
        "cap_nusd": None if row.cap_nusd is None else str(row.cap_nusd), "spent_nusd": str(row.spent_nusd),
        "cause": cause, "at": utc_text(at_ms),
    }, at_ms, group="spend")


def roll_periods(conn: Connection, at_ms: int, limit: int) -> int:
    """A job: begin the month of workspaces that are paused in one that has ended, so that they hear of it in time.

    Nothing else needs it: a call after the month's end begins the new one by itself. Returns the months begun.
    """
    found = conn.execute(PAUSED_AND_OVER, (at_ms, limit)).fetchall()
    for workspace_id, timezone in found:
        ensure_period(conn, workspace_id, at_ms, timezone)
    return len(found)
