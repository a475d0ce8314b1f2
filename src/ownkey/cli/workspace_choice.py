"""Which workspace a command is about: the named one, or the only one there is."""

from typing import Any

from ownkey.cli.connection import Connection, segment
from ownkey.cli.problems import CliError


def choose_workspace(api: Connection, named: str | None) -> str:
    """The path of the workspace, `/workspaces/…`. Raises CliError with what to type."""
    if named:
        return f"/workspaces/{segment(named)}"
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
