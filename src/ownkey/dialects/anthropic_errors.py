"""Refusals in the envelope that Anthropic's SDKs turn into their typed errors."""

from typing import Any

import msgspec

from ownkey.domain.wire import ErrorFields

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


# The neutral form has OpenAI's names; a refusal names a parameter as the caller wrote it.
OWN_NAMES = {
    "messages[].content[].file.filename": "messages[].content[].document.title",
    "messages[].content[].file": "messages[].content[].document",
    "messages[].content[].image_url": "messages[].content[].image",
    "messages[].reasoning_details": "messages[].content[].thinking",
    "messages[].tool_call_id": "messages[].content[].tool_result.tool_use_id",
    "messages[].tool_calls[].function.arguments": "messages[].content[].tool_use.input",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "reasoning": "thinking",
    "reasoning.max_tokens": "thinking.budget_tokens",
    "reasoning_effort": "thinking, output_config.effort",
    "response_format": "output_config.format",
    "safety_identifier": "metadata.user_id",
    "stop": "stop_sequences",
    "tools[].function.name": "tools[].name",
    "tools[].function.parameters": "tools[].input_schema",
    "tools[].function.strict": "tools[].strict",
}


def error_type(status: int) -> str:
    """Anthropic's `type` for a status."""
    return _TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")


def envelope(error: ErrorFields) -> dict[str, Any]:
    """The whole body. Our code, fix and receipt stand beside Anthropic's fields; details never hide one of them."""
    message, param = error.message, error.param
    own = OWN_NAMES.get(param or "")
    if own is not None:
        message, param = message.replace(f"{param} ", f"{own} ", 1), own
    inner: dict[str, Any] = {
        **error.details,
        "type": error_type(error.status),
        "message": message,
        "code": error.code,
        "param": param,
        "fix": {"text": error.fix, "url": error.fix_url},
        "receipt": error.receipt,
    }
    if error.retry_after_s is not None:
        inner["retry_after"] = error.retry_after_s
    if error.resets_at is not None:
        inner["resets_at"] = error.resets_at
    return {"type": "error", "error": inner, "request_id": error.receipt}


def stream_error(error: ErrorFields) -> bytes:
    """The event that ends a stream whose answer failed after it began."""
    return b"event: error\ndata: " + msgspec.json.encode(envelope(error)) + b"\n\n"
