"""The door of the pages as browsers meet it: links, cookies, bearers, forms from elsewhere, downloads of frames."""

import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import pytest
from tests.compiled_pages import COMPILED
from tests.control.house import ACTOR, PORTAL, House, open_house

from ownkey.control.portal_sessions import Minted, PortalWish
from ownkey.domain.portal import Page, Sight
from ownkey.domain.records import Actor
from ownkey.domain.workspace import Role, WorkspaceState
from ownkey.pages.http import Answer
from ownkey.pages.site import Site
from ownkey.pages.words import Words
from ownkey.portal.app import PortalApp
from ownkey.portal.sessions import COOKIE, SessionDoor
from ownkey.portal.visit import House as Pages
from ownkey.portal.visit import PortalRoute, Visit, csrf_token

OWN = "https://ownkey.test"
WISH = PortalWish(
    member_id="u1", email="ada@example.com", role=Role.OWNER, mode="page", name="Ada",
    return_url="https://app.test/settings/ai", refresh_url="https://app.test/ownkey/session",
)
FRAMED = replace(WISH, mode="frame")
IFRAME = {"sec-fetch-dest": "iframe", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
DOCUMENT = {"sec-fetch-dest": "document", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}


async def show(visit: Visit) -> Answer:
    return Answer(200, f"{visit.session.member_id} in {visit.workspace.name}".encode(), "text/plain")


async def change(visit: Visit) -> Answer:
    return Answer(200, b"changed", "text/plain")


ROUTES = (
    PortalRoute("GET", "/portal/credentials", Page.CREDENTIALS, Sight.PARTLY, show),
    PortalRoute("GET", "/portal/activity.csv", Page.ACTIVITY, Sight.READ, show),
    PortalRoute("POST", "/portal/credentials/save", Page.CREDENTIALS, Sight.MANAGE, change),
    PortalRoute("POST", "/portal/spend/cap", Page.SPEND, Sight.MANAGE, change),
)


@dataclass
class Door:
    house: House
    workspace: WorkspaceState
    browser: httpx.AsyncClient

    async def mint(self, wish: PortalWish = WISH) -> Minted:
        return await self.house.desk.portal_sessions.mint(self.workspace, wish, ACTOR)

    async def enter(self, wish: PortalWish = WISH, **headers: str) -> httpx.Response:
        return await self.browser.get((await self.mint(wish)).url, headers=headers)

    async def page(self, wish: PortalWish = WISH) -> str:
        """A page's visit: its secret, which the browser has in its cookie."""
        return cookie_of(await self.enter(replace(wish, mode="page")))

    async def frame(self, wish: PortalWish = FRAMED) -> str:
        """A frame's visit: its bearer, which the browser has in memory."""
        return bearer_of(await self.enter(wish, **IFRAME))

    async def look(self, path: str = "/portal/credentials", **headers: str) -> int:
        return (await self.browser.get(path, headers=headers)).status_code

    async def post(
        self, path: str, form: dict[str, str] | None = None, *, cookie: str = "", bearer: str = "", **headers: str
    ) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if cookie:
            sent["cookie"] = f"{COOKIE}={cookie}"
        if bearer:
            sent["authorization"] = f"Bearer {bearer}"
        return await self.browser.post(path, data=form or {}, headers=sent)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with open_house(tmp_path) as house:
        site = Site(Words(), compiled=COMPILED)
        pages = Pages(
            desk=house.desk, site=site, product=house.product, rules=PORTAL, clock=house.clock, safe=house.vault,
            explainer=cast(Any, None),
        )
        sessions = SessionDoor(house.desk.portal_sessions, site, house.product, house.clock)
        transport = httpx.ASGITransport(app=PortalApp(pages, sessions, ROUTES))
        async with httpx.AsyncClient(transport=transport, base_url=OWN) as browser:
            browser.cookies.jar.clear()
            yield Door(house, await house.workspace(), browser)


def cookie_of(answer: httpx.Response) -> str:
    found = re.match(rf"{COOKIE}=([A-Za-z0-9_-]{{43}});", answer.headers["set-cookie"])
    assert found, answer.headers["set-cookie"]
    return found[1]


def bearer_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    found = re.search(r'<meta name="ownkey-bearer" content="([A-Za-z0-9_-]{43})">', answer.text)
    assert found
    return found[1]


def ancestors(answer: httpx.Response) -> str:
    return answer.headers["content-security-policy"].partition("frame-ancestors ")[2]


# --- the ways in


async def test_a_pages_link(door: Door) -> None:
    """X5: a cookie that only this server gets and no script reads, and an address without the code."""
    answer = await door.enter(replace(WISH, flow="cap", ttl_s=600), **DOCUMENT)
    attributes = [part.strip() for part in answer.headers["set-cookie"].split(";")[1:]]

    assert answer.status_code == 303
    assert answer.headers["location"] == "/portal/spend#cap"
    assert sorted(attributes) == ["HttpOnly", "Max-Age=600", "Path=/", "SameSite=Lax", "Secure"]
    assert answer.headers["set-cookie"].startswith("__Host-ownkey-portal=")
    assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert (await door.browser.get("/portal/credentials")).text == "u1 in Acme"


async def test_the_cookie_ends_with_the_session(door: Door) -> None:
    """What is left of it when the link is opened, not a second more."""
    minted = await door.mint(replace(WISH, ttl_s=120))
    door.house.clock.pass_s(50.5)
    answer = await door.browser.get(minted.url)

    assert "Max-Age=69;" in answer.headers["set-cookie"]


async def test_a_frames_link(door: Door) -> None:
    """A document with a bearer, framed by the configured site alone; no cookie, no copy kept."""
    answer = await door.enter(replace(FRAMED, flow="cap"), **IFRAME)

    assert await door.look(authorization=f"Bearer {bearer_of(answer)}") == 200
    assert "set-cookie" not in answer.headers
    assert ancestors(answer) == "https://app.test"
    assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert 'content="https://app.test"' in answer.text
    assert 'content="/portal/spend#cap"' in answer.text


async def test_a_browser_that_says_nothing_of_itself(door: Door) -> None:
    """Old ones send no Sec-Fetch-Dest: the link itself says what it is for."""
    assert (await door.enter(WISH)).status_code == 303
    assert bearer_of(await door.enter(FRAMED))


@pytest.mark.parametrize(("wish", "wrong", "right"), [(WISH, IFRAME, DOCUMENT), (FRAMED, DOCUMENT, IFRAME)])
async def test_the_wrong_way_in_uses_nothing_up(
    door: Door, wish: PortalWish, wrong: dict[str, str], right: dict[str, str]
) -> None:
    """And says so on a page that a frame can show."""
    minted = await door.mint(wish)
    refused = await door.browser.get(minted.url, headers=wrong)

    assert refused.status_code == 409
    assert "It was not used up." in refused.text
    assert ancestors(refused) == "https://app.test"
    assert (await door.browser.get(minted.url, headers=right)).status_code in (200, 303)


@pytest.mark.parametrize(("method", "headers", "status"), [
    ("HEAD", {}, 200),
    ("HEAD", {"sec-purpose": "prefetch"}, 200),
    ("GET", {"sec-purpose": "prefetch"}, 503),
    ("GET", {"sec-purpose": "prefetch;prerender"}, 503),
    ("GET", {"purpose": "prefetch"}, 503),
    ("GET", {"x-moz": "prefetch"}, 503),
])
async def test_who_only_looks_at_a_link_uses_nothing_up(
    door: Door, method: str, headers: dict[str, str], status: int
) -> None:
    """Link checkers and browsers that fetch ahead; what they get is never shown to a person as the page."""
    minted = await door.mint()
    for _ in range(3):
        ahead = await door.browser.request(method, minted.url, headers=headers)
        assert ahead.status_code == status
        assert "set-cookie" not in ahead.headers
        assert ahead.headers["cache-control"] == "no-store"

    assert (await door.browser.get(minted.url)).status_code == 303


@pytest.mark.parametrize(("query", "status"), [
    ("", 404), ("?code=", 404), ("?code=x", 404), ("?code=" + "A" * 43, 404), ("?code=%00%ff", 400),
    ("?code=" + "A" * 5_000, 404), ("?code=%3Cscript%3E", 404),
])
async def test_links_that_are_none(door: Door, query: str, status: int) -> None:
    """One answer; nothing of the address comes back."""
    answer = await door.browser.get(f"/portal/enter{query}")

    assert answer.status_code == status
    assert "<script>" not in answer.text.partition("<body")[2]
    assert "set-cookie" not in answer.headers


async def test_links_that_are_over(door: Door) -> None:
    """Used and too old, each in its own words."""
    used, old = await door.mint(), await door.mint()
    await door.browser.get(used.url)
    again = await door.browser.get(used.url)
    door.house.clock.pass_s(60)
    late = await door.browser.get(old.url)

    assert (again.status_code, late.status_code) == (409, 410)
    assert "opened before" in again.text
    assert "not opened within a minute" in late.text


# --- who asks


async def test_a_cookie_is_for_pages_and_a_bearer_for_frames(door: Door) -> None:
    """Neither stands in for the other, and neither is taken from an address."""
    page, frame = await door.page(), await door.frame()
    door.browser.cookies.jar.clear()

    assert await door.look(cookie=f"{COOKIE}={page}") == 200
    assert await door.look(authorization=f"Bearer {frame}") == 200
    assert await door.look(cookie=f"{COOKIE}={frame}") == 401
    assert await door.look(authorization=f"Bearer {page}") == 401
    assert await door.look(f"/portal/credentials?bearer={frame}&code={frame}&{COOKIE}={page}") == 401
    assert await door.look(f"/portal/credentials?ticket={frame}") == 401


@pytest.mark.parametrize("headers", [
    {}, {"cookie": f"{COOKIE}="}, {"cookie": f"{COOKIE}={'A' * 43}"}, {"authorization": "Bearer"},
    {"authorization": f"Bearer {'A' * 43}"}, {"authorization": "Basic dTpw"}, {"cookie": "ownkey-portal=x"},
])
async def test_nobody_is_shown_nothing(door: Door, headers: dict[str, str]) -> None:
    """A page that says what is so, and the way back in."""
    answer = await door.browser.get("/portal/credentials", headers=headers)

    assert answer.status_code == 401
    assert "Session ended" in answer.text


async def test_two_cookies_of_one_name_are_none(door: Door) -> None:
    """One of them was put there by somebody else."""
    page = await door.page()
    door.browser.cookies.jar.clear()

    assert await door.look(cookie=f"{COOKIE}={page}; {COOKIE}={'A' * 43}") == 401
    assert await door.look(cookie=f"theme=dark; {COOKIE}={page}; other=1") == 200


async def test_a_bearer_that_is_wrong_is_not_helped_by_a_cookie(door: Door) -> None:
    """A frame whose session has ended must not go on as the page in the next tab."""
    page = await door.page()

    assert await door.look(cookie=f"{COOKIE}={page}", authorization=f"Bearer {'A' * 43}") == 401


async def test_a_pages_visit_is_never_framed(door: Door) -> None:
    """Its buttons could be hidden below something else; what a frame is told instead can be shown there."""
    page = await door.page()
    framed = await door.browser.get("/portal/credentials", headers={**IFRAME, "cookie": f"{COOKIE}={page}"})
    shown = await door.browser.get("/portal/credentials", headers={**DOCUMENT, "cookie": f"{COOKIE}={page}"})

    assert (framed.status_code, ancestors(framed)) == (401, "https://app.test")
    assert (shown.status_code, ancestors(shown)) == (200, "'none'")


async def test_a_visit_ends_for_the_next_request(door: Door) -> None:
    """S7: revoked, out of time, or in another role: what is asked next is refused."""
    sessions = door.house.desk.portal_sessions
    revoked, changed, timed = await door.page(), await door.frame(), await door.frame(
        replace(FRAMED, member_id="u2", email="bo@example.com"))
    door.browser.cookies.jar.clear()
    found = await sessions.find(revoked)
    assert found is not None
    await sessions.revoke(door.workspace, found.id, ACTOR)
    after_revoking = await door.look(cookie=f"{COOKIE}={revoked}")
    before = await door.look(authorization=f"Bearer {changed}")
    await door.mint(replace(WISH, role=Role.MEMBER))
    after_change = await door.look(authorization=f"Bearer {changed}")
    door.house.clock.pass_s(899.9)
    last = await door.look(authorization=f"Bearer {timed}")
    door.house.clock.pass_s(0.1)

    assert (after_revoking, before, after_change, last) == (401, 200, 401, 200)
    assert await door.look(authorization=f"Bearer {timed}") == 401


async def test_leaving(door: Door) -> None:
    """By a form of these pages; the cookie goes, the session ends, and a link from elsewhere cannot do it."""
    page = await door.page()
    door.browser.cookies.jar.clear()
    elsewhere = await door.post("/portal/leave", {"csrf": csrf_token(page)}, cookie=page, origin="https://evil.test")
    untold = await door.post("/portal/leave", {}, cookie=page, origin=OWN)
    by_link = await door.browser.get("/portal/leave", headers={"cookie": f"{COOKIE}={page}"})
    still = await door.look(cookie=f"{COOKIE}={page}")
    left = await door.post("/portal/leave", {"csrf": csrf_token(page)}, cookie=page, origin=OWN)

    assert (elsewhere.status_code, untold.status_code, by_link.status_code, still) == (403, 403, 404, 200)
    assert left.status_code == 303
    assert re.match(rf"{COOKIE}=; .*Max-Age=0", left.headers["set-cookie"])
    assert await door.look(cookie=f"{COOKIE}={page}") == 401


# --- forms


@pytest.mark.parametrize(("headers", "token", "status"), [
    ({"origin": OWN, "sec-fetch-site": "same-origin"}, "own", 200),
    ({"origin": OWN}, "own", 200),
    ({}, "own", 200),
    ({"sec-fetch-site": "none"}, "own", 200),
    ({"origin": "null", "sec-fetch-site": "same-origin"}, "own", 200),
    ({"origin": "null"}, "own", 403),
    ({"origin": "null", "sec-fetch-site": "cross-site"}, "own", 403),
    ({"origin": "https://evil.test"}, "own", 403),
    ({"origin": "https://ownkey.test.evil.test"}, "own", 403),
    ({"origin": "http://ownkey.test"}, "own", 403),
    ({"origin": "https://ownkey.test:444"}, "own", 403),
    ({"origin": "https://app.test"}, "own", 403),
    ({"origin": OWN, "sec-fetch-site": "cross-site"}, "own", 403),
    ({"origin": OWN, "sec-fetch-site": "same-site"}, "own", 403),
    ({"origin": "https://evil.test", "host": "evil.test"}, "own", 403),
    ({"origin": OWN}, "", 403),
    ({"origin": OWN}, "other", 403),
    ({"origin": OWN}, "short", 403),
    ({"origin": OWN}, "header", 200),
    ({"origin": OWN}, "foreign", 403),
])
async def test_forms_of_a_page(door: Door, headers: dict[str, str], token: str, status: int) -> None:
    """The person's own form and nobody else's: the token of this visit, from these pages, whatever Host says."""
    other, page = await door.page(replace(WISH, member_id="u2", email="bo@example.com")), await door.page()
    door.browser.cookies.jar.clear()
    own = csrf_token(page)
    tokens = {"own": own, "": "", "other": csrf_token(other), "short": own[:-1], "header": "", "foreign": "é"}
    more = {"x-csrf-token": own} if token == "header" else {}
    answer = await door.post("/portal/credentials/save", {"csrf": tokens[token]}, cookie=page, **headers, **more)

    assert answer.status_code == status
    assert (answer.text == "changed") is (status == 200)


@pytest.mark.parametrize(("headers", "status"), [
    ({"origin": OWN, "sec-fetch-site": "same-origin"}, 200),
    ({}, 200),
    ({"origin": "https://app.test"}, 403),
    ({"origin": OWN, "sec-fetch-site": "cross-site"}, 403),
    ({"origin": "null", "sec-fetch-site": "cross-site"}, 403),
])
async def test_forms_of_a_frame(door: Door, headers: dict[str, str], status: int) -> None:
    """The bearer is the proof, so a form that was typed before a refresh still counts; the framing site has none."""
    bearer = await door.frame()
    before = csrf_token("A" * 43)

    assert (await door.post("/portal/credentials/save", {"csrf": before}, bearer=bearer, **headers)
            ).status_code == status


async def test_a_form_of_another_workspace_is_not_sent_into_this_one(door: Door) -> None:
    """Two tabs share a cookie: what was filled in for the first workspace is refused in the second."""
    first = await door.page()
    token = csrf_token(first)
    elsewhere = await door.house.workspace("Other")
    minted = await door.house.desk.portal_sessions.mint(elsewhere, WISH, ACTOR)
    second = cookie_of(await door.browser.get(minted.url))
    answer = await door.post("/portal/credentials/save", {"csrf": token}, cookie=second, origin=OWN)

    assert answer.status_code == 403


async def test_an_operator_who_looks_changes_nothing(door: Door) -> None:
    """Every page, no form, though the token is right."""
    minted = await door.house.desk.portal_sessions.view_as(door.workspace, Actor("operator", "op_1"))
    page = cookie_of(await door.browser.get(minted.url))
    answer = await door.post("/portal/credentials/save", {"csrf": csrf_token(page)}, cookie=page, origin=OWN)

    assert (await door.browser.get("/portal/credentials")).text == "op_1 in Acme"
    assert answer.status_code == 403


# --- a frame's refresh


async def refresh(door: Door, code: str, bearer: str = "", **headers: str) -> httpx.Response:
    sent = {"origin": OWN, "sec-fetch-site": "same-origin", **headers}
    if bearer:
        sent["authorization"] = f"Bearer {bearer}"
    return await door.browser.post("/portal/enter", json={"code": code}, headers=sent)


async def test_a_frame_goes_on_with_the_hosts_next_link(door: Door) -> None:
    """A new bearer for the same person: what was typed may stay. The old one runs out by itself."""
    old = await door.frame()
    door.house.clock.pass_s(780)
    answer = await refresh(door, (await door.mint(FRAMED)).code, old)
    told = answer.json()

    assert answer.status_code == 200
    assert told["same"] is True
    assert told["expires_at_ms"] - told["now_ms"] == 900_000
    assert told["csrf"] == csrf_token(told["bearer"])
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    assert await door.look(authorization=f"Bearer {told['bearer']}") == 200
    assert await door.look(authorization=f"Bearer {old}") == 200


@pytest.mark.parametrize("change", ["workspace", "person", "role", "pages", "ended"])
async def test_somebody_elses_link_begins_anew(door: Door, change: str) -> None:
    """Nothing that was typed for one workspace, person or role is sent as another."""
    old = await door.frame()
    workspace, wish = door.workspace, FRAMED
    match change:
        case "workspace":
            workspace = await door.house.workspace("Other")
        case "person":
            wish = replace(FRAMED, member_id="u2", email="bo@example.com")
        case "role":
            wish = replace(FRAMED, role=Role.VIEWER)
        case "pages":
            wish = replace(FRAMED, pages=["spend"])
        case "ended":
            door.house.clock.pass_s(900)
    minted = await door.house.desk.portal_sessions.mint(workspace, wish, ACTOR)

    assert (await refresh(door, minted.code, old)).json()["same"] is False


@pytest.mark.parametrize(("headers", "status"), [
    ({"origin": "https://app.test", "sec-fetch-site": "cross-site"}, 403),
    ({"origin": "https://evil.test"}, 403),
    ({"origin": "null", "sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "cross-site"}, 403),
])
async def test_only_our_own_script_takes_a_code(door: Door, headers: dict[str, str], status: int) -> None:
    """Not the host's page, nor anybody's who got hold of a code; it stays unused."""
    minted = await door.mint(FRAMED)
    answer = await refresh(door, minted.code, **headers)

    assert answer.status_code == status
    assert answer.json()["error"]["code"] == "foreign_request"
    assert (await refresh(door, minted.code)).status_code == 200


async def test_a_request_without_an_origin_takes_no_code(door: Door) -> None:
    """Every browser sends one with such a request."""
    minted = await door.mint(FRAMED)

    assert (await door.browser.post("/portal/enter", json={"code": minted.code})).status_code == 403


@pytest.mark.parametrize(("body", "status"), [
    (b"", 400), (b"[]", 400), (b'{"code": 5}', 400), (b"{" * 5_000, 400), (b'{"code": "x"}', 404), (b"\xff\xfe", 400),
])
async def test_refreshes_that_say_nothing(door: Door, body: bytes, status: int) -> None:
    """Bad input gets a code, a sentence and a fix, as JSON."""
    answer = await door.browser.post(
        "/portal/enter", content=body, headers={"origin": OWN, "content-type": "application/json"})

    assert answer.status_code == status
    assert answer.json()["error"]["fix"]["text"]


async def test_a_pages_link_gives_no_bearer(door: Door) -> None:
    """It stays unused."""
    minted = await door.mint()

    assert (await refresh(door, minted.code)).json()["error"]["code"] == "link_wrong_mode"
    assert (await door.browser.get(minted.url)).status_code == 303


# --- downloads of frames


async def ticket(door: Door, bearer: str, path: str, **headers: str) -> httpx.Response:
    return await door.browser.post("/portal/tickets", json={"path": path}, headers={
        "origin": OWN, "authorization": f"Bearer {bearer}", **headers})


async def test_a_frame_downloads_by_ticket(door: Door) -> None:
    """Once, within a minute, at that address alone; the bearer is never in one."""
    bearer = await door.frame()
    url = (await ticket(door, bearer, "/portal/activity.csv?task=draft_reply&period=2026-11&empty=")).json()["url"]
    parts = urlsplit(url)
    elsewhere = await door.look(f"/portal/credentials?ticket={url.rpartition('=')[2]}")
    other_filter = await door.look(url.replace("2026-11", "2026-10"))
    head = await door.browser.head(url)
    ahead = await door.look(url, **{"sec-purpose": "prefetch"})
    first = await door.browser.get(url, headers=DOCUMENT)

    assert (parts.path, bearer in url) == ("/portal/activity.csv", False)
    assert (elsewhere, other_filter, head.status_code, ahead) == (401, 401, 401, 401)
    assert (first.status_code, first.text) == (200, "u1 in Acme")
    assert await door.look(url) == 401


async def test_a_ticket_changes_nothing(door: Door) -> None:
    """It is for reading, even where the address would take a form."""
    bearer = await door.frame()
    url = (await ticket(door, bearer, "/portal/credentials/save")).json()["url"]

    assert (await door.post(url, {}, origin=OWN)).status_code == 401


async def test_tickets_are_asked_for_by_the_pages_themselves(door: Door) -> None:
    """Not from elsewhere, not without a visit, not for other addresses."""
    bearer = await door.frame()
    foreign = await ticket(door, bearer, "/portal/activity.csv", origin="https://app.test")
    nobody = await ticket(door, "A" * 43, "/portal/activity.csv")
    outside = await ticket(door, bearer, "/manage/v1/workspaces")

    assert (foreign.status_code, nobody.status_code, outside.status_code) == (403, 401, 400)


# --- what is written down


async def test_no_secret_is_logged(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    """S1: whatever goes well or wrong, no log line holds a code, a cookie, a bearer or a ticket."""
    caplog.set_level(logging.DEBUG, logger="ownkey")
    minted = await door.mint()
    page = cookie_of(await door.browser.get(minted.url))
    bearer = await door.frame()
    url = (await ticket(door, bearer, "/portal/activity.csv")).json()["url"]
    for path in (minted.url, url, url, "/portal/nothing"):
        await door.browser.get(path)
    await door.post("/portal/credentials/save", {}, cookie=page, origin="https://evil.test")
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("ownkey"))

    for secret in (minted.code, page, bearer, url.rpartition("=")[2]):
        assert secret[8:24] not in logged
