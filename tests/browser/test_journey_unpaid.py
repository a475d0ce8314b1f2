"""Journey 4: a renewal is not paid, the days of grace run out, the key waits, and works again as soon as it is paid."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Visiting
from tests.browser.later_days import Calendar
from tests.browser.portal_world import PortalWorld, portal_world
from tests.browser.walking import Walk, button, call, link, wait_until

pytestmark = pytest.mark.whole


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PortalWorld]:
    """A world of one's own: days pass in it."""
    with portal_world(tmp_path_factory.mktemp("unpaid"), "app-builder") as world:
        yield world


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_unpaid_grace_parked_paid(shop: PortalWorld, visit: Visiting, script: bool) -> None:
    """G7, G9, G14, G22: unpaid → three days of grace → parked, credits pay → paid → works without a new paste."""
    assert shop.stripe is not None
    calendar, workspace = Calendar(shop), shop.workspace("Late payer")
    with visit(shop, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace), workspace, script)
        _subscribe(walk)
        walk.go("Integrations")
        walk.press("Connect")
        walk.field().fill(shop.key("openrouter"))
        walk.save()
        assert call(workspace).code == ""
        assert walk.funding() == "byok"

        customer = shop.stripe.control("GET", "objects?kind=subscription")["objects"][-1]["customer"]
        shop.stripe.control("POST", "failing", {"customer": customer})
        calendar.pass_days(32)
        visitor.open(workspace)
        walk.pill_says("Needs attention")
        walk.is_in_state("connected")
        walk.go("Plans & Pricing")
        expect(walk.shown.locator("#addon")).to_have_attribute("data-state", "past_due")
        walk.says("Payment failed on", "Works until")
        expect(link(walk.main, "Update card")).to_be_visible()
        assert call(workspace).code == ""
        assert walk.funding() == "byok"
        walk.receives("^Late payer: payment for the OpenRouter add-on failed$")

        calendar.pass_days(4)
        visitor.open(workspace)
        walk.is_in_state("parked")
        expect(walk.card()).to_contain_text("App builder credits pay meanwhile.")
        walk.go("Plans & Pricing")
        expect(walk.shown.locator("#addon")).to_have_attribute("data-state", "inactive")
        walk.says("Kept encrypted and not used. It works again after payment, without a new paste.")
        assert call(workspace).code == ""
        assert walk.funding() == "credits"

        shop.stripe.control("POST", "failing", {"customer": customer, "code": None})
        _subscribe(walk)
        walk.go("Integrations")
        walk.is_in_state("connected")
        walk.pill_says("AI on")
        assert call(workspace).code == ""
        assert walk.funding() == "byok"


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_a_new_card_in_the_days_of_grace(shop: PortalWorld, visit: Visiting, script: bool) -> None:
    """G7, G9, G14: past due → Update card → the open invoice is paid there → active; the key has worked all along."""
    assert shop.stripe is not None
    calendar, workspace = Calendar(shop), shop.workspace("Old card")
    with visit(shop, java_script_enabled=script) as visitor:
        walk, page = Walk(visitor.open(workspace), workspace, script), visitor.page
        _subscribe(walk)
        workspace.save_key("openrouter", shop.key("openrouter"))
        customer = shop.stripe.control("GET", "objects?kind=subscription")["objects"][-1]["customer"]
        shop.stripe.control("POST", "failing", {"customer": customer})
        calendar.pass_days(32)
        visitor.open(workspace, "/portal/plans")
        expect(walk.shown.locator("#addon")).to_have_attribute("data-state", "past_due")
        link(walk.main, "Update card").click()
        expect(walk.shown.get_by_role("heading", level=1)).to_have_text("Card and invoices")
        link(walk.main, "Open card and invoices").click()
        page.wait_for_url(shop.stripe.url + "/**")
        shop.stripe.control("POST", "failing", {"customer": customer, "code": None})
        page.get_by_label("Card number").fill("5555555555554444")
        button(page, "Save card").click()
        at_stripe = page.url
        page.locator("tr", has_text="open").get_by_role("link").click()
        page.get_by_label("Card number").fill("5555555555554444")
        button(page, "Pay").click()
        expect(page.locator("#status")).to_have_text("paid")
        page.goto(at_stripe)
        link(page, "Return").click()
        page.wait_for_url(shop.url + "/portal/plans**")
        wait_until(lambda: walk.billing() == "active", "the add-on")
        page.reload()
        expect(walk.shown.locator("#addon")).to_have_attribute("data-state", "active")
        walk.says("Renews on")
        walk.go("Integrations")
        walk.is_in_state("connected")
        walk.pill_says("AI on")
        assert call(workspace).code == ""
        assert walk.funding() == "byok"


def _subscribe(walk: Walk) -> None:
    """Pay on the payment site's page, and come back to an active add-on."""
    stripe, page = walk.world.stripe, walk.visitor.page
    assert stripe is not None
    walk.go("Plans & Pricing")
    button(walk.main, "Subscribe").click()
    link(walk.main, "Go to payment").click()
    page.wait_for_url(stripe.url + "/**")
    page.get_by_label("Email").fill("ada@example.com")
    button(page, "Subscribe").click()
    page.wait_for_url(walk.world.url + "/portal/plans**")
    expect(walk.shown.locator("#addon")).to_have_attribute("data-state", "active", timeout=20_000)
