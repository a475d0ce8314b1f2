"""Function arguments that arrive in pieces, each with the path of the value it belongs to.

Gemini sends them so only where streaming of arguments was asked for; put together, they are one JSON object.
"""

import itertools
import re
from collections.abc import Mapping
from typing import Any

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]")
MAX_INDEX = 10_000


class BadPath(Exception):
    """A piece whose path cannot be followed."""


class PartialArgs:
    """Collects the pieces of one call's arguments."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}
        self._open: set[str] = set()

    def add(self, piece: Mapping[str, Any]) -> int:
        """Put one piece in its place; a string continues while its pieces say so. Raises BadPath.

        Returns how many bytes the piece brought.
        """
        path = piece.get("jsonPath")
        if not isinstance(path, str):
            raise BadPath
        value = _value_of(piece)
        steps = _steps(path)
        holder: Any = self.value
        for step, following in itertools.pairwise(steps):
            holder = _child(holder, step, [] if isinstance(following, int) else {})
        last = steps[-1]
        if path in self._open and isinstance(value, str):
            begun = _get(holder, last, "")
            if not isinstance(begun, str):
                raise BadPath
            value = begun + value
        _put(holder, last, value)
        if piece.get("willContinue") is True:
            self._open.add(path)
        else:
            self._open.discard(path)
        return len(str(_value_of(piece)).encode("utf-8", "surrogatepass"))


def _value_of(piece: Mapping[str, Any]) -> Any:
    for name in ("stringValue", "numberValue", "boolValue"):
        if name in piece:
            return piece[name]
    return None if "nullValue" in piece else ""


def _steps(path: str) -> list[str | int]:
    if not path.startswith("$"):
        raise BadPath
    steps: list[str | int] = []
    position = 1
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None:
            raise BadPath
        name, index, single, double = step.groups()
        steps.append(int(index) if index is not None else name or single or double or "")
        position = step.end()
    if not steps or isinstance(steps[0], int):
        raise BadPath
    return steps


def _child(holder: Any, step: str | int, empty: Any) -> Any:
    child = _get(holder, step, None)
    if not isinstance(child, dict | list):
        _put(holder, step, empty)
        return empty
    return child


def _get(holder: Any, step: str | int, default: Any) -> Any:
    if isinstance(holder, dict) and isinstance(step, str):
        return holder.get(step, default)
    if isinstance(holder, list) and isinstance(step, int):
        found = holder[step] if step < len(holder) else None
        return default if found is None else found
    raise BadPath


def _put(holder: Any, step: str | int, value: Any) -> None:
    if isinstance(holder, dict) and isinstance(step, str):
        holder[step] = value
    elif isinstance(holder, list) and isinstance(step, int) and step <= MAX_INDEX:
        holder.extend([None] * (step + 1 - len(holder)))
        holder[step] = value
    else:
        raise BadPath
