"""Journey 5: Sign in with OpenRouter, there and back again, and what else can become of it."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Visiting
from tests.browser.portal_world import PortalWorld, Visitor
from tests.browser.walking import Walk, button, call, link

pytestmark = pytest.mark.whole
SIGN_IN = "Sign in with OpenRouter"


def begin(visitor: Visitor, walk: Walk) -> str:
    """The page of ours that leads to OpenRouter, opened; returns the address there."""
    visitor.watch.allowed.add(walk.world.deployment.emulator.url)
    button(walk.card(), SIGN_IN).click()
    onward = link(walk.main, "Continue to OpenRouter")
    expect(onward).to_have_attribute("target", "_top")
    return str(onward.get_attribute("href"))


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_sign_in_with_openrouter_saves_a_key(desk_world: PortalWorld, visit: Visiting, script: bool) -> None:
    """O2, T7, T11: no key is typed or seen; back on the card it is saved, and pays for the next call."""
    workspace = desk_world.workspace()
    with visit(desk_world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace), workspace, script)
        begin(visitor, walk)
        link(walk.main, "Continue to OpenRouter").click()
        visitor.page.wait_for_url(desk_world.url + "/portal/credentials**")
        walk.is_in_state("connected")
        walk.hears("OpenRouter API key saved successfully.")
        assert not re.search(r"sk-or-v1-[0-9a-f]{16}", visitor.page.content())
        address = urlsplit(visitor.page.url)

    assert not {"code", "state"} & parse_qs(address.query).keys()
    assert call(workspace).code == ""
    assert workspace.receipts()[0]["funding"] == "byok"


def test_a_sign_in_that_nobody_approves_changes_nothing(desk_world: PortalWorld, visit: Visiting) -> None:
    """O2: cancelled there, the page says so and offers both ways again; its address works once."""
    workspace = desk_world.workspace()
    with visit(desk_world) as visitor:
        walk = Walk(visitor.open(workspace), workspace)
        callback = parse_qs(urlsplit(begin(visitor, walk)).query)["callback_url"][0]
        visitor.page.goto(f"{callback}&error=access_denied")
        walk.says("Nobody approved at OpenRouter, so no key was made.")
        walk.is_in_state("empty")
        visitor.page.goto(f"{callback}&code=guessed")
        walk.says("it works once")
        expect(button(walk.card(), SIGN_IN)).to_be_visible()
        expect(walk.field()).to_be_visible()

    assert walk.state() == "empty"


def test_a_sign_in_is_finished_by_whom_it_was_begun(desk_world: PortalWorld, visit: Visiting) -> None:
    """O2: the way back, opened in somebody else's browser, saves no key anywhere."""
    workspace, theirs = desk_world.workspace(), desk_world.workspace()
    with visit(desk_world) as visitor, visit(desk_world) as stranger:
        walk = Walk(visitor.open(workspace), workspace)
        url = begin(visitor, walk)
        stranger.watch.allowed.add(desk_world.deployment.emulator.url)
        stranger.open(theirs)
        stranger.page.goto(url)
        shown = stranger.page.locator("body").inner_text()

    assert "saved successfully" not in shown
    assert walk.state() == "empty"
    assert Walk(stranger, theirs).state() == "empty"
