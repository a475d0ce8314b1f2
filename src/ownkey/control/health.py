"""Keeps credentials' health true: confirms what traffic suspects, probes what failed, restores what works again.

A rejection in traffic takes the key out of service at once and asks its provider for free whether it is meant: an
outage that answers 401 costs one call and no notice. Whatever was asked is one request without a model, opened for
that one send.
"""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import replace

from ownkey.control.ports import Clock, HealthBook, Opener, ProbeDue
from ownkey.control.probes import AuthProber, KeyFacts, moment_ms
from ownkey.domain.entitlements import standing
from ownkey.domain.errors import StoreError
from ownkey.domain.failures import Failure, FailureClass, find_reset_ms
from ownkey.domain.health import CONFIRM_WITHIN_MS, KEY_LIMIT, Evidence, Sign, is_unhealthy, limit_resets_at_ms
from ownkey.domain.workspace import Credential, CredentialStatus, EntitlementState, Health, WorkspaceState

PROBE_S = 10.0
GOOD_FOR_MS = 5 * 60_000
"""How long a key that has just proved good is believed before a rejection makes it suspect again."""
ASK_AGAIN_MS = 60_000
LOOK_AHEAD_MS = 2_500
"""Probes are sent this early, so that a key is judged when its time comes, and not after calls have tried it."""
LEASE_MS = 2 * 60_000
UNUSED_WAIT_MS = 3_600_000
MAX_TASKS = 64
MAX_PROBES = 64
AT_ONCE = 8
MAX_REMEMBERED = 10_000

Version = tuple[str, int]

_log = logging.getLogger("ownkey.health")


class HealthKeeper:
    """Satisfies `gateway.ports.HealthLog`. One instance a process; `stop` before the upstream closes."""

    def __init__(self, book: HealthBook, opener: Opener, prober: AuthProber, clock: Clock) -> None:
        self._book = book
        self._opener = opener
        self._prober = prober
        self._clock = clock
        self._good: OrderedDict[Version, int] = OrderedDict()
        self._asked: OrderedDict[Version, int] = OrderedDict()
        self._tasks: dict[Version, asyncio.Task[None]] = {}
        self._stopped = False
        # The first round finds every suspicion of a process that has died, however young.
        self._ahead_ms = CONFIRM_WITHIN_MS

    # --- what calls learn

    def mark(
        self, credential: Credential, health: Health, signal: str, at_ms: int, *, resets_at_ms: int | None = None
    ) -> bool:
        """As the gateway's port says. A rejection, or a key of OpenRouter out of funds, is looked into at once."""
        key = (credential.id, credential.version)
        if health is Health.REJECTED and at_ms < self._good.get(key, 0):
            # Asked again all the same: the key may have been revoked since it proved good.
            self._look_into(credential, at_ms)
            return False
        marked = self._book.mark(credential, health, signal, at_ms, resets_at_ms=resets_at_ms)
        tells = health is Health.REJECTED or (health is Health.NO_FUNDS and credential.provider == "openrouter")
        if tells and not is_unhealthy(credential):
            self._look_into(credential, at_ms)
        return marked

    def mark_undecryptable(self, credential: Credential, at_ms: int) -> None:
        self._book.mark_undecryptable(credential, at_ms)

    def _look_into(self, credential: Credential, at_ms: int) -> None:
        """At most one probe of a version a minute, whatever a burst of calls reports. Where too many run already,
        the job finds what was marked."""
        key = (credential.id, credential.version)
        if self._stopped or key in self._tasks or len(self._tasks) >= MAX_TASKS:
            return
        if at_ms - self._asked.get(key, at_ms - ASK_AGAIN_MS) < ASK_AGAIN_MS:
            return
        _remember(self._asked, key, at_ms)
        due = ProbeDue(credential.workspace_id, credential.provider, *key)
        task = asyncio.get_running_loop().create_task(
            self._probe_quietly(due, scheduled=False), name="confirm a credential"
        )
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    # --- what the clock asks for

    async def probe_due(self) -> int:
        """Probe what is due, a few at once; returns how many were."""
        now = self._clock.now_ms()
        claimed = await self._book.claim_probes(now + self._ahead_ms, now + LEASE_MS, MAX_PROBES)
        self._ahead_ms = LOOK_AHEAD_MS
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(due: ProbeDue) -> None:
            async with gate:
                await self._probe_quietly(due, scheduled=True)

        await asyncio.gather(*map(one, claimed))
        return len(claimed)

    async def stop(self) -> None:
        """Cancel the probes under way and wait for them; what was marked stays marked, for the next start."""
        self._stopped = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- one probe

    async def _probe_quietly(self, due: ProbeDue, *, scheduled: bool) -> None:
        try:
            await self._probe(due, scheduled)
        except StoreError as error:
            _log.warning("a key's health could not be saved: %s", error)
        except Exception as error:  # noqa: BLE001 - one key's bug is not the others'; the job comes again
            _log.exception("a key's probe failed: %s", type(error).__name__)

    async def _probe(self, due: ProbeDue, scheduled: bool) -> None:
        workspace = await self._book.load_workspace(due.workspace_id)
        credential = None if workspace is None else workspace.credentials.get(due.provider)
        if workspace is None or credential is None or (credential.id, credential.version) != (
            due.credential_id, due.version
        ):
            return
        evidence = await self._ask(workspace, credential)
        if evidence is None:
            return
        after = await self._book.note_health(
            workspace.id, credential.id, credential.version, replace(evidence, scheduled=scheduled)
        )
        key = (due.credential_id, due.version)
        if evidence.sign in (Sign.ACCEPTED, Sign.ANSWERED):
            _remember(self._good, key, self._clock.now_ms() + GOOD_FOR_MS)
        elif evidence.sign is Sign.REJECTED:
            self._good.pop(key, None)
        if after is not None and after.health is not credential.health:
            _log.info("%s credential %s is now %s (%s)", due.provider, due.credential_id, after.health, evidence.signal)

    async def _ask(self, workspace: WorkspaceState, credential: Credential) -> Evidence | None:
        now = self._clock.now_ms()
        if credential.undecryptable or credential.status is CredentialStatus.DISABLED:
            return None
        if not _is_in_use(workspace, now):
            return Evidence(Sign.UNCLEAR, "not in use", now, wait_ms=UNUSED_WAIT_MS)
        try:
            secret = self._opener.open(workspace, credential)
        except ValueError:
            self._book.mark_undecryptable(credential, now)
            return None
        answer = await self._prober.ask(credential.provider, secret, self._clock.monotonic() + PROBE_S)
        now = self._clock.now_ms()
        return failed(answer, now) if isinstance(answer, Failure) else passed(answer, credential, now)


