"""Rounds of buying, each with a kill -9 between order, checkout, webhook, booking and answer; afterwards each of
Stripe's objects has had exactly one effect.

The server dies at a point of its own (`OWNKEY_FAILPOINT`), or at any time. Stripe sends again what was not answered,
the buyer presses again, and every genuine event is brought once more before the books are compared.
"""

import contextlib
import itertools
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.deployment import Deployment, TestWorkspace, deployed
from tests.stripe_process import KEY, ControlError, StripeHandle, start_stripe

from tools.chaos.run import Unharmed

SECRET = "whsec_" + "a7Bc" * 10
CREDITS = 1_000
DIES_WITHIN_S = 20.0
SETTLES_WITHIN_S = 30.0
CONFIG = """
[billing]
api_url = "{url}"
return_urls = ["https://app.test/billing"]
[billing.packs.small]
credits = 1000
cents = 1000
[plans.pro]
minimum_balance_credits = 0
"""
POINTS = (
    "in_order", "after_order", "in_event", "in_payment", "after_event", "in_addon", "in_loss", "in_wish", "after_wish",
    "random",
)
_rounds = itertools.count(1)


@dataclass
class Figures:
    """What was bought, and what became of it."""

    kills: Counter[str] = field(default_factory=Counter)
    objects: int = 0
    effects: int = 0
    redelivered: int = 0

    def sentence(self) -> str:
        points = ", ".join(f"{count} {point}" for point, count in sorted(self.kills.items()))
        return (
            f"Payments: {self.kills.total()} kills ({points}); {self.objects} paid or refunded objects at Stripe, "
            f"{self.effects} effects here, 0 lost, 0 double, over {self.redelivered} more deliveries."
        )


