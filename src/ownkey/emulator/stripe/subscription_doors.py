"""Subscriptions as the API offers them: create, update with prorations, cancel, list."""

import copy

from . import billing, subscriptions
from .cards import Decline
from .catalogue import inline_price, plan_of
from .customers import usable_method
from .form import Form
from .invoices import Line, intent_of, pending_item
from .lists import created_in, page, where
from .payments import error_of
from .refusals import Json, Refusal, invalid, missing
from .subscriptions import ENDED, Terms
from .world import World

_BEHAVIOURS = ("allow_incomplete", "default_incomplete", "error_if_incomplete")
_PRORATIONS = ("create_prorations", "none", "always_invoice")
_STATUSES = (
    "active", "past_due", "unpaid", "canceled", "incomplete", "incomplete_expired", "trialing", "paused", "all",
    "ended",
)  # fmt: skip


def _items(world: World, form: Form) -> tuple[tuple[Json, int, Json], ...]:
    found = []
    for section in form.sections("items"):
        data = section.section("price_data")
        ident = section.text("price")
        if ident is None and data is None:
            raise invalid("Missing required param: items[0][price].", "items[0][price]", "parameter_missing")
        if data is not None:
            price = inline_price(world, data)
        else:
            price = world.get("price", ident, section.name_of("price"))
            if not price["active"]:
                raise invalid("The price specified is inactive. This field only accepts active prices.",
                              section.name_of("price"), "price_inactive")  # fmt: skip
        if price["type"] != "recurring":
            raise invalid(
                "The price specified is set to `type=one_time` but this field only accepts prices with "
                "`type=recurring`.", section.name_of("price"),
            )  # fmt: skip
        quantity = section.integer("quantity", least=0)
        found.append((price, 1 if quantity is None else quantity, section.metadata()))
    same_rhythm(found)
    return tuple(found)


def same_rhythm(items: list[tuple[Json, int, Json]]) -> None:
    """All items of a subscription bill at once and in one currency here."""
    if not items:
        raise invalid("Missing required param: items.", "items", "parameter_missing")
    rhythms = {(p["recurring"]["interval"], p["recurring"]["interval_count"], p["currency"]) for p, _, _ in items}
    if len(rhythms) > 1:
        raise invalid("All prices of a subscription must have the same currency and billing interval here.", "items")


def trial_end_of(world: World, form: Form, now: int) -> int | None:
    """The end of a trial from `trial_end` or `trial_period_days`."""
    if form.text("trial_end") == "now":
        return None
    days = form.integer("trial_period_days", least=0, most=730)
    end = form.integer("trial_end")
    if end is not None and end <= now:
        raise invalid("trial_end must be a timestamp in the future.", form.name_of("trial_end"))
    return end if end is not None else (now + days * 86_400 if days else None)


def create(world: World, form: Form) -> Json:
    """POST /v1/subscriptions."""
    customer = world.get("customer", form.need("customer"), "customer")
    world.usable(customer["test_clock"])
    now = world.moment(customer["test_clock"])
    behaviour = form.choice("payment_behavior", _BEHAVIOURS) or "allow_incomplete"
    method = form.text("default_payment_method") or None
    if method:
        _own(world, method, customer["id"], "default_payment_method")
    collection = form.choice("collection_method", ("charge_automatically", "send_invoice")) or "charge_automatically"
    days = form.integer("days_until_due", least=0)
    if collection == "send_invoice" and days is None:
        raise invalid("Missing required param: days_until_due.", "days_until_due", "parameter_missing")
    settings, mode = form.section("payment_settings"), form.section("billing_mode")
    terms = Terms(
        _items(world, form), form.metadata(), method, collection, days, trial_end_of(world, form, now),
        form.integer("billing_cycle_anchor", least=now + 1), form.integer("cancel_at", least=now + 1),
        form.flag("cancel_at_period_end") or False, form.text("description") or None,
        (mode.choice("type", ("flexible", "classic")) if mode else None) or "flexible",
        (settings.choice("save_default_payment_method", ("off", "on_subscription")) if settings else None) or "off",
    )  # fmt: skip
    if settings:
        settings.skip("payment_method_types", "payment_method_options")
    off_session = form.flag("off_session") or False
    form.skip("proration_behavior", "automatic_tax", "trial_settings")
    form.close()
    _refuse_unpayable(world, customer, terms, behaviour)
    made = billing.subscribe(world, customer, terms, pay=behaviour != "default_incomplete")
    if made["status"] == "incomplete" and behaviour == "error_if_incomplete":
        raise _first_refusal(world, made)
    del off_session
    return made


