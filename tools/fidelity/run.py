"""Replays every recording once through one gateway, many at a time, and keeps what was found."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tools.fidelity.asking import DIRECT, Asked, ask, ask_plainly
from tools.fidelity.caller import Caller
from tools.fidelity.compare import Case, Comparer
from tools.fidelity.gateway import CouldNotRun, Gateway, running_gateway
from tools.fidelity.recordings import Recording
from tools.fidelity.replay import ReplayServer, Seat

AT_A_TIME = 12
LARGEST_SHARE = 0.03
"""Of replayed exchanges, how many may disagree at most (and must be fewer)."""

Verdict = Literal["agreed", "disagreed", "skipped"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One recording's result. `reasons` say what differs, or why it was skipped; `notes` what was asked otherwise."""

    recording: Recording
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Result:
    outcomes: list[Outcome] = field(default_factory=list)

    def of(self, verdict: Verdict) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.verdict == verdict]

    @property
    def replayed(self) -> int:
        return len(self.outcomes) - len(self.of("skipped"))

    @property
    def good(self) -> bool:
        """Whether few enough disagree, of at least one."""
        return self.replayed > 0 and len(self.of("disagreed")) < self.replayed * LARGEST_SHARE

    @property
    def last_line(self) -> str:
        return f"replayed {self.replayed}, agreed {len(self.of('agreed'))}, skipped {len(self.of('skipped'))}"


async def replay_all(recordings: Sequence[Recording]) -> Result:
    """Replay what can be replayed. Raises CouldNotRun."""
    result = Result([Outcome(r, "skipped", (r.skip,)) for r in recordings if r.skip])
    wanted = [recording for recording in recordings if not recording.skip]
    if not wanted:
        return result
    server = ReplayServer()
    await server.start()
    try:
        async with running_gateway(server, wanted) as gateway:
            caller = Caller(gateway.url, gateway.token)
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
        return list(await asyncio.gather(*(self._one(number, r) for number, r in enumerate(recordings))))

    async def _one(self, number: int, recording: Recording) -> Outcome:
        try:
            return await self._replay_one(number, recording)
        except Exception as error:  # noqa: BLE001 - one exchange that breaks the harness must not hide the others
            return Outcome(recording, "disagreed", (f"could not be replayed: {type(error).__name__}: {error}",))

    async def _replay_one(self, number: int, recording: Recording) -> Outcome:
        reasons: list[str] = []
        notes: list[str] = []
        asks = ask(recording)
        for door, asked in enumerate(asks):
            async with self._turns:
                case = await self._replay_door(2 * number + door, recording, asked)
            found = map(str, self._comparer.compare(case))
            reasons += [f"{asked.base} {reason}" for reason in found] if len(asks) > 1 else found
            notes += [note for note in case.asked.notes if note not in notes]
        return Outcome(recording, "disagreed" if reasons else "agreed", tuple(reasons), tuple(notes))

    async def _replay_door(self, number: int, recording: Recording, asked: Asked) -> Case:
        """One call in a workspace of its own; asked plainly if the recorded route was not taken."""
        keys = keys_for(number, recording)
        seat = self._server.seat(recording, keys)
        workspace = await self._gateway.make_workspace(number, keys)
        case = await self._replay(recording, asked, seat, workspace)
        if not case.attempts:
            plain = ask_plainly(recording, _why_not_taken(case), asked.base)
            case = await self._replay(recording, plain, seat, workspace)
        return case

    async def _replay(self, recording: Recording, asked: Asked, seat: Seat, workspace: str) -> Case:
        reply = await self._caller.call(asked, recording.kind, workspace)
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
