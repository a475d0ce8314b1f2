"""Thirty payment histories, as what people, cards and banks do at Stripe, and the books in memory that hear of it."""

import hashlib
import random
import sqlite3
from collections.abc import Callable
from typing import Any

from tests.control.stripe_script import ScriptedStripe

from ownkey.control.payment_events import PaymentEvents
from ownkey.domain.billing import DAY_MS, EventHint, Order, OrderState, Rail
from ownkey.domain.records import Actor
from ownkey.store.connection import Connection
from ownkey.store.payments import PaymentsPart
from ownkey.store.schema import migrate
from ownkey.store.verify import verify

START = 1_795_000_000_000
ACTOR = Actor("service", "tok")
WS = "ws_1"

_BASE = (
    "INSERT INTO workspace(id, kind, name, external_id, plan, status, timezone, entitlement, credits_if_key_fails,"
    " created_at_ms) VALUES ('ws_1', 'tenant', 'Acme', 'acme', 'pro', 'active', 'UTC', 'none', 0, 1)",
    "INSERT INTO dek(workspace_id, dek_id, kek_id, nonce, ciphertext) VALUES ('ws_1', 'd', 'k', x'00', x'00')",
    "INSERT INTO wallet(workspace_id) VALUES ('ws_1')",
)


class _Inline:
    """The writer's operations, at once, on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def submit(self, operation: Callable[[Connection], Any], *, then: Callable[[Any], None] | None = None) -> Any:
        result = operation(self._conn)
        if then is not None:
            then(result)
        return result


class MemoryBooks(PaymentsPart):
    """The real statements and effects on a database in memory; one transaction that is undone for each run."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.writer = _Inline(conn)  # type: ignore[assignment]
        self._near = self._far = conn
        self._states, self._ids, self._principals = {}, {}, {}
        self._platform_id = None

    async def _write(self, operation: Any, workspace_id: str | None = None, *, principals: bool = False) -> Any:
        return operation(self.conn)

    async def _read(self, query: Any) -> Any:
        return query(self.conn)


def open_books() -> MemoryBooks:
    conn = sqlite3.connect(":memory:", isolation_level=None, factory=Connection)
    conn.boot_id, conn.audit_key = "boot", b"k" * 32
    migrate(conn)
    conn.forget()
    conn.execute("PRAGMA foreign_keys = ON")
    for statement in _BASE:
        conn.execute(statement)
    return MemoryBooks(conn)


class Clock:
    def __init__(self) -> None:
        self.ms = START

    def now_ms(self) -> int:
        return self.ms


