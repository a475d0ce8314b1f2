"""What two readings of a key prove: drift where something is missing, use elsewhere where more came, else agreement."""

import itertools
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownkey.domain.key_readings import (
    SETTLE_MS,
    KeyUsage,
    Origin,
    Reading,
    Sent,
    Start,
    Tally,
    Verdict,
    begin,
    compare,
    longest_call_ms,
    look_back_ms,
    read_sentence,
    tally,
    why_new_series,
)
from ownkey.domain.product import RoutingLimits
from ownkey.domain.receipts import Basis

MINUTE, HOUR = 60_000, 3_600_000
LAST = 1_000_000
T0 = 1_795_000_000_000


def usage(at_ms: int, total_nusd: int, byok_nusd: int = 0, took_ms: int = 200) -> KeyUsage:
    return KeyUsage(at_ms, at_ms + took_ms, total_nusd, byok_nusd)


def first(total_nusd: int = 1_000) -> Reading:
    return begin("ws_1", "cred_1", 1, Origin.DAILY, usage(T0, total_nusd), Start.FIRST)


def sent(start_ms: int, cost_nusd: int | None, *, took_ms: int = 1_000, basis: Basis = Basis.ACTUAL,
         version: int = 1, seq: int = 1, steady: bool = True) -> Sent:
    return Sent(start_ms, start_ms + took_ms, basis, cost_nusd, version, seq, steady)


def judge(last: Reading, now: KeyUsage, *calls: Sent) -> Reading:
    return compare(last, Origin.ASKED, now, tally(last, now, LAST, calls, Tally()), 0)


INSIDE = T0 + 10 * MINUTE
LATER = T0 + 60 * MINUTE


def test_growth_that_fits_the_books_agrees() -> None:
    """O5, X9: what OpenRouter reported for our calls is what its own total grew by."""
    found = judge(first(), usage(LATER, 1_700), sent(INSIDE, 300), sent(INSIDE + 5, 400))

    assert (found.verdict, found.grown_nusd, found.ours_nusd, found.unsure_nusd) == (Verdict.AGREES, 700, 700, 0)
    assert "They agree." in read_sentence(found)


def test_a_cost_that_the_total_lacks_is_drift() -> None:
    """X9: we booked more than OpenRouter's figure holds; nothing else can hide it here."""
    found = judge(first(), usage(LATER, 1_400), sent(INSIDE, 300), sent(INSIDE + 5, 400))

    assert (found.verdict, found.off_nusd) == (Verdict.DRIFT, 300 - 4)
    assert "Nothing was changed." in read_sentence(found)


def test_growth_beyond_the_books_is_use_elsewhere() -> None:
    """Somebody used the key without Ownkey: no cap here counts that, and it is no drift."""
    found = judge(first(), usage(LATER, 5_000), sent(INSIDE, 300))

    assert (found.verdict, found.off_nusd) == (Verdict.ELSEWHERE, 3_700 - 2)
    assert "outside Ownkey" in read_sentence(found)


def test_both_totals_of_the_key_count() -> None:
    """A provider key inside OpenRouter: the fee grows one total, the provider's bill the other."""
    before = first()
    now = KeyUsage(LATER, LATER + 10, 1_050, 950)

    assert judge(before, now, sent(INSIDE, 1_000)).verdict is Verdict.AGREES


def test_rounding_is_no_drift() -> None:
    """Every cost and every total is rounded up once: a nano-dollar a call is allowed for, and no more."""
    calls = [sent(INSIDE + n, 10) for n in range(20)]

    assert judge(first(), usage(LATER, 1_000 + 200 - 22), *calls).verdict is Verdict.AGREES
    assert judge(first(), usage(LATER, 1_000 + 200 - 23), *calls).verdict is Verdict.DRIFT


