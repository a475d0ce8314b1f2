"""A small product that has Ownkey's pages inside: people sign in, see the frame, and its backend mints their sessions.

`python -m ownkey.emulator.host_site --port 0 --host localhost` prints its address as one line of JSON, and waits to be
told over `/_control` where Ownkey is. It shows what a host has to build: one element, one address that answers with a
new session, and one that opens the pages by themselves. Nobody has a password here; it listens on loopback only.
"""

import argparse
import asyncio
import contextlib
import hmac
import json
import secrets
import signal
import sys
from dataclasses import dataclass, field
from html import escape
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from .server import Exchange, Server

COOKIE = "host_visit"
ELEMENT_LOADS_FROM = "/portal/embed/v1.js"
MAX_BODY_BYTES = 16 * 1024
THEMES = ("auto", "light", "dark")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who works at the customer, as the host knows them."""

    id: str
    name: str
    email: str
    role: str


PEOPLE = {
    person.id: person for person in (
        Person("ada", "Ada Okafor", "ada@example.com", "owner"),
        Person("ben", "Ben Laurent", "ben@example.com", "admin"),
        Person("cho", "Cho Minh", "cho@example.com", "member"),
        Person("dee", "Dee Ramos", "dee@example.com", "viewer"),
    )
}
SECTIONS = {
    "support-desk": ("Lantern Desk", ("Tickets", "Customers"), "AI Agent", (
        ("credentials", "API Keys"), ("features", "Features"), ("spend", "Spend"), ("activity", "Activity"),
    )),
    "app-builder": ("Pocket Forge", ("Apps", "Templates"), "Settings", (
        ("credentials", "Integrations"), ("plans", "Plans & Pricing"), ("spend", "Usage"), ("projects", "Projects"),
    )),
}


@dataclass(slots=True)
class Site:
    """What the host knows. `product` is its own name, "" for the preset's. `visits` are its own sign-ins. `ttl_s` 0
    leaves it to Ownkey; `refusing`: new sessions are refused, as a backend does on a bad day; `minted` counts the
    sessions that Ownkey gave."""

    url: str = ""
    ownkey_url: str = ""
    token: str = field(default="", repr=False)
    workspace: str = ""
    company: str = "Acme"
    product: str = ""
    preset: str = "support-desk"
    ttl_s: int = 0
    refusing: bool = False
    minted: int = 0
    visits: dict[str, Person] = field(default_factory=dict, repr=False)

    def told(self) -> dict[str, Any]:
        """For whoever sets it up; no token and no visit."""
        return {
            "url": self.url, "ownkey_url": self.ownkey_url, "workspace": self.workspace, "company": self.company,
            "product": self.product, "preset": self.preset, "ttl_s": self.ttl_s, "refusing": self.refusing,
            "minted": self.minted,
        }

    def tell(self, given: dict[str, Any]) -> str:
        """Change what was given; a sentence where it cannot be used."""
        kinds = {"ownkey_url": str, "token": str, "workspace": str, "company": str, "product": str,
                 "preset": str, "ttl_s": int, "refusing": bool}  # fmt: skip
        for name, value in given.items():
            if name not in kinds or type(value) is not kinds[name]:
                return f"{name[:40]}: known are {', '.join(kinds)}, each of its kind"
        if given.get("preset", self.preset) not in SECTIONS:
            return f"preset: one of {', '.join(SECTIONS)}"
        for name, value in given.items():
            setattr(self, name, value.rstrip("/") if name == "ownkey_url" else value)
        return ""


class NotMinted(Exception):
    """Ownkey gave no session; the text says why."""


class Host:
    """The host product over HTTP."""

    def __init__(self, site: Site, http: httpx.AsyncClient) -> None:
        self._site = site
        self._http = http

    async def handle(self, exchange: Exchange) -> None:
        parts = urlsplit(exchange.target.decode("ascii", "replace"))
        asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        person = self._person(exchange)
        match (exchange.method.decode(), parts.path):
            case ("GET", "/"):
                self._page(exchange, "Home", self._home(person))
            case ("GET", "/sign-in"):
                self._page(exchange, "Sign in", self._sign_in(asked.get("next", "/ai")))
            case ("POST", "/sign-in"):
                self._enter(exchange)
            case ("POST", "/sign-out"):
                self._leave(exchange)
            case ("GET", "/ai") if person:
                await self._framed(exchange, person, asked)
            case ("GET", "/ai/open") if person:
                await self._open(exchange, person, asked)
            case ("GET", "/ai" | "/ai/open"):
                _redirect(exchange, "/sign-in?" + urlencode({"next": exchange.target.decode("ascii", "replace")}))
            case ("POST", "/ai/session"):
                await self._refresh(exchange, person)
            case ("GET", "/host.js"):
                exchange.respond(200, _SCRIPT_HEADERS, _SCRIPT.encode())
            case ("GET", "/host.css"):
                exchange.respond(200, _STYLE_HEADERS, _STYLES.encode())
            case ("GET", "/_control"):
                _json(exchange, self._site.told())
            case ("POST", "/_control"):
                self._control(exchange)
            case _:
                self._page(exchange, "Not found", "<h1>There is nothing here</h1>", 404)

    # --- people

    def _person(self, exchange: Exchange) -> Person | None:
        try:
            cookies = SimpleCookie(exchange.headers.get(b"cookie", b"").decode("latin-1"))
        except CookieError:
            return None
        found = cookies.get(COOKIE)
        return self._site.visits.get(found.value) if found else None

    def _enter(self, exchange: Exchange) -> None:
        given = {name: values[-1] for name, values in parse_qs(exchange.body.decode("ascii", "replace")).items()}
        person = PEOPLE.get(given.get("person", ""))
        if person is None or not _is_ours(exchange, self._site.url):
            self._page(exchange, "Sign in", self._sign_in("/ai"), 400)
            return
        visit = secrets.token_urlsafe(24)
        self._site.visits[visit] = person
        then = given.get("next", "/ai")
        _redirect(exchange, then if then.startswith("/ai") else "/ai",
                  f"set-cookie: {COOKIE}={visit}; Path=/; HttpOnly; SameSite=Lax\r\n")

    def _leave(self, exchange: Exchange) -> None:
        for visit, person in list(self._site.visits.items()):
            if person == self._person(exchange):
                del self._site.visits[visit]
        _redirect(exchange, "/", f"set-cookie: {COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax\r\n")

    # --- Ownkey

    async def _mint(self, person: Person, mode: str, **more: str) -> dict[str, Any]:
        """A new session for this person. Raises NotMinted."""
        site = self._site
        if site.refusing:
            raise NotMinted("This site was told to refuse.")
        body: dict[str, Any] = {
            "member": {"id": person.id, "name": person.name, "email": person.email}, "role": person.role,
            "mode": mode, "return_url": site.url + "/ai", **{name: value for name, value in more.items() if value},
        }
        if mode == "frame":
            body["refresh_url"] = site.url + "/ai/session"
        if site.ttl_s:
            body["ttl_s"] = site.ttl_s
        try:
            answer = await self._http.post(
                f"{site.ownkey_url}/manage/v1/workspaces/{site.workspace}/portal-sessions", json=body,
                headers={"authorization": f"Bearer {site.token}"},
            )
            given = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise NotMinted(f"Ownkey cannot be reached ({type(error).__name__}).") from error
        if answer.status_code >= 300:
            raise NotMinted(str(given.get("error", {}).get("message", answer.status_code))[:300])
        site.minted += 1
        return dict(given)

    async def _framed(self, exchange: Exchange, person: Person, asked: dict[str, str]) -> None:
        """The page with the element. A theme that the address names is the host's own switch."""
        theme = asked.get("theme", "auto") if asked.get("theme", "auto") in THEMES else "auto"
        flow = asked.get("open", "")
        try:
            session = (await self._mint(person, "frame", theme=theme, flow=flow))["url"]
            body = self._with_element(person, session, theme, asked)
        except NotMinted as error:
            body = f'<h1>{escape(self._names[2])}</h1><p class="wrong" role="alert">{escape(str(error))}</p>'
        self._page(exchange, self._names[2], body, theme=theme, person=person)

    async def _open(self, exchange: Exchange, person: Person, asked: dict[str, str]) -> None:
        """Page mode: the browser goes to Ownkey's own address."""
        try:
            _redirect(exchange, (await self._mint(person, "page", flow=asked.get("flow", "")))["url"])
        except NotMinted as error:
            self._page(exchange, "AI", f'<h1>AI</h1><p class="wrong" role="alert">{escape(str(error))}</p>', 502,
                       person=person)

    async def _refresh(self, exchange: Exchange, person: Person | None) -> None:
        """What the element asks. Only our own page may: another site cannot send JSON here unasked."""
        kind = exchange.headers.get(b"content-type", b"").partition(b";")[0].strip()
        if kind != b"application/json" or not _is_ours(exchange, self._site.url):
            _json(exchange, {"error": "not from this site"}, 403)
        elif person is None:
            _json(exchange, {"error": "sign in first"}, 401)
        else:
            try:
                _json(exchange, {"code": (await self._mint(person, "frame"))["code"]})
            except NotMinted as error:
                _json(exchange, {"error": str(error)}, 502)

    def _control(self, exchange: Exchange) -> None:
        """Where Ownkey is, and how the host behaves. A browser's page is never its sender."""
        if b"origin" in exchange.headers or len(exchange.body) > MAX_BODY_BYTES:
            _json(exchange, {"error": "not from a browser"}, 403)
            return
        try:
            given = json.loads(exchange.body)
            wrong = self._site.tell(given) if isinstance(given, dict) else "an object is expected"
        except ValueError:
            wrong = "this is no JSON"
        _json(exchange, {"error": wrong} if wrong else self._site.told(), 400 if wrong else 200)

    # --- pages

    @property
    def _names(self) -> tuple[str, tuple[str, ...], str, tuple[tuple[str, str], ...]]:
        name, places, title, sections = SECTIONS[self._site.preset]
        return self._site.product or name, places, title, sections

    def _home(self, person: Person | None) -> str:
        name = escape(self._names[0])
        if person is None:
            return (f"<h1>{name}</h1><p>A product whose customers bring their own AI keys.</p>"
                    '<p><a class="button" href="/sign-in">Sign in</a></p>')
        return f'<h1>{name}</h1><p>Hello {escape(person.name)}.</p><p><a class="button" href="/ai">AI</a></p>'

    def _sign_in(self, then: str) -> str:
        rows = "".join(
            f'<li><button name="person" value="{person.id}">{escape(person.name)}</button> {person.role}</li>'
            for person in PEOPLE.values()
        )
        return (
            f"<h1>Sign in to {escape(self._names[0])}</h1><p>Who are you at {escape(self._site.company)}?</p>"
            f'<form method="post" action="/sign-in"><input type="hidden" name="next" value="{escape(then)}">'
            f'<ul class="people">{rows}</ul></form>'
        )

    def _with_element(self, person: Person, session: str, theme: str, asked: dict[str, str]) -> str:
        _, _, title, sections = self._names
        page = asked.get("page", "")
        page = page if any(page == known for known, _ in sections) else ""
        links = "".join(
            f'<li><a href="/ai?page={key}" data-page="{key}">{escape(label)}</a></li>' for key, label in sections
        )
        chosen = "".join(
            f'<option{" selected" if theme == one else ""}>{one}</option>' for one in THEMES
        )
        named = f' page="{page}"' if page else ""
        return (
            f"<h1>{escape(title)}</h1>"
            f'<nav class="sections" aria-label="{escape(title)}"><ul>{links}</ul>'
            f'<label>Theme <select id="theme">{chosen}</select></label></nav>'
            f'<ownkey-portal session="{escape(session)}" theme="{theme}"{named} refresh-url="/ai/session" '
            f'label="{escape(title)}"><a href="/ai/open">AI keys and spend</a></ownkey-portal>'
            f'<p><a href="/ai/open">Open on a page of its own</a></p>'
            '<details class="events"><summary>What the frame told this page</summary><ol id="events"></ol></details>'
            f'<script src="{escape(self._site.ownkey_url + ELEMENT_LOADS_FROM)}" async></script>'
        )

    def _page(
        self, exchange: Exchange, title: str, body: str, status: int = 200, *, theme: str = "auto",
        person: Person | None = None,
    ) -> None:
        name, places, _, _ = self._names
        menu = "".join(f"<li><span>{escape(place)}</span></li>" for place in places)
        out = (
            f'<form method="post" action="/sign-out"><span>{escape(person.name)} · {person.role} · '
            f'{escape(self._site.company)}</span> <button class="quiet">Sign out</button></form>' if person else ""
        )
        html = (
            f'<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{escape(title)} · {escape(name)}</title><link rel="icon" href="data:,">'
            '<link rel="stylesheet" href="/host.css">'
            '<script src="/host.js" defer></script></head><body>'
            f'<header><a class="brand" href="/">{escape(name)}</a><ul>{menu}<li><a href="/ai">AI</a></li></ul>{out}'
            f"</header><main>{body}</main></body></html>"
        )
        policy = (
            f"default-src 'none'; script-src 'self' {self._site.ownkey_url}; style-src 'self'; connect-src 'self'; "
            f"img-src data:; frame-src {self._site.ownkey_url}; base-uri 'none'; "
            # Signing in may end on Ownkey's page, and browsers hold a form to this all the way it is sent on.
            f"form-action 'self' {self._site.ownkey_url}; "
            "frame-ancestors 'none'"
        )
        exchange.respond(status, (
            "content-type: text/html; charset=utf-8\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
            f"referrer-policy: same-origin\r\ncontent-security-policy: {policy}\r\n"
        ).encode(), html.encode())


