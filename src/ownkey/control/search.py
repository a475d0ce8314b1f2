"""Activity: calls found by any combination of filters, page by page, by conversation, counted and drawn. Reads only.

Any filter, common or rare, first page or last, takes about as long, however many calls there are
(`store.receipt_search`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from ownkey.control import ports
from ownkey.control.ports import Clock, ReceiptFilter
from ownkey.control.problems import invalid, suggest
from ownkey.control.totals import month_period
from ownkey.domain.activity import ActivitySums, Choices, Outcome, TraceLine, month_days, parse_day
from ownkey.domain.phrases import Phrase
from ownkey.domain.workspace import WorkspaceState

NEW_MOST = 999
"""More new calls than these are told as "999+"."""

FUNDINGS = ("byok", "credits", "nobody")
_TEXT_MOST = 200
_CONVERSATION_SPAN = 62
_FILTERS = (
    "task", "project", "model", "provider", "credential", "trace", "funding", "outcome", "code", "receipt", "month",
    "since", "until",
)


class _Store(ports.Receipts, ports.Totals, ports.ActivityRows, ports.Choices, Protocol):
    pass


@dataclass(frozen=True, slots=True)
class ActivityPage:
    """`next_before` is the next page's `before`, None at the end. `newest` is what `new_calls` counts from: the call of
    the workspace that was written last, None where there is none."""

    receipts: Sequence[Mapping[str, Any]]
    next_before: str | None
    newest: str | None


@dataclass(frozen=True, slots=True)
class TracePage:
    """One line per conversation; `next_cursor` continues, None at the end."""

    lines: Sequence[TraceLine]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Bar:
    """`at` is a date "2026-11-22", or an hour of the one day that is shown, "14:00", in the workspace's zone. `calls`
    are counted by outcome."""

    at: str
    calls: Mapping[str, int]


class ActivityControl:
    """Every method takes a filter as `read_filter` makes it."""

    def __init__(self, store: _Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def read_filter(self, workspace: WorkspaceState, given: Mapping[str, str]) -> ReceiptFilter:
        """The filter that an address names: task, project, model, provider, credential, trace, funding ("byok",
        "credits", "nobody"), outcome, code, receipt, month ("2026-11"), since and until (dates, both included). Empty
        values are no filter, "none" finds calls without a task, project or provider. Raises Problem with `param`."""
        given = {name: value.strip() for name, value in given.items() if value.strip()}
        for name, value in given.items():
            if name not in _FILTERS:
                raise invalid(
                    name[:40], Phrase("There is no filter {name}.", name=repr(name[:40])), suggest(name, _FILTERS)
                )
            if len(value) > _TEXT_MOST:
                raise invalid(
                    name, Phrase("This is longer than {most} characters.", most=_TEXT_MOST),
                    Phrase("Shorten it.")
                )
        outcome, funding = given.get("outcome"), given.get("funding")
        if outcome is not None and outcome not in set(Outcome):
            raise invalid(
                "outcome", Phrase("No outcome is called {outcome}.", outcome=repr(outcome[:40])),
                suggest(outcome, tuple(Outcome))
            )
        if funding is not None and funding not in FUNDINGS:
            raise invalid(
                "funding", Phrase("Nothing is paid by {funding}.", funding=repr(funding[:40])),
                suggest(funding, FUNDINGS)
            )
        since, until = self._days(workspace, given)
        return ReceiptFilter(
            task=_text_or_none(given.get("task")), project=_text_or_none(given.get("project")),
            provider=_text_or_none(given.get("provider")), model=given.get("model"),
            credential=given.get("credential"), conversation=given.get("trace"), code=given.get("code"),
            outcome=outcome, funding="" if funding == "nobody" else funding, receipt=given.get("receipt"),
            since_day=since, until_day=until,
        )

    def _days(self, workspace: WorkspaceState, given: Mapping[str, str]) -> tuple[str | None, str | None]:
        since, until = _read_day("since", given.get("since")), _read_day("until", given.get("until"))
        if "month" in given:
            first, last = month_days(month_period(workspace, given["month"], self._clock.now_ms()).key)
            since, until = max(first, since or first), min(last, until or last)
        if since is not None and until is not None and since > until:
            raise invalid("until", Phrase("The last day is before the first one."), Phrase("Swap them."))
        return since, until

    async def page(
        self, workspace: WorkspaceState, query: ReceiptFilter, before: str | None = None, limit: int = 50
    ) -> ActivityPage:
        """Newest first; `before` is the last receipt id of the page before."""
        found = await self._store.load_receipts(
            workspace.id, replace(query, before=before, limit=limit + 1)
        )
        newest = await self._store.load_last_written(workspace.id)
        shown = found[:limit]
        return ActivityPage(shown, str(shown[-1]["id"]) if len(found) > limit else None, newest)

    async def new_calls(self, workspace: WorkspaceState, query: ReceiptFilter, newest: str) -> int:
        """How many calls that match were written since that page; at most `NEW_MOST` + 1. `newest` is its `newest`, ""
        where there was no call yet; an id that is none: 0."""
        return await self._store.count_since(
            workspace.id, replace(query, before=None), newest[:_TEXT_MOST], most=NEW_MOST + 1
        )

    async def traces(
        self, workspace: WorkspaceState, query: ReceiptFilter, cursor: str | None = None, limit: int = 50
    ) -> TracePage:
        """Conversations whose calls match, the latest such call first, each with the sums of those calls."""
        lines, following = await self._store.load_traces(workspace.id, replace(query, before=None, limit=limit), cursor)
        return TracePage(lines, following)

    async def sums(self, workspace: WorkspaceState, query: ReceiptFilter) -> ActivitySums:
        """All calls that match, added up: what the CSV of this filter adds up to."""
        return await self._store.load_sums(workspace.id, replace(query, before=None))

    async def histogram(self, workspace: WorkspaceState, query: ReceiptFilter) -> Sequence[Bar]:
        """Calls by day, or by hour where one day is asked for; without a filter by time, of the last 30 days. Days
        without calls are bars too. One receipt has no histogram."""
        query = replace(query, before=None)
        if query.receipt is not None:
            return ()
        zone = ZoneInfo(workspace.timezone)
        today = datetime.fromtimestamp(self._clock.now_ms() / 1_000, zone).date()
        until = date.fromisoformat(query.until_day) if query.until_day else today
        since = date.fromisoformat(query.since_day) if query.since_day else until - min(
            timedelta(days=29), until - date.min
        )
        query = replace(query, since_day=since.isoformat(), until_day=until.isoformat())
        if since == until:
            return await self._hours(workspace, query, zone)
        if query.conversation is not None:
            return await self._days_of_trace(workspace, query, zone)
        rows = await self._store.load_totals(
            workspace.id, since.isoformat(), until.isoformat(), ("day", "outcome"), query, brief=True
        )
        counted: dict[str, dict[str, int]] = {}
        for row in rows:
            counted.setdefault(row.keys["day"] or "", {})[row.keys["outcome"] or ""] = row.amounts.calls
        return _bars(counted, since, until)

    async def _hours(self, workspace: WorkspaceState, query: ReceiptFilter, zone: ZoneInfo) -> Sequence[Bar]:
        counted: dict[str, dict[str, int]] = {f"{hour:02d}:00": {} for hour in range(24)}
        for at_ms, outcome, _, calls in await self._store.load_hours(workspace.id, query):
            local = datetime.fromtimestamp(at_ms / 1_000, zone)
            bar = counted.setdefault(f"{local.hour:02d}:00", {})
            bar[outcome] = bar.get(outcome, 0) + calls
        return [Bar(at, calls) for at, calls in sorted(counted.items())]

    async def _days_of_trace(self, workspace: WorkspaceState, query: ReceiptFilter, zone: ZoneInfo) -> Sequence[Bar]:
        counted: dict[str, dict[str, int]] = {}
        since, until = date.fromisoformat(query.since_day or ""), date.fromisoformat(query.until_day or "")
        for at_ms, outcome, _, calls in await self._store.load_hours(workspace.id, query):
            bar = counted.setdefault(datetime.fromtimestamp(at_ms / 1_000, zone).date().isoformat(), {})
            bar[outcome] = bar.get(outcome, 0) + calls
        return _bars(counted, since, until)

    async def choices(self, workspace: WorkspaceState) -> Choices:
        """What there is to filter by: the values that calls of this workspace have ever had, sorted."""
        return await self._store.load_choices(workspace.id)


def _bars(counted: Mapping[str, Mapping[str, int]], since: date, until: date) -> list[Bar]:
    """Every day of the span; a span of more than two months shows those with calls only."""
    days = (until - since).days + 1
    if days > _CONVERSATION_SPAN:
        return [Bar(at, calls) for at, calls in sorted(counted.items())]
    each = [(since + timedelta(days=n)).isoformat() for n in range(days)]
    return [Bar(at, counted.get(at, {})) for at in each]


def _text_or_none(value: str | None) -> str | None:
    return "" if value == "none" else value


def _read_day(name: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        parse_day(text)
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise invalid(
            name, Phrase("{text} is not a date.", text=repr(text[:20])), Phrase("Write it as 2026-11-22.")
        ) from None
