"""Checkout and the Customer Portal: what the API makes, what the browser does, what is there afterwards."""

from typing import Any

import pytest
import stripe
from stripe_shop import Shop, at, period

from stripe_process import ControlError, StripeHandle

SUCCESS = "https://shop.example/done?session={CHECKOUT_SESSION_ID}"


def addon(shop: Shop, **more: Any) -> Any:
    """A session that sells the add-on."""
    return shop.v1.checkout.sessions.create({
        "mode": "subscription", "line_items": [{"price": shop.price(500), "quantity": 1}], "success_url": SUCCESS,
        "cancel_url": "https://shop.example/back", "client_reference_id": "ws_1", "metadata": {"order": "po_1"},
        "subscription_data": {"metadata": {"workspace": "ws_1"}}, **more,
    })  # fmt: skip


def top_up(shop: Shop, **more: Any) -> Any:
    """A session that sells credits once."""
    data = {"currency": "usd", "unit_amount": 2000, "product_data": {"name": "2,000 credits"}}
    return shop.v1.checkout.sessions.create({
        "mode": "payment", "line_items": [{"price_data": data, "quantity": 2}], "success_url": SUCCESS,
        "payment_intent_data": {"metadata": {"order": "po_2"}}, "metadata": {"order": "po_2"}, **more,
    })  # fmt: skip


def test_an_open_session_is_what_was_asked_for(shop: Shop) -> None:
    """Nothing is paid, subscribed or made for a customer yet."""
    session = addon(shop, customer_email="buyer@example.com")

    found = shop.v1.checkout.sessions.retrieve(session.id, {"expand": ["line_items"]})
    assert (found.status, found.payment_status, found.mode) == ("open", "unpaid", "subscription")
    assert (found.amount_total, found.currency, found.client_reference_id) == (500, "usd", "ws_1")
    assert (found.subscription, found.customer, found.payment_intent) == (None, None, None)
    assert found.line_items.data[0].price.recurring.interval == "month"
    assert found.metadata["order"] == "po_1"
    assert found.url


def test_an_expired_session_cannot_be_expired_again(shop: Shop) -> None:
    """Only open sessions expire."""
    session = addon(shop)

    closed = shop.v1.checkout.sessions.expire(session.id)
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.checkout.sessions.expire(session.id)

    assert (closed.status, closed.url) == ("expired", None)


@pytest.mark.parametrize(("params", "param"), [
    ({"mode": "payment"}, "line_items"), ({"line_items": []}, "line_items"), ({"succes_url": "x"}, "succes_url"),
    ({"success_url": "example"}, "success_url"), ({"payment_intent_data": {"metadata": {}, "description": "x"}},
                                                   "payment_intent_data"),
    ({"customer": "cus_none"}, "customer"), ({"line_items": [{"price": "price_none", "quantity": 1}]},
                                             "line_items[0][price]"),
])  # fmt: skip
def test_a_wrong_session_is_refused_by_its_parameter(shop: Shop, params: dict[str, Any], param: str) -> None:
    """400 with the parameter's name."""
    with pytest.raises(stripe.InvalidRequestError) as refused:
        addon(shop, **params)

    assert refused.value.http_status == 400
    assert refused.value.param == param


def test_paying_subscribes(shop: Shop, emulated: StripeHandle) -> None:
    """The browser goes to the success page; customer, subscription, invoice and card are there."""
    session = addon(shop)

    seen = emulated.pay(session.url)

    done = shop.v1.checkout.sessions.retrieve(
        session.id, {"expand": ["subscription.default_payment_method", "customer", "invoice"]}
    )
    assert (seen.status, seen.location) == (303, SUCCESS.replace("{CHECKOUT_SESSION_ID}", session.id))
    assert (done.status, done.payment_status, done.amount_total) == ("complete", "paid", 500)
    assert (done.customer.email, done.customer_details.email) == ("buyer@example.com",) * 2
    assert (done.subscription.status, done.subscription.metadata["workspace"]) == ("active", "ws_1")
    assert done.subscription.default_payment_method.card.last4 == "4242"
    assert (done.invoice.status, done.invoice.amount_paid, done.invoice.billing_reason) == (
        "paid", 500, "subscription_create")  # fmt: skip
    assert shop.event_types()[-1] == "checkout.session.completed"
    assert "completed" in emulated.pay(session.url or f"{emulated.url}/c/pay/{session.id}").text
    assert len(shop.v1.subscriptions.list({"status": "all"}).data) == 1


