"""Access tokens by digest: the secret itself is never here, and a revoked one is unknown to the next call."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ownkey.domain.errors import Conflict, StoreError
from ownkey.domain.records import Actor, TokenRow
from ownkey.domain.workspace import Principal, TokenKind
from ownkey.store.audit import DEPLOYMENT, save_audit
from ownkey.store.connection import Connection
from ownkey.store.core import Core

PRINCIPAL_AGE_MS = 30_000
_CACHE_LIMIT = 50_000

_INSERT = """
INSERT INTO access_token(id, workspace_id, digest, kind, label, last4, scopes, tasks, projects, created_at_ms,
  expires_at_ms, revoked_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_TAKEN = "SELECT 1 FROM access_token WHERE digest = ? OR id = ?"
_LIST = """
SELECT id, kind, workspace_id, label, last4, scopes, created_at_ms, expires_at_ms, revoked_at_ms, tasks, projects,
  last_used_ms
FROM access_token WHERE workspace_id = ? ORDER BY created_at_ms, id
"""
_REVOKE = """
UPDATE access_token SET revoked_at_ms = ? WHERE id = ? AND workspace_id = ? AND revoked_at_ms IS NULL
"""
_PRINCIPAL = """
SELECT id, kind, workspace_id, scopes, label, tasks, projects, expires_at_ms FROM access_token
WHERE digest = ? AND revoked_at_ms IS NULL
"""
_USED = "UPDATE access_token SET last_used_ms = ? WHERE id = ? AND workspace_id = ?"


def _pack(names: frozenset[str]) -> str:
    return msgspec.json.encode(sorted(names)).decode()


def _unpack(text: str) -> frozenset[str]:
    return frozenset(msgspec.json.decode(text))


class TokensPart(Core):
    """Satisfies `control.ports.Tokens`."""

    async def save_token(self, row: TokenRow, digest: bytes, *, at_ms: int, actor: Actor) -> None:
        def operation(conn: Connection) -> StoreError | None:
            if conn.execute(_TAKEN, (digest, row.token_id)).fetchone():
                return Conflict("The token exists.")
            conn.execute(_INSERT, (
                row.token_id, row.workspace_id or DEPLOYMENT, digest, row.kind, row.label, row.last4,
                _pack(row.scopes), _pack(row.tasks), _pack(row.projects), row.created_at_ms, row.expires_at_ms,
                row.revoked_at_ms,
            ))
            save_audit(conn, row.workspace_id, "token.created", row.token_id, None, {
                "kind": row.kind, "label": row.label, "last4": row.last4, "scopes": sorted(row.scopes),
                "expires_at_ms": row.expires_at_ms,
            }, at_ms=at_ms, actor=actor)
            return None

        await self._write(operation)

    async def load_tokens(self, workspace_id: str | None) -> Sequence[TokenRow]:
        rows = self._near.execute(_LIST, (workspace_id or DEPLOYMENT,)).fetchall()
        return [
            TokenRow(
                row[0], TokenKind(row[1]), row[2] or None, row[3], row[4], _unpack(row[5]), row[6], row[7], row[8],
                _unpack(row[9]), _unpack(row[10]), row[11],
            )
            for row in rows
        ]

    async def revoke_token(self, token_id: str, workspace_id: str | None, *, at_ms: int, actor: Actor) -> bool:
        def operation(conn: Connection) -> bool:
            if conn.execute(_REVOKE, (at_ms, token_id, workspace_id or DEPLOYMENT)).rowcount == 0:
                return False
            save_audit(conn, workspace_id, "token.revoked", token_id, None, None, at_ms=at_ms, actor=actor)
            return True

        return await self._write(operation, principals=True)

    async def load_principal(self, token_digest: bytes) -> Principal | None:
        """None for an unknown, revoked or expired token."""
        now = self.clock_ms()
        cached = self._principals.get(token_digest)
        if cached is not None and now - cached[1] < PRINCIPAL_AGE_MS:
            principal = cached[0]
        else:
            row: tuple[Any, ...] | None = self._near.execute(_PRINCIPAL, (token_digest,)).fetchone()
            if row is None:
                self._principals.pop(token_digest, None)
                return None
            principal = Principal(
                row[0], TokenKind(row[1]), row[2] or None, _unpack(row[3]), row[4], _unpack(row[5]), _unpack(row[6]),
                row[7],
            )
            if len(self._principals) >= _CACHE_LIMIT:
                self._principals.clear()
            self._principals[token_digest] = (principal, now)
            if not _is_over(principal, now):
                self._note_use(principal, now)
        return None if _is_over(principal, now) else principal

    def _note_use(self, principal: Principal, now_ms: int) -> None:
        """Queued: nobody waits for it, and it is written as rarely as the token is looked up."""
        used = (now_ms, principal.token_id, principal.workspace_id or DEPLOYMENT)
        self.writer.submit_quietly(lambda conn: conn.execute(_USED, used).rowcount)


def _is_over(principal: Principal, now_ms: int) -> bool:
    return principal.expires_at_ms is not None and principal.expires_at_ms <= now_ms
