"""Readings of OpenRouter's own figures as rows: each written once, with its verdict; only a drift is ever accepted."""

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, fields, replace
from typing import Any

import msgspec

from ownkey.domain.errors import NotFound
from ownkey.domain.key_readings import KeyUsage, Origin, Reading, Sent, SentPage, Start, Verdict
from ownkey.domain.notices import Kind
from ownkey.domain.receipts import Basis
from ownkey.domain.records import Actor
from ownkey.domain.routing import Route
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection
from ownkey.store.core import Core
from ownkey.store.notices import announce_to_host, utc_text

_COLUMNS = """
SELECT id, workspace_id, credential_id, credential_version, origin, asked_ms, answered_ms, usage_nusd, byok_nusd,
  usage_daily_nusd, usage_weekly_nusd, usage_monthly_nusd, byok_daily_nusd, byok_weekly_nusd, byok_monthly_nusd,
  limit_nusd, limit_left_nusd, limit_reset, upto, start, series_start_ms, series_upto, series_total_nusd,
  series_ours_nusd, series_calls, missing_nusd, since_ms, grown_nusd, ours_nusd, unsure_nusd, verdict, off_nusd,
  accepted_at_ms, accepted_by, accepted_reason FROM key_reading
"""
_LAST = _COLUMNS + "WHERE workspace_id = ? AND credential_id = ? ORDER BY id DESC LIMIT 1"
_LIST = _COLUMNS + "WHERE workspace_id = ? ORDER BY id DESC LIMIT ?"
_ONE = _COLUMNS + "WHERE workspace_id = ? AND id = ?"
_INSERT = """
INSERT INTO key_reading(workspace_id, credential_id, credential_version, origin, asked_ms, answered_ms, usage_nusd,
  byok_nusd, usage_daily_nusd, usage_weekly_nusd, usage_monthly_nusd, byok_daily_nusd, byok_weekly_nusd,
  byok_monthly_nusd, limit_nusd, limit_left_nusd, limit_reset, upto, start, series_start_ms, series_upto,
  series_total_nusd, series_ours_nusd, series_calls, missing_nusd, since_ms, grown_nusd, ours_nusd, unsure_nusd,
  verdict, off_nusd)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_ACCEPT = """
UPDATE key_reading SET accepted_at_ms = ?, accepted_by = ?, accepted_reason = ?
WHERE workspace_id = ? AND id = ? AND verdict = 'drift' AND accepted_at_ms IS NULL
"""
# A key that is refused, or cannot be opened, tells nothing.
_UNREAD = """
SELECT c.workspace_id FROM credential c JOIN workspace w ON w.id = c.workspace_id
WHERE c.provider = 'openrouter' AND c.status = 'enabled' AND c.undecryptable = 0 AND c.health <> 'rejected'
  AND w.status <> 'deleted' AND c.workspace_id > ?
  AND NOT EXISTS (SELECT 1 FROM key_reading r WHERE r.workspace_id = c.workspace_id AND r.credential_id = c.id
    AND r.credential_version = c.version AND r.answered_ms > ?)
ORDER BY c.workspace_id LIMIT ?
"""
_LAST_RECEIPT = "SELECT coalesce(max(seq), 0) FROM receipt"
_ENDS = """
SELECT id, ended_at_ms FROM hold WHERE workspace_id = ? AND id IN (SELECT value FROM json_each(?))
"""
_DOCS = """
SELECT at_ms, id, seq, doc FROM receipt
WHERE workspace_id = ? AND at_ms >= ? AND (at_ms, id) > (?, ?) ORDER BY at_ms, id LIMIT ?
"""
# A hold that is open has its call's context: the index of open business finds it.
_OPEN = """
SELECT coalesce(sum(bound_nusd), 0), coalesce(sum(priced = 0), 0) FROM hold
WHERE workspace_id = ? AND state = 'held' AND context IS NOT NULL AND funding = ? AND created_at_ms < ?
"""


class _Correction(msgspec.Struct):
    at_ms: int


class _Attempt(msgspec.Struct):
    """What a comparison needs of an attempt; older receipts do not name the key's version."""

    route: str
    provider: str
    credential_id: str
    hold_id: str
    basis: str
    cost_nusd: int | None
    started_ms: int
    ended_ms: int
    credential_version: int = 0
    correction: _Correction | None = None


class _Doc(msgspec.Struct):
    attempts: list[_Attempt]


_STEADY_MS = 1_000
_decoder = msgspec.json.Decoder(_Doc)


def save_reading(conn: Connection, reading: Reading) -> Reading:
    """Write it; drift is announced to the host in the same transaction."""
    r = reading
    saved = conn.execute(_INSERT, (
        r.workspace_id, r.credential_id, r.version, r.origin, *astuple(r.usage), r.upto, r.start, r.series_start_ms,
        r.series_upto, r.series_total_nusd, r.series_ours_nusd, r.series_calls, r.missing_nusd, r.since_ms,
        r.grown_nusd, r.ours_nusd, r.unsure_nusd, r.verdict, r.off_nusd,
    ))
    assert saved.lastrowid is not None
    kept = replace(r, id=saved.lastrowid)
    if kept.verdict is Verdict.DRIFT:
        announce_to_host(conn, kept.workspace_id, f"key_drift:{kept.id}", Kind.BOOKS_DIFFER, {
            "workspace_id": kept.workspace_id, "provider": "openrouter", "reading": kept.id,
            "since": utc_text(kept.since_ms or 0), "grown_nusd": str(kept.grown_nusd),
            "ours_nusd": str(kept.ours_nusd), "missing_nusd": str(kept.off_nusd),
            "at": utc_text(kept.usage.answered_ms),
        }, kept.usage.answered_ms)
    return kept


