"""The headline of a receipt: the contract's own sentences, and something true for everything that can happen."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.domain.test_receipt_words import MINI, REJECTED, attempt, failed, receipt

from ownkey.domain.failures import FailureClass
from ownkey.domain.headline import Beside, headline
from ownkey.domain.receipts import (
    KEY_TEST,
    PROCESS_STOPPED,
    AttemptRecord,
    Basis,
    CapView,
    HoldState,
    Receipt,
    Skip,
)
from ownkey.domain.refusals import Code
from ownkey.domain.routing import Funding, Route

CAP = CapView("2026-11", 50_000_000_000, 50_000_000_000, 50_000_000_000, "2026-12-01T00:00:00Z")
PAUSED_AT_MS = 1_794_650_000_000  # 14 Nov 2026
NOTHING: dict[str, Any] = {"served_model": None, "finish_reason": None, "status": 503}


def claude(**fields: Any) -> AttemptRecord:
    hint = {"credential_hint": "sk-ant-…c1d2", "credential_id": "c_direct"}
    return replace(attempt(Route.DIRECT, "openai", "claude-haiku-4-5"), provider="anthropic", **{**hint, **fields})


def router(cost_nusd: int | None = 3_600_000, **fields: Any) -> AttemptRecord:
    return attempt(Route.OPENROUTER, credential_id="c_router", cost_nusd=cost_nusd, **fields)


def on_credits(**fields: Any) -> AttemptRecord:
    return attempt(Route.CREDITS, **fields)


def direct_failed(cls: str, status: int | None, **fields: Any) -> AttemptRecord:
    nothing = {"state": HoldState.RELEASED, "basis": Basis.NONE, "cost_nusd": 0, "first_content_ms": None}
    return claude(failure=cls, signal=f"{status} said", status=status, **{**nothing, **fields})


def router_failed(cls: str, status: int | None, **fields: Any) -> AttemptRecord:
    return failed(Route.OPENROUTER, cls, f"{status} said", status=status, credential_id="c_router", **fields)


@pytest.mark.parametrize(("told", "sentence"), [
    (receipt("F8", claude(cost_nusd=3_400_000)), "Your Anthropic key (…c1d2) paid US$0.0034. One attempt."),
    (receipt("F11", direct_failed("rate_limit", 429), router()),
     "Anthropic answered 429 (rate limit), so your OpenRouter key answered and paid US$0.0036. Credits were not used."),
    (receipt("F10", router_failed("funds", 402), on_credits(), charge_credits=3, charge_nusd=30_000_000),
     'Your OpenRouter key failed (402, no money). 3 credits paid because "Use credits if my key fails" is on.'),
    (receipt("F5", code="always_use_key_unavailable", details={"key": "disabled"}, **NOTHING),
     "Nobody paid: Always use this key is on and the key is disabled. No provider was called."),
    (receipt("F7", code="ai_paused", cap=CAP, **NOTHING),
     "Nobody paid: the US$50.00 cap was reached on 14 Nov. AI resumes 1 Dec 00:00 UTC or when the cap is raised."),
    (receipt("F8", direct_failed("network", None), router_failed("overload", 503), code="provider_unavailable",
             **NOTHING), "Nobody answered: Anthropic was unreachable, then OpenRouter answered 503."),
    (receipt("F8", router(2_100_000, failure="network", signal="reset", basis=Basis.ESTIMATED),
             code="provider_unavailable", finish_reason=None),
     "The answer was cut after it began, so it was not restarted; US$0.0021 was spent."),
    (receipt("F8", router(10_000_000, failure="network", signal="process stopped", status=None,
                          state=HoldState.EXPIRED, basis=Basis.ESTIMATED),
             code="provider_unavailable", message=PROCESS_STOPPED, **NOTHING),
     "The call ended without a report; US$0.0100 is booked as estimated."),
])
def test_the_contracts_sentences(told: Receipt, sentence: str) -> None:
    """X2: each case of the contract, word by word."""
    assert headline(told, Beside(paused_at_ms=PAUSED_AT_MS)) == sentence


@pytest.mark.parametrize(("told", "sentence"), [
    (receipt("F8", code="openrouter_key_required", details={"key": "missing"}, **NOTHING),
     "Nobody paid: an OpenRouter key is required and none is saved. No provider was called."),
    (receipt("F7", code="ai_paused", cap=replace(CAP, spent_before_nusd=49_900_000_000), **NOTHING),
     "Nobody paid: what was left under the US$50.00 cap on 14 Nov was too little for a call. AI resumes 1 Dec 00:00 "
     "UTC or when the cap is raised."),
    (receipt("F7", code="ai_paused", cap=replace(CAP, cap_nusd=0), **NOTHING),
     "Nobody paid: the spend cap is US$0, which means no AI. AI resumes when the cap is raised."),
    (receipt("F8", code="spend_cap_busy", cap=CAP, **NOTHING),
     "Nobody paid: other calls in flight held what was left under the US$50.00 cap. No provider was called."),
    (receipt("F8", router_failed("overload", 503), router()),
     "OpenRouter answered 503, then answered on the next try: your OpenRouter key (…1234) paid US$0.0036. Credits were "
     "not used."),
    (receipt("F8", direct_failed("timeout", None, cost_nusd=2_000_000, state=HoldState.SETTLED), router()),
     "Anthropic did not answer in time, so your OpenRouter key answered and paid US$0.0036. Your Anthropic key paid "
     "US$0.0020 for an attempt that failed. Credits were not used."),
    (receipt("F10", on_credits(), skips=(Skip(Route.OPENROUTER, "openrouter", MINI, REJECTED),),
             charge_credits=1, charge_nusd=1),
     'Your OpenRouter key was left out: it is marked rejected (401). 1 credit paid because "Use credits if my key '
     'fails" is on.'),
    (receipt("F13", on_credits(), charge_credits=0, charge_nusd=5),
     "The rest of an earlier credit paid because no key of yours is in force. One attempt."),
    (receipt("F8", router(0)), "Your OpenRouter key (…1234) answered, and it cost nothing. One attempt."),
    (receipt("F8", router(failure=None, signal="the caller hung up"), hung_up=True, finish_reason=None, status=499),
     "The caller hung up while OpenRouter was answering; your OpenRouter key (…1234) paid US$0.0036."),
    (receipt("F8", router_failed("auth", 401), code="credential_rejected", **NOTHING),
     "Nobody answered: your OpenRouter key failed (401, rejected)."),
    (receipt("F8", direct_failed("network", None), code="ai_paused", cap=CAP, **NOTHING),
     "Nobody answered: Anthropic was unreachable, then the US$50.00 cap was reached on 14 Nov."),
    (receipt("F13", on_credits(failure="network"), code="provider_unavailable", finish_reason=None,
             charge_credits=2), "The answer was cut after it began, so it was not restarted; 2 credits were taken."),
    (receipt("F8", router(7_000), task=KEY_TEST), "A Test of your OpenRouter key (…1234): its small call was answered; "
     "US$0.000007 was spent."),
])
def test_everything_else_is_said_as_plainly(told: Receipt, sentence: str) -> None:
    """What the contract's table has no row for."""
    assert headline(told, Beside(paused_at_ms=PAUSED_AT_MS)) == sentence


