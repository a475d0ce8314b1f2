"""What people come for, from the first paste to the last receipt, with script and without."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.browser.conftest import Visiting
from tests.browser.portal_world import PortalWorld
from tests.deployment import TestWorkspace

CLAUDE = "anthropic/claude-haiku-4.5"
MINI = "openai/gpt-4.1-mini"


def call(workspace: TestWorkspace, model: str = MINI) -> tuple[int, str]:
    """One small call: its status, and the refusal's code."""
    answer = workspace.post("/v1/chat/completions", {
        "model": model, "max_tokens": 30, "messages": [{"role": "user", "content": "Where is my order?"}],
    })
    return answer.status_code, "" if answer.status_code == 200 else str(answer.json()["error"]["code"])


def card(page: Page, provider: str) -> Locator:
    return page.locator(f"[data-provider={provider}][data-state]")


def button(place: Page | Locator, name: str) -> Locator:
    return place.get_by_role("button", name=name, exact=True)


def either(place: Page | Locator, name: str) -> Locator:
    """A button or a link: what only opens something may be both."""
    return button(place, name).or_(place.get_by_role("link", name=name, exact=True)).first


def at(page: Page, world: PortalWorld, path: str) -> Page:
    page.goto(world.url + path)
    return page


def tab_to(page: Page, wanted: str) -> None:
    """Press Tab until the focus is there; every stop on the way must be in sight, with a mark around it."""
    for _ in range(40):
        page.keyboard.press("Tab")
        name, in_sight, marked, there = page.evaluate("""wanted => {
          const it = document.activeElement, box = it.getBoundingClientRect(), style = getComputedStyle(it);
          return [it.id || it.textContent.trim(), box.width > 0 && box.top >= 0 && box.bottom <= innerHeight,
                  style.outlineStyle !== "none", it.matches(wanted)];
        }""", wanted)
        assert in_sight, f"the focus on {name!r} cannot be seen"
        assert marked, f"the focus on {name!r} is not marked"
        if there:
            return
    raise AssertionError(f"{wanted} was not reached")


def wait_for(what: Callable[[], bool], page: Page, seconds: float = 15.0) -> None:
    for _ in range(int(seconds * 10)):
        if what():
            return
        page.wait_for_timeout(100)
    raise AssertionError("it did not come to that in time")


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_a_support_desk_from_the_first_key_to_the_raised_cap(
    desk_world: PortalWorld, visit: Visiting, script: bool
) -> None:
    """Journey 1: paste → Test → Save → call → Anthropic key → outage → receipt → 80% and 100% → paused → raised."""
    world = desk_world
    workspace = world.workspace(f"Journey {'with' if script else 'without'} script")
    with visit(world, java_script_enabled=script) as visitor:
        page = visitor.open(workspace).page
        assert call(workspace) == (402, "openrouter_key_required")
        page.get_by_label("OpenRouter API key", exact=True).fill(f'  "{world.key("openrouter")}" ')
        button(card(page, "openrouter"), "Test").click()
        expect(card(page, "openrouter")).to_have_attribute("data-state", "works")
        button(card(page, "openrouter"), "Save").first.click()
        expect(page.get_by_role("main").get_by_text("OpenRouter API key saved successfully.")).to_be_visible()
        assert call(workspace) == (200, "")

        anthropic = world.key("anthropic")
        page.get_by_label("Anthropic API key", exact=True).fill(anthropic)
        button(card(page, "anthropic"), "Save").click()
        expect(page.get_by_role("main").get_by_text("Anthropic API key saved successfully.")).to_be_visible()
        world.deployment.emulator.add_fault("rate_limit", 1, provider="anthropic", key=anthropic)
        assert call(workspace, CLAUDE) == (200, "")
        at(page, world, "/portal/activity").get_by_role("main").get_by_role("link").filter(
            has_text=re.compile("ago|now|:")).first.wait_for()
        at(page, world, f"/portal/calls/{workspace.receipts()[0]['id']}")
        expect(page.get_by_role("main")).to_contain_text("so your OpenRouter key answered and paid")

        at(page, world, "/portal/spend")
        spent = world.manage("GET", f"workspaces/{workspace.id}/cap")["spent_usd"]
        page.get_by_label("Monthly spend cap (USD)").fill(spent)
        button(page.locator("form", has=page.get_by_label("Monthly spend cap (USD)")), "Save").click()
        button(page, "Save and pause AI").click()
        expect(page.locator(".pill")).to_have_text("AI paused")
        assert call(workspace)[1] == "ai_paused"
        world.mailbox.wait(lambda box: sum(f"Journey {'with ' if script else 'without '}" in mail["subject"]
                                           for mail in box.mails() if "AI" in mail["subject"]) >= 2)

        page.get_by_label("Monthly spend cap (USD)").fill("25")
        button(page.locator("form", has=page.get_by_label("Monthly spend cap (USD)")), "Save").click()
        expect(page.locator(".pill")).to_have_text("AI on")
        assert call(workspace) == (200, "")


