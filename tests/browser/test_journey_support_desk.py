"""Journey 1: a help desk's owner brings the company's keys, watches an outage pass, meets the cap and raises it."""

import re

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import WHOLE, Visiting
from tests.browser.portal_world import PortalWorld
from tests.browser.walking import CLAUDE, MINI, Walk, button, by_fix, call, link

SCRIPTS = [True, False] if WHOLE else [True]
NAMES = {True: "script", False: "no-script"}


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES.get)
def test_from_the_first_key_to_the_raised_cap(desk_world: PortalWorld, visit: Visiting, script: bool) -> None:
    """T1, T2, T6–T16, T21–T25, X2, X6: paste → Test → Save → call → Anthropic key → outage → the receipt says that
    OpenRouter answered → 80% → 100% → paused → raised → resumes."""
    world, name = desk_world, f"Lantern {NAMES[script]}"
    workspace = world.workspace(name)
    with visit(world, java_script_enabled=script) as visitor:
        walk = Walk(visitor, workspace, script)
        _first_key(walk)
        _direct_key(walk)
        _outage(walk)
        _cap(walk, name)


def _first_key(walk: Walk) -> None:
    """T2, T7–T11: refused without a key; the refusal's link leads, past the host's sign-in, to the empty card."""
    world, workspace = walk.world, walk.workspace
    refused = call(workspace)
    assert (refused.status, refused.code) == (402, "openrouter_key_required")
    by_fix(walk.visitor, workspace, refused.fix_url)
    expect(walk.shown.get_by_role("heading", level=1)).to_have_text("API Keys")
    expect(walk.shown.get_by_role("navigation", name="AI Agent")).to_be_visible()
    expect(walk.payer).to_contain_text("AI features are off until an OpenRouter API key is saved.")
    expect(walk.card().get_by_text("Required", exact=True)).to_be_visible()
    walk.is_in_state("empty")
    walk.says("Sign up at OpenRouter", "Create key", "Set a credit limit there", "sk-or-")
    walk.pill_says("AI off")

    key = world.key("openrouter")
    walk.test(f'  OPENROUTER_API_KEY="{key}" ')
    expect(walk.card()).to_contain_text("Latency")
    expect(walk.card()).to_contain_text("Cost of this Test")
    expect(walk.card()).to_contain_text("Taken off around the key")
    assert walk.state() == "empty"
    walk.save()
    walk.says(f"Your OpenRouter key (…{key[-4:]}) pays for every AI call.")
    walk.is_in_state("connected")
    walk.pill_says("AI on")
    tests = len(world.deployment.emulator.bills(key))
    assert call(workspace, "task:draft_reply").code == ""
    assert len(world.deployment.emulator.bills(key)) == tests + 1


def _direct_key(walk: Walk) -> None:
    """T12, T14, T16: the same steps in the second card; its provider is called first from then on."""
    workspace = walk.workspace
    walk.test(walk.world.key("anthropic"), provider="anthropic")
    walk.save("anthropic")
    walk.says("Claude calls use your Anthropic key first; if it fails, your OpenRouter key answers.")
    assert call(workspace, CLAUDE).code == ""
    assert [a["provider"] for a in workspace.receipt(workspace.receipts()[0]["id"])["attempts"]] == ["anthropic"]


def _outage(walk: Walk) -> None:
    """T6, T15, X2: the call is answered all the same, and its line in Activity leads to the receipt that says how."""
    world, workspace = walk.world, walk.workspace
    anthropic = next(key for key in world.typed if key.startswith("sk-ant") and key.endswith(_hint(walk, "anthropic")))
    world.deployment.emulator.add_fault("overloaded", None, provider="anthropic", key=anthropic)
    assert call(workspace, CLAUDE).code == ""
    world.deployment.emulator.control("DELETE", "faults", {})

    walk.go("Activity")
    newest = walk.shown.locator("tr[data-receipt]").first
    expect(newest).to_contain_text("Your OpenRouter key")
    expect(newest.locator("td").last).to_have_text("2")
    newest.get_by_role("link").first.click()
    expect(walk.shown.locator("[data-headline]")).to_have_text(re.compile(
        r"^Anthropic answered 529\b.*, so your OpenRouter key answered and paid US\$0\.\d+\."
    ))
    attempts = walk.shown.get_by_role("region", name="Attempts").locator("tbody tr")
    expect(attempts).to_have_count(2)
    expect(attempts.nth(0)).to_contain_text("Anthropic")
    expect(attempts.nth(1)).to_contain_text("OpenRouter")


def _hint(walk: Walk, provider: str) -> str:
    rows = walk.world.manage("GET", f"workspaces/{walk.workspace.id}/credentials")["credentials"]
    return str(next(row["hint"] for row in rows if row["provider"] == provider))[-4:]


def _cap(walk: Walk, name: str) -> None:
    """T4, T13, T21–T25: what the direct key saved, both e-mails, the pause with its end, and AI again once the cap is
    raised."""
    workspace = walk.workspace
    before = int(workspace.cap()["spent_nusd"])
    assert call(workspace, MINI, tokens=20_000).code == ""
    one = int(workspace.cap()["spent_nusd"]) - before
    walk.go("Spend")
    expect(walk.shown.get_by_role("region", name="Saved by direct keys")).to_contain_text("paid directly")
    walk.save_cap(f"{(before + one * 48 // 10) / 1e9:.9f}")
    walk.says("Saved.")
    for _ in range(3):
        assert call(workspace, MINI, tokens=20_000).code == ""
    walk.receives(f"^{name}: AI spend at 80% of US\\$")
    # What is left is used up by smaller and smaller calls: one that is too large pauses nobody else.
    codes = [call(workspace, MINI, tokens=tokens).code for tokens in (20_000, 20_000, 1_000, 500, 300, 200, 100)]
    assert set(codes[:-1]) <= {"", "spend_cap_too_low", "ai_paused"}
    assert codes[-1] == "ai_paused", codes
    walk.receives(f"^{name}: AI paused, spend cap reached$")
    refused = call(workspace)
    assert (refused.status, refused.code) == (402, "ai_paused")
    assert refused.error["resets_at"].endswith("-01T00:00:00Z")

    walk.go("API Keys")
    walk.pill_says("AI paused")
    link(walk.shown.get_by_role("banner"), "AI paused").click()
    expect(walk.shown.get_by_role("heading", name="AI is paused")).to_be_visible()
    walk.says("or until the cap is raised", "everything else in Support desk goes on")
    walk.save_cap("25")
    walk.says("Saved. AI has resumed.")
    walk.pill_says("AI on")
    assert call(workspace).code == ""
    assert walk.funding() == "byok"


@pytest.mark.whole
def test_a_cap_below_spend_asks_first_and_pauses_at_once(desk_world: PortalWorld, visit: Visiting) -> None:
    """T22, T25: the form says that AI pauses now, keeps the present cap on a second thought, and pauses on a third."""
    workspace = desk_world.workspace("Frugal")
    workspace.save_key("openrouter", desk_world.key("openrouter"))
    assert call(workspace).code == ""
    with visit(desk_world) as visitor:
        walk = Walk(visitor.open(workspace, flow="cap"), workspace)
        walk.save_cap("0.000000001")
        expect(walk.shown.get_by_role("heading", name="AI pauses now with this cap")).to_be_visible()
        link(walk.main, "Keep the present cap").click()
        assert call(workspace).code == ""
        walk.save_cap("0.000000001")
        button(walk.main, "Save and pause AI").click()
        walk.pill_says("AI paused")
        assert call(workspace).code == "ai_paused"
