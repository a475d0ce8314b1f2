"""Long work: started, shown, cancelled, fetched; and run, one piece after the other, by whoever claims it.

What runs here tells of itself as it goes. Where its process dies, the next one goes on from the last checkpoint; where
it dies again and again, the work has failed.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ownkey.control.ports import Actor, Clock, ExportFiles, WorkClaims, WorkRows
from ownkey.control.problems import Problem, ProblemCode, invalid, not_found, suggest
from ownkey.domain.errors import Conflict, StoreError, Unavailable
from ownkey.domain.phrases import Phrase
from ownkey.domain.work import (
    LEASE_MS,
    MOST_OPEN,
    MOST_RUNS,
    NAMES,
    OF_WORKSPACE,
    OPEN,
    Progress,
    Work,
    WorkKind,
    WorkState,
    tell_progress,
)
from ownkey.domain.workspace import WorkspaceState

_log = logging.getLogger(__name__)

BEAT_S = 1.0
_DEPLOYMENT = ""


@dataclass(frozen=True, slots=True)
class WorkView:
    """A piece of work as pages and terminals show it. `can_fetch`: its file is there."""

    work: Work
    name: str
    progress: Progress
    can_fetch: bool
    can_cancel: bool


@dataclass(frozen=True, slots=True)
class Made:
    """What a worker made: `file` is the name of a finished file, "" for none; `result` a small JSON object."""

    done: int
    total: int | None
    result: Mapping[str, Any]
    file: str = ""


class Stopped(Exception):
    """The work was cancelled, or another process has it now: there is nothing left to do here."""


class WorkFailed(Exception):
    """It cannot be done, and trying again would not help; the text is a sentence for whoever started it."""


class WorkControl:
    """Work of one workspace, or of the deployment (workspace None)."""

    def __init__(self, store: WorkRows, files: ExportFiles, clock: Clock) -> None:
        self._store = store
        self._files = files
        self._clock = clock

    async def start(
        self, workspace: WorkspaceState | None, kind: str, wish: Mapping[str, Any], actor: Actor, member_id: str = ""
    ) -> WorkView:
        """Begin it, or find the same that is open already: a second click starts nothing. `member_id` gets an e-mail
        when it has ended. Raises Problem."""
        known = [name for name in WorkKind if (name in OF_WORKSPACE) is (workspace is not None)]
        if kind not in known:
            raise invalid(
                "kind", Phrase("There is no such work here: {kind}.", kind=repr(kind[:40])),
                suggest(kind, tuple(known))
            )
        place = _DEPLOYMENT if workspace is None else workspace.id
        try:
            work = await self._store.create_work(
                self._clock.new_id("work"), place, WorkKind(kind), wish, member_id=member_id,
                at_ms=self._clock.now_ms(), actor=actor,
            )
        except Conflict as error:
            raise Problem(
                ProblemCode.CONFLICT, Phrase("{count} pieces of work are open here already.", count=MOST_OPEN),
                Phrase("Wait until one has ended, or cancel one."),
            ) from error
        return self.view(work)

    async def list(self, workspace: WorkspaceState | None, limit: int = 50) -> Sequence[WorkView]:
        """Newest first."""
        place = _DEPLOYMENT if workspace is None else workspace.id
        return [self.view(work) for work in await self._store.load_works(place, limit=limit)]

    async def list_all(self, limit: int = 50) -> Sequence[WorkView]:
        """Every workspace's and the deployment's, newest first: for operators."""
        return [self.view(work) for work in await self._store.load_works(None, limit=limit)]

    async def show(self, workspace: WorkspaceState | None, work_id: str) -> WorkView:
        """Raises Problem where there is none of that id here."""
        work = await self._store.load_work(_DEPLOYMENT if workspace is None else workspace.id, work_id)
        if work is None:
            raise not_found("work", work_id, "here" if workspace is None else "in this workspace")
        return self.view(work)

    async def cancel(self, workspace: WorkspaceState | None, work_id: str, actor: Actor) -> WorkView:
        """What has ended stays as it is."""
        found = await self.show(workspace, work_id)
        await self._store.cancel_work(
            found.work.workspace_id, work_id, at_ms=self._clock.now_ms(), actor=actor
        )
        return await self.show(workspace, work_id)

    async def fetch(self, workspace: WorkspaceState, work_id: str) -> tuple[str, AsyncIterator[bytes]]:
        """(name, content) of the finished file. Raises Problem where it is not there, or not any more."""
        found = await self.show(workspace, work_id)
        if not found.can_fetch:
            if found.work.state in OPEN:
                raise Problem(
                    ProblemCode.CONFLICT, Phrase("This is not finished."), Phrase("Fetch it when it is done.")
                )
            raise not_found("file of", work_id, "any more: files are kept for 24 hours")
        return str(found.work.result.get("name") or found.work.file), self._files.read(found.work.file)

    def view(self, work: Work) -> WorkView:
        has_file = work.state is WorkState.DONE and bool(work.file) and self._files.size(work.file) is not None
        return WorkView(work, NAMES[work.kind], tell_progress(work, self._clock.now_ms()), has_file, work.state in OPEN)


class Teller:
    """How running work tells of itself: at most once a second, and with each checkpoint that is worth keeping."""

    def __init__(self, claims: WorkClaims, work: Work, clock: Clock) -> None:
        self._claims = claims
        self._work = work
        self._clock = clock
        self._told_s = -BEAT_S

    async def tell(
        self, step: str, done: int, total: int | None, checkpoint: Mapping[str, Any], *, now: bool = False
    ) -> None:
        """Raises Stopped where this work is not this process's any more."""
        at_s = self._clock.monotonic()
        if not now and at_s - self._told_s < BEAT_S:
            return
        self._told_s = at_s
        at_ms = self._clock.now_ms()
        if not await self._claims.save_beat(
            self._work, step, done, total, checkpoint, at_ms=at_ms, until_ms=at_ms + LEASE_MS
        ):
            raise Stopped


