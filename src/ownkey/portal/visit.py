"""One request of one person, with everything that a page may reach, and the few ways in which a page answers.

A page's function takes a `Visit` and returns an `Answer`. It never looks at cookies, bearers or roles itself: the door
has done that, and `sight` says what is left to show.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ownkey.control.desk import Desk
from ownkey.control.ports import Clock, Safe
from ownkey.control.problems import Problem
from ownkey.control.status import Status, key_attention
from ownkey.domain.phrases import Phrase
from ownkey.domain.portal import Page, PortalRules, PortalSession, Sight, fix_place, near_place, place_of
from ownkey.domain.product import Payers, Product
from ownkey.domain.records import Actor
from ownkey.domain.workspace import EntitlementState, Role, WorkspaceState
from ownkey.gateway.explain import Explainer
from ownkey.pages.http import Answer, PageRequest, html, see_other
from ownkey.pages.site import Site
from ownkey.pages.words import Words


@dataclass(frozen=True, slots=True)
class House:
    """What all pages share, built once. `proxies` are the networks whose X-Forwarded-For is believed."""

    desk: Desk
    site: Site
    product: Product
    rules: PortalRules
    clock: Clock
    safe: Safe
    explainer: Explainer
    proxies: tuple[str, ...] = ()

    @property
    def words(self) -> Words:
        return self.site.words

    @property
    def with_credits(self) -> bool:
        return self.product.payers is Payers.WITH_CREDITS

    @property
    def reopen_url(self) -> str:
        """Where the host lets people in again; "" where its address is not a whole one."""
        url = self.product.fix_url("")
        return url if url.startswith(("https://", "http://")) else ""


@dataclass(frozen=True, slots=True)
class Visit:
    """`sight` is what this role gets of `page`; `workspace` and `status` are as of now, read for this request."""

    house: House
    session: PortalSession
    secret: str = field(repr=False)
    request: PageRequest
    page: Page
    sight: Sight
    workspace: WorkspaceState
    status: Status

    @property
    def desk(self) -> Desk:
        return self.house.desk

    @property
    def product(self) -> Product:
        return self.house.product

    @property
    def say(self) -> Words:
        return self.house.words

    @property
    def now_ms(self) -> int:
        return self.house.clock.now_ms()

    @property
    def actor(self) -> Actor:
        """For the audit log: the member, or the operator who looks."""
        if self.session.kind == "view_as":
            return Actor("operator", self.session.member_id)
        return Actor("member", self.session.member_id)

    @property
    def manages(self) -> bool:
        return self.sight is Sight.MANAGE

    @property
    def session_manages(self) -> bool:
        """Whether this person may change settings on the pages that a fix leads to, whichever page this is."""
        return self.session.kind == "member" and self.session.role in (Role.OWNER, Role.ADMIN)

    @property
    def sees_figures(self) -> bool:
        """Amounts, hints, caps and exports: for everybody but those who see states only."""
        return self.sight in (Sight.MANAGE, Sight.READ)

    @property
    def csrf(self) -> str:
        return csrf_token(self.secret)

    def may_see(self, page: Page) -> bool:
        return self.session.sight(page) is not Sight.NONE

    def show(
        self, template: str, *, title: str, status: int = 200, refresh_s: int | None = None,
        headers: Sequence[tuple[str, str]] = (), **values: Any,
    ) -> Answer:
        """A whole page. `refresh_s` asks the browser to come again, where something is not finished."""
        text = self.house.site.render(
            f"portal/{template}", title=title, visit=self, workspace=self.workspace, status=self.status,
            product=self.product, session=self.session, rules=self.house.rules, csrf=self.csrf, page=self.page,
            with_credits=self.house.with_credits, reopen_url=self.house.reopen_url, refresh_s=refresh_s,
            now_ms=self.now_ms, tz=self.workspace.timezone, Page=Page, nav=navigation(self), pill=pill_of(self),
            section=self.say(section_of(self.product)), role_name=ROLES[self.session.role],
            **values,
        )
        return html(text, status, headers)

    def problem(self, problem: Problem, *, title: str, status: int, back: str) -> Answer:
        """What went wrong, whose side it is on, and what to do; nothing was changed."""
        return self.show("message.html", title=title, status=status, problem=problem, back=back, sentence="", fix="")

    def go(self, url: str) -> Answer:
        """After a change: the page that shows it (303)."""
        return see_other(url)

    def is_stale(self, version: int | str) -> bool:
        """Whether the form was made for another version of what it changes than this one (its field `version`). One
        that does not say what it was made for may be of any age, so it is stale too."""
        return self.request.field("version") != str(version)


async def fresh(visit: Visit) -> Visit:
    """The same visit after a change: workspace and status as they are now."""
    workspace = await visit.desk.workspaces.find(visit.session.workspace_id)
    return replace(visit, workspace=workspace, status=await visit.desk.status.show(workspace))


Handler = Callable[[Visit], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class PortalRoute:
    """`path` is whole (`/portal/credentials/{provider}/test`). `needs` is the least sight that may come here: `PARTLY`
    lets everybody in who has the page at all, `READ` those who see figures, `MANAGE` those who change."""

    method: str
    path: str
    page: Page
    needs: Sight
    handler: Handler


TICKET: Final = "ticket"
"""The parameter of an address that a framed visit opens outside of its frame, once."""

_RANK: Mapping[Sight, int] = {Sight.NONE: 0, Sight.PARTLY: 1, Sight.READ: 2, Sight.MANAGE: 3}


def is_enough(sight: Sight, needs: Sight) -> bool:
    return _RANK[sight] >= _RANK[needs]


def csrf_token(secret: str) -> str:
    """What a form of this session carries; it tells nothing about the secret."""
    return hmac.new(secret.encode(), b"csrf", hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the navigation, with the tabs below it."""

    label: str
    url: str
    current: bool
    tabs: tuple["Entry", ...] = ()


