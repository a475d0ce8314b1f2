"""What the clock does: ends the holds of dead processes, keeps prices current, checks the books.

Each function makes one job out of the ports it needs; the scheduler decides when, the use cases decide what.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from ownkey.control.ports import Finding, PriceVersions
from ownkey.control.price_sync import PriceSource, sync_prices
from ownkey.domain.pricing import ModelPrice
from ownkey.jobs.scheduler import Job

_log = logging.getLogger(__name__)

EXPIRE_HOLDS_S = 5.0
EXPIRE_CREDITS_S = 60.0
FORGET_ANSWERS_S = 3_600.0
FORGET_CONNECTS_S = 3_600.0
FORGET_OPERATORS_S = 300.0
TELL_SIGN_INS_S = 5.0
UNKNOWN_EVERY_MS = 60_000
FORGET_PORTAL_S = 3_600.0
VERIFY_S = 300.0
VERIFY_FIRST_S = 30.0
VERIFY_WHOLE_S = 86_400.0
BILLING_S = 60.0
PAYMENTS_S = 300.0
RECONCILE_S = 86_400.0
RECONCILE_AGAIN_S = 3_600.0
PRICE_SYNC_S = 86_400.0
PROBE_KEYS_S = 2.0
READ_KEYS_S = 600.0
LATE_COSTS_S = 2.0
DELIVER_S = 1.0
CALENDAR_S = 30.0
KEYSET_S = 3.0
OPEN_ALL_S = 86_400.0
_SHOWN = 20

NowMs = Callable[[], int]


class Holds(Protocol):
    async def expire_holds(self, at_ms: int) -> object:
        """End every open hold whose time is over: its process has died, or forgot it."""
        ...


class Checks(Protocol):
    async def verify(self, at_ms: int) -> Sequence[Finding]:
        """Recompute every counter from rows and check every invariant; empty: clean."""
        ...

    async def verify_recent(self, at_ms: int) -> Sequence[Finding]:
        """The same, without what has not been touched since the last clean check."""
        ...


class Credits(Protocol):
    async def expire_credits(self, at_ms: int) -> object:
        """Take the credits whose end date has passed."""
        ...


class Keys(Protocol):
    async def probe_due(self) -> object:
        """Ask providers, for free, about the keys that failed and whose time has come."""
        ...


class Readings(Protocol):
    async def read_due(self) -> object:
        """Ask OpenRouter for the figures of every key that was not read for a day, and compare them."""
        ...


class LateCosts(Protocol):
    async def look_up_due(self) -> object:
        """Ask OpenRouter for the costs of attempts whose answers were cut."""
        ...


class Delivery(Protocol):
    async def deliver_due(self) -> object:
        """Send what the outbox holds for one channel."""
        ...


class Calendar(Protocol):
    async def roll_periods(self, at_ms: int) -> object:
        """Begin the month of workspaces whose last one ended paused."""
        ...

    async def announce_grace(self, at_ms: int) -> object:
        """Say that days of grace end soon, or have ended."""
        ...


class Billing(Protocol):
    async def renew_addons(self, at_ms: int) -> object:
        """Renew add-ons that are paid with credits, and end what has run out."""
        ...

    async def run_cycles(self, at_ms: int) -> object:
        """Grant the credits that plans bring each cycle."""
        ...


class Payments(Protocol):
    async def run(self) -> object:
        """What failed before, what Stripe was not told, and renewals that nobody has announced."""
        ...

    async def reconcile(self) -> object:
        """Everything that no webhook has brought."""
        ...


class Answers(Protocol):
    async def forget_answers(self, at_ms: int) -> object:
        """Drop what is older than 24 hours."""
        ...


class Connects(Protocol):
    async def forget_connects(self, at_ms: int) -> object:
        """Drop sign-ins that ended more than a day ago."""
        ...


class PortalSessions(Protocol):
    async def forget_portal_sessions(self, at_ms: int) -> object:
        """Drop visits that ended more than a day ago."""
        ...


class SignIns(Protocol):
    async def tell_sign_ins(self, at_ms: int, *, unknown_every_ms: int) -> object:
        """What failed and what was locked goes into the audit log."""
        ...


class OperatorVisits(Protocol):
    async def forget_operators(self, at_ms: int) -> object:
        """End operators' visits that have expired, and drop what has no more use."""
        ...


class KeyKeeper(Protocol):
    async def run(self) -> object:
        """Read the keyset again if its file changed, and say what this process has loaded."""
        ...


class KeyCheck(Protocol):
    async def run(self) -> object:
        """Try whether everything that is sealed still opens."""
        ...


