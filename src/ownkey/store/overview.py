"""What operators read of all workspaces at once: lists, counts, finds and the audit log. Nothing here writes.

These statements name no workspace on purpose: they are the operators' view, and no door of a tenant leads here.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import msgspec

from ownkey.domain.activity import MARK, day_number, mark, model_slug
from ownkey.domain.overview import (
    AuditLine,
    AuditQuery,
    CallPage,
    CallQuery,
    ChainsState,
    Counts,
    DayLine,
    FoundCall,
    Hit,
    OverageFlag,
    PlanUse,
    PriceSource,
    WorkspaceLine,
    WorkspaceQuery,
)
from ownkey.domain.records import Finding
from ownkey.store.connection import Connection
from ownkey.store.figures import FiguresPart
from ownkey.store.totals import PLACE_BITS, ms_of
from ownkey.store.verify import check_chains

SPAN = 100_000
"""How many calls one page looks through at most: a rare filter goes on with the next page."""

_END = (1 << 63) - 1

# What the list, the counts and the links between them mean by each word.
_PAUSED = "SELECT workspace_id FROM cap_period WHERE state = 'paused' AND ends_at_ms > :now"
_UNHEALTHY = """
SELECT workspace_id FROM credential
WHERE status = 'enabled' AND undecryptable = 0 AND health IN ('rejected', 'no_funds')
"""
_UNDECRYPTABLE = "SELECT workspace_id FROM credential WHERE undecryptable = 1"
_PAST_DUE = "(w.entitlement = 'grace' OR (w.entitlement = 'active' AND w.paid_until_ms <= :now))"

_COUNTS = """
SELECT count(*), coalesce(sum(w.id IN ({paused})), 0), coalesce(sum(w.status = 'suspended'), 0),
  coalesce(sum(w.id IN ({unhealthy})), 0), coalesce(sum(w.id IN ({undecryptable})), 0),
  coalesce(sum(coalesce({past_due}, 0)), 0)
FROM workspace w WHERE w.kind = 'tenant' AND w.status <> 'deleted'
""".replace("{paused}", _PAUSED).replace("{unhealthy}", _UNHEALTHY).replace(
    "{undecryptable}", _UNDECRYPTABLE).replace("{past_due}", _PAST_DUE)
_EXPIRED = "SELECT count(*) FROM hold WHERE state = 'expired' AND ended_at_ms >= ?"
_SERVICE_TOKENS = """
SELECT count(*) FROM access_token WHERE workspace_id = '' AND kind = 'service' AND revoked_at_ms IS NULL
  AND (expires_at_ms IS NULL OR expires_at_ms > ?)
"""
# Day by day of each workspace's own calendar: an index look-up a workspace, however many calls there are.
_TODAY = """
SELECT t.funding, t.outcome, sum(t.calls), sum(t.cost_nusd), sum(t.charge_credits)
FROM workspace w CROSS JOIN task_day t ON t.workspace_id = w.id AND t.day = ?
WHERE w.status <> 'deleted' GROUP BY t.funding, t.outcome ORDER BY t.funding, t.outcome
"""
_WORKSPACES = """
SELECT w.id, w.external_id, w.name, w.plan, w.status, w.entitlement, w.id IN ({paused}),
  (SELECT count(*) FROM credential c WHERE c.workspace_id = w.id AND c.status = 'enabled' AND c.undecryptable = 0
    AND c.health IN ('rejected', 'no_funds')),
  (SELECT count(*) FROM credential c WHERE c.workspace_id = w.id AND c.undecryptable = 1),
  coalesce((SELECT p.spent_nusd FROM cap_period p WHERE p.workspace_id = w.id AND p.ends_at_ms > :now
    ORDER BY p.period_key DESC LIMIT 1), 0),
  (SELECT v.cap_nusd FROM cap_version v WHERE v.workspace_id = w.id ORDER BY v.version DESC LIMIT 1),
  (SELECT max(a.place) FROM activity a WHERE a.workspace_id = w.id),
  (SELECT group_concat(c.hint, '{mark}') FROM credential c WHERE c.workspace_id = w.id)
FROM workspace w
WHERE w.kind = 'tenant' AND w.status <> 'deleted' AND w.id > :after
  AND (:text = '' OR w.name LIKE :like ESCAPE '\\' OR w.external_id LIKE :like ESCAPE '\\'
    OR w.id LIKE :like ESCAPE '\\')
  AND (:plan = '' OR w.plan = :plan)
  AND CASE :trouble WHEN '' THEN 1 WHEN 'paused' THEN w.id IN ({paused}) WHEN 'suspended' THEN w.status = 'suspended'
    WHEN 'unhealthy' THEN w.id IN ({unhealthy}) WHEN 'undecryptable' THEN w.id IN ({undecryptable})
    ELSE {past_due} END
