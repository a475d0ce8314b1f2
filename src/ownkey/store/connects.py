"""Sign-ins at OpenRouter that were begun: each is taken once, and its verifier leaves the database with that."""

from ownkey.domain.connect import PendingConnect
from ownkey.domain.records import Actor
from ownkey.domain.workspace import Sealed
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection
from ownkey.store.core import Core

KEPT_MS = 24 * 3_600_000
"""How long after its end a sign-in is remembered, so that whoever comes late is told so."""

_INSERT = """
INSERT INTO pending_connect(id, workspace_id, state_sha256, actor_kind, actor_id, label, return_url, salt, commitment,
  nonce, ciphertext, format, expires_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_FIND = """
SELECT id, workspace_id, actor_kind, actor_id, label, return_url, expires_at_ms, used_at_ms FROM pending_connect
WHERE state_sha256 = ?
"""
# A token that was revoked meanwhile takes what it began with it.
_SEALED = """
SELECT salt, commitment, nonce, ciphertext, format FROM pending_connect p
WHERE id = ? AND workspace_id = ? AND used_at_ms IS NULL AND expires_at_ms > ?
  AND NOT EXISTS (SELECT 1 FROM access_token t WHERE t.id = p.actor_id AND t.revoked_at_ms IS NOT NULL)
"""
_TAKE = """
UPDATE pending_connect SET used_at_ms = ?, salt = x'', commitment = x'', nonce = x'', ciphertext = x''
WHERE id = ? AND workspace_id = ? AND used_at_ms IS NULL
"""
_FORGET = "DELETE FROM pending_connect WHERE expires_at_ms <= ?"


class ConnectsPart(Core):
    """Satisfies `control.ports.Connects`."""

    async def save_connect(
        self, pending: PendingConnect, state_sha256: bytes, verifier: Sealed, *, at_ms: int, actor: Actor
    ) -> None:
        def operation(conn: Connection) -> None:
            conn.execute(_INSERT, (
                pending.id, pending.workspace_id, state_sha256, pending.actor_kind, pending.actor_id, pending.label,
                pending.return_url, verifier.salt, verifier.commitment, verifier.nonce, verifier.ciphertext,
                verifier.format, pending.expires_at_ms,
            ))
            save_audit(
                conn, pending.workspace_id, "connect.started", pending.id, None,
                {"provider": "openrouter", "label": pending.label, "expires_at_ms": pending.expires_at_ms},
                at_ms=at_ms, actor=actor,
            )

        await self._write(operation)

    async def find_connect(self, state_sha256: bytes) -> PendingConnect | None:
        row = self._near.execute(_FIND, (state_sha256,)).fetchone()
        return None if row is None else PendingConnect(*row)

    async def take_connect(self, workspace_id: str, connect_id: str, *, at_ms: int) -> Sealed | None:
        def operation(conn: Connection) -> Sealed | None:
            row = conn.execute(_SEALED, (connect_id, workspace_id, at_ms)).fetchone()
            conn.execute(_TAKE, (at_ms, connect_id, workspace_id))
            return None if row is None else Sealed(*row)

        return await self._write(operation)

    async def forget_connects(self, at_ms: int) -> int:
        """A job: drop what ended more than a day ago."""
        return await self.writer.submit(lambda conn: conn.execute(_FORGET, (at_ms - KEPT_MS,)).rowcount)
