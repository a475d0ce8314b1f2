"""`ownkey mail` and `ownkey outbox`, as an operator types them; and what doctor says of the ways out."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.terminal import Terminal, make_home
from tests.emulator_process import EmulatorHandle, start_emulator
from tests.mailbox_process import SECRET, MailboxHandle, mailbox

from ownkey.domain.notices import Kind


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorHandle]:
    running = start_emulator()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def box() -> Iterator[MailboxHandle]:
    with mailbox() as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path, emulator: EmulatorHandle) -> Terminal:
    return make_home(tmp_path / "home", emulator)


def add(desk: Terminal, text: str) -> None:
    path = desk.home / "ownkey.toml"
    path.write_text(path.read_text() + text)


ENTRY = '[product]\nentry_url = "https://app.example.com/ai?open={flow}"\n'


def test_previews_need_no_configuration_and_send_nothing(tmp_path: Path) -> None:
    """Every kind, as text and as files; one kind by its name; an unknown one is refused with the known ones."""
    bare = Terminal(tmp_path)
    every = bare.json("mail", "preview")["mails"]
    files = bare.json("mail", "preview", "--out", str(tmp_path / "out"))["files"]
    one = bare.good("mail", "preview", "ai_paused").out
    wrong = bare.type("mail", "preview", "ai_pausd")

    assert [mail["kind"] for mail in every] == [str(kind) for kind in Kind]
    assert len(files) == 2 * len(Kind)
    assert all(Path(name).stat().st_size > 150 for name in files)
    assert "AI paused, spend cap reached" in one
    assert "What calls do now:" in one
    assert wrong.code == 2
    assert "ai_paused" in wrong.err


def test_a_test_mail_arrives_or_says_why_not(desk: Terminal, box: MailboxHandle) -> None:
    none = desk.type("mail", "test", "ada@example.com")
    add(desk, ENTRY + box.config())
    bad = desk.type("mail", "test", "no address")
    good = desk.json("mail", "test", "ada@example.com")
    box.add_fault("rcpt", 550)
    refused = desk.type("mail", "test", "gone@example.com")

    assert "Add [mail]" in none.err
    assert bad.code == 2
    assert good["sent_to"] == "ada@example.com"
    assert [mail["to"] for mail in box.mails()] == ["ada@example.com"]
    assert "550" in refused.err


def test_doctor_speaks_of_the_ways_out(desk: Terminal, box: MailboxHandle) -> None:
    before = {c["name"]: c for c in desk.type("doctor", "--json").value["checks"]}
    add(desk, ENTRY + box.config())
    half = {c["name"]: c for c in desk.type("doctor", "--json").value["checks"]}
    whole = {c["name"]: c for c in desk.type("doctor", "--json", OWNKEY_EVENT_SECRETS=SECRET).value["checks"]}
    wrong = {c["name"]: c for c in desk.type("doctor", "--json", OWNKEY_EVENT_SECRETS="whsec_x").value["checks"]}

    assert before["mail"]["state"] == "warn"
    assert (half["mail"]["state"], half["events"]["state"]) == ("ok", "fail")
    assert (whole["mail"]["state"], whole["events"]["state"]) == ("ok", "ok")
    assert wrong["events"]["state"] == "fail"
    assert "ai@acme.example" in whole["mail"]["sentence"]


def test_the_outbox_is_listed_and_what_still_waits_is_not_retried(desk: Terminal) -> None:
    desk.good("workspace", "add", "Acme")
    desk.good("member", "add", "ada", "--email", "ada@example.com", "--role", "owner", "--mute", "spend")
    desk.good("cap", "set", "0")
    rows = desk.json("outbox", "--waiting")["rows"]
    shown = desk.good("outbox").out
    waiting = desk.type("outbox", "retry", str(rows[0]["id"]), "--json")
    unknown = desk.type("outbox", "retry", "99999")
    none = desk.type("outbox", "retry", "x")
    both = desk.type("outbox", "--failed", "--waiting")

    assert {row["kind"] for row in rows} == {"ai_paused"}
    assert "no mail server is configured" in shown
    assert desk.json("outbox", "--failed")["rows"] == []
    assert waiting.code == 2
    assert "still waits" in json.loads(waiting.err)["error"]["message"]
    assert (unknown.code, none.code) == (1, 1)
    assert both.code == 2
    assert desk.json("member", "list")["members"][0]["muted"] == ["spend"]
    desk.good("member", "add", "ada", "--email", "ada@example.com", "--role", "owner")
    assert desk.json("member", "list")["members"][0]["muted"] == ["spend"]
    desk.good("member", "add", "ada", "--email", "ada@example.com", "--role", "owner", "--mute", "")
    assert desk.json("member", "list")["members"][0]["muted"] == []
