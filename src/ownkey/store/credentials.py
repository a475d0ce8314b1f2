"""Credentials as ciphertext rows, and what traffic says about their health: one open incident each, at most."""

import sqlite3
from collections.abc import Mapping
from typing import Any

from ownkey.domain.errors import Conflict, StoreError
from ownkey.domain.records import Actor
from ownkey.domain.workspace import Credential, CredentialStatus, Health, Sealed
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection
from ownkey.store.core import Core
from ownkey.store.periods import announce, utc_text

# How long a key that failed is passed over before traffic tries it again, where something else can answer.
PROBE_AFTER_MS = {Health.REJECTED: 5 * 60_000, Health.NO_FUNDS: 15 * 60_000}
"""An unhealthy credential lets one call through, or is probed, this long after it failed."""

_COLUMNS = """
SELECT id, workspace_id, provider, version, origin, hint, label, status, health, salt, commitment, nonce, ciphertext,
  format, fingerprint, created_at_ms, undecryptable, health_signal, health_at_ms, next_probe_ms FROM credential
"""
_ALL = _COLUMNS + "WHERE workspace_id = ? ORDER BY provider"
_ONE = _COLUMNS + "WHERE workspace_id = ? AND provider = ?"
_BY_ID = _COLUMNS + "WHERE workspace_id = ? AND id = ?"
_INSERT = """
INSERT INTO credential(id, workspace_id, provider, version, origin, hint, label, status, health, salt, commitment,
  nonce, ciphertext, format, fingerprint, created_at_ms, undecryptable, health_signal, health_at_ms, next_probe_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_DELETE = "DELETE FROM credential WHERE workspace_id = ? AND provider = ?"
_SET_STATUS = "UPDATE credential SET status = ? WHERE workspace_id = ? AND provider = ?"
_SET_HEALTH = """
UPDATE credential SET health = ?, health_signal = ?, health_at_ms = ?, next_probe_ms = ?
WHERE workspace_id = ? AND id = ?
"""
_SET_UNDECRYPTABLE = "UPDATE credential SET undecryptable = 1 WHERE workspace_id = ? AND id = ? AND version = ?"
_OPEN_INCIDENT = """
INSERT INTO incident(workspace_id, credential_id, provider, cause, signal, opened_at_ms) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
_CLOSE_INCIDENT = """
UPDATE incident SET closed_at_ms = ? WHERE workspace_id = ? AND credential_id = ? AND closed_at_ms IS NULL
RETURNING id
"""
_INCIDENTS = """
SELECT id, credential_id, provider, cause, signal, opened_at_ms, closed_at_ms FROM incident
WHERE workspace_id = ? ORDER BY id DESC LIMIT ?
"""
_VERSION_UP = "UPDATE workspace SET settings_version = settings_version + 1 WHERE id = ?"

_UNHEALTHY = (Health.REJECTED, Health.NO_FUNDS)


def _credential(row: tuple[Any, ...]) -> Credential:
    return Credential(
        id=row[0], workspace_id=row[1], provider=row[2], version=row[3], origin=row[4], hint=row[5], label=row[6],
        status=CredentialStatus(row[7]), health=Health(row[8]),
        sealed=Sealed(row[9], row[10], row[11], row[12], row[13]), fingerprint=row[14], created_at_ms=row[15],
        undecryptable=bool(row[16]), health_signal=row[17], health_at_ms=row[18], next_probe_ms=row[19],
    )


def read_credentials(conn: sqlite3.Connection, workspace_id: str) -> dict[str, Credential]:
    """By provider."""
    return {row[2]: _credential(row) for row in conn.execute(_ALL, (workspace_id,)).fetchall()}


def _read_one(conn: sqlite3.Connection, sql: str, workspace_id: str, key: str) -> Credential | None:
    row = conn.execute(sql, (workspace_id, key)).fetchone()
    return None if row is None else _credential(row)


