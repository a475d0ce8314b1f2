"""Credits: the balance, what it consists of and until when, and every movement of it, as pages and as CSV."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from ownkey.control.exports import CSV_TYPE
from ownkey.control.problems import not_found
from ownkey.domain.entitlements import minimum_balance
from ownkey.domain.portal import Page, Sight
from ownkey.domain.records import CreditLot
from ownkey.pages.http import Answer
from ownkey.portal.visit import PortalRoute, Visit

_KINDS: Mapping[str, tuple[str, ...]] = {
    "": (),
    "calls": ("charge", "correction"),
    "arrivals": ("plan", "topup", "promo", "operator"),
    "addon": ("addon",),
    "expiry": ("expiry",),
    "payments": ("refund", "refund_failed", "dispute_opened", "dispute_won", "dispute_lost", "repayment"),
}
"""What people choose → the ledger's kinds of entry."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant or purchase that still holds credits. `soon`: what is left of it expires within a week."""

    what: str
    lot: CreditLot
    soon: bool


WEEK_MS = 7 * 86_400_000


async def show(visit: Visit) -> Answer:
    _check_credits(visit)
    kind = _kind(visit)
    before = visit.request.asks("before")
    page = await visit.desk.statement.page(
        visit.workspace, before=int(before) if _is_entry(before) else None, kinds=_KINDS[kind]
    )
    wallet = await visit.desk.credits.show(visit.workspace)
    minimum = minimum_balance(visit.product, visit.workspace)
    older = None if page.next_before is None else visit.request.with_query(before=str(page.next_before))
    return visit.show(
        "statement.html", title=visit.say("Credits"), wallet=wallet, free=wallet.balance_credits - wallet.held_credits,
        grants=[_grant(visit, lot) for lot in await visit.desk.credits.lots(visit.workspace)], lines=page.lines,
        kind=kind, kinds=_choices(visit), older=older, newer=visit.request.with_query(before=None) if before else None,
        csv=f"/portal/plans/credits.csv{f'?kind={kind}' if kind else ''}", minimum=minimum,
        low=wallet.balance_credits < minimum, packs=bool(visit.desk.billing.packs()) and visit.manages,
        receipts=visit.may_see(Page.CALLS), limit=_failure_limit(visit),
        used=visit.status.money.key_failure_used_credits,
    )


async def csv(visit: Visit) -> Answer:
    """Every movement, or those of the chosen kinds; rows are read as they are sent."""
    _check_credits(visit)
    exports = visit.desk.exports
    name = exports.file_name(visit.workspace, "credits")

    async def body() -> AsyncIterator[bytes]:
        async for part in exports.statement(visit.workspace, _KINDS[_kind(visit)]):
            yield part.encode()

    return Answer(200, body(), CSV_TYPE, [("content-disposition", f'attachment; filename="{name}"')])


def _check_credits(visit: Visit) -> None:
    if not visit.house.with_credits:
        raise not_found("page", "of credits", "in this product")


def _kind(visit: Visit) -> str:
    """An unknown word in the address shows everything."""
    asked = visit.request.asks("kind")
    return asked if asked in _KINDS else ""


def _is_entry(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def _choices(visit: Visit) -> list[tuple[str, str]]:
    say = visit.say
    return [
        ("", say("Everything")), ("calls", say("AI calls")), ("arrivals", say("Plan, top-ups and grants")),
        ("addon", say("Add-on")), ("expiry", say("Expired")), ("payments", say("Refunds and disputes")),
    ]


def _grant(visit: Visit, lot: CreditLot) -> Grant:
    names = {
        "plan": visit.say("Credits of the plan"), "topup": visit.say("Top-up"),
        "promo": visit.say("Promotional credits"), "operator": visit.say("Credits granted by {product}",
                                                                           product=visit.product.name),
    }
    soon = lot.expires_at_ms is not None and lot.expires_at_ms - visit.now_ms <= WEEK_MS
    return Grant(names[lot.origin], lot, soon)


def _failure_limit(visit: Visit) -> int | None:
    """The monthly limit of credits for failing keys, where the switch is on and has one."""
    workspace = visit.workspace
    return workspace.credits_if_key_fails_limit if workspace.credits_if_key_fails else None


ROUTES = (
    PortalRoute("GET", "/portal/plans/credits", Page.PLANS, Sight.READ, show),
    PortalRoute("GET", "/portal/plans/credits.csv", Page.EXPORTS, Sight.READ, csv),
)