def _is_ours(exchange: Exchange, url: str) -> bool:
    """Whether a browser's request comes from a page of this site; what is no browser says nothing."""
    origin = exchange.headers.get(b"origin", b"").decode("latin-1")
    return not origin or hmac.compare_digest(origin.encode(), url.encode())


def _redirect(exchange: Exchange, to: str, headers: str = "") -> None:
    safe = to.replace("\r", "").replace("\n", "")
    exchange.respond(303, f"location: {safe}\r\ncache-control: no-store\r\n{headers}".encode(), b"")


def _json(exchange: Exchange, value: Any, status: int = 200) -> None:
    exchange.respond(
        status, b"content-type: application/json\r\ncache-control: no-store\r\n", json.dumps(value).encode()
    )


_SCRIPT_HEADERS = b"content-type: text/javascript; charset=utf-8\r\ncache-control: no-store\r\n"
_STYLE_HEADERS = b"content-type: text/css; charset=utf-8\r\ncache-control: no-store\r\n"

_SCRIPT = """
const portal = document.querySelector("ownkey-portal"), list = document.querySelector("#events");
const theme = document.querySelector("#theme"), links = [...document.querySelectorAll("[data-page]")];
const mark = page => links.forEach(link => {
  link.dataset.page === page ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
});
for (const link of links) link.addEventListener("click", event => {
  event.preventDefault();
  portal.removeAttribute("page");
  portal.setAttribute("page", link.dataset.page);
});
theme?.addEventListener("change", () => {
  document.documentElement.dataset.theme = theme.value;
  portal.setAttribute("theme", theme.value);
});
for (const name of ["ready", "resize", "navigate", "credential-saved", "credential-disconnected", "cap-changed",
                    "session-expired", "error"]) {
  portal?.addEventListener("ownkey:" + name, event => {
    if (event.detail.page) mark(event.detail.page);
    const row = document.createElement("li");
    row.textContent = `${name} ${JSON.stringify(event.detail)}`;
    list.append(row);
  });
}
"""

