"""What is learnt about a key decides its health, its incident and its next probe: one table, and its times."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.store.store_kit import NOV, credential

from ownkey.domain.health import (
    KEY_LIMIT,
    LONGEST_WAIT_MS,
    REPROBE_AUTH_MS,
    REPROBE_FUNDS_MS,
    Evidence,
    Judgement,
    Sign,
    is_confirmed,
    is_unhealthy,
    judge,
    limit_resets_at_ms,
)
from ownkey.domain.workspace import Credential, Health

HOUR = 3_600_000


def after(key: Credential, evidence: Evidence) -> Credential:
    found = judge(key, evidence)
    if found is None:
        return key
    return replace(
        key, health=found.health, health_signal=found.signal, health_at_ms=found.since_ms,
        next_probe_ms=found.next_probe_ms, probe_failures=found.probe_failures,
    )


def judged(key: Credential, sign: Sign, at_ms: int = NOV, **more: object) -> Judgement:
    found = judge(key, Evidence(sign, sign.value, at_ms, **more))  # type: ignore[arg-type]
    assert found is not None
    return found


OK = credential("ws", health=Health.OK)
UNKNOWN = credential("ws")
SUSPECT = after(OK, Evidence(Sign.REFUSED, "401", NOV))
REJECTED = after(SUSPECT, Evidence(Sign.REJECTED, "401", NOV + 1_000))
EMPTY = after(OK, Evidence(Sign.NO_FUNDS, "402", NOV, planned=OK))
LIMITED = after(OK, Evidence(Sign.NO_FUNDS, KEY_LIMIT, NOV, free=True))

STATES = {"ok": OK, "unknown": UNKNOWN, "suspect": SUSPECT, "rejected": REJECTED, "empty": EMPTY, "limited": LIMITED}

# state before, what was learnt → health after and what becomes of the incident; None: nothing changes
TABLE = {
    ("ok", Sign.ANSWERED): None,
    ("ok", Sign.ACCEPTED): None,
    ("ok", Sign.REFUSED): (Health.REJECTED, None),
    ("ok", Sign.REJECTED): (Health.REJECTED, "open"),
    ("ok", Sign.NO_FUNDS): (Health.NO_FUNDS, "open"),
    ("ok", Sign.UNCLEAR): None,
    ("unknown", Sign.ANSWERED): (Health.OK, "close"),
    ("unknown", Sign.ACCEPTED): (Health.OK, "close"),
    ("unknown", Sign.REFUSED): (Health.REJECTED, None),
    ("unknown", Sign.REJECTED): (Health.REJECTED, "open"),
    ("unknown", Sign.NO_FUNDS): (Health.NO_FUNDS, "open"),
    ("unknown", Sign.UNCLEAR): None,
    ("suspect", Sign.ANSWERED): (Health.OK, "close"),
    ("suspect", Sign.ACCEPTED): (Health.OK, "close"),
    ("suspect", Sign.REFUSED): None,
    ("suspect", Sign.REJECTED): (Health.REJECTED, "open"),
    ("suspect", Sign.NO_FUNDS): (Health.NO_FUNDS, "open"),
    ("suspect", Sign.UNCLEAR): (Health.REJECTED, None),
    ("rejected", Sign.ANSWERED): (Health.OK, "close"),
    ("rejected", Sign.ACCEPTED): (Health.OK, "close"),
    ("rejected", Sign.REFUSED): None,
    ("rejected", Sign.REJECTED): (Health.REJECTED, "open"),
    ("rejected", Sign.NO_FUNDS): (Health.NO_FUNDS, "open"),
    ("rejected", Sign.UNCLEAR): (Health.REJECTED, None),
    ("empty", Sign.ANSWERED): (Health.OK, "close"),
    ("empty", Sign.ACCEPTED): None,
    ("empty", Sign.REFUSED): None,
    ("empty", Sign.REJECTED): (Health.REJECTED, "open"),
    ("empty", Sign.NO_FUNDS): (Health.NO_FUNDS, "open"),
    ("empty", Sign.UNCLEAR): (Health.NO_FUNDS, None),
}


@pytest.mark.parametrize(("state", "sign"), TABLE, ids=lambda value: str(value))
def test_what_was_learnt_decides_health_and_incident(state: str, sign: Sign) -> None:
    """X6: a suspicion opens nothing, a fact opens, an answer closes; a free probe proves nothing about money."""
    found = judge(STATES[state], Evidence(sign, "signal", NOV + HOUR))

    assert (None if found is None else (found.health, found.incident)) == TABLE[state, sign]


def test_the_table_is_whole() -> None:
    """Every sign in every state that has rules of its own."""
    assert set(TABLE) == {(state, sign) for state in ("ok", "unknown", "suspect", "rejected", "empty") for sign in Sign}


@pytest.mark.parametrize(("sign", "first"), [(Sign.REJECTED, REPROBE_AUTH_MS), (Sign.NO_FUNDS, REPROBE_FUNDS_MS)])
def test_waits_double_up_to_six_hours(sign: Sign, first: int) -> None:
    """5 min, or 15 min for funds, doubling to 6 h, each up to a tenth longer; since when it is so does not move."""
    key, at, waits = OK, NOV, []
    for _ in range(12):
        key = after(key, Evidence(sign, "again", at, scheduled=True))
        waits.append(key.next_probe_ms - at)
        at = key.next_probe_ms

    wanted = [min(LONGEST_WAIT_MS, first << n) for n in range(12)]
    assert all(want <= wait <= want * 11 // 10 for want, wait in zip(wanted, waits, strict=True))
    assert key.health_at_ms == NOV


def test_a_suspicion_is_probed_soon_and_ever_less_often() -> None:
    """An outage during the confirmation: 5 s, then twice the time that has passed, never more than 5 min."""
    key, at, waits = SUSPECT, NOV + 1_000, []
    for _ in range(12):
        key = after(key, Evidence(Sign.UNCLEAR, "503", at))
        waits.append(key.next_probe_ms - at)
        at = key.next_probe_ms

    assert 5_000 <= waits[0] <= 5_500
    assert waits == sorted(waits)
    assert REPROBE_AUTH_MS <= waits[-1] <= REPROBE_AUTH_MS * 11 // 10
    assert not is_confirmed(key)
    assert key.health_signal == "401"


@pytest.mark.parametrize("state", ["suspect", "rejected", "empty"])
def test_a_stated_wait_is_a_floor(state: str) -> None:
    """Retry-After on a probe is obeyed, up to a day."""
    at = NOV + HOUR
    obeyed = judged(STATES[state], Sign.UNCLEAR, at, wait_ms=2 * HOUR)
    absurd = judged(STATES[state], Sign.UNCLEAR, at, wait_ms=1_000 * HOUR)

    assert 2 * HOUR <= obeyed.next_probe_ms - at <= 2 * HOUR * 11 // 10
    assert 24 * HOUR <= absurd.next_probe_ms - at <= 24 * HOUR * 11 // 10


def test_a_stated_reset_is_waited_for() -> None:
    """Gemini's day: no call before midnight; a limit that a free probe can see is looked at earlier too."""
    reset = NOV + 20 * HOUR
    told = judged(OK, Sign.NO_FUNDS, resets_at_ms=reset)
    free = judged(OK, Sign.NO_FUNDS, resets_at_ms=reset, free=True)
    soon = judged(OK, Sign.NO_FUNDS, resets_at_ms=NOV + 60_000, free=True)
    past = judged(OK, Sign.NO_FUNDS, resets_at_ms=NOV - 1)

    assert reset <= told.next_probe_ms <= reset + 60_000
    assert NOV + REPROBE_FUNDS_MS <= free.next_probe_ms <= NOV + REPROBE_FUNDS_MS * 11 // 10
    assert NOV + 60_000 <= soon.next_probe_ms <= NOV + 120_000
    assert NOV + REPROBE_FUNDS_MS <= past.next_probe_ms <= NOV + REPROBE_FUNDS_MS * 11 // 10


