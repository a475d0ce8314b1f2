"""Every refusal the four providers are known to give, by name, in their own envelope and status.

One table a provider: name -> what it says. Codes, types and the beginnings of messages are the providers' (a gateway
classifies by them); the rest of each message is ours. OpenRouter's table is in `router_errors`.
"""

from typing import Any

import msgspec

from .plan import Failure
from .router_errors import OPENROUTER, in_messages_envelope, openrouter_error
from .scene import EDGE, Maker, Scene, whole_wait_s

__all__ = [
    "TABLES", "Scene", "anthropic_error", "failure", "google_error", "in_messages_envelope", "masked", "names",
    "openai_error", "openrouter_error",
]  # fmt: skip

_encode = msgspec.json.encode


# openai


def masked(key: str) -> str:
    """A key as OpenAI's own message shows it: its beginning and its last four characters."""
    if len(key) <= 8:
        return "*" * len(key)
    return f"{key[:8]}{'*' * min(24, max(4, len(key) - 12))}{key[-4:]}"


def openai_error(
    status: int, message: str, kind: str, code: str | None, param: str | None = None, headers: bytes = b""
) -> Failure:
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return Failure(status, msgspec.json.format(_encode(body), indent=2) + b"\n", headers)


def _openai_rate(scene: Scene, *, tells: bool, code: str = "rate_limit_exceeded", kind: str = "requests") -> Failure:
    headers = b""
    tail = "."
    if tells:
        wait = whole_wait_s(scene)
        headers = b"retry-after: %d\r\nretry-after-ms: %d\r\nx-ratelimit-reset-requests: %ds\r\n" % (
            wait, wait * 1000, wait,
        )  # fmt: skip
        tail = f". Please try again in {wait}s."
    message = f"Rate limit reached for {scene.model} in organization org-emulator on requests per min (RPM){tail}"
    return openai_error(429, message, kind, code, None, headers)


def _openai_quota(code: str) -> Maker:
    message = "You exceeded your current quota, please check your plan and billing details."
    return lambda _scene: openai_error(429, message, "insufficient_quota", code)


OPENAI: dict[str, Maker] = {
    "rate_limit": lambda s: _openai_rate(s, tells=False),
    "rate_limit_retry_after": lambda s: _openai_rate(s, tells=True),
    "rate_limit_tokens": lambda s: _openai_rate(s, tells=True, kind="tokens"),
    "slow_down": lambda s: _openai_rate(s, tells=False, code="slow_down", kind="rate_limit_error"),
    "insufficient_quota": _openai_quota("insufficient_quota"),
    "credit_balance_exhausted": _openai_quota("credit_balance_exhausted"),
    "organization_spend_limit_exceeded": _openai_quota("organization_spend_limit_exceeded"),
    "project_spend_limit_exceeded": _openai_quota("project_spend_limit_exceeded"),
    "organization_usage_limit_exceeded": _openai_quota("organization_usage_limit_exceeded"),
    "overloaded": lambda _s: openai_error(
        503, "The server is currently overloaded. Please try again later.", "service_unavailable_error",
        "server_is_overloaded",
    ),
    "auth_401": lambda s: openai_error(
        401,
        f"Incorrect API key provided: {masked(s.key)}. You can find your API key at "
        "https://platform.openai.com/account/api-keys.",
        "invalid_request_error",
        "invalid_api_key",
    ),
    "no_key_401": lambda _s: openai_error(
        401, "You didn't provide an API key. Send it as Authorization: Bearer YOUR_KEY.", "invalid_request_error", None
    ),
    "scope_401": lambda s: openai_error(
        401,
        "You have insufficient permissions for this operation. Missing scopes: "
        f"{s.detail or 'model.request'}. Check that you have the correct role in your organization and project.",
        "invalid_request_error",
        None,
    ),
    "scope_403": lambda _s: openai_error(
        403, "You have insufficient permissions for this operation. Missing scopes: model.request.",
        "invalid_request_error", None,
    ),
    "region_403": lambda _s: openai_error(
        403, "Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"
    ),
    "model_missing_404": lambda s: openai_error(
        404, f"The model `{s.model}` does not exist or you do not have access to it.", "invalid_request_error",
        "model_not_found",
    ),
    "model_missing_400": lambda s: openai_error(
        400, f"The requested model '{s.model}' does not exist.", "invalid_request_error", "model_not_found", "model"
    ),
    "model_forbidden_403": lambda s: openai_error(
        403, f"Project `proj_emulator` does not have access to model `{s.model}`", "invalid_request_error",
        "model_not_found",
    ),
    "context_too_long": lambda s: openai_error(
        400,
        f"This model's maximum context length is {s.limit or 128000} tokens. However, your messages resulted in "
        f"{s.tokens or 130000} tokens. Please reduce the length of the messages.",
        "invalid_request_error",
        "context_length_exceeded",
        "messages",
    ),
    "policy": lambda _s: openai_error(
        400, "Your request was rejected as a result of our safety system.", "invalid_request_error",
        "content_policy_violation",
    ),
    "invalid_prompt": lambda _s: openai_error(
        400, "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
        "invalid_request_error", "invalid_prompt",
    ),
    "bad_request": lambda s: openai_error(
        400, s.detail or "Invalid value for a parameter.", "invalid_request_error", None, "messages"
    ),
    "timeout_408": lambda _s: openai_error(408, "Request timed out.", "timeout", None),
    "conflict_409": lambda _s: openai_error(409, "Conflict: the resource is being changed.", "conflict", None),
    "server_500": lambda s: openai_error(
        500,
        "The server had an error processing your request. Sorry about that! (Please include the request ID "
        f"{s.request_id} in your email.)",
        "server_error",
        None,
    ),
    "timeout_504": lambda _s: openai_error(504, "The request timed out upstream.", "server_error", None),
}  # fmt: skip


