"""Journey 10: a typed key is nowhere afterwards, and what strangers wrote is text wherever it is shown."""

import re
import time

import pytest
from playwright.sync_api import Dialog, expect
from tests.browser.conftest import Visiting
from tests.browser.portal_world import PortalWorld, Preset
from tests.browser.preparing import HOSTILE
from tests.browser.walking import CLAUDE, MINI, Walk, button, call, link

pytestmark = pytest.mark.whole
PAGES = (
    "/portal/credentials", "/portal/features", "/portal/spend", "/portal/spend?by=model", "/portal/spend?by=project",
    "/portal/activity", "/portal/activity?group=trace", "/portal/why", "/portal/explain?task=draft_reply&size=2000",
    "/portal/exports?outcome=ok", "/portal/notices", "/portal/data", "/portal/plans", "/portal/projects",
)


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_typed_keys_are_nowhere_afterwards(desk_world: PortalWorld, visit: Visiting, script: bool) -> None:
    """T28, X10: refused, in the wrong field, moved, unreachable, saved anyway, saved: no document, address, log line,
    database file, e-mail or event holds one of them. (Documents and addresses: the watch of every visit.)"""
    world, emulator = desk_world, desk_world.deployment.emulator
    first, workspace = world.workspace("Sparrow"), world.workspace("Canary")
    with visit(world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(first), first, script)
        walk.test(world.key("openrouter", kind="revoked"), "rejected")
        walk.test(world.key("openrouter", kind="management"), "wrong_kind")
        walk.says("A management key cannot run models.")

        visitor.open(first)
        claude = world.key("anthropic")
        walk.test(claude, "wrong_kind")
        walk.says("This looks like an Anthropic key")
        button(walk.card(), "Move to the Anthropic field").click()
        expect(walk.card("anthropic")).to_contain_text("The key from the other field is here now, sealed.")
        button(walk.card("anthropic"), "Save").click()
        walk.is_in_state("waiting_for_openrouter", "anthropic")

        # A workspace of its own: five keys a minute may be tested in one.
        walk = Walk(visitor.open(workspace), workspace, script)
        away = world.key("openrouter")
        emulator.add_fault({"name": "cut_before_headers"}, None, provider="openrouter", key=away)
        walk.test(away, "unreachable")
        assert walk.state() == "empty"
        button(walk.card(), "Save anyway").click()
        expect(walk.card().get_by_text("Not verified", exact=True).first).to_be_visible()
        walk.says("OpenRouter API key saved, unverified.")
        emulator.control("DELETE", "faults", {})

        walk.press("Replace")
        walk.field().fill(world.key("openrouter"))
        walk.save()
        assert call(workspace).code == ""
        direct = world.key("anthropic")
        workspace.save_key("anthropic", direct)
        emulator.add_fault({"name": "echo_key"}, 1, provider="anthropic", key=direct)
        assert call(workspace, CLAUDE).code == ""
        emulator.control("DELETE", "faults", {})
        visitor.page.goto(f"{world.url}/portal/calls/{workspace.receipts()[0]['id']}")
        expect(walk.shown.locator("[data-headline]")).to_be_visible()

    world.mailbox.wait(lambda box: any("Canary" in mail["subject"] for mail in box.mails()))
    told = f"{world.deployment.log()}{world.mailbox.mails()}{world.mailbox.events()}"
    assert not [key for key in world.typed if key in told]
    for file in (world.deployment.home / "data").rglob("*"):
        stored = file.read_bytes() if file.is_file() else b""
        assert not [key for key in world.typed if key.encode() in stored], file.name


@pytest.mark.parametrize("preset", ["support-desk", "app-builder"])
@pytest.mark.parametrize("framed", [False, True], ids=["page", "frame"])
def test_hostile_texts_are_text_on_every_page(
    preset: Preset, framed: bool, visit: Visiting, request: pytest.FixtureRequest
) -> None:
    """X2, X10: the workspace's name, a label, projects, conversations, models and a provider's words, all as bad as
    they get: shown as letters, cut to length, and no element, script or dialog comes of them."""
    world: PortalWorld = request.getfixturevalue("desk_world" if preset == "support-desk" else "builder_world")
    bad = HOSTILE.replace("‮", "")
    short = bad.encode("ascii", "ignore").decode().replace("  ", " ")[:60].strip()
    workspace = world.workspace(bad[:60], plan="enterprise") if preset == "app-builder" else world.workspace(bad[:60])
    key = world.key("openrouter")
    workspace.save_key("openrouter", key, label=bad[:60])
    world.deployment.emulator.add_fault(
        {"name": "custom", "status": 503, "headers": {"content-type": "application/json"},
         "body": '{"error": {"code": 503, "message": "%s"}}' % (bad.replace('"', "'") + "long" * 1_000)},
        3, provider="openrouter", key=key,
    )
    for model in (MINI, short):
        workspace.post("/v1/chat/completions", {
            "model": model, "max_tokens": 20, "messages": [{"role": "user", "content": bad}], "user": short,
        }, x_ownkey_project=short[:40].strip(), x_ownkey_conversation=short, x_ownkey_member=short)
    world.deployment.emulator.control("DELETE", "faults", {})
    with visit(world) as visitor:
        dialogs: list[str] = []

        def note(dialog: Dialog) -> None:
            dialogs.append(dialog.message)
            dialog.dismiss()

        visitor.context.on("dialog", note)
        if framed:
            visitor.open_framed(workspace)
        else:
            visitor.open(workspace)
        receipts = [f"/portal/calls/{row['id']}" for row in workspace.receipts()]
        assert len(receipts) >= 2
        shown_as_text = 0
        for path in (*PAGES, *receipts):
            if framed:
                visitor.goto(path)
                expect(visitor.shown.get_by_role("heading", level=1)).to_be_visible()
            else:
                answer = visitor.page.goto(world.url + path)
                assert answer is not None
                assert answer.status in (200, 404, 422), path
            shown = visitor.shown
            assert shown.locator("img, [onerror], script:not([src])").count() == 0, path
            assert not re.search(r"(long){150}", shown.locator("body").inner_text()), f"not cut: {path}"
            shown_as_text += "<img src=x" in shown.locator("body").inner_text()
        time.sleep(0.2)

    assert dialogs == []
    assert shown_as_text >= 8


def test_a_hostile_label_is_kept_when_its_form_comes_back(desk_world: PortalWorld, visit: Visiting) -> None:
    """T28: a label that is too long comes back as typed, beside what is wrong; the key beside it does not."""
    workspace = desk_world.workspace()
    with visit(desk_world, java_script_enabled=False) as visitor:
        walk = Walk(visitor.open(workspace), workspace, False)
        walk.field().fill(desk_world.key("openrouter", kind="revoked"))
        label = walk.card().get_by_label("Label (optional)", exact=True)
        label.fill('"><b>Ada\'s & co')
        button(walk.card(), "Save").click()
        walk.is_in_state("rejected")
        expect(walk.card().get_by_label("Label (optional)", exact=True)).to_have_value('"><b>Ada\'s & co')
        expect(walk.field()).to_have_value("")
        expect(link(walk.card(), "Try again")).to_be_visible()
