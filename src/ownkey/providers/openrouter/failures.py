"""OpenRouter's failures as rules: stable codes and error types first, then metadata, messages and statuses."""

from collections.abc import Mapping
from typing import Any

import msgspec

from ownkey.domain.failures import FailureClass
from ownkey.providers.classify import ErrorFacts, FailureTable, Rule, read_error_object, seconds_ms, text_of

NO_ENDPOINTS = "no_endpoints"
_NO_ENDPOINTS_TEXT = (
    "No endpoint of this model fits the OpenRouter account's privacy, region or routing settings."
)

RULES = (
    # Money in flight, not money spent: the only 402 that passes by waiting.
    Rule(
        "openrouter.in_flight_budget",
        FailureClass.RATE_LIMIT,
        statuses=frozenset({402}),
        marks=frozenset({"limit_source:openrouter_in_flight_budget"}),
        signal="in_flight_budget",
    ),
    Rule(
        "openrouter.can_only_afford",
        FailureClass.FUNDS,
        statuses=frozenset({402}),
        phrases=("can only afford",),
        spares_credential=True,
        signal="can_only_afford",
    ),
    Rule(
        "openrouter.budget",
        FailureClass.FUNDS,
        statuses=frozenset({402, 403}),
        marks=frozenset({"limit_source"}),
        signal="budget",
    ),
    Rule(
        "openrouter.key_limit",
        FailureClass.FUNDS,
        statuses=frozenset({403}),
        phrases=("key limit exceeded",),
        signal="key_limit",
    ),
    Rule("openrouter.payment_required", FailureClass.FUNDS, codes=frozenset({"payment_required"})),
    Rule(
        "openrouter.model_missing",
        FailureClass.MODEL_MISSING,
        codes=frozenset({"model_not_found", "model_deprecated"}),
    ),
    Rule(
        "openrouter.restricted",
        FailureClass.SCOPE,
        codes=frozenset({"privacy_restricted", "region_restricted", "constraint_filtered"}),
        signal=NO_ENDPOINTS,
        text=_NO_ENDPOINTS_TEXT,
    ),
    Rule(
        "openrouter.moderation",
        FailureClass.POLICY,
        statuses=frozenset({403}),
        marks=frozenset({"reasons"}),
        signal="moderation",
    ),
    Rule(
        "openrouter.policy",
        FailureClass.POLICY,
        codes=frozenset({"content_policy_violation", "invalid_prompt", "refusal"}),
    ),
    Rule(
        "openrouter.too_long",
        FailureClass.TOO_LONG,
        codes=frozenset({"context_length_exceeded", "token_limit_exceeded"}),
    ),
    Rule("openrouter.rate_limited", FailureClass.RATE_LIMIT, codes=frozenset({"rate_limit_exceeded"})),
    Rule("openrouter.authentication", FailureClass.AUTH, codes=frozenset({"authentication"})),
    Rule(
        "openrouter.unavailable",
        FailureClass.OVERLOAD,
        codes=frozenset({"provider_overloaded", "provider_unavailable", "server", "timeout"}),
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
    ),
    Rule(
        "openrouter.invalid_model",
        FailureClass.MODEL_MISSING,
        statuses=frozenset({400}),
        phrases=("is not a valid model",),
        signal="model_not_found",
    ),
    Rule(
        "openrouter.no_endpoints",
        FailureClass.SCOPE,
        statuses=frozenset({404}),
        phrases=("no endpoints", "no allowed providers"),
        signal=NO_ENDPOINTS,
        text=_NO_ENDPOINTS_TEXT,
    ),
    Rule(
        "openrouter.not_found",
        FailureClass.MODEL_MISSING,
        statuses=frozenset({404}),
        signal="model_not_found",
    ),
    Rule("openrouter.auth", FailureClass.AUTH, statuses=frozenset({401})),
    Rule("openrouter.funds", FailureClass.FUNDS, statuses=frozenset({402})),
    Rule("openrouter.rate_limit", FailureClass.RATE_LIMIT, statuses=frozenset({429})),
    Rule("openrouter.overload", FailureClass.OVERLOAD, statuses=frozenset({408, *range(500, 600)})),
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
    raw_text, raw_message = _read_raw(metadata.get("raw"))
    message = text_of(error.get("message"))
    return ErrorFacts(
        status=status,
        message=_shown(message, raw_message, text_of(metadata.get("provider_name"))),
        codes=tuple(word for word in words if isinstance(word, str) and word and not word.isdigit()),
        type=text_of(error.get("type")),
        param=text_of(error.get("param")) or None,
        stated=_stated_status(code) or _stated_status(error.get("http_status")),
        haystack=f"{message}\n{raw_text}",
        marks=_marks(metadata),
        retry_after_ms=seconds_ms(availability.get("retry_after")),
        headers=headers,
    )


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _stated_status(value: object) -> int | None:
    if isinstance(value, str) and len(value) == 3 and value.isdecimal():
        value = int(value)
    return value if isinstance(value, int) and 400 <= value < 600 else None


def _marks(metadata: Mapping[str, Any]) -> frozenset[str]:
    marks = set()
    if source := text_of(metadata.get("limit_source")):
        marks |= {"limit_source", f"limit_source:{source}"}
    if metadata.get("reasons"):
        marks.add("reasons")
    return frozenset(marks)


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
