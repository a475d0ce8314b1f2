"""The operator's door, command by command: what it does, what it says, what it never says."""

import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.cli.reference import render
from tests.cli.terminal import DIRECT_KEY, KEY, Terminal, make_home
from tests.emulator_process import EmulatorHandle, start_emulator

from ownkey.cli.main import make_app

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorHandle]:
    handle = start_emulator()
    handle.add_key("openrouter", KEY)
    handle.add_key("anthropic", DIRECT_KEY)
    yield handle
    handle.stop()


@pytest.fixture
def desk(tmp_path: Path, emulator: EmulatorHandle) -> Terminal:
    return make_home(tmp_path / "home", emulator)


@pytest.fixture
def builder(tmp_path: Path, emulator: EmulatorHandle) -> Terminal:
    return make_home(tmp_path / "home", emulator, "app-builder")


def commands() -> list[tuple[str, ...]]:
    root: Any = typer.main.get_command(make_app())
    found = []
    for name, command in root.commands.items():
        found += [(name, sub) for sub in command.commands] if hasattr(command, "commands") else [(name,)]
    return found


def test_init_writes_once(tmp_path: Path) -> None:
    """A master key that its owner alone can read, and never a second one over it."""
    terminal = Terminal(tmp_path)
    made = terminal.json("init", "--preset", "app-builder", "--dir", str(tmp_path))
    key = (tmp_path / "master.key").read_text()
    again = terminal.type("init", "--preset", "app-builder", "--dir", str(tmp_path))

    assert made["preset"] == "app-builder"
    assert stat.S_IMODE(os.stat(tmp_path / "master.key").st_mode) in (0o600, 0o400)
    assert stat.S_IMODE(os.stat(tmp_path / "data").st_mode) == 0o700
    assert again.code == 2
    assert "not overwritten" in again.err
    assert (tmp_path / "master.key").read_text() == key
    assert key.strip() not in json.dumps(made) + again.err


def test_from_nothing_to_a_receipt(desk: Terminal) -> None:
    """T1, T10, T21, T24, X2: the set-up of a customer by commands alone, one workspace needing no name."""
    made = desk.json("workspace", "add", "Acme", "--external-id", "acme")
    saved = desk.good("credential", "add", "openrouter", stdin=f"export OPENROUTER_API_KEY='{KEY}'\n")
    tested = desk.json("credential", "test")
    desk.good("cap", "set", "50", "--threshold", "90")
    desk.good("feature", "on", "auto_reply")
    desk.good("feature", "set", "auto_reply", "threshold=70")
    token = desk.json("token", "add", "app")
    receipts = desk.json("receipts", "--task", "key_test")
    why = desk.good("why", tested["receipt"])
    shown = desk.json("workspace", "show")
    explained = desk.json("explain", "--task", "draft_reply")

    assert "OpenRouter API key saved successfully." in saved.out
    assert tested["outcome"] == "works"
    assert token["token"].startswith("ok_")
    assert [r["id"] for r in receipts["receipts"]] == [tested["receipt"]]
    assert "A Test of the OpenRouter key" in why.out
    assert (shown["id"], shown["ai"]["state"]) == (made["id"], "on")
    assert explained["attempts"]
    assert desk.json("cap", "show")["threshold_percent"] == 90
    assert desk.json("verify")["clean"] is True
    knobs = {f["task"]: f["settings"] for f in desk.json("feature", "list")["features"]}
    assert knobs["auto_reply"] == {"threshold": 70}


def test_credits_and_switches(builder: Terminal) -> None:
    """G17, G20, G30: grants happen once, and the switches say what they are."""
    builder.good("workspace", "add", "Acme", "-x", "acme")
    before = builder.json("credits", "show")["balance_credits"]
    for _ in range(2):
        builder.good("credits", "grant", "25", "--once", "order-1")
    builder.good("workspace", "set", "--always-use-key", "on", "--credits-limit", "100")
    row = builder.json("workspace", "show")

    assert builder.json("credits", "show")["balance_credits"] == before + 25
    assert (row["always_use_key"], row["credits_if_key_fails_limit"]) == (True, 100)
    assert row["ai"]["headline"] == "AI off"
    assert len(builder.json("credits", "ledger")["rows"]) >= 1
    assert builder.good("credits", "ledger").out


