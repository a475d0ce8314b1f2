"""Which master keys there are, which process has loaded them, and the data keys that hang on them.

A data key is replaced only as the one that was read: what changed meanwhile, or went with its workspace, is left alone.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ownkey.domain.master_key import KeyProcess, KnownKey, LoadedKey, SecretPlace
from ownkey.domain.records import Actor
from ownkey.domain.workspace import Credential, Sealed, WrappedDek
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection, snapshot
from ownkey.store.core import Core
from ownkey.store.credentials import read_credentials

_KNOWN = "SELECT kek_id, fingerprint, first_seen_ms, retired_at_ms, is_primary FROM master_key ORDER BY first_seen_ms"
_ONE = "SELECT kek_id, fingerprint, first_seen_ms, retired_at_ms, is_primary FROM master_key WHERE kek_id = ?"
_RETIRED = "SELECT kek_id FROM master_key WHERE retired_at_ms IS NOT NULL"
_IN_USE = """
SELECT d.kek_id, coalesce(m.fingerprint, '') FROM (SELECT DISTINCT kek_id FROM dek) d
LEFT JOIN master_key m ON m.kek_id = d.kek_id
"""
_SEE = "INSERT INTO master_key(kek_id, fingerprint, first_seen_ms) VALUES (?, ?, ?)"
_SEE_ANOTHER = """
UPDATE master_key SET fingerprint = ?, first_seen_ms = ? WHERE kek_id = ? AND fingerprint <> ?
  AND NOT EXISTS (SELECT 1 FROM dek d WHERE d.kek_id = master_key.kek_id)
"""
_NO_PRIMARY = "UPDATE master_key SET is_primary = 0 WHERE is_primary = 1"
_PRIMARY = "UPDATE master_key SET is_primary = 1 WHERE kek_id = ? AND retired_at_ms IS NULL"
_NOW_PRIMARY = "SELECT kek_id FROM master_key WHERE is_primary = 1"
_RETIRE = "UPDATE master_key SET retired_at_ms = ? WHERE kek_id = ? AND retired_at_ms IS NULL AND is_primary = 0"
_HANGING = "SELECT count(*) FROM dek WHERE kek_id = ?"
_OWN = "SELECT keys, problem FROM key_process WHERE boot_id = ?"
_BEAT = """
INSERT INTO key_process(boot_id, host, pid, started_at_ms, beat_at_ms, keys, problem) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET beat_at_ms = excluded.beat_at_ms, keys = excluded.keys, problem = excluded.problem
"""
_LIVE = """
SELECT boot_id, host, pid, started_at_ms, beat_at_ms, keys, problem FROM key_process WHERE beat_at_ms >= ?
ORDER BY started_at_ms, boot_id
"""
_STALE = "DELETE FROM key_process WHERE beat_at_ms < ?"
_GONE = "DELETE FROM key_process WHERE boot_id = ?"
_NOBODY = "DELETE FROM key_process"
_ELSEWHERE = """
SELECT workspace_id, dek_id, kek_id, nonce, ciphertext FROM dek WHERE kek_id <> ? AND workspace_id > ?
ORDER BY workspace_id LIMIT ?
"""
_COUNT_ELSEWHERE = "SELECT count(*) FROM dek WHERE kek_id <> ?"
_REWRAP = """
UPDATE dek SET kek_id = ?, nonce = ?, ciphertext = ?
WHERE workspace_id = ? AND dek_id = ? AND kek_id = ? AND nonce = ? AND ciphertext = ?
"""
_DEKS = """
SELECT workspace_id, dek_id, kek_id, nonce, ciphertext FROM dek WHERE workspace_id > ? ORDER BY workspace_id LIMIT ?
"""
_SEEDS = """
SELECT id, email, totp_salt, totp_commitment, totp_nonce, totp_ciphertext, totp_format FROM operator
WHERE totp_ciphertext IS NOT NULL ORDER BY id
"""


def forget_processes(conn: Connection) -> None:
    """Where one process owns the database, whoever was noted before it is gone."""
    conn.execute(_NOBODY)


def save_process(conn: Connection, process: KeyProcess, actor: Actor) -> None:
    """What a process has loaded now. Keys and a primary that nobody had before go into the deployment's audit chain."""
    keys = _keys_text(process.keys)
    before = conn.execute(_OWN, (process.boot_id,)).fetchone()
    conn.execute(_BEAT, (
        process.boot_id, process.host, process.pid, process.started_at_ms, process.beat_at_ms, keys, process.problem,
    ))
    if before is not None and before == (keys, process.problem):
        return
    at_ms = process.beat_at_ms
    for key in process.keys:
        new = conn.execute(_ONE, (key.kek_id,)).fetchone() is None
        if new:
            conn.execute(_SEE, (key.kek_id, key.fingerprint, at_ms))
        elif conn.execute(_SEE_ANOTHER, (key.fingerprint, at_ms, key.kek_id, key.fingerprint)).rowcount == 0:
            continue
        save_audit(conn, None, "master_key.added", key.kek_id, None,
                   {"fingerprint": key.fingerprint, "process": process.name}, at_ms=at_ms, actor=actor)
    if process.problem and (before is None or before[1] != process.problem):
        save_audit(conn, None, "master_key.refused", process.name, None, {"why": process.problem[:300]}, at_ms=at_ms,
                   actor=actor)
    _save_primary(conn, process, "" if before is None else _keys_of(before[0])[0].kek_id, at_ms, actor)


