"""What Stripe announces, turned into effects: fetch the object, book what it says, once.

An event is a hint. Subscriptions are fetched and booked one at a time, so that the later answer is the later row.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ownkey.control import ports
from ownkey.control.ports import Clock
from ownkey.control.problems import not_found
from ownkey.domain.billing import (
    DAY_MS,
    Applied,
    CheckoutFacts,
    EventHint,
    Fetched,
    OrderState,
    PaymentsDown,
    PaymentsRefused,
)

_log = logging.getLogger("ownkey.billing")

HANDLED = (
    "checkout.session.completed", "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed",
    "checkout.session.expired", "customer.subscription.created", "customer.subscription.updated",
    "customer.subscription.deleted", "customer.subscription.paused", "customer.subscription.resumed", "invoice.paid",
    "invoice.payment_succeeded", "invoice.payment_failed", "invoice.payment_action_required", "invoice.voided",
    "invoice.marked_uncollectible", "charge.refunded", "charge.refund.updated", "refund.created", "refund.updated",
    "refund.failed", "charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed",
    "charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated",
)
"""The events that can change our books; a webhook endpoint at Stripe needs these."""

LOOK_BACK_MS = 4 * DAY_MS
"""Stripe retries for three days; the daily round looks a day further back."""
_BATCH = 200


class _Store(ports.Orders, ports.Addons, ports.EventBook, Protocol):
    pass


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What the round found: events that no webhook had brought, objects asked anew, and what Stripe did not answer."""

    missed_events: int
    orders: int
    subscriptions: int
    wishes: int
    failed: int