@pytest.mark.parametrize("call", [
    sent(T0 - 500, 400),  # in flight when the first reading was asked
    sent(T0 + 100, 400),  # began while OpenRouter answered it
    sent(T0 - 30_000, 400, took_ms=1_000),  # ended so shortly before it that the total may lack it
    sent(LATER - 500, 400, took_ms=900),  # in flight at the second reading
    sent(LATER - 30_000, 400, took_ms=1_000),  # ended shortly before the second
], ids=["around the first", "during the first", "just before the first", "around the second", "just before the second"])
def test_a_call_around_a_reading_belongs_to_either_side(call: Sent) -> None:
    """The tolerance is computed from the times of calls and readings: neither drift nor use elsewhere follows."""
    without, with_it = judge(first(), usage(LATER, 1_000), call), judge(first(), usage(LATER, 1_400), call)

    assert (without.verdict, with_it.verdict) == (Verdict.AGREES, Verdict.AGREES)
    assert (without.ours_nusd, without.unsure_nusd) == (0, 400)
    assert "calls around the readings" in read_sentence(with_it)


def test_what_was_over_before_and_what_began_after_does_not_count() -> None:
    """Neither end of the interval sees them."""
    calls = (sent(T0 - 5 * MINUTE, 900, seq=0), sent(LATER + 300, 900, seq=LAST + 1))
    found = judge(first(), usage(LATER, 1_000), *calls)

    assert (found.verdict, found.ours_nusd, found.unsure_nusd) == (Verdict.AGREES, 0, 0)


@pytest.mark.parametrize("basis", [Basis.ESTIMATED, Basis.COMPUTED])
def test_a_cost_that_openrouter_did_not_report_proves_nothing(basis: Basis) -> None:
    """An estimate may be too high, and it may be what was billed: it allows growth and demands none."""
    for total in (1_000, 1_400):
        assert judge(first(), usage(LATER, total), sent(INSIDE, 400, basis=basis)).verdict is Verdict.AGREES
    assert judge(first(), usage(LATER, 1_500), sent(INSIDE, 400, basis=basis)).verdict is Verdict.ELSEWHERE


def test_an_unknown_cost_forbids_to_speak_of_use_elsewhere() -> None:
    """Nobody knows what the call cost, so nobody knows what is left for others; drift is seen all the same."""
    unknown = sent(INSIDE, None, basis=Basis.UNKNOWN)

    assert judge(first(), usage(LATER, 90_000), unknown).verdict is Verdict.AGREES
    assert judge(first(), usage(LATER, 1_000), unknown, sent(INSIDE, 500)).verdict is Verdict.DRIFT


def test_calls_of_a_replaced_key_are_another_keys() -> None:
    """A running call keeps the old key: its cost must not be looked for on the new one."""
    found = judge(first(), usage(LATER, 1_000), sent(INSIDE, 400, version=2))

    assert (found.verdict, found.ours_nusd, found.unsure_nusd) == (Verdict.AGREES, 0, 0)


def test_a_gap_that_hides_around_every_reading_is_found_over_the_series() -> None:
    """Each reading comes just after a call, so no interval alone is sure of it; the series is."""
    last, total = first(), 1_000
    calls: list[Sent] = []
    verdicts = []
    for n in range(1, 4):
        at = T0 + n * 10 * MINUTE
        calls.append(sent(at - 20_000, 1_000))
        last = judge(last, usage(at, total), *calls)
        verdicts.append((last.verdict, last.ours_nusd))

    assert verdicts == [(Verdict.AGREES, 0), (Verdict.DRIFT, 0), (Verdict.DRIFT, 0)]
    assert last.missing_nusd == 2_000 - 4
    still = judge(last, usage(T0 + 31 * MINUTE, total), *calls)
    assert (still.verdict, still.off_nusd) == (Verdict.DRIFT, 1_000 - 1)
    silent = judge(still, usage(T0 + 50 * MINUTE, total), *calls)
    assert silent.verdict is Verdict.AGREES, "the same gap alarms once"