_SUPPORT_DESK: Mapping[Page, str] = {
    Page.CREDENTIALS: "API Keys", Page.FEATURES: "Features", Page.SPEND: "Spend", Page.ACTIVITY: "Activity",
    Page.PLANS: "Plans & Pricing", Page.PROJECTS: "Projects",
}
_APP_BUILDER: Mapping[Page, str] = {
    Page.CREDENTIALS: "Integrations", Page.PLANS: "Plans & Pricing", Page.SPEND: "Usage", Page.ACTIVITY: "Activity",
    Page.PROJECTS: "Projects", Page.FEATURES: "Features",
}
_UNDER: Mapping[Page, Page] = {
    Page.CALLS: Page.ACTIVITY, Page.WHY: Page.ACTIVITY, Page.EXPLAIN: Page.ACTIVITY, Page.EXPORTS: Page.ACTIVITY,
    Page.NOTICES: Page.CREDENTIALS, Page.DATA: Page.CREDENTIALS,
}


ROLES: Mapping[Role, Phrase] = {
    Role.OWNER: Phrase("Owner"), Role.ADMIN: Phrase("Admin"), Role.MEMBER: Phrase("Member"),
    Role.VIEWER: Phrase("Viewer"),
}


def section_of(product: Product) -> str:
    """The part of the host product that these pages are as a whole, as its own menu names it."""
    return "AI Agent" if product.preset == "support-desk" else "Settings"


def page_label(product: Product, page: Page) -> str:
    labels = _SUPPORT_DESK if product.preset == "support-desk" else _APP_BUILDER
    return labels[_UNDER.get(page, page)]


def navigation(visit: Visit) -> tuple[Entry, ...]:
    """The listed pages that this visit may see, in the preset's order. An app builder finds spend and activity as two
    tabs of Usage."""
    labels = _SUPPORT_DESK if visit.product.preset == "support-desk" else _APP_BUILDER
    usage = visit.product.preset != "support-desk"
    current = _UNDER.get(visit.page, visit.page)
    entries = []
    for page, label in labels.items():
        if visit.session.sight(page) is Sight.NONE:
            continue
        if usage and page is Page.ACTIVITY and visit.may_see(Page.SPEND):
            continue
        tabs: tuple[Entry, ...] = ()
        if usage and page is Page.SPEND and visit.may_see(Page.ACTIVITY):
            tabs = tuple(
                Entry(visit.say(name), f"/portal/{tab}", tab is current)
                for tab, name in ((Page.SPEND, "Spend"), (Page.ACTIVITY, "Activity"))
            )
        here = page is current or any(tab.current for tab in tabs)
        entries.append(Entry(visit.say(label), f"/portal/{page}", here, tabs))
    return tuple(entries)


@dataclass(frozen=True, slots=True)
class Pill:
    """The header's word about AI as a whole, and the page that puts it right ("" where nothing needs it)."""

    state: str
    text: str
    url: str


def pill_of(visit: Visit) -> Pill:
    status, url = visit.status, ""
    if status.refusal is not None:
        url = flow_url(visit, status.refusal.flow)
    elif status.attention:
        url = flow_url(visit, _needing(visit.workspace, visit.now_ms))
    return Pill(status.state, visit.say(status.headline), url)


def _needing(workspace: WorkspaceState, now_ms: int) -> str:
    """The flow of what needs attention, in the order in which the status tells it: a key, the add-on's payment, the
    credits."""
    for provider, key in workspace.credentials.items():
        if key_attention(key, now_ms):
            return f"credential:{provider}"
    return "addon" if workspace.entitlement is EntitlementState.GRACE else "credits"


def flow_url(visit: Visit, flow: str) -> str:
    """Where this visit gets closest to putting a flow right: always an address of a page that it has."""
    return fix_place(visit.session, flow)


def own_url(visit: Visit, flow: str) -> str:
    """The page on which a flow is put right; "" where this visit has none."""
    return place_of(visit.session, flow) or near_place(visit.session, flow)


def host_url(visit: Visit, flow: str) -> str:
    """The host's own page for a flow, where these pages have none; "" where its address is not a whole one."""
    url = visit.product.fix_url(flow) if flow else ""
    return url if url.startswith(("https://", "http://")) else ""
