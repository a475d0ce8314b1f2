"""The receipt's page: headline, attempts, rules, money and technical side, each to those who may see it."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.control.house import ACTOR
from tests.portal.receipts_made import attempt, failed, write
from tests.portal.visiting import Portal, open_portal
from tests.store.store_kit import request as hold_request

from ownkey.domain.receipts import Basis, Correction, HoldState, Skip
from ownkey.domain.records import Actor, Member
from ownkey.domain.routing import Funding, Route
from ownkey.domain.workspace import Role

OPEN = "circuit open after status 503, 4.2 s left"
SECRET = "sk-or-v1-" + "a1" * 32
FULL = (Role.OWNER, Role.ADMIN, Role.VIEWER)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as portal:
        yield portal


@pytest.fixture
async def builder(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path, "app-builder") as portal:
        yield portal


async def rescued(portal: Portal, **fields: object) -> str:
    receipt = await write(
        portal, failed(1, ended_ms=400), attempt(2, started_ms=400, first_content_ms=1_100, ended_ms=3_200),
        skips=(Skip(Route.DIRECT, "openai", "openai/gpt-4.1", OPEN),), **fields,
    )
    return f"/portal/calls/{receipt.id}"


@pytest.mark.parametrize("role", FULL)
async def test_the_receipt_tells_everything_in_order(desk: Portal, role: Role) -> None:
    """X2, T25: headline, attempts with their picture, skipped routes, rules, money, technical side."""
    seen = await desk.get(await rescued(desk), role)

    assert seen.status == 200
    order = [
        "Anthropic answered 429 (rate limit), so your OpenRouter key answered and paid US$0.0034.",
        "Attempts", "Anthropic failed after 400 ms, OpenRouter answered in 2.8 s.", "429 rate_limit", "Slow down.",
        f"Not tried: {OPEN}", "Rules in force", "If a direct key is rejected", "Monthly spend cap (USD) US$50.00",
        "Money", "US$0.005 held → released", "US$0.005 held → settled at US$0.0034", "actual", "Together (actual)",
        "US$12.00 of US$50.00", "US$12.40 of US$50.00 · November", "Technical", "Trace ticket-7",
        "Input tokens 1,200", "Output tokens 300", "No prompt and no answer is stored.",
    ]
    place = 0
    for part in order:
        place = seen.text.find(part, place)
        assert place >= 0, part
    for part in ("Team key sk-ant-…c1d2", "Team key sk-or-v1-…9f3c", "req_1", "req_2", "Copy JSON"):
        assert part in seen.text
    assert "Your OpenRouter key …9f3c" in seen.text
    assert seen.html.count("<h1") == 1
    assert 'role="img"' in seen.html


async def test_a_member_reads_no_amount_no_hint_no_cap_and_no_export(desk: Portal) -> None:
    """T27: what happened and when, and nothing that has a figure of money or a key in it; not in any attribute."""
    path = await rescued(desk, member="u_9")
    seen = await desk.get(path, Role.MEMBER)

    assert seen.status == 200
    assert "so your OpenRouter key answered and paid." in seen.text
    assert "redits" not in seen.text
    assert "429 rate_limit" in seen.text
    assert "Paid by Your OpenRouter key Outcome" in seen.text
    for hidden in ("US$", "9f3c", "c1d2", "Team key", "Monthly spend cap", "0.0034", "3400000", "Copy JSON", "u_9",
                   "tok_1", "Slow down.", "Money", "US$50"):
        assert hidden not in seen.html, hidden
    assert (await desk.get(f"{path}/receipt.json", Role.MEMBER)).status == 403


async def test_a_member_finds_their_own_name(desk: Portal) -> None:
    """Whose call it was is told to that very person."""
    assert "Member u_1" in (await desk.get(await rescued(desk, member="u_1"), Role.MEMBER)).text


async def test_hostile_text_is_escaped_scrubbed_and_cut(desk: Portal) -> None:
    """Labels, models, trace ids and providers' words are text, without credentials, and end somewhere."""
    bad = f'<script>alert(1)</script>" onmouseover="x {SECRET}'
    skip = Skip(Route.DIRECT, bad, bad, bad)
    receipt = await write(
        desk, failed(1, provider="anthropic", model=bad, credential_label=bad, message=bad + "y" * 5_000, signal=bad,
                     request_id=bad, dropped=(bad,)),
        attempt(2), skips=(skip,), task=bad, requested_model=bad, served_model=bad, project=bad, conversation=bad,
        member=bad, finish_reason=bad, notes=(bad,), code="provider_unavailable", message=bad,
    )
    for role in (Role.OWNER, Role.MEMBER):
        seen = await desk.get(f"/portal/calls/{receipt.id}", role)

        assert seen.status == 200
        assert "<script>alert" not in seen.html
        assert '" onmouseover="x' not in seen.html
        assert SECRET not in seen.html
        assert "y" * 2_000 not in seen.html.partition('<pre id="receipt-json"')[0]
    assert SECRET not in (await desk.get(f"/portal/calls/{receipt.id}/receipt.json")).html


