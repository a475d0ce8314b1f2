"""Payments end to end: `ownkey serve`, an emulated Stripe in a process of its own, and people who pay on its pages."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.deployment import KEYS, Deployment, TestWorkspace, deployed, run_cli, write_home
from tests.emulator_process import start_emulator
from tests.stripe_process import KEY, StripeHandle, start_stripe

SECRET = "whsec_" + "a7Bc" * 10
OLD_SECRET = "whsec_" + "z9Yx" * 10
DAY_S = 86_400
EXTRA = """
[billing]
api_url = "{url}"
return_urls = ["https://app.test/billing"]
[billing.packs.small]
credits = 1000
cents = 1000
[plans.pro]
minimum_balance_credits = 0
[plans.free]
minimum_balance_credits = 0
"""


class Street:
    """A shop and a Stripe."""

    def __init__(self, deployment: Deployment, stripe: StripeHandle) -> None:
        self.deployment = deployment
        self.stripe = stripe
        self.seed = 7
        self.manage = deployment.manage

    def open_account(self, now: int | None = None) -> None:
        """A new account at the same address; `now` freezes its time there."""
        port = int(self.stripe.url.rpartition(":")[2])
        self.stripe.stop()
        self.seed += 1
        self.stripe = start_stripe(self.seed, port=port)
        if now is not None:
            self.stripe.control("POST", "clock", {"now": now, "frozen": True})
        self.stripe.control("POST", "endpoints", {
            "url": f"{self.deployment.url}/manage/v1/webhooks/stripe", "secret": SECRET,
        })

    def settle(self) -> None:
        self.stripe.quiet()

    def subscribe(self, workspace: TestWorkspace) -> str:
        step = self.manage("POST", f"workspaces/{workspace.id}/billing/subscribe", {})
        assert step["url"], step
        return str(step["url"])

    def billing(self, workspace: TestWorkspace) -> Any:
        return self.manage("GET", f"workspaces/{workspace.id}/billing")

    def state(self, workspace: TestWorkspace) -> str:
        return str(self.billing(workspace)["state"])

    def wait_for(self, seen: Callable[[], Any], wanted: Any, timeout_s: float = 15.0) -> Any:
        end = time.monotonic() + timeout_s
        while (found := seen()) != wanted and time.monotonic() < end:
            time.sleep(0.05)
        return found

    def objects(self, kind: str) -> list[Any]:
        return list(self.stripe.control("GET", f"objects?kind={kind}")["objects"])

    def subscription(self, workspace: TestWorkspace) -> Any:
        return next(s for s in reversed(self.objects("subscription"))
                    if s["metadata"]["ownkey_workspace"] == workspace.id)

    def assert_balanced(self) -> None:
        verdict = self.manage("POST", "verify", {}, token=self.deployment.operator)
        assert verdict["findings"] == []


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    stripe = start_stripe(seed=7)
    try:
        with deployed(
            tmp_path_factory.mktemp("shop"), "app-builder", extra=EXTRA.format(url=stripe.url),
            env={"OWNKEY_STRIPE_KEY": KEY, "OWNKEY_STRIPE_WEBHOOK_SECRETS": f"{SECRET} {OLD_SECRET}"},
        ) as deployment:
            street = Street(deployment, stripe)
            yield street
            street.stripe.stop()
    finally:
        stripe.stop()


@pytest.fixture(autouse=True)
def new_account(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test has an account of its own, with ids of its own, and our endpoint in it."""
    if "street" not in request.fixturenames:
        yield
        return
    street: Street = request.getfixturevalue("street")
    street.open_account()
    yield
    street.settle()
    street.assert_balanced()


def ask(workspace: TestWorkspace) -> int:
    return workspace.post("/v1/chat/completions", {
        "model": "openai/gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20,
    }).status_code