def test_a_total_that_catches_up_is_no_use_elsewhere() -> None:
    """OpenRouter was late by more than the minute allowed: what it adds afterwards is ours."""
    late = judge(first(), usage(LATER, 1_000), sent(INSIDE, 500))
    caught = judge(late, usage(LATER + 30 * MINUTE, 1_500), sent(INSIDE, 500))

    assert (late.verdict, late.missing_nusd) == (Verdict.DRIFT, 497)
    assert (caught.verdict, caught.missing_nusd) == (Verdict.AGREES, 0)


def test_a_total_that_goes_back_is_another_total() -> None:
    """A reset, in either of the two: a new series begins and says so. So do another key and a clock that was set."""
    before = begin("ws_1", "cred_1", 1, Origin.DAILY, usage(T0, 1_000, 50), Start.FIRST)

    assert why_new_series(None, 1, usage(LATER, 1)) is Start.FIRST
    assert why_new_series(before, 1, usage(LATER, 1_000, 50)) is None
    assert why_new_series(before, 1, usage(LATER, 999, 80)) is Start.SHRANK
    assert why_new_series(before, 1, usage(LATER, 1_200, 49)) is Start.SHRANK
    assert why_new_series(before, 2, usage(LATER, 1_000, 50)) is Start.REPLACED
    assert why_new_series(before, 1, usage(T0 - HOUR, 1_000, 50)) is Start.CLOCK
    assert "new series" in read_sentence(begin("ws_1", "cred_1", 1, Origin.DAILY, usage(LATER, 9), Start.SHRANK))


def test_a_clock_that_was_ahead_makes_no_drift() -> None:
    """A call ran while the clock was an hour ahead, then the clock was set right and the key was read: by its times the
    call came after the reading, by the order of receipts before it."""
    last = replace(first(), upto=7, series_upto=7)
    ahead = sent(T0 + 30 * MINUTE, 900, seq=7)

    found = judge(last, usage(LATER, 1_000), ahead)

    assert (found.verdict, found.ours_nusd, found.unsure_nusd) == (Verdict.AGREES, 0, 900)
    assert found.missing_nusd == 0


def test_a_call_during_which_a_clock_was_set_proves_nothing() -> None:
    """It may have begun before the reading whatever its start says."""
    found = judge(first(), usage(LATER, 1_000), sent(INSIDE, 900, steady=False))

    assert (found.verdict, found.ours_nusd, found.unsure_nusd) == (Verdict.AGREES, 0, 900)


def test_a_call_that_seems_older_than_it_is_explains_growth() -> None:
    """The clock was set back after the reading: the call is new by the order of receipts."""
    late = sent(T0 - 30 * MINUTE, 900, seq=8)

    assert judge(replace(first(), upto=7), usage(LATER, 1_900), late).verdict is Verdict.AGREES


def test_calls_are_looked_for_as_far_back_as_one_can_last() -> None:
    """The configured deadline and drain, not a guess."""
    reach = longest_call_ms(RoutingLimits())

    assert reach == (120 + 30 + 60) * 1_000
    assert look_back_ms(first(), reach) == T0 - SETTLE_MS - reach


@dataclass(frozen=True)
class Truth:
    """One call as it really was: when the provider billed it, and whether it did."""

    sent: Sent
    billed_ms: int


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Truth], list[tuple[int, int]], list[int]]:
    """Calls, use elsewhere as (time, cost), and the times of readings, within two hours."""
    span = 120 * MINUTE
    calls = []
    for _ in range(draw(st.integers(0, 12))):
        start = T0 + draw(st.integers(-5 * MINUTE, span))
        took = draw(st.integers(10, 3 * MINUTE))
        billed = start + draw(st.integers(0, took + SETTLE_MS - 1))
        calls.append(Truth(Sent(start, start + took, Basis.ACTUAL, draw(st.integers(1, 5_000)), 1), billed))
    others = [(T0 + draw(st.integers(1, span)), draw(st.integers(1, 5_000))) for _ in range(draw(st.integers(0, 4)))]
    times = sorted(draw(st.lists(st.integers(MINUTE, span), min_size=1, max_size=6, unique=True)))
    return calls, others, [T0, *(T0 + t for t in times)]


