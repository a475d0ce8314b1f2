"""Answers and errors as Anthropic's official SDK reads them."""

import inspect
import json
import re
import time
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.types import Message as SdkMessage
from anthropic.types import RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from tests.dialects.anthropic_sdk import ASKED, client_for, parse, streamed_bytes, whole_bytes

from ownkey import providers
from ownkey.dialects import anthropic_fields as fields
from ownkey.dialects.anthropic_errors import OWN_NAMES
from ownkey.dialects.anthropic_messages import AnthropicDialect
from ownkey.domain.conversation import (
    Annotations,
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReport,
)
from ownkey.domain.failures import Failure, FailureClass
from ownkey.domain.usage import Usage
from ownkey.domain.wire import ErrorFields, Seen

CLAUDE = "anthropic-claude-v1"
USAGE = Usage(
    input=5, cache_read=3, cache_write_5m=2, cache_write_1h=1, output=4, reasoning=6, units=(("web_search", 2),)
)
STOP = Finished(FinishReason.STOP, "stop")
CITED = {"type": "url_citation", "url_citation": {"url": "https://e.com", "title": "t", "content": "quoted"}}
EVENTS: list[Event] = [
    Started("msg-1", "claude-x"),
    ReasoningDelta("h", ({"type": "reasoning.text", "text": "h", "index": 0, "format": CLAUDE},)),
    ReasoningDelta("m", ({"type": "reasoning.text", "text": "m", "index": 0, "format": CLAUDE},)),
    ReasoningDelta("", ({"type": "reasoning.text", "signature": "sig", "index": 0, "format": CLAUDE},)),
    ReasoningDelta("", ({"type": "reasoning.encrypted", "data": "red", "index": 1, "format": CLAUDE},)),
    TextDelta("Hel"),
    TextDelta("lo"),
    Annotations((CITED,)),
    ToolCallStart(0, "c1", "f"),
    ToolCallDelta(0, '{"a":'),
    ToolCallDelta(0, "1}"),
    ToolCallStart(1, "c2", "g"),
    ToolCallDelta(1, "{}"),
    Finished(FinishReason.TOOL_CALLS, "tool_calls"),
    UsageReport(USAGE),
]
BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


def answer(events: list[Event], streamed: bool) -> Any:
    return parse(streamed_bytes(events) if streamed else whole_bytes(events), streamed)


