"""Payment intents and their charges: one attempt asks the card, and what the bank says becomes objects and events.

Intents and charges carry the account's time even when a test clock causes them, as Stripe's do.
"""

from dataclasses import dataclass

from .balances import fee_of, move_balance
from .cards import AUTHENTICATE, Card, Decline
from .customers import card_of, card_shape, refused
from .disputes import open_dispute
from .refusals import Json, Refusal
from .world import World


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be paid, in the currency's smallest unit."""

    amount: int
    currency: str
    customer: str | None
    description: str | None = None
    metadata: Json | None = None
    keeps_method: str | None = None  # setup_future_usage
    email: str | None = None


def new_intent(world: World, wish: Wish) -> Json:
    """An intent that still needs its payment method."""
    ident = world.new_id("pi_3")
    made = world.make(
        "payment_intent", ident, world.now(), amount=wish.amount, currency=wish.currency, customer=wish.customer,
        amount_capturable=0, amount_received=0, capture_method="automatic_async", confirmation_method="automatic",
        client_secret=world.new_id(f"{ident}_secret_", 25), description=wish.description, payment_method_types=["card"],
        metadata=dict(wish.metadata or {}), setup_future_usage=wish.keeps_method, status="requires_payment_method",
        receipt_email=wish.email,
    )  # fmt: skip
    world.emit("payment_intent.created", made)
    return made


def attempt(world: World, intent: Json, method: Json, *, off_session: bool) -> Decline | None:
    """Try to charge the intent. The decline, or None where it succeeded or waits for the cardholder."""
    card = card_of(world, method)
    intent["payment_method"] = method["id"]
    if _must_ask(world, intent, method, card):
        if off_session:
            return _fail(world, intent, method, card, AUTHENTICATE)
        intent["status"] = "requires_action"
        url = f"{world.url}/authenticate/{intent['id']}"
        intent["next_action"] = {
            "type": "redirect_to_url",
            "redirect_to_url": {"return_url": world.hidden(intent["id"]).get("return_url"), "url": url},
        }
        world.emit("payment_intent.requires_action", intent)
        return None
    decline = _forced(world, intent["customer"]) or card.charge
    if decline is not None:
        return _fail(world, intent, method, card, decline)
    _succeed(world, intent, method, card)
    return None


def _must_ask(world: World, intent: Json, method: Json, card: Card) -> bool:
    if world.hidden(intent["id"]).get("authenticated"):
        return False
    known = world.hidden(method["id"])
    if known.pop("answered", False):  # on the checkout page, a moment ago
        return False
    return card.asks == "always" or (card.asks == "unless_set_up" and not known.get("set_up"))


def _forced(world: World, customer: str | None) -> Decline | None:
    """The decline that the control API asked for, for this customer."""
    reason = world.failing.get(customer or "")
    if reason is None:
        return None
    return Decline("card_declined", reason, "Your card was declined.")


def authenticate(world: World, intent: Json, *, passed: bool) -> Decline | None:
    """The cardholder answers the bank's question; then the charge goes on, or fails."""
    method = world.get("payment_method", intent["payment_method"])
    intent["next_action"] = None
    if not passed:
        decline = Decline(
            "payment_intent_authentication_failure", None,
            "We are unable to authenticate your payment method. Please choose a different payment method and try "
            "again.",
        )  # fmt: skip
        return _fail(world, intent, method, card_of(world, method), decline, charged=False)
    world.hidden(intent["id"])["authenticated"] = True
    if intent["setup_future_usage"] == "off_session":
        world.hidden(method["id"])["set_up"] = True
    return attempt(world, intent, method, off_session=False)


def _charge(world: World, intent: Json, method: Json, card: Card) -> Json:
    shape = card_shape(card, world.wall_now())
    unshown = ("display_brand", "generated_from", "networks", "three_d_secure_usage")
    details = {name: value for name, value in shape.items() if name not in unshown}
    details |= {"network": card.brand, "three_d_secure": None, "installments": None}
    details |= {"mandate": None, "amount_authorized": intent["amount"]}
    ident = world.new_id("ch_3")
    return world.make(
        "charge", ident, world.now(), amount=intent["amount"], amount_captured=0, amount_refunded=0,
        billing_details=dict(method["billing_details"]), captured=False, currency=intent["currency"],
        customer=intent["customer"], description=intent["description"], disputed=False, fraud_details={},
        metadata=dict(intent["metadata"]), paid=False, payment_intent=intent["id"], payment_method=method["id"],
        payment_method_details={"type": "card", "card": details}, radar_options={}, refunded=False, status="failed",
        receipt_email=intent["receipt_email"], calculated_statement_descriptor="EMULATED",
    )  # fmt: skip


def _outcome(kind: str, decline: Decline | None) -> Json:
    reason = (decline.decline_code or decline.code) if decline else None
    return {
        "advice_code": "try_again_later" if decline else None, "network_advice_code": None,
        "network_decline_code": "01" if decline else None, "reason": reason, "risk_level": "normal", "risk_score": 12,
        "network_status": "declined_by_network" if decline else "approved_by_network", "type": kind,
        "seller_message": "The bank did not return any further details with this decline." if decline
        else "Payment complete.",
    }  # fmt: skip


def _fail(
    world: World, intent: Json, method: Json, card: Card, decline: Decline, *, charged: bool = True
) -> Decline:
    charge = None
    if charged:
        charge = _charge(world, intent, method, card)
        charge |= {
            "failure_code": decline.code, "failure_message": decline.message,
            "outcome": _outcome("issuer_declined", decline),
        }  # fmt: skip
        intent["latest_charge"] = charge["id"]
        world.emit("charge.failed", charge)
    intent["status"] = "requires_payment_method"
    intent["payment_method"] = None
    intent["last_payment_error"] = {
        "charge": charge["id"] if charge else None, "code": decline.code, "decline_code": decline.decline_code,
        "message": decline.message, "payment_method": dict(method), "type": "card_error",
        "doc_url": f"https://docs.stripe.com/error-codes/{decline.code.replace('_', '-')}",
    }  # fmt: skip
    world.emit("payment_intent.payment_failed", intent)
    return decline


def _succeed(world: World, intent: Json, method: Json, card: Card) -> None:
    charge = _charge(world, intent, method, card)
    charge |= {
        "status": "succeeded", "paid": True, "captured": True, "amount_captured": intent["amount"],
        "outcome": _outcome("authorized", None), "receipt_url": f"{world.url}/receipts/{charge['id']}",
    }  # fmt: skip
    charge["balance_transaction"] = move_balance(world, "charge", charge, intent["amount"], fee_of(intent["amount"]))
    intent |= {
        "status": "succeeded", "amount_received": intent["amount"], "latest_charge": charge["id"],
        "last_payment_error": None, "next_action": None,
    }  # fmt: skip
    world.emit("charge.succeeded", charge)
    world.emit("payment_intent.succeeded", intent)
    if card.dispute:
        open_dispute(world, charge, card.dispute)


def error_of(world: World, intent: Json, decline: Decline) -> Refusal:
    """The 402 of a declined intent, with the intent inside."""
    error = intent["last_payment_error"]
    return refused(
        decline, charge=error["charge"], payment_intent=dict(intent), payment_method=error["payment_method"],
    )  # fmt: skip


def void_intent(world: World, intent: Json, reason: str | None) -> None:
    """Cancel an intent that has not succeeded."""
    intent |= {"status": "canceled", "canceled_at": world.now(), "cancellation_reason": reason, "next_action": None}
    world.emit("payment_intent.canceled", intent)
