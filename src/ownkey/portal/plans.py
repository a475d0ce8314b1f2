"""Plans & Pricing: what the plan includes, the add-on in every state that it can have, credits to buy, what was paid.

A payment page opens at top level: a form ends on a page of ours whose link leads there, because no form of these pages
may be redirected to another site. Whether something is paid, Stripe alone knows; coming back from it only asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ownkey.control.billing import BillingState, BillingView, PayStep, money_text
from ownkey.control.problems import Problem, ProblemCode
from ownkey.control.status import describe_status
from ownkey.domain.billing import Order
from ownkey.domain.portal import Page, Sight
from ownkey.domain.product import Plan
from ownkey.domain.workspace import EntitlementState
from ownkey.pages.http import Answer
from ownkey.pages.statuses import PROBLEM_STATUSES
from ownkey.portal.visit import PortalRoute, Visit, host_url

PAYMENTS_SHOWN = 50
LEAVE_AFTER_MS = 3_000
COME_AGAIN_S = 3
GIVE_UP_MS = 10 * 60_000
"""A page that waits for a payment stops asking by itself after this."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan of the product, as a row. `byok` says what it does about own keys; `credits` what it brings."""

    title: str
    current: bool
    byok: str
    credits: str


@dataclass(frozen=True, slots=True)
class Payment:
    """Something that was paid. `taken_back`: refunded or disputed, "" if nothing was."""

    at_ms: int
    what: str
    amount: str
    taken_back: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A payment that was begun: where it stands on the page that people come back to."""

    returned: bool
    may_leave: bool
    refresh_s: int | None


# --- reading


async def show(visit: Visit) -> Answer:
    """The page; after a payment it asks Stripe, and comes again until it knows."""
    request = visit.request
    came_back = request.asks("ownkey_checkout")
    if came_back in ("paid", "left"):
        # The address keeps no word of Stripe's: who reloads it later asks for nothing.
        since = f"&since={visit.now_ms}" if came_back == "paid" else ""
        return visit.go(f"/portal/plans?returned={came_back}{since}")
    problem = None
    view = await visit.desk.billing.show(visit.workspace)
    returned = request.asks("returned") == "paid"
    if returned and visit.manages:
        try:
            view = await visit.desk.billing.confirm(visit.workspace)
            visit = await _as_now(visit)
        except Problem as found:
            problem = found
    return await _page(visit, view, problem=problem, waiting=_waiting(visit, view, returned))


async def _as_now(visit: Visit) -> Visit:
    """Confirming may have changed who pays: the header is told by the state after it."""
    workspace = await visit.desk.workspaces.find(visit.workspace.id)
    return replace(visit, workspace=workspace, status=await visit.desk.status.show(workspace))


def _waiting(visit: Visit, view: BillingView, returned: bool) -> Waiting:
    since = visit.request.asks("since")
    known = since.isascii() and since.isdigit() and len(since) <= 15
    waited = visit.now_ms - int(since) if known else GIVE_UP_MS
    open_ones = view.state is BillingState.FINISHING or bool(view.waiting)
    unsure = returned and open_ones and waited < GIVE_UP_MS
    return Waiting(unsure, waited >= LEAVE_AFTER_MS, COME_AGAIN_S if unsure else None)


async def _page(
    visit: Visit, view: BillingView, *, status: int = 200, problem: Problem | None = None, confirm: str = "",
    waiting: Waiting | None = None, pack: str = "",
) -> Answer:
    """Plans & Pricing as it is now. `confirm` names the panel that asks before something is done."""
    waiting = waiting or Waiting(False, False, None)
    rules, with_credits = visit.product.billing, visit.house.with_credits
    rows = await visit.desk.billing.payments(visit.workspace, PAYMENTS_SHOWN) if rules.uses_stripe else ()
    return visit.show(
        "plans.html", title=visit.say("Plans & Pricing"), status=status, view=view, problem=problem, confirm=confirm,
        waiting=waiting, refresh_s=waiting.refresh_s, item=rules.product_name, price=_price(visit, view),
        unreachable=problem is not None and problem.code is ProblemCode.BILLING_UNREACHABLE, offers=_offers(visit),
        packs=_packs(visit), pack=pack, payments=[_payment(visit, row) for row in rows], state=view.state.value,
        open_topup=_open(view, "topup"), done=_done(visit), has_key="openrouter" in visit.workspace.credentials,
        connect_url="/portal/credentials#openrouter" if visit.may_see(Page.CREDENTIALS) else "",
        host_url=view.host_url or host_url(visit, "addon"), without=_without_addon(visit),
        low=with_credits and view.balance_credits < view.minimum_balance_credits, manages=visit.manages,
        needs_minimum=with_credits and view.minimum_balance_credits > 0, left=visit.request.asks("returned") == "left",
    )


def _without_addon(visit: Visit) -> str:
    """Who pays once the add-on is over, by the payer decision itself."""
    later = replace(visit.workspace, entitlement=EntitlementState.NONE, paid_until_ms=None, grace_until_ms=None)
    return describe_status(
        visit.product, later, visit.status.money, platform_key=True, now_ms=visit.now_ms
    ).sentence


def _price(visit: Visit, view: BillingView) -> str:
    """What a month costs, as it is configured; "" where it is not sold here."""
    if view.price_credits is not None:
        return visit.say("{credits} credits a month", credits=f"{view.price_credits:,}")
    if view.price_cents is not None:
        return visit.say("{price} a month", price=money_text(view.price_cents, view.currency))
    return ""


def _offers(visit: Visit) -> Sequence[Offer]:
    return [
        Offer(plan.title, plan.name == visit.workspace.plan, _byok(visit, plan), _brings(visit, plan))
        for plan in visit.product.plans.values()
    ]


def _byok(visit: Visit, plan: Plan) -> str:
    say = visit.say
    if plan.byok == "included":
        return say("Included")
    if visit.house.with_credits and plan.minimum_balance_credits:
        return say("With the add-on, and at least {credits} credits on the balance",
                   credits=f"{plan.minimum_balance_credits:,}")
    return say("With the add-on")


def _brings(visit: Visit, plan: Plan) -> str:
    say, parts = visit.say, []
    if not visit.house.with_credits:
        return ""
    if plan.grant_credits:
        parts.append(say("{credits} credits once", credits=f"{plan.grant_credits:,}"))
    if plan.cycle_credits:
        text = "{credits} credits each month, unused ones stay" if plan.cycle_rollover else (
            "{credits} credits each month, unused ones expire"
        )
        parts.append(say(text, credits=f"{plan.cycle_credits:,}"))
    return "; ".join(parts) or say("None")


def _packs(visit: Visit) -> Sequence[Mapping[str, Any]]:
    rules = visit.product.billing
    return [
        {"name": pack.name, "credits": pack.credits, "price": money_text(pack.amount_cents, rules.currency)}
        for pack in visit.desk.billing.packs()
    ]


def _payment(visit: Visit, row: Mapping[str, Any]) -> Payment:
    say, back = visit.say, row["taken_back_cents"]
    what = say("{credits} credits", credits=f"{row['credits']:,}") if row["purpose"] == "topup" else say("Add-on")
    return Payment(
        row["at_ms"], what, money_text(row["amount_cents"], row["currency"]),
        say("{amount} taken back", amount=money_text(back, row["currency"])) if back else "",
    )


def _open(view: BillingView, purpose: str) -> Order | None:
    return next((order for order in view.waiting if order.purpose == purpose), None)


def _done(visit: Visit) -> str:
    """What has just been done, in a sentence, from a word that we know."""
    return {
        "subscribed": visit.say("The OpenRouter add-on is active. Connect your OpenRouter key now."),
        "cancelled": visit.say("The add-on is cancelled: it works to the end of what is paid and does not renew."),
        "kept": visit.say("The add-on is kept: it renews as before."),
        "paid": visit.say("The payment was made already."),
    }.get(visit.request.asks("done"), "")


# --- paying


async def subscribe(visit: Visit) -> Answer:
    """Double click, Back and two tabs end on the same payment page."""
    try:
        step = await visit.desk.billing.subscribe(visit.workspace, _return_url(visit), visit.actor)
    except Problem as problem:
        return await _refused(visit, problem)
    return _after(visit, step, "addon")


async def top_up(visit: Visit) -> Answer:
    pack = visit.request.field("pack")
    try:
        step = await visit.desk.billing.top_up(visit.workspace, pack, _return_url(visit), visit.actor)
    except Problem as problem:
        return await _refused(visit, problem, pack=pack)
    return _after(visit, step, "topup")


def _after(visit: Visit, step: PayStep, purpose: str) -> Answer:
    if step.url is not None:
        return visit.go(f"/portal/plans/pay?for={purpose}")
    done = step.view.state is BillingState.ACTIVE if purpose == "addon" else _open(step.view, purpose) is None
    if not done:
        # Paid there, and nothing here before Stripe says that the money or the subscription is there.
        return visit.go(f"/portal/plans?returned=paid&since={visit.now_ms}")
    return visit.go(f"/portal/plans?done={'subscribed' if purpose == 'addon' else 'paid'}")


async def pay(visit: Visit) -> Answer:
    """The page whose link leads to the payment page, out of its frame."""
    purpose = visit.request.asks("for")
    order = _open(await visit.desk.billing.show(visit.workspace), purpose)
    if order is None:
        return visit.go("/portal/plans")
    amount = money_text(order.amount_cents, order.currency)
    if purpose == "addon":
        title = visit.say("Pay for the add-on")
        what = visit.product.billing.product_name
        amount = visit.say("{price} a month", price=amount)
    else:
        title, what = visit.say("Pay for credits"), visit.say("{credits} credits", credits=f"{order.credits:,}")
    return await _way_out(visit, order.url, visit.say("Go to payment"), title, purpose, what, amount)


async def card(visit: Visit) -> Answer:
    """The same for Stripe's own page about the card, the invoices and the cancellation."""
    try:
        url = await visit.desk.billing.manage(visit.workspace, _return_url(visit))
    except Problem as problem:
        return await _refused(visit, problem)
    return await _way_out(
        visit, url, visit.say("Open card and invoices"), visit.say("Card and invoices"), "card", "", ""
    )


