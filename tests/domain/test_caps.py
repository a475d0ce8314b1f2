"""What a period is and when it pauses: exact on every zone, every month's edge and every clock."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownkey.domain.caps import (
    CapAnswer,
    PauseReason,
    Period,
    PeriodRow,
    Projection,
    decide_refusal,
    due_thresholds,
    is_all_held,
    is_reached,
    parse_timezone,
    plan_period,
    project,
)

HOUR = 3_600_000
DAY = 24 * HOUR


def ms(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def row(cap: int | None, spent: int = 0, held: int = 0, paused: PauseReason | None = None, threshold: int = 80):
    return PeriodRow(1, "ws", Period("2026-11", 0, 1, "UTC"), 1, cap, threshold, spent, held, 0, 0, paused)


def test_the_first_period_is_the_calendar_month_in_the_zone() -> None:
    period = plan_period(ms("2026-11-17T12:00:00+00:00"), "Europe/Berlin", None)

    assert (period.key, period.timezone) == ("2026-11", "Europe/Berlin")
    assert period.starts_at_ms == ms("2026-11-01T00:00:00+01:00")
    assert period.ends_at_ms == ms("2026-12-01T00:00:00+01:00")


def test_months_with_a_change_of_clocks_are_an_hour_longer_or_shorter() -> None:
    march = plan_period(ms("2026-03-10T00:00:00+00:00"), "Europe/Berlin", None)
    october = plan_period(ms("2026-10-10T00:00:00+00:00"), "Europe/Berlin", None)

    assert march.ends_at_ms - march.starts_at_ms == 31 * DAY - HOUR
    assert october.ends_at_ms - october.starts_at_ms == 31 * DAY + HOUR


def test_a_zone_that_changes_clocks_at_midnight_of_the_first_still_has_whole_months() -> None:
    """Paraguay has set its clocks on the first Sunday of a month, at midnight."""
    zone = "America/Asuncion"
    period = plan_period(ms("2023-10-15T00:00:00+00:00"), zone, None)
    following = plan_period(period.ends_at_ms, zone, period)

    assert (period.key, following.key) == ("2023-10", "2023-11")
    assert following.starts_at_ms == period.ends_at_ms


def test_the_edge_belongs_to_the_next_month() -> None:
    november = plan_period(ms("2026-11-30T23:59:59.999+00:00"), "UTC", None)
    december = plan_period(ms("2026-12-01T00:00:00+00:00"), "UTC", november)

    assert (november.key, december.key) == ("2026-11", "2026-12")
    assert december.starts_at_ms == november.ends_at_ms


def test_a_clock_that_went_back_stays_in_the_newest_period() -> None:
    december = plan_period(ms("2026-12-01T00:00:00+00:00"), "UTC", None)
    assert plan_period(ms("2026-11-30T23:00:00+00:00"), "UTC", december) is december


def test_a_new_zone_counts_from_the_next_period_which_begins_where_this_one_ends() -> None:
    november = plan_period(ms("2026-11-17T00:00:00+00:00"), "UTC", None)
    same = plan_period(ms("2026-11-18T00:00:00+00:00"), "Pacific/Kiritimati", november)
    after = plan_period(november.ends_at_ms, "Pacific/Kiritimati", november)

    assert same is november
    assert (after.key, after.starts_at_ms) == ("2026-12", november.ends_at_ms)
    assert after.ends_at_ms == ms("2027-01-01T00:00:00+14:00")


def test_a_new_zone_whose_calendar_lags_still_opens_the_next_month() -> None:
    december = plan_period(ms("2026-12-17T00:00:00+00:00"), "Pacific/Kiritimati", None)
    after = plan_period(december.ends_at_ms, "Pacific/Pago_Pago", december)  # there it is still December

    assert (after.key, after.starts_at_ms) == ("2027-01", december.ends_at_ms)
    assert after.ends_at_ms == ms("2027-02-01T00:00:00-11:00")


def test_months_without_a_call_have_no_period() -> None:
    august = plan_period(ms("2026-08-10T00:00:00+00:00"), "UTC", None)
    november = plan_period(ms("2026-11-10T00:00:00+00:00"), "UTC", august)

    assert (november.key, november.starts_at_ms) == ("2026-11", ms("2026-11-01T00:00:00+00:00"))


@pytest.mark.parametrize("name", ["", "Mars/Base", "../etc/passwd", "UTC\0", "x" * 300])
def test_what_is_no_zone_is_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(ValueError, match="is not an IANA time zone"):
        parse_timezone(name)


ZONES = sorted(z for z in available_timezones() if not z.startswith(("posix", "right", "Etc")) and z != "Factory")


@given(
    start=st.integers(ms("2024-01-01T00:00:00+00:00"), ms("2032-01-01T00:00:00+00:00")),
    steps=st.lists(st.tuples(st.integers(-2 * DAY, 45 * DAY), st.sampled_from(ZONES)), max_size=12),
    zone=st.sampled_from(ZONES),
)
def test_periods_never_overlap_and_always_contain_their_moment(
    start: int, steps: list[tuple[int, str]], zone: str
) -> None:
    """Whatever zones and pauses a workspace goes through: ascending keys, half-open intervals, no overlap."""
    now, period = start, plan_period(start, zone, None)
    seen = [period]
    for step, zone in steps:
        now = max(start, now + step)
        period = plan_period(now, zone, period)
        if period is not seen[-1]:
            assert period.starts_at_ms <= now < period.ends_at_ms
            seen.append(period)

    assert all(p.starts_at_ms < p.ends_at_ms for p in seen)
    assert all(a.ends_at_ms <= b.starts_at_ms and a.key < b.key for a, b in pairwise(seen))
    assert ZoneInfo(seen[0].timezone)


@given(at=st.integers(ms("2024-01-01T00:00:00+00:00"), ms("2032-01-01T00:00:00+00:00")), zone=st.sampled_from(ZONES))
def test_the_next_month_follows_without_a_gap(at: int, zone: str) -> None:
    period = plan_period(at, zone, None)
    assert plan_period(period.ends_at_ms, zone, period).starts_at_ms == period.ends_at_ms


@pytest.mark.parametrize(("state", "bound", "answer"), [
    (row(100, 100, paused=PauseReason.REACHED), 1, CapAnswer.PAUSED),
    (row(100, 50, held=50), 50, CapAnswer.BUSY),
    (row(100, 50, held=1), 51, CapAnswer.TOO_LOW),
    (row(100, 98), 3, CapAnswer.TOO_LOW),
    (row(1_000, 991), 10, CapAnswer.PAUSE_NOW),
    (row(1_000, 990), 11, CapAnswer.TOO_LOW),
    (row(1_000, 995, held=1), 6, CapAnswer.TOO_LOW),
])
def test_a_refusal_says_what_stands_in_the_way(state: PeriodRow, bound: int, answer: CapAnswer) -> None:
    assert decide_refusal(state, bound) is answer


def test_a_cap_of_zero_is_always_reached_and_no_cap_never() -> None:
    assert is_reached(0, 0)
    assert not is_reached(None, 10**18)
    assert not is_reached(100, 99)


@pytest.mark.parametrize(("state", "due"), [
    (row(None, 10**9), ()),
    (row(100, 79), ()),
    (row(100, 80), (80,)),
    (row(100, 100, paused=PauseReason.REACHED), (80, 100)),
    (row(100, 100, paused=PauseReason.REACHED, threshold=100), (100,)),
    (row(100, 40, paused=PauseReason.NO_ROOM), (100,)),
    (row(3, 2, threshold=67), ()),
    (row(3, 2, threshold=66), (66,)),
])
def test_alerts_are_due_exactly_at_their_thresholds(state: PeriodRow, due: tuple[int, ...]) -> None:
    assert due_thresholds(state) == due


DAY = 24 * 3_600_000
JUNE = Period("2026-06", 0, 30 * DAY, "UTC")


@pytest.mark.parametrize(
    ("day", "spent", "cap", "expected"),
    [
        (0, 0, 100, None), (0.99, 50, 100, None),
        (15, 50, None, Projection(100, None)), (15, 49, 100, Projection(98, None)),
        (15, 50, 100, Projection(100, 30 * DAY)), (10, 50, 100, Projection(150, 20 * DAY)),
        (10, 100, 100, Projection(300, None)), (10, 0, 100, Projection(0, None)), (10, 7, 0, Projection(21, None)),
        (45, 50, 100, Projection(50, None)), (9, 1, 3, Projection(4, 27 * DAY)),
    ],
)
def test_a_month_is_projected_from_its_pace(
    day: float, spent: int, cap: int | None, expected: Projection | None
) -> None:
    """T21, T25: the rest of the month like what was until now, rounded up; nothing is said in the first day."""
    assert project(JUNE, spent, cap, int(day * DAY)) == expected


@pytest.mark.parametrize(("cap", "spent", "held", "answer"), [
    (1_000, 0, 1_000, True), (1_000, 0, 991, True), (1_000, 0, 990, False), (1_000, 400, 600, True),
    (1_000, 1_000, 0, False), (None, 0, 1_000, False), (0, 0, 0, False), (1_000, 700, 500, True),
])  # fmt: skip
def test_all_is_held_where_less_than_a_hundredth_is_left(cap: int | None, spent: int, held: int, answer: bool) -> None:
    """Held by calls in flight, not spent: what is spent is no reason to wait."""
    assert is_all_held(cap, spent, held) is answer
