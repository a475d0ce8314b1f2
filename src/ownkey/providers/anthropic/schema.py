"""JSON schemas as Claude's structured outputs take them: the same constraints, or refused, never fewer.

Sources: platform.claude.com, "Structured outputs" (supported JSON Schema); the official SDK's own reduction. The
SDK moves what is not supported into descriptions; here that is refused, because the caller counts on it.
"""

import re
from collections.abc import Mapping
from typing import Any

from ownkey.domain.conversation import Untranslatable
from ownkey.providers.json_schema import ANNOTATIONS, refuse_recursion

_KEPT = frozenset({"title", "description", "default", "type", "enum", "const"})
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
# Look-around, back references and word boundaries are not supported in patterns.
_PATTERN_TOO_RICH = re.compile(r"\(\?[=!<]|\\[1-9bB]|\\[pP]\{")


def reduce_schema(schema: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The schema in Claude's subset. `what` names the parameter in the Untranslatable that it may raise."""
    refuse_recursion(schema, what)
    return _reduce(schema, what)


def _reduce(schema: Any, what: str) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        raise Untranslatable(what, "a schema that is not an object")
    reduced: dict[str, Any] = {}
    for key, value in schema.items():
        match key:
            case _ if key in ANNOTATIONS:
                continue
            case _ if key in _KEPT:
                reduced[key] = value
            case "properties" | "$defs" | "definitions" if isinstance(value, Mapping):
                reduced[key] = {name: _reduce(child, what) for name, child in value.items()}
            case "items":
                reduced[key] = _reduce(value, what)
            case "anyOf" | "allOf" if isinstance(value, list):
                reduced[key] = [_reduce(child, what) for child in value]
            case "required" if isinstance(value, list):
                reduced[key] = value
            case "$ref" if isinstance(value, str) and value.startswith("#"):
                reduced[key] = value
            case "additionalProperties" if value is False:
                reduced[key] = value
            case "minItems" if value in (0, 1):
                reduced[key] = value
            case "format" if isinstance(value, str) and value in _FORMATS:
                reduced[key] = value
            case "pattern" if isinstance(value, str) and not _PATTERN_TOO_RICH.search(value):
                reduced[key] = value
            case _:
                raise Untranslatable(what, f"the schema keyword {key} is not enforced by the provider")
    return _close_object(reduced, what)


def _close_object(schema: dict[str, Any], what: str) -> dict[str, Any]:
    """Claude demands closed objects. Closing one that names its properties narrows it; a free map cannot be."""
    kind = schema.get("type")
    is_object = kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema
    if is_object and "additionalProperties" not in schema:
        if not schema.get("properties"):
            raise Untranslatable(what, "an object with free keys cannot be enforced by the provider")
        schema["additionalProperties"] = False
    return schema
