"""Receipts as rows: the whole document as JSON, and beside it the columns that people filter and sum by.

Amounts in the document are integers of nano-USD, field by field those of `domain.receipts.Receipt`; doors turn
them into decimal strings.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import msgspec

from ownkey.domain.booking import AttemptEnd, CapFigures
from ownkey.domain.phrases import as_plain
from ownkey.domain.receipts import Basis, CapView, HoldState, Receipt, weakest_basis
from ownkey.domain.records import UsageSince, UsageSums
from ownkey.domain.routing import Funding
from ownkey.store.connection import Connection
from ownkey.store.ends import end_hold
from ownkey.store.notices import utc_text
from ownkey.store.totals import add_receipt, replace_receipt

_INSERT = """
INSERT INTO receipt(id, workspace_id, at_ms, task, model, provider, funding, code, conversation, project, generation,
  basis, cost_nusd, charge_credits, interrupted, doc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(id) DO NOTHING
"""
_TAKE_OVER = """
UPDATE receipt SET at_ms = ?, task = ?, model = ?, provider = ?, funding = ?, code = ?, conversation = ?, project = ?,
  generation = ?, basis = ?, cost_nusd = ?, charge_credits = ?, interrupted = ?, doc = ?
WHERE id = ? AND workspace_id = ? AND interrupted = 1 RETURNING seq
"""
_CLOSE_CALL = """
UPDATE hold SET context = NULL
WHERE call_id = ? AND workspace_id = ? AND state <> 'held' AND context IS NOT NULL
"""
_CALL_HOLDS = """
SELECT h.id, CASE WHEN h.cost_nusd IS NULL AND c.cost_delta_nusd IS NULL THEN NULL
    ELSE coalesce(h.cost_nusd, 0) + coalesce(c.cost_delta_nusd, 0) END,
  h.charge_nusd + coalesce(c.charge_delta_nusd, 0), h.charge_credits + coalesce(c.credits_delta, 0),
  CASE WHEN c.hold_id IS NULL THEN h.absorbed_nusd ELSE max(0, min(h.absorbed_nusd,
    coalesce(h.cost_nusd, 0) + c.cost_delta_nusd - h.charge_nusd - c.charge_delta_nusd)) END
FROM hold h LEFT JOIN correction c ON c.hold_id = h.id AND c.workspace_id = h.workspace_id
WHERE h.call_id = ? AND h.workspace_id = ?
"""
_DOC = "SELECT seq, doc FROM receipt WHERE id = ? AND workspace_id = ?"
_REWRITE = """
UPDATE receipt SET doc = ?, cost_nusd = ?, charge_credits = ?, basis = ? WHERE id = ? AND workspace_id = ?
"""
_ATTEMPT_OF = """
SELECT r.doc, h.price_version FROM receipt r JOIN hold h ON h.call_id = r.id AND h.workspace_id = r.workspace_id
WHERE h.id = ? AND h.workspace_id = ?
"""
_FLAG = """
INSERT INTO overage_flag(provider, model, price_version, hold_id, at_ms) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping | MappingProxyType):
        return dict(value)
    return as_plain(value)


_encoder = msgspec.json.Encoder(enc_hook=_plain)


Flag = tuple[str, str, int]
"""(provider, model, price version) that has billed more than its bound."""


def end_call(conn: Connection, end: AttemptEnd | None, receipt: Receipt) -> tuple[Receipt, Sequence[Flag]]:
    """The last attempt's end and the receipt, together; the receipt gets the figures that were booked."""
    booked = None if end is None else end_hold(conn, end, last=True)
    # The hold that ends now may be one whose attempt was never begun: then every attempt has ended before.
    if any(end is None or attempt.hold_id != end.hold_id for attempt in receipt.attempts):
        conn.execute(_CLOSE_CALL, (receipt.id, receipt.workspace_id))
        receipt = _take_rows(conn, receipt)
    elif end is not None and booked is not None:
        expected = 0 if end.cost_nusd is None or end.state == "released" else end.cost_nusd
        if booked.cost_nusd != expected or booked.charge_nusd or booked.absorbed_nusd:
            receipt = _take_rows(conn, receipt)
    if booked is not None and booked.cap is not None:
        receipt = replace(receipt, cap=_cap_view(booked.cap, receipt))
    save_receipt(conn, receipt)
    overrun = end.hold_id if end is not None and booked is not None and booked.overage_nusd else ""
    return receipt, _flag_overages(conn, receipt, overrun)


def _cap_view(cap: CapFigures, receipt: Receipt) -> CapView:
    own = receipt.cost_nusd or 0
    return CapView(
        cap.period_key, cap.cap_nusd, max(0, cap.spent_nusd - own), cap.spent_nusd, utc_text(cap.resets_at_ms)
    )


