"""Stored answers of mutations under their Idempotency-Key: the same request again gets the same answer."""

from ownkey.domain.records import StoredAnswer
from ownkey.store.connection import Connection
from ownkey.store.core import Core

KEPT_MS = 24 * 3_600_000
CLAIM_MS = 5 * 60_000
"""A claim without an answer lapses after this long: its process has died."""

_LAPSE = "DELETE FROM idempotency WHERE scope = ? AND key = ? AND (at_ms <= ? OR (status IS NULL AND at_ms <= ?))"
_CLAIM = """
INSERT INTO idempotency(scope, key, request_sha256, status, body, at_ms) VALUES (?, ?, ?, NULL, x'', ?)
ON CONFLICT DO NOTHING
"""
_LOAD = "SELECT request_sha256, status, body FROM idempotency WHERE scope = ? AND key = ?"
_ANSWER = "UPDATE idempotency SET status = ?, body = ?, at_ms = ? WHERE scope = ? AND key = ?"
_DROP = "DELETE FROM idempotency WHERE scope = ? AND key = ?"
_FORGET = "DELETE FROM idempotency WHERE at_ms <= ?"


class AnswersPart(Core):
    """Satisfies `control.ports.Idempotency`."""

    async def begin_answer(
        self, scope: str, key: str, request_sha256: bytes, *, at_ms: int
    ) -> StoredAnswer | None:
        def operation(conn: Connection) -> StoredAnswer | None:
            conn.execute(_LAPSE, (scope, key, at_ms - KEPT_MS, at_ms - CLAIM_MS))
            if conn.execute(_CLAIM, (scope, key, request_sha256, at_ms)).rowcount:
                return None
            return StoredAnswer(*conn.execute(_LOAD, (scope, key)).fetchone())

        return await self.writer.submit(operation)

    async def save_answer(self, scope: str, key: str, status: int, body: bytes, *, at_ms: int) -> None:
        await self.writer.submit(lambda conn: conn.execute(_ANSWER, (status, body, at_ms, scope, key)).rowcount)

    async def drop_answer(self, scope: str, key: str) -> None:
        await self.writer.submit(lambda conn: conn.execute(_DROP, (scope, key)).rowcount)

    async def forget_answers(self, at_ms: int) -> int:
        """A job: drop what is older than 24 hours."""
        return await self.writer.submit(lambda conn: conn.execute(_FORGET, (at_ms - KEPT_MS,)).rowcount)
