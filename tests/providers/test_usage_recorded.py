"""What every recorded answer used and cost, against a second reading that shares nothing with the code under test."""

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import ROUND_CEILING, Decimal
from typing import Any

import pytest
from anthropic_google_wire import ABSENT, RECORDINGS
from anthropic_google_wire import exchanges as foreign_exchanges
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from openai_recordings import exchanges as openai_exchanges
from openai_recordings import responses_of

from ownkey.domain.bounds import RequestShape
from ownkey.domain.pricing import PriceBook, compute_cost_nusd
from ownkey.domain.usage import Usage
from ownkey.domain.wire import Seen
from ownkey.providers.anthropic import AnthropicProvider
from ownkey.providers.google import GoogleProvider
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openrouter import OpenRouterProvider
from ownkey.providers.prices import list_aliases, list_prices

TODAY = date(2026, 11, 22)
BOOK = PriceBook(1, "test", {(price.provider, price.model): price for price in list_prices(TODAY)}, list_aliases())
PROVIDERS: dict[str, Any] = {
    "anthropic": AnthropicProvider(), "google": GoogleProvider(), "openai": OpenAIProvider(),
    "openrouter": OpenRouterProvider(),
}  # fmt: skip
ENDPOINTS = {"anthropic": "messages", "google": "chat"}
# Two answers in one, and other interfaces of the same provider.
NO_ANSWERS = ("spliced-message-start", "interactions__", "speech-translation")
# How genai-prices calls the shape of each endpoint's usage.
FLAVORS = {"chat": "chat", "embeddings": "embeddings", "messages": "default", "responses": "responses"}


class Watched:
    """A call that asked for usage, and for one answer."""

    include_usage = True
    shape = RequestShape(0)


@dataclass(frozen=True)
class Answer:
    """A recorded answer: `documents` are its JSON, one an event, costs as text."""

    name: str
    provider: str
    endpoint: str
    body: bytes
    streamed: bool

    @property
    def documents(self) -> list[Any]:
        if not self.streamed:
            return [json.loads(self.body, parse_float=str)]
        lines = (line[5:].strip() for line in self.body.decode().splitlines() if line.startswith("data:"))
        return [json.loads(line, parse_float=str) for line in lines if line != "[DONE]"]

    @property
    def seen(self) -> Seen:
        codec = PROVIDERS[self.provider].codec("openai", self.endpoint)[0]
        if not self.streamed:
            return codec.decode_whole(self.body)[0]
        reader = codec.events() if self.provider in ENDPOINTS else codec.passthrough(Watched())
        reader.feed(self.body)
        reader.eof()
        return reader.seen


def recorded() -> Iterator[Answer]:
    for provider, endpoint in ENDPOINTS.items():
        for item in foreign_exchanges(provider):
            if item.status == 200 and not any(name in item.name for name in NO_ANSWERS):
                kind = "embeddings" if "mbedContent" in item.url else endpoint
                yield Answer(item.name, provider, kind, item.body, item.streamed)
    for found in openai_exchanges():
        endpoint = found.endpoint or ("responses" if b'"object":"response"' in found.body.replace(b" ", b"") else "")
        if found.status == 200 and endpoint:
            streamed = found.streamed or found.body.startswith(b"event:")
            several = streamed and endpoint == "responses"
            for at, body in enumerate(responses_of(found.body) if several else [found.body]):
                yield Answer(f"{found.name}-{at}" if at else found.name, found.provider, endpoint, body, streamed)


def is_readable(answer: Answer) -> bool:
    """Whether it is an answer of one of our endpoints, with the provider's usage in it."""
    try:
        codec = PROVIDERS[answer.provider].codec("openai", answer.endpoint)
        return codec is not None and last_report(answer) is not None
    except ValueError:
        return False


def last_report(answer: Answer) -> dict[str, Any] | None:
    """The provider's own counters, put together as its documentation says; None where it states none."""
    merged: dict[str, Any] = {}
    for document in answer.documents:
        if not isinstance(document, dict):
            continue
        inner = document.get("message") if answer.provider == "anthropic" else document.get("response")
        for holder in (document, inner if isinstance(inner, dict) else {}):
            report = holder.get("usageMetadata") if answer.provider == "google" else holder.get("usage")
            if isinstance(report, dict):
                merged |= {name: value for name, value in report.items() if value is not None}
    counted = {"anthropic": "output_tokens", "google": "promptTokenCount"}.get(answer.provider)
    return merged if merged and (counted is None or counted in merged) else None


FOUND = [answer for answer in recorded() if is_readable(answer)] if RECORDINGS.is_dir() else []


def params(answers: list[Answer]) -> list[Any]:
    if not RECORDINGS.is_dir():
        return [pytest.param(None, id="recorded-absent", marks=pytest.mark.skip(reason=ABSENT))]
    return [
        pytest.param(item, id=f"recorded-{item.provider}-{item.endpoint}-{item.name}", marks=pytest.mark.recorded)
        for item in answers
    ]


def test_there_are_recorded_reports() -> None:
    """The recordings did not silently shrink."""
    if not RECORDINGS.is_dir():
        pytest.skip(ABSENT)

    assert len(FOUND) >= 440
    assert {(answer.provider, answer.endpoint) for answer in FOUND} >= {
        ("anthropic", "messages"), ("google", "chat"), ("openai", "chat"), ("openai", "embeddings"),
        ("openai", "responses"), ("openrouter", "chat"),
    }  # fmt: skip


