"""Journey 9: both products' main steps with Tab, Enter, Space and typed text alone; the focus is seen all the way."""

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.browser.conftest import Visiting
from tests.browser.portal_world import PortalWorld
from tests.browser.walking import Walk, button, call, link

pytestmark = pytest.mark.whole
MOST_STOPS = 120
_STOP = """
wanted => {
  const it = document.activeElement, box = it.getBoundingClientRect(), style = getComputedStyle(it);
  const at = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
  return {
    there: it === wanted, nowhere: it === document.body,
    name: it.getAttribute("aria-label") || it.id || it.textContent.trim().slice(0, 60),
    seen: box.width > 0 && box.bottom > 0 && box.top < innerHeight,
    covered: box.height < innerHeight && at !== null && !it.contains(at) && !at.contains(it) &&
             !(it.labels && [...it.labels].some(label => label.contains(at))),
    marked: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 || style.boxShadow !== "none",
  };
}
"""


def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until the focus is there. Every stop on the way is in sight, uncovered, and marked."""
    handle = wanted.element_handle()
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        stop = page.evaluate(_STOP, handle)
        if stop["nowhere"]:
            continue
        assert stop["seen"], f"the focus on {stop['name']!r} is out of sight"
        assert not stop["covered"], f"the focus on {stop['name']!r} is covered"
        assert stop["marked"], f"the focus on {stop['name']!r} is not marked"
        if stop["there"]:
            return
    raise AssertionError(f"{wanted} was not reached in {MOST_STOPS} stops")


def press(page: Page, wanted: Locator, key: str = "Enter") -> None:
    tab_to(page, wanted)
    page.keyboard.press(key)


def type_into(page: Page, wanted: Locator, text: str) -> None:
    tab_to(page, wanted)
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)


def keeps_focus(page: Page) -> None:
    """After a swap or a new page the focus is somewhere in it, or at its beginning."""
    page.wait_for_function("() => document.activeElement && document.activeElement.isConnected")


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_a_support_desk_by_keyboard(desk_world: PortalWorld, visit: Visiting, script: bool) -> None:
    """T8–T12, T21, T25: paste, Test, Save, the direct key, the cap that pauses and the one that resumes."""
    workspace = desk_world.workspace()
    with visit(desk_world, java_script_enabled=script) as visitor:
        walk, page = Walk(visitor.open(workspace), workspace, script), visitor.page
        page.keyboard.press("Tab")
        expect(link(page, "Skip to content")).to_be_focused()
        page.keyboard.press("Enter")
        for provider in ("openrouter", "anthropic"):
            type_into(page, walk.field(provider), desk_world.key(provider))
            press(page, button(walk.card(provider), "Test"))
            walk.is_in_state("works", provider)
            keeps_focus(page)
            press(page, button(walk.card(provider), "Save"), "Space")
            walk.is_in_state("connected", provider)
            keeps_focus(page)
        assert call(workspace).code == ""
        press(page, link(walk.shown.get_by_role("navigation"), "Spend"))
        expect(walk.shown.get_by_role("heading", level=1)).to_have_text("Spend")
        type_into(page, walk.shown.get_by_label("Monthly spend cap (USD)", exact=True), "0")
        page.keyboard.press("Enter")
        press(page, button(walk.main, "Save and pause AI"))
        walk.pill_says("AI paused")
        press(page, link(walk.shown, "Raise the cap"))
        type_into(page, walk.shown.get_by_label("Monthly spend cap (USD)", exact=True), "25")
        page.keyboard.press("Enter")
        walk.pill_says("AI on")

    assert call(workspace).code == ""


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_an_app_builder_by_keyboard(builder_world: PortalWorld, visit: Visiting, script: bool) -> None:
    """G12–G22: Subscribe, pay, Connect, Save, Always on, Disable, and off again."""
    world = builder_world
    assert world.stripe is not None
    workspace = world.workspace()
    with visit(world, java_script_enabled=script) as visitor:
        walk, page = Walk(visitor.open(workspace), workspace, script), visitor.page
        press(page, button(walk.card(), "Subscribe"))
        expect(walk.shown.get_by_role("heading", level=1)).to_have_text("Plans & Pricing")
        press(page, button(walk.main, "Subscribe"))
        press(page, link(walk.main, "Go to payment"))
        page.wait_for_url(world.stripe.url + "/**")
        page.get_by_label("Email").focus()
        page.keyboard.insert_text("ada@example.com")
        page.keyboard.press("Enter")
        page.wait_for_url(world.url + "/portal/plans**")
        expect(walk.shown.locator("#addon")).to_have_attribute("data-state", "active", timeout=20_000)
        press(page, link(walk.main, "Connect"))
        expect(walk.shown.get_by_role("heading", level=1)).to_have_text("Integrations")
        press(page, button(walk.card(), "Connect"))
        expect(walk.field()).to_be_focused()
        page.keyboard.insert_text(world.key("openrouter"))
        press(page, button(walk.card(), "Save"))
        walk.is_in_state("connected")
        keeps_focus(page)
        _switch(walk, page)
        expect(walk.payer).to_contain_text("credits are never used")
        press(page, button(walk.card(), "Disable"))
        press(page, button(walk.shown.locator("#confirm-openrouter"), "Disable"))
        walk.pill_says("AI off")
        assert call(workspace).code == "always_use_key_unavailable"
        _switch(walk, page)
        expect(walk.payer).to_contain_text("credits pay for every AI call")

    assert call(workspace).code == ""


def _switch(walk: Walk, page: Page) -> None:
    switch = walk.shown.get_by_role("switch", name="Always use this key", exact=True)
    press(page, switch, "Space")
    if not walk.script:
        press(page, button(walk.shown.locator("form", has=switch), "Save"))
