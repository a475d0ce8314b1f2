"""`ownkey restore`: a backup becomes a deployment again, in an empty data folder, or nothing has changed."""

import os
import pwd
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ownkey.cli import output
from ownkey.cli.backup import as_row, keyset_for, open_sealed, opened, require_keys, told_time
from ownkey.cli.checks import ask_ready
from ownkey.cli.connection import read_settings
from ownkey.cli.meter import Meter
from ownkey.cli.output import JsonFlag
from ownkey.cli.people import confirm
from ownkey.cli.problems import CliError
from ownkey.cli.run_file import read_run_file
from ownkey.cli.start import START_ERRORS, start_problem
from ownkey.cli.upgrades import UpgradeShown
from ownkey.domain.backups import BackupFacts
from ownkey.domain.records import Actor
from ownkey.domain.work import tell_seconds
from ownkey.settings.product import Settings
from ownkey.store.restore import Restored, Restoring
from ownkey.store.schema import HEAD, check_known
from ownkey.vault.audit_key import AuditKeyFile
from ownkey.vault.sealed_file import read_facts

AUDIT_KEY = "audit.key"


def restore(
    file: Annotated[Path, typer.Argument(help="A backup's file.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Put a backup into an empty data folder. Everything is checked before anything is put in place. All visits of that
    time are ended; tokens that were revoked since are valid again. Exit 1: the check of the books found something."""
    settings = read_settings(os.environ)
    _refuse_running(settings)
    try:
        facts, restored = _restore(settings, file, yes)
    except START_ERRORS as error:
        raise start_problem(error, settings) from error
    row = as_row(facts) | {
        "data_dir": str(settings.server.data_dir),
        "upgraded_from": facts.schema if facts.schema != HEAD else None,
        "ended": dict(restored.ended), "interrupted_calls": restored.interrupted_calls,
        "valid_tokens": restored.tokens, "clean": not restored.findings,
        "findings": [
            {"check": f.check, "workspace": f.workspace_id, "ids": list(f.ids), "detail": f.detail}
            for f in restored.findings
        ],
    }
    output.emit(row, as_json, _tell)
    if restored.findings:
        raise typer.Exit(1)


def _refuse_running(settings: Settings) -> None:
    note = read_run_file(settings.server.data_dir)
    if note is not None and ask_ready(note.url)[0] == "ok":
        raise CliError(
            f"An Ownkey serves this folder, at {note.url} (pid {note.pid}).",
            "Stop it and move its database away, or restore into another folder with OWNKEY_DATA_DIR.", code="running",
        )


def _restore(settings: Settings, file: Path, yes: bool) -> tuple[BackupFacts, Restored]:
    from ownkey.bootstrap import SystemClock

    clock = SystemClock()
    with opened(file) as stream, Restoring(settings.server.data_dir) as restoring:
        keyset = keyset_for(settings, read_facts(stream))
        stream.seek(0)
        facts, parts = open_sealed(keyset, stream)
        check_known(facts.schema)
        require_keys(keyset, facts)
        confirm(yes, _question(facts))
        with Meter("Opening the backup", facts.database_bytes) as meter:
            restoring.unpack(facts, parts, meter.tell)
        # All that is sealed in it must have its master key here, older ones too.
        keyset.require(restoring.check(facts))
        with UpgradeShown() as told:
            restored = restoring.settle(
                facts, AuditKeyFile(restoring.folder / AUDIT_KEY).open(keyset), clock.new_id("boot"), clock.now_ms,
                Actor("operator", _who()), told,
            )
        # A key of the right name may be another one: the server would refuse it.
        keyset.require_same({kek_id: known for kek_id, known in restored.keys.items() if known})
        restoring.place()
    return facts, restored


def _who() -> str:
    """Whoever typed the command, as the audit log names them. In a container the user may have no name."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _question(facts: BackupFacts) -> str:
    age_s = max(0, int(time.time()) - facts.made_at_ms // 1_000)
    return (
        f"Restore the backup of {told_time(facts.made_at_ms)}, {tell_seconds(age_s)} old? What was spent, revoked, "
        "disconnected or changed since then is forgotten."
    )


def _tell(row: dict[str, Any]) -> None:
    made = row["made_at"]
    output.say(f"Restored the backup of {made} (instance {row['instance']}) into {row['data_dir']}.")
    if row["upgraded_from"]:
        output.say(f"Its database was brought from schema {row['upgraded_from']} to this version's.")
    ended = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in row["ended"].items() if count)
    output.say(f"Ended, so that they do not come back to life: {ended}." if ended else "No visit was open.")
    if row["interrupted_calls"]:
        output.say(f"Calls that were in flight then have their receipts now: {row['interrupted_calls']}.")
    output.say("")
    output.say(f"LOOK AT THE ACCESS TOKENS. Valid as they were at {made}: {row['valid_tokens']}.")
    output.say("What was revoked since then is valid again. `ownkey token list`, then `ownkey token revoke`.")
    output.say("Members who were removed and keys that were disconnected since then are back too; what was spent since")
    output.say("then is forgotten.")
    output.say("")
    if row["clean"]:
        output.say("The books balance: every counter agrees with its rows.")
    for finding in row["findings"]:
        output.say(f"{finding['check']}: {finding['detail']} ({', '.join(finding['ids'])})")
    output.say("Next: ownkey serve")
