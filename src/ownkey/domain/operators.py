"""The deployment's staff: who they are, what a visit of theirs is, and what a password must be. Pure rules.

support   reads, explains, looks at a workspace as its people do
ops       all of that, and runs the deployment; money actions need a proof of identity that is ten minutes old at most

A session is 256 random bits in a cookie and their SHA-256 in the database. It ends after thirty idle minutes, after
twelve hours, and whenever role, password or the operator's own state change.
"""

import hashlib
import hmac
import re
import unicodedata
from base64 import b32encode
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Literal

from ownkey.domain.connect import web_safe
from ownkey.domain.oidc import OidcRules
from ownkey.domain.workspace import Sealed

SECRET_BYTES: Final = 32
LINK_MS: Final = 24 * 3_600_000
STEP_MS: Final = 5 * 60_000
"""How long a right password waits for its code."""

FRESH_MS: Final = 10 * 60_000
IDLE_MS: Final = 30 * 60_000
ABSOLUTE_MS: Final = 12 * 3_600_000
TOUCH_MS: Final = 60_000
"""A session's idle end is moved at most this often: reading pages must not write a row each."""

WINDOW_MS: Final = 15 * 60_000
LOCK_MS: Final = 15 * 60_000
MOST_FAILURES: Final = 10

MIN_PASSWORD: Final = 12
MAX_PASSWORD: Final = 1_024
RECOVERY_CODES: Final = 10
RECOVERY_BYTES: Final = 10

MAX_FILTERS: Final = 50
SIGN_IN_PATH: Final = "/console/sign-in"
SET_UP_PATH: Final = "/console/set-up"

_EMAIL: Final = re.compile(r"[^\s@,;<>\"]{1,64}@[^\s@,;<>\"]{1,190}\Z")
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_OWN_PATH: Final = re.compile(r"/console(?:/[A-Za-z0-9._~:@%+-]+)*/?(?:\?[A-Za-z0-9._~:@%+=&,/-]*)?\Z", re.ASCII)
_RECOVERY: Final = re.compile(r"[A-Z2-7]{16}\Z", re.ASCII)
_COMMON: Final = (
    "password", "passwort", "passphrase", "letmein", "welcome", "qwerty", "qwertz", "asdfgh", "iloveyou", "changeme",
    "administrator", "abc123", "dragon", "monkey", "football", "baseball", "sunshine", "princess", "trustno1", "admin",
    "operator", "console", "login", "secret",
)
_RUNS: Final = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop")


class OperatorRole(StrEnum):
    SUPPORT = "support"
    OPS = "ops"


class OperatorStatus(StrEnum):
    INVITED = "invited"
    ACTIVE = "active"
    DISABLED = "disabled"


Via = Literal["password", "oidc"]


@dataclass(frozen=True, slots=True)
class Operator:
    """One member of staff. `email` is lower-case and unique. `oidc_subject` "" and `has_password` false: invited, but
    nobody has set anything up. `shortcuts`: whether the pages answer to keys. Times are Unix milliseconds."""

    id: str
    email: str
    name: str
    role: OperatorRole
    disabled: bool
    has_password: bool
    oidc_issuer: str
    oidc_subject: str
    shortcuts: bool
    created_at_ms: int
    last_sign_in_at_ms: int | None
    recovery_codes_left: int = 0

    @property
    def status(self) -> OperatorStatus:
        if self.disabled:
            return OperatorStatus.DISABLED
        return OperatorStatus.ACTIVE if self.has_password or self.oidc_subject else OperatorStatus.INVITED


@dataclass(frozen=True, slots=True)
class Factors:
    """What an operator proves with: an argon2id hash, a sealed TOTP seed, and the last half minute whose code was
    used."""

    password_hash: str
    totp: Sealed
    totp_last_step: int

    def __repr__(self) -> str:
        return "Factors(***)"


@dataclass(frozen=True, slots=True)
class SetUp:
    """A one-time link that was given out. `password_hash` and `totp` are what its opener has chosen so far, in force
    only when a first code has proved that the app has the seed."""

    operator: Operator
    expires_at_ms: int
    used_at_ms: int | None
    password_hash: str | None
    totp: Sealed | None

    def __repr__(self) -> str:
        return f"SetUp({self.operator.id})"


@dataclass(frozen=True, slots=True)
class OperatorSession:
    """One visit of an operator. `via` says how they signed in. Times are Unix milliseconds; `fresh_until_ms` is when
    the last proof of identity gets too old for a money action (0: there was none)."""

    id: str
    operator_id: str
    email: str
    name: str
    role: OperatorRole
    created_at_ms: int
    idle_until_ms: int
    absolute_until_ms: int
    fresh_until_ms: int
    via: Via
    shortcuts: bool = True

    def is_live(self, now_ms: int) -> bool:
        return now_ms < min(self.idle_until_ms, self.absolute_until_ms)

    def is_fresh(self, now_ms: int) -> bool:
        """Whether the proof of identity is young enough for a money action."""
        return now_ms < self.fresh_until_ms

    @property
    def ends_at_ms(self) -> int:
        return min(self.idle_until_ms, self.absolute_until_ms)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A live session as its owner sees it in the list of their own."""

    id: str
    via: Via
    address: str
    created_at_ms: int
    idle_until_ms: int
    absolute_until_ms: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in that is being checked. It counts as a failure until it has passed, so that attempts side by side
    cannot outnumber the limit. `account` and `address` are what is counted and locked, never the typed text."""

    id: str
    account: bytes
    address: bytes
    shown_address: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ConsoleRules:
    """From `ownkey.toml`, section [console].

    `passwords`: whether operators sign in with a password and a code of their own. `proxies` are the networks whose
    word about the caller's address is believed. `oidc` None: nobody signs in through another provider.
    """

    on: bool = True
    passwords: bool = True
    idle_ms: int = IDLE_MS
    absolute_ms: int = ABSOLUTE_MS
    proxies: tuple[str, ...] = ()
    oidc: OidcRules | None = None


