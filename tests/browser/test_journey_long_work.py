"""Journeys of work that takes longer than a page: a large export and a replay, from the press to what came of them."""

import asyncio
import csv
import io
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Visiting
from tests.browser.portal_world import PortalWorld, portal_world
from tests.browser.preparing import ask, books, direct_call, openrouter
from tests.browser.under_way import Row, put_work
from tests.browser.walking import Walk, button, link
from tests.deployment import TestWorkspace
from tools.portal_figures.fill import fill, make_receipt

from ownkey.domain.receipts import Receipt
from ownkey.domain.work import WorkKind
from ownkey.store.sqlite import SQLiteStore

pytestmark = pytest.mark.whole
MANY = 60_000
"""So many that their file takes some seconds."""
SCRIPT = pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PortalWorld, TestWorkspace]]:
    """A world with a workspace that has many calls: they were written while the server slept."""
    with portal_world(tmp_path_factory.mktemp("archive"), "support-desk") as world:
        workspace = world.workspace("Archive")
        deployment = world.deployment
        deployment.stop()
        asyncio.run(_fill(next((deployment.home / "data").glob("*.db")).as_posix(), workspace.id))
        deployment.start_again()
        world.host.tell(ownkey_url=deployment.url)
        openrouter(world, other := world.workspace("Neighbour"))
        ask(other)
        yield world, workspace


async def _fill(path: str, workspace_id: str) -> None:
    now_ms, dice = int(time.time() * 1_000), random.Random(7)
    store = SQLiteStore.open(path, clock_ms=lambda: now_ms, boot_id="archive")

    def receipts() -> Iterator[Receipt]:
        for n in range(MANY):
            made = make_receipt(dice, n, now_ms - 60_000 - (MANY - n) * 20, projects=3)
            yield replace(made, workspace_id=workspace_id, project=None, task=("auto_triage", "draft_reply")[n % 2])

    try:
        await fill(store, receipts())
    finally:
        await store.close()


@SCRIPT
def test_a_large_export_from_the_press_to_the_file(
    archive: tuple[PortalWorld, TestWorkspace], visit: Visiting, script: bool
) -> None:
    """X7, X8: more than 10,000 rows are work: told with rows done and total while it runs, fetched when it is done."""
    world, workspace = archive
    with visit(world, java_script_enabled=script, accept_downloads=True) as visitor:
        walk = Walk(visitor.open(workspace, "/portal/activity"), workspace, script)
        expect(walk.main.locator("[data-sums]")).to_contain_text(f"{MANY:,} calls")
        expect(link(walk.main, "Download these calls (CSV)")).to_have_count(0)
        held = HeldUp(world, workspace)
        button(walk.main, "Make a CSV file of all of them").click()
        expect(walk.shown.get_by_role("heading", level=1)).to_have_text("Export of calls")
        address = visitor.page.url
        with held:
            visitor.page.reload()
            expect(walk.shown.locator(".progress-line")).to_contain_text(f"of {MANY:,}.")
            told = walk.shown.locator(".progress-line").inner_text()
            bar = walk.shown.get_by_role("progressbar")
            assert bar.get_attribute("max") == str(MANY)
            assert f"{int(bar.get_attribute('value') or 0):,} of {MANY:,}." in told
        expect(walk.shown.locator("#work")).to_have_attribute("data-state", "done", timeout=30_000)
        assert visitor.page.url == address
        with visitor.page.expect_download() as saved:
            link(walk.main, "Download").click()
        rows = list(csv.DictReader(io.StringIO(saved.value.path().read_text())))

    assert saved.value.suggested_filename.endswith(".csv")
    assert len({row["receipt"] for row in rows}) == MANY
    assert {row["task"] for row in rows} == {"auto_triage", "draft_reply"}