def wire(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream; each frame names its type twice, as Anthropic's do."""
    found = []
    for frame in body.decode().split("\n\n")[:-1]:
        event, data = frame.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert event == f"event: {found[-1]['type']}"
    return found


def tool_inputs(message: Any) -> list[tuple[str, str, Any]]:
    return [(block.id, block.name, block.input) for block in message.content if block.type == "tool_use"]


def assert_well_formed(events: list[dict[str, Any]]) -> None:
    """Start, then blocks one after the other with rising indexes, then the delta and the stop."""
    assert [event["type"] for event in (events[0], *events[-2:])] == ["message_start", "message_delta", "message_stop"]
    index, inside = 0, False
    for event in events[1:-2]:
        assert event["index"] == index
        match event["type"]:
            case "content_block_start":
                assert not inside
                inside = True
            case "content_block_stop":
                assert inside
                inside, index = False, index + 1
            case kind:
                assert kind == "content_block_delta"
                assert inside
    assert not inside


def test_every_event_is_one_that_the_sdk_knows() -> None:
    """Strictly validated, and in an order that Anthropic's own streams have."""
    events = wire(streamed_bytes(EVENTS))

    adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    for event in events:
        adapter.validate_python(event, strict=True)
    assert_well_formed(events)
    SdkMessage.model_validate_json(whole_bytes(EVENTS), strict=True)


@BOTH
def test_everything_that_an_answer_holds_arrives(streamed: bool) -> None:
    """Thoughts with their signature, redacted ones, text, citations, calls, the stop and the usage."""
    message = answer(EVENTS, streamed)
    thought, redacted, text, first, second = message.content

    assert (message.id, message.model, message.role, message.type) == ("msg-1", "claude-x", "assistant", "message")
    assert (thought.type, thought.thinking, thought.signature) == ("thinking", "hm", "sig")
    assert (redacted.type, redacted.data) == ("redacted_thinking", "red")
    assert (text.type, text.text) == ("text", "Hello")
    assert [(c.url, c.title, c.cited_text) for c in text.citations] == [("https://e.com", "t", "quoted")]
    assert (first.id, first.name, first.input) == ("c1", "f", {"a": 1})
    assert (second.id, second.name, second.input) == ("c2", "g", {})
    assert (message.stop_reason, message.stop_sequence) == ("tool_use", None)
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (5, 3, 3)
    assert (usage.output_tokens, usage.output_tokens_details.thinking_tokens) == (10, 6)
    assert usage.server_tool_use.web_search_requests == 2
    if not streamed:
        split = usage.cache_creation
        assert (split.ephemeral_5m_input_tokens, split.ephemeral_1h_input_tokens) == (2, 1)


def test_the_input_is_told_at_the_end_where_it_is_not_known_before() -> None:
    """The start must carry usage: nothing yet. The delta has the whole of it."""
    events = wire(streamed_bytes(EVENTS))

    assert events[0]["message"]["usage"]["input_tokens"] == 0
    assert events[-2]["usage"]["input_tokens"] == 5


@pytest.mark.parametrize(
    ("reason", "native", "expected"),
    [
        (FinishReason.STOP, "stop", "end_turn"),
        (FinishReason.STOP, "STOP", "end_turn"),
        (FinishReason.STOP, "end_turn", "end_turn"),
        (FinishReason.STOP, "stop_sequence", "stop_sequence"),
        (FinishReason.STOP, "pause_turn", "pause_turn"),
        (FinishReason.LENGTH, "length", "max_tokens"),
        (FinishReason.LENGTH, "model_context_window_exceeded", "model_context_window_exceeded"),
        (FinishReason.TOOL_CALLS, "tool_calls", "tool_use"),
        (FinishReason.CONTENT_FILTER, "SAFETY", "refusal"),
    ],
)
@BOTH
def test_stop_reasons(reason: FinishReason, native: str, expected: str, streamed: bool) -> None:
    """Anthropic's own words where they say more, else the word for the neutral reason."""
    assert answer([TextDelta("x"), Finished(reason, native)], streamed).stop_reason == expected


@BOTH
def test_a_forced_call_ends_in_a_tool_use(streamed: bool) -> None:
    """OpenAI says "stop" after a call that it was told to make; clients of Anthropic wait for `tool_use`."""
    events: list[Event] = [ToolCallStart(0, "c", "f"), ToolCallDelta(0, "{}")]

    assert answer([*events, STOP], streamed).stop_reason == "tool_use"
    assert answer([*events, Finished(FinishReason.LENGTH, "length")], streamed).stop_reason == "max_tokens"


@BOTH
@pytest.mark.parametrize("reason", [FinishReason.STOP, FinishReason.CONTENT_FILTER])
def test_a_refusal_is_text_and_a_stop_reason(reason: FinishReason, streamed: bool) -> None:
    """It is shown where answers are shown, and told where programs look."""
    message = answer([RefusalDelta("I will "), RefusalDelta("not."), Finished(reason, "x")], streamed)

    assert [block.text for block in message.content] == ["I will not."]
    assert message.stop_reason == "refusal"
    assert (message.stop_details.type, message.stop_details.explanation) == ("refusal", "I will not.")


@BOTH
def test_a_call_without_arguments_has_an_empty_input(streamed: bool) -> None:
    """Some hosts send no arguments at all."""
    assert tool_inputs(answer([ToolCallStart(0, "c", "f"), STOP], streamed)) == [("c", "f", {})]


def test_broken_arguments_of_a_whole_answer_are_wrapped() -> None:
    """Anthropic's documentation names this wrapping; nothing of what the model wrote is lost."""
    events: list[Event] = [ToolCallStart(0, "c", "f"), ToolCallDelta(0, '{"a": "b'), Finished(FinishReason.LENGTH, "x")]

    assert tool_inputs(answer(events, False)) == [("c", "f", {"INVALID_JSON": '{"a": "b'})]
    assert tool_inputs(answer(events, True))[0][0] == "c"


def test_a_stream_shows_what_it_has_at_once() -> None:
    """Every delta leaves with the event that brought it, also of a second call once the first is whole."""
    encoder = AnthropicDialect().encoder(client_call(), 0, "call_1")
    pieces = [encoder.encode([event]) for event in EVENTS]
    told = [any(b'"%s' % kind in piece for kind in (b"text_delta", b"thinking_delta", b"signature_delta",
            b"input_json_delta", b"citations_delta", b"content_block_start")) for piece in pieces]

    # Not the start, which waits for content, nor the redacted thought's position, nor what only the end tells.
    assert told == [not isinstance(event, Started | Finished | UsageReport) for event in EVENTS]


def client_call() -> Any:
    return AnthropicDialect().decode("messages", json.dumps(ASKED).encode())


def test_what_the_provider_does_not_name_is_taken_from_the_call() -> None:
    """The id is the receipt's, the model the one that was asked for."""
    message = answer([Started("", ""), TextDelta("x"), STOP], True)

    assert (message.id, message.model) == ("call_1", "asked-model")


def test_an_answer_without_content_is_whole() -> None:
    """Started, stopped, and nothing between."""
    for streamed in (False, True):
        message = answer([Started("a", "b"), Finished(FinishReason.LENGTH, "x")], streamed)
        assert (message.content, message.stop_reason) == ([], "max_tokens")


# --- order


def test_interleaved_calls_come_one_after_the_other() -> None:
    """Blocks never overlap: a second call waits until the first one's arguments are whole."""
    events: list[Event] = [
        ToolCallStart(0, "a", "f"), ToolCallStart(1, "b", "g"), ToolCallDelta(0, '{"x"'), ToolCallDelta(1, '{"y"'),
        TextDelta("meanwhile"), ToolCallDelta(0, ":1}"), ToolCallDelta(1, ":2}"), TextDelta("!"), STOP,
    ]
    body = streamed_bytes(events)

    assert_well_formed(wire(body))
    for streamed in (False, True):
        message = answer(events, streamed)
        assert tool_inputs(message) == [("a", "f", {"x": 1}), ("b", "g", {"y": 2})]
        assert "".join(block.text for block in message.content if block.type == "text") == "meanwhile!"


def test_white_space_after_whole_arguments_harms_nobody() -> None:
    """The call's block may be closed already."""
    events: list[Event] = [
        ToolCallStart(0, "a", "f"), ToolCallDelta(0, "{}"), TextDelta("x"), ToolCallDelta(0, "\n"), STOP,
    ]
    assert tool_inputs(answer(events, True)) == [("a", "f", {})]


def test_a_long_wait_costs_no_more_than_its_length() -> None:
    """Ten thousand pieces of one call behind another's: in order, and in well under a second of work."""
    first: list[Event] = [ToolCallStart(0, "a", "f"), ToolCallDelta(0, '{"x":"'), ToolCallStart(1, "b", "g")]
    behind: list[Event] = [ToolCallDelta(1, piece) for piece in ('{"y":"', *["x" * 9] * 10_000, '"}')]
    rest: list[Event] = [ToolCallDelta(0, "x" * 9) for _ in range(10_000)]
    began = time.process_time()
    body = whole_bytes([*first, *behind, *rest, ToolCallDelta(0, '"}'), ToolCallDelta(0, " "), TextDelta("!"), STOP])
    took = time.process_time() - began

    content = json.loads(body)["content"]
    assert [block["type"] for block in content] == ["tool_use", "tool_use", "text"]
    assert content[0]["input"] == {"x": "x" * 90_000}
    assert content[1]["input"] == {"y": "x" * 90_000}
    assert took < 3


@settings(deadline=None)
@given(st.data())
def test_any_interleaving_gives_the_same_calls_and_text(data: st.DataObject) -> None:
    """However the pieces of several calls and of the text are mixed, nothing is lost, doubled or out of order."""
    count = data.draw(st.integers(1, 4))
    inputs = [{"n": n, "s": data.draw(st.text(max_size=5))} for n in range(count)]
    queues: list[list[Event]] = []
    for n, value in enumerate(inputs):
        text = json.dumps(value)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=3)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        queues.append([ToolCallStart(n, f"c{n}", "f"), *(ToolCallDelta(n, piece) for piece in pieces)])
    words = data.draw(st.lists(st.sampled_from(["a", "b", " "]), max_size=4))
    queues.append([TextDelta(word) for word in words])
    events: list[Event] = []
    while any(queues):
        events.append(data.draw(st.sampled_from([queue for queue in queues if queue])).pop(0))
    events.append(STOP)

    body = streamed_bytes(events)
    assert_well_formed(wire(body))
    streamed, whole = parse(body, True), answer(events, False)
    assert [block.to_dict() for block in streamed.content] == [
        {name: value for name, value in block.to_dict().items() if value is not None} for block in whole.content
    ]
    assert sorted(tool_inputs(whole)) == [(f"c{n}", "f", value) for n, value in enumerate(inputs)]
    assert "".join(block.text for block in whole.content if block.type == "text") == "".join(words)


