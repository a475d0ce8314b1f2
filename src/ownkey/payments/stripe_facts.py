"""Stripe's objects as plain facts: only what the books need, whatever else the object carries.

An object that was not made for this deployment has no order here: its `order_id` is "", and nothing is booked for it.
"""

from collections.abc import Mapping
from typing import Any

from ownkey.domain.billing import (
    CheckoutFacts,
    DisputeFacts,
    EventHint,
    InvoiceFacts,
    RefundFacts,
    SubscriptionFacts,
)

Object = Mapping[str, Any]

WORKSPACE, ORDER, PURPOSE, INSTANCE = "ownkey_workspace", "ownkey_order", "ownkey_purpose", "ownkey_instance"
"""The names of our metadata on every object that we make."""


def checkout_facts(session: Object, instance: str) -> CheckoutFacts:
    """A Checkout session. Its metadata names the order; `client_reference_id` says it a second time."""
    workspace, order, purpose = _ours(session, instance)
    return CheckoutFacts(
        id=_id(session), order_id=order, workspace_id=workspace, purpose=purpose, mode=_text(session, "mode"),
        status=_text(session, "status"), payment_status=_text(session, "payment_status"),
        amount_cents=_optional_whole(session, "amount_total"), currency=_text(session, "currency"),
        url=_text(session, "url"), customer=_id(session.get("customer")),
        subscription=_id(session.get("subscription")), payment_intent=_id(session.get("payment_intent")),
        expires_at_ms=_ms(session, "expires_at") or 0, livemode=_flag(session, "livemode"),
    )


def subscription_facts(subscription: Object, instance: str) -> SubscriptionFacts:
    """A subscription with its one item; the period is the item's (Stripe API since 2025-03-31)."""
    workspace, order, purpose = _ours(subscription, instance)
    item = next(iter(_rows(subscription.get("items"))), {})
    price = item.get("price") or {}
    invoice = subscription.get("latest_invoice")
    steps = invoice.get("status_transitions") or {} if isinstance(invoice, Mapping) else {}
    why = (subscription.get("cancellation_details") or {}).get("reason")
    items = _rows(subscription.get("items"))
    return SubscriptionFacts(
        id=_id(subscription), customer=_id(subscription.get("customer")), workspace_id=workspace, order_id=order,
        purpose=purpose, status=_text(subscription, "status"), created_ms=_ms(subscription, "created") or 0,
        period_start_ms=_ms(item, "current_period_start") or _ms(subscription, "start_date") or 0,
        period_end_ms=_ms(item, "current_period_end") or 0, cancel_at_ms=_ms(subscription, "cancel_at"),
        cancel_at_period_end=_flag(subscription, "cancel_at_period_end"),
        ended_at_ms=_ms(subscription, "ended_at"), failed_payment=why == "payment_failed",
        owed_since_ms=_ms(steps, "finalized_at"),
        amount_cents=sum(_whole(row.get("price") or {}, "unit_amount") * _quantity(row) for row in items),
        currency=_text(price, "currency") or _text(subscription, "currency"),
        livemode=_flag(subscription, "livemode"),
    )


def invoice_facts(invoice: Object) -> InvoiceFacts:
    """An invoice, with the payment intents that paid it."""
    parent = (invoice.get("parent") or {}).get("subscription_details") or {}
    line: Object = next(iter(_rows(invoice.get("lines"))), {})
    paid = [
        row for row in _rows(invoice.get("payments")) if _text(row, "status") == "paid"
    ]
    return InvoiceFacts(
        id=_id(invoice), subscription=_id(parent.get("subscription")), customer=_id(invoice.get("customer")),
        status=_text(invoice, "status"), amount_paid_cents=_whole(invoice, "amount_paid"),
        currency=_text(invoice, "currency"),
        period_start_ms=_ms(line.get("period") or {}, "start") or _ms(invoice, "period_start") or 0,
        created_ms=_ms(invoice, "created") or 0,
        payment_intents=tuple(
            intent for row in paid if (intent := _id((row.get("payment") or {}).get("payment_intent")))
        ),
        livemode=_flag(invoice, "livemode"),
    )


def refund_facts(refund: Object) -> RefundFacts:
    return RefundFacts(
        _id(refund), _id(refund.get("payment_intent")), _whole(refund, "amount"), _text(refund, "currency"),
        _text(refund, "status"), _ms(refund, "created") or 0,
    )


def dispute_facts(dispute: Object) -> DisputeFacts:
    return DisputeFacts(
        _id(dispute), _id(dispute.get("payment_intent")), _whole(dispute, "amount"), _text(dispute, "currency"),
        _text(dispute, "status"), _ms(dispute, "created") or 0, _flag(dispute, "livemode"),
    )


def event_hint(event: Object) -> EventHint:
    """What an event says happened. Raises ValueError for what is no event at all."""
    data = event.get("data")
    touched = data.get("object") if isinstance(data, Mapping) else None
    if event.get("object") != "event" or not isinstance(touched, Mapping):
        raise ValueError("not an event")
    ident, kind, created = event.get("id"), event.get("type"), event.get("created")
    if not isinstance(ident, str) or not isinstance(kind, str) or isinstance(created, bool) \
            or not isinstance(created, int) or not ident:
        raise ValueError("an event without an id, a type or a time")
    return EventHint(
        ident, kind, created * 1_000, _flag(event, "livemode"), _text(event, "account"), _text(touched, "object"),
        _text(touched, "id"),
    )


def _ours(found: Object, instance: str) -> tuple[str, str, str]:
    metadata = found.get("metadata") or {}
    if metadata.get(INSTANCE) != instance:
        return "", "", ""
    return _text(metadata, WORKSPACE), _text(metadata, ORDER), _text(metadata, PURPOSE)


def _rows(found: Any) -> list[Object]:
    rows = found.get("data") if isinstance(found, Mapping) else found
    return [row for row in rows or [] if isinstance(row, Mapping)]


def _id(found: Any) -> str:
    """An object's id, or an id that was not expanded."""
    if isinstance(found, Mapping):
        found = found.get("id")
    return found if isinstance(found, str) else ""


def _text(found: Object, name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""


def _optional_whole(found: Object, name: str) -> int | None:
    value = found.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _whole(found: Object, name: str) -> int:
    return _optional_whole(found, name) or 0


def _quantity(item: Object) -> int:
    quantity = _optional_whole(item, "quantity")
    return 1 if quantity is None else quantity


def _ms(found: Object, name: str) -> int | None:
    seconds = _optional_whole(found, name)
    return None if seconds is None else seconds * 1_000


def _flag(found: Object, name: str) -> bool:
    return found.get(name) is True
