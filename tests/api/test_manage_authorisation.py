"""Who may do what: security, section 7, on every route, generated from the route table itself."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.management import Management, open_management
from tests.control.house import KEYS

from ownkey.api.authorisation import GRANTS, WORKSPACE_FIELDS, Right, Subject
from ownkey.api.manage_call import ManageRoute
from ownkey.api.manage_routes import ROUTES
from ownkey.api.manage_schemas import WorkspaceChange
from ownkey.domain.tokens import make_token
from ownkey.domain.workspace import TokenKind

# Security, section 7: service token | workspace token | ops. A manage right includes reading.
TABLE = """
AI on, paused, reset time                                                   | read   | read | read
workspaces, members, projects                                               | manage | -    | read
task switches                                                               | manage | -    | read
credentials (hint, health)                                                  | manage | -    | read disable
Always, if-key-fails, direct failure                                        | manage | -    | read
cap, threshold, zone                                                        | manage | -    | read
receipts, usage                                                             | read   | read | read
credit balance and ledger                                                   | read   | -    | read
add-on                                                                      | read   | -    | read comp
paying: payment pages, cancelling, buying credits                           | manage | -    | read
audit log                                                                   | read   | -    | read
export all, delete workspace                                                | manage | -    | -
workspace tokens                                                            | manage | -    | read revoke
portal sessions                                                             | manage | -    | read view_as
service tokens, plans, prices, credits, corrections, suspension, rotation   | -      | -    | manage
the product's rules and this API's description                              | read   | read | read
"""

BODIES: dict[str, Any] = {
    "create_workspace": {"name": "New"}, "change_workspace": {"name": "Renamed"},
    "put_entitlement": {"entitlement": "included"}, "put_member": {"email": "a@example.com", "role": "admin"},
    "put_project": {"name": "P"}, "create_token": {"label": "t"}, "create_service_token": {"label": "t"},
    "put_credential": {"key": KEYS["openrouter"]}, "test_credential": {"key": KEYS["openrouter"]},
    "put_platform_credential": {"key": KEYS["openrouter"]}, "test_platform_credential": {"key": KEYS["openrouter"]},
    "start_connect": {}, "finish_connect": {"state": "A" * 43, "code": "c"},
    "start_platform_connect": {}, "finish_platform_connect": {"state": "A" * 43, "code": "c"},
    "subscribe": {}, "manage_billing": {}, "top_up": {"pack": "small"},
    "mint_portal_session": {"member": {"id": "u1", "email": "a@example.com"}, "role": "admin", "mode": "page",
                            "return_url": ""},
    "add_operator": {"email": "new@example.com"}, "put_operator_role": {"role": "ops"},
    "promote_master_key": {"key": "k_x", "fingerprint": "0" * 16}, "retire_master_key": {"key": "k_x"},
    "start_work": {"kind": "export"}, "start_upkeep": {"kind": "ledger_check"},
    "put_feature": {"on": True}, "put_cap": {"cap_usd": "5"}, "grant_credits": {"amount_credits": 1},
    "disable_credential": {}, "disable_platform_credential": {},
    "accept_key_reading": {"reason": "seen"}, "accept_platform_key_reading": {"reason": "seen"},
    "put_prices": {"overrides": [{"provider": "openai", "model": "m", "usd_per_million": {"input": "1"}}]},
}
PATHS = {"member": "u1", "project": "p1", "token": "tok_x", "provider": "openrouter", "task": "draft_reply",
         "receipt": "rcpt_x", "work": "work_x", "row": "1", "conversation": "c1", "event": "evt_1",
         "backup": "x.backup", "reading": "1", "session": "ses_x", "operator": "ada@example.com"}


def fill(route: ManageRoute, workspace: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda m: workspace if m[1] == "workspace" else PATHS[m[1]], route.path)


def rights(cell: str) -> set[Right]:
    words = set(cell.split()) - {"-"}
    if "manage" in words:
        words |= {"read", "disable", "revoke"}
    return {Right(word.replace("_", " ")) for word in words}


def expected(who: str, subject: Subject, right: Right) -> bool:
    row = next(line.split("|") for line in TABLE.strip().splitlines() if line.split("|")[0].strip() == subject.value)
    service, workspace, ops = (rights(cell) for cell in row[1:])
    return {
        "service": right in service, "caller": False, "workspace": right in workspace, "ops": right in ops,
        "operator": right in ops | service,
    }[who]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Management]:
    async with open_management(tmp_path, "app-builder") as opened:
        yield opened


def test_the_table_in_code_is_the_table_of_the_rules() -> None:
    """Deny by default; one table, equal to the written one, cell by cell."""
    told = {line.split("|")[0].strip() for line in TABLE.strip().splitlines()}

    assert told == {subject.value for subject in Subject}
    for subject in Subject:
        for kind in TokenKind:
            who = "ops" if kind is TokenKind.OPERATOR else kind.value
            assert GRANTS[subject][kind] == {right for right in Right if expected(who, subject, right)}, (subject, kind)


def test_every_writable_field_of_a_workspace_asks_for_a_right() -> None:
    """Mass assignment: a field without a row could be written by anybody who may read."""
    assert set(WORKSPACE_FIELDS) == set(WorkspaceChange.__struct_fields__)


def test_every_route_has_a_body_here_if_it_takes_one() -> None:
    """A new route must join the matrix below."""
    takes = {r.name for r in ROUTES if r.body is not None and r.body.__name__ != "Nothing"}

    assert takes <= set(BODIES)
    assert len({(r.method, r.path) for r in ROUTES}) == len({r.name for r in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: r.name)
@pytest.mark.parametrize("who", ["service", "caller", "workspace", "operator", "ops"])
async def test_every_route_for_every_principal(api: Management, route: ManageRoute, who: str) -> None:
    """Own workspace: allowed or 403. Another's and none at all: the same answer to the last byte."""
    allowed = expected(who, route.subject, route.right)
    answers = {}
    for label, workspace in (("own", api.own.id), ("other", api.other.id), ("none", "ws_none"), ("external", "own")):
        if label in ("other", "none") and who != "workspace" and "{workspace}" not in route.path:
            continue
        answers[label] = await api.ask(route.method, fill(route, workspace), BODIES.get(route.name), who=who)

    own = answers["own"]
    if not allowed:
        assert own.status_code == 403, own.text
        assert own.json()["error"]["code"] == "forbidden"
    elif route.name == "change_workspace" and who == "ops":
        assert own.status_code == 403  # it may read, and each field asks again
    else:
        assert own.status_code not in (401, 403, 405, 500), own.text
    if route.owner == "workspace":
        if who == "workspace":
            # Each repeats the id that was asked for; nothing else tells them apart.
            assert (answers["other"].status_code, answers["other"].text.replace(api.other.id, "ID")) == (
                answers["none"].status_code, answers["none"].text.replace("ws_none", "ID")
            )
            assert answers["other"].status_code == (404 if allowed else 403)
        elif allowed:
            assert answers["none"].status_code == 404
    assert all(key not in answer.text for answer in answers.values() for key in KEYS.values())


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: r.name)
async def test_every_route_needs_a_token(api: Management, route: ManageRoute) -> None:
    """No token, a malformed one, an unknown one: 401, and only the well-formed one is looked up."""
    service = api.tokens["service"]
    typo = service[:-1] + ("1" if service.endswith("0") else "0")
    for token, looked_up in (("", 0), ("ok_wrong", 0), (KEYS["openrouter"], 0), (typo, 0), (make_token(b"?" * 40), 1)):
        before = api.doors.lookups
        error = await api.bad(401, route.method, fill(route, api.own.id), BODIES.get(route.name), token=token)

        assert error["code"] == "invalid_token"
        assert api.doors.lookups - before == looked_up
        assert not token or token not in str(error)


