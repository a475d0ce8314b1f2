"""What is under way: work and calls in the middle, as a page shows them for some seconds.

Real work of a test is over before anybody can look at it, so its rows are written as a runner leaves them; calls are
real ones, to a provider that takes its time.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import httpx
from playwright.sync_api import Frame
from tests.browser.portal_world import PEOPLE, PLATFORM_KEY, PortalWorld
from tests.browser.preparing import (
    ask,
    books,
    failed_events,
    past_due,
    paused,
    suspended,
    undecryptable,
    unhealthy,
)
from tests.deployment import TestWorkspace

from ownkey.domain.work import WorkKind

HOUR_MS = 3_600_000
LATENCY_S = 40.0
"""Longer than anybody looks at a call that runs."""

_ROW = """
INSERT OR REPLACE INTO work(id, workspace_id, kind, state, wish, step, done, total, error, started_by, member_id,
  created_at_ms, run_at_ms, heartbeat_ms, ended_at_ms, boot_id, lease_until_ms, runs)
VALUES (:id, :workspace, :kind, :state, :wish, :step, :done, :total, :error, :by, :member, :created, :run, :beat,
  :ended, :boot, :lease, 1)
"""
_BOOT = "SELECT boot_id FROM hold ORDER BY created_at_ms DESC LIMIT 1"
_HELD = """
SELECT call_id FROM hold WHERE workspace_id = ? AND state = 'held' AND context IS NOT NULL
ORDER BY created_at_ms DESC LIMIT 1
"""
_RUN_OUT = "UPDATE hold SET expires_at_ms = 1 WHERE call_id = ? AND workspace_id = ?"


@dataclass(frozen=True, slots=True)
class Row:
    """A piece of work as its row tells it. `ran_s`: since when it runs; `silent_s`: since when nothing was heard."""

    kind: WorkKind
    state: str = "running"
    step: str = ""
    done: int = 0
    total: int | None = None
    ran_s: int = 150
    silent_s: int = 0
    wish: str = "{}"
    error: str = ""


def put_work(world: PortalWorld, workspace_id: str, row: Row) -> str:
    """The id of this piece of work, which is as old at every call. The server's own runner leaves it alone: it has the
    lease of a process that is alive."""
    now_ms = int(time.time() * 1_000)
    ident = f"work_{row.kind.value}_{row.state}_{row.silent_s}_{workspace_id[-12:]}"
    ended = row.state in ("done", "failed", "cancelled")
    with books(world) as rows:
        boot = rows.execute(_BOOT).fetchone()
        rows.execute(_ROW, {
            "id": ident, "workspace": workspace_id, "kind": row.kind.value, "state": row.state, "wish": row.wish,
            "step": row.step, "done": row.done, "total": row.total, "error": row.error, "by": "member:ada",
            "member": PEOPLE["owner"][0], "created": now_ms - 1_000 * (row.ran_s + 2),
            "run": now_ms - 1_000 * row.ran_s,
            "beat": now_ms - 1_000 * row.silent_s, "ended": now_ms - 2_000 if ended else None,
            "boot": boot[0] if boot else "", "lease": now_ms + HOUR_MS,
        })
    return ident


def work_at(place: str, row: Row) -> Callable[[PortalWorld, TestWorkspace], str]:
    """The address of a piece of work as it is at this very moment; `place` may name {id}."""

    def address(world: PortalWorld, workspace: TestWorkspace) -> str:
        return place.format(id=put_work(world, workspace.id, row))

    return address


EXPORT = Row(WorkKind.EXPORT, step="Writing calls", done=31_500, total=84_212, wish='{"outcome":"ok","project":"shop"}')
STALLED = Row(WorkKind.EXPORT, step="Writing calls", done=31_500, total=84_212, silent_s=47)
FAILED = Row(
    WorkKind.EXPORT, "failed", "Writing calls", 31_500, 84_212,
    error="The disk is full. Free some space, then start it again.",
)
CANCELLED = Row(WorkKind.EXPORT, "cancelled", "Writing calls", 4_500, 84_212)
REPLAY = Row(
    WorkKind.REPLAY, step="Replaying calls", done=310_000, total=1_204_551, ran_s=40,
    wish='{"month":"2026-10","cap_usd":"50","direct":["anthropic"],"fee_percent":"5.5"}',
)
REPLAY_FAILED = replace(REPLAY, state="failed", error="The price list of that month is gone.")
ARCHIVE = Row(WorkKind.EXPORT_ALL, step="Writing receipts", done=48_000, total=None, ran_s=30)
OF_THE_DEPLOYMENT = (
    Row(WorkKind.LEDGER_CHECK, step="Adding up the books", ran_s=75),
    Row(WorkKind.RECONCILE, step="Asking Stripe", ran_s=9),
    Row(WorkKind.PRICE_SYNC, step="Reading price lists", ran_s=50, silent_s=41),
    Row(WorkKind.REWRAP, step="Rewrapping data keys", done=6_200, total=10_000, ran_s=31),
    Row(WorkKind.BACKUP, step="Copying the database, in pages", done=48_128, total=131_072, ran_s=12),
    Row(WorkKind.PRICE_SYNC, "failed", "Reading price lists", 2, 4, error="Anthropic's price list cannot be read."),
)


def every_list(place: str) -> Callable[[PortalWorld, TestWorkspace], str]:
    """A list with work in every state that lasts: what waits is taken up within a second."""

    def address(world: PortalWorld, workspace: TestWorkspace) -> str:
        for row in (EXPORT, STALLED, FAILED, CANCELLED):
            put_work(world, workspace.id, row)
        return place

    return address


def lists_replays(world: PortalWorld, workspace: TestWorkspace) -> str:
    """The form, with what was replayed before."""
    for row in (REPLAY, REPLAY_FAILED, replace(REPLAY, state="cancelled")):
        put_work(world, workspace.id, row)
    return "/portal/explain/replay"


def deployment_at_work(world: PortalWorld, workspace: TestWorkspace) -> str:
    """The console's list, with work of each kind."""
    for row in OF_THE_DEPLOYMENT:
        put_work(world, "", row)
    for row in (EXPORT, REPLAY, ARCHIVE):
        put_work(world, workspace.id, row)
    return "/console/system"


