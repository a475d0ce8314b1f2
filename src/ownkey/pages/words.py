"""Every sentence of the pages, said through one door, so that a host can put its own in their place.

The catalogue's keys are the English texts themselves, with named gaps: `"{provider} API key saved successfully."`. What
a host leaves alone reads as it stands in the code, and a text without an entry is an entry already.
"""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from importlib import resources
from typing import Final

import msgspec

from ownkey.domain.phrases import Phrase, fill, gaps_of, retell

TEXTS: Final = "texts.json"
"""The catalogue beside this module, written by `make words`."""

FIXED: Final = frozenset({
    "OpenRouter API key", "Anthropic API key", "OpenAI API key", "Google API key", "Monthly spend cap (USD)",
    "Alert threshold (%)", "Test", "Save", "Save anyway", "Connect", "Disconnect", "Subscribe", "Replace", "Disable",
    "Enable", "Sign in with OpenRouter", "Always use this key", "Use credits if my key fails",
    "{provider} API key saved successfully.", "OpenRouter is not enabled",
})
"""The labels that the products' own documents and help pages name: not for overriding."""


class Words:
    """Says a text, or the host's own one."""

    def __init__(self, own: Mapping[str, str] | None = None) -> None:
        self._own = dict(own or {})

    def __call__(self, text: str, **values: object) -> str:
        """Plain text; whoever puts it into a page escapes it."""
        if isinstance(text, Phrase):
            return text.told(self._own)
        own = self._own.get(text, text)
        return fill(own, {name: retell(value, self._own) for name, value in values.items()}) if values else own

    def plural(self, one: str, many: str, count: int, **values: object) -> str:
        return self(one if count == 1 else many, count=f"{count:,}", **values)


def known_texts() -> tuple[str, ...]:
    """The catalogue: every text that a host can put its own in place of."""
    return msgspec.json.decode(resources.files("ownkey.pages").joinpath(TEXTS).read_bytes(), type=tuple[str, ...])


def check_words(own: Mapping[str, str], known: Collection[str]) -> list[str]:
    """What is wrong with a host's own texts, a sentence each; none: they can be used."""
    found = []
    for text, instead in own.items():
        if text in FIXED:
            found.append(f"{text!r} is a label that cannot be changed.")
        elif text not in known:
            close = get_close_matches(text, known, n=1)
            found.append(f"The pages have no text {text[:80]!r}." + (f" Did you mean {close[0]!r}?" if close else ""))
        else:
            found += _wrong_gaps(text, instead)
    return found


def _wrong_gaps(text: str, instead: str) -> list[str]:
    """A value that is not shown, or a gap that nothing fills: either is a page that says something else."""
    has, given = gaps_of(text), gaps_of(instead)
    told = f"Your text for {text[:80]!r}"
    unknown = [
        f"{told} has a gap {{{gap}}} that nothing fills." + _meant(gap, has - given) for gap in sorted(given - has)
    ]
    return unknown or [f"{told} leaves out {{{gap}}}: put it where the value stands." for gap in sorted(has - given)]


def _meant(gap: str, left: Collection[str]) -> str:
    close = get_close_matches(gap, left, n=1, cutoff=0.4) or sorted(left)[:1]
    return f" Did you mean {{{close[0]}}}?" if close else " Leave it out."
