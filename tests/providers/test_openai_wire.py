"""Streams and bodies that nobody recorded: what must never be taken for a whole answer, and what must."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from ownkey.domain.bounds import RequestShape
from ownkey.domain.conversation import (
    Annotations,
    ChatRequest,
    Failed,
    Finished,
    FinishReason,
    Image,
    JsonFormat,
    Message,
    ReasoningDelta,
    Started,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolChoice,
    Untranslatable,
    UsageReport,
)
from ownkey.domain.exchange import Origin
from ownkey.domain.failures import FailureClass
from ownkey.domain.secret import Secret
from ownkey.domain.usage import Usage
from ownkey.domain.wire import EmbeddingsRequest
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openai_chunks import decode_chunk, read_usage
from ownkey.providers.openrouter import OpenRouterProvider

OPENAI, OPENROUTER = OpenAIProvider(), OpenRouterProvider()
C = FailureClass
DONE = b"data: [DONE]\n\n"


def frame(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish, **more.pop("choice", {})}
    return frame({"id": "gen-1", "model": "m-1", "choices": [choice], **more})


USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
ROLE = chunk({"role": "assistant", "content": ""})
HELLO = chunk({"content": "Hello"})
STOP = chunk(finish="stop")
USED = frame({"id": "gen-1", "model": "m-1", "choices": [], "usage": USAGE})
USED_AGAIN = chunk({"role": "assistant", "content": ""}, "stop", usage=USAGE)
COMMENT = b": OPENROUTER PROCESSING\n\n"


def run(*frames: bytes, asked: bool = True, answers: int = 1, provider: Any = OPENROUTER) -> tuple[bytes, Any]:
    codec = provider.codec("openai", "chat")[0]
    reader = codec.passthrough(SimpleNamespace(include_usage=asked, shape=RequestShape(0, answers=answers)))
    relayed = [part for data in frames for part in reader.feed(data)]
    relayed += reader.eof()
    return b"".join(relayed), reader.seen


def test_content_begins_with_content_reconstructed() -> None:
    """Comments, role frames and empty deltas are relayed, but are no content yet."""
    codec = OPENROUTER.codec("openai", "chat")[0]
    reader = codec.passthrough(SimpleNamespace(include_usage=True, shape=RequestShape(0)))

    assert list(reader.feed(COMMENT + ROLE)) == [COMMENT, ROLE]
    assert not reader.seen.content
    reader.feed(HELLO)
    assert reader.seen.content
    assert reader.seen.content_bytes == 5
    assert not reader.seen.complete


DELTAS = {
    "text": ({"content": "€"}, 3),
    "tool call": ({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}, 1),
    "arguments": ({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}, 5),
    "reasoning": ({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}, 2),
    "deepseek reasoning": ({"reasoning_content": "hm"}, 2),
    "details only": ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "abc"}]}, 3),
    "refusal": ({"refusal": "No."}, 3),
    "function call": ({"function_call": {"name": "f", "arguments": "{}"}}, 3),
    "list of parts": ({"content": [{"type": "text", "text": "x"}]}, 28),
    "empty details": ({"content": "", "reasoning": None, "reasoning_details": []}, 0),
    "details of nothing": ({"reasoning_details": [{"type": "reasoning.text", "text": ""}]}, 0),
}


@pytest.mark.parametrize("name", DELTAS, ids=lambda name: f"reconstructed-{name}")
def test_what_counts_as_content(name: str) -> None:
    """Text, refusal, reasoning and tool calls do; empty deltas do not."""
    delta, size = DELTAS[name]
    _, seen = run(chunk(delta), STOP)

    assert seen.content == bool(size)
    assert seen.content_bytes == size


@pytest.mark.parametrize("asked", [True, False], ids=["reconstructed-asked", "reconstructed-not-asked"])
@pytest.mark.parametrize("usage_frame", [USED, USED_AGAIN], ids=["empty-choices", "repeated-choices"])
def test_the_usage_chunk(asked: bool, usage_frame: bytes) -> None:
    """Relayed if asked for, withheld if not; read in any case."""
    relayed, seen = run(ROLE, HELLO, STOP, usage_frame, DONE, asked=asked)

    assert seen.usage == Usage(input=10, output=4)
    assert relayed == ROLE + HELLO + STOP + (usage_frame if asked else b"") + DONE


def test_usage_beside_new_content_is_never_withheld_reconstructed() -> None:
    """A frame that says something new goes out, whoever asked for what."""
    last = chunk({"content": "!"}, "stop", usage=USAGE)
    relayed, seen = run(HELLO, last, DONE, asked=False)

    assert relayed == HELLO + last + DONE
    assert seen.usage is not None


def test_null_usage_stays_reconstructed() -> None:
    """OpenAI writes `"usage": null` into every other chunk."""
    with_null = chunk({"content": "a"}, usage=None)

    assert run(with_null, STOP, DONE, asked=False)[0] == with_null + STOP + DONE


def test_a_missing_terminator_is_supplied_reconstructed() -> None:
    """A whole answer ends properly even if the provider forgot to say so."""
    relayed, seen = run(HELLO, STOP)

    assert relayed == HELLO + STOP + DONE
    assert seen.complete
    assert seen.ended


def test_a_last_frame_without_its_blank_line_is_closed_reconstructed() -> None:
    """Bytes arrive whole, the framing is completed."""
    assert run(HELLO, STOP.rstrip())[0] == HELLO + STOP + DONE
    assert run(HELLO, STOP, b"data: [DONE]\n")[0] == HELLO + STOP + DONE


CUTS = {
    "EOF without finish": (HELLO,),
    "DONE without finish": (HELLO, DONE),
    "usage and DONE without finish": (HELLO, USED, DONE),
    "nothing": (),
    "only a comment": (COMMENT,),
    "malformed": (HELLO, b"data: {oops\n\n", STOP, DONE),
    "cut inside a frame": (HELLO, STOP[:-20]),
    "not an object": (HELLO, b"data: 7\n\n", STOP, DONE),
    "not UTF-8": (HELLO, b'data: {"id": "\xff"}\n\n', STOP, DONE),
    "a page": (b"<!doctype html>\n<html>\n\n</html>",),
    "one of two choices": (HELLO, STOP, chunk({"content": "b"}, index=1)),
}


@pytest.mark.parametrize("name", CUTS, ids=lambda name: f"reconstructed-{name}")
def test_a_cut_is_never_a_whole_answer(name: str) -> None:
    """The failure is set, no terminator is relayed, and nothing after the failure."""
    relayed, seen = run(*CUTS[name])

    assert seen.failure is not None
    assert seen.failure.cls is C.NETWORK
    assert not seen.ended
    assert b"[DONE]" not in relayed
    assert STOP not in relayed or name == "one of two choices"


def test_all_answers_of_n_must_finish_reconstructed() -> None:
    """Two were asked for: one finish is not the end, and fewer than asked is fine if all of them finished."""
    second = (chunk({"content": "b"}, index=1), chunk(finish="stop", index=1))
    codec = OPENAI.codec("openai", "chat")[0]
    reader = codec.passthrough(SimpleNamespace(include_usage=False, shape=RequestShape(0, answers=2)))
    reader.feed(HELLO + STOP)

    assert not reader.seen.complete
    reader.feed(b"".join(second))
    assert reader.seen.complete
    assert run(HELLO, STOP, DONE, answers=2)[1].failure is None


ERRORS = {
    "top-level": (frame({"id": "g", "choices": [], "error": {"code": 502, "message": "x"}}), C.OVERLOAD),
    "with finish": (chunk(finish="error", error={"code": 429, "message": "x"}), C.RATE_LIMIT),
    "null finish and usage": (chunk(error={"code": 400, "message": "x"}, usage=USAGE), C.REQUEST),
    "in the choice": (chunk(choice={"error": {"code": 402, "message": "x"}}), C.FUNDS),
    "finish only": (chunk(finish="error"), C.OVERLOAD),
    "OpenAI's": (frame({"error": {"message": "x", "type": "server_error", "code": None}}), C.OVERLOAD),
    "a string": (frame({"error": "boom"}), C.OVERLOAD),
    "bare JSON": (b'{"error": {"code": 429, "message": "x"}}\n\n', C.RATE_LIMIT),
}


@pytest.mark.parametrize("name", ERRORS, ids=lambda name: f"reconstructed-{name}")
def test_an_error_inside_a_stream_decides(name: str) -> None:
    """It is judged like any refusal; its frame and all that follow are not relayed."""
    data, cls = ERRORS[name]
    relayed, seen = run(HELLO, data, DONE)

    assert seen.failure is not None
    assert seen.failure.cls is cls
    assert seen.failure.status == 200
    assert not seen.failure.unbilled
    assert relayed == HELLO


def test_a_good_looking_finish_without_content_reconstructed() -> None:
    """`native_finish_reason: error` and nothing said is no answer; after content it is the host's own word."""
    broken = chunk(finish="stop", choice={"native_finish_reason": "network_error"})

    assert run(ROLE, broken, DONE)[1].failure.cls is C.OVERLOAD
    assert run(HELLO, broken, DONE)[1].failure is None