async def test_the_json_is_the_receipt_with_amounts_as_text(desk: Portal) -> None:
    """A file of its own, and the same text to copy."""
    path = await rescued(desk)
    seen = await desk.get(f"{path}/receipt.json", Role.VIEWER)
    doc = json.loads(seen.html)

    assert seen.headers["content-type"].startswith("application/json")
    assert "attachment" in seen.headers["content-disposition"]
    assert doc["cost_nusd"] == "3400000"
    assert doc["attempts"][1]["usage"]["input"] == 1_200
    assert doc["cap"]["cap_nusd"] == "50000000000"


async def test_a_running_call_says_so_and_comes_again(desk: Portal) -> None:
    """A hold is open and no receipt is written: the page refreshes itself, and shows the receipt in the end."""
    store, clock = desk.control.store, desk.control.clock
    asked = hold_request(
        desk.workspace.id, 4_000_000, at_ms=clock.now_ms(), expires_at_ms=clock.now_ms() + 60_000, call_id="call_run",
        context='{"task":"draft_reply","requested_model":"openai/gpt-4.1"}',
    )
    await store.hold(asked)
    for role, held in ((Role.OWNER, True), (Role.MEMBER, False)):
        seen = await desk.get("/portal/calls/call_run", role)

        assert seen.status == 200
        assert 'http-equiv="refresh" content="3"' in seen.html
        assert "This call is still running" in seen.text
        assert "draft_reply" in seen.text
        assert ("US$0.004" in seen.text) is held
    found = await desk.get("/portal/activity?receipt=call_run")
    assert found.headers["location"] == "/portal/calls/call_run"

    await store.expire_holds(clock.now_ms() + 120_000)
    seen = await desk.get("/portal/calls/call_run")
    assert "The call ended without a report; US$0.0040 is booked as estimated." in seen.text
    assert "expired, US$0.004 booked" in seen.text


async def test_strangers_and_strange_ids_are_answered_alike(desk: Portal) -> None:
    """Another workspace's receipt does not exist here."""
    other = await desk.control.workspace("Other")
    receipt = await write(replace(desk, workspace=other), attempt())
    for path in (f"/portal/calls/{receipt.id}", "/portal/calls/call_none", "/portal/calls/%3Cscript%3E"):
        seen = await desk.get(path)

        assert seen.status == 404
        assert "<script>" not in seen.html
        assert (await desk.get(f"{path}/receipt.json")).status == 404


