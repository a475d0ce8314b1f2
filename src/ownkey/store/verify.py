"""Recomputes every counter from rows and names what does not agree; it repairs nothing.

Each check runs on a snapshot of its own, so that a booking in the middle cannot look like drift, and no snapshot is
held for longer than one of them: the write-ahead log can be emptied in between.
"""

import sqlite3
from collections.abc import Callable, Iterator

from ownkey.domain.records import Finding
from ownkey.store.audit import compute_mac
from ownkey.store.connection import snapshot
from ownkey.store.verify_figures import check_figures, check_recent_figures, check_recent_statement, check_statement
from ownkey.store.verify_touched import ANYTHING, Mark, limited

Check = Callable[[sqlite3.Connection, int], Iterator[Finding]]

_COUNTERS = """
SELECT p.workspace_id, p.id, p.spent_nusd, p.held_nusd, p.overage_nusd,
  coalesce(sum(CASE WHEN h.state <> 'held' THEN coalesce(h.cost_nusd, 0) + coalesce(c.cost_delta_nusd, 0) END), 0),
  coalesce(sum(CASE WHEN h.state = 'held' THEN h.bound_nusd END), 0),
  coalesce(sum(CASE WHEN h.state <> 'held' AND h.priced
    THEN max(0, coalesce(h.cost_nusd, 0) + coalesce(c.cost_delta_nusd, 0) - h.bound_nusd) END), 0)
FROM cap_period p
LEFT JOIN hold h ON h.period_id = p.id AND h.workspace_id = p.workspace_id
LEFT JOIN correction c ON c.hold_id = h.id AND c.workspace_id = h.workspace_id
GROUP BY p.workspace_id, p.id
"""
# Counters are compared with the holds of their period: a hold of no period would be in none of them.
_NO_PERIOD = """
SELECT h.workspace_id, h.period_id, count(*) FROM hold h
WHERE h.period_id IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM cap_period p WHERE p.id = h.period_id AND p.workspace_id = h.workspace_id)
GROUP BY h.workspace_id, h.period_id
"""
# The law speaks of the cap in force when each call was admitted: what was used when the version came stays.
_LAW = """
SELECT p.workspace_id, p.id, p.spent_nusd + p.held_nusd + p.leased_nusd - p.overage_nusd
  - coalesce((SELECT sum(max(0, c.cost_delta_nusd)) FROM correction c
      JOIN hold h ON h.id = c.hold_id AND h.workspace_id = c.workspace_id
      WHERE h.period_id = p.id AND c.workspace_id = p.workspace_id), 0),
  max(p.cap_nusd, CASE WHEN v.period_key = p.period_key THEN v.used_nusd ELSE 0 END)
FROM cap_period p JOIN cap_version v ON v.workspace_id = p.workspace_id AND v.version = p.cap_version
WHERE p.cap_nusd IS NOT NULL
"""
_PAUSE = """
SELECT workspace_id, id, state, spent_nusd, cap_nusd FROM cap_period
WHERE (cap_nusd IS NOT NULL AND spent_nusd >= cap_nusd AND state = 'active')
   OR (state = 'paused' AND (cap_nusd IS NULL OR (pause_reason = 'reached' AND spent_nusd < cap_nusd)))
"""
_GAPS = """
SELECT workspace_id, id, period_key FROM (
  SELECT workspace_id, id, period_key, starts_at_ms,
    lag(ends_at_ms) OVER (PARTITION BY workspace_id ORDER BY period_key) AS before FROM cap_period)
WHERE before > starts_at_ms
"""
# What was crossed while the period ran has its row; spend that was booked after its end alerts nobody.
_MISSING_ALERTS = """
WITH crossed AS (
  SELECT p.workspace_id, p.id, p.cap_version, p.cap_nusd, p.threshold,
    coalesce(sum(coalesce(h.cost_nusd, 0) + coalesce(c.cost_delta_nusd, 0)), 0) AS spent
  FROM cap_period p
  LEFT JOIN hold h ON h.period_id = p.id AND h.workspace_id = p.workspace_id AND h.ended_at_ms < p.ends_at_ms
  LEFT JOIN correction c ON c.hold_id = h.id AND c.workspace_id = h.workspace_id AND c.at_ms < p.ends_at_ms
  WHERE p.cap_nusd IS NOT NULL GROUP BY p.workspace_id, p.id)
SELECT x.workspace_id, x.id, t.threshold FROM crossed x
JOIN (SELECT workspace_id, id, threshold FROM cap_period WHERE threshold < 100
      UNION ALL SELECT workspace_id, id, 100 FROM cap_period) t ON t.id = x.id AND t.workspace_id = x.workspace_id
WHERE CASE WHEN t.threshold = 100 THEN x.spent >= x.cap_nusd ELSE x.spent * 100 >= x.cap_nusd * t.threshold END
  AND NOT EXISTS (SELECT 1 FROM alert a WHERE a.workspace_id = x.workspace_id AND a.period_id = x.id
    AND a.cap_version = x.cap_version AND a.threshold = t.threshold)
"""
_NO_ROOM_ALERTS = """
SELECT p.workspace_id, p.id FROM cap_period p WHERE p.state = 'paused' AND p.pause_reason = 'no_room'
  AND NOT EXISTS (SELECT 1 FROM alert a WHERE a.workspace_id = p.workspace_id AND a.period_id = p.id
    AND a.cap_version = p.cap_version AND a.threshold = 100)
"""
_FALSE_ALERTS = """
SELECT a.workspace_id, a.period_id, a.cap_version, a.threshold FROM alert a
WHERE (CASE WHEN a.threshold = 100 THEN a.spent_nusd < a.cap_nusd AND a.reason IS NOT 'no_room'
         ELSE a.spent_nusd * 100 < a.cap_nusd * a.threshold END)
"""
_UNSENT_ALERTS = """
SELECT a.workspace_id, a.period_id, a.cap_version, a.threshold FROM alert a
WHERE a.state = 'due' AND (SELECT count(*) FROM outbox o WHERE o.workspace_id = a.workspace_id AND o.dedupe_key IN (
  'alert:' || a.period_id || ':' || a.cap_version || ':' || a.threshold || ':email',
  'alert:' || a.period_id || ':' || a.cap_version || ':' || a.threshold || ':event')) <> 2
"""
_WALLET = """
WITH lots AS (SELECT workspace_id, sum(remaining_credits) AS credits FROM lot GROUP BY workspace_id),
debts AS (
  SELECT workspace_id, sum(CASE WHEN destination LIKE 'debt:%' THEN amount_credits ELSE -amount_credits END) AS credits
  FROM posting WHERE destination LIKE 'debt:%' OR source LIKE 'debt:%' GROUP BY workspace_id),
holds AS (
  SELECT h.workspace_id, sum(CASE WHEN h.state = 'held' THEN h.bound_credits ELSE 0 END) AS held,
    sum((h.charge_credits + coalesce(c.credits_delta, 0)) * h.credit_price_nusd
      - h.charge_nusd - coalesce(c.charge_delta_nusd, 0)) AS carry
  FROM hold h LEFT JOIN correction c ON c.hold_id = h.id AND c.workspace_id = h.workspace_id
  WHERE h.funding = 'credits' GROUP BY h.workspace_id)
SELECT w.workspace_id, w.balance_credits, w.held_credits, w.carry_nusd,
  coalesce(l.credits, 0) + coalesce(d.credits, 0), coalesce(h.held, 0), coalesce(h.carry, 0)
FROM wallet w LEFT JOIN lots l ON l.workspace_id = w.workspace_id
LEFT JOIN debts d ON d.workspace_id = w.workspace_id LEFT JOIN holds h ON h.workspace_id = w.workspace_id
"""
_NO_WALLET = """
SELECT k.id AS workspace_id FROM workspace k LEFT JOIN wallet w ON w.workspace_id = k.id WHERE w.workspace_id IS NULL
"""
_LOTS = """
WITH moved AS (
  SELECT workspace_id, account, sum(amount) AS credits FROM (
    SELECT workspace_id, destination AS account, amount_credits AS amount FROM posting
    UNION ALL SELECT workspace_id, source, -amount_credits FROM posting)
  WHERE account LIKE 'lot:%' GROUP BY workspace_id, account)
SELECT l.workspace_id, l.id, l.remaining_credits, coalesce(m.credits, 0)
FROM lot l LEFT JOIN moved m ON m.account = 'lot:' || l.id AND m.workspace_id = l.workspace_id
"""
_LEDGER_SHAPE = """
SELECT e.workspace_id, e.id, count(p.n), coalesce(min(p.amount_credits), 0),
  coalesce(sum(p.workspace_id <> e.workspace_id), 0)
FROM ledger_entry e LEFT JOIN posting p ON p.entry_id = e.id WHERE e.id > :entry GROUP BY e.workspace_id, e.id
HAVING count(p.n) = 0 OR min(p.amount_credits) <= 0 OR sum(p.workspace_id <> e.workspace_id) > 0
"""
_BELOW_ZERO = """
SELECT workspace_id, account, sum(amount) FROM (
  SELECT workspace_id, destination AS account, amount_credits AS amount FROM posting
  UNION ALL SELECT workspace_id, source, -amount_credits FROM posting)
WHERE account NOT LIKE 'source:%' AND account NOT LIKE 'debt:%' GROUP BY workspace_id, account HAVING sum(amount) < 0
"""
_CHARGES_OF = """
SELECT h.workspace_id, h.id, h.charge_credits + coalesce(c.credits_delta, 0), h.bound_credits,
  coalesce((SELECT sum(CASE WHEN p.destination = 'revenue:usage' THEN p.amount_credits ELSE -p.amount_credits END)
    FROM ledger_entry e JOIN posting p ON p.entry_id = e.id AND p.workspace_id = e.workspace_id
    WHERE e.idem_key IN ('hold:' || h.id, 'correction:' || h.id) AND e.workspace_id = h.workspace_id), 0)
FROM hold h LEFT JOIN correction c ON c.hold_id = h.id AND c.workspace_id = h.workspace_id
WHERE (h.funding = 'credits' OR h.charge_credits > 0 OR h.charge_nusd > 0) AND {h.call_id}
"""
_CHARGES, _RECENT_CHARGES = limited(_CHARGES_OF)
_STRAY_CHARGES = """
SELECT e.workspace_id, e.id FROM ledger_entry e
LEFT JOIN hold h ON h.id = e.hold_id AND h.workspace_id = e.workspace_id
WHERE e.id > :entry AND e.kind IN ('charge', 'correction') AND (h.id IS NULL OR h.funding <> 'credits')
"""
# The switch as the audit log tells it: a hold of credits names the last audit row that was written before it.
_ALWAYS_OF = """
SELECT h.workspace_id, h.id FROM hold h WHERE h.funding = 'credits' AND {h.call_id} AND (
  SELECT a.after ->> '$.always_use_key' FROM audit a
  WHERE a.workspace_id = h.workspace_id AND a.n <= h.after_audit AND a.action = 'workspace.changed'
    AND a.after ->> '$.always_use_key' IS NOT NULL
  ORDER BY a.n DESC LIMIT 1) = 1
"""
_ALWAYS, _RECENT_ALWAYS = limited(_ALWAYS_OF)
_KEY_LIMIT = """
SELECT k.workspace_id, k.period_key, k.used_credits, k.held_credits,
  coalesce(sum(CASE WHEN h.state <> 'held' THEN h.charge_credits + coalesce(c.credits_delta, 0) END), 0),
  coalesce(sum(CASE WHEN h.state = 'held' THEN h.bound_credits END), 0)
FROM key_failure_limit k
LEFT JOIN hold h ON h.workspace_id = k.workspace_id AND h.key_period = k.period_key AND h.funding = 'credits'
LEFT JOIN correction c ON c.hold_id = h.id AND c.workspace_id = h.workspace_id
GROUP BY k.workspace_id, k.period_key
"""
_OPEN_PAST_EXPIRY = """
SELECT workspace_id, id, expires_at_ms FROM hold WHERE state = 'held' AND expires_at_ms < ?
"""
_CORRECTIONS = """
SELECT c.workspace_id, c.hold_id FROM correction c
LEFT JOIN hold h ON h.id = c.hold_id AND h.workspace_id = c.workspace_id
WHERE h.id IS NULL OR h.state = 'held' OR coalesce(h.cost_nusd, 0) + c.cost_delta_nusd < 0
  OR (h.priced AND coalesce(h.cost_nusd, 0) + c.cost_delta_nusd > max(h.bound_nusd, coalesce(h.cost_nusd, 0)))
"""
# A lost cost is over when it is corrected or given up, and booked only by its own correction.
_LATE_COSTS = """
SELECT l.workspace_id, l.hold_id, l.state FROM late_cost l
LEFT JOIN hold h ON h.id = l.hold_id AND h.workspace_id = l.workspace_id
LEFT JOIN correction c ON c.hold_id = l.hold_id AND c.workspace_id = l.workspace_id
WHERE h.id IS NULL OR h.state = 'held' OR h.call_id <> l.call_id
  OR (l.state = 'booked') <> (c.origin IS 'openrouter_generation')
"""
_NO_RECEIPT_OF = """
SELECT h.workspace_id, h.call_id FROM hold h
LEFT JOIN receipt r ON r.id = h.call_id AND r.workspace_id = h.workspace_id
WHERE r.id IS NULL AND {touched} GROUP BY h.workspace_id, h.call_id
HAVING max(h.context IS NOT NULL AND h.expires_at_ms >= :open_ms) = 0
"""
_NO_RECEIPT = _NO_RECEIPT_OF.replace("{touched}", "true")
# A call without a receipt is none that was touched: what tells of it is a hold that ended.
_RECENT_NO_RECEIPT = _NO_RECEIPT_OF.replace(
    "{touched}", "h.call_id IN (SELECT e.call_id FROM hold e WHERE e.ended_at_ms >= :since_ms)"
)
_RECEIPT_COST_OF = """
SELECT r.workspace_id, r.id, r.cost_nusd, r.charge_credits,
  CASE WHEN sum(h.cost_nusd IS NULL AND c.cost_delta_nusd IS NULL) > 0 THEN NULL
    ELSE sum(coalesce(h.cost_nusd, 0) + coalesce(c.cost_delta_nusd, 0)) END,
  sum(h.charge_credits + coalesce(c.credits_delta, 0))
FROM receipt r JOIN hold h ON h.call_id = r.id AND h.workspace_id = r.workspace_id
LEFT JOIN correction c ON c.hold_id = h.id AND c.workspace_id = h.workspace_id
WHERE {r.seq} GROUP BY r.workspace_id, r.id HAVING sum(h.state = 'held') = 0
"""
_RECEIPT_COST, _RECENT_RECEIPT_COST = limited(_RECEIPT_COST_OF)
# An add-on that is paid and the entitlement that stands beside it, written together.
_ENTITLEMENTS = """
SELECT w.id AS workspace_id, w.entitlement, w.paid_until_ms, w.grace_until_ms,
  CASE a.state WHEN 'active' THEN 'active' WHEN 'cancelling' THEN 'cancelling'
    WHEN 'past_due' THEN 'grace' WHEN 'lapsed' THEN 'inactive' ELSE 'none' END,
  CASE WHEN a.state IN ('active', 'cancelling', 'past_due', 'lapsed') THEN a.paid_until_ms END,
  CASE WHEN a.state IN ('active', 'past_due') THEN a.grace_until_ms END
FROM workspace w LEFT JOIN addon a ON a.workspace_id = w.id
WHERE w.entitlement_by = 'payments' AND w.status <> 'deleted'
"""
# Whoever is entitled because of payments has paid: the period's invoice, or its entry in the ledger.
_UNPAID = """
SELECT a.workspace_id, a.state FROM addon a
WHERE a.rail = 'credits' AND a.state IN ('active', 'cancelling') AND NOT EXISTS (
  SELECT 1 FROM ledger_entry e WHERE e.workspace_id = a.workspace_id AND e.kind = 'addon'
    AND e.idem_key LIKE 'addon:' || a.workspace_id || ':%')
UNION ALL
SELECT a.workspace_id, a.state FROM addon a
WHERE a.rail = 'card' AND NOT EXISTS (
  SELECT 1 FROM payment_order o WHERE o.workspace_id = a.workspace_id AND o.subscription = a.subscription
    AND o.state = 'paid' AND o.purpose = 'addon' AND o.amount_cents = a.amount)
"""
_PAYMENTS = """
SELECT p.workspace_id, p.id, p.amount_cents, p.credits, o.amount_cents, o.credits, o.state,
  coalesce((SELECT sum(x.amount_credits) FROM ledger_entry e
    JOIN posting x ON x.entry_id = e.id AND x.workspace_id = e.workspace_id
    WHERE e.idem_key = 'checkout:' || p.id AND e.workspace_id = p.workspace_id), 0)
FROM payment p JOIN payment_order o ON o.id = p.order_id AND o.workspace_id = p.workspace_id
"""
_UNORDERED = """
SELECT e.workspace_id, e.id FROM ledger_entry e
WHERE (e.idem_key LIKE 'checkout:%' AND NOT EXISTS (
    SELECT 1 FROM payment p WHERE p.workspace_id = e.workspace_id AND 'checkout:' || p.id = e.idem_key))
  OR (e.kind IN ('refund', 'dispute_opened') AND NOT EXISTS (
    SELECT 1 FROM payment_loss l WHERE l.workspace_id = e.workspace_id AND l.credits > 0
      AND e.idem_key IN ('refund:' || l.id, 'dispute:' || l.id || ':opened')))
"""
# What was taken back: each loss with the credits that its entry moved.
_LOSSES = """
SELECT l.workspace_id, l.id, l.credits, coalesce((SELECT sum(x.amount_credits) FROM ledger_entry e
    JOIN posting x ON x.entry_id = e.id AND x.workspace_id = e.workspace_id
    WHERE e.workspace_id = l.workspace_id AND e.idem_key IN ('refund:' || l.id, 'dispute:' || l.id || ':opened')), 0)
FROM payment_loss l
"""
_FROZEN = """
WITH frozen AS (
  SELECT workspace_id,
    sum(CASE WHEN destination LIKE 'frozen:%' THEN amount_credits ELSE -amount_credits END) AS credits
  FROM posting WHERE destination LIKE 'frozen:%' OR source LIKE 'frozen:%' GROUP BY workspace_id),
open AS (
  SELECT workspace_id, sum(credits) AS credits FROM payment_loss
  WHERE kind = 'dispute' AND state = 'opened' GROUP BY workspace_id)
SELECT w.workspace_id, coalesce(f.credits, 0), coalesce(o.credits, 0) FROM wallet w
LEFT JOIN frozen f ON f.workspace_id = w.workspace_id LEFT JOIN open o ON o.workspace_id = w.workspace_id
WHERE coalesce(f.credits, 0) <> coalesce(o.credits, 0)
"""
_DEBTS = """
SELECT workspace_id, sum(CASE WHEN destination LIKE 'debt:%' THEN amount_credits ELSE -amount_credits END)
FROM posting WHERE destination LIKE 'debt:%' OR source LIKE 'debt:%' GROUP BY workspace_id
HAVING sum(CASE WHEN destination LIKE 'debt:%' THEN amount_credits ELSE -amount_credits END) > 0
"""
# A drift that nobody has accepted yet; and each reading beside the one before it in its series.
_KEY_DRIFT = """
SELECT workspace_id, id, off_nusd FROM key_reading WHERE verdict = 'drift' AND accepted_at_ms IS NULL
"""
_READINGS = """
SELECT workspace_id, id, grown_nusd, grown FROM (
  SELECT workspace_id, id, grown_nusd, since_ms, start, usage_nusd + byok_nusd
      - lag(usage_nusd + byok_nusd) OVER (PARTITION BY workspace_id, credential_id ORDER BY id) AS grown,
    lag(asked_ms) OVER (PARTITION BY workspace_id, credential_id ORDER BY id) AS before
  FROM key_reading)
WHERE start IS NULL AND (grown IS NOT grown_nusd OR before IS NOT since_ms)
"""
_AUDIT = """
SELECT workspace_id, n, at_ms, actor_kind, actor_id, action, target, before, after, prev, mac FROM audit
ORDER BY workspace_id, n
"""
_AUDIT_HEADS = "SELECT workspace_id, n, mac FROM audit_head"


