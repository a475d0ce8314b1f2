"""Charts: the same figures give the same bytes, in whole numbers, a finding in words, nothing by colour alone."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownkey.pages import charts
from ownkey.pages.charts import Column, Limit, Series, Span, axis_steps, stacked_bars, waterfall

KEYS, CREDITS = Series("Your keys", 1), Series("Credits", 2)
AMOUNTS = st.integers(0, 2**63 - 1)
SVG = "{http://www.w3.org/2000/svg}"


def parse(svg: str) -> ET.Element:
    return ET.fromstring(str(svg).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def bars(svg: str, css: str) -> list[int]:
    """The heights in pixels of the boxes of one kind."""
    return [int(box.attrib["height"]) for box in parse(svg).iter(f"{SVG}rect") if box.attrib.get("class") == css]


@given(AMOUNTS)
def test_an_axis_is_round_and_reaches_the_highest(most: int) -> None:
    """1, 2 or 5 times a power of ten apart, few steps, none too many above what is shown."""
    steps = axis_steps(most)

    assert steps[0] == 0
    assert steps[-1] >= most
    assert len(steps) <= 4
    if most:
        gap = steps[1]
        assert str(gap).rstrip("0") in ("1", "2", "5")
        assert steps == tuple(range(0, steps[-1] + 1, gap))
        assert steps[-1] - gap < most


@settings(max_examples=40)
@given(st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1, max_size=31), st.one_of(st.none(), AMOUNTS))
def test_same_figures_same_bytes_and_whole_pixels(values: list[tuple[int, int]], cap: int | None) -> None:
    """No amount is too large, none that is there is invisible, and no bar leaves its panel."""
    columns = [Column(str(n), f"day {n}", pair, now=n == len(values) - 1) for n, pair in enumerate(values)]
    limit = None if cap is None else Limit(cap, "cap")
    drawn = [
        stacked_bars("c", "t", "US$", columns, (KEYS, CREDITS), charts.usd_axis, running="month", limit=limit)
        for _ in range(2)
    ]

    assert drawn[0] == drawn[1]
    assert sum(bool(own) for own, _ in values) == len(bars(drawn[0], "series-1"))
    assert all(0 < height <= charts.BARS_PX for height in bars(drawn[0], "series-1"))
    for box in parse(drawn[0]).iter(f"{SVG}rect"):
        assert int(box.attrib["y"]) >= 0
        assert int(box.attrib["height"]) >= 1


def test_a_chart_says_its_finding_and_names_its_axis() -> None:
    """`role="img"` with a title that tells what the picture shows."""
    drawn = stacked_bars("c", "US$3 on the 2nd.", "US$ a day, days of UTC", [Column("1", "1 Nov", (5, 0))],
                         (KEYS, CREDITS), charts.usd_axis)
    root = parse(drawn)

    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"] == root[0].attrib["id"]
    assert (root[0].tag, root[0].text) == (f"{SVG}title", "US$3 on the 2nd.")
    assert "US$ a day, days of UTC" in [text.text for text in root.iter(f"{SVG}text")]


def test_no_series_is_told_by_colour_alone() -> None:
    """Every series but the plain first one has a pattern, and the present day is hatched; the legend shows the same."""
    columns = [Column("1", "1 Nov", (4, 4)), Column("2", "2 Nov", (4, 4), now=True)]
    drawn = stacked_bars("c", "t", "a", columns, (KEYS, CREDITS), charts.usd_axis)
    legend = charts.legend("c", (KEYS, CREDITS), [("now", "today"), ("limit", "cap")])

    assert drawn.count('fill="url(#c-p2)"') == 2
    assert drawn.count('class="today" fill="url(#c-now)"') == 1
    assert 'fill="url(#c-p2)"' in legend
    assert [name in legend for name in ("Your keys", "Credits", "today", "cap")] == [True] * 4


def test_the_cap_stands_where_its_amount_is() -> None:
    """The line crosses the running total exactly where that reaches the cap."""
    columns = [Column("1", "1", (10,)), Column("2", "2", (10,)), Column("3", "3", (0,), now=True)]
    drawn = stacked_bars("c", "t", "a", columns, (KEYS,), charts.usd_axis, running="month", limit=Limit(20, "cap"))
    line = next(one for one in parse(drawn).iter(f"{SVG}line") if one.attrib.get("class") == "cap-line")

    assert bars(drawn, "running") == [charts.TOTAL_PX // 2, charts.TOTAL_PX, charts.TOTAL_PX]
    assert int(line.attrib["y1"]) == charts.TOTAL_PX - bars(drawn, "running")[-1]


def test_days_to_come_have_no_running_total() -> None:
    """The future is empty, not flat."""
    columns = [Column("1", "1", (10,)), Column("2", "2", (5,), now=True), Column("3", "3", (0,))]
    drawn = stacked_bars("c", "t", "a", columns, (KEYS,), charts.usd_axis, running="month")

    assert len(bars(drawn, "running")) == 2


@pytest.mark.parametrize("hostile", ['<script>x</script>', '"><img src=x onerror=x>', "</title></svg>"])
def test_words_of_others_stay_words(hostile: str) -> None:
    """Whatever stands in a title, a name or a label is text."""
    for drawn in (
        stacked_bars("c", hostile, hostile, [Column(hostile, hostile, (1,))], (Series(hostile, 2),), charts.usd_axis),
        waterfall("w", hostile, [Span(hostile, 0, None, 5, True)], hostile),
    ):
        root = parse(drawn)
        tags = {one.tag.removeprefix(SVG) for one in root.iter()}

        assert tags <= {"svg", "title", "defs", "pattern", "path", "g", "rect", "text", "line"}
        assert root[0].text == hostile


def test_a_chart_needs_no_inline_style_and_no_script() -> None:
    """The content security policy allows neither."""
    drawn = stacked_bars("c", "t", "a", [Column("1", "1", (1, 1), now=True)], (KEYS, CREDITS), charts.usd_axis,
                         running="m", limit=Limit(5, "cap")) + charts.legend("c", (KEYS,))

    assert "style" not in drawn
    assert not re.search(r"\son\w+=", drawn)


def test_a_waterfall_shares_one_time_axis() -> None:
    """Bars begin and end where their times are, as shares of the whole; a failure is marked at its end."""
    drawn = waterfall("w", "t", [Span("1", 0, None, 400, True), Span("2", 400, 600, 1_000, False)], "time")
    boxes = [(b.attrib["class"], b.attrib["x"], b.attrib["width"]) for b in parse(drawn).iter(f"{SVG}rect")]

    assert boxes == [
        ("wait", "0.00%", "40.00%"), ("failed-mark", "40.00%", "4"),
        ("wait", "40.00%", "20.00%"), ("ok", "60.00%", "40.00%"),
    ]


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 5_000), st.booleans()), min_size=1, max_size=5))
def test_no_bar_of_a_waterfall_leaves_the_picture(times: list[tuple[int, int, bool]]) -> None:
    """What is too short to be seen is drawn longer, but never past the right end."""
    spans = [Span("a", start, None if failed else start + length, start + length, failed)
             for start, length, failed in times]

    for box in parse(waterfall("w", "t", spans, "time")).iter(f"{SVG}rect"):
        left, width = float(box.attrib["x"].rstrip("%")), box.attrib["width"]

        assert left >= 0
        if width.endswith("%"):
            assert float(width.rstrip("%")) >= 0.5
            assert left + float(width.rstrip("%")) <= 100.001
        else:
            assert left <= 95 or "translate(-4 0)" in box.attrib["transform"]


def test_nothing_to_draw_is_still_a_picture() -> None:
    """A month without calls has an axis and no bars."""
    drawn = stacked_bars("c", "Nothing.", "a", [Column("1", "1", (0,))], (KEYS,), charts.usd_axis)

    assert bars(drawn, "series-1") == []
    assert ">US$0<" in drawn


def test_charts_know_no_fractions() -> None:
    """Integers only: no float, no true division, no rounding."""
    source = Path(charts.__file__).read_text()

    assert not re.search(r"\bfloat\b|\bround\(|[^/]/[^/]\s*\w", re.sub(r'"[^"\n]*"|\'[^\'\n]*\'|#.*', "", source))
