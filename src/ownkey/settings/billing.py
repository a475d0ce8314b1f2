"""[billing]: how the add-on and credits are sold, and Stripe's secrets, which come from the environment or files.

A key without a webhook secret would take money and believe anybody: such a start is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from ownkey.domain.connect import address_problem
from ownkey.domain.product import BillingRules, Payers, Plan, TopUpPack
from ownkey.settings.channels import read_secret_text
from ownkey.settings.tables import SettingsError, Table

SECRET_CHARACTERS = 32
MOST_CENTS = 99_999_999
"""The most that Stripe takes in one payment."""

_KEY = re.compile(r"(sk|rk)_(test|live)_[A-Za-z0-9_]{16,}\Z", re.ASCII)
_SECRET = re.compile(rf"whsec_[A-Za-z0-9+/=_-]{{{SECRET_CHARACTERS},}}\Z", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Currencies whose smallest unit is not a hundredth: their amounts would be read a hundredfold wrong.
_NOT_CENTS = frozenset({
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf",
    "bhd", "jod", "kwd", "omr", "tnd", "isk",
})


@dataclass(frozen=True, slots=True)
class StripeSecrets:
    """`problem`: why nothing can be paid by card, in a sentence with its fix; "" if all is well."""

    key: str = field(default="", repr=False)
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    problem: str = ""


def read_billing(
    table: Table, *, insecure: bool, entry_url: str, payers: Payers, plans: Mapping[str, Plan]
) -> BillingRules:
    """No [billing] at all: the host sells by itself. Raises SettingsError."""
    usual = BillingRules()
    if not table.names():
        return usual
    rail = table.text("rail", "card", choices=("card", "credits", "host"))
    rules = BillingRules(
        rail=None if rail == "host" else "card" if rail == "card" else "credits",
        host_url=table.text("host_url", ""),
        product_name=table.text("product_name", usual.product_name),
        addon_cents=table.whole("addon_cents", usual.addon_cents, least=50, most=MOST_CENTS),
        addon_credits=table.whole("addon_credits", usual.addon_credits, least=1, most=1_000_000_000),
        currency=table.text("currency", usual.currency),
        price_id=table.text("price_id", ""),
        packs=_read_packs(table.table("packs")),
        return_urls=table.texts("return_urls", ()),
        api_url=table.text("api_url", "").rstrip("/"),
        account=table.text("account", ""),
    )
    table.done()
    _check(table, rules, insecure=insecure, payers=payers, plans=plans)
    if rules.uses_stripe and not rules.return_urls:
        usual_page = entry_url.replace("{flow}", "addon")
        if address_problem(usual_page) is not None:
            raise SettingsError(
                f"{table.file}: {table.name('return_urls')} is needed: the pages of your product that people come back "
                'to after paying, such as ["https://app.example.com/billing"] (product.entry_url is no whole address).'
            )
        rules = replace(rules, return_urls=(usual_page,))
    return rules


def _read_packs(table: Table) -> tuple[TopUpPack, ...]:
    """[billing.packs.<name>]: what a person buys at once."""
    packs = []
    for name in table.names():
        row = table.table(name)
        packs.append(TopUpPack(
            name, row.whole("credits", least=1, most=1_000_000_000),
            row.whole("cents", least=50, most=MOST_CENTS),
        ))
        row.done()
    return tuple(packs)


def _check(
    table: Table, rules: BillingRules, *, insecure: bool, payers: Payers, plans: Mapping[str, Plan]
) -> None:
    if not re.fullmatch(r"[a-z]{3}", rules.currency) or rules.currency in _NOT_CENTS:
        raise table.wrong("currency", 'a currency with cents, in three small letters, such as "usd"', rules.currency)
    if payers is Payers.BYOK_ONLY and (rules.rail == "credits" or rules.packs):
        raise SettingsError(
            f"{table.file}: [{table.path}] sells for credits, and this product has none "
            '(product.payers = "byok_only").'
        )
    if rules.rail is not None and all(plan.byok == "included" for plan in plans.values()):
        raise SettingsError(
            f"{table.file}: [{table.path}] sells the add-on, and every plan includes it: "
            f'use {table.name("rail")} = "host", or give a plan byok = "addon".'
        )
    if not 1 <= len(rules.product_name) <= 250 or not rules.product_name.isprintable():
        raise table.wrong("product_name", "a name of 1 to 250 characters", rules.product_name)
    for url in (*rules.return_urls, *((rules.host_url,) if rules.host_url else ())):
        problem = address_problem(url)
        if problem is not None:
            raise SettingsError(f"{table.file}: [{table.path}]: {url[:200]!r} {problem}.")
    if rules.api_url:
        _check_api_url(table, rules.api_url, insecure)


def _check_api_url(table: Table, url: str, insecure: bool) -> None:
    """Stripe's own address needs no setting; another one gets Stripe's key, so only tests may name it."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        raise table.wrong("api_url", "an address", url) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.username:
        raise table.wrong("api_url", "an address without a path, such as http://127.0.0.1:12111", url)
    if parts.hostname not in _LOOPBACK or not insecure:
        raise SettingsError(
            f"{table.file}: {table.name('api_url')} is {url}: it is for the demo and for tests, so it must be on "
            "loopback, with origins.allow_insecure = true. Leave it out to use Stripe."
        )


def read_stripe_secrets(table: Table, rules: BillingRules, environ: Mapping[str, str]) -> StripeSecrets:
    """The key and the webhook secrets. What is wrong with them is a value: commands that need neither go on."""
    if not rules.uses_stripe:
        return StripeSecrets()
    key, wrong = read_secret_text("OWNKEY_STRIPE_KEY", "", table, environ)
    text, wrong_secrets = read_secret_text("OWNKEY_STRIPE_WEBHOOK_SECRETS", "", table, environ)
    secrets = tuple(text.split())
    problem = wrong or wrong_secrets or _key_problem(key) or _secrets_problem(secrets)
    return StripeSecrets("" if problem else key, () if problem else secrets, problem)


def _key_problem(key: str) -> str:
    if not key:
        return (
            "[billing] takes payments by card, and there is no Stripe key: set OWNKEY_STRIPE_KEY (sk_… or a restricted "
            "rk_…) or OWNKEY_STRIPE_KEY_FILE"
        )
    if not _KEY.match(key):
        return (
            "OWNKEY_STRIPE_KEY is not a secret key of Stripe: it begins with sk_test_, sk_live_, rk_test_ or rk_live_ "
            "(Stripe: Developers, API keys); a publishable key (pk_…) cannot be used"
        )
    return ""


def _secrets_problem(secrets: tuple[str, ...]) -> str:
    if not secrets:
        return (
            "[billing] takes payments by card, and there is no webhook secret, so anybody could report a payment: set "
            "OWNKEY_STRIPE_WEBHOOK_SECRETS to whsec_… (Stripe: Developers, Webhooks, signing secret), or "
            "OWNKEY_STRIPE_WEBHOOK_SECRETS_FILE; several are separated by spaces"
        )
    if any(not _SECRET.match(secret) for secret in secrets):
        return (
            "OWNKEY_STRIPE_WEBHOOK_SECRETS holds something that is no signing secret of Stripe: each is whsec_ and at "
            f"least {SECRET_CHARACTERS} characters after it; several are separated by spaces"
        )
    return ""
