"""Periodic jobs of one process: each runs alone, at a fixed interval, and none can stop another.

A round starts `interval_s` after the one before it started, or at once if that one took longer; a round never
overlaps itself. Time comes from outside, so that a test or a simulation can own it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from ownkey.domain.overview import JobLine

_log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Job:
    """`run` is one round. `at_once`: the first round is at start, not an interval later; `first_s`: so many seconds
    after it, for what may not wait for a whole interval and should not compete with the start."""

    name: str
    interval_s: float
    run: Callable[[], Awaitable[None]]
    at_once: bool = False
    first_s: float | None = None

    @property
    def wait_s(self) -> float:
        """How long after the start the first round is due."""
        return 0.0 if self.at_once else self.interval_s if self.first_s is None else self.first_s


@dataclass(slots=True)
class JobState:
    """What became of a job's rounds, for health pages. Times are Unix milliseconds, None: not yet."""

    rounds: int = 0
    failures: int = 0
    last_error: str = ""
    started_at_ms: int | None = None
    took_ms: int | None = None
    next_at_ms: int | None = None


def wall_ms() -> int:
    """For people to read; rounds are timed by the clock that never goes back."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Scheduler:
    """Runs jobs between `start` and `stop`. `monotonic` is a clock in seconds, `sleep` waits on the same clock."""

    jobs: Sequence[Job]
    monotonic: Callable[[], float] = time.monotonic
    sleep: Sleep = asyncio.sleep
    now_ms: Callable[[], int] = wall_ms
    states: dict[str, JobState] = field(init=False)
    _tasks: list[asyncio.Task[None]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.states = {job.name: JobState() for job in self.jobs}
        if len(self.states) < len(self.jobs):
            raise ValueError("two jobs have one name")

    def add(self, *jobs: Job) -> None:
        """More jobs, before the start."""
        if self._tasks:
            raise RuntimeError("the jobs are running already")
        self.jobs = [*self.jobs, *jobs]
        self.__post_init__()

    def start(self) -> None:
        """Start every job on the running loop."""
        if self._tasks:
            raise RuntimeError("the jobs are running already")
        self._tasks = [asyncio.create_task(self._repeat(job), name=f"job {job.name}") for job in self.jobs]

    async def stop(self) -> None:
        """Cancel every job and wait until each is out of its round. A second call does nothing."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _repeat(self, job: Job) -> None:
        due = self.monotonic() + job.wait_s
        while True:
            wait_s = max(0.0, due - self.monotonic())
            self.states[job.name].next_at_ms = self.now_ms() + int(wait_s * 1_000)
            await self.sleep(wait_s)
            due = self.monotonic() + job.interval_s
            await self._round(job)

    def lines(self) -> list[JobLine]:
        """Every job with what became of it, as of now."""
        return [
            JobLine(
                job.name, job.interval_s, s.rounds, s.failures, s.last_error, s.started_at_ms, s.took_ms, s.next_at_ms
            )
            for job in self.jobs for s in (self.states[job.name],)
        ]

    async def _round(self, job: Job) -> None:
        state, began = self.states[job.name], self.monotonic()
        state.started_at_ms, state.next_at_ms = self.now_ms(), None
        try:
            await job.run()
        except Exception as error:  # noqa: BLE001 - a job's error is its own; the next round may pass
            state.failures += 1
            state.last_error = type(error).__name__
            _log.exception("job %s failed", job.name)
        else:
            state.last_error = ""
        finally:
            state.rounds += 1
            state.took_ms = int((self.monotonic() - began) * 1_000)
