"""The bound of a hold: nothing that a request can cost is above it."""

import statistics
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_usage import RECORDINGS, Recorded, recorded

from ownkey.domain import models
from ownkey.domain.bounds import (
    INPUT_MARGIN_TOKENS,
    ModelLimits,
    RequestShape,
    Terms,
    dearest_terms,
    estimate_input_tokens,
    estimate_output_limit,
    plan_terms,
)
from ownkey.domain.money import ceil_div, parse_usd_nusd
from ownkey.domain.pricing import ModelPrice, PriceBook, Rate, compute_cost_nusd
from ownkey.domain.usage import Usage
from ownkey.providers.prices import list_aliases, list_prices

TODAY = date(2026, 11, 22)
LIMITS = ModelLimits(context_window=200_000, max_output_tokens=64_000, byte_level=True, image_tokens=1_600)
PRICE = ModelPrice(
    "anthropic", "claude-test",
    rates={
        "input": (Rate(0, 3_000), Rate(200_001, 6_000)),
        "cache_read": (Rate(0, 300),),
        "cache_write_5m": (Rate(0, 3_750),),
        "cache_write_1h": (Rate(0, 6_000),),
        "output": (Rate(0, 15_000), Rate(200_001, 22_500)),
    },
)  # fmt: skip


def terms_of(shape: RequestShape, price: ModelPrice = PRICE, limits: ModelLimits = LIMITS, **more: object) -> Terms:
    options = {"output_limit": 1_000, "min_output": 256, "openrouter": False} | more
    terms = plan_terms(shape, price, limits, **options)  # type: ignore[arg-type]
    assert terms is not None
    return terms


class TestInput:
    def test_text_is_its_bytes_and_a_margin(self) -> None:
        """A byte-level tokenizer makes no more tokens than bytes; the provider's own prompt is in the margin."""
        actual = estimate_input_tokens(RequestShape(text_bytes=500), LIMITS)

        assert actual == 500 + INPUT_MARGIN_TOKENS

    def test_the_window_is_the_end(self) -> None:
        assert estimate_input_tokens(RequestShape(text_bytes=10**9), LIMITS) == 200_000

    def test_an_unknown_tokenizer_is_held_at_the_window(self) -> None:
        limits = ModelLimits(131_072, 8_192, byte_level=False, image_tokens=None)

        assert estimate_input_tokens(RequestShape(text_bytes=10), limits) == 131_072

    def test_what_is_beyond_text_is_held_at_the_window(self) -> None:
        shape = RequestShape(text_bytes=10, beyond_text=("file_id",))

        assert estimate_input_tokens(shape, LIMITS) == 200_000

    def test_images_count_by_the_table_and_not_by_their_bytes(self) -> None:
        shape = RequestShape(text_bytes=1_000_500, image_bytes=1_000_000, image_count=2)

        assert estimate_input_tokens(shape, LIMITS) == 500 + INPUT_MARGIN_TOKENS + 2 * 1_600

    def test_an_image_without_a_documented_maximum_is_held_at_the_window(self) -> None:
        limits = ModelLimits(128_000, 8_192, byte_level=True, image_tokens=None)

        assert estimate_input_tokens(RequestShape(text_bytes=500, image_count=1), limits) == 128_000


class TestOutput:
    @pytest.mark.parametrize(
        ("caller", "task", "expected"),
        [(100, 512, 100), (None, 512, 512), (None, None, 4_096), (10**6, None, 64_000), (0, None, 1)],
    )
    def test_the_caller_then_the_task_then_4096_and_never_above_the_model(
        self, caller: int | None, task: int | None, expected: int
    ) -> None:
        actual = estimate_output_limit(RequestShape(1, output_limit=caller), task, LIMITS)

        assert actual == expected

    def test_embeddings_write_nothing(self) -> None:
        limits = models.limits("openai", "openai/text-embedding-3-small", None)

        assert estimate_output_limit(RequestShape(1), None, limits) == 0


