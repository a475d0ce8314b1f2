"""`ownkey reconcile`: OpenRouter's own figure for each key, compared with what is booked on it."""

from typing import Annotated, Any

import typer

from ownkey.cli import output
from ownkey.cli.connection import Connection, segment
from ownkey.cli.keys import PlatformFlag
from ownkey.cli.output import JsonFlag
from ownkey.cli.problems import CliError
from ownkey.cli.workspace_choice import all_workspaces, choose_workspace

_NOTHING_TO_ASK = frozenset({"not_found", "conflict"})


def reconcile(
    workspace: Annotated[
        str | None, typer.Argument(help="The workspace's id, your own id or its name; none: all.")
    ] = None,
    platform: PlatformFlag = False,
    accept: Annotated[
        int | None, typer.Option(help="The reading whose drift you have looked into; needs --reason.")
    ] = None,
    reason: Annotated[str, typer.Option(help="With --accept: what you found.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Compare the books with OpenRouter's own figures. Exit 0: nothing is missing; 1: drift; 2: not all were read."""
    if workspace and platform:
        raise CliError("A workspace and --platform are two different keys.", "Name one of them.")
    with Connection() as api:
        if accept is not None:
            _accept(api, _one(api, workspace, platform), accept, reason, as_json)
            return
        bases = [_one(api, workspace, platform)] if workspace or platform else _all(api)
        rows = [_read(api, base, must=bool(workspace or platform)) for base in bases]
    output.emit({"keys": [row for row in rows if row is not None]}, as_json, _show)
    if any(row is not None and row["problem"] for row in rows):
        raise typer.Exit(2)
    if any(row is not None and row["reading"]["verdict"] == "drift" for row in rows):
        raise typer.Exit(1)


def _one(api: Connection, workspace: str | None, platform: bool) -> str:
    if platform:
        return "/platform"
    if not workspace:
        raise CliError("Which workspace's reading is it?", "Name the workspace, or say --platform.")
    return choose_workspace(api, workspace)


def _all(api: Connection) -> list[str]:
    return [f"/workspaces/{segment(row['id'])}" for row in all_workspaces(api)]


def _read(api: Connection, base: str, must: bool) -> dict[str, Any] | None:
    """One key's reading, or why there is none; None where there is no key to ask about and nobody named it."""
    name = base.rpartition("/")[2]
    try:
        return {"workspace": name, "reading": api.manage("POST", f"{base}/reconcile", {}), "problem": None}
    except CliError as error:
        if must:
            error.exit_code = 2
            raise
        if error.code in _NOTHING_TO_ASK:
            return None
        return {"workspace": name, "reading": None, "problem": error.message}


def _accept(api: Connection, base: str, reading: int, reason: str, as_json: bool) -> None:
    if not reason.strip():
        raise CliError("An accepted drift needs a reason.", 'Say what you found: --reason "…".')
    row = api.manage("POST", f"{base}/key-readings/{reading}/accept", {"reason": reason})
    output.emit(row, as_json, lambda kept: output.say(
        f"Reading {kept['id']} is accepted: US${kept['off_usd']} of drift, {kept['accepted_reason']}"
    ))


def _show(found: dict[str, Any]) -> None:
    if not found["keys"]:
        output.say("No workspace has an enabled OpenRouter key: there is nothing to compare.")
    for row in found["keys"]:
        reading = row["reading"]
        if reading is None:
            output.say(f"{row['workspace']}: {row['problem']}")
            continue
        output.say(f"{'DRIFT ' if reading['verdict'] == 'drift' else ''}{row['workspace']}: {reading['sentence']}")
        output.fields({
            "  since": reading["since"], "  read at": reading["read_at"], "  reading": reading["id"],
            "  limit": f"US${reading['limit_usd']}" if reading["limit_usd"] else None,
            "  left of it": f"US${reading['limit_left_usd']}" if reading["limit_left_usd"] else None,
            "  starts again": reading["limit_resets_at"],
        })
