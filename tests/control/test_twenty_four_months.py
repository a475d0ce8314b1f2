"""Money: two years of one workspace of an app builder, on a clock by hand; the books and the mailbox are exact.

Real: use cases, gateway, store, vault, jobs and notices. Scripted: the provider's answers, the cards, the mailbox.
"""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.control.house import ACTOR, KEYS, HandClock, House, open_house
from tests.control.stripe_script import ScriptedStripe
from tests.gateway.gateway_kit import (
    CHAT,
    MINI,
    Caller,
    Door,
    FakeUpstream,
    Rig,
    body_of,
    usage,
    whole_answer,
)

from ownkey.api.dataplane import DataPlane, DataPlaneApp, DataPlaneLimits
from ownkey.api.openrouter_surface import OpenRouterSurface
from ownkey.api.statuses import STATUSES
from ownkey.control.notices import EventDelivery, MailDelivery
from ownkey.dialects.anthropic_messages import AnthropicDialect, OpenRouterMessagesDialect
from ownkey.dialects.openai_chat import OpenAIDialect, OpenRouterDialect
from ownkey.domain.notices import Notice
from ownkey.domain.pricing import ModelPrice, Rate
from ownkey.domain.records import Due, Member
from ownkey.domain.workspace import Role, WorkspaceState
from ownkey.gateway.attempt import Runner
from ownkey.gateway.circuits import Circuits
from ownkey.gateway.complete import Gateway
from ownkey.gateway.complete import House as GatewayHouse
from ownkey.gateway.explain import Explainer
from ownkey.jobs.rounds import (
    billing_job,
    calendar_job,
    deliver_job,
    expire_credits_job,
    expire_holds_job,
    payments_job,
    reconcile_job,
)
from ownkey.jobs.scheduler import Job
from ownkey.providers.catalogue import PublicCatalogue
from ownkey.providers.egress import parse_origin
from ownkey.providers.openrouter import OpenRouterProvider
from ownkey.settings.product import ORIGINS

BILLING = """
[billing]
return_urls = ["https://app.test/billing"]
[billing.packs.small]
credits = 1000
cents = 1000
"""
DAY_MS = 86_400_000
CREDIT_NUSD = 10_000_000
PRICE = {"input": (Rate(0, 100_000_000),), "output": (Rate(0, 400_000_000_000),)}
PLATFORM_KEY = "sk-or-v1-" + "1f0c" * 16


def cost(tokens: int) -> int:
    """10 tokens in, `tokens` out, in nano-USD: 1,000 and 400,000 each."""
    return 1_000 + tokens * 400_000


class Mailbox:
    """What the mail server has taken: (month in UTC, kind, member)."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, str, str]] = []

    async def send(self, due: Due, member: Member, notice: Notice, created_at_ms: int) -> None:
        assert notice.subject
        month = datetime.fromtimestamp(created_at_ms / 1_000, UTC).strftime("%Y-%m")
        self.mails.append((month, notice.kind.value, member.member_id))

    async def close(self) -> None:
        pass


class DoorClock:
    """The house's clock as the gateway wants it; its dice always show the middle."""

    def __init__(self, clock: HandClock) -> None:
        self.now_ms, self.monotonic, self.new_id = clock.now_ms, clock.monotonic, clock.new_id

    def chance(self) -> float:
        return 0.5


class HostEndpoint:
    """The host's webhook: (workspace, key) of every event."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    async def send(self, key: str, event: str, data: Any, *, happened_at: str, at_ms: int) -> None:
        self.events.append((data["workspace"], key))


def open_door(house: House, upstream: FakeUpstream) -> Rig:
    """The gateway on the house's own store, vault and clock."""
    product = replace(house.product, busy_wait_s=0.1)
    store, clock, opener = house.store, DoorClock(house.clock), house.opener
    runner = Runner(
        product=product, origins={name: parse_origin(url) for name, url in ORIGINS.items()}, opener=opener,
        upstream=upstream, clock=clock, journal=store,
    )
    inner = GatewayHouse(
        product=product, providers={"openrouter": OpenRouterProvider()}, directory=store, books=store, prices=store,
        health=store, clock=clock, circuits=Circuits(per_provider=product.routing.provider_circuit), runner=runner,
        statuses=STATUSES,
    )
    gateway = Gateway(inner)
    explainer = Explainer(gateway, inner)
    catalogue = PublicCatalogue(
        upstream, parse_origin(ORIGINS["openrouter"]), clock.monotonic, fetch=False,  # type: ignore[arg-type]
    )
    app = DataPlaneApp(DataPlane(
        gateway=gateway, explainer=explainer, authentication=Door(),  # type: ignore[arg-type]
        directory=store, prices=store, product=product, openai=OpenAIDialect(), openrouter=OpenRouterDialect(),
        anthropic=AnthropicDialect(), openrouter_messages=OpenRouterMessagesDialect(),
        surface=OpenRouterSurface(
            books=store, prices=store, payer=house.desk.status, catalogue=catalogue, product=product,
            now_ms=clock.now_ms,
        ),
        limits=DataPlaneLimits(client_stall_s=0.3, watch_after_s=0.0),
    ))
    return Rig(
        app, gateway, inner, explainer, store, upstream, opener, clock, product,  # type: ignore[arg-type]
    )


