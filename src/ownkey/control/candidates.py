"""A typed key between its Test and its Save: it waits sealed in the person's own page, and is stored nowhere.

The seal is bound to the workspace, the visit, the provider and a moment, all of which are authenticated: taken to
another field, visit or workspace, or kept for longer, it does not open.
"""

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode

from ownkey.control.data_keys import with_data_key
from ownkey.control.ports import Clock, Safe
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.credentials import CredentialFormError, accept_credential
from ownkey.domain.errors import DataKeyClosed
from ownkey.domain.phrases import Phrase
from ownkey.domain.workspace import Sealed, WorkspaceState

CANDIDATE_MS = 10 * 60_000
MAX_CHARS = 4_096

_HEAD = struct.Struct(">BQ3B")
"""Format, end (Unix ms), and the lengths of salt, commitment and nonce; the ciphertext is the rest."""


class CandidateControl:
    def __init__(self, safe: Safe, clock: Clock) -> None:
        self._safe = safe
        self._clock = clock

    def seal(self, workspace: WorkspaceState, session_id: str, provider: str, typed: str) -> str:
        """Text for a hidden field; "" for what cannot be this provider's key, or cannot be sealed now."""
        try:
            accepted = accept_credential(provider, typed)
        except CredentialFormError:
            return ""
        until_ms = self._clock.now_ms() + CANDIDATE_MS
        try:
            sealed = self._safe.seal_secret(
                workspace.id, workspace.dek, _purpose(session_id, provider, until_ms), accepted
            )
        except DataKeyClosed:
            # The page tells something else already; whoever pastes the key again is told of this.
            return ""
        head = _HEAD.pack(
            sealed.format, until_ms, len(sealed.salt), len(sealed.commitment), len(sealed.nonce)
        )
        body = sealed.salt + sealed.commitment + sealed.nonce + sealed.ciphertext
        return urlsafe_b64encode(head + body).decode("ascii")

    def open(self, workspace: WorkspaceState, session_id: str, provider: str, text: str) -> str:
        """The key as it was accepted. Raises Problem, the same one whatever is wrong."""
        try:
            until_ms, sealed = _read(text)
            if until_ms <= self._clock.now_ms():
                raise ValueError("expired")
            purpose = _purpose(session_id, provider, until_ms)
            with with_data_key(workspace, f"credential:{provider}"):
                return self._safe.open_secret(workspace.id, workspace.dek, purpose, sealed).decode("ascii")
        except (ValueError, struct.error):
            raise Problem(
                ProblemCode.CREDENTIAL_MALFORMED,
                Phrase(
                    "The tested key is no longer in this page: it waits there for ten minutes, for this visit and "
                    "this field only."
                ), Phrase("Paste the key again."), param="key", flow=f"credential:{provider}",
            ) from None


def _purpose(session_id: str, provider: str, until_ms: int) -> str:
    return f"portal-candidate:{session_id}:{provider}:{until_ms}"


def _read(text: str) -> tuple[int, Sealed]:
    """Raises ValueError or struct.error."""
    if len(text) > MAX_CHARS or not text.isascii():
        raise ValueError("not ours")
    data = urlsafe_b64decode(text)
    version, until_ms, *lengths = _HEAD.unpack_from(data)
    parts, at = [], _HEAD.size
    for length in lengths:
        parts.append(data[at:at + length])
        at += length
    return until_ms, Sealed(parts[0], parts[1], parts[2], data[at:], version)
