"""Refunds, disputes and debt in the ledger: what is taken back comes from its lot, then the others, then debt."""

from dataclasses import replace
from pathlib import Path

import pytest
from store_kit import ACTOR, NOV, add_workspace, credits_request, finish, open_store, settle, take

from ownkey.domain.billing import (
    CheckoutFacts,
    DisputeFacts,
    EventHint,
    Fetched,
    Order,
    OrderState,
    Rail,
    RefundFacts,
)
from ownkey.domain.errors import StoreError
from ownkey.domain.workspace import EntitlementState
from ownkey.store import SQLiteStore

GRACE = 3 * 86_400_000


def event(n: str) -> EventHint:
    return EventHint(f"evt_{n}", "test", NOV, False, "", "thing", n)


class Buyer:
    """A workspace that buys packs of 1,000 credits for 10 dollars."""

    def __init__(self, store: SQLiteStore, workspace_id: str) -> None:
        self.store = store
        self.id = workspace_id
        self.n = 0

    async def buy(self) -> str:
        self.n += 1
        order = await self.store.open_order(Order(
            f"order_{self.n}", self.id, "topup", Rail.CARD, 1_000, "usd", 1_000, OrderState.NEW, "https://a.test", "",
            NOV,
        ), ACTOR)
        intent = f"pi_{self.n}"
        paid = CheckoutFacts(
            f"cs_{self.n}", order.id, self.id, "topup", "payment", "complete", "paid", 1_000, "usd", "", "cus_1", "",
            intent, NOV, False,
        )
        applied = await self.store.apply_event(
            event(f"paid{self.n}"), Fetched(checkout=paid), GRACE, source="webhook", at_ms=NOV + self.n
        )
        assert applied.state == "processed", applied
        return intent

    async def spend(self, credits: int) -> None:
        """One call that costs that many credits."""
        nusd = credits * 10_000_000 * 10_000 // 12_000
        req = credits_request(self.id, nusd, at_ms=NOV + 1_000)
        await take(self.store, req)
        await finish(self.store, req, settle(req, nusd))

    async def refund(self, ident: str, intent: str, cents: int, status: str = "succeeded") -> str:
        facts = RefundFacts(ident, intent, cents, "usd", status, NOV)
        return (await self.store.apply_facts(Fetched(refunds=(facts,)), GRACE, at_ms=NOV + 2_000)).state

    async def dispute(self, ident: str, intent: str, status: str, cents: int = 1_000) -> str:
        facts = DisputeFacts(ident, intent, cents, "usd", status, NOV, False)
        return (await self.store.apply_facts(Fetched(dispute=facts), GRACE, at_ms=NOV + 3_000)).state

    async def balance(self) -> int:
        assert list(await self.store.verify(NOV + 10_000)) == []
        return (await self.store.load_wallet(self.id)).balance_credits

    async def accounts(self) -> dict[str, int]:
        """Every account's sum, by class."""
        found: dict[str, int] = {}
        for entry in await self.store.load_ledger(self.id, limit=1_000):
            for p in entry["postings"]:
                for name, sign in ((p["destination"], 1), (p["source"], -1)):
                    name = name if name.startswith(("source", "revenue", "sink")) else name.partition(":")[0]
                    found[name] = found.get(name, 0) + sign * p["amount_credits"]
        assert sum(found.values()) == 0
        return {name: amount for name, amount in found.items() if amount}


@pytest.fixture
async def buyer(store: SQLiteStore) -> Buyer:
    ws = await add_workspace(store, entitlement=EntitlementState.NONE)
    return Buyer(store, ws.id)


async def test_a_refund_takes_its_credits_once(buyer: Buyer) -> None:
    intent = await buyer.buy()
    for _ in range(3):
        assert await buyer.refund("re_1", intent, 400) == "processed"
    half = await buyer.balance()
    await buyer.refund("re_2", intent, 600)

    assert (half, await buyer.balance()) == (600, 0)
    assert await buyer.accounts() == {"source:topup": -1_000, "sink:refunded": 1_000}


async def test_a_refund_of_spent_credits_takes_others_then_becomes_debt(buyer: Buyer) -> None:
    first = await buyer.buy()
    await buyer.spend(900)
    await buyer.store.grant_credits(
        buyer.id, 200, "promo", expires_at_ms=None, idem_key="promo", at_ms=NOV, actor=ACTOR
    )
    await buyer.refund("re_1", first, 1_000)
    owed = await buyer.balance()
    await buyer.buy()

    assert owed == -700
    assert await buyer.balance() == 300
    assert "debt" not in await buyer.accounts()