@pytest.mark.parametrize("answer", params(FOUND))
def test_the_classes_are_disjoint_and_add_up_to_the_providers_totals(answer: Answer) -> None:
    """No token is counted twice, and none is lost."""
    report, usage = last_report(answer), answer.seen.usage
    assert report is not None
    assert usage is not None

    read, wrote = totals(answer.provider, report)
    assert all(count >= 0 for count in counts(usage))
    assert usage.total_input == read
    assert usage.total_output == wrote


def counts(usage: Usage) -> tuple[int, ...]:
    return (
        usage.input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.output, usage.reasoning,
        usage.audio_input, usage.audio_output, usage.audio_cache_read,
    )  # fmt: skip


def totals(provider: str, report: dict[str, Any]) -> tuple[int, int]:
    """What was read and written, as the provider's documentation adds it up."""

    def count(name: str) -> int:
        return int(report.get(name) or 0)

    match provider:
        case "anthropic":
            cached = count("cache_read_input_tokens") + count("cache_creation_input_tokens")
            return count("input_tokens") + cached, count("output_tokens")
        case "google":
            read = count("promptTokenCount") + count("toolUsePromptTokenCount")
            wrote = count("candidatesTokenCount") + count("thoughtsTokenCount")
            assert "totalTokenCount" not in report or read + wrote == count("totalTokenCount")
            return read, wrote
        case _ if "input_tokens" in report:
            return count("input_tokens"), count("output_tokens")
        case _:
            read, wrote = count("prompt_tokens"), count("completion_tokens")
            thoughts = (report.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
            if thoughts and count("total_tokens") == read + wrote + thoughts:
                wrote += thoughts  # One host counts its thoughts beside the answer, and says so in the total.
            return read, wrote


BILLED = [answer for answer in FOUND if (last_report(answer) or {}).get("cost") is not None]


@pytest.mark.parametrize("answer", params(BILLED))
def test_what_openrouter_reports_is_read_to_the_last_digit(answer: Answer) -> None:
    """`usage.cost`, and the provider's own bill beside it where the customer's key is used there; rounded up once."""
    report, usage = last_report(answer), answer.seen.usage
    assert report is not None
    assert usage is not None

    total = Decimal(str(report["cost"]))
    if report.get("is_byok"):
        total += Decimal(str(report["cost_details"]["upstream_inference_cost"]))
    assert usage.cost_nusd == int((total * 10**9).to_integral_value(ROUND_CEILING))


def listed_cost_nusd(answer: Answer, model: str) -> Decimal | None:
    """The package's own reading of the recorded counters, at its own list price; None: it does not know the model."""
    provider = next(one for one in get_snapshot().providers if one.id == answer.provider)
    named = ("modelVersion", "usageMetadata") if answer.provider == "google" else ("model", "usage")
    data = dict(zip(named, (model, last_report(answer)), strict=True))
    flavor = "default" if answer.provider == "google" else FLAVORS[answer.endpoint]
    try:
        _, usage = provider.extract_usage(data, api_flavor=flavor)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            price = calc_price(
                usage, model_ref=model, provider_id=answer.provider,
                genai_request_timestamp=datetime.combine(TODAY, time(12), UTC),
            )  # fmt: skip
    except LookupError:
        return None
    return price.total_price * 10**9


DIRECT = [answer for answer in FOUND if answer.provider != "openrouter" and answer.endpoint != "embeddings"]
# Worked on by models besides the one that answered, or by it in steps that the counters on top leave out.
IN_STEPS = ("advisor", "compaction")


@pytest.mark.parametrize("answer", params([item for item in DIRECT if not any(x in item.name for x in IN_STEPS)]))
def test_a_direct_answer_costs_what_the_package_computes(answer: Answer) -> None:
    """Within 1%, or unknown: models that answer with sound or pictures, and fees without a price, are never guessed."""
    seen = answer.seen
    assert seen.usage is not None
    model = seen.took_over or seen.model
    if not model:
        pytest.skip("recorded: the answer names no model")
    listed = listed_cost_nusd(answer, model)
    price = BOOK.find(answer.provider, model)
    if price is None or listed is None:
        pytest.skip(f"recorded: no list price of {model}" + (" in our book" if listed is not None else ""))

    # The package reads no tool's fees out of OpenAI's answers: they are compared without.
    usage = replace(seen.usage, units=()) if answer.provider == "openai" else seen.usage
    cost = compute_cost_nusd(usage, price, lambda name: BOOK.find(answer.provider, name))

    assert cost is not None
    assert abs(cost - listed) <= max(1, listed / 100)


@pytest.mark.parametrize("answer", params([item for item in DIRECT if any(x in item.name for x in IN_STEPS)]))
def test_work_that_is_counted_apart_is_paid_for(answer: Answer) -> None:
    """Each step at the price of the model that made it: an advisor's, or the answering model's own."""
    seen, report = answer.seen, last_report(answer)
    assert seen.usage is not None
    assert report is not None
    if not report.get("iterations"):
        pytest.skip("recorded: no steps are told")
    assert seen.model is not None
    price = BOOK.find("anthropic", seen.model)
    assert price is not None

    cost = compute_cost_nusd(seen.usage, price, lambda name: BOOK.find("anthropic", name))

    expected = Decimal(0)
    for step in report["iterations"]:
        listed = BOOK.find("anthropic", step.get("model") or seen.model)
        assert listed is not None
        plain = Usage(input=step["input_tokens"], output=step["output_tokens"])
        expected += compute_cost_nusd(plain, listed) or 0
    assert cost == expected
