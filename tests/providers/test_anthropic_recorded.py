"""Anthropic's recorded answers, read by our codec and by the official SDK, which must agree."""

import json
import warnings
from typing import Any

import anthropic
import msgspec
import pytest
from anthropic_google_wire import (
    ABSENT,
    RECORDINGS,
    Exchange,
    answering,
    assert_cut_short_is_no_answer,
    exchanges,
    fold,
    history_of,
    params,
    read_exchange,
    read_streamed,
)

from ownkey.domain.conversation import ChatRequest, Tool
from ownkey.providers.anthropic.codec import MessagesCodec

CODEC = MessagesCodec()
# One recorder kept only the content of some answers, as Python text: no bytes that a provider ever sent.
NOT_A_BODY = b"[{'"
# Other endpoints of the same provider: token counts and skills.
OTHER_ENDPOINTS = ("count_tokens", "test_anthropic_model_usage_limit_exceeded", "skills__")
SPLICED = "bodyonly-spliced-message-start.chunks.txt"

ANSWERS = [
    item
    for item in exchanges("anthropic")
    if item.status == 200
    and not item.body.startswith(NOT_A_BODY)
    and not any(name in item.name for name in OTHER_ENDPOINTS)
    and item.name != SPLICED
]
STREAMS = [item for item in ANSWERS if item.streamed]


