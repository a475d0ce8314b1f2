"""What every part of the store stands on: one writer, two readers, and the caches that a write invalidates."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ownkey.domain.errors import StoreError, Unavailable
from ownkey.domain.pricing import PriceBook
from ownkey.domain.workspace import Principal, WorkspaceState
from ownkey.store.connection import Connection
from ownkey.store.rooms import Rooms
from ownkey.store.writer import Writer

T = TypeVar("T")

CHECKPOINT_WAIT_S = 30.0


class Core:
    """`_near` answers tiny primary-key reads on the event loop's own thread; `_far` long ones on its own thread.

    The caches hold committed state only: they are filled by synchronous reads on the event loop's thread, and a
    write empties them there, after its commit and before its future resolves.
    """

    def __init__(
        self, conn: Connection, near: sqlite3.Connection, far: sqlite3.Connection, *, clock_ms: Callable[[], int],
        instance_id: str, book: PriceBook, overages: set[tuple[str, str, int]],
        make_writer: Callable[[Connection], Writer] = Writer,
    ) -> None:
        self.instance_id = instance_id
        self.clock_ms = clock_ms
        self.writer = make_writer(conn)
        self._near = near
        self._far = far
        self._far_thread = ThreadPoolExecutor(1, "ownkey-reader")
        self._rooms = Rooms()
        self._states: dict[str, WorkspaceState] = {}
        self._ids: dict[str, str] = {}
        self._platform_id: str | None = None
        self._principals: dict[bytes, tuple[Principal, int]] = {}
        self._books: dict[int, PriceBook] = {book.version: book}
        self._book = book
        self._overages = overages

    async def _write(
        self, operation: Callable[[Connection], "T | StoreError"], workspace_id: str | None = None, *,
        principals: bool = False,
    ) -> T:
        """One operation, durable when this returns; then the workspace (and every principal) is read anew."""
        def then(_: Any) -> None:
            self._forget(workspace_id)
            if principals:
                self._principals.clear()

        result: T | StoreError = await self.writer.submit(operation, then=then)
        assert not isinstance(result, StoreError), "the writer raises a returned StoreError"
        return result

    def _forget(self, workspace_id: str | None) -> None:
        if workspace_id is None:
            return
        state = self._states.pop(workspace_id, None)
        if state is not None:
            self._ids.pop(state.external_id, None)
        if workspace_id == self._platform_id:
            self._platform_id = None

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """A long read, on the reader's own thread."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._far_thread, query, self._far)
        except sqlite3.OperationalError as error:
            raise Unavailable(f"The database cannot be read now: {error}") from error

    async def _scrub(self) -> None:
        """Empty the write-ahead log, so that nothing deleted stays in it. Waits for long reads to finish."""
        for _ in range(int(CHECKPOINT_WAIT_S * 20)):
            if await self.writer.checkpoint():
                return
            await asyncio.sleep(0.05)
        raise Unavailable("The deletion is done, but the write-ahead log could not be emptied yet.")
