"""The account's own money: balance transactions, the balance they add up to, and whose account it is."""

from .form import Form
from .lists import created_in, page, where
from .refusals import Json, missing
from .world import World


def fee_of(amount: int) -> int:
    """Stripe's standard fee of a card charge in cents: 2.9 % and 30 cents, rounded half up."""
    return (amount * 29 + 500) // 1000 + 30


def move_balance(world: World, kind: str, source: Json, amount: int, fee: int = 0) -> str:
    """Write a balance transaction and return its id. Amounts are signed, from the account's side."""
    details = [{"amount": fee, "application": None, "currency": source["currency"], "type": "stripe_fee",
                "description": "Stripe processing fees"}]  # fmt: skip
    reporting = {"charge": "charge", "refund": "refund", "adjustment": "dispute"}[kind]
    made = world.make(
        "balance_transaction", world.new_id("txn_3"), world.now(), amount=amount, available_on=world.now() + 2 * 86_400,
        balance_type="payments", currency=source["currency"], fee=fee, fee_details=details if fee else [],
        net=amount - fee, reporting_category=reporting, source=source["id"], status="pending", type=kind,
    )  # fmt: skip
    made.pop("livemode")
    return str(made["id"])


def list_transactions(world: World, form: Form) -> Json:
    """GET /v1/balance_transactions."""
    items = where(
        created_in(form, world.every("balance_transaction")), type=form.text("type"), source=form.text("source")
    )
    return page(items, form, "/v1/balance_transactions")


def balance(world: World, form: Form) -> Json:
    """GET /v1/balance: what has settled for two days, and what has not."""
    form.close()
    now, sums = world.now(), {"available": 0, "pending": 0}
    for entry in world.every("balance_transaction"):
        sums["available" if entry["available_on"] <= now else "pending"] += entry["net"]
    made: Json = {"object": "balance", "livemode": world.settings.livemode}
    for name, amount in sums.items():
        made[name] = [{"amount": amount, "currency": "usd", "source_types": {"card": amount}}]
    return made


def account(world: World, form: Form) -> Json:
    """GET /v1/account: whose account the key belongs to."""
    form.close()
    return account_shape(world)


def account_by_id(world: World, form: Form, ident: str) -> Json:
    """GET /v1/accounts/:id, of the key's own account only."""
    form.close()
    if ident != world.settings.account:
        raise missing("account", ident, "account", in_path=True)
    return account_shape(world)


def account_shape(world: World) -> Json:
    """The account as itself."""
    return {
        "id": world.settings.account, "object": "account", "business_profile": {"name": "Emulated", "url": None},
        "business_type": None, "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True, "country": "US", "created": 1_600_000_000, "default_currency": "usd",
        "details_submitted": True, "email": None, "metadata": {}, "payouts_enabled": True, "type": "standard",
    }  # fmt: skip