@pytest.mark.parametrize("last", [chunk(finish="content_filter"), chunk({"refusal": "No."}, "stop")],
                         ids=["reconstructed-filter", "reconstructed-refusal"])
def test_a_refusal_inside_a_good_answer_passes(last: bytes) -> None:
    """Class policy, but in the dialect's own words: nothing failed."""
    relayed, seen = run(HELLO, last, DONE)

    assert seen.refused
    assert seen.failure is None
    assert relayed == HELLO + last + DONE


def test_a_broken_tail_takes_nothing_from_a_whole_answer_reconstructed() -> None:
    """After completion only usage and the terminator are missing, and both can be."""
    relayed, seen = run(HELLO, STOP, b"data: {oops\n\n", DONE)

    assert seen.failure is None
    assert relayed == HELLO + STOP + DONE


def test_nothing_after_the_terminator_counts_reconstructed() -> None:
    """No error or second answer behind it reaches the caller, or takes from the answer that was whole."""
    late = frame({"error": {"message": "late", "code": 500}})
    relayed, seen = run(HELLO, STOP, DONE, late, HELLO, DONE)
    events = OPENROUTER.codec("openai", "chat")[0].events()
    read = [*events.feed(HELLO + STOP + DONE + late + HELLO), *events.eof()]

    assert seen.ended
    assert seen.failure is None
    assert relayed == HELLO + STOP + DONE
    assert events.seen.failure is None
    assert [type(event).__name__ for event in read] == ["Started", "TextDelta", "Finished"]


