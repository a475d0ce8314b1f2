"""Journey: AI is silent. From the page that says why, by its one button, to a call that is answered."""

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Visiting
from tests.browser.portal_world import PortalWorld
from tests.browser.walking import Walk, button, call, link
from tests.deployment import TestWorkspace

pytestmark = pytest.mark.whole
SCRIPT = pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])


def silent(walk: Walk, code: str) -> None:
    """A call is refused with this code, and Why says the same of every task."""
    assert call(walk.workspace).code == code
    walk.visitor.goto("/portal/why")
    expect(walk.shown.get_by_role("heading", name="No AI feature answers now")).to_be_visible()


def speaks_again(walk: Walk) -> None:
    walk.visitor.goto("/portal/why")
    expect(walk.shown.get_by_role("heading", name="AI is not silent")).to_be_visible()
    assert call(walk.workspace).code == ""


@SCRIPT
def test_a_support_desk_without_a_key(desk_world: PortalWorld, visit: Visiting, script: bool) -> None:
    """T2, X1: no key → its card → pasted and saved → answered."""
    workspace = desk_world.workspace()
    with visit(desk_world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace), workspace, script)
        silent(walk, "openrouter_key_required")
        link(walk.main, "Open the key's card").first.click()
        walk.is_in_state("empty")
        walk.field().fill(desk_world.key("openrouter"))
        walk.save()
        speaks_again(walk)


@SCRIPT
def test_a_support_desk_at_its_cap(desk_world: PortalWorld, visit: Visiting, script: bool) -> None:
    """T23, T25: paused → the cap's form → raised → answered."""
    workspace = desk_world.workspace()
    workspace.save_key("openrouter", desk_world.key("openrouter"))
    assert call(workspace).code == ""
    workspace.set_cap(workspace.cap()["spent_usd"])
    with visit(desk_world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace), workspace, script)
        silent(walk, "ai_paused")
        link(walk.main, "Open the spend cap").first.click()
        walk.save_cap("25")
        walk.says("Saved. AI has resumed.")
        speaks_again(walk)


@SCRIPT
def test_a_support_desk_whose_feature_is_off(desk_world: PortalWorld, visit: Visiting, script: bool) -> None:
    """T26: one task is off → its switch → on; the others were never silent."""
    workspace = desk_world.workspace()
    workspace.save_key("openrouter", desk_world.key("openrouter"))
    desk_world.manage("PUT", f"workspaces/{workspace.id}/features/draft_reply", {"on": False})
    with visit(desk_world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace), workspace, script)
        assert call(workspace, "task:draft_reply").code == "feature_disabled"
        visitor.goto("/portal/why?task=draft_reply")
        link(walk.main, "Open the switch").click()
        expect(walk.shown.get_by_role("heading", level=1)).to_have_text("Features")
        walk.flip("Draft replies")
        visitor.goto("/portal/why?task=draft_reply")
        expect(walk.shown.locator("[data-task=draft_reply]")).to_contain_text("Answers")

    assert call(workspace, "task:draft_reply").code == ""


@SCRIPT
def test_an_app_builder_whose_key_is_disabled_with_always_on(
    builder_world: PortalWorld, visit: Visiting, script: bool
) -> None:
    """G18, G20, G21: stopped → the key's card → enabled → answered by the key, no credit spent."""
    workspace = builder_world.workspace(plan="enterprise")
    workspace.save_key("openrouter", builder_world.key("openrouter"))
    workspace.settings(always_use_key=True)
    builder_world.manage("POST", f"workspaces/{workspace.id}/credentials/openrouter/disable", {})
    with visit(builder_world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace), workspace, script)
        credits = walk.credits()
        silent(walk, "always_use_key_unavailable")
        link(walk.main, "Open the key's card").first.click()
        walk.is_in_state("disabled")
        walk.press("Enable")
        walk.is_in_state("connected")
        speaks_again(walk)
        assert (walk.funding(), walk.credits()) == ("byok", credits)


@SCRIPT
def test_an_app_builder_whose_add_on_is_not_paid(builder_world: PortalWorld, visit: Visiting, script: bool) -> None:
    """G9, G14, G22: parked with Always on → Plans & Pricing → paid → the kept key answers, without a new paste."""
    workspace = builder_world.workspace(plan="enterprise")
    workspace.save_key("openrouter", builder_world.key("openrouter"))
    workspace.settings(plan="free", always_use_key=True)
    deployment = builder_world.deployment
    deployment.manage(
        "PUT", f"workspaces/{workspace.id}/entitlement", {"entitlement": "inactive"}, token=deployment.operator
    )
    with visit(builder_world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace), workspace, script)
        silent(walk, "addon_inactive")
        link(walk.main, "Open Plans & Pricing").first.click()
        button(walk.main, "Subscribe").click()
        _pay(walk)
        expect(walk.shown.locator("#addon")).to_have_attribute("data-state", "active", timeout=20_000)
        speaks_again(walk)
        assert walk.funding() == "byok"


@SCRIPT
def test_an_app_builder_without_credits(builder_world: PortalWorld, visit: Visiting, script: bool) -> None:
    """G23: no credits and no key → Add credits → a pack is bought → credits answer."""
    workspace = builder_world.workspace()
    _spend_all(builder_world, workspace)
    with visit(builder_world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace), workspace, script)
        silent(walk, "insufficient_credits")
        link(walk.main, "Add credits").first.click()
        walk.visitor.page.wait_for_url("**/portal/plans**")
        button(walk.main, "Buy 1,000 credits").click()
        _pay(walk)
        speaks_again(walk)
        assert walk.funding() == "credits"


def _pay(walk: Walk) -> None:
    stripe, page = walk.world.stripe, walk.visitor.page
    assert stripe is not None
    link(walk.main, "Go to payment").click()
    page.wait_for_url(stripe.url + "/**")
    page.get_by_label("Email").fill("ada@example.com")
    page.locator("button[type=submit]").click()
    page.wait_for_url(walk.world.url + "/portal/plans**")


def _spend_all(world: PortalWorld, workspace: TestWorkspace) -> None:
    """Calls until credits do not suffice for a small one."""
    for tokens in (30_000,) * 40 + (500,) * 40:
        if call(workspace, tokens=tokens).code == "insufficient_credits" and tokens == 500:
            return
    raise AssertionError("there are still credits")
