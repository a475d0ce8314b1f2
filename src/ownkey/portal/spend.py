"""Spend: what a month cost, how it stands to the cap and to the key's own limit, by what, and what was saved."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final
from urllib.parse import urlencode

from markupsafe import Markup

from ownkey.control.exports import CSV_TYPE
from ownkey.control.problems import Problem
from ownkey.control.receipts import find_pause_ms
from ownkey.control.totals import SpendTable
from ownkey.domain.activity import TotalRow, local_day
from ownkey.domain.caps import PauseReason, Period, is_all_held
from ownkey.domain.days import tell_day
from ownkey.domain.portal import Page, Sight
from ownkey.domain.receipts import KEY_TEST, provider_name
from ownkey.domain.records import CapSetting
from ownkey.pages import charts, figures
from ownkey.pages.http import Answer
from ownkey.pages.statuses import PROBLEM_STATUSES
from ownkey.portal.cap import cap_form
from ownkey.portal.links import activity_url
from ownkey.portal.visit import PortalRoute, Visit

PATH: Final = "/portal/spend"
BY: Final[dict[str, str]] = {
    "day": "Day", "task": "Task", "model": "Model", "provider": "Provider", "project": "Project",
    "funding": "Paid by",
}
OF_ATTEMPTS: Final = frozenset({"model", "provider"})
"""What each attempt has its own of: a call that went on elsewhere leaves a row there with an attempt and no call."""
MOST_ROWS: Final = 200


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table: how it is called, the calls behind it (""), and its figures."""

    name: str
    url: str
    row: TotalRow
    share: int


async def show(visit: Visit) -> Answer:
    if not visit.sees_figures:
        return await _show_state(visit)
    return await _page(visit)


async def _show_state(visit: Visit) -> Answer:
    """For members: on or paused, and when it resets."""
    setting = await visit.desk.caps.show(visit.workspace)
    return visit.show(
        "spend_state.html", title=visit.say("Spend"), paused=setting.state == "paused",
        resets=figures.reset_moment(setting.ends_at_ms, setting.timezone), endless=setting.cap_nusd == 0,
    )


async def _page(visit: Visit, problem: Problem | None = None, status: int = 200) -> Answer:
    desk, workspace, asks = visit.desk, visit.workspace, visit.request.asks
    by = asks("by") if asks("by") in BY else "day"
    setting = await desk.caps.show(workspace)
    present = desk.totals.period(workspace).key
    months = sorted({row.keys["month"] or "" for row in await desk.totals.months(workspace)} | {present}, reverse=True)
    month = asks("month") if asks("month") in months else present
    table = await desk.totals.spend(workspace, by, month)
    daily = await desk.totals.chart(workspace, month)
    is_present = month == present
    return visit.show(
        "spend.html", title=visit.say("Spend"), status=status, path=PATH, month_key=month, months=months,
        is_present=is_present, by=by, of_attempts=by in OF_ATTEMPTS,
        by_names={key: visit.say(text) for key, text in BY.items()}, setting=setting,
        meter_high=_high(setting), is_busy=is_busy(setting), paused=await _pause(visit, setting),
        projection=desk.caps.project(setting), reading=await desk.key_readings.last(workspace),
        own_limit=_own_limit(visit), table=table, lines=_lines(visit, table), table_total=table.total,
        hidden_rows=max(0, len(table.rows) - MOST_ROWS),
        chart=_chart(visit, daily, setting if is_present else None), legend=_legend(visit, is_present, setting),
        costliest=await desk.totals.costliest(workspace, month), trace_url=_trace_url(visit, month),
        savings=await desk.savings.month(workspace, month), wallet=await _wallet(visit),
        cap=await cap_form(visit) if visit.manages else None, provider_name=provider_name, problem=problem,
        compared=asks("compared") == "1",
        csv_url=f"{PATH}/table.csv?{urlencode({'by': by, 'month': month})}",
        paid_by_key=_paid_by_key(daily),
    )


async def _wallet(visit: Visit) -> object:
    return await visit.desk.credits.show(visit.workspace) if visit.house.with_credits else None


def _paid_by_key(daily: SpendTable) -> tuple[int, int]:
    """(calls that own keys paid, credits that they took) in a month: the second is 0, or the books are wrong."""
    own = [row.amounts for row in daily.rows if row.keys["funding"] == "byok"]
    return sum(one.calls for one in own), sum(one.charge_credits for one in own)


