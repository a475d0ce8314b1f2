"""A backup on its way back: unpacked beside its place, checked, brought up to date and settled, and only then moved.

Whatever goes wrong leaves the data folder as it was. What a backup of an old moment would bring back to life (visits of
people and operators, sign-ins that were begun, links that were used since) is ended first.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from ownkey.domain.backups import BackupFacts, BackupTrouble
from ownkey.domain.portal import EndReason
from ownkey.domain.records import Actor, Finding
from ownkey.domain.upgrades import Told
from ownkey.store.audit import save_audit
from ownkey.store.backup import AUDIT_KEY, DATABASE, check_room, folder_trouble, no_room, sync_folder, unpack
from ownkey.store.connection import Connection, Lock, open_reader, open_writer
from ownkey.store.master_keys import read_keks_in_use
from ownkey.store.outbox import release_leases
from ownkey.store.recovery import recover
from ownkey.store.schema import check_known, read_revision
from ownkey.store.sqlite import upgrade
from ownkey.store.verify import verify
from ownkey.store.workspaces import read_kek_ids

STAGING: Final = "restoring"
"""The folder in the data folder where everything lies until it is put in place. One that is there while nobody
restores is left of a restore that was killed."""
_INSTANCE: Final = "SELECT id FROM instance"
_END_VISITS: Final = """
UPDATE portal_session SET ended_at_ms = ?, end_reason = ? WHERE ended_at_ms IS NULL
"""
_DROP_TICKETS: Final = "DELETE FROM portal_ticket"
_END_OPERATORS: Final = """
UPDATE operator_session SET ended_at_ms = ?, end_reason = ? WHERE ended_at_ms IS NULL
"""
_DROP_STEPS: Final = "DELETE FROM operator_step"
# A link that was used since the backup would set up the same account again.
_DROP_LINKS: Final = "DELETE FROM operator_link WHERE used_at_ms IS NULL"
_END_CONNECTS: Final = """
UPDATE pending_connect SET expires_at_ms = min(expires_at_ms, ?), salt = x'', commitment = x'', nonce = x'',
  ciphertext = x'' WHERE used_at_ms IS NULL
"""
# The backup that this is was under way when it was copied.
_END_BACKUPS: Final = """
UPDATE work SET state = 'cancelled', ended_at_ms = ? WHERE workspace_id = '' AND kind = 'backup'
  AND state IN ('waiting', 'running')
"""
_TOKENS: Final = """
SELECT count(*) FROM access_token WHERE revoked_at_ms IS NULL AND (expires_at_ms IS NULL OR expires_at_ms > ?)
"""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was found and done: ended visits and sign-ins, calls that were in flight, tokens that are valid (again),
    what the check of the books found, and the master keys that data keys hang on, each with its known fingerprint or
    ""."""

    ended: Mapping[str, int]
    interrupted_calls: int
    tokens: int
    findings: Sequence[Finding]
    keys: Mapping[str, str]


