"""Model names: slug, native id, and what is known of a family."""

from datetime import date

import pytest

from ownkey.domain.models import (
    BATCH_CONTEXT_TOKENS,
    UNKNOWN_CONTEXT_TOKENS,
    direct_provider,
    limits,
    native_id,
    normalize_requested,
    requested_native,
    split_slug,
)
from ownkey.domain.pricing import ModelPrice, PriceBook
from ownkey.providers.prices import list_aliases, list_prices
from ownkey.settings.product import PRESETS, preset_models

TODAY = date(2026, 11, 22)
BOOK = PriceBook(1, "test", {(p.provider, p.model): p for p in list_prices(TODAY)}, list_aliases())
SHIPPED = sorted({model for preset in PRESETS for model in preset_models(preset)})


@pytest.mark.parametrize(
    ("slug", "expected"),
    [
        ("openai/gpt-4.1-mini", ("openai", "gpt-4.1-mini", "")),
        ("a/b:free", ("a", "b", "free")),
        ("gpt-4.1", ("", "gpt-4.1", "")),
        ("~anthropic/claude-haiku-latest", ("~anthropic", "claude-haiku-latest", "")),
    ],
)
def test_a_slug_is_author_name_and_variant(slug: str, expected: tuple[str, str, str]) -> None:
    assert split_slug(slug) == expected


@pytest.mark.parametrize(
    ("slug", "expected"),
    [
        ("anthropic/claude-haiku-4.5", ("anthropic", "claude-haiku-4-5")),
        ("anthropic/claude-opus-5", ("anthropic", "claude-opus-5")),
        ("anthropic/claude-sonnet-4", ("anthropic", "claude-sonnet-4-0")),
        ("anthropic/claude-3.5-haiku", ("anthropic", "claude-3-5-haiku-latest")),
        ("anthropic/claude-haiku-4.5-20251001", ("anthropic", "claude-haiku-4-5-20251001")),
        ("openai/gpt-4.1-mini", ("openai", "gpt-4.1-mini")),
        ("openai/gpt-5-chat", ("openai", "gpt-5-chat-latest")),
        ("openai/o4-mini", ("openai", "o4-mini")),
        ("openai/text-embedding-3-small", ("openai", "text-embedding-3-small")),
        ("google/gemini-2.5-flash", ("google", "gemini-2.5-flash")),
        ("google/gemma-3-27b-it", ("google", "gemma-3-27b-it")),
    ],
)
def test_a_native_id_follows_from_the_slug(slug: str, expected: tuple[str, str]) -> None:
    assert native_id(slug, {}) == expected
    assert direct_provider(slug) == expected[0]


@pytest.mark.parametrize(
    "slug",
    [
        "anthropic/claude-opus-4.6-fast", "anthropic/claude-4.5-haiku-20251001", "openai/gpt-oss-120b",
        "openai/o4-mini-high", "openai/gpt-6-astra-pro", "openai/gpt-5-image", "google/gemma-3n-e4b",
        "google/palm-2-chat-bison", "google/lyria-3-pro-preview", "google/gemini-2.5-flash-image",
        "openai/gpt-4.1:batch", "anthropic/claude-3.7-sonnet:thinking", "openai/gpt-5:nitro", "openai/gpt-5:floor",
        "openai/gpt-5:online", "openai/gpt-5:exacto", "google/gemini-2.5-pro:free",
        "~anthropic/claude-sonnet-latest", "~openai/gpt-latest", "openrouter/auto", "meta-llama/llama-3.3-70b-instruct",
        "x-ai/grok-4", "gpt-4.1", "", "/", "openai/", "anthropic/claude",
    ],
)  # fmt: skip
def test_others_go_to_openrouter_only(slug: str) -> None:
    assert native_id(slug, {}) is None


def test_the_configuration_decides_first() -> None:
    ids = {"anthropic": {"anthropic/claude-x": "claude-x-preview"}, "openai": {"openai/gpt-4.1": ""}}

    assert native_id("anthropic/claude-x", ids) == ("anthropic", "claude-x-preview")
    assert native_id("openai/gpt-4.1", ids) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-4.1-mini", "openai/gpt-4.1-mini"),
        ("gpt-4.1-mini-2025-04-14", "openai/gpt-4.1-mini"),
        ("gpt-4o-2024-05-13", "openai/gpt-4o-2024-05-13"),
        ("gpt-5-chat-latest", "openai/gpt-5-chat"),
        ("o3", "openai/o3"),
        ("text-embedding-3-small", "openai/text-embedding-3-small"),
        ("claude-sonnet-4-5", "anthropic/claude-sonnet-4.5"),
        ("claude-haiku-4-5-20251001", "anthropic/claude-haiku-4.5"),
        ("claude-opus-4-0", "anthropic/claude-opus-4"),
        ("claude-opus-4-20250514", "anthropic/claude-opus-4"),
        ("claude-3-5-sonnet-latest", "anthropic/claude-3.5-sonnet"),
        ("claude-3-haiku-20240307", "anthropic/claude-3-haiku"),
        ("claude-opus-5", "anthropic/claude-opus-5"),
        ("gemini-2.5-flash", "google/gemini-2.5-flash"),
        ("models/gemini-2.5-flash", "google/gemini-2.5-flash"),
        ("anthropic/claude-sonnet-4.5", "anthropic/claude-sonnet-4.5"),
        ("meta-llama/llama-3.3-70b-instruct:free", "meta-llama/llama-3.3-70b-instruct:free"),
        ("nobody/ever-heard-of", "nobody/ever-heard-of"),
        ("my-model", None),
        ("", None),
        ("/", None),
        ("ft:gpt-4o-mini:org::id", None),
    ],
)
def test_callers_may_name_native_ids(name: str, expected: str | None) -> None:
    """X8: an official SDK's own model name works as it stands."""
    assert normalize_requested(name) == expected


