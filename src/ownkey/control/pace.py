"""How often keys may be tested, so that Test is no oracle for stolen ones.

Counters live in memory: a restart forgives, which an attacker without access to the machine cannot cause.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.phrases import Phrase, together

MINUTE_MS = 60_000
DAY_MS = 86_400_000
MAX_TRACKED = 50_000

Attempt = Literal["test", "save"]
"""What somebody tries a key with. A Save asks the provider as a Test does, so both count alike."""


@dataclass(frozen=True, slots=True)
class PaceLimits:
    """Per workspace and minute, per workspace and day, different keys per workspace and day, per address and
    minute (shared by all workspaces)."""

    per_minute: int = 5
    per_day: int = 30
    keys_per_day: int = 10
    address_per_minute: int = 20


@dataclass(slots=True)
class _Past:
    at_ms: deque[int] = field(default_factory=deque)
    keys: dict[bytes, int] = field(default_factory=dict)


class KeyTestPace:
    """Counts tests and saves (a save tests too). Bounded: the oldest entries make room."""

    def __init__(self, limits: PaceLimits = PaceLimits()) -> None:
        self._limits = limits
        self._workspaces: dict[str, _Past] = {}
        self._addresses: dict[str, deque[int]] = {}

    def admit(
        self, workspace_id: str, fingerprint: bytes, address: str, now_ms: int, attempt: Attempt = "test"
    ) -> None:
        """Counts one test. Raises Problem(TOO_MANY_TESTS) with the wait, in words of the `attempt` that was refused,
        and then counts nothing.

        `address` "": not known (the host's own request), and then not counted by address.
        """
        limits, here = self._limits, Phrase("here")
        past = self._workspaces.pop(workspace_id, None) or _Past()
        self._workspaces[workspace_id] = past
        times = self._addresses.pop(address, None) or deque()
        self._addresses[address] = times
        _forget(past.at_ms, now_ms - DAY_MS)
        _forget(times, now_ms - MINUTE_MS)
        for key in [key for key, last in past.keys.items() if last <= now_ms - DAY_MS]:
            del past.keys[key]

        recent = [at for at in past.at_ms if at > now_ms - MINUTE_MS]
        if len(recent) >= limits.per_minute:
            wait_ms = recent[-limits.per_minute] + MINUTE_MS - now_ms
            raise _too_many(attempt, here, Phrase("{count} a minute", count=limits.per_minute), wait_ms)
        if len(past.at_ms) >= limits.per_day:
            wait_ms = past.at_ms[-limits.per_day] + DAY_MS - now_ms
            raise _too_many(attempt, here, Phrase("{count} a day", count=limits.per_day), wait_ms)
        if fingerprint not in past.keys and len(past.keys) >= limits.keys_per_day:
            wait_ms = min(past.keys.values()) + DAY_MS - now_ms
            raise _too_many(
                attempt, here, Phrase("{count} different keys a day", count=limits.keys_per_day), wait_ms, known=True
            )
        if address and len(times) >= limits.address_per_minute:
            wait_ms = times[0] + MINUTE_MS - now_ms
            raise _too_many(
                attempt, Phrase("from your address"),
                Phrase("{count} a minute", count=limits.address_per_minute), wait_ms,
            )

        past.at_ms.append(now_ms)
        past.keys[fingerprint] = now_ms
        if address:
            times.append(now_ms)
        else:
            del self._addresses[address]
        self._shrink()

    def _shrink(self) -> None:
        for table in (self._workspaces, self._addresses):
            while len(table) > MAX_TRACKED:
                del table[next(iter(table))]


def _forget(times: deque[int], until_ms: int) -> None:
    while times and times[0] <= until_ms:
        times.popleft()


def _too_many(attempt: Attempt, where: str, limit: str, wait_ms: int, *, known: bool = False) -> Problem:
    """`known`: the limit is one of different keys, so those that were tried already may be tried meanwhile."""
    seconds = max(1, -(-wait_ms // 1_000))
    told = Phrase("Too many Tests {where}: the limit is {limit}.", where=where, limit=limit)
    fix = Phrase("Wait {wait}, then test again; a saved key stays in service.", wait=_words(seconds))
    if attempt == "save":
        told = Phrase(
            "Too many Tests and Saves {where}: a Save tests the key too, and the limit is {limit}.", where=where,
            limit=limit,
        )
        fix = Phrase(
            "Wait {wait}, then save again; nothing was saved now, and a key that was saved before stays in service.",
            wait=_words(seconds),
        )
    others = Phrase("A key that was tested within the last day counts as no other one.") if known else ""
    return Problem(ProblemCode.TOO_MANY_TESTS, told, together(fix, others), retry_after_s=seconds)


def _words(seconds: int) -> str:
    if seconds < 120:
        return Phrase("1 second") if seconds == 1 else Phrase("{count} seconds", count=seconds)
    if seconds < 7_200:
        return Phrase("{count} minutes", count=-(-seconds // 60))
    return Phrase("{count} hours", count=-(-seconds // 3_600))
