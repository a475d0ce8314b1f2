"""What the readers of all four request formats share: collecting the prompt and counting its tokens."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import msgspec

from .catalogue import Model
from .dice import count_tokens
from .plan import Ask, CachePoint, Tool

_PER_MESSAGE = 3
_IMAGE_TOKENS = {"openai": 765, "anthropic": 1_568, "google": 258}


class PromptReader:
    """Collects a prompt's text in order. A token is four bytes, three more a message, a fixed number an image."""

    def __init__(self, model: Model) -> None:
        self._texts: list[str] = []
        self._last: list[str] = []
        self._in_user = False
        self._after_tool = False
        self._fixed = 0
        self._image = _IMAGE_TOKENS.get(model.maker, 560)
        self._points: list[CachePoint] = []

    def begin(self, role: str, *, is_user: bool, is_tool: bool = False) -> None:
        """A message starts."""
        self._fixed += _PER_MESSAGE
        self._in_user = is_user
        self._after_tool = is_tool
        if is_user:
            self._last = []

    def tool_result(self) -> None:
        """The message that has begun brings a tool's result."""
        self._after_tool = True

    def text(self, text: str, *, spoken: bool = True) -> None:
        self._texts.append(text)
        if spoken and self._in_user:
            self._last.append(text)

    def image(self) -> None:
        self._fixed += self._image

    def add_schema_text(self, schema: Any) -> None:
        """Tool definitions are prompt, too."""
        if schema:
            self._texts.append(msgspec.json.encode(schema).decode())

    def cache_point(self, *, hour: bool) -> None:
        """Everything up to here is to be cached."""
        joined = "".join(self._texts)
        digest = sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()
        self._points.append(CachePoint(digest, count_tokens(joined) + self._fixed, hour))

    @property
    def tokens(self) -> int:
        return count_tokens("".join(self._texts)) + self._fixed

    def fill(self, ask: Ask) -> None:
        """Write what was read into `ask`."""
        ask.text = "".join(self._texts)
        ask.last = " ".join(self._last)
        ask.input_tokens = count_tokens(ask.text) + self._fixed
        ask.after_tool = self._after_tool
        ask.cache_points = tuple(self._points)


def whole_number(value: Any) -> int | None:
    """`value` if it is a whole number (2.0 counts), else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == int(value) else None


def strings(value: Any) -> tuple[str, ...]:
    """A string or a list of strings as a tuple."""
    if isinstance(value, str):
        return (value,)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def tool_list(pairs: Iterable[tuple[Any, Any]]) -> tuple[Tool, ...]:
    """Tools from (name, schema); nameless ones are left out."""
    return tuple(
        Tool(name, schema if isinstance(schema, dict) else {}) for name, schema in pairs if isinstance(name, str)
    )
