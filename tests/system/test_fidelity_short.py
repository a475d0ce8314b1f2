"""The replay of recorded traffic in short, and the promises of the harness that does it (tools/fidelity)."""

import asyncio
import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tools.fidelity.__main__ import main
from tools.fidelity.answers import Tokens, payloads
from tools.fidelity.asking import Asked, Door, ask, ask_all
from tools.fidelity.asking_messages import messages_from_chat
from tools.fidelity.bodies import Recording
from tools.fidelity.caller import Reply
from tools.fidelity.classes import class_of_answer, class_of_error
from tools.fidelity.compare import Case, Comparer
from tools.fidelity.passed_through import disorder, ends_well
from tools.fidelity.read_anthropic import AnthropicReader
from tools.fidelity.read_google import read_google
from tools.fidelity.read_openai import OpenAIReader, tokens_of
from tools.fidelity.read_responses import ResponsesReader
from tools.fidelity.recordings import load_recordings
from tools.fidelity.replay import Seat, cut
from tools.fidelity.run import LEAST_OWN, LEAST_TRANSLATED, Outcome, Result, replay_all
from tools.fidelity.variants import broken_streams, cut_streams

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "wire" / "recordings"
EACH_KIND = 2
CHAT, MESSAGES = Door("chat"), Door("messages")

HELLO: dict[str, Any] = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4.1-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}
MESSAGE: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "stop_reason": "tool_use",
    "stop_sequence": None, "usage": {"input_tokens": 20, "cache_read_input_tokens": 5, "output_tokens": 7},
    "content": [
        {"type": "text", "text": "One moment."},
        {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"order": 7}},
    ],
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "error": None,
    "model": "gpt-4.1-mini", "incomplete_details": None, "output": [
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
         "content": [{"type": "output_text", "text": "Hello", "annotations": []}]},
    ],
    "usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 3,
              "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 12},
}
GEMINI: dict[str, Any] = {
    "responseId": "r1", "modelVersion": "gemini-2.5-flash",
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hello"}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7},
}
GOOGLE = "https://generativelanguage.googleapis.com/v1beta/models/"


# --- recorded traffic


@pytest.mark.recorded
def test_a_few_recorded_exchanges_of_every_kind_agree() -> None:
    """Some of each provider, kind, way of answering and status, end to end through a real process."""
    if not RECORDINGS.is_dir():
        pytest.skip(f"recorded traffic is absent: {RECORDINGS}")
    chosen: dict[tuple[Any, ...], list[Recording]] = {}
    for recording in load_recordings(RECORDINGS):
        if not recording.skip:
            key = (recording.provider, recording.kind, recording.streamed, recording.status, recording.request is None)
            chosen.setdefault(key, []).append(recording)

    result = asyncio.run(replay_all([r for found in chosen.values() for r in found[:EACH_KIND]]))

    told = "\n".join(f"{o.recording.name}: {'; '.join(o.reasons)}" for o in result.of("disagreed"))
    assert {recording.kind for recording in map(_recording, result.of("agreed"))} >= {
        "chat", "embeddings", "responses", "messages", "count_tokens", "generate", "batch_embed",
    }, told
    assert len(result.of("agreed")) >= 80, told
    assert len({outcome.recording.name for outcome in result.of("disagreed")}) <= 1, told


def _recording(outcome: Outcome) -> Recording:
    return outcome.recording


# --- the command, on a folder of our own


