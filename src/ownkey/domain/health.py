"""What a credential's health becomes when something is learnt about it: one pure table, and when to ask again.

A rejection in traffic is a suspicion only, since outages have answered 401; a free probe makes it a fact, and only a
fact opens an incident. An account without money is a fact at once.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal, assert_never
from zlib import crc32

from ownkey.domain.workspace import Credential, Health

CONFIRM_WITHIN_MS = 20_000
"""A suspicion that nobody has confirmed by then (its process died) is the job's to probe."""
PROBE_SOON_MS = 5_000
REPROBE_AUTH_MS = 5 * 60_000
REPROBE_FUNDS_MS = 15 * 60_000
LONGEST_WAIT_MS = 6 * 3_600_000
LONGEST_STATED_MS = 24 * 3_600_000
LONGEST_RESET_MS = 32 * 24 * 3_600_000

KEY_LIMIT = "the key's own limit is used up"
"""The one lack of funds that a free probe can see, and see the end of."""


class Sign(StrEnum):
    """What was learnt.

    `ANSWERED`: a call was answered, so the key is real and has money. `ACCEPTED`: a free probe passed, which says
    nothing about money. `REFUSED`: a call was refused for the key's sake, unconfirmed. `REJECTED`: a probe or a Test
    was refused. `NO_FUNDS`: the account or the key's limit is empty. `UNCLEAR`: a probe came back without a verdict.
    """

    ANSWERED = "answered"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    REJECTED = "rejected"
    NO_FUNDS = "no_funds"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing learnt about one version of a credential.

    `planned` is the credential as the call knew it that brought this; None: somebody asked on purpose (a probe, a
    Test). `scheduled`: the probe whose time had come; only that one counts, so that who Tests often waits no longer.
    `resets_at_ms` is when the lack of funds ends by itself, `wait_ms` how long the provider asks to be left
    alone. `free`: a free probe can see the end of it, so that nothing is lost by asking before the stated reset.
    `expires_at_ms` is the key's own end, where the provider tells it.
    """

    sign: Sign
    signal: str
    at_ms: int
    planned: Credential | None = None
    scheduled: bool = False
    resets_at_ms: int | None = None
    wait_ms: int | None = None
    free: bool = False
    expires_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The credential's health from now on. `since_ms`: since when it is so. `incident` is opened (where none is open)
    or closed (where one is)."""

    health: Health
    signal: str
    since_ms: int
    next_probe_ms: int
    probe_failures: int
    incident: Literal["open", "close"] | None = None


def is_unhealthy(credential: Credential) -> bool:
    """Skipped by calls."""
    return credential.health in (Health.REJECTED, Health.NO_FUNDS)


def is_confirmed(credential: Credential) -> bool:
    """Whether an unhealthy credential is known to be so, or only suspected."""
    return credential.health is Health.NO_FUNDS or (
        credential.health is Health.REJECTED and credential.probe_failures > 0
    )


def judge(credential: Credential, evidence: Evidence) -> Judgement | None:
    """The new health; None: nothing changes. `credential` is the row as it is now, of the version that was seen."""
    match evidence.sign:
        case Sign.ANSWERED:
            return _recovered(credential, evidence)
        case Sign.ACCEPTED:
            return None if credential.health is Health.NO_FUNDS else _recovered(credential, evidence)
        case Sign.REFUSED:
            if is_unhealthy(credential):
                return None
            return Judgement(
                Health.REJECTED, evidence.signal, evidence.at_ms, evidence.at_ms + CONFIRM_WITHIN_MS, 0
            )
        case Sign.REJECTED:
            return _rejected(credential, evidence)
        case Sign.NO_FUNDS:
            return _out_of_funds(credential, evidence)
        case Sign.UNCLEAR:
            return _unclear(credential, evidence)
        case _:
            assert_never(evidence.sign)


