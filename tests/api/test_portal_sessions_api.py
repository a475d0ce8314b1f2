"""Minting, listing and ending visits over the management API: who may, what is shown once, what is refused."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.management import Management, open_management

PATH = "/workspaces/own/portal-sessions"
BODY: dict[str, Any] = {
    "member": {"id": "u1", "email": "ada@example.com", "name": "Ada"}, "role": "admin", "mode": "frame",
    "return_url": "https://app.test/settings/ai", "refresh_url": "https://app.test/ownkey/session",
}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Management]:
    async with open_management(tmp_path) as opened:
        yield opened


async def test_mint_list_revoke(api: Management) -> None:
    """X5: a host's backend makes a link, sees who is looking, and ends it."""
    made = await api.good("POST", PATH, {**BODY, "pages": ["spend"], "flow": "cap", "theme": "dark", "ttl_s": 600})
    (row,) = (await api.good("GET", PATH))["sessions"]
    done = await api.good("DELETE", f"{PATH}/{made['session']}")
    after = await api.good("GET", PATH)

    assert set(made) == {"url", "code", "session", "code_expires_at", "session_expires_at"}
    assert made["url"] == f"https://ownkey.test/portal/enter?code={made['code']}"
    assert (row["session"], row["member"], row["role"], row["mode"], row["pages"], row["entered_at"]) == (
        made["session"], "u1", "admin", "frame", ["spend"], None)
    assert row["minted_by"].startswith("service:tok_")
    assert made["code"] not in str(row)
    assert done["message"]
    assert after["sessions"] == []


async def test_the_link_opens_with_what_was_minted(api: Management) -> None:
    """Down to the last field; the API's answer and the use case agree."""
    made = await api.good("POST", PATH, {**BODY, "mode": "page", "locale": "de"})
    entered = await api.house.desk.portal_sessions.enter(made["code"], mode="page")

    assert entered.session.id == made["session"]
    assert (entered.session.workspace_id, entered.session.locale) == (api.own.id, "de")


async def test_a_repeated_mint_shows_no_link(api: Management) -> None:
    """Stored answers of an Idempotency-Key hold neither url nor code: both are shown this once."""
    first = await api.good("POST", PATH, BODY, idempotency_key="k1")
    again = await api.good("POST", PATH, BODY, idempotency_key="k1")

    assert first["code"]
    assert (again["url"], again["code"], again["session"]) == (None, None, first["session"])
    stored = b"".join(path.read_bytes() for path in api.house.folder.glob("ownkey.db*"))
    assert first["code"][8:24].encode() not in stored


@pytest.mark.parametrize(("change", "param"), [
    ({"role": "root"}, "role"),
    ({"role": None}, "role"),
    ({"mode": "popup"}, "mode"),
    ({"workspace": "other"}, "workspace"),
    ({"kind": "view_as"}, "kind"),
    ({"member": {"id": "u1"}}, "email"),
    ({"member": {"id": "u1", "email": "a@example.com", "role": "owner"}}, "role"),
    ({"member": {"id": "", "email": "a@example.com"}}, "member.id"),
    ({"pages": []}, "pages"),
    ({"pages": ["data"]}, "pages[0]"),
    ({"pages": ["plans"], "role": "member"}, "pages"),
    ({"theme": "blue"}, "theme"),
    ({"locale": "x"}, "locale"),
    ({"flow": "nowhere"}, "flow"),
    ({"ttl_s": 7_200}, "ttl_s"),
    ({"return_url": "https://evil.test/"}, "return_url"),
    ({"refresh_url": "https://evil.test/"}, "refresh_url"),
])
async def test_what_is_refused(api: Management, change: dict[str, Any], param: str) -> None:
    """By the field at fault, with a fix; unknown fields too, so that no host believes in one."""
    error = await api.bad(400, "POST", PATH, {**BODY, **change})

    assert error["code"] == "invalid_value"
    assert error["param"] == param
    assert (await api.good("GET", PATH))["sessions"] == []


