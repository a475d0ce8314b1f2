"""A sentence that remembers how it was made: the English text with named gaps, and what stands in them.

A `Phrase` is its English text, so books, answers and command lines have one stable wording. A door that serves people
tells it again in a host's own words, gap by gap. Every text is written as a literal at `Phrase(…)`: the catalogue of
`make words` is read from there.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Self

_GAP: Final = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_CAPITAL, _SMALL = "capital", "small"


class Phrase(str):
    """`Phrase("Your {name} key paid {cost}.", name="Anthropic", cost="US$0.0034")`; gaps may hold phrases."""

    __slots__ = ("begins", "gaps", "text")

    text: str
    gaps: Mapping[str, object]
    begins: str

    def __new__(cls, text: str, /, **gaps: object) -> Self:
        return cls._make(text, gaps, "")

    @classmethod
    def _make(cls, text: str, gaps: Mapping[str, object], begins: str) -> Self:
        made = super().__new__(cls, _begin(fill(text, gaps), begins))
        made.text, made.gaps, made.begins = text, gaps, begins
        return made

    def told(self, own: Mapping[str, str]) -> str:
        """In a host's own words, as plain text; what the host leaves alone is told in ours."""
        gaps = {name: retell(value, own) for name, value in self.gaps.items()}
        return _begin(fill(own.get(self.text, self.text), gaps), self.begins)

    def capital(self) -> Self:
        """The same at the beginning of a sentence."""
        return self._make(self.text, self.gaps, _CAPITAL)

    def small(self) -> Self:
        """The same inside a sentence."""
        return self._make(self.text, self.gaps, _SMALL)


def together(*parts: str, between: str = " ") -> Phrase:
    """Texts after each other; empty ones are left out. Nobody overrides how they are put together."""
    said = {f"part{n}": part for n, part in enumerate(parts) if part}
    return Phrase(between.join(f"{{{name}}}" for name in said), **said)


def in_turn(parts: Sequence[str]) -> Phrase:
    """`first, then second, then third`, each different one once. At least one."""
    first, *rest = dict.fromkeys(parts)
    told = together(first)
    for part in rest:
        told = Phrase("{first}, then {second}", first=told, second=part)
    return told


def listed(parts: Sequence[str]) -> Phrase:
    """`one`, `one and two`, `one, two and three`. At least one."""
    if len(parts) == 1:
        return together(parts[0])
    return Phrase("{first} and {last}", first=together(*parts[:-1], between=", "), last=parts[-1])


def retell(value: object, own: Mapping[str, str]) -> str:
    """A value of a page in a host's own words; what is no phrase is nobody's wording, and stays."""
    return value.told(own) if isinstance(value, Phrase) else str(value)


def fill(text: str, values: Mapping[str, object]) -> str:
    """Every gap that has a value, in one pass: a value that looks like a gap is not filled again."""
    return _GAP.sub(lambda gap: str(values.get(gap[1], gap[0])), text)


def gaps_of(text: str) -> frozenset[str]:
    """The names of a text's gaps."""
    return frozenset(_GAP.findall(text))


def as_plain(value: object) -> str:
    """For encoders that know plain text only. Raises NotImplementedError for what is no phrase."""
    if isinstance(value, Phrase):
        return str(value)
    raise NotImplementedError(f"nothing is known of how to write a {type(value).__name__}")


def _begin(text: str, begins: str) -> str:
    if not begins:
        return text
    first = text[:1].upper() if begins == _CAPITAL else text[:1].lower()
    return first + text[1:]
