"""The master keys of a deployment: what each process has loaded, what hangs on each, and which step may come next.

The server never writes the keyset: `ownkey master-key` does, where the file is, once this has said that it may. A key
is added, every process loads it, it becomes the first, every process follows, data keys move to it, the old one goes.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ownkey.control.master_key_check import KeyCheck, Swept
from ownkey.control.ports import Actor, Clock
from ownkey.control.problems import Problem, ProblemCode, invalid
from ownkey.control.work import WorkControl, WorkView
from ownkey.domain.master_key import (
    AUDIT_KEY,
    BEAT_MS,
    LEAVING_MS,
    LIVE_MS,
    UNREADABLE,
    KeyProcess,
    KnownKey,
    LoadedKey,
)
from ownkey.domain.work import WorkKind

_log = logging.getLogger(__name__)

KEEPER = Actor("job", "master_key")
LOOKED_THROUGH = 100
_STATUS = "`ownkey master-key status` shows every process and what it has loaded."


class Ring(Protocol):
    """The master keys of this process."""

    problem: str

    @property
    def source(self) -> str:
        """The keyset's file, "" for the environment."""
        ...

    @property
    def keys(self) -> Sequence[LoadedKey]: ...

    def has_changed(self) -> bool: ...

    def reload(self, in_use: Mapping[str, str], retired: Collection[str]) -> bool:
        """Read the file again. True: other keys are in force now. False with `problem`: it was refused."""
        ...

    def forget_left(self) -> None: ...

    def audit_kek_id(self) -> str: ...


class KeyBook(Protocol):
    """What the deployment remembers of master keys."""

    async def load_keks_in_use(self) -> Mapping[str, str]: ...

    async def load_known_keys(self) -> Sequence[KnownKey]: ...

    async def load_key_processes(self, since_ms: int) -> Sequence[KeyProcess]: ...

    async def load_keyring(self) -> Mapping[str, int]:
        """Master key's id → workspaces' data keys that it wraps."""
        ...

    async def retire_master_key(self, kek_id: str, *, at_ms: int, actor: Actor) -> int:
        """Data keys that still hang on it; 0: it is retired."""
        ...


class ProcessRows(Protocol):
    """Who runs, with which keys."""

    async def save_key_process(self, process: KeyProcess, *, stale_ms: int, actor: Actor) -> None: ...

    async def forget_key_process(self, boot_id: str) -> None: ...


class KeyStore(KeyBook, ProcessRows, Protocol):
    pass


@dataclass(frozen=True, slots=True)
class KeyLine:
    """One master key. `data_keys` hang on it, the audit key's among them; `loaded_by` of the live processes have it,
    `differs` where one has other bytes under its name."""

    kek_id: str
    fingerprint: str
    primary: bool
    data_keys: int
    loaded_by: int
    differs: bool
    first_seen_ms: int | None
    retired_at_ms: int | None


@dataclass(frozen=True, slots=True)
class KeyringView:
    """`left` data keys hang on another key than the first; `swept` is what the last look at every sealed row found,
    None before the first one; `work` the latest rewrap, running or ended. `problems` are why a process has refused the
    keyset that lies there now."""

    source: str
    primary: str
    keys: Sequence[KeyLine]
    processes: Sequence[KeyProcess]
    left: int
    swept: Swept | None
    work: WorkView | None
    problems: Sequence[str]

    @property
    def undecryptable(self) -> int:
        return 0 if self.swept is None else self.swept.bad


