"""What keeps Ownkey from starting is told as what it is, with the same words by every command and by doctor."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.terminal import KEY, Said, Terminal, make_home
from tests.emulator_process import EmulatorHandle, start_emulator

from ownkey.cli.option_names import in_options
from ownkey.vault.keyset import write_new_keyset


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorHandle]:
    handle = start_emulator()
    handle.add_key("openrouter", KEY)
    yield handle
    handle.stop()


@pytest.fixture
def desk(tmp_path: Path, emulator: EmulatorHandle) -> Terminal:
    """A folder that holds data already."""
    terminal = make_home(tmp_path / "home", emulator)
    terminal.good("workspace", "add", "Acme", "-x", "acme")
    return terminal


def failed(terminal: Terminal) -> list[dict[str, Any]]:
    checks: list[dict[str, Any]] = terminal.type("doctor", "--json").value["checks"]
    return [check for check in checks if check["state"] == "fail"]


def everywhere(terminal: Terminal) -> tuple[Said, Said, dict[str, Any]]:
    """A command, the server, and doctor's one failed check."""
    command, server = terminal.type("workspace", "list"), terminal.type("serve", OWNKEY_PORT="0")
    checks = failed(terminal)
    assert [check["name"] for check in checks] == ["master key"]
    assert command.code == server.code == 2
    return command, server, checks[0]


def test_own_words_for_no_text_are_a_matter_of_the_configuration(desk: Terminal) -> None:
    """A misspelt text of [portal.words]: which one, what was probably meant, and which file to correct."""
    file = desk.home / "ownkey.toml"
    file.write_text(file.read_text() + '\n[portal.words]\n"Spendd" = "Costs"\n')
    command, server, checks = desk.type("workspace", "list"), desk.type("serve", OWNKEY_PORT="0"), failed(desk)

    assert [check["name"] for check in checks] == ["configuration"]
    for text in (command.err, server.err, f"{checks[0]['sentence']} {checks[0]['fix']}"):
        assert "The pages have no text 'Spendd'. Did you mean 'Spend'?" in text
        assert "Correct ownkey.toml." in text
        assert "doctor" not in text


def test_another_master_key_is_told_as_that(desk: Terminal) -> None:
    """Never as a problem of the database: both names, and to put the right copy back."""
    needed = (desk.home / "master.key").read_text().partition(":")[0]
    (desk.home / "master.key").unlink()
    found = write_new_keyset(desk.home / "master.key")
    command, server, check = everywhere(desk)

    sentence = (
        f"This is not the master key that the saved keys were sealed with (needed: {needed}; found: {found})."
    )
    for text in (command.err, server.err, check["sentence"]):
        assert sentence in text
    for text in (command.err, server.err, check["fix"]):
        assert "Put the right copy back" in text


def test_another_key_under_the_same_name_is_told(desk: Terminal) -> None:
    """The name cannot tell them apart; what was sealed can."""
    name = (desk.home / "master.key").read_text().partition(":")[0]
    (desk.home / "master.key").unlink()
    write_new_keyset(desk.home / "master.key")
    other = (desk.home / "master.key").read_text().partition(":")[2]
    (desk.home / "master.key").write_text(f"{name}:{other}")
    command, server, check = everywhere(desk)

    for text in (command.err, server.err, check["sentence"]):
        assert f"The master key {name} has the right name, but is not the one" in text


def test_a_lost_master_key_is_to_be_restored(desk: Terminal) -> None:
    """With data in the folder a new key would open nothing: nobody is sent to `ownkey init`."""
    (desk.home / "master.key").unlink()
    command, server, check = everywhere(desk)

    for text in (command.err, server.err, check["fix"]):
        assert f"Restore your copy of the master key to {desk.home / 'master.key'}" in text
        assert "ownkey init" not in text


def test_init_makes_no_new_key_over_data(desk: Terminal) -> None:
    """The configuration and the key are lost, the database is not."""
    for name in ("master.key", "ownkey.toml"):
        (desk.home / name).unlink()
    said = desk.type("init", "--preset", "support-desk", "--dir", str(desk.home))

    assert (said.code, "holds a database already" in said.err) == (2, True)
    assert not (desk.home / "master.key").exists()


def test_an_exposed_master_key_has_one_fix(desk: Terminal) -> None:
    """The fix is its own, and no other one contradicts it."""
    (desk.home / "master.key").chmod(0o644)
    command, server, check = everywhere(desk)

    for text in (command.err, server.err, check["fix"]):
        assert f"chmod 400 {desk.home / 'master.key'}" in text
        assert "init" not in text
    assert command.err.count("chmod") == 1


