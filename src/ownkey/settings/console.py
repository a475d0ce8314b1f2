"""[console]: whether operators have pages, how long a visit lasts, and who signs in through which provider.

The client secret comes from the environment or a file: configuration is copied, shown and committed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ownkey.domain.operators import ABSOLUTE_MS, IDLE_MS, ConsoleRules, normal_email
from ownkey.settings.channels import read_secret_text
from ownkey.settings.tables import SettingsError, Table

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_OIDC = ("client_id", "ops", "support", "origins", "public_client", "client_secret_file")


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """`origins` are base addresses without a path: the issuer's, and those listed beside it. `problem`: why nobody can
    sign in this way now, or ""."""

    issuer: str
    client_id: str
    ops: tuple[str, ...]
    support: tuple[str, ...]
    origins: tuple[str, ...]
    public_client: bool
    secret: str = field(repr=False)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """`rules.oidc` is empty here: whoever connects the parts fills it from `oidc`, with origins that were parsed."""

    rules: ConsoleRules = ConsoleRules()  # noqa: RUF009 - a frozen value
    oidc: OidcSettings | None = None


def read_console(
    table: Table, *, public_url: str, insecure: bool, environ: Mapping[str, str], proxies: tuple[str, ...] = ()
) -> ConsoleSettings:
    """`public_url` is [connect]'s, `proxies` are [server]'s. Raises SettingsError."""
    oidc = _read_oidc(table.table("oidc"), public_url, insecure, environ)
    rules = ConsoleRules(
        on=table.flag("on", True),
        # Whoever has a provider has one place where people come and go; a second way in must be asked for.
        passwords=table.flag("passwords", oidc is None),
        idle_ms=1_000 * table.whole("idle_s", IDLE_MS // 1_000, least=60, most=IDLE_MS // 1_000),
        absolute_ms=1_000 * table.whole("session_s", ABSOLUTE_MS // 1_000, least=300, most=ABSOLUTE_MS // 1_000),
        proxies=proxies,
    )
    table.done()
    if rules.on and not rules.passwords and oidc is None:
        raise SettingsError(
            f"{table.file}: {table.name('passwords')} is false and there is no [console.oidc], so nobody could sign "
            f"in. Configure [console.oidc], or set {table.name('on')} = false."
        )
    return ConsoleSettings(rules, oidc)


def _read_oidc(
    table: Table, public_url: str, insecure: bool, environ: Mapping[str, str]
) -> OidcSettings | None:
    if not table.has("issuer"):
        for key in _OIDC:
            if table.has(key):
                raise SettingsError(f"{table.file}: {table.name(key)} is set without {table.name('issuer')}.")
        table.done()
        return None
    issuer, client_id = table.text("issuer"), table.text("client_id")
    place = _place(table, "issuer", issuer, insecure, bare=False)
    origins = tuple(_place(table, "origins", url, insecure, bare=True) for url in table.texts("origins", ()))
    ops, support = (_read_people(table, key) for key in ("ops", "support"))
    public, file = table.flag("public_client", False), table.text("client_secret_file", "")
    table.done()
    if not client_id or not client_id.isascii() or not client_id.isprintable() or len(client_id) > 255:
        raise table.wrong("client_id", "the id that the provider gave to this client", client_id)
    if not ops and not support:
        raise SettingsError(
            f"{table.file}: [{table.path}] lets nobody in: list addresses or domains in {table.name('ops')} or "
            f"{table.name('support')}."
        )
    if not public_url:
        raise SettingsError(
            f"{table.file}: [{table.path}] needs connect.public_url: the address at which browsers come back here."
        )
    secret, problem = ("", "") if public else read_secret_text("OWNKEY_OIDC_CLIENT_SECRET", file, table, environ)
    if not public and not secret and not problem:
        problem = (
            "[console.oidc] has no client secret: set OWNKEY_OIDC_CLIENT_SECRET or OWNKEY_OIDC_CLIENT_SECRET_FILE (or "
            f"{table.name('public_client')} = true, if the provider gave none)."
        )
    return OidcSettings(
        issuer, client_id, ops, support, tuple(dict.fromkeys((place, *origins))), public, secret, problem
    )


def _place(table: Table, key: str, url: str, insecure: bool, *, bare: bool) -> str:
    """Scheme, host and port of an address; https but for tests. `bare`: it has nothing else."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        raise table.wrong(key, "an address such as https://login.example.com", url) from None
    if (
        parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment
        or parts.username is not None or (bare and parts.path not in ("", "/"))
    ):
        raise table.wrong(key, "an address such as https://login.example.com", url)
    if (parts.scheme == "http" or parts.hostname in LOOPBACK) and not (insecure and parts.hostname in LOOPBACK):
        raise SettingsError(
            f"{table.file}: {table.name(key)} is {url[:200]}: plain http and loopback need origins.allow_insecure = "
            "true, and loopback; they are meant for tests."
        )
    return f"{parts.scheme}://{parts.netloc}"


def _read_people(table: Table, key: str) -> tuple[str, ...]:
    """Whole addresses, or domains with an @ in front; lower-case."""
    people = []
    for text in table.texts(key, ()):
        found = normal_email(f"x{text}" if text.startswith("@") else text)
        if found is None:
            raise table.wrong(key, 'a list of addresses ("ada@example.com") or domains ("@example.com")', text)
        people.append(found.removeprefix("x") if text.startswith("@") else found)
    return tuple(people)