class HeldUp:
    """Somebody else writes into the database as soon as the work has begun: it stands where it is until this ends. From
    another thread, which is there before anybody presses."""

    def __init__(self, world: PortalWorld, workspace: TestWorkspace) -> None:
        self._held, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(world, workspace.id), daemon=True)
        self._thread.start()

    def __enter__(self) -> None:
        assert self._held.wait(20), "the work was not seen while it ran"

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _hold(self, world: PortalWorld, workspace_id: str) -> None:
        until = time.monotonic() + 20
        with books(world) as rows:
            while time.monotonic() < until:
                found = rows.execute(
                    "SELECT done FROM work WHERE workspace_id = ? AND state = 'running'", (workspace_id,)
                ).fetchone()
                if found and found[0]:
                    rows.execute("BEGIN IMMEDIATE")
                    self._held.set()
                    self._over.wait(4)  # the server's own patience is a second longer
                    return
                time.sleep(0.005)


@SCRIPT
def test_a_replay_from_the_form_to_its_figures(desk_world: PortalWorld, visit: Visiting, script: bool) -> None:
    """X7: this month without the direct key: the same calls, what they would have cost, and what cannot be known."""
    world, workspace = desk_world, desk_world.workspace()
    direct_call(world, workspace)
    spent = str(workspace.cap()["spent_usd"])
    with visit(world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace, "/portal/explain"), workspace, script)
        link(walk.main, "Replay a month under other settings").click()
        months = walk.main.get_by_label("Month", exact=True)
        this_month = time.strftime("%Y-%m", time.gmtime())
        months.select_option(this_month)
        walk.main.get_by_label("Anthropic", exact=True).uncheck()
        walk.main.get_by_label("OpenRouter's fee on buying credits there (%)").fill("lots")
        button(walk.main, "Replay").click()
        expect(walk.main.get_by_role("alert")).to_be_visible()
        expect(months).to_have_value(this_month)
        expect(walk.main.get_by_label("Anthropic", exact=True)).not_to_be_checked()
        walk.main.get_by_label("OpenRouter's fee on buying credits there (%)").fill("10")
        button(walk.main, "Replay").click()
        expect(walk.shown.locator("#result")).to_be_visible(timeout=20_000)
        walk.says("direct keys: none; fee: 10%", "What this cannot know")
        moved = walk.main.locator("dt", has_text="Calls that would have gone another way")
        expect(moved.locator("xpath=following::dd").first).to_have_text("1")
        paid = walk.shown.get_by_role("row", name="Paid with your own keys")
        expect(paid).to_contain_text(spent)
        expect(walk.shown.get_by_role("row", name="OpenRouter's fee on buying credits there (10%)")).to_be_visible()
        before = len(workspace.receipts())
        link(walk.main, "Replay again").click()
        expect(walk.shown.get_by_role("table", name="Newest first")).to_contain_text("Done")

    assert len(workspace.receipts()) == before, "a replay calls nobody"


@SCRIPT
def test_two_tabs_see_one_export_and_either_ends_it(
    archive: tuple[PortalWorld, TestWorkspace], visit: Visiting, script: bool
) -> None:
    """X7: the same press in a second tab finds the first's work; what one tab cancels, the other shows as cancelled."""
    world, workspace = archive
    running = Row(WorkKind.EXPORT, step="Writing calls", done=9_000, total=MANY // 2, wish='{"task":"auto_triage"}')
    ident = put_work(world, workspace.id, running)
    with visit(world, java_script_enabled=script) as visitor:
        walk = Walk(visitor.open(workspace, "/portal/activity?task=auto_triage"), workspace, script)
        tab = visitor.context.new_page()
        tab.goto(world.url + "/portal/activity?task=auto_triage")
        for page in (visitor.page, tab):
            button(page.get_by_role("main"), "Make a CSV file of all of them").click()
            page.wait_for_url(f"**/portal/exports/{ident}")
            expect(page.locator(".progress-line")).to_contain_text(f"9,000 of {MANY // 2:,}.")
        button(tab.get_by_role("main"), "Cancel").click()
        expect(tab.locator("#work")).to_have_attribute("data-state", "cancelled")
        expect(walk.shown.locator("#work")).to_have_attribute("data-state", "cancelled", timeout=15_000)
        expect(button(walk.main, "Cancel")).to_have_count(0)

    with books(world) as rows:
        assert rows.execute("DELETE FROM work WHERE id = ? AND state = 'cancelled'", (ident,)).rowcount == 1