def failed_backup(world: PortalWorld, workspace: TestWorkspace) -> str:
    """The last one came to nothing."""
    put_work(world, "", Row(
        WorkKind.BACKUP, "failed", "Sealing the copy", 48_128, 131_072, ran_s=0,
        error="The disk is full. Free some space, then start it again.",
    ))
    return "/console/system"


def hold_still(shown: Frame, world: PortalWorld) -> None:
    """A page that comes again by itself stays as it is while it is looked at."""
    shown.evaluate("() => { htmx.ajax = () => Promise.resolve(); }")


# --- calls


def slow_provider(world: PortalWorld, workspace: TestWorkspace) -> None:
    """A key whose provider takes its time."""
    key = world.key("openrouter")
    workspace.save_key("openrouter", key, label="Production")
    world.deployment.emulator.set({"latency_s": LATENCY_S}, provider="openrouter", key=key)


def slow_and_capped(world: PortalWorld, workspace: TestWorkspace) -> None:
    slow_provider(world, workspace)
    workspace.set_cap("0.002")


def begin_call(
    world: PortalWorld, workspace: TestWorkspace, *, patience_s: float = LATENCY_S, **more: object
) -> str:
    """The id of a call that has begun and whose answer is far away; whoever asks waits `patience_s`."""
    body = {"model": "openai/gpt-4.1-mini", "messages": [{"role": "user", "content": "Write a novel."}], **more}
    threading.Thread(target=_send, args=(world, workspace, body, patience_s), daemon=True).start()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with books(world) as rows:
            found = rows.execute(_HELD, (workspace.id,)).fetchone()
        if found:
            return str(found[0])
        time.sleep(0.05)
    raise AssertionError("the call did not begin")