def test_of_many_calls_that_fail_only_the_due_one_counts() -> None:
    """A burst of 402s, and those who tried before its time, are one lack of funds."""
    due = EMPTY.next_probe_ms
    first = after(EMPTY, Evidence(Sign.NO_FUNDS, "402", due, planned=EMPTY))

    assert judge(EMPTY, Evidence(Sign.NO_FUNDS, "402", NOV + 1, planned=OK)) is None
    assert judge(EMPTY, Evidence(Sign.NO_FUNDS, "402", due - 1, planned=EMPTY)) is None
    assert first.probe_failures == 1
    assert judge(first, Evidence(Sign.NO_FUNDS, "402", due + 1, planned=EMPTY)) is None


@pytest.mark.parametrize(("key", "sign"), [(REJECTED, Sign.REJECTED), (LIMITED, Sign.NO_FUNDS)])
def test_who_tests_often_waits_no_longer(key: Credential, sign: Sign) -> None:
    """A Test that fails says nothing new: only the probe whose time had come doubles the wait."""
    tested = key
    for n in range(5):
        tested = after(tested, Evidence(sign, "test", NOV + n))

    assert tested.probe_failures == key.probe_failures
    assert tested.next_probe_ms <= key.next_probe_ms + 1_000


def test_an_answer_that_was_sent_before_the_failure_restores_nothing() -> None:
    """A long answer ends after the key was revoked: it speaks of the past. One sent on the failing key speaks of
    now."""
    assert judge(REJECTED, Evidence(Sign.ANSWERED, "answered", NOV + HOUR, planned=OK)) is None
    assert judge(EMPTY, Evidence(Sign.ANSWERED, "answered", NOV + HOUR, planned=UNKNOWN)) is None
    assert judged(EMPTY, Sign.ANSWERED, planned=EMPTY).health is Health.OK
    assert judged(UNKNOWN, Sign.ANSWERED, planned=UNKNOWN).health is Health.OK


