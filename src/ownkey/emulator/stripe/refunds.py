"""Refunds: of a charge, whole or in parts; and what happens when the bank sends one back."""

from .balances import move_balance
from .disputes import BLOCKS_REFUNDS
from .form import Form
from .lists import created_in, page, where
from .refusals import Json, invalid, missing
from .world import World, listed

_REASONS = ("duplicate", "fraudulent", "requested_by_customer")


def create_refund(world: World, form: Form) -> Json:
    """POST /v1/refunds, by charge or by payment intent; all that is left, or a part."""
    charge = _charge_of(world, form)
    amount = form.integer("amount", least=1)
    reason = form.choice("reason", _REASONS)
    metadata = form.metadata()
    form.skip("instructions_email", "origin", "currency", "refund_application_fee", "reverse_transfer")
    form.close()
    return refund(world, charge, amount, reason, metadata)


def _charge_of(world: World, form: Form) -> Json:
    charge, intent = form.text("charge"), form.text("payment_intent")
    if (charge is None) == (intent is None):
        raise invalid("One of the following params should be provided for this request: payment_intent or charge.")
    if charge is not None:
        return world.get("charge", charge, "charge")
    found = world.find("payment_intent", intent)
    if found is None:
        raise missing("payment_intent", str(intent), "payment_intent", in_path=False)
    paid = [entry for entry in where(world.every("charge"), payment_intent=intent) if entry["paid"]]
    if not paid:
        message = f"This PaymentIntent ({intent}) does not have a successful charge to refund."
        raise invalid(message, "payment_intent", "payment_intent_unexpected_state")
    return paid[-1]


def refund(world: World, charge: Json, amount: int | None, reason: str | None, metadata: Json) -> Json:
    """Give money of a charge back; None is all that is left."""
    if not charge["paid"]:
        raise invalid(f"Charge {charge['id']} has not been paid.", "charge", "charge_not_refundable")
    if any(d["status"] in BLOCKS_REFUNDS for d in where(world.every("dispute"), charge=charge["id"])):
        message = f"Charge {charge['id']} has been charged back; cannot issue a refund."
        raise invalid(message, "charge", "charge_disputed")
    left = charge["amount"] - charge["amount_refunded"]
    if left == 0:
        raise invalid(f"Charge {charge['id']} has already been refunded.", None, "charge_already_refunded")
    if amount is not None and amount > left:
        message = f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
        raise invalid(message, "amount")
    given = left if amount is None else amount
    made = world.make(
        "refund", world.new_id("re_3"), world.now(), amount=given, charge=charge["id"], currency=charge["currency"],
        metadata=metadata, payment_intent=charge["payment_intent"], reason=reason, status="succeeded",
        customer=charge["customer"], payment_method=charge["payment_method"],
        destination_details={"type": "card", "card": {"reference_status": "pending", "reference_type":
                             "acquirer_reference_number", "type": "refund"}},
    )  # fmt: skip
    made.pop("livemode")
    made["balance_transaction"] = move_balance(world, "refund", made, -given)
    world.emit("refund.created", made)
    with world.changing(charge, "charge.refunded"):
        charge["amount_refunded"] += given
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    return made


def update_refund(world: World, form: Form, ident: str) -> Json:
    """POST /v1/refunds/:id: only its metadata."""
    made = world.get("refund", ident, in_path=True)
    metadata = form.metadata(made["metadata"])
    form.close()
    with world.changing(made, "refund.updated"):
        made["metadata"] = metadata
    return made


def fail_refund(world: World, made: Json) -> Json:
    """The bank sends a refund back: the charge counts as not refunded by it."""
    charge = world.get("charge", made["charge"])
    if made["status"] == "failed":
        return made
    with world.changing(made, "refund.updated"):
        made |= {"status": "failed", "failure_reason": "lost_or_stolen_card"}
        made["failure_balance_transaction"] = move_balance(world, "refund", made, made["amount"])
    with world.changing(charge, "charge.updated"):
        charge["amount_refunded"] -= made["amount"]
        charge["refunded"] = False
    world.emit("refund.failed", made)
    return made


def list_refunds(world: World, form: Form) -> Json:
    """GET /v1/refunds."""
    items = where(
        created_in(form, world.every("refund")), charge=form.text("charge"), payment_intent=form.text("payment_intent")
    )
    return page(items, form, "/v1/refunds")


def refunds_of(world: World, charge: Json) -> Json:
    """What `expand[]=refunds` shows."""
    items = where(world.every("refund"), charge=charge["id"])
    return listed(list(reversed(items)), f"/v1/charges/{charge['id']}/refunds")
