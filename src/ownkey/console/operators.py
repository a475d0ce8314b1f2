"""The deployment's staff: added with a link that is shown once, given a role, disabled, reset."""

from collections.abc import Mapping
from typing import Final

from ownkey.console.visit import ConsoleRoute, ConsoleVisit, status_of
from ownkey.control.operators import Invited
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.operators import Operator, OperatorRole
from ownkey.pages.http import Answer

PATH: Final = "/console/operators"
_SHOWN: Final = (ProblemCode.INVALID, ProblemCode.CONFLICT)


async def show(visit: ConsoleVisit) -> Answer:
    return await _page(visit)


async def add(visit: ConsoleVisit) -> Answer:
    """The link is in the answer itself: it is kept nowhere that a redirect could fetch it from."""
    form = visit.request.form
    try:
        made = await visit.desk.operators.add(
            visit.request.field("email"), visit.request.field("name"), visit.request.field("role"), visit.actor
        )
    except Problem as problem:
        return await _page(visit, form, _beside_its_buttons(visit, problem))
    return await _page(visit, made=made)


def _beside_its_buttons(visit: ConsoleVisit, problem: Problem) -> Problem:
    """Who is there already stands in the list of this page: what would be done by a command is a button there."""
    if problem.code is not ProblemCode.CONFLICT or problem.param != "email":
        return problem
    fix = visit.say("Change their role, or make a new link, with the buttons beside them.")
    return Problem(problem.code, problem.message, fix, param=problem.param)


async def ask(visit: ConsoleVisit) -> Answer:
    """Before what cannot be undone by a second click."""
    wanted = await visit.desk.operators.find(visit.request.params["operator"])
    return await _page(visit, asked=wanted, act=visit.request.path.rpartition("/")[2])


async def set_role(visit: ConsoleVisit) -> Answer:
    await _but_oneself(visit)
    await visit.desk.operators.set_role(visit.request.params["operator"], visit.request.field("role"), visit.actor)
    return visit.go(f"{PATH}?done=role")


async def disable(visit: ConsoleVisit) -> Answer:
    await _but_oneself(visit)
    await visit.desk.operators.disable(visit.request.params["operator"], visit.actor)
    return visit.go(f"{PATH}?done=disabled")


async def enable(visit: ConsoleVisit) -> Answer:
    await visit.desk.operators.enable(visit.request.params["operator"], visit.actor)
    return visit.go(f"{PATH}?done=enabled")


async def reset(visit: ConsoleVisit) -> Answer:
    """Password, app, recovery codes and sessions are gone; the new link is in the answer."""
    await _but_oneself(visit)
    try:
        made = await visit.desk.operators.reset(visit.request.params["operator"], visit.actor)
    except Problem as problem:
        return await _page(visit, problem=problem)
    return await _page(visit, made=made)


async def _but_oneself(visit: ConsoleVisit) -> None:
    """Nobody locks themselves out, or takes the last ops role from themselves. Raises Problem."""
    wanted = await visit.desk.operators.find(visit.request.params["operator"])
    if wanted.id == visit.session.operator_id:
        raise Problem(ProblemCode.CONFLICT, "This is you: nobody changes or resets themselves here.",
                      "Ask another operator with the role ops, or use `ownkey operator` on the server.")


async def _page(
    visit: ConsoleVisit, typed: Mapping[str, str] | None = None, problem: Problem | None = None,
    made: Invited | None = None, asked: Operator | None = None, act: str = "",
) -> Answer:
    if problem is not None and problem.code not in _SHOWN:
        raise problem
    return visit.page(
        "console/operators.html", "Operators", status=status_of(problem), operators=await visit.desk.operators.list(),
        roles=[(role.value, role.value) for role in OperatorRole], typed=typed or {}, problem=problem, made=made,
        asked=asked, act=act,
        passwords=visit.house.staff.rules.passwords, base="" if visit.house.address.url else visit.request.origin,
    )


_ONE, _OPS = f"{PATH}/{{operator}}", OperatorRole.OPS

ROUTES: tuple[ConsoleRoute, ...] = (
    ConsoleRoute("GET", PATH, show, _OPS),
    ConsoleRoute("POST", PATH, add, _OPS, fresh=True),
    ConsoleRoute("POST", f"{_ONE}/role", set_role, _OPS, fresh=True),
    ConsoleRoute("GET", f"{_ONE}/disable", ask, _OPS),
    ConsoleRoute("POST", f"{_ONE}/disable", disable, _OPS),
    ConsoleRoute("POST", f"{_ONE}/enable", enable, _OPS, fresh=True),
    ConsoleRoute("GET", f"{_ONE}/reset", ask, _OPS, fresh=True),
    ConsoleRoute("POST", f"{_ONE}/reset", reset, _OPS, fresh=True),
)
