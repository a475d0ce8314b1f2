"""The gateway under test and the emulated providers, each a process of its own, and what can be seen of the gateway
from outside: its sockets, its tasks, its books."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from tests.deployment import Deployment, deployed
from tests.emulator_process import EmulatorHandle, start_emulator

from ownkey.domain.product import RoutingLimits
from tools.faults.catalogue import FIRST_S
from tools.faults.walls import Walls

DEADLINE_S = 4.0
_ROUTING: Mapping[str, Any] = {
    "deadline_s": DEADLINE_S, "first_content_s": FIRST_S, "response_s": FIRST_S, "stall_s": FIRST_S,
    "connect_s": 0.5, "tail_s": 0.4, "drain_s": 0.5, "retry_wait_max_s": 1.5,
    "hidden_reasoning_s": 0.1,
    # Hundreds of customers whose providers all fail at once is what a circuit for everybody is made for.
    "provider_circuit": "false",
}
_KEYS = {"openrouter": "sk-or-v1-{0}", "openai": "sk-proj-{0}", "anthropic": "sk-ant-api03-{0}", "google": "AQ.Ab8{0}"}


@dataclass
class House:
    """One deployment, its doors, and what it looked like before the first case."""

    deployment: Deployment
    walls: Walls
    tasks_file: Path
    client: httpx.AsyncClient

    # --- set up by its public doors

    async def manage(self, method: str, path: str, body: Any = None) -> Any:
        """One management request that must succeed."""
        answer = await self.client.request(
            method, f"{self.deployment.url}/manage/v1/{path}", json=body,
            headers={"authorization": f"Bearer {self.deployment.service}"},
        )
        if answer.status_code >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:900]}")
        return answer.json() if answer.content else None

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        """One request to the emulator's control API that must succeed."""
        answer = await self.client.request(
            method, f"{self.deployment.emulator.url}/_control/{path}", json=body
        )
        if answer.status_code >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:900]}")
        return answer.json()

    async def make_workspace(self, name: str, providers: tuple[str, ...]) -> tuple[str, dict[str, str]]:
        """A workspace under a cap, with keys that no other has; returns its id and the keys."""
        keys = {provider: key_of(provider, name) for provider in providers}
        made = await self.manage("POST", "workspaces", {"name": hashlib.sha256(name.encode()).hexdigest()[:16]})
        for provider, key in keys.items():
            await self.control("POST", "keys", {"provider": provider, "key": key})
            await self.manage("PUT", f"workspaces/{made['id']}/credentials/{provider}", {"key": key})
        await self.manage("PUT", f"workspaces/{made['id']}/cap", {"cap_usd": "1000"})
        return str(made["id"]), keys

    async def trap(self) -> str:
        """Where redirects point to."""
        return await self.walls.trap()

    async def find_receipt(self, workspace: str, receipt: str) -> Any:
        """The receipt; empty if there is none."""
        answer = await self.client.get(
            f"{self.deployment.url}/manage/v1/workspaces/{workspace}/receipts/{receipt}",
            headers={"authorization": f"Bearer {self.deployment.service}"},
        )
        return answer.json() if answer.status_code == 200 else {}

    # --- seen from outside

    @property
    def upstream_ports(self) -> tuple[int, ...]:
        """The ports that the gateway connects to."""
        return (urlsplit(self.deployment.emulator.url).port or 0, *self.walls.ports.values())

    def sockets(self) -> int:
        """Open file descriptors of the gateway that are sockets."""
        return len(self._inodes())

    def upstream_sockets(self) -> int:
        """Its connections to providers, in whatever state of TCP."""
        mine = self._inodes()
        wanted = {f"{port:04X}" for port in self.upstream_ports}
        rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        return sum(row[2].rpartition(":")[2] in wanted and row[9] in mine for row in rows)

    def _inodes(self) -> set[str]:
        found = set()
        for link in Path(f"/proc/{self.deployment.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(link.readlink())
                if target.startswith("socket:["):
                    found.add(target[8:-1])
        return found

    async def tasks(self) -> dict[str, int]:
        """Its asyncio tasks by name."""
        self.tasks_file.unlink(missing_ok=True)
        os.kill(self.deployment.process.pid, signal.SIGUSR1)
        until = time.monotonic() + 5
        while time.monotonic() < until:
            with contextlib.suppress(OSError, ValueError):
                return dict(json.loads(self.tasks_file.read_text()))
            await asyncio.sleep(0.02)
        raise RuntimeError("the gateway did not tell its tasks")


def key_of(provider: str, name: str) -> str:
    """A key in the provider's form that only this case has."""
    return _KEYS[provider].format(hashlib.sha256(f"{provider} {name}".encode()).hexdigest())


@contextlib.asynccontextmanager
async def open_house(*, walled: bool = False, keepalive_s: float | None = None) -> AsyncIterator[House]:
    """Start both processes in a temporary folder that is gone afterwards. `walled`: openai and openrouter are reached
    through addresses that can be made to fail. `keepalive_s`: how soon a silent stream gets its head."""
    emulator = start_emulator(seed=11)
    walls = Walls(urlsplit(emulator.url).port or 0)
    try:
        if walled:
            await walls.start(("openai", "openrouter"))
        with tempfile.TemporaryDirectory(prefix="ownkey-faults-") as folder:
            home = Path(folder)
            path = [str(Path(__file__).parent / "watched"), *filter(None, [os.environ.get("PYTHONPATH")])]
            env = {"PYTHONPATH": os.pathsep.join(path), "FAULTS_TASKS_FILE": str(home / "tasks.json")}
            seen = Walled(emulator.url, emulator.process, walls=walls.ports)
            with deployed(home / "home", extra=config(keepalive_s), emulator=seen, env=env) as deployment:
                async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
                    yield House(deployment, walls, home / "tasks.json", client)
    finally:
        await walls.stop()
        emulator.stop()


@dataclass
class Walled(EmulatorHandle):
    """The emulator, whose providers are reached through a wall where there is one."""

    walls: Mapping[str, int] = field(default_factory=dict)

    def base(self, provider: str) -> str:
        """The base URL of one provider, as the gateway is configured with."""
        found = urlsplit(super().base(provider))
        port = self.walls.get(provider, found.port)
        return found._replace(netloc=f"{found.hostname}:{port}").geturl()


def config(keepalive_s: float | None) -> str:
    """What is laid over the preset: short times, and no price list from outside."""
    known = {one.name for one in fields(RoutingLimits)}
    routing = {name: value for name, value in _ROUTING.items() if name in known}
    if keepalive_s is not None:
        routing["keepalive_after_s"] = keepalive_s
    lines = ["[prices]", "sync = false", "[routing]", *(f"{name} = {value}" for name, value in routing.items())]
    return "\n".join(lines)

