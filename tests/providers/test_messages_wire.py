"""The Messages API passed through, by Anthropic itself and by OpenRouter: what is relayed, seen, and not believed."""

import json
from typing import Any

import pytest
from anthropic_google_wire import fold, read_streamed

from ownkey.domain.exchange import Origin
from ownkey.domain.failures import FailureClass
from ownkey.domain.secret import Secret
from ownkey.domain.usage import Usage
from ownkey.domain.wire import Seen
from ownkey.providers.anthropic import AnthropicProvider
from ownkey.providers.openrouter import OpenRouterProvider

ANTHROPIC, OPENROUTER = AnthropicProvider(), OpenRouterProvider()
STOP_FRAME = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
BOTH = pytest.mark.parametrize(
    "provider", [ANTHROPIC, OPENROUTER], ids=["reconstructed-anthropic", "reconstructed-openrouter"]
)


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def started(**usage: Any) -> bytes:
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": [], "stop_reason": None,
        "usage": {"input_tokens": 9, "output_tokens": 1, **usage},
    }  # fmt: skip
    return event("message_start", message=message)


START = started()
TEXT = (
    event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    + event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hi"})
    + event("content_block_stop", index=0)
)
FINISH = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3})
ANSWER = START + TEXT + FINISH


def codec_of(provider: Any) -> Any:
    codec, mode = provider.codec("anthropic", "messages")
    assert mode == "passthrough"
    return codec


def relay(provider: Any, *pieces: bytes) -> tuple[bytes, Seen]:
    reader = codec_of(provider).passthrough(None)
    relayed = [frame for piece in pieces for frame in reader.feed(piece)] + list(reader.eof())
    return b"".join(relayed), reader.seen


@BOTH
def test_a_whole_stream_passes_with_pings_comments_and_events_of_the_future(provider: Any) -> None:
    """What this code does not know is the caller's to know, whatever its fields look like."""
    extra = event("ping") + b": OPENROUTER PROCESSING\n\n" + event("content_note", index="?", delta=7, usage=[1])
    body = START + extra + TEXT + extra + FINISH + extra + STOP_FRAME
    relayed, seen = relay(provider, body)

    assert relayed == body
    assert (seen.failure, seen.complete, seen.ended, seen.content) == (None, True, True, True)
    assert seen.usage == Usage(input=9, output=3)


@BOTH
def test_a_missing_end_is_supplied_once(provider: Any) -> None:
    """An answer with its stop reason is whole; no SDK reads a stream without message_stop as one."""
    assert relay(provider, ANSWER)[0] == ANSWER + STOP_FRAME
    assert relay(provider, ANSWER + STOP_FRAME)[0] == ANSWER + STOP_FRAME
    assert relay(provider, ANSWER + b"data: [DONE]\n\n")[0] == ANSWER + STOP_FRAME
    assert relay(provider, (ANSWER + STOP_FRAME).rstrip(b"\n"))[0] == ANSWER + STOP_FRAME
    assert relay(provider, ANSWER + b"event: message_st")[0] == ANSWER + STOP_FRAME


@BOTH
def test_nothing_after_the_end_counts(provider: Any) -> None:
    """No error or second answer takes from it, nor does `[DONE]`, OpenRouter's end of all streams, reach an SDK that
    would read it as JSON."""
    late = event("error", error={"type": "api_error", "message": "late"})
    for tail in (late, START + TEXT, b"data: [DONE]\n\n", b"event: data\ndata: [DONE]\n\n"):
        relayed, seen = relay(provider, ANSWER + STOP_FRAME + tail)
        assert (relayed, seen.failure) == (ANSWER + STOP_FRAME, None)


