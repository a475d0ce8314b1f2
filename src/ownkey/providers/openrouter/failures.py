"""OpenRouter's failures as rules: stable codes and error types first, then metadata, messages and statuses.

Sources: openrouter.ai/docs, "Errors" and "Limits"; the error types of its OpenAPI description; public issues; recorded
answers. The same table judges statuses, errors inside a 200 and the chunks and events of all its dialects; under
`/messages` they come in Anthropic's envelope.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from ownkey.domain.failures import FailureClass
from ownkey.providers.anthropic.failures import STATUS_OF_TYPE
from ownkey.providers.classify import (
    ErrorFacts,
    Evidence,
    FailureTable,
    Rule,
    read_error_object,
    seconds_ms,
    stated_time_ms,
    text_of,
)

NO_ENDPOINTS = "no_endpoints"
_NO_ENDPOINTS_TEXT = (
    "No endpoint of this model fits the OpenRouter account's privacy, region or routing settings."
)

# The status of each canonical error type, for errors inside an answer that carry no number.
STATUS_OF_ERROR_TYPE: Mapping[str, int] = {
    "context_length_exceeded": 400,
    "max_tokens_exceeded": 400,
    "token_limit_exceeded": 400,
    "string_too_long": 400,
    "invalid_request": 400,
    "invalid_prompt": 400,
    "invalid_image": 400,
    "image_too_large": 400,
    "image_too_small": 400,
    "unsupported_image_format": 400,
    "image_not_found": 400,
    "image_download_failed": 400,
    "authentication": 401,
    "payment_required": 402,
    "permission_denied": 403,
    "content_policy_violation": 403,
    "not_found": 404,
    "precondition_failed": 412,
    "payload_too_large": 413,
    "unprocessable": 422,
    "rate_limit_exceeded": 429,
    "server": 500,
    "provider_unavailable": 502,
    "provider_overloaded": 503,
    "timeout": 504,
}

# What a response says of the request in its own `error` (OpenAPI, ResponsesErrorField), in OpenAI's words.
_STATUS_OF_RESPONSES_CODE = dict.fromkeys(
    (
        "data_residency_mismatch", "empty_image_file", "failed_to_download_image", "image_file_not_found",
        "image_file_too_large", "image_parse_error", "invalid_base64_image", "invalid_image_format",
        "invalid_image_mode", "invalid_image_url", "unsupported_image_media_type",
    ),
    400,
)
_STATUS_OF_CODE = {**STATUS_OF_ERROR_TYPE, **_STATUS_OF_RESPONSES_CODE}

RULES = (
    # Money in flight, not money spent: the only 402 that passes by waiting.
    Rule(
        "openrouter.in_flight_budget",
        FailureClass.RATE_LIMIT,
        statuses=frozenset({402}),
        marks=frozenset({"limit_source:openrouter_in_flight_budget"}),
        signal="in_flight_budget",
        evidence=Evidence.DOCUMENTED,
    ),
    # Words before the codes of a 402, whose class they share: they say that a smaller call may pass.
    Rule(
        "openrouter.can_only_afford",
        FailureClass.FUNDS,
        statuses=frozenset({402}),
        phrases=("can only afford",),
        spares_credential=True,
        signal="can_only_afford",
        evidence=Evidence.REPORTED,
    ),
    Rule(
        "openrouter.budget",
        FailureClass.FUNDS,
        statuses=frozenset({402, 403}),
        marks=frozenset({"limit_source"}),
        signal="budget",
        evidence=Evidence.REPORTED,
    ),
    Rule(
        "openrouter.payment_required",
        FailureClass.FUNDS,
        codes=frozenset({"payment_required"}),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "openrouter.model_missing",
        FailureClass.MODEL_MISSING,
        codes=frozenset({"model_not_found", "model_deprecated"}),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "openrouter.restricted",
        FailureClass.SCOPE,
        codes=frozenset({"privacy_restricted", "region_restricted", "constraint_filtered"}),
        text=_NO_ENDPOINTS_TEXT,
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "openrouter.moderation",
        FailureClass.POLICY,
        statuses=frozenset({403}),
        marks=frozenset({"reasons"}),
        signal="moderation",
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "openrouter.policy",
        FailureClass.POLICY,
        codes=frozenset(
            {
                "content_policy_violation",
                "invalid_prompt",
                "refusal",
                "image_content_policy_violation",
                "bio_policy",
                "cyber_policy",
                "misalignment_policy_violation",
            }
        ),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "openrouter.too_long",
        FailureClass.TOO_LONG,
        codes=frozenset(
            {"context_length_exceeded", "token_limit_exceeded", "string_too_long", "payload_too_large"}
        ),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "openrouter.rate_limited",
        FailureClass.RATE_LIMIT,
        codes=frozenset({"rate_limit_exceeded", "capacity_exhausted"}),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "openrouter.authentication",
        FailureClass.AUTH,
        codes=frozenset({"authentication"}),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "openrouter.unavailable",
        FailureClass.OVERLOAD,
        codes=frozenset({"provider_overloaded", "provider_unavailable", "server", "timeout"}),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "openrouter.retryable",
        FailureClass.OVERLOAD,
        statuses=frozenset({400, 404}),
        marks=frozenset({"retryable"}),
        signal="availability",
    ),
    Rule(
        "openrouter.too_large",
        FailureClass.TOO_LONG,
        types=frozenset({"request_too_large"}),
        evidence=Evidence.REPORTED,
    ),
    Rule(
        "openrouter.key_limit",
        FailureClass.FUNDS,
        statuses=frozenset({403}),
        phrases=("key limit exceeded",),
        signal="key_limit",
        evidence=Evidence.REPORTED,
    ),
    # The texts of the providers behind OpenRouter, quoted in `metadata.raw`.
    Rule(
        "openrouter.too_long_text",
        FailureClass.TOO_LONG,
        statuses=frozenset({400, 413}),
        phrases=(
            "context length",
            "context window",
            "context_length_exceeded",
            "prompt is too long",
            "input token count",
        ),
        signal="context_length_exceeded",
        evidence=Evidence.REPORTED,
    ),
    Rule(
        "openrouter.invalid_model",
        FailureClass.MODEL_MISSING,
        statuses=frozenset({400}),
        phrases=("is not a valid model",),
        signal="model_not_found",
        evidence=Evidence.REPORTED,
    ),
    Rule(
        "openrouter.restricted_in_words",
        FailureClass.SCOPE,
        statuses=frozenset({404}),
        phrases=("data policy", "in your region"),
        signal="privacy_restricted",
        text=_NO_ENDPOINTS_TEXT,
        evidence=Evidence.REPORTED,
    ),
    Rule(
        "openrouter.no_endpoints",
        FailureClass.SCOPE,
        statuses=frozenset({404}),
        phrases=("no endpoints", "no allowed providers"),
        signal=NO_ENDPOINTS,
        text=_NO_ENDPOINTS_TEXT,
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "openrouter.not_found",
        FailureClass.MODEL_MISSING,
        statuses=frozenset({404}),
        signal="model_not_found",
    ),
    Rule("openrouter.auth", FailureClass.AUTH, statuses=frozenset({401}), evidence=Evidence.REPORTED),
    Rule("openrouter.funds", FailureClass.FUNDS, statuses=frozenset({402}), evidence=Evidence.REPORTED),
    Rule(
        "openrouter.rate_limit", FailureClass.RATE_LIMIT, statuses=frozenset({429}), evidence=Evidence.RECORDED
    ),
    Rule(
        "openrouter.overload",
        FailureClass.OVERLOAD,
        statuses=frozenset({408, *range(500, 600)}),
        evidence=Evidence.DOCUMENTED,
    ),
)


def read_facts(status: int, headers: Mapping[str, str], error: object) -> ErrorFacts:
    """What an `error` says. Never raises, whatever it holds.

    `code` may be an integer, digits, a word or missing; `metadata.raw` a text, a JSON text or an object.
    """
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        return ErrorFacts(status, headers=headers)
    metadata = _object(error.get("metadata"))
    availability = _object(error.get("availability")) or _object(metadata.get("availability"))
    code = error.get("code")
    words = (error.get("error_type"), metadata.get("error_type"), availability.get("code"), code)
    codes = tuple(word for word in words if isinstance(word, str) and word and not word.isdigit())
    raw_text, raw_message = _read_raw(metadata.get("raw"))
    message, kind = text_of(error.get("message")), text_of(error.get("type"))
    return ErrorFacts(
        status=status,
        message=_shown(message, raw_message, text_of(metadata.get("provider_name"))),
        codes=codes,
        type="" if kind == "error" else kind,  # An event's own name, where it is the error itself.
        param=text_of(error.get("param")) or None,
        stated=_stated_status(code) or _stated_status(error.get("http_status")) or _implied_status(codes, kind),
        haystack=f"{message}\n{raw_text}",
        marks=_marks(metadata, availability, _object(error.get("openrouter_metadata"))),
        retry_after_ms=seconds_ms(availability.get("retry_after")),
        resets_at_ms=stated_time_ms(metadata.get("resets_at")),
        headers=headers,
    )


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _stated_status(value: object) -> int | None:
    if isinstance(value, str) and len(value) == 3 and value.isdecimal():
        value = int(value)
    return value if isinstance(value, int) and 400 <= value < 600 else None


def _implied_status(codes: tuple[str, ...], kind: str) -> int | None:
    known = (_STATUS_OF_CODE[code] for code in codes if code in _STATUS_OF_CODE)
    return next(known, None) or STATUS_OF_TYPE.get(kind)


def _marks(
    metadata: Mapping[str, Any], availability: Mapping[str, Any], routing: Mapping[str, Any]
) -> frozenset[str]:
    marks = set()
    if source := text_of(metadata.get("limit_source")):
        marks |= {"limit_source", f"limit_source:{source}"}
    if metadata.get("reasons") or metadata.get("patterns") or _was_guarded(routing):
        marks.add("reasons")
    if availability.get("retryable") is True:
        marks.add("retryable")
    return frozenset(marks)


def _was_guarded(routing: Mapping[str, Any]) -> bool:
    """Whether a guardrail of the account blocked the request: under `/messages` only the pipeline says so."""
    stages = routing.get("pipeline")
    return any(
        stage.get("type") == "guardrail" and text_of(stage.get("summary")).startswith("Blocked")
        for stage in (stages if isinstance(stages, list) else ())
        if isinstance(stage, dict)
    )


def _read_raw(raw: object) -> tuple[str, str]:
    """The upstream's own error as text to search, and the message inside it."""
    if isinstance(raw, dict):
        text, answer = msgspec.json.encode(raw).decode(), raw
    else:
        text = text_of(raw)
        answer = read_error_object(text.encode("utf-8", "replace")) or {}
    error = answer.get("error")
    inner = _object(error).get("message") or (error if isinstance(error, str) else answer.get("message"))
    return text, text_of(inner) or ("" if text.startswith("{") else text)


def _shown(message: str, raw_message: str, provider_name: str) -> str:
    """OpenRouter's sentence, or the upstream's where OpenRouter only says that there was one."""
    if raw_message and message in ("", "Provider returned error"):
        return f"{provider_name}: {raw_message}" if provider_name else raw_message
    return message


FAILURES = FailureTable(read_facts, RULES)
