"""The rules that a call met, and who had set each of them when: read back from the audit log. Reads only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ownkey.control import ports
from ownkey.control.people import actor_name
from ownkey.domain.call_facts import Authored, RuleChange, RunningCall
from ownkey.domain.phrases import Phrase
from ownkey.domain.product import Product
from ownkey.domain.workspace import WorkspaceState

SWITCHES = ("always_use_key", "credits_if_key_fails", "credits_if_key_fails_limit", "on_direct_auth_failure")
"""The settings that decide who pays, by their names in `WorkspaceState`."""

_ENTITLING = frozenset({"entitlement", "plan"})


class FactBook(Protocol):
    async def load_rule_changes(self, workspace_id: str) -> Sequence[RuleChange]:
        """Of settings, cap and add-on, oldest first."""
        ...

    async def load_running(self, workspace_id: str, call_id: str) -> RunningCall | None: ...

    async def load_price_author(self, version: int) -> Authored | None: ...


class _Store(FactBook, ports.People, Protocol):
    pass


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as it stood when the call came. `value` is the setting's own; `changed_by` is a person's name, the
    product's, or "" where nobody has changed it since the workspace began (or the log does not reach back);
    `changed_at_ms` None then."""

    name: str
    value: Any
    changed_by: str = ""
    changed_at_ms: int | None = None


class CallFacts:
    def __init__(self, store: _Store, product: Product) -> None:
        self._store = store
        self._product = product

    async def running(self, workspace: WorkspaceState, call_id: str) -> RunningCall | None:
        """A call that has not ended; None: it has, or there is none."""
        return await self._store.load_running(workspace.id, call_id)

    async def rules(self, workspace: WorkspaceState, receipt: Mapping[str, Any]) -> tuple[Rule, ...]:
        """Switches, entitlement, cap and price version at the receipt's time: names "always_use_key" and so on,
        "entitlement" (a word), "cap_nusd" (None: no cap), "price_version" (None: no price was needed)."""
        at_ms, cap, version = receipt["at_ms"], receipt.get("cap"), receipt.get("price_version")
        changes = await self._store.load_rule_changes(workspace.id)
        names = {member.member_id: member.name for member in await self._store.load_members(workspace.id)}
        found = [self._rule(name, getattr(workspace, name), changes, at_ms, names) for name in SWITCHES]
        found.append(self._entitlement(workspace, changes, at_ms, names))
        told = self._rule("cap_nusd", None, changes, at_ms, names)
        found.append(told if cap is None else Rule("cap_nusd", cap["cap_nusd"], told.changed_by, told.changed_at_ms))
        author = None if version is None else await self._store.load_price_author(version)
        found.append(Rule("price_version", version, *(() if author is None else (_author_name(author), author.at_ms))))
        return tuple(found)

    def _rule(
        self, name: str, now: Any, changes: Sequence[RuleChange], at_ms: int, names: Mapping[str, str]
    ) -> Rule:
        touching = [c for c in changes if name in c.after and c.action != "workspace.created"]
        before = [c for c in touching if c.at_ms <= at_ms]
        after = [c for c in touching if c.at_ms > at_ms]
        # What it was is what the next change found, else what it is now.
        value = after[0].before.get(name) if after else before[-1].after[name] if before else now
        return self._signed(name, value, before[-1] if before else None, names)

    def _entitlement(
        self, workspace: WorkspaceState, changes: Sequence[RuleChange], at_ms: int, names: Mapping[str, str]
    ) -> Rule:
        """It follows from the plan, an operator's word and the add-on's payments alike."""
        touching = [
            c for c in changes
            if c.action == "addon.changed" or (c.action == "workspace.changed" and not _ENTITLING.isdisjoint(c.after))
        ]
        before = [c for c in touching if c.at_ms <= at_ms]
        value: Any = workspace.entitlement.value
        if len(before) < len(touching):
            # Changed since: what the next change found, else what the last one before had left.
            value = _entitling(touching[len(before)].before) or (_entitling(before[-1].after) if before else "")
        return self._signed("entitlement", value, before[-1] if before else None, names)

    def _signed(self, name: str, value: Any, change: RuleChange | None, names: Mapping[str, str]) -> Rule:
        if change is None:
            return Rule(name, value)
        return Rule(
            name, value, actor_name(self._product, change.actor, names) or Phrase("Ownkey itself"), change.at_ms
        )


def _entitling(fields: Mapping[str, Any]) -> str:
    """An entitlement's word, the add-on's own, or the plan that it followed from."""
    return str(fields.get("entitlement") or fields.get("state") or fields.get("plan") or "")


def _author_name(author: Authored) -> str:
    return Phrase("an operator") if author.by.startswith("operator:") else Phrase("the price list")
