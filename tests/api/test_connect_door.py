"""Connecting over the management API, and the browser's way back: who may, what is shown, what is never kept."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.api.management import Management, open_management

from ownkey.api.connect import ConnectDoor

KEY = "sk-or-v1-" + "c0ffee11" * 8
PATH = "/workspaces/own/connect/openrouter"
RETURN = "https://app.test/settings/ai"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Management]:
    async with open_management(tmp_path) as opened:
        opened.house.upstream.script["/auth/keys"] = (200, {"key": KEY, "user_id": None})
        yield opened


@pytest.fixture
async def browser(api: Management) -> AsyncIterator[httpx.AsyncClient]:
    door = ConnectDoor(api.house.desk.connect, api.house.product)
    transport = httpx.ASGITransport(app=door)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="https://ownkey.test") as client:
        yield client


def state_of(started: Any) -> str:
    back = parse_qs(urlsplit(started["authorization_url"]).query)["callback_url"][0]
    return parse_qs(urlsplit(back).query)["state"][0]


async def test_start_and_finish(api: Management) -> None:
    """O2, G10: a host begins, comes back with state and code, and reads what was saved and what its Test found."""
    started = await api.good("POST", PATH, {"label": "Main"})
    done = await api.good("POST", f"{PATH}/finish", {"state": state_of(started), "code": "abc"})

    assert started["callback_url"] == "https://ownkey.test/connect/openrouter/callback"
    assert started["expires_at"].endswith("Z")
    assert done["message"] == "OpenRouter API key saved successfully."
    assert done["credential"]["state"] == "connected"
    assert done["credential"]["label"] == "Main"
    assert done["test"]["outcome"] == "works"
    assert done["payer_sentence"]
    assert KEY not in str(done)


@pytest.mark.parametrize("who", ["caller", "workspace", "ops"])
@pytest.mark.parametrize("path", [PATH, f"{PATH}/finish"])
async def test_only_who_may_save_keys_may_connect(api: Management, who: str, path: str) -> None:
    """Section 7 of the security contract: the right to manage credentials, on both steps."""
    body = {"state": "A" * 43, "code": "x"} if path.endswith("finish") else {}
    answer = await api.ask("POST", path, body, who=who)

    assert answer.status_code in (403, 404)
    assert api.house.upstream.sent == []


async def test_another_workspaces_state_is_unknown(api: Management) -> None:
    """And stays usable for its own."""
    state = state_of(await api.good("POST", PATH, {}))
    error = await api.bad(404, "POST", "/workspaces/other/connect/openrouter/finish", {"state": state, "code": "x"})

    assert error["code"] == "connect_unknown"
    await api.good("POST", f"{PATH}/finish", {"state": state, "code": "x"})
    assert (await api.bad(409, "POST", f"{PATH}/finish", {"state": state, "code": "x"}))["code"] == "connect_used"


async def test_a_repeated_start_shows_no_address(api: Management) -> None:
    """Stored answers of an Idempotency-Key hold no state: the address is shown this once."""
    first = await api.good("POST", PATH, {}, idempotency_key="k1")
    again = await api.good("POST", PATH, {}, idempotency_key="k1")

    assert first["authorization_url"]
    assert again["authorization_url"] is None
    assert state_of(first).encode() not in b"".join(
        path.read_bytes() for path in api.house.folder.glob("ownkey.db*"))


async def test_the_platforms_own_key_can_be_connected_too(tmp_path: Path) -> None:
    """The operator of a product with credits; a product without them has no such key."""
    async with open_management(tmp_path / "b", "app-builder") as builder:
        builder.house.upstream.script["/auth/keys"] = (200, {"key": KEY})
        path = "/platform/connect/openrouter"
        started = await builder.good("POST", path, {}, who="operator")
        done = await builder.good(
            "POST", f"{path}/finish", {"state": state_of(started), "code": "x"}, who="operator")

        assert done["credential"]["state"] == "connected"
        assert (await builder.ask("POST", path, {}, who="service")).status_code == 403


@pytest.fixture(autouse=True)
def folders(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()


async def test_the_browser_ends_at_a_plain_page(api: Management, browser: httpx.AsyncClient) -> None:
    """Nothing of the address is kept or told on: no store, no referrer, no frame, no script; a replay changes
    nothing."""
    state = state_of(await api.good("POST", PATH, {}))
    url = f"/connect/openrouter/callback?state={state}&code=the-code"
    head = await browser.head(url)
    page = await browser.get(url)
    replay = await browser.get(url)
    cards = await api.good("GET", "/workspaces/own/credentials")

    assert (head.status_code, page.status_code, replay.status_code) == (405, 200, 409)
    assert "saved successfully" in page.text
    assert "finished or tried before" in replay.text
    assert cards["credentials"][0]["version"] == 1
    for answer in (head, page, replay):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "the-code" not in answer.text
        assert state not in answer.text


async def test_the_browser_goes_on_to_the_products_page(api: Management, browser: httpx.AsyncClient) -> None:
    """A 303 to the listed page, with the result and without the code or the state."""
    state = state_of(await api.good("POST", PATH, {"return_url": f"{RETURN}?tab=keys"}))
    answer = await browser.get(f"/connect/openrouter/callback?state={state}&code=the-code")

    assert answer.status_code == 303
    assert answer.headers["location"] == f"{RETURN}?tab=keys&ownkey_connect=saved"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("query", [
    "", "state=", "code=abc", "state=abc&code=x", "state={state}&state={state}&code=x", "state=%ff&code=x",
    "state={state}\n&code=x", "&" * 50, "state=" + "A" * 43 + "&code=x", "state=<script>alert(1)</script>&code=x",
    "state=A&return_url=https://evil.test",
])
async def test_a_strange_address_is_answered_and_does_nothing(
    api: Management, browser: httpx.AsyncClient, query: str
) -> None:
    """No 500, no redirect, no echo; what was begun can still be finished."""
    state = state_of(await api.good("POST", PATH, {"return_url": RETURN}))
    scope_query = query.replace("{state}", state).replace("\n", "%0a")
    answer = await browser.get(f"/connect/openrouter/callback?{scope_query}")

    assert answer.status_code == 404
    assert "location" not in answer.headers
    assert "<script>" not in answer.text
    assert "begun here" in answer.text
    await api.good("POST", f"{PATH}/finish", {"state": state, "code": "x"})


@pytest.mark.parametrize("more", ["", "&error=access_denied", "&code=x&error=access_denied", "&code="])
async def test_who_does_not_approve_is_told_so(api: Management, browser: httpx.AsyncClient, more: str) -> None:
    """Cancelled is no failure: the way back is to start again."""
    state = state_of(await api.good("POST", PATH, {}))
    answer = await browser.get(f"/connect/openrouter/callback?state={state}{more}")

    assert answer.status_code == 422
    assert "Nobody approved" in answer.text


async def test_other_paths_have_nothing(browser: httpx.AsyncClient) -> None:
    """The door has one address."""
    assert (await browser.get("/connect/")).status_code == 404
    assert (await browser.post("/connect/openrouter/callback")).status_code == 405
