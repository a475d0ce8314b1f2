"""A tiny site whose pages use every attribute of our script, under the policy of the real pages. Knows no pytest.

It stands in for templates that come and go: the script's promises are tested on what it is given here. A second one
plays the host of a framed visit.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from ownkey.pages.http import content_policy

ASSETS = Path(__file__).resolve().parents[2] / "src" / "ownkey" / "pages" / "assets"
SLOW_S = 30.0


@dataclass
class ScriptSite:
    """`body` is what GET / shows; `posts` what forms sent; `left_s` how long the session still lasts.

    In a frame: `parent` is the origin that the first document names, `bearers` what was shown since, `code` what the
    host's backend answers with, "" for a refusal.
    """

    url: str = ""
    body: str = ""
    left_s: float = 900
    posts: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    polls: int = 0
    parent: str = ""
    code: str = "second-code-0123456789"
    bearers: list[str] = field(default_factory=list)
    cookies: list[str] = field(default_factory=list)
    answers: threading.Event = field(default_factory=threading.Event)
    """Set: what GET /later waits for."""
    hung_up: threading.Event = field(default_factory=threading.Event)

    def page(self, body: str, title: str = "Page · Acme · Product") -> str:
        return (
            f'<!doctype html><html lang="en" data-theme="auto"><head><title>{title}</title>'
            '<script src="/assets/pages.js" defer></script>'
            '<meta name="htmx-config" content=\'{"includeIndicatorCSS": false, "extensions": "none"}\'>'
            '<script src="/assets/vendor/htmx.min.js" defer></script>'
            f'</head><body data-now="0" data-expires="{int(self.left_s * 1000)}"><main><h1>Heading</h1>{body}</main>'
            '<div id="live" role="status" hx-preserve></div>'
            '<div id="offline" hidden>You are offline.</div>'
            '<div id="session-end" hidden>This session ends in <span data-countdown></span></div></body></html>'
        )


class _Handler(BaseHTTPRequestHandler):
    site: ScriptSite

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self._note()
        if path.startswith("/assets/"):
            kind = "text/css" if path.endswith(".css") else "text/javascript"
            self._send((ASSETS / path.removeprefix("/assets/")).read_text(), kind=kind)
        elif path == "/portal/embed/v1.js":
            self._send((ASSETS / "embed.js").read_text(), kind="text/javascript")
        elif path == "/portal/enter":
            self._send(
                '<!doctype html><html lang="en" data-theme="light"><head><title>Frame</title>'
                '<meta name="ownkey-bearer" content="bearer-one">'
                f'<meta name="ownkey-parent" content="{self.site.parent}">'
                '<meta name="ownkey-first" content="/portal/credentials"><script src="/assets/pages.js" defer></script>'
                '<script src="/assets/vendor/htmx.min.js" defer></script></head><body><main><h1>Loading</h1></main>',
            )
        elif path.startswith("/portal/") and not self.headers.get("authorization"):
            self._send(self.site.page('<p>Session ended</p><a data-reopen href="/x">Reopen</a>'), status=401)
        elif path.startswith("/portal/"):
            self._send(self.site.page(f'<p id="path">{path}</p><a href="/portal/spend">Spend</a>{self.site.body}'))
        elif path == "/host":
            self._send(self.site.body, policy="")
        elif path == "/":
            self._send(self.site.page(self.site.body))
        elif path == "/other":
            self._send(self.site.page('<p id="there">Another page</p>', "Other · Acme · Product"))
        elif path == "/later":
            self.site.answers.wait(SLOW_S)
            self._send(self.site.page('<p id="there">Another page</p>', "Later · Acme · Product"))
        elif path == "/news":
            self.site.polls += 1
            self._send(f'<a id="news" href="/">{self.site.polls} new · Show</a>')
        elif path == "/gone":
            self._send("", status=204)
        else:
            self._send(self.site.page("<p>There is no such page</p>"), status=404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        path = urlsplit(self.path).path
        self._note()
        if self.headers.get("content-type") == "application/json":
            self._answer_json(path, json.loads(body))
            return
        sent = {k: v[-1] for k, v in parse_qs(body).items()}
        self.site.posts.append((path, sent))
        if path == "/slow":
            self._wait_for_hangup()
        elif path == "/wrong":
            value = escape(sent.get("text", ""))
            self._send(self.site.page(
                '<section id="card" data-card><h2>Card</h2><form hx-post="/wrong" hx-target="#card" '
                'hx-swap="outerHTML" hx-select="#card"><p id="e">Not so</p><input id="kept" name="text" '
                f'aria-describedby="e" aria-invalid="true" value="{value}"><button>Save</button></form></section>'
            ), status=422)
        elif path == "/saved":
            self._send(
                '<section id="card" data-card><h2>Card</h2>'
                "<p data-say>OpenRouter API key saved successfully.</p></section>"
            )
        elif path == "/forbidden":
            self._send(self.site.page("<p id=refused>This is for other roles</p>"), status=403)
        elif path == "/over":
            self._send(self.site.page("<p id=ended>Session ended</p>"), status=401)
        else:
            self._send(f'<span id="sent">{escape(str(sent))}</span>')

    def _answer_json(self, path: str, sent: dict[str, str]) -> None:
        self.site.posts.append((path, sent))
        if path == "/session":
            self._send(json.dumps({"code": self.site.code}), 200 if self.site.code else 503, "application/json")
        else:
            self._send(json.dumps({
                "bearer": "bearer-two", "expires_at_ms": 900_000, "now_ms": 0, "same": True, "first": "/portal/spend",
            }), kind="application/json")

    def _note(self) -> None:
        self.site.bearers.append(self.headers.get("authorization", ""))
        self.site.cookies.append(self.headers.get("cookie", ""))

    def _wait_for_hangup(self) -> None:
        self.connection.settimeout(0.05)
        until = time.monotonic() + SLOW_S
        while time.monotonic() < until:
            try:
                if self.connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        self.site.hung_up.set()

    def _send(self, text: str, status: int = 200, kind: str = "text/html", policy: str | None = None) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", f"{kind}; charset=utf-8")
        self.send_header("content-length", str(len(data)))
        own = content_policy([self.site.parent] if self.site.parent else ())
        self.send_header("content-security-policy", own if policy is None else policy)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def script_site() -> Iterator[ScriptSite]:
    site = ScriptSite()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
