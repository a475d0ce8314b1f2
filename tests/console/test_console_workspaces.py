"""Workspaces in the console: found, seen whole with where each setting comes from, and what ops may do to them."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.console.console_pages import Console, open_console
from tests.console.made_calls import write
from tests.control.house import ACTOR, KEYS
from tests.portal.receipts_made import attempt

from ownkey.control.tokens import NewToken
from ownkey.domain.tokens import digest
from ownkey.domain.workspace import CredentialStatus, EntitlementState

HOSTILE = '"><img src=x onerror=alert(1)>'


@pytest.fixture
async def builder(tmp_path: Path) -> AsyncIterator[Console]:
    async with open_console(tmp_path, "app-builder") as opened:
        yield opened


@pytest.fixture
async def support_desk(tmp_path: Path) -> AsyncIterator[Console]:
    async with open_console(tmp_path) as opened:
        yield opened


def origins(html: str) -> dict[str, str]:
    """Setting → level, as the table carries it."""
    return dict(re.findall(r'data-setting="([^"]*)" data-origin="(\w+)"', html))


async def test_the_list_is_narrowed_by_what_is_wrong(builder: Console) -> None:
    """G26: each count of the first page leads to the workspaces that it counts."""
    control = builder.control
    paused = await control.with_key(name="Paused", external_id="c-1")
    await control.desk.caps.save(paused, "0", None, ACTOR)
    suspended = await control.workspace("Suspended one", external_id="c-2")
    await control.desk.workspaces.change(suspended, {"status": "suspended"}, ACTOR)
    broken = await control.with_key(name="Broken", external_id="c-3")
    control.store.mark_undecryptable(broken.credentials["openrouter"], control.clock.now_ms())
    overdue = await control.workspace("Overdue", external_id="c-4")
    await control.desk.workspaces.set_entitlement(overdue, EntitlementState.GRACE, ACTOR)
    await control.workspace("Well", external_id="c-5")
    found = {}
    for trouble in ("paused", "suspended", "undecryptable", "past_due", ""):
        seen = await builder.get(f"/console/workspaces?trouble={trouble}")
        found[trouble] = re.findall(r'data-workspace="(\w+)"', seen.html)
    home = await builder.get("/console")

    assert found["paused"] == [paused.id]
    assert found["suspended"] == [suspended.id]
    assert found["undecryptable"] == [broken.id]
    assert found["past_due"] == [overdue.id]
    assert len(found[""]) == 5
    for name in ("paused", "suspended", "undecryptable", "past_due"):
        assert re.search(rf'trouble={name}"><p class="figure">1<', home.html), name


async def test_pages_of_the_list_hold_every_workspace_once(builder: Console) -> None:
    made = [(await builder.control.workspace(f"W {n}", external_id=f"c-{n}")).id for n in range(53)]
    first = await builder.get("/console/workspaces")
    older = re.search(r'href="([^"]*after=[^"]*)" rel="next"', first.html)
    assert older is not None
    second = await builder.get(older[1].replace("&amp;", "&"))
    ids = [*re.findall(r'data-workspace="(\w+)"', first.html), *re.findall(r'data-workspace="(\w+)"', second.html)]

    assert ids == sorted(made)


async def test_every_setting_says_where_it_comes_from(builder: Console) -> None:
    """T17, G27: product, then plan, then the workspace's own word; the page shows which one is in force."""
    workspace = await builder.control.with_key()
    before = origins((await builder.get(f"/console/workspaces/{workspace.id}")).html)
    await builder.control.desk.workspaces.change(workspace, {"always_use_key": True, "plan": "pro"}, ACTOR)
    await builder.control.desk.caps.save(workspace, "25", 70, ACTOR)
    seen = await builder.get(f"/console/workspaces/{workspace.id}")
    after = origins(seen.html)

    assert before["Always use this key"] == "product"
    assert before["plans.free.byok"] == "plan"
    assert before["Monthly spend cap (USD)"] == "product"
    assert after["Always use this key"] == "workspace"
    assert after["product.default_plan"] == "workspace"
    assert after["Monthly spend cap (USD)"] == "workspace"
    assert after["spend.default_threshold"] == "workspace"
    assert after["credits.if_key_fails"] == "product"
    assert "US$25.00" in seen.text


