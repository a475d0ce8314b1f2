"""Signing in through an OpenID Connect provider: what is asked for, what is believed, and who gets which role.

The rules are pure. Everything that a provider says is checked against what was configured and against what was asked
for in this very sign-in; a claim that is missing is a claim that is false.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from ownkey.domain.connect import with_query
from ownkey.domain.exchange import Origin

CALLBACK_PATH: Final = "/console/oidc/return"
START_MS: Final = 10 * 60_000
LEEWAY_S: Final = 60
MAX_TOKEN_CHARS: Final = 16 * 1024
MAX_SUBJECT_CHARS: Final = 255
ALGORITHMS: Final = ("RS256", "ES256")
"""Signatures with a public key only: a shared secret could be used by whoever knows it, "none" by everybody."""


class OidcRefused(Exception):
    """Something of the provider's cannot be believed. The text says what, as the end of a sentence; it repeats nothing
    that the provider or the browser sent."""


class UnknownKey(OidcRefused):
    """The token was signed with a key that is not on the list; a newer list may have it."""


@dataclass(frozen=True, slots=True)
class OidcRules:
    """From `ownkey.toml`, section [console.oidc]. `ops` and `support` are e-mail addresses or domains ("@example.com").

    `origins` are the places that may be asked: the issuer's own, and those that were listed beside it.
    """

    issuer: str
    client_id: str
    ops: tuple[str, ...]
    support: tuple[str, ...]
    origins: tuple[Origin, ...]
    public_client: bool = False

    def role_of(self, email: str) -> str | None:
        """"ops", "support", or None: this address may not sign in. A whole address beats a domain."""
        domain = "@" + email.rpartition("@")[2]
        for name in (email, domain):
            if name in self.ops:
                return "ops"
            if name in self.support:
                return "support"
        return None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place at the provider: one of the configured origins, and the path there."""

    origin: Origin
    path: str

    @property
    def url(self) -> str:
        return f"{self.origin}{self.path}"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What of the discovery document is used. `names_issuer`: the way back must name the issuer (RFC 9207)."""

    authorization: str
    token: Endpoint
    keys: Endpoint
    basic: bool
    names_issuer: bool


@dataclass(frozen=True, slots=True)
class Person:
    """Whom an ID token speaks of. `auth_time_ms` is when they proved it there, None if the provider does not say."""

    subject: str
    email: str
    name: str
    auth_time_ms: int | None


def find_endpoint(url: object, origins: Sequence[Origin], what: str) -> Endpoint:
    """A provider's address, if it is at one of the configured places. Raises OidcRefused."""
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url or len(url) > 2_000:
        raise OidcRefused(f"its discovery document names no {what}")
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        raise OidcRefused(f"its {what} is no address") from None
    if parts.username is not None or parts.password is not None or parts.fragment or not parts.hostname:
        raise OidcRefused(f"its {what} is no plain address")
    for origin in origins:
        if (origin.scheme, origin.host, origin.port) == (parts.scheme, parts.hostname.lower(), port):
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            return Endpoint(Origin(origin.scheme, origin.host, origin.port, ""), path)
    place = f"{parts.scheme}://{parts.netloc}"
    raise OidcRefused(
        f"its {what} is at {place[:120]}, which is not configured: add it to origins in [console.oidc] if it is the "
        "provider's"
    )


def read_metadata(document: object, rules: OidcRules) -> Metadata:
    """The discovery document of the configured issuer. Raises OidcRefused."""
    if not isinstance(document, Mapping):
        raise OidcRefused("its discovery document cannot be read")
    if document.get("issuer") != rules.issuer:
        raise OidcRefused("its discovery document speaks for another issuer")
    algorithms = document.get("id_token_signing_alg_values_supported")
    if isinstance(algorithms, list) and not set(ALGORITHMS) & {a for a in algorithms if isinstance(a, str)}:
        raise OidcRefused(f"it signs with none of {', '.join(ALGORITHMS)}")
    methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return Metadata(
        authorization=find_endpoint(
            document.get("authorization_endpoint"), rules.origins, "sign-in page"
        ).url,
        token=find_endpoint(document.get("token_endpoint"), rules.origins, "token endpoint"),
        keys=find_endpoint(document.get("jwks_uri"), rules.origins, "list of keys"),
        basic=isinstance(methods, list) and "client_secret_basic" in methods,
        names_issuer=document.get("authorization_response_iss_parameter_supported") is True,
    )


def authorization_url(
    metadata: Metadata, rules: OidcRules, *, callback_url: str, state: str, nonce: str, challenge: str,
    max_age_s: int | None = None, login_hint: str = "",
) -> str:
    """The provider's page that the browser is sent to."""
    asked = {
        "response_type": "code", "client_id": rules.client_id, "redirect_uri": callback_url,
        "scope": "openid email profile", "state": state, "nonce": nonce, "code_challenge": challenge,
        "code_challenge_method": "S256", "max_age": "" if max_age_s is None else str(max_age_s),
        "login_hint": login_hint,
    }
    return with_query(metadata.authorization, {name: value for name, value in asked.items() if value})


def token_body(rules: OidcRules, *, code: str, verifier: str, callback_url: str) -> bytes:
    """The form that turns a code into tokens; the client's secret travels in a header."""
    fields = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": callback_url, "code_verifier": verifier,
        "client_id": rules.client_id,
    }
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items()).encode("ascii")


def check_claims(claims: Mapping[str, Any], rules: OidcRules, *, nonce: str, now_ms: int) -> Person:
    """Whom a token with a good signature speaks of, if it was made here, for us, for this sign-in, and is in force.

    Raises OidcRefused.
    """
    now = now_ms // 1_000
    if claims.get("iss") != rules.issuer:
        raise OidcRefused("the ID token was made by another issuer")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if rules.client_id not in audiences:
        raise OidcRefused("the ID token was made for another client")
    # A token for several clients says in azp for which one; one for us alone may leave it out.
    party = claims.get("azp")
    if (len(audiences) > 1 and party is None) or (party is not None and party != rules.client_id):
        raise OidcRefused("the ID token was given to another client")
    expires, issued, not_before = (_seconds(claims.get(name)) for name in ("exp", "iat", "nbf"))
    if expires is None or now >= expires + LEEWAY_S:
        raise OidcRefused("the ID token has expired")
    if issued is None or issued > now + LEEWAY_S or (not_before is not None and not_before > now + LEEWAY_S):
        raise OidcRefused("the ID token is from the future; one of the two clocks is wrong")
    if not isinstance(claims.get("nonce"), str) or claims["nonce"] != nonce:
        raise OidcRefused("the ID token belongs to another sign-in")
    return _person(claims, now)


def _person(claims: Mapping[str, Any], now: int) -> Person:
    subject, email, name = claims.get("sub"), claims.get("email"), claims.get("name")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARS:
        raise OidcRefused("the ID token names nobody")
    verified = claims.get("email_verified")  # compared by kind too: 1 equals True, and is no word of a provider's
    if not isinstance(email, str) or not (verified is True or verified == "true"):
        raise OidcRefused("the provider has not verified the e-mail address")
    auth_time = _seconds(claims.get("auth_time"))
    if auth_time is not None and auth_time > now + LEEWAY_S:
        raise OidcRefused("the ID token is from the future; one of the two clocks is wrong")
    shown = " ".join(name.split())[:120] if isinstance(name, str) and name.isprintable() else ""
    return Person(subject, email, shown, None if auth_time is None else min(auth_time, now) * 1_000)


def _seconds(value: object) -> int | None:
    """A NumericDate; None for whatever is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return int(value)
    except (OverflowError, ValueError):  # infinity, not a number
        return None
