"""A deployment with many workspaces; its master key is rotated by the commands that an operator types, while calls run.

The judge is outside: what callers got, what `ownkey master-key status` and `ownkey verify` say, and the keyset's file.
"""

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.deployment import Deployment, TestWorkspace, deployed

POINTS = ("in_rewrap", "after_rewrap")
CALLING = 12
"""Workspaces that call meanwhile, each with a key of its own."""

CREATORS = 8
SETTLES_WITHIN_S = 300.0
_CALL = {"model": "openai/gpt-4.1-mini", "max_tokens": 20, "messages": [{"role": "user", "content": "A pelican?"}]}


@dataclass
class Load:
    """What callers got. `excused` while the server is dead on purpose."""

    answers: Counter[str] = field(default_factory=Counter)
    excused: bool = False

    @property
    def failed(self) -> int:
        return sum(count for what, count in self.answers.items() if what not in ("200", "excused"))


@dataclass
class Rotation:
    """One rotation: `seconds` of the rewrap, the killed process's among them."""

    data_keys: int
    seconds: float
    calls: int
    failed: int
    runs: int
    left: int
    made: int


def rotate_many(home: Path, workspaces: int, kills: Sequence[str], calling: int = CALLING) -> Iterator[Rotation]:
    """A rotation under load for each of `kills`: "" lives, a point's name is killed there and goes on by itself.
    Raises AssertionError where anything is lost."""
    with deployed(home, env=_dies(kills[0], workspaces)) as desk:
        callers = fill(desk, workspaces, calling)
        for n, kill in enumerate(kills):
            if n and kill:
                desk.stop()
                desk.env |= _dies(kill, workspaces)
                desk.start_again()
            yield rotate(desk, callers, killed=bool(kill))


def _dies(kill: str, workspaces: int) -> dict[str, str]:
    return {"OWNKEY_TESTING": "1", "OWNKEY_FAILPOINT": f"{kill}:{half(kill, workspaces)}"} if kill else {}


def half(point: str, workspaces: int) -> int:
    """How often the point is passed until half of the rows have moved: once a row, or once a batch."""
    return max(1, workspaces // (2 if point == "in_rewrap" else 200))


def fill(desk: Deployment, workspaces: int, callers: int) -> list[TestWorkspace]:
    """All of them over the API; the first few have keys and tokens and will call."""
    calling = [
        desk.add_workspace(f"caller {n}", external_id=f"caller-{n}", keys={"openrouter": f"sk-or-v1-{n:064x}"})
        for n in range(callers)
    ]
    headers = {"authorization": f"Bearer {desk.service}"}
    with httpx.Client(trust_env=False, timeout=30, headers=headers, base_url=desk.url) as client, \
            ThreadPoolExecutor(CREATORS) as pool:
        def make(n: int) -> int:
            body = {"name": f"W{n}", "external_id": f"w-{n}"}
            return client.post("/manage/v1/workspaces", json=body).status_code

        assert set(pool.map(make, range(workspaces - len(calling)))) <= {201}
    return calling


def rotate(desk: Deployment, calling: list[TestWorkspace], *, killed: bool = False) -> Rotation:
    """add, promote, rewrap, retire."""
    before = status(desk)
    old = before["primary"]
    with load(desk, calling) as seen:
        new = typed(desk, "add")["added"]
        typed(desk, "promote", new)
        wanted = status(desk)["rows_left"]
        began = time.monotonic()
        desk.manage("POST", "master-key/rewrap", {}, token=desk.operator)
        made = _make_some(desk, new) if not killed else 0
        if killed:
            _die_and_return(desk, seen)
        work = _ended(desk)
        seconds = time.monotonic() - began
        typed(desk, "retire", old, "--yes")
    after = status(desk)
    assert work["state"] == "done", work
    assert [key["data_keys"] for key in after["keys"] if key["id"] == old] == [0]
    assert old not in (desk.home / "master.key").read_text()
    verified = desk.manage("POST", "verify", {}, token=desk.operator)
    assert verified["findings"] == [], verified["findings"][:3]
    for workspace in calling:
        assert workspace.post("/v1/chat/completions", _CALL).status_code == 200
    return Rotation(
        wanted, seconds, seen.answers["200"], seen.failed, 2 if killed else 1, after["rows_left"], made
    )


def status(desk: Deployment) -> Any:
    return desk.manage("GET", "master-key", token=desk.operator)


def typed(desk: Deployment, *words: str) -> Any:
    said = desk.cli("master-key", *words, "--json")
    assert said.returncode == 0, said.stderr + said.stdout
    return json.loads(said.stdout)


@contextmanager
def load(desk: Deployment, calling: list[TestWorkspace]) -> Iterator[Load]:
    """Calls one after the other from each of a few workspaces, until the end."""
    seen, stop = Load(), threading.Event()

    def call(workspace: TestWorkspace) -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not stop.is_set():
                try:
                    answer = client.post(f"{desk.url}/v1/chat/completions", json=_CALL, headers={
                        "authorization": f"Bearer {workspace.token}"})
                    what = str(answer.status_code)
                except httpx.HTTPError as error:
                    what = type(error).__name__
                    time.sleep(0.02)
                seen.answers["excused" if seen.excused and what != "200" else what] += 1

    threads = [threading.Thread(target=call, args=(workspace,)) for workspace in calling]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _make_some(desk: Deployment, primary: str) -> int:
    """Workspaces that come into being meanwhile."""
    for n in range(10):
        desk.manage("POST", "workspaces", {"name": "Born", "external_id": f"born-{primary}-{n}"})
    return 10


def _die_and_return(desk: Deployment, seen: Load) -> None:
    """The failpoint kills it; it starts again without one."""
    seen.excused = True
    assert desk.process.wait(SETTLES_WITHIN_S) == -signal.SIGKILL
    # Asked of the books themselves, while nothing serves: the next server goes on at once.
    halfway = typed(desk, "status")["rows_left"]
    assert halfway > 0, "it died after its work"
    for name in ("OWNKEY_TESTING", "OWNKEY_FAILPOINT"):
        desk.env.pop(name, None)
    desk.start_again()
    time.sleep(0.2)
    seen.excused = False


def _ended(desk: Deployment) -> Any:
    until = time.monotonic() + SETTLES_WITHIN_S
    while time.monotonic() < until:
        work = status(desk)["rewrap"]
        if work["state"] not in ("waiting", "running"):
            return work
        time.sleep(0.05)
    raise AssertionError("the rewrap did not end")
