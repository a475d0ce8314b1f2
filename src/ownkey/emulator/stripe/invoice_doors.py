"""Invoices and invoice items as the API offers them."""

from . import billing, invoices
from .customers import usable_method
from .form import Form
from .invoices import Bill, Line
from .lists import created_in, page, where
from .payments import error_of
from .refusals import Json, invalid
from .world import World, listed


def create(world: World, form: Form) -> Json:
    """POST /v1/invoices: a draft for a customer, with the items that wait for it."""
    customer = world.get("customer", form.need("customer"), "customer")
    world.usable(customer["test_clock"])
    pending = form.choice("pending_invoice_items_behavior", ("include", "exclude")) == "include"
    lines = invoices.take_pending(world, customer["id"], None) if pending else ()
    bill = Bill(
        customer, (form.text("currency") or customer["currency"] or "usd").lower(), "manual", lines, None,
        form.metadata(), form.text("description") or None, form.flag("auto_advance") or False,
        form.choice("collection_method", ("charge_automatically", "send_invoice")) or "charge_automatically",
        form.integer("days_until_due", least=0), form.text("default_payment_method") or None,
    )  # fmt: skip
    form.close()
    made = invoices.draft(world, bill)
    invoices.bind(world, made)
    if bill.auto_advance:
        made["automatically_finalizes_at"] = world.moment(customer["test_clock"]) + world.settings.finalize_after_s
    return made


def update(world: World, form: Form, ident: str) -> Json:
    """POST /v1/invoices/:id."""
    invoice = world.get("invoice", ident, in_path=True)
    changes: Json = {"metadata": form.metadata(invoice["metadata"])}
    for name in ("description", "default_payment_method"):
        if name in form:
            changes[name] = form.text(name) or None
    if form.flag("auto_advance") is not None:
        changes["auto_advance"] = form.flag("auto_advance")
    form.close()
    with world.changing(invoice, "invoice.updated"):
        invoice.update(changes)
    return invoice


def delete(world: World, form: Form, ident: str) -> Json:
    """DELETE /v1/invoices/:id: drafts only."""
    invoice = world.get("invoice", ident, in_path=True)
    form.close()
    if invoice["status"] != "draft" or invoice["parent"]:
        raise invalid("You can only delete draft invoices that belong to no subscription.", "id")
    world.drop("invoice", ident)
    world.emit("invoice.deleted", invoice)
    return {"id": ident, "object": "invoice", "deleted": True}


def finalize(world: World, form: Form, ident: str) -> Json:
    """POST /v1/invoices/:id/finalize."""
    invoice = world.get("invoice", ident, in_path=True)
    form.flag("auto_advance")
    form.close()
    invoices.finalize(world, invoice)
    if invoice["amount_due"] == 0:
        billing.collect(world, invoice)
    return invoice


def pay(world: World, form: Form, ident: str) -> Json:
    """POST /v1/invoices/:id/pay: 402 where the card is declined; the invoice stays open."""
    invoice = world.get("invoice", ident, in_path=True)
    world.usable(invoice["test_clock"])
    given, elsewhere = form.text("payment_method"), form.flag("paid_out_of_band") or False
    off_session = form.flag("off_session")
    form.skip("forgive")
    form.close()
    if invoice["status"] == "paid":
        raise invalid("Invoice is already paid", None, "invoice_already_paid")
    if invoice["status"] not in ("draft", "open", "uncollectible"):
        message = f"You can only pay an open invoice; this one is {invoice['status']}."
        raise invalid(message, None, "invoice_not_editable")
    if invoice["status"] == "draft":
        invoices.finalize(world, invoice)
    if elsewhere:
        billing.pay_elsewhere(world, invoice)
        return invoice
    method = usable_method(world, given, "payment_method") if given else billing.method_for(world, invoice)
    if method is None and invoice["amount_due"] > 0:
        raise invalid(
            "There is no `default_payment_method` set on this Customer or Invoice. Please either supply a payment "
            "method or set a default.",
        )  # fmt: skip
    decline = billing.collect(world, invoice, method, off_session=off_session is not False, scheduled=False)
    if decline is not None:
        intent = invoices.intent_of(world, invoice)
        assert intent is not None
        raise error_of(world, intent, decline)
    return invoice


def void(world: World, form: Form, ident: str) -> Json:
    """POST /v1/invoices/:id/void."""
    return _closed(world, form, ident, billing.void)


