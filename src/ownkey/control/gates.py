"""Why AI is silent: every gate that a call passes, task by task, and the first that is shut with its one fix.

The gates stand in the order in which a call meets them. What is shut is found with `domain.routing.decide` itself: a
gate that refuses is noted and taken as open, and the same decision is asked again, until nothing is left to refuse.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from ownkey.control.ports import Clock, Directory
from ownkey.control.status import NO_PLATFORM_KEY, failing_sentence, is_usable, refusal_now
from ownkey.domain import bounds, ledger, models
from ownkey.domain.booking import MoneyView
from ownkey.domain.bounds import RequestShape, Terms
from ownkey.domain.caps import is_all_held
from ownkey.domain.entitlements import minimum_balance, payer_state, standing
from ownkey.domain.health import is_unhealthy
from ownkey.domain.phrases import Phrase
from ownkey.domain.pricing import PriceBook
from ownkey.domain.product import Payers, Product, Task
from ownkey.domain.refusals import Code, Refusal
from ownkey.domain.routing import Entitled, KeyState, PayerDecision, PayerState, Route, decide
from ownkey.domain.workspace import Credential, CredentialStatus, EntitlementState, Health, WorkspaceState

SMALLEST = RequestShape(text_bytes=64, cache_writes="none")
"""A call of a few words: whether credits suffice is asked for this one."""

IsFlagged = Callable[[str, str, int], bool]
"""(provider, model, price version) → whether that price has proved too low."""


class GateName(StrEnum):
    """In the order in which a call meets them."""

    WORKSPACE = "workspace"
    TASK = "task"
    PLAN = "plan"
    BALANCE = "balance"
    PAYER = "payer"
    CAP = "cap"
    CREDITS = "credits"
    ROUTE = "route"


class GateState(StrEnum):
    PASS = "pass"  # noqa: S105 - a gate's state
    FAIL = "fail"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True)
class Gate:
    """`sentence` says what is so, without any amount or hint; `refusal` is what a call gets if it fails. `busy`: open,
    and a call may have to wait."""

    name: GateName
    state: GateState
    sentence: str
    refusal: Refusal | None = None
    busy: bool = False


@dataclass(frozen=True, slots=True)
class TaskGates:
    """One task's gates in order. `refusal`: what its next small call gets, that of the first gate that is shut; None:
    it is sent. `row` is the payer decision's as it is now."""

    task: Task
    gates: tuple[Gate, ...]
    row: str

    @property
    def first(self) -> Gate | None:
        return next((gate for gate in self.gates if gate.state is GateState.FAIL), None)

    @property
    def refusal(self) -> Refusal | None:
        return None if self.first is None else self.first.refusal


class _Money(Protocol):
    async def load_money(self, workspace_id: str, at_ms: int) -> MoneyView: ...


class _Prices(Protocol):
    def current(self) -> PriceBook: ...

    def is_flagged(self, provider: str, model: str, price_version: int) -> bool: ...


class GateControl:
    def __init__(self, money: _Money, directory: Directory, prices: _Prices, clock: Clock, product: Product) -> None:
        self._money = money
        self._directory = directory
        self._prices = prices
        self._clock = clock
        self._product = product

    async def show(self, workspace: WorkspaceState) -> Sequence[TaskGates]:
        """Every task of the product, as of now."""
        now_ms = self._clock.now_ms()
        money = await self._money.load_money(workspace.id, now_ms)
        platform = None
        if self._product.payers is Payers.WITH_CREDITS:
            platform = await self._directory.load_platform()
        inputs = GateInputs(
            self._product, standing(workspace, now_ms), money, self._prices.current(), self._prices.is_flagged,
            platform is not None and is_usable(platform.credentials.get("openrouter")), now_ms,
        )
        return [task_gates(inputs, task) for task in self._product.tasks.values()]


@dataclass(frozen=True, slots=True)
class GateInputs:
    """All that the gates depend on. `workspace` as it stands now; `platform_key`: whether credits have a key to be
    spent with."""

    product: Product
    workspace: WorkspaceState
    money: MoneyView
    prices: PriceBook
    is_flagged: IsFlagged
    platform_key: bool
    now_ms: int


