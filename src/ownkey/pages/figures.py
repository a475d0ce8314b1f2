"""Money, credits, counts and times as people read them: from integers, in digits, with their unit and zone.

Amounts are nano-USD and never pass through a float. Credits are whole and never look like dollars.
"""

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from markupsafe import Markup

from ownkey.domain.days import tell_date, tell_day, tell_moment, tell_month, tell_month_of, tell_reset
from ownkey.domain.money import NUSD_PER_USD, format_usd
from ownkey.domain.phrases import Phrase

CENT_NUSD = NUSD_PER_USD // 100
UNKNOWN = Phrase("unknown")


def usd(amount_nusd: int | None) -> str:
    """A sum at a glance, in whole cents, rounded down but never to nothing: `US$12.40`, `< US$0.01`, `US$0.00`."""
    if amount_nusd is None:
        return UNKNOWN
    sign, amount = ("−" if amount_nusd < 0 else ""), abs(amount_nusd)
    if 0 < amount < CENT_NUSD:
        return f"{sign}< US$0.01"
    whole, cents = divmod(amount // CENT_NUSD, 100)
    return f"{sign}US${whole:,}.{cents:02d}"


def usd_exact(amount_nusd: int | None) -> str:
    """Every digit that there is: `US$0.00341`."""
    if amount_nusd is None:
        return UNKNOWN
    text = format_usd(abs(amount_nusd))
    return f"{'−' if amount_nusd < 0 else ''}US${text}"


def money(amount_nusd: int | None, say: Callable[[str], str] = str) -> Markup:
    """A sum at a glance whose exact figure a machine, or a pointer at rest, can read."""
    if amount_nusd is None:
        return Markup("<span>{}</span>").format(say(UNKNOWN))
    return Markup('<data value="{}" title="{}">{}</data>').format(
        format_usd(amount_nusd), usd_exact(amount_nusd), usd(amount_nusd)
    )


def credits(amount: int) -> str:
    """`3 credits`, `1 credit`, `12,000 credits`."""
    return Phrase("1 credit") if amount == 1 else Phrase("{count} credits", count=f"{amount:,}")


def count(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def percent(part: int, whole: int) -> int:
    """Whole percents, rounded down; 100 only where it is all."""
    return 0 if whole <= 0 else min(100, part * 100 // whole)


def duration(ms: int | None) -> str:
    """`840 ms`, `3.2 s`, `1 min 5 s`, `2 h 4 min`."""
    if ms is None:
        return "–"
    if ms < 1_000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms // 1_000}.{ms % 1_000 // 100} s"
    minutes, seconds = divmod(ms // 1_000, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"


def zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


def moment(at_ms: int, timezone: str) -> str:
    """`14 Nov 2026, 09:31 UTC`; another zone is named by its own short name."""
    at = datetime.fromtimestamp(at_ms // 1_000, zone(timezone))
    return tell_moment(at)


def short_moment(at_ms: int, timezone: str) -> str:
    """`14 Nov, 09:31:07`, for tables that name their zone once."""
    at = datetime.fromtimestamp(at_ms // 1_000, zone(timezone))
    return Phrase("{day}, {time}", day=tell_day(at.day, at.month), time=f"{at:%H:%M:%S}")


def day(at_ms: int, timezone: str) -> str:
    """`1 Dec 2026`."""
    at = datetime.fromtimestamp(at_ms // 1_000, zone(timezone))
    return tell_date(at.day, at.month, at.year)


def reset_moment(at_ms: int, timezone: str) -> str:
    """`1 Dec 00:00 UTC`: when a period begins anew."""
    at = datetime.fromtimestamp(at_ms // 1_000, zone(timezone))
    return tell_reset(at)


def month(period_key: str) -> str:
    """`2026-11` → `November`; what is no month is shown as it is."""
    try:
        return tell_month(datetime.strptime(period_key[:7], "%Y-%m").replace(tzinfo=UTC).month)
    except ValueError:
        return period_key


def month_of_year(period_key: str, *, short: bool = False) -> str:
    """`2026-11` → `November 2026`, `Nov 2026`; what is no month is shown as it is."""
    try:
        at = datetime.strptime(period_key[:7], "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        return period_key
    return tell_month_of(at.year, at.month, short=short)


def ago(at_ms: int, now_ms: int) -> str:
    """`just now`, `40 s ago`, `5 min ago`, `3 h ago`, `12 days ago`."""
    seconds = max(0, now_ms - at_ms) // 1_000
    if seconds < 5:
        return Phrase("just now")
    if seconds >= 2 * 86_400:
        return Phrase("{count} days ago", count=seconds // 86_400)
    if seconds >= 3_600:
        return Phrase("{count} h ago", count=seconds // 3_600)
    if seconds >= 60:
        return Phrase("{count} min ago", count=seconds // 60)
    return Phrase("{count} s ago", count=seconds)


def when(at_ms: int | None, timezone: str, now_ms: int, say: Callable[[str], str] = str) -> Markup:
    """A time as one reads it now, with the exact one in the element."""
    if at_ms is None:
        return Markup("<span>{}</span>").format(say(Phrase("never")))
    iso = datetime.fromtimestamp(at_ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        iso, say(moment(at_ms, timezone)), say(ago(at_ms, now_ms))
    )


def clip(text: str | None, length: int = 120) -> str:
    """Text of others, cut to length; one line."""
    if not text:
        return ""
    flat = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"


__all__ = [
    "ago", "clip", "count", "credits", "day", "duration", "moment", "money", "month", "month_of_year",
    "percent", "reset_moment", "short_moment", "usd", "usd_exact", "when", "zone",
]
