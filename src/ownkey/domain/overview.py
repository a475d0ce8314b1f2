"""What operators see of all workspaces together: lines, counts and finds. Hints and figures, never a credential."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Trouble = Literal["", "paused", "suspended", "unhealthy", "undecryptable", "past_due"]
"""What the list of workspaces can be narrowed to; "" is all of them."""

TROUBLES: tuple[Trouble, ...] = ("paused", "suspended", "unhealthy", "undecryptable", "past_due")


@dataclass(frozen=True, slots=True)
class Counts:
    """How many workspaces there are, how many of them need a look, and for what. `expired_holds` ended without a report
    since the moment that was asked for; `service_tokens` still work."""

    workspaces: int
    paused: int
    suspended: int
    unhealthy: int
    undecryptable: int
    past_due: int
    expired_holds: int
    service_tokens: int


@dataclass(frozen=True, slots=True)
class DayLine:
    """Calls of one day by payer and outcome; amounts in nano-USD and whole credits."""

    funding: str
    outcome: str
    calls: int
    cost_nusd: int
    charge_credits: int


@dataclass(frozen=True, slots=True)
class WorkspaceLine:
    """One workspace in a list. `cap_nusd` None: no cap. `last_call_ms` None: never. `hints` are of its saved keys."""

    id: str
    external_id: str
    name: str
    plan: str
    status: str
    entitlement: str
    paused: bool
    unhealthy: int
    undecryptable: int
    spent_nusd: int
    cap_nusd: int | None
    last_call_ms: int | None
    hints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkspaceQuery:
    """`text` is part of a name, id or external id; `trouble` and `plan` narrow. `after` is the last id of the page
    before."""

    text: str = ""
    trouble: Trouble = ""
    plan: str = ""
    after: str = ""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class CallQuery:
    """Calls of all workspaces. None: not filtered, "" finds calls without. `workspace_id` is exact; times are half-open
    UTC milliseconds. `healthy_key`: only calls that credits paid for although a usable own key was saved."""

    workspace_id: str | None = None
    task: str | None = None
    model: str | None = None
    provider: str | None = None
    funding: str | None = None
    outcome: str | None = None
    code: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    healthy_key: bool = False


@dataclass(frozen=True, slots=True)
class FoundCall:
    """One receipt with whose it is. `seq` is the order of writing: a page's cursor."""

    seq: int
    workspace_id: str
    workspace_name: str
    receipt: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CallPage:
    """`calls` newest first. `before` is the next page's cursor, None at the end. `looked_to_ms`: a rare filter was only
    looked for back to this moment; the next page goes on from there. `newest` is what came last of all calls."""

    calls: tuple[FoundCall, ...]
    before: int | None
    looked_to_ms: int | None
    newest: int


@dataclass(frozen=True, slots=True)
class PlanUse:
    """How many workspaces are on a plan, by what they are entitled to."""

    plan: str
    entitlement: str
    workspaces: int


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """`workspace_id` None: every chain; "": the deployment's own. Texts are exact but for `action`, whose beginning is
    enough. `before` is a row's number, exclusive."""

    workspace_id: str | None = None
    action: str = ""
    actor: str = ""
    before: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One row of an audit chain. `workspace_id` "" is the deployment's."""

    seq: int
    workspace_id: str
    workspace_name: str
    n: int
    at_ms: int
    actor_kind: str
    actor_id: str
    action: str
    target: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class ChainsState:
    """The audit chains: how many, of how many rows, and the MAC that the deployment's own ends with, as hex."""

    chains: int
    rows: int
    head: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing that a search found. `kind` is "workspace", "receipt", "key" or "subscription"; `text` says which."""

    kind: Literal["workspace", "receipt", "key", "subscription"]
    ident: str
    workspace_id: str
    workspace_name: str
    text: str


@dataclass(frozen=True, slots=True)
class PriceSource:
    """A version of the prices: who made it and when."""

    version: int
    created_by: str
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class JobLine:
    """One periodic job of this process. Times are Unix milliseconds, None where there is none yet; `error` names the
    last round's failure, "" where it passed."""

    name: str
    interval_s: float
    rounds: int
    failures: int
    error: str
    started_at_ms: int | None
    took_ms: int | None
    next_at_ms: int | None


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting of the configuration as it is in force. `origin` is "file", "preset", "default" or "environment"."""

    name: str
    value: str
    origin: Literal["file", "preset", "default", "environment"]


@dataclass(frozen=True, slots=True)
class OverageFlag:
    """A model that cost more than its price said."""

    provider: str
    model: str
    price_version: int
    at_ms: int
