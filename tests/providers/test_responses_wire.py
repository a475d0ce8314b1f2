"""Responses that go wrong, and the corners of the format that no recording has: written by hand after the documents."""

import json
from pathlib import Path
from typing import Any

import pytest

from ownkey.domain.failures import FailureClass
from ownkey.domain.secret import Secret
from ownkey.domain.usage import Usage
from ownkey.domain.wire import Seen
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openrouter import OpenRouterProvider
from ownkey.providers.responses_codec import ResponsesCodec
from ownkey.providers.sse import MAX_FRAME_BYTES

OPENAI, OPENROUTER = OpenAIProvider(), OpenRouterProvider()
DONE = b"data: [DONE]\n\n"
USAGE = {
    "input_tokens": 20, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 6}, "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 29,
}
TEXT = {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "Hé!"}]}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look_up", "arguments": '{"q":1}'}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA" * 10}


def answer(status: str = "completed", **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1", "object": "response", "model": "gpt-4.1-mini-2025-04-14", "status": status, "error": None,
        "incomplete_details": None, "output": [TEXT], "usage": USAGE, **more,
    }


def event(kind: str, **more: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + json.dumps({"type": kind, **more}).encode() + b"\n\n"


def data(kind: str, **more: Any) -> bytes:
    """OpenRouter's frames have no event lines."""
    return b"data: " + json.dumps({"type": kind, **more}).encode() + b"\n\n"


CREATED = event("response.created", sequence_number=0, response=answer("in_progress", output=[], usage=None))
ADDED = event("response.output_item.added", sequence_number=1, output_index=0, item={**TEXT, "content": []})
HELLO = event("response.output_text.delta", sequence_number=2, output_index=0, delta="Hé!")
ITEM = event("response.output_item.done", sequence_number=3, output_index=0, item=TEXT)
COMPLETED = event("response.completed", sequence_number=4, response=answer())
GOOD = CREATED + ADDED + HELLO + ITEM + COMPLETED


def run(*chunks: bytes, provider: Any = OPENAI) -> tuple[bytes, Seen]:
    reader = provider.codec("openai", "responses")[0].passthrough(None)
    relayed = [frame for chunk in chunks for frame in reader.feed(chunk)]
    return b"".join([*relayed, *reader.eof()]), reader.seen


def whole(body: Any, provider: Any = OPENAI) -> Seen:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    seen: Seen = provider.codec("openai", "responses")[0].observe_whole(raw)
    return seen


# --- the stream


def test_a_good_stream_reconstructed() -> None:
    """Bytes pass unchanged; usage, ids, numbers and content are seen; OpenAI's last event is its end."""
    relayed, seen = run(GOOD)

    assert relayed == GOOD
    assert seen.usage == Usage(input=10, cache_read=4, cache_write_5m=6, output=4, reasoning=5)
    assert (seen.response_id, seen.model) == ("resp_1", "gpt-4.1-mini-2025-04-14")
    assert (seen.content_bytes, seen.finish_reason, seen.sequence_number) == (4, "stop", 4)
    assert seen.complete
    assert seen.ended


@pytest.mark.parametrize("provider", [OPENAI, OPENROUTER], ids=["reconstructed-openai", "reconstructed-openrouter"])
def test_every_place_to_cut_gives_the_same(provider: Any) -> None:
    """Two pieces, cut at every byte, with LF and CRLF, comments and a byte-order mark."""
    for body in (GOOD + DONE, b"\xef\xbb\xbf: hi\n\n" + GOOD + DONE, (GOOD + DONE).replace(b"\n", b"\r\n")):
        expected = run(body, provider=provider)
        for at in range(1, len(body)):
            assert run(body[:at], body[at:], provider=provider) == expected


def test_openai_needs_no_terminator_and_openrouter_gets_its_own_reconstructed() -> None:
    """A missing `[DONE]` is supplied only where the upstream's format has one."""
    assert run(GOOD)[0] == GOOD
    assert run(GOOD, provider=OPENROUTER)[0] == GOOD + DONE
    relayed, seen = run(GOOD + DONE, provider=OPENROUTER)
    assert relayed == GOOD + DONE
    assert seen.ended
    assert run(GOOD, DONE)[0] == GOOD


def test_openrouter_is_complete_before_it_has_ended_reconstructed() -> None:
    """Between the last event and `[DONE]` the answer is whole, and a broken tail takes nothing from it."""
    reader: Any = OPENROUTER.codec("openai", "responses")[0].passthrough(None)  # type: ignore[index, arg-type]
    relayed = b"".join(reader.feed(GOOD))
    assert (reader.seen.complete, reader.seen.ended) == (True, False)
    relayed += b"".join([*reader.feed(b"data: {oops\n\n: still there\n\n"), *reader.eof()])

    assert reader.seen.failure is None
    assert relayed == GOOD + b": still there\n\n" + DONE


def test_the_last_event_may_come_without_its_blank_line_reconstructed() -> None:
    """A stream cut after its last byte of content is whole; the frame is closed for the caller."""
    relayed, seen = run(GOOD.rstrip(b"\n"))

    assert seen.complete
    assert relayed == GOOD


@pytest.mark.parametrize(
    ("kind", "reason", "finish", "refused"),
    [
        pytest.param("response.incomplete", "max_output_tokens", "length", False, id="reconstructed-length"),
        pytest.param("response.incomplete", "content_filter", "content_filter", True, id="reconstructed-filter"),
        pytest.param("response.incomplete", None, "length", False, id="reconstructed-no-reason"),
    ],
)
def test_an_incomplete_answer_is_whole(kind: str, reason: str | None, finish: str, refused: bool) -> None:
    """It ends, is billed and says why; a filter's stop is the dialect's own refusal."""
    details = {"reason": reason} if reason else None
    body = answer("incomplete", incomplete_details=details)
    relayed, seen = run(CREATED + HELLO + event(kind, response=body))

    for found in (seen, whole(body)):
        assert found.failure is None
        assert (found.complete, found.finish_reason, found.refused) == (True, finish, refused)
    assert kind.encode() in relayed


CONTENT = [
    ("response.output_text.delta", {"delta": "a"}),
    ("response.refusal.delta", {"delta": "a"}),
    ("response.reasoning_text.delta", {"delta": "a"}),
    ("response.reasoning_summary_text.delta", {"delta": "a"}),
    ("response.function_call_arguments.delta", {"delta": "{"}),
    ("response.custom_tool_call_input.delta", {"delta": "a"}),
    ("response.mcp_call_arguments.delta", {"delta": "{"}),
    ("response.code_interpreter_call_code.delta", {"delta": "a"}),
    ("response.audio.delta", {"delta": "AAAA"}),
    ("response.shell_call_output_content.delta", {"delta": {"stdout": "a"}}),
    ("response.image_generation_call.partial_image", {"partial_image_b64": "AAAA"}),
    ("response.output_item.added", {"item": {**CALL, "arguments": ""}}),
    ("response.output_item.added", {"item": {"type": "web_search_call", "id": "ws_1"}}),
    ("response.output_item.done", {"item": TEXT}),
    ("response.output_item.done", {"item": THOUGHT}),
    ("response.output_item.done", {"item": {"type": "apply_patch_call", "operation": {"diff": "+a"}}}),
]
NO_CONTENT = [
    ("response.in_progress", {"response": answer("in_progress", output=[])}),
    ("response.queued", {"response": answer("queued", output=[])}),
    ("response.output_item.added", {"item": {**TEXT, "content": []}}),
    ("response.output_item.added", {"item": {**THOUGHT, "encrypted_content": None}}),
    ("response.output_item.added", {"item": None}),
    ("response.content_part.added", {"part": {"type": "output_text", "text": ""}}),
    ("response.reasoning_summary_part.added", {"part": {"type": "summary_text", "text": ""}}),
    ("response.output_text.delta", {"delta": ""}),
    ("response.output_item.done", {"item": {"type": "mcp_list_tools", "tools": [{"name": "a"}]}}),
    ("response.web_search_call.searching", {"item_id": "ws_1"}),
    ("response.fusion_call.panel.failed", {"error": {"message": "one of several models gave up"}}),
    ("response.something_new", {"anything": [1, {"a": 2}]}),
]


@pytest.mark.parametrize(
    ("kind", "more"), [pytest.param(*c, id=f"reconstructed-{c[0]}-{n}") for n, c in enumerate(CONTENT)]
)
def test_what_is_content(kind: str, more: dict[str, Any]) -> None:
    """Text, refusal, reasoning, calls and pictures begin an answer."""
    _, seen = run(CREATED + event(kind, output_index=0, **more))

    assert seen.content
    assert seen.content_bytes > 0


@pytest.mark.parametrize(
    ("kind", "more"), [pytest.param(*c, id=f"reconstructed-{c[0]}-{n}") for n, c in enumerate(NO_CONTENT)]
)
def test_what_is_no_content(kind: str, more: dict[str, Any]) -> None:
    """Lifecycle events, empty parts and unknown events pass, and nothing is committed by them."""
    frame = event(kind, output_index=0, **more)
    relayed, seen = run(CREATED + frame + COMPLETED)

    assert frame in relayed
    assert seen.failure is None
    reader: Any = OPENAI.codec("openai", "responses")[0].passthrough(None)  # type: ignore[index, arg-type]
    reader.feed(CREATED + frame)
    assert not reader.seen.content


@pytest.mark.parametrize(("item", "finish"), [
    pytest.param({"type": "shell_call", "action": {"commands": ["ls"]}}, "tool_calls", id="reconstructed-own-shell"),
    pytest.param(
        {"type": "shell_call", "environment": {"type": "container_reference", "container_id": "c1"}}, "stop",
        id="reconstructed-shell-in-a-container",
    ),
    pytest.param({"type": "tool_search_call", "execution": "client"}, "tool_calls", id="reconstructed-own-search"),
    pytest.param({"type": "tool_search_call", "execution": "server"}, "stop", id="reconstructed-search-over-there"),
])
def test_the_caller_is_waited_for_where_it_runs_the_tool(item: dict[str, Any], finish: str) -> None:
    """A shell, or a search for tools, may run at either side; the item says at which."""
    assert whole(answer(output=[{"id": "i1", "call_id": "c1", "status": "completed", **item}])).finish_reason == finish


def test_a_call_is_counted_once_reconstructed() -> None:
    """Name and arguments, whether they came in pieces, at the end, or only in the last event."""
    size = len("look_up") + len('{"q":1}')
    added = event("response.output_item.added", output_index=1, item={**CALL, "arguments": ""})
    pieces = [event("response.function_call_arguments.delta", output_index=1, delta=d) for d in ('{"q"', ":1}")]
    done = event("response.output_item.done", output_index=1, item=CALL)
    end = event("response.completed", response=answer(output=[CALL]))

    for frames in (added + b"".join(pieces) + done + end, done + end, end):
        relayed, seen = run(CREATED + frames)
        assert relayed == CREATED + frames
        assert (seen.content_bytes, seen.finish_reason, seen.content) == (size, "tool_calls", True)
    assert whole(answer(output=[CALL])).content_bytes == size


def test_encrypted_reasoning_counts_once_reconstructed() -> None:
    """It is in two events of the stream, and delivered once."""
    added = event("response.output_item.added", output_index=0, item=THOUGHT)
    done = event("response.output_item.done", output_index=0, item=THOUGHT)
    _, seen = run(CREATED + added + done + event("response.completed", response=answer(output=[THOUGHT])))

    assert seen.content_bytes == len(THOUGHT["encrypted_content"])


def test_a_refusal_is_seen_reconstructed() -> None:
    """The model's own no, streamed or whole, is the dialect's refusal and no failure."""
    refusal = {**TEXT, "content": [{"type": "refusal", "refusal": "I can't."}]}
    _, seen = run(CREATED + event("response.refusal.delta", output_index=0, delta="I can't.") + COMPLETED)

    for found in (seen, whole(answer(output=[refusal]))):
        assert found.refused
        assert found.failure is None
        assert found.complete


# --- money


def test_tools_of_the_provider_are_counted_beside_the_tokens_reconstructed() -> None:
    """Searches cost by the piece where no cost is reported; opening a page that was found costs nothing."""
    search = {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "a"}}
    opened = {"type": "web_search_call", "id": "ws_2", "action": {"type": "open_page", "url": "http://a"}}
    seen = whole(answer(output=[search, opened, search, {"type": "file_search_call"}, TEXT]))

    assert seen.usage is not None
    assert seen.usage.units == (("web_search", 2), ("file_search", 1))
    billed = {**USAGE, "cost": 0.0123, "is_byok": False}
    seen = whole(answer(output=[search, TEXT], usage=billed), OPENROUTER)
    assert seen.usage is not None
    assert (seen.usage.units, seen.usage.cost_nusd) == ((), 12_300_000)


