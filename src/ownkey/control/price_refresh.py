"""One model's price looked up again, because OpenRouter found no host at the price that our request allowed.

A call waits for the answer, so it is one small request; calls that need the same model share it, and another is sent
after a minute at the earliest. What looks wrong (a change by more than 5x, or to free) waits for an operator, as in
the daily sync.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ownkey.control.ports import Clock, PriceVersions
from ownkey.domain.endpoints import Endpoint, price_to_admit
from ownkey.domain.errors import StoreError
from ownkey.domain.failures import UpstreamError
from ownkey.domain.pricing import CONFIGURED, OPERATOR, ModelPrice, check_price, is_suspicious_change

AGAIN_AFTER_S = 60.0
FETCH_S = 10.0
MAX_REMEMBERED = 1_000
AUTHOR = "price-refresh"

_log = logging.getLogger("ownkey.price_refresh")


class EndpointSource(Protocol):
    """Where one model's hosts and their prices come from."""

    async def load_endpoints(self, slug: str, timeout_s: float) -> Sequence[Endpoint]:
        """Raises UpstreamError, or ValueError for an answer that is no list of endpoints."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    task: asyncio.Task[bool]
    at_s: float


class ModelPriceRefresh:
    """Satisfies `gateway.ports.PriceRefresh`."""

    def __init__(self, source: EndpointSource, versions: PriceVersions, clock: Clock) -> None:
        self._source = source
        self._versions = versions
        self._clock = clock
        self._asked: dict[str, _Asked] = {}
        self._activating = asyncio.Lock()

    async def refresh(self, slug: str, timeout_s: float) -> bool:
        """Whether a newer price of this model is active now, or has become so within the last minute."""
        price = self._versions.current().find("openrouter", slug)
        if price is None or price.source in (OPERATOR, CONFIGURED):
            return False
        # The request goes on for the others, and for the next call, when one caller's time is over.
        done, _ = await asyncio.wait({self._ask(price.model)}, timeout=timeout_s)
        return any(not task.cancelled() and task.result() for task in done)

    async def stop(self) -> None:
        """Cancel what is under way and wait for it."""
        tasks = [asked.task for asked in self._asked.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self, model: str) -> asyncio.Task[bool]:
        now_s = self._clock.monotonic()
        known = self._asked.get(model)
        if known is not None and (not known.task.done() or now_s - known.at_s < AGAIN_AFTER_S):
            return known.task
        if len(self._asked) >= MAX_REMEMBERED:
            self._forget(now_s)
        task = asyncio.get_running_loop().create_task(self._refresh(model), name=f"price of {model}")
        self._asked[model] = _Asked(task, now_s)
        return task

    def _forget(self, now_s: float) -> None:
        self._asked = {
            model: asked for model, asked in self._asked.items()
            if not asked.task.done() or now_s - asked.at_s < AGAIN_AFTER_S
        }

    async def _refresh(self, model: str) -> bool:
        try:
            endpoints = await self._source.load_endpoints(model, FETCH_S)
            # One after the other: a version is made whole from the one before it.
            async with self._activating:
                return await self._activate(model, endpoints)
        except (UpstreamError, ValueError) as error:
            _log.warning("the price of %s could not be looked up: %s", model, error)
        except StoreError as error:
            _log.warning("a new price of %s could not be saved: %s", model, error)
        except Exception as error:  # noqa: BLE001 - a call's failure stands as it is; ours is logged
            _log.exception("looking up the price of %s failed: %s", model, type(error).__name__)
        return False

    async def _activate(self, model: str, endpoints: Sequence[Endpoint]) -> bool:
        book = self._versions.current()
        current = book.prices.get(("openrouter", model))
        if current is None:
            return False
        fresh = price_to_admit(current, endpoints)
        if fresh is None or not _is_acceptable(current, fresh):
            return False
        prices = {**book.prices, ("openrouter", model): fresh}
        active = await self._versions.activate_prices(
            list(prices.values()), book.aliases, author=AUTHOR, at_ms=self._clock.now_ms()
        )
        _log.info("OpenRouter has no host of %s at the listed price any more; version %d is active", model,
                  active.version)
        return active.version != book.version


def _is_acceptable(current: ModelPrice, fresh: ModelPrice) -> bool:
    """The same rules as for a whole list; what they hold back is said in the log, as there."""
    wrong = check_price(fresh)
    if wrong is None and is_suspicious_change(current, fresh):
        wrong = f"openrouter {current.model}: a change by more than 5x or to free"
    if wrong is not None:
        _log.warning("price held back: %s; kept as it was", wrong)
    return wrong is None