def set_health(
    conn: Connection, workspace_id: str, credential_id: str, version: int | None, health: Health, signal: str,
    next_probe_ms: int, at_ms: int,
) -> None:
    """Change a credential's health; opens an incident on a change to the worse, closes it on recovery.

    `version`: what was said about a key that has been replaced since says nothing about the new one.
    """
    credential = _read_one(conn, _BY_ID, workspace_id, credential_id)
    if credential is None or (version is not None and credential.version != version):
        return
    conn.execute(_SET_HEALTH, (health, signal, at_ms, next_probe_ms, workspace_id, credential_id))
    if health in _UNHEALTHY:
        _open_incident(conn, credential, health, signal, at_ms)
    elif health is Health.OK and not credential.undecryptable:
        _close_incident(conn, credential, at_ms)


def _open_incident(conn: Connection, credential: Credential, cause: str, signal: str, at_ms: int) -> None:
    incident = conn.execute(_OPEN_INCIDENT, (
        credential.workspace_id, credential.id, credential.provider, cause, signal, at_ms,
    ))
    if incident.rowcount:
        announce(conn, credential.workspace_id, f"incident:{incident.lastrowid}:opened", "credential_unhealthy", {
            "workspace_id": credential.workspace_id, "provider": credential.provider, "hint": credential.hint,
            "label": credential.label, "cause": cause, "signal": signal, "at": utc_text(at_ms),
        }, at_ms)


def _close_incident(conn: Connection, credential: Credential, at_ms: int) -> None:
    found = conn.execute(_CLOSE_INCIDENT, (at_ms, credential.workspace_id, credential.id)).fetchone()
    if found is not None:
        announce(conn, credential.workspace_id, f"incident:{found[0]}:closed", "credential_recovered", {
            "workspace_id": credential.workspace_id, "provider": credential.provider, "hint": credential.hint,
            "label": credential.label, "at": utc_text(at_ms),
        }, at_ms)


def _told(credential: Credential | None) -> dict[str, Any] | None:
    """What the audit log may know of a credential."""
    if credential is None:
        return None
    return {
        "id": credential.id, "provider": credential.provider, "version": credential.version, "hint": credential.hint,
        "label": credential.label, "status": credential.status, "origin": credential.origin,
        "fingerprint": credential.fingerprint.hex(),
    }


