"""How visits to the pages end before their time: in the transaction that takes their ground away."""

from typing import Final

from ownkey.domain.portal import EndReason
from ownkey.domain.records import Actor
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection

_END_ONE = """
UPDATE portal_session SET ended_at_ms = :at, end_reason = :reason
WHERE workspace_id = :workspace AND id = :one AND ended_at_ms IS NULL AND expires_at_ms > :at RETURNING id
"""
# An operator who looks is no member, whatever their ids are.
_END_MEMBERS = """
UPDATE portal_session SET ended_at_ms = :at, end_reason = :reason
WHERE workspace_id = :workspace AND member_id = :one AND kind = 'member' AND ended_at_ms IS NULL
  AND expires_at_ms > :at RETURNING id
"""
_END_ALL = """
UPDATE portal_session SET ended_at_ms = :at, end_reason = :reason
WHERE workspace_id = :workspace AND ended_at_ms IS NULL AND expires_at_ms > :at RETURNING id
"""
_NAMED: Final = 50
"""More ids than this are only counted in the audit log."""


def end_session(
    conn: Connection, workspace_id: str, session_id: str, reason: EndReason, *, at_ms: int, actor: Actor
) -> int:
    return _end(conn, _END_ONE, workspace_id, session_id, reason, at_ms, actor)


def end_member_sessions(
    conn: Connection, workspace_id: str, member_id: str, reason: EndReason, *, at_ms: int, actor: Actor
) -> int:
    return _end(conn, _END_MEMBERS, workspace_id, member_id, reason, at_ms, actor)


def end_workspace_sessions(conn: Connection, workspace_id: str, reason: EndReason, *, at_ms: int, actor: Actor) -> int:
    return _end(conn, _END_ALL, workspace_id, workspace_id, reason, at_ms, actor)


def _end(
    conn: Connection, sql: str, workspace_id: str, target: str, reason: EndReason, at_ms: int, actor: Actor
) -> int:
    """How many ended; links that nobody has opened yet count too."""
    values = {"workspace": workspace_id, "one": target, "reason": reason, "at": at_ms}
    ended = sorted(row[0] for row in conn.execute(sql, values).fetchall())
    if ended:
        save_audit(
            conn, workspace_id, "portal.ended", target, None,
            {"reason": reason, "count": len(ended), "sessions": ended[:_NAMED]}, at_ms=at_ms, actor=actor,
        )
    return len(ended)
