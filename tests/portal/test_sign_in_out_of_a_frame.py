"""Sign in with OpenRouter out of a frame, which has no cookie: by a page of ours at top level that says whose key it
will be and binds the sign-in to its browser. Who is sent the address of another sign-in hands their key to nobody.
"""

import html
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.portal.real_doors import FORM, OWN, Doors, enter, open_doors
from tests.portal.visiting import Seen

from ownkey.api.connect import ConnectDoor
from ownkey.domain.connect import APPROVE_PATH, CALLBACK_PATH
from ownkey.domain.workspace import Credential
from ownkey.portal.visit import csrf_token

KEY = "sk-or-v1-" + "c0ffee11" * 8
HOST = "https://app.test/settings/ai"


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(tmp_path) as opened:
        opened.house.upstream.script["/auth/keys"] = (200, {"key": KEY, "user_id": None})
        yield opened


@dataclass
class Browser:
    """Somebody's browser at top level: it keeps what cookies it is given, and shows a frame's bearer nowhere."""

    doors: Doors
    cookies: dict[str, str] = field(default_factory=dict)

    async def open(self, path: str) -> Seen:
        seen = await self.doors.ask("GET", path, "nobody", headers=self._headers())
        self._keep(seen.headers.get("set-cookie", ""))
        return seen

    async def come_back(self, url: str, code: str = "the-code") -> httpx.Response:
        """What OpenRouter does with a browser that has opened `url` and approved there; `code` "": it did not."""
        callback = parse_qs(urlsplit(url).query)["callback_url"][0]
        door = ConnectDoor(self.doors.house.desk.connect, self.doors.house.product, self.doors.app.whose)
        transport = httpx.ASGITransport(app=door)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url=OWN) as client:
            tail = f"&code={code}" if code else "&error=access_denied"
            return await client.get(callback + tail, headers=self._headers())

    def _headers(self) -> dict[str, str]:
        told = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"cookie": told} if told else {}

    def _keep(self, line: str) -> None:
        name, _, rest = line.partition("=")
        if line:
            assert {"Path=/", "Max-Age=600", "Secure", "HttpOnly", "SameSite=Lax"} == set(rest.split("; ")[1:])
            self.cookies[name] = rest.partition(";")[0]


async def in_frame(doors: Doors, **wish: Any) -> str:
    """A framed visit's bearer."""
    return await enter(doors, doors.own.workspace, "owner", mode="frame", **wish)


async def begin(doors: Doors, bearer: str) -> tuple[Seen, str]:
    """The frame's page that leads out, and the address that it leads to."""
    body = f"csrf={csrf_token(bearer)}&version=0".encode()
    seen = await doors.ask(
        "POST", "/portal/credentials/openrouter/sign-in", "nobody", body,
        headers={**FORM, "authorization": f"Bearer {bearer}"},
    )
    return seen, link(seen)


def link(seen: Seen) -> str:
    found = re.search(r'id="go" href="([^"]+)"', seen.html)
    assert found, seen.text
    return html.unescape(found[1])


async def saved(doors: Doors) -> Credential | None:
    return (await doors.house.again(doors.own.workspace)).credentials.get("openrouter")


async def last_failure(doors: Doors) -> dict[str, Any]:
    rows = await doors.house.desk.audit.list(doors.own.workspace, 5)
    return next(dict(row["after"]) for row in rows if row["action"] == "connect.failed")


async def test_the_honest_way(doors: Doors) -> None:
    """O2, T7: out of the frame by a page that names workspace and person, and back to the host with the key saved."""
    seen, way = await begin(doors, await in_frame(doors))
    browser = Browser(doors)
    page = await browser.open(way)
    back = await browser.come_back(link(page))

    assert way.startswith(f"{APPROVE_PATH}?ticket=")
    assert 'target="_top"' in seen.html
    assert "outside of this frame" in seen.text
    for told in ("Acme", "The owner", "owner.secret@people.example", "Go on only if that is you."):
        assert told in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert (back.status_code, back.headers["location"]) == (303, f"{HOST}?ownkey_connect=saved")
    assert back.headers["set-cookie"].startswith(f"{next(iter(browser.cookies))}=; Path=/; Max-Age=0")
    assert (await saved(doors)) is not None
    assert KEY not in seen.html + page.html + str(back.headers)


async def test_the_host_without_a_way_back(doors: Doors) -> None:
    """A link that names no page of the host's ends on a plain page that says what was done."""
    _, way = await begin(doors, await in_frame(doors, return_url=""))
    browser = Browser(doors)
    back = await browser.come_back(link(await browser.open(way)))

    assert back.status_code == 200
    assert "OpenRouter API key saved successfully." in back.text


