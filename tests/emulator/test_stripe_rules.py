"""Keys, versions, idempotency, lists, expansion, and every typed error of the SDK."""

import threading
import time
from typing import Any

import pytest
import stripe
from stripe_shop import Shop, at

from stripe_process import KEY, StripeHandle


def test_the_errors_of_the_sdk(shop: Shop) -> None:
    """404 in the path, 400 in a parameter, unknown and missing parameters: each says which."""
    with pytest.raises(stripe.InvalidRequestError) as gone:
        shop.v1.customers.retrieve("cus_none")
    with pytest.raises(stripe.InvalidRequestError) as named:
        shop.v1.subscriptions.create({"customer": "cus_none", "items": [{"price": "price_none"}]})
    with pytest.raises(stripe.InvalidRequestError) as missing:
        shop.v1.products.create({})
    with pytest.raises(stripe.InvalidRequestError) as unknown:
        shop.v1.products.create({"name": "A", "colour": "red"})

    assert (gone.value.http_status, gone.value.code, gone.value.param) == (404, "resource_missing", "id")
    assert (named.value.http_status, named.value.param) == (400, "customer")
    assert (missing.value.code, missing.value.param) == ("parameter_missing", "name")
    assert (unknown.value.code, unknown.value.param) == ("parameter_unknown", "colour")
    assert gone.value.request_id.startswith("req_")


def test_a_declined_card_is_a_card_error_with_its_intent(shop: Shop) -> None:
    """402 with the bank's reason, and the intent waits for another method."""
    customer = shop.customer(None)
    with pytest.raises(stripe.CardError) as attach:
        shop.v1.payment_methods.attach("pm_card_chargeDeclinedInsufficientFunds", {"customer": customer})
    with pytest.raises(stripe.CardError) as charge:
        shop.v1.payment_intents.create({
            "amount": 2000, "currency": "usd", "payment_method": "pm_card_chargeDeclinedInsufficientFunds",
            "confirm": True, "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        })  # fmt: skip

    assert (attach.value.code, attach.value.error.decline_code) == ("card_declined", "insufficient_funds")
    assert (charge.value.http_status, charge.value.error.payment_intent.status) == (402, "requires_payment_method")
    assert charge.value.error.charge


@pytest.mark.parametrize("key", ["sk_test_", "not_a_key", "sk_live_0123456789abcdef"])
def test_a_wrong_key_is_an_authentication_error(emulated: StripeHandle, key: str) -> None:
    """Another mode's key is as wrong as none."""
    with pytest.raises(stripe.AuthenticationError):
        emulated.client(key).v1.customers.list()


def test_only_listed_keys_and_the_own_account(emulated: StripeHandle) -> None:
    """A test can say which keys exist; another account is forbidden; another version is refused."""
    emulated.set(keys=[KEY])
    assert emulated.client().v1.accounts.retrieve_current().id == "acct_1EmulatedStripe"

    with pytest.raises(stripe.AuthenticationError):
        emulated.client("sk_test_somethingelse").v1.customers.list()
    with pytest.raises(stripe.PermissionError):
        emulated.client().v1.customers.list(options={"stripe_account": "acct_other"})
    with pytest.raises(stripe.InvalidRequestError, match="version"):
        emulated.client(stripe_version="2020-08-27").v1.customers.list()


def test_live_mode_is_another_mode(emulated: StripeHandle) -> None:
    """Everything says `livemode: true`, and there are no test clocks."""
    emulated.set(livemode=True)
    client = emulated.client("sk_live_0123456789abcdef")

    assert client.v1.customers.create({"email": "a@example.com"}).livemode is True
    assert client.v1.events.list().data[0].livemode is True
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.test_helpers.test_clocks.create({"frozen_time": at(2027, 1, 1)})


# idempotency


def test_the_same_key_is_the_same_answer(shop: Shop) -> None:
    """One customer, whatever the number of requests; the replay says that it is one."""
    key = f"key-{time.time_ns()}"
    first = shop.v1.customers.create({"email": "a@example.com"}, {"idempotency_key": key})
    again = shop.v1.customers.create({"email": "a@example.com"}, {"idempotency_key": key})

    assert again.id == first.id
    assert again.last_response.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.last_response.headers


def test_the_same_key_with_other_parameters_is_an_idempotency_error(shop: Shop) -> None:
    """Nothing is made by the second."""
    key = f"key-{time.time_ns()}"
    shop.v1.customers.create({"email": "a@example.com"}, {"idempotency_key": key})

    with pytest.raises(stripe.IdempotencyError) as refused:
        shop.v1.customers.create({"email": "b@example.com"}, {"idempotency_key": key})

    assert refused.value.http_status == 400


def test_a_declined_charge_is_replayed_and_a_malformed_request_is_not(shop: Shop) -> None:
    """A 402 was executed; a 400 was not, so its key is free for the corrected request."""
    key, other = f"key-{time.time_ns()}", f"key-{time.time_ns()}-b"
    wish = {"amount": 2000, "currency": "usd", "payment_method": "pm_card_visa_chargeDeclined", "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}  # fmt: skip
    refusals = []
    for _ in range(2):
        with pytest.raises(stripe.CardError) as refused:
            shop.v1.payment_intents.create(wish, {"idempotency_key": key})
        refusals.append(refused.value.error.payment_intent.id)
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.products.create({"name": ""}, {"idempotency_key": other})

    assert refusals[0] == refusals[1]
    assert shop.v1.products.create({"name": "A"}, {"idempotency_key": other}).name == "A"


def test_two_at_once_with_one_key_conflict(emulated: StripeHandle) -> None:
    """The second is told 409 while the first runs; there is one customer."""
    emulated.fault({"name": "slow", "seconds": 0.6}, path="/v1/customers")
    got: list[Any] = []

    def create() -> None:
        got.append(emulated.client().v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "one"}))

    first = threading.Thread(target=create)
    first.start()
    time.sleep(0.2)
    with pytest.raises(stripe.APIError) as refused:
        emulated.client().v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "one"})
    first.join()

    assert (refused.value.http_status, refused.value.error.code) == (409, "idempotency_key_in_use")
    assert [customer.id for customer in emulated.client().v1.customers.list().data] == [got[0].id]