class TestPrices:
    def test_a_cache_write_counts_only_where_the_request_asks_for_it(self) -> None:
        asked = {
            kind: terms_of(RequestShape(0, cache_writes=kind)).input_npm // INPUT_MARGIN_TOKENS
            for kind in ("none", "5m", "1h")
        }

        assert asked == {"none": 3_000, "5m": 3_750, "1h": 6_000}

    def test_models_that_write_their_cache_unasked_are_held_at_that_price(self) -> None:
        price = ModelPrice(
            "openai", "gpt-6-luna",
            rates={"input": (Rate(0, 100),), "cache_write_5m": (Rate(0, 125),), "output": (Rate(0, 500),)},
        )  # fmt: skip

        actual = terms_of(RequestShape(0, cache_writes="none"), price)

        assert actual.input_npm == INPUT_MARGIN_TOKENS * 125

    def test_the_long_context_price_counts_only_where_the_input_can_reach_it(self) -> None:
        limits = ModelLimits(1_000_000, 64_000, byte_level=True, image_tokens=None)
        short = terms_of(RequestShape(100_000, cache_writes="none"), limits=limits)
        long = terms_of(RequestShape(200_000, cache_writes="none"), limits=limits)

        assert (short.output_npm_per_token, long.output_npm_per_token) == (15_000, 22_500)

    def test_answers_multiply_the_output_alone(self) -> None:
        one, three = terms_of(RequestShape(50)), terms_of(RequestShape(50, answers=3))

        assert three.output_npm_per_token == 3 * one.output_npm_per_token
        assert three.input_npm == one.input_npm

    def test_audio_in_counts_where_the_request_may_hold_some(self) -> None:
        price = ModelPrice(
            "google", "gemini-x",
            rates={"input": (Rate(0, 300),), "audio_input": (Rate(0, 1_000),), "output": (Rate(0, 1),)},
        )  # fmt: skip
        text = terms_of(RequestShape(0, cache_writes="none"), price)
        audio = terms_of(RequestShape(0, beyond_text=("input_audio",), cache_writes="none"), price)

        assert text.input_npm == 300 * INPUT_MARGIN_TOKENS
        assert audio.input_npm == 1_000 * LIMITS.context_window

    def test_fees_for_requests_and_images_are_added(self) -> None:
        price = ModelPrice("openrouter", "a/b", PRICE.rates, units={"request": 7, "image": 100})

        assert terms_of(RequestShape(10, image_count=3), price).extra_nusd == 307

    def test_openrouter_may_add_five_percent(self) -> None:
        direct, routed = terms_of(RequestShape(10)), terms_of(RequestShape(10), openrouter=True)

        assert routed.bound_nusd(1_000) == ceil_div(
            (direct.input_npm + 1_000 * direct.output_npm_per_token) * 105, 100 * 10**6
        )

    @pytest.mark.parametrize("tier", ["priority", "fast", "scale", "something new"])
    def test_a_service_tier_without_a_price_has_no_terms(self, tier: str) -> None:
        shape = RequestShape(10, service_tier=tier)

        assert plan_terms(shape, PRICE, LIMITS, output_limit=10, min_output=1, openrouter=False) is None

    def test_a_service_tier_with_a_price_is_held_at_it(self) -> None:
        price = ModelPrice(
            "openai", "gpt-x", {"input": (Rate(0, 10),), "output": (Rate(0, 20),)},
            service_tiers={"priority": {"input": (Rate(0, 18),), "output": (Rate(0, 36),)}},
        )  # fmt: skip

        assert terms_of(RequestShape(10, service_tier="priority"), price).output_npm_per_token == 36

    def test_a_model_without_an_output_price_can_only_be_used_without_output(self) -> None:
        price = ModelPrice("openai", "text-embedding-3-small", {"input": (Rate(0, 20),)})
        shape = RequestShape(10)

        assert plan_terms(shape, price, LIMITS, output_limit=1, min_output=1, openrouter=False) is None
        assert terms_of(shape, price, output_limit=0).bound_nusd(0) > 0

    def test_a_free_model_is_bounded_at_nothing(self) -> None:
        price = ModelPrice("openrouter", "a/b:free", {}, free=True)

        assert terms_of(RequestShape(10**6), price).bound_nusd(10**6) == 0

    def test_fallback_models_are_held_at_the_dearest(self) -> None:
        first = Terms(10, 5, (105, 100), 0, 100, 10)
        second = Terms(3, 9, (105, 100), 4, 50, 10)
        both = dearest_terms([first, second])

        assert all(both.bound_nusd(limit) >= one.bound_nusd(limit) for one in (first, second) for limit in (1, 50, 100))


CLASSES = ("input", "cache_read", "cache_write_5m", "cache_write_1h")
rate = st.integers(1, 10**12)


@st.composite
def priced(draw: st.DrawFn) -> ModelPrice:
    """Any sane price; a class may have none of its own, and a long-context tier may be dearer or cheaper."""
    rates: dict[str, tuple[Rate, ...]] = {}
    for dimension in (*CLASSES, "output", "reasoning"):
        if dimension in ("input", "output") or draw(st.booleans()):
            tiers = [Rate(0, draw(rate))]
            if draw(st.booleans()):
                tiers.append(Rate(draw(st.integers(1, 300_000)), draw(rate)))
            rates[dimension] = tuple(tiers)
    return ModelPrice("openai", "gpt-any", rates, units={"request": draw(st.integers(0, 10**7))})


