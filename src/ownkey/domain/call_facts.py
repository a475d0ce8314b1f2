"""What a receipt does not hold of its call: who had set the rules that it met, and a call that still runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ownkey.domain.records import Actor


@dataclass(frozen=True, slots=True)
class RuleChange:
    """One change of a workspace's rules, out of the audit log. `before` and `after` hold the fields that it touched."""

    at_ms: int
    actor: Actor
    action: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OpenHold:
    """What an attempt in flight has set aside: nano-USD of the cap, or credits."""

    attempt: int
    funding: str
    bound_nusd: int
    bound_credits: int
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class RunningCall:
    """A call without a receipt yet. `holds` are those that are open; none between two attempts. Names are as the
    receipt will have them; "" where they are not known."""

    id: str
    at_ms: int
    task: str
    requested_model: str
    project: str
    conversation: str
    attempts: int
    holds: tuple[OpenHold, ...]


@dataclass(frozen=True, slots=True)
class Authored:
    """Who made something, and when."""

    by: str
    at_ms: int
