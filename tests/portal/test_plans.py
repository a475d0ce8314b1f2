"""Plans & Pricing: every state of the add-on, both ways of paying, and who sees what of it."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.control.house import ACTOR, KEYS
from tests.control.stripe_script import ScriptedStripe
from tests.portal.visiting import Portal, Seen, open_portal

from ownkey.control.own_address import OwnAddress
from ownkey.domain.workspace import EntitlementState, Role

CARD = """
[billing]
return_urls = ["https://app.test/billing"]
[billing.packs.small]
credits = 1000
cents = 1000
[billing.packs.large]
credits = 12000
cents = 9900
"""
CREDITS = """
[billing]
rail = "credits"
addon_credits = 40
"""
HOST = """
[billing]
rail = "host"
host_url = "https://app.test/our-billing"
"""
ITEM = "Power your AI with OpenRouter – $5 Add-on"
DAY_S = 86_400


class Shop:
    """A portal with a Stripe beside it; both clocks move together."""

    def __init__(self, portal: Portal, stripe: ScriptedStripe) -> None:
        self.portal = portal
        self.stripe = stripe
        self.delivered = 0

    def pass_days(self, days: float) -> None:
        self.portal.control.clock.pass_s(days * DAY_S)
        self.stripe.now_ms = self.portal.control.clock.at_ms

    async def deliver(self) -> None:
        for event in self.stripe.events[self.delivered:]:
            await self.portal.control.desk.payment_events.receive(event.id.encode(), "")
        self.delivered = len(self.stripe.events)

    async def page(self, role: Role = Role.OWNER) -> Seen:
        return await self.portal.get("/portal/plans", role)

    async def subscribed(self) -> str:
        """Paid; the subscription."""
        await self.portal.post("/portal/plans/subscribe")
        self.stripe.pay(self.stripe.created[-1])
        await self.deliver()
        return list(self.stripe.subscriptions)[-1]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    stripe = ScriptedStripe()
    async with open_portal(tmp_path, "app-builder", extra=CARD, payments=stripe) as portal:
        platform = await portal.control.desk.workspaces.platform(ACTOR)
        await portal.control.desk.credentials.save(
            platform, "openrouter", KEYS["openrouter"], label="", save_anyway=False, address="192.0.2.1", actor=ACTOR
        )
        yield Shop(portal, stripe)
        assert list(await portal.control.store.verify(portal.control.clock.at_ms)) == []


def card(seen: Seen) -> str:
    """The add-on's card, as HTML."""
    found = re.search(r'<section class="card" id="addon".*?</section>\s*(?=<section|</main>)', seen.html, re.S)
    assert found is not None, seen.text[:400]
    return found[0]


def state(seen: Seen) -> str:
    found = re.search(r'data-state="(\w+)"', card(seen))
    assert found is not None
    return found[1]


def primaries(seen: Seen) -> list[str]:
    """The add-on card's primary actions, by their words."""
    return re.findall(r'class="(?:button )?primary"[^>]*>([^<]+)<', card(seen))


async def test_everything_is_said_before_payment(shop: Shop) -> None:
    """G6, G8, G12, G13: the item by its exact name, price, what it covers, the minimum balance against yours."""
    seen = await shop.page()

    assert state(seen) == "not_subscribed"
    assert ITEM in seen.text
    assert "US$5.00 a month" in seen.text
    assert "the usage is billed by OpenRouter to your account there" in seen.text
    assert "at least 10 credits on the balance; yours is 50 credits" in seen.text
    assert primaries(seen) == ["Subscribe"]
    assert "Test mode" in seen.text
    assert seen.html.count("<h1") == 1
    assert shop.stripe.created == []


async def test_the_form_ends_on_a_page_of_ours_that_leads_out_at_top_level(shop: Shop) -> None:
    """Security: no form of ours is redirected to a payment site; the link leaves any frame."""
    answer = await shop.portal.post("/portal/plans/subscribe")
    seen = await shop.portal.follow(answer)

    assert answer.headers["location"] == "/portal/plans/pay?for=addon"
    assert f'href="https://pay.test/{shop.stripe.created[0]}" target="_top"' in seen.html
    assert ITEM in seen.text
    assert "US$5.00 a month" in seen.text


async def test_double_click_back_and_two_tabs_reach_one_checkout(shop: Shop) -> None:
    """G13: however often it is pressed, one page to pay on, and never two subscriptions."""
    for _ in range(4):
        await shop.portal.follow(await shop.portal.post("/portal/plans/subscribe"))

    assert len(shop.stripe.created) == 1


