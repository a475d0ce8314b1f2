"""Customers and their payment methods.

`pm_card_…` names give a fresh payment method each time, as in test mode. Attaching asks the card's bank, so that some
test cards already refuse there.
"""

from .cards import BY_NAME, Card, Decline, by_number
from .form import Form
from .lists import created_in, page, where
from .refusals import Json, Refusal, declined, invalid, missing
from .world import World, listed


def create_customer(world: World, form: Form) -> Json:
    """POST /v1/customers."""
    clock = form.text("test_clock") or None
    if clock:
        world.get("test_helpers.test_clock", clock, "test_clock")
        world.usable(clock)
    ident = world.new_id("cus_", 14)
    method = form.text("payment_method") or None
    invoice_settings = form.section("invoice_settings")
    default = invoice_settings.text("default_payment_method") if invoice_settings else None
    if invoice_settings:
        invoice_settings.skip("custom_fields", "footer")
    made = world.make(
        "customer", ident, world.moment(clock), balance=0, delinquent=False, invoice_prefix=world.new_id("", 8).upper(),
        description=form.text("description") or None, email=form.text("email") or None, metadata=form.metadata(),
        name=form.text("name") or None, next_invoice_sequence=1, phone=form.text("phone") or None,
        preferred_locales=form.texts("preferred_locales") or [], tax_exempt="none", test_clock=clock,
        address=address_of(form), shipping=None, invoice_settings=_invoice_settings(None),
    )  # fmt: skip
    form.skip("tax", "tax_exempt")
    form.close()
    world.emit("customer.created", made)
    if method is not None:
        attached = attach(world, usable_method(world, method, "payment_method"), made)
        if default == method:
            default = attached["id"]
    if default:
        _require_attached(world, default, ident)
        made["invoice_settings"] = _invoice_settings(default)
    return made


def address_of(form: Form) -> Json | None:
    """The `address` of a form: every line that Stripe knows, null where absent."""
    section = form.section("address")
    if section is None:
        return None
    return {n: section.text(n) or None for n in ("city", "country", "line1", "line2", "postal_code", "state")}


def _invoice_settings(method: str | None) -> Json:
    return {"custom_fields": None, "default_payment_method": method, "footer": None, "rendering_options": None}


def update_customer(world: World, form: Form, ident: str) -> Json:
    """POST /v1/customers/:id."""
    customer = world.get("customer", ident, in_path=True)
    world.usable(customer["test_clock"])
    changes: Json = {"metadata": form.metadata(customer["metadata"])}
    for name in ("description", "email", "name", "phone"):
        if name in form:
            changes[name] = form.text(name) or None
    if "address" in form:
        changes["address"] = address_of(form)
    section = form.section("invoice_settings")
    if section is not None and "default_payment_method" in section:
        method = section.text("default_payment_method") or None
        if method is not None:
            _require_attached(world, method, ident)
        changes["invoice_settings"] = _invoice_settings(method)
    form.close()
    with world.changing(customer, "customer.updated"):
        customer.update(changes)
    return customer


def retrieve_customer(world: World, form: Form, ident: str) -> Json:
    """GET /v1/customers/:id; a deleted one still answers, with little."""
    form.close()
    if world.find("customer", ident) is None and world.hidden(ident).get("deleted"):
        return {"id": ident, "object": "customer", "deleted": True}
    return world.get("customer", ident, in_path=True)


def list_customers(world: World, form: Form) -> Json:
    """GET /v1/customers."""
    items = where(
        created_in(form, world.every("customer")), email=form.text("email"), test_clock=form.text("test_clock")
    )
    return page(items, form, "/v1/customers")


# payment methods


def make_method(world: World, card: Card, email: str | None = None, name: str | None = None) -> Json:
    """A payment method of a test card."""
    made = world.make(
        "payment_method", world.new_id("pm_1"), world.now(), type="card", metadata={}, allow_redisplay="unspecified",
        billing_details={"address": _NOWHERE, "email": email, "name": name, "phone": None, "tax_id": None},
        card=card_shape(card, world.wall_now()),
    )  # fmt: skip
    world.hidden(made["id"])["number"] = card.number
    return made


_NOWHERE = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))


def card_shape(card: Card, now: int) -> Json:
    """A card as Stripe shows it."""
    return {
        "brand": card.brand, "country": "US", "exp_month": 12, "exp_year": 1970 + now // 31_556_952 + 4,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "display_brand": card.brand, "fingerprint": f"Emulated{card.number[-8:]}", "funding": "credit",
        "generated_from": None, "last4": card.last4, "networks": {"available": [card.brand], "preferred": None},
        "regulated_status": "unregulated", "three_d_secure_usage": {"supported": True}, "wallet": None,
    }  # fmt: skip


def card_of(world: World, method: Json) -> Card:
    """The test card behind a payment method."""
    found = by_number(str(world.hidden(method["id"])["number"]))
    assert found is not None
    return found


def usable_method(world: World, given: str, param: str) -> Json:
    """The payment method with this id; a `pm_card_…` name makes one."""
    if given in BY_NAME:
        return make_method(world, BY_NAME[given])
    found = world.find("payment_method", given)
    if found is None:
        raise missing("PaymentMethod", given, param, in_path=False)
    return found


