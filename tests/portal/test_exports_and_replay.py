"""Exports and replays: started once, told honestly, stopped by those who may, fetched for a day; and who sees which."""


import csv
import io
import re
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.control.house import KEYS
from tests.portal.visiting import Portal, Seen, open_portal
from tests.store.store_kit import finish, request, settle

from ownkey.control.export_work import ExportAllWorker, ExportWorker
from ownkey.control.replay import ReplayWorker
from ownkey.control.work import Made, Teller, WorkFailed, WorkRunner
from ownkey.domain.work import Work, WorkKind
from ownkey.domain.workspace import Role
from ownkey.store.export_files import ExportFiles


def runner(portal: Portal) -> WorkRunner:
    """What `serve` runs beside the pages."""
    control = portal.control
    store, desk, files = control.store, control.desk, ExportFiles(control.folder / "exports")
    workers: Any = {
        WorkKind.EXPORT: ExportWorker(store, desk.exports, files),
        WorkKind.EXPORT_ALL: ExportAllWorker(store, desk.exports, files),
        WorkKind.REPLAY: ReplayWorker(store, store, store, control.clock, control.product),
    }
    return WorkRunner(store, workers, files, control.clock)


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as opened:
        await opened.control.save_key(opened.workspace)
        yield opened


async def calls(portal: Portal, count: int, cost_nusd: int = 1_000_000, **fields: Any) -> None:
    control = portal.control
    for _ in range(count):
        control.clock.pass_s(1)
        wish = request(
            portal.workspace.id, cost_nusd, at_ms=control.clock.at_ms, expires_at_ms=control.clock.at_ms + 180_000
        )
        await control.store.hold(wish)
        await finish(control.store, wish, settle(wish, cost_nusd), **fields)


def work_of(seen: Seen) -> str:
    return seen.headers["location"].rpartition("/")[2]


async def test_an_export_is_started_once_made_and_fetched(portal: Portal) -> None:
    """X7, section 10: a second click finds the first; the file holds the calls of the filter, behind a link."""
    await calls(portal, 3, task="auto_triage")
    await calls(portal, 2, task="draft_reply")
    form = {"task": "auto_triage"}
    first = await portal.post("/portal/exports", form)
    second = await portal.post("/portal/exports", form)
    waiting = await portal.follow(first)
    await runner(portal).run_due()
    done = await portal.follow(first)
    data = await portal.get(f"{first.headers['location']}/file")
    rows = list(csv.DictReader(io.StringIO(data.html)))

    assert work_of(first) == work_of(second)
    assert "Waiting to begin" in waiting.text
    assert 'http-equiv="refresh"' in waiting.html
    assert "remaining" not in waiting.text
    assert 'data-state="done"' in done.html
    assert 'http-equiv="refresh"' not in done.html
    assert f'href="{first.headers["location"]}/file" data-download' in done.html
    assert [row["task"] for row in rows] == ["auto_triage"] * 3
    assert re.fullmatch(r'attachment; filename="[\w.-]+\.csv"', data.headers["content-disposition"])


async def test_the_list_offers_what_a_filter_finds(portal: Portal) -> None:
    """Activity leads here with its filter: how many calls it finds, and the button that starts."""
    await calls(portal, 4, task="auto_triage")
    seen = await portal.get("/portal/exports?task=auto_triage&outcome=ok")
    empty = await portal.get("/portal/exports")

    assert re.search(r"Calls 4\b", seen.text)
    assert seen.field("task", "Start the export") == "auto_triage"
    assert "No exports yet" in empty.text
    assert "Export all calls" in empty.text


@pytest.mark.parametrize("wrong", ["outcome=maybe", "since=yesterday", "funding=%3Cb%3Egold", "month=13"])
async def test_a_filter_that_cannot_be_taken_is_said(portal: Portal, wrong: str) -> None:
    """Neither a 500 nor an export of something else."""
    name, _, value = wrong.partition("=")
    seen = await portal.get(f"/portal/exports?{wrong}")
    posted = await portal.post("/portal/exports", {name: value})
    listed = await portal.control.desk.work.list(portal.workspace)

    assert seen.status == posted.status == 400
    assert "This was not started" in posted.text
    assert "<b>" not in seen.html
    assert listed == []


