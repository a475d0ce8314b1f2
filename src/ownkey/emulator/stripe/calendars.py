"""When billing periods end: boundaries counted from the anchor, never from the one before.

A monthly anchor on the 31st bills on the last day of shorter months and on the 31st again afterwards; 29 February
anchors bill on 28 February in common years (docs.stripe.com, "Set the subscription billing renewal date").
"""

import calendar
from datetime import UTC, datetime

_SECONDS = {"day": 86_400, "week": 7 * 86_400}
_MONTHS = {"month": 1, "year": 12}


def boundary(anchor: int, interval: str, count: int, number: int) -> int:
    """The `number`th boundary after the anchor (0 is the anchor), in Unix seconds."""
    if interval in _SECONDS:
        return anchor + _SECONDS[interval] * count * number
    start = datetime.fromtimestamp(anchor, UTC)
    months = start.year * 12 + start.month - 1 + _MONTHS[interval] * count * number
    year, month = divmod(months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return int(start.replace(year=year, month=month + 1, day=day).timestamp())


def next_boundary(anchor: int, interval: str, count: int, moment: int) -> int:
    """The first boundary after `moment`. The anchor may lie before or after it."""
    length = _SECONDS.get(interval) or _MONTHS[interval] * 27 * 86_400
    number = (moment - anchor) // (length * count) + 1
    while boundary(anchor, interval, count, number - 1) > moment:
        number -= 1
    while boundary(anchor, interval, count, number) <= moment:
        number += 1
    return boundary(anchor, interval, count, number)
