"""Costs that were lost with an answer: which attempts have one, and when OpenRouter is asked for it.

OpenRouter keeps a record of every generation with what it cost (OpenRouter docs, "Get a generation"). A stream that
was cut, or that nobody read to its end, is booked with an estimate first and corrected from that record, once.
"""

import re
from dataclasses import dataclass

from ownkey.domain.receipts import AttemptRecord, Basis, HoldState

ORIGIN = "openrouter_generation"
"""What a correction from such a record is called on receipts and in the books."""

WAITS_S = (10, 60, 600, 3_600, 3 * 3_600, 6 * 3_600, 12 * 3_600)
"""The wait before each try. The record of a generation may not be there at first."""

LIFETIME_MS = 24 * 3_600_000
"""How long after its end an attempt's cost is asked for."""

KEY_GONE = "the key that paid is not stored any more"

_GENERATION = re.compile(r"gen-[A-Za-z0-9_.:\-]{1,180}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class LateCost:
    """One lost cost. `owner_id` is the workspace whose credential sent the attempt (the platform's for credits);
    `tries` is how often it was asked for; `created_at_ms` the attempt's end."""

    hold_id: str
    workspace_id: str
    call_id: str
    generation_id: str
    owner_id: str
    credential_id: str
    credential_version: int
    tries: int
    created_at_ms: int


def lost_generation(attempt: AttemptRecord) -> str | None:
    """The generation of which OpenRouter may know the cost better than the books do; None if there is none."""
    if attempt.provider != "openrouter" or attempt.state is not HoldState.SETTLED or not attempt.maybe_billed:
        return None
    if attempt.basis not in (Basis.ESTIMATED, Basis.UNKNOWN):
        return None
    known = (name for name in (attempt.request_id, attempt.response_id) if name and _GENERATION.match(name))
    return next(known, None)


def first_try_ms(ended_at_ms: int) -> int:
    return ended_at_ms + WAITS_S[0] * 1_000


def next_try_ms(late: LateCost, now_ms: int, stated_wait_ms: int | None) -> int | None:
    """When to ask again after a try that failed now, not before the wait that OpenRouter stated; None: give up."""
    if late.tries + 1 >= len(WAITS_S):
        return None
    at_ms = now_ms + max(WAITS_S[late.tries + 1] * 1_000, stated_wait_ms or 0)
    return at_ms if at_ms <= late.created_at_ms + LIFETIME_MS else None


def give_up_note(reason: str) -> str:
    """What the receipt says of a cost that nobody can tell any more."""
    return f"The cost stays an estimate: {reason}."
