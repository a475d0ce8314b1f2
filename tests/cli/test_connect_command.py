"""`ownkey connect openrouter`: the browser on this machine, the browser on another, and all that can go wrong."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cli.terminal import KEY, Said, Terminal, make_home
from tests.deployment import environment
from tests.emulator_process import EmulatorHandle, start_emulator


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorHandle]:
    handle = start_emulator()
    handle.add_key("openrouter", KEY)
    yield handle
    handle.stop()


@pytest.fixture
def desk(tmp_path: Path, emulator: EmulatorHandle) -> Terminal:
    terminal = make_home(tmp_path / "home", emulator)
    terminal.good("workspace", "add", "Acme", "--external-id", "acme")
    return terminal


def approve(url: str) -> str:
    """What a browser does at OpenRouter's page: the address it is sent to."""
    answer = httpx.get(url, follow_redirects=False, trust_env=False)
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


class Browsing:
    """The command in a process of its own, as long as it waits for a browser."""

    def __init__(self, desk: Terminal, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ownkey.cli.main", "connect", "openrouter", *words], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=desk.home, env=environment(desk.home),
        )
        self.told: list[str] = []
        self._watchdog = threading.Timer(60, self.process.kill)
        self._watchdog.start()

    def url(self) -> str:
        """The address that the command tells people to open."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told.append(line)
            if line.startswith("http"):
                return line.strip()
        raise AssertionError("".join(self.told))

    def end(self, typed: str | None = None) -> Said:
        out, err = self.process.communicate(typed, timeout=60)
        self._watchdog.cancel()
        return Said(self.process.returncode, out, "".join(self.told) + err)


def test_the_browser_on_this_machine(desk: Terminal) -> None:
    """O2: open, approve, done: the key is saved, its Test is told, and strangers at the port are not heard."""
    browsing = Browsing(desk, "acme", "--label", "Acme's account", "--limit", "25", "--limit-reset", "monthly",
                        "--json")
    back = approve(browsing.url())
    port = back.split("/")[2]
    wrong = httpx.get(f"http://{port}/callback?state={'A' * 43}&code=evil", trust_env=False)
    other = httpx.get(f"http://{port}/favicon.ico", trust_env=False)
    page = httpx.get(back, trust_env=False)
    said = browsing.end()
    card = desk.json("credential", "list")["credentials"][0]

    assert port.startswith("localhost:")
    assert (wrong.status_code, other.status_code, page.status_code) == (404, 404, 200)
    assert page.headers["cache-control"] == "no-store"
    assert said.code == 0, said.err
    assert said.value["test"]["outcome"] == "works"
    assert said.value["test"]["limit_usd"] == "25.00"
    assert (card["label"], card["state"], card["health"]) == ("Acme's account", "connected", "ok")
    assert "sk-or-v1-" not in said.out.replace(card["hint"], "") + said.err


def test_the_browser_on_another_machine(desk: Terminal) -> None:
    """--paste: the address that the browser ended at is pasted; so is a bare code."""
    for bare in (False, True):
        browsing = Browsing(desk, "--paste")
        back = approve(browsing.url())
        said = browsing.end((back.partition("&code=")[2] if bare else back) + "\n")

        assert said.code == 0, said.err
        assert "saved successfully" in said.out
        assert "works:" in said.out


def test_an_earlier_sign_in_is_finished_by_its_address(desk: Terminal) -> None:
    """--code ends what an interrupted --paste began, once; a bare code does not say which."""
    browsing = Browsing(desk, "--paste")
    url = browsing.url()
    given_up = browsing.end("")
    back = approve(url)
    done = desk.good("connect", "openrouter", "--code", back)
    again = desk.type("connect", "openrouter", "--code", back, "--json")
    bare = desk.type("connect", "openrouter", "--code", "just-a-code")

    assert given_up.code == 1
    assert "--code" in given_up.err
    assert "saved successfully" in done.out
    assert again.code == 1
    assert again.error["code"] == "connect_used"
    assert bare.code == 2
    assert "whole address" in bare.err


@pytest.mark.parametrize(("words", "typed", "code", "sentence"), [
    (["--paste"], "", 1, "Nothing was pasted"),
    (["--paste"], KEY, 2, "This is a key"),
    (["--paste"], "http://localhost:3000/callback?code=x", 2, "no state"),
    (["--paste"], "http://localhost:3000/callback?state=" + "A" * 43 + "&code=x", 2, "another sign-in"),
    (["--paste"], "made-up-code", 1, "did not take the code"),
    (["--code", "http://localhost:3000/callback?state=" + "A" * 43 + "&code=x"], "", 1, "not begun here"),
    (["--code", KEY], "", 2, "This is a key"),
    (["--paste", "--limit", "lots"], "", 2, "amount in US dollars"),
    (["--paste", "--limit-reset", "monthly"], "", 2, "Give --limit too"),
    (["--paste", "--limit", "5", "--limit-reset", "yearly"], "", 2, "daily, monthly, weekly"),
    (["--paste", "--expires", "2020-01-01T00:00:00Z"], "", 2, "in the future"),
    (["nobody", "--paste"], "", 1, "no workspace nobody"),
    (["acme", "--workspace", "other"], "", 2, "Two different workspaces"),
    (["--wait", "0"], "", 2, "greater than or equal to 1"),
], ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None)
def test_what_goes_wrong_is_said(desk: Terminal, words: list[str], typed: str, code: int, sentence: str) -> None:
    """One sentence and a fix, no key saved, nothing repeated of a pasted key."""
    said = desk.type("connect", "openrouter", *words, stdin=typed)

    assert said.code == code, said
    assert sentence in said.err
    assert KEY not in said.out + said.err
    assert desk.json("credential", "list")["credentials"][0]["state"] == "empty"


def test_nobody_comes_back(desk: Terminal) -> None:
    """The wait ends, with a way on."""
    said = desk.type("connect", "openrouter", "--wait", "1", "--json")
    lines: Any = [json.loads(line) for line in said.err.splitlines() if line.startswith("{")]

    assert said.code == 1
    assert lines[0]["error"]["code"] == "connect_expired"
    assert "--paste" in lines[0]["error"]["fix"]["text"]
