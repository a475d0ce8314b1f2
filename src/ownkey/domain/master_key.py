"""Which master keys a deployment knows, which process has loaded which of them, and how much hangs on each.

A master key is told by its id and by a fingerprint: 8 bytes that only its own 32 bytes give, and that say nothing of
them. The same id with another fingerprint is another key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LIVE_MS: Final = 60_000
"""A process that has been silent for longer does not count."""

BEAT_MS: Final = 15_000
LEAVING_MS: Final = 600_000
"""How long a process can still open with a key that has left the keyset: calls that were admitted before end first."""

AUDIT_KEY: Final = "audit.key"
"""The place of the one data key that lies in a file of its own."""


UNREADABLE: Final = "?"
"""Stands for the master key that the audit key hangs on where nobody can tell: no id looks like this."""


@dataclass(frozen=True, slots=True)
class LoadedKey:
    """A master key that a process has in memory. `fingerprint` is 16 hexadecimal digits."""

    kek_id: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class KeyProcess:
    """A running process and its keyset, primary first. `problem` says why it has refused a newer one, "" if it has
    not. Times are Unix milliseconds."""

    boot_id: str
    host: str
    pid: int
    started_at_ms: int
    beat_at_ms: int
    keys: Sequence[LoadedKey]
    problem: str = ""

    @property
    def primary(self) -> LoadedKey:
        return self.keys[0]

    @property
    def name(self) -> str:
        return f"{self.host}:{self.pid}"

    def has(self, key: LoadedKey) -> bool:
        return key in self.keys


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A master key as the deployment remembers it. `is_primary`: the last one that a process has made its first."""

    kek_id: str
    fingerprint: str
    first_seen_ms: int
    retired_at_ms: int | None
    is_primary: bool


@dataclass(frozen=True, slots=True)
class SecretPlace:
    """A sealed value that is no credential: an operator's seed. `what` names it for people."""

    what: str
    purpose: str
