"""How receipts are found and summed: each call has one shape, and its cost falls into shares, one a kind of attempt.

A shape is everything that people filter calls by. There are few of them beside the calls, so that any combination of
filters is a handful of shapes, and a page or a sum never has to look at calls that it does not show.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from ownkey.domain.caps import Period, parse_timezone
from ownkey.domain.models import normalize_requested
from ownkey.domain.product import DIRECT_PROVIDERS
from ownkey.domain.receipts import AttemptRecord, Receipt
from ownkey.domain.refusals import Code
from ownkey.domain.usage import Usage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEAST_MS = timedelta(milliseconds=1)


class Outcome(StrEnum):
    """`OK`: answered. `REFUSED`: Ownkey said no. `FAILED`: a provider was asked and nobody answered whole.
    `CANCELLED`: the caller hung up."""

    OK = "ok"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"


_OURS = frozenset({
    Code.INVALID_TOKEN, Code.FORBIDDEN, Code.FEATURE_DISABLED, Code.OPENROUTER_KEY_REQUIRED,
    Code.ALWAYS_USE_KEY_UNAVAILABLE, Code.ADDON_REQUIRED, Code.ADDON_INACTIVE, Code.MINIMUM_BALANCE_REQUIRED,
    Code.INSUFFICIENT_CREDITS, Code.AI_PAUSED, Code.SPEND_CAP_TOO_LOW, Code.SPEND_CAP_BUSY, Code.UNPRICED_MODEL,
})


def outcome_of(receipt: Receipt) -> Outcome:
    """One of four for every receipt; an interrupted call has failed."""
    if receipt.hung_up:
        return Outcome.CANCELLED
    if receipt.code is None:
        return Outcome.OK
    return Outcome.REFUSED if receipt.code in _OURS or not receipt.attempts else Outcome.FAILED


class Shape(NamedTuple):
    """What people filter a call by. "" is none. `models` and `credentials` are marked lists (`mark_all`): every name of
    a model that was asked for, called or served, and every credential that was used."""

    task: str
    project: str
    provider: str
    funding: str
    outcome: str
    code: str
    models: str
    credentials: str
    traced: int


class Where(NamedTuple):
    """The attempts of a call that count as one: whose model, with which credential, how their cost is known."""

    route: str
    provider: str
    model: str
    credential: str
    basis: str


class Amounts(NamedTuple):
    """What is counted; everything adds up. Amounts are nano-USD or whole credits.

    `calls` counts a call once, where its last attempt went; `touched_…` wherever it had an attempt, once a provider,
    model or basis. `unknown_attempts` have no known cost, `unknown_calls` lack a part of theirs. `answered_nusd` is the
    cost of attempts that answered.
    """

    calls: int = 0
    attempts: int = 0
    touched_provider: int = 0
    touched_model: int = 0
    touched_basis: int = 0
    cost_nusd: int = 0
    unknown_attempts: int = 0
    unknown_calls: int = 0
    answered_nusd: int = 0
    charge_nusd: int = 0
    charge_credits: int = 0
    absorbed_nusd: int = 0
    tokens_input: int = 0
    tokens_cache_read: int = 0
    tokens_cache_write: int = 0
    tokens_output: int = 0
    tokens_reasoning: int = 0


@dataclass(frozen=True, slots=True)
class TotalRow:
    """One group of a sum. `keys` are the values that were grouped by, None for none ("day": 2026-11-22, "month":
    2026-11). `own_nusd` is what own keys paid: the part of `cost_nusd` that no credits stood for."""

    keys: Mapping[str, str | None]
    amounts: Amounts
    own_nusd: int


@dataclass(frozen=True, slots=True)
class TraceLine:
    """The calls of one conversation that match a filter. `cost_nusd` counts known costs; `unknown_calls` lack a part of
    theirs. `cursor` pages on from here."""

    conversation: str
    calls: int
    cost_nusd: int
    unknown_calls: int
    charge_credits: int
    first_at_ms: int
    last_at_ms: int
    cursor: str


@dataclass(frozen=True, slots=True)
class CostlyTrace:
    """A conversation in one month."""

    conversation: str
    calls: int
    cost_nusd: int
    unknown_calls: int
    charge_credits: int
    last_at_ms: int


@dataclass(frozen=True, slots=True)
class MeterSums:
    """A conversation's sums over all time. Times are None where it has no call."""

    calls: int
    cost_nusd: int
    unknown_calls: int
    charge_credits: int
    first_at_ms: int | None
    last_at_ms: int | None


