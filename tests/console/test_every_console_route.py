"""Every address of the console × {nobody, support, ops with an old proof, ops}: made from the list of routes.

The table is written down a second time on purpose; a route that is missing here fails.
"""

import os
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.console.console_pages import Console, Seen, open_console
from tests.portal.fuzzing import HOSTILE, Fuzzer, names_in
from tests.portal.real_doors import Things, furnish

from ownkey.console.app import ConsoleApp
from ownkey.console.routes import ROUTES
from ownkey.console.signin import OPEN_ROUTES
from ownkey.console.visit import ConsoleRoute, ConsoleVisit
from ownkey.domain.errors import Unavailable
from ownkey.domain.operators import csrf_token
from ownkey.pages.http import Answer

ONE, PERSON, CONSOLE = "/console/workspaces/{workspace}", "/console/operators/{operator}", "/console"
SUPPORT = {
    *(f"GET {CONSOLE}{path}" for path in (
        "", "/workspaces", "/workspaces/{workspace}", "/calls", "/calls/{receipt}", "/why", "/models", "/plans",
        "/billing", "/developers", "/developers/theme", "/developers/theme.css", "/system", "/system/audit",
        "/system/configuration", "/system/mail", "/system/mail/{kind}.html", "/search", "/account", "/confirm",
    )),
    f"POST {ONE}/view-as", "POST /console/calls/filters", "POST /console/calls/filters/delete",
    *(f"POST {CONSOLE}{path}" for path in (
        "/leave", "/leave/everywhere", "/account/session", "/account/shortcuts", "/account/password",
        "/account/recovery", "/confirm",
    )),
}
"""What support may: read, look as a workspace, and keep their own things."""

OPS = {
    *(f"{method} {ONE}{path}" for method in ("GET", "POST") for path in (
        "/status", "/credentials/{provider}/disable", "/tokens/{token}/revoke")),
    "GET /console/developers/tokens/{token}/revoke", "POST /console/developers/tokens/{token}/revoke",
    "POST /console/outbox/{row}/retry", "POST /console/system/work", "POST /console/system/work/{work}/cancel",
    "GET /console/operators", f"GET {PERSON}/disable", f"POST {PERSON}/disable",
}
FRESH = {
    *(f"{method} {ONE}{path}" for method in ("GET", "POST") for path in ("/credits", "/entitlement")),
    *(f"{method} {CONSOLE}/billing/{path}" for method in ("GET", "POST") for path in (
        "events/{event}/retry", "reconcile")),
    "GET /console/models/override", "POST /console/models/override", "POST /console/developers/tokens",
    "POST /console/system/backup",
    "GET /console/system/rewrap", "POST /console/system/rewrap",
    "POST /console/operators", f"POST {PERSON}/role", f"POST {PERSON}/enable", f"GET {PERSON}/reset",
    f"POST {PERSON}/reset",
}
"""What gives money, prices or rights away, or moves every data key: ops who have proved who they are within ten
minutes."""

OPEN = {
    *(f"{method} /console/{path}" for method in ("GET", "POST") for path in (
        "sign-in", "sign-in/code", "set-up", "set-up/app")),
    "GET /console/set-up/qr.svg", "GET /console/oidc/start", "GET /console/oidc/return",
}
KEY = "sk-or-v1-" + "c0de" * 16
MIDDLE = "c0de" * 5
FUZZ_S = float(os.environ.get("OWNKEY_FUZZ_S", "1.5"))
HOLDS = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    async with open_console(tmp_path) as opened:
        yield opened


def name_of(route: Any) -> str:
    return f"{route.method} {route.path}"


def any_path(route: ConsoleRoute) -> str:
    return re.sub(r"\{\w+\}", "x", route.path)


class Probes:
    """The console's own door and routes, with pages that only count who came through."""

    def __init__(self, console: Console) -> None:
        self.came = 0
        console.app = ConsoleApp(console.app._house, [replace(route, handler=self._handle) for route in ROUTES])

    async def _handle(self, visit: ConsoleVisit) -> Answer:
        self.came += 1
        return Answer(200, b"came through", "text/plain")


async def send(console: Console, route: ConsoleRoute, role: str) -> Seen:
    path = any_path(route)
    if role:
        return await (console.get(path, role) if route.method == "GET" else console.post(path, {}, role))
    return await console._ask(route.method, path, "", b"", HOLDS)


def test_every_route_is_in_the_table() -> None:
    """S9, S11: the routes that need a session, and those that need none, are exactly these."""
    assert {name_of(route) for route in ROUTES} == SUPPORT | OPS | FRESH
    assert len(ROUTES) == len(SUPPORT) + len(OPS) + len(FRESH)
    assert {name_of(route) for route in OPEN_ROUTES} == OPEN