async def _way_out(
    visit: Visit, url: str, label: str, title: str, purpose: str, what: str, amount: str
) -> Answer:
    test_mode = (await visit.desk.billing.show(visit.workspace)).test_mode
    return visit.show("pay.html", title=title, what=what, amount=amount, url=url, label=label, purpose=purpose,
                      test_mode=test_mode)


def _return_url(visit: Visit) -> str:
    """Where the payment page sends people back to: these pages, or the host's page that frames them. "": the usual."""
    billing = visit.desk.billing
    wished = visit.session.return_url if visit.session.mode == "frame" else billing.own_page
    return wished if billing.may_return(wished) else ""


# --- cancelling and keeping


async def ask(visit: Visit) -> Answer:
    """The page with the panel that asks first: its last part says what for."""
    what = visit.request.path.rpartition("/")[2]
    view = await visit.desk.billing.show(visit.workspace)
    fits = {
        "subscribe": view.state in _BUYABLE, "cancel": view.state in (BillingState.ACTIVE, BillingState.PAST_DUE),
        "keep": view.state is BillingState.CANCELLING,
    }
    return await _page(visit, view, confirm=what) if fits[what] else visit.go("/portal/plans")


_BUYABLE = (BillingState.NOT_SUBSCRIBED, BillingState.INACTIVE, BillingState.PAST_DUE, BillingState.FINISHING)


