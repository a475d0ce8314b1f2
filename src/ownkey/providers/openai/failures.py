"""OpenAI's failures as rules: stable codes first, then types, messages and statuses.

Sources: developers.openai.com, "Error codes"; the error codes of the official SDK (openai 3.54); recorded answers,
among them the end of a Responses stream for want of funds. The same table judges statuses and the errors of streams.
"""

from collections.abc import Mapping

from ownkey.domain.failures import FailureClass
from ownkey.providers.classify import ErrorFacts, Evidence, FailureTable, Rule, text_of

RULES = (
    # Seen as the end of a 200 stream of /responses; as a 429 it is only documented.
    Rule(
        "openai.insufficient_quota",
        FailureClass.FUNDS,
        codes=frozenset({"insufficient_quota"}),
        evidence=Evidence.RECORDED,
    ),
    Rule(
        "openai.funds_code",
        FailureClass.FUNDS,
        codes=frozenset(
            {
                "credit_balance_exhausted",
                "organization_spend_limit_exceeded",
                "project_spend_limit_exceeded",
                "organization_usage_limit_exceeded",
                "billing_hard_limit_reached",
                "billing_not_active",
            }
        ),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "openai.rate_limit_code",
        FailureClass.RATE_LIMIT,
        codes=frozenset({"rate_limit_exceeded", "slow_down"}),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "openai.invalid_key", FailureClass.AUTH, codes=frozenset({"invalid_api_key"}), evidence=Evidence.RECORDED
    ),
    Rule(
        "openai.auth_code",
        FailureClass.AUTH,
        codes=frozenset({"unsupported_country_region_territory", "ip_not_authorized", "account_deactivated"}),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "openai.model_missing",
        FailureClass.MODEL_MISSING,
        codes=frozenset({"model_not_found"}),
        evidence=Evidence.RECORDED,
    ),
    Rule(
        "openai.too_long",
        FailureClass.TOO_LONG,
        codes=frozenset({"context_length_exceeded"}),
        evidence=Evidence.REPORTED,
    ),
    Rule(
        "openai.policy",
        FailureClass.POLICY,
        codes=frozenset(
            {
                "content_policy_violation",
                "invalid_prompt",
                "image_content_policy_violation",
                "bio_policy",
                "misalignment_policy_violation",
            }
        ),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "openai.overload",
        FailureClass.OVERLOAD,
        codes=frozenset({"server_error", "server_is_overloaded", "vector_store_timeout"}),
        evidence=Evidence.SDK,
    ),
    # What a Responses answer says of the request once the head has gone out with 200.
    Rule(
        "openai.input",
        FailureClass.REQUEST,
        codes=frozenset(
            {
                "data_residency_mismatch",
                "invalid_image",
                "invalid_image_format",
                "invalid_base64_image",
                "invalid_image_url",
                "invalid_image_mode",
                "image_too_large",
                "image_too_small",
                "image_parse_error",
                "image_file_too_large",
                "image_file_not_found",
                "unsupported_image_media_type",
                "empty_image_file",
                "failed_to_download_image",
            }
        ),
        evidence=Evidence.SDK,
    ),
    Rule(
        "openai.funds_type",
        FailureClass.FUNDS,
        types=frozenset({"insufficient_quota", "billing_not_active"}),
        evidence=Evidence.DOCUMENTED,
    ),
    Rule(
        "openai.rate_limit_type",
        FailureClass.RATE_LIMIT,
        types=frozenset({"requests", "tokens", "rate_limit_error"}),
        evidence=Evidence.DOCUMENTED,
    ),
    # A restricted key answers 401 with no code of its own; only the sentence tells it from a wrong key.
    Rule(
        "openai.missing_scopes",
        FailureClass.SCOPE,
        statuses=frozenset({401, 403}),
        phrases=("missing scopes",),
        signal="missing_scopes",
        evidence=Evidence.REPORTED,
    ),
    # Embeddings say it in words only.
    Rule(
        "openai.too_long_text",
        FailureClass.TOO_LONG,
        statuses=frozenset({400}),
        phrases=("maximum context length",),
        signal="context_length_exceeded",
        evidence=Evidence.REPORTED,
    ),
)


def read_facts(status: int, headers: Mapping[str, str], error: object) -> ErrorFacts:
    """What an `error` says. Never raises, whatever it holds."""
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        return ErrorFacts(status, headers=headers)
    code, kind = error.get("code"), text_of(error.get("type"))
    return ErrorFacts(
        status=status,
        message=text_of(error.get("message")) or text_of(error.get("detail")),
        codes=(code,) if isinstance(code, str) and code else (),
        type="" if kind == "error" else kind,  # An event's own name, where it is the error itself.
        param=text_of(error.get("param")) or None,
        stated=code if isinstance(code, int) and 400 <= code < 600 else None,
        headers=headers,
    )


FAILURES = FailureTable(read_facts, RULES)