def test_unknown_lines_are_skipped_reconstructed() -> None:
    """SSE readers ignore fields they do not know."""
    odd = b" data: {}\n\n"

    assert run(odd, HELLO, STOP, DONE)[0] == odd + HELLO + STOP + DONE


USAGES: dict[str, tuple[Any, Usage | None]] = {
    "nothing": (None, None),
    "empty": ({}, None),
    "null counts": ({"prompt_tokens": None, "completion_tokens": None, "total_tokens": 0}, None),
    "zero": ({"prompt_tokens": 0, "completion_tokens": 0}, Usage()),
    "text": ("12 tokens", None),
    "text counts": ({"prompt_tokens": "12", "completion_tokens": 1}, None),
    "negative": ({"prompt_tokens": -1, "completion_tokens": 1}, None),
    "negative output": ({"prompt_tokens": 1, "completion_tokens": -1}, None),
    "absurd": ({"prompt_tokens": 10**18, "completion_tokens": 1}, None),
    "cached more than read": (
        {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9}},
        Usage(cache_read=5, output=1),
    ),
    "classes": (
        {
            "prompt_tokens": 100, "completion_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 20, "audio_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 35, "audio_tokens": 5},
        },
        Usage(input=40, cache_read=30, cache_write_5m=20, audio_input=10, output=10, reasoning=35, audio_output=5),
    ),
    "thoughts beside the answer": (
        {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 34,
         "completion_tokens_details": {"reasoning_tokens": 20}},
        Usage(input=10, output=4, reasoning=20),
    ),
    "cost rounded up once": ({**USAGE, "cost": 0.0000000011}, Usage(input=10, output=4, cost_nusd=2)),
    "a reported zero": ({**USAGE, "cost": 0}, Usage(input=10, output=4, cost_nusd=0)),
    "no repetition": (
        {**USAGE, "cost": 0.001, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.001}},
        Usage(input=10, output=4, cost_nusd=1_000_000),
    ),
    "byok": (
        {**USAGE, "cost": 0.0001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.002}},
        Usage(input=10, output=4, cost_nusd=2_100_000, is_byok=True),
    ),
    "byok, unknown": ({**USAGE, "cost": 0, "is_byok": True}, Usage(input=10, output=4, is_byok=True)),
    "negative cost": ({**USAGE, "cost": -1}, Usage(input=10, output=4)),
}