@dataclass
class Shop:
    """A running product, a Stripe, and somebody who buys."""

    desk: Deployment
    stripe: StripeHandle
    figures: Figures = field(default_factory=Figures)

    def manage(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        return self.desk.manage(method, path, body, token=self.desk.operator, **headers)

    def press(self, workspace: TestWorkspace, action: str, body: Any, key: str = "") -> Any:
        """One press of a button; None where the server died under it."""
        with contextlib.suppress(httpx.HTTPError):
            return self.manage(
                "POST", f"workspaces/{workspace.id}/billing/{action}", body,
                **({"idempotency-key": key} if key else {}),
            )
        return None

    def insist(self, workspace: TestWorkspace, action: str, body: Any, key: str = "") -> Any:
        """The same button until there is an answer: a buyer whose page did not load."""
        end = time.monotonic() + SETTLES_WITHIN_S
        while time.monotonic() < end:
            with contextlib.suppress(AssertionError, httpx.HTTPError):
                return self.manage(
                    "POST", f"workspaces/{workspace.id}/billing/{action}", body,
                    **({"idempotency-key": key} if key else {}),
                )
            time.sleep(0.1)
        raise AssertionError(f"{action} is not answered any more")

    def arm(self, point: str) -> None:
        """Start again, to die at the point."""
        self.desk.stop()
        self.desk.env |= {"OWNKEY_TESTING": "1", "OWNKEY_FAILPOINT": f"{point}:1"}
        self.desk.start_again()

    def mourn(self, point: str) -> None:
        """Wait for the death, then start as ever."""
        until = time.monotonic() + DIES_WITHIN_S
        while self.desk.process.poll() is None:
            if time.monotonic() > until:
                raise Unharmed(f"the server lives {DIES_WITHIN_S:.0f} s after it should have died {point}")
            time.sleep(0.01)
        if self.desk.process.wait() != -9:
            raise Unharmed(f"the server ended with {self.desk.process.returncode} {point}")
        for name in ("OWNKEY_TESTING", "OWNKEY_FAILPOINT"):
            self.desk.env.pop(name, None)
        self.desk.start_again()

    def see(self, read: Callable[[], Any], wanted: Any, what: str) -> None:
        end = time.monotonic() + SETTLES_WITHIN_S
        while (found := read()) != wanted:
            if time.monotonic() > end:
                raise AssertionError(f"{what} is {found}, {wanted} was paid for")
            time.sleep(0.05)

    def balance(self, workspace: TestWorkspace) -> int:
        return int(self.manage("GET", f"workspaces/{workspace.id}/credits")["balance_credits"])

    def state(self, workspace: TestWorkspace) -> str:
        return str(self.manage("GET", f"workspaces/{workspace.id}/billing")["state"])

    def pay(self, url: str) -> None:
        self.stripe.pay(url)

    def intent(self, workspace: TestWorkspace) -> str:
        paid = [p["payment_intent"] for p in self.manage(
            "GET", f"workspaces/{workspace.id}/billing/payments")["payments"] if p.get("payment_intent")]
        if paid:
            return str(paid[0])
        known = self.stripe.control("GET", "objects?kind=payment_intent")["objects"]
        return str(next(i["id"] for i in reversed(known) if i["status"] == "succeeded"))


def run_payment_chaos(home: Path, points: Sequence[str], seed: int) -> Figures:
    """One round a point. Raises AssertionError where an object has no effect or two, Unharmed where nothing died."""
    dice = random.Random(f"payments:{seed}")
    stripe = start_stripe(seed=seed % 1_000)
    try:
        with deployed(
            home, "app-builder", extra=CONFIG.format(url=stripe.url),
            env={"OWNKEY_STRIPE_KEY": KEY, "OWNKEY_STRIPE_WEBHOOK_SECRETS": SECRET},
        ) as desk:
            _stay_at_this_port(desk)
            stripe.set(webhook_retry_s=[0.2, 0.5, 1.0, 2.0, 4.0])
            stripe.control("POST", "endpoints", {"url": f"{desk.url}/manage/v1/webhooks/stripe", "secret": SECRET})
            shop = Shop(desk, stripe)
            for point in points:
                workspace = desk.add_workspace(f"buyer {next(_rounds)}", providers=(), plan="pro")
                credits, state = _ROUNDS[point](shop, workspace, point, dice)
                shop.figures.kills[point] += 1
                _bring_everything_again(shop)
                shop.see(lambda w=workspace: shop.balance(w), credits, f"the balance after {point}")  # type: ignore[misc]
                shop.see(lambda w=workspace: shop.state(w), state, f"the add-on after {point}")  # type: ignore[misc]
                desk.service = desk.operator
            _compare(shop)
            return shop.figures
    finally:
        stripe.stop()


def _stay_at_this_port(desk: Deployment) -> None:
    """Stripe sends to one address, whoever lives there now."""
    config = desk.home / "ownkey.toml"
    config.write_text(config.read_text().replace("port = 0", f"port = {httpx.URL(desk.url).port}"))
    desk.stop()
    desk.start_again()
    desk.service = desk.operator


Round = Callable[[Shop, TestWorkspace, str, random.Random], tuple[int, str]]


def _while_ordering(shop: Shop, workspace: TestWorkspace, point: str, dice: random.Random) -> tuple[int, str]:
    """The order is being written, or is written and Stripe has not heard: the buyer presses again."""
    shop.arm(point)
    shop.press(workspace, "topup", {"pack": "small"}, f"buy {workspace.id}")
    shop.mourn(point)
    step = shop.insist(workspace, "topup", {"pack": "small"})
    again = shop.insist(workspace, "topup", {"pack": "small"})
    assert step["url"] == again["url"], "two pages for one purchase"
    shop.pay(step["url"])
    return CREDITS, "not_subscribed"


def _while_booking(shop: Shop, workspace: TestWorkspace, point: str, dice: random.Random) -> tuple[int, str]:
    """The payment's webhook is being booked, or is booked and not answered."""
    step = shop.insist(workspace, "topup", {"pack": "small"})
    shop.arm(point)
    shop.pay(step["url"])
    shop.mourn(point)
    return CREDITS, "not_subscribed"


def _while_subscribing(shop: Shop, workspace: TestWorkspace, point: str, dice: random.Random) -> tuple[int, str]:
    """The first invoice is paid, and the add-on is about to be written."""
    step = shop.insist(workspace, "subscribe", {})
    shop.arm(point)
    shop.pay(step["url"])
    shop.mourn(point)
    return 0, "active"


def _while_refunding(shop: Shop, workspace: TestWorkspace, point: str, dice: random.Random) -> tuple[int, str]:
    """Half of the money goes back, and its credits are about to be taken."""
    known = _intents(shop)
    shop.pay(shop.insist(workspace, "topup", {"pack": "small"})["url"])
    shop.see(lambda: shop.balance(workspace), CREDITS, "the balance")
    (intent,) = _intents(shop) - known
    shop.arm(point)
    shop.stripe.control("POST", "refunds", {"payment_intent": intent, "amount": 500})
    shop.mourn(point)
    return CREDITS // 2, "not_subscribed"


def _while_cancelling(shop: Shop, workspace: TestWorkspace, point: str, dice: random.Random) -> tuple[int, str]:
    """The wish to cancel is being kept, or is kept and Stripe has not heard."""
    shop.pay(shop.insist(workspace, "subscribe", {})["url"])
    shop.see(lambda: shop.state(workspace), "active", "the add-on")
    shop.arm(point)
    shop.press(workspace, "cancel", {})
    shop.mourn(point)
    shop.insist(workspace, "cancel", {})
    return 0, "cancelling"


def _at_any_time(shop: Shop, workspace: TestWorkspace, point: str, dice: random.Random) -> tuple[int, str]:
    """Add-on and credits are paid at once, and the process is killed while the events come in."""
    pages = [shop.insist(workspace, "subscribe", {})["url"], shop.insist(workspace, "topup", {"pack": "small"})["url"]]
    buyers = [threading.Thread(target=shop.pay, args=(page,)) for page in pages]
    for buyer in buyers:
        buyer.start()
    time.sleep(dice.random() * 0.4)
    shop.desk.kill()
    for buyer in buyers:
        buyer.join()
    shop.desk.start_again()
    return CREDITS, "active"


_ROUNDS: dict[str, Round] = {
    "in_order": _while_ordering, "after_order": _while_ordering, "in_event": _while_booking,
    "in_payment": _while_booking, "after_event": _while_booking, "in_addon": _while_subscribing,
    "in_loss": _while_refunding, "in_wish": _while_cancelling, "after_wish": _while_cancelling, "random": _at_any_time,
}


def _intents(shop: Shop) -> set[str]:
    return {i["id"] for i in shop.stripe.control("GET", "objects?kind=payment_intent")["objects"]
            if i["status"] == "succeeded"}


def _bring_everything_again(shop: Shop) -> None:
    """Every event of the account once more, as Stripe may; then what no webhook brought is asked for."""
    shop.stripe.quiet(SETTLES_WITHIN_S)
    for event in shop.stripe.control("GET", "objects?kind=event")["objects"]:
        with contextlib.suppress(ControlError):
            shop.stripe.control("POST", "deliveries/again", {"event": event["id"]})
            shop.figures.redelivered += 1
    shop.stripe.quiet(SETTLES_WITHIN_S)
    shop.manage("POST", "billing/reconcile", {})


def _compare(shop: Shop) -> None:
    """Stripe's objects and our effects, one to one: every paid intent is one payment, every refund one loss."""
    paid = _intents(shop)
    refunds = {r["id"] for r in shop.stripe.control("GET", "objects?kind=refund")["objects"]}
    workspaces = shop.manage("GET", "workspaces?limit=200")["workspaces"]
    payments: list[Any] = []
    entries: Counter[str] = Counter()
    for row in workspaces:
        base = f"workspaces/{row['id']}"
        payments += shop.manage("GET", f"{base}/billing/payments?limit=200")["payments"]
        for entry in shop.manage("GET", f"{base}/credits/ledger?limit=200")["rows"]:
            entries[entry["idem_key"]] += 1
    booked = Counter(p["id"] for p in payments)
    assert all(count == 1 for count in booked.values()), booked
    assert len(booked) == len(paid), f"{len(paid)} paid at Stripe, {len(booked)} payments here"
    losses = [key for key in entries if re.match("refund:", key)]
    assert len(losses) == len(refunds), f"{len(refunds)} refunds at Stripe, {losses} here"
    failed = shop.manage("GET", "billing/events?limit=200")["events"]
    assert not [e for e in failed if e["state"] in ("failed", "quarantined")], failed
    assert shop.manage("POST", "verify", {})["findings"] == []
    shop.figures.objects = len(paid) + len(refunds)
    shop.figures.effects = len(booked) + len(losses)
