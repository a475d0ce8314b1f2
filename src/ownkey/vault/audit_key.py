"""The key of the audit chains: sealed under a data key of its own, in a file beside the database."""

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

from ownkey.domain.errors import StoreError
from ownkey.domain.master_key import AUDIT_KEY
from ownkey.domain.workspace import Sealed, WrappedDek
from ownkey.vault.envelope import Vault
from ownkey.vault.keyset import Keyset, sync_folder

_PURPOSE: Final = "audit"


class _Kept(msgspec.Struct):
    dek: WrappedDek
    sealed: Sealed


class AuditKeyFile:
    """Where it lies. The place of its data key is the file's name, so that no workspace's key opens it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, keyset: Keyset) -> None:
        """A new key, sealed under the primary master key."""
        vault = Vault(keyset, AUDIT_KEY)
        dek = vault.new_dek(AUDIT_KEY)
        self._write(_Kept(dek, vault.seal_secret(AUDIT_KEY, dek, _PURPOSE, os.urandom(32))))

    def open(self, keyset: Keyset) -> bytes:
        """The key's bytes. Raises Undecryptable, StoreError, OSError."""
        kept = self._read()
        return Vault(keyset, AUDIT_KEY).open_secret(AUDIT_KEY, kept.dek, _PURPOSE, kept.sealed)

    def kek_id(self) -> str:
        """The master key that its data key is wrapped with. Raises StoreError, OSError."""
        return self._read().dek.kek_id

    def rewrap(self, keyset: Keyset) -> bool:
        """Put its data key under the primary master key; False where it was there already. The sealed key itself stays
        as it is. Raises Undecryptable, StoreError, OSError."""
        kept = self._read()
        dek = Vault(keyset, AUDIT_KEY).rewrap(AUDIT_KEY, kept.dek)
        if dek == kept.dek:
            return False
        self._write(_Kept(dek, kept.sealed))
        return True

    def _read(self) -> _Kept:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_Kept)
        except msgspec.MsgspecError as error:
            raise StoreError(f"{self.path} is damaged. Restore it from the same backup as the database.") from error

    def _write(self, kept: _Kept) -> None:
        write_private(self.path, msgspec.json.encode(kept))
        # After a rewrap the old master key may be destroyed: the name must not fall back to the old file then.
        sync_folder(self.path.parent)


def write_private(path: Path, data: bytes) -> None:
    """Whole or not at all, readable by the owner only."""
    fresh = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
