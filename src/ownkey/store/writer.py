"""One thread does every write; what arrives during one fsync is committed together by the next.

An operation is a plain callable that gets the connection and returns a result. It is reported as done only after
the COMMIT that holds it has returned. An expected refusal is a returned value; a raised exception undoes the
batch, and each operation runs again in a transaction of its own, so that only the faulty one fails.
"""

import asyncio
import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from ownkey.domain.errors import StoreError, Unavailable
from ownkey.store.connection import Connection
from ownkey.store.totals import settle_totals

T = TypeVar("T")
Operation = Callable[[Connection], T]

MAX_WAITING_HOLDS = 1_024
MAX_WAITING = 8_192

# What the disk or the memory did, not what the operation did: the caller hears Unavailable and may come back.
_FAULTS = frozenset({
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_INTERRUPT,
})


class _Waiting:
    """An operation in the queue. `then` runs on the event loop after the commit, before the future resolves.
    `outside`: runs between transactions, as a checkpoint must."""

    __slots__ = ("future", "operation", "outside", "result", "then")

    def __init__(
        self, operation: Operation[Any], future: "asyncio.Future[Any] | None", then: Callable[[Any], None] | None,
        outside: bool = False,
    ) -> None:
        self.operation = operation
        self.future = future
        self.then = then
        self.outside = outside
        self.result: Any = None


class Writer:
    """The queue and its thread. `submit` is called on the event loop's thread only."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._queue: deque[_Waiting] = deque()
        self._wake = threading.Lock()
        self._wake.acquire()
        self._signalled = False
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.batches = 0
        self.operations = 0
        self.largest_batch = 0
        self._start()

    def _start(self) -> None:
        """The thread. A simulation overrides this, `_signal` and `close`, and works the queue off on virtual time."""
        self._thread = threading.Thread(target=self._run, name="ownkey-writer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def submit(
        self, operation: Operation[T], *, then: Callable[[T], None] | None = None, limit: int = MAX_WAITING
    ) -> "asyncio.Future[T]":
        """Queue an operation; the future resolves after its commit. Raises Unavailable at once if the queue is at
        `limit` or closing. Cancelling the future does not take the operation back."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Waiting(operation, future, then), loop, limit)
        return future

    def submit_quietly(self, operation: Operation[T], *, then: Callable[[T], None] | None = None) -> None:
        """Queue an operation that nobody waits for; dropped if the queue is full or closing."""
        with contextlib.suppress(Unavailable):
            self._put(_Waiting(operation, None, then), asyncio.get_running_loop(), MAX_WAITING)

    def checkpoint(self) -> "asyncio.Future[bool]":
        """Copy the write-ahead log into the database and cut it to nothing; False while a reader still needs it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._put(_Waiting(_checkpoint, future, None, outside=True), loop, MAX_WAITING)
        return future

    def _put(self, item: _Waiting, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        if self._closing:
            raise Unavailable("The database is closing.")
        if len(self._queue) >= limit:
            raise Unavailable("Too many bookings are waiting for the disk.")
        self._loop = loop
        self._queue.append(item)
        self._signal()

    def _signal(self) -> None:
        if not self._signalled:
            self._signalled = True
            self._wake.release()

    def close(self) -> None:
        """Take nothing more, commit what waits, end the thread. Blocks; futures resolve on their loop later."""
        if not self._closing:
            self._closing = True
            self._signal()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.acquire()
            self._empty()
            if self._closing and not self._queue:
                return

    def _empty(self) -> None:
        """Commit what waits, and what comes meanwhile."""
        queue = self._queue
        # Cleared before the queue is emptied: an item added after this signals again.
        self._signalled = False
        while queue:
            batch = []
            while queue and not queue[0].outside:
                batch.append(queue.popleft())
            if batch:
                self._work(batch)
            if queue and queue[0].outside:
                self._work_outside(queue.popleft())

    def _work(self, batch: list[_Waiting]) -> None:
        try:
            self._commit_together(batch)
        except Exception as error:  # noqa: BLE001 - whatever an operation raises is its caller's to hear
            self._undo()
            if len(batch) == 1:
                batch[0].result = _failure(error)
            else:
                for item in batch:
                    self._commit_alone(item)
        self.batches += 1
        self.operations += len(batch)
        self.largest_batch = max(self.largest_batch, len(batch))
        self._tell(batch)

    def _work_outside(self, item: _Waiting) -> None:
        try:
            item.result = item.operation(self._conn)
        except Exception as error:  # noqa: BLE001 - as above
            item.result = _failure(error)
        self._tell([item])

    def _tell(self, batch: list[_Waiting]) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # The loop was closed under us: nobody is left to tell.
                loop.call_soon_threadsafe(_resolve, batch)

    def _commit_together(self, batch: list[_Waiting]) -> None:
        conn = self._conn
        conn.execute("BEGIN IMMEDIATE")
        for item in batch:
            item.result = item.operation(conn)
        settle_totals(conn)
        conn.execute("COMMIT")

    def _commit_alone(self, item: _Waiting) -> None:
        try:
            self._commit_together([item])
        except Exception as error:  # noqa: BLE001 - whatever an operation raises is its caller's to hear
            self._undo()
            item.result = _failure(error)

    def _undo(self) -> None:
        self._conn.forget()
        with contextlib.suppress(sqlite3.Error):  # SQLite has already rolled back after some errors.
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")


def _checkpoint(conn: Connection) -> bool:
    busy, _, _ = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


class _Failed:
    """An exception on its way to the one who asked, told apart from an exception returned as a value."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


def _failure(error: Exception) -> _Failed:
    if isinstance(error, sqlite3.Error) and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _FAULTS:
        told = Unavailable(f"The database cannot be written now ({error.sqlite_errorname}).")
        told.__cause__ = error
        return _Failed(told)
    if isinstance(error, sqlite3.IntegrityError):
        refused = StoreError(f"The database refused the change: {error}")
        refused.__cause__ = error
        return _Failed(refused)
    return _Failed(error)


def _resolve(batch: list[_Waiting]) -> None:
    for item in batch:
        result = item.result
        future = item.future
        if isinstance(result, _Failed):
            if future is not None and not future.done():
                future.set_exception(result.error)
            continue
        try:
            if item.then is not None:
                item.then(result)
        finally:
            # Whatever a follower does wrong, nobody waits for ever for what is committed.
            if future is not None and not future.done():
                if isinstance(result, StoreError):
                    future.set_exception(result)
                else:
                    future.set_result(result)
