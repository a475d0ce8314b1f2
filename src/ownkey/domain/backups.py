"""Backups: what one tells of itself before it is opened, which are kept, and when the next one is due."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

LATE_AFTER_MS: Final = 3_600_000
"""How much older than its interval the newest scheduled backup may be before somebody is told."""

TRY_AGAIN_MS: Final = 3_600_000
_UPGRADE: Final = "_before_"
_ENDING: Final = ".backup"


class BackupTrouble(Exception):
    """A backup that cannot be made or read. `code` is stable; `sentence` says what is wrong, `fix` what to do."""

    def __init__(self, code: str, sentence: str, fix: str) -> None:
        super().__init__(f"{sentence} {fix}")
        self.code = code
        self.sentence = sentence
        self.fix = fix


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """The plain part of a backup, which its seal vouches for: whose it is, of when, and which master key opens it.
    `database_bytes` is the size of the database inside; `needs` the master keys that data keys inside hang on, which
    are others as well where it was made before or during a rewrap."""

    instance_id: str
    made_at_ms: int
    version: str
    schema: str
    kek_id: str
    database_bytes: int
    needs: Sequence[str] = ()

    @property
    def master_keys(self) -> Sequence[str]:
        """Everything that is needed to serve it again; the one that opens it comes first."""
        return (self.kek_id, *(kek_id for kek_id in self.needs if kek_id != self.kek_id))


@dataclass(frozen=True, slots=True)
class BackupFile:
    """A finished backup in the folder. `bytes` is the size of the file."""

    name: str
    bytes: int
    facts: BackupFacts

    @property
    def is_before_upgrade(self) -> bool:
        return _UPGRADE in self.name


@dataclass(frozen=True, slots=True)
class BackupRules:
    """`keep`: how many backups stay in the folder, beside the one before the last upgrade. `every_ms` 0: none is made
    by itself. `before_upgrade`: one is made before a database is brought to a newer schema."""

    keep: int = 3
    every_ms: int = 0
    before_upgrade: bool = True


def backup_name(made_at_ms: int, *, before_schema: str = "") -> str:
    """A name that sorts by time: `ownkey_20261122_085704_123.backup`."""
    moment = datetime.fromtimestamp(made_at_ms / 1_000, UTC)
    mark = f"{_UPGRADE}{before_schema}" if before_schema else ""
    return f"ownkey_{moment:%Y%m%d_%H%M%S}_{made_at_ms % 1_000:03d}{mark}{_ENDING}"


def newest_of(files: Sequence[BackupFile], now_ms: int) -> BackupFile | None:
    """The newest one that can be believed: a clock that was wrong may have made some in the future."""
    believed = [file for file in files if file.facts.made_at_ms <= now_ms + TRY_AGAIN_MS]
    return max(believed, key=lambda file: file.facts.made_at_ms, default=None)


def outdated(files: Sequence[BackupFile], rules: BackupRules, made_at_ms: int) -> Sequence[str]:
    """Names of those that are not kept any more, once one has been made at that moment: it is kept whatever the others
    say, and what claims to be newer goes first. The newest one before an upgrade stays: it is the way back."""
    newest = sorted(
        files, key=lambda file: (file.facts.made_at_ms <= made_at_ms, file.facts.made_at_ms), reverse=True
    )
    usual = [file for file in newest if not file.is_before_upgrade]
    upgrades = [file for file in newest if file.is_before_upgrade]
    return [file.name for file in (*usual[rules.keep:], *upgrades[1:])]


def is_late(newest: BackupFile | None, rules: BackupRules, now_ms: int, running_since_ms: int) -> bool:
    """Whether a schedule is not kept. A server that has just been started had no time yet."""
    if not rules.every_ms:
        return False
    last_ms = running_since_ms if newest is None else newest.facts.made_at_ms
    return now_ms - last_ms > rules.every_ms + LATE_AFTER_MS


def is_due(newest: BackupFile | None, last_try_ms: int | None, rules: BackupRules, now_ms: int) -> bool:
    """Whether the schedule wants one now. One that failed is tried again after an hour, or its interval."""
    if not rules.every_ms:
        return False
    if last_try_ms is not None and 0 <= now_ms - last_try_ms < min(TRY_AGAIN_MS, rules.every_ms):
        return False
    return newest is None or now_ms - newest.facts.made_at_ms >= rules.every_ms
