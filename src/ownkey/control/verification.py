"""Do the books balance? Every counter recomputed from rows; differences are named, never repaired silently."""

from collections.abc import Sequence
from dataclasses import dataclass

from ownkey.control.ports import Auditor, Clock, Finding

ASSUMPTIONS = (
    "Only calls through Ownkey count.",
    "Prices are right, or max_price is honoured; a breach shows as overage.",
    "Providers honour output limits, and tokenizers are as the model table marks them.",
    "Taxes and credit-purchase fees are outside.",
    "The disk honours fsync, and a PostgreSQL failover loses no commit.",
    "Restoring a backup forgets later spend and asks for acknowledgement.",
    "Estimates err up on caps and down on credits.",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`findings` empty: clean. `assumptions` are what the promise rests on, printed with it."""

    at_ms: int
    findings: Sequence[Finding]
    assumptions: tuple[str, ...] = ASSUMPTIONS

    @property
    def clean(self) -> bool:
        return not self.findings


class VerifyControl:
    def __init__(self, auditor: Auditor, clock: Clock) -> None:
        self._auditor = auditor
        self._clock = clock

    async def run(self) -> Verdict:
        now = self._clock.now_ms()
        return Verdict(now, await self._auditor.verify(now))
