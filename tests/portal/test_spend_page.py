"""Spend: cap and meter, pause and busy, the chart with its table and file, savings and credits, by role."""

import csv
import io
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.control.house import ACTOR
from tests.portal.key_pages import entitle, save
from tests.portal.receipts_made import attempt, failed, write
from tests.portal.test_cap_form import spend
from tests.portal.visiting import Portal, Seen, open_portal
from tests.store.store_kit import request as hold_request

from ownkey.domain.money import format_usd
from ownkey.domain.portal import Page
from ownkey.domain.records import CapSetting, ReceiptFilter
from ownkey.domain.routing import Route
from ownkey.domain.workspace import Role
from ownkey.portal.spend import is_busy

PATH = "/portal/spend"
USD = 10**9
FULL = (Role.OWNER, Role.ADMIN, Role.VIEWER)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as portal:
        yield portal


@pytest.fixture
async def builder(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path, "app-builder") as portal:
        yield portal


def nusd(text: str) -> int:
    """A decimal text of dollars, exactly."""
    whole, _, rest = text.replace(",", "").partition(".")
    return int(whole) * USD + int(rest.ljust(9, "0") or "0")


def table(seen: Seen) -> dict[str, int]:
    """Key → exact cost, of the page's table; "" is the sum."""
    part = seen.html.partition('id="spend-table"')[2].partition("</table>")[0]
    body, _, foot = part.partition("<tfoot>")
    rows = {}
    for row in body.split("<tr data-key=")[1:]:
        rows[row[1:].partition('"')[0] or "none"] = nusd(re.findall(r'<data value="([\d.]+)"', row)[-1])
    rows[""] = nusd(re.findall(r'<data value="([\d.]+)"', foot)[-1])
    return rows


def bars(seen: Seen) -> dict[str, int]:
    """Day → exact cost, of the chart's own words."""
    names = re.findall(r"<g><title>(\d+ \w+): ([^<]*)</title>", seen.html)
    return {day: sum(nusd(amount) for amount in re.findall(r"US\$([\d.,]*\d)", told)) for day, told in names}


async def file(portal: Portal, by: str, month: str = "") -> tuple[dict[str, int], int]:
    seen = await portal.get(f"{PATH}/table.csv?by={by}&month={month}")
    assert seen.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(seen.html)))
    costs = {row[by] or "none": int(row["cost_nano_usd"]) for row in rows}
    return costs, sum(costs.values())


async def ledger(portal: Portal) -> int:
    found = await portal.control.store.load_receipts(portal.workspace.id, ReceiptFilter(limit=1_000))
    return sum(one["cost_nusd"] or 0 for one in found)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(st.tuples(
    st.integers(0, 17), st.integers(0, 3 * 10**12), st.sampled_from(["auto_triage", "draft_reply", ""]),
    st.sampled_from(["direct", "openrouter", "credits", "rescued", "refused"]),
), max_size=14))
async def test_chart_table_file_and_ledger_agree(tmp_path: Path, calls: list[tuple[int, int, str, str]]) -> None:
    """T25: to the nano-dollar, whatever was called when, by whom it was paid and how it went."""
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    async with open_portal(folder, "app-builder") as portal:
        start = portal.control.clock.at_ms
        for day, cost, task, how in sorted(calls):
            portal.control.clock.at_ms = start - (17 - day) * 86_400_000
            await one_call(portal, cost, task, how)
        portal.control.clock.at_ms = start
        whole = await ledger(portal)

        for by in ("day", "task", "model", "provider", "project", "funding"):
            seen = await portal.get(f"{PATH}?by={by}")
            costs, together = await file(portal, by)
            assert together == whole
            if calls:
                rows = table(seen)
                assert rows.pop("") == whole
                assert {key: cost for key, cost in costs.items() if cost} == {k: c for k, c in rows.items() if c}
            assert sum(bars(seen).values()) == whole


