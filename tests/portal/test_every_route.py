"""Every address of the portal × everybody × {own, another workspace's, none}: made from the list of routes.

The table below is written down a second time on purpose: the code's own would agree with itself whatever it said. A new
route fails here until somebody has said who may come.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.control.house import ACTOR
from tests.portal.real_doors import (
    FORM,
    NOBODY,
    OWN,
    PEOPLE,
    Doors,
    email_of,
    enter,
    fill,
    furnish,
    links_of,
    open_doors,
    tail_of,
)
from tests.portal.visiting import Seen

from ownkey.domain.portal import LISTED
from ownkey.domain.workspace import Role
from ownkey.pages.http import Answer
from ownkey.portal.routes import ROUTES
from ownkey.portal.sessions import COOKIE
from ownkey.portal.visit import PortalRoute, Visit, csrf_token

ALL, FIGURES, TAKERS, TALKERS, MANAGERS, OWNER = (
    frozenset(PEOPLE), frozenset(PEOPLE) - {"member"}, frozenset({"owner", "admin", "viewer"}),
    frozenset({"owner", "admin", "view_as"}), frozenset({"owner", "admin"}), frozenset({"owner"}),
)
"""Everybody; those who see figures; those who may take them away; those who may ask what a call would do; those who
change; the owner alone."""

CARD = "/portal/credentials/{provider}"
WHO_MAY = {
    "GET /portal/activity": ALL,
    "GET /portal/activity/new": ALL,
    "GET /portal/activity/calls.csv": TAKERS,
    "GET /portal/calls/{receipt}": ALL,
    "GET /portal/calls/{receipt}/receipt.json": FIGURES,
    "GET /portal/why": ALL,
    "GET /portal/projects": ALL,
    "GET /portal/spend": ALL,
    "GET /portal/spend/table.csv": TAKERS,
    "POST /portal/spend/compare": MANAGERS,
    "POST /portal/spend/cap": MANAGERS,
    "GET /portal/spend/cap/confirm": MANAGERS,
    "POST /portal/credentials/cap": MANAGERS,
    "GET /portal/credentials/cap/confirm": MANAGERS,
    "GET /portal/credentials": ALL,
    **{f"GET {CARD}/{way}": MANAGERS for way in (
        "connect", "replace", "disable", "disconnect", "test", "save", "paste", "sign-in", "enable")},
    **{f"POST {CARD}/{way}": MANAGERS for way in (
        "test", "save", "paste", "sign-in", "enable", "disable", "disconnect")},
    "GET /portal/credentials/openrouter/approve": MANAGERS,
    **{f"{method} /portal/credentials/{way}": MANAGERS for method in ("GET", "POST") for way in (
        "always", "if-key-fails", "credits-limit", "on-rejection")},
    "GET /portal/features": ALL,
    "POST /portal/features/{task}": MANAGERS,
    "POST /portal/features/{task}/options": MANAGERS,
    "GET /portal/explain": TALKERS,
    "GET /portal/explain/replay": TALKERS,
    "GET /portal/explain/replay/{work}": TALKERS,
    "POST /portal/explain/replay": TALKERS,
    "POST /portal/explain/replay/{work}/again": TALKERS,
    "POST /portal/explain/replay/{work}/cancel": TALKERS,
    "GET /portal/exports": TAKERS,
    "GET /portal/exports/{work}": TAKERS,
    "GET /portal/exports/{work}/file": TAKERS,
    "POST /portal/exports": TAKERS,
    "POST /portal/exports/{work}/again": TAKERS,
    "POST /portal/exports/{work}/cancel": TAKERS,
    "GET /portal/plans": FIGURES,
    "GET /portal/plans/credits": FIGURES,
    "GET /portal/plans/credits.csv": TAKERS,
    **{f"GET /portal/plans/{way}": MANAGERS for way in ("pay", "card", "subscribe", "cancel", "keep")},
    **{f"POST /portal/plans/{way}": MANAGERS for way in ("subscribe", "top-up", "cancel", "keep")},
    "GET /portal/notices": TALKERS,
    "POST /portal/notices/{topic}": MANAGERS,
    "GET /portal/data": OWNER,
    "GET /portal/data/export": OWNER,
    "GET /portal/data/delete": OWNER,
    "GET /portal/data/export/{work}": OWNER,
    "POST /portal/data/export": OWNER,
    "POST /portal/data/export/{work}/cancel": OWNER,
    "POST /portal/data/delete": OWNER,
}
"""Who gets past the door. An operator who looks gets past a few forms' doors too: those forms refuse them."""

