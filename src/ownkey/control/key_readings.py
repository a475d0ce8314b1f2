"""Reads what OpenRouter tells about a key and compares its growth with our books; what differs is said, never mended.

A reading is taken once a day, with every Test and Save, and whenever somebody asks. It is free: one `GET /key`.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ownkey.control.ports import Actor, Clock, Opener
from ownkey.control.probes import AuthProber
from ownkey.control.problems import Problem, ProblemCode, invalid, not_found
from ownkey.domain.errors import NotFound, StoreError
from ownkey.domain.failures import Failure, FailureClass
from ownkey.domain.health import limit_resets_at_ms
from ownkey.domain.key_readings import (
    READ_EVERY_MS,
    KeyUsage,
    Origin,
    Reading,
    SentPage,
    Start,
    Tally,
    Verdict,
    begin,
    compare,
    longest_call_ms,
    look_back_ms,
    overlaps,
    read_sentence,
    tally,
    why_new_series,
)
from ownkey.domain.phrases import Phrase
from ownkey.domain.product import Product
from ownkey.domain.routing import Funding, Route
from ownkey.domain.workspace import Credential, CredentialStatus, WorkspaceState

READ_S = 10.0
PAGE = 2_000
BATCH = 200
AT_ONCE = 4
TRY_AGAIN_MS = 3_600_000
REASON_LIMIT = 500

_log = logging.getLogger("ownkey.key_readings")
_FLOW = "credential:openrouter"


class ReadingBook(Protocol):
    """Readings, and the attempts they are compared with."""

    def last_receipt(self) -> int:
        """The number of the receipt that was written last, whoever's it is."""
        ...

    async def load_last_reading(self, workspace_id: str, credential_id: str) -> Reading | None: ...

    async def load_sent(
        self, workspace_id: str, credential_id: str, route: Route, from_ms: int, after: tuple[int, str], limit: int
    ) -> SentPage:
        """Attempts of receipts from then on that this key paid, or may have paid, a page of receipts at a time."""
        ...

    async def load_open_bounds(self, workspace_id: str, funding: str, before_ms: int) -> tuple[int, int]:
        """What attempts in flight that began before then may cost at most, and how many have no bound."""
        ...

    async def save_reading(self, reading: Reading) -> Reading:
        """As kept, with its id; a drift is announced to the host in the same transaction."""
        ...


class ReadingRows(Protocol):
    """Readings as people and the job see them."""

    async def load_readings(self, workspace_id: str, *, limit: int) -> Sequence[Reading]: ...

    async def accept_reading(
        self, workspace_id: str, reading_id: int, reason: str, *, at_ms: int, actor: Actor
    ) -> bool:
        """False: it is no drift, or was accepted before. Raises NotFound."""
        ...

    async def load_unread_keys(self, read_since_ms: int, *, after: str, limit: int) -> Sequence[str]: ...


class Tenants(Protocol):
    """Who there is; the platform's key pays for calls of all of them."""

    async def load_workspace(self, workspace_id: str) -> WorkspaceState | None: ...

    async def load_workspaces(self, *, after: str | None, limit: int) -> Sequence[WorkspaceState]: ...

    async def load_platform(self) -> WorkspaceState | None: ...


@dataclass(frozen=True, slots=True)
class ReadingView:
    """A reading for people: the figures, when the key's own limit starts again, and the comparison in words."""

    reading: Reading
    resets_at_ms: int | None
    sentence: str


