"""How often keys may be tested, so that Test is no oracle for stolen ones.

Counters live in memory: a restart forgives, which an attacker without access to the machine cannot cause.
"""

from collections import deque
from dataclasses import dataclass, field

from ownkey.control.problems import Problem, ProblemCode

MINUTE_MS = 60_000
DAY_MS = 86_400_000
MAX_TRACKED = 50_000


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

    def admit(self, workspace_id: str, fingerprint: bytes, address: str, now_ms: int) -> None:
        """Counts one test. Raises Problem(TOO_MANY_TESTS) with the wait, and then counts nothing.

        `address` "": not known (the host's own request), and then not counted by address.
        """
        limits = self._limits
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
            raise _too_many(f"{limits.per_minute} a minute", recent[-limits.per_minute] + MINUTE_MS - now_ms)
        if len(past.at_ms) >= limits.per_day:
            raise _too_many(f"{limits.per_day} a day", past.at_ms[-limits.per_day] + DAY_MS - now_ms)
        if fingerprint not in past.keys and len(past.keys) >= limits.keys_per_day:
            raise _too_many(f"{limits.keys_per_day} different keys a day",
                            min(past.keys.values()) + DAY_MS - now_ms)
        if address and len(times) >= limits.address_per_minute:
            raise _too_many(f"{limits.address_per_minute} a minute from one address", times[0] + MINUTE_MS - now_ms)

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


def _too_many(limit: str, wait_ms: int) -> Problem:
    seconds = max(1, -(-wait_ms // 1_000))
    return Problem(
        ProblemCode.TOO_MANY_TESTS, f"Too many keys were tested here: the limit is {limit}.",
        f"Wait {_words(seconds)} and test again; the saved key goes on working.", retry_after_s=seconds,
    )


def _words(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} second{'' if seconds == 1 else 's'}"
    return f"{-(-seconds // 60)} minutes" if seconds < 7_200 else f"{-(-seconds // 3_600)} hours"
