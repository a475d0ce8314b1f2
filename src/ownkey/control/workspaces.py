"""Workspaces: made with their first entitlement and data key, changed field by field, deleted with their keys.

Switches that only make sense with credits are refused, in words, where the product has none.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ownkey.control import ports
from ownkey.control.entitlements import first_entitlement, plan_terms
from ownkey.control.ports import Actor, Clock, Directory, Sealer
from ownkey.control.problems import Problem, ProblemCode, invalid, not_found, suggest
from ownkey.domain.caps import parse_timezone
from ownkey.domain.entitlements import standing
from ownkey.domain.errors import Conflict
from ownkey.domain.phrases import Phrase
from ownkey.domain.product import Payers, Product
from ownkey.domain.scrub import looks_like_secret
from ownkey.domain.workspace import EntitlementState, WorkspaceState

PLATFORM_ID = "platform"
DAY_MS = 86_400_000
ID_PREFIX = "ws_"

_EXTERNAL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}\Z", re.ASCII)


class _Store(ports.Workspaces, ports.Credits, Protocol):
    """What this module needs of the store."""


class AddonWatch(Protocol):
    """Whoever sells the add-on, told of what ends its renewal."""

    async def leave_to_plan(self, workspace_id: str) -> None: ...

    async def leave_for_good(self, workspace_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class NewWorkspace:
    """What a host says about a new workspace. `external_id` "" means: the same as the id that we give."""

    name: str
    external_id: str = ""
    plan: str = ""
    timezone: str = "UTC"


class WorkspaceControl:
    """Creates, finds, changes and deletes workspaces."""

    def __init__(
        self, store: _Store, directory: Directory, sealer: Sealer, clock: Clock, product: Product,
        addon: AddonWatch | None = None,
    ) -> None:
        self._addon = addon
        self._store = store
        self._directory = directory
        self._sealer = sealer
        self._clock = clock
        self._product = product

    async def create(self, new: NewWorkspace, actor: Actor) -> WorkspaceState:
        """Raises Problem. The plan's credits arrive with the workspace, once."""
        product = self._product
        name = check_name("name", new.name)
        plan = self._check_plan(new.plan or product.default_plan)
        check_timezone(new.timezone)
        workspace_id = self._clock.new_id(ID_PREFIX.rstrip("_"))
        external_id = new.external_id or workspace_id
        if new.external_id:
            check_external_id(new.external_id)
        with_credits = product.payers is Payers.WITH_CREDITS
        try:
            workspace = await self._store.create_workspace(
                workspace_id=workspace_id, name=name, external_id=external_id, plan=plan, timezone=new.timezone,
                entitlement=first_entitlement(product, plan),
                credits_if_key_fails=with_credits and product.credits_if_key_fails_default,
                credits_if_key_fails_limit=product.credits_if_key_fails_limit if with_credits else None,
                dek=self._sealer.new_dek(workspace_id),
                features={task.name: task.default_on for task in product.tasks.values()},
                at_ms=self._clock.now_ms(), actor=actor, threshold=product.default_threshold,
                terms=plan_terms(product, plan),
            )
        except Conflict as error:
            raise Problem(
                ProblemCode.CONFLICT, f"There is already a workspace with the external id {external_id[:60]!r}.",
                "Use that workspace, or another external id.", param="external_id",
            ) from error
        await self._grant_plan_credits(workspace, actor)
        return workspace

    async def find(self, reference: str) -> WorkspaceState:
        """By id or by the host's external id, entitled as it stands now; the platform's own is nobody's. Raises
        Problem(NOT_FOUND)."""
        workspace = await self._store.load_workspace(reference)
        platform = await self._directory.load_platform()
        if workspace is None or (platform is not None and workspace.id == platform.id):
            raise not_found("workspace", reference, "here")
        return standing(workspace, self._clock.now_ms())

    async def list(self, after: str | None, limit: int) -> Sequence[WorkspaceState]:
        found = await self._store.load_workspaces(after=after, limit=limit)
        platform = await self._directory.load_platform()
        now = self._clock.now_ms()
        return [
            standing(workspace, now) for workspace in found if platform is None or workspace.id != platform.id
        ]

    async def change(self, workspace: WorkspaceState, changes: Mapping[str, Any], actor: Actor) -> WorkspaceState:
        """`changes` holds only the fields that shall change. Raises Problem."""
        checked = self._check_changes(workspace, changes)
        if not checked:
            return workspace
        changed = await self._store.save_settings(
            workspace.id, checked, at_ms=self._clock.now_ms(), actor=actor,
            terms=plan_terms(self._product, checked["plan"]) if "plan" in checked else None,
        )
        if changed is None:
            raise not_found("workspace", workspace.external_id, "here")
        if "plan" in checked:
            if changed.entitlement is EntitlementState.INCLUDED and self._addon is not None:
                await self._addon.leave_to_plan(changed.id)
            await self._grant_plan_credits(changed, actor)
        return changed

    def _grace_until(self, entitlement: EntitlementState) -> int | None:
        if entitlement is not EntitlementState.GRACE:
            return None
        return self._clock.now_ms() + self._product.grace_days * DAY_MS

    async def set_entitlement(
        self, workspace: WorkspaceState, entitlement: EntitlementState, actor: Actor
    ) -> WorkspaceState:
        """An operator's word instead of a payment's ("comp")."""
        if not self._product.plans and entitlement is not EntitlementState.INCLUDED:
            raise invalid("entitlement", "This product has no plans: calls with an own key are always included.",
                          "Leave the entitlement as it is.")
        changed = await self._store.save_settings(
            workspace.id, {
                "entitlement": entitlement, "paid_until_ms": None, "grace_until_ms": self._grace_until(entitlement),
            },
            at_ms=self._clock.now_ms(), actor=actor,
        )
        if changed is None:
            raise not_found("workspace", workspace.external_id, "here")
        return changed

    async def delete(self, workspace: WorkspaceState, actor: Actor) -> None:
        """Destroys the data key and every credential; receipts and ledger stay, as books must."""
        if self._addon is not None:
            await self._addon.leave_for_good(workspace.id)
        if not await self._store.delete_workspace(workspace.id, at_ms=self._clock.now_ms(), actor=actor):
            raise not_found("workspace", workspace.external_id, "here")

    async def platform(self, actor: Actor) -> WorkspaceState:
        """The operator's own pseudo-workspace, which holds the platform's credentials; made on first use."""
        workspace = await self._directory.load_platform()
        if workspace is not None:
            return workspace
        try:
            return await self._store.create_workspace(
                workspace_id=PLATFORM_ID, name=self._product.name, external_id=PLATFORM_ID,
                plan="", timezone="UTC", entitlement=EntitlementState.INCLUDED,
                credits_if_key_fails=False, credits_if_key_fails_limit=None,
                dek=self._sealer.new_dek(PLATFORM_ID), features={}, at_ms=self._clock.now_ms(), actor=actor,
                kind="platform",
            )
        except Conflict:
            workspace = await self._directory.load_platform()
            if workspace is None:
                raise
            return workspace

    def _check_changes(self, workspace: WorkspaceState, changes: Mapping[str, Any]) -> dict[str, Any]:
        checked: dict[str, Any] = {}
        for name, value in changes.items():
            match name:
                case "name":
                    checked[name] = check_name("name", value)
                case "timezone":
                    check_timezone(value)
                    checked[name] = value
                case "plan":
                    checked[name] = self._check_plan(value)
                case "always_use_key" | "credits_if_key_fails" | "credits_if_key_fails_limit":
                    self._check_credit_switch(name, value)
                    checked[name] = value
                case "on_direct_auth_failure" | "status":
                    checked[name] = value
                case _:
                    raise invalid(name, f"A workspace has no setting {name[:60]!r}.", "Leave it out.")
        return {name: value for name, value in checked.items() if getattr(workspace, name) != value}

    def _check_credit_switch(self, name: str, value: Any) -> None:
        if self._product.payers is not Payers.WITH_CREDITS:
            raise invalid(
                name, f"{self._product.name} has no credits: the customer's own key always pays, so there is nothing "
                "to switch.", "Leave this setting out.",
            )
        if name == "credits_if_key_fails_limit" and value is not None and value < 0:
            raise invalid(name, "A limit in credits cannot be negative.", "Use 0 or more, or null for no limit.")

    def _check_plan(self, plan: str) -> str:
        plans = self._product.plans
        if plans and plan not in plans:
            raise invalid("plan", f"There is no plan {plan[:60]!r}.", suggest(plan, plans))
        if not plans and plan not in ("", self._product.default_plan):
            raise invalid("plan", "This product has no plans.", "Leave the plan out.")
        return plan

    async def _grant_plan_credits(self, workspace: WorkspaceState, actor: Actor) -> None:
        plan = self._product.plans.get(workspace.plan)
        if plan is None or plan.grant_credits <= 0 or self._product.payers is not Payers.WITH_CREDITS:
            return
        await self._store.grant_credits(
            workspace.id, plan.grant_credits, "plan", expires_at_ms=None,
            idem_key=f"plan:{workspace.id}:first:{plan.name}", at_ms=self._clock.now_ms(), actor=actor,
        )