class PasswordsBusy(Exception):
    """More passwords wait to be checked than can be checked soon."""


# --- secrets


def secret_digest(secret: str) -> bytes | None:
    """What is stored of a session, a link or a step; None for a text that is none of ours, looked up nowhere."""
    return hashlib.sha256(secret.encode("ascii")).digest() if _SECRET.fullmatch(secret) else None


def csrf_token(secret: str) -> str:
    """The token of a session's forms: whoever has it has not got the cookie."""
    return web_safe(hmac.digest(secret.encode("ascii"), b"csrf", "sha256"))


def is_csrf_token(secret: str, token: str) -> bool:
    return hmac.compare_digest(csrf_token(secret).encode("ascii"), token.encode("utf-8", "surrogatepass"))


def recovery_code(entropy: bytes) -> str:
    """80 random bits as four groups of four, without letters that look like digits."""
    text = b32encode(entropy[:RECOVERY_BYTES]).decode("ascii")
    return "-".join(text[at:at + 4] for at in range(0, len(text), 4)).lower()


def recovery_digest(typed: str) -> bytes | None:
    """What is stored of a recovery code, however it was typed; None if it cannot be one."""
    text = re.sub(r"[\s-]", "", typed).upper()
    return hashlib.sha256(text.encode("ascii")).digest() if _RECOVERY.match(text) else None


# --- people


def normal_email(typed: str) -> str | None:
    """An address as it is stored and compared; None if it is none."""
    text = unicodedata.normalize("NFC", typed.strip()).lower()
    return text if _EMAIL.match(text) and text.isprintable() else None


def account_key(typed_email: str) -> bytes:
    """What failures are counted under: also for addresses that nobody has, so that both lock alike."""
    text = normal_email(typed_email) or typed_email
    return hashlib.sha256(b"account:" + text.encode("utf-8", "surrogatepass")).digest()


def address_key(address: str) -> bytes:
    """What failures of one place are counted under: an IPv4 address, or the network of an IPv6 one, which is what one
    caller is given."""
    return hashlib.sha256(b"address:" + _network(address).encode("utf-8", "surrogatepass")).digest()


def client_address(peer: str, forwarded: Sequence[str], proxies: Sequence[str]) -> str:
    """Where a request comes from. `forwarded` are the values of X-Forwarded-For, in order; they are believed from the
    right on, as far as the last hop is one of the configured proxies."""
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    address = peer
    while hops and _is_within(address, proxies):
        hop = _plain(hops.pop())
        if hop is None:
            break
        address = hop
    return address


def own_path(path: str) -> str:
    """A page of the console to go to after signing in; its first page for anything else."""
    return path if _OWN_PATH.match(path) and "//" not in path and len(path) <= 1_000 else "/console"


def _plain(text: str) -> str | None:
    try:
        found = ip_address(text.strip("[]"))
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found)


def _is_within(address: str, networks: Sequence[str]) -> bool:
    plain = _plain(address)
    return plain is not None and any(ip_address(plain) in ip_network(network) for network in networks)


def _network(address: str) -> str:
    plain = _plain(address)
    if plain is None or ":" not in plain:
        return plain or address
    return str(ip_network(f"{plain.partition('%')[0]}/64", strict=False))


# --- passwords


def normal_password(typed: str) -> str:
    """The same characters however a keyboard composed them (NIST SP 800-63B: a stable form before hashing)."""
    return unicodedata.normalize("NFKC", typed)


def password_problem(password: str, *, email: str, name: str, product: str) -> str | None:
    """Why a password cannot be taken, as a sentence; None if it can.

    Length is what counts; a small rule keeps out what is tried first: names that are at hand, well-known words with
    digits around them, runs along the keyboard, and few characters repeated.
    """
    text = normal_password(password)
    if len(text) < MIN_PASSWORD:
        return f"A password has at least {MIN_PASSWORD} characters; this one has {len(text)}."
    if len(text) > MAX_PASSWORD:
        return f"A password has at most {MAX_PASSWORD} characters."
    bare = re.sub(r"[\W\d_]", "", text.lower())
    for word in _own_words(email, name, product):
        if word in text.lower() and len(text) - len(word) < MIN_PASSWORD:
            return "The password is little more than your name, your e-mail address or the product's name."
    if len(set(text)) < 5:
        return "The password repeats a few characters."
    if bare in _COMMON or any(bare == word * 2 for word in _COMMON):
        return "The password is a well-known one with something around it."
    if _is_run(text.lower()):
        return "The password is a run of neighbouring keys."
    return None


def _own_words(email: str, name: str, product: str) -> list[str]:
    words = [email, email.partition("@")[0], name, *name.split(), product, *product.split(), "ownkey"]
    return [word.lower() for word in words if len(word) >= 4]


def _is_run(text: str) -> bool:
    """Whether nothing but runs of four and more, in either direction, makes up the text, but for an end of three."""
    ways = [way for run in _RUNS for way in (run * 2, run[::-1] * 2)]
    rest = text
    while len(rest) > 3:
        size = max((n for n in range(4, len(rest) + 1) if any(rest[:n] in way for way in ways)), default=0)
        if not size:
            return False
        rest = rest[size:]
    return True
