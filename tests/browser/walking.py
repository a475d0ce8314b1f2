"""What people do on the pages, step by step, with script and without.

Controls are found as people find them, by role and label; cards by `data-provider` and `data-state`. A journey is such
steps one after the other, and what the call, the books and the mailbox say in between.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai
from playwright.sync_api import Frame, Locator, Page, expect
from tests.browser.portal_world import PortalWorld, Visitor
from tests.deployment import TestWorkspace

Place = Page | Frame | Locator

CLAUDE = "anthropic/claude-haiku-4.5"
MINI = "openai/gpt-4.1-mini"
NAMES = {"openrouter": "OpenRouter", "anthropic": "Anthropic", "openai": "OpenAI", "google": "Google"}
WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Called:
    """A call as the host product saw it. `code` is "" for an answer; `fix_url` is the refusal's."""

    code: str
    status: int = 200
    fix_url: str = ""
    error: Any = None


def call(workspace: TestWorkspace, model: str = MINI, *, tokens: int = 30, project: str = "") -> Called:
    """One call with the official openai SDK, as a host product makes it; its answer has this many tokens."""
    asked = f"Where is my order? [emulator output_tokens={tokens}]"
    headers = {"x-ownkey-project": project} if project else {}
    try:
        with workspace.client() as client:
            client.chat.completions.create(
                model=model, max_tokens=tokens, messages=[{"role": "user", "content": asked}], extra_headers=headers
            )
    except openai.APIStatusError as error:
        found: Any = error.body
        return Called(str(found["code"]), error.status_code, str((found.get("fix") or {}).get("url") or ""), found)
    return Called("")


def button(place: Place, name: str) -> Locator:
    return place.get_by_role("button", name=name, exact=True)


def link(place: Place, name: str) -> Locator:
    return place.get_by_role("link", name=name, exact=True)


def wait_until(what: Callable[[], bool], why: str) -> None:
    """For what comes to pass outside the browser."""
    until = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < until, f"not in {WAIT_S:.0f} s: {why}"
        time.sleep(0.05)


@dataclass
class Walk:
    """One person on the pages of one workspace. `script`: whether their browser runs any."""

    visitor: Visitor
    workspace: TestWorkspace
    script: bool = True

    @property
    def world(self) -> PortalWorld:
        return self.visitor.world

    @property
    def shown(self) -> Frame:
        return self.visitor.shown

    @property
    def main(self) -> Locator:
        return self.shown.get_by_role("main")

    @property
    def payer(self) -> Locator:
        """The sentence that says who pays now."""
        return self.shown.locator("#payer")

    # --- where one is

    def go(self, *names: str) -> None:
        """By the navigation, entry by entry; the last one's page is there afterwards."""
        for name in names:
            link(self.shown.get_by_role("navigation"), name).first.click()
            expect(link(self.shown.get_by_role("navigation"), name).first).to_have_attribute("aria-current", "page")

    def card(self, provider: str = "openrouter") -> Locator:
        return self.shown.locator(f"[data-provider={provider}][data-state]")

    def is_in_state(self, state: str, provider: str = "openrouter") -> None:
        expect(self.card(provider)).to_have_attribute("data-state", state)

    def says(self, *texts: str) -> None:
        """All of these can be read in the page's own part."""
        for text in texts:
            expect(self.main).to_contain_text(text)

    def pill_says(self, text: str) -> None:
        expect(self.shown.locator(".pill")).to_have_text(text)

    # --- keys

    def field(self, provider: str = "openrouter") -> Locator:
        return self.shown.get_by_label(f"{NAMES[provider]} API key", exact=True)

    def test(self, key: str, state: str = "works", provider: str = "openrouter") -> None:
        """Paste a key and press Test."""
        self.field(provider).fill(key)
        button(self.card(provider), "Test").click()
        self.is_in_state(state, provider)

    def save(self, provider: str = "openrouter") -> None:
        """Press Save after a Test: what was typed, or waits in the page, is enough."""
        button(self.card(provider), "Save").click()
        self.hears(f"{NAMES[provider]} API key saved successfully.")

    def hears(self, sentence: str) -> None:
        """A result, word for word, on the page; with script the live region says it too."""
        expect(self.main.get_by_text(sentence, exact=True)).to_be_visible()
        if self.script:
            expect(self.shown.get_by_role("status")).to_contain_text(sentence)

    def press(self, name: str, provider: str = "openrouter") -> None:
        """A button of a provider's card."""
        button(self.card(provider), name).click()

    def confirm(self, name: str, provider: str = "openrouter") -> None:
        """Press a button that asks first, read what it asks, and press it there again."""
        self.press(name, provider)
        asked = self.shown.locator(f"#confirm-{provider}")
        expect(asked).to_contain_text("From then on:")
        button(asked, name).click()

    def flip(self, name: str) -> None:
        """A switch; without script it has a Save beside it."""
        switch = self.shown.get_by_role("switch", name=name, exact=True)
        before = switch.is_checked()
        switch.set_checked(not before, force=True) if not self.script else switch.click()
        if not self.script:
            button(self.shown.locator("form", has=switch), "Save").click()
        changed = self.shown.get_by_role("switch", name=name, exact=True, checked=not before)
        expect(changed).to_have_count(1)
        self.says(f"{name} is {'off' if before else 'on'}.")

    # --- the cap

    def save_cap(self, amount: str, threshold: str = "") -> None:
        form = self.shown.locator("form", has=self.shown.get_by_label("Monthly spend cap (USD)", exact=True))
        form.get_by_label("Monthly spend cap (USD)", exact=True).fill(amount)
        if threshold:
            form.get_by_label("Alert threshold (%)", exact=True).fill(threshold)
        button(form, "Save").click()

    # --- what the rest of the world knows

    def state(self, provider: str = "openrouter") -> str:
        """The card's state as the API tells it."""
        rows = self.world.manage("GET", f"workspaces/{self.workspace.id}/credentials")["credentials"]
        return next((str(row["state"]) for row in rows if row["provider"] == provider), "")

    def credits(self) -> int:
        return int(self.world.manage("GET", f"workspaces/{self.workspace.id}/credits")["balance_credits"])

    def billing(self) -> str:
        return str(self.world.manage("GET", f"workspaces/{self.workspace.id}/billing")["state"])

    def funding(self) -> str:
        """Who paid the newest call."""
        return str(self.workspace.receipts()[0]["funding"])

    def receives(self, subject: str, times: int = 1) -> None:
        """An e-mail about this workspace whose subject matches."""
        def count() -> int:
            return sum(bool(re.search(subject, mail["subject"])) for mail in self.world.mailbox.mails())

        wait_until(lambda: count() >= times, f"an e-mail {subject!r}")
        assert count() == times, f"{count()} e-mails {subject!r}"


def by_fix(visitor: Visitor, workspace: TestWorkspace, url: str, person: str = "Ada Okafor") -> None:
    """Follow a refusal's link as a person without a session does: sign in at the host, who leads into the pages."""
    visitor.world.host.tell(workspace=workspace.id, company="Acme")
    visitor.page.goto(url)
    if "/sign-in" in visitor.page.url:
        visitor.page.get_by_role("button", name=person, exact=True).click()
    visitor.page.wait_for_url(visitor.world.url + "/portal/**")
