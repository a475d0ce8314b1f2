"""What happened and why: receipts, sums of spend, and a conversation's running cost. Reads only."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from ownkey.control import ports
from ownkey.control.ports import Clock, ReceiptFilter
from ownkey.control.problems import invalid, not_found, suggest
from ownkey.domain.caps import Period, plan_period
from ownkey.domain.receipt_words import describe
from ownkey.domain.receipts import Receipt
from ownkey.domain.workspace import WorkspaceState

SPEND_BY = ("task", "model", "provider", "conversation", "project", "day", "basis")
METER_PAGE = 500
METER_PAGES = 40

_MONTH = re.compile(r"(20\d{2})-(0[1-9]|1[0-2])\Z", re.ASCII)


class _Store(ports.Receipts, Protocol):
    pass


@dataclass(frozen=True, slots=True)
class Scope:
    """What a limited token may see. Empty sets: everything of the workspace."""

    tasks: frozenset[str] = frozenset()
    projects: frozenset[str] = frozenset()

    def admits(self, receipt: Mapping[str, Any]) -> bool:
        return (not self.tasks or receipt.get("task") in self.tasks) and (
            not self.projects or receipt.get("project") in self.projects
        )


@dataclass(frozen=True, slots=True)
class Page:
    """`next_before` continues backwards in time; None at the end."""

    receipts: Sequence[Mapping[str, Any]]
    next_before: str | None


@dataclass(frozen=True, slots=True)
class Spend:
    by: str
    period: Period
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Meter:
    """A conversation's sums. `cost_nusd` counts known costs only; `unknown_cost_calls` says how many have none."""

    conversation: str
    calls: int
    cost_nusd: int
    unknown_cost_calls: int
    charge_credits: int
    first_at_ms: int | None
    last_at_ms: int | None


class ReceiptControl:
    def __init__(self, store: _Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def one(self, workspace: WorkspaceState, receipt_id: str, scope: Scope = Scope()) -> Mapping[str, Any]:
        receipt = await self._store.load_receipt(workspace.id, receipt_id)
        if receipt is None or not scope.admits(receipt):
            raise not_found("receipt", receipt_id)
        return receipt

    async def list(self, workspace: WorkspaceState, query: ReceiptFilter, scope: Scope = Scope()) -> Page:
        """Newest first. A limited token's page may be shorter than its limit and still have a next one."""
        found = await self._store.load_receipts(workspace.id, replace(query, limit=query.limit + 1))
        page = found[: query.limit]
        more = len(found) > query.limit
        return Page(
            [receipt for receipt in page if scope.admits(receipt)], str(page[-1]["id"]) if more and page else None
        )

    async def why(self, workspace: WorkspaceState, receipt_id: str, scope: Scope = Scope()) -> str:
        """One or two plain sentences: what happened, who paid, and why."""
        return why_sentence(await self.one(workspace, receipt_id, scope))

    async def spend(
        self, workspace: WorkspaceState, by: str, month: str | None, scope: Scope = Scope()
    ) -> Spend:
        """Sums of one calendar month in the workspace's zone (this month, unless named). Raises Problem."""
        if scope != Scope():
            # Sums of the whole workspace are not a limited token's to see.
            raise not_found("sum of", "spend", "for a limited token")
        if by not in SPEND_BY:
            raise invalid("by", f"Spend cannot be summed by {by[:40]!r}.", suggest(by, SPEND_BY))
        period = self._period(workspace, month)
        rows = await self._store.load_spend(
            workspace.id, since_ms=period.starts_at_ms, until_ms=period.ends_at_ms, by=by
        )
        return Spend(by, period, rows)

    async def meter(self, workspace: WorkspaceState, conversation: str, scope: Scope = Scope()) -> Meter:
        """The conversation's running cost. Refused and failed calls count with what they cost."""
        calls = cost = unknown = charged = 0
        first: int | None = None
        last: int | None = None
        before: str | None = None
        for _ in range(METER_PAGES):
            page = await self._store.load_receipts(
                workspace.id, ReceiptFilter(conversation=conversation, before=before, limit=METER_PAGE)
            )
            for receipt in page:
                if not scope.admits(receipt):
                    continue
                calls += 1
                amount = receipt.get("cost_nusd")
                unknown += amount is None
                cost += amount or 0
                charged += receipt.get("charge_credits") or 0
                at = receipt["at_ms"]
                first, last = (at if first is None else min(first, at)), (at if last is None else max(last, at))
            if len(page) < METER_PAGE:
                break
            before = str(page[-1]["id"])
        return Meter(conversation, calls, cost, unknown, charged, first, last)

    def _period(self, workspace: WorkspaceState, month: str | None) -> Period:
        if month is None:
            return plan_period(self._clock.now_ms(), workspace.timezone, None)
        match = _MONTH.match(month)
        if match is None:
            raise invalid("month", f"{month[:20]!r} is not a month.", "Write it as 2026-11.")
        middle = datetime(int(match[1]), int(match[2]), 15, 12, tzinfo=UTC)
        return plan_period(int(middle.timestamp()) * 1_000, workspace.timezone, None)


def why_sentence(receipt: Mapping[str, Any]) -> str:
    """The sentence of a stored receipt, by the function that pages and the CLI share."""
    return describe(msgspec.convert(receipt, Receipt, strict=False))