@BOTH
@pytest.mark.parametrize(
    ("tail", "signal"),
    [
        (b"", "stream ended early"), (STOP_FRAME, "stream ended early"), (b"data: [DONE]\n\n", "stream ended early"),
        (b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"del\n\n', "malformed event"),
        (b'data: {"type":"content_block_delta","index":"0"}\n\n', "malformed event"),
        (b'event: content_block_delta\ndata: {"type":"content_', "stream cut"),
        (event("content_block_delta", index=4, delta={"type": "text_delta", "text": "x"}), "delta without a block"),
        (b"<html>gateway</html>\n\n", "not an event stream"), (START, "answer restarted"),
    ],
)  # fmt: skip
def test_a_broken_stream_fails_and_nothing_more_is_relayed(provider: Any, tail: bytes, signal: str) -> None:
    """Neither a good end nor the broken event reaches the caller."""
    after = b"" if not tail or signal == "stream cut" else FINISH + STOP_FRAME
    relayed, seen = relay(provider, START + TEXT + tail, after)

    assert relayed == START + TEXT
    assert seen.failure is not None
    assert (seen.failure.cls, seen.failure.signal, seen.complete) == (FailureClass.NETWORK, signal, False)


@BOTH
def test_a_broken_tail_takes_nothing_from_a_whole_answer(provider: Any) -> None:
    """It is left out, and the end supplied."""
    for tail in (b"data: {oops\n\n", b'event: message_stop\ndata: {"type":"mess', b"<html></html>\n\n"):
        relayed, seen = relay(provider, ANSWER + tail)
        assert (relayed, seen.failure, seen.complete) == (ANSWER + STOP_FRAME, None, True)


@pytest.mark.parametrize(
    ("error", "anthropic", "openrouter"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, "overload", "overload"),
        ({"type": "rate_limit_error", "message": "m"}, "rate_limit", "rate_limit"),
        ({"type": "api_error", "message": "m"}, "overload", "overload"),
        ({"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}, "too_long", "too_long"),
        ({"type": "api_error", "message": "m", "error_type": "payment_required"}, "overload", "funds"),
        ({"type": "invalid_request_error", "message": "m", "error_type": "content_policy_violation"}, "request",
         "policy"),
    ],
    ids=lambda value: "reconstructed" if isinstance(value, dict) else value,
)  # fmt: skip
def test_an_error_in_the_stream_is_judged_by_its_providers_rules(
    error: dict[str, str], anthropic: str, openrouter: str
) -> None:
    """In the envelope of Anthropic both times; OpenRouter's stable `error_type` decides there."""
    for provider, expected in ((ANTHROPIC, anthropic), (OPENROUTER, openrouter)):
        relayed, seen = relay(provider, START + TEXT + event("error", error=error), STOP_FRAME)
        assert relayed == START + TEXT
        assert seen.failure is not None
        assert seen.failure.cls.value == expected
        whole = codec_of(provider).observe_whole(json.dumps({"type": "error", "error": error}).encode())
        assert whole.failure is not None
        assert whole.failure.cls.value == expected


@pytest.mark.parametrize(
    "body",
    [
        {"type": "error", "error": {"type": "permission_error", "message": "Request blocked: m"}, "request_id": None,
         "openrouter_metadata": {"pipeline": [{"type": "guardrail", "name": "n", "summary": "Blocked: injection"}]}},
        {"error": {"code": 403, "message": "Request blocked: m", "metadata": {"patterns": ["ignore all"]}}},
    ],
    ids=["reconstructed-messages", "reconstructed-chat"],
)  # fmt: skip
def test_what_a_guardrail_blocked_is_no_fault_of_the_key(body: dict[str, Any]) -> None:
    """OpenRouter answers 403, as for a key without permission (its OpenAPI's examples)."""
    assert OPENROUTER.decode_failure(403, {}, json.dumps(body).encode()).cls is FailureClass.POLICY
    plain = {"type": "error", "error": {"type": "permission_error", "message": "m"}}
    assert OPENROUTER.decode_failure(403, {}, json.dumps(plain).encode()).cls is FailureClass.AUTH


@BOTH
def test_a_bare_error_in_the_place_of_a_stream_keeps_its_class(provider: Any) -> None:
    """Pretty-printed JSON without `data:`, before or after content."""
    bare = json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, indent=1).encode()
    for head in (b"", START + TEXT):
        relayed, seen = relay(provider, head + bare)
        assert relayed == head
        assert seen.failure is not None
        assert seen.failure.cls is FailureClass.OVERLOAD


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ('{"input_tokens":1,"output_tokens":2,"cost":0.000123456789,"is_byok":false}', 123_457),
        ('{"input_tokens":1,"output_tokens":2,"cost":1.5e-05,"is_byok":false,'
         '"cost_details":{"upstream_inference_cost":0.000015}}', 15_000),
        ('{"input_tokens":1,"output_tokens":2,"cost":0,"is_byok":true,'
         '"cost_details":{"upstream_inference_cost":0.0000423}}', 42_300),
        ('{"input_tokens":1,"output_tokens":2,"cost":0.001,"is_byok":true,"cost_details":null}', None),
        ('{"input_tokens":1,"output_tokens":2,"cost":0}', 0),
        ('{"input_tokens":1,"output_tokens":2,"cost":null}', None),
        ('{"input_tokens":1,"output_tokens":2}', None),
    ],
    ids=lambda value: f"reconstructed-{value}" if not isinstance(value, str) else "usage",
)  # fmt: skip
def test_openrouters_cost_is_read_from_its_digits(usage: str, cost: int | None) -> None:
    """Whole or streamed, never through a float; unknown where a needed figure is missing."""
    whole = '{"type":"message","id":"gen-1","model":"m","content":[],"stop_reason":"end_turn","usage":' + usage + "}"
    delta = 'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":' + usage + "}\n\n"
    seen = codec_of(OPENROUTER).observe_whole(whole.encode())
    _, streamed = relay(OPENROUTER, started(cost=0) + TEXT + delta.encode() + STOP_FRAME)

    for found in (seen.usage, streamed.usage):
        assert found is not None
        assert (found.input, found.output, found.cost_nusd) == (1, 2, cost)


