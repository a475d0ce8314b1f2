"""List prices: the package's and OpenRouter's, to the last digit."""

import itertools
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage as ListedUsage
from genai_prices import calc_price

from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.domain.models import native_id
from ownkey.domain.pricing import ModelPrice, PriceBook, Rate, check_price, compute_cost_nusd
from ownkey.domain.usage import Usage
from ownkey.providers.prices import (
    ListedPrices,
    list_aliases,
    list_prices,
    openrouter_aliases,
    parse_openrouter_endpoints,
    parse_openrouter_models,
    resolve,
)
from ownkey.settings.product import PRESETS, preset_models

TODAY = date(2026, 11, 22)
PRICES = {(price.provider, price.model): price for price in list_prices(TODAY)}
BOOK = PriceBook(1, "test", PRICES, list_aliases())
SHIPPED = sorted({model for preset in PRESETS for model in preset_models(preset)})
ROUTES = sorted(
    {("openrouter", slug) for slug in SHIPPED if "embedding" not in slug}
    | {native for slug in SHIPPED if (native := native_id(slug, {})) is not None}
)


def listed_cost_nusd(provider: str, model: str, usage: Usage) -> Decimal:
    """What the package says, as an exact decimal of nano-USD."""
    price = calc_price(
        ListedUsage(
            input_tokens=usage.total_input, cache_read_tokens=usage.cache_read,
            cache_write_tokens=usage.cache_write_5m + usage.cache_write_1h,
            cache_write_1h_tokens=usage.cache_write_1h, output_tokens=usage.output,
        ),
        model_ref=model, provider_id=provider,
        genai_request_timestamp=datetime.combine(TODAY, time(12), UTC),
    )  # fmt: skip
    return price.total_price * 10**9


@pytest.mark.parametrize(("provider", "model"), ROUTES)
def test_costs_equal_the_packages_on_a_grid_of_usages(provider: str, model: str) -> None:
    """T26: tokens × the published rate, per class and tier, rounded up to a whole nano-dollar."""
    price = BOOK.find(provider, model)
    assert price is not None
    writes = (0, 3) if provider == "anthropic" else (0,)
    for fresh, read, write, hour, output in itertools.product(
        (0, 1, 999, 150_000, 250_001), (0, 1, 60_000), writes, writes, (0, 1, 8_191)
    ):
        if output and "output" not in price.rates:
            continue
        usage = Usage(input=fresh, cache_read=read, cache_write_5m=write, cache_write_1h=hour, output=output)
        if read and "cache_read" not in price.rates:
            continue
        exact = listed_cost_nusd(provider, model, usage)
        actual = compute_cost_nusd(usage, price)

        assert actual is not None
        assert exact <= actual < exact + 1


def test_every_listed_price_is_sane() -> None:
    assert [check_price(price) for price in PRICES.values() if check_price(price)] == []
    assert {provider for provider, _ in PRICES} == {"openrouter", "openai", "anthropic", "google"}
    assert len(PRICES) > 800


def test_a_price_holds_from_its_start_date() -> None:
    def price(day: date) -> int | None:
        listed = {(price.provider, price.model): price for price in list_prices(day)}
        return listed["google", "gemini-4-argon"].dearest("input")

    assert price(date(2026, 11, 30)) == 2 * 10**9
    assert price(date(2026, 12, 1)) == 4 * 10**9


def test_a_tier_begins_above_the_packages_start() -> None:
    price = PRICES["anthropic", "claude-sonnet-4-5"]

    assert price.rates["input"] == (Rate(0, 3 * 10**9), Rate(200_001, 6 * 10**9))


def test_cached_sound_fast_answers_and_file_searches_have_prices_of_their_own() -> None:
    gemini, claude = PRICES["google", "gemini-2.5-flash"], PRICES["anthropic", "claude-opus-4-8"]

    assert gemini.rates["audio_cache_read"] == (Rate(0, 10**8),)
    assert gemini.rates["cache_read"] == (Rate(0, 3 * 10**7),)
    assert claude.service_tiers["fast"]["input"][0].nusd_per_million > claude.rates["input"][0].nusd_per_million
    assert PRICES["openai", "gpt-5-mini"].units == {"web_search": 10**7, "file_search": 25 * 10**5}


