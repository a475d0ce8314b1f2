"""Backups over the management API: what there is, a new one, and the sealed file itself."""

from typing import Annotated

from msgspec import Meta

from ownkey.api import manage_schemas as out
from ownkey.api import manage_views as show
from ownkey.api.authorisation import Right, Subject
from ownkey.api.manage_call import Call, Download, ManageRoute
from ownkey.api.manage_work import WorkOut, show_work
from ownkey.domain.backups import BackupFile

_MEDIA = "application/octet-stream"


class BackupOut(out.Answer):
    """A finished backup. `master_key` is the id of the one that opens it; `master_keys` all that it needs to be served
    again: more than one where it was made before the end of a rewrap."""

    name: str
    bytes: int
    made_at: out.Time
    instance: str
    version: str
    schema: str
    master_key: str
    master_keys: list[str]
    database_bytes: int
    before_upgrade: bool


class BackupsOut(out.Answer):
    """Newest first. `late`: the schedule is not kept."""

    backups: list[BackupOut]
    running: WorkOut | None
    every_hours: Annotated[int, Meta(description="0: none is made by itself.")]
    keep: int
    late: bool


def show_backup(file: BackupFile) -> BackupOut:
    facts = file.facts
    return BackupOut(
        name=file.name, bytes=file.bytes, made_at=show.iso(facts.made_at_ms), instance=facts.instance_id,
        version=facts.version, schema=facts.schema, master_key=facts.kek_id, master_keys=list(facts.master_keys),
        database_bytes=facts.database_bytes, before_upgrade=file.is_before_upgrade,
    )


async def start_backup(call: Call) -> WorkOut:
    return show_work(await call.desk.backups.start(call.actor))


async def list_backups(call: Call) -> BackupsOut:
    found = await call.desk.backups.show()
    return BackupsOut(
        backups=[show_backup(file) for file in found.files],
        running=None if found.running is None else show_work(found.running),
        every_hours=found.rules.every_ms // 3_600_000, keep=found.rules.keep, late=found.late,
    )


async def fetch_backup(call: Call) -> Download:
    """Who takes the whole database along, sealed as it is, stands in the audit log."""
    file, content = await call.desk.backups.fetch(call.path["backup"])
    await call.desk.audit.note("backup.fetched", file.name, call.actor)
    return Download(file.name, _MEDIA, content)


_ALL = Subject.DEPLOYMENT

ROUTES: tuple[ManageRoute, ...] = (
    ManageRoute("POST", "/backups", "start_backup", _ALL, Right.MANAGE, start_backup,
                "Begin a backup, as long work; the one that is being made is found, not started twice.", WorkOut,
                out.Nothing, status=202),
    ManageRoute("GET", "/backups", "list_backups", _ALL, Right.READ, list_backups,
                "Backups in the folder, newest first, and the one that is being made.", BackupsOut),
    ManageRoute("GET", "/backups/{backup}/file", "fetch_backup", _ALL, Right.MANAGE, fetch_backup,
                "A backup, sealed as it is: it opens with its master key only.", str, media=_MEDIA),
)
