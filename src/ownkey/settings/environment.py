"""Every environment variable there is, in one table, read from a mapping that the caller hands in.

Nothing else in the product reads the environment but the master keyset, which is taken out of it at once.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ownkey.settings.tables import SettingsError

PREFIX = "OWNKEY_"
DEFAULT_CONFIG = "ownkey.toml"
FAILPOINTS = ("before-hold", "after-hold", "mid-stream", "in-settle", "in-expiry", "in-outbox")


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable. `default` is what holds without it, in words; `secret` values are never shown."""

    name: str
    meaning: str
    default: str
    secret: bool = False


VARIABLES: tuple[Variable, ...] = (
    Variable("OWNKEY_CONFIG", "Path of the configuration file.", "./ownkey.toml"),
    Variable(
        "OWNKEY_MASTER_KEY_FILE",
        "File with the master keyset (mode 0400 or 0600): lines `kek_id:base64`, the first is primary.",
        "master.key beside ownkey.toml",
    ),
    Variable("OWNKEY_MASTER_KEY", "The master keyset itself; removed once read.", "none", secret=True),
    Variable("OWNKEY_DATABASE_URL", "The database; only SQLite in the data directory so far.", "sqlite"),
    Variable("OWNKEY_DATA_DIR", "Where the database lives.", "server.data_dir of the configuration"),
    Variable("OWNKEY_HOST", "Address to listen on.", "server.host of the configuration"),
    Variable("OWNKEY_PORT", "Port to listen on.", "server.port of the configuration"),
    Variable("OWNKEY_URL", "For the command line: the running Ownkey to talk to.",
             "the one that runs beside ownkey.toml, else the database"),
    Variable("OWNKEY_TOKEN", "For the command line: a service token for OWNKEY_URL.", "none", secret=True),
    Variable("OWNKEY_SMTP_PASSWORD", "The password of [mail].user.", "mail.password_file", secret=True),
    Variable("OWNKEY_SMTP_PASSWORD_FILE", "File with the password of [mail].user.", "mail.password_file"),
    Variable(
        "OWNKEY_EVENT_SECRETS", "What events to the host are signed with: whsec_…, or two with a space between.",
        "events.secret_file", secret=True,
    ),
    Variable("OWNKEY_EVENT_SECRETS_FILE", "File with the secrets of events.", "events.secret_file"),
    Variable("OWNKEY_STRIPE_KEY", "Stripe's secret key (sk_… or rk_…), for [billing].", "none", secret=True),
    Variable("OWNKEY_STRIPE_KEY_FILE", "File with Stripe's secret key.", "none"),
    Variable(
        "OWNKEY_STRIPE_WEBHOOK_SECRETS",
        "What Stripe signs its webhooks with: whsec_…, or several with spaces between.", "none", secret=True,
    ),
    Variable("OWNKEY_STRIPE_WEBHOOK_SECRETS_FILE", "File with Stripe's webhook secrets.", "none"),
    Variable("OWNKEY_OIDC_CLIENT_SECRET", "The client secret of [console.oidc].", "console.oidc.client_secret_file",
             secret=True),
    Variable(
        "OWNKEY_OIDC_CLIENT_SECRET_FILE", "File with the client secret of [console.oidc].",
        "console.oidc.client_secret_file",
    ),
    Variable("OWNKEY_TESTING", "`1` honours OWNKEY_FAILPOINT. For tests of Ownkey itself.", "off"),
    Variable(
        "OWNKEY_FAILPOINT",
        f"Where this process kills itself: one of {', '.join(FAILPOINTS)}. Needs OWNKEY_TESTING=1.",
        "none",
    ),
)


@dataclass(frozen=True, slots=True)
class Environment:
    """What the environment says, None where it says nothing. The master keyset is not here: the vault reads it."""

    config_path: Path
    data_dir: Path | None
    host: str | None
    port: int | None
    url: str | None
    token: str | None
    testing: bool
    failpoint: str | None

    def __repr__(self) -> str:
        return f"Environment(config_path={self.config_path}, token={'***' if self.token else None})"


def read_environment(environ: Mapping[str, str]) -> Environment:
    """Read every variable of the table. Raises SettingsError for a misspelt name or a value that cannot be used."""
    _refuse_misspelt(environ)
    _refuse_other_databases(environ.get("OWNKEY_DATABASE_URL", ""))
    testing = environ.get("OWNKEY_TESTING", "") == "1"
    failpoint = environ.get("OWNKEY_FAILPOINT") or None
    if failpoint and not testing:
        raise SettingsError("OWNKEY_FAILPOINT is set without OWNKEY_TESTING=1; it kills the process, so unset it.")
    data_dir = environ.get("OWNKEY_DATA_DIR")
    return Environment(
        config_path=Path(environ.get("OWNKEY_CONFIG") or DEFAULT_CONFIG),
        data_dir=Path(data_dir) if data_dir else None,
        host=environ.get("OWNKEY_HOST") or None,
        port=_port(environ.get("OWNKEY_PORT") or None),
        url=(environ.get("OWNKEY_URL") or "").rstrip("/") or None,
        token=environ.get("OWNKEY_TOKEN") or None,
        testing=testing,
        failpoint=failpoint,
    )


def _refuse_misspelt(environ: Mapping[str, str]) -> None:
    """Only near misses: Kubernetes adds names of its own (OWNKEY_SERVICE_HOST) for a service called ownkey."""
    known = [variable.name for variable in VARIABLES]
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
            if near:
                raise SettingsError(f"The environment variable {name} is unknown. Did you mean {near[0]}?")


def _refuse_other_databases(url: str) -> None:
    scheme = url.partition(":")[0].lower()
    if scheme in ("postgres", "postgresql") or scheme.startswith("postgresql+"):
        raise SettingsError(
            "OWNKEY_DATABASE_URL names PostgreSQL, which is not supported by this version: "
            "unset it to use SQLite in the data directory."
        )
    if url and scheme != "sqlite":
        raise SettingsError("OWNKEY_DATABASE_URL must be empty or `sqlite`; other databases are not supported.")


def _port(text: str | None) -> int | None:
    if text is None or text.startswith("tcp://"):
        return None  # Kubernetes sets OWNKEY_PORT=tcp://… for a service called ownkey
    if not text.isascii() or not text.isdigit() or not 0 <= int(text) <= 65_535:
        raise SettingsError(f"OWNKEY_PORT: expected a port from 0 to 65535, got {text!r}.")
    return int(text)
