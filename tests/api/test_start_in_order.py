"""A server that starts: the database is owned before anything is made beside it, and it can be stopped at once."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fresh_database import lay_database
from tests.old_database import OLD, lay_old_database

from ownkey import bootstrap
from ownkey.domain.errors import StoreError
from ownkey.domain.upgrades import UpgradeStep
from ownkey.settings.product import Settings, load_settings
from ownkey.store.connection import InUse, Lock
from ownkey.store.schema import HEAD
from ownkey.vault.audit_key import AuditKeyFile
from ownkey.vault.keyset import read_keyset_file, write_new_keyset

WAIT_S = 10.0


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """A configuration with its master key and no data; what a server changes in the process is put back."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    write_new_keyset(tmp_path / "master.key")
    (tmp_path / "ownkey.toml").write_text(
        f'preset = "support-desk"\n[server]\nport = {port}\nshutdown_s = 1\n[prices]\nsync = false\n'
    )
    (tmp_path / "data").mkdir()
    handlers = {wanted: signal.getsignal(wanted) for wanted in (signal.SIGTERM, signal.SIGINT)}
    thresholds = gc.get_threshold()
    yield load_settings(None, {"OWNKEY_CONFIG": str(tmp_path / "ownkey.toml")})
    for wanted, handler in handlers.items():
        signal.signal(wanted, handler)
    gc.unfreeze()
    gc.set_threshold(*thresholds)


async def test_nothing_is_made_beside_a_database_that_another_owns(settings: Settings, tmp_path: Path) -> None:
    """A restore that is under way owns the place: a start beside it makes no audit key, which would then be taken for
    the restored one or written over it."""
    lock = Lock(tmp_path / "data" / "ownkey.db")
    try:
        with pytest.raises(InUse):
            await bootstrap.build_app(settings, {})
    finally:
        lock.release()

    assert [path.name for path in (tmp_path / "data").iterdir()] == ["ownkey.db.lock"]


def test_a_restore_that_was_killed_is_not_started_over(tmp_path: Path) -> None:
    """Its folder is still there and no database: an empty one would be served, and be in the way of a restore."""
    write_new_keyset(tmp_path / "master.key")
    keyset = read_keyset_file(tmp_path / "master.key")
    (tmp_path / "restoring").mkdir()
    with pytest.raises(StoreError, match="was interrupted"):
        bootstrap.open_audit_key(tmp_path, keyset)
    made = (tmp_path / "audit.key").exists()
    (tmp_path / "restoring").rmdir()

    assert not made
    assert len(bootstrap.open_audit_key(tmp_path, keyset)) == 32


def test_who_stops_the_server_stops_the_copy_before_an_upgrade(settings: Settings, tmp_path: Path) -> None:
    """It may take minutes: whoever is told that it goes on can end it, and nothing is left of it."""
    class Minutes(bootstrap.SystemClock):
        seconds = 0.0

        def monotonic(self) -> float:
            self.seconds += 10
            return self.seconds

    def stop(step: UpgradeStep) -> None:
        assert step.words == f"Bringing the database from schema {OLD} to {HEAD}: copying it first"
        raise StoreError("The upgrade was stopped.")

    lay_old_database(tmp_path / "data" / "ownkey.db")
    keyset = read_keyset_file(tmp_path / "master.key")
    AuditKeyFile(tmp_path / "data" / "audit.key").make(keyset)
    copy = bootstrap.copy_first(settings, keyset, Minutes(), stop)
    assert copy is not None
    with pytest.raises(StoreError, match="was stopped"):
        copy(OLD, HEAD)

    assert list((tmp_path / "data" / "backups").iterdir()) == []


async def test_a_stop_before_it_listens_is_heard(settings: Settings, tmp_path: Path) -> None:
    """SIGTERM between the first moment and the web server's own handler ends it, as any other."""
    lay_database(tmp_path / "data" / "ownkey.db")
    AuditKeyFile(tmp_path / "data" / "audit.key").make(read_keyset_file(tmp_path / "master.key"))
    serving = asyncio.ensure_future(bootstrap._serve(settings, {}, None))
    asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
    done, _ = await asyncio.wait({serving}, timeout=WAIT_S)
    if not done:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait({serving}, timeout=WAIT_S)

    assert done == {serving}
    assert serving.exception() is None
    assert not (tmp_path / "data" / "run.json").exists()