def test_service_tiers_are_listed_and_batch_is_not() -> None:
    price = PRICES["openai", "gpt-5-mini"]

    assert set(price.service_tiers) == {"flex", "priority", "fast"}
    assert price.service_tiers["flex"]["input"] == (Rate(0, 125 * 10**6),)
    assert not any(model.endswith(":batch") for _, model in PRICES)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-image-1"), ("openai", "whisper-1"), ("openai", "gpt-realtime"), ("openai", "o3-deep-research"),
        ("openai", "gpt-4o-audio-preview"), ("google", "gemini-2.5-flash-image"), ("google", "claude-sonnet-4-5"),
        ("openrouter", "perplexity/sonar"), ("openrouter", "openai/gpt-audio"),
        ("openrouter", "google/gemini-2.5-flash-image"), ("openrouter", "openai/gpt-4o-search-preview"),
    ],
)  # fmt: skip
def test_what_tokens_cannot_price_has_no_price(provider: str, model: str) -> None:
    assert BOOK.find(provider, model) is None


def test_pictures_that_a_direct_embedding_cannot_hold_do_not_make_it_unpriced() -> None:
    """Google's newer model embeds pictures and films as well, at prices of their own; Ownkey sends it texts."""
    price = BOOK.find("google", "gemini-embedding-2")

    assert price is not None
    assert price.rates["input"] == (Rate(0, 200_000_000),)


def test_openrouters_embeddings_take_the_makers_price() -> None:
    slug = "text-embedding-3-small"

    assert PRICES["openrouter", f"openai/{slug}"].rates == PRICES["openai", slug].rates


def test_a_cache_write_is_whole_on_openrouters_route() -> None:
    """OpenRouter lists Gemini's storage alone, and mostly no hour for Claude; both are billed in full."""
    gemini, claude = PRICES["openrouter", "google/gemini-2.5-flash"], PRICES["openrouter", "anthropic/claude-haiku-4.5"]

    assert gemini.dearest("cache_write_5m") == 300_000_000 + 83_333_334
    assert claude.dearest("cache_write_1h") == 2 * 10**9