def test_the_cost_may_come_with_the_last_event_reconstructed() -> None:
    """Its schema does not say where: the first report cannot know it, any later one may."""
    stop = event("message_stop", usage={"cost": 0.25, "is_byok": False})
    _, seen = relay(OPENROUTER, ANSWER + stop)

    assert seen.usage == Usage(input=9, output=3, cost_nusd=250_000_000)


def test_a_fallback_names_and_prices_the_model_that_answered_reconstructed() -> None:
    """By its block, or where no block marks it by the last step's report; before any content the caller is told so."""
    block = {"type": "fallback", "from": {"model": "claude-x"}, "to": {"model": "claude-y"}}
    handed = event("content_block_start", index=5, content_block=block) + event("content_block_stop", index=5)
    steps = [
        {"type": "message", "model": "claude-x", "input_tokens": 8, "output_tokens": 4},
        {"type": "fallback_message", "model": "claude-y", "input_tokens": 9, "output_tokens": 3},
    ]
    finish = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3, "iterations": steps})
    reader = codec_of(ANTHROPIC).events()
    read = fold(read_streamed(reader, [START + handed + TEXT + finish + STOP_FRAME]))

    assert read.started is not None
    assert (read.started.model, reader.seen.model, reader.seen.took_over) == ("claude-y", "claude-y", "claude-y")
    declined = ("claude-x", Usage(input=8, output=4))
    assert reader.seen.usage == Usage(input=9, output=3, others=(declined,))
    _, unmarked = relay(ANTHROPIC, START + TEXT + finish + STOP_FRAME)
    assert (unmarked.model, unmarked.took_over, unmarked.usage) == ("claude-y", "claude-y", reader.seen.usage)


def test_a_model_that_declined_before_it_wrote_is_not_paid_reconstructed() -> None:
    """Nor is a step counted twice where the counters on top already hold it."""
    silent = {"type": "message", "model": "claude-x", "input_tokens": 8, "output_tokens": 0}
    served = {"type": "fallback_message", "model": "claude-y", "input_tokens": 9, "output_tokens": 3}
    turns = [{"type": "message", "input_tokens": 4, "output_tokens": 1}, {"type": "message", "output_tokens": 2}]
    for steps in ([silent, served], turns):
        usage = {"output_tokens": 3, "iterations": steps}
        finish = event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)
        _, seen = relay(ANTHROPIC, START + TEXT + finish)
        assert seen.usage == Usage(input=9, output=3)


def test_requests_of_both_reconstructed() -> None:
    """OpenRouter takes its key as a bearer token, Claude's betas where it speaks Claude's format, and attribution."""
    given = {
        "anthropic-beta": "b", "anthropic-version": "v", "http-referer": "https://a.example",
        "x-openrouter-metadata": "enabled",
    }  # fmt: skip
    origin = Origin("https", "openrouter.ai", 443, "/api/v1")
    sent = OPENROUTER.request(origin, codec_of(OPENROUTER), "anthropic/c", b"{}", True, Secret("k"), given)
    chat = OPENROUTER.codec("openai", "chat")
    assert chat is not None
    other = OPENROUTER.request(origin, chat[0], "anthropic/c", b"{}", True, Secret("k"), given)

    assert (sent.path, sent.credential_header, sent.credential_prefix) == ("/messages", "authorization", "Bearer ")
    assert given.items() <= dict(sent.headers).items()
    assert other.path == "/chat/completions"
    assert not {"anthropic-beta", "anthropic-version"} & set(dict(other.headers))


def test_counting_tokens_passes_through_and_is_free_reconstructed() -> None:
    """Anthropic only; anything but a count is a failure."""
    pair = ANTHROPIC.codec("anthropic", "count_tokens")
    assert pair is not None
    codec, mode = pair
    assert (codec.wire, mode) == ("anthropic.count_tokens", "passthrough")
    origin = Origin("https", "api.anthropic.com", 443, "/v1")
    sent = ANTHROPIC.request(origin, codec, "claude-x", b"{}", False, Secret("k"), {})
    assert sent.path == "/messages/count_tokens"
    seen = codec.observe_whole(b'{"input_tokens": 14, "context_management": {}}')
    assert (seen.content, seen.complete, seen.ended, seen.usage) == (True, True, True, Usage(cost_nusd=0))
    overloaded = b'{"type":"error","error":{"type":"overloaded_error","message":"m"}}'
    bodies = {b"{}": "network", b'{"input_tokens":-1}': "network", b"<html>": "network", overloaded: "overload"}
    for body, expected in bodies.items():
        failure = codec.observe_whole(body).failure
        assert failure is not None
        assert failure.cls.value == expected
    assert OPENROUTER.codec("anthropic", "count_tokens") is None