def _require_attached(world: World, method: str, customer: str) -> None:
    found = world.find("payment_method", method)
    if found is None:
        raise missing("PaymentMethod", method, "invoice_settings[default_payment_method]", in_path=False)
    if found["customer"] != customer:
        raise invalid(
            "The customer does not have a payment method with the ID "
            f"{method}. The payment method must be attached to the customer.",
            "invoice_settings[default_payment_method]", "resource_missing",
        )  # fmt: skip


def refused(decline: Decline, **more: object) -> Refusal:
    """The card error of a decline."""
    return declined(decline.message, decline.code, decline.decline_code, **more)


def attach(world: World, method: Json, customer: Json) -> Json:
    """Give a payment method to a customer, if its bank lets it."""
    if method["customer"] not in (None, customer["id"]) or world.hidden(method["id"]).get("spent"):
        raise invalid(
            "This PaymentMethod was previously used without being attached to a Customer or was detached from a "
            "Customer, and may not be used again." if method["customer"] is None else
            "The payment method you provided has already been attached to a customer.", "payment_method",
        )  # fmt: skip
    card = card_of(world, method)
    if card.attach is not None:
        refusal = refused(card.attach)
        refusal.saved = False  # nothing stays of the request, a new customer neither
        raise refusal
    if method["customer"] is None:
        method["customer"] = customer["id"]
        world.emit("payment_method.attached", method)
    return method


def create_method(world: World, form: Form) -> Json:
    """POST /v1/payment_methods: a card by its number, or by a token's name (`tok_visa`)."""
    if form.need("type") != "card":
        raise invalid("The emulator knows cards only.", "type")
    section = form.section("card")
    if section is None:
        raise invalid("Missing required param: card.", "card", "parameter_missing")
    token, number = section.text("token"), section.text("number")
    section.skip("exp_month", "exp_year", "cvc")
    card = BY_NAME.get("pm_card_" + token.removeprefix("tok_")) if token else by_number(number or "")
    if card is None:
        raise declined("Your card number is incorrect.", "incorrect_number", None, param="number")
    details = form.section("billing_details")
    email, name = (details.text("email"), details.text("name")) if details else (None, None)
    if details:
        details.skip("phone", "address")
    metadata = form.metadata()
    form.close()
    made = make_method(world, card, email, name)
    made["metadata"] = metadata
    return made


def attach_method(world: World, form: Form, ident: str) -> Json:
    """POST /v1/payment_methods/:id/attach."""
    customer = world.get("customer", form.need("customer"), "customer")
    form.close()
    world.usable(customer["test_clock"])
    if ident not in BY_NAME:
        world.get("payment_method", ident, in_path=True)
    return attach(world, usable_method(world, ident, "id"), customer)


def detach_method(world: World, form: Form, ident: str) -> Json:
    """POST /v1/payment_methods/:id/detach: gone for good, and from every default."""
    method = world.get("payment_method", ident, in_path=True)
    form.close()
    if method["customer"] is None:
        raise invalid("The payment method you provided is not attached to a customer so detachment is impossible.")
    customer = world.get("customer", method["customer"])
    with world.changing(method, "payment_method.detached"):
        method["customer"] = None
    world.hidden(ident)["spent"] = True
    if customer["invoice_settings"]["default_payment_method"] == ident:
        with world.changing(customer, "customer.updated"):
            customer["invoice_settings"] = _invoice_settings(None)
    for subscription in where(world.every("subscription"), default_payment_method=ident):
        with world.changing(subscription, "customer.subscription.updated"):
            subscription["default_payment_method"] = None
    return method


def update_method(world: World, form: Form, ident: str) -> Json:
    """POST /v1/payment_methods/:id."""
    method = world.get("payment_method", ident, in_path=True)
    metadata = form.metadata(method["metadata"])
    form.close()
    with world.changing(method, "payment_method.updated"):
        method["metadata"] = metadata
    return method


def list_methods(world: World, form: Form, customer: str | None = None) -> Json:
    """GET /v1/payment_methods and GET /v1/customers/:id/payment_methods."""
    url = "/v1/payment_methods"
    if customer is not None:
        world.get("customer", customer, in_path=True)
        url = f"/v1/customers/{customer}/payment_methods"
    else:
        customer = form.text("customer")
    items = where(world.every("payment_method"), type=form.text("type"))
    return page([item for item in items if customer is None or item["customer"] == customer], form, url)


def retrieve_method(world: World, form: Form, customer: str, ident: str) -> Json:
    """GET /v1/customers/:id/payment_methods/:id."""
    form.close()
    method = world.get("payment_method", ident, in_path=True)
    if method["customer"] != customer:
        raise missing("PaymentMethod", ident, "id", in_path=True)
    return method


def set_default(world: World, customer: Json, method: str) -> None:
    """Make a method the one that invoices are paid with."""
    with world.changing(customer, "customer.updated"):
        customer["invoice_settings"] = _invoice_settings(method)


def subscriptions_of(world: World, customer: Json) -> Json:
    """What `expand[]=subscriptions` shows: those that have not ended."""
    ended = ("canceled", "incomplete_expired")
    items = [s for s in where(world.every("subscription"), customer=customer["id"]) if s["status"] not in ended]
    return listed(list(reversed(items)), f"/v1/customers/{customer['id']}/subscriptions")