@BOTH
def test_citations_stand_with_the_text_before_them(streamed: bool) -> None:
    """Even when an opaque thought came between: that block waits for the text's end."""
    opaque = {"type": "reasoning.encrypted", "data": "d", "index": 0, "format": CLAUDE}
    message = answer([TextDelta("x"), ReasoningDelta("", (opaque,)), Annotations((CITED,)), STOP], streamed)

    assert [block.type for block in message.content] == ["text", "redacted_thinking"]
    assert message.content[0].citations[0].url == "https://e.com"


@BOTH
def test_citations_without_a_text_before_them_stand_with_the_next(streamed: bool) -> None:
    """Or, without any, with an empty one."""
    message = answer([Annotations((CITED,)), TextDelta("x"), STOP], streamed)
    assert [(block.text, len(block.citations)) for block in message.content] == [("x", 1)]
    message = answer([Annotations((CITED,)), STOP], streamed)
    assert [(block.text, len(block.citations)) for block in message.content] == [("", 1)]


# --- errors

REFUSED = ErrorFields(
    status=402, code="ai_paused", message="The cap is reached.", fix="Raise it.", fix_url="https://app/x",
    receipt="call_9", param="model", retry_after_s=7, resets_at="2026-12-01T00:00:00Z",
    details={"spent": "5", "type": "hidden?", "message": "hidden?"},
)


