"""Facts about JSON schemas that hold for every provider that takes a subset of them."""

from collections.abc import Mapping
from typing import Any

from ownkey.domain.conversation import Untranslatable

# They describe and constrain nothing: leaving them out loosens nothing.
ANNOTATIONS = frozenset({"$schema", "$id", "$comment", "examples", "deprecated", "readOnly", "writeOnly", "strict"})
DEFINITIONS = ("$defs", "definitions")


def refuse_recursion(schema: Mapping[str, Any], what: str) -> None:
    """Raise Untranslatable for schemas whose definitions refer to themselves, directly or in a circle."""
    definitions: dict[str, Any] = {"#": schema}
    for home in DEFINITIONS:
        children = schema.get(home)
        if isinstance(children, Mapping):
            definitions |= {f"#/{home}/{name}": child for name, child in children.items()}
    edges = {name: _references(child, top=name == "#") for name, child in definitions.items()}
    done: set[str] = set()

    def visit(name: str, path: frozenset[str]) -> None:
        if name in path:
            raise Untranslatable(what, "a recursive schema cannot be enforced by the provider")
        if name in done or name not in edges:
            return
        for target in edges[name]:
            visit(target, path | {name})
        done.add(name)

    for name in edges:
        visit(name, frozenset())


def _references(node: Any, top: bool = False) -> set[str]:
    if isinstance(node, Mapping):
        found = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        for key, child in node.items():
            if not (top and key in DEFINITIONS):
                found |= _references(child)
        return found
    if isinstance(node, list):
        return {target for child in node for target in _references(child)}
    return set()
