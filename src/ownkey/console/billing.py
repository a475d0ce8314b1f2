"""Payments: how the add-on and credits are sold, every event of Stripe's and what became of it, and the comparison."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from ownkey.console.system import came_of
from ownkey.console.visit import ConsoleRoute, ConsoleVisit
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
    events = visit.desk.payment_events
    asked = visit.request.asks("state")
    state = asked if asked in STATES else ""
    runs = [view for view in await visit.desk.work.list(None, 50) if view.work.kind is WorkKind.RECONCILE]
    return visit.page(
        "console/billing.html", "Billing", on=events.on, rules=visit.product.billing, state=state, badges=BADGES,
        counts=await events.counts(), events=await events.inbox(state or None, SHOWN), shown=SHOWN,
        states=[(key, visit.say(name)) for key, name in STATES.items()], run=runs[0] if runs else None,
        came_of=came_of(visit, runs[0]) if runs else (),
        busy=bool(runs) and runs[0].work.state in OPEN,
        base_url=visit.house.address.url or visit.request.origin,
        outcome=visit.request.asks("outcome") if visit.request.asks("outcome") in STATES else "",
    )


async def retry(visit: ConsoleVisit) -> Answer:
    """A failed or quarantined event once more; whatever it is worth is booked once, whoever asks."""
    event = visit.request.params["event"]
    if not visit.desk.payment_events.on:
        raise Problem(ProblemCode.BILLING_OFF, "Nothing is paid by card here.", "Configure [billing] in ownkey.toml.")
    await visit.desk.overview.note(None, "billing.retried", event, visit.actor)
    applied = await visit.desk.payment_events.retry(event)
    return visit.go(f"{PATH}?done=retried&outcome={quote(applied.state)}")


async def reconcile(visit: ConsoleVisit) -> Answer:
    await visit.desk.work.start(None, WorkKind.RECONCILE.value, {}, visit.actor)
    return visit.go(f"{PATH}#reconcile")


ROUTES: tuple[ConsoleRoute, ...] = (
    ConsoleRoute("GET", PATH, show),
    ConsoleRoute("POST", f"{PATH}/events/{{event}}/retry", retry, OperatorRole.OPS),
    ConsoleRoute("POST", f"{PATH}/reconcile", reconcile, OperatorRole.OPS),
)