@settings(max_examples=400, deadline=None)
@given(
    price=priced(), text=st.integers(0, 400_000), limit=st.integers(1, 64_000), answers=st.integers(1, 4),
    openrouter=st.booleans(), data=st.data(),
)  # fmt: skip
def test_no_usage_within_the_limits_costs_more_than_the_bound(
    price: ModelPrice, text: int, limit: int, answers: int, openrouter: bool, data: st.DataObject
) -> None:
    """M8: however the input splits into classes and the output into reasoning, the cost is at most the bound."""
    shape = RequestShape(text_bytes=text, answers=answers)
    terms = plan_terms(shape, price, LIMITS, output_limit=limit, min_output=1, openrouter=openrouter)
    assert terms is not None
    left = estimate_input_tokens(shape, LIMITS)
    counts: dict[str, Any] = {}
    for name in CLASSES:
        counts[name] = data.draw(st.integers(0, left))
        left -= counts[name]
    written = data.draw(st.integers(0, answers * limit))
    reasoning = data.draw(st.integers(0, written))
    cost = compute_cost_nusd(Usage(**counts, output=written - reasoning, reasoning=reasoning), price)

    assert cost is not None
    assert cost <= terms.bound_nusd(limit)


@settings(max_examples=500, deadline=None)
@given(
    terms=st.builds(
        Terms, input_npm=st.integers(0, 10**15), output_npm_per_token=st.integers(0, 10**11),
        factor=st.sampled_from([(1, 1), (105, 100)]), extra_nusd=st.integers(0, 10**8),
        output_limit=st.integers(1_000, 128_000), min_output=st.integers(1, 1_000),
    ),
    room=st.integers(-10, 10**12),
)  # fmt: skip
def test_fit_is_the_largest_limit_that_fits(terms: Terms, room: int) -> None:
    """A call is shrunk no further than it must be, and refused only if even the smallest answer does not fit."""
    fitted = terms.fit(room)
    if fitted is None:
        assert terms.bound_nusd(terms.min_output) > room
    else:
        assert terms.min_output <= fitted <= terms.output_limit
        assert terms.bound_nusd(fitted) <= room
        assert fitted == terms.output_limit or terms.bound_nusd(fitted + 1) > room


BOOK = PriceBook(1, "test", {(p.provider, p.model): p for p in list_prices(TODAY)}, list_aliases())


def bound_of(exchange: Recorded, output_limit: int | None = None) -> int | None:
    """The bound of a recorded request; None where a part of it has no price. The limit may be set for it."""
    found = []
    for name in (exchange.model, *exchange.shape().fallback_models):
        price = BOOK.find(exchange.provider, name)
        if price is None:
            return None
        limits = models.limits(exchange.provider, name, price)
        limit = 0 if exchange.embeds else output_limit or estimate_output_limit(exchange.shape(), None, limits)
        found.append(plan_terms(
            exchange.shape(), price, limits, output_limit=limit, min_output=1,
            openrouter=exchange.provider == "openrouter",
        ))  # fmt: skip
    if any(terms is None for terms in found):
        return None
    terms = dearest_terms([terms for terms in found if terms is not None])
    return terms.bound_nusd(terms.output_limit)


def cost_of(exchange: Recorded) -> int | None:
    if exchange.cost_usd is not None:
        return parse_usd_nusd(exchange.cost_usd)
    price = BOOK.find(exchange.provider, exchange.model)
    price = price.at_service_tier(exchange.shape().service_tier) if price else None
    return compute_cost_nusd(exchange.usage, price) if price else None


@pytest.mark.recorded
def test_recorded_usage_never_cost_more_than_its_bound(capsys: pytest.CaptureFixture[str]) -> None:
    """M8, recorded: every priced exchange of the recordings, with the caller's limit or ours."""
    if not RECORDINGS.is_dir():
        pytest.skip(f"recorded traffic is absent: {RECORDINGS}")
    above, checked, as_sent, as_written, answered = [], 0, [], [], []
    for exchange in recorded():
        bound, cost = bound_of(exchange), cost_of(exchange)
        if not exchange.boundable or bound is None or cost is None:
            continue
        checked += 1
        if cost > bound:
            above.append((exchange.name, exchange.model, cost, bound))
        shape = exchange.shape()
        if cost and exchange.usage.total_input < 2_000 and not shape.beyond_text and not shape.image_count:
            as_sent.append(bound / cost)
            as_written.append((bound_of(exchange, max(1, exchange.usage.total_output)) or 0) / cost)
            if not exchange.embeds:
                answered.append(as_written[-1])
    sent, written = statistics.median(as_sent), statistics.median(as_written)
    with capsys.disabled():
        print(
            f"\nrecorded bounds: {checked} exchanges; bound/actual of {len(as_sent)} short calls, median: "
            f"{sent:.1f} with the limits as sent (4,096 where none), {written:.3f} with limits as long as the answers "
            f"({statistics.median(answered):.3f} of the {len(answered)} that are no embeddings)"
        )

    assert above == []
    assert checked > 300
    assert written <= 6
