"""Outcomes, marked lists, local days and the words of progress: pure rules, example by example."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ownkey.domain.activity import (
    Outcome,
    day_text,
    local_day,
    mark,
    mark_all,
    month_days,
    outcome_of,
    parse_day,
    shares_of,
)
from ownkey.domain.caps import plan_period
from ownkey.domain.ledger import Posting
from ownkey.domain.receipts import AttemptRecord, Basis, HoldState, Receipt
from ownkey.domain.refusals import Code
from ownkey.domain.routing import Route
from ownkey.domain.statement import WHAT, net_credits
from ownkey.domain.work import Work, WorkKind, WorkState, tell_progress, tell_seconds

NOV = 1_794_873_600_000


def make(**changes: Any) -> Receipt:
    values: dict[str, Any] = {
        "id": "r", "workspace_id": "w", "at_ms": NOV, "token_id": "t", "endpoint": "chat", "dialect": "openai",
        "task": None, "requested_model": "m", "served_model": None, "stream": False, "project": None,
        "conversation": None, "member": None, "row": None, "funding": None, "route": None, "provider": None,
        "status": 200, "code": None, "message": "",
    }
    return Receipt(**(values | changes))


def attempt(cost: int | None, **changes: Any) -> AttemptRecord:
    return replace(AttemptRecord(
        n=1, route=Route.OPENROUTER, provider="openrouter", model="m", credential_id="c", credential_label="",
        credential_hint="", hold_id="h", bound_nusd=9, state=HoldState.SETTLED, basis=Basis.ACTUAL, cost_nusd=cost,
        usage=None, status=200, failure=None, signal="", message="", request_id=None, started_ms=0,
        first_content_ms=1, ended_ms=2,
    ), **changes)


@pytest.mark.parametrize(("changes", "outcome"), [
    ({}, Outcome.OK), ({"hung_up": True}, Outcome.CANCELLED), ({"code": "ai_paused"}, Outcome.REFUSED),
    ({"code": "bad_request"}, Outcome.REFUSED),
    ({"code": "bad_request", "attempts": (attempt(0),)}, Outcome.FAILED),
    ({"code": "provider_unavailable", "attempts": (attempt(0),)}, Outcome.FAILED),
    ({"code": "spend_cap_busy", "attempts": (attempt(0),)}, Outcome.REFUSED),
])
def test_every_call_has_one_outcome(changes: dict[str, Any], outcome: Outcome) -> None:
    """Refused is what we said; failed is what a provider did, or did not do."""
    assert outcome_of(make(**changes)) is outcome


def test_every_code_has_an_outcome() -> None:
    """With and without attempts, no code is an answer."""
    for code in Code:
        assert outcome_of(make(code=code)) is Outcome.REFUSED
        assert outcome_of(make(code=code, attempts=(attempt(1),))) in (Outcome.REFUSED, Outcome.FAILED)


@given(some.lists(some.one_of(some.none(), some.integers(0, 10**12)), max_size=5), some.integers(0, 3))
def test_shares_add_up_to_the_attempts(costs: list[int | None], kinds: int) -> None:
    """However the attempts fall together, each is counted once and the call once."""
    attempts = tuple(
        attempt(cost, n=n, provider=f"p{n % (kinds + 1)}", failure=None if n % 2 else "overload")
        for n, cost in enumerate(costs)
    )
    known = sum(cost or 0 for cost in costs)
    receipt = make(attempts=attempts, cost_nusd=None if None in costs else known, charge_credits=3)
    shares = [amounts for _, amounts in shares_of(receipt)]

    assert sum(a.cost_nusd for a in shares) == known
    assert sum(a.calls for a in shares) == 1
    assert sum(a.attempts for a in shares) == len(costs)
    assert sum(a.charge_credits for a in shares) == 3
    assert sum(a.unknown_attempts for a in shares) == costs.count(None)
    assert sum(a.touched_provider for a in shares) == len({a.provider for a in attempts})


def test_a_name_is_never_found_in_a_part_of_another() -> None:
    """"gpt-4.1" is not "gpt-4.1-mini", and a name with a mark in it forges nothing."""
    marked = mark_all(["openai/gpt-4.1-mini", "b\x1fopenai/gpt-4.1"])

    assert mark("openai/gpt-4.1-mini") in marked
    assert mark("openai/gpt-4.1") not in marked
    assert mark_all([]) == mark_all([""]) == ""


@given(some.integers(1_600_000_000_000, 1_900_000_000_000), some.sampled_from(
    ["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Europe/Berlin", "Pacific/Chatham"]))
def test_days_add_up_to_months(at_ms: int, zone: str) -> None:
    """Every moment has one day, in its period's month, and the day holds for the moment."""
    period = plan_period(at_ms, zone, None)
    day = local_day(at_ms, period)

    assert day.from_ms <= at_ms < day.until_ms
    assert day_text(day.number)[:7] == period.key
    assert parse_day(day_text(day.number)) == day.number
    first, last = month_days(period.key)
    assert first <= day_text(day.number) <= last