@pytest.mark.parametrize(
    ("status", "kind", "raised"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (401, "authentication_error", anthropic.AuthenticationError),
        (402, "billing_error", anthropic.PaymentRequiredError),
        (403, "permission_error", anthropic.PermissionDeniedError),
        (404, "not_found_error", anthropic.NotFoundError),
        (413, "request_too_large", anthropic.RequestTooLargeError),
        (422, "invalid_request_error", anthropic.UnprocessableEntityError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (500, "api_error", anthropic.InternalServerError),
        (502, "api_error", anthropic.InternalServerError),
        (503, "overloaded_error", anthropic.ServiceUnavailableError),
        (504, "timeout_error", anthropic.InternalServerError),
        (529, "overloaded_error", anthropic.OverloadedError),
    ],
)
def test_errors_are_the_sdks_own_types(status: int, kind: str, raised: type[anthropic.APIStatusError]) -> None:
    """Each status raises its type, with Anthropic's word for it and ours inside."""
    refused = ErrorFields(**{name: getattr(REFUSED, name) for name in REFUSED.__slots__} | {"status": status})
    body = AnthropicDialect().encode_error(refused)

    with pytest.raises(raised) as info:
        client_for(body, False, status).messages.create(**ASKED)
    assert info.value.status_code == status
    told: Any = info.value.body
    assert (told["type"], told["request_id"]) == ("error", "call_9")
    assert told["error"] == {
        "type": kind, "message": "The cap is reached.", "code": "ai_paused", "param": "model", "spent": "5",
        "fix": {"text": "Raise it.", "url": "https://app/x"}, "receipt": "call_9", "retry_after": 7,
        "resets_at": "2026-12-01T00:00:00Z",
    }


def untranslatable_names() -> set[str]:
    """Every parameter that an encoder of ours may refuse by a name in its own source."""
    sources = Path(inspect.getfile(providers)).parent
    text = "\n".join(path.read_text() for path in sources.rglob("*.py"))
    return set(re.findall(r'Untranslatable\(\s*"([^"]+)"', text)) | set(re.findall(r'what = "([a-z][^"]+)"', text))


def test_refusals_name_parameters_as_the_caller_wrote_them() -> None:
    """Each name of an encoder is Anthropic's own too, or has its counterpart; message and `param` agree."""
    # What a caller of Messages cannot have written: no field of theirs leads to it.
    unreachable = {"messages[].content[].input_audio", "dimensions", "input", "encoding_format"}
    same = {"messages", "messages[].content", "model", "tools", "seed"} | fields.ANTHROPIC
    assert untranslatable_names() - same - unreachable <= OWN_NAMES.keys()

    error = ErrorFields(
        status=400, code="bad_request", message="stop cannot be carried to any route.", fix="x", fix_url=None,
        receipt=None, param="stop",
    )
    told = json.loads(AnthropicDialect().encode_error(error))["error"]
    assert (told["param"], told["message"]) == ("stop_sequences", "stop_sequences cannot be carried to any route.")


@BOTH
def test_a_call_without_an_id_gets_one(streamed: bool) -> None:
    """A result must be able to name its call."""
    events: list[Event] = [ToolCallStart(0, "", "f"), ToolCallDelta(0, "{}"), ToolCallStart(1, "", "f"), STOP]
    ids = [call[0] for call in tool_inputs(answer(events, streamed))]

    assert len(set(ids)) == 2
    assert all(ids)


def test_an_error_in_a_stream_is_raised() -> None:
    """What had come stays, and no reader takes it for a whole answer."""
    encoder = AnthropicDialect().encoder(client_call(), 0, "call_1")
    begun = encoder.encode([Started("a", "b"), TextDelta("half")])
    error = AnthropicDialect().encode_stream_error(REFUSED, client_call(), Seen())
    assert b"message_stop" not in begun + error

    texts = []
    with (
        pytest.raises(anthropic.APIStatusError) as info,
        client_for(begun + error, True).messages.stream(**ASKED) as stream,
    ):
        texts.extend(stream.text_stream)
    assert texts == ["half"]
    told: Any = info.value.body
    assert (told["error"]["type"], told["error"]["code"]) == ("billing_error", "ai_paused")


def test_a_stream_that_was_kept_waiting_is_read_all_the_same() -> None:
    """Comments before the first event harm nobody; an error may be the first event of all."""
    waiting = AnthropicDialect.keepalive * 2
    assert parse(waiting + streamed_bytes([TextDelta("x"), STOP]), True).content[0].text == "x"

    error = AnthropicDialect().encode_stream_error(REFUSED, None, None)
    with pytest.raises(anthropic.APIStatusError, match="ai_paused"):
        parse(waiting + error, True)


def test_a_failure_inside_an_answer_adds_nothing() -> None:
    """The gateway ends such a stream itself."""
    encoder = AnthropicDialect().encoder(client_call(), 0, "call_1")

    assert encoder.encode([Failed(Failure(FailureClass.OVERLOAD, "x"))]) == b""
