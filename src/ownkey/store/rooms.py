"""Calls that wait for room under a cap: woken in the order they came, a few for each hold that ends."""

import asyncio
from collections import deque

WAKE_AT_ONCE = 8
"""One end may make room for several smaller calls; waking all of a thousand would only make them queue again."""


class Rooms:
    """Waiting calls by workspace. Used on the event loop's thread only."""

    __slots__ = ("_refused", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        # Workspace → whether a hold has ended since the last busy refusal: such an end must not be missed by a
        # call that heard of its refusal but does not wait yet.
        self._refused: dict[str, bool] = {}

    def refused(self, workspace_id: str) -> None:
        """A hold found only other holds in its way."""
        if len(self._refused) >= 10_000:
            self._refused.clear()
        self._refused[workspace_id] = False

    async def wait(self, workspace_id: str, timeout_s: float) -> None:
        if timeout_s <= 0 or self._refused.get(workspace_id):
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        queue = self._waiting.setdefault(workspace_id, deque())
        queue.append(future)
        timer = loop.call_later(timeout_s, _wake, future)
        try:
            await future
        finally:
            timer.cancel()
            if future in queue:
                queue.remove(future)
            if not queue and self._waiting.get(workspace_id) is queue:
                del self._waiting[workspace_id]

    def wake(self, workspace_id: str, *, everyone: bool = False) -> None:
        """A hold of the workspace ended, or its cap changed."""
        if workspace_id in self._refused:
            self._refused[workspace_id] = True
        queue = self._waiting.get(workspace_id)
        if queue is None:
            return
        for _ in range(len(queue) if everyone else min(WAKE_AT_ONCE, len(queue))):
            _wake(queue.popleft())

    def wake_all(self) -> None:
        for workspace_id in tuple(self._waiting):
            self.wake(workspace_id, everyone=True)


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
