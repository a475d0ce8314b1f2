"""The folder of backups: a consistent copy beside writers, whole under its name or not there at all."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest
from store_kit import NOV, add_workspace, finish, open_store, request, settle, take
from tests.fresh_database import lay_database

from ownkey.domain.backups import (
    BackupFacts,
    BackupFile,
    BackupRules,
    BackupTrouble,
    backup_name,
    is_due,
    is_late,
    newest_of,
    outdated,
)
from ownkey.store.backup import STEP_PAGES, BackupFolder, check_room, unpack
from ownkey.vault.envelope import Vault
from ownkey.vault.keyset import Keyset
from ownkey.vault.sealed_file import FileSealer, open_file, read_facts

KEYS = Keyset({"k_one": os.urandom(32)})
HOUR = 3_600_000


def quiet(step: str, done: int, total: int) -> None:
    pass


def folder_of(home: Path, where: Path | None = None) -> BackupFolder:
    (home / "audit.key").write_bytes(b"the audit key, sealed")
    found = sqlite3.connect(home / "ownkey.db").execute("SELECT id FROM instance").fetchone()
    sealer = FileSealer(Vault(KEYS, found[0]))
    return BackupFolder(where or home / "backups", home, found[0], sealer, read_facts, "0.1.0")


def unpacked(home: Path, made: BackupFile, to: Path) -> sqlite3.Connection:
    to.mkdir()
    with (home / "backups" / made.name).open("rb") as file:
        _, parts = open_file(KEYS, file)
        unpack(parts, to, lambda _: None)
    assert (to / "audit.key").read_bytes() == b"the audit key, sealed"
    return sqlite3.connect(to / "ownkey.db")


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    """A database with one workspace and a call, closed again."""
    store = open_store(lay_database(tmp_path / "ownkey.db"))
    ws = await add_workspace(store)
    req = request(ws.id, 20_000_000)
    await take(store, req)
    await finish(store, req, settle(req, 10_000_000))
    await store.close()
    return tmp_path


async def test_a_backup_holds_one_moment_while_calls_go_on(home: Path) -> None:
    """S8: it is not begun again however much is written meanwhile, holds what was there when it began, and no writer
    waits for it: hundreds of commits pass between its steps."""
    with sqlite3.connect(home / "ownkey.db") as filler:
        filler.execute("CREATE TABLE bulk(x BLOB) STRICT")
        filler.executemany("INSERT INTO bulk VALUES (?)", [(bytes(3_000),)] * 4_000)
    filler.close()
    store = open_store(home / "ownkey.db", boot_id="boot-2")
    writes, steps = 0, []

    def mark(conn: sqlite3.Connection, row: int) -> None:
        conn.execute("UPDATE bulk SET x = ? WHERE rowid = ?", (b"new", row))

    over = False

    async def write() -> None:
        nonlocal writes
        while not over:
            row = writes + 1
            await store.writer.submit(partial(mark, row=row))
            writes = row

    before = 0

    def told(step: str, done: int, total: int) -> None:
        nonlocal before
        if step.startswith("Copying"):
            steps.append((done, total))
            seen = writes
            # Each step waits for a commit: a copy that restarts under writes would never get anywhere.
            for _ in range(2_000):
                if writes > seen:
                    break
                threading.Event().wait(0.001)

    writing = asyncio.ensure_future(write())
    await asyncio.sleep(0.05)
    before = writes
    made = await folder_of(home).make(NOV, told)
    over = True
    await writing
    await store.close()
    with unpacked(home, made, home / "out") as copy:
        new = copy.execute("SELECT count(*) FROM bulk WHERE x = CAST('new' AS BLOB)").fetchone()[0]
        whole = copy.execute("PRAGMA integrity_check").fetchone()[0]
    copy.close()

    pages = steps[0][1] // 2
    assert len(steps) == -(-pages // STEP_PAGES)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert writes - before >= len(steps) >= 5
    assert before <= new <= before + 2
    assert whole == "ok"


async def test_a_backup_is_private_and_leaves_nothing_else(home: Path) -> None:
    """0600 in a folder of 0700; the copy that it was made from is gone."""
    made = await folder_of(home).make(NOV, quiet)
    place = home / "backups" / made.name

    assert [path.name for path in (home / "backups").iterdir()] == [made.name]
    assert (place.stat().st_mode & 0o777, place.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert made.bytes == place.stat().st_size
    assert made.facts.kek_id == "k_one"
    assert b"SQLite format" not in place.read_bytes()


@pytest.mark.parametrize("step", ["Copying", "Encrypting"])
async def test_whoever_stops_it_finds_nothing_half_done(home: Path, step: str) -> None:
    """Cancelled while it copies or while it seals."""
    class Enough(Exception):
        pass

    def told(what: str, done: int, total: int) -> None:
        if what.startswith(step):
            raise Enough

    with pytest.raises(Enough):
        await folder_of(home).make(NOV, told)
    assert list((home / "backups").iterdir()) == []


class FullDisk:
    """A sealer on a disk that is full after some bytes."""

    kek_id = "k_one"

    def seal(self, facts: BackupFacts, parts: Iterator[bytes], out: BinaryIO) -> None:
        out.write(next(iter(parts)))
        raise OSError(28, "No space left on device")


async def test_a_disk_that_is_full_in_the_middle_is_told(home: Path) -> None:
    """A sentence and a fix; nothing half left."""
    (home / "audit.key").write_bytes(b"x")
    with pytest.raises(BackupTrouble) as told:
        await BackupFolder(home / "backups", home, "inst", FullDisk(), read_facts, "0.1.0").make(NOV, quiet)

    assert told.value.code == "no_room"
    assert "no room" in told.value.sentence
    assert list((home / "backups").iterdir()) == []


def test_what_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    """The disk is asked first."""
    with pytest.raises(BackupTrouble) as told:
        check_room(tmp_path, 2**60)
    assert "MiB" in told.value.sentence


async def test_a_folder_that_cannot_be_used_is_told(home: Path) -> None:
    """A file where the folder should be: its name and the system's reason."""
    (home / "taken").write_text("a file")
    with pytest.raises(BackupTrouble) as told:
        await folder_of(home, home / "taken").make(NOV, quiet)
    assert (told.value.code, "taken" in told.value.sentence) == ("unwritable", True)


