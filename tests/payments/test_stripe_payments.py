"""Stripe's webhooks (M16) and objects: only what Stripe signed, just now, for us; only what the books need."""

import hmac
import json
import random
from typing import Any

import pytest
import stripe
import stripe._util

from ownkey.domain.billing import EventHint, EventRefused
from ownkey.payments.stripe_facts import (
    checkout_facts,
    dispute_facts,
    invoice_facts,
    refund_facts,
    subscription_facts,
)
from ownkey.payments.stripe_payments import StripePayments

SECRET, OLD = "whsec_" + "a7Bc" * 10, "whsec_" + "z9Yx" * 10
NOW_S = 1_795_000_000


def payments(**more: Any) -> StripePayments:
    return StripePayments(**{
        "api_key": "sk_test_" + "1" * 24, "secrets": (SECRET, OLD), "instance": "inst_1", "product_name": "Add-on",
        **more,
    })


def event(**changes: Any) -> dict[str, Any]:
    return {
        "id": "evt_1", "object": "event", "type": "checkout.session.completed", "created": NOW_S, "livemode": False,
        "data": {"object": {"id": "cs_1", "object": "checkout.session"}}, **changes,
    }


def signed(body: bytes, secret: str = SECRET, at: int = NOW_S) -> str:
    return str(stripe.WebhookSignature.generate_signature_header(body.decode(), secret, at))


def read(body: bytes, header: str, now_s: int = NOW_S, **more: Any) -> EventHint:
    return payments(**more).read_event(body, header, now_s * 1_000)


@pytest.mark.parametrize("secret", [SECRET, OLD])
def test_a_genuine_event_is_read_with_either_secret(secret: str) -> None:
    """Two secrets while one is replaced."""
    body = json.dumps(event()).encode()

    assert read(body, signed(body, secret)) == EventHint(
        "evt_1", "checkout.session.completed", NOW_S * 1_000, False, "", "checkout.session", "cs_1"
    )


@pytest.mark.parametrize(("at", "accepted"), [
    (NOW_S - 300, True), (NOW_S - 301, False), (NOW_S + 300, True), (NOW_S + 301, False), (0, False),
])
def test_300_seconds_by_our_clock_in_both_directions(at: int, accepted: bool) -> None:
    body = json.dumps(event()).encode()
    try:
        read(body, signed(body, at=at))
        taken = True
    except EventRefused:
        taken = False

    assert taken is accepted


@pytest.mark.parametrize(("changes", "more", "reason"), [
    ({"livemode": True}, {}, "mode"), ({"account": "acct_other"}, {}, "account"),
    ({}, {"api_key": "sk_live_" + "1" * 24}, "mode"), ({"account": "acct_2"}, {"account": "acct_1"}, "account"),
    ({"object": "invoice"}, {}, "event"), ({"data": {}}, {}, "event"), ({"id": ""}, {}, "event"),
    ({"id": 7}, {}, "event"), ({"created": True}, {}, "event"), ({"type": None}, {}, "event"),
])
def test_signed_well_and_not_for_us(changes: dict[str, Any], more: dict[str, Any], reason: str) -> None:
    body = json.dumps(event(**changes)).encode()

    with pytest.raises(EventRefused) as refused:
        read(body, signed(body), **more)

    assert reason in refused.value.reason


def test_a_connected_account_that_was_configured_is_ours() -> None:
    body = json.dumps(event(account="acct_1")).encode()

    assert read(body, signed(body), account="acct_1").account == "acct_1"


def forgeries(seed: int) -> list[tuple[str, bytes, str]]:
    """(kind, body, header) of letters that must all be refused."""
    chance = random.Random(seed)
    body = json.dumps(event(id=f"evt_{seed}")).encode()
    good = signed(body)
    flipped = bytearray(body)
    flipped[chance.randrange(len(body))] ^= 1 << chance.randrange(7)
    at = NOW_S - chance.randrange(301, 10_000_000)
    stamp, _, digest = good.partition(",v1=")
    other = "".join(chance.choices("0123456789abcdef", k=64))
    return [
        ("unsigned", body, ""), ("no scheme", body, stamp), ("other scheme", body, good.replace("v1=", "v0=")),
        ("empty secret", body, signed(body, "")), ("blank secret", body, signed(body, " ")),
        ("prefix only", body, signed(body, "whsec_")), ("guessed", body, signed(body, f"whsec_{seed:040}")),
        ("altered", bytes(flipped), good), ("longer", body + b" ", good), ("cut", body[:-1], good),
        ("stale", body, signed(body, at=at)), ("redated", body, f"t={NOW_S + 1},v1={digest}"),
        ("random", body, f"{stamp},v1={other}"), ("not a time", body, f"t=now,v1={digest}"),
        ("no time", body, f"v1={digest}"), ("live", *_of(livemode=True)), ("account", *_of(account=f"acct_{seed}")),
        ("empty", b"", good), ("not UTF-8", b"\xff" + body, good),
        ("reformatted", json.dumps(event(id=f"evt_{seed}"), indent=1).encode(), good),
        ("non-ASCII header", body, good + "\xff,v1=é"[:1]),
        ("not JSON", b"nonsense", signed(b"nonsense")), ("a list", b"[]", signed(b"[]")),
        ("deep", b"[" * 5_000, signed(b"[" * 5_000)), ("null", b"null", signed(b"null")),
    ]


def _of(**changes: Any) -> tuple[bytes, str]:
    body = json.dumps(event(**changes)).encode()
    return body, signed(body)


