"""`ownkey init`, `serve`, `doctor`, `env`: this machine, its files and its settings."""

import logging
import os
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ownkey.cli import output
from ownkey.cli.checks import Check, ask_ready, run_checks
from ownkey.cli.connection import read_settings
from ownkey.cli.output import JsonFlag
from ownkey.cli.problems import CliError
from ownkey.cli.run_file import read_run_file
from ownkey.cli.start import START_ERRORS, address_problem, start_problem
from ownkey.cli.upgrades import UpgradeShown
from ownkey.settings.environment import VARIABLES
from ownkey.settings.folder import DATABASE_NAME
from ownkey.settings.product import PRESETS, Settings
from ownkey.settings.starter import write_config_text
from ownkey.vault.keyset import KeysetError, write_new_keyset

CONFIG_NAME = "ownkey.toml"
KEY_NAME = "master.key"
DATA_NAME = "data"
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"

PRESET_WORDS = {
    "support-desk": "customers' own keys only",
    "app-builder": "customers' own keys, and credits that the product sells",
}
PresetOption = Annotated[
    str | None, typer.Option(help="support-desk (customers' own keys only) or app-builder (also credits).")
]


def init(
    preset: PresetOption = None,
    folder: Annotated[Path, typer.Option("--dir", help="Where; made if it is missing.")] = Path("."),
    as_json: JsonFlag = False,
) -> None:
    """Write ownkey.toml, a data folder and a new master key. Never overwrites."""
    preset = _check_preset(preset)
    config, key, data = folder / CONFIG_NAME, folder / KEY_NAME, folder / DATA_NAME
    for path in (config, key):
        if path.exists():
            raise CliError(f"{path} exists and is not overwritten.",
                           "Use another folder with --dir, or go on with what is there: ownkey serve.", code="exists")
    if (data / DATABASE_NAME).exists():
        raise CliError(f"{data} holds a database already, and a new master key would not open what is sealed in it.",
                       "Restore its ownkey.toml and master.key, or use another folder with --dir.", code="exists")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        data.mkdir(mode=0o700, exist_ok=True)
        key_id = write_new_keyset(key)
        with open(config, "x", encoding="utf-8") as file:
            file.write(write_config_text(preset))
    except KeysetError as error:
        raise CliError(error.sentence, error.fix, code="master_key") from error
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
        if preset == "app-builder":
            output.say("  ownkey credential add openrouter --platform    # the key behind your credits")
        output.say('  ownkey workspace add "Acme"')
        output.say("  ownkey credential add openrouter")
        output.say("  ownkey token add")

    output.emit(made, as_json, human)


def _check_preset(preset: str | None) -> str:
    if preset is None:
        told = "; ".join(f"{name}: {words}" for name, words in PRESET_WORDS.items())
        raise CliError(f"Which product? There are two presets ({told}).",
                       f"Type one of: {', '.join(f'ownkey init --preset {name}' for name in PRESETS)}.")
    if preset not in PRESETS:
        raise CliError(f"There is no preset {preset[:40]!r}.", f"Use one of: {', '.join(PRESETS)}.")
    return preset


def serve() -> None:
    """Serve the AI endpoints and the management API until SIGTERM or Ctrl-C."""
    from ownkey import bootstrap

    settings = read_settings(os.environ)
    _refuse_second_server(settings)
    taken = address_problem(settings.server.host, settings.server.port)
    if taken is not None:
        raise taken
    # Ownkey's own lines; of the libraries', what somebody should look at.
    logging.basicConfig(level=logging.WARNING, format=LOG_FORMAT)
    logging.getLogger("ownkey").setLevel(logging.INFO)
    try:
        with UpgradeShown() as told:
            bootstrap.serve(settings, os.environ, told)
    except START_ERRORS as error:
        raise start_problem(error, settings) from error
    except SystemExit as ended:
        # uvicorn's way to say that it could not listen: somebody took the address since it was looked at.
        raise address_problem(settings.server.host, settings.server.port) or CliError(
            "The server ended while it was starting.", "See the log above; `ownkey doctor` checks this machine.",
            code="start",
        ) from ended


def _refuse_second_server(settings: Settings) -> None:
    """The folder's own server is the likeliest owner of the port: say so, rather than that the port is in use."""
    note = read_run_file(settings.server.data_dir)
    if note is not None and ask_ready(note.url)[0] == "ok":
        raise CliError(f"An Ownkey serves this folder already, at {note.url} (pid {note.pid}).",
                       "Use it, or stop it first; another folder needs its own OWNKEY_CONFIG and OWNKEY_PORT.",
                       code="running")


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
        well = "Nothing is broken; see the warnings." if warned else "All is well."
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
    output.emit({"variables": rows}, as_json, _show_variables)


def _show_variables(page: dict[str, Any]) -> None:
    """Two lines a variable, so that a path of any length has room and nothing is folded."""
    for row in page["variables"]:
        now = row["value"] or ("set, not shown" if row["set"] else f"not set: {row['default']}")
        output.say(f"{row['name']:<24}{now}")
        for line in textwrap.wrap(row["meaning"], 96):
            output.say(f"    {line}")


def demo(
    preset: Annotated[str, typer.Option(help="support-desk or app-builder.")] = "support-desk",
    once: Annotated[bool, typer.Option("--once", help="Play the scenes and stop, instead of staying up.")] = False,
) -> None:
    """See everything work in a minute: a server, played providers, failures, a cap, receipts. No key, no cost."""
    _check_preset(preset)
    try:
        from ownkey.cli.demo import run_demo
    except ImportError as error:
        raise CliError("The demo needs the openai package.", "Install it: pip install 'ownkey[demo]'.") from error
    run_demo(preset, once=once, console=Console())
