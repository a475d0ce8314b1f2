"""`ownkey workspace`, `project`, `member`, `token`: whom the product serves and who may call."""

from typing import Annotated, Any

import typer

from ownkey.cli import output
from ownkey.cli.connection import Connection, segment
from ownkey.cli.output import JsonFlag, WorkspaceOption
from ownkey.cli.problems import CliError
from ownkey.cli.workspace_choice import choose_workspace

workspace_app = typer.Typer(no_args_is_help=True, help="Workspaces: the customers of your product.")
project_app = typer.Typer(no_args_is_help=True, help="Projects: what calls are grouped by.")
member_app = typer.Typer(no_args_is_help=True, help="Members: owners and admins get the alerts.")
token_app = typer.Typer(no_args_is_help=True, help="Access tokens: who may call.")

WorkspaceName = Annotated[
    str | None, typer.Argument(help="The workspace's id, your own id or its name. Not needed if only one.")
]


def _show_workspace(row: dict[str, Any]) -> None:
    output.fields({
        "workspace": row["id"], "your id": row["external_id"], "name": row["name"], "plan": row["plan"] or None,
        "status": row["status"], "months in": row["timezone"], "own keys": row["entitlement"],
        "always use key": "on" if row["always_use_key"] else "off",
        "credits if key fails": "on" if row["credits_if_key_fails"] else "off",
        "limit in credits": row["credits_if_key_fails_limit"], "if a direct key fails": row["on_direct_auth_failure"],
    })


@workspace_app.command("add")
def add_workspace(
    name: Annotated[str, typer.Argument(help="What people call this customer.")],
    external_id: Annotated[str, typer.Option("--external-id", "-x", help="Your own id for this customer.")] = "",
    plan: Annotated[str, typer.Option(help="A plan of the product.")] = "",
    timezone: Annotated[str, typer.Option(help="IANA zone in which months are counted.")] = "UTC",
    as_json: JsonFlag = False,
) -> None:
    """Create a workspace."""
    with Connection() as api:
        made = api.manage("POST", "/workspaces", {
            "name": name, "external_id": external_id, "plan": plan, "timezone": timezone,
        })
    def human(row: dict[str, Any]) -> None:
        _show_workspace(row)
        output.say(f"Next: ownkey credential add openrouter --workspace {row['external_id']}")

    output.emit(made, as_json, human)