def expire_holds_job(holds: Holds, now_ms: NowMs, *, interval_s: float = EXPIRE_HOLDS_S) -> Job:
    """At start too: what died with the last process is ended before the first call is admitted."""

    async def run() -> None:
        await holds.expire_holds(now_ms())

    return Job("expire_holds", interval_s, run, at_once=True)


def expire_credits_job(credits: Credits, now_ms: NowMs, *, interval_s: float = EXPIRE_CREDITS_S) -> Job:
    """Credits with an end date leave the balance when it has passed; what a call holds leaves when the hold ends."""

    async def run() -> None:
        await credits.expire_credits(now_ms())

    return Job("expire_credits", interval_s, run)


def billing_job(billing: Billing, now_ms: NowMs, *, interval_s: float = BILLING_S) -> Job:
    """At start too: an anniversary that passed while no process ran is charged before it is missed. Calls do not wait
    for it: what they are entitled to is computed at each of them."""

    async def run() -> None:
        await billing.run_cycles(now_ms())
        await billing.renew_addons(now_ms())

    return Job("billing", interval_s, run, at_once=True)


def payments_job(payments: Payments, *, interval_s: float = PAYMENTS_S) -> Job:
    """What a Stripe that did not answer has left behind."""

    async def run() -> None:
        await payments.run()

    return Job("payments", interval_s, run)


def reconcile_job(payments: Payments, now_ms: NowMs, *, interval_s: float = RECONCILE_S) -> Job:
    """At start too: events were sent while no process listened. A round that Stripe did not answer comes again within
    the hour; one that went through is enough for a day."""
    done_ms: list[int] = []

    async def run() -> None:
        if done_ms and now_ms() - done_ms[-1] < interval_s * 1_000:
            return
        await payments.reconcile()
        done_ms[:] = [now_ms()]

    return Job("reconcile", min(interval_s, RECONCILE_AGAIN_S), run, at_once=True)


def probe_keys_job(keys: Keys, *, interval_s: float = PROBE_KEYS_S) -> Job:
    """At start too: what was suspected when the last process died is confirmed or restored."""

    async def run() -> None:
        await keys.probe_due()

    return Job("probe_keys", interval_s, run, at_once=True)


def read_keys_job(readings: Readings, *, interval_s: float = READ_KEYS_S) -> Job:
    """Each key once a day, whenever its day is over; not at start, when there are calls to be answered."""

    async def run() -> None:
        await readings.read_due()

    return Job("read_keys", interval_s, run)


def late_costs_job(late_costs: LateCosts, *, interval_s: float = LATE_COSTS_S) -> Job:
    """At start too: what fell due while no process ran is asked for at once."""

    async def run() -> None:
        await late_costs.look_up_due()

    return Job("late_costs", interval_s, run, at_once=True)


def deliver_job(channel: str, delivery: Delivery, *, interval_s: float = DELIVER_S) -> Job:
    """One job a channel, so that a mail server that hangs keeps no event waiting. At start too."""

    async def run() -> None:
        await delivery.deliver_due()

    return Job(f"deliver_{channel}", interval_s, run, at_once=True)


def calendar_job(calendar: Calendar, now_ms: NowMs, *, interval_s: float = CALENDAR_S) -> Job:
    """What time alone changes is told in time: a new month, the end of grace. No rule waits for this job."""

    async def run() -> None:
        await calendar.roll_periods(now_ms())
        await calendar.announce_grace(now_ms())

    return Job("calendar", interval_s, run, at_once=True)


def forget_answers_job(answers: Answers, now_ms: NowMs, *, interval_s: float = FORGET_ANSWERS_S) -> Job:
    """Stored answers of Idempotency-Keys are kept for a day."""

    async def run() -> None:
        await answers.forget_answers(now_ms())

    return Job("forget_answers", interval_s, run)


def forget_connects_job(connects: Connects, now_ms: NowMs, *, interval_s: float = FORGET_CONNECTS_S) -> Job:
    """Sign-ins at OpenRouter that nobody finished are remembered for a day."""

    async def run() -> None:
        await connects.forget_connects(now_ms())

    return Job("forget_connects", interval_s, run)


def tell_sign_ins_job(sign_ins: SignIns, now_ms: NowMs, *, interval_s: float = TELL_SIGN_INS_S) -> Job:
    """Apart from the sign-in itself, whose time must not tell whether an account exists. Failures at names that nobody
    has share a row a minute: the log is for ever, and nobody may fill it from outside."""

    async def run() -> None:
        await sign_ins.tell_sign_ins(now_ms(), unknown_every_ms=UNKNOWN_EVERY_MS)

    return Job("tell_sign_ins", interval_s, run)


