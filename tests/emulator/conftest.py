"""One emulator for all tests of this folder; every test finds it as new."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import stripe

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emulator_wire import KEYS
from stripe_shop import Shop

from emulator_process import EmulatorHandle, start_emulator
from stripe_process import StripeHandle, start_stripe


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


@pytest.fixture(scope="session")
def stripe_server() -> Iterator[StripeHandle]:
    handle = start_stripe(seed=7)
    yield handle
    handle.stop()


@pytest.fixture
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A shop on the emulated Stripe, or on Stripe's own test mode where STRIPE_TEST_KEY names a key of it."""
    key = os.environ.get("STRIPE_TEST_KEY", "")
    if key:
        if not key.startswith(("sk_test_", "rk_test_")):
            pytest.exit("STRIPE_TEST_KEY must be a key of Stripe's test mode")
        made = Shop(stripe.StripeClient(key, max_network_retries=3), None)
    else:
        handle: StripeHandle = request.getfixturevalue("stripe_server")
        handle.reset()
        made = Shop(handle.client(), handle)
    yield made
    if made.emulator is None:
        made.close()


@pytest.fixture
def emulated(shop: Shop) -> StripeHandle:
    """The emulator behind the shop; a test that needs its pages, faults or control cannot run on Stripe itself."""
    if shop.emulator is None:
        pytest.skip("needs the emulator's pages, faults or control")
    return shop.emulator
