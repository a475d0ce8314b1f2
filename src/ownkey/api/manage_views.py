"""Domain values as the management API shows them. Nothing is decided here, and no secret has a field to be in."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ownkey.api import manage_schemas as out
from ownkey.control.credentials import CredentialView
from ownkey.control.features import FeatureView
from ownkey.control.incidents import IncidentView
from ownkey.control.key_readings import ReadingView
from ownkey.control.key_test import KeyTestResult
from ownkey.control.problems import invalid
from ownkey.control.receipts import Meter, Spend
from ownkey.control.status import Status
from ownkey.control.verification import Verdict
from ownkey.domain.caps import Projection
from ownkey.domain.money import format_usd
from ownkey.domain.pricing import PriceBook
from ownkey.domain.product import Product
from ownkey.domain.records import CapSetting, Member, TokenRow, Wallet
from ownkey.domain.workspace import WorkspaceState

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso(at_ms: int) -> str:
    """Unix milliseconds as RFC 3339 in UTC; the fraction only where there is one."""
    moment = _EPOCH + timedelta(milliseconds=at_ms)
    return moment.isoformat(timespec="milliseconds" if at_ms % 1_000 else "seconds").replace("+00:00", "Z")


def iso_or_none(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso(at_ms)


def parse_time(param: str, text: str | None) -> int | None:
    """RFC 3339 as Unix milliseconds. Raises Problem; a time without a zone is taken for UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid(param, f"{text[:40]!r} is not a time.", "Write it as 2026-11-22T08:00:00Z.") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def plain_row(value: Any) -> Any:
    """A stored row for people and machines: `…_nusd` as decimal strings with `…_usd` beside, `…_ms` times in words.

    Durations (`duration_ms`, `started_ms` …) stay numbers; only moments (`at_ms`, `…_at_ms`) are told as times.
    """
    if isinstance(value, Mapping):
        shown: dict[str, Any] = {}
        for name, item in value.items():
            if isinstance(item, bytes):
                shown[name] = item.hex()
            elif name.endswith("_nusd") and (item is None or (isinstance(item, int) and not isinstance(item, bool))):
                shown[name] = None if item is None else str(item)
                shown[f"{name[:-5]}_usd"] = None if item is None else format_usd(item)
            elif (name == "at_ms" or name.endswith("_at_ms")) and (item is None or isinstance(item, int)):
                shown[name.removesuffix("_ms")] = iso_or_none(item)
            else:
                shown[name] = plain_row(item)
        return shown
    if isinstance(value, list | tuple):
        return [plain_row(item) for item in value]
    return value


def workspace(state: WorkspaceState) -> out.WorkspaceOut:
    return out.WorkspaceOut(
        id=state.id, external_id=state.external_id, name=state.name, plan=state.plan, status=state.status,
        timezone=state.timezone, entitlement=state.entitlement, always_use_key=state.always_use_key,
        credits_if_key_fails=state.credits_if_key_fails,
        credits_if_key_fails_limit=state.credits_if_key_fails_limit,
        on_direct_auth_failure=state.on_direct_auth_failure, created_at=iso(state.created_at_ms),
    )


def member(row: Member) -> out.MemberOut:
    return out.MemberOut(
        member=row.member_id, email=row.email, name=row.name, role=row.role, muted=sorted(row.muted or ()),
    )


def token(row: TokenRow) -> out.TokenOut:
    return out.TokenOut(
        id=row.token_id, kind=row.kind, label=row.label, last4=row.last4, scopes=sorted(row.scopes),
        tasks=sorted(row.tasks), projects=sorted(row.projects), created_at=iso(row.created_at_ms),
        expires_at=iso_or_none(row.expires_at_ms), revoked_at=iso_or_none(row.revoked_at_ms),
    )


def credential(view: CredentialView) -> out.CredentialOut:
    saved = view.credential
    card = out.CredentialOut(
        provider=view.provider, state=view.state, sentence=view.sentence, required=view.required
    )
    if saved is not None:
        card.hint, card.label, card.status = saved.hint, saved.label, saved.status
        card.health, card.health_signal, card.version = saved.health, saved.health_signal, saved.version
        card.saved_at = iso(saved.created_at_ms)
        card.health_since = iso(saved.health_at_ms) if saved.health_at_ms else None
        card.next_probe_at = iso(saved.next_probe_ms) if saved.next_probe_ms else None
        card.expires_at = iso_or_none(saved.expires_at_ms)
    return card