def verify(conn: sqlite3.Connection, at_ms: int, audit_key: bytes) -> list[Finding]:
    """Every difference, with the ids of its rows; empty: clean."""
    findings: list[Finding] = []
    for check in (*_CHECKS, *_WHOLE_CHECKS):
        with snapshot(conn):
            findings += check(conn, at_ms)
    with snapshot(conn):
        findings += _check_audit(conn, audit_key)
    return findings


def verify_recent(conn: sqlite3.Connection, at_ms: int, audit_key: bytes, mark: Mark) -> list[Finding]:
    """What `verify` finds of calls and entries that were touched since the mark, and of everything that is not written
    once a call: caps, wallets, lots, the ledger's accounts, payments, the audit log. What has not been touched is not
    read again, so that drift in it is found by `verify` alone."""
    findings: list[Finding] = []
    for check in _CHECKS:
        with snapshot(conn):
            findings += check(conn, at_ms)
    for recent in _RECENT_CHECKS:
        with snapshot(conn):
            findings += recent(conn, mark)
    with snapshot(conn):
        findings += _check_receipts(conn, at_ms, _RECENT_NO_RECEIPT, mark)
    with snapshot(conn):
        findings += _check_audit(conn, audit_key)
    return findings


def check_chains(conn: sqlite3.Connection, audit_key: bytes) -> list[Finding]:
    """The audit chains alone, on the caller's snapshot."""
    return list(_check_audit(conn, audit_key))


