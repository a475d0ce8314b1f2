"""Every refusal: one code, one sentence, one fix.

The doors hold the table from code to HTTP status; a test demands that it names every code here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ownkey.domain.phrases import Phrase

KEY_STATE: Final = "key"
"""The name in a refusal's details that tells the state of the OpenRouter key: a `routing.KeyState`."""


class Code(StrEnum):
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - a code, not a token
    FORBIDDEN = "forbidden"
    FEATURE_DISABLED = "feature_disabled"
    OPENROUTER_KEY_REQUIRED = "openrouter_key_required"
    ALWAYS_USE_KEY_UNAVAILABLE = "always_use_key_unavailable"
    ADDON_REQUIRED = "addon_required"
    ADDON_INACTIVE = "addon_inactive"
    MINIMUM_BALANCE_REQUIRED = "minimum_balance_required"
    INSUFFICIENT_CREDITS = "insufficient_credits"
    AI_PAUSED = "ai_paused"
    SPEND_CAP_TOO_LOW = "spend_cap_too_low"
    SPEND_CAP_BUSY = "spend_cap_busy"
    CREDENTIAL_REJECTED = "credential_rejected"
    CREDENTIAL_OUT_OF_FUNDS = "credential_out_of_funds"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    UNPRICED_MODEL = "unpriced_model"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_TASK = "unknown_task"
    UNKNOWN_GENERATION = "unknown_generation"
    UNKNOWN_ENDPOINT = "unknown_endpoint"
    BAD_REQUEST = "bad_request"
    CONTEXT_TOO_LONG = "context_too_long"
    CONTENT_REFUSED = "content_refused"
    BODY_TOO_LARGE = "body_too_large"
    INTERNAL = "internal_error"


@dataclass(frozen=True, slots=True)
class Refusal:
    """`message` is the sentence; `fix` what to do, in words; `flow` the page that fixes it (portal deep link).

    `status` overrides the door's table where the provider's own 4xx is passed on. `details` are figures for the
    envelope (JSON values; amounts as decimal strings).
    """

    code: Code
    message: str
    fix: str
    flow: str = ""
    status: int | None = None
    param: str | None = None
    retry_after_s: int | None = None
    resets_at: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)


class Refused(Exception):
    """Raised by use cases; doors turn it into the caller's envelope."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


_ROUTING: Mapping[Code, tuple[str, str, str]] = {
    Code.OPENROUTER_KEY_REQUIRED: (
        Phrase("No AI feature works without an OpenRouter API key, and this workspace has no usable one."),
        Phrase(
            "Add an OpenRouter API key in the AI settings (at OpenRouter: Keys, Create key; then paste, Test, Save)."
        ),
        "credential:openrouter",
    ),
    Code.ALWAYS_USE_KEY_UNAVAILABLE: (
        Phrase(
            "Always use this key is on, and the OpenRouter key is missing, disabled or cannot be opened; credits are "
            "never used instead."
        ),
        Phrase("Connect or enable the OpenRouter key, or switch Always use this key off."),
        "credential:openrouter",
    ),
    Code.ADDON_REQUIRED: (
        Phrase("OpenRouter is not enabled for this workspace's plan."),
        Phrase(
            "Subscribe to the OpenRouter add-on under Plans & Pricing, or move to a plan that includes it."
        ),
        "addon",
    ),
    Code.ADDON_INACTIVE: (
        Phrase("The OpenRouter add-on is not paid; the saved key is kept and works again after payment."),
        Phrase("Renew the add-on under Plans & Pricing."),
        "addon",
    ),
    Code.MINIMUM_BALANCE_REQUIRED: (
        Phrase("The credit balance is below the minimum that calls with your own key need on this plan."),
        Phrase("Add credits; none of them is used by calls with your own key."),
        "credits",
    ),
    Code.INSUFFICIENT_CREDITS: (
        Phrase("Credits pay for this call, and there are not enough of them."),
        Phrase("Add credits, or connect your own OpenRouter key."),
        "credits",
    ),
    Code.AI_PAUSED: (
        Phrase("AI is paused: this month's spend cap is reached."),
        Phrase("Raise the spend cap, or wait until it resets."),
        "cap",
    ),
}


def refusal_for(code: Code, **fields: object) -> Refusal:
    """The standard refusal for a code that the payer decision can give."""
    message, fix, flow = _ROUTING[code]
    return Refusal(code, message, fix, flow, **fields)  # type: ignore[arg-type]
