"""`ownkey backup`: a sealed copy of everything but the master key, made beside calls; and whether one opens."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from ownkey.cli import output
from ownkey.cli.connection import Connection, read_settings, segment
from ownkey.cli.meter import Meter
from ownkey.cli.output import JsonFlag
from ownkey.cli.problems import CliError
from ownkey.cli.start import key_problem
from ownkey.cli.work import watch
from ownkey.domain.backups import BackupFacts, BackupTrouble
from ownkey.settings.product import Settings
from ownkey.vault.envelope import Reason, Undecryptable
from ownkey.vault.keyset import Keyset, KeysetError, load_keyset
from ownkey.vault.sealed_file import open_file, read_facts

backup_app = typer.Typer(
    help="Backups: a sealed copy of everything but the master key, made beside calls. Without a command: make one."
)

FileArgument = Annotated[Path, typer.Argument(help="A backup's file.")]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="The file to write; it must not exist yet.")]
_OF_THE_FILE = ("not_a_backup", "damaged")
_KEEP_APART = "Keep the master key in another place: the backup opens with it, and with nothing else."


@backup_app.callback(invoke_without_command=True)
def make(
    context: typer.Context,
    out: OutOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a backup: database and audit key in one sealed file, in the backups' folder and, with --out, in a file of
    yours. Calls go on meanwhile; without a server the command does it itself. Exit 1: it failed."""
    if context.invoked_subcommand is not None:
        return
    with _target(out) as target, Connection() as api:
        found = watch(api, "/work/", api.manage("POST", "/backups", {}), as_json=as_json)
        if found["state"] != "done":
            raise CliError(found["words"], "Start it again when that is mended.", code="backup_failed", exit_code=1)
        name = found["result"]["name"]
        made = next(row for row in api.manage("GET", "/backups")["backups"] if row["name"] == name)
        if target is not None:
            _copy(api, name, made["bytes"], target)

    def human(row: dict[str, Any]) -> None:
        where = f"Wrote {out}" if out is not None else f"Made {name} in the backups' folder"
        output.say(f"{where}: {row['bytes']:,} bytes, schema {row['schema']}, master key {row['master_key']}.")
        output.say(_KEEP_APART)

    output.emit({**made, "out": None if out is None else str(out)}, as_json, human)


@backup_app.command("list")
def list_backups(as_json: JsonFlag = False) -> None:
    """List the backups in the folder, newest first, and the one that is being made."""
    with Connection() as api:
        found = api.manage("GET", "/backups")

    def human(page: dict[str, Any]) -> None:
        output.table(
            ("backup", "made", "bytes", "schema", "master key"),
            [(b["name"], b["made_at"], f"{b['bytes']:,}", b["schema"], ", ".join(b["master_keys"]))
             for b in page["backups"]],
            empty="There is no backup. Make one: ownkey backup --out FILE",
        )
        if page["running"] is not None:
            output.say(page["running"]["words"])
        if page["late"]:
            output.say(f"Late: [backup] every_hours = {page['every_hours']} is not kept. See `ownkey work list`.")

    output.emit(found, as_json, human)


@backup_app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="A backup's name, as `ownkey backup list` shows it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write; it must not exist yet.")],
    as_json: JsonFlag = False,
) -> None:
    """Fetch a backup out of the folder of the server, into a file of yours."""
    with _target(out) as target, Connection() as api:
        rows = {row["name"]: row for row in api.manage("GET", "/backups")["backups"]}
        if name not in rows:
            raise CliError(f"There is no backup {name[:80]}.", "See `ownkey backup list`.", code="not_found")
        assert target is not None
        _copy(api, name, rows[name]["bytes"], target)
    output.emit(rows[name] | {"out": str(out)}, as_json, lambda row: output.say(
        f"Wrote {out}: {row['bytes']:,} bytes."
    ))


@backup_app.command("inspect")
def inspect(file: FileArgument, as_json: JsonFlag = False) -> None:
    """Show what a backup tells without any key: whose it is, of when, and which master key opens it. Its seal vouches
    for that only once it is opened (`ownkey backup check`)."""
    with opened(file) as stream:
        facts = read_facts(stream)
    output.emit(as_row(facts) | {"bytes": file.stat().st_size}, as_json, lambda row: output.fields(
        row | {"master_keys": ", ".join(row["master_keys"])}
    ))


