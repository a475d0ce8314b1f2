"""Which workspace a command is about: the named one, by id or by a name that only one has, or the only one there is."""

from collections.abc import Iterator
from typing import Any

from ownkey.cli.connection import Connection, segment
from ownkey.cli.problems import CliError


def choose_workspace(api: Connection, named: str | None) -> str:
    """The path of the workspace, `/workspaces/…`. Raises CliError with what to type."""
    if named:
        return f"/workspaces/{segment(_find(api, named))}"
    try:
        found: list[dict[str, Any]] = api.manage("GET", "/workspaces", limit=10)["workspaces"]
    except CliError as error:
        own = (error.more.get("details") or {}).get("workspace")
        if own:  # A workspace token may not list; the refusal names the one that it is for.
            return f"/workspaces/{segment(own)}"
        raise
    if len(found) == 1:
        return f"/workspaces/{segment(found[0]['id'])}"
    if not found:
        raise CliError("There is no workspace yet.", "Make one: ownkey workspace add \"Acme\".", code="no_workspace")
    names = ", ".join(f"{row['external_id']} ({row['name']})" for row in found[:5])
    raise CliError(f"There is more than one workspace: {names}{' …' if len(found) > 5 else ''}.",
                   "Say which: --workspace ID.", code="which_workspace")


def all_workspaces(api: Connection) -> Iterator[dict[str, Any]]:
    """Every workspace, page by page."""
    after: str | None = None
    while True:
        page = api.manage("GET", "/workspaces", limit=200, after=after)
        yield from page["workspaces"]
        after = page["next_after"]
        if after is None:
            return


def _find(api: Connection, named: str) -> str:
    """What the server knows the workspace by: ids are its own matter, a name is looked up among all of them."""
    if named.startswith("ws_"):
        return named
    try:
        api.manage("GET", f"/workspaces/{segment(named)}")
    except CliError as error:
        if error.code == "unreachable":
            raise
        return _find_by_name(api, named, error) if error.code == "not_found" else named
    return named


def _find_by_name(api: Connection, named: str, unknown: CliError) -> str:
    """The id of the one workspace with this name. Raises CliError: none, or more than one."""
    try:
        found = [row for row in all_workspaces(api) if row["name"] == named]
    except CliError:  # A token that may not list knows its workspaces by their ids.
        raise unknown from None
    if len(found) == 1:
        return str(found[0]["id"])
    if found:
        ids = ", ".join(row["external_id"] for row in found[:5])
        raise CliError(f"{len(found)} workspaces are named {named[:80]}: {ids}{' …' if len(found) > 5 else ''}.",
                       "Say which by its id; ownkey workspace list shows them.", code="which_workspace")
    raise CliError(unknown.message, "Name its id, your own id or its exact name; ownkey workspace list shows them.",
                   code=unknown.code, exit_code=unknown.exit_code, more=unknown.more)
