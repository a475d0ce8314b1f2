"""Backups where a test needs the port and makes none."""

from collections.abc import AsyncIterator, Callable, Sequence

from ownkey.domain.backups import BackupFile, BackupTrouble


class NoBackupFiles:
    """Satisfies `control.ports.BackupFiles`: the folder is empty, and cannot be written."""

    async def make(self, at_ms: int, told: Callable[[str, int, int], None]) -> BackupFile:
        raise BackupTrouble("unwritable", "The folder cannot be written.", "Correct its permissions.")

    async def list(self) -> Sequence[BackupFile]:
        return []

    async def read(self, name: str) -> AsyncIterator[bytes]:
        raise FileNotFoundError(name)
        yield b""

    async def drop(self, name: str) -> None:
        pass
