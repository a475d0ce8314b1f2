"""The add-on as rows, and what it makes of the workspace's entitlement: functions inside the writer's transaction."""

import sqlite3
from dataclasses import replace
from typing import Any

from ownkey.domain.billing import (
    Addon,
    AddonState,
    Entitlement,
    PlanTerms,
    Rail,
    after_leaving_plan,
    as_of,
    due_cycles,
    entitlement_of,
    period_index,
    renew_with_credits,
    with_addon,
)
from ownkey.domain.billing import anniversary as anniversary_ms
from ownkey.domain.ledger import LedgerEntry, plan_draw
from ownkey.domain.records import Actor
from ownkey.domain.workspace import EntitlementState
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection
from ownkey.store.ledger_rows import add_credits, load_lots, save_entry
from ownkey.store.notices import announce_change, load_standing
from ownkey.store.wallets import free_credits, move_balance

_COLUMNS = """
SELECT workspace_id, rail, state, anchor_ms, paid_until_ms, grace_until_ms, amount, grace_ms,
  coalesce(subscription, ''), customer, over FROM addon
"""
_LOAD = _COLUMNS + "WHERE workspace_id = ?"
_SAVE = """
INSERT INTO addon(workspace_id, rail, state, anchor_ms, paid_until_ms, grace_until_ms, amount, grace_ms, subscription,
  customer, over) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(workspace_id) DO UPDATE SET rail = excluded.rail, state = excluded.state, anchor_ms = excluded.anchor_ms,
  paid_until_ms = excluded.paid_until_ms, grace_until_ms = excluded.grace_until_ms, amount = excluded.amount,
  grace_ms = excluded.grace_ms, subscription = excluded.subscription, customer = excluded.customer,
  over = excluded.over
"""
_WISH_CANCEL = """
INSERT INTO subscription_wish(workspace_id, id, subscription, wish, at_ms) VALUES (?, ?, ?, 'cancel', ?)
ON CONFLICT DO NOTHING
"""
_TRIED = "UPDATE addon SET tried_at_ms = ? WHERE workspace_id = ?"
_PRESENT = """
SELECT w.entitlement, w.paid_until_ms, w.grace_until_ms, w.entitlement_by FROM workspace w
WHERE w.id = ? AND w.status <> 'deleted'
"""
_SET = """
UPDATE workspace SET entitlement = ?, paid_until_ms = ?, grace_until_ms = ?, entitlement_by = ?,
  settings_version = settings_version + 1 WHERE id = ?
"""
# An owed period is tried again a day later; credits that arrive try it at once.
_DUE = """
SELECT a.workspace_id FROM addon a JOIN workspace w ON w.id = a.workspace_id AND w.status <> 'deleted'
WHERE a.paid_until_ms <= :now AND (
  (a.rail = 'credits' AND (a.state IN ('active', 'cancelling')
    OR (a.state = 'past_due' AND (a.tried_at_ms <= :now - 86400000 OR a.grace_until_ms <= :now))))
  OR (a.rail = 'card' AND (a.state = 'cancelling' OR (a.state = 'past_due' AND a.grace_until_ms <= :now))))
ORDER BY a.paid_until_ms, a.workspace_id LIMIT :limit
"""
_CYCLE = """
SELECT anchor_ms, next_index, granted_credits, plan, cycle_credits, rollover FROM plan_cycle WHERE workspace_id = ?
"""
_SAVE_CYCLE = """
INSERT INTO plan_cycle(workspace_id, anchor_ms, next_index, granted_credits, plan, cycle_credits, rollover, next_at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(workspace_id) DO UPDATE SET next_index = excluded.next_index, granted_credits = excluded.granted_credits,
  plan = excluded.plan, cycle_credits = excluded.cycle_credits, rollover = excluded.rollover,
  next_at_ms = excluded.next_at_ms
"""
_CYCLES_DUE = """
SELECT c.workspace_id FROM plan_cycle c JOIN workspace w ON w.id = c.workspace_id AND w.status <> 'deleted'
WHERE c.next_at_ms <= ? ORDER BY c.next_at_ms, c.workspace_id LIMIT ?
"""
_KNOWN_KEY = "SELECT 1 FROM ledger_entry WHERE idem_key = ? AND workspace_id = ?"

JOB = Actor("job", "billing")


def load_addon(conn: sqlite3.Connection, workspace_id: str) -> Addon | None:
    row = conn.execute(_LOAD, (workspace_id,)).fetchone()
    return None if row is None else read_addon(row)


