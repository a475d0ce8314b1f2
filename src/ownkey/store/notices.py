"""Notices as rows, written where the books change: one e-mail row and one event row, once, in that transaction.

The words are made when a row is sent; what is written here is what was so at the time.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from ownkey.domain.notices import Kind, PayerFacts
from ownkey.domain.phrases import as_plain
from ownkey.domain.records import Actor

_INSERT = """
INSERT INTO outbox(workspace_id, dedupe_key, channel, kind, payload, next_at_ms, created_at_ms, since_ms, grp)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_STANDING = """
SELECT w.entitlement, w.grace_until_ms, w.always_use_key, w.credits_if_key_fails, w.on_direct_auth_failure, w.plan,
  w.settings_version, w.credits_if_key_fails_limit,
  (SELECT CASE WHEN c.undecryptable THEN 'undecryptable' ELSE c.status END FROM credential c
   WHERE c.workspace_id = w.id AND c.provider = 'openrouter'),
  m.credits, coalesce(b.balance_credits, 0), w.paid_until_ms, w.kind = 'platform'
FROM workspace w LEFT JOIN plan_minimum m ON m.plan = w.plan LEFT JOIN wallet b ON b.workspace_id = w.id
WHERE w.id = ?
"""
_FAILING = """
SELECT c.id, c.hint, c.label, c.health, c.health_at_ms, c.undecryptable,
  (SELECT i.opened_at_ms FROM incident i
   WHERE i.workspace_id = c.workspace_id AND i.credential_id = c.id AND i.closed_at_ms IS NULL)
FROM credential c WHERE c.workspace_id = ? AND c.provider = 'openrouter'
"""
_GRACE = """
SELECT id, plan, grace_until_ms FROM workspace
WHERE entitlement = 'grace' AND status <> 'deleted' AND grace_until_ms IS NOT NULL AND grace_until_ms <= ?
  AND (grace_until_ms > ? OR entitlement_by <> 'payments')
  AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.workspace_id = workspace.id AND o.dedupe_key =
    'grace:' || workspace.id || ':' || grace_until_ms
      || CASE WHEN grace_until_ms <= ? THEN ':ended:event' ELSE ':ending:event' END)
ORDER BY grace_until_ms LIMIT ?
"""

_TOLD = "SELECT 1 FROM outbox WHERE workspace_id = ? AND kind = ? AND created_at_ms = ? LIMIT 1"
_PAYING = """
SELECT id FROM workspace
WHERE plan = ? AND entitlement IN ('active', 'cancelling', 'grace') AND status <> 'deleted' AND kind = 'tenant'
"""

_ENTITLED = frozenset({"included", "active", "cancelling", "grace"})
_PAID = frozenset({"active", "cancelling", "grace"})
DAY_MS = 86_400_000


