"""Chance that repeats: the same seed and the same question give the same numbers and the same prose."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

Item = TypeVar("Item")

_MASK = 2**64 - 1
_WORDS = [
    "answer",
    "bright",
    "careful",
    "delta",
    "early",
    "fourth",
    "garden",
    "harbour",
    "inside",
    "journey",
    "kettle",
    "ladder",
    "market",
    "narrow",
    "orange",
    "paper",
    "quiet",
    "river",
    "simple",
    "table",
    "under",
    "valley",
    "window",
    "yellow",
    "zebra",
    "account",
    "balance",
    "customer",
    "delivery",
    "evening",
    "forest",
    "glass",
    "honest",
    "island",
    "junction",
    "kitchen",
    "letter",
    "morning",
    "number",
    "office",
    "price",
    "question",
    "record",
    "season",
    "ticket",
    "update",
    "voyage",
    "weather",
    "amount",
    "bicycle",
    "candle",
    "dinner",
    "engine",
    "figure",
    "ground",
    "hotel",
    "invoice",
    "jacket",
    "café",
    "naïve",
    "crème",
    "Zürich",
    "München",
    "smörgås",
    "jalapeño",
    "東京",
    "日本語",
    "Ελλάδα",
    "привет",
    "✓",
    "🚲",
    "🌦️",
    "and",
    "then",
    "with",
    "from",
    "into",
    "over",
    "before",
    "after",
    "because",
    "while",
    "every",
    "second",
    "little",
    "longer",
    "shorter",
    "nearly",
    "always",
    "often",
    "seldom",
]


class Dice:
    """A splitmix64 stream; not for secrets."""

    __slots__ = ("_state",)

    def __init__(self, *seeds: object) -> None:
        digest = blake2b("\x1f".join(map(str, seeds)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self._state = int.from_bytes(digest, "big")

    def bits(self) -> int:
        """The next 64 bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, limit: int) -> int:
        """A whole number from 0 to `limit` - 1."""
        return self.bits() % limit

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + self.bits() % (high - low + 1)

    def pick(self, items: Sequence[Item]) -> Item:
        """One of `items`, which must not be empty."""
        return items[self.bits() % len(items)]

    def happens(self, probability: float) -> bool:
        """True with `probability` (0 to 1)."""
        return self.bits() < probability * 2**64

    def word(self) -> str:
        """One word of the house vocabulary."""
        return self.pick(_WORDS)

    def token(self, length: int) -> str:
        """An identifier of letters and digits."""
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        return "".join(alphabet[self.bits() % 62] for _ in range(length))


class Prose:
    """Endless seeded prose that can be cut to an exact number of bytes.

    Made once; an answer is a slice of it, so a long answer costs no more than a short one. It holds characters of
    one to four bytes on purpose: streams must survive a cut inside a character.
    """

    def __init__(self, seed: int) -> None:
        dice = Dice(seed, "prose")
        sentences: list[str] = []
        starts: list[int] = []
        size = 0
        while size < 1 << 16:
            words = [dice.word() for _ in range(dice.between(5, 14))]
            sentence = " ".join(words).capitalize() + dice.pick((". ", ". ", "? ", "! ", ".\n\n"))
            starts.append(size)
            sentences.append(sentence)
            size += len(sentence.encode())
        self._bytes = "".join(sentences).encode()
        self._starts = starts

    def cut(self, dice: Dice, size_bytes: int) -> str:
        """At most `size_bytes` of prose, at most three bytes short of it, starting at a sentence."""
        start = dice.pick(self._starts)
        raw = self._bytes[start : start + size_bytes]
        while len(raw) < size_bytes:
            raw += self._bytes[: size_bytes - len(raw)]
        return raw.decode("utf-8", "ignore")


def count_tokens(text: str) -> int:
    """Tokens of `text`: one per four bytes of UTF-8, rounded up. Never more tokens than bytes."""
    return (len(text.encode("utf-8", "surrogatepass")) + 3) // 4


def cut_to_tokens(text: str, tokens: int) -> str:
    """The longest beginning of `text` that costs at most `tokens`."""
    raw = text.encode("utf-8", "surrogatepass")
    return text if len(raw) <= 4 * tokens else raw[: 4 * tokens].decode("utf-8", "ignore")
