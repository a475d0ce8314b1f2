"""Features: one switch per task, from the next call on, with its model, its month and its own numbers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.portal.receipts_made import attempt, write
from tests.portal.visiting import Portal, Seen, open_portal

from ownkey.domain.receipts import KEY_TEST
from ownkey.domain.routing import Route
from ownkey.domain.workspace import Role

PATH = "/portal/features"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as portal:
        yield portal


def card(seen: Seen, task: str) -> Seen:
    """The part of the page that is one task's."""
    part = seen.html.partition(f'<section class="card" id="{task}"')[2].partition('<section class="card" id=')[0]
    assert part, task
    return Seen(seen.status, seen.headers, f"<section {part}")


async def post(portal: Portal, path: str, form: dict[str, str], near: str, role: Role = Role.OWNER) -> Seen:
    page = await portal.get(PATH)
    return await portal.post(path, {"version": page.field("version", near), **form}, role)


async def is_on(portal: Portal, task: str) -> bool:
    workspace = await portal.control.again(portal.workspace)
    return next(view.on for view in portal.control.desk.features.list(workspace) if view.task.name == task)


async def test_the_products_defaults_stand_there(desk: Portal) -> None:
    """T24: triage, drafts, similar tickets and knowledge on; auto-reply off with threshold 85; translation off."""
    seen = await desk.get(PATH)
    states = {task: f'data-state="{state}"' in card(seen, task).html for task, state in {
        "auto_triage": "on", "draft_reply": "on", "auto_reply": "off", "similar_tickets": "on", "translation": "off",
        "knowledge": "on",
    }.items()}

    assert all(states.values()), states
    assert "Auto-reply threshold" in card(seen, "auto_reply").text
    assert 'value="85"' in card(seen, "auto_reply").html
    assert 'role="switch"' in card(seen, "auto_triage").html
    assert "openai/gpt-4.1-mini else google/gemini-2.5-flash-lite" in card(seen, "auto_triage").text


async def test_off_counts_from_the_next_call(desk: Portal) -> None:
    """T24, T22: the switch posts, the page says what became of it, and the data plane sees it."""
    seen = await post(desk, f"{PATH}/auto_triage", {"on": "off"}, "/auto_triage")
    after = await desk.follow(seen)

    assert not await is_on(desk, "auto_triage")
    assert "Auto-triage is off: its next call is refused with feature_disabled." in after.text
    assert "everything else in Support desk goes on" in after.text
    back = await desk.follow(await post(desk, f"{PATH}/auto_triage", {"on": "on"}, "/auto_triage"))
    assert "Auto-triage is on." in back.text
    assert await is_on(desk, "auto_triage")


async def test_the_switch_works_as_a_browser_sends_it(desk: Portal) -> None:
    """A checkbox that is on is sent behind the hidden "off"; one that is off is not sent at all."""
    page = await desk.get(PATH)
    form = card(page, "translation").html

    assert form.index('type="hidden" name="on" value="off"') < form.index('name="on" value="on"')


async def test_a_change_is_audited_with_its_person(desk: Portal) -> None:
    """Who, when, before and after."""
    await post(desk, f"{PATH}/translation", {"on": "on"}, "/translation", Role.ADMIN)
    rows = await desk.control.desk.audit.list(desk.workspace, 1)

    assert (rows[0]["action"], rows[0]["target"], rows[0]["actor_kind"]) == ("feature.changed", "translation", "member")


async def test_the_month_of_each_task_is_shown(desk: Portal) -> None:
    """Calls and spend of this month; a key's Test is no call of a task."""
    await write(desk, attempt(cost_nusd=1_250_000_000), task="draft_reply")
    await write(desk, attempt(cost_nusd=4_000_000), task="draft_reply")
    await write(desk, attempt(cost_nusd=None), task="auto_triage")
    await write(desk, attempt(), task=KEY_TEST)
    seen = await desk.get(PATH)

    assert "Calls in November 2 Spend in November US$1.25" in card(seen, "draft_reply").text
    assert 'value="1.254"' in card(seen, "draft_reply").html
    assert "1 call of unknown cost" in card(seen, "auto_triage").text
    assert "Calls in November 0 Spend in November US$0.00" in card(seen, "knowledge").text


async def test_credits_are_no_dollars(tmp_path: Path) -> None:
    """What credits paid is told in credits, and is no spend of the workspace's keys."""
    async with open_portal(tmp_path, "app-builder") as portal:
        await write(portal, attempt(route=Route.CREDITS, cost_nusd=9_000_000), task="build_app", charge_credits=7,
                    charge_nusd=70_000_000, row="F13")
        seen = await portal.get(PATH)

    assert "Spend in November US$0.00 · 7 credits" in card(seen, "build_app").text


