"""Operators' visits, and what failed on the way to one. Whatever ends a visit ends it with its commit."""

from collections.abc import Sequence
from typing import Any

from ownkey.domain.operators import WINDOW_MS, Attempt, OperatorRole, OperatorSession, SessionRow
from ownkey.domain.records import Actor
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection
from ownkey.store.core import Core

KEPT_SESSION_MS = 30 * 86_400_000
KEPT_LINK_MS = 30 * 86_400_000
"""How long a used or expired link is remembered, so that whoever opens it is told what became of it."""

_EXPIRED_AT_ONCE = 500
_TOLD_AT_ONCE = 200

_FIND = """
SELECT s.id, s.operator_id, o.email, o.name, o.role, s.created_at_ms, s.idle_until_ms, s.absolute_until_ms,
  s.fresh_until_ms, s.via, o.shortcuts
FROM operator_session s JOIN operator o ON o.id = s.operator_id
WHERE s.digest = ? AND s.ended_at_ms IS NULL AND o.disabled = 0
"""
_OPEN = """
INSERT INTO operator_session(id, digest, operator_id, via, address, created_at_ms, idle_until_ms, absolute_until_ms,
  fresh_until_ms) SELECT ?, ?, o.id, ?, ?, ?, ?, ?, ? FROM operator o WHERE o.id = ? AND o.disabled = 0
"""
_SEEN = "UPDATE operator SET last_sign_in_at_ms = ? WHERE id = ?"
_TOUCH = """
UPDATE operator_session SET idle_until_ms = max(idle_until_ms, ?) WHERE id = ? AND ended_at_ms IS NULL
  AND idle_until_ms > ?
"""
_FRESHEN = "UPDATE operator_session SET fresh_until_ms = ? WHERE id = ? AND ended_at_ms IS NULL"
_LIVE = """
SELECT id, via, address, created_at_ms, idle_until_ms, absolute_until_ms FROM operator_session
WHERE operator_id = ? AND ended_at_ms IS NULL AND idle_until_ms > ? AND absolute_until_ms > ?
ORDER BY created_at_ms DESC, id
"""
_OF_OPERATOR = "SELECT id FROM operator_session WHERE operator_id = ? AND ended_at_ms IS NULL ORDER BY created_at_ms"
_END = "UPDATE operator_session SET ended_at_ms = ?, end_reason = ? WHERE id = ? AND ended_at_ms IS NULL"
_BY_DIGEST = "SELECT id, operator_id FROM operator_session WHERE digest = ? AND ended_at_ms IS NULL"

_SAVE_STEP = "INSERT INTO operator_step(digest, operator_id, expires_at_ms) VALUES (?, ?, ?)"
_FIND_STEP = "SELECT operator_id FROM operator_step WHERE digest = ? AND expires_at_ms > ?"
_DROP_STEP = "DELETE FROM operator_step WHERE digest = ?"
_DROP_STEPS_OF = "DELETE FROM operator_step WHERE operator_id = ?"