def _take_rows(conn: Connection, receipt: Receipt) -> Receipt:
    """The call's holds as booked. They differ from what the attempts say where credits were charged, and where an
    expired hold was corrected within its bound."""
    rows = {row[0]: row[1:] for row in conn.execute(_CALL_HOLDS, (receipt.id, receipt.workspace_id))}
    if not rows:
        return receipt
    attempts = tuple(
        replace(attempt, cost_nusd=rows[attempt.hold_id][0])
        if attempt.hold_id in rows and rows[attempt.hold_id][0] != attempt.cost_nusd else attempt
        for attempt in receipt.attempts
    )
    costs = [row[0] for row in rows.values()]
    charge, credits, absorbed = (sum(row[n] for row in rows.values()) for n in (1, 2, 3))
    return replace(
        receipt, attempts=attempts, cost_nusd=None if None in costs else sum(costs), charge_nusd=charge,
        charge_credits=credits, absorbed_nusd=absorbed,
    )


def _flag_overages(conn: Connection, receipt: Receipt, overrun: str) -> Sequence[Flag]:
    """`overrun`: the hold that has just been booked above its bound. Earlier attempts tell it by their figures; a
    bound of 0 tells nothing there, since a model without a price has one too."""
    flags = []
    for attempt in receipt.attempts:
        if (overrun and attempt.hold_id == overrun) or 0 < (attempt.bound_nusd or 0) < (attempt.cost_nusd or 0):
            flag = (attempt.provider, attempt.model, receipt.price_version or 0)
            conn.execute(_FLAG, (*flag, attempt.hold_id, receipt.at_ms))
            flags.append(flag)
    return flags


def flag_overage(conn: Connection, workspace_id: str, hold_id: str, at_ms: int) -> Sequence[Flag]:
    """An attempt proved dearer than its bound after its receipt was written."""
    doc, price_version = conn.execute(_ATTEMPT_OF, (hold_id, workspace_id)).fetchone()
    attempts = msgspec.json.decode(doc)["attempts"]
    flags = [(a["provider"], a["model"], price_version) for a in attempts if a["hold_id"] == hold_id]
    conn.executemany(_FLAG, [(*flag, hold_id, at_ms) for flag in flags])
    return flags


def save_receipt(conn: Connection, receipt: Receipt) -> None:
    """Add a receipt. The one that recovery wrote for an interrupted call gives way to the call's own; no other."""
    _save(conn, receipt, _generation(receipt), 0, _encoder.encode(receipt).decode())


def _save(conn: Connection, receipt: Receipt, generation: str | None, interrupted: int, doc: str) -> None:
    columns = (
        receipt.at_ms, receipt.task, receipt.served_model or receipt.requested_model, receipt.provider,
        receipt.funding, receipt.code, receipt.conversation, receipt.project, generation, receipt.basis,
        receipt.cost_nusd, receipt.charge_credits, interrupted, doc,
    )
    added = conn.execute(_INSERT, (receipt.id, receipt.workspace_id, *columns))
    if added.rowcount:
        assert added.lastrowid is not None
        add_receipt(conn, added.lastrowid, receipt)
        return
    taken_over = conn.execute(_TAKE_OVER, (*columns, receipt.id, receipt.workspace_id)).fetchone()
    if taken_over is not None:
        replace_receipt(conn, taken_over[0], receipt)


def _generation(receipt: Receipt) -> str | None:
    """The id that the answer carried where it was passed through: what the caller has in hand."""
    if receipt.code is not None or not receipt.attempts:
        return None
    return receipt.attempts[-1].response_id or receipt.attempts[-1].request_id


def save_interrupted(conn: Connection, workspace_id: str, doc: dict[str, Any]) -> None:
    """The receipt of a call whose process died, from the context of its first hold."""
    assert doc["workspace_id"] == workspace_id
    _save(conn, _read(doc), None, 1, _encoder.encode(doc).decode())


def _read(doc: dict[str, Any]) -> Receipt:
    return msgspec.convert(doc, Receipt, strict=False)


@dataclass(frozen=True, slots=True)
class Amendment:
    """A correction as the receipt tells it: what was reported for one attempt, by whom, and whether that is the
    provider's own last word."""

    hold_id: str
    origin: str
    reported_nusd: int
    at_ms: int
    is_actual: bool