@pytest.mark.parametrize(
    ("more", "cost"),
    [
        pytest.param('"cost": 0.00000123456789', 1_235, id="reconstructed-digits"),
        pytest.param('"cost": 1e-7, "is_byok": false', 100, id="reconstructed-exponent"),
        pytest.param(
            '"cost": 0.001, "is_byok": true, "cost_details": {"upstream_inference_cost": 0.02}', 21_000_000,
            id="reconstructed-byok",
        ),
        pytest.param('"cost": 0.001, "is_byok": true, "cost_details": {}', None, id="reconstructed-byok-unknown"),
        pytest.param(
            '"cost": 0.001, "is_byok": false, "cost_details": {"upstream_inference_cost": 0.001}', 1_000_000,
            id="reconstructed-repeated",
        ),
    ],
)
def test_a_cost_is_read_from_its_digits(more: str, cost: int | None) -> None:
    """As decimals, rounded up once; the upstream's part is added only for a key kept inside OpenRouter."""
    body = json.dumps(answer()).replace('"total_tokens": 29', f'"total_tokens": 29, {more}').encode()
    seen = whole(body, OPENROUTER)

    assert seen.usage is not None
    assert seen.usage.cost_nusd == cost


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param(None, id="reconstructed-null"),
        pytest.param({**USAGE, "input_tokens": -1}, id="reconstructed-negative"),
        pytest.param({**USAGE, "input_tokens": 10**12}, id="reconstructed-absurd"),
        pytest.param({"output_tokens": 3}, id="reconstructed-half"),
        pytest.param([1, 2], id="reconstructed-list"),
    ],
)
def test_an_unusable_report_is_unknown(usage: Any) -> None:
    """Unknown is not zero."""
    assert whole(answer(usage=usage)).usage is None
    assert run(CREATED + HELLO + event("response.completed", response=answer(usage=usage)))[1].usage is None


