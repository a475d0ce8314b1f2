"""A key's card knows who saved it, when this very key was tested, and what calls have met since it failed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.control.house import ACTOR, KEYS, House, open_house

from ownkey.domain.health import Evidence, Sign
from ownkey.domain.receipts import KEY_TEST, Receipt
from ownkey.domain.records import Actor, Member
from ownkey.domain.routing import Funding
from ownkey.domain.workspace import Role, WorkspaceState


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


async def save(house: House, workspace: WorkspaceState, key: str, actor: Actor) -> None:
    await house.desk.credentials.save(
        await house.again(workspace), "openrouter", key, label="", save_anyway=False, address="", actor=actor
    )


async def call(house: House, workspace: WorkspaceState, n: int, **fields: Any) -> None:
    known: dict[str, Any] = {
        "id": f"rcpt_{n}", "workspace_id": workspace.id, "at_ms": house.clock.now_ms(), "token_id": "t",
        "endpoint": "chat", "dialect": "openai", "task": "draft_reply", "requested_model": "openai/gpt-4.1",
        "served_model": None, "stream": False, "project": None, "conversation": None, "member": None, "row": None,
        "funding": Funding.BYOK, "route": None, "provider": "openrouter", "status": 200, "code": None, "message": "",
    }
    await house.store.end_call(None, Receipt(**{**known, **fields}))


@pytest.mark.parametrize(("actor", "name"), [
    (Actor("member", "u_1"), "Ada"), (Actor("member", "u_2"), "a member"),
    (Actor("member", "u_gone"), "a member who has left"),
    (Actor("service", "tok_1"), "Support desk"), (Actor("operator", "op_1"), "an operator"), (Actor("job", "x"), ""),
])
async def test_whoever_saved_it_is_named(house: House, actor: Actor, name: str) -> None:
    """By what the host says of its people; the last who saved counts."""
    workspace = await house.workspace()
    for member_id, called in (("u_1", "Ada"), ("u_2", "")):
        await house.store.save_member(
            Member(workspace.id, member_id, f"{member_id}@example.com", called, Role.OWNER), at_ms=1, actor=ACTOR
        )
    await save(house, workspace, KEYS["openrouter"], ACTOR)
    await save(house, workspace, KEYS["openrouter"], actor)
    found = (await house.desk.key_past.saved(await house.again(workspace)))["openrouter"]

    assert found.saved_by == name
    assert found.saved_at_ms == house.clock.now_ms()


async def test_only_this_very_key_was_tested(house: House) -> None:
    """A Test of another key says nothing; one before the Save, of the same key, does."""
    workspace = await house.workspace()
    run = house.desk.key_test.run
    await run(workspace, "openrouter", KEYS["openrouter"], address="", actor=ACTOR, token_id="t")
    tested_ms = house.clock.now_ms()
    await save(house, workspace, KEYS["openrouter"], ACTOR)
    house.clock.pass_s(5)
    await run(workspace, "openrouter", KEYS["openrouter"][:-4] + "beef", address="", actor=ACTOR, token_id="t")
    found = (await house.desk.key_past.saved(await house.again(workspace)))["openrouter"]
    await save(house, workspace, KEYS["openrouter"][:-4] + "cafe", ACTOR)
    replaced = (await house.desk.key_past.saved(await house.again(workspace)))["openrouter"]

    assert (found.tested_ms, found.found) == (tested_ms, "works")
    assert (replaced.tested_ms, replaced.found) == (None, "")


async def test_what_a_direct_keys_failing_concerns(house: House) -> None:
    """Calls for its provider's models, whoever answered them, since it began; no Test, and nobody else's models."""
    workspace = await house.workspace()
    await house.save_key(workspace, "openrouter")
    await house.save_key(workspace, "anthropic")
    key = (await house.again(workspace)).credentials["anthropic"]
    await call(house, workspace, 1, served_model="anthropic/claude-sonnet-4.5")
    house.clock.pass_s(10)
    await house.store.note_health(
        workspace.id, key.id, key.version, Evidence(Sign.REJECTED, "401 auth", house.clock.now_ms())
    )
    await call(house, workspace, 2, served_model="anthropic/claude-sonnet-4.5")
    await call(house, workspace, 3, requested_model="anthropic/claude-haiku-4.5", provider=None, status=502,
               code="credential_rejected")
    await call(house, workspace, 4, provider="anthropic", served_model="claude-haiku-4-5")
    await call(house, workspace, 5, served_model="openai/gpt-4.1")
    await call(house, workspace, 6, provider="anthropic", task=KEY_TEST)
    found = await house.desk.key_past.open_incidents(await house.again(workspace))

    assert [(one.incident.provider, one.toll.calls, one.toll.refused) for one in found] == [("anthropic", 3, 1)]


async def test_another_workspaces_calls_do_not_count(house: House) -> None:
    """Each reads its own."""
    workspace, other = await house.workspace(), await house.workspace("Other")
    await house.save_key(workspace, "openrouter")
    key = (await house.again(workspace)).credentials["openrouter"]
    await house.store.note_health(
        workspace.id, key.id, key.version, Evidence(Sign.REJECTED, "401 auth", house.clock.now_ms())
    )
    await call(house, other, 1, code="credential_rejected", status=502)

    assert (await house.desk.key_past.open_incidents(await house.again(workspace)))[0].toll.calls == 0
    assert await house.desk.key_past.open_incidents(other) == []
