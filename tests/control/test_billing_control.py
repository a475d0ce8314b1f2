"""Plans & Pricing: one page to pay on, what is paid works, what is not does not; the key is kept throughout."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.control.house import ACTOR, House, open_house
from tests.control.stripe_script import ScriptedStripe

from ownkey.control.billing import BillingState, PayStep
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.billing import OrderState
from ownkey.domain.entitlements import standing
from ownkey.domain.workspace import EntitlementState, WorkspaceState

BILLING = """
[billing]
return_urls = ["https://app.test/billing"]
[billing.packs.small]
credits = 1000
cents = 1000
"""
DAY_MS = 86_400_000


class Shop:
    """A house with a Stripe beside it; both clocks move together."""

    def __init__(self, house: House, stripe: ScriptedStripe) -> None:
        self.house = house
        self.stripe = stripe
        self.billing = house.desk.billing
        self.delivered = 0

    def pass_days(self, days: float) -> None:
        self.house.clock.pass_s(days * 86_400)
        self.stripe.now_ms = self.house.clock.at_ms

    def at(self, ms: int) -> None:
        self.house.clock.at_ms = self.stripe.now_ms = ms

    async def deliver(self) -> list[str]:
        """Every event that no webhook has brought yet."""
        found = []
        for event in self.stripe.events[self.delivered:]:
            found.append((await self.house.desk.payment_events.receive(event.id.encode(), "")).state)
        self.delivered = len(self.stripe.events)
        return found

    async def subscribe(self, workspace: WorkspaceState) -> PayStep:
        return await self.billing.subscribe(workspace, "", ACTOR)

    async def subscribed(self, **fields: Any) -> tuple[WorkspaceState, str]:
        """A workspace that has paid, and its subscription."""
        workspace = await self.house.workspace(**fields)
        await self.subscribe(workspace)
        self.stripe.pay(self.stripe.created[-1])
        await self.deliver()
        return workspace, list(self.stripe.subscriptions)[-1]

    def pay_slowly(self) -> str:
        """The page is done with, neither the invoice nor the subscription has heard of it yet; the subscription."""
        self.stripe.pay(self.stripe.created[-1])
        subscription, invoice = list(self.stripe.subscriptions)[-1], list(self.stripe.invoices)[-1]
        self.stripe.invoices[invoice] = replace(self.stripe.invoices[invoice], status="open", amount_paid_cents=0)
        self.stripe.subscriptions[subscription] = replace(
            self.stripe.subscriptions[subscription], status="incomplete"
        )
        return subscription

    async def entitlement(self, workspace: WorkspaceState) -> EntitlementState:
        stored = await self.house.store.load_workspace(workspace.id)
        assert stored is not None
        return standing(stored, self.house.clock.at_ms).entitlement

    async def outbox(self, workspace: WorkspaceState) -> list[str]:
        rows = await self.house.store.load_outbox(workspace.id, limit=200)
        return [row["kind"] for row in reversed(rows) if row["channel"] == "email"]

    async def assert_balanced(self) -> None:
        assert list(await self.house.store.verify(self.house.clock.at_ms)) == []


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    stripe = ScriptedStripe()
    async with open_house(tmp_path, "app-builder", extra=BILLING, payments=stripe) as house:
        shop = Shop(house, stripe)
        yield shop
        await shop.assert_balanced()


async def test_paying_enables_own_keys_and_nothing_else_does(shop: Shop) -> None:
    """G6, G12–G14: not enabled → Subscribe → paid at Stripe → enabled; a page that was only opened enables nothing."""
    workspace = await shop.house.workspace()
    before = await shop.billing.show(workspace)
    step = await shop.subscribe(workspace)
    waiting = await shop.billing.show(workspace)
    shop.stripe.pay(shop.stripe.created[0])
    unheard = await shop.entitlement(workspace)
    await shop.deliver()
    after = await shop.billing.show(workspace)

    assert (before.state, before.minimum_balance_credits, before.price_cents) == (BillingState.NOT_SUBSCRIBED, 10, 500)
    assert step.url == "https://pay.test/" + shop.stripe.created[0]
    assert waiting.state is BillingState.FINISHING
    assert unheard is EntitlementState.NONE
    assert (after.state, after.test_mode) == (BillingState.ACTIVE, True)
    assert "addon_active" in await shop.outbox(workspace)


async def test_double_click_back_and_two_tabs_reach_one_page(shop: Shop) -> None:
    """M17 for the product itself: 50 requests at once, no Idempotency-Key, one order, one page."""
    workspace = await shop.house.workspace()

    steps = await asyncio.gather(*(shop.subscribe(workspace) for _ in range(50)))

    assert {step.url for step in steps} == {f"https://pay.test/{shop.stripe.created[0]}"}
    assert len(shop.stripe.created) == 1


async def test_the_return_page_confirms_without_a_webhook(shop: Shop) -> None:
    """Either way in: what the return page has booked, the webhooks find booked."""
    workspace = await shop.house.workspace()
    await shop.subscribe(workspace)
    shop.stripe.pay(shop.stripe.created[0])

    confirmed = await shop.billing.confirm(workspace)
    again = await shop.billing.confirm(workspace)
    states = await shop.deliver()
    payments = await shop.billing.payments(workspace, 10)

    assert confirmed.state is again.state is BillingState.ACTIVE
    assert set(states) == {"processed"}
    assert [p["amount_cents"] for p in payments] == [500]
    with pytest.raises(Problem) as refused:
        await shop.subscribe(workspace)
    assert refused.value.code is ProblemCode.ADDON_EXISTS


async def test_a_first_payment_that_fails_never_activates(shop: Shop) -> None:
    """The page stays open: the next card may work."""
    workspace = await shop.house.workspace()
    await shop.subscribe(workspace)
    shop.stripe.pay(shop.stripe.created[0], ok=False)
    await shop.deliver()
    failed = await shop.entitlement(workspace)
    again = await shop.subscribe(workspace)
    shop.stripe.pay(shop.stripe.created[0])
    await shop.deliver()

    assert failed is EntitlementState.NONE
    assert again.url == f"https://pay.test/{shop.stripe.created[0]}"
    assert await shop.entitlement(workspace) is EntitlementState.ACTIVE


async def test_a_payment_is_seen_whole_while_it_is_being_booked(shop: Shop) -> None:
    """Between a webhook's commit and the caches that hear of it, a page never finds the order paid and nothing bought:
    it would offer to subscribe once more."""
    workspace = await shop.house.workspace()
    await shop.subscribe(workspace)
    shop.stripe.pay(shop.stripe.created[0])
    await shop.house.store.load_workspace(workspace.id)

    booking = asyncio.create_task(shop.deliver())
    await asyncio.sleep(0)
    ends = time.monotonic() + 5
    while (await shop.house.store.load_orders(workspace.id))[0].state is not OrderState.PAID:
        # The loop itself waits here, so that nothing but the writer's own thread goes on.
        assert time.monotonic() < ends, "the webhook was not booked"
        time.sleep(0.002)
    seen = await shop.billing.show(workspace)
    await booking

    assert seen.state is BillingState.ACTIVE


async def test_a_subscription_that_becomes_active_later_is_waited_for(shop: Shop) -> None:
    """G13: the page at Stripe is paid and the subscription not active yet: still finishing, nothing to buy again."""
    workspace = await shop.house.workspace()
    await shop.subscribe(workspace)
    subscription = shop.pay_slowly()
    await shop.deliver()
    waiting = await shop.billing.confirm(workspace)
    pressed = await shop.subscribe(workspace)
    shop.stripe.subscriptions[subscription] = replace(shop.stripe.subscriptions[subscription], status="active")
    after = await shop.billing.confirm(workspace)

    assert (waiting.state, pressed.view.state) == (BillingState.FINISHING, BillingState.FINISHING)
    assert pressed.url is None
    assert after.state is BillingState.ACTIVE
    assert len(shop.stripe.created) == 1


async def test_a_subscription_that_never_becomes_active_ends_the_waiting(shop: Shop) -> None:
    """G13: Stripe gave up on the first payment: it is not subscribed, and another page can be opened."""
    workspace = await shop.house.workspace()
    await shop.subscribe(workspace)
    subscription = shop.pay_slowly()
    await shop.deliver()
    shop.stripe.change(subscription, status="incomplete_expired")
    await shop.deliver()
    ended = await shop.billing.show(workspace)
    again = await shop.subscribe(workspace)

    assert ended.state is BillingState.NOT_SUBSCRIBED
    assert again.url == f"https://pay.test/{shop.stripe.created[1]}"


async def test_past_due_grace_inactive_renewed_and_the_key_is_kept(shop: Shop) -> None:
    """Money, section 8, by the clock alone: no job runs in between."""
    workspace, subscription = await shop.subscribed()
    await shop.house.save_key(workspace)
    shop.at(shop.stripe.subscriptions[subscription].period_end_ms)
    shop.stripe.renew(subscription, ok=False)
    await shop.deliver()
    seen = [await shop.entitlement(workspace)]
    shop.pass_days(2.9)
    seen.append(await shop.entitlement(workspace))
    with pytest.raises(Problem) as refused:
        await shop.subscribe(workspace)
    shop.pass_days(0.2)
    seen.append(await shop.entitlement(workspace))
    for _ in range(3):
        await shop.house.store.renew_addons(shop.house.clock.at_ms)
    told = await shop.outbox(workspace)
    shop.stripe.pay_late(subscription)
    await shop.deliver()
    seen.append(await shop.entitlement(workspace))
    kept = await shop.house.again(workspace)

    assert seen == [EntitlementState.GRACE, EntitlementState.GRACE, EntitlementState.INACTIVE, EntitlementState.ACTIVE]
    assert "update the card" in refused.value.message
    assert "openrouter" in kept.credentials
    assert [kind for kind in told if kind.startswith("addon")] == [
        "addon_active", "addon_payment_failed", "addon_inactive",
    ]
    assert (await shop.outbox(workspace))[-1] == "addon_active"


async def test_whoever_subscribes_again_never_pays_two(shop: Shop) -> None:
    """Inactive, while Stripe still tries the old subscription: it is ended before a new page opens."""
    workspace, old = await shop.subscribed()
    shop.at(shop.stripe.subscriptions[old].period_end_ms)
    shop.stripe.renew(old, ok=False)
    await shop.deliver()
    shop.pass_days(4)

    await shop.subscribe(workspace)
    shop.stripe.pay(shop.stripe.created[-1])
    await shop.deliver()

    living = [s.id for s in shop.stripe.subscriptions.values() if s.status == "active"]
    assert shop.stripe.told[-1][:2] == (old, "end")
    assert len(living) == 1
    assert await shop.entitlement(workspace) is EntitlementState.ACTIVE


async def test_cancelling_works_to_the_end_and_can_be_undone(shop: Shop) -> None:
    """G25: at any time; what is paid is kept; keeping it buys nothing twice."""
    workspace, subscription = await shop.subscribed()
    cancelled = await shop.billing.cancel(workspace, ACTOR)
    twice = await shop.billing.cancel(workspace, ACTOR)
    kept = await shop.billing.keep(workspace, ACTOR)
    await shop.billing.cancel(workspace, ACTOR)
    end = shop.stripe.subscriptions[subscription].period_end_ms
    shop.at(end - 1)
    last = await shop.entitlement(workspace)
    shop.at(end)
    over = await shop.entitlement(workspace)
    shop.stripe.renew(subscription)
    await shop.deliver()
    again = await shop.subscribe(workspace)

    assert (cancelled.state, cancelled.works_until_ms) == (BillingState.CANCELLING, end)
    assert twice.state is BillingState.CANCELLING
    assert kept.state is BillingState.ACTIVE
    assert [wish for _, wish, _ in shop.stripe.told] == ["cancel", "keep", "cancel"]
    assert (last, over) == (EntitlementState.CANCELLING, EntitlementState.NONE)
    assert again.url is not None


async def test_enterprise_and_back(shop: Shop) -> None:
    """The plan includes it at once; the subscription does not renew, and what is paid is there on the way back."""
    workspace, subscription = await shop.subscribed()
    change = shop.house.desk.workspaces.change
    upgraded = await change(await shop.house.again(workspace), {"plan": "enterprise"}, ACTOR)
    stopped = shop.stripe.subscriptions[subscription].cancel_at_period_end
    back = await change(upgraded, {"plan": "pro"}, ACTOR)
    upgraded = await change(back, {"plan": "enterprise"}, ACTOR)
    shop.at(shop.stripe.subscriptions[subscription].period_end_ms + DAY_MS)
    shop.stripe.renew(subscription)
    await shop.deliver()
    still = await shop.entitlement(workspace)
    later = await change(upgraded, {"plan": "pro"}, ACTOR)

    assert upgraded.entitlement is EntitlementState.INCLUDED
    assert stopped
    assert (back.entitlement, back.paid_until_ms is not None) == (EntitlementState.CANCELLING, True)
    assert still is EntitlementState.INCLUDED
    assert later.entitlement is EntitlementState.GRACE


async def test_a_page_that_was_open_when_the_plan_changed(shop: Shop) -> None:
    """Enterprise closes it; if it was paid in that very moment, the subscription does not renew."""
    workspace = await shop.house.workspace(plan="pro")
    await shop.subscribe(workspace)
    change = shop.house.desk.workspaces.change
    await change(await shop.house.again(workspace), {"plan": "enterprise"}, ACTOR)
    closed = shop.stripe.checkouts[shop.stripe.created[0]].status
    other = await shop.house.workspace("Fast", plan="pro")
    await shop.subscribe(other)
    shop.stripe.pay(shop.stripe.created[1])
    await change(await shop.house.again(other), {"plan": "enterprise"}, ACTOR)
    await shop.deliver()
    await shop.house.desk.payment_events.run()

    assert closed == "expired"
    assert await shop.entitlement(other) is EntitlementState.INCLUDED
    assert [s.cancel_at_period_end for s in shop.stripe.subscriptions.values()] == [True]


async def test_a_deleted_workspace_is_not_charged_any_more(shop: Shop) -> None:
    """Also where Stripe did not answer at that moment."""
    workspace, subscription = await shop.subscribed()
    shop.stripe.down = True
    await shop.house.desk.workspaces.delete(await shop.house.again(workspace), ACTOR)
    shop.stripe.down = False
    await shop.house.desk.payment_events.run()

    assert shop.stripe.subscriptions[subscription].status == "canceled"
    assert list(await shop.house.store.load_wishes(limit=10)) == []


async def test_a_wish_waits_while_stripe_is_down(shop: Shop) -> None:
    """The plan changes at once; Stripe is told when it answers, under the key that was stored first."""
    workspace, subscription = await shop.subscribed()
    shop.stripe.down = True
    changed = await shop.house.desk.workspaces.change(
        await shop.house.again(workspace), {"plan": "enterprise"}, ACTOR
    )
    view = await shop.billing.show(workspace)
    with pytest.raises(Problem) as refused:
        await shop.billing.cancel(workspace, ACTOR)
    waiting = await shop.house.store.load_wishes(limit=10)
    shop.stripe.down = False
    await shop.house.desk.payment_events.run()

    assert changed.entitlement is EntitlementState.INCLUDED
    assert view.state is BillingState.INCLUDED
    assert refused.value.code is ProblemCode.BILLING_UNREACHABLE
    assert "unaffected" in refused.value.message
    assert shop.stripe.told == [(subscription, "cancel", waiting[0][1])]
    assert list(await shop.house.store.load_wishes(limit=10)) == []


async def test_credits_for_money_arrive_once(shop: Shop) -> None:
    """G30: top-ups; the same pack again is another purchase once the first is paid."""
    workspace = await shop.house.workspace(plan="starter")
    one = await shop.billing.top_up(workspace, "small", "", ACTOR)
    same = await shop.billing.top_up(workspace, "small", "", ACTOR)
    shop.stripe.pay(shop.stripe.created[0])
    await shop.billing.confirm(workspace)
    await shop.deliver()
    two = await shop.billing.top_up(workspace, "small", "", ACTOR)
    wallet = await shop.house.store.load_wallet(workspace.id)

    assert one.url == same.url != two.url
    assert wallet.balance_credits == 1_000
    assert (await shop.outbox(workspace)).count("topup_received") == 1


async def test_what_was_not_ordered_is_quarantined_and_grants_nothing(shop: Shop) -> None:
    """Security, section 14 (foreign orders): amount, currency, workspace, purpose, rail and object must agree."""
    workspace = await shop.house.workspace(plan="starter")
    other = await shop.house.workspace("Other", plan="starter")
    wrongs: list[dict[str, Any]] = [
        {"amount_cents": 1}, {"amount_cents": None}, {"currency": "eur"}, {"workspace_id": other.id},
        {"purpose": "addon"}, {"mode": "subscription"}, {"order_id": "order_none"}, {"id": "cs_other"},
        {"payment_status": "no_payment_required"},
    ]
    for wrong in wrongs:
        await shop.billing.top_up(workspace, "small", "", ACTOR)
        checkout = shop.stripe.created[-1]
        right = shop.stripe.checkouts[checkout]
        shop.stripe.pay(checkout)
        forged = replace(shop.stripe.checkouts[checkout], **wrong)
        shop.stripe.checkouts[checkout] = forged
        assert await shop.deliver() == ["quarantined"], wrong
        shop.stripe.checkouts[checkout] = replace(right, status="expired")
        await shop.billing.confirm(workspace)

    for state in (workspace, other):
        assert (await shop.house.store.load_wallet(state.id)).balance_credits == 0
    counts = await shop.house.desk.payment_events.counts()
    assert counts["quarantined"] == len(wrongs)
    assert "payment_quarantined" in await shop.outbox(workspace)


async def test_a_subscription_at_another_price_is_quarantined(shop: Shop) -> None:
    """Altered at Stripe: it does not grant what was not paid for."""
    workspace = await shop.house.workspace()
    await shop.subscribe(workspace)
    shop.stripe.pay(shop.stripe.created[0])
    subscription = next(iter(shop.stripe.subscriptions))
    shop.stripe.subscriptions[subscription] = replace(shop.stripe.subscriptions[subscription], amount_cents=1)

    states = await shop.deliver()

    assert set(states) == {"quarantined"}
    assert await shop.entitlement(workspace) is EntitlementState.NONE


async def test_a_second_subscription_is_quarantined_and_the_first_goes_on(shop: Shop) -> None:
    """One subscription a workspace, whatever somebody makes at Stripe by hand."""
    workspace, first = await shop.subscribed()
    facts = shop.stripe.subscriptions[first]
    shop.stripe.subscriptions["sub_second"] = replace(facts, id="sub_second", created_ms=facts.created_ms + 1)
    shop.stripe.announce("customer.subscription.created", "subscription", "sub_second")

    assert await shop.deliver() == ["quarantined"]
    addon = await shop.house.store.load_addon(workspace.id)
    assert addon is not None
    assert addon.subscription == first


async def test_stripe_down_means_try_again(shop: Shop) -> None:
    """A failed event is worked on by its repetition, by the round and by an operator, and has one effect."""
    workspace = await shop.house.workspace()
    await shop.subscribe(workspace)
    shop.stripe.pay(shop.stripe.created[0])
    shop.stripe.down = True
    down = await shop.deliver()
    inactive = await shop.entitlement(workspace)
    shop.stripe.down = False
    retried = await shop.house.desk.payment_events.retry(shop.stripe.events[0].id)
    await shop.house.desk.payment_events.run()

    assert set(down) == {"failed"}
    assert inactive is EntitlementState.NONE
    assert retried.state == "processed"
    assert await shop.entitlement(workspace) is EntitlementState.ACTIVE
    assert (await shop.house.desk.payment_events.counts()).get("failed", 0) == 0
    assert len(await shop.billing.payments(workspace, 10)) == 1


async def test_the_daily_round_finds_what_no_webhook_brought(shop: Shop) -> None:
    """Three days without a single webhook: everything is booked all the same."""
    workspace = await shop.house.workspace(plan="starter")
    await shop.subscribe(workspace)
    shop.stripe.pay(shop.stripe.created[-1])
    await shop.billing.top_up(workspace, "small", "", ACTOR)
    shop.stripe.pay(shop.stripe.created[-1])
    shop.pass_days(3)

    found = await shop.billing.reconcile()
    again = await shop.billing.reconcile()

    assert found.missed_events == len(shop.stripe.events)
    assert (again.missed_events, again.failed) == (0, 0)
    assert await shop.entitlement(workspace) is EntitlementState.ACTIVE
    assert (await shop.house.store.load_wallet(workspace.id)).balance_credits == 1_000


async def test_a_renewal_that_nobody_announced_is_asked_for(shop: Shop) -> None:
    """The frequent round asks about every subscription whose paid time is over."""
    workspace, subscription = await shop.subscribed()
    shop.at(shop.stripe.subscriptions[subscription].period_end_ms)
    shop.stripe.renew(subscription)
    unheard = await shop.entitlement(workspace)
    await shop.house.desk.payment_events.run()

    assert unheard is EntitlementState.GRACE
    assert await shop.entitlement(workspace) is EntitlementState.ACTIVE
    assert len(await shop.billing.payments(workspace, 10)) == 2


async def test_an_old_page_is_not_paid_at_a_new_price(tmp_path: Path) -> None:
    """The price changes between two clicks: the old page is closed, the new one shows the new price."""
    stripe = ScriptedStripe()
    async with open_house(tmp_path, "app-builder", extra=BILLING, payments=stripe) as house:
        workspace = await house.workspace()
        await house.desk.billing.subscribe(workspace, "", ACTOR)
        dearer = replace(house.product.billing, addon_cents=900)
        house.desk.billing._rules = dearer
        step = await house.desk.billing.subscribe(workspace, "", ACTOR)

        assert stripe.checkouts[stripe.created[0]].status == "expired"
        assert step.url == f"https://pay.test/{stripe.created[1]}"
        assert stripe.checkouts[stripe.created[1]].amount_cents == 900


async def test_people_are_sent_back_to_our_own_pages_only(shop: Shop) -> None:
    workspace = await shop.house.workspace()

    with pytest.raises(Problem) as refused:
        await shop.billing.subscribe(workspace, "https://evil.test/", ACTOR)

    assert refused.value.param == "return_url"


async def test_nothing_is_sold_where_nothing_is_configured(tmp_path: Path) -> None:
    """Host-managed: the page says who sells it, and buying is refused in words."""
    async with open_house(tmp_path, "app-builder") as house:
        workspace = await house.workspace()
        view = await house.desk.billing.show(workspace)
        with pytest.raises(Problem) as refused:
            await house.desk.billing.subscribe(workspace, "", ACTOR)

    assert view.state is BillingState.HOST_MANAGED
    assert refused.value.code is ProblemCode.BILLING_OFF


async def test_a_crash_between_stripes_page_and_our_note_of_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order and its Idempotency-Key were written first: the next click finds the same page."""
    workspace = await shop.house.workspace()
    with monkeypatch.context() as broken:
        async def crash(*_: Any) -> None:
            raise RuntimeError("the process died")

        broken.setattr(shop.house.store, "note_checkout", crash)
        with pytest.raises(RuntimeError):
            await shop.subscribe(workspace)
    step = await shop.subscribe(workspace)

    assert len(shop.stripe.created) == 1
    assert step.url == f"https://pay.test/{shop.stripe.created[0]}"


