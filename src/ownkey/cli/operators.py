"""`ownkey operator`: who signs in to the console, and with which role."""

from typing import Annotated, Any

import typer

from ownkey.cli import output
from ownkey.cli.connection import Connection, segment
from ownkey.cli.output import JsonFlag
from ownkey.cli.people import confirm

operator_app = typer.Typer(no_args_is_help=True, help="Operators: who signs in to the console.")

Who = Annotated[str, typer.Argument(help="The operator's e-mail address, or id.")]


@operator_app.command("add")
def add(
    email: Annotated[str, typer.Argument(help="The person's e-mail address.")],
    role: Annotated[
        str, typer.Option(help="support (reads, explains, views as a workspace) or ops (everything).")
    ] = "support",
    name: Annotated[str, typer.Option(help="What colleagues call them.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Add an operator and print the one-time link that lets them choose a password and add an authenticator app."""
    with Connection() as api:
        made = api.manage("POST", "/operators", {"email": email, "role": role, "name": name})
    output.emit(made, as_json, _show_link)


@operator_app.command("list")
def list_operators(as_json: JsonFlag = False) -> None:
    """List operators."""
    with Connection() as api:
        found = api.manage("GET", "/operators")
    output.emit(found, as_json, lambda page: output.table(
        ("e-mail", "name", "role", "status", "signs in with", "recovery codes", "last sign-in"),
        [(o["email"], o["name"], o["role"], o["status"], o["signs_in_with"], o["recovery_codes_left"],
          o["last_sign_in_at"]) for o in page["operators"]],
        empty="No operators yet. Add one: ownkey operator add you@example.com --role ops",
    ))


@operator_app.command("role")
def set_role(
    operator: Who,
    role: Annotated[str, typer.Argument(help="support or ops.")],
    as_json: JsonFlag = False,
) -> None:
    """Change an operator's role. Their sessions end, so that no page goes on with the old one."""
    with Connection() as api:
        changed = api.manage("PUT", f"/operators/{segment(operator)}/role", {"role": role})
    output.emit(changed, as_json, _show)


@operator_app.command("disable")
def disable(operator: Who, as_json: JsonFlag = False) -> None:
    """Keep an operator out: sessions end at once, open links are void."""
    with Connection() as api:
        changed = api.manage("POST", f"/operators/{segment(operator)}/disable", {})
    output.emit(changed, as_json, _show)


@operator_app.command("enable")
def enable(operator: Who, as_json: JsonFlag = False) -> None:
    """Let a disabled operator in again, with the password and app that they had."""
    with Connection() as api:
        changed = api.manage("POST", f"/operators/{segment(operator)}/enable", {})
    output.emit(changed, as_json, _show)


@operator_app.command("reset")
def reset(
    operator: Who,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Forget password, app and recovery codes, end all sessions, and print a new one-time link."""
    confirm(yes, f"Forget the password and the app of {operator}, and end their sessions? This cannot be undone.")
    with Connection() as api:
        made = api.manage("POST", f"/operators/{segment(operator)}/reset", {})
    output.emit(made, as_json, _show_link)


def _show(operator: dict[str, Any]) -> None:
    output.say(f"{operator['email']}: {operator['role']}, {operator['status']}")


def _show_link(made: dict[str, Any]) -> None:
    _show(made["operator"])
    url = made["url"]
    if url is None:
        output.say("They sign in through the provider in [console.oidc]; the next sign-in counts as their first.")
        return
    output.say(url)
    output.say(f"Give it to them and to nobody else: it works once, until {made['expires_at']}; it is not shown again.")
    if url.startswith("/"):
        output.say("Put this server's address in front. Set public_url in [connect] of ownkey.toml to get whole links.")
