"""Every text of the catalogue in quotation marks of its own, and what of a text stands outside of them."""

import re
from collections.abc import Collection

from ownkey.pages.words import known_texts

MARKED = {text: f"‹{text}›" for text in known_texts()}
NAMES = frozenset({
    "Acme", "Desk", "Anthropic", "OpenAI", "Google", "OpenRouter", "Main key", "UTC", "EUR",
})
"""What tests call things, and what everybody calls them."""


def outside(text: str) -> str:
    """What stands in no mark at all."""
    left, depth = [], 0
    for c in text:
        depth += (c == "‹") - (c == "›")
        if depth == 0 and c != "›":
            left.append(c)
    assert depth == 0, text
    return "".join(left)


def unmarked(text: str, names: Collection[str] = NAMES) -> list[str]:
    """The words outside, without names, codes, ids and figures."""
    left = outside(text)
    for name in sorted(names, key=len, reverse=True):
        left = left.replace(name, "")
    left = re.sub(r"\S*[\d_/@…$%]\S*", "", left)
    return list(re.findall(r"[A-Za-z’']{2,}", left))