def check_name(param: str, name: str) -> str:
    """A name or label that people read: 1 to 120 characters, no control characters."""
    text = " ".join(name.split())
    if looks_like_secret(text):
        raise invalid(param, "This looks like a key or a token; names are shown to people.", "Write a name instead.")
    if not text or len(text) > 120 or not text.isprintable():
        raise invalid(param, "A name has 1 to 120 printable characters.", "Shorten it, or type it again.")
    return text


def check_external_id(external_id: str) -> None:
    """The host's own id, which must never be taken for one of ours."""
    if looks_like_secret(external_id):
        raise invalid("external_id", "This looks like a key or a token, not like an id.", "Use your customer's id.")
    if not _EXTERNAL_ID.match(external_id):
        raise invalid(
            "external_id", "An external id has 1 to 128 letters, digits and . _ : @ -, and does not start with a mark.",
            "Use the id that your product has for this customer.",
        )
    if external_id.startswith(ID_PREFIX) or external_id == PLATFORM_ID:
        raise invalid("external_id", "External ids do not start with ws_ and are not 'platform'.",
                      "Put a prefix of your own in front.")


def check_timezone(name: str) -> None:
    """An IANA zone. Raises Problem."""
    try:
        parse_timezone(name)
    except ValueError as error:
        told = Phrase("{name} is not an IANA time zone such as Europe/Berlin.", name=repr(name[:60]))
        raise invalid("timezone", told, Phrase("Use a name from the IANA list, such as UTC.")) from error
