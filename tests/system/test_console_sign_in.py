"""The first operator of a real server: the command's link, password, app, session; and a provider over real sockets."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.deployment import Deployment, deployed
from tests.emulator_process import EmulatorHandle, start_emulator
from tests.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider, open_provider
from tests.operator_visits import PASSWORD, SESSION, Visitor, enrol

from ownkey.domain.totp import code_of, step_of


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorHandle]:
    handle = start_emulator()
    yield handle
    handle.stop()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, emulator: EmulatorHandle) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("console"), emulator=emulator) as running:
        yield running


def test_the_first_operator_signs_in_and_is_out_at_once_when_disabled(deployment: Deployment) -> None:
    """S7, over real HTTP: from the command to the console, and out within a second of `ownkey operator disable`."""
    visitor, seed = enrol(deployment, "ada@example.com", "ops")
    assert "ada@example.com" in visitor.ask("GET", "/console/account").text
    second = Visitor(deployment.url)
    assert second.ask("POST", "/console/sign-in", email="ada@example.com", password=PASSWORD).status_code == 303
    # The next half minute's code counts already, and the set-up has used this one's.
    code = code_of(seed, step_of(time.time_ns() // 1_000_000) + 1)
    assert second.ask("POST", "/console/sign-in/code", code=code).headers["location"] == "/console"
    assert second.ask("GET", "/console/account").status_code == 200
    deployment.manage("POST", "operators/ada@example.com/disable", {}, token=deployment.operator)

    assert visitor.ask("GET", "/console/account").status_code == 303
    assert second.ask("GET", "/console/account").status_code == 303
    assert second.ask("POST", "/console/sign-in", email="ada@example.com", password=PASSWORD).status_code == 401


def test_a_session_outlives_a_crash_and_nothing_secret_is_in_the_log(deployment: Deployment) -> None:
    """kill -9: the operator is still signed in afterwards. Neither password, link nor session is in the log."""
    visitor, _ = enrol(deployment, "bob@example.com", "support")
    secret = visitor.cookies[SESSION]
    deployment.kill()
    deployment.start_again()
    visitor.url = deployment.url
    log = deployment.log()

    assert visitor.ask("GET", "/console/account").status_code == 200
    assert secret not in log
    assert PASSWORD not in log
    assert "code=" not in log
    verified = deployment.cli("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_ten_wrong_passwords_lock_the_door(deployment: Deployment) -> None:
    """One after the other until the answer is 429 with the time to wait, whoever else failed from here before."""
    visitor, failed = Visitor(deployment.url), 0
    while (answer := visitor.ask(
        "POST", "/console/sign-in", email="nobody@example.com", password="wrong"
    )).status_code == 401:
        failed += 1
        assert failed <= 10

    assert answer.status_code == 429
    assert failed >= 8
    assert 0 < int(answer.headers["retry-after"]) <= 900


@contextlib.contextmanager
def running_provider() -> Iterator[Provider]:
    """The provider on a thread of its own: the server asks it while the test waits for the server."""
    ready, found = threading.Event(), {}
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with open_provider(now_ms=lambda: time.time_ns() // 1_000_000) as provider:
            found["provider"] = provider
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield found["provider"]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


def test_a_provider_signs_in_over_real_sockets(tmp_path: Path, emulator: EmulatorHandle) -> None:
    """Discovery, keys, PKCE, the client's secret and the ID token through the product's own egress."""
    with running_provider() as provider:
        extra = (
            '[connect]\npublic_url = "http://localhost:8799"\n'
            f'[console.oidc]\nissuer = "{provider.url}"\nclient_id = "{CLIENT_ID}"\nops = ["@example.com"]\n'
        )
        secret = {"OWNKEY_OIDC_CLIENT_SECRET": CLIENT_SECRET}
        with deployed(tmp_path / "home", emulator=emulator, extra=extra, env=secret) as deployment:
            visitor = Visitor(deployment.url)
            page = visitor.ask("GET", "/console/sign-in").text
            assert "/console/oidc/start" in page
            assert 'type="password"' not in page
            there = visitor.ask("GET", "/console/oidc/start").headers["location"]
            back = urlsplit(provider.approve(there))
            assert f"{back.scheme}://{back.netloc}" == "http://localhost:8799"
            done = visitor.ask("GET", f"{back.path}?{back.query}")
            account: Any = visitor.ask("GET", "/console/account")
            listed = deployment.manage("GET", "operators", token=deployment.operator)["operators"]
            refused = deployment.cli("operator", "add", "eve@example.com")

        assert (done.status_code, done.headers["location"]) == (303, "/console")
        assert "ada@example.com" in account.text
        assert [(row["email"], row["role"], row["signs_in_with"]) for row in listed] == [
            ("ada@example.com", "ops", ["provider"])]
        assert refused.returncode == 1
        assert "console.oidc" in refused.stderr


def test_a_start_without_the_clients_secret_is_refused(tmp_path: Path, emulator: EmulatorHandle) -> None:
    """A provider that would let nobody in is told at the start, in a sentence with its fix."""
    extra = (
        '[connect]\npublic_url = "https://ownkey.example.com"\n'
        '[console.oidc]\nissuer = "https://login.example.com"\nclient_id = "x"\nops = ["@example.com"]\n'
    )
    with pytest.raises(RuntimeError, match="OWNKEY_OIDC_CLIENT_SECRET"), \
            deployed(tmp_path / "home", emulator=emulator, extra=extra):
        pass
