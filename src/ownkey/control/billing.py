"""The add-on and credits as people buy them: one page to pay on, one answer about where it stands.

Whether something is paid, Stripe alone knows: the return page and a webhook ask it, and both book the same effect.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from ownkey.control import ports
from ownkey.control.own_address import OwnAddress
from ownkey.control.payment_events import PaymentEvents, Reconciled
from ownkey.control.ports import Actor, Clock
from ownkey.control.problems import Problem, ProblemCode, invalid, suggest
from ownkey.domain.billing import (
    DAY_MS,
    Addon,
    AddonState,
    CheckoutFacts,
    Order,
    OrderState,
    PaymentsDown,
    PaymentsRefused,
    Purpose,
    Rail,
    is_live,
)
from ownkey.domain.connect import is_listed
from ownkey.domain.entitlements import standing
from ownkey.domain.phrases import Phrase
from ownkey.domain.product import Payers, Product, TopUpPack
from ownkey.domain.workspace import EntitlementState, WorkspaceState

OWN_PATH = "/portal/plans"


class _Store(ports.Orders, ports.Addons, ports.Bought, Protocol):
    pass


class BillingState(StrEnum):
    """What Plans & Pricing shows. `FINISHING`: a payment was begun and is not confirmed yet."""

    INCLUDED = "included"
    NOT_SUBSCRIBED = "not_subscribed"
    FINISHING = "finishing"
    ACTIVE = "active"
    CANCELLING = "cancelling"
    PAST_DUE = "past_due"
    INACTIVE = "inactive"
    HOST_MANAGED = "host_managed"


@dataclass(frozen=True, slots=True)
class BillingView:
    """Where the add-on stands. Amounts in whole cents and credits; times in Unix milliseconds, None where none.

    `checkout_url` is the page that is open for paying; `manage` whether there is a page at Stripe for card and
    invoices. `works_until_ms` ends what works now; `renews_at_ms` is the next charge. `test_mode`: no real money.
    """

    state: BillingState
    entitlement: EntitlementState
    sentence: str
    rail: str | None
    price_cents: int | None
    currency: str
    price_credits: int | None
    minimum_balance_credits: int
    balance_credits: int
    renews_at_ms: int | None
    works_until_ms: int | None
    checkout_url: str | None
    manage: bool
    host_url: str | None
    test_mode: bool
    failed_at_ms: int | None = None
    """When the renewal that is owed was not paid."""
    over_at_ms: int | None = None
    """When an add-on that is not paid any more stopped."""
    waiting: tuple[Order, ...] = ()
    """Payment pages that are open, newest first."""
    unpaid: frozenset[str] = frozenset()
    """What those pages are for that Stripe, asked just now, says are open and not paid."""


@dataclass(frozen=True, slots=True)
class PayStep:
    """What comes next: a page to pay on (`url`), or nothing because it is done."""

    url: str | None
    message: str
    view: BillingView


class BillingControl:
    """`payments` is None where nothing is paid by card. `address` is where browsers reach our own Plans & Pricing,
    `listed` the host's pages that may be returned to besides those of [billing]."""

    def __init__(
        self, store: _Store, payments: ports.Payments | None, events: PaymentEvents, clock: Clock, product: Product,
        address: OwnAddress | None = None, listed: Sequence[str] = (),
    ) -> None:
        self._address = address
        self._listed = listed
        self._store = store
        self._payments = payments
        self._events = events
        self._clock = clock
        self._product = product
        self._rules = product.billing
        self._grace_ms = product.grace_days * DAY_MS

    # --- reading

    async def show(self, workspace: WorkspaceState) -> BillingView:
        """Out of our own books: Stripe is not asked, so that the page works while it is down."""
        now = self._clock.now_ms()
        books = await self._store.load_billing(workspace.id)
        current, addon, orders = standing(books.workspace or workspace, now), books.addon, books.orders
        pages = tuple(order for order in orders if order.state is OrderState.OPEN and order.url)
        waiting = next((o for o in orders if o.purpose == "addon" and o.state is OrderState.OPEN), None)
        state = self._state(current, waiting)
        plan = self._product.plans.get(current.plan)
        card = self._rules.rail == "card"
        return BillingView(
            state=state, entitlement=current.entitlement, sentence=self._sentence(state, current, addon),
            rail=self._rules.rail, price_cents=self._rules.addon_cents if card else None,
            currency=self._rules.currency,
            price_credits=self._rules.addon_credits if self._rules.rail == "credits" else None,
            minimum_balance_credits=0 if plan is None else plan.minimum_balance_credits,
            balance_credits=books.balance_credits,
            renews_at_ms=current.paid_until_ms if state is BillingState.ACTIVE else None,
            works_until_ms=_works_until(state, current),
            checkout_url=waiting.url if waiting is not None and state is not BillingState.INCLUDED else None,
            manage=self._payments is not None and addon is not None and bool(addon.customer),
            host_url=self._rules.host_url or None,
            test_mode=self._payments is not None and not self._payments.livemode,
            failed_at_ms=_failed_at(state, addon), over_at_ms=_over_at(state, addon), waiting=pages,
        )

    def _state(self, workspace: WorkspaceState, waiting: Order | None) -> BillingState:
        match workspace.entitlement:
            case EntitlementState.INCLUDED:
                return BillingState.INCLUDED
            case EntitlementState.ACTIVE:
                return BillingState.ACTIVE
            case EntitlementState.CANCELLING:
                return BillingState.CANCELLING
            case _ if self._rules.rail is None:
                return BillingState.HOST_MANAGED
            case _ if waiting is not None:
                return BillingState.FINISHING
            case EntitlementState.GRACE:
                return BillingState.PAST_DUE
            case EntitlementState.INACTIVE:
                return BillingState.INACTIVE
            case EntitlementState.NONE:
                return BillingState.NOT_SUBSCRIBED

    def _sentence(self, state: BillingState, workspace: WorkspaceState, addon: Addon | None) -> str:
        name = self._product.name
        match state:
            case BillingState.INCLUDED:
                return Phrase("Calls with your own OpenRouter key are included in your plan.")
            case BillingState.ACTIVE if addon is None:
                return Phrase("The OpenRouter add-on is active; {name} has enabled it for you.", name=name)
            case BillingState.ACTIVE:
                return Phrase(
                    "The OpenRouter add-on is active and renews for {price} a month.", price=self._price(addon),
                )
            case BillingState.CANCELLING:
                return Phrase(
                    "The OpenRouter add-on is cancelled and works to the end of the period that is paid."
                )
            case BillingState.PAST_DUE if addon is None or addon.state is not AddonState.PAST_DUE:
                return Phrase(
                    "Calls with your own key work for the days of grace; subscribe to the add-on to keep them."
                )
            case BillingState.PAST_DUE:
                return Phrase(
                    "The renewal of the OpenRouter add-on is not paid; it works until the days of grace are over."
                )
            case BillingState.INACTIVE:
                return Phrase(
                    "The OpenRouter add-on is not paid. The saved key is kept and works again after payment."
                )
            case BillingState.FINISHING:
                return Phrase("A payment was begun and is not confirmed yet.")
            case BillingState.HOST_MANAGED:
                return Phrase("The OpenRouter add-on is sold by {name} itself.", name=name)
            case BillingState.NOT_SUBSCRIBED:
                return Phrase(
                    "OpenRouter is not enabled for this workspace. The add-on costs {price} a month.",
                    price=self._price(None),
                )

    def _price(self, addon: Addon | None) -> str:
        rail = self._rules.rail if addon is None else addon.rail
        amount = None if addon is None else addon.amount
        if rail == Rail.CREDITS:
            return f"{self._rules.addon_credits if amount is None else amount:,} credits"
        return money_text(self._rules.addon_cents if amount is None else amount, self._rules.currency)

    def packs(self) -> Sequence[TopUpPack]:
        return self._rules.packs

    async def payments(self, workspace: WorkspaceState, limit: int) -> Sequence[Mapping[str, Any]]:
        return await self._store.load_payments(workspace.id, limit=limit)

    # --- buying

    async def subscribe(self, workspace: WorkspaceState, return_url: str, actor: Actor) -> PayStep:
        """The page where the add-on is paid, the same one for whoever asks again; or, with credits, the add-on.

        Raises Problem where it is active already, or must not be bought.
        """
        self._check_sold(workspace)
        if self._rules.rail == "credits":
            return await self._subscribe_with_credits(workspace, actor)
        payments = self._card()
        addon = await self._store.load_addon(workspace.id)
        now = self._clock.now_ms()
        if addon is not None and addon.rail is Rail.CARD and not addon.over:
            await self._step_over(payments, workspace, addon, now)
        elif addon is not None and is_live(addon, now):
            raise _already(Phrase("The OpenRouter add-on is paid with credits and runs."))
        return await self._pay(payments, workspace, "addon", self._rules.addon_cents, 0, return_url, actor)

    async def _step_over(self, payments: ports.Payments, workspace: WorkspaceState, addon: Addon, now: int) -> None:
        """A subscription that Stripe still knows: asked anew, it may live; one that nobody pays makes room first."""
        await self._refresh(payments, addon.subscription)
        fresh = await self._store.load_addon(workspace.id)
        if fresh is None or fresh.over:
            return
        match fresh.state:
            case AddonState.ACTIVE:
                raise _already(Phrase("The OpenRouter add-on is active already."))
            case AddonState.CANCELLING:
                raise _already(Phrase("The OpenRouter add-on still runs; keep it instead of buying it again."))
            case AddonState.PAST_DUE if is_live(fresh, now):
                raise _already(Phrase("The add-on's renewal is not paid: update the card instead of buying it again."))
            case _:
                await self._tell(payments, workspace.id, fresh.subscription, "end")

    async def _subscribe_with_credits(self, workspace: WorkspaceState, actor: Actor) -> PayStep:
        addon = await self._store.start_credits_addon(
            workspace.id, self._rules.addon_credits, self._grace_ms, at_ms=self._clock.now_ms(), actor=actor
        )
        view = await self.show(workspace)
        if addon is None or addon.state is not AddonState.ACTIVE:
            raise Problem(
                ProblemCode.NOT_ENOUGH_CREDITS,
                Phrase(
                    "The add-on costs {addon_credits} credits a month, and {balance_credits} are on the balance.",
                    addon_credits=f"{self._rules.addon_credits:,}", balance_credits=f"{view.balance_credits:,}",
                ), Phrase("Add credits, then subscribe."), flow="credits",
                details={"needed_credits": self._rules.addon_credits, "balance_credits": view.balance_credits},
            )
        return PayStep(None, Phrase("The OpenRouter add-on is active. Connect your OpenRouter key now."), view)

    async def top_up(self, workspace: WorkspaceState, pack: str, return_url: str, actor: Actor) -> PayStep:
        """The page where a pack of credits is paid."""
        if self._product.payers is not Payers.WITH_CREDITS or not self._rules.packs:
            raise _not_sold(Phrase("Credits cannot be bought here."))
        found = next((row for row in self._rules.packs if row.name == pack), None)
        if found is None:
            names = [row.name for row in self._rules.packs]
            raise invalid("pack", Phrase("There is no pack {pack}.", pack=repr(pack[:60])), suggest(pack, names))
        return await self._pay(
            self._card(), workspace, "topup", found.amount_cents, found.credits, return_url, actor
        )

    async def _pay(
        self, payments: ports.Payments, workspace: WorkspaceState, purpose: Purpose, cents: int, credits: int,
        return_url: str, actor: Actor,
    ) -> PayStep:
        back = self._check_return(return_url)
        for _ in range(3):
            wish = Order(
                self._clock.new_id("order"), workspace.id, purpose, Rail.CARD, cents, self._rules.currency, credits,
                OrderState.NEW, back, "", self._clock.now_ms(),
            )
            order = await self._store.open_order(wish, actor)
            facts = await self._page(payments, order)
            if facts is None:
                continue
            if facts.status == "open" and (facts.amount_cents, order.amount_cents) == (cents, cents):
                return PayStep(facts.url, Phrase("Pay on Stripe's page; this page then shows the result."),
                               await self.show(workspace))
            if facts.status == "open":
                # The price has changed since this page was made: nobody shall pay the old one.
                await self._end_page(payments, facts)
                continue
            if facts.status == "complete":
                await self._confirm_facts(payments, facts)
                fresh = await self.show(workspace)
                if purpose == "addon" or facts.payment_status != "paid":
                    return PayStep(None, Phrase("The payment was made already."), fresh)
        raise _unreachable()

    async def _page(self, payments: ports.Payments, order: Order) -> CheckoutFacts | None:
        """The order's page as it is now, made if there is none yet. None: the order is over, a new one is needed."""
        try:
            if order.checkout:
                facts = await payments.load_checkout(order.checkout)
            else:
                facts = await payments.create_checkout(order)
        except PaymentsDown as error:
            raise _unreachable() from error
        except PaymentsRefused as error:
            await self._store.end_order(order, OrderState.FAILED)
            raise Problem(
                ProblemCode.BILLING_REFUSED, Phrase("Stripe refused to open a payment page ({code}).", code=error.code),
                Phrase("Tell the operator: the billing configuration or the Stripe account needs a look."),
            ) from error
        noted = await self._store.note_checkout(facts, self._clock.now_ms())
        if noted is None:
            await self._store.end_order(order, OrderState.FAILED)
            raise Problem(
                ProblemCode.BILLING_REFUSED,
                Phrase("Stripe's payment page does not show what was ordered, so it is not used."),
                Phrase("Tell the operator: the price configured here and the one at Stripe must agree."),
            )
        return None if facts.status == "expired" else facts

    async def _end_page(self, payments: ports.Payments, facts: CheckoutFacts) -> None:
        try:
            ended = await payments.end_checkout(facts.id)
        except PaymentsRefused:
            ended = await payments.load_checkout(facts.id)
        except PaymentsDown as error:
            raise _unreachable() from error
        await self._store.note_checkout(ended, self._clock.now_ms())

    async def confirm(self, workspace: WorkspaceState) -> BillingView:
        """The return page: Stripe is asked what became of everything that is open, and it is booked. Safe to repeat."""
        payments, unpaid = self._card(), set()
        try:
            for order in await self._store.load_orders(workspace.id):
                if order.state is OrderState.OPEN and order.checkout:
                    facts = await payments.load_checkout(order.checkout)
                    await self._confirm_facts(payments, facts)
                    if facts.status == "open":
                        unpaid.add(order.purpose)
        except (PaymentsDown, PaymentsRefused) as error:
            raise _unreachable() from error
        return replace(await self.show(workspace), unpaid=frozenset(unpaid))

    async def _confirm_facts(self, payments: ports.Payments, facts: CheckoutFacts) -> None:
        try:
            await self._events.book_checkout(facts)
        except (PaymentsDown, PaymentsRefused) as error:
            raise _unreachable() from error

    # --- changing

    async def manage(self, workspace: WorkspaceState, return_url: str) -> str:
        """The address of Stripe's own page for the card, invoices and cancelling."""
        payments = self._card()
        addon = await self._store.load_addon(workspace.id)
        orders = await self._store.load_orders(workspace.id)
        customer = "" if addon is None else addon.customer
        customer = customer or next((o.customer for o in orders if o.customer), "")
        if not customer:
            raise Problem(
                ProblemCode.CONFLICT, Phrase("Nothing was paid by card here yet, so there is no card to manage."),
                Phrase("Subscribe first."), flow="addon",
            )
        try:
            return await payments.open_portal(customer, self._check_return(return_url))
        except PaymentsDown as error:
            raise _unreachable() from error
        except PaymentsRefused as error:
            raise Problem(
                ProblemCode.BILLING_REFUSED,
                Phrase("Stripe refused to open the customer portal ({code}).", code=error.code),
                Phrase("Tell the operator: the customer portal must be configured in the Stripe account."),
            ) from error

    async def cancel(self, workspace: WorkspaceState, actor: Actor) -> BillingView:
        """No renewal; it works to the end of what is paid. Again: no change."""
        return await self._change(workspace, False, actor)

    async def keep(self, workspace: WorkspaceState, actor: Actor) -> BillingView:
        """Undo a cancellation while the paid period runs."""
        return await self._change(workspace, True, actor)

    async def _change(self, workspace: WorkspaceState, keep: bool, actor: Actor) -> BillingView:
        addon, now = await self._store.load_addon(workspace.id), self._clock.now_ms()
        wanted = AddonState.CANCELLING if keep else AddonState.ACTIVE
        if addon is None or not is_live(addon, now):
            raise Problem(
                ProblemCode.CONFLICT, Phrase("There is no add-on here that runs."), Phrase("Subscribe to it first."),
                flow="addon"
            )
        if addon.state is wanted or addon.state is AddonState.PAST_DUE:
            if addon.rail is Rail.CREDITS:
                await self._store.change_credits_addon(workspace.id, keep, at_ms=now, actor=actor)
            else:
                await self._tell(
                    self._card(), workspace.id, addon.subscription, "keep" if keep else "cancel"
                )
        return await self.show(workspace)

    async def leave_to_plan(self, workspace_id: str) -> None:
        """The plan includes BYOK now: a card's subscription does not renew, and an open page is closed. What Stripe
        does not hear now is kept as a wish until it agrees."""
        await self._stop(workspace_id, "cancel", (AddonState.ACTIVE, AddonState.PAST_DUE))

    async def leave_for_good(self, workspace_id: str) -> None:
        """The workspace is deleted: nobody may go on paying for it."""
        await self._stop(workspace_id, "end", tuple(AddonState))

    async def _stop(self, workspace_id: str, wish: str, states: Sequence[AddonState]) -> None:
        addon = await self._store.load_addon(workspace_id)
        if addon is not None and addon.rail is Rail.CARD and not addon.over and addon.state in states:
            saved = await self._store.save_wish(
                workspace_id, self._clock.new_id("wish"), addon.subscription, wish, self._clock.now_ms()
            )
            if self._payments is not None:
                await self._events.grant_wish(workspace_id, *saved, quietly=True)
        if self._payments is None:
            return
        for order in await self._store.load_orders(workspace_id):
            if order.state is OrderState.OPEN and (order.purpose == "addon" or wish == "end"):
                with suppress(PaymentsDown, PaymentsRefused):
                    await self._events.book_checkout(await self._payments.end_checkout(order.checkout))

    async def _tell(self, payments: ports.Payments, workspace_id: str, subscription: str, wish: str) -> None:
        saved = await self._store.save_wish(
            workspace_id, self._clock.new_id("wish"), subscription, wish, self._clock.now_ms()
        )
        try:
            await self._events.grant_wish(workspace_id, *saved)
        except (PaymentsDown, PaymentsRefused) as error:
            raise _unreachable() from error

    async def _refresh(self, payments: ports.Payments, subscription: str) -> None:
        try:
            await self._events.book_subscription(subscription)
        except (PaymentsDown, PaymentsRefused) as error:
            raise _unreachable() from error

    async def reconcile(self) -> Reconciled:
        """An operator's wish: what the daily round does, now."""
        self._card()
        try:
            return await self._events.reconcile()
        except (PaymentsDown, PaymentsRefused) as error:
            raise _unreachable() from error

    # --- checks

    def _card(self) -> ports.Payments:
        if self._payments is None:
            raise _not_sold(Phrase("Nothing is paid by card here."))
        return self._payments

    def _check_sold(self, workspace: WorkspaceState) -> None:
        if self._rules.rail is None:
            raise _not_sold(Phrase("The add-on is not sold here."), self._rules.host_url)
        plan = self._product.plans.get(workspace.plan)
        if plan is None or plan.byok == "included":
            raise _already(Phrase("Your plan includes calls with an own key: there is nothing to buy."))

    @property
    def own_page(self) -> str:
        """Plans & Pricing at our own address, where browsers can be sent back to; "" where it is not known."""
        base = "" if self._address is None else self._address.url
        return f"{base}{OWN_PATH}" if base else ""

    def may_return(self, return_url: str) -> bool:
        """Whether a payment page may lead there: only pages of the product, and our own."""
        return bool(return_url) and (
            return_url in self._rules.return_urls or return_url == self.own_page or is_listed(return_url, self._listed)
        )

    def _check_return(self, return_url: str) -> str:
        allowed = self._rules.return_urls
        if not return_url and allowed:
            return allowed[0]
        if self.may_return(return_url):
            return return_url
        raise invalid("return_url", "That address is not among the pages that people may be sent back to.",
                      "Add it to billing.return_urls in ownkey.toml, or leave it out.")


