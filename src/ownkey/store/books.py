"""The books as the gateway sees them: every method is one operation of the writer, durable when it returns."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from ownkey.domain.booking import (
    AttemptEnd,
    Booked,
    CapFigures,
    HoldGranted,
    HoldRefused,
    HoldRequest,
    MoneyView,
)
from ownkey.domain.caps import Period, is_reached, plan_period
from ownkey.domain.receipts import Basis, HoldState, Receipt
from ownkey.domain.refusals import Code
from ownkey.store.connection import Connection
from ownkey.store.core import Core
from ownkey.store.corrections import Report, correct_hold
from ownkey.store.ends import end_hold
from ownkey.store.holds import take_hold
from ownkey.store.late_costs import queue_late_costs
from ownkey.store.receipt_rows import Flag, end_call
from ownkey.store.recovery import expire_calls, journal_delivery
from ownkey.store.writer import MAX_WAITING_HOLDS

_MONEY = """
SELECT w.timezone, coalesce(m.balance_credits, 0), coalesce(m.held_credits, 0), v.cap_nusd,
  p.period_key, p.starts_at_ms, p.ends_at_ms, p.timezone, p.spent_nusd, p.held_nusd + p.leased_nusd, p.state,
  coalesce(k.used_credits + k.held_credits, 0)
FROM workspace w
LEFT JOIN wallet m ON m.workspace_id = w.id
LEFT JOIN cap_version v ON v.workspace_id = w.id
  AND v.version = (SELECT max(version) FROM cap_version WHERE workspace_id = w.id)
LEFT JOIN cap_period p ON p.workspace_id = w.id
  AND p.period_key = (SELECT max(period_key) FROM cap_period WHERE workspace_id = w.id)
LEFT JOIN key_failure_limit k ON k.workspace_id = w.id AND k.period_key = p.period_key
WHERE w.id = ?
"""


def read_money(conn: sqlite3.Connection, workspace_id: str, at_ms: int) -> MoneyView:
    """The figures of now; a period that no hold has opened yet is told as it will begin."""
    found = conn.execute(_MONEY, (workspace_id,)).fetchone()
    if found is None:
        return MoneyView(False, False, 0, 0, 0, None)
    zone, balance, held_credits, cap_nusd, key, starts, ends, period_zone, spent, held, state, key_used = found
    if key is not None and at_ms < ends:
        cap = CapFigures(key, cap_nusd, spent, held, ends, state == "paused")
    else:
        period = plan_period(at_ms, zone, None if key is None else Period(key, starts, ends, period_zone))
        cap = CapFigures(period.key, cap_nusd, 0, 0, period.ends_at_ms, is_reached(cap_nusd, 0))
        key_used = 0
    return MoneyView(cap.paused, cap_nusd is not None, balance, held_credits, key_used, cap)


class BooksPart(Core):
    """Satisfies `gateway.ports.Books`."""

    async def load_money(self, workspace_id: str, at_ms: int) -> MoneyView:
        return read_money(self._near, workspace_id, at_ms)

    async def load_cap_figures(self, workspace_id: str, at_ms: int) -> CapFigures | None:
        return read_money(self._near, workspace_id, at_ms).cap

    async def hold(self, request: HoldRequest) -> HoldGranted | HoldRefused:
        """Raises Unavailable if the books cannot promise durability now, or too many holds wait."""
        def then(answer: HoldGranted | HoldRefused) -> None:
            if isinstance(answer, HoldRefused) and answer.code == Code.SPEND_CAP_BUSY:
                self._rooms.refused(request.workspace_id)

        waiting = self.writer.submit(lambda conn: take_hold(conn, request), then=then, limit=MAX_WAITING_HOLDS)
        try:
            return await waiting
        except asyncio.CancelledError:
            # The hold is in the queue and will be written, but nobody learned of it: nothing can have been sent.
            self._abandon(request)
            raise

    def _abandon(self, request: HoldRequest) -> None:
        end = AttemptEnd(
            request.hold_id, request.workspace_id, HoldState.RELEASED, Basis.NONE, 0, 0, False, 0, request.at_ms
        )
        self.writer.submit_quietly(lambda conn: end_hold(conn, end, last=False), then=self._ended(end.workspace_id))

    async def end_attempt(self, end: AttemptEnd) -> Booked:
        return await self.writer.submit(
            lambda conn: end_hold(conn, end, last=False), then=self._ended(end.workspace_id)
        )

    async def end_call(self, end: AttemptEnd | None, receipt: Receipt) -> Receipt:
        def then(written: tuple[Receipt, Sequence[Flag]]) -> None:
            self._rooms.wake(receipt.workspace_id)
            self._overages.update(written[1])

        def operation(conn: Connection) -> tuple[Receipt, Sequence[Flag]]:
            written = end_call(conn, end, receipt)
            queue_late_costs(conn, written[0])
            return written

        booked, _ = await self.writer.submit(operation, then=then)
        return booked

    async def wait_for_room(self, workspace_id: str, timeout_s: float) -> None:
        """Return when a hold of this workspace ends or its cap changes, or after `timeout_s`."""
        await self._rooms.wait(workspace_id, timeout_s)

    def overage_flags(self) -> frozenset[tuple[str, str, int]]:
        """(provider, model, price version) whose calls have cost more than their bound, since ever."""
        return frozenset(self._overages)

    def is_flagged(self, provider: str, model: str, price_version: int) -> bool:
        """Whether a model counts as unpriced where a cap or credits apply, because its price proved wrong."""
        return (provider, model, price_version) in self._overages

    async def journal_delivery(
        self, workspace_id: str, hold_id: str, delivered_bytes: int, low_cost_nusd: int = 0
    ) -> None:
        """What an attempt paid with credits has delivered so far, and the least that it costs: all that credits
        pay if this process dies. 0 charges nothing."""
        await self.writer.submit(
            lambda conn: journal_delivery(conn, workspace_id, hold_id, delivered_bytes, low_cost_nusd)
        )

    async def expire_holds(self, at_ms: int) -> int:
        """Expire what should have ended long ago; returns the number of calls. A late end corrects it."""
        done = await self.writer.submit(lambda conn: expire_calls(conn, at_ms, expired_by_ms=at_ms))
        if done:
            self._rooms.wake_all()
        return done

    async def correct_hold(
        self, workspace_id: str, hold_id: str, cost_nusd: int, *, delivered_cost_nusd: int, origin: str, at_ms: int
    ) -> Booked | None:
        """The one correction of an ended hold; None if it is open or was corrected before. Raises NotFound."""
        report = Report(cost_nusd, delivered_cost_nusd, origin, at_ms)
        return await self._write(lambda conn: correct_hold(conn, workspace_id, hold_id, report))

    def _ended(self, workspace_id: str) -> Callable[[Any], None]:
        return lambda _: self._rooms.wake(workspace_id)
