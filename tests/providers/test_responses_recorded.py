"""What the observers read from recorded Responses is what the official SDK's types hold, and its bytes pass as sent."""

import itertools
import json
from decimal import Decimal
from typing import Any

import pytest
from openai.types.responses import Response
from openai_recordings import Exchange, params
from responses_recordings import events, is_cut, is_stream, responses

from ownkey.dialects.openai_chat import OpenAIDialect, OpenRouterDialect
from ownkey.domain.failures import FailureClass
from ownkey.domain.usage import Usage
from ownkey.domain.wire import Edits, Seen
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openrouter import OpenRouterProvider

PROVIDERS = {"openai": OpenAIProvider(), "openrouter": OpenRouterProvider()}
FOUND = responses()
GOOD = [item for item in FOUND if item.status == 200 and not is_cut(item)]
STREAMS = [item for item in GOOD if is_stream(item)]
WHOLE = [item for item in GOOD if not is_stream(item)]
CUT = [item for item in FOUND if item.status == 200 and is_cut(item)]
REFUSED = [item for item in FOUND if item.status != 200]
# An error inside, and two events whose JSON is not closed.
BROKEN = {"openai-error": FailureClass.FUNDS, "parallel-tool-call-wrapper": FailureClass.NETWORK}
CALLERS_TURN = {
    "function_call", "custom_tool_call", "computer_call", "local_shell_call", "apply_patch_call",
    "mcp_approval_request",
}


def broken(item: Exchange) -> FailureClass | None:
    return next((cls for name, cls in BROKEN.items() if name in item.name), None)


def codec(item: Exchange) -> Any:
    return PROVIDERS[item.provider].codec("openai", "responses")[0]


def relay(item: Exchange, body: bytes, step: int | None = None) -> tuple[bytes, Seen]:
    """The bytes that come out, and what was seen, of a body fed at once or in pieces of `step` bytes."""
    reader = codec(item).passthrough(None)
    pieces = [body] if step is None else [body[at : at + step] for at in range(0, len(body), step)]
    relayed = [frame for piece in pieces for frame in reader.feed(piece)]
    return b"".join([*relayed, *reader.eof()]), reader.seen


def final(item: Exchange) -> dict[str, Any]:
    """The answer as the stream's last event repeats it, or the body."""
    if not is_stream(item):
        return item.json()
    last = list(events(item.body))[-1]
    return last["response"]


def expected_usage(answer: dict[str, Any]) -> Usage | None:
    """The rule of the contract, written down a second time and from the JSON alone."""
    reported = answer.get("usage")
    if not reported:
        return None
    given, made = reported["input_tokens"], reported["output_tokens"]
    inside, outside = reported["input_tokens_details"], reported["output_tokens_details"]
    cached, written = inside["cached_tokens"], inside.get("cache_write_tokens") or 0
    cost = None
    if reported.get("cost") is not None:
        total = Decimal(str(reported["cost"]))
        if reported.get("is_byok"):
            total += Decimal(str(reported["cost_details"]["upstream_inference_cost"]))
        cost = int((total * 10**9).to_integral_value(rounding="ROUND_CEILING"))
    fees: dict[str, int] = {}
    for found in answer["output"]:
        kind = found["type"].removesuffix("_call")
        searched = kind != "web_search" or (found.get("action") or {}).get("type", "search") == "search"
        if kind in ("web_search", "file_search", "code_interpreter", "image_generation") and searched:
            fees[kind] = fees.get(kind, 0) + 1
    return Usage(
        input=given - cached - written,
        cache_read=cached,
        cache_write_5m=written,
        output=made - outside["reasoning_tokens"],
        reasoning=outside["reasoning_tokens"],
        units=() if cost is not None else tuple(fees.items()),
        cost_nusd=cost,
        is_byok=bool(reported.get("is_byok")),
    )


def sdk_sizes(answer: Response) -> int:
    """Bytes of text, refusal, reasoning and tool calls, by the SDK's types."""
    texts: list[str | None] = []
    for made in answer.output:
        match made.type:
            case "message":
                texts += [part.refusal if part.type == "refusal" else part.text for part in made.content]
            case "reasoning":
                texts += [part.text for part in itertools.chain(made.summary, made.content or ())]
                texts.append(made.encrypted_content)
            case "function_call" | "mcp_call" | "mcp_approval_request":
                texts += [made.name, made.arguments]
            case "custom_tool_call":
                texts += [made.name, made.input]
            case _:
                return -1
    return sum(len(text.encode()) for text in texts if text)


def waits(made: dict[str, Any]) -> bool:
    """Whether an output item is the caller's to act on: a shell is unless it has a container."""
    if made["type"] == "shell_call":
        return (made.get("environment") or {}).get("type") != "container_reference"
    return made["type"] in CALLERS_TURN or (made["type"], made.get("execution")) == ("tool_search_call", "client")


def check(item: Exchange, seen: Seen) -> None:
    """The SDK's reading of the answer against ours."""
    answer = final(item)
    sdk = Response.construct(**answer)
    kinds = {made["type"] for made in answer["output"]}

    assert seen.failure is None
    assert seen.complete
    assert seen.ended
    assert seen.usage == expected_usage(answer)
    assert seen.model == sdk.model
    assert seen.finish_reason == ("tool_calls" if any(map(waits, answer["output"])) else "stop")
    assert seen.content == bool(kinds)
    messages = [made for made in sdk.output if made.type == "message"]
    assert seen.refused == any(part.type == "refusal" for message in messages for part in message.content)
    if sdk.usage is not None and seen.usage is not None:
        assert seen.usage.total_input == sdk.usage.input_tokens
        assert seen.usage.total_output == sdk.usage.output_tokens
        assert seen.usage.reasoning == sdk.usage.output_tokens_details.reasoning_tokens


