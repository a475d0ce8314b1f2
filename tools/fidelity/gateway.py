"""The gateway under test: `ownkey serve` in a process of its own, set up through its public doors only."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from tools.fidelity.asking import DIRECT, native_of, slug_of
from tools.fidelity.bodies import PROVIDERS, Recording
from tools.fidelity.replay import ReplayServer

START_S = 40.0
_OWNKEY = (sys.executable, "-m", "ownkey.cli.main")


class CouldNotRun(Exception):
    """The run is impossible; the message is for the person who started it."""


class Gateway:
    """A running `ownkey serve`. `url` has no slash at its end; `token` is a service token."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.token = ""
        self._client = httpx.AsyncClient(timeout=60, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def make_workspace(self, number: int, keys: Mapping[str, str]) -> str:
        """A workspace with one saved credential a provider; returns its id."""
        made = await self._manage("POST", "workspaces", {"name": f"Recording {number}"})
        for provider, key in keys.items():
            await self._manage("PUT", f"workspaces/{made['id']}/credentials/{provider}", {"key": key})
        return str(made["id"])

    async def receipt(self, workspace: str, receipt: str) -> dict[str, Any]:
        answer = await self._manage("GET", f"workspaces/{workspace}/receipts/{receipt}")
        return dict(answer)

    async def use_operator(self, token: str) -> None:
        """Turn the boot's operator token into a service token that may call and manage."""
        self.token = token
        made = await self._manage(
            "POST", "service-tokens", {"label": "fidelity", "scopes": ["call", "manage"]}
        )
        self.token = made["token"]

    async def _manage(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self._client.request(
            method, f"{self.url}/manage/v1/{path}", json=body, headers={"authorization": f"Bearer {self.token}"}
        )
        if answer.status_code >= 300:
            raise CouldNotRun(f"{method} /manage/v1/{path}: {answer.status_code} {answer.text[:300]}")
        return answer.json()


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
    # So many keys that fail one after the other look like an outage of the provider, which is left out for a while.
    lines += ["[routing]", "provider_circuit = false"]
    lines += ["[product]", 'direct_embeddings = ["openai", "google"]']
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
