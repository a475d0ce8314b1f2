"""Activity: calls by any filter that the address holds, line by line or by conversation, to those who may see them."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.control.house import ACTOR
from tests.portal.receipts_made import attempt, failed, write
from tests.portal.visiting import Portal, Seen, open_portal

from ownkey.domain.portal import Page
from ownkey.domain.receipts import Receipt
from ownkey.domain.routing import Route
from ownkey.domain.workspace import Role

PATH = "/portal/activity"
USD = 10**9
SECRET = "sk-or-v1-" + "a1" * 32


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as portal:
        yield portal


@pytest.fixture
async def builder(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path, "app-builder") as portal:
        yield portal


def shown(seen: Seen) -> list[str]:
    return re.findall(r'<tr data-receipt="([^"]+)"', seen.html)


def line(seen: Seen, receipt: Receipt) -> str:
    part = seen.html.partition(f'data-receipt="{receipt.id}"')[2].partition("</tr>")[0]
    return Seen(200, {}, f"<tr {part}").text


async def five(portal: Portal) -> dict[str, Receipt]:
    """One of each outcome and payer."""
    made = {}
    made["plain"] = await write(portal, attempt(), project="p_1")
    portal.control.clock.pass_s(60)
    made["rescued"] = await write(portal, failed(1), attempt(2, cost_nusd=2 * USD), task="draft_reply",
                                  conversation="ticket-8", served_model="anthropic/claude-haiku-4.5-20251001")
    portal.control.clock.pass_s(60)
    made["refused"] = await write(portal, code="ai_paused", row="F7", status=402, served_model=None, conversation=None)
    portal.control.clock.pass_s(60)
    made["failed"] = await write(portal, failed(1), code="provider_unavailable", status=503, served_model=None)
    portal.control.clock.pass_s(60)
    made["cancelled"] = await write(portal, attempt(provider="openai", route=Route.DIRECT), hung_up=True, status=499,
                                    finish_reason=None, requested_model="openai/gpt-4.1-mini",
                                    served_model="openai/gpt-4.1-mini", task=None)
    return made


async def test_each_call_is_a_line_with_all_columns(desk: Portal) -> None:
    """X2: time, task, model, payer, outcome, tokens, cost, duration, attempts; newest first; each leads on."""
    made = await five(desk)
    seen = await desk.get(PATH)

    assert shown(seen) == [made[name].id for name in ("cancelled", "failed", "refused", "rescued", "plain")]
    told = line(seen, made["rescued"])
    for part in ("18 Nov, 11:07:40", "Draft replies",
                 "anthropic/claude-haiku-4.5 → anthropic/claude-haiku-4.5-20251001", "Your OpenRouter key …9f3c", "ok",
                 "1,200 + 300", "US$2.00", "900 ms"):
        assert part in told
    assert told.endswith(" 2")
    for name, parts in {
        "refused": ("Nobody", "refused", "ai_paused", "Why?", "–"), "failed": ("Nobody", "failed", "Why?"),
        "cancelled": ("Your OpenAI key …5678", "cancelled", "no task"), "plain": ("< US$0.01", "Auto-triage"),
    }.items():
        for part in parts:
            assert part in line(seen, made[name]), (name, part)
        assert f'href="/portal/calls/{made[name].id}"' in seen.html
    assert "5 calls · US$2.00" in seen.text


@pytest.mark.parametrize(("query", "names"), [
    ("outcome=ok", ["rescued", "plain"]), ("outcome=refused", ["refused"]), ("outcome=failed", ["failed"]),
    ("outcome=cancelled", ["cancelled"]), ("task=draft_reply", ["rescued"]), ("task=none", ["cancelled"]),
    ("project=p_1", ["plain"]), ("model=openai/gpt-4.1-mini", ["cancelled"]), ("provider=openai", ["cancelled"]),
    ("funding=nobody", ["refused"]), ("credential=cred_openai", ["cancelled"]), ("trace=ticket-8", ["rescued"]),
    ("code=ai_paused", ["refused"]), ("since=2026-11-18&until=2026-11-18&outcome=refused", ["refused"]),
    ("month=2026-11&trace=ticket-8", ["rescued"]), ("since=2026-11-19", []),
])
async def test_every_filter_of_the_address_finds_its_calls(desk: Portal, query: str, names: list[str]) -> None:
    """T25: period, payer, outcome, task, project, model, provider, key and conversation; the form shows what is set."""
    made = await five(desk)
    seen = await desk.get(f"{PATH}?{query}")

    assert shown(seen) == [made[name].id for name in names]
    assert "Clear filters" in seen.text
    for name, value in (pair.split("=") for pair in query.split("&")):
        if name not in ("month", "since", "until"):
            chosen, typed = f'<option value="{value}" selected>', rf'name="{name}"[^>]*value="{re.escape(value)}"'
            assert chosen in seen.html or re.search(typed, seen.html), name


async def test_nothing_yet_differs_from_no_match(desk: Portal) -> None:
    """Two kinds of empty, one of which can be cleared."""
    first, no_trace = await desk.get(PATH), await desk.get(f"{PATH}?group=trace")
    await write(desk, attempt())
    none = await desk.get(f"{PATH}?task=translation")

    assert "No calls yet" in first.text
    assert "Clear filters" not in first.text
    assert "No calls match" in none.text
    assert f'<a class="button" href="{PATH}">Clear filters</a>' in none.html
    assert "No conversations yet" in no_trace.text


async def test_conversations_are_one_line_with_their_total(builder: Portal) -> None:
    """T25, T29: calls and cost together; the line leads to its calls."""
    for cost in (USD, 2 * USD):
        await write(builder, attempt(cost_nusd=cost), conversation="chat 1/ä")
    await write(builder, attempt(route=Route.CREDITS, cost_nusd=USD), conversation="b", charge_credits=4, row="F13")
    seen = await builder.get(f"{PATH}?group=trace")

    assert "chat 1/ä 2 US$3.00 0" in seen.text
    assert "b 1 US$1.00 4" in seen.text
    assert f'href="{PATH}?trace=chat+1%2F%C3%A4"' in seen.html
    assert len(shown(await builder.get(f"{PATH}?trace=chat+1%2F%C3%A4"))) == 2


async def test_pages_go_on_from_the_last_line(desk: Portal) -> None:
    """Keyset pages: no call twice, none left out, and a way back to the newest; the filters stay."""
    made = []
    for n in range(120):
        desk.control.clock.pass_s(1)
        made.append((await write(desk, attempt(), conversation=f"c{n % 70}")).id)
    url, found = f"{PATH}?outcome=ok", []
    for _ in range(3):
        seen = await desk.get(url)
        found += shown(seen)
        older = re.search(r'href="([^"]+)" rel="next"', seen.html)
        url = "" if older is None else older[1].replace("&amp;", "&")
        if url:
            assert "outcome=ok" in url

    assert found == made[::-1]
    assert url == ""
    assert f'href="{PATH}?outcome=ok" rel="prev"' in seen.html
    traces = await desk.get(f"{PATH}?group=trace")
    following = re.search(r'href="([^"]+)" rel="next"', traces.html)
    assert following is not None
    second = await desk.get(following[1].replace("&amp;", "&"))
    assert traces.html.count("<tr><th scope=\"row\"") == 50
    assert second.html.count("<tr><th scope=\"row\"") == 20

def poll_url(seen: Seen) -> str:
    """Where the page asks for new calls."""
    found = re.search(r'hx-get="([^"]+)"', seen.html)
    assert found is not None
    return found[1].replace("&amp;", "&")


async def test_the_first_call_ever_is_announced(desk: Portal) -> None:
    """"1 new · Show": a page that was opened before there was any call asks too."""
    empty = await desk.get(PATH)
    url = poll_url(empty)
    before = await desk.get(url)
    await write(desk, attempt())
    after = await desk.get(url)
    filtered = await desk.get(f"{url}&outcome=failed")

    assert "No calls yet" in empty.text
    assert before.text == ""
    assert after.text == "1 new · Show"
    assert filtered.text == ""


async def test_new_calls_are_announced_and_never_put_in(desk: Portal) -> None:
    """"12 new · Show": counted with the filters, said once each time the number grows."""
    await write(desk, attempt())
    page = await desk.get(f"{PATH}?outcome=ok")
    url = poll_url(page)
    assert "data-say" not in page.html

    for _ in range(12):
        await write(desk, attempt())
    await write(desk, code="ai_paused", status=402, served_model=None)
    seen = await desk.get(url)
    assert seen.text == "12 new · Show"
    assert "data-say" in seen.html
    assert f'<a href="{PATH}?outcome=ok">Show</a>' in seen.html
    same = await desk.get(poll_url(seen))
    assert "12 new" in same.text
    assert "data-say" not in same.html
    assert "<html" not in same.html
    for wrong in ("newest=&seen=x", "newest=call_none", "since=soon&newest=call_none", "newest=%3Cb%3E&seen=-1"):
        assert (await desk.get(f"{PATH}/new?{wrong}")).status == 200
        assert "<b>" not in (await desk.get(f"{PATH}/new?{wrong}")).html


async def test_a_receipts_id_leads_to_it(desk: Portal) -> None:
    """Search by id; what is not there is told, another workspace's is not there."""
    mine = await write(desk, attempt())
    found = await desk.get(f"{PATH}?receipt={mine.id}")
    none = await desk.get(f"{PATH}?receipt=call_nothing")

    assert (found.status, found.headers["location"]) == (303, f"/portal/calls/{mine.id}")
    assert "No calls match" in none.text


