"""`make sim SEED=7` repeats one run exactly; `make sim SEEDS=500` plays many, on as many cores as JOBS says.

Exit code 0: every invariant held; 1: a seed broke one, which is printed with how to repeat it; 2: it could not run.
"""

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tools.sim.run import STEPS, Result, run_seed

CHUNK = 10


def play_many(seeds: list[int], steps: int) -> list[Result]:
    """A part of the seeds, in one process."""
    sys.unraisablehook = lambda _: None  # nor are its last words anybody's business
    warnings.simplefilter("ignore", RuntimeWarning)  # what the dead left suspended is never awaited
    return [run_seed(seed, steps) for seed in seeds]


def play(seeds: list[int], steps: int, jobs: int) -> Iterator[Result]:
    """Every seed's result, as they come."""
    if jobs <= 1 or len(seeds) == 1:
        yield from play_many(seeds, steps)
        return
    chunks = [seeds[place : place + CHUNK] for place in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(jobs) as pool:
        for results in pool.map(partial(play_many, steps=steps), chunks):
            yield from results


def main() -> int:
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many, counted up from the first")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps a run")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    asked = parser.parse_args()
    if asked.seeds < 1 or asked.steps < 0 or asked.jobs < 1:
        print("seeds and jobs are at least 1, steps at least 0", file=sys.stderr)
        return 2
    started = time.monotonic()
    counts: Counter[str] = Counter()
    broken = []
    for result in play(list(range(asked.seed, asked.seed + asked.seeds)), asked.steps, asked.jobs):
        counts += result.counts
        if asked.seeds == 1:
            print(f"trace {result.trace}")
        if result.broken:
            broken.append(result)
            tell(result, asked.steps)
    took = time.monotonic() - started
    told = ", ".join(f"{counts[name]} {word}" for name, word in (
        ("events", "events"), ("calls", "calls"), ("answered", "answered"), ("bills", "bills"),
        ("crashes", "ends of a process"),
        ("on_the_way", "estimates below a bill that was on its way"),
    ))
    print(f"{asked.seeds} seeds of {asked.steps} steps in {took:.1f} s, {len(broken)} broken: {told}")
    return 1 if broken else 0


def tell(result: Result, steps: int) -> None:
    print(f"seed {result.seed} broke: {result.broken}")
    print(f"  trace {result.trace}; the last lines of it:")
    for line in result.lines[-12:]:
        print(f"  {line}")
    print(f"  repeat it with: make sim SEED={result.seed} STEPS={steps}")


if __name__ == "__main__":
    sys.exit(main())