@dataclass(frozen=True, slots=True)
class ActivitySums:
    """All calls that match a filter. `cost_nusd` counts known costs; `unknown_calls` lack a part of theirs."""

    calls: int
    cost_nusd: int
    unknown_calls: int
    charge_credits: int


@dataclass(frozen=True, slots=True)
class Choices:
    """The values that a workspace's calls have ever had, each once, sorted. Models are slugs, credentials ids."""

    tasks: tuple[str, ...]
    projects: tuple[str, ...]
    models: tuple[str, ...]
    providers: tuple[str, ...]
    credentials: tuple[str, ...]
    codes: tuple[str, ...]


MARK = "\x1f"


def mark(name: str) -> str:
    """A name between marks, as it stands in a marked list: a part of another name is never taken for it."""
    return f"{MARK}{name.replace(MARK, ' ')}{MARK}"


def mark_all(names: Iterable[str]) -> str:
    """The names of a set, sorted, each once; "" for none."""
    inside = MARK.join(sorted({name.replace(MARK, " ") for name in names if name}))
    return f"{MARK}{inside}{MARK}" if inside else ""


@lru_cache(maxsize=4_096)
def model_slug(name: str) -> str:
    """One name for what people and providers call by several: slug, native id, dated snapshot, in any case."""
    plain = name.strip().lower()
    author, slash, bare = plain.partition("/")
    # OpenRouter dates a maker's own id: `openai/gpt-4.1-mini-2025-04-14` is what the maker calls it behind its name.
    native = normalize_requested(bare) if slash and author in DIRECT_PROVIDERS else None
    return native or normalize_requested(plain) or plain


def shape_of(receipt: Receipt) -> Shape:
    """The shape of a call."""
    names = [receipt.requested_model, receipt.served_model or "", *(attempt.model for attempt in receipt.attempts)]
    return Shape(
        receipt.task or "", receipt.project or "", receipt.provider or "", receipt.funding or "",
        outcome_of(receipt).value, receipt.code or "", _slugs(tuple(names)),
        mark_all(attempt.credential_id for attempt in receipt.attempts), 1 if receipt.conversation else 0,
    )


@lru_cache(maxsize=4_096)
def _slugs(names: tuple[str, ...]) -> str:
    return mark_all(model_slug(name) for name in names if name and not name.startswith("task:"))


def shares_of(receipt: Receipt) -> list[tuple[Where, Amounts]]:
    """A call's attempts, those that count as one added up; a call without attempts is a share of its own.

    The known costs of the shares add up to the call's known cost. What belongs to the call as a whole (its charge)
    stands in the last attempt's share.
    """
    last = receipt.attempts[-1] if receipt.attempts else None
    place = Where("", receipt.provider or "", receipt.served_model or "", "", receipt.basis) if last is None \
        else _where(last)
    if last is None or len(receipt.attempts) == 1:
        only = _NOTHING if last is None else _attempt_amounts(last, 1, 1, 1)
        return [(place, _with_call(only, receipt, only.cost_nusd, only.unknown_attempts))]
    seen: set[tuple[int, str]] = set()
    parts: dict[Where, list[Amounts]] = {}
    for attempt in receipt.attempts:
        first = [0 if key in seen else 1 for key in _touched(attempt)]
        seen.update(_touched(attempt))
        parts.setdefault(_where(attempt), []).append(_attempt_amounts(attempt, *first))
    found = {where: Amounts(*map(sum, zip(*amounts, strict=True))) for where, amounts in parts.items()}
    known = sum(amounts.cost_nusd for amounts in found.values())
    unknown = sum(amounts.unknown_attempts for amounts in found.values())
    found[place] = _with_call(found[place], receipt, known, unknown)
    return list(found.items())


_NOTHING = Amounts()


def _where(attempt: AttemptRecord) -> Where:
    return Where(attempt.route, attempt.provider, attempt.model, attempt.credential_id, attempt.basis)


def _touched(attempt: AttemptRecord) -> tuple[tuple[int, str], ...]:
    return (0, attempt.provider), (1, attempt.model), (2, attempt.basis)


