"""[backup]: where backups lie, how many are kept, and whether they are made by themselves."""

from dataclasses import dataclass
from pathlib import Path

from ownkey.domain.backups import BackupRules
from ownkey.settings.tables import Table

BACKUPS_NAME = "backups"
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class BackupSettings:
    """`folder` is absolute; None: `backups` in the data folder, wherever that is."""

    folder: Path | None = None
    rules: BackupRules = BackupRules()  # noqa: RUF009 - a frozen value

    def folder_in(self, data_dir: Path) -> Path:
        return self.folder or data_dir / BACKUPS_NAME


def read_backup(table: Table, config_folder: Path) -> BackupSettings:
    """Raises SettingsError."""
    named = table.text("dir", "")
    settings = BackupSettings(
        (config_folder / named).absolute() if named else None,
        BackupRules(
            keep=table.whole("keep", BackupRules().keep, least=1, most=1_000),
            every_ms=_HOUR_MS * table.whole("every_hours", 0, most=24 * 31),
            before_upgrade=table.flag("before_upgrade", True),
        ),
    )
    table.done()
    return settings
