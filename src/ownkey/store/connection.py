"""How the database file is opened: one process owns it, one connection writes it, and a commit means it is on disk."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ownkey.domain.activity import Amounts, Day, SumKeys
from ownkey.domain.errors import StoreError


class InUse(StoreError):
    """Another process owns the database file."""


class Lock:
    """The ownership of one database file, held from open to close; the kernel releases it if the process dies."""

    __slots__ = ("_fd",)

    def __init__(self, database: Path) -> None:
        path = f"{database}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise InUse(
                f"The database {database} is in use by the process with pid {pid}. SQLite has one owner at a time: "
                "stop that process, or talk to it over its API."
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd: int | None = fd

    def release(self) -> None:
        # The file stays: removing it would let two processes hold locks on two files of the same name.
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Connection(sqlite3.Connection):
    """A writer's connection with what only the writer's thread may know.

    `periods` remembers each workspace's newest period as (row id, end), `alerted` the alerts that are certainly
    written: both describe committed rows only, and `forget` drops them whenever a transaction is undone. So are the
    ids of shapes, shares and conversations, and each workspace's current date (`store.totals`).
    `totals` is what the open transaction will add to the sums.
    """

    boot_id: str = ""
    audit_key: bytes = b""
    periods: dict[str, tuple[int, int]]
    alerted: set[tuple[int, int, int]]
    shapes: dict[tuple[str | int, ...], int]
    shares: dict[tuple[str | int, ...], int]
    conversations: dict[tuple[str | int, ...], int]
    days: dict[str, Day]
    totals: dict[SumKeys, Amounts]

    def forget(self) -> None:
        self.periods = {}
        self.alerted = set()
        self.shapes, self.shares, self.conversations, self.days = {}, {}, {}, {}
        self.totals = {}


@contextmanager
def snapshot(conn: sqlite3.Connection) -> Iterator[None]:
    """Several reads of one moment: without it a commit between two of them would show half of a change."""
    conn.execute("BEGIN")
    try:
        yield
    finally:
        conn.execute("ROLLBACK")


def create_file(path: Path) -> None:
    """Only the owner may read the file. SQLite gives -wal and -shm the same mode."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)
    os.close(fd)


def open_writer(path: Path, *, boot_id: str, audit_key: bytes) -> Connection:
    """The one connection that writes. It is made on the opening thread and then used by the writer's only."""
    conn = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=5, factory=Connection
    )
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute("PRAGMA foreign_keys = ON")
    conn.execute("PRAGMA secure_delete = ON")
    conn.execute("PRAGMA mmap_size = 0")
    conn.execute("PRAGMA trusted_schema = OFF")
    conn.execute("PRAGMA wal_autocheckpoint = 2000")
    conn.execute("PRAGMA cache_size = -32000")
    conn.execute("PRAGMA temp_store = MEMORY")
    conn.boot_id = boot_id
    conn.audit_key = audit_key
    conn.forget()
    return conn


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write."""
    conn = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=5)
    conn.execute("PRAGMA query_only = ON")
    conn.execute("PRAGMA mmap_size = 0")
    conn.execute("PRAGMA trusted_schema = OFF")
    conn.execute("PRAGMA temp_store = MEMORY")
    return conn
