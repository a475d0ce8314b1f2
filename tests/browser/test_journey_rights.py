"""Journey 6: those who may not. Every page for every role, the figures, and links that open nothing."""

import hashlib
import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Visiting
from tests.browser.portal_world import PEOPLE, PortalWorld, Visitor
from tests.browser.walking import Walk, button, by_fix, call, link
from tests.deployment import TestWorkspace

pytestmark = pytest.mark.whole

ROLES = ("owner", "admin", "member", "viewer")
_ALL, _NOT_MEMBERS, _FEW = (200, 200, 200, 200), (200, 200, 403, 200), (200, 200, 403, 403)
DESK: Mapping[str, tuple[int, ...]] = {
    "/portal/credentials": _ALL, "/portal/features": _ALL, "/portal/spend": _ALL, "/portal/activity": _ALL,
    "/portal/calls/{call}": _ALL, "/portal/why": _ALL, "/portal/explain": _FEW, "/portal/exports": _NOT_MEMBERS,
    "/portal/data": (200, 403, 403, 403), "/portal/plans": (404,) * 4, "/portal/projects": (404,) * 4,
    "/portal/credentials/openrouter/replace": _FEW, "/portal/credentials/openrouter/disconnect": _FEW,
    "/portal/explain/replay": _FEW, "/portal/notices": _FEW,
}
BUILDER: Mapping[str, tuple[int, ...]] = {
    "/portal/credentials": _ALL, "/portal/plans": _NOT_MEMBERS, "/portal/projects": _ALL, "/portal/spend": _ALL,
    "/portal/activity": _ALL, "/portal/calls/{call}": _ALL, "/portal/why": _ALL, "/portal/explain": _FEW,
    "/portal/exports": _NOT_MEMBERS, "/portal/data": (200, 403, 403, 403), "/portal/features": (404,) * 4,
    "/portal/plans/pay": _FEW, "/portal/plans/cancel": _FEW, "/portal/plans/credits": _NOT_MEMBERS,
    "/portal/notices": _FEW,
}
"""Path → what owner, admin, member and viewer are answered."""


def furnish(world: PortalWorld) -> TestWorkspace:
    """A workspace with something to see on every page."""
    workspace = world.workspace(plan="enterprise") if world.preset == "app-builder" else world.workspace()
    workspace.save_key("openrouter", world.key("openrouter"), label="Company card")
    workspace.set_cap("50", threshold_percent=70)
    for project in ("shop", "blog"):
        assert call(workspace, tokens=5_000, project=project).code == ""
    return workspace


def walk_all(world: PortalWorld, visit: Visiting, cells: Mapping[str, tuple[int, ...]], role: str) -> dict[str, str]:
    """Open every page as this role; returns the documents of those that were shown."""
    workspace = furnish(world)
    shown: dict[str, str] = {}
    with visit(world) as visitor:
        visitor.open(workspace, role=role)
        for path, statuses in cells.items():
            address = path.format(call=workspace.receipts()[0]["id"])
            answer = visitor.page.goto(world.url + address)
            assert answer is not None
            expected = statuses[ROLES.index(role)]
            assert answer.status == expected, f"{role} {address}: {answer.status}"
            if expected == 403:
                whom = "an owner" if path == "/portal/data" else "an owner or an admin"
                expect(visitor.page.get_by_role("main")).to_contain_text(f"Ask {whom} of this workspace.")
            elif expected == 200:
                shown[path] = answer.text()
    return shown


@pytest.mark.parametrize("role", ROLES)
def test_every_page_of_a_support_desk(desk_world: PortalWorld, visit: Visiting, role: str) -> None:
    """T27: pages by role as the table says; a member's hold no amount, hint, cap, export or address of others."""
    shown = walk_all(desk_world, visit, DESK, role)
    judge(shown, role, desk_world)


@pytest.mark.parametrize("role", ROLES)
def test_every_page_of_an_app_builder(builder_world: PortalWorld, visit: Visiting, role: str) -> None:
    """T27, G29: the same for plans, usage and projects."""
    shown = walk_all(builder_world, visit, BUILDER, role)
    judge(shown, role, builder_world)


