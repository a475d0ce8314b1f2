"""The outbox: notices that wait to be told, claimed by one deliverer at a time, and what became of them.

A claim counts as an attempt and puts the row off until its lease ends: a deliverer that dies repeats at most what it
was sending, under the same id, and one that is slow cannot overwrite what a later one has reported.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ownkey.domain.errors import NotFound, StoreError
from ownkey.domain.records import Actor, Due, Member
from ownkey.domain.workspace import Role
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection
from ownkey.store.core import Core
from ownkey.store.notices import announce_grace, announce_minimum, load_standings

_COLUMNS = """
SELECT id, workspace_id, dedupe_key, channel, kind, payload, state, attempts, next_at_ms, created_at_ms, reason,
  ended_at_ms FROM outbox
"""
_PAGE = _COLUMNS + "WHERE workspace_id = ? AND (? IS NULL OR state = ?) ORDER BY id DESC LIMIT ?"
_PAGE_ALL = _COLUMNS + "WHERE (? IS NULL OR state = ?) ORDER BY id DESC LIMIT ?"
# A later row of a group waits until somebody has the earlier one: 80% is told before 100%. In the order of the index,
# so that a hundred thousand rows after a long outage cost no more than five.
_DUE = """
SELECT o.id, o.workspace_id, o.dedupe_key, o.kind, o.payload, o.attempts + 1, o.since_ms, w.name, w.external_id
FROM outbox o JOIN workspace w ON w.id = o.workspace_id
WHERE o.state = 'waiting' AND o.channel = ? AND o.next_at_ms <= ? AND (o.grp = '' OR NOT EXISTS (
  SELECT 1 FROM outbox e WHERE e.workspace_id = o.workspace_id AND e.channel = o.channel AND e.grp = o.grp
    AND e.grp <> '' AND e.state = 'waiting' AND e.reached = 0 AND e.id < o.id))
ORDER BY o.next_at_ms, o.id LIMIT ?
"""
_CLAIM = """
UPDATE outbox SET attempts = attempts + 1, next_at_ms = ?, leased = 1
WHERE id = ? AND workspace_id = ? AND state = 'waiting'
"""
_HAVE = "SELECT member_id FROM outbox_recipient WHERE workspace_id = ? AND outbox_id = ?"
_MEMBERS = """
SELECT workspace_id, id, email, name, role, muted FROM member WHERE workspace_id = ? AND role IN ('owner', 'admin')
ORDER BY id
"""
_MEMBER = "SELECT workspace_id, id, email, name, role, muted FROM member WHERE workspace_id = ? AND id = ?"
_REACHED = """
INSERT INTO outbox_recipient(workspace_id, outbox_id, member_id, state, reason, at_ms) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
_COUNT = "UPDATE outbox SET reached = reached + 1 WHERE id = ? AND workspace_id = ?"
_RESULT = """
UPDATE outbox SET state = ?, leased = 0, next_at_ms = ?, reason = ?, reached = reached + ?,
  ended_at_ms = CASE WHEN ? = 'waiting' THEN NULL ELSE ? END
WHERE id = ? AND workspace_id = ? AND state = 'waiting' AND attempts = ?
"""
_CALL = "UPDATE outbox SET payload = json_patch(payload, ?) WHERE id = ? AND workspace_id = ? AND state = 'waiting'"
_RELEASE = "UPDATE outbox SET leased = 0, next_at_ms = min(next_at_ms, ?) WHERE state = 'waiting' AND leased = 1"
_SKIP_ALL = """
UPDATE outbox SET state = 'skipped', reason = ?, ended_at_ms = ? WHERE state = 'waiting' AND channel = ?
"""
_ANY_WAITING = "SELECT 1 FROM outbox WHERE state = 'waiting' AND channel = ? LIMIT 1"
_RETRY = """
UPDATE outbox SET state = 'waiting', next_at_ms = ?, since_ms = ?, reason = '', ended_at_ms = NULL
WHERE id = ? AND state IN ('failed', 'skipped') RETURNING workspace_id, kind, channel
"""
_FORGET_REFUSED = "DELETE FROM outbox_recipient WHERE workspace_id = ? AND outbox_id = ? AND state = 'refused'"
_ONE = "SELECT state FROM outbox WHERE id = ?"
_COUNTS = "SELECT channel, state, count(*) FROM outbox WHERE created_at_ms >= ? GROUP BY channel, state"
_SET_MINIMUM = "INSERT INTO plan_minimum(plan, credits) VALUES (?, ?)"


