"""Templates and assets: one Jinja environment that escapes everything, and files that are named by their content.

An asset's address holds a hash of its bytes, so that a browser may keep it for ever. htmx is built from npm; where it
was not built the pages work without it.
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any

from jinja2 import BytecodeCache, Environment, PackageLoader, StrictUndefined
from jinja2.ext import extract_from_ast

from ownkey.control.billing import money_text
from ownkey.domain.phrases import Phrase
from ownkey.domain.receipts import provider_name
from ownkey.domain.scrub import looks_like_secret, scrub
from ownkey.pages import figures
from ownkey.pages.http import Answer
from ownkey.pages.words import Words

ASSETS = ("ownkey.css", "pages.js", "vendor/htmx.min.js", "icon.svg")
"""What pages load. The embedding element has an address of its own (`/portal/embed/v1.js`)."""

EMBED = "embed.js"
HTMX = "vendor/htmx.min.js"
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """`url_name` is the last part of its address: the name with a hash of the content before its ending."""

    url_name: str
    content_type: str
    data: bytes
    gzipped: bytes


class Site:
    """`prefix` is where assets are served from. `theme` is a host's own style sheet as text, "" for none. `compiled`
    keeps what templates were compiled to, for many sites of one process."""

    def __init__(
        self, words: Words, *, theme: str = "", prefix: str = "/portal/assets/", compiled: BytecodeCache | None = None
    ) -> None:
        self.words = words
        self._prefix = prefix
        self._assets = {name: asset for name in ASSETS if (asset := _load(name)) is not None}
        if theme:
            self._assets["theme.css"] = _asset("theme.css", theme.encode())
        self._served = {asset.url_name: asset for asset in self._assets.values()}
        self._embed = _load(EMBED)
        self._environment = self._make_environment(compiled)

    @property
    def has_htmx(self) -> bool:
        return HTMX in self._assets

    def url(self, name: str) -> str | None:
        """Where an asset is; None: it was not built, or there is none."""
        asset = self._assets.get(name)
        return None if asset is None else self._prefix + asset.url_name

    def serve(self, url_name: str, accept_encoding: str = "") -> Answer:
        asset = self._served.get(url_name)
        if asset is None:
            return Answer(404, b"There is no such file.", "text/plain; charset=utf-8")
        return _send(asset, _FOR_EVER, accept_encoding)

    def serve_embed(self, accept_encoding: str = "") -> Answer:
        """The element that hosts embed: an address that stays, so it is asked for again after an hour."""
        if self._embed is None:
            return Answer(404, b"There is no such file.", "text/plain; charset=utf-8")
        answer = _send(self._embed, "public, max-age=3600", accept_encoding)
        return Answer(answer.status, answer.body, answer.content_type, [
            *answer.headers, ("cross-origin-resource-policy", "cross-origin"), ("access-control-allow-origin", "*"),
        ])

    def render(self, template: str, **values: Any) -> str:
        return self._environment.get_template(template).render(values)

    def texts(self, *folders: str) -> tuple[str, ...]:
        """Every text that the templates of these folders say."""
        found: dict[str, None] = {}
        loader = self._environment.loader
        assert loader is not None
        for name in self._environment.list_templates(extensions=["html"]):
            if name.startswith(folders):
                source = loader.get_source(self._environment, name)[0]
                for _, _, message in extract_from_ast(self._environment.parse(source), ("_", "plural")):
                    # `plural` is told the one and the many; what else it is given is no text.
                    texts = message if isinstance(message, tuple) else (message,)
                    found.update(dict.fromkeys(text for text in texts if text))
        return tuple(found)

    def _make_environment(self, compiled: BytecodeCache | None) -> Environment:
        environment = Environment(
            loader=PackageLoader("ownkey.pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True, auto_reload=False, finalize=self._retell, bytecode_cache=compiled,
        )
        environment.globals.update({
            "_": self.words, "plural": self.words.plural, "asset": self.url, "has_htmx": self.has_htmx,
            "usd": figures.usd, "usd_exact": figures.usd_exact,
            "money": partial(figures.money, say=self.words), "credits": figures.credits,
            "cents": money_text, "count": figures.count, "percent": figures.percent, "duration": figures.duration,
            "moment": figures.moment, "short_moment": figures.short_moment, "day": figures.day,
            "reset_moment": figures.reset_moment, "month": figures.month,
            "month_of_year": figures.month_of_year, "when": partial(figures.when, say=self.words),
            "provider_name": provider_name,
        })
        environment.filters["told"] = self._told
        environment.filters["kept"] = kept
        return environment

    def _retell(self, value: object) -> object:
        """What the domain says in words is shown in the host's."""
        return self.words(value) if isinstance(value, Phrase) else value

    def _told(self, text: object, length: int = 160) -> str:
        return told(self._retell(text), length)


def told(text: object, length: int = 160) -> str:
    """Text that somebody else wrote: scrubbed of credentials and cut. The template escapes it."""
    return figures.clip(scrub("" if text is None else str(text))[0], length)


def kept(typed: object) -> str:
    """What somebody typed, for its field to show again; nothing where a key was pasted into the wrong field."""
    text = "" if typed is None else str(typed)
    return "" if looks_like_secret(text) else text


def theme_sheet(light: Mapping[str, str], dark: Mapping[str, str]) -> str:
    """A host's colours as a style sheet; the values passed the grammar of `domain.theme` when they were read."""
    rows = {
        ":root": light,
        ":root[data-theme=dark]": dark,
    }
    parts = [_rule(selector, values) for selector, values in rows.items() if values]
    if dark:
        parts.append("@media (prefers-color-scheme: dark) {" + _rule(":root[data-theme=auto]", dark) + "}")
    return "\n".join(parts)


def _rule(selector: str, values: Mapping[str, str]) -> str:
    return selector + " {" + " ".join(f"--{name}: {value};" for name, value in values.items()) + "}"


def _load(name: str) -> Asset | None:
    found = resources.files("ownkey.pages").joinpath("assets", *name.split("/"))
    return _asset(name, found.read_bytes()) if found.is_file() else None


def _asset(name: str, data: bytes) -> Asset:
    stem, _, ending = name.rpartition("/")[2].rpartition(".")
    digest = hashlib.sha256(data).hexdigest()[:12]
    return Asset(f"{stem}.{digest}.{ending}", _TYPES[ending], data, gzip.compress(data, 9, mtime=0))


def _send(asset: Asset, keep: str, accept_encoding: str) -> Answer:
    headers = [("cache-control", keep), ("vary", "accept-encoding")]
    if "gzip" in accept_encoding:
        return Answer(200, asset.gzipped, asset.content_type, [*headers, ("content-encoding", "gzip")])
    return Answer(200, asset.data, asset.content_type, headers)
