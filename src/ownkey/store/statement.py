"""The credits statement as rows: written with each ledger entry, so that any page knows its balance at once."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from ownkey.domain.ledger import LedgerEntry
from ownkey.domain.statement import WHAT, StatementLine, net_credits

_BALANCE = """
SELECT balance FROM statement_line WHERE workspace_id = ? ORDER BY entry_id DESC LIMIT 1
"""
_ADD = "INSERT INTO statement_line(workspace_id, entry_id, credits, balance) VALUES (?, ?, ?, ?)"
_LINES = """
SELECT l.entry_id, e.at_ms, e.kind, l.credits, l.balance, h.call_id, e.actor
FROM statement_line l JOIN ledger_entry e ON e.id = l.entry_id AND e.workspace_id = l.workspace_id
LEFT JOIN hold h ON h.id = e.hold_id AND h.workspace_id = e.workspace_id
WHERE l.workspace_id = ? AND l.entry_id < ? ORDER BY l.entry_id DESC LIMIT ?
"""
_LINES_OF_KIND = """
SELECT l.entry_id, e.at_ms, e.kind, l.credits, l.balance, h.call_id, e.actor
FROM ledger_entry e JOIN statement_line l ON l.entry_id = e.id AND l.workspace_id = e.workspace_id
LEFT JOIN hold h ON h.id = e.hold_id AND h.workspace_id = e.workspace_id
WHERE e.workspace_id = ? AND e.kind = ? AND e.id < ? ORDER BY e.id DESC LIMIT ?
"""
_ENTRIES = """
SELECT e.id, e.idem_key, e.kind, e.hold_id, e.actor, e.at_ms, l.credits, l.balance FROM ledger_entry e
JOIN statement_line l ON l.entry_id = e.id AND l.workspace_id = e.workspace_id
WHERE e.workspace_id = ? AND e.id > ? ORDER BY e.id LIMIT ?
"""
_POSTINGS = """
SELECT source, destination, amount_credits FROM posting WHERE entry_id = ? AND workspace_id = ? ORDER BY n
"""
_END = (1 << 63) - 1


def save_line(conn: sqlite3.Connection, workspace_id: str, entry_id: int, entry: LedgerEntry) -> None:
    """Part of the transaction that writes the entry."""
    before = conn.execute(_BALANCE, (workspace_id,)).fetchone()
    credits = net_credits(entry.postings)
    conn.execute(_ADD, (workspace_id, entry_id, credits, credits + (0 if before is None else before[0])))


def load_lines(
    conn: sqlite3.Connection, workspace_id: str, before: int | None, limit: int, kinds: Sequence[str] = ()
) -> list[StatementLine]:
    """One page, newest first; `before` is an entry, exclusive. `kinds` empty: all of them."""
    end, most = _END if before is None else before, max(0, min(limit, 1_000))
    if kinds:
        found = [row for kind in kinds for row in conn.execute(_LINES_OF_KIND, (workspace_id, kind, end, most))]
        rows = sorted(found, key=lambda row: row[0], reverse=True)[:most]
    else:
        rows = conn.execute(_LINES, (workspace_id, end, most)).fetchall()
    return [
        StatementLine(entry, at_ms, kind, WHAT.get(kind, kind), credits, balance, call, actor)
        for entry, at_ms, kind, credits, balance, call, actor in rows
    ]


def load_entries(conn: sqlite3.Connection, workspace_id: str, after: int, limit: int) -> list[Mapping[str, Any]]:
    """Whole entries, the oldest first; `after` is an entry, exclusive."""
    names = ("id", "idem_key", "kind", "hold_id", "actor", "at_ms", "credits", "balance_credits")
    found: list[Mapping[str, Any]] = []
    for row in conn.execute(_ENTRIES, (workspace_id, after, limit)).fetchall():
        postings = [
            {"source": source, "destination": destination, "amount_credits": amount}
            for source, destination, amount in conn.execute(_POSTINGS, (row[0], workspace_id))
        ]
        found.append(dict(zip(names, row, strict=True)) | {"postings": postings})
    return found
