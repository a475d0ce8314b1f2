"""What happened and why: receipts, sums of spend, and a conversation's running cost. Reads only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from ownkey.control import ports
from ownkey.control.ports import Clock, ReceiptFilter
from ownkey.control.problems import invalid, not_found, suggest
from ownkey.control.totals import month_period
from ownkey.domain.activity import month_days
from ownkey.domain.caps import Period
from ownkey.domain.headline import Beside, headline
from ownkey.domain.product import Payers, Product
from ownkey.domain.receipt_words import describe
from ownkey.domain.receipts import Receipt
from ownkey.domain.refusals import Code
from ownkey.domain.workspace import WorkspaceState

SPEND_BY = ("task", "model", "provider", "conversation", "project", "day", "basis")


class _Store(ports.Receipts, ports.Caps, Protocol):
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
    def __init__(self, store: _Store, clock: Clock, product: Product) -> None:
        self._store = store
        self._clock = clock
        self._with_credits = product.payers is Payers.WITH_CREDITS
        self._titles = {name: task.title for name, task in product.tasks.items()}

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

    async def headline(
        self, workspace: WorkspaceState, receipt: Mapping[str, Any], *, figures: bool = True
    ) -> str:
        """The receipt's headline, by the function that pages, notices and the command line share. `figures` False:
        without amounts, hints and caps."""
        paused_at_ms = None
        if receipt.get("code") == Code.AI_PAUSED and receipt.get("cap") is not None:
            alerts = await self._store.load_alerts(workspace.id)
            paused_at_ms = find_pause_ms(alerts, receipt["cap"]["period"], receipt["at_ms"])
        beside = Beside(workspace.timezone, paused_at_ms, figures, self._with_credits, self._titles)
        return headline(to_receipt(receipt), beside)

    async def spend(
        self, workspace: WorkspaceState, by: str, month: str | None, scope: Scope = Scope()
    ) -> Spend:
        """Sums of one calendar month in the workspace's zone (this month, unless named). Raises Problem."""
        if scope != Scope():
            # Sums of the whole workspace are not a limited token's to see.
            raise not_found("sum of", "spend", "for a limited token")
        if by not in SPEND_BY:
            raise invalid("by", f"Spend cannot be summed by {by[:40]!r}.", suggest(by, SPEND_BY))
        period = month_period(workspace, month, self._clock.now_ms())
        since_day, until_day = month_days(period.key)
        rows = await self._store.load_spend(workspace.id, since_day=since_day, until_day=until_day, by=by)
        return Spend(by, period, rows)

    async def meter(self, workspace: WorkspaceState, conversation: str, scope: Scope = Scope()) -> Meter:
        """The conversation's running cost. Refused and failed calls count with what they cost."""
        sums = await self._store.load_meter(workspace.id, conversation, scope.tasks, scope.projects)
        return Meter(
            conversation, sums.calls, sums.cost_nusd, sums.unknown_calls, sums.charge_credits, sums.first_at_ms,
            sums.last_at_ms,
        )


def why_sentence(receipt: Mapping[str, Any]) -> str:
    """A stored receipt at length: what happened, who paid, and why."""
    return describe(to_receipt(receipt))


def to_receipt(receipt: Mapping[str, Any]) -> Receipt:
    """A stored receipt as the domain knows it; what older receipts lack has its default."""
    return msgspec.convert(receipt, Receipt, strict=False)


def find_pause_ms(alerts: Sequence[Mapping[str, Any]], period: str, at_ms: int) -> int | None:
    """When the pause began in which a call of this moment was refused: the last time that the whole cap was alerted
    before it, in its period. None: not known."""
    times = [
        int(alert["at_ms"]) for alert in alerts
        if alert["period"] == period and alert["threshold"] == 100 and alert["at_ms"] <= at_ms
    ]
    return max(times, default=None)