async def test_an_order_that_stripe_never_heard_of_is_given_up_after_a_day(shop: Shop) -> None:
    workspace = await shop.house.workspace()
    shop.stripe.down = True
    with pytest.raises(Problem):
        await shop.subscribe(workspace)
    shop.stripe.down = False
    shop.pass_days(2)
    await shop.billing.reconcile()
    orders = await shop.house.store.load_orders(workspace.id)

    assert [order.state.value for order in orders] == ["expired"]
    assert (await shop.subscribe(workspace)).url is not None


async def test_the_add_on_for_credits(tmp_path: Path) -> None:
    """The credits rail from the first refusal to the end; nothing of it needs Stripe."""
    billing = '[billing]\nrail = "credits"\naddon_credits = 500\n'
    async with open_house(tmp_path, "app-builder", extra=billing) as house:
        workspace = await house.workspace(plan="pro")
        control = house.desk.billing
        with pytest.raises(Problem) as short:
            await control.subscribe(workspace, "", ACTOR)
        await house.desk.credits.grant(workspace, 700, "promo", None, None, ACTOR)
        bought = await control.subscribe(workspace, "", ACTOR)
        again = await control.subscribe(workspace, "", ACTOR)
        wallet = await house.store.load_wallet(workspace.id)
        cancelled = await control.cancel(workspace, ACTOR)
        kept = await control.subscribe(workspace, "", ACTOR)
        with pytest.raises(Problem) as no_card:
            await control.manage(workspace, "")
        findings = list(await house.store.verify(house.clock.at_ms))

    assert (short.value.code, short.value.flow) == (ProblemCode.NOT_ENOUGH_CREDITS, "credits")
    assert (bought.url, bought.view.state, bought.view.price_credits) == (None, BillingState.ACTIVE, 500)
    assert "500 credits a month" in bought.view.sentence
    assert again.view.state is kept.view.state is BillingState.ACTIVE
    assert wallet.balance_credits == 200
    assert cancelled.state is BillingState.CANCELLING
    assert no_card.value.code is ProblemCode.BILLING_OFF
    assert findings == []


async def test_always_on_does_not_stop_the_fee_and_the_fee_is_no_ai_call(tmp_path: Path) -> None:
    """Money, section 8: the add-on's fee may take credits while Always use this key is on; calls may not."""
    billing = '[billing]\nrail = "credits"\naddon_credits = 500\n'
    async with open_house(tmp_path, "app-builder", extra=billing) as house:
        workspace = await house.with_key(plan="pro")
        await house.desk.credits.grant(workspace, 1_100, "promo", None, None, ACTOR)
        await house.desk.billing.subscribe(workspace, "", ACTOR)
        await house.desk.workspaces.change(await house.again(workspace), {"always_use_key": True}, ACTOR)
        house.clock.pass_s(31 * 86_400)
        await house.store.renew_addons(house.clock.at_ms)
        wallet = await house.store.load_wallet(workspace.id)
        findings = list(await house.store.verify(house.clock.at_ms))

    assert wallet.balance_credits == 100
    assert findings == []