def _check_periods(conn: sqlite3.Connection, at_ms: int) -> Iterator[Finding]:
    for workspace, period, spent, held, overage, *rows in conn.execute(_COUNTERS):
        for name, counter, expected in zip(
            ("spent_nusd", "held_nusd", "overage_nusd"), (spent, held, overage), rows, strict=True
        ):
            if counter != expected:
                yield Finding(f"cap_period.{name}", workspace, (str(period),), f"{counter}, by its holds {expected}")
    for workspace, period, holds in conn.execute(_NO_PERIOD):
        yield Finding("cap_period.missing", workspace, (str(period),), f"{holds} holds are of no period there is")
    for workspace, period, used, cap in conn.execute(_LAW):
        if used > cap:
            yield Finding("cap.law", workspace, (str(period),), f"spent and held {used}, the cap is {cap}")
    for workspace, period, state, spent, cap in conn.execute(_PAUSE):
        yield Finding("cap_period.state", workspace, (str(period),), f"{state} with {spent} of {cap} spent")
    for workspace, period, key in conn.execute(_GAPS):
        yield Finding("cap_period.overlap", workspace, (str(period),), f"{key} begins before its predecessor ends")


def _check_alerts(conn: sqlite3.Connection, at_ms: int) -> Iterator[Finding]:
    for workspace, period, threshold in conn.execute(_MISSING_ALERTS):
        yield Finding("alert.missing", workspace, (str(period),), f"{threshold}% was crossed without an alert")
    for workspace, period in conn.execute(_NO_ROOM_ALERTS):
        yield Finding("alert.missing", workspace, (str(period),), "paused for want of room without an alert")
    for workspace, period, version, threshold in conn.execute(_FALSE_ALERTS):
        yield Finding(
            "alert.false", workspace, (str(period), str(version)), f"{threshold}% was alerted but not crossed"
        )
    for workspace, period, version, threshold in conn.execute(_UNSENT_ALERTS):
        yield Finding(
            "alert.outbox", workspace, (str(period), str(version)), f"{threshold}% is due without its two messages"
        )


