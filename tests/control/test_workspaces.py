"""Workspaces, people, projects, tokens and plans: what is made, what may change, what is refused in words."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.control.house import ACTOR, House, open_house

from ownkey.control.problems import Problem, ProblemCode
from ownkey.control.tokens import NewToken
from ownkey.domain.entitlements import standing
from ownkey.domain.tokens import digest, is_well_formed
from ownkey.domain.workspace import EntitlementState, Role


@pytest.fixture
async def desk_house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, "support-desk") as house:
        yield house


@pytest.fixture
async def builder_house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, "app-builder") as house:
        yield house


async def refused(work: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        await work
    assert caught.value.message
    assert caught.value.fix
    return caught.value


async def test_a_product_without_plans_includes_own_keys(desk_house: House) -> None:
    """T2: nothing to buy in the support-desk preset."""
    workspace = await desk_house.workspace(external_id="acme")

    assert workspace.entitlement is EntitlementState.INCLUDED
    assert workspace.features["auto_triage"] is True
    assert workspace.features["auto_reply"] is False
    assert (await desk_house.desk.workspaces.find("acme")).id == workspace.id


async def test_a_plan_gives_its_first_entitlement_and_its_credits_once(builder_house: House) -> None:
    """G5, G6, G30: what the plan says holds from the first moment, and its credits arrive once."""
    product = builder_house.product
    for plan in product.plans.values():
        workspace = await builder_house.workspace(plan.name, plan=plan.name)
        expected = EntitlementState.INCLUDED if plan.byok == "included" else EntitlementState.NONE
        wallet = await builder_house.desk.credits.show(workspace)

        assert workspace.entitlement is expected
        assert wallet.balance_credits == plan.grant_credits


async def test_coming_back_to_a_plan_grants_nothing_again(builder_house: House) -> None:
    """A plan's first credits arrive once in a workspace's life."""
    plans = {p.byok: p.name for p in builder_house.product.plans.values()}
    addon = next(p for p in builder_house.product.plans.values() if p.byok == "addon" and p.grant_credits)
    workspace = await builder_house.workspace(plan=addon.name)
    for plan in (plans["included"], addon.name):
        workspace = await builder_house.desk.workspaces.change(workspace, {"plan": plan}, ACTOR)
    included = builder_house.product.plans[plans["included"]].grant_credits

    wallet = await builder_house.desk.credits.show(workspace)

    assert wallet.balance_credits == addon.grant_credits + included


async def test_leaving_enterprise_begins_the_days_of_grace(builder_house: House) -> None:
    """Money, section 8: included → other plan → grace."""
    product = builder_house.product
    included = next(p.name for p in product.plans.values() if p.byok == "included")
    addon = next(p.name for p in product.plans.values() if p.byok == "addon")
    workspace = await builder_house.workspace(plan=included)

    left = await builder_house.desk.workspaces.change(workspace, {"plan": addon}, ACTOR)
    back = await builder_house.desk.workspaces.change(left, {"plan": included}, ACTOR)

    assert left.entitlement is EntitlementState.GRACE
    assert back.entitlement is EntitlementState.INCLUDED


async def test_changing_between_plans_with_the_add_on_changes_no_entitlement(builder_house: House) -> None:
    """Whoever has paid keeps what was paid for, and whoever has not gets nothing."""
    workspaces = builder_house.desk.workspaces
    addons = [p.name for p in builder_house.product.plans.values() if p.byok == "addon"]
    workspace = await builder_house.workspace(plan=addons[0])
    for state in (EntitlementState.ACTIVE, EntitlementState.NONE, EntitlementState.INACTIVE):
        workspace = await workspaces.set_entitlement(workspace, state, ACTOR)
        for plan in (addons[-1], addons[0]):
            workspace = await workspaces.change(workspace, {"plan": plan}, ACTOR)

            assert workspace.entitlement is state


async def test_switches_of_credits_do_not_exist_without_credits(desk_house: House) -> None:
    """A product whose customers always pay has nothing to switch, and says so."""
    workspace = await desk_house.workspace()

    problem = await refused(desk_house.desk.workspaces.change(workspace, {"always_use_key": True}, ACTOR))

    assert problem.param == "always_use_key"


async def test_always_use_this_key_is_kept(builder_house: House) -> None:
    """G17: the switch holds until it is switched."""
    workspace = await builder_house.workspace()

    changed = await builder_house.desk.workspaces.change(workspace, {"always_use_key": True}, ACTOR)

    assert changed.always_use_key
    assert (await builder_house.again(workspace)).always_use_key


@pytest.mark.parametrize(("fields", "param"), [
    ({"name": "  "}, "name"), ({"name": "x", "timezone": "Mars/Olympus"}, "timezone"),
    ({"name": "x", "external_id": "a/b"}, "external_id"), ({"name": "x", "external_id": "ws_1"}, "external_id"),
    ({"name": "x", "external_id": "platform"}, "external_id"), ({"name": "x", "plan": "gold"}, "plan"),
])
async def test_a_wrong_field_is_named(builder_house: House, fields: dict[str, str], param: str) -> None:
    """Every refusal says which field and what to write."""
    problem = await refused(builder_house.workspace(**fields))

    assert problem.param == param


async def test_an_external_id_is_taken_once(desk_house: House) -> None:
    """Two customers never share an id."""
    await desk_house.workspace(external_id="acme")

    problem = await refused(desk_house.workspace(external_id="acme"))

    assert problem.code is ProblemCode.CONFLICT


async def test_the_platforms_own_workspace_is_nobodys(builder_house: House) -> None:
    """It is in no list and under no id."""
    platform = await builder_house.desk.workspaces.platform(ACTOR)
    await builder_house.workspace()

    listed = await builder_house.desk.workspaces.list(None, 50)

    assert platform.id not in [w.id for w in listed]
    assert (await refused(builder_house.desk.workspaces.find(platform.id))).code is ProblemCode.NOT_FOUND
    assert (await builder_house.desk.workspaces.platform(ACTOR)).id == platform.id


async def test_a_deleted_workspace_is_gone(desk_house: House) -> None:
    """Its id answers like one that never was."""
    workspace = await desk_house.workspace()
    await desk_house.desk.workspaces.delete(workspace, ACTOR)

    assert (await refused(desk_house.desk.workspaces.find(workspace.id))).code is ProblemCode.NOT_FOUND


async def test_members_and_projects(desk_house: House) -> None:
    """T9, G28: people get alerts, projects group calls; both are the host's own ids."""
    workspace = await desk_house.workspace()
    members, projects = desk_house.desk.members, desk_house.desk.projects
    await members.save(workspace, "u1", "ada@example.com", "Ada", Role.OWNER, ACTOR)
    await projects.save(workspace, "p1", "Pelicans", ACTOR)

    assert [m.email for m in await members.list(workspace)] == ["ada@example.com"]
    assert dict(await projects.list(workspace)) == {"p1": "Pelicans"}
    assert (await refused(members.save(workspace, "u2", "no address", "", Role.MEMBER, ACTOR))).param == "email"
    await members.delete(workspace, "u1", ACTOR)
    assert (await refused(members.delete(workspace, "u1", ACTOR))).code is ProblemCode.NOT_FOUND


