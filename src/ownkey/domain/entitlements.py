"""What a workspace is entitled to now, and the payer decision's inputs: one place for calls, status and pages.

Computed at the call and never stored: an entitlement with an end stops at that moment, whether or not any job runs.
"""

from collections.abc import Set
from dataclasses import replace

from ownkey.domain.billing import at_call
from ownkey.domain.booking import MoneyView
from ownkey.domain.product import Product
from ownkey.domain.routing import Entitled, KeyState, PayerState
from ownkey.domain.workspace import CredentialStatus, EntitlementState, WorkspaceState

_ENTITLED = {
    EntitlementState.INCLUDED: Entitled.OK,
    EntitlementState.ACTIVE: Entitled.OK,
    EntitlementState.CANCELLING: Entitled.OK,
    EntitlementState.GRACE: Entitled.OK,
    EntitlementState.NONE: Entitled.NONE,
    EntitlementState.INACTIVE: Entitled.INACTIVE,
}


def standing(workspace: WorkspaceState, now_ms: int) -> WorkspaceState:
    """The workspace with its entitlement as it stands at `now_ms`: what was paid for and the days of grace end then,
    whether or not any job has run."""
    state = at_call(workspace.entitlement, workspace.paid_until_ms, workspace.grace_until_ms, now_ms)
    return workspace if state is workspace.entitlement else replace(workspace, entitlement=state)


def minimum_balance(product: Product, workspace: WorkspaceState) -> int:
    """Credits that a call with an own key needs on the balance: only where the plan has the add-on."""
    plan = product.plans.get(workspace.plan)
    if plan is None or workspace.entitlement is EntitlementState.INCLUDED:
        return 0
    return plan.minimum_balance_credits


def key_state(workspace: WorkspaceState, unusable: Set[str] = frozenset()) -> KeyState:
    """The workspace's OpenRouter credential, as the decision sees it. `unusable` are ids found unreadable just now."""
    credential = workspace.credentials.get("openrouter")
    if credential is None:
        return KeyState.MISSING
    if credential.undecryptable or credential.id in unusable:
        return KeyState.UNDECRYPTABLE
    return KeyState.ENABLED if credential.status is CredentialStatus.ENABLED else KeyState.DISABLED


def payer_state(
    product: Product,
    workspace: WorkspaceState,
    money: MoneyView,
    *,
    direct_usable: bool,
    credits_short: bool,
    unusable: Set[str] = frozenset(),
) -> PayerState:
    """The payer decision's inputs, from the money and the workspace as they stand now (`standing`)."""
    limit = workspace.credits_if_key_fails_limit
    return PayerState(
        payers=product.payers,
        entitled=_ENTITLED[workspace.entitlement],
        balance_low=money.balance_credits < minimum_balance(product, workspace),
        key=key_state(workspace, unusable),
        always=workspace.always_use_key,
        credits_if_key_fails=workspace.credits_if_key_fails
        and (limit is None or money.key_failure_used_credits < limit),
        cap_paused=money.cap_paused,
        credits_short=credits_short,
        direct_usable=direct_usable,
    )
