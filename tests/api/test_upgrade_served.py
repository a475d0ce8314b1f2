"""A server on an old database: it listens while it upgrades, keeps a copy, and then serves on the same connection."""

import asyncio
import gc
import os
import signal
import socket
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.old_database import COMING, OLD, lay_old_database

from ownkey import bootstrap
from ownkey.domain.errors import StoreError
from ownkey.domain.upgrades import UpgradeStep
from ownkey.settings.product import load_settings
from ownkey.store.backup import unpack
from ownkey.store.schema import HEAD, read_revision
from ownkey.vault.audit_key import AuditKeyFile
from ownkey.vault.keyset import read_keyset_file, write_new_keyset
from ownkey.vault.sealed_file import open_file

WAIT_S = 20.0


@dataclass
class Slow:
    """Waits at the second step until it is let go on."""

    reached: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    then: Callable[[], None] = lambda: None
    names: list[str] = field(default_factory=list)

    def __call__(self, step: UpgradeStep) -> None:
        self.names.append(step.name)
        if step.n == 2 and not step.is_done:
            self.reached.set()
            assert self.go_on.wait(WAIT_S)
            self.then()


@dataclass
class Served:
    home: Path
    slow: Slow
    task: "asyncio.Task[None]"
    browser: httpx.AsyncClient

    @property
    def schema(self) -> str | None:
        conn = sqlite3.connect(self.home / "data" / "ownkey.db")
        try:
            return read_revision(conn)
        finally:
            conn.close()

    async def end(self) -> None:
        """As a process manager ends it."""
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(asyncio.shield(self.task), WAIT_S)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """On a database of an old version, in the middle of its upgrade."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    write_new_keyset(tmp_path / "master.key")
    (tmp_path / "ownkey.toml").write_text(
        f'preset = "support-desk"\n[server]\nport = {port}\nshutdown_s = 1\n[prices]\nsync = false\n'
    )
    (tmp_path / "data").mkdir()
    lay_old_database(tmp_path / "data" / "ownkey.db")
    AuditKeyFile(tmp_path / "data" / "audit.key").make(read_keyset_file(tmp_path / "master.key"))
    environ = {"OWNKEY_CONFIG": str(tmp_path / "ownkey.toml")}
    handlers = {wanted: signal.getsignal(wanted) for wanted in (signal.SIGTERM, signal.SIGINT)}
    thresholds, slow = gc.get_threshold(), Slow()
    task = asyncio.ensure_future(bootstrap._serve(load_settings(None, environ), environ, slow))
    try:
        assert await asyncio.to_thread(slow.reached.wait, WAIT_S)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as browser:
            yield Served(tmp_path, slow, task, browser)
    finally:
        slow.go_on.set()
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait({task}, timeout=WAIT_S)
        for wanted, handler in handlers.items():
            signal.signal(wanted, handler)
        gc.unfreeze()
        gc.set_threshold(*thresholds)


async def ready(browser: httpx.AsyncClient) -> Any:
    for _ in range(400):
        answer = await browser.get("/readyz")
        if answer.status_code == 200:
            return answer
        await asyncio.sleep(0.02)
    raise AssertionError(answer.text)


async def test_it_answers_while_it_upgrades_and_serves_afterwards(served: Served) -> None:
    """One connection: 503 with the step, a page that says so, then the real doors. The database of before lies in the
    backups' folder, sealed; the audit log says when it was."""
    browser = served.browser
    health, waiting = await browser.get("/healthz"), await browser.get("/readyz")
    call, page = await browser.post("/v1/chat/completions", json={}), await browser.get("/console")
    before = served.schema
    served.slow.go_on.set()
    await ready(browser)
    call_after, page_after = await browser.post("/v1/chat/completions", json={}), await browser.get("/console")
    await served.end()
    kept = list((served.home / "data" / "backups").iterdir())
    conn = sqlite3.connect(served.home / "data" / "ownkey.db")
    audited = conn.execute("SELECT target, before FROM audit WHERE action = 'schema.upgraded'").fetchall()
    conn.close()
    (served.home / "out").mkdir()
    with kept[0].open("rb") as file:
        facts, parts = open_file(read_keyset_file(served.home / "master.key"), file)
        unpack(parts, served.home / "out", lambda _: None)
    conn = sqlite3.connect(served.home / "out" / "ownkey.db")
    copied = (read_revision(conn), conn.execute("SELECT name FROM workspace").fetchall())
    conn.close()

    assert health.status_code == 200
    assert waiting.status_code == 503
    assert f"from schema {OLD} to {HEAD}: step 2 of {len(COMING)}" in waiting.json()["status"]
    assert (call.status_code, call.headers["retry-after"]) == (503, "5")
    assert (page.status_code, "Ownkey is being upgraded" in page.text) == (503, True)
    assert before == OLD
    assert (call_after.status_code, page_after.status_code) == (401, 303)
    assert served.schema == HEAD
    assert [path.name.partition("_before_")[2] for path in kept] == [f"{HEAD}.backup"]
    assert (facts.schema, copied) == (OLD, (OLD, [("Acme",)]))
    assert audited == [(HEAD, f'{{"schema":"{OLD}"}}')]
    assert not (served.home / "data" / "run.json").exists()


async def test_a_websocket_is_answered_as_any_request(served: Served) -> None:
    """Nothing here speaks them: no 500 that anybody could call forth, and no line in the log that looks like a bug."""
    wish = {
        "connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    health = await served.browser.get("/healthz", headers=wish)
    call = await served.browser.get("/v1/realtime", headers=wish)

    assert (health.status_code, call.status_code) == (200, 503)


async def test_who_stops_it_in_the_middle_finds_the_old_database(served: Served) -> None:
    """SIGTERM: the step that runs ends, the transaction around all of them is undone, the process ends without an
    error; nobody was told that it serves."""
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.3)
    served.slow.go_on.set()
    await asyncio.wait_for(served.task, WAIT_S)

    assert served.schema == OLD
    assert not (served.home / "data" / "run.json").exists()
    assert len(served.slow.names) < 2 + len(COMING)


async def test_an_upgrade_that_fails_ends_the_process_with_its_sentence(served: Served) -> None:
    """The door closes, the database is as it was."""
    def fail() -> None:
        raise StoreError("The disk is full.")

    served.slow.then = fail
    served.slow.go_on.set()
    with pytest.raises(StoreError, match="The disk is full"):
        await asyncio.wait_for(served.task, WAIT_S)
    with pytest.raises(httpx.TransportError):
        await served.browser.get("/healthz")
    assert served.schema == OLD
