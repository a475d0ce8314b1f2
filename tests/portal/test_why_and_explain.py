"""Why and Explain as pages: the gates with their one fix, a dry run that agrees with the call, and who sees what."""


import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.control.house import ACTOR, KEYS
from tests.portal.key_pages import save_platform_key
from tests.portal.visiting import Portal, Seen, open_portal
from tests.store.store_kit import request

from ownkey.domain.portal import Page
from ownkey.domain.workspace import EntitlementState, Role


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as portal:
        yield portal


@pytest.fixture
async def builder(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path, "app-builder") as portal:
        yield portal


async def change(portal: Portal, **changes: Any) -> None:
    control = portal.control
    await control.desk.workspaces.change(await control.again(portal.workspace), changes, ACTOR)


def codes(seen: Seen) -> dict[str, str]:
    """Task → code, as the cards carry it."""
    return dict(re.findall(r'data-task="(\w+)" data-code="(\w*)"', seen.html))


async def test_one_reason_for_all_is_said_once_with_its_one_fix(desk: Portal) -> None:
    """T2: no key; one panel on top, one button, and each task that is on has the same code."""
    seen = await desk.get("/portal/why")
    found = codes(seen)

    assert "No AI feature answers now" in seen.text
    assert found["auto_triage"] == found["draft_reply"] == "openrouter_key_required"
    assert found["translation"] == "feature_disabled"
    assert 'href="/portal/credentials#openrouter"' in seen.html
    assert seen.html.count("<h1") == 1


async def test_open_gates_say_who_pays(desk: Portal) -> None:
    """G29: nothing is shut; the page says so, and who pays."""
    await desk.control.save_key(desk.workspace)
    for task in desk.control.product.tasks:
        await desk.control.desk.features.save(await desk.control.again(desk.workspace), task, True, {}, ACTOR)
    seen = await desk.get("/portal/why")

    assert set(codes(seen).values()) == {""}
    assert "AI is not silent" in seen.text
    assert "pays for every AI call" in seen.text


async def test_what_is_switched_off_is_never_called_open(desk: Portal) -> None:
    """T24: with one feature off the others' calls are sent; with all of them off nothing is; and the one that was asked
    for is named."""
    await desk.control.save_key(desk.workspace)
    some = await desk.get("/portal/why")
    one = await desk.get("/portal/why?task=translation")
    for task in desk.control.product.tasks:
        await desk.control.desk.features.save(await desk.control.again(desk.workspace), task, False, {}, ACTOR)
    none = await desk.get("/portal/why")

    assert "AI is not silent Calls of every feature that is switched on are sent." in some.text
    assert "Translation is switched off Its calls are refused until it is switched on." in one.text
    assert "Every feature is switched off Calls are refused until one of them is switched on." in none.text
    for seen in (some, one, none):
        assert "Every gate is open" not in seen.text
    assert "not silent" not in one.text + none.text


async def test_a_paused_cap_stands_behind_the_open_gates(desk: Portal) -> None:
    """T22: the cap is the first shut gate; those before it are told as open, and the button leads to the cap."""
    control = desk.control
    await control.save_key(desk.workspace)
    await control.desk.caps.save(await control.again(desk.workspace), "0", None, ACTOR)
    seen = await desk.get("/portal/why?task=auto_triage")

    assert codes(seen) == {"auto_triage": "ai_paused"}
    assert re.search(r"Open Payer and key\..*Shut Spend cap\.", seen.text)
    assert 'href="/portal/spend#cap"' in seen.html


@pytest.mark.parametrize("role", [Role.OWNER, Role.MEMBER])
async def test_a_busy_cap_is_told_as_busy_and_never_as_silence(desk: Portal, role: Role) -> None:
    """T22: calls in flight hold what is left: the gate is open, and the page says that a new call may have to wait."""
    control = desk.control
    await control.save_key(desk.workspace)
    await control.desk.caps.save(await control.again(desk.workspace), "10", None, ACTOR)
    now = control.clock.now_ms()
    await control.store.hold(request(desk.workspace.id, 10 * 10**9, at_ms=now, expires_at_ms=now + 60_000))
    seen = await desk.get("/portal/why", role)

    assert "Busy, not silent" in seen.text
    assert "a new call waits a moment" in seen.text
    assert set(codes(seen).values()) <= {"", "feature_disabled"}
    assert "10.00" not in seen.text


