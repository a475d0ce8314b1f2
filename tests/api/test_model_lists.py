"""The models in three shapes: prices to the last digit, and nothing from outside that could break an answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from ownkey.api.model_lists import anthropic_models, openrouter_models, openrouter_pricing, per_token, show_models
from ownkey.domain.pricing import CONFIGURED, ModelPrice, PriceBook, Rate
from ownkey.domain.product import Product
from ownkey.domain.refusals import Code, Refused
from ownkey.providers.prices import parse_openrouter_models
from ownkey.settings.product import load_settings

SONNET = "anthropic/claude-sonnet-4.5"


@pytest.fixture
def product(tmp_path: Path) -> Product:
    config = tmp_path / "ownkey.toml"
    config.write_text('preset = "support-desk"\n')
    return load_settings(config, {}).product


def price(model: str = SONNET, source: str = "openrouter", **more: Any) -> ModelPrice:
    rates = {
        "input": (Rate(0, 3_000_000_000), Rate(200_001, 6_000_000_000)), "output": (Rate(0, 15_000_000_000),),
        "cache_read": (Rate(0, 300_000_000),), "cache_write_5m": (Rate(0, 3_750_000_000),),
        "cache_write_1h": (Rate(0, 6_000_000_000),), "reasoning": (Rate(0, 15_000_000_000),),
    }
    return ModelPrice("openrouter", model, rates, **{"source": source, "units": {"request": 5_000_000}, **more})


def book(*prices: ModelPrice) -> PriceBook:
    return PriceBook(1, "test", {(p.provider, p.model): p for p in prices})


def test_a_price_is_told_as_openrouter_tells_it() -> None:
    """Per token and per piece, tiers as overrides; read back by the same reader as OpenRouter's, it is the same."""
    told = openrouter_pricing(price())
    entry = {"id": SONNET, "pricing": told}
    read = parse_openrouter_models(f'{{"data": [{json.dumps(entry)}]}}'.encode())[0]

    assert told == {
        "prompt": "0.000003", "completion": "0.000015", "input_cache_read": "0.0000003",
        "input_cache_write": "0.00000375", "input_cache_write_1h": "0.000006", "internal_reasoning": "0.000015",
        "request": "0.005", "overrides": [{"min_prompt_tokens": 200_000, "prompt": "0.000006"}],
    }
    assert read.rates == price().rates
    assert read.units == price().units


@pytest.mark.parametrize(("nusd", "digits"), [
    (0, "0"), (1, "0.000000000000001"), (400_000_000, "0.0000004"), (10**15, "1"), (10 * 10**15, "10"),
])
def test_no_digit_is_lost(nusd: int, digits: str) -> None:
    """nano-USD per million tokens as USD per token, exact."""
    assert per_token(nusd) == digits


def test_openrouters_words_and_our_prices(product: Product) -> None:
    """Its description is kept; its price too, unless the operator set one; what only the operator knows is listed."""
    public = {
        SONNET: {"id": SONNET, "name": "Claude Sonnet 4.5", "canonical_slug": "anthropic/claude-4.5-sonnet",
                 "pricing": {"prompt": "0.000003", "completion": "0.000015", "image_token": "0.1"},
                 "architecture": {"output_modalities": ["text"], "input_modalities": ["text", "image"]}},
        "openai/gpt-5": {"id": "openai/gpt-5", "pricing": {"prompt": "9", "completion": "9"}},
    }
    found = openrouter_models(
        product, book(price(), price("openai/gpt-5", CONFIGURED), price("my/own", CONFIGURED), price("old/gone")),
        public)

    assert found[SONNET]["name"] == "Claude Sonnet 4.5"
    assert found[SONNET]["pricing"]["image_token"] == "0.1"
    assert found["openai/gpt-5"]["pricing"]["prompt"] == "0.000003"
    assert "my/own" in found
    assert "old/gone" not in found
    assert "old/gone" in openrouter_models(product, book(price("old/gone")), {})


def test_a_task_without_a_price_is_not_called_free(product: Product) -> None:
    """-1 is OpenRouter's sign for a price that cannot be told."""
    found = openrouter_models(product, book(), {})

    assert found
    assert {entry["pricing"]["prompt"] for entry in found.values()} == {"-1"}


@pytest.mark.parametrize("field", ["architecture", "pricing", "name", "supported_parameters", "canonical_slug"])
@pytest.mark.parametrize("odd", [None, 7, "", [], {}])
def test_an_odd_entry_breaks_nothing(product: Product, field: str, odd: Any) -> None:
    """What comes from outside has our fields' kinds or is left out."""
    entry = openrouter_models(product, book(price()), {SONNET: {"id": SONNET, field: odd}})[SONNET]

    assert isinstance(entry["architecture"], dict)
    assert isinstance(entry["pricing"], dict)
    assert isinstance(entry["name"], str)
    assert isinstance(entry["supported_parameters"], list)


def test_anthropics_pages(product: Product) -> None:
    """Forward behind an id, backward before one, both; an unknown id is 404, a wild limit 400."""
    listed = anthropic_models(product)
    ids = [entry["id"] for entry in listed]

    def page(query: str) -> Any:
        return show_models(listed, "/v1/models", query.encode(), paged=True)

    assert [e["id"] for e in page("limit=2")["data"]] == ids[:2]
    assert [e["id"] for e in page(f"limit=2&after_id={ids[0]}")["data"]] == ids[1:3]
    assert [e["id"] for e in page(f"limit=2&before_id={ids[-1]}")["data"]] == ids[-3:-1]
    assert page(f"before_id={ids[0]}") == {"data": [], "has_more": False, "first_id": None, "last_id": None}
    assert page(f"after_id={ids[-2]}")["has_more"] is False
    for query, code in (("limit=0", Code.BAD_REQUEST), ("limit=1001", Code.BAD_REQUEST), ("limit=x", Code.BAD_REQUEST),
                        ("after_id=nobody", Code.UNKNOWN_MODEL)):
        with pytest.raises(Refused) as caught:
            page(query)
        assert caught.value.refusal.code is code
