"""What each route does, second half: task switches, caps, credits, receipts, prices, the deployment."""

from ownkey.api import manage_schemas as out
from ownkey.api import manage_views as show
from ownkey.api.manage_call import Call
from ownkey.control.prices import Override
from ownkey.control.problems import not_found
from ownkey.control.receipts import why_sentence
from ownkey.domain.records import ReceiptFilter
from ownkey.domain.workspace import TokenKind


async def list_features(call: Call) -> out.FeaturesOut:
    return out.FeaturesOut(features=[show.feature(view) for view in call.desk.features.list(call.own)])


async def put_feature(call: Call) -> out.FeatureOut:
    body: out.FeaturePut = call.body
    return show.feature(
        await call.desk.features.save(call.own, call.path["task"], body.on, body.settings, call.actor)
    )


async def read_cap(call: Call) -> out.CapOut:
    caps = call.desk.caps
    setting = await caps.show(call.own)
    return show.cap(setting, caps.project(setting))


async def put_cap(call: Call) -> out.CapOut:
    body: out.CapPut = call.body
    caps = call.desk.caps
    setting = await caps.save(call.own, body.cap_usd, body.threshold_percent, call.actor)
    return show.cap(setting, caps.project(setting))


async def list_alerts(call: Call) -> out.RowsOut:
    return out.RowsOut(rows=[show.plain_row(row) for row in await call.desk.caps.alerts(call.own)])


async def list_outbox(call: Call) -> out.RowsOut:
    found = await call.desk.outbox.list(call.own, call.query.state, call.query.limit)
    return out.RowsOut(rows=[show.plain_row(row) for row in found])


async def list_all_outbox(call: Call) -> out.OutboxOut:
    found = await call.desk.outbox.list(None, call.query.state, call.query.limit)
    return out.OutboxOut(channels=dict(call.desk.outbox.channels()), rows=[show.plain_row(row) for row in found])


async def retry_outbox(call: Call) -> out.Done:
    row = call.path["row"]
    if not (row.isascii() and row.isdigit() and len(row) < 19):
        raise not_found("outbox row", row, "here")
    await call.desk.outbox.retry(int(row), call.actor)
    return out.Done(message="The message waits again and goes out within seconds; its 24 hours begin anew.")


async def list_audit(call: Call) -> out.RowsOut:
    found = await call.desk.audit.list(call.workspace, call.query.limit)
    return out.RowsOut(rows=[show.plain_row(row) for row in found])


async def read_credits(call: Call) -> out.CreditsOut:
    return show.credits(await call.desk.credits.show(call.own))


async def grant_credits(call: Call) -> out.CreditsOut:
    body: out.GrantNew = call.body
    return show.credits(await call.desk.credits.grant(
        call.own, body.amount_credits, body.origin, show.parse_time("expires_at", body.expires_at), call.idem_key,
        call.actor,
    ))


async def read_ledger(call: Call) -> out.RowsOut:
    found = await call.desk.credits.ledger(call.own, call.query.limit)
    return out.RowsOut(rows=[show.plain_row(row) for row in found])


async def list_receipts(call: Call) -> out.ReceiptsOut:
    query: out.ReceiptQuery = call.query
    page = await call.desk.receipts.list(
        call.own,
        ReceiptFilter(
            task=query.task, model=query.model, provider=query.provider, funding=query.funding, code=query.code,
            refused=query.refused, outcome=query.outcome, credential=query.credential,
            conversation=query.conversation, project=query.project,
            since_ms=show.parse_time("since", query.since), until_ms=show.parse_time("until", query.until),
            before=query.before, limit=query.limit,
        ),
        call.scope,
    )
    return out.ReceiptsOut(
        receipts=[show.plain_row(receipt) for receipt in page.receipts], next_before=page.next_before
    )


async def read_receipt(call: Call) -> dict[str, object]:
    shown: dict[str, object] = show.plain_row(
        await call.desk.receipts.one(call.own, call.path["receipt"], call.scope)
    )
    return shown


async def explain_receipt(call: Call) -> out.WhyOut:
    receipts, ident = call.desk.receipts, call.path["receipt"]
    found = await receipts.one(call.own, ident, call.scope)
    return out.WhyOut(
        receipt=ident, headline=await receipts.headline(call.own, found), why=why_sentence(found)
    )


async def read_spend(call: Call) -> out.SpendOut:
    return show.spend(await call.desk.receipts.spend(call.own, call.query.by, call.query.month, call.scope))


async def read_meter(call: Call) -> out.MeterOut:
    return show.meter(await call.desk.receipts.meter(call.own, call.path["conversation"], call.scope))


async def read_status(call: Call) -> out.StatusOut:
    found = show.status(await call.desk.status.show(call.own), call.desk.product)
    if call.principal.kind is TokenKind.WORKSPACE:
        found.attention = []
    return found


async def read_prices(call: Call) -> out.PricesOut:
    return show.prices(call.desk.prices.current(), call.desk.product)


async def put_prices(call: Call) -> out.PricesOut:
    body: out.PricesPut = call.body
    overrides = [Override(o.provider, o.model, o.usd_per_million, o.free) for o in body.overrides]
    return show.prices(await call.desk.prices.override(overrides, call.actor), call.desk.product)


async def verify(call: Call) -> out.VerifyOut:
    return show.verdict(await call.desk.verify.run())


async def read_product(call: Call) -> out.ProductOut:
    return show.product(call.desk.product)
