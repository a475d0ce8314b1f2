"""What must come out as it went in: the bytes of answers in their own dialect, and what the provider was asked."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tools.fidelity.answers import exact_json, frames
from tools.fidelity.asking import Asked, Door, Speaks, is_own, native_of
from tools.fidelity.bodies import Kind, Recording
from tools.fidelity.replay import Seat

Found = tuple[str, Any, Any]
"""A field, what was recorded, what came."""

Frame = tuple[str, str]

# What the gateway may change in a body that passes through (docs: "Passthrough edits").
_EDITED: Mapping[Speaks, tuple[str, ...]] = {
    "chat": ("model", "stream_options", "max_completion_tokens", "max_tokens", "provider"),
    "embeddings": ("model", "provider"), "responses": ("model", "max_output_tokens", "provider"),
    "messages": ("model", "max_tokens", "provider"), "count_tokens": ("model",),
}
_TARGETS: Mapping[Kind, str] = {
    "chat": "/chat/completions", "embeddings": "/embeddings", "responses": "/responses", "messages": "/messages",
    "count_tokens": "/messages/count_tokens",
}
_DONE: Frame = ("", "[DONE]")
_GOOD_ENDS = frozenset({"message_stop", "response.completed", "response.incomplete"})


def differing_bytes(recording: Recording, asked: Asked, body: bytes) -> Iterator[Found]:
    """Where an answer that was not translated is not the recorded one."""
    if not recording.streamed:
        if recording.body != body:
            yield "bytes", recording.body, body
        return
    recorded, left = _whole(recording, frames(recording.body)), frames(body)
    for frame in recorded:
        if left and left[0] == frame:
            left.pop(0)
        elif asked.wants_usage or not _reports_usage(frame[1]):
            yield "events", frame, left[:1]
            return
    if left:
        yield "events", [], left


def _whole(recording: Recording, recorded: list[Frame]) -> list[Frame]:
    """The recorded events with the end that the gateway supplies where it is missing. An event that broke off after
    a whole answer goes to nobody."""
    if recorded and recorded[-1][1] != "[DONE]" and exact_json(recorded[-1][1]) is None:
        recorded = recorded[:-1]
    ends = [exact_json(data) for _, data in recorded[-1:]]
    last = ends[0].get("type") if ends and isinstance(ends[0], dict) else None
    match recording.kind:
        case "chat" if not recorded or recorded[-1] != _DONE:
            return [*recorded, _DONE]
        case "responses" if recording.provider == "openrouter" and recorded[-1:] != [_DONE]:
            return [*recorded, _DONE]
        case "messages" if last != "message_stop" and recorded[-1:] != [_DONE]:
            return [*recorded, ("message_stop", '{"type":"message_stop"}')]
    return recorded


def _reports_usage(payload: str) -> bool:
    try:
        return bool(json.loads(payload).get("usage"))
    except (ValueError, AttributeError):
        return False


def ends_well(body: bytes) -> bool:
    """Whether a stream says to its caller that the answer is whole."""
    for name, data in frames(body):
        value = exact_json(data)
        kind = value.get("type") if isinstance(value, dict) else None
        if data == "[DONE]" or name in _GOOD_ENDS or kind in _GOOD_ENDS:
            return True
    return False


def disorder(door: Door, body: bytes) -> str:
    """What is wrong with the order of a stream's events; "" for nothing. In Anthropic's format every block begins,
    grows and ends by its index, one after the other, between the message's start and its end."""
    if door.speaks != "messages":
        return ""
    open_block, next_block, last = -1, 0, ""
    for name, data in frames(body):
        value = exact_json(data)
        if not isinstance(value, dict) or value.get("type") in (None, "ping"):
            continue
        kind, index = value["type"], value.get("index")
        allowed = {
            "message_start": last == "",
            "content_block_start": open_block < 0 and index == next_block and last != "",
            "content_block_delta": index == open_block, "content_block_stop": index == open_block,
            "message_delta": open_block < 0 and last != "", "message_stop": last == "message_delta",
        }
        if name != kind or not allowed.get(kind, True):
            return f"{name or 'an unnamed event'} {kind} {index} after {last or 'nothing'}"
        if kind == "content_block_start":
            open_block, next_block = next_block, next_block + 1
        elif kind == "content_block_stop":
            open_block = -1
        last = kind
    return "" if last == "message_stop" else f"ends with {last or 'nothing'}"


def differing_request(recording: Recording, asked: Asked, seat: Seat, sent: Any) -> Iterator[Found]:
    """Where the provider was not asked as it should be: the recorded endpoint, model and streaming; and the caller's
    own body where it passes through."""
    if not seat.requests:
        yield "request", "one", "none"
        return
    target, got = seat.requests[-1]
    body = got if isinstance(got, dict) else {}
    if recording.provider == "google":
        if target != _google_target(recording):
            yield "request.target", _google_target(recording), target
        return
    found: list[Found] = [
        ("request.target", _TARGETS[recording.kind], target.partition("?")[0]),
        ("request.model", _asked_model(recording, body), body.get("model")),
        ("request.stream", recording.streamed, body.get("stream", False) is True),
    ]
    if is_own(recording, asked.door) and isinstance(sent, dict):
        edited = _EDITED[asked.door.speaks]
        found.append(("request", _without(sent, edited), _without(body, edited)))
    yield from (row for row in found if row[1] != row[2])


def _asked_model(recording: Recording, body: Mapping[str, Any]) -> Any:
    """The recorded model. A provider's own id said to OpenRouter becomes a slug there, and any slug will do."""
    if recording.provider == "openrouter" and "/" not in recording.model and "/" in str(body.get("model")):
        return body.get("model")
    return native_of(recording)


def _google_target(recording: Recording) -> str:
    acts: dict[Kind, str] = {"embed": "batchEmbedContents", "batch_embed": "batchEmbedContents"}
    generate = "streamGenerateContent?alt=sse" if recording.streamed else "generateContent"
    return f"/models/{native_of(recording)}:{acts.get(recording.kind, generate)}"


def _without(body: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}
