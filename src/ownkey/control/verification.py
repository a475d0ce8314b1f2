"""Do the books balance? Every counter recomputed from rows; differences are named, never repaired silently."""

from collections.abc import Sequence
from dataclasses import dataclass

from ownkey.control.ports import Auditor, Clock, Finding
from ownkey.domain.phrases import Phrase

ASSUMPTIONS = (
    Phrase("Only calls that go through Ownkey count; the same key used elsewhere does not."),
    Phrase(
        "The price list is right, or the provider honours the maximum price that is sent with each call; where neither "
        "holds, the difference is shown as overage."
    ),
    Phrase("Providers keep to the output limit they are given, and tokenizers are of the kind the model table says."),
    Phrase("Taxes and the fees for buying credits at a provider are not part of spend."),
    Phrase("The disk keeps what it has confirmed."),
    Phrase("Restoring a backup forgets what was spent since."),
    Phrase("Where a figure must be estimated, it is too high for the cap and too low for charges of credits."),
)
"""What the promise of the cap rests on, printed with every verdict."""


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
