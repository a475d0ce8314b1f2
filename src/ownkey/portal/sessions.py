"""In and out of the pages: links, the cookie of a page, the bearer of a frame, and what makes a form the person's own.

A page's browser holds a cookie that only it can send; a frame holds a bearer in memory and never a cookie. Neither
stands in for the other: a cookie that works in a frame, or a bearer in an address, would be one that others can use.
"""

import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from ownkey.control.portal_sessions import PortalSessionControl
from ownkey.control.ports import Clock
from ownkey.control.problems import Problem, ProblemCode, invalid
from ownkey.domain.connect import APPROVE_PATH
from ownkey.domain.errors import StoreError
from ownkey.domain.portal import ENTER_PATH, Mode, PortalSession, landing
from ownkey.domain.product import Product
from ownkey.pages.http import FORM_FIELDS, Answer, PageRequest, html, see_other
from ownkey.pages.site import Site
from ownkey.pages.statuses import PROBLEM_STATUSES
from ownkey.portal.visit import TICKET, csrf_token

COOKIE = "__Host-ownkey-portal"
CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"

_FRAMES = frozenset({"iframe", "frame", "embed", "object", "fencedframe"})
_OWN_SITES = frozenset({"same-origin", "none"})


@dataclass(frozen=True, slots=True)
class Visitor:
    """A visit that lives, and the secret that was shown for it; "" for a download's ticket, which changes nothing."""

    session: PortalSession
    secret: str = field(repr=False)


