"""Orders, payments, refunds and disputes as rows, each with its one effect on the books, keyed on Stripe's object.

Functions inside the writer's transaction. What does not agree with its order raises Mismatch, and nothing is booked.
"""

import sqlite3
from dataclasses import dataclass
from typing import Any

from ownkey.domain.billing import (
    Adoption,
    CheckoutFacts,
    DisputeFacts,
    InvoiceFacts,
    Order,
    OrderState,
    Rail,
    RefundFacts,
    SubscriptionFacts,
    adopt,
    card_addon,
    dispute_outcome,
    is_over_at_stripe,
    order_mismatch,
    refunded_credits,
    subscription_mismatch,
    was_ever_paid,
)
from ownkey.domain.ledger import (
    LedgerEntry,
    Posting,
    debt_account,
    frozen_account,
    plan_give_back,
    plan_take_back,
)
from ownkey.domain.records import Actor
from ownkey.store.addons import load_addon, put_addon, retry_owed
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection
from ownkey.store.ledger_rows import add_credits, load_debt, load_lots, load_postings, new_lot, repay_debt, save_entry
from ownkey.store.notices import announce, utc_text
from ownkey.store.wallets import free_credits, move_balance

STRIPE = Actor("job", "stripe")

ORDER_COLUMNS = """
SELECT id, workspace_id, purpose, rail, amount_cents, currency, credits, state, return_url, customer, created_at_ms,
  coalesce(checkout, ''), url, coalesce(subscription, ''), coalesce(payment_intent, '') FROM payment_order
"""
_ORDER = ORDER_COLUMNS + "WHERE id = ?"
_OPEN_ORDER = ORDER_COLUMNS + """
WHERE workspace_id = ? AND purpose = ? AND amount_cents = ? AND credits = ? AND state IN ('new', 'open')
"""
_OPEN_ADDON = ORDER_COLUMNS + "WHERE workspace_id = ? AND purpose = 'addon' AND state IN ('new', 'open')"
_NEW_ORDER = """
INSERT INTO payment_order(workspace_id, id, purpose, rail, amount_cents, currency, credits, state, return_url,
  customer, created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, 'new', ?, ?, ?)
"""
_OPENED = """
UPDATE payment_order SET state = 'open', checkout = ?, url = ?, expires_at_ms = ?
WHERE id = ? AND workspace_id = ? AND state IN ('new', 'open') AND (checkout IS NULL OR checkout = ?)
"""
_ENDED = "UPDATE payment_order SET state = ? WHERE id = ? AND workspace_id = ? AND state IN ('new', 'open')"
_PAID = """
UPDATE payment_order SET state = 'paid', checkout = coalesce(checkout, ?), subscription = coalesce(subscription, ?),
  payment_intent = coalesce(payment_intent, ?), customer = CASE WHEN ? <> '' THEN ? ELSE customer END
WHERE id = ? AND workspace_id = ? AND state <> 'paid'
"""
_COMPLETED = """
UPDATE payment_order SET checkout = coalesce(checkout, ?), subscription = coalesce(subscription, ?),
  customer = CASE WHEN ? <> '' THEN ? ELSE customer END
WHERE id = ? AND workspace_id = ? AND state <> 'paid'
"""
_CUSTOMER = """
SELECT customer FROM payment_order WHERE workspace_id = ? AND customer <> '' AND state = 'paid'
ORDER BY created_at_ms DESC, id DESC LIMIT 1
"""
_PAYMENT = """
SELECT id, workspace_id, order_id, purpose, amount_cents, currency, credits, lot_id FROM payment
WHERE payment_intent = ?
"""
_PAYMENT_BY_ID = "SELECT 1 FROM payment WHERE id = ? AND workspace_id = ?"
_NEW_PAYMENT = """
INSERT INTO payment(workspace_id, id, order_id, purpose, payment_intent, amount_cents, currency, credits, lot_id,
  period_start_ms, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_LOSS = "SELECT state, credits, amount_cents FROM payment_loss WHERE id = ? AND workspace_id = ?"
_NEW_LOSS = """
INSERT INTO payment_loss(workspace_id, id, payment_id, kind, state, amount_cents, credits, at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_LOSS_STATE = "UPDATE payment_loss SET state = ? WHERE id = ? AND workspace_id = ?"
_DROP_WISH = "DELETE FROM subscription_wish WHERE workspace_id = ? AND subscription = ? AND wish = ?"
_LIVING = "SELECT 1 FROM workspace WHERE id = ? AND status <> 'deleted'"


class Mismatch(Exception):
    """What Stripe has is not what was ordered here. `workspace_id` "" where no order is known."""

    def __init__(self, reason: str, workspace_id: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.workspace_id = workspace_id


@dataclass(frozen=True, slots=True)
class Payment:
    """Money that came with one checkout or invoice."""

    id: str
    workspace_id: str
    order_id: str
    purpose: str
    amount_cents: int
    currency: str
    credits: int
    lot_id: int | None


def load_order(conn: sqlite3.Connection, order_id: str) -> Order | None:
    row = conn.execute(_ORDER, (order_id,)).fetchone()
    return None if row is None else read_order(row)


def read_order(row: tuple[Any, ...]) -> Order:
    ident, workspace_id, purpose, rail, cents, currency, credits, state, *rest = row
    return Order(ident, workspace_id, purpose, Rail(rail), cents, currency, credits, OrderState(state), *rest)


def open_order(conn: Connection, wish: Order, actor: Actor) -> Order:
    """The order that is open for the same thing, else the wish itself, written down before Stripe hears of it."""
    if wish.purpose == "addon":
        found = conn.execute(_OPEN_ADDON, (wish.workspace_id,)).fetchone()
    else:
        found = conn.execute(
            _OPEN_ORDER, (wish.workspace_id, wish.purpose, wish.amount_cents, wish.credits)
        ).fetchone()
    if found is not None:
        return read_order(found)
    customer = conn.execute(_CUSTOMER, (wish.workspace_id,)).fetchone()
    conn.execute(_NEW_ORDER, (
        wish.workspace_id, wish.id, wish.purpose, wish.rail, wish.amount_cents, wish.currency, wish.credits,
        wish.return_url, "" if customer is None else customer[0], wish.created_at_ms,
    ))
    save_audit(conn, wish.workspace_id, f"{wish.purpose}.ordered", wish.id, None, {
        "amount_cents": wish.amount_cents, "currency": wish.currency, "credits": wish.credits,
    }, at_ms=wish.created_at_ms, actor=actor)
    order = load_order(conn, wish.id)
    assert order is not None
    return order


def end_order(conn: Connection, workspace_id: str, order_id: str, state: OrderState) -> None:
    """An order that is not paid any more: expired or failed. A paid one stays paid."""
    conn.execute(_ENDED, (state, order_id, workspace_id))


def load_payment(conn: sqlite3.Connection, payment_intent: str) -> Payment | None:
    row = conn.execute(_PAYMENT, (payment_intent,)).fetchone() if payment_intent else None
    return None if row is None else Payment(*row)


# --- what Stripe has, booked


def book_checkout(conn: Connection, facts: CheckoutFacts, failed: bool, at_ms: int) -> str:
    """A Checkout session: its page, its end, or its payment, once. Returns the workspace."""
    order = load_order(conn, facts.order_id)
    if order is None:
        raise Mismatch(f"checkout {facts.id} names an order that does not exist here")
    wrong = order_mismatch(order, facts)
    if wrong:
        raise Mismatch(f"checkout {facts.id}: {wrong}", order.workspace_id)
    workspace_id = order.workspace_id
    if facts.status == "open":
        conn.execute(_OPENED, (facts.id, facts.url, facts.expires_at_ms, order.id, workspace_id, facts.id))
    elif facts.status == "expired":
        end_order(conn, workspace_id, order.id, OrderState.EXPIRED)
    elif facts.payment_status == "no_payment_required":
        raise Mismatch(f"checkout {facts.id}: completed without a payment", workspace_id)
    elif facts.payment_status == "paid":
        if order.purpose == "topup":
            _book_top_up(conn, order, facts, at_ms)
            _pay_order(conn, order, facts.id, "", facts.payment_intent, facts.customer)
        else:
            # The subscription may hear of its payment later: until it is adopted, this order is asked about again.
            _note_subscription(conn, order, facts)
    elif failed:
        end_order(conn, workspace_id, order.id, OrderState.FAILED)
    return workspace_id


def _note_subscription(conn: Connection, order: Order, facts: CheckoutFacts) -> None:
    conn.execute(_COMPLETED, (
        facts.id, facts.subscription or None, facts.customer, facts.customer, order.id, order.workspace_id,
    ))


def _pay_order(
    conn: Connection, order: Order, checkout: str, subscription: str, payment_intent: str, customer: str
) -> None:
    conn.execute(_PAID, (
        checkout or None, subscription or None, payment_intent or None, customer, customer, order.id,
        order.workspace_id,
    ))


def _book_top_up(conn: Connection, order: Order, facts: CheckoutFacts, at_ms: int) -> None:
    key = f"checkout:{facts.id}"
    if conn.execute(_PAYMENT_BY_ID, (facts.id, order.workspace_id)).fetchone() is not None:
        return
    lot_id = add_credits(
        conn, order.workspace_id, order.credits, "topup", None, key, actor="job:stripe", at_ms=at_ms
    )
    conn.execute(_NEW_PAYMENT, (
        order.workspace_id, facts.id, order.id, "topup", facts.payment_intent or None, order.amount_cents,
        order.currency, order.credits, lot_id, None, at_ms,
    ))
    save_audit(conn, order.workspace_id, "topup.paid", order.id, None, {
        "checkout": facts.id, "amount_cents": order.amount_cents, "credits": order.credits,
    }, at_ms=at_ms, actor=STRIPE)
    _tell(conn, order.workspace_id, key, "topup_received", {
        "amount_cents": str(order.amount_cents), "currency": order.currency, "credits": str(order.credits),
    }, at_ms)
    retry_owed(conn, order.workspace_id, at_ms)


def book_subscription(conn: Connection, facts: SubscriptionFacts, grace_ms: int, at_ms: int) -> str:
    """A subscription's present state; an older or ended one changes nothing. Returns the workspace."""
    order = load_order(conn, facts.order_id)
    if order is None:
        raise Mismatch(f"subscription {facts.id} names an order that does not exist here")
    if not was_ever_paid(facts):
        # A first payment that is refused leaves such a subscription behind; it grants nothing, and says something
        # only of the page that ended with it.
        if order.subscription == facts.id and is_over_at_stripe(facts.status):
            end_order(conn, order.workspace_id, order.id, OrderState.FAILED)
        return order.workspace_id
    wrong = subscription_mismatch(order, facts)
    if wrong:
        raise Mismatch(f"subscription {facts.id}: {wrong}", order.workspace_id)
    match adopt(load_addon(conn, order.workspace_id), facts, at_ms):
        case Adoption.SECOND:
            raise Mismatch(
                f"subscription {facts.id} is a second one beside the add-on's: end it at Stripe", order.workspace_id
            )
        case Adoption.TAKE:
            put_addon(conn, card_addon(facts, grace_ms), at_ms, STRIPE)
        case Adoption.STALE:
            pass
    _pay_order(conn, order, "", facts.id, "", facts.customer)
    _drop_wishes(conn, order.workspace_id, facts)
    return order.workspace_id


def _drop_wishes(conn: Connection, workspace_id: str, facts: SubscriptionFacts) -> None:
    """What Stripe agrees with needs not be said again."""
    over = facts.status in ("canceled", "incomplete_expired")
    ending = facts.cancel_at_period_end or facts.cancel_at_ms is not None
    for wish, granted in (("cancel", ending or over), ("keep", over or not ending), ("end", over)):
        if granted:
            conn.execute(_DROP_WISH, (workspace_id, facts.id, wish))


def book_invoice(conn: Connection, facts: InvoiceFacts, subscription: SubscriptionFacts, at_ms: int) -> str:
    """What was paid for one period of the add-on. The subscription says what follows from it."""
    order = load_order(conn, subscription.order_id)
    if order is None:
        raise Mismatch(f"invoice {facts.id} belongs to an order that does not exist here")
    if facts.status != "paid" or facts.amount_paid_cents == 0:
        return order.workspace_id
    if (facts.amount_paid_cents, facts.currency) != (order.amount_cents, order.currency):
        raise Mismatch(
            f"invoice {facts.id}: ordered {order.amount_cents} {order.currency}, paid {facts.amount_paid_cents} "
            f"{facts.currency}", order.workspace_id,
        )
    if conn.execute(_PAYMENT_BY_ID, (facts.id, order.workspace_id)).fetchone() is None:
        conn.execute(_NEW_PAYMENT, (
            order.workspace_id, facts.id, order.id, "addon", next(iter(facts.payment_intents), None),
            facts.amount_paid_cents, facts.currency, 0, None, facts.period_start_ms, at_ms,
        ))
        save_audit(conn, order.workspace_id, "addon.paid", order.id, None, {
            "invoice": facts.id, "amount_cents": facts.amount_paid_cents,
        }, at_ms=at_ms, actor=STRIPE)
    return order.workspace_id


def book_refund(conn: Connection, facts: RefundFacts, at_ms: int) -> str:
    """Money given back: its credits leave, once; a refund that fails afterwards brings them back, once.

    A failure implies the refund before it, so that the books are the same whichever was heard of first.
    """
    payment = load_payment(conn, facts.payment_intent)
    if payment is None:
        return ""
    workspace_id, key = payment.workspace_id, f"refund:{facts.id}"
    failed = facts.status in ("failed", "canceled")
    if not failed and facts.status != "succeeded":
        return workspace_id
    known = conn.execute(_LOSS, (facts.id, workspace_id)).fetchone()
    if known is None:
        credits = _loss_of(payment, facts.amount_cents, facts.currency, f"refund {facts.id}")
        conn.execute(_NEW_LOSS, (
            workspace_id, facts.id, payment.id, "refund", "booked", facts.amount_cents, credits, at_ms,
        ))
        _take_back(conn, payment, credits, "sink:refunded", key, "refund", at_ms)
        if not failed:
            _tell(conn, workspace_id, key, "refund_booked", _amounts(facts, credits), at_ms)
    if failed and (known is None or known[0] == "booked"):
        _return(conn, payment, key, f"{key}:failed", "refund_failed", at_ms)
        conn.execute(_LOSS_STATE, ("failed", facts.id, workspace_id))
    return workspace_id


def book_dispute(conn: Connection, facts: DisputeFacts, at_ms: int) -> str:
    """A customer's bank took the money back, for now or for good. Its end implies its beginning."""
    payment = load_payment(conn, facts.payment_intent)
    if payment is None:
        return ""
    outcome = dispute_outcome(facts.status)
    workspace_id, key = payment.workspace_id, f"dispute:{facts.id}"
    known = conn.execute(_LOSS, (facts.id, workspace_id)).fetchone()
    if outcome == "warning" or (known is None and outcome == "won" and facts.status == "prevented"):
        return workspace_id
    if known is None:
        credits = _loss_of(payment, facts.amount_cents, facts.currency, f"dispute {facts.id}")
        conn.execute(_NEW_LOSS, (
            workspace_id, facts.id, payment.id, "dispute", "opened", facts.amount_cents, credits, at_ms,
        ))
        _take_back(
            conn, payment, credits, frozen_account(workspace_id), f"{key}:opened", "dispute_opened", at_ms
        )
        _tell(conn, workspace_id, f"{key}:opened", "dispute_opened", _amounts(facts, credits), at_ms)
        known = ("opened", credits, facts.amount_cents)
    if known[0] != "opened" or outcome == "open":
        return workspace_id
    conn.execute(_LOSS_STATE, (outcome, facts.id, workspace_id))
    if outcome == "won":
        _return(conn, payment, f"{key}:opened", f"{key}:won", "dispute_won", at_ms)
    elif known[1] > 0:
        lost = Posting(frozen_account(workspace_id), "sink:refunded", known[1])
        _save(conn, workspace_id, f"{key}:lost", "dispute_lost", (lost,), at_ms)
    _tell(conn, workspace_id, f"{key}:{outcome}", f"dispute_{outcome}", _amounts(facts, known[1]), at_ms)
    return workspace_id


def _loss_of(payment: Payment, cents: int, currency: str, what: str) -> int:
    """The credits that leave with `cents` of a payment."""
    if currency != payment.currency or not 0 < cents <= payment.amount_cents:
        raise Mismatch(
            f"{what}: {cents} {currency} of a payment of {payment.amount_cents} {payment.currency}",
            payment.workspace_id,
        )
    return refunded_credits(payment.credits, payment.amount_cents, cents)


def _take_back(
    conn: Connection, payment: Payment, credits: int, destination: str, key: str, kind: str, at_ms: int
) -> None:
    if credits == 0:
        return
    workspace_id = payment.workspace_id
    postings = plan_take_back(
        load_lots(conn, workspace_id), None if payment.lot_id is None else str(payment.lot_id),
        free_credits(conn, workspace_id), credits, debt_account(workspace_id), destination,
    )
    _save(conn, workspace_id, key, kind, postings, at_ms)
    move_balance(conn, workspace_id, -credits)


def _return(conn: Connection, payment: Payment, taken_by: str, key: str, kind: str, at_ms: int) -> None:
    """The reverse of `_take_back`, posting by posting."""
    workspace_id = payment.workspace_id
    taken = load_postings(conn, workspace_id, taken_by)
    if not taken:
        return
    debt = load_debt(conn, workspace_id)
    unowed = sum(p.amount_credits for p in taken if p.source.startswith("debt:")) - debt
    lot = "" if unowed <= 0 else f"lot:{new_lot(conn, workspace_id, 'topup', unowed, None, at_ms)}"
    _save(conn, workspace_id, key, kind, plan_give_back(taken, debt, lot), at_ms)
    move_balance(conn, workspace_id, sum(p.amount_credits for p in taken))
    repay_debt(conn, workspace_id, key, at_ms)
    retry_owed(conn, workspace_id, at_ms)


def _save(
    conn: Connection, workspace_id: str, key: str, kind: str, postings: tuple[Posting, ...], at_ms: int
) -> None:
    entry = LedgerEntry(key, kind, postings)
    save_entry(conn, workspace_id, entry, hold_id=None, actor="job:stripe", at_ms=at_ms)


def _amounts(facts: RefundFacts | DisputeFacts, credits: int) -> dict[str, str]:
    return {"amount_cents": str(facts.amount_cents), "currency": facts.currency, "credits": str(credits)}


def _tell(
    conn: Connection, workspace_id: str, key: str, kind: str, payload: dict[str, str], at_ms: int
) -> None:
    """A workspace that was deleted has nobody to tell."""
    if conn.execute(_LIVING, (workspace_id,)).fetchone() is not None:
        announce(conn, workspace_id, key, kind, {"workspace_id": workspace_id, **payload, "at": utc_text(at_ms)}, at_ms)

