"""Google's recorded answers, read by our codec and by the official SDK, which must agree."""

import json
import re
import warnings
from typing import Any

import msgspec
import pytest
from anthropic_google_wire import (
    ABSENT,
    RECORDINGS,
    Exchange,
    answering,
    assert_cut_short_is_no_answer,
    data_events,
    exchanges,
    fold,
    history_of,
    params,
    read_exchange,
)
from google import genai
from google.genai import types

from ownkey.domain.conversation import ChatRequest, Embedded, Tool
from ownkey.domain.wire import EmbeddingsRequest
from ownkey.providers.google.codec import GenerateCodec
from ownkey.providers.google.embeddings import EmbeddingsCodec

CODEC = GenerateCodec()
# Other interfaces of the same provider, kept in the same folder.
OTHER_ENDPOINTS = ("interactions__", "speech-translation")

ANSWERS = [
    item
    for item in exchanges("google")
    if item.status == 200
    and ("enerateContent" in item.url or not item.url)
    and not any(name in item.name for name in OTHER_ENDPOINTS)
]
STREAMS = [item for item in ANSWERS if item.streamed]
# Arguments in pieces: the SDK hands them on as they come, so that they are put together here.
IN_PIECES = [item for item in ANSWERS if b"partialArgs" in item.body]


def by_sdk(item: Exchange) -> list[Any]:
    """The official SDK's answers (one a chunk) out of the same bytes."""
    options = types.HttpOptions(httpx_client=answering(item))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = genai.Client(api_key="k", http_options=options)
        if item.streamed:
            return list(client.models.generate_content_stream(model="gemini-x", contents="q"))
        return [client.models.generate_content(model="gemini-x", contents="q")]


def parts_of(chunks: list[Any]) -> list[Any]:
    contents = [chunk.candidates[0].content for chunk in chunks if chunk.candidates]
    return [part for content in contents if content and content.parts for part in content.parts]


def test_there_are_recorded_answers() -> None:
    """The recordings did not silently shrink."""
    if not RECORDINGS.is_dir():
        pytest.skip(ABSENT)

    assert len(ANSWERS) >= 77
    assert len(STREAMS) >= 34


@pytest.mark.parametrize("item", params(ANSWERS))
def test_an_answer_reads_as_the_official_sdk_reads_it(item: Exchange) -> None:
    """Text, thoughts, tool calls, stop reason, id, model and usage."""
    chunks = by_sdk(item)
    parts = parts_of(chunks)
    seen, events = read_exchange(CODEC, item)
    read = fold(events)

    assert read.text == "".join(part.text for part in parts if part.text and not part.thought)
    assert read.reasoning == "".join(part.text for part in parts if part.text and part.thought)
    calls = [part.function_call for part in parts if part.function_call and part.function_call.name]
    assert [call.name for call in read.calls] == [call.name for call in calls]
    if item not in IN_PIECES:
        assert [json.loads(call.arguments) for call in read.calls] == [call.args or {} for call in calls]
    assert all(call.id == sent.id or sent.id is None for call, sent in zip(read.calls, calls, strict=True))
    native = next(c.candidates[0].finish_reason for c in reversed(chunks) if c.candidates[0].finish_reason)
    assert read.native == native.value
    assert read.finish == ("length" if native == "MAX_TOKENS" else "tool_calls" if calls else "stop")
    assert read.started is not None
    assert (read.started.id, read.started.model) == (chunks[0].response_id, chunks[0].model_version)
    assert seen.complete
    assert seen.ended
    assert seen.failure is None
    arguments = "".join(call.arguments for call in read.calls)
    assert seen.content_bytes == len((read.text + read.reasoning + arguments).encode())
    check_usage(read.usage, chunks[-1].usage_metadata)
    assert seen.usage == read.usage


def check_usage(ours: Any, theirs: Any) -> None:
    """The classes are the SDK's last counters, and add up to the total that Google states."""
    cached = {row.modality.value: row.token_count for row in theirs.cache_tokens_details or ()}
    assert ours.cache_read + ours.audio_cache_read == (theirs.cached_content_token_count or 0)
    assert ours.audio_cache_read == cached.get("AUDIO", 0)
    assert ours.reasoning == (theirs.thoughts_token_count or 0)
    assert ours.total_output - ours.reasoning == (theirs.candidates_token_count or 0)
    prompt = theirs.prompt_token_count + (theirs.tool_use_prompt_token_count or 0)
    assert ours.total_input == prompt
    assert ours.total_input + ours.total_output == theirs.total_token_count


