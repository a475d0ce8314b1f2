"""What an answer says, in one shape for the recording and for what the gateway made of it.

Nothing here knows Ownkey: the readers beside this module fill the shape with the official SDKs or from the JSON.
"""

import json
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Any

NUSD_PER_USD = 10**9


@dataclass(frozen=True, slots=True)
class Tokens:
    """Counts in disjoint classes. `output` excludes reasoning; `written` is every cache write."""

    input: int = 0
    cache_read: int = 0
    written: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0


@dataclass(slots=True)
class Call:
    """A tool call; `arguments` is the JSON text as it came."""

    id: str = ""
    name: str = ""
    arguments: str = ""

    def value(self) -> tuple[str, Any]:
        """Name and arguments, these as JSON where they are JSON."""
        try:
            return self.name, json.loads(self.arguments) if self.arguments.strip() else {}
        except ValueError:
            return self.name, self.arguments


@dataclass(slots=True)
class Choice:
    """`signatures` are what a provider wants back with the reasoning: signatures and encrypted thoughts, in order."""

    text: str = ""
    refusal: str = ""
    reasoning: str = ""
    signatures: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    finish: str | None = None


@dataclass(slots=True)
class Answer:
    """One answer. `error` is its own word that it failed (with `error_body`, as far as there is one);
    `cut` that it ended before it said why it ended. `cost_usd` is what the provider says it bills;
    `counted` what a request that only counts tokens found.

    `report` is the provider's own usage object with the model's name, for a price list that reads it itself; `tier`
    the service tier that answered, and `pieces` what is billed beside tokens, counted in the answer itself.
    """

    id: str = ""
    model: str = ""
    choices: dict[int, Choice] = field(default_factory=dict)
    tokens: Tokens | None = None
    cost_usd: Decimal | None = None
    vectors: list[list[float]] | None = None
    counted: int | None = None
    error: str = ""
    error_body: Any = None
    cut: bool = False
    report: dict[str, Any] | None = None
    tier: str = ""
    pieces: dict[str, int] = field(default_factory=dict)

    def choice(self, index: int) -> Choice:
        return self.choices.setdefault(index, Choice())

    @property
    def failed(self) -> bool:
        return bool(self.error) or self.cut

    @property
    def cost_nusd(self) -> int | None:
        """Rounded up to whole nano-dollars."""
        if self.cost_usd is None:
            return None
        return int((self.cost_usd * NUSD_PER_USD).to_integral_value(ROUND_CEILING))


def frames(body: bytes) -> list[tuple[str, str]]:
    """The events of a stream as (name, data), comments left out. Knows LF and CRLF; data without an end counts."""
    found: list[tuple[str, str]] = []
    name, lines = "", list[str]()
    for line in body.decode("utf-8", "surrogateescape").replace("\r\n", "\n").split("\n"):
        if line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
        elif line.startswith("event:"):
            name = line[6:].strip()
        elif not line:
            if lines:
                found.append((name, "\n".join(lines)))
            name, lines = "", []
    return [*found, (name, "\n".join(lines))] if lines else found


def payloads(body: bytes) -> list[str]:
    """The `data` of each event of a stream."""
    return [data for _, data in frames(body)]


def exact_json(text: str) -> Any:
    """JSON with its decimals exact; None for what is none."""
    try:
        return json.loads(text, parse_float=Decimal)
    except ValueError:
        return None