async def test_a_refused_request_is_in_the_audit_log(api: Management) -> None:
    """Security, section 11: refused authorisations are audited."""
    await api.bad(403, "GET", f"/workspaces/{api.own.id}/cap", who="workspace")

    rows = (await api.good("GET", f"/workspaces/{api.own.id}/audit", who="service"))["rows"]

    assert [row["target"] for row in rows if row["action"] == "authorisation.refused"] == ["read_cap"]


async def test_staff_may_disable_and_not_switch_the_payer(api: Management) -> None:
    """Operators cannot switch Always or if-key-fails, nor raise a cap; they may lift a suspension."""
    base = f"/workspaces/{api.own.id}"
    await api.good("PUT", f"{base}/credentials/openrouter", {"key": KEYS["openrouter"]})
    for field, value in (("always_use_key", True), ("credits_if_key_fails", True), ("name", "x"), ("timezone", "UTC")):
        await api.bad(403, "PATCH", base, {field: value}, who="ops")
    await api.bad(403, "PUT", f"{base}/cap", {"cap_usd": "500"}, who="ops")
    await api.bad(403, "PUT", f"{base}/credentials/openrouter", {"key": KEYS["openrouter"]}, who="ops")

    disabled = await api.good("POST", f"{base}/credentials/openrouter/disable", {}, who="ops")
    assert disabled["credential"]["status"] == "disabled"
    await api.good("PATCH", base, {"status": "suspended"}, who="ops")
    await api.bad(403, "PATCH", base, {"status": "active"}, who="service")
    assert (await api.good("GET", f"{base}/status"))["headline"] == "AI off"


async def test_refused_in_a_loop_fills_no_log(api: Management) -> None:
    """One row per token, operation and minute: a token without rights cannot write the disk full."""
    for _ in range(30):
        await api.bad(403, "GET", f"/workspaces/{api.own.id}/cap", who="workspace")
    await api.bad(403, "GET", f"/workspaces/{api.own.id}/members", who="workspace")
    api.house.clock.pass_s(61)
    await api.bad(403, "GET", f"/workspaces/{api.own.id}/cap", who="workspace")

    rows = (await api.good("GET", f"/workspaces/{api.own.id}/audit", who="service"))["rows"]

    assert [row["target"] for row in rows if row["action"] == "authorisation.refused"] == [
        "read_cap", "list_members", "read_cap"
    ]


async def test_a_refusal_by_right_says_who_can(api: Management) -> None:
    """And to a workspace token, which workspace is its own: a client need not ask for it."""
    deployment = await api.bad(403, "GET", "/prices", who="service")
    own = await api.bad(403, "GET", "/workspaces", who="workspace")

    assert "run the command beside the server" in deployment["fix"]["text"]
    assert "ownkey token add --service" in own["fix"]["text"]
    assert own["details"] == {"workspace": api.own.id}