def test_from_subscribe_to_connect(street: Street) -> None:
    """G6, G10, G12–G16: not enabled → Subscribe → card → enabled → Connect → the workspace's own key answers."""
    workspace = street.deployment.add_workspace("Greta", providers=(), plan="pro")
    refused = ask(workspace)
    before = street.state(workspace)
    page = street.subscribe(workspace)
    seen = street.stripe.pay(page)
    active = street.wait_for(lambda: street.state(workspace), "active")
    street.deployment.emulator.add_key("openrouter", KEYS["openrouter"])
    saved = workspace.save_key("openrouter", KEYS["openrouter"])
    answered = ask(workspace)

    assert (refused, before) == (402, "not_subscribed")
    assert seen.location.startswith("https://app.test/billing?ownkey_checkout=paid")
    assert active == "active"
    assert saved["message"] == "OpenRouter API key saved successfully."
    assert answered == 200
    assert workspace.receipts()[0]["funding"] == "byok"
    [payment] = street.manage("GET", f"workspaces/{workspace.id}/billing/payments")["payments"]
    assert (payment["price"], payment["purpose"]) == ("US$5.00", "addon")
    line = street.objects("checkout.session")[-1]
    assert line["amount_total"] == 500


def test_the_return_page_needs_no_webhook(street: Street) -> None:
    """The endpoint is gone: confirm reads the session itself."""
    for endpoint in street.objects("webhook_endpoint"):
        httpx.delete(f"{street.stripe.url}/v1/webhook_endpoints/{endpoint['id']}", auth=(KEY, ""), trust_env=False)
    workspace = street.deployment.add_workspace("Returner", providers=(), plan="pro")
    street.stripe.pay(street.subscribe(workspace))
    waiting = street.state(workspace)
    confirmed = street.manage("POST", f"workspaces/{workspace.id}/billing/confirm", {})

    assert waiting == "finishing"
    assert confirmed["state"] == "active"
    assert confirmed["test_mode"] is True


def test_a_refused_card_enables_nothing_and_two_tabs_reach_one_page(street: Street) -> None:
    workspace = street.deployment.add_workspace("Twice", providers=(), plan="pro")
    page = street.subscribe(workspace)
    declined = street.stripe.pay(page, "4000000000009995")
    street.settle()
    state = street.state(workspace)

    assert declined.status == 402
    assert state == "finishing"
    assert street.subscribe(workspace) == page
    assert len(street.objects("checkout.session")) == 1


def test_a_failed_renewal_leads_to_grace_and_a_paid_one_out_of_it(street: Street) -> None:
    """Past due: works for the days of grace, says so, and the card page is Stripe's own."""
    workspace = street.deployment.add_workspace("Late", providers=("openrouter",), plan="pro")
    street.stripe.pay(street.subscribe(workspace))
    street.wait_for(lambda: street.state(workspace), "active")
    sub = street.subscription(workspace)
    street.stripe.control("POST", "failing", {"customer": sub["customer"]})
    street.stripe.control("POST", "clock", {"advance_s": 31 * DAY_S + 7_200})
    late = street.wait_for(lambda: street.state(workspace), "past_due")
    works = ask(workspace)
    portal = street.manage("POST", f"workspaces/{workspace.id}/billing/manage", {})["url"]
    street.stripe.control("POST", "failing", {"customer": sub["customer"], "code": None})
    street.stripe.control("POST", "clock", {"advance_s": 8 * DAY_S})
    paid = street.wait_for(lambda: street.state(workspace), "active")

    assert (late, works, paid) == ("past_due", 200, "active")
    assert portal.startswith(street.stripe.url)


def test_inactive_until_paid_and_the_key_is_kept(street: Street) -> None:
    """A renewal failed five days ago, the grace is three: refused at the call; paid: works at once, no new paste."""
    workspace = street.deployment.add_workspace("Gone", providers=("openrouter",), plan="pro")
    street.open_account(int(time.time()) - 36 * DAY_S)
    street.stripe.pay(street.subscribe(workspace))
    street.settle()
    sub = street.subscription(workspace)
    street.stripe.control("POST", "failing", {"customer": sub["customer"]})
    street.stripe.set(final_action="past_due")
    street.stripe.control("POST", "clock", {"now": int(time.time()) - 4 * DAY_S, "frozen": True})
    street.settle()
    inactive = street.wait_for(lambda: street.state(workspace), "inactive")
    workspace.settings(always_use_key=True)
    refused = workspace.post("/v1/chat/completions", {
        "model": "openai/gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}],
    })
    street.stripe.control("POST", "failing", {"customer": sub["customer"], "code": None})
    owed = next(i for i in street.objects("invoice") if i["status"] == "open")
    httpx.post(f"{street.stripe.url}/v1/invoices/{owed['id']}/pay", auth=(KEY, ""), trust_env=False)
    active = street.wait_for(lambda: street.state(workspace), "active")

    assert inactive == "inactive"
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "addon_inactive")
    assert active == "active"
    assert ask(workspace) == 200


