"""Remembers, in this process, which routes failed a moment ago; no workspace ever feels another's credential.

A circuit belongs to (workspace, credential and its version, model). It opens after two failures in a row, or one
rate limit, for 5 seconds doubling to 20, or until the stated Retry-After; then one trial call decides. A second kind
belongs to a provider: it opens, for the same times, when at least half of at least 20 attempts within 10 seconds
failed, with keys of at least three customers among them.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from ownkey.domain.failures import Failure, FailureClass

FIRST_OPEN_S = 5.0
LONGEST_OPEN_S = 20.0
MODEL_OFF_S = 3_600.0
TRIAL_EVERY_S = 30.0
LONGEST_STATED_S = 24 * 3_600.0
MAX_CIRCUITS = 50_000
PROVIDER_WINDOW_S = 10
PROVIDER_ATTEMPTS = 20
PROVIDER_CREDENTIALS = 3

Key = tuple[str, str, str]


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    open_until: float = 0.0
    opened_for_s: float = 0.0
    why: str = ""


@dataclass(slots=True)
class _Second:
    """What one provider's attempts came to within one second. `failing` are credentials, only as many as matter."""

    at: int
    attempts: int = 0
    failed: int = 0
    failing: set[str] = field(default_factory=set)


class _ProviderCircuit:
    """One provider seen by all its customers together: opens where many of them fail at once."""

    __slots__ = ("_opened_for_s", "_seconds", "_trial", "open_until")

    def __init__(self) -> None:
        self._seconds: deque[_Second] = deque()
        self._opened_for_s = 0.0
        self._trial = False
        self.open_until = 0.0

    def record(self, failing_credential: str | None, now: float) -> None:
        """One attempt is over; the credential is named where it failed."""
        while self._seconds and self._seconds[0].at < now - PROVIDER_WINDOW_S:
            self._seconds.popleft()
        if not self._seconds or self._seconds[-1].at != int(now):
            self._seconds.append(_Second(int(now)))
        second = self._seconds[-1]
        second.attempts += 1
        if failing_credential is not None:
            second.failed += 1
            if len(second.failing) < PROVIDER_CREDENTIALS:
                second.failing.add(failing_credential)
        if self._trial:
            self._end_trial(failing_credential is None, now)
        elif failing_credential is not None and now >= self.open_until and self._is_down():
            self._open(now)

    def begin(self, now: float) -> None:
        """A call is about to try. After an open time it is the trial, and the others go on skipping meanwhile."""
        if self.open_until and now >= self.open_until:
            self._trial = True
            self.open_until = now + self._opened_for_s

    def _end_trial(self, answered: bool, now: float) -> None:
        self._trial = False
        if answered:
            self._seconds.clear()
            self.open_until = self._opened_for_s = 0.0
        else:
            self._open(now)

    def _open(self, now: float) -> None:
        self._opened_for_s = min(LONGEST_OPEN_S, self._opened_for_s * 2 or FIRST_OPEN_S)
        self.open_until = now + self._opened_for_s

    def _is_down(self) -> bool:
        attempts = sum(second.attempts for second in self._seconds)
        failed = sum(second.failed for second in self._seconds)
        if attempts < PROVIDER_ATTEMPTS or failed * 2 < attempts:
            return False
        return len(set().union(*(second.failing for second in self._seconds))) >= PROVIDER_CREDENTIALS