class SessionDoor:
    """What the portal's door asks about sessions. It keeps nothing between two requests."""

    def __init__(self, sessions: PortalSessionControl, site: Site, product: Product, clock: Clock) -> None:
        self._sessions = sessions
        self._site = site
        self._product = product
        self._clock = clock

    # --- who asks

    async def visitor(self, request: PageRequest) -> Visitor | None:
        """Who asks; None for nobody whom we know, whatever the reason. A link's address is for nobody yet."""
        bearer = _bearer(request)
        if bearer is not None:
            return await self._find(bearer, "frame")
        if TICKET in request.query and request.method == "GET":
            return await self._by_ticket(request)
        if request.headers.get("sec-fetch-dest", "") in _FRAMES:
            # A page's visit is never shown in a frame, where its buttons could be hidden below something else.
            return None
        cookies = [value for name, value in _cookies(request) if name == COOKIE]
        # Two of one name: somebody else has put one there, and which is which cannot be told.
        return await self._find(cookies[0], "page") if len(cookies) == 1 else None

    def first_page(self, session: PortalSession) -> str:
        """The address that a visit begins at."""
        return landing(session)

    def check_change(self, request: PageRequest, visitor: Visitor) -> str | None:
        """Why a request that changes something was not made by the person on these pages, in a sentence; None if it
        was. Every POST asks, before anything else is read of it."""
        if not self._from_here(request):
            return "This request came from another site, so nothing was changed."
        if not visitor.secret:
            return "A download's address cannot change anything."
        if visitor.session.mode == "frame":
            # The bearer is proof enough: no other site can make a browser send it, and a form that was typed before
            # a refresh still carries the token of the session before.
            return None
        sent = request.form.get(CSRF_FIELD) or request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(sent.encode(), csrf_token(visitor.secret).encode()):
            return "This form belongs to another visit, so nothing was changed."
        return None

    def frame_ancestors(self, request: PageRequest | None, visitor: Visitor | None) -> Sequence[str]:
        """The sites that may frame the answer: those that are configured, for framed visits, for links, and for what a
        frame is told that has no visit any more. A page's visit is framed nowhere, nor the page that leaves a frame."""
        if request is None or request.path == APPROVE_PATH:
            return ()
        framed = visitor.session.mode == "frame" if visitor is not None else (
            request.headers.get("sec-fetch-dest", "") in _FRAMES
        )
        return self._sessions.rules.origins if framed or request.path == ENTER_PATH else ()

    # --- the ways in

    async def enter(self, request: PageRequest) -> Answer:
        """The link's address. Raises Problem."""
        if request.method == "HEAD":
            return Answer()  # a link checker
        if is_prefetch(request):
            # Neither use the link up nor let an empty answer be shown to the person who clicks next: browsers drop
            # what they fetched ahead only if it failed.
            return Answer(503)
        if request.method == "POST":
            return await self._refresh(request)
        arrived = request.headers.get("sec-fetch-dest", "")
        mode: Mode | None = "frame" if arrived in _FRAMES else "page" if arrived == "document" else None
        entered = await self._sessions.enter(
            request.query.get("code", ""), mode=mode, replaces=request.cookies.get(COOKIE, "")
        )
        if entered.session.mode == "frame":
            return self._frame(entered.session, entered.secret)
        return see_other(landing(entered.session), [("set-cookie", self._cookie(entered.session, entered.secret))])

    async def leave(self, request: PageRequest, visitor: Visitor) -> Answer:
        """The person's own end of the visit. Raises Problem."""
        wrong = self.check_change(request, visitor)
        if wrong is not None:
            raise Problem(ProblemCode.FOREIGN_REQUEST, wrong, "Reload the page and try again.")
        await self._sessions.end(visitor.session)
        return see_other("/portal", [("set-cookie", _no_cookie())])

    async def ticket(self, request: PageRequest, visitor: Visitor) -> Answer:
        """POST with JSON {path}: the address of one download, for a frame. Raises Problem."""
        wrong = self.check_change(request, visitor)
        if wrong is not None:
            raise Problem(ProblemCode.FOREIGN_REQUEST, wrong, "Reload the page and try again.")
        path = _plain(_json_text(request, "path"))
        ticket = await self._sessions.make_ticket(visitor.session, path)
        return _json({"url": f"{path}{'&' if '?' in path else '?'}{TICKET}={ticket}"})

    # --- the steps

    async def _refresh(self, request: PageRequest) -> Answer:
        """A frame brings the code of its next session. What was typed stays, unless that is somebody else's: then the
        page begins anew, so that nothing goes into another workspace."""
        if not self._from_here(request) or "origin" not in request.headers:
            return _json_problem(Problem(
                ProblemCode.FOREIGN_REQUEST, "This request came from another site.", "Open the pages again.",
            ))
        try:
            before = await self.visitor(request)
            entered = await self._sessions.enter(_json_text(request, "code"), mode="frame")
        except Problem as problem:
            return _json_problem(problem)
        session = entered.session
        return _json({
            "bearer": entered.secret, "csrf": csrf_token(entered.secret), "expires_at_ms": session.expires_at_ms,
            "now_ms": self._clock.now_ms(), "first": landing(session),
            "same": before is not None and _stands_for(before.session) == _stands_for(session),
        })

    def _frame(self, session: PortalSession, secret: str) -> Answer:
        link = self._product.fix_url(session.flow)
        return html(self._site.render(
            "portal/frame.html", title=self._product.name, product=self._product, bearer=secret, parent=session.origin,
            first=landing(session), theme=session.theme, session=session, now_ms=self._clock.now_ms(),
            page_link=link if link.startswith(("https://", "http://")) else "",
        ))

    async def _find(self, secret: str, mode: Mode) -> Visitor | None:
        session = await self._sessions.find(secret)
        return Visitor(session, secret) if session is not None and session.mode == mode else None

    async def _by_ticket(self, request: PageRequest) -> Visitor | None:
        if is_prefetch(request):
            return None
        try:
            return Visitor(
                await self._sessions.use_ticket(request.with_query(**{TICKET: None}), request.query[TICKET]), ""
            )
        except (Problem, StoreError):
            return None

    def _from_here(self, request: PageRequest) -> bool:
        """By what browsers say of themselves and no page can forge. One that says nothing is judged by its token."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if site is not None and site not in _OWN_SITES:
            return False
        if origin == "null":
            # What a form of ours sends as well, since our pages tell no site where somebody comes from.
            return site == "same-origin"
        return origin is None or origin in self._sessions.address.origins

    def _cookie(self, session: PortalSession, secret: str) -> str:
        left_s = max(1, (session.expires_at_ms - self._clock.now_ms()) // 1_000)
        return f"{COOKIE}={secret}; Path=/; Max-Age={left_s}; Secure; HttpOnly; SameSite=Lax"


def is_prefetch(request: PageRequest) -> bool:
    """Whether a browser fetches ahead of a person who has not clicked."""
    purposes = (request.headers.get(name, "") for name in ("sec-purpose", "purpose", "x-purpose", "x-moz"))
    return any(word in value.lower() for value in purposes for word in ("prefetch", "prerender", "preview"))


def _bearer(request: PageRequest) -> str | None:
    """None: no Authorization header. "" for one that is no bearer: it finds nobody."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, secret = header.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _cookies(request: PageRequest) -> list[tuple[str, str]]:
    parts = (part.partition("=") for part in request.headers.get("cookie", "").split(";"))
    return [(name.strip(), value.strip()) for name, _, value in parts]


def _no_cookie() -> str:
    return f"{COOKIE}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax"


def _stands_for(session: PortalSession) -> tuple[object, ...]:
    """What a page was made for: another one must not be filled in for it."""
    return session.workspace_id, session.member_id, session.role, session.pages, session.kind


def _plain(path: str) -> str:
    """An address as the door will see it again: without what an empty or repeated parameter adds."""
    place, _, query = path.partition("?")
    try:
        pairs = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=FORM_FIELDS, errors="strict"))
    except ValueError:
        raise invalid("path", "This address cannot be read.", "Name a path that begins with /portal/.") from None
    kept = urlencode([(name, value) for name, value in pairs.items() if value and name != TICKET])
    return f"{place}?{kept}" if kept else place


def _json_text(request: PageRequest, name: str) -> str:
    """A field of a JSON object. Raises Problem; what was sent is not repeated."""
    try:
        value: Any = json.loads(request.body)
    except (ValueError, RecursionError):
        value = None
    text = value.get(name) if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise invalid(name, f"The body must be a JSON object with the text {name!r}.", "Send it as application/json.")
    return text


def _json(value: dict[str, object], status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), "application/json")


def _json_problem(problem: Problem) -> Answer:
    return _json(
        {"error": {"code": problem.code.value, "message": problem.message, "fix": {"text": problem.fix, "url": None}}},
        PROBLEM_STATUSES[problem.code],
    )
