"""What a workspace's plan says about calls with its own key: the first entitlement, and what a change of plan does.

Pure: money.md's table of entitlements as two functions.
"""

from ownkey.domain.product import Product
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


def entitlement_after_plan_change(
    product: Product, now: EntitlementState, old_plan: str, new_plan: str
) -> EntitlementState:
    """The entitlement once the plan has changed.

    A plan that includes BYOK includes it at once. Leaving such a plan gives the days of grace, so that nobody's AI
    stops in the middle of a plan change; between two plans with the add-on nothing changes.
    """
    if plan_includes_byok(product, new_plan):
        return EntitlementState.INCLUDED
    if now is EntitlementState.INCLUDED or plan_includes_byok(product, old_plan):
        return EntitlementState.GRACE
    return now
