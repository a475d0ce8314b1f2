"""[billing] and Stripe's secrets: what is sold is what is written, and what cannot be used is refused in words."""

from pathlib import Path

import pytest

from ownkey.domain.product import TopUpPack
from ownkey.settings.product import Settings, SettingsError, load_settings

KEY, SECRET = "sk_test_" + "a1" * 12, "whsec_" + "a7Bc" * 8
GOOD = {"OWNKEY_STRIPE_KEY": KEY, "OWNKEY_STRIPE_WEBHOOK_SECRETS": SECRET}
PAGE = 'return_urls = ["https://app.test/billing"]\n'


def read(tmp_path: Path, billing: str, env: dict[str, str] | None = None, preset: str = "app-builder",
         more: str = "") -> Settings:
    config = tmp_path / "ownkey.toml"
    config.write_text(f'preset = "{preset}"\n{more}\n{billing}')
    return load_settings(config, env or {})


def test_without_a_table_nothing_is_sold(tmp_path: Path) -> None:
    settings = read(tmp_path, "")

    assert settings.product.billing.rail is None
    assert not settings.product.billing.uses_stripe
    assert settings.stripe.problem == ""


def test_the_card_is_the_usual_rail_at_five_dollars(tmp_path: Path) -> None:
    settings = read(tmp_path, f"[billing]\n{PAGE}[billing.packs.small]\ncredits = 1000\ncents = 900", GOOD)
    rules = settings.product.billing

    assert (rules.rail, rules.addon_cents, rules.currency) == ("card", 500, "usd")
    assert rules.product_name == "Power your AI with OpenRouter – $5 Add-on"
    assert rules.packs == (TopUpPack("small", 1_000, 900),)
    assert (settings.stripe.key, settings.stripe.webhook_secrets, settings.stripe.problem) == (KEY, (SECRET,), "")
    assert KEY not in repr(settings)
    assert SECRET not in repr(settings)


def test_the_entry_page_is_where_people_come_back_to(tmp_path: Path) -> None:
    more = '[product]\nentry_url = "https://app.test/ai?open={flow}"'

    assert read(tmp_path, '[billing]\nrail = "card"', GOOD, more=more).product.billing.return_urls == (
        "https://app.test/ai?open=addon",
    )


def test_credits_and_host_need_no_stripe(tmp_path: Path) -> None:
    credits = read(tmp_path, '[billing]\nrail = "credits"\naddon_credits = 700')
    host = read(tmp_path, '[billing]\nrail = "host"\nhost_url = "https://app.test/plans"')

    assert (credits.product.billing.addon_credits, credits.stripe.problem) == (700, "")
    assert (host.product.billing.rail, host.product.billing.host_url) == (None, "https://app.test/plans")


def test_plans_bring_credits_each_cycle(tmp_path: Path) -> None:
    plans = read(tmp_path, "[plans.pro]\ncycle_credits = 1000\ncycle_rollover = false").product.plans

    assert (plans["pro"].cycle_credits, plans["pro"].cycle_rollover) == (1_000, False)
    assert (plans["free"].cycle_credits, plans["free"].cycle_rollover) == (0, True)


@pytest.mark.parametrize(("env", "words"), [
    ({}, "no Stripe key"), ({"OWNKEY_STRIPE_KEY": KEY}, "no webhook secret"),
    ({**GOOD, "OWNKEY_STRIPE_WEBHOOK_SECRETS": ""}, "no webhook secret"),
    ({**GOOD, "OWNKEY_STRIPE_WEBHOOK_SECRETS": "   "}, "no webhook secret"),
    ({**GOOD, "OWNKEY_STRIPE_WEBHOOK_SECRETS": "whsec_"}, "no signing secret"),
    ({**GOOD, "OWNKEY_STRIPE_WEBHOOK_SECRETS": "whsec_" + "a" * 31}, "no signing secret"),
    ({**GOOD, "OWNKEY_STRIPE_WEBHOOK_SECRETS": "a" * 60}, "no signing secret"),
    ({**GOOD, "OWNKEY_STRIPE_WEBHOOK_SECRETS": f"{SECRET} {'b' * 40}"}, "no signing secret"),
    ({**GOOD, "OWNKEY_STRIPE_KEY": "pk_live_" + "a" * 24}, "not a secret key"),
    ({**GOOD, "OWNKEY_STRIPE_KEY": "sk_test_"}, "not a secret key"),
    ({**GOOD, "OWNKEY_STRIPE_KEY": f"{KEY}\n{KEY}"}, "not a secret key"),
])
def test_improper_secrets_are_a_problem_with_its_fix(tmp_path: Path, env: dict[str, str], words: str) -> None:
    """Money, section 10: nothing half-proper is kept."""
    stripe = read(tmp_path, f"[billing]\n{PAGE}", env).stripe

    assert words in stripe.problem
    assert "OWNKEY_STRIPE_" in stripe.problem
    assert (stripe.key, stripe.webhook_secrets) == ("", ())
    assert all(value not in stripe.problem for value in env.values() if len(value) > 20)


def test_secrets_come_from_files_and_several_at_once(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    (tmp_path / "secrets").write_text(f"{SECRET}\n{SECRET[::-1].replace('_ceshw', '')}\n")
    (tmp_path / "secrets").write_text(f"{SECRET}\nwhsec_{'9' * 32}\n")
    stripe = read(tmp_path, f"[billing]\n{PAGE}", {
        "OWNKEY_STRIPE_KEY_FILE": str(tmp_path / "key"),
        "OWNKEY_STRIPE_WEBHOOK_SECRETS_FILE": str(tmp_path / "secrets"),
    }).stripe

    assert (stripe.key, len(stripe.webhook_secrets), stripe.problem) == (KEY, 2, "")


@pytest.mark.parametrize(("billing", "words"), [
    ('rail = "cash"', "'card' or 'credits' or 'host'"), ("addon_cents = 10", "from 50"),
    ('currency = "USD"', "small letters"), ('currency = "jpy"', "currency with cents"),
    ('return_urls = ["app.test"]', "app.test"), ('api_url = "https://evil.test"', "loopback"),
    ('api_url = "http://127.0.0.1:9"', "allow_insecure"), ('api_url = "http://127.0.0.1:9/v1"', "without a path"),
    ("addon_price = 5", "unknown"), ("[billing.packs.small]\ncredits = 0\ncents = 100", "from 1 to"),
    ("[billing.packs.small]\ncredits = 5", "cents"), ('rail = "card"', "return_urls"),
])
def test_what_cannot_be_sold_is_refused(tmp_path: Path, billing: str, words: str) -> None:
    page = "" if "return_urls" in billing + words else PAGE
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, f"[billing]\n{page}{billing}", GOOD)

    assert words in str(refused.value)


@pytest.mark.parametrize(("billing", "words"), [
    ('rail = "credits"', "has none"), (f"{PAGE}", "every plan includes it"),
    ('rail = "host"\n[billing.packs.small]\ncredits = 1\ncents = 100', "has none"),
])
def test_a_product_without_credits_or_add_on_sells_neither(tmp_path: Path, billing: str, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, f"[billing]\n{billing}", GOOD, preset="support-desk")

    assert words in str(refused.value)
