"""The gateway under test: `ownkey serve` in a process of its own, set up through its public doors only."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from tools.fidelity.asking import DIRECT, native_of, slug_of
from tools.fidelity.recordings import PROVIDERS, Recording
from tools.fidelity.replay import ReplayServer

START_S = 40.0
# Saves of keys are limited to 20 a minute from one address: every few workspaces come from a loopback address of
# their own, where the system has more than one.
WORKSPACES_PER_ADDRESS = 8
# Shorter than the server's own patience: a connection is never used in the moment in which it is closed.
CONNECTION_IDLE_S = 1.0
_OWNKEY = (sys.executable, "-m", "ownkey.cli.main")


class CouldNotRun(Exception):
    """The run is impossible; the message is for the person who started it."""


class Gateway:
    """A running `ownkey serve`. `url` has no slash at its end; `token` is a service token."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.token = ""
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._many_addresses = _can_bind("127.0.1.1")

    async def close(self) -> None:
        for client in list(self._clients.values()):
            await client.aclose()

    async def make_workspace(self, number: int, keys: Mapping[str, str]) -> str:
        """A workspace with one saved credential a provider; returns its id."""
        client = self._client(number)
        made = await self._manage(client, "POST", "workspaces", {"name": f"Recording {number}"})
        for provider, key in keys.items():
            await self._manage(client, "PUT", f"workspaces/{made['id']}/credentials/{provider}", {"key": key})
        return str(made["id"])

    async def receipt(self, workspace: str, receipt: str) -> dict[str, Any]:
        answer = await self._manage(self._client(0), "GET", f"workspaces/{workspace}/receipts/{receipt}")
        return dict(answer)

    async def use_operator(self, token: str) -> None:
        """Turn the boot's operator token into a service token that may call and manage."""
        self.token = token
        made = await self._manage(
            self._client(0), "POST", "service-tokens", {"label": "fidelity", "scopes": ["call", "manage"]}
        )
        self.token = made["token"]

    def _client(self, number: int) -> httpx.AsyncClient:
        row, place = divmod(number // WORKSPACES_PER_ADDRESS, 250)
        address = f"127.0.{1 + row}.{1 + place}" if self._many_addresses else "127.0.0.1"
        if address not in self._clients:
            transport = httpx.AsyncHTTPTransport(
                local_address=address, limits=httpx.Limits(keepalive_expiry=CONNECTION_IDLE_S)
            )
            self._clients[address] = httpx.AsyncClient(transport=transport, timeout=60, trust_env=False)
        return self._clients[address]

    async def _manage(self, client: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
        while True:
            answer = await client.request(
                method, f"{self.url}/manage/v1/{path}", json=body, headers={"authorization": f"Bearer {self.token}"}
            )
            if answer.status_code != 429:
                break
            await asyncio.sleep(float(answer.headers.get("retry-after", "5")))
        if answer.status_code >= 300:
            raise CouldNotRun(f"{method} /manage/v1/{path}: {answer.status_code} {answer.text[:300]}")
        return answer.json()


def _can_bind(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
        return True


@contextlib.asynccontextmanager
async def running_gateway(replay: ReplayServer, recordings: Iterable[Recording]) -> AsyncIterator[Gateway]:
    """Initialise and start one in a temporary directory, gone afterwards. Raises CouldNotRun."""
    with tempfile.TemporaryDirectory(prefix="ownkey-fidelity-") as folder:
        home = Path(folder)
        environment = _environment(home)
        made = subprocess.run(
            [*_OWNKEY, "init", "--preset", "support-desk", "--dir", str(home)], env=environment, capture_output=True,
            text=True, timeout=60, check=False,
        )
        if made.returncode:
            raise CouldNotRun(f"`ownkey init` failed: {made.stderr or made.stdout}")
        (home / "ownkey.toml").write_text(_config(replay, recordings), "utf-8")
        with open(home / "serve.log", "wb") as log:
            process = subprocess.Popen(
                [*_OWNKEY, "serve"], env=environment, cwd=home, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        gateway: Gateway | None = None
        try:
            run = await _wait_until_ready(process, home)
            gateway = Gateway(run["url"])
            await gateway.use_operator(run["token"])
            yield gateway
            if process.poll() is not None:
                raise CouldNotRun(f"`ownkey serve` ended in the middle of the run:\n{_log_tail(home)}")
        finally:
            if gateway is not None:
                await gateway.close()
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environment(home: Path) -> dict[str, str]:
    """Nothing of the person's own settings reaches the product."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "OWNKEY_CONFIG": str(home / "ownkey.toml"), "PYTHONUNBUFFERED": "1"}


def _config(replay: ReplayServer, recordings: Iterable[Recording]) -> str:
    """The replay server's addresses, and every recorded model under the exact id that was recorded."""
    lines = ['preset = "support-desk"', "[server]", "port = 0", "[prices]", "sync = false"]
    lines += ["[origins]", "allow_insecure = true", *(f'{name} = "{replay.base(name)}"' for name in PROVIDERS)]
    names = {provider: {slug_of(r): native_of(r) for r in recordings if r.provider == provider} for provider in DIRECT}
    for provider, ids in names.items():
        if ids:
            lines += [f"[model_ids.{provider}]", *(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in ids.items())]
    return "\n".join(lines) + "\n"


async def _wait_until_ready(process: subprocess.Popen[bytes], home: Path) -> dict[str, Any]:
    until = time.monotonic() + START_S
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(OSError, ValueError, KeyError, httpx.HTTPError):
                run: dict[str, Any] = json.loads((home / "data" / "run.json").read_text())
                if run["pid"] == process.pid and (await client.get(f"{run['url']}/readyz")).status_code == 200:
                    return run
            await asyncio.sleep(0.05)
    raise CouldNotRun(f"`ownkey serve` did not become ready (exit code {process.poll()}):\n{_log_tail(home)}")


def _log_tail(home: Path) -> str:
    return (home / "serve.log").read_text(errors="replace")[-2000:]
