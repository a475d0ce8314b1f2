"""The Customer Portal: its sessions and configuration, and what its buttons do."""

from . import subscriptions
from .cards import by_number
from .customers import attach, make_method, set_default
from .form import Form
from .lists import page, where
from .refusals import Json, declined, invalid
from .subscriptions import ENDED
from .world import World

_FLOWS = ("payment_method_update", "subscription_cancel")


def _configuration(world: World) -> Json:
    """The account's default configuration, made when it is first needed."""
    for found in world.every("billing_portal.configuration"):
        if found["is_default"]:
            return found
    return _new_configuration(world, None, {}, is_default=True)


def _new_configuration(world: World, return_url: str | None, metadata: Json, *, is_default: bool) -> Json:
    now = world.now()
    reasons = ["too_expensive", "missing_features", "switched_service", "unused", "other"]
    features = {
        "customer_update": {"allowed_updates": ["email", "name"], "enabled": False},
        "invoice_history": {"enabled": True},
        "payment_method_update": {"enabled": True, "payment_method_configuration": None},
        "subscription_cancel": {
            "cancellation_reason": {"enabled": False, "options": reasons}, "enabled": True, "mode": "at_period_end",
            "proration_behavior": "none",
        },
        "subscription_pause": {"duration": {"type": "indefinite", "interval_options": []}, "enabled": False},
        "subscription_update": {
            "billing_cycle_anchor": None, "default_allowed_updates": [], "enabled": False, "products": [],
            "proration_behavior": "none", "schedule_at_period_end": {"conditions": []},
            "trial_update_behavior": "end_trial",
        },
    }  # fmt: skip
    return world.make(
        "billing_portal.configuration", world.new_id("bpc_1"), now, active=True, default_return_url=return_url,
        business_profile={"headline": None, "privacy_policy_url": None, "terms_of_service_url": None},
        features=features, is_default=is_default, login_page={"enabled": False, "url": None}, metadata=metadata,
        updated=now,
    )  # fmt: skip


def create_configuration(world: World, form: Form) -> Json:
    """POST /v1/billing_portal/configurations: which buttons there are."""
    url, metadata = form.text("default_return_url"), form.metadata()
    features, profile = form.section("features"), form.section("business_profile")
    made = _new_configuration(world, url, metadata, is_default=False)
    if features is None:
        raise invalid("Missing required param: features.", "features", "parameter_missing")
    if profile is not None:
        made["business_profile"] |= {name: profile.text(name) for name in made["business_profile"] if name in profile}
    for name, feature in made["features"].items():
        section = features.section(name)
        if section is None:
            feature["enabled"] = False
            continue
        feature["enabled"] = section.flag("enabled") or False
        if name == "subscription_cancel":
            feature["mode"] = section.choice("mode", ("at_period_end", "immediately")) or "at_period_end"
        section.skip(*feature)
    form.close()
    world.emit("billing_portal.configuration.created", made)
    return made


def list_configurations(world: World, form: Form) -> Json:
    """GET /v1/billing_portal/configurations."""
    _configuration(world)
    items = where(
        world.every("billing_portal.configuration"), active=form.flag("active"), is_default=form.flag("is_default")
    )
    return page(items, form, "/v1/billing_portal/configurations")


def create(world: World, form: Form) -> Json:
    """POST /v1/billing_portal/sessions."""
    customer = world.get("customer", form.need("customer"), "customer")
    given = form.text("configuration")
    found = world.get("billing_portal.configuration", given, "configuration") if given else _configuration(world)
    flow, url = form.section("flow_data"), form.text("return_url") or found["default_return_url"]
    form.skip("locale")
    shape = _flow(world, flow, customer["id"]) if flow else None
    form.close()
    ident = world.new_id("bps_1")
    made = world.make(
        "billing_portal.session", ident, world.now(), configuration=found["id"], customer=customer["id"],
        return_url=url, flow=shape, url=f"{world.url}/p/session/{ident}",
    )  # fmt: skip
    world.emit("billing_portal.session.created", made)
    return made


def _flow(world: World, form: Form, customer: str) -> Json:
    kind = form.choice("type", _FLOWS)
    if kind is None:
        raise invalid("Missing required param: flow_data[type].", "flow_data[type]", "parameter_missing")
    after = form.section("after_completion")
    redirect = after.section("redirect") if after else None
    target = {"return_url": redirect.need("return_url")} if redirect else None
    made: Json = {
        "type": kind, "subscription_cancel": None, "subscription_update": None, "subscription_update_confirm": None,
        "after_completion": {"type": (after.text("type") if after else None) or "portal_homepage",
                             "redirect": target, "hosted_confirmation": None},
    }  # fmt: skip
    if kind == "subscription_cancel":
        section = form.section("subscription_cancel")
        if section is None:
            raise invalid("Missing required param: flow_data[subscription_cancel].", "flow_data[subscription_cancel]")
        sub = world.get("subscription", section.need("subscription"), "flow_data[subscription_cancel][subscription]")
        if sub["customer"] != customer:
            name = "flow_data[subscription_cancel][subscription]"
            raise invalid("The subscription belongs to another customer.", name)
        made["subscription_cancel"] = {"subscription": sub["id"], "retention": None}
    return made


# the browser's side


def shown(world: World, session: Json) -> list[Json]:
    """The subscriptions that the page shows."""
    items = where(world.every("subscription"), customer=session["customer"])
    return [sub for sub in items if sub["status"] not in (*ENDED, "incomplete")]


def press(world: World, session: Json, button: str, values: dict[str, str]) -> None:
    """Do what a button of the page says: cancel, resume, update_card."""
    customer = world.get("customer", session["customer"])
    world.usable(customer["test_clock"])
    features = world.get("billing_portal.configuration", session["configuration"])["features"]
    if button == "update_card":
        if not features["payment_method_update"]["enabled"]:
            raise invalid("This portal changes no payment methods.")
        _update_card(world, customer, values.get("card_number", ""))
        return
    if button not in ("cancel", "resume"):
        raise invalid("This page has no such button.")
    if not features["subscription_cancel"]["enabled"]:
        raise invalid("This portal cancels no subscriptions.")
    sub = next((s for s in shown(world, session) if s["id"] == values.get("subscription")), None)
    if sub is None:
        raise invalid("This customer has no such subscription.")
    if button == "cancel" and features["subscription_cancel"]["mode"] == "immediately":
        subscriptions.end_now(world, sub, "cancellation_requested")
        return
    with world.changing(sub, "customer.subscription.updated"):
        subscriptions.set_cancel_at_end(world, sub, button == "cancel", by_portal=True)


def _update_card(world: World, customer: Json, number: str) -> None:
    """A new default for the customer, and for the subscriptions that named their own."""
    card = by_number(number)
    if card is None:
        raise declined("Your card number is incorrect.", "incorrect_number", None, param="number")
    method = attach(world, make_method(world, card, customer["email"], customer["name"]), customer)
    set_default(world, customer, method["id"])
    for sub in where(world.every("subscription"), customer=customer["id"]):
        if sub["default_payment_method"] and sub["status"] not in ENDED:
            with world.changing(sub, "customer.subscription.updated"):
                sub["default_payment_method"] = method["id"]
