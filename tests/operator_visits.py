"""An operator of a real server: from the command's one-time link to a session, without a browser."""

import http.cookies
import re
import time
from base64 import b32decode

import httpx
from tests.deployment import Deployment

from ownkey.domain.totp import code_of, step_of

PASSWORD = "violet canoe under tuesday"
SESSION = "__Host-ownkey-console"
OWN_ORIGIN = {"sec-fetch-site": "same-origin", "origin": "null"}


class Visitor:
    """A browser that believes loopback to be safe, as browsers do: it keeps Secure cookies over plain http there."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, **fields: str) -> httpx.Response:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = httpx.request(
            method, self.url + path, data=fields or None, trust_env=False, timeout=20,
            headers={"cookie": cookie, **(OWN_ORIGIN if method == "POST" else {})},
        )
        for line in answer.headers.get_list("set-cookie"):
            for name, morsel in http.cookies.SimpleCookie(line).items():
                self.cookies.pop(name, None)
                if morsel["max-age"] != "0":
                    self.cookies[name] = morsel.value
        assert answer.status_code < 500, answer.text
        return answer


def enrol(deployment: Deployment, email: str, role: str) -> tuple[Visitor, bytes]:
    """`ownkey operator add`, and everything behind its link. A visitor that is signed in, and the app's seed."""
    done = deployment.cli("operator", "add", email, "--role", role)
    assert done.returncode == 0, done.stderr
    link = re.search(r"http://\S+/console/set-up\?code=\S+", done.stdout)
    assert link is not None, done.stdout
    visitor = Visitor(deployment.url)
    visitor.ask("GET", link[0].removeprefix(deployment.url))
    assert visitor.ask("POST", "/console/set-up", password=PASSWORD, again=PASSWORD).status_code == 303
    page = visitor.ask("GET", "/console/set-up/app").text
    shown = re.search(r'id="seed">([A-Z2-7 ]+)<', page)
    assert shown is not None
    seed = b32decode(shown[1].replace(" ", ""))
    assert visitor.ask("GET", "/console/set-up/qr.svg").headers["content-type"] == "image/svg+xml"
    codes = visitor.ask("POST", "/console/set-up/app", code=code_of(seed, step_of(time.time_ns() // 1_000_000)))
    assert len(re.findall(r"<li>[a-z2-7-]{19}</li>", codes.text)) == 10
    return visitor, seed