@pytest.mark.parametrize(("card", "words"), [
    ("4000000000009995", "insufficient funds"), ("4000 0000 0000 0341", "declined"), ("1234", "number is incorrect"),
])  # fmt: skip
def test_a_declined_card_leaves_the_session_open(shop: Shop, emulated: StripeHandle, card: str, words: str) -> None:
    """No subscription, no completed event; another card may follow."""
    session = addon(shop)

    seen = emulated.pay(session.url, card)

    assert (seen.status, words in seen.error) == (402, True)
    assert shop.v1.checkout.sessions.retrieve(session.id).status == "open"
    assert shop.v1.subscriptions.list({"status": "all"}).data == []
    assert "checkout.session.completed" not in shop.event_types()
    assert emulated.pay(session.url).status == 303


@pytest.mark.parametrize("card", ["4000002500003155", "4000002760003184"])
def test_the_bank_is_asked_first(shop: Shop, emulated: StripeHandle, card: str) -> None:
    """Nothing exists before the bank is answered; a refusal there leads back to the form."""
    session = addon(shop)

    asked = emulated.pay(session.url, card)
    assert asked.location.endswith("/authenticate")
    assert shop.v1.subscriptions.list({"status": "all"}).data == []
    refused = emulated.browse(asked.location, answer="fail")
    assert (refused.status, "unable to authenticate" in refused.error) == (402, True)
    done = emulated.pay(session.url, card, bank="complete")

    assert (done.status, done.location.startswith("https://shop.example/done")) == (303, True)
    assert shop.v1.subscriptions.list({}).data[0].status == "active"


def test_a_card_that_was_set_up_renews_without_its_owner(shop: Shop, emulated: StripeHandle) -> None:
    """4000002500003155 asks once; the renewal is paid off session."""
    clock = shop.clock(at(2027, 3, 15))
    session = addon(shop, customer=shop.customer(None, clock))
    emulated.pay(session.url, "4000002500003155", bank="complete")
    sub = shop.v1.checkout.sessions.retrieve(session.id).subscription

    shop.advance(clock, at(2027, 4, 15, 15))

    assert [invoice.status for invoice in shop.invoices(sub)] == ["paid", "paid"]


def test_a_top_up_is_paid_on_one_intent(shop: Shop, emulated: StripeHandle) -> None:
    """A decline and a success are two charges of one intent, which carries the order's metadata."""
    session = top_up(shop)
    emulated.pay(session.url, "4000000000009995")
    emulated.pay(session.url)

    done = shop.v1.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent.latest_charge"]})
    assert (done.status, done.payment_status, done.amount_total) == ("complete", "paid", 4000)
    assert (done.customer, done.invoice, done.subscription) == (None, None, None)
    assert (done.payment_intent.amount_received, done.payment_intent.metadata["order"]) == (4000, "po_2")
    charges = shop.v1.charges.list({"payment_intent": done.payment_intent.id}).data
    assert [charge.paid for charge in charges] == [True, False]
    assert charges[0].id == done.payment_intent.latest_charge.id


def test_a_session_expires_by_itself(shop: Shop, emulated: StripeHandle) -> None:
    """After a day, with its event, and its page says so."""
    session = addon(shop)

    emulated.control("POST", "clock", {"advance_s": 86_401})

    assert shop.v1.checkout.sessions.retrieve(session.id).status == "expired"
    assert "checkout.session.expired" in shop.event_types()
    assert emulated.pay(session.url).status in (200, 410)
    assert shop.v1.subscriptions.list({"status": "all"}).data == []


def test_the_pages_escape_what_they_show(shop: Shop, emulated: StripeHandle) -> None:
    """A product's name is text, not markup."""
    price = shop.price(500, name="<script>alert(1)</script>")
    session = addon(shop, line_items=[{"price": price, "quantity": 1}])

    page = emulated.browse(session.url)

    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text


# the portal


def portal(shop: Shop, customer: str, **more: Any) -> Any:
    """A portal session."""
    return shop.v1.billing_portal.sessions.create(
        {"customer": customer, "return_url": "https://shop.example/billing", **more}
    )


def test_a_portal_session_belongs_to_its_customer(shop: Shop) -> None:
    """An unknown customer gets none."""
    customer = shop.customer(None)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        portal(shop, "cus_unknown")

    assert portal(shop, customer).customer == customer
    assert (refused.value.code, refused.value.param) == ("resource_missing", "customer")


