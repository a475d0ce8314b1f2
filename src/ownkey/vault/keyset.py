"""The master keys: read once from one place, refused when weak or exposed, and never shown again.

A keyset is text, one `kek_id:base64` a line, 32 random bytes each; the first line is the primary, which wraps
new data keys, and the others still open what they wrapped. Empty lines and lines starting with `#` are skipped.
No error repeats any part of a line: a mistyped line may be nothing but the key.
"""

import base64
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Collection, Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Final, NoReturn

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ownkey.vault.process import wipe_environment_variable

FILE_VARIABLE: Final = "OWNKEY_MASTER_KEY_FILE"
TEXT_VARIABLE: Final = "OWNKEY_MASTER_KEY"

EXAMPLE_KEYSET_TEXT: Final = "k1:b3dua2V5LWV4YW1wbGUta2V5LWRvLW5vdC11c2UtaXQ="
"""The one keyset that the documentation shows. It is refused at start."""

KEY_BYTES: Final = 32
_MAX_FILE_BYTES: Final = 65_536
_KEK_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_EXAMPLE_KEY: Final = base64.b64decode(EXAMPLE_KEYSET_TEXT.partition(":")[2])
_FINGERPRINT_CONTEXT: Final = b"ownkey master key fingerprint 1"
_FINGERPRINT_BYTES: Final = 8
_MAKE_ONE: Final = "Make a new keyset with `ownkey init` in a new folder."


class KeysetError(Exception):
    """A keyset that cannot be used. `code` is stable; `sentence` says what is wrong, `fix` what to do."""

    def __init__(self, code: str, sentence: str, fix: str) -> None:
        super().__init__(f"{sentence} {fix}")
        self.code = code
        self.sentence = sentence
        self.fix = fix


class Keyset:
    """Ordered master keys, the first one primary. Hands out ciphers, never bytes: it has none to show."""

    __slots__ = ("_ciphers", "fingerprints", "primary_id")

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """`keys` maps kek_id to 32 bytes, primary first. Text from outside goes through `parse_keyset`."""
        if not keys or any(len(key) != KEY_BYTES for key in keys.values()):
            raise ValueError("a keyset needs at least one key, and 32 bytes in each")
        self._ciphers = {kek_id: AESGCM(key) for kek_id, key in keys.items()}
        # Tells two keys of one name apart. 256 random bits stand behind it: nobody finds the key by trying.
        self.fingerprints: Mapping[str, str] = {
            kek_id: hmac.digest(key, _FINGERPRINT_CONTEXT, hashlib.sha256)[:_FINGERPRINT_BYTES].hex()
            for kek_id, key in keys.items()
        }
        self.primary_id = next(iter(keys))

    @property
    def kek_ids(self) -> tuple[str, ...]:
        """All ids, primary first."""
        return tuple(self._ciphers)

    def cipher(self, kek_id: str) -> AESGCM | None:
        """The cipher of one master key; None if this keyset does not have it."""
        return self._ciphers.get(kek_id)

    @property
    def primary(self) -> AESGCM:
        """The cipher that wraps new data keys."""
        return self._ciphers[self.primary_id]

    def require(self, kek_ids_in_use: Iterable[str]) -> None:
        """Raise KeysetError unless every master key that stored data keys need is here."""
        missing = sorted(set(kek_ids_in_use) - self._ciphers.keys())
        if missing:
            raise wrong_master_key(missing, self.kek_ids)

    def require_same(self, fingerprints: Mapping[str, str]) -> None:
        """Raise KeysetError if a key here has the name of another one. `fingerprints` are those already known."""
        for kek_id, known in fingerprints.items():
            found = self.fingerprints.get(kek_id, known)
            if not hmac.compare_digest(found, known):
                raise KeysetError(
                    "other_bytes",
                    f"The master key {kek_id} has the right name, but is not the key that went by it before.",
                    "Put the right copy back; a new key needs a new name (`ownkey master-key add` gives it one).",
                )

    def require_not_first(self, retired: Collection[str]) -> None:
        """Raise KeysetError if the primary was retired: nothing may hang on it any more."""
        if self.primary_id in retired:
            raise KeysetError(
                "retired", f"The master key {self.primary_id} is the first one of the keyset, but was retired.",
                "Put another key first; `ownkey master-key add` makes a new one.",
            )

    def __repr__(self) -> str:
        return f"Keyset(primary={self.primary_id!r}, keys={len(self._ciphers)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Keyset is never pickled or copied")


