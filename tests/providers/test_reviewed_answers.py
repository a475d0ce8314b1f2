"""Answers of odd shapes, all reconstructed: no reader breaks, no unknown count is billed as nothing."""

import json
from decimal import Decimal
from typing import Any

import pytest

from ownkey.domain.bounds import RequestShape
from ownkey.domain.conversation import Failed, Finished
from ownkey.domain.failures import FailureClass
from ownkey.domain.money import AmountError, parse_usd_nusd
from ownkey.domain.usage import Usage
from ownkey.providers.anthropic import AnthropicProvider
from ownkey.providers.google import GoogleProvider
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openrouter import OpenRouterProvider

ANTHROPIC, OPENROUTER, OPENAI, GOOGLE = AnthropicProvider(), OpenRouterProvider(), OpenAIProvider(), GoogleProvider()


def codec(provider: Any, dialect: str, endpoint: str) -> Any:
    found = provider.codec(dialect, endpoint)
    assert found is not None
    return found[0]


CLAUDE, CLAUDE_ROUTED = codec(ANTHROPIC, "openai", "chat"), codec(OPENROUTER, "anthropic", "messages")
GEMINI, ROUTED = codec(GOOGLE, "openai", "chat"), codec(OPENROUTER, "openai", "chat")
GPT = codec(OPENAI, "anthropic", "messages")


def message(**fields: Any) -> bytes:
    content = [{"type": "text", "text": "x"}]
    whole = {"type": "message", "id": "i", "model": "m", "content": content, "stop_reason": "end_turn", **fields}
    return json.dumps(whole).encode()


def candidate(usage: Any = None, part: Any = None, **fields: Any) -> bytes:
    held = {"content": {"parts": [part or {"text": "x"}]}, "finishReason": "STOP", **fields}
    return json.dumps({"candidates": [held], "usageMetadata": usage}).encode()


def completion(**fields: Any) -> bytes:
    choice = {"index": 0, "message": {"content": "x", **fields.pop("message", {})}, "finish_reason": "stop", **fields}
    return json.dumps({"id": "i", "model": "m", "choices": [choice]}).encode()


# --- counters


@pytest.mark.parametrize("odd", [2_000_000_000, 10**30, -1, "12", 12.0, True, [1]])
@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "cache_read_input_tokens",
                                  "cache_creation_input_tokens"])  # fmt: skip
def test_anthropics_unusable_count_is_unknown_and_not_nothing(name: str, odd: Any) -> None:
    """reconstructed: billed as zero, a call would cost less than its invoice."""
    usage = {"input_tokens": 5, "output_tokens": 7, name: odd}

    assert CLAUDE.observe_whole(message(usage=usage)).usage is None
    assert CLAUDE.observe_whole(message(usage={**usage, name: 3})).usage is not None


@pytest.mark.parametrize(
    "usage", [{"output_tokens": 5}, {"input_tokens": 5}, {"input_tokens": None, "output_tokens": 5}, {}, [], 5, "x"]
)
def test_anthropics_missing_count_is_unknown(usage: Any) -> None:
    """reconstructed"""
    assert CLAUDE.observe_whole(message(usage=usage)).usage is None


@pytest.mark.parametrize("broken", [{"output_tokens": 10**12}, {"output_tokens": "3"}, [1], "x"])
def test_a_broken_last_report_is_not_replaced_by_the_first(broken: Any) -> None:
    """reconstructed: what `message_start` said is not what the answer cost."""
    reader = CLAUDE.events()
    start = {"id": "i", "model": "m", "content": [], "usage": {"input_tokens": 9, "output_tokens": 1}}
    for event in (
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "x"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": broken},
        {"type": "message_stop"},
    ):
        reader.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    reader.eof()

    assert (reader.seen.complete, reader.seen.usage) == (True, None)


@pytest.mark.parametrize("odd", [2_000_000_000, 10**30, -1, "12", 12.5, True])
@pytest.mark.parametrize("name", ["promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"])
def test_googles_unusable_count_is_unknown(name: str, odd: Any) -> None:
    """reconstructed"""
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 7, name: odd}

    assert GEMINI.observe_whole(candidate(usage)).usage is None


def test_google_leaves_out_what_is_zero_but_never_the_prompt() -> None:
    """reconstructed"""
    assert GEMINI.observe_whole(candidate({"promptTokenCount": 5})).usage == Usage(input=5)
    assert GEMINI.observe_whole(candidate({"candidatesTokenCount": 5})).usage is None


# --- costs


@pytest.mark.parametrize("cost", ["1e99999999999999999999", "1" * 5_000, "0." + "1" * 5_000])
def test_a_cost_that_nobody_can_read_is_unknown(cost: str) -> None:
    """reconstructed: in both formats of OpenRouter."""
    own = ',"is_byok":false}'
    chat = completion()[:-1] + f',"usage":{{"prompt_tokens":5,"completion_tokens":7,"cost":{cost}{own}}}'.encode()
    claude = message()[:-1] + f',"usage":{{"input_tokens":5,"output_tokens":7,"cost":{cost}{own}}}'.encode()
    for seen in (ROUTED.observe_whole(chat), CLAUDE_ROUTED.observe_whole(claude)):
        assert seen.failure is None
        assert seen.usage in (None, Usage(input=5, output=7))