async def test_coming_back_confirms_and_then_leads_to_the_key(shop: Shop) -> None:
    """G7, G14: the return page asks Stripe itself; on success the add-on is active and Connect leads on."""
    await shop.portal.post("/portal/plans/subscribe")
    back = await shop.portal.get("/portal/plans?ownkey_checkout=paid")
    unpaid = await shop.portal.follow(back)
    shop.stripe.pay(shop.stripe.created[0])
    paid = await shop.portal.get(back.headers["location"])

    assert state(unpaid) == "finishing"
    assert 'http-equiv="refresh"' in unpaid.html
    assert state(paid) == "active"
    assert 'http-equiv="refresh"' not in paid.html
    assert primaries(paid) == ["Connect"]
    assert 'href="/portal/credentials#openrouter"' in card(paid)
    assert "Renews on" in paid.text
    assert "AI off" not in paid.text


async def test_a_check_without_a_payment_says_so_and_leads_on_to_the_same_page(shop: Shop) -> None:
    """Stripe says open and unpaid: nothing was paid yet, and the page that is open is one press away; no second one."""
    await shop.portal.post("/portal/plans/subscribe")
    begun = await shop.page()
    seen = await shop.portal.get(f"/portal/plans?returned=paid&since={shop.portal.control.clock.at_ms}")
    way_out = await shop.portal.follow(await shop.portal.post("/portal/plans/subscribe"))
    await shop.portal.post("/portal/plans/top-up", {"pack": "small"})
    both = await shop.portal.get(f"/portal/plans?returned=paid&since={shop.portal.control.clock.at_ms}")

    assert "I have paid: check" in begun.text
    assert "Nothing was paid yet" in card(seen)
    assert "Confirming your payment" not in seen.text
    assert primaries(seen) == ["Continue to payment"]
    assert 'http-equiv="refresh"' in seen.html
    assert 'target="_top"' in way_out.html
    assert both.text.count("Nothing was paid yet") == 2
    assert '<a href="/portal/plans/pay?for=topup">' in both.html
    assert len(shop.stripe.created) == 2


async def test_a_payment_whose_subscription_is_not_active_yet_is_waited_for(shop: Shop) -> None:
    """Section 4.7: finishing holds until the add-on is active; a press of Subscribe neither says that it is nor opens
    a second page."""
    await shop.portal.post("/portal/plans/subscribe")
    shop.stripe.pay(shop.stripe.created[0])
    subscription = list(shop.stripe.subscriptions)[-1]
    active = shop.stripe.subscriptions[subscription]
    shop.stripe.subscriptions[subscription] = replace(active, status="incomplete")
    await shop.deliver()
    back = await shop.portal.get("/portal/plans?ownkey_checkout=paid")
    waiting = await shop.portal.follow(back)
    shop.portal.control.clock.pass_s(4)
    later = await shop.portal.get(back.headers["location"])
    pressed = await shop.portal.follow(await shop.portal.post("/portal/plans/subscribe"))
    shop.stripe.subscriptions[subscription] = active
    paid = await shop.portal.follow(back)

    assert "You may leave this page" not in waiting.text
    assert "You may leave this page" in later.text
    for seen in (waiting, later, pressed):
        assert state(seen) == "finishing"
        assert "Confirming your payment" in seen.text
        assert 'http-equiv="refresh"' in seen.html
        assert primaries(seen) == []
    assert state(paid) == "active"
    assert len(shop.stripe.created) == 1


async def test_a_page_that_waits_stops_asking_after_a_while(shop: Shop) -> None:
    """A tab that is left open does not ask Stripe for ever."""
    await shop.portal.post("/portal/plans/subscribe")
    back = await shop.portal.get("/portal/plans?ownkey_checkout=paid")
    shop.portal.control.clock.pass_s(11 * 60)
    seen = await shop.portal.get(back.headers["location"])

    assert state(seen) == "finishing"
    assert 'http-equiv="refresh"' not in seen.html
    assert primaries(seen) == ["Continue to payment"]


@pytest.mark.parametrize("since", ["", "x", "-1", "9" * 40, "1e5", "%D9%A3"])
async def test_a_forged_return_address_is_only_a_page(shop: Shop, since: str) -> None:
    """Whatever the query says, only Stripe's word activates."""
    await shop.portal.post("/portal/plans/subscribe")
    seen = await shop.portal.get(f"/portal/plans?returned=paid&since={since}")

    assert seen.status == 200
    assert state(seen) == "finishing"