async def test_a_token_is_shown_once_and_found_by_its_digest(desk_house: House) -> None:
    """The store never sees the token, and the list shows only its end."""
    workspace = await desk_house.workspace()
    shown = await desk_house.desk.tokens.create(workspace, NewToken("ci"), ACTOR)

    principal = await desk_house.store.load_principal(digest(shown.token))

    assert is_well_formed(shown.token)
    assert shown.token not in repr(shown)
    assert principal is not None
    assert principal.workspace_id == workspace.id
    assert [row.last4 for row in await desk_house.desk.tokens.list(workspace)] == [shown.token[-4:]]
    await desk_house.desk.tokens.revoke(workspace, shown.row.token_id, ACTOR)
    assert await desk_house.store.load_principal(digest(shown.token)) is None


@pytest.mark.parametrize(("fields", "param"), [
    ({"scopes": frozenset({"manage"})}, "scopes"), ({"tasks": frozenset({"auto_triag"})}, "tasks"),
    ({"expires_at_ms": 1}, "expires_at"), ({"scopes": frozenset()}, "scopes"),
])
async def test_a_workspace_token_never_gets_more_than_it_may(
    desk_house: House, fields: dict[str, Any], param: str
) -> None:
    """Security, section 8: rights are a subset of the creator's, and a typo in a task is told."""
    workspace = await desk_house.workspace()

    problem = await refused(desk_house.desk.tokens.create(workspace, NewToken("x", **fields), ACTOR))

    assert problem.param == param


async def test_grace_ends_by_itself(builder_house: House) -> None:
    """G5, G6: three days after leaving a plan that includes BYOK the entitlement is gone, without any job."""
    made = await builder_house.workspace("Leaver", plan="enterprise")
    left = await builder_house.desk.workspaces.change(made, {"plan": "pro"}, ACTOR)
    assert left.grace_until_ms is not None

    before = standing(left, left.grace_until_ms - 1)
    after = standing(left, left.grace_until_ms)
    back = await builder_house.desk.workspaces.change(left, {"plan": "enterprise"}, ACTOR)

    assert before.entitlement is EntitlementState.GRACE
    assert after.entitlement is EntitlementState.NONE
    assert left.grace_until_ms - builder_house.clock.now_ms() == 3 * 86_400_000
    assert (back.entitlement, back.grace_until_ms) == (EntitlementState.INCLUDED, None)


async def test_a_new_workspace_has_the_products_alert_threshold(tmp_path: Path) -> None:
    """T25: the configured default threshold is what a new workspace's cap begins with, and keeps."""
    async with open_house(tmp_path, "support-desk", extra="[spend]\ndefault_threshold = 60\n") as house:
        workspace = await house.workspace()

        saved = await house.desk.caps.save(workspace, "10", None, ACTOR)

        assert saved.threshold == 60