def test_the_command_replays_a_folder_and_ends_with_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole, streamed, translated, refused and impossible exchanges; exit code 0 and the last line as promised."""
    write(tmp_path, "openai", 200, "whole", "https://api.openai.com/v1/chat/completions",
          {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "Hi"}]}, HELLO)
    write(tmp_path, "openai", 200, "stream", "https://api.openai.com/v1/chat/completions",
          {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "Hi"}], "stream": True}, stream_of(HELLO))
    write(tmp_path, "openai", 200, "vectors", "https://api.openai.com/v1/embeddings",
          {"model": "text-embedding-3-small", "input": "Hi", "encoding_format": "float"},
          {"object": "list", "model": "text-embedding-3-small", "usage": {"prompt_tokens": 1, "total_tokens": 1},
           "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]})
    write(tmp_path, "anthropic", 200, "tool", "https://api.anthropic.com/v1/messages?beta=true",
          {"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "Order 7?"}],
           "tools": [{"name": "look_up", "input_schema": {"type": "object"}}]}, MESSAGE)
    write(tmp_path, "anthropic", 404, "missing", "https://api.anthropic.com/v1/messages",
          {"model": "claude-nobody", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]},
          {"type": "error", "error": {"type": "not_found_error", "message": "model: claude-nobody"}})
    write(tmp_path, "openrouter", 200, "cost", "https://openrouter.ai/api/v1/chat/completions",
          {"model": "any/model", "messages": [{"role": "user", "content": "Hi"}]},
          {**HELLO, "model": "any/model", "usage": {**HELLO["usage"], "cost": 0.0000123}})
    write(tmp_path, "openai", 200, "response", "https://api.openai.com/v1/responses",
          {"model": "gpt-4.1-mini", "input": "Hi"}, RESPONSE)
    write(tmp_path, "anthropic", 200, "count", "https://api.anthropic.com/v1/messages/count_tokens",
          {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "Hi"}]}, {"input_tokens": 9})
    write(tmp_path, "google", 200, "one", GOOGLE + "gemini-embedding-001:embedContent",
          {"content": {"parts": [{"text": "Hi"}]}}, {"embedding": {"values": [0.25, -0.5]}})
    write(tmp_path, "google", 200, "said", GOOGLE + "gemini-2.5-flash:generateContent",
          {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}, GEMINI)
    write(tmp_path, "openai", 200, "other", "https://api.openai.com/v1/images", {"model": "gpt-image"}, {"id": "r"})

    code = main([str(tmp_path)])

    # Chat and messages are asked in both dialects, Google's in two of ours, OpenRouter's at two doors.
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "replayed 16, agreed 16, skipped 1", printed
    assert "own dialect: replayed 9, agreed 9, 100.00% (at least 99%)" in printed
    assert "translated: replayed 7, agreed 7, 100.00% (at least 97%)" in printed
    assert "endpoint not offered: POST openai /v1/images" in printed
    assert code == 0


def outcomes(own: bool, agreed: int, replayed: int) -> list[Outcome]:
    verdicts: list[Any] = ["agreed"] * agreed + ["disagreed"] * (replayed - agreed)
    return [Outcome(Recording("x", "openai"), verdict, own=own) for verdict in verdicts]


@pytest.mark.parametrize(("own", "translated", "good"), [
    ((100, 100), (100, 100), True), ((99, 100), (97, 100), True), ((98, 100), (100, 100), False),
    ((100, 100), (96, 100), False), ((100, 100), (0, 0), True), ((0, 0), (0, 0), False),
])
def test_both_limits_decide_the_exit_code(own: tuple[int, int], translated: tuple[int, int], good: bool) -> None:
    """Many good replays of one sort do not hide bad ones of the other."""
    result = Result([*outcomes(True, *own), *outcomes(False, *translated)])

    assert (LEAST_OWN, LEAST_TRANSLATED) == (0.99, 0.97)
    assert result.good is good


def test_a_folder_that_is_not_there_could_not_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and a sentence instead of figures."""
    code = main([str(tmp_path / "nowhere")])

    assert code == 2
    assert "There is no folder" in capsys.readouterr().err


