"""Projects: names that calls carry; nothing is set up for them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.control.house import ACTOR
from tests.portal.receipts_made import attempt, write
from tests.portal.visiting import Portal, open_portal

from ownkey.domain.routing import Route
from ownkey.domain.workspace import Role

PATH = "/portal/projects"
USD = 10**9


@pytest.fixture
async def builder(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path, "app-builder") as portal:
        yield portal


async def three(portal: Portal) -> None:
    for ident, name in (("p_a", "Zoo"), ("p_b", "Bakery")):
        await portal.control.desk.projects.save(portal.workspace, ident, name, ACTOR)
    await write(portal, attempt(cost_nusd=3 * USD), project="p_a")
    await write(portal, attempt(route=Route.CREDITS, cost_nusd=USD), project="p_a", charge_credits=5, row="F13")
    await write(portal, attempt(cost_nusd=USD), project="p_new")
    await write(portal, attempt(cost_nusd=9 * USD), project=None)


async def test_old_and_new_projects_stand_side_by_side(builder: Portal) -> None:
    """G28: settings hold for all at once, and the page says so; a project that only calls have named is there too."""
    await three(builder)
    seen = await builder.get(PATH)

    assert "Projects hold no key and no rule of their own" in seen.text
    assert "what is set under Integrations applies to every project at once, to existing and to new ones" in seen.text
    names = [seen.text.find(part) for part in ("Zoo p_a 2 US$3.00 5", "p_new 1 US$1.00 0", "Bakery p_b 0 US$0.00 0",
                                               "no project 1 US$9.00 0")]
    assert -1 not in names
    assert names == sorted(names)
    assert '<a href="/portal/activity?project=p_a">Zoo</a>' in seen.html
    assert "never" in seen.text


@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN, Role.VIEWER])
async def test_figures_for_those_who_watch_the_money(builder: Portal, role: Role) -> None:
    """Calls, spend, credits, last call."""
    await three(builder)

    assert "US$3.00" in (await builder.get(PATH, role)).text


async def test_members_see_names_only_and_no_order_of_costs(builder: Portal) -> None:
    """Names in their own order: the order of costs would be a figure too."""
    await three(builder)
    seen = await builder.get(PATH, Role.MEMBER)
    names = [seen.text.find(name) for name in ("Bakery", "p_new", "Zoo")]

    assert -1 not in names
    assert names == sorted(names)
    for hidden in ("US$", "no project", "<table", "/portal/activity?", "data-project"):
        assert hidden not in seen.html.partition("<main")[2]


async def test_no_project_is_no_error(builder: Portal) -> None:
    """Nothing needs to be set up."""
    assert "No projects yet" in (await builder.get(PATH)).text


async def test_hostile_names_are_text(builder: Portal) -> None:
    """A project's name and id are the host's words."""
    await builder.control.desk.projects.save(builder.workspace, "p_x", "<b>bold</b>", ACTOR)
    await write(builder, attempt(), project='"><script>x</script>')
    await write(builder, attempt(), project="sk-or-v1-" + "a1" * 32)
    for role in (Role.OWNER, Role.MEMBER):
        seen = await builder.get(PATH, role)

        assert "&lt;b&gt;bold" in seen.html
        assert "<script>" not in seen.html
        assert "sk-or-v1-a1" not in seen.html
