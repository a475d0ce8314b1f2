"""The management API described for machines (OpenAPI 3.1), generated from the route table and the schemas.

What is described is what runs: there is no second list to forget.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

import ownkey
from ownkey.api.manage_call import ManageRoute
from ownkey.api.manage_schemas import ErrorOut

_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)\}")

_PATH_WORDS = {
    "workspace": "The workspace's id, or (for service tokens) your own external id.",
    "member": "Your own id for the person.",
    "project": "Your own id for the project.",
    "token": "The token's id (not its secret).",
    "provider": "openrouter, anthropic, openai or google.",
    "task": "A task of the product.",
    "receipt": "A receipt's id.",
    "work": "The id of a piece of work.",
    "backup": "A backup's name, as the list of backups shows it.",
    "reading": "A reading's number, as the list of readings shows it.",
    "session": "The session's id (not its secret).",
    "operator": "The operator's e-mail address or id.",
    "row": "The message's id, from the list.",
    "event": "The event's id at Stripe.",
    "conversation": "The conversation's id, as the calls named it.",
}


def describe_api(routes: Sequence[ManageRoute], prefix: str) -> dict[str, Any]:
    """The whole document, deterministic."""
    types: list[Any] = [ErrorOut]
    for route in routes:
        for kind in (route.body, route.query, route.answer):
            if kind is not None and kind not in types:
                types.append(kind)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(prefix + route.path, {})[route.method.lower()] = _operation(route, by_type, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ownkey management API",
            "version": ownkey.__version__,
            "description": (
                "Workspaces, keys, caps, credits and receipts. Amounts are decimal strings. Mutations accept an "
                "Idempotency-Key header: the same request again gets the stored answer, a different one 422."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An access token, ok_…"}
            },
            "schemas": {name: components[name] for name in sorted(components)},
        },
    }


def _operation(route: ManageRoute, by_type: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": _PATH_WORDS[name]}
        for name in _PARAMETER.findall(route.path)
    ]
    parameters += _query_parameters(route, components)
    if route.method != "GET":
        parameters.append({
            "name": "Idempotency-Key", "in": "header", "required": False,
            "schema": {"type": "string", "maxLength": 200},
            "description": "Any text of yours; kept for 24 hours.",
        })
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "description": f"Needs the right `{route.right}` on: {route.subject}.",
        "tags": [route.owner],
        "parameters": parameters,
        "responses": {
            str(route.status): {
                "description": "Done.",
                "content": {route.media.partition(";")[0]: {"schema": by_type[repr(route.answer)]}},
            },
            "default": {
                "description": "Not done: code, sentence and fix.",
                "content": {"application/json": {"schema": by_type[repr(ErrorOut)]}},
            },
        },
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": by_type[repr(route.body)]}},
        }
    return operation


def _query_parameters(route: ManageRoute, components: dict[str, Any]) -> list[dict[str, Any]]:
    schema = components[route.query.__name__]
    required = schema.get("required", [])
    found = []
    for name, field in schema.get("properties", {}).items():
        parameter = {"name": name, "in": "query", "required": name in required, "schema": field}
        if "description" in field:
            parameter["description"] = field["description"]
        found.append(parameter)
    return found