def test_cancel_and_keep(street: Street) -> None:
    workspace = street.deployment.add_workspace("Undecided", providers=(), plan="pro")
    street.stripe.pay(street.subscribe(workspace))
    street.wait_for(lambda: street.state(workspace), "active")
    cancelled = street.manage("POST", f"workspaces/{workspace.id}/billing/cancel", {})
    at_stripe = street.subscription(workspace)["cancel_at_period_end"]
    kept = street.manage("POST", f"workspaces/{workspace.id}/billing/keep", {})
    street.manage("POST", f"workspaces/{workspace.id}/billing/cancel", {})
    street.stripe.control("POST", "clock", {"advance_s": 32 * DAY_S})
    over = street.wait_for(lambda: street.state(workspace), "not_subscribed")

    assert (cancelled["state"], at_stripe, kept["state"]) == ("cancelling", True, "active")
    assert cancelled["works_until"] is not None
    assert over == "not_subscribed"
    assert street.subscription(workspace)["status"] == "canceled"


def test_enterprise_and_back(street: Street) -> None:
    """Included at once, the subscription does not renew; on the way back what is paid still works."""
    workspace = street.deployment.add_workspace("Grows", providers=("openrouter",), plan="pro")
    street.stripe.pay(street.subscribe(workspace))
    street.wait_for(lambda: street.state(workspace), "active")
    workspace.settings(plan="enterprise")
    included = street.state(workspace)
    stopped = street.subscription(workspace)["cancel_at_period_end"]
    refused = street.deployment.try_manage("POST", f"workspaces/{workspace.id}/billing/subscribe", {})
    workspace.settings(plan="pro")
    back = street.state(workspace)

    assert (included, stopped, back) == ("included", True, "cancelling")
    assert refused.json()["error"]["code"] == "addon_exists"
    assert ask(workspace) == 200


def test_credits_bought_refunded_and_disputed(street: Street) -> None:
    """Top-up → credits; refund → they leave; dispute → frozen, then back or gone."""
    workspace = street.deployment.add_workspace("Buyer", providers=(), plan="pro")

    def balance() -> int:
        return int(street.manage("GET", f"workspaces/{workspace.id}/credits")["balance_credits"])

    def buy() -> str:
        known = {intent["id"] for intent in street.objects("payment_intent")}
        step = street.manage("POST", f"workspaces/{workspace.id}/billing/topup", {"pack": "small"})
        before = balance()
        street.stripe.pay(step["url"])
        assert street.wait_for(balance, before + 1_000) == before + 1_000
        return str(next(i["id"] for i in street.objects("payment_intent") if i["id"] not in known))

    first, second, third = buy(), buy(), buy()
    street.stripe.control("POST", "refunds", {"payment_intent": first, "amount": 400})
    part = street.wait_for(balance, 2_600)
    won = street.stripe.control("POST", "disputes", {"payment_intent": second})
    frozen = street.wait_for(balance, 1_600)
    street.stripe.control("POST", "disputes/close", {"dispute": won["id"], "won": True})
    back = street.wait_for(balance, 2_600)
    lost = street.stripe.control("POST", "disputes", {"payment_intent": third})
    street.stripe.control("POST", "disputes/close", {"dispute": lost["id"], "won": False})
    gone = street.wait_for(balance, 1_600)

    assert (part, frozen, back, gone) == (2_600, 1_600, 2_600, 1_600)


def test_the_chaos_sender_changes_nothing(street: Street) -> None:
    """M15, M16 against the running server: duplicated, reordered, delayed and forged events over a busy account."""
    workspace = street.deployment.add_workspace("Storm", providers=(), plan="pro")
    street.stripe.pay(street.subscribe(workspace))
    step = street.manage("POST", f"workspaces/{workspace.id}/billing/topup", {"pack": "small"})
    street.stripe.pay(step["url"])
    street.wait_for(lambda: street.state(workspace), "active")
    street.settle()
    ledger = street.manage("GET", f"workspaces/{workspace.id}/credits/ledger?limit=200")["rows"]
    report = street.stripe.control("POST", "chaos", {
        "url": f"{street.deployment.url}/manage/v1/webhooks/stripe", "secret": SECRET, "seed": 3,
    })

    assert report["wrong"] == []
    assert street.manage("GET", f"workspaces/{workspace.id}/credits/ledger?limit=200")["rows"] == ledger
    assert street.state(workspace) == "active"
    assert len(street.manage("GET", f"workspaces/{workspace.id}/billing/payments")["payments"]) == 2


