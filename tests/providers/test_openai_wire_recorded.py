"""What the observers read from recorded answers is what the official SDK's types hold."""

from collections import defaultdict
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai_recordings import Exchange, exchanges, params

from ownkey.dialects.openai_chat import OpenAIDialect, OpenRouterDialect
from ownkey.domain.bounds import RequestShape
from ownkey.domain.conversation import (
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReport,
)
from ownkey.domain.failures import FailureClass
from ownkey.domain.usage import Usage
from ownkey.domain.wire import Edits, Seen
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openrouter import OpenRouterProvider

PROVIDERS = {"openai": OpenAIProvider(), "openrouter": OpenRouterProvider()}
FOUND = [item for item in exchanges() if item.endpoint and item.status == 200]
CHAT = [item for item in FOUND if item.endpoint == "chat"]
STREAMS = [item for item in CHAT if item.streamed]
WHOLE = [item for item in CHAT if not item.streamed]
EMBEDDINGS = [item for item in FOUND if item.endpoint == "embeddings"]
# Recorded streams that the contract calls broken: an error inside, and an end without any finish.
BROKEN = {"test_openrouter_stream_error": FailureClass.REQUEST, "tools_streaming_variant_b": FailureClass.NETWORK}


def asking(usage: bool, answers: int = 1) -> Any:
    return SimpleNamespace(include_usage=usage, shape=RequestShape(0, answers=answers))


def broken(item: Exchange) -> FailureClass | None:
    return next((cls for name, cls in BROKEN.items() if name in item.name), None)


def answers(item: Exchange) -> int:
    return len({choice["index"] for chunk in item.chunks() for choice in chunk["choices"]}) or 1


def codec(item: Exchange) -> Any:
    return PROVIDERS[item.provider].codec("openai", item.endpoint)[0]


def expected_usage(reported: dict[str, Any] | None) -> Usage | None:
    """The rule of the contract, written down a second time and from the JSON alone."""
    if not reported:
        return None
    prompt, completion = reported["prompt_tokens"], reported.get("completion_tokens") or 0
    inside = reported.get("prompt_tokens_details") or {}
    made = reported.get("completion_tokens_details") or {}
    cached = inside.get("cached_tokens") or 0
    written = min(inside.get("cache_write_tokens") or 0, prompt - cached)
    heard, spoken = inside.get("audio_tokens") or 0, made.get("audio_tokens") or 0
    reasoning = min(made.get("reasoning_tokens") or 0, completion)
    cost = None
    if reported.get("cost") is not None:
        total = Decimal(str(reported["cost"]))
        if reported.get("is_byok"):
            total += Decimal(str(reported["cost_details"]["upstream_inference_cost"]))
        cost = int((total * 10**9).to_integral_value(rounding="ROUND_CEILING"))
    return Usage(
        input=prompt - cached - written - heard,
        cache_read=cached,
        cache_write_5m=written,
        output=completion - reasoning - spoken,
        reasoning=reasoning,
        audio_input=heard,
        audio_output=spoken,
        cost_nusd=cost,
        is_byok=bool(reported.get("is_byok")),
    )


def told(events: list[Event]) -> dict[str, Any]:
    """Neutral events put together as a reader would."""
    calls: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, ToolCallStart):
            calls[event.index] = [event.id, event.name, ""]
        elif isinstance(event, ToolCallDelta):
            calls[event.index][2] += event.arguments
    finish = [event.native_reason for event in events if isinstance(event, Finished)]
    return {
        "model": next((event.model for event in events if isinstance(event, Started)), None),
        "text": "".join(event.text for event in events if isinstance(event, TextDelta)),
        "refusal": "".join(event.text for event in events if isinstance(event, RefusalDelta)),
        "reasoning": "".join(event.text for event in events if isinstance(event, ReasoningDelta)),
        "calls": [tuple(call) for _, call in sorted(calls.items())],
        "finish": finish[0] if finish else None,
    }


def sdk_stream(item: Exchange) -> dict[str, Any]:
    """The same from the SDK's own chunk types."""
    parts: dict[str, str] = defaultdict(str)
    calls: dict[int, list[str]] = {}
    model, finish = None, None
    for data in item.chunks():
        chunk = ChatCompletionChunk.construct(**data)
        for choice in chunk.choices:
            model = model or chunk.model
            if choice.index != 0:
                continue
            delta = choice.delta
            parts["text"] += delta.content or ""
            parts["refusal"] += delta.refusal or ""
            parts["reasoning"] += getattr(delta, "reasoning", None) or getattr(delta, "reasoning_content", None) or ""
            for call in delta.tool_calls or ():
                mine = calls.setdefault(call.index, [call.id or "", call.function.name or "", ""])
                mine[2] += call.function.arguments or ""
            finish = finish or getattr(choice, "native_finish_reason", None) or choice.finish_reason
    return {
        "model": model,
        "text": parts["text"],
        "refusal": parts["refusal"],
        "reasoning": parts["reasoning"],
        "calls": [tuple(call) for _, call in sorted(calls.items())],
        "finish": finish,
    }


