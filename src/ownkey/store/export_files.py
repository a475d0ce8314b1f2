"""Exports as files: in one folder, readable by their owner only, whole under their final name or not there.

A file that is being written has the name of its work and `.part`; what a crash has left there is cut to the last
checkpoint and written on.
"""

import asyncio
import contextlib
import os
import re
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9_]{1,80}(\.[a-z]{1,8}){0,2}\Z", re.ASCII)
_CHUNK = 256 * 1024


class ExportFiles:
    """Satisfies `control.ports.ExportFiles`. The folder is made when first written to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def append(self, name: str, size: int, data: bytes) -> int:
        return await asyncio.to_thread(self._append, self._path(name), size, data)

    def _append(self, path: Path, size: int, data: bytes) -> int:
        with os.fdopen(self._open(path), "r+b") as file:
            file.truncate(size)
            file.seek(size)
            file.write(data)
        return size + len(data)

    def _open(self, path: Path) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    async def finish(self, name: str, final: str) -> None:
        await asyncio.to_thread(self._finish, self._path(name), self._path(final))

    def _finish(self, path: Path, final: Path) -> None:
        fd = self._open(path)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        path.replace(final)

    async def write_zip(self, name: str, parts: AsyncIterator[tuple[str, bytes]]) -> int:
        path = self._path(name)
        fd = await asyncio.to_thread(self._open, path)
        with os.fdopen(fd, "r+b") as file:
            file.truncate(0)
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                await _write_parts(archive, parts)
            return file.tell()

    def read(self, name: str) -> AsyncIterator[bytes]:
        return _read(self._path(name))

    def size(self, name: str) -> int | None:
        try:
            return self._path(name).stat().st_size
        except OSError:
            return None

    async def drop(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        if not _NAME.match(name):
            raise ValueError("an export's name has no path")
        return self._folder / name


async def _write_parts(archive: zipfile.ZipFile, parts: AsyncIterator[tuple[str, bytes]]) -> None:
    """The parts of one path are one member; an archive of no parts is empty."""
    path = ""
    member = None
    try:
        async for part, data in parts:
            if part != path or member is None:
                if member is not None:
                    member.close()
                path, member = part, archive.open(part, "w", force_zip64=True)
            await asyncio.to_thread(member.write, data)
    finally:
        if member is not None:
            member.close()


async def _read(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while data := await asyncio.to_thread(file.read, _CHUNK):
            yield data