async def cancel(visit: Visit) -> Answer:
    try:
        await visit.desk.billing.cancel(visit.workspace, visit.actor)
    except Problem as problem:
        return await _refused(visit, problem)
    return visit.go("/portal/plans?done=cancelled")


async def keep(visit: Visit) -> Answer:
    try:
        await visit.desk.billing.keep(visit.workspace, visit.actor)
    except Problem as problem:
        return await _refused(visit, problem)
    return visit.go("/portal/plans?done=kept")


async def _refused(visit: Visit, problem: Problem, pack: str = "") -> Answer:
    """The page again, with what went wrong on top; nothing was changed."""
    view = await visit.desk.billing.show(visit.workspace)
    return await _page(visit, view, status=PROBLEM_STATUSES[problem.code], problem=problem, pack=pack)


ROUTES = (
    PortalRoute("GET", "/portal/plans", Page.PLANS, Sight.READ, show),
    PortalRoute("GET", "/portal/plans/pay", Page.PLANS, Sight.MANAGE, pay),
    PortalRoute("GET", "/portal/plans/card", Page.PLANS, Sight.MANAGE, card),
    PortalRoute("GET", "/portal/plans/subscribe", Page.PLANS, Sight.MANAGE, ask),
    PortalRoute("POST", "/portal/plans/subscribe", Page.PLANS, Sight.MANAGE, subscribe),
    PortalRoute("POST", "/portal/plans/top-up", Page.PLANS, Sight.MANAGE, top_up),
    PortalRoute("GET", "/portal/plans/cancel", Page.PLANS, Sight.MANAGE, ask),
    PortalRoute("POST", "/portal/plans/cancel", Page.PLANS, Sight.MANAGE, cancel),
    PortalRoute("GET", "/portal/plans/keep", Page.PLANS, Sight.MANAGE, ask),
    PortalRoute("POST", "/portal/plans/keep", Page.PLANS, Sight.MANAGE, keep),
)