POSTS = [route for route in ROUTES if route.method == "POST"]
GETS = [route for route in ROUTES if route.method == "GET"]
MONEY = re.compile(r"US\$|\bnusd|_nano|\d credits?\b|\$\d", re.IGNORECASE)
AWAY = re.compile(r"/portal/exports|\.csv|receipt\.json|data-download", re.IGNORECASE)


def name_of(route: PortalRoute) -> str:
    return f"{route.method} {route.path}"


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(tmp_path) as opened:
        yield opened


@pytest.fixture(params=["support-desk", "app-builder"])
async def busy(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Doors]:
    """Both workspaces have keys, calls, projects and finished work."""
    async with open_doors(tmp_path, request.param) as opened:
        for things in (opened.own, opened.other):
            await furnish(opened.house, things)
        yield opened


class Probes:
    """The real routes, with pages that only count who came through."""

    def __init__(self) -> None:
        self.came = 0
        self.routes = [replace(route, handler=self._handle) for route in ROUTES]

    async def _handle(self, visit: Visit) -> Answer:
        self.came += 1
        return Answer(200, b"came through", "text/plain")


def any_path(route: PortalRoute) -> str:
    return re.sub(r"\{\w+\}", "x", route.path)


# --- who may come


def test_every_route_is_in_the_table() -> None:
    """S9: a route that nobody has thought about fails here."""
    assert {name_of(route) for route in ROUTES} == set(WHO_MAY)
    assert len(ROUTES) == len(WHO_MAY)


async def test_each_role_gets_what_the_table_says(doors: Doors) -> None:
    """S10: role by route, through the real door: let in, or 403 that says whom to ask."""
    probes = Probes()
    app, wrong = doors.with_routes(probes.routes), []
    for route in ROUTES:
        for who in PEOPLE:
            body = urlencode({"csrf": doors.token(who)}).encode()
            seen = await doors.ask(route.method, any_path(route), who, body, headers=FORM, app=app)
            may = who in WHO_MAY[name_of(route)]
            if seen.status != (200 if may else 403) or (not may and "Ask an owner" not in seen.text):
                wrong.append((name_of(route), who, seen.status))

    assert wrong == []
    assert probes.came == sum(len(who) for who in WHO_MAY.values())


async def test_nobody_gets_nothing(doors: Doors) -> None:
    """S11: without a visit each address answers alike, known or not; the open ones are exactly these."""
    probes = Probes()
    app = doors.with_routes(probes.routes)
    paths = [(route.method, any_path(route)) for route in ROUTES]
    paths += [("GET", "/portal"), ("GET", "/portal/"), ("GET", "/portal/nothing"), ("POST", "/portal/leave"),
              ("POST", "/portal/tickets"), ("GET", "/portal//credentials"), ("GET", "/portal/../console")]
    seen = [await doors.ask(method, path, NOBODY, app=app, headers=FORM) for method, path in paths]
    style = doors.pages.site.url("ownkey.css")
    opened = [(await doors.get(path or "", NOBODY)).status for path in (
        style, "/portal/assets/nothing.js", "/portal/embed/v1.js", "/portal/enter?code=x")]

    assert {one.status for one in seen} == {401}
    assert len({one.html for one in seen}) == 1
    assert probes.came == 0
    assert 401 not in opened


