"""The ways into the console: password and code, one-time links, the sign-in provider. None of them needs a script.

A form that is refused comes back with what was typed, but for passwords and codes.
"""

import io
from typing import Any
from urllib.parse import urlencode

import segno

from ownkey.console import cookies
from ownkey.console.visit import SESSION_COOKIE, ConsoleVisit, Guest, OpenRoute
from ownkey.control.oidc import Unconfirmed
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.oidc import CALLBACK_PATH
from ownkey.domain.operators import SET_UP_PATH, SIGN_IN_PATH, own_path
from ownkey.pages.http import Answer, PageRequest, see_other
from ownkey.pages.statuses import PROBLEM_STATUSES

CODE_PATH = f"{SIGN_IN_PATH}/code"
APP_PATH = f"{SET_UP_PATH}/app"
QR_PATH = f"{SET_UP_PATH}/qr.svg"
OIDC_PATH = "/console/oidc/start"
LEAVE_PATH = "/console/leave"


# --- password, then code


async def show_sign_in(guest: Guest) -> Answer:
    path = own_path(guest.request.asks("path"))
    if guest.session is not None:
        return see_other(path)
    return _sign_in(guest, path, left=guest.request.asks("left") == "1")


async def check_password(guest: Guest) -> Answer:
    form, path = guest.request.form, own_path(guest.request.field("path"))
    email = guest.request.field("email")
    try:
        step = await guest.house.staff.sign_in.check_password(email, form.get("password", ""), guest.address)
    except Problem as problem:
        return _sign_in(guest, path, problem, email=email[:254])
    return see_other(_with_path(CODE_PATH, path), [cookies.put(cookies.STEP_COOKIE, step)])


async def show_code(guest: Guest) -> Answer:
    path = own_path(guest.request.asks("path"))
    if not await guest.house.staff.sign_in.is_waiting(cookies.get(guest.request, cookies.STEP_COOKIE)):
        return see_other(_with_path(SIGN_IN_PATH, path))
    return guest.page("console/signin_code.html", title=guest.house.site.words("Enter your code"), path=path,
                      problem=None)


async def check_code(guest: Guest) -> Answer:
    path, say = own_path(guest.request.field("path")), guest.house.site.words
    try:
        _, secret = await guest.house.staff.sign_in.check_code(
            cookies.get(guest.request, cookies.STEP_COOKIE), guest.request.field("code"), guest.address,
            replaces=cookies.get(guest.request, SESSION_COOKIE),
        )
    except Problem as problem:
        if problem.code is ProblemCode.SIGN_IN_EXPIRED:
            return _sign_in(guest, path, problem)
        return guest.page("console/signin_code.html", title=say("Enter your code"), path=path, problem=problem,
                          **_told(problem))
    return see_other(path, [cookies.put(SESSION_COOKIE, secret), cookies.take_away(cookies.STEP_COOKIE)])


def _sign_in(
    guest: Guest, path: str, problem: Problem | None = None, *, email: str = "", left: bool = False
) -> Answer:
    staff = guest.house.staff
    return guest.page(
        "console/signin.html", title=guest.house.site.words("Sign in"), path=path, problem=problem, email=email,
        left=left, passwords=staff.rules.passwords,
        oidc_url=None if staff.oidc is None else _with_path(OIDC_PATH, path), **_told(problem),
    )


# --- a one-time link


async def show_set_up(guest: Guest) -> Answer:
    """The link's address. Looking at it uses nothing up; the code leaves the address bar at once. What is no code of
    ours gets no further: its text must not reach a header."""
    request = guest.request
    code = request.asks("code")
    if code:
        if request.method == "HEAD" or is_prefetch(request):
            return Answer()
        await guest.house.staff.set_up.find(code)
        return see_other(SET_UP_PATH, [cookies.put(cookies.SET_UP_COOKIE, code)])
    found = await guest.house.staff.set_up.find(_set_up_code(guest))
    return _password(guest, found.operator)


async def choose_password(guest: Guest) -> Answer:
    code, form = _set_up_code(guest), guest.request.form
    set_up = guest.house.staff.set_up
    found = await set_up.find(code)
    try:
        await set_up.choose_password(code, form.get("password", ""), form.get("again", ""))
    except Problem as problem:
        if problem.code not in (ProblemCode.INVALID, ProblemCode.SIGN_IN_BUSY):
            raise
        return _password(guest, found.operator, problem)
    return see_other(APP_PATH)


async def show_app(guest: Guest) -> Answer:
    code = _set_up_code(guest)
    found = await guest.house.staff.set_up.find(code)
    if found.totp is None:
        return see_other(SET_UP_PATH)
    return await _app(guest, code)


async def show_qr(guest: Guest) -> Answer:
    """The seed as a picture, for as long as the link works, at an address of its own: pages load nothing inline."""
    enrolment = await guest.house.staff.set_up.enrolment(_set_up_code(guest))
    picture = io.BytesIO()
    segno.make(enrolment.uri, error="m", micro=False).save(
        picture, kind="svg", scale=5, border=4, dark="#000", light="#fff", xmldecl=False, svgclass=None, lineclass=None,
    )
    return Answer(200, picture.getvalue(), "image/svg+xml", [("cross-origin-resource-policy", "same-origin")])


