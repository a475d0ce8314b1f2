"""Anthropic's failures as data: what an error answer says, and which class each saying is.

Sources: platform.claude.com, "Errors" and "Rate limits"; the error types of the official SDK (anthropic 2.12);
recorded answers. The same table judges statuses and `event: error` inside a stream.
"""

import re
from collections.abc import Mapping
from typing import Any

from ownkey.domain.failures import FailureClass
from ownkey.providers.classify import ErrorFacts, Evidence, FailureTable, Rule, stated_time_ms, text_of

# The status each type of error has outside a stream (platform.claude.com, "Errors").
STATUS_OF_TYPE: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}

# A workspace's own limit ends at the turn of the month, and the sentence names it: "You will regain access on
# 2026-12-01 at 00:00 UTC."
_REGAINED = re.compile(r"regain access on (\d{4}-\d{2}-\d{2})(?: at (\d{2}:\d{2}) UTC)?")

RULES = (
    Rule(
        "anthropic.spend_limit",
        FailureClass.FUNDS,
        codes=frozenset(
            {
                "enforced_spend_limit_reached",
                "contract_spend_limit_reached",
                "linked_organization_spend_limit_reached",
                "linked_organization_billing_unavailable",
            }
        ),
        evidence=Evidence.SDK,
    ),
    Rule(
        "anthropic.organization_on_hold",
        FailureClass.AUTH,
        codes=frozenset({"organization_on_hold"}),
        evidence=Evidence.SDK,
    ),
    # The organization's own set-up, not the request: another route may answer, and the key works elsewhere.
    Rule(
        "anthropic.organization_setup",
        FailureClass.SCOPE,
        codes=frozenset(
            {
                "organization_type_not_supported",
                "parent_organization_required",
                "cmek_key_disabled",
                "cmek_key_network_blocked",
            }
        ),
        evidence=Evidence.SDK,
    ),
    Rule(
        "anthropic.billing", FailureClass.FUNDS, types=frozenset({"billing_error"}), evidence=Evidence.DOCUMENTED
    ),
    Rule(
        "anthropic.credit_balance",
        FailureClass.FUNDS,
        types=frozenset({"invalid_request_error"}),
        prefixes=("your credit balance is too low",),
        signal="credit balance too low",
        evidence=Evidence.REPORTED,
    ),
    Rule(
        "anthropic.own_limit",
        FailureClass.FUNDS,
        types=frozenset({"invalid_request_error"}),
        prefixes=("you have reached your specified",),
        signal="own spend limit reached",
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "anthropic.organization_disabled",
        FailureClass.AUTH,
        types=frozenset({"invalid_request_error"}),
        prefixes=("this organization has been disabled",),
        signal="organization disabled",
        evidence=Evidence.REPORTED,
    ),
    Rule(
        "anthropic.rate_limit",
        FailureClass.RATE_LIMIT,
        types=frozenset({"rate_limit_error"}),
        evidence=Evidence.REPORTED,
    ),
    Rule(
        "anthropic.authentication",
        FailureClass.AUTH,
        types=frozenset({"authentication_error"}),
        evidence=Evidence.RECORDED,
    ),
    Rule(
        "anthropic.permission",
        FailureClass.AUTH,
        types=frozenset({"permission_error"}),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "anthropic.model_missing",
        FailureClass.MODEL_MISSING,
        types=frozenset({"not_found_error"}),
        prefixes=("model:", "model "),
        evidence=Evidence.RECORDED,
    ),
    Rule(
        "anthropic.too_large",
        FailureClass.TOO_LONG,
        types=frozenset({"request_too_large"}),
        evidence=Evidence.REPORTED,
    ),
    Rule(
        "anthropic.too_long",
        FailureClass.TOO_LONG,
        types=frozenset({"invalid_request_error"}),
        phrases=("prompt is too long", "exceed context limit"),
        signal="prompt is too long",
        evidence=Evidence.REPORTED,
    ),
    Rule(
        "anthropic.policy",
        FailureClass.POLICY,
        types=frozenset({"invalid_request_error"}),
        phrases=("blocked by content filtering policy",),
        signal="content filtering policy",
        evidence=Evidence.REPORTED,
    ),
    Rule(
        "anthropic.overload",
        FailureClass.OVERLOAD,
        types=frozenset({"overloaded_error", "api_error", "timeout_error"}),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "anthropic.too_large_status",
        FailureClass.TOO_LONG,
        statuses=frozenset({413}),
        signal="request_too_large",
        evidence=Evidence.REPORTED,
    ),
)


def read_facts(status: int, headers: Mapping[str, str], error: object) -> ErrorFacts:
    """What an `error` says. Never raises, whatever it holds."""
    fields: Mapping[str, Any] = error if isinstance(error, dict) else {}
    details = fields.get("details")
    code = text_of(details.get("error_code")) if isinstance(details, dict) else ""
    kind = text_of(fields.get("type"))
    message = text_of(fields.get("message"))
    return ErrorFacts(
        status=status,
        message=message,
        codes=(code,) if code else (),
        type=kind,
        stated=STATUS_OF_TYPE.get(kind),
        resets_at_ms=_stated_reset_ms(message),
        headers=headers,
    )


def _stated_reset_ms(message: str) -> int | None:
    found = _REGAINED.search(message)
    return stated_time_ms(f"{found[1]}T{found[2] or '00:00'}") if found else None


FAILURES = FailureTable(read_facts, RULES)
