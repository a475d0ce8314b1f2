"""What happened to a key so far, as its card tells it: who saved it, when it was tested, what its failing has cost."""

from dataclasses import dataclass

from ownkey.domain.records import Actor


@dataclass(frozen=True, slots=True)
class KeyPast:
    """Out of the audit log, about the key that is saved now. `saved_by` None: the log does not tell. `tested_ms` None:
    nobody has tested this very key; `found` is that Test's outcome, one of six words."""

    saved_by: Actor | None
    tested_ms: int | None
    found: str


@dataclass(frozen=True, slots=True)
class Toll:
    """What calls met while a key failed. `calls` are all that it concerns: `refused` got no answer, `by_credits` were
    answered and paid with `credits`, the rest were answered another way. `more`: only the latest calls were looked
    through."""

    calls: int = 0
    refused: int = 0
    by_credits: int = 0
    credits: int = 0
    more: bool = False
