"""The page of results: what was played, by which rules, what came of it."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from tools.faults.catalogue import FIRST_S
from tools.faults.house import DEADLINE_S
from tools.faults.judge import GRACE_S, Verdict
from tools.faults.kinds import LANES, MODES, WHERES, Case, Fault
from tools.faults.run import Result

_HEAD = """\
# Faults: every way a provider fails, through the running gateway

Made by `make faults` (`python -m tools.faults`); the command writes this page, and its last line is the totals below.
Exit code 0: no rule was broken; 1: one was; 2: the run was not possible. `make test` plays a selection
(`tests/system/test_faults_short.py`).

```
{last_line}
```

{figures}

## How it runs

| part | what it is |
|---|---|
| caller | the official `openai`, `anthropic` and `openrouter` packages on real sockets; every byte they got is kept beside what they made of it |
| gateway | `ownkey init`, `ownkey serve` (SQLite): a process of its own, set up over the management API; deadline {deadline:g} s, first content and stall {first:g} s |
| providers | the emulator, four wire formats on loopback; the faults below are scripted by key, so each case has a workspace and keys of its own |

Modes: **body** (`stream: false`), **live** (`stream: true`), **whole** (`x-ownkey-stream: whole`). Lanes: the caller's
endpoint, and the provider whose own key is asked before OpenRouter (`openai`, for messages `anthropic`, or as named).

## The rules

Every case is held to all of them. They are the harness's own (`tools/faults/judge.py`), with a second table of classes
and codes; nothing of the gateway's code is used.

1. It ends within the deadline + {grace:g} s.
2. What the caller's package takes for an answer is whole: word for word what the emulated model said, with its reason
   for the end and the dialect's terminator. Never a part of it.
3. Everything else is a clear error: a status and the dialect's envelope with code and receipt, or, once content has
   gone out, the dialect's error event as the last one and no terminator. The code is the expected one.
4. What another route could heal is healed: before content always; after content in **body** and **whole**. A fault of
   the request itself is not tried elsewhere. Where nothing else is left, the last route is tried once more where that
   makes sense.
5. A receipt, with the attempts and the failure that the fault should lead to.
6. No hold is left, and billed (the emulator's book) ≤ spent ≤ held.
7. No byte, header or receipt that the caller can see, and no line of the log, holds a provider's key.
8. After the run: no more sockets and no more asyncio tasks than before it (idle connections are waited for), and
   `ownkey verify` finds nothing.

Not judged: answers whose words were repeated by the provider itself (no reader could tell), and money where the
provider states a usage of zero (it is believed: steps of a programmatic tool call are recorded like that).

## Results

`answered`: by the route that was struck, for it was harmless or only late. `other route`: whole, by OpenRouter.
`second try`: whole, by the same route. `error event`: the begun stream ends with the dialect's error. A number: refused
with that status; `rejected` and `funds` are about the customer's key. Where the modes differ: body / live / whole;
`·`: there is no such case. Bold: a rule was broken.
"""  # noqa: E501 - a table's row is one line

_TITLES = {
    "direct": "The direct route fails, OpenRouter works",
    "router": "OpenRouter fails, and is the only route",
    "both": "Both routes fail",
    "once": "OpenRouter, the only route, fails once",
    "keepalive": "The stream's head is out already (`keepalive_after_s` shorter than the fault)",
}


def write_page(result: Result) -> str:
    """The whole page."""
    head = _HEAD.format(
        last_line=last_line(result), figures=_figures(result), deadline=DEADLINE_S, first=FIRST_S, grace=GRACE_S,
    )
    tables = (line for where in (*WHERES, "keepalive") for line in _table(result, where))
    return "\n".join([head, *tables]).rstrip() + "\n"


def last_line(result: Result) -> str:
    """The totals."""
    sockets, tasks = result.leaked
    heals = [verdict for verdict in result.verdicts if verdict.heals]
    whole = [verdict for verdict in heals if verdict.case.mode == "whole"]
    return (
        f"cases {len(result.verdicts)}, hangs {len(result.broken('hang'))}, truncated as complete "
        f"{len(result.broken('truncated'))}, leaked holds {len(result.broken('hold'))}, sockets {sockets}, tasks "
        f"{tasks}, healed {_share(heals)} (whole {_share(whole)}), other rules broken {len(_others(result))}"
    )


def _share(verdicts: list[Verdict]) -> str:
    return f"{sum(verdict.healed for verdict in verdicts)} of {len(verdicts)}"


def _others(result: Result) -> list[tuple[Case, str, str]]:
    return [found for found in result.broken() if found[1] not in {"hang", "truncated", "hold"}]


def _figures(result: Result) -> str:
    faults = {verdict.case.fault.name for verdict in result.verdicts}
    slowest = max((verdict.seconds for verdict in result.verdicts), default=0.0)
    return (
        f"{len(faults)} faults, {len(LANES)} lanes, {result.seconds / 60:.0f} minutes; the slowest case took "
        f"{slowest:.1f} s. Played again because the machine itself stood still: {result.replayed}."
    )


def told(result: Result) -> Iterator[str]:
    """What the command prints: every broken rule, then the totals."""
    for case, rule, what in sorted(result.broken(), key=lambda found: (found[1], found[0].number)):
        yield f"{rule}: {case.name}: {what}"
    for leak in result.leaks:
        if leak.sockets > 0 or leak.upstream > 0 or leak.tasks:
            yield f"left over: {leak.sockets} sockets, {leak.upstream} to providers, tasks {leak.tasks}"
        yield from (f"ownkey verify: {finding}" for finding in leak.findings)
        yield from (f"log: {line}" for line in leak.log)
    yield last_line(result)


# --- tables


def _table(result: Result, where: str) -> Iterator[str]:
    cells: dict[str, dict[str, dict[str, str]]] = {}
    faults: dict[str, Fault] = {}
    for verdict in sorted(result.verdicts, key=lambda one: one.case.number):
        if ("keepalive" if verdict.keepalive else verdict.case.where) != where:
            continue
        case = verdict.case
        faults[case.fault.name] = case.fault
        word = f"**{verdict.word}**" if verdict.broken else verdict.word
        cells.setdefault(case.fault.name, {}).setdefault(case.lane.name, {})[case.mode] = word
    if not faults:
        return
    lanes = [lane.name for lane in LANES if any(lane.name in row for row in cells.values())]
    yield f"### {_TITLES[where]}\n"
    yield f"| fault | {' | '.join(lanes)} |"
    yield f"|---|{'---|' * len(lanes)}"
    for group, named in groupby(faults.values(), key=lambda fault: fault.group):
        yield f"| **{group}** |{' |' * len(lanes)}"
        rows = [(fault.name, tuple(_cell(cells[fault.name].get(lane, {})) for lane in lanes)) for fault in named]
        for row, same in groupby(rows, key=lambda row: row[1]):
            yield f"| {', '.join(_name(name) for name, _ in same)} | {' | '.join(row)} |"
    yield ""


def _name(name: str) -> str:
    return f"`{name}`" if "_" in name or set(name) & set("{}[]") else name


def _cell(words: dict[str, str]) -> str:
    given = [words[mode] for mode in MODES if mode in words]
    if not given:
        return "·"
    return given[0] if len(set(given)) == 1 else " / ".join(words.get(mode, "·") for mode in MODES)


def problems(verdicts: Iterable[Verdict]) -> list[str]:
    """Every broken rule in a line, for a test's message."""
    return [f"{verdict.case.name}: {rule}: {what}" for verdict in verdicts for rule, what in verdict.broken]
