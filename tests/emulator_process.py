"""The emulator in a process of its own, for any test that needs an upstream. Knows no pytest."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SOURCE = Path(__file__).resolve().parent.parent / "src"


class ControlError(RuntimeError):
    """The control API refused."""


@dataclass
class EmulatorHandle:
    """A running emulator. `url` has no slash at its end; the providers are below it."""

    url: str
    process: subprocess.Popen[str]
    _opener: Any = field(default_factory=lambda: urllib.request.build_opener(urllib.request.ProxyHandler({})))

    def base(self, provider: str) -> str:
        """The base URL of one provider, as a gateway would be configured with."""
        path = {"openrouter": "/openrouter/api/v1", "openai": "/openai/v1", "anthropic": "/anthropic/v1",
                "google": "/google/v1beta"}[provider]  # fmt: skip
        return self.url + path

    def control(self, method: str, path: str, json_body: Any = None) -> Any:
        """One control request; raises ControlError with the emulator's words when it refuses."""
        data = None if json_body is None else json.dumps(json_body).encode()
        request = urllib.request.Request(
            f"{self.url}/_control/{path.lstrip('/')}", data, {"content-type": "application/json"}, method=method
        )
        try:
            with self._opener.open(request, timeout=10) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise ControlError(error.read().decode()) from error

    def add_key(self, provider: str, key: str, **more: Any) -> Any:
        """Register a key."""
        return self.control("POST", "keys", {"provider": provider, "key": key, **more})

    def add_fault(self, fault: str | dict[str, Any], times: int | None = 1, **match: Any) -> Any:
        """Script a fault for the requests that match."""
        return self.control("POST", "faults", {"match": match, "times": times, "fault": fault})

    def set(self, settings: dict[str, Any], **match: Any) -> Any:
        """Settings for the answers that match."""
        return self.control("POST", "settings", {"match": match, "settings": settings})

    def bills(self, key: str | None = None, since: int = 0) -> list[dict[str, Any]]:
        """The bill book, of one key or whole."""
        query = f"?since={since}" + (f"&key={urllib.request.quote(key)}" if key else "")  # type: ignore[attr-defined]
        return self.control("GET", f"bills{query}")["bills"]  # type: ignore[no-any-return]

    def total_nusd(self, key: str | None = None) -> int:
        """All that was billed, to one key or all."""
        query = f"?key={urllib.request.quote(key)}" if key else ""  # type: ignore[attr-defined]
        return int(self.control("GET", f"bills/total{query}")["total_nusd"])

    def reset(self) -> None:
        """Forget keys, faults, settings and bills."""
        self.control("POST", "reset", {})

    def stop(self) -> None:
        """End the process."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start_emulator(
    seed: int = 0, *, host: str = "127.0.0.1", port: int = 0, bill_file: Path | None = None
) -> EmulatorHandle:
    """Start an emulator and return once it listens."""
    command = [sys.executable, "-m", "ownkey.emulator", "--host", host, "--port", str(port), "--seed", str(seed)]
    if bill_file is not None:
        command += ["--bill-file", str(bill_file)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_SOURCE), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait(timeout=5)
        raise RuntimeError(f"the emulator did not start (exit {process.returncode})")
    return EmulatorHandle(json.loads(line)["url"], process)
