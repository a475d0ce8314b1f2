"""Sign in with OpenRouter from our own page: out through a link, back to the page with the result in words, and only in
the visit that began it. Out of a frame: `test_sign_in_out_of_a_frame`.
"""

import html
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.portal.key_pages import PATH, card, save
from tests.portal.visiting import Portal, Seen, open_portal

from ownkey.api.connect import ConnectDoor
from ownkey.domain.portal import PortalSession
from ownkey.domain.workspace import Role
from ownkey.pages.http import PageRequest

KEY = "sk-or-v1-" + "c0ffee11" * 8


@dataclass
class Browser:
    """OpenRouter's way back, opened in a browser that is in `visit` (None: in nobody's)."""

    portal: Portal
    visit: PortalSession | None

    async def open(self, url: str) -> httpx.Response:
        async def whose(request: PageRequest) -> PortalSession | None:
            return self.visit

        door = ConnectDoor(self.portal.control.desk.connect, self.portal.control.product, whose)
        transport = httpx.ASGITransport(app=door)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="https://ownkey.test") as client:
            return await client.get(url)


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as opened:
        opened.control.upstream.script["/auth/keys"] = (200, {"key": KEY, "user_id": None})
        yield opened


async def begin(portal: Portal, **fields: Any) -> tuple[Seen, str]:
    """The page that leads to OpenRouter, and the address there."""
    seen = await portal.post(f"{PATH}/openrouter/sign-in", fields)
    found = re.search(r'<a class="button primary" id="go" href="([^"]+)" target="_top"', seen.html)
    assert found, seen.text
    return seen, html.unescape(found[1])


def way_back(url: str, code: str = "the-code") -> str:
    callback = parse_qs(urlsplit(url).query)["callback_url"][0]
    return f"{callback}&code={code}" if code else f"{callback}&error=access_denied"


async def test_out_and_back(portal: Portal) -> None:
    """O2, T7: a link that leaves the frame, no redirect; back on the page with the exact words and who pays."""
    browser = Browser(portal, portal.session(Role.OWNER))
    seen, url = await begin(portal, label="One click")
    back = await browser.open(way_back(url))
    after = await portal.get(back.headers["location"].removeprefix("https://ownkey.test"))

    assert seen.status == 200
    assert "location" not in seen.headers
    assert url.startswith("https://openrouter.test/auth?callback_url=https%3A%2F%2Fownkey.test%2Fconnect")
    assert "code_challenge_method=S256" in url
    assert (back.status_code, back.headers["location"]) == (303, f"https://ownkey.test{PATH}?ownkey_connect=saved")
    assert "OpenRouter API key saved successfully." in after.text
    assert "pays for every AI call." in after.text
    assert "One click" in card(after).text
    assert KEY not in seen.html + after.html + str(back.headers)


async def test_nobody_approved(portal: Portal) -> None:
    """The way back says what happened, and what to do."""
    _, url = await begin(portal)
    back = await Browser(portal, portal.session(Role.OWNER)).open(way_back(url, ""))
    after = await portal.get(back.headers["location"].removeprefix("https://ownkey.test"))

    assert "OpenRouter is not connected" in after.text
    assert "Nobody approved at OpenRouter, so no key was made." in after.text
    assert "Start again whenever you like, or paste a key." in after.text
    assert card(after).state == "empty"


@pytest.mark.parametrize("fields", [None, {"member_id": "u_2"}, {"workspace_id": "ws_other"}, {"kind": "view_as"}])
async def test_another_visit_cannot_end_it(portal: Portal, fields: dict[str, str] | None) -> None:
    """Security 8: whoever is sent the address hands no key to a stranger's workspace by approving."""
    visit = None if fields is None else portal.session(Role.OWNER, **fields)
    _, url = await begin(portal)
    back = await Browser(portal, visit).open(way_back(url))
    mine = await Browser(portal, portal.session(Role.OWNER)).open(way_back(url))

    assert back.status_code == 404
    assert "This sign-in was begun in another visit" in back.text
    assert mine.status_code == 303
    assert (await portal.control.again(portal.workspace)).credentials["openrouter"].version == 1


async def test_it_works_once(portal: Portal) -> None:
    """Back, or a second tab: told, and nothing is done."""
    browser = Browser(portal, portal.session(Role.OWNER))
    _, url = await begin(portal)
    await browser.open(way_back(url))
    again = await browser.open(way_back(url))
    after = await portal.get(again.headers["location"].removeprefix("https://ownkey.test"))

    assert "ownkey_code=connect_used" in again.headers["location"]
    assert "This sign-in was finished or tried before; it works once." in after.text
    assert (await portal.control.again(portal.workspace)).credentials["openrouter"].version == 1


async def test_a_sign_in_replaces_a_key(portal: Portal) -> None:
    """The old key serves until the new one is there."""
    await save(portal)
    opened = card(await portal.get(f"{PATH}/openrouter/replace"))
    _, url = await begin(portal)
    await Browser(portal, portal.session(Role.OWNER)).open(way_back(url))
    now = (await portal.control.again(portal.workspace)).credentials["openrouter"]

    assert "Sign in with OpenRouter" in opened.buttons
    assert (now.version, now.hint[-4:]) == (2, KEY[-4:])


async def test_only_openrouter_has_one(portal: Portal) -> None:
    """A made-up address leads back to the page."""
    seen = await portal.post(f"{PATH}/anthropic/sign-in")

    assert seen.headers["location"] == PATH


async def test_a_bad_label_is_told(portal: Portal) -> None:
    """Nothing begins."""
    seen = await portal.post(f"{PATH}/openrouter/sign-in", {"label": "x" * 200})

    assert seen.status == 422
    assert "A name has 1 to 120 printable characters." in card(seen).text
