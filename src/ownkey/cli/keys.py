"""`ownkey credential`: provider keys, read from a hidden prompt or standard input and never from an argument."""

import getpass
import sys
from typing import Annotated, Any

import typer

from ownkey.cli import output
from ownkey.cli.connection import Connection, segment
from ownkey.cli.output import JsonFlag, WorkspaceOption
from ownkey.cli.people import confirm
from ownkey.cli.problems import CliError
from ownkey.cli.workspace_choice import choose_workspace
from ownkey.domain.scrub import looks_like_secret

credential_app = typer.Typer(no_args_is_help=True, help="Provider keys: save, test, switch, destroy.")

Provider = Annotated[str, typer.Argument(help="openrouter, anthropic, openai or google.")]
AlsoFlag = Annotated[
    bool, typer.Option("--also-turn-off-always", help="Turn Always use this key off with it: credits pay then.")
]
PlatformFlag = Annotated[bool, typer.Option("--platform", help="The platform's own key, which credits pay for.")]
# Nobody should type a key. What is typed behind the provider is taken all the same (and shown in no help), so that
# whoever does is told what to do, and nothing is printed back.
_TAKES_MORE = {"allow_extra_args": True}
KeyOption = Annotated[str | None, typer.Option("--key", "--api-key", hidden=True)]

MAX_PASTED = 8_192


def refuse_key_argument(provider: str, *typed: str | None) -> None:
    """A key on the command line is in the shell's history and in the process list: refuse, and repeat nothing."""
    if any(text is not None for text in typed) or looks_like_secret(provider):
        raise CliError(
            "A key is never given as an argument: the shell's history and the process list would keep it.",
            "Run the command without it and paste the key at the prompt, or pipe it: "
            "ownkey credential add openrouter < key.txt. If the key was typed here, replace it at the provider.",
            code="key_in_argument",
        )


def read_key(provider: str) -> str:
    """The key from a hidden prompt, or from standard input where there is no terminal."""
    typed = sys.stdin.isatty()
    key = getpass.getpass(f"{provider} API key (hidden): ") if typed else sys.stdin.read(MAX_PASTED).rstrip("\r\n")
    if not key.strip():
        raise CliError("No key was given.", "Paste it at the prompt, or pipe it into the command.")
    return key


def _base(api: Connection, workspace: str | None, platform: bool) -> str:
    if platform:
        return "/platform/credentials"
    return f"{choose_workspace(api, workspace)}/credentials"


@credential_app.command("list")
def list_credentials(
    workspace: WorkspaceOption = None, platform: PlatformFlag = False, as_json: JsonFlag = False
) -> None:
    """List keys by their hints, and say who pays now."""
    with Connection() as api:
        found = api.manage("GET", _base(api, workspace, platform))

    def human(page: dict[str, Any]) -> None:
        output.say(page["payer_sentence"])
        output.table(
            ("provider", "state", "key", "label", "health", "version"),
            [(c["provider"], c["state"], c["hint"], c["label"], c["health"], c["version"])
             for c in page["credentials"]],
            empty="No keys.",
        )
        for card in page["credentials"]:
            if card["state"] != "empty" and (card["state"] != "connected" or card["health"] == "unknown"):
                output.say(f"! {card['provider']}: {card['sentence']}")

    output.emit(found, as_json, human)


@credential_app.command("incidents")
def list_incidents(
    workspace: WorkspaceOption = None, platform: PlatformFlag = False, as_json: JsonFlag = False
) -> None:
    """List keys that stopped working: why, since when, and until when."""
    with Connection() as api:
        base = _base(api, workspace, platform).removesuffix("/credentials")
        found = api.manage("GET", f"{base}/incidents")

    def human(page: dict[str, Any]) -> None:
        output.table(
            ("provider", "key", "cause", "signal", "since", "until"),
            [(i["provider"], i["hint"], i["cause"], i["signal"], i["opened_at"], i["closed_at"] or "open")
             for i in page["incidents"]],
            empty="No incidents.",
        )
        for incident in page["incidents"]:
            if incident["closed_at"] is None:
                output.say(f"! {incident['sentence']}")

    output.emit(found, as_json, human)