class KeyKeeper:
    """This process's part: reads the keyset again when its file changed, and says what it has loaded."""

    def __init__(
        self, ring: Ring, store: KeyStore, clock: Clock, *, boot_id: str, host: str, pid: int
    ) -> None:
        self._ring = ring
        self._store = store
        self._clock = clock
        self._who = (boot_id, host, pid)
        self._started_ms = clock.now_ms()
        self._told: tuple[Sequence[LoadedKey], str] | None = None
        self._told_ms = 0
        self._left_s: float | None = None
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """One round: a stat, sometimes a read, every few rounds a row."""
        await self.look(KEEPER)

    async def look(self, actor: Actor, *, force: bool = False) -> None:
        """`force`: read the file although it seems to be the same, and tell at once."""
        async with self._one_at_a_time:
            if force or await asyncio.to_thread(self._ring.has_changed):
                await self._reload()
            now, told = self._clock.now_ms(), (self._ring.keys, self._ring.problem)
            # Not by the wall clock: one that jumps must not take a key from calls that are under way.
            if self._left_s is not None and self._clock.monotonic() - self._left_s >= LEAVING_MS / 1_000:
                self._left_s = None
                self._ring.forget_left()
            if force or told != self._told or now - self._told_ms >= BEAT_MS:
                boot_id, host, pid = self._who
                await self._store.save_key_process(
                    KeyProcess(boot_id, host, pid, self._started_ms, now, *told), stale_ms=now - LIVE_MS, actor=actor
                )
                self._told, self._told_ms = told, now

    async def leave(self) -> None:
        """This process ends: nobody waits for it any more."""
        if self._told is not None:
            self._told = None
            await self._store.forget_key_process(self._who[0])

    async def _reload(self) -> None:
        in_use = dict(await self._store.load_keks_in_use())
        known = {key.kek_id: key for key in await self._store.load_known_keys()}
        audit = await asyncio.to_thread(self._ring.audit_kek_id)
        if audit not in ("", UNREADABLE, *in_use):
            in_use[audit] = known[audit].fingerprint if audit in known else ""
        retired = {key.kek_id for key in known.values() if key.retired_at_ms is not None}
        before, problem = self._ring.keys, self._ring.problem
        if await asyncio.to_thread(self._ring.reload, in_use, retired):
            gone = {key.kek_id for key in before} - {key.kek_id for key in self._ring.keys}
            if gone:
                self._left_s = self._clock.monotonic()
            _log.info("master keys in force: %s", ", ".join(key.kek_id for key in self._ring.keys))
        elif self._ring.problem and self._ring.problem != problem:
            _log.critical("the changed keyset is refused, the old one stays in force: %s", self._ring.problem)