# --- failures

CODES = [
    ("rate_limit_exceeded", FailureClass.RATE_LIMIT), ("server_error", FailureClass.OVERLOAD),
    ("context_length_exceeded", FailureClass.TOO_LONG), ("model_not_found", FailureClass.MODEL_MISSING),
    ("invalid_prompt", FailureClass.POLICY), ("image_content_policy_violation", FailureClass.POLICY),
    ("bio_policy", FailureClass.POLICY), ("invalid_image_format", FailureClass.REQUEST),
    ("image_too_large", FailureClass.REQUEST), ("failed_to_download_image", FailureClass.REQUEST),
    ("vector_store_timeout", FailureClass.OVERLOAD), ("never_heard_of", FailureClass.OVERLOAD),
]
JUDGED = [
    *((provider, code, cls) for provider in (OPENAI, OPENROUTER) for code, cls in CODES),
    (OPENAI, "insufficient_quota", FailureClass.FUNDS),
    (OPENROUTER, "payment_required", FailureClass.FUNDS),
]
SHAPES = {
    "nested": lambda code: event("error", sequence_number=7, error={"type": "x", "code": code, "message": "no"}),
    "flat": lambda code: event("error", sequence_number=7, code=code, message="no", param=None),
    "failed": lambda code: event(
        "response.failed", sequence_number=7, response=answer("failed", error={"code": code, "message": "no"})
    ),
    "unnamed": lambda code: data("response.error", error={"code": code, "message": "no"}),
    "bare": lambda code: b"data: " + json.dumps({"error": {"code": code, "message": "no"}}).encode() + b"\n\n",
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("provider", "code", "cls"), [pytest.param(*row, id=f"reconstructed-{row[0].id}-{row[1]}") for row in JUDGED]
)
def test_an_error_in_a_stream_has_its_class(provider: Any, shape: str, code: str, cls: FailureClass) -> None:
    """In each of its forms, before and after the first content; nothing of it or after it is relayed."""
    frame = SHAPES[shape](code)
    for before in (CREATED, CREATED + HELLO):
        relayed, seen = run(before + frame + COMPLETED + DONE, provider=provider)

        assert relayed == before
        assert seen.failure is not None
        assert seen.failure.cls is cls
        assert seen.failure.message == "no"
        assert seen.sequence_number == (0 if before == CREATED else 2)
        assert not seen.complete
        assert seen.content == (before != CREATED)