@pytest.mark.parametrize(
    ("provider", "model", "listed"),
    [
        ("anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("anthropic", "claude-3-5-haiku-20241022", "claude-3-5-haiku-latest"),
        ("anthropic", "claude-sonnet-4-0", "claude-sonnet-4-0"),
        ("openai", "gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
        ("openai", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("google", "gemini-2.0-flash-001", "gemini-2.0-flash"),
        ("google", "gemini-2.5-pro-preview-03-25", "gemini-2.5-pro"),
        ("openrouter", "anthropic/claude-haiku-4-5", "anthropic/claude-haiku-4.5"),
        ("openrouter", "anthropic/claude-4.5-haiku-20251001", "anthropic/claude-haiku-4.5"),
    ],
)
def test_other_names_find_the_price_without_the_package(provider: str, model: str, listed: str) -> None:
    """A version must price a call the same way for ever, so the names are data in it."""
    found = BOOK.find(provider, model)

    assert found is not None
    assert found.model == listed
    if provider != "openrouter":
        assert resolve(provider, model) == listed


def entry(slug: str = "a/b", **pricing: object) -> dict[str, Any]:
    return {
        "id": slug, "canonical_slug": f"{slug}-20250101", "context_length": 131_072,
        "architecture": {"output_modalities": ["text"]},
        "pricing": {"prompt": "0.0000003", "completion": "0.0000025", **pricing},
        "top_provider": {"max_completion_tokens": 8_192},
    }  # fmt: skip


def parse_one(one: dict[str, Any]) -> ModelPrice | None:
    return next(iter(parse_openrouter_models(json.dumps({"data": [one]}).encode())), None)


class TestOpenRouter:
    def test_usd_per_token_becomes_nano_usd_per_million(self) -> None:
        price = parse_one(entry(request="0.005", image="0.0012", input_cache_read="0.00000003"))

        assert price == ModelPrice(
            "openrouter", "a/b",
            {
                "input": (Rate(0, 300_000_000),), "output": (Rate(0, 2_500_000_000),),
                "cache_read": (Rate(0, 30_000_000),),
            },
            {"request": 5_000_000, "image": 1_200_000}, False, 131_072, 8_192, "openrouter",
        )  # fmt: skip

    def test_a_json_number_is_read_by_its_digits(self) -> None:
        body = json.dumps({"data": [entry()]}).replace('"0.0000003"', "0.00000030000000000000001")

        assert parse_openrouter_models(body.encode())[0].dearest("input") == 300_000_001

    def test_a_longer_fraction_is_rounded_up(self) -> None:
        price = parse_one(entry(prompt="0.00000008333333333333334"))

        assert price is not None
        assert price.dearest("input") == 83_333_334

    def test_zeros_mean_not_priced_apart(self) -> None:
        price = parse_one(entry(internal_reasoning="0", input_cache_read="0", web_search="0", image="0"))

        assert price is not None
        assert set(price.rates) == {"input", "output"}
        assert price.units == {}

    def test_long_contexts_are_tiers(self) -> None:
        long = {"min_prompt_tokens": 200_000, "prompt": "0.0000006", "completion": "0.000005"}
        price = parse_one(entry(overrides=[long]))

        assert price is not None
        assert price.rates["input"] == (Rate(0, 300_000_000), Rate(200_001, 600_000_000))

    def test_a_dearer_hour_is_held_against_the_whole_day(self) -> None:
        price = parse_one(entry(overrides=[{"utc_start": 100, "utc_end": 900, "prompt": "0.0000009"}]))

        assert price is not None
        assert price.dearest("input") == 900_000_000

    def test_free_only_if_everything_is(self) -> None:
        free = parse_one(entry("a/b:free", prompt="0", completion="0", image="0"))
        paid = parse_one(entry("a/c", prompt="0", completion="0", request="0.01"))

        assert free is not None
        assert free.free
        assert paid is not None
        assert not paid.free
        assert check_price(paid) is None
        assert compute_cost_nusd(Usage(input=1), paid) is None

    @pytest.mark.parametrize(
        "one",
        [
            entry("openrouter/auto", prompt="-1", completion="-1"),
            entry(prompt="-0.000001"),
            entry(prompt="NaN"),
            entry(prompt="1e999999"),
            entry(prompt="cheap"),
            entry(prompt=None),
            entry(prompt=True),
            entry(overrides="?"),
            entry("perplexity/sonar"),
            entry("openai/gpt-5:batch"),
            {**entry(), "architecture": {"output_modalities": ["image", "text"]}},
            {**entry(), "id": 7},
            {**entry(), "pricing": None},
            {"id": "a/b", "pricing": {}},
        ],
    )
    def test_what_cannot_be_priced_is_left_out(self, one: dict[str, Any]) -> None:
        assert parse_one(one) is None

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"data": {}}', b'{"data": null}'])
    def test_what_is_no_list_is_refused(self, body: bytes) -> None:
        with pytest.raises(ValueError, match="not a list of models"):
            parse_openrouter_models(body)

    def test_permanent_slugs_are_aliases(self) -> None:
        body = json.dumps({"data": [entry("anthropic/claude-x-4.5")]}).encode()

        assert openrouter_aliases(body) == {
            ("openrouter", "anthropic/claude-x-4.5-20250101"): "anthropic/claude-x-4.5",
            ("openrouter", "anthropic/claude-x-4-5"): "anthropic/claude-x-4.5",
        }


ORIGIN = Origin("https", "openrouter.ai", 443, "/api/v1")


class FakeUpstream:
    """Answers paths with JSON, a status, or an error; never with a credential on the request."""

    def __init__(self, answers: dict[str, object]) -> None:
        self.answers = answers

    async def send(self, request: UpstreamRequest, *, head_timeout_s: float) -> "FakeAnswer":
        assert request.credential is None
        assert (request.origin, request.method) == (ORIGIN, "GET")
        answer = self.answers.get(request.path)
        if answer is None:
            raise UpstreamError("down", sent=False, received=False)
        return FakeAnswer(answer)


class FakeAnswer:
    def __init__(self, answer: object) -> None:
        self.status = answer if isinstance(answer, int) else 200
        self.body = json.dumps(answer).encode()

    async def read_all(self, timeout_s: float, limit_bytes: int) -> bytes:
        return self.body

    def close(self) -> None: ...


class TestSource:
    @staticmethod
    def source(answers: dict[str, object]) -> ListedPrices:
        return ListedPrices(FakeUpstream(answers), ORIGIN)  # type: ignore[arg-type]

    async def test_both_of_openrouters_lists_are_read(self) -> None:
        source = self.source({
            "/models": {"data": [entry("a/b")]},
            "/embeddings/models": {"data": [entry("a/embed", completion="0")]},
        })  # fmt: skip

        assert {price.model for price in (await source.load_openrouter()).prices} == {"a/b", "a/embed"}

    async def test_the_embeddings_list_may_be_missing(self) -> None:
        loaded = await self.source({"/models": {"data": [entry("a/b")]}}).load_openrouter()

        assert [price.model for price in loaded.prices] == ["a/b"]

    async def test_an_unreachable_or_empty_list_is_an_error(self) -> None:
        with pytest.raises(UpstreamError):
            await self.source({}).load_openrouter()
        with pytest.raises(ValueError, match="status 503"):
            await self.source({"/models": 503}).load_openrouter()
        with pytest.raises(ValueError, match="no price"):
            await self.source({"/models": {"data": []}}).load_openrouter()


def hosts(*endpoints: object) -> dict[str, object]:
    return {"data": {"id": "a/b", "architecture": {"output_modalities": ["text"]}, "endpoints": list(endpoints)}}


class TestEndpoints:
    """One model's hosts (reconstructed: from OpenRouter's OpenAPI description)."""

    def test_each_host_has_its_price_and_whether_it_works(self) -> None:
        found = parse_openrouter_endpoints("a/b", json.dumps(hosts(
            {"pricing": {"prompt": "0.00003", "completion": "0.00006", "request": "0"}, "context_length": 8192,
             "status": 0},
            {"pricing": {"prompt": "0.00001", "completion": "0.00002", "discount": 0.5}, "status": -2},
        )).encode())

        assert [(e.price.model, e.price.dearest("input"), e.works) for e in found] == [
            ("a/b", 30_000_000_000, True), ("a/b", 10_000_000_000, False),
        ]
        assert found[0].price.context_window == 8192

    def test_what_cannot_be_read_is_left_out(self) -> None:
        found = parse_openrouter_endpoints("a/b", json.dumps(hosts(
            None, {}, {"pricing": None}, {"pricing": {"prompt": "-1", "completion": "0"}},
            {"pricing": {"prompt": "soon", "completion": "1"}},
        )).encode())

        assert found == []

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"data":[]}', b'{"data":{"endpoints":null}}'])
    def test_what_is_no_list_is_refused(self, body: bytes) -> None:
        with pytest.raises(ValueError, match="endpoints"):
            parse_openrouter_endpoints("a/b", body)

    async def test_the_models_own_page_is_read(self) -> None:
        one = {"pricing": {"prompt": "0.00003", "completion": "0.00006"}}
        source = TestSource.source({"/models/a/b:free/endpoints": hosts(one)})

        assert len(await source.load_endpoints("a/b:free", 1.0)) == 1
        with pytest.raises(UpstreamError):
            await source.load_endpoints("a/c", 1.0)
        for slug in ("a", "a/b/c", "../key", "a/b?x=1", "a/b#", "a/ b"):
            with pytest.raises(ValueError, match="slug"):
                await source.load_endpoints(slug, 1.0)