@pytest.mark.parametrize("item", params(WHOLE))
def test_a_whole_answer(item: Exchange) -> None:
    """Usage, cost, status and content are the SDK's reading."""
    seen = codec(item).observe_whole(item.body)

    check(item, seen)
    assert seen.response_id == item.json()["id"]
    assert sdk_sizes(Response.construct(**item.json())) in (-1, seen.content_bytes)


@pytest.mark.parametrize("item", params([item for item in STREAMS if broken(item) is None]))
def test_a_stream_passes_as_received(item: Exchange) -> None:
    """A caller gets the provider's bytes, and what is seen of them is the SDK's reading of the whole answer."""
    relayed, seen = relay(item, item.body)

    assert relayed == item.body
    check(item, seen)
    assert sdk_sizes(Response.construct(**final(item))) in (-1, seen.content_bytes)
    numbers = [event["sequence_number"] for event in events(item.body) if "sequence_number" in event]
    assert seen.sequence_number == (numbers[-1] if numbers else None)


@pytest.mark.parametrize("item", params([item for item in STREAMS if broken(item) is not None]))
def test_a_broken_stream_fails(item: Exchange) -> None:
    """An error in a stream of status 200, or an event that is no JSON, is the attempt's failure."""
    relayed, seen = relay(item, item.body)

    assert seen.failure is not None
    assert seen.failure.cls is broken(item)
    assert not seen.complete
    assert b"response.completed" not in relayed


@pytest.mark.parametrize("item", params(STREAMS))
def test_a_stream_cut_into_single_bytes_is_the_same(item: Exchange) -> None:
    """Chunk boundaries never show: same bytes out, same observation."""
    assert relay(item, item.body, step=1) == relay(item, item.body)


@pytest.mark.parametrize("item", params(STREAMS))
@pytest.mark.parametrize("step", [None, 1, 7])
def test_line_ends_and_comments_do_not_show(item: Exchange, step: int | None) -> None:
    """With CRLF and with comments between the events, the same events come out."""
    crlf = item.body.replace(b"\n", b"\r\n")
    commented = b": first\r\n\r\n" + crlf.replace(b"\r\n\r\n", b"\r\n\r\n: still there\r\n\r\n")
    plain, seen = relay(item, item.body)
    for body in (crlf, commented):
        relayed, other = relay(item, body, step)

        assert other == seen
        comments = (b": first\r\n\r\n", b": still there\r\n\r\n")
        for comment in comments:
            relayed = relayed.replace(comment, b"")
        assert relayed.replace(b"\r\n", b"\n") == plain


@pytest.mark.parametrize("item", params(STREAMS))
def test_content_begins_with_the_models_first_word(item: Exchange) -> None:
    """Nothing before the first delta, call or finished item is content, and that is."""
    reader = codec(item).passthrough(None)
    for frame in item.body.replace(b"\r\n", b"\n").split(b"\n\n"):
        before = reader.seen.content
        reader.feed(frame + b"\n\n")
        if reader.seen.content and not before:
            told = next(events(frame))
            first = told["type"]
            opened = first == "response.output_item.added" and told["item"]["type"].endswith("_call")
            assert opened or first.endswith(".delta") or first == "response.output_item.done"
            return
    assert broken(item) is not None


@pytest.mark.parametrize("item", params(CUT))
def test_a_body_that_is_no_response_fails(item: Exchange) -> None:
    """Half a body, whatever it looks like, is no answer."""
    seen = codec(item).observe_whole(item.body)

    assert seen.failure is not None
    assert seen.failure.cls is FailureClass.NETWORK


@pytest.mark.parametrize("item", params(REFUSED))
def test_a_refusal_has_its_class(item: Exchange) -> None:
    """Statuses other than 200 are classified by their code; a missing model is no mistake of the request."""
    failure = PROVIDERS[item.provider].decode_failure(item.status, item.headers, item.body)
    code = json.loads(item.body)["error"]["code"]

    expected = {
        "model_not_found": FailureClass.MODEL_MISSING,
        "invalid_api_key": FailureClass.AUTH,
        "insufficient_quota": FailureClass.FUNDS,
    }
    assert failure.cls is expected.get(code, FailureClass.REQUEST)
    assert failure.unbilled


@pytest.mark.parametrize("item", params([item for item in FOUND if item.request.startswith(b"{")]))
@pytest.mark.parametrize("dialect", [OpenAIDialect(), OpenRouterDialect()], ids=["openai", "openrouter"])
def test_recorded_requests_are_understood(item: Exchange, dialect: OpenAIDialect) -> None:
    """Every recorded request decodes and keeps its bytes."""
    if b'"model"' not in item.request:
        pytest.skip("a request by a stored prompt alone names no model")
    call = dialect.decode("responses", item.request)
    asked = json.loads(item.request)

    assert call.native_body(Edits(model=call.model)) == item.request
    assert call.stream == bool(asked.get("stream"))
    assert call.shape.text_bytes >= len(item.request)
    assert call.shape.output_limit == asked.get("max_output_tokens")
    assert ("previous_response_id" in call.stateful) == (asked.get("previous_response_id") is not None)
    hosted = [tool["type"] for tool in asked.get("tools") or () if tool["type"] not in ("function", "custom")]
    named = [name for name in call.shape.unboundable if name.startswith("tools: ")]
    assert named == [f"tools: {kind}" for kind in hosted]