async def test_rules_are_those_of_the_calls_time_with_who_set_them(builder: Portal) -> None:
    """What was changed afterwards is not what the call met; each change has a name and a time."""
    house, ada = builder.control, Actor("member", "u_ada")
    await house.store.save_member(
        Member(builder.workspace.id, "u_ada", "ada@example.com", "Ada <b>", Role.OWNER), at_ms=1, actor=ACTOR
    )
    await house.desk.workspaces.change(builder.workspace, {"always_use_key": True}, ada)
    await house.desk.caps.save(builder.workspace, "20", 80, ACTOR)
    house.clock.pass_s(3_600)
    receipt = await write(builder, attempt(), row="F9")
    house.clock.pass_s(3_600)
    again = await house.again(builder.workspace)
    await house.desk.workspaces.change(again, {"always_use_key": False, "credits_if_key_fails": False}, ACTOR)
    seen = await builder.get(f"/portal/calls/{receipt.id}")

    rules = seen.text.partition("Rules in force")[2].partition("Money")[0]
    assert "Always use this key On 18 Nov 2026, 11:06 UTC by Ada <b>" in rules
    assert "Use credits if my key fails On not since the workspace began" in rules
    assert "Monthly spend cap (USD) US$50.00 18 Nov 2026, 11:06 UTC by App builder" in rules
    assert "Price version 1" in rules
    assert "Ada <b>" not in seen.html
    member = (await builder.get(f"/portal/calls/{receipt.id}", Role.MEMBER)).text
    assert "Always use this key On" in member
    assert "Monthly limit of that" not in member


async def test_charges_and_corrections_are_told(builder: Portal) -> None:
    """G24: what credits were taken, what the platform bore, and what a later report changed."""
    receipt = await write(
        builder, attempt(1, route=Route.CREDITS, basis=Basis.ACTUAL, cost_nusd=1_000_000,
                         correction=Correction("generation", 4_000_000, Basis.ESTIMATED, 1_000_000, 1_795_000_000_000)),
        row="F13", charge_credits=3, charge_nusd=30_000_000, absorbed_nusd=2_000_000,
    )
    seen = await builder.get(f"/portal/calls/{receipt.id}")

    assert "3 credits paid because no key of yours is in force. One attempt." in seen.text
    assert "Charge 3 credits (for AI worth US$0.03)" in seen.text
    assert "US$0.002 was borne by" in seen.text
    assert "corrected on 18 Nov 2026, 11:06 UTC: first booked as US$0.004, then US$0.001 was reported" in seen.text
    assert "the platform's" in seen.text
    member = (await builder.get(f"/portal/calls/{receipt.id}", Role.MEMBER)).text
    assert "Credits paid because" in member
    assert "3 credits" not in member


@pytest.mark.parametrize(("code", "row", "url"), [
    ("ai_paused", "F7", "/portal/spend#cap"), ("spend_cap_busy", "F8", "/portal/spend#cap"),
    ("openrouter_key_required", "F4", "/portal/credentials#openrouter"), ("addon_required", "F1", "/portal/plans"),
    ("feature_disabled", None, "/portal/features#auto_triage"), ("insufficient_credits", "F12", "/portal/plans"),
])
async def test_a_refusal_leads_to_its_fix(desk: Portal, code: str, row: str | None, url: str) -> None:
    """Those who can mend it get the way there; others are told whom to ask."""
    receipt = await write(desk, code=code, row=row, status=402, served_model=None, message="No.")
    path = f"/portal/calls/{receipt.id}"

    owner, viewer = await desk.get(path), await desk.get(path, Role.VIEWER)
    assert f'<a class="button primary" href="{url}">' in owner.html
    assert "No provider was called." in owner.text
    if 'href="/portal/plans"' in viewer.html or url != "/portal/plans":
        assert "Ask an owner or an admin" in viewer.text
    assert f'<a class="button primary" href="{url}">' not in viewer.html


async def test_credits_that_could_not_step_in_tell_members_no_figures(builder: Portal) -> None:
    """The reason of a skipped route may have figures in it."""
    skip = Skip(Route.CREDITS, "openrouter", "m", "This call could take up to 5 credits; free now: 3.")
    receipt = await write(
        builder, failed(1, route=Route.OPENROUTER, provider="openrouter", failure="funds", status=402), row="F10",
        code="credential_out_of_funds", status=502, served_model=None, skips=(skip,), message="No.",
    )
    full = (await builder.get(f"/portal/calls/{receipt.id}")).text
    member = (await builder.get(f"/portal/calls/{receipt.id}", Role.MEMBER)).text

    assert "free now: 3" in full
    assert "free now" not in member
    assert "credits could not step in" in member
    assert receipt.funding is Funding.BYOK
    assert receipt.attempts[0].state is HoldState.RELEASED