def test_keys_are_forgotten_after_a_day(emulated: StripeHandle) -> None:
    """The next day the same key is a new request."""
    client = emulated.client()
    first = client.v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "one"})
    emulated.control("POST", "clock", {"advance_s": 86_401})

    assert client.v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "one"}).id != first.id


# faults


def test_faults_are_the_sdks_errors(emulated: StripeHandle) -> None:
    """429, 500, a reset, a proxy's page: each is its own class."""
    client = emulated.client()
    for fault, kind in [("rate_limit", stripe.RateLimitError), ("server_error", stripe.APIError),
                        ("reset", stripe.APIConnectionError), ("not_json", stripe.APIError)]:  # fmt: skip
        emulated.fault(fault)
        with pytest.raises(kind):
            client.v1.customers.create({"email": "a@example.com"})

    assert client.v1.customers.list().data == []


def test_silence_ends_in_a_timeout(emulated: StripeHandle) -> None:
    """The client's own clock has to end it."""
    emulated.fault("silence")
    client = emulated.client(http_client=stripe.RequestsClient(timeout=0.3))

    with pytest.raises(stripe.APIConnectionError):
        client.v1.customers.list()


@pytest.mark.parametrize("fault", [
    "lost_answer", {"name": "server_error", "after": True}, {"name": "error", "status": 503, "after": True}],
)  # fmt: skip
def test_an_answer_lost_after_its_effect_is_found_by_the_same_key(emulated: StripeHandle, fault: Any) -> None:
    """The retry with the same Idempotency-Key gets the first one's customer."""
    emulated.fault(fault, path="/v1/customers", method="POST")
    with pytest.raises((stripe.APIConnectionError, stripe.APIError)):
        emulated.client().v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "one"})

    made = emulated.client().v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "one"})

    assert [customer.id for customer in emulated.client().v1.customers.list().data] == [made.id]


def test_the_sdks_own_retries_make_one_of_it(emulated: StripeHandle) -> None:
    """It repeats with one key by itself."""
    emulated.fault("lost_answer", path="/v1/customers")

    made = emulated.client(retries=2).v1.customers.create({"email": "a@example.com"})

    assert [customer.id for customer in emulated.client().v1.customers.list().data] == [made.id]


def test_a_clock_under_way_lets_nobody_touch_its_objects(shop: Shop, emulated: StripeHandle) -> None:
    """429 until it is ready, and not further than two periods at once."""
    clock = shop.clock(at(2027, 3, 15))
    customer = shop.customer(clock=clock)
    sub = shop.subscribe(customer, shop.price(500))
    with pytest.raises(stripe.InvalidRequestError, match="two intervals"):
        shop.v1.test_helpers.test_clocks.advance(clock, {"frozen_time": at(2027, 6, 15)})
    emulated.set(advance_s=0.5)

    moving = shop.v1.test_helpers.test_clocks.advance(clock, {"frozen_time": at(2027, 4, 1)})
    with pytest.raises(stripe.RateLimitError):
        shop.v1.subscriptions.update(sub.id, {"metadata": {"a": "b"}})

    assert (moving.status, moving.status_details.advancing.target_frozen_time) == ("advancing", at(2027, 4, 1))


