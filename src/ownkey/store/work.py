"""Work as rows: one claim at a time for each row, heartbeats that only the claim's holder can write, one end."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ownkey.domain.errors import Conflict
from ownkey.domain.notices import Kind
from ownkey.domain.phrases import as_plain
from ownkey.domain.records import Actor
from ownkey.domain.work import FILE_KEPT_MS, MOST_OPEN, ROW_KEPT_MS, Work, WorkKind, WorkState
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection
from ownkey.store.core import Core
from ownkey.store.notices import announce, utc_text

_COLUMNS = """
SELECT id, workspace_id, kind, state, wish, step, done, total, checkpoint, error, result, file, started_by, member_id,
  created_at_ms, run_at_ms, run_done, heartbeat_ms, ended_at_ms, runs FROM work
"""
_ONE = _COLUMNS + "WHERE id = ? AND workspace_id = ?"
_LIST = _COLUMNS + "WHERE workspace_id = ? ORDER BY created_at_ms DESC, id DESC LIMIT ?"
_EVERY = _COLUMNS + "ORDER BY created_at_ms DESC, id DESC LIMIT ?"
_ANY = _COLUMNS + "WHERE id = ?"
_SAME = _COLUMNS + "WHERE workspace_id = ? AND kind = ? AND wish = ? AND state IN ('waiting', 'running')"
_OPEN = "SELECT count(*) FROM work WHERE workspace_id = ? AND state IN ('waiting', 'running')"
_NEW = """
INSERT INTO work(id, workspace_id, kind, wish, started_by, member_id, created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_DUE = """
SELECT id, workspace_id FROM work WHERE state = 'waiting'
  OR (state = 'running' AND (lease_until_ms <= ? OR boot_id <> ?))
ORDER BY created_at_ms, id LIMIT 1
"""
_CLAIM = """
UPDATE work SET state = 'running', run_at_ms = :now, run_done = done, heartbeat_ms = :now, boot_id = :boot,
  lease_until_ms = :until, runs = runs + 1 WHERE id = :id AND workspace_id = :workspace
"""
_BEAT = """
UPDATE work SET step = :step, done = :done, total = :total, checkpoint = :checkpoint, heartbeat_ms = :now,
  lease_until_ms = :until
WHERE id = :id AND workspace_id = :workspace AND state = 'running' AND runs = :run
"""
_END = """
UPDATE work SET state = :state, error = :error, result = :result, file = :file, ended_at_ms = :now, heartbeat_ms = :now,
  done = :done, total = :total
WHERE id = :id AND workspace_id = :workspace AND state = 'running' AND runs = :run
"""
_PUT_BACK = """
UPDATE work SET state = 'waiting', error = ?, lease_until_ms = 0
WHERE id = ? AND workspace_id = ? AND state = 'running' AND runs = ?
"""
_CANCEL = """
UPDATE work SET state = 'cancelled', ended_at_ms = ? WHERE id = ? AND workspace_id = ?
  AND state IN ('waiting', 'running')
"""
_STALE_FILES = "SELECT id, workspace_id, file FROM work WHERE file <> '' AND ended_at_ms <= ? LIMIT 100"
_DROP_FILE = "UPDATE work SET file = '' WHERE id = ? AND workspace_id = ?"
_FORGET = "DELETE FROM work WHERE ended_at_ms <= ? AND file = ''"


def _work_of(row: tuple[Any, ...]) -> Work:
    (ident, workspace, kind, state, wish, step, done, total, checkpoint, error, result, file, by, member, created,
     run_at, run_done, beat, ended, runs) = row
    return Work(
        ident, workspace, WorkKind(kind), WorkState(state), msgspec.json.decode(wish), step, done, total,
        msgspec.json.decode(checkpoint), error, msgspec.json.decode(result), file, by, member, created, run_at,
        run_done, beat, ended, runs,
    )


def _json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value, order="sorted", enc_hook=as_plain).decode()


def create_work(
    conn: Connection, work_id: str, workspace_id: str, kind: WorkKind, wish: Mapping[str, Any], member_id: str,
    at_ms: int, actor: Actor,
) -> Work | Conflict:
    """The same work that is still open, else a new row."""
    same = conn.execute(_SAME, (workspace_id, kind.value, _json(wish))).fetchone()
    if same is not None:
        return _work_of(same)
    if conn.execute(_OPEN, (workspace_id,)).fetchone()[0] >= MOST_OPEN:
        return Conflict("Too much is waiting already.")
    conn.execute(_NEW, (
        work_id, workspace_id, kind.value, _json(wish), f"{actor.kind}:{actor.id}", member_id, at_ms,
    ))
    save_audit(conn, workspace_id, "work.started", work_id, None, {"kind": kind.value, "wish": dict(wish)},
               at_ms=at_ms, actor=actor)
    return _work_of(conn.execute(_ONE, (work_id, workspace_id)).fetchone())