@pytest.mark.parametrize("name", USAGES, ids=lambda name: f"reconstructed-{name}")
def test_usage_in_disjoint_classes(name: str) -> None:
    """Parts never exceed their whole; what is missing or absurd is unknown, never zero."""
    reported, expected = USAGES[name]

    assert read_usage(decode_chunk(json.dumps({"usage": reported}).encode()).usage) == expected


def test_a_cost_is_read_from_its_digits_reconstructed() -> None:
    """More digits than a float holds still count."""
    body = b'{"usage":{"prompt_tokens":1,"completion_tokens":1,"cost":0.12345678900000000000000001}}'

    assert read_usage(decode_chunk(body).usage) == Usage(input=1, output=1, cost_nusd=123_456_790)


BODIES: dict[str, tuple[Any, FailureClass, str]] = {
    "a page": (b"<html>", C.NETWORK, "answer is not a chat completion"),
    "nothing": (b"", C.NETWORK, "answer is not a chat completion"),
    "cut": (b'{"choices": [', C.NETWORK, "answer is not a chat completion"),
    "a list": (b"[]", C.NETWORK, "answer is not a chat completion"),
    "no choices": ({"choices": []}, C.NETWORK, "answer without choices"),
    "no finish": ({"choices": [{"message": {"content": "a"}}]}, C.NETWORK, "answer without finish"),
    "error": ({"error": {"code": 429, "message": "x"}}, C.RATE_LIMIT, "200 rate_limit"),
    "error in the choice": (
        {"choices": [{"message": {"content": "a"}, "finish_reason": "error",
                      "error": {"code": 502, "message": "x", "metadata": {"error_type": "provider_unavailable"}}}]},
        C.OVERLOAD, "200 provider_unavailable",
    ),
    "native error": (
        {"choices": [{"message": {"content": ""}, "finish_reason": "stop", "native_finish_reason": "error"}]},
        C.OVERLOAD, "upstream_finish_error",
    ),
}


@pytest.mark.parametrize("name", BODIES, ids=lambda name: f"reconstructed-{name}")
def test_broken_whole_bodies(name: str) -> None:
    """A 200 is no promise."""
    body, cls, signal = BODIES[name]
    codec = OPENROUTER.codec("openai", "chat")[0]
    seen, events = codec.decode_whole(body if isinstance(body, bytes) else json.dumps(body).encode())

    assert seen.failure is not None
    assert (seen.failure.cls, seen.failure.signal) == (cls, signal)
    assert list(events) == [Failed(seen.failure)]
    assert not seen.ended


