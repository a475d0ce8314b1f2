"""The checks of the books on a reader and a thread of their own: no page waits for them, and none of them for ever."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ownkey.domain.errors import Unavailable
from ownkey.domain.records import Finding
from ownkey.store.connection import open_reader
from ownkey.store.verify import verify, verify_recent
from ownkey.store.verify_touched import Mark, mark_now

WHOLE_LIMIT_S: Final = 1_800.0
RECENT_LIMIT_S: Final = 120.0
SETTLED_MS: Final = 3_600_000
"""What is younger may still change without a trace of its own: the receipt of a call that was given up is replaced by
the call's own. It is read again until it is this old."""
_CACHE = "PRAGMA cache_size = -16000"
_STEPS = 100_000


class BookChecks:
    """One check at a time. What the last clean check had seen is remembered for as long as the process lives; the
    first check after a start is a whole one."""

    def __init__(
        self, path: Path, audit_key: bytes, *, whole_limit_s: float = WHOLE_LIMIT_S,
        recent_limit_s: float = RECENT_LIMIT_S,
    ) -> None:
        self._path = path
        self._audit_key = audit_key
        self._limits_s = whole_limit_s, recent_limit_s
        self._thread = ThreadPoolExecutor(1, "ownkey-verify")
        self._marks: list[Mark] = []
        self._closing = threading.Event()

    async def whole(self, at_ms: int) -> Sequence[Finding]:
        """Everything. Raises Unavailable."""
        return await self._submit(self._run_whole, at_ms)

    async def recent(self, at_ms: int) -> Sequence[Finding]:
        """What was touched since the last clean check; everything where there was none. Raises Unavailable."""
        return await self._submit(self._run_recent, at_ms)

    async def _submit(self, run: Callable[[int], list[Finding]], at_ms: int) -> list[Finding]:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, run, at_ms)
        except sqlite3.OperationalError as error:
            raise Unavailable(f"The books could not be checked now: {error}") from error

    def _run_whole(self, at_ms: int) -> list[Finding]:
        with self._reader(self._limits_s[0]) as conn:
            mark = mark_now(conn, at_ms)
            findings = verify(conn, at_ms, self._audit_key)
        self._marks = [] if findings else [mark]
        return findings

    def _run_recent(self, at_ms: int) -> list[Finding]:
        if not self._marks:
            return self._run_whole(at_ms)
        since = self._marks[0]
        with self._reader(self._limits_s[1]) as conn:
            mark = mark_now(conn, at_ms)
            findings = verify_recent(conn, at_ms, self._audit_key, since)
        if not findings:
            # The first is the newest that is old enough; a clock that went back keeps the older one.
            self._marks = [*self._marks, mark]
            while len(self._marks) > 1 and self._marks[1].at_ms <= at_ms - SETTLED_MS:
                self._marks.pop(0)
        return findings

    @contextmanager
    def _reader(self, limit_s: float) -> Iterator[sqlite3.Connection]:
        """A fresh connection, whose statements end when the time is over or the store closes."""
        until = time.monotonic() + limit_s
        conn = open_reader(self._path)
        try:
            conn.execute(_CACHE)
            conn.set_progress_handler(lambda: self._closing.is_set() or time.monotonic() > until, _STEPS)
            yield conn
        finally:
            conn.close()

    def close(self) -> None:
        """Ends what is being read."""
        self._closing.set()
        self._thread.shutdown()
