"""Keeping prices current: a new immutable version whenever a source says something new and sane.

Calls in flight keep the version their hold names. A source that cannot be read changes nothing.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Protocol

from ownkey.control.ports import PriceVersions
from ownkey.domain.failures import UpstreamError
from ownkey.domain.pricing import OPERATOR, ModelPrice, PriceBook, PriceList, merge_prices

_OPENROUTER_SOURCE = "openrouter"


class PriceSource(Protocol):
    """Where list prices come from."""

    async def load_openrouter(self) -> PriceList:
        """OpenRouter's list now. Raises UpstreamError, or ValueError for an answer that is no list of models."""
        ...

    def list_shipped(self, today: date) -> PriceList:
        """The list the product was shipped with, as it holds on `today` (UTC)."""
        ...


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a round did. `changed`: a new version is active. `unreachable`: why OpenRouter's list was not read, ""
    if it was (or was not asked for). `held_back`: what waits for an operator, in sentences."""

    version: int
    changed: bool
    unreachable: str
    held_back: tuple[str, ...]


async def sync_prices(
    source: PriceSource,
    versions: PriceVersions,
    overrides: Sequence[ModelPrice],
    *,
    at_ms: int,
    fetch: bool,
    author: str = "price-sync",
) -> SyncReport:
    """Merge the operator's prices, OpenRouter's list (if `fetch`) and the shipped list, and activate the result.

    `overrides` are the file's; what an operator set while running stays beside them. Where OpenRouter's list is
    not read, its prices in the current version stay: they are newer than the shipped.
    """
    if fetch and not versions.current().prices:
        # A first start answers calls at once: a slow or absent network must not leave it without prices.
        await sync_prices(source, versions, overrides, at_ms=at_ms, fetch=False, author=author)
    current = versions.current()
    unreachable = ""
    openrouter = _known_openrouter(current)
    if fetch:
        try:
            openrouter = await source.load_openrouter()
        except (UpstreamError, ValueError) as error:
            unreachable = str(error)
    today = datetime.fromtimestamp(at_ms // 1_000, UTC).date()
    set_while_running = [price for price in current.prices.values() if price.source == OPERATOR]
    # Reading the shipped list is a few hundred milliseconds of work: not on the loop that serves calls.
    shipped = await asyncio.to_thread(source.list_shipped, today)
    merged = merge_prices((*overrides, *set_while_running), (openrouter, shipped), current)
    book = await versions.activate_prices(merged.prices, merged.aliases, author=author, at_ms=at_ms)
    return SyncReport(book.version, book.version != current.version, unreachable, merged.held_back)


def _known_openrouter(book: PriceBook) -> PriceList:
    prices = tuple(price for price in book.prices.values() if price.source == _OPENROUTER_SOURCE)
    return PriceList(prices, {alias: model for alias, model in book.aliases.items() if alias[0] == "openrouter"})

