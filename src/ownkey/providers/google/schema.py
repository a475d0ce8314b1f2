"""JSON schemas as Gemini takes them.

Gemini ignores the keywords that it does not know (ai.google.dev, "Structured outputs"): a schema that must hold
is therefore refused if it has one. A tool's schema only guides the model; there the constraint is told in words.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from ownkey.domain.conversation import Untranslatable
from ownkey.providers.json_schema import ANNOTATIONS, DEFINITIONS, refuse_recursion

_KEPT = frozenset({"title", "description", "type", "required", "propertyOrdering", "$anchor"})
_BOUNDS = frozenset({"minItems", "maxItems", "minimum", "maximum"})
_FORMATS = frozenset({"date-time", "date", "time", "int32", "int64", "float", "double"})
_REF_SIBLINGS = frozenset({"title", "description", "default"})


def reduce_schema(schema: Mapping[str, Any], what: str, *, exact: bool) -> dict[str, Any]:
    """The schema in Gemini's subset. With `exact`, raises Untranslatable for a constraint that would be lost."""
    if exact:
        refuse_recursion(schema, what)
    return _Reducer(what, exact).reduce(schema)


class _Reducer:
    def __init__(self, what: str, exact: bool) -> None:
        self._what = what
        self._exact = exact

    def reduce(self, schema: Any) -> dict[str, Any]:
        if not isinstance(schema, Mapping):
            if schema is True and not self._exact:
                return {}
            raise Untranslatable(self._what, "a schema that is not an object")
        if "$ref" in schema:
            return self._reference(schema)
        reduced: dict[str, Any] = {}
        lost: dict[str, Any] = {}
        for key, value in schema.items():
            self._take(key, value, reduced, lost)
        if lost:
            self._tell(reduced, lost)
        return reduced

    def _take(self, key: str, value: Any, reduced: dict[str, Any], lost: dict[str, Any]) -> None:
        match key:
            case _ if key in ANNOTATIONS or key == "default":
                # A default fills nothing in on Gemini's side, and constrains nothing on any.
                return
            case _ if key in _KEPT or key in _BOUNDS:
                reduced[key] = value
            case "properties" | "$defs" | "definitions" if isinstance(value, Mapping):
                reduced[key] = {name: self.reduce(child) for name, child in value.items()}
            case "items":
                reduced[key] = self.reduce(value)
            case "prefixItems" | "anyOf" if isinstance(value, list):
                reduced[key] = [self.reduce(child) for child in value]
            case "oneOf" if isinstance(value, list) and not self._exact:
                reduced["anyOf"] = [self.reduce(child) for child in value]
            case "allOf" if isinstance(value, list) and len(value) == 1 and not reduced.keys() & self._keys(value):
                reduced |= self.reduce(value[0])
            case "additionalProperties":
                reduced[key] = value if isinstance(value, bool) else self.reduce(value)
            case "format" if isinstance(value, str) and value in _FORMATS:
                reduced[key] = value
            case "enum" if isinstance(value, list) and value:
                self._enumerate(value, reduced, lost)
            case "const":
                self._enumerate([value], reduced, lost)
            case _:
                lost[key] = value

    def _keys(self, value: list[Any]) -> set[str]:
        return set(value[0]) if isinstance(value[0], Mapping) else set()

    def _enumerate(self, values: list[Any], reduced: dict[str, Any], lost: dict[str, Any]) -> None:
        """Gemini enumerates strings and numbers. A nullable enumeration becomes a choice of it and null."""
        plain = [value for value in values if isinstance(value, str | int | float) and not isinstance(value, bool)]
        if len(plain) == len(values):
            reduced["enum"] = plain
        elif len(plain) == len([value for value in values if value is not None]) and "anyOf" not in reduced:
            reduced["anyOf"] = [{"enum": plain}, {"type": "null"}] if plain else [{"type": "null"}]
            reduced.pop("type", None)
            if plain:
                kinds = {"string" if isinstance(value, str) else "number" for value in plain}
                if len(kinds) == 1:
                    reduced["anyOf"][0]["type"] = kinds.pop()
        else:
            lost["enum"] = values

    def _reference(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """A reference may have no neighbours on Gemini: describing ones move around it."""
        target = schema["$ref"]
        if not isinstance(target, str) or not target.startswith("#"):
            raise Untranslatable(self._what, "a schema reference out of the document")
        reduced: dict[str, Any] = {
            home: {name: self.reduce(child) for name, child in schema[home].items()}
            for home in DEFINITIONS
            if isinstance(schema.get(home), Mapping)
        }
        others = {key: value for key, value in schema.items() if key not in ("$ref", *DEFINITIONS)}
        others = {key: value for key, value in others.items() if key not in ANNOTATIONS}
        lost = {key: value for key, value in others.items() if key not in _REF_SIBLINGS}
        words: dict[str, Any] = {key: others[key] for key in ("title", "description") if key in others}
        if not words and not lost:
            return {"$ref": target, **reduced}
        reduced["anyOf"] = [{"$ref": target}]
        reduced.update(words)
        if lost:
            self._tell(reduced, lost)
        return reduced

    def _tell(self, reduced: dict[str, Any], lost: Mapping[str, Any]) -> None:
        if self._exact:
            raise Untranslatable(self._what, f"the schema keyword {next(iter(lost))} is not enforced by the provider")
        words = ", ".join(f"{key}: {msgspec.json.encode(value).decode()}" for key, value in lost.items())
        described = reduced.get("description")
        reduced["description"] = f"{described} ({words})" if described else f"({words})"