_GATE_OF_ROW = {
    "F1": GateName.PLAN, "F2": GateName.PLAN, "F3": GateName.BALANCE, "F4": GateName.PAYER, "F5": GateName.PAYER,
    "F6": GateName.PAYER, "F7": GateName.CAP, "F12": GateName.CREDITS,
}


def task_gates(inputs: GateInputs, task: Task) -> TaskGates:
    """The gates of one task, pure."""
    product, workspace, money = inputs.product, inputs.workspace, inputs.money
    state = payer_state(
        product, workspace, money, direct_usable=_goes_direct(inputs, task),
        credits_short=_credits_short(inputs, task),
    )
    shut: dict[GateName, Refusal] = {}
    now = decision = decide(state)
    while decision.refusal is not None:
        shut[_GATE_OF_ROW[decision.row]] = refusal_now(decision.refusal, money)
        state = _opened(state, decision)
        decision = decide(state)
    gates = [*_workspace_gate(workspace), _task_gate(workspace, task)]
    for name in (GateName.PLAN, GateName.BALANCE, GateName.PAYER, GateName.CAP, GateName.CREDITS):
        refusal = shut.get(name)
        gates.append(
            _open_gate(inputs, name, state, decision) if refusal is None
            else Gate(name, GateState.FAIL, refusal.message, refusal)
        )
    return TaskGates(task, (*gates, _route_gate(inputs, task, decision)), now.row)


def _opened(state: PayerState, refused: PayerDecision) -> PayerState:
    """The same state with the gate open that has just refused."""
    match _GATE_OF_ROW[refused.row]:
        case GateName.PLAN:
            return replace(state, entitled=Entitled.OK)
        case GateName.BALANCE:
            return replace(state, balance_low=False)
        case GateName.PAYER:
            return replace(state, key=KeyState.ENABLED)
        case GateName.CAP:
            return replace(state, cap_paused=False)
        case _:
            return replace(state, credits_short=False)


def _workspace_gate(workspace: WorkspaceState) -> tuple[Gate, ...]:
    """Only where it is shut: nobody looks for a suspension that is not there."""
    if workspace.status != "suspended":
        return ()
    refusal = Refusal(
        Code.FORBIDDEN, Phrase("This workspace is suspended by the operator."),
        Phrase("Ask the operator to lift the suspension."),
    )
    return (Gate(GateName.WORKSPACE, GateState.FAIL, refusal.message, refusal),)


def _task_gate(workspace: WorkspaceState, task: Task) -> Gate:
    if workspace.features.get(task.name, task.default_on):
        return Gate(GateName.TASK, GateState.PASS, Phrase("Switched on."))
    message = Phrase("{title} is switched off in this workspace.", title=task.title)
    refusal = Refusal(
        Code.FEATURE_DISABLED, message, Phrase("Switch {title} on.", title=task.title), f"feature:{task.name}"
    )
    return Gate(GateName.TASK, GateState.FAIL, message, refusal)


def _open_gate(inputs: GateInputs, name: GateName, state: PayerState, decision: PayerDecision) -> Gate:
    """A gate that lets calls through, or does not stand on this workspace's way. `state` and `decision` are those in
    which every gate is open."""
    product, workspace = inputs.product, inputs.workspace
    match name:
        case GateName.PLAN:
            return _plan_gate(product, workspace)
        case GateName.BALANCE:
            own_key = state.payers is Payers.WITH_CREDITS and Route.OPENROUTER in decision.routes
            if not own_key or not minimum_balance(product, workspace):
                return Gate(name, GateState.NOT_APPLICABLE, Phrase("No minimum balance is needed."))
            return Gate(name, GateState.PASS, Phrase("The credit balance is above the minimum."))
        case GateName.PAYER:
            return Gate(name, GateState.PASS, _PAYERS.get(decision.row, Phrase("Your own key pays.")))
        case GateName.CAP:
            cap = inputs.money.cap
            if cap is not None and is_all_held(cap.cap_nusd, cap.spent_nusd, cap.held_nusd):
                return Gate(name, GateState.PASS, Phrase(
                    "Calls in flight hold what is left under the spend cap: a new call waits a moment for what those "
                    "do not use, and is refused as busy if that is not enough."
                ), busy=True)
            if inputs.money.has_cap:
                return Gate(name, GateState.PASS, Phrase("Spend is below the cap."))
            return Gate(name, GateState.NOT_APPLICABLE, Phrase("There is no spend cap."))
        case _:
            if decision.routes == (Route.CREDITS,):
                return Gate(
                    name, GateState.PASS, Phrase("There are credits for a small call; a large one may need more.")
                )
            last = Route.CREDITS in decision.routes
            said = Phrase("Credits are used only if the key fails.") if last else Phrase("No credits are used.")
            return Gate(name, GateState.NOT_APPLICABLE, said)