def judge(shown: Mapping[str, str], role: str, world: PortalWorld) -> None:
    for path, document in shown.items():
        if role == "member":
            for trace in (r"US\$", r"_nusd", r"…[0-9a-zA-Z]{4}\b", r"\b70\b ?%", r"CSV", r"Company card", r"sk-or"):
                assert not re.search(trace, document), f"a member reads {trace} on {path}"
            others = [email for name, (_, _, email) in PEOPLE.items() if name != role]
            assert not [email for email in others if email in document], path
        if role in ("member", "viewer"):
            assert not re.search(r'<form method="post" action="(?!/portal/leave)', document) or path in (
                "/portal/exports", "/portal/activity"
            ), f"a form for a {role} on {path}"
    keys = shown["/portal/credentials"]
    if role in ("member", "viewer"):
        assert "Connected" in keys
        assert not re.search(r"…[0-9a-zA-Z]{4}|API key</label>|US\$", keys)
    else:
        assert "Company card" in keys
    figures = "US$0.0" in shown["/portal/activity"] and "US$50" in shown["/portal/spend"]
    assert figures is (role != "member")
    assert ("shop" in shown.get("/portal/projects", "shop")) is True


def test_a_member_reads_that_ai_is_paused_and_whom_to_ask(desk_world: PortalWorld, visit: Visiting) -> None:
    """T22, T27: on or paused and when it resets; no amount, no cap, no form; the header's word leads nowhere closed."""
    workspace = furnish(desk_world)
    workspace.set_cap("0")
    refused = call(workspace)
    assert refused.code == "ai_paused"
    with visit(desk_world) as visitor:
        by_fix(visitor, workspace, refused.fix_url, "Cho Minh")
        walk = Walk(visitor, workspace)
        walk.pill_says("AI paused")
        expect(walk.shown.get_by_role("heading", name="AI is paused")).to_be_visible()
        walk.says("An owner or an admin of this workspace can raise the cap.")
        expect(walk.shown.get_by_label("Monthly spend cap (USD)")).to_have_count(0)
        assert "US$" not in visitor.page.content()
        walk.go("API Keys")
        walk.is_in_state("connected")
        expect(walk.card().get_by_role("button")).to_have_count(0)
        walk.go("Features")
        expect(walk.shown.get_by_role("switch")).to_have_count(0)


def test_what_a_role_may_not_do_is_refused_however_it_is_sent(desk_world: PortalWorld, visit: Visiting) -> None:
    """T27: a form that somebody builds by hand is refused as well, and changes nothing."""
    workspace = furnish(desk_world)
    with visit(desk_world) as visitor:
        visitor.open(workspace, role="member")
        csrf = visitor.page.locator("input[name=csrf]").first.input_value()
        for path, more in (
            ("/portal/credentials/openrouter/disable", {}), ("/portal/credentials/openrouter/disconnect", {}),
            ("/portal/credentials/openrouter/save", {"key": "sk-or-v1-" + "9" * 64}), ("/portal/spend/cap", {}),
            ("/portal/features/auto_triage", {"on": "off"}), ("/portal/exports", {}), ("/portal/data/delete", {}),
        ):
            answer = visitor.page.request.post(
                desk_world.url + path, form={"csrf": csrf, **more},
                headers={"origin": desk_world.url, "sec-fetch-site": "same-origin"},
            )
            assert answer.status == 403, path

    assert Walk(visitor, workspace).state() == "connected"
    assert workspace.cap()["cap_usd"].startswith("50")


def test_another_workspaces_receipt_is_not_there(desk_world: PortalWorld, visit: Visiting) -> None:
    """T27: by its id it is answered like one that never was."""
    theirs, mine = furnish(desk_world), furnish(desk_world)
    with visit(desk_world) as visitor:
        visitor.open(mine)
        texts = []
        for ident in (theirs.receipts()[0]["id"], "rcp_00000000000000000000000000000000"):
            answer = visitor.page.goto(f"{desk_world.url}/portal/calls/{ident}")
            assert answer is not None
            texts.append((answer.status, visitor.page.get_by_role("main").inner_text().replace(ident, "it")))

    assert texts[0] == texts[1]
    assert texts[0][0] == 404


