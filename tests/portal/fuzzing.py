"""Values that nobody would type, and requests made of them: what both doors must answer without a 500."""

import random
import re
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote_plus

HOSTILE: tuple[str, ...] = (
    "", " ", "0", "-1", "1", "on", "off", "none", "null", "true", "NaN", "inf", "1e309", "00", "0x10", "1_000", "½",
    "٣", "²", "9" * 18, "9" * 19, "9" * 400, "-" + "9" * 30, "0.0000000001", "1.", ".5", "1,000", "$5", "US$ 5", "5%",
    "99%", "2026-11", "2026-13", "0000-00", "0001-01", "9999-12", "2026-11-31", "0001-01-01", "9999-12-31",
    "2026-11-22", "2026-W48-1", "20261122", "2026-11-22T10:00", "0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59",
    "1795000000000", "9999999999999", "0" * 13, "UTC", "Europe/Vienna", "../../etc/passwd", "/etc/passwd",
    "America/../UTC", "GMT+1", ".", "..", "\x00", "a\x00b", "\r\nset-cookie: a=b", "a\nb", "\t=1+1", "=1+1", "@x",
    "%", "_", "\\", "%%%", "[a-z]*", "'", '"', "' OR 1=1 --", "\"><script>alert(1)</script>", "{{ 7*7 }}", "{%",
    "${7*7}", "javascript:alert(1)", "//evil.test", "https://evil.test/", "/\\evil.test", "\u202egnp.exe", "\ufeff",
    "\U0001f600" * 50, "e\u0301" * 40, "ﬀ", "İ", "\ud7ff", "a" * 201, "a" * 5_000, "call_", "openrouter", "anthropic",
    "cohere", "auto_triage", "active", "suspended", "GET",
)

_NAMES = re.compile(
    r'(?:\.field|\.asks|\basks|\bread|query\.get|form\.get|\bin form|\btyped\.get)\(?\s*\(?"(\w+)"'
    r'|(?:name|param)="(\w+)"|^\s+"(\w+)", |"(\w+)"(?=[,)\]:])', re.MULTILINE,
)


@lru_cache
def names_in(module: str) -> tuple[str, ...]:
    """Every word in quotes of a module that could be a field's or a query's name: also those that are written later."""
    text = Path(str(sys.modules[module].__file__)).read_text()
    found = {word for hit in _NAMES.findall(text) for word in hit}
    return tuple(sorted(word for word in found if word and word.islower() and len(word) < 30))


class Fuzzer:
    """Seeded: the same seed makes the same requests."""

    def __init__(self, seed: int, own: Sequence[str] = ()) -> None:
        self._chance = random.Random(seed)
        self._values = (*HOSTILE, *own)

    def value(self) -> str:
        pick = self._chance.choice(self._values)
        return pick + self._chance.choice(self._values)[:40] if self._chance.random() < 0.15 else pick

    def encoded(self, names: Sequence[str], **more: str) -> bytes:
        """As a query or a form; now and then one that is broken."""
        count = self._chance.randint(0, 6)
        pairs = {self._chance.choice(names): self.value() for _ in range(count)}
        text = "&".join(f"{name}={quote_plus(value)}" for name, value in {**pairs, **more}.items())
        if self._chance.random() < 0.08:
            text += self._chance.choice(
                ("&%", "&a=%ff%fe", "&a=%zz", "&" * 300, "&=", "&a", "&a=1" * 250, "&a=%ed%a0%80")
            )
        return text.encode()

    def segment(self) -> str:
        """A part of a path as servers hand it on: decoded, without a slash."""
        return self.value().replace("/", "").replace("?", "") or "x"

    def choice(self, among: Sequence[str]) -> str:
        return self._chance.choice(among)