@pytest.mark.parametrize("query", [
    "since=soon", "since=2026-11-20&until=2026-11-01", "outcome=great", "funding=me", "month=2026-13",
    "task=" + "x" * 300, f"trace={SECRET}", f"receipt={SECRET}",
])
async def test_a_wrong_filter_is_told_and_kept(desk: Portal, query: str) -> None:
    """A sentence and a fix, what was typed still there (but no key), no list that pretends to be filtered."""
    await write(desk, attempt())
    seen = await desk.get(f"{PATH}?{query}")

    assert seen.status == 400
    assert "This filter cannot be used" in seen.text
    assert shown(seen) == []
    assert SECRET not in seen.html
    if query == "since=soon":
        assert 'value="soon"' in seen.html


async def test_the_histogram_counts_by_outcome(desk: Portal) -> None:
    """A bar a day, an hour where one day is asked for, with the finding in words."""
    await five(desk)
    seen = await desk.get(PATH)
    hours = await desk.get(f"{PATH}?since=2026-11-18&until=2026-11-18")

    assert "5 calls between 2026-10-20 and 2026-11-18 (UTC); answered: 2." in seen.html
    assert "2026-11-18: " in seen.html
    told = re.search(r"<title>11:00: ([^<]*)</title>", hours.html)
    assert told is not None
    assert sorted(told[1].split(", ")) == ["1 cancelled", "1 failed", "1 refused", "2 ok"]
    assert "calls an hour, hours of UTC" in hours.text


