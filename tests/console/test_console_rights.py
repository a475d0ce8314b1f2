"""Who may do what in the console: one table of routes, cell by cell, and what no operator can do at all."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.console.console_pages import Console, Seen, open_console
from tests.control.house import ACTOR

from ownkey.console.routes import ROUTES
from ownkey.control.tokens import NewToken
from ownkey.domain.operators import OperatorRole

OPS_ONLY = {
    ("GET", "/console/operators"), ("POST", "/console/operators"), ("POST", "/console/operators/{operator}/role"),
    ("POST", "/console/operators/{operator}/disable"), ("POST", "/console/operators/{operator}/enable"),
    ("POST", "/console/operators/{operator}/reset"), ("GET", "/console/operators/{operator}/disable"),
    ("GET", "/console/operators/{operator}/reset"),
    ("GET", "/console/workspaces/{workspace}/status"), ("POST", "/console/workspaces/{workspace}/status"),
    ("GET", "/console/workspaces/{workspace}/credits"), ("POST", "/console/workspaces/{workspace}/credits"),
    ("GET", "/console/workspaces/{workspace}/entitlement"), ("POST", "/console/workspaces/{workspace}/entitlement"),
    ("GET", "/console/workspaces/{workspace}/credentials/{provider}/disable"),
    ("POST", "/console/workspaces/{workspace}/credentials/{provider}/disable"),
    ("GET", "/console/workspaces/{workspace}/tokens/{token}/revoke"),
    ("POST", "/console/workspaces/{workspace}/tokens/{token}/revoke"),
    ("GET", "/console/models/override"), ("POST", "/console/models/override"),
    ("GET", "/console/billing/events/{event}/retry"), ("POST", "/console/billing/events/{event}/retry"),
    ("GET", "/console/billing/reconcile"), ("POST", "/console/billing/reconcile"),
    ("POST", "/console/developers/tokens"), ("GET", "/console/developers/tokens/{token}/revoke"),
    ("POST", "/console/developers/tokens/{token}/revoke"), ("POST", "/console/outbox/{row}/retry"),
    ("POST", "/console/system/work"), ("POST", "/console/system/work/{work}/cancel"),
    ("GET", "/console/system/rewrap"), ("POST", "/console/system/rewrap"), ("POST", "/console/system/backup"),
}
"""Everything that changes a workspace or the deployment, and the forms that ask for it (security, section 7)."""

FRESH = {
    "/console/workspaces/{workspace}/credits", "/console/workspaces/{workspace}/entitlement",
    "/console/models/override", "/console/developers/tokens", "/console/operators",
    "/console/operators/{operator}/role", "/console/operators/{operator}/enable", "/console/operators/{operator}/reset",
    "/console/system/rewrap", "/console/billing/events/{event}/retry", "/console/billing/reconcile",
    "/console/system/backup",
}
"""What gives away money or rights, moves every data key or copies all there is: only with a proof of identity that is
ten minutes old at most."""

SUPPORT_CHANGES = {
    "/console/workspaces/{workspace}/view-as", "/console/calls/filters", "/console/calls/filters/delete",
    "/console/leave", "/console/leave/everywhere", "/console/account/session", "/console/account/shortcuts",
    "/console/account/password", "/console/account/recovery", "/console/confirm",
}
"""What support may send: looks, and what is only their own."""


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    async with open_console(tmp_path, "app-builder") as opened:
        yield opened


def test_the_table_of_routes_is_the_table_of_rights() -> None:
    """Every route of the console stands in exactly one of the lists above, with the right that it needs."""
    ops = {(r.method, r.path) for r in ROUTES if r.needs is OperatorRole.OPS}
    support = {r.path for r in ROUTES if r.method == "POST" and r.needs is OperatorRole.SUPPORT}
    fresh = {r.path for r in ROUTES if r.fresh and r.method == "POST"}

    assert ops == OPS_ONLY
    assert support == SUPPORT_CHANGES
    assert fresh == FRESH


async def test_support_is_refused_whatever_changes_something(console: Console) -> None:
    """Cell by cell: 403, whom to ask, and nothing was written but that it was refused (S9)."""
    workspace = await console.control.with_key()
    before, known = await console.audit(workspace.id), len(await console.audit())
    for route in ROUTES:
        if route.needs is not OperatorRole.OPS:
            continue
        path = fill(route.path, workspace.id)
        seen = await (console.get(path, "support") if route.method == "GET" else
                      console.post(path, EVERYTHING, "support"))

        assert seen.status == 403, path
        assert "Ask an operator with the role ops." in seen.text
    new = (await console.audit())[known:]
    assert await console.audit(workspace.id) == before
    assert {action for action, _, _ in new} == {"authorisation.refused"}
    assert len(new) == len([r for r in ROUTES if r.needs is OperatorRole.OPS])


EVERYTHING = {
    "reason": "because a test asks for it", "status": "suspended", "amount": "5", "nonce": "n1",
    "entitlement": "active", "provider": "openrouter", "model": "x/y", "input": "1", "label": "t", "call": "on",
    "expires": "never", "kind": "ledger_check", "role": "ops", "email": "eve@example.com", "name": "Eve",
}


def fill(path: str, workspace_id: str) -> str:
    values = {"workspace": workspace_id, "provider": "openrouter", "token": "tok_1", "event": "evt_1", "row": "1",
              "work": "work_1", "operator": "op_1"}
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], path)


async def test_a_proof_of_identity_grows_old(console: Console) -> None:
    """Eleven minutes after it a form is refused, and a page leads to the question who it is, and back."""
    workspace = await console.control.with_key()
    console.grow_old()
    asking = {r.path for r in ROUTES if r.method == "GET" and r.fresh}
    for path in sorted(FRESH):
        refused = await console.post(fill(path, workspace.id), EVERYTHING)

        assert refused.status == 403, path
        assert "Confirm who you are" in refused.text
    for path in sorted(asking):
        asked = await console.get(fill(path, workspace.id))

        assert asked.status == 303, path
        assert asked.headers["location"].startswith("/console/confirm?path=%2Fconsole%2F")
    assert len(asking) == 7


async def test_every_form_needs_its_token_and_comes_from_here(console: Console) -> None:
    """CSRF: without the session's token, or from another site, nothing is done."""
    for route in ROUTES:
        if route.method != "POST":
            continue
        path = fill(route.path, "ws_1")
        tokenless = await console.post(path, {**EVERYTHING, "csrf": ""})
        foreign = await console.post(path, EVERYTHING, headers={"sec-fetch-site": "cross-site"})
        elsewhere = await console.post(path, EVERYTHING, headers={"origin": "https://evil.test", "sec-fetch-site": ""})

        assert {tokenless.status, foreign.status, elsewhere.status} == {403}, path


