"""`ownkey master-key`: the steps from an old master key to a new one, where the keyset's file is.

Every step is first asked of the server, which knows what each process has loaded and what hangs on which key; only then
the file is changed. No key is printed, but by `generate`.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ownkey.cli import output
from ownkey.cli.connection import Connection, named_place, read_settings
from ownkey.cli.output import JsonFlag
from ownkey.cli.people import confirm
from ownkey.cli.problems import CliError
from ownkey.cli.work import watch
from ownkey.settings.folder import MASTER_KEY_NAME
from ownkey.vault.keyset import FILE_VARIABLE, TEXT_VARIABLE, Keyset, KeysetError, generate_keyset_text
from ownkey.vault.keyset_file import KeysetFile

T = TypeVar("T")

master_key_app = typer.Typer(
    no_args_is_help=True, help="The master key: what it holds, and its rotation: add, promote, rewrap, retire."
)

KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY_ID", help="A key's id, as `ownkey master-key status` shows it.")
]


@master_key_app.command("status")
def status(as_json: JsonFlag = False) -> None:
    """Show each master key, how much hangs on it and which processes have it. Exit 1: something needs a look."""
    file = _find_file(os.environ, must=False)
    with Connection() as api:
        found = api.manage("GET", "/master-key")
    found["file"] = None if file is None else _in_file(file)
    output.emit(found, as_json, _show)
    if found["problems"] or any(key["differs"] for key in found["keys"]) or _closed(found):
        raise typer.Exit(1)


@master_key_app.command("add")
def add(as_json: JsonFlag = False) -> None:
    """Add a new random key to the file, below the others: it wraps nothing yet."""
    file = _must_find(os.environ)
    with Connection() as api:
        api.manage("GET", "/master-key")
        made = _change(file.add)
        found = api.manage("POST", "/master-key/reload", {})

    def human(row: dict[str, Any]) -> None:
        output.say(f"Added {made} to {file.path}. It is not the first key: nothing is wrapped with it yet.")
        output.say("Keep a copy of the file in another place, and put the same file beside every other process.")
        _say_loaded(row, made)
        output.say(f"Next: ownkey master-key promote {made}")

    output.emit({"added": made, **found}, as_json, human)


@master_key_app.command("promote")
def promote(key: KeyArgument, as_json: JsonFlag = False) -> None:
    """Make a key the first one: from then on it wraps new data keys. Refused until every process has it."""
    file = _must_find(os.environ, for_key=key)
    fingerprint = _read(file).fingerprints.get(key)
    if fingerprint is None:
        raise _no_such_key(file, key)
    with Connection() as api:
        # What was put into the file by hand a moment ago is loaded now.
        api.manage("POST", "/master-key/reload", {})
        api.manage("POST", "/master-key/promote", {"key": key, "fingerprint": fingerprint})
        moved = _change(lambda: file.promote(key), after=f"Every process has {key}: it may be made the first key.")
        found = api.manage("POST", "/master-key/reload", {})

    def human(row: dict[str, Any]) -> None:
        output.say(f"{key} is the first key of {file.path}{'' if moved else ' already'}.")
        _say_left(row)

    output.emit({"promoted": key, **found}, as_json, human)


@master_key_app.command("rewrap")
def rewrap(as_json: JsonFlag = False) -> None:
    """Move every data key to the first master key, while calls go on. Exit 1: some do not open, or it failed."""
    with Connection() as api:
        found = watch(api, "/work/", api.manage("POST", "/master-key/rewrap", {}), as_json=as_json)

    def human(row: dict[str, Any]) -> None:
        result = row["result"]
        if row["state"] != "done":
            output.say(row["words"])
            return
        output.say(f"{result['rewrapped']:,} data keys moved to {result['to']}; {result['left']:,} are left.")
        if result["undecryptable"]:
            output.say(f"{result['undecryptable']:,} do not open under any key here, and stay as they are: "
                       f"{', '.join(result['named'])}.")
            output.say("Restore the master key that they were sealed with, or their rows from a backup.")

    output.emit(found, as_json, human)
    if found["state"] != "done" or found["result"]["undecryptable"]:
        raise typer.Exit(1)


@master_key_app.command("retire")
def retire(
    key: KeyArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Take a key out of the file. Refused while anything hangs on it, or a process still wraps with it."""
    file = _must_find(os.environ, for_key=key)
    confirm(yes, f"Take {key} out of {file.path}? Backups made before the rewrap open with it only: keep a copy of the "
                 "key as long as you keep them.")
    with Connection() as api:
        api.manage("POST", "/master-key/retire", {"key": key})
        gone = _change(lambda: file.retire(key), after=f"Nothing hangs on {key} any more: its line may go.")
        found = api.manage("POST", "/master-key/reload", {})

    def human(row: dict[str, Any]) -> None:
        output.say(f"{key} is retired{f', and out of {file.path}' if gone else '; it was out of the file already'}.")
        output.say("Backups made before the rewrap open with it only: keep a copy as long as you keep them.")

    output.emit({"retired": key, **found}, as_json, human)


@master_key_app.command("reload")
def reload(as_json: JsonFlag = False) -> None:
    """Have the server read the keyset now; it also does by itself within seconds. Exit 1: it was refused."""
    with Connection() as api:
        found = api.manage("POST", "/master-key/reload", {})
    found["file"] = None
    output.emit(found, as_json, _show)
    if found["problems"]:
        raise typer.Exit(1)


