"""JSON schemas that OpenAI enforces: with `strict` it refuses others, and a refused call is not tried elsewhere.

Source: developers.openai.com, "Structured outputs" (supported schemas).
"""

from collections.abc import Mapping
from typing import Any

from ownkey.domain.conversation import Untranslatable
from ownkey.providers.json_schema import ANNOTATIONS, DEFINITIONS

_KEPT = frozenset(
    {
        "title", "description", "type", "enum", "const", "$ref", "pattern", "format", "multipleOf", "minimum",
        "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "additionalProperties", "required",
    }
)  # fmt: skip
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})


def strict_schema(schema: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The same schema without what says nothing. Raises Untranslatable for what strict mode refuses."""
    if schema.get("type") != "object":
        raise Untranslatable(what, "a strict schema is an object")
    return _strict(schema, what)


def _strict(schema: Any, what: str) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        raise Untranslatable(what, "a schema that is not an object")
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        match key:
            case _ if key in ANNOTATIONS:
                continue
            case "format" if not isinstance(value, str) or value not in _FORMATS:
                raise Untranslatable(what, f"the format {value} is not enforced by the provider")
            case _ if key in _KEPT:
                kept[key] = value
            case _ if (key == "properties" or key in DEFINITIONS) and isinstance(value, Mapping):
                kept[key] = {name: _strict(child, what) for name, child in value.items()}
            case "items":
                kept[key] = _strict(value, what)
            case "anyOf" if isinstance(value, list):
                kept[key] = [_strict(child, what) for child in value]
            case _:
                raise Untranslatable(what, f"the schema keyword {key} is not enforced by the provider")
    _check_object(kept, what)
    return kept


def _check_object(schema: Mapping[str, Any], what: str) -> None:
    kind = schema.get("type")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind) and "properties" not in schema:
        return
    if schema.get("additionalProperties") is not False:
        raise Untranslatable(what, "an object with free keys cannot be enforced by the provider")
    required, properties = schema.get("required") or [], schema.get("properties") or {}
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise Untranslatable(what, "the schema keyword required is not a list of names")
    if set(required) != set(properties):
        raise Untranslatable(what, "a strict object has no optional keys")