def _check_wallets(conn: sqlite3.Connection, at_ms: int) -> Iterator[Finding]:
    for workspace, balance, held, carry, lots, holds, replayed in conn.execute(_WALLET):
        for check, counter, expected in (
            ("L3.balance", balance, lots), ("L3.held", held, holds), ("L7.carry", carry, replayed),
        ):
            if counter != expected:
                yield Finding(check, workspace, (), f"{counter}, by its rows {expected}")
    for (workspace,) in conn.execute(_NO_WALLET):
        yield Finding("wallet.missing", workspace, (), "the workspace has no wallet")
    for workspace, lot, remaining, postings in conn.execute(_LOTS):
        if remaining != postings:
            yield Finding("L2.lot", workspace, (str(lot),), f"{remaining}, by its postings {postings}")
    for workspace, period, used, held, charged, holds in conn.execute(_KEY_LIMIT):
        if (used, held) != (charged, holds):
            yield Finding(
                "key_failure_limit", workspace, (period,), f"{used} used, {held} held; by holds {charged}, {holds}"
            )


def _check_accounts(conn: sqlite3.Connection, at_ms: int) -> Iterator[Finding]:
    for workspace, account, balance in conn.execute(_BELOW_ZERO):
        yield Finding("L4.below_zero", workspace, (account,), f"stands at {balance}")


