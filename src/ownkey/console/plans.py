"""Plans as configured: which include calls with an own key, what the add-on costs, and whom a change would touch.

Read-only: plans live in ownkey.toml, so that a change is reviewed and restarts the product once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ownkey.console.visit import ConsoleRoute, ConsoleVisit
from ownkey.control.billing import money_text
from ownkey.domain.overview import PlanUse
from ownkey.domain.product import Plan
from ownkey.pages import figures
from ownkey.pages.http import Answer


@dataclass(frozen=True, slots=True)
class Line:
    """A plan with its workspaces. `plan` None: workspaces are on it, and the configuration has it no more."""

    name: str
    plan: Plan | None
    workspaces: int
    uses: Sequence[PlanUse]


async def show(visit: ConsoleVisit) -> Answer:
    uses, product = await visit.desk.overview.plan_uses(), visit.product
    names = [*product.plans, *sorted({use.plan for use in uses} - set(product.plans))]
    lines = [
        Line(name, product.plans.get(name), sum(use.workspaces for use in uses if use.plan == name),
             [use for use in uses if use.plan == name])
        for name in names
    ]
    rules = product.billing
    price = {
        "card": money_text(rules.addon_cents, rules.currency), "credits": figures.credits(rules.addon_credits),
    }.get(rules.rail or "", "")
    return visit.page("console/plans.html", "Plans", lines=lines, rules=rules, addon_price=price,
                      origins={line.name: line.origin for line in visit.house.machine.configuration})


ROUTES: tuple[ConsoleRoute, ...] = (ConsoleRoute("GET", "/console/plans", show),)