def _save_primary(conn: Connection, process: KeyProcess, own_before: str, at_ms: int, actor: Actor) -> None:
    """Another first key, told by the first process that has it; one that lags behind does not tell it back."""
    kek_id = process.primary.kek_id
    found = conn.execute(_NOW_PRIMARY).fetchone()
    if kek_id == own_before or (found is not None and found[0] == kek_id):
        return
    conn.execute(_NO_PRIMARY)
    if conn.execute(_PRIMARY, (kek_id,)).rowcount and found is not None:
        save_audit(conn, None, "master_key.promoted", kek_id, {"primary": found[0]},
                   {"primary": kek_id, "process": process.name}, at_ms=at_ms, actor=actor)


def retire(conn: Connection, kek_id: str, at_ms: int, actor: Actor) -> int:
    """How many data keys still hang on it; 0: it is retired now, or was before, and wraps nothing any more."""
    hanging: int = conn.execute(_HANGING, (kek_id,)).fetchone()[0]
    if hanging == 0 and conn.execute(_RETIRE, (at_ms, kek_id)).rowcount:
        save_audit(conn, None, "master_key.retired", kek_id, None, {"data_keys": 0}, at_ms=at_ms, actor=actor)
    return hanging


def rewrap(conn: Connection, changes: Sequence[tuple[str, WrappedDek, WrappedDek]]) -> int:
    """(workspace, as read, as wanted): how many were still as read, and are as wanted now."""
    return sum(
        conn.execute(_REWRAP, (
            new.kek_id, new.nonce, new.ciphertext, workspace_id, old.dek_id, old.kek_id, old.nonce, old.ciphertext,
        )).rowcount
        for workspace_id, old, new in changes
    )


def _keys_text(keys: Sequence[LoadedKey]) -> str:
    return msgspec.json.encode([(key.kek_id, key.fingerprint) for key in keys]).decode()


def _keys_of(text: str) -> Sequence[LoadedKey]:
    return tuple(LoadedKey(*pair) for pair in msgspec.json.decode(text))


def _process_of(row: tuple[Any, ...]) -> KeyProcess:
    boot_id, host, pid, started, beat, keys, problem = row
    return KeyProcess(boot_id, host, pid, started, beat, _keys_of(keys), problem)


def _known_of(row: tuple[Any, ...]) -> KnownKey:
    kek_id, fingerprint, seen, retired, primary = row
    return KnownKey(kek_id, fingerprint, seen, retired, bool(primary))


