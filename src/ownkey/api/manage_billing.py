"""Plans & Pricing over the management API: what is sold, what is bought, and Stripe's events as operators see them."""

from ownkey.api import manage_schemas as out
from ownkey.api.manage_call import Call
from ownkey.api.manage_views import iso, iso_or_none
from ownkey.control.billing import BillingView, PayStep, money_text
from ownkey.control.payment_events import HANDLED


async def read_pricing(call: Call) -> out.PricingOut:
    product = call.desk.product
    rules = product.billing
    return out.PricingOut(
        rail=rules.rail or "host", host_url=rules.host_url or None, addon_name=rules.product_name,
        addon_price=money_text(rules.addon_cents, rules.currency) if rules.rail == "card" else None,
        addon_cents=str(rules.addon_cents) if rules.rail == "card" else None, currency=rules.currency,
        addon_credits=rules.addon_credits if rules.rail == "credits" else None, grace_days=product.grace_days,
        note="The add-on enables calls with your own OpenRouter key; OpenRouter bills the usage to your account there.",
        plans=[
            out.PricedPlanOut(
                plan=plan.name, title=plan.title, byok=plan.byok,
                minimum_balance_credits=plan.minimum_balance_credits, grant_credits=plan.grant_credits,
                cycle_credits=plan.cycle_credits, cycle_rollover=plan.cycle_rollover,
            ) for plan in product.plans.values()
        ],
        packs=[
            out.PackOut(
                pack=pack.name, credits=pack.credits, cents=str(pack.amount_cents),
                price=money_text(pack.amount_cents, rules.currency),
            ) for pack in call.desk.billing.packs()
        ],
    )


async def read_billing(call: Call) -> out.BillingOut:
    return _billing(await call.desk.billing.show(call.own))


async def subscribe(call: Call) -> out.PayStepOut:
    body: out.Subscribe = call.body
    return _step(await call.desk.billing.subscribe(call.own, body.return_url, call.actor))


async def top_up(call: Call) -> out.PayStepOut:
    body: out.TopUp = call.body
    return _step(await call.desk.billing.top_up(call.own, body.pack, body.return_url, call.actor))


async def confirm(call: Call) -> out.BillingOut:
    return _billing(await call.desk.billing.confirm(call.own))


async def manage(call: Call) -> out.ManageOut:
    body: out.Subscribe = call.body
    return out.ManageOut(url=await call.desk.billing.manage(call.own, body.return_url))


async def cancel(call: Call) -> out.BillingOut:
    return _billing(await call.desk.billing.cancel(call.own, call.actor))


async def keep(call: Call) -> out.BillingOut:
    return _billing(await call.desk.billing.keep(call.own, call.actor))


async def list_payments(call: Call) -> out.PaymentsOut:
    query: out.LimitQuery = call.query
    rows = await call.desk.billing.payments(call.own, query.limit)
    return out.PaymentsOut(payments=[
        out.PaymentOut(
            id=row["id"], purpose=row["purpose"], price=money_text(row["amount_cents"], row["currency"]),
            cents=str(row["amount_cents"]), currency=row["currency"], credits=row["credits"] or None,
            period_start=iso_or_none(row["period_start_ms"]), at=iso(row["at_ms"]),
            taken_back_cents=str(row["taken_back_cents"]),
        ) for row in rows
    ])


# --- operators


async def list_events(call: Call) -> out.PaymentEventsOut:
    query: out.EventQuery = call.query
    events = call.desk.payment_events
    rows = await events.inbox(query.state, query.limit)
    return out.PaymentEventsOut(
        counts=dict(await events.counts()), handled=list(HANDLED),
        events=[
            out.PaymentEventOut(
                id=row["id"], type=row["type"], object=row["object_id"], workspace=row["workspace_id"] or None,
                state=row["state"], reason=row["reason"], source=row["source"], deliveries=row["deliveries"],
                live=bool(row["livemode"]), created_at=iso(row["created_ms"]), received_at=iso(row["received_at_ms"]),
            ) for row in rows
        ],
    )


async def retry_event(call: Call) -> out.EventRetried:
    applied = await call.desk.payment_events.retry(call.path["event"])
    return out.EventRetried(state=applied.state, reason=applied.reason)


async def reconcile(call: Call) -> out.ReconciledOut:
    found = await call.desk.billing.reconcile()
    return out.ReconciledOut(
        missed_events=found.missed_events, orders=found.orders, subscriptions=found.subscriptions,
        wishes=found.wishes, failed=found.failed,
        message="Everything at Stripe is booked here." if not found.failed else
        f"{found.failed} objects could not be asked for; the next round tries them again.",
    )


def _step(step: PayStep) -> out.PayStepOut:
    return out.PayStepOut(url=step.url, message=step.message, billing=_billing(step.view))


def _billing(view: BillingView) -> out.BillingOut:
    return out.BillingOut(
        state=view.state.value, entitlement=view.entitlement.value, sentence=view.sentence, rail=view.rail,
        price=None if view.price_cents is None else money_text(view.price_cents, view.currency),
        price_credits=view.price_credits, minimum_balance_credits=view.minimum_balance_credits,
        balance_credits=view.balance_credits, renews_at=iso_or_none(view.renews_at_ms),
        works_until=iso_or_none(view.works_until_ms), checkout_url=view.checkout_url, manage=view.manage,
        host_url=view.host_url, test_mode=view.test_mode,
    )
