"""`ownkey operator`: the first operator's link on the terminal, and everything after it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.terminal import Terminal, make_home
from tests.emulator_process import EmulatorHandle, start_emulator


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorHandle]:
    handle = start_emulator()
    yield handle
    handle.stop()


@pytest.fixture
def desk(tmp_path: Path, emulator: EmulatorHandle) -> Terminal:
    return make_home(tmp_path / "home", emulator)


def test_the_first_operator(desk: Terminal) -> None:
    """One command prints one link, says how long it works, and where the address is missing what to put in front."""
    shown = desk.good("operator", "add", "ada@example.com", "--role", "ops", "--name", "Ada").out
    listed = desk.json("operator", "list")["operators"]

    assert "ada@example.com: ops, invited" in shown
    assert "/console/set-up?code=" in shown
    assert "works once" in shown
    assert "public_url" in shown
    assert [(row["email"], row["role"], row["status"]) for row in listed] == [("ada@example.com", "ops", "invited")]


def test_changes_are_told_in_a_line(desk: Terminal) -> None:
    """Role, disable, enable, reset; a reset asks first, and without a terminal demands --yes."""
    desk.good("operator", "add", "ada@example.com")
    assert "ops" in desk.good("operator", "role", "ada@example.com", "ops").out
    assert "disabled" in desk.good("operator", "disable", "ada@example.com").out
    assert "invited" in desk.good("operator", "enable", "ada@example.com").out
    refused = desk.type("operator", "reset", "ada@example.com")
    assert refused.code != 0
    assert "--yes" in refused.err
    assert "/console/set-up?code=" in desk.good("operator", "reset", "ada@example.com", "--yes").out


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (("add", "ada"), 2, "e-mail address"), (("add", "ada@example.com", "--role", "admin"), 2, "role"),
    (("role", "nobody@example.com", "ops"), 1, "no operator"), (("disable", "nobody@example.com"), 1, "no operator"),
])
def test_typos_say_what_to_do(desk: Terminal, arguments: tuple[str, ...], code: int, words: str) -> None:
    """A sentence and its fix; the exit code tells a typo from a refusal."""
    done = desk.type("operator", *arguments)

    assert (done.code, "Fix: " in done.err) == (code, True), done.err
    assert words in done.err


def test_nobody_yet(desk: Terminal) -> None:
    assert "ownkey operator add" in desk.good("operator", "list").out
