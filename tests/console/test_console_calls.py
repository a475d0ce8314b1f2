"""Calls and Why in the console: filters over all workspaces, the live tail, one call's story, and the search field."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.console.console_pages import Console, Seen, open_console
from tests.console.made_calls import write
from tests.control.house import ACTOR, KEYS
from tests.portal.receipts_made import attempt, failed

from ownkey.domain.overview import CallQuery
from ownkey.domain.receipts import HoldState
from ownkey.domain.routing import Route
from ownkey.store import overview as overview_rows


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    async with open_console(tmp_path, "app-builder") as opened:
        yield opened


def shown(seen: Seen) -> list[str]:
    return re.findall(r'data-receipt="(\w+)"', seen.html)


async def test_calls_of_all_workspaces_newest_first_and_by_every_filter(console: Console) -> None:
    """G25: each filter finds exactly the calls that have it; two together find what both have."""
    first, second = await console.control.with_key(external_id="a"), await console.control.with_key(external_id="b")
    own = await write(console, first, attempt())
    console.control.clock.pass_s(60)
    paid = await write(console, second, attempt(1, Route.CREDITS), charge_credits=3, task="plan_app")
    console.control.clock.pass_s(60)
    refused = await write(console, first, status=402, code="ai_paused", task="plan_app", requested_model="x/y")
    nobody = await write(console, second, failed(1), status=503, code="provider_unavailable", provider=None)
    every = [nobody.id, refused.id, paid.id, own.id]
    expected = {
        "": every, f"workspace={first.id}": [refused.id, own.id], "funding=credits": [paid.id],
        "funding=byok": [nobody.id, own.id], "funding=nobody": [refused.id], "outcome=refused": [refused.id],
        "outcome=failed": [nobody.id], "task=plan_app": [refused.id, paid.id], "code=ai_paused": [refused.id],
        "model=anthropic/claude-haiku-4.5": [nobody.id, paid.id, own.id], "since=2026-11-18": every,
        "until=2026-11-17": [], f"workspace={first.id}&task=plan_app": [refused.id],
        "provider=none": [nobody.id, refused.id],
    }

    for query, ids in expected.items():
        assert shown(await console.get(f"/console/calls?{query}")) == ids, query


async def test_a_list_that_stands_says_its_age_and_a_live_one_has_none(console: Console) -> None:
    """Section 4.9: "40 s ago · Refresh" leads to the same calls, asked anew; Home has it too."""
    still = await console.get("/console/calls?outcome=ok&done=saved")
    live = await console.get("/console/calls?outcome=ok&live=1")
    home = await console.get("/console")
    aged = re.compile(r'<p class="aged" hidden><span data-age="\{s\} s ago"></span> · <a href="([^"]+)">Refresh</a>')

    assert aged.findall(still.html) == ["/console/calls?outcome=ok"]
    assert aged.findall(live.html) == []
    assert aged.findall(home.html) == ["/console"]


async def test_a_filter_that_is_none_says_so_beside_its_field(console: Console) -> None:
    for query, word in (("since=yesterday", "is not a date"), ("since=2026-11-20&until=2026-11-19", "Swap them."),
                        ("outcome=great", "no outcome"), ("special=x", "no special")):
        seen = await console.get(f"/console/calls?{query}")

        assert seen.status == 422, query
        assert word in seen.text, query


async def test_credits_beside_a_healthy_key(console: Console) -> None:
    """G28: the built-in filter finds calls that credits paid for although a usable key was saved, and no others."""
    control = console.control
    keyless = await control.workspace("Keyless", external_id="k")
    healthy = await control.with_key(external_id="h")
    sick = await control.with_key(external_id="s")
    control.store.mark_undecryptable(sick.credentials["openrouter"], control.clock.now_ms())
    off = await control.with_key(external_id="o")
    await control.desk.credentials.set_enabled(off, "openrouter", False, ACTOR)
    control.clock.pass_s(60)
    found = await write(console, healthy, attempt(1, Route.CREDITS), charge_credits=3)
    for workspace in (keyless, sick, off):
        await write(console, workspace, attempt(1, Route.CREDITS), charge_credits=3)
    await write(console, healthy, attempt())
    seen = await console.get("/console/calls?special=credits_beside_healthy_key")

    assert shown(seen) == [found.id]
    assert "Credits paid while a key was healthy" in seen.text


async def test_a_rare_filter_looks_only_so_far_and_says_so(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """One page reads a bounded number of calls; the next goes on from there, and none is lost between them."""
    monkeypatch.setattr(overview_rows, "SPAN", 10)
    workspace = await console.control.with_key()
    rare = await write(console, workspace, attempt(), task="rare")
    for _ in range(25):
        await write(console, workspace, attempt())
    pages, path = [], "/console/calls?task=rare"
    while path:
        seen = await console.get(path)
        pages.append(shown(seen))
        found = re.search(r'href="([^"]*before=[^"]*)" rel="next"', seen.html)
        path = found[1].replace("&amp;", "&") if found else ""

    assert pages[:-1] == [[], []]
    assert pages[-1] == [rare.id]


async def test_pages_hold_every_call_once(console: Console) -> None:
    workspace = await console.control.with_key()
    made = [(await write(console, workspace, attempt())).id for _ in range(60)]
    overview = console.control.desk.overview
    first = await overview.calls(CallQuery(), limit=50)
    second = await overview.calls(CallQuery(), first.before, limit=50)

    assert [c.receipt["id"] for c in (*first.calls, *second.calls)] == made[::-1]
    assert second.before is None


async def test_the_live_tail_asks_by_itself_pauses_and_works_without_a_script(console: Console) -> None:
    """The list polls itself, stands still under a pointer or the focus, keeps no session alive, and has a link."""
    workspace = await console.control.with_key()
    await write(console, workspace, attempt())
    seen = await console.get("/console/calls?live=1&funding=byok")
    tail = re.search(r'<section class="card" id="tail"[^>]*>', seen.html)
    assert tail is not None

    assert 'hx-trigger="every 3s"' in tail[0]
    assert "data-pause" in tail[0]
    assert "hx-headers='{\"x-ownkey-passive\": \"1\"}'" in tail[0]
    assert 'hx-get="/console/calls?live=1&amp;funding=byok"' in tail[0]
    assert '<a class="button" href="/console/calls?live=1&amp;funding=byok">Refresh</a>' in seen.html
    assert 'rel="next"' not in seen.html


async def test_filters_are_kept_under_a_name_for_oneself(console: Console) -> None:
    await write(console, await console.control.with_key(), attempt())
    query = "funding=byok&outcome=ok"
    done = await console.post("/console/calls/filters", {"query": query + "&evil=1&live=1", "name": "Own & well"})
    mine = await console.follow(done)
    other = await console.get("/console/calls", "support")
    unnamed = await console.post("/console/calls/filters", {"query": query, "name": ""})
    await console.post("/console/calls/filters/delete", {"name": "Own & well"})
    gone = await console.get("/console/calls")

    assert "The filter is saved." in mine.text
    assert f'href="/console/calls?{query.replace("&", "&amp;")}" aria-current="true"' in mine.html
    assert "Own & well" not in other.text + gone.text
    assert unnamed.status == 422


# --- one call


async def test_a_call_is_told_with_its_rules_then_and_what_would_happen_now(console: Console) -> None:
    """X2, X7: the headline that everybody shares, the rules of its moment, the gateway's own word for now."""
    control = console.control
    workspace = await control.with_key()
    receipt = await write(console, workspace, failed(1), attempt(2), task="plan_app",
                          requested_model="anthropic/claude-sonnet-4.5")
    control.clock.pass_s(60)
    await control.desk.caps.save(await control.again(workspace), "0", None, ACTOR)
    seen = await console.get(f"/console/calls/{receipt.id}", "support")
    stored = await control.desk.receipts.one(workspace, receipt.id)
    headline = await control.desk.receipts.headline(workspace, stored)
    then = seen.text.partition("State then")[2].partition("What would happen now")[0]

    assert headline in seen.text
    assert "Monthly spend cap (USD) US$50.00" in then
    assert "429 rate_limit" in seen.text
    assert re.search(r'id="now"[^>]*data-code="\w+"', seen.html)
    answer = re.search(r'<pre id="answer"[^>]*>(.*?)</pre>', seen.html, re.DOTALL)
    assert answer is not None
    assert receipt.id in answer[1]
    assert "The same call now:" in answer[1]
    assert 'data-copy="#answer"' in seen.html


