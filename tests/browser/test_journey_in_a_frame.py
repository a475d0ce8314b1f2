"""Journey 7: the ways that lead out of a frame and back into it, with cookies of other sites blocked all the time."""

import contextlib
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from tests.browser.chromium import chromium_without_foreign_cookies
from tests.browser.portal_world import PEOPLE, PortalWorld, Visitor
from tests.browser.walking import Walk, button, call, link
from tests.browser.watching import Watch
from tests.deployment import TestWorkspace

pytestmark = pytest.mark.whole


@contextlib.contextmanager
def framed(browser: Browser, world: PortalWorld, workspace: TestWorkspace, page: str = "") -> Iterator[Walk]:
    """Somebody who is signed in at the host product, on localhost, whose page frames ours, on 127.0.0.1."""
    watch = Watch(world.origins | {world.deployment.emulator.url}, world.typed)
    with chromium_without_foreign_cookies(browser.browser_type) as context:
        context.set_default_timeout(10_000)
        watch.follow(context)
        visitor = Visitor(world, context, watch, context.new_page())
        visitor.open_framed(workspace, page)
        yield Walk(visitor, workspace)
        watch.look(context.pages)
        names = {cookie["name"] for cookie in context.cookies()}

    assert watch.problems() == []
    assert names == {"host_visit"}


def arrive(walk: Walk) -> None:
    """Back on the host's page: its frame has begun anew."""
    page = walk.visitor.page
    page.wait_for_url(walk.world.host.url + "/ai**")
    page.wait_for_function("() => document.querySelector('#events').textContent.includes('ready')")


def test_bought_connected_and_used_from_a_frame(builder_world: PortalWorld, browser: Browser) -> None:
    """X5, G12–G16: Subscribe leaves the frame for the payment page, which leads back to the host's own page; the key is
    saved inside the frame, and the host's page hears that it was."""
    world = builder_world
    assert world.stripe is not None
    workspace = world.workspace("Framed buyer")
    with framed(browser, world, workspace) as walk:
        page = walk.visitor.page
        walk.is_in_state("not_entitled")
        walk.press("Subscribe")
        expect(walk.shown.locator("#addon")).to_have_attribute("data-state", "not_subscribed")
        button(walk.main, "Subscribe").click()
        link(walk.main, "Go to payment").click()
        page.wait_for_url(world.stripe.url + "/**")
        page.get_by_label("Email").fill("ada@example.com")
        button(page, "Subscribe").click()
        arrive(walk)
        walk.go("Plans & Pricing")
        expect(walk.shown.locator("#addon")).to_have_attribute("data-state", "active", timeout=20_000)
        link(walk.main, "Connect").click()
        walk.press("Connect")
        walk.test(world.key("openrouter"))
        walk.save()
        told = walk.visitor.told()

    assert any(line.startswith("credential-saved") for line in told)
    assert call(workspace).code == ""
    assert walk.funding() == "byok"


def test_sign_in_with_openrouter_from_a_frame(desk_world: PortalWorld, browser: Browser) -> None:
    """O2, X5: the sign-in leaves the frame too, and comes back to the host's page with the key saved."""
    workspace = desk_world.workspace("Framed sign-in")
    with framed(browser, desk_world, workspace) as walk:
        button(walk.card(), "Sign in with OpenRouter").click()
        link(walk.main, "Continue on a page of its own").click()
        page = walk.visitor.page
        page.wait_for_url("**/portal/credentials/openrouter/approve?**")
        expect(page.locator("main")).to_contain_text("Framed sign-in")
        link(page, "Continue to OpenRouter").click()
        arrive(walk)
        walk.is_in_state("connected")

    assert call(workspace).code == ""


def test_a_cap_that_pauses_is_asked_for_inside_the_frame(desk_world: PortalWorld, browser: Browser) -> None:
    """T21, X5: question and answer are panels of the page; the host's page hears of the change."""
    workspace = desk_world.workspace("Framed cap")
    workspace.save_key("openrouter", desk_world.key("openrouter"))
    with framed(browser, desk_world, workspace, "spend") as walk:
        walk.save_cap("0")
        expect(walk.shown.get_by_role("heading", name="AI pauses now with this cap")).to_be_visible()
        button(walk.main, "Save and pause AI").click()
        walk.pill_says("AI paused")
        walk.save_cap("")
        walk.pill_says("AI on")
        told = walk.visitor.told()

    assert sum(line.startswith("cap-changed") for line in told) == 2


def test_a_framed_session_that_the_host_revokes_wipes_what_was_typed(
    desk_world: PortalWorld, browser: Browser
) -> None:
    """X5: the next press shows the end, the key is gone from the document, and Reopen asks the host for a new one."""
    workspace = desk_world.workspace("Framed end")
    with framed(browser, desk_world, workspace) as walk:
        walk.field().fill(desk_world.key("openrouter"))
        desk_world.manage("DELETE", f"workspaces/{workspace.id}/portal-sessions?member={PEOPLE['owner'][0]}")
        walk.press("Save")
        expect(walk.shown.get_by_role("heading", level=1)).to_have_text("Session ended")
        assert walk.state() == "empty"
        assert any(line.startswith("session-expired") for line in walk.visitor.told())
        link(walk.shown, "Reopen").click()
        again = walk.visitor.page.frame_locator("ownkey-portal iframe")
        expect(again.get_by_role("heading", level=1)).to_have_text("API Keys")
        expect(again.get_by_label("OpenRouter API key", exact=True)).to_have_value("")


def test_a_form_pressed_before_it_is_ready_is_sent_all_the_same(desk_world: PortalWorld, browser: Browser) -> None:
    """X5: whoever is quicker than our script loses no press; the browser itself would send it without the bearer."""
    workspace = desk_world.workspace("Framed haste")
    with framed(browser, desk_world, workspace, "spend") as walk:
        walk.shown.evaluate("""() => {
          const form = document.querySelector("#cap form").cloneNode(true);
          form.removeAttribute("data-htmx-powered");
          form.querySelector("[name=cap_usd]").value = "7";
          document.querySelector("#main").append(form);
          form.querySelector("button").click();
          htmx.process(form);
        }""")
        walk.says("Saved.")

    assert workspace.cap()["cap_usd"].startswith("7")