def incident(view: IncidentView) -> out.IncidentOut:
    return out.IncidentOut(
        id=view.id, provider=view.provider, hint=view.hint, label=view.label, cause=view.cause, signal=view.signal,
        sentence=view.sentence, opened_at=iso(view.opened_at_ms), closed_at=iso_or_none(view.closed_at_ms),
    )


def usd_or_none(amount_nusd: int | None) -> str | None:
    return None if amount_nusd is None else format_usd(amount_nusd)


def key_test(result: KeyTestResult) -> out.TestOut:
    return out.TestOut(
        provider=result.provider, outcome=result.outcome.value, sentence=result.sentence, fix=result.fix,
        hint=result.hint, cleaned=list(result.cleaned), belongs_to=result.belongs_to,
        reach=[out.ReachOut(task=r.task, model=r.model, state=r.state, reason=r.reason) for r in result.reach],
        model=result.model, latency_ms=result.latency_ms, cost_usd=usd_or_none(result.cost_nusd),
        cost_nusd=None if result.cost_nusd is None else str(result.cost_nusd), paid_call=result.paid_call,
        limit_usd=usd_or_none(result.limit_nusd), limit_left_usd=usd_or_none(result.limit_left_nusd),
        limit_reset=result.limit_reset, expires_at=result.expires_at, receipt=result.receipt,
    )


def feature(view: FeatureView) -> out.FeatureOut:
    return out.FeatureOut(
        task=view.task.name, title=view.task.title, on=view.on, endpoint=view.task.endpoint,
        models=list(view.task.models), settings=dict(view.settings),
    )


def cap(setting: CapSetting, projection: Projection | None) -> out.CapOut:
    reaches = None if projection is None else projection.reaches_cap_at_ms
    left = None if setting.cap_nusd is None else max(0, setting.cap_nusd - setting.spent_nusd - setting.held_nusd)
    return out.CapOut(
        cap_usd=usd_or_none(setting.cap_nusd), cap_nusd=None if setting.cap_nusd is None else str(setting.cap_nusd),
        threshold_percent=setting.threshold, state=setting.state, pause_reason=setting.pause_reason,
        sentence=cap_sentence(setting), month=setting.period_key, starts_at=iso(setting.starts_at_ms),
        resets_at=iso(setting.ends_at_ms), timezone=setting.timezone, spent_usd=format_usd(setting.spent_nusd),
        spent_nusd=str(setting.spent_nusd), held_usd=format_usd(setting.held_nusd), held_nusd=str(setting.held_nusd),
        left_usd=usd_or_none(left), left_nusd=None if left is None else str(left),
        overage_usd=format_usd(setting.overage_nusd), overage_nusd=str(setting.overage_nusd),
        projected_usd=None if projection is None else format_usd(projection.spend_nusd),
        projected_nusd=None if projection is None else str(projection.spend_nusd),
        reaches_cap_at=None if reaches is None else iso(reaches), version=setting.version,
    )


def cap_sentence(setting: CapSetting) -> str:
    """What the cap means for calls now."""
    spent, resets = format_usd(setting.spent_nusd), iso(setting.ends_at_ms)
    if setting.cap_nusd is None:
        return f"No spend cap: US${spent} spent in {setting.period_key}."
    amount = format_usd(setting.cap_nusd)
    if setting.cap_nusd == 0:
        return f"The spend cap is US$0: no AI until it is raised (resets {resets})."
    if setting.state == "paused":
        why = "is reached" if setting.pause_reason == "reached" else "has no room for another call"
        return f"AI is paused: the spend cap of US${amount} {why} (US${spent} spent). It resets {resets}."
    return f"US${spent} of US${amount} spent in {setting.period_key}; resets {resets}."


def credits(wallet: Wallet) -> out.CreditsOut:
    return out.CreditsOut(
        balance_credits=wallet.balance_credits, held_credits=wallet.held_credits,
        free_credits=wallet.balance_credits - wallet.held_credits,
    )


def spend(sums: Spend) -> out.SpendOut:
    total = sum(row.get("cost_nusd") or 0 for row in sums.rows)
    return out.SpendOut(
        by=sums.by, month=sums.period.key, starts_at=iso(sums.period.starts_at_ms),
        ends_at=iso(sums.period.ends_at_ms), total_usd=format_usd(total), total_nusd=str(total),
        rows=[plain_row(row) for row in sums.rows],
    )