class Life:
    """One run of a history: Stripe moves step by step, and its events arrive whenever `chance` says so."""

    def __init__(self, books: MemoryBooks, chance: random.Random | None) -> None:
        self.stripe = ScriptedStripe(now_ms=START)
        self.clock = Clock()
        self.books = books
        self.chance = chance
        self.events = PaymentEvents(books, self.stripe, self.clock, 3 * DAY_MS)  # type: ignore[arg-type]
        self.orders = 0
        self.seen = 0
        self.flying: list[EventHint] = []

    # --- steps

    async def order(self, purpose: str = "topup", cents: int = 1_000) -> str:
        """A checkout page; returns its id."""
        self.orders += 1
        credits = cents if purpose == "topup" else 0
        order = await self.books.open_order(Order(
            f"order_{self.orders}", WS, purpose, Rail.CARD, cents, "usd", credits,  # type: ignore[arg-type]
            OrderState.NEW, "https://a.test", "", self.clock.ms,
        ), ACTOR)
        facts = await self.stripe.create_checkout(order)
        await self.books.note_checkout(facts, self.clock.ms)
        return facts.id

    async def pay(self, checkout: str, ok: bool = True) -> None:
        self.stripe.pay(checkout, ok)
        await self._some()

    async def buy(self, cents: int = 1_000) -> str:
        """A paid pack; returns its payment."""
        checkout = await self.order("topup", cents)
        await self.pay(checkout)
        # Who comes back to our page has it booked: the next order of the same pack is a new one.
        await self.events.book_checkout(self.stripe.checkouts[checkout])
        return self.stripe.checkouts[checkout].payment_intent

    async def subscribe(self) -> str:
        checkout = await self.order("addon", 500)
        await self.pay(checkout)
        await self.events.book_checkout(self.stripe.checkouts[checkout])
        return self.stripe.checkouts[checkout].subscription

    async def do(self, step: Callable[[], Any]) -> Any:
        result = step()
        await self._some()
        return result

    async def month(self, subscription: str, ok: bool = True) -> None:
        self.clock.ms = self.stripe.now_ms = self.stripe.subscriptions[subscription].period_end_ms
        await self.do(lambda: self.stripe.renew(subscription, ok))

    # --- deliveries

    async def _some(self) -> None:
        """In order and at once without a chance; else late, out of order and more than once."""
        self.flying += self.stripe.events[self.seen:]
        self.seen = len(self.stripe.events)
        if self.chance is None:
            while self.flying:
                await self._deliver(self.flying.pop(0))
            return
        for _ in range(self.chance.randrange(3)):
            if self.flying:
                event = self.chance.choice(self.flying)
                if self.chance.random() < 0.6:
                    self.flying.remove(event)
                await self._deliver(event)

    async def end(self) -> None:
        """Everything arrives at last, in any order, some of it again."""
        self.flying += self.stripe.events[self.seen:]
        if self.chance is not None:
            self.flying += self.chance.choices(self.stripe.events, k=len(self.stripe.events) // 2)
            self.chance.shuffle(self.flying)
        for event in self.flying:
            await self._deliver(event)

    async def _deliver(self, event: EventHint) -> None:
        applied = await self.events.handle(event, source="webhook")
        assert applied.state in ("processed", "duplicate"), (event, applied)


History = Callable[[Life], Any]


async def _top_ups(life: Life, sizes: tuple[int, ...]) -> None:
    for cents in sizes:
        await life.buy(cents)


async def _refunds(life: Life, parts: tuple[int, ...], extra: int = 0) -> None:
    intent = await life.buy()
    if extra:
        await life.buy(extra)
    for cents in parts:
        await life.do(lambda cents=cents: life.stripe.refund(intent, cents))


async def _failed_refund(life: Life, later: int) -> None:
    intent = await life.buy()
    refund = await life.do(lambda: life.stripe.refund(intent, 1_000))
    await life.do(lambda: life.stripe.fail_refund(refund))
    if later:
        await life.do(lambda: life.stripe.refund(intent, later))


async def _dispute(life: Life, outcome: str, before: int = 0, after: int = 0) -> None:
    intent = await life.buy()
    if before:
        await life.buy(before)
    dispute = await life.do(lambda: life.stripe.dispute(intent, 1_000))
    if after:
        await life.buy(after)
    if outcome:
        await life.do(lambda: life.stripe.close_dispute(dispute, outcome))


async def _expired_page(life: Life) -> None:
    checkout = await life.order()
    await life.do(lambda: life.stripe.expire(checkout))
    await life.events.book_checkout(life.stripe.checkouts[checkout])
    await life.buy()


async def _months(life: Life, good: str) -> None:
    """"+" a renewal that is paid, "-" one that fails, "l" the late payment of it, "c" cancel, "k" keep, "x" the end."""
    subscription = await life.subscribe()
    for step in good:
        match step:
            case "+" | "-":
                await life.month(subscription, step == "+")
            case "l":
                await life.do(lambda: life.stripe.pay_late(subscription))
            case "c" | "k":
                await life.do(lambda step=step: life.stripe.change(subscription, cancel_at_period_end=step == "c"))
            case "x":
                await life.do(lambda: life.stripe.change(
                    subscription, status="canceled", ended_at_ms=life.stripe.now_ms, failed_payment=False
                ))
            case "f":
                await life.do(lambda: life.stripe.change(
                    subscription, status="canceled", ended_at_ms=life.stripe.now_ms, failed_payment=True
                ))


async def _first_card_refused(life: Life) -> None:
    checkout = await life.order("addon", 500)
    await life.pay(checkout, ok=False)
    await life.pay(checkout)
    await life.events.book_checkout(life.stripe.checkouts[checkout])


async def _again(life: Life, months: str) -> None:
    """A subscription that ended, and another one later: events of the first may come last."""
    await _months(life, months + "x")
    await life.events.book_subscription(next(iter(life.stripe.subscriptions)))
    life.clock.ms = life.stripe.now_ms = life.clock.ms + 40 * DAY_MS
    subscription = await life.subscribe()
    await life.month(subscription)


async def _refunded_month(life: Life) -> None:
    subscription = await life.subscribe()
    invoice = next(i for i in life.stripe.invoices.values() if i.subscription == subscription)
    await life.do(lambda: life.stripe.refund(invoice.payment_intents[0], 500))


async def _disputed_month(life: Life, outcome: str) -> None:
    subscription = await life.subscribe()
    invoice = next(i for i in life.stripe.invoices.values() if i.subscription == subscription)
    dispute = await life.do(lambda: life.stripe.dispute(invoice.payment_intents[0], 500))
    await life.do(lambda: life.stripe.close_dispute(dispute, outcome))


async def _everything(life: Life) -> None:
    subscription = await life.subscribe()
    intent = await life.buy()
    await life.month(subscription)
    await life.do(lambda: life.stripe.refund(intent, 300))
    other = await life.buy(2_000)
    dispute = await life.do(lambda: life.stripe.dispute(other, 2_000))
    await life.month(subscription, ok=False)
    await life.do(lambda: life.stripe.pay_late(subscription))
    await life.do(lambda: life.stripe.close_dispute(dispute, "lost"))
    await life.buy(5_000)


HISTORIES: dict[str, History] = {
    "one top-up": lambda life: _top_ups(life, (1_000,)),
    "three top-ups": lambda life: _top_ups(life, (1_000, 2_000, 5_000)),
    "the same pack twice": lambda life: _top_ups(life, (1_000, 1_000)),
    "refunded whole": lambda life: _refunds(life, (1_000,)),
    "refunded in parts": lambda life: _refunds(life, (300, 300, 400)),
    "refunded in part": lambda life: _refunds(life, (250,)),
    "refunded beside another": lambda life: _refunds(life, (1_000,), 2_000),
    "a refund that failed": lambda life: _failed_refund(life, 0),
    "a refund that failed, then one that did not": lambda life: _failed_refund(life, 600),
    "disputed": lambda life: _dispute(life, ""),
    "dispute won": lambda life: _dispute(life, "won"),
    "dispute lost": lambda life: _dispute(life, "lost"),
    "dispute won beside another": lambda life: _dispute(life, "won", before=2_000),
    "dispute lost beside another": lambda life: _dispute(life, "lost", before=2_000),
    "bought while disputed, won": lambda life: _dispute(life, "won", after=2_000),
    "bought while disputed, lost": lambda life: _dispute(life, "lost", after=2_000),
    "a page that expired": _expired_page,
    "subscribed": lambda life: _months(life, ""),
    "three months": lambda life: _months(life, "++"),
    "a year": lambda life: _months(life, "+" * 11),
    "past due": lambda life: _months(life, "+-"),
    "past due, paid late": lambda life: _months(life, "-l+"),
    "past due twice": lambda life: _months(life, "-l-l"),
    "given up by Stripe": lambda life: _months(life, "-f"),
    "cancelled": lambda life: _months(life, "+c"),
    "cancelled, kept, cancelled, over": lambda life: _months(life, "ckc+"),
    "first card refused": _first_card_refused,
    "subscribed again": lambda life: _again(life, "+"),
    "a month refunded": _refunded_month,
    "a month disputed and won": lambda life: _disputed_month(life, "won"),
    "everything at once": _everything,
}


def ledger_hash(books: MemoryBooks) -> str:
    """What the books say in the end: every effect with its amount, every account's sum, the add-on, the orders.

    Lots of one workspace count together, and so do what is owed and its repayment: which of them a refund met first
    depends on what had arrived by then, what is left does not.
    """
    conn = books.conn
    effects = conn.execute(
        "SELECT e.kind, e.idem_key, sum(p.amount_credits) FROM ledger_entry e JOIN posting p ON p.entry_id = e.id"
        " WHERE e.kind <> 'repayment' GROUP BY e.id ORDER BY e.idem_key"
    ).fetchall()
    sums: dict[str, int] = {}
    for source, destination, amount in conn.execute(
        "SELECT source, destination, amount_credits FROM posting"
    ).fetchall():
        for account, sign in ((destination, 1), (source, -1)):
            name = account if account.startswith(("source:", "sink:", "revenue:")) else account.partition(":")[0]
            sums[name] = sums.get(name, 0) + sign * amount
    rows = [
        conn.execute(sql).fetchall() for sql in (
            "SELECT rail, state, anchor_ms, paid_until_ms, grace_until_ms, amount, subscription, over FROM addon",
            "SELECT entitlement, paid_until_ms, grace_until_ms, entitlement_by FROM workspace WHERE id = 'ws_1'",
            "SELECT balance_credits, held_credits FROM wallet",
            "SELECT id, state, checkout, subscription, payment_intent FROM payment_order ORDER BY id",
            "SELECT id, purpose, payment_intent, amount_cents, credits, period_start_ms FROM payment ORDER BY id",
            "SELECT id, payment_id, kind, state, amount_cents, credits FROM payment_loss ORDER BY id",
        )
    ]
    told = repr((effects, sorted(s for s in sums.items() if s[1]), rows))
    return hashlib.sha256(told.encode()).hexdigest()


async def run(books: MemoryBooks, history: History, chance: random.Random | None) -> str:
    """The history's ledger hash for one order of deliveries; the books are as they were afterwards."""
    books.conn.execute("SAVEPOINT run")
    try:
        life = Life(books, chance)
        await history(life)
        await life.end()
        return ledger_hash(books)
    finally:
        books.conn.execute("ROLLBACK TO run")
        books.conn.execute("RELEASE run")


async def audited(books: MemoryBooks, history: History) -> list[Any]:
    """What verify finds after the history, in order."""
    life = Life(books, None)
    await history(life)
    await life.end()
    return list(verify(books.conn, life.clock.ms, books.conn.audit_key))
