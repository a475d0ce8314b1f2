"""One-time codes of an authenticator app (RFC 6238), as pure functions: seed and time in, six digits out.

A code counts for its own half minute and the one before and after, because telephones' clocks differ; and it counts
once, because somebody may have looked over a shoulder.
"""

import hmac
from base64 import b32encode
from typing import Final
from urllib.parse import quote, urlencode

STEP_MS: Final = 30_000
DIGITS: Final = 6
SEED_BYTES: Final = 20
"""As long as the digest that is computed from it (RFC 4226, section 4: at least 16, 20 recommended)."""

NEVER: Final = -1
"""The last used step of a seed of which no code was used yet."""


def step_of(at_ms: int) -> int:
    """The number of the half minute since 1970."""
    return at_ms // STEP_MS


def code_of(seed: bytes, step: int, *, digits: int = DIGITS, digest: str = "sha1") -> str:
    """The code of one half minute. `digits` and `digest` are there for the RFC's own vectors."""
    mac = hmac.digest(seed, step.to_bytes(8, "big"), digest)
    at = mac[-1] & 0x0F
    number = int.from_bytes(mac[at:at + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**digits:0{digits}}"


def matching_step(seed: bytes, code: str, at_ms: int, last_step: int) -> int | None:
    """The step that a typed code belongs to; None if it is wrong, too old, too new, or was used (`last_step`).

    All three codes are compared whatever the first comparison says.
    """
    typed = code.encode("utf-8", "surrogatepass")
    now = step_of(at_ms)
    found = None
    for step in (now - 1, now, now + 1):
        equal = step >= 0 and hmac.compare_digest(code_of(seed, step).encode("ascii"), typed)
        if equal and step > last_step and found is None:
            found = step
    return found


def seed_text(seed: bytes) -> str:
    """The seed as people type it where no camera is at hand: base32 in groups of four."""
    text = b32encode(seed).decode("ascii").rstrip("=")
    return " ".join(text[at:at + 4] for at in range(0, len(text), 4))


def enrolment_uri(seed: bytes, account: str, issuer: str) -> str:
    """What the QR code says, in the form that authenticator apps read."""
    # A colon divides issuer from account, so neither may bring one along.
    label = f"{_label(issuer)}:{_label(account)}"
    parameters = {
        "secret": b32encode(seed).decode("ascii").rstrip("="), "issuer": issuer.replace(":", " "),
        "algorithm": "SHA1", "digits": str(DIGITS), "period": str(STEP_MS // 1_000),
    }
    return f"otpauth://totp/{label}?{urlencode(parameters, quote_via=quote)}"


def _label(text: str) -> str:
    return quote(text.replace(":", " "), safe="@")
