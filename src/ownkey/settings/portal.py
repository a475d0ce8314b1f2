"""[portal]: which pages a product shows its customers, which sites may frame them, and how they look.

Addresses are whole and exact: a wildcard here would be a site that nobody checked.
"""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from urllib.parse import urlsplit

from ownkey.domain.connect import LOOPBACK_HOSTS, address_problem
from ownkey.domain.portal import LISTED, SESSION_LEAST_S, SESSION_MOST_S, SESSION_S, Page, PortalRules
from ownkey.domain.scrub import looks_like_secret
from ownkey.domain.theme import RADIUS, Theme, ThemeError, make_theme
from ownkey.settings.tables import SettingsError, Table

MAX_LOGO_CHARS = 40
MAX_WORD_CHARS = 1_000

_ORIGIN = re.compile(r"https?://[a-z0-9](?:[a-z0-9.-]{0,252})(?::[1-9]\d{0,4})?\Z")


def read_portal(table: Table, return_urls: Sequence[str]) -> PortalRules:
    """`return_urls` are those of [connect], which hold here too. Raises SettingsError."""
    most = table.whole("session_most_s", SESSION_MOST_S, least=SESSION_LEAST_S, most=SESSION_MOST_S)
    rules = PortalRules(
        pages=_read_pages(table),
        origins=tuple(dict.fromkeys(_read_origin(table, text) for text in table.texts("origins", ()))),
        return_urls=tuple(dict.fromkeys((*return_urls, *_read_addresses(table, "return_urls")))),
        refresh_urls=_read_addresses(table, "refresh_urls"),
        session_s=table.whole("session_s", min(SESSION_S, most), least=SESSION_LEAST_S, most=most),
        session_most_s=most,
        theme=_read_theme(table.table("theme")),
        words=_read_words(table.table("words")),
        support_url=_read_support(table),
        logo_text=_read_logo(table),
    )
    table.done()
    return rules


def _read_pages(table: Table) -> tuple[Page, ...]:
    """In the order in which they are listed: it is the navigation's."""
    named = table.texts("pages", tuple(LISTED))
    for name in named:
        if name not in tuple(LISTED):
            near = get_close_matches(name, LISTED, n=1)
            hint = f" Did you mean {str(near[0])!r}?" if near else ""
            raise table.wrong("pages", f"a list out of {', '.join(LISTED)}", name, hint)
    if not named:
        raise table.wrong("pages", "a list of at least one page", [])
    return tuple(dict.fromkeys(Page(name) for name in named))


def _read_origin(table: Table, text: str) -> str:
    """Scheme, host and port as browsers write them: small letters, no usual port."""
    origin = text.lower().removesuffix("/")
    if not _ORIGIN.match(origin):
        raise table.wrong("origins", "a list of sites such as https://app.example.com, without a path or a *", text)
    parts = urlsplit(origin)
    try:
        port = parts.port
    except ValueError:
        raise table.wrong("origins", "a list of sites such as https://app.example.com", text) from None
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        raise SettingsError(
            f"{table.file}: {table.name('origins')}: {text[:200]!r} is not https (plain http is for localhost only)."
        )
    usual = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{parts.hostname}" + (f":{port}" if port not in (None, usual) else "")


def _read_addresses(table: Table, key: str) -> tuple[str, ...]:
    urls = table.texts(key, ())
    for url in urls:
        if (problem := address_problem(url)) is not None:
            raise SettingsError(f"{table.file}: {table.name(key)}: {url[:200]!r} {problem}.")
    return tuple(dict.fromkeys(urls))


def _read_theme(table: Table) -> Theme:
    light, dark, radius = table.table("light"), table.table("dark"), table.text(RADIUS, "")
    table.done()
    colours = {}
    for mode in (light, dark):
        colours[mode.path] = {name: mode.text(name) for name in mode.names()}
    try:
        return make_theme(colours[light.path], colours[dark.path], radius)
    except ThemeError as error:
        raise SettingsError(f"{table.file}: {table.name(error.name)}: {error}.") from None


def _read_words(table: Table) -> dict[str, str]:
    words = {text: table.text(text) for text in table.names()}
    for text, instead in words.items():
        if not instead.strip() or len(instead) > MAX_WORD_CHARS or not instead.replace("\n", " ").isprintable():
            raise SettingsError(
                f"{table.file}: [{table.path}] {text[:80]!r}: a text has 1 to {MAX_WORD_CHARS} printable characters."
            )
        if looks_like_secret(instead):
            raise SettingsError(f"{table.file}: [{table.path}] {text[:80]!r} looks like a key; texts are shown.")
    return words


def _read_support(table: Table) -> str:
    url = table.text("support_url", "")
    if url and (problem := address_problem(url)) is not None:
        raise SettingsError(f"{table.file}: {table.name('support_url')}: {url[:200]!r} {problem}.")
    return url


def _read_logo(table: Table) -> str:
    text = " ".join(table.text("logo_text", "").split())
    if len(text) > MAX_LOGO_CHARS or not text.isprintable():
        raise table.wrong("logo_text", f"at most {MAX_LOGO_CHARS} printable characters", text)
    return text
