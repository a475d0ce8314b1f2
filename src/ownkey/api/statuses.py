"""The doors' table from a refusal's code to its HTTP status.

402, not 429, for caps and credits: the official SDKs retry 429 by themselves.
"""

from collections.abc import Mapping

from ownkey.domain.refusals import Code

STATUSES: Mapping[Code, int] = {
    Code.INVALID_TOKEN: 401,
    Code.FORBIDDEN: 403,
    Code.FEATURE_DISABLED: 403,
    Code.OPENROUTER_KEY_REQUIRED: 402,
    Code.ALWAYS_USE_KEY_UNAVAILABLE: 402,
    Code.ADDON_REQUIRED: 402,
    Code.ADDON_INACTIVE: 402,
    Code.MINIMUM_BALANCE_REQUIRED: 402,
    Code.INSUFFICIENT_CREDITS: 402,
    Code.AI_PAUSED: 402,
    Code.SPEND_CAP_TOO_LOW: 402,
    Code.SPEND_CAP_BUSY: 429,
    Code.CREDENTIAL_REJECTED: 502,
    Code.CREDENTIAL_OUT_OF_FUNDS: 502,
    Code.PROVIDER_UNAVAILABLE: 503,
    Code.UNPRICED_MODEL: 400,
    Code.UNKNOWN_MODEL: 404,
    Code.UNKNOWN_TASK: 400,
    Code.UNKNOWN_GENERATION: 404,
    Code.UNKNOWN_ENDPOINT: 404,
    Code.BAD_REQUEST: 400,
    Code.CONTEXT_TOO_LONG: 400,
    Code.CONTENT_REFUSED: 400,
    Code.BODY_TOO_LARGE: 413,
    Code.INTERNAL: 500,
}
