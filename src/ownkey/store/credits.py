"""Credits granted, counted and expired; what calls take of them is booked by their holds."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ownkey.domain.errors import Conflict, NotFound, StoreError
from ownkey.domain.ledger import LedgerEntry, Posting
from ownkey.domain.money import MAX_NUSD
from ownkey.domain.records import Actor, CreditLot, Wallet
from ownkey.store.addons import retry_owed
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection
from ownkey.store.core import Core
from ownkey.store.ledger_rows import add_credits, save_entry

_ENTRY = "SELECT workspace_id, kind FROM ledger_entry WHERE idem_key = ?"
_GRANTED = """
SELECT p.amount_credits FROM posting p JOIN ledger_entry e ON e.id = p.entry_id AND e.workspace_id = p.workspace_id
WHERE e.idem_key = ? AND p.workspace_id = ? AND p.n = 0
"""
_ADD = """
UPDATE wallet SET balance_credits = balance_credits + ? WHERE workspace_id = ?
RETURNING workspace_id, balance_credits, held_credits, carry_nusd
"""
_WALLET = "SELECT workspace_id, balance_credits, held_credits, carry_nusd FROM wallet WHERE workspace_id = ?"
_LOTS = """
SELECT id, origin, granted_credits, remaining_credits, expires_at_ms, created_at_ms FROM lot
WHERE workspace_id = ? AND remaining_credits > 0
ORDER BY expires_at_ms IS NULL, expires_at_ms, created_at_ms, CAST(id AS TEXT)
"""
_LEDGER = """
SELECT e.id, e.idem_key, e.kind, e.hold_id, e.actor, e.at_ms, p.source, p.destination, p.amount_credits
FROM ledger_entry e JOIN posting p ON p.entry_id = e.id AND p.workspace_id = e.workspace_id
WHERE e.workspace_id = ? AND e.id IN (SELECT id FROM ledger_entry WHERE workspace_id = ? ORDER BY id DESC LIMIT ?)
ORDER BY e.id DESC, p.n
"""
_EXPIRED = """
SELECT l.id, l.workspace_id, l.remaining_credits, w.balance_credits - w.held_credits,
  (SELECT count(*) FROM ledger_entry e WHERE e.workspace_id = l.workspace_id AND e.kind = 'expiry'
     AND e.idem_key LIKE 'expire:' || l.id || ':%')
FROM lot l JOIN wallet w ON w.workspace_id = l.workspace_id
WHERE l.remaining_credits > 0 AND l.expires_at_ms <= ? AND w.balance_credits > w.held_credits
ORDER BY l.expires_at_ms, l.id LIMIT ?
"""
_FREE = "SELECT balance_credits - held_credits FROM wallet WHERE workspace_id = ?"


def grant(
    conn: Connection, workspace_id: str, amount: int, origin: str, expires_at_ms: int | None, idem_key: str,
    at_ms: int, actor: Actor,
) -> Wallet | StoreError:
    known = conn.execute(_ENTRY, (idem_key,)).fetchone()
    if known is not None:
        granted = conn.execute(_GRANTED, (idem_key, workspace_id)).fetchone()
        if granted != (amount,):
            return Conflict("The same key was used for another movement of credits.")
        return Wallet(*conn.execute(_WALLET, (workspace_id,)).fetchone())
    if conn.execute(_WALLET, (workspace_id,)).fetchone() is None:
        return NotFound("no such workspace")
    add_credits(
        conn, workspace_id, amount, origin, expires_at_ms, idem_key, actor=f"{actor.kind}:{actor.id}", at_ms=at_ms
    )
    retry_owed(conn, workspace_id, at_ms)
    wallet = Wallet(*conn.execute(_WALLET, (workspace_id,)).fetchone())
    save_audit(conn, workspace_id, "credits.granted", idem_key, None, {
        "amount_credits": amount, "origin": origin, "expires_at_ms": expires_at_ms,
        "balance_credits": wallet.balance_credits,
    }, at_ms=at_ms, actor=actor)
    return wallet


def expire_lots(conn: Connection, at_ms: int, limit: int) -> int:
    """Lot → sink:expired, at most what no hold needs; the rest when holds end. Returns the credits moved."""
    moved = 0
    for lot_id, workspace_id, remaining, _, n in conn.execute(_EXPIRED, (at_ms, limit)).fetchall():
        (free,) = conn.execute(_FREE, (workspace_id,)).fetchone()
        amount = min(remaining, free)
        if amount <= 0:
            continue
        entry = LedgerEntry(
            f"expire:{lot_id}:{n + 1}", "expiry", (Posting(f"lot:{lot_id}", "sink:expired", amount),)
        )
        save_entry(conn, workspace_id, entry, hold_id=None, actor="job:expiry", at_ms=at_ms)
        conn.execute(_ADD, (-amount, workspace_id)).fetchone()
        moved += amount
    return moved


class CreditsPart(Core):
    """Satisfies `control.ports.Credits`."""

    async def grant_credits(
        self, workspace_id: str, amount_credits: int, origin: Literal["plan", "topup", "promo", "operator"],
        *, expires_at_ms: int | None, idem_key: str, at_ms: int, actor: Actor
    ) -> Wallet:
        """Raises ValueError for an amount that is not positive, Conflict if the key stands for something else."""
        if not 0 < amount_credits <= MAX_NUSD:
            raise ValueError("a grant is a positive number of credits")
        return await self._write(
            lambda conn: grant(conn, workspace_id, amount_credits, origin, expires_at_ms, idem_key, at_ms, actor),
            workspace_id,
        )

    async def load_wallet(self, workspace_id: str) -> Wallet:
        found = self._near.execute(_WALLET, (workspace_id,)).fetchone()
        return Wallet(workspace_id, 0, 0, 0) if found is None else Wallet(*found)

    async def load_lots(self, workspace_id: str) -> Sequence[CreditLot]:
        rows = await self._read(lambda conn: conn.execute(_LOTS, (workspace_id,)).fetchall())
        return [CreditLot(str(row[0]), *row[1:]) for row in rows]

    async def load_ledger(self, workspace_id: str, *, limit: int) -> Sequence[Mapping[str, Any]]:
        """Entries with their postings, newest first."""
        count = max(0, min(limit, 1_000))
        rows = await self._read(
            lambda conn: conn.execute(_LEDGER, (workspace_id, workspace_id, count)).fetchall()
        )
        entries: dict[int, dict[str, Any]] = {}
        for entry_id, idem_key, kind, hold_id, actor, at_ms, source, destination, amount in rows:
            entry = entries.setdefault(entry_id, {
                "id": entry_id, "idem_key": idem_key, "kind": kind, "hold_id": hold_id, "actor": actor,
                "at_ms": at_ms, "postings": [],
            })
            entry["postings"].append({"source": source, "destination": destination, "amount_credits": amount})
        return list(entries.values())

    async def expire_credits(self, at_ms: int, *, limit: int = 500) -> int:
        """A job: take what has expired; returns the credits moved."""
        return await self._write(lambda conn: expire_lots(conn, at_ms, limit))