class MasterKeyControl:
    def __init__(
        self, ring: Ring, keeper: KeyKeeper, check: KeyCheck, store: KeyBook, work: WorkControl, clock: Clock
    ) -> None:
        self._ring = ring
        self._keeper = keeper
        self._check = check
        self._store = store
        self._work = work
        self._clock = clock

    async def show(self) -> KeyringView:
        processes = await self._store.load_key_processes(self._clock.now_ms() - LIVE_MS)
        rows = await self._data_keys()
        known = {key.kek_id: key for key in await self._store.load_known_keys()}
        own = {key.kek_id: key.fingerprint for key in self._ring.keys}
        names = [*own, *sorted({*rows, *known, *(k.kek_id for p in processes for k in p.keys)} - own.keys())]
        primary = self._ring.keys[0].kek_id
        lines = [self._line(name, own, known.get(name), processes, rows.get(name, 0)) for name in names]
        problems = [f"{p.name}: {p.problem}" for p in processes if p.problem]
        if self._ring.problem and not problems:
            problems = [self._ring.problem]
        return KeyringView(
            self._ring.source, primary, lines, processes, sum(rows.values()) - rows.get(primary, 0), self._check.last,
            await self._latest_work(), problems,
        )

    async def reload(self, actor: Actor) -> KeyringView:
        """Read the keyset now instead of within seconds, in this process; the others follow by themselves."""
        await self._keeper.look(actor, force=True)
        return await self.show()

    async def check_promote(self, kek_id: str, fingerprint: str) -> KeyringView:
        """Whether this key may become the first. Raises Problem where a process could not open what another wraps."""
        view = await self.show()
        line = self._find(view, kek_id)
        if line.retired_at_ms is not None:
            raise self._refuse(f"{kek_id} was retired.", "Add a new key: `ownkey master-key add`.")
        wanted = LoadedKey(kek_id, fingerprint)
        without = [p.name for p in view.processes if not p.has(wanted)]
        if without or (not view.processes and wanted not in self._ring.keys):
            raise self._refuse(
                f"{_named(without, 'This process')} has not loaded {kek_id} as it stands in the file.",
                f"Put the same keyset beside each process; it is read within seconds. {_STATUS}",
            )
        return view

    async def retire(self, kek_id: str, actor: Actor) -> KeyringView:
        """Nothing may hang on it any more. Raises Problem while something does, or a process still wraps with it."""
        view = await self.show()
        line = self._find(view, kek_id)
        firsts = [p.name for p in view.processes if p.primary.kek_id == kek_id]
        if firsts or view.primary == kek_id:
            raise self._refuse(
                f"{_named(firsts, 'This process')} still has {kek_id} as its first key.",
                f"Promote another key, and wait until every process has followed. {_STATUS}",
            )
        if await asyncio.to_thread(self._ring.audit_kek_id) == UNREADABLE:
            raise self._refuse(
                f"{AUDIT_KEY} cannot be read, so nobody can tell which master key it hangs on.",
                "Restore it from the same backup as the database.",
            )
        left = line.data_keys or await self._store.retire_master_key(
            kek_id, at_ms=self._clock.now_ms(), actor=actor
        )
        if left:
            raise self._refuse(
                f"{left:,} data keys still hang on {kek_id}: without it they, and what they seal, are lost.",
                "Run `ownkey master-key rewrap` first.",
            )
        return await self.show()

    async def start_rewrap(self, actor: Actor) -> WorkView:
        """Move every data key to the first master key, or find the same work under way. Raises Problem."""
        primary = await self.check_rewrap()
        return await self._work.start(None, WorkKind.REWRAP, {"to": primary.kek_id}, actor)

    async def check_rewrap(self) -> LoadedKey:
        """Where everything would go. Raises Problem while a process has another first key: it would go on wrapping with
        that one."""
        primary = self._ring.keys[0]
        processes = await self._store.load_key_processes(self._clock.now_ms() - LIVE_MS)
        others = [p.name for p in processes if p.primary != primary]
        if others:
            raise self._refuse(
                f"{_named(others, '')} has another first key than {primary.kek_id}.",
                f"Wait until every process has read the keyset again. {_STATUS}",
            )
        return primary

    # --- parts

    async def _data_keys(self) -> Mapping[str, int]:
        """By master key; the audit key's own data key counts where it hangs."""
        rows = dict(await self._store.load_keyring())
        audit = await asyncio.to_thread(self._ring.audit_kek_id)
        return rows if audit in ("", UNREADABLE) else {**rows, audit: rows.get(audit, 0) + 1}

    async def _latest_work(self) -> WorkView | None:
        found = await self._work.list(None, LOOKED_THROUGH)
        return next((view for view in found if view.work.kind is WorkKind.REWRAP), None)

    def _line(
        self, kek_id: str, own: Mapping[str, str], known: KnownKey | None, processes: Sequence[KeyProcess], rows: int
    ) -> KeyLine:
        loaded = [key.fingerprint for process in processes for key in process.keys if key.kek_id == kek_id]
        prints = {*loaded, *([own[kek_id]] if kek_id in own else [])}
        fingerprint = own.get(kek_id) or (known.fingerprint if known else "") or next(iter(loaded), "")
        return KeyLine(
            kek_id, fingerprint, kek_id == self._ring.keys[0].kek_id, rows, len(loaded), len(prints) > 1,
            known.first_seen_ms if known else None, known.retired_at_ms if known else None,
        )

    @staticmethod
    def _find(view: KeyringView, kek_id: str) -> KeyLine:
        found = next((line for line in view.keys if line.kek_id == kek_id), None)
        if found is None:
            names = ", ".join(line.kek_id for line in view.keys)
            raise invalid("key", f"There is no master key {kek_id[:40]!r}.", f"There are: {names}.")
        return found

    @staticmethod
    def _refuse(message: str, fix: str) -> Problem:
        return Problem(ProblemCode.CONFLICT, message, fix)


def _named(processes: Sequence[str], otherwise: str) -> str:
    if not processes:
        return otherwise
    more = "" if len(processes) == 1 else f" (and {len(processes) - 1} more)"
    return f"The process {processes[0]}{more}"