class PaymentEvents:
    """`payments` None: nothing is paid by card, and nothing happens here."""

    def __init__(self, store: _Store, payments: ports.Payments | None, clock: Clock, grace_ms: int) -> None:
        self._store = store
        self._payments = payments
        self._clock = clock
        self._grace_ms = grace_ms
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    # --- events

    async def receive(self, raw: bytes, signature: str) -> Applied:
        """A webhook as it came. Raises EventRefused; "failed": Stripe shall send it again."""
        return await self.handle(self._stripe.read_event(raw, signature, self._clock.now_ms()), source="webhook")

    async def handle(self, hint: EventHint, *, source: str, again: bool = False) -> Applied:
        """`again`: an operator's retry, which also takes up what was quarantined."""
        known = await self._store.find_event(hint.id)
        if known is not None and not (again and known.state == "quarantined"):
            await self._store.count_delivery(hint.id)
            return replace(known, state="duplicate")
        if hint.type not in HANDLED:
            return await self._note(hint, Applied("ignored", "a type that changes nothing here"), source)
        try:
            applied = await self._work(hint, source)
        except PaymentsDown as error:
            return await self._note(hint, Applied("failed", f"Stripe did not answer: {error}"), source)
        except PaymentsRefused as error:
            if error.code == "resource_missing":
                return await self._note(hint, Applied("ignored", "the object does not exist at Stripe"), source)
            return await self._note(hint, Applied("failed", f"Stripe refused: {error.code}"), source)
        if applied.state == "quarantined":
            _log.critical("payment event %s (%s) is quarantined: %s", hint.id, hint.type, applied.reason)
        return applied

    async def _note(self, hint: EventHint, applied: Applied, source: str) -> Applied:
        if applied.state == "failed":
            _log.warning("payment event %s (%s) failed: %s", hint.id, hint.type, applied.reason)
        return await self._store.note_event(hint, applied, source=source, at_ms=self._clock.now_ms())

    async def _work(self, hint: EventHint, source: str) -> Applied:
        stripe = self._stripe
        match hint.type.split("."):
            case ["checkout", "session", what]:
                checkout = await stripe.load_checkout(hint.object_id)
                failed = what == "async_payment_failed"
                return await self._apply(hint, Fetched(checkout=checkout, failed_checkout=failed), source)
            case ["customer", "subscription", _]:
                return await self._apply(hint, Fetched(), source, subscription=hint.object_id)
            case ["invoice", _]:
                invoice = await stripe.load_invoice(hint.object_id)
                return await self._apply(hint, Fetched(invoice=invoice), source, subscription=invoice.subscription)
            case ["charge", "refunded"]:
                refunds = tuple(await stripe.load_refunds(hint.object_id))
                return await self._apply(hint, Fetched(refunds=refunds), source)
            case ["refund", _] | ["charge", "refund", _]:
                return await self._apply(hint, Fetched(refunds=(await stripe.load_refund(hint.object_id),)), source)
            case _:
                return await self._apply(hint, Fetched(dispute=await stripe.load_dispute(hint.object_id)), source)

    async def _apply(
        self, hint: EventHint | None, fetched: Fetched, source: str, *, subscription: str = ""
    ) -> Applied:
        """Complete what was fetched with what it depends on, then book all of it in one transaction."""
        fetched = await self._with_origin(fetched)
        checkout = fetched.checkout
        if checkout is not None and checkout.payment_status == "paid" and checkout.order_id:
            subscription = subscription or checkout.subscription
        if fetched.invoice is not None:
            subscription = subscription or fetched.invoice.subscription
        if not subscription:
            return await self._book(hint, fetched, source)
        async with self._lock(subscription):
            found = await self._stripe.load_subscription(subscription)
            return await self._book(hint, replace(fetched, subscription=found), source)

    async def _with_origin(self, fetched: Fetched) -> Fetched:
        """A refund or a dispute may be heard of before its payment: then the payment is fetched and booked first."""
        losses = (*fetched.refunds, *(() if fetched.dispute is None else (fetched.dispute,)))
        intents = {loss.payment_intent for loss in losses if loss.payment_intent}
        for intent in sorted(intents):
            if await self._store.knows_payment(intent):
                continue
            checkout = await self._stripe.find_checkout(intent)
            if checkout is not None:
                fetched = replace(fetched, checkout=checkout)
            else:
                fetched = replace(fetched, invoice=await self._stripe.find_invoice(intent))
        return fetched

    async def _book(self, hint: EventHint | None, fetched: Fetched, source: str) -> Applied:
        now = self._clock.now_ms()
        if hint is None:
            return await self._store.apply_facts(fetched, self._grace_ms, at_ms=now)
        return await self._store.apply_event(hint, fetched, self._grace_ms, source=source, at_ms=now)

    @asynccontextmanager
    async def _lock(self, name: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[name]
            if users == 1:
                del self._locks[name]
            else:
                self._locks[name] = (lock, users - 1)

    # --- without an event

    async def book_checkout(self, facts: CheckoutFacts) -> Applied:
        """A session that a return page has fetched."""
        return await self._told(await self._apply(None, Fetched(checkout=facts), ""))

    async def book_subscription(self, subscription: str) -> Applied:
        return await self._told(await self._apply(None, Fetched(), "", subscription=subscription))

    async def _told(self, applied: Applied) -> Applied:
        if applied.state == "quarantined":
            _log.critical("a payment is quarantined: %s", applied.reason)
        return applied

    async def grant_wish(
        self, workspace_id: str, wish_id: str, subscription: str, wish: str, *, quietly: bool = False
    ) -> bool:
        """Tell Stripe, and book what it answers. `quietly`: a failure is left to the next round."""
        try:
            async with self._lock(subscription):
                facts = await self._stripe.tell_subscription(subscription, wish, wish_id)
                await self._book(None, Fetched(subscription=facts), "")
        except (PaymentsDown, PaymentsRefused) as error:
            _log.warning("Stripe was not told to %s %s: %s", wish, subscription, error)
            if not quietly:
                raise
            return False
        return True

    # --- the inbox

    async def inbox(self, state: str | None, limit: int) -> Sequence[Mapping[str, Any]]:
        return await self._store.load_events(state, limit=limit)

    async def counts(self) -> Mapping[str, int]:
        return await self._store.count_events()

    async def retry(self, event_id: str) -> Applied:
        """Work on a failed or quarantined event once more. Raises Problem for one that does not exist."""
        return await self.handle(await self.find(event_id), source="reconcile", again=True)

    async def find(self, event_id: str) -> EventHint:
        """What is known of an event without asking Stripe. Raises Problem for one that is not in the inbox."""
        hint = await self._store.load_event(event_id)
        if hint is None:
            raise not_found("payment event", event_id, "in the inbox")
        return hint

    # --- rounds

    async def reconcile(self, look_back_ms: int = LOOK_BACK_MS) -> Reconciled:
        """What no webhook has brought: missed events, open orders, every subscription, and what Stripe was not told.

        Raises PaymentsDown if Stripe does not answer at all.
        """
        now = self._clock.now_ms()
        missed = failed = 0
        for hint in await self._stripe.list_events(now - look_back_ms, HANDLED):
            if await self._store.find_event(hint.id) is None:
                applied = await self.handle(hint, source="reconcile")
                missed += applied.state in ("processed", "quarantined")
                failed += applied.state == "failed"
        orders, lost = await self._ask_orders()
        subscriptions, unheard = await self.ask_subscriptions(paid_by_ms=now + 400 * DAY_MS)
        wishes, unsaid = await self.grant_wishes()
        return Reconciled(missed, orders, subscriptions, wishes, failed + lost + unheard + unsaid)

    async def _ask_orders(self) -> tuple[int, int]:
        done = failed = 0
        for order in await self._store.load_waiting_orders(limit=_BATCH):
            if not order.checkout:
                # Written before a crash, never sent or never heard of: a new click makes its page again.
                if order.created_at_ms < self._clock.now_ms() - DAY_MS:
                    await self._store.end_order(order, OrderState.EXPIRED)
                continue
            try:
                await self.book_checkout(await self._stripe.load_checkout(order.checkout))
                done += 1
            except (PaymentsDown, PaymentsRefused):
                failed += 1
        return done, failed

    async def ask_subscriptions(self, *, paid_by_ms: int) -> tuple[int, int]:
        """Ask Stripe about every subscription whose paid time ends by then: (answered, failed)."""
        done, failed, after = 0, 0, ""
        while True:
            page = await self._store.load_card_addons(paid_by_ms=paid_by_ms, after=after, limit=_BATCH)
            for addon in page:
                after = addon.workspace_id
                try:
                    await self._ask_subscription(addon.subscription)
                    done += 1
                except (PaymentsDown, PaymentsRefused):
                    failed += 1
            if len(page) < _BATCH:
                return done, failed

    async def _ask_subscription(self, subscription: str) -> None:
        async with self._lock(subscription):
            found = await self._stripe.load_subscription(subscription)
            invoices = await self._stripe.load_invoices(subscription)
            await self._told(await self._book(None, Fetched(subscription=found), ""))
            for invoice in invoices:
                await self._told(await self._book(None, Fetched(subscription=found, invoice=invoice), ""))

    async def grant_wishes(self) -> tuple[int, int]:
        wishes = await self._store.load_wishes(limit=_BATCH)
        granted = [await self.grant_wish(*wish, quietly=True) for wish in wishes]
        return sum(granted), len(granted) - sum(granted)

    async def run(self) -> None:
        """A frequent round: what failed, what Stripe was not told, and renewals that nobody has announced."""
        if self._payments is None:
            return
        for hint in await self._store.load_failed_events(limit=_BATCH):
            await self.handle(hint, source="reconcile")
        await self.grant_wishes()
        await self.ask_subscriptions(paid_by_ms=self._clock.now_ms())

    @property
    def on(self) -> bool:
        """Whether anything is paid by card."""
        return self._payments is not None

    @property
    def _stripe(self) -> ports.Payments:
        if self._payments is None:
            raise PaymentsDown("nothing is paid by card here")
        return self._payments
