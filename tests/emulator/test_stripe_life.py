"""The life of a subscription, a top-up, refunds and disputes, through the official SDK: emulator or test mode."""

import pytest
import stripe
from stripe_shop import DAY, HOUR, Shop, at, months_after, period, shown

from stripe_process import StripeHandle


def test_two_years_of_a_subscription_that_began_on_the_31st(shop: Shop) -> None:
    """24 renewals bill the last day of short months, 29 February among them, and the 31st again after."""
    start = at(2027, 1, 31)
    clock = shop.clock(start)
    customer, price = shop.customer(clock=clock), shop.price(500)
    sub = shop.subscribe(customer, price, metadata={"workspace": "ws_1"})
    assert (sub.status, period(sub)) == ("active", (start, months_after(start, 1)))

    for month in range(1, 25):
        shop.advance(clock, months_after(start, month) + 2 * HOUR)

    sub = shop.subscription(sub.id)
    invoices = shop.invoices(sub.id)
    assert shown(months_after(start, 13)) == "2028-02-29 12:00"
    assert [line.period.start for i in invoices for line in i.lines.data] == [months_after(start, n) for n in range(25)]
    assert [(i.status, i.amount_paid, i.attempt_count) for i in invoices] == [("paid", 500, 1)] * 25
    assert [i.billing_reason for i in invoices] == ["subscription_create"] + ["subscription_cycle"] * 24
    assert {i.parent.subscription_details.metadata["workspace"] for i in invoices} == {"ws_1"}
    assert (sub.status, period(sub)) == ("active", (months_after(start, 24), months_after(start, 25)))
    assert len({i.number for i in invoices}) == 25


def test_a_yearly_anchor_on_the_29th_of_february(shop: Shop) -> None:
    """Common years bill on the 28th; the next leap year would bill on the 29th again."""
    start = at(2028, 2, 29)
    clock = shop.clock(start)
    sub = shop.subscribe(shop.customer(clock=clock), shop.price(4800, "year"))
    assert shown(period(sub)[1]) == "2029-02-28 12:00"

    for year in (2029, 2030, 2031):
        shop.advance(clock, at(year, 2, 28) + 2 * HOUR)

    assert shown(period(shop.subscription(sub.id))[1]) == "2032-02-29 12:00"


def test_a_renewal_is_a_draft_for_an_hour(shop: Shop) -> None:
    """The period has moved, the subscription is active, and the money comes an hour later."""
    start = at(2027, 3, 15)
    clock = shop.clock(start)
    sub = shop.subscribe(shop.customer(clock=clock), shop.price(500))

    shop.advance(clock, at(2027, 4, 15) + 600)
    early = shop.subscription(sub.id)
    shop.advance(clock, at(2027, 4, 15) + 2 * HOUR)
    late = shop.subscription(sub.id)

    assert (early.latest_invoice.status, early.status) == ("draft", "active")
    assert period(early)[0] == at(2027, 4, 15)
    assert (late.latest_invoice.status, late.latest_invoice.id) == ("paid", early.latest_invoice.id)


def test_a_card_that_fails_later_makes_past_due_until_another_pays(shop: Shop) -> None:
    """The renewal fails: past due and an open invoice; paying it by a good card makes the subscription active."""
    start = at(2027, 3, 15)
    clock = shop.clock(start)
    customer = shop.customer(clock=clock)
    sub = shop.subscribe(customer, shop.price(500))
    shop.use_card(customer, "pm_card_chargeCustomerFail")

    shop.advance(clock, at(2027, 4, 15) + 2 * HOUR)
    failed = shop.subscription(sub.id)
    assert (failed.status, failed.latest_invoice.status) == ("past_due", "open")
    assert failed.latest_invoice.attempt_count == 1
    assert failed.latest_invoice.next_payment_attempt is not None
    with pytest.raises(stripe.CardError) as refused:
        shop.v1.invoices.pay(failed.latest_invoice.id)
    assert refused.value.code == "card_declined"
    shop.use_card(customer, "pm_card_visa")
    paid = shop.v1.invoices.pay(failed.latest_invoice.id)

    assert paid.status == "paid"
    assert shop.subscription(sub.id).status == "active"