async def one_call(portal: Portal, cost: int, task: str, how: str) -> None:
    named = {"task": task or None}
    match how:
        case "direct":
            await write(portal, attempt(route=Route.DIRECT, provider="anthropic", cost_nusd=cost), **named)
        case "credits":
            await write(portal, attempt(route=Route.CREDITS, cost_nusd=cost), row="F13", charge_credits=2, **named)
        case "rescued":
            await write(portal, failed(1, cost_nusd=cost // 3), attempt(2, cost_nusd=cost), **named)
        case "refused":
            await write(portal, code="ai_paused", status=402, served_model=None, **named)
        case _:
            await write(portal, attempt(cost_nusd=cost), **named)


async def test_the_meter_speaks(desk: Portal) -> None:
    """T25: unit, period and zone beside the meter, settled and held, what is left, where the month is going."""
    await desk.control.desk.caps.save(desk.workspace, "50", 75, ACTOR)
    await spend(desk, 12_400_000_000)
    now = desk.control.clock.now_ms()
    await desk.control.store.hold(hold_request(desk.workspace.id, 2 * USD, at_ms=now, expires_at_ms=now + 60_000))
    seen = await desk.get(PATH)

    assert "US$12.40 of US$50.00 · November · resets 1 Dec 00:00 UTC" in seen.text
    assert 'high="37500000000"' in seen.html
    assert 'value="12400000000"' in seen.html
    for part in ("Settled US$12.40", "Held by calls in flight US$2.00", "Left US$35.60", "at 75% and at 100%"):
        assert part in seen.text
    assert re.search(r"At this pace US\$2\d\.\d\d by the end of the month", seen.text)
    assert "Only calls through Support desk are counted" in seen.text


async def test_a_pause_says_since_when_why_and_until_when(desk: Portal) -> None:
    """T22, T25: with the one action that ends it, for those who may."""
    await desk.control.desk.caps.save(desk.workspace, "10", 80, ACTOR)
    await spend(desk, 10 * USD)
    desk.control.clock.pass_s(60)
    seen = await desk.get(PATH)

    panel = seen.text.partition("AI is paused")[2]
    assert "The cap of US$10.00 is reached: US$10.00 is spent." in panel
    assert "Paused since 18 Nov 2026, 11:06 UTC, until 1 Dec 00:00 UTC, or until the cap is raised." in panel
    assert '<a class="button primary" href="#cap">Raise the cap</a>' in seen.html
    viewer = await desk.get(PATH, Role.VIEWER)
    assert "An owner or an admin of this workspace can raise the cap." in viewer.text
    assert "Raise the cap" not in viewer.text


async def test_a_cap_of_nothing_is_told_as_such(desk: Portal) -> None:
    """0 is no AI, and no month's end changes that."""
    await desk.control.desk.caps.save(desk.workspace, "0", 80, ACTOR)
    seen = await desk.get(PATH)

    assert "The spend cap is US$0, which means no AI." in seen.text
    assert "until the cap is raised" in seen.text
    assert "resets" not in (await desk.get(PATH, Role.MEMBER)).text


async def test_busy_is_never_shown_as_paused(desk: Portal) -> None:
    """Calls in flight hold all that is left: that ends with them."""
    await desk.control.desk.caps.save(desk.workspace, "10", 80, ACTOR)
    now = desk.control.clock.now_ms()
    await desk.control.store.hold(hold_request(desk.workspace.id, 10 * USD, at_ms=now, expires_at_ms=now + 60_000))
    seen = await desk.get(PATH)

    assert "Busy, not paused" in seen.text
    assert "Calls in flight hold US$10.00" in seen.text
    assert "AI is paused" not in seen.text


def test_busy_needs_holds_and_a_cap() -> None:
    """A cap that is merely nearly used up is not busy."""
    plain = CapSetting("w", 1, 100, 80, "2026-11", 0, 1, "UTC", 0, 100, 0, "active", None)

    assert is_busy(plain)
    assert not is_busy(replace(plain, held_nusd=0, spent_nusd=100))
    assert not is_busy(replace(plain, cap_nusd=None))
    assert not is_busy(replace(plain, state="paused"))
    assert not is_busy(replace(plain, held_nusd=98))


async def test_the_keys_own_figures_stand_beside(desk: Portal) -> None:
    """O5: limit, remaining, reset and the comparison with the books; asked again on demand."""
    await desk.control.save_key(desk.workspace)
    desk.control.upstream.script["/key"] = (200, {"data": {
        "label": "x", "limit": 25, "limit_remaining": 20.5, "limit_reset": "monthly", "usage": 4.5, "byok_usage": 0,
        "is_management_key": False, "is_provisioning_key": False,
    }})
    for _ in range(2):
        desk.control.clock.pass_s(5)
        seen = await desk.follow(await desk.post(f"{PATH}/compare"))

    for part in ("Limit US$25.00", "Remaining US$20.50", "Used with this key, ever US$4.50", "Last comparison",
                 "OpenRouter's figure for this key", "Compared just now."):
        assert part in seen.text
    assert (await desk.post(f"{PATH}/compare", role=Role.VIEWER)).status == 403


async def test_a_comparison_that_fails_says_so_and_loses_nothing(desk: Portal) -> None:
    """OpenRouter is down: the page stands, with the reason and what to do."""
    await desk.control.save_key(desk.workspace)
    desk.control.upstream.script["/key"] = (503, {"error": {"message": "down"}})
    seen = await desk.post(f"{PATH}/compare")

    assert seen.status == 422
    assert "OpenRouter does not tell the key's figures now" in seen.text
    assert "Try again in a minute." in seen.text


async def test_savings_carry_their_assumption(desk: Portal) -> None:
    """T4, T13: from the receipts, with the fee printed."""
    await write(desk, attempt(route=Route.DIRECT, provider="anthropic", cost_nusd=10 * USD))
    await write(desk, attempt(cost_nusd=2 * USD))
    seen = await desk.get(PATH)

    part = seen.text.partition("Saved by direct keys in November")[2]
    assert part.startswith(" US$0.55")
    assert "US$10.00 paid directly, US$0.55 saved" in part
    assert "OpenRouter's fee for buying credits is 5.5%" in part
    assert "not read from an invoice" in part


async def test_a_product_without_direct_keys_counts_no_savings_by_them(builder: Portal) -> None:
    """Nobody can save by what the product does not have."""
    await write(builder, attempt(cost_nusd=USD), row="F9")

    assert "Saved by direct keys" not in (await builder.get(PATH)).text


async def test_credits_are_told_apart(builder: Portal) -> None:
    """G23, G24: balance, what was used, and that the own key took none."""
    await write(builder, attempt(cost_nusd=USD), row="F9")
    await write(builder, attempt(route=Route.CREDITS, cost_nusd=USD), row="F13", charge_credits=120,
                charge_nusd=1_200_000_000)
    seen = await builder.get(PATH)

    part = seen.text.partition("Credits Balance")[2]
    assert re.match(r" \d+ credits", part)
    assert "Used in November 120 credits" in part
    assert "calls paid by your key: 0 credits (1 call)" in part
    assert "Credits Balance" not in (await builder.get(PATH, Role.MEMBER)).text


async def test_a_product_without_credits_does_not_speak_of_them(desk: Portal) -> None:
    """No balance, no column, no series."""
    await write(desk, attempt())

    assert "Credits" not in (await desk.get(PATH)).text.partition("<main")[2]
    assert "Paid for with credits" not in (await desk.get(PATH)).html


async def test_another_month_is_looked_at_by_its_own_figures(desk: Portal) -> None:
    """Months with calls can be chosen; a month that is over has no cap line and no day that is not over."""
    desk.control.clock.at_ms -= 40 * 86_400_000
    await write(desk, attempt(cost_nusd=5 * USD))
    desk.control.clock.at_ms += 40 * 86_400_000
    await desk.control.desk.caps.save(desk.workspace, "10", 80, ACTOR)
    await write(desk, attempt(cost_nusd=7 * USD))
    seen, old = await desk.get(PATH), await desk.get(f"{PATH}?month=2026-10&by=task")

    assert "US$7.00 was spent in November (UTC); the dearest day was the 18. with US$7.00." in seen.html
    assert 'class="cap-line"' in seen.html
    assert 'class="today"' in seen.html
    assert "US$5.00 was spent in October (UTC)" in old.html
    assert 'class="cap-line"' not in old.html
    assert 'class="today"' not in old.html
    assert '<option value="2026-10" selected>Oct 2026</option>' in old.html
    assert "Auto-triage" in old.text.partition("By task")[2]
    assert (await desk.get(f"{PATH}?month=<b>&by=<i>")).status == 200


async def test_rows_lead_to_their_calls(desk: Portal) -> None:
    """Every row is a filter of Activity; names of tasks and projects are the product's."""
    await desk.control.desk.projects.save(desk.workspace, "p_1", "Winter shop", ACTOR)
    await write(desk, attempt(), project="p_1")
    await write(desk, attempt(), project=None)
    by_project = await desk.get(f"{PATH}?by=project")

    assert '<a href="/portal/activity?project=p_1&amp;month=2026-11">Winter shop</a>' in by_project.html
    assert "/portal/activity?project=none&amp;month=2026-11" in by_project.html
    assert "/portal/activity?since=2026-11-18&amp;until=2026-11-18" in (await desk.get(PATH)).html
    assert "/portal/activity?trace=ticket-7&amp;month=2026-11" in (await desk.get(PATH)).html
    desk.pages = (Page.SPEND,)
    assert "/portal/activity" not in (await desk.get(PATH)).html.partition("<main")[2]


@pytest.mark.parametrize("hostile", [
    "<script>alert(1)</script>", '"><img src=x onerror=x>', "=1+1", "sk-or-v1-" + "a1" * 32,
])
async def test_hostile_names_are_harmless(desk: Portal, hostile: str) -> None:
    """Tasks, models, projects and conversations are the host's words: escaped, scrubbed, never a formula in a file."""
    await write(desk, attempt(model=hostile), task=hostile, project=hostile, conversation=hostile,
                requested_model=hostile, served_model=hostile)
    for by in ("task", "model", "project", "provider"):
        seen = await desk.get(f"{PATH}?by={by}")

        assert seen.status == 200
        assert "<script>" not in seen.html.replace("<script src", "")
        assert "<img" not in seen.html
        assert "sk-or-v1-a1" not in seen.html
    assert "\r\n2026-11,=1" not in (await desk.get(f"{PATH}/table.csv?by=project")).html


@pytest.mark.parametrize("role", FULL)
async def test_those_who_watch_the_money_read_it(desk: Portal, role: Role) -> None:
    """Owner and admin with the form, the viewer without."""
    await write(desk, attempt(cost_nusd=USD))
    seen = await desk.get(PATH, role)

    assert "US$1.00" in seen.text
    assert ('id="cap-amount"' in seen.html) is (role is not Role.VIEWER)
    assert ("Compare now" in seen.text) is False
    assert (await desk.get(f"{PATH}/table.csv?by=day", role)).status == 200


@pytest.mark.parametrize("paused", [False, True])
async def test_a_member_sees_on_or_paused_and_the_reset(desk: Portal, paused: bool) -> None:
    """T27: no amount anywhere in the page, no chart, no file."""
    await desk.control.desk.caps.save(desk.workspace, "10", 80, ACTOR)
    await spend(desk, 10 * USD if paused else USD)
    seen = await desk.get(PATH, Role.MEMBER)

    assert seen.status == 200
    assert ("AI is paused" in seen.text) is paused
    assert "The month resets 1 Dec 00:00 UTC." in seen.text
    for hidden in ("US$", "<svg", "table.csv", "10.00", "%", "<form method=\"get\"", "Costliest"):
        assert hidden not in seen.html.partition("<main")[2]
    assert (await desk.get(f"{PATH}/table.csv", Role.MEMBER)).status == 403


async def test_costs_of_unknown_price_are_counted_as_such(desk: Portal) -> None:
    """Unknown is never 0 without a word."""
    await write(desk, attempt(cost_nusd=None))
    seen = await desk.get(f"{PATH}?by=task")

    assert "1 unknown" in seen.text
    assert format_usd(0) in seen.text


async def test_a_table_that_is_none_is_refused(desk: Portal) -> None:
    """A file of something that cannot be summed is told, not made."""
    assert (await desk.get(f"{PATH}/table.csv?by=colour")).status == 400
    assert (await desk.get(f"{PATH}/table.csv?by=day&month=soon")).status == 400


@pytest.mark.parametrize("by", ["model", "provider"])
async def test_an_attempt_that_failed_elsewhere_is_told_as_one(desk: Portal, by: str) -> None:
    """X3: a call counts where its last attempt went, so a row may have none; its attempts and what they cost stand
    beside it, the rows add up to the month, and the file says the same."""
    direct = {"model": "claude-haiku-4-5"}
    await write(desk, failed(**direct), attempt(2))
    await write(desk, failed(**direct, cost_nusd=5_000, basis="estimated", state="settled"), attempt(2))
    seen, whole = await desk.get(f"{PATH}?by={by}"), await desk.get(f"{PATH}?by=task")
    costs, together = await file(desk, by)
    key = "claude-haiku-4-5" if by == "model" else "anthropic"
    cells = re.findall(r"<tr data-key.*?</tr>", seen.html, flags=re.S)
    row = next(cell for cell in cells if f'data-key="{key}"' in cell)
    text = " ".join(re.sub(r"<[^>]*>", " ", row).split())

    assert re.search(r"\b0 2 &lt; US\$0\.01 0%", text), text
    assert "A call counts where its last attempt went." in seen.text
    assert re.search(r"Together 2 4 (< )?US\$0\.01", seen.text)
    assert table(seen) == {**costs, "": together}
    assert table(whole)[""] == together == await ledger(desk)
    assert "Attempts" not in whole.html.partition('id="spend-table"')[2].partition("</table>")[0]


@pytest.mark.parametrize("preset", ["support-desk", "app-builder"])
async def test_a_member_reads_on_or_paused(tmp_path: Path, preset: str) -> None:
    """Portal 2: nothing else is told of spend to whoever works in the product, whatever needs attention."""
    async with open_portal(tmp_path, preset) as portal:
        off = await portal.get(PATH, Role.MEMBER)
        await entitle(portal)
        await save(portal)
        on = await portal.get(PATH, Role.MEMBER)
        await portal.control.desk.caps.save(await portal.control.again(portal.workspace), "0", 80, ACTOR)
        paused = await portal.get(PATH, Role.MEMBER)

    assert [re.findall(r'<h2 id="state">([^<]*)<', seen.html) for seen in (off, on, paused)] == [
        ["AI off"], ["AI on"], ["AI is paused"],
    ]
    assert "until then" not in paused.text
    assert "Needs attention" not in on.html.partition("<main")[2]
