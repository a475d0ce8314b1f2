"""Access tokens that a scanner recognises and a typo cannot pass for: `ok_`, 30 random characters, 6 of checksum.

The checksum is no secret: it lets a malformed token be refused before any query, and lets a leaked one be
found in a repository without asking us. Only the SHA-256 of a token is stored.
"""

import hashlib
import re
import zlib
from typing import Final

TOKEN_PREFIX: Final = "ok_"  # noqa: S105 - the public part
RANDOM_CHARS: Final = 30
CHECKSUM_CHARS: Final = 6
TOKEN_CHARS: Final = len(TOKEN_PREFIX) + RANDOM_CHARS + CHECKSUM_CHARS
MIN_ENTROPY_BYTES: Final = 32

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TOKEN: Final = re.compile(rb"ok_([0-9A-Za-z]{30})([0-9A-Za-z]{6})")


def make_token(entropy: bytes) -> str:
    """A token from at least 32 random bytes, which the caller draws and forgets.

    62^30 is about 2^178.6: taking 256 random bits modulo that is biased by less than 2^-77, which nobody can
    tell from none. Raises ValueError for less entropy.
    """
    if len(entropy) < MIN_ENTROPY_BYTES:
        raise ValueError(f"a token needs {MIN_ENTROPY_BYTES} random bytes, got {len(entropy)}")
    body = _base62(int.from_bytes(entropy, "big"), RANDOM_CHARS)
    return f"{TOKEN_PREFIX}{body}{_checksum(body.encode('ascii'))}"


def is_well_formed(token: str | bytes) -> bool:
    """Whether prefix, length, alphabet and checksum fit. Total: any text or bytes may come from outside."""
    if isinstance(token, str):
        if not token.isascii():
            return False
        token = token.encode("ascii")
    match = _TOKEN.fullmatch(token)
    return match is not None and _checksum(match[1]).encode("ascii") == match[2]


def digest(token: str | bytes) -> bytes:
    """SHA-256, 32 bytes: what is stored and looked up.

    No salt and no slow hash: 178 random bits cannot be guessed, and the digest is looked up on every call.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass") if isinstance(token, str) else token).digest()


def _checksum(body: bytes) -> str:
    """CRC-32 of the random part, as 6 characters (2^32 < 62^6)."""
    return _base62(zlib.crc32(body), CHECKSUM_CHARS)


def _base62(number: int, length: int) -> str:
    """The number modulo 62^length, most significant character first."""
    characters: list[str] = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        characters.append(_ALPHABET[digit])
    return "".join(reversed(characters))
