"""Our books beside OpenRouter's: what a key's own figure grew by between two readings, and what we booked on it.

OpenRouter tells a running total for each key (`GET /key`; OpenRouter docs, "Get current API key"). Between two
readings it must have grown by at least the costs that OpenRouter itself reported for our calls in that time. More is
use elsewhere; less is drift. A call around a reading may stand on either side of it, so it counts for neither.
Machines' clocks are set and differ: what was written before a reading is told by the order of receipts, and a call
whose own times disagree proves nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ownkey.domain.money import format_usd
from ownkey.domain.phrases import Phrase
from ownkey.domain.product import RoutingLimits
from ownkey.domain.receipts import Basis

SETTLE_MS = 60_000
"""How long after its end a call may still be missing from the key's figure. OpenRouter names no time: a minute is
assumed, and a call that ended less than a minute before a reading counts as one around it."""

READ_EVERY_MS = 24 * 3_600_000
"""How old the last reading of an enabled key may be before the job takes another."""

HOLD_GRACE_MS = 60_000


@dataclass(frozen=True, slots=True)
class KeyUsage:
    """What `GET /key` told, in nano-USD, rounded up once each; the request ran from `asked_ms` to `answered_ms`.

    `usage_nusd` was paid with OpenRouter's credits, `byok_nusd` by provider keys that are kept inside OpenRouter; the
    others are their parts of the current UTC day, week and month. `limit_*` are None where the key has no limit.
    """

    asked_ms: int
    answered_ms: int
    usage_nusd: int
    byok_nusd: int
    usage_daily_nusd: int | None = None
    usage_weekly_nusd: int | None = None
    usage_monthly_nusd: int | None = None
    byok_daily_nusd: int | None = None
    byok_weekly_nusd: int | None = None
    byok_monthly_nusd: int | None = None
    limit_nusd: int | None = None
    limit_left_nusd: int | None = None
    limit_reset: str | None = None

    @property
    def total_nusd(self) -> int:
        return self.usage_nusd + self.byok_nusd


class Origin(StrEnum):
    """Why a reading was taken."""

    DAILY = "daily"
    TEST = "test"
    SAVE = "save"
    ASKED = "asked"


class Start(StrEnum):
    """Why a reading has none before it to be compared with."""

    FIRST = "first"
    REPLACED = "replaced"
    SHRANK = "shrank"
    CLOCK = "clock"


class Verdict(StrEnum):
    """`STARTED`: nothing to compare with yet. `AGREES`: growth and books fit. `ELSEWHERE`: the key was used outside
    Ownkey too. `DRIFT`: the books hold costs that the key's figure does not."""

    STARTED = "started"
    AGREES = "agrees"
    ELSEWHERE = "elsewhere"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class Sent:
    """One attempt as booked. `ended_ms` is when its cost was known to be billed; `cost_nusd` None: nobody knows it;
    `version` is that of the key that paid, 0 where the receipt does not tell (its process died, or an older one).
    `seq` numbers receipts in the order in which they were written; `steady`: no clock was set while it ran."""

    started_ms: int
    ended_ms: int
    basis: Basis
    cost_nusd: int | None
    version: int
    seq: int = 1
    steady: bool = True


@dataclass(frozen=True, slots=True)
class SentPage:
    """Some attempts, and the receipt (time, id) after which the next page begins; None: that was the last."""

    sent: Sequence[Sent]
    next_after: tuple[int, str] | None


