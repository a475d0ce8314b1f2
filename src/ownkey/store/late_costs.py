"""Lost costs as rows: written with the receipt that lacks them, and ended by one correction or by giving up."""

from collections.abc import Sequence

from ownkey.domain.errors import NotFound
from ownkey.domain.late_costs import KEY_GONE, ORIGIN, LateCost, first_try_ms, give_up_note, lost_generation
from ownkey.domain.money import format_usd
from ownkey.domain.receipts import Receipt
from ownkey.domain.routing import Route
from ownkey.store.connection import Connection
from ownkey.store.core import Core
from ownkey.store.corrections import Report, correct_hold
from ownkey.store.ends import announce_overage, load_hold
from ownkey.store.receipt_rows import Flag, amend_receipt, flag_overage

_OWN_KEY = "SELECT workspace_id, version FROM credential WHERE id = ? AND workspace_id = ?"
_PLATFORM_KEY = """
SELECT c.workspace_id, c.version, c.id FROM workspace w JOIN credential c ON c.workspace_id = w.id
WHERE w.kind = 'platform' AND w.status <> 'deleted' AND c.provider = 'openrouter'
"""
_QUEUE = """
INSERT INTO late_cost(hold_id, workspace_id, call_id, generation_id, owner_id, credential_id, credential_version,
  created_at_ms, next_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_DUE = """
SELECT hold_id, workspace_id, call_id, generation_id, owner_id, credential_id, credential_version, tries, created_at_ms
FROM late_cost WHERE state = 'waiting' AND next_at_ms <= ? ORDER BY next_at_ms LIMIT ?
"""
_AGAIN = """
UPDATE late_cost SET tries = tries + 1, next_at_ms = ?, reason = ?
WHERE hold_id = ? AND workspace_id = ? AND state = 'waiting'
"""
_END = """
UPDATE late_cost SET state = ?, tries = tries + 1, reason = ?
WHERE hold_id = ? AND workspace_id = ? AND state = 'waiting'
"""


def queue_late_costs(conn: Connection, receipt: Receipt) -> None:
    """Remember which of a call's attempts have lost their cost; part of the transaction that writes the receipt."""
    for attempt in receipt.attempts:
        generation = lost_generation(attempt)
        if generation is None:
            continue
        if attempt.route is Route.CREDITS:
            found = conn.execute(_PLATFORM_KEY).fetchone()
        else:
            found = conn.execute(_OWN_KEY, (attempt.credential_id, receipt.workspace_id)).fetchone()
        if found is None:
            # A Test of a key that was never saved, or one that was disconnected in the middle of its call.
            amend_receipt(conn, receipt.workspace_id, receipt.id, give_up_note(KEY_GONE))
            continue
        owner_id, version, *platform = found
        ended_at_ms = receipt.at_ms + attempt.ended_ms
        conn.execute(_QUEUE, (
            attempt.hold_id, receipt.workspace_id, receipt.id, generation, owner_id,
            platform[0] if platform else attempt.credential_id, version, ended_at_ms, first_try_ms(ended_at_ms),
        ))


def book_late_cost(conn: Connection, late: LateCost, cost_nusd: int, at_ms: int) -> tuple[bool, Sequence[Flag]]:
    """Correct the hold with the provider's own figure, once; false if something else corrected it before."""
    row = load_hold(conn, late.workspace_id, late.hold_id)
    assert row is not None, "a lost cost refers to its hold"
    note = (
        f"Cost corrected from US${format_usd(row.cost_nusd)} to OpenRouter's own record of it: "
        f"US${format_usd(cost_nusd)}."
    )
    booked = correct_hold(conn, late.workspace_id, late.hold_id, Report(
        cost_nusd, cost_nusd, ORIGIN, at_ms, is_actual=True, note=note,
    ))
    if booked is None or isinstance(booked, NotFound):
        conn.execute(_END, ("given_up", "corrected before", late.hold_id, late.workspace_id))
        return False, ()
    conn.execute(_END, ("booked", "", late.hold_id, late.workspace_id))
    if not row.priced or cost_nusd <= row.bound_nusd:
        return True, ()
    announce_overage(conn, late.workspace_id, late.hold_id, late.call_id, row.bound_nusd, cost_nusd, at_ms)
    return True, flag_overage(conn, late.workspace_id, late.hold_id, at_ms)


def give_up_late_cost(conn: Connection, late: LateCost, reason: str) -> None:
    """The estimate stays, and the receipt says why."""
    if conn.execute(_END, ("given_up", reason, late.hold_id, late.workspace_id)).rowcount:
        amend_receipt(conn, late.workspace_id, late.call_id, give_up_note(reason))


class LateCostsPart(Core):
    """Satisfies `control.late_costs.LateCostBook`."""

    async def load_due_late_costs(self, at_ms: int, limit: int) -> Sequence[LateCost]:
        """What is to be asked for by now, the longest overdue first."""
        return [LateCost(*row) for row in self._near.execute(_DUE, (at_ms, limit)).fetchall()]

    async def retry_late_cost(self, late: LateCost, reason: str, next_at_ms: int) -> None:
        await self._write(
            lambda conn: conn.execute(_AGAIN, (next_at_ms, reason, late.hold_id, late.workspace_id)).rowcount
        )

    async def book_late_cost(self, late: LateCost, cost_nusd: int, at_ms: int) -> bool:
        """The one correction of this hold, on the receipt too; false if it was corrected before."""
        booked, flags = await self._write(lambda conn: book_late_cost(conn, late, cost_nusd, at_ms))
        self._overages.update(flags)
        self._rooms.wake(late.workspace_id)
        return booked

    async def give_up_late_cost(self, late: LateCost, reason: str) -> None:
        await self._write(lambda conn: give_up_late_cost(conn, late, reason))
