"""Asks OpenRouter what an attempt really cost whose answer was cut, and books the difference once.

What is due lies in the database, so a restart forgets nothing; a record that is not there yet is asked for again
with growing waits, for a day. The credential is the one that paid, opened for the one request.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from typing import Any, Protocol

from ownkey.control.ports import Clock, Opener
from ownkey.control.probes import AuthProber
from ownkey.domain.errors import StoreError
from ownkey.domain.failures import Failure
from ownkey.domain.late_costs import KEY_GONE, LateCost, next_try_ms
from ownkey.domain.money import AmountError, parse_usd_nusd
from ownkey.domain.workspace import Credential, CredentialStatus, WorkspaceState

LOOKUP_S = 10.0
BATCH = 64
AT_ONCE = 4

_log = logging.getLogger("ownkey.late_costs")
_EXACT = Context(prec=100)


class LateCostBook(Protocol):
    """The lost costs, in the same database as the books."""

    async def load_workspace(self, workspace_id: str) -> WorkspaceState | None: ...

    async def load_due_late_costs(self, at_ms: int, limit: int) -> Sequence[LateCost]: ...

    async def retry_late_cost(self, late: LateCost, reason: str, next_at_ms: int) -> None: ...

    async def book_late_cost(self, late: LateCost, cost_nusd: int, at_ms: int) -> bool:
        """The one correction of this hold: spend moves within 0 and the hold, a charge only down."""
        ...

    async def give_up_late_cost(self, late: LateCost, reason: str) -> None:
        """Ask no more; the receipt says why its cost stays an estimate."""
        ...


class LateCosts:
    """The use case behind the job: everything that is due, a few at once."""

    def __init__(self, book: LateCostBook, opener: Opener, prober: AuthProber, clock: Clock) -> None:
        self._book = book
        self._opener = opener
        self._prober = prober
        self._clock = clock

    async def look_up_due(self) -> int:
        """Ask for what is due; returns how many that were."""
        due = await self._book.load_due_late_costs(self._clock.now_ms(), BATCH)
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(late: LateCost) -> None:
            async with gate:
                try:
                    await self._look_up(late)
                except StoreError as error:
                    _log.warning("a late cost could not be saved: %s", error)

        await asyncio.gather(*map(one, due))
        return len(due)

    async def _look_up(self, late: LateCost) -> None:
        owner = await self._book.load_workspace(late.owner_id)
        credential = None if owner is None else owner.credentials.get("openrouter")
        if owner is None or credential is None or not _is_the_same(credential, late):
            await self._book.give_up_late_cost(late, KEY_GONE)
            return
        answer = await self._ask(owner, credential, late)
        if isinstance(answer, str):
            await self._later(late, answer)
        elif isinstance(answer, Failure):
            reason = "OpenRouter has no record of it" if answer.status == 404 else f"OpenRouter said {answer.signal}"
            await self._later(late, reason, answer.retry_after_ms)
        else:
            await self._book_cost(late, answer)

    async def _ask(
        self, owner: WorkspaceState, credential: Credential, late: LateCost
    ) -> Mapping[str, Any] | Failure | str:
        """OpenRouter's answer, or why it was not asked."""
        if credential.status is CredentialStatus.DISABLED:
            return "the key that paid is switched off"
        try:
            secret = self._opener.open(owner, credential)
        except ValueError:
            return "the key that paid cannot be opened"
        deadline = self._clock.monotonic() + LOOKUP_S
        return await self._prober.find_generation(secret, late.generation_id, deadline)

    async def _book_cost(self, late: LateCost, answer: Mapping[str, Any]) -> None:
        cost_nusd = read_cost_nusd(answer, late.generation_id)
        if cost_nusd is None:
            await self._later(late, "OpenRouter's record of it holds no cost")
        elif cost_nusd == 0 and late.tries == 0:
            # A hold is corrected once. A record that is not finished may say 0, so a first 0 is not believed.
            await self._later(late, "OpenRouter's record of it shows no cost yet")
        elif await self._book.book_late_cost(late, cost_nusd, self._clock.now_ms()):
            _log.info("the cost of call %s is known now: %d nano-USD", late.call_id, cost_nusd)

    async def _later(self, late: LateCost, reason: str, stated_wait_ms: int | None = None) -> None:
        next_at_ms = next_try_ms(late, self._clock.now_ms(), stated_wait_ms)
        if next_at_ms is None:
            await self._book.give_up_late_cost(late, reason)
        else:
            await self._book.retry_late_cost(late, reason, next_at_ms)


def _is_the_same(credential: Credential, late: LateCost) -> bool:
    return (credential.id, credential.version) == (late.credential_id, late.credential_version)


def read_cost_nusd(answer: Mapping[str, Any], generation_id: str) -> int | None:
    """What a generation cost in all, rounded up once; None if the record is another's or tells no cost.

    `total_cost` is OpenRouter's own bill; with a provider key kept inside OpenRouter it is the fee alone, and the
    provider's bill comes on top (OpenRouter docs, "Usage accounting"). Amounts are exact digits, never floats.
    """
    data = answer.get("data")
    if not isinstance(data, dict) or data.get("id") not in (generation_id, None):
        return None
    parts = [data.get("total_cost")]
    if data.get("is_byok") is True:
        parts.append(data.get("upstream_inference_cost"))
    total = Decimal(0)
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, int | str | Decimal):
            return None
        try:
            parse_usd_nusd(part)
        except AmountError:
            return None
        total = _EXACT.add(total, Decimal(part))
    return parse_usd_nusd(total)
