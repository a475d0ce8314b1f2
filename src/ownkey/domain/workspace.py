"""A workspace as one call sees it: settings, credentials and entitlement, loaded whole and never half."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class Role(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"


class TokenKind(StrEnum):
    """`SERVICE` acts for the host product on any workspace; `WORKSPACE` on its own only; `OPERATOR` is the local
    process's own door (the CLI)."""

    SERVICE = "service"
    WORKSPACE = "workspace"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who shows a token. `workspace_id` is None for service and operator tokens. `scopes` ⊆ {"call", "manage"}.

    `tasks` and `projects`, where not empty, are the only ones allowed. `expires_at_ms` is Unix time.
    """

    token_id: str
    kind: TokenKind
    workspace_id: str | None
    scopes: frozenset[str]
    label: str = ""
    tasks: frozenset[str] = frozenset()
    projects: frozenset[str] = frozenset()
    expires_at_ms: int | None = None


class CredentialStatus(StrEnum):
    ENABLED = "enabled"
    DISABLED = "disabled"


class Health(StrEnum):
    """`UNKNOWN` until traffic or a Test says more. `REJECTED` and `NO_FUNDS` are skipped until re-probed."""

    UNKNOWN = "unknown"
    OK = "ok"
    REJECTED = "rejected"
    NO_FUNDS = "no_funds"


@dataclass(frozen=True, slots=True)
class WrappedDek:
    """A workspace's data key as stored: encrypted by the master key `kek_id`."""

    dek_id: str
    kek_id: str
    nonce: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class Sealed:
    """A credential's ciphertext and what is needed to open it; useless without the master key."""

    salt: bytes
    commitment: bytes
    nonce: bytes
    ciphertext: bytes
    format: int


@dataclass(frozen=True, slots=True)
class Credential:
    """A provider key that we store. `hint` is all that people ever see again (prefix, …, last 4).

    `origin` is where it may be sent; `version` counts replacements; `undecryptable` is set when opening failed.
    `health_at_ms` is since when its health is what it is; `next_probe_ms` when an unhealthy one is tried again,
    `probe_failures` how many probes have failed since. `expires_at_ms` is the key's own end, None if none is known.
    """

    id: str
    workspace_id: str
    provider: str
    version: int
    origin: str
    hint: str
    label: str
    status: CredentialStatus
    health: Health
    sealed: Sealed
    fingerprint: bytes
    created_at_ms: int
    undecryptable: bool = False
    health_signal: str = ""
    health_at_ms: int = 0
    next_probe_ms: int = 0
    probe_failures: int = 0
    expires_at_ms: int | None = None


class EntitlementState(StrEnum):
    INCLUDED = "included"
    NONE = "none"
    ACTIVE = "active"
    CANCELLING = "cancelling"
    GRACE = "grace"
    INACTIVE = "inactive"


@dataclass(frozen=True, slots=True)
class WorkspaceState:
    """Everything about a workspace that a call needs, but no counters (those are read under lock, in the hold).

    `features` maps task → switched on; `feature_settings` task → its knobs. `timezone` is the current IANA zone.
    `cap_version` names the cap in force. `always_use_key`, `credits_if_key_fails` are the two switches;
    `on_direct_auth_failure` is "fallback" or "fail". `paid_until_ms` and `grace_until_ms` end an entitlement that was
    paid for, or lasts out of grace (None: no end set); `domain.billing.at_call` reads them at the call's instant.
    """

    id: str
    name: str
    external_id: str
    plan: str
    status: Literal["active", "suspended"]
    timezone: str
    entitlement: EntitlementState
    always_use_key: bool
    credits_if_key_fails: bool
    credits_if_key_fails_limit: int | None
    on_direct_auth_failure: Literal["fallback", "fail"]
    features: Mapping[str, bool]
    feature_settings: Mapping[str, Mapping[str, int]]
    credentials: Mapping[str, Credential]
    dek: WrappedDek
    created_at_ms: int
    settings_version: int = 1
    grace_until_ms: int | None = None
    paid_until_ms: int | None = None
    projects: Mapping[str, str] = field(default_factory=dict)