def by_sdk(item: Exchange) -> Any:
    """The official SDK's final message, out of the same bytes."""
    client = anthropic.Anthropic(api_key="k", http_client=answering(item), max_retries=0)
    call: dict[str, Any] = {"max_tokens": 1, "model": "m", "messages": [{"role": "user", "content": "q"}]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not item.streamed:
            return client.beta.messages.create(**call)
        with client.beta.messages.stream(**call) as stream:
            return stream.get_final_message()


def test_there_are_recorded_answers() -> None:
    """The recordings did not silently shrink."""
    if not RECORDINGS.is_dir():
        pytest.skip(ABSENT)

    assert len(ANSWERS) >= 130
    assert len(STREAMS) >= 75


@pytest.mark.parametrize("item", params(ANSWERS))
def test_an_answer_reads_as_the_official_sdk_reads_it(item: Exchange) -> None:
    """Text, thoughts, signatures, tool calls, stop reason, id, model and usage."""
    expected = by_sdk(item)
    seen, events = read_exchange(CODEC, item)
    read = fold(events)

    of_type = {kind: [block for block in expected.content if block.type == kind] for kind in BLOCKS}
    assert read.text == "".join(block.text for block in of_type["text"])
    assert read.reasoning == "".join(block.thinking for block in of_type["thinking"])
    assert [detail["signature"] for detail in read.details if "signature" in detail] == [
        block.signature for block in of_type["thinking"] if block.signature
    ]
    assert [(call.id, call.name, json.loads(call.arguments)) for call in read.calls] == [
        (block.id, block.name, block.input) for block in of_type["tool_use"]
    ]
    assert read.native == expected.stop_reason
    assert read.finish == FINISH[expected.stop_reason] == seen.finish_reason
    assert read.started is not None
    assert read.started.id == expected.id
    assert read.started.model == expected.model
    assert (seen.response_id, seen.model) == (expected.id, expected.model)
    assert seen.complete
    assert seen.ended
    assert seen.failure is None
    assert seen.content is bool(read.text or read.reasoning or read.calls)
    arguments = "".join(call.arguments for call in read.calls)
    assert seen.content_bytes == len((read.text + read.reasoning + arguments).encode())
    check_usage(read.usage, expected.usage)
    assert seen.usage == read.usage


BLOCKS = ("text", "thinking", "tool_use")
FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def check_usage(ours: Any, theirs: Any) -> None:
    created = theirs.cache_creation
    assert ours.input == theirs.input_tokens
    assert ours.cache_read == (theirs.cache_read_input_tokens or 0)
    assert ours.cache_write_5m + ours.cache_write_1h == (theirs.cache_creation_input_tokens or 0)
    assert ours.cache_write_1h == (created.ephemeral_1h_input_tokens if created else 0)
    assert ours.output + ours.reasoning == theirs.output_tokens
    details = theirs.output_tokens_details
    assert ours.reasoning == (details.thinking_tokens if details else 0)
    tools = theirs.server_tool_use
    searches = tools.web_search_requests if tools else 0
    assert dict(ours.units).get("web_search", 0) == (searches or 0)
    apart = [entry for entry in theirs.iterations or () if entry.type in ("compaction", "advisor_message")]
    assert [(model, part.input, part.output) for model, part in ours.others] == [
        (getattr(entry, "model", ""), entry.input_tokens, entry.output_tokens) for entry in apart
    ]


@pytest.mark.parametrize("item", params(STREAMS))
def test_a_cut_stream_is_no_answer(item: Exchange) -> None:
    """The stop reason makes it whole; an answer may come with it in its first event."""

    def finishes(frame: bytes) -> bool:
        return b"event: message_delta" in frame or (b"event: message_start" in frame and b'"stop_reason":"' in frame)

    assert_cut_short_is_no_answer(CODEC, item.body, finishes)


@pytest.mark.parametrize("item", params(STREAMS))
def test_relaying_keeps_every_byte(item: Exchange) -> None:
    """A caller who speaks Anthropic's format gets the frames as they came, and an end if there was none."""
    relay = CODEC.passthrough(None)
    relayed = b"".join([*relay.feed(item.body), *relay.eof()])
    assert relayed == item.body
    assert relay.seen.ended

    without_end = item.body[: item.body.rindex(b"event: message_stop")]
    relay = CODEC.passthrough(None)
    relayed = b"".join([*relay.feed(without_end), *relay.eof()])
    assert relayed == without_end + b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


@pytest.mark.parametrize("item", params([item for item in exchanges("anthropic") if item.name == SPLICED]))
def test_an_answer_spliced_into_another_is_a_failure(item: Exchange) -> None:
    """The half tool call of the first answer must not be taken for one of the second's."""
    reader = CODEC.events()
    read = fold(read_streamed(reader, [item.body]))

    assert read.failure is not None
    assert (read.failure.cls.value, read.failure.signal) == ("network", "answer restarted")
    assert len(read.calls) == 1


@pytest.mark.parametrize("item", params([item for item in ANSWERS if fold(read_exchange(CODEC, item)[1]).calls]))
def test_thoughts_and_calls_survive_a_stateless_client(item: Exchange) -> None:
    """What the answer's events carry is enough to send back the very blocks that Anthropic sent."""
    message = by_sdk(item)
    read = fold(read_exchange(CODEC, item)[1])
    tools = tuple(Tool(name, None, None) for name in {call.name for call in read.calls})
    request = ChatRequest(messages=tuple(history_of(read)), tools=tools)

    body = msgspec.json.decode(CODEC.encode_chat("claude-sonnet-4-5", request, 4_000))

    sent = [block for block in body["messages"][1]["content"] if block["type"] != "text"]
    expected = [
        block.model_dump(include={"type", "thinking", "signature", "id", "name", "input", "data"}, exclude_none=True)
        for block in message.content
        if block.type in ("thinking", "redacted_thinking", "tool_use")
    ]
    assert sent == sorted(expected, key=lambda block: block["type"] == "tool_use")
    assert [block["tool_use_id"] for block in body["messages"][2]["content"]] == [call.id for call in read.calls]


@pytest.mark.parametrize("item", params([item for item in ANSWERS if b"web_search_result_location" in item.body]))
def test_web_citations_become_annotations(item: Exchange) -> None:
    """Each cites a span of the text with the page's address."""
    read = fold(read_exchange(CODEC, item)[1])

    assert read.annotations
    for annotation in read.annotations:
        citation = annotation["url_citation"]
        assert annotation["type"] == "url_citation"
        assert citation["url"].startswith("http")
        assert 0 <= citation["start_index"] < citation["end_index"] <= len(read.text)