async def test_each_operator_gets_what_the_table_says(console: Console) -> None:
    """S10: nobody is led to the sign-in, support is refused what changes, old proofs are asked for anew."""
    probes, wrong, through = Probes(console), [], 0
    answers: dict[str, dict[str, int]] = {}
    for role in ("", "support", "ops"):
        for route in ROUTES:
            answers.setdefault(name_of(route), {})[role or "nobody"] = (await send(console, route, role)).status
    console.grow_old()
    for route in ROUTES:
        answers[name_of(route)]["old"] = (await send(console, route, "ops")).status
    for name, found in answers.items():
        get = name.startswith("GET")
        stale = 303 if get else 403
        wanted = {"nobody": 303 if get else 401, "support": 200 if name in SUPPORT else 403, "ops": 200,
                  "old": stale if name in FRESH else 200}
        through += sum(status == 200 for status in wanted.values())
        wrong += [] if found == wanted else [(name, found)]

    assert wrong == []
    assert probes.came == through


async def test_a_form_counts_only_from_its_own_visit(console: Console) -> None:
    """Every POST without a token, with a colleague's, or from another site: 403, and its page is not reached."""
    probes, wrong = Probes(console), []
    own, other = (csrf_token(console.people[role].secret) for role in ("ops", "support"))
    here = {"origin": "null", "sec-fetch-site": "same-origin"}
    tries = [({}, here), ({"csrf": other}, here), ({"csrf": own[:-1]}, here), ({"csrf": own}, {"origin": "https://evil.test"}),
             ({"csrf": own}, {"origin": "null"}), ({"csrf": own}, {"sec-fetch-site": "cross-site"}),
             ({"csrf": own}, {"sec-fetch-site": "same-site"}), ({"csrf": own}, {**here, "content-type": "text/plain"})]
    for route in ROUTES:
        for form, headers in tries if route.method == "POST" else []:
            seen = await console._ask("POST", any_path(route), "ops", urlencode(form).encode(), {**HOLDS, **headers})
            wrong += [] if seen.status == 403 else [(route.path, form, headers, seen.status)]
    for opened in OPEN_ROUTES:
        if opened.method == "POST":
            seen = await console._ask("POST", opened.path, "", b"email=a", {**HOLDS, "sec-fetch-site": "cross-site"})
            wrong += [] if seen.status == 403 else [(opened.path, seen.status)]

    assert wrong == []
    assert probes.came == 0


async def test_an_operator_who_is_out_is_out_at_once(console: Console) -> None:
    """S7: disabled, or in another role: the next request of an open visit is nobody's."""
    people = {one.email: one.id for one in await console.staff.staff.operators.list()}
    await console.post(f"/console/operators/{people['sam@example.com']}/disable")
    gone = [await send(console, route, "support") for route in ROUTES]
    await console.staff.staff.operators.set_role(people["ada@example.com"], "support", _actor())

    assert {one.status for one in gone} == {303, 401}
    assert (await console.get("/console")).status == 303


def _actor() -> Any:
    from ownkey.domain.records import Actor

    return Actor("operator", "cli")


@pytest.mark.parametrize("code", [
    "a\r\nset-cookie: __Host-ownkey-console=stolen", "a; Domain=evil.test", "€", "\x00", "x" * 43 + "\n", "", "é" * 43,
])
async def test_a_links_code_never_reaches_a_header(console: Console, code: str) -> None:
    """What is no code of ours sets no cookie: in a header, its text could begin another one."""
    seen = await console._ask("GET", f"/console/set-up?{urlencode({'code': code})}", "", b"", {})

    assert seen.status == 404
    assert "set-cookie" not in seen.headers
    assert "This link does not work" in seen.text


@pytest.mark.parametrize("path", [
    "https://evil.test", "//evil.test", "/\\evil.test", "/portal", "/console/../portal//evil.test",
    "javascript:alert(1)", "/console\r\nlocation: https://evil.test", "/console\n", "/console@evil.test", "/consoles",
])
async def test_a_sign_in_leads_nowhere_else(console: Console, path: str) -> None:
    """Open redirects: whoever is signed in already, and whoever signs in, ends in the console."""
    seen = await console.get(f"/console/sign-in?{urlencode({'path': path})}")

    assert seen.status == 303
    assert re.fullmatch(r"/console", seen.headers["location"])


