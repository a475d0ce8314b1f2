"""Tells what the outbox holds: e-mails to owners and admins, events to the host.

Each channel goes on by itself: a mail server that is away keeps e-mails waiting and nothing else. What was sent is
written at once, member by member, so that a crash repeats at most one message, under the same Message-ID.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ownkey.control.notice_calls import NoticeCalls
from ownkey.control.ports import Actor, Clock, EventSender, Mailer, Outbox, OutboxRows
from ownkey.control.problems import invalid, not_found
from ownkey.domain.errors import ChannelDown, NotFound, Undeliverable
from ownkey.domain.notices import (
    RULES,
    Kind,
    Place,
    event_of,
    muted_topics,
    next_try_ms,
    write_notice,
)
from ownkey.domain.product import Payers, Product
from ownkey.domain.records import Due, Member
from ownkey.domain.workspace import WorkspaceState

BATCH = 5
MAX_BATCHES = 200
LEASE_MS = 120_000
EMAIL, EVENT = "email", "event"
STATES = ("waiting", "sent", "failed", "skipped")
NO_MAIL = "no mail server is configured"
NO_EVENTS = "no endpoint for events is configured"
CALL_RUNS = "the call that set it off may still run"
NOBODY = "no owner or admin to send it to"
MUTED = "everybody has muted it"
UNKNOWN = "this version knows no such notice"


def place_of(product: Product, workspace_name: str) -> Place:
    """Where a notice of this workspace is read."""
    return Place(workspace_name, product.name, product.payers is Payers.WITH_CREDITS, product.entry_url)


@dataclass(frozen=True, slots=True)
class Told:
    """What one round did, in messages."""

    sent: int = 0
    waiting: int = 0
    failed: int = 0
    skipped: int = 0


class _Tally:
    def __init__(self) -> None:
        self.states: dict[str, int] = dict.fromkeys(STATES, 0)

    def told(self) -> Told:
        return Told(**self.states)


class MailDelivery:
    """The channel "email". Without a mailer its rows end as skipped: visible, and never sent years later."""

    def __init__(
        self, outbox: Outbox, mailer: Mailer | None, clock: Clock, product: Product, *,
        calls: NoticeCalls | None = None, words: Mapping[str, str] | None = None,
    ) -> None:
        """`calls` None: nothing is said of the calls that set messages off. `words` are the host's own."""
        self._outbox, self._mailer, self._clock, self._product = outbox, mailer, clock, product
        self._calls, self._words = calls, words or {}

    async def deliver_due(self) -> Told:
        """One round: everything that is due now, in bounded batches."""
        mailer = self._mailer
        if mailer is None:
            return Told(skipped=await self._outbox.skip_outbox(EMAIL, NO_MAIL, self._clock.now_ms()))
        tally = _Tally()
        try:
            for _ in range(MAX_BATCHES):
                batch = await _claim(self._outbox, EMAIL, self._clock.now_ms())
                if not batch or not await self._deliver(mailer, batch, tally):
                    break
        finally:
            await mailer.close()
        return tally.told()

    async def _deliver(self, mailer: Mailer, batch: Sequence[Due], tally: _Tally) -> bool:
        """False: the server is away, and the rest of the batch waits with what failed."""
        down: ChannelDown | None = None
        for due in batch:
            if down is None:
                down = await self._deliver_one(mailer, due, tally)
            else:
                await _put_off(self._outbox, self._clock, due, str(down), tally)
        return down is None

    async def _deliver_one(self, mailer: Mailer, due: Due, tally: _Tally) -> ChannelDown | None:
        """One row to everybody who does not have it yet. The answer is trouble that concerns every other row too."""
        kind = _known(due)
        if kind is None:
            await _end(self._outbox, self._clock, due, "skipped", UNKNOWN, tally)
            return None
        told = await self._outbox.load_told(due.workspace_id, due.payload.get("member"))
        wanted = [member for member in told if RULES[kind].topic not in muted_topics(member.muted or frozenset())]
        members = [member for member in wanted if member.email and member.member_id not in due.have]
        if not members and not due.have:
            await _end(self._outbox, self._clock, due, "skipped", MUTED if told and not wanted else NOBODY, tally)
            return None
        payload = due.payload if self._calls is None else await self._calls.complete(due)
        if payload is None:
            await _put_off(self._outbox, self._clock, due, CALL_RUNS, tally)
            return None
        notice = write_notice(kind, payload, place_of(self._product, due.workspace_name)).in_words(self._words)
        sent, refused, trouble = len(due.have), "", None
        for member in members:
            try:
                await mailer.send(due, member, notice, due.since_ms)
            except Undeliverable as error:
                refused = str(error)
                await self._reached(due, member, refused)
            except ChannelDown as error:
                trouble = error
                if error.for_all:
                    break
            else:
                sent += 1
                await self._reached(due, member, "")
        if trouble is not None:
            await _put_off(self._outbox, self._clock, due, str(trouble), tally)
            return trouble if trouble.for_all else None
        await _end(self._outbox, self._clock, due, "sent" if sent else "failed", refused, tally)
        return None

    async def _reached(self, due: Due, member: Member, refused: str) -> None:
        await self._outbox.save_reached(
            due, member.member_id, sent=not refused, reason=refused, at_ms=self._clock.now_ms()
        )