async def test_with_debt_no_call_is_paid_with_credits(buyer: Buyer) -> None:
    intent = await buyer.buy()
    await buyer.spend(500)
    await buyer.refund("re_1", intent, 1_000)
    answer = await buyer.store.hold(credits_request(buyer.id, 10_000_000))

    assert await buyer.balance() == -500
    assert type(answer).__name__ == "HoldRefused"


async def test_a_refund_leaves_a_running_call_its_credits(buyer: Buyer) -> None:
    """What a call holds is its own; the rest becomes debt, and the call can still be charged."""
    intent = await buyer.buy()
    req = credits_request(buyer.id, 250_000_000)  # 30 credits
    await take(buyer.store, req)
    await buyer.refund("re_1", intent, 1_000)
    held = (await buyer.store.load_wallet(buyer.id)).held_credits
    await finish(buyer.store, req, settle(req, 250_000_000))

    assert held == 30
    assert await buyer.balance() == -30


async def test_a_refund_that_fails_later_gives_the_credits_back_once(buyer: Buyer) -> None:
    intent = await buyer.buy()
    await buyer.refund("re_1", intent, 1_000, "pending")
    waiting = await buyer.balance()
    await buyer.refund("re_1", intent, 1_000)
    taken = await buyer.balance()
    for _ in range(2):
        await buyer.refund("re_1", intent, 1_000, "failed")
    back = await buyer.balance()
    await buyer.refund("re_1", intent, 1_000)  # an old word about it

    assert (waiting, taken, back, await buyer.balance()) == (1_000, 0, 1_000, 1_000)


@pytest.mark.parametrize(("spent", "outcome", "expected"), [
    (0, "won", 1_000), (0, "lost", 0), (400, "won", 600), (400, "lost", -400),
])
async def test_a_dispute_freezes_and_then_gives_back_or_keeps(
    buyer: Buyer, spent: int, outcome: str, expected: int
) -> None:
    intent = await buyer.buy()
    if spent:
        await buyer.spend(spent)
    await buyer.dispute("dp_1", intent, "needs_response")
    frozen = await buyer.accounts()
    opened = await buyer.balance()
    for status in ("under_review", outcome, outcome, "needs_response"):
        await buyer.dispute("dp_1", intent, status)

    assert opened == -spent
    assert frozen["frozen"] == 1_000
    assert await buyer.balance() == expected
    assert "frozen" not in await buyer.accounts()


async def test_a_dispute_whose_end_is_heard_of_first(buyer: Buyer) -> None:
    """Order-independent: the end implies the beginning."""
    intent = await buyer.buy()
    await buyer.dispute("dp_1", intent, "lost")
    await buyer.dispute("dp_1", intent, "needs_response")

    assert await buyer.balance() == 0


async def test_a_dispute_won_after_its_debt_was_repaid(buyer: Buyer) -> None:
    """New credits repaid the debt first: what comes back arrives as credits of its own."""
    intent = await buyer.buy()
    await buyer.spend(1_000)
    await buyer.dispute("dp_1", intent, "needs_response")
    await buyer.buy()
    repaid = await buyer.balance()
    await buyer.dispute("dp_1", intent, "won")

    assert (repaid, await buyer.balance()) == (0, 1_000)


async def test_an_inquiry_moves_no_money(buyer: Buyer) -> None:
    intent = await buyer.buy()
    await buyer.dispute("dp_1", intent, "warning_needs_response")

    assert await buyer.balance() == 1_000


async def test_more_than_was_paid_is_quarantined(buyer: Buyer) -> None:
    intent = await buyer.buy()

    assert await buyer.refund("re_1", intent, 1_001) == "quarantined"
    assert await buyer.dispute("dp_1", intent, "lost", 2_000) == "quarantined"
    assert await buyer.refund("re_2", "pi_unknown", 10) == "ignored"
    assert await buyer.balance() == 1_000


async def test_money_that_came_back_twice_leaves_twice(buyer: Buyer) -> None:
    """A refund, and then a dispute of the whole that is lost: the customer has 17 dollars back for 10."""
    intent = await buyer.buy()
    await buyer.refund("re_1", intent, 700)
    await buyer.dispute("dp_1", intent, "lost")

    assert await buyer.balance() == -700


async def test_a_refund_does_not_depend_on_another_that_will_fail(buyer: Buyer) -> None:
    """Heard of in the wrong order: the second refund before the first one's failure."""
    intent = await buyer.buy()
    await buyer.refund("re_1", intent, 1_000)
    await buyer.refund("re_2", intent, 600)
    await buyer.refund("re_1", intent, 1_000, "failed")

    assert await buyer.balance() == 400


