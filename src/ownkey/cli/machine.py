"""`ownkey init`, `serve`, `doctor`, `env`: this machine, its files and its settings."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ownkey.cli import output
from ownkey.cli.checks import Check, run_checks
from ownkey.cli.connection import read_settings
from ownkey.cli.output import JsonFlag
from ownkey.cli.problems import CliError
from ownkey.domain.errors import StoreError
from ownkey.settings.environment import VARIABLES
from ownkey.settings.product import PRESETS
from ownkey.settings.starter import write_config_text
from ownkey.vault.keyset import KeysetError, write_new_keyset

CONFIG_NAME = "ownkey.toml"
KEY_NAME = "master.key"
DATA_NAME = "data"


def init(
    preset: Annotated[str, typer.Option(help="support-desk (customers' own keys only) or app-builder (also credits).")],
    folder: Annotated[Path, typer.Option("--dir", help="Where; made if it is missing.")] = Path("."),
    as_json: JsonFlag = False,
) -> None:
    """Write ownkey.toml, a data folder and a new master key. Never overwrites."""
    if preset not in PRESETS:
        raise CliError(f"There is no preset {preset[:40]!r}.", f"Use one of: {', '.join(PRESETS)}.")
    config, key, data = folder / CONFIG_NAME, folder / KEY_NAME, folder / DATA_NAME
    for path in (config, key):
        if path.exists():
            raise CliError(f"{path} exists and is not overwritten.",
                           "Use another folder with --dir, or go on with what is there: ownkey serve.", code="exists")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        data.mkdir(mode=0o700, exist_ok=True)
        key_id = write_new_keyset(key)
        with open(config, "x", encoding="utf-8") as file:
            file.write(write_config_text(preset))
    except KeysetError as error:
        raise CliError(f"The master key was not written: {error}", "Choose a folder that you may write to.") from error
    except OSError as error:
        raise CliError(f"{folder} cannot be written: {error.strerror}.", "Choose another folder with --dir.") from error
    made = {"preset": preset, "config": str(config), "master_key_file": str(key), "master_key_id": key_id,
            "data_dir": str(data)}

    def human(row: dict[str, Any]) -> None:
        where = "" if folder in (Path("."), Path()) else f"cd {folder} && "
        output.say(f"Wrote {row['config']}, {row['master_key_file']} (readable by you only) and {row['data_dir']}/.")
        output.say("Keep a copy of the master key in another place: without it no saved key can be opened.")
        output.say("Next:")
        output.say(f"  {where}ownkey serve")
        output.say('  ownkey workspace add "Acme"')
        output.say("  ownkey credential add openrouter")
        output.say("  ownkey token add")

    output.emit(made, as_json, human)


def serve() -> None:
    """Serve the AI endpoints and the management API until SIGTERM or Ctrl-C."""
    from ownkey import bootstrap

    settings = read_settings(os.environ)
    try:
        bootstrap.serve(settings, os.environ)
    except KeysetError as error:
        raise CliError(
            f"The master key cannot be used: {error}",
            "Run `ownkey init` in a new folder, or set OWNKEY_MASTER_KEY_FILE.", code="master_key",
        ) from error
    except StoreError as error:
        raise CliError(f"The database cannot be opened: {error}",
                       "Only one process may own it: is another `ownkey serve` running?", code="database") from error
    except (ValueError, OSError) as error:
        raise CliError(f"Ownkey cannot start: {error}", "Run `ownkey doctor`.", code="start") from error


def doctor(as_json: JsonFlag = False) -> None:
    """Check configuration, master key, database, providers, clock, disk and port. Spends nothing."""
    found = run_checks(dict(os.environ))
    failed = any(check.state == "fail" for check in found)

    def human(rows: list[Check]) -> None:
        for check in rows:
            output.say(f"{check.state:<4}  {check.name:<22} {check.sentence}")
            if check.fix:
                output.say(f"      {'':<22} Fix: {check.fix}")
        warned = any(check.state == "warn" for check in rows)
        well = "It works; see the warnings." if warned else "All is well."
        output.say("Something needs to be fixed." if failed else well)

    if as_json:
        output.emit({"ok": not failed, "checks": [check.as_json() for check in found]}, True, lambda _: None)
    else:
        human(found)
    if failed:
        raise typer.Exit(1)


def env(as_json: JsonFlag = False) -> None:
    """List every environment variable, what it means and whether it is set."""
    rows: list[dict[str, Any]] = [
        {"name": v.name, "meaning": v.meaning, "default": v.default, "set": v.name in os.environ,
         "value": None if v.secret else os.environ.get(v.name)}
        for v in VARIABLES
    ]
    output.emit({"variables": rows}, as_json, lambda page: output.table(
        ("variable", "meaning", "without it", "now"),
        [(r["name"], r["meaning"], r["default"], r["value"] if r["value"] else ("set" if r["set"] else None))
         for r in page["variables"]],
        empty="",
    ))


def demo(
    preset: Annotated[str, typer.Option(help="support-desk or app-builder.")] = "support-desk",
    once: Annotated[bool, typer.Option("--once", help="Play the scenes and stop, instead of staying up.")] = False,
) -> None:
    """See everything work in a minute: a server, played providers, failures, a cap, receipts. No key, no cost."""
    if preset not in PRESETS:
        raise CliError(f"There is no preset {preset[:40]!r}.", f"Use one of: {', '.join(PRESETS)}.")
    try:
        from ownkey.cli.demo import run_demo
    except ImportError as error:
        raise CliError("The demo needs the openai package.", "Install it: pip install 'ownkey[demo]'.") from error
    run_demo(preset, once=once, console=Console())
