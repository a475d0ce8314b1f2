"""What a dead process left behind: its holds expire, and its calls get the receipts that they could not write."""

from typing import Any

import msgspec

from ownkey.domain.receipts import PROCESS_STOPPED, Basis
from ownkey.domain.refusals import Code
from ownkey.store.connection import Connection
from ownkey.store.ends import expire_hold
from ownkey.store.receipt_rows import funding_of, save_interrupted
from ownkey.store.totals import settle_totals

_OPEN_CALLS = """
SELECT workspace_id, call_id, max(CASE WHEN attempt = 1 THEN context END), min(created_at_ms) FROM hold
WHERE context IS NOT NULL AND expires_at_ms <= ? GROUP BY workspace_id, call_id LIMIT ?
"""
_HELD = """
SELECT id, low_cost_nusd, delivered_bytes FROM hold WHERE call_id = ? AND workspace_id = ? AND state = 'held'
"""
_HOLDS = """
SELECT id, attempt, funding, bound_nusd, state, basis, cost_nusd, charge_nusd, charge_credits, absorbed_nusd,
  maybe_billed, price_version, created_at_ms, ended_at_ms
FROM hold WHERE call_id = ? AND workspace_id = ? ORDER BY attempt
"""
_CLOSE = "UPDATE hold SET context = NULL WHERE call_id = ? AND workspace_id = ?"
_JOURNAL = """
UPDATE hold SET delivered_bytes = max(delivered_bytes, ?), low_cost_nusd = max(low_cost_nusd, ?)
WHERE id = ? AND workspace_id = ? AND state = 'held'
"""

_FOREVER = 2**62
_BATCH = 500


def recover(conn: Connection, at_ms: int) -> int:
    """At start: whatever is open belongs to a dead process, since this one has just taken the lock."""
    calls = 0
    while True:
        conn.execute("BEGIN IMMEDIATE")
        done = expire_calls(conn, at_ms, expired_by_ms=_FOREVER)
        settle_totals(conn)
        conn.execute("COMMIT")
        calls += done
        if done < _BATCH:
            return calls


def expire_calls(conn: Connection, at_ms: int, *, expired_by_ms: int) -> int:
    """Expire up to 500 calls whose holds ran out by `expired_by_ms`; returns how many."""
    rows = conn.execute(_OPEN_CALLS, (expired_by_ms, _BATCH)).fetchall()
    for workspace_id, call_id, context, created_at_ms in rows:
        for hold_id, low_cost_nusd, delivered_bytes in conn.execute(_HELD, (call_id, workspace_id)).fetchall():
            expire_hold(conn, workspace_id, hold_id, low_cost_nusd, delivered_bytes, at_ms)
        save_interrupted(
            conn, workspace_id, _interrupted(conn, workspace_id, call_id, context or "", created_at_ms, at_ms)
        )
        conn.execute(_CLOSE, (call_id, workspace_id))
    return len(rows)


def journal_delivery(
    conn: Connection, workspace_id: str, hold_id: str, delivered_bytes: int, low_cost_nusd: int
) -> None:
    """What an open attempt of credits has delivered so far, and the least that it costs; both only grow."""
    conn.execute(_JOURNAL, (delivered_bytes, low_cost_nusd, hold_id, workspace_id))


def _interrupted(
    conn: Connection, workspace_id: str, call_id: str, context: str, created_at_ms: int, at_ms: int
) -> dict[str, Any]:
    known = _read_context(context)
    holds = conn.execute(_HOLDS, (call_id, workspace_id)).fetchall()
    started = known.get("at_ms", created_at_ms)
    costs = [hold[6] for hold in holds]
    return {
        "id": call_id, "workspace_id": workspace_id, "at_ms": started,
        "token_id": known.get("token_id", ""), "endpoint": known.get("endpoint", ""),
        "dialect": known.get("dialect", ""), "task": known.get("task"),
        "requested_model": known.get("requested_model", ""), "served_model": known.get("served_model"),
        "stream": bool(known.get("stream", False)), "project": known.get("project"),
        "conversation": known.get("conversation"), "member": known.get("member"), "row": known.get("row"),
        "funding": funding_of([hold[2] for hold in holds]), "route": known.get("route"),
        "provider": known.get("provider"), "status": 503, "code": Code.PROVIDER_UNAVAILABLE, "message": PROCESS_STOPPED,
        "attempts": [_attempt(hold, known, started, at_ms) for hold in holds], "skips": [], "usage": None,
        "cost_nusd": None if None in costs else sum(costs),
        "basis": Basis.UNKNOWN if None in costs else Basis.ESTIMATED,
        "charge_nusd": sum(hold[7] for hold in holds), "charge_credits": sum(hold[8] for hold in holds),
        "absorbed_nusd": sum(hold[9] for hold in holds), "price_version": holds[-1][11] if holds else None,
        "cap": None, "duration_ms": max(0, at_ms - started), "first_content_ms": None, "finish_reason": None,
        "hung_up": False, "notes": ["Written when the interrupted call was found."], "details": {},
    }


def _attempt(hold: tuple[Any, ...], known: dict[str, Any], started: int, at_ms: int) -> dict[str, Any]:
    (hold_id, n, funding, bound, state, basis, cost, _, _, _, maybe_billed, _, created, ended) = hold
    expired = state == "expired"
    return {
        "n": n, "route": "credits" if funding == "credits" else known.get("route") or "openrouter",
        "provider": known.get("provider") or "", "model": known.get("requested_model", ""), "credential_id": "",
        "credential_label": "", "credential_hint": "", "hold_id": hold_id, "bound_nusd": bound, "state": state,
        "basis": basis, "cost_nusd": cost, "usage": None, "status": None,
        "failure": "network" if expired else None, "signal": "process stopped" if expired else "",
        "message": PROCESS_STOPPED if expired else "", "request_id": None, "started_ms": max(0, created - started),
        "first_content_ms": None, "ended_ms": max(0, (ended or at_ms) - started), "maybe_billed": bool(maybe_billed),
        "output_limit": None, "shrunk": False, "dropped": [],
    }


def _read_context(context: str) -> dict[str, Any]:
    try:
        known = msgspec.json.decode(context) if context else {}
    except msgspec.DecodeError:
        return {}
    return known if isinstance(known, dict) else {}
