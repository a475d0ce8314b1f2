"""What a workspace's plan says about calls with its own key, and what it brings: pure, from the configuration."""

from ownkey.domain.billing import DAY_MS, PlanTerms
from ownkey.domain.product import Payers, Product
from ownkey.domain.workspace import EntitlementState


def plan_includes_byok(product: Product, plan: str) -> bool:
    """A product without plans includes everything; else the plan says."""
    if not product.plans:
        return True
    found = product.plans.get(plan)
    return found is not None and found.byok == "included"


def first_entitlement(product: Product, plan: str) -> EntitlementState:
    """The entitlement of a workspace that has just been created."""
    return EntitlementState.INCLUDED if plan_includes_byok(product, plan) else EntitlementState.NONE


def plan_terms(product: Product, plan: str) -> PlanTerms:
    """What arriving at a plan means. Leaving one that includes BYOK gives the days of grace, so that nobody's AI stops
    in the middle of a plan change; between two plans with the add-on nothing changes."""
    found = product.plans.get(plan)
    with_credits = product.payers is Payers.WITH_CREDITS and found is not None
    return PlanTerms(
        name=plan, included=plan_includes_byok(product, plan), grace_ms=product.grace_days * DAY_MS,
        cycle_credits=found.cycle_credits if found is not None and with_credits else 0,
        rollover=found is None or found.cycle_rollover,
    )