def forget_operators_job(
    visits: OperatorVisits, now_ms: NowMs, *, interval_s: float = FORGET_OPERATORS_S
) -> Job:
    """An expired visit gets its row in the audit log here: it works for nobody from the moment it expires."""

    async def run() -> None:
        await visits.forget_operators(now_ms())

    return Job("forget_operators", interval_s, run)


def forget_portal_sessions_job(
    sessions: PortalSessions, now_ms: NowMs, *, interval_s: float = FORGET_PORTAL_S
) -> Job:
    """Visits to the pages are remembered for a day after their end; what they did stands in the audit log."""

    async def run() -> None:
        await sessions.forget_portal_sessions(now_ms())

    return Job("forget_portal_sessions", interval_s, run)


def price_sync_job(
    source: PriceSource,
    versions: PriceVersions,
    overrides: Sequence[ModelPrice],
    now_ms: NowMs,
    *,
    fetch: bool = True,
    interval_s: float = PRICE_SYNC_S,
) -> Job:
    """At start, then every day; without `fetch` too, since shipped prices have start dates."""

    async def run() -> None:
        report = await sync_prices(source, versions, overrides, at_ms=now_ms(), fetch=fetch)
        if report.unreachable:
            _log.warning("OpenRouter's price list could not be read (%s); prices stay as they are", report.unreachable)
        if report.changed:
            _log.info("prices: version %d is active", report.version)
        for sentence in report.held_back[:_SHOWN]:
            _log.warning("price held back: %s", sentence)
        if len(report.held_back) > _SHOWN:
            _log.warning("and %d more prices held back", len(report.held_back) - _SHOWN)

    return Job("price_sync", interval_s, run, at_once=True)


def verify_job(
    checks: Checks, now_ms: NowMs, *, interval_s: float = VERIFY_S, whole_s: float = VERIFY_WHOLE_S,
    first_s: float = VERIFY_FIRST_S,
) -> Job:
    """Drift is an alarm and nothing else: nothing repairs books silently. Everything is read in the first round, once a
    day, and in every round from the one that found something to the one that finds nothing; in between, what calls
    and payments touched. The first round comes soon, so that a process that is started again and again checks too."""
    clean_ms: list[int] = []

    async def run() -> None:
        at_ms = now_ms()
        whole = not clean_ms or not 0 <= at_ms - clean_ms[-1] < whole_s * 1_000
        findings = await (checks.verify(at_ms) if whole else checks.verify_recent(at_ms))
        if findings:
            clean_ms.clear()
        elif whole:
            clean_ms[:] = [at_ms]
        for finding in findings[:_SHOWN]:
            _log.critical(
                "the books do not balance: %s in workspace %s: %s (%s)",
                finding.check, finding.workspace_id, finding.detail, ", ".join(finding.ids),
            )
        if len(findings) > _SHOWN:
            _log.critical("the books do not balance: %d findings more", len(findings) - _SHOWN)

    return Job("verify", interval_s, run, first_s=min(first_s, interval_s))


def keyset_job(keeper: KeyKeeper, *, interval_s: float = KEYSET_S) -> Job:
    """At start too: nobody may promote a key before it is known what this process has."""

    async def run() -> None:
        await keeper.run()

    return Job("keyset", interval_s, run, at_once=True)


def open_all_job(check: KeyCheck, *, interval_s: float = OPEN_ALL_S) -> Job:
    """At start and once a day; what does not open is counted, named and shown before a call finds it."""

    async def run() -> None:
        await check.run()

    return Job("open_all", interval_s, run, at_once=True)


class LongWork(Protocol):
    async def run_due(self) -> object:
        """Claim what waits and do it, one piece after the other."""
        ...

    async def drop_stale_files(self) -> object:
        """Delete exports whose day is over."""
        ...


WORK_S = 1.0
WORK_LANES = 2
FORGET_FILES_S = 600.0
BACKUP_S = 60.0


def work_jobs(work: LongWork, *, interval_s: float = WORK_S, lanes: int = WORK_LANES) -> tuple[Job, ...]:
    """Two lanes, so that a long export keeps no check waiting. At start too: what a dead process left goes on."""

    async def run() -> None:
        await work.run_due()

    async def forget() -> None:
        await work.drop_stale_files()

    return (
        *(Job(f"work_{n}", interval_s, run, at_once=True) for n in range(1, lanes + 1)),
        Job("forget_files", FORGET_FILES_S, forget, at_once=True),
    )


class Backups(Protocol):
    async def start_due(self) -> bool:
        """Begin a backup where the schedule wants one."""
        ...


def backup_job(backups: Backups, *, interval_s: float = BACKUP_S) -> Job:
    """At start too: what was due while nothing ran is made now."""

    async def run() -> None:
        if await backups.start_due():
            _log.info("a scheduled backup begins")

    return Job("backup", interval_s, run, at_once=True)