def read_addon(row: tuple[Any, ...]) -> Addon:
    """A row of `_COLUMNS`."""
    workspace_id, rail, state, *rest, over = row
    return replace(Addon(workspace_id, Rail(rail), AddonState(state), *rest), over=bool(over))


def put_addon(conn: Connection, addon: Addon, at_ms: int, actor: Actor) -> Addon:
    """Save what the payments say now, and what follows for the workspace. The same again changes nothing."""
    addon, before = as_of(addon, at_ms), load_addon(conn, addon.workspace_id)
    if addon == before:
        return addon
    conn.execute(_SAVE, (
        addon.workspace_id, addon.rail, addon.state, addon.anchor_ms, addon.paid_until_ms, addon.grace_until_ms,
        addon.amount, addon.grace_ms, addon.subscription or None, addon.customer, addon.over,
    ))
    save_audit(
        conn, addon.workspace_id, "addon.changed", addon.subscription or str(addon.rail), _told(before), _told(addon),
        at_ms=at_ms, actor=actor,
    )
    _follow(conn, addon, at_ms, actor)
    return addon


def _told(addon: Addon | None) -> dict[str, object] | None:
    if addon is None:
        return None
    return {
        "rail": addon.rail, "state": addon.state, "paid_until_ms": addon.paid_until_ms,
        "grace_until_ms": addon.grace_until_ms, "amount": addon.amount,
    }


def _follow(conn: Connection, addon: Addon, at_ms: int, actor: Actor) -> None:
    found = conn.execute(_PRESENT, (addon.workspace_id,)).fetchone()
    if found is None:
        return
    present = Entitlement(EntitlementState(found[0]), found[1], found[2])
    wanted = with_addon(present, found[3] == "operator", addon, at_ms)
    if present.state is EntitlementState.INCLUDED and addon.rail is Rail.CARD and addon.state is AddonState.ACTIVE:
        # A page that was open when the plan changed was paid all the same: it shall not renew.
        wish = f"included:{addon.subscription}:{addon.paid_until_ms}"
        conn.execute(_WISH_CANCEL, (addon.workspace_id, wish, addon.subscription, at_ms))
    by = "payments" if wanted is not present else found[3]
    set_entitlement(conn, addon.workspace_id, wanted, by, at_ms, actor)


def set_entitlement(
    conn: Connection, workspace_id: str, wanted: Entitlement, by: str, at_ms: int, actor: Actor, *, tell: bool = True
) -> None:
    """Write it down and tell of it, once; the same again changes nothing. `by`: "plan", "payments", "operator".

    `tell` False: the caller tells of it together with what else it changes.
    """
    found = conn.execute(_PRESENT, (workspace_id,)).fetchone()
    if found is None or found == (wanted.state, wanted.paid_until_ms, wanted.grace_until_ms, by):
        return
    before = load_standing(conn, workspace_id, at_ms)
    conn.execute(_SET, (wanted.state, wanted.paid_until_ms, wanted.grace_until_ms, by, workspace_id))
    if tell:
        announce_change(conn, workspace_id, before, (), at_ms, actor)


def renew_addon(conn: Connection, workspace_id: str, at_ms: int, actor: Actor = JOB) -> bool:
    """Renew an add-on that is due, end one that has run out; whether anything changed. One charge a period: its
    entry's key names the period's start."""
    addon = load_addon(conn, workspace_id)
    if addon is None:
        return False
    if addon.rail is Rail.CARD:
        return put_addon(conn, addon, at_ms, actor) != addon
    renewal = renew_with_credits(addon, free_credits(conn, workspace_id), at_ms)
    if renewal.charge_start_ms is not None:
        charge_addon(conn, renewal.addon, renewal.charge_start_ms, at_ms, actor)
    conn.execute(_TRIED, (at_ms, workspace_id))
    return put_addon(conn, renewal.addon, at_ms, actor) != addon


def charge_addon(conn: Connection, addon: Addon, period_start_ms: int, at_ms: int, actor: Actor) -> None:
    """Lots → revenue:addon for one period. A period that was charged before is not charged again."""
    key = f"addon:{addon.workspace_id}:{period_start_ms}"
    if conn.execute(_KNOWN_KEY, (key, addon.workspace_id)).fetchone() is not None:
        return
    postings = plan_draw(load_lots(conn, addon.workspace_id), addon.amount, "revenue:addon")
    save_entry(
        conn, addon.workspace_id, LedgerEntry(key, "addon", postings), hold_id=None,
        actor=f"{actor.kind}:{actor.id}", at_ms=at_ms,
    )
    move_balance(conn, addon.workspace_id, -addon.amount)