def _check_entries(conn: sqlite3.Connection, mark: Mark) -> Iterator[Finding]:
    for workspace, entry, postings, least, foreign in conn.execute(_LEDGER_SHAPE, mark.values()):
        yield Finding(
            "L2.entry", workspace, (str(entry),), f"{postings} postings, least {least}, {foreign} of other workspaces"
        )
    for workspace, entry in conn.execute(_STRAY_CHARGES, mark.values()):
        yield Finding("L8.effect", workspace, (str(entry),), "a charge without a hold of credits")


def _check_holds(conn: sqlite3.Connection, at_ms: int) -> Iterator[Finding]:
    for workspace, hold, expires in conn.execute(_OPEN_PAST_EXPIRY, (at_ms - EXPIRY_GRACE_MS,)):
        yield Finding("hold.open", workspace, (hold,), f"still held, expired at {expires}")
    for workspace, hold in conn.execute(_CORRECTIONS):
        yield Finding("correction.range", workspace, (hold,), "moves spend outside 0 to the hold, or has none")
    for workspace, hold, state in conn.execute(_LATE_COSTS):
        yield Finding("late_cost.state", workspace, (hold,), f"{state}, which its hold and correction do not show")


def _check_calls(conn: sqlite3.Connection, at_ms: int) -> Iterator[Finding]:
    yield from _check_receipts(conn, at_ms, _NO_RECEIPT, ANYTHING)
    yield from _compare_calls(conn, _CHARGES, _ALWAYS, _RECEIPT_COST, ANYTHING)
    yield from _check_entries(conn, ANYTHING)


