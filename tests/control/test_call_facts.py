"""The rules of a call's time come out of the audit log, and a running call out of its holds."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.control.house import ACTOR, House, open_house
from tests.store.store_kit import finish, request, settle

from ownkey.control.call_facts import Rule
from ownkey.domain.records import Actor
from ownkey.domain.workspace import EntitlementState, WorkspaceState


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, "app-builder") as opened:
        yield opened


async def rules(house: House, workspace: WorkspaceState, at_ms: int, **fields: Any) -> Mapping[str, Rule]:
    now = await house.again(workspace)
    receipt = {"at_ms": at_ms, "cap": None, "price_version": None, **fields}
    return {rule.name: rule for rule in await house.desk.call_facts.rules(now, receipt)}


async def test_a_rule_is_what_it_was_and_who_set_it(house: House) -> None:
    """Before, between and after two changes, each by somebody else."""
    workspace, times = await house.workspace(), []
    for value, actor in ((True, ACTOR), (False, Actor("operator", "op_1")), (True, Actor("member", "gone"))):
        house.clock.pass_s(100)
        times.append(house.clock.now_ms())
        await house.desk.workspaces.change(await house.again(workspace), {"always_use_key": value}, actor)
    found = [(await rules(house, workspace, at))["always_use_key"] for at in
             (times[0] - 1, times[0], times[1] + 5, times[2] + 5)]

    assert [rule.value for rule in found] == [False, True, False, True]
    assert [rule.changed_by for rule in found] == ["", house.product.name, "an operator", "a member who has left"]
    assert [rule.changed_at_ms for rule in found] == [None, *times]


async def test_the_cap_is_the_receipts_own_and_its_author_the_logs(house: House) -> None:
    """The receipt has the figure; the log has the person."""
    workspace = await house.workspace()
    await house.desk.caps.save(workspace, "10", 80, ACTOR)
    at = house.clock.now_ms()
    house.clock.pass_s(10)
    await house.desk.caps.save(workspace, "99", 80, Actor("operator", "op_1"))
    found = await rules(house, workspace, at + 1, cap={"cap_nusd": 10**10, "period": "2026-11"}, price_version=1)

    assert found["cap_nusd"] == Rule("cap_nusd", 10**10, house.product.name, at)
    assert (found["price_version"].value, found["price_version"].changed_by) == (1, "the price list")


async def test_an_entitlement_of_then_is_not_the_one_of_now(house: House) -> None:
    """An operator's word is a change; what stood before it is told of earlier calls."""
    workspace = await house.workspace(plan="free")
    house.clock.pass_s(10)
    early = house.clock.now_ms()
    house.clock.pass_s(10)
    await house.desk.workspaces.set_entitlement(await house.again(workspace), EntitlementState.INCLUDED, ACTOR)
    late = house.clock.now_ms() + 1

    assert (await rules(house, workspace, late))["entitlement"].value == "included"
    assert (await rules(house, workspace, early))["entitlement"].value == "none"


async def test_a_call_runs_until_its_receipt_is_there(house: House) -> None:
    """Its holds and names; nothing of another workspace's; nothing after its end."""
    workspace, other = await house.workspace(), await house.workspace("Other")
    context = '{"task":"build_app","requested_model":"m","at_ms":7}'
    asked = request(workspace.id, 5_000, call_id="call_x", context=context)
    await house.store.hold(asked)
    running = await house.desk.call_facts.running(workspace, "call_x")

    assert running is not None
    assert (running.task, running.requested_model, running.at_ms, running.attempts) == ("build_app", "m", 7, 1)
    assert [(hold.attempt, hold.bound_nusd) for hold in running.holds] == [(1, 5_000)]
    assert await house.desk.call_facts.running(other, "call_x") is None
    await finish(house.store, asked, settle(asked, 4_000))
    assert await house.desk.call_facts.running(workspace, "call_x") is None
