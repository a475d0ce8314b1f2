"""Activity: every call, found by any combination of filters that the address holds, one by one or by conversation."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from urllib.parse import urlencode

from markupsafe import Markup

from ownkey.control.exports import CSV_TYPE, STREAM_MOST
from ownkey.control.problems import Problem, invalid
from ownkey.control.receipts import to_receipt
from ownkey.control.search import NEW_MOST, Bar
from ownkey.domain.activity import ActivitySums, Choices, Outcome, outcome_of
from ownkey.domain.phrases import Phrase
from ownkey.domain.portal import Page, Sight
from ownkey.domain.receipts import KEY_TEST, Receipt, provider_name
from ownkey.domain.records import ReceiptFilter
from ownkey.domain.routing import Route
from ownkey.pages import charts, figures
from ownkey.pages.http import Answer, html
from ownkey.pages.statuses import PROBLEM_STATUSES
from ownkey.portal.links import activity_url, is_clean
from ownkey.portal.receipts import OUTCOME_BADGES, outcome_name, paid_by
from ownkey.portal.visit import PortalRoute, Visit

PATH: Final = "/portal/activity"
PAGE: Final = 50
POLL_S: Final = 20
FILTERS: Final = (
    "since", "until", "month", "funding", "outcome", "task", "project", "model", "provider", "credential", "trace",
    "code", "receipt",
)
"""What an address may be filtered by, beside `group`, `before`, `cursor`."""

_BY_TRACE: Final = "trace"
_NO_CALL: Final = "none"
"""The id of no call, for a page whose own cannot be told: nothing is newer than it."""
KEY_TYPED: Final = invalid(
    "filter", Phrase("This looks like an API key, so nothing was looked for."),
    Phrase("Take it out of the address; calls of one key are found by its entry under Key."),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One call as its line tells it."""

    receipt: Receipt
    task: str
    project: str
    model: str
    paid_by: str
    outcome: str
    badge: str
    tokens: str
    on_credits: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """The filters of an address. `given` are those with a value; `problem`: one of them cannot be taken."""

    given: Mapping[str, str]
    query: ReceiptFilter
    by_trace: bool
    problem: Problem | None = None

    def url(self, **more: str) -> str:
        """This page with these filters, and more."""
        values = {**self.given, **({"group": _BY_TRACE} if self.by_trace else {}), **more}
        kept = urlencode({name: value for name, value in values.items() if value})
        return f"{PATH}?{kept}" if kept else PATH


def _asked(visit: Visit) -> Asked:
    asked = {name: value for name in FILTERS if (value := visit.request.asks(name))}
    if not visit.sees_figures:
        # Members do not see keys apart, so there is nothing to find by one.
        asked.pop("credential", None)
    given = {name: value for name, value in asked.items() if is_clean(value)}
    by_trace = visit.request.asks("group") == _BY_TRACE
    if len(given) < len(asked):
        return Asked(given, ReceiptFilter(), by_trace, KEY_TYPED)
    try:
        return Asked(given, visit.desk.activity.read_filter(visit.workspace, given), by_trace)
    except Problem as problem:
        return Asked(given, ReceiptFilter(), by_trace, problem)


async def show(visit: Visit) -> Answer:
    asked = _asked(visit)
    choices = await visit.desk.activity.choices(visit.workspace)
    if asked.problem is not None:
        status = PROBLEM_STATUSES[asked.problem.code]
        return _render(visit, asked, choices, status=status)
    ident = asked.given.get("receipt", "")
    if ident and (found := await _find(visit, ident)):
        return visit.go(f"/portal/calls/{found}")
    bars = await visit.desk.activity.histogram(visit.workspace, asked.query)
    sums = await visit.desk.activity.sums(visit.workspace, asked.query)
    chart = _histogram(visit, bars)
    if asked.by_trace:
        traces = await visit.desk.activity.traces(
            visit.workspace, asked.query, visit.request.asks("cursor") or None, PAGE
        )
        return _render(visit, asked, choices, chart=chart, sums=sums, traces=traces.lines,
                       older=asked.url(cursor=traces.next_cursor) if traces.next_cursor else "")
    page = await visit.desk.activity.page(visit.workspace, asked.query, visit.request.asks("before") or None, PAGE)
    return _render(
        visit, asked, choices, chart=chart, sums=sums, rows=[_row(visit, receipt) for receipt in page.receipts],
        older=asked.url(before=page.next_before) if page.next_before else "", newest=page.newest or "",
    )


