"""Journeys 2 and 3: somebody who builds apps buys the add-on, connects a key and decides who pays; an Enterprise plan
has nothing to buy.
"""

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import WHOLE, Visiting
from tests.browser.portal_world import PortalWorld
from tests.browser.walking import Walk, button, call, link, wait_until

SCRIPTS = [True, False] if WHOLE else [True]
NAMES = {True: "script", False: "no-script"}
ITEM = "Power your AI with OpenRouter – $5 Add-on"


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES.get)
def test_from_not_enabled_to_reconnected(builder_world: PortalWorld, visit: Visiting, script: bool) -> None:
    """G1–G4, G6–G10, G12–G22, G25–G29, X3: not enabled → Subscribe → pay → Connect → Save → Always ON, disable →
    stopped, 0 credits → OFF → credits pay → Enable → old and new project use the key → disconnect → reconnect."""
    world = builder_world
    workspace = world.workspace(f"Bakery {NAMES[script]}")
    with visit(world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace), workspace, script)
        assert call(workspace, project="old-shop").code == ""
        assert walk.funding() == "credits"
        _buy(walk)
        key = world.key("openrouter")
        _connect(walk, key)
        credits = walk.credits()
        assert call(workspace, project="old-shop").code == ""
        assert (walk.funding(), walk.credits()) == ("byok", credits)
        _stop_and_go_on(walk, key)
        _disconnect(walk)
        _connect(walk, key)
        assert call(workspace, project="old-shop").code == ""
        assert walk.funding() == "byok"


def _buy(walk: Walk) -> None:
    """G6, G8, G12–G14: price, purpose and minimum balance are read before anything is paid."""
    stripe = walk.world.stripe
    assert stripe is not None
    expect(walk.shown.get_by_role("heading", level=1)).to_have_text("Integrations")
    walk.is_in_state("not_entitled")
    expect(walk.card().get_by_text("OpenRouter is not enabled", exact=True)).to_be_visible()
    expect(walk.card()).to_contain_text("10 credits; yours:")
    walk.press("Subscribe")
    expect(walk.shown.get_by_role("heading", level=1)).to_have_text("Plans & Pricing")
    expect(walk.shown.get_by_role("heading", name=ITEM)).to_be_visible()
    walk.says("US$5.00 a month", "at least 10 credits", "billed by OpenRouter")
    button(walk.main, "Subscribe").click()
    leave = link(walk.main, "Go to payment")
    expect(leave).to_have_attribute("target", "_top")
    leave.click()

    page = walk.visitor.page
    page.wait_for_url(stripe.url + "/**")
    expect(page.locator("table").first).to_contain_text(ITEM)
    page.get_by_label("Email").fill("ada@example.com")
    button(page, "Subscribe").click()
    page.wait_for_url(walk.world.url + "/portal/plans**")
    expect(walk.shown.locator("#addon")).to_have_attribute("data-state", "active", timeout=20_000)
    walk.says("Renews on")


def _connect(walk: Walk, key: str) -> None:
    """G10, G15, G16, G26: Settings → Integrations → Connect → key → Save → the exact text; the first time and later."""
    walk.go("Integrations")
    walk.is_in_state("empty")
    walk.press("Connect")
    walk.field().fill(key)
    walk.save()
    walk.is_in_state("connected")
    expect(walk.payer).to_contain_text("Your key pays. If it fails, App builder credits pay, up to 500 this month.")