@backup_app.command("check")
def check(file: FileArgument, as_json: JsonFlag = False) -> None:
    """Open a backup whole with the master key and write nothing: every byte is as it was sealed, and every key that it
    needs is here. Exit 1: it is not."""
    settings = read_settings(os.environ)
    with opened(file) as stream, Meter("Opening the backup", file.stat().st_size) as meter:
        keyset = keyset_for(settings, read_facts(stream))
        stream.seek(0)
        facts, parts = open_sealed(keyset, stream)
        size = 0
        for part in parts:
            size += len(part)
            meter.tell(size)
        require_keys(keyset, facts)
    row = as_row(facts) | {"opens": True}
    output.emit(row, as_json, lambda _: output.say(
        f"It opens: {size:,} bytes of {told_time(facts.made_at_ms)}, all as they were sealed."
    ))


def as_row(facts: BackupFacts) -> dict[str, Any]:
    return {
        "made_at": told_time(facts.made_at_ms), "instance": facts.instance_id, "version": facts.version,
        "schema": facts.schema, "master_key": facts.kek_id, "master_keys": list(facts.master_keys),
        "database_bytes": facts.database_bytes,
    }


def told_time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- files


@contextlib.contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """A backup to read; everything that can be wrong with one, in words."""
    try:
        stream = file.open("rb")
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}.", "Name a backup's file.", code="file") from error
    try:
        with stream:
            yield stream
    except BackupTrouble as error:
        about = f"{file}: " if error.code in _OF_THE_FILE else ""
        raise CliError(f"{about}{error.sentence}", error.fix, code=error.code, exit_code=1) from error


@contextlib.contextmanager
def _target(out: Path | None) -> Iterator[BinaryIO | None]:
    """The file to write, opened before anything is begun; whole under its name in the end, or not there."""
    if out is None:
        yield None
        return
    if out.exists():
        raise CliError(f"{out} exists and is not written over.", "Name another file with --out.", code="exists")
    # A name of our own: two commands at once do not write into one file, nor over one that somebody else has there.
    fresh = out.with_name(f"{out.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(out)
    except OSError as error:
        raise CliError(f"{out} cannot be written: {error.strerror}.", "Name another file.", code="file") from error
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)


def _copy(api: Connection, name: str, size: int, target: BinaryIO) -> None:
    """From the server, as it comes; from our own folder without the way through memory."""
    if api.is_local:
        settings = read_settings(os.environ)
        with (settings.backup.folder_in(settings.server.data_dir) / name).open("rb") as source:
            shutil.copyfileobj(source, target, 1024 * 1024)
    else:
        api.fetch(f"/backups/{segment(name)}/file", target.write)
    if target.tell() != size:
        raise CliError("The backup did not arrive whole.", f"Fetch it again: ownkey backup fetch {name} --out FILE",
                       code="unreachable", exit_code=1)


# --- keys


def keyset_for(settings: Settings, facts: BackupFacts) -> Keyset:
    """This machine's master keys. Raises CliError, which names the one that the backup needs."""
    from ownkey.bootstrap import find_master_key

    try:
        find_master_key(settings, os.environ)
        return load_keyset(os.environ)
    except KeysetError as error:
        told = key_problem(error, settings)
        if error.code == "none":
            told = CliError(
                f"The backup opens with the master key {facts.kek_id} only, and there is none here.",
                "Put your copy of it back and set OWNKEY_MASTER_KEY_FILE to it. A new one opens nothing.",
                code="master_key",
            )
        raise told from error


def require_keys(keyset: Keyset, facts: BackupFacts) -> None:
    """Whether what is inside opens too: its data keys may hang on an older master key than the one that seals the
    file. Raises CliError."""
    missing = [kek_id for kek_id in facts.master_keys if keyset.cipher(kek_id) is None]
    if missing:
        raise CliError(
            f"The backup opens, and the keys that are saved in it do not: they hang on {', '.join(missing)} as well; "
            f"found here: {', '.join(keyset.kek_ids)}.",
            "Put that key's line back into the keyset, below the first one.", code="master_key",
        )


def open_sealed(keyset: Keyset, stream: BinaryIO) -> tuple[BackupFacts, Iterator[bytes]]:
    """Raises BackupTrouble, and CliError where the master key is missing or another one."""
    try:
        return open_file(keyset, stream)
    except Undecryptable as error:
        if error.reason is Reason.KEK_MISSING:
            raise CliError(
                f"The backup opens with the master key {error.needed} only; found here: {', '.join(error.found)}.",
                "Put that key's line back into the keyset, below the first one if that is newer.", code="master_key",
            ) from error
        raise CliError(
            f"The master key {error.needed} does not open this backup: it is another key of that name, or the "
            "backup's header was changed.", "Put the right copy of the key back, or use another backup.",
            code="master_key",
        ) from error