async def test_leaving_the_payment_page_leads_back_to_it(shop: Shop) -> None:
    """Begun and not paid: nothing was charged, and the same page is one press away."""
    await shop.portal.post("/portal/plans/subscribe")
    seen = await shop.portal.follow(await shop.portal.get("/portal/plans?ownkey_checkout=left"))

    assert state(seen) == "finishing"
    assert "without paying; nothing was charged" in seen.text
    assert primaries(seen) == ["Continue to payment"]


async def test_cancel_and_keep_ask_first(shop: Shop) -> None:
    """G25, G26: the panel says until when it works and who pays then; Keep it undoes it."""
    await shop.subscribed()
    asked = await shop.portal.get("/portal/plans/cancel")
    before = state(await shop.page())
    cancelled = await shop.portal.follow(await shop.portal.post("/portal/plans/cancel"))
    asked_keep = await shop.portal.get("/portal/plans/keep")
    kept = await shop.portal.follow(await shop.portal.post("/portal/plans/keep"))

    assert before == "active"
    assert "Cancel the add-on?" in asked.text
    assert "credits pay for every AI call" in asked.text
    assert state(cancelled) == "cancelling"
    assert "Works until" in cancelled.text
    assert primaries(cancelled) == ["Keep it"]
    assert "Keep the add-on?" in asked_keep.text
    assert state(kept) == "active"
    assert "does not renew" not in kept.text


async def test_cancelling_says_that_ai_stops_where_always_is_on(shop: Shop) -> None:
    """G17–G19: the coming payer sentence is the payer decision's own."""
    await shop.subscribed()
    control, workspace = shop.portal.control, shop.portal.workspace
    await control.desk.workspaces.change(await control.again(workspace), {"always_use_key": True}, ACTOR)
    asked = await shop.portal.get("/portal/plans/cancel")

    assert "After that: OpenRouter is not enabled for this workspace" in asked.text


async def test_past_due_then_inactive_then_paid_again(shop: Shop) -> None:
    """Money, section 8: failed on, works until the end of grace, update the card; kept, not used; works again."""
    subscription = await shop.subscribed()
    await shop.portal.control.save_key(shop.portal.workspace)
    shop.pass_days(31)
    shop.stripe.renew(subscription, ok=False)
    await shop.deliver()
    owed = await shop.page()
    way_out = await shop.portal.get("/portal/plans/card")
    shop.pass_days(4)
    over = await shop.page()
    shop.stripe.pay_late(subscription)
    await shop.deliver()
    again = await shop.page()

    assert state(owed) == "past_due"
    assert "Payment failed on" in owed.text
    assert "Works until" in owed.text
    assert primaries(owed) == ["Update card"]
    assert 'target="_top"' in way_out.html
    assert "https://portal.test/" in way_out.html
    assert state(over) == "inactive"
    assert "Kept encrypted and not used" in over.text
    assert "credits pay for every AI call" in over.text
    assert primaries(over) == ["Subscribe"]
    assert state(again) == "active"
    assert "Open the key" in again.text


async def test_stripe_out_of_reach_leaves_the_add_on_alone(shop: Shop) -> None:
    """Billing unreachable: said as such, with Retry; the books still show the state."""
    shop.stripe.down = True
    seen = await shop.portal.post("/portal/plans/subscribe")
    await_page = await shop.page()
    shop.stripe.down = False
    await shop.subscribed()
    shop.stripe.down = True
    returned = await shop.portal.get("/portal/plans?returned=paid&since=1")
    card_page = await shop.portal.get("/portal/plans/card")

    assert seen.status == 503
    assert "Your add-on is unaffected" in seen.text
    assert ">Retry</a>" in seen.html
    assert await_page.status == 200
    assert state(returned) == "active"
    assert card_page.status == 503
    assert state(card_page) == "active"


async def test_an_add_on_that_runs_cannot_be_bought_twice(shop: Shop) -> None:
    """An old tab's Subscribe after payment: refused in words, nothing opened."""
    await shop.subscribed()
    opened = len(shop.stripe.created)
    seen = await shop.portal.post("/portal/plans/subscribe")

    assert seen.status == 409
    assert "active already" in seen.text
    assert len(shop.stripe.created) == opened


