"""A file of any size that opens whole and unchanged, with its master key, or not at all.

magic ── header (plain JSON: whose, of when, the wrapped file key, a salt) ── commitment ── chunk ── chunk ── last chunk

The file's key is derived from a data key of its own, which the primary master key wraps; the whole header goes into the
derivation, so that a changed header gives another key and another commitment. Each chunk's nonce is its number and
whether it is the last: chunks that are left out, reordered, repeated or taken from another file do not open, and a file
that is cut short has no last one. Reading and writing take the memory of two chunks.
"""

import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator
from typing import Annotated, BinaryIO, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ownkey.domain.backups import BackupFacts, BackupTrouble
from ownkey.domain.workspace import WrappedDek
from ownkey.vault.envelope import Vault
from ownkey.vault.keyset import Keyset

MAGIC: Final = b"OWNKEY BACKUP 1\n"
CHUNK: Final = 256 * 1024
PURPOSE: Final = "backup"

_TAG: Final = 16
_SALT: Final = 32
_COMMITMENT: Final = 32
_MAX_HEADER: Final = 16_384
_ANOTHER: Final = "Use another backup, or fetch this one again."


# A header is shown before anything vouches for it: what it says is plain and short, or it is no header.
_Word = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,64}\Z")]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Moment = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_000)]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    instance_id: _Word
    made_at_ms: _Moment
    version: _Word
    schema: _Word
    database_bytes: _Size
    dek: WrappedDek
    salt: bytes
    needs: tuple[_Word, ...] = ()

    @property
    def facts(self) -> BackupFacts:
        return BackupFacts(
            self.instance_id, self.made_at_ms, self.version, self.schema, self.dek.kek_id, self.database_bytes,
            self.needs,
        )


class FileSealer:
    """Seals files under the primary master key of one deployment."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    @property
    def kek_id(self) -> str:
        """Which master key the next file will need."""
        return self._vault.primary_kek_id

    def seal(self, facts: BackupFacts, parts: Iterable[bytes], out: BinaryIO) -> None:
        """Write header and content. `facts` names the instance that the vault belongs to; its master key is filled in
        here. Raises what `parts` and `out` raise."""
        dek, salt = self._vault.new_dek(PURPOSE), os.urandom(_SALT)
        header = msgspec.json.encode(_Header(
            facts.instance_id, facts.made_at_ms, facts.version, facts.schema, facts.database_bytes, dek, salt,
            tuple(facts.needs),
        ))
        cipher, commitment = self._vault.file_cipher(PURPOSE, dek, salt, _digest(header))
        out.write(MAGIC + len(header).to_bytes(4, "big") + header + commitment)
        # One chunk is held back: only when the next one is there is it known not to be the last.
        held: bytes | None = None
        number = 0
        for chunk in _chunks(parts):
            if held is not None:
                out.write(cipher.encrypt(_nonce(number, False), held, None))
                number += 1
            held = chunk
        out.write(cipher.encrypt(_nonce(number, True), held or b"", None))


def read_facts(file: BinaryIO) -> BackupFacts:
    """The plain header, which no key is needed for, and which nothing vouches for until it is opened. Raises
    BackupTrouble."""
    return _read_header(file)[0].facts


def open_file(keyset: Keyset, file: BinaryIO) -> tuple[BackupFacts, Iterator[bytes]]:
    """(header, content as it is read). The header is checked at once, the content chunk by chunk: what came before a
    chunk that does not open must be thrown away. Raises BackupTrouble, and Undecryptable where the master key is
    missing or another one has its name."""
    header, raw = _read_header(file)
    vault = Vault(keyset, header.instance_id)
    cipher, commitment = vault.file_cipher(PURPOSE, header.dek, header.salt, _digest(raw))
    if not hmac.compare_digest(commitment, _exactly(file, _COMMITMENT)):
        raise BackupTrouble("damaged", "The backup's header was changed or is damaged.", _ANOTHER)
    return header.facts, _opened(cipher, file)


def _read_header(file: BinaryIO) -> tuple[_Header, bytes]:
    if file.read(len(MAGIC)) != MAGIC:
        raise BackupTrouble(
            "not_a_backup", "This is not a backup of Ownkey's.", "Name the file that `ownkey backup` wrote."
        )
    length = int.from_bytes(_exactly(file, 4), "big")
    if length > _MAX_HEADER:
        raise BackupTrouble("damaged", "The backup's header was changed or is damaged.", _ANOTHER)
    raw = _exactly(file, length)
    try:
        header = msgspec.json.decode(raw, type=_Header)
        msgspec.convert(header.dek.kek_id, _Word)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BackupTrouble("damaged", "The backup's header was changed or is damaged.", _ANOTHER) from error
    return header, raw


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise BackupTrouble("damaged", "The backup is cut short: it ends in its header.", _ANOTHER)
    return data


def _opened(cipher: AESGCM, file: BinaryIO) -> Iterator[bytes]:
    number, data = 0, file.read(CHUNK + _TAG)
    while True:
        following = file.read(CHUNK + _TAG)
        chunk = _decrypt(cipher, _nonce(number, not following), data)
        if chunk is None:
            raise BackupTrouble(
                "damaged", f"The backup is damaged: it was changed or cut short behind its first {number * CHUNK:,} "
                "bytes.", _ANOTHER,
            )
        yield chunk
        if not following:
            return
        number, data = number + 1, following


def _decrypt(cipher: AESGCM, nonce: bytes, data: bytes) -> bytes | None:
    try:
        return cipher.decrypt(nonce, data, None)
    except (InvalidTag, ValueError):
        return None


def _nonce(number: int, last: bool) -> bytes:
    """12 bytes. The key is this file's alone, so a number is enough."""
    return number.to_bytes(11, "big") + bytes([last])


def _digest(header: bytes) -> str:
    return hashlib.sha256(MAGIC + header).hexdigest()


def _chunks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of one size, the last one shorter."""
    waiting = bytearray()
    for part in parts:
        waiting += part
        while len(waiting) >= CHUNK:
            yield bytes(waiting[:CHUNK])
            del waiting[:CHUNK]
    if waiting:
        yield bytes(waiting)
