"""Every way an attempt can fail, as one of twelve classes that decide what happens next.

FailureClass (providers' statuses, 200 bodies and in-stream errors all end in one of these)
├── NETWORK, OVERLOAD, TIMEOUT   the route is down: another route may answer
├── RATE_LIMIT                   the route wants less: another route may answer
├── AUTH, SCOPE, FUNDS           the credential does not work, for this model or at all
├── MODEL_MISSING                this route does not have the model
├── REQUEST, TOO_LONG, POLICY    the request itself: no route would answer
└── BAD_OUTPUT                   the model produced something unusable and was paid for it
"""

from dataclasses import dataclass
from enum import StrEnum


class FailureClass(StrEnum):
    NETWORK = "network"
    OVERLOAD = "overload"
    TIMEOUT = "timeout"
    RATE_LIMIT = "rate_limit"
    AUTH = "auth"
    SCOPE = "scope"
    FUNDS = "funds"
    MODEL_MISSING = "model_missing"
    REQUEST = "request"
    TOO_LONG = "too_long"
    POLICY = "policy"
    BAD_OUTPUT = "bad_output"


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt, as the classifier saw it.

    `signal` names the evidence in a stable word ("429 insufficient_quota", "no first content in 12 s").
    `message` is the provider's own text, cut and scrubbed, or ours; "" if there is none.
    `status` is the HTTP status, None if no head arrived. `retry_after_ms` is the wait the provider stated.
    `unbilled` is true only where the provider is known not to bill this failure (an error status before
    content, except 408, 504 and 524; or nothing was written to the socket).
    `spares_credential` is true for a FUNDS failure that a smaller call may pass ("can only afford N").
    `param` and `provider_code` are the provider's own, for the caller's error envelope.
    """

    cls: FailureClass
    signal: str
    message: str = ""
    status: int | None = None
    retry_after_ms: int | None = None
    unbilled: bool = False
    spares_credential: bool = False
    param: str | None = None
    provider_code: str | None = None


class UpstreamError(Exception):
    """An exchange that broke below HTTP's meaning. Raised by the upstream port.

    `sent` is true once a byte of the request may have reached the peer; `received` once a byte of the
    answer's head did. `timeout` tells a passed deadline from a broken connection.
    """

    def __init__(self, signal: str, *, sent: bool, received: bool, timeout: bool = False) -> None:
        super().__init__(signal)
        self.signal = signal
        self.sent = sent
        self.received = received
        self.timeout = timeout
