"""What was sealed for one place opens in that place only, or not at all.

master key (KEK) ── wraps ──> data key (DEK), one per workspace ── derives ──> one key per sealed value

The place is the context: format, instance, workspace, provider, credential id, version and the origin that the
credential may be sent to. It goes into the derivation and into the authenticated data, so a row that is copied
to another workspace, provider or host stays closed. The derivation also yields a commitment, stored beside the
ciphertext and compared first: AES-GCM alone would let one ciphertext open under two keys. Every value has a
key of its own, so no nonce can repeat under a key. Data keys may stay in memory; plaintext never does.
"""

import hmac
import os
import secrets
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ownkey.domain.credentials import AcceptedCredential
from ownkey.domain.errors import DataKeyClosed
from ownkey.domain.secret import Secret
from ownkey.domain.workspace import Sealed, WrappedDek
from ownkey.vault.keyset import Keyset

FORMAT: Final = 1  # Names the recipe, so that a later one can be told apart.
FINGERPRINT_BYTES: Final = 8
CACHED_DEKS: Final = 4_096

_DEK_CONTEXT: Final = "ownkey dek 1"
_CREDENTIAL_CONTEXT: Final = "ownkey credential 1"
_SECRET_CONTEXT: Final = "ownkey secret 1"  # noqa: S105 - a label, not a secret
_FINGERPRINT_CONTEXT: Final = "ownkey fingerprint 1"
_FILE_CONTEXT: Final = "ownkey file 1"

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_SALT_BYTES: Final = 32
_SHA256: Final = SHA256()


class Reason(StrEnum):
    """Why something did not open: for the audit log and the operator, never for the caller."""

    UNKNOWN_FORMAT = "unknown_format"
    KEK_MISSING = "kek_missing"
    DEK = "dek"
    COMMITMENT = "commitment"
    CIPHERTEXT = "ciphertext"


class Undecryptable(ValueError):
    """Closed for good: a wrong context, a changed byte or a missing master key.

    Carries its `reason` and, where the master key is missing, the ids that would tell an operator which one:
    `needed`, and those `found` instead.
    """

    def __init__(self, reason: Reason, needed: str = "", found: tuple[str, ...] = ()) -> None:
        super().__init__(f"undecryptable: {reason}")
        self.reason = reason
        self.needed = needed
        self.found = found


class ClosedDek(Undecryptable, DataKeyClosed):
    """It is the data key itself that does not open, so nothing under it does."""