@pytest.mark.parametrize("cost", ['"sNaN"', '"NaN"', '"-Infinity"', "1e999999", "-1"])
def test_a_cost_that_is_no_amount_is_unknown(cost: str) -> None:
    """reconstructed"""
    told = f'"cost":{cost},"is_byok":true,"cost_details":{{"upstream_inference_cost":"sNaN"}}}}}}'
    counts = b',"usage":{"prompt_tokens":5,"completion_tokens":7,'
    seen = ROUTED.observe_whole(completion()[:-1] + counts + told.encode())

    assert seen.usage is not None
    assert seen.usage.cost_nusd is None


def test_the_length_of_an_amount_costs_no_work() -> None:
    """reconstructed: an exponent of a few digits would be a number of gigabytes."""
    assert parse_usd_nusd(Decimal("1e-999999999")) == 1
    assert parse_usd_nusd(Decimal("0e-999999999")) == 0
    with pytest.raises(AmountError):
        parse_usd_nusd("0." + "1" * 5_000)


# --- shapes


@pytest.mark.parametrize("odd", [5, True, "x", [5], {}])
def test_citations_of_an_odd_type_break_nothing(odd: Any) -> None:
    """reconstructed"""
    seen, _ = CLAUDE.decode_whole(message(content=[{"type": "text", "text": "x", "citations": odd}]))

    assert (seen.failure, seen.complete) == (None, True)


@pytest.mark.parametrize("odd", [{}, [], 5, True])
def test_a_native_finish_of_an_odd_type_breaks_nothing(odd: Any) -> None:
    """reconstructed"""
    assert ROUTED.observe_whole(completion(native_finish_reason=odd)).complete


@pytest.mark.parametrize("field", ["annotations", "reasoning_details"])
@pytest.mark.parametrize("odd", [b"[1e999]", b'["\xff\xff\xff"]'], ids=["number", "bytes"])
def test_what_cannot_be_decoded_later_is_a_broken_answer_and_no_error_of_ours(field: str, odd: bytes) -> None:
    """reconstructed: whole, translated and relayed."""
    inner = b'"content":"x","%s":%s' % (field.encode(), odd)
    whole = b'{"id":"i","model":"m","choices":[{"index":0,"message":{%s},"finish_reason":"stop"}]}' % inner
    chunk = b'data: {"id":"i","choices":[{"index":0,"delta":{%s}}]}\n\n' % inner
    seen, events = GPT.decode_whole(whole)
    reader = GPT.events()
    told = [*reader.feed(chunk), *reader.eof()]

    assert seen.failure is not None
    assert isinstance(events[-1], Failed)
    assert isinstance(told[-1], Failed)


def test_reasoning_that_cannot_be_decoded_fails_its_stream() -> None:
    """reconstructed: as any malformed event does."""

    class Call:
        include_usage = True
        shape = RequestShape(1)

    relay = ROUTED.passthrough(Call())

    assert relay.feed(b'data: {"choices":[{"index":0,"delta":{"reasoning_details":[1e999]}}]}\n\n') == []
    assert relay.seen.failure is not None


def test_arguments_that_go_on_as_another_type_are_a_broken_answer() -> None:
    """reconstructed"""
    pieces = [
        {"jsonPath": "$.a", "stringValue": "x", "willContinue": True},
        {"jsonPath": "$['a']", "numberValue": 1},
        {"jsonPath": "$.a", "stringValue": "y"},
    ]
    call = {"functionCall": {"name": "f", "partialArgs": pieces}}
    seen, _ = GEMINI.decode_whole(candidate(part=call))

    assert seen.failure is not None


@pytest.mark.parametrize("name", ["inlineData", "fileData"])
def test_media_that_no_event_can_carry_do_not_make_a_whole_answer(name: str) -> None:
    """reconstructed: left out, the rest would look whole."""
    seen, events = GEMINI.decode_whole(candidate(part={name: {"mimeType": "image/png", "data": "AA"}}))

    assert seen.failure is not None
    assert seen.failure.cls is FailureClass.BAD_OUTPUT
    assert not any(isinstance(event, Finished) for event in events)


def test_an_answer_finishes_once() -> None:
    """reconstructed: Anthropic's last event, twice."""
    reader = CLAUDE.events()
    last = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}
    start = {"type": "message_start", "message": {"id": "i", "usage": {"input_tokens": 2, "output_tokens": 1}}}
    events = [found for event in (start, last, last) for found in reader.feed(
        b"data: " + json.dumps(event).encode() + b"\n\n"
    )]  # fmt: skip

    assert len([event for event in events if isinstance(event, Finished)]) == 1
    assert reader.seen.usage == Usage(input=2, output=3)
