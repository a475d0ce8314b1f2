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
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo


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
    `resets_at_ms` is when a FUNDS failure ends by itself, in Unix time, where the provider says so;
    `resets_daily` the zone whose next midnight ends it, where the provider's quota is one of a day.
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
    resets_at_ms: int | None = None
    resets_daily: str | None = None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def find_reset_ms(failure: Failure, at_ms: int) -> int | None:
    """When a failure that was seen at `at_ms` ends by itself, in Unix milliseconds; None if nobody said so.

    A time that is over says nothing.
    """
    if failure.resets_at_ms is not None:
        return failure.resets_at_ms if failure.resets_at_ms > at_ms else None
    return None if failure.resets_daily is None else next_midnight_ms(at_ms, failure.resets_daily)


def next_midnight_ms(at_ms: int, zone: str) -> int:
    """The first midnight after `at_ms` on the clocks of an IANA zone, in Unix milliseconds."""
    local = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(ZoneInfo(zone))
    midnight = datetime.combine(local.date() + timedelta(days=1), time(), ZoneInfo(zone))
    return (midnight.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)


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