async def test_a_database_that_is_away_is_told(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 in words, also where it is away before anybody is known."""
    async def away(*_: Any, **__: Any) -> Any:
        raise Unavailable("the database is locked")

    monkeypatch.setattr(console.staff.staff.sessions._store, "find_operator_session", away)
    seen = await console.get("/console")

    assert seen.status == 503
    assert "locked" not in seen.html


# --- what is sent to it


def pages_of(console: Console, things: Things, people: list[str]) -> list[tuple[Any, str]]:
    """Every route that can be asked again and again, with real ids in its address."""
    values = {"workspace": things.workspace.id, "provider": "openrouter", "token": "tok_x", "receipt": things.receipt,
              "work": things.work["export"], "row": "1", "event": "evt_1", "kind": "spend_threshold",
              "operator": people[0]}
    ends = ("/leave", "/leave/everywhere", "/account/session", "/operators/{operator}/disable", "/role", "/reset")
    return [
        (route, re.sub(r"\{(\w+)\}", lambda found: values[found[1]], route.path)) for route in (*ROUTES, *OPEN_ROUTES)
        if not route.path.endswith(ends) and not (route.method == "POST" and "sign-in" in route.path)
    ]


@pytest.fixture
async def busy(tmp_path: Path) -> AsyncIterator[tuple[Console, list[tuple[Any, str]]]]:
    async with open_console(tmp_path, "app-builder") as opened:
        plan = next(iter(opened.control.product.plans))
        things = Things(await opened.control.workspace("Acme", external_id="acme", plan=plan))
        await furnish(opened.control, things)
        people = [one.id for one in await opened.staff.staff.operators.list()]
        yield opened, pages_of(opened, things, people)


async def test_a_key_in_a_wrong_field_never_comes_back(busy: tuple[Console, list[tuple[Any, str]]]) -> None:
    """Section 1: support gets keys sent in tickets, and pastes them; no page has one afterwards."""
    console, pages = busy
    shown = []
    for route, path in pages:
        for name in names_in(route.handler.__module__):
            if name in ("csrf", "check") or (name == "password" and route.method == "POST"):
                continue
            form = {"reason": "because", name: KEY}
            seen = await (console.get(f"{path}?{name}={KEY}") if route.method == "GET" else console.post(path, form))
            if MIDDLE in seen.html or MIDDLE in str(seen.headers) or seen.status == 500:
                shown.append((route.method, route.path, name, seen.status))

    assert shown == []
    assert (await console.get("/console")).status == 200


async def test_no_value_of_any_filter_breaks_a_page(busy: tuple[Console, list[tuple[Any, str]]]) -> None:
    """Each hostile value in each parameter of the pages with filters: an answer in words, never a 500."""
    console, _ = busy
    names = {"/console/why": ("at", "receipt", "workspace"), "/console/calls": ("since", "until", "before", "model"),
             "/console/system/audit": ("before", "action", "workspace"), "/console/workspaces": ("q", "after", "plan"),
             "/console/search": ("q",), "/console/developers/theme": ("light",)}
    wrong = []
    for path, parameters in names.items():
        for name in parameters:
            for value in HOSTILE:
                more = {"workspace": "acme"} if path == "/console/why" and name == "at" else {}
                seen = await console.get(f"{path}?{urlencode({**more, name: value})}")
                wrong += [(path, name, value[:40])] if seen.status >= 500 else []

    assert wrong == []


async def test_nothing_that_is_sent_ends_in_a_500(busy: tuple[Console, list[tuple[Any, str]]]) -> None:
    """S12: seeded random queries and forms to every route. OWNKEY_FUZZ_S makes it longer."""
    console, pages = busy
    seed = int(os.environ.get("OWNKEY_FUZZ_SEED", "20261122"))
    fuzzer, wrong, asked = Fuzzer(seed), [], 0
    token, until = csrf_token(console.people["ops"].secret), time.monotonic() + FUZZ_S
    usual = {**HOLDS, "origin": "null", "sec-fetch-site": "same-origin"}
    while time.monotonic() < until:
        for route, path in pages:
            names = names_in(route.handler.__module__)
            where = re.sub(r"\{\w+\}", lambda _: fuzzer.segment(), route.path) if fuzzer.value()[:1] in "09a." else path
            query = fuzzer.encoded(names).decode()
            body = fuzzer.encoded(names, csrf=token, reason="because")
            seen = await console._ask(route.method, f"{where}?{query}", "ops", body, usual)
            asked += 1
            wrong += [(route.method, where, query, body, seen.status)] if seen.status in (500, 501, 502) else []

    assert wrong == [], f"seed {seed}"
    assert asked >= len(pages)