class Circuits:
    """Times are monotonic seconds. Bounded: the least recently used circuit is forgotten first."""

    def __init__(self, *, per_provider: bool = True) -> None:
        self._per_provider = per_provider
        self._providers: dict[str, _ProviderCircuit] = {}
        self._circuits: OrderedDict[Key, _Circuit] = OrderedDict()
        self._models_off: OrderedDict[Key, tuple[float, str]] = OrderedDict()
        self._trials: OrderedDict[str, float] = OrderedDict()

    def why_skipped(self, key: Key, provider: str, now: float) -> str | None:
        """Why this route is skipped now, as the end of a sentence; None if it may be tried. Changes nothing that
        another call could see."""
        off = self._models_off.get(key)
        if off is not None:
            if now < off[0]:
                return off[1]
            del self._models_off[key]
        circuit = self._circuits.get(key)
        if circuit is not None and now < circuit.open_until:
            return f"circuit open after {circuit.why}, {circuit.open_until - now:.1f} s left"
        everybody = self._providers.get(provider)
        if everybody is not None and now < everybody.open_until:
            return f"{provider} fails for many customers now; circuit open, {everybody.open_until - now:.1f} s left"
        return None

    def begin(self, key: Key, provider: str, unhealthy: bool, now: float) -> None:
        """The route is about to be tried. While an open circuit's trial runs the others go on skipping it, and an
        unhealthy key's next trial waits its turn."""
        circuit = self._circuits.get(key)
        if circuit is not None and circuit.open_until and now >= circuit.open_until:
            circuit.open_until = now + circuit.opened_for_s
        everybody = self._providers.get(provider)
        if everybody is not None:
            everybody.begin(now)
        if unhealthy:
            self.note_trial(key[1], now)

    def note_trial(self, credential_id: str, now: float) -> None:
        """A call has just found out, or is about to, what this key is worth: the next one waits its turn."""
        self._trials[credential_id] = now
        self._trials.move_to_end(credential_id)
        if len(self._trials) > MAX_CIRCUITS:
            self._trials.popitem(last=False)

    def record_success(self, key: Key, provider: str, now: float) -> None:
        self._of_everybody(provider).record(None, now)
        self._circuits.pop(key, None)
        self._models_off.pop(key, None)

    def record_failure(self, key: Key, provider: str, failure: Failure, now: float) -> None:
        """Count a failure of class network, timeout, overload or rate_limit; the last is one customer's own."""
        if self._per_provider and failure.cls is not FailureClass.RATE_LIMIT:
            self._of_everybody(provider).record(key[1], now)
        circuit = self._circuits.get(key)
        if circuit is None:
            circuit = self._circuits[key] = _Circuit()
            if len(self._circuits) > MAX_CIRCUITS:
                self._circuits.popitem(last=False)
        self._circuits.move_to_end(key)
        circuit.failures += 1
        circuit.why = failure.signal
        if failure.cls is FailureClass.RATE_LIMIT or circuit.failures >= 2:
            circuit.opened_for_s = min(LONGEST_OPEN_S, circuit.opened_for_s * 2 or FIRST_OPEN_S)
            stated = 0.0 if failure.retry_after_ms is None else failure.retry_after_ms / 1000
            circuit.open_until = now + max(circuit.opened_for_s, min(stated, LONGEST_STATED_S))

    def switch_model_off(self, key: Key, signal: str, now: float) -> None:
        """This credential does not serve this model: skip it for an hour."""
        self._models_off[key] = (now + MODEL_OFF_S, f"this key does not serve the model ({signal})")
        if len(self._models_off) > MAX_CIRCUITS:
            self._models_off.popitem(last=False)

    def _of_everybody(self, provider: str) -> _ProviderCircuit:
        circuit = self._providers.get(provider)
        if circuit is None:
            circuit = self._providers[provider] = _ProviderCircuit()
        return circuit

    def may_try_unhealthy(self, credential_id: str, now: float) -> bool:
        """One call per 30 s is let through on an unhealthy key that has no substitute."""
        last = self._trials.get(credential_id)
        return last is None or now - last >= TRIAL_EVERY_S

    def providers_down(self, now: float) -> dict[str, float]:
        """Providers that are left out for everybody now, with the seconds that are left."""
        return {name: c.open_until - now for name, c in self._providers.items() if c.open_until > now}

    def routes_down(self, now: float) -> int:
        """How many single routes (a credential's model) are left out now."""
        return sum(1 for circuit in self._circuits.values() if circuit.open_until > now)

    def shortest_wait_s(self, keys: tuple[Key, ...], now: float) -> float | None:
        """The shortest remaining wait among these routes; None if none is open."""
        waits = [c.open_until - now for c in map(self._circuits.get, keys) if c is not None and c.open_until > now]
        return min(waits) if waits else None