def test_a_key_is_disabled_enabled_and_removed(desk: Terminal) -> None:
    """G25: each answer says who pays from now on."""
    desk.good("workspace", "add", "Acme")
    desk.good("credential", "add", stdin=KEY)
    off = desk.good("credential", "disable")
    on = desk.good("credential", "enable")
    asked = desk.type("credential", "remove")
    gone = desk.good("credential", "remove", "--yes")

    assert "AI features are off" in off.out
    assert "pays for every AI call" in on.out
    assert (asked.code, "--yes" in asked.err) == (2, True)
    assert "destroyed" in gone.out


def test_people_projects_and_tokens(desk: Terminal) -> None:
    """Lists show what was added; a revoked token says so."""
    desk.good("workspace", "add", "Acme")
    desk.good("member", "add", "u1", "--email", "ada@example.com", "--role", "owner")
    desk.good("project", "add", "p1", "--name", "Pelicans")
    service = desk.json("token", "add", "host", "--service")
    desk.good("token", "revoke", service["row"]["id"], "--service")

    assert desk.json("member", "list")["members"][0]["role"] == "owner"
    assert desk.json("project", "list")["projects"] == [{"project": "p1", "name": "Pelicans"}]
    assert desk.json("token", "list", "--service")["tokens"][0]["revoked_at"]
    assert service["token"] not in desk.good("token", "list", "--service").out
    desk.good("member", "remove", "u1")
    assert "No members yet." in desk.good("member", "list").out


def test_prices_are_shown_and_overridden(desk: Terminal) -> None:
    """An override is a new version."""
    before = desk.json("prices")
    after = desk.json("prices", "made-up", "--set", "openai made-up-model input=0.40 output=1.60")

    assert after["version"] > before["version"]
    assert after["prices"][0]["usd_per_million"] == {"input": "0.40", "output": "1.60"}
    assert desk.type("prices", "--set", "openai gpt").code == 2


@pytest.mark.parametrize(("words", "code", "sentence", "fix"), [
    (("workspac",), 2, "No such command 'workspac'", "--help"),
    (("credential", "ad"), 2, "Did you mean 'add'", "--help"),
    (("init", "--preset", "helpdesk", "--dir", "/tmp/nowhere"), 2, "no preset 'helpdesk'", "support-desk"),
    (("cap", "set", "abc"), 2, "not an amount", "such as 50"),
    (("cap", "set", "-5"), 2, "cannot be negative", "0 for no AI"),
    (("cap", "show", "--workspace", "nobody"), 1, "no workspace nobody here", "ownkey workspace list"),
    (("feature", "on", "auto_repli"), 1, "no task 'auto_repli'", "auto_reply"),
    (("feature", "set", "auto_reply", "threshold"), 2, "not NAME=NUMBER", "threshold=85"),
    (("credential", "enable", "opnrouter"), 2, "not a provider", "openrouter"),
    (("credential", "test"), 1, "No OpenRouter API key is saved", "key to test"),
    (("credential", "add"), 2, "No key was given", "pipe it"),
    (("workspace", "set"), 2, "Nothing to change", "--help"),
    (("workspace", "set", "--always-use-key", "maybe"), 2, "on or off", "on, or"),
    (("workspace", "add", "X", "--timezone", "Berlin"), 2, "not an IANA time zone", "UTC"),
    (("member", "add", "u", "--email", "nobody"), 2, "not an e-mail address", "ada@example.com"),
    (("token", "add", "--task", "drft"), 2, "no task 'drft'", "draft_reply"),
    (("token", "revoke", "ok_123"), 2, "secret, not its id", "tok_"),
    (("why", "nothing"), 1, "no receipt nothing in", "Check the id"),
    (("receipts", "--since", "yesterday"), 2, "not a time", "2026"),
    (("explain",), 2, "a task or a model", "--task auto_triage"),
    (("credits", "grant", "5"), 2, "has no credits", "granted"),
])
def test_every_clumsy_command_gets_its_sentence_and_fix(
    desk: Terminal, words: tuple[str, ...], code: int, sentence: str, fix: str
) -> None:
    """For people in words, for machines the same as JSON; never a traceback."""
    desk.good("workspace", "add", "Acme")
    said = desk.type(*words)
    machine = desk.type(*words, "--json")

    assert said.code == machine.code == code, said
    assert sentence in said.err
    assert fix in said.err
    assert sentence in machine.error["message"]
    assert "Traceback" not in said.err
    assert not said.out


