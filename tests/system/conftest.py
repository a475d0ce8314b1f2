"""Deployments that several tests share: one process pair a module and preset."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.deployment import Deployment, deployed


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A support desk."""
    home: Path = tmp_path_factory.mktemp("desk")
    with deployed(home, "support-desk") as deployment:
        yield deployment


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """An app builder."""
    home: Path = tmp_path_factory.mktemp("builder")
    with deployed(home, "app-builder") as deployment:
        yield deployment


@pytest.fixture(autouse=True)
def quiet_emulator(request: pytest.FixtureRequest) -> Iterator[None]:
    """Faults and settings of one test do not reach the next."""
    yield
    for name in ("desk", "builder"):
        if name in request.fixturenames:
            deployment: Deployment = request.getfixturevalue(name)
            deployment.emulator.control("DELETE", "faults")
            deployment.emulator.control("DELETE", "settings")
