"""Who pays, in which order, and what happens after a failure: the payer decision, total and pure.

`decide` is a table: the first matching row wins and its id is written on the receipt. `after` is the other
table: what a failure of one attempt leads to. Nothing else in the product chooses a payer or a route.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from ownkey.domain.failures import Failure, FailureClass
from ownkey.domain.product import Payers
from ownkey.domain.refusals import Code


class Entitled(StrEnum):
    """The entitlement as the decision sees it: OK covers included, active, cancelling and grace."""

    OK = "ok"
    NONE = "none"
    INACTIVE = "inactive"


class KeyState(StrEnum):
    """The workspace's OpenRouter credential."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    MISSING = "missing"
    UNDECRYPTABLE = "undecryptable"


class Route(StrEnum):
    """D: the workspace's direct credential; O: its OpenRouter credential; C: the platform's, paid with credits."""

    DIRECT = "direct"
    OPENROUTER = "openrouter"
    CREDITS = "credits"


class Funding(StrEnum):
    BYOK = "byok"
    CREDITS = "credits"


@dataclass(frozen=True, slots=True)
class PayerState:
    """Everything the payer decision depends on, and nothing else."""

    payers: Payers
    entitled: Entitled
    balance_low: bool
    key: KeyState
    always: bool
    credits_if_key_fails: bool
    cap_paused: bool
    credits_short: bool
    direct_usable: bool


@dataclass(frozen=True, slots=True)
class PayerDecision:
    """`row` is the id of the matching row (F1 to F13). Either `refusal` is set or `routes` is not empty.

    `credits_on_key_failure` is true only in row F10: C stands last in `routes` and is tried only after the key
    itself failed. `incident` asks for a notice: the payer changed because the key cannot be opened.
    """

    row: str
    routes: tuple[Route, ...] = ()
    refusal: Code | None = None
    credits_on_key_failure: bool = False
    incident: bool = False


def decide(state: PayerState) -> PayerDecision:
    """The payer decision. Total: every combination of inputs has exactly one answer."""
    byok_only = state.payers is Payers.BYOK_ONLY
    must_byok = byok_only or state.always
    entitled = state.entitled is Entitled.OK
    enabled = state.key is KeyState.ENABLED
    undecryptable = state.key is KeyState.UNDECRYPTABLE

    if must_byok and state.entitled is Entitled.NONE:
        return PayerDecision("F1", refusal=Code.ADDON_REQUIRED)
    if must_byok and state.entitled is Entitled.INACTIVE:
        return PayerDecision("F2", refusal=Code.ADDON_INACTIVE)
    if not byok_only and entitled and (state.always or enabled or undecryptable) and state.balance_low:
        return PayerDecision("F3", refusal=Code.MINIMUM_BALANCE_REQUIRED)
    if byok_only and not enabled:
        return PayerDecision("F4", refusal=Code.OPENROUTER_KEY_REQUIRED)
    if state.always and not enabled:
        return PayerDecision("F5", refusal=Code.ALWAYS_USE_KEY_UNAVAILABLE)
    if not must_byok and entitled and undecryptable and not state.credits_if_key_fails:
        return PayerDecision("F6", refusal=Code.OPENROUTER_KEY_REQUIRED)
    if state.cap_paused:
        return PayerDecision("F7", refusal=Code.AI_PAUSED)

    direct = (Route.DIRECT,) if state.direct_usable else ()
    if byok_only:
        return PayerDecision("F8", (*direct, Route.OPENROUTER))
    if state.always:
        return PayerDecision("F9", (Route.OPENROUTER,))
    if entitled and enabled and state.credits_if_key_fails:
        return PayerDecision("F10", (*direct, Route.OPENROUTER, Route.CREDITS), credits_on_key_failure=True)
    if entitled and enabled:
        return PayerDecision("F11", (*direct, Route.OPENROUTER))
    if state.credits_short:
        return PayerDecision("F12", refusal=Code.INSUFFICIENT_CREDITS)
    return PayerDecision("F13", (Route.CREDITS,), incident=entitled and undecryptable)


class Step(StrEnum):
    """What follows a failed attempt."""

    STOP = "stop"
    NEXT_ROUTE = "next_route"
    RETRY = "retry"
    NEXT_MODEL = "next_model"
    CREDITS = "credits"