def _stop_and_go_on(walk: Walk, key: str) -> None:
    """G17–G22, G28, G29: every sentence is true for the next call, and no credit moves while Always is on."""
    workspace = walk.workspace
    walk.flip("Always use this key")
    expect(walk.payer).to_contain_text(
        f"Your key (…{key[-4:]}) pays for every AI call. App builder credits are never used."
    )
    expect(walk.shown.get_by_role("switch", name="Use credits if my key fails")).to_be_disabled()
    credits = walk.credits()
    walk.press("Disable")
    asked = walk.shown.locator("#confirm-openrouter")
    expect(asked).to_contain_text("Always use this key is on, so AI will stop.")
    expect(asked.get_by_label("Also turn off Always use this key", exact=True)).not_to_be_checked()
    button(asked, "Disable").click()
    walk.is_in_state("disabled")
    expect(walk.payer).to_contain_text(
        "AI calls are stopped: Always use this key is on and the key cannot be used. Credits are not touched."
    )
    walk.pill_says("AI off")
    refused = call(workspace, project="old-shop")
    assert (refused.status, refused.code) == (402, "always_use_key_unavailable")
    assert walk.credits() == credits

    walk.flip("Always use this key")
    expect(walk.payer).to_contain_text("App builder credits pay for every AI call.")
    assert call(workspace, tokens=10_000, project="old-shop").code == ""
    assert walk.funding() == "credits"
    assert walk.credits() < credits
    credits = walk.credits()

    walk.press("Enable")
    walk.is_in_state("connected")
    assert [call(workspace, project=name).code for name in ("old-shop", "new-blog")] == ["", ""]
    assert [receipt["funding"] for receipt in workspace.receipts()[:2]] == ["byok", "byok"]
    assert walk.credits() == credits
    walk.go("Projects")
    for name in ("old-shop", "new-blog"):
        expect(walk.shown.locator(f"tr[data-project={name}]")).to_be_visible()


def _disconnect(walk: Walk) -> None:
    """G25, G27: the key is gone for good, and credits pay again."""
    walk.go("Integrations")
    walk.confirm("Disconnect")
    walk.is_in_state("empty")
    walk.hears("The OpenRouter key is disconnected and destroyed.")
    expect(walk.payer).to_contain_text("App builder credits pay for every AI call.")
    assert walk.state() == "empty"
    assert call(walk.workspace, project="old-shop").code == ""
    assert walk.funding() == "credits"


@pytest.mark.whole
@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES.get)
def test_an_enterprise_plan_connects_without_payment(
    builder_world: PortalWorld, visit: Visiting, script: bool
) -> None:
    """G5, G11: included in the plan, Connect at once; no payment page is ever made."""
    world = builder_world
    assert world.stripe is not None
    workspace = world.workspace(f"Grand {NAMES[script]}", plan="enterprise")
    before = len(world.stripe.control("GET", "objects?kind=checkout.session")["objects"])
    with visit(world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace), workspace, script)
        walk.go("Plans & Pricing")
        walk.says("Included in your plan")
        expect(button(walk.main, "Subscribe")).to_have_count(0)
        link(walk.main, "Connect").click()
        walk.is_in_state("empty")
        _connect(walk, world.key("openrouter"))
        credits = walk.credits()
        assert call(workspace).code == ""
        assert (walk.funding(), walk.credits()) == ("byok", credits)

    assert len(world.stripe.control("GET", "objects?kind=checkout.session")["objects"]) == before


@pytest.mark.whole
def test_a_payment_that_is_left_or_refused_enables_nothing(builder_world: PortalWorld, visit: Visiting) -> None:
    """G13, G14: back without paying, a declined card, then paid: one payment page all the way, one subscription."""
    world = builder_world
    assert world.stripe is not None
    workspace = world.workspace("Hesitant")
    with visit(world) as visitor:
        visitor.watch.excuse("402 from /c/pay")
        walk, page = Walk(visitor.open(workspace), workspace), visitor.page
        walk.go("Plans & Pricing")
        button(walk.main, "Subscribe").click()
        link(walk.main, "Go to payment").click()
        page.wait_for_url(world.stripe.url + "/**")
        first = page.url
        link(page, "Back").click()
        walk.says("You came back from the payment page without paying; nothing was charged.")
        button(walk.main, "Continue to payment").click()
        link(walk.main, "Go to payment").click()
        page.wait_for_url(world.stripe.url + "/**")
        assert page.url == first
        page.get_by_label("Email").fill("ada@example.com")
        page.get_by_label("Card number").fill("4000000000009995")
        button(page, "Subscribe").click()
        expect(page.get_by_role("alert")).to_be_visible()
        assert walk.billing() == "finishing"
        page.get_by_label("Email").fill("ada@example.com")
        page.get_by_label("Card number").fill("4242424242424242")
        button(page, "Subscribe").click()
        page.wait_for_url(world.url + "/portal/plans**")
        wait_until(lambda: walk.billing() == "active", "the add-on")

    owned = [s for s in world.stripe.control("GET", "objects?kind=subscription")["objects"]
             if s["metadata"].get("ownkey_workspace") == workspace.id]
    assert len(owned) == 1