def _check_recent_calls(conn: sqlite3.Connection, mark: Mark) -> Iterator[Finding]:
    yield from _compare_calls(conn, _RECENT_CHARGES, _RECENT_ALWAYS, _RECENT_RECEIPT_COST, mark)
    yield from _check_entries(conn, mark)


def _check_receipts(conn: sqlite3.Connection, at_ms: int, missing: str, mark: Mark) -> Iterator[Finding]:
    """Every call that is over has its receipt."""
    for workspace, call in conn.execute(missing, {**mark.values(), "open_ms": at_ms - EXPIRY_GRACE_MS}):
        yield Finding("receipt.missing", workspace, (call,), "its holds ended without a receipt")


def _compare_calls(
    conn: sqlite3.Connection, charges: str, always: str, receipt_cost: str, mark: Mark
) -> Iterator[Finding]:
    """Each call by itself: its charge, its switch, its receipt."""
    for workspace, hold, charged, bound, posted in conn.execute(charges, mark.values()):
        if charged != posted:
            yield Finding("L5.charge", workspace, (hold,), f"{charged} charged, {posted} posted")
        if charged > bound:
            yield Finding("L5.bound", workspace, (hold,), f"{charged} charged, {bound} held")
    for workspace, hold in conn.execute(always, mark.values()):
        yield Finding("L6.always", workspace, (hold,), "took credits while Always use this key was on")
    for workspace, receipt, cost, credits, holds_cost, holds_credits in conn.execute(receipt_cost, mark.values()):
        if cost != holds_cost:
            yield Finding("receipt.cost", workspace, (receipt,), f"{cost}, by its holds {holds_cost}")
        if credits != holds_credits:
            yield Finding("receipt.charge", workspace, (receipt,), f"{credits}, by its holds {holds_credits}")