_PAYERS = {
    "F9": Phrase("Your OpenRouter key pays: Always use this key is on."),
    "F10": Phrase("Your own key pays; if it fails, credits pay."),
    "F13": Phrase("Credits pay."),
}
_PLAN_WORDS = {
    EntitlementState.INCLUDED: Phrase("Calls with your own key are included in the plan."),
    EntitlementState.ACTIVE: Phrase("The OpenRouter add-on is active."),
    EntitlementState.CANCELLING: Phrase("The OpenRouter add-on works to the end of its paid period."),
    EntitlementState.GRACE: Phrase("The OpenRouter add-on is past due and works for the days of grace."),
}


def _plan_gate(product: Product, workspace: WorkspaceState) -> Gate:
    said = _PLAN_WORDS.get(workspace.entitlement)
    if said is None:
        return Gate(GateName.PLAN, GateState.NOT_APPLICABLE, Phrase("Without the OpenRouter add-on, credits pay."))
    if not product.plans:
        return Gate(GateName.PLAN, GateState.NOT_APPLICABLE, Phrase("Every workspace may use its own key."))
    return Gate(GateName.PLAN, GateState.PASS, said)


# --- the routes behind an open decision


@dataclass(slots=True)
class _Routes:
    """What becomes of a task's routes: `open` once one can be tried; else why none can."""

    open: bool = False
    unpriced: str = ""
    sick: Credential | None = None


def _route_gate(inputs: GateInputs, task: Task, decision: PayerDecision) -> Gate:
    """The provider's side: a price where one is needed, and a key that is not known to fail."""
    found = _Routes()
    at_stake = inputs.money.has_cap or Route.CREDITS in decision.routes
    slugs = task.models[:1] if task.endpoint == "embeddings" else task.models
    for slug in slugs:
        for route in decision.routes:
            if route is Route.DIRECT:
                _add_direct(inputs, task, slug, at_stake, found)
            elif route is Route.OPENROUTER:
                _add_openrouter(inputs, slug, at_stake, decision, found)
    if Route.CREDITS in decision.routes and not found.open:
        _add_credits(inputs, task, slugs, decision, found)
    if found.open:
        return Gate(GateName.ROUTE, GateState.PASS, Phrase("A provider can be called."))
    refusal = _route_refusal(inputs, found)
    return Gate(GateName.ROUTE, GateState.FAIL, refusal.message, refusal)


def _add_direct(inputs: GateInputs, task: Task, slug: str, at_stake: bool, found: _Routes) -> None:
    mapped = _direct_of(inputs, task, slug)
    if mapped is None:
        return
    provider, native, credential = mapped
    due = credential.health is Health.NO_FUNDS and inputs.now_ms >= credential.next_probe_ms
    if credential.undecryptable or (is_unhealthy(credential) and not due):
        return
    _add_priced(inputs, provider, native, slug, at_stake, found)


def _add_openrouter(
    inputs: GateInputs, slug: str, at_stake: bool, decision: PayerDecision, found: _Routes
) -> None:
    credential = inputs.workspace.credentials.get("openrouter")
    if credential is None:
        # Its own gate is shut; what stands here is how things are once it is open.
        found.open = True
        return
    if is_unhealthy(credential):
        found.sick = credential
        if not decision.credits_on_key_failure and _is_unpriced(inputs, "openrouter", slug, at_stake):
            found.unpriced = found.unpriced or slug
        return
    _add_priced(inputs, "openrouter", slug, slug, at_stake, found)


