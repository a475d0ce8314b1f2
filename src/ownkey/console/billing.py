"""Payments: how the add-on and credits are sold, every event of Stripe's and what became of it, and the comparison.

A retry and a comparison book what Stripe has been paid: they may grant, and take back. The clock does both by itself,
but for what was quarantined; an operator who begins one proves who they are and says why.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from ownkey.console.system import came_of
from ownkey.console.visit import ConsoleRoute, ConsoleVisit, status_of
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.operators import OperatorRole
from ownkey.domain.work import OPEN, WorkKind
from ownkey.pages.http import Answer

PATH: Final = "/console/billing"
STATES: Final[Mapping[str, str]] = {
    "": "All", "processed": "Processed", "duplicate": "Came more than once", "ignored": "Ignored",
    "quarantined": "Quarantined", "failed": "Failed",
}
BADGES: Final[Mapping[str, str]] = {
    "processed": "success", "ignored": "", "quarantined": "danger", "failed": "danger",
}
SHOWN: Final = 100


async def show(visit: ConsoleVisit) -> Answer:
    return await _page(visit)


async def _page(visit: ConsoleVisit, act: str = "", event: str = "", problem: Problem | None = None) -> Answer:
    """`act` asks for a reason first: "retry" of an event, or "reconcile"."""
    events = visit.desk.payment_events
    asked = visit.request.asks("state")
    state = asked if asked in STATES else ""
    runs = [view for view in await visit.desk.work.list(None, 50) if view.work.kind is WorkKind.RECONCILE]
    return visit.page(
        "console/billing.html", "Billing", status=status_of(problem), act=act, act_event=event, problem=problem,
        reason=visit.request.field("reason"), on=events.on, rules=visit.product.billing, state=state, badges=BADGES,
        counts=await events.counts(), events=await events.inbox(state or None, SHOWN), shown=SHOWN,
        states=[(key, visit.say(name)) for key, name in STATES.items()], run=runs[0] if runs else None,
        came_of=came_of(visit, runs[0]) if runs else (),
        busy=bool(runs) and runs[0].work.state in OPEN,
        base_url=visit.house.address.url or visit.request.origin,
        outcome=visit.request.asks("outcome") if visit.request.asks("outcome") in STATES else "",
    )


async def ask_retry(visit: ConsoleVisit) -> Answer:
    _by_card(visit)
    return await _page(visit, "retry", await _event(visit))


async def retry(visit: ConsoleVisit) -> Answer:
    """A failed or quarantined event once more; whatever it is worth is booked once, whoever asks."""
    _by_card(visit)
    event = await _event(visit)
    try:
        await visit.desk.overview.note_reason(
            None, "billing.retried", event, visit.request.field("reason"), visit.actor
        )
    except Problem as problem:
        return await _page(visit, "retry", event, problem)
    await visit.desk.overview.note(None, "billing.retried", event, visit.actor)
    applied = await visit.desk.payment_events.retry(event)
    return visit.go(f"{PATH}?done=retried&outcome={quote(applied.state)}")


async def ask_reconcile(visit: ConsoleVisit) -> Answer:
    _by_card(visit)
    return await _page(visit, "reconcile")


async def reconcile(visit: ConsoleVisit) -> Answer:
    _by_card(visit)
    try:
        await visit.desk.overview.note_reason(
            None, "billing.reconciled", "Stripe", visit.request.field("reason"), visit.actor
        )
    except Problem as problem:
        return await _page(visit, "reconcile", problem=problem)
    await visit.desk.work.start(None, WorkKind.RECONCILE.value, {}, visit.actor)
    return visit.go(f"{PATH}#reconcile")


def _by_card(visit: ConsoleVisit) -> None:
    if not visit.desk.payment_events.on:
        raise Problem(ProblemCode.BILLING_OFF, "Nothing is paid by card here.", "Configure [billing] in ownkey.toml.")


async def _event(visit: ConsoleVisit) -> str:
    """The event of the address. Raises Problem for one that is not in the inbox."""
    event = visit.request.params["event"]
    await visit.desk.payment_events.find(event)
    return event


_RETRY = f"{PATH}/events/{{event}}/retry"

ROUTES: tuple[ConsoleRoute, ...] = (
    ConsoleRoute("GET", PATH, show),
    ConsoleRoute("GET", _RETRY, ask_retry, OperatorRole.OPS, fresh=True),
    ConsoleRoute("POST", _RETRY, retry, OperatorRole.OPS, fresh=True),
    ConsoleRoute("GET", f"{PATH}/reconcile", ask_reconcile, OperatorRole.OPS, fresh=True),
    ConsoleRoute("POST", f"{PATH}/reconcile", reconcile, OperatorRole.OPS, fresh=True),
)