_LOCKED = "SELECT max(until_ms) FROM operator_lock WHERE counted IN (?, ?) AND until_ms > ?"
_COUNT_ACCOUNT = """
SELECT count(*), min(at_ms) FROM operator_attempt WHERE account = ? AND at_ms > ? AND forgiven = 0
"""
_COUNT_ADDRESS = "SELECT count(*), min(at_ms) FROM operator_attempt WHERE address = ? AND at_ms > ?"
_BEGIN = "INSERT INTO operator_attempt(id, account, address, shown_address, at_ms) VALUES (?, ?, ?, ?, ?)"
_FAILED = "UPDATE operator_attempt SET failed = 1, operator_id = ?, stage = ? WHERE id = ?"
_DROP_ATTEMPT = "DELETE FROM operator_attempt WHERE id = ?"
_FORGIVE = "UPDATE operator_attempt SET forgiven = 1 WHERE account = ?"
_LOCK = """
INSERT INTO operator_lock(counted, what, operator_id, shown_address, at_ms, until_ms) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET operator_id = excluded.operator_id, shown_address = excluded.shown_address,
  at_ms = excluded.at_ms, until_ms = excluded.until_ms, told = 0
"""
_TELL_KNOWN = """
SELECT id, at_ms, operator_id, stage, shown_address FROM operator_attempt
WHERE failed = 1 AND told = 0 AND operator_id <> '' ORDER BY at_ms, id LIMIT ?
"""
_TOLD = "UPDATE operator_attempt SET told = 1 WHERE id = ?"
_LOCKS_KNOWN = """
SELECT counted, at_ms, operator_id, shown_address, until_ms FROM operator_lock
WHERE told = 0 AND what = 'account' AND operator_id <> '' ORDER BY at_ms LIMIT ?
"""
_LOCK_TOLD = "UPDATE operator_lock SET told = 1 WHERE counted = ?"
_UNKNOWN = """
SELECT count(*), count(DISTINCT account), count(DISTINCT address), coalesce(min(at_ms), 0),
  coalesce(min(shown_address), '') FROM operator_attempt WHERE failed = 1 AND told = 0 AND operator_id = ''
"""
_UNKNOWN_TOLD = "UPDATE operator_attempt SET told = 1 WHERE failed = 1 AND told = 0 AND operator_id = ''"
_OTHER_LOCKS = """
SELECT count(*), coalesce(min(at_ms), 0), coalesce(min(shown_address), '') FROM operator_lock
WHERE told = 0 AND (what = 'address' OR operator_id = '')
"""
_OTHER_LOCKS_TOLD = "UPDATE operator_lock SET told = 1 WHERE told = 0 AND (what = 'address' OR operator_id = '')"
_USE_STATE = "INSERT INTO operator_state(digest, expires_at_ms) VALUES (?, ?) ON CONFLICT DO NOTHING"

_EXPIRED = """
SELECT id, operator_id, min(idle_until_ms, absolute_until_ms) FROM operator_session
WHERE ended_at_ms IS NULL AND (idle_until_ms <= ? OR absolute_until_ms <= ?) LIMIT ?
"""
_OLD_SESSIONS = "DELETE FROM operator_session WHERE ended_at_ms <= ?"
_OLD_LINKS = "DELETE FROM operator_link WHERE expires_at_ms <= ?"
_OLD_ATTEMPTS = "DELETE FROM operator_attempt WHERE at_ms <= ? AND (told = 1 OR failed = 0)"
_OLD_LOCKS = "DELETE FROM operator_lock WHERE until_ms <= ? AND told = 1"
_OLD_STEPS = "DELETE FROM operator_step WHERE expires_at_ms <= ?"
_OLD_STATES = "DELETE FROM operator_state WHERE expires_at_ms <= ?"


def end_sessions(
    conn: Connection, operator_id: str, reason: str, *, only: str | None = None, but: str | None = None, at_ms: int,
    actor: Actor,
) -> int:
    """End an operator's visits, each with its audit row: all, one, or all but one. How many ended."""
    ended = 0
    for (session_id,) in conn.execute(_OF_OPERATOR, (operator_id,)).fetchall():
        if (only is None or session_id == only) and session_id != but:
            _end(conn, session_id, operator_id, reason, ended_at_ms=at_ms, at_ms=at_ms, actor=actor)
            ended += 1
    return ended


def _end(
    conn: Connection, session_id: str, operator_id: str, reason: str, *, ended_at_ms: int, at_ms: int, actor: Actor
) -> None:
    conn.execute(_END, (ended_at_ms, reason, session_id))
    save_audit(conn, None, "operator.session_ended", operator_id, None, {"session": session_id, "reason": reason},
               at_ms=at_ms, actor=actor)