@pytest.mark.parametrize(
    ("body", "cls"),
    [(b"<html>", C.NETWORK), (b"{}", C.NETWORK), (b'{"data":[]}', C.NETWORK),
     (b'{"error":{"code":"insufficient_quota","message":"x"}}', C.FUNDS)],
    ids=lambda value: f"reconstructed-{value}",
)
def test_broken_embeddings(body: bytes, cls: FailureClass) -> None:
    """No vectors, no answer."""
    seen = OPENAI.codec("openai", "embeddings")[0].observe_whole(body)

    assert seen.failure is not None
    assert seen.failure.cls is cls


def test_events_of_a_stream_reconstructed() -> None:
    """Everything that a caller of another dialect must learn, in order."""
    codec = OPENAI.codec("anthropic", "messages")[0]
    reader = codec.events()
    annotation = {"type": "url_citation", "url_citation": {"url": "https://example.com"}}
    data = (
        ROLE
        + chunk({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]})
        + HELLO
        + chunk({"annotations": [annotation]})
        + chunk({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}}]})
        + chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})
        + chunk(finish="tool_calls")
        + USED
        + DONE
    )
    events = [event for at in range(len(data)) for event in reader.feed(data[at : at + 1])] + list(reader.eof())

    assert events == [
        Started("gen-1", "m-1"),
        ReasoningDelta("hm", ({"type": "reasoning.text", "text": "hm"},)),
        TextDelta("Hello"),
        Annotations((annotation,)),
        ToolCallStart(0, "c1", "f"),
        ToolCallDelta(0, "{}"),
        Finished(FinishReason.TOOL_CALLS, "tool_calls"),
        UsageReport(Usage(input=10, output=4)),
    ]
    assert reader.seen.ended


def test_a_call_in_the_oldest_form_is_told_as_a_call() -> None:
    """`function_call` came before `tool_calls`: one call, without an id, which here is made of its name."""
    reader = OPENAI.codec("anthropic", "messages")[0].events()
    data = (
        ROLE
        + chunk({"function_call": {"name": "f", "arguments": ""}})
        + chunk({"function_call": {"arguments": "{}"}})
        + chunk(finish="function_call")
        + DONE
    )

    assert [*reader.feed(data), *reader.eof()][1:] == [
        ToolCallStart(0, "call_f", "f"),
        ToolCallDelta(0, "{}"),
        Finished(FinishReason.TOOL_CALLS, "function_call"),
    ]


@pytest.mark.parametrize("tail", [b"", b"data: {oops\n\n", frame({"error": {"message": "x"}}), b"<html>\n\n"],
                         ids=lambda tail: f"reconstructed-{tail[:12]!r}")
def test_a_failing_stream_ends_its_events_with_the_failure(tail: bytes) -> None:
    """Once, and last."""
    reader = OPENAI.codec("anthropic", "messages")[0].events()
    events = [*reader.feed(HELLO + tail), *reader.feed(STOP), *reader.eof(), *reader.eof()]

    if tail:
        assert sum(isinstance(event, Failed) for event in events) == 1
        assert events[-1] == Failed(reader.seen.failure)
    else:
        assert reader.seen.failure is None


CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def test_a_request_for_another_dialects_caller_reconstructed() -> None:
    """The neutral form written in OpenAI's fields, nothing lost."""
    request = ChatRequest(
        messages=(
            Message("system", (Text("Be brief."),)),
            Message("user", (Text("What is this?"), Image("image/png", "AAAA", detail="low"))),
            Message("assistant", (), (ToolCall("c1", "look", '{"x":1}'),)),
            Message("tool", (Text("A cat."),), tool_call_id="c1"),
        ),
        stream=True, temperature=0.2, stop=("END",), tools=(Tool("look", "Looks.", CLOSED, True),),
        tool_choice=ToolChoice("named", "look"), parallel_tool_calls=False, reasoning_effort="none",
        json_format=JsonFormat(CLOSED, "shape", True), rest={"user": "u", "session_id": "s"},
    )
    codec = OPENAI.codec("anthropic", "messages")[0]

    assert json.loads(codec.encode_chat("gpt-5.1", request, 100)) == {
        "model": "gpt-5.1",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            ]},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"x":1}'}},
            ]},
            {"role": "tool", "content": "A cat.", "tool_call_id": "c1"},
        ],
        "max_completion_tokens": 100, "temperature": 0.2, "stop": ["END"],
        "tools": [{"type": "function", "function": {
            "name": "look", "description": "Looks.", "parameters": CLOSED, "strict": True}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {
            "name": "shape", "schema": CLOSED, "strict": True}},
        "reasoning_effort": "none", "user": "u", "stream": True, "stream_options": {"include_usage": True},
    }
    assert codec.dropped_hints(request) == ("session_id",)


