"""Operators over the management API: added with a link that is shown once, changed, and never by the host."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.api.management import Management, open_management


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Management]:
    async with open_management(tmp_path) as opened:
        yield opened


async def test_an_operator_from_the_first_word_to_the_last(api: Management) -> None:
    """Added, listed, given another role, disabled, enabled, reset; by id and by address; all of it in the log."""
    body = {"email": "Ada@Example.com", "role": "ops", "name": "Ada"}
    made = await api.good("POST", "/operators", body, who="operator")
    ident = made["operator"]["id"]
    listed = await api.good("GET", "/operators", who="ops")
    role = await api.good("PUT", "/operators/ada@example.com/role", {"role": "support"}, who="operator")
    off = await api.good("POST", f"/operators/{ident}/disable", {}, who="ops")
    error = await api.bad(409, "POST", f"/operators/{ident}/reset", {}, who="ops")
    on = await api.good("POST", f"/operators/{ident}/enable", {}, who="ops")
    again = await api.good("POST", "/operators/ADA@example.com/reset", {}, who="operator")
    log = await api.good("GET", "/audit", who="operator")

    assert "/console/set-up?code=" in made["url"]
    assert made["operator"] == listed["operators"][0] == {
        "id": ident, "email": "ada@example.com", "name": "Ada", "role": "ops", "status": "invited",
        "signs_in_with": [], "recovery_codes_left": 0, "created_at": made["operator"]["created_at"],
        "last_sign_in_at": None,
    }
    assert (role["role"], off["status"], on["status"]) == ("support", "disabled", "invited")
    assert "enable" in error["fix"]["text"]
    assert again["url"] != made["url"]
    assert [row["action"] for row in log["rows"] if row["action"].startswith("operator.")] == [
        "operator.reset", "operator.enabled", "operator.disabled", "operator.role_changed", "operator.added"]
    assert made["url"].rpartition("=")[2] not in str(log)


async def test_a_link_is_shown_once_even_under_an_idempotency_key(api: Management) -> None:
    """The same request again answers the same, without the link."""
    body = {"email": "ada@example.com"}
    first = await api.good("POST", "/operators", body, who="operator", idempotency_key="k1")
    second = await api.good("POST", "/operators", body, who="operator", idempotency_key="k1")

    assert first["url"]
    assert second == {**first, "url": None}


@pytest.mark.parametrize(("body", "status", "param"), [
    ({"email": "ada"}, 400, "email"), ({"email": "ada@example.com", "role": "owner"}, 400, None),
    ({"email": "ada@example.com", "password": "x"}, 400, None), ({}, 400, None),
    ({"email": "ada@example.com", "name": "sk-or-v1-" + "a" * 40}, 400, "name"),
    ({"email": "x" * 300}, 400, None),
])
async def test_what_cannot_be_added_says_why(
    api: Management, body: dict[str, str], status: int, param: str | None
) -> None:
    error = await api.bad(status, "POST", "/operators", body, who="operator")

    assert param is None or error["param"] == param


async def test_a_taken_address_and_an_unknown_person_say_so(api: Management) -> None:
    await api.good("POST", "/operators", {"email": "ada@example.com"}, who="operator")

    error = await api.bad(409, "POST", "/operators", {"email": "ADA@example.com"}, who="operator")
    assert error["code"] == "conflict"
    for method, path, body in (
        ("PUT", "role", {"role": "ops"}), ("POST", "disable", {}), ("POST", "enable", {}), ("POST", "reset", {}),
    ):
        await api.bad(404, method, f"/operators/nobody@example.com/{path}", body, who="operator")


async def test_the_host_knows_nothing_of_staff(api: Management) -> None:
    """A service token with every scope, and a workspace's token: 403, and nothing happened."""
    for who in ("service", "workspace", "caller"):
        await api.bad(403, "POST", "/operators", {"email": "eve@example.com", "role": "ops"}, who=who)
        await api.bad(403, "GET", "/operators", who=who)

    assert (await api.good("GET", "/operators", who="operator")) == {"operators": []}