def test_a_moved_month_keeps_its_days() -> None:
    """A zone that changes at the month's end leaves hours of another date: they count as the month's first day."""
    before = plan_period(NOV, "UTC", None)
    after = plan_period(before.ends_at_ms, "America/New_York", before)
    day = local_day(after.starts_at_ms, after)

    assert after.key == "2026-12"
    assert day_text(day.number) == "2026-12-01"


@pytest.mark.parametrize(("postings", "net"), [
    ((Posting("source:topup", "lot:1", 5),), 5), ((Posting("lot:1", "revenue:usage", 2),), -2),
    ((Posting("lot:1", "debt:w", 2),), 0), ((Posting("debt:w", "sink:refunded", 4),), -4),
    ((Posting("lot:1", "frozen:w", 3),), -3), ((Posting("frozen:w", "sink:refunded", 3),), 0),
])
def test_what_an_entry_moves(postings: tuple[Posting, ...], net: int) -> None:
    """Lots and debt together are the balance; what is frozen or spent has left it."""
    assert net_credits(postings) == net


def test_every_movement_has_a_name() -> None:
    """What people read is not an internal word."""
    assert all(text[0].isupper() and "_" not in text for text in WHAT.values())


def work(**changes: Any) -> Work:
    values: dict[str, Any] = {
        "id": "work_1", "workspace_id": "", "kind": WorkKind.EXPORT, "state": WorkState.RUNNING, "wish": {},
        "step": "Writing", "done": 300, "total": 1_000, "checkpoint": {}, "error": "", "result": {}, "file": "",
        "started_by": "operator:x", "member_id": "", "created_at_ms": 0, "run_at_ms": 10_000, "run_done": 100,
        "heartbeat_ms": 14_000, "ended_at_ms": None, "runs": 1,
    }
    return Work(**(values | changes))


def test_progress_says_only_what_can_be_known() -> None:
    """The pace is this run's; what is left is told after five seconds; a silence of 30 s is a stall."""
    early, late = tell_progress(work(), 14_000), tell_progress(work(heartbeat_ms=20_000, done=600), 20_000)
    silent = tell_progress(work(heartbeat_ms=20_000), 51_000)
    blind = tell_progress(work(total=None, heartbeat_ms=20_000), 20_000)

    assert (early.per_second_hundredths, early.remaining_s) == (5_000, None)
    assert (late.per_second_hundredths, late.remaining_s, late.words) == (
        5_000, 8, "Writing: 600 of 1,000. About 8 s left.")
    assert silent.stalled
    assert silent.remaining_s is None
    assert "nothing has been heard of it for 31 s" in silent.words
    assert (blind.remaining_s, blind.words) == (None, "Writing: 300.")
    assert not tell_progress(work(heartbeat_ms=20_000), 50_000).stalled
    assert [tell_seconds(s) for s in (0, 89, 90, 5_399, 7_500)] == ["0 s", "89 s", "2 min", "1 h 30 min", "2 h 5 min"]