@workspace_app.command("list")
def list_workspaces(
    after: Annotated[str | None, typer.Option(help="Continue behind this id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List workspaces."""
    with Connection() as api:
        found = api.manage("GET", "/workspaces", after=after, limit=limit)
    output.emit(found, as_json, lambda page: output.table(
        ("workspace", "your id", "name", "plan", "own keys", "always", "status"),
        [(w["id"], w["external_id"], w["name"], w["plan"], w["entitlement"], w["always_use_key"], w["status"])
         for w in page["workspaces"]],
        empty="No workspaces yet. Make one: ownkey workspace add \"Acme\".",
    ))


@workspace_app.command("show")
def show_workspace(workspace: WorkspaceName = None, as_json: JsonFlag = False) -> None:
    """Show a workspace, and whether its AI is on."""
    with Connection() as api:
        path = choose_workspace(api, workspace)
        found = {**api.manage("GET", path), "ai": api.manage("GET", f"{path}/status")}

    def human(row: dict[str, Any]) -> None:
        _show_workspace(row)
        output.fields({"ai": f"{row['ai']['headline']}. {row['ai']['sentence']}"})
        for line in row["ai"]["attention"]:
            output.say(f"! {line}")
        if row["ai"]["fix"]:
            output.say(f"Fix: {row['ai']['fix']['text']}")

    output.emit(found, as_json, human)


def _switch(param: str, value: str | None) -> bool | None:
    if value is None:
        return None
    if value.lower() in ("on", "yes", "true"):
        return True
    if value.lower() in ("off", "no", "false"):
        return False
    raise CliError(f"{param} is switched on or off, not {value[:20]!r}.", f"Write {param} on, or {param} off.")


@workspace_app.command("set")
def set_workspace(
    workspace: WorkspaceName = None,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    plan: Annotated[str | None, typer.Option(help="Another plan.")] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA zone, from the next period on.")] = None,
    always_use_key: Annotated[str | None, typer.Option("--always-use-key", help="on: credits are never used.")] = None,
    credits_if_key_fails: Annotated[
        str | None, typer.Option("--credits-if-key-fails", help="on: credits pay where the key itself fails.")
    ] = None,
    credits_limit: Annotated[
        str | None, typer.Option("--credits-limit", help="Credits a month for that, or none.")
    ] = None,
    on_direct_auth_failure: Annotated[
        str | None, typer.Option("--on-direct-auth-failure", help="fallback or fail.")
    ] = None,
    status: Annotated[str | None, typer.Option(help="active or suspended.")] = None,
    entitlement: Annotated[str | None, typer.Option(help="Set the entitlement by hand: active, none, …")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Change a workspace's settings; what is not named stays."""
    changes: dict[str, Any] = {
        "name": name, "plan": plan, "timezone": timezone,
        "always_use_key": _switch("--always-use-key", always_use_key),
        "credits_if_key_fails": _switch("--credits-if-key-fails", credits_if_key_fails),
        "on_direct_auth_failure": on_direct_auth_failure, "status": status,
    }
    changes = {field: value for field, value in changes.items() if value is not None}
    if credits_limit is not None:
        changes["credits_if_key_fails_limit"] = _limit(credits_limit)
    if not changes and entitlement is None:
        raise CliError("Nothing to change was named.", "Name a setting, such as --always-use-key on; see --help.")
    with Connection() as api:
        path = choose_workspace(api, workspace)
        if entitlement is not None:
            api.manage("PUT", f"{path}/entitlement", {"entitlement": entitlement})
        row = api.manage("PATCH", path, changes) if changes else api.manage("GET", path)
    output.emit(row, as_json, _show_workspace)


def _limit(text: str) -> int | None:
    if text.lower() in ("none", ""):
        return None
    if not text.isascii() or not text.isdigit():
        raise CliError(f"--credits-limit is a whole number or none, not {text[:20]!r}.", "Write --credits-limit 500.")
    return int(text)


@workspace_app.command("delete")
def delete_workspace(
    workspace: Annotated[str, typer.Argument(help="The workspace's id or your own id; no name.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Destroy a workspace's keys; receipts and ledger stay. Cannot be undone."""
    confirm(yes, f"Destroy the keys of {workspace}? This cannot be undone.")
    with Connection() as api:
        # By id alone: a name may be another workspace's by the time that a script runs again.
        done = api.manage("DELETE", f"/workspaces/{segment(workspace)}")
    output.emit(done, as_json, lambda row: output.say(row["message"]))


def confirm(yes: bool, question: str) -> None:
    """Ask on a terminal; without one, demand --yes."""
    import sys

    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError("This cannot be undone, and there is nobody to ask.", "Add --yes if it is meant.")
    if not typer.confirm(question):
        raise CliError("Nothing was changed.", "", code="cancelled", exit_code=1)


@project_app.command("add")
def add_project(
    project: Annotated[str, typer.Argument(help="Your own id for the project.")],
    name: Annotated[str, typer.Option(help="What people call it; the id if left out.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Name a project. Calls may use any project; naming is for people."""
    with Connection() as api:
        path = choose_workspace(api, workspace)
        made = api.manage("PUT", f"{path}/projects/{segment(project)}", {"name": name or project})
    output.emit(made, as_json, lambda row: output.say(f"{row['project']}: {row['name']}"))


@project_app.command("list")
def list_projects(workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """List projects."""
    with Connection() as api:
        found = api.manage("GET", f"{choose_workspace(api, workspace)}/projects")
    output.emit(found, as_json, lambda page: output.table(
        ("project", "name"), [(p["project"], p["name"]) for p in page["projects"]], empty="No projects are named.",
    ))


@member_app.command("add")
def add_member(
    member: Annotated[str, typer.Argument(help="Your own id for the person.")],
    email: Annotated[str, typer.Option(help="Where alerts go.")],
    name: Annotated[str, typer.Option(help="What people call them.")] = "",
    role: Annotated[str, typer.Option(help="owner, admin, member or viewer.")] = "member",
    mute: Annotated[
        list[str] | None, typer.Option(help="No e-mails about this: spend or keys; repeat it. \"\" ends all muting.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Add or change a member."""
    with Connection() as api:
        path = choose_workspace(api, workspace)
        made = api.manage("PUT", f"{path}/members/{segment(member)}", {
            "email": email, "name": name, "role": role,
            **({} if mute is None else {"muted": [topic for topic in mute if topic]}),
        })
    output.emit(made, as_json, lambda row: output.say(f"{row['member']}: {row['email']}, {row['role']}"))


@member_app.command("list")
def list_members(workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """List members."""
    with Connection() as api:
        found = api.manage("GET", f"{choose_workspace(api, workspace)}/members")
    output.emit(found, as_json, lambda page: output.table(
        ("member", "e-mail", "name", "role", "muted"),
        [(m["member"], m["email"], m["name"], m["role"], m["muted"]) for m in page["members"]], empty="No members yet.",
    ))


@member_app.command("remove")
def remove_member(
    member: Annotated[str, typer.Argument(help="Your own id for the person.")],
    workspace: WorkspaceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove a member."""
    with Connection() as api:
        done = api.manage("DELETE", f"{choose_workspace(api, workspace)}/members/{segment(member)}")
    output.emit(done, as_json, lambda row: output.say(row["message"]))


ServiceFlag = Annotated[bool, typer.Option("--service", help="A service token: your backend's, for any workspace.")]


@token_app.command("add")
def add_token(
    label: Annotated[str, typer.Argument(help="What it is for.")] = "cli",
    service: ServiceFlag = False,
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", help="call, manage; repeat it. Service tokens get both.")
    ] = None,
    tasks: Annotated[list[str] | None, typer.Option("--task", help="Only this task; repeat it.")] = None,
    projects: Annotated[list[str] | None, typer.Option("--project", help="Only this project; repeat it.")] = None,
    expires: Annotated[str | None, typer.Option("--expires", help="RFC 3339, such as 2027-01-01T00:00:00Z.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make an access token. It is shown this once."""
    body = {
        "label": label, "scopes": scopes or (["call", "manage"] if service else ["call"]), "tasks": tasks or [],
        "projects": projects or [], "expires_at": expires,
    }
    with Connection() as api:
        path = "/service-tokens" if service else f"{choose_workspace(api, workspace)}/tokens"
        made = api.manage("POST", path, body)

    def human(row: dict[str, Any]) -> None:
        output.say(row["token"])
        output.say(f"Keep it now: it is not shown again. Its id is {row['row']['id']}.")

    output.emit(made, as_json, human)


@token_app.command("list")
def list_tokens(
    service: ServiceFlag = False, workspace: WorkspaceOption = None, as_json: JsonFlag = False
) -> None:
    """List tokens, without their secrets."""
    with Connection() as api:
        found = api.manage("GET", "/service-tokens" if service else f"{choose_workspace(api, workspace)}/tokens")
    output.emit(found, as_json, lambda page: output.table(
        ("token", "label", "ends in", "scopes", "tasks", "projects", "expires", "revoked"),
        [(t["id"], t["label"], t["last4"], t["scopes"], t["tasks"], t["projects"], t["expires_at"], t["revoked_at"])
         for t in page["tokens"]],
        empty="No tokens yet. Make one: ownkey token add.",
    ))


@token_app.command("revoke")
def revoke_token(
    token: Annotated[str, typer.Argument(help="The token's id (tok_…), not its secret.")],
    service: ServiceFlag = False,
    workspace: WorkspaceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Revoke a token for good."""
    if token.startswith("ok_"):
        raise CliError("That is a token's secret, not its id.", "Use the id that `ownkey token list` shows (tok_…).")
    with Connection() as api:
        base = "/service-tokens" if service else f"{choose_workspace(api, workspace)}/tokens"
        done = api.manage("DELETE", f"{base}/{segment(token)}")
    output.emit(done, as_json, lambda row: output.say(row["message"]))