def wrong_master_key(needed: Iterable[str], found: Iterable[str]) -> KeysetError:
    """What was sealed names master keys that are not here. Ids are no secrets: they tell one copy from another."""
    return KeysetError(
        "kek_missing",
        "This is not the master key that the saved keys were sealed with "
        f"(needed: {', '.join(needed)}; found: {', '.join(found)}).",
        "Put the right copy back. If the master key was changed on purpose, keep the old line below the new one.",
    )


def parse_keyset(text: str) -> Keyset:
    """Read a keyset from its text. Raises KeysetError, which repeats nothing of the text."""
    outcome = _parse(text)
    del text  # A traceback that shows locals must not show this one.
    if isinstance(outcome, KeysetError):
        raise outcome
    return outcome


def load_keyset(environ: MutableMapping[str, str]) -> Keyset:
    """Read the keyset that the environment names, by file or by value, and take the value out of it.

    The value is removed from `environ` whatever happens next, and wiped from the process's own environment
    block if that is what `environ` is: children and /proc must not see it. Raises KeysetError.
    """
    outcome = _choose(environ.get(FILE_VARIABLE, "").strip(), _take_text(environ))
    if isinstance(outcome, KeysetError):
        raise outcome
    return outcome


def read_keyset_file(path: Path) -> Keyset:
    """The keyset in a file that only its owner can read. Raises KeysetError."""
    content = _read_private_file(path)
    outcome = content if isinstance(content, KeysetError) else _parse(content)
    del content
    if isinstance(outcome, KeysetError):
        raise outcome
    return outcome


def read_keyset_lines(path: Path) -> list[str]:
    """The lines of such a file as they stand, line ends included, once they are known to be a keyset. For the module
    that writes it. Raises KeysetError."""
    content = _read_private_file(path)
    outcome = content if isinstance(content, KeysetError) else _parse(content)
    if isinstance(content, str) and isinstance(outcome, Keyset):
        return content.splitlines(keepends=True)
    del content
    assert isinstance(outcome, KeysetError)
    raise outcome


def generate_keyset_text() -> str:
    """A new keyset of one random key, as text. Its random id lets a wrong file be told by name."""
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")
    return f"k_{secrets.token_hex(4)}:{key}\n"


def write_new_keyset(path: Path) -> str:
    """Write a new keyset that only its owner can read, durably, and return its kek_id.

    Never overwrites: with the old key gone, so is everything that it encrypted. Raises KeysetError.
    """
    text = generate_keyset_text()
    problem = _write_private_file(path, text.encode("ascii"))
    kek_id = text.partition(":")[0]
    del text
    if problem is not None:
        raise problem
    return kek_id


def _take_text(environ: MutableMapping[str, str]) -> str:
    text = environ.get(TEXT_VARIABLE, "")
    if environ is os.environ:
        wipe_environment_variable(TEXT_VARIABLE)
    environ.pop(TEXT_VARIABLE, None)
    return text.strip()


def _choose(path: str, text: str) -> Keyset | KeysetError:
    if path and text:
        return KeysetError(
            "two_sources",
            f"Both {FILE_VARIABLE} and {TEXT_VARIABLE} are set, and they may differ.",
            f"Keep {FILE_VARIABLE} and unset {TEXT_VARIABLE}.",
        )
    if path:
        content = _read_private_file(Path(path))
        return content if isinstance(content, KeysetError) else _parse(content)
    if text:
        return _parse(text)
    return KeysetError(
        "none",
        "There is no master key, and without one no credential can be stored.",
        f"Make one with `ownkey init` in a new folder, then set {FILE_VARIABLE} to the file it wrote.",
    )


