"""`make chaos`: ROUNDS kills of a real server under calls, in turn at every named point and at random, and a third as
many under payments. Prints M2's figures.

Exit code 0: the books were right after every kill; 1: they were not; 2: a round killed nothing.
"""

import argparse
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from tools.chaos.payments import POINTS, run_payment_chaos
from tools.chaos.run import EVERYWHERE, Unharmed, run_chaos


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=33)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--payments", type=int, help="rounds of buying; a third of ROUNDS")
    asked = parser.parse_args()
    buying = max(1, asked.rounds // 3) if asked.payments is None else asked.payments
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ownkey-chaos-") as folder:
        try:
            figures = run_chaos(Path(folder, "home"), list(islice(cycle(EVERYWHERE), asked.rounds)), asked.seed)
            bought = run_payment_chaos(Path(folder, "shop"), list(islice(cycle(POINTS), buying)), asked.seed)
        except AssertionError as wrong:
            print(f"the books are wrong: {wrong}", file=sys.stderr)
            return 1
        except Unharmed as unharmed:
            print(unharmed, file=sys.stderr)
            return 2
    print(figures.sentence())
    print(bought.sentence())
    print(f"{asked.rounds + buying} rounds in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
