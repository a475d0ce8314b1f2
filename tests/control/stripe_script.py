"""A Stripe that a test moves by hand: it satisfies the Payments port, keeps objects, and lists what it announced."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ownkey.domain.billing import (
    CheckoutFacts,
    DisputeFacts,
    EventHint,
    EventRefused,
    InvoiceFacts,
    Order,
    PaymentsDown,
    PaymentsRefused,
    RefundFacts,
    SubscriptionFacts,
    anniversary,
)

HOUR_MS = 3_600_000


@dataclass
class ScriptedStripe:
    """`down`: nothing answers. `now_ms` is the clock of whoever moves it. `asked` counts requests by name."""

    livemode: bool = False
    now_ms: int = 1_795_000_000_000
    down: bool = False
    checkouts: dict[str, CheckoutFacts] = field(default_factory=dict)
    subscriptions: dict[str, SubscriptionFacts] = field(default_factory=dict)
    invoices: dict[str, InvoiceFacts] = field(default_factory=dict)
    refunds: dict[str, RefundFacts] = field(default_factory=dict)
    disputes: dict[str, DisputeFacts] = field(default_factory=dict)
    charges: dict[str, str] = field(default_factory=dict)
    events: list[EventHint] = field(default_factory=list)
    told: list[tuple[str, str, str]] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    _by_order: dict[str, str] = field(default_factory=dict)
    _count: Any = field(default_factory=lambda: itertools.count(1))

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._count):06}"

    def announce(self, kind: str, object_type: str, object_id: str) -> EventHint:
        event = EventHint(self.new_id("evt"), kind, self.now_ms, self.livemode, "", object_type, object_id)
        self.events.append(event)
        return event

    # --- what people and banks do

    def pay(self, checkout: str, ok: bool = True) -> None:
        """A card on the checkout page. A refused one leaves the page open, and nothing active."""
        session = self.checkouts[checkout]
        if session.mode == "payment":
            if ok:
                intent = self.new_id("pi")
                self.charges[self.new_id("ch")] = intent
                self._complete(session, payment_intent=intent, customer=session.customer or self.new_id("cus"))
            return
        subscription = self.new_id("sub")
        facts = SubscriptionFacts(
            id=subscription, customer=session.customer or self.new_id("cus"), workspace_id=session.workspace_id,
            order_id=session.order_id, purpose="addon", status="active" if ok else "incomplete",
            created_ms=self.now_ms, period_start_ms=self.now_ms, period_end_ms=anniversary(self.now_ms, 1),
            cancel_at_ms=None, cancel_at_period_end=False, ended_at_ms=None, failed_payment=False, owed_since_ms=None,
            amount_cents=session.amount_cents or 0, currency=session.currency, livemode=self.livemode,
        )
        self.subscriptions[subscription] = facts
        self.announce("customer.subscription.created", "subscription", subscription)
        if ok:
            self._complete(session, subscription=subscription, customer=facts.customer)
            self.bill(subscription)
        else:
            self.announce("invoice.payment_failed", "invoice", self._invoice(facts, paid=False))

    def _complete(self, session: CheckoutFacts, **changes: Any) -> None:
        self.checkouts[session.id] = replace(session, status="complete", payment_status="paid", **changes)
        self.announce("checkout.session.completed", "checkout.session", session.id)

    def _invoice(self, facts: SubscriptionFacts, paid: bool) -> str:
        invoice, intent = self.new_id("in"), self.new_id("pi")
        if paid:
            self.charges[self.new_id("ch")] = intent
        self.invoices[invoice] = InvoiceFacts(
            invoice, facts.id, facts.customer, "paid" if paid else "open", facts.amount_cents if paid else 0,
            facts.currency, facts.period_start_ms, self.now_ms, (intent,) if paid else (), self.livemode,
        )
        return invoice

    def bill(self, subscription: str) -> str:
        """The period's invoice is paid."""
        invoice = self._invoice(self.subscriptions[subscription], paid=True)
        self.announce("invoice.paid", "invoice", invoice)
        return invoice

    def change(self, subscription: str, **changes: Any) -> None:
        self.subscriptions[subscription] = replace(self.subscriptions[subscription], **changes)
        dead = changes.get("status") == "canceled"
        self.announce(f"customer.subscription.{'deleted' if dead else 'updated'}", "subscription", subscription)

    def renew(self, subscription: str, ok: bool = True) -> None:
        """The next period begins, and its invoice is paid, or is not."""
        facts = self.subscriptions[subscription]
        end = anniversary(facts.created_ms, _months(facts) + 1)
        if facts.cancel_at_period_end:
            self.change(subscription, status="canceled", ended_at_ms=facts.period_end_ms)
            return
        self.change(
            subscription, period_start_ms=facts.period_end_ms, period_end_ms=end,
            status="active" if ok else "past_due", owed_since_ms=None if ok else facts.period_end_ms + HOUR_MS,
        )
        if ok:
            self.bill(subscription)
        else:
            self.announce("invoice.payment_failed", "invoice", self._invoice(self.subscriptions[subscription], False))

    def pay_late(self, subscription: str) -> None:
        self.change(subscription, status="active", owed_since_ms=None)
        self.bill(subscription)

    def refund(self, payment_intent: str, cents: int, status: str = "succeeded") -> str:
        refund = self.new_id("re")
        self.refunds[refund] = RefundFacts(refund, payment_intent, cents, "usd", status, self.now_ms)
        self.announce("refund.created", "refund", refund)
        charge = next((ch for ch, intent in self.charges.items() if intent == payment_intent), "")
        self.announce("charge.refunded", "charge", charge)
        return refund

    def fail_refund(self, refund: str) -> None:
        self.refunds[refund] = replace(self.refunds[refund], status="failed")
        self.announce("refund.failed", "refund", refund)

    def dispute(self, payment_intent: str, cents: int) -> str:
        dispute = self.new_id("dp")
        self.disputes[dispute] = DisputeFacts(
            dispute, payment_intent, cents, "usd", "needs_response", self.now_ms, self.livemode
        )
        self.announce("charge.dispute.created", "dispute", dispute)
        return dispute

    def close_dispute(self, dispute: str, status: str) -> None:
        self.disputes[dispute] = replace(self.disputes[dispute], status=status)
        self.announce("charge.dispute.closed", "dispute", dispute)

    def expire(self, checkout: str) -> None:
        self.checkouts[checkout] = replace(self.checkouts[checkout], status="expired")
        self.announce("checkout.session.expired", "checkout.session", checkout)

    # --- the port

    def _answer(self) -> None:
        if self.down:
            raise PaymentsDown("scripted")

    def read_event(self, raw: bytes, signature: str, now_ms: int) -> EventHint:
        for event in self.events:
            if event.id == raw.decode():
                return event
        raise EventRefused("not ours")

    async def list_events(self, since_ms: int, kinds: Sequence[str]) -> Sequence[EventHint]:
        self._answer()
        return [event for event in self.events if event.created_ms >= since_ms and event.type in kinds]

    async def create_checkout(self, order: Order) -> CheckoutFacts:
        self._answer()
        known = self._by_order.get(order.id)
        if known is not None:
            return self.checkouts[known]
        checkout = self.new_id("cs")
        self.created.append(checkout)
        self._by_order[order.id] = checkout
        self.checkouts[checkout] = CheckoutFacts(
            id=checkout, order_id=order.id, workspace_id=order.workspace_id, purpose=order.purpose,
            mode="subscription" if order.purpose == "addon" else "payment", status="open", payment_status="unpaid",
            amount_cents=order.amount_cents, currency=order.currency, url=f"https://pay.test/{checkout}",
            customer=order.customer, subscription="", payment_intent="", expires_at_ms=self.now_ms + 24 * HOUR_MS,
            livemode=self.livemode,
        )
        return self.checkouts[checkout]

    async def load_checkout(self, checkout_id: str) -> CheckoutFacts:
        self._answer()
        return self.checkouts[checkout_id]

    async def find_checkout(self, payment_intent: str) -> CheckoutFacts | None:
        self._answer()
        return next((s for s in self.checkouts.values() if s.payment_intent == payment_intent), None)

    async def end_checkout(self, checkout_id: str) -> CheckoutFacts:
        self._answer()
        if self.checkouts[checkout_id].status != "open":
            raise PaymentsRefused("checkout_not_open")
        self.expire(checkout_id)
        return self.checkouts[checkout_id]

    async def open_portal(self, customer: str, return_url: str) -> str:
        self._answer()
        return f"https://portal.test/{customer}"

    async def load_subscription(self, subscription_id: str) -> SubscriptionFacts:
        self._answer()
        return self.subscriptions[subscription_id]

    async def tell_subscription(self, subscription_id: str, wish: str, key: str) -> SubscriptionFacts:
        self._answer()
        self.told.append((subscription_id, wish, key))
        if wish == "end":
            self.change(subscription_id, status="canceled", ended_at_ms=self.now_ms)
        else:
            self.change(subscription_id, cancel_at_period_end=wish == "cancel")
        return self.subscriptions[subscription_id]

    async def load_invoice(self, invoice_id: str) -> InvoiceFacts:
        self._answer()
        return self.invoices[invoice_id]

    async def find_invoice(self, payment_intent: str) -> InvoiceFacts | None:
        self._answer()
        return next((i for i in self.invoices.values() if payment_intent in i.payment_intents), None)

    async def load_invoices(self, subscription_id: str) -> Sequence[InvoiceFacts]:
        self._answer()
        return [i for i in self.invoices.values() if i.subscription == subscription_id and i.status == "paid"]

    async def load_refund(self, refund_id: str) -> RefundFacts:
        self._answer()
        return self.refunds[refund_id]

    async def load_refunds(self, charge_id: str) -> Sequence[RefundFacts]:
        self._answer()
        return [r for r in self.refunds.values() if r.payment_intent == self.charges[charge_id]]

    async def load_dispute(self, dispute_id: str) -> DisputeFacts:
        self._answer()
        return self.disputes[dispute_id]

    async def aclose(self) -> None:
        pass


def _months(facts: SubscriptionFacts) -> int:
    months = 0
    while anniversary(facts.created_ms, months) < facts.period_end_ms:
        months += 1
    return months
