"""Which class a recorded error must end in: a second, smaller table than the product's, read from the same documents.

By provider, then status, then the stable words of the body. It stands here on its own so that a row lost or
loosened in the product shows as a disagreement.
"""

import json
from collections.abc import Mapping
from typing import Any

# The words that a provider's `code` or `type` may hold, wherever the status says less.
_WORDS: Mapping[str, str] = {
    "insufficient_quota": "funds", "credit_balance_exhausted": "funds", "organization_spend_limit_exceeded": "funds",
    "project_spend_limit_exceeded": "funds", "organization_usage_limit_exceeded": "funds", "billing_error": "funds",
    "enforced_spend_limit_reached": "funds", "contract_spend_limit_reached": "funds", "payment_required": "funds",
    "rate_limit_exceeded": "rate_limit", "slow_down": "rate_limit", "rate_limit_error": "rate_limit",
    "invalid_api_key": "auth", "authentication_error": "auth", "permission_error": "auth", "API_KEY_INVALID": "auth",
    "PERMISSION_DENIED": "auth", "UNAUTHENTICATED": "auth", "model_not_found": "model_missing",
    "model_deprecated": "model_missing", "NOT_FOUND": "model_missing", "context_length_exceeded": "too_long",
    "request_too_large": "too_long", "content_policy_violation": "policy", "invalid_prompt": "policy",
    "overloaded_error": "overload", "api_error": "overload", "timeout_error": "overload",
    "server_error": "overload", "server_is_overloaded": "overload",
}
_STATUSES: Mapping[int, str] = {
    400: "request", 401: "auth", 402: "funds", 403: "auth", 408: "overload", 409: "overload", 413: "too_long",
    429: "rate_limit",
}
_TOO_LONG = (
    "prompt is too long", "exceed context limit", "context length", "maximum context length", "context window",
    "input token count",
)
_ANTHROPIC_FUNDS = ("your credit balance is too low", "you have reached your specified")

# What the caller hears if nothing else answers (docs/errors.md).
CODES: Mapping[str, str] = {
    "network": "provider_unavailable", "overload": "provider_unavailable", "timeout": "provider_unavailable",
    "rate_limit": "provider_unavailable", "bad_output": "provider_unavailable", "auth": "credential_rejected",
    "scope": "credential_rejected", "funds": "credential_out_of_funds", "model_missing": "unknown_model",
    "request": "bad_request", "too_long": "context_too_long", "policy": "content_refused",
}
ANTHROPIC_TYPES = frozenset({
    "invalid_request_error", "authentication_error", "billing_error", "permission_error", "not_found_error",
    "request_too_large", "rate_limit_error", "timeout_error", "api_error", "overloaded_error",
})
"""The types of errors that Anthropic documents: its clients know no others."""
STOPS = frozenset({"request", "too_long", "policy", "bad_output"})
"""Classes after which no other route is tried."""


def class_of_answer(provider: str, status: int, body: bytes) -> str:
    """The class of an answer whose status is not 200."""
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return class_of_error(provider, status, value.get("error") if isinstance(value, dict) else None)


def class_of_error(provider: str, status: int, error: Any) -> str:
    """The class of an error object. `status` is 200 for one that came inside an answer."""
    fields: Mapping[str, Any] = error if isinstance(error, dict) else {}
    code = fields.get("code")
    if status == 200 and isinstance(code, int):
        status = code
    message = str(fields.get("message") or (error if isinstance(error, str) else "")).lower()
    special = _SPECIAL[provider](status, fields, message)
    if special:
        return special
    details = fields.get("details")
    words = [details.get("error_code")] if isinstance(details, dict) else _google_reasons(details)
    words += [fields.get("error_type"), code, fields.get("status"), fields.get("type")]
    found = next((_WORDS[word] for word in words if isinstance(word, str) and word in _WORDS), None)
    if found is not None:
        return found
    if status in (400, 413) and any(phrase in message for phrase in _TOO_LONG):
        return "too_long"
    if status == 200:
        return "request" if fields.get("type") == "invalid_request_error" else "overload"
    return _STATUSES.get(status) or ("request" if 400 <= status < 500 else "overload")


def _openai(status: int, fields: Mapping[str, Any], message: str) -> str:
    if status in (401, 403) and "missing scopes" in message:
        return "scope"
    return "rate_limit" if status == 429 and fields.get("type") in ("requests", "tokens") else ""


def _anthropic(status: int, fields: Mapping[str, Any], message: str) -> str:
    kind = fields.get("type")
    if kind == "invalid_request_error" and message.startswith(_ANTHROPIC_FUNDS):
        return "funds"
    if kind == "not_found_error":
        return "model_missing" if message.startswith("model") else "request"
    return "too_long" if kind == "invalid_request_error" and "prompt is too long" in message else ""


def _google(status: int, fields: Mapping[str, Any], message: str) -> str:
    if status == 429:
        details = json.dumps(fields.get("details") or [])
        if "PerDay" in details:
            return "funds"
        return "rate_limit" if "PerMinute" in details or "RetryInfo" in details else "funds"
    if fields.get("status") == "FAILED_PRECONDITION":
        return "funds" if "billing" in message else "auth"
    if status == 404:
        return "model_missing"
    return "bad_output" if "finishReason" in fields else ""


def _openrouter(status: int, fields: Mapping[str, Any], message: str) -> str:
    metadata, availability = _object(fields.get("metadata")), _object(fields.get("availability"))
    source = metadata.get("limit_source") or ""
    if status == 402:
        return "rate_limit" if source == "openrouter_in_flight_budget" else "funds"
    if status == 403:
        if source or "key limit exceeded" in message:
            return "funds"
        return "policy" if metadata.get("reasons") else "auth"
    if availability.get("code") in ("privacy_restricted", "region_restricted", "constraint_filtered"):
        return "scope"
    if status == 404:
        return "scope" if "no endpoints" in message or "no allowed providers" in message else "model_missing"
    quoted = f"{message} {json.dumps(metadata.get('raw') or '').lower()}"
    if status in (400, 413) and any(phrase in quoted for phrase in _TOO_LONG):
        return "too_long"
    return "model_missing" if status == 400 and "is not a valid model" in message else ""


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _google_reasons(details: Any) -> list[Any]:
    return [row.get("reason") for row in details if isinstance(row, dict)] if isinstance(details, list) else []


_SPECIAL = {"openai": _openai, "anthropic": _anthropic, "google": _google, "openrouter": _openrouter}
