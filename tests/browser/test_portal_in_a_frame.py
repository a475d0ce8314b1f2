"""The portal inside a host product on another site: sign in there, work here, with cookies of other sites blocked."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from tests.browser.chromium import chromium_without_foreign_cookies
from tests.browser.conftest import Visiting
from tests.browser.portal_world import PortalWorld, Visitor
from tests.browser.watching import Watch


@pytest.fixture
def strict(browser: Browser, desk_world: PortalWorld) -> Iterator[Visitor]:
    """A person whose browser blocks cookies and storage of other sites."""
    watch = Watch(desk_world.origins, desk_world.typed)
    with chromium_without_foreign_cookies(browser.browser_type) as context:
        watch.follow(context)
        visitor = Visitor(desk_world, context, watch, context.new_page())
        yield visitor
        watch.look(context.pages)

    assert watch.problems() == []


def test_a_key_is_saved_from_a_frame_while_foreign_cookies_are_blocked(strict: Visitor) -> None:
    """Host on localhost, portal on 127.0.0.1: no cookie, no storage, and the host hears what was done, not the key."""
    world = strict.world
    workspace = world.workspace()
    strict.open_framed(workspace)
    shown = strict.shown
    shown.get_by_label("OpenRouter API key", exact=True).fill(world.key("openrouter"))
    shown.locator("[data-provider=openrouter]").get_by_role("button", name="Test", exact=True).click()
    expect(shown.locator("[data-provider=openrouter][data-state=works]")).to_be_visible()
    shown.locator("[data-provider=openrouter]").get_by_role("button", name="Save", exact=True).click()
    expect(shown.get_by_role("main").get_by_text("OpenRouter API key saved successfully.")).to_be_visible()

    cookies = {cookie["name"] for cookie in strict.context.cookies()}
    assert cookies == {"host_visit"}
    assert any(told.startswith("credential-saved") and "openrouter" in told for told in strict.told())
    assert all(secret not in " ".join(strict.told()) for secret in world.typed)
    state = world.manage("GET", f"workspaces/{workspace.id}/credentials")["credentials"][0]["state"]
    assert state == "connected"


def test_blocking_is_real_here(strict: Visitor) -> None:
    """A control: this browser refuses storage to a frame of another site, so the test above proves something."""
    strict.open_framed(strict.world.workspace())

    assert strict.shown.evaluate("() => { try { return String(localStorage) } catch (e) { return e.name } }") == (
        "SecurityError"
    )


def test_every_page_of_the_navigation_opens_inside_the_frame(desk_world: PortalWorld, visit: Visiting) -> None:
    """Links keep the frame, the host's own navigation follows, the height fits each page."""
    with visit(desk_world) as visitor:
        visitor.open_framed(desk_world.workspace())
        for link in ("Features", "Spend", "Activity", "API Keys"):
            visitor.shown.get_by_role("navigation").get_by_role("link", name=link, exact=True).first.click()
            expect(visitor.shown.get_by_role("heading", level=1)).to_have_text(link)
            expect(visitor.page.locator("nav.sections a[aria-current]")).to_have_text(link)
        # The frame tells its height, and the host's element follows a moment later.
        for _ in range(100):
            inner = visitor.shown.evaluate(
                "document.documentElement.scrollHeight - document.documentElement.clientHeight"
            )
            if inner <= 1:
                break
            visitor.page.wait_for_timeout(50)

    assert inner <= 1


def test_a_reloaded_frame_and_a_session_that_ends_come_back_through_the_host(
    desk_world: PortalWorld, visit: Visiting
) -> None:
    """The bearer is only in memory: a reload asks the host once, and so does a session at its end."""
    with visit(desk_world) as visitor:
        visitor.open_framed(desk_world.workspace())
        before = desk_world.host.told()["minted"]
        visitor.shown.evaluate("location.reload()")
        visitor.page.wait_for_function(
            "() => (document.querySelector('#events').textContent.match(/ready/g) || []).length === 2"
        )
        inside = visitor.page.frame_locator("ownkey-portal iframe")
        inside.get_by_role("link", name="Spend", exact=True).click()
        expect(inside.get_by_role("heading", level=1)).to_have_text("Spend")

    assert desk_world.host.told()["minted"] == before + 1