ORDER BY w.id LIMIT :limit
""".replace("{paused}", _PAUSED).replace("{unhealthy}", _UNHEALTHY).replace(
    "{undecryptable}", _UNDECRYPTABLE).replace("{past_due}", _PAST_DUE).replace("{mark}", MARK)
_PLANS = """
SELECT plan, entitlement, count(*) FROM workspace WHERE kind = 'tenant' AND status <> 'deleted'
GROUP BY plan, entitlement ORDER BY plan, entitlement
"""
_KEYRING = "SELECT kek_id, count(*) FROM dek GROUP BY kek_id ORDER BY kek_id"

# Although a key of the workspace was saved before, is enabled now and had no open incident when the call came.
_HEALTHY = """
EXISTS (
  SELECT 1 FROM credential c WHERE c.workspace_id = a.workspace_id AND c.status = 'enabled' AND c.undecryptable = 0
    AND c.created_at_ms <= r.at_ms AND NOT EXISTS (
      SELECT 1 FROM incident i WHERE i.workspace_id = c.workspace_id AND i.credential_id = c.id
        AND i.opened_at_ms <= r.at_ms AND (i.closed_at_ms IS NULL OR i.closed_at_ms > r.at_ms)))
"""
_CALLS = """
SELECT a.seq, a.workspace_id, coalesce(w.name, ''), r.doc
FROM activity a CROSS JOIN shape s ON s.id = a.shape CROSS JOIN receipt r ON r.seq = a.seq
LEFT JOIN workspace w ON w.id = a.workspace_id
WHERE a.seq < :before AND a.seq >= :floor AND (:workspace IS NULL OR a.workspace_id = :workspace)
  AND (:task IS NULL OR s.task = :task) AND (:provider IS NULL OR s.provider = :provider)
  AND (:funding IS NULL OR s.funding = :funding) AND (:outcome IS NULL OR s.outcome = :outcome)
  AND (:code IS NULL OR s.code = :code) AND (:model IS NULL OR instr(s.models, :model) > 0)
  AND a.place >= :since AND a.place < :until
  AND (:healthy = 0 OR s.funding = 'credits') AND (:healthy = 0 OR {healthy})
ORDER BY a.seq DESC LIMIT :limit
""".replace("{healthy}", _HEALTHY)
_AROUND = """
SELECT a.seq, a.workspace_id, w.name, r.doc
FROM activity a INDEXED BY activity_time CROSS JOIN receipt r ON r.seq = a.seq JOIN workspace w ON w.id = a.workspace_id
WHERE a.workspace_id = :workspace AND a.place >= :since AND a.place < :until ORDER BY a.place DESC LIMIT :limit
"""
# Two look-ups at the ends of the table: asked for together they would read all of it.
_ENDS = """
SELECT coalesce((SELECT min(seq) FROM activity), 0), coalesce((SELECT max(seq) FROM activity), 0)
"""
_PLACE_AT = "SELECT place FROM activity WHERE seq >= ? ORDER BY seq LIMIT 1"
_UNPRICED = """
SELECT DISTINCT s.models FROM shape s WHERE s.code = 'unpriced_model'
  AND EXISTS (SELECT 1 FROM activity a WHERE a.shape = s.id AND a.place >= ?) LIMIT 500
"""
_FLAGS = "SELECT provider, model, price_version, at_ms FROM overage_flag ORDER BY at_ms DESC LIMIT 200"
_PRICE_VERSIONS = "SELECT id, created_by, created_at_ms FROM price_version ORDER BY id DESC LIMIT ?"

_AUDIT = """
SELECT t.seq, t.workspace_id, coalesce(w.name, ''), t.n, t.at_ms, t.actor_kind, t.actor_id, t.action, t.target,
  t.before, t.after
FROM audit t LEFT JOIN workspace w ON w.id = t.workspace_id
WHERE t.seq < :before AND (:workspace IS NULL OR t.workspace_id = :workspace)
  AND (:action = '' OR t.action LIKE :action ESCAPE '\\') AND (:actor = '' OR t.actor_id = :actor)