async def test_two_events_of_one_payment_have_one_effect(buyer: Buyer) -> None:
    """L8, keyed on the object: a second event, another id, the same checkout."""
    await buyer.buy()
    paid = CheckoutFacts(
        "cs_1", "order_1", buyer.id, "topup", "payment", "complete", "paid", 1_000, "usd", "", "cus_1", "", "pi_1",
        NOV, False,
    )
    for name in ("a", "b", "a"):
        await buyer.store.apply_event(event(name), Fetched(checkout=paid), GRACE, source="webhook", at_ms=NOV)
    counts = await buyer.store.count_events()

    assert await buyer.balance() == 1_000
    assert counts == {"processed": 3, "duplicate": 1}


async def test_a_mismatch_undoes_what_was_booked_before_it(buyer: Buyer) -> None:
    """All or nothing: a good checkout beside a wrong refund grants nothing."""
    order = await buyer.store.open_order(Order(
        "order_9", buyer.id, "topup", Rail.CARD, 1_000, "usd", 1_000, OrderState.NEW, "https://a.test", "", NOV,
    ), ACTOR)
    paid = CheckoutFacts(
        "cs_9", order.id, buyer.id, "topup", "payment", "complete", "paid", 1_000, "usd", "", "cus_1", "", "pi_9", NOV,
        False,
    )
    wrong = RefundFacts("re_9", "pi_9", 5_000, "usd", "succeeded", NOV)
    applied = await buyer.store.apply_event(
        event("x"), Fetched(checkout=paid, refunds=(wrong,)), GRACE, source="webhook", at_ms=NOV
    )

    assert applied.state == "quarantined"
    assert await buyer.balance() == 0
    assert (await buyer.store.load_orders(buyer.id))[0].state is OrderState.NEW


async def test_the_database_keeps_what_was_paid_and_ordered(buyer: Buyer) -> None:
    """L1 for payments: neither code nor hand changes them."""
    intent = await buyer.buy()
    await buyer.refund("re_1", intent, 100)
    for sql in (
        "UPDATE payment SET credits = 5", "DELETE FROM payment", "DELETE FROM payment_order",
        "UPDATE payment_order SET amount_cents = 1", "UPDATE payment_order SET state = 'open'",
        "UPDATE payment_loss SET credits = 0", "UPDATE payment_loss SET state = 'won'", "DELETE FROM payment_loss",
    ):
        with pytest.raises(StoreError):
            await buyer.store.writer.submit(lambda conn, sql=sql: conn.execute(sql).rowcount)


async def test_one_open_order_for_the_same_thing(buyer: Buyer) -> None:
    """The database itself holds it, whatever the code above it believes."""
    wish = Order(
        "order_a", buyer.id, "addon", Rail.CARD, 500, "usd", 0, OrderState.NEW, "https://a.test", "", NOV
    )
    first = await buyer.store.open_order(wish, ACTOR)
    second = await buyer.store.open_order(replace(wish, id="order_b", amount_cents=900), ACTOR)

    assert first == second
    with pytest.raises(StoreError):
        await buyer.store.writer.submit(lambda conn: conn.execute(
            "INSERT INTO payment_order(workspace_id, id, purpose, rail, amount_cents, currency, credits, state,"
            " return_url, customer, created_at_ms)"
            " VALUES (?, 'order_c', 'addon', 'card', 1, 'usd', 0, 'new', '', '', 1)",
            (buyer.id,),
        ).rowcount)


@pytest.mark.parametrize(("sql", "check"), [
    ("UPDATE addon SET state = 'ended'", "entitlement"),
    ("UPDATE workspace SET paid_until_ms = paid_until_ms + 1", "entitlement"),
    ("UPDATE workspace SET entitlement = 'none'", "entitlement"),
    ("UPDATE addon SET amount = 1, rail = 'card', subscription = 'sub_x'", "addon.unpaid"),
])
async def test_verify_sees_an_entitlement_without_a_payment(tmp_path: Path, sql: str, check: str) -> None:
    store = open_store(tmp_path / "own.db")
    try:
        ws = await add_workspace(store, entitlement=EntitlementState.NONE)
        await store.grant_credits(
            ws.id, 500, "promo", expires_at_ms=None, idem_key="p", at_ms=NOV, actor=ACTOR
        )
        await store.start_credits_addon(ws.id, 500, GRACE, at_ms=NOV, actor=ACTOR)
        clean = list(await store.verify(NOV))
        await store.writer.submit(lambda conn: conn.execute(sql).rowcount)

        assert clean == []
        assert check in {finding.check for finding in await store.verify(NOV)}
    finally:
        await store.close()
