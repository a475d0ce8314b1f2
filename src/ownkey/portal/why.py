"""Why is AI silent? Every task's gates in the order in which a call meets them; the first that is shut has its one fix.

Members read this page too: it shows states and what to do, and no amount, hint or cap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ownkey.control.gates import Gate, GateName, GateState, TaskGates
from ownkey.domain.portal import Page, Sight
from ownkey.domain.refusals import Refusal
from ownkey.domain.workspace import Role
from ownkey.pages.http import Answer
from ownkey.portal.visit import PortalRoute, Visit, host_url, own_url


@dataclass(frozen=True, slots=True)
class Fix:
    """What puts the first shut gate right. `url` "": only words. `outside`: it leads to the host's own pages."""

    text: str
    label: str = ""
    url: str = ""
    outside: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One gate as it is shown. `word` says the state without colour."""

    label: str
    state: GateState
    word: str
    sentence: str
    fix: Fix | None = None


@dataclass(frozen=True, slots=True)
class TaskStory:
    """`code` is what the task's next small call gets, "" for an answer; `sentence` says it. `off`: somebody wants it
    so."""

    name: str
    title: str
    code: str
    sentence: str
    lines: tuple[Line, ...]
    off: bool = False


async def show(visit: Visit) -> Answer:
    found = await visit.desk.gates.show(visit.workspace)
    asked = visit.request.asks("task")
    stories = [_story(visit, one) for one in found if asked in ("", one.task.name)]
    silent = [story for story in stories if story.code and not story.off]
    return visit.show(
        "why.html", title=visit.say("Why is AI silent?"), stories=stories, silent=silent,
        answering=[story for story in stories if not story.code],
        asked=asked if len(stories) == 1 else "", shared=_shared(visit, found), sentence=_sentence(visit),
        explain=visit.may_see(Page.EXPLAIN),
        busy=next((visit.say(gate.sentence) for one in found for gate in one.gates if gate.busy), ""),
    )


def _sentence(visit: Visit) -> str:
    """Who pays, for those who see hints; for the others what is wrong, in words without figures."""
    if visit.session.role is not Role.MEMBER:
        return visit.status.sentence
    return "" if visit.status.refusal is None else visit.status.refusal.message


def _shared(visit: Visit, found: Sequence[TaskGates]) -> Line | None:
    """The one gate that silences every task that is switched on, if it is one and the same."""
    first = [one.first for one in found]
    shut = [gate for gate in first if gate is not None and gate.name is not GateName.TASK]
    on = [gate for gate in first if gate is None or gate.name is not GateName.TASK]
    if not on or len(shut) != len(on) or len({(gate.name, gate.sentence) for gate in shut}) != 1:
        return None
    return _line(visit, shut[0], first=True)


def _story(visit: Visit, found: TaskGates) -> TaskStory:
    lines = tuple(_line(visit, gate, first=gate is found.first) for gate in found.gates)
    if found.first is None or found.refusal is None:
        return TaskStory(found.task.name, found.task.title, "", visit.say("Its calls are sent."), lines)
    return TaskStory(
        found.task.name, found.task.title, found.refusal.code.value, visit.say(found.first.sentence), lines,
        found.first.name is GateName.TASK,
    )


def _line(visit: Visit, gate: Gate, *, first: bool) -> Line:
    fix = None
    if first and gate.refusal is not None:
        fix = fix_of(visit, gate.refusal)
    return Line(visit.say(_LABELS[gate.name]), gate.state, visit.say(_WORDS[gate.state]), visit.say(gate.sentence), fix)


def fix_of(visit: Visit, refusal: Refusal) -> Fix:
    """A button for those who may press what it leads to; the others are told whom to ask."""
    if not visit.session_manages:
        return Fix(visit.say("Ask an owner or an admin of this workspace."))
    if not refusal.flow:
        return Fix(refusal.fix)
    label, url = visit.say(_BUTTONS[refusal.flow.partition(":")[0]]), own_url(visit, refusal.flow)
    if url:
        return Fix(refusal.fix, label, url)
    outside = host_url(visit, refusal.flow)
    return Fix(refusal.fix, label, outside, outside=True) if outside else Fix(refusal.fix)


_LABELS: Mapping[GateName, str] = {
    GateName.WORKSPACE: "Workspace", GateName.TASK: "Feature", GateName.PLAN: "Plan and add-on",
    GateName.BALANCE: "Minimum balance", GateName.PAYER: "Payer and key", GateName.CAP: "Spend cap",
    GateName.CREDITS: "Credits", GateName.ROUTE: "Provider",
}
_WORDS: Mapping[GateState, str] = {
    GateState.PASS: "Open", GateState.FAIL: "Shut", GateState.NOT_APPLICABLE: "Does not apply",
}
_BUTTONS: Mapping[str, str] = {
    "credential": "Open the key's card", "addon": "Open Plans & Pricing", "credits": "Add credits",
    "cap": "Open the spend cap", "feature": "Open the switch", "receipt": "Open the receipt",
}

ROUTES = (PortalRoute("GET", "/portal/why", Page.WHY, Sight.PARTLY, show),)
