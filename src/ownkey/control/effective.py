"""Which settings a workspace's calls meet, and where each comes from: the product, its plan, or the workspace itself.

product ──► plan ──► workspace: the last that says something is in force.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol

from ownkey.control import ports
from ownkey.control.call_facts import FactBook
from ownkey.control.entitlements import first_entitlement
from ownkey.domain.call_facts import RuleChange
from ownkey.domain.entitlements import minimum_balance
from ownkey.domain.product import Payers, Product
from ownkey.domain.records import Actor, CapSetting
from ownkey.domain.workspace import WorkspaceState

Kind = Literal["switch", "usd", "credits", "percent", "days", "seconds", "text", "list"]
"""How a value is to be read: usd in nano-USD, percent and days whole."""


class Level(StrEnum):
    PRODUCT = "product"
    PLAN = "plan"
    WORKSPACE = "workspace"


@dataclass(frozen=True, slots=True)
class Said:
    """What one level says; `value` None is a value too (no cap, no limit)."""

    value: Any


@dataclass(frozen=True, slots=True)
class Effective:
    """One setting. `said` holds only the levels that say something; `key` is its name in `ownkey.toml`, "" where only a
    workspace has it. `by` and `at_ms` tell the workspace's last change, None where it is not known."""

    name: str
    kind: Kind
    said: Mapping[Level, Said]
    key: str = ""
    by: Actor | None = None
    at_ms: int | None = None

    @property
    def origin(self) -> Level:
        return next(level for level in (Level.WORKSPACE, Level.PLAN, Level.PRODUCT) if level in self.said)

    @property
    def value(self) -> Any:
        return self.said[self.origin].value


@dataclass(frozen=True, slots=True)
class Group:
    """Settings that belong together. `name` is a text of the catalogue."""

    name: str
    settings: tuple[Effective, ...]


class _Store(FactBook, ports.Caps, Protocol):
    pass