class CredentialsPart(Core):
    """Satisfies `control.ports.Credentials` and `gateway.ports.HealthLog`."""

    async def save_credential(self, credential: Credential, *, at_ms: int, actor: Actor) -> None:
        """Raises Conflict if the stored version is not older: somebody else has replaced it meanwhile."""
        def operation(conn: Connection) -> bool | StoreError:
            before = _read_one(conn, _ONE, credential.workspace_id, credential.provider)
            if before is not None and credential.version <= before.version:
                return Conflict("The key was replaced meanwhile; look at the current one and save again.")
            conn.execute(_DELETE, (credential.workspace_id, credential.provider))
            sealed = credential.sealed
            conn.execute(_INSERT, (
                credential.id, credential.workspace_id, credential.provider, credential.version, credential.origin,
                credential.hint, credential.label, credential.status, credential.health, sealed.salt,
                sealed.commitment, sealed.nonce, sealed.ciphertext, sealed.format, credential.fingerprint,
                credential.created_at_ms, credential.undecryptable, credential.health_signal,
                credential.health_at_ms, credential.next_probe_ms,
            ))
            if before is not None and credential.health not in _UNHEALTHY:
                _close_incident(conn, before, at_ms)
            conn.execute(_VERSION_UP, (credential.workspace_id,))
            save_audit(
                conn, credential.workspace_id, "credential.saved", credential.provider, _told(before),
                _told(credential), at_ms=at_ms, actor=actor,
            )
            return before is not None

        if await self._write(operation, credential.workspace_id):
            await self._scrub()

    async def set_credential_status(
        self, workspace_id: str, provider: str, status: str, *, at_ms: int, actor: Actor
    ) -> Credential | None:
        def operation(conn: Connection) -> Credential | None:
            before = _read_one(conn, _ONE, workspace_id, provider)
            if before is None:
                return None
            conn.execute(_SET_STATUS, (CredentialStatus(status), workspace_id, provider))
            conn.execute(_VERSION_UP, (workspace_id,))
            after = _read_one(conn, _ONE, workspace_id, provider)
            save_audit(
                conn, workspace_id, "credential.status", provider, _told(before), _told(after), at_ms=at_ms,
                actor=actor,
            )
            return after

        return await self._write(operation, workspace_id)

    async def set_credential_health(
        self, workspace_id: str, credential_id: str, health: Health, signal: str, next_probe_ms: int, *, at_ms: int
    ) -> None:
        await self._write(
            lambda conn: set_health(conn, workspace_id, credential_id, None, health, signal, next_probe_ms, at_ms),
            workspace_id,
        )

    async def delete_credential(self, workspace_id: str, provider: str, *, at_ms: int, actor: Actor) -> bool:
        def operation(conn: Connection) -> bool:
            before = _read_one(conn, _ONE, workspace_id, provider)
            if before is None:
                return False
            conn.execute(_DELETE, (workspace_id, provider))
            conn.execute(_CLOSE_INCIDENT, (at_ms, workspace_id, before.id)).fetchall()
            conn.execute(_VERSION_UP, (workspace_id,))
            save_audit(
                conn, workspace_id, "credential.deleted", provider, _told(before), None, at_ms=at_ms, actor=actor
            )
            return True

        deleted = await self._write(operation, workspace_id)
        if deleted:
            await self._scrub()
        return deleted

    async def load_incidents(self, workspace_id: str, *, limit: int = 50) -> list[Mapping[str, Any]]:
        """Newest first; `closed_at_ms` None: still open."""
        names = ("id", "credential_id", "provider", "cause", "signal", "opened_at_ms", "closed_at_ms")
        rows = self._near.execute(_INCIDENTS, (workspace_id, max(0, min(limit, 1_000)))).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]

    async def save_audit(
        self, workspace_id: str | None, action: str, target: str, before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None, *, at_ms: int, actor: Actor
    ) -> None:
        await self._write(
            lambda conn: save_audit(conn, workspace_id, action, target, before, after, at_ms=at_ms, actor=actor)
        )

    def mark(self, credential: Credential, health: Health, signal: str, at_ms: int) -> None:
        """Queued, not awaited. What is known already is not written again."""
        known = self._states.get(credential.workspace_id)
        current = None if known is None else known.credentials.get(credential.provider)
        if current is not None and current.version == credential.version and current.health is health \
                and (current.health_signal == signal or health is Health.OK):
            return
        next_probe_ms = at_ms + PROBE_AFTER_MS[health] if health in PROBE_AFTER_MS else 0
        self.writer.submit_quietly(
            lambda conn: set_health(
                conn, credential.workspace_id, credential.id, credential.version, health, signal, next_probe_ms, at_ms
            ),
            then=lambda _: self._forget(credential.workspace_id),
        )

    def mark_undecryptable(self, credential: Credential, at_ms: int) -> None:
        def operation(conn: Connection) -> None:
            if conn.execute(
                _SET_UNDECRYPTABLE, (credential.workspace_id, credential.id, credential.version)
            ).rowcount:
                _open_incident(conn, credential, "undecryptable", "the key cannot be opened", at_ms)
                save_audit(
                    conn, credential.workspace_id, "credential.undecryptable", credential.provider, None,
                    _told(credential), at_ms=at_ms, actor=Actor("job", "gateway"),
                )

        known = self._states.get(credential.workspace_id)
        current = None if known is None else known.credentials.get(credential.provider)
        if current is not None and current.id == credential.id and current.undecryptable:
            return
        self.writer.submit_quietly(operation, then=lambda _: self._forget(credential.workspace_id))