async def test_a_pack_of_credits_is_bought_like_the_add_on(shop: Shop) -> None:
    """G30: top-ups by card; they arrive when Stripe says so, and stand among the payments."""
    before = await shop.page()
    step = await shop.portal.post("/portal/plans/top-up", {"pack": "small"})
    way_out = await shop.portal.follow(step)
    shop.stripe.pay(shop.stripe.created[0])
    back = await shop.portal.follow(await shop.portal.get("/portal/plans?ownkey_checkout=paid"))
    unknown = await shop.portal.post("/portal/plans/top-up", {"pack": "<b>smal"})

    assert ("1,000 credits" in before.text, "US$99.00" in before.text) == (True, True)
    assert "US$10.00" in way_out.text
    assert 'target="_top"' in way_out.html
    assert "Your balance is 1,050 credits" in back.text
    assert "Payments" in back.text
    assert unknown.status == 400
    assert "<b>smal" not in unknown.html


async def test_credits_whose_payment_takes_its_time_are_waited_for(shop: Shop) -> None:
    """A payment that a bank still works on: confirming, and a second press neither says paid nor opens a page."""
    await shop.portal.post("/portal/plans/top-up", {"pack": "small"})
    checkout = shop.stripe.created[0]
    shop.stripe.checkouts[checkout] = replace(shop.stripe.checkouts[checkout], status="complete")
    pressed = await shop.portal.follow(await shop.portal.post("/portal/plans/top-up", {"pack": "small"}))
    shop.stripe.pay(checkout)
    paid = await shop.portal.follow(await shop.portal.get("/portal/plans?ownkey_checkout=paid"))

    assert "Confirming your payment with Stripe" in pressed.text
    assert "was made already" not in pressed.text
    assert "Your balance is 50 credits" in pressed.text
    assert 'http-equiv="refresh"' in pressed.html
    assert "Your balance is 1,050 credits" in paid.text
    assert 'http-equiv="refresh"' not in paid.html
    assert len(shop.stripe.created) == 1


async def test_the_return_address_is_ours_in_a_page_and_the_hosts_in_a_frame(shop: Shop) -> None:
    """Section 7: people come back where they came from, and a payment page leads nowhere else."""
    await shop.portal.post("/portal/plans/subscribe")
    orders = await shop.portal.control.store.load_orders(shop.portal.workspace.id)
    own = shop.portal.control.desk.billing.own_page

    assert own == "https://ownkey.test/portal/plans"
    assert orders[0].return_url == own

    shop.portal.more = {"mode": "frame", "return_url": "https://app.test/billing"}
    await shop.portal.post("/portal/plans/top-up", {"pack": "small"})
    framed = (await shop.portal.control.store.load_orders(shop.portal.workspace.id))[0]
    shop.portal.more = {"mode": "frame", "return_url": "https://elsewhere.test/"}
    await shop.portal.post("/portal/plans/top-up", {"pack": "large"})
    foreign = (await shop.portal.control.store.load_orders(shop.portal.workspace.id))[0]

    assert framed.return_url == "https://app.test/billing"
    assert foreign.return_url == "https://app.test/billing"


async def test_an_enterprise_plan_has_nothing_to_buy(tmp_path: Path) -> None:
    """G5, G11: included; Connect."""
    async with open_portal(tmp_path, "app-builder", extra=CARD, payments=ScriptedStripe()) as portal:
        await portal.control.desk.workspaces.change(portal.workspace, {"plan": "enterprise"}, ACTOR)
        seen = await portal.get("/portal/plans")
        asked = await portal.get("/portal/plans/subscribe")
        forced = await portal.post("/portal/plans/subscribe")

    assert state(seen) == "included"
    assert "Included in your plan" in seen.text
    assert primaries(seen) == ["Connect"]
    assert "Enterprise Your plan Included" in seen.text
    assert asked.headers["location"] == "/portal/plans"
    assert forced.status == 409


