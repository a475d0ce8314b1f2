"""The keyset's file, changed line by line: written whole or not at all, with the mode and the owner that it had.

Used by the command that an operator types where the file is, never by the server. No key leaves this module, and no
line that is not meant is touched.
"""

import contextlib
import fcntl
import glob
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from ownkey.vault.keyset import (
    Keyset,
    KeysetError,
    generate_keyset_text,
    parse_keyset,
    read_keyset_file,
    read_keyset_lines,
    sync_folder,
)

Edit = Callable[[list[str]], list[str]]

_DRAFT: Final = ".new"


class KeysetFile:
    """One keyset's file. Every method raises KeysetError with a sentence and a fix."""

    def __init__(self, path: Path) -> None:
        """A symbolic link is followed once: what it points to is what is read and replaced."""
        self.path = path.resolve()

    def read(self) -> Keyset:
        return read_keyset_file(self.path)

    def check_writable(self) -> None:
        """Whether a change could be written, found out without one."""
        with self._locked():
            draft = self._draft()
            try:
                os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
                draft.unlink()
            except OSError as error:
                raise self._unwritable(error) from error

    def add(self) -> str:
        """A new random key as the last line; returns its id."""
        line = generate_keyset_text()
        kek_id = line.partition(":")[0]
        self._change(lambda lines: [*_ended(lines), line])
        return kek_id

    def promote(self, kek_id: str) -> bool:
        """Its line comes before all others; False where it was the first key already."""
        def edit(lines: list[str]) -> list[str]:
            if self._known(kek_id, lines).primary_id == kek_id:
                return lines
            lines = _ended(lines)
            at = _line_of(lines, kek_id)
            first = next(n for n, line in enumerate(lines) if _id_of(line))
            moved = lines.pop(at)
            return [*lines[:first], moved, *lines[first:]]

        return self._change(edit)

    def retire(self, kek_id: str) -> bool:
        """Its line goes; False where it was gone already. The first key is never taken out."""
        def edit(lines: list[str]) -> list[str]:
            keyset = parse_keyset("".join(lines))
            if kek_id not in keyset.kek_ids:
                return lines
            if keyset.primary_id == kek_id:
                raise KeysetError(
                    "primary", f"{kek_id} is the first key of {self.path}: new data keys are wrapped with it.",
                    "Promote another key first: `ownkey master-key promote KEY_ID`.",
                )
            at = _line_of(lines, kek_id)
            return [*lines[:at], *lines[at + 1:]]

        return self._change(edit)

    def _known(self, kek_id: str, lines: Sequence[str]) -> Keyset:
        keyset = parse_keyset("".join(lines))
        if kek_id not in keyset.kek_ids:
            raise KeysetError(
                "unknown_key", f"{self.path} has no key of that name.",
                f"It has: {', '.join(keyset.kek_ids)}. `ownkey master-key status` shows them.",
            )
        return keyset

    def _change(self, edit: Edit) -> bool:
        """Whether there was anything to change. What is decided is decided under the lock."""
        with self._locked():
            before = read_keyset_lines(self.path)
            lines = edit(before)
            if lines == before:
                return False
            parse_keyset("".join(lines))
            self._replace("".join(lines).encode())
        return True

    def _replace(self, content: bytes) -> None:
        draft = self._draft()
        try:
            # Of a command that was killed: keys that were retired since must not live on there.
            for left in self.path.parent.glob(f".{glob.escape(self.path.name)}.*{_DRAFT}"):
                left.unlink()
            was = self.path.stat()
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
                made = os.fstat(file.fileno())
                if (made.st_uid, made.st_gid) != (was.st_uid, was.st_gid):
                    os.fchown(file.fileno(), was.st_uid, was.st_gid)
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), stat.S_IMODE(was.st_mode))
                os.fsync(file.fileno())
            draft.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise self._unwritable(error) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time: of two at once the second would undo the first. The folder is locked, because the file
        itself is replaced."""
        try:
            descriptor = os.open(self.path.parent, os.O_RDONLY)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise KeysetError(
                "busy", f"{self.path} is being changed by another command.", "Wait until that one has ended."
            ) from error
        finally:
            os.close(descriptor)

    def _draft(self) -> Path:
        return self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}{_DRAFT}")

    def _unwritable(self, error: OSError) -> KeysetError:
        return KeysetError(
            "unwritable",
            f"The master key file {self.path} cannot be changed here: {error.strerror or 'the system refuses it'}.",
            "Run this as the file's owner where the file is. Where a secret store mounts it, change it there: "
            "`ownkey master-key generate` prints a new line.",
        )


def _id_of(line: str) -> str:
    """The id of a line with a key, "" for an empty line or a comment."""
    text = line.strip()
    return "" if text.startswith("#") else text.partition(":")[0].strip()


def _line_of(lines: Sequence[str], kek_id: str) -> int:
    return next(n for n, line in enumerate(lines) if _id_of(line) == kek_id)


def _ended(lines: list[str]) -> list[str]:
    """The lines, the last one with a line end too."""
    return [*lines[:-1], lines[-1] if lines[-1].endswith(("\n", "\r")) else lines[-1] + "\n"] if lines else []