def _check_payments(conn: sqlite3.Connection, at_ms: int) -> Iterator[Finding]:
    for workspace, state, paid, grace, *wanted in conn.execute(_ENTITLEMENTS):
        if [state, paid, grace] != wanted:
            yield Finding("entitlement", workspace, (), f"{[state, paid, grace]}, by its payments {wanted}")
    for workspace, state in conn.execute(_UNPAID):
        yield Finding("addon.unpaid", workspace, (), f"{state} without a payment")
    for workspace, payment, cents, credits, ordered, ordered_credits, state, posted in conn.execute(_PAYMENTS):
        if (cents, credits, state, posted) != (ordered, ordered_credits, "paid", credits):
            yield Finding("payment.order", workspace, (payment,), f"{cents} cents for {posted} credits, ordered "
                          f"{ordered} for {ordered_credits}, {state}")
    for workspace, entry in conn.execute(_UNORDERED):
        yield Finding("L8.payment", workspace, (str(entry),), "moves credits without its payment")
    for workspace, loss, credits, posted in conn.execute(_LOSSES):
        if credits != posted:
            yield Finding("payment_loss", workspace, (loss,), f"{credits} credits, by its entry {posted}")
    for workspace, frozen, disputed in conn.execute(_FROZEN):
        yield Finding("frozen", workspace, (), f"{frozen}, by open disputes {disputed}")
    for workspace, debt in conn.execute(_DEBTS):
        yield Finding("debt", workspace, (), f"repaid {debt} more than was owed")


