"""The receipt: who paid for a call and why, complete enough to answer every later question.

It is written for every call, also a refused one, and holds nothing secret: no prompt, no answer, no key.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ownkey.domain.routing import Funding, Route
from ownkey.domain.usage import Usage


class Basis(StrEnum):
    """`ACTUAL`: the provider reported the cost. `COMPUTED`: reported tokens × price version. `ESTIMATED`:
    something had to be assumed. `NONE`: nothing was billed. `UNKNOWN`: tokens are known, their price is not."""

    ACTUAL = "actual"
    COMPUTED = "computed"
    ESTIMATED = "estimated"
    NONE = "none"
    UNKNOWN = "unknown"


_WEAKEST_FIRST = (Basis.UNKNOWN, Basis.ESTIMATED, Basis.COMPUTED, Basis.ACTUAL)


def weakest_basis(bases: Iterable[str]) -> Basis:
    """The basis of a sum: no better than its weakest part."""
    present = set(bases)
    return next((basis for basis in _WEAKEST_FIRST if basis in present), Basis.NONE)


class HoldState(StrEnum):
    HELD = "held"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Correction:
    """What was learnt of an attempt's cost after it was booked: by whom, when, and the estimate that it replaced. What
    is booked stays within the hold, so that `reported_nusd` may be above the attempt's cost."""

    origin: str
    estimated_nusd: int | None
    estimated_basis: Basis
    reported_nusd: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt as the receipt tells it. Times are milliseconds since the call's admission.

    `request_id` is the provider's name for the exchange, `response_id` the id inside its answer, which the caller gets
    where the answer is passed through. `status` is the upstream's HTTP status (None: no head arrived); `failure` the
    class, None if it answered; `cost_nusd` what was booked, None if unknown.
    """

    n: int
    route: Route
    provider: str
    model: str
    credential_id: str
    credential_label: str
    credential_hint: str
    hold_id: str
    bound_nusd: int | None
    state: HoldState
    basis: Basis
    cost_nusd: int | None
    usage: Usage | None
    status: int | None
    failure: str | None
    signal: str
    message: str
    request_id: str | None
    started_ms: int
    first_content_ms: int | None
    ended_ms: int
    maybe_billed: bool = False
    output_limit: int | None = None
    shrunk: bool = False
    dropped: tuple[str, ...] = ()
    response_id: str | None = None
    correction: Correction | None = None
    credential_version: int = 0


@dataclass(frozen=True, slots=True)
class Skip:
    """A route that was not tried, and why, in words."""

    route: Route
    provider: str
    model: str
    why: str


@dataclass(frozen=True, slots=True)
class CapView:
    """The cap around a call: figures in nano-USD; `cap_nusd` None means no cap."""

    period: str
    cap_nusd: int | None
    spent_before_nusd: int
    spent_after_nusd: int
    resets_at: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """One call. `code` is None for an answer, else the refusal's code; `row` is the payer decision's row.

    `cost_nusd` is the sum over attempts (what the cap counted); None if some attempt's price is unknown.
    `charge_nusd` and `charge_credits` are 0 under BYOK.
    """

    id: str
    workspace_id: str
    at_ms: int
    token_id: str
    endpoint: str
    dialect: str
    task: str | None
    requested_model: str
    served_model: str | None
    stream: bool
    project: str | None
    conversation: str | None
    member: str | None
    row: str | None
    funding: Funding | None
    route: Route | None
    provider: str | None
    status: int
    code: str | None
    message: str
    attempts: tuple[AttemptRecord, ...] = ()
    skips: tuple[Skip, ...] = ()
    usage: Usage | None = None
    cost_nusd: int | None = 0
    basis: Basis = Basis.NONE
    charge_nusd: int = 0
    charge_credits: int = 0
    absorbed_nusd: int = 0
    price_version: int | None = None
    cap: CapView | None = None
    duration_ms: int = 0
    first_content_ms: int | None = None
    finish_reason: str | None = None
    hung_up: bool = False
    notes: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)


KEY_TEST = "key_test"
"""The task on the receipt of a key's Test: its calls are no call of the product."""

PROCESS_STOPPED = "The process stopped in the middle of this call."
"""The message of a receipt that was written for a call whose own process died."""

_PROVIDER_NAMES = {"openrouter": "OpenRouter", "anthropic": "Anthropic", "openai": "OpenAI", "google": "Google"}

def provider_name(provider: str) -> str:
    return _PROVIDER_NAMES.get(provider, provider)


def add_usage(usages: Sequence[Usage]) -> Usage | None:
    """The sum of several attempts' usage, class by class; None if there is none."""
    if not usages:
        return None
    if len(usages) == 1:
        return usages[0]
    units: dict[str, int] = {}
    others: dict[str, list[Usage]] = {}
    for usage in usages:
        for name, count in usage.units:
            units[name] = units.get(name, 0) + count
        for model, part in usage.others:
            others.setdefault(model, []).append(part)
    added = ((model, add_usage(parts)) for model, parts in sorted(others.items()))
    costs = [usage.cost_nusd for usage in usages if usage.cost_nusd is not None]
    return Usage(
        input=sum(u.input for u in usages), cache_read=sum(u.cache_read for u in usages),
        cache_write_5m=sum(u.cache_write_5m for u in usages), cache_write_1h=sum(u.cache_write_1h for u in usages),
        output=sum(u.output for u in usages), reasoning=sum(u.reasoning for u in usages),
        audio_input=sum(u.audio_input for u in usages), audio_output=sum(u.audio_output for u in usages),
        audio_cache_read=sum(u.audio_cache_read for u in usages),
        units=tuple(sorted(units.items())), cost_nusd=sum(costs) if costs else None,
        others=tuple((model, part) for model, part in added if part is not None),
    )
