"""Backups on the System page: what there is, the one that is being made, and the button that begins one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ownkey.console.home import bytes_text
from ownkey.console.visit import ConsoleRoute, ConsoleVisit
from ownkey.control.backups import BackupsView
from ownkey.domain.backups import BackupFile
from ownkey.domain.operators import OperatorRole
from ownkey.domain.overview import AuditLine, AuditQuery
from ownkey.pages.http import Answer

PATH: Final = "/console/system/backup"
SHOWN: Final = 10
_UPGRADED: Final = "schema.upgraded"


@dataclass(frozen=True, slots=True)
class ListedBackup:
    """One line: `size` for people."""

    file: BackupFile
    size: str


@dataclass(frozen=True, slots=True)
class BackupCard:
    """`upgraded` tells of the last upgrade of the database, None where the books know of none."""

    view: BackupsView
    listed: Sequence[ListedBackup]
    upgraded: AuditLine | None

    @property
    def every_hours(self) -> int:
        return self.view.rules.every_ms // 3_600_000

    @property
    def upgrade_took_ms(self) -> int | None:
        took = (self.upgraded.after or {}).get("took_ms") if self.upgraded is not None else None
        return took if isinstance(took, int) else None


async def card(visit: ConsoleVisit) -> BackupCard:
    """What the page shows of backups, and of the schema's own past."""
    view = await visit.desk.backups.show()
    lines = await visit.desk.overview.audit(AuditQuery("", _UPGRADED, limit=1))
    return BackupCard(
        view, [ListedBackup(file, bytes_text(file.bytes)) for file in view.files[:SHOWN]], next(iter(lines), None)
    )


async def start(visit: ConsoleVisit) -> Answer:
    """The one that is being made is found: a second click starts nothing."""
    await visit.desk.backups.start(visit.actor)
    return visit.go("/console/system?done=backup#backup")


ROUTES: tuple[ConsoleRoute, ...] = (
    ConsoleRoute("POST", PATH, start, OperatorRole.OPS, fresh=True),
)