HI = (Message("user", (Text("Hi"),)),)


@pytest.mark.parametrize(
    "request_",
    [
        ChatRequest(HI, top_k=3),
        ChatRequest(HI, reasoning_max_tokens=99),
        ChatRequest(HI, stop=("a", "b", "c", "d", "e")),
        ChatRequest(HI, rest={"n": 2}),
        ChatRequest(HI, rest={"logprobs": True}),
        ChatRequest(HI, rest={"plugins": [{}]}),
        ChatRequest((Message("assistant", reasoning_details=({"type": "reasoning.encrypted", "data": "x"},)),)),
    ],
    ids=lambda value: "reconstructed",
)
def test_what_openai_cannot_carry_is_refused(request_: ChatRequest) -> None:
    """Never dropped silently."""
    with pytest.raises(Untranslatable):
        OPENAI.codec("anthropic", "messages")[0].encode_chat("gpt-4.1", request_, 10)


def test_upstream_requests_reconstructed() -> None:
    """Paths, content types and attribution; the credential only as a Secret."""
    headers = {"HTTP-Referer": "https://app.example", "X-OpenRouter-Title": "App", "x-other": "1"}
    secret = Secret("sk-or-v1-x")
    codec = OPENROUTER.codec("openrouter", "chat")[0]
    sent = OPENROUTER.request(OPENROUTER.origin, codec, "m", b"{}", True, secret, headers)

    assert str(sent.origin) + sent.path == "https://openrouter.ai/api/v1/chat/completions"
    assert dict(sent.headers) == {
        "http-referer": "https://app.example", "x-openrouter-title": "App",
        "content-type": "application/json", "accept": "text/event-stream",
    }
    assert sent.credential is secret
    embeddings = OPENAI.codec("openai", "embeddings")[0]
    origin = Origin("http", "127.0.0.1", 9, "/openai/v1")
    plain = OPENAI.request(origin, embeddings, "m", b"{}", False, secret, headers)
    assert plain.path == "/embeddings"
    assert dict(plain.headers) == {"content-type": "application/json", "accept": "application/json"}


def test_which_dialects_are_served_reconstructed() -> None:
    """Passthrough where the wire is the same; translation for Anthropic's callers; no embeddings for them."""
    for provider in (OPENAI, OPENROUTER):
        assert provider.codec("openai", "chat")[1] == "passthrough"
        assert provider.codec("openrouter", "embeddings")[1] == "passthrough"
        assert provider.codec("anthropic", "embeddings") is None
        assert provider.codec("klingon", "chat") is None
    assert OPENAI.codec("anthropic", "messages")[1] == "translated"
    assert OPENROUTER.codec("anthropic", "messages")[1] == "passthrough"
    assert OPENROUTER.codec("anthropic", "count_tokens") is None
    assert OPENAI.stops_billing("gpt-4.1")
    assert OPENROUTER.stops_billing("anthropic/claude-sonnet-4.5")
    assert not OPENROUTER.stops_billing("google/gemini-2.5-flash")


def test_embeddings_requests_reconstructed() -> None:
    """A single text stays a text."""
    codec = OPENAI.codec("openai", "embeddings")[0]

    assert json.loads(codec.encode_embeddings("m", EmbeddingsRequest(("a",), 8, "base64", True))) == {
        "model": "m", "input": "a", "encoding_format": "base64", "dimensions": 8,
    }