def test_typed_text_survives_the_refresh_and_keys_are_wiped_at_the_end(
    desk_world: PortalWorld, visit: Visiting
) -> None:
    """Two minutes before the end a new session comes in silently; when the host refuses one, the end is said."""
    with visit(desk_world) as visitor:
        visitor.page.clock.install()
        visitor.open_framed(desk_world.workspace())
        key = visitor.shown.get_by_label("OpenRouter API key", exact=True)
        key.fill("half a key")
        before = desk_world.host.told()["minted"]
        visitor.page.clock.fast_forward(1_000 * (900 - 60))
        visitor.page.wait_for_timeout(800)
        minted, kept = desk_world.host.told()["minted"] - before, key.input_value()
        desk_world.host.tell(refusing=True)
        visitor.watch.excuse("502 from /ai/session")
        try:
            visitor.page.clock.fast_forward(1_000 * 1_000)
            expect(visitor.shown.get_by_role("heading", name="Session ended")).to_be_visible()
        finally:
            desk_world.host.tell(refusing=False)
        told = " ".join(visitor.told())
        inside = visitor.page.frame_locator("ownkey-portal iframe")
        inside.get_by_role("link", name="Reopen").click()
        expect(inside.get_by_role("heading", level=1)).to_have_text("API Keys")

    assert (minted, kept) == (1, "half a key")
    assert "session-expired" in told


def test_page_mode_of_the_same_person_is_one_click_away(desk_world: PortalWorld, visit: Visiting) -> None:
    """The plain link leads through the host's backend to a page of its own, signed in by a cookie of the portal."""
    with visit(desk_world) as visitor:
        visitor.open_framed(desk_world.workspace())
        visitor.page.get_by_role("link", name="Open on a page of its own").click()
        expect(visitor.page.get_by_role("heading", level=1)).to_have_text("API Keys")
        cookie = next(c for c in visitor.context.cookies() if c["name"].startswith("__Host-"))

    assert visitor.page.url.startswith(desk_world.url + "/portal/credentials")
    assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")


def test_a_download_leaves_a_frame_by_a_ticket_of_one_use(desk_world: PortalWorld, visit: Visiting) -> None:
    """A browser cannot show a bearer where it saves a file; the address that it gets instead works once."""
    workspace = desk_world.workspace(providers=("openrouter",), keys={"openrouter": desk_world.key("openrouter")})
    workspace.post("/v1/chat/completions", {
        "model": "openai/gpt-4.1-mini", "max_tokens": 20, "messages": [{"role": "user", "content": "Hello"}],
    })
    with visit(desk_world) as visitor:
        visitor.open_framed(workspace, "activity")
        with visitor.page.expect_download() as saved:
            visitor.shown.get_by_role("link", name="Download these calls (CSV)").click()
        text = saved.value.path().read_text()
        again = visitor.page.request.get(saved.value.url)

    assert "ticket=" in saved.value.url
    assert workspace.receipts()[0]["id"] in text
    assert again.status == 401


def test_a_site_that_may_not_frame_it_keeps_its_plain_link(desk_world: PortalWorld, visit: Visiting) -> None:
    """Section 7: the host product under an address that is not among the configured ones: the browser shows no frame of
    ours, nobody is told that one is ready, and the way to a page of its own stays."""
    with visit(desk_world) as visitor:
        visitor.watch.excuse("frame-ancestors", "foreign request: http://127.0.0.1")
        visitor.open_framed(desk_world.workspace())
        elsewhere = desk_world.host.url.replace("localhost", "127.0.0.1")
        cookie = next(one["value"] for one in visitor.context.cookies() if one["name"] == "host_visit")
        visitor.context.add_cookies([{"name": "host_visit", "value": cookie, "url": elsewhere}])
        visitor.page.goto(elsewhere + "/ai")
        expect(visitor.page.locator("ownkey-portal iframe")).to_have_count(1)
        expect(visitor.page.locator("ownkey-portal").get_by_role("link", name="AI keys and spend")).to_be_visible()
        visitor.page.wait_for_timeout(500)
        assert visitor.told() == []
        shown = [frame for frame in visitor.page.frames if frame.url.startswith(desk_world.url)]
        assert not any("ownkey-bearer" in frame.content() for frame in shown)