def test_no_forged_event_is_accepted() -> None:
    """M16: forged, empty-secret, stale, wrong-mode and altered events: 0 accepted of more than 1,000."""
    ours, accepted, tried = payments(), [], 0
    for seed in range(60):
        for kind, body, header in forgeries(seed):
            tried += 1
            try:
                ours.read_event(body, header, NOW_S * 1_000)
            except EventRefused:
                continue
            accepted.append((seed, kind))

    print(f"M16 forged: kinds {len({kind for kind, _, _ in forgeries(0)})}, tried {tried}, accepted {len(accepted)}")
    assert tried >= 1_000
    assert accepted == []


def test_secrets_are_needed_and_never_shown() -> None:
    for wrong in ({"secrets": ()}, {"secrets": ("",)}, {"secrets": (SECRET, "")}, {"api_key": ""}):
        with pytest.raises(ValueError, match="secret"):
            payments(**wrong)

    assert SECRET not in repr(payments())
    assert "sk_test" not in repr(payments())


def test_the_signature_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hmac.compare_digest, once a signature and secret, and by nothing else."""
    compared: list[tuple[str, str]] = []

    def spy(one: str, two: str) -> bool:
        compared.append((one, two))
        return hmac.compare_digest(one, two)

    monkeypatch.setattr("stripe._webhook.secure_compare", spy)
    body = json.dumps(event()).encode()
    read(body, signed(body, OLD))

    assert "compare_digest" in stripe._util.secure_compare.__code__.co_names
    assert [one == two for one, two in compared] == [False, True]


# --- objects

MARKS = {
    "ownkey_workspace": "ws_1", "ownkey_order": "order_1", "ownkey_purpose": "addon", "ownkey_instance": "inst_1",
}


def subscription(**changes: Any) -> dict[str, Any]:
    return stripe.Subscription.construct_from({
        "id": "sub_1", "object": "subscription", "customer": "cus_1", "status": "active", "created": NOW_S,
        "livemode": False, "currency": "usd", "metadata": MARKS, "cancel_at": None, "cancel_at_period_end": False,
        "ended_at": None, "cancellation_details": {"reason": None}, "start_date": NOW_S,
        "items": {"object": "list", "data": [{
            "id": "si_1", "object": "subscription_item", "quantity": 1, "current_period_start": NOW_S,
            "current_period_end": NOW_S + 100, "price": {"id": "price_1", "unit_amount": 500, "currency": "usd"},
        }]},
        "latest_invoice": {"id": "in_1", "object": "invoice", "status_transitions": {"finalized_at": NOW_S + 9}},
        **changes,
    }, "sk_test_x").to_dict()


def test_a_subscription_in_facts() -> None:
    found = subscription_facts(subscription(), "inst_1")

    assert (found.workspace_id, found.order_id, found.purpose) == ("ws_1", "order_1", "addon")
    assert (found.period_start_ms, found.period_end_ms) == (NOW_S * 1_000, (NOW_S + 100) * 1_000)
    assert (found.amount_cents, found.currency, found.owed_since_ms) == (500, "usd", (NOW_S + 9) * 1_000)


def test_every_item_of_a_subscription_counts() -> None:
    """A second item, or another quantity, is another amount, and agrees with no order."""
    items = subscription()["items"]["data"]
    twice = subscription(items={"object": "list", "data": [*items, items[0]]})
    many = subscription(items={"object": "list", "data": [{**items[0], "quantity": 3}]})

    assert subscription_facts(twice, "inst_1").amount_cents == 1_000
    assert subscription_facts(many, "inst_1").amount_cents == 1_500


def test_objects_of_another_deployment_or_of_nobody_have_no_order() -> None:
    assert subscription_facts(subscription(), "inst_2").order_id == ""
    assert subscription_facts(subscription(metadata={}), "inst_1").order_id == ""
    assert checkout_facts({"id": "cs_1", "metadata": None}, "inst_1").order_id == ""


def test_an_invoice_with_the_payments_that_paid_it() -> None:
    found = invoice_facts(stripe.Invoice.construct_from({
        "id": "in_1", "object": "invoice", "customer": {"id": "cus_1", "object": "customer"}, "status": "paid",
        "amount_paid": 500, "currency": "usd", "created": NOW_S, "livemode": False, "period_start": NOW_S,
        "parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_1"}},
        "lines": {"object": "list", "data": [{"id": "il_1", "period": {"start": NOW_S + 5, "end": NOW_S + 9}}]},
        "payments": {"object": "list", "data": [
            {"id": "inpay_1", "status": "open", "payment": {"payment_intent": "pi_0"}},
            {"id": "inpay_2", "status": "paid", "payment": {"type": "payment_intent", "payment_intent": "pi_1"}},
        ]},
    }, "sk_test_x").to_dict())

    assert (found.subscription, found.customer, found.payment_intents) == ("sub_1", "cus_1", ("pi_1",))
    assert (found.amount_paid_cents, found.period_start_ms) == (500, (NOW_S + 5) * 1_000)


def test_refunds_and_disputes() -> None:
    refund = refund_facts({"id": "re_1", "payment_intent": "pi_1", "amount": 5, "currency": "usd", "status": "failed"})
    dispute = dispute_facts({
        "id": "dp_1", "payment_intent": {"id": "pi_1"}, "amount": 7, "currency": "usd", "status": "won",
    })

    assert (refund.payment_intent, refund.amount_cents, refund.status) == ("pi_1", 5, "failed")
    assert (dispute.payment_intent, dispute.amount_cents, dispute.status) == ("pi_1", 7, "won")


@pytest.mark.parametrize("junk", [
    {}, {"items": None, "metadata": None, "latest_invoice": "in_1"}, {"items": {"data": [None, 7]}},
    {"cancellation_details": None, "items": {"data": [{"price": None, "quantity": None}]}},
])
def test_missing_fields_are_no_error_and_grant_nothing(junk: dict[str, Any]) -> None:
    found = subscription_facts(junk, "inst_1")

    assert (found.order_id, found.amount_cents) == ("", 0)