async def test_a_form_counts_only_from_its_own_visit(doors: Doors) -> None:
    """Every POST without a token, with another visit's, or from another site: 403, and its page is not reached."""
    probes = Probes()
    app, wrong = doors.with_routes(probes.routes), []
    token, others = doors.token("owner"), csrf_token(doors.other.secrets["owner"])
    tries: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, {}), ({"csrf": others}, {}), ({"csrf": ""}, {}), ({"csrf": token[:-1]}, {}),
        ({"csrf": token}, {"origin": "https://evil.test"}), ({"csrf": token}, {"origin": "null"}),
        ({"csrf": token}, {"sec-fetch-site": "cross-site"}), ({"csrf": token}, {"sec-fetch-site": "same-site"}),
        ({"csrf": token}, {"content-type": "multipart/form-data; boundary=x"}),
        ({"csrf": token}, {"content-type": "text/plain"}),
    ]
    for route in POSTS:
        for form, headers in tries:
            seen = await doors.ask("POST", any_path(route), "owner", urlencode(form).encode(), app=app,
                                   headers={**FORM, **headers})
            if seen.status != 403:
                wrong.append((route.path, form, headers, seen.status))

    assert wrong == []
    assert probes.came == 0


async def test_methods_and_addresses_are_taken_by_the_letter(doors: Doors) -> None:
    """No method stands in for another, and an address with something behind it is another one."""
    probes = Probes()
    app, wrong = doors.with_routes(probes.routes), []
    known = {name_of(route) for route in ROUTES}
    override = {**FORM, "x-http-method-override": "POST", "x-method-override": "POST"}
    for route in POSTS:
        if f"GET {route.path}" not in known and not route.path.endswith("{task}"):
            heads = [await doors.ask(method, any_path(route), app=app, headers=override) for method in ("GET", "HEAD")]
            wrong += [(route.path, one.status) for one in heads if one.status != 404]
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "\x00"):
        seen = await doors.ask(method, "/portal/credentials", app=app, headers=override)
        wrong += [] if seen.status == 405 and seen.headers["allow"] == "GET, HEAD, POST" else [(method, seen.status)]
    for route in (*GETS, *POSTS):
        for path in (f"{any_path(route)}\n", f"{any_path(route)}/", f"/{any_path(route)}", any_path(route).replace(
            "/portal/", "/portal//"), any_path(route).replace("/portal/", "/portal/../portal/")):
            seen = await doors.ask(route.method, path, app=app, headers=FORM,
                                   body=urlencode({"csrf": doors.token("owner")}).encode())
            # Behind an id it belongs to the id, which there is none of.
            wrong += [] if seen.status == 404 or route.path.endswith("}") else [(path, seen.status)]

    assert wrong == []


# --- another workspace's things


async def test_what_is_somebody_elses_does_not_exist(busy: Doors) -> None:
    """S9: another workspace's receipt or work, and none at all: the same status and body, for everybody."""
    wrong = []
    own, other = busy.own, busy.other
    for route in ROUTES:
        if not re.search(r"\{(receipt|work)\}", route.path):
            continue
        for kind in own.work:
            theirs = {"work": other.work[kind], "receipt": other.receipt}
            none = {name: ident[:-6] + "abcdef" for name, ident in theirs.items()}
            for who in PEOPLE:
                seen = [await asked(busy, route, values, who) for values in (theirs, none)]
                if seen[0] != seen[1] or seen[0][0] not in (403, 404) or seen[0][0] == 200:
                    wrong.append((name_of(route), who, seen[0][0], seen[1][0]))

    assert wrong == []
    assert (await busy.get(fill("/portal/calls/{receipt}", own))).status == 200
    assert (await busy.get(fill("/portal/exports/{work}/file", own))).status == 200


async def asked(doors: Doors, route: PortalRoute, values: dict[str, str], who: str) -> tuple[int, str]:
    """Status and body, with the id itself taken out."""
    path = re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], "x"), route.path)
    seen = await (doors.get(path, who) if route.method == "GET" else doors.post(path, {}, who))
    html = seen.html
    for ident in values.values():
        html = html.replace(ident, "ID")
    return seen.status, html


async def test_filters_and_cursors_find_nothing_of_others(busy: Doors) -> None:
    """S9: a key, project, conversation or receipt of another workspace in an address finds what no one's does."""
    other, wrong = busy.other, []
    theirs = {"credential": other.credential, "project": other.project, "trace": other.conversation,
              "receipt": other.receipt, "before": other.receipt, "cursor": other.receipt, "newest": other.receipt}
    for path in ("/portal/activity", "/portal/activity/new", "/portal/activity/calls.csv", "/portal/exports"):
        for name, value in theirs.items():
            none = value[:-2] + "zz"
            group = {"group": "trace"} if name == "cursor" else {}
            seen = [(await busy.get(f"{path}?{urlencode({name: ident, **group})}")) for ident in (value, none)]
            told = [one.html.replace(value, "ID").replace(none, "ID") for one in seen]
            if told[0] != told[1] or seen[0].status != seen[1].status:
                wrong.append((path, name))

    assert wrong == []