async def test_what_a_crash_left_is_removed_by_the_next(home: Path) -> None:
    """Its own copy and part; finished backups, another deployment's and other people's files stay."""
    folder = home / "backups"
    folder.mkdir()
    mine = folder_of(home)._instance_id
    for name in (f".{mine}.copy", f".{mine}.part", ".inst_other.part", "notes.txt"):
        (folder / name).write_text("x")
    first = await folder_of(home).make(NOV, quiet)
    second = await folder_of(home).make(NOV + 1_000, quiet)

    assert {path.name for path in folder.iterdir()} == {first.name, second.name, ".inst_other.part", "notes.txt"}
    assert [file.name for file in await folder_of(home).list()] == [second.name, first.name]


async def test_an_audit_key_that_is_rewrapped_meanwhile_spoils_nothing(home: Path) -> None:
    """Its file is replaced by a longer one while the backup is sealed: what is inside is the old one, whole."""
    folder = folder_of(home)
    inner = folder._sealer

    class Rewrapping:
        kek_id = inner.kek_id

        def seal(self, facts: BackupFacts, parts: Iterable[bytes], out: BinaryIO) -> None:
            def watched() -> Iterator[bytes]:
                for part in parts:
                    (home / "audit.key").write_bytes(b"another wrapping, which is longer than the first one")
                    yield part

            inner.seal(facts, watched(), out)

    folder._sealer = Rewrapping()
    made = await folder.make(NOV, quiet)

    with unpacked(home, made, home / "out") as copy:
        assert copy.execute("SELECT count(*) FROM workspace").fetchone()[0] >= 1
    copy.close()


async def test_a_second_run_waits_for_the_first(home: Path) -> None:
    """Work that was taken over before its first run has heard of it: neither removes or moves the other's files."""
    folder, at_work, go_on = folder_of(home), threading.Event(), threading.Event()

    def hold(step: str, done: int, total: int) -> None:
        at_work.set()
        assert go_on.wait(10)

    first = asyncio.ensure_future(folder.make(NOV, hold))
    assert await asyncio.to_thread(at_work.wait, 10)
    second = asyncio.ensure_future(folder.make(NOV + 1, quiet))
    await asyncio.wait({second}, timeout=0.1)
    waits = not second.done()
    go_on.set()
    made = [await first, await second]

    assert waits
    assert {file.name for file in await folder.list()} == {file.name for file in made}


async def test_a_backup_names_every_master_key_that_it_needs(home: Path) -> None:
    """Made in the middle of a rewrap, it opens with the new key, and half of what is in it with the old one."""
    with sqlite3.connect(home / "ownkey.db") as conn:
        conn.execute("UPDATE dek SET kek_id = 'k_old'")
    conn.close()
    await folder_of(home).make(NOV, quiet)
    (listed,) = await folder_of(home).list()

    assert listed.facts.kek_id == "k_one"
    assert listed.facts.master_keys == ("k_one", "k_old")


async def test_a_name_is_no_path(home: Path) -> None:
    """Nothing outside the folder is read or dropped."""
    folder = folder_of(home)
    for name in ("../ownkey.db", "/etc/passwd", "ownkey_20261122_091719_353.backup/../../x", "ownkey.db", ""):
        with pytest.raises(ValueError, match="no path"):
            folder.read(name)
    assert (home / "ownkey.db").exists()


