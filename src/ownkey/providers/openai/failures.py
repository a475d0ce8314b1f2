"""OpenAI's failures as rules: stable codes first, then types, messages and statuses."""

from collections.abc import Mapping

from ownkey.domain.failures import FailureClass
from ownkey.providers.classify import ErrorFacts, FailureTable, Rule, text_of

RULES = (
    # A restricted key answers 401 with no code of its own; only the sentence tells it from a wrong key.
    Rule(
        "openai.missing_scopes",
        FailureClass.SCOPE,
        statuses=frozenset({401, 403}),
        phrases=("missing scopes",),
        signal="missing_scopes",
    ),
    Rule(
        "openai.funds_code",
        FailureClass.FUNDS,
        codes=frozenset(
            {
                "insufficient_quota",
                "credit_balance_exhausted",
                "organization_spend_limit_exceeded",
                "project_spend_limit_exceeded",
                "organization_usage_limit_exceeded",
            }
        ),
    ),
    Rule(
        "openai.rate_limit_code",
        FailureClass.RATE_LIMIT,
        codes=frozenset({"rate_limit_exceeded", "slow_down"}),
    ),
    Rule(
        "openai.auth",
        FailureClass.AUTH,
        codes=frozenset({"invalid_api_key", "unsupported_country_region_territory", "ip_not_authorized"}),
    ),
    Rule("openai.model_missing", FailureClass.MODEL_MISSING, codes=frozenset({"model_not_found"})),
    Rule("openai.too_long", FailureClass.TOO_LONG, codes=frozenset({"context_length_exceeded"})),
    Rule(
        "openai.policy",
        FailureClass.POLICY,
        codes=frozenset({"content_policy_violation", "invalid_prompt"}),
    ),
    Rule("openai.overload", FailureClass.OVERLOAD, codes=frozenset({"server_error", "server_is_overloaded"})),
    Rule("openai.funds_type", FailureClass.FUNDS, types=frozenset({"insufficient_quota"})),
    Rule(
        "openai.rate_limit_type",
        FailureClass.RATE_LIMIT,
        types=frozenset({"requests", "tokens", "rate_limit_error"}),
    ),
    # Embeddings say it in words only.
    Rule(
        "openai.too_long_text",
        FailureClass.TOO_LONG,
        statuses=frozenset({400}),
        phrases=("maximum context length",),
        signal="context_length_exceeded",
    ),
)


def read_facts(status: int, headers: Mapping[str, str], error: object) -> ErrorFacts:
    """What an `error` says. Never raises, whatever it holds."""
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        return ErrorFacts(status, headers=headers)
    code = error.get("code")
    return ErrorFacts(
        status=status,
        message=text_of(error.get("message")),
        codes=(code,) if isinstance(code, str) and code else (),
        type=text_of(error.get("type")),
        param=text_of(error.get("param")) or None,
        stated=code if isinstance(code, int) and 400 <= code < 600 else None,
        headers=headers,
    )


FAILURES = FailureTable(read_facts, RULES)
