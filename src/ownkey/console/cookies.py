"""The console's cookies: sent over TLS only, to this host only, and to no script.

SameSite is Lax and not Strict: after a sign-in at a provider the browser comes back from another site, and a Strict
cookie would be held back on exactly that way. What changes something is a POST, which Lax never lets through from
elsewhere, and every form carries a token as well.
"""

from ownkey.console.visit import SESSION_COOKIE
from ownkey.domain.oidc import START_MS
from ownkey.domain.operators import STEP_MS
from ownkey.pages.http import PageRequest

STEP_COOKIE = f"{SESSION_COOKIE}-step"
SET_UP_COOKIE = f"{SESSION_COOKIE}-setup"
OIDC_COOKIE = f"{SESSION_COOKIE}-oidc"

Header = tuple[str, str]

_LASTS_S = {STEP_COOKIE: STEP_MS // 1_000, SET_UP_COOKIE: 3_600, OIDC_COOKIE: START_MS // 1_000}


def put(name: str, value: str) -> Header:
    """The session's own cookie ends with the browser, the others after their time; the server knows better anyway."""
    lasts = f"; Max-Age={_LASTS_S[name]}" if name in _LASTS_S else ""
    return "set-cookie", f"{name}={value}; Path=/{lasts}; Secure; HttpOnly; SameSite=Lax"


def take_away(name: str) -> Header:
    return "set-cookie", f"{name}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax"


def get(request: PageRequest, name: str) -> str:
    """Nothing where it is absent, and where there are two of the name: somebody else has put one there."""
    pairs = (part.partition("=") for part in request.headers.get("cookie", "").split(";"))
    found = [value.strip() for key, _, value in pairs if key.strip() == name]
    return found[0] if len(found) == 1 else ""
