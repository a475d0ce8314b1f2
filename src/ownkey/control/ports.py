"""What the settings' use cases need from the store, in their own words.

Every mutating method is one database transaction, writes its audit row in it, and is visible to the next call
when it returns. Objects of another workspace do not exist here: methods take the workspace and answer None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ownkey.domain.booking import CapFigures
from ownkey.domain.pricing import ModelPrice, PriceBook
from ownkey.domain.workspace import (
    Credential,
    EntitlementState,
    Health,
    Principal,
    Role,
    TokenKind,
    WorkspaceState,
    WrappedDek,
)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something, for the audit log: kind "service", "workspace", "operator" or "job", and an id."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Member:
    workspace_id: str
    member_id: str
    email: str
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token without its secret: only the last 4 characters are kept for people."""

    token_id: str
    kind: TokenKind
    workspace_id: str | None
    label: str
    last4: str
    scopes: frozenset[str]
    created_at_ms: int
    expires_at_ms: int | None
    revoked_at_ms: int | None
    tasks: frozenset[str] = frozenset()
    projects: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CapSetting:
    """The cap in force and its period's counters. `state` is "active" or "paused"."""

    workspace_id: str
    version: int
    cap_nusd: int | None
    threshold: int
    period_key: str
    starts_at_ms: int
    ends_at_ms: int
    timezone: str
    spent_nusd: int
    held_nusd: int
    overage_nusd: int
    state: Literal["active", "paused"]
    pause_reason: str | None


@dataclass(frozen=True, slots=True)
class Wallet:
    workspace_id: str
    balance_credits: int
    held_credits: int
    carry_nusd: int


@dataclass(frozen=True, slots=True)
class ReceiptFilter:
    """Any field None: not filtered. `before` pages backwards (a receipt id, exclusive)."""

    task: str | None = None
    model: str | None = None
    provider: str | None = None
    funding: str | None = None
    code: str | None = None
    refused: bool | None = None
    conversation: str | None = None
    project: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    before: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """One drift that verify found. `check` names the invariant, `ids` the rows, `detail` expected and actual."""

    check: str
    workspace_id: str | None
    ids: tuple[str, ...]
    detail: str


class Workspaces(Protocol):
    async def create_workspace(
        self, *, workspace_id: str, name: str, external_id: str, plan: str, timezone: str,
        entitlement: EntitlementState, credits_if_key_fails: bool, credits_if_key_fails_limit: int | None,
        dek: WrappedDek, features: Mapping[str, bool], at_ms: int, actor: Actor, kind: str = "tenant",
    ) -> WorkspaceState:
        """Raises Conflict if the external id is taken."""
        ...

    async def load_workspace(self, workspace_id: str) -> WorkspaceState | None: ...

    async def load_workspaces(self, *, after: str | None, limit: int) -> Sequence[WorkspaceState]: ...

    async def save_settings(
        self, workspace_id: str, changes: Mapping[str, Any], *, at_ms: int, actor: Actor
    ) -> WorkspaceState | None:
        """`changes` ⊆ {name, plan, entitlement, timezone, always_use_key, credits_if_key_fails,
        credits_if_key_fails_limit, on_direct_auth_failure, status}."""
        ...

    async def delete_workspace(self, workspace_id: str, *, at_ms: int, actor: Actor) -> bool:
        """Destroys the data key and every credential; receipts and ledger stay, as books must."""
        ...


class People(Protocol):
    async def save_member(self, member: Member, *, at_ms: int, actor: Actor) -> Member: ...

    async def load_members(self, workspace_id: str) -> Sequence[Member]: ...

    async def delete_member(self, workspace_id: str, member_id: str, *, at_ms: int, actor: Actor) -> bool: ...

    async def save_project(
        self, workspace_id: str, project_id: str, name: str, *, at_ms: int, actor: Actor
    ) -> None: ...

    async def load_projects(self, workspace_id: str) -> Mapping[str, str]: ...


