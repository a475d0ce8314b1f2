"""Stripe, through its own library: pages to pay on, objects as facts, and whether a webhook is really Stripe's.

Every call has a timeout and the library's own retries; whatever creates or changes something carries an
Idempotency-Key that the books had before. Nothing from the environment steers it, and no answer is trusted further
than its fields.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import httpx
import msgspec
import stripe

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
)
from ownkey.payments.stripe_facts import (
    INSTANCE,
    ORDER,
    PURPOSE,
    WORKSPACE,
    checkout_facts,
    dispute_facts,
    event_hint,
    invoice_facts,
    refund_facts,
    subscription_facts,
)

T = TypeVar("T")

TIMEOUT_S = 20.0
TOLERANCE_S = 300
RETRIES = 2
PAGE = 100
MOST_EVENTS = 10_000


class _Client(stripe.HTTPXClient):
    """The library's asynchronous client, deaf to proxies that the environment may name."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout=timeout_s)
        self._client_async = httpx.AsyncClient(trust_env=False, follow_redirects=False)


class StripePayments:
    """Satisfies `control.ports.Payments` and `Webhooks`. `instance` marks what this deployment makes; `account` is
    the only connected account whose events count, "" for the key's own; `secrets` verify webhooks, newest first."""

    def __init__(
        self, *, api_key: str, secrets: Sequence[str], instance: str, api_url: str = "", account: str = "",
        product_name: str, price_id: str = "", timeout_s: float = TIMEOUT_S,
    ) -> None:
        if not api_key or not secrets or not all(secrets):
            raise ValueError("payments need Stripe's key and at least one webhook secret")
        self._secrets = tuple(secrets)
        self._instance = instance
        self._account = account
        self._product_name = product_name
        self._price_id = price_id
        self._http = _Client(timeout_s)
        self._stripe = stripe.StripeClient(
            api_key, http_client=self._http, max_network_retries=RETRIES,
            base_addresses={"api": api_url} if api_url else None,
        ).v1
        self.livemode = api_key.partition("_")[2].startswith("live_")

    def __repr__(self) -> str:
        return f"StripePayments(livemode={self.livemode})"

    async def aclose(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]

    # --- webhooks

    def read_event(self, raw: bytes, signature: str, now_ms: int) -> EventHint:
        """The event, if Stripe signed these very bytes with one of our secrets at most 300 s ago, for this mode and
        account. Raises EventRefused."""
        self._verify(raw, signature, now_ms // 1_000)
        try:
            # Not by the library: it would also unwrap the envelopes of cloud event buses.
            hint = event_hint(msgspec.json.decode(raw, type=dict[str, Any]))
        except (ValueError, RecursionError) as error:
            raise EventRefused("not an event") from error
        if hint.livemode is not self.livemode:
            raise EventRefused("of the other mode (test or live)")
        if hint.account and hint.account != self._account:
            raise EventRefused("of another account")
        return hint

    def _verify(self, raw: bytes, signature: str, now_s: int) -> None:
        # The library's own clock and tolerance are left out: our clock decides, in both directions.
        for secret in self._secrets:
            try:
                stripe.WebhookSignature.verify_header(raw, signature, secret, tolerance=None)
                break
            except (stripe.SignatureVerificationError, UnicodeError, TypeError):
                continue
        else:
            raise EventRefused("without a valid signature")
        try:
            signed_at = int(next(part[2:] for part in signature.split(",") if part.startswith("t=")))
        except (StopIteration, ValueError):
            raise EventRefused("without a time") from None
        if abs(now_s - signed_at) > TOLERANCE_S:
            raise EventRefused("too old, or signed by another clock")

    async def list_events(self, since_ms: int, kinds: Sequence[str]) -> Sequence[EventHint]:
        """What Stripe has announced since then, of these types, oldest first. Stripe keeps 30 days."""
        found: list[EventHint] = []
        # Stripe takes at most 20 types at once.
        for first in range(0, len(kinds), 20):
            found += await self._list_events(since_ms, list(kinds[first:first + 20]))
        return sorted(found, key=lambda hint: (hint.created_ms, hint.id))

    async def _list_events(self, since_ms: int, kinds: list[str]) -> list[EventHint]:
        page = await self._ask(lambda: self._stripe.events.list_async({
            "created": {"gte": since_ms // 1_000}, "types": kinds, "limit": PAGE,
        }))
        found = []
        while True:
            found += [event_hint(row) for row in page.to_dict()["data"]]
            if not page.has_more or len(found) >= MOST_EVENTS:
                return found
            page = await self._ask(page.next_page_async)

    # --- pages

    async def create_checkout(self, order: Order) -> CheckoutFacts:
        """The page where this order is paid; asked again, the same page. Raises PaymentsDown, PaymentsRefused."""
        marks = {
            WORKSPACE: order.workspace_id, ORDER: order.id, PURPOSE: order.purpose, INSTANCE: self._instance,
        }
        params: dict[str, Any] = {
            "client_reference_id": order.id, "metadata": marks, "line_items": [self._line(order)],
            "success_url": _with(order.return_url, "paid"), "cancel_url": _with(order.return_url, "left"),
        }
        if order.customer:
            params["customer"] = order.customer
        if order.purpose == "addon":
            params |= {"mode": "subscription", "subscription_data": {"metadata": marks}}
        else:
            params |= {"mode": "payment", "payment_intent_data": {"metadata": marks}}
            if not order.customer:
                params["customer_creation"] = "always"
        session = await self._ask(lambda: self._stripe.checkout.sessions.create_async(
            params, {"idempotency_key": f"ownkey-checkout-{order.id}"}  # type: ignore[arg-type]
        ))
        return checkout_facts(session.to_dict(), self._instance)

    def _line(self, order: Order) -> dict[str, Any]:
        if order.purpose == "addon" and self._price_id:
            return {"price": self._price_id, "quantity": 1}
        name = self._product_name if order.purpose == "addon" else f"{order.credits:,} credits"
        price: dict[str, Any] = {
            "currency": order.currency, "unit_amount": order.amount_cents, "product_data": {"name": name},
        }
        if order.purpose == "addon":
            price["recurring"] = {"interval": "month"}
        return {"price_data": price, "quantity": 1}

    async def open_portal(self, customer: str, return_url: str) -> str:
        """Stripe's own page for the card, the invoices and the cancellation; works for minutes."""
        session = await self._ask(lambda: self._stripe.billing_portal.sessions.create_async(
            {"customer": customer, "return_url": return_url}
        ))
        return str(session.url)

    # --- objects as they are now

    async def load_checkout(self, checkout_id: str) -> CheckoutFacts:
        session = await self._ask(lambda: self._stripe.checkout.sessions.retrieve_async(checkout_id))
        return checkout_facts(session.to_dict(), self._instance)

    async def find_checkout(self, payment_intent: str) -> CheckoutFacts | None:
        """The session that a payment was made in; None if it was made in none."""
        page = await self._ask(lambda: self._stripe.checkout.sessions.list_async(
            {"payment_intent": payment_intent, "limit": 1}
        ))
        rows = page.to_dict()["data"]
        return checkout_facts(rows[0], self._instance) if rows else None

    async def end_checkout(self, checkout_id: str) -> CheckoutFacts:
        """Close a page that nobody shall pay on any more."""
        session = await self._ask(lambda: self._stripe.checkout.sessions.expire_async(
            checkout_id, options={"idempotency_key": f"ownkey-expire-{checkout_id}"}
        ))
        return checkout_facts(session.to_dict(), self._instance)

    async def load_subscription(self, subscription_id: str) -> SubscriptionFacts:
        found = await self._ask(lambda: self._stripe.subscriptions.retrieve_async(
            subscription_id, {"expand": ["latest_invoice"]}
        ))
        return subscription_facts(found.to_dict(), self._instance)

    async def load_invoice(self, invoice_id: str) -> InvoiceFacts:
        found = await self._ask(lambda: self._stripe.invoices.retrieve_async(invoice_id, {"expand": ["payments"]}))
        return invoice_facts(found.to_dict())

    async def find_invoice(self, payment_intent: str) -> InvoiceFacts | None:
        """The invoice that a payment was made for; None if for none."""
        page = await self._ask(lambda: self._stripe.invoice_payments.list_async(
            {"payment": {"type": "payment_intent", "payment_intent": payment_intent}, "limit": 1}
        ))
        rows = page.to_dict()["data"]
        if not rows:
            return None
        invoice = rows[0]["invoice"]
        return await self.load_invoice(invoice if isinstance(invoice, str) else invoice["id"])

    async def load_invoices(self, subscription_id: str) -> Sequence[InvoiceFacts]:
        """A subscription's paid invoices, newest first, at most a hundred."""
        page = await self._ask(lambda: self._stripe.invoices.list_async({
            "subscription": subscription_id, "status": "paid", "limit": PAGE, "expand": ["data.payments"],
        }))
        return [invoice_facts(row) for row in page.to_dict()["data"]]

    async def load_refund(self, refund_id: str) -> RefundFacts:
        found = await self._ask(lambda: self._stripe.refunds.retrieve_async(refund_id))
        return refund_facts(found.to_dict())

    async def load_refunds(self, charge_id: str) -> Sequence[RefundFacts]:
        """Every refund of a charge, oldest first."""
        page = await self._ask(lambda: self._stripe.refunds.list_async({"charge": charge_id, "limit": PAGE}))
        found = [refund_facts(row) for row in page.to_dict()["data"]]
        return sorted(found, key=lambda refund: (refund.created_ms, refund.id))

    async def load_dispute(self, dispute_id: str) -> DisputeFacts:
        found = await self._ask(lambda: self._stripe.disputes.retrieve_async(dispute_id))
        return dispute_facts(found.to_dict())

    async def tell_subscription(self, subscription_id: str, wish: str, key: str) -> SubscriptionFacts:
        """`wish` "cancel" ends it with its period, "keep" undoes that, "end" ends it now. `key` was stored before."""
        options: Any = {"idempotency_key": f"ownkey-{key}"}
        expand = ["latest_invoice"]
        if wish == "end":
            found = await self._ask(lambda: self._stripe.subscriptions.cancel_async(
                subscription_id, {"expand": expand}, options
            ))
        else:
            found = await self._ask(lambda: self._stripe.subscriptions.update_async(
                subscription_id, {"cancel_at_period_end": wish == "cancel", "expand": expand}, options
            ))
        return subscription_facts(found.to_dict(), self._instance)

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """One request. Raises PaymentsDown where Stripe may be asked again, PaymentsRefused where it said no."""
        try:
            return await call()
        except (stripe.APIConnectionError, stripe.RateLimitError) as error:
            raise PaymentsDown(type(error).__name__) from error
        except stripe.StripeError as error:
            if error.http_status is None or error.http_status >= 500 or error.http_status == 409:
                raise PaymentsDown(f"{type(error).__name__} {error.http_status}") from error
            raise PaymentsRefused(error.code or type(error).__name__) from error


def _with(url: str, came_back: str) -> str:
    """The return page's address, told how the person came back; the page asks for the state, it does not believe."""
    return f"{url}{'&' if '?' in url else '?'}ownkey_checkout={came_back}"
