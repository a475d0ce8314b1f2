"""Rows as the settings' use cases and the store exchange them: frozen, without secrets, one class a thing.

They live in the domain because both sides speak of them and neither may import the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ownkey.domain.workspace import Role, TokenKind


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something, for the audit log: kind "service", "workspace", "operator", "member" or "job", and an
    id."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Member:
    workspace_id: str
    member_id: str
    email: str
    name: str
    role: Role
    muted: frozenset[str] | None = None
    """Topics whose e-mails this member does not want (`domain.notices.MUTEABLE`). None, when saving: as before."""


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
    last_used_ms: int | None = None
    """When it was last shown, to half a minute; None: never yet."""


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
class CreditLot:
    """One grant or purchase with what is left of it. `origin` is plan, topup, promo or operator; `expires_at_ms` None:
    never."""

    id: str
    origin: str
    granted_credits: int
    remaining_credits: int
    expires_at_ms: int | None
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class ReceiptFilter:
    """Any field None: not filtered; "" finds calls that have none. `before` pages backwards (a receipt id, exclusive).

    `model` is any name of a model that was asked for, called or served; `provider` who answered; `credential` the id of
    one that was used; `conversation` is the trace. `since_day` and `until_day` are the workspace's own dates, both
    included; `since_ms` and `until_ms` half-open UTC milliseconds. `receipt` is one id.
    """

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
    outcome: str | None = None
    credential: str | None = None
    since_day: str | None = None
    until_day: str | None = None
    receipt: str | None = None


UNFILTERED = ReceiptFilter()


@dataclass(frozen=True, slots=True)
class UsageSince:
    """Where the current day, week (from Monday) and month began, in UTC; Unix milliseconds."""

    day_ms: int
    week_ms: int
    month_ms: int


@dataclass(frozen=True, slots=True)
class UsageSums:
    """What calls came to: ever, and since those times. nano-USD, or credits where credits paid."""

    total: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One drift that verify found. `check` names the invariant, `ids` the rows, `detail` expected and actual."""

    check: str
    workspace_id: str | None
    ids: tuple[str, ...]
    detail: str


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What an Idempotency-Key already stands for. `status` None: its first request is still in progress."""

    request_sha256: bytes
    status: int | None
    body: bytes


@dataclass(frozen=True, slots=True)
class ProbeDue:
    """One version of a credential that is to be probed now."""

    workspace_id: str
    provider: str
    credential_id: str
    version: int


@dataclass(frozen=True, slots=True)
class Due:
    """One message of the outbox, claimed. `key` is unique for ever; `attempts` counts this one and names the claim;
    `since_ms` is when its 24 hours began; `have` are the members who have it already."""

    id: int
    workspace_id: str
    workspace_name: str
    external_id: str
    key: str
    kind: str
    payload: Mapping[str, Any]
    attempts: int
    since_ms: int
    have: frozenset[str] = frozenset()
