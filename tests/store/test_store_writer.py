"""The writer: committed together, failed alone, never done before it is on the disk."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from store_kit import ACTOR, NOV, Clock, add_workspace, dek, finish, open_store, request, settle, take

from ownkey.domain.booking import HoldGranted
from ownkey.domain.errors import Conflict, StoreError, Unavailable
from ownkey.store import InUse, SQLiteStore, TooNew
from ownkey.store.schema import HEAD, REVISIONS


async def test_what_arrives_together_is_committed_together(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    batches, operations = store.writer.batches, store.writer.operations
    requests = [request(ws.id, 1) for _ in range(500)]
    await asyncio.gather(*[store.hold(r) for r in requests])
    await asyncio.gather(*[finish(store, r, settle(r, 1)) for r in requests])

    assert store.writer.operations - operations == 1_000
    assert store.writer.batches - batches < 50


async def test_an_exception_in_one_operation_fails_only_that_one(store: SQLiteStore) -> None:
    ws = await add_workspace(store)

    def faulty(conn: sqlite3.Connection) -> None:
        conn.execute("UPDATE cap_period SET spent_nusd = spent_nusd + 1000000 WHERE workspace_id = ?", (ws.id,))
        raise KeyError("a bug")

    good = [request(ws.id, 7) for _ in range(6)]
    answers = await asyncio.gather(
        *[store.hold(r) for r in good[:3]], store.writer.submit(faulty), *[store.hold(r) for r in good[3:]],
        return_exceptions=True,
    )

    assert isinstance(answers.pop(3), KeyError)
    assert all(isinstance(a, HoldGranted) for a in answers)
    money = await store.load_money(ws.id, NOV)
    assert (money.cap.held_nusd, money.cap.spent_nusd) == (42, 0)
    await asyncio.gather(*[finish(store, r, settle(r, 1)) for r in good])


async def test_a_refusal_returned_by_an_operation_is_raised_and_spoils_no_batch(store: SQLiteStore) -> None:
    await add_workspace(store)
    with pytest.raises(Conflict):
        await add_workspace(store)
    assert len(await store.load_workspaces(after=None, limit=10)) == 1


async def test_a_full_disk_refuses_and_recovers_by_itself(tmp_path: Path) -> None:
    """R8: no hold, no call; then it works again."""
    store = open_store(tmp_path / "a.db")
    ws = await add_workspace(store)
    limit = store.writer.submit(lambda conn: conn.execute("PRAGMA page_count").fetchone()[0])
    pages = await limit
    await store.writer.submit(lambda conn: conn.execute(f"PRAGMA max_page_count = {pages + 3}").fetchone())

    answers = await asyncio.gather(
        *[store.hold(request(ws.id, 1, context="x" * 2_000)) for _ in range(100)], return_exceptions=True
    )
    held = [a for a in answers if isinstance(a, HoldGranted)]
    assert any(isinstance(a, Unavailable) for a in answers)
    assert all(isinstance(a, HoldGranted | Unavailable) for a in answers), answers
    assert (await store.load_money(ws.id, NOV)).cap.held_nusd == len(held)

    await store.writer.submit(lambda conn: conn.execute("PRAGMA max_page_count = 1000000").fetchone())
    assert isinstance(await store.hold(request(ws.id, 1)), HoldGranted)
    assert await store.check_writable()
    assert await store.verify(NOV) == []
    await store.close()


async def test_a_failing_commit_is_never_reported_as_done(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    ws = await add_workspace(store)

    # A deferred constraint is checked by COMMIT itself: the way to make a commit fail without a broken disk.
    def spoil(conn: sqlite3.Connection) -> None:
        conn.execute("PRAGMA defer_foreign_keys = ON")
        conn.execute("INSERT INTO project(workspace_id, id, name, created_at_ms) VALUES ('none', 'p', 'p', 1)")

    answers = await asyncio.gather(
        store.hold(request(ws.id, 5)), store.writer.submit(spoil), store.hold(request(ws.id, 6)),
        return_exceptions=True,
    )

    assert [type(a) for a in answers] == [HoldGranted, StoreError, HoldGranted]
    assert (await store.load_money(ws.id, NOV)).cap.held_nusd == 11
    await store.close()


async def test_a_cancelled_wait_does_not_lose_the_write(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    req = request(ws.id, 10)
    await take(store, req)
    task = asyncio.create_task(finish(store, req, settle(req, 4)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.check_writable()

    assert (await store.load_money(ws.id, NOV)).cap.spent_nusd == 4
    assert await store.load_receipt(ws.id, req.call_id) is not None


async def test_closing_commits_what_waits_and_then_refuses(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    ws = await add_workspace(store)
    waiting = [asyncio.create_task(store.hold(request(ws.id, 1))) for _ in range(50)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*waiting)
    with pytest.raises(Unavailable):
        await store.hold(request(ws.id, 1))
    await store.close()

    store = open_store(tmp_path / "a.db", boot_id="boot-2")
    assert store.recovered_calls == 50
    await store.close()


async def test_the_file_is_private_and_durable(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch(0o644)
    store = open_store(path)
    await add_workspace(store)
    modes = {p.name: stat.S_IMODE(os.stat(p).st_mode) for p in tmp_path.iterdir()}
    pragmas = {}
    for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "mmap_size"):
        pragmas[name] = (await store.writer.submit(
            lambda conn, name=name: conn.execute(f"PRAGMA {name}").fetchone()
        ))[0]
    await store.close()

    assert set(modes.values()) == {0o600}
    assert pragmas == {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "mmap_size": 0,
    }


async def test_a_reader_cannot_write(store: SQLiteStore) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        store._near.execute("DELETE FROM workspace")


async def test_a_second_process_is_refused_with_the_first_ones_pid(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    code = (
        "import sys; from ownkey.store import SQLiteStore, InUse\n"
        "try: SQLiteStore.open(sys.argv[1], clock_ms=lambda: 0, boot_id='b')\n"
        "except InUse as error: print(error); sys.exit(7)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.db")], capture_output=True, text=True)
    assert (done.returncode, str(os.getpid()) in done.stdout) == (7, True), done
    with pytest.raises(InUse):
        open_store(tmp_path / "a.db")
    await store.close()
    await open_store(tmp_path / "a.db").close()


async def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    await open_store(tmp_path / "a.db").close()
    conn = sqlite3.connect(tmp_path / "a.db")
    conn.execute("UPDATE alembic_version SET version_num = '9999'")
    conn.commit()
    conn.close()
    with pytest.raises(TooNew, match="9999"):
        open_store(tmp_path / "a.db")


def test_the_list_of_schema_steps_is_the_folders() -> None:
    import ownkey.store.migrations.versions as versions

    files = sorted(p.name[:4] for p in Path(versions.__path__[0]).glob("[0-9]*.py"))
    assert list(REVISIONS) == files
    assert files[-1] == HEAD


async def test_a_restart_keeps_the_instance_and_everything_else(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    before = await add_workspace(store)
    instance = store.instance_id
    await store.close()
    store = open_store(tmp_path / "a.db", Clock(), "boot-2")

    assert store.instance_id == instance
    assert await store.load_workspace("ext-acme") == before
    assert before.dek == dek()
    await store.close()


async def test_a_broken_constraint_is_a_store_error(store: SQLiteStore) -> None:
    with pytest.raises(StoreError, match="refused"):
        await store.save_project("ws_none", "p", "P", at_ms=NOV, actor=ACTOR)
