"""Subscriptions as objects: their items, periods and endings. What they cost and when is `billing`."""

from dataclasses import dataclass

from .calendars import next_boundary
from .catalogue import plan_of
from .invoices import Line
from .refusals import Json
from .shapes import blank
from .world import World, listed

ENDED = ("canceled", "incomplete_expired")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a new subscription is made of. Times in Unix seconds."""

    items: tuple[tuple[Json, int, Json], ...]  # price, quantity, metadata
    metadata: Json
    method: str | None = None
    collection: str = "charge_automatically"
    days_until_due: int | None = None
    trial_end: int | None = None
    anchor: int | None = None
    cancel_at: int | None = None
    cancel_at_period_end: bool = False
    description: str | None = None
    billing_mode: str = "flexible"
    save_method: str = "off"


def make(world: World, customer: Json, terms: Terms) -> Json:
    """A subscription whose first period has begun. It is incomplete, or trialing, until its money is there."""
    now, ident = world.moment(customer["test_clock"]), world.new_id("sub_1")
    anchor = terms.trial_end or terms.anchor or now
    recurring = terms.items[0][0]["recurring"]
    end = terms.trial_end or next_boundary(anchor, recurring["interval"], recurring["interval_count"], now)
    items = [new_item(world, ident, price, n, meta, now, end) for price, n, meta in terms.items]
    flexible = {"proration_discounts": "included"} if terms.billing_mode == "flexible" else None
    made = world.make(
        "subscription", ident, now, billing_cycle_anchor=anchor, billing_schedules=[], cancel_at=terms.cancel_at,
        automatic_tax={"disabled_reason": None, "enabled": False, "liability": None}, start_date=now,
        billing_mode={"type": terms.billing_mode, "flexible": flexible, "updated_at": now}, default_tax_rates=[],
        cancel_at_period_end=terms.cancel_at_period_end, collection_method=terms.collection, customer=customer["id"],
        cancellation_details=_details(None), currency=terms.items[0][0]["currency"], discounts=[],
        days_until_due=terms.days_until_due, default_payment_method=terms.method, description=terms.description,
        invoice_settings={"account_tax_ids": None, "custom_fields": None, "description": None, "footer": None,
                          "issuer": {"type": "self"}},
        items=listed(items, f"/v1/subscription_items?subscription={ident}"), metadata=terms.metadata,
        payment_settings={"payment_method_options": None, "payment_method_types": None,
                          "save_default_payment_method": terms.save_method},
        status="trialing" if terms.trial_end else "incomplete", test_clock=customer["test_clock"],
        trial_end=terms.trial_end, trial_start=now if terms.trial_end else None,
        trial_settings={"end_behavior": {"missing_payment_method": "create_invoice"}},
    )  # fmt: skip
    if terms.cancel_at_period_end:
        made |= {"cancel_at": end, "canceled_at": now, "cancellation_details": _details("cancellation_requested")}
    if customer["currency"] is None:
        customer["currency"] = made["currency"]
    return made


def _details(reason: str | None) -> Json:
    return {"comment": None, "feedback": None, "feedback_option": None, "reason": reason}


def new_item(world: World, subscription: str, price: Json, quantity: int, metadata: Json, start: int, end: int) -> Json:
    """One item. Its period is the subscription's."""
    return {
        "id": world.new_id("si_", 14), **blank("subscription_item"), "created": start, "current_period_end": end,
        "current_period_start": start, "discounts": [], "metadata": metadata, "plan": plan_of(price),
        "price": dict(price), "quantity": quantity, "subscription": subscription, "tax_rates": [],
    }  # fmt: skip


def period_of(subscription: Json) -> tuple[int, int]:
    """The current period, [start, end)."""
    item = subscription["items"]["data"][0]
    return item["current_period_start"], item["current_period_end"]


def set_period(subscription: Json, start: int, end: int) -> None:
    """Move every item to a period."""
    items = [
        {**item, "current_period_start": start, "current_period_end": end} for item in subscription["items"]["data"]
    ]
    subscription["items"] = {**subscription["items"], "data": items}


def next_end(subscription: Json, moment: int) -> int:
    """When the period that holds `moment` ends, by the anchor."""
    recurring = subscription["items"]["data"][0]["price"]["recurring"]
    anchor = subscription["billing_cycle_anchor"]
    return next_boundary(anchor, recurring["interval"], recurring["interval_count"], moment)


def cost_of(item: Json) -> int:
    """What one period of an item costs, in cents."""
    return int(item["price"]["unit_amount"]) * int(item["quantity"])


def period_lines(world: World, subscription: Json, start: int, end: int) -> tuple[Line, ...]:
    """The lines of one whole period; a trial's are free."""
    free = subscription["status"] == "trialing"
    lines = []
    for item in subscription["items"]["data"]:
        price = item["price"]
        product = world.find("product", price["product"])
        name = product["name"] if product else price["product"]
        amount = 0 if free else cost_of(item)
        whole, cents = divmod(price["unit_amount"], 100)
        each = f"(at ${whole}.{cents:02} / {price['recurring']['interval']})"
        text = f"Trial period for {name}" if free else f"{item['quantity']} × {name} {each}"
        meta = subscription["metadata"]
        lines.append(Line(amount, text, start, end, price, item["quantity"], item["id"], metadata=meta))
    return tuple(lines)


def prorations(old: Json, new: Json | None, moment: int) -> tuple[Line, ...]:
    """Credit for an item's unused time and, where it goes on, the charge for the rest of the period."""
    start, end = old["current_period_start"], old["current_period_end"]
    lines = []
    for item, sign, words in ((old, -1, "Unused time on"), (new, 1, "Remaining time on")):
        if item is None:
            continue
        amount = sign * _share(cost_of(item), end - moment, end - start)
        text = f"{words} {item['quantity']} × {item['price']['nickname'] or item['price']['product']}"
        lines.append(Line(amount, text, moment, end, item["price"], item["quantity"], item["id"], None, True))
    return tuple(lines)


def _share(amount: int, part: int, whole: int) -> int:
    """`amount * part / whole` in whole cents, rounded half up."""
    return (2 * amount * part + whole) // (2 * whole)


def set_cancel_at_end(world: World, subscription: Json, wanted: bool, *, by_portal: bool = False) -> None:
    """Plan the end with the period, or take it back. Call inside `world.changing`.

    In flexible billing mode the Customer Portal writes only `cancel_at` and leaves `cancel_at_period_end` false
    (docs.stripe.com, "Compare billing modes"); the API sets both.
    """
    flexible = subscription["billing_mode"]["type"] == "flexible"
    now = world.moment(subscription["test_clock"])
    if wanted:
        subscription |= {
            "cancel_at_period_end": not (by_portal and flexible), "cancel_at": period_of(subscription)[1],
            "canceled_at": now, "cancellation_details": _details("cancellation_requested"),
        }  # fmt: skip
    else:
        subscription |= {
            "cancel_at_period_end": False, "cancel_at": None, "canceled_at": None,
            "cancellation_details": _details(None),
        }  # fmt: skip


def end_now(world: World, subscription: Json, reason: str) -> None:
    """The end. It does not come back: who wants more subscribes again."""
    now = world.moment(subscription["test_clock"])
    details = {**subscription["cancellation_details"], "reason": reason}
    subscription |= {
        "status": "canceled", "ended_at": now, "canceled_at": subscription["canceled_at"] or now,
        "cancellation_details": details, "cancel_at_period_end": False,
    }  # fmt: skip
    world.emit("customer.subscription.deleted", subscription)