def _recovered(credential: Credential, evidence: Evidence) -> Judgement | None:
    if credential.health is Health.OK:
        return None
    if evidence.planned is not None and is_unhealthy(credential) and not is_unhealthy(evidence.planned):
        # The call was sent before the key failed: it says nothing about now.
        return None
    return Judgement(Health.OK, evidence.signal, evidence.at_ms, 0, 0, "close")


def _rejected(credential: Credential, evidence: Evidence) -> Judgement:
    same = credential.health is Health.REJECTED
    failures = max(1, credential.probe_failures + evidence.scheduled) if same else 1
    return Judgement(
        Health.REJECTED, evidence.signal, credential.health_at_ms if same else evidence.at_ms,
        _later(credential, evidence, _doubled(REPROBE_AUTH_MS, failures - 1), failures), failures, "open",
    )


def _out_of_funds(credential: Credential, evidence: Evidence) -> Judgement | None:
    same, planned = credential.health is Health.NO_FUNDS, evidence.planned
    if same and planned is not None and (
        evidence.at_ms < credential.next_probe_ms or planned.next_probe_ms != credential.next_probe_ms
    ):
        # Known; and of the calls that tried it when its time had come, the first one counts.
        return None
    counts = evidence.scheduled or planned is not None
    failures = credential.probe_failures + counts if same else 0
    next_ms = _later(credential, evidence, _doubled(REPROBE_FUNDS_MS, failures), failures)
    if evidence.resets_at_ms is not None and evidence.resets_at_ms > evidence.at_ms:
        reset_ms = min(evidence.resets_at_ms, evidence.at_ms + LONGEST_RESET_MS)
        reset_ms += _spread(60_000 * 10, credential, failures)
        next_ms = min(next_ms, reset_ms) if evidence.free else reset_ms
    return Judgement(
        Health.NO_FUNDS, evidence.signal, credential.health_at_ms if same else evidence.at_ms, next_ms, failures,
        "open",
    )


def _unclear(credential: Credential, evidence: Evidence) -> Judgement | None:
    """Asked again soon while it is a suspicion, each time after twice as long, and after the first step when it is
    known. Only a verdict counts as a failed probe."""
    if not is_unhealthy(credential):
        return None
    step = REPROBE_AUTH_MS
    if not is_confirmed(credential):
        step = min(step, max(PROBE_SOON_MS, evidence.at_ms - credential.health_at_ms))
    return Judgement(
        credential.health, credential.health_signal, credential.health_at_ms,
        _later(credential, evidence, step, credential.probe_failures), credential.probe_failures,
    )


def _doubled(first_ms: int, times: int) -> int:
    return min(LONGEST_WAIT_MS, first_ms << min(times, 16))


def _later(credential: Credential, evidence: Evidence, wait_ms: int, failures: int) -> int:
    """The moment after the wait, or after the longer one that the provider asked for."""
    stated_ms = min(evidence.wait_ms or 0, LONGEST_STATED_MS)
    longer_ms = max(wait_ms, stated_ms)
    return evidence.at_ms + longer_ms + _spread(longer_ms, credential, failures)


def _spread(wait_ms: int, credential: Credential, failures: int) -> int:
    """Up to a tenth of the wait, by the credential's name: keys that failed together are not probed together."""
    return wait_ms * (crc32(f"{credential.id}:{failures}".encode()) % 1_000) // 10_000


def limit_resets_at_ms(period: str | None, at_ms: int) -> int | None:
    """When a key's own limit starts again: OpenRouter's "daily", "weekly", "monthly", in UTC, weeks from Monday."""
    now = datetime.fromtimestamp(at_ms // 1_000, UTC)
    day = now.replace(hour=0, minute=0, second=0)
    match period:
        case "daily":
            then = day + timedelta(days=1)
        case "weekly":
            then = day + timedelta(days=7 - day.weekday())
        case "monthly":
            then = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        case _:
            return None
    return int(then.timestamp()) * 1_000
