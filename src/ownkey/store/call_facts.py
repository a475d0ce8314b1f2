"""Reads around one call: changes of rules in the audit log, the holds of a running call, a price version's author."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ownkey.domain.call_facts import Authored, OpenHold, RuleChange, RunningCall
from ownkey.domain.records import Actor
from ownkey.store.core import Core

LOOK_BACK = 20_000
"""How many of the newest rows of the log are looked through: whoever changes rules more often than that finds the
oldest changes in the log itself."""

_CHANGES = """
SELECT at_ms, actor_kind, actor_id, action, before, after FROM audit
WHERE workspace_id = :workspace
  AND n > (SELECT coalesce(max(n), 0) - :look_back FROM audit_head WHERE workspace_id = :workspace)
  AND action IN ('workspace.created', 'workspace.changed', 'cap.changed', 'addon.changed')
ORDER BY n
"""
_HOLDS = """
SELECT attempt, funding, bound_nusd, bound_credits, created_at_ms, state, context FROM hold
WHERE call_id = ? AND workspace_id = ? ORDER BY attempt
"""
_AUTHOR = "SELECT created_by, created_at_ms FROM price_version WHERE id = ?"


class CallFactsPart(Core):
    """Satisfies `control.call_facts.FactBook`."""

    async def load_rule_changes(self, workspace_id: str) -> Sequence[RuleChange]:
        """Oldest first."""
        return await self._read(lambda conn: _load_changes(conn, workspace_id))

    async def load_running(self, workspace_id: str, call_id: str) -> RunningCall | None:
        """None: there is no such call here, or it has ended."""
        return await self._read(lambda conn: _load_running(conn, workspace_id, call_id))

    async def load_price_author(self, version: int) -> Authored | None:
        return await self._read(lambda conn: _load_author(conn, version))


def _load_changes(conn: sqlite3.Connection, workspace_id: str) -> list[RuleChange]:
    rows = conn.execute(_CHANGES, {"workspace": workspace_id, "look_back": LOOK_BACK}).fetchall()
    return [
        RuleChange(at_ms, Actor(kind, ident), action, _fields(before), _fields(after))
        for at_ms, kind, ident, action, before, after in rows
    ]


def _fields(text: str | None) -> Mapping[str, Any]:
    return {} if text is None else msgspec.json.decode(text)


def _load_running(conn: sqlite3.Connection, workspace_id: str, call_id: str) -> RunningCall | None:
    rows = conn.execute(_HOLDS, (call_id, workspace_id)).fetchall()
    # Between two attempts no hold is open, but the first one keeps what a receipt would need.
    if not any(row[5] == "held" or row[6] is not None for row in rows):
        return None
    known = _fields(next((row[6] for row in rows if row[6]), None))
    return RunningCall(
        id=call_id, at_ms=known.get("at_ms", rows[0][4]), task=known.get("task") or "",
        requested_model=known.get("requested_model") or "", project=known.get("project") or "",
        conversation=known.get("conversation") or "", attempts=len(rows),
        holds=tuple(OpenHold(*row[:5]) for row in rows if row[5] == "held"),
    )


def _load_author(conn: sqlite3.Connection, version: int) -> Authored | None:
    found = conn.execute(_AUTHOR, (version,)).fetchone()
    return None if found is None else Authored(*found)
