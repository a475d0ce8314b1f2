"""The mailbox in a process of its own: an SMTP server, a host's endpoint, and what has arrived. Knows no pytest."""

import base64
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

SECRET = "whsec_" + base64.b64encode(b"mailbox secret of thirty-two byte").decode()


@dataclass
class MailboxHandle:
    """A running mailbox. `url` has no slash at its end."""

    url: str
    smtp_port: int
    process: subprocess.Popen[str]

    def mails(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return httpx.get(f"{self.url}/api/mails", trust_env=False).json()["mails"]  # type: ignore[no-any-return]

    def events(self) -> list[dict[str, Any]]:
        return httpx.get(f"{self.url}/api/events", trust_env=False).json()["events"]  # type: ignore[no-any-return]

    def connections(self) -> int:
        return int(httpx.get(f"{self.url}/api/mails", trust_env=False).json()["connections"])

    def add_fault(self, stage: str, code: int | str, times: int = 1, to: str = "") -> None:
        answer = httpx.post(
            f"{self.url}/api/faults", json={"stage": stage, "code": code, "times": times, "to": to}, trust_env=False
        )
        assert answer.status_code == 201, answer.text

    def clear(self) -> None:
        httpx.delete(f"{self.url}/api/mails", trust_env=False)

    def wait(self, done: Callable[["MailboxHandle"], bool], timeout_s: float = 20.0) -> None:
        """Until the mailbox holds what it should."""
        until = time.monotonic() + timeout_s
        while not done(self):
            if time.monotonic() > until:
                told = [mail["subject"] for mail in self.mails()], [e["body"]["type"] for e in self.events()]
                raise AssertionError(f"not in {timeout_s} s; arrived: {told}")
            time.sleep(0.05)

    def config(self) -> str:
        """Tables of ownkey.toml that lead here."""
        return (
            f'[mail]\nhost = "127.0.0.1"\nport = {self.smtp_port}\ntls = "none"\nfrom = "Acme AI <ai@acme.example>"\n'
            f'[events]\nurl = "{self.url}/events"\n'
        )

    def stop(self) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextlib.contextmanager
def mailbox(*options: str) -> Iterator[MailboxHandle]:
    """A mailbox that is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ownkey.emulator.mailbox", "--secret", SECRET, *options], stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    handle = MailboxHandle(told["url"], told["smtp_port"], process)
    try:
        yield handle
    finally:
        handle.stop()