async def test_now_agrees_with_the_gateway(console: Console) -> None:
    """The page's "now" is the explainer's answer for the same task."""
    workspace = await console.control.with_key()
    receipt = await write(console, workspace, attempt(), task="plan_app", requested_model="")
    found = await console.get(f"/console/calls/{receipt.id}")
    gates = await console.control.desk.gates.show(await console.control.again(workspace))
    gate = next(one for one in gates if one.task.name == "plan_app")

    assert gate.refusal is not None
    assert f'data-code="{gate.refusal.code.value}"' in found.html


async def test_why_by_workspace_and_time(console: Console) -> None:
    """Calls around the moment, the nearest marked; where there was none, the state of then all the same."""
    workspace = await console.control.with_key(external_id="customer-1")
    receipt = await write(console, workspace, attempt())
    quiet = await console.get("/console/why?workspace=customer-1&at=2026-11-01T00:00")
    near = await console.get(f"/console/why?workspace=customer-1&at={quote('2026-11-18 11:08')}")
    wrong = await console.get("/console/why?workspace=customer-1&at=noon")
    nobody = await console.get("/console/why?workspace=nobody-1&at=2026-11-01")

    assert "No call came within ten minutes of it." in quiet.text
    assert "Calls with the own key" in quiet.text
    assert f"/console/calls/{receipt.id}" in near.html
    assert "nearest" in near.text
    assert (wrong.status, 'value="noon"' in wrong.html) == (422, True)
    assert (nobody.status, 'value="nobody-1"' in nobody.html) == (404, True)


