"""The past of the keys that are saved now: read from the audit log and from receipts, and written nowhere."""

import sqlite3

from ownkey.domain.key_past import KeyPast, Toll
from ownkey.domain.receipts import KEY_TEST
from ownkey.domain.records import Actor
from ownkey.domain.workspace import Credential
from ownkey.store.figures import FiguresPart

MOST_CALLS = 30_000
"""How many of the latest calls are looked through: a key that fails for weeks must not make its page slow."""

_SAVED = """
SELECT actor_kind, actor_id FROM audit WHERE workspace_id = ? AND action = 'credential.saved' AND target = ?
ORDER BY n DESC LIMIT 1
"""
_TESTED = """
SELECT at_ms, after ->> '$.outcome' FROM audit
WHERE workspace_id = ? AND action = 'credential.tested' AND target = ? AND after ->> '$.fingerprint' = ?
ORDER BY n DESC LIMIT 1
"""
# The key of OpenRouter carries whatever nobody else does: it concerns what credits paid instead, and what was refused
# for a key's sake. A direct key concerns the models of its provider, whoever answered.
_TOLL = """
SELECT count(*), coalesce(sum(code IS NOT NULL), 0), coalesce(sum(code IS NULL AND funding = 'credits'), 0),
  coalesce(sum(charge_credits), 0)
FROM (
  SELECT task, code, funding, provider, model, charge_credits FROM receipt
  WHERE workspace_id = :workspace AND at_ms >= :since ORDER BY at_ms DESC, id DESC LIMIT :most
)
WHERE (task IS NULL OR task <> :test)
  AND (CASE WHEN :provider = 'openrouter'
    THEN funding = 'credits' OR code IN (
      'credential_rejected', 'credential_out_of_funds', 'always_use_key_unavailable', 'openrouter_key_required')
    ELSE provider = :provider OR model LIKE :author END)
"""
_OLDER = """
SELECT 1 FROM receipt WHERE workspace_id = :workspace AND at_ms >= :since ORDER BY at_ms DESC LIMIT 1 OFFSET :most
"""


def load_past(conn: sqlite3.Connection, credential: Credential) -> KeyPast:
    workspace, provider = credential.workspace_id, credential.provider
    saved = conn.execute(_SAVED, (workspace, provider)).fetchone()
    tested = conn.execute(
        _TESTED, (workspace, f"credential:{provider}", credential.fingerprint.hex())
    ).fetchone() or (None, "")
    return KeyPast(None if saved is None else Actor(*saved), *tested)


class KeyPastPart(FiguresPart):
    """Satisfies `control.key_past.PastBook`."""

    async def load_key_past(self, credential: Credential) -> KeyPast:
        return await self._see(lambda conn: load_past(conn, credential))

    async def load_toll(self, workspace_id: str, provider: str, since_ms: int) -> Toll:
        asked = {
            "workspace": workspace_id, "since": since_ms, "test": KEY_TEST, "provider": provider,
            "author": f"{provider}/%", "most": MOST_CALLS,
        }
        calls, refused, by_credits, credits = await self._see(lambda conn: conn.execute(_TOLL, asked).fetchone())
        older = await self._see(lambda conn: conn.execute(_OLDER, asked).fetchone())
        return Toll(calls, refused, by_credits, credits, more=older is not None)
