"""Recordings made worse on purpose: streams that break off, and streams with an error in the middle.

None of this was recorded, and it is never called real traffic; the same seed gives the same damage.
"""

import json
import random
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tools.fidelity.bodies import Recording

_ENDS = re.compile(rb"\r?\n\r?\n")
_EVENTS: Mapping[str, list[dict[str, Any]]] = {
    "chat": [{"error": {"message": "The server had an error.", "type": "server_error", "param": None, "code": None}}],
    "responses": [
        {"type": "error", "sequence_number": 900, "code": "server_error", "message": "The server had an error.",
         "param": None},
        {"type": "response.failed", "sequence_number": 901, "response": {
            "id": "resp_1", "object": "response", "created_at": 1, "status": "failed", "model": "any", "output": [],
            "error": {"code": "server_error", "message": "The server had an error."}, "parallel_tool_calls": True,
            "tool_choice": "auto", "tools": []}},
    ],
    "messages": [{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}],
    "generate": [{"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}],
}
_ROUTER_EVENT: dict[str, Any] = {
    "id": "gen-1", "object": "chat.completion.chunk", "created": 1, "model": "any", "provider": "any",
    "error": {"code": 502, "message": "Provider disconnected"},
    "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
}


def cut_streams(recordings: Iterable[Recording], seed: int) -> list[Recording]:
    """Every stream, cut off at a random byte."""
    return [_changed(recording, seed, _cut) for recording in recordings if _is_stream(recording)]


def broken_streams(recordings: Iterable[Recording], seed: int) -> list[Recording]:
    """Every stream, with the provider's error after a random event and nothing behind it."""
    return [_changed(recording, seed, _broken) for recording in recordings if _is_stream(recording)]


def _is_stream(recording: Recording) -> bool:
    return not recording.skip and recording.streamed and recording.status == 200 and len(recording.body) > 1


def _changed(
    recording: Recording, seed: int, change: Callable[[Recording, random.Random], bytes]
) -> Recording:
    dice = random.Random(zlib.crc32(f"{seed} {recording.name}".encode()))
    return replace(recording, body=change(recording, dice))


def _cut(recording: Recording, dice: random.Random) -> bytes:
    return recording.body[: dice.randrange(1, len(recording.body))]


def _broken(recording: Recording, dice: random.Random) -> bytes:
    ends = [found.end() for found in _ENDS.finditer(recording.body)] or [0]
    at = dice.choice(ends[: max(1, len(ends) - 1)])
    chosen = recording.provider == "openrouter" and recording.kind == "chat"
    events = [_ROUTER_EVENT] if chosen else _EVENTS[recording.kind]
    return recording.body[:at] + "".join(_frame(event) for event in events).encode()


def _frame(event: Mapping[str, Any]) -> str:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n"