def test_stripe_down_says_so_and_what_was_missed_is_found(street: Street) -> None:
    """Billing unreachable: the add-on is unaffected; the round books what no webhook brought."""
    workspace = street.deployment.add_workspace("Outage", providers=("openrouter",), plan="pro")
    street.stripe.pay(street.subscribe(workspace))
    street.wait_for(lambda: street.state(workspace), "active")
    street.settle()
    street.stripe.fault("server_error", None)
    down = street.deployment.try_manage("POST", f"workspaces/{workspace.id}/billing/manage", {})
    view, answered = street.state(workspace), ask(workspace)
    street.stripe.control("DELETE", "faults")
    for endpoint in street.objects("webhook_endpoint"):
        httpx.delete(f"{street.stripe.url}/v1/webhook_endpoints/{endpoint['id']}", auth=(KEY, ""), trust_env=False)
    step = street.manage("POST", f"workspaces/{workspace.id}/billing/topup", {"pack": "small"})
    street.stripe.pay(step["url"])
    found = street.manage("POST", "billing/reconcile", {}, token=street.deployment.operator)

    assert (down.status_code, down.json()["error"]["code"]) == (503, "billing_unreachable")
    assert (view, answered) == ("active", 200)
    assert found["missed_events"] >= 1
    assert street.manage("GET", f"workspaces/{workspace.id}/credits")["balance_credits"] == 1_000


def test_the_command_line(street: Street) -> None:
    """`ownkey billing …`, by public doors only."""
    workspace = street.deployment.add_workspace("Typist", providers=(), plan="pro", external_id="typist")
    told = street.deployment.cli("billing", "subscribe", "-w", "typist")
    page = told.stdout.strip().splitlines()[-1]
    street.stripe.pay(page)
    street.wait_for(lambda: street.state(workspace), "active")
    shown = street.deployment.cli("billing", "show", "-w", "typist")
    prices = street.deployment.cli("billing", "pricing")
    events = street.deployment.cli("billing", "events")
    cancelled = street.deployment.cli("billing", "cancel", "-w", "typist")

    assert page.startswith(street.stripe.url), told
    assert "renews" in shown.stdout
    assert "Power your AI with OpenRouter – $5 Add-on" in prices.stdout
    assert "US$5.00" in prices.stdout
    assert "checkout.session.completed" in events.stdout
    assert "to the end of the period" in cancelled.stdout


@pytest.mark.parametrize(("env", "words"), [
    ({}, "no Stripe key"),
    ({"OWNKEY_STRIPE_KEY": KEY}, "no webhook secret"),
    ({"OWNKEY_STRIPE_KEY": KEY, "OWNKEY_STRIPE_WEBHOOK_SECRETS": "whsec_short"}, "no signing secret"),
    ({"OWNKEY_STRIPE_KEY": KEY, "OWNKEY_STRIPE_WEBHOOK_SECRETS": f"{SECRET} guess"}, "no signing secret"),
    ({"OWNKEY_STRIPE_KEY": "pk_test_" + "1" * 24, "OWNKEY_STRIPE_WEBHOOK_SECRETS": SECRET}, "not a secret key"),
], ids=["nothing", "no webhook secret", "short secret", "one bad secret", "publishable key"])
def test_a_start_without_proper_secrets_is_refused(tmp_path: Path, env: dict[str, str], words: str) -> None:
    """Money, section 10: billing on and no proper secret: `serve` and `doctor` say so, with the fix."""
    emulator = start_emulator()
    try:
        write_home(tmp_path, emulator, "app-builder", EXTRA.format(url="http://127.0.0.1:9"))
        served = run_cli(tmp_path, "serve", **env)
        checked = run_cli(tmp_path, "doctor", **env)
    finally:
        emulator.stop()

    assert served.returncode != 0
    assert words in served.stderr
    assert "OWNKEY_STRIPE" in served.stderr
    assert words in checked.stdout
    assert all(secret not in served.stderr + checked.stdout for secret in (KEY, SECRET))