async def test_no_form_reads_a_key_moves_a_switch_or_raises_a_cap(console: Console) -> None:
    """S5, S8: the workspace's page has no such form, not even for ops, and addresses like the portal's are no pages."""
    workspace = await console.control.with_key()
    await console.control.desk.tokens.create(workspace, NewToken("app"), ACTOR)
    seen = await console.get(f"/console/workspaces/{workspace.id}")
    tried = [
        await console.post(f"/console/workspaces/{workspace.id}/{what}", {**EVERYTHING, "always_use_key": "on"})
        for what in (
            "always", "cap", "if-key-fails", "on-rejection", "credentials/openrouter", "credentials/openrouter/enable",
            "credentials/openrouter/disconnect", "credentials/openrouter/test",
        )
    ]
    after = await console.control.again(workspace)

    assert seen.actions == {f"/console/workspaces/{workspace.id}/view-as"}
    assert not re.search(r'name="(cap|always_use_key|credits_if_key_fails|timezone|key)"', seen.html)
    assert {answer.status for answer in tried} == {404}
    assert after.settings_version == workspace.settings_version


async def test_a_status_form_changes_the_status_and_nothing_else(console: Console) -> None:
    """S8: fields that a form does not have are not taken."""
    workspace = await console.control.with_key()
    form = {"version": "active", "status": "suspended", "reason": "abuse, ticket 7", "always_use_key": "true",
            "plan": "enterprise"}
    done = await console.post(f"/console/workspaces/{workspace.id}/status", form)
    after = await console.control.desk.workspaces.find(workspace.id)

    assert done.status == 303
    assert (after.status, after.always_use_key, after.plan) == ("suspended", False, workspace.plan)


async def test_nobody_who_is_not_signed_in_sees_a_page(console: Console) -> None:
    """Every page leads to the sign-in and back; every form answers 401 or 403."""
    for route in ROUTES:
        path = fill(route.path.replace("{receipt}", "call_1").replace("{kind}", "ai_paused"), "ws_1")
        seen = await (console.get(path, role="") if route.method == "GET" else stranger_posts(console, path))

        if route.method == "GET":
            assert (seen.status, seen.headers["location"][:16]) == (303, "/console/sign-in"), path
        else:
            assert seen.status in (401, 403), path


async def stranger_posts(console: Console, path: str) -> Seen:
    return await console._ask("POST", path, "", b"csrf=x", {
        "content-type": "application/x-www-form-urlencoded", "origin": "null", "sec-fetch-site": "same-origin",
    })