def _row(row: tuple[Any, ...]) -> Mapping[str, Any]:
    return {
        "id": row[0], "workspace_id": row[1], "dedupe_key": row[2], "channel": row[3], "kind": row[4],
        "payload": msgspec.json.decode(row[5]), "state": row[6], "attempts": row[7], "next_at_ms": row[8],
        "created_at_ms": row[9], "reason": row[10], "ended_at_ms": row[11],
    }


def claim(conn: Connection, channel: str, at_ms: int, until_ms: int, limit: int) -> list[Due]:
    """The rows that are due, longest due first, each put off until `until_ms`."""
    found = []
    for row_id, workspace_id, key, kind, payload, attempts, since_ms, name, external in conn.execute(
        _DUE, (channel, at_ms, limit)
    ).fetchall():
        conn.execute(_CLAIM, (until_ms, row_id, workspace_id))
        have = frozenset(row[0] for row in conn.execute(_HAVE, (workspace_id, row_id)))
        found.append(Due(
            id=row_id, workspace_id=workspace_id, workspace_name=name, external_id=external, key=key, kind=kind,
            payload=msgspec.json.decode(payload), attempts=attempts, since_ms=since_ms, have=have,
        ))
    return found


def release_leases(conn: Connection, at_ms: int) -> None:
    """At start: whoever claimed these has died, because the file has one owner."""
    conn.execute(_RELEASE, (at_ms,))


