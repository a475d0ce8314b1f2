"""A person's visit to the pages of a workspace: who they are, what they may see, and which pages there are.

The host asserts member, role and workspace when it mints a link; nothing here comes from a browser. The table below is
the only place that says what a role sees; doors ask it cell by cell.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal
from urllib.parse import quote

from ownkey.domain.product import PROVIDERS
from ownkey.domain.records import Actor
from ownkey.domain.theme import Theme
from ownkey.domain.workspace import Role

SESSION_S = 900
SESSION_MOST_S = 3_600
SESSION_LEAST_S = 60
CODE_S = 60
TICKET_S = 60

ENTER_PATH: Final = "/portal/enter"
SECRET_BYTES: Final = 32

Mode = Literal["page", "frame"]
Look = Literal["auto", "light", "dark"]


class Page(StrEnum):
    """The pages of the portal, by the last part of their address. The lower ones have no entry of their own in the
    navigation: other pages lead to them."""

    CREDENTIALS = "credentials"
    FEATURES = "features"
    SPEND = "spend"
    ACTIVITY = "activity"
    PLANS = "plans"
    PROJECTS = "projects"
    CALLS = "calls"
    WHY = "why"
    EXPLAIN = "explain"
    EXPORTS = "exports"
    NOTICES = "notices"
    DATA = "data"


LISTED = (Page.CREDENTIALS, Page.FEATURES, Page.SPEND, Page.ACTIVITY, Page.PLANS, Page.PROJECTS)
"""Those that a product lists and a session may narrow; the others follow from them (`LEADS_TO`)."""

LEADS_TO: Mapping[Page, tuple[Page, ...]] = {
    Page.CALLS: (Page.ACTIVITY, Page.SPEND, Page.CREDENTIALS),
    Page.WHY: (Page.ACTIVITY, Page.CREDENTIALS, Page.SPEND),
    Page.EXPLAIN: (Page.ACTIVITY, Page.CREDENTIALS, Page.SPEND),
    Page.EXPORTS: (Page.ACTIVITY, Page.SPEND, Page.PLANS),
    Page.NOTICES: LISTED,
    Page.DATA: (Page.CREDENTIALS,),
}
"""A page that is only linked exists where one of the pages that link to it does. E-mails link to the page that mutes
them, whichever pages a visit has."""


class Sight(StrEnum):
    """What a role gets of a page. `PARTLY`: states and words, but no amounts, hints, caps or export."""

    MANAGE = "manage"
    READ = "read"
    PARTLY = "partly"
    NONE = "none"


_M, _R, _P, _N = Sight.MANAGE, Sight.READ, Sight.PARTLY, Sight.NONE
_OWNER, _ADMIN, _MEMBER, _VIEWER = Role.OWNER, Role.ADMIN, Role.MEMBER, Role.VIEWER

SIGHTS: Mapping[Page, Mapping[Role, Sight]] = {
    Page.CREDENTIALS: {_OWNER: _M, _ADMIN: _M, _MEMBER: _P, _VIEWER: _P},
    Page.FEATURES: {_OWNER: _M, _ADMIN: _M, _MEMBER: _R, _VIEWER: _R},
    Page.SPEND: {_OWNER: _M, _ADMIN: _M, _MEMBER: _P, _VIEWER: _R},
    Page.ACTIVITY: {_OWNER: _R, _ADMIN: _R, _MEMBER: _P, _VIEWER: _R},
    Page.CALLS: {_OWNER: _R, _ADMIN: _R, _MEMBER: _P, _VIEWER: _R},
    Page.WHY: {_OWNER: _M, _ADMIN: _M, _MEMBER: _R, _VIEWER: _R},
    Page.EXPLAIN: {_OWNER: _R, _ADMIN: _R, _MEMBER: _N, _VIEWER: _N},
    Page.PLANS: {_OWNER: _M, _ADMIN: _M, _MEMBER: _N, _VIEWER: _R},
    Page.PROJECTS: {_OWNER: _R, _ADMIN: _R, _MEMBER: _P, _VIEWER: _R},
    Page.EXPORTS: {_OWNER: _R, _ADMIN: _R, _MEMBER: _N, _VIEWER: _R},
    Page.NOTICES: {_OWNER: _M, _ADMIN: _M, _MEMBER: _N, _VIEWER: _N},
    Page.DATA: {_OWNER: _M, _ADMIN: _N, _MEMBER: _N, _VIEWER: _N},
}
"""Role by page. A viewer watches the money, a member works in the product; neither sees keys."""


@dataclass(frozen=True, slots=True)
class PortalSession:
    """One person's visit. `pages` are the listed pages that it may see, already narrowed to the product's.

    `mode`: "page" has a cookie, "frame" a bearer in memory. `kind` "view_as": an operator looks, read-only, named by
    `member_id`. `origin` is the site that frames it, "" in page mode. `flow` is where a deep link leads.
    `return_url` and `refresh_url` are the host's, checked when the link was minted. Times are Unix milliseconds.
    """

    id: str
    workspace_id: str
    member_id: str
    member_name: str
    member_email: str
    role: Role
    mode: Mode
    pages: tuple[Page, ...]
    flow: str
    theme: Look
    locale: str
    return_url: str
    refresh_url: str
    origin: str
    created_at_ms: int
    expires_at_ms: int
    kind: Literal["member", "view_as"] = "member"

    def sight(self, page: Page) -> Sight:
        """What this visit gets of a page; `NONE` also where the page was not given to it."""
        if not has_page(self.pages, page):
            return Sight.NONE
        sight = SIGHTS[page][self.role]
        if self.kind == "view_as":
            # Operators read what is shown; they take no files away.
            return Sight.NONE if page is Page.EXPORTS else Sight.READ if sight is Sight.MANAGE else sight
        return sight

    @property
    def actor(self) -> Actor:
        """Who acts in this visit, for the audit log."""
        return Actor("operator" if self.kind == "view_as" else "member", self.member_id)


def has_page(pages: tuple[Page, ...], page: Page) -> bool:
    """Whether `page` exists for those that were given these listed pages."""
    return page in pages if page in LISTED else any(lead in pages for lead in LEADS_TO[page])


@dataclass(frozen=True, slots=True)
class PortalRules:
    """From `ownkey.toml`, section [portal].

    `pages` are those that the product lists. `origins` are the sites that may frame them, exactly. A browser may be
    sent back to `return_urls`, and the embedding element may ask `refresh_urls` for a new session. `words` are the
    host's own texts, by the text that they replace.
    """

    pages: tuple[Page, ...] = LISTED
    origins: tuple[str, ...] = ()
    return_urls: tuple[str, ...] = ()
    refresh_urls: tuple[str, ...] = ()
    session_s: int = SESSION_S
    session_most_s: int = SESSION_MOST_S
    theme: Theme = Theme()  # noqa: RUF009 - a frozen value
    words: Mapping[str, str] = field(default_factory=dict)
    support_url: str = ""
    logo_text: str = ""


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A visit that is under way, or whose link can still be opened (`entered_at_ms` None). `minted_by` asked for it."""

    session: PortalSession
    entered_at_ms: int | None
    minted_by: Actor