def test_a_failed_answer_may_be_billed_reconstructed() -> None:
    """Usage is read from `response.failed`, alone or after `error`, and may be null."""
    error = event("error", sequence_number=7, code="server_error", message="no", param=None)
    failed = event("response.failed", response=answer("failed", error={"code": "server_error", "message": "no"}))
    without = event("response.failed", response=answer("failed", error=None, usage=None))

    for frames in (failed, error + failed):
        assert run(CREATED + HELLO + frames)[1].usage == Usage(10, 4, 6, output=4, reasoning=5)
    _, seen = run(CREATED + HELLO + without)
    assert (seen.usage, seen.failure is not None and seen.failure.cls) == (None, FailureClass.OVERLOAD)
    assert whole(answer("failed", error={"code": "server_error", "message": "no"})).usage is not None


def test_openrouters_stable_type_decides_reconstructed() -> None:
    """It stands beside the error of the response, and its word is stabler than the code."""
    body = answer("failed", error={"code": "server_error", "message": "no"}, error_type="payment_required")
    _, seen = run(CREATED + data("response.failed", response=body), provider=OPENROUTER)

    for found in (seen, whole(body, OPENROUTER)):
        assert found.failure is not None
        assert found.failure.cls is FailureClass.FUNDS


def test_an_error_after_the_whole_answer_decides_reconstructed() -> None:
    """A provider that takes its answer back has not answered."""
    _, seen = run(GOOD + data("error", code="server_error", message="late", param=None), provider=OPENROUTER)

    assert seen.failure is not None


