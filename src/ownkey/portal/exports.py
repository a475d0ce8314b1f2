"""Exports: files that take longer than a page, with what is known of their progress, kept for a day after they end.

Whoever may read Activity may start one, and stops what they have started; owners and admins stop any. The archive of a
whole workspace is its owners' own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from ownkey.control.export_work import wish_of
from ownkey.control.exports import STREAM_MOST
from ownkey.control.problems import Problem, ProblemCode, not_found
from ownkey.control.work import WorkView
from ownkey.domain.phrases import Phrase
from ownkey.domain.portal import Page, Sight
from ownkey.domain.work import FILE_KEPT_MS, OPEN, WorkKind, WorkState
from ownkey.pages.http import Answer
from ownkey.pages.statuses import PROBLEM_STATUSES
from ownkey.portal.activity import FILTERS, KEY_TYPED
from ownkey.portal.links import is_clean
from ownkey.portal.visit import PortalRoute, Visit

PATH: Final = "/portal/exports"
COME_AGAIN_S: Final = 3
_PAGES: Final[Mapping[WorkKind, Page]] = {WorkKind.EXPORT: Page.EXPORTS, WorkKind.REPLAY: Page.EXPLAIN}
"""Who may see a page may see its work."""


@dataclass(frozen=True, slots=True)
class Line:
    """One piece of work as its row tells it. `what` names what is in it; `by` who asked, without anybody's name."""

    view: WorkView
    what: str
    by: str
    state: str
    badge: str
    size: str
    may_cancel: bool
    until_ms: int | None
    url: str


async def show(visit: Visit) -> Answer:
    """All of this workspace's, newest first; with a filter in the address, the offer to export what it finds."""
    given, problem = _given(visit.request.asks)
    return await _list(visit, given, status=400 if problem else 200, problem=problem)


async def _list(
    visit: Visit, given: Mapping[str, str], *, status: int = 200, problem: Problem | None = None
) -> Answer:
    lines = [
        _line(visit, view) for view in await visit.desk.work.list(visit.workspace) if may_see(visit, view.work.kind)
    ]
    count = None
    if given and problem is None:
        try:
            query = visit.desk.activity.read_filter(visit.workspace, given)
            count = await visit.desk.exports.count(visit.workspace, query)
        except Problem as found:
            status, problem = PROBLEM_STATUSES[found.code], found
    running = any(line.view.work.state in OPEN for line in lines)
    return visit.show(
        "exports.html", title=visit.say("Exports"), status=status, lines=lines, given=given, found=count,
        problem=problem, path=PATH, refresh_s=COME_AGAIN_S if running and not given else None, most=STREAM_MOST,
        activity_url=f"/portal/activity?{urlencode(given)}" if visit.may_see(Page.ACTIVITY) else "",
        may_start=visit.session.kind == "member", one=None,
    )


async def start(visit: Visit) -> Answer:
    """The same export that is open already is found again: a second click starts nothing."""
    check_person(visit)
    given, problem = _given(visit.request.field)
    if problem is not None:
        return await _list(visit, given, status=400, problem=problem)
    try:
        query = visit.desk.activity.read_filter(visit.workspace, given)
        view = await visit.desk.work.start(
            visit.workspace, WorkKind.EXPORT, wish_of(query), visit.actor, visit.session.member_id
        )
    except Problem as refused:
        return await _list(visit, given, status=PROBLEM_STATUSES[refused.code], problem=refused)
    return visit.go(f"{PATH}/{view.work.id}")


def _given(read: Callable[[str], str]) -> tuple[Mapping[str, str], Problem | None]:
    """The filters that were sent. A key among them is neither shown nor kept with the work."""
    sent = {name: value for name in FILTERS if (value := read(name))}
    given = {name: value for name, value in sent.items() if is_clean(value)}
    return given, None if given == sent else KEY_TYPED


async def one(visit: Visit) -> Answer:
    """One export: how far it is, or its file."""
    view = await find(visit, visit.request.params["work"])
    if view.work.kind is WorkKind.REPLAY:
        return visit.go(f"/portal/explain/replay/{view.work.id}")
    return visit.show(
        "export.html", title=visit.say(view.name), line=_line(visit, view), path=PATH, may_again=may_again(visit, view),
        refresh_s=COME_AGAIN_S if view.work.state in OPEN else None,
    )


async def again(visit: Visit) -> Answer:
    check_person(visit)
    view = await find(visit, visit.request.params["work"])
    try:
        return visit.go(f"{PATH}/{await start_again(visit, view)}")
    except Problem as refused:
        return await _list(visit, {}, status=PROBLEM_STATUSES[refused.code], problem=refused)


async def cancel(visit: Visit) -> Answer:
    check_person(visit)
    view = await find(visit, visit.request.params["work"])
    if view.can_cancel and not may_cancel(visit, view):
        raise Problem(
            ProblemCode.ROLE_REQUIRED, visit.say("Somebody else has started this."),
            visit.say("Ask them, or an owner or an admin of this workspace, to cancel it."),
        )
    # What has ended meanwhile stays as it is.
    await visit.desk.work.cancel(visit.workspace, view.work.id, visit.actor)
    return visit.go(visit.request.path.rpartition("/")[0])


async def fetch(visit: Visit) -> Answer:
    """The finished file, as it lies on the disk."""
    view = await find(visit, visit.request.params["work"])
    name, content = await visit.desk.work.fetch(visit.workspace, view.work.id)
    kind = "application/zip" if name.endswith(".zip") else "text/csv; charset=utf-8; header=present"
    return Answer(200, content, kind, [("content-disposition", f'attachment; filename="{name}"')])