class Vault:
    """Seals and opens. Thread-safe; holds master-key ciphers and unwrapped data keys, never a credential."""

    __slots__ = ("_instance_id", "_keyset", "_leaving", "_unwrapped")

    def __init__(self, keyset: Keyset, instance_id: str, *, cached_deks: int = CACHED_DEKS) -> None:
        """`instance_id` names the deployment: what one instance sealed, no other opens."""
        self._keyset = keyset
        self._leaving: Mapping[str, AESGCM] = {}
        self._instance_id = instance_id
        # Keyed by the workspace and the whole wrapped value: a changed byte or a foreign workspace misses.
        self._unwrapped = lru_cache(maxsize=cached_deks)(self._unwrap)

    @property
    def primary_kek_id(self) -> str:
        """Which master key wraps new data keys."""
        return self._keyset.primary_id

    def take(self, keyset: Keyset) -> None:
        """From now on these master keys. What has left still opens, for calls that began before, until `forget_left`.

        One assignment each: a call on another thread sees the old keyset or the new one, never half of each.
        """
        old = self._keyset
        gone = {kek_id: cipher for kek_id in old.kek_ids if (cipher := old.cipher(kek_id)) is not None}
        self._leaving = {
            kek_id: cipher for kek_id, cipher in {**self._leaving, **gone}.items() if keyset.cipher(kek_id) is None
        }
        self._keyset = keyset

    def forget_left(self) -> None:
        """Drop the master keys that have left the keyset, and every data key that was unwrapped."""
        self._leaving = {}
        self.forget_deks()

    def new_dek(self, workspace_id: str) -> WrappedDek:
        """A new random data key, wrapped by the primary master key."""
        return self._wrap(workspace_id, f"dek_{secrets.token_hex(8)}", _Dek(os.urandom(_KEY_BYTES)))

    def rewrap(self, workspace_id: str, wrapped_dek: WrappedDek) -> WrappedDek:
        """The same data key under the primary master key; the same value if it is already there.

        Nothing that was sealed changes. Raises Undecryptable.
        """
        if wrapped_dek.kek_id == self.primary_kek_id:
            return wrapped_dek
        return self._wrap(workspace_id, wrapped_dek.dek_id, self._unwrap(workspace_id, wrapped_dek))

    def opens_dek(self, workspace_id: str, wrapped_dek: WrappedDek) -> bool:
        """Whether the data key opens now, whatever was unwrapped before."""
        try:
            self._unwrap(workspace_id, wrapped_dek)
        except Undecryptable:
            return False
        return True

    def forget_deks(self) -> None:
        """Drop every unwrapped data key from memory: after a workspace was deleted or a master key retired."""
        self._unwrapped.cache_clear()

    def seal(
        self,
        workspace_id: str,
        wrapped_dek: WrappedDek,
        provider: str,
        credential_id: str,
        version: int,
        origin: str,
        plaintext: AcceptedCredential,
    ) -> Sealed:
        """Seal a credential for one place. Raises Undecryptable if the data key does not open."""
        context = self._credential_context(workspace_id, provider, credential_id, version, origin)
        dek = self._unwrapped(workspace_id, wrapped_dek)
        return Sealed(*dek.seal(context, plaintext.bytes_to_seal()), FORMAT)

    def open(
        self,
        workspace_id: str,
        wrapped_dek: WrappedDek,
        provider: str,
        credential_id: str,
        version: int,
        origin: str,
        sealed: Sealed,
    ) -> Secret:
        """The credential, for one call. Raises Undecryptable if anything differs from the seal."""
        context = self._credential_context(workspace_id, provider, credential_id, version, origin)
        dek = self._unwrapped(workspace_id, wrapped_dek)
        outcome = dek.open(context, sealed)
        if isinstance(outcome, Reason):
            raise Undecryptable(outcome)
        return Secret(outcome.decode("ascii"))

    def seal_secret(
        self, workspace_id: str, wrapped_dek: WrappedDek, purpose: str, plaintext: bytes | AcceptedCredential
    ) -> Sealed:
        """Seal another kind of secret for one purpose ("event-signing:ep_7"). Raises Undecryptable.

        Takes an accepted credential too: a tested candidate waits sealed in the page that may save it.
        """
        context = self._secret_context(workspace_id, purpose)
        dek = self._unwrapped(workspace_id, wrapped_dek)
        content = plaintext.bytes_to_seal() if isinstance(plaintext, AcceptedCredential) else plaintext
        return Sealed(*dek.seal(context, content), FORMAT)

    def open_secret(self, workspace_id: str, wrapped_dek: WrappedDek, purpose: str, sealed: Sealed) -> bytes:
        """The secret's bytes. Raises Undecryptable.

        Bytes and no `Secret`: event signatures and one-time passwords are computed from them. A provider
        credential does not open here; its context differs.
        """
        context = self._secret_context(workspace_id, purpose)
        dek = self._unwrapped(workspace_id, wrapped_dek)
        outcome = dek.open(context, sealed)
        if isinstance(outcome, Reason):
            raise Undecryptable(outcome)
        return outcome

    def fingerprint(self, workspace_id: str, wrapped_dek: WrappedDek, plaintext: AcceptedCredential) -> bytes:
        """8 bytes that are equal for equal credentials of one workspace, and say nothing across workspaces.

        Raises Undecryptable if the data key does not open.
        """
        context = _length_prefixed(_FINGERPRINT_CONTEXT, self._instance_id, workspace_id)
        dek = self._unwrapped(workspace_id, wrapped_dek)
        return dek.fingerprint(context, plaintext.bytes_to_seal())

    def file_cipher(self, purpose: str, wrapped_dek: WrappedDek, salt: bytes, about: str) -> tuple[AESGCM, bytes]:
        """(cipher, commitment) for one file that is sealed in chunks (`sealed_file`): a key that no other file has.

        `purpose` stands where the data key's workspace stands, `about` says everything that must not change with the
        file. Raises Undecryptable if the data key does not open.
        """
        dek = self._unwrap(purpose, wrapped_dek)
        return dek.file_cipher(salt, _length_prefixed(_FILE_CONTEXT, self._instance_id, purpose, about))

    def __repr__(self) -> str:
        return f"Vault({self._keyset!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Vault is never pickled or copied")

    def _credential_context(
        self, workspace_id: str, provider: str, credential_id: str, version: int, origin: str
    ) -> bytes:
        return _length_prefixed(
            _CREDENTIAL_CONTEXT, self._instance_id, workspace_id, provider, credential_id, str(version), origin
        )

    def _secret_context(self, workspace_id: str, purpose: str) -> bytes:
        return _length_prefixed(_SECRET_CONTEXT, self._instance_id, workspace_id, purpose)

    def _dek_context(self, workspace_id: str, dek_id: str) -> bytes:
        return _length_prefixed(_DEK_CONTEXT, self._instance_id, workspace_id, dek_id)

    def _wrap(self, workspace_id: str, dek_id: str, dek: "_Dek") -> WrappedDek:
        keyset, nonce = self._keyset, os.urandom(_NONCE_BYTES)
        ciphertext = dek.wrapped_by(keyset.primary, nonce, self._dek_context(workspace_id, dek_id))
        return WrappedDek(dek_id, keyset.primary_id, nonce, ciphertext)

    def _unwrap(self, workspace_id: str, wrapped: WrappedDek) -> "_Dek":
        keyset = self._keyset
        kek = keyset.cipher(wrapped.kek_id) or self._leaving.get(wrapped.kek_id)
        if kek is None:
            raise ClosedDek(Reason.KEK_MISSING, wrapped.kek_id, keyset.kek_ids)
        dek = _decrypt(kek, wrapped.nonce, wrapped.ciphertext, self._dek_context(workspace_id, wrapped.dek_id))
        if dek is None or len(dek) != _KEY_BYTES:
            raise ClosedDek(Reason.DEK, wrapped.kek_id, keyset.kek_ids)
        return _Dek(dek)