def meter(sums: Meter) -> out.MeterOut:
    return out.MeterOut(
        conversation=sums.conversation, calls=sums.calls, cost_usd=format_usd(sums.cost_nusd),
        cost_nusd=str(sums.cost_nusd), unknown_cost_calls=sums.unknown_cost_calls,
        charge_credits=sums.charge_credits, first_at=iso_or_none(sums.first_at_ms),
        last_at=iso_or_none(sums.last_at_ms),
    )


def status(found: Status, product: Product) -> out.StatusOut:
    refusal = found.refusal
    fix = None
    if refusal is not None:
        fix = out.FixOut(text=refusal.fix, url=product.fix_url(refusal.flow) if refusal.flow else None)
    cap_row = found.money.cap
    return out.StatusOut(
        state=found.state, headline=found.headline, sentence=found.sentence, payer=found.payer, row=found.row,
        routes=[route.value for route in found.routes], code=None if refusal is None else refusal.code.value, fix=fix,
        attention=list(found.attention),
        resets_at=iso(cap_row.resets_at_ms) if found.state == "paused" and cap_row is not None else None,
    )


def prices(book: PriceBook, product: Product) -> out.PricesOut:
    return out.PricesOut(
        unpriced=[
            out.UnpricedOut(task=task.name, model=slug)
            for task in product.tasks.values() for slug in task.models if book.find("openrouter", slug) is None
        ],
        version=book.version, created_by=book.created_by,
        prices=[
            out.PriceOut(
                provider=price.provider, model=price.model, free=price.free, source=price.source,
                usd_per_million={
                    name: format_usd(rates[0].nusd_per_million) for name, rates in price.rates.items() if rates
                },
            )
            for price in sorted(book.prices.values(), key=lambda price: (price.provider, price.model))
        ],
    )


def key_reading(view: ReadingView) -> out.KeyReadingOut:
    found, usage = view.reading, view.reading.usage
    return out.KeyReadingOut(
        id=found.id, read_at=iso(usage.answered_ms), origin=found.origin.value, usage_usd=format_usd(usage.usage_nusd),
        byok_usage_usd=format_usd(usage.byok_nusd),
        usage_today_usd=usd_or_none(_both(usage.usage_daily_nusd, usage.byok_daily_nusd)),
        usage_week_usd=usd_or_none(_both(usage.usage_weekly_nusd, usage.byok_weekly_nusd)),
        usage_month_usd=usd_or_none(_both(usage.usage_monthly_nusd, usage.byok_monthly_nusd)),
        limit_usd=usd_or_none(usage.limit_nusd), limit_left_usd=usd_or_none(usage.limit_left_nusd),
        limit_reset=usage.limit_reset, limit_resets_at=iso_or_none(view.resets_at_ms),
        since=iso_or_none(found.since_ms), grown_usd=format_usd(found.grown_nusd), ours_usd=format_usd(found.ours_nusd),
        unsure_usd=format_usd(found.unsure_nusd), verdict=found.verdict.value, off_usd=format_usd(found.off_nusd),
        sentence=view.sentence, accepted_at=iso_or_none(found.accepted_at_ms), accepted_by=found.accepted_by,
        accepted_reason=found.accepted_reason,
    )


def _both(usage_nusd: int | None, byok_nusd: int | None) -> int | None:
    """What a key used in all; None if OpenRouter does not tell one part of it."""
    return None if usage_nusd is None or byok_nusd is None else usage_nusd + byok_nusd


def verdict(found: Verdict) -> out.VerifyOut:
    return out.VerifyOut(
        clean=found.clean, checked_at=iso(found.at_ms), assumptions=list(found.assumptions),
        findings=[
            out.FindingOut(check=f.check, workspace=f.workspace_id, ids=list(f.ids), detail=f.detail)
            for f in found.findings
        ],
    )


def product(rules: Product) -> out.ProductOut:
    return out.ProductOut(
        name=rules.name, preset=rules.preset, payers=rules.payers, providers=["openrouter", *rules.direct_providers],
        default_plan=rules.default_plan, credit_usd=format_usd(rules.credits.price_nusd),
        openrouter_fee_percent=f"{rules.openrouter_fee_bps // 100}.{rules.openrouter_fee_bps % 100:02d}",
        tasks=[
            out.TaskOut(
                task=task.name, title=task.title, endpoint=task.endpoint, models=list(task.models),
                default_on=task.default_on, settings=dict(task.settings),
            )
            for task in rules.tasks.values()
        ],
        plans=[
            out.PlanOut(
                plan=plan.name, title=plan.title, byok=plan.byok, grant_credits=plan.grant_credits,
                minimum_balance_credits=plan.minimum_balance_credits,
            )
            for plan in rules.plans.values()
        ],
    )