# --- what members and viewers do not see


def stands_in(text: str, html: str) -> bool:
    """As a figure or a hint of its own: random ids and tokens may hold the same four digits by chance."""
    return re.search(rf"(?<![0-9A-Za-z]){re.escape(text)}(?![0-9A-Za-z])", html) is not None


async def walk(doors: Doors, who: str) -> dict[str, Seen]:
    """Every page that somebody reaches from their first one and by typing the known addresses."""
    known = {"/portal/why", "/portal/explain", "/portal/exports", "/portal/data", "/portal/explain/replay",
             "/portal/activity?group=trace", "/portal/plans/credits", *(f"/portal/{page}" for page in LISTED)}
    known |= {fill(route.path, doors.own) for route in GETS}
    known |= {f"/portal/calls/{ident}" for ident in (doors.own.receipt, doors.own.refused)}
    todo, seen = sorted(known), dict[str, Seen]()
    while todo and len(seen) < 120:
        path = todo.pop()
        if path not in seen:
            seen[path] = await doors.get(path, who)
            todo += sorted(links_of(seen[path]) - set(seen))
    return seen


async def troubled(doors: Doors) -> None:
    """A cap that is reached and a key that is refused, so that pages have figures and reasons to tell."""
    desk = doors.house.desk
    workspace = await doors.house.again(doors.own.workspace)
    await desk.caps.save(workspace, "0.004713", 80, ACTOR)


@pytest.mark.parametrize("trouble", [False, True])
async def test_a_member_sees_no_figure_anywhere(busy: Doors, trouble: bool) -> None:
    """Section 2: no amount, hint, cap, credit, export or other person's address on any page that a member reaches, in
    the HTML as it is sent: titles, attributes, pictures and JSON included."""
    if trouble:
        await troubled(busy)
    pages = await walk(busy, "member")
    shown = {path: seen.html for path, seen in pages.items() if seen.status == 200}
    hints = [tail_of(name) for name in busy.own.workspace.credentials] + ["9f3c", "c1d2"]
    found = [
        (path, what) for path, html in shown.items() for what in (
            *(hit[0] for hit in MONEY.finditer(html)), *(hit[0] for hit in AWAY.finditer(html)),
            *(hint for hint in hints if stands_in(hint, html)),
            *(email_of(who) for who in PEOPLE if who != "member" and email_of(who) in html),
            *(text for text in ("0.003417293", "3417293", "3,417,293", "7,391", "7391", "0.004713", "47.13")
              if stands_in(text, html)),
        )
    ]

    assert found == []
    assert len(shown) >= 10
    assert {seen.status for seen in pages.values()} <= {200, 303, 403, 404}


async def test_a_viewer_sees_states_of_keys_only(busy: Doors) -> None:
    """Section 2: on the page of keys a viewer reads one word a provider; figures are elsewhere, never a form."""
    pages = await walk(busy, "viewer")
    keys = pages["/portal/credentials"].html
    forms = {
        (path, action) for path, seen in pages.items() if seen.status == 200
        for action in re.findall(r'<form[^>]*method="post"[^>]*action="([^"]*)"', seen.html)
    }

    assert not MONEY.search(keys)
    assert not [tail_of(name) for name in busy.own.workspace.credentials if tail_of(name) in keys]
    assert {action for _, action in forms if not action.startswith("/portal/exports")} == {"/portal/leave"}
    assert [path for path, seen in pages.items() for who in PEOPLE
            if who != "viewer" and email_of(who) in seen.html] == []
    assert "US$" in pages["/portal/spend"].html


# --- an operator who looks