class EffectiveControl:
    def __init__(self, store: _Store, product: Product) -> None:
        self._store = store
        self._product = product

    async def show(self, workspace: WorkspaceState, cap: CapSetting) -> Sequence[Group]:
        """Every setting that decides about this workspace's calls. Reads only."""
        changes = await self._store.load_rule_changes(workspace.id)
        return (
            Group("Who pays", self._payer(workspace, changes)),
            Group("Plan", self._plan(workspace, changes)),
            Group("Spend cap", self._cap(workspace, cap, changes)),
            Group("Features", self._features(workspace)),
            Group("Routing", self._routing()),
        )

    def _payer(self, workspace: WorkspaceState, changes: Sequence[RuleChange]) -> tuple[Effective, ...]:
        product = self._product
        rejection = _switchable("If a direct key is rejected", "text", "on_direct_auth_failure", "fallback", workspace,
                                changes)
        direct = Effective("Direct provider keys", "list", {Level.PRODUCT: Said(product.direct_providers)},
                           "product.direct_providers")
        if product.payers is not Payers.WITH_CREDITS:
            return rejection, direct
        limit = _switchable(
            "Monthly limit of that", "credits", "credits_if_key_fails_limit", product.credits_if_key_fails_limit,
            workspace, changes, "credits.if_key_fails_limit",
        )
        return (
            _switchable("Always use this key", "switch", "always_use_key", False, workspace, changes),
            _switchable("Use credits if my key fails", "switch", "credits_if_key_fails",
                        product.credits_if_key_fails_default, workspace, changes, "credits.if_key_fails"),
            limit, rejection, direct,
            Effective("Worth of a credit", "usd", {Level.PRODUCT: Said(product.credits.price_nusd)},
                      "credits.price_usd"),
        )

    def _plan(self, workspace: WorkspaceState, changes: Sequence[RuleChange]) -> tuple[Effective, ...]:
        product, plan = self._product, self._product.plans.get(workspace.plan)
        chosen = _last(changes, "plan")
        said = {Level.PRODUCT: Said(product.default_plan)}
        if workspace.plan != product.default_plan or chosen is not None:
            said[Level.WORKSPACE] = Said(workspace.plan)
        by_plan = first_entitlement(product, workspace.plan)
        entitled: dict[Level, Said] = {Level.PLAN if plan is not None else Level.PRODUCT: Said(by_plan.value)}
        if workspace.entitlement is not by_plan:
            entitled[Level.WORKSPACE] = Said(workspace.entitlement.value)
        found = [
            Effective("Plan", "text", said, "product.default_plan", *_signed(chosen)),
            Effective("Calls with the own key", "text", entitled, f"plans.{workspace.plan}.byok" if plan else "",
                      *_signed(_last(changes, "entitlement"))),
            Effective("Days of grace", "days", {Level.PRODUCT: Said(product.grace_days)}, "product.grace_days"),
        ]
        if plan is not None and product.payers is Payers.WITH_CREDITS:
            minimum = {Level.PRODUCT: Said(0), Level.PLAN: Said(minimum_balance(product, workspace))}
            found += [
                Effective("Minimum balance", "credits", minimum, f"plans.{plan.name}.minimum_balance_credits"),
                Effective("Credits each month", "credits",
                          {Level.PRODUCT: Said(0), Level.PLAN: Said(plan.cycle_credits)},
                          f"plans.{plan.name}.cycle_credits"),
            ]
        return tuple(found)

    def _cap(
        self, workspace: WorkspaceState, cap: CapSetting, changes: Sequence[RuleChange]
    ) -> tuple[Effective, ...]:
        product, changed = self._product, _last(changes, "cap_nusd")
        amount: dict[Level, Said] = {Level.PRODUCT: Said(None)}
        alert: dict[Level, Said] = {Level.PRODUCT: Said(product.default_threshold)}
        zone: dict[Level, Said] = {Level.PRODUCT: Said("UTC")}
        if changed is not None or cap.cap_nusd is not None:
            amount[Level.WORKSPACE] = Said(cap.cap_nusd)
        if cap.threshold != product.default_threshold:
            alert[Level.WORKSPACE] = Said(cap.threshold)
        if workspace.timezone != "UTC":
            zone[Level.WORKSPACE] = Said(workspace.timezone)
        return (
            Effective("Monthly spend cap (USD)", "usd", amount, "", *_signed(changed)),
            Effective("Alert threshold (%)", "percent", alert, "spend.default_threshold", *_signed(changed)),
            Effective("Time zone", "text", zone, "", *_signed(_last(changes, "timezone"))),
        )

    def _features(self, workspace: WorkspaceState) -> tuple[Effective, ...]:
        found = []
        for task in self._product.tasks.values():
            said: dict[Level, Said] = {Level.PRODUCT: Said(task.default_on)}
            on = workspace.features.get(task.name, task.default_on)
            if on is not task.default_on:
                said[Level.WORKSPACE] = Said(on)
            found.append(Effective(task.title, "switch", said, f"tasks.{task.name}.default_on"))
            own = workspace.feature_settings.get(task.name, {})
            for knob, usual in task.settings.items():
                values: dict[Level, Said] = {Level.PRODUCT: Said(usual)}
                if own.get(knob, usual) != usual:
                    values[Level.WORKSPACE] = Said(own[knob])
                found.append(Effective(f"{task.title}: {knob}", "text", values, f"tasks.{task.name}.settings.{knob}"))
        return tuple(found)

    def _routing(self) -> tuple[Effective, ...]:
        limits = self._product.routing
        values: tuple[tuple[str, Kind, Any, str], ...] = (
            ("Longest call", "seconds", limits.deadline_s, "deadline_s"),
            ("Attempts at most", "text", limits.max_attempts, "max_attempts"),
            ("Connection", "seconds", limits.connect_s, "connect_s"),
            ("First content", "seconds", limits.first_content_s, "first_content_s"),
            ("Silence within an answer", "seconds", limits.stall_s, "stall_s"),
        )
        return tuple(
            Effective(name, kind, {Level.PRODUCT: Said(value)}, f"routing.{key}") for name, kind, value, key in values
        )


def _switchable(
    name: str, kind: Kind, field: str, usual: Any, workspace: WorkspaceState, changes: Sequence[RuleChange],
    key: str = "",
) -> Effective:
    """A switch of the workspace: its own word counts once somebody has given it, even if it is the product's."""
    said, change, now = {Level.PRODUCT: Said(usual)}, _last(changes, field), getattr(workspace, field)
    if change is not None or now != usual:
        said[Level.WORKSPACE] = Said(now)
    return Effective(name, kind, said, key, *_signed(change))


def _last(changes: Sequence[RuleChange], field: str) -> RuleChange | None:
    touching = [change for change in changes if field in change.after and change.action != "workspace.created"]
    return touching[-1] if touching else None


def _signed(change: RuleChange | None) -> tuple[Actor | None, int | None]:
    return (None, None) if change is None else (change.actor, change.at_ms)
