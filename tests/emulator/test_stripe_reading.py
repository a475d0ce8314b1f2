"""Periods and parameters as rules: boundaries never drift, and whatever the SDK writes is read as it was meant."""

from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stripe._encode import _api_encode
from stripe_shop import at, months_after

from ownkey.emulator.stripe.calendars import boundary, next_boundary
from ownkey.emulator.stripe.form import Form, parse
from ownkey.emulator.stripe.refusals import Refusal

moments = st.integers(at(2020, 1, 1), at(2040, 1, 1))
DAYS = {"day": (1, 1), "week": (7, 7), "month": (28, 31), "year": (365, 366)}  # shortest and longest
rhythms = st.tuples(st.sampled_from(["day", "week", "month", "year"]), st.integers(1, 3))


@given(moments, st.integers(0, 60))
def test_a_monthly_boundary_is_the_anchors_day_or_the_months_last(anchor: int, months: int) -> None:
    """Reckoned a second time in another way, the same moment comes out."""
    assert boundary(anchor, "month", 1, months) == months_after(anchor, months)


@given(moments, rhythms, st.integers(-400, 2000))
def test_the_next_boundary_is_the_first_after_the_moment(anchor: int, rhythm: tuple[str, int], days: int) -> None:
    """It lies after the moment, on the anchor's grid, and none lies between."""
    moment = anchor + days * 86_400 + 1
    interval, count = rhythm
    guesses = [days // (length * count) for length in DAYS[interval]]
    grid = [boundary(anchor, interval, count, n) for n in range(min(guesses) - 2, max(guesses) + 4)]

    found = next_boundary(anchor, interval, count, moment)

    assert grid == sorted(set(grid))
    assert grid[0] <= moment
    assert found == min(edge for edge in grid if edge > moment)


@pytest.mark.parametrize(("anchor", "expected"), [
    (at(2027, 1, 31), ["02-28", "03-31", "04-30", "05-31"]), (at(2028, 1, 30), ["02-29", "03-30", "04-30", "05-30"]),
    (at(2027, 12, 31), ["01-31", "02-29", "03-31", "04-30"]),
])  # fmt: skip
def test_short_months_do_not_move_the_day_for_good(anchor: int, expected: list[str]) -> None:
    """The examples of Stripe's own page on billing cycles, leap years among them."""
    found = [datetime.fromtimestamp(boundary(anchor, "month", 1, n), UTC).strftime("%m-%d") for n in range(1, 5)]

    assert found == expected


names = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
trees = st.recursive(
    texts,
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(names, inner, min_size=1, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(names, trees, max_size=4))
def test_what_the_sdk_writes_is_read_back(params: dict[str, object]) -> None:
    """Its own encoder and our parser are inverse to each other."""
    assert parse(urlencode(list(_api_encode(params)))) == params


@pytest.mark.parametrize("text", ["[a]=1", "a[b=1", "a[b]c=1", "a=1&a[b]=2", "a" + "[b]" * 20 + "=1"])
def test_a_malformed_name_is_refused(text: str) -> None:
    """With 400, not with a crash."""
    with pytest.raises(Refusal) as refused:
        parse(text)

    assert refused.value.status == 400


def test_a_form_refuses_what_nobody_read() -> None:
    """Deep inside too, by its full name."""
    form = Form(parse("a[b]=1&a[c]=2"))
    inner = form.section("a")
    assert inner is not None
    inner.text("b")

    with pytest.raises(Refusal) as refused:
        form.close()

    assert refused.value.error["param"] == "a[c]"
