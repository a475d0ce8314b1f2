"""Two gateways: a support desk and an app builder, with times short enough for tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.gateway.gateway_kit import Rig, open_rig

TIMES = {
    "deadline_s": 5.0, "first_content_s": 0.3, "response_s": 0.3, "stall_s": 0.2, "tail_s": 0.1, "drain_s": 0.3,
}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path, **TIMES) as rig:
        yield rig


@pytest.fixture
async def builder(tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path, "app-builder", **TIMES) as rig:
        yield rig