async def _find(visit: Visit, ident: str) -> str:
    """The id of a call of this workspace, also of one that still runs; "" if there is none."""
    try:
        return str((await visit.desk.receipts.one(visit.workspace, ident))["id"])
    except Problem:
        running = await visit.desk.call_facts.running(visit.workspace, ident)
        return "" if running is None else running.id


def _render(
    visit: Visit, asked: Asked, choices: Choices, *, status: int = 200, chart: str = "",
    sums: ActivitySums | None = None, rows: Sequence[Row] = (), traces: Sequence[Any] = (), older: str = "",
    newest: str | None = None,
) -> Answer:
    deep = bool(visit.request.asks("before") or visit.request.asks("cursor"))
    return visit.show(
        "activity.html", title=visit.say("Activity"), status=status, asked=asked, given=asked.given, path=PATH,
        problem=asked.problem, choices=_choices(visit, asked, choices), chart=chart,
        legend=charts.legend("calls-chart", _series(visit)), sums=sums, rows=rows, traces=traces, older=older,
        newer=asked.url() if deep else "", is_filtered=bool(asked.given), by_trace=asked.by_trace,
        flat_url=Asked(asked.given, asked.query, False).url(), trace_url=Asked(asked.given, asked.query, True).url(),
        since=asked.query.since_day or asked.given.get("since", ""),
        until=asked.query.until_day or asked.given.get("until", ""),
        csv_url=f"{PATH}/calls.csv?{urlencode(asked.given)}", is_large=sums is not None and sums.calls > STREAM_MOST,
        full=visit.sees_figures, one_trace=lambda name: activity_url(visit, **{**asked.given, "trace": name}),
        new=None if newest is None or deep or asked.by_trace else new_calls(asked, newest, 0, 0),
    )


# --- filters


def _choices(visit: Visit, asked: Asked, choices: Choices) -> Mapping[str, list[tuple[str, str]]]:
    """(value, name) for each filter that is a choice; a value that is asked for is among them even if unknown."""
    say, product, keys = visit.say, visit.product, {c.id: c for c in visit.workspace.credentials.values()}
    names: dict[str, list[tuple[str, str]]] = {
        "funding": [("byok", say("Your keys")), ("credits", say("Credits")), ("nobody", say("Nobody"))],
        "outcome": [(one.value, say(one.value)) for one in Outcome],
        "task": [(one, _task_name(visit, one)) for one in choices.tasks],
        "project": [(one, visit.workspace.projects.get(one, one)) for one in choices.projects],
        "model": [(one, one) for one in choices.models],
        "provider": [(one, provider_name(one)) for one in choices.providers],
    }
    if not visit.house.with_credits:
        names["funding"].pop(1)
    if product.tasks:
        names["task"].append(("none", say("no task")))
    if names["project"]:
        names["project"].append(("none", say("no project")))
    if visit.sees_figures:
        names["credential"] = [
            (one, f"{provider_name(keys[one].provider)} {keys[one].hint}" if one in keys else
             say("a former key ({id})", id=one[-6:]))
            for one in choices.credentials
        ]
    for name, options in names.items():
        value = asked.given.get(name, "")
        if value and value not in dict(options):
            options.append((value, value))
    return {
        name: [("", say("all")), *((value, told) for value, told in options if is_clean(value))]
        for name, options in names.items()
    }


def _task_name(visit: Visit, task: str) -> str:
    if task == KEY_TEST:
        return visit.say("Tests of keys")
    return visit.product.tasks[task].title if task in visit.product.tasks else task


# --- rows


def _row(visit: Visit, stored: Mapping[str, Any]) -> Row:
    receipt = to_receipt(stored)
    asked, served = receipt.requested_model, receipt.served_model
    outcome = outcome_of(receipt)
    usage = receipt.usage
    return Row(
        receipt=receipt, task=_task_name(visit, receipt.task) if receipt.task else visit.say("no task"),
        project=visit.workspace.projects.get(receipt.project or "", receipt.project or ""),
        model=f"{asked} → {served}" if served and served != asked else asked or "–", paid_by=paid_by(visit, receipt),
        outcome=outcome_name(visit, receipt), badge=OUTCOME_BADGES[outcome.value],
        tokens="–" if usage is None else f"{figures.count(usage.total_input)} + {figures.count(usage.total_output)}",
        on_credits=bool(receipt.attempts) and receipt.attempts[-1].route is Route.CREDITS,
    )