class Tokens(Protocol):
    async def save_token(self, row: TokenRow, digest: bytes, *, at_ms: int, actor: Actor) -> None: ...

    async def load_tokens(self, workspace_id: str | None) -> Sequence[TokenRow]:
        """None: the service tokens."""
        ...

    async def revoke_token(
        self, token_id: str, workspace_id: str | None, *, at_ms: int, actor: Actor
    ) -> bool: ...

    async def load_principal(self, token_digest: bytes) -> Principal | None: ...


class Credentials(Protocol):
    async def save_credential(self, credential: Credential, *, at_ms: int, actor: Actor) -> None:
        """Adds, or replaces the workspace's credential for that provider (then `version` is one higher)."""
        ...

    async def set_credential_status(
        self, workspace_id: str, provider: str, status: str, *, at_ms: int, actor: Actor
    ) -> Credential | None: ...

    async def set_credential_health(
        self, workspace_id: str, credential_id: str, health: Health, signal: str, next_probe_ms: int,
        *, at_ms: int
    ) -> None: ...

    async def delete_credential(
        self, workspace_id: str, provider: str, *, at_ms: int, actor: Actor
    ) -> bool:
        """Disconnect: the ciphertext is gone from the file when this returns (secure_delete, checkpoint)."""
        ...

    async def save_audit(
        self, workspace_id: str | None, action: str, target: str, before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None, *, at_ms: int, actor: Actor
    ) -> None: ...


class Features(Protocol):
    async def save_feature(
        self, workspace_id: str, task: str, on: bool, settings: Mapping[str, int], *, at_ms: int, actor: Actor
    ) -> None: ...


class Caps(Protocol):
    async def save_cap(
        self, workspace_id: str, cap_nusd: int | None, threshold: int, *, at_ms: int, actor: Actor
    ) -> CapSetting:
        """A new cap version, evaluated at once: pauses, resumes, writes due alerts and their outbox rows."""
        ...

    async def load_cap(self, workspace_id: str, at_ms: int) -> CapSetting | None: ...

    async def load_alerts(self, workspace_id: str) -> Sequence[Mapping[str, Any]]: ...

    async def load_outbox(self, workspace_id: str | None, *, limit: int) -> Sequence[Mapping[str, Any]]: ...

    async def load_audit(self, workspace_id: str | None, *, limit: int) -> Sequence[Mapping[str, Any]]: ...


class Credits(Protocol):
    async def grant_credits(
        self, workspace_id: str, amount_credits: int, origin: Literal["plan", "topup", "promo", "operator"],
        *, expires_at_ms: int | None, idem_key: str, at_ms: int, actor: Actor
    ) -> Wallet:
        """One ledger entry source → lot; the same `idem_key` again changes nothing."""
        ...

    async def load_wallet(self, workspace_id: str) -> Wallet: ...

    async def load_ledger(self, workspace_id: str, *, limit: int) -> Sequence[Mapping[str, Any]]: ...


class Receipts(Protocol):
    async def load_receipt(self, workspace_id: str | None, receipt_id: str) -> Mapping[str, Any] | None:
        """The receipt as stored JSON; workspace None: any (operators)."""
        ...

    async def load_receipts(self, workspace_id: str, query: ReceiptFilter) -> Sequence[Mapping[str, Any]]: ...

    async def load_spend(
        self, workspace_id: str, *, since_ms: int, until_ms: int, by: str
    ) -> Sequence[Mapping[str, Any]]:
        """Sums by "task", "model", "provider", "conversation", "project", "day" or "basis": calls, cost_nusd,
        charge_credits, unknown_cost_calls."""
        ...


class PriceVersions(Protocol):
    async def activate_prices(
        self, prices: Sequence[ModelPrice], aliases: Mapping[tuple[str, str], str], *, author: str, at_ms: int
    ) -> PriceBook:
        """Writes a whole new immutable version and activates it; the same content as now changes nothing."""
        ...

    def current(self) -> PriceBook: ...


class Auditor(Protocol):
    async def verify(self, at_ms: int) -> Sequence[Finding]:
        """Recompute every counter from rows and check every invariant; empty: clean."""
        ...

    async def load_cap_figures(self, workspace_id: str, at_ms: int) -> CapFigures | None: ...