def _add_credits(
    inputs: GateInputs, task: Task, slugs: Sequence[str], decision: PayerDecision, found: _Routes
) -> None:
    if not inputs.platform_key:
        return
    if decision.credits_on_key_failure and _free_after_failure(inputs) < _smallest_credits(inputs, task):
        # Credits that cannot step in leave the key's own failure standing.
        return
    for slug in slugs:
        _add_priced(inputs, "openrouter", slug, slug, True, found)


def _add_priced(
    inputs: GateInputs, provider: str, native: str, slug: str, at_stake: bool, found: _Routes
) -> None:
    if _is_unpriced(inputs, provider, native, at_stake):
        found.unpriced = found.unpriced or slug
    else:
        found.open = True


def _is_unpriced(inputs: GateInputs, provider: str, native: str, at_stake: bool) -> bool:
    if not at_stake:
        return False
    missing = inputs.prices.find(provider, native) is None
    return missing or inputs.is_flagged(provider, native, inputs.prices.version)


def _route_refusal(inputs: GateInputs, found: _Routes) -> Refusal:
    if found.unpriced:
        return Refusal(
            Code.UNPRICED_MODEL, Phrase(
                "{unpriced} has no known price, and a spend cap or credits apply.", unpriced=found.unpriced,
            ),
            Phrase("The operator sets a price, or the spend cap is removed."),
        )
    if found.sick is not None:
        rejected = found.sick.health is Health.REJECTED
        return Refusal(
            Code.CREDENTIAL_REJECTED if rejected else Code.CREDENTIAL_OUT_OF_FUNDS, failing_sentence(found.sick),
            Phrase("Test the key, then replace it or add funds at the provider."), f"credential:{found.sick.provider}",
        )
    return NO_PLATFORM_KEY


def _goes_direct(inputs: GateInputs, task: Task) -> bool:
    return any(_direct_of(inputs, task, slug) is not None for slug in task.models)


def _direct_of(inputs: GateInputs, task: Task, slug: str) -> tuple[str, str, Credential] | None:
    """(provider, its own id of the model, the credential) where a saved, enabled direct key could serve it."""
    mapped = models.native_id(slug, inputs.product.model_ids)
    if mapped is None or mapped[0] not in inputs.product.direct_providers:
        return None
    if task.endpoint == "embeddings" and mapped[0] not in inputs.product.direct_embeddings:
        return None
    credential = inputs.workspace.credentials.get(mapped[0])
    if credential is None or credential.status is not CredentialStatus.ENABLED:
        return None
    return mapped[0], mapped[1], credential


# --- credits


def _credits_short(inputs: GateInputs, task: Task) -> bool:
    left = inputs.money.balance_credits - inputs.money.held_credits
    return left < _smallest_credits(inputs, task)


def _free_after_failure(inputs: GateInputs) -> int:
    """What "Use credits if my key fails" may still take this month."""
    free = inputs.money.balance_credits - inputs.money.held_credits
    limit = inputs.workspace.credits_if_key_fails_limit
    return free if limit is None else min(free, limit - inputs.money.key_failure_used_credits)


def _smallest_credits(inputs: GateInputs, task: Task) -> int:
    """What the smallest call of the task's first model needs; 1 where the model has no price, which is told later."""
    terms = _smallest_terms(inputs, task)
    if terms is None:
        return 1
    least = terms.min_output if inputs.product.shrink_to_fit else terms.output_limit
    return ledger.hold_credits(terms.bound_nusd(least), inputs.product.credits)


def _smallest_terms(inputs: GateInputs, task: Task) -> Terms | None:
    slug = task.models[0]
    price = inputs.prices.find("openrouter", slug)
    if price is None:
        return None
    limits = models.limits("openrouter", slug, price)
    limit = 0 if task.endpoint == "embeddings" else bounds.estimate_output_limit(
        SMALLEST, task.max_output_tokens, limits
    )
    return bounds.plan_terms(
        SMALLEST, price, limits, output_limit=limit, min_output=inputs.product.min_output_tokens, openrouter=True
    )