def test_a_product_without_credits_says_nothing_of_them() -> None:
    """G1, T2: there is nothing that was not used; the rest of the sentence is the contract's."""
    told = receipt("F11", direct_failed("rate_limit", 429), router())

    assert headline(told, Beside(with_credits=False)) == (
        "Anthropic answered 429 (rate limit), so your OpenRouter key answered and paid US$0.0036."
    )


def test_a_task_that_is_off_has_the_name_that_people_know() -> None:
    """T24: its title, and its id where the product names it no more."""
    off = receipt("F8", code="feature_disabled", task="auto_triage", **NOTHING)

    assert '"Triage new tickets" is switched off' in headline(off, Beside(titles={"auto_triage": "Triage new tickets"}))
    assert '"auto_triage" is switched off' in headline(off)


def test_times_are_told_in_the_workspaces_zone() -> None:
    """A cap's dates are those of its own calendar."""
    told = receipt("F7", code="ai_paused", cap=CAP, **NOTHING)

    assert "AI resumes 1 Dec 01:00 CET" in headline(told, Beside("Europe/Berlin", PAUSED_AT_MS))


FAILURES = tuple(cls.value for cls in FailureClass)
ROWS_OF = {
    Code.ADDON_REQUIRED: "F1", Code.ADDON_INACTIVE: "F2", Code.MINIMUM_BALANCE_REQUIRED: "F3",
    Code.OPENROUTER_KEY_REQUIRED: "F4", Code.ALWAYS_USE_KEY_UNAVAILABLE: "F5", Code.AI_PAUSED: "F7",
    Code.INSUFFICIENT_CREDITS: "F12",
}