def sdk_whole(item: Exchange) -> dict[str, Any]:
    answer = ChatCompletion.construct(**item.json())
    choice = answer.choices[0]
    message = choice.message
    details = getattr(choice, "finish_details", None)
    finish = getattr(choice, "native_finish_reason", None) or choice.finish_reason
    reasoning = getattr(message, "reasoning", None) or getattr(message, "reasoning_content", None)
    calls = []
    for call in message.tool_calls or ():
        if call.type == "custom":
            calls.append((call.id, call.custom.name, call.custom.input))
        else:
            calls.append((call.id, call.function.name, call.function.arguments or ""))
    return {
        "model": answer.model,
        "text": message.content or "",
        "refusal": message.refusal or "" if hasattr(message, "refusal") else "",
        "reasoning": reasoning or "",
        "calls": calls,
        "finish": finish or ("length" if details else None),
    }


@pytest.mark.parametrize("item", params(STREAMS))
def test_a_stream_passes_as_received(item: Exchange) -> None:
    """Asked for usage, a caller gets the provider's bytes, and what is seen of them is true."""
    reader = codec(item).passthrough(asking(True, answers(item)))
    relayed = [*reader.feed(item.body), *reader.eof()]
    seen = reader.seen

    usages = [chunk["usage"] for chunk in item.chunks() if chunk.get("usage")]
    assert seen.usage == expected_usage(usages[-1] if usages else None)
    read = sdk_stream(item)
    assert seen.content == any(read[kind] for kind in ("text", "refusal", "reasoning", "calls"))
    if broken(item) is not None:
        assert seen.failure is not None
        assert seen.failure.cls is broken(item)
        return
    assert seen.failure is None
    assert seen.complete
    assert seen.ended
    assert b"".join(relayed) == item.body


@pytest.mark.parametrize("item", params([item for item in STREAMS if broken(item) is None]))
def test_usage_that_nobody_asked_for_is_withheld_and_nothing_else(item: Exchange) -> None:
    """Without include_usage a caller reads the same answer, without the usage chunk."""
    reader = codec(item).passthrough(asking(False, answers(item)))
    relayed = b"".join([*reader.feed(item.body), *reader.eof()])

    kept = Exchange(item.name, item.provider, item.endpoint, 200, {}, b"", relayed)
    assert sdk_stream(kept) == sdk_stream(item)
    assert relayed.rstrip().endswith(b"data: [DONE]")
    assert len(item.chunks()) - len(kept.chunks()) <= 1
    assert all(chunk["choices"] for chunk in kept.chunks() if chunk.get("usage"))


@pytest.mark.parametrize("item", params(STREAMS))
def test_a_stream_told_as_events(item: Exchange) -> None:
    """Text, refusal, reasoning, tool calls, finish and usage are what the SDK's types hold."""
    reader = codec(item).events()
    events = [*reader.feed(item.body), *reader.eof()]

    expected = sdk_stream(item)
    actual = told(events)
    assert actual == expected
    if broken(item) is None:
        usages = [event.usage for event in events if isinstance(event, UsageReport)]
        assert usages[-1:] == ([reader.seen.usage] if reader.seen.usage else [])
    else:
        assert events[-1] == Failed(reader.seen.failure)


@pytest.mark.parametrize("item", params(WHOLE))
def test_a_whole_answer(item: Exchange) -> None:
    """Observed or told as events, a body's usage, cost and content are the SDK's reading."""
    seen, events = codec(item).decode_whole(item.body)

    assert seen == codec(item).observe_whole(item.body)
    assert seen.failure is None
    assert seen.complete
    assert seen.usage == expected_usage(item.json().get("usage"))
    assert seen.response_id == item.json()["id"]
    assert told(list(events)) == sdk_whole(item)


@pytest.mark.parametrize("item", params(EMBEDDINGS))
def test_embeddings(item: Exchange) -> None:
    """The model and usage are read; the vectors are not touched."""
    seen: Seen = codec(item).observe_whole(item.body)

    answer = CreateEmbeddingResponse.construct(**item.json())
    assert seen.failure is None
    assert seen.model == answer.model
    assert seen.usage == expected_usage(item.json()["usage"])


@pytest.mark.parametrize("item", params([item for item in FOUND if item.request]))
@pytest.mark.parametrize("dialect", [OpenAIDialect(), OpenRouterDialect()], ids=["openai", "openrouter"])
def test_recorded_requests_are_understood(item: Exchange, dialect: OpenAIDialect) -> None:
    """Every recorded request decodes, keeps its bytes, and has a neutral form."""
    call = dialect.decode(item.endpoint, item.request)  # type: ignore[arg-type]

    assert call.native_body(Edits(model=call.model)) == item.request
    assert call.shape.text_bytes >= len(item.request)
    if item.endpoint == "chat":
        assert call.neutral_chat().messages
    else:
        assert call.neutral_embeddings().inputs
