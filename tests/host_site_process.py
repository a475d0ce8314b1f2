"""The host product in a process of its own: what its backend is told, and what it did. Knows no pytest."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass
class HostSiteHandle:
    """A running host product. `url` has no slash at its end; it is on another site than 127.0.0.1."""

    url: str
    process: subprocess.Popen[str]

    def tell(self, **what: Any) -> Any:
        """Where Ownkey is, and how the host behaves."""
        answer = httpx.post(f"{self._loopback}/_control", json=what, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def told(self) -> Any:
        return httpx.get(f"{self._loopback}/_control", trust_env=False).json()

    def config(self) -> str:
        """Tables of ownkey.toml that let this site frame the pages."""
        return (
            f'[product]\nentry_url = "{self.url}/ai/open?flow={{flow}}"\n[portal]\norigins = ["{self.url}"]\n'
            f'return_urls = ["{self.url}/ai"]\nrefresh_urls = ["{self.url}/ai/session"]\n'
        )

    @property
    def _loopback(self) -> str:
        return self.url.replace("//localhost:", "//127.0.0.1:")

    def stop(self) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextlib.contextmanager
def host_site() -> Iterator[HostSiteHandle]:
    """A host product that is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ownkey.emulator.host_site"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    handle = HostSiteHandle(json.loads(process.stdout.readline())["url"], process)
    try:
        yield handle
    finally:
        handle.stop()
