"""Signed deliveries, their retries, and the chaos sender against receivers that verify and receivers that do not."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import stripe
from stripe_shop import Shop

from ownkey.emulator.stripe import chaos
from ownkey.emulator.stripe.chaos import GENUINE, Kind, Plan
from ownkey.emulator.stripe.webhooks import signed
from stripe_process import StripeHandle

SECRET = "whsec_" + "k" * 32


class Receiver:
    """A webhook endpoint. It keeps what it took; `answers` are statuses given before it works, first come."""

    def __init__(self) -> None:
        self.secret = SECRET
        self.answers: list[int] = []
        self.verifies = True
        self.taken: list[Any] = []
        self.tries = 0
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(receiver.take(body, self.headers.get("stripe-signature"), len(body)))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/webhooks"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def take(self, body: bytes, header: str | None, length: int) -> int:
        """Verify as the SDK does, then insist on the mode and the account."""
        with self._lock:
            self.tries += 1
            if self.answers:
                return self.answers.pop(0)
            if not self.verifies:
                return 200
            try:
                event = stripe.Webhook.construct_event(body, header, self.secret)
            except (stripe.SignatureVerificationError, ValueError):
                return 400
            if event.livemode or getattr(event, "account", None):
                return 400
            self.taken.append(event)
            return 200

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def listen(shop: Shop, receiver: Receiver, *kinds: str) -> Any:
    """Register the receiver and tell it its secret."""
    made = shop.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": list(kinds) or ["*"]})
    receiver.secret = made.secret
    return made


def test_a_delivery_is_signed_and_the_secret_is_shown_once(
    shop: Shop, emulated: StripeHandle, receiver: Receiver
) -> None:
    """The SDK verifies the raw bytes; a later retrieve does not show the secret again."""
    made = listen(shop, receiver, "customer.created", "product.created")

    customer = shop.v1.customers.create({"email": "é@example.com", "metadata": {"workspace": "ws_1"}})
    shop.v1.prices.create({"product_data": {"name": "A"}, "currency": "usd", "unit_amount": 1})
    emulated.quiet()

    assert made.secret.startswith("whsec_")
    assert len(made.secret) >= 32
    assert not hasattr(shop.v1.webhook_endpoints.retrieve(made.id), "secret")
    assert sorted(event.type for event in receiver.taken) == ["customer.created", "product.created"]
    event = next(event for event in receiver.taken if event.type == "customer.created")
    assert event.data.object["email"] == "é@example.com"
    assert event.request.idempotency_key
    assert event.api_version == "2026-10-28.endive"
    found = shop.v1.events.retrieve(event.id)
    assert (found.data.object["id"], found.pending_webhooks) == (customer.id, 0)


def test_a_delivery_is_repeated_until_it_is_taken(shop: Shop, emulated: StripeHandle, receiver: Receiver) -> None:
    """500, a redirect, then 200: three tries of the same event; until then it is pending."""
    emulated.set(webhook_retry_s=[0.1, 0.1, 5.0])
    listen(shop, receiver, "customer.created")
    receiver.answers = [500, 302]

    shop.v1.customers.create({"email": "a@example.com"})
    emulated.quiet()

    log = emulated.control("GET", "deliveries")["deliveries"]
    assert [(entry["attempt"], entry["status"]) for entry in log] == [(1, 500), (2, 302), (3, 200)]
    assert len(receiver.taken) == 1
    assert shop.v1.events.list({"type": "customer.created"}).data[0].pending_webhooks == 0


def test_an_event_nobody_took_stays_in_the_list(shop: Shop, emulated: StripeHandle, receiver: Receiver) -> None:
    """Retries end; the events list knows what was missed, and it can be sent again."""
    emulated.set(webhook_retry_s=[0.05])
    listen(shop, receiver, "customer.created")
    receiver.answers = [503, 503]
    shop.v1.customers.create({"email": "a@example.com"})
    emulated.quiet()

    missed = shop.v1.events.list({"delivery_success": False}).data
    assert [event.type for event in missed] == ["customer.created"]
    emulated.control("POST", "deliveries/again", {"event": missed[0].id})
    emulated.quiet()

    assert [event.id for event in receiver.taken] == [missed[0].id]


def test_a_known_secret_and_its_successor(shop: Shop, emulated: StripeHandle, receiver: Receiver) -> None:
    """While a secret is rolled, a delivery verifies with the old and with the new one."""
    asked = {"url": receiver.url, "secret": SECRET, "events": ["customer.created"]}
    made = emulated.control("POST", "endpoints", asked)
    new = "whsec_" + "n" * 32
    for body, believes in (({"keep_old": True}, SECRET), ({"keep_old": True}, new), ({}, new)):
        emulated.control("POST", "endpoints/roll", {"endpoint": made["id"], "secret": new, **body})
        receiver.secret = believes
        shop.v1.customers.create({"email": "a@example.com"})
        emulated.quiet()
        emulated.control("POST", "endpoints/roll", {"endpoint": made["id"], "secret": SECRET})

    assert len(receiver.taken) == 3


def test_disabled_deleted_and_other_types_are_not_told(shop: Shop, emulated: StripeHandle, receiver: Receiver) -> None:
    """Only what an endpoint asked for, while it is enabled."""
    made = listen(shop, receiver, "product.created")
    shop.v1.customers.create({"email": "a@example.com"})
    shop.v1.webhook_endpoints.update(made.id, {"disabled": True})
    shop.v1.products.create({"name": "A"})
    shop.v1.webhook_endpoints.delete(made.id)
    emulated.quiet()

    assert receiver.tries == 0
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.webhook_endpoints.create({"url": "example.com/hook", "enabled_events": ["*"]})


def test_webhooks_can_be_lost(shop: Shop, emulated: StripeHandle, receiver: Receiver) -> None:
    """Nothing is delivered, yet the events are there for who asks."""
    listen(shop, receiver)
    emulated.set(webhooks_on=False)

    shop.v1.customers.create({"email": "a@example.com"})
    emulated.quiet()

    assert receiver.tries == 0
    assert shop.event_types()[-1] == "customer.created"


# the chaos sender


def bought(shop: Shop, emulated: StripeHandle) -> list[dict[str, Any]]:
    """The events of a bought and renewed subscription."""
    shop.subscribe(shop.customer(), shop.price(500))
    emulated.control("POST", "clock", {"advance_s": 32 * 86_400})
    return list(emulated.control("GET", "objects?kind=event")["objects"])


def test_a_receiver_that_verifies_takes_what_is_genuine(
    shop: Shop, emulated: StripeHandle, receiver: Receiver
) -> None:
    """Every genuine letter 200, every false one 400, and every event has come at least once."""
    events = bought(shop, emulated)

    report = emulated.control("POST", "chaos", {"url": receiver.url, "secret": SECRET, "seed": 5})

    assert report["wrong"] == []
    assert set(report["kinds"]) == {kind.value for kind in Kind}
    assert {tuple(report["kinds"][kind.value]) for kind in GENUINE} == {("200",)}
    assert {tuple(report["kinds"][kind.value]) for kind in set(Kind) - GENUINE} == {("400",)}
    assert {event.id for event in receiver.taken} == {event["id"] for event in events}
    assert len(receiver.taken) > len(events)
    order = [event.id for event in receiver.taken]
    assert list(dict.fromkeys(order)) != [event["id"] for event in events]


def test_a_receiver_that_believes_everything_is_caught(
    shop: Shop, emulated: StripeHandle, receiver: Receiver
) -> None:
    """The report names every false kind that was taken."""
    receiver.verifies = False
    bought(shop, emulated)

    report = emulated.control("POST", "chaos", {"url": receiver.url, "secret": SECRET, "seed": 5})

    assert {line.partition(":")[0] for line in report["wrong"]} == {kind.value for kind in set(Kind) - GENUINE}


def test_a_seed_repeats_its_letters() -> None:
    """The same bytes in the same order; another seed, another order."""
    events = [
        {"id": f"evt_{n}", "object": "event", "livemode": False, "data": {"object": {"amount": n}}} for n in range(12)
    ]

    one, again = (chaos.letters(events, Plan("http://x", SECRET, 3), 1_800_000_000) for _ in range(2))
    other = chaos.letters(events, Plan("http://x", SECRET, 4), 1_800_000_000)

    assert one == again
    assert one != other
    for event in events:
        assert any(letter.genuine and letter.event == event["id"] for letter in one)


def test_only_genuine_letters_verify() -> None:
    """Judged by the SDK: a false letter is never both well signed and of this account and mode."""
    event = {"id": "evt_1", "object": "event", "livemode": False, "data": {"object": {"amount": 5}}}
    for letter in chaos.letters([event] * 6, Plan("http://x", SECRET, 1), int(time.time())):
        try:
            made = stripe.Webhook.construct_event(letter.body, letter.header, SECRET)
        except (stripe.SignatureVerificationError, ValueError):
            assert letter.kind not in GENUINE
        else:
            theirs = made.livemode or getattr(made, "account", None) is not None
            assert theirs == (letter.kind in (Kind.WRONG_MODE, Kind.WRONG_ACCOUNT))


def test_the_signature_is_the_sdks() -> None:
    """Byte for byte what the SDK computes."""
    body = '{"id": "evt_1", "text": "é"}'

    ours = signed(body.encode(), SECRET, 1_800_000_000)

    assert ours == stripe.WebhookSignature.generate_signature_header(body, SECRET, 1_800_000_000)


def test_the_sender_runs_from_the_command_line(
    shop: Shop, emulated: StripeHandle, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 0 where all was right, 1 where something false was taken."""
    shop.v1.customers.create({"email": "a@example.com"})
    call = ["--emulator", emulated.url, "--to", receiver.url, "--secret", SECRET, "--seed", "2"]

    good = chaos.main(call)
    receiver.verifies = False
    bad = chaos.main(call)

    assert (good, bad) == (0, 1)
    assert '"seed": 2' in capsys.readouterr().out
