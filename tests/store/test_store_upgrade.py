"""An old database is brought to the newest schema: step by step before everybody's eyes, whole or not at all."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from store_kit import Clock, open_store
from tests.fresh_database import lay_database
from tests.old_database import COMING, OLD, lay_old_database

from ownkey.domain.errors import StoreError
from ownkey.domain.upgrades import UpgradeStep
from ownkey.store import SQLiteStore
from ownkey.store.schema import HEAD, TooNew, migrate, read_revision


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database of an old version, with a workspace in it."""
    return lay_old_database(tmp_path / "ownkey.db")


def schema_of(path: Path) -> str | None:
    conn = sqlite3.connect(path)
    try:
        return read_revision(conn)
    finally:
        conn.close()


async def test_every_step_is_told_before_it_begins(old: Path) -> None:
    """From which schema to which, the how manyth of how many, its name; at last that it is done. The audit log keeps
    when that was and how long it took."""
    told: list[UpgradeStep] = []
    clock = Clock()

    def hear(step: UpgradeStep) -> None:
        told.append(step)
        clock.ms += 2_000

    copied: list[tuple[str, str]] = []
    store = SQLiteStore.open(
        old, clock_ms=clock, boot_id="boot-1", audit_key=b"k" * 32, told=hear,
        before_upgrade=lambda was, to: copied.append((was, schema_of(old) or "")),
    )
    row = (await store.load_audit(None, limit=10))[0]
    names = store._near.execute("SELECT name FROM workspace").fetchall()
    findings = await store.verify(clock.ms)
    await store.close()

    steps = [step for step in told if 1 <= step.n <= step.of and not step.is_done]
    assert [step.n for step in steps] == list(range(1, len(COMING) + 1))
    assert [step.name[:4] for step in steps] == list(COMING)
    assert steps[1].words == (
        f"Bringing the database from schema {OLD} to {HEAD}: step 2 of {len(COMING)} (0031_figures)"
    )
    assert told[0].n == 0
    assert told[-1].is_done
    assert copied == [(OLD, OLD)]
    assert (row["action"], row["target"], row["before"]) == ("schema.upgraded", HEAD, {"schema": OLD})
    assert row["after"]["took_ms"] >= 2_000 * len(COMING)
    assert names == [("Acme",)]
    assert list(findings) == []


@pytest.mark.parametrize("at", range(1, len(COMING) + 1))
def test_whatever_ends_it_leaves_the_old_schema_whole(old: Path, at: int) -> None:
    """At every step: all of them are one transaction."""
    before = old.read_bytes()

    def stop(step: UpgradeStep) -> None:
        if step.n == at:
            raise RuntimeError("stopped")

    conn = sqlite3.connect(old, isolation_level=None)
    with pytest.raises(RuntimeError, match="stopped"):
        migrate(conn, stop)
    conn.close()

    assert schema_of(old) == OLD
    assert old.read_bytes() == before


def test_a_step_that_fails_is_told_in_a_sentence(old: Path) -> None:
    """Something in the database that a step does not expect: the old schema stays whole, and the sentence says so."""
    conn = sqlite3.connect(old, isolation_level=None)
    conn.execute("CREATE TABLE work(id TEXT)")
    try:
        with pytest.raises(StoreError) as failed:
            migrate(conn)
    finally:
        conn.close()

    assert str(failed.value).startswith(
        f"The database could not be brought from schema {OLD} to {HEAD}: table work already exists. Nothing was changed"
    )
    assert schema_of(old) == OLD


def test_a_kill_in_the_middle_leaves_the_old_schema_whole(old: Path) -> None:
    """kill -9 at the fourth step; the next start brings it up as if nothing had been."""
    script = (
        "import os, signal, sqlite3, sys\n"
        "from ownkey.store.schema import migrate\n"
        "conn = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "migrate(conn, lambda step: step.n == 4 and os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(old)], timeout=60, check=False).returncode
    was = schema_of(old)
    conn = sqlite3.connect(old, isolation_level=None)
    migrate(conn)
    conn.close()

    assert (ended, was, schema_of(old)) == (-9, OLD, HEAD)


def test_a_failed_copy_keeps_the_upgrade_from_beginning(old: Path) -> None:
    """The way back is made first, or nothing is done."""
    def refuse(was: str, to: str) -> None:
        raise OSError(28, "No space left on device")

    conn = sqlite3.connect(old, isolation_level=None)
    with pytest.raises(OSError, match="No space"):
        migrate(conn, None, refuse)
    conn.close()
    assert schema_of(old) == OLD


async def test_a_current_database_is_not_told_of(tmp_path: Path) -> None:
    """Nothing to copy, nothing to show, no row in the audit log."""
    told: list[UpgradeStep] = []
    store = SQLiteStore.open(
        lay_database(tmp_path / "a.db"), clock_ms=Clock(), boot_id="b", told=told.append,
        before_upgrade=lambda was, to: pytest.fail("copied"),
    )
    rows = await store.load_audit(None, limit=10)
    await store.close()
    assert (told, list(rows)) == ([], [])


async def test_a_new_database_is_no_upgrade(tmp_path: Path) -> None:
    """Its steps are told as those of a new one; nothing is copied and the audit log says nothing."""
    told: list[UpgradeStep] = []
    conn = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    migrate(conn, told.append, lambda was, to: pytest.fail("copied"))
    conn.close()
    store = open_store(tmp_path / "new.db")
    rows = await store.load_audit(None, limit=10)
    await store.close()

    assert all(step.is_new for step in told)
    assert list(rows) == []


def test_a_newer_schema_is_left_alone(old: Path) -> None:
    """The newer version, or the backup of before the upgrade."""
    conn = sqlite3.connect(old, isolation_level=None)
    conn.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(TooNew, match="backup"):
        migrate(conn)
    conn.close()