@pytest.mark.parametrize(("mode", "flag"), [("flexible", False), ("classic", True)])
def test_the_portal_cancels_and_resumes(shop: Shop, emulated: StripeHandle, mode: str, flag: bool) -> None:
    """In flexible billing mode the portal writes `cancel_at` only: `cancel_at_period_end` alone does not tell."""
    customer = shop.customer()
    sub = shop.subscribe(customer, shop.price(500), billing_mode={"type": mode})
    page = portal(shop, customer)

    pressed = emulated.browse(page.url, button="cancel", subscription=sub.id)
    planned = shop.subscription(sub.id)
    emulated.browse(page.url, button="resume", subscription=sub.id)
    resumed = shop.subscription(sub.id)

    assert (pressed.status, pressed.location) == (303, page.url)
    assert (planned.cancel_at_period_end, planned.cancel_at, planned.status) == (flag, period(sub)[1], "active")
    assert (resumed.cancel_at_period_end, resumed.cancel_at) == (False, None)


def test_the_portal_ends_with_the_period(shop: Shop, emulated: StripeHandle) -> None:
    """What the portal planned happens on the clock."""
    clock = shop.clock(at(2027, 3, 15))
    customer = shop.customer(clock=clock)
    sub = shop.subscribe(customer, shop.price(500))
    emulated.browse(portal(shop, customer).url, button="cancel", subscription=sub.id)

    shop.advance(clock, at(2027, 4, 15, 15))

    assert (shop.subscription(sub.id).status, shop.subscription(sub.id).ended_at) == ("canceled", at(2027, 4, 15))


def test_the_portal_takes_a_new_card(shop: Shop, emulated: StripeHandle) -> None:
    """The new card is the default; a refused one changes nothing."""
    customer = shop.customer()
    page = portal(shop, customer)

    refused = emulated.browse(page.url, button="update_card", card_number="4000000000009995")
    before = shop.v1.customers.retrieve(customer, {"expand": ["invoice_settings.default_payment_method"]})
    emulated.browse(page.url, button="update_card", card_number="5555555555554444")
    after = shop.v1.customers.retrieve(customer, {"expand": ["invoice_settings.default_payment_method"]})

    assert (refused.status, "insufficient funds" in refused.error) == (402, True)
    assert before.invoice_settings.default_payment_method.card.last4 == "4242"
    assert after.invoice_settings.default_payment_method.card.last4 == "4444"


def test_the_portal_touches_no_other_customers_subscription(shop: Shop, emulated: StripeHandle) -> None:
    """A subscription of somebody else is not there."""
    sub = shop.subscribe(shop.customer(), shop.price(500))

    seen = emulated.browse(portal(shop, shop.customer()).url, button="cancel", subscription=sub.id)

    assert seen.status == 400
    assert shop.subscription(sub.id).cancel_at is None


def test_an_open_invoice_is_paid_on_its_page(shop: Shop, emulated: StripeHandle) -> None:
    """The hosted page pays what the retries could not."""
    clock = shop.clock(at(2027, 3, 15))
    customer = shop.customer(clock=clock)
    sub = shop.subscribe(customer, shop.price(500))
    shop.use_card(customer, "pm_card_chargeCustomerFail")
    shop.advance(clock, at(2027, 4, 15, 15))
    page = shop.subscription(sub.id).latest_invoice.hosted_invoice_url

    assert emulated.browse(page, card_number="4000000000009995").status == 402
    assert emulated.browse(page, card_number="4242424242424242").status == 303
    assert shop.subscription(sub.id).status == "active"
    assert "paid" in emulated.browse(page).text


def test_control_forces_declines_and_disputes(shop: Shop, emulated: StripeHandle) -> None:
    """Without special cards: a customer's charges fail until they are let go; a paid charge is disputed and won."""
    clock = shop.clock(at(2027, 3, 15))
    customer = shop.customer(clock=clock)
    sub = shop.subscribe(customer, shop.price(500))
    emulated.control("POST", "failing", {"customer": customer, "code": "do_not_honor"})
    shop.advance(clock, at(2027, 4, 15, 15))
    failed = shop.subscription(sub.id)
    emulated.control("POST", "failing", {"customer": customer, "code": None})
    shop.advance(clock, failed.latest_invoice.next_payment_attempt + 60)
    charge = shop.v1.charges.list({"customer": customer}).data[0]

    dispute = emulated.control("POST", "disputes", {"charge": charge.id, "reason": "fraudulent", "amount": 200})
    won = emulated.control("POST", "disputes/close", {"dispute": dispute["id"], "won": True})

    assert (failed.status, shop.subscription(sub.id).status) == ("past_due", "active")
    assert (dispute["amount"], won["status"]) == (200, "won")
    assert sum(entry["net"] for entry in won["balance_transactions"]) == -1500
    with pytest.raises(ControlError, match="already closed"):
        emulated.control("POST", "disputes/close", {"dispute": dispute["id"], "won": False})
