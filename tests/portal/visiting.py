"""The portal's door with real use cases behind it and a guest list instead of sessions; tests ask it as browsers do.

`open_portal` gives a `Portal`; `portal.get("/portal/credentials", role=Role.OWNER)` gives a `Seen`: status, headers,
HTML.
"""

import contextlib
import html as html_text
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

from tests.compiled_pages import COMPILED
from tests.control.house import House as ControlHouse
from tests.control.house import open_house
from tests.portal.dry_runs import explainer_of
from tests.portal.versions import version_now

from ownkey.domain.portal import LISTED, Page, PortalRules, PortalSession
from ownkey.domain.workspace import Role, WorkspaceState
from ownkey.pages.http import Answer, PageRequest
from ownkey.pages.site import Site
from ownkey.pages.words import Words
from ownkey.portal.app import PortalApp
from ownkey.portal.sessions import SessionDoor, Visitor
from ownkey.portal.visit import House, csrf_token

SECRET = "a-visit-of-a-test"


@dataclass
class GuestDoor:
    """Lets in whoever the test names; checks forms' tokens as the real door does."""

    visitor_now: Visitor | None = None

    async def visitor(self, request: PageRequest) -> Visitor | None:
        return self.visitor_now

    def check_change(self, request: PageRequest, visitor: Visitor) -> str | None:
        return None if request.field("csrf") == csrf_token(visitor.secret) else "The form's token is missing."

    def frame_ancestors(self, visitor: Visitor | None, answer: Answer) -> tuple[str, ...]:
        return ()

    def first_page(self, session: PortalSession) -> str:
        return f"/portal/{session.pages[0]}"


@dataclass
class Seen:
    """What a browser got."""

    status: int
    headers: Mapping[str, str]
    html: str

    @property
    def text(self) -> str:
        """The page without tags and with single blanks, as one reads it."""
        bare = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", self.html, flags=re.S)
        return " ".join(html_text.unescape(bare).split())

    def field(self, name: str, near: str = "") -> str:
        """A hidden field's value, of the first form whose HTML holds `near`."""
        for form in re.findall(r"<form\b.*?</form>", self.html, flags=re.S):
            found = re.search(rf'name="{re.escape(name)}" value="([^"]*)"', form)
            if near in form and found:
                return html_text.unescape(found[1])
        raise AssertionError(f"no form with {near!r} has a field {name!r}")


@dataclass
class Portal:
    control: ControlHouse
    app: PortalApp
    door: GuestDoor
    workspace: WorkspaceState
    pages: tuple[Page, ...] = LISTED
    more: dict[str, Any] = field(default_factory=dict)

    async def get(self, path: str, role: Role = Role.OWNER, headers: Mapping[str, str] | None = None) -> Seen:
        return await self._ask("GET", path, role, b"", headers or {})

    async def post(
        self, path: str, form: Mapping[str, str] | None = None, role: Role = Role.OWNER,
        headers: Mapping[str, str] | None = None,
    ) -> Seen:
        """As a browser sends a form of these pages: with the session's token, and the version of what it changes as
        that is now, unless `form` has another."""
        version = await version_now(self.control, self.workspace, path)
        known = {"csrf": csrf_token(SECRET), **({} if version is None else {"version": version})}
        return await self.send(path, {**known, **(form or {})}, role, headers)

    async def send(
        self, path: str, form: Mapping[str, str], role: Role = Role.OWNER, headers: Mapping[str, str] | None = None
    ) -> Seen:
        """These fields, and none besides."""
        kind = {"content-type": "application/x-www-form-urlencoded"}
        return await self._ask("POST", path, role, urlencode(form).encode(), {**kind, **(headers or {})})

    async def follow(self, seen: Seen, role: Role = Role.OWNER) -> Seen:
        assert seen.status == 303, f"{seen.status}: {seen.text[:300]}"
        return await self.get(seen.headers["location"].partition("#")[0], role)

    def session(self, role: Role, **fields: Any) -> PortalSession:
        now = self.control.clock.now_ms()
        known: dict[str, Any] = {
            "id": "ps_1", "workspace_id": self.workspace.id, "member_id": "u_1", "member_name": "Ada",
            "member_email": "ada@example.com", "role": role, "mode": "page", "pages": self.pages, "flow": "",
            "theme": "auto", "locale": "en", "return_url": "", "refresh_url": "", "origin": "", "created_at_ms": now,
            "expires_at_ms": now + 900_000,
        }
        return PortalSession(**{**known, **self.more, **fields})

    async def _ask(self, method: str, path: str, role: Role, body: bytes, headers: Mapping[str, str]) -> Seen:
        self.door.visitor_now = Visitor(self.session(role), SECRET)
        where, _, query = path.partition("?")
        sent: list[Any] = []
        scope = {
            "type": "http", "method": method, "path": where, "query_string": query.encode(), "scheme": "http",
            "client": ("192.0.2.7", 4711),
            "headers": [(b"host", b"ownkey.test"), *((n.encode(), v.encode()) for n, v in headers.items())],
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        data = b"".join(m.get("body", b"") for m in sent[1:])
        found = {n.decode(): v.decode() for n, v in sent[0]["headers"]}
        return Seen(sent[0]["status"], found, data.decode())


@contextlib.asynccontextmanager
async def open_portal(
    folder: Path, preset: str = "support-desk", *, rules: PortalRules | None = None,
    words: Mapping[str, str] | None = None, **house: Any,
) -> AsyncIterator[Portal]:
    async with open_house(folder, preset, **house) as control:
        workspace = await control.workspace()
        site = Site(Words(words), compiled=COMPILED)
        door = GuestDoor()
        pages = House(
            desk=control.desk, site=site, product=control.product, rules=rules or PortalRules(), clock=control.clock,
            safe=control.vault, explainer=explainer_of(control),
        )
        yield Portal(control, PortalApp(pages, cast(SessionDoor, door)), door, workspace)
