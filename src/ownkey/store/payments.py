"""Payments as the use cases see them: orders, the add-on, Stripe's events, renewals. Each method is one operation of
the writer, durable when it returns."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ownkey.domain.billing import (
    Addon,
    AddonState,
    Applied,
    BillingBooks,
    CheckoutFacts,
    EventHint,
    Fetched,
    Order,
    OrderState,
    Rail,
    cancel_with_credits,
    is_live,
    keep_with_credits,
    start_with_credits,
)
from ownkey.domain.records import Actor
from ownkey.store.addons import (
    charge_addon,
    due_addons,
    due_cycle_workspaces,
    load_addon,
    put_addon,
    read_addon,
    renew_addon,
    run_cycle,
)
from ownkey.store.connection import Connection, snapshot
from ownkey.store.core import Core
from ownkey.store.notices import announce, utc_text
from ownkey.store.payment_rows import (
    ORDER_COLUMNS,
    Mismatch,
    book_checkout,
    book_dispute,
    book_invoice,
    book_refund,
    book_subscription,
    end_order,
    load_order,
    load_payment,
    open_order,
    read_order,
)
from ownkey.store.wallets import free_credits, load_wallet
from ownkey.store.workspaces import read_workspace

_ORDERS = ORDER_COLUMNS + "WHERE workspace_id = ? ORDER BY created_at_ms DESC, id DESC LIMIT ?"
_WAITING_ORDERS = ORDER_COLUMNS + "WHERE state IN ('new', 'open') ORDER BY created_at_ms, id LIMIT ?"
_CARD_ADDONS = """
SELECT workspace_id, rail, state, anchor_ms, paid_until_ms, grace_until_ms, amount, grace_ms,
  coalesce(subscription, ''), customer, over FROM addon