@pytest.mark.parametrize(("action", "status"), [("cancel", "canceled"), ("unpaid", "unpaid"), ("past_due", "past_due")])
def test_retries_follow_the_settings_and_then_the_last_word(
    shop: Shop, emulated: StripeHandle, action: str, status: str
) -> None:
    """Three retries 3, 5 and 7 days apart, then what the account has set."""
    emulated.set(final_action=action)
    start = at(2027, 3, 15)
    clock = shop.clock(start)
    customer = shop.customer(clock=clock)
    sub = shop.subscribe(customer, shop.price(500))
    shop.use_card(customer, "pm_card_chargeCustomerFail")
    tries = []

    shop.advance(clock, at(2027, 4, 15) + 2 * HOUR)
    for _ in range(3):
        invoice = shop.subscription(sub.id).latest_invoice
        tries.append((invoice.attempt_count, (invoice.next_payment_attempt - at(2027, 4, 15) - HOUR) // DAY))
        shop.advance(clock, invoice.next_payment_attempt + 60)

    ended = shop.subscription(sub.id)
    assert tries == [(1, 3), (2, 8), (3, 15)]
    assert ended.status == status
    assert (ended.latest_invoice.attempt_count, ended.latest_invoice.next_payment_attempt) == (4, None)
    if action == "cancel":
        assert ended.cancellation_details.reason == "payment_failed"


def test_cancel_at_period_end_resume_and_subscribe_again(shop: Shop) -> None:
    """What was paid lasts to its end; a new subscription is a new object with its own anchor."""
    start = at(2027, 3, 15)
    clock = shop.clock(start)
    customer, price = shop.customer(clock=clock), shop.price(500)
    sub = shop.subscribe(customer, price)

    planned = shop.v1.subscriptions.update(sub.id, {"cancel_at_period_end": True})
    assert (planned.status, planned.cancel_at_period_end) == ("active", True)
    assert planned.cancel_at == period(planned)[1]
    assert planned.cancellation_details.reason == "cancellation_requested"
    resumed = shop.v1.subscriptions.update(sub.id, {"cancel_at_period_end": False})
    assert (resumed.cancel_at_period_end, resumed.cancel_at, resumed.canceled_at) == (False, None, None)
    shop.v1.subscriptions.update(sub.id, {"cancel_at_period_end": True})
    shop.advance(clock, at(2027, 4, 14))
    assert shop.subscription(sub.id).status == "active"
    shop.advance(clock, at(2027, 4, 15) + 2 * HOUR)
    ended = shop.subscription(sub.id)
    assert (ended.status, ended.ended_at) == ("canceled", at(2027, 4, 15))
    assert len(shop.invoices(sub.id)) == 1
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.subscriptions.update(sub.id, {"cancel_at_period_end": False})

    again = shop.subscribe(customer, price)
    assert again.id != sub.id
    assert (again.status, period(again)) == ("active", (at(2027, 4, 15, 14), at(2027, 5, 15, 14)))


def test_cancel_now_ends_at_once_and_only_once(shop: Shop) -> None:
    """A canceled subscription stays readable, and is not there for a second cancel."""
    sub = shop.subscribe(shop.customer(), shop.price(500))

    ended = shop.v1.subscriptions.cancel(sub.id)
    with pytest.raises(stripe.InvalidRequestError) as again:
        shop.v1.subscriptions.cancel(sub.id)

    assert (ended.status, ended.cancel_at_period_end) == ("canceled", False)
    assert (again.value.code, again.value.http_status) == ("resource_missing", 404)
    assert shop.subscription(sub.id).status == "canceled"


def test_a_failed_first_payment_never_activates(shop: Shop) -> None:
    """Incomplete for 23 hours, then expired, its invoice void."""
    start = at(2027, 3, 15)
    clock = shop.clock(start)
    sub = shop.subscribe(shop.customer("pm_card_chargeCustomerFail", clock), shop.price(500))
    assert (sub.status, shop.subscription(sub.id).latest_invoice.status) == ("incomplete", "open")

    shop.advance(clock, start + 24 * HOUR)

    ended = shop.subscription(sub.id)
    assert (ended.status, ended.latest_invoice.status) == ("incomplete_expired", "void")


def test_error_if_incomplete_leaves_nothing(shop: Shop) -> None:
    """A 402 and no subscription."""
    customer = shop.customer("pm_card_chargeCustomerFail")

    with pytest.raises(stripe.CardError) as refused:
        shop.subscribe(customer, shop.price(500), payment_behavior="error_if_incomplete")

    assert refused.value.http_status == 402
    assert shop.v1.subscriptions.list({"customer": customer, "status": "all"}).data == []


def test_without_a_card_nothing_starts(shop: Shop) -> None:
    """The request is refused before anything is made."""
    with pytest.raises(stripe.InvalidRequestError, match="payment"):
        shop.subscribe(shop.customer(None), shop.price(500))


def test_a_trial_is_free_and_then_bills(shop: Shop) -> None:
    """Trialing for a week, then active with its first money, the anchor at the trial's end."""
    start = at(2027, 3, 15)
    clock = shop.clock(start)
    sub = shop.subscribe(shop.customer(clock=clock), shop.price(500), trial_period_days=7)
    assert (sub.status, sub.trial_end) == ("trialing", start + 7 * DAY)

    shop.advance(clock, start + 7 * DAY + 2 * HOUR)

    active = shop.subscription(sub.id)
    assert (active.status, active.latest_invoice.amount_paid) == ("active", 500)
    assert active.billing_cycle_anchor == start + 7 * DAY


def test_a_higher_price_in_the_middle_of_the_month(shop: Shop) -> None:
    """Half of the old comes back, half of the new is charged, at once where it is wanted so."""
    start = at(2027, 4, 1)
    clock = shop.clock(start)
    sub = shop.subscribe(shop.customer(clock=clock), shop.price(1000))
    shop.advance(clock, start + 15 * DAY)

    item = sub["items"].data[0].id
    changes = {"items": [{"id": item, "price": shop.price(3000)}], "proration_behavior": "always_invoice"}
    changed = shop.v1.subscriptions.update(sub.id, {**changes, "expand": ["latest_invoice"]})

    invoice = changed.latest_invoice
    assert sorted(line.amount for line in invoice.lines.data) == [-500, 1500]
    assert (invoice.billing_reason, invoice.status, invoice.amount_paid) == ("subscription_update", "paid", 1000)
    assert period(changed) == period(sub)


def test_a_higher_price_waits_for_the_renewal_otherwise(shop: Shop) -> None:
    """Pending prorations are on the next invoice with the new price's whole month."""
    start = at(2027, 4, 1)
    clock = shop.clock(start)
    sub = shop.subscribe(shop.customer(clock=clock), shop.price(1000))
    shop.advance(clock, start + 15 * DAY)

    item = sub["items"].data[0].id
    shop.v1.subscriptions.update(sub.id, {"items": [{"id": item, "price": shop.price(3000)}]})
    assert len(shop.invoices(sub.id)) == 1
    shop.advance(clock, at(2027, 5, 1) + 2 * HOUR)

    assert shop.subscription(sub.id).latest_invoice.amount_paid == 3000 + 1000


def test_a_lower_price_leaves_credit_that_pays_the_next_invoice(shop: Shop) -> None:
    """Nothing goes back to the card: the negative invoice becomes the customer's balance."""
    start = at(2027, 4, 1)
    clock = shop.clock(start)
    customer = shop.customer(clock=clock)
    sub = shop.subscribe(customer, shop.price(3000))
    shop.advance(clock, start + 15 * DAY)

    item = sub["items"].data[0].id
    changes = {"items": [{"id": item, "price": shop.price(1000)}], "proration_behavior": "always_invoice"}
    lowered = shop.v1.subscriptions.update(sub.id, {**changes, "expand": ["latest_invoice"]}).latest_invoice
    credit = shop.v1.customers.retrieve(customer).balance
    shop.advance(clock, at(2027, 5, 1) + 2 * HOUR)
    renewed = shop.subscription(sub.id).latest_invoice

    assert (lowered.total, lowered.amount_due, lowered.status, credit) == (-1000, 0, "paid", -1000)
    assert (renewed.total, renewed.amount_paid, renewed.status) == (1000, 0, "paid")
    assert shop.v1.customers.retrieve(customer).balance == 0


def test_a_month_becomes_a_year_from_today(shop: Shop) -> None:
    """A new rhythm is billed at once and moves the anchor; the unused rest is credited."""
    start = at(2027, 4, 1)
    clock = shop.clock(start)
    sub = shop.subscribe(shop.customer(clock=clock), shop.price(1000))
    shop.advance(clock, start + 15 * DAY)

    item = sub["items"].data[0].id
    changes = {"items": [{"id": item, "price": shop.price(9600, "year")}], "expand": ["latest_invoice"]}
    changed = shop.v1.subscriptions.update(sub.id, changes)

    assert changed.latest_invoice.amount_paid == 9600 - 500
    assert shown(period(changed)[1]) == "2028-04-16 12:00"


def test_a_top_up_is_paid_once_and_refunded_in_parts(shop: Shop) -> None:
    """A charge, a part back, the rest back, and not a cent more."""
    customer = shop.customer()
    method = shop.v1.payment_methods.list({"customer": customer, "type": "card"}).data[0].id
    paid = shop.v1.payment_intents.create({
        "amount": 2000, "currency": "usd", "customer": customer, "payment_method": method, "confirm": True,
        "off_session": True, "metadata": {"order": "po_1"}, "expand": ["latest_charge.balance_transaction"],
    })  # fmt: skip
    assert (paid.status, paid.amount_received, paid.latest_charge.paid) == ("succeeded", 2000, True)
    assert paid.latest_charge.balance_transaction.net == 2000 - paid.latest_charge.balance_transaction.fee

    part = shop.v1.refunds.create({"payment_intent": paid.id, "amount": 750, "reason": "requested_by_customer"})
    with pytest.raises(stripe.InvalidRequestError, match="greater than"):
        shop.v1.refunds.create({"charge": paid.latest_charge.id, "amount": 1251})
    rest = shop.v1.refunds.create({"charge": paid.latest_charge.id})
    with pytest.raises(stripe.InvalidRequestError) as more:
        shop.v1.refunds.create({"charge": paid.latest_charge.id, "amount": 1})

    charge = shop.v1.charges.retrieve(paid.latest_charge.id, {"expand": ["refunds"]})
    assert (part.amount, rest.amount, more.value.code) == (750, 1250, "charge_already_refunded")
    assert (charge.amount_refunded, charge.refunded) == (2000, True)
    assert [refund.id for refund in charge.refunds.data] == [rest.id, part.id]


def test_a_refund_finds_its_invoice(shop: Shop) -> None:
    """From the charge to the intent, to the invoice's payment, to the subscription: how a handler has to go."""
    sub = shop.subscribe(shop.customer(), shop.price(500))
    invoice = shop.v1.invoices.retrieve(sub.latest_invoice, {"expand": ["payments"]})
    intent = invoice.payments.data[0].payment.payment_intent

    refund = shop.v1.refunds.create({"payment_intent": intent})
    by_intent = {"type": "payment_intent", "payment_intent": refund.payment_intent}
    found = shop.v1.invoice_payments.list({"payment": by_intent})

    assert [payment.invoice for payment in found.data] == [invoice.id]
    assert (refund.amount, shop.v1.invoices.retrieve(invoice.id).status) == (500, "paid")


@pytest.mark.parametrize(("text", "status"), [("winning_evidence", "won"), ("losing_evidence", "lost")])
def test_a_dispute_takes_the_money_and_evidence_decides(shop: Shop, text: str, status: str) -> None:
    """While it is open there is nothing to refund."""
    paid = shop.v1.payment_intents.create({
        "amount": 2000, "currency": "usd", "payment_method": "pm_card_createDispute", "confirm": True,
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
    })  # fmt: skip
    dispute = shop.v1.disputes.list({"payment_intent": paid.id}).data[0]
    assert (dispute.status, dispute.amount, dispute.charge) == ("needs_response", 2000, paid.latest_charge)
    assert shop.v1.charges.retrieve(paid.latest_charge).disputed
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.v1.refunds.create({"payment_intent": paid.id})
    assert refused.value.code == "charge_disputed"

    shop.v1.disputes.update(dispute.id, {"evidence": {"uncategorized_text": text}})

    assert shop.v1.disputes.retrieve(dispute.id).status == status


def test_authentication_stands_between_a_card_and_an_absent_customer(shop: Shop) -> None:
    """Off session it is a decline that says so; on session the intent asks for the customer."""
    customer = shop.customer(None)
    method = shop.v1.payment_methods.attach("pm_card_authenticationRequired", {"customer": customer}).id
    wish = {"amount": 2000, "currency": "usd", "customer": customer, "payment_method": method, "confirm": True}
    with pytest.raises(stripe.CardError) as refused:
        shop.v1.payment_intents.create({**wish, "off_session": True})

    asks = shop.v1.payment_intents.create({**wish, "return_url": "https://example.com/back"})

    assert refused.value.code == "authentication_required"
    assert (asks.status, asks.next_action.type) == ("requires_action", "redirect_to_url")
