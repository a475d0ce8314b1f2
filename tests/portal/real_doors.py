"""The portal's real door with people of every role inside it, and two workspaces that know nothing of each other.

`open_doors` gives `Doors`: `doors.ask("GET", "/portal/spend", "viewer")` asks as that person's own browser would.
"""

import contextlib
import html as html_text
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

from tests.compiled_pages import COMPILED
from tests.control.house import ACTOR, PORTAL, House, open_house
from tests.portal.dry_runs import explainer_of
from tests.portal.receipts_made import attempt, failed, write
from tests.portal.versions import version_now
from tests.portal.visiting import Portal, Seen
from tests.store.store_kit import finish, request, settle

from ownkey.control.export_work import ExportAllWorker, ExportWorker
from ownkey.control.portal_sessions import Minted, PortalWish
from ownkey.control.replay import ReplayWorker
from ownkey.control.work import WorkRunner
from ownkey.domain.portal import LISTED
from ownkey.domain.product import Payers
from ownkey.domain.records import Actor
from ownkey.domain.routing import Route
from ownkey.domain.work import WorkKind
from ownkey.domain.workspace import Role, WorkspaceState
from ownkey.pages.site import Site
from ownkey.pages.words import Words
from ownkey.portal.app import PortalApp
from ownkey.portal.routes import ROUTES
from ownkey.portal.sessions import COOKIE, SessionDoor
from ownkey.portal.visit import House as Pages
from ownkey.portal.visit import PortalRoute, csrf_token
from ownkey.store.export_files import ExportFiles

OWN = "https://ownkey.test"
PEOPLE = ("owner", "admin", "member", "viewer", "view_as")
"""Everybody who can be in these pages: the roles, and an operator who looks."""

NOBODY = "nobody"
FORM = {"content-type": "application/x-www-form-urlencoded"}
RULES = replace(PORTAL, pages=LISTED)