async def test_paying_with_credits_asks_first_and_takes_them_once(tmp_path: Path) -> None:
    """Credits rail: the price in credits, a panel before they are taken, and a second press takes nothing more."""
    async with open_portal(tmp_path, "app-builder", extra=CREDITS) as portal:
        seen = await portal.get("/portal/plans")
        asked = await portal.get("/portal/plans/subscribe")
        done = await portal.follow(await portal.post("/portal/plans/subscribe"))
        await portal.post("/portal/plans/subscribe")
        wallet = await portal.control.desk.credits.show(portal.workspace)
        low = await portal.get("/portal/plans")

    assert "40 credits a month" in seen.text
    assert "US$" not in card(seen)
    assert "Always use this key does not stop the monthly fee" in seen.text
    assert primaries(seen) == ["Subscribe"]
    assert "taken now, from a balance of 50 credits" in asked.text
    assert "The OpenRouter add-on is active. Connect" in done.text
    assert wallet.balance_credits == 10
    assert state(low) == "active"


async def test_too_few_credits_are_said_and_nothing_is_taken(tmp_path: Path) -> None:
    """Too few: no debt, and the page says how many are missing."""
    async with open_portal(tmp_path, "app-builder", extra=CREDITS.replace("40", "400")) as portal:
        seen = await portal.post("/portal/plans/subscribe")
        wallet = await portal.control.desk.credits.show(portal.workspace)

    assert seen.status == 402
    assert "costs 400 credits a month, and 50 are on the balance" in seen.text
    assert wallet.balance_credits == 50


async def test_a_host_that_sells_itself_is_linked(tmp_path: Path) -> None:
    """Host-managed: the link leads to the host's own billing, out of the frame."""
    async with open_portal(tmp_path, "app-builder", extra=HOST) as portal:
        seen = await portal.get("/portal/plans")

    assert state(seen) == "host_managed"
    assert 'href="https://app.test/our-billing" target="_top"' in seen.html


async def test_a_low_balance_is_said(shop: Shop) -> None:
    """G8: below the minimum, before and after the purchase."""
    control = shop.portal.control
    await control.desk.workspaces.set_entitlement(shop.portal.workspace, EntitlementState.ACTIVE, ACTOR)
    poor = await control.workspace("Poor", external_id="poor", plan="starter")
    shop.portal.workspace = poor
    seen = await shop.page()

    assert "at least 10 credits on the balance; yours is 0 credits" in seen.text
    assert "Your balance is below the minimum" in seen.text


POSTS = ("subscribe", "top-up", "cancel", "keep")
GETS = ("pay?for=addon", "card", "subscribe", "cancel", "keep")


@pytest.mark.parametrize("role", Role)
async def test_every_role_gets_its_cell(shop: Shop, role: Role) -> None:
    """Section 2: owner and admin manage, viewers read, members have no such page; also behind every form."""
    await shop.subscribed()
    told = len(shop.stripe.told)
    seen = await shop.portal.get("/portal/plans", role)
    manages = role in (Role.OWNER, Role.ADMIN)

    assert seen.status == (403 if role is Role.MEMBER else 200)
    if role is Role.VIEWER:
        assert "Owners and admins of this workspace manage it" in seen.text
        leave = r'<form method="post" action="/portal/leave">.*?</form>'
        assert "<form" not in re.sub(leave, "", seen.html, flags=re.S)
    if role is Role.MEMBER:
        assert "credits" not in seen.text
        assert "Ask an owner or an admin" in seen.text
    if not manages:
        for path in POSTS:
            assert (await shop.portal.post(f"/portal/plans/{path}", role=role)).status == 403
        for path in GETS:
            assert (await shop.portal.get(f"/portal/plans/{path}", role)).status == 403
        assert len(shop.stripe.told) == told


async def test_an_operator_who_looks_changes_nothing(shop: Shop) -> None:
    """View as: the owner's page without its forms; what a page would ask of Stripe is not asked either."""
    await shop.portal.post("/portal/plans/subscribe")
    shop.stripe.pay(shop.stripe.created[0])
    shop.portal.more = {"kind": "view_as", "member_id": "op_1"}
    seen = await shop.portal.get(f"/portal/plans?returned=paid&since={shop.portal.control.clock.at_ms}")
    refused = await shop.portal.post("/portal/plans/subscribe")

    assert state(seen) == "finishing"
    assert refused.status == 403


async def test_no_key_and_no_card_stands_in_the_page(shop: Shop) -> None:
    """The page knows a credential only by whether there is one."""
    await shop.portal.control.save_key(shop.portal.workspace)
    seen = await shop.page()

    assert KEYS["openrouter"] not in seen.html
    assert KEYS["openrouter"][-8:] not in seen.html


def test_our_own_page_is_only_known_where_the_server_is() -> None:
    """No public address, not listening: nowhere to return to."""
    assert OwnAddress("").url == ""
