"""The end of a Responses stream whose answer failed after it began: `error`, then `response.failed`.

OpenAI's SDK raises its APIError at an event that has an `error` inside; readers of single events look at the flat
fields of `error`, readers of whole answers at the status of the last response.
"""

from typing import Any

import msgspec

from ownkey.domain.wire import ErrorFields, Seen


def responses_error(error: ErrorFields, envelope: dict[str, Any], seen: Seen | None, *, named: bool) -> bytes:
    """Both events, numbered on from what the caller got. `envelope` is the dialect's own; `named`: with `event:`
    lines, as OpenAI sends them."""
    number = 0 if seen is None or seen.sequence_number is None else seen.sequence_number + 1
    told = {"code": error.code, "message": error.message, "param": error.param, "error": envelope}
    events = (
        {"type": "error", "sequence_number": number, **told},
        {"type": "response.failed", "sequence_number": number + 1, "response": _failed(error, envelope, seen)},
    )
    return b"".join(_frame(event, named) for event in events)


def _failed(error: ErrorFields, envelope: dict[str, Any], seen: Seen | None) -> dict[str, Any]:
    """The response as far as it is known: its id and model are those that the stream began with."""
    seen = seen or Seen()
    return {
        "id": seen.response_id or error.receipt or "",
        "object": "response",
        "created_at": 0,
        "status": "failed",
        "completed_at": None,
        "background": False,
        "error": {**envelope, "code": error.code},
        "frequency_penalty": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": seen.model or "",
        "output": [],
        "parallel_tool_calls": True,
        "presence_penalty": None,
        "previous_response_id": None,
        "store": False,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }


def _frame(event: dict[str, Any], named: bool) -> bytes:
    line = b"event: %s\n" % event["type"].encode() if named else b""
    return line + b"data: " + msgspec.json.encode(event) + b"\n\n"