@pytest.mark.parametrize(("host", "sentence", "fix"), [
    ("127.0.0.1", "is in use by another process", "OWNKEY_PORT"),
    ("192.0.2.1", "is not an address of this machine", "OWNKEY_HOST"),
    ("nowhere.invalid", "There is no address nowhere.invalid", "OWNKEY_HOST"),
])
def test_serve_and_doctor_tell_an_address_that_cannot_be_had(
    desk: Terminal, host: str, sentence: str, fix: str
) -> None:
    """One sentence with its fix, exit 2, before anything is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        there = {"OWNKEY_HOST": host, "OWNKEY_PORT": str(taken.getsockname()[1])}
        said = desk.type("serve", **there)
        checks = desk.type("doctor", "--json", **there).value["checks"]

    assert said.code == 2
    assert sentence in said.err
    assert fix in said.err
    assert [check["name"] for check in checks if check["state"] == "fail"] == ["port"]


def test_a_server_that_is_stopping_is_told(desk: Terminal) -> None:
    """It lives, owns the database and answers nobody: the advice is to wait, not to stop it."""
    from ownkey.store.sqlite import SQLiteStore

    note = {"url": "http://127.0.0.1:9", "pid": os.getpid(), "token": "ok_x"}
    (desk.home / "data" / "run.json").write_text(json.dumps(note))
    path = desk.home / "data" / "ownkey.db"
    store = SQLiteStore.open(path, clock_ms=lambda: 1_795_000_000_000, boot_id="other")
    try:
        alive = desk.type("workspace", "list")
        (desk.home / "data" / "run.json").unlink()
        unknown = desk.type("workspace", "list")
    finally:
        asyncio.run(store.close())

    assert alive.code == unknown.code == 2
    assert f"The server on this folder (pid {os.getpid()}) is stopping" in alive.err
    assert "PostgreSQL" not in alive.err + unknown.err
    assert "in use by the process" in unknown.err


def test_a_first_start_logs_ownkeys_own_lines_only(tmp_path: Path, emulator: EmulatorHandle) -> None:
    """No migration tool's and no web server's notes of how they work."""
    terminal = make_home(tmp_path / "new", emulator)
    environ = {"PATH": os.environ["PATH"], "OWNKEY_CONFIG": str(terminal.home / "ownkey.toml"), "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(
        [sys.executable, "-m", "ownkey.cli.main", "serve"], stderr=subprocess.PIPE, text=True, env=environ
    )
    assert server.stderr is not None
    try:
        first = server.stderr.readline()
    finally:
        server.terminate()
        rest = server.communicate(timeout=30)[1]

    assert " INFO ownkey " in first
    assert [line for line in (first + rest).splitlines() if " ownkey" not in line] == []


def test_init_names_the_presets(tmp_path: Path) -> None:
    """Without one there is nothing to guess; and app-builder's next step is the key behind its credits."""
    said = Terminal(tmp_path).type("init", "--dir", str(tmp_path / "a"))
    made = Terminal(tmp_path).good("init", "--preset", "app-builder", "--dir", str(tmp_path / "b"))

    assert said.code == 2
    assert "--preset support-desk" in said.err
    assert "--preset app-builder" in said.err
    assert "ownkey credential add openrouter --platform" in made.out


def test_doctor_misses_the_platforms_key_and_prices(tmp_path: Path, emulator: EmulatorHandle) -> None:
    """Credits without the platform's key pay for nothing; a model without a price is refused under a cap."""
    builder = make_home(tmp_path / "home", emulator, "app-builder")
    builder.good("workspace", "add", "Acme")
    with open(builder.home / "ownkey.toml", "a") as file:
        file.write('\n[tasks.sum_up]\nmodels = ["anthropic/claude-sonet-4.5"]\n')
    before = {check["name"]: check for check in builder.json("doctor")["checks"]}
    builder.good("credential", "add", "openrouter", "--platform", stdin=KEY)
    after = {check["name"]: check for check in builder.json("doctor")["checks"]}
    shown = builder.good("workspace", "show")

    assert (before["platform key"]["state"], before["platform key"]["fix"]) == (
        "warn", "ownkey credential add openrouter --platform"
    )
    assert "sum_up names anthropic/claude-sonet-4.5, which has no price" in before["prices"]["sentence"]
    assert "Did you mean anthropic/claude-sonnet-4.5?" in before["prices"]["fix"]
    assert after["platform key"]["state"] == "ok"
    assert "AI on" in shown.out


@pytest.mark.parametrize(("words", "shown"), [
    ("repeat with save_anyway=true to store it", "repeat with --save-anyway to store it"),
    ("or repeat with acknowledge_ai_stops=true.", "or repeat with --acknowledge-ai-stops."),
    ("'foo' is not a value of `scopes[0]`.", "'foo' is not a value of --scope."),
    ("'boss' is not a value of `role`.", "'boss' is not a value of --role."),
    ("credits_if_key_fails_limit is too low", "--credits-limit is too low"),
    ("There is no scope and no role; run `ownkey token add` first.",
     "There is no scope and no role; run `ownkey token add` first."),
])
def test_the_servers_field_names_become_options(words: str, shown: str) -> None:
    """Whoever types options is answered in options."""
    assert in_options(words) == shown