def _own_limit(visit: Visit) -> bool:
    """Whether there is a key whose own figures can be shown."""
    return "openrouter" in visit.workspace.credentials


def _high(setting: CapSetting) -> int:
    return 0 if setting.cap_nusd is None else setting.cap_nusd * setting.threshold // 100


def is_busy(setting: CapSetting) -> bool:
    """Whether calls in flight hold what is left under the cap."""
    return setting.state != "paused" and is_all_held(setting.cap_nusd, setting.spent_nusd, setting.held_nusd)


@dataclass(frozen=True, slots=True)
class Paused:
    """`since_ms` None: not known (the cap was there before the month). `why` is a sentence."""

    since_ms: int | None
    why: str
    until: str


async def _pause(visit: Visit, setting: CapSetting) -> Paused | None:
    if setting.state != "paused":
        return None
    since = find_pause_ms(await visit.desk.caps.alerts(visit.workspace), setting.period_key, visit.now_ms)
    cap, spent = figures.usd_exact(setting.cap_nusd), figures.usd_exact(setting.spent_nusd)
    if setting.cap_nusd == 0:
        why, until = visit.say("The spend cap is US$0, which means no AI."), visit.say("until the cap is raised")
        return Paused(since, why, until)
    why = visit.say("The cap of {cap} is reached: {spent} is spent.", cap=cap, spent=spent)
    if setting.pause_reason == PauseReason.NO_ROOM:
        why = visit.say("What is left under the cap of {cap} is too little for another call: {spent} is spent.",
                        cap=cap, spent=spent)
    reset = figures.reset_moment(setting.ends_at_ms, setting.timezone)
    return Paused(since, why, visit.say("until {reset}, or until the cap is raised", reset=reset))


# --- the table


def _lines(visit: Visit, table: SpendTable) -> list[Line]:
    whole = table.total.cost_nusd
    shown = [row for row in table.rows if row.amounts.calls or row.amounts.attempts]
    return [
        Line(
            _row_name(visit, table, row), _row_url(visit, table, row), row,
            figures.percent(row.amounts.cost_nusd, whole),
        )
        for row in shown[:MOST_ROWS]
    ]


def _row_name(visit: Visit, table: SpendTable, row: TotalRow) -> str:
    key = row.keys[table.by] or ""
    match table.by:
        case "day":
            return day_name(key)
        case "funding":
            return visit.say({"byok": "Your keys", "credits": "Credits"}.get(key, "Nobody"))
        case "provider":
            return provider_name(key) if key else visit.say("no provider was called")
        case "task" if key in visit.product.tasks:
            return visit.product.tasks[key].title
        case "task" if key == KEY_TEST:
            return visit.say("Tests of keys")
        case "project" if key in visit.workspace.projects:
            return visit.workspace.projects[key]
        case _:
            return key or visit.say({"task": "no task", "project": "no project"}.get(table.by, "none"))


def day_name(day: str) -> str:
    """ "2026-11-14" → "14 Nov"."""
    at = date.fromisoformat(day)
    return tell_day(at.day, at.month)


def _row_url(visit: Visit, table: SpendTable, row: TotalRow) -> str:
    """The calls behind a row."""
    key = row.keys[table.by] or ""
    if table.by == "day":
        return activity_url(visit, since=key, until=key)
    if table.by == "model" and not key:
        return ""
    value = key or ("nobody" if table.by == "funding" else "none")
    return activity_url(visit, **{table.by: value}, month=table.period.key)


def _trace_url(visit: Visit, month: str) -> Callable[[str], str]:
    return lambda conversation: activity_url(visit, trace=conversation, month=month)


# --- the chart


def _chart(visit: Visit, daily: SpendTable, setting: CapSetting | None) -> Markup:
    """`setting` None: a month that is over, whose cap is not told."""
    columns, period = day_columns(visit, daily), daily.period
    limit = None
    if setting is not None and setting.cap_nusd is not None:
        limit = charts.Limit(setting.cap_nusd, visit.say("cap {cap}", cap=figures.usd(setting.cap_nusd)))
    # Without a cap and without a call on a key of the workspace there is nothing to add up.
    adds_up = limit is not None or any(column.counted for column in columns)
    return charts.stacked_bars(
        "spend-chart", _finding(visit, daily, columns), visit.say("US$ a day, days of {zone}", zone=period.timezone),
        columns, _series(visit), charts.usd_axis, running=visit.say("Your keys, month so far") if adds_up else "",
        limit=limit,
    )


