"""`python -m tools.fidelity <folder>`: replay recorded provider traffic end to end and say where the gateway differs.

Exit code 0: fewer than 3% of the replayed exchanges disagree; 1: more do; 2: the run was not possible.
"""

import argparse
import asyncio
import fnmatch
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.fidelity.gateway import CouldNotRun
from tools.fidelity.recordings import Recording, load_recordings
from tools.fidelity.report import as_json, told
from tools.fidelity.run import replay_all


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.fidelity", description=__doc__)
    parser.add_argument("folder", type=Path, help="recordings: <project>/<provider>/<status>-<name>.json")
    parser.add_argument("--json", action="store_true", help="the result as JSON before the last line")
    parser.add_argument("--only", metavar="PATTERN", default="", help="names that contain this, or match it with *")
    parser.add_argument("-v", "--verbose", action="store_true", help="one line for every exchange")
    options = parser.parse_args(arguments)
    try:
        recordings = choose(load_recordings(options.folder), options.only)
        if not recordings:
            matching = f" matching {options.only!r}" if options.only else ""
            raise CouldNotRun(f"There are no recordings{matching} in {options.folder}.")
        result = asyncio.run(replay_all(recordings))
    except (CouldNotRun, OSError) as error:
        print(f"fidelity: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(as_json(result))
        print(result.last_line)
    else:
        print("\n".join(told(result, options.verbose)))
    return 0 if result.good else 1


def choose(recordings: Sequence[Recording], pattern: str) -> list[Recording]:
    """The recordings whose names contain the pattern, or match it where it has wildcards."""
    if not pattern:
        return list(recordings)
    wild = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    return [recording for recording in recordings if fnmatch.fnmatchcase(recording.name, wild)]


if __name__ == "__main__":
    sys.exit(main())
