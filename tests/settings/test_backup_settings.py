"""[backup]: where, how many, how often."""

from pathlib import Path

import pytest

from ownkey.domain.backups import BackupRules
from ownkey.settings.product import Settings, SettingsError, load_settings

HEAD = 'preset = "support-desk"\n'


def load(folder: Path, text: str = "", **environ: str) -> Settings:
    (folder / "ownkey.toml").write_text(HEAD + text)
    return load_settings(folder / "ownkey.toml", environ)


def test_what_holds_without_it(tmp_path: Path) -> None:
    """Three are kept in the data folder, wherever that is; none is made by itself but before an upgrade."""
    settings = load(tmp_path, OWNKEY_DATA_DIR=str(tmp_path / "elsewhere"))

    assert settings.backup.rules == BackupRules(keep=3, every_ms=0, before_upgrade=True)
    assert settings.backup.folder_in(settings.server.data_dir) == tmp_path / "elsewhere" / "backups"


def test_a_whole_section(tmp_path: Path) -> None:
    """A relative folder is beside the file, and stays where it is when the data folder moves."""
    settings = load(
        tmp_path, '[backup]\ndir = "kept"\nkeep = 7\nevery_hours = 24\nbefore_upgrade = false\n', OWNKEY_DATA_DIR="/x"
    )

    assert settings.backup.rules == BackupRules(keep=7, every_ms=86_400_000, before_upgrade=False)
    assert settings.backup.folder_in(settings.server.data_dir) == tmp_path / "kept"


@pytest.mark.parametrize(("line", "named"), [
    ("keep = 0", "backup.keep"), ("keep = true", "backup.keep"), ("every_hours = -1", "backup.every_hours"),
    ("every_hours = 10000", "backup.every_hours"), ("dir = 5", "backup.dir"), ("evry_hours = 4", "every_hours"),
    ('before_upgrade = "no"', "backup.before_upgrade"),
])
def test_what_cannot_be_used_is_named(tmp_path: Path, line: str, named: str) -> None:
    """With the section and the key."""
    with pytest.raises(SettingsError, match=named):
        load(tmp_path, f"[backup]\n{line}\n")
