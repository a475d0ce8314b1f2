"""A JSON value that validates against a schema, the same one each time for the same dice.

Understands what structured outputs use: objects, arrays, enums, constants, strings with formats and lengths, numbers
with bounds, nullable, `$ref` and `$defs`, `anyOf`, `oneOf`, `allOf`; also Gemini's upper-case types.
"""

from typing import Any

from .dice import Dice

Json = dict[str, Any]

_DEPTH = 6
_FORMATS = {
    "date-time": "2026-03-14T09:26:53Z",
    "date": "2026-03-14",
    "time": "09:26:53Z",
    "duration": "PT15M",
    "email": "ada@example.com",
    "idn-email": "ada@example.com",
    "hostname": "www.example.com",
    "uri": "https://www.example.com/page",
    "url": "https://www.example.com/page",
    "uuid": "7f1c2ad0-91c4-4c54-9a53-0d6a5f7f3b11",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
}


def instance(schema: Any, dice: Dice, hint: str = "") -> Any:
    """A value valid against `schema`. An enum value that the text `hint` mentions is preferred."""
    root = schema if isinstance(schema, dict) else {}
    return _Maker(root, dice, hint.lower()).make(schema, 0)


class _Maker:
    def __init__(self, root: Json, dice: Dice, hint: str) -> None:
        self._root = root
        self._dice = dice
        self._hint = hint

    def make(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, dict):
            return self._dice.word() if schema is not False else None
        schema = self._merged(self._resolved(schema))
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._from_enum(schema["enum"])
        for key in ("anyOf", "oneOf"):
            if branches := schema.get(key):
                return self.make(self._branch(branches, depth), depth)
        kind = self._kind(schema, depth)
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._string(schema)
            case "integer":
                return self._number(schema, whole=True)
            case "number":
                return self._number(schema, whole=False)
            case "boolean":
                return bool(self._dice.below(2))
            case "null":
                return None
            case _:
                return self._dice.word()

    def _resolved(self, schema: Json) -> Json:
        for _ in range(16):
            reference = schema.get("$ref")
            if not isinstance(reference, str):
                return schema
            target: Any = self._root
            for step in reference.lstrip("#").strip("/").split("/"):
                if step and isinstance(target, dict):
                    target = target.get(step.replace("~1", "/").replace("~0", "~"))
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**target, **rest} if isinstance(target, dict) else rest
        return schema

    def _merged(self, schema: Json) -> Json:
        parts = schema.get("allOf")
        if not parts:
            return schema
        merged: Json = {key: value for key, value in schema.items() if key != "allOf"}
        for part in parts:
            for key, value in self._merged(self._resolved(part)).items():
                if key == "properties":
                    merged["properties"] = {**merged.get("properties", {}), **value}
                elif key == "required":
                    merged["required"] = [*merged.get("required", []), *value]
                else:
                    merged.setdefault(key, value)
        return merged

    def _from_enum(self, values: list[Any]) -> Any:
        for value in values:
            if isinstance(value, str) and value and value.lower() in self._hint:
                return value
        return self._dice.pick(values)

    def _branch(self, branches: list[Any], depth: int) -> Any:
        if depth >= _DEPTH:
            flat = [branch for branch in branches if self._is_flat(branch)]
            if flat:
                return flat[0]
        return self._dice.pick(branches)

    def _is_flat(self, branch: Any) -> bool:
        return isinstance(branch, dict) and str(branch.get("type", "")).lower() not in {"", "object", "array"}

    def _kind(self, schema: Json, depth: int) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            kinds = [str(item).lower() for item in kind]
            if depth >= _DEPTH and "null" in kinds:
                return "null"
            kind = self._dice.pick([item for item in kinds if item != "null"] or ["null"])
        if kind is None:
            kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
        kind = str(kind).lower()
        if schema.get("nullable") and (depth >= _DEPTH or self._dice.below(8) == 0):
            return "null"
        return kind

    def _object(self, schema: Json, depth: int) -> Json:
        required = set(schema.get("required", ()))
        made: Json = {}
        for name, inner in schema.get("properties", {}).items():
            if depth >= _DEPTH and name not in required:
                continue
            made[name] = self.make(inner, depth + 1)
        for name in required - made.keys():
            made[name] = self.make(schema.get("additionalProperties", True), depth + 1)
        while len(made) < int(schema.get("minProperties", 0)):
            made[f"{self._dice.word()}_{len(made)}"] = self.make(schema.get("additionalProperties", True), depth + 1)
        return made

    def _array(self, schema: Json, depth: int) -> list[Any]:
        made = [self.make(inner, depth + 1) for inner in schema.get("prefixItems", ())]
        low = int(schema.get("minItems", 0))
        high = int(schema.get("maxItems", low + 3))
        wanted = low if depth >= _DEPTH else self._dice.between(max(low, min(1, high)), max(low, min(high, low + 2)))
        items = schema.get("items", True)
        if items is False:
            return made
        for _ in range(64):
            if len(made) >= wanted:
                break
            value = self.make(items, depth + 1)
            if not (schema.get("uniqueItems") and value in made):
                made.append(value)
        return made

    def _string(self, schema: Json) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = " ".join(self._dice.word() for _ in range(self._dice.between(1, 4)))
        low = int(schema.get("minLength", 0))
        while len(text) < low:
            text += f" {self._dice.word()}"
        high = schema.get("maxLength")
        return text[: int(high)] if high is not None else text

    def _number(self, schema: Json, *, whole: bool) -> int | float:
        step = schema.get("multipleOf")
        low, high = schema.get("minimum"), schema.get("maximum")
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        if above is True or above is False:
            above, low = (low, None) if above else (None, low)
        if below is True or below is False:
            below, high = (high, None) if below else (None, high)
        unit = step or (1 if whole else 0.5)
        if low is None:
            low = above + unit if above is not None else None
        if high is None:
            high = below - unit if below is not None else None
        if low is None:
            low = high - 100 if high is not None else 0
        if high is None:
            high = low + 100
        if not whole and high - low < unit and not step:
            return float(low) if above is None else (float(above) + float(high)) / 2
        first = -(-low // unit)
        last = max(first, high // unit)
        value = unit * self._dice.between(int(first), int(last))
        return int(value) if whole else float(value)
