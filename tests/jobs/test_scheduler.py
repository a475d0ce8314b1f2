"""The scheduler on a clock of its own: intervals, errors, stopping."""

import asyncio
import logging

import pytest

from ownkey.jobs.scheduler import Job, Scheduler


class Clock:
    """Time that moves only when everyone sleeps, to the next one who wakes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleepers: list[tuple[float, asyncio.Event]] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        wake = asyncio.Event()
        self.sleepers.append((self.now + delay_s, wake))
        await wake.wait()

    async def run_until(self, end: float) -> None:
        """Wake whoever is due, in order, up to and including `end`."""
        while True:
            for _ in range(10):
                await asyncio.sleep(0)
            due = sorted((at, n) for n, (at, _) in enumerate(self.sleepers) if at <= end)
            if not due:
                self.now = end
                return
            at, index = due[0]
            self.now = max(self.now, at)
            self.sleepers.pop(index)[1].set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_round_starts_every_interval(clock: Clock) -> None:
    rounds: list[tuple[str, float]] = []

    async def note(name: str) -> None:
        rounds.append((name, clock.now))

    scheduler = Scheduler(
        [Job("slow", 10, lambda: note("slow")), Job("now", 4, lambda: note("now"), at_once=True)],
        clock.monotonic, clock.sleep,
    )  # fmt: skip
    scheduler.start()
    await clock.run_until(20)
    await scheduler.stop()

    assert [at for name, at in rounds if name == "slow"] == [10, 20]
    assert [at for name, at in rounds if name == "now"] == [0, 4, 8, 12, 16, 20]


async def test_a_first_round_may_come_sooner_than_an_interval(clock: Clock) -> None:
    """`first_s` after the start, then every interval."""
    rounds: list[float] = []

    async def note() -> None:
        rounds.append(clock.now)

    scheduler = Scheduler([Job("books", 300, note, first_s=30)], clock.monotonic, clock.sleep)
    scheduler.start()
    await clock.run_until(700)
    await scheduler.stop()

    assert rounds == [30, 330, 630]


async def test_a_long_round_never_overlaps_itself(clock: Clock) -> None:
    starts: list[float] = []

    async def long() -> None:
        starts.append(clock.now)
        await clock.sleep(7)

    scheduler = Scheduler([Job("long", 5, long, at_once=True)], clock.monotonic, clock.sleep)
    scheduler.start()
    await clock.run_until(21)
    await scheduler.stop()

    assert starts == [0, 7, 14, 21]


async def test_an_error_is_logged_and_stops_neither_its_job_nor_others(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    good: list[float] = []

    async def fail() -> None:
        raise RuntimeError("secret detail")

    async def work() -> None:
        good.append(clock.now)

    scheduler = Scheduler([Job("bad", 5, fail), Job("good", 5, work)], clock.monotonic, clock.sleep)
    scheduler.start()
    with caplog.at_level(logging.ERROR):
        await clock.run_until(15)
    await scheduler.stop()

    assert good == [5, 10, 15]
    assert (scheduler.states["bad"].failures, scheduler.states["bad"].last_error) == (3, "RuntimeError")
    assert (scheduler.states["good"].rounds, scheduler.states["good"].failures) == (3, 0)
    assert caplog.text.count("job bad failed") == 3


async def test_stop_leaves_no_task_behind_and_may_be_repeated(clock: Clock) -> None:
    left: list[str] = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.append("out")

    scheduler = Scheduler([Job("hang", 1, hang, at_once=True)], clock.monotonic, clock.sleep)
    before = asyncio.all_tasks()
    scheduler.start()
    await clock.run_until(1)
    await scheduler.stop()
    await scheduler.stop()

    assert left == ["out"]
    assert asyncio.all_tasks() == before


async def test_mistakes_are_refused(clock: Clock) -> None:
    async def nothing() -> None: ...

    job = Job("a", 1, nothing)
    with pytest.raises(ValueError, match="one name"):
        Scheduler([job, job], clock.monotonic, clock.sleep)
    scheduler = Scheduler([job], clock.monotonic, clock.sleep)
    scheduler.start()
    with pytest.raises(RuntimeError):
        scheduler.start()
    await scheduler.stop()