def test_keys_that_failed_together_are_not_probed_together() -> None:
    """The jitter is each key's own."""
    moments = {judged(replace(OK, id=f"cred_{n}"), Sign.REJECTED).next_probe_ms for n in range(50)}

    assert len(moments) > 40


@pytest.mark.parametrize(("period", "reset"), [
    ("daily", "2026-11-18"), ("weekly", "2026-11-23"), ("monthly", "2026-12-01"), ("yearly", None), (None, None),
])
def test_a_keys_limit_starts_again_in_utc(period: str | None, reset: str | None) -> None:
    """OpenRouter's periods: UTC, weeks from Monday. 2026-11-17 is a Tuesday."""
    expected = None if reset is None else int(datetime.fromisoformat(reset).replace(tzinfo=UTC).timestamp()) * 1_000

    assert limit_resets_at_ms(period, NOV) == expected
    assert limit_resets_at_ms(period, NOV + 86_399_999) == expected


@given(st.lists(st.tuples(st.sampled_from(Sign), st.integers(1, 7 * 24 * HOUR), st.booleans()), max_size=30))
def test_whatever_is_learnt_the_rules_hold(story: list[tuple[Sign, int, bool]]) -> None:
    """An unhealthy key always has a next probe ahead and within a day; a healthy one has none; incidents are opened
    by facts only and never while the key is well."""
    key, at, is_open = UNKNOWN, NOV, False
    for sign, passed, by_call in story:
        at += passed
        by_call = by_call and sign in (Sign.ANSWERED, Sign.REFUSED, Sign.NO_FUNDS)
        found = judge(key, Evidence(sign, "s", at, planned=key if by_call else None))
        if found is not None:
            is_open = found.incident == "open" or (is_open and found.incident != "close")
            key = after(key, Evidence(sign, "s", at, planned=key if by_call else None))
            if is_unhealthy(key):
                assert at < key.next_probe_ms <= at + 24 * HOUR * 11 // 10
        if not is_unhealthy(key):
            assert (key.next_probe_ms, key.probe_failures, is_open) == (0, 0, False)
        elif is_confirmed(key):
            assert is_open
