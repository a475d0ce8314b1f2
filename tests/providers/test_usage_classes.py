"""Counters that say where sound came from, in disjoint classes. All reconstructed: few recordings hold any."""

from typing import Any

import msgspec
import pytest

from ownkey.dialects.openai_answer import usage_fields
from ownkey.domain.pricing import ModelPrice, PriceBook, Rate, compute_cost_nusd
from ownkey.domain.receipts import add_usage
from ownkey.domain.usage import Usage
from ownkey.providers.google.usage import usage_of
from ownkey.providers.openai_chunks import read_usage


def of_kind(kind: str, tokens: int) -> list[dict[str, Any]]:
    return [{"modality": "TEXT", "tokenCount": 1}, {"modality": kind, "tokenCount": tokens}]


def test_google_tells_cached_sound_and_what_tools_brought_apart() -> None:
    """reconstructed: each token once, together the total."""
    usage = usage_of({
        "promptTokenCount": 100, "promptTokensDetails": of_kind("AUDIO", 60), "cachedContentTokenCount": 50,
        "cacheTokensDetails": of_kind("AUDIO", 40), "toolUsePromptTokenCount": 9,
        "toolUsePromptTokensDetails": of_kind("AUDIO", 2), "candidatesTokenCount": 7, "thoughtsTokenCount": 3,
        "totalTokenCount": 119,
    })  # fmt: skip

    assert usage == Usage(
        input=100 - 50 - 20 + 9 - 2, cache_read=10, audio_cache_read=40, audio_input=20 + 2, output=7, reasoning=3
    )
    assert usage.total_input + usage.total_output == 119


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"cached_tokens": 30, "audio_tokens": 50}, Usage(input=20, cache_read=30, audio_input=50)),
        ({"cached_tokens": 80, "audio_tokens": 50}, Usage(cache_read=50, audio_cache_read=30, audio_input=20)),
        ({"cached_tokens": 30, "audio_tokens": 50, "cached_tokens_details": {"audio_tokens": 10}},
         Usage(input=30, cache_read=20, audio_cache_read=10, audio_input=40)),
        ({"cached_tokens": 30, "audio_tokens": 50, "cached_tokens_details": {"audio_tokens": 99}},
         Usage(input=50, audio_cache_read=30, audio_input=20)),
        ({"cached_tokens": 100, "audio_tokens": 100}, Usage(audio_cache_read=100)),
    ],
    ids=["reconstructed-beside", "reconstructed-must-overlap", "stated-reconstructed", "absurd-reconstructed",
         "all-reconstructed"],
)  # fmt: skip
def test_openais_cached_sound_is_what_it_says_or_what_must_overlap(details: dict[str, Any], expected: Usage) -> None:
    report = {"prompt_tokens": 100, "completion_tokens": 0, "prompt_tokens_details": details}
    usage = read_usage(msgspec.Raw(msgspec.json.encode(report)))

    assert usage == expected
    assert usage is not None
    assert usage.total_input == 100


def test_what_is_written_for_a_caller_reads_back_the_same() -> None:
    """reconstructed: the classes survive OpenAI's nested shape."""
    usage = Usage(input=5, cache_read=6, audio_cache_read=7, audio_input=8, output=9, reasoning=10, audio_output=11)

    assert read_usage(msgspec.Raw(msgspec.json.encode(usage_fields(usage)))) == usage


def price(model: str, **rates: int) -> ModelPrice:
    return ModelPrice("anthropic", model, {name: (Rate(0, rate * 10**6),) for name, rate in rates.items()})


def test_work_counted_apart_is_paid_at_its_models_price_or_unknown() -> None:
    """reconstructed: "" is the answering model itself; a helper without a price makes the whole unknown."""
    own, other = price("a", input=1, output=2), price("b", input=100, output=200)
    book = PriceBook(1, "test", {("anthropic", "b"): other})
    compacted = Usage(input=1, output=1, others=(("", Usage(input=10)),))
    advised = Usage(input=1, output=1, others=(("b", Usage(input=2, output=1)),))

    assert compute_cost_nusd(compacted, own) == 3 + 10
    assert compute_cost_nusd(advised, own, lambda model: book.find("anthropic", model)) == 3 + 400
    assert compute_cost_nusd(advised, own) is None
    assert compute_cost_nusd(Usage(others=(("c", Usage(input=1)),)), own, lambda model: None) is None


def test_sums_of_attempts_keep_every_class() -> None:
    """reconstructed: what other models did is added model by model."""
    one = Usage(audio_cache_read=1, others=(("b", Usage(input=2)),))
    two = Usage(audio_cache_read=2, others=(("a", Usage(output=4)), ("b", Usage(input=3))))

    assert add_usage([one, two]) == Usage(audio_cache_read=3, others=(("a", Usage(output=4)), ("b", Usage(input=5))))


def test_cached_sound_has_a_price_of_its_own_and_counts_for_the_tier() -> None:
    """reconstructed: without one it costs what other cached input costs."""
    own, usage = price("a", input=4, cache_read=1, audio_cache_read=3), Usage(audio_cache_read=10)

    assert compute_cost_nusd(usage, own) == 30
    assert compute_cost_nusd(usage, price("a", input=4, cache_read=1)) == 10
    assert compute_cost_nusd(usage, price("a", input=4)) == 40
    assert usage.total_input == 10
