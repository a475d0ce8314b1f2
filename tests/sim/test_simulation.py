"""The simulator's runs hold, repeat exactly, and would say so if they did not."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tools.sim.run import Result, run_seed
from tools.sim.world import Loop, Stuck, World

ROOT = Path(__file__).resolve().parents[2]
SEEDS = [
    int(line.split()[0]) for line in Path(__file__).with_name("seeds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
FRESH = range(1, 13)
STEPS = 60

pytestmark = pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")


@pytest.mark.parametrize("seed", sorted({*SEEDS, *FRESH}))
def test_every_invariant_holds(seed: int) -> None:
    """M7: crashes, freezes, lost answers and jumping clocks; the books agree with their rows and the bill book."""
    result = run_seed(seed, STEPS)

    assert result.broken == "", f"make sim SEED={seed} STEPS={STEPS}: {result.broken}"


def _trace_elsewhere(seed: int, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tools.sim", "--seed", str(seed), "--steps", "30"], cwd=ROOT, check=True, text=True,
        capture_output=True, env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    return next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("trace "))


def test_a_seed_repeats_exactly_in_another_process() -> None:
    """The trace's hash depends on the seed alone: not on the process, its hash seed or the time of day."""
    here = run_seed(7, 30)

    assert here.trace == _trace_elsewhere(7, "0") == _trace_elsewhere(7, "4242")
    assert run_seed(8, 30).trace != here.trace


def _broken_by(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, instead: Any, seeds: range) -> Result:
    monkeypatch.setattr(target, name, instead)
    return next((result for seed in seeds if (result := run_seed(seed, STEPS)).broken), run_seed(0, 0))


def test_a_run_notices_a_provider_that_bills_more_than_the_books_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bill book is the judge: a provider that bills ten times what it reports is noticed."""
    from tools.sim.network import _Book

    honest = _Book.add

    def dear(self: Any, key: Any, model: str, endpoint: str, stream: bool, ident: str, usage: Any, cost: int,
             *rest: Any) -> Any:
        return honest(self, key, model, endpoint, stream, ident, usage, cost * 10, *rest)

    result = _broken_by(monkeypatch, _Book, "add", dear, range(1, 6))

    assert "billed" in result.broken


def test_a_run_notices_an_error_that_the_product_only_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the product logs as an error breaks a run, though every call still gets its answer."""
    from ownkey.gateway.circuits import Circuits

    def buggy(self: Any, *args: Any) -> None:
        raise KeyError("a bug")

    result = _broken_by(monkeypatch, Circuits, "record_success", buggy, range(1, 6))

    assert "an error inside the product" in result.broken


def test_virtual_time_costs_nothing_and_keeps_the_order_of_callbacks() -> None:
    """A day passes at once; callbacks of one moment come in the order in which they were asked for."""
    world = World(1)
    loop = Loop(world, "one")
    seen: list[Any] = []

    async def work() -> None:
        await asyncio.sleep(86_400)
        for n in range(50):
            loop.call_soon(seen.append, n)
        async with asyncio.timeout(5):
            await asyncio.sleep(1)
        seen.append(world.now)

    world.finish(loop.create_task(work()), 100_000)

    assert seen == [*range(50), 86_401]


def test_a_dead_process_runs_nothing_more() -> None:
    """kill -9: not even a `finally`."""
    world = World(1)
    loop = Loop(world, "one")
    seen: list[str] = []

    async def work() -> None:
        try:
            seen.append("begun")
            await asyncio.sleep(10)
        finally:
            seen.append("cleaned up")

    task = loop.create_task(work())
    world.run_until(1)
    loop.die()
    world.run_until(100)

    assert seen == ["begun"]
    assert not task.done()
    world.complaints.clear()


def test_a_loop_without_end_is_an_error() -> None:
    """A task that never lets time pass does not hang the run."""
    world = World(1)
    loop = Loop(world, "one")

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    loop.create_task(spin())
    with pytest.raises(Stuck):
        world.run_until(1)