async def test_a_key_is_never_shown_and_hostile_names_are_text(builder: Console) -> None:
    """S5: hints only; a name with markup in it stands there as it was typed, in every list."""
    workspace = await builder.control.with_key(name=HOSTILE, external_id="h-1")
    await write(builder, workspace, attempt(model=HOSTILE, message=HOSTILE), requested_model=HOSTILE,
                conversation=HOSTILE, task=HOSTILE)
    pages = [await builder.get(path) for path in (
        "/console/workspaces", f"/console/workspaces/{workspace.id}", "/console/calls", "/console/search?q=img",
        f"/console/why?workspace={workspace.id}", "/console/system/audit", f"/console/calls?task={'x' * 20}",
    )]
    call = re.search(r'data-receipt="(\w+)"', pages[2].html)
    assert call is not None
    pages.append(await builder.get(f"/console/calls/{call[1]}"))
    for seen in pages:
        assert "<img src=x" not in seen.html
        for key in KEYS.values():
            assert key[8:40] not in seen.html
    assert HOSTILE in pages[0].text or "img src" in pages[0].html
    assert "sk-or-…5a7e" in pages[1].text


async def test_suspending_needs_a_reason_and_is_undone(builder: Console) -> None:
    workspace = await builder.control.with_key()
    path = f"/console/workspaces/{workspace.id}/status"
    asked = await builder.get(path)
    active = {"version": asked.field("version"), "status": "suspended"}
    empty = await builder.post(path, {**active, "reason": " "})
    done = await builder.follow(await builder.post(path, {**active, "reason": "Abuse, ticket 7"}))
    suspended = await builder.control.again(workspace)
    version = (await builder.get(path)).field("version")
    lifted = await builder.post(path, {"version": version, "status": "active", "reason": "Ticket 7 is closed"})

    assert "Suspend this workspace?" in asked.text
    assert (empty.status, "A reason has" in empty.text) == (422, True)
    assert suspended.status == "suspended"
    assert "The workspace is suspended" in done.text
    assert lifted.status == 303
    assert (await builder.control.again(workspace)).status == "active"
    log = await builder.audit(workspace.id)
    assert ("operator.reason", "operator", {"for": "workspace.status", "reason": "Abuse, ticket 7"}) in log
    assert [row for row in log if row[0] == "workspace.changed"][-1][1] == "operator"


async def test_credits_are_granted_once_however_often_the_form_is_sent(builder: Console) -> None:
    """G20: the form's own id makes a double click one grant; what was typed comes back where it is wrong."""
    workspace = await builder.control.workspace()
    path = f"/console/workspaces/{workspace.id}/credits"
    nonce = (await builder.get(path)).field("nonce")
    wrong = await builder.post(path, {"amount": "many", "reason": "Ticket 8, goodwill", "nonce": nonce})
    form = {"amount": "500", "reason": "Ticket 8, goodwill", "nonce": nonce}
    before = (await builder.control.desk.credits.show(workspace)).balance_credits
    first, second = await builder.post(path, form), await builder.post(path, form)
    after = (await builder.control.desk.credits.show(workspace)).balance_credits

    assert wrong.status == 422
    assert 'value="many"' in wrong.html
    assert "Ticket 8, goodwill" in wrong.html
    assert (first.status, second.status) == (303, 303)
    assert after - before == 500
    assert "reason" in str([after for action, _, after in await builder.audit(workspace.id) if "reason" in action])


async def test_an_add_on_is_given_without_payment(builder: Console) -> None:
    workspace = await builder.control.with_key()
    path = f"/console/workspaces/{workspace.id}/entitlement"
    version = (await builder.get(path)).field("version")
    bad = await builder.post(path, {"version": version, "entitlement": "included", "reason": "Ticket 9 asks"})
    done = await builder.post(path, {"version": version, "entitlement": "active", "reason": "Ticket 9 asks"})

    assert bad.status == 422
    assert done.status == 303
    assert (await builder.control.again(workspace)).entitlement is EntitlementState.ACTIVE


