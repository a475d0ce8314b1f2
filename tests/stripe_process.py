"""The emulated Stripe in a process of its own, for any test that sells something. Knows no pytest.

    stripe = start_stripe(seed=7)
    client = stripe.client()                        # the official SDK, pointed at it
    session = client.v1.checkout.sessions.create({...})
    stripe.pay(session.url)                         # what the customer's browser does
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stripe

_SOURCE = Path(__file__).resolve().parent.parent / "src"
KEY = "sk_test_emulated00000001"


class ControlError(RuntimeError):
    """The control API refused."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """A browser that stops at each redirect, so that a test sees where it would go."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class Seen:
    """What the browser got: a page, or where it was sent."""

    status: int
    text: str
    location: str = ""

    @property
    def error(self) -> str:
        """The page's reason why not."""
        found = re.search(r"id=error>(.*?)</p>", self.text)
        return found[1] if found else ""


@dataclass
class StripeHandle:
    """A running emulator of Stripe."""

    url: str
    process: "subprocess.Popen[str]"

    def client(self, key: str = KEY, retries: int = 0, **more: Any) -> stripe.StripeClient:
        """The official SDK's client."""
        return stripe.StripeClient(key, base_addresses={"api": self.url}, max_network_retries=retries, **more)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """One control request; raises ControlError with the emulator's words when it refuses."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_control/{path}", data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise ControlError(error.read().decode()) from error

    def set(self, **settings: Any) -> Any:
        """Change settings."""
        return self.control("POST", "settings", settings)

    def fault(self, fault: str | dict[str, Any], times: int | None = 1, **match: str) -> Any:
        """Script a fault for the requests that match (method, path)."""
        return self.control("POST", "faults", {"fault": fault, "times": times, "match": match})

    def browse(self, url: str, **form: str) -> Seen:
        """Open a page, or press a button of it."""
        data = urllib.parse.urlencode(form).encode() if form else None
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay())
        try:
            with opener.open(urllib.request.Request(url, data), timeout=10) as answer:
                return Seen(answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            return Seen(error.code, error.read().decode(), error.headers.get("location", ""))

    def pay(self, url: str, card: str = "4242424242424242", email: str = "buyer@example.com", bank: str = "") -> Seen:
        """Fill in a checkout page; `bank` answers the bank's page ("complete" or "fail") where it comes."""
        seen = self.browse(url, email=email, card_number=card, name="A Buyer")
        if bank and seen.location.endswith("/authenticate"):
            return self.browse(seen.location, answer=bank)
        return seen

    def quiet(self, timeout_s: float = 10.0) -> None:
        """Wait until no webhook is under way."""
        end = time.monotonic() + timeout_s
        while self.control("GET", "")["waiting_deliveries"] and time.monotonic() < end:
            time.sleep(0.02)

    def reset(self) -> None:
        """An account as new."""
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


def start_stripe(seed: int = 0, *, host: str = "127.0.0.1", port: int = 0) -> StripeHandle:
    """Start an emulated Stripe and return once it listens."""
    command = [sys.executable, "-m", "ownkey.emulator.stripe", "--host", host, "--port", str(port), "--seed", str(seed)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_SOURCE), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait(timeout=5)
        raise RuntimeError(f"the emulated Stripe did not start (exit {process.returncode})")
    return StripeHandle(json.loads(line)["url"], process)
