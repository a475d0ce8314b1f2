from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from store_kit import Clock, open_store

from ownkey.store import SQLiteStore


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SQLiteStore]:
    """An open store; whatever a test did, the books agree with their rows afterwards."""
    store = open_store(tmp_path / "ownkey.db", clock)
    yield store
    findings = await store.verify(clock.ms)
    await store.close()

    assert list(findings) == []
