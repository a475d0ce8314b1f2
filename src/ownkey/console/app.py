"""The console's door: who asks, which page, may they, is the form theirs; then the page's own function.

Whoever is not signed in is led to the sign-in page and, from there, back. Whatever goes wrong ends in a page of ours.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlencode

from starlette.routing import compile_path

from ownkey.console import cookies
from ownkey.console.account import confirm_url
from ownkey.console.routes import ROUTES
from ownkey.console.signin import OPEN_ROUTES
from ownkey.console.visit import SESSION_COOKIE, ConsoleHouse, ConsoleRoute, ConsoleVisit, Guest, OpenRoute
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.errors import Conflict, NotFound, StoreError
from ownkey.domain.operators import SIGN_IN_PATH, OperatorRole, is_csrf_token, own_path
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

log = logging.getLogger("ownkey.console")

CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"
PASSIVE_HEADER = "x-ownkey-passive"
"""On requests that a page makes by itself (a live tail): they do not keep a session alive."""

_METHODS = ("GET", "HEAD", "POST")
_OWN_SITES = frozenset({"same-origin", "none"})


class ConsoleApp:
    """The ASGI callable for every path under `/console`."""

    def __init__(
        self, house: ConsoleHouse, routes: Sequence[ConsoleRoute] = ROUTES,
        open_routes: Sequence[OpenRoute] = OPEN_ROUTES,
    ) -> None:
        self._house = house
        self._open: dict[tuple[str, str], OpenRoute] = {(route.method, route.path): route for route in open_routes}
        self._routes = [(compile_path(route.path)[0], route) for route in routes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            request = await read_request(scope, receive, self._house.staff.rules.proxies)
        except HungUp:
            return
        except (BadForm, BodyTooLarge, BodyStalled):
            answer = self.message(
                400, "This form cannot be read", "What was sent is too large, or is no form of this page.",
                "Go back, reload the page and try again.",
            )
        else:
            answer = await self._answer(request, request.address)
        await send_answer(answer, send, policy=content_policy(), head_only=scope["method"] == "HEAD")

    async def _answer(self, request: PageRequest, address: str) -> Answer:
        if request.method not in _METHODS:
            return self.message(405, "Not this way", "Pages are read and their forms sent; nothing else.", "",
                                headers=[("allow", ", ".join(_METHODS))])
        try:
            return await self._serve(request, address)
        except Problem as problem:
            return self._told(problem, request)
        except Refused as refused:
            return self._told(Problem(ProblemCode.INVALID, refused.refusal.message, refused.refusal.fix), request)
        except StoreError as error:
            return self._told(_store_problem(error), request)
        except Exception as error:
            error_id = self._house.clock.new_id("err")
            log.error("a page failed: %s in %s", error_id, type(error).__name__, exc_info=error)
            return self.message(
                500, "Something went wrong on our side", "Nothing is known to have changed.",
                f"Reload the page. If it repeats, look for this id in the server's log: {error_id}.",
            )

    async def _serve(self, request: PageRequest, address: str) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        path = request.path.rstrip("/") or request.path
        if method == "POST" and not self._from_here(request):
            return self._foreign("This form was sent from another site, so nothing was changed.")
        secret = cookies.get(request, SESSION_COOKIE)
        session = await self._house.staff.sessions.find(secret, passive=PASSIVE_HEADER in request.headers)
        opened = self._open.get((method, path))
        if opened is not None:
            return await opened.handler(Guest(self._house, request, address, session, secret))
        if session is None:
            return self._to_sign_in(request)
        if method == "POST" and not is_csrf_token(secret, _token(request)):
            return self._foreign("This form belongs to another visit, so nothing was changed.")
        route, params = self._find(method, path)
        if route is None:
            return self.message(404, "There is no such page", "Nothing is at this address.",
                                "Go back to where you came from.", back="/console")
        visit = ConsoleVisit(self._house, replace(request, params=params), address, session, secret)
        if route.needs is OperatorRole.OPS:
            if not visit.is_ops:
                await self._house.desk.audit.note_refused(None, f"{method} {route.path}", visit.actor)
            self._house.staff.sessions.require_ops(session)
        if route.fresh and not visit.is_fresh:
            if method == "GET":
                return see_other(confirm_url(request.with_query()))
            self._house.staff.sessions.require_fresh(session)
        return await route.handler(visit)

    def _find(self, method: str, path: str) -> tuple[ConsoleRoute | None, Mapping[str, str]]:
        for pattern, route in self._routes:
            match = pattern.fullmatch(path)
            if match is not None and route.method == method:
                return route, match.groupdict()
        return None, {}

    def _from_here(self, request: PageRequest) -> bool:
        """By what browsers say of themselves and no page can forge; one that says nothing is judged by its token. Our
        own forms send the origin "null", because our pages tell nobody where somebody comes from."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if site is not None and site not in _OWN_SITES:
            return False
        if origin == "null":
            return site == "same-origin"
        return origin is None or origin in self._house.address.origins

    def _to_sign_in(self, request: PageRequest) -> Answer:
        if request.method != "POST":
            path = own_path(request.with_query())
            return see_other(SIGN_IN_PATH if path == "/console" else f"{SIGN_IN_PATH}?{urlencode({'path': path})}")
        return self.message(
            401, "Session ended", "You are not signed in any more, so this was not done.",
            "Sign in in another tab, then come back to this form and send it again.", link=SIGN_IN_PATH,
            link_text="Sign in",
        )

    def _told(self, problem: Problem, request: PageRequest) -> Answer:
        status = PROBLEM_STATUSES[problem.code]
        if problem.code is ProblemCode.REAUTHENTICATION_REQUIRED:
            return self.message(
                status, "Confirm who you are", problem.message,
                "Confirm it in another tab, then come back to this form and send it again.",
                link=confirm_url("/console/account"), link_text="Confirm who you are",
            )
        title = {404: "There is no such page", 409: "This has changed meanwhile"}.get(status, "This was not done")
        if problem.code in (ProblemCode.LINK_UNKNOWN, ProblemCode.LINK_USED, ProblemCode.LINK_EXPIRED):
            title = "This link does not work"
        wait = problem.retry_after_s
        return self.message(
            status, title, problem.message, problem.fix, back="/console",
            headers=[] if wait is None else [("retry-after", str(wait))],
        )

    def _foreign(self, sentence: str) -> Answer:
        return self.message(403, "This form was not sent from here", sentence, "Reload the page and try again.",
                            back="/console")

    def message(
        self, status: int, title: str, sentence: str, fix: str, *, back: str = "", link: str = "", link_text: str = "",
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """A page without a session's header: for those whom we do not know, or whose page broke."""
        say = self._house.site.words
        text = self._house.site.render(
            "portal/outside.html", title=say(title), sentence=say(sentence), fix=say(fix), back=back, link=link,
            link_text=say(link_text), product=self._house.product, theme="auto",
        )
        return html(text, status, headers)


def _token(request: PageRequest) -> str:
    return request.form.get(CSRF_FIELD) or request.headers.get(CSRF_HEADER, "")


def _store_problem(error: StoreError) -> Problem:
    if isinstance(error, NotFound):
        return Problem(ProblemCode.NOT_FOUND, "There is no such thing.", "Go back and reload.")
    if isinstance(error, Conflict):
        return Problem(ProblemCode.CONFLICT, "The change contradicts what is stored now.", "Reload the page.")
    return Problem(
        ProblemCode.STORE_UNAVAILABLE, "The books cannot be written now, so nothing was changed.",
        "Try again in a minute.",
    )
