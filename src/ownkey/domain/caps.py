"""The exact cap: what a period is, when it pauses, what is refused and when alerts are due.

Pure functions on the row that the store holds locked; the store applies what they return.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ownkey.domain.money import ceil_div


class PauseReason(StrEnum):
    REACHED = "reached"
    NO_ROOM = "no_room"


PROJECT_AFTER_MS = 24 * 3_600_000
"""Less of a month says nothing about the rest of it."""


@dataclass(frozen=True, slots=True)
class Projection:
    """Where the month ends if the rest is like what was until now. `reaches_cap_at_ms` None: not within the month."""

    spend_nusd: int
    reaches_cap_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open interval of UTC milliseconds; `key` is "2026-11"."""

    key: str
    starts_at_ms: int
    ends_at_ms: int
    timezone: str


@dataclass(frozen=True, slots=True)
class PeriodRow:
    """The counters of one (workspace, period), in nano-USD. `cap_nusd` None: no cap."""

    id: int
    workspace_id: str
    period: Period
    cap_version: int
    cap_nusd: int | None
    threshold: int
    spent_nusd: int
    held_nusd: int
    leased_nusd: int
    overage_nusd: int
    paused: PauseReason | None

    @property
    def left_nusd(self) -> int | None:
        """What no call has spent or holds; None without a cap; never below 0."""
        if self.cap_nusd is None:
            return None
        return max(0, self.cap_nusd - self.spent_nusd - self.held_nusd - self.leased_nusd)


class CapAnswer(StrEnum):
    """What a refused hold means; `PAUSE_NOW` also turns the period to paused (no room)."""

    PAUSED = "paused"
    BUSY = "busy"
    TOO_LOW = "too_low"
    PAUSE_NOW = "pause_now"


def parse_timezone(name: str) -> ZoneInfo:
    """Raises ValueError with a sentence for anything that is no IANA zone."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name[:60]!r} is not an IANA time zone such as Europe/Berlin") from error


def _month_start(year: int, month: int, zone: ZoneInfo) -> datetime:
    return datetime(year, month, 1, tzinfo=zone).astimezone(UTC)


def _to_ms(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def plan_period(at_ms: int, timezone: str, previous: Period | None) -> Period:
    """The period that contains `at_ms`, contiguous with the previous one.

    A new zone counts from the next period, which starts where the previous one ends, whatever that zone's own
    month start would be. Months are found by calendar arithmetic in the zone, so DST and odd offsets are exact.
    """
    if previous is not None and at_ms < previous.ends_at_ms:
        return previous
    zone = parse_timezone(timezone)
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(zone)
    year, month = local.year, local.month
    starts = _to_ms(_month_start(year, month, zone))
    key = f"{year:04d}-{month:02d}"
    if previous is not None and key <= previous.key:
        # The new zone's calendar lags behind: the period that follows has the next month's key all the same.
        year, month = int(previous.key[:4]), int(previous.key[5:]) + 1
        if month == 13:
            year, month = year + 1, 1
        key = f"{year:04d}-{month:02d}"
        starts = previous.ends_at_ms
    if previous is not None and (starts < previous.ends_at_ms or _adjacent(previous.key, key)):
        starts = previous.ends_at_ms
    after = (year + 1, 1) if month == 12 else (year, month + 1)
    return Period(key, starts, _to_ms(_month_start(*after, zone)), timezone)


def _adjacent(earlier: str, later: str) -> bool:
    year, month = int(earlier[:4]), int(earlier[5:])
    return later == (f"{year + 1:04d}-01" if month == 12 else f"{year:04d}-{month + 1:02d}")


def is_reached(cap_nusd: int | None, spent_nusd: int) -> bool:
    """Settled spend is at or above the cap (a cap of 0 is always reached: no AI)."""
    return cap_nusd is not None and spent_nusd >= cap_nusd


def is_all_held(cap_nusd: int | None, spent_nusd: int, held_nusd: int) -> bool:
    """Whether calls in flight hold what is left under the cap, but for less than a hundredth of it: that is no pause,
    it ends with them."""
    return cap_nusd is not None and held_nusd > 0 and (cap_nusd - spent_nusd - held_nusd) * 100 < cap_nusd


def decide_refusal(row: PeriodRow, bound_nusd: int) -> CapAnswer:
    """Why the conditional update of a hold changed no row, from the row read in the same transaction."""
    return answer_refusal(row.cap_nusd, row.spent_nusd, row.held_nusd + row.leased_nusd, row.paused is not None,
                          bound_nusd)


def answer_refusal(
    cap_nusd: int | None, spent_nusd: int, in_flight_nusd: int, paused: bool, bound_nusd: int
) -> CapAnswer:
    """What it means that `bound_nusd` finds no room."""
    assert cap_nusd is not None or paused
    if paused or cap_nusd is None:
        return CapAnswer.PAUSED
    room = cap_nusd - spent_nusd
    if bound_nusd <= room:
        return CapAnswer.BUSY
    left = room - in_flight_nusd
    if in_flight_nusd > 0 or left * 100 >= cap_nusd:
        return CapAnswer.TOO_LOW
    return CapAnswer.PAUSE_NOW


def due_thresholds(row: PeriodRow) -> tuple[int, ...]:
    """The alerts that this row's figures call for, lowest first: the configured threshold, then 100."""
    if row.cap_nusd is None:
        return ()
    due = []
    if row.threshold < 100 and row.spent_nusd * 100 >= row.cap_nusd * row.threshold:
        due.append(row.threshold)
    if row.paused is not None:
        due.append(100)
    return tuple(due)


def project(period: Period, spent_nusd: int, cap_nusd: int | None, now_ms: int) -> Projection | None:
    """The month's spend at the pace so far; None in its first day. Says what to expect, and decides nothing."""
    elapsed_ms = min(now_ms, period.ends_at_ms) - period.starts_at_ms
    if elapsed_ms < PROJECT_AFTER_MS:
        return None
    whole_ms = period.ends_at_ms - period.starts_at_ms
    spend_nusd = ceil_div(spent_nusd * whole_ms, elapsed_ms)
    if cap_nusd is None or spent_nusd >= cap_nusd or spend_nusd < cap_nusd:
        return Projection(spend_nusd, None)
    return Projection(spend_nusd, period.starts_at_ms + ceil_div(cap_nusd * elapsed_ms, spent_nusd))