def play(
    calls: list[Truth], others: list[tuple[int, int]], times: list[int], lost: frozenset[int] = frozenset()
) -> list[Reading]:
    """Readings as OpenRouter would answer them: its total is what it has billed by the middle of the request."""
    by_end = sorted(range(len(calls)), key=lambda n: calls[n].sent.ended_ms)
    order = {n: seq for seq, n in enumerate(by_end, 1)}
    calls = [replace(c, sent=replace(c.sent, seq=order[n])) for n, c in enumerate(calls)]

    def written(at_ms: int) -> int:
        return sum(c.sent.ended_ms <= at_ms + 200 for c in calls)

    def told(at_ms: int) -> KeyUsage:
        seen = at_ms + 100
        total = sum(c.sent.cost_nusd or 0 for n, c in enumerate(calls) if c.billed_ms <= seen and n not in lost)
        return usage(at_ms, 10_000 + total + sum(cost for at, cost in others if at <= seen))

    found = [begin("ws_1", "cred_1", 1, Origin.DAILY, told(times[0]), Start.FIRST, written(times[0]))]
    for at_ms in times[1:]:
        booked = [c.sent for c in calls if c.sent.ended_ms <= at_ms + 200]
        now = told(at_ms)
        ours = tally(found[-1], now, written(at_ms), booked, Tally())
        flying = sum(c.sent.cost_nusd or 0 for c in calls if c.sent.started_ms < at_ms + 200 < c.sent.ended_ms)
        ours = Tally(**{**{f: getattr(ours, f) for f in Tally.__dataclass_fields__},
                        "unsure_nusd": ours.unsure_nusd + flying})
        found.append(compare(found[-1], Origin.DAILY, now, ours, written(at_ms)))
    return found


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_honest_books_never_alarm_and_never_blame(world: tuple[list[Truth], list[tuple[int, int]], list[int]]) -> None:
    """Whenever OpenRouter bills within a call and its minute: no drift, and never more use elsewhere than there was."""
    calls, others, times = world
    readings = play(calls, others, times)

    assert {r.verdict for r in readings} <= {Verdict.STARTED, Verdict.AGREES, Verdict.ELSEWHERE}
    for before, after in itertools.pairwise(readings):
        real = sum(cost for at, cost in others if before.usage.asked_ms < at <= after.usage.answered_ms)
        assert after.off_nusd <= real
        assert after.missing_nusd == 0


@settings(max_examples=200, deadline=None)
@given(worlds(), st.data())
def test_a_lost_bill_is_found_where_nobody_else_used_the_key(
    world: tuple[list[Truth], list[tuple[int, int]], list[int]], data: st.DataObject
) -> None:
    """X9: plant one missing bill among the calls that lie wholly inside the series: the series' sum tells it."""
    calls, _, times = world
    inside = [
        n for n, c in enumerate(calls)
        if c.sent.started_ms >= times[0] + 200 and c.sent.ended_ms + SETTLE_MS <= times[-1]
    ]
    if not inside:
        return
    lost = data.draw(st.sampled_from(inside))
    readings = play(calls, [], times, frozenset({lost}))
    certain = [n for n, c in enumerate(calls) if c.sent.ended_ms + SETTLE_MS <= times[-1]]
    fuzzy = sum(calls[n].sent.cost_nusd or 0 for n in range(len(calls)) if n not in inside)
    if (calls[lost].sent.cost_nusd or 0) > fuzzy + len(certain) + 2:
        assert Verdict.DRIFT in {r.verdict for r in readings}
