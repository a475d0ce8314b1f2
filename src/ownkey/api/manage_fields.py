"""What a field of a request may hold, in words: the fix for a value that it may not."""

import re
from typing import Any, Final

from msgspec import inspect

from ownkey.api.manage_schemas import Request
from ownkey.control.problems import suggest

_STEP: Final = re.compile(r"\[[^\]]*\]|[^.\[\]]+")
_PLAIN: Final[dict[type[inspect.Type], str]] = {
    inspect.BoolType: "true or false", inspect.NoneType: "null", inspect.ListType: "a list",
    inspect.DictType: "an object", inspect.StructType: "an object",
}


def allowed_values(kind: type[Request], path: str, word: str = "") -> str | None:
    """The fix for the field at `path` ("scopes[0]", "overrides[2].model"); None if it is not a field of `kind`.

    `word` is what was sent, where it is one of a list's near misses.
    """
    found = _find(inspect.type_info(kind), path)
    if found is None:
        return None
    options = [option for option in _options(found) if not isinstance(option, inspect.NoneType)]
    words = [str(value) for option in options if isinstance(option, inspect.LiteralType) for value in option.values]
    if words:
        return suggest(word, words)
    return f"Use {' or '.join(_words(option) for option in options)}."


def _find(found: inspect.Type, path: str) -> inspect.Type | None:
    for step in _STEP.findall(path):
        below = None
        for option in _options(found):
            if isinstance(option, inspect.ListType) and step.startswith("["):
                below = option.item_type
            elif isinstance(option, inspect.DictType) and step.startswith("["):
                below = option.value_type
            elif isinstance(option, inspect.StructType):
                below = next((field.type for field in option.fields if field.encode_name == step), None)
        if below is None:
            return None
        found = below
    return found


def _options(found: inspect.Type) -> tuple[inspect.Type, ...]:
    """A type's alternatives, without what only describes it."""
    if isinstance(found, inspect.Metadata):
        return _options(found.type)
    if isinstance(found, inspect.UnionType):
        return tuple(option for member in found.types for option in _options(member))
    return (found,)


def _words(found: inspect.Type) -> str:
    if isinstance(found, inspect.IntType):
        if found.ge is not None and found.le is not None:
            return f"a whole number from {found.ge} to {found.le}"
        return "a whole number" if found.ge is None else f"a whole number of at least {found.ge}"
    if isinstance(found, inspect.StrType):
        return _text(found)
    if isinstance(found, inspect.ListType) and (found.min_length or found.max_length is not None):
        return f"a list of {found.min_length or 0} to {found.max_length} entries"
    return _PLAIN.get(type(found), "another value")


def _text(found: Any) -> str:
    least, most = found.min_length or 0, found.max_length
    if most is None:
        return "text"
    return f"text of {least} to {most} characters" if least else f"text of at most {most} characters"