# --- what a visit may see and do


def may_see(visit: Visit, kind: WorkKind) -> bool:
    if kind is WorkKind.EXPORT_ALL:
        # Not those who only look at the owner's pages either: an archive is taken away.
        return visit.session.sight(Page.DATA) is Sight.MANAGE
    page = _PAGES.get(kind)
    return page is not None and visit.may_see(page)


def may_cancel(visit: Visit, view: WorkView) -> bool:
    return view.can_cancel and visit.session.kind == "member" and (
        visit.session_manages or view.work.member_id == visit.session.member_id
    )


def may_again(visit: Visit, view: WorkView) -> bool:
    """Whether the same can be wished for once more: it came to nothing, or what it made is not kept any more."""
    work = view.work
    lost = work.state is WorkState.DONE and work.kind is not WorkKind.REPLAY and not view.can_fetch
    return (lost or work.state in (WorkState.FAILED, WorkState.CANCELLED)) and visit.session.kind == "member"


async def start_again(visit: Visit, view: WorkView) -> str:
    """The same wish as new work of whoever asks now, or the work of it that is open already; its id. Raises Problem."""
    begun = await visit.desk.work.start(
        visit.workspace, view.work.kind, view.work.wish, visit.actor, visit.session.member_id
    )
    return begun.work.id


async def find(visit: Visit, work_id: str) -> WorkView:
    """Raises Problem; what this visit may not see does not exist for it."""
    view = await visit.desk.work.show(visit.workspace, work_id)
    if not may_see(visit, view.work.kind):
        raise not_found("work", work_id)
    return view


def check_person(visit: Visit) -> None:
    """An operator who looks reads only."""
    if visit.session.kind != "member":
        raise Problem(
            ProblemCode.ROLE_REQUIRED, visit.say("You are looking at this workspace; nothing can be started here."),
            visit.say("A member of the workspace starts it."),
        )


# --- words


def _line(visit: Visit, view: WorkView) -> Line:
    work = view.work
    state, badge = _state(visit, view)
    size = work.result.get("bytes")
    return Line(
        view, _what(visit, view), started_by(visit, view), state, badge,
        _size(size) if isinstance(size, int) else "", may_cancel(visit, view),
        work.ended_at_ms + FILE_KEPT_MS if view.can_fetch and work.ended_at_ms is not None else None,
        f"/portal/explain/replay/{work.id}" if work.kind is WorkKind.REPLAY else f"{PATH}/{work.id}",
    )


def _state(visit: Visit, view: WorkView) -> tuple[str, str]:
    say, work = visit.say, view.work
    if view.progress.stalled:
        return say("Stalled"), "warning"
    return {
        WorkState.WAITING: (say("Waiting"), ""), WorkState.RUNNING: (say("Running"), "primary"),
        WorkState.DONE: (say("Done"), "success"), WorkState.FAILED: (say("Failed"), "danger"),
        WorkState.CANCELLED: (say("Cancelled"), ""),
    }[work.state]


def _what(visit: Visit, view: WorkView) -> str:
    """The filter of an export in words; the name of other work."""
    work = view.work
    if work.kind is not WorkKind.EXPORT:
        return visit.say(view.name)
    if not work.wish:
        return visit.say("All calls")
    told = [
        f"{visit.say(_NAMES[name])} {_value(visit, name, value)}" for name, value in work.wish.items() if name in _NAMES
    ]
    return visit.say("Calls: {filter}", filter=", ".join(told))


def _value(visit: Visit, name: str, value: object) -> str:
    if name == "task" and value in visit.product.tasks:
        return visit.product.tasks[str(value)].title
    if name == "project":
        return visit.workspace.projects.get(str(value), str(value))
    return str(value) or visit.say("none")


_NAMES: Final[Mapping[str, str]] = {
    "since_day": "from", "until_day": "to", "task": "task", "project": "project", "model": "model",
    "provider": "provider", "funding": "paid by", "outcome": "outcome", "code": "code", "credential": "key",
    "conversation": "conversation", "receipt": "receipt",
}


def started_by(visit: Visit, view: WorkView) -> str:
    """Nobody's name or address: members do not learn of each other here."""
    say, work = visit.say, view.work
    if work.member_id and work.member_id == visit.session.member_id:
        return say("You")
    kind = work.started_by.partition(":")[0]
    names = {"member": say("Another member"), "operator": say("The operator")}
    return names.get(kind, visit.product.name)


def _size(size: int) -> str:
    for unit, one_of_them in (("MB", 1_000_000), ("kB", 1_000)):
        if size >= one_of_them:
            whole, rest = divmod(size * 10 // one_of_them, 10)
            return f"{whole:,}.{rest} {unit}"
    return Phrase("{count} bytes", count=size)


ROUTES = (
    PortalRoute("GET", PATH, Page.EXPORTS, Sight.READ, show),
    PortalRoute("POST", PATH, Page.EXPORTS, Sight.READ, start),
    PortalRoute("GET", f"{PATH}/{{work}}", Page.EXPORTS, Sight.READ, one),
    PortalRoute("GET", f"{PATH}/{{work}}/file", Page.EXPORTS, Sight.READ, fetch),
    PortalRoute("POST", f"{PATH}/{{work}}/again", Page.EXPORTS, Sight.READ, again),
    PortalRoute("POST", f"{PATH}/{{work}}/cancel", Page.EXPORTS, Sight.READ, cancel),
)
