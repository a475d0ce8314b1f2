"""Connecting OpenRouter without pasting a key (OAuth with PKCE): what is sent where, and which addresses may be named.

The rules are pure. Nothing here is a secret but the verifier and the state, which their makers seal and hash.
"""

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

PENDING_MS: Final = 10 * 60_000
"""How long a sign-in may take; OpenRouter's own codes live as long."""

STATE_BYTES: Final = 32
VERIFIER_BYTES: Final = 48
MAX_CODE_CHARS: Final = 1_024
MAX_LABEL_CHARS: Final = 100

CALLBACK_PATH: Final = "/connect/openrouter/callback"
LIMIT_RESETS: Final = ("daily", "weekly", "monthly")
RESULT_PARAMETERS: Final = ("ownkey_connect", "ownkey_code")
OWN_RETURN_PATH: Final = "/portal/credentials"
"""Where a sign-in ends that was begun on our own pages."""
APPROVE_PATH: Final = "/portal/credentials/openrouter/approve"
"""Where a sign-in leaves a frame: a page of ours at top level, which binds it to the browser that shows it."""
_COOKIE: Final = "__Host-ownkey-connect"
LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1")

# A whole address and nothing that two parsers could read differently: no user name, back slash, control or fragment.
_ADDRESS: Final = re.compile(
    r"https?://[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})(?::\d{1,5})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
    r"(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
_MAX_ADDRESS_CHARS: Final = 2_000
_STATE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class ConnectRules:
    """From `ownkey.toml`, section [connect].

    `public_url` is where browsers reach this server ("": they cannot). `return_urls` are the product's own pages that
    a browser may be sent to, by scheme, host, port and path. `auth_url` is OpenRouter's sign-in page ("": unknown).
    """

    public_url: str = ""
    return_urls: tuple[str, ...] = ()
    auth_url: str = "https://openrouter.ai/auth"


@dataclass(frozen=True, slots=True)
class KeyWish:
    """What the new key shall be like. `limit_usd` is decimal digits; `limit_reset` one of LIMIT_RESETS; `expires_at`
    an ISO time. Empty texts leave it to OpenRouter."""

    label: str
    limit_usd: str = ""
    limit_reset: str = ""
    expires_at: str = ""


@dataclass(frozen=True, slots=True)
class PendingConnect:
    """A sign-in that was begun. `actor_kind` and `actor_id` are who began it and alone may finish it over the API."""

    id: str
    workspace_id: str
    actor_kind: str
    actor_id: str
    label: str
    return_url: str
    expires_at_ms: int
    used_at_ms: int | None = None


def web_safe(data: bytes) -> str:
    """Bytes as PKCE and URLs carry them: base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def s256(verifier: str) -> str:
    """The code challenge of a verifier (RFC 7636, method S256)."""
    return web_safe(hashlib.sha256(verifier.encode("ascii")).digest())


def state_digest(state: str) -> bytes | None:
    """What is stored of a state; None for a text that is none of ours, which then is looked up nowhere."""
    return hashlib.sha256(state.encode("ascii")).digest() if _STATE.fullmatch(state) else None


def browser_proof(state: str) -> tuple[str, str]:
    """(name, value) of the cookie that binds a sign-in to the browser in which its page was opened.

    Whoever has the state can compute it; putting it into somebody else's browser is what nobody but us can do.
    """
    digest = web_safe(hashlib.sha256(b"ownkey connect, this browser: " + state.encode("ascii")).digest())
    return f"{_COOKIE}-{digest[:12]}", digest[12:]


def authorization_url(rules: ConnectRules, callback_url: str, state: str, challenge: str, wish: KeyWish) -> str:
    """The address of OpenRouter's page that the person opens."""
    asked = {
        "callback_url": with_query(callback_url, {"state": state}),
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "key_label": wish.label,
        "limit": wish.limit_usd,
        "usage_limit_type": wish.limit_reset,
        "expires_at": wish.expires_at,
    }
    return with_query(rules.auth_url, {name: value for name, value in asked.items() if value})


def with_query(url: str, parameters: dict[str, str]) -> str:
    """The address with more parameters behind those that it has."""
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
    return f"{url}{'&' if '?' in url else '?'}{text}"


def address_problem(url: str) -> str | None:
    """Why an address cannot be one of a page of ours, as the end of a sentence; None if it can."""
    if len(url) > _MAX_ADDRESS_CHARS or not _ADDRESS.fullmatch(url):
        return "is no whole address such as https://app.example.com/settings/ai"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no whole address such as https://app.example.com/settings/ai"
    if port == 0:
        return "names the port 0"
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        return "is not https (plain http is for localhost only)"
    return None


def is_listed(url: str, listed: Sequence[str]) -> bool:
    """Whether an address is one of the list, its query aside. One that is malformed is not.

    Parameters that carry a result are ours to add: an address that has one already could show a false one.
    """
    if address_problem(url) is not None:
        return False
    named = {name for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)}
    if named & {*RESULT_PARAMETERS, "code", "state"}:
        return False
    return _place(url) in {_place(one) for one in listed}


def is_loopback(url: str) -> bool:
    """Whether an address is on the machine of whoever opens it, as a command line's listener is."""
    return address_problem(url) is None and urlsplit(url).hostname in LOOPBACK_HOSTS


def _place(url: str) -> tuple[str, str, int, str]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, (parts.hostname or "").lower(), port, parts.path or "/"
