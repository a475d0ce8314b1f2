"""The end of a hold: settle, release or expire, once; and the one correction that a hold may get afterwards.

Every end moves exactly what its hold reserved, inside the writer's transaction, guarded by the hold's state.
"""

from dataclasses import dataclass, replace
from typing import Any

from ownkey.domain.booking import AttemptEnd, Booked, CapFigures
from ownkey.domain.caps import is_reached
from ownkey.domain.ledger import plan_charge, price_of
from ownkey.domain.money import check_nusd
from ownkey.domain.product import CreditRules
from ownkey.domain.receipts import Basis, HoldState
from ownkey.store.connection import Connection
from ownkey.store.ledger_rows import save_charge, save_refund_of_charge
from ownkey.store.notices import announce, utc_text
from ownkey.store.periods import after_spend, announce_resumed, load_period, resume, row_of, save_alerts

# The context is kept until the call's receipt is written: the first attempt's row holds it for all of them.
# A priced attempt of unknown cost counts whole: unknown is never 0 under a cap.
_END_BYOK = """
UPDATE hold SET state = :state, basis = :basis, maybe_billed = :maybe, delivered_bytes = :bytes, ended_at_ms = :at,
  cost_nusd = CASE WHEN :cost IS NULL AND priced THEN bound_nusd ELSE :cost END,
  context = CASE WHEN :last OR attempt <> 1 THEN NULL ELSE context END
WHERE id = :id AND workspace_id = :workspace AND state = 'held' AND funding = 'byok'
RETURNING period_id, bound_nusd, priced, cost_nusd, call_id
"""
_CREDITS_HOLD = """
SELECT h.bound_nusd, h.bound_credits, h.credit_price_nusd, h.markup_bps, h.key_period, h.call_id, w.carry_nusd
FROM hold h JOIN wallet w ON w.workspace_id = h.workspace_id
WHERE h.id = ? AND h.workspace_id = ? AND h.state = 'held' AND h.funding = 'credits'
"""
_END_CREDITS = """
UPDATE hold SET state = :state, basis = :basis, maybe_billed = :maybe, delivered_bytes = :bytes, ended_at_ms = :at,
  cost_nusd = :cost, charge_nusd = :charge, charge_credits = :credits, absorbed_nusd = :absorbed,
  context = CASE WHEN :last OR attempt <> 1 THEN NULL ELSE context END
WHERE id = :id AND workspace_id = :workspace AND state = 'held'
"""
_SPEND = """
UPDATE cap_period SET spent_nusd = spent_nusd + ?, held_nusd = held_nusd - ?, overage_nusd = overage_nusd + ?
WHERE id = ? AND workspace_id = ?
RETURNING id, workspace_id, period_key, starts_at_ms, ends_at_ms, timezone, cap_version, cap_nusd, threshold,
  spent_nusd, held_nusd, leased_nusd, overage_nusd, pause_reason
"""
_CARRY = "SELECT carry_nusd FROM wallet WHERE workspace_id = ?"
_WALLET = """
UPDATE wallet SET balance_credits = balance_credits - ?, held_credits = held_credits - ?, carry_nusd = ?
WHERE workspace_id = ?
"""
_KEY_END = """
UPDATE key_failure_limit SET held_credits = held_credits - ?, used_credits = used_credits + ?
WHERE workspace_id = ? AND period_key = ?
"""
_BOOKED = """
SELECT h.state, h.funding, h.period_id, h.bound_nusd, h.priced, h.cost_nusd, h.charge_nusd, h.charge_credits,
  h.absorbed_nusd, h.credit_price_nusd, h.markup_bps, h.key_period, c.cost_delta_nusd, c.charge_delta_nusd,
  c.credits_delta, h.ended_at_ms
FROM hold h LEFT JOIN correction c ON c.hold_id = h.id AND c.workspace_id = h.workspace_id
WHERE h.id = ? AND h.workspace_id = ?
"""
_CORRECT = """
INSERT INTO correction(hold_id, workspace_id, cost_delta_nusd, charge_delta_nusd, credits_delta, origin, at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""

_NOTHING = Booked(0, 0, 0, 0, 0, None)


def end_hold(conn: Connection, end: AttemptEnd, *, last: bool) -> Booked:
    """Settle or release; a hold that expired meanwhile is corrected, one that ended before is left as it is.

    `last`: the call's receipt is written in the same transaction.
    """
    if end.state not in (HoldState.SETTLED, HoldState.RELEASED):
        raise ValueError("an attempt settles or is released; only the books expire a hold")
    if end.state is HoldState.RELEASED:
        end = replace(end, basis=Basis.NONE, cost_nusd=0, delivered_cost_nusd=0)
    if end.cost_nusd is not None:
        check_nusd(end.cost_nusd)
    booked = _book(conn, end, last)
    return _end_again(conn, end) if booked is None else booked


def expire_hold(
    conn: Connection, workspace_id: str, hold_id: str, low_cost_nusd: int, delivered_bytes: int, at_ms: int
) -> None:
    """Its process died: the cap counts the whole hold, credits pay for what the journal proves at the least."""
    _book(conn, AttemptEnd(
        hold_id, workspace_id, HoldState.EXPIRED, Basis.ESTIMATED, None, low_cost_nusd, True, delivered_bytes, at_ms
    ), last=False)


def _book(conn: Connection, end: AttemptEnd, last: bool) -> Booked | None:
    """End an open hold; None if there is none."""
    values = {
        "state": end.state, "basis": end.basis, "cost": end.cost_nusd, "maybe": end.maybe_billed,
        "bytes": end.delivered_bytes, "at": end.at_ms, "last": last, "id": end.hold_id, "workspace": end.workspace_id,
    }
    found = conn.execute(_END_BYOK, values).fetchone()
    if found is None:
        return _book_credits(conn, end, values)
    period_id, bound, priced, booked_cost, call_id = found
    cost: int = booked_cost or 0
    # Without a price the bound was 0 and nothing was at stake: what the provider reports is no overage.
    overage = max(0, cost - bound) if priced else 0
    if overage:
        _announce_overage(conn, end, call_id, bound, cost)
    figures = _spend(conn, end.workspace_id, period_id, cost, bound, overage, call_id, end.at_ms)
    return Booked(cost, 0, 0, 0, overage, figures)


def _book_credits(conn: Connection, end: AttemptEnd, values: dict[str, Any]) -> Booked | None:
    found = conn.execute(_CREDITS_HOLD, (end.hold_id, end.workspace_id)).fetchone()
    if found is None:
        return None
    bound, bound_credits, price, markup_bps, key_period, call_id, carry = found
    cost: int = bound if end.cost_nusd is None else end.cost_nusd
    delivered = min(end.delivered_cost_nusd, bound)
    charge_nusd = credits = absorbed = 0
    if delivered:
        charge, absorbed = plan_charge(delivered, bound_credits, carry, CreditRules(price, markup_bps))
        charge_nusd, credits, carry = charge.charge_nusd, charge.credits, charge.carry_nusd
    absorbed = max(absorbed, cost - charge_nusd)
    values |= {"cost": cost, "charge": charge_nusd, "credits": credits, "absorbed": absorbed}
    conn.execute(_END_CREDITS, values)
    save_charge(conn, end.workspace_id, end.hold_id, credits, end.at_ms)
    conn.execute(_WALLET, (credits, bound_credits, carry, end.workspace_id))
    if key_period is not None:
        conn.execute(_KEY_END, (bound_credits, credits, end.workspace_id, key_period))
    overage = max(0, cost - bound)
    if overage:
        _announce_overage(conn, end, call_id, bound, cost)
    return Booked(cost, charge_nusd, credits, absorbed, overage, None)


def _spend(
    conn: Connection, workspace_id: str, period_id: int, cost: int, bound: int, overage: int, call: str, at_ms: int
) -> CapFigures:
    values = conn.execute(_SPEND, (cost, bound, overage, period_id, workspace_id)).fetchone()
    _, _, key, _, ends, _, version, cap, threshold, spent, held, leased, _, reason = values
    if cap is not None and (spent * 100 >= cap * threshold or spent >= cap):
        # The usual call stops at the comparison above; a call past the threshold finds its alerts in memory.
        newly_reached = reason is None and spent >= cap
        if newly_reached or (period_id, version, threshold) not in conn.alerted:
            row = after_spend(conn, row_of(values), at_ms, call=call)
            reason = row.paused
    return CapFigures(key, cap, spent, held + leased, ends, reason is not None)


def _announce_overage(conn: Connection, end: AttemptEnd, call_id: str, bound: int, cost: int) -> None:
    announce_overage(conn, end.workspace_id, end.hold_id, call_id, bound, cost, end.at_ms)


def announce_overage(
    conn: Connection, workspace_id: str, hold_id: str, call_id: str, bound: int, cost: int, at_ms: int
) -> None:
    """The provider billed more than its attempt could cost: said once a hold."""
    announce(conn, workspace_id, f"overage:{hold_id}", "overage", {
        "workspace_id": workspace_id, "call": call_id, "hold": hold_id, "bound_nusd": str(bound),
        "cost_nusd": str(cost), "at": utc_text(at_ms),
    }, at_ms)


@dataclass(frozen=True, slots=True)
class HoldRow:
    """A hold as booked, and its correction if it has one."""

    state: str
    funding: str
    period_id: int | None
    bound_nusd: int
    priced: bool
    cost_nusd: int
    charge_nusd: int
    charge_credits: int
    absorbed_nusd: int
    rules: CreditRules
    key_period: str | None
    corrected: bool

    @property
    def overage_nusd(self) -> int:
        return max(0, self.cost_nusd - self.bound_nusd) if self.priced else 0


def load_hold(conn: Connection, workspace_id: str, hold_id: str) -> HoldRow | None:
    """What is booked for a hold now, its correction included."""
    found = conn.execute(_BOOKED, (hold_id, workspace_id)).fetchone()
    if found is None:
        return None
    (state, funding, period_id, bound, priced, cost, charge, credits, absorbed, price, markup, key_period,
     cost_delta, charge_delta, credits_delta, _) = found
    corrected = cost_delta is not None
    return HoldRow(
        state, funding, period_id, bound, bool(priced), (cost or 0) + (cost_delta or 0),
        charge + (charge_delta or 0), credits + (credits_delta or 0), absorbed, CreditRules(price, markup),
        key_period, corrected,
    )


def _end_again(conn: Connection, end: AttemptEnd) -> Booked:
    row = load_hold(conn, end.workspace_id, end.hold_id)
    if row is None:
        return _NOTHING
    if row.state == HoldState.EXPIRED and not row.corrected:
        cost = row.cost_nusd if end.cost_nusd is None else end.cost_nusd
        save_correction(
            conn, end.workspace_id, end.hold_id, row, cost, end.delivered_cost_nusd, "late_end", end.at_ms
        )
        row = load_hold(conn, end.workspace_id, end.hold_id)
        assert row is not None
    cap = None
    if row.period_id is not None:
        period = load_period(conn, end.workspace_id, row.period_id)
        cap = CapFigures(
            period.period.key, period.cap_nusd, period.spent_nusd, period.held_nusd + period.leased_nusd,
            period.period.ends_at_ms, period.paused is not None,
        )
    return Booked(row.cost_nusd, row.charge_nusd, row.charge_credits, row.absorbed_nusd, row.overage_nusd, cap)


def save_correction(
    conn: Connection, workspace_id: str, hold_id: str, row: HoldRow, cost_nusd: int, delivered_nusd: int,
    origin: str, at_ms: int,
) -> None:
    """Move the booked cost to `cost_nusd` within 0 and the hold, and a charge only down; the pause is recomputed."""
    cost = min(cost_nusd, row.bound_nusd) if row.priced else cost_nusd
    delta = cost - row.cost_nusd
    charge_delta = credits_back = 0
    if row.period_id is not None:
        overage_delta = (max(0, cost - row.bound_nusd) if row.priced else 0) - row.overage_nusd
        _respend(conn, workspace_id, row.period_id, delta, overage_delta, at_ms)
    elif row.charge_nusd:
        charge = min(row.charge_nusd, price_of(min(delivered_nusd, row.bound_nusd), row.rules))
        charge_delta = charge - row.charge_nusd
        (carry,) = conn.execute(_CARRY, (workspace_id,)).fetchone()
        rest = carry - charge_delta
        credits_back = min(row.charge_credits, rest // row.rules.price_nusd)
        save_refund_of_charge(conn, workspace_id, hold_id, credits_back, at_ms)
        conn.execute(_WALLET, (-credits_back, 0, rest - credits_back * row.rules.price_nusd, workspace_id))
        if row.key_period is not None:
            conn.execute(_KEY_END, (0, -credits_back, workspace_id, row.key_period))
    conn.execute(_CORRECT, (hold_id, workspace_id, delta, charge_delta, -credits_back, origin, at_ms))


def _respend(
    conn: Connection, workspace_id: str, period_id: int, delta: int, overage_delta: int, at_ms: int
) -> None:
    values = conn.execute(_SPEND, (delta, 0, overage_delta, period_id, workspace_id)).fetchone()
    row = row_of(values)
    if delta < 0 and row.paused is not None and not is_reached(row.cap_nusd, row.spent_nusd):
        row = resume(conn, row)
        announce_resumed(conn, row, "corrected", at_ms)
    if delta > 0:
        after_spend(conn, row, at_ms)
    else:
        save_alerts(conn, row, at_ms)