class Restoring:
    """One restore into one data folder, whose database it owns from the beginning on. Use as a context manager: what
    was not put in place is removed at the end."""

    def __init__(self, data_dir: Path) -> None:
        """Raises BackupTrouble where there is anything that a restore would write over, InUse where somebody has just
        begun to use the folder."""
        self._data_dir = data_dir
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = Lock(data_dir / DATABASE)
        except OSError as error:
            raise folder_trouble(data_dir, error) from error
        try:
            self._refuse_database()
        except BaseException:
            self._lock.release()
            raise

    @property
    def folder(self) -> Path:
        """Where everything lies until it is moved."""
        return self._data_dir / STAGING

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()
        self._lock.release()

    def _clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _refuse_database(self) -> None:
        there = [path.name for path in (
            self._data_dir / f"{DATABASE}{ending}" for ending in ("", "-wal", "-shm", "-journal")) if path.exists()]
        if there:
            raise BackupTrouble(
                "exists",
                f"{self._data_dir} holds a database already ({', '.join(there)}), and nothing is written over.",
                f"Move {', '.join([*there, AUDIT_KEY])} into another folder and keep them until the restored server "
                "has been looked at; or restore into another data folder with OWNKEY_DATA_DIR.",
            )

    def unpack(self, facts: BackupFacts, parts: Iterator[bytes], told: Callable[[int], None]) -> None:
        """Raises BackupTrouble."""
        self._clear()
        try:
            self.folder.mkdir(mode=0o700)
            # What is restored, and the log that settling it writes.
            check_room(self._data_dir, facts.database_bytes * 3 // 2)
            unpack(parts, self.folder, told)
        except OSError as error:
            raise folder_trouble(self._data_dir, error) from error
        self._refuse_other_key()

    def _refuse_other_key(self) -> None:
        there = self._data_dir / AUDIT_KEY
        if there.exists() and there.read_bytes() != (self.folder / AUDIT_KEY).read_bytes():
            raise BackupTrouble(
                "exists", f"{there} belongs to another database than this backup.",
                "Move it into another folder: the backup brings its own.",
            )

    def check(self, facts: BackupFacts) -> frozenset[str]:
        """Whether the copy is a whole database of a schema that is known here; the ids of the master keys that it
        needs. Raises BackupTrouble and TooNew."""
        conn = open_reader(self.folder / DATABASE)
        try:
            wrong = conn.execute("PRAGMA integrity_check(1)").fetchone()[0]
            revision = read_revision(conn)
            check_known(revision)
            instance = None if revision is None else conn.execute(_INSTANCE).fetchone()
            if wrong != "ok" or instance is None or instance[0] != facts.instance_id:
                raise BackupTrouble("damaged", "The database in the backup is damaged.", "Use another backup.")
            return read_kek_ids(conn)
        except sqlite3.DatabaseError as error:
            raise BackupTrouble("damaged", "The database in the backup is damaged.", "Use another backup.") from error
        finally:
            conn.close()

    def settle(
        self, facts: BackupFacts, audit_key: bytes, boot_id: str, clock_ms: Callable[[], int], actor: Actor,
        told: Told | None = None,
    ) -> Restored:
        """Bring it up to date and end what must not come back to life, with a row in the deployment's audit log."""
        conn = open_writer(self.folder / DATABASE, boot_id=boot_id, audit_key=audit_key)
        try:
            upgrade(conn, clock_ms, told)
            now_ms = clock_ms()
            interrupted = recover(conn, now_ms)
            release_leases(conn, now_ms)
            conn.execute("BEGIN IMMEDIATE")
            ended = _end_everything(conn, now_ms)
            save_audit(
                conn, None, "deployment.restored", facts.instance_id, None,
                {"backup_made_at_ms": facts.made_at_ms, "version": facts.version, "schema": facts.schema,
                 "interrupted_calls": interrupted, "ended": dict(ended)}, at_ms=now_ms, actor=actor,
            )
            conn.execute("COMMIT")
            tokens = conn.execute(_TOKENS, (now_ms,)).fetchone()[0]
            found = Restored(ended, interrupted, tokens, verify(conn, now_ms, audit_key), read_keks_in_use(conn))
            # Only the database itself is moved: what is still in its log must be in it by then, or be told now.
            conn.execute("PRAGMA journal_mode = DELETE")
            return found
        except sqlite3.Error as error:
            raise self._sqlite_trouble(error) from error
        finally:
            conn.close()

    def _sqlite_trouble(self, error: sqlite3.Error) -> BackupTrouble:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            return no_room(self._data_dir)
        return BackupTrouble(
            "unusable",
            f"What was unpacked could not be written to ({getattr(error, 'sqlite_errorname', type(error).__name__)}). "
            "Nothing was put in place.", "Look at the disk and the system's log, then try again or use another backup.",
        )

    def place(self) -> None:
        """Move the files to where they belong: the database last, because with it the folder is a deployment's."""
        try:
            sync_folder(self.folder)
            for name in (AUDIT_KEY, DATABASE):
                (self.folder / name).replace(self._data_dir / name)
                sync_folder(self._data_dir)
        except OSError as error:
            raise folder_trouble(self._data_dir, error) from error


def _end_everything(conn: Connection, now_ms: int) -> Mapping[str, int]:
    """How many of each. Links that nobody has opened yet are visits too."""
    ended = {
        "visits": conn.execute(_END_VISITS, (now_ms, EndReason.RESTORED)).rowcount,
        "operator_visits": conn.execute(_END_OPERATORS, (now_ms, "restored")).rowcount,
        "operator_links": conn.execute(_DROP_LINKS).rowcount,
        "sign_ins": conn.execute(_END_CONNECTS, (now_ms,)).rowcount,
    }
    for statement in (_DROP_TICKETS, _DROP_STEPS):
        conn.execute(statement)
    conn.execute(_END_BACKUPS, (now_ms,))
    return ended

