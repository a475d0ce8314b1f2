"""Operators, their one-time links and their factors. Passwords are hashes, seeds are sealed, codes are digests."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from ownkey.domain.errors import Conflict, StoreError
from ownkey.domain.operators import Factors, Operator, OperatorRole, SetUp
from ownkey.domain.records import Actor
from ownkey.domain.totp import NEVER
from ownkey.domain.workspace import Sealed
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection
from ownkey.store.core import Core
from ownkey.store.operator_sessions import end_sessions

_COLUMNS = """
SELECT o.id, o.email, o.name, o.role, o.disabled, o.password_hash IS NOT NULL, o.oidc_issuer, o.oidc_subject,
  o.shortcuts, o.created_at_ms, o.last_sign_in_at_ms,
  (SELECT count(*) FROM operator_recovery r WHERE r.operator_id = o.id AND r.used_at_ms IS NULL)
FROM operator o
"""
_ONE = _COLUMNS + "WHERE o.id = ?"
_BY_EMAIL = _COLUMNS + "WHERE o.email = ?"
_BY_SUBJECT = _COLUMNS + "WHERE o.oidc_issuer = ? AND o.oidc_subject = ? AND o.oidc_subject <> ''"
_ALL = _COLUMNS + "ORDER BY o.created_at_ms, o.id"
_INSERT = """
INSERT INTO operator(id, email, name, role, oidc_issuer, oidc_subject, created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
_SET_ROLE = "UPDATE operator SET role = ? WHERE id = ?"
_SET_DISABLED = "UPDATE operator SET disabled = ? WHERE id = ?"
_SET_SUBJECT = "UPDATE operator SET oidc_issuer = ?, oidc_subject = ?, role = ?, email = ?, name = ? WHERE id = ?"
_EMAIL_TAKEN = "SELECT 1 FROM operator WHERE email = ? AND id <> ?"
_FORGET_FACTORS = """
UPDATE operator SET password_hash = NULL, totp_salt = NULL, totp_commitment = NULL, totp_nonce = NULL,
  totp_ciphertext = NULL, totp_format = NULL, oidc_issuer = '', oidc_subject = '' WHERE id = ?
"""
_FORGET_RECOVERY = "DELETE FROM operator_recovery WHERE operator_id = ?"
_FORGET_LINK = "DELETE FROM operator_link WHERE operator_id = ?"
_FORGET_STEPS = "DELETE FROM operator_step WHERE operator_id = ?"
_LINK = "INSERT INTO operator_link(operator_id, digest, expires_at_ms) VALUES (?, ?, ?)"
_FIND_LINK = """
SELECT operator_id, expires_at_ms, used_at_ms, password_hash, totp_salt, totp_commitment, totp_nonce, totp_ciphertext,
  totp_format FROM operator_link WHERE digest = ?
"""
_CHOOSE = """
UPDATE operator_link SET password_hash = ?, totp_salt = ?, totp_commitment = ?, totp_nonce = ?, totp_ciphertext = ?,
  totp_format = ? WHERE digest = ? AND used_at_ms IS NULL AND expires_at_ms > ?
"""
_TAKE_LINK = """
UPDATE operator_link SET used_at_ms = ?
WHERE digest = ? AND used_at_ms IS NULL AND expires_at_ms > ? AND password_hash IS NOT NULL
  AND EXISTS (SELECT 1 FROM operator o WHERE o.id = operator_id AND o.disabled = 0)
"""
_ENROL = """
UPDATE operator SET totp_last_step = ?, (password_hash, totp_salt, totp_commitment, totp_nonce, totp_ciphertext,
  totp_format) = (SELECT l.password_hash, l.totp_salt, l.totp_commitment, l.totp_nonce, l.totp_ciphertext, l.totp_format
  FROM operator_link l WHERE l.operator_id = operator.id) WHERE id = ?
"""
_EMPTY_LINK = """
UPDATE operator_link SET password_hash = NULL, totp_salt = NULL, totp_commitment = NULL, totp_nonce = NULL,
  totp_ciphertext = NULL, totp_format = NULL WHERE digest = ?
"""
_FACTORS = """
SELECT password_hash, totp_salt, totp_commitment, totp_nonce, totp_ciphertext, totp_format, totp_last_step
FROM operator WHERE id = ? AND password_hash IS NOT NULL
"""
_USE_STEP = "UPDATE operator SET totp_last_step = ? WHERE id = ? AND totp_last_step < ? AND disabled = 0"
_USE_RECOVERY = """
UPDATE operator_recovery SET used_at_ms = ? WHERE operator_id = ? AND digest = ? AND used_at_ms IS NULL
"""
_SAVE_RECOVERY = "INSERT INTO operator_recovery(operator_id, digest) VALUES (?, ?)"
_SAVE_PASSWORD = "UPDATE operator SET password_hash = ? WHERE id = ? AND password_hash IS NOT NULL"  # noqa: S105
_REHASH = "UPDATE operator SET password_hash = ? WHERE id = ? AND password_hash = ?"
_SHORTCUTS = "UPDATE operator SET shortcuts = ? WHERE id = ?"
_FILTERS = "SELECT name, query FROM operator_filter WHERE operator_id = ? ORDER BY name"
_COUNT_FILTERS = "SELECT count(*) FROM operator_filter WHERE operator_id = ? AND name <> ?"
_SAVE_FILTER = """
INSERT INTO operator_filter(operator_id, name, query, created_at_ms) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET query = excluded.query
"""
_DELETE_FILTER = "DELETE FROM operator_filter WHERE operator_id = ? AND name = ?"


class OperatorsPart(Core):
    """Satisfies `control.ports.Operators`, `SetUps`, `OperatorFactors`, `OidcOperators` and `OperatorWishes`."""

    # --- who there is

    async def add_operator(
        self, operator: Operator, link: tuple[bytes, int] | None, *, at_ms: int, actor: Actor
    ) -> Operator:
        def operation(conn: Connection) -> Operator | StoreError:
            o = operator
            values = (o.id, o.email, o.name, o.role, o.oidc_issuer, o.oidc_subject, o.created_at_ms)
            if conn.execute(_INSERT, values).rowcount == 0:
                return Conflict("The operator exists.")
            if link is not None:
                conn.execute(_LINK, (o.id, *link))
            save_audit(conn, None, "operator.added", o.id, None, {
                "email": o.email, "name": o.name, "role": o.role, "by": "link" if link else "oidc",
            }, at_ms=at_ms, actor=actor)
            return _load(conn, o.id)

        return await self._write(operation)

    async def load_operators(self) -> Sequence[Operator]:
        return [_operator(row) for row in self._near.execute(_ALL).fetchall()]

    async def find_operator(self, reference: str) -> Operator | None:
        row = self._near.execute(_ONE, (reference,)).fetchone() or self._near.execute(
            _BY_EMAIL, (reference,)).fetchone()
        return None if row is None else _operator(row)

    async def change_operator(
        self, operator_id: str, *, role: OperatorRole | None = None, disabled: bool | None = None, at_ms: int,
        actor: Actor,
    ) -> Operator:
        def operation(conn: Connection) -> Operator:
            before = _load(conn, operator_id)
            if role is not None and role is not before.role:
                conn.execute(_SET_ROLE, (role, operator_id))
                save_audit(conn, None, "operator.role_changed", operator_id, {"role": before.role}, {"role": role},
                           at_ms=at_ms, actor=actor)
                end_sessions(conn, operator_id, "role_changed", at_ms=at_ms, actor=actor)
            if disabled is not None and disabled is not before.disabled:
                conn.execute(_SET_DISABLED, (int(disabled), operator_id))
                save_audit(conn, None, "operator.disabled" if disabled else "operator.enabled", operator_id, None, None,
                           at_ms=at_ms, actor=actor)
            if disabled:
                conn.execute(_FORGET_LINK, (operator_id,))
                conn.execute(_FORGET_STEPS, (operator_id,))
                end_sessions(conn, operator_id, "disabled", at_ms=at_ms, actor=actor)
            return _load(conn, operator_id)

        return await self._write(operation)

    async def reset_operator(
        self, operator_id: str, link: tuple[bytes, int] | None, *, at_ms: int, actor: Actor
    ) -> Operator:
        def operation(conn: Connection) -> Operator:
            for statement in (_FORGET_FACTORS, _FORGET_RECOVERY, _FORGET_LINK, _FORGET_STEPS):
                conn.execute(statement, (operator_id,))
            if link is not None:
                conn.execute(_LINK, (operator_id, *link))
            save_audit(conn, None, "operator.reset", operator_id, None, None, at_ms=at_ms, actor=actor)
            end_sessions(conn, operator_id, "reset", at_ms=at_ms, actor=actor)
            return _load(conn, operator_id)

        return await self._write(operation)

    # --- setting up

    async def find_set_up(self, digest: bytes) -> SetUp | None:
        row = self._near.execute(_FIND_LINK, (digest,)).fetchone()
        if row is None:
            return None
        operator = await self.find_operator(row[0])
        assert operator is not None, "a link is an operator's"
        return SetUp(operator, row[1], row[2], row[3], None if row[7] is None else Sealed(*row[4:9]))

    async def save_set_up(self, digest: bytes, password_hash: str, totp: Sealed, *, at_ms: int) -> bool:
        values = (password_hash, *_parts(totp), digest, at_ms)
        return await self._write(lambda conn: conn.execute(_CHOOSE, values).rowcount == 1)

    async def finish_set_up(
        self, digest: bytes, step: int, recovery: Sequence[bytes], *, at_ms: int
    ) -> Operator | None:
        def operation(conn: Connection) -> Operator | None:
            found = conn.execute(_FIND_LINK, (digest,)).fetchone()
            if found is None or conn.execute(_TAKE_LINK, (at_ms, digest, at_ms)).rowcount == 0:
                return None
            operator_id: str = found[0]
            conn.execute(_ENROL, (step, operator_id))
            conn.execute(_EMPTY_LINK, (digest,))
            _replace_recovery(conn, operator_id, recovery)
            save_audit(conn, None, "operator.enrolled", operator_id, None, {"recovery_codes": len(recovery)},
                       at_ms=at_ms, actor=Actor("operator", operator_id))
            return _load(conn, operator_id)

        return await self._write(operation)

    # --- proving who one is

    async def load_factors(self, operator_id: str) -> Factors | None:
        row = self._near.execute(_FACTORS, (operator_id,)).fetchone()
        return None if row is None else Factors(row[0], Sealed(*row[1:6]), row[6])

    async def use_totp_step(self, operator_id: str, step: int) -> bool:
        return await self._write(lambda conn: conn.execute(_USE_STEP, (step, operator_id, step)).rowcount == 1)

    async def use_recovery_code(self, operator_id: str, digest: bytes, *, at_ms: int) -> bool:
        def operation(conn: Connection) -> bool:
            if conn.execute(_USE_RECOVERY, (at_ms, operator_id, digest)).rowcount == 0:
                return False
            left = _load(conn, operator_id).recovery_codes_left
            save_audit(conn, None, "operator.recovery_code_used", operator_id, None, {"left": left}, at_ms=at_ms,
                       actor=Actor("operator", operator_id))
            return True

        return await self._write(operation)

    async def save_password(
        self, operator_id: str, password_hash: str, *, replaces: str | None, keep_session: str | None, at_ms: int
    ) -> bool:
        def operation(conn: Connection) -> bool:
            if replaces is not None:
                return conn.execute(_REHASH, (password_hash, operator_id, replaces)).rowcount == 1
            if conn.execute(_SAVE_PASSWORD, (password_hash, operator_id)).rowcount == 0:
                return False
            actor = Actor("operator", operator_id)
            conn.execute(_FORGET_STEPS, (operator_id,))
            save_audit(conn, None, "operator.password_changed", operator_id, None, None, at_ms=at_ms, actor=actor)
            end_sessions(conn, operator_id, "password_changed", but=keep_session, at_ms=at_ms, actor=actor)
            return True

        return await self._write(operation)

    async def save_recovery_codes(self, operator_id: str, digests: Sequence[bytes], *, at_ms: int) -> None:
        def operation(conn: Connection) -> None:
            _replace_recovery(conn, operator_id, digests)
            save_audit(conn, None, "operator.recovery_codes_replaced", operator_id, None, {"codes": len(digests)},
                       at_ms=at_ms, actor=Actor("operator", operator_id))

        await self._write(operation)

    # --- through a provider

    async def find_oidc_operator(self, issuer: str, subject: str, email: str) -> Operator | None:
        row = self._near.execute(_BY_SUBJECT, (issuer, subject)).fetchone() or self._near.execute(
            _BY_EMAIL, (email,)).fetchone()
        return None if row is None else _operator(row)

    async def save_oidc_operator(self, operator: Operator, *, at_ms: int) -> Operator:
        def operation(conn: Connection) -> Operator | StoreError:
            o, before = operator, _load(conn, operator.id)
            if conn.execute(_EMAIL_TAKEN, (o.email, o.id)).fetchone():
                return Conflict("The e-mail address is another operator's.")
            conn.execute(_SET_SUBJECT, (o.oidc_issuer, o.oidc_subject, o.role, o.email, o.name, o.id))
            told = {
                name: (getattr(before, name), getattr(o, name)) for name in ("email", "role", "oidc_issuer")
                if getattr(before, name) != getattr(o, name)
            }
            if told:
                save_audit(
                    conn, None, "operator.changed_at_provider", o.id, {name: pair[0] for name, pair in told.items()},
                    {name: pair[1] for name, pair in told.items()}, at_ms=at_ms, actor=Actor("operator", o.id),
                )
            if o.role is not before.role:
                end_sessions(conn, o.id, "role_changed", at_ms=at_ms, actor=Actor("operator", o.id))
            return _load(conn, o.id)

        return await self._write(operation)

    # --- what they like

    async def save_shortcuts(self, operator_id: str, on: bool) -> None:
        await self._write(lambda conn: conn.execute(_SHORTCUTS, (int(on), operator_id)).rowcount)

    async def load_filters(self, operator_id: str) -> Sequence[tuple[str, str]]:
        return [(row[0], row[1]) for row in self._near.execute(_FILTERS, (operator_id,)).fetchall()]

    async def save_filter(self, operator_id: str, name: str, query: str, *, most: int, at_ms: int) -> bool:
        def operation(conn: Connection) -> bool:
            if conn.execute(_COUNT_FILTERS, (operator_id, name)).fetchone()[0] >= most:
                return False
            conn.execute(_SAVE_FILTER, (operator_id, name, query, at_ms))
            return True

        return await self._write(operation)

    async def delete_filter(self, operator_id: str, name: str) -> bool:
        return await self._write(lambda conn: conn.execute(_DELETE_FILTER, (operator_id, name)).rowcount == 1)


def _replace_recovery(conn: Connection, operator_id: str, digests: Sequence[bytes]) -> None:
    conn.execute(_FORGET_RECOVERY, (operator_id,))
    conn.executemany(_SAVE_RECOVERY, [(operator_id, digest) for digest in digests])


def _load(conn: sqlite3.Connection, operator_id: str) -> Operator:
    row = conn.execute(_ONE, (operator_id,)).fetchone()
    assert row is not None, "operators are never deleted"
    return _operator(row)


def _operator(row: tuple[Any, ...]) -> Operator:
    return Operator(
        row[0], row[1], row[2], OperatorRole(row[3]), bool(row[4]), bool(row[5]), row[6], row[7], bool(row[8]), row[9],
        row[10], row[11],
    )


def _parts(sealed: Sealed) -> tuple[bytes, bytes, bytes, bytes, int]:
    return sealed.salt, sealed.commitment, sealed.nonce, sealed.ciphertext, sealed.format


assert NEVER == -1, "the schema's default for a seed of which no code was used"