def test_a_reset_ends_what_was_under_way(emulated: StripeHandle) -> None:
    """Ids start over with the seed: an old clock's arrival must not move the new clock with its id."""
    found = []
    for advance_s in (0.2, 5.0):
        emulated.reset()
        emulated.set(advance_s=advance_s)
        clocks = emulated.client().v1.test_helpers.test_clocks
        found.append(clocks.create({"frozen_time": at(2027, 3, 15)}).id)
        clocks.advance(found[-1], {"frozen_time": at(2027, 4, 15)})
    time.sleep(0.4)

    assert found[0] == found[1]
    assert clocks.retrieve(found[1]).status == "advancing"


def test_the_accounts_own_time_renews_too(shop: Shop, emulated: StripeHandle) -> None:
    """Without a test clock: the control API moves the account, and what is due happens on the way."""
    sub = shop.subscribe(shop.customer(), shop.price(500))

    moved = emulated.control("POST", "clock", {"advance_s": 32 * 86_400, "frozen": True})

    assert moved["done"] == 2
    assert [invoice.status for invoice in shop.invoices(sub.id)] == ["paid", "paid"]
    assert emulated.control("GET", "clock")["now"] == moved["now"]


# lists and expansion


def test_lists_page_both_ways(shop: Shop, emulated: StripeHandle) -> None:
    """Newest first; `starting_after` and `ending_before` meet without gap or overlap."""
    made = [shop.v1.customers.create({"email": f"{n}@example.com"}).id for n in range(7)]

    first = shop.v1.customers.list({"limit": 3})
    second = shop.v1.customers.list({"limit": 3, "starting_after": first.data[-1].id})
    back = shop.v1.customers.list({"limit": 3, "ending_before": second.data[0].id})
    everything = [c.id for c in shop.v1.customers.list({"limit": 2}).auto_paging_iter()]

    assert everything == made[::-1]
    assert ([c.id for c in first.data], first.has_more) == (made[:3:-1], True)
    assert [c.id for c in back.data] == [c.id for c in first.data]
    assert [c.email for c in shop.v1.customers.list({"email": "3@example.com"}).data] == ["3@example.com"]
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.customers.list({"limit": 101})


def test_events_are_listed_by_type_and_time_for_thirty_days(shop: Shop, emulated: StripeHandle) -> None:
    """What a reconciliation asks for, and how far back it can."""
    shop.v1.customers.create({"email": "old@example.com"})
    emulated.control("POST", "clock", {"advance_s": 20 * 86_400})
    half = emulated.control("GET", "clock")["now"]
    shop.v1.customers.create({"email": "new@example.com"})
    shop.v1.products.create({"name": "A"})

    def emails(**params: Any) -> list[str]:
        found = shop.v1.events.list({"types": ["customer.created"], **params})
        return [event.data.object["email"] for event in found.data]

    assert emails() == ["new@example.com", "old@example.com"]
    assert emails(created={"gte": half - 5}) == ["new@example.com"]
    assert emails(created={"lt": half - 5}) == ["old@example.com"]
    emulated.control("POST", "clock", {"advance_s": 11 * 86_400})
    assert emails() == ["new@example.com"]


def test_expansion_goes_where_there_is_something(shop: Shop) -> None:
    """Ids become objects, in lists too; what cannot be expanded is refused."""
    customer = shop.customer()
    sub = shop.subscribe(customer, shop.price(500))

    paths = ["data.customer", "data.latest_invoice.payments"]
    found = shop.v1.subscriptions.list({"customer": customer, "expand": paths})
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.subscriptions.retrieve(sub.id, {"expand": ["colour"]})

    assert found.data[0].customer.email == "buyer@example.com"
    assert found.data[0].latest_invoice.payments.data[0].amount_paid == 500
    assert isinstance(shop.v1.subscriptions.retrieve(sub.id).customer, str)


def test_metadata_is_laid_over(shop: Shop) -> None:
    """A key is replaced, an empty value removes it, and the limits hold."""
    customer = shop.v1.customers.create({"metadata": {"a": "1", "b": "2"}})

    changed = shop.v1.customers.update(customer.id, {"metadata": {"b": "", "c": "3"}})
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.customers.update(customer.id, {"metadata": {"a": "x" * 501}})

    assert changed.metadata.to_dict() == {"a": "1", "c": "3"}


def test_a_deleted_customer_is_still_a_fact(shop: Shop) -> None:
    """Its subscriptions end; it answers as deleted."""
    customer = shop.customer()
    sub = shop.subscribe(customer, shop.price(500))

    shop.v1.customers.delete(customer)

    assert shop.v1.customers.retrieve(customer).deleted is True
    assert shop.v1.subscriptions.retrieve(sub.id).status == "canceled"