_STYLES = """
:root { color-scheme: light dark; --line: #8885; --ink: #1d2433; --page: #fff; --bar: #f3f1fb; --mark: #5b3fc4; }
:root[data-theme=dark] { color-scheme: dark; --ink: #eceaf5; --page: #15131d; --bar: #211d2e; --mark: #b9a8ff; }
:root[data-theme=light] { color-scheme: light; }
@media (prefers-color-scheme: dark) {
  :root[data-theme=auto] { --ink: #eceaf5; --page: #15131d; --bar: #211d2e; --mark: #b9a8ff; }
}
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); }
header { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: center; padding: .6rem 1.25rem;
  background: var(--bar); }
header ul, .sections ul, .people { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0; padding: 0;
  list-style: none; }
header form { margin-left: auto; }
.brand { font-weight: 700; font-size: 1.1rem; }
a { color: var(--mark); display: inline-block; min-height: 1.5rem; }
a[aria-current] { font-weight: 700; text-decoration: none; }
main { max-width: 64rem; margin: 0 auto; padding: 1rem 1.25rem 3rem; }
h1 { font-size: 1.5rem; }
.sections { display: flex; flex-wrap: wrap; gap: .5rem 2rem; justify-content: space-between; margin-bottom: 1rem; }
.people { flex-direction: column; gap: .75rem; }
ownkey-portal { border: 1px solid var(--line); border-radius: 10px; overflow: hidden; min-height: 4rem; }
button, select, .button { font: inherit; color: inherit; background: var(--page); border: 1px solid var(--mark);
  border-radius: 8px; padding: .3rem .8rem; min-height: 2rem; text-decoration: none; }
button.quiet { border-color: var(--line); }
.wrong { border-left: 4px solid #c0392b; padding-left: .8rem; }
.events summary { min-height: 1.75rem; cursor: pointer; }
.events li { font: .85rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
"""


# --- starting


async def serve(host: str, port: int) -> None:
    """Serve on loopback until SIGTERM or SIGINT."""
    site = Site()
    async with httpx.AsyncClient(trust_env=False, timeout=15) as http:
        server = Server(Host(site, http).handle)
        bound = await server.listen("127.0.0.1", port)
        site.url = f"http://{host}:{bound}"
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        sys.stdout.write(json.dumps({"url": site.url}) + "\n")
        sys.stdout.flush()
        await stopped.wait()
        await server.close()


def main(given: list[str] | None = None) -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m ownkey.emulator.host_site", description="A host product.")
    parser.add_argument("--host", choices=("localhost", "127.0.0.1"), default="localhost",
                        help="the name that browsers use: another site than the one of Ownkey's pages")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    options = parser.parse_args(given)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.host, options.port))


if __name__ == "__main__":
    main()
