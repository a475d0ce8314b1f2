"""Journey 8: two tabs, Back, and impatient fingers."""

from typing import Any

import pytest
from playwright.sync_api import Locator, expect
from tests.browser.conftest import Visiting
from tests.browser.portal_world import PortalWorld
from tests.browser.walking import Walk, button, call, link

pytestmark = pytest.mark.whole
SCRIPT = pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])


@SCRIPT
def test_a_stale_cap_is_not_saved_over_a_newer_one(desk_world: PortalWorld, visit: Visiting, script: bool) -> None:
    """T21: the second tab is told, shows the cap of the first beside what was typed, and saves only when asked."""
    workspace = desk_world.workspace()
    with visit(desk_world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace, "/portal/spend"), workspace, script)
        other = visitor.context.new_page()
        other.goto(desk_world.url + "/portal/spend")
        walk.save_cap("40")
        walk.says("Saved.")
        other.get_by_label("Monthly spend cap (USD)", exact=True).fill("60")
        button(other.locator("form", has=other.get_by_label("Alert threshold (%)")), "Save").click()
        expect(other.get_by_role("alert")).to_contain_text("in the meantime, by somebody else or in another tab")
        expect(other.get_by_role("alert")).to_contain_text("40.00")
        expect(other.get_by_label("Monthly spend cap (USD)", exact=True)).to_have_value("60")
        assert workspace.cap()["cap_usd"].startswith("40")
        button(other.locator("form", has=other.get_by_label("Alert threshold (%)")), "Save").click()
        expect(other.get_by_role("main")).to_contain_text("Saved.")

    assert workspace.cap()["cap_usd"].startswith("60")


@SCRIPT
def test_a_stale_key_form_neither_replaces_nor_disconnects(
    desk_world: PortalWorld, visit: Visiting, script: bool
) -> None:
    """T11: a key that another tab has saved meanwhile stays in service, and is what the page then shows."""
    world, workspace = desk_world, desk_world.workspace()
    with visit(world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace), workspace, script)
        tab = visitor.context.new_page()
        tab.goto(world.url + "/portal/credentials")
        second = world.key("openrouter")
        walk.field().fill(world.key("openrouter"))
        walk.save()
        tab.get_by_label("OpenRouter API key", exact=True).fill(second)
        button(tab.locator("[data-provider=openrouter]"), "Save").click()
        expect(tab.get_by_role("alert")).to_contain_text("Nothing was changed")
        if script:  # a swap: the address is still that of the page
            answer = tab.reload()
            assert answer is not None
            assert answer.status == 200
        version = _card(walk)["version"]
        assert not _card(walk)["hint"].endswith(second[-4:])

        tab.goto(world.url + "/portal/credentials/openrouter/disconnect")
        walk.press("Replace")
        walk.field().fill(second)
        walk.save()
        button(tab.locator("#confirm-openrouter"), "Disconnect").click()
        expect(tab.get_by_role("alert")).to_contain_text("Nothing was changed")
        expect(tab.locator("#confirm-openrouter")).to_contain_text(second[-4:])

    assert walk.state() == "connected"
    assert _card(walk)["version"] > version


def _card(walk: Walk) -> dict[str, Any]:
    rows = walk.world.manage("GET", f"workspaces/{walk.workspace.id}/credentials")["credentials"]
    return dict(next(row for row in rows if row["provider"] == "openrouter"))


@SCRIPT
def test_stale_switches_show_how_they_are_now(builder_world: PortalWorld, visit: Visiting, script: bool) -> None:
    """G17, G29: a switch that another tab has moved is not moved back by an old form."""
    workspace = builder_world.workspace(plan="enterprise")
    workspace.save_key("openrouter", builder_world.key("openrouter"))
    with visit(builder_world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace), workspace, script)
        tab = visitor.context.new_page()
        tab.goto(builder_world.url + "/portal/credentials")
        walk.flip("Always use this key")
        switch = tab.get_by_role("switch", name="Use credits if my key fails", exact=True)
        if script:
            switch.click()
        else:
            switch.uncheck()
            button(tab.locator("form", has=switch), "Save").click()
        expect(tab.get_by_role("alert")).to_contain_text("Nothing was changed")
        expect(tab.get_by_role("switch", name="Always use this key", exact=True)).to_be_checked()

    assert builder_world.manage("GET", f"workspaces/{workspace.id}")["always_use_key"] is True