@dataclass
class Things:
    """What a workspace has that an address can name."""

    workspace: WorkspaceState
    receipt: str = ""
    refused: str = ""
    work: Mapping[str, str] = field(default_factory=dict)
    credential: str = ""
    project: str = ""
    conversation: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Doors:
    house: House
    pages: Pages
    sessions: SessionDoor
    own: Things
    other: Things
    app: PortalApp

    def with_routes(self, routes: Sequence[PortalRoute]) -> PortalApp:
        """The same door before other pages."""
        return PortalApp(self.pages, self.sessions, routes)

    async def get(self, path: str, who: str = "owner", **headers: str) -> Seen:
        return await self.ask("GET", path, who, headers=headers)

    async def post(self, path: str, form: Mapping[str, str] | None = None, who: str = "owner", **headers: str) -> Seen:
        """As a browser sends a form of these pages: with the visit's own token, and the version of what it changes."""
        version = await version_now(self.house, self.own.workspace, path)
        fields = {"csrf": self.token(who), **({} if version is None else {"version": version}), **(form or {})}
        return await self.ask("POST", path, who, urlencode(fields).encode(), headers={**FORM, **headers})

    def token(self, who: str) -> str:
        return csrf_token(self.own.secrets[who]) if who != NOBODY else ""

    async def ask(
        self, method: str, path: str, who: str = "owner", body: bytes = b"", *,
        headers: Mapping[str, str] | None = None, app: Any = None, query: bytes | None = None,
    ) -> Seen:
        """`path` is decoded, as servers hand it on; `query` None: what stands behind its first question mark."""
        where, _, asked = path.partition("?") if query is None else (path, "", "")
        cookie = {"cookie": f"{COOKIE}={self.own.secrets[who]}"} if who != NOBODY else {}
        sent: list[Any] = []
        scope = {
            "type": "http", "method": method, "path": where, "scheme": "https", "client": ("192.0.2.7", 4711),
            "query_string": asked.encode() if query is None else query,
            "headers": [
                (b"host", b"ownkey.test"),
                *((n.encode(), v.encode("latin-1")) for n, v in {**cookie, **(headers or {})}.items()),
            ],
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await (app or self.app)(scope, receive, send)
        data = b"".join(m.get("body", b"") for m in sent[1:])
        return Seen(sent[0]["status"], {n.decode(): v.decode() for n, v in sent[0]["headers"]},
                    data.decode("utf-8", "replace"))


@contextlib.asynccontextmanager
async def open_doors(
    folder: Path, preset: str = "support-desk", *, words: Mapping[str, str] | None = None, **more: Any
) -> AsyncIterator[Doors]:
    async with open_house(folder, preset, portal=RULES, **more) as house:
        site = Site(Words(words), compiled=COMPILED)
        pages = Pages(
            desk=house.desk, site=site, product=house.product, rules=RULES, clock=house.clock, safe=house.vault,
            explainer=explainer_of(house),
        )
        sessions = SessionDoor(house.desk.portal_sessions, site, house.product, house.clock)
        plan = {"plan": next(iter(house.product.plans))} if house.product.plans else {}
        names = ("Acme", "acme"), ("Bolt", "bolt")
        own, other = [Things(await house.workspace(n, external_id=e, **plan)) for n, e in names]
        doors = Doors(house, pages, sessions, own, other, PortalApp(pages, sessions, ROUTES))
        for things in (own, other):
            things.secrets = {who: await enter(doors, things.workspace, who) for who in PEOPLE}
        yield doors


async def enter(doors: Doors, workspace: WorkspaceState, who: str, **wish: Any) -> str:
    """A visit of its own: the secret in its cookie, or its bearer."""
    return (await doors.house.desk.portal_sessions.enter((await mint(doors, workspace, who, **wish)).code)).secret


async def mint(doors: Doors, workspace: WorkspaceState, who: str, **wish: Any) -> Minted:
    desk = doors.house.desk
    if who == "view_as":
        return await desk.portal_sessions.view_as(workspace, Actor("operator", "op_1"), "Otto")
    fields = {"mode": "page", "return_url": "https://app.test/settings/ai", **wish}
    return await desk.portal_sessions.mint(workspace, PortalWish(
        member_id=f"u_{who}", email=email_of(who), role=Role(who), name=f"The {who}", **fields), ACTOR)


def email_of(who: str) -> str:
    return f"{who}.secret@people.example"


async def furnish(house: House, things: Things, hostile: str = "") -> None:
    """Keys, calls of several kinds, projects, and finished work of each kind, of this workspace. `hostile` stands in
    every text that somebody else writes."""
    ident = things.workspace.id
    desk, name = house.desk, things.workspace.external_id
    things.workspace = await house.again(things.workspace)
    for provider in ("openrouter", *house.product.direct_providers):
        if provider not in things.workspace.credentials:
            await desk.credentials.save(
                await house.again(things.workspace), provider, key_of(provider, name),
                label=hostile[:100] or "Team key", save_anyway=True, address="192.0.2.1", actor=ACTOR,
            )
    things.workspace = await house.again(things.workspace)
    things.credential = things.workspace.credentials["openrouter"].id
    things.project, things.conversation = f"p-{name}", hostile or f"ticket-{name}"
    await desk.projects.save(things.workspace, things.project, hostile[:100] or f"Project of {name}", ACTOR)
    portal = Portal(house, cast(Any, None), cast(Any, None), things.workspace)
    shared: dict[str, Any] = {
        "project": things.project, "conversation": things.conversation, "member": "u_owner",
    }
    own = attempt(credential_label=hostile or "Team key", cost_nusd=3_417_293, message=hostile, signal=hostile)
    late = failed(
        credential_label=hostile or "Team key", message=hostile or "Slow down.", request_id=hostile or "req_9"
    )
    kinds: list[tuple[Any, dict[str, Any]]] = [
        ((late, replace(own, n=2)), {}), ((own,), {"served_model": hostile or "other/model"}),
        ((), {"status": 402, "code": "ai_paused", "message": hostile or "The cap of US$47.13 was reached.",
              "task": "auto_triage"}),
    ]
    if house.product.payers is Payers.WITH_CREDITS:
        kinds.append(((replace(attempt(1, Route.CREDITS), cost_nusd=5_291_007),), {"charge_credits": 7_391}))
    for attempts, fields in kinds:
        house.clock.pass_s(1)
        found = await write(portal, *attempts, **{**shared, **fields})
        things.receipt, things.refused = (found.id, things.refused) if attempts else (things.receipt, found.id)
    wish = request(ident, 3_417_293, at_ms=house.clock.at_ms, expires_at_ms=house.clock.at_ms + 180_000)
    await house.store.hold(wish)
    await finish(house.store, wish, settle(wish, 3_417_293), task="auto_triage")
    works = {}
    for kind, asked in ((WorkKind.EXPORT, {}), (WorkKind.EXPORT_ALL, {}), (WorkKind.REPLAY, {"month": "2026-11"})):
        wished = desk.replay.read_wish(things.workspace, asked) if kind is WorkKind.REPLAY else asked
        view = await desk.work.start(things.workspace, kind, wished, Actor("member", "u_owner"), "u_owner")
        works[kind.value] = view.work.id
    await runner(house).run_due()
    things.work = works


def key_of(provider: str, name: str) -> str:
    """A key whose end is told apart from every other one's."""
    begins = {"openrouter": "sk-or-v1-", "anthropic": "sk-ant-api03-", "openai": "sk-proj-", "google": "AIzaSy"}
    size = {"google": 33}.get(provider, 64)
    body = "".join(f"{ord(c):02x}" for c in provider + name)
    return begins[provider] + (body * 9)[: size - 4] + tail_of(provider)


def tail_of(provider: str) -> str:
    return {"openrouter": "q7Zx", "anthropic": "w8Yv", "openai": "k5Uj", "google": "m3Hg"}[provider]


def runner(house: House) -> WorkRunner:
    """What `serve` runs beside the pages."""
    store, desk, files = house.store, house.desk, ExportFiles(house.folder / "exports")
    workers: Any = {
        WorkKind.EXPORT: ExportWorker(store, desk.exports, files),
        WorkKind.EXPORT_ALL: ExportAllWorker(store, desk.exports, files),
        WorkKind.REPLAY: ReplayWorker(store, store, store, house.clock, house.product),
    }
    return WorkRunner(store, workers, files, house.clock)


def fill(path: str, things: Things, *, work: str = "export", receipt: str = "", provider: str = "openrouter") -> str:
    """A route's address with this workspace's things in it."""
    values = {
        "receipt": receipt or things.receipt, "work": things.work[work], "provider": provider, "task": "auto_triage",
        "topic": "spend",
    }
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], path)


def links_of(seen: Seen) -> set[str]:
    """Where a page leads inside the portal."""
    written = re.findall(r'(?:href|data-url)="([^"]+)"', seen.html)
    found = {html_text.unescape(url).partition("#")[0] for url in written}
    files = ("/portal/assets/", "/portal/embed/")
    return {url for url in found if url.startswith("/portal/") and not url.startswith(files)}
