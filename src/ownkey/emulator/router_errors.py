"""OpenRouter's refusals by name: its envelope has an integer `code`, except where availability is told."""

from dataclasses import replace
from typing import Any

import msgspec

from .plan import Failure
from .scene import Maker, Scene, whole_wait_s

_encode = msgspec.json.encode


def openrouter_error(
    code: int, message: str, metadata: dict[str, Any] | None = None, headers: bytes = b"", *, user: bool = False
) -> Failure:
    error: dict[str, Any] = {"message": message, "code": code}
    if metadata is not None:
        error["metadata"] = metadata
    body: dict[str, Any] = {"error": error}
    if user:
        body["user_id"] = "user_emulator"
    return Failure(code, _encode(body), headers)


def _availability(
    status: int, code: str, message: str, kind: str = "invalid_request", retry: int | None = None
) -> Maker:
    def make(scene: Scene) -> Failure:
        availability: dict[str, Any] = {"code": code, "retryable": retry is not None}
        if retry is not None:
            availability["retry_after"] = retry
        availability["requested_models"] = [scene.model]
        availability["docs_url"] = "https://openrouter.ai/docs/api-reference/errors"
        error = {"message": message, "error_type": kind, "http_status": status, "availability": availability}
        headers = b"retry-after: %d\r\n" % retry if retry is not None else b""
        return Failure(status, _encode({"error": error}), headers)

    return make


def _upstream(status: int, raw: Any) -> Maker:
    return lambda _s: openrouter_error(
        status, "Provider returned error", {"raw": raw, "provider_name": "Emulated"}, user=True
    )


_LIMIT = {"scope": "key", "limit_usd": 1, "spend_usd": 1, "resets_at": "2030-01-01T00:00:00Z"}

OPENROUTER: dict[str, Maker] = {
    "rate_limit": lambda s: openrouter_error(
        429, "Provider returned error",
        {"raw": f"{s.model} is temporarily rate-limited upstream. Please retry shortly.", "provider_name": "Emulated"},
        user=True,
    ),
    "rate_limit_retry_after": lambda s: openrouter_error(
        429,
        "Rate limit exceeded",
        {"headers": {"X-RateLimit-Remaining": "0"}},
        b"retry-after: %d\r\n" % whole_wait_s(s),
    ),
    "capacity_exhausted_429": _availability(
        429, "capacity_exhausted", "No capacity is left for the model.", "rate_limit_exceeded", 40
    ),
    "insufficient_quota": lambda _s: openrouter_error(
        402, "Insufficient credits. Add more using https://openrouter.ai/settings/credits",
        {"limit_source": "openrouter_credits", "remedy_hint": "Add credits to the account."},
    ),
    "can_only_afford_402": lambda s: openrouter_error(
        402,
        "This request requires more credits, or fewer max_tokens. You requested up to "
        f"{s.limit or 4096} tokens, but can only afford {s.tokens or 100}.",
    ),
    "in_flight_402": lambda s: openrouter_error(
        402, "Too much spend is in flight for this account.", {"limit_source": "openrouter_in_flight_budget"},
        b"retry-after: %d\r\n" % whole_wait_s(s),
    ),
    "key_limit_403": lambda _s: openrouter_error(
        403, "Key limit exceeded (total limit).", {"limit_source": "openrouter_key_limit", **_LIMIT}
    ),
    "workspace_budget_403": lambda _s: openrouter_error(
        403,
        "Workspace budget exceeded.",
        {"limit_source": "openrouter_workspace_budget", **_LIMIT, "scope": "workspace"},
    ),
    "guardrail_budget_403": lambda _s: openrouter_error(
        403,
        "Guardrail budget exceeded.",
        {"limit_source": "openrouter_guardrail_budget", **_LIMIT, "scope": "guardrail"},
    ),
    "policy": lambda s: openrouter_error(
        403, "Your chosen model requires moderation and your input was flagged.",
        {"reasons": ["violence"], "flagged_input": "...", "provider_name": "Emulated", "model_slug": s.model},
    ),
    "auth_401": lambda _s: openrouter_error(401, "User not found."),
    "no_key_401": lambda _s: openrouter_error(401, "No auth credentials found"),
    "management_403": lambda _s: openrouter_error(403, "Only management keys can perform this operation"),
    "management_401": lambda _s: openrouter_error(401, "Management keys cannot be used for completions"),
    "no_endpoints_404": lambda s: openrouter_error(404, f"No endpoints found for {s.model}."),
    "max_price_404": lambda s: openrouter_error(
        404, f"No endpoints found that satisfy the requested max price for {s.model}."
    ),
    "privacy_restricted_404": _availability(
        404, "privacy_restricted", "No endpoints found matching your data policy.", "not_found"
    ),
    "region_restricted_404": _availability(404, "region_restricted", "No endpoints found in your region.", "not_found"),
    "constraint_filtered_404": _availability(
        404, "constraint_filtered", "No endpoints found that satisfy the request's constraints.", "not_found"
    ),
    "model_missing_404": _availability(404, "model_not_found", "The requested model does not exist.", "not_found"),
    "model_deprecated_404": _availability(404, "model_deprecated", "The requested model was retired.", "not_found"),
    "model_missing_400": lambda s: openrouter_error(400, f"{s.model} is not a valid model ID"),
    "string_code_400": lambda _s: Failure(
        400, _encode({"error": {"message": "The request has a mistake.", "code": "invalid_request_error"}})
    ),
    "context_too_long": lambda s: openrouter_error(
        400,
        f"This endpoint's maximum context length is {s.limit or 128000} tokens. However, you requested about "
        f"{s.tokens or 130000} tokens. Please reduce the length of either one.",
    ),
    "bad_request": lambda s: openrouter_error(400, s.detail or "Input required: specify \"prompt\" or \"messages\""),
    "timeout_408": lambda _s: openrouter_error(408, "Request timed out"),
    "server_500": lambda _s: openrouter_error(500, "Internal Server Error"),
    "upstream_502": _upstream(502, "upstream connect error"),
    "upstream_object_502": _upstream(502, {"error": {"message": "bad gateway", "code": 502}}),
    "overloaded": lambda _s: openrouter_error(
        503, "Provider returned error",
        {"raw": {"error": {"type": "Service Unavailable", "code": "no_available_workers"}},
         "provider_name": "Emulated", "is_byok": False},
    ),
    "timeout_504": lambda _s: openrouter_error(504, "Upstream timed out"),
    "overloaded_529": lambda _s: openrouter_error(529, "Provider overloaded"),
}  # fmt: skip

_MESSAGES_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def in_messages_envelope(refusal: Failure, request_id: str | None) -> Failure:
    """An OpenRouter refusal in Anthropic's envelope, as its `/messages` gives it."""
    found = msgspec.json.decode(refusal.body) if refusal.content_type == b"application/json" else None
    error = found.get("error") if isinstance(found, dict) else None
    if not isinstance(error, dict):
        return refusal
    kind = _MESSAGES_TYPES.get(refusal.status, "overloaded_error" if refusal.status == 503 else "api_error")
    inner: dict[str, Any] = {"type": kind, "message": error.get("message", "")}
    if "error_type" in error:
        inner["error_type"] = error["error_type"]
    body: dict[str, Any] = {"type": "error", "error": inner, "request_id": request_id}
    if "metadata" in error:
        body["metadata"] = error["metadata"]
    return replace(refusal, body=_encode(body))