def test_an_app_builder_buys_connects_and_chooses_who_pays(builder_world: PortalWorld, visit: Visiting) -> None:
    """Journey 2: not enabled → Subscribe → pay → Connect → Save → Always ON and disabled → stopped → OFF → credits pay
    → Enable."""
    world = builder_world
    assert world.stripe is not None
    workspace = world.workspace("Journey builder")
    with visit(world) as visitor:
        page = visitor.open(workspace).page
        expect(card(page, "openrouter")).to_contain_text("OpenRouter is not enabled")
        either(card(page, "openrouter"), "Subscribe").click()
        button(page, "Subscribe").click()
        leave = page.get_by_role("main").get_by_role("link").filter(has_text=re.compile("Stripe|pay", re.I)).first
        assert leave.get_attribute("target") == "_top"
        leave.click()
        world.stripe.pay(page.url)
        at(page, world, "/portal/plans")
        wait_for(lambda: world.manage("GET", f"workspaces/{workspace.id}/billing")["state"] == "active", page)
        page.reload()
        either(page.get_by_role("main"), "Connect").click()
        page.wait_for_url("**/portal/credentials*")
        if page.get_by_label("OpenRouter API key", exact=True).count() == 0:
            either(card(page, "openrouter"), "Connect").click()
        page.get_by_label("OpenRouter API key", exact=True).fill(world.key("openrouter"))
        button(card(page, "openrouter"), "Save").click()
        expect(page.get_by_role("main").get_by_text("OpenRouter API key saved successfully.")).to_be_visible()
        credits = world.manage("GET", f"workspaces/{workspace.id}/credits")["balance_credits"]
        assert call(workspace) == (200, "")

        page.get_by_role("switch", name="Always use this key").click()
        expect(page.get_by_text("Your key (…").first).to_be_visible()
        either(card(page, "openrouter"), "Disable").click()
        page.wait_for_url("**/openrouter/disable*")
        button(page.get_by_role("main"), "Disable").last.click()
        expect(card(page, "openrouter")).to_have_attribute("data-state", "disabled")
        assert call(workspace) == (402, "always_use_key_unavailable")
        assert world.manage("GET", f"workspaces/{workspace.id}/credits")["balance_credits"] == credits

        page.get_by_role("switch", name="Always use this key").click()
        expect(page.get_by_text("credits pay for every AI call").first).to_be_visible()
        assert call(workspace) == (200, "")
        assert workspace.receipts()[0]["funding"] == "credits"
        button(card(page, "openrouter"), "Enable").click()
        expect(card(page, "openrouter")).to_have_attribute("data-state", "connected")
        assert call(workspace) == (200, "")
        assert workspace.receipts()[0]["funding"] == "byok"


def test_an_enterprise_plan_connects_without_payment(builder_world: PortalWorld, visit: Visiting) -> None:
    """Journey 3: the plan includes the key; nothing is bought on the way."""
    world = builder_world
    workspace = world.workspace("Journey enterprise", plan="enterprise")
    with visit(world) as visitor:
        page = visitor.open(workspace, "/portal/plans").page
        expect(page.get_by_role("main")).to_contain_text("Included in your plan")
        either(page.get_by_role("main"), "Connect").click()
        page.wait_for_url("**/portal/credentials*")
        if page.get_by_label("OpenRouter API key", exact=True).count() == 0:
            either(card(page, "openrouter"), "Connect").click()
        page.get_by_label("OpenRouter API key", exact=True).fill(world.key("openrouter"))
        button(card(page, "openrouter"), "Save").click()
        expect(page.get_by_role("main").get_by_text("OpenRouter API key saved successfully.")).to_be_visible()

    assert call(workspace) == (200, "")
    assert workspace.receipts()[0]["funding"] == "byok"


def test_a_key_is_saved_by_keyboard_alone(desk_world: PortalWorld, visit: Visiting) -> None:
    """Tab, typing and Enter reach and do everything; the focus is seen at every step and never lost."""
    world = desk_world
    with visit(world) as visitor:
        page = visitor.open(world.workspace("Journey by keyboard")).page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to content"
        page.keyboard.press("Enter")
        tab_to(page, "input[type=password]")
        page.keyboard.insert_text(world.key("openrouter"))
        page.keyboard.press("Enter")
        expect(card(page, "openrouter")).to_have_attribute("data-state", "works")
        tab_to(page, "[data-provider=openrouter] button.primary:not([aria-pressed])")
        page.keyboard.press("Enter")
        expect(page.get_by_role("main").get_by_text("OpenRouter API key saved successfully.")).to_be_visible()

        assert page.evaluate("document.activeElement !== document.body")
