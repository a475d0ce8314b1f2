"""The deployment's own long work: the check of the books, the comparison with Stripe, the reading of price lists."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import asdict
from typing import Any, Protocol, TypeVar

from ownkey.control.ports import Auditor, Clock, PriceVersions
from ownkey.control.price_sync import PriceSource, sync_prices
from ownkey.control.work import Made, Teller, WorkFailed
from ownkey.domain.billing import PaymentsDown
from ownkey.domain.pricing import ModelPrice
from ownkey.domain.work import Work

T = TypeVar("T")

SHOWN = 50
BEAT_S = 5.0


async def tell_while(teller: Teller, step: str, doing: Awaitable[T], done: int = 0, total: int | None = None) -> T:
    """Wait for something that cannot say how far it is, and say every few seconds that it goes on. `done` of `total`
    are what came before it."""
    task = asyncio.ensure_future(doing)
    try:
        while True:
            await teller.tell(step, done, total, {} if total is None else {"total": total}, now=True)
            ended, _ = await asyncio.wait({task}, timeout=BEAT_S)
            if ended:
                return task.result()
    finally:
        if not task.done():
            task.cancel()


class LedgerCheckWorker:
    """Recomputes every counter from its rows; what differs is named and never repaired."""

    def __init__(self, auditor: Auditor, clock: Clock) -> None:
        self._auditor = auditor
        self._clock = clock

    async def run(self, work: Work, teller: Teller) -> Made:
        findings = await tell_while(teller, "Adding up the books", self._auditor.verify(self._clock.now_ms()))
        return Made(1, 1, {
            "clean": not findings, "findings": len(findings), "shown": [asdict(found) for found in findings[:SHOWN]],
        })


class _Reconciler(Protocol):
    async def reconcile(self) -> Any: ...


class ReconcileWorker:
    """Everything that no webhook has brought. Beginning again is safe: each of Stripe's objects has one effect."""

    def __init__(self, payments: _Reconciler) -> None:
        self._payments = payments

    async def run(self, work: Work, teller: Teller) -> Made:
        try:
            found = await tell_while(teller, "Asking Stripe", self._payments.reconcile())
        except PaymentsDown as error:
            raise WorkFailed("Stripe did not answer. Nothing was changed; start it again later.") from error
        return Made(1, 1, asdict(found))


class PriceSyncWorker:
    """One round of reading the price lists."""

    def __init__(
        self, source: PriceSource, versions: PriceVersions, overrides: Sequence[ModelPrice], clock: Clock, *, fetch:
        bool ) -> None:
        self._source = source
        self._versions = versions
        self._overrides = overrides
        self._clock = clock
        self._fetch = fetch

    async def run(self, work: Work, teller: Teller) -> Made:
        report = await tell_while(teller, "Reading price lists", sync_prices(
            self._source, self._versions, self._overrides, at_ms=self._clock.now_ms(), fetch=self._fetch
        ))
        return Made(1, 1, {
            "version": report.version, "changed": report.changed, "unreachable": report.unreachable,
            "held_back": list(report.held_back[:SHOWN]),
        })