def read_keks_in_use(conn: sqlite3.Connection) -> Mapping[str, str]:
    """Master keys that some data key hangs on, each with its known fingerprint, "" where nobody has noted one."""
    return dict(conn.execute(_IN_USE).fetchall())


class MasterKeysPart(Core):
    """Satisfies the memory's ports of `control.master_key`, `master_key_work` and `master_key_check`."""

    async def load_keks_in_use(self) -> Mapping[str, str]:
        """Master keys that some data key hangs on, each with its known fingerprint, "" where nobody has noted one."""
        return self.keks_in_use()

    def keks_in_use(self) -> Mapping[str, str]:
        return read_keks_in_use(self._near)

    def retired_kek_ids(self) -> frozenset[str]:
        return frozenset(row[0] for row in self._near.execute(_RETIRED).fetchall())

    async def load_known_keys(self) -> Sequence[KnownKey]:
        """The first seen first, retired ones included."""
        return [_known_of(row) for row in self._near.execute(_KNOWN).fetchall()]

    async def load_key_processes(self, since_ms: int) -> Sequence[KeyProcess]:
        """Those heard of since then."""
        return [_process_of(row) for row in self._near.execute(_LIVE, (since_ms,)).fetchall()]

    async def save_key_process(self, process: KeyProcess, *, stale_ms: int, actor: Actor) -> None:
        """Also forgets processes that were not heard of since `stale_ms`."""
        def operation(conn: Connection) -> None:
            conn.execute(_STALE, (stale_ms,))
            save_process(conn, process, actor)

        await self._write(operation)

    async def forget_key_process(self, boot_id: str) -> None:
        await self._write(lambda conn: conn.execute(_GONE, (boot_id,)).rowcount)

    async def retire_master_key(self, kek_id: str, *, at_ms: int, actor: Actor) -> int:
        return await self._write(lambda conn: retire(conn, kek_id, at_ms, actor))

    async def count_deks_elsewhere(self, kek_id: str) -> int:
        """Data keys that hang on any other master key."""
        found: int = await self._read(lambda conn: conn.execute(_COUNT_ELSEWHERE, (kek_id,)).fetchone()[0])
        return found

    async def load_deks_elsewhere(self, kek_id: str, after: str, *, limit: int) -> Sequence[tuple[str, WrappedDek]]:
        """(workspace id, data key) in the order of ids, behind `after`."""
        rows = await self._read(lambda conn: conn.execute(_ELSEWHERE, (kek_id, after, limit)).fetchall())
        return [(row[0], WrappedDek(*row[1:])) for row in rows]

    async def save_rewrapped(self, changes: Sequence[tuple[str, WrappedDek, WrappedDek]]) -> int:
        """(workspace id, as read, as wanted), in one transaction; returns how many were still as read."""
        def forget(_: int) -> None:
            for workspace_id, _old, _new in changes:
                self._forget(workspace_id)

        return await self.writer.submit(lambda conn: rewrap(conn, changes), then=forget)

    async def load_sealed_page(
        self, after: str, *, limit: int
    ) -> Sequence[tuple[str, WrappedDek, Sequence[Credential]]]:
        """(workspace id, data key, its credentials) in the order of ids, behind `after`."""
        def query(conn: sqlite3.Connection) -> list[tuple[str, WrappedDek, Sequence[Credential]]]:
            with snapshot(conn):
                rows = conn.execute(_DEKS, (after, limit)).fetchall()
                return [
                    (row[0], WrappedDek(*row[1:]), list(read_credentials(conn, row[0]).values())) for row in rows
                ]

        return await self._read(query)

    async def load_sealed_seeds(self) -> Sequence[tuple[SecretPlace, Sealed]]:
        """Operators' seeds, which the platform's data key seals."""
        rows = await self._read(lambda conn: conn.execute(_SEEDS).fetchall())
        return [(SecretPlace(f"seed of {row[1]}", f"totp:{row[0]}"), Sealed(*row[2:])) for row in rows]