def _failed_at(state: BillingState, addon: Addon | None) -> int | None:
    if state is not BillingState.PAST_DUE or addon is None or addon.state is not AddonState.PAST_DUE:
        return None
    return addon.grace_until_ms - addon.grace_ms


def _over_at(state: BillingState, addon: Addon | None) -> int | None:
    return addon.grace_until_ms if state is BillingState.INACTIVE and addon is not None else None


def _works_until(state: BillingState, workspace: WorkspaceState) -> int | None:
    match state:
        case BillingState.CANCELLING:
            return workspace.paid_until_ms
        case BillingState.PAST_DUE:
            return workspace.grace_until_ms
        case _:
            return None


def money_text(cents: int, currency: str) -> str:
    """"US$5.00", "12.50 EUR"."""
    whole, rest = divmod(cents, 100)
    amount = f"{whole:,}.{rest:02d}"
    return f"US${amount}" if currency == "usd" else f"{amount} {currency.upper()}"


def _already(message: str) -> Problem:
    return Problem(
        ProblemCode.ADDON_EXISTS, message, Phrase("Read the add-on's state; there is nothing to pay."), flow="addon"
    )


def _not_sold(message: str, host_url: str = "") -> Problem:
    fix = Phrase("Ask the operator of this product.")
    if host_url:
        fix = Phrase("Buy it in the product's own billing: {url}", url=host_url)
    return Problem(ProblemCode.BILLING_OFF, message, fix)


def _unreachable() -> Problem:
    return Problem(
        ProblemCode.BILLING_UNREACHABLE,
        Phrase("Stripe does not answer, so nothing was changed. Your add-on is unaffected."),
        Phrase("Try again in a minute."), retry_after_s=30,
    )