@credential_app.command("add", context_settings=_TAKES_MORE)
def add_credential(
    context: typer.Context,
    provider: Provider = "openrouter",
    label: Annotated[str, typer.Option(help="What people call this key.")] = "",
    save_anyway: Annotated[
        bool, typer.Option("--save-anyway", help="Store it unverified if the provider is down.")
    ] = False,
    workspace: WorkspaceOption = None,
    platform: PlatformFlag = False,
    key_option: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Save or replace a key. It is checked with the provider, sealed, and never shown again."""
    refuse_key_argument(provider, *context.args, key_option)
    with Connection() as api:
        base = _base(api, workspace, platform)
        body = {"key": read_key(provider), "label": label, "save_anyway": save_anyway}
        saved = api.manage("PUT", f"{base}/{segment(provider)}", body)

    def human(row: dict[str, Any]) -> None:
        output.say(row["message"])
        if row["cleaned"]:
            output.say(f"Taken off the pasted text: {', '.join(row['cleaned'])}.")
        if row["warning"]:
            output.say(f"! {row['warning']}")
        output.say(row["payer_sentence"])

    output.emit(saved, as_json, human)


@credential_app.command("test", context_settings=_TAKES_MORE)
def check_credential(
    context: typer.Context,
    provider: Provider = "openrouter",
    typed: Annotated[bool, typer.Option("--typed", help="Test a key that is not saved, from prompt or stdin.")] = False,
    workspace: WorkspaceOption = None,
    platform: PlatformFlag = False,
    key_option: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Test the saved key (or --typed: another one) with a live call. Nothing is stored. Exit 0: it works, or works for
    some tasks; 1: it does not work, has no money behind it, or could not be tested."""
    refuse_key_argument(provider, *context.args, key_option)
    with Connection() as api:
        base = _base(api, workspace, platform)
        body = {"key": read_key(provider)} if typed else {}
        found = api.manage("POST", f"{base}/{segment(provider)}/test", body)
    output.emit(found, as_json, show_test)
    if found["outcome"] not in ("works", "restricted"):
        raise typer.Exit(1)


def show_test(row: dict[str, Any]) -> None:
    """What a Test found."""
    output.say(f"{row['outcome']}: {row['sentence']}")
    if row["fix"]:
        output.say(f"Fix: {row['fix']}")
    if row["reach"]:
        output.table(("task", "model", "reach", "reason"),
                     [(r["task"], r["model"], r["state"], r["reason"]) for r in row["reach"]], empty="")
    output.fields({
        "paid call": row["paid_call"], "cost": f"US${row['cost_usd']}" if row["cost_usd"] else None,
        "key's limit left": f"US${row['limit_left_usd']}" if row["limit_left_usd"] else None,
        "limit resets": row["limit_reset"], "key expires": row["expires_at"],
        "receipt": row["receipt"],
    })


@credential_app.command("enable")
def enable_credential(
    provider: Provider = "openrouter",
    workspace: WorkspaceOption = None,
    platform: PlatformFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Use the kept key again."""
    _switch(provider, "enable", workspace, platform, as_json)


@credential_app.command("disable")
def disable_credential(
    provider: Provider = "openrouter",
    also_turn_off_always: AlsoFlag = False,
    workspace: WorkspaceOption = None,
    platform: PlatformFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Keep the key encrypted and do not use it."""
    body = {"also_turn_off_always": True} if also_turn_off_always else {}
    _switch(provider, "disable", workspace, platform, as_json, body)


def _switch(
    provider: str, action: str, workspace: str | None, platform: bool, as_json: bool,
    body: dict[str, bool] | None = None,
) -> None:
    refuse_key_argument(provider)
    with Connection() as api:
        done = api.manage("POST", f"{_base(api, workspace, platform)}/{segment(provider)}/{action}", body or {})
    output.emit(done, as_json, _show_changed)


@credential_app.command("remove")
def remove_credential(
    provider: Provider = "openrouter",
    acknowledge_ai_stops: Annotated[
        bool, typer.Option("--acknowledge-ai-stops", help="Needed while Always use this key is on: AI will stop.")
    ] = False,
    also_turn_off_always: AlsoFlag = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    workspace: WorkspaceOption = None,
    platform: PlatformFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Disconnect: destroy the key. Cannot be undone; disable keeps it."""
    refuse_key_argument(provider)
    confirm(yes, f"Destroy the {provider} key? `ownkey credential disable` would keep it.")
    with Connection() as api:
        done = api.manage("DELETE", f"{_base(api, workspace, platform)}/{segment(provider)}",
                          acknowledge_ai_stops=True if acknowledge_ai_stops else None,
                          also_turn_off_always=True if also_turn_off_always else None)
    output.emit(done, as_json, _show_changed)


def _show_changed(row: dict[str, Any]) -> None:
    output.say(row["message"])
    output.say(row["payer_sentence"])
