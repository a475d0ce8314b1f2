"""One call's own state while it runs: what came in, what was tried, and the receipt that it will leave."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ownkey.domain.booking import AttemptEnd, CapFigures, HoldGranted
from ownkey.domain.receipts import AttemptRecord, Basis, CapView, HoldState, Receipt, Skip, add_usage, weakest_basis
from ownkey.domain.refusals import Refusal
from ownkey.domain.routing import Funding, Route
from ownkey.domain.wire import Endpoint, Seen
from ownkey.domain.workspace import Principal, WorkspaceState
from ownkey.gateway.codecs import Call, Dialect
from ownkey.gateway.opening import Opening
from ownkey.gateway.words import to_iso

if TYPE_CHECKING:
    from ownkey.gateway.attempt import AttemptResult
    from ownkey.gateway.plan import Plan, Planned

MAX_LABEL = 200


@dataclass(slots=True)
class CallRequest:
    """What a door hands in. `headers` are the caller's forwardable ones; labels are cut to 200 characters. `stream` is
    the caller's wish for this call, above the task's."""

    principal: Principal
    workspace: WorkspaceState
    dialect: Dialect
    endpoint: Endpoint
    body: bytes
    task: str | None = None
    project: str | None = None
    conversation: str | None = None
    member: str | None = None
    stream: Literal["live", "whole"] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class CallLog:
    """Grows while the call runs; `receipt()` may be taken at any moment, also after a crash of the task."""

    id: str
    request: CallRequest
    at_ms: int
    started: float
    deadline: float
    call: Call | None = None
    task: str | None = None
    plan: "Plan | None" = None
    attempts: list[AttemptRecord] = field(default_factory=list)
    served: "Planned | None" = None
    served_model: str | None = None
    status: int = 0
    refusal: Refusal | None = None
    first_content_ms: int | None = None
    finish_reason: str | None = None
    hung_up: bool = False
    notes: list[str] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    cap_before: CapFigures | None = None
    due: AttemptEnd | None = None
    """The end of the hold that is open now, to be booked whatever happens next."""
    committed: bool = False
    """The caller has got a part of an answer."""
    opening: Opening | None = None
    """Keeps a silent stream's caller waiting; None where no stream was asked for."""
    gather: bool = False
    """The stream is gathered and handed over whole: nothing is committed before its end."""
    seen: "Seen | None" = None
    """What the caller got of an answer that has begun."""
    price_refreshed: bool = False
    """A price was looked up again for this call; that happens once."""
    booked: bool = False
    """The receipt is written: the call's figures are final."""

    @property
    def begun(self) -> bool:
        """A 200 head is out: what follows is said inside the stream."""
        return self.committed or (self.opening is not None and self.opening.started)

    def end_opening(self) -> None:
        """From here on only the one who calls this writes to the caller."""
        if self.opening is not None:
            self.opening.end()

    def elapsed_ms(self, now: float) -> int:
        return max(0, int((now - self.started) * 1000))

    def take(self, planned: "Planned", result: "AttemptResult") -> None:
        """An attempt is over: its record, and its end to be booked."""
        self.attempts.append(result.record)
        self.due = result.end
        if result.committed:
            self.seen = result.seen
            self.committed = True
            self.serve(planned, result)

    def serve(self, planned: "Planned", result: "AttemptResult") -> None:
        """This attempt is the one the caller heard."""
        self.served = planned
        self.served_model = result.seen.model or planned.native_model
        self.first_content_ms = result.first_content_ms

    def receipt(self, now: float) -> Receipt:
        """The receipt as known now; the books fill in what they moved."""
        request, served = self.request, self.served
        last = self.attempts[-1] if self.attempts else None
        costs = [a.cost_nusd for a in self.attempts]
        known = [c for c in costs if c is not None]
        usages = [a.usage for a in self.attempts if a.usage is not None]
        funding: Funding | None = None
        route: Route | None = None
        provider: str | None = None
        if served is not None:
            funding, route, provider = served.funding, served.route, served.provider.id
        elif last is not None:
            route, provider = last.route, last.provider
            funding = Funding.CREDITS if last.route is Route.CREDITS else Funding.BYOK
        cap = self.cap_before
        plan = self.plan
        return Receipt(
            id=self.id,
            workspace_id=request.workspace.id,
            at_ms=self.at_ms,
            token_id=request.principal.token_id,
            endpoint=request.endpoint,
            dialect=request.dialect.name,
            task=self.task or _label(request.task),
            requested_model="" if self.call is None else self.call.model[:MAX_LABEL],
            served_model=self.served_model,
            stream=self.call is not None and self.call.stream,
            project=_label(request.project),
            conversation=_label(request.conversation),
            member=_label(request.member),
            row=None if plan is None else plan.decision.row,
            funding=funding,
            route=route,
            provider=provider,
            status=self.status,
            code=None if self.refusal is None else self.refusal.code.value,
            message="" if self.refusal is None else str(self.refusal.message),
            attempts=tuple(self.attempts),
            skips=tuple(self.skips if plan is None else [*plan.skips, *self.skips]),
            usage=add_usage(usages),
            cost_nusd=None if len(known) < len(costs) else sum(known),
            basis=_basis(self.attempts),
            price_version=plan.price_version if plan is not None and self.attempts else None,
            cap=None if cap is None else CapView(
                cap.period_key, cap.cap_nusd, cap.spent_nusd, cap.spent_nusd, to_iso(cap.resets_at_ms)
            ),
            duration_ms=self.elapsed_ms(now),
            first_content_ms=self.first_content_ms,
            finish_reason=self.finish_reason,
            hung_up=self.hung_up,
            notes=tuple(self.notes),
            details={} if self.refusal is None else {
                k: v for k, v in self.refusal.details.items() if k != "attempts"
            },
        )


def _basis(attempts: list[AttemptRecord]) -> Basis:
    """The weakest basis of the attempts that cost something."""
    return weakest_basis(a.basis for a in attempts if a.state is not HoldState.RELEASED)


def _label(text: str | None) -> str | None:
    return None if text is None else text[:MAX_LABEL]


@dataclass(slots=True)
class Progress:
    """One attempt's live state, readable when the task is cancelled in the middle. `unread`: the provider was saying
    more when its answer was given up as unreadable. `unread_bytes` came since the last content. `journal_at`: when its
    delivery is written down next."""

    hold: HoldGranted

    seen: Seen = field(default_factory=Seen)
    sent: bool = False
    status: int | None = None
    request_id: str | None = None
    committed: bool = False
    first_content_ms: int | None = None
    unread: bool = False
    unread_bytes: int = 0
    journal_at: float | None = None
