"""Virtual time: one queue of events for every machine, and an event loop a machine that only the queue moves.

Nothing here reads a clock or starts a thread. Events of one instant are drawn in an order that the seed decides, as
a network and a disk would; callbacks of one machine's `call_soon` keep their order, because asyncio promises that.
"""

import asyncio
import hashlib
import heapq
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

MAX_CALLBACKS = 200_000
"""So many callbacks at one instant are a loop that never ends."""


class Stuck(Exception):
    """A machine that works for ever without time passing."""


class World:
    """The clock, the queue, the dice and the trace of one run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        # A text as seed goes through SHA-512: the same in every process, whatever PYTHONHASHSEED says.
        self.dice = random.Random(f"ownkey-sim:{seed}")
        self.now = 0.0
        self.events = 0
        self.complaints: list[str] = []
        self._queue: list[tuple[float, float, int, Loop, events.Handle]] = []
        self._count = 0
        self._trace = hashlib.sha256()
        self.lines: deque[str] = deque(maxlen=400)

    def note(self, text: str) -> None:
        """One line of the trace: what happened, and when."""
        line = f"{self.now:.6f} {text}"
        self._trace.update(line.encode() + b"\n")
        self.lines.append(line)

    def forget(self) -> None:
        """Nothing comes any more."""
        self._queue.clear()

    @property
    def trace(self) -> str:
        return self._trace.hexdigest()[:32]

    def push(self, when: float, loop: "Loop", handle: events.Handle) -> None:
        self._count += 1
        heapq.heappush(self._queue, (max(when, self.now), self.dice.random(), self._count, loop, handle))

    def post(self, delay_s: float, loop: "Loop", action: Callable[..., object], *args: Any) -> None:
        """`action` on another machine, after the way there."""
        self.push(self.now + delay_s, loop, events.Handle(action, args, loop))

    def run_until(self, until: float) -> None:
        """Let time pass."""
        while self._queue and self._queue[0][0] <= until:
            when, _, _, loop, handle = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            if loop.dead or handle.cancelled():
                continue
            if loop.frozen_until > self.now:
                if loop.wakes_at < loop.frozen_until:
                    loop.wakes_at = loop.frozen_until
                    self.push(loop.frozen_until, loop, events.Handle(_nothing, (), loop))
                loop.backlog.append(handle)
                continue
            while loop.backlog and not loop.dead:
                loop.run(loop.backlog.popleft())
            if not loop.dead:
                loop.run(handle)
        self.now = max(self.now, until)

    def finish(self, work: "asyncio.Future[Any]", limit_s: float) -> bool:
        """Let time pass until `work` is done, or for `limit_s`. Returns whether it is."""
        until = self.now + limit_s
        while not work.done() and self._queue and self._queue[0][0] <= until:
            self.run_until(self._queue[0][0])
        return work.done()


def _nothing() -> None:
    """Only wakes a machine that stood still: it takes up what has piled up, in order."""


class Loop(asyncio.AbstractEventLoop):
    """One process: an event loop that the world moves. `fuse`: it dies after so many callbacks more."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.dead = False
        self.frozen_until = self.wakes_at = 0.0
        self.fuse: int | None = None
        self.on_death: Callable[[], None] = lambda: None
        self.backlog: deque[events.Handle] = deque()
        self._ready: deque[events.Handle] = deque()
        self._running = False

    # --- what the world does

    def run(self, handle: events.Handle) -> None:
        """One event and everything that follows from it at once."""
        self._ready.append(handle)
        before = events._get_running_loop()
        events._set_running_loop(self)
        self._running = True
        done = 0
        try:
            while self._ready and not self.dead:
                one = self._ready.popleft()
                if one.cancelled():
                    continue
                one._run()
                done += 1
                self.world.events += 1
                if done > MAX_CALLBACKS:
                    raise Stuck(f"{self.name} works for ever at {self.world.now:.3f} s")
                if self.fuse is not None:
                    self.fuse -= 1
                    if self.fuse <= 0:
                        self.die()
        finally:
            self._running = False
            events._set_running_loop(before)

    def die(self) -> None:
        """kill -9: nothing runs any more, not even what stands in a `finally`."""
        if not self.dead:
            self.dead = True
            self._ready.clear()
            self.on_death()

    # --- what asyncio asks for

    def time(self) -> float:
        return self.world.now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.Handle:
        handle = events.Handle(callback, args, self, context)
        if self._running:
            self._ready.append(handle)
        else:
            self.world.push(self.world.now, self, handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.Handle:
        """A thread's word takes a moment to be heard: enough for a crash to come first."""
        handle = events.Handle(callback, args, self, context)
        self.world.push(self.world.now + self.world.dice.random() * 0.0005, self, handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        return self.call_at(self.world.now + max(0.0, delay), callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        handle = events.TimerHandle(when, callback, args, self, context)
        self.world.push(when, self, handle)
        return handle

    def _timer_handle_cancelled(self, handle: events.TimerHandle) -> None:
        """The world skips what was cancelled."""

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> "asyncio.Task[Any]":
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        """A thread's work, done whole at one instant a little later."""
        future: asyncio.Future[Any] = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - it is the caller's to hear
                future.set_exception(error)

        self.call_later(0.0002 + self.world.dice.random() * 0.002, work)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.dead:
            self.world.complaints.append(f"{self.name}: {context.get('message')} {context.get('exception')!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self.dead