def refused() -> Iterator[Receipt]:
    """Every code without an attempt, with and without what its receipt may lack."""
    for code in Code:
        for cap, details in itertools.product((None, CAP), ({}, {"key": "missing"}, {"key": "undecryptable"})):
            yield receipt(ROWS_OF.get(code, "F8"), code=code.value, cap=cap, details=details, message="No.", **NOTHING)
    yield receipt("F8", code="provider_unavailable", message="The caller hung up before an answer.",
                  **{**NOTHING, "status": 499})


def one_attempt() -> Iterator[AttemptRecord]:
    """An attempt of each payer that answered, with each kind of cost."""
    for make in (router, claude, on_credits):
        for cost, basis in ((0, Basis.ACTUAL), (1, Basis.COMPUTED), (10**10, Basis.ESTIMATED), (None, Basis.UNKNOWN)):
            yield make(cost_nusd=cost, basis=basis)


def before() -> Iterator[tuple[AttemptRecord, ...]]:
    """What may have failed before: nothing, each class on each own route, and two in a row."""
    yield ()
    for cls, status in itertools.product(FAILURES, (None, 200, 307, 429, 503, 529)):
        yield (direct_failed(cls, status),)
        yield (router_failed(cls, status),)
        yield (direct_failed(cls, status, cost_nusd=5, state=HoldState.SETTLED), router_failed(cls, status))


def answered() -> Iterator[Receipt]:
    for last, first in itertools.product(one_attempt(), before()):
        credits = last.route is Route.CREDITS
        rows = ("F10", "F13") if credits else ("F8", "F9", "F11")
        for row, charge, (hung_up, finish) in itertools.product(
            rows, (0, 3) if credits else (0,), ((False, "stop"), (True, "stop"), (True, None))
        ):
            yield receipt(row, *first, last, charge_credits=charge, charge_nusd=charge * 10**7, hung_up=hung_up,
                          finish_reason=finish)


def failing() -> Iterator[Receipt]:
    """All failed, or a later gate said no, or the answer was cut, or the process died."""
    for attempts, code in itertools.product([*before()][1:], Code):
        for row in ("F8", "F10"):
            yield receipt(row, *attempts, code=code.value, message="No.", cap=CAP, **NOTHING)
        yield receipt("F8", *attempts, code=code.value, message=PROCESS_STOPPED, **NOTHING)
    for last in one_attempt():
        cut = replace(last, failure="network", signal="reset")
        yield receipt("F8", cut, code="provider_unavailable", message="Cut.", finish_reason=None)


STATUSES = (None, 200, 206, 302, 307, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 498, 500, 502, 503, 504, 520,
            524, 529, 599)
NAMED = {529: "Anthropic answered 529 (overloaded)", 500: "Anthropic answered 500 (internal error)",
         502: "Anthropic answered 502 (bad gateway)", 503: "Anthropic answered 503",
         504: "Anthropic answered 504 (too slow)", 524: "Anthropic answered 524 (too slow)",
         520: "Anthropic answered 520 (server error)", 409: "Anthropic answered 409 (busy)",
         307: "Anthropic answered 307 (a redirect, which is not followed)"}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("cls", list(FailureClass))