@dataclass
class Story:
    """One workspace and everything around it. `billed` is the provider's own bill book by payer, in nano-USD."""

    house: House
    stripe: ScriptedStripe
    rig: Rig
    workspace: WorkspaceState
    jobs: list[Job]
    mailbox: Mailbox
    endpoint: HostEndpoint
    card_works: bool = True
    has_key: bool = False
    delivered: int = 0
    granted: int = 50
    sold_cents: int = 0
    checked: list[str] = field(default_factory=list)
    billed: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)

    # --- time

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.house.clock.at_ms / 1_000, UTC)

    async def to(self, *date: int) -> None:
        """On to that moment (UTC): noon by noon, with a round of the jobs at each, and the card charged when due."""
        goal = int(datetime(*date, tzinfo=UTC).timestamp()) * 1_000  # type: ignore[misc,arg-type]
        while self.house.clock.at_ms < goal:
            noon = (self.house.clock.at_ms - DAY_MS // 2) // DAY_MS * DAY_MS + DAY_MS + DAY_MS // 2
            month = self.now().strftime("%Y-%m")
            self.house.clock.pass_s((min(goal, noon) - self.house.clock.at_ms) / 1_000)
            self.stripe.now_ms = self.house.clock.at_ms
            await self.round()
            if self.now().strftime("%Y-%m") != month:
                await self.check(month)

    async def round(self) -> None:
        for subscription in list(self.stripe.subscriptions.values()):
            if subscription.status == "active" and subscription.period_end_ms <= self.stripe.now_ms:
                self.stripe.renew(subscription.id, ok=self.card_works)
        await self.hear()
        for job in self.jobs:
            await job.run()

    async def hear(self) -> None:
        """Every webhook, twice."""
        for event in self.stripe.events[self.delivered:]:
            for _ in range(2):
                await self.house.desk.payment_events.receive(event.id.encode(), "")
        self.delivered = len(self.stripe.events)

    # --- what people do

    async def fresh(self) -> WorkspaceState:
        return await self.house.again(self.workspace)

    async def call(self, tokens: int, times: int = 1) -> list[str]:
        """Who paid for each call, or the code of its refusal."""
        return [await self._call(tokens) for _ in range(times)]

    async def _call(self, tokens: int) -> str:
        self.rig.script(replace(whole_answer(), parts=[body_of("word" * tokens, usage=usage(10, tokens)["usage"])]))
        caller: Caller = await self.rig.call(self.workspace.id, CHAT, model=MINI, max_tokens=tokens)
        receipt = await self.rig.receipt(self.workspace.id)
        if caller.status != 200:
            assert self.rig.upstream.sent == []
            assert receipt["charge_nusd"] == 0
            self.answers[receipt["code"]] += 1
            return str(receipt["code"])
        self.billed[receipt["funding"]] += cost(tokens)
        self.answers[receipt["funding"]] += 1
        return str(receipt["funding"])

    async def change(self, **changes: Any) -> None:
        self.house.clock.pass_s(60)
        await self.house.desk.workspaces.change(await self.fresh(), changes, ACTOR)

    async def cap(self, usd: str | None) -> None:
        self.house.clock.pass_s(60)
        await self.house.desk.caps.save(await self.fresh(), usd, None, ACTOR)

    async def fill_cap(self, spent: int = 0) -> None:
        """Spend this month's US$2.00 to the last call that fits, and one more, which none can."""
        room = 2_000_000_000 - spent
        while room >= cost(500):
            assert await self.call(500) == ["byok"]
            room -= cost(500)
        last = (room - 2_000_000) // 400_000
        assert await self.call(last) == ["byok"]
        await self.call(500)
        assert await self.call(500) == ["ai_paused"]

    async def enable(self, enabled: bool) -> None:
        self.house.clock.pass_s(60)
        await self.house.desk.credentials.set_enabled(await self.fresh(), "openrouter", enabled, ACTOR)

    async def connect(self) -> None:
        self.house.clock.pass_s(60)
        await self.house.save_key(self.workspace)
        self.has_key = True

    async def disconnect(self) -> None:
        self.house.clock.pass_s(60)
        await self.house.desk.credentials.disconnect(await self.fresh(), "openrouter", False, ACTOR)
        self.has_key = False

    async def top_up(self) -> None:
        await self.house.desk.billing.top_up(await self.fresh(), "small", "", ACTOR)
        self.stripe.pay(self.stripe.created[-1])
        self.granted += 1_000
        self.sold_cents += 1_000
        await self.hear()

    async def subscribe(self) -> None:
        self.stripe.now_ms = self.house.clock.at_ms
        await self.house.desk.billing.subscribe(await self.fresh(), "", ACTOR)
        self.stripe.pay(self.stripe.created[-1])
        await self.hear()

    def subscription(self) -> str:
        return list(self.stripe.subscriptions)[-1]

    async def state(self) -> str:
        return str((await self.fresh()).entitlement.value)

    async def balance(self) -> int:
        return (await self.house.store.load_wallet(self.workspace.id)).balance_credits

    # --- the books

    async def check(self, month: str) -> None:
        """After a month: nothing that verify finds, every sum by itself, the key as it was left."""
        store, workspace = self.house.store, self.workspace.id
        assert list(await store.verify(self.house.clock.at_ms)) == [], month
        await self._check_sums()
        kept = (await self.fresh()).credentials
        assert ("openrouter" in kept) == self.has_key, month
        if self.has_key:
            opened = self.house.opener.open(await self.fresh(), kept["openrouter"])
            assert opened.reveal() == KEYS["openrouter"], month
        waiting = await store.load_outbox(workspace, limit=500, state="waiting")
        assert list(waiting) == [], month
        self.checked.append(month)

    async def _check_sums(self) -> None:
        workspace, near = self.workspace.id, self.house.store._near
        wallet = await self.house.store.load_wallet(workspace)

        def one(sql: str) -> int:
            return int(near.execute(sql, (workspace,)).fetchone()[0] or 0)

        lots = one("SELECT sum(remaining_credits) FROM lot WHERE workspace_id = ?")
        debt = one("SELECT sum(amount_credits * ((destination LIKE 'debt:%') - (source LIKE 'debt:%'))) FROM posting "
                   "WHERE workspace_id = ?")
        charged = one("SELECT sum(p.amount_credits) FROM posting p JOIN ledger_entry e ON e.id = p.entry_id "
                      "WHERE e.kind = 'charge' AND p.workspace_id = ?")
        receipts = near.execute(
            "SELECT funding, sum(cost_nusd), sum(charge_credits), sum(doc ->> '$.charge_nusd') FROM receipt "
            "WHERE workspace_id = ? AND cost_nusd IS NOT NULL AND funding IS NOT NULL GROUP BY funding", (workspace,)
        ).fetchall()
        costs = {row[0]: row[1] for row in receipts if row[1]}
        absorbed = one("SELECT sum(absorbed_nusd) FROM hold WHERE workspace_id = ?")
        credits, price = (sum(row[n] for row in receipts) for n in (2, 3))

        assert (lots + debt, wallet.held_credits) == (wallet.balance_credits, 0)
        assert self.granted - charged == wallet.balance_credits
        assert charged == credits
        # To the nano-USD: whole credits taken are the prices of all calls and the rest that the next one uses first.
        assert charged * CREDIT_NUSD == price + wallet.carry_nusd
        assert (price, absorbed) == (self.billed["credits"] * 12 // 10, 0)
        assert costs == {payer: total for payer, total in self.billed.items() if total}
        assert one("SELECT sum(spent_nusd) FROM cap_period WHERE workspace_id = ?") == self.billed["byok"]
        topups = one("SELECT sum(amount_cents) FROM payment WHERE purpose = 'topup' AND workspace_id = ?")
        addons = one("SELECT sum(amount_cents) FROM payment WHERE purpose = 'addon' AND workspace_id = ?")
        assert topups == self.sold_cents
        assert addons == sum(i.amount_paid_cents for i in self.stripe.invoices.values() if i.status == "paid")


@contextlib.asynccontextmanager
async def open_story(folder: Path) -> AsyncIterator[Story]:
    stripe, mailbox, endpoint = ScriptedStripe(), Mailbox(), HostEndpoint()
    async with open_house(folder, "app-builder", extra=BILLING, payments=stripe) as house:
        house.clock.at_ms = stripe.now_ms = int(datetime(2027, 1, 29, 8, tzinfo=UTC).timestamp()) * 1_000
        store, clock, desk = house.store, house.clock, house.desk
        listed = [ModelPrice("openrouter", MINI, PRICE, source="test")]
        await store.activate_prices(listed, {}, author="test", at_ms=clock.at_ms)
        # As the start of a server does.
        await store.save_minimums({p.name: p.minimum_balance_credits for p in house.product.plans.values()})
        platform = await desk.workspaces.platform(ACTOR)
        await desk.credentials.save(
            platform, "openrouter", PLATFORM_KEY, label="", save_anyway=False, address="192.0.2.9", actor=ACTOR
        )
        workspace = await house.workspace("Pelican Apps", timezone="Europe/Berlin")
        for member, role, muted in (
            ("ann", Role.OWNER, frozenset[str]()), ("bob", Role.ADMIN, frozenset({"spend"})),
            ("cat", Role.MEMBER, frozenset[str]()),
        ):
            await desk.members.save(
                workspace, member, f"{member}@example.com", member, role, ACTOR, muted=muted
            )
        jobs = [
            expire_holds_job(store, clock.now_ms), expire_credits_job(store, clock.now_ms),
            billing_job(store, clock.now_ms), payments_job(desk.payment_events),
            reconcile_job(desk.payment_events, clock.now_ms, interval_s=7 * 86_400),
            calendar_job(store, clock.now_ms),
            deliver_job("email", MailDelivery(store, mailbox, clock, house.product)),
            deliver_job("event", EventDelivery(store, endpoint, clock, house.product)),
        ]
        yield Story(house, stripe, open_door(house, FakeUpstream()), workspace, jobs, mailbox, endpoint)


async def first_steps(s: Story) -> None:
    """Free: 50 credits, used up; a top-up; the add-on by card on the 31st; the key, the cap."""
    used = await s.call(100, 12)
    assert used == ["credits"] * 10 + ["insufficient_credits"] * 2
    await s.to(2027, 1, 30, 9)
    await s.top_up()
    await s.change(plan="pro")
    await s.to(2027, 1, 31, 12)
    await s.subscribe()
    assert await s.state() == "active"
    await s.to(2027, 2, 2, 9)
    assert await s.call(100) == ["credits"]
    await s.connect()
    await s.cap("1.00")
    assert await s.call(500) == ["byok"]


async def caps_and_clocks(s: Story) -> None:
    """Reached and raised in March; reached again in April, until May begins in Berlin, two hours before UTC's."""
    await s.to(2027, 3, 2, 9)
    assert await s.call(500, 4) + await s.call(450) + await s.call(44) == ["byok"] * 6
    await s.call(500)
    assert await s.call(500) == ["ai_paused"]
    await s.cap("2.00")
    assert await s.call(450) == ["byok"]
    await s.to(2027, 4, 2, 9)
    await s.fill_cap()
    await s.to(2027, 4, 30, 21, 59)
    assert await s.call(500) == ["ai_paused"]
    await s.to(2027, 4, 30, 22, 1)
    assert await s.call(500) == ["byok"]


async def switches(s: Story) -> None:
    """Always on moves no credit while the key is disabled; off, credits step in."""
    await s.to(2027, 5, 3, 9)
    balance = await s.balance()
    await s.change(always_use_key=True)
    await s.enable(False)
    assert await s.call(100) == ["always_use_key_unavailable"]
    await s.enable(True)
    assert await s.call(100) == ["byok"]
    assert await s.balance() == balance
    await s.change(always_use_key=False)
    await s.enable(False)
    assert await s.call(100) == ["credits"]
    assert await s.balance() < balance
    await s.enable(True)


async def a_failed_card(s: Story) -> None:
    """30 June: refused; the key works for 3 days, then credits pay; paid late, the key works at once."""
    await s.to(2027, 6, 5, 9)
    s.card_works = False
    await s.to(2027, 7, 1, 9)
    assert (await s.state(), await s.call(100)) == ("grace", ["byok"])
    await s.to(2027, 7, 4, 9)
    assert (await s.state(), await s.call(100)) == ("inactive", ["credits"])
    await s.to(2027, 7, 6, 9)
    s.card_works = True
    s.stripe.pay_late(s.subscription())
    await s.hear()
    assert (await s.state(), await s.call(100)) == ("active", ["byok"])


async def enterprise_and_back(s: Story) -> None:
    """The subscription ends beside the plan; on the way back days of grace, an end, a new one on 31 October."""
    await s.to(2027, 8, 5, 9)
    await s.change(plan="enterprise")
    await s.to(2027, 9, 10, 9)
    assert (await s.state(), await s.call(100)) == ("included", ["byok"])
    assert s.stripe.subscriptions[s.subscription()].status == "canceled"
    await s.to(2027, 10, 20, 9)
    await s.change(plan="pro")
    await s.to(2027, 10, 21, 9)
    assert (await s.state(), await s.call(100)) == ("grace", ["byok"])
    await s.to(2027, 10, 26, 9)
    assert (await s.state(), await s.call(100)) == ("none", ["credits"])
    await s.to(2027, 10, 31, 12)
    await s.subscribe()
    await s.fill_cap(spent=cost(100))


async def winter_time(s: Story) -> None:
    """The clocks went back on this very day: Berlin's November begins at 23:00 UTC."""
    await s.to(2027, 10, 31, 22, 59)
    assert await s.call(100) == ["ai_paused"]
    await s.to(2027, 10, 31, 23, 1)
    assert await s.call(100) == ["byok"]


async def disconnect_and_reconnect(s: Story) -> None:
    """Credits pay, down to less than the plan's minimum; the key is back and waits for a top-up."""
    await s.to(2027, 11, 10, 9)
    await s.disconnect()
    for tokens in (2_000, 500, 100):
        while await s.balance() * CREDIT_NUSD > cost(tokens) * 13 // 10:
            assert await s.call(tokens) == ["credits"]
    assert 0 <= await s.balance() < 10
    await s.to(2027, 11, 15, 9)
    await s.connect()
    assert await s.call(100) == ["minimum_balance_required"]
    await s.to(2027, 11, 17, 9)
    await s.top_up()
    assert await s.call(100) == ["byok"]


async def a_leap_day(s: Story) -> None:
    """Paid to 29 February, paid on it, and on the 31st again; the cap's month ends after the 29th in Berlin."""
    await s.to(2028, 2, 20, 9)
    await s.fill_cap()
    paid = s.stripe.subscriptions[s.subscription()].period_end_ms
    assert datetime.fromtimestamp(paid / 1_000, UTC) == datetime(2028, 2, 29, 12, tzinfo=UTC)
    await s.to(2028, 2, 29, 22, 59)
    assert (await s.state(), await s.call(100)) == ("active", ["ai_paused"])
    await s.to(2028, 2, 29, 23, 1)
    assert await s.call(100) == ["byok"]
    paid = s.stripe.subscriptions[s.subscription()].period_end_ms
    assert datetime.fromtimestamp(paid / 1_000, UTC) == datetime(2028, 3, 31, 12, tzinfo=UTC)
    await s.to(2028, 3, 10, 9)
    await s.change(timezone="America/New_York")


async def cancel_keep_cancel(s: Story) -> None:
    """Cancelled and kept in April; May begins at New York's midnight; cancelled, over on the 31st, bought in June."""
    billing = s.house.desk.billing
    await s.to(2028, 4, 5, 9)
    await billing.cancel(await s.fresh(), ACTOR)
    await s.to(2028, 4, 7, 9)
    await billing.keep(await s.fresh(), ACTOR)
    await s.to(2028, 5, 5, 9)
    assert await s.call(100) == ["byok"]
    may = await s.house.desk.caps.show(await s.fresh())
    assert datetime.fromtimestamp(may.starts_at_ms / 1_000, UTC) == datetime(2028, 5, 1, 4, tzinfo=UTC)
    await billing.cancel(await s.fresh(), ACTOR)
    await s.to(2028, 5, 31, 11)
    assert await s.call(100) == ["byok"]
    await s.to(2028, 6, 1, 9)
    assert (await s.state(), await s.call(100)) == ("none", ["credits"])
    await s.to(2028, 6, 2, 9)
    await s.subscribe()
    assert (await s.state(), await s.call(100)) == ("active", ["byok"])


async def no_ai_and_no_cap(s: Story) -> None:
    """A cap of 0 from July on: August with it is no news; no cap: everything goes, and nobody is told of spend."""
    await s.to(2028, 7, 3, 9)
    await s.cap("0")
    assert await s.call(100) == ["ai_paused"]
    await s.to(2028, 8, 3, 9)
    assert await s.call(100) == ["ai_paused"]
    await s.cap(None)
    assert await s.call(2_000, 8) == ["byok"] * 8
    await s.to(2028, 9, 5, 9)
    await s.cap("5")


async def a_card_in_time(s: Story) -> None:
    """Refused on 2 October and paid within the grace; then three quiet months."""
    s.card_works = False
    await s.to(2028, 10, 3, 9)
    assert (await s.state(), await s.call(100)) == ("grace", ["byok"])
    s.card_works = True
    s.stripe.pay_late(s.subscription())
    await s.hear()
    assert await s.state() == "active"
    for month in (11, 12):
        await s.to(2028, month, 10, 9)
        assert await s.call(500, 3) == ["byok"] * 3
    await s.to(2029, 2, 1, 0)


CHAPTERS = (
    first_steps, caps_and_clocks, switches, a_failed_card, enterprise_and_back, winter_time, disconnect_and_reconnect,
    a_leap_day, cancel_keep_cancel, no_ai_and_no_cap, a_card_in_time,
)

ALL = ("ann", "bob")
SPEND = ("ann",)
"""Bob has muted spend; Cat is no admin and gets nothing."""

EXPECTED = (
    ("2027-01", "topup_received", ALL),
    ("2027-01", "addon_active", ALL),
    ("2027-02", "payer_changed", ALL),
    ("2027-03", "spend_threshold", SPEND),
    ("2027-03", "ai_paused", SPEND),
    ("2027-03", "ai_resumed", SPEND),
    ("2027-04", "spend_threshold", SPEND),
    ("2027-04", "ai_paused", SPEND),
    ("2027-04", "ai_resumed", SPEND),
    ("2027-05", "settings_changed", ALL),
    ("2027-05", "payer_changed", ALL),
    ("2027-05", "payer_changed", ALL),
    ("2027-05", "settings_changed", ALL),
    ("2027-05", "payer_changed", ALL),
    ("2027-05", "payer_changed", ALL),
    ("2027-06", "addon_payment_failed", ALL),
    ("2027-07", "addon_grace_ending", ALL),
    ("2027-07", "addon_inactive", ALL),
    ("2027-07", "addon_active", ALL),
    ("2027-08", "addon_included", ALL),
    ("2027-10", "addon_grace", ALL),
    ("2027-10", "addon_grace_ending", ALL),
    ("2027-10", "addon_ended", ALL),
    ("2027-10", "addon_active", ALL),
    ("2027-10", "spend_threshold", SPEND),
    ("2027-10", "ai_paused", SPEND),
    ("2027-10", "ai_resumed", SPEND),
    ("2027-11", "payer_changed", ALL),
    ("2027-11", "payer_changed", ALL),
    ("2027-11", "balance_low", ALL),
    ("2027-11", "balance_restored", ALL),
    ("2027-11", "topup_received", ALL),
    ("2028-02", "spend_threshold", SPEND),
    ("2028-02", "ai_paused", SPEND),
    ("2028-02", "ai_resumed", SPEND),
    ("2028-04", "addon_cancelled", ALL),
    ("2028-04", "addon_active", ALL),
    ("2028-05", "addon_cancelled", ALL),
    ("2028-05", "addon_ended", ALL),
    ("2028-06", "addon_active", ALL),
    ("2028-07", "ai_paused", SPEND),
    ("2028-08", "ai_resumed", SPEND),
    ("2028-10", "addon_payment_failed", ALL),
    ("2028-10", "addon_active", ALL),
)


async def test_two_years_balance_and_send_exactly_these_mails(tmp_path: Path) -> None:
    """24 months and the days before them: every month's books, and every e-mail, in order."""
    async with open_story(tmp_path) as story:
        for chapter in CHAPTERS:
            await chapter(story)

        assert len(story.checked) == 25
        assert story.mailbox.mails == [(month, kind, who) for month, kind, people in EXPECTED for who in people]
        events = [key for workspace, key in story.endpoint.events if workspace == story.workspace.id]
        assert len(events) == len(set(events)) == len(EXPECTED)
        states = [row["state"] for row in await story.house.store.load_outbox(story.workspace.id, limit=500)]
        assert states == ["sent"] * 2 * len(EXPECTED)