def failed(failure: Failure, at_ms: int) -> Evidence:
    """What a probe says that did not pass. Only a verdict about the key is one: all else is unclear."""
    match failure.cls:
        case FailureClass.AUTH:
            return Evidence(Sign.REJECTED, failure.signal, at_ms, wait_ms=failure.retry_after_ms)
        case FailureClass.FUNDS:
            return Evidence(
                Sign.NO_FUNDS, failure.signal, at_ms, resets_at_ms=find_reset_ms(failure, at_ms),
                wait_ms=failure.retry_after_ms,
            )
        case FailureClass.SCOPE:
            # OpenAI's restricted keys may not list models, which says that the key is real.
            return Evidence(Sign.ACCEPTED, "a free probe passed", at_ms)
        case _:
            return Evidence(Sign.UNCLEAR, failure.signal, at_ms, wait_ms=failure.retry_after_ms)


def passed(facts: KeyFacts, credential: Credential, at_ms: int) -> Evidence:
    """What an accepted key's own facts say: the wrong kind, its limit used up, or its limit free again."""
    expires = moment_ms(facts.expires_at)
    if facts.management:
        return Evidence(Sign.REJECTED, "a management key cannot run models", at_ms)
    if facts.exhausted:
        return Evidence(
            Sign.NO_FUNDS, KEY_LIMIT, at_ms, resets_at_ms=limit_resets_at_ms(facts.limit_reset, at_ms), free=True,
            expires_at_ms=expires,
        )
    if credential.health is Health.NO_FUNDS and credential.health_signal == KEY_LIMIT:
        return Evidence(Sign.ANSWERED, "the key's limit has room again", at_ms, expires_at_ms=expires)
    return Evidence(Sign.ACCEPTED, "a free probe passed", at_ms, expires_at_ms=expires)


def _is_in_use(workspace: WorkspaceState, now_ms: int) -> bool:
    """A suspended workspace's keys, and those kept for an add-on that is not active, are not used, and not asked."""
    return workspace.status == "active" and standing(workspace, now_ms).entitlement not in (
        EntitlementState.INACTIVE, EntitlementState.NONE,
    )


def _remember(table: OrderedDict[Version, int], key: Version, at_ms: int) -> None:
    table[key] = at_ms
    table.move_to_end(key)
    if len(table) > MAX_REMEMBERED:
        table.popitem(last=False)
