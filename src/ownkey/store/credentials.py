"""Credentials as ciphertext rows, and what was learnt about their health: one open incident each, at most."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ownkey.domain.errors import Conflict, StoreError
from ownkey.domain.health import KEY_LIMIT, Evidence, Sign, is_unhealthy, judge
from ownkey.domain.records import Actor, ProbeDue
from ownkey.domain.workspace import Credential, CredentialStatus, Health, Sealed
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection
from ownkey.store.core import Core
from ownkey.store.notices import announce, announce_change, load_standing, payer_terms, utc_text

_COLUMNS = """
SELECT id, workspace_id, provider, version, origin, hint, label, status, health, salt, commitment, nonce, ciphertext,
  format, fingerprint, created_at_ms, undecryptable, health_signal, health_at_ms, next_probe_ms, probe_failures,
  expires_at_ms FROM credential
"""
_ALL = _COLUMNS + "WHERE workspace_id = ? ORDER BY provider"
_ONE = _COLUMNS + "WHERE workspace_id = ? AND provider = ?"
_BY_ID = _COLUMNS + "WHERE workspace_id = ? AND id = ?"
_INSERT = """
INSERT INTO credential(id, workspace_id, provider, version, origin, hint, label, status, health, salt, commitment,
  nonce, ciphertext, format, fingerprint, created_at_ms, undecryptable, health_signal, health_at_ms, next_probe_ms,
  probe_failures, expires_at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_DELETE = "DELETE FROM credential WHERE workspace_id = ? AND provider = ?"
_SET_STATUS = "UPDATE credential SET status = ? WHERE workspace_id = ? AND provider = ?"
_SET_HEALTH = """
UPDATE credential SET health = ?, health_signal = ?, health_at_ms = ?, next_probe_ms = ?, probe_failures = ?
WHERE workspace_id = ? AND id = ?
"""
_SET_EXPIRY = "UPDATE credential SET expires_at_ms = ? WHERE workspace_id = ? AND id = ?"
# A key out of funds is tried by a real call, but where a free probe can tell.
_DUE = """
SELECT workspace_id, provider, id, version FROM credential
WHERE health IN ('rejected', 'no_funds') AND next_probe_ms <= ? AND status = 'enabled' AND undecryptable = 0
  AND (health = 'rejected' OR (provider = 'openrouter' AND health_signal = ?))
ORDER BY next_probe_ms LIMIT ?
"""
_LEASE = "UPDATE credential SET next_probe_ms = ? WHERE workspace_id = ? AND id = ?"
_SET_UNDECRYPTABLE = """
UPDATE credential SET undecryptable = 1 WHERE workspace_id = ? AND id = ? AND version = ? AND undecryptable = 0
"""
_SET_DECRYPTABLE = "UPDATE credential SET undecryptable = 0 WHERE workspace_id = ? AND id = ?"
_OPEN_INCIDENT = """
INSERT INTO incident(workspace_id, credential_id, provider, cause, signal, opened_at_ms) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
_CLOSE_INCIDENT = """
UPDATE incident SET closed_at_ms = ? WHERE workspace_id = ? AND credential_id = ? AND closed_at_ms IS NULL
RETURNING id
"""
_OPEN_CAUSE = "SELECT cause FROM incident WHERE workspace_id = ? AND credential_id = ? AND closed_at_ms IS NULL"
_INCIDENTS = """
SELECT id, credential_id, provider, cause, signal, opened_at_ms, closed_at_ms FROM incident
WHERE workspace_id = ? ORDER BY id DESC LIMIT ?
"""
_ALWAYS_OFF = "UPDATE workspace SET always_use_key = 0 WHERE id = ? AND always_use_key = 1"
_VERSION_UP = "UPDATE workspace SET settings_version = settings_version + 1 WHERE id = ?"

_KEEPER = Actor("job", "health")
_UNDECRYPTABLE = "undecryptable"
_SIGN_OF = {Health.OK: Sign.ANSWERED, Health.REJECTED: Sign.REFUSED, Health.NO_FUNDS: Sign.NO_FUNDS}


def _credential(row: tuple[Any, ...]) -> Credential:
    return Credential(
        id=row[0], workspace_id=row[1], provider=row[2], version=row[3], origin=row[4], hint=row[5], label=row[6],
        status=CredentialStatus(row[7]), health=Health(row[8]),
        sealed=Sealed(row[9], row[10], row[11], row[12], row[13]), fingerprint=row[14], created_at_ms=row[15],
        undecryptable=bool(row[16]), health_signal=row[17], health_at_ms=row[18], next_probe_ms=row[19],
        probe_failures=row[20], expires_at_ms=row[21],
    )


def read_credentials(conn: sqlite3.Connection, workspace_id: str) -> dict[str, Credential]:
    """By provider."""
    return {row[2]: _credential(row) for row in conn.execute(_ALL, (workspace_id,)).fetchall()}


def _read_one(conn: sqlite3.Connection, sql: str, workspace_id: str, key: str) -> Credential | None:
    row = conn.execute(sql, (workspace_id, key)).fetchone()
    return None if row is None else _credential(row)


def note_health(
    conn: Connection, workspace_id: str, credential_id: str, version: int, evidence: Evidence
) -> Credential | None:
    """Let the domain judge the evidence and save what it says; the credential afterwards.

    None: the credential is gone, or was replaced since. What was said about another key says nothing about this one.
    """
    credential = _read_one(conn, _BY_ID, workspace_id, credential_id)
    if credential is None or credential.version != version:
        return None
    if evidence.expires_at_ms not in (None, credential.expires_at_ms):
        conn.execute(_SET_EXPIRY, (evidence.expires_at_ms, workspace_id, credential_id))
    if credential.undecryptable and evidence.planned is None and evidence.sign in (Sign.ANSWERED, Sign.ACCEPTED):
        # Somebody has just opened it to ask: the master key is back.
        conn.execute(_SET_DECRYPTABLE, (workspace_id, credential_id))
        credential = replace(credential, undecryptable=False)
        if not is_unhealthy(credential):
            _close_incident(conn, credential, evidence.at_ms)
    found = judge(credential, evidence)
    if found is None:
        return credential
    conn.execute(_SET_HEALTH, (
        found.health, found.signal, found.since_ms, found.next_probe_ms, found.probe_failures, workspace_id,
        credential_id,
    ))
    if found.incident == "open":
        _open_incident(conn, credential, found.health, found.signal, found.since_ms, evidence.at_ms)
    elif found.incident == "close" and not credential.undecryptable:
        _close_incident(conn, credential, evidence.at_ms)
    return _read_one(conn, _BY_ID, workspace_id, credential_id)


def _open_incident(
    conn: Connection, credential: Credential, cause: str, signal: str, since_ms: int, at_ms: int
) -> None:
    """One incident, one notice, one audit row; nothing where one is open already. `since_ms` is when it began."""
    incident = conn.execute(_OPEN_INCIDENT, (
        credential.workspace_id, credential.id, credential.provider, cause, signal, since_ms,
    ))
    if incident.rowcount:
        announce(conn, credential.workspace_id, f"incident:{incident.lastrowid}:opened", "credential_unhealthy", {
            "workspace_id": credential.workspace_id, "provider": credential.provider, "hint": credential.hint,
            "label": credential.label, "cause": cause, "signal": signal, "since": utc_text(since_ms),
            "credential": credential.id, "since_ms": since_ms, "at": utc_text(at_ms),
            **payer_terms(conn, credential.workspace_id, at_ms),
        }, at_ms, group=f"key:{credential.id}")
        _audit_incident(conn, credential, "credential.unhealthy", {"cause": cause, "signal": signal}, at_ms)


def _close_incident(conn: Connection, credential: Credential, at_ms: int) -> None:
    found = conn.execute(_CLOSE_INCIDENT, (at_ms, credential.workspace_id, credential.id)).fetchone()
    if found is not None:
        announce(conn, credential.workspace_id, f"incident:{found[0]}:closed", "credential_recovered", {
            "workspace_id": credential.workspace_id, "provider": credential.provider, "hint": credential.hint,
            "label": credential.label, "at": utc_text(at_ms),
        }, at_ms, group=f"key:{credential.id}")
        _audit_incident(conn, credential, "credential.recovered", {"incident": found[0]}, at_ms)


def _audit_incident(
    conn: Connection, credential: Credential, action: str, what: Mapping[str, Any], at_ms: int
) -> None:
    save_audit(
        conn, credential.workspace_id, action, credential.provider, None,
        {"id": credential.id, "version": credential.version, "hint": credential.hint, **what}, at_ms=at_ms,
        actor=_KEEPER,
    )


def _key_change(before: Credential | None, after: Credential | None) -> dict[str, Any]:
    """A changed key as a notice tells it: its states, and the hint that people know it by."""
    shown = after or before
    assert shown is not None
    return {
        "what": "credential", "provider": shown.provider, "hint": shown.hint, "label": shown.label,
        "before": _state(before), "after": _state(after),
    }


def _state(credential: Credential | None) -> str:
    if credential is None:
        return "missing"
    return "undecryptable" if credential.undecryptable else str(credential.status)


def _turn_off_always(conn: Connection, workspace_id: str, at_ms: int, actor: Actor) -> list[dict[str, Any]]:
    """With the key that it names: the switch must not outlive it and stop AI. What changed, as a notice tells it."""
    if not conn.execute(_ALWAYS_OFF, (workspace_id,)).rowcount:
        return []
    save_audit(
        conn, workspace_id, "workspace.changed", workspace_id, {"always_use_key": True}, {"always_use_key": False},
        at_ms=at_ms, actor=actor,
    )
    return [{"what": "always_use_key", "before": True, "after": False}]


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
            standing = load_standing(conn, credential.workspace_id, at_ms)
            conn.execute(_DELETE, (credential.workspace_id, credential.provider))
            sealed = credential.sealed
            conn.execute(_INSERT, (
                credential.id, credential.workspace_id, credential.provider, credential.version, credential.origin,
                credential.hint, credential.label, credential.status, credential.health, sealed.salt,
                sealed.commitment, sealed.nonce, sealed.ciphertext, sealed.format, credential.fingerprint,
                credential.created_at_ms, credential.undecryptable, credential.health_signal,
                credential.health_at_ms, credential.next_probe_ms, credential.probe_failures,
                credential.expires_at_ms,
            ))
            if before is not None:
                self._settle_incident(conn, before, credential, at_ms)
            conn.execute(_VERSION_UP, (credential.workspace_id,))
            save_audit(
                conn, credential.workspace_id, "credential.saved", credential.provider, _told(before),
                _told(credential), at_ms=at_ms, actor=actor,
            )
            announce_change(
                conn, credential.workspace_id, standing, [_key_change(before, credential)], at_ms, actor
            )
            return before is not None

        if await self._write(operation, credential.workspace_id):
            await self._scrub()

    def _settle_incident(self, conn: Connection, before: Credential, after: Credential, at_ms: int) -> None:
        """A new key ends the old one's incident where it is known to work; where nobody could ask, the first answer
        in traffic will. A key that could not be opened is cured by any new one."""
        found = conn.execute(_OPEN_CAUSE, (before.workspace_id, before.id)).fetchone()
        if found is None:
            return
        if after.health is Health.OK or (found[0] == _UNDECRYPTABLE and not is_unhealthy(after)):
            _close_incident(conn, after if after.id == before.id else before, at_ms)
        elif after.id != before.id:
            conn.execute(_CLOSE_INCIDENT, (at_ms, before.workspace_id, before.id)).fetchall()

    async def set_credential_status(
        self, workspace_id: str, provider: str, status: str, *, at_ms: int, actor: Actor, always_off: bool = False,
    ) -> Credential | None:
        def operation(conn: Connection) -> Credential | None:
            before = _read_one(conn, _ONE, workspace_id, provider)
            if before is None:
                return None
            standing = load_standing(conn, workspace_id, at_ms)
            conn.execute(_SET_STATUS, (CredentialStatus(status), workspace_id, provider))
            switched = _turn_off_always(conn, workspace_id, at_ms, actor) if always_off else []
            conn.execute(_VERSION_UP, (workspace_id,))
            after = _read_one(conn, _ONE, workspace_id, provider)
            save_audit(
                conn, workspace_id, "credential.status", provider, _told(before), _told(after), at_ms=at_ms,
                actor=actor,
            )
            changed = after is not None and after.status is not before.status
            if changed or switched:
                told = [_key_change(before, after)] if changed else []
                announce_change(conn, workspace_id, standing, [*told, *switched], at_ms, actor)
            return after

        return await self._write(operation, workspace_id)

    async def note_health(
        self, workspace_id: str, credential_id: str, version: int, evidence: Evidence
    ) -> Credential | None:
        """The credential afterwards; None: it is gone or was replaced, and nothing was changed."""
        return await self._write(
            lambda conn: note_health(conn, workspace_id, credential_id, version, evidence), workspace_id
        )

    async def claim_probes(self, due_by_ms: int, until_ms: int, limit: int) -> Sequence[ProbeDue]:
        """The enabled credentials whose free probe is due by then, longest overdue first; each is put off until
        `until_ms`, so that nobody else probes it meanwhile and a process that dies does not forget it."""
        asked = (due_by_ms, KEY_LIMIT, limit)
        if not self._near.execute(_DUE, asked).fetchone():
            return []

        def operation(conn: Connection) -> list[ProbeDue]:
            found = [ProbeDue(*row) for row in conn.execute(_DUE, asked).fetchall()]
            for due in found:
                conn.execute(_LEASE, (until_ms, due.workspace_id, due.credential_id))
            return found

        def forget(claimed: list[ProbeDue]) -> None:
            for due in claimed:
                self._forget(due.workspace_id)

        return await self.writer.submit(operation, then=forget)

    async def delete_credential(
        self, workspace_id: str, provider: str, *, at_ms: int, actor: Actor, always_off: bool = False
    ) -> bool:
        def operation(conn: Connection) -> bool:
            before = _read_one(conn, _ONE, workspace_id, provider)
            if before is None:
                return False
            standing = load_standing(conn, workspace_id, at_ms)
            conn.execute(_DELETE, (workspace_id, provider))
            conn.execute(_CLOSE_INCIDENT, (at_ms, workspace_id, before.id)).fetchall()
            switched = _turn_off_always(conn, workspace_id, at_ms, actor) if always_off else []
            conn.execute(_VERSION_UP, (workspace_id,))
            save_audit(
                conn, workspace_id, "credential.deleted", provider, _told(before), None, at_ms=at_ms, actor=actor
            )
            announce_change(conn, workspace_id, standing, [_key_change(before, None), *switched], at_ms, actor)
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

    def mark(
        self, credential: Credential, health: Health, signal: str, at_ms: int, *, resets_at_ms: int | None = None
    ) -> bool:
        """Queued, not awaited. What is known already is not written again. Always true: only who can ask the
        provider may say that a rejection speaks of one model."""
        evidence = Evidence(_SIGN_OF[health], signal, at_ms, planned=credential, resets_at_ms=resets_at_ms)
        known = self._states.get(credential.workspace_id)
        current = None if known is None else known.credentials.get(credential.provider)
        if current is not None and current.id == credential.id and current.version == credential.version \
                and judge(current, evidence) is None:
            return True
        self.writer.submit_quietly(
            lambda conn: note_health(conn, credential.workspace_id, credential.id, credential.version, evidence),
            then=lambda _: self._forget(credential.workspace_id),
        )
        return True

    def mark_undecryptable(self, credential: Credential, at_ms: int) -> None:
        def operation(conn: Connection) -> None:
            if conn.execute(
                _SET_UNDECRYPTABLE, (credential.workspace_id, credential.id, credential.version)
            ).rowcount:
                _open_incident(conn, credential, _UNDECRYPTABLE, "the key cannot be opened", at_ms, at_ms)
                save_audit(
                    conn, credential.workspace_id, "credential.undecryptable", credential.provider, None,
                    _told(credential), at_ms=at_ms, actor=Actor("job", "gateway"),
                )

        known = self._states.get(credential.workspace_id)
        current = None if known is None else known.credentials.get(credential.provider)
        if current is not None and current.id == credential.id and current.undecryptable:
            return
        self.writer.submit_quietly(operation, then=lambda _: self._forget(credential.workspace_id))