async def test_progress_is_told_as_it_is_and_nothing_is_invented(portal: Portal) -> None:
    """Section 10: rows done of total; remaining time after five seconds; a stall after thirty."""
    started = await portal.post("/portal/exports")
    store, clock = portal.control.store, portal.control.clock
    work = await store.claim_work(clock.at_ms, clock.at_ms + 60_000)
    assert work is not None
    clock.pass_s(2)
    await store.save_beat(
        work, "Writing calls", 2_000, 20_000, {}, at_ms=clock.at_ms, until_ms=clock.at_ms + 60_000
    )
    early = await portal.follow(started)
    clock.pass_s(4)
    await store.save_beat(
        work, "Writing calls", 6_000, 20_000, {}, at_ms=clock.at_ms, until_ms=clock.at_ms + 60_000
    )
    later = await portal.follow(started)
    clock.pass_s(31)
    stalled = await portal.follow(started)

    assert '<progress value="2000" max="20000"' in early.html
    assert "2,000 of 20,000" in early.text
    assert "left" not in early.text.partition("Writing calls")[2].partition("You may leave")[0]
    assert "About 14 s left" in later.text
    assert "Stalled" in stalled.text
    assert "%" not in later.text.partition("Writing calls")[2].partition("You may leave")[0]


async def test_cancelling_is_for_the_starter_and_for_admins(portal: Portal) -> None:
    """A viewer stops their own and nobody else's."""
    own = await portal.post("/portal/exports", {"task": "auto_triage"})
    portal.more = {"member_id": "u_2"}
    other = await portal.follow(own, Role.VIEWER)
    refused = await portal.post(f"{own.headers['location']}/cancel", role=Role.VIEWER)
    theirs = await portal.post("/portal/exports", {"task": "draft_reply"}, Role.VIEWER)
    stopped = await portal.follow(await portal.post(f"{theirs.headers['location']}/cancel", role=Role.VIEWER))
    by_admin = await portal.follow(await portal.post(f"{own.headers['location']}/cancel", role=Role.ADMIN))

    assert "/cancel" not in other.html
    assert "Another member" in other.text
    assert refused.status == 403
    assert 'data-state="cancelled"' in stopped.html
    assert 'data-state="cancelled"' in by_admin.html


class Refusing:
    """A worker that cannot do what is wished for."""

    async def run(self, work: Work, teller: Teller) -> Made:
        raise WorkFailed("It cannot be done today.")


async def fail_all(portal: Portal) -> None:
    """Whatever waits now fails."""
    control = portal.control
    workers: Any = dict.fromkeys(WorkKind, Refusing())
    await WorkRunner(control.store, workers, ExportFiles(control.folder / "exports"), control.clock).run_due()


@pytest.mark.parametrize(("path", "form"), [
    ("/portal/exports", {"task": "auto_triage", "outcome": "ok"}),
    ("/portal/explain/replay", {"month": "2026-11", "cap": "amount", "cap_usd": "4"}),
])
async def test_what_failed_or_was_stopped_starts_again_with_the_same_wish(
    portal: Portal, path: str, form: dict[str, str]
) -> None:
    """Section 4.9: a failure has a next step; nobody chooses anew what they had chosen, and a second press of the
    button begins nothing more."""
    await calls(portal, 1)
    started = await portal.post(path, form)
    open_page = await portal.follow(started)
    await fail_all(portal)
    failed = await portal.follow(started)
    again = [await portal.post(f"{started.headers['location']}/again") for _ in range(2)]
    stopped = await portal.follow(await portal.post(f"{again[0].headers['location']}/cancel"))
    portal.more = {"kind": "view_as", "member_id": "op_1"}
    watched = await portal.follow(started)
    refused = await portal.post(f"{started.headers['location']}/again")
    last, first = (view.work for view in await portal.control.desk.work.list(portal.workspace))

    assert "Start again" not in open_page.text
    assert "It cannot be done today." in failed.text
    assert f'action="{started.headers["location"]}/again"' in failed.html
    assert {work_of(answer) for answer in again} == {last.id} != {first.id}
    assert last.wish == first.wish != {}
    assert "Start again" in stopped.text
    assert "Start again" not in watched.text
    assert refused.status == 403


