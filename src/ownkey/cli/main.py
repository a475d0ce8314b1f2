"""`ownkey`: the operator's door. Every command works on the HTTP API; every error is a sentence with its fix."""

import json
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated

import typer

import ownkey
from ownkey.cli import figures, machine
from ownkey.cli.backup import backup_app
from ownkey.cli.billing import billing_app
from ownkey.cli.connect import connect_app
from ownkey.cli.figures import cap_app, credits_app, feature_app
from ownkey.cli.keys import credential_app
from ownkey.cli.master_key import master_key_app
from ownkey.cli.notices import mail_app, outbox_app
from ownkey.cli.operators import operator_app
from ownkey.cli.people import member_app, project_app, token_app, workspace_app
from ownkey.cli.portal import portal_app
from ownkey.cli.problems import CliError
from ownkey.cli.reconcile import reconcile
from ownkey.cli.restore import restore
from ownkey.cli.work import export_app, replay, work_app
from ownkey.domain.scrub import scrub

# Typer carries its own copy of Click; this is the base of what a mistyped command raises.
_CLICK_ERROR: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"ownkey {ownkey.__version__}\n")
        raise typer.Exit(0)


def make_app() -> typer.Typer:
    """The tree of commands."""
    app = typer.Typer(
        name="ownkey", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
        help="Ownkey: the BYOK (bring your own key) layer of your SaaS product.",
    )

    @app.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        """Ownkey: the BYOK (bring your own key) layer of your SaaS product."""

    app.command("init")(machine.init)
    app.command("serve")(machine.serve)
    app.command("demo")(machine.demo)
    app.command("doctor")(machine.doctor)
    app.add_typer(workspace_app, name="workspace")
    app.add_typer(project_app, name="project")
    app.add_typer(member_app, name="member")
    app.add_typer(token_app, name="token")
    app.add_typer(portal_app, name="portal")
    app.add_typer(operator_app, name="operator")
    app.add_typer(master_key_app, name="master-key")
    app.add_typer(credential_app, name="credential")
    app.add_typer(connect_app, name="connect")
    app.add_typer(cap_app, name="cap")
    app.add_typer(feature_app, name="feature")
    app.add_typer(credits_app, name="credits")
    app.add_typer(billing_app, name="billing")
    app.add_typer(mail_app, name="mail")
    app.add_typer(outbox_app, name="outbox")
    app.add_typer(backup_app, name="backup")
    app.command("restore")(restore)
    app.add_typer(work_app, name="work")
    app.add_typer(export_app, name="export")
    app.command("replay")(replay)
    app.command("receipts")(figures.list_receipts)
    app.command("why")(figures.why)
    app.command("explain")(figures.explain)
    app.command("verify")(figures.verify)
    app.command("reconcile")(reconcile)
    app.command("prices")(figures.prices)
    app.command("openapi")(figures.openapi)
    app.command("env")(machine.env)
    return app


@cache
def _commands() -> Callable[..., object]:
    """The tree, made once a process: building it takes longer than most commands."""
    return typer.main.get_command(make_app())


def run(arguments: Sequence[str]) -> int:
    """One command; returns its exit code. Nothing but an interrupt leaves this function as an exception."""
    as_json = "--json" in arguments
    try:
        outcome = _commands()(args=list(arguments), prog_name="ownkey", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except CliError as error:
        _tell(error, as_json)
        return error.exit_code
    except typer.Exit as done:
        return done.exit_code
    except typer.Abort:
        _tell(CliError("Stopped; nothing was sent.", code="cancelled"), as_json)
        return 1
    except _CLICK_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(f"{error}\n")
            return 2
        message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
        end = "" if message.endswith(("?", ".")) else "."
        _tell(CliError(f"{message}{end}", "See `ownkey --help`, or --help behind the command."), as_json)
        return 2
    except BrokenPipeError:
        return 1
    except Exception as error:  # noqa: BLE001 - a bug is told like any error; a traceback could show what it held
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename.rpartition('ownkey/')[2]}:{place.lineno}"
        _tell(CliError(f"Something broke inside ownkey: {type(error).__name__} at {where}.",
                       "Please report it with the command that you typed.", code="internal_error"), as_json)
        return 70


def _tell(error: CliError, as_json: bool) -> None:
    """An error on stderr. Whatever it repeats of the command line has passed the scrubber."""
    if as_json:
        sys.stderr.write(scrub(json.dumps(error.as_json(), ensure_ascii=False))[0] + "\n")
        return
    text = error.message if not error.fix else f"{error.message}\nFix: {error.fix}"
    if str(error.more.get("url", "")).startswith("http"):
        text += f"\nPage: {error.more['url']}"
    sys.stderr.write(scrub(text)[0] + "\n")


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
