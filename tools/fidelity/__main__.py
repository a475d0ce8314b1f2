"""`python -m tools.fidelity <folder>`: replay recorded provider traffic end to end and say where the gateway differs.

Exit code 0: at least 99% of the replays in the provider's own dialect agree, and at least 97% of the translated ones;
1: fewer do; 2: the run was not possible.
"""

import argparse
import asyncio
import fnmatch
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.fidelity.bodies import Recording
from tools.fidelity.gateway import CouldNotRun
from tools.fidelity.recordings import load_recordings
from tools.fidelity.report import as_json, told
from tools.fidelity.run import replay_all
from tools.fidelity.variants import broken_streams, cut_streams


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.fidelity", description=__doc__)
    parser.add_argument("folder", type=Path, help="recordings: <project>/<provider>/<status>-<name>.json, or like it")
    parser.add_argument("--json", action="store_true", help="the result as JSON before the last line")
    parser.add_argument("--only", metavar="PATTERN", default="", help="names that contain this, or match it with *")
    parser.add_argument("-v", "--verbose", action="store_true", help="one line for every exchange")
    parser.add_argument("--cut", metavar="SEED", type=int, help="streams only, each cut off at a random byte")
    parser.add_argument("--break", metavar="SEED", type=int, dest="broken",
                        help="streams only, each with an error after a random event")
    parser.add_argument("--whole", action="store_true", help="ask for streams that the gateway gathers first")
    options = parser.parse_args(arguments)
    try:
        recordings = choose(load_recordings(options.folder), options.only)
        if options.cut is not None:
            recordings = cut_streams(recordings, options.cut)
        if options.broken is not None:
            recordings = broken_streams(recordings, options.broken)
        if not recordings:
            matching = f" matching {options.only!r}" if options.only else ""
            raise CouldNotRun(f"There are no recordings{matching} in {options.folder}.")
        result = asyncio.run(replay_all(recordings, whole=options.whole))
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