def _send(world: PortalWorld, workspace: TestWorkspace, body: object, patience_s: float) -> None:
    try:
        httpx.post(
            world.url + "/v1/chat/completions", json=body, timeout=patience_s, trust_env=False,
            headers={
                "authorization": f"Bearer {workspace.token}", "x-ownkey-project": "shop",
                "x-ownkey-conversation": "ticket-7",
            },
        )
    except httpx.HTTPError:
        return


def running_call(world: PortalWorld, workspace: TestWorkspace) -> str:
    return f"/portal/calls/{begin_call(world, workspace, max_tokens=400)}"


def running_call_for_operators(world: PortalWorld, workspace: TestWorkspace) -> str:
    return f"/console/calls/{begin_call(world, workspace, max_tokens=400)}"


def all_held(place: str) -> Callable[[PortalWorld, TestWorkspace], str]:
    """A page while a call holds all that is left under the cap."""

    def address(world: PortalWorld, workspace: TestWorkspace) -> str:
        begin_call(world, workspace)  # of no length of its own: as long as what is left pays for
        return place

    return address


def died(world: PortalWorld, workspace: TestWorkspace) -> None:
    """A call whose process was gone: its hold runs out, and the next round writes the receipt."""
    slow_provider(world, workspace)
    _expire(world, workspace, begin_call(world, workspace, max_tokens=400))


def died_on_credits(world: PortalWorld, workspace: TestWorkspace) -> None:
    """The same where credits paid: the platform's own key, slow for this one call."""
    emulator = world.deployment.emulator
    emulator.set({"latency_s": LATENCY_S}, provider="openrouter", key=PLATFORM_KEY)
    try:
        call = begin_call(world, workspace, max_tokens=400)
    finally:
        emulator.set({"latency_s": 0.0}, provider="openrouter", key=PLATFORM_KEY)
    _expire(world, workspace, call)


def _expire(world: PortalWorld, workspace: TestWorkspace, call: str) -> None:
    with books(world) as rows:
        rows.execute(_RUN_OUT, (call, workspace.id))
    until = time.monotonic() + 15
    while not any(receipt["id"] == call for receipt in workspace.receipts()):
        assert time.monotonic() < until, "the hold was not expired"
        time.sleep(0.1)


def busy_refused(world: PortalWorld, workspace: TestWorkspace) -> None:
    """A call that found nothing left under the cap but what another one holds."""
    slow_and_capped(world, workspace)
    begin_call(world, workspace)
    ask(workspace)


def hung_up_call(world: PortalWorld, workspace: TestWorkspace) -> None:
    """Whoever asked went away before the answer."""
    slow_provider(world, workspace)
    begin_call(world, workspace, patience_s=1.0, max_tokens=400)
    until = time.monotonic() + 15
    while not workspace.receipts():
        assert time.monotonic() < until, "the call has no receipt"
        time.sleep(0.1)


def every_trouble(world: PortalWorld, workspace: TestWorkspace) -> None:
    """A workspace for each thing that the operators' first page counts."""
    for number, trouble in enumerate((paused, unhealthy, undecryptable, past_due, suspended, died)):
        fields = {} if trouble is past_due or world.preset == "support-desk" else {"plan": "enterprise"}
        trouble(world, world.workspace(f"Trouble {number + 1}", **fields))
    failed_events(world, world.workspace("Trouble with payments"))


# --- what is broken


def broken_row(world: PortalWorld, workspace: TestWorkspace) -> str:
    """A row that our own code cannot read, until it is mended: the page over it breaks."""
    put_work(world, workspace.id, Row(WorkKind.EXPORT, "failed", wish="{"))
    return "/portal/exports"


def mend_row(shown: Frame, world: PortalWorld) -> None:
    with books(world) as rows:
        rows.execute("DELETE FROM work WHERE wish = '{'")