@pytest.mark.parametrize("item", params(IN_PIECES))
def test_arguments_in_pieces_are_put_together(item: Exchange) -> None:
    """Each call has exactly the leaves that the pieces name, strings joined."""
    expected: list[dict[str, Any]] = []
    for chunk in data_events(item.body):
        for part in chunk["candidates"][0]["content"]["parts"]:
            call = part.get("functionCall", {})
            if call.get("name"):
                expected.append({f"$.{key}": value for key, value in call.get("args", {}).items()})
            for piece in call.get("partialArgs", []):
                leaves = expected[-1]
                value = next((piece[key] for key in ("stringValue", "numberValue", "boolValue") if key in piece), None)
                path = piece["jsonPath"]
                leaves[path] = leaves[path] + value if isinstance(leaves.get(path), str) else value

    read = fold(read_exchange(CODEC, item)[1])

    assert [dict(leaves_of(json.loads(call.arguments))) for call in read.calls] == expected


def leaves_of(value: Any, path: str = "$") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for key, child in value.items() for leaf in leaves_of(child, f"{path}.{key}")]
    if isinstance(value, list):
        return [leaf for at, child in enumerate(value) for leaf in leaves_of(child, f"{path}[{at}]")]
    return [(path, value)]


@pytest.mark.parametrize("item", params(STREAMS))
def test_a_cut_stream_is_no_answer(item: Exchange) -> None:
    """The finish reason makes it whole."""
    assert_cut_short_is_no_answer(CODEC, item.body, lambda frame: re.search(rb'"finishReason":\s*"', frame))


@pytest.mark.parametrize("item", params(STREAMS))
def test_relaying_keeps_every_byte(item: Exchange) -> None:
    """Frames go out as they came in."""
    relay = CODEC.passthrough(None)

    assert b"".join([*relay.feed(item.body), *relay.eof()]) == item.body
    assert relay.seen.ended


@pytest.mark.parametrize("item", params([item for item in ANSWERS if b'"functionCall"' in item.body]))
def test_calls_and_signatures_survive_a_stateless_client(item: Exchange) -> None:
    """What the answer's events carry is enough to send back the very calls and signatures that Google sent."""
    raw = [json.loads(item.body)] if not item.streamed else list(data_events(item.body))
    parts = [part for chunk in raw for part in chunk["candidates"][0]["content"].get("parts", [])]
    sent_parts = [part for part in parts if part.get("functionCall", {}).get("name")]
    read = fold(read_exchange(CODEC, item)[1])
    tools = tuple(Tool(name, None, None) for name in {call.name for call in read.calls})
    request = ChatRequest(messages=tuple(history_of(read)), tools=tools)

    body = msgspec.json.decode(CODEC.encode_chat("gemini-2.5-flash", request, 4_000))

    calls = [part for part in body["contents"][1]["parts"] if "functionCall" in part]
    assert [(part["functionCall"]["name"], part.get("thoughtSignature")) for part in calls] == [
        (part["functionCall"]["name"], part.get("thoughtSignature")) for part in sent_parts
    ]
    responses = [part["functionResponse"] for part in body["contents"][2]["parts"]]
    assert [response["name"] for response in responses] == [call.name for call in read.calls]
    assert [response["id"] for response in responses] == [part["functionCall"]["id"] for part in calls]
    assert len({call.id for call in read.calls}) == len(read.calls)


EMBEDDINGS = [item for item in exchanges("google") if "batchEmbedContents" in item.url and item.status == 200]


@pytest.mark.parametrize("item", params(EMBEDDINGS))
def test_recorded_embeddings_are_read(item: Exchange) -> None:
    """Every vector, in order; usage where it is told. The recorded request is the one that we would send."""
    answer = json.loads(item.body)
    codec = EmbeddingsCodec()
    seen, events = codec.decode_whole(item.body)

    vectors = next(event.vectors for event in events if isinstance(event, Embedded))
    assert [list(vector) for vector in vectors] == [entry["values"] for entry in answer["embeddings"]]
    told = answer.get("usageMetadata", {}).get("promptTokenCount")
    assert (seen.usage.input if seen.usage else None) == told
    requests = item.request["requests"]
    texts = tuple(entry["content"]["parts"][0]["text"] for entry in requests)
    request = EmbeddingsRequest(texts, requests[0]["outputDimensionality"], "float", single=False)
    ours = json.loads(codec.encode_embeddings(requests[0]["model"], request))
    plain = [{key: value for key, value in entry.items() if key != "taskType"} for entry in requests]
    assert ours == {"requests": plain}
