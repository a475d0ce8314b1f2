"""A whole deployment for a test: the emulator and `ownkey serve`, each a process, reached by public doors only."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
from tests.emulator_process import EmulatorHandle, start_emulator

ROOT = Path(__file__).resolve().parent.parent
START_S = 30.0
KEYS = {
    "openrouter": "sk-or-v1-" + "a1" * 32,
    "openai": "sk-proj-" + "b2" * 24,
    "anthropic": "sk-ant-api03-" + "c3" * 24,
    "google": "AQ.Ab8" + "d4" * 20,
}


def environment(home: Path, **more: str) -> dict[str, str]:
    """A clean environment: nothing of the tester's own reaches the product."""
    names = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {**kept, "OWNKEY_CONFIG": str(home / "ownkey.toml"), "PYTHONUNBUFFERED": "1", **more}


def run_cli(home: Path, *arguments: str, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """One `ownkey` command, as a person would type it."""
    return subprocess.run(
        [sys.executable, "-m", "ownkey.cli.main", *arguments], input=stdin, capture_output=True, text=True, timeout=60,
        env=environment(home, **env), cwd=home, check=False,
    )


@dataclass
class Deployment:
    """A running server. `operator` is the boot's operator token, `service` a service token made over the API."""

    home: Path
    emulator: EmulatorHandle
    process: subprocess.Popen[bytes]
    url: str = ""
    operator: str = ""
    service: str = ""
    env: dict[str, str] = field(default_factory=dict)

    # --- life

    def wait_until_ready(self) -> None:
        until = time.monotonic() + START_S
        run_file = self.home / "data" / "run.json"
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"ownkey serve ended with {self.process.returncode}:\n{self.log()}")
            with contextlib.suppress(OSError, ValueError, KeyError, httpx.HTTPError):
                run = json.loads(run_file.read_text())
                if run["pid"] == self.process.pid:
                    answer = httpx.get(run["url"] + "/readyz", timeout=5, trust_env=False)
                    if answer.status_code == 200:
                        self.url, self.operator = run["url"], run["token"]
                        return
            time.sleep(0.02)
        raise RuntimeError(f"ownkey serve was not ready in {START_S} s:\n{self.log()}")

    def log(self) -> str:
        return (self.home / "serve.log").read_text(errors="replace")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def kill(self) -> None:
        """kill -9: nothing gets a chance to clean up."""
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        self.process = _serve(self.home, self.env)
        self.wait_until_ready()

    # --- doors

    def manage(self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str) -> Any:
        """One management request that must succeed; returns the JSON."""
        answer = self.try_manage(method, path, body, token=token, **headers)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def try_manage(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str
    ) -> httpx.Response:
        return httpx.request(
            method, f"{self.url}/manage/v1/{path.lstrip('/')}", json=body, timeout=30, trust_env=False,
            headers={"authorization": f"Bearer {token or self.service or self.operator}", **headers},
        )

    def cli(self, *arguments: str, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        return run_cli(self.home, *arguments, stdin=stdin, **env)

    def add_workspace(
        self, name: str = "Acme", *, providers: tuple[str, ...] = ("openrouter",), cap_usd: str | None = None,
        keys: Mapping[str, str] = KEYS, **fields: Any,
    ) -> "TestWorkspace":
        """A workspace with credentials that the emulator knows, and its own token."""
        made = self.manage("POST", "workspaces", {"name": name, **fields})
        workspace = TestWorkspace(self, made["id"], "")
        for provider in providers:
            self.emulator.add_key(provider, keys[provider])
            workspace.save_key(provider, keys[provider])
        if cap_usd is not None:
            workspace.set_cap(cap_usd)
        workspace.token = self.manage("POST", f"workspaces/{workspace.id}/tokens", {"label": "test"})["token"]
        return workspace


@dataclass
class TestWorkspace:
    """One workspace as its own caller sees it."""

    __test__ = False

    deployment: Deployment
    id: str
    token: str

    def client(self, base: str = "/v1", **options: Any) -> openai.OpenAI:
        return openai.OpenAI(
            api_key=self.token, base_url=self.deployment.url + base,
            http_client=openai.DefaultHttpxClient(trust_env=False), **{"max_retries": 0, "timeout": 30, **options},
        )

    def async_client(self, base: str = "/v1", **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            api_key=self.token, base_url=self.deployment.url + base,
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False, limits=httpx.Limits(max_connections=1_000)),
            **{"max_retries": 0, "timeout": 60, **options},
        )

    def post(self, path: str, body: Any = None, *, content: bytes | None = None, **headers: str) -> httpx.Response:
        """One call without an SDK; header names with _ for -."""
        return httpx.post(
            self.deployment.url + path, json=body, content=content, timeout=30, trust_env=False,
            headers={"authorization": f"Bearer {self.token}", **{k.replace("_", "-"): v for k, v in headers.items()}},
        )

    def save_key(self, provider: str, key: str, **fields: Any) -> Any:
        return self.deployment.manage("PUT", f"workspaces/{self.id}/credentials/{provider}", {"key": key, **fields})

    def set_cap(self, cap_usd: str | None, **fields: Any) -> Any:
        return self.deployment.manage("PUT", f"workspaces/{self.id}/cap", {"cap_usd": cap_usd, **fields})

    def cap(self) -> Any:
        """What is booked; what is projected from it moves with the clock."""
        found = self.deployment.manage("GET", f"workspaces/{self.id}/cap")
        moving = {"projected_usd", "projected_nusd", "reaches_cap_at"}
        assert moving <= found.keys()
        return {name: value for name, value in found.items() if name not in moving}

    def receipt(self, receipt_id: str) -> Any:
        return self.deployment.manage("GET", f"workspaces/{self.id}/receipts/{receipt_id}")

    def receipts(self, **query: str) -> list[Any]:
        """All receipts, newest first."""
        found: list[Any] = []
        while True:
            more = {"before": found[-1]["id"]} if found else {}
            text = "&".join(f"{k}={v}" for k, v in {**query, **more, "limit": "200"}.items())
            page = self.deployment.manage("GET", f"workspaces/{self.id}/receipts?{text}")["receipts"]
            found += page
            if len(page) < 200:
                return found

    def settings(self, **changes: Any) -> Any:
        return self.deployment.manage("PATCH", f"workspaces/{self.id}", changes)