@master_key_app.command("generate")
def generate(as_json: JsonFlag = False) -> None:
    """Print a new line with a random key, for a keyset that a secret store keeps. This is the only command that shows
    a key: keep it off screens and logs."""
    line = generate_keyset_text().strip()
    output.emit({"id": line.partition(":")[0], "line": line}, as_json, _write)


def _write(made: dict[str, str]) -> None:
    """Not through the printer for people: a line of a keyset is never folded."""
    sys.stdout.write(made["line"] + "\n")


# --- the file


def _find_file(environ: Mapping[str, str], *, must: bool) -> KeysetFile | None:
    """The keyset's file on this machine. Called before a connection is made: that may take a key out of `environ`."""
    if environ.get(TEXT_VARIABLE):
        if must:
            raise CliError(
                f"The keyset comes from {TEXT_VARIABLE}: there is no file here to change.",
                "Change it where that is set, then restart: `ownkey master-key generate` prints a new line. Put it "
                "last to add it, first to promote it.", code="master_key",
            )
        return None
    if named := environ.get(FILE_VARIABLE, "").strip():
        return KeysetFile(Path(named))
    # Beside a server that is named by its address there need not be a configuration.
    beside = None if named_place(environ) else read_settings(environ).config_path.parent / MASTER_KEY_NAME
    if beside is not None and beside.exists():
        return KeysetFile(beside)
    if must:
        raise CliError("There is no keyset's file on this machine.",
                       f"Run this where the file is, or set {FILE_VARIABLE} to it.", code="master_key")
    return None


def _must_find(environ: Mapping[str, str], for_key: str = "") -> KeysetFile:
    file = _find_file(environ, must=True)
    assert file is not None
    if not for_key:
        _change(file.check_writable)
    return file


def _read(file: KeysetFile) -> Keyset:
    try:
        return file.read()
    except KeysetError as error:
        raise _problem(error) from error


def _change(step: Callable[[], T], after: str = "") -> T:
    """`after`: what the server has allowed, for whoever has to do it elsewhere."""
    try:
        return step()
    except KeysetError as error:
        raise _problem(error, after) from error


def _problem(error: KeysetError, after: str = "") -> CliError:
    return CliError(f"{after} {error.sentence}".strip(), error.fix, code="master_key", exit_code=1)


def _no_such_key(file: KeysetFile, key: str) -> CliError:
    return CliError(f"{file.path} has no key {key[:40]!r}.",
                    f"It has: {', '.join(_read(file).kek_ids)}.", code="master_key", exit_code=1)


def _in_file(file: KeysetFile) -> dict[str, Any]:
    try:
        return {"path": str(file.path), "keys": list(file.read().kek_ids), "problem": ""}
    except KeysetError as error:
        return {"path": str(file.path), "keys": [], "problem": f"{error.sentence} {error.fix}"}


# --- words


def _closed(found: dict[str, Any]) -> int:
    return int(found["opened"]["undecryptable"]) if found["opened"] else 0


def _show(found: dict[str, Any]) -> None:
    file, live = found["file"], len(found["processes"])
    in_file = None if file is None else file["keys"]
    output.table(
        ("key", "first", "data keys", "loaded by", "in the file", "fingerprint", "since", "retired"),
        [(k["id"], k["primary"], k["data_keys"], f"{k['loaded_by']} of {live}",
          None if in_file is None else k["id"] in in_file,
          k["fingerprint"] + (" DIFFERS" if k["differs"] else ""), k["first_seen_at"], k["retired_at"])
         for k in found["keys"]],
        empty="There is no master key.",
    )
    output.say("")
    output.table(
        ("process", "first key", "keys", "since", "heard of"),
        [(p["process"], p["primary"], p["keys"], p["started_at"], p["seen_at"]) for p in found["processes"]],
        empty="No server is running.",
    )
    output.say("")
    for problem in found["problems"]:
        output.say(f"REFUSED {problem}")
    if file is not None and file["problem"]:
        output.say(f"FILE {file['problem']}")
    for kek_id in in_file or ():
        if kek_id not in {key["id"] for key in found["keys"]}:
            output.say(f"{kek_id} is in {file['path']}, but no process has loaded it yet.")
    work = found["rewrap"]
    if work is not None:
        output.say(f"Last rewrap, {work['created_at']}: {work['words']}")
    _say_opened(found)
    _say_left(found)


def _say_opened(found: dict[str, Any]) -> None:
    opened = found["opened"]
    if opened is None:
        return
    closed = opened["undecryptable"]
    told = "all open" if not closed else f"{closed:,} DO NOT OPEN: {', '.join(opened['named'])}"
    output.say(f"Of {opened['data_keys']:,} data keys, {opened['credentials']:,} credentials and {opened['seeds']:,} "
               f"seeds {told} ({opened['at']}).")


def _say_left(found: dict[str, Any]) -> None:
    if not found["rows_left"]:
        output.say(f"Every data key is under {found['primary']}.")
        return
    output.say(f"{found['rows_left']:,} data keys are left under another key than {found['primary']}.")
    output.say("Next: ownkey master-key rewrap")


def _say_loaded(found: dict[str, Any], kek_id: str) -> None:
    live = len(found["processes"])
    by = next((key["loaded_by"] for key in found["keys"] if key["id"] == kek_id), 0)
    output.say(f"Loaded by {by} of {live} running processes." if live else "No server is running.")
    for problem in found["problems"]:
        output.say(f"REFUSED {problem}")