# --- the histogram


def _series(visit: Visit) -> tuple[charts.Series, ...]:
    styles = {Outcome.OK: 1, Outcome.REFUSED: 3, Outcome.FAILED: 5, Outcome.CANCELLED: 4}
    return tuple(charts.Series(visit.say(one.value), style) for one, style in styles.items())


def _histogram(visit: Visit, bars: Sequence[Bar]) -> Markup:
    """Calls by outcome, a bar a day or an hour; nothing where there is nothing to draw."""
    if not any(bar.calls for bar in bars):
        return Markup("")
    hourly = ":" in bars[0].at
    columns = [
        charts.Column(
            bar.at[:2] if hourly else str(date.fromisoformat(bar.at).day), _bar_name(visit, bar),
            tuple(bar.calls.get(outcome.value, 0) for outcome in (
                Outcome.OK, Outcome.REFUSED, Outcome.FAILED, Outcome.CANCELLED
            )),
        )
        for bar in bars
    ]
    whole = sum(column.height for column in columns)
    good = sum(bar.calls.get(Outcome.OK.value, 0) for bar in bars)
    title = visit.say.plural(
        "{count} call between {first} and {last} ({zone}); answered: {good}.",
        "{count} calls between {first} and {last} ({zone}); answered: {good}.", whole,
        first=bars[0].at, last=bars[-1].at, zone=visit.workspace.timezone, good=figures.count(good),
    )
    axis = "calls an hour, hours of {zone}" if hourly else "calls a day, days of {zone}"
    return charts.stacked_bars(
        "calls-chart", title, visit.say(axis, zone=visit.workspace.timezone), columns, _series(visit), figures.count,
    )


def _bar_name(visit: Visit, bar: Bar) -> str:
    told = ", ".join(f"{count:,} {visit.say(name)}" for name, count in bar.calls.items() if count)
    return f"{bar.at}: {told or visit.say('no calls')}"


# --- new calls, and the file


@dataclass(frozen=True, slots=True)
class NewCalls:
    """What has come since a page was shown. `is_news`: it has grown since the last look, so that it is said once."""

    text: str
    is_news: bool
    poll_url: str
    show_url: str
    every_s: int = POLL_S


def new_calls(asked: Asked, newest: str, count: int, before: int) -> NewCalls:
    told = f"{NEW_MOST:,}+" if count > NEW_MOST else f"{count:,}"
    values = {**asked.given, "newest": newest, "seen": str(count)}
    return NewCalls(told if count else "", count > before, f"{PATH}/new?{urlencode(values)}", asked.url())


async def count_new(visit: Visit) -> Answer:
    """A line for the page that polls: "12 new · Show". Rows are never put in by themselves."""
    asked = _asked(visit)
    newest, seen = visit.request.asks("newest"), visit.request.asks("seen")
    count = 0
    if not is_clean(newest):
        newest = _NO_CALL
    elif asked.problem is None:
        count = await visit.desk.activity.new_calls(visit.workspace, asked.query, newest)
    before = int(seen) if seen.isascii() and seen.isdigit() and len(seen) < 9 else 0
    return html(visit.house.site.render("portal/activity_new.html", new=new_calls(asked, newest, count, before)))


async def download(visit: Visit) -> Answer:
    """The calls of the filter as a file, as they stream; a large one is made in the background instead."""
    asked = _asked(visit)
    if asked.problem is not None:
        raise asked.problem
    if await visit.desk.exports.count(visit.workspace, asked.query) > STREAM_MOST:
        return visit.go(f"/portal/exports?{urlencode(asked.given)}")
    name = visit.desk.exports.file_name(visit.workspace, "receipts")
    return Answer(200, _stream(visit, asked.query), CSV_TYPE, [
        ("content-disposition", f'attachment; filename="{name}"'),
    ])


async def _stream(visit: Visit, query: ReceiptFilter) -> AsyncIterator[bytes]:
    async for chunk in visit.desk.exports.receipts(visit.workspace, query):
        yield chunk.text.encode()


ROUTES: tuple[PortalRoute, ...] = (
    PortalRoute("GET", PATH, Page.ACTIVITY, Sight.PARTLY, show),
    PortalRoute("GET", f"{PATH}/new", Page.ACTIVITY, Sight.PARTLY, count_new),
    PortalRoute("GET", f"{PATH}/calls.csv", Page.EXPORTS, Sight.READ, download),
)