async def test_a_task_that_is_off_leads_to_its_switch(desk: Portal) -> None:
    """T24: the fix of the first gate is the switch of that task."""
    await desk.control.save_key(desk.workspace)
    seen = await desk.get("/portal/why?task=translation")

    assert codes(seen) == {"translation": "feature_disabled"}
    assert 'href="/portal/features#translation"' in seen.html


async def test_an_unknown_task_is_no_error(desk: Portal) -> None:
    """A stale or made-up link: an empty page with a way on, and the text is not repeated."""
    seen = await desk.get("/portal/why?task=%3Cscript%3Ealert(1)")

    assert seen.status == 200
    assert "There is no such feature" in seen.text
    assert "alert(1)" not in seen.html


async def test_a_fix_whose_page_this_visit_has_not_leads_to_the_host(tmp_path: Path) -> None:
    """A narrowed session: the host's own page, out of the frame, instead of a 404."""
    async with open_portal(tmp_path) as portal:
        portal.pages = (Page.ACTIVITY,)
        seen = await portal.get("/portal/why")

    assert f'href="{portal.control.product.fix_url("credential:openrouter")}" target="_top"' in seen.html


@pytest.mark.parametrize("role", Role)
async def test_roles_see_the_gates_and_only_managers_their_buttons(desk: Portal, role: Role) -> None:
    """T27: members and viewers read and are told whom to ask; no amount, hint or cap reaches a member."""
    control = desk.control
    await control.save_key(desk.workspace)
    await control.desk.caps.save(await control.again(desk.workspace), "0", None, ACTOR)
    seen = await desk.get("/portal/why", role)
    main = seen.html.partition("<main")[2]

    assert seen.status == 200
    assert codes(seen)["auto_triage"] == "ai_paused"
    manages = role in (Role.OWNER, Role.ADMIN)
    assert ('href="/portal/spend#cap"' in main) is manages
    assert ("Ask an owner or an admin" in seen.text) is not manages
    assert ("/portal/explain" in main) is manages
    if role is Role.MEMBER:
        assert "US$" not in seen.html
        assert KEYS["openrouter"][-4:] not in main
        assert "sk-or" not in main


async def test_a_member_sees_no_hint_where_ai_answers(builder: Portal) -> None:
    """T27: the payer sentence with its hint and limit is for the others."""
    await change(builder, plan="enterprise")
    await save_platform_key(builder)
    await builder.control.save_key(builder.workspace)
    member, owner = await builder.get("/portal/why", Role.MEMBER), await builder.get("/portal/why")

    assert "up to 500 this month" in owner.text
    assert "500" not in member.text


async def test_an_operator_who_looks_gets_no_buttons(desk: Portal) -> None:
    """View as workspace is read-only: words, no links to forms."""
    desk.more = {"kind": "view_as", "member_id": "op_1"}
    seen = await desk.get("/portal/why")

    assert 'class="button primary"' not in seen.html.partition("<main")[2]


# --- explain


async def test_explain_says_order_payer_hold_and_what_failures_lead_to(desk: Portal) -> None:
    """X7: each candidate, who would pay, what is held, and what follows a failure; nothing is sent or stored."""
    for provider in ("openrouter", "anthropic"):
        await desk.control.save_key(desk.workspace, provider)
    before = desk.control.store._near.execute("SELECT count(*) FROM receipt").fetchone()
    desk.control.upstream.sent.clear()
    seen = await desk.get("/portal/explain?task=draft_reply&size=4000&tokens=300")

    assert seen.status == 200
    assert "It would be answered" in seen.text
    assert re.search(r"Your Anthropic key sk-ant\S+…", seen.text)
    assert "at most 300 tokens" in seen.text
    assert "attempt 2 follows" in seen.text
    assert re.search(r"request refused \(\s*bad_request", seen.text)
    assert desk.control.upstream.sent == []
    assert desk.control.store._near.execute("SELECT count(*) FROM hold WHERE state = 'held'").fetchone() == (0,)
    assert desk.control.store._near.execute("SELECT count(*) FROM receipt").fetchone() == before