def claim(conn: Connection, at_ms: int, until_ms: int) -> Work | None:
    """The oldest row that waits, or whose holder is gone; it is the caller's until then."""
    due = conn.execute(_DUE, (at_ms, conn.boot_id)).fetchone()
    if due is None:
        return None
    conn.execute(_CLAIM, {
        "id": due[0], "workspace": due[1], "now": at_ms, "until": until_ms, "boot": conn.boot_id,
    })
    return _work_of(conn.execute(_ONE, due).fetchone())


def end(
    conn: Connection, work: Work, state: WorkState, error: str, result: Mapping[str, Any], file: str, done: int,
    total: int | None, at_ms: int,
) -> bool:
    """Once, by the claim's holder; a member who asked for a file or a replay hears of it in the same transaction."""
    ended = conn.execute(_END, {
        "id": work.id, "workspace": work.workspace_id, "run": work.runs, "state": state.value, "error": error,
        "result": _json(result), "file": file, "now": at_ms, "done": done, "total": total,
    }).rowcount
    if ended and work.member_id and state in (WorkState.DONE, WorkState.FAILED):
        announce(conn, work.workspace_id, f"work:{work.id}", Kind.EXPORT_READY, {
            "workspace_id": work.workspace_id, "work": work.id, "what": work.kind.value, "state": state.value,
            "rows": done, "until": utc_text(at_ms + FILE_KEPT_MS) if file else None, "member": work.member_id,
            "at": utc_text(at_ms),
        }, at_ms)
    return bool(ended)


def cancel(conn: Connection, workspace_id: str, work_id: str, at_ms: int, actor: Actor) -> bool:
    cancelled = conn.execute(_CANCEL, (at_ms, work_id, workspace_id)).rowcount
    if cancelled:
        save_audit(conn, workspace_id, "work.cancelled", work_id, None, None, at_ms=at_ms, actor=actor)
    return bool(cancelled)


def take_stale_files(conn: Connection, at_ms: int) -> list[str]:
    """Names of files whose day is over, no longer named by their rows; and rows of long ago go."""
    rows = conn.execute(_STALE_FILES, (at_ms - FILE_KEPT_MS,)).fetchall()
    for work_id, workspace_id, _ in rows:
        conn.execute(_DROP_FILE, (work_id, workspace_id))
    conn.execute(_FORGET, (at_ms - ROW_KEPT_MS,))
    return [file for _, _, file in rows]


class WorkPart(Core):
    """Satisfies `control.ports.WorkRows` and `WorkClaims`."""

    _boot_id: str

    async def create_work(
        self, work_id: str, workspace_id: str, kind: WorkKind, wish: Mapping[str, Any], *, member_id: str, at_ms: int,
        actor: Actor,
    ) -> Work:
        return await self._write(
            lambda conn: create_work(conn, work_id, workspace_id, kind, wish, member_id, at_ms, actor)
        )

    async def load_work(self, workspace_id: str | None, work_id: str) -> Work | None:
        return self._one(self._near, workspace_id, work_id)

    def _one(self, conn: sqlite3.Connection, workspace_id: str | None, work_id: str) -> Work | None:
        found = conn.execute(_ANY, (work_id,)) if workspace_id is None else conn.execute(_ONE, (work_id, workspace_id))
        row = found.fetchone()
        return None if row is None else _work_of(row)

    async def load_works(self, workspace_id: str | None, *, limit: int) -> Sequence[Work]:
        most = max(0, min(limit, 500))
        if workspace_id is None:
            return [_work_of(row) for row in self._near.execute(_EVERY, (most,)).fetchall()]
        return [_work_of(row) for row in self._near.execute(_LIST, (workspace_id, most)).fetchall()]

    async def cancel_work(self, workspace_id: str, work_id: str, *, at_ms: int, actor: Actor) -> bool:
        return await self._write(lambda conn: cancel(conn, workspace_id, work_id, at_ms, actor))

    async def claim_work(self, at_ms: int, until_ms: int) -> Work | None:
        if self._near.execute(_DUE, (at_ms, self._boot_id)).fetchone() is None:
            return None
        return await self._write(lambda conn: claim(conn, at_ms, until_ms))

    async def save_beat(
        self, work: Work, step: str, done: int, total: int | None, checkpoint: Mapping[str, Any], *, at_ms: int,
        until_ms: int,
    ) -> bool:
        values = {
            "id": work.id, "workspace": work.workspace_id, "run": work.runs, "step": step, "done": done, "total": total,
            "checkpoint": _json(checkpoint), "now": at_ms, "until": until_ms,
        }
        return bool(await self._write(lambda conn: conn.execute(_BEAT, values).rowcount))

    async def end_work(
        self, work: Work, state: WorkState, *, error: str, result: Mapping[str, Any], file: str, done: int,
        total: int | None, at_ms: int,
    ) -> bool:
        return await self._write(lambda conn: end(conn, work, state, error, result, file, done, total, at_ms))

    async def put_back_work(self, work: Work, error: str) -> None:
        await self._write(
            lambda conn: conn.execute(_PUT_BACK, (error, work.id, work.workspace_id, work.runs)).rowcount
        )

    async def take_stale_files(self, at_ms: int) -> Sequence[str]:
        return await self._write(lambda conn: take_stale_files(conn, at_ms))
