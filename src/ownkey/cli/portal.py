"""`ownkey portal`: links to a workspace's pages for a try-out or for support, and the visits that are under way."""

from typing import Annotated, Any

import typer

from ownkey.cli import output
from ownkey.cli.connection import Connection, segment
from ownkey.cli.output import JsonFlag, WorkspaceOption
from ownkey.cli.problems import CliError
from ownkey.cli.workspace_choice import choose_workspace

portal_app = typer.Typer(
    no_args_is_help=True, help="The pages of a workspace's people: links, and the visits that they open."
)

WorkspaceName = Annotated[
    str | None, typer.Argument(help="The workspace's id, your own id or its name. Not needed if only one.")
]


@portal_app.command("link")
def link(
    workspace: WorkspaceName = None,
    email: Annotated[str, typer.Option(help="Whose visit it is; they become a member, and may get e-mails.")] = "",
    member: Annotated[str, typer.Option(help="Your own id for the person; the e-mail address if left out.")] = "",
    name: Annotated[str, typer.Option(help="The person's name.")] = "",
    role: Annotated[str, typer.Option(help="owner, admin, member or viewer.")] = "owner",
    frame: Annotated[
        bool, typer.Option("--frame/--page", help="A link for a frame, or for a page of its own.")
    ] = False,
    flow: Annotated[str, typer.Option(help="Where it leads, such as cap or credential:openrouter.")] = "",
    return_url: Annotated[str, typer.Option("--return-url", help="The page of your product to go back to.")] = "",
    ttl: Annotated[int | None, typer.Option(help="How many seconds the visit lasts.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Print a link to the pages for a try-out; it opens once, within a minute. Your backend mints its own."""
    if not email:
        raise CliError("The person's e-mail address is missing.", "Add --email ada@example.com.")
    wish = {
        "member": {"id": member or email, "email": email, "name": name}, "role": role,
        "mode": "frame" if frame else "page", "flow": flow, "return_url": return_url,
        **({} if ttl is None else {"ttl_s": ttl}),
    }
    with Connection() as api:
        made = api.manage("POST", f"{choose_workspace(api, workspace)}/portal-sessions", wish)
    output.emit(made, as_json, lambda row: _show_link(row, f"{email} is a member now, as {role}."))


@portal_app.command("view-as")
def view_as(workspace: WorkspaceName = None, as_json: JsonFlag = False) -> None:
    """Print a link to look at a workspace's pages as its owner does, without changing anything. It is audited."""
    with Connection() as api:
        made = api.manage("POST", f"{choose_workspace(api, workspace)}/portal-sessions/view-as", {})
    output.emit(made, as_json, lambda row: _show_link(row, "Read-only."))


@portal_app.command("sessions")
def list_sessions(workspace: WorkspaceName = None, as_json: JsonFlag = False) -> None:
    """List visits that are under way, and links that can still be opened."""
    with Connection() as api:
        found = api.manage("GET", f"{choose_workspace(api, workspace)}/portal-sessions")
    output.emit(found, as_json, lambda page: output.table(
        ("session", "who", "role", "mode", "opened", "ends"),
        [(s["session"], s["member"] if s["kind"] == "member" else f"{s['member']} (operator)", s["role"], s["mode"],
          s["entered_at"], s["expires_at"]) for s in page["sessions"]],
        empty="Nobody is looking.",
    ))


@portal_app.command("revoke")
def revoke(
    session: Annotated[str | None, typer.Argument(help="The session's id, from `ownkey portal sessions`.")] = None,
    member: Annotated[str | None, typer.Option(help="All sessions and links of this person.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """End a visit, or all of a person's, at once."""
    if (session is None) == (member is None):
        raise CliError("Name a session or a person.", "Write the session's id, or --member ID.")
    with Connection() as api:
        base = f"{choose_workspace(api, workspace)}/portal-sessions"
        if session is not None:
            done: Any = api.manage("DELETE", f"{base}/{segment(session)}")
        else:
            done = api.manage("DELETE", base, member=member)
    output.emit(done, as_json, lambda row: output.say(row["message"]))


def _show_link(row: dict[str, Any], told: str) -> None:
    output.say(row["url"])
    output.say(f"It opens once, until {row['code_expires_at']}; the visit ends at {row['session_expires_at']}. {told}")
