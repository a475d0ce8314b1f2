"""Disabling and disconnecting over the API while Always use this key is on: what must be said, what one call does."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.api.management import Management, open_management

ONE = "/workspaces/own/credentials/openrouter"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Management]:
    async with open_management(tmp_path, "app-builder") as opened:
        await opened.good("PATCH", "/workspaces/own", {"plan": "enterprise"})
        await opened.house.save_key(opened.own)
        await opened.good("PATCH", "/workspaces/own", {"always_use_key": True})
        yield opened


async def always(api: Management) -> bool:
    return bool((await api.good("GET", "/workspaces/own"))["always_use_key"])


async def test_disconnecting_asks_for_a_word(api: Management) -> None:
    """AI would stop: either that is acknowledged, or Always goes off with the key."""
    refused = await api.bad(409, "DELETE", ONE)

    assert refused["code"] == "acknowledgement_required"
    assert "also_turn_off_always" in refused["fix"]["text"]
    assert await always(api)


async def test_disconnecting_with_the_acknowledgement_keeps_always_on(api: Management) -> None:
    """AI is stopped, as was said, and no credit can be touched."""
    done = await api.good("DELETE", f"{ONE}?acknowledge_ai_stops=true")

    assert await always(api)
    assert "AI calls are stopped" in done["payer_sentence"]


async def test_disconnecting_and_turning_always_off_is_one_call(api: Management) -> None:
    """No acknowledgement is needed: AI goes on, and credits pay."""
    done = await api.good("DELETE", f"{ONE}?also_turn_off_always=true")

    assert not await always(api)
    assert done["message"] == "The key is disconnected and destroyed. Always use this key is off."
    assert "stopped" not in done["payer_sentence"]


@pytest.mark.parametrize(("body", "stays"), [
    ({}, True), (None, True), ({"acknowledge_ai_stops": True}, True), ({"also_turn_off_always": True}, False),
])
async def test_disabling_needs_no_word_and_may_turn_always_off(
    api: Management, body: dict[str, bool] | None, stays: bool
) -> None:
    """It is undone by one click; the sentence says who pays until then."""
    done = await api.good("POST", f"{ONE}/disable", body)

    assert await always(api) is stays
    assert ("stopped" in done["payer_sentence"]) is stays


async def test_always_speaks_of_the_workspaces_openrouter_key_only(api: Management, tmp_path: Path) -> None:
    """With the platform's key, or another provider's, the flag is a mistake, and nothing is changed."""
    refused = await api.bad(
        400, "POST", "/platform/credentials/openrouter/disable", {"also_turn_off_always": True}, who="operator"
    )
    (tmp_path / "desk").mkdir()
    async with open_management(tmp_path / "desk", "support-desk") as desk:
        await desk.house.save_key(desk.own, "anthropic")
        one = "/workspaces/own/credentials/anthropic"
        direct = [
            await desk.bad(400, "DELETE", f"{one}?also_turn_off_always=true"),
            await desk.bad(400, "POST", f"{one}/disable", {"also_turn_off_always": True}),
        ]
        (card,) = [c for c in (await desk.good("GET", "/workspaces/own/credentials"))["credentials"]
                   if c["provider"] == "anthropic"]

    assert {error["param"] for error in (refused, *direct)} == {"also_turn_off_always"}
    assert await always(api)
    assert card["state"] == "waiting_for_openrouter"


async def test_staff_may_disable_a_key_and_not_the_switch(api: Management) -> None:
    """Support stops a leaking key; who pays is the customer's wish."""
    refused = await api.bad(403, "POST", f"{ONE}/disable", {"also_turn_off_always": True}, who="ops")
    await api.good("POST", f"{ONE}/disable", {}, who="ops")

    assert refused["code"] == "forbidden"
    assert await always(api)
