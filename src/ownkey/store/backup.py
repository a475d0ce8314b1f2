"""Backups as files: a consistent copy of the database while it is written, sealed together with the audit key.

The copy is taken in steps from one read snapshot, so that writers neither wait for it nor make it begin again. It lies
beside the backups until it is sealed, as private as the database itself, and is removed whatever happens.
"""

import asyncio
import contextlib
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import msgspec

from ownkey.domain.backups import BackupFacts, BackupFile, BackupTrouble, backup_name
from ownkey.store.connection import create_file, open_reader
from ownkey.store.schema import read_revision
from ownkey.store.workspaces import read_kek_ids

AUDIT_KEY: Final = "audit.key"
DATABASE: Final = "ownkey.db"
STEP_PAGES: Final = 512
ROOM_BYTES: Final = 16 * 2**20
"""What must stay free beside the files that are written."""

_NAME: Final = re.compile(r"ownkey_[0-9]{8}_[0-9]{6}_[0-9]{3}(_before_[0-9]{4})?\.backup\Z", re.ASCII)
_READ: Final = 256 * 1024
_INSTANCE: Final = "SELECT id FROM instance"
_SCHEMA: Final = "SELECT count(*) FROM sqlite_master"

Told = Callable[[str, int, int], None]
"""Hears (step, done, total) on the thread that does it. What it raises ends the backup."""


class Sealer(Protocol):
    """Seals what it is given under the master key."""

    @property
    def kek_id(self) -> str: ...

    def seal(self, facts: BackupFacts, parts: Iterable[bytes], out: BinaryIO) -> None: ...


def read_instance(database: Path) -> str | None:
    """Whose database this is, whatever its schema; None where nobody has ever opened it."""
    conn = open_reader(database)
    try:
        row = conn.execute(_INSTANCE).fetchone()
        return None if row is None else str(row[0])
    finally:
        conn.close()