async def check_app(guest: Guest) -> Answer:
    """The first code. The recovery codes are in the answer itself: they are kept nowhere that a redirect could fetch
    them from."""
    code, say = _set_up_code(guest), guest.house.site.words
    try:
        enrolled = await guest.house.staff.set_up.finish(
            code, guest.request.field("code"), guest.address, replaces=cookies.get(guest.request, SESSION_COOKIE)
        )
    except Problem as problem:
        if problem.code is ProblemCode.INVALID and problem.param == "password":
            return see_other(SET_UP_PATH)
        if problem.code not in (ProblemCode.INVALID, ProblemCode.SIGN_IN_LOCKED):
            raise
        return await _app(guest, code, problem)
    return guest.page(
        "console/signin_codes.html", title=say("Your recovery codes"), codes=enrolled.recovery_codes, path="/console",
        headers=[cookies.put(SESSION_COOKIE, enrolled.secret), cookies.take_away(cookies.SET_UP_COOKIE)],
    )


def _set_up_code(guest: Guest) -> str:
    return cookies.get(guest.request, cookies.SET_UP_COOKIE)


def _password(guest: Guest, operator: Any, problem: Problem | None = None) -> Answer:
    return guest.page("console/signin_setup.html", title=guest.house.site.words("Choose a password"),
                      operator=operator, problem=problem, **_told(problem))


async def _app(guest: Guest, code: str, problem: Problem | None = None) -> Answer:
    enrolment = await guest.house.staff.set_up.enrolment(code)
    return guest.page("console/signin_app.html", title=guest.house.site.words("Add your authenticator app"),
                      enrolment=enrolment, qr_url=QR_PATH, problem=problem, **_told(problem))


# --- the sign-in provider


async def start_oidc(guest: Guest) -> Answer:
    """A link and no form: our content policy keeps a form from ending at another site. Nothing changes by it."""
    oidc = guest.house.staff.oidc
    if oidc is None:
        raise _no_provider()
    if guest.request.method == "HEAD" or is_prefetch(guest.request):
        return Answer()
    fresh = guest.request.asks("fresh") == "1"
    if fresh and guest.session is None:
        return see_other(_with_path(SIGN_IN_PATH, own_path(guest.request.asks("path"))))
    begun = await oidc.start(guest.request.asks("path"), guest.session if fresh else None)
    return see_other(begun.url, [cookies.put(cookies.OIDC_COOKIE, begun.sealed)])


async def come_back(guest: Guest) -> Answer:
    oidc, request = guest.house.staff.oidc, guest.request
    if oidc is None:
        raise _no_provider()
    if request.method == "HEAD" or is_prefetch(request):
        return Answer(503)
    gone = cookies.take_away(cookies.OIDC_COOKIE)
    try:
        back = await oidc.finish(
            cookies.get(request, cookies.OIDC_COOKIE), request.query, guest.address, session=guest.session,
            replaces=cookies.get(request, SESSION_COOKIE),
        )
    except Unconfirmed as error:
        assert guest.session is not None, "only who is signed in is asked again"
        answer = confirm_page(
            ConsoleVisit(guest.house, request, guest.address, guest.session, guest.secret), error.path, error.problem
        )
        return Answer(answer.status, answer.body, answer.content_type, [*answer.headers, gone])
    except Problem as problem:
        answer = _sign_in(guest, "/console", problem)
        return Answer(answer.status, answer.body, answer.content_type, [*answer.headers, gone])
    opened = [cookies.put(SESSION_COOKIE, back.secret)] if back.secret else []
    return see_other(back.path, [*opened, gone])


def confirm_page(visit: ConsoleVisit, path: str, problem: Problem | None = None) -> Answer:
    """Who are you, again: by password and code, or at the provider; then on to `path`."""
    oidc = None
    if visit.session.via == "oidc":
        oidc = f"{OIDC_PATH}?{urlencode({'path': path, 'fresh': '1'})}"
    return visit.page(
        "console/signin_confirm.html", "Confirm who you are", path=path, oidc_url=oidc, problem=problem,
        **_told(problem),
    )


def _no_provider() -> Problem:
    return Problem(ProblemCode.NOT_FOUND, "Nobody signs in through a provider here.", "Sign in with your password.")


# --- parts


def is_prefetch(request: PageRequest) -> bool:
    """Whether a browser fetches ahead of a person who has not clicked."""
    purposes = (request.headers.get(name, "") for name in ("sec-purpose", "purpose", "x-purpose", "x-moz"))
    return any(word in value.lower() for value in purposes for word in ("prefetch", "prerender", "preview"))


def _with_path(url: str, path: str) -> str:
    return url if path == "/console" else f"{url}?{urlencode({'path': path})}"


def _told(problem: Problem | None) -> dict[str, Any]:
    """Status and headers of a page that shows a problem."""
    if problem is None:
        return {}
    status = 422 if problem.code is ProblemCode.INVALID else PROBLEM_STATUSES[problem.code]
    wait = problem.retry_after_s
    return {"status": status, "headers": [] if wait is None else [("retry-after", str(wait))]}


OPEN_ROUTES: tuple[OpenRoute, ...] = (
    OpenRoute("GET", SIGN_IN_PATH, show_sign_in),
    OpenRoute("POST", SIGN_IN_PATH, check_password),
    OpenRoute("GET", CODE_PATH, show_code),
    OpenRoute("POST", CODE_PATH, check_code),
    OpenRoute("GET", SET_UP_PATH, show_set_up),
    OpenRoute("POST", SET_UP_PATH, choose_password),
    OpenRoute("GET", APP_PATH, show_app),
    OpenRoute("POST", APP_PATH, check_app),
    OpenRoute("GET", QR_PATH, show_qr),
    OpenRoute("GET", OIDC_PATH, start_oidc),
    OpenRoute("GET", CALLBACK_PATH, come_back),
)
"""Every address of the console that needs no session."""