class EventDelivery:
    """The channel "event": the host's endpoint."""

    def __init__(self, outbox: Outbox, sender: EventSender | None, clock: Clock, product: Product) -> None:
        self._outbox, self._sender, self._clock, self._product = outbox, sender, clock, product

    async def deliver_due(self) -> Told:
        """One round: everything that is due now, in bounded batches."""
        sender = self._sender
        if sender is None:
            return Told(skipped=await self._outbox.skip_outbox(EVENT, NO_EVENTS, self._clock.now_ms()))
        tally = _Tally()
        for _ in range(MAX_BATCHES):
            batch = await _claim(self._outbox, EVENT, self._clock.now_ms())
            down: ChannelDown | None = None
            for due in batch:
                if down is not None:
                    await _put_off(self._outbox, self._clock, due, str(down), tally)
                    continue
                down = await self._deliver_one(sender, due, tally)
            if down is not None or not batch:
                break
        return tally.told()

    async def _deliver_one(self, sender: EventSender, due: Due, tally: _Tally) -> ChannelDown | None:
        kind = _known(due)
        if kind is None:
            await _end(self._outbox, self._clock, due, "skipped", UNKNOWN, tally)
            return None
        event, data = event_of(kind, due.payload, place_of(self._product, due.workspace_name))
        named = {"workspace": due.workspace_id, "external_id": due.external_id, "kind": kind.value}
        try:
            await sender.send(
                due.key, event, named | data, happened_at=_happened_at(due.payload), at_ms=self._clock.now_ms()
            )
        except Undeliverable as error:
            await _end(self._outbox, self._clock, due, "failed", str(error), tally)
        except ChannelDown as error:
            await _put_off(self._outbox, self._clock, due, str(error), tally)
            return error if error.for_all else None
        else:
            await _end(self._outbox, self._clock, due, "sent", "", tally, reached=1)
        return None


def _happened_at(payload: Mapping[str, Any]) -> str:
    return str(payload.get("at") or "")


def _known(due: Due) -> Kind | None:
    try:
        return Kind(due.kind)
    except ValueError:
        return None


async def _claim(outbox: Outbox, channel: str, now_ms: int) -> Sequence[Due]:
    return await outbox.claim_outbox(channel, now_ms, now_ms + LEASE_MS, limit=BATCH)


async def _end(
    outbox: Outbox, clock: Clock, due: Due, state: str, reason: str, tally: _Tally, *, reached: int = 0
) -> None:
    now = clock.now_ms()
    await outbox.save_outbox_result(due, state, now, reason=reason, at_ms=now, reached=reached)
    tally.states[state] += 1


async def _put_off(outbox: Outbox, clock: Clock, due: Due, reason: str, tally: _Tally) -> None:
    """Try later, or give up after 24 hours."""
    now = clock.now_ms()
    again = next_try_ms(due.attempts, due.since_ms, now, _spread(due))
    if again is None:
        await _end(outbox, clock, due, "failed", reason, tally)
        return
    await outbox.save_outbox_result(due, "waiting", again, reason=reason, at_ms=now)
    tally.states["waiting"] += 1


def _spread(due: Due) -> int:
    """0 to 999, the same for the same row and attempt: rows that failed together do not come back together."""
    return (due.id * 7_919 + due.attempts * 104_729) % 1_000


class OutboxControl:
    """The outbox as operators and hosts see it, and the second chance of a row that failed."""

    def __init__(self, store: OutboxRows, clock: Clock, channels: Callable[[], Mapping[str, str]]) -> None:
        self._store, self._clock, self._channels = store, clock, channels

    async def list(
        self, workspace: WorkspaceState | None, state: str | None, limit: int
    ) -> Sequence[Mapping[str, Any]]:
        """None: every workspace's. Raises Problem for a state that there is not."""
        if state is not None and state not in STATES:
            raise invalid("state", f"There is no state {state[:40]!r}.", f"Use one of {', '.join(STATES)}.")
        return await self._store.load_outbox(None if workspace is None else workspace.id, limit=limit, state=state)

    def channels(self) -> Mapping[str, str]:
        """Each channel, and "" or why it is not used."""
        return self._channels()

    async def retry(self, outbox_id: int, actor: Actor) -> None:
        """Raises Problem where there is nothing to send again."""
        try:
            again = await self._store.retry_outbox(outbox_id, at_ms=self._clock.now_ms(), actor=actor)
        except NotFound as error:
            raise not_found("outbox row", str(outbox_id), "here") from error
        if not again:
            raise invalid("id", "This message was sent, or still waits to be.",
                          "Only what failed or was skipped is tried again; see `ownkey outbox --failed`.")
