"""`ownkey connect`: a key by signing in at OpenRouter, with the browser's way back to this machine or by hand."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Annotated, Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import typer

from ownkey.cli import output
from ownkey.cli.connection import Connection
from ownkey.cli.keys import PlatformFlag, show_test
from ownkey.cli.output import JsonFlag, WorkspaceOption
from ownkey.cli.problems import CliError
from ownkey.cli.workspace_choice import choose_workspace
from ownkey.domain.scrub import looks_like_secret

connect_app = typer.Typer(no_args_is_help=True, help="Connect an account by signing in there, without pasting a key.")

WAIT_S = 600
READ_S = 5.0
PASTED_PORT = 3000
MAX_PASTED = 8_192
_PAGE = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>Ownkey</title>"
    b"<p>Received. You can close this page; the rest is told in the terminal.</p></html>"
)

Workspace = Annotated[
    str | None, typer.Argument(help="The workspace's id, your own id or its name. Not needed if there is only one.")
]


@connect_app.command("openrouter")
def connect_openrouter(
    workspace: Workspace = None,
    label: Annotated[str, typer.Option(help="What people call this key, here and at OpenRouter.")] = "",
    limit: Annotated[str, typer.Option(help="A spend limit of the key at OpenRouter, in US dollars.")] = "",
    limit_reset: Annotated[
        str | None, typer.Option("--limit-reset", help="When that limit starts anew: daily, weekly or monthly.")
    ] = None,
    expires: Annotated[str, typer.Option(help="When the key ends, such as 2027-12-31T00:00:00Z.")] = "",
    paste: Annotated[
        bool, typer.Option("--paste", help="The browser is on another machine: paste the address that it ends at.")
    ] = False,
    code: Annotated[
        str | None, typer.Option("--code", help="Finish an earlier --paste with the whole address that it ended at.")
    ] = None,
    wait: Annotated[int, typer.Option(help="Seconds to wait for the browser.", min=1, max=WAIT_S)] = WAIT_S,
    named: WorkspaceOption = None,
    platform: PlatformFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Sign in at OpenRouter; the key that it makes is saved sealed, and tested."""
    if workspace is not None and named is not None and workspace != named:
        raise CliError("Two different workspaces are named.", "Name one.")
    wish = {"label": label, "limit_usd": limit, "limit_reset": limit_reset, "expires_at": expires}
    with Connection() as api:
        base = "/platform" if platform else choose_workspace(api, workspace or named)
        if code is not None:
            state, given = _pasted(code, None)
        elif paste:
            state, given = _by_hand(api, base, wish)
        else:
            state, given = _by_browser(api, base, wish, wait)
        found = api.manage("POST", f"{base}/connect/openrouter/finish", {"state": state, "code": given})
    output.emit(found, as_json, _show)
    if found["test"] is not None and found["test"]["outcome"] in ("wrong_kind", "rejected", "unreachable"):
        raise typer.Exit(1)


def _show(row: dict[str, Any]) -> None:
    output.say(row["message"])
    if row["test"] is not None:
        show_test(row["test"])
    else:
        output.say(f"! Not tested: {row['test_problem']}")
    if row["warning"]:
        output.say(f"! {row['warning']}")
    output.say(row["payer_sentence"])


def _start(api: Connection, base: str, wish: dict[str, Any], port: int) -> tuple[str, str]:
    """(the address to open, its state)."""
    callback = f"http://localhost:{port}/callback"
    url: str = api.manage("POST", f"{base}/connect/openrouter", {**wish, "callback_url": callback})["authorization_url"]
    back = parse_qs(urlsplit(url).query)["callback_url"][0]
    return url, parse_qs(urlsplit(back).query)["state"][0]


def _tell(text: str) -> None:
    """To people, and never into the one JSON document."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _by_browser(api: Connection, base: str, wish: dict[str, Any], wait_s: int) -> tuple[str, str]:
    with _listening() as (port, receive):
        url, state = _start(api, base, wish, port)
        _tell(f"Open this address in a browser on this machine and approve there:\n\n{url}\n\nWaiting …")
        return state, receive(state, wait_s)


def _by_hand(api: Connection, base: str, wish: dict[str, Any]) -> tuple[str, str]:
    url, state = _start(api, base, wish, PASTED_PORT)
    _tell(
        f"Open this address in any browser and approve there:\n\n{url}\n\nThe browser then ends at an address that it "
        "cannot open, beginning with http://localhost. Copy that address from its address bar, paste it here and "
        "press Enter:"
    )
    return _pasted(sys.stdin.readline(MAX_PASTED), state)


def _pasted(text: str, state: str | None) -> tuple[str, str]:
    """(state, code) of a pasted address, or of the bare code where the state is known."""
    bare = text.strip()
    if looks_like_secret(bare):
        raise CliError("This is a key, not the code of a sign-in; it was not used.",
                       "To save a key: ownkey credential add openrouter.", code="key_in_argument")
    if not bare:
        raise CliError(
            "Nothing was pasted, so nothing is connected yet.",
            "If you approve at that address within ten minutes of starting, finish with "
            'ownkey connect openrouter --code "<the whole address that the browser ended at>". Else start again.',
            code="cancelled", exit_code=1,
        )
    if bare.startswith(("http://", "https://")):
        found = dict(parse_qsl(urlsplit(bare).query))
        if not found.get("state"):
            raise CliError("There is no state in this address.",
                           "Paste the whole address that the browser ended at, not the one that it began with.")
        if state is not None and found["state"] != state:
            raise CliError("This address belongs to another sign-in.", "Paste the one that this command began.")
        return found["state"], found.get("code", "")
    if state is None:
        raise CliError("A bare code does not say which sign-in it ends.", "Give the whole address, in quotes.")
    return state, bare


# --- the listener


@contextmanager
def _listening() -> Iterator[tuple[int, Callable[[str, int], str]]]:
    """A server on loopback for one answer: its port, and a wait for the code that comes with the right state."""
    server = _Listener(("127.0.0.1", 0), _Handler)
    try:
        yield server.server_port, server.receive
    finally:
        server.server_close()


class _Listener(HTTPServer):
    state = ""
    code: str | None = None

    def receive(self, state: str, wait_s: int) -> str:
        """The code; "" if the person did not approve. Raises CliError after `wait_s`."""
        self.state, until = state, time.monotonic() + wait_s
        while self.code is None:
            self.timeout = until - time.monotonic()
            if self.timeout <= 0:
                raise CliError("Nobody came back from OpenRouter in time.",
                               "Start again; with --paste if the browser is on another machine.",
                               code="connect_expired", exit_code=1)
            self.handle_request()
        return self.code

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is no event for the terminal."""


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    timeout = READ_S  # a connection that says nothing must not hold up the browser's

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        found = dict(parse_qsl(parts.query))
        # Any page in the browser can call this port: only who knows the state is heard.
        ours = parts.path == "/callback" and found.get("state") == self.server.state
        body = _PAGE if ours else b"Not here."
        self.send_response(200 if ours else 404)
        self.send_header("content-type", "text/html; charset=utf-8" if ours else "text/plain")
        self.send_header("content-length", str(len(body)))
        self.send_header("cache-control", "no-store")
        self.send_header("referrer-policy", "no-referrer")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)
        if ours:
            self.server.code = "" if "error" in found else found.get("code", "")

    def log_message(self, format: str, *args: Any) -> None:
        """The address holds a code: it is printed nowhere."""

