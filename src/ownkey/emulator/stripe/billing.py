"""Where invoices, payments and subscriptions meet: collecting, dunning, renewing, and what is due when.

A renewal's invoice is a draft for an hour, then it is finalized and charged. A failed charge makes the subscription
past due and is tried again after the account's `retry_days`; when they are used up, its `final_action` happens.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import invoices, subscriptions
from .cards import Decline
from .customers import attach, card_of
from .invoices import Bill, Line
from .lists import where
from .payments import attempt, authenticate, void_intent
from .refusals import Json
from .subscriptions import Terms
from .world import World

_DAY = 86_400
_INCOMPLETE_S = 23 * 3600
_BILLED = ("active", "past_due", "unpaid", "trialing")
NO_METHOD = Decline("missing", None, "There is no default payment method.")


# paying


def subscription_of(world: World, invoice: Json) -> Json | None:
    """The subscription that an invoice bills."""
    parent = invoice["parent"]
    return world.get("subscription", parent["subscription_details"]["subscription"]) if parent else None


def method_for(world: World, invoice: Json) -> Json | None:
    """The payment method an invoice is charged to: its own, the subscription's, the customer's."""
    subscription = subscription_of(world, invoice)
    customer = world.get("customer", invoice["customer"])
    names = (
        invoice["default_payment_method"], subscription["default_payment_method"] if subscription else None,
        customer["invoice_settings"]["default_payment_method"],
    )  # fmt: skip
    return next((world.find("payment_method", name) for name in names if name), None)


def collect(
    world: World, invoice: Json, method: Json | None = None, *, off_session: bool = True, scheduled: bool = True
) -> Decline | None:
    """Try to get an open invoice paid. The decline, or None where it is paid or waits for the cardholder.

    A failure that is not `scheduled` (somebody pressed "pay") moves neither the retries nor the subscription.
    """
    intent = invoices.intent_of(world, invoice)
    if invoice["amount_due"] == 0 or intent is None:
        _paid(world, invoice)
        return None
    chosen = method or method_for(world, invoice)
    if chosen is None:
        _failed(world, invoice, scheduled=scheduled)
        return NO_METHOD
    subscription = subscription_of(world, invoice)
    first = subscription is not None and subscription["status"] == "incomplete"
    decline = attempt(world, intent, chosen, off_session=off_session and not first)
    if decline is not None:
        _failed(world, invoice, scheduled=scheduled)
    elif intent["status"] == "requires_action":
        world.emit("invoice.payment_action_required", invoice)
    else:
        settle(world, intent)
    return decline


def settle(world: World, intent: Json) -> None:
    """Tell the intent's invoice, if it has one, that its money came."""
    ident = world.hidden(intent["id"]).get("invoice")
    if intent["status"] == "succeeded" and ident:
        invoice = world.get("invoice", ident)
        if invoice["status"] == "open":
            _paid(world, invoice)
            _keep_method(world, invoice, intent)


def answer_bank(world: World, intent: Json, *, passed: bool) -> Decline | None:
    """The cardholder answers the bank's question about an intent; its invoice follows."""
    ident = world.hidden(intent["id"]).get("invoice")
    decline = authenticate(world, intent, passed=passed)
    if decline is not None and ident:
        _failed(world, world.get("invoice", ident), scheduled=False)
    settle(world, intent)
    return decline


def _keep_method(world: World, invoice: Json, intent: Json) -> None:
    """`save_default_payment_method: on_subscription` keeps what paid."""
    subscription = subscription_of(world, invoice)
    if subscription and subscription["payment_settings"]["save_default_payment_method"] == "on_subscription":
        with world.changing(subscription, "customer.subscription.updated"):
            subscription["default_payment_method"] = intent["payment_method"]


def _paid(world: World, invoice: Json, *, elsewhere: bool = False) -> None:
    invoices.set_paid(world, invoice, elsewhere=elsewhere)
    customer = world.find("customer", invoice["customer"])
    owing = [i for i in where(world.every("invoice"), customer=invoice["customer"], status="open") if i["attempted"]]
    if customer is not None and customer["delinquent"] and not owing:
        with world.changing(customer, "customer.updated"):
            customer["delinquent"] = False
    subscription = subscription_of(world, invoice)
    if subscription is None or subscription["status"] not in ("incomplete", "past_due", "unpaid"):
        return
    if subscription["latest_invoice"] in (invoice["id"], None):
        with world.changing(subscription, "customer.subscription.updated"):
            subscription["status"] = "active"


def pay_elsewhere(world: World, invoice: Json) -> None:
    """Mark an invoice as paid outside Stripe."""
    intent = invoices.intent_of(world, invoice)
    if intent is not None:
        void_intent(world, intent, None)
    _paid(world, invoice, elsewhere=True)


def _failed(world: World, invoice: Json, *, scheduled: bool) -> None:
    subscription = subscription_of(world, invoice)
    first = subscription is not None and subscription["status"] == "incomplete"
    over = False
    invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
    if scheduled and not first:
        over = not _plan_retry(world, invoice)
    world.emit("invoice.payment_failed", invoice)
    customer = world.get("customer", invoice["customer"])
    if not first and not customer["delinquent"]:
        with world.changing(customer, "customer.updated"):
            customer["delinquent"] = True
    if subscription is not None and scheduled and not first:
        _dun(world, subscription, over=over)


