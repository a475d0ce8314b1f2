"""A browser without a script at the console's door: it keeps cookies, follows redirects, and fills in forms."""

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
from tests.compiled_pages import COMPILED
from tests.control.staff_house import OWN_URL, PASSWORD, Person, StaffHouse, open_staff

from ownkey.console.app import ConsoleApp
from ownkey.console.visit import ConsoleHouse
from ownkey.control.own_address import OwnAddress
from ownkey.domain.operators import ConsoleRules
from ownkey.pages.site import Site
from ownkey.pages.words import Words

SESSION = "__Host-ownkey-console"


@dataclass
class Form:
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.ids: list[str] = []
        self.headings = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        assert "style" not in found, "the content policy forbids inline styles"
        assert not any(name.startswith("on") for name in found), "and scripts"
        self.ids += [found["id"]] if "id" in found else []
        self.headings += tag == "h1"
        if tag == "form":
            self.forms.append(Form(found["action"], found.get("method", "get")))
        elif tag == "input" and self.forms and found.get("name") and found.get("type") != "checkbox":
            self.forms[-1].fields[found["name"]] = found.get("value", "")


@dataclass
class Browser:
    client: httpx.AsyncClient
    staff: StaffHouse
    app: ConsoleApp
    page: httpx.Response = field(init=False)

    async def go(self, path: str, **headers: str) -> httpx.Response:
        self.page = await self.client.get(path, headers={"sec-fetch-site": "none", **_dashed(headers)})
        self._look()
        return self.page

    async def send(self, action: str, **fields: str) -> httpx.Response:
        """Fill in the page's form of that action, as a person would, and send it."""
        form = next(form for form in self.forms if form.action == action)
        return await self.post(action, {**form.fields, **fields})

    async def post(self, path: str, fields: dict[str, str], **headers: str) -> httpx.Response:
        # What browsers send from a page with `no-referrer`.
        usual = {"sec-fetch-site": "same-origin", "origin": "null"}
        self.page = await self.client.post(path, data=fields, headers={**usual, **_dashed(headers)})
        self._look()
        return self.page

    async def follow(self) -> httpx.Response:
        """The redirect of the last answer, and those behind it."""
        while self.page.status_code == 303:
            await self.go(self.page.headers["location"])
        return self.page

    @property
    def forms(self) -> list[Form]:
        return self._read().forms

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", self.page.text))

    async def sign_in(self, person: Person, path: str = "/console/sign-in") -> httpx.Response:
        await self.go(path)
        await self.send("/console/sign-in", email=person.email, password=person.password)
        await self.follow()
        await self.send("/console/sign-in/code", code=self.staff.code(person))
        self.staff.house.clock.pass_s(60)
        return self.page

    def _read(self) -> _Reader:
        reader = _Reader()
        reader.feed(self.page.text)
        return reader

    def _look(self) -> None:
        """What must hold for every answer of the console."""
        page = self.page
        assert page.headers["cache-control"] == "no-store", page.url
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        assert page.status_code != 500, page.text
        assert PASSWORD not in page.text
        for cookie in page.headers.get_list("set-cookie"):
            assert cookie.startswith("__Host-ownkey-console")
            assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
        if page.headers["content-type"].startswith("text/html") and page.text:
            reader = self._read()
            assert reader.headings == 1, page.text
            assert len(reader.ids) == len(set(reader.ids)), reader.ids


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@contextlib.asynccontextmanager
async def open_browser(
    folder: Path, rules: ConsoleRules = ConsoleRules(), **more: Any  # noqa: B008 - a frozen value
) -> AsyncIterator[Browser]:
    """`more` goes to the staff's house."""
    async with open_staff(folder, rules, **more) as staff:
        house = staff.house
        app = ConsoleApp(ConsoleHouse(
            staff.staff, house.desk, Site(Words(), compiled=COMPILED), house.product, house.clock, OwnAddress(OWN_URL)))
        async with browse(app, staff) as browser:
            yield browser


@contextlib.asynccontextmanager
async def browse(app: ConsoleApp, staff: StaffHouse, address: str = "192.0.2.44") -> AsyncIterator[Browser]:
    transport = httpx.ASGITransport(app=app, client=(address, 4_000))
    async with httpx.AsyncClient(transport=transport, base_url=OWN_URL) as client:
        yield Browser(client, staff, app)
