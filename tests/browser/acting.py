"""What a person does in the browser on the way to a state: a step each, by role and label."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from playwright.sync_api import Frame, Route
from tests.browser.portal_world import PEOPLE, PortalWorld
from tests.browser.preparing import ask, nothing
from tests.operator_visits import PASSWORD

from ownkey.api.upgrading import UpgradingDoor
from ownkey.domain.upgrades import UpgradeStep
from ownkey.pages.site import Site
from ownkey.pages.words import Words
from ownkey.portal.activity import POLL_S
from ownkey.settings.product import load_settings

Act = Callable[[Frame, PortalWorld], None]


def type_key(provider: str = "OpenRouter", **kind: Any) -> Act:
    """Paste a key of this kind (the emulator's words) into a provider's field."""

    def act(shown: Frame, world: PortalWorld) -> None:
        _open_field(shown, provider).fill(world.key(provider.lower(), **kind))

    return act


def try_key(provider: str = "OpenRouter", text: str = "", *, waits: bool = True, **kind: Any) -> Act:
    """Paste a key and press Test; `text` instead of one that the provider knows."""

    def act(shown: Frame, world: PortalWorld) -> None:
        key = text or world.key(provider.lower(), **kind)
        world.typed.add(key)
        _open_field(shown, provider).fill(key)
        _press_test(shown, provider, waits=waits)

    return act


def slow_test(shown: Frame, world: PortalWorld) -> None:
    """A provider that takes its time: the state between the press and the answer."""
    key = world.key("openrouter")
    world.deployment.emulator.set({"latency_s": 4.0}, provider="openrouter", key=key)
    _open_field(shown, "OpenRouter").fill(key)
    _press_test(shown, "OpenRouter", waits=False)


def unreachable_key(shown: Frame, world: PortalWorld) -> None:
    key = world.key("openrouter")
    world.deployment.emulator.add_fault({"name": "cut_before_headers"}, None, provider="openrouter", key=key)
    _open_field(shown, "OpenRouter").fill(key)
    _press_test(shown, "OpenRouter", waits=True)


def save_key(shown: Frame, world: PortalWorld) -> None:
    _open_field(shown, "OpenRouter").fill(world.key("openrouter"))
    card(shown, "openrouter").get_by_role("button", name="Save", exact=True).click()


def save_tested(**kind: Any) -> Act:
    """Paste a key of this kind, Test it, and save it nevertheless."""

    def act(shown: Frame, world: PortalWorld) -> None:
        try_key(**kind)(shown, world)
        shown.locator("#result-openrouter .panel").wait_for()
        card(shown, "openrouter").get_by_role("button", name="Save", exact=True).click()

    return act


def press(name: str, provider: str = "") -> Act:
    """A button or link by its label, in a provider's card or anywhere."""

    def act(shown: Frame, world: PortalWorld) -> None:
        place = card(shown, provider) if provider else shown.locator("main")
        named = place.get_by_role("button", name=name, exact=True).or_(place.get_by_role("link", name=name, exact=True))
        named.first.click()

    return act


def type_cap(amount: str) -> Act:
    def act(shown: Frame, world: PortalWorld) -> None:
        field = shown.get_by_label("Monthly spend cap (USD)").first
        field.fill(amount)
        field.locator("xpath=ancestor::form").get_by_role("button", name="Save", exact=True).click()

    return act


def go(path: str) -> Act:
    """An address that no link of the page leads to."""

    def act(shown: Frame, world: PortalWorld) -> None:
        shown.page.goto(world.url + path)

    return act


def sign_out(shown: Frame, world: PortalWorld) -> None:
    shown.get_by_role("button", name="Sign out").click()


def type_limit(text: str) -> Act:
    def act(shown: Frame, world: PortalWorld) -> None:
        shown.get_by_label("Monthly limit in credits").fill(text)
        shown.get_by_role("button", name="Save limit").click()

    return act


def flip(name: str) -> Act:
    """A switch, by its label."""

    def act(shown: Frame, world: PortalWorld) -> None:
        shown.get_by_role("switch", name=name, exact=True).click()

    return act


def lose_the_network(shown: Frame, world: PortalWorld) -> None:
    shown.page.context.set_offline(True)
    shown.evaluate("() => window.dispatchEvent(new Event('offline'))")


def wrong_option(shown: Frame, world: PortalWorld) -> None:
    field = shown.get_by_label("Auto-reply threshold")
    field.fill("lots")
    field.locator("xpath=ancestor::form").get_by_role("button", name="Save", exact=True).click()


def wrong_name(shown: Frame, world: PortalWorld) -> None:
    shown.get_by_label("Type the workspace's name to confirm").fill("something else")
    press("Delete this workspace")(shown, world)


def wrong_fee(shown: Frame, world: PortalWorld) -> None:
    shown.get_by_label("OpenRouter's fee on buying credits there (%)").fill("lots")
    press("Replay")(shown, world)


def open_json(shown: Frame, world: PortalWorld) -> None:
    shown.get_by_text("Receipt as JSON").first.click()


def start_export(shown: Frame, world: PortalWorld) -> None:
    """From the offer, or of all calls."""
    start = shown.get_by_role("button", name="Start the export")
    start.or_(shown.get_by_role("button", name="Export all calls")).first.click()


def replay_month(shown: Frame, world: PortalWorld) -> None:
    """This month, at once: there is little in it."""
    months = shown.get_by_label("Month", exact=True)
    months.select_option(index=0)
    press("Replay")(shown, world)


def card(shown: Frame, provider: str) -> Any:
    return shown.locator(f"[data-provider={provider}][data-state]").first


def _open_field(shown: Frame, provider: str) -> Any:
    """A provider's key field, behind Connect or Replace where it is."""
    field = shown.get_by_label(f"{provider} API key", exact=True)
    if not field.is_visible():
        place = card(shown, provider.lower())
        place.get_by_role("link", name="Connect").or_(place.get_by_role("button", name="Connect")).or_(
            place.get_by_role("link", name="Replace")).or_(place.get_by_role("button", name="Replace")).first.click()
    return field


def _press_test(shown: Frame, provider: str, *, waits: bool) -> None:
    button = card(shown, provider.lower()).get_by_role("button", name="Test", exact=True).first
    button.click(no_wait_after=not waits)


def delete_workspace(shown: Frame, world: PortalWorld) -> None:
    field = shown.get_by_label("Type the workspace's name to confirm")
    field.fill(shown.locator(".workspace").inner_text())
    press("Delete this workspace")(shown, world)


def billing_back(shown: Frame, world: PortalWorld) -> None:
    """What was broken for this page works for the next one."""
    assert world.stripe is not None
    world.stripe.control("DELETE", "faults")


def end_session(shown: Frame, world: PortalWorld) -> None:
    """The host ends everybody's visit; the next press tells."""
    workspace = world.prepared("shared-session-ended", nothing, {})
    world.manage("DELETE", f"workspaces/{workspace.id}/portal-sessions?member={PEOPLE['owner'][0]}")
    shown.get_by_role("navigation").get_by_role("link").first.click()


def near_the_end(shown: Frame, world: PortalWorld) -> None:
    """The last two minutes of a visit."""
    clock = shown.page.clock
    clock.install()
    shown.page.reload()
    clock.fast_forward(1_000 * (900 - 95))


def grow_old(shown: Frame, world: PortalWorld) -> None:
    """Forty seconds pass, to the clock of the page."""
    clock = shown.page.clock
    clock.install()
    shown.page.reload()
    clock.run_for(1_500)
    clock.fast_forward(39_000)
    clock.run_for(1_000)


def refuse_keyset(shown: Frame, world: PortalWorld) -> None:
    """The file of the master keys is broken for as long as it takes the server to say so."""
    file = world.deployment.home / "master.key"
    kept, mode = file.read_bytes(), file.stat().st_mode
    file.chmod(0o600)
    file.write_bytes(b"k_" + kept)
    try:
        until = time.monotonic() + 30
        while not shown.get_by_text("A changed keyset was refused").first.is_visible():
            assert time.monotonic() < until, "the keyset was not refused"
            shown.page.wait_for_timeout(500)
            shown.page.reload()
    finally:
        file.write_bytes(kept)
        file.chmod(mode)


def upgrading(shown: Frame, world: PortalWorld) -> None:
    """The same address while the database is brought to a newer schema, by the server's own door for that time."""
    deployment = world.deployment
    product = load_settings(deployment.home / "ownkey.toml", deployment.env).product
    door = UpgradingDoor(product, Site(Words()), time.monotonic)
    door.told(UpgradeStep("0040", "0043", 2, 3, "0042_upgrades"))
    with ThreadPoolExecutor(1) as apart:
        # Playwright's own loop runs in this thread.
        answer = apart.submit(asyncio.run, _ask_door(door)).result()

    def fulfil(route: Route) -> None:
        route.fulfill(status=answer.status_code, headers=dict(answer.headers), body=answer.content)

    shown.page.route(world.url + "/portal/spend", fulfil)
    shown.page.reload()


async def _ask_door(door: UpgradingDoor) -> httpx.Response:
    transport = httpx.ASGITransport(app=door)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://ownkey.test") as browser:
        return await browser.get("/portal/spend")


def make_backup(shown: Frame, world: PortalWorld) -> None:
    """Press the button, and come back when there is one. (The cookie that stands for an operator does not follow a
    redirect here.)"""
    press("Make a backup")(shown, world)
    for _ in range(20):
        shown.page.wait_for_timeout(300)
        shown.page.goto(world.url + "/console/system")
        if shown.get_by_text("Last backup").is_visible():
            return


def news_come(shown: Frame, world: PortalWorld) -> None:
    """Calls while the page is open, and the time until it asks."""
    clock = shown.page.clock
    clock.install()
    shown.page.reload()
    workspace = world.prepared("activity-news", nothing, {})
    for _ in range(3):
        ask(workspace)
    clock.run_for(1_000 * POLL_S + 500)


def view_as(shown: Frame, world: PortalWorld) -> None:
    """From a workspace's page into the portal as its owner sees it."""
    press("View as workspace")(shown, world)
    url = shown.get_by_role("link", name="Open the portal").get_attribute("href")
    assert url is not None
    shown.page.goto(url if url.startswith("http") else world.url + url)


def fill(*texts: tuple[str, str], then: str) -> Act:
    """Fields by their labels, and the button that sends them."""

    def act(shown: Frame, world: PortalWorld) -> None:
        for label, text in texts:
            shown.get_by_label(label, exact=True).fill(text)
        press(then)(shown, world)

    return act


def press_without_reason(name: str) -> Act:
    """A deed of an operator who says no reason, past what the browser itself would ask for."""

    def act(shown: Frame, world: PortalWorld) -> None:
        shown.evaluate("() => document.querySelectorAll('form').forEach(form => { form.noValidate = true })")
        press(name)(shown, world)

    return act


def make_token(shown: Frame, world: PortalWorld) -> None:
    fill(("Name", "backend, staging"), then="Make the token")(shown, world)


def choose_password(shown: Frame, world: PortalWorld) -> None:
    fill(("New password", PASSWORD), ("The same password again", PASSWORD), then="Continue")(shown, world)
