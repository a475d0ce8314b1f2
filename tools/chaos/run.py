"""Rounds of a real deployment under load, each ended by a kill -9; after every restart the books are compared with the
bill book.

Most points are the server's own (`OWNKEY_FAILPOINT`); `mid_stream` is the caller's: the first piece of an
answer has arrived. `random` comes at any time.
"""

import contextlib
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.deployment import Deployment, TestWorkspace, deployed
from tests.system.test_crash import CHAT, check_books, keep_calling

KEY = "sk-or-v1-" + "4d" * 32
ALERTED_KEY = "sk-or-v1-" + "5d" * 32
CALLERS = 6
DIES_WITHIN_S = 20.0
FAILPOINTS = (
    "before_hold", "in_hold", "in_settle", "in_expiry", "in_receipt", "in_outbox", "in_cap", "after_hold",
    "after_settle",
)
EVERYWHERE = ("random", "mid_stream", *FAILPOINTS)


class Unharmed(Exception):
    """The process did not die where it should have: a round that proves nothing."""


@dataclass
class Figures:
    """M2 and M11, as measured."""

    kills: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    spent_nusd: int = 0
    billed_nusd: int = 0
    alerts: int = 0

    def sentence(self) -> str:
        points = ", ".join(f"{count} {point}" for point, count in sorted(self.kills.items()))
        return (
            f"M2: {self.kills.total()} kills ({points}); {self.answered} answered calls, 0 lost, 0 booked twice; "
            f"spend {self.spent_nusd} nUSD >= billed {self.billed_nusd} nUSD. "
            f"M11: {self.alerts} alerts, one row each."
        )


def run_chaos(home: Path, points: Sequence[str], seed: int) -> Figures:
    """One round a point. Raises AssertionError where the books are wrong, Unharmed where nothing died."""
    dice = random.Random(f"chaos:{seed}")
    figures = Figures()
    seen: list[str] = []
    with deployed(home) as desk:
        workspace = desk.add_workspace("chaos", cap_usd="1000", keys={"openrouter": KEY})
        alerted = desk.add_workspace("alerted", keys={"openrouter": ALERTED_KEY})
        desk.emulator.set({"first_content_s": 0.01, "gap_s": 0.002, "output_tokens": 60}, provider="openrouter")
        for point in points:
            _round(desk, workspace, alerted, point, dice, seen)
            figures.kills[point] += 1
            desk.service = desk.operator
            figures.spent_nusd, figures.billed_nusd = check_books(desk, workspace, KEY, seen)
            for _ in range(2):
                _cross_the_threshold(alerted)
            figures.alerts = check_alerts(desk, alerted)
        figures.answered = len(seen)
    return figures


def _round(
    desk: Deployment, workspace: TestWorkspace, alerted: TestWorkspace, point: str, dice: random.Random,
    seen: list[str],
) -> None:
    """Load, death, restart. The first start of a round carries the failpoint, the last one none."""
    if point not in ("random", "mid_stream", "in_expiry"):
        desk.stop()
        # Only the process under test may die by itself.
        desk.env |= {"OWNKEY_TESTING": "1", "OWNKEY_FAILPOINT": f"{point}:{dice.randrange(1, _most(point) + 1)}"}
        desk.start_again()
        desk.service = desk.operator
    stop = threading.Event()
    threads = [
        threading.Thread(target=keep_calling, args=(workspace, desk.url, stop, seen, n % 2 == 0))
        for n in range(CALLERS)
    ]
    for thread in threads:
        thread.start()
    try:
        _until_dead(desk, workspace, alerted, point, dice)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for name in ("OWNKEY_TESTING", "OWNKEY_FAILPOINT"):
            desk.env.pop(name, None)
    if point == "in_expiry":
        _die_while_recovering(desk)
    desk.start_again()


def _most(point: str) -> int:
    """How often a point may be passed before it kills: rare ones at once."""
    return {"in_outbox": 1, "in_cap": 1}.get(point, 25)


def _until_dead(
    desk: Deployment, workspace: TestWorkspace, alerted: TestWorkspace, point: str, dice: random.Random
) -> None:
    if point in ("random", "in_expiry"):
        time.sleep(0.15 + dice.random() * 0.4)
        desk.kill()
        return
    if point == "mid_stream":
        _hear_the_first_piece(desk, workspace)
        desk.kill()
        return
    until = time.monotonic() + DIES_WITHIN_S
    while desk.process.poll() is None:
        if time.monotonic() > until:
            raise Unharmed(f"the server lives {DIES_WITHIN_S:.0f} s after it should have died {point}")
        if point in ("in_outbox", "in_cap"):
            with contextlib.suppress(httpx.HTTPError, AssertionError, KeyError):
                _cross_the_threshold(alerted)
        time.sleep(0.02)
    if desk.process.wait() != -9:
        raise Unharmed(f"the server ended with {desk.process.returncode} {point}:\n{desk.log()[-2_000:]}")


def _hear_the_first_piece(desk: Deployment, workspace: TestWorkspace) -> None:
    with contextlib.suppress(httpx.HTTPError), httpx.stream(
        "POST", desk.url + "/v1/chat/completions", json={**CHAT, "stream": True}, trust_env=False, timeout=10,
        headers={"authorization": f"Bearer {workspace.token}"},
    ) as answer:
        for _ in answer.iter_raw():
            return


def _cross_the_threshold(alerted: TestWorkspace) -> None:
    """A cap so close to what is spent that one call crosses 80%."""
    spent = int(alerted.cap()["spent_nusd"])
    if spent == 0:
        alerted.post("/v1/chat/completions", {**CHAT, "max_tokens": 20})
        return
    cap = spent + spent // 10 + 1_000
    # What was met under the version before is not told again: the step between makes it news.
    alerted.set_cap(None)
    alerted.set_cap(f"{cap // 10**9}.{cap % 10**9:09d}")


def _die_while_recovering(desk: Deployment) -> None:
    """The next start dies in the middle of ending what the dead left open."""
    desk.env |= {"OWNKEY_TESTING": "1", "OWNKEY_FAILPOINT": "in_expiry:1"}
    try:
        desk.start_again()
    except RuntimeError as error:
        if "ended with -9" not in str(error):
            raise
    else:
        raise Unharmed("nothing was left open to expire")
    finally:
        for name in ("OWNKEY_TESTING", "OWNKEY_FAILPOINT"):
            desk.env.pop(name, None)


def check_alerts(desk: Deployment, alerted: TestWorkspace) -> int:
    """One row for a threshold of a cap version of a period, and its messages once. Returns how many."""
    alerts: list[Any] = desk.manage("GET", f"workspaces/{alerted.id}/alerts")["rows"]
    seen = Counter((a["period"], a["cap_version"], a["threshold"]) for a in alerts)
    assert all(count == 1 for count in seen.values()), seen
    with contextlib.closing(sqlite3.connect(f"file:{desk.home}/data/ownkey.db?mode=ro", uri=True)) as conn:
        keys = Counter(row[0] for row in conn.execute(
            "SELECT dedupe_key FROM outbox WHERE workspace_id = ? AND dedupe_key LIKE 'alert:%'", (alerted.id,)
        ))
    loud = sum(a["state"] != "silent" for a in alerts)
    assert all(count == 1 for count in keys.values()), keys
    assert len(keys) == 2 * loud, f"{loud} alerts and {len(keys)} messages of them"
    return len(alerts)