async def test_explain_tells_a_refusal_with_its_fix(builder: Portal) -> None:
    """Who would be refused learns the code, the sentence and the page that helps."""
    control = builder.control
    await control.desk.workspaces.set_entitlement(builder.workspace, EntitlementState.ACTIVE, ACTOR)
    await change(builder, always_use_key=True)
    seen = await builder.get("/portal/explain?task=plan_app&size=100")

    assert "It would be refused" in seen.text
    assert 'data-code="always_use_key_unavailable"' in seen.html
    assert 'href="/portal/credentials#openrouter"' in seen.html


async def test_explain_takes_a_model_and_a_size_that_does_not_fit(desk: Portal) -> None:
    """The cap: a call that could cost more than is left is refused beforehand, as the hold would refuse it."""
    control = desk.control
    await control.save_key(desk.workspace)
    await control.desk.caps.save(await control.again(desk.workspace), "0.05", None, ACTOR)
    small = await desk.get("/portal/explain?model=openai/gpt-4.1-mini&size=100&tokens=100")
    large = await desk.get("/portal/explain?model=openai/gpt-4.1-mini&size=900000&tokens=2000")

    assert "It would be answered" in small.text
    assert 'data-code="spend_cap_too_low"' in large.html
    assert 'href="/portal/spend#cap"' in large.html


async def test_explain_embeddings_and_unknown_models(desk: Portal) -> None:
    """Every endpoint: an embedding task, an embedding model, and a model that nobody makes."""
    await desk.control.save_key(desk.workspace)
    task = await desk.get("/portal/explain?task=knowledge&size=0")
    model = await desk.get("/portal/explain?model=openai/text-embedding-3-small")
    nobody = await desk.get("/portal/explain?model=gibberish%3Cb%3E")

    assert "It would be answered" in task.text
    assert "It would be answered" in model.text
    assert 'data-code="unknown_model"' in nobody.html
    assert "gibberish<b>" not in nobody.html


@pytest.mark.parametrize(("query", "field"), [
    ("task=&model=&size=10", "f-task"), ("task=nope", "f-task"), ("task=auto_triage&size=x", "f-size"),
    ("task=auto_triage&size=-1", "f-size"), ("task=auto_triage&size=99999999999", "f-size"),
    ("task=auto_triage&tokens=0", "f-tokens"), ("task=auto_triage&tokens=1.5", "f-tokens"),
    ("task=auto_triage&project=nope", "f-project"), ("model=" + "x" * 300, "f-model"),
])
async def test_a_wrong_field_is_named_and_what_was_typed_stays(desk: Portal, query: str, field: str) -> None:
    """422 with the form as it was sent; the error is tied to its field."""
    seen = await desk.get(f"/portal/explain?{query}")

    assert seen.status == 422
    assert f'<a href="#{field}">' in seen.html
    typed = dict(pair.split("=") for pair in query.split("&"))
    for name in ("size", "tokens"):
        if typed.get(name):
            assert f'name="{name}" type="text" value="{typed[name]}"' in seen.html


@pytest.mark.parametrize("role", Role)
async def test_explain_is_for_those_who_manage(desk: Portal, role: Role) -> None:
    """Section 2: owner and admin use it; members and viewers are told whom to ask."""
    seen = await desk.get("/portal/explain?task=auto_triage", role)

    assert seen.status == (200 if role in (Role.OWNER, Role.ADMIN) else 403)


async def test_a_project_is_part_of_the_call(desk: Portal) -> None:
    """Projects stand in the form by name and change nothing about who pays."""
    await desk.control.desk.projects.save(desk.workspace, "p1", "Website <b>", ACTOR)
    await desk.control.save_key(desk.workspace)
    seen = await desk.get("/portal/explain?task=auto_triage&project=p1")

    assert "It would be answered" in seen.text
    assert "Website &lt;b&gt;" in seen.html
    assert "Website <b>" not in seen.html


