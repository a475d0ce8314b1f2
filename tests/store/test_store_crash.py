"""Killed at any moment: no acknowledged hold is lost, none is booked twice, and the books agree with their rows."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from store_kit import NOV, open_store

KILLS = 10
HERE = Path(__file__).resolve().parent


async def test_kill_nine_at_random_moments_loses_nothing(tmp_path: Path) -> None:
    """M2: ten lives on one file, each killed in the middle of eight callers."""
    path = tmp_path / "a.db"
    held: set[str] = set()
    ended: set[str] = set()
    dice = random.Random(7)
    for life in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, str(HERE / "crash_child.py"), str(path), str(life)],
            stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent.parent}"},
        )
        assert child.stdout is not None
        lines = []
        for _ in range(1 + dice.randrange(20, 400)):
            lines.append(child.stdout.readline().decode().strip())
        child.send_signal(signal.SIGKILL)
        lines += [line.strip() for line in child.stdout.read().decode().splitlines()]
        child.wait()
        held |= {line[2:] for line in lines if line.startswith("h ")}
        ended |= {line[2:] for line in lines if line.startswith("e ")}
        store = open_store(path, boot_id=f"parent-{life}")
        findings = await store.verify(NOV)
        await store.close()
        assert list(findings) == []

    conn = sqlite3.connect(path)
    states = dict(conn.execute("SELECT id, state FROM hold").fetchall())
    assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    conn.close()
    assert len(held) > 200
    assert held <= set(states)
    assert not [h for h in states if states[h] == "held"]
    assert {states[h] for h in ended} <= {"settled", "released"}
