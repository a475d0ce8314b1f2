"""Backups on the System page: last one, age, size, the button, the progress and the warnings."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.backup_files import NoBackupFiles
from tests.console.console_pages import Console, open_console
from tests.control.house import ACTOR, House

from ownkey.console.app import ConsoleApp
from ownkey.control.backups import BackupControl, BackupWorker
from ownkey.control.ports import BackupFiles
from ownkey.control.work import WorkRunner
from ownkey.domain.backups import BackupRules
from ownkey.domain.records import Actor
from ownkey.domain.work import WorkKind
from ownkey.store.backup import BackupFolder
from ownkey.store.export_files import ExportFiles
from ownkey.vault.sealed_file import FileSealer, read_facts

START = "/console/system/backup"
HOUR_S = 3_600


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    async with open_console(tmp_path) as opened:
        yield opened


def folder_of(house: House) -> BackupFolder:
    return BackupFolder(
        house.folder / "backups", house.folder, house.store.instance_id, FileSealer(house.vault), read_facts, "test"
    )


async def work_off(console: Console, files: BackupFiles | None = None) -> None:
    house = console.control
    await WorkRunner(
        house.store, {WorkKind.BACKUP: BackupWorker(files or folder_of(house), house.clock, BackupRules())},
        ExportFiles(house.folder / "exports"), house.clock,
    ).run_due()


def card(html: str) -> str:
    return html.partition('id="backup"')[2].partition("</section>")[0]


async def test_operators_make_one_and_see_it(console: Console) -> None:
    """Begun by ops, audited as theirs, shown with its progress while it waits, then with age, size and key."""
    before = card((await console.get("/console/system")).html)
    done = await console.post(START)
    waiting = card((await console.follow(done)).html)
    await work_off(console)
    console.control.clock.pass_s(120)
    page = await console.get("/console/system")
    after, file = card(page.html), (await console.control.desk.backups.show()).files[0]

    assert "There is none yet." in before
    assert f'action="{START}"' in before
    assert done.headers["location"] == "/console/system?done=backup#backup"
    assert "<progress" in waiting
    assert 'hx-select="#backup"' in waiting
    assert f'action="{START}"' not in waiting
    assert "Last backup: 2 min ago" in page.text
    assert file.name in after
    assert console.control.ring.keys[0].kek_id in after
    assert "<progress" not in after
    assert "The master key is not in it" in page.text
    assert ("work.started", "operator") in [(action, kind) for action, kind, _ in await console.audit()]


async def test_who_may_only_look_gets_no_button(console: Console) -> None:
    """Support reads; ops whose proof is old confirm who they are first."""
    support = card((await console.get("/console/system", "support")).html)
    refused = await console.post(START, role="support")
    console.grow_old()
    old = card((await console.get("/console/system")).html)

    assert START not in support
    assert refused.status == 403
    assert START not in old
    assert "/console/confirm?path=/console/system" in old
    assert (await console.post(START)).status == 403


async def test_one_that_failed_is_told_until_the_next(console: Console) -> None:
    """Its sentence, and what to do."""
    await console.control.desk.backups.start(ACTOR)
    await work_off(console, NoBackupFiles())
    failed = await console.get("/console/system")
    console.control.clock.pass_s(60)
    await console.control.desk.backups.start(ACTOR)
    await work_off(console)

    assert "was not made. Failed: The folder cannot be written. Correct its permissions." in failed.text
    assert "was not made" not in (await console.get("/console/system")).text


async def test_a_schedule_that_is_not_kept_is_warned_of(console: Console) -> None:
    """Only where one is configured, and only once it is an hour late."""
    house, clock = console.control, console.control.clock
    await house.desk.backups.start(ACTOR)
    await work_off(console)
    daily = BackupControl(folder_of(house), house.desk.work, clock, BackupRules(every_ms=24 * HOUR_S * 1_000))
    desk = replace(house.desk, backups=daily)
    clock.pass_s(600)
    unscheduled = await console.get("/console/system")
    console.app = ConsoleApp(replace(console.app._house, desk=desk))
    on_time = await console.get("/console/system")
    clock.pass_s(25 * HOUR_S)
    # Both sign in again: a visit is shorter than a day.
    console.people = {**console.people, "ops": await console.staff.enrol("eve@example.com", "ops")}
    late = await console.get("/console/system")

    assert "None is made by itself" in unscheduled.text
    assert "One is made every 24 hours" in on_time.text
    assert "Late:" not in unscheduled.text + on_time.text
    assert "Late: a backup should be made every 24 hours. The newest is of" in late.text


async def test_the_schema_says_since_when_and_how_long_it_took(console: Console) -> None:
    """As the audit log has it; a database that was made new says nothing of an upgrade."""
    before = await console.get("/console/system")
    await console.control.store.save_audit(
        None, "schema.upgraded", "0035", {"schema": "0030"}, {"schema": "0035", "took_ms": 65_000},
        at_ms=console.control.clock.now_ms(), actor=Actor("job", "start"),
    )
    after = await console.get("/console/system")

    assert "the upgrade took" not in before.text
    assert "the upgrade took" in after.text
