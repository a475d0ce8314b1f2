"""`make seeded-bugs`: plants each bug into a copy of the source and runs the tests that should catch it, then the
simulator, until one fails.

First everything runs on a copy without a bug: a test that fails there would catch nothing. Exit code 0: all caught;
1: at least one survived; 2: the copy without a bug fails, or a bug cannot be planted.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tools.seeded_bugs.bugs import BUGS, Bug

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("src", "tests", "tools", "pyproject.toml")
LIMIT_S = 240
SURVIVED = ""


class Misfit(Exception):
    """An edit whose text does not stand exactly once in its file."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`caught_by` "" if nothing did."""

    bug: Bug
    caught_by: str
    took_s: float


def planted(bug: Bug, source: Path) -> dict[Path, str]:
    """The changed files' texts. Raises Misfit."""
    texts: dict[Path, str] = {}
    for edit in bug.edits:
        path = source / "ownkey" / edit.file
        text = texts.get(path) or path.read_text()
        if text.count(edit.find) != 1:
            raise Misfit(f"{bug.name}: {edit.file} holds its text {text.count(edit.find)} times: {edit.find[:60]!r}")
        texts[path] = text.replace(edit.find, edit.put)
    return texts


def make_copy(folder: Path) -> Path:
    for name in COPIED:
        place = ROOT / name
        if place.is_dir():
            shutil.copytree(place, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(place, folder / name)
    return folder


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python on the copy. No bytecode is kept: two bugs within one second would share it."""
    environment = {
        **os.environ, "PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy}", "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "ignore",
    }
    try:
        return subprocess.run(
            [sys.executable, *arguments], cwd=copy, env=environment, text=True, capture_output=True, timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return subprocess.CompletedProcess(late.cmd, 1, "FAILED nothing ended in time", "")


def run_tests(copy: Path, tests: tuple[str, ...]) -> str:
    """The first test that fails; "" if none does."""
    if not tests:
        return ""
    done = run(copy, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", *tests)
    if done.returncode == 0:
        return ""
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return found[1] if found else f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-300:]}"


def run_seeds(copy: Path, seeds: int) -> str:
    done = run(copy, "-m", "tools.sim", "--seeds", str(seeds), "--jobs", "1")
    if done.returncode == 0:
        return ""
    found = re.search(r"^seed (\d+) broke: (.*)", done.stdout, re.MULTILINE)
    return f"simulation, seed {found[1]}: {found[2][:110]}" if found else f"simulation: {done.stderr[-300:]}"


def judge(bug: Bug, copy: Path) -> Verdict:
    """Plant, look, and put the copy back as it was."""
    started = time.monotonic()
    before = {path: path.read_text() for path in planted(bug, copy / "src")}
    try:
        for path, text in planted(bug, copy / "src").items():
            path.write_text(text)
        caught = run_tests(copy, bug.tests) or run_seeds(copy, bug.seeds)
    finally:
        for path, text in before.items():
            path.write_text(text)
    return Verdict(bug, caught, time.monotonic() - started)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make seeded-bugs", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these bugs")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    bugs = [bug for bug in BUGS if not asked.names or bug.name in asked.names]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ownkey-bugs-") as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for n in range(asked.jobs):
            copies.put(make_copy(Path(folder, str(n))))
        clean = copies.get()
        try:
            for bug in bugs:
                planted(bug, clean / "src")
        except Misfit as misfit:
            print(misfit, file=sys.stderr)
            return 2
        tests = tuple(sorted({test for bug in bugs for test in bug.tests}))
        wrong = run_tests(clean, tests) or run_seeds(clean, max((bug.seeds for bug in bugs), default=1))
        if wrong:
            print(f"without any bug this fails already: {wrong}", file=sys.stderr)
            return 2
        print(f"without a bug everything passes ({time.monotonic() - started:.0f} s)", flush=True)
        copies.put(clean)

        def one(bug: Bug) -> Verdict:
            copy = copies.get()
            try:
                return judge(bug, copy)
            finally:
                copies.put(copy)

        survived = 0
        with ThreadPoolExecutor(asked.jobs) as pool:
            for verdict in pool.map(one, bugs):
                survived += not verdict.caught_by
                told = verdict.caught_by or "SURVIVED"
                print(f"{verdict.bug.name:31} {verdict.took_s:5.1f} s  {told}", flush=True)
    caught = len(bugs) - survived
    print(f"{caught} of {len(bugs)} seeded bugs caught in {time.monotonic() - started:.0f} s")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