class _Dek:
    """An unwrapped data key. Its methods return instead of raising, so that no traceback has its bytes."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def wrapped_by(self, kek: AESGCM, nonce: bytes, context: bytes) -> bytes:
        return kek.encrypt(nonce, self._key, context)

    def seal(self, context: bytes, plaintext: bytes) -> tuple[bytes, bytes, bytes, bytes]:
        """(salt, commitment, nonce, ciphertext) under a key that no other value has."""
        salt = os.urandom(_SALT_BYTES)
        nonce = os.urandom(_NONCE_BYTES)
        key, commitment = self._derive(salt, context)
        return salt, commitment, nonce, AESGCM(key).encrypt(nonce, plaintext, context)

    def open(self, context: bytes, sealed: Sealed) -> bytes | Reason:
        if sealed.format != FORMAT:
            return Reason.UNKNOWN_FORMAT
        key, commitment = self._derive(sealed.salt, context)
        if not hmac.compare_digest(commitment, sealed.commitment):
            return Reason.COMMITMENT
        plaintext = _decrypt(AESGCM(key), sealed.nonce, sealed.ciphertext, context)
        return Reason.CIPHERTEXT if plaintext is None else plaintext

    def file_cipher(self, salt: bytes, context: bytes) -> tuple[AESGCM, bytes]:
        key, commitment = self._derive(salt, context)
        return AESGCM(key), commitment

    def fingerprint(self, context: bytes, plaintext: bytes) -> bytes:
        key = HKDF(algorithm=_SHA256, length=_KEY_BYTES, salt=None, info=context).derive(self._key)
        return hmac.digest(key, plaintext, "sha256")[:FINGERPRINT_BYTES]

    def _derive(self, salt: bytes, context: bytes) -> tuple[bytes, bytes]:
        """(key, commitment): `k ‖ c`, 32 bytes each."""
        both = HKDF(algorithm=_SHA256, length=2 * _KEY_BYTES, salt=salt, info=context).derive(self._key)
        return both[:_KEY_BYTES], both[_KEY_BYTES:]

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a data key is never pickled or copied")


def _decrypt(cipher: AESGCM, nonce: bytes, ciphertext: bytes, context: bytes) -> bytes | None:
    """The plaintext, or None for whatever is wrong: a bad tag, or a nonce of impossible length."""
    try:
        return cipher.decrypt(nonce, ciphertext, context)
    except (InvalidTag, ValueError):
        return None


def _length_prefixed(*parts: str) -> bytes:
    """The parts, each behind its length: no two lists of parts give the same bytes.

    Lone surrogates pass: an id that is no valid text must fail to open, not fail to encode.
    """
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