def write_off(world: World, form: Form, ident: str) -> Json:
    """POST /v1/invoices/:id/mark_uncollectible."""
    return _closed(world, form, ident, billing.write_off)


def _closed(world: World, form: Form, ident: str, close: object) -> Json:
    invoice = world.get("invoice", ident, in_path=True)
    form.close()
    if invoice["status"] not in ("open", "uncollectible"):
        raise invalid("You can only do this to an open invoice.", None, "invoice_not_editable")
    assert callable(close)
    close(world, invoice)
    return invoice


def list_all(world: World, form: Form) -> Json:
    """GET /v1/invoices."""
    items = where(
        created_in(form, world.every("invoice")), customer=form.text("customer"), status=form.text("status"),
        collection_method=form.text("collection_method"),
    )  # fmt: skip
    sub = form.text("subscription")
    if sub:
        items = [i for i in items if i["parent"] and i["parent"]["subscription_details"]["subscription"] == sub]
    return page(items, form, "/v1/invoices")


def list_lines(world: World, form: Form, ident: str) -> Json:
    """GET /v1/invoices/:id/lines."""
    invoice = world.get("invoice", ident, in_path=True)
    form.skip("limit", "starting_after", "ending_before")
    form.close()
    return listed(invoice["lines"]["data"], f"/v1/invoices/{ident}/lines")


def list_payments(world: World, form: Form) -> Json:
    """GET /v1/invoice_payments, by invoice or by the payment intent that paid."""
    items = where(
        world.every("invoice_payment"), invoice=form.text("invoice"),
        status=form.choice("status", ("open", "paid", "canceled")),
    )  # fmt: skip
    payment = form.section("payment")
    if payment is not None:
        if payment.need("type") != "payment_intent":
            raise invalid("The emulator's invoices are paid by payment intents.", "payment[type]")
        intent = payment.text("payment_intent")
        items = [item for item in items if item["payment"]["payment_intent"] == intent]
    return page(items, form, "/v1/invoice_payments")


def create_item(world: World, form: Form) -> Json:
    """POST /v1/invoiceitems: for a draft, or for whatever is billed next."""
    customer = world.get("customer", form.need("customer"), "customer")
    world.usable(customer["test_clock"])
    invoice = world.get("invoice", form.text("invoice"), "invoice") if "invoice" in form else None
    sub = world.get("subscription", form.text("subscription"), "subscription") if "subscription" in form else None
    quantity, pricing = form.integer("quantity", least=0), form.section("pricing")
    price = world.get("price", pricing.text("price"), "pricing[price]") if pricing else None
    amount = form.integer("amount")
    count = 1 if quantity is None else quantity
    if amount is None and price is None:
        raise invalid("Missing required param: amount.", "amount", "parameter_missing")
    total = amount if amount is not None else (price or {})["unit_amount"] * count
    now = world.moment(customer["test_clock"])
    period = form.section("period")
    start = (period.integer("start") if period else None) or now
    end = (period.integer("end") if period else None) or start
    line = Line(total, form.text("description") or "", start, end, price, count, metadata=form.metadata())
    currency = (form.text("currency") or (price or {}).get("currency") or customer["currency"] or "usd").lower()
    form.skip("discountable")
    form.close()
    made = invoices.pending_item(world, customer, sub, line, currency)
    if invoice is not None:
        invoices.add_line(world, invoice, invoices.line_of(world, made))
        made["invoice"] = invoice["id"]
    return made


def delete_item(world: World, form: Form, ident: str) -> Json:
    """DELETE /v1/invoiceitems/:id, while it waits."""
    item = world.get("invoiceitem", ident, in_path=True)
    form.close()
    if item["invoice"] is not None:
        raise invalid("This invoice item belongs to an invoice already.", "id", "invoice_not_editable")
    world.drop("invoiceitem", ident)
    world.emit("invoiceitem.deleted", item)
    return {"id": ident, "object": "invoiceitem", "deleted": True}


def list_items(world: World, form: Form) -> Json:
    """GET /v1/invoiceitems."""
    items = where(world.every("invoiceitem"), customer=form.text("customer"), invoice=form.text("invoice"))
    pending = form.flag("pending")
    if pending is not None:
        items = [item for item in items if (item["invoice"] is None) == pending]
    return page(items, form, "/v1/invoiceitems")