@dataclass(frozen=True, slots=True)
class Tally:
    """Our side of one interval. `sure_nusd` are costs that OpenRouter reported for calls that lie wholly inside;
    `unsure_nusd` is the most that calls around its ends, and calls without a reported cost, may have added. `blind`
    calls have no cost at all. `since_start_nusd` is what became sure in this interval of all calls since the series
    began, each counted in one interval only."""

    sure_nusd: int = 0
    sure_calls: int = 0
    unsure_nusd: int = 0
    blind: int = 0
    since_start_nusd: int = 0
    since_start_calls: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading as kept, and what came of it. `upto` is the last receipt that was written before it. `series_*` look
    back to the first reading of its series: when that was answered, its own `upto`, the total then, and what was sure
    to be ours since. `missing_nusd` is how much of that the key's figure
    lacks. `off_nusd` is what the verdict speaks of: the use elsewhere, or the drift."""

    id: int
    workspace_id: str
    credential_id: str
    version: int
    origin: Origin
    usage: KeyUsage
    upto: int
    start: Start | None
    series_start_ms: int
    series_upto: int
    series_total_nusd: int
    series_ours_nusd: int = 0
    series_calls: int = 0
    missing_nusd: int = 0
    since_ms: int | None = None
    grown_nusd: int = 0
    ours_nusd: int = 0
    unsure_nusd: int = 0
    verdict: Verdict = Verdict.STARTED
    off_nusd: int = 0
    accepted_at_ms: int | None = None
    accepted_by: str = ""
    accepted_reason: str = ""


def longest_call_ms(limits: RoutingLimits) -> int:
    """From a call's admission to its last attempt's end, at the most."""
    return int((limits.deadline_s + limits.drain_s) * 1_000) + HOLD_GRACE_MS


def look_back_ms(last: Reading, longest_ms: int) -> int:
    """Calls that were admitted before this cannot touch the interval that begins with `last`."""
    return last.usage.asked_ms - SETTLE_MS - longest_ms


def tally(last: Reading, usage: KeyUsage, upto: int, sent: Iterable[Sent], before: Tally) -> Tally:
    """Add attempts to our side of the interval from `last` to `usage`, before which receipt `upto` was written."""
    sure, sure_calls, unsure, blind = before.sure_nusd, before.sure_calls, before.unsure_nusd, before.blind
    started, started_calls = before.since_start_nusd, before.since_start_calls
    for one in sent:
        settled_ms, is_new = one.ended_ms + SETTLE_MS, one.seq > last.upto
        over = not is_new and settled_ms <= last.usage.asked_ms
        if over or one.seq > upto or one.version not in (0, last.version):
            continue
        reported = one.version == last.version and one.basis is Basis.ACTUAL and one.steady
        ours = reported and settled_ms <= usage.asked_ms
        cost_nusd = one.cost_nusd
        if cost_nusd is None:
            blind += 1
            continue
        if ours and settled_ms > last.usage.asked_ms and one.seq > last.series_upto \
                and one.started_ms >= last.series_start_ms:
            started += cost_nusd
            started_calls += 1
        if ours and is_new and one.started_ms >= last.usage.answered_ms:
            sure += cost_nusd
            sure_calls += 1
        else:
            unsure += cost_nusd
    return Tally(sure, sure_calls, unsure, blind, started, started_calls)


def begin(
    workspace_id: str, credential_id: str, version: int, origin: Origin, usage: KeyUsage, why: Start, upto: int = 0
) -> Reading:
    """The first reading of a series."""
    return Reading(
        0, workspace_id, credential_id, version, origin, usage, upto, why, usage.answered_ms, upto, usage.total_nusd
    )


def overlaps(last: Reading, version: int, usage: KeyUsage) -> bool:
    """Whether a reading was asked for while the last one was on its way: which came first nobody knows."""
    at_once = usage.asked_ms < last.usage.answered_ms and usage.answered_ms >= last.usage.asked_ms
    return at_once and last.version == version


def why_new_series(last: Reading | None, version: int, usage: KeyUsage) -> Start | None:
    """Why a reading cannot be compared with the one before it; None: it can."""
    if last is None:
        return Start.FIRST
    if last.version != version:
        return Start.REPLACED
    if usage.answered_ms < last.usage.asked_ms:
        return Start.CLOCK
    shrank = usage.usage_nusd < last.usage.usage_nusd or usage.byok_nusd < last.usage.byok_nusd
    return Start.SHRANK if shrank else None


def compare(last: Reading, origin: Origin, usage: KeyUsage, ours: Tally, upto: int = 0) -> Reading:
    """The reading that follows `last` in its series, judged.

    Every cost and every figure was rounded up once, so that sums may differ by a nano-dollar each: that much is no
    drift. What is missing since the series began is drift when it grows, so that the same gap alarms once; where it
    shrinks, OpenRouter's figure has caught up, which is no use elsewhere.
    """
    grown = usage.total_nusd - last.usage.total_nusd
    series_ours = last.series_ours_nusd + ours.since_start_nusd
    series_calls = last.series_calls + ours.since_start_calls
    missing = max(0, series_ours - (usage.total_nusd - last.series_total_nusd) - _rounding(series_calls))
    gap = max(ours.sure_nusd - grown - _rounding(ours.sure_calls), missing - last.missing_nusd)
    caught_up = last.missing_nusd - missing + _rounding(series_calls) if missing < last.missing_nusd else 0
    elsewhere = grown - ours.sure_nusd - ours.unsure_nusd - caught_up - _rounding(0)
    verdict, off = Verdict.AGREES, 0
    if gap > 0:
        verdict, off = Verdict.DRIFT, gap
    elif elsewhere > 0 and not ours.blind:
        verdict, off = Verdict.ELSEWHERE, elsewhere
    return replace(
        last, id=0, origin=origin, usage=usage, upto=upto, start=None, series_ours_nusd=series_ours,
        series_calls=series_calls, missing_nusd=missing, since_ms=last.usage.asked_ms, grown_nusd=grown,
        ours_nusd=ours.sure_nusd, unsure_nusd=ours.unsure_nusd, verdict=verdict, off_nusd=off, accepted_at_ms=None,
        accepted_by="", accepted_reason="",
    )


def _rounding(calls: int) -> int:
    """Nano-dollars that rounding up may have added: one for each cost, one for each of the two totals of a reading."""
    return calls + 2


def read_sentence(reading: Reading) -> str:
    """What the comparison found, in one or two sentences."""
    grew = Phrase("OpenRouter's figure for this key grew by US${amount}", amount=format_usd(reading.grown_nusd))
    booked = f"US${format_usd(reading.ours_nusd)}"
    around = (
        Phrase(
            ", and up to US${amount} for calls around the readings or without a reported cost",
            amount=format_usd(reading.unsure_nusd),
        )
        if reading.unsure_nusd else ""
    )
    match reading.verdict:
        case Verdict.STARTED:
            return _STARTED[reading.start or Start.FIRST]
        case Verdict.AGREES:
            return Phrase(
                "{grew}; Ownkey booked {booked}{around}. They agree.", grew=grew, booked=booked, around=around,
            )
        case Verdict.ELSEWHERE:
            return Phrase(
                "{grew}; Ownkey booked {booked}{around}. At least US${amount} was used outside Ownkey, which no "
                "cap here counts.", grew=grew, booked=booked, around=around, amount=format_usd(reading.off_nusd),
            )
        case Verdict.DRIFT:
            return Phrase(
                "{grew}; Ownkey booked {booked} of costs that OpenRouter reported. US${amount} of what is booked "
                "are not in OpenRouter's figure. Nothing was changed.", grew=grew, booked=booked,
                amount=format_usd(reading.off_nusd),
            )


_STARTED = {
    Start.FIRST: Phrase("The first reading of this key: the next one is compared with it."),
    Start.REPLACED: Phrase("The first reading since the key was replaced: the next one is compared with it."),
    Start.SHRANK: (
        Phrase(
            "OpenRouter's figure for this key went back, so a new series begins: the next reading is compared with "
            "this one."
        )
    ),
    Start.CLOCK: (
        Phrase(
            "The machine's clock was set back, so a new series begins: the next reading is compared with this one."
        )
    ),
}
