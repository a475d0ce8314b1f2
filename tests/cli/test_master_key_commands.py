"""`ownkey master-key`: the whole rotation typed, with a server and without; what goes wrong says what to do."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.terminal import KEY, Terminal, make_home
from tests.deployment import Deployment, deployed
from tests.emulator_process import EmulatorHandle, start_emulator

from ownkey.vault.keyset import parse_keyset


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorHandle]:
    handle = start_emulator()
    yield handle
    handle.stop()


@pytest.fixture
def desk(tmp_path: Path, emulator: EmulatorHandle) -> Terminal:
    return make_home(tmp_path / "home", emulator)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, emulator: EmulatorHandle) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("rotation") / "home", emulator=emulator) as deployment:
        yield deployment


def lines(home: Path) -> list[str]:
    return [line.partition(":")[0] for line in (home / "master.key").read_text().splitlines()]


def test_a_rotation_without_a_server(desk: Terminal, emulator: EmulatorHandle) -> None:
    """add, promote, rewrap, retire on the database itself; every text says what comes next, and none shows a key."""
    desk.good("workspace", "add", "Acme")
    emulator.add_key("openrouter", KEY)
    desk.good("credential", "add", "openrouter", stdin=KEY)
    old = lines(desk.home)[0]
    added = desk.good("master-key", "add").out
    new = lines(desk.home)[1]
    promoted = desk.good("master-key", "promote", new).out
    again = desk.good("master-key", "promote", new).out
    moved = desk.good("master-key", "rewrap").out
    unasked = desk.type("master-key", "retire", old)
    retired = desk.good("master-key", "retire", old, "--yes").out
    shown = desk.good("master-key", "status").out
    audit = desk.json("master-key", "status")
    everything = added + promoted + again + moved + retired + shown + unasked.err

    assert f"ownkey master-key promote {new}" in added
    assert "is the first key" in promoted
    assert "ownkey master-key rewrap" in promoted
    assert "already" in again
    assert f"2 data keys moved to {new}; 0 are left." in moved
    assert (unasked.code, "--yes" in unasked.err) == (2, True)
    assert "Backups made before" in retired
    assert lines(desk.home) == [new]
    assert f"Every data key is under {new}." in shown
    assert [(k["id"], k["data_keys"], k["retired_at"] is None) for k in audit["keys"]] \
        == [(new, 2, True), (old, 0, False)]
    assert stat.S_IMODE((desk.home / "master.key").stat().st_mode) == 0o600
    secret = (desk.home / "master.key").read_text().partition(":")[2].strip()
    assert secret not in everything
    assert desk.good("verify").out.startswith("Clean")
    assert [c["state"] for c in desk.json("credential", "list")["credentials"] if c["provider"] == "openrouter"] \
        == ["connected"]


def test_a_rotation_beside_a_running_server(running: Deployment) -> None:
    """The server reads each change by itself; the status names its process, and a step out of order is refused."""
    running.add_workspace(external_id="acme")
    old = lines(running.home)[0]
    new = json.loads(running.cli("master-key", "add", "--json").stdout)["added"]
    early = running.cli("master-key", "retire", old, "--yes")
    promoted = json.loads(running.cli("master-key", "promote", new, "--json").stdout)
    late = running.cli("master-key", "retire", old, "--yes")
    moved = running.cli("master-key", "rewrap", "--json")
    shown = running.cli("master-key", "status")
    retired = running.cli("master-key", "retire", old, "--yes")

    assert (early.returncode, "still has" in early.stderr) == (1, True), early.stderr
    assert promoted["processes"][0]["primary"] == new
    assert (late.returncode, "data keys still hang" in late.stderr) == (1, True), late.stderr
    assert json.loads(moved.stdout)["result"]["left"] == 0
    assert f":{running.process.pid}" in shown.stdout
    assert "1 of 1" in shown.stdout
    assert retired.returncode == 0, retired.stderr
    assert lines(running.home) == [new]


def test_a_spoilt_file_is_told_and_the_server_goes_on(running: Deployment) -> None:
    """Exit code 1 and the sentence; put right, all is well again."""
    path = running.home / "master.key"
    good = path.read_text()
    path.write_text("nonsense\n")
    told = running.cli("master-key", "reload")
    status = running.cli("master-key", "status")
    path.write_text(good)
    mended = running.cli("master-key", "reload")

    assert told.returncode == 1
    assert "REFUSED" in told.stdout
    assert "FILE" in status.stdout
    assert "nonsense" not in told.stdout + status.stdout + running.log()
    assert "the old one stays in force" in running.log()
    assert mended.returncode == 0, mended.stdout


def test_a_keyset_that_is_elsewhere_is_changed_elsewhere(desk: Terminal) -> None:
    """From the environment, or beside another machine's server: a sentence, the fix, and `generate`."""
    text = (desk.home / "master.key").read_text()
    (desk.home / "master.key").unlink()
    said = desk.type("master-key", "add", OWNKEY_MASTER_KEY=text)
    status = desk.good("master-key", "status", OWNKEY_MASTER_KEY=text)
    nowhere = desk.type("master-key", "add", OWNKEY_URL="https://ownkey.test", OWNKEY_TOKEN="ok_x")
    line = desk.good("master-key", "generate").out

    assert (said.code, "ownkey master-key generate" in said.err) == (2, True)
    assert "OWNKEY_MASTER_KEY" in said.err
    assert text.partition(":")[2].strip() not in said.err + status.out
    assert "yes" in status.out
    assert "no keyset's file on this machine" in nowhere.err
    assert parse_keyset(text + line).primary_id == text.partition(":")[0]
    assert len(parse_keyset(text + line).kek_ids) == 2


@pytest.mark.parametrize("words", [("promote", "k_nobody"), ("retire", "k_nobody", "--yes")])
def test_a_mistyped_key_is_told(desk: Terminal, words: tuple[str, ...]) -> None:
    """By name, with those that there are."""
    said = desk.type("master-key", *words)

    assert said.code != 0
    assert lines(desk.home)[0] in said.err
    assert len(lines(desk.home)) == 1
