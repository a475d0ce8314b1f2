"""Calls of all workspaces, found by filters that an address holds, kept under a name, or watched as they come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from ownkey.console.visit import ConsoleRoute, ConsoleVisit, status_of
from ownkey.control.overview import FUNDINGS, HEALTHY_KEY
from ownkey.control.problems import Problem, ProblemCode
from ownkey.control.receipts import to_receipt
from ownkey.domain.activity import Outcome, outcome_of
from ownkey.domain.overview import CallPage, CallQuery, FoundCall
from ownkey.domain.product import PROVIDERS
from ownkey.domain.receipts import Receipt, provider_name
from ownkey.domain.routing import Route
from ownkey.pages.http import Answer

PATH: Final = "/console/calls"
PAGE: Final = 50
TAIL_S: Final = 3
FILTERS: Final = ("workspace", "funding", "outcome", "task", "provider", "model", "code", "since", "until", "special")
BADGES: Final[Mapping[str, str]] = {"ok": "success", "refused": "warning", "failed": "danger", "cancelled": ""}

BUILT_IN: Final[tuple[tuple[str, str], ...]] = (
    ("Credits paid while a key was healthy", f"special={HEALTHY_KEY}"),
    ("Nobody answered", "outcome=failed"),
    ("Refused", "outcome=refused"),
    ("Credits paid", "funding=credits"),
)
"""Filters that every operator has: label and query."""


@dataclass(frozen=True, slots=True)
class Line:
    """One call as the table shows it."""

    found: FoundCall
    receipt: Receipt
    outcome: str
    badge: str
    model: str
    paid_by: str


async def show(visit: ConsoleVisit) -> Answer:
    asked = {name: visit.request.asks(name) for name in FILTERS}
    overview = visit.desk.overview
    problem, query = None, CallQuery()
    try:
        query = overview.read_calls_filter(asked)
    except Problem as wrong:
        problem = wrong
    live = visit.request.asks("live") == "1" and problem is None
    before = None if live else _cursor(visit.request.asks("before"))
    found = CallPage((), None, None, 0) if problem else await overview.calls(query, before, PAGE)
    return _page(visit, asked, found, live, problem, await visit.house.staff.sessions.filters(visit.session))


def _page(
    visit: ConsoleVisit, asked: Mapping[str, str], found: CallPage, live: bool, problem: Problem | None,
    saved: Sequence[tuple[str, str]],
) -> Answer:
    request = visit.request
    query = urlencode([(name, value) for name, value in asked.items() if value])
    paged = bool(request.asks("before"))
    return visit.page(
        "console/calls.html", "Calls", status=status_of(problem), problem=problem, asked=asked,
        lines=[line_of(visit, one) for one in found.calls], looked_to_ms=found.looked_to_ms,
        older=request.with_query(before=str(found.before), live=None, done=None) if found.before is not None else "",
        newest=request.with_query(before=None, done=None) if paged else "", live=live, every_s=TAIL_S,
        live_url=request.with_query(live="1", before=None, done=None),
        still_url=request.with_query(live=None, before=None, done=None),
        again_url=request.with_query(done=None), query=query, filtered=bool(query), any_calls=found.newest > 0,
        choices=_choices(visit),
        saved=[(name, text, f"{PATH}?{text}", text == query) for name, text in saved],
        built_in=[(visit.say(name), f"{PATH}?{text}", text == query) for name, text in BUILT_IN],
        healthy_key=HEALTHY_KEY,
    )


async def save_filter(visit: ConsoleVisit) -> Answer:
    """Only what is a filter here is kept of the address."""
    given = dict(parse_qsl(visit.request.field("query")[:2_000]))
    asked = {name: given.get(name, "") for name in FILTERS}
    query = urlencode([(name, value) for name, value in asked.items() if value])
    sessions = visit.house.staff.sessions
    try:
        visit.desk.overview.read_calls_filter(asked)
        await sessions.save_filter(visit.session, visit.request.field("name"), query)
    except Problem as problem:
        if problem.code is not ProblemCode.INVALID:
            raise
        return _page(visit, asked, CallPage((), None, None, 0), False, problem, await sessions.filters(visit.session))
    return visit.go(f"{PATH}?{query}&done=saved")


async def delete_filter(visit: ConsoleVisit) -> Answer:
    await visit.house.staff.sessions.delete_filter(visit.session, visit.request.field("name"))
    return visit.go(f"{PATH}?done=deleted")


def line_of(visit: ConsoleVisit, found: FoundCall) -> Line:
    receipt = to_receipt(found.receipt)
    outcome = outcome_of(receipt).value
    asked, served = receipt.requested_model, receipt.served_model
    model = f"{asked} → {served}" if served and served != asked else asked or "–"
    return Line(found, receipt, visit.say(outcome), BADGES[outcome], model, paid_by(visit, receipt))


def paid_by(visit: ConsoleVisit, receipt: Receipt) -> str:
    """`OpenRouter key …9f3c`, `Credits` or `Nobody`."""
    billed = [a for a in receipt.attempts if a.cost_nusd != 0 or a.failure is None]
    if not billed or (receipt.code is not None and receipt.cost_nusd == 0 and not receipt.charge_nusd):
        return visit.say("Nobody")
    last = billed[-1]
    if last.route is Route.CREDITS:
        return visit.say("Credits")
    told = visit.say("{provider} key", provider=provider_name(last.provider))
    tail = last.credential_hint.partition("…")[2]
    return f"{told} …{tail}" if tail else told


def _choices(visit: ConsoleVisit) -> Mapping[str, Any]:
    say, every = visit.say, ("", visit.say("All"))
    payers = {"byok": say("Own keys"), "credits": say("Credits"), "nobody": say("Nobody")}
    return {
        "funding": [every, *((key, payers[key]) for key in FUNDINGS)],
        "outcome": [every, *((one.value, say(one.value)) for one in Outcome)],
        "task": [every, *((task.name, task.title) for task in visit.product.tasks.values()),
                 ("key_test", say("A key's Test")), ("none", say("No task"))],
        "provider": [every, *((name, provider_name(name)) for name in PROVIDERS), ("none", say("Nobody"))],
    }


def _cursor(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None


ROUTES: tuple[ConsoleRoute, ...] = (
    ConsoleRoute("GET", PATH, show),
    ConsoleRoute("POST", f"{PATH}/filters", save_filter),
    ConsoleRoute("POST", f"{PATH}/filters/delete", delete_filter),
)
