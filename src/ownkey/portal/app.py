"""The portal's door: who asks, which page, may they, is the form theirs; then the page's own function.

Whatever goes wrong ends in a page of ours that says what is so, on whose side, and what to do next. Another
workspace's things and things that do not exist are answered alike.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from starlette.routing import compile_path

from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.connect import APPROVE_PATH
from ownkey.domain.errors import Conflict, NotFound, StoreError
from ownkey.domain.phrases import Phrase
from ownkey.domain.portal import Page, PortalSession, has_page
from ownkey.domain.refusals import Refused
from ownkey.pages.http import (
    Answer,
    BadForm,
    PageRequest,
    content_policy,
    html,
    read_request,
    see_other,
    send_answer,
)
from ownkey.pages.statuses import PROBLEM_STATUSES
from ownkey.pages.wire import BodyStalled, BodyTooLarge, HungUp, Receive, Scope, Send
from ownkey.portal.routes import ROUTES
from ownkey.portal.sessions import SessionDoor, Visitor
from ownkey.portal.visit import TICKET, House, PortalRoute, Visit, is_enough

log = logging.getLogger("ownkey.portal")

_ASSETS = "/portal/assets/"
_EMBED = "/portal/embed/v1.js"
_ENTER = "/portal/enter"
_LEAVE = "/portal/leave"
_TICKETS = "/portal/tickets"
_METHODS = ("GET", "HEAD", "POST")
_LINKS = frozenset(code for code in ProblemCode if code.value.startswith("link_"))


class PortalApp:
    """The ASGI callable for every path under `/portal`."""

    def __init__(self, house: House, sessions: SessionDoor, routes: Sequence[PortalRoute] = ROUTES) -> None:
        self._house = house
        self._sessions = sessions
        self._routes = [(compile_path(route.path)[0], route) for route in routes]

    async def whose(self, request: PageRequest) -> PortalSession | None:
        """The visit that a browser is in, by its cookie: for the way back from OpenRouter, which has no other proof."""
        visitor = await self._sessions.visitor(request)
        return None if visitor is None else visitor.session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: PageRequest | None = None
        visitor: Visitor | None = None
        try:
            request = await read_request(scope, receive, self._house.proxies)
        except HungUp:
            return
        except (BadForm, BodyTooLarge, BodyStalled):
            answer = self.message(
                400, "This form cannot be read", "What was sent is too large, or is no form of this page.",
                "Go back, reload the page and try again.",
            )
        else:
            answer, visitor = await self._serve(request)
        await send_answer(
            answer, send, policy=content_policy(self._sessions.frame_ancestors(request, visitor)),
            head_only=scope["method"] == "HEAD",
        )

    async def _serve(self, request: PageRequest) -> tuple[Answer, Visitor | None]:
        """The answer, and to whom. Whatever goes wrong, also while a visit is looked up, is an answer."""
        visitor: Visitor | None = None
        try:
            answer = self._open(request)
            if answer is None:
                visitor = await self._sessions.visitor(request)
                answer = await self._answer(request, visitor)
        except Problem as problem:
            answer = self._told(problem)
        except Refused as refused:
            answer = self._told(Problem(ProblemCode.INVALID, refused.refusal.message, refused.refusal.fix))
        except (NotFound, Conflict, StoreError) as error:
            answer = self._told(_store_problem(error))
        except Exception as error:
            error_id = self._house.clock.new_id("err")
            log.error("a page failed: %s in %s", error_id, type(error).__name__, exc_info=error)
            answer = self.message(
                500, "Something went wrong on our side", "Nothing is known to have changed.",
                Phrase("Reload the page. If it repeats, tell your operator this id: {id}.", id=error_id),
                back="/portal",
            )
        return answer, visitor

    def _open(self, request: PageRequest) -> Answer | None:
        """What everybody gets without being asked who they are; None: it is something else."""
        if request.method not in _METHODS:
            return self.message(405, "Not this way", Phrase("Pages are read and their forms sent; nothing else."), "",
                                headers=[("allow", ", ".join(_METHODS))])
        path, encodings = request.path, request.headers.get("accept-encoding", "")
        if path.startswith(_ASSETS):
            return self._house.site.serve(path.removeprefix(_ASSETS), encodings)
        return self._house.site.serve_embed(encodings) if path == _EMBED else None

    async def _answer(self, request: PageRequest, visitor: Visitor | None) -> Answer:
        path = request.path
        if path == _ENTER:
            return await self._sessions.enter(request)
        if visitor is None:
            return self._used_up() if path == APPROVE_PATH and TICKET in request.query else self._ended()
        if path == _LEAVE and request.method == "POST":
            return await self._sessions.leave(request, visitor)
        if path == _TICKETS and request.method == "POST":
            return await self._sessions.ticket(request, visitor)
        if path in ("/portal", "/portal/"):
            return see_other(self._sessions.first_page(visitor.session))
        return await self._page(request, visitor)

    async def _page(self, request: PageRequest, visitor: Visitor) -> Answer:
        route, params = self._find(request)
        if route is None or not has_page(visitor.session.pages, route.page):
            return self.message(
                404, "There is no such page", "Nothing is at this address, or it is not for you to see.",
                "Go back to where you came from.", back="/portal",
            )
        sight = visitor.session.sight(route.page)
        if not is_enough(sight, route.needs):
            who = "Ask an owner of this workspace." if route.page is Page.DATA else (
                "Ask an owner or an admin of this workspace."
            )
            return self.message(
                403, "This is for other roles", "Your role does not allow this.", who, back="/portal",
            )
        if request.method == "POST" and (wrong := self._sessions.check_change(request, visitor)) is not None:
            return self.message(403, "This form was not sent from here", wrong, "Reload the page and try again.",
                                back="/portal")
        desk = self._house.desk
        workspace = await desk.workspaces.find(visitor.session.workspace_id)
        visit = Visit(
            house=self._house, session=visitor.session, secret=visitor.secret,
            request=replace(request, params=params), page=route.page, sight=sight, workspace=workspace,
            status=await desk.status.show(workspace),
        )
        return await route.handler(visit)

    def _find(self, request: PageRequest) -> tuple[PortalRoute | None, Mapping[str, str]]:
        method = "GET" if request.method == "HEAD" else request.method
        for pattern, route in self._routes:
            match = pattern.fullmatch(request.path)
            if match is not None and route.method == method:
                return route, match.groupdict()
        return None, {}

    def _ended(self) -> Answer:
        """No session, or one that is over: the way back in is the host's."""
        return self.message(
            401, "Session ended", "You are not signed in to these pages any more. Nothing was lost that was saved.",
            "Open them again from {product}.", link=self._house.reopen_url, link_text="Reopen",
        )

    def _used_up(self) -> Answer:
        """The page by which a sign-in leaves a frame, without a ticket that is good."""
        return self.message(
            410, "This sign-in cannot be begun", "Its page opens once, within ten minutes. Nothing was changed.",
            "Go back to the page with your AI keys and choose Sign in with OpenRouter again.",
            link=self._house.reopen_url, link_text="Reopen",
        )

    def _told(self, problem: Problem) -> Answer:
        status = PROBLEM_STATUSES[problem.code]
        title = {404: "There is no such page", 409: "This has changed meanwhile"}.get(status, "This was not done")
        if problem.code in _LINKS:
            # Whoever comes by a link has no page of ours to go back to.
            return self.message(
                status, "This link opens nothing", problem.message, problem.fix, link=self._house.reopen_url,
                link_text="Reopen",
            )
        return self.message(status, title, problem.message, problem.fix, back="/portal")

    def message(
        self, status: int, title: str, sentence: str, fix: str, *, back: str = "", link: str = "", link_text: str = "",
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """A page without a session's header: for those whom we do not know, or whose page broke."""
        say = self._house.words
        text = self._house.site.render(
            "portal/outside.html", title=say(title), sentence=say(sentence), back=back, link=link,
            fix=say(fix, product=self._house.product.name),
            link_text=say(link_text), product=self._house.product, theme="auto",
        )
        return html(text, status, headers)


def _store_problem(error: StoreError | NotFound | Conflict) -> Problem:
    if isinstance(error, NotFound):
        return Problem(ProblemCode.NOT_FOUND, "There is no such thing in this workspace.", "Go back and reload.")
    if isinstance(error, Conflict):
        return Problem(ProblemCode.CONFLICT, "The change contradicts what is stored now.", "Reload the page.")
    return Problem(
        ProblemCode.STORE_UNAVAILABLE, "The books cannot be written now, so nothing was changed.",
        "Try again in a minute.",
    )
