"""The audit log: one chain of MACs per workspace and one for the deployment, written with the change itself.

A row that is edited, removed or reordered breaks its chain; a chain that is cut short disagrees with its head.
"""

import hashlib
import hmac
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ownkey.domain.phrases import as_plain
from ownkey.domain.records import Actor
from ownkey.store.connection import Connection

DEPLOYMENT = ""
"""The workspace id of rows that belong to no workspace."""

_HEAD = "SELECT n, mac FROM audit_head WHERE workspace_id = ?"
_INSERT = """
INSERT INTO audit(workspace_id, n, at_ms, actor_kind, actor_id, action, target, before, after, prev, mac)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_SET_HEAD = """
INSERT INTO audit_head(workspace_id, n, mac) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET n = excluded.n, mac = excluded.mac
"""
_FROM = """
SELECT n, at_ms, actor_kind, actor_id, action, target, before, after FROM audit
WHERE workspace_id = ? AND n > ? ORDER BY n LIMIT ?
"""
_LIST = """
SELECT seq, workspace_id, at_ms, actor_kind, actor_id, action, target, before, after FROM audit
WHERE workspace_id = ? ORDER BY n DESC LIMIT ?
"""


def compute_mac(key: bytes, prev: bytes, fields: Sequence[Any]) -> bytes:
    """HMAC-SHA256 over the previous MAC and the row's fields as a JSON array: no two rows encode alike."""
    return hmac.new(key, prev + msgspec.json.encode(fields), hashlib.sha256).digest()


def save_audit(
    conn: Connection, workspace_id: str | None, action: str, target: str, before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None, *, at_ms: int, actor: Actor,
) -> None:
    """Append a row to the workspace's chain (None: the deployment's). No value here may be secret."""
    chain = workspace_id or DEPLOYMENT
    n, prev = conn.execute(_HEAD, (chain,)).fetchone() or (0, b"")
    n += 1
    fields = (chain, n, at_ms, actor.kind, actor.id, action, target, _text(before), _text(after))
    mac = compute_mac(conn.audit_key, prev, fields)
    conn.execute(_INSERT, (*fields, prev, mac))
    conn.execute(_SET_HEAD, (chain, n, mac))


def _text(values: Mapping[str, Any] | None) -> str | None:
    return None if values is None else msgspec.json.encode(dict(values), order="sorted", enc_hook=as_plain).decode()


def load_audit_from(
    conn: sqlite3.Connection, workspace_id: str, after: int, limit: int
) -> Sequence[Mapping[str, Any]]:
    """Rows of a workspace's chain, the oldest first, behind the row `after`."""
    names = ("n", "at_ms", "actor_kind", "actor_id", "action", "target", "before", "after")
    return [
        dict(zip(names, row, strict=True)) | {
            name: None if value is None else msgspec.json.decode(value)
            for name, value in (("before", row[6]), ("after", row[7]))
        }
        for row in conn.execute(_FROM, (workspace_id, after, limit)).fetchall()
    ]


def load_audit(conn: sqlite3.Connection, workspace_id: str | None, limit: int) -> Sequence[Mapping[str, Any]]:
    rows = conn.execute(_LIST, (workspace_id or DEPLOYMENT, max(0, min(limit, 1_000)))).fetchall()
    return [
        {
            "seq": row[0], "workspace_id": row[1] or None, "at_ms": row[2], "actor_kind": row[3], "actor_id": row[4],
            "action": row[5], "target": row[6], "before": None if row[7] is None else msgspec.json.decode(row[7]),
            "after": None if row[8] is None else msgspec.json.decode(row[8]),
        }
        for row in rows
    ]