def _refuse_unpayable(world: World, customer: Json, terms: Terms, behaviour: str) -> None:
    """Without any payment method, only what needs no money now may start."""
    owes = any(price["unit_amount"] * n for price, n, _ in terms.items) and not terms.trial_end
    default = customer["invoice_settings"]["default_payment_method"]
    automatic = terms.collection == "charge_automatically"
    if owes and automatic and not (terms.method or default) and behaviour != "default_incomplete":
        raise invalid(
            "This customer has no attached payment source or default payment method. Please consider adding a default "
            "payment method.", None, "resource_missing",
        )  # fmt: skip


def _first_refusal(world: World, made: Json) -> Refusal:
    """The 402 of `error_if_incomplete`. Nothing of the subscription stays, so nothing is kept for the key either."""
    intent = intent_of(world, world.get("invoice", made["latest_invoice"]))
    assert intent is not None
    if intent["last_payment_error"] is None:
        return Refusal(402, "card_error", "This payment requires additional user action before it can be completed.",
                       code="subscription_payment_intent_requires_action")  # fmt: skip
    decline = Decline(
        intent["last_payment_error"]["code"], intent["last_payment_error"]["decline_code"],
        intent["last_payment_error"]["message"],
    )  # fmt: skip
    refusal = error_of(world, intent, decline)
    refusal.saved = False
    return refusal


def _own(world: World, method: str, customer: str, param: str) -> None:
    found = usable_method(world, method, param)
    if found["customer"] != customer:
        message = f"The customer does not have a payment method with the ID {method}: it must be attached first."
        raise invalid(message, param, "resource_missing")


def update(world: World, form: Form, ident: str) -> Json:
    """POST /v1/subscriptions/:id."""
    sub = world.get("subscription", ident, in_path=True)
    world.usable(sub["test_clock"])
    if sub["status"] in ENDED:
        for name in ("items", "cancel_at_period_end", "cancel_at", "trial_end", "billing_cycle_anchor"):
            if name in form:
                raise invalid("A canceled subscription can only update its cancellation_details and metadata.", name)
    old = copy.deepcopy(sub)
    try:
        _apply(world, form, sub)
    except Refusal:
        sub.update(old)
        raise
    return sub


def _apply(world: World, form: Form, sub: Json) -> None:
    now = world.moment(sub["test_clock"])
    with world.changing(sub, "customer.subscription.updated"):
        sub["metadata"] = form.metadata(sub["metadata"])
        _plain_changes(world, form, sub)
        _ending(world, form, sub, now)
        lines, restart = _item_changes(world, form, sub, now)
        prorate = form.choice("proration_behavior", _PRORATIONS) or "create_prorations"
        behaviour = form.choice("payment_behavior", _BEHAVIOURS) or "allow_incomplete"
        reset = form.choice("billing_cycle_anchor", ("now", "unchanged")) == "now" or restart
        form.skip("off_session", "proration_date", "automatic_tax")
        form.close()
        if prorate == "none":
            lines = tuple(line for line in lines if restart and line.amount < 0)
        _charge_changes(world, sub, lines, prorate, behaviour, reset=reset, now=now)