def test_without_a_configuration(tmp_path: Path) -> None:
    """The sentence leads to `ownkey init`."""
    said = Terminal(tmp_path).type("workspace", "list")

    assert said.code == 2
    assert "no configuration file" in said.err
    assert "ownkey init" in said.err


def test_without_a_master_key(desk: Terminal) -> None:
    """A lost key is told, and no new one is made."""
    (desk.home / "master.key").unlink()
    said = desk.type("workspace", "list")

    assert said.code == 2
    assert "master key" in said.err.lower()
    assert not (desk.home / "master.key").exists()


def test_a_broken_configuration_is_told(desk: Terminal) -> None:
    """A misspelt setting is a sentence, not a traceback."""
    with open(desk.home / "ownkey.toml", "a") as file:
        file.write("\n[productt]\nname = 'x'\n")
    said = desk.type("workspace", "list")

    assert (said.code, "productt" in said.err) == (2, True)


@pytest.mark.parametrize("environ", [
    {"OWNKEY_URL": "http://127.0.0.1:9"}, {"OWNKEY_TOKEN": "ok_x"}, {"OWNKEY_URL": "nowhere", "OWNKEY_TOKEN": "ok_x"},
    {"OWNKEY_URL": "http://127.0.0.1:9", "OWNKEY_TOKEN": "ok_x"}, {"OWNKEY_MASTERKEY": "x"},
])
def test_a_server_that_is_not_there(desk: Terminal, environ: dict[str, str]) -> None:
    """Half a name, a wrong name, nobody listening, a misspelt variable: exit 2 with a fix."""
    said = desk.type("workspace", "list", **environ)
    verified = desk.type("verify", **environ)

    assert said.code == verified.code == 2
    assert "Fix: " in said.err
    assert "ok_x" not in said.err


def test_a_locked_database_is_told(desk: Terminal) -> None:
    """One process owns the file; the second says so."""
    from ownkey.store.sqlite import SQLiteStore

    desk.good("workspace", "add", "Acme")
    path = next((desk.home / "data").glob("*.db"))
    store = SQLiteStore.open(path, clock_ms=lambda: 1_795_000_000_000, boot_id="other")
    try:
        said = desk.type("workspace", "list")
    finally:
        import asyncio

        asyncio.run(store.close())

    assert said.code == 2
    assert "database" in said.err
    assert "Fix: " in said.err


def test_verify_tells_drift_by_its_exit_code(desk: Terminal) -> None:
    """X9: 0 clean, 1 drift with the invariant and the rows, 2 not run."""
    desk.good("workspace", "add", "Acme")
    desk.good("credential", "add", stdin=KEY)
    desk.good("credential", "test")
    clean = desk.type("verify")
    database = sqlite3.connect(next((desk.home / "data").glob("*.db")))
    with database:
        database.execute("UPDATE cap_period SET spent_nusd = spent_nusd + 1")
    database.close()
    drift = desk.type("verify")
    (desk.home / "master.key").unlink()
    not_run = desk.type("verify")

    assert (clean.code, drift.code, not_run.code) == (0, 1, 2)
    assert "DRIFT" in drift.out
    assert "This rests on:" in clean.out


def test_two_workspaces_need_a_name(desk: Terminal) -> None:
    """Which one is never guessed."""
    desk.good("workspace", "add", "One", "-x", "one")
    desk.good("workspace", "add", "Two", "-x", "two")
    said = desk.type("cap", "show")

    assert said.code == 2
    assert "one" in said.err
    assert "two" in said.err
    assert desk.json("cap", "show", "-w", "two")["cap_usd"] is None