def test_a_dated_native_id_stays_itself_on_the_direct_route() -> None:
    assert requested_native("claude-haiku-4-5-20251001") == ("anthropic", "claude-haiku-4-5-20251001")
    assert requested_native("models/gemini-2.5-flash") == ("google", "gemini-2.5-flash")
    assert requested_native("anthropic/claude-haiku-4.5") is None


@pytest.mark.parametrize("slug", SHIPPED)
def test_a_native_id_leads_back_to_its_slug(slug: str) -> None:
    native = native_id(slug, {})

    assert native is not None
    assert normalize_requested(native[1]) == slug


@pytest.mark.parametrize("slug", SHIPPED)
def test_both_ids_of_a_shipped_model_have_one_list_price(slug: str) -> None:
    """Else a route would be cheaper only because its name was mapped to another model."""
    native = native_id(slug, {})
    assert native is not None
    routed, direct = BOOK.find("openrouter", slug), BOOK.find(*native)
    assert routed is not None
    assert direct is not None
    for dimension in ("input", "output", "cache_read"):
        assert routed.rates.get(dimension) == direct.rates.get(dimension)


class TestLimits:
    def test_a_window_is_never_below_the_families_own(self) -> None:
        """The list rounds GPT-4.1's window down; a bound at the rounded window would be too low."""
        price = ModelPrice("openai", "gpt-4.1", {}, context_window=1_000_000)

        assert limits("openai", "openai/gpt-4.1", price).context_window == 1_047_576

    def test_a_longer_listed_window_counts(self) -> None:
        price = ModelPrice("openrouter", "google/gemini-2.5-pro", {}, context_window=2_000_000)

        assert limits("openrouter", "google/gemini-2.5-pro", price).context_window == 2_000_000

    def test_slug_and_native_id_have_the_same_limits(self) -> None:
        for slug in SHIPPED:
            native = native_id(slug, {})
            assert native is not None
            assert limits(native[0], native[1], None) == limits("openrouter", slug, None)

    @pytest.mark.parametrize(
        ("slug", "output", "image"),
        [
            ("anthropic/claude-3.5-haiku", 8_192, 1_760), ("anthropic/claude-3-haiku", 4_096, 1_760),
            ("anthropic/claude-opus-4", 32_000, 1_760), ("anthropic/claude-opus-4.1", 32_000, 1_760),
            ("anthropic/claude-haiku-4.5", 64_000, 1_760), ("anthropic/claude-opus-4.6", 128_000, 1_760),
            ("anthropic/claude-opus-4.7", 128_000, 5_263), ("anthropic/claude-opus-5.5", 128_000, 5_263),
            ("openai/gpt-4o", 16_384, 1_445), ("openai/gpt-4o-mini", 16_384, 48_169), ("openai/o3", 100_000, 1_275),
            ("openai/gpt-5", 128_000, 1_190), ("openai/gpt-5.4", 128_000, None), ("openai/gpt-6-luna", 128_000, None),
            ("google/gemini-2.5-flash", 65_536, None), ("google/gemini-3.8-flash", 65_536, 2_240),
        ],
    )  # fmt: skip
    def test_slug_and_native_id_are_in_one_family(self, slug: str, output: int, image: int | None) -> None:
        native = native_id(slug, {})
        assert native is not None
        for known in (limits("openrouter", slug, None), limits(native[0], native[1], None)):
            assert (known.max_output_tokens, known.image_tokens) == (output, image)

    def test_an_unknown_model_is_held_at_the_largest_window(self) -> None:
        actual = limits("openrouter", "nobody/ever-heard-of", None)

        assert (actual.context_window, actual.byte_level, actual.image_tokens) == (UNKNOWN_CONTEXT_TOKENS, False, None)

    def test_an_embedding_request_is_a_batch(self) -> None:
        actual = limits("openai", "openai/text-embedding-3-small", ModelPrice("openai", "x", {}, context_window=8_192))

        assert (actual.context_window, actual.max_output_tokens) == (BATCH_CONTEXT_TOKENS, 0)

    @pytest.mark.parametrize(
        ("slug", "byte_level"),
        [
            ("anthropic/claude-haiku-4.5", True), ("openai/gpt-5", True), ("google/gemini-2.5-pro", True),
            ("meta-llama/llama-3.3-70b-instruct", True), ("qwen/qwen3-32b", True), ("mistralai/mistral-nemo", True),
            ("x-ai/grok-4", False), ("google/palm-2-chat-bison", False), ("cohere/command-r", False),
        ],
    )  # fmt: skip
    def test_only_known_tokenizers_are_bounded_by_bytes(self, slug: str, byte_level: bool) -> None:
        assert limits("openrouter", slug, None).byte_level is byte_level
