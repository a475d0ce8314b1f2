"""Long work as rows: what there is to do, how far it is, and what can honestly be said about the rest.

A row is claimed with a lease, tells of itself at least every few seconds, and goes on from its checkpoint after a
crash.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ownkey.domain.phrases import Phrase, together

STALL_MS = 30_000
REMAINING_AFTER_MS = 5_000
LEASE_MS = 60_000
FILE_KEPT_MS = 24 * 3_600_000
ROW_KEPT_MS = 30 * FILE_KEPT_MS
MOST_RUNS = 5
MOST_OPEN = 5
"""Pieces of work that one workspace, or the deployment, may have waiting and running together."""


class WorkKind(StrEnum):
    EXPORT = "export"
    REPLAY = "replay"
    EXPORT_ALL = "export_all"
    LEDGER_CHECK = "ledger_check"
    RECONCILE = "reconcile"
    PRICE_SYNC = "price_sync"
    REWRAP = "rewrap"
    BACKUP = "backup"


OF_WORKSPACE: Final = frozenset({WorkKind.EXPORT, WorkKind.REPLAY, WorkKind.EXPORT_ALL})
"""Work for one workspace; the rest is the deployment's."""

NAMES: Final[Mapping[WorkKind, str]] = {
    WorkKind.EXPORT: Phrase("Export of calls"),
    WorkKind.REPLAY: Phrase("Replay of a month"),
    WorkKind.EXPORT_ALL: Phrase("Export of the workspace"),
    WorkKind.LEDGER_CHECK: Phrase("Check of the books"),
    WorkKind.RECONCILE: Phrase("Comparison with Stripe"),
    WorkKind.PRICE_SYNC: Phrase("Reading of price lists"),
    WorkKind.REWRAP: Phrase("Rewrapping under the primary master key"),
    WorkKind.BACKUP: "Backup",
}


class WorkState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN: Final = frozenset({WorkState.WAITING, WorkState.RUNNING})


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work. `workspace_id` "" is the deployment's. `total` None: not known yet. `wish` says what is
    wanted, `checkpoint` where to go on, `result` what came of it: small JSON objects. `file` names the finished file,
    "" for none. `run_at_ms` and `run_done` are where the present run began. `member_id` asked for it on a page, ""
    where no member did. Times are Unix milliseconds."""

    id: str
    workspace_id: str
    kind: WorkKind
    state: WorkState
    wish: Mapping[str, Any]
    step: str
    done: int
    total: int | None
    checkpoint: Mapping[str, Any]
    error: str
    result: Mapping[str, Any]
    file: str
    started_by: str
    member_id: str
    created_at_ms: int
    run_at_ms: int | None
    run_done: int
    heartbeat_ms: int | None
    ended_at_ms: int | None
    runs: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What can be said now. `per_second` is this run's pace in hundredths, None while unknown; `remaining_s` is only
    said after five seconds, and only where there is a total and a pace. `stalled`: running, silent for 30 seconds."""

    done: int
    total: int | None
    per_second_hundredths: int | None
    remaining_s: int | None
    stalled: bool
    words: str


def tell_progress(work: Work, now_ms: int) -> Progress:
    """The same numbers for every page, tab and terminal."""
    rate = remaining = None
    if work.state is WorkState.RUNNING and work.run_at_ms is not None and work.heartbeat_ms is not None:
        took_ms, made = work.heartbeat_ms - work.run_at_ms, work.done - work.run_done
        if took_ms > 0 and made > 0:
            rate = made * 100_000 // took_ms
            if work.total is not None and now_ms - work.run_at_ms >= REMAINING_AFTER_MS:
                left_ms = max(0, work.total - work.done) * took_ms // made
                remaining = max(0, left_ms - max(0, now_ms - work.heartbeat_ms) + 999) // 1_000
    stalled = work.state is WorkState.RUNNING and now_ms - (work.heartbeat_ms or work.run_at_ms or 0) > STALL_MS
    if stalled:
        remaining = None
    return Progress(
        work.done, work.total, rate, remaining, stalled, _words(work, remaining, stalled, now_ms)
    )


def _words(work: Work, remaining_s: int | None, stalled: bool, now_ms: int) -> str:
    match work.state:
        case WorkState.WAITING:
            return Phrase("Waiting to begin.") if not work.runs else Phrase("Interrupted. It goes on by itself.")
        case WorkState.DONE:
            return Phrase("Done.")
        case WorkState.CANCELLED:
            return Phrase("Cancelled.")
        case WorkState.FAILED:
            return Phrase("Failed: {error}", error=work.error) if work.error else Phrase("Failed.")
        case WorkState.RUNNING:
            pass
    counted = f"{work.done:,}"
    if work.total is not None:
        counted = Phrase("{done} of {total}", done=counted, total=f"{work.total:,}")
    told = Phrase("{step}: {count}.", step=_STEPS.get(work.step, work.step) or Phrase("Working"), count=counted)
    if stalled:
        silent = (now_ms - (work.heartbeat_ms or work.run_at_ms or now_ms)) // 1_000
        return together(told, Phrase("Stalled: nothing has been heard of it for {seconds} s.", seconds=silent))
    if remaining_s is None:
        return told
    return together(told, Phrase("About {time} left.", time=tell_seconds(remaining_s)))


_STEPS: Final[Mapping[str, str]] = {step: step for step in (
    Phrase("Writing calls"), Phrase("Collecting settings"), Phrase("Writing receipts"), Phrase("Replaying calls"),
)}
"""The steps that members see, as workers name them in their rows."""


def tell_seconds(seconds: int) -> str:
    """"40 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{seconds} s"
    minutes = (seconds + 30) // 60
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