@pytest.mark.parametrize("cookies", [{}, {"other": "1"}, "a guess", "of another sign-in"])
async def test_a_lured_victim_hands_over_nothing(doors: Doors, cookies: Any) -> None:
    """Security 8: the attacker opens the page in his own browser and sends the victim OpenRouter's address. Nothing is
    fetched or stored, the state is burnt for the attacker too, and the victim is told what happened.
    """
    _, way = await begin(doors, await in_frame(doors))
    attacker = Browser(doors)
    url = link(await attacker.open(way))
    if cookies == "a guess":
        cookies = dict.fromkeys(attacker.cookies, "A" * 31)
    elif cookies:
        _, other = await begin(doors, await in_frame(doors))
        stranger = Browser(doors)
        await stranger.open(other)
        cookies = stranger.cookies
    victim = await Browser(doors, cookies).come_back(url)
    late = await attacker.come_back(url)

    assert victim.status_code == 404
    assert "This sign-in was begun in another browser, so no key was made" in victim.text
    assert "If somebody sent you here, close this page." in html.unescape(victim.text)
    assert "location" not in victim.headers
    assert "connect_used" in late.headers["location"]
    assert await saved(doors) is None
    assert not [sent for sent in doors.house.upstream.sent if sent.path.endswith("/auth/keys")]
    assert await last_failure(doors) == {"code": "another_browser"}


async def test_two_sign_ins_of_one_browser_do_not_disturb_each_other(doors: Doors) -> None:
    """Each has a cookie of its own name."""
    browser, urls = Browser(doors), []
    for _ in range(2):
        _, way = await begin(doors, await in_frame(doors))
        urls.append(link(await browser.open(way)))
    first = await browser.come_back(urls[0])

    assert len(browser.cookies) == 2
    assert first.headers["location"].endswith("ownkey_connect=saved")


async def test_the_page_opens_once_and_for_ten_minutes(doors: Doors) -> None:
    """A second opening, a late one, one that is made up and one of a visit that has ended are all told what to do; a
    link checker uses nothing up.
    """
    bearer = await in_frame(doors)
    _, way = await begin(doors, bearer)
    await doors.ask("HEAD", way, "nobody")
    ahead = await doors.ask("GET", way, "nobody", headers={"sec-purpose": "prefetch"})
    first, second = await Browser(doors).open(way), await Browser(doors).open(way)
    _, way = await begin(doors, bearer)
    doors.house.clock.pass_s(601)
    late = await Browser(doors).open(way)
    made_up = await Browser(doors).open(f"{APPROVE_PATH}?ticket={'A' * 43}")
    bare = await Browser(doors).open(APPROVE_PATH)

    assert first.status == 200
    for seen in (ahead, second, late, made_up):
        assert seen.status == 410
        assert "choose Sign in with OpenRouter again" in seen.text
        assert "set-cookie" not in seen.headers
    assert bare.status == 401


async def test_a_ticket_opens_nothing_else(doors: Doors) -> None:
    """It is for that one page; and one for a download does not open it."""
    _, way = await begin(doors, await in_frame(doors))
    ticket = way.partition("ticket=")[2]
    for path in ("/portal/credentials", "/portal/spend", f"{APPROVE_PATH}?label=x"):
        seen = await Browser(doors).open(f"{path}{'&' if '?' in path else '?'}ticket={ticket}")
        assert seen.status in (401, 410), path
    assert (await Browser(doors).open(way)).status == 200


async def test_the_page_is_the_frames_way_alone(doors: Doors) -> None:
    """A visit with a cookie is bound by that; a member who may not manage keys gets no page either."""
    page = await doors.get(APPROVE_PATH)
    member = await doors.get(APPROVE_PATH, "member")

    assert (page.status, page.headers["location"]) == (303, "/portal/credentials")
    assert member.status == 403


async def test_nobody_approved(doors: Doors) -> None:
    """Back at the host with the reason, in the browser that began it."""
    _, way = await begin(doors, await in_frame(doors))
    browser = Browser(doors)
    back = await browser.come_back(link(await browser.open(way)), "")

    assert back.headers["location"] == f"{HOST}?ownkey_connect=failed&ownkey_code=connect_cancelled"


async def test_the_way_back_is_where_the_page_says(doors: Doors) -> None:
    """OpenRouter is told our own door, and the state stands in no header."""
    _, way = await begin(doors, await in_frame(doors))
    page = await Browser(doors).open(way)
    callback = parse_qs(urlsplit(link(page)).query)["callback_url"][0]
    state = parse_qs(urlsplit(callback).query)["state"][0]

    assert urlsplit(callback).path == CALLBACK_PATH
    assert state not in str(page.headers)