class LinkTrouble(StrEnum):
    """Why a link opens nothing. `MODE`: it is for the other way in, and stays unused."""

    UNKNOWN = "unknown"
    USED = "used"
    EXPIRED = "expired"
    MODE = "mode"


class EndReason(StrEnum):
    """Why sessions ended before their time."""

    REVOKED = "revoked"
    LOGOUT = "logout"
    ROLE_CHANGED = "role changed"
    MEMBER_REMOVED = "member removed"
    REPLACED = "replaced by another"
    WORKSPACE_DELETED = "workspace deleted"
    RESTORED = "backup restored"


FLOW_PAGES: Mapping[str, Page] = {
    "credential": Page.CREDENTIALS, "addon": Page.PLANS, "credits": Page.PLANS, "cap": Page.SPEND,
    "feature": Page.FEATURES, "receipt": Page.CALLS, "export": Page.EXPORTS,
    "notices": Page.NOTICES,
}
"""Where a `fix.url`'s flow leads: the part before its colon."""

_WITH_NAME: Final = frozenset({"credential", "feature", "receipt", "export"})
_FLOW_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z", re.ASCII)


def page_of_flow(flow: str) -> Page | None:
    """None: no page for it (an unknown word)."""
    return FLOW_PAGES.get(flow.partition(":")[0])


def is_flow(flow: str) -> bool:
    """Whether a text is one of the flows: `cap`, `credential:<provider>`, `receipt:<id>` …"""
    word, colon, name = flow.partition(":")
    if word not in FLOW_PAGES or (word in _WITH_NAME) is not bool(colon):
        return False
    return not colon or (name in PROVIDERS if word == "credential" else bool(_FLOW_NAME.match(name)))


def landing(session: PortalSession) -> str:
    """The address that a visit begins at: its flow's place or the next best, else the first of its pages."""
    return (
        place_of(session, session.flow) or near_place(session, session.flow) or f"/portal/{first_page(session)}"
    )


def place_of(session: PortalSession, flow: str) -> str:
    """A flow's address inside the portal, down to its card or form; "" where this visit has not got it."""
    page, name = page_of_flow(flow), quote(flow.partition(":")[2], safe="")
    if page is None or session.sight(page) is Sight.NONE:
        return ""
    match page:
        case Page.CALLS:
            return f"/portal/calls/{name}"
        case Page.SPEND:
            return "/portal/spend#cap"
        case _:
            return f"/portal/{page}#{name}" if name else f"/portal/{page}"


def near_place(session: PortalSession, flow: str) -> str:
    """The next best address for a flow whose own page this visit has not got: another page that can put it right, or
    tells how it stands; "" for none."""
    word = flow.partition(":")[0]
    if word == "cap" and session.sight(Page.CREDENTIALS) is Sight.MANAGE:
        return "/portal/credentials#cap"
    if word == "addon" and session.sight(Page.CREDENTIALS) is not Sight.NONE:
        return "/portal/credentials#openrouter"
    if word == "credits" and session.sight(Page.SPEND) in (Sight.MANAGE, Sight.READ):
        return "/portal/spend#credits"
    return ""


def fix_place(session: PortalSession, flow: str) -> str:
    """Where this visit gets closest to putting a flow right: its own place, the next best, Why, or the first page; an
    address that this visit has, whatever the flow."""
    found = place_of(session, flow) or near_place(session, flow)
    if found:
        return found
    if session.sight(Page.WHY) is Sight.NONE:
        return f"/portal/{first_page(session)}"
    word, _, name = flow.partition(":")
    return f"/portal/why?task={quote(name, safe='')}" if word == "feature" and name else "/portal/why"


def first_page(session: PortalSession) -> Page:
    """The first page of a visit that its role sees; a session without one is never minted."""
    return next(page for page in session.pages if session.sight(page) is not Sight.NONE)
