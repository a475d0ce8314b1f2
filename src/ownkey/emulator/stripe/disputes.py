"""Disputes: the money is taken at once and comes back when the dispute is won."""

from .balances import move_balance
from .form import Form
from .lists import created_in, page, where
from .refusals import Json, invalid
from .world import World

_FEE = 1500  # of a dispute, in cents
_OPEN = ("needs_response", "under_review")
BLOCKS_REFUNDS = (*_OPEN, "lost")


def open_dispute(world: World, charge: Json, reason: str, amount: int | None = None) -> Json:
    """The cardholder's bank takes the money back and asks for evidence."""
    if charge["disputed"] or not charge["paid"]:
        raise invalid(f"Charge {charge['id']} is already disputed, or was never paid.", "charge")
    taken = charge["amount"] if amount is None else amount
    if not 0 < taken <= charge["amount"]:
        raise invalid("A dispute is for a part of the charge.", "amount")
    evidence: Json = {"enhanced_evidence": {}, **dict.fromkeys(_EVIDENCE)}
    made = world.make(
        "dispute", world.new_id("du_1"), world.now(), amount=taken, balance_transactions=[], charge=charge["id"],
        currency=charge["currency"], enhanced_eligibility_types=[], evidence=evidence, is_charge_refundable=False,
        metadata={}, payment_intent=charge["payment_intent"], reason=reason, status="needs_response",
        evidence_details={
            "due_by": world.now() + 9 * 86_400, "enhanced_eligibility": {}, "has_evidence": False, "past_due": False,
            "submission_count": 0, "submission_method": "not_submitted",
        },
    )  # fmt: skip
    _move(world, made, -taken, _FEE)
    with world.changing(charge, "charge.updated"):
        charge["disputed"] = True
    world.emit("charge.dispute.created", made)
    world.emit("charge.dispute.funds_withdrawn", made)
    return made


_EVIDENCE = (
    "access_activity_log", "billing_address", "cancellation_policy", "cancellation_policy_disclosure",
    "cancellation_rebuttal", "customer_communication", "customer_email_address", "customer_name",
    "customer_purchase_ip", "customer_signature", "duplicate_charge_documentation", "duplicate_charge_explanation",
    "duplicate_charge_id", "product_description", "receipt", "refund_policy", "refund_policy_disclosure",
    "refund_refusal_explanation", "service_date", "service_documentation", "shipping_address", "shipping_carrier",
    "shipping_date", "shipping_documentation", "shipping_tracking_number", "uncategorized_file", "uncategorized_text",
)  # fmt: skip


def _move(world: World, dispute: Json, amount: int, fee: int) -> None:
    ident = move_balance(world, "adjustment", dispute, amount, fee)
    dispute["balance_transactions"].append(dict(world.get("balance_transaction", ident)))


def close_dispute(world: World, dispute: Json, *, won: bool) -> Json:
    """The bank decides. Won: the money comes back. Lost: it stays away."""
    if dispute["status"] not in _OPEN:
        raise invalid(f"This dispute is already closed: {dispute['status']}.", "dispute")
    dispute["status"] = "won" if won else "lost"
    if won:
        _move(world, dispute, dispute["amount"], 0)
    world.emit("charge.dispute.closed", dispute)
    if won:
        world.emit("charge.dispute.funds_reinstated", dispute)
    return dispute


def update_dispute(world: World, form: Form, ident: str) -> Json:
    """POST /v1/disputes/:id. The texts `winning_evidence` and `losing_evidence` decide it, as in test mode."""
    dispute = world.get("dispute", ident, in_path=True)
    evidence = form.section("evidence")
    given = {name: evidence.text(name) for name in _EVIDENCE if name in evidence} if evidence else {}
    metadata, submit = form.metadata(dispute["metadata"]), form.flag("submit")
    form.close()
    if dispute["status"] not in _OPEN and given:
        raise invalid("This dispute is already closed.", "evidence")
    with world.changing(dispute, "charge.dispute.updated"):
        dispute["metadata"] = metadata
        dispute["evidence"] = {**dispute["evidence"], **given}
        if given:
            details = dict(dispute["evidence_details"], has_evidence=True)
            if submit is not False:
                details |= {"submission_count": details["submission_count"] + 1, "submission_method": "manual"}
                dispute["status"] = "under_review"
            dispute["evidence_details"] = details
    text = given.get("uncategorized_text")
    if submit is not False and text in ("winning_evidence", "losing_evidence"):
        close_dispute(world, dispute, won=text == "winning_evidence")
    return dispute


def accept_dispute(world: World, form: Form, ident: str) -> Json:
    """POST /v1/disputes/:id/close: the account gives up."""
    dispute = world.get("dispute", ident, in_path=True)
    form.close()
    return close_dispute(world, dispute, won=False)


def list_disputes(world: World, form: Form) -> Json:
    """GET /v1/disputes."""
    items = where(
        created_in(form, world.every("dispute")), charge=form.text("charge"), payment_intent=form.text("payment_intent")
    )
    return page(items, form, "/v1/disputes")
