"""Backups as long work: made, kept, cancelled, failed and begun by the clock."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.backup_files import NoBackupFiles
from tests.control.house import ACTOR, House, open_house

from ownkey.control.backups import BackupControl, BackupWorker
from ownkey.control.ports import BackupFiles
from ownkey.control.problems import Problem
from ownkey.control.work import WorkRunner
from ownkey.domain.backups import BackupFile, BackupRules
from ownkey.domain.work import WorkKind, WorkState
from ownkey.jobs.rounds import backup_job
from ownkey.store.backup import BackupFolder
from ownkey.store.export_files import ExportFiles
from ownkey.vault.sealed_file import FileSealer, read_facts

HOUR_S = 3_600


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


def folder_of(house: House) -> BackupFolder:
    return BackupFolder(
        house.folder / "backups", house.folder, house.store.instance_id, FileSealer(house.vault), read_facts, "test"
    )


def runner_of(house: House, files: BackupFiles, rules: BackupRules = BackupRules()) -> WorkRunner:  # noqa: B008
    exports = ExportFiles(house.folder / "exports")
    return WorkRunner(house.store, {WorkKind.BACKUP: BackupWorker(files, house.clock, rules)}, exports, house.clock)


def control_of(house: House, rules: BackupRules) -> BackupControl:
    return BackupControl(folder_of(house), house.desk.work, house.clock, rules)


async def audit(house: House) -> list[tuple[str, str]]:
    return [(row["action"], row["target"]) for row in await house.store.load_audit(None, limit=50)]


async def test_a_backup_is_work_like_any_other(house: House) -> None:
    """Started once, told of in pages, listed with its file, audited; the file is what can be fetched."""
    started = await house.desk.backups.start(ACTOR)
    again = await house.desk.backups.start(ACTOR)
    waiting = await house.desk.backups.show()
    await runner_of(house, folder_of(house)).run_due()
    ended = await house.desk.work.show(None, started.work.id)
    shown = await house.desk.backups.show()
    file, content = await house.desk.backups.fetch(shown.files[0].name)
    data = b"".join([part async for part in content])

    assert started.work.id == again.work.id
    assert waiting.running is not None
    assert ended.work.state is WorkState.DONE
    assert ended.work.done == ended.work.total
    assert ended.work.result["name"] == file.name
    assert (shown.running, shown.failed, shown.late) == (None, None, False)
    assert len(data) == file.bytes
    assert file.facts.instance_id == house.store.instance_id
    assert ("work.started", started.work.id) in await audit(house)
    with pytest.raises(Problem):
        await house.desk.backups.fetch("../ownkey.db")


async def test_those_that_are_too_many_go(house: House) -> None:
    """Behind the newest two, and only once the new one is whole."""
    names = []
    for _ in range(4):
        house.clock.pass_s(60)
        await house.desk.backups.start(ACTOR)
        await runner_of(house, folder_of(house), BackupRules(keep=2)).run_due()
        names.append((await house.desk.backups.show()).files[0].name)

    assert [file.name for file in (await house.desk.backups.show()).files] == [names[3], names[2]]


async def test_one_that_fails_says_why(house: House) -> None:
    """Its sentence and its fix stand in its row, and on the page until the next one is made."""
    await house.desk.backups.start(ACTOR)
    await runner_of(house, NoBackupFiles()).run_due()
    failed = (await house.desk.backups.show()).failed
    house.clock.pass_s(60)
    await house.desk.backups.start(ACTOR)
    await runner_of(house, folder_of(house)).run_due()

    assert failed is not None
    assert failed.work.error == "The folder cannot be written. Correct its permissions."
    assert (await house.desk.backups.show()).failed is None


class SlowFiles(NoBackupFiles):
    """Makes a backup that takes until it is told to stop."""

    def __init__(self, begun: asyncio.Event) -> None:
        self.begun = begun
        self.ended = False

    async def make(self, at_ms: int, told: Callable[[str, int, int], None]) -> BackupFile:
        try:
            for step in range(100_000):
                told("Copying the database, in pages", step, 100_000)
                self.begun.set()
                await asyncio.sleep(0.002)
        finally:
            self.ended = True
        raise AssertionError("nobody stopped it")


async def test_one_that_is_cancelled_ends_at_its_next_step(house: House) -> None:
    """And the runner goes on with other work."""
    begun = asyncio.Event()
    files = SlowFiles(begun)
    started = await house.desk.backups.start(ACTOR)
    running = asyncio.ensure_future(runner_of(house, files).run_due())
    await begun.wait()
    seen = await house.desk.work.show(None, started.work.id)
    await house.desk.work.cancel(None, started.work.id, ACTOR)
    await asyncio.wait_for(running, 10)

    assert seen.work.state is WorkState.RUNNING
    assert (await house.desk.work.show(None, started.work.id)).work.state is WorkState.CANCELLED
    assert files.ended


async def test_the_clock_makes_one_where_it_is_wished(house: House) -> None:
    """At once, then every interval; what failed is tried again after an hour; late is said an hour after it was due."""
    control = control_of(house, BackupRules(every_ms=24 * HOUR_S * 1_000))
    begun = [await control.start_due(), await control.start_due()]
    await runner_of(house, folder_of(house)).run_due()
    begun.append(await control.start_due())
    house.clock.pass_s(24 * HOUR_S)
    begun.append(await control.start_due())
    await runner_of(house, NoBackupFiles()).run_due()
    begun.append(await control.start_due())
    house.clock.pass_s(HOUR_S)
    late_soon = (await control.show()).late
    begun.append(await control.start_due())
    house.clock.pass_s(60)
    late = (await control.show()).late
    await runner_of(house, folder_of(house)).run_due()

    assert begun == [True, False, False, True, False, True]
    assert (late_soon, late, (await control.show()).late) == (False, True, False)
    assert ("job", "backup") in {(row["actor_kind"], row["actor_id"]) for row in await house.store.load_audit(
        None, limit=50)}
    assert not await control_of(house, BackupRules()).start_due()


async def test_the_job_is_the_schedules_round(house: House) -> None:
    """At start too, so that what was due while nothing ran is made then."""
    job = backup_job(control_of(house, BackupRules(every_ms=HOUR_S * 1_000)))
    await job.run()
    await job.run()
    works = await house.desk.work.list(None)

    assert job.at_once
    assert [view.work.kind for view in works] == [WorkKind.BACKUP]


async def test_what_is_shown_is_read_from_the_files(house: House, tmp_path: Path) -> None:
    """A file that somebody has taken away is not listed; one that was brought here is."""
    await house.desk.backups.start(ACTOR)
    await runner_of(house, folder_of(house)).run_due()
    made: Any = (await house.desk.backups.show()).files[0]
    (house.folder / "backups" / made.name).rename(tmp_path / "elsewhere")
    without = (await house.desk.backups.show()).files
    (tmp_path / "elsewhere").rename(house.folder / "backups" / made.name)

    assert list(without) == []
    assert list((await house.desk.backups.show()).files) == [replace(made)]