def accept_reading(
    conn: Connection, workspace_id: str, reading_id: int, reason: str, at_ms: int, actor: Actor
) -> bool | NotFound:
    """An operator has looked at a drift. False: it is none, or was accepted before."""
    if conn.execute(_ONE, (workspace_id, reading_id)).fetchone() is None:
        return NotFound("no such reading in this workspace")
    by = f"{actor.kind}:{actor.id}"
    if not conn.execute(_ACCEPT, (at_ms, by, reason, workspace_id, reading_id)).rowcount:
        return False
    save_audit(
        conn, workspace_id, "key_reading.accepted", f"key_reading:{reading_id}", None, {"reason": reason},
        at_ms=at_ms, actor=actor,
    )
    return True


def load_sent(
    conn: sqlite3.Connection, workspace_id: str, credential_id: str, route: Route, from_ms: int,
    after: tuple[int, str], limit: int,
) -> SentPage:
    """Attempts of receipts from `from_ms` on that this key paid, or may have paid, a page of receipts at a time."""
    rows = conn.execute(_DOCS, (workspace_id, from_ms, *after, limit)).fetchall()
    found = [
        (at_ms, seq, attempt)
        for at_ms, _, seq, doc in rows for attempt in _decoder.decode(doc).attempts
        if attempt.provider == "openrouter" and attempt.route == route
        and attempt.credential_id in ("", credential_id) and attempt.basis != Basis.NONE
    ]
    asked = msgspec.json.encode([attempt.hold_id for _, _, attempt in found]).decode()
    ends = dict(conn.execute(_ENDS, (workspace_id, asked)).fetchall())
    sent = [_sent(at_ms, seq, attempt, ends.get(attempt.hold_id)) for at_ms, seq, attempt in found]
    return SentPage(sent, (rows[-1][0], rows[-1][1]) if len(rows) == limit else None)


def _sent(at_ms: int, seq: int, attempt: _Attempt, booked_at_ms: int | None) -> Sent:
    ended_ms = at_ms + attempt.ended_ms
    # The receipt counts from the call's admission on a clock that nobody sets; the hold was ended by the wall clock.
    steady = booked_at_ms is not None and abs(booked_at_ms - ended_ms) <= _STEADY_MS
    if attempt.correction is not None:
        # Only by then it was known that it is billed.
        ended_ms = max(ended_ms, attempt.correction.at_ms)
    return Sent(
        at_ms + attempt.started_ms, ended_ms, Basis(attempt.basis), attempt.cost_nusd, attempt.credential_version,
        seq, steady,
    )


_FIRST_OF_USAGE = 5
_AFTER_USAGE = _FIRST_OF_USAGE + len(fields(KeyUsage))


def _reading(row: tuple[Any, ...]) -> Reading:
    ident, workspace_id, credential_id, version, origin = row[:_FIRST_OF_USAGE]
    (upto, start, series_start, series_upto, series_total, series_ours, series_calls, missing, since, grown, ours,
     unsure, verdict, off, accepted_at, accepted_by, accepted_reason) = row[_AFTER_USAGE:]
    return Reading(
        ident, workspace_id, credential_id, version, Origin(origin), KeyUsage(*row[_FIRST_OF_USAGE:_AFTER_USAGE]),
        upto, None if start is None else Start(start), series_start, series_upto, series_total, series_ours,
        series_calls, missing, since, grown, ours, unsure, Verdict(verdict), off, accepted_at, accepted_by,
        accepted_reason,
    )


class KeyReadingsPart(Core):
    """Satisfies `control.key_readings.ReadingBook` and `ReadingRows`."""

    async def load_unread_keys(self, read_since_ms: int, *, after: str, limit: int) -> Sequence[str]:
        """Workspaces whose enabled OpenRouter key has not been read since, by id."""
        return await self._read(
            lambda conn: [row[0] for row in conn.execute(_UNREAD, (after, read_since_ms, limit)).fetchall()]
        )

    async def load_last_reading(self, workspace_id: str, credential_id: str) -> Reading | None:
        row = self._near.execute(_LAST, (workspace_id, credential_id)).fetchone()
        return None if row is None else _reading(row)

    def last_receipt(self) -> int:
        """The number of the receipt that was written last, whoever's it is."""
        found: int = self._near.execute(_LAST_RECEIPT).fetchone()[0]
        return found

    async def load_readings(self, workspace_id: str, *, limit: int) -> Sequence[Reading]:
        """Newest first."""
        rows = self._near.execute(_LIST, (workspace_id, max(0, min(limit, 1_000)))).fetchall()
        return [_reading(row) for row in rows]

    async def load_sent(
        self, workspace_id: str, credential_id: str, route: Route, from_ms: int, after: tuple[int, str], limit: int
    ) -> SentPage:
        return await self._read(
            lambda conn: load_sent(conn, workspace_id, credential_id, route, from_ms, after, limit)
        )

    async def load_open_bounds(self, workspace_id: str, funding: str, before_ms: int) -> tuple[int, int]:
        """What attempts in flight that began before then may cost at most, and how many have no bound."""
        bound, unpriced = self._near.execute(_OPEN, (workspace_id, funding, before_ms)).fetchone()
        return bound, unpriced

    async def save_reading(self, reading: Reading) -> Reading:
        return await self._write(lambda conn: save_reading(conn, reading))

    async def accept_reading(
        self, workspace_id: str, reading_id: int, reason: str, *, at_ms: int, actor: Actor
    ) -> bool:
        """False: it is no drift, or was accepted before. Raises NotFound."""
        return await self._write(lambda conn: accept_reading(conn, workspace_id, reading_id, reason, at_ms, actor))
