"""Pages of lists, and `expand`: how one object or many leave the account.

Lists run from the newest to the oldest; `starting_after` and `ending_before` name an object of the list.
"""

import copy
from collections.abc import Callable

from .form import Form
from .refusals import Json, Refusal, invalid, missing
from .world import World, listed, range_ok

Includes = dict[tuple[str, str], Callable[[World, Json], Json]]


def page(items: list[Json], form: Form, url: str) -> Json:
    """One page. `items` come oldest first, already filtered."""
    limit = form.integer("limit", least=1, most=100) or 10
    after, before = form.text("starting_after"), form.text("ending_before")
    form.close()
    if after and before:
        raise invalid("You can only use one of starting_after and ending_before.", "starting_after")
    newest = list(reversed(items))
    ids = [item["id"] for item in newest]
    if after:
        rest = newest[_place(ids, after, "starting_after") + 1 :]
        return listed(rest[:limit], url, more=len(rest) > limit)
    if before:
        rest = newest[: _place(ids, before, "ending_before")]
        return listed(rest[-limit:], url, more=len(rest) > limit)
    return listed(newest[:limit], url, more=len(newest) > limit)


def _place(ids: list[str], ident: str, param: str) -> int:
    if ident not in ids:
        raise missing("object", ident, param, in_path=False)
    return ids.index(ident)


def created_in(form: Form, items: list[Json]) -> list[Json]:
    """The items inside the request's `created` bounds, a moment or gt, gte, lt, lte."""
    bounds: Json = {}
    try:
        section = form.section("created")
    except Refusal:  # a plain number is the other shape; anything else is refused there
        exact = form.integer("created")
        bounds = {"gte": exact, "lte": exact}
    else:
        for name in ("gt", "gte", "lt", "lte"):
            edge = section.integer(name) if section else None
            if edge is not None:
                bounds[name] = edge
    return [item for item in items if range_ok(item["created"], bounds)]


def where(items: list[Json], **wanted: object) -> list[Json]:
    """The items whose fields have the wanted values; None wants nothing."""
    return [item for item in items if all(value is None or item.get(name) == value for name, value in wanted.items())]


def expanded(world: World, thing: Json, paths: list[str], includes: Includes) -> Json:
    """A copy with the ids at `paths` replaced by their objects."""
    made = copy.deepcopy(thing)
    for path in paths:
        steps = path.split(".")
        if len(steps) > 4:
            raise invalid("You cannot expand more than 4 levels of a property.", "expand")
        _expand(world, made, steps, path, includes)
    return made


def _expand(world: World, node: object, steps: list[str], path: str, includes: Includes) -> None:
    if isinstance(node, list):
        for inner in node:
            _expand(world, inner, steps, path, includes)
        return
    if not steps or not isinstance(node, dict):
        return
    name, rest = steps[0], steps[1:]
    include = includes.get((str(node.get("object")), name))
    if include is not None and name not in node:
        node[name] = copy.deepcopy(include(world, node))
    if name not in node:
        raise invalid(f"This property cannot be expanded ({path}).", "expand")
    value = node[name]
    if isinstance(value, str):
        found = world.anything(value)
        if found is None:
            raise invalid(f"This property cannot be expanded ({path}).", "expand")
        node[name] = value = copy.deepcopy(found)
    elif isinstance(value, list) and value and all(isinstance(inner, str) for inner in value):
        node[name] = value = [copy.deepcopy(world.anything(inner)) or inner for inner in value]
    _expand(world, value, rest, path, includes)
