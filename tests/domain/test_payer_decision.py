"""The payer decision: every combination of its inputs, judged by a second, differently written reading of the rules."""

from itertools import product

import pytest

from ownkey.domain.failures import Failure, FailureClass
from ownkey.domain.product import Payers
from ownkey.domain.refusals import Code
from ownkey.domain.routing import (
    Entitled,
    KeyState,
    Mark,
    PayerState,
    Route,
    Step,
    code_for,
    decide,
    decide_after,
)

STATES = [
    PayerState(*values)
    for values in product(
        Payers, Entitled, (False, True), KeyState, (False, True), (False, True), (False, True), (False, True),
        (False, True),
    )
]

D, O, C = Route.DIRECT, Route.OPENROUTER, Route.CREDITS  # noqa: E741 - the letters of the contract

# The rules as rows of conditions; "*" matches anything. First match wins.
#        payers          entitled    balance  key                        always  if-fails paused  short
ROWS = [
    ("F1", "byok_only", "none", "*", "*", "*", "*", "*", "*", "addon_required"),
    ("F1", "*", "none", "*", "*", True, "*", "*", "*", "addon_required"),
    ("F2", "byok_only", "inactive", "*", "*", "*", "*", "*", "*", "addon_inactive"),
    ("F2", "*", "inactive", "*", "*", True, "*", "*", "*", "addon_inactive"),
    ("F3", "with_credits", "ok", True, "*", True, "*", "*", "*", "minimum_balance_required"),
    ("F3", "with_credits", "ok", True, "enabled", "*", "*", "*", "*", "minimum_balance_required"),
    ("F3", "with_credits", "ok", True, "undecryptable", "*", "*", "*", "*", "minimum_balance_required"),
    ("F4", "byok_only", "*", "*", "disabled", "*", "*", "*", "*", "openrouter_key_required"),
    ("F4", "byok_only", "*", "*", "missing", "*", "*", "*", "*", "openrouter_key_required"),
    ("F4", "byok_only", "*", "*", "undecryptable", "*", "*", "*", "*", "openrouter_key_required"),
    ("F5", "with_credits", "*", "*", "disabled", True, "*", "*", "*", "always_use_key_unavailable"),
    ("F5", "with_credits", "*", "*", "missing", True, "*", "*", "*", "always_use_key_unavailable"),
    ("F5", "with_credits", "*", "*", "undecryptable", True, "*", "*", "*", "always_use_key_unavailable"),
    ("F6", "with_credits", "ok", "*", "undecryptable", False, False, "*", "*", "openrouter_key_required"),
    ("F7", "*", "*", "*", "*", "*", "*", True, "*", "ai_paused"),
    ("F8", "byok_only", "*", "*", "*", "*", "*", "*", "*", "DO"),
    ("F9", "with_credits", "*", "*", "*", True, "*", "*", "*", "O"),
    ("F10", "with_credits", "ok", "*", "enabled", False, True, "*", "*", "DOC"),
    ("F11", "with_credits", "ok", "*", "enabled", False, False, "*", "*", "DO"),
    ("F12", "with_credits", "*", "*", "*", False, "*", "*", True, "insufficient_credits"),
    ("F13", "with_credits", "*", "*", "*", False, "*", "*", "*", "C"),
]


def read_table(state: PayerState) -> tuple[str, str]:
    """The contract's row and result for a state, by looking it up."""
    have = (
        state.payers.value, state.entitled.value, state.balance_low, state.key.value, state.always,
        state.credits_if_key_fails, state.cap_paused, state.credits_short,
    )
    for row, *conditions, result in ROWS:
        if all(want == "*" or want == value for want, value in zip(conditions, have, strict=True)):
            return row, result
    raise AssertionError(f"no row for {state}")


def test_there_are_1536_states() -> None:
    """M13: the inputs of the decision make 1,536 combinations, and all of them are tried below."""
    assert len(set(STATES)) == 1536