# --- links and sessions that are over


def test_a_used_an_expired_and_an_invented_link_open_nothing(desk_world: PortalWorld, visit: Visiting) -> None:
    """X5: each says what is so, and how to come in again by the host."""
    workspace = desk_world.workspace()
    used, late = desk_world.link(workspace), desk_world.link(workspace)
    expire(desk_world, late["code"])
    with visit(desk_world) as visitor, visit(desk_world) as another:
        visitor.page.goto(used["url"])
        expect(visitor.page.get_by_role("heading", level=1)).to_have_text("API Keys")
        assert used["code"] not in visitor.page.url
        for url, sentence in (
            (used["url"], "This link was opened before"), (late["url"], "This link was not opened within a minute"),
            (f"{desk_world.url}/portal/enter?code=guessed", "This link was not made here"),
        ):
            another.page.goto(url)
            expect(another.page.get_by_role("heading", level=1)).to_have_text("This link opens nothing")
            expect(another.page.get_by_role("main")).to_contain_text(sentence)
            expect(link(another.page, "Reopen")).to_be_visible()
        assert not another.context.cookies(desk_world.url)


def expire(world: PortalWorld, code: str) -> None:
    """A minute passes for this link."""
    with sqlite3.connect(books(world), timeout=10) as connection:
        changed = connection.execute(
            "UPDATE portal_session SET code_expires_at_ms = created_at_ms WHERE code_sha256 = ?",
            (hashlib.sha256(code.encode()).digest(),),
        ).rowcount
    assert changed == 1


def books(world: PortalWorld) -> Path:
    return next((world.deployment.home / "data").glob("*.db"))


def test_a_session_that_is_ended_takes_the_typed_key_with_it(desk_world: PortalWorld, visit: Visiting) -> None:
    """X5: revoked by the host, the next press says "Session ended", the key is nowhere, and Reopen leads back in."""
    workspace = desk_world.workspace()
    with visit(desk_world) as visitor:
        walk = Walk(visitor.open(workspace), workspace)
        walk.field().fill(desk_world.key("openrouter"))
        desk_world.manage("DELETE", f"workspaces/{workspace.id}/portal-sessions?member={PEOPLE['owner'][0]}")
        button(walk.card(), "Save").click()
        expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Session ended")
        assert walk.state() == "empty"
        by_fix(visitor, workspace, str(link(visitor.page, "Reopen").get_attribute("href")))
        expect(visitor.page.get_by_role("heading", level=1)).to_have_text("API Keys")


def test_sign_out_ends_the_visit_in_every_tab(desk_world: PortalWorld, visit: Visiting) -> None:
    """X5: the person's own end; Back shows no page of it again."""
    workspace = furnish(desk_world)
    with visit(desk_world) as visitor:
        walk = Walk(visitor.open(workspace), workspace)
        walk.go("Spend")
        other = visitor.context.new_page()
        other.goto(desk_world.url + "/portal/activity")
        button(walk.shown, "Sign out").click()
        expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Session ended")
        visitor.page.go_back()
        expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Session ended")
        other.reload()
        expect(other.get_by_role("heading", level=1)).to_have_text("Session ended")


def test_narrowed_pages_are_all_there_are(desk_world: PortalWorld, visit: Visiting) -> None:
    """X5: a session for Spend has no API Keys, in the navigation or by address."""
    workspace = furnish(desk_world)
    with visit(desk_world) as visitor:
        visitor.open(workspace, pages=["spend"])
        expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Spend")
        expect(visitor.page.get_by_role("navigation").first.get_by_role("link")).to_have_text(["Spend"])
        assert status(visitor, "/portal/credentials") == 404
        assert status(visitor, "/portal/features") == 404


def status(visitor: Visitor, path: str) -> int:
    answer = visitor.page.goto(visitor.world.url + path)
    assert answer is not None
    return answer.status