async def test_disabling_a_key_says_first_who_pays_then(builder: Console) -> None:
    """T10, G12: the coming payer is the status function's own sentence; the ciphertext stays."""
    workspace = await builder.control.with_key()
    await builder.control.desk.workspaces.set_entitlement(workspace, EntitlementState.ACTIVE, ACTOR)
    path = f"/console/workspaces/{workspace.id}/credentials/openrouter/disable"
    asked = await builder.get(path)
    assert "Only the workspace's people can enable it again." in asked.text
    done = await builder.post(path, {"version": asked.field("version"), "reason": "Leaked in ticket 10"})
    changed = await builder.control.again(workspace)
    after = changed.credentials["openrouter"]

    assert f"From then on: {(await builder.control.desk.status.show(changed)).sentence}" in asked.text
    assert done.status == 303
    assert after.status is CredentialStatus.DISABLED
    assert after.sealed == workspace.credentials["openrouter"].sealed
    missing = await builder.get(f"/console/workspaces/{workspace.id}/credentials/google/disable")
    assert missing.status == 404


@pytest.mark.parametrize("version", [None, "", "no-version"])
async def test_a_stale_deed_is_not_done(builder: Console, version: str | None) -> None:
    """Portal 1.6: status, add-on and key as they are now, what was typed, and nothing changed; the same for a form that
    does not say what it was made for."""
    workspace = await builder.control.with_key()
    await builder.control.desk.workspaces.set_entitlement(workspace, EntitlementState.ACTIVE, ACTOR)
    before = await builder.control.again(workspace)
    base, reason = f"/console/workspaces/{workspace.id}", "Ticket 11 asks"
    for deed, form in (("status", {"status": "suspended"}), ("entitlement", {"entitlement": "none"}),
                       ("credentials/openrouter/disable", {})):
        asked = await builder.get(f"{base}/{deed}")
        sent = {} if version is None else {"version": version}
        seen = await builder.post(f"{base}/{deed}", {**form, **sent, "reason": reason})
        assert seen.status == 409, deed
        assert "This was changed in the meantime, so nothing was changed now." in seen.text
        assert reason in seen.html
        assert seen.field("version") == asked.field("version") != ""

    assert await builder.control.again(workspace) == before
    assert "operator.reason" not in {row[0] for row in await builder.audit(workspace.id)}


async def test_a_token_shows_when_it_was_last_used_and_is_revoked(builder: Console) -> None:
    workspace = await builder.control.workspace()
    made = await builder.control.desk.tokens.create(workspace, NewToken("app"), ACTOR)
    never = await builder.get(f"/console/workspaces/{workspace.id}")
    await builder.control.store.load_principal(digest(made.token))
    await builder.control.desk.tokens.create(workspace, NewToken("other"), ACTOR)
    used = await builder.get(f"/console/workspaces/{workspace.id}")
    path = f"/console/workspaces/{workspace.id}/tokens/{made.row.token_id}/revoke"
    asked = await builder.get(path)
    done = await builder.post(path)

    assert "app ok_…" in never.text
    assert f"ok_…{made.row.last4} never" in never.text
    assert f"ok_…{made.row.last4} just now" in used.text
    assert "Revoke this token?" in asked.text
    assert made.token not in used.html + asked.html
    assert done.status == 303
    assert await builder.control.store.load_principal(digest(made.token)) is None


async def test_view_as_is_read_only_marked_and_audited(support_desk: Console) -> None:
    """X9: a link that works once; the workspace's log and the deployment's both have it."""
    workspace = await support_desk.control.with_key()
    seen = await support_desk.post(f"/console/workspaces/{workspace.id}/view-as", role="support")
    link = re.search(r'href="(https://ownkey.test/portal/enter\?code=([\w-]{43}))"', seen.html)
    assert link is not None
    entered = await support_desk.control.desk.portal_sessions.enter(link[2])

    assert entered.session.kind == "view_as"
    assert all(entered.session.sight(page).value != "manage" for page in entered.session.pages)
    assert [row[0] for row in await support_desk.audit()].count("operator.view_as") == 1
    assert any("portal" in action for action, kind, _ in await support_desk.audit(workspace.id) if kind == "operator")


async def test_a_workspace_that_is_none_is_a_page_of_ours(builder: Console) -> None:
    seen = await builder.get("/console/workspaces/ws_nobody")
    platform = await builder.control.desk.workspaces.platform(ACTOR)

    assert seen.status == 404
    assert "There is no workspace ws_nobody here." in seen.text
    assert (await builder.get(f"/console/workspaces/{platform.id}")).status == 404