@pytest.mark.parametrize("payers", list(Payers))
def test_every_state_of_a_preset_follows_the_table(payers: Payers) -> None:
    """M13, T5, T14, G17 to G22: for every combination of inputs, both presets decide as the contract's table says."""
    states = [s for s in STATES if s.payers is payers]
    print(f"M13 states: decided {len(states)}")
    for state in states:
        row, result = read_table(state)
        decision = decide(state)
        letters = {"D": D, "O": O, "C": C}
        if result[0].isupper():
            routes = tuple(letters[x] for x in result if x != "D" or state.direct_usable)
            assert (decision.row, decision.routes, decision.refusal) == (row, routes, None), state
        else:
            assert (decision.row, decision.routes, decision.refusal) == (row, (), Code(result)), state


def test_always_on_never_leads_to_credits() -> None:
    """X3, G19: while Always use this key is on, no state whatever has credits among its routes."""
    for state in STATES:
        if state.always:
            decision = decide(state)
            assert C not in decision.routes
            assert not decision.credits_on_key_failure


def test_byok_only_never_leads_to_credits() -> None:
    """T2: a product without a platform key never routes to one."""
    for state in STATES:
        if state.payers is Payers.BYOK_ONLY:
            assert C not in decide(state).routes


def test_a_paused_cap_stops_every_payer() -> None:
    """T22, X1: while the cap is paused no state has any route, whoever would pay."""
    for state in STATES:
        if state.cap_paused:
            assert decide(state).routes == ()


def test_an_opened_incident_means_that_credits_stood_in_for_an_unreadable_key() -> None:
    """G29: an incident is opened exactly where the payer changed because the saved key cannot be opened."""
    for state in STATES:
        decision = decide(state)
        expected = (
            decision.row == "F13" and state.entitled is Entitled.OK and state.key is KeyState.UNDECRYPTABLE
        )
        assert decision.incident == expected


AFTER = [
    # class, after D, after O, after O with credits allowed, after C
    ("network", Step.NEXT_ROUTE, Step.RETRY, Step.RETRY, Step.RETRY),
    ("overload", Step.NEXT_ROUTE, Step.RETRY, Step.RETRY, Step.RETRY),
    ("timeout", Step.NEXT_ROUTE, Step.NEXT_MODEL, Step.NEXT_MODEL, Step.NEXT_MODEL),
    ("rate_limit", Step.NEXT_ROUTE, Step.NEXT_MODEL, Step.NEXT_MODEL, Step.NEXT_MODEL),
    ("auth", Step.NEXT_ROUTE, Step.STOP, Step.CREDITS, Step.STOP),
    ("funds", Step.NEXT_ROUTE, Step.STOP, Step.CREDITS, Step.STOP),
    ("scope", Step.NEXT_ROUTE, Step.NEXT_MODEL, Step.NEXT_MODEL, Step.NEXT_MODEL),
    ("model_missing", Step.NEXT_ROUTE, Step.NEXT_MODEL, Step.NEXT_MODEL, Step.NEXT_MODEL),
    ("request", Step.STOP, Step.STOP, Step.STOP, Step.STOP),
    ("too_long", Step.STOP, Step.STOP, Step.STOP, Step.STOP),
    ("policy", Step.STOP, Step.STOP, Step.STOP, Step.STOP),
    ("bad_output", Step.STOP, Step.STOP, Step.STOP, Step.STOP),
]


def test_the_table_of_failures_names_every_class() -> None:
    """T6: no failure class is missing from the table below."""
    assert {row[0] for row in AFTER} == {c.value for c in FailureClass}


@pytest.mark.parametrize(("name", "direct", "openrouter", "with_credits", "credits"), AFTER)
def test_what_follows_a_failure(
    name: str, direct: Step, openrouter: Step, with_credits: Step, credits: Step
) -> None:
    """T6, T15: what a failure leads to depends on its class and the route, exactly as the contract's table says."""
    failure = Failure(FailureClass(name), "signal")

    def step(route: Route, on_key_failure: bool = False) -> Step:
        return decide_after(
            failure, route, answer_started=False, retried=route is D, fail_on_direct_auth=False,
            credits_on_key_failure=on_key_failure,
        ).step

    assert (step(D), step(O), step(O, True), step(C)) == (direct, openrouter, with_credits, credits)


