"""The master keys of a running process: read again when their file changes, and refused when they became unusable.

What is refused changes nothing: the keys that were in force stay in force, and the sentence says why.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ownkey.domain.errors import StoreError
from ownkey.domain.master_key import UNREADABLE, LoadedKey
from ownkey.domain.workspace import Credential, Sealed, WrappedDek
from ownkey.vault.audit_key import AuditKeyFile
from ownkey.vault.envelope import Undecryptable, Vault
from ownkey.vault.keyset import Keyset, KeysetError, read_keyset_file

Mark = tuple[int, int, int, int, int]


class Keyring:
    """Satisfies `control.master_key.Ring`, `master_key_work.Wrapper` and `master_key_check.Trier`. `reload` runs on one
    thread at a time; the vault that it changes serves calls meanwhile."""

    def __init__(self, keyset: Keyset, vault: Vault, path: Path | None, audit: AuditKeyFile | None) -> None:
        """`path` None: the keyset came from the environment, and stays until the process ends."""
        self._keyset = keyset
        self._vault = vault
        self._path = path
        self._audit = audit
        self._mark: Mark | None = (0, 0, 0, 0, 0)
        self.problem = ""

    @property
    def source(self) -> str:
        """The file's path, "" for the environment."""
        return "" if self._path is None else str(self._path)

    @property
    def keys(self) -> Sequence[LoadedKey]:
        """What is in force, primary first."""
        keyset = self._keyset
        return tuple(LoadedKey(kek_id, keyset.fingerprints[kek_id]) for kek_id in keyset.kek_ids)

    def has_changed(self) -> bool:
        """Whether the file is another one than when it was read last. Opens nothing."""
        return self._path is not None and _mark(self._path) != self._mark

    def reload(self, in_use: Mapping[str, str], retired: Collection[str]) -> bool:
        """Read the file again; True where other keys are in force now. `in_use`: ids that stored data keys need, each
        with its known fingerprint or ""; none of `retired` may come first. What is wrong is in `problem` afterwards."""
        if self._path is None:
            return False
        # Before the reading: what changes while it is read is read again.
        mark = _mark(self._path)
        try:
            keyset = read_keyset_file(self._path)
            check_keyset(keyset, in_use, retired)
            keyset.require_same(self._keyset.fingerprints)
        except KeysetError as error:
            self._mark, self.problem = mark, f"{error.sentence} {error.fix}"
            return False
        self._mark, self.problem = mark, ""
        if (keyset.kek_ids, keyset.fingerprints) == (self._keyset.kek_ids, self._keyset.fingerprints):
            return False
        self._keyset = keyset
        self._vault.take(keyset)
        return True

    def forget_left(self) -> None:
        """Keys that left the keyset open nothing any more."""
        self._vault.forget_left()

    # --- data keys

    def rewrap(self, deks: Sequence[tuple[str, WrappedDek]]) -> Sequence[WrappedDek | None]:
        """Each (workspace id, data key) under the primary master key; None for what does not open."""
        found: list[WrappedDek | None] = []
        for workspace_id, dek in deks:
            try:
                found.append(self._vault.rewrap(workspace_id, dek))
            except Undecryptable:
                found.append(None)
        return found

    def audit_kek_id(self) -> str:
        """The master key that the audit key's own data key hangs on; "" where there is none, UNREADABLE where its file
        cannot be read."""
        try:
            return "" if self._audit is None else self._audit.kek_id()
        except (StoreError, OSError):
            return UNREADABLE

    def rewrap_audit_key(self) -> bool | None:
        """The audit key's data key too. True: it was moved; False: it was there; None: it does not open. Raises OSError
        where its file cannot be read or written: that says nothing about the key."""
        try:
            return False if self._audit is None else self._audit.rewrap(self._keyset)
        except (Undecryptable, StoreError):
            return None

    # --- does it open?

    def opens_dek(self, workspace_id: str, dek: WrappedDek) -> bool:
        return self._vault.opens_dek(workspace_id, dek)

    def opens(self, dek: WrappedDek, credential: Credential) -> bool:
        """Opens it for nobody: what it held is dropped at once."""
        c = credential
        try:
            self._vault.open(c.workspace_id, dek, c.provider, c.id, c.version, c.origin, c.sealed)
        except Undecryptable:
            return False
        return True

    def opens_secret(self, workspace_id: str, dek: WrappedDek, purpose: str, sealed: Sealed) -> bool:
        try:
            self._vault.open_secret(workspace_id, dek, purpose, sealed)
        except Undecryptable:
            return False
        return True

    def opens_audit_key(self) -> bool:
        try:
            return self._audit is None or len(self._audit.open(self._keyset)) > 0
        except (Undecryptable, StoreError, OSError):
            return False

    def __repr__(self) -> str:
        return f"Keyring({self._keyset!r})"


def check_keyset(keyset: Keyset, in_use: Mapping[str, str], retired: Collection[str]) -> None:
    """Whether stored data keys open with it, at start and whenever it is read again. Raises KeysetError."""
    keyset.require(in_use)
    keyset.require_same({kek_id: known for kek_id, known in in_use.items() if known})
    keyset.require_not_first(retired)


def _mark(path: Path) -> Mark | None:
    """What changes with every rewriting of a file; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