@pytest.mark.parametrize("words", [
    ("credential", "add", "openrouter", KEY), ("credential", "add", KEY), ("credential", "add", "--key", KEY),
    ("credential", "add", f"--api-key={KEY}"), ("credential", "test", "openrouter", KEY), ("credential", "enable", KEY),
    ("credential", "remove", KEY), ("cap", "set", KEY), ("feature", "on", KEY), ("why", KEY), ("receipts", KEY),
    ("workspace", KEY), (KEY,), ("token", "revoke", KEY),
])
def test_a_key_in_an_argument_is_never_repeated(desk: Terminal, words: tuple[str, ...]) -> None:
    """T28: shells remember arguments; we do not."""
    desk.good("workspace", "add", "Acme")
    for said in (desk.type(*words), desk.type(*words, "--json")):
        assert said.code in (1, 2)
        for part in (KEY, KEY[:24], KEY[-20:]):
            assert part not in said.out + said.err
        if words[0] == "credential":
            assert "never given as an argument" in said.err


def test_no_command_prints_a_saved_key(desk: Terminal) -> None:
    """After saving, every reading command, both ways: no part of a key."""
    desk.good("workspace", "add", "Acme")
    desk.good("credential", "add", "openrouter", stdin=KEY)
    desk.good("credential", "add", "anthropic", stdin=DIRECT_KEY)
    heard = ""
    for words in (
        ("credential", "list"), ("credential", "test"), ("credential", "test", "anthropic"), ("workspace", "show"),
        ("receipts",), ("doctor",), ("env",), ("verify",), ("prices",), ("explain", "--task", "draft_reply"),
    ):
        for more in ((), ("--json",)):
            said = desk.type(*words, *more)
            heard += said.out + said.err
    for key in (KEY, DIRECT_KEY):
        assert key[:20] not in heard
        assert key[-16:] not in heard


def test_json_comes_out_of_every_command(desk: Terminal) -> None:
    """`--json` is on every command that has a result, and what is printed parses."""
    root: Any = typer.main.get_command(make_app())
    for words in commands():
        command = root.commands[words[0]] if len(words) == 1 else root.commands[words[0]].commands[words[1]]
        has_json = any("--json" in parameter.opts for parameter in command.params)
        assert has_json or words[0] == "export" or words in (("serve",), ("demo",), ("openapi",)), words
        assert command.help, words
    desk.good("workspace", "add", "Acme")
    for words in (("workspace", "list"), ("project", "list"), ("member", "list"), ("token", "list"), ("cap", "show"),
                  ("feature", "list"), ("credits", "show"), ("receipts",), ("verify",), ("prices",), ("env",),
                  ("credential", "list"), ("doctor",)):
        assert isinstance(desk.type(*words, "--json").value, dict)
        assert desk.type(*words).out
    assert desk.good("openapi").value["openapi"] == "3.1.0"


def test_doctor_finds_what_is_wrong(desk: Terminal) -> None:
    """Well: exit 0. No master key: exit 1, with its fix. Nothing is spent either way."""
    well = desk.json("doctor")
    bills = desk.emulator.bills() if desk.emulator else []
    (desk.home / "master.key").unlink()
    ill = desk.type("doctor", "--json")

    assert well["ok"]
    assert {"configuration", "master key", "database", "disk", "port", "openrouter", "clock"} <= {
        check["name"] for check in well["checks"]
    }
    assert ill.code == 1
    assert [c["name"] for c in ill.value["checks"] if c["state"] == "fail"] == ["master key"]
    assert len(desk.emulator.bills() if desk.emulator else []) == len(bills)


def test_the_reference_is_current() -> None:
    """docs/cli.md names every command, option and environment variable, as they are now."""
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == render()
    assert len(commands()) > 30


def test_receipts_fit_a_terminal(desk: Terminal) -> None:
    """At most 120 columns; the end of an id finds the whole receipt; a filter takes any name of a model."""
    desk.good("workspace", "add", "Acme")
    desk.good("credential", "add", stdin=KEY)
    tested = desk.json("credential", "test")
    listed = desk.good("receipts")
    end = tested["receipt"][-8:]
    why = desk.good("why", end)

    assert f"…{end}" in listed.out
    assert "own key" in listed.out
    assert max(map(len, listed.out.splitlines())) <= 120
    assert "A Test of the OpenRouter key" in why.out
    assert [r["id"] for r in desk.json("receipts", "--model", tested["model"])["receipts"]] == [tested["receipt"]]