async def test_an_operator_who_looks_changes_nothing_at_all(busy: Doors) -> None:
    """Every form, with the right token, real ids and what it asks for: 403 or 404, and nothing has changed."""
    forms = {"name": "Acme", "cap_usd": "5", "threshold_percent": "80", "always_use_key": "on", "month": "2026-10",
             "key": "sk-or-v1-" + "ab" * 32, "on": "off", "limit": "5", "confirmed": "yes", "pack": "small",
             "on_direct_auth_failure": "fail", "cap": "none", "save_anyway": "1"}
    before = await everything(busy)
    statuses = {}
    for route in POSTS:
        for kind in busy.own.work:
            seen = await busy.post(fill(route.path, busy.own, work=kind), forms, "view_as")
            statuses[route.path, kind] = seen.status

    assert set(statuses.values()) <= {403, 404}
    assert await everything(busy) == before


async def test_an_operator_who_looks_takes_no_archive_away(busy: Doors) -> None:
    """Export all is the owner's: whoever views as the owner does not see that one was made."""
    ident = busy.own.work["export_all"]
    paths = (
        f"/portal/exports/{ident}/file", f"/portal/exports/{ident}", f"/portal/data/export/{ident}", "/portal/data",
    )
    seen = {path: (await busy.get(path, "view_as")).status for path in paths}

    assert set(seen.values()) <= {403, 404}
    assert ident not in (await busy.get("/portal/exports", "view_as")).html
    assert (await busy.get(paths[0])).status == 200


async def everything(doors: Doors) -> tuple[Any, ...]:
    """What a change of a workspace would show in."""
    desk, workspace = doors.house.desk, await doors.house.again(doors.own.workspace)
    log = await doors.house.store.load_audit(workspace.id, limit=500)
    work = await desk.work.list(workspace, 50)
    return workspace, len(log), [(view.work.id, view.work.state) for view in work], await desk.caps.show(workspace)


# --- visits that are not what they were


@pytest.mark.parametrize("what", ["suspended", "deleted", "demoted", "removed", "clock back"])
async def test_a_visit_lives_as_long_as_its_right_does(busy: Doors, what: str) -> None:
    """S7: what ends, ends with the next request; a suspended workspace's people still read their pages."""
    desk, workspace = busy.house.desk, busy.own.workspace
    match what:
        case "suspended":
            await desk.workspaces.change(workspace, {"status": "suspended"}, ACTOR)
        case "deleted":
            await desk.workspaces.delete(await busy.house.again(workspace), ACTOR)
        case "demoted":
            await enter(busy, workspace, "viewer")  # somebody else's link ends nothing
            for who in ("owner", "admin"):
                await desk.members.save(workspace, f"u_{who}", email_of(who), "", Role.MEMBER, ACTOR)
        case "removed":
            for who in ("owner", "admin"):
                await desk.members.delete(workspace, f"u_{who}", ACTOR)
        case _:
            busy.house.clock.pass_s(-3_600)
    shown = {who: [(await busy.get(f"/portal/{page}", who)).status for page in LISTED] for who in ("owner", "admin")}
    saved = (await busy.post("/portal/spend/cap", {"cap_usd": "7", "threshold_percent": "80"})).status

    if what in ("suspended", "clock back"):
        assert {status for seen in shown.values() for status in seen} == {200}
        assert saved == 303
    else:
        assert {status for seen in shown.values() for status in seen} == {401}
        assert saved == 401


async def test_the_cookie_alone_is_looked_at(doors: Doors) -> None:
    """Hosts, forwarded names and secrets elsewhere in a request change neither who asks nor where links lead."""
    secret = doors.own.secrets["owner"]
    for headers in ({"host": "evil.test"}, {"x-forwarded-host": "evil.test", "x-forwarded-proto": "http"},
                    {"forwarded": "host=evil.test"}):
        seen = await doors.ask("GET", "/portal/credentials", headers=headers)
        assert seen.status == 200
        assert "evil.test" not in seen.html
    for headers in ({"x-ownkey-portal": secret}, {"authorization": f"Bearer {secret}"},
                    {"cookie": f"{COOKIE}={secret}x"}, {"cookie": f"{COOKIE}={secret}; {COOKIE}={secret}"}):
        seen = await doors.ask("GET", f"/portal/credentials?{COOKIE}={secret}", NOBODY, headers=headers)
        assert seen.status == 401
    assert (await doors.ask("GET", "/portal/credentials", headers={"origin": OWN})).status == 200
