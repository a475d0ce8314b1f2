"""Price versions: made whole, activated at once, never changed; the active one is answered from memory."""

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ownkey.domain.pricing import ModelPrice, PriceBook, check_price, price_from_json, price_to_json
from ownkey.domain.records import Actor
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection
from ownkey.store.core import Core

_NEWEST = "SELECT max(id) FROM price_version"
_VERSION = "SELECT created_by, aliases FROM price_version WHERE id = ?"
_SHA = "SELECT sha256 FROM price_version WHERE id = ?"
_MODELS = """
SELECT provider, model, free, context_window, max_output_tokens, source FROM price_model WHERE version = ?
"""
_PRICES = """
SELECT provider, model, dimension, min_input_tokens, service_tier, nusd_per_million, nusd_per_unit FROM price
WHERE version = ? ORDER BY provider, model, dimension, service_tier, min_input_tokens
"""
_INSERT_VERSION = "INSERT INTO price_version(id, created_at_ms, created_by, sha256, aliases) VALUES (?, ?, ?, ?, ?)"
_INSERT_MODEL = """
INSERT INTO price_model(version, provider, model, free, context_window, max_output_tokens, source)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_PRICE = """
INSERT INTO price(version, provider, model, dimension, min_input_tokens, service_tier, nusd_per_million,
  nusd_per_unit) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""

EMPTY = PriceBook(0, "none", {})


def read_newest(conn: sqlite3.Connection) -> PriceBook:
    """The active version; version 0, without any price, in a new database."""
    (newest,) = conn.execute(_NEWEST).fetchone()
    return EMPTY if newest is None else read_version(conn, newest) or EMPTY


def read_version(conn: sqlite3.Connection, number: int) -> PriceBook | None:
    found = conn.execute(_VERSION, (number,)).fetchone()
    if found is None:
        return None
    data: dict[tuple[str, str], dict[str, Any]] = {}
    for provider, model, free, window, max_output, source in conn.execute(_MODELS, (number,)).fetchall():
        data[provider, model] = {
            "provider": provider, "model": model, "free": bool(free), "source": source, "context_window": window,
            "max_output_tokens": max_output, "rates": {}, "units": {}, "service_tiers": {},
        }
    for provider, model, dimension, min_input, tier, per_million, per_unit in conn.execute(_PRICES, (number,)):
        entry = data[provider, model]
        if per_unit is not None:
            entry["units"][dimension] = per_unit
            continue
        rates = entry["rates"] if not tier else entry["service_tiers"].setdefault(tier, {})
        rates.setdefault(dimension, []).append([min_input, per_million])
    prices = {key: price_from_json(entry) for key, entry in data.items()}
    aliases = {(provider, alias): model for provider, alias, model in msgspec.json.decode(found[1])}
    return PriceBook(number, found[0], prices, aliases)


def save_version(
    conn: Connection, prices: Sequence[ModelPrice], aliases: Mapping[tuple[str, str], str], author: str, at_ms: int
) -> int:
    """The number of the version with this content: the active one's if nothing changed."""
    content = sorted((price_to_json(price) for price in prices), key=lambda p: (p["provider"], p["model"]))
    alias_rows = sorted([provider, alias, model] for (provider, alias), model in aliases.items())
    sha256 = hashlib.sha256(msgspec.json.encode([content, alias_rows], order="deterministic")).hexdigest()
    (newest,) = conn.execute(_NEWEST).fetchone()
    if newest is not None and conn.execute(_SHA, (newest,)).fetchone() == (sha256,):
        number: int = newest
        return number
    number = (newest or 0) + 1
    conn.execute(_INSERT_VERSION, (number, at_ms, author, sha256, msgspec.json.encode(alias_rows).decode()))
    for price in prices:
        _save_model(conn, number, price)
    save_audit(conn, None, "prices.activated", str(number), None, {
        "models": len(prices), "author": author, "sha256": sha256,
    }, at_ms=at_ms, actor=Actor("operator", author))
    return number


def _save_model(conn: Connection, number: int, price: ModelPrice) -> None:
    key = (number, price.provider, price.model)
    conn.execute(_INSERT_MODEL, (
        *key, price.free, price.context_window, price.max_output_tokens, price.source,
    ))
    for tier, rates in (("", price.rates), *price.service_tiers.items()):
        for dimension, steps in rates.items():
            conn.executemany(_INSERT_PRICE, [
                (*key, dimension, step.min_input_tokens, tier, step.nusd_per_million, None) for step in steps
            ])
    conn.executemany(_INSERT_PRICE, [(*key, name, 0, "", None, unit) for name, unit in price.units.items()])


class PricesPart(Core):
    """Satisfies `gateway.ports.Prices` and `control.ports.PriceVersions`."""

    def current(self) -> PriceBook:
        return self._book

    def version(self, number: int) -> PriceBook | None:
        book = self._books.get(number)
        if book is None:
            book = read_version(self._near, number)
            if book is not None:
                self._books[number] = book
        return book

    async def activate_prices(
        self, prices: Sequence[ModelPrice], aliases: Mapping[tuple[str, str], str], *, author: str, at_ms: int
    ) -> PriceBook:
        """Raises ValueError for a price outside the sane range."""
        for price in prices:
            wrong = check_price(price)
            if wrong is not None:
                raise ValueError(wrong)

        def operation(conn: Connection) -> PriceBook:
            book = read_version(conn, save_version(conn, prices, aliases, author, at_ms))
            assert book is not None
            return book

        def then(book: PriceBook) -> None:
            self._books[book.version] = book
            if book.version >= self._book.version:
                self._book = book

        return await self.writer.submit(operation, then=then)
