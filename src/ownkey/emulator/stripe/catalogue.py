"""Products and prices. Only whole amounts per unit, once or recurring: what a product on Stripe starts with."""

from .form import Form
from .lists import created_in, page, where
from .refusals import Json, invalid
from .shapes import blank
from .world import World

_INTERVALS = {"day": 1095, "week": 156, "month": 36, "year": 3}


def create_product(world: World, form: Form) -> Json:
    """POST /v1/products."""
    name = form.need("name")
    given = form.text("id")
    if given and world.find("product", given):
        raise invalid(f"Product already exists: {given}", "id", "resource_already_exists")
    now = world.now()
    price = form.section("default_price_data")
    made = world.make(
        "product", given or world.new_id("prod_", 14), now, name=name, active=_flag(form, "active", True),
        description=form.text("description") or None, images=form.texts("images") or [], marketing_features=[],
        metadata=form.metadata(), type="service", updated=now, unit_label=form.text("unit_label") or None,
        statement_descriptor=form.text("statement_descriptor") or None, url=form.text("url") or None,
        tax_code=form.text("tax_code") or None,
    )  # fmt: skip
    form.skip("shippable", "type")
    if price is not None:
        made["default_price"] = _price(world, price, made["id"])["id"]
    form.close()
    world.emit("product.created", made)
    return made


def _flag(form: Form, name: str, default: bool) -> bool:
    value = form.flag(name)
    return default if value is None else value


def update_product(world: World, form: Form, ident: str) -> Json:
    """POST /v1/products/:id."""
    product = world.get("product", ident, in_path=True)
    changes: Json = {"metadata": form.metadata(product["metadata"])}
    for name in ("name", "description", "default_price", "unit_label", "url"):
        if name in form:
            changes[name] = form.text(name) or None
    if form.flag("active") is not None:
        changes["active"] = form.flag("active")
    form.close()
    with world.changing(product, "product.updated"):
        product.update(changes, updated=world.now())
    return product


def delete_product(world: World, form: Form, ident: str) -> Json:
    """DELETE /v1/products/:id; refused while it has prices."""
    product = world.get("product", ident, in_path=True)
    form.close()
    if where(world.every("price"), product=ident):
        raise invalid("This product cannot be deleted because it has one or more user-created prices.", "id")
    world.drop("product", ident)
    world.emit("product.deleted", product)
    return {"id": ident, "object": "product", "deleted": True}


def list_products(world: World, form: Form) -> Json:
    """GET /v1/products."""
    items = where(created_in(form, world.every("product")), active=form.flag("active"))
    ids = form.texts("ids")
    return page([item for item in items if ids is None or item["id"] in ids], form, "/v1/products")


def create_price(world: World, form: Form) -> Json:
    """POST /v1/prices."""
    product = form.text("product")
    data = form.section("product_data")
    if (product is None) == (data is None):
        raise invalid("You must specify either `product` or `product_data` when creating a price.", "product")
    if product is not None:
        world.get("product", product, "product")
    made = _price(world, form, product or "")
    if data is not None:
        made["product"] = create_product(world, data)["id"]
    form.close()
    world.emit("price.created", made)
    return made


def inline_price(world: World, data: Form) -> Json:
    """The price of a line's `price_data`. It exists, inactive, as Stripe keeps such prices."""
    product = data.text("product")
    inner = data.section("product_data")
    if product is not None:
        world.get("product", product, data.name_of("product"))
    elif inner is None:
        raise invalid(f"Missing required param: {data.name_of('product')}.", data.name_of("product"))
    made = _price(world, data, product or "")
    made["active"] = False
    if inner is not None:
        made["product"] = create_product(world, inner)["id"]
    return made


def _price(world: World, form: Form, product: str) -> Json:
    currency = form.need("currency").lower()
    if len(currency) != 3 or not currency.isalpha():
        raise invalid(f"Invalid currency: {currency}.", form.name_of("currency"))
    amount = form.integer("unit_amount", least=0, most=99_999_999)
    if amount is None:
        raise invalid("Missing required param: unit_amount.", form.name_of("unit_amount"), "parameter_missing")
    lookup = form.text("lookup_key") or None
    if lookup and where(world.every("price"), lookup_key=lookup):
        raise invalid(f"A price already uses the lookup key `{lookup}`.", form.name_of("lookup_key"))
    recurring = _recurring(form)
    form.skip("billing_scheme", "transfer_lookup_key")
    return world.make(
        "price", world.new_id("price_1"), world.now(), active=_flag(form, "active", True), billing_scheme="per_unit",
        currency=currency, lookup_key=lookup, metadata=form.metadata(), nickname=form.text("nickname") or None,
        product=product, recurring=recurring, type="recurring" if recurring else "one_time", unit_amount=amount,
        unit_amount_decimal=str(amount),
        tax_behavior=form.choice("tax_behavior", ("exclusive", "inclusive", "unspecified")) or "unspecified",
    )  # fmt: skip


def _recurring(form: Form) -> Json | None:
    section = form.section("recurring")
    if section is None:
        return None
    interval = section.choice("interval", _INTERVALS)
    if interval is None:
        raise invalid("Missing required param: recurring[interval].", "recurring[interval]", "parameter_missing")
    count = section.integer("interval_count", least=1, most=_INTERVALS[interval]) or 1
    section.choice("usage_type", ("licensed",))
    return {
        "interval": interval, "interval_count": count, "meter": None, "trial_period_days": None,
        "usage_type": "licensed",
    }  # fmt: skip


def update_price(world: World, form: Form, ident: str) -> Json:
    """POST /v1/prices/:id."""
    price = world.get("price", ident, in_path=True)
    changes: Json = {"metadata": form.metadata(price["metadata"])}
    if form.flag("active") is not None:
        changes["active"] = form.flag("active")
    for name in ("nickname", "lookup_key"):
        if name in form:
            changes[name] = form.text(name) or None
    form.skip("transfer_lookup_key")
    form.close()
    with world.changing(price, "price.updated"):
        price.update(changes)
    return price


def list_prices(world: World, form: Form) -> Json:
    """GET /v1/prices."""
    items = where(
        created_in(form, world.every("price")), active=form.flag("active"), product=form.text("product"),
        type=form.choice("type", ("one_time", "recurring")), currency=form.text("currency"),
    )  # fmt: skip
    keys = form.texts("lookup_keys")
    return page([item for item in items if keys is None or item["lookup_key"] in keys], form, "/v1/prices")


def plan_of(price: Json) -> Json:
    """The old `plan` that items still carry beside their price."""
    recurring = price["recurring"] or {"interval": "month", "interval_count": 1}
    return {
        **blank("plan"), "id": price["id"], "active": price["active"], "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"], "billing_scheme": "per_unit", "created": price["created"],
        "currency": price["currency"], "interval": recurring["interval"], "livemode": price["livemode"],
        "interval_count": recurring["interval_count"], "metadata": dict(price["metadata"]),
        "product": price["product"], "usage_type": "licensed",
    }  # fmt: skip
