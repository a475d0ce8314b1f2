"""An operator's own page: sessions, password, recovery codes, keyboard; and the page that asks who they are again."""

from typing import Any
from urllib.parse import urlencode

from ownkey.console import cookies
from ownkey.console.signin import LEAVE_PATH, confirm_page
from ownkey.console.visit import SESSION_COOKIE, ConsoleRoute, ConsoleVisit
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.operators import SIGN_IN_PATH, own_path
from ownkey.pages.http import Answer, see_other
from ownkey.pages.statuses import PROBLEM_STATUSES

ACCOUNT_PATH = "/console/account"
CONFIRM_PATH = "/console/confirm"


async def show_account(visit: ConsoleVisit) -> Answer:
    return await _account(visit)


async def leave(visit: ConsoleVisit) -> Answer:
    await visit.house.staff.sessions.sign_out(visit.session)
    return _signed_out()


async def leave_everywhere(visit: ConsoleVisit) -> Answer:
    await visit.house.staff.sessions.sign_out_everywhere(visit.session)
    return _signed_out()


async def end_session(visit: ConsoleVisit) -> Answer:
    wanted = visit.request.field("session")
    await visit.house.staff.sessions.end(visit.session, wanted)
    return _signed_out() if wanted == visit.session.id else see_other(f"{ACCOUNT_PATH}?done=ended")


async def set_shortcuts(visit: ConsoleVisit) -> Answer:
    await visit.house.staff.sessions.set_shortcuts(visit.session, visit.request.field("shortcuts") == "on")
    return see_other(ACCOUNT_PATH)


async def change_password(visit: ConsoleVisit) -> Answer:
    form = visit.request.form
    try:
        await visit.house.staff.sign_in.change_password(visit.session, form.get("password", ""), form.get("again", ""))
    except Problem as problem:
        if problem.code not in (ProblemCode.INVALID, ProblemCode.SIGN_IN_BUSY):
            raise
        return await _account(visit, problem)
    return see_other(f"{ACCOUNT_PATH}?done=password")


async def new_recovery_codes(visit: ConsoleVisit) -> Answer:
    """The codes are in the answer itself: they are kept nowhere that a redirect could fetch them from."""
    codes = await visit.house.staff.sign_in.new_recovery_codes(visit.session)
    house = visit.house
    text = house.site.render(
        "console/signin_codes.html", title=house.site.words("Your recovery codes"), codes=codes, path=ACCOUNT_PATH,
        product=house.product, theme="auto",
    )
    return Answer(200, text.encode())


async def show_confirm(visit: ConsoleVisit) -> Answer:
    return confirm_page(visit, own_path(visit.request.asks("path")))


async def confirm(visit: ConsoleVisit) -> Answer:
    path, form = own_path(visit.request.field("path")), visit.request.form
    try:
        await visit.house.staff.sign_in.reauthenticate(
            visit.session, form.get("password", ""), visit.request.field("code"), visit.address
        )
    except Problem as problem:
        if problem.code is ProblemCode.SESSION_ENDED:
            raise
        return confirm_page(visit, path, problem)
    return see_other(path)


def confirm_url(path: str) -> str:
    """The page that asks for a proof of identity and then leads to `path`."""
    return f"{CONFIRM_PATH}?{urlencode({'path': own_path(path)})}"


async def _account(visit: ConsoleVisit, problem: Problem | None = None) -> Answer:
    staff = visit.house.staff
    return visit.page(
        "console/signin_account.html", "Account", sessions=await staff.sessions.list(visit.session),
        codes_left=await staff.sign_in.recovery_codes_left(visit.session), fresh=visit.is_fresh,
        confirm_url=confirm_url(ACCOUNT_PATH), problem=problem, done=visit.request.asks("done"), **_told(problem),
    )


def _told(problem: Problem | None) -> dict[str, Any]:
    if problem is None:
        return {}
    return {"status": 422 if problem.code is ProblemCode.INVALID else PROBLEM_STATUSES[problem.code]}


def _signed_out() -> Answer:
    return see_other(f"{SIGN_IN_PATH}?left=1", [cookies.take_away(SESSION_COOKIE)])


ACCOUNT_ROUTES: tuple[ConsoleRoute, ...] = (
    ConsoleRoute("GET", ACCOUNT_PATH, show_account),
    ConsoleRoute("POST", LEAVE_PATH, leave),
    ConsoleRoute("POST", f"{LEAVE_PATH}/everywhere", leave_everywhere),
    ConsoleRoute("POST", f"{ACCOUNT_PATH}/session", end_session),
    ConsoleRoute("POST", f"{ACCOUNT_PATH}/shortcuts", set_shortcuts),
    ConsoleRoute("POST", f"{ACCOUNT_PATH}/password", change_password),
    ConsoleRoute("POST", f"{ACCOUNT_PATH}/recovery", new_recovery_codes),
    ConsoleRoute("GET", CONFIRM_PATH, show_confirm),
    ConsoleRoute("POST", CONFIRM_PATH, confirm),
)