def due_addons(conn: Connection, at_ms: int, limit: int) -> list[str]:
    return [row[0] for row in conn.execute(_DUE, {"now": at_ms, "limit": limit}).fetchall()]


# --- plans


def arrive_at_plan(
    conn: Connection, workspace_id: str, was_included: bool, terms: PlanTerms, at_ms: int, actor: Actor, *,
    tell: bool = True,
) -> None:
    """The plan's row is written: what it means for the entitlement and for the credits of each cycle.

    A plan that includes BYOK ends the add-on's renewal (for the card rail Stripe is told by the use case); leaving it
    gives what is still paid, or the days of grace.
    """
    addon = load_addon(conn, workspace_id)
    if terms.included:
        set_entitlement(conn, workspace_id, Entitlement(EntitlementState.INCLUDED), "plan", at_ms, actor, tell=tell)
        if addon is not None and addon.rail is Rail.CREDITS and addon.state in (AddonState.ACTIVE, AddonState.PAST_DUE):
            ended = AddonState.CANCELLING if addon.state is AddonState.ACTIVE else AddonState.ENDED
            put_addon(conn, replace(addon, state=ended), at_ms, actor)
    elif was_included:
        wanted = after_leaving_plan(addon, terms.grace_ms, at_ms)
        by = "payments" if addon is not None and wanted == entitlement_of(addon) else "plan"
        set_entitlement(conn, workspace_id, wanted, by, at_ms, actor, tell=tell)
    _enter_cycle(conn, workspace_id, terms, at_ms)


def _enter_cycle(conn: Connection, workspace_id: str, terms: PlanTerms, at_ms: int) -> None:
    row = conn.execute(_CYCLE, (workspace_id,)).fetchone()
    if row is None and terms.cycle_credits == 0:
        return
    anchor, next_index, granted, *_ = row or (at_ms, 0, 0)
    now_index = max(0, period_index(anchor, at_ms))
    if now_index >= next_index:
        # Cycles that were spent on a plan without credits brought none.
        next_index, granted = now_index, 0
    _grant_cycles(conn, workspace_id, anchor, next_index, granted, terms, at_ms)


def run_cycle(conn: Connection, workspace_id: str, at_ms: int) -> bool:
    """The credits of the cycles that have begun; whether any arrived."""
    anchor, next_index, granted, plan, credits, rollover = conn.execute(_CYCLE, (workspace_id,)).fetchone()
    terms = PlanTerms(plan, False, 0, credits, bool(rollover))
    return _grant_cycles(conn, workspace_id, anchor, next_index, granted, terms, at_ms)


def _grant_cycles(
    conn: Connection, workspace_id: str, anchor_ms: int, next_index: int, granted: int, terms: PlanTerms, at_ms: int
) -> bool:
    grants, next_index, granted = due_cycles(anchor_ms, next_index, granted, terms, at_ms)
    arrived = False
    for due in grants:
        key = f"plan:{workspace_id}:{due.starts_at_ms}"
        if conn.execute(_KNOWN_KEY, (key, workspace_id)).fetchone() is not None:
            key = f"{key}:{terms.name}"  # a dearer plan in mid-cycle brings the difference
        if conn.execute(_KNOWN_KEY, (key, workspace_id)).fetchone() is not None:
            continue
        add_credits(
            conn, workspace_id, due.credits, "plan", due.expires_at_ms, key, actor="job:cycle", at_ms=at_ms
        )
        arrived = True
    next_at = anniversary_ms(anchor_ms, next_index) if terms.cycle_credits > 0 else None
    conn.execute(_SAVE_CYCLE, (
        workspace_id, anchor_ms, next_index, granted, terms.name, terms.cycle_credits, terms.rollover, next_at,
    ))
    if arrived:
        retry_owed(conn, workspace_id, at_ms)
    return arrived


def due_cycle_workspaces(conn: Connection, at_ms: int, limit: int) -> list[str]:
    return [row[0] for row in conn.execute(_CYCLES_DUE, (at_ms, limit)).fetchall()]


def retry_owed(conn: Connection, workspace_id: str, at_ms: int) -> None:
    """Credits have arrived: a renewal that waits for them is paid now."""
    addon = load_addon(conn, workspace_id)
    if addon is not None and addon.rail is Rail.CREDITS and addon.state is AddonState.PAST_DUE:
        renew_addon(conn, workspace_id, at_ms)
