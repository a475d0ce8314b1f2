"""Days and moments as people read them: `14 Nov`, `1 Dec 00:00 UTC`. Their order and the months' names are phrases."""

from datetime import datetime
from typing import Final

from ownkey.domain.phrases import Phrase

_SHORT: Final = (
    Phrase("Jan"), Phrase("Feb"), Phrase("Mar"), Phrase("Apr"), Phrase("May"), Phrase("Jun"), Phrase("Jul"),
    Phrase("Aug"), Phrase("Sep"), Phrase("Oct"), Phrase("Nov"), Phrase("Dec"),
)
_LONG: Final = (
    Phrase("January"), Phrase("February"), Phrase("March"), Phrase("April"), Phrase("May"), Phrase("June"),
    Phrase("July"), Phrase("August"), Phrase("September"), Phrase("October"), Phrase("November"), Phrase("December"),
)


def tell_month(month: int) -> Phrase:
    """1 → `January`."""
    return _LONG[month - 1]


def tell_month_of(year: int, month: int, *, short: bool = False) -> Phrase:
    """`November 2026`, `Nov 2026`."""
    return Phrase("{month} {year}", month=(_SHORT if short else _LONG)[month - 1], year=year)


def tell_day(day: int, month: int) -> Phrase:
    """`14 Nov`."""
    return Phrase("{day} {month}", day=day, month=_SHORT[month - 1])


def tell_date(day: int, month: int, year: int) -> Phrase:
    """`14 Nov 2026`."""
    return Phrase("{day} {month} {year}", day=day, month=_SHORT[month - 1], year=year)


def tell_moment(at: datetime) -> Phrase:
    """`14 Nov 2026, 09:31 UTC`, in the zone of `at`."""
    return Phrase("{date}, {time} {zone}", date=tell_date(at.day, at.month, at.year), time=f"{at:%H:%M}",
                  zone=at.tzname())


def tell_reset(at: datetime) -> Phrase:
    """`1 Dec 00:00 UTC`, in the zone of `at`: when a period begins anew."""
    return Phrase("{day} {time} {zone}", day=tell_day(at.day, at.month), time=f"{at:%H:%M}", zone=at.tzname())
