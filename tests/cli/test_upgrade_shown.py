"""An upgrade on a terminal and in a log: who waits sees what for."""

import contextlib
import io
import json
import os
import pty
import threading
import time

import pytest

from ownkey.cli.meter import Meter
from ownkey.cli.upgrades import UpgradeShown
from ownkey.domain.upgrades import UpgradeStep


def step(n: int, *, old: str = "0030", done: bool = False) -> UpgradeStep:
    return UpgradeStep(old, "0035", n, 5, f"00{30 + n}_name", done)


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_log_gets_one_object_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, with the seconds so far; stdout is the command's own."""
    with UpgradeShown() as told:
        for n in range(6):
            told(step(n))
        told(step(6, done=True))
    said = capsys.readouterr()
    told_lines = lines(said.err)

    assert said.out == ""
    assert [line["step"] for line in told_lines] == [0, 1, 2, 3, 4, 5, 6]
    assert told_lines[2]["upgrade"] == "Bringing the database from schema 0030 to 0035: step 2 of 5 (0032_name)"
    assert {line["of"] for line in told_lines} == {5}
    assert [line["done"] for line in told_lines] == [False] * 6 + [True]
    assert all(isinstance(line["elapsed_s"], float) for line in told_lines)


def test_a_long_step_is_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Every few seconds, with the time that it has taken, until it is done; never afterwards."""
    shown = UpgradeShown(beat_s=0.02)
    with shown as told:
        told(step(1))
        time.sleep(0.2)
        told(step(6, done=True))
    first = lines(capsys.readouterr().err)
    time.sleep(0.1)

    assert len(first) > 3
    assert [line["step"] for line in first[:-1]] == [1] * (len(first) - 1)
    assert first[-1]["done"] is True
    assert first[-2]["elapsed_s"] >= 0.0
    assert capsys.readouterr().err == ""


def test_a_new_database_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody waits for a second."""
    with UpgradeShown() as told:
        for n in range(1, 6):
            told(step(n, old=""))
        told(step(6, old="", done=True))
    assert capsys.readouterr() == ("", "")


def test_a_new_database_that_takes_long_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """From the first second on."""
    with UpgradeShown(quiet_s=0.05) as told:
        told(step(1, old=""))
        time.sleep(0.1)
        told(step(2, old=""))
        told(step(6, old="", done=True))
    assert [line["step"] for line in lines(capsys.readouterr().err)] == [2, 6]


def test_a_terminal_gets_a_bar() -> None:
    """With the step's words and the time; no JSON."""
    master, slave = pty.openpty()
    heard = bytearray()

    def listen() -> None:
        # A terminal hands on what was written whenever it likes; it is all there once nobody can write any more.
        with contextlib.suppress(OSError):
            while piece := os.read(master, 65_536):
                heard.extend(piece)

    listener = threading.Thread(target=listen)
    listener.start()
    with os.fdopen(slave, "w") as terminal, contextlib.redirect_stderr(terminal):
        with UpgradeShown() as told:
            for n in range(1, 6):
                told(step(n))
            told(step(6, done=True))
        with Meter("Opening the backup", 100) as meter:
            meter.tell(100)
    listener.join(10)
    os.close(master)
    said = heard.decode()

    assert "step 5 of 5" in " ".join(said.split()) or "schema 0035" in said
    assert "0:00:00" in said
    assert "{" not in said


def test_a_pipe_hears_of_a_long_opening_only() -> None:
    """A meter of less than a second says nothing where it is piped."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err), Meter("Opening the backup", 100) as meter:
        meter.tell(50)
        meter.tell(100)
    assert err.getvalue() == ""