class OutboxPart(Core):
    """Satisfies `control.ports.Outbox`."""

    async def load_outbox(
        self, workspace_id: str | None, *, limit: int, state: str | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Newest first; None: every workspace's (operators). `state` None: all."""
        count = max(0, min(limit, 1_000))
        if workspace_id is None:
            rows = await self._read(lambda conn: conn.execute(_PAGE_ALL, (state, state, count)).fetchall())
        else:
            rows = await self._read(
                lambda conn: conn.execute(_PAGE, (workspace_id, state, state, count)).fetchall()
            )
        return [_row(row) for row in rows]

    async def count_outbox(self, since_ms: int) -> Mapping[str, Mapping[str, int]]:
        """Rows written since then, by channel and state."""
        counts: dict[str, dict[str, int]] = {}
        for channel, state, count in await self._read(lambda conn: conn.execute(_COUNTS, (since_ms,)).fetchall()):
            counts.setdefault(channel, {})[state] = count
        return counts

    async def claim_outbox(self, channel: str, at_ms: int, until_ms: int, *, limit: int) -> Sequence[Due]:
        if not self._near.execute(_DUE, (channel, at_ms, 1)).fetchone():
            return []
        return await self._write(lambda conn: claim(conn, channel, at_ms, until_ms, limit))

    async def load_told(self, workspace_id: str, member_id: str | None = None) -> Sequence[Member]:
        """Owners and admins, with what they have muted; or the one member whom alone it concerns."""
        found = self._near.execute(_MEMBERS, (workspace_id,)) if member_id is None \
            else self._near.execute(_MEMBER, (workspace_id, member_id))
        return [
            Member(row[0], row[1], row[2], row[3], Role(row[4]), frozenset(row[5].split()))
            for row in found.fetchall()
        ]

    async def save_reached(
        self, due: Due, member_id: str, *, sent: bool, reason: str, at_ms: int
    ) -> None:
        """One member has the message, or can never have it; written before the next is tried."""
        def operation(conn: Connection) -> None:
            added = conn.execute(_REACHED, (
                due.workspace_id, due.id, member_id, "sent" if sent else "refused", reason, at_ms,
            )).rowcount
            if added and sent:
                conn.execute(_COUNT, (due.id, due.workspace_id))

        await self._write(operation)

    async def save_outbox_result(
        self, due: Due, state: str, next_at_ms: int, *, reason: str, at_ms: int, reached: int = 0
    ) -> bool:
        """`state` is "sent", "failed" (given up), "skipped" or "waiting" (again at `next_at_ms`). False: the lease
        has ended and somebody else has claimed the row since; nothing was changed."""
        changed = await self._write(lambda conn: conn.execute(_RESULT, (
            state, next_at_ms, reason, reached, state, at_ms, due.id, due.workspace_id, due.attempts,
        )).rowcount)
        return changed == 1

    async def save_outbox_call(self, due: Due, call: Mapping[str, str]) -> None:
        """What a message says of the call that set it off, kept with it: a repeat says the same."""
        patch = msgspec.json.encode(call).decode()
        await self._write(lambda conn: conn.execute(_CALL, (patch, due.id, due.workspace_id)).rowcount)

    async def skip_outbox(self, channel: str, reason: str, at_ms: int) -> int:
        """Everything that waits for a channel that does not exist. Returns the rows."""
        if not self._near.execute(_ANY_WAITING, (channel,)).fetchone():
            return 0
        return await self._write(lambda conn: conn.execute(_SKIP_ALL, (reason, at_ms, channel)).rowcount)

    async def retry_outbox(self, outbox_id: int, *, at_ms: int, actor: Actor) -> bool:
        """A failed or skipped row waits again, with 24 hours to go; who has it already does not get it again.
        False: it was sent, or waits. Raises NotFound."""
        def operation(conn: Connection) -> bool | StoreError:
            found = conn.execute(_RETRY, (at_ms, at_ms, outbox_id)).fetchone()
            if found is None:
                known = conn.execute(_ONE, (outbox_id,)).fetchone()
                return NotFound("no such row") if known is None else False
            workspace_id, kind, channel = found
            conn.execute(_FORGET_REFUSED, (workspace_id, outbox_id))
            save_audit(
                conn, workspace_id, "outbox.retried", str(outbox_id), None, {"kind": kind, "channel": channel},
                at_ms=at_ms, actor=actor,
            )
            return True

        return await self._write(operation)

    async def announce_grace(self, at_ms: int, *, limit: int = 200) -> int:
        """A job: the notices that grace ends within a day, or has ended."""
        return await self._write(lambda conn: announce_grace(conn, at_ms, limit))

    async def save_minimums(self, minimums: Mapping[str, int]) -> None:
        """The plans' minimum balances, as configured: written at start, where they have changed. A workspace whose
        calls stop or start again with that is told so once."""
        wanted = sorted((plan, credits) for plan, credits in minimums.items() if credits > 0)

        def operation(conn: sqlite3.Connection) -> None:
            kept = conn.execute("SELECT plan, credits FROM plan_minimum ORDER BY plan").fetchall()
            if kept == wanted:
                return
            at_ms = self.clock_ms()
            changed = sorted({plan for plan, _ in set(kept) ^ set(wanted)})
            before = load_standings(conn, changed, at_ms)
            conn.execute("DELETE FROM plan_minimum")
            conn.executemany(_SET_MINIMUM, wanted)
            for workspace_id, after in load_standings(conn, changed, at_ms).items():
                key = f"minimum:{workspace_id}:{after.version}:{after.minimum_credits or 0}:{at_ms}"
                announce_minimum(conn, workspace_id, key, before[workspace_id], after, at_ms)

        await self._write(operation)
