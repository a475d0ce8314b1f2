"""One-click connect over real sockets: a host's backend begins, a browser walks, our own door ends it."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.deployment import Deployment, deployed

RETURN = "http://localhost:9/settings/ai"
CHAT = {"model": "openai/gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment that browsers can come back to."""
    home: Path = tmp_path_factory.mktemp("connect")
    port = free_port()
    extra = f'[connect]\npublic_url = "http://localhost:{port}"\nreturn_urls = ["{RETURN}"]\n'
    with deployed(home, extra=extra, env={"OWNKEY_PORT": str(port)}) as deployment:
        yield deployment


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, follow_redirects=False, timeout=30) as client:
        yield client


def walk(browser: httpx.Client, url: str) -> httpx.Response:
    """From OpenRouter's page to what our own door answers."""
    page = browser.get(url)
    assert page.status_code == 302, page.text
    return browser.get(page.headers["location"])


def test_one_click_and_the_next_call_is_paid_by_the_new_key(desk: Deployment, browser: httpx.Client) -> None:
    """O2, G10: no key is seen by anybody; the call after the click runs on it, and the emulator bills it."""
    workspace = desk.manage("POST", "workspaces", {"name": "Click"})
    token = desk.manage("POST", f"workspaces/{workspace['id']}/tokens", {"label": "t"})["token"]
    started = desk.manage("POST", f"workspaces/{workspace['id']}/connect/openrouter",
                          {"label": "Click's account", "limit_usd": "5", "limit_reset": "weekly", "return_url": RETURN})
    end = walk(browser, started["authorization_url"])
    answer = httpx.post(f"{desk.url}/v1/chat/completions", json=CHAT, trust_env=False, timeout=30,
                        headers={"authorization": f"Bearer {token}"})
    made = [key for key in desk.emulator.control("GET", "keys")["keys"] if key.get("label") == "Click's account"]
    card = desk.manage("GET", f"workspaces/{workspace['id']}/credentials")["credentials"][0]
    audit = desk.manage("GET", f"workspaces/{workspace['id']}/audit")["rows"]
    tests = desk.manage("GET", f"workspaces/{workspace['id']}/receipts?task=key_test")["receipts"]

    assert end.status_code == 303
    assert end.headers["location"] == f"{RETURN}?ownkey_connect=saved"
    assert end.headers["cache-control"] == "no-store"
    assert answer.status_code == 200, answer.text
    assert len(made) == 1
    assert (made[0]["limit_nusd"], made[0]["limit_reset"]) == ("5000000000", "weekly")
    assert card["hint"].endswith(made[0]["last4"])
    assert {"connect.started", "credential.saved"} <= {row["action"] for row in audit}
    assert len(tests) == 1


def test_a_reload_of_the_way_back_changes_nothing(desk: Deployment, browser: httpx.Client) -> None:
    """The same address again: an answer by its code, the key as it was, one exchange at the provider."""
    workspace = desk.manage("POST", "workspaces", {"name": "Reload"})
    started = desk.manage("POST", f"workspaces/{workspace['id']}/connect/openrouter", {})
    back = browser.get(started["authorization_url"]).headers["location"]
    first, second = browser.get(back), browser.get(back)
    card = desk.manage("GET", f"workspaces/{workspace['id']}/credentials")["credentials"][0]

    assert (first.status_code, second.status_code) == (200, 409)
    assert "OpenRouter is connected" in first.text
    assert card["version"] == 1


def test_the_provider_fails_behind_the_click(desk: Deployment, browser: httpx.Client) -> None:
    """A code that ran out, and an OpenRouter that hangs up: a page with a way on, no key, no traceback in the log."""
    workspace = desk.manage("POST", "workspaces", {"name": "Unlucky"})
    path = f"workspaces/{workspace['id']}/connect/openrouter"
    back = browser.get(desk.manage("POST", path, {})["authorization_url"]).headers["location"]
    desk.emulator.control("POST", "sign-ins/age", {"seconds": 601})
    old = browser.get(back)
    back = browser.get(desk.manage("POST", path, {})["authorization_url"]).headers["location"]
    desk.emulator.add_fault("cut_before_headers", times=2, path="/auth/keys")  # an idle connection is replaced once
    cut = browser.get(back)
    card = desk.manage("GET", f"workspaces/{workspace['id']}/credentials")["credentials"][0]

    assert (old.status_code, cut.status_code) == (422, 422)
    assert "did not take the code" in old.text
    assert "could not be reached" in cut.text
    assert card["state"] == "empty"
    assert "Traceback" not in desk.log()


def test_a_host_that_finishes_itself(desk: Deployment, browser: httpx.Client) -> None:
    """The product's own page gets code and state, checks its session, and finishes over the API; another token that
    may manage keys too cannot."""
    workspace = desk.manage("POST", "workspaces", {"name": "Host"})
    path = f"workspaces/{workspace['id']}/connect/openrouter"
    started = desk.manage("POST", path, {"callback_url": f"{RETURN}?tab=1"})
    page = browser.get(started["authorization_url"])
    found = {name: values[0] for name, values in parse_qs(urlsplit(page.headers["location"]).query).items()}
    body = {"state": found["state"], "code": found["code"]}
    stranger = desk.try_manage("POST", f"{path}/finish", body, token=desk.operator)
    done = desk.manage("POST", f"{path}/finish", body)

    assert found["tab"] == "1"
    assert stranger.status_code == 404
    assert stranger.json()["error"]["code"] == "connect_unknown"
    assert done["test"]["outcome"] == "works"


def test_no_key_code_or_verifier_is_left_anywhere(desk: Deployment, browser: httpx.Client) -> None:
    """S1: after a sign-in no byte of the key, the state, the code or the verifier is in any file of the home."""
    workspace = desk.manage("POST", "workspaces", {"name": "Trace"})
    started = desk.manage("POST", f"workspaces/{workspace['id']}/connect/openrouter", {"label": "Trace"})
    back = browser.get(started["authorization_url"]).headers["location"]
    browser.get(back)
    requests = desk.emulator.control("GET", "requests?limit=50")["requests"]
    exchange = [r for r in requests if r["path"].endswith("/auth/keys")][-1]
    texts = [*(values[0] for values in parse_qs(urlsplit(back).query).values())]
    texts += [part for part in exchange["body"].split('"') if len(part) > 40]
    files = b"".join(path.read_bytes() for path in desk.home.rglob("*") if path.is_file())

    assert len(texts) >= 4
    assert [text for text in texts if text.encode() in files] == []
    assert "authorization" not in exchange["headers"]