def test_a_receipt_row_tells_hang_ups_and_estimates(capsys: pytest.CaptureFixture[str]) -> None:
    """`hung up` is an outcome, an estimated cost is marked and explained, a refusal shows its code."""
    from ownkey.cli.figures import _show_receipts

    plain = {"id": "call_" + "0" * 32, "at": "2026-11-22T08:00:00Z", "task": "a_task_with_a_long_name", "attempts": [1],
             "served_model": "someone/with-a-very-long-model-name-2026", "funding": "byok", "cost_usd": "0.00000422"}
    _show_receipts({"next_before": None, "receipts": [
        {**plain, "hung_up": True, "basis": "estimated"}, {**plain, "funding": "credits", "charge_credits": 3},
        {**plain, "attempts": [], "code": "always_use_key_unavailable", "cost_usd": "0.00"},
    ]})
    said = capsys.readouterr().out

    assert "hung up" in said
    assert "≈0.00000422" in said
    assert "estimated, because the provider's report is missing" in said
    assert "3 credits" in said
    assert "always_use_key_unavailable" in said
    assert max(map(len, said.splitlines())) <= 120


def test_an_override_shows_what_it_changed(desk: Terminal) -> None:
    """Only the named rows, with the dimensions that were kept and those without a price."""
    desk.good("prices", "--set", "openai made-up-model input=0.40 output=1.60 cache_read=0.10")
    said = desk.good("prices", "--set", "openai made-up-model input=0.50")
    shown = desk.json("prices", "--set", "openai made-up-model input=0.60")

    assert "made-up-model keeps: " in said.out
    assert "cache_read 0.10" in said.out
    assert "made-up-model has no own price for: cache_write_5m" in said.out
    assert [(p["provider"], p["model"]) for p in shown["prices"]] == [("openai", "made-up-model")]


def test_variables_fit_a_terminal(desk: Terminal) -> None:
    """100 columns; and what holds without a master key's variable is said."""
    said = desk.good("env")

    assert max(len(line) for line in said.out.splitlines() if str(desk.home) not in line) <= 100
    assert "OWNKEY_MASTER_KEY_FILE  not set: master.key beside ownkey.toml" in said.out


def test_the_help_offers_no_place_for_a_key(desk: Terminal) -> None:
    """A key typed as an argument is refused, so no help may show where one would go."""
    for command in ("add", "test"):
        assert "[key]" not in desk.good("credential", command, "--help").out.lower()


def test_messages_speak_in_options(desk: Terminal) -> None:
    """Enum mistakes name the allowed values, and no message asks for an API field."""
    desk.good("workspace", "add", "Acme", "-x", "acme")
    scope = desk.type("token", "add", "--scope", "foo")
    threshold = desk.type("cap", "set", "50", "--threshold", "150")
    suspended = desk.good("workspace", "set", "--status", "suspended")
    shown = desk.good("workspace", "show")

    assert "'foo' is not a value of --scope." in scope.err
    assert "Use one of: call, manage." in scope.err
    assert "--threshold cannot be taken" in threshold.err
    assert "from 1 to 99" in threshold.err
    assert suspended.code == 0
    assert "ownkey workspace set acme --status active" in shown.out


@pytest.mark.parametrize(("words", "code"), [
    (("receipts", "--funding", "own"), 2), (("receipts", "--since", "yesterday"), 2), (("cap", "set", "abc"), 2),
    (("credential", "enable", "opnrouter"), 2), (("explain", "--model", "gpt-4.1-mini", "--endpoint", "chats"), 2),
    (("why", "call_unknown"), 1), (("workspace", "show", "nobody"), 1),
])
def test_a_typo_is_no_refusal(desk: Terminal, words: tuple[str, ...], code: int) -> None:
    """2: what was typed cannot be meant; 1: it can, and the answer is no."""
    desk.good("workspace", "add", "Acme")
    said = desk.type(*words)

    assert said.code == code, said
    assert "Fix: " in said.err