def _plan_retry(world: World, invoice: Json) -> bool:
    """Write down when the charge is tried again; False where it is not."""
    known, days = world.hidden(invoice["id"]), world.settings.retry_days
    tries = known.get("tries", 0)
    known["tries"] = tries + 1
    if tries >= len(days):
        invoice["next_payment_attempt"] = None
        return False
    invoice["next_payment_attempt"] = world.moment(invoice["test_clock"]) + days[tries] * _DAY
    return True


def _dun(world: World, subscription: Json, *, over: bool) -> None:
    """After a failed charge: past due, or the account's last word."""
    if subscription["status"] not in ("active", "trialing", "past_due"):
        return
    action = world.settings.final_action if over else "past_due"
    if action == "cancel":
        subscriptions.end_now(world, subscription, "payment_failed")
        return
    with world.changing(subscription, "customer.subscription.updated"):
        subscription["status"] = action


# subscribing


def subscribe(world: World, customer: Json, terms: Terms, *, pay: bool = True, method: Json | None = None) -> Json:
    """Start a subscription and its first invoice; with `pay`, charge it at once."""
    made = subscriptions.make(world, customer, terms)
    start, end = subscriptions.period_of(made)
    lines = subscriptions.period_lines(world, made, start, end)
    if terms.anchor and not terms.trial_end:
        lines = _first_part(made, lines)
    invoice = _bill(world, made, "subscription_create", lines)
    invoices.finalize(world, invoice)
    if invoice["amount_due"] == 0 or made["status"] == "trialing":
        made["status"] = "trialing" if terms.trial_end else "active"
        world.emit("customer.subscription.created", made)
        if invoice["status"] == "open":
            collect(world, invoice)
        return made
    world.emit("customer.subscription.created", made)
    if terms.collection == "send_invoice":
        made["status"] = "active"
    elif pay:
        collect(world, invoice, method, off_session=False)
    return made


