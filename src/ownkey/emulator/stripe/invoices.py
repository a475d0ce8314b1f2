"""Invoices: draft, open, paid; their lines, their payment, and the items that wait for the next one.

What an invoice means for a subscription is not known here (`billing`).
"""

from dataclasses import dataclass

from .lists import where
from .payments import Wish, new_intent
from .refusals import Json, invalid
from .shapes import blank
from .world import World, listed

_REASONS = {
    "subscription_create": "Subscription creation", "subscription_cycle": "Subscription update",
    "subscription_update": "Subscription update", "manual": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One line to come. `item` is the subscription item it bills, `invoice_item` the pending item it takes up."""

    amount: int
    description: str
    start: int
    end: int
    price: Json | None
    quantity: int
    item: str | None = None
    invoice_item: str | None = None
    proration: bool = False
    metadata: Json | None = None


@dataclass(frozen=True, slots=True)
class Bill:
    """What a new invoice is for."""

    customer: Json
    currency: str
    reason: str
    lines: tuple[Line, ...]
    subscription: Json | None = None
    metadata: Json | None = None
    description: str | None = None
    auto_advance: bool = True
    collection: str = "charge_automatically"
    days_until_due: int | None = None
    method: str | None = None


def draft(world: World, bill: Bill) -> Json:
    """A draft of the bill. Nothing is asked of anybody yet."""
    customer, ident = bill.customer, world.new_id("in_1")
    now = world.moment(customer["test_clock"])
    parent = None
    if bill.subscription is not None:
        details = {"metadata": dict(bill.subscription["metadata"]), "subscription": bill.subscription["id"],
                   "subscription_proration_date": None}  # fmt: skip
        parent = {"quote_details": None, "subscription_details": details, "type": "subscription_details"}
    made = world.make(
        "invoice", ident, now, account_country="US", account_name="Emulated", attempted=False, attempt_count=0,
        amount_due=0, amount_overpaid=0, amount_paid=0, amount_remaining=0, amount_shipping=0,
        auto_advance=bill.auto_advance, billing_reason=bill.reason, collection_method=bill.collection,
        automatic_tax={"disabled_reason": None, "enabled": False, "liability": None, "provider": None, "status": None},
        currency=bill.currency, customer=customer["id"], customer_email=customer["email"], status="draft",
        customer_name=customer["name"], customer_tax_exempt="none", customer_tax_ids=[], default_tax_rates=[],
        description=bill.description, discounts=[], issuer={"type": "self"}, metadata=dict(bill.metadata or {}),
        lines=listed([], f"/v1/invoices/{ident}/lines"), parent=parent, test_clock=customer["test_clock"],
        payment_settings={"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
        period_start=now, period_end=now, post_payment_credit_notes_amount=0, pre_payment_credit_notes_amount=0,
        starting_balance=customer["balance"], status_transitions=dict.fromkeys(
            ("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")),
        subtotal=0, total=0, total_discount_amounts=[], total_pretax_credit_amounts=[], total_taxes=[],
        default_payment_method=bill.method,
    )  # fmt: skip
    if bill.days_until_due is not None:
        made["due_date"] = now + bill.days_until_due * 86_400
    for line in bill.lines:
        _add(world, made, line)
    _add_up(made)
    if bill.subscription is not None and bill.lines:
        made["period_start"] = min(line.start for line in bill.lines)
    world.emit("invoice.created", made)
    return made


def _add(world: World, invoice: Json, line: Line) -> None:
    """Write one line of a draft."""
    details = invoice["parent"]["subscription_details"] if invoice["parent"] else None
    subscription = details["subscription"] if details else None
    parent: Json = {"invoice_item_details": None, "subscription_item_details": None}
    if line.item is not None:
        parent |= {"type": "subscription_item_details", "subscription_item_details": {
            "invoice_item": line.invoice_item, "proration": line.proration, "proration_details": None,
            "subscription": subscription, "subscription_item": line.item}}  # fmt: skip
    else:
        parent |= {"type": "invoice_item_details", "invoice_item_details": {
            "invoice_item": line.invoice_item, "proration": line.proration, "proration_details": None,
            "subscription": subscription}}  # fmt: skip
    price = line.price
    pricing = None if price is None else {
        "type": "price_details", "unit_amount_decimal": price["unit_amount_decimal"],
        "price_details": {"price": price["id"], "product": price["product"]},
    }  # fmt: skip
    invoice["lines"]["data"].append({
        "id": world.new_id("il_1"), **blank("line_item"), "amount": line.amount, "currency": invoice["currency"],
        "description": line.description, "discount_amounts": [], "discountable": not line.proration, "discounts": [],
        "invoice": invoice["id"], "livemode": invoice["livemode"], "metadata": dict(line.metadata or {}),
        "parent": parent, "period": {"end": line.end, "start": line.start}, "pretax_credit_amounts": [],
        "pricing": pricing, "quantity": line.quantity, "quantity_decimal": str(line.quantity), "taxes": [],
        "subtotal": line.amount, "subscription": subscription,
    })  # fmt: skip


def _add_up(invoice: Json) -> None:
    total = sum(line["amount"] for line in invoice["lines"]["data"])
    due = max(0, total + min(0, invoice["starting_balance"]))
    invoice |= {
        "subtotal": total, "subtotal_excluding_tax": total, "total": total, "total_excluding_tax": total,
        "amount_due": due, "amount_remaining": due,
    }  # fmt: skip


def take_pending(world: World, customer: str, subscription: str | None) -> tuple[Line, ...]:
    """The lines of the invoice items that wait for this customer or subscription. `bind` marks them as taken."""
    lines = []
    for item in where(world.every("invoiceitem"), customer=customer):
        parent = item["parent"]["subscription_details"] if item["parent"] else None
        if item["invoice"] is not None or (parent["subscription"] if parent else None) != subscription:
            continue
        lines.append(line_of(world, item))
    return tuple(lines)


def line_of(world: World, item: Json) -> Line:
    """An invoice item as a line."""
    details = item["pricing"]["price_details"] if item["pricing"] else None
    parent = item["parent"]["subscription_details"] if item["parent"] else None
    return Line(
        item["amount"], item["description"] or "", item["period"]["start"], item["period"]["end"],
        world.find("price", details["price"]) if details else None, item["quantity"],
        parent["subscription_item"] if parent else None, item["id"], item["proration"], item["metadata"],
    )  # fmt: skip


def bind(world: World, invoice: Json) -> None:
    """Mark the pending items on an invoice as taken by it."""
    for line in invoice["lines"]["data"]:
        inner = line["parent"]["invoice_item_details"] or line["parent"]["subscription_item_details"]
        if inner["invoice_item"]:
            world.get("invoiceitem", inner["invoice_item"])["invoice"] = invoice["id"]


def add_line(world: World, invoice: Json, line: Line) -> None:
    """Add to a draft; an invoice that has left draft does not change."""
    if invoice["status"] != "draft":
        message = "You can't add invoice items to an invoice that is not a draft."
        raise invalid(message, "invoice", "invoice_not_editable")
    _add(world, invoice, line)
    _add_up(invoice)


def pending_item(world: World, customer: Json, subscription: Json | None, line: Line, currency: str) -> Json:
    """An invoice item that waits for the next invoice."""
    price, now = line.price, world.moment(customer["test_clock"])
    parent = None
    if subscription is not None:
        details = {"subscription": subscription["id"], "subscription_item": line.item}
        parent = {"subscription_details": details, "type": "subscription_details"}
    pricing = None if price is None else {
        "type": "price_details", "unit_amount_decimal": price["unit_amount_decimal"],
        "price_details": {"price": price["id"], "product": price["product"]},
    }  # fmt: skip
    made = world.make(
        "invoiceitem", world.new_id("ii_1"), now, amount=line.amount, currency=currency, customer=customer["id"],
        date=now, description=line.description, discountable=not line.proration, discounts=[], parent=parent,
        metadata=dict(line.metadata or {}), net_amount=line.amount, period={"end": line.end, "start": line.start},
        pricing=pricing, proration=line.proration, quantity=line.quantity, quantity_decimal=str(line.quantity),
        tax_rates=[], test_clock=customer["test_clock"],
    )  # fmt: skip
    made.pop("created")
    world.emit("invoiceitem.created", made)
    return made


def finalize(world: World, invoice: Json) -> None:
    """Leave draft: number, balance, and the intent that will pay it. Nothing due is paid at once by `billing`."""
    if invoice["status"] != "draft":
        raise invalid("This invoice is already finalized, you can't re-finalize a non-draft invoice.", "invoice",
                      "invoice_not_editable")  # fmt: skip
    customer = world.get("customer", invoice["customer"])
    now = world.moment(invoice["test_clock"])
    sequence = customer["next_invoice_sequence"]
    customer["next_invoice_sequence"] = sequence + 1
    invoice["starting_balance"] = customer["balance"]
    _add_up(invoice)
    _use_balance(world, invoice, customer)
    invoice |= {
        "status": "open", "number": f"{customer['invoice_prefix']}-{sequence:04}", "effective_at": now,
        "hosted_invoice_url": f"{world.url}/invoices/{invoice['id']}", "automatically_finalizes_at": None,
        "invoice_pdf": f"{world.url}/invoices/{invoice['id']}/pdf", "ending_balance": customer["balance"],
        "status_transitions": {**invoice["status_transitions"], "finalized_at": now},
    }  # fmt: skip
    if invoice["amount_due"] > 0:
        _ask_for_payment(world, invoice)
    world.emit("invoice.finalized", invoice)


def _use_balance(world: World, invoice: Json, customer: Json) -> None:
    """A negative total becomes credit; credit pays first."""
    after = min(0, invoice["starting_balance"]) + invoice["total"]
    left = min(0, after) + max(0, invoice["starting_balance"])
    if left != customer["balance"]:
        with world.changing(customer, "customer.updated"):
            customer["balance"] = left


def _ask_for_payment(world: World, invoice: Json) -> None:
    wish = Wish(
        invoice["amount_due"], invoice["currency"], invoice["customer"],
        invoice["description"] or _REASONS.get(invoice["billing_reason"]) or f"Payment for Invoice {invoice['number']}",
        {}, "off_session", invoice["customer_email"],
    )  # fmt: skip
    intent = new_intent(world, wish)
    now = world.now()
    payment = world.make(
        "invoice_payment", world.new_id("inpay_1"), now, amount_requested=invoice["amount_due"],
        currency=invoice["currency"], invoice=invoice["id"], is_default=True,
        payment={"payment_intent": intent["id"], "type": "payment_intent"}, status="open",
        status_transitions={"canceled_at": None, "paid_at": None},
    )  # fmt: skip
    world.hidden(intent["id"])["invoice"] = invoice["id"]
    world.hidden(invoice["id"]).update(intent=intent["id"], payment=payment["id"])


def intent_of(world: World, invoice: Json) -> Json | None:
    """The intent that pays an invoice, or None where nothing is due."""
    return world.find("payment_intent", world.hidden(invoice["id"]).get("intent"))


def set_paid(world: World, invoice: Json, *, elsewhere: bool = False) -> None:
    """The money is there; `elsewhere` means outside Stripe."""
    now = world.moment(invoice["test_clock"])
    payment = world.find("invoice_payment", world.hidden(invoice["id"]).get("payment"))
    if payment is not None:
        paid = not elsewhere
        at = "paid_at" if paid else "canceled_at"
        payment["status"] = "paid" if paid else "canceled"
        payment["amount_paid"] = payment["amount_requested"] if paid else None
        payment["status_transitions"] = {**payment["status_transitions"], at: now}
    if invoice["amount_due"] > 0 and not elsewhere:
        invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
    invoice |= {
        "status": "paid", "amount_paid": 0 if elsewhere else invoice["amount_due"], "amount_remaining": 0,
        "next_payment_attempt": None, "auto_advance": False,
        "status_transitions": {**invoice["status_transitions"], "paid_at": now},
    }  # fmt: skip
    if elsewhere:
        invoice["amount_paid_off_stripe"] = invoice["amount_due"]
    world.emit("invoice.paid", invoice)
    world.emit("invoice.payment_succeeded", invoice)
    if payment is not None and not elsewhere:
        world.emit("invoice_payment.paid", payment)


def payments_of(world: World, invoice: Json) -> Json:
    """What `expand[]=payments` shows."""
    items = where(world.every("invoice_payment"), invoice=invoice["id"])
    return listed(list(reversed(items)), f"/v1/invoice_payments?invoice={invoice['id']}")


def secret_of(world: World, invoice: Json) -> Json:
    """What `expand[]=confirmation_secret` shows."""
    intent = intent_of(world, invoice)
    return {"client_secret": intent["client_secret"] if intent else "", "type": "payment_intent"}
