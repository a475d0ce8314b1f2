"""One emulator for all tests of this folder; every test finds it as new."""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emulator_wire import KEYS

from emulator_process import EmulatorHandle, start_emulator


@pytest.fixture(scope="session")
def emulator_process() -> Iterator[EmulatorHandle]:
    handle = start_emulator(seed=7)
    yield handle
    handle.stop()


@pytest.fixture
def emulator(emulator_process: EmulatorHandle) -> EmulatorHandle:
    """An emulator with one valid key a provider and nothing else."""
    emulator_process.reset()
    for provider, key in KEYS.items():
        emulator_process.add_key(provider, key)
    return emulator_process


@pytest.fixture(scope="session")
def http_client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=10, verify=False) as client:
        yield client


@pytest.fixture
def http(http_client: httpx.Client) -> httpx.Client:
    """One client for all tests: making one costs more than most of them."""
    http_client.cookies.clear()
    return http_client