def _series(visit: Visit) -> tuple[charts.Series, ...]:
    keys = charts.Series(visit.say("Your keys"), 1)
    if not visit.house.with_credits:
        return (keys,)
    return keys, charts.Series(visit.say("Paid for with credits"), 2)


def day_columns(visit: Visit, daily: SpendTable) -> list[charts.Column]:
    """One bar a day: what own keys paid, and what was paid for with credits; the cap counts the first."""
    today = _today(visit, daily.period)
    own: dict[str, int] = {}
    rest: dict[str, int] = {}
    for row in daily.rows:
        day = row.keys["day"] or ""
        own[day] = own.get(day, 0) + row.own_nusd
        rest[day] = rest.get(day, 0) + row.amounts.cost_nusd - row.own_nusd
    return [
        charts.Column(
            str(int(day[8:])), _bar_name(visit, day, own[day], rest[day]),
            (own[day], rest[day]) if visit.house.with_credits else (own[day],), now=day == today, total=own[day],
        )
        for day in own
    ]


def _bar_name(visit: Visit, day: str, own: int, rest: int) -> str:
    if not visit.house.with_credits:
        return visit.say("{day}: {amount}", day=day_name(day), amount=figures.usd_exact(own))
    return visit.say("{day}: {own} by your keys, {rest} paid for with credits", day=day_name(day),
                     own=figures.usd_exact(own), rest=figures.usd_exact(rest))


def _today(visit: Visit, period: Period) -> str:
    if not period.starts_at_ms <= visit.now_ms < period.ends_at_ms:
        return ""
    number = local_day(visit.now_ms, period).number
    return f"{number // 10_000:04d}-{number // 100 % 100:02d}-{number % 100:02d}"


def _finding(visit: Visit, daily: SpendTable, columns: Sequence[charts.Column]) -> str:
    """What the chart shows, in a sentence."""
    where = {"month": figures.month(daily.period.key), "zone": daily.period.timezone}
    if not daily.total.cost_nusd:
        return visit.say("Nothing was spent in {month} ({zone}).", **where)
    highest = max(columns, key=lambda column: column.height)
    return visit.say(
        "{sum} was spent in {month} ({zone}); the dearest day was the {day}. with {most}.", **where,
        sum=figures.usd_exact(daily.total.cost_nusd), day=highest.label, most=figures.usd_exact(highest.height),
    )


def _legend(visit: Visit, is_present: bool, setting: CapSetting) -> Markup:
    extra = [("now", visit.say("today, not over yet"))] if is_present else []
    if is_present and setting.cap_nusd is not None:
        extra.append(("limit", visit.say("spend cap")))
    return charts.legend("spend-chart", _series(visit), extra)


# --- files and actions


async def table_csv(visit: Visit) -> Answer:
    """The table as a file, every figure exact."""
    by, month = visit.request.asks("by") or "day", visit.request.asks("month") or None
    text = await visit.desk.exports.spend(visit.workspace, by, month)
    name = visit.desk.exports.file_name(visit.workspace, f"spend-{by if by in BY else 'day'}")
    return Answer(200, text.encode(), CSV_TYPE, [("content-disposition", f'attachment; filename="{name}"')])


async def compare(visit: Visit) -> Answer:
    """Ask OpenRouter for the key's figures now, and compare."""
    try:
        await visit.desk.key_readings.read_now(visit.workspace)
    except Problem as problem:
        return await _page(visit, problem, PROBLEM_STATUSES[problem.code])
    return visit.go(f"{PATH}?compared=1#key")


ROUTES: tuple[PortalRoute, ...] = (
    PortalRoute("GET", PATH, Page.SPEND, Sight.PARTLY, show),
    PortalRoute("GET", f"{PATH}/table.csv", Page.EXPORTS, Sight.READ, table_csv),
    PortalRoute("POST", f"{PATH}/compare", Page.SPEND, Sight.MANAGE, compare),
)