@SCRIPT
def test_a_double_click_on_save_saves_once(desk_world: PortalWorld, visit: Visiting, script: bool) -> None:
    """T11: one version, one audit row, whatever the fingers do."""
    workspace = desk_world.workspace()
    with visit(desk_world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace), workspace, script)
        walk.field().fill(desk_world.key("openrouter"))
        press_twice(button(walk.card(), "Save"))
        walk.is_in_state("connected")

    rows = desk_world.manage("GET", f"workspaces/{workspace.id}/audit")["rows"]
    assert [row["action"] for row in rows].count("credential.saved") == 1
    assert _card(walk)["version"] == 1


@SCRIPT
def test_a_double_click_on_subscribe_two_tabs_and_back_make_one_payment(
    builder_world: PortalWorld, visit: Visiting, script: bool
) -> None:
    """G13, G14: every way leads to the same payment page; one subscription, however often it was asked for."""
    world = builder_world
    assert world.stripe is not None
    workspace = world.workspace()
    with visit(world, java_script_enabled=script) as visitor:
        walk, page = Walk(visitor.open(workspace, "/portal/plans"), workspace, script), visitor.page
        tab = visitor.context.new_page()
        tab.goto(world.url + "/portal/plans")
        press_twice(button(walk.main, "Subscribe"))
        first = link(walk.main, "Go to payment").get_attribute("href")
        button(tab.get_by_role("main"), "Subscribe").click()
        assert link(tab.get_by_role("main"), "Go to payment").get_attribute("href") == first
        page.go_back()
        walk.go("Plans & Pricing")
        button(walk.main, "Continue to payment").click()
        assert link(walk.main, "Go to payment").get_attribute("href") == first
        link(walk.main, "Go to payment").click()
        page.wait_for_url(world.stripe.url + "/**")
        page.get_by_label("Email").fill("ada@example.com")
        button(page, "Subscribe").click()
        page.wait_for_url(world.url + "/portal/plans**")
        expect(walk.shown.locator("#addon")).to_have_attribute("data-state", "active", timeout=20_000)
        link(tab.get_by_role("main"), "Go to payment").click()
        expect(tab.locator("body")).to_contain_text("already been completed")

    made = [s for s in world.stripe.control("GET", "objects?kind=subscription")["objects"]
            if s["metadata"].get("ownkey_workspace") == workspace.id]
    assert len(made) == 1


def test_back_after_save_shows_no_key_and_saves_nothing_again(desk_world: PortalWorld, visit: Visiting) -> None:
    """T28: Back and Forward neither bring the typed key back nor send it once more."""
    workspace = desk_world.workspace()
    with visit(desk_world) as visitor:
        walk = Walk(visitor.open(workspace), workspace)
        walk.go("Spend", "API Keys")
        key = desk_world.key("openrouter")
        walk.field().fill(key)
        walk.save()
        walk.go("Activity")
        for step in (visitor.page.go_back, visitor.page.go_back, visitor.page.go_back, visitor.page.go_forward):
            step()
            expect(walk.shown.get_by_role("heading", level=1)).to_be_visible()
            assert key not in visitor.page.content()
            for field in walk.shown.locator("input[type=password]").all():
                expect(field).to_have_value("")

    assert _card(walk)["version"] == 1
    assert call(workspace).code == ""


def press_twice(it: Locator) -> None:
    """As somebody does who is used to icons on a desktop; the second press may meet another page."""
    it.dblclick(no_wait_after=True)