def test_every_failure_names_its_cause(cls: FailureClass, status: int | None) -> None:
    """X2: each class of failure × each status that answers come with: what went wrong stands in words, not as a number
    that readers would have to look up, and never as "failed"."""
    said = headline(receipt("F11", direct_failed(cls.value, status), router()))
    cause = said.partition(", so your OpenRouter key")[0]
    if status == 503 and cls is FailureClass.OVERLOAD:
        assert cause == "Anthropic answered 503"  # the contract's own words
        return

    assert re.fullmatch(r"Anthropic (answered \d{3} \([a-z ,]+\)|(?!answered|failed)[a-z][a-z ]+)", cause), cause
    if cls is FailureClass.OVERLOAD and status in NAMED:
        assert cause == NAMED[status]


@pytest.mark.parametrize("generate", [refused, answered, failing])
def test_every_receipt_has_a_true_headline(generate: Any) -> None:
    """X2: whatever funding, outcome and code meet, there is a headline, and it agrees with the receipt's figures."""
    seen = 0
    for told in generate():
        seen += 1
        said = headline(told, Beside(paused_at_ms=PAUSED_AT_MS))
        check_form(said)
        check_truth(told, said)
        check_silence(headline(told, Beside(paused_at_ms=PAUSED_AT_MS, figures=False)))
        if told.code is None and told.funding is Funding.BYOK:
            assert "redit" not in headline(told, Beside(with_credits=False)), told

    assert seen > 100


def check_form(said: str) -> None:
    assert said.endswith(".")
    assert said[0].isupper() or said[0].isdigit()
    assert "None" not in said
    assert "  " not in said
    assert not re.search(r"[,;:]\.|\.\.|\( ?\)|, then ,", said), said


def check_truth(told: Receipt, said: str) -> None:
    costs = [a.cost_nusd for a in told.attempts]
    spent = bool(told.charge_credits) or any(c != 0 for c in costs)
    if said.startswith("Nobody paid"):
        assert not spent, said
        assert not told.attempts, said
    if said.startswith("Nobody answered"):
        assert told.served_model is None, said
    if re.search(r"\d credits? (was taken|were taken|paid)", said):
        assert told.charge_credits > 0, said
    if told.funding is Funding.CREDITS and told.charge_credits:
        assert str(told.charge_credits) in said, said
    if "Credits were not used" in said:
        assert told.charge_credits == 0, said
        assert told.funding is Funding.BYOK, said
    for name in ("Anthropic", "OpenAI", "Google"):
        assert (name in said) <= any(a.provider == name.lower() for a in told.attempts), said
    for amount in re.findall(r"US\$([\d.]+?)(?=[^\d.]|\.$|\.\s)", said):
        assert amount in allowed_amounts(told), said
    if told.funding is Funding.BYOK and None not in costs and sum(c or 0 for c in costs) and told.code is None:
        assert "US$" in said, said
    if told.code is None and not told.hung_up:
        assert "hung up" not in said, said


def allowed_amounts(told: Receipt) -> set[str]:
    """Sums that a headline may name: the cap, the whole, and what one key was billed."""
    by_key: dict[str, int] = {}
    for one in told.attempts:
        by_key[one.credential_id] = by_key.get(one.credential_id, 0) + (one.cost_nusd or 0)
    sums = [*by_key.values(), told.cost_nusd or 0]
    found = {"50.00", "0"}
    for nusd in sums:
        whole, rest = divmod(nusd, 10**9)
        found.add(f"{whole}.{f'{rest:09d}'.rstrip('0').ljust(4, '0')}")
    return found


def check_silence(said: str) -> None:
    """Members see no amounts, hints and caps."""
    check_form(said)
    assert "US$" not in said
    assert "…" not in said
    assert not re.search(r"\d[\d,]* credit", said)
