"""Changes a few values in a JSON text and leaves every other byte as it was.

A body that passes through belongs to its caller: key order, white space, number spelling and unknown fields stay
because nothing is decoded and encoded again. msgspec checks the syntax and cuts out the values; here they are
found again in the text, one after the other, which also shows duplicate keys: readers disagree about those, so
a body that has one is refused.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from ownkey.domain.wire import BadRequest

_RAW_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NEXT_KEY = re.compile(rb'[\s,]*"((?:[^"\\]|\\.)*)"\s*:\s*')
_COMMA, _SPACE = b", "
_CLOSE = re.compile(rb"\s*\}\s*\Z")
_BRACKETS_ONLY = bytes(byte for byte in range(256) if byte not in b"[]{}")
_ONE_KIND = bytes.maketrans(b"{}", b"[]")

MAX_DEPTH = 64


@contextmanager
def readable_numbers() -> Iterator[None]:
    """JSON sets numbers no limit, but every reader does: one that is too large is the caller's mistake."""
    try:
        yield
    except msgspec.DecodeError:
        raise BadRequest("The body holds a number that is too large to be read.") from None


class ObjectSpans:
    """Where each value of one JSON object stands in a larger text.

    `values` are the members' bytes, `spans` their (start, end) in the text that the object was cut from.
    """

    __slots__ = ("end", "spans", "values")

    def __init__(self, text: bytes, offset: int = 0, what: str = "The body") -> None:
        """Read the object `text`, which stands at `offset` of the whole. Raises BadRequest."""
        try:
            raw = _RAW_OBJECT.decode(text)
        except msgspec.ValidationError:
            raise BadRequest(f"{what} must be a JSON object.") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadRequest(f"{what} is not valid JSON.") from None
        except RecursionError:
            raise BadRequest(f"{what} is nested deeper than {MAX_DEPTH} levels.") from None
        self.values: dict[str, bytes] = {}
        self.spans: dict[str, tuple[int, int]] = {}
        at = text.index(b"{") + 1
        self.end = at + offset
        for key, value in raw.items():
            value_bytes = bytes(value)
            start = _value_start(text, at, key)
            if not text.startswith(value_bytes, start):
                raise _duplicate(what)
            at = start + len(value_bytes)
            self.values[key] = value_bytes
            self.spans[key] = (start + offset, at + offset)
        if self.spans:
            self.end = at + offset
        if _CLOSE.match(text, at) is None:
            raise _duplicate(what)


def _value_start(text: bytes, at: int, key: str) -> int:
    """Where the value of `key` begins if it is the next member after `at`; else the text's end."""
    if key.isidentifier():  # The spelling of nearly every serializer, without a regular expression.
        if text[at] == _COMMA:
            at += 1
        if text[at] == _SPACE:
            at += 1
        name = b'"' + key.encode() + b'":'
        if text.startswith(name, at):
            at += len(name)
            while text[at] <= _SPACE:
                at += 1
            return at
    found = _NEXT_KEY.match(text, at)
    return found.end() if found and _is_key(found[1], key) else len(text)


def _is_key(written: bytes, key: str) -> bool:
    if b"\\" in written:
        return bool(msgspec.json.decode(b'"' + written + b'"') == key)
    return written == key.encode()


def _duplicate(what: str) -> BadRequest:
    return BadRequest(f"{what} names a field twice.")


class Splicer:
    """Collects changes to one text and applies them at once."""

    __slots__ = ("_changes", "_grown", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._changes: list[tuple[int, int, bytes]] = []
        self._grown: set[int] = set()

    def replace(self, span: tuple[int, int], value: bytes) -> None:
        """Put `value` where the span is."""
        self._changes.append((*span, value))

    def add(self, members: ObjectSpans, key: str, value: bytes) -> None:
        """Add a member at the object's end."""
        comma = b"," if members.spans or members.end in self._grown else b""
        self._grown.add(members.end)
        self._changes.append((members.end, members.end, comma + msgspec.json.encode(key) + b":" + value))

    def set(self, members: ObjectSpans, key: str, value: bytes) -> None:
        """Replace the member's value, or add it."""
        span = members.spans.get(key)
        if span is None:
            self.add(members, key, value)
        elif members.values[key] != value:
            self.replace(span, value)

    def result(self) -> bytes:
        """The text with all changes."""
        if not self._changes:
            return self._text
        pieces = []
        at = 0
        for start, end, value in sorted(self._changes, key=_position):
            pieces.append(self._text[at:start])
            pieces.append(value)
            at = end
        pieces.append(self._text[at:])
        return b"".join(pieces)


def _position(change: tuple[int, int, bytes]) -> tuple[int, int]:
    # A replacement that ends where an insertion stands starts before it; of two insertions the first comes first.
    return change[0], change[1]


def object_literal(members: Mapping[str, bytes]) -> bytes:
    """A JSON object of values that are JSON already."""
    return b"{" + b",".join(msgspec.json.encode(key) + b":" + value for key, value in members.items()) + b"}"


def is_too_deep(body: bytes, limit: int = MAX_DEPTH) -> bool:
    """Whether valid JSON is nested deeper than `limit`, without building any of it."""
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(body.split(b'"')[::2])
    brackets = outside_strings.translate(_ONE_KIND, _BRACKETS_ONLY)
    for _ in range(limit):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)