def test_a_pattern_chooses_and_none_chosen_could_not_be_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--only` takes a part of a name."""
    write(tmp_path, "openai", 200, "other", "https://api.openai.com/v1/images", {"model": "gpt-image"}, {"id": "r"})

    assert main([str(tmp_path), "--only", "nothing-like-it"]) == 2
    assert main([str(tmp_path), "--only", "other"]) == 1  # Nothing was replayed, so nothing is shown to agree.
    assert capsys.readouterr().out.splitlines()[-1] == "replayed 0, agreed 0, skipped 1"


# --- it finds what differs


def whole_case(**changes: Any) -> Case:
    """A case without any difference, before the changes: `body` and parts of the attempt."""
    recording = Recording(
        "p/openai/200-x.json", "openai", body=json.dumps(HELLO).encode(), model="gpt-4.1-mini",
        request={"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "Hi"}]},
    )
    asked = ask(recording, CHAT)
    seat = Seat(recording, [("/chat/completions", {**asked.body, "model": "gpt-4.1-mini"})])
    attempt = {
        "provider": "openai", "failure": None, "status": 200, "basis": "computed", "cost_nusd": "6800",
        "usage": {"input": 9, "output": 2},
    }
    attempt |= {name: value for name, value in changes.items() if name in attempt}
    reply = Reply(200, {"x-ownkey-receipt": "call_1"}, changes.get("body", recording.body), dict(asked.body))
    receipt = {"attempts": [attempt], "finish_reason": "stop"}
    return Case(recording, asked, seat, reply, receipt)


def fields(case: Case) -> set[str]:
    return {difference.field.partition(" ")[0] for difference in Comparer().compare(case)}


def changed(**changes: Any) -> bytes:
    return json.dumps({**HELLO, **changes}).encode()


def test_a_faithful_answer_has_no_difference() -> None:
    """The case that all others are changed from."""
    assert fields(whole_case()) == set()


@pytest.mark.parametrize(("changes", "field"), [
    ({"body": changed(choices=[{**HELLO["choices"][0], "finish_reason": "length"}])}, "choices[0].finish"),
    ({"body": changed(choices=[{**HELLO["choices"][0], "message": {"content": "Hullo"}}])}, "choices[0].text"),
    ({"body": changed(usage={**HELLO["usage"], "completion_tokens": 3})}, "usage"),
    ({"body": changed(model="gpt-4.1")}, "model"),
    ({"body": json.dumps(HELLO, indent=1).encode()}, "bytes"),
    ({"cost_nusd": "6900"}, "receipt.cost_nusd"),
    ({"cost_nusd": None}, "receipt.cost_nusd"),
    ({"usage": {"input": 9, "output": 2, "reasoning": 1}}, "receipt.usage"),
    ({"failure": "overload"}, "receipt.attempts"),
    ({"provider": "openrouter"}, "route"),
])
def test_one_changed_field_is_found(changes: dict[str, Any], field: str) -> None:
    """Whatever the gateway would get wrong shows as a difference of that field."""
    assert field in fields(whole_case(**changes))


def test_a_request_that_reached_the_provider_changed_is_found() -> None:
    """Beyond the few edits the gateway may make, the caller's body belongs to the caller."""
    case = whole_case()
    case.seat.requests[0][1]["temperature"] = 0.5

    assert fields(case) == {"request"}


def test_a_lost_event_of_a_stream_is_found() -> None:
    """Every recorded event comes out, in its order; usage that nobody asked for is withheld."""
    body = stream_of(HELLO).encode()
    usage = next(f"data: {payload}\n\n".encode() for payload in payloads(body) if "usage" in payload)
    withheld = body.replace(usage, b"")

    assert fields(streamed_case(withheld)) == set()
    assert fields(streamed_case(body)) == {"usage"}
    assert fields(streamed_case(withheld.replace(b'"content": "He"', b'"content": ""'))) >= {"events"}
    assert "events" in fields(streamed_case(withheld.removesuffix(b"data: [DONE]\n\n")))


def streamed_case(body: bytes) -> Case:
    """The faithful case streamed, with `body` as what the caller got."""
    case = whole_case(body=body)
    recording = replace(case.recording, body=stream_of(HELLO).encode(), streamed=True)
    asked = ask(recording, CHAT)
    case.seat.requests[0] = ("/chat/completions", {**asked.body, "model": recording.model})
    return replace(case, recording=recording, asked=asked, reply=replace(case.reply, sent=dict(asked.body)))


def test_the_wrong_class_of_an_error_is_found() -> None:
    """The receipt's class must be the one that the recorded body means."""
    error = b'{"error": {"message": "Rate limit", "type": "requests", "code": "rate_limit_exceeded"}}'
    said = b'{"error": {"message": "", "code": "provider_unavailable"}}'
    case = whole_case(failure="funds", status=429)
    refused = replace(
        case, recording=replace(case.recording, status=429, body=error),
        reply=Reply(503, body=said, raised="InternalServerError"),
    )

    assert fields(refused) == {"receipt.class"}


def message_case(**changes: Any) -> Case:
    """A recorded completion asked for in Anthropic's dialect, answered faithfully before the changes."""
    case = whole_case()
    asked = ask(case.recording, MESSAGES)
    said = {**MESSAGE, "id": "chatcmpl-1", "model": "gpt-4.1-mini", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "Hello"}], "usage": {"input_tokens": 9, "output_tokens": 2}}
    seat = Seat(case.recording, [("/chat/completions", {"model": "gpt-4.1-mini"})])
    reply = replace(case.reply, body=json.dumps({**said, **changes}).encode())
    return replace(case, asked=asked, seat=seat, reply=reply)


@pytest.mark.parametrize(("changes", "field"), [
    ({}, None), ({"stop_reason": "max_tokens"}, "choices[0].finish"), ({"id": "msg_1"}, "id"),
    ({"content": [{"type": "text", "text": "Hullo"}]}, "choices[0].text"), ({"stop_reason": None}, "cut"),
    ({"usage": {"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 2}}, "usage"),
])
def test_what_a_translation_gets_wrong_is_found(changes: dict[str, Any], field: str | None) -> None:
    """The same comparison where the caller speaks another dialect than the provider."""
    found = fields(message_case(**changes))

    assert found == set() if field is None else field in found


def test_a_stream_of_blocks_out_of_order_is_found() -> None:
    """Blocks come one after the other, and names are their events' own."""
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("message_start", {}), ("content_block_start", {"index": 0}), ("content_block_delta", {"index": 0}),
        ("content_block_stop", {"index": 0}), ("message_delta", {}), ("message_stop", {}),
    ]
    frames = [f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode() for kind, more in kinds]

    assert disorder(MESSAGES, b"".join(frames)) == ""
    for left_out in range(len(frames) - 1):
        if left_out not in (2, 4):  # A block may be empty, and the end without a report is found elsewhere.
            assert disorder(MESSAGES, b"".join(frames[:left_out] + frames[left_out + 1:])), kinds[left_out]
    assert disorder(MESSAGES, b"".join(frames[:-1])) == "ends with message_delta"
    assert disorder(MESSAGES, b"".join(frames).replace(b"event: message_stop\n", b""))
    assert ends_well(b"".join(frames))
    assert not ends_well(b"".join(frames[:-1]))


# --- its parts


def test_every_offered_endpoint_is_asked_in_each_dialect_that_reaches_it() -> None:
    """Own first; OpenRouter's at both prefixes; Google's in two dialects of ours."""
    def doors(provider: str, kind: Any) -> list[str]:
        return [str(asked.door) for asked in ask_all(Recording("x", provider, kind, model="m"))]

    assert doors("openai", "chat") == ["/v1/chat/completions", "/v1/messages"]
    assert doors("openai", "responses") == ["/v1/responses"]
    assert doors("openrouter", "messages") == ["/v1/messages", "/api/v1/messages"]
    assert doors("anthropic", "messages") == ["/v1/messages", "/v1/chat/completions"]
    assert doors("anthropic", "count_tokens") == ["/v1/messages/count_tokens"]
    assert doors("google", "generate") == ["/v1/chat/completions", "/v1/messages"]
    assert doors("google", "batch_embed") == ["/v1/embeddings"]


def test_damage_is_the_same_for_a_seed_and_always_found() -> None:
    """A stream cut off, and one with an error in it, are no whole answers; other recordings are left out."""
    stream = Recording("s", "openai", streamed=True, body=stream_of(HELLO).encode())
    whole = Recording("w", "openai", body=json.dumps(HELLO).encode())

    assert cut_streams([stream, whole], 1) == cut_streams([stream, whole], 1) != cut_streams([stream], 2)
    assert [r.name for r in cut_streams([stream, whole], 1)] == ["s"]
    for seed in range(20):
        [broken] = broken_streams([stream], seed)
        assert OpenAIReader().read_chat(broken.body, streamed=True).error


def test_pieces_of_a_stream_are_the_stream() -> None:
    """Cut anywhere, and on every run in the same places."""
    body = stream_of(HELLO).encode()

    for name in map(str, range(50)):
        assert b"".join(cut(name, body)) == body
        assert cut(name, body) == cut(name, body)
    assert cut("short", b"x") == [b"x"]


def test_the_same_answer_reads_the_same_whole_and_streamed() -> None:
    """The official package is pointed at the bytes, one event at a time or in one piece."""
    reader = OpenAIReader()
    whole = reader.read_chat(json.dumps(HELLO).encode(), streamed=False)
    streamed = reader.read_chat(stream_of(HELLO).encode(), streamed=True)

    assert whole.choices == streamed.choices
    assert whole.tokens == streamed.tokens == Tokens(input=9, output=2)
    assert not whole.failed
    assert reader.read_chat(stream_of(HELLO).encode().replace(b'"stop"', b"null"), streamed=True).cut


def test_an_anthropic_answer_reads_in_the_words_of_the_chat_dialect() -> None:
    """Blocks become text and calls, the stop reason is mapped, the cache is a class of its own."""
    answer = AnthropicReader().read(json.dumps(MESSAGE).encode(), streamed=False)

    choice = answer.choices[0]
    assert (choice.text, choice.finish) == ("One moment.", "tool_calls")
    assert [call.value() for call in choice.calls] == [("look_up", {"order": 7})]
    assert answer.tokens == Tokens(input=20, cache_read=5, output=7)


def test_a_response_reads_the_same_whole_and_streamed() -> None:
    """Items, usage in disjoint classes and the end; a stream that breaks off says so and keeps what it had."""
    reader = ResponsesReader()
    events: list[dict[str, Any]] = [
        {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "status": "in_progress"}},
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Hello", "item_id": "msg_1",
         "output_index": 0, "content_index": 0, "logprobs": []},
        {"type": "response.completed", "sequence_number": 2, "response": RESPONSE},
    ]
    frames = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    whole = reader.read(json.dumps(RESPONSE).encode(), streamed=False)
    streamed = reader.read(b"".join(frames), streamed=True)
    cut_off = reader.read(b"".join(frames[:-1]), streamed=True)

    assert whole.choices == streamed.choices
    assert whole.tokens == streamed.tokens == Tokens(input=5, cache_read=4, output=2, reasoning=1)
    assert (whole.choices[0].text, whole.choices[0].finish, whole.failed) == ("Hello", "stop", False)
    assert (cut_off.cut, cut_off.choices[0].text) == (True, "Hello")


def test_arguments_that_gemini_sends_in_pieces_are_put_together() -> None:
    """Paths may go into objects and lists, and texts grow."""
    pieces = [{"jsonPath": "$.a.b[0]", "stringValue": "x"}, {"jsonPath": "$.a.b[0]", "stringValue": "y"},
              {"jsonPath": "$.n", "numberValue": 2}]
    parts = [{"functionCall": {"name": "f", "partialArgs": pieces}}]
    body = json.dumps({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}).encode()

    choice = read_google(body, streamed=False).choices[0]

    assert [call.value() for call in choice.calls] == [("f", {"a": {"b": ["xy"]}, "n": 2})]
    assert choice.finish == "tool_calls"


def test_tokens_are_taken_apart_and_never_counted_twice() -> None:
    """Also where a host reports the same tokens as read and as written, or thoughts beside the answer."""
    twice = {"prompt_tokens": 10, "completion_tokens": 4,
             "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 8}}
    beside = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 20,
              "completion_tokens_details": {"reasoning_tokens": 6}}

    assert tokens_of(twice) == Tokens(input=0, cache_read=8, written=2, output=4)
    assert tokens_of(beside) == Tokens(input=10, output=4, reasoning=6)


@pytest.mark.parametrize(("provider", "status", "error", "cls"), [
    ("openai", 401, {"code": "invalid_api_key"}, "auth"),
    ("openai", 401, {"message": "Missing scopes: model.request"}, "scope"),
    ("openai", 429, {"type": "insufficient_quota"}, "funds"),
    ("openai", 400, {"message": "Unsupported value", "code": "unsupported_value"}, "request"),
    ("anthropic", 529, {"type": "overloaded_error"}, "overload"),
    ("anthropic", 400, {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}, "too_long"),
    ("openrouter", 402, {"code": 402, "metadata": {"limit_source": "openrouter_in_flight_budget"}}, "rate_limit"),
    ("openrouter", 404, {"message": "No endpoints found for x."}, "scope"),
    ("google", 400, {"status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}, "auth"),
    ("google", 429, {"status": "RESOURCE_EXHAUSTED"}, "funds"),
])
def test_an_error_has_its_class(provider: str, status: int, error: dict[str, Any], cls: str) -> None:
    """The harness's own small table."""
    assert class_of_answer(provider, status, json.dumps({"error": error}).encode()) == cls
    assert class_of_error("openrouter", 200, {"code": 429}) == "rate_limit"


def test_an_anthropic_request_is_asked_in_the_chat_dialect() -> None:
    """System, tool results, forced tools, stop and limits; what has no word there is noted."""
    request = {
        "model": "claude-sonnet-4-5", "max_tokens": 50, "system": "Be brief.", "stop_sequences": ["END"],
        "messages": [
            {"role": "user", "content": "Order 7?"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"n": 7}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sent"}]},
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}, {"type": "web_search_20250305", "name": "web"}],
        "tool_choice": {"type": "any"},
    }
    recording = Recording("p/x.json", "anthropic", "messages", request=request, model=request["model"])
    asked: Asked = ask(recording, CHAT)

    assert [message["role"] for message in asked.body["messages"]] == ["system", "user", "assistant", "tool"]
    assert asked.body["messages"][3] == {"role": "tool", "tool_call_id": "t1", "content": "sent"}
    assert (asked.body["stop"], asked.body["tool_choice"], len(asked.body["tools"])) == (["END"], "required", 1)
    assert asked.notes == ("left out: the server tool web",)


def test_a_chat_request_is_asked_in_anthropics_dialect() -> None:
    """System, calls and their results in turns, tools, format; what has no word there is noted."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"n": 7}'}}
    body, notes = messages_from_chat({
        "messages": [
            {"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Order 7?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "sent"}, {"role": "user", "content": "And?"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required", "stop": "END",
        "parallel_tool_calls": False, "seed": 7,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    })

    assert body["system"] == [{"type": "text", "text": "Be brief."}]
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == [{"type": "tool_use", "id": "c1", "name": "f", "input": {"n": 7}}]
    assert [block["type"] for block in body["messages"][2]["content"]] == ["tool_result", "text"]
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert (body["stop_sequences"], body["max_tokens"]) == (["END"], 1024)
    assert body["output_config"]["format"]["type"] == "json_schema"
    assert body["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert notes == ["left out: seed"]


def test_other_layouts_and_other_recorders_are_read_too(tmp_path: Path) -> None:
    """Cassettes, lines, compressed files, streams as they came; no provider's folder, no status as a number."""
    request = {"method": "POST", "uri": "https://api.openai.com/v1/chat/completions/", "body": {"model": "gpt-4.1"}}
    answer = {"status": {"code": 200}, "headers": [["Content-Type", "application/json"]],
              "body": {"string": json.dumps(HELLO)}}
    exchange = {"request": request, "response": answer}
    zipped = base64.b64encode(gzip.compress(json.dumps(HELLO).encode())).decode()
    write_text(tmp_path / "flat.json", json.dumps({"interactions": [exchange, exchange]}))
    write_text(tmp_path / "deep/er/lines.jsonl", json.dumps({**exchange, "response": {**answer, "body": zipped}}))
    write_text(tmp_path / "index.jsonl", json.dumps({"id": "x", "provider": "openai", "status": 200}))
    write_text(tmp_path / "openai/as-it-came.txt", stream_of(HELLO))
    write_text(tmp_path / "notes.md", "data: not a recording")
    (tmp_path / "packed.json.gz").write_bytes(gzip.compress(json.dumps(exchange).encode()))

    found = {recording.name: recording for recording in load_recordings(tmp_path)}

    assert sorted(found) == [
        "deep/er/lines.jsonl", "flat.json", "flat.json#2", "openai/as-it-came.txt", "packed.json.gz",
    ]
    assert {(r.provider, r.kind, r.status, r.skip) for r in found.values()} == {("openai", "chat", 200, "")}
    assert {r.body for r in found.values() if not r.streamed} == {json.dumps(HELLO).encode()}
    assert found["openai/as-it-came.txt"].streamed


def test_bodies_without_requests_are_recordings_too(tmp_path: Path) -> None:
    """A body or a list of events says by itself what it is; two answers in one file are two streams."""
    start = {"type": "message_start", "message": {**MESSAGE, "content": []}}
    write_text(tmp_path / "p" / "anthropic" / "a.chunks.txt",
               "\n".join(json.dumps(event) for event in [start, {"type": "message_stop"}] * 2))
    write_text(tmp_path / "p" / "openai" / "b.json", json.dumps(HELLO, indent=1))
    write_text(tmp_path / "p" / "openai" / "c.json", '{"error": {"message": "no", "code": "insufficient_quota"}}')

    found = {recording.name: recording for recording in load_recordings(tmp_path)}

    assert sorted(found) == ["p/anthropic/a.chunks.txt", "p/anthropic/a.chunks.txt#2", "p/openai/b.json",
                             "p/openai/c.json"]
    assert len(payloads(found["p/anthropic/a.chunks.txt"].body)) == 2
    assert (found["p/openai/b.json"].model, found["p/openai/b.json"].skip) == ("gpt-4.1-mini", "")
    wrong = found["p/openai/c.json"]
    assert (wrong.status, wrong.supposed, wrong.skip) == (429, "status and endpoint of an error body", "")


# --- a folder in the recordings' layout


def write(folder: Path, provider: str, status: int, name: str, url: str, request: Any, answer: Any) -> None:
    body = answer if isinstance(answer, str) else json.dumps(answer)
    kind = "text/event-stream" if isinstance(answer, str) else "application/json"
    write_text(folder / "own" / provider / f"{status}-{name}.json", json.dumps({
        "provider": provider, "request": {"method": "POST", "url": url, "headers": {}, "body": request},
        "response": {"status": status, "headers": {"content-type": kind}, "body": body},
    }))


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def stream_of(answer: dict[str, Any]) -> str:
    """A whole completion as the stream that it could have been."""
    return "".join(f"data: {payload}\n\n" for payload in _events_of(answer))


def _events_of(answer: dict[str, Any]) -> Iterator[str]:
    head = {"id": answer["id"], "object": "chat.completion.chunk", "created": 1, "model": answer["model"]}
    text = answer["choices"][0]["message"]["content"]
    for delta in ({"role": "assistant", "content": ""}, {"content": text[:2]}, {"content": text[2:]}):
        yield json.dumps({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    finish = answer["choices"][0]["finish_reason"]
    yield json.dumps({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    yield json.dumps({**head, "choices": [], "usage": answer["usage"]})
    yield "[DONE]"
