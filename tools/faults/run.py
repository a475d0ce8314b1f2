"""Plays every case against one gateway, many at a time, and keeps what was found."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tools.faults.callers import Callers, Heard
from tools.faults.catalogue import TRAP, faults
from tools.faults.house import DEADLINE_S, House
from tools.faults.judge import MASK, Evidence, Verdict, judge
from tools.faults.kinds import LANES, WHERES, Case, Fault, Json, Target

HANG_S = DEADLINE_S + 6
IDLE_S = 120.0
"""Connections that are kept for later are closed after 30 s; jobs that ask for lost costs may use them until then."""
_SETTLE_S = 3.0
_ENDING_S = 5.0
_STALL_S = 0.4
_REPLAYS = 2
KEY_MARK = "~the-key~"

Told = Callable[[int, int, int], None]


def cases_of(chosen: Sequence[Fault]) -> list[Case]:
    """Every cell that exists: faults × lanes × modes × where."""
    found: list[Case] = []
    for fault in chosen:
        for where in WHERES:
            for lane in LANES:
                for mode in lane.modes:
                    case = Case(len(found), fault, lane, mode, where)
                    if _is_wanted(case):
                        found.append(case)
    return found


def _is_wanted(case: Case) -> bool:
    """Whether the cell exists, and no other one shows the same.

    Behind the direct route the lanes differ by dialect only. A second try is looked at where there could be one. A
    refusal before the stream is the same however the stream would have been relayed.
    """
    fault, lane, where = case.fault, case.lane, case.where
    effects = [fault.effect(case.target(provider)) for provider in case.struck]
    first = effects[0]
    if first is None or None in effects or lane.sdk in fault.unread_by:
        return False
    if (fault.plain and case.mode == "whole") or (where != "direct" and lane.translated):
        return False
    if where == "both" and (first.when == "harmless" or (fault.plain and lane.name != "chat")):
        return False
    if where == "once" and (not first.retried or (fault.plain and lane.name not in {"chat", "messages"})):
        return False
    return not fault.wall or (lane.direct == "openai" and where != "once")


_LATE = ("silent", "silent after the head", "slow head", "slow first content", "stalls before content",
         "comments without end, before content", "opening events without end, before content", "103 and no answer")


def with_head_out(cases: Sequence[Case]) -> list[Case]:
    """The streams among them that stay silent so long that their head goes out first, where it does."""
    return [
        case for case in cases
        if case.fault.name in _LATE and case.mode != "body" and case.where in {"direct", "router"}
    ]


@dataclass(slots=True)
class Leaks:
    """What the gateway has more of after the run than before it."""

    sockets: int = 0
    upstream: int = 0
    tasks: dict[str, int] = field(default_factory=dict)
    findings: list[Any] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Result:
    verdicts: list[Verdict] = field(default_factory=list)
    leaks: list[Leaks] = field(default_factory=list)
    seconds: float = 0.0
    replayed: int = 0

    def broken(self, *rules: str) -> list[tuple[Case, str, str]]:
        """Every break of these rules (of all, if none is named)."""
        return [
            (verdict.case, rule, what) for verdict in self.verdicts for rule, what in verdict.broken
            if not rules or rule in rules
        ]

    @property
    def leaked(self) -> tuple[int, int]:
        """(sockets, tasks) left over."""
        return (
            sum(max(leak.sockets, leak.upstream, 0) for leak in self.leaks),
            sum(sum(leak.tasks.values()) for leak in self.leaks),
        )

    @property
    def good(self) -> bool:
        spotless = not any(leak.findings or leak.log for leak in self.leaks)
        return bool(self.verdicts) and not self.broken() and self.leaked == (0, 0) and spotless


class Run:
    """All cases of one house."""

    def __init__(self, house: House, *, at_a_time: int = 16, keepalive: bool = False) -> None:
        self._house = house
        self._at_a_time = at_a_time
        self._turns = asyncio.Semaphore(at_a_time)
        self._callers = Callers(house.deployment.url, house.deployment.service)
        self._keepalive = keepalive
        self._done = 0
        self._bad = 0
        self._stalls = 0
        self.replayed = 0
        self._keys: list[str] = []
        self._vectors: dict[str, list[float]] = {}

    async def all(self, cases: Sequence[Case], told: Told, *, patient: bool = True) -> Result:
        """Play them and look for leaks. `patient`: wait until every pooled connection is gone."""
        started = time.monotonic()
        house = self._house
        await self._warm_up()
        await self._callers.close()
        self._callers = Callers(house.deployment.url, house.deployment.service)
        before_tasks, before_sockets = await house.tasks(), await self._own_sockets()
        clock = asyncio.create_task(self._watch_the_clock())
        result = Result()
        walled = [case for case in cases if case.fault.wall]
        alone = [case for case in cases if case.fault.alone]
        free = [case for case in cases if not case.fault.wall and not case.fault.alone]

        async def one(case: Case) -> None:
            async with self._turns:
                try:
                    verdict = await self._undisturbed(case)
                except Exception as error:  # noqa: BLE001 - one case that breaks the harness must not hide the others
                    verdict = Verdict(case, "?", [("harness", f"{type(error).__name__}: {error}")])
            result.verdicts.append(verdict)
            self._done += 1
            self._bad += bool(verdict.broken)
            told(self._done, len(cases), self._bad)

        await asyncio.gather(*map(one, free))
        for case in alone:
            await one(case)
        groups: dict[tuple[str, tuple[str, ...]], list[Case]] = {}
        for case in walled:
            groups.setdefault((case.fault.wall, case.struck), []).append(case)
        for (how, struck), group in groups.items():
            spaces = [await self._prepare(case) for case in group]
            async with house.walls.broken(how, struck):
                asking = (self._ask(case, *space) for case, space in zip(group, spaces, strict=True))
                heard = await asyncio.gather(*asking)
            for case, space, one_heard in zip(group, spaces, heard, strict=True):
                verdict = judge(await self._evidence(case, *space, one_heard))
                result.verdicts.append(verdict)
                self._done += 1
                self._bad += bool(verdict.broken)
                told(self._done, len(cases), self._bad)
        clock.cancel()
        result.replayed = self.replayed
        await self._callers.close()
        result.leaks.append(await self._leaks(before_tasks, before_sockets, patient))
        result.seconds = time.monotonic() - started
        return result

    # --- one case

    async def _undisturbed(self, case: Case) -> Verdict:
        """The case, played again if this process itself stood still meanwhile: then the times mean nothing."""
        for _ in range(_REPLAYS):
            stalls = self._stalls
            verdict = await self._case(case)
            if not verdict.broken or self._stalls == stalls:
                return verdict
            case = replace(case, round=case.round + 1)
            self.replayed += 1
        return await self._case(case)

    async def _watch_the_clock(self) -> None:
        """Count how often this process, which only waits most of the time, did not get to run."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.05)
            self._stalls += time.monotonic() - before > _STALL_S

    async def _case(self, case: Case) -> Verdict:
        workspace, keys = await self._prepare(case)
        rules = [await self._script(case, provider, keys[provider]) for provider in case.struck]
        try:
            heard = await self._ask(case, workspace, keys)
            if case.fault.twice:
                heard = await self._ask(case, workspace, keys)
        finally:
            for rule in rules:
                await self._house.control("DELETE", "faults", {"id": rule})
        return judge(await self._evidence(case, workspace, keys, heard))

    async def _ask(self, case: Case, workspace: str, keys: dict[str, str]) -> Heard:
        del keys
        return await self._callers.call(case, workspace, prompt_of(case), HANG_S)

    async def _prepare(self, case: Case) -> tuple[str, dict[str, str]]:
        providers = ("openrouter",) if case.where in {"router", "once"} else ("openrouter", case.lane.direct)
        workspace, keys = await self._house.make_workspace(case.name, providers)
        self._keys += keys.values()
        return workspace, keys

    async def _script(self, case: Case, provider: str, key: str) -> int:
        fault = case.fault.script(case.target(provider))
        assert fault is not None
        if fault.get("headers", {}).get("location") == TRAP:
            fault = {**fault, "headers": {**fault["headers"], "location": await self._house.trap()}}
        made = await self._house.control("POST", "faults", {
            "match": {"provider": provider, "key": key, "method": "POST"},
            "times": 1 if case.where == "once" or case.fault.twice else None,
            "fault": fault,
        })
        return int(made["id"])

    async def _evidence(self, case: Case, workspace: str, keys: dict[str, str], heard: Heard) -> Evidence:
        house, wire = self._house, heard.wire
        text = text_of(case)
        if case.fault.answers == "masked":
            text = text.replace(KEY_MARK, MASK)
        evidence = Evidence(case, text, keys, heard, keepalive=self._keepalive)
        if case.lane.endpoint == "embeddings":
            evidence.vectors = await self._true_vectors(case)
        if (receipt := wire.headers.get("x-ownkey-receipt")) is not None:
            evidence.receipt = await house.find_receipt(workspace, receipt)
        until = time.monotonic() + _SETTLE_S
        while True:  # what a caller left behind may be read on for a moment, and is settled after it
            cap = await house.manage("GET", f"workspaces/{workspace}/cap")
            if cap["held_nusd"] == "0" or time.monotonic() > until:
                break
            await asyncio.sleep(0.05)
        evidence.spent, evidence.held = int(cap["spent_nusd"]), int(cap["held_nusd"])
        found = await house.manage("GET", f"workspaces/{workspace}/receipts?limit=200")
        evidence.bound = sum(int(a["bound_nusd"] or 0) for r in found["receipts"] for a in r["attempts"])
        for key in keys.values():
            bills = await house.control("GET", f"bills/total?key={key}")
            evidence.billed += int(bills["total_nusd"])
        return evidence

    async def _true_vectors(self, case: Case) -> list[float]:
        """What the emulated model says to the same text, asked directly."""
        text = prompt_of(case)
        if text not in self._vectors:
            key = "sk-proj-clean-" + "0" * 32
            await self._house.control("POST", "keys", {"provider": "openai", "key": key})
            answer = await self._house.client.post(
                f"{self._house.deployment.emulator.url}/openai/v1/embeddings",
                json={"model": case.lane.model.partition("/")[2], "input": text},
                headers={"authorization": f"Bearer {key}"},
            )
            self._vectors[text] = answer.json()["data"][0]["embedding"]
        return self._vectors[text]

    # --- before and after

    async def _warm_up(self) -> None:
        """One honest call a lane: what is made once only is made now. Raises if the house does not work at all."""
        honest = Fault("none", "", lambda _target: {}, None, None)
        for lane in LANES:
            for mode in lane.modes:
                case = Case(-1, honest, lane, mode, "direct")
                workspace, keys = await self._prepare(case)
                heard = await self._ask(case, workspace, keys)
                if heard.raised:
                    raise CouldNotRun(f"{lane.name}, {mode}, without any fault: {heard.raised}: {heard.said}")
        await self._house.control("POST", "settings", {"match": {}, "settings": {"gap_s": 0.004}})

    async def _own_sockets(self) -> int:
        """The gateway's sockets that are not to a provider. Those of our own management requests are ended first."""
        house = self._house
        await house.client.aclose()
        house.client = type(house.client)(timeout=60, trust_env=False)
        await asyncio.sleep(0.3)
        return house.sockets() - house.upstream_sockets()

    async def _leaks(self, tasks: dict[str, int], sockets: int, patient: bool) -> Leaks:
        house = self._house
        findings = (await house.client.post(
            f"{house.deployment.url}/manage/v1/verify", json={},
            headers={"authorization": f"Bearer {house.deployment.operator}"},
        )).json()["findings"]
        leaks = Leaks(findings=findings)
        if patient:
            until = time.monotonic() + IDLE_S
            while (left_open := house.upstream_sockets()) and time.monotonic() < until:
                await asyncio.sleep(1)
            leaks.upstream = left_open
        else:  # what was in use at once may be kept for later, and no more
            leaks.upstream = max(0, house.upstream_sockets() - 2 * self._at_a_time)
        leaks.tasks = await self._more_tasks(tasks)
        leaks.sockets = await self._own_sockets() - sockets
        if house.walls.trapped:
            leaks.log.append(f"redirects were followed {house.walls.trapped} times")
        log = house.deployment.log()
        leaks.log += [f"a key in the log: …{key[-6:]}" for key in self._keys if key in log]
        leaks.log += [line for line in log.splitlines() if "Traceback" in line or "never retrieved" in line]
        return leaks

    async def _more_tasks(self, before: dict[str, int]) -> dict[str, int]:
        """The tasks that there are more of than before, once those that only had to end have had the time for it."""
        until = time.monotonic() + _ENDING_S
        while True:
            now = await self._house.tasks()
            more = {name: n - before.get(name, 0) for name, n in now.items() if n > before.get(name, 0)}
            if not more or time.monotonic() > until:
                return more
            await asyncio.sleep(0.2)


class CouldNotRun(Exception):
    """The run is impossible; the message is for the person who started it."""


def text_of(case: Case) -> str:
    """What the model is told to say: no other case's text, with characters of two, three and four bytes."""
    mark = f"{case.number:x}".replace("-", "m")
    return f"Grüße·aus·Fall·{mark}:{'·'.join(f'Wört{n}→€{mark}🙂' for n in range(12))}·{KEY_MARK}·Ende{mark}"


def prompt_of(case: Case) -> str:
    if case.lane.endpoint == "embeddings":
        return "What is a pelican?"
    return f"[emulator text={text_of(case)}] Say it."


def choose(patterns: str) -> list[Fault]:
    """The faults whose names contain one of the comma-separated words; all for an empty text."""
    words = [word.strip() for word in patterns.split(",") if word.strip()]
    return [fault for fault in faults() if not words or any(word in fault.name for word in words)]


__all__ = ["CouldNotRun", "Json", "Leaks", "Result", "Run", "Target", "cases_of", "choose"]