def _attempt_amounts(attempt: AttemptRecord, provider: int, model: int, basis: int) -> Amounts:
    cost = attempt.cost_nusd or 0
    return Amounts(
        0, 1, provider, model, basis, cost, 1 if attempt.cost_nusd is None else 0, 0,
        cost if attempt.failure is None else 0, 0, 0, 0, *count_tokens(attempt.usage),
    )


def count_tokens(usage: Usage | None) -> tuple[int, int, int, int, int]:
    """(fresh input, read from a cache, written to a cache, output, reasoning), sound and side work included."""
    if usage is None:
        return 0, 0, 0, 0, 0
    own = (
        usage.input + usage.audio_input, usage.cache_read + usage.audio_cache_read,
        usage.cache_write_5m + usage.cache_write_1h, usage.output + usage.audio_output, usage.reasoning,
    )
    for _, other in usage.others:
        a, b, c, d, e = count_tokens(other)
        own = (own[0] + a, own[1] + b, own[2] + c, own[3] + d, own[4] + e)
    return own


def _with_call(amounts: Amounts, receipt: Receipt, known_nusd: int, unknown: int) -> Amounts:
    """`known_nusd` is what the attempts add up to; a receipt that knows better says so where nothing is unknown."""
    rest = 0 if receipt.cost_nusd is None or unknown else receipt.cost_nusd - known_nusd
    return amounts._replace(
        calls=1, cost_nusd=amounts.cost_nusd + rest, unknown_calls=1 if receipt.cost_nusd is None else 0,
        charge_nusd=receipt.charge_nusd, charge_credits=receipt.charge_credits, absorbed_nusd=receipt.absorbed_nusd,
    )


class SumKeys(NamedTuple):
    """Where one share of one call is summed. `shape` and `share` are the store's numbers for them."""

    workspace_id: str
    day: int
    shape: int
    share: int
    task: str
    project: str
    funding: str
    outcome: str
    route: str


class Day(NamedTuple):
    """A workspace's local date as 20261122, and the UTC milliseconds [from, until) for which it holds."""

    from_ms: int
    until_ms: int
    number: int


def local_day(at_ms: int, period: Period) -> Day:
    """The date of a moment in the period's zone, kept within the period's month: days add up to months, also where a
    change of the zone has moved the month's border into the middle of a day."""
    zone = parse_timezone(period.timezone)
    local = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).date()
    starts = _midnight_ms(local, zone)
    ends = _midnight_ms(local + timedelta(days=1), zone)
    first = date(int(period.key[:4]), int(period.key[5:]), 1)
    last = _next_month(first) - timedelta(days=1)
    kept = min(max(local, first), last)
    return Day(max(starts, period.starts_at_ms), min(ends, period.ends_at_ms), day_number(kept))


def _midnight_ms(day: date, zone: ZoneInfo) -> int:
    return (datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC) - _EPOCH) // _LEAST_MS


def _next_month(first: date) -> date:
    return date(first.year + 1, 1, 1) if first.month == 12 else date(first.year, first.month + 1, 1)


def day_number(day: date) -> int:
    """2026-11-22 → 20261122."""
    return day.year * 10_000 + day.month * 100 + day.day


def day_text(number: int) -> str:
    """20261122 → "2026-11-22"."""
    return f"{number // 10_000:04d}-{number // 100 % 100:02d}-{number % 100:02d}"


def parse_day(text: str) -> int:
    """ "2026-11-22" → 20261122. Raises ValueError for what is no date."""
    return day_number(date.fromisoformat(text))


def month_days(key: str) -> tuple[str, str]:
    """The first and last day of a period: "2026-11" → ("2026-11-01", "2026-11-30")."""
    first = date(int(key[:4]), int(key[5:]), 1)
    return first.isoformat(), (_next_month(first) - timedelta(days=1)).isoformat()


def day_bounds_ms(since: int, until: int) -> tuple[int, int]:
    """UTC milliseconds that surely hold all calls of these days, in any zone; a little wider than the days."""
    return _utc_ms(since) - 2 * DAY_MS, _utc_ms(until) + 3 * DAY_MS


DAY_MS = 86_400_000


def _utc_ms(number: int) -> int:
    day = datetime(number // 10_000, number // 100 % 100, number % 100, tzinfo=UTC)
    return (day - _EPOCH) // _LEAST_MS
