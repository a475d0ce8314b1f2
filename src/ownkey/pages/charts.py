"""Charts as SVG that the server draws: integers only, the same figures give the same bytes.

A chart is as wide as its place: horizontal positions are shares of the width, heights are pixels, so that words keep
their size on a narrow screen. Colour never stands alone: each series has a pattern of its own, the present day is
hatched, and the title says in words what the picture shows. Every chart stands beside a table with the same figures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ownkey.domain.money import NUSD_PER_USD, ceil_div, format_usd
from ownkey.pages import figures

BARS_PX = 168
TOTAL_PX = 92
GAP_PX = 34
HEAD_PX = 18
FOOT_PX = 22
ROW_PX = 40
MOST_LABELS = 8
GRID_STEPS = 3

_SHARES = 10_000
"""A whole width, in hundredths of a percent."""

_LEAST_SHARE = 50
"""The narrowest piece of a waterfall."""

Tell = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Series:
    """One part of every bar. `style` 1 to 5 picks colour and pattern."""

    name: str
    style: int


@dataclass(frozen=True, slots=True)
class Column:
    """One bar: `label` stands below it, `name` in what a pointer at rest reads. `values` go with the series, in their
    order; none is below 0. `now`: it is not over yet. `total` is what the lower panel counts, the sum if None."""

    label: str
    name: str
    values: tuple[int, ...]
    now: bool = False
    total: int | None = None

    @property
    def height(self) -> int:
        return sum(self.values)

    @property
    def counted(self) -> int:
        return self.height if self.total is None else self.total


@dataclass(frozen=True, slots=True)
class Limit:
    """A line across the running total, at `amount`, with its words."""

    amount: int
    label: str


@dataclass(frozen=True, slots=True)
class Span:
    """One line of a waterfall, in milliseconds since the call began. `first_ms` None: no content came. `words` stand
    above the bar; `failed` and `style` choose how it looks, and the words say it too."""

    words: str
    start_ms: int
    first_ms: int | None
    end_ms: int
    failed: bool


def axis_steps(most: int, steps: int = GRID_STEPS) -> tuple[int, ...]:
    """Round figures from 0 to at least `most`: 1, 2 or 5 times a power of ten apart, `steps` apart at the most.

    `most` 0 gives (0,): there is nothing to scale.
    """
    if most <= 0:
        return (0,)
    step, factors = 1, (2, 5, 2)
    turn = 0
    while step * steps < most:
        # 1, 2, 5, 10, 20, 50 …
        step = step * factors[turn] if turn != 1 else step // 2 * 5
        turn = (turn + 1) % 3
    return tuple(range(0, step * ceil_div(most, step) + 1, step))


def stacked_bars(
    chart: str, title: str, axis: str, columns: Sequence[Column], series: Sequence[Series], tell: Tell, *,
    running: str = "", limit: Limit | None = None,
) -> Markup:
    """Bars side by side, each stacked by series. `chart` makes the ids of one page distinct; `axis` says what the
    heights are, with their unit and zone. With `running` a second panel below adds up the columns under that name, with
    the limit across it."""
    height = HEAD_PX + BARS_PX + FOOT_PX
    parts = [_panel(axis, HEAD_PX, BARS_PX, _bars(chart, columns, series), axis_steps(_highest(columns)), tell)]
    labels = _labels(columns, HEAD_PX + BARS_PX + 15)
    if running:
        top = height + GAP_PX - FOOT_PX
        parts.append(_running(running, top, columns, tell, limit))
        labels = _labels(columns, top + TOTAL_PX + 15)
        height = top + TOTAL_PX + FOOT_PX
    return _svg(chart, "plot with-axis", title, height, [_patterns(chart, series), *parts, labels])


def waterfall(chart: str, title: str, spans: Sequence[Span], axis: str) -> Markup:
    """Attempts one below the other on one time axis: waiting is pale, the answer full, a failure crossed out."""
    longest = max((span.end_ms for span in spans), default=0)
    steps = axis_steps(longest, 4)
    most = steps[-1] or 1
    height = len(spans) * ROW_PX + FOOT_PX + 6
    lines = Markup("").join(
        Markup('<line class="axis" x1="{0}" x2="{0}" y1="0" y2="{1}"/>{2}').format(
            _share(step, most), height - FOOT_PX, _tick(step, most, height - 6)
        )
        for step in steps
    )
    rows = Markup("").join(_span(span, index, most) for index, span in enumerate(spans))
    unit = Markup('<text x="100%" y="{}" text-anchor="end" class="visually-hidden">{}</text>').format(height - 6, axis)
    return _svg(chart, "plot", title, height, [lines, rows, unit])


def legend(chart: str, series: Sequence[Series], extra: Sequence[tuple[str, str]] = ()) -> Markup:
    """What the patterns stand for. `extra` are (kind, words) with kind "now", "limit"."""
    keys = [(f"series-{one.style}", one.style, one.name) for one in series]
    items = [_key(chart, css, style, name) for css, style, name in keys]
    items += [_key(chart, kind, 0, words) for kind, words in extra]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def usd_axis(amount_nusd: int) -> str:
    """Money at a grid line: all of its digits, which are few."""
    return f"US${format_usd(amount_nusd)}" if amount_nusd % NUSD_PER_USD else f"US${amount_nusd // NUSD_PER_USD:,}"


# --- pieces


def _svg(chart: str, css: str, title: str, height: int, parts: Sequence[Markup]) -> Markup:
    """`with-axis` has room on its left, outside of the shares of its width, for the figures of the axis."""
    return Markup(
        '<svg class="{css}" role="img" width="100%" height="{height}" aria-labelledby="{chart}-title">'
        '<title id="{chart}-title">{title}</title>{parts}</svg>'
    ).format(css=css, height=height, chart=chart, title=title, parts=Markup("").join(parts))


def _panel(axis: str, top: int, height: int, bars: Markup, steps: Sequence[int], tell: Tell) -> Markup:
    """The grid with its figures, and the bars in front of it. The topmost grid line is the panel's upper edge."""
    most = steps[-1] or 1
    grid = Markup("").join(
        Markup(
            '<line class="axis" x1="0" x2="100%" y1="{0}" y2="{0}"/><text x="-8" y="{1}" text-anchor="end">{2}</text>'
        ).format(top + height - step * height // most, top + height - step * height // most + 4, tell(step))
        for step in steps
    )
    name = Markup('<text x="0" y="{}" class="axis-name">{}</text>').format(top - 6, axis)
    return Markup('{}{}<g transform="translate(0 {})">{}</g>').format(grid, name, top, bars)


def _bars(chart: str, columns: Sequence[Column], series: Sequence[Series]) -> Markup:
    most = axis_steps(_highest(columns))[-1] or 1
    found = []
    for index, column in enumerate(columns):
        x, width, below = *_slot(index, len(columns)), 0
        pieces = []
        for one, value in zip(series, column.values, strict=True):
            if value <= 0:
                continue
            upper = _height(below + value, most, BARS_PX)
            lower = min(_height(below, most, BARS_PX), upper - 1)
            pieces.append(_box(chart, one.style, x, BARS_PX - upper, width, upper - lower))
            below += value
        if column.now and below:
            upper = _height(below, most, BARS_PX)
            pieces.append(_hatch(chart, x, BARS_PX - upper, width, upper))
        if pieces:
            found.append(Markup("<g><title>{}</title>{}</g>").format(column.name, Markup("").join(pieces)))
    return Markup("").join(found)


def _running(name: str, top: int, columns: Sequence[Column], tell: Tell, limit: Limit | None) -> Markup:
    """The columns added up from the left, and the line that the sum must stay under."""
    sums, total = [], 0
    for column in columns:
        total += column.counted
        sums.append(total)
    steps = axis_steps(max(total, 0 if limit is None else limit.amount), 2)
    most = steps[-1] or 1
    bars = [
        Markup('<rect class="running" x="{}" y="{}" width="{}" height="{}"/>').format(
            _share(index, len(columns)), TOTAL_PX - _height(amount, most, TOTAL_PX), _share(1, len(columns), up=True),
            _height(amount, most, TOTAL_PX),
        )
        for index, amount in enumerate(sums) if amount and not _is_ahead(columns, index)
    ]
    if limit is not None:
        y = TOTAL_PX - limit.amount * TOTAL_PX // most
        bars.append(Markup(
            '<line class="cap-line" x1="0" x2="100%" y1="{0}" y2="{0}"/>'
            '<text class="cap-name" x="100%" y="{1}" text-anchor="end">{2}</text>'
        ).format(y, y - 4 if y > 14 else y + 13, limit.label))
    return _panel(name, top, TOTAL_PX, Markup("").join(bars), steps, tell)


def _is_ahead(columns: Sequence[Column], index: int) -> bool:
    """Whether a column lies in the future: behind the one that is not over yet."""
    return any(column.now for column in columns[:index])


def _highest(columns: Sequence[Column]) -> int:
    return max((column.height for column in columns), default=0)


def _height(amount: int, most: int, pixels: int) -> int:
    """Pixels for an amount; the smallest one can be seen."""
    return max(1, amount * pixels // most) if amount > 0 else 0


def _slot(index: int, count: int) -> tuple[str, str]:
    """Where a bar begins and how wide it is, a little apart from its neighbours."""
    left, right = index * _SHARES // count, (index + 1) * _SHARES // count
    margin = (right - left) * 14 // 100
    return _percent(left + margin), _percent(right - left - 2 * margin)


def _share(part: int, whole: int, *, up: bool = False) -> str:
    return _percent(ceil_div(part * _SHARES, whole) if up else part * _SHARES // whole)


def _percent(share: int) -> str:
    return f"{share // 100}.{share % 100:02d}%"


def _box(chart: str, style: int, x: str, y: int, width: str, height: int) -> Markup:
    box = Markup('<rect class="series-{}" x="{}" y="{}" width="{}" height="{}"/>').format(style, x, y, width, height)
    if style == 1:
        return box
    return box + Markup('<rect fill="url(#{}-p{})" x="{}" y="{}" width="{}" height="{}"/>').format(
        chart, style, x, y, width, height
    )


def _hatch(chart: str, x: str, y: int, width: str, height: int) -> Markup:
    return Markup('<rect class="today" fill="url(#{}-now)" x="{}" y="{}" width="{}" height="{}"/>').format(
        chart, x, y, width, height
    )


_MARKS = {
    2: Markup('<path class="mark" d="M0 6L6 0"/>'),
    3: Markup('<circle class="dot" cx="3" cy="3" r="1"/>'),
    4: Markup('<path class="mark" d="M0 3H6"/>'),
    5: Markup('<path class="mark" d="M3 0V6M0 3H6"/>'),
}


def _patterns(chart: str, series: Sequence[Series]) -> Markup:
    """What lies over the colours. The first series has none: plain is a pattern too."""
    marks = [(f"p{one.style}", _MARKS[one.style]) for one in series if one.style in _MARKS]
    marks.append(("now", Markup('<path class="now" d="M0 0L6 6"/>')))
    return Markup("<defs>{}</defs>").format(Markup("").join(
        Markup('<pattern id="{}-{}" width="6" height="6" patternUnits="userSpaceOnUse">{}</pattern>')
        .format(chart, name, mark)
        for name, mark in marks
    ))


def _labels(columns: Sequence[Column], y: int) -> Markup:
    """Below the bars, so many that none touches its neighbour on a narrow screen."""
    every = max(1, ceil_div(len(columns), MOST_LABELS))
    return Markup("").join(
        Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
            _percent((2 * index + 1) * _SHARES // (2 * len(columns))), y, column.label
        )
        for index, column in enumerate(columns) if index % every == 0
    )


def _span(span: Span, index: int, most: int) -> Markup:
    top = index * ROW_PX
    bar, height = top + 20, 14
    begun = span.end_ms if span.first_ms is None else min(span.first_ms, span.end_ms)
    parts = [Markup('<text class="row-name" x="0" y="{}">{}</text>').format(top + 14, span.words)]
    parts.append(_piece("wait", span.start_ms, begun, most, bar, height))
    if span.failed:
        parts.append(_piece("failed-end", max(span.start_ms, begun), span.end_ms, most, bar, height))
        # The mark ends where the attempt does: one at the right edge stays inside of the picture.
        shift = Markup(' transform="translate(-4 0)"') if span.end_ms * 20 > most else ""
        parts.append(Markup('<rect class="failed-mark" x="{}" y="{}" width="4" height="{}"{}/>').format(
            _share(span.end_ms, most), bar - 2, height + 4, shift
        ))
    else:
        parts.append(_piece("ok", begun, span.end_ms, most, bar, height))
    return Markup("<g>{}</g>").format(Markup("").join(parts))


def _piece(css: str, start_ms: int, end_ms: int, most: int, y: int, height: int) -> Markup:
    if end_ms <= start_ms and css != "ok":
        return Markup("")
    # Too short to be seen is drawn a little longer, to the left where there is no room on the right.
    left = start_ms * _SHARES // most
    width = max(ceil_div((end_ms - start_ms) * _SHARES, most), _LEAST_SHARE)
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        css, _percent(min(left, _SHARES - width)), y, _percent(width), height
    )


def _tick(step: int, most: int, y: int) -> Markup:
    anchor = "start" if step == 0 else "end" if step == most else "middle"
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(
        _share(step, most), y, anchor, figures.duration(step) if step else "0"
    )


def _key(chart: str, css: str, style: int, words: str) -> Markup:
    boxes = {
        "now": Markup('<rect class="series-1" width="14" height="14"/><rect class="today" fill="url(#{}-now)" '
                      'width="14" height="14"/>').format(chart),
        "limit": Markup('<line class="cap-line" x1="0" x2="14" y1="7" y2="7"/>'),
    }
    box = boxes[css] if css in boxes else _box(chart, style, "0", 0, "14", 14)
    return Markup('<li><svg class="plot-key" width="14" height="14" aria-hidden="true">{}</svg> {}</li>').format(
        box, words
    )
