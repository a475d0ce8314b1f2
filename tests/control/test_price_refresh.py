"""A model's price looked up again: one request for all who wait, at most one a minute, never on trust."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from house import HandClock
from tests.fresh_database import lay_database

from ownkey.control.price_refresh import AUTHOR, ModelPriceRefresh
from ownkey.domain.endpoints import Endpoint
from ownkey.domain.failures import UpstreamError
from ownkey.domain.pricing import OPERATOR, ModelPrice, Rate
from ownkey.store.sqlite import SQLiteStore

SLUG = "acme/one"


def price(text_in: int, text_out: int, model: str = SLUG, source: str = "openrouter") -> ModelPrice:
    return ModelPrice(
        "openrouter", model, {"input": (Rate(0, text_in),), "output": (Rate(0, text_out),)}, source=source
    )


class Source:
    """Answers with what the test put there, once the gate is open."""

    def __init__(self) -> None:
        self.endpoints: Sequence[Endpoint] | Exception = [Endpoint(price(200, 800), True)]
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def load_endpoints(self, slug: str, timeout_s: float) -> Sequence[Endpoint]:
        self.asked.append(slug)
        await self.gate.wait()
        if isinstance(self.endpoints, Exception):
            raise self.endpoints
        return self.endpoints


class Room:
    def __init__(self, store: SQLiteStore, clock: HandClock) -> None:
        self.store, self.clock, self.source = store, clock, Source()
        self.refresh = ModelPriceRefresh(self.source, store, clock)

    def now(self) -> int | None:
        found = self.store.current().find("openrouter", SLUG)
        return None if found is None else found.dearest("input")


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    clock = HandClock()
    store = SQLiteStore.open(lay_database(tmp_path / "ownkey.db"), clock_ms=clock.now_ms, boot_id="boot")
    await store.activate_prices(
        [price(100, 400), price(7, 9, "acme/two")], {("openrouter", "acme/alias"): SLUG}, author="test", at_ms=1
    )
    room = Room(store, clock)
    yield room
    await room.refresh.stop()
    await store.close()


async def test_a_dearer_price_is_a_new_version_at_once(room: Room) -> None:
    """Immutable and whole: calls in flight keep theirs, other models and aliases keep their prices."""
    before = room.store.current()

    assert await room.refresh.refresh(SLUG, 1.0)

    after = room.store.current()
    assert (after.version, after.created_by) == (before.version + 1, AUTHOR)
    assert room.now() == 200
    assert after.prices["openrouter", "acme/two"] == before.prices["openrouter", "acme/two"]
    assert after.aliases == before.aliases
    kept = room.store.version(before.version)
    assert kept is not None
    assert kept.prices["openrouter", SLUG].dearest("input") == 100


@pytest.mark.parametrize("name", [SLUG, "acme/alias", "acme/one:nitro", "acme/one-2026-01-01"])
async def test_every_name_of_a_model_asks_for_the_model(room: Room, name: str) -> None:
    assert await room.refresh.refresh(name, 1.0)
    assert room.source.asked == [SLUG]


async def test_callers_share_one_request_and_a_minute_its_answer(room: Room) -> None:
    room.source.gate.clear()
    waiting = [asyncio.ensure_future(room.refresh.refresh(SLUG, 5.0)) for _ in range(20)]
    await asyncio.sleep(0.01)
    room.source.gate.set()

    assert await asyncio.gather(*waiting) == [True] * 20
    room.clock.pass_s(59)
    assert await room.refresh.refresh(SLUG, 1.0)
    assert room.source.asked == [SLUG]
    room.clock.pass_s(2)
    assert not await room.refresh.refresh(SLUG, 1.0), "nothing is newer than what is active"
    assert room.source.asked == [SLUG, SLUG]


async def test_a_caller_whose_time_is_over_does_not_stop_the_others(room: Room) -> None:
    room.source.gate.clear()
    assert not await room.refresh.refresh(SLUG, 0.01)
    patient = asyncio.ensure_future(room.refresh.refresh(SLUG, 5.0))
    await asyncio.sleep(0)
    room.source.gate.set()

    assert await patient
    assert room.source.asked == [SLUG]


@pytest.mark.parametrize(
    "endpoints",
    [
        UpstreamError("down", sent=False, received=False), ValueError("status 404"), RuntimeError("a bug"), [],
        [Endpoint(price(100, 400), True)],
        [Endpoint(price(501, 2_001), True)],
        [Endpoint(ModelPrice("openrouter", SLUG, {"input": (Rate(0, 10**16),), "output": (Rate(0, 1),)}), True)],
    ],
    ids=["unreachable", "refused", "bug", "no-host", "admitted-already", "over-5x", "insane"],
)
async def test_nothing_changes_where_nothing_is_sure(
    room: Room, endpoints: Sequence[Endpoint] | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A change above 5x waits for an operator, and is told to one."""
    caplog.set_level(logging.WARNING)
    version = room.store.current().version
    room.source.endpoints = endpoints

    assert not await room.refresh.refresh(SLUG, 1.0)

    assert (room.store.current().version, room.now()) == (version, 100)
    quiet = isinstance(endpoints, list) and (not endpoints or endpoints[0].price.dearest("input") == 100)
    assert bool(caplog.records) is not quiet


async def test_an_operators_price_is_the_operators(room: Room) -> None:
    """So is a model without any price: neither is asked for."""
    await room.store.activate_prices([price(100, 400, source=OPERATOR)], {}, author="operator", at_ms=2)

    assert not await room.refresh.refresh(SLUG, 1.0)
    assert not await room.refresh.refresh("acme/unknown", 1.0)
    assert room.source.asked == []


async def test_two_models_at_once_lose_nothing_of_each_other(room: Room) -> None:
    """A version is made whole from the one before it."""
    room.source.endpoints = [Endpoint(price(200, 800), True)]
    await asyncio.gather(room.refresh.refresh(SLUG, 1.0), room.refresh.refresh("acme/two", 1.0))
    room.clock.pass_s(61)
    room.source.endpoints = [Endpoint(price(20, 30, "acme/two"), True)]
    await room.refresh.refresh("acme/two", 1.0)

    current = room.store.current()
    assert current.prices["openrouter", SLUG].dearest("input") == 200
    assert current.prices["openrouter", "acme/two"].dearest("input") == 20
