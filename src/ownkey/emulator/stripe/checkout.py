"""Checkout sessions: what is sold, the form that the browser sends, and what a completed one leaves behind.

A declined card leaves the session open: the customer sees why and tries another. Nothing is subscribed before the
first money is there.
"""

from dataclasses import dataclass

from . import billing
from .cards import Card, by_number
from .catalogue import inline_price
from .customers import create_customer, make_method, set_default
from .form import Form
from .lists import created_in, page, where
from .payments import Wish, attempt, error_of, new_intent
from .refusals import Json, Refusal, declined, invalid, missing
from .shapes import blank
from .subscription_doors import same_rhythm
from .subscriptions import Terms
from .world import World, listed

_HALF_HOUR, _DAY = 1800, 86_400
_IGNORED = (
    "allow_promotion_codes", "payment_method_types", "locale", "billing_address_collection", "automatic_tax",
    "saved_payment_method_options", "submit_type", "payment_method_options", "phone_number_collection",
    "consent_collection", "custom_text", "adaptive_pricing", "customer_update", "tax_id_collection",
    "branding_settings",
)  # fmt: skip


def create(world: World, form: Form) -> Json:
    """POST /v1/checkout/sessions."""
    mode = form.choice("mode", ("payment", "subscription"))
    if mode is None:
        raise invalid("Missing required param: mode.", "mode", "parameter_missing")
    if (form.choice("ui_mode", ("hosted_page",)) or "hosted_page") != "hosted_page":
        raise invalid("The emulator shows hosted pages only.", "ui_mode")
    items = _line_items(world, form, mode)
    customer, email = form.text("customer") or None, form.text("customer_email") or None
    if customer and email:
        raise invalid("You may only specify one of these parameters: customer, customer_email.", "customer_email")
    if customer:
        world.usable(world.get("customer", customer, "customer")["test_clock"])
    success, cancel = form.need("success_url"), form.text("cancel_url") or None
    for name, url in (("success_url", success), ("cancel_url", cancel)):
        if url is not None and not url.startswith(("http://", "https://")):
            raise invalid("Not a valid URL", name, "url_invalid")
    now = world.now()
    expires = form.integer("expires_at")
    if expires is not None and not now + _HALF_HOUR - 60 <= expires <= now + _DAY + 60:
        raise invalid("The `expires_at` timestamp must be between 30 minutes and 24 hours from now.", "expires_at")
    extra = _extra(form, mode)
    total = sum(price["unit_amount"] * n for price, n in items)
    ident = world.new_id("cs_live_a1" if world.settings.livemode else "cs_test_a1", 56)
    currency = items[0][0]["currency"]
    creation = form.choice("customer_creation", ("always", "if_required"))
    form.skip(*_IGNORED)
    made = world.make(
        "checkout.session", ident, now, amount_subtotal=total, amount_total=total, cancel_url=cancel,
        automatic_tax={"enabled": False, "liability": None, "provider": None, "status": None}, custom_fields=[],
        adaptive_pricing={"enabled": False}, client_reference_id=form.text("client_reference_id", longest=200) or None,
        currency=currency, custom_text=dict.fromkeys(
            ("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")),
        customer=customer, customer_email=email, expires_at=expires or now + _DAY, metadata=form.metadata(),
        customer_creation=(creation or "if_required") if mode == "payment" else "always" if not customer else None,
        mode=mode, payment_method_types=["card"], payment_status="unpaid", shipping_options=[], status="open",
        payment_method_options={}, success_url=success, ui_mode="hosted_page", url=f"{world.url}/c/pay/{ident}",
        payment_method_collection=form.choice("payment_method_collection", ("always", "if_required"))
        or ("always" if mode == "subscription" else "if_required"), phone_number_collection={"enabled": False},
        total_details={"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        integration_identifier=form.text("integration_identifier"), discounts=[],
    )  # fmt: skip
    form.close()
    world.hidden(ident).update(items=items, extra=extra, clock=world.clock_of(customer))
    return made


def _line_items(world: World, form: Form, mode: str) -> list[tuple[Json, int]]:
    found = []
    for section in form.sections("line_items"):
        ident, data = section.text("price"), section.section("price_data")
        if (ident is None) == (data is None):
            raise invalid("Specify one of price and price_data.", section.name_of("price"), "parameter_missing")
        price = inline_price(world, data) if data else world.get("price", ident, section.name_of("price"))
        if data is None and not price["active"]:
            message = "The price specified is inactive. This field only accepts active prices."
            raise invalid(message, section.name_of("price"), "price_inactive")
        quantity = section.integer("quantity", least=1)
        if quantity is None:
            message = f"Missing required param: {section.name_of('quantity')}."
            raise invalid(message, section.name_of("quantity"), "parameter_missing")
        section.skip("adjustable_quantity")
        found.append((price, quantity))
    if not found:
        raise invalid("Missing required param: line_items.", "line_items", "parameter_missing")
    recurring = [price for price, _ in found if price["type"] == "recurring"]
    if mode == "payment" and recurring:
        raise invalid("You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode "
                      "or use only one-time prices.", "line_items")  # fmt: skip
    if mode == "subscription":
        if len(recurring) != len(found):
            raise invalid("You must provide at least one recurring price in `subscription` mode when using prices; "
                          "the emulator takes recurring prices only.", "line_items")  # fmt: skip
        same_rhythm([(price, n, {}) for price, n in found])
    return found


def _extra(form: Form, mode: str) -> Json:
    """What the session hands on to the subscription or the intent."""
    name, other = ("subscription_data", "payment_intent_data")
    if mode == "payment":
        name, other = other, name
    if other in form:
        raise invalid(f"You can not pass `{other}` in `{mode}` mode.", other)
    section = form.section(name)
    invoice = form.section("invoice_creation")
    if invoice is not None and invoice.flag("enabled"):
        raise invalid("The emulator makes no invoices for one-time payments.", "invoice_creation[enabled]")
    if section is None:
        return {"metadata": {}}
    made: Json = {"metadata": section.metadata(), "description": section.text("description") or None}
    if mode == "payment":
        made["keeps"] = section.choice("setup_future_usage", ("off_session", "on_session"))
        section.skip("receipt_email", "statement_descriptor", "statement_descriptor_suffix", "capture_method")
    else:
        made["trial_days"] = section.integer("trial_period_days", least=1, most=730)
        mode_section = section.section("billing_mode")
        made["billing_mode"] = mode_section.choice("type", ("flexible", "classic")) if mode_section else None
        section.skip("trial_settings", "proration_behavior", "invoice_settings")
    return made


def items_of(world: World, session: Json) -> list[Json]:
    """The session's lines as the API lists them."""
    made = []
    for n, (price, quantity) in enumerate(world.hidden(session["id"])["items"]):
        product, amount = world.find("product", price["product"]), price["unit_amount"] * quantity
        made.append({
            "id": f"li_1{session['id'][-20:]}{n}", **blank("item"), "amount_discount": 0, "amount_subtotal": amount,
            "amount_tax": 0, "amount_total": amount, "currency": price["currency"], "price": dict(price),
            "description": product["name"] if product else price["product"], "quantity": quantity, "discounts": [],
            "taxes": [], "metadata": {},
        })  # fmt: skip
    return made


def listed_items(world: World, session: Json) -> Json:
    """What `expand[]=line_items` shows."""
    return listed(items_of(world, session), f"/v1/checkout/sessions/{session['id']}/line_items")


def list_items(world: World, form: Form, ident: str) -> Json:
    """GET /v1/checkout/sessions/:id/line_items."""
    session = world.get("checkout.session", ident, in_path=True)
    return page(list(reversed(items_of(world, session))), form, f"/v1/checkout/sessions/{ident}/line_items")


def update(world: World, form: Form, ident: str) -> Json:
    """POST /v1/checkout/sessions/:id: its metadata."""
    session = world.get("checkout.session", ident, in_path=True)
    session["metadata"] = form.metadata(session["metadata"])
    form.close()
    return session


def expire(world: World, form: Form, ident: str) -> Json:
    """POST /v1/checkout/sessions/:id/expire."""
    session = world.get("checkout.session", ident, in_path=True)
    form.close()
    if session["status"] != "open":
        message = f"Only Checkout Sessions with a status in [\"open\"] can be expired. This one is {session['status']}."
        raise invalid(message)
    close_unpaid(world, session)
    return session


def close_unpaid(world: World, session: Json) -> None:
    """The time is over, or the account closed it."""
    session |= {"status": "expired", "url": None}
    world.emit("checkout.session.expired", session)


def list_all(world: World, form: Form) -> Json:
    """GET /v1/checkout/sessions."""
    items = where(
        created_in(form, world.every("checkout.session")), customer=form.text("customer"), status=form.text("status"),
        payment_intent=form.text("payment_intent"), subscription=form.text("subscription"),
    )  # fmt: skip
    return page(items, form, "/v1/checkout/sessions")


def expire_old(world: World) -> int:
    """Close the sessions whose time is over."""
    now = world.now()
    old = [s for s in where(world.every("checkout.session"), status="open") if s["expires_at"] <= now]
    for session in old:
        close_unpaid(world, session)
    return len(old)


# the browser's side


@dataclass(frozen=True, slots=True)
class Typed:
    """What somebody typed into the page."""

    number: str
    email: str | None = None
    name: str | None = None


def submit(world: World, session: Json, typed: Typed, *, authenticated: bool = False) -> bool:
    """Pay. True where it is done, False where the bank wants to see the cardholder first; Refused where declined."""
    if session["status"] != "open":
        raise invalid(f"This session is {session['status']}.")
    card = by_number(typed.number)
    if card is None:
        raise declined("Your card number is incorrect.", "incorrect_number", None, param="number")
    world.usable(world.hidden(session["id"])["clock"])
    world.hidden(session["id"])["typed"] = typed
    email = typed.email or session["customer_email"]
    if session["customer"]:
        email = email or world.get("customer", session["customer"])["email"]
    if not email:
        raise invalid("Your email is incomplete.", "email")
    if card.asks != "never" and not authenticated:
        return False
    if session["mode"] == "payment":
        _pay_once(world, session, card, email, typed.name)
    else:
        _subscribe(world, session, card, email, typed.name)
    return True


def _pay_once(world: World, session: Json, card: Card, email: str, name: str | None) -> None:
    extra = world.hidden(session["id"])["extra"]
    customer = session["customer"]
    intent = _probe(world, session, card, email, name)
    if session["customer_creation"] == "always" and not customer:
        customer = _new_customer(world, email, name)["id"]
        intent["customer"] = customer
        world.get("charge", intent["latest_charge"])["customer"] = customer
    if customer and extra.get("keeps"):
        billing.saved(world, world.get("payment_method", intent["payment_method"]), world.get("customer", customer))
    _complete(world, session, customer, email, name, payment_intent=intent["id"])


def _probe(world: World, session: Json, card: Card, email: str, name: str | None) -> Json:
    """Charge the session's whole amount on its intent, or refuse. One intent serves all its tries."""
    known = world.hidden(session["id"])
    extra = known["extra"]
    intent = world.find("payment_intent", known.get("intent"))
    if intent is None:
        wish = Wish(session["amount_total"], session["currency"], session["customer"], extra.get("description"),
                    extra["metadata"], extra.get("keeps"), email)  # fmt: skip
        intent = new_intent(world, wish)
        known["intent"] = intent["id"]
    method = make_method(world, card, email, name)
    world.hidden(intent["id"])["authenticated"] = card.asks != "never"
    decline = attempt(world, intent, method, off_session=False)
    if decline is not None:
        raise error_of(world, intent, decline)
    return intent


def _subscribe(world: World, session: Json, card: Card, email: str, name: str | None) -> None:
    known = world.hidden(session["id"])
    extra = known["extra"]
    if card.attach is not None or card.charge is not None or world.failing.get(session["customer"] or ""):
        _probe(world, session, card, email, name)
    customer = world.get("customer", session["customer"]) if session["customer"] else _new_customer(world, email, name)
    method = billing.saved(world, make_method(world, card, email, name), customer)
    world.hidden(method["id"])["answered"] = card.asks != "never"
    now = world.moment(customer["test_clock"])
    trial = now + extra["trial_days"] * _DAY if extra.get("trial_days") else None
    items: tuple[tuple[Json, int, Json], ...] = tuple((price, n, {}) for price, n in known["items"])
    terms = Terms(items, extra["metadata"], method["id"], trial_end=trial, description=extra.get("description"),
                  billing_mode=extra.get("billing_mode") or "flexible")  # fmt: skip
    made = billing.subscribe(world, customer, terms)
    if customer["invoice_settings"]["default_payment_method"] is None and not session["customer"]:
        set_default(world, customer, method["id"])
    _complete(world, session, customer["id"], email, name, subscription=made["id"], invoice=made["latest_invoice"])


def _new_customer(world: World, email: str, name: str | None) -> Json:
    values = {"email": email} | ({"name": name} if name else {})
    return create_customer(world, Form(values))


def _complete(world: World, session: Json, customer: str | None, email: str, name: str | None, **made: str) -> None:
    paid = session["amount_total"] > 0 and not _on_trial(world, made)
    session |= {
        "status": "complete", "customer": customer, "url": None, **made,
        "payment_status": "paid" if paid else "no_payment_required",
        "customer_details": {
            "address": dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state")), "email": email,
            "business_name": None, "individual_name": None, "name": name, "phone": None, "tax_exempt": "none",
            "tax_ids": [],
        },
    }  # fmt: skip
    world.emit("checkout.session.completed", session)


def _on_trial(world: World, made: dict[str, str]) -> bool:
    sub = world.find("subscription", made.get("subscription"))
    return sub is not None and sub["status"] == "trialing"


def after_bank(world: World, session: Json, *, passed: bool) -> None:
    """The cardholder is back from the bank's page."""
    typed = world.hidden(session["id"]).get("typed")
    if typed is None:
        raise missing("checkout session", session["id"], "id", in_path=True)
    if not passed:
        raise Refusal(402, "card_error", "We are unable to authenticate your payment method. Please choose a different "
                      "payment method and try again.", code="payment_intent_authentication_failure")  # fmt: skip
    submit(world, session, typed, authenticated=True)