ORDER BY t.seq DESC LIMIT :limit
"""
_CHAINS = "SELECT count(*), coalesce(sum(n), 0) FROM audit_head"
_OWN_HEAD = "SELECT mac FROM audit_head WHERE workspace_id = ''"

_OF_RECEIPT = """
SELECT r.id, r.workspace_id, coalesce(w.name, '') FROM receipt r LEFT JOIN workspace w ON w.id = r.workspace_id
WHERE r.id = ?
"""
_OF_CALL = """
SELECT h.call_id, h.workspace_id, w.name FROM hold h JOIN workspace w ON w.id = h.workspace_id
WHERE h.call_id = ? LIMIT 1
"""
_OF_HINT = """
SELECT c.provider, c.hint, c.workspace_id, w.name FROM credential c JOIN workspace w ON w.id = c.workspace_id
WHERE substr(c.hint, -4) = ? AND instr(c.hint, '…') > 0 AND w.kind = 'tenant' AND w.status <> 'deleted'
ORDER BY w.id LIMIT 50
"""
_OF_PAYMENT = """
SELECT w.id, w.name FROM workspace w WHERE w.kind = 'tenant' AND w.status <> 'deleted' AND w.id IN (
  SELECT workspace_id FROM addon WHERE subscription = :ident OR customer = :ident
  UNION SELECT workspace_id FROM payment_order
    WHERE subscription = :ident OR checkout = :ident OR payment_intent = :ident
) ORDER BY w.id LIMIT 50
"""


def like(text: str) -> str:
    """A part of a text for LIKE, with its wildcards taken by the letter."""
    return "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def find_workspaces(conn: sqlite3.Connection, query: WorkspaceQuery, now_ms: int) -> list[WorkspaceLine]:
    rows = conn.execute(_WORKSPACES, {
        "now": now_ms, "after": query.after, "text": query.text, "like": like(query.text), "plan": query.plan,
        "trouble": query.trouble, "limit": max(0, min(query.limit, 500)),
    }).fetchall()
    return [
        WorkspaceLine(
            ident, external, name, plan, status, entitlement, bool(paused), unhealthy, undecryptable, spent, cap,
            None if last is None else ms_of(last), tuple(hints.split(MARK)) if hints else (),
        )
        for ident, external, name, plan, status, entitlement, paused, unhealthy, undecryptable, spent, cap, last, hints
        in rows
    ]


def _place(at_ms: int) -> int:
    """Where calls of a moment begin to stand; one that no call can have, however far off, is at either end."""
    return min(_END, max(0, at_ms) << PLACE_BITS)


def find_calls(conn: sqlite3.Connection, query: CallQuery, before: int | None, limit: int) -> CallPage:
    least, newest = conn.execute(_ENDS).fetchone()
    top = newest + 1 if before is None else min(before, newest + 1)
    floor = max(least, top - SPAN)
    rows = conn.execute(_CALLS, {
        "before": top, "floor": floor, "workspace": query.workspace_id, "task": query.task,
        "provider": query.provider, "funding": query.funding, "outcome": query.outcome, "code": query.code,
        "model": None if query.model is None else mark(model_slug(query.model)),
        "since": 0 if query.since_ms is None else _place(query.since_ms),
        "until": _END if query.until_ms is None else _place(query.until_ms),
        "healthy": query.healthy_key, "limit": limit + 1,
    }).fetchall()
    calls = tuple(FoundCall(seq, whose, name, msgspec.json.decode(doc)) for seq, whose, name, doc in rows[:limit])
    if len(rows) > limit:
        return CallPage(calls, calls[-1].seq, None, newest)
    if floor > least:
        (place,) = conn.execute(_PLACE_AT, (floor,)).fetchone()
        return CallPage(calls, floor, ms_of(place), newest)
    return CallPage(calls, None, None, newest)


def find_audit(conn: sqlite3.Connection, query: AuditQuery) -> list[AuditLine]:
    rows = conn.execute(_AUDIT, {
        "before": _END if query.before is None else query.before, "workspace": query.workspace_id,
        "action": like(query.action)[1:] if query.action else "", "actor": query.actor,
        "limit": max(0, min(query.limit, 1_000)),
    }).fetchall()
    return [
        AuditLine(seq, whose, name, n, at_ms, kind, actor, action, target, _json(before), _json(after))
        for seq, whose, name, n, at_ms, kind, actor, action, target, before, after in rows
    ]


def find_anything(conn: sqlite3.Connection, text: str, last4: str) -> list[Hit]:
    """Everything that goes by this name exactly, and workspaces that have it as a part of theirs."""
    found: list[Hit] = []
    receipt = _whose_call(conn, text)
    if receipt is not None:
        found.append(Hit("receipt", receipt[0], receipt[1], receipt[2], receipt[0]))
    found += [Hit("subscription", text, whose, name, text) for whose, name in
              conn.execute(_OF_PAYMENT, {"ident": text}).fetchall()]
    if last4:
        found += [Hit("key", provider, whose, name, hint) for provider, hint, whose, name in
                  conn.execute(_OF_HINT, (last4,)).fetchall()]
    found += [
        Hit("workspace", line.id, line.id, line.name, line.external_id)
        for line in find_workspaces(conn, WorkspaceQuery(text=text, limit=50), 0)
    ]
    return found


def _whose_call(conn: sqlite3.Connection, ident: str) -> tuple[str, str, str] | None:
    """(id, workspace, its name) of a receipt, or of a call that still runs."""
    found: tuple[str, str, str] | None = (
        conn.execute(_OF_RECEIPT, (ident,)).fetchone() or conn.execute(_OF_CALL, (ident,)).fetchone()
    )
    return found


def _json(text: str | None) -> Mapping[str, Any] | None:
    return None if text is None else msgspec.json.decode(text)


class OverviewPart(FiguresPart):
    """Satisfies the ports of `control.overview`."""

    _writing: Connection

    async def load_counts(self, now_ms: int, expired_since_ms: int) -> Counts:
        def query(conn: sqlite3.Connection) -> Counts:
            every, paused, suspended, unhealthy, undecryptable, due = conn.execute(_COUNTS, {"now": now_ms}).fetchone()
            (expired,) = conn.execute(_EXPIRED, (expired_since_ms,)).fetchone()
            (tokens,) = conn.execute(_SERVICE_TOKENS, (now_ms,)).fetchone()
            return Counts(every, paused, suspended, unhealthy, undecryptable, due, expired, tokens)

        return await self._see(query)

    async def load_today(self, day: date) -> Sequence[DayLine]:
        rows = await self._see(lambda conn: conn.execute(_TODAY, (day_number(day),)).fetchall())
        return [DayLine(*row) for row in rows]

    async def load_plan_uses(self) -> Sequence[PlanUse]:
        return [PlanUse(*row) for row in await self._see(lambda conn: conn.execute(_PLANS).fetchall())]

    async def load_keyring(self) -> Mapping[str, int]:
        return dict(await self._see(lambda conn: conn.execute(_KEYRING).fetchall()))

    async def load_workspace_lines(self, query: WorkspaceQuery, now_ms: int) -> Sequence[WorkspaceLine]:
        return await self._see(lambda conn: find_workspaces(conn, query, now_ms))

    async def load_calls(self, query: CallQuery, before: int | None, *, limit: int) -> CallPage:
        return await self._see(lambda conn: find_calls(conn, query, before, max(1, min(limit, 500))))

    async def load_calls_around(
        self, workspace_id: str, since_ms: int, until_ms: int, *, limit: int
    ) -> Sequence[FoundCall]:
        values = {"workspace": workspace_id, "since": _place(since_ms), "until": _place(until_ms), "limit": limit}
        rows = await self._see(lambda conn: conn.execute(_AROUND, values).fetchall())
        return [FoundCall(seq, whose, name, msgspec.json.decode(doc)) for seq, whose, name, doc in rows]

    async def search(self, text: str, last4: str) -> Sequence[Hit]:
        return await self._see(lambda conn: find_anything(conn, text, last4))

    async def find_owner(self, receipt_id: str) -> str | None:
        def query(conn: sqlite3.Connection) -> str | None:
            row = _whose_call(conn, receipt_id)
            return None if row is None else str(row[1])

        return await self._see(query)

    async def load_audit_lines(self, query: AuditQuery) -> Sequence[AuditLine]:
        return await self._see(lambda conn: find_audit(conn, query))

    async def load_chains(self) -> ChainsState:
        def query(conn: sqlite3.Connection) -> ChainsState:
            chains, rows = conn.execute(_CHAINS).fetchone()
            head = conn.execute(_OWN_HEAD).fetchone()
            return ChainsState(chains, rows, "" if head is None else head[0].hex())

        return await self._see(query)

    async def verify_chains(self) -> Sequence[Finding]:
        key = self._writing.audit_key
        return await self._see(lambda conn: check_chains(conn, key))

    async def load_price_versions(self, *, limit: int) -> Sequence[PriceSource]:
        rows = await self._see(lambda conn: conn.execute(_PRICE_VERSIONS, (limit,)).fetchall())
        return [PriceSource(*row) for row in rows]

    async def load_overage_flags(self) -> Sequence[OverageFlag]:
        return [OverageFlag(*row) for row in await self._see(lambda conn: conn.execute(_FLAGS).fetchall())]

    async def load_unpriced(self, since_ms: int) -> Sequence[str]:
        rows = await self._see(lambda conn: conn.execute(_UNPRICED, (since_ms << PLACE_BITS,)).fetchall())
        return sorted({name for (models,) in rows for name in models.split(MARK) if name})