class Worker(Protocol):
    """One kind of work."""

    async def run(self, work: Work, teller: Teller) -> Made:
        """Do it, from `work.checkpoint` on. Raises Stopped, WorkFailed; anything else is tried again."""
        ...


class WorkRunner:
    """Claims what waits and does it. Two of them in one process work side by side."""

    def __init__(
        self, claims: WorkClaims, workers: Mapping[WorkKind, Worker], files: ExportFiles, clock: Clock
    ) -> None:
        self._claims = claims
        self._workers = workers
        self._files = files
        self._clock = clock

    async def run_due(self) -> int:
        """Everything that waits now, one after the other; returns how many."""
        done = 0
        while True:
            now = self._clock.now_ms()
            work = await self._claims.claim_work(now, now + LEASE_MS)
            if work is None:
                return done
            await self._run(work)
            done += 1

    async def _run(self, work: Work) -> None:
        worker = self._workers.get(work.kind)
        if worker is None:
            await self._fail(work, "This deployment cannot do that: it is not configured.")
            return
        if work.runs > MOST_RUNS:
            await self._fail(work, work.error or f"It was interrupted {MOST_RUNS} times.")
            return
        try:
            made = await worker.run(work, Teller(self._claims, work, self._clock))
        except Stopped:
            await self._files.drop(part_name(work))
        except WorkFailed as error:
            await self._fail(work, str(error))
        except Unavailable as error:
            _log.warning("work %s waits: %s", work.id, error)
            await self._put_back(work, "The database was not available.")
        except Exception as error:  # noqa: BLE001 - whatever a worker does wrong, its row says so and the next one runs
            _log.exception("work %s failed", work.id)
            await self._fail(work, f"It ended with an internal error ({type(error).__name__}).")
        else:
            ended = await self._claims.end_work(
                work, WorkState.DONE, error="", result=made.result, file=made.file, done=made.done, total=made.total,
                at_ms=self._clock.now_ms(),
            )
            if not ended and made.file:
                await self._files.drop(made.file)

    async def _fail(self, work: Work, error: str) -> None:
        await self._files.drop(part_name(work))
        with contextlib.suppress(StoreError):
            await self._claims.end_work(
                work, WorkState.FAILED, error=error, result={}, file="", done=work.done, total=work.total,
                at_ms=self._clock.now_ms(),
            )

    async def _put_back(self, work: Work, error: str) -> None:
        with contextlib.suppress(StoreError):
            await self._claims.put_back_work(work, error)

    async def drop_stale_files(self) -> int:
        """Files whose day is over, and rows of long ago."""
        names = await self._claims.take_stale_files(self._clock.now_ms())
        for name in names:
            await self._files.drop(name)
        return len(names)


def part_name(work: Work) -> str:
    """The unfinished file of a piece of work."""
    return f"{work.id}.part"