async def test_the_file_has_what_the_list_shows(desk: Portal) -> None:
    """CSV of the filter, streamed; a large one is made in the background."""
    made = await five(desk)
    link = re.search(r'href="([^"]+calls\.csv[^"]*)"', (await desk.get(f"{PATH}?outcome=ok")).html)
    assert link is not None
    seen = await desk.get(link[1].replace("&amp;", "&"))
    rows = seen.html.split("\r\n")

    assert seen.headers["content-type"].startswith("text/csv")
    assert "attachment" in seen.headers["content-disposition"]
    assert [made["rescued"].id in rows[1], made["plain"].id in rows[2], rows[3:]] == [True, True, [""]]
    assert (await desk.get(f"{PATH}/calls.csv?since=soon")).status == 400


@pytest.mark.parametrize(("role", "full"), [
    (Role.OWNER, True), (Role.ADMIN, True), (Role.VIEWER, True), (Role.MEMBER, False),
])
async def test_each_role_gets_its_columns(builder: Portal, role: Role, full: bool) -> None:
    """T27: members read what happened, without amounts, hints, sums and files; the server enforces it."""
    await builder.control.save_key(builder.workspace)
    made = await five(builder)
    await write(builder, attempt(route=Route.CREDITS, cost_nusd=USD), row="F13", charge_credits=417)
    for query in ("", "?group=trace", "?outcome=ok"):
        seen = await builder.get(f"{PATH}{query}", role)

        assert seen.status == 200
        for part in ("US$", "…9f3c", "417", "Cost", "calls.csv", 'name="credential"'):
            # A narrower filter may leave a figure out; nobody gets one that is not theirs.
            assert full or part not in seen.html, part
    everything = (await builder.get(PATH, role)).html
    for part in ("US$", "…9f3c", "417 credits", "Cost", "calls.csv", 'name="credential"'):
        assert (part in everything) is full, part
    assert made["plain"].id in (await builder.get(PATH, role)).html
    assert (await builder.get(f"{PATH}/calls.csv", role)).status == (200 if full else 403)


async def test_a_member_cannot_find_calls_by_a_key(desk: Portal) -> None:
    """Which key paid is not theirs to see: such a filter is none."""
    await five(desk)

    assert len(shown(await desk.get(f"{PATH}?credential=cred_openai", Role.MEMBER))) == 5


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", '"><img src=x onerror=x>', "{{7*7}}", SECRET])
async def test_hostile_words_are_harmless(desk: Portal, hostile: str) -> None:
    """Tasks, models, projects and conversations in lines, choices, addresses and attributes."""
    await write(desk, attempt(model=hostile), task=hostile, project=hostile, conversation=hostile,
                requested_model=hostile, served_model=hostile)
    for query in ("", "?group=trace", f"?trace={quote(hostile)}", f"?task={quote(hostile)}&model={quote(hostile)}"):
        for role in (Role.OWNER, Role.MEMBER):
            seen = await desk.get(f"{PATH}{query}", role)

            assert seen.status in (200, 400)
            assert "<script>" not in seen.html
            assert "<img" not in seen.html
            assert "49" not in seen.text.partition("Calls by outcome")[2].partition("Time")[0]
            assert SECRET not in seen.html


async def test_choices_name_keys_by_what_is_known_of_them(desk: Portal) -> None:
    """A saved key by its hint, a former one as such; projects by their names."""
    await desk.control.save_key(desk.workspace)
    credential = (await desk.control.again(desk.workspace)).credentials["openrouter"]
    await desk.control.desk.projects.save(desk.workspace, "p_1", "Winter <shop>", ACTOR)
    await write(desk, attempt(credential_id=credential.id), project="p_1")
    await write(desk, attempt(credential_id="cred_gone99"), project="p_1")
    seen = await desk.get(PATH)

    assert f'<option value="{credential.id}">OpenRouter {credential.hint}</option>' in seen.html
    assert "a former key (gone99)" in seen.text
    assert '<option value="p_1">Winter &lt;shop&gt;</option>' in seen.html


async def test_a_visit_without_the_page_has_none(desk: Portal) -> None:
    """Pages that were not given do not exist."""
    desk.pages = (Page.CREDENTIALS,)

    assert (await desk.get(PATH)).status in (403, 404)
