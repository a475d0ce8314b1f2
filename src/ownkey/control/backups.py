"""Backups: started as work, listed, fetched, and made by the clock where the configuration says so."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from ownkey.control.ports import Actor, BackupFiles, Clock
from ownkey.control.problems import not_found
from ownkey.control.work import Made, Teller, WorkControl, WorkFailed, WorkView
from ownkey.domain.backups import BackupFile, BackupRules, BackupTrouble, is_due, is_late, newest_of, outdated
from ownkey.domain.work import OPEN, Work, WorkKind, WorkState

CLOCK = Actor("job", "backup")
BEAT_S = 1.0
_LOOKED_THROUGH = 50


@dataclass(frozen=True, slots=True)
class BackupsView:
    """What there is, newest first; what is being made now, and the last one where it failed; whether a schedule is
    not kept."""

    files: Sequence[BackupFile]
    running: WorkView | None
    failed: WorkView | None
    late: bool
    rules: BackupRules


class BackupControl:
    """The deployment's backups."""

    def __init__(self, files: BackupFiles, work: WorkControl, clock: Clock, rules: BackupRules) -> None:
        self._files = files
        self._work = work
        self._clock = clock
        self._began_ms = clock.now_ms()
        self.rules = rules

    async def show(self) -> BackupsView:
        files, tries = await self._files.list(), await self._tries()
        running = next((view for view in tries if view.work.state in OPEN), None)
        failed = tries[0] if tries and tries[0].work.state is WorkState.FAILED else None
        now = self._clock.now_ms()
        late = is_late(newest_of(files, now), self.rules, now, self._began_ms)
        return BackupsView(files, running, failed, late, self.rules)

    async def start(self, actor: Actor) -> WorkView:
        """Begin one, or find the one that is being made. Raises Problem."""
        return await self._work.start(None, WorkKind.BACKUP, {}, actor)

    async def start_due(self) -> bool:
        """The schedule's round: whether one was begun."""
        if not self.rules.every_ms:
            return False
        tries = await self._tries()
        last_try_ms = tries[0].work.created_at_ms if tries else None
        files, now = await self._files.list(), self._clock.now_ms()
        if not is_due(newest_of(files, now), last_try_ms, self.rules, now):
            return False
        await self.start(CLOCK)
        return True

    async def fetch(self, name: str) -> tuple[BackupFile, AsyncIterator[bytes]]:
        """A finished backup and its content, sealed as it is. Raises Problem."""
        found = next((file for file in await self._files.list() if file.name == name), None)
        if found is None:
            raise not_found("backup", name, "in the backups' folder")
        return found, self._files.read(found.name)

    async def _tries(self) -> Sequence[WorkView]:
        return [
            view for view in await self._work.list(None, _LOOKED_THROUGH) if view.work.kind is WorkKind.BACKUP
        ]


class _Heard:
    """What the thread that copies has said last. `stop` is heard by it at its next word."""

    def __init__(self) -> None:
        self.last: tuple[str, int, int | None] = ("Beginning", 0, None)
        self.stopped = False

    def tell(self, step: str, done: int, total: int) -> None:
        if self.stopped:
            raise _Ended
        self.last = (step, done, total)


class _Ended(Exception):
    """Nobody waits for this backup any more."""


class BackupWorker:
    """One backup; then those that are too many go. A run that was interrupted begins again."""

    def __init__(self, files: BackupFiles, clock: Clock, rules: BackupRules) -> None:
        self._files = files
        self._clock = clock
        self._rules = rules

    async def run(self, work: Work, teller: Teller) -> Made:
        heard = _Heard()
        making = asyncio.ensure_future(self._files.make(self._clock.now_ms(), heard.tell))
        try:
            while not making.done():
                await asyncio.wait({making}, timeout=BEAT_S)
                await teller.tell(*heard.last, {}, now=True)
        finally:
            if not making.done():
                # The thread ends at its next step, and takes its files along.
                heard.stopped = True
                with contextlib.suppress(_Ended, BackupTrouble):
                    await making
        try:
            made = making.result()
        except BackupTrouble as error:
            raise WorkFailed(f"{error.sentence} {error.fix}") from error
        dropped = outdated(await self._files.list(), self._rules, made.facts.made_at_ms)
        for name in dropped:
            await self._files.drop(name)
        _, _, total = heard.last
        return Made(total or 0, total, {
            "name": made.name, "bytes": made.bytes, "schema": made.facts.schema, "master_key": made.facts.kek_id,
            "dropped": len(dropped),
        })
