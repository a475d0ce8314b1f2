"""Credits as rows: lots, entries and postings that are only ever added, and the wallet that sums them up.

Runs inside the writer's transaction. Every entry has an `idem_key`; the same key twice is one effect.
"""

import sqlite3
from collections.abc import Sequence

from ownkey.domain.ledger import LedgerEntry, Lot, Posting, debt_account, plan_draw
from ownkey.store.connection import Connection
from ownkey.store.statement import save_line
from ownkey.store.wallets import load_wallet, move_balance

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
_NEW_LOT = """
INSERT INTO lot(workspace_id, origin, granted_credits, remaining_credits, expires_at_ms, created_at_ms)
VALUES (?, ?, ?, 0, ?, ?)
"""
_DEBT = """
SELECT coalesce(sum(CASE WHEN source = :account THEN amount_credits ELSE -amount_credits END), 0) FROM posting
WHERE workspace_id = :workspace AND (source = :account OR destination = :account)
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
    assert entry_id is not None
    save_line(conn, workspace_id, entry_id, entry)


def _move_lot(conn: sqlite3.Connection, workspace_id: str, account: str, amount_credits: int) -> None:
    if account.startswith("lot:"):
        conn.execute(_LOT_CHANGE, (amount_credits, int(account[4:]), workspace_id))


def load_lots(conn: sqlite3.Connection, workspace_id: str) -> list[Lot]:
    """The lots that have credits left."""
    return [Lot(str(row[0]), *row[1:]) for row in conn.execute(_LOTS, (workspace_id,)).fetchall()]


def load_debt(conn: sqlite3.Connection, workspace_id: str) -> int:
    """The credits that were taken back after they had been spent; 0 or more."""
    row = conn.execute(_DEBT, {"account": debt_account(workspace_id), "workspace": workspace_id}).fetchone()
    debt: int = row[0]
    return debt


def load_postings(conn: sqlite3.Connection, workspace_id: str, idem_key: str) -> tuple[Posting, ...]:
    """The postings of one entry; none if there is no such entry."""
    found = conn.execute(_ENTRY_BY_KEY, (idem_key, workspace_id)).fetchone()
    if found is None:
        return ()
    return tuple(Posting(*row) for row in conn.execute(_POSTINGS_OF, (found[0], workspace_id)).fetchall())


def new_lot(conn: sqlite3.Connection, workspace_id: str, origin: str, granted: int, expires_at_ms: int | None,
            at_ms: int) -> int:
    """An empty lot that an entry in the same transaction fills."""
    lot_id = conn.execute(_NEW_LOT, (workspace_id, origin, granted, expires_at_ms, at_ms)).lastrowid
    assert lot_id is not None
    return lot_id


def add_credits(
    conn: Connection, workspace_id: str, amount: int, origin: str, expires_at_ms: int | None, idem_key: str, *,
    actor: str, at_ms: int,
) -> int:
    """Source → a lot of its own, whose id is returned. What is owed is repaid out of it first."""
    lot_id = new_lot(conn, workspace_id, origin, amount, expires_at_ms, at_ms)
    entry = LedgerEntry(idem_key, origin, (Posting(f"source:{origin}", f"lot:{lot_id}", amount),))
    save_entry(conn, workspace_id, entry, hold_id=None, actor=actor, at_ms=at_ms)
    move_balance(conn, workspace_id, amount)
    repaid = min(amount, load_debt(conn, workspace_id))
    if repaid > 0:
        posting = Posting(f"lot:{lot_id}", debt_account(workspace_id), repaid)
        repayment = LedgerEntry(f"repay:{idem_key}", "repayment", (posting,))
        save_entry(conn, workspace_id, repayment, hold_id=None, actor=actor, at_ms=at_ms)
    return lot_id


def repay_debt(conn: Connection, workspace_id: str, came_by: str, at_ms: int) -> None:
    """Credits have come back to their lots: what no call holds repays what is owed. The balance stays."""
    lots, debt = load_lots(conn, workspace_id), load_debt(conn, workspace_id)
    wallet = load_wallet(conn, workspace_id)
    held = 0 if wallet is None else wallet.held_credits
    amount = min(debt, sum(lot.remaining_credits for lot in lots) - held)
    if amount > 0:
        postings = plan_draw(lots, amount, debt_account(workspace_id))
        entry = LedgerEntry(f"repay:{came_by}", "repayment", postings)
        save_entry(conn, workspace_id, entry, hold_id=None, actor="books", at_ms=at_ms)


def save_charge(conn: sqlite3.Connection, workspace_id: str, hold_id: str, credits: int, at_ms: int) -> None:
    """Lots → revenue:usage, soonest expiry first. Nothing to do for 0 credits: a posting moves something."""
    if credits == 0:
        return
    entry = LedgerEntry(
        f"hold:{hold_id}", "charge", plan_draw(load_lots(conn, workspace_id), credits, "revenue:usage")
    )
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