class OperatorSessionsPart(Core):
    """Satisfies `control.ports.OperatorSessions` and `SignIns`."""

    # --- visits

    async def open_operator_session(
        self, session: OperatorSession, digest: bytes, address: str, *, replaces: bytes | None, at_ms: int
    ) -> bool:
        def operation(conn: Connection) -> bool:
            s, actor = session, Actor("operator", session.operator_id)
            if conn.execute(_OPEN, (
                s.id, digest, s.via, address, s.created_at_ms, s.idle_until_ms, s.absolute_until_ms, s.fresh_until_ms,
                s.operator_id,
            )).rowcount == 0:
                return False
            if replaces is not None:
                old = conn.execute(_BY_DIGEST, (replaces,)).fetchone()
                if old is not None:
                    _end(conn, old[0], old[1], "replaced", ended_at_ms=at_ms, at_ms=at_ms, actor=actor)
            conn.execute(_DROP_STEPS_OF, (s.operator_id,))
            conn.execute(_SEEN, (at_ms, s.operator_id))
            save_audit(conn, None, "operator.signed_in", s.operator_id, None,
                       {"session": s.id, "via": s.via, "address": address}, at_ms=at_ms, actor=actor)
            return True

        return await self._write(operation)

    async def find_operator_session(self, digest: bytes) -> OperatorSession | None:
        row: tuple[Any, ...] | None = self._near.execute(_FIND, (digest,)).fetchone()
        if row is None:
            return None
        return OperatorSession(
            row[0], row[1], row[2], row[3], OperatorRole(row[4]), row[5], row[6], row[7], row[8], row[9], bool(row[10])
        )

    def touch_operator_session(self, session_id: str, idle_until_ms: int, at_ms: int) -> None:
        self.writer.submit_quietly(lambda conn: conn.execute(_TOUCH, (idle_until_ms, session_id, at_ms)))

    async def load_operator_sessions(self, operator_id: str, at_ms: int) -> Sequence[SessionRow]:
        return [SessionRow(*row) for row in self._near.execute(_LIVE, (operator_id, at_ms, at_ms)).fetchall()]

    async def end_operator_sessions(
        self, operator_id: str, reason: str, *, session_id: str | None = None, at_ms: int, actor: Actor
    ) -> int:
        return await self._write(lambda conn: end_sessions(
            conn, operator_id, reason, only=session_id, at_ms=at_ms, actor=actor
        ))

    # --- on the way to one

    async def begin_attempt(self, attempt: Attempt, *, window_ms: int, most: int) -> int | None:
        def operation(conn: Connection) -> int | None:
            a = attempt
            until: int | None = conn.execute(_LOCKED, (a.account, a.address, a.at_ms)).fetchone()[0]
            if until is not None:
                return until
            for statement, counted in ((_COUNT_ACCOUNT, a.account), (_COUNT_ADDRESS, a.address)):
                number, first = conn.execute(statement, (counted, a.at_ms - window_ms)).fetchone()
                if number >= most:  # they are being checked at this moment: each of them may still pass
                    return int(first) + window_ms
            conn.execute(_BEGIN, (a.id, a.account, a.address, a.shown_address, a.at_ms))
            return None

        return await self._write(operation)

    async def fail_attempt(
        self, attempt: Attempt, operator_id: str | None, stage: str, *, window_ms: int, most: int, lock_ms: int,
        at_ms: int,
    ) -> None:
        def operation(conn: Connection) -> None:
            a = attempt
            conn.execute(_FAILED, (operator_id or "", stage, a.id))
            for statement, counted, what in (
                (_COUNT_ACCOUNT, a.account, "account"), (_COUNT_ADDRESS, a.address, "address"),
            ):
                if conn.execute(statement, (counted, at_ms - window_ms)).fetchone()[0] >= most:
                    conn.execute(_LOCK, (counted, what, operator_id or "", a.shown_address, at_ms, at_ms + lock_ms))

        await self._write(operation)

    async def pass_attempt(self, attempt: Attempt, *, whole: bool) -> None:
        def operation(conn: Connection) -> None:
            conn.execute(_DROP_ATTEMPT, (attempt.id,))
            if whole:
                conn.execute(_FORGIVE, (attempt.account,))

        await self._write(operation)

    async def tell_sign_ins(self, at_ms: int, *, unknown_every_ms: int) -> int:
        """A job: what failed and what was locked goes into the audit log. At accounts that exist each for itself, for
        the locks bound them; all others in one row, that stands for what came together since `unknown_every_ms`."""
        def operation(conn: Connection) -> int:
            rows = conn.execute(_TELL_KNOWN, (_TOLD_AT_ONCE,)).fetchall()
            for attempt_id, happened_ms, operator_id, stage, address in rows:
                conn.execute(_TOLD, (attempt_id,))
                save_audit(conn, None, "operator.sign_in_failed", operator_id, None,
                           {"stage": stage, "address": address}, at_ms=happened_ms, actor=Actor("browser", address))
            locks = conn.execute(_LOCKS_KNOWN, (_TOLD_AT_ONCE,)).fetchall()
            for counted, happened_ms, operator_id, address, until_ms in locks:
                conn.execute(_LOCK_TOLD, (counted,))
                save_audit(conn, None, "operator.locked", operator_id, None,
                           {"what": "account", "address": address, "until_ms": until_ms}, at_ms=happened_ms,
                           actor=Actor("browser", address))
            return len(rows) + len(locks) + _tell_others(conn, at_ms, at_ms - unknown_every_ms)

        return await self.writer.submit(operation)

    async def freshen_operator_session(
        self, session: OperatorSession, fresh_until_ms: int, *, at_ms: int
    ) -> bool:
        def operation(conn: Connection) -> bool:
            if conn.execute(_FRESHEN, (fresh_until_ms, session.id)).rowcount == 0:
                return False
            save_audit(conn, None, "operator.reauthenticated", session.operator_id, None,
                       {"session": session.id, "via": session.via}, at_ms=at_ms,
                       actor=Actor("operator", session.operator_id))
            return True

        return await self._write(operation)

    async def save_step(self, digest: bytes, operator_id: str, expires_at_ms: int) -> None:
        def operation(conn: Connection) -> None:
            conn.execute(_DROP_STEPS_OF, (operator_id,))
            conn.execute(_SAVE_STEP, (digest, operator_id, expires_at_ms))

        await self._write(operation)

    async def find_step(self, digest: bytes, at_ms: int) -> str | None:
        row = self._near.execute(_FIND_STEP, (digest, at_ms)).fetchone()
        return None if row is None else row[0]

    async def drop_step(self, digest: bytes) -> None:
        await self._write(lambda conn: conn.execute(_DROP_STEP, (digest,)).rowcount)

    async def use_state(self, digest: bytes, expires_at_ms: int) -> bool:
        return await self._write(lambda conn: conn.execute(_USE_STATE, (digest, expires_at_ms)).rowcount == 1)

    async def forget_operators(self, at_ms: int) -> int:
        """A job: end visits that have expired, each with its audit row, and drop what has no more use."""
        def operation(conn: Connection) -> int:
            expired = conn.execute(_EXPIRED, (at_ms, at_ms, _EXPIRED_AT_ONCE)).fetchall()
            for session_id, operator_id, ended_at_ms in expired:
                _end(conn, session_id, operator_id, "expired", ended_at_ms=ended_at_ms, at_ms=at_ms,
                     actor=Actor("job", "forget_operators"))
            dropped = conn.execute(_OLD_SESSIONS, (at_ms - KEPT_SESSION_MS,)).rowcount
            dropped += conn.execute(_OLD_ATTEMPTS, (at_ms - WINDOW_MS,)).rowcount
            for statement in (_OLD_LOCKS, _OLD_STEPS, _OLD_STATES):
                dropped += conn.execute(statement, (at_ms,)).rowcount
            return dropped + conn.execute(_OLD_LINKS, (at_ms - KEPT_LINK_MS,)).rowcount

        return await self.writer.submit(operation)


def _tell_others(conn: Connection, at_ms: int, before_ms: int) -> int:
    """One row for the failures at names that nobody has, one for the locks of addresses and of such names."""
    told = 0
    attempts, accounts, addresses, first_ms, address = conn.execute(_UNKNOWN).fetchone()
    if attempts and first_ms <= before_ms:
        conn.execute(_UNKNOWN_TOLD)
        save_audit(conn, None, "operator.sign_in_failed", "", None,
                   {"attempts": attempts, "accounts": accounts, "addresses": addresses, "address": address},
                   at_ms=at_ms, actor=Actor("browser", address))
        told += 1
    locks, first_ms, address = conn.execute(_OTHER_LOCKS).fetchone()
    if locks and first_ms <= before_ms:
        conn.execute(_OTHER_LOCKS_TOLD)
        save_audit(conn, None, "operator.locked", "", None, {"locks": locks, "address": address}, at_ms=at_ms,
                   actor=Actor("browser", address))
        told += 1
    return told
