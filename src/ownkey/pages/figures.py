"""Money, credits, counts and times as people read them: from integers, in digits, with their unit and zone.

Amounts are nano-USD and never pass through a float. Credits are whole and never look like dollars.
"""

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from markupsafe import Markup

from ownkey.domain.money import NUSD_PER_USD, format_usd

CENT_NUSD = NUSD_PER_USD // 100
UNKNOWN = "unknown"


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


def money(amount_nusd: int | None) -> Markup:
    """A sum at a glance whose exact figure a machine, or a pointer at rest, can read."""
    if amount_nusd is None:
        return Markup("<span>unknown</span>")
    return Markup('<data value="{}" title="{}">{}</data>').format(
        format_usd(amount_nusd), usd_exact(amount_nusd), usd(amount_nusd)
    )


def credits(amount: int) -> str:
    """`3 credits`, `1 credit`, `12,000 credits`."""
    return f"{amount:,} credit{'' if amount == 1 else 's'}"


def cents(amount_cents: int, currency: str) -> str:
    """A price as it is sold: `$5`, `$4.50`, `EUR 5`."""
    whole, rest = divmod(amount_cents, 100)
    unit = "$" if currency == "usd" else f"{currency.upper()} "
    return f"{unit}{whole:,}" + (f".{rest:02d}" if rest else "")


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
    return f"{at.day} {at:%b %Y, %H:%M} {at.tzname()}"


def short_moment(at_ms: int, timezone: str) -> str:
    """`14 Nov, 09:31:07`, for tables that name their zone once."""
    at = datetime.fromtimestamp(at_ms // 1_000, zone(timezone))
    return f"{at.day} {at:%b, %H:%M:%S}"


def day(at_ms: int, timezone: str) -> str:
    """`1 Dec 2026`."""
    at = datetime.fromtimestamp(at_ms // 1_000, zone(timezone))
    return f"{at.day} {at:%b %Y}"


def reset_moment(at_ms: int, timezone: str) -> str:
    """`1 Dec 00:00 UTC`: when a period begins anew."""
    at = datetime.fromtimestamp(at_ms // 1_000, zone(timezone))
    return f"{at.day} {at:%b %H:%M} {at.tzname()}"


def month(period_key: str) -> str:
    """`2026-11` → `November`; what is no month is shown as it is."""
    try:
        return datetime.strptime(period_key[:7], "%Y-%m").replace(tzinfo=UTC).strftime("%B")
    except ValueError:
        return period_key


def ago(at_ms: int, now_ms: int) -> str:
    """`just now`, `40 s ago`, `5 min ago`, `3 h ago`, `12 days ago`."""
    seconds = max(0, now_ms - at_ms) // 1_000
    if seconds < 5:
        return "just now"
    for size, unit in ((86_400, "day"), (3_600, "h"), (60, "min")):
        if seconds >= size * (2 if unit == "day" else 1):
            return f"{seconds // size} {unit}{'s' if unit == 'day' else ''} ago"
    return f"{seconds} s ago"


def when(at_ms: int | None, timezone: str, now_ms: int) -> Markup:
    """A time as one reads it now, with the exact one in the element."""
    if at_ms is None:
        return Markup("<span>never</span>")
    iso = datetime.fromtimestamp(at_ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(iso, moment(at_ms, timezone), ago(at_ms, now_ms))


def clip(text: str | None, length: int = 120) -> str:
    """Text of others, cut to length; one line."""
    if not text:
        return ""
    flat = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"


__all__ = [
    "ago", "cents", "clip", "count", "credits", "day", "duration", "moment", "money", "month", "percent",
    "reset_moment", "short_moment", "usd", "usd_exact", "when", "zone",
]
