"""The bill book is right: to the nano-dollar, for every provider, whole, streamed and cut."""

import json
import time
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from emulator_wire import KEYS, PROVIDERS, ask, frames, headers, request_of, usage_of

from emulator_process import EmulatorHandle, start_emulator

# USD per million tokens: (input, cache read, cache write 5 minutes, cache write 1 hour, output).
LIST_PRICES = {
    "openrouter": ("0.40", "0.10", "0.40", "0.40", "1.60"),
    "openai": ("0.40", "0.10", "0.40", "0.40", "1.60"),
    "anthropic": ("1.00", "0.10", "1.25", "2.00", "5.00"),
    "google": ("0.10", "0.01", "0.10", "0.10", "0.40"),
}
CLASSES = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")


def cost_of(bill: dict[str, Any], prices: tuple[str, ...]) -> int:
    """The bill computed apart from the emulator: one sum, one rounding, upwards."""
    usd = sum(Decimal(bill["tokens"][name]) * Decimal(price) for name, price in zip(CLASSES, prices, strict=True))
    return int((usd / 1_000_000 * 10**9).to_integral_value(ROUND_CEILING))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_bill_is_tokens_times_price(
    emulator: EmulatorHandle, http: httpx.Client, provider: str, stream: bool
) -> None:
    """Tokens as reported, price as listed, rounded up once; the key is named by its hash."""
    emulator.set({"cached_tokens": 3})
    answer = ask(http, emulator, provider, "what does this cost, roughly speaking?", stream=stream)
    (bill,) = emulator.bills()
    if not stream:
        usage = usage_of(provider, answer.json())
        assert {name: bill["tokens"][name] for name in usage} == usage

    assert int(bill["cost_nusd"]) == cost_of(bill, LIST_PRICES[provider])
    assert bill["tokens"]["cache_read"] == 3
    assert (bill["provider"], bill["stream"], bill["aborted"]) == (provider, stream, False)
    assert bill["key_last4"] == KEYS[provider][-4:]
    assert emulator.total_nusd(KEYS[provider]) == emulator.total_nusd() == int(bill["cost_nusd"])


