"""How notices leave: [mail] and [events] of the configuration, their secrets from the environment or a file.

A secret never stands in ownkey.toml: configuration is copied, shown and committed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.errors import MessageError
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import urlsplit

from ownkey.settings.tables import SettingsError, Table

PORTS = {"starttls": 587, "implicit": 465, "none": 25}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MAX_SECRET_FILE = 4_096


@dataclass(frozen=True, slots=True)
class MailSettings:
    """`tls` is "starttls", "implicit" or "none" (loopback only). `problem`: why it cannot be used as it is, or ""."""

    host: str
    port: int
    tls: str
    user: str
    sender: Address
    password: str | None = field(repr=False)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class EventSettings:
    """`secrets` as they are written (whsec_…), newest first; two while the host changes over."""

    url: str
    secrets: tuple[str, ...] = field(repr=False)
    problem: str = ""


def read_mail(table: Table, entry_url: str, environ: Mapping[str, str]) -> MailSettings | None:
    """None: no [mail] host, so no e-mail is sent. Raises SettingsError."""
    if not table.has("host"):
        for key in ("port", "tls", "user", "from", "password_file", "timeout_s"):
            if table.has(key):
                raise SettingsError(f"{table.file}: {table.name(key)} is set without {table.name('host')}.")
        table.done()
        return None
    host, tls = table.text("host"), table.text("tls", "starttls", choices=tuple(PORTS))
    port = table.whole("port", PORTS[tls], least=1, most=65_535)
    user, sender = table.text("user", ""), _sender(table)
    file = table.text("password_file", "")
    table.done()
    if not host or not host.isascii() or any(c.isspace() or c in "/@" for c in host):
        raise table.wrong("host", "the name of a mail server, such as smtp.example.com", host)
    if tls == "none" and host not in _LOOPBACK:
        raise SettingsError(
            f"{table.file}: {table.name('tls')} is 'none': mail without TLS is only possible on loopback. "
            "Use 'starttls' (port 587) or 'implicit' (port 465)."
        )
    if not entry_url.startswith(("https://", "http://")):
        raise SettingsError(
            f"{table.file}: product.entry_url is {entry_url!r}; with [mail] it must be a whole address "
            "(https://…), because the buttons of e-mails lead there."
        )
    password, problem = read_secret_text("OWNKEY_SMTP_PASSWORD", file, table, environ) if user else ("", "")
    if user and not password and not problem:
        problem = (
            f"[mail] has a user and no password: set OWNKEY_SMTP_PASSWORD, OWNKEY_SMTP_PASSWORD_FILE or "
            f"{table.name('password_file')}."
        )
    return MailSettings(host, port, tls, user, sender, password or None, problem)


def read_events(table: Table, insecure: bool, environ: Mapping[str, str]) -> EventSettings | None:
    """None: no [events] url, so no event is sent. Raises SettingsError."""
    if not table.has("url"):
        if table.has("secret_file"):
            raise SettingsError(f"{table.file}: {table.name('secret_file')} is set without {table.name('url')}.")
        table.done()
        return None
    url, file = table.text("url"), table.text("secret_file", "")
    table.done()
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        raise table.wrong("url", "an address such as https://app.example.com/hooks/ownkey", url) from None
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise SettingsError(
            f"{table.file}: {table.name('url')} must be an address such as https://app.example.com/hooks/ownkey, "
            "without a query or a password."
        )
    if (parts.scheme == "http" or parts.hostname in _LOOPBACK) and not insecure:
        raise SettingsError(
            f"{table.file}: {table.name('url')} is {url}: plain http and loopback need origins.allow_insecure = true; "
            "it is meant for the demo and for tests."
        )
    found, problem = read_secret_text("OWNKEY_EVENT_SECRETS", file, table, environ)
    secrets = tuple(found.split())
    problem = problem or ("" if secrets else (
        "[events] has a url and no secret: set OWNKEY_EVENT_SECRETS, OWNKEY_EVENT_SECRETS_FILE or "
        f"{table.name('secret_file')} to whsec_… (two, separated by a space, while the host changes over)."
    ))
    if len(secrets) > 2:
        raise SettingsError(f"{table.file}: [events] has {len(secrets)} secrets; two at most, while one is replaced.")
    return EventSettings(url, secrets, problem)


def _sender(table: Table) -> Address:
    text = table.text("from")
    name, spec = parseaddr(text)
    try:
        if not spec or "@" not in spec or not text.isprintable():
            raise ValueError("no address")
        return Address(display_name=name, addr_spec=spec)
    except (ValueError, IndexError, MessageError):
        raise table.wrong("from", 'a sender such as "Example AI <no-reply@example.com>"', text) from None


def read_secret_text(variable: str, file: str, table: Table, environ: Mapping[str, str]) -> tuple[str, str]:
    """(the secret, why there is none): the environment's value, else its file's content, else the configuration's
    file's. A command that needs no secret must work without, so an unreadable file is not an error of loading."""
    if environ.get(variable):
        return environ[variable], ""
    named = environ.get(f"{variable}_FILE")
    if not named and not file:
        return "", ""
    path = Path(named) if named else Path(table.file).parent / file
    try:
        data = path.read_bytes()
        text = data[: _MAX_SECRET_FILE + 1].decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        told = f"{variable}_FILE" if named else f"{table.file}: {table.path}"
        return "", f"{told} names the file {path}, which cannot be read ({type(error).__name__})."
    if not text or len(data) > _MAX_SECRET_FILE:
        return "", f"The file {path} must hold a secret and nothing else."
    return text, ""