def _check_readings(conn: sqlite3.Connection, at_ms: int) -> Iterator[Finding]:
    for workspace, reading, off in conn.execute(_KEY_DRIFT):
        yield Finding(
            "key.drift", workspace, (str(reading),), f"{off} nano-USD are booked that OpenRouter's figure lacks"
        )
    for workspace, reading, grown, expected in conn.execute(_READINGS):
        yield Finding("key.reading", workspace, (str(reading),), f"grown by {grown}, by the readings {expected}")


def _check_audit(conn: sqlite3.Connection, key: bytes) -> Iterator[Finding]:
    """Each chain from its first row to its head."""
    ends: dict[str, tuple[int, bytes]] = {}
    for *fields, prev, mac in conn.execute(_AUDIT):
        chain, n = fields[0], fields[1]
        last_n, last_mac = ends.get(chain, (0, b""))
        if n != last_n + 1 or prev != last_mac or mac != compute_mac(key, last_mac, fields):
            yield Finding("audit.chain", chain or None, (str(n),), "the chain is broken here")
        ends[chain] = (n, mac)
    heads = {chain: (n, mac) for chain, n, mac in conn.execute(_AUDIT_HEADS)}
    for chain in ends.keys() | heads.keys():
        if ends.get(chain) != heads.get(chain):
            yield Finding("audit.head", chain or None, (), "the chain ends elsewhere than its head says")


EXPIRY_GRACE_MS = 60_000
"""The job that expires holds runs every few seconds; this long after expiry a hold counts as forgotten."""

_CHECKS: tuple[Check, ...] = (
    _check_periods, _check_alerts, _check_wallets, _check_accounts, _check_holds, _check_payments, _check_readings,
)
_WHOLE_CHECKS: tuple[Check, ...] = (_check_calls, check_figures, check_statement)
_RECENT_CHECKS: tuple[Callable[[sqlite3.Connection, Mark], Iterator[Finding]], ...] = (
    _check_recent_calls, check_recent_figures, check_recent_statement,
)
