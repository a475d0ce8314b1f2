"""The last line: nothing that looks like a key, and not one byte of this call's own key, passes on to be read.

Two searches. `scrub` knows the formats of keys and works on texts (logs, errors, receipts); it prefers to mask
a harmless word over letting a key through. `CredentialTail` knows one key and works on the bytes of a stream.
Patterns without a left boundary exist because keys arrive glued to escapes ("Bearer%20sk-…", "\\nsk-…"); they
ask for more characters and a digit (or a `*`), so that "risk-or-reward" stays a phrase.
"""

import re
from typing import Final, NoReturn

MASK: Final = "***"
PROVIDER_TEXT_CHARS: Final = 300

_MASK_BYTES: Final = MASK.encode("ascii")
# A hit that begins inside the visible part is judged with this much after it, so that the cut hides no ending.
_LOOKAHEAD_CHARS: Final = 640

_WORD: Final = "[A-Za-z0-9_*-]"  # With `*`: providers echo keys half masked ("sk-proj-****abcd").
_DIGIT_SOON: Final = rf"(?={_WORD}{{0,64}}[0-9*])"  # Bounded, so that a hostile text cannot make this quadratic.
_START: Final = "(?<![A-Za-z0-9])"

_FORMATS: Final = re.compile(
    "|".join(
        (
            rf"{_START}sk-(?:or|ant|proj|admin)-{_WORD}{{4,}}",
            rf"{_START}sk-{_WORD}{{8,}}",
            rf"sk-{_DIGIT_SOON}{_WORD}{{16,}}",
            r"AIza[A-Za-z0-9_-]{16,}",
            rf"{_START}AQ\.[A-Za-z0-9_-]{{12,}}",
            rf"AQ\.{_DIGIT_SOON}[A-Za-z0-9_-]{{20,}}",
            # A token's id is no secret: `tok_` and 32 hex digits, which is shorter than any token.
            r"ok_(?!(?<=\btok_)[0-9a-f]{32}(?![A-Za-z0-9]))[A-Za-z0-9]{16,}",
            r"whsec_[A-Za-z0-9+/=_-]{8,}",
            r"[sr]k_(?:live|test)_[A-Za-z0-9]{8,}",
            # After "Bearer", any word with a digit, or any word too long to be one.
            r"(?i:(?P<bearer>bearer(?:\s|%20|\+){1,4}))"
            r"(?:(?=[^\s\"'<>,;]{0,64}[0-9])[^\s\"'<>,;]{8,}|[^\s\"'<>,;]{24,})",
        )
    )
)


def looks_like_secret(text: str) -> bool:
    """Whether anything in the text has the format of a key, token or signing secret."""
    return _FORMATS.search(text) is not None


def scrub(text: str) -> tuple[str, int]:
    """The text with every hit masked, and the number of hits: each is a leak that was stopped."""
    return _FORMATS.subn(_masked, text)


def scrub_provider_text(text: str, limit: int = PROVIDER_TEXT_CHARS) -> tuple[str, int]:
    """The first `limit` characters of a provider's text, scrubbed, `…` behind them if there was more.

    Cutting first would leave the beginning of a key that no pattern knows; masking first would let later text
    move up. So a hit counts if it begins inside the limit, and is masked to its end.
    """
    window = text[: limit + _LOOKAHEAD_CHARS]
    pieces: list[str] = []
    position = hits = 0
    for hit in _FORMATS.finditer(window):
        if hit.start() >= limit:
            break
        pieces += window[position : hit.start()], _masked(hit)
        position = hit.end()
        hits += 1
    pieces.append(window[position : max(position, limit)])
    return "".join(pieces) + ("…" if len(text) > max(position, limit) else ""), hits


class CredentialTail:
    """Masks one credential in a stream of bytes, wherever the chunks are split.

    Built where the plaintext already is. Holds back only the end of a chunk that could be the credential's
    beginning, usually nothing; `flush()` gives that out at the end of the stream.
    """

    __slots__ = ("_first", "_held", "_needle", "hits")

    def __init__(self, credential: bytes) -> None:
        if not credential:
            raise ValueError("an empty credential would be found everywhere")
        self._needle = credential
        self._first = credential[:1]
        self._held = b""
        self.hits = 0

    def feed(self, chunk: bytes) -> bytes:
        """What may pass on now: everything but what is held back, with the credential masked."""
        data = self._held + chunk if self._held else chunk
        searched = 0  # Where the bytes begin that no hit has used.
        if self._needle in data:
            self.hits += data.count(self._needle)
            searched = _end_of_last_hit(data, self._needle)
        kept = len(data) - self._begun(data, searched)
        self._held = data[kept:]
        if searched:
            return data[:searched].replace(self._needle, _MASK_BYTES) + data[searched:kept]
        return data[:kept] if self._held else data

    def flush(self) -> bytes:
        """What was held back and turned out not to be the credential."""
        held, self._held = self._held, b""
        return held

    def _begun(self, data: bytes, searched: int) -> int:
        """The length of the longest end of `data` that is a beginning of the credential, 0 if there is none."""
        # Events end in a line feed, which no credential contains: the usual answer, in one comparison.
        if not data or data[-1] not in self._needle:
            return 0
        at = data.find(self._first, max(searched, len(data) - len(self._needle) + 1))
        while at != -1:
            if self._needle.startswith(data[at:]):
                return len(data) - at
            at = data.find(self._first, at + 1)
        return 0

    def __repr__(self) -> str:
        return f"CredentialTail(hits={self.hits})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a CredentialTail is never pickled or copied")


def _end_of_last_hit(data: bytes, needle: bytes) -> int:
    """Where the last of the hits ends that `replace` masks: left to right, none overlapping."""
    end = 0
    while (at := data.find(needle, end)) != -1:
        end = at + len(needle)
    return end


def _masked(hit: re.Match[str]) -> str:
    return (hit["bearer"] or "") + MASK
