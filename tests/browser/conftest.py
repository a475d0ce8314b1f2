"""A browser a module, and a world a preset; each test has a context of its own that is watched to its end."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from playwright.sync_api import Browser
from tests.browser.chromium import chromium
from tests.browser.portal_world import HOSTED_TABLES, PortalWorld, Visitor, portal_world, visiting

Visiting = Callable[..., AbstractContextManager[Visitor]]

WHOLE = os.environ.get("OWNKEY_MATRIX") == "whole"
"""`make browser`: every state at every width in every theme. Otherwise a part that fits into `make test`."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What `make browser` plays is not even chosen elsewhere: nothing is skipped in silence."""
    if not WHOLE:
        left_out = [item for item in items if item.get_closest_marker("whole")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ends with its module: Playwright's loop runs as long as it lives, and asynchronous tests of the same process need
    one of their own."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def desk_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PortalWorld]:
    """A support desk."""
    with portal_world(tmp_path_factory.mktemp("desk_pages"), "support-desk") as world:
        yield world


@pytest.fixture(scope="session")
def builder_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PortalWorld]:
    """An app builder."""
    with portal_world(tmp_path_factory.mktemp("builder_pages"), "app-builder") as world:
        yield world


@pytest.fixture(scope="session")
def new_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PortalWorld]:
    """A support desk on its first day: nobody may make anything in it."""
    with portal_world(tmp_path_factory.mktemp("new_pages"), "support-desk") as world:
        yield world


@pytest.fixture(scope="session")
def hosted_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PortalWorld]:
    """An app builder whose host product sells the add-on itself."""
    with portal_world(tmp_path_factory.mktemp("hosted_pages"), "app-builder", HOSTED_TABLES, by_host=True) as world:
        yield world


@pytest.fixture
def visit(browser: Browser) -> Visiting:
    """`with visit(world, width=375, scheme="dark") as visitor:`; see `portal_world.visiting`."""

    def start(world: PortalWorld, **options: Any) -> AbstractContextManager[Visitor]:
        return visiting(browser, world, **options)

    return start