async def test_two_deployments_may_share_a_folder(home: Path, tmp_path: Path) -> None:
    """Neither sees, drops nor writes over what is the other's."""
    mine = await folder_of(home).make(NOV, quiet)
    shared = home / "backups"
    facts = BackupFacts("inst_other", NOV, "0.1.0", "0035", "k_one", 1)
    theirs = shared / backup_name(NOV + 7)
    with theirs.open("wb") as file:
        FileSealer(Vault(KEYS, "inst_other")).seal(facts, [b"theirs"], file)
    before = theirs.read_bytes()
    with pytest.raises(BackupTrouble):
        await folder_of(home).make(NOV + 7, quiet)

    assert [file.name for file in await folder_of(home).list()] == [mine.name]
    assert theirs.read_bytes() == before


async def test_a_broken_file_in_the_folder_is_not_listed(home: Path) -> None:
    """What has a backup's name and is none hides nothing else."""
    made = await folder_of(home).make(NOV, quiet)
    (home / "backups" / backup_name(NOV + 9)).write_bytes(b"no backup")
    assert [file.name for file in await folder_of(home).list()] == [made.name]


@pytest.mark.parametrize("parts", [
    [b""], [b"\0\0"], [b"\0\0\0\5hello"], [b'\0\0\0\x0f{"ownkey.db":1}x'],
    [b'\0\0\0\x1e{"audit.key":1,"ownkey.db":2}', b"abc", b"d"], [b'\0\0\0\x1d{"audit.key":1,"ownkey.db":2}', b"ab"],
    [b'\0\0\0\x1d{"audit.key":1,"ownkey.db":2}', b"abc", b"d"], [b'\0\0\0\x1c{"../evil.txt":1,"audit.key":1}ab'],
])
def test_what_does_not_hold_what_it_should_is_refused(tmp_path: Path, parts: list[bytes]) -> None:
    """Even where it opened: too little, too much, other names, paths."""
    (tmp_path / "in").mkdir()
    with pytest.raises(BackupTrouble) as told:
        unpack(iter(parts), tmp_path / "in", lambda _: None)
    assert told.value.code == "damaged"
    assert not (tmp_path / "evil.txt").exists()


# --- which are kept, and when the next one is due


def file_of(at_ms: int, before: str = "") -> BackupFile:
    return BackupFile(backup_name(at_ms, before_schema=before), 1, BackupFacts("i", at_ms, "v", "0035", "k", 1))


def test_the_newest_are_kept_and_the_way_back() -> None:
    """`keep` usual ones, and beside them the newest before an upgrade, however old it is."""
    files = [file_of(NOV + n * HOUR) for n in range(5)] + [file_of(NOV - 9 * HOUR, "0035"), file_of(NOV - HOUR, "0036")]
    dropped = set(outdated(files, BackupRules(keep=2), NOV + 4 * HOUR))

    assert dropped == {file_of(NOV + n * HOUR).name for n in range(3)} | {file_of(NOV - 9 * HOUR, "0035").name}


def test_a_clock_that_was_wrong_costs_no_backup() -> None:
    """Backups of the future are not taken for the newest: the one that was just made stays, the way back too, the
    schedule goes on, and what lies in the future goes first. A clock that was set back by seconds changes nothing."""
    future = [file_of(NOV + n * 9_000 * HOUR) for n in (1, 2, 3)] + [file_of(NOV + 9_000 * HOUR, "0034")]
    usual, upgrade = file_of(NOV), file_of(NOV, "0035")
    rules = BackupRules(keep=2, every_ms=24 * HOUR)

    assert outdated([*future, usual], rules, NOV) == [future[1].name, future[0].name]
    assert outdated([*future, upgrade], rules, NOV)[-1] == future[3].name
    assert newest_of([*future, usual], NOV) == usual
    assert newest_of(future, NOV) is None
    assert newest_of([usual], NOV - 2_000) == usual
    assert is_due(newest_of([*future, usual], NOV + 24 * HOUR), None, rules, NOV + 24 * HOUR)


def test_a_schedule_is_due_after_its_interval_and_late_an_hour_after_that() -> None:
    """One that failed is tried again after an hour; without a schedule nothing is ever due or late."""
    rules, never = BackupRules(every_ms=24 * HOUR), BackupRules()
    newest = file_of(NOV)

    assert not is_due(newest, None, rules, NOV + 23 * HOUR)
    assert is_due(newest, None, rules, NOV + 24 * HOUR)
    assert not is_due(newest, NOV + 24 * HOUR, rules, NOV + 24 * HOUR + 60_000)
    assert is_due(newest, NOV + 24 * HOUR, rules, NOV + 25 * HOUR)
    assert is_due(None, None, rules, NOV)
    assert not is_due(None, None, never, NOV)
    assert not is_late(newest, rules, NOV + 25 * HOUR, NOV)
    assert is_late(newest, rules, NOV + 25 * HOUR + 1, NOV)
    assert is_late(None, rules, NOV + 26 * HOUR, NOV)
    assert not is_late(None, rules, NOV + HOUR, NOV)
    assert not is_late(None, never, NOV + 99 * HOUR, NOV)