def _first_part(made: Json, lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """The first period up to a later anchor costs its share of a whole one."""
    start, end = subscriptions.period_of(made)
    recurring = made["items"]["data"][0]["price"]["recurring"]
    whole = {"day": _DAY, "week": 7 * _DAY, "month": 30 * _DAY, "year": 365 * _DAY}[recurring["interval"]]
    whole *= recurring["interval_count"]
    if end - start >= whole:
        return lines
    return tuple(
        Line((2 * line.amount * (end - start) + whole) // (2 * whole), line.description, line.start, line.end,
             line.price, line.quantity, line.item, None, True, line.metadata)
        for line in lines
    )  # fmt: skip


def _bill(
    world: World, subscription: Json, reason: str, lines: tuple[Line, ...], *, auto_advance: bool = True
) -> Json:
    """A draft for a subscription, with the items that wait for it. It is the latest invoice from now on."""
    customer = world.get("customer", subscription["customer"])
    waiting = invoices.take_pending(world, customer["id"], subscription["id"])
    bill = Bill(
        customer, subscription["currency"], reason, (*lines, *waiting), subscription, auto_advance=auto_advance,
        collection=subscription["collection_method"], days_until_due=subscription["days_until_due"],
    )  # fmt: skip
    invoice = invoices.draft(world, bill)
    invoices.bind(world, invoice)
    subscription["latest_invoice"] = invoice["id"]
    return invoice


def bill_now(world: World, subscription: Json, lines: tuple[Line, ...]) -> tuple[Json, Decline | None]:
    """Bill a change of the subscription at once."""
    invoice = _bill(world, subscription, "subscription_update", lines)
    invoices.finalize(world, invoice)
    return invoice, collect(world, invoice)


def renew(world: World, subscription: Json) -> None:
    """The period is over: the next one begins with its draft, or the subscription ends."""
    start = subscriptions.period_of(subscription)[1]
    cancel_at = subscription["cancel_at"]
    if subscription["cancel_at_period_end"] or (cancel_at is not None and cancel_at <= start):
        subscriptions.end_now(world, subscription, "cancellation_requested")
        return
    customer = world.get("customer", subscription["customer"])
    with world.changing(subscription, "customer.subscription.updated"):
        if subscription["status"] == "trialing":
            subscription["status"] = "active"
        end = subscriptions.next_end(subscription, start)
        subscriptions.set_period(subscription, start, end)
        paused = subscription["pause_collection"]
        held = subscription["status"] == "unpaid" or (paused or {}).get("behavior") == "keep_as_draft"
        lines = subscriptions.period_lines(world, subscription, start, end)
        invoice = _bill(world, subscription, "subscription_cycle", lines, auto_advance=not held)
    if not held:
        invoice["automatically_finalizes_at"] = world.moment(customer["test_clock"]) + world.settings.finalize_after_s


def advance_draft(world: World, invoice: Json) -> None:
    """The draft's hour is over."""
    subscription = subscription_of(world, invoice)
    invoice["automatically_finalizes_at"] = None
    if subscription is not None and subscription["status"] == "canceled":
        invoice["auto_advance"] = False
        return
    invoices.finalize(world, invoice)
    behaviour = ((subscription or {}).get("pause_collection") or {}).get("behavior")
    if behaviour == "void":
        void(world, invoice)
    elif behaviour == "mark_uncollectible":
        write_off(world, invoice)
    elif invoice["collection_method"] == "charge_automatically":
        collect(world, invoice)


def void(world: World, invoice: Json) -> None:
    """An open invoice is no longer owed, as if it had been a mistake."""
    _close(world, invoice, "void", "voided_at", "invoice.voided")


def write_off(world: World, invoice: Json) -> None:
    """An open invoice is owed and given up."""
    _close(world, invoice, "uncollectible", "marked_uncollectible_at", "invoice.marked_uncollectible")


def _close(world: World, invoice: Json, status: str, at: str, event: str) -> None:
    intent = invoices.intent_of(world, invoice)
    if intent is not None and intent["status"] not in ("succeeded", "canceled") and status == "void":
        void_intent(world, intent, "void_invoice")
    moment = world.moment(invoice["test_clock"])
    invoice |= {
        "status": status, "next_payment_attempt": None, "auto_advance": False,
        "status_transitions": {**invoice["status_transitions"], at: moment},
    }  # fmt: skip
    world.emit(event, invoice)
    subscription = subscription_of(world, invoice)
    if status == "void" and subscription is not None and subscription["latest_invoice"] == invoice["id"]:
        if subscription["status"] == "incomplete":
            expire_incomplete(world, subscription)
        elif subscription["status"] in ("past_due", "unpaid"):
            with world.changing(subscription, "customer.subscription.updated"):
                subscription["status"] = "active"


def expire_incomplete(world: World, subscription: Json) -> None:
    """The first payment never came: the subscription never was."""
    now = world.moment(subscription["test_clock"])
    invoice = world.get("invoice", subscription["latest_invoice"])
    with world.changing(subscription, "customer.subscription.updated"):
        subscription |= {"status": "incomplete_expired", "ended_at": now}
    if invoice["status"] == "open":
        void(world, invoice)


# time


@dataclass(frozen=True, slots=True)
class Due:
    """Something that time will do."""

    moment: int
    ident: str
    act: Callable[[], None]


def _due(world: World, clock: str | None) -> Iterator[Due]:
    for sub in where(world.every("subscription")):
        if sub["test_clock"] != clock:
            continue
        if sub["status"] == "incomplete":
            yield Due(sub["created"] + _INCOMPLETE_S, sub["id"], lambda s=sub: expire_incomplete(world, s))  # type: ignore[misc]
        elif sub["status"] in _BILLED:
            yield from _due_of(world, sub)
    for invoice in world.every("invoice"):
        if invoice["test_clock"] != clock:
            continue
        if invoice["status"] == "draft" and invoice["auto_advance"] and invoice["automatically_finalizes_at"]:
            at = invoice["automatically_finalizes_at"]
            yield Due(at, invoice["id"], lambda i=invoice: advance_draft(world, i))  # type: ignore[misc]
        elif invoice["status"] == "open" and invoice["next_payment_attempt"]:
            yield Due(invoice["next_payment_attempt"], invoice["id"], lambda i=invoice: _retry(world, i))  # type: ignore[misc]


def _due_of(world: World, sub: Json) -> Iterator[Due]:
    end = subscriptions.period_of(sub)[1]
    cancel_at = sub["cancel_at"]
    if cancel_at is not None and cancel_at < end:
        yield Due(cancel_at, sub["id"], lambda: subscriptions.end_now(world, sub, "cancellation_requested"))
    yield Due(end, sub["id"], lambda: renew(world, sub))
    warned = world.hidden(sub["id"])
    if sub["status"] == "trialing" and not warned.get("trial_warned"):
        yield Due(max(sub["trial_start"], sub["trial_end"] - 3 * _DAY), sub["id"], lambda: _warn(world, sub))


def _warn(world: World, sub: Json) -> None:
    world.hidden(sub["id"])["trial_warned"] = True
    world.emit("customer.subscription.trial_will_end", sub)


def _retry(world: World, invoice: Json) -> None:
    subscription = subscription_of(world, invoice)
    if subscription is not None and subscription["status"] == "canceled":
        invoice["next_payment_attempt"] = None
        return
    collect(world, invoice)


def run_due(world: World, clock: str | None, until: int) -> int:
    """Do everything that is due up to `until`, in order, each at its own moment. Returns how much it was."""
    done = 0
    while True:
        due = min(_due(world, clock), key=lambda d: (d.moment, d.ident), default=None)
        if due is None or due.moment > until:
            return done
        with world.acting(clock, max(due.moment, 0)):
            due.act()
        done += 1


def saved(world: World, method: Json, customer: Json) -> Json:
    """Keep a method with a customer where it is not kept yet, and remember that its bank was asked."""
    if method["customer"] is None:
        attach(world, method, customer)
    if card_of(world, method).asks == "unless_set_up":
        world.hidden(method["id"])["set_up"] = True
    return method
