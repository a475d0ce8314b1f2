"""The matrix: every page and state, at every width, light and dark, on its own and in a frame.

axe-core finds nothing, nothing scrolls sideways, every target can be hit, no request goes elsewhere, no policy is
violated, no typed key is anywhere. `make browser` plays the whole of it, `make test` the states that are marked short.
"""

import pytest
from playwright.sync_api import Browser
from tests.browser.conftest import WHOLE
from tests.browser.looks import SHORT as SHORT_LOOKS
from tests.browser.looks import WHOLE as ALL_LOOKS
from tests.browser.looks import looking
from tests.browser.page_checks import find_problems
from tests.browser.portal_world import PortalWorld, Preset
from tests.browser.state import State
from tests.browser.states import HOSTED, NEW, states_of

LOOKS = ALL_LOOKS if WHOLE else SHORT_LOOKS


def check(browser: Browser, world: PortalWorld, state: State) -> None:
    found = [
        str(problems)
        for look, visitor in looking(browser, world, state, LOOKS)
        if (problems := find_problems(visitor.shown, f"{world.preset} {state.key} {look}")).sentences
    ]

    assert found == [], "\n" + "\n".join(found)


def of_portal(preset: Preset) -> list[State]:
    return [state for state in states_of(preset, short=not WHOLE) if state.page != "console"]


class TestSupportDesk:
    """X5: the pages of a support desk."""

    @pytest.mark.parametrize("state", of_portal("support-desk"), ids=lambda state: state.key)
    def test_it_is_usable_by_everybody(self, state: State, browser: Browser, desk_world: PortalWorld) -> None:
        """Each state, in each look."""
        check(browser, desk_world, state)


class TestConsole:
    """X5: the operators' pages of a support desk."""

    @pytest.mark.whole
    @pytest.mark.parametrize("state", states_of("support-desk", only="console-"), ids=lambda state: state.key)
    def test_it_is_usable_by_everybody(self, state: State, browser: Browser, desk_world: PortalWorld) -> None:
        """Each state, in each look."""
        check(browser, desk_world, state)


class TestAppBuilder:
    """X5: the pages of an app builder."""

    @pytest.mark.parametrize("state", states_of("app-builder", short=not WHOLE), ids=lambda state: state.key)
    def test_it_is_usable_by_everybody(self, state: State, browser: Browser, builder_world: PortalWorld) -> None:
        """Each state, in each look."""
        check(browser, builder_world, state)


class TestSoldByTheHost:
    """X5: an app builder whose host product sells the add-on itself, and the backups of its operators."""

    @pytest.mark.whole
    @pytest.mark.parametrize("state", HOSTED, ids=lambda state: state.key)
    def test_it_is_usable_by_everybody(self, state: State, browser: Browser, hosted_world: PortalWorld) -> None:
        """Each page, in each look."""
        check(browser, hosted_world, state)


class TestNewDeployment:
    """X5: the console on its first day."""

    @pytest.mark.whole
    @pytest.mark.parametrize("state", NEW, ids=lambda state: state.key)
    def test_it_is_usable_by_everybody(self, state: State, browser: Browser, new_world: PortalWorld) -> None:
        """Each page, in each look."""
        check(browser, new_world, state)
