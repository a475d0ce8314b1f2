"""Google's failures as data: what an error answer says, and which class each saying is.

Sources: ai.google.dev, "Troubleshooting" and "Rate limits"; google.rpc's error details; recorded answers. The
same table judges statuses and errors inside a stream.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ownkey.domain.failures import FailureClass
from ownkey.providers.classify import ErrorFacts, Evidence, FailureTable, Rule, seconds_ms, text_of

_BAD_REQUEST = frozenset({400})
_TOO_MANY = frozenset({429})

# Quotas of a day end at midnight on Google's own clocks (ai.google.dev, "Rate limits").
_QUOTA_ZONE = "America/Los_Angeles"

# The HTTP status of each status word (google.rpc.Code), for errors inside a stream that leave the number out.
STATUS_OF_WORD: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}

RULES = (
    # A bad key is a 400 here.
    Rule(
        "google.bad_key", FailureClass.AUTH, codes=frozenset({"API_KEY_INVALID"}), evidence=Evidence.RECORDED
    ),
    Rule(
        "google.blocked_key",
        FailureClass.AUTH,
        codes=frozenset({"API_KEY_SERVICE_BLOCKED", "API_KEY_EXPIRED", "SERVICE_DISABLED"}),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "google.unauthenticated",
        FailureClass.AUTH,
        codes=frozenset({"UNAUTHENTICATED"}),
        evidence=Evidence.REPORTED,
    ),
    Rule(
        "google.permission", FailureClass.AUTH, codes=frozenset({"PERMISSION_DENIED"}), evidence=Evidence.REPORTED
    ),
    Rule(
        "google.daily_quota",
        FailureClass.FUNDS,
        statuses=_TOO_MANY,
        marks=frozenset({"per_day"}),
        signal="RESOURCE_EXHAUSTED per day",
        resets_daily=_QUOTA_ZONE,
        evidence=Evidence.REPORTED,
    ),
    Rule(
        "google.minute_quota",
        FailureClass.RATE_LIMIT,
        statuses=_TOO_MANY,
        marks=frozenset({"per_minute"}),
        evidence=Evidence.RECORDED,
    ),
    Rule(
        "google.stated_wait",
        FailureClass.RATE_LIMIT,
        statuses=_TOO_MANY,
        marks=frozenset({"wait"}),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "google.billing",
        FailureClass.FUNDS,
        codes=frozenset({"FAILED_PRECONDITION"}),
        phrases=("billing",),
        signal="FAILED_PRECONDITION billing",
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "google.precondition",
        FailureClass.AUTH,
        codes=frozenset({"FAILED_PRECONDITION"}),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "google.model_missing",
        FailureClass.MODEL_MISSING,
        codes=frozenset({"NOT_FOUND"}),
        evidence=Evidence.RECORDED,
    ),
    Rule(
        "google.too_long",
        FailureClass.TOO_LONG,
        statuses=_BAD_REQUEST,
        phrases=("input token count", "exceeds the maximum number of tokens", "request payload size exceeds"),
        signal="input token count exceeds the maximum",
        evidence=Evidence.REPORTED,
    ),
    # No wait is stated and no minute is named: what is used up does not come back by waiting.
    Rule("google.quota", FailureClass.FUNDS, statuses=_TOO_MANY, evidence=Evidence.REPORTED),
    Rule("google.model_missing_status", FailureClass.MODEL_MISSING, statuses=frozenset({404})),
    Rule("google.too_large", FailureClass.TOO_LONG, statuses=frozenset({413}), signal="request too large"),
)


def read_facts(status: int, headers: Mapping[str, str], error: object) -> ErrorFacts:
    """What an `error` says. Never raises, whatever it holds."""
    fields: Mapping[str, Any] = error if isinstance(error, dict) else {}
    number, word = fields.get("code"), text_of(fields.get("status"))
    details = list(_details(fields))
    reasons = tuple(text_of(detail.get("reason")) for detail in details if _is(detail, "ErrorInfo"))
    wait = next((seconds_ms(detail.get("retryDelay")) for detail in details if _is(detail, "RetryInfo")), None)
    quotas = [text_of(item.get("quotaId")) for detail in details for item in _violations(detail)]
    marks = {
        "per_day": any("PerDay" in quota for quota in quotas),
        "per_minute": any("PerMinute" in quota for quota in quotas),
        "wait": wait is not None or "retry-after" in headers,
    }
    return ErrorFacts(
        status=status,
        message=text_of(fields.get("message")),
        codes=tuple(code for code in (*reasons, word) if code),
        stated=number if isinstance(number, int) and 400 <= number < 600 else STATUS_OF_WORD.get(word),
        marks=frozenset(name for name, found in marks.items() if found),
        retry_after_ms=wait,
        headers=headers,
    )


def _details(error: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    details = error.get("details")
    if isinstance(details, list):
        yield from (detail for detail in details if isinstance(detail, dict))


def _violations(detail: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    violations = detail.get("violations")
    if _is(detail, "QuotaFailure") and isinstance(violations, list):
        yield from (violation for violation in violations if isinstance(violation, dict))


def _is(detail: Mapping[str, Any], kind: str) -> bool:
    return text_of(detail.get("@type")).endswith(f"google.rpc.{kind}")


FAILURES = FailureTable(read_facts, RULES)