async def test_starting_again_is_refused_in_words_where_too_much_is_open(portal: Portal) -> None:
    """Nothing is started, and what failed is still there."""
    started = await portal.post("/portal/exports", {"trace": "first"})
    await fail_all(portal)
    for n in range(5):
        await portal.post("/portal/exports", {"trace": f"t{n}"})
    seen = await portal.post(f"{started.headers['location']}/again")

    assert seen.status == 409
    assert "5 pieces of work are open" in seen.text


async def test_a_file_is_kept_for_a_day(portal: Portal) -> None:
    """Then it is gone, the page says so, and the same can be made once more."""
    await calls(portal, 1)
    started = await portal.post("/portal/exports")
    work = runner(portal)
    await work.run_due()
    portal.control.clock.pass_s(24 * 3_600 + 1)
    await work.drop_stale_files()
    seen = await portal.follow(started)
    gone = await portal.get(f"{started.headers['location']}/file")
    again = await portal.post(f"{started.headers['location']}/again")

    assert "Its file is not kept any more" in seen.text
    assert "Start again" in seen.text
    assert work_of(again) != work_of(started)
    assert gone.status == 404


async def test_another_workspaces_work_is_not_there(portal: Portal) -> None:
    """Isolation: its page, its file and its end answer as what does not exist."""
    started = await portal.post("/portal/exports")
    portal.workspace = await portal.control.workspace("Other", external_id="other")
    path = started.headers["location"]

    assert (await portal.get(path)).status == 404
    assert (await portal.get(f"{path}/file")).status == 404
    assert (await portal.post(f"{path}/cancel")).status == 404


async def test_a_whole_workspaces_archive_is_its_owners_own(portal: Portal) -> None:
    """Section 2: export all is for owners; admins and viewers do not see that it exists."""
    await calls(portal, 1)
    view = await portal.control.desk.work.start(
        portal.workspace, WorkKind.EXPORT_ALL, {}, portal.session(Role.OWNER).actor, "u_1"
    )
    await runner(portal).run_due()
    path = f"/portal/exports/{view.work.id}"
    statuses = {role: (await portal.get(f"{path}/file", role)).status for role in (Role.ADMIN, Role.VIEWER)}
    listed = await portal.get("/portal/exports", Role.ADMIN)
    owners = await portal.get("/portal/exports")
    fetched = await portal.control.desk.work.fetch(portal.workspace, view.work.id)
    archive = b"".join([part async for part in fetched[1]])

    assert statuses == {Role.ADMIN: 404, Role.VIEWER: 404}
    assert view.work.id not in listed.html
    assert f'href="{path}/file"' in owners.html
    assert KEYS["openrouter"].encode() not in b"".join(
        zipfile.ZipFile(io.BytesIO(archive)).read(name) for name in zipfile.ZipFile(io.BytesIO(archive)).namelist()
    )


@pytest.mark.parametrize("role", Role)
async def test_roles_of_exports_and_replays(portal: Portal, role: Role) -> None:
    """Section 2: viewers export, members do not; replays belong to those who explain."""
    await calls(portal, 1)
    exports = 403 if role is Role.MEMBER else 200
    replays = 200 if role in (Role.OWNER, Role.ADMIN) else 403

    assert (await portal.get("/portal/exports", role)).status == exports
    assert (await portal.post("/portal/exports", role=role)).status == (403 if role is Role.MEMBER else 303)
    assert (await portal.get("/portal/explain/replay", role)).status == replays
    sent = await portal.post("/portal/explain/replay", {"month": "2026-11"}, role)
    assert sent.status == (303 if replays == 200 else 403)


async def test_an_operator_who_looks_starts_nothing(portal: Portal) -> None:
    """View as workspace is read-only, also where reading is all that a role needs."""
    portal.more = {"kind": "view_as", "member_id": "op_1"}
    started = [(await portal.post(path)).status for path in ("/portal/exports", "/portal/explain/replay")]
    seen = await portal.get("/portal/exports")

    assert started == [403, 403]
    assert await portal.control.desk.work.list(portal.workspace) == []
    assert "<form method" not in seen.html.partition("<main")[2]


# --- replay


