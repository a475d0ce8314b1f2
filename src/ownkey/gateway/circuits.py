"""Remembers, in this process, which routes failed a moment ago; no workspace ever feels another's credential.

A circuit belongs to (workspace, credential and its version, model). It opens after two failures in a row, or one
rate limit, for 5 seconds doubling to 20, or until the stated Retry-After; then one trial call decides.
"""

from collections import OrderedDict
from dataclasses import dataclass

from ownkey.domain.failures import Failure, FailureClass

FIRST_OPEN_S = 5.0
LONGEST_OPEN_S = 20.0
MODEL_OFF_S = 3_600.0
TRIAL_EVERY_S = 30.0
LONGEST_STATED_S = 24 * 3_600.0
MAX_CIRCUITS = 50_000

Key = tuple[str, str, str]


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    open_until: float = 0.0
    opened_for_s: float = 0.0
    why: str = ""


class Circuits:
    """Times are monotonic seconds. Bounded: the least recently used circuit is forgotten first."""

    def __init__(self) -> None:
        self._circuits: OrderedDict[Key, _Circuit] = OrderedDict()
        self._models_off: OrderedDict[Key, tuple[float, str]] = OrderedDict()
        self._trials: OrderedDict[str, float] = OrderedDict()

    def why_skipped(self, key: Key, now: float) -> str | None:
        """Why this route is skipped now, as the end of a sentence; None if it may be tried. Changes nothing that
        another call could see."""
        off = self._models_off.get(key)
        if off is not None:
            if now < off[0]:
                return off[1]
            del self._models_off[key]
        circuit = self._circuits.get(key)
        if circuit is None or circuit.open_until == 0.0:
            return None
        if now < circuit.open_until:
            return f"circuit open after {circuit.why}, {circuit.open_until - now:.1f} s left"
        return None

    def begin(self, key: Key, unhealthy: bool, now: float) -> None:
        """The route is about to be tried. While an open circuit's trial runs the others go on skipping it, and an
        unhealthy key's next trial waits its turn."""
        circuit = self._circuits.get(key)
        if circuit is not None and circuit.open_until and now >= circuit.open_until:
            circuit.open_until = now + circuit.opened_for_s
        if unhealthy:
            self._trials[key[1]] = now
            self._trials.move_to_end(key[1])
            if len(self._trials) > MAX_CIRCUITS:
                self._trials.popitem(last=False)

    def record_success(self, key: Key) -> None:
        self._circuits.pop(key, None)
        self._models_off.pop(key, None)

    def record_failure(self, key: Key, failure: Failure, now: float) -> None:
        """Count a failure of class network, timeout, overload or rate_limit."""
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

    def may_try_unhealthy(self, credential_id: str, now: float) -> bool:
        """One call per 30 s is let through on an unhealthy key that has no substitute."""
        last = self._trials.get(credential_id)
        return last is None or now - last >= TRIAL_EVERY_S

    def shortest_wait_s(self, keys: tuple[Key, ...], now: float) -> float | None:
        """The shortest remaining wait among these routes; None if none is open."""
        waits = [c.open_until - now for c in map(self._circuits.get, keys) if c is not None and c.open_until > now]
        return min(waits) if waits else None
