"""What was spent, by what, in a month: sums of daily totals, as pages and tables show them. Reads only.

Totals are exact at every commit: they change in the transaction that writes or corrects a receipt. Days and months are
the workspace's own. Nothing here takes longer because there are more calls.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from ownkey.control import ports
from ownkey.control.ports import Clock, ReceiptFilter
from ownkey.control.problems import invalid, suggest
from ownkey.domain.activity import MARK, Amounts, CostlyTrace, TotalRow, month_days
from ownkey.domain.caps import Period, plan_period
from ownkey.domain.phrases import Phrase
from ownkey.domain.records import UNFILTERED
from ownkey.domain.workspace import WorkspaceState

SPENT_BY = ("day", "task", "model", "provider", "project", "funding", "outcome", "credential", "basis", "route")
"""What a month's spend is told by. "provider", "model", "credential", "basis" and "route" are those of each attempt."""

COSTLIEST = 10
COSTLIEST_MOST = 100

_MONTH = re.compile(r"(20\d{2})-(0[1-9]|1[0-2])\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class SpendTable:
    """A month by one thing, the dearest first (days in their order, each day of the month). `total` is the sum of the
    rows' amounts, `own_nusd` what own keys paid of its cost."""

    by: str
    period: Period
    rows: Sequence[TotalRow]
    total: Amounts
    own_nusd: int


@dataclass(frozen=True, slots=True)
class UseRow:
    """One task, project or credential: this month's sums, and its last call ever (UTC milliseconds; None: none)."""

    key: str
    amounts: Amounts
    own_nusd: int
    last_at_ms: int | None



class TotalsControl:
    """`month` is "2026-11", None the current one. Methods raise Problem for a month or a grouping that is none."""

    def __init__(self, store: ports.Totals, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def period(self, workspace: WorkspaceState, month: str | None = None) -> Period:
        """The month in the workspace's zone."""
        return month_period(workspace, month, self._clock.now_ms())

    async def spend(
        self, workspace: WorkspaceState, by: str, month: str | None = None, where: ReceiptFilter = UNFILTERED
    ) -> SpendTable:
        """One month by one of `SPENT_BY`; `where` narrows it as it narrows Activity. The rows add up to the month."""
        if by not in SPENT_BY:
            raise invalid("by", f"Spend cannot be summed by {by[:40]!r}.", suggest(by, SPENT_BY))
        period = self.period(workspace, month)
        rows = await self._load(workspace, period, (by,), where)
        if by == "day":
            rows = _every_day(rows, period)
        return SpendTable(by, period, rows, add_up(row.amounts for row in rows), sum(row.own_nusd for row in rows))

    async def chart(
        self, workspace: WorkspaceState, month: str | None = None, where: ReceiptFilter = UNFILTERED
    ) -> SpendTable:
        """The bars of a month: keys "day" and "funding" ("byok", "credits", None: nobody), in order of days. Days
        without calls have one row of zeros."""
        period = self.period(workspace, month)
        rows = _every_day(await self._load(workspace, period, ("day", "funding"), where), period)
        return SpendTable("day", period, rows, add_up(row.amounts for row in rows), sum(row.own_nusd for row in rows))

    async def total(
        self, workspace: WorkspaceState, month: str | None = None, where: ReceiptFilter = UNFILTERED
    ) -> TotalRow:
        """The whole month in one row; zeros where nothing was called."""
        found = await self._load(workspace, self.period(workspace, month), (), where)
        return found[0] if found else TotalRow({}, Amounts(), 0)

    async def months(self, workspace: WorkspaceState, where: ReceiptFilter = UNFILTERED) -> Sequence[TotalRow]:
        """Each month that has calls, by its key "month", in their order."""
        return await self._store.load_totals(workspace.id, "1970-01-01", "9998-12-31", ("month",), where)

    async def costliest(
        self, workspace: WorkspaceState, month: str | None = None, limit: int = COSTLIEST
    ) -> Sequence[CostlyTrace]:
        """The conversations of a month that cost most, dearest first."""
        key = self.period(workspace, month).key
        return await self._store.load_costly_traces(workspace.id, key, limit=max(1, min(limit, COSTLIEST_MOST)))

    async def by_task(self, workspace: WorkspaceState, month: str | None = None) -> Mapping[str, UseRow]:
        """Task → its month and its last call; "" for calls that named none. Key tests stand under "key_test"."""
        return await self._uses(workspace, "task", month)

    async def by_project(self, workspace: WorkspaceState, month: str | None = None) -> Mapping[str, UseRow]:
        """Project id → its month and its last call; "" for calls without a project."""
        return await self._uses(workspace, "project", month)

    async def by_credential(self, workspace: WorkspaceState, month: str | None = None) -> Mapping[str, UseRow]:
        """Credential id → what its attempts came to this month, and when it was last used, also long ago."""
        period = self.period(workspace, month)
        rows = await self._load(workspace, period, ("credential",), UNFILTERED)
        last: dict[str, int] = {}
        for marked, at_ms in (await self._store.load_last_calls(workspace.id, "credentials")).items():
            for credential in filter(None, marked.split(MARK)):
                last[credential] = max(at_ms, last.get(credential, 0))
        return _join_uses({row.keys["credential"] or "": row for row in rows if row.keys["credential"]}, last)

    async def _uses(self, workspace: WorkspaceState, by: str, month: str | None) -> Mapping[str, UseRow]:
        rows = await self._load(workspace, self.period(workspace, month), (by,), UNFILTERED)
        last = await self._store.load_last_calls(workspace.id, by)
        return _join_uses({row.keys[by] or "": row for row in rows}, last)

    async def _load(
        self, workspace: WorkspaceState, period: Period, by: tuple[str, ...], where: ReceiptFilter
    ) -> Sequence[TotalRow]:
        since_day, until_day = month_days(period.key)
        where = replace(where, before=None, since_day=None, until_day=None)
        try:
            return await self._store.load_totals(workspace.id, since_day, until_day, by, where)
        except ValueError as error:
            raise invalid(
                "filter", Phrase("Spend cannot be narrowed like this: {error}.", error=error),
                Phrase("See the calls in Activity.")
            ) \
                from error


def month_period(workspace: WorkspaceState, month: str | None, now_ms: int) -> Period:
    """The month in the workspace's zone; None: the current one. Raises Problem."""
    if month is None:
        return plan_period(now_ms, workspace.timezone, None)
    match = _MONTH.match(month)
    if match is None:
        raise invalid(
            "month", Phrase("{month} is not a month.", month=repr(month[:20])), Phrase("Write it as 2026-11.")
        )
    middle = datetime(int(match[1]), int(match[2]), 15, 12, tzinfo=UTC)
    return plan_period(int(middle.timestamp()) * 1_000, workspace.timezone, None)


def add_up(amounts: Iterable[Amounts]) -> Amounts:
    """The sum, field by field."""
    found = list(amounts)
    return Amounts(*map(sum, zip(*found, strict=True))) if found else Amounts()


def _every_day(rows: Sequence[TotalRow], period: Period) -> list[TotalRow]:
    """Days without calls are shown too."""
    by_day: dict[str, list[TotalRow]] = {}
    for row in rows:
        by_day.setdefault(row.keys["day"] or "", []).append(row)
    first, last = (date.fromisoformat(day) for day in month_days(period.key))
    found: list[TotalRow] = []
    for n in range((last - first).days + 1):
        day = (first + timedelta(days=n)).isoformat()
        found += by_day.get(day) or [TotalRow({"day": day, "funding": None}, Amounts(), 0)]
    return found


def _join_uses(rows: Mapping[str, TotalRow], last: Mapping[str, int]) -> Mapping[str, UseRow]:
    keys = sorted(rows.keys() | last.keys())
    found = {
        key: UseRow(key, rows[key].amounts, rows[key].own_nusd, last.get(key)) if key in rows
        else UseRow(key, Amounts(), 0, last[key]) for key in keys
    }
    return dict(sorted(found.items(), key=lambda item: -item[1].amounts.cost_nusd))
