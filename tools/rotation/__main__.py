"""`make rotation`: rotates the master key over WORKSPACES workspaces under calls, then again through a kill -9.

Prints S3's figures. Exit code 0: no call failed, nothing is left on the old key, within the limit; 1: otherwise.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tools.rotation.run import POINTS, rotate_many

LIMIT_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make rotation", description=__doc__)
    parser.add_argument("--workspaces", type=int, default=10_000)
    parser.add_argument("--kill", choices=POINTS, default="in_rewrap")
    asked = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory(prefix="ownkey-rotation-") as folder:
        try:
            for found in rotate_many(Path(folder, "home"), asked.workspaces, ("", asked.kill)):
                how = "through a kill -9" if found.runs > 1 else "under load"
                print(f"S3: {found.data_keys} data keys rewrapped in {found.seconds:.1f} s {how}, {found.made} "
                      f"workspaces made meanwhile, {found.calls} calls answered, {found.failed} failed, "
                      f"{found.left} left", flush=True)
                good = good and found.failed == 0 and found.left == 0 and found.seconds <= LIMIT_S
        except AssertionError as wrong:
            print(f"the rotation is wrong: {wrong}", file=sys.stderr)
            return 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