@pytest.mark.parametrize("typed", ["101", "-1", "x", "", "85.5", "٨٥", "1" * 30, "<b>"])
async def test_a_wrong_number_comes_back_as_it_was_typed(desk: Portal, typed: str) -> None:
    """422, with the input, the sentence and its place; nothing is saved."""
    seen = await post(desk, f"{PATH}/auto_reply/options", {"option_threshold": typed}, "/auto_reply/options")

    assert seen.status == 422
    assert "threshold is a whole number from 0 to 100." in seen.text
    assert 'href="#auto_reply-threshold"' in seen.html
    assert 'aria-invalid="true"' in card(seen, "auto_reply").html
    assert "<b>" not in card(seen, "auto_reply").html
    workspace = await desk.control.again(desk.workspace)
    assert workspace.feature_settings.get("auto_reply", {}).get("threshold", 85) == 85


async def test_a_right_number_is_saved_without_touching_the_switch(desk: Portal) -> None:
    """The threshold alone changes."""
    seen = await post(desk, f"{PATH}/auto_reply/options", {"option_threshold": "70"}, "/auto_reply/options")
    after = await desk.follow(seen)

    assert "The options of Auto-reply are saved." in after.text
    assert 'value="70"' in card(after, "auto_reply").html
    assert not await is_on(desk, "auto_reply")


async def test_a_stale_form_is_told_the_present_state(desk: Portal) -> None:
    """409 with the current values beside what was typed, and nothing is changed."""
    old = (await desk.get(PATH)).field("version", "/auto_reply/options")
    await post(desk, f"{PATH}/auto_reply/options", {"option_threshold": "70"}, "/auto_reply/options")
    for path, form in (("/options", {"option_threshold": "60"}), ("", {"on": "on"})):
        seen = await desk.post(f"{PATH}/auto_reply{path}", {"version": old, **form})

        assert seen.status == 409
        assert "changed in the meantime" in card(seen, "auto_reply").text
        assert f'value="{form.get("option_threshold", "70")}"' in card(seen, "auto_reply").html
        told = "Auto-reply threshold is 70 now; the field holds what you typed."
        assert (told in card(seen, "auto_reply").text) is ("option_threshold" in form)
    assert not await is_on(desk, "auto_reply")


async def test_another_tasks_change_makes_no_form_stale(desk: Portal) -> None:
    """Two people may switch two tasks."""
    version = (await desk.get(PATH)).field("version", "/translation")
    await post(desk, f"{PATH}/auto_triage", {"on": "off"}, "/auto_triage")

    assert (await desk.post(f"{PATH}/translation", {"version": version, "on": "on"})).status == 303


async def test_a_task_that_is_none_changes_nothing(desk: Portal) -> None:
    """An address that somebody made up, or a task that the product no longer has."""
    assert (await desk.post(f"{PATH}/nothing", {"on": "on"})).status == 409


@pytest.mark.parametrize(("role", "manages", "spend"), [
    (Role.OWNER, True, True), (Role.ADMIN, True, True), (Role.VIEWER, False, True), (Role.MEMBER, False, False),
])
async def test_each_role_gets_its_part(desk: Portal, role: Role, manages: bool, spend: bool) -> None:
    """Owners and admins manage; the others read, members without amounts; the server enforces it."""
    await write(desk, attempt(cost_nusd=1_250_000_000), task="draft_reply")
    seen = await desk.get(PATH, role)

    assert ("<form" in seen.html.partition("<main")[2]) is manages
    assert ("US$1.25" in seen.text) is spend
    assert ("US$" in seen.html) is spend
    assert ("Auto-reply threshold 85" in seen.text) is not manages
    if not manages:
        assert (await desk.post(f"{PATH}/auto_triage", {"on": "off"}, role)).status == 403
        assert (await desk.post(f"{PATH}/auto_reply/options", {"option_threshold": "1"}, role)).status == 403
        assert await is_on(desk, "auto_triage")


async def test_the_done_line_says_what_is_so(desk: Portal) -> None:
    """An address cannot make the page claim what is not so."""
    seen = await desk.get(f"{PATH}?done=off&task=auto_triage")

    assert "Auto-triage is on." in seen.text
    assert "is off: its next call" not in seen.text
    assert 'id="done"' not in (await desk.get(f"{PATH}?done=off&task=<b>")).html