@pytest.mark.parametrize("endpoint", ["chat", "responses", "messages", "count_tokens"])
def test_explain_takes_every_endpoint(desk: Terminal, endpoint: str) -> None:
    """Each with a body of its own form; counting needs Anthropic's own key."""
    desk.good("workspace", "add", "Acme")
    desk.good("credential", "add", "openrouter", stdin=KEY)
    desk.good("credential", "add", "anthropic", stdin=DIRECT_KEY)
    found = desk.json("explain", "--model", "anthropic/claude-haiku-4.5", "--endpoint", endpoint)

    assert found["would"] == "answer", found
    routes = {"responses": ["openrouter"], "count_tokens": ["direct"]}.get(endpoint, ["direct", "openrouter"])
    assert [attempt["route"] for attempt in found["attempts"]] == routes
    shown = desk.good("explain", "--model", "anthropic/claude-haiku-4.5", "--endpoint", endpoint).out
    assert "would be called" in shown


def test_a_test_without_money_exits_1(desk: Terminal, emulator: EmulatorHandle) -> None:
    """The matrix, the outcome and the exit code say the same."""
    poor = "sk-or-v1-" + "b0de" * 16
    emulator.add_key("openrouter", poor, kind="no_balance")
    desk.good("workspace", "add", "Acme")
    said = desk.type("credential", "test", "openrouter", "--typed", "--json", stdin=poor)

    assert said.value["outcome"] == "works_no_balance", said
    assert said.code == 1
    assert not any(row["state"] == "works" for row in said.value["reach"])
    assert said.value["reach"]


def test_why_tells_attempts_skips_and_corrections(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that a sentence has no room for, in human words."""
    from ownkey.cli.figures import _show_why

    attempt = {
        "n": 1, "route": "direct", "provider": "openai", "model": "gpt-4.1-mini", "credential_hint": "sk-…5678",
        "failure": "overload", "signal": "503", "status": 503, "message": "Try later", "started_ms": 0,
        "ended_ms": 1_500, "cost_usd": "0.00", "basis": "none", "dropped": [], "shrunk": False,
    }
    answered = {
        **attempt, "n": 2, "route": "openrouter", "provider": "openrouter", "credential_hint": "sk-or-…1234",
        "failure": None, "signal": "", "status": 200, "message": "", "cost_usd": "0.001", "basis": "actual",
        "dropped": ["cache_control"], "shrunk": True, "output_limit": 300,
        "correction": {"origin": "openrouter_generation", "estimated_usd": "0.004", "estimated_basis": "estimated",
                       "reported_usd": "0.001", "at": "2026-11-22T08:00:00Z"},
    }
    _show_why({
        "headline": "In a breath.", "why": "The sentence.", "attempts": [attempt, answered], "notes": ["A note."],
        "skips": [{"route": "direct", "provider": "anthropic", "model": "anthropic/x", "why": "circuit open"}],
    })
    said = capsys.readouterr().out

    assert said.startswith("In a breath.\nThe sentence.\n")
    for part in (
        "1. OpenAI, gpt-4.1-mini, direct key sk-…5678: failed (overload: 503, status 503) after 1.5 s, "
        "cost US$0.00 (none)",
        "It said: Try later", "2. OpenRouter", "Left out of the request: cache_control",
        "lowered to 300", "estimated as US$0.004, then reported as US$0.001",
        "- the direct key for anthropic/x: circuit open", "- A note.",
    ):
        assert part in said


def test_why_as_json_is_the_whole_receipt(desk: Terminal) -> None:
    desk.good("workspace", "add", "Acme")
    desk.good("credential", "add", stdin=KEY)
    ident = desk.json("credential", "test")["receipt"]
    found = desk.json("why", ident[-8:])

    assert (found["receipt"], found["id"]) == (ident, ident)
    assert found["why"].startswith("A Test of ")
    assert found["attempts"][0]["hold_id"]
    assert {"skips", "notes", "cost_usd", "cap"} <= found.keys()


def test_one_credit_is_no_plural(capsys: pytest.CaptureFixture[str]) -> None:
    from ownkey.cli.figures import count_credits

    assert [count_credits(n) for n in (0, 1, 2)] == ["0 credits", "1 credit", "2 credits"]