@pytest.mark.parametrize(
    ("frames", "signal"),
    [
        pytest.param(b"", "stream ended early", id="reconstructed-cut"),
        pytest.param(DONE, "stream ended early", id="reconstructed-terminator-alone"),
        pytest.param(b"data: {oops\n\n", "malformed event", id="reconstructed-no-json"),
        pytest.param(b"data: [1]\n\n", "malformed event", id="reconstructed-no-object"),
        pytest.param(b'data: {"a":1}\n\n', "malformed event", id="reconstructed-no-type"),
        pytest.param(b'data: {"type":{"a":1}}\n\n', "malformed event", id="reconstructed-odd-type"),
        pytest.param(b'data: {"type":"response.completed"}\n\n', "malformed event", id="reconstructed-no-response"),
        pytest.param(event("response.completed", response=[]), "malformed event", id="reconstructed-odd-response"),
        pytest.param(b"<html>Bad gateway</html>\n\n", "not an event stream", id="reconstructed-page"),
        pytest.param(b'data: {"type":"' + b"a" * 40, "malformed event", id="reconstructed-half-an-event"),
        pytest.param(b"data: " + b"a" * MAX_FRAME_BYTES, "event too large", id="reconstructed-too-large"),
    ],
)
def test_a_stream_that_breaks(frames: bytes, signal: str) -> None:
    """Cut, malformed or no event stream at all: the attempt fails, and what came before is what the caller has."""
    for provider in (OPENAI, OPENROUTER):
        relayed, seen = run(CREATED + HELLO, frames, provider=provider)

        assert relayed == CREATED + HELLO
        assert seen.failure is not None
        assert (seen.failure.cls, seen.failure.signal) == (FailureClass.NETWORK, signal)
        assert not seen.complete


def test_a_json_error_in_place_of_a_stream_reconstructed() -> None:
    """An edge that answers 200 with a bare error is classified by it."""
    body = json.dumps({"error": {"code": "rate_limit_exceeded", "message": "slow"}}).encode()
    relayed, seen = run(body)

    assert relayed == b""
    assert seen.failure is not None
    assert seen.failure.cls is FailureClass.RATE_LIMIT


