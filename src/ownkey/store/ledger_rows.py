"""Credits as rows: lots, entries and postings that are only ever added, and the wallet that sums them up.

Runs inside the writer's transaction. Every entry has an `idem_key`; the same key twice is one effect.
"""

import sqlite3
from collections.abc import Sequence

from ownkey.domain.ledger import LedgerEntry, Lot, Posting, plan_draw

_ENTRY = """
INSERT INTO ledger_entry(workspace_id, idem_key, kind, hold_id, actor, at_ms) VALUES (?, ?, ?, ?, ?, ?)
"""
_POSTING = """
INSERT INTO posting(entry_id, n, workspace_id, source, destination, amount_credits) VALUES (?, ?, ?, ?, ?, ?)
"""
_LOTS = """
SELECT id, remaining_credits, expires_at_ms, created_at_ms FROM lot
WHERE workspace_id = ? AND remaining_credits > 0
"""
_LOT_CHANGE = "UPDATE lot SET remaining_credits = remaining_credits + ? WHERE id = ? AND workspace_id = ?"
_ENTRY_BY_KEY = "SELECT id FROM ledger_entry WHERE idem_key = ? AND workspace_id = ?"
_POSTINGS_OF = """
SELECT source, destination, amount_credits FROM posting WHERE entry_id = ? AND workspace_id = ? ORDER BY n
"""


def save_entry(
    conn: sqlite3.Connection, workspace_id: str, entry: LedgerEntry, *, hold_id: str | None, actor: str, at_ms: int
) -> None:
    """Write an entry and move the lots that its postings name."""
    entry_id = conn.execute(_ENTRY, (workspace_id, entry.idem_key, entry.kind, hold_id, actor, at_ms)).lastrowid
    for n, posting in enumerate(entry.postings):
        conn.execute(_POSTING, (
            entry_id, n, workspace_id, posting.source, posting.destination, posting.amount_credits,
        ))
        _move_lot(conn, workspace_id, posting.source, -posting.amount_credits)
        _move_lot(conn, workspace_id, posting.destination, posting.amount_credits)


def _move_lot(conn: sqlite3.Connection, workspace_id: str, account: str, amount_credits: int) -> None:
    if account.startswith("lot:"):
        conn.execute(_LOT_CHANGE, (amount_credits, int(account[4:]), workspace_id))


def save_charge(conn: sqlite3.Connection, workspace_id: str, hold_id: str, credits: int, at_ms: int) -> None:
    """Lots → revenue:usage, soonest expiry first. Nothing to do for 0 credits: a posting moves something."""
    if credits == 0:
        return
    lots = [Lot(str(row[0]), *row[1:]) for row in conn.execute(_LOTS, (workspace_id,)).fetchall()]
    entry = LedgerEntry(f"hold:{hold_id}", "charge", plan_draw(lots, credits, "revenue:usage"))
    save_entry(conn, workspace_id, entry, hold_id=hold_id, actor="gateway", at_ms=at_ms)


def save_refund_of_charge(
    conn: sqlite3.Connection, workspace_id: str, hold_id: str, credits: int, at_ms: int
) -> None:
    """revenue:usage → the lots that paid, the last drawn first."""
    if credits == 0:
        return
    (entry_id,) = conn.execute(_ENTRY_BY_KEY, (f"hold:{hold_id}", workspace_id)).fetchone()
    drawn: Sequence[tuple[str, str, int]] = conn.execute(_POSTINGS_OF, (entry_id, workspace_id)).fetchall()
    postings = []
    for source, destination, amount in reversed(drawn):
        back = min(amount, credits)
        if back > 0:
            postings.append(Posting(destination, source, back))
            credits -= back
    entry = LedgerEntry(f"correction:{hold_id}", "correction", tuple(postings))
    save_entry(conn, workspace_id, entry, hold_id=hold_id, actor="books", at_ms=at_ms)
