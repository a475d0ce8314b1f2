"""The embedded store: one file, one owner, one writer; a hold that was granted is on the disk.

Every port of the use cases is satisfied by this one object, because they share one transaction log: money,
outbox and audit cannot disagree about what was committed.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from ownkey.domain.errors import Unavailable
from ownkey.domain.records import Actor, Finding, UsageSince, UsageSums
from ownkey.domain.upgrades import Told
from ownkey.store import receipt_rows
from ownkey.store.answers import AnswersPart
from ownkey.store.audit import save_audit
from ownkey.store.book_checks import BookChecks
from ownkey.store.books import BooksPart
from ownkey.store.call_facts import CallFactsPart
from ownkey.store.caps import CapsPart
from ownkey.store.connection import Connection, Lock, create_file, open_reader, open_writer
from ownkey.store.connects import ConnectsPart
from ownkey.store.credentials import CredentialsPart
from ownkey.store.credits import CreditsPart
from ownkey.store.figures import FigureReaders, FiguresPart
from ownkey.store.key_past import KeyPastPart
from ownkey.store.key_readings import KeyReadingsPart
from ownkey.store.late_costs import LateCostsPart
from ownkey.store.master_keys import MasterKeysPart, forget_processes
from ownkey.store.operator_sessions import OperatorSessionsPart
from ownkey.store.operators import OperatorsPart
from ownkey.store.outbox import OutboxPart, release_leases
from ownkey.store.overview import OverviewPart
from ownkey.store.payments import PaymentsPart
from ownkey.store.portal_sessions import PortalSessionsPart
from ownkey.store.prices import PricesPart, read_newest
from ownkey.store.recovery import recover
from ownkey.store.schema import HEAD, migrate, tell_last
from ownkey.store.tokens import TokensPart
from ownkey.store.totals import fill_in
from ownkey.store.work import WorkPart
from ownkey.store.workspaces import WorkspacesPart
from ownkey.store.writer import Writer

_INSTANCE = "SELECT id FROM instance"
_NEW_INSTANCE = "INSERT INTO instance(only_row, id, created_at_ms) VALUES (1, ?, ?)"
_FLAGS = "SELECT provider, model, price_version FROM overage_flag"
_EARLY_MS = 3_600_000
_EARLY_LIMIT = 10_000
_PROBE = "UPDATE instance SET created_at_ms = created_at_ms WHERE only_row = 1"


class SQLiteStore(
    OverviewPart, BooksPart, WorkspacesPart, TokensPart, CredentialsPart, CapsPart, CreditsPart, PricesPart,
    AnswersPart, ConnectsPart, CallFactsPart, KeyPastPart, KeyReadingsPart, LateCostsPart, OperatorSessionsPart,
    OperatorsPart, OutboxPart, PaymentsPart, FiguresPart, WorkPart, PortalSessionsPart, MasterKeysPart,
):
    """Satisfies every port of `gateway.ports` and `control.ports` that speaks of memory."""

    _lock: Lock
    _writing: Connection
    _checks: BookChecks

    @classmethod
    def open(
        cls, path: str | Path, *, clock_ms: Callable[[], int], boot_id: str,
        audit_key: bytes | Callable[[], bytes] = b"",
        make_writer: Callable[[Connection], Writer] = Writer, watch: Callable[[str], None] | None = None,
        told: Told | None = None, before_upgrade: Callable[[str, str], None] | None = None,
    ) -> Self:
        """Take the file, bring its schema up to date and end what a dead process left open.

        Raises InUse if another process owns it, TooNew if a newer version wrote it. `audit_key` keys the audit
        chains' MACs; a function is asked for it once the file is ours. Needs no running event loop; every coroutine
        method must then be called on one loop.
        `make_writer` is a simulation's way to own the writer's time; `watch` hears every statement of the writing
        connection before it runs (`failpoints`). `told` and `before_upgrade` hear of a schema that is brought up to
        date (`schema.migrate`).
        """
        path = Path(path).resolve()
        lock = Lock(path)
        opened: list[sqlite3.Connection] = []
        try:
            audit_key = audit_key() if callable(audit_key) else audit_key
            create_file(path)
            conn = open_writer(path, boot_id=boot_id, audit_key=audit_key)
            opened.append(conn)
            upgrade(conn, clock_ms, told, before_upgrade)
            if watch is not None:
                conn.set_trace_callback(watch)
            instance_id = _ensure_instance(conn, clock_ms())
            recovered = recover(conn, clock_ms())
            release_leases(conn, clock_ms())
            forget_processes(conn)
            conn.forget()
            opened += [near := open_reader(path), far := open_reader(path)]
            store = cls(
                conn, near, far, clock_ms=clock_ms, instance_id=instance_id, book=read_newest(near),
                overages=set(near.execute(_FLAGS).fetchall()), make_writer=make_writer,
            )
        except BaseException:
            for connection in opened:
                connection.close()
            lock.release()
            raise
        store._lock = lock
        store._writing = conn
        store._early_usage = {}
        store._figures = FigureReaders(path)
        store._checks = BookChecks(path, audit_key)
        store._boot_id = boot_id
        store.recovered_calls = recovered
        return store

    recovered_calls: int = 0
    _early_usage: dict[tuple[str, int, frozenset[str], frozenset[str]], tuple[int, Mapping[str, UsageSums]]]

    async def close(self) -> None:
        """Take nothing more, commit what waits, give the file back. Safe to call twice."""
        await asyncio.to_thread(self.writer.close)
        self._rooms.wake_all()
        await asyncio.to_thread(self._far_thread.shutdown)
        await asyncio.to_thread(self._figures.close)
        await asyncio.to_thread(self._checks.close)
        for connection in (self._near, self._far, self._writing):
            connection.close()
        self._lock.release()

    async def check_writable(self) -> bool:
        """For /readyz: one real commit."""
        try:
            await self.writer.submit(lambda conn: conn.execute(_PROBE).rowcount)
        except Unavailable:
            return False
        return True

    async def load_receipt(self, workspace_id: str | None, receipt_id: str) -> Mapping[str, Any] | None:
        """The stored document, amounts as integers of nano-USD; workspace None: any (operators)."""
        return receipt_rows.load_receipt(self._near, workspace_id, receipt_id)

    async def load_generation(self, workspace_id: str, ident: str) -> Mapping[str, Any] | None:
        """The receipt of an answer: by the id that the answer carried, or by the receipt's own."""
        return receipt_rows.load_generation(self._near, workspace_id, ident)

    async def load_usage(
        self, workspace_id: str, since: UsageSince, *, tasks: frozenset[str], projects: frozenset[str]
    ) -> Mapping[str, UsageSums]:
        """By who carried the calls: "openrouter", "direct", "credits". Empty sets: all tasks, all projects.

        What was before the current month and week is summed once an hour: it hardly changes, and grows without end.
        """
        border = min(since.week_ms, since.month_ms)
        place = (workspace_id, border, tasks, projects)
        kept = self._early_usage.get(place)
        if kept is None or kept[0] <= self.clock_ms():
            early = await self._read(
                lambda conn: receipt_rows.load_usage(conn, workspace_id, since, tasks, projects, 0, border)
            )
            if len(self._early_usage) >= _EARLY_LIMIT:
                self._early_usage.clear()
            kept = self._early_usage[place] = (self.clock_ms() + _EARLY_MS, early)
        late = await self._read(
            lambda conn: receipt_rows.load_usage(conn, workspace_id, since, tasks, projects, border)
        )
        none = UsageSums()
        return {
            carrier: replace(late.get(carrier, none), total=late.get(carrier, none).total + old.total)
            for carrier in {*kept[1], *late} for old in (kept[1].get(carrier, none),)
        }

    async def verify(self, at_ms: int) -> Sequence[Finding]:
        """Recompute every counter from rows and check every invariant; empty: clean."""
        return await self._checks.whole(at_ms)

    async def verify_recent(self, at_ms: int) -> Sequence[Finding]:
        """The same, without the calls and entries that have not been touched since the last clean check."""
        return await self._checks.recent(at_ms)


def upgrade(
    conn: Connection, clock_ms: Callable[[], int], told: Told | None = None,
    before: Callable[[str, str], None] | None = None,
) -> None:
    """Bring the schema up to date and fill what is new; the audit log keeps when that was and how long it took."""
    began_ms = clock_ms()
    old = migrate(conn, told, before)
    if old != HEAD:
        tell_last(told, old)
    fill_in(conn)
    if old != HEAD:
        tell_last(told, old, done=True)
    if old not in (None, HEAD):
        now_ms = clock_ms()
        conn.execute("BEGIN IMMEDIATE")
        save_audit(conn, None, "schema.upgraded", HEAD, {"schema": old},
                   {"schema": HEAD, "took_ms": max(0, now_ms - began_ms)}, at_ms=now_ms, actor=Actor("job", "start"))
        conn.execute("COMMIT")


def _ensure_instance(conn: Connection, at_ms: int) -> str:
    found = conn.execute(_INSTANCE).fetchone()
    if found is None:
        conn.execute(_NEW_INSTANCE, (f"inst_{secrets.token_hex(10)}", at_ms))
        found = conn.execute(_INSTANCE).fetchone()
    instance_id: str = found[0]
    return instance_id