@pytest.mark.parametrize(
    ("body", "cls"),
    [
        pytest.param(answer("in_progress"), FailureClass.NETWORK, id="reconstructed-in-progress"),
        pytest.param(answer("queued", output=[]), FailureClass.NETWORK, id="reconstructed-queued"),
        pytest.param(answer("cancelled"), FailureClass.OVERLOAD, id="reconstructed-cancelled"),
        pytest.param(answer("failed"), FailureClass.OVERLOAD, id="reconstructed-failed-silently"),
        pytest.param(
            answer("failed", error={"code": "rate_limit_exceeded", "message": "no"}), FailureClass.RATE_LIMIT,
            id="reconstructed-failed",
        ),
        pytest.param(
            answer(error={"code": "server_error", "message": "no"}), FailureClass.OVERLOAD, id="reconstructed-both"
        ),
        pytest.param({"error": {"code": "invalid_api_key"}}, FailureClass.AUTH, id="reconstructed-error"),
        pytest.param({"object": "list", "data": []}, FailureClass.NETWORK, id="reconstructed-a-list"),
        pytest.param(b"<html>", FailureClass.NETWORK, id="reconstructed-page"),
        pytest.param(b"", FailureClass.NETWORK, id="reconstructed-empty"),
        pytest.param(b"[]", FailureClass.NETWORK, id="reconstructed-array"),
        pytest.param(answer(output="text"), FailureClass.NETWORK, id="reconstructed-odd-output"),
        pytest.param(answer(None), FailureClass.NETWORK, id="reconstructed-no-status"),  # type: ignore[arg-type]
    ],
)
def test_a_whole_body_that_is_no_answer(body: Any, cls: FailureClass) -> None:
    """Unfinished, cancelled, failed or something else: never taken for an answer."""
    seen = whole(body)

    assert seen.failure is not None
    assert seen.failure.cls is cls
    assert not seen.ended


@pytest.mark.parametrize(
    "item",
    [
        pytest.param({"type": "message", "content": None}, id="reconstructed-no-content"),
        pytest.param({"type": "message", "content": "text"}, id="reconstructed-text-content"),
        pytest.param({"type": ["a"], "name": {"b": 1}}, id="reconstructed-odd-types"),
        pytest.param({"type": "reasoning", "summary": [None, 3, {"text": None}]}, id="reconstructed-odd-parts"),
        pytest.param(None, id="reconstructed-null"),
    ],
)
def test_an_odd_item_takes_nothing_from_a_good_answer(item: Any) -> None:
    """Fields of no consequence may have any type."""
    assert whole(answer(output=[item, TEXT])).complete
    frames = event("response.output_item.done", output_index={"a": 1}, sequence_number="x", item=item)
    assert run(CREATED + frames + HELLO + COMPLETED)[1].complete


# --- the provider


@pytest.mark.parametrize("provider", [OPENAI, OPENROUTER], ids=["reconstructed-openai", "reconstructed-openrouter"])
def test_where_a_call_goes(provider: Any) -> None:
    """Both dialects' callers pass through to the provider's /responses; Anthropic's have no such endpoint."""
    for dialect in ("openai", "openrouter"):
        codec, mode = provider.codec(dialect, "responses")
        assert isinstance(codec, ResponsesCodec)
        assert (codec.wire, codec.interim_usage, mode) == ("openai.responses", False, "passthrough")
    assert provider.codec("anthropic", "responses") is None
    request = provider.request(provider.origin, codec, "m", b"{}", True, Secret("k"), {})
    assert (request.method, request.path) == ("POST", "/responses")


def test_nobody_translates_reconstructed() -> None:
    """Anthropic and Google have no route for Responses."""
    from ownkey.providers.anthropic import AnthropicProvider
    from ownkey.providers.google import GoogleProvider

    for provider in (AnthropicProvider(), GoogleProvider()):
        assert provider.codec("openai", "responses") is None
        assert provider.codec("openrouter", "responses") is None


SHAPES_FILE = Path(__file__).resolve().parents[2].parent / "shared" / "wire" / "error-shapes.not-recorded.json"


@pytest.mark.skipif(not SHAPES_FILE.exists(), reason=f"the rebuilt error shapes are absent: {SHAPES_FILE}")
def test_every_rebuilt_error_of_responses_has_its_class_reconstructed() -> None:
    """The shapes that were put together from public reports, as they stand there."""
    found = json.loads(SHAPES_FILE.read_text())
    shapes = [shape for shape in found if "(Responses)" in shape["classification"]]

    assert shapes
    for shape in shapes:
        relayed, seen = run(CREATED + shape["body"].encode() + COMPLETED)
        assert relayed == CREATED
        assert seen.failure is not None
        assert (seen.failure.cls, seen.failure.signal) == (FailureClass.OVERLOAD, "200 server_is_overloaded")