class Mark(StrEnum):
    """What a failure does to the credential that was used."""

    NONE = "none"
    REJECTED = "rejected"
    NO_FUNDS = "no_funds"
    MODEL_OFF = "model_off"
    CIRCUIT = "circuit"


@dataclass(frozen=True, slots=True)
class After:
    """`code` answers the caller if nothing else does. `alert_operator`: the platform's own key failed."""

    step: Step
    code: Code
    mark: Mark = Mark.NONE
    alert_operator: bool = False


def decide_after(
    failure: Failure,
    route: Route,
    *,
    answer_started: bool,
    retried: bool,
    fail_on_direct_auth: bool,
    credits_on_key_failure: bool,
) -> After:
    """What follows a failed attempt on `route`.

    `retried` says that this route already had its second tries, if it is given any. Each following attempt needs its
    own hold. Only a failing key (AUTH, FUNDS) ever leads to credits, and only in row F10; never an outage, a rate
    limit or a cap.
    """
    cls = failure.cls
    code = code_for(cls)
    if answer_started:
        return After(Step.STOP, code, _mark(cls, failure))
    match cls:
        case FailureClass.REQUEST | FailureClass.TOO_LONG | FailureClass.POLICY | FailureClass.BAD_OUTPUT:
            return After(Step.STOP, code)
        case FailureClass.NETWORK | FailureClass.OVERLOAD | FailureClass.TIMEOUT | FailureClass.RATE_LIMIT:
            may_retry = not retried and (
                cls in (FailureClass.NETWORK, FailureClass.OVERLOAD)
                or (cls is FailureClass.RATE_LIMIT and failure.retry_after_ms is not None)
            )
            following = Step.NEXT_ROUTE if route is Route.DIRECT else Step.NEXT_MODEL
            return After(Step.RETRY if may_retry else following, code, Mark.CIRCUIT)
        case FailureClass.AUTH | FailureClass.FUNDS:
            mark = _mark(cls, failure)
            match route:
                case Route.DIRECT:
                    return After(Step.STOP if fail_on_direct_auth else Step.NEXT_ROUTE, code, mark)
                case Route.OPENROUTER:
                    return After(Step.CREDITS if credits_on_key_failure else Step.STOP, code, mark)
                case Route.CREDITS:
                    return After(Step.STOP, Code.PROVIDER_UNAVAILABLE, mark, alert_operator=True)
                case _:
                    assert_never(route)
        case FailureClass.SCOPE:
            if route is Route.DIRECT:
                return After(Step.STOP if fail_on_direct_auth else Step.NEXT_ROUTE, code, Mark.MODEL_OFF)
            return After(Step.NEXT_MODEL, code, Mark.MODEL_OFF)
        case FailureClass.MODEL_MISSING:
            return After(Step.NEXT_ROUTE if route is Route.DIRECT else Step.NEXT_MODEL, code, Mark.MODEL_OFF)
        case _:
            assert_never(cls)


def _mark(cls: FailureClass, failure: Failure) -> Mark:
    if cls is FailureClass.AUTH:
        return Mark.REJECTED
    if cls is FailureClass.FUNDS:
        return Mark.NONE if failure.spares_credential else Mark.NO_FUNDS
    return Mark.NONE


def code_for(cls: FailureClass) -> Code:
    """The caller's code if nothing else answers."""
    match cls:
        case FailureClass.NETWORK | FailureClass.OVERLOAD | FailureClass.TIMEOUT | FailureClass.RATE_LIMIT:
            return Code.PROVIDER_UNAVAILABLE
        case FailureClass.AUTH | FailureClass.SCOPE:
            return Code.CREDENTIAL_REJECTED
        case FailureClass.FUNDS:
            return Code.CREDENTIAL_OUT_OF_FUNDS
        case FailureClass.MODEL_MISSING:
            return Code.UNKNOWN_MODEL
        case FailureClass.REQUEST:
            return Code.BAD_REQUEST
        case FailureClass.TOO_LONG:
            return Code.CONTEXT_TOO_LONG
        case FailureClass.POLICY:
            return Code.CONTENT_REFUSED
        case FailureClass.BAD_OUTPUT:
            return Code.PROVIDER_UNAVAILABLE
        case _:
            assert_never(cls)
