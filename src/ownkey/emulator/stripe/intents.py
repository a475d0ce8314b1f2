"""Payment intents and charges as the API offers them."""

from .billing import settle
from .customers import attach, usable_method
from .form import Form
from .lists import created_in, page, where
from .payments import Wish, attempt, error_of, new_intent, void_intent
from .refusals import Json, invalid
from .world import World

_MINIMUM = 50  # cents; Stripe's smallest charge in USD


def create_intent(world: World, form: Form) -> Json:
    """POST /v1/payment_intents."""
    amount = form.integer("amount")
    if amount is None:
        raise invalid("Missing required param: amount.", "amount", "parameter_missing")
    if amount < _MINIMUM:
        raise invalid("Amount must be at least $0.50 usd", "amount", "amount_too_small")
    customer = form.text("customer") or None
    if customer:
        world.get("customer", customer, "customer")
    wish = Wish(
        amount, form.need("currency").lower(), customer, form.text("description") or None, form.metadata(),
        form.choice("setup_future_usage", ("off_session", "on_session")), form.text("receipt_email"),
    )  # fmt: skip
    method, confirm = form.text("payment_method"), form.flag("confirm")
    off_session, strict = form.flag("off_session") or False, form.flag("error_on_requires_action") or False
    return_url = form.text("return_url")
    form.skip("automatic_payment_methods", "payment_method_types", "payment_method_options", "use_stripe_sdk")
    form.skip("capture_method", "confirmation_method", "statement_descriptor", "statement_descriptor_suffix")
    form.close()
    intent = new_intent(world, wish)
    world.hidden(intent["id"])["return_url"] = return_url
    if method:
        found = usable_method(world, method, "payment_method")
        intent |= {"payment_method": found["id"], "status": "requires_confirmation"}
    if confirm:
        _confirm(world, intent, off_session=off_session, strict=strict)
    return intent


def _confirm(world: World, intent: Json, *, off_session: bool, strict: bool = False) -> None:
    if intent["payment_method"] is None:
        raise invalid(
            "You cannot confirm this PaymentIntent because it's missing a payment method.", None,
            "payment_intent_unexpected_state",
        )  # fmt: skip
    method = world.get("payment_method", intent["payment_method"])
    if intent["setup_future_usage"] and intent["customer"] and method["customer"] is None:
        attach(world, method, world.get("customer", intent["customer"]))
    decline = attempt(world, intent, method, off_session=off_session or strict)
    if decline is not None:
        raise error_of(world, intent, decline)
    settle(world, intent)


def confirm_intent(world: World, form: Form, ident: str) -> Json:
    """POST /v1/payment_intents/:id/confirm."""
    intent = world.get("payment_intent", ident, in_path=True)
    method, off_session = form.text("payment_method"), form.flag("off_session") or False
    return_url = form.text("return_url")
    form.skip("use_stripe_sdk", "error_on_requires_action")
    form.close()
    if intent["status"] in ("succeeded", "canceled"):
        message = f"This PaymentIntent's status is {intent['status']}: it cannot be confirmed."
        raise invalid(message, None, "payment_intent_unexpected_state")
    if method:
        intent["payment_method"] = usable_method(world, method, "payment_method")["id"]
    if return_url:
        world.hidden(ident)["return_url"] = return_url
    _confirm(world, intent, off_session=off_session)
    return intent


def cancel_intent(world: World, form: Form, ident: str) -> Json:
    """POST /v1/payment_intents/:id/cancel."""
    intent = world.get("payment_intent", ident, in_path=True)
    reason = form.choice("cancellation_reason", ("abandoned", "duplicate", "fraudulent", "requested_by_customer"))
    form.close()
    if intent["status"] in ("succeeded", "canceled"):
        message = f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}."
        raise invalid(message, None, "payment_intent_unexpected_state")
    void_intent(world, intent, reason)
    return intent


def update_intent(world: World, form: Form, ident: str) -> Json:
    """POST /v1/payment_intents/:id."""
    intent = world.get("payment_intent", ident, in_path=True)
    changes: Json = {"metadata": form.metadata(intent["metadata"])}
    if "description" in form:
        changes["description"] = form.text("description") or None
    form.close()
    intent.update(changes)
    return intent


def list_intents(world: World, form: Form) -> Json:
    """GET /v1/payment_intents."""
    items = where(created_in(form, world.every("payment_intent")), customer=form.text("customer"))
    return page(items, form, "/v1/payment_intents")


def list_charges(world: World, form: Form) -> Json:
    """GET /v1/charges."""
    items = where(
        created_in(form, world.every("charge")), customer=form.text("customer"),
        payment_intent=form.text("payment_intent"),
    )  # fmt: skip
    return page(items, form, "/v1/charges")