def _serve(home: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    with open(home / "serve.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ownkey.cli.main", "serve"], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            env=env, cwd=home,
        )


def write_home(home: Path, emulator: EmulatorHandle, preset: str, extra: str = "", server: str = "") -> None:
    """`ownkey init`, then the configuration of a test: the emulator's addresses and a free port; `server` is more of
    that table."""
    home.mkdir(parents=True, exist_ok=True)
    made = run_cli(home, "init", "--preset", preset, "--dir", str(home))
    assert made.returncode == 0, made.stderr + made.stdout
    origins = "\n".join(f'{p} = "{emulator.base(p)}"' for p in ("openrouter", "openai", "anthropic", "google"))
    (home / "ownkey.toml").write_text(
        f'preset = "{preset}"\n[server]\nport = 0\n{server}\n[origins]\nallow_insecure = true\n{origins}\n{extra}\n'
    )


@contextlib.contextmanager
def deployed(
    home: Path, preset: str = "support-desk", *, extra: str = "", emulator: EmulatorHandle | None = None,
    env: Mapping[str, str] | None = None, server: str = "",
) -> Iterator[Deployment]:
    """A deployment that is gone afterwards. `extra` is appended to ownkey.toml, `server` to its table [server]."""
    own = emulator is None
    emulator = emulator or start_emulator()
    deployment: Deployment | None = None
    try:
        write_home(home, emulator, preset, extra, server)
        variables = environment(home, **(env or {}))
        deployment = Deployment(home, emulator, _serve(home, variables), env=variables)
        deployment.wait_until_ready()
        deployment.service = deployment.manage(
            "POST", "service-tokens", {"label": "host", "scopes": ["call", "manage"]}, token=deployment.operator
        )["token"]
        yield deployment
    finally:
        if deployment is not None:
            deployment.stop()
        if own:
            emulator.stop()
