"""Plans & Pricing against an emulated Stripe, through Stripe's own library: from Subscribe to Connect, and back."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.control.house import ACTOR, KEYS
from tests.portal.test_plans import CARD, ITEM, card, primaries, state
from tests.portal.visiting import Portal, open_portal
from tests.stripe_process import KEY, StripeHandle, start_stripe

from ownkey.payments.stripe_payments import StripePayments

SECRET = "whsec_" + "a7Bc" * 10


@pytest.fixture(scope="module")
def stripe() -> Iterator[StripeHandle]:
    handle = start_stripe(seed=11)
    yield handle
    handle.stop()


@pytest.fixture
async def portal(tmp_path: Path, stripe: StripeHandle) -> AsyncIterator[Portal]:
    stripe.reset()
    payments = StripePayments(
        api_key=KEY, secrets=(SECRET,), instance="inst_1", api_url=stripe.url, product_name=ITEM, timeout_s=5
    )
    async with open_portal(tmp_path, "app-builder", extra=CARD, payments=payments) as opened:
        platform = await opened.control.desk.workspaces.platform(ACTOR)
        await opened.control.desk.credentials.save(
            platform, "openrouter", KEYS["openrouter"], label="", save_anyway=False, address="192.0.2.1", actor=ACTOR
        )
        yield opened
        await payments.aclose()


async def way_out(portal: Portal, path: str, **form: str) -> str:
    """Press a button; the address that the next page's link leads to."""
    seen = await portal.follow(await portal.post(path, form))
    found = re.search(r'href="(http[^"]+)" target="_top" rel="noreferrer"', seen.html)
    assert found is not None, seen.text
    return found[1].replace("&amp;", "&")


async def test_from_subscribe_to_connect(portal: Portal, stripe: StripeHandle) -> None:
    """G13, G14: Subscribe → Stripe's page, which names the item → paid → back on our page → active, Connect."""
    url = await way_out(portal, "/portal/plans/subscribe")
    page = stripe.browse(url)
    paid = stripe.pay(url)
    back = paid.location.removeprefix("https://ownkey.test")
    seen = await portal.follow(await portal.get(back))

    assert ITEM in page.text
    assert back == "/portal/plans?ownkey_checkout=paid"
    assert state(seen) == "active"
    assert primaries(seen) == ["Connect"]
    assert "US$5.00" in seen.text


async def test_a_declined_card_stays_at_stripe_and_enables_nothing(portal: Portal, stripe: StripeHandle) -> None:
    """A first payment that fails never activates, whatever address somebody opens."""
    url = await way_out(portal, "/portal/plans/subscribe")
    declined = stripe.pay(url, card="4000000000000002")
    seen = await portal.get("/portal/plans?returned=paid&since=1")
    again = await way_out(portal, "/portal/plans/subscribe")

    assert declined.error
    assert state(seen) == "finishing"
    assert again == url


async def test_card_and_invoices_open_at_stripe(portal: Portal, stripe: StripeHandle) -> None:
    """The customer portal's address leads out of the frame, and its page comes back to ours."""
    stripe.pay(await way_out(portal, "/portal/plans/subscribe"))
    await portal.get("/portal/plans?returned=paid&since=1")
    seen = await portal.get("/portal/plans/card")
    found = re.search(r'href="(http[^"]+)" target="_top" rel="noreferrer"', seen.html)

    assert found is not None
    assert stripe.browse(found[1]).status == 200


async def test_cancel_and_keep_reach_stripe(portal: Portal, stripe: StripeHandle) -> None:
    """G25, G26: what the page says is what the subscription does."""
    stripe.pay(await way_out(portal, "/portal/plans/subscribe"))
    await portal.get("/portal/plans?returned=paid&since=1")
    cancelled = await portal.follow(await portal.post("/portal/plans/cancel"))
    told = [row["cancel_at_period_end"] for row in stripe.client().v1.subscriptions.list().to_dict()["data"]]
    kept = await portal.follow(await portal.post("/portal/plans/keep"))

    assert state(cancelled) == "cancelling"
    assert told == [True]
    assert state(kept) == "active"
    assert "Renews on" in card(kept)


async def test_credits_arrive_after_payment(portal: Portal, stripe: StripeHandle) -> None:
    """G30: a pack, paid at Stripe, on the balance when people come back."""
    url = await way_out(portal, "/portal/plans/top-up", pack="small")
    paid = stripe.pay(url)
    seen = await portal.follow(await portal.get(paid.location.removeprefix("https://ownkey.test")))

    assert "Your balance is 1,050 credits" in seen.text