def test_cache_writes_have_their_own_price(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """Five minutes, an hour and reading are billed apart."""
    for ttl in ("5m", "1h", "1h"):
        mark = {"type": "ephemeral", "ttl": ttl}
        system = [{"type": "text", "text": f"{ttl} rules " * 99, "cache_control": mark}]
        ask(http, emulator, "anthropic", system=system)
    five, hour, read = emulator.bills()

    assert five["tokens"]["cache_write_5m"] > 0
    assert hour["tokens"]["cache_write_1h"] > 0
    assert read["tokens"]["cache_read"] == hour["tokens"]["cache_write_1h"]
    for bill in (five, hour, read):
        assert int(bill["cost_nusd"]) == cost_of(bill, LIST_PRICES["anthropic"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["chat", "responses", "messages"])
def test_openrouter_reports_the_bill(emulator: EmulatorHandle, http: httpx.Client, path: str, stream: bool) -> None:
    """usage.cost is the bill's amount, digit for digit, on every endpoint."""
    url = emulator.base("openrouter") + {"chat": "/chat/completions"}.get(path, f"/{path}")
    message = [{"role": "user", "content": "hi"}]
    model = "anthropic/claude-haiku-4.5"
    body = {"model": model, "stream": stream, "max_tokens": 100, "messages": message}
    if path == "responses":
        body = {"model": model, "stream": stream, "input": "hi"}
    answer = http.post(url, json=body, headers=headers("openrouter"))
    (bill,) = emulator.bills()
    found = {Decimal(part.split(",")[0].split("}")[0]) for part in answer.text.split('"cost":')[1:]}

    assert {value * 10**9 for value in found} == {int(bill["cost_nusd"])}
    assert answer.headers["x-generation-id"] == bill["request_id"]


def test_byok_inside_openrouter(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """With the customer's own provider key `cost` is the fee, and fee plus upstream cost is the bill."""
    emulator.set({"is_byok": True, "byok_fee_percent": 5}, provider="openrouter")
    text = ask(http, emulator, "openrouter").text
    usage = json.loads(text, parse_float=Decimal)["usage"]
    (bill,) = emulator.bills()
    upstream = usage["cost_details"]["upstream_inference_cost"]

    assert usage["is_byok"] is True
    assert usage["cost"] * 10**9 == -(-(upstream * 10**9 * 5) // 100)
    assert (usage["cost"] + upstream) * 10**9 == int(bill["cost_nusd"])


def test_fees_are_in_the_cost(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """A fee beside the tokens (a web search) is in OpenRouter's cost and in the bill, not in the token shares."""
    emulator.set({"request_fee_nusd": 10_000_000}, provider="openrouter")
    usage = json.loads(ask(http, emulator, "openrouter").text, parse_float=Decimal)["usage"]
    (bill,) = emulator.bills()
    details = usage["cost_details"]
    tokens = details["upstream_inference_prompt_cost"] + details["upstream_inference_completions_cost"]

    assert int(bill["cost_nusd"]) == cost_of(bill, LIST_PRICES["openrouter"]) + 10_000_000
    assert usage["cost"] * 10**9 == int(bill["cost_nusd"])
    assert usage["cost"] - tokens == Decimal("0.01")


def test_prices_can_be_changed(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """A new price holds for the next request and shows in OpenRouter's list and endpoints."""
    price = {"provider": "openrouter", "model": "openai/gpt-4.1-mini", "input": "1.5", "output": "0.000001"}
    ask(http, emulator, "openrouter")
    emulator.control("POST", "prices", price)
    ask(http, emulator, "openrouter")
    bill = emulator.bills()[-1]
    listed = http.get(emulator.base("openrouter") + "/models").json()["data"]
    entry = next(model for model in listed if model["id"] == "openai/gpt-4.1-mini")
    endpoints = http.get(emulator.base("openrouter") + "/models/openai/gpt-4.1-mini/endpoints").json()["data"]

    assert int(bill["cost_nusd"]) == cost_of(bill, ("1.5", "0.10", "0.40", "0.40", "0.000001"))
    assert entry["pricing"]["prompt"] == "0.0000015"
    assert endpoints["endpoints"][0]["pricing"]["completion"] == "0.000000000001"


def test_long_prompts_cost_more(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """Above 200,000 prompt tokens gemini-2.5-pro has its second price."""
    ask(http, emulator, "google", "word " * 170_000, model="gemini-2.5-pro")
    (bill,) = emulator.bills()

    assert bill["tokens"]["input"] > 200_000
    assert int(bill["cost_nusd"]) == cost_of(bill, ("2.50", "0.25", "2.50", "2.50", "15.00"))


def test_free_models_cost_nothing(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """A `:free` model is billed 0 and reports 0."""
    answer = ask(http, emulator, "openrouter", model="meta-llama/llama-3.3-70b-instruct:free").json()

    assert answer["usage"]["cost"] == 0
    assert emulator.total_nusd() == 0
    assert len(emulator.bills()) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_embeddings_are_billed(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """Embeddings cost their input."""
    match provider:
        case "anthropic":
            pytest.skip("Anthropic has no embeddings")
        case "google":
            path = "/models/gemini-embedding-001:embedContent"
            body: Any = {"content": {"parts": [{"text": "eight bytes and more"}]}}
            price = "0.15"
        case _:
            path, price = "/embeddings", "0.02"
            model = "text-embedding-3-small" if provider == "openai" else "openai/text-embedding-3-small"
            body = {"model": model, "input": ["eight bytes and more"]}
    assert http.post(emulator.base(provider) + path, json=body, headers=headers(provider)).status_code == 200
    (bill,) = emulator.bills()

    assert bill["tokens"]["input"] == 5
    assert int(bill["cost_nusd"]) == cost_of(bill, (price, "0", "0", "0", "0"))


def wait_for_bills(emulator: EmulatorHandle, count: int) -> list[dict[str, Any]]:
    """The bills, once there are `count`."""
    for _ in range(200):
        bills = emulator.bills()
        if len(bills) >= count:
            return bills
        time.sleep(0.01)
    raise AssertionError(f"{len(emulator.bills())} bills, not {count}")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_hang_up_in_the_middle(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """OpenAI, Anthropic and OpenRouter bill what they said so far; Google bills the whole answer."""
    emulator.set({"gap_s": 0.02, "output_tokens": 200})
    whole = request_of(emulator, provider, "say much", stream=True)
    with http.stream(**whole) as response:
        for number, _ in enumerate(response.iter_lines()):
            if number > 12:
                break
    (bill,) = wait_for_bills(emulator, 1)

    assert bill["aborted"] is True
    assert bill["tokens"]["input"] > 0
    assert int(bill["cost_nusd"]) == cost_of(bill, LIST_PRICES[provider])
    if provider == "google":
        assert bill["tokens"]["output"] >= 199
    else:
        assert 0 < bill["tokens"]["output"] < 60


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_hang_up_before_the_answer(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """Leaving while a stream's head is awaited costs the input (Google: everything)."""
    emulator.set({"latency_s": 5})
    with pytest.raises(httpx.TimeoutException):
        http.request(**request_of(emulator, provider, stream=True), timeout=0.1)
    (bill,) = wait_for_bills(emulator, 1)

    assert bill["aborted"] is True
    assert bill["tokens"]["input"] > 0
    assert (bill["tokens"]["output"] > 0) is (provider == "google")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_refusals_cost_nothing(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """A wrong key, an unknown model and a broken body are not billed, but counted as requests."""
    ask(http, emulator, provider, key="wrong")
    ask(http, emulator, provider, model="no-such-model")
    request = request_of(emulator, provider)
    del request["json"]
    http.request(**request, content=b"{not json")

    assert emulator.bills() == []
    assert emulator.control("GET", "requests")["count"] == 3


def test_the_book_survives_a_kill(tmp_path: Path, http: httpx.Client) -> None:
    """With --bill-file every bill is on disk when its answer arrives."""
    handle = start_emulator(bill_file=tmp_path / "bills.jsonl")
    try:
        handle.add_key("openai", KEYS["openai"])
        ask(http, handle, "openai")
        ask(http, handle, "openai", stream=True)
        bills = handle.bills()
        handle.process.kill()
        lines = [json.loads(line) for line in (tmp_path / "bills.jsonl").read_text().splitlines()]
    finally:
        handle.stop()

    assert lines == bills


def test_bills_since_and_totals(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """`since` leaves out what was seen before; totals are strings of nano-dollars by key."""
    emulator.add_key("openai", "sk-second")
    ask(http, emulator, "openai")
    last = emulator.bills()[-1]["n"]
    ask(http, emulator, "openai", key="sk-second")
    later = emulator.bills(since=last)
    total = emulator.control("GET", f"bills/total?key_sha256={later[0]['key_sha256']}")

    assert [bill["key_last4"] for bill in later] == ["cond"]
    assert total == {"count": 1, "total_nusd": later[0]["cost_nusd"]}
    assert emulator.bills(key="sk-second") == later


def test_usage_is_streamed_with_the_bill(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """By the time the last event is read the bill is written."""
    chunks = frames(ask(http, emulator, "openai", stream=True))
    (bill,) = emulator.bills()

    assert chunks[-2]["usage"]["completion_tokens"] == bill["tokens"]["output"]


def test_logged_requests_hide_keys(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """The request ring shows bodies and headers, and never a credential."""
    for provider in PROVIDERS:
        ask(http, emulator, provider, f"hello {provider}")
    http.post(f"{emulator.base('google')}/models/gemini-2.5-flash:generateContent?key={KEYS['google']}", json={})
    shown = emulator.control("GET", "requests")
    text = json.dumps(shown)

    assert shown["count"] == 5
    assert all(f"hello {provider}" in text for provider in PROVIDERS)
    assert not any(key in text for key in KEYS.values())
    assert "sha256:" in text
