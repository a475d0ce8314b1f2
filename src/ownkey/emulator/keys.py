"""The credentials the emulated providers know, and what each may do."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import Literal, get_args

Kind = Literal["valid", "revoked", "restricted", "management", "limited", "expiring", "no_balance"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(slots=True, eq=False)
class Key:
    """One credential. Amounts are nano-USD; None means without limit."""

    provider: str
    key: str
    kind: str = "valid"
    balance_nusd: int | None = None
    limit_nusd: int | None = None
    limit_reset: str | None = None
    models: tuple[str, ...] | None = None
    denied: tuple[str, ...] = ()
    rate_limit_per_minute: int | None = None
    expires_at: float | None = None
    label: str = ""
    used_nusd: int = 0
    byok_used_nusd: int = 0
    cached: set[str] = field(default_factory=set)
    sha256: str = ""
    last4: str = ""
    plain: bool = True
    _calls: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.sha256 = sha256(self.key.encode()).hexdigest()
        self.last4 = self.key[-4:]
        if self.kind == "no_balance" and self.balance_nusd is None:
            self.balance_nusd = 0
        if self.kind == "restricted" and self.models is None and not self.denied:
            self.denied = ("models",)
        self.plain = self.kind == "valid" and (
            self.balance_nusd is None
            and self.limit_nusd is None
            and self.models is None
            and not self.denied
            and self.rate_limit_per_minute is None
            and self.expires_at is None
        )

    @property
    def remaining_nusd(self) -> int | None:
        """What is left of the key's own limit."""
        return None if self.limit_nusd is None else max(0, self.limit_nusd - self.used_nusd)

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and time.time() >= self.expires_at

    def wait_s(self) -> float | None:
        """Count one call. Returns the seconds to wait if the key called too often within the last minute."""
        if self.rate_limit_per_minute is None:
            return None
        now = time.monotonic()
        while self._calls and self._calls[0] <= now - 60:
            self._calls.popleft()
        if len(self._calls) >= self.rate_limit_per_minute:
            return self._calls[0] + 60 - now if self._calls else 60.0
        self._calls.append(now)
        return None

    def may_use(self, *names: str) -> bool:
        """True if a model known under any of `names` is allowed."""
        return self.models is None or any(name in self.models for name in names)


_KEPT = frozenset({"used_nusd", "byok_used_nusd"})


class Keyring:
    """All keys, by provider and text."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], Key] = {}

    def add(self, key: Key) -> None:
        """Add a key, or change what a known one may do: what it has used stays, and what calls in flight will cost is
        still its own."""
        known = self._keys.setdefault((key.provider, key.key), key)
        if known is not key:
            for made in fields(Key):
                if made.name not in _KEPT:
                    setattr(known, made.name, getattr(key, made.name))

    def remove(self, provider: str, text: str) -> bool:
        return self._keys.pop((provider, text), None) is not None

    def find(self, provider: str, text: str) -> Key | None:
        return self._keys.get((provider, text))

    def clear(self) -> None:
        self._keys.clear()

    def __iter__(self) -> Iterator[Key]:
        return iter(list(self._keys.values()))
