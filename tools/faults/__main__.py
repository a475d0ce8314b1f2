"""`python -m tools.faults`: play every fault in every dialect and mode, and write the page of results."""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.faults.house import open_house
from tools.faults.kinds import Case
from tools.faults.page import told, write_page
from tools.faults.run import CouldNotRun, Result, Run, Told, cases_of, choose, with_head_out

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
KEEPALIVE_S = 0.3


def main(given: Sequence[str] | None = None) -> int:
    """0: every rule held; 1: one was broken; 2: it could not be run."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORDS", help="faults whose names contain one of these words")
    parser.add_argument("--lanes", default="", metavar="NAMES", help="only these lanes, separated by commas")
    parser.add_argument("--at-a-time", type=int, default=16, metavar="N", help="cases in flight (default 16)")
    parser.add_argument("--page", type=Path, default=None, help="where the page goes; not written for a selection")
    options = parser.parse_args(given)
    cases = select(options.only, options.lanes)
    if not cases:
        print("There is no such fault or lane.", file=sys.stderr)
        return 2
    try:
        result = asyncio.run(play(cases, options.at_a_time, _progress()))
    except CouldNotRun as error:
        print(f"The run was not possible: {error}", file=sys.stderr)
        return 2
    page = options.page or (None if options.only or options.lanes else PAGE)
    if page is not None:
        page.write_text(write_page(result), "utf-8")
    print("\n".join(told(result)))
    return 0 if result.good else 1


def select(words: str, lanes: str) -> list[Case]:
    """The cases of these faults and lanes; all where nothing is said."""
    wanted = {lane.strip() for lane in lanes.split(",") if lane.strip()}
    return [case for case in cases_of(choose(words)) if not wanted or case.lane.name in wanted]


async def play(cases: Sequence[Case], at_a_time: int, progress: Told, *, patient: bool = True) -> Result:
    """Play all of them: in one gateway; those of addresses in one behind walls; the slow ones once more in one that
    sends the head of a silent stream early."""
    plain = [case for case in cases if not case.fault.wall]
    walled = [case for case in cases if case.fault.wall]
    late = with_head_out(cases)
    total, done, bad = len(plain) + len(walled) + len(late), 0, 0
    result, started = Result(), time.monotonic()
    for some, walls, keepalive_s in ((plain, False, None), (walled, True, None), (late, False, KEEPALIVE_S)):
        if not some:
            continue
        async with open_house(walled=walls, keepalive_s=keepalive_s) as house:
            run = Run(house, at_a_time=at_a_time, keepalive=keepalive_s is not None)
            found = await run.all(some, _continued(progress, total, done, bad), patient=patient)
        result.verdicts += found.verdicts
        result.leaks += found.leaks
        result.replayed += found.replayed
        done, bad = done + len(some), bad + sum(bool(verdict.broken) for verdict in found.verdicts)
    result.seconds = time.monotonic() - started
    return result


def _continued(progress: Told, total: int, done: int, bad: int) -> Told:
    """Progress of one house as progress of all."""
    return lambda n, _of, wrong: progress(done + n, total, bad + wrong)


def _progress() -> Callable[[int, int, int], None]:
    started, shown = time.monotonic(), [-1]

    def show(done: int, total: int, bad: int) -> None:
        percent = 100 * done // total
        if percent // 2 > shown[0]:
            shown[0] = percent // 2
            spent_s = time.monotonic() - started
            line = f"{percent:>3}%  {done} of {total} cases, {bad} broke a rule, {spent_s:.0f} s"
            print(line, file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