def amend_receipt(
    conn: Connection, workspace_id: str, call_id: str, note: str, amendment: Amendment | None = None
) -> None:
    """The stored receipt shows what is booked now, with a note; a corrected attempt keeps its estimate beside."""
    found = conn.execute(_DOC, (call_id, workspace_id)).fetchone()
    if found is None:
        return
    doc = msgspec.json.decode(found[1])
    rows = conn.execute(_CALL_HOLDS, (call_id, workspace_id)).fetchall()
    costs = {row[0]: row[1] for row in rows}
    for attempt in doc["attempts"]:
        if attempt["hold_id"] not in costs:
            continue
        if amendment is not None and attempt["hold_id"] == amendment.hold_id:
            _amend_attempt(attempt, costs[attempt["hold_id"]], amendment)
        attempt["cost_nusd"] = costs[attempt["hold_id"]]
    doc["cost_nusd"] = None if None in costs.values() else sum(costs.values())
    doc["charge_nusd"] = sum(row[2] for row in rows)
    doc["charge_credits"] = sum(row[3] for row in rows)
    doc["absorbed_nusd"] = sum(row[4] for row in rows)
    doc["basis"] = weakest_basis(a["basis"] for a in doc["attempts"] if a["state"] != HoldState.RELEASED)
    doc["notes"] = [*doc["notes"], note]
    conn.execute(_REWRITE, (
        _encoder.encode(doc).decode(), doc["cost_nusd"], doc["charge_credits"], doc["basis"], call_id, workspace_id,
    ))
    replace_receipt(conn, found[0], _read(doc))


def _amend_attempt(attempt: dict[str, Any], booked_nusd: int | None, amendment: Amendment) -> None:
    attempt["correction"] = {
        "origin": amendment.origin, "estimated_nusd": attempt["cost_nusd"], "estimated_basis": attempt["basis"],
        "reported_nusd": amendment.reported_nusd, "at_ms": amendment.at_ms,
    }
    # A report above the hold is booked up to the hold: then the cost that is shown is not the provider's figure.
    if amendment.is_actual and booked_nusd == amendment.reported_nusd:
        attempt["basis"], attempt["maybe_billed"] = Basis.ACTUAL, False


_ONE = "SELECT doc FROM receipt WHERE id = :id AND (:workspace IS NULL OR workspace_id = :workspace)"
_GENERATION = """
SELECT doc FROM receipt WHERE workspace_id = ? AND generation = ? ORDER BY +at_ms DESC LIMIT 1
"""
# Who carried the calls, and what they came to: credits where credits paid, else nano-USD. A call that failed over
# counts with whoever answered.
_USAGE = """
SELECT carrier, sum(amount), sum(amount * (at_ms >= :day)), sum(amount * (at_ms >= :week)),
  sum(amount * (at_ms >= :month))
FROM (
  SELECT at_ms, CASE WHEN funding = 'credits' THEN 'credits' WHEN provider = 'openrouter' THEN 'openrouter'
      ELSE 'direct' END AS carrier,
    CASE WHEN funding = 'credits' THEN charge_credits ELSE coalesce(cost_nusd, 0) END AS amount
  FROM receipt WHERE workspace_id = :workspace AND at_ms >= :from AND at_ms < :until
    AND (:tasks IS NULL OR task IN (SELECT value FROM json_each(:tasks)))
    AND (:projects IS NULL OR project IN (SELECT value FROM json_each(:projects)))
) GROUP BY carrier
"""
def load_receipt(conn: sqlite3.Connection, workspace_id: str | None, receipt_id: str) -> Mapping[str, Any] | None:
    found = conn.execute(_ONE, {"id": receipt_id, "workspace": workspace_id}).fetchone()
    return None if found is None else msgspec.json.decode(found[0])


def load_generation(conn: sqlite3.Connection, workspace_id: str, ident: str) -> Mapping[str, Any] | None:
    found = conn.execute(_GENERATION, (workspace_id, ident)).fetchone()
    return load_receipt(conn, workspace_id, ident) if found is None else msgspec.json.decode(found[0])


def load_usage(
    conn: sqlite3.Connection, workspace_id: str, since: UsageSince, tasks: frozenset[str], projects: frozenset[str],
    from_ms: int = 0, until_ms: int = 2**62,
) -> Mapping[str, UsageSums]:
    rows = conn.execute(_USAGE, {
        "workspace": workspace_id, "day": since.day_ms, "week": since.week_ms, "month": since.month_ms,
        "from": from_ms, "until": until_ms,
        "tasks": msgspec.json.encode(sorted(tasks)).decode() if tasks else None,
        "projects": msgspec.json.encode(sorted(projects)).decode() if projects else None,
    })
    return {row[0]: UsageSums(*row[1:]) for row in rows}


def funding_of(values: Sequence[str]) -> str:
    """Credits if any attempt was to be paid with credits."""
    return Funding.CREDITS if Funding.CREDITS in values else Funding.BYOK