async def test_why_by_receipt_leads_to_the_call(console: Console) -> None:
    receipt = await write(console, await console.control.with_key(), attempt())
    found = await console.get(f"/console/why?receipt={receipt.id}")
    unknown = await console.get("/console/why?receipt=call_none")

    assert (found.status, found.headers["location"]) == (303, f"/console/calls/{receipt.id}")
    assert (unknown.status, "There is no receipt call_none" in unknown.text) == (404, True)


async def test_a_held_attempt_is_told_as_it_is(console: Console) -> None:
    receipt = await write(console, await console.control.with_key(), attempt(state=HoldState.EXPIRED))

    assert (await console.get(f"/console/calls/{receipt.id}")).status == 200


# --- search


async def test_search_goes_to_what_is_unique(console: Console) -> None:
    """Workspace by name, id or external id; a receipt; the end of a key; a subscription: one find is gone to."""
    control = console.control
    workspace = await control.with_key(name="Acme 100%", external_id="customer_1")
    await control.workspace("Acme 1000", external_id="customerx1")
    receipt = await write(console, workspace, attempt())
    place = f"/console/workspaces/{workspace.id}"

    for typed, where in (
        (workspace.id, place), ("customer_1", place), ("100%", place), (receipt.id, f"/console/calls/{receipt.id}"),
        (KEYS["openrouter"][-4:], f"{place}#keys"), (f"sk-or-…{KEYS['openrouter'][-4:]}", f"{place}#keys"),
    ):
        seen = await console.get(f"/console/search?q={quote(typed)}", "support")
        assert (seen.status, seen.headers.get("location")) == (303, where), typed
    several = await console.get("/console/search?q=acme")
    nothing = await console.get("/console/search?q=%25%25")
    assert "2 finds" in several.text
    assert "Nothing found" in nothing.text


async def test_a_whole_key_is_not_searched_for(console: Console) -> None:
    """S5: whoever pastes a key is told to have it replaced, and it is not repeated."""
    await console.control.with_key()
    seen = await console.get(f"/console/search?q={KEYS['openrouter']}")

    assert seen.status == 422
    assert KEYS["openrouter"] not in seen.html
    assert "have the key replaced" in seen.text