def _plain_changes(world: World, form: Form, sub: Json) -> None:
    if "description" in form:
        sub["description"] = form.text("description") or None
    if "default_payment_method" in form:
        method = form.text("default_payment_method") or None
        if method:
            _own(world, method, sub["customer"], "default_payment_method")
        sub["default_payment_method"] = method
    if "pause_collection" in form:
        section = form.section("pause_collection")
        behaviours = ("keep_as_draft", "mark_uncollectible", "void")
        sub["pause_collection"] = section and {
            "behavior": section.choice("behavior", behaviours), "resumes_at": section.integer("resumes_at"),
        }  # fmt: skip
    details = form.section("cancellation_details")
    if details:
        given = {name: details.text(name) or None for name in ("comment", "feedback") if name in details}
        sub["cancellation_details"] = {**sub["cancellation_details"], **given}


def _ending(world: World, form: Form, sub: Json, now: int) -> None:
    at_end = form.flag("cancel_at_period_end")
    if "cancel_at" in form and at_end is not None:
        raise invalid("You can only pass one of cancel_at and cancel_at_period_end.", "cancel_at")
    if at_end is not None and (at_end != sub["cancel_at_period_end"] or sub["cancel_at"]):
        subscriptions.set_cancel_at_end(world, sub, at_end)
    if "cancel_at" in form:
        value = form.text("cancel_at")
        end = subscriptions.period_of(sub)[1]
        if value in ("min_period_end", "max_period_end"):
            sub |= {"cancel_at": end, "canceled_at": now}
        elif value == "":
            subscriptions.set_cancel_at_end(world, sub, False)
        else:
            sub |= {"cancel_at": form.integer("cancel_at", least=now), "canceled_at": now}
    if "trial_end" in form:
        trial = trial_end_of(world, form, now)
        sub["trial_end"] = trial or now
        sub["billing_cycle_anchor"] = trial or now
        subscriptions.set_period(sub, subscriptions.period_of(sub)[0], trial or now)
        sub["status"] = "trialing"


def _item_changes(world: World, form: Form, sub: Json, now: int) -> tuple[tuple[Line, ...], bool]:
    """Change the items; their prorations, and whether the billing rhythm changed."""
    sections = form.sections("items")
    items = {item["id"]: item for item in copy.deepcopy(sub["items"]["data"])}
    rhythm = _rhythm(next(iter(items.values())))
    start, end = subscriptions.period_of(sub)
    lines: list[Line] = []
    for section in sections:
        ident, gone = section.text("id"), section.flag("deleted")
        price_id, quantity = section.text("price"), section.integer("quantity", least=0)
        price = world.get("price", price_id, section.name_of("price")) if price_id else None
        metadata = section.metadata()
        section.skip("clear_usage")
        if ident is None:
            if price is None:
                raise invalid("Missing required param: items[0][price].", "items[0][price]", "parameter_missing")
            made = subscriptions.new_item(world, sub["id"], price, quantity or 1, metadata, start, end)
            items[made["id"]] = made
            lines += [line for line in subscriptions.prorations(made, made, now) if line.amount > 0]
            continue
        if ident not in items:
            raise missing("subscription_item", ident, section.name_of("id"), in_path=False)
        before = items[ident]
        if gone:
            del items[ident]
            lines += subscriptions.prorations(before, None, now)
            continue
        after = dict(before, quantity=before["quantity"] if quantity is None else quantity)
        if price is not None:
            after |= {"price": dict(price), "plan": plan_of(price)}
        items[ident] = after
        if subscriptions.cost_of(after) != subscriptions.cost_of(before) or _rhythm(after) != rhythm:
            lines += subscriptions.prorations(before, after, now)
    if not items:
        raise invalid("A subscription must have at least one active price.", "items")
    sub["items"] = {**sub["items"], "data": list(items.values())}
    free = sub["status"] in ("trialing", "incomplete", "unpaid")
    restart = _rhythm(next(iter(items.values()))) != rhythm
    if restart:
        lines = [line for line in lines if line.amount < 0]
    return (() if free else tuple(lines)), restart


