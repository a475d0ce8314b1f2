"""Replays every recording through one gateway in every dialect that applies, many at a time."""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tools.fidelity.asking import DIRECT, Asked, ask_all, ask_plainly, is_own
from tools.fidelity.bodies import Recording
from tools.fidelity.caller import Caller
from tools.fidelity.compare import Case, Comparer
from tools.fidelity.gateway import CouldNotRun, Gateway, running_gateway
from tools.fidelity.replay import ReplayServer, Seat

AT_A_TIME = 12
LEAST_OWN = 0.99
LEAST_TRANSLATED = 0.97
"""The shares of replays that must agree, in the provider's own dialect and translated."""

Verdict = Literal["agreed", "disagreed", "skipped"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One replay's result, or why a recording was skipped. `reasons` say what differs, or why it was skipped; `notes`
    what was asked otherwise; `door` is where the caller came in, "" for a skip."""

    recording: Recording
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    door: str = ""
    own: bool = True


@dataclass(slots=True)
class Result:
    outcomes: list[Outcome] = field(default_factory=list)

    def of(self, verdict: Verdict) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.verdict == verdict]

    @property
    def replayed(self) -> int:
        return len(self.outcomes) - len(self.of("skipped"))

    def share(self, own: bool) -> float:
        """Of the replays of one sort, how many agree; 1 where there is none."""
        agreed, replayed = counted(o for o in self.outcomes if o.own == own)
        return agreed / replayed if replayed else 1.0

    @property
    def good(self) -> bool:
        """Whether enough agree, of at least one."""
        return self.replayed > 0 and self.share(True) >= LEAST_OWN and self.share(False) >= LEAST_TRANSLATED

    @property
    def last_line(self) -> str:
        return f"replayed {self.replayed}, agreed {len(self.of('agreed'))}, skipped {len(self.of('skipped'))}"


def counted(outcomes: Iterable[Outcome]) -> tuple[int, int]:
    """How many agreed, of how many replayed."""
    verdicts = [outcome.verdict for outcome in outcomes if outcome.verdict != "skipped"]
    return verdicts.count("agreed"), len(verdicts)


async def replay_all(recordings: Sequence[Recording], *, whole: bool = False) -> Result:
    """Replay what can be replayed; `whole`: with streams that the gateway gathers first. Raises CouldNotRun."""
    result = Result([Outcome(r, "skipped", (r.skip,)) for r in recordings if r.skip])
    wanted = [recording for recording in recordings if not recording.skip]
    if not wanted:
        return result
    server = ReplayServer()
    await server.start()
    try:
        async with running_gateway(server, wanted) as gateway:
            caller = Caller(gateway.url, gateway.token, whole=whole)
            try:
                result.outcomes += await _Run(server, gateway, caller).all(wanted)
            finally:
                await caller.close()
    finally:
        await server.stop()
    return result


class _Run:
    def __init__(self, server: ReplayServer, gateway: Gateway, caller: Caller) -> None:
        self._server = server
        self._gateway = gateway
        self._caller = caller
        self._comparer = Comparer()
        self._turns = asyncio.Semaphore(AT_A_TIME)

    async def all(self, recordings: Sequence[Recording]) -> list[Outcome]:
        asks = [(recording, asked) for recording in recordings for asked in ask_all(recording)]
        return list(await asyncio.gather(*(self._one(n, *pair) for n, pair in enumerate(asks))))

    async def _one(self, number: int, recording: Recording, asked: Asked) -> Outcome:
        own, door = is_own(recording, asked.door), str(asked.door)
        try:
            async with self._turns:
                case = await self._replay_door(number, recording, asked)
            reasons = tuple(map(str, self._comparer.compare(case)))
        except Exception as error:  # noqa: BLE001 - one exchange that breaks the harness must not hide the others
            why = f"could not be replayed: {type(error).__name__}: {error}"
            return Outcome(recording, "disagreed", (why,), asked.notes, door, own)
        return Outcome(recording, "disagreed" if reasons else "agreed", reasons, case.asked.notes, door, own)

    async def _replay_door(self, number: int, recording: Recording, asked: Asked) -> Case:
        """One call in a workspace of its own; asked plainly if the recorded route was not taken."""
        keys = keys_for(number, recording)
        seat = self._server.seat(recording, keys)
        workspace = await self._gateway.make_workspace(number, keys)
        case = await self._replay(recording, asked, seat, workspace)
        if not case.attempts:
            plain = ask_plainly(recording, _why_not_taken(case), asked.door)
            case = await self._replay(recording, plain, seat, workspace)
        return case

    async def _replay(self, recording: Recording, asked: Asked, seat: Seat, workspace: str) -> Case:
        reply = await self._caller.call(asked, workspace)
        receipt = await self._gateway.receipt(workspace, reply.receipt) if reply.receipt else {}
        return Case(recording, asked, seat, reply, receipt)


def keys_for(number: int, recording: Recording) -> dict[str, str]:
    """The exchange's own provider keys: OpenRouter's, which every workspace needs, and the direct provider's."""
    digest = hashlib.sha256(f"{number} {recording.name}".encode()).hexdigest()
    forms = {
        "openrouter": f"sk-or-v1-{digest}", "openai": f"sk-proj-{digest}", "anthropic": f"sk-ant-api03-{digest}",
        "google": f"AQ.Ab8{digest}",
    }
    names = ("openrouter", recording.provider) if recording.provider in DIRECT else ("openrouter",)
    return {name: forms[name] for name in names}


def _why_not_taken(case: Case) -> str:
    """Why the recorded route was not tried, in the gateway's words."""
    for skip in case.receipt.get("skips") or []:
        if skip.get("provider") in (case.recording.provider, ""):
            return str(skip.get("why"))
    return str(case.receipt.get("message") or case.reply.body[:120].decode("utf-8", "replace"))


__all__ = ["CouldNotRun", "Outcome", "Result", "replay_all"]