def _read_private_file(path: Path) -> str | KeysetError:
    """The text of a file that nobody but its owner can read."""
    try:
        # Non-blocking: opening a named pipe would otherwise wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path.
        return KeysetError(
            "unreadable",
            f"The master key file {path} cannot be opened: {_reason(error)}.",
            f"Check {FILE_VARIABLE} and the file's owner, or make a keyset with `ownkey init` in a new folder.",
        )
    try:
        # Asked of the open descriptor, not of the path: the file that is judged is the file that is read.
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            return KeysetError(
                "unreadable",
                f"The master key file {path} is not a regular file.",
                f"Point {FILE_VARIABLE} to a file with lines of the form kek_id:base64.",
            )
        if mode & 0o077:
            return KeysetError(
                "exposed",
                f"The master key file {path} is open to others on this host (mode {stat.S_IMODE(mode):04o}).",
                f"Run `chmod 400 {path}`, or mount the secret with mode 0400.",
            )
        content = os.read(descriptor, _MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MAX_FILE_BYTES:
        return KeysetError(
            "too_large",
            f"The master key file {path} is larger than {_MAX_FILE_BYTES // 1024} KiB.",
            "Keep only lines of the form kek_id:base64 in it.",
        )
    return content.decode("utf-8", "replace")


def _write_private_file(path: Path, content: bytes) -> KeysetError | None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return KeysetError(
            "exists",
            f"{path} already exists, and a master key is never overwritten.",
            "Use that file, or choose another path.",
        )
    except OSError as error:
        return _unwritable(path, error)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)  # Half a key would be refused later, with a sentence that misleads.
        return _unwritable(path, error)
    return None


def sync_folder(folder: Path) -> None:
    """Make a new file's name durable too: a key that is lost in a power cut takes all credentials along."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> KeysetError:
    return KeysetError(
        "unwritable",
        f"The master key file {path} cannot be written: {_reason(error)}.",
        "Choose a path in an existing folder that this user may write to.",
    )


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "the path is not valid"


def _parse(text: str) -> Keyset | KeysetError:
    keys: dict[str, bytes] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        kek_id, colon, encoded = line.partition(":")
        if not colon or not _KEK_ID.fullmatch(kek_id):
            return KeysetError(
                "malformed",
                f"Line {number} of the keyset is not of the form kek_id:base64.",
                "Write a short name (letters, digits, _ and -), a colon, and 32 random bytes in base64.",
            )
        key = _decode(encoded.strip())
        if key is None:
            return KeysetError("not_base64", f"The master key on line {number} of the keyset is not base64.", _MAKE_ONE)
        problem = _weakness(key, number)
        if problem is not None:
            return problem
        if kek_id in keys or any(hmac.compare_digest(key, other) for other in keys.values()):
            return KeysetError(
                "duplicate",
                f"Line {number} of the keyset repeats the name or the key of an earlier line.",
                "Keep each name and each key once; a rotation needs a new key under a new name.",
            )
        keys[kek_id] = key
    if not keys:
        return KeysetError("none", "The keyset has no line with a master key.", _MAKE_ONE)
    return Keyset(keys)


def _decode(encoded: str) -> bytes | None:
    """The bytes, or None. Judged by a pattern first: the decoder's own errors would carry the key along."""
    return base64.b64decode(encoded) if _BASE64.fullmatch(encoded) else None


def _weakness(key: bytes, number: int) -> KeysetError | None:
    """Why a decoded key must not protect anything, or None."""
    if len(key) < KEY_BYTES:
        return KeysetError(
            "short",
            f"The master key on line {number} of the keyset has {len(key)} bytes instead of {KEY_BYTES}.",
            _MAKE_ONE,
        )
    if len(key) > KEY_BYTES:
        return KeysetError(
            "long",
            f"The master key on line {number} of the keyset has {len(key)} bytes instead of {KEY_BYTES}.",
            _MAKE_ONE,
        )
    if len(set(key)) == 1:
        return KeysetError(
            "weak",
            f"The master key on line {number} of the keyset repeats one byte: it is a placeholder, not a key.",
            _MAKE_ONE,
        )
    if hmac.compare_digest(key, _EXAMPLE_KEY):
        return KeysetError(
            "example",
            f"The master key on line {number} of the keyset is the example of the documentation: everybody has it.",
            _MAKE_ONE,
        )
    return None