class KeyReadings:
    def __init__(
        self, book: ReadingBook, rows: ReadingRows, tenants: Tenants, opener: Opener, prober: AuthProber,
        clock: Clock, product: Product, page: int = PAGE,
    ) -> None:
        """`page`: how many receipts are read at a time, so that no long read keeps others waiting."""
        self._page = page
        self._book = book
        self._rows = rows
        self._tenants = tenants
        self._opener = opener
        self._prober = prober
        self._clock = clock
        self._longest_ms = longest_call_ms(product.routing)
        # One reading at a time: each is compared with the one before it.
        self._turn = asyncio.Lock()
        self._failed_ms: dict[str, int] = {}

    async def last(self, workspace: WorkspaceState) -> ReadingView | None:
        """The newest reading of the key that is saved now; None: there is no key, or it was not read yet."""
        credential = workspace.credentials.get("openrouter")
        if credential is None:
            return None
        reading = await self._book.load_last_reading(workspace.id, credential.id)
        return None if reading is None or reading.version != credential.version else self._view(reading)

    async def list(self, workspace: WorkspaceState, limit: int) -> Sequence[ReadingView]:
        """Newest first, of keys that are gone too."""
        return [self._view(reading) for reading in await self._rows.load_readings(workspace.id, limit=limit)]

    async def read_now(self, workspace: WorkspaceState) -> ReadingView:
        """Ask OpenRouter and compare. Raises Problem where the key cannot be asked about."""
        credential = workspace.credentials.get("openrouter")
        if credential is None:
            raise Problem(
                ProblemCode.NOT_FOUND, Phrase("No OpenRouter API key is saved here, so there is nothing to compare."),
                Phrase("Save one first."), flow=_FLOW,
            )
        if credential.status is CredentialStatus.DISABLED:
            raise Problem(
                ProblemCode.CONFLICT,
                Phrase("The OpenRouter API key is disabled: it is not used, not even to ask about it."),
                Phrase("Enable it first."), flow=_FLOW,
            )
        usage = await self._ask(workspace, credential)
        if isinstance(usage, Failure):
            raise _unread(usage)
        await self.note(workspace, credential, usage, Origin.ASKED)
        view = await self.last(workspace)
        if view is None:
            raise Problem(
                ProblemCode.CONFLICT, Phrase("The key was replaced while OpenRouter was asked about it."),
                Phrase("Ask again."),
                flow=_FLOW,
            )
        return view

    async def accept(self, workspace: WorkspaceState, reading_id: str, reason: str, actor: Actor) -> ReadingView:
        """Somebody has looked at a drift and says why it stands; verify is quiet about it then. Raises Problem."""
        text = " ".join(reason.split())
        if not text or len(text) > REASON_LIMIT:
            raise invalid(
                "reason", Phrase("A reason is needed, of at most 500 characters."), Phrase("Say what was found.")
            )
        found = int(reading_id) if reading_id.isascii() and reading_id.isdigit() and len(reading_id) < 19 else 0
        try:
            accepted = await self._rows.accept_reading(
                workspace.id, found, text, at_ms=self._clock.now_ms(), actor=actor
            )
        except NotFound:
            raise not_found("reading", reading_id, Phrase("in this workspace")) from None
        if not accepted:
            raise Problem(
                ProblemCode.CONFLICT, Phrase("This reading shows no drift, or its drift was accepted before."),
                Phrase("`ownkey verify` names the readings that wait for somebody."),
            )
        rows = await self._rows.load_readings(workspace.id, limit=1_000)
        return self._view(next(row for row in rows if row.id == found))

    async def note(
        self, workspace: WorkspaceState, credential: Credential, usage: KeyUsage, origin: Origin
    ) -> Reading | None:
        """Keep a reading, compared with the one before it. None: another one overlaps it and was kept already."""
        async with self._turn:
            upto = self._book.last_receipt()
            last = await self._book.load_last_reading(workspace.id, credential.id)
            if last is not None and overlaps(last, credential.version, usage):
                return None
            why = why_new_series(last, credential.version, usage)
            if last is None or why is not None:
                if why in (Start.SHRANK, Start.CLOCK):
                    _log.warning("key %s begins a new series of readings: %s", credential.id, why)
                return await self._book.save_reading(begin(
                    workspace.id, credential.id, credential.version, origin, usage, why or Start.FIRST, upto
                ))
            return await self._compare(workspace, last, usage, origin, upto)

    async def try_note(
        self, workspace: WorkspaceState, credential: Credential, usage: KeyUsage | None, origin: Origin
    ) -> None:
        """As `note`, beside something that matters more: a reading that cannot be kept is only logged."""
        if usage is None:
            return
        try:
            await self.note(workspace, credential, usage, origin)
        except StoreError as error:
            _log.warning("a reading of key %s could not be kept: %s", credential.id, error)

    async def read_due(self) -> int:
        """The job: every enabled key that was not read for a day. Returns how many were asked about."""
        now, after, asked = self._clock.now_ms(), "", 0
        self._failed_ms = {key: at for key, at in self._failed_ms.items() if at > now - TRY_AGAIN_MS}
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(workspace_id: str) -> None:
            async with gate:
                await self._read_one(workspace_id)

        while found := await self._rows.load_unread_keys(now - READ_EVERY_MS, after=after, limit=BATCH):
            due = [workspace_id for workspace_id in found if workspace_id not in self._failed_ms]
            await asyncio.gather(*map(one, due))
            after, asked = found[-1], asked + len(due)
        return asked

    async def _read_one(self, workspace_id: str) -> None:
        workspace = await self._tenants.load_workspace(workspace_id)
        credential = None if workspace is None else workspace.credentials.get("openrouter")
        if workspace is None or credential is None or credential.status is CredentialStatus.DISABLED:
            return
        usage = await self._ask(workspace, credential)
        if isinstance(usage, Failure):
            self._failed_ms[workspace_id] = self._clock.now_ms()
        else:
            await self.try_note(workspace, credential, usage, Origin.DAILY)

    async def _ask(self, workspace: WorkspaceState, credential: Credential) -> KeyUsage | Failure:
        try:
            secret = self._opener.open(workspace, credential)
        except ValueError:
            return Failure(FailureClass.AUTH, "the saved key cannot be opened")
        facts = await self._prober.ask("openrouter", secret, self._clock.monotonic() + READ_S)
        if isinstance(facts, Failure):
            return facts
        return facts.usage or Failure(FailureClass.BAD_OUTPUT, "its answer tells no usage", status=200)

    async def _compare(
        self, workspace: WorkspaceState, last: Reading, usage: KeyUsage, origin: Origin, upto: int
    ) -> Reading:
        ours = Tally()
        platform = await self._tenants.load_platform()
        ours = await self._add(ours, workspace.id, last, usage, upto, Route.OPENROUTER)
        if platform is not None and platform.id == workspace.id:
            after: str | None = None
            while page := await self._tenants.load_workspaces(after=after, limit=BATCH):
                for tenant in page:
                    ours = await self._add(ours, tenant.id, last, usage, upto, Route.CREDITS)
                after = page[-1].id
        reading = await self._book.save_reading(compare(last, origin, usage, ours, upto))
        if reading.verdict is Verdict.DRIFT:
            _log.critical(
                "the books differ from OpenRouter's: %d nano-USD booked on key %s of workspace %s are not in its "
                "figure (reading %d)", reading.off_nusd, reading.credential_id, workspace.id, reading.id,
            )
        return reading

    async def _add(
        self, ours: Tally, workspace_id: str, last: Reading, usage: KeyUsage, upto: int, route: Route
    ) -> Tally:
        """One workspace's attempts: those in flight first, so that one which ends meanwhile is not overlooked."""
        funding = Funding.CREDITS if route is Route.CREDITS else Funding.BYOK
        bound, unpriced = await self._book.load_open_bounds(workspace_id, funding, usage.answered_ms)
        ours = replace(ours, unsure_nusd=ours.unsure_nusd + bound, blind=ours.blind + unpriced)
        from_ms = look_back_ms(last, self._longest_ms)
        after: tuple[int, str] | None = (0, "")
        while after is not None:
            page = await self._book.load_sent(workspace_id, last.credential_id, route, from_ms, after, self._page)
            ours, after = tally(last, usage, upto, page.sent, ours), page.next_after
        return ours

    def _view(self, reading: Reading) -> ReadingView:
        return ReadingView(
            reading, limit_resets_at_ms(reading.usage.limit_reset, self._clock.now_ms()), read_sentence(reading)
        )


def _unread(failure: Failure) -> Problem:
    if failure.cls is FailureClass.AUTH:
        return Problem(
            ProblemCode.CREDENTIAL_NOT_ACCEPTED,
            Phrase("The key's own figures cannot be read: {signal}.", signal=failure.signal),
            Phrase("Test the key."), flow=_FLOW,
        )
    return Problem(
        ProblemCode.CREDENTIAL_UNREACHABLE,
        Phrase("OpenRouter does not tell the key's figures now: {signal}.", signal=failure.signal),
        Phrase("Try again in a minute."), flow=_FLOW,
    )