@pytest.mark.parametrize("missing", ["member", "role", "mode", "return_url"])
async def test_what_must_be_said(api: Management, missing: str) -> None:
    """Who, in which role, how, and where they come back to."""
    error = await api.bad(400, "POST", PATH, {name: value for name, value in BODY.items() if name != missing})

    assert error["param"] == missing


@pytest.mark.parametrize(("who", "method", "path", "status"), [
    ("service", "POST", PATH, 201), ("operator", "POST", PATH, 201),
    ("ops", "POST", PATH, 403), ("caller", "POST", PATH, 403), ("workspace", "POST", PATH, 403),
    ("ops", "POST", f"{PATH}/view-as", 201), ("operator", "POST", f"{PATH}/view-as", 201),
    ("service", "POST", f"{PATH}/view-as", 403), ("workspace", "POST", f"{PATH}/view-as", 403),
    ("ops", "GET", PATH, 200), ("workspace", "GET", PATH, 403), ("ops", "DELETE", f"{PATH}?member=u1", 403),
])
async def test_who_may(api: Management, who: str, method: str, path: str, status: int) -> None:
    """Section 7 of the security contract: hosts mint, staff look as an owner does, nobody else does either."""
    body = (BODY if path == PATH else {}) if method == "POST" else None
    assert (await api.ask(method, path, body, who=who)).status_code == status


async def test_an_operators_look(api: Management) -> None:
    """Read-only from the first moment, in the workspace's own audit log."""
    made = await api.good("POST", f"{PATH}/view-as", {}, who="ops")
    entered = await api.house.desk.portal_sessions.enter(made["code"])
    rows = (await api.good("GET", "/workspaces/own/audit"))["rows"]

    assert (entered.session.kind, entered.session.member_id) == ("view_as", "ops")
    assert {row["action"]: row["actor_kind"] for row in rows if row["action"].startswith("portal.")} == {
        "portal.view_as": "operator", "portal.entered": "operator"}
    assert (await api.good("GET", "/workspaces/own/members"))["members"] == []


async def test_ending_a_persons_sessions(api: Management) -> None:
    """All of them, counted; none is no error, and the person must be named."""
    for _ in range(2):
        await api.good("POST", PATH, BODY)
    ended = await api.good("DELETE", f"{PATH}?member=u1")
    none = await api.good("DELETE", f"{PATH}?member=u1")
    unnamed = await api.bad(400, "DELETE", PATH)

    assert (ended["ended"], none["ended"]) == (2, 0)
    assert ended["message"] == "2 sessions have ended."
    assert unnamed["param"] == "member"


async def test_another_workspaces_session_is_not_there(api: Management) -> None:
    """The same answer as for one that never was."""
    made = await api.good("POST", PATH, BODY)
    elsewhere = await api.bad(404, "DELETE", f"/workspaces/other/portal-sessions/{made['session']}")
    never = await api.bad(404, "DELETE", "/workspaces/other/portal-sessions/ses_never")

    assert elsewhere["message"].replace(made["session"], "ses_never") == never["message"]
    assert (await api.good("GET", "/workspaces/other/portal-sessions"))["sessions"] == []
    assert len((await api.good("GET", PATH))["sessions"]) == 1


async def test_there_is_no_link_into_the_platforms_own_workspace(api: Management) -> None:
    """Its keys are the operator's: no host lets people in there."""
    await api.bad(404, "POST", "/workspaces/platform/portal-sessions", BODY)


async def test_an_older_owners_session_ends_when_the_role_changes(api: Management) -> None:
    """S10: by the members' own route too."""
    made = await api.good("POST", PATH, {**BODY, "role": "owner"})
    entered = await api.house.desk.portal_sessions.enter(made["code"])
    await api.good("PUT", "/workspaces/own/members/u1", {"email": "ada@example.com", "role": "viewer"})

    assert await api.house.desk.portal_sessions.find(entered.secret) is None
