"""Refusals in the envelopes that the official SDKs of OpenAI and OpenRouter turn into their typed errors."""

from typing import Any

import msgspec

from ownkey.domain.wire import ErrorFields

_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}


# OpenRouter's canonical error types (its OpenAPI, ApiErrorType); its SDK demands one in a stream's error.
_OPENROUTER_TYPES = {
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "not_found",
    408: "timeout",
    413: "payload_too_large",
    422: "unprocessable",
    429: "rate_limit_exceeded",
    502: "provider_unavailable",
    503: "provider_overloaded",
    504: "timeout",
}


def error_type(status: int) -> str:
    """OpenAI's `type` for a status."""
    return _TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")


def _shared(error: ErrorFields) -> dict[str, Any]:
    """What stands beside message and code in both envelopes."""
    shared: dict[str, Any] = {
        "type": error_type(error.status),
        "param": error.param,
        "fix": {"text": error.fix, "url": error.fix_url},
        "receipt": error.receipt,
    }
    if error.retry_after_s is not None:
        shared["retry_after"] = error.retry_after_s
    if error.resets_at is not None:
        shared["resets_at"] = error.resets_at
    return shared


def openai_envelope(error: ErrorFields) -> dict[str, Any]:
    """The value of `error` as OpenAI's SDKs read it; details never hide a field of the envelope."""
    return {**error.details, "message": error.message, "code": error.code, **_shared(error)}


def openrouter_envelope(error: ErrorFields) -> dict[str, Any]:
    """The value of `error` as OpenRouter's SDKs read it: an integer code, ours in the metadata."""
    kind = _OPENROUTER_TYPES.get(error.status) or ("server" if error.status >= 500 else "invalid_request")
    metadata = {**error.details, "error_type": kind, "ownkey_code": error.code}
    return {"code": error.status, "message": error.message, "metadata": metadata, **_shared(error)}


def stream_error(envelope: dict[str, Any]) -> bytes:
    """A chunk that no reader takes for a good end: top-level error, and a choice that finished with it."""
    chunk = {
        "id": envelope["receipt"] or "",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "",
        "error": envelope,
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
    }
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