async def test_a_replay_compares_then_with_other_settings(portal: Portal) -> None:
    """X7: last month's receipts under a cap: cost, refusals, the moment it would have been reached, and its limits."""
    await calls(portal, 10, cost_nusd=1_000_000_000, requested_model="openai/gpt-4.1-mini")
    month = "2026-11"
    started = await portal.post("/portal/explain/replay", {
        "month": month, "cap": "amount", "cap_usd": "US$4", "fee_percent": "5",
    })
    waiting = await portal.follow(started)
    await runner(portal).run_due()
    done = await portal.follow(started)
    listed = await portal.get("/portal/explain/replay")

    assert "Replay of November 2026" in waiting.text
    assert 'http-equiv="refresh"' in waiting.html
    assert re.search(r"Paid with your own keys US\$10\.00 US\$4\.00 −US\$6\.00", done.text)
    assert re.search(r"Calls refused 0 6 \+6", done.text)
    assert re.search(r"\(5%\) US\$0\.50 US\$0\.20 −US\$0\.30", done.text)
    assert "The cap would have been reached" in done.text
    assert "What this cannot know" in done.text
    assert "cap: US$4; fee: 5%" in done.text
    assert started.headers["location"] in listed.html


async def test_a_replay_with_nothing_changed_changes_nothing(portal: Portal) -> None:
    """The same settings give the same figures."""
    await calls(portal, 3, requested_model="openai/gpt-4.1-mini")
    started = await portal.post("/portal/explain/replay", {"month": "2026-11", "cap": "now"})
    await runner(portal).run_due()

    assert re.search(r"Paid with your own keys US\$0.003 US\$0.003 ±0", (await portal.follow(started)).text)


async def test_a_replay_offers_the_months_that_have_calls(portal: Portal) -> None:
    """Newest first, and begun with; where there is none the page says so and has nothing to fill in, and a month
    without calls is refused."""
    before = await portal.get("/portal/explain/replay")
    portal.control.clock.at_ms += 40 * 86_400_000
    await calls(portal, 1)
    portal.control.clock.at_ms += 62 * 86_400_000
    await calls(portal, 1)
    seen = await portal.get("/portal/explain/replay")
    sent = await portal.post("/portal/explain/replay", {"month": "2027-01", "cap": "amount", "cap_usd": "4"})

    assert "Nothing to replay yet" in before.text
    assert 'name="month"' not in before.html
    offered = re.findall(r'<option value="(20[^"]+)"( selected)?>', seen.html)
    assert offered == [("2027-02", " selected"), ("2026-12", "")]
    assert sent.status == 422
    assert "That month has no calls to replay." in sent.text
    assert 'value="4"' in sent.html


@pytest.mark.parametrize(("typed", "field"), [
    ({"cap": "amount", "cap_usd": ""}, "f-cap_usd"), ({"cap": "amount", "cap_usd": "lots"}, "f-cap_usd"),
    ({"fee_percent": "x"}, "f-fee_percent"), ({"month": ""}, "f-month"),
    ({"month": "2026-13"}, "f-month"), ({"month": "2099-01"}, "f-month"),
])
async def test_a_replay_that_cannot_be_run_names_its_field(portal: Portal, typed: dict[str, str], field: str) -> None:
    """422 with what was typed; nothing is started."""
    await calls(portal, 1)
    seen = await portal.post("/portal/explain/replay", {"month": "2026-11", **typed})

    assert seen.status == 422
    assert f'<a href="#{field}">' in seen.html
    for name in ("cap_usd", "fee_percent"):
        if typed.get(name):
            assert f'value="{typed[name]}"' in seen.html
    assert await portal.control.desk.work.list(portal.workspace) == []


async def test_hostile_filters_are_only_text(portal: Portal) -> None:
    """What somebody filtered by stands in the list as text, cut and escaped."""
    await portal.post("/portal/exports", {"trace": "<img src=x onerror=alert(1)>" + "y" * 60})
    seen = await portal.get("/portal/exports")

    assert "<img src=x" not in seen.html
    assert "&lt;img" in seen.html


async def test_many_starts_at_once_begin_one_export(portal: Portal) -> None:
    """Two tabs, a double click: one piece of work."""
    answers = [await portal.post("/portal/exports", {"task": "auto_triage"}) for _ in range(5)]

    assert len({work_of(answer) for answer in answers}) == 1



async def test_too_much_work_is_refused_in_words(portal: Portal) -> None:
    """The sixth that waits is told to wait."""
    for n in range(5):
        await portal.post("/portal/exports", {"trace": f"t{n}"})
    seen = await portal.post("/portal/exports", {"trace": "t6"})

    assert seen.status == 409
    assert "5 pieces of work are open" in seen.text