# anthropic


def anthropic_error(
    status: int, message: str, kind: str, request_id: str, headers: bytes = b"", details: dict[str, Any] | None = None
) -> Failure:
    error: dict[str, Any] = {"type": kind, "message": message}
    if details:
        error["details"] = details
    return Failure(status, _encode({"type": "error", "error": error, "request_id": request_id}), headers)


_NO_RETRY = b"x-should-retry: false\r\n"


def _anthropic(status: int, kind: str, message: str, headers: bytes = b"") -> Maker:
    return lambda s: anthropic_error(status, s.detail or message, kind, s.request_id, headers)


def _anthropic_spend(code: str) -> Maker:
    return lambda s: anthropic_error(
        429, "You have reached the spend limit of your organization.", "rate_limit_error", s.request_id,
        details={"error_code": code},
    )  # fmt: skip


ANTHROPIC: dict[str, Maker] = {
    "rate_limit": _anthropic(
        429, "rate_limit_error", "This request would exceed your rate limit.", b"x-should-retry: true\r\n"
    ),
    "rate_limit_retry_after": lambda s: anthropic_error(
        429, "This request would exceed your rate limit.", "rate_limit_error", s.request_id,
        b"retry-after: %d\r\n" % whole_wait_s(s),
    ),
    "enforced_spend_limit_429": _anthropic_spend("enforced_spend_limit_reached"),
    "contract_spend_limit_429": _anthropic_spend("contract_spend_limit_reached"),
    "billing_402": _anthropic(402, "billing_error", "There is a problem with your billing.", _NO_RETRY),
    "credit_balance_low_400": _anthropic(
        400, "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or "
        "purchase credits.", _NO_RETRY,
    ),
    "usage_limit_400": _anthropic(
        400, "invalid_request_error", "You have reached your specified API usage limits. You will regain access later.",
        _NO_RETRY,
    ),
    "workspace_limit_400": _anthropic(
        400, "invalid_request_error", "You have reached your specified workspace API usage limits.", _NO_RETRY
    ),
    "auth_401": lambda s: anthropic_error(401, "invalid x-api-key", "authentication_error", s.request_id, _NO_RETRY),
    "no_key_401": _anthropic(401, "authentication_error", "x-api-key header is required", _NO_RETRY),
    "permission_403": _anthropic(
        403, "permission_error", "Your API key does not have permission to use the specified resource.", _NO_RETRY
    ),
    "model_missing_404": lambda s: anthropic_error(
        404, f"model: {s.model}", "not_found_error", s.request_id, _NO_RETRY
    ),
    "context_too_long": lambda s: anthropic_error(
        400, f"prompt is too long: {s.tokens or 210000} tokens > {s.limit or 200000} maximum",
        "invalid_request_error", s.request_id, _NO_RETRY,
    ),
    "too_large_413": lambda _s: Failure(
        413, _encode({"error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}})
    ),
    "policy": _anthropic(
        400, "invalid_request_error", "Output blocked by content filtering policy", _NO_RETRY
    ),
    "bad_request": _anthropic(400, "invalid_request_error", "messages: the request has a mistake.", _NO_RETRY),
    "timeout_408": _anthropic(408, "timeout_error", "Request timed out."),
    "conflict_409": _anthropic(409, "invalid_request_error", "Conflict."),
    "server_500": _anthropic(500, "api_error", "Internal server error"),
    "timeout_504": _anthropic(504, "timeout_error", "The request timed out."),
    "overloaded": _anthropic(529, "overloaded_error", "Overloaded", b"x-should-retry: true\r\n"),
}  # fmt: skip


# google


def google_error(
    code: int, message: str, status: str, details: list[dict[str, Any]] | None = None, *, in_list: bool = False
) -> Failure:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    if details is not None:
        error["details"] = details
    body: Any = {"error": error}
    return Failure(code, msgspec.json.format(_encode([body] if in_list else body), indent=2) + b"\n")


_TYPE = "type.googleapis.com/google.rpc."


def _google_quota(scene: Scene, quota: str, *, retry: bool) -> Failure:
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_requests",
        "quotaId": quota,
        "quotaDimensions": {"location": "global", "model": scene.model},
        "quotaValue": "10",
    }
    details: list[dict[str, Any]] = [
        {"@type": _TYPE + "QuotaFailure", "violations": [violation]},
        {"@type": _TYPE + "Help", "links": [{"description": "Quotas", "url": "https://ai.google.dev/gemini-api/docs"}]},
    ]
    message = "You exceeded your current quota, please check your plan and billing details."
    if retry:
        details.append({"@type": _TYPE + "RetryInfo", "retryDelay": f"{scene.wait_s:g}s"})
        message += f" Please retry in {scene.wait_s:g}s."
    return google_error(429, message, "RESOURCE_EXHAUSTED", details)


def _google_bad_key(reason: str, message: str) -> Failure:
    details: list[dict[str, Any]] = [
        {
            "@type": _TYPE + "ErrorInfo",
            "reason": reason,
            "domain": "googleapis.com",
            "metadata": {"service": "generativelanguage.googleapis.com"},
        },
        {"@type": _TYPE + "LocalizedMessage", "locale": "en-US", "message": message},
    ]
    return google_error(400, message, "INVALID_ARGUMENT", details)


GOOGLE: dict[str, Maker] = {
    "rate_limit": lambda s: _google_quota(s, "GenerateRequestsPerMinutePerProjectPerModel", retry=True),
    "rate_limit_retry_after": lambda s: _google_quota(s, "GenerateRequestsPerMinutePerProjectPerModel", retry=True),
    "insufficient_quota": lambda s: _google_quota(s, "GenerateRequestsPerDayPerProjectPerModel", retry=False),
    "daily_quota_429": lambda s: _google_quota(s, "GenerateRequestsPerDayPerProjectPerModel", retry=True),
    "list_wrapped_429": lambda _s: google_error(
        429, "Resource has been exhausted (e.g. check quota).", "RESOURCE_EXHAUSTED", in_list=True
    ),
    "auth_401": lambda _s: google_error(
        401, "Request had invalid authentication credentials. Expected OAuth 2 access token.", "UNAUTHENTICATED"
    ),
    "auth_400": lambda _s: _google_bad_key("API_KEY_INVALID", "API key not valid. Please pass a valid API key."),
    "expired_400": lambda _s: _google_bad_key("API_KEY_INVALID", "API key expired. Please renew the API key."),
    "no_key_403": lambda _s: google_error(
        403, "Method doesn't allow unregistered callers (callers without established identity).", "PERMISSION_DENIED"
    ),
    "leaked_403": lambda _s: google_error(
        403, "Your API key was reported as leaked. Please use another API key.", "PERMISSION_DENIED"
    ),
    "permission_403": lambda s: google_error(
        403, s.detail or "Your project has been denied access. Please contact support.", "PERMISSION_DENIED"
    ),
    "billing_400": lambda _s: google_error(
        400, "Gemini API free tier is not available in your country. Please enable billing on your project.",
        "FAILED_PRECONDITION",
    ),
    "precondition_400": lambda _s: google_error(
        400, "User location is not supported for the API use.", "FAILED_PRECONDITION"
    ),
    "model_missing_404": lambda s: google_error(
        404,
        f"models/{s.model} is not found for API version v1beta, or is not supported for {s.method}. Call "
        "ModelService.ListModels to see the list of available models and their supported methods.",
        "NOT_FOUND",
    ),
    "context_too_long": lambda s: google_error(
        400,
        f"The input token count ({s.tokens or 1100000}) exceeds the maximum number of tokens allowed "
        f"({s.limit or 1048576}).",
        "INVALID_ARGUMENT",
    ),
    "bad_request": lambda s: google_error(
        400, s.detail or "Request contains an invalid argument.", "INVALID_ARGUMENT"
    ),
    "server_500": lambda _s: google_error(500, "An internal error has occurred. Please retry.", "INTERNAL"),
    "overloaded": lambda _s: google_error(503, "The model is overloaded. Please try again later.", "UNAVAILABLE"),
    "timeout_504": lambda _s: google_error(
        504, "Deadline expired before operation could complete.", "DEADLINE_EXCEEDED"
    ),
    "timeout_408": lambda _s: google_error(408, "Request timed out.", "DEADLINE_EXCEEDED"),
    "conflict_409": lambda _s: google_error(409, "The operation was aborted.", "ABORTED"),
}  # fmt: skip


TABLES: dict[str, dict[str, Maker]] = {
    "openai": {**OPENAI, **EDGE},
    "anthropic": {**ANTHROPIC, **EDGE},
    "google": {**GOOGLE, **EDGE},
    "openrouter": {**OPENROUTER, **EDGE},
}


def failure(provider: str, name: str, scene: Scene) -> Failure:
    """The provider's answer for the named refusal."""
    return TABLES[provider][name](scene)


def names(provider: str | None = None) -> list[str]:
    """The refusals that one provider, or any, can give."""
    tables = TABLES.values() if provider is None else (TABLES[provider],)
    return sorted({name for table in tables for name in table})