@lru_cache(maxsize=4_096)
def utc_text(at_ms: int) -> str:
    """1_764_547_200_000 → "2025-12-01T00:00:00Z"."""
    return datetime.fromtimestamp(at_ms // 1_000, UTC).isoformat().replace("+00:00", "Z")


def announce(
    conn: sqlite3.Connection, workspace_id: str, key: str, kind: str, payload: Mapping[str, Any], at_ms: int, *,
    group: str = "",
) -> None:
    """One e-mail row and one event row. `key` makes them unique for ever; recipients are found when sending.

    Rows of one `group` leave in the order in which they were written.
    """
    for channel in ("email", "event"):
        _queue(conn, workspace_id, key, channel, kind, payload, at_ms, group)


def announce_to_host(
    conn: sqlite3.Connection, workspace_id: str, key: str, kind: str, payload: Mapping[str, Any], at_ms: int
) -> None:
    """One event row and no e-mail: what operators have to look at, and nobody in the workspace can mend."""
    _queue(conn, workspace_id, key, "event", kind, payload, at_ms, "")


def _queue(
    conn: sqlite3.Connection, workspace_id: str, key: str, channel: str, kind: str, payload: Mapping[str, Any],
    at_ms: int, group: str,
) -> None:
    conn.execute(_INSERT, (
        workspace_id, f"{key}:{channel}", channel, kind, msgspec.json.encode(payload, enc_hook=as_plain).decode(),
        at_ms, at_ms, at_ms, group,
    ))


@dataclass(frozen=True, slots=True)
class Standing:
    """What a change of settings finds, and what it leaves."""

    facts: PayerFacts
    entitlement: str
    grace_until_ms: int | None
    on_direct_auth_failure: str
    plan: str
    version: int
    limit_credits: int | None
    minimum_credits: int | None
    balance_credits: int
    paid_until_ms: int | None
    is_platform: bool = False

    @property
    def minimum_matters(self) -> bool:
        """Whether calls would go by the workspace's own key, under an add-on, so that a minimum balance can stop
        them."""
        return self.entitlement in _PAID and (self.facts.always or self.facts.key == "enabled")

    @property
    def minimum_missed(self) -> bool:
        """Whether calls with the workspace's own key are refused for want of credits."""
        return (
            self.minimum_matters and self.minimum_credits is not None and self.balance_credits < self.minimum_credits
        )


def load_standing(conn: sqlite3.Connection, workspace_id: str, at_ms: int) -> Standing | None:
    """As of `at_ms`: days of grace that are over leave nothing."""
    row = conn.execute(_STANDING, (workspace_id,)).fetchone()
    if row is None:
        return None
    entitlement, grace, always, if_fails, on_auth, plan, version, limit, key, minimum, balance, paid, platform = row
    over = entitlement == "grace" and grace is not None and at_ms >= grace
    return Standing(
        PayerFacts(key or "missing", entitlement in _ENTITLED and not over, bool(always), bool(if_fails)),
        "none" if over else entitlement, grace, on_auth, plan, version, limit, minimum, balance, paid,
        bool(platform),
    )


def payer_terms(conn: sqlite3.Connection, workspace_id: str, at_ms: int) -> dict[str, Any]:
    """The switches that say what calls do while a key fails, for a notice about it."""
    found = load_standing(conn, workspace_id, at_ms)
    if found is None:
        return {}
    return {
        "always": found.facts.always, "credits_if_key_fails": found.facts.credits_if_key_fails,
        "on_direct_auth_failure": found.on_direct_auth_failure,
    }


def announce_change(
    conn: sqlite3.Connection, workspace_id: str, before: Standing | None, changes: Sequence[Mapping[str, Any]],
    at_ms: int, actor: Actor,
) -> None:
    """A key or switch was changed: one notice, which says whether calls have another payer now.

    Call it after the change and after the settings version has been counted up: the version names the change. What
    is deleted is announced by nobody: a workspace that is gone has no members to tell. The platform's own keys are
    the operators' business: they are in the audit log, and no customer of the host's has changed anything.
    """
    after = load_standing(conn, workspace_id, at_ms)
    if before is None or after is None or after.is_platform:
        return
    key = f"change:{workspace_id}:{after.version}"
    if changes:
        kind = Kind.SETTINGS_CHANGED if before.facts.payer == after.facts.payer else Kind.PAYER_CHANGED
        provider = next((change["provider"] for change in changes if "provider" in change), "openrouter")
        announce(conn, workspace_id, key, kind, {
            "workspace_id": workspace_id, "provider": provider, "changes": list(changes),
            "by": f"{actor.kind}:{actor.id}", "payer_before": before.facts.payer, "payer_after": after.facts.payer,
            "at": utc_text(at_ms),
        }, at_ms)
    if after.entitlement != before.entitlement:
        _announce_entitlement(conn, workspace_id, key, before, after, at_ms)
    announce_minimum(conn, workspace_id, key, before, after, at_ms)


def announce_minimum(
    conn: sqlite3.Connection, workspace_id: str, key: str, before: Standing, after: Standing, at_ms: int
) -> None:
    """The minimum balance begins to stop calls, or stops no more, because the rules have changed. Where the balance
    itself has crossed in the same transaction, that was said already."""
    if before.minimum_missed == after.minimum_missed or (before.minimum_missed and not after.minimum_matters):
        return
    kind = Kind.BALANCE_LOW if after.minimum_missed else Kind.BALANCE_RESTORED
    if not conn.execute(_TOLD, (workspace_id, kind, at_ms)).fetchone():
        announce(conn, workspace_id, f"{key}:{kind}", kind, _balance(workspace_id, after, at_ms), at_ms,
                 group="balance")


def load_standings(
    conn: sqlite3.Connection, plans: Sequence[str], at_ms: int
) -> dict[str, Standing]:
    """Of every workspace that pays for the add-on on one of these plans, by id."""
    found = {
        workspace_id: load_standing(conn, workspace_id, at_ms)
        for plan in plans for (workspace_id,) in conn.execute(_PAYING, (plan,)).fetchall()
    }
    return {workspace_id: standing for workspace_id, standing in found.items() if standing is not None}


def _balance(workspace_id: str, standing: Standing, at_ms: int) -> dict[str, Any]:
    return {
        "workspace_id": workspace_id, "balance_credits": standing.balance_credits,
        "minimum_credits": standing.minimum_credits or 0, "at": utc_text(at_ms),
    }


def _announce_entitlement(
    conn: sqlite3.Connection, workspace_id: str, key: str, before: Standing, after: Standing, at_ms: int
) -> None:
    kind = {
        "included": Kind.ADDON_INCLUDED, "active": Kind.ADDON_ACTIVE, "cancelling": Kind.ADDON_CANCELLED,
        "inactive": Kind.ADDON_INACTIVE, "none": Kind.ADDON_ENDED,
        "grace": Kind.ADDON_PAYMENT_FAILED if before.entitlement in ("active", "cancelling") else Kind.ADDON_GRACE,
    }[after.entitlement]
    until = {"grace": after.grace_until_ms, "cancelling": after.paid_until_ms}.get(after.entitlement)
    announce(conn, workspace_id, f"{key}:entitlement", kind, {
        "workspace_id": workspace_id, "plan": after.plan, "entitlement_before": before.entitlement,
        "entitlement": after.entitlement, "until": None if until is None else utc_text(until),
        "payer_after": after.facts.payer, "at": utc_text(at_ms),
    }, at_ms, group="addon")


def announce_grace(conn: sqlite3.Connection, at_ms: int, limit: int) -> int:
    """A job: 24 hours before grace ends, and when it has ended. Where payments set it, they write that it is over,
    and what is written is told then. Returns the notices."""
    rows = conn.execute(_GRACE, (at_ms + DAY_MS, at_ms, at_ms, limit)).fetchall()
    for workspace_id, plan, until in rows:
        ended = until <= at_ms
        after = load_standing(conn, workspace_id, at_ms)
        assert after is not None
        announce(
            conn, workspace_id, f"grace:{workspace_id}:{until}:{'ended' if ended else 'ending'}",
            Kind.ADDON_ENDED if ended else Kind.ADDON_GRACE_ENDING, {
                "workspace_id": workspace_id, "plan": plan, "entitlement_before": "grace",
                "entitlement": after.entitlement, "until": utc_text(until), "payer_after": after.facts.payer,
                "at": utc_text(at_ms),
            }, at_ms, group="addon",
        )
    return len(rows)


def announce_step_in(
    conn: sqlite3.Connection, workspace_id: str, limit_credits: int | None, call: str, at_ms: int
) -> None:
    """Credits pay for `call` because the workspace's own key fails: said once an incident.

    An incident opens when the failure is confirmed, which may be after the first such call: what names it is the
    credential and since when it fails, and both are the same before and after.
    """
    found = conn.execute(_FAILING, (workspace_id,)).fetchone()
    if found is None:
        return
    credential_id, hint, label, health, health_at_ms, undecryptable, opened_at_ms = found
    since_ms = health_at_ms if opened_at_ms is None else opened_at_ms
    announce(conn, workspace_id, f"step_in:{workspace_id}:{credential_id}:{since_ms}", Kind.CREDITS_STEP_IN, {
        "workspace_id": workspace_id, "provider": "openrouter", "hint": hint, "label": label,
        "cause": "undecryptable" if undecryptable else health, "since": utc_text(since_ms or at_ms),
        "limit_credits": limit_credits, "call": call, "at": utc_text(at_ms),
    }, at_ms, group=f"key:{credential_id}")
