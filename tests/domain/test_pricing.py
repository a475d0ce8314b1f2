"""Prices: what usage costs, which version's price holds, and what is not believed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownkey.domain.pricing import (
    OPERATOR,
    ModelPrice,
    PriceBook,
    PriceList,
    Rate,
    check_price,
    compute_cost_nusd,
    is_suspicious_change,
    merge_prices,
    price_from_json,
    price_to_json,
)
from ownkey.domain.usage import Usage

M = 10**6


def flat(provider: str = "openai", model: str = "m", source: str = "list", **rates: int) -> ModelPrice:
    return ModelPrice(provider, model, {name: (Rate(0, amount),) for name, amount in rates.items()}, source=source)


class TestCost:
    def test_it_is_rounded_up_once(self) -> None:
        """Two classes of half a nano-dollar are one, not two."""
        price = flat(input=500_000, output=500_000)

        assert compute_cost_nusd(Usage(input=1, output=1), price) == 1

    def test_classes_are_billed_apart(self) -> None:
        price = flat(
            input=1 * M, cache_read=2 * M, cache_write_5m=3 * M, cache_write_1h=4 * M, output=5 * M, reasoning=6 * M
        )
        usage = Usage(input=1, cache_read=1, cache_write_5m=1, cache_write_1h=1, output=1, reasoning=1)

        assert compute_cost_nusd(usage, price) == 21

    def test_a_class_without_a_price_is_billed_as_what_it_is_part_of(self) -> None:
        price = flat(input=1 * M, output=5 * M)
        usage = Usage(cache_read=1, cache_write_5m=1, cache_write_1h=1, reasoning=1, audio_input=1, audio_output=1)

        assert compute_cost_nusd(usage, price) == 4 * 1 + 2 * 5

    def test_a_tier_holds_for_every_token_once_it_is_reached(self) -> None:
        price = ModelPrice(
            "a", "b", {"input": (Rate(0, M), Rate(200_001, 2 * M)), "output": (Rate(0, M), Rate(200_001, 3 * M))}
        )

        assert compute_cost_nusd(Usage(input=200_000, output=1), price) == 200_001
        assert compute_cost_nusd(Usage(input=1, cache_read=200_000, output=1), price) == 2 * 200_001 + 3

    def test_unknown_is_unknown_and_never_0(self) -> None:
        assert compute_cost_nusd(Usage(output=1), flat(input=M)) is None
        assert compute_cost_nusd(Usage(units=(("web_search", 1),)), flat(input=M)) is None

    def test_free_is_0(self) -> None:
        assert compute_cost_nusd(Usage(input=9, output=9), ModelPrice("openrouter", "a:free", {}, free=True)) == 0

    @given(
        counts=st.lists(st.integers(0, 10**9), min_size=8, max_size=8),
        rates=st.lists(st.integers(1, 10**13), min_size=2, max_size=2),
    )
    def test_more_tokens_never_cost_less(self, counts: list[int], rates: list[int]) -> None:
        names = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning", "audio_input",
                 "audio_output")  # fmt: skip
        price = flat(input=rates[0], output=rates[1])
        half: dict[str, Any] = {name: n // 2 for name, n in zip(names, counts, strict=True)}
        whole: dict[str, Any] = dict(zip(names, counts, strict=True))
        less, more = compute_cost_nusd(Usage(**half), price), compute_cost_nusd(Usage(**whole), price)

        assert less is not None
        assert more is not None
        assert less <= more


class TestServiceTiers:
    PRICE = ModelPrice(
        "openai", "gpt-x", {"input": (Rate(0, 10),), "cache_read": (Rate(0, 1),), "output": (Rate(0, 20),)},
        service_tiers={"priority": {"input": (Rate(0, 18),), "output": (Rate(0, 36),)}},
    )  # fmt: skip

    @pytest.mark.parametrize("tier", [None, "auto", "default", "standard_only"])
    def test_the_usual_service_costs_the_list_price(self, tier: str | None) -> None:
        assert self.PRICE.at_service_tier(tier) is self.PRICE

    def test_a_listed_tier_replaces_what_it_lists(self) -> None:
        at_tier = self.PRICE.at_service_tier("priority")

        assert at_tier is not None
        assert (at_tier.rate("input", 1), at_tier.rate("cache_read", 1), at_tier.rate("output", 1)) == (18, 1, 36)
        assert at_tier.at_service_tier("priority") == at_tier

    def test_a_discount_without_a_price_is_bounded_by_the_list_price(self) -> None:
        assert self.PRICE.at_service_tier("flex") is self.PRICE

    def test_an_unknown_tier_is_unknown(self) -> None:
        assert self.PRICE.at_service_tier("scale") is None


class TestFind:
    BOOK = PriceBook(
        1, "test",
        {(p.provider, p.model): p for p in (
            flat("openai", "gpt-4o", input=25), flat("openai", "gpt-4o-2024-05-13", input=50),
            flat("anthropic", "claude-haiku-4-5", input=10), flat("openrouter", "openai/gpt-4o", input=26),
            flat("openrouter", "a/b:free", input=1),
        )},
        {("anthropic", "claude-4-5-haiku"): "claude-haiku-4-5", ("openai", "gone"): "not-listed"},
    )  # fmt: skip

    @pytest.mark.parametrize(
        ("provider", "model", "found"),
        [
            ("openai", "gpt-4o", "gpt-4o"),
            ("openai", "gpt-4o-2024-11-20", "gpt-4o"),
            ("openai", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
            ("anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5"),
            ("anthropic", "claude-4-5-haiku", "claude-haiku-4-5"),
            ("anthropic", "claude-4-5-haiku-20251001", "claude-haiku-4-5"),
            ("openrouter", "openai/gpt-4o:nitro", "openai/gpt-4o"),
            ("openrouter", "openai/gpt-4o:online", None),
            ("openrouter", "openai/gpt-4o:free", None),
            ("openrouter", "a/b", None),
            ("openai", "gpt-4o:nitro", None),
            ("openai", "gpt-4", None),
            ("openai", "gone", None),
            ("google", "gpt-4o", None),
        ],
    )
    def test_aliases_dates_and_host_variants_have_their_models_price(
        self, provider: str, model: str, found: str | None
    ) -> None:
        actual = self.BOOK.find(provider, model)

        assert (actual.model if actual else None) == found


class TestSanity:
    @pytest.mark.parametrize(
        "price",
        [
            flat(input=-1),
            flat(input=10_001 * 10**9),
            flat(input=0),
            flat(input=1, output=0),
            flat(inptu=1),
            ModelPrice("a", "b", {"input": ()}),
            ModelPrice("a", "b", {"input": (Rate(5, 1),)}),
            ModelPrice("a", "b", {"input": (Rate(0, 1), Rate(9, 2), Rate(9, 3))}),
            ModelPrice("a", "b", {"input": (Rate(0, 1),)}, units={"request": -1}),
            ModelPrice("a", "b", {"input": (Rate(0, 1),)}, units={"request": 101 * 10**9}),
            ModelPrice("a", "b", {"input": (Rate(0, 1),)}, free=True),
            ModelPrice("a", "b", {"input": (Rate(0, 1),)}, service_tiers={"priority": {"input": (Rate(0, -1),)}}),
        ],
    )
    def test_an_insane_price_is_named(self, price: ModelPrice) -> None:
        sentence = check_price(price)

        assert sentence is not None
        assert sentence.startswith(f"{price.provider} {price.model}")

    def test_a_sane_one_is_not(self) -> None:
        assert check_price(flat(input=10_000 * 10**9, output=1, cache_read=0)) is None
        assert check_price(ModelPrice("a", "b:free", {"input": (Rate(0, 0),)}, free=True)) is None

    @pytest.mark.parametrize(("before", "after", "suspicious"), [(10, 50, False), (10, 51, True), (51, 10, True)])
    def test_more_than_five_times_waits_for_an_operator(self, before: int, after: int, suspicious: bool) -> None:
        for dimension in ("input", "output", "cache_read"):
            old, new = (ModelPrice("a", "b", {dimension: (Rate(0, amount),)}) for amount in (before, after))
            assert is_suspicious_change(old, new) is suspicious

    def test_to_free_and_from_free_wait_too(self) -> None:
        paid, free = flat(input=1), ModelPrice("openai", "m", {}, free=True)

        assert is_suspicious_change(paid, free)
        assert is_suspicious_change(free, paid)


class TestMerge:
    def test_the_first_source_that_knows_a_model_wins(self) -> None:
        mine = flat("openrouter", "a/b", OPERATOR, input=1)
        live = PriceList((flat("openrouter", "a/b", "live", input=2), flat("openrouter", "a/c", "live", input=2)))
        shipped = PriceList(tuple(flat("openrouter", f"a/{n}", "shipped", input=3) for n in "bcd"))

        merged = merge_prices([mine], [live, shipped], None)

        assert {price.model: price.source for price in merged.prices} == {
            "a/b": OPERATOR, "a/c": "live", "a/d": "shipped",
        }  # fmt: skip

    def test_an_insane_price_gives_way_to_the_next_source(self) -> None:
        live, shipped = PriceList((flat(input=0),)), PriceList((flat(input=3),))

        merged = merge_prices([], [live, shipped], None)

        assert [price.dearest("input") for price in merged.prices] == [3]
        assert len(merged.held_back) == 1

    def test_a_jump_keeps_the_current_price_and_is_reported(self) -> None:
        book = PriceBook(1, "x", {("openai", "m"): flat(input=10)})

        merged = merge_prices([], [PriceList((flat(input=100),))], book)

        assert [price.dearest("input") for price in merged.prices] == [10]
        assert "5x" in merged.held_back[0]

    def test_the_operators_own_price_is_taken_and_given_up_as_it_is(self) -> None:
        book = PriceBook(1, "x", {("openai", "m"): flat(source=OPERATOR, input=10)})

        taken = merge_prices([flat(source=OPERATOR, input=1_000)], [], book)
        given_up = merge_prices([], [PriceList((flat(input=1_000),))], book)

        assert taken.prices[0].dearest("input") == given_up.prices[0].dearest("input") == 1_000
        assert taken.held_back == given_up.held_back == ()

    def test_an_alias_without_a_model_is_dropped(self) -> None:
        listed = PriceList((flat(input=1),), {("openai", "x"): "m", ("openai", "y"): "gone", ("openai", "m"): "z"})

        assert merge_prices([], [listed], None).aliases == {("openai", "x"): "m"}


def test_a_price_survives_storage() -> None:
    price = ModelPrice(
        "openai", "gpt-x", {"input": (Rate(0, 1), Rate(272_001, 2))}, {"request": 3}, False, 4, 5, "s",
        {"priority": {"input": (Rate(0, 9),)}},
    )  # fmt: skip

    assert price_from_json(price_to_json(price)) == price
    assert price_from_json(price_to_json(flat(input=1))) == flat(input=1)
