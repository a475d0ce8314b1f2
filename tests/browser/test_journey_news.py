"""Journey: somebody reads Activity while calls go on. What is new is announced, and never put under their eyes."""

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Visiting
from tests.browser.portal_world import PortalWorld
from tests.browser.walking import Walk, call, link

from ownkey.portal.activity import POLL_S

pytestmark = pytest.mark.whole


@pytest.mark.parametrize("framed", [False, True], ids=["page", "frame"])
def test_new_calls_are_announced_and_shown_on_demand(desk_world: PortalWorld, visit: Visiting, framed: bool) -> None:
    """X1, X5: the list stays as it is, also where the focus is; the news is told once a change; Show shows it."""
    workspace = desk_world.workspace()
    workspace.save_key("openrouter", desk_world.key("openrouter"))
    for _ in range(2):
        assert call(workspace).code == ""
    with visit(desk_world) as visitor:
        visitor.page.clock.install()
        walk = Walk(visitor, workspace)
        _ = visitor.open_framed(workspace, "activity") if framed else visitor.open(workspace, "/portal/activity")
        rows, news = walk.shown.locator("tr[data-receipt]"), walk.shown.locator("#new-calls")
        first = rows.first.get_by_role("link").first
        first.focus()
        _poll(visitor.page.clock)
        expect(news).to_be_empty()
        for _ in range(3):
            assert call(workspace).code == ""
        _poll(visitor.page.clock)
        expect(news).to_contain_text("3 new · Show")
        visitor.page.clock.run_for(100)
        expect(walk.shown.get_by_role("status")).to_contain_text("3 new")
        expect(rows).to_have_count(2)
        expect(first).to_be_focused()

        # Somebody who points at it is not disturbed.
        link(news, "Show").focus()
        assert call(workspace).code == ""
        _poll(visitor.page.clock)
        expect(news).to_contain_text("3 new · Show")
        expect(link(news, "Show")).to_be_focused()
        visitor.page.keyboard.press("Enter")
        expect(rows).to_have_count(6)
        expect(news).to_be_empty()
        if framed:  # swapped, not loaded: the focus is somewhere, and the host's page is still there
            expect(walk.shown.locator(":focus")).to_have_count(1)


def test_news_keep_to_the_filter(desk_world: PortalWorld, visit: Visiting) -> None:
    """X1: a call that the filter leaves out is no news here, and Show keeps the filter."""
    workspace = desk_world.workspace()
    workspace.save_key("openrouter", desk_world.key("openrouter"))
    assert call(workspace, project="shop").code == ""
    with visit(desk_world) as visitor:
        visitor.page.clock.install()
        walk = Walk(visitor.open(workspace, "/portal/activity?project=shop"), workspace)
        for project in ("blog", "shop", "blog"):
            assert call(workspace, project=project).code == ""
        _poll(visitor.page.clock)
        expect(walk.shown.locator("#new-calls")).to_contain_text("1 new · Show")
        link(walk.main, "Show").click()
        expect(walk.shown.locator("tr[data-receipt]")).to_have_count(2)
        assert "project=shop" in visitor.page.url


def test_without_script_nothing_moves_until_the_page_is_loaded_again(desk_world: PortalWorld, visit: Visiting) -> None:
    """X5: no poll, no refresh of a page that somebody reads; a reload shows what came."""
    workspace = desk_world.workspace()
    workspace.save_key("openrouter", desk_world.key("openrouter"))
    assert call(workspace).code == ""
    with visit(desk_world, java_script_enabled=False) as visitor:
        walk = Walk(visitor.open(workspace, "/portal/activity"), workspace, script=False)
        assert call(workspace).code == ""
        visitor.page.wait_for_timeout(1_500)
        assert sum("/portal/activity" in url for url in visitor.watch.urls) == 1
        assert walk.shown.locator("meta[http-equiv=refresh]").count() == 0
        expect(walk.shown.locator("tr[data-receipt]")).to_have_count(1)
        visitor.page.reload()
        expect(walk.shown.locator("tr[data-receipt]")).to_have_count(2)


def _poll(clock: object) -> None:
    """As long as it takes until the page asks the next time."""
    clock.run_for(1_000 * POLL_S + 500)  # type: ignore[attr-defined]
