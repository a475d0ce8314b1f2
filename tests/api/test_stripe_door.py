"""The webhook's address and the buying routes: signed bytes only; one Idempotency-Key, one effect, one body (M17)."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe
from tests.api.management import open_management
from tests.control.house import House, open_house
from tests.control.stripe_script import ScriptedStripe

from ownkey.api.stripe_door import BODY_LIMIT_BYTES, PATH, StripeDoor
from ownkey.payments.stripe_payments import StripePayments

SECRET = "whsec_" + "a7Bc" * 10
BILLING = """
[billing]
return_urls = ["https://app.test/billing"]
[billing.packs.small]
credits = 1000
cents = 1000
"""


class Door:
    def __init__(self, house: House) -> None:
        self.house = house
        transport = httpx.ASGITransport(app=StripeDoor(house.desk.payment_events))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://ownkey.test", trust_env=False)

    async def post(self, body: bytes, *headers: str, method: str = "POST") -> httpx.Response:
        return await self.client.request(
            method, PATH, content=body, headers=[("stripe-signature", header) for header in headers]
        )

    def event(self, kind: str, **changes: Any) -> tuple[bytes, str]:
        at = self.house.clock.at_ms // 1_000
        body = json.dumps({
            "id": "evt_1", "object": "event", "type": kind, "created": at, "livemode": False,
            "data": {"object": {"id": "cs_1", "object": "checkout.session"}}, **changes,
        })
        return body.encode(), str(stripe.WebhookSignature.generate_signature_header(body, SECRET, at))

    async def rows(self) -> list[tuple[str, str, int]]:
        found = await self.house.desk.payment_events.inbox(None, 100)
        return [(row["id"], row["state"], row["deliveries"]) for row in found]


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    payments = StripePayments(
        api_key="sk_test_" + "1" * 24, secrets=(SECRET,), instance="inst", product_name="Add-on",
        api_url="http://127.0.0.1:9", timeout_s=1.0,
    )
    async with open_house(tmp_path, "app-builder", extra=BILLING, payments=payments) as house:
        opened = Door(house)
        yield opened
        await opened.client.aclose()
        await payments.aclose()


async def test_a_type_that_changes_nothing_is_taken_once(door: Door) -> None:
    event = door.event("customer.created")
    answers = [await door.post(*event) for _ in range(3)]

    assert [(a.status_code, a.json()["received"]) for a in answers] == [
        (200, "ignored"), (200, "duplicate"), (200, "duplicate"),
    ]
    assert await door.rows() == [("evt_1", "ignored", 3)]


async def test_what_is_not_signed_leaves_no_trace(door: Door) -> None:
    body, header = door.event("checkout.session.completed")
    answers = [
        await door.post(body), await door.post(body, ""), await door.post(body, header, header),
        await door.post(body + b" ", header), await door.post(body, header.replace("v1=", "v1=0")),
        await door.post(*door.event("checkout.session.completed", livemode=True)),
        await door.post(*door.event("checkout.session.completed", account="acct_other")),
    ]

    assert [a.status_code for a in answers] == [400] * 7
    assert {a.json()["error"]["code"] for a in answers} == {"webhook_refused"}
    assert await door.rows() == []


async def test_stripe_not_answering_asks_for_a_repetition(door: Door) -> None:
    """A hint without its object is worth nothing: 503, and Stripe sends it again."""
    answer = await door.post(*door.event("checkout.session.completed"))

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "billing_unreachable")
    assert await door.rows() == [("evt_1", "failed", 1)]


async def test_only_posts_of_a_size(door: Door) -> None:
    got = await door.post(b"", method="GET")
    large = await door.post(b"x" * (BODY_LIMIT_BYTES + 1), "t=1,v1=0")

    assert (got.status_code, got.headers["allow"], large.status_code) == (405, "POST", 413)


async def test_without_payments_there_is_no_webhook(tmp_path: Path) -> None:
    async with open_house(tmp_path, "app-builder") as house:
        answer = await Door(house).post(b"{}", "t=1,v1=0")

    assert answer.status_code == 404


# --- buying over the API


@pytest.mark.parametrize(("path", "body"), [("subscribe", {}), ("topup", {"pack": "small"})])
async def test_one_idempotency_key_fifty_times_at_once(tmp_path: Path, path: str, body: dict[str, str]) -> None:
    """M17: one effect, the same body for everybody who asks again while it is on its way or afterwards."""
    paying = ScriptedStripe()
    async with open_management(tmp_path, "app-builder", extra=BILLING, payments=paying) as api:
        async def ask() -> httpx.Response:
            for _ in range(200):
                answer = await api.ask(
                    "POST", f"/workspaces/{api.own.id}/billing/{path}", body, idempotency_key="key-1"
                )
                if answer.status_code != 409:
                    break
                await asyncio.sleep(0.01)
            return answer

        answers = await asyncio.gather(*(ask() for _ in range(50)))

        print(f"M17 key: asked {len(answers)}, bodies {len({a.content for a in answers})}, "
              f"effects {len(paying.created)}")
        assert {a.status_code for a in answers} == {200}
        assert len({a.content for a in answers}) == 1
        assert len(paying.created) == 1
        other = await api.ask(
            "POST", f"/workspaces/{api.own.id}/billing/{path}", {**body, "return_url": "https://app.test/billing"},
            idempotency_key="key-1",
        )
        assert other.status_code == 422


async def test_pricing_says_it_all_before_the_purchase(tmp_path: Path) -> None:
    """G8: price, what it covers, and the minimum balance, before anything is paid."""
    async with open_management(tmp_path, "app-builder", extra=BILLING, payments=ScriptedStripe()) as api:
        page = await api.good("GET", "/pricing")
        state = await api.good("GET", f"/workspaces/{api.own.id}/billing")

    assert (page["addon_name"], page["addon_price"]) == ("Power your AI with OpenRouter – $5 Add-on", "US$5.00")
    assert "OpenRouter bills the usage" in page["note"]
    assert [p["minimum_balance_credits"] for p in page["plans"] if p["plan"] == "free"] == [10]
    assert page["packs"] == [{"pack": "small", "credits": 1000, "cents": "1000", "price": "US$10.00"}]
    assert (state["minimum_balance_credits"], state["balance_credits"]) == (10, 50)


async def test_operators_see_the_inbox_and_hosts_do_not(tmp_path: Path) -> None:
    paying = ScriptedStripe()
    async with open_management(tmp_path, "app-builder", extra=BILLING, payments=paying) as api:
        await api.good("POST", f"/workspaces/{api.own.id}/billing/subscribe", {})
        paying.pay(paying.created[0])
        paying.down = True
        for event in paying.events:
            await api.house.desk.payment_events.receive(event.id.encode(), "")
        failed = await api.good("GET", "/billing/events?state=failed", who="operator")
        down = await api.ask("POST", "/billing/reconcile", {}, who="operator")
        paying.down = False
        retried = await api.good("POST", f"/billing/events/{paying.events[0].id}/retry", {}, who="operator")
        found = await api.good("POST", "/billing/reconcile", {}, who="operator")
        after = await api.good("GET", "/billing/events", who="operator")
        missing = await api.ask("POST", "/billing/events/evt_none/retry", {}, who="operator")
        host = await api.ask("GET", "/billing/events")

    assert len(failed["events"]) == len(paying.events)
    assert (down.status_code, down.json()["error"]["code"]) == (503, "billing_unreachable")
    assert retried["state"] == "processed"
    assert found["failed"] == 0
    assert after["counts"]["processed"] == len(paying.events)
    assert "checkout.session.completed" in after["handled"]
    assert (missing.status_code, host.status_code) == (404, 403)