WHERE rail = 'card' AND over = 0 AND paid_until_ms <= ? AND workspace_id > ? ORDER BY workspace_id LIMIT ?
"""
_EVENT = "SELECT state, reason, workspace_id FROM stripe_event WHERE id = ?"
_NEW_EVENT = """
INSERT INTO stripe_event(workspace_id, id, type, object_type, object_id, livemode, created_ms, state, reason, source,
  received_at_ms, done_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(id) DO UPDATE SET workspace_id = excluded.workspace_id, state = excluded.state, reason = excluded.reason,
  deliveries = deliveries + 1, done_at_ms = excluded.done_at_ms
"""
_AGAIN = "UPDATE stripe_event SET deliveries = deliveries + 1 WHERE id = ?"
_INBOX = """
SELECT id, workspace_id, type, object_type, object_id, livemode, created_ms, state, reason, source, deliveries,
  received_at_ms, done_at_ms FROM stripe_event
WHERE (:state IS NULL OR state = :state OR (:state = 'duplicate' AND deliveries > 1))
ORDER BY received_at_ms DESC, id DESC LIMIT :limit
"""
_FAILED = """
SELECT id, type, created_ms, livemode, object_type, object_id FROM stripe_event
WHERE state = 'failed' ORDER BY received_at_ms, id LIMIT ?
"""
_ONE_EVENT = """
SELECT id, type, created_ms, livemode, object_type, object_id FROM stripe_event WHERE id = ?
"""
_COUNTS = "SELECT state, count(*), coalesce(sum(deliveries - 1), 0) FROM stripe_event GROUP BY state"
_WISH = """
INSERT INTO subscription_wish(workspace_id, id, subscription, wish, at_ms) VALUES (?, ?, ?, ?, ?)
ON CONFLICT(workspace_id) DO UPDATE SET id = excluded.id, subscription = excluded.subscription,
  wish = excluded.wish, at_ms = excluded.at_ms
WHERE subscription_wish.wish <> excluded.wish OR subscription_wish.subscription <> excluded.subscription
"""
_MY_WISH = "SELECT id, subscription, wish FROM subscription_wish WHERE workspace_id = ?"
_WISHES = "SELECT workspace_id, id, subscription, wish FROM subscription_wish ORDER BY at_ms, workspace_id LIMIT ?"
_PAYMENTS = """
SELECT p.id, p.purpose, p.amount_cents, p.currency, p.credits, p.period_start_ms, p.at_ms,
  coalesce((SELECT sum(l.amount_cents) FROM payment_loss l
    WHERE l.workspace_id = p.workspace_id AND l.payment_id = p.id AND l.state NOT IN ('failed', 'won')), 0)
FROM payment p WHERE p.workspace_id = ? ORDER BY p.at_ms DESC, p.id DESC LIMIT ?
"""
_LIVING = "SELECT 1 FROM workspace WHERE id = ? AND status <> 'deleted'"

_ORDERS_SHOWN = 20

Wish = tuple[str, str, str]


class PaymentsPart(Core):
    """Satisfies `control.ports.Orders`, `Bought`, `Addons` and `EventBook`."""

    async def open_order(self, wish: Order, actor: Actor) -> Order:
        """The order that is open for the same thing, else this one, written before Stripe hears of it."""
        return await self._write(lambda conn: open_order(conn, wish, actor), wish.workspace_id)

    async def note_checkout(self, facts: CheckoutFacts, at_ms: int) -> Order | None:
        """What a Checkout session says now, booked as an event about it would be. None: it is not what was ordered."""
        def operation(conn: Connection) -> Order | None:
            try:
                book_checkout(conn, facts, False, at_ms)
            except Mismatch:
                return None
            return load_order(conn, facts.order_id)

        return await self._write(operation, facts.workspace_id)

    async def end_order(self, order: Order, state: OrderState) -> None:
        await self._write(lambda conn: end_order(conn, order.workspace_id, order.id, state), order.workspace_id)

    async def load_orders(self, workspace_id: str, *, limit: int = _ORDERS_SHOWN) -> Sequence[Order]:
        return [read_order(row) for row in self._near.execute(_ORDERS, (workspace_id, limit)).fetchall()]

    async def load_billing(self, workspace_id: str) -> BillingBooks:
        """Read past the cache: a payment that was booked a moment ago shows either nowhere or in all of it."""
        with snapshot(self._near):
            wallet = load_wallet(self._near, workspace_id)
            orders = self._near.execute(_ORDERS, (workspace_id, _ORDERS_SHOWN)).fetchall()
            return BillingBooks(
                read_workspace(self._near, workspace_id), load_addon(self._near, workspace_id),
                0 if wallet is None else wallet.balance_credits, tuple(read_order(row) for row in orders),
            )

    async def load_waiting_orders(self, *, limit: int) -> Sequence[Order]:
        rows = await self._read(lambda conn: conn.execute(_WAITING_ORDERS, (limit,)).fetchall())
        return [read_order(row) for row in rows]

    async def load_payments(self, workspace_id: str, *, limit: int = 50) -> Sequence[Mapping[str, Any]]:
        """Newest first: id, purpose, amount_cents, currency, credits, period_start_ms, at_ms, taken_back_cents."""
        names = ("id", "purpose", "amount_cents", "currency", "credits", "period_start_ms", "at_ms",
                 "taken_back_cents")
        rows = await self._read(lambda conn: conn.execute(_PAYMENTS, (workspace_id, limit)).fetchall())
        return [dict(zip(names, row, strict=True)) for row in rows]

    # --- the add-on

    async def load_addon(self, workspace_id: str) -> Addon | None:
        return load_addon(self._near, workspace_id)

    async def start_credits_addon(
        self, workspace_id: str, amount: int, grace_ms: int, *, at_ms: int, actor: Actor
    ) -> Addon | None:
        """The first period, paid now; None where the credits do not suffice. One that lives is returned as it is."""
        def operation(conn: Connection) -> Addon | None:
            known = load_addon(conn, workspace_id)
            if known is not None and known.state is AddonState.CANCELLING and known.rail is Rail.CREDITS:
                return put_addon(conn, keep_with_credits(known, at_ms), at_ms, actor)
            if known is not None and is_live(known, at_ms):
                renew_addon(conn, workspace_id, at_ms, actor)
                return load_addon(conn, workspace_id)
            if free_credits(conn, workspace_id) < amount:
                return None
            addon = start_with_credits(workspace_id, amount, grace_ms, at_ms)
            charge_addon(conn, addon, at_ms, at_ms, actor)
            return put_addon(conn, addon, at_ms, actor)

        return await self._write(operation, workspace_id)

    async def change_credits_addon(
        self, workspace_id: str, keep: bool, *, at_ms: int, actor: Actor
    ) -> Addon | None:
        """Cancel at the period's end, or keep it after all. None: there is none on the credits rail."""
        def operation(conn: Connection) -> Addon | None:
            known = load_addon(conn, workspace_id)
            if known is None or known.rail is not Rail.CREDITS:
                return None
            return put_addon(
                conn, keep_with_credits(known, at_ms) if keep else cancel_with_credits(known), at_ms, actor
            )

        return await self._write(operation, workspace_id)

    async def save_wish(self, workspace_id: str, wish_id: str, subscription: str, wish: str, at_ms: int) -> Wish:
        """What Stripe is to be told, kept until it agrees. The same wish again keeps its first id, which is its
        Idempotency-Key."""
        def operation(conn: Connection) -> Wish:
            conn.execute(_WISH, (workspace_id, wish_id, subscription, wish, at_ms))
            found: Wish = conn.execute(_MY_WISH, (workspace_id,)).fetchone()
            return found

        return await self._write(operation, workspace_id)

    async def load_wishes(self, *, limit: int) -> Sequence[tuple[str, str, str, str]]:
        """(workspace, id, subscription, wish), oldest first."""
        return await self._read(lambda conn: conn.execute(_WISHES, (limit,)).fetchall())

    async def load_card_addons(self, *, paid_by_ms: int, after: str, limit: int) -> Sequence[Addon]:
        """Subscriptions that Stripe has not ended and whose paid time ends by then."""
        rows = await self._read(lambda conn: conn.execute(_CARD_ADDONS, (paid_by_ms, after, limit)).fetchall())
        return [read_addon(row) for row in rows]

    async def renew_addons(self, at_ms: int, *, limit: int = 200) -> int:
        """A job: renew what is due with credits, end what has run out. Returns how many changed."""
        return await self._each(lambda conn: due_addons(conn, at_ms, limit), lambda conn, ws: renew_addon(
            conn, ws, at_ms
        ))

    async def run_cycles(self, at_ms: int, *, limit: int = 200) -> int:
        """A job: the credits that plans bring each cycle. Returns how many workspaces got some."""
        return await self._each(lambda conn: due_cycle_workspaces(conn, at_ms, limit), lambda conn, ws: run_cycle(
            conn, ws, at_ms
        ))

    async def _each(
        self, due: Callable[[Connection], list[str]], work: Callable[[Connection, str], bool]
    ) -> int:
        """Each workspace in a transaction of its own: one that fails leaves the others alone."""
        changed = 0
        for workspace_id in await self.writer.submit(due):
            changed += await self._write(_bound(work, workspace_id), workspace_id)
        return changed

    # --- Stripe's events

    async def find_event(self, event_id: str) -> Applied | None:
        """What became of it; None if it is new or failed, and is to be worked on."""
        row = self._near.execute(_EVENT, (event_id,)).fetchone()
        return None if row is None or row[0] == "failed" else Applied(*row)

    async def apply_event(
        self, hint: EventHint, fetched: Fetched, grace_ms: int, *, source: str, at_ms: int
    ) -> Applied:
        """The event's row and its one effect, in one transaction. What does not agree is quarantined and told."""
        def operation(conn: Connection) -> Applied:
            known = conn.execute(_EVENT, (hint.id,)).fetchone()
            if known is not None and known[0] in ("processed", "ignored"):
                conn.execute(_AGAIN, (hint.id,))
                return Applied("duplicate", known[1], known[2])
            applied = _book_all(conn, fetched, grace_ms, at_ms)
            _save_event(conn, hint, applied, source, at_ms)
            if applied.state == "quarantined":
                _alert(conn, hint, applied, at_ms)
            return applied

        touched = _workspaces_of(fetched, self._near)

        def then(_: Any) -> None:
            for workspace_id in touched:
                self._forget(workspace_id)

        applied: Applied = await self.writer.submit(operation, then=then)
        self._forget(applied.workspace_id or None)
        return applied

    async def apply_facts(self, fetched: Fetched, grace_ms: int, *, at_ms: int) -> Applied:
        """The same effects without an event: a return page or the reconciliation has asked Stripe itself."""
        return await self.writer.submit(
            lambda conn: _book_all(conn, fetched, grace_ms, at_ms),
            then=lambda applied: self._forget(applied.workspace_id or None),
        )

    async def note_event(self, hint: EventHint, applied: Applied, *, source: str, at_ms: int) -> Applied:
        """An event without effect: ignored, or failed and to be tried again."""
        def operation(conn: Connection) -> Applied:
            known = conn.execute(_EVENT, (hint.id,)).fetchone()
            if known is not None and known[0] != "failed":
                conn.execute(_AGAIN, (hint.id,))
                return Applied("duplicate", known[1], known[2])
            _save_event(conn, hint, applied, source, at_ms)
            return applied

        return await self._write(operation)

    async def count_delivery(self, event_id: str) -> None:
        await self._write(lambda conn: conn.execute(_AGAIN, (event_id,)).rowcount)

    async def load_events(self, state: str | None, *, limit: int) -> Sequence[Mapping[str, Any]]:
        """The inbox, newest first; `state` "duplicate": those that came more than once."""
        names = ("id", "workspace_id", "type", "object_type", "object_id", "livemode", "created_ms", "state", "reason",
                 "source", "deliveries", "received_at_ms", "done_at_ms")
        rows = await self._read(lambda conn: conn.execute(_INBOX, {"state": state, "limit": limit}).fetchall())
        return [dict(zip(names, row, strict=True)) for row in rows]

    async def count_events(self) -> Mapping[str, int]:
        """By state, and "duplicate": deliveries beyond each event's first."""
        rows = await self._read(lambda conn: conn.execute(_COUNTS).fetchall())
        return {state: count for state, count, _ in rows} | {"duplicate": sum(row[2] for row in rows)}

    async def load_failed_events(self, *, limit: int) -> Sequence[EventHint]:
        return [_hint(row) for row in self._near.execute(_FAILED, (limit,)).fetchall()]

    async def load_event(self, event_id: str) -> EventHint | None:
        row = self._near.execute(_ONE_EVENT, (event_id,)).fetchone()
        return None if row is None else _hint(row)

    async def knows_payment(self, payment_intent: str) -> bool:
        return load_payment(self._near, payment_intent) is not None


def _bound(work: Callable[[Connection, str], bool], workspace_id: str) -> Callable[[Connection], bool]:
    return lambda conn: work(conn, workspace_id)


def _book_all(conn: Connection, fetched: Fetched, grace_ms: int, at_ms: int) -> Applied:
    """Every effect of what was fetched, or none: a mismatch undoes what came before it."""
    conn.execute("SAVEPOINT effect")
    try:
        touched = _book_each(conn, fetched, grace_ms, at_ms)
    except Mismatch as error:
        conn.execute("ROLLBACK TO effect")
        conn.execute("RELEASE effect")
        return Applied("quarantined", error.reason, error.workspace_id)
    conn.execute("RELEASE effect")
    ours = [workspace_id for workspace_id in touched if workspace_id]
    return Applied("processed", "", ours[0]) if ours else Applied("ignored", "not of an order made here")


def _book_each(conn: Connection, fetched: Fetched, grace_ms: int, at_ms: int) -> list[str]:
    touched = []
    if fetched.checkout is not None and fetched.checkout.order_id:
        touched.append(book_checkout(conn, fetched.checkout, fetched.failed_checkout, at_ms))
    if fetched.subscription is not None and fetched.subscription.order_id:
        touched.append(book_subscription(conn, fetched.subscription, grace_ms, at_ms))
        if fetched.invoice is not None:
            touched.append(book_invoice(conn, fetched.invoice, fetched.subscription, at_ms))
    touched += [book_refund(conn, refund, at_ms) for refund in fetched.refunds]
    if fetched.dispute is not None:
        touched.append(book_dispute(conn, fetched.dispute, at_ms))
    return touched


def _save_event(conn: Connection, hint: EventHint, applied: Applied, source: str, at_ms: int) -> None:
    conn.execute(_NEW_EVENT, (
        applied.workspace_id, hint.id, hint.type, hint.object_type, hint.object_id, hint.livemode, hint.created_ms,
        applied.state, applied.reason, source, at_ms, None if applied.state == "failed" else at_ms,
    ))


def _alert(conn: Connection, hint: EventHint, applied: Applied, at_ms: int) -> None:
    """Once an object: several events may tell of the same mismatch. Where the workspace is known, it is told too."""
    if conn.execute(_LIVING, (applied.workspace_id,)).fetchone() is not None:
        announce(conn, applied.workspace_id, f"quarantine:{hint.object_id}", "payment_quarantined", {
            "workspace_id": applied.workspace_id, "object": hint.object_id, "reason": applied.reason,
            "at": utc_text(at_ms),
        }, at_ms)


def _workspaces_of(fetched: Fetched, conn: Any) -> set[str]:
    found = {facts.workspace_id for facts in (fetched.checkout, fetched.subscription) if facts is not None}
    for loss in (*fetched.refunds, *(() if fetched.dispute is None else (fetched.dispute,))):
        payment = load_payment(conn, loss.payment_intent)
        if payment is not None:
            found.add(payment.workspace_id)
    return found


def _hint(row: tuple[Any, ...]) -> EventHint:
    ident, kind, created_ms, livemode, object_type, object_id = row
    return EventHint(ident, kind, created_ms, bool(livemode), "", object_type, object_id)
