"""Anthropic's failures as data: what an error answer says, and which class each saying is.

Sources: platform.claude.com, "Errors" and "Rate limits"; the error types of the official SDK (anthropic 2.12);
recorded answers. The same table judges statuses and `event: error` inside a stream.
"""

from collections.abc import Mapping
from typing import Any

from ownkey.domain.failures import FailureClass
from ownkey.providers.classify import ErrorFacts, FailureTable, Rule, text_of

# The status each type of error has outside a stream (platform.claude.com, "Errors").
STATUS_OF_TYPE: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}

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
    ),
    Rule("anthropic.organization_on_hold", FailureClass.AUTH, codes=frozenset({"organization_on_hold"})),
    Rule("anthropic.billing", FailureClass.FUNDS, types=frozenset({"billing_error"})),
    Rule(
        "anthropic.credit_balance",
        FailureClass.FUNDS,
        types=frozenset({"invalid_request_error"}),
        prefixes=("your credit balance is too low",),
        signal="credit balance too low",
    ),
    Rule(
        "anthropic.own_limit",
        FailureClass.FUNDS,
        types=frozenset({"invalid_request_error"}),
        prefixes=("you have reached your specified",),
        signal="own spend limit reached",
    ),
    Rule(
        "anthropic.organization_disabled",
        FailureClass.AUTH,
        types=frozenset({"invalid_request_error"}),
        prefixes=("this organization has been disabled",),
        signal="organization disabled",
    ),
    Rule("anthropic.rate_limit", FailureClass.RATE_LIMIT, types=frozenset({"rate_limit_error"})),
    Rule("anthropic.authentication", FailureClass.AUTH, types=frozenset({"authentication_error"})),
    Rule("anthropic.permission", FailureClass.AUTH, types=frozenset({"permission_error"})),
    Rule(
        "anthropic.model_missing",
        FailureClass.MODEL_MISSING,
        types=frozenset({"not_found_error"}),
        prefixes=("model:", "model "),
    ),
    Rule("anthropic.too_large", FailureClass.TOO_LONG, types=frozenset({"request_too_large"})),
    Rule("anthropic.too_large_status", FailureClass.TOO_LONG, statuses=frozenset({413}), signal="request_too_large"),
    Rule(
        "anthropic.too_long",
        FailureClass.TOO_LONG,
        types=frozenset({"invalid_request_error"}),
        phrases=("prompt is too long", "exceed context limit"),
        signal="prompt is too long",
    ),
    Rule(
        "anthropic.policy",
        FailureClass.POLICY,
        types=frozenset({"invalid_request_error"}),
        phrases=("blocked by content filtering policy",),
        signal="content filtering policy",
    ),
    Rule(
        "anthropic.overload",
        FailureClass.OVERLOAD,
        types=frozenset({"overloaded_error", "api_error", "timeout_error"}),
    ),
)


def read_facts(status: int, headers: Mapping[str, str], error: object) -> ErrorFacts:
    """What an `error` says. Never raises, whatever it holds."""
    fields: Mapping[str, Any] = error if isinstance(error, dict) else {}
    details = fields.get("details")
    code = text_of(details.get("error_code")) if isinstance(details, dict) else ""
    kind = text_of(fields.get("type"))
    return ErrorFacts(
        status=status,
        message=text_of(fields.get("message")),
        codes=(code,) if code else (),
        type=kind,
        stated=STATUS_OF_TYPE.get(kind),
        headers=headers,
    )


FAILURES = FailureTable(read_facts, RULES)