class BackupFolder:
    """Satisfies `control.ports.BackupFiles`. The folder is made when first written to."""

    def __init__(
        self, folder: Path, data_dir: Path, instance_id: str, sealer: Sealer,
        read_facts: Callable[[BinaryIO], BackupFacts], version: str,
    ) -> None:
        """Other deployments may keep theirs in the same folder: their files are not seen and not touched."""
        self._folder = folder
        self._instance_id = instance_id
        self._data_dir = data_dir
        self._sealer = sealer
        self._read_facts = read_facts
        self._version = version
        self._one_at_a_time = threading.Lock()

    async def make(self, at_ms: int, told: Told) -> BackupFile:
        """Raises BackupTrouble, and what `told` raises."""
        return await asyncio.to_thread(self.make_now, at_ms, told)

    def make_now(self, at_ms: int, told: Told, *, before_schema: str = "") -> BackupFile:
        """As `make`, on the calling thread. `before_schema`: the one that the database is about to be brought to."""
        with self._one_at_a_time:
            return self._make(backup_name(at_ms, before_schema=before_schema), at_ms, told)

    def _make(self, name: str, at_ms: int, told: Told) -> BackupFile:
        copy, part = self._leftovers
        try:
            self._prepare()
            facts = self._copy(copy, at_ms, told)
            with _fresh(part) as out:
                self._sealer.seal(facts, self._parts(copy, told), out)
            _place(part, self._folder / name)
        except OSError as error:
            raise folder_trouble(self._folder, error) from error
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
                raise no_room(self._folder) from error
            raise BackupTrouble(
                "unreadable", f"The database could not be copied ({getattr(error, 'sqlite_errorname', error)}).",
                "Look at the disk and the server's log, and start it again.",
            ) from error
        finally:
            for leftover in (copy, part):
                with contextlib.suppress(OSError):
                    leftover.unlink(missing_ok=True)
        return BackupFile(name, (self._folder / name).stat().st_size, facts)

    @property
    def _leftovers(self) -> tuple[Path, Path]:
        """The copy and the unfinished file: one of each, because one process makes one backup at a time. (Work whose
        lease a clock's jump has ended may be begun again before its first run has heard of it: the second waits.)"""
        return self._folder / f".{self._instance_id}.copy", self._folder / f".{self._instance_id}.part"

    def _prepare(self) -> None:
        """The folder, without what a process that died in the middle left there."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self._leftovers:
            leftover.unlink(missing_ok=True)

    def _copy(self, to: Path, at_ms: int, told: Told) -> BackupFacts:
        create_file(to)
        source = open_reader(self._data_dir / DATABASE)
        target = sqlite3.connect(to, isolation_level=None)
        try:
            source.execute("BEGIN")
            # The first read takes the snapshot; it is held until the last page is copied.
            source.execute(_SCHEMA).fetchone()
            pages = source.execute("PRAGMA page_count").fetchone()[0]
            page = source.execute("PRAGMA page_size").fetchone()[0]
            check_room(self._folder, 2 * pages * page)
            target.execute("PRAGMA synchronous = OFF")
            target.execute("PRAGMA journal_mode = OFF")
            source.backup(
                target, pages=STEP_PAGES, sleep=0,
                progress=lambda _, left, total: told("Copying the database, in pages", total - left, 2 * total),
            )
            schema, needs = read_revision(source) or "", tuple(sorted(read_kek_ids(source)))
        finally:
            target.close()
            source.close()
        return BackupFacts(
            self._instance_id, at_ms, self._version, schema, self._sealer.kek_id, pages * page, needs
        )

    def _parts(self, copy: Path, told: Told) -> Iterator[bytes]:
        """What is sealed: a table of contents, then the files one behind the other."""
        # Read once: a rewrap may put another file of another length in its place at any moment.
        audit_key = (self._data_dir / AUDIT_KEY).read_bytes()
        size = copy.stat().st_size
        table = msgspec.json.encode({AUDIT_KEY: len(audit_key), DATABASE: size})
        yield len(table).to_bytes(4, "big") + table + audit_key
        with copy.open("rb") as file:
            page = max(1, int.from_bytes(file.read(18)[16:18], "big"))
        # SQLite writes 65,536 as 1, for want of a bit.
        page = 65_536 if page == 1 else page
        pages, done = size // page, 0
        with copy.open("rb") as file:
            while data := file.read(_READ):
                yield data
                done += len(data)
                told("Encrypting the copy, in pages", pages + min(done // page, pages), 2 * pages)

    # --- what is there

    async def list(self) -> Sequence[BackupFile]:
        """Newest first; what is no readable backup of this deployment is left out."""
        return await asyncio.to_thread(self.list_now)

    def list_now(self) -> Sequence[BackupFile]:
        found = []
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if _NAME.match(path.name):
                    with contextlib.suppress(OSError, BackupTrouble), path.open("rb") as file:
                        found.append(BackupFile(path.name, path.stat().st_size, self._read_facts(file)))
        found = [one for one in found if one.facts.instance_id == self._instance_id]
        return sorted(found, key=lambda one: (one.facts.made_at_ms, one.name), reverse=True)

    def read(self, name: str) -> AsyncIterator[bytes]:
        return _read(self._path(name))

    async def drop(self, name: str) -> None:
        await asyncio.to_thread(self.drop_now, name)

    def drop_now(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        if not _NAME.match(name):
            raise ValueError("a backup's name has no path")
        return self._folder / name


def check_room(folder: Path, needed: int) -> None:
    """Raises BackupTrouble where that much does not fit: better now than in the middle."""
    if shutil.disk_usage(folder).free < needed + ROOM_BYTES:
        raise no_room(folder, needed)


def no_room(folder: Path, needed: int | None = None) -> BackupTrouble:
    size = "" if needed is None else f": it takes up to {(needed + ROOM_BYTES) // 2**20 + 1:,} MiB"
    return BackupTrouble(
        "no_room", f"The disk of {folder} has no room for this{size}. Nothing was left half done.",
        "Make room, or name a folder on a larger disk: [backup] dir for backups, OWNKEY_DATA_DIR for a restore.",
    )


def folder_trouble(folder: Path, error: OSError) -> BackupTrouble:
    """What the disk refused, in words."""
    if error.errno in (28, 122):  # ENOSPC, EDQUOT
        return no_room(folder)
    return BackupTrouble(
        "unwritable", f"{error.filename or folder} cannot be used: {error.strerror or type(error).__name__}.",
        "Correct the folder's permissions, or name another one.",
    )


@contextlib.contextmanager
def _fresh(path: Path) -> Iterator[BinaryIO]:
    """A new private file, on the disk when this ends."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _place(path: Path, final: Path) -> None:
    """Under its final name, durably; nobody else's file is written over."""
    if final.exists():
        raise FileExistsError(17, "there is such a file already", str(final))
    path.replace(final)
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


async def _read(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while data := await asyncio.to_thread(file.read, _READ):
            yield data


def unpack(parts: Iterator[bytes], folder: Path, told: Callable[[int], None]) -> None:
    """Write what was sealed into an empty folder. `told` hears of the bytes so far. Raises BackupTrouble where the
    content is not what a backup holds, and what `parts` raises: the folder is then not to be used."""
    stream = _Stream(parts)
    table = _read_table(stream)
    done = 0
    for name, size in table.items():
        with _fresh(folder / name) as out:
            for data in stream.take(size):
                out.write(data)
                done += len(data)
                told(done)
    if stream.is_not_empty():
        raise _not_whole()


def _read_table(stream: "_Stream") -> dict[str, int]:
    length = int.from_bytes(b"".join(stream.take(4)), "big")
    try:
        table = msgspec.json.decode(b"".join(stream.take(min(length, 65_536))), type=dict[str, int])
    except msgspec.DecodeError as error:
        raise _not_whole() from error
    if set(table) != {AUDIT_KEY, DATABASE} or min(table.values()) < 0:
        raise _not_whole()
    return table


def _not_whole() -> BackupTrouble:
    return BackupTrouble("damaged", "The backup opens, and does not hold what it should.", "Use another backup.")


class _Stream:
    """Pieces of any size, taken as bytes are needed."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = b""

    def take(self, size: int) -> Iterator[bytes]:
        """Exactly so many bytes, in pieces. Raises BackupTrouble where there are fewer."""
        while size:
            if not self._rest:
                self._rest = next(self._parts, b"")
                if not self._rest:
                    raise _not_whole()
            piece, self._rest = self._rest[:size], self._rest[size:]
            size -= len(piece)
            yield piece

    def is_not_empty(self) -> bool:
        return bool(self._rest) or any(self._parts)