def _rhythm(item: Json) -> tuple[str, int]:
    recurring = item["price"]["recurring"]
    return recurring["interval"], recurring["interval_count"]


def _charge_changes(
    world: World, sub: Json, lines: tuple[Line, ...], prorate: str, behaviour: str, *, reset: bool, now: int
) -> None:
    """Leave the prorations for the next invoice, or bill them now; a new rhythm is always billed now."""
    if reset:
        sub["billing_cycle_anchor"] = now
        subscriptions.set_period(sub, now, subscriptions.next_end(sub, now))
        start, end = subscriptions.period_of(sub)
        lines = (*lines, *subscriptions.period_lines(world, sub, start, end))
    elif prorate != "always_invoice" or not lines:
        customer = world.get("customer", sub["customer"])
        for line in lines:
            pending_item(world, customer, sub, line, sub["currency"])
        return
    invoice, decline = billing.bill_now(world, sub, lines)
    if decline is not None and behaviour == "error_if_incomplete":
        intent = intent_of(world, invoice)
        refusal = error_of(world, intent, decline) if intent else invalid(decline.message)
        refusal.saved = False
        raise refusal


def cancel(world: World, form: Form, ident: str) -> Json:
    """DELETE /v1/subscriptions/:id: now."""
    sub = world.get("subscription", ident, in_path=True)
    world.usable(sub["test_clock"])
    invoice_now, prorate = form.flag("invoice_now") or False, form.flag("prorate") or False
    details = form.section("cancellation_details")
    given = {name: details.text(name) for name in ("comment", "feedback") if name in details} if details else {}
    form.close()
    if sub["status"] in ENDED:
        raise missing("subscription", ident, "id", in_path=True)
    now = world.moment(sub["test_clock"])
    items = sub["items"]["data"] if prorate else []
    lines = [line for item in items for line in subscriptions.prorations(item, None, now)]
    if invoice_now:
        billing.bill_now(world, sub, tuple(lines))
    else:
        customer = world.get("customer", sub["customer"])
        for line in lines:
            pending_item(world, customer, sub, line, sub["currency"])
    sub["cancellation_details"] = {**sub["cancellation_details"], **given}
    subscriptions.end_now(world, sub, "cancellation_requested")
    return sub


def list_all(world: World, form: Form) -> Json:
    """GET /v1/subscriptions; without a status, those that have not been canceled."""
    status = form.choice("status", _STATUSES)
    items = where(
        created_in(form, world.every("subscription")), customer=form.text("customer"),
        collection_method=form.text("collection_method"), test_clock=form.text("test_clock"),
    )  # fmt: skip
    price = form.text("price")
    if price:
        items = [s for s in items if any(item["price"]["id"] == price for item in s["items"]["data"])]
    if status is None:
        items = [sub for sub in items if sub["status"] != "canceled"]
    elif status == "ended":
        items = [sub for sub in items if sub["status"] in ENDED]
    elif status != "all":
        items = [sub for sub in items if sub["status"] == status]
    return page(items, form, "/v1/subscriptions")


def list_items(world: World, form: Form) -> Json:
    """GET /v1/subscription_items?subscription=."""
    sub = world.get("subscription", form.need("subscription"), "subscription")
    return page(sub["items"]["data"], form, "/v1/subscription_items")


def delete_customer(world: World, form: Form, ident: str) -> Json:
    """DELETE /v1/customers/:id: the subscriptions end, the methods go, the history stays."""
    customer = world.get("customer", ident, in_path=True)
    form.close()
    for sub in where(world.every("subscription"), customer=ident):
        if sub["status"] not in ENDED:
            subscriptions.end_now(world, sub, "cancellation_requested")
    for method in where(world.every("payment_method"), customer=ident):
        method["customer"] = None
        world.hidden(method["id"])["spent"] = True
    world.drop("customer", ident)
    world.hidden(ident)["deleted"] = True
    world.emit("customer.deleted", customer)
    return {"id": ident, "object": "customer", "deleted": True}