@pytest.mark.parametrize("cls", list(FailureClass))
@pytest.mark.parametrize("route", list(Route))
def test_nothing_follows_once_the_answer_started(cls: FailureClass, route: Route) -> None:
    """X4: after the first content no failure leads to another attempt."""
    after = decide_after(
        Failure(cls, "x"), route, answer_started=True, retried=False, fail_on_direct_auth=False,
        credits_on_key_failure=True,
    )

    assert after.step is Step.STOP


def test_only_a_failing_key_leads_to_credits() -> None:
    """X3: an outage, a rate limit, a scope or a refusal of the customer's key never moves the bill to credits."""
    for cls in FailureClass:
        for retried in (False, True):
            after = decide_after(
                Failure(cls, "x"), O, answer_started=False, retried=retried, fail_on_direct_auth=False,
                credits_on_key_failure=True,
            )
            assert (after.step is Step.CREDITS) == (cls in (FailureClass.AUTH, FailureClass.FUNDS))


def test_a_workspace_may_stop_at_a_failing_direct_key() -> None:
    """With `on_direct_auth_failure: fail` a rejected direct key answers at once; an outage still falls back."""
    def step(cls: FailureClass) -> Step:
        return decide_after(
            Failure(cls, "x"), D, answer_started=False, retried=True, fail_on_direct_auth=True,
            credits_on_key_failure=False,
        ).step

    assert step(FailureClass.AUTH) is Step.STOP
    assert step(FailureClass.FUNDS) is Step.STOP
    assert step(FailureClass.SCOPE) is Step.STOP
    assert step(FailureClass.OVERLOAD) is Step.NEXT_ROUTE


@pytest.mark.parametrize("cls", list(FailureClass))
def test_a_direct_route_with_tries_left_is_retried_by_the_last_routes_rules(cls: FailureClass) -> None:
    """T6: where the operator gives direct routes second tries, what passes is tried again, and nothing else is."""
    def step(route: Route) -> Step:
        return decide_after(
            Failure(cls, "x", retry_after_ms=100), route, answer_started=False, retried=False,
            fail_on_direct_auth=False, credits_on_key_failure=False,
        ).step

    assert (step(D) is Step.RETRY) == (step(O) is Step.RETRY)


def test_a_route_gets_one_second_try_at_most() -> None:
    """The last route retries once; a rate limit only when it says how long to wait."""
    def step(failure: Failure, retried: bool) -> Step:
        return decide_after(
            failure, O, answer_started=False, retried=retried, fail_on_direct_auth=False,
            credits_on_key_failure=False,
        ).step

    assert step(Failure(FailureClass.NETWORK, "x"), True) is Step.NEXT_MODEL
    assert step(Failure(FailureClass.RATE_LIMIT, "x", retry_after_ms=500), False) is Step.RETRY
    assert step(Failure(FailureClass.RATE_LIMIT, "x"), False) is Step.NEXT_MODEL


def test_a_key_that_can_pay_for_less_is_not_marked() -> None:
    """A 402 that a smaller call may pass leaves the credential healthy; every other lack of funds marks it."""
    def mark(failure: Failure) -> Mark:
        return decide_after(
            failure, O, answer_started=False, retried=False, fail_on_direct_auth=False, credits_on_key_failure=False,
        ).mark

    assert mark(Failure(FailureClass.FUNDS, "can only afford 100", spares_credential=True)) is Mark.NONE
    assert mark(Failure(FailureClass.FUNDS, "insufficient_quota")) is Mark.NO_FUNDS


def test_every_class_has_a_code() -> None:
    """Every failure has one code for the caller if nothing else answers."""
    assert {code_for(cls) for cls in FailureClass} <= set(Code)
