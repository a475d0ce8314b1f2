"""How often and how long the same route is tried, and when a provider is left out for everybody."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import TIMES
from tests.gateway.gateway_kit import CHAT, MINI, STALL, Exchange, Rig, broken, open_rig, refusal, whole_answer

from ownkey.domain.failures import Failure, FailureClass
from ownkey.domain.workspace import Health
from ownkey.gateway.circuits import Circuits

SEVERAL = {"model": "task:auto_triage", "messages": CHAT["messages"]}
DOWN = Failure(FailureClass.OVERLOAD, "503")
NO_ENDPOINTS = b'{"error":{"code":404,"message":"No endpoints found that match your max_price"}}'


async def tried(folder: Path, script: list[Any], *providers: str, **routing: Any) -> tuple[int, list[str]]:
    """The caller's status and the hosts that were asked."""
    async with open_rig(folder, **{**TIMES, **routing}) as rig:
        workspace = await rig.workspace("a", "openrouter", *providers)
        rig.script(*script)
        caller = await rig.call(workspace)
        await rig.check()
        return caller.status, rig.upstream.hosts


async def test_a_direct_route_is_not_retried_unless_configured(tmp_path: Path) -> None:
    """[routing] direct_retries: none by default, for the next route is faster; where set, the last route's rules."""
    script = [refusal(503), whole_answer()]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert await tried(tmp_path / "a", script, "openai") == (200, ["openai", "openrouter"])
    assert await tried(tmp_path / "b", script, "openai", direct_retries=1) == (200, ["openai", "openai"])


@pytest.mark.parametrize(
    ("waits", "hosts"),
    [({"retry_wait_with_route_s": 0.0}, ["openai", "openrouter"]), ({"retry_wait_with_route_s": 0.2},
                                                                   ["openai", "openai"])],
    ids=["too long", "short enough"],
)
async def test_a_stated_wait_is_kept_only_as_long_as_configured(
    tmp_path: Path, waits: dict[str, float], hosts: list[str]
) -> None:
    """Where another route could answer, a Retry-After is waited for up to retry_wait_with_route_s."""
    script = [refusal(429, **{"retry-after-ms": "50"}), whole_answer()]

    assert await tried(tmp_path, script, "openai", direct_retries=1, **waits) == (200, hosts)


@pytest.mark.parametrize(("longest_s", "status", "asked"), [(0.01, 503, 1), (0.3, 200, 2)])
async def test_the_last_route_waits_up_to_its_own_limit(
    tmp_path: Path, longest_s: float, status: int, asked: int
) -> None:
    """Where no other route exists, up to retry_wait_max_s."""
    script = [refusal(429, **{"retry-after-ms": "50"}), whole_answer()]
    got = await tried(tmp_path, script, retry_wait_max_s=longest_s)

    assert (got[0], len(got[1])) == (status, asked)


@pytest.mark.parametrize("where", ["openai", "openrouter"])
async def test_a_silent_route_is_not_tried_twice(tmp_path: Path, where: str) -> None:
    """X4: silence costs its time once, whatever the retries are set to."""
    providers = ("openai",) if where == "openai" else ()
    silent = Exchange(before_head=[STALL])
    script = [silent, whole_answer()] if providers else [silent]
    status, hosts = await tried(
        tmp_path, script, *providers, direct_retries=3, last_route_retries=3, deadline_s=0.8
    )

    assert hosts.count(where) == 1
    assert status == (200 if providers else 503)


async def test_a_retried_attempt_has_a_hold_of_its_own(tmp_path: Path) -> None:
    """A hold an attempt: two tries of one route are two attempts on the receipt."""
    async with open_rig(tmp_path, **TIMES, direct_retries=1) as rig:
        workspace = await rig.workspace("a", "openrouter", "openai")
        rig.script(broken(), whole_answer())
        await rig.call(workspace)
        attempts = (await rig.receipt(workspace))["attempts"]

        assert [(a["provider"], a["failure"]) for a in attempts] == [("openai", "network"), ("openai", None)]
        assert len({a["hold_id"] for a in attempts}) == 2
        await rig.check()


# --- a provider that fails for many


def fail(circuits: Circuits, customers: int, times: int, at: float) -> None:
    for n in range(times):
        key = (f"w{n % customers}", f"cred{n % customers}", "m")
        circuits.record_failure((*key[:2], f"m{n}"), "openai", DOWN, at + n / 1_000)


STRANGER = ("w9", "cred9", "m")


@pytest.mark.parametrize(
    ("customers", "failures", "answers", "skipped"),
    [(3, 20, 0, True), (3, 10, 10, True), (2, 40, 0, False), (3, 19, 0, False), (3, 9, 11, False)],
    ids=["all fail", "half fail", "two customers", "too few", "less than half"],
)
def test_a_provider_is_left_out_for_all_when_it_fails_for_many(
    customers: int, failures: int, answers: int, skipped: bool
) -> None:
    """Half of 20 attempts within 10 s, from three keys: another customer's call skips it too."""
    circuits = Circuits()
    for n in range(answers):
        circuits.record_success((f"v{n}", f"c{n}", "m"), "openai", 1_000.0)
    fail(circuits, customers, failures, 1_000.0)

    assert (circuits.why_skipped(STRANGER, "openai", 1_001.0) is not None) is skipped
    assert circuits.why_skipped(STRANGER, "anthropic", 1_001.0) is None


def test_failures_of_more_than_ten_seconds_ago_count_no_more() -> None:
    """The window moves."""
    circuits = Circuits()
    fail(circuits, 3, 15, 1_000.0)
    fail(circuits, 3, 15, 1_012.0)

    assert circuits.why_skipped(STRANGER, "openai", 1_012.5) is None


def test_one_customers_rate_limits_are_no_outage() -> None:
    """A rate limit is between a customer and the provider, however many customers have one."""
    circuits = Circuits()
    for n in range(40):
        circuits.record_failure(
            (f"w{n}", f"c{n}", "m"), "openai", Failure(FailureClass.RATE_LIMIT, "429"), 1_000.0
        )

    assert circuits.why_skipped(STRANGER, "openai", 1_000.5) is None


def test_one_trial_decides_whether_a_provider_is_back() -> None:
    """Half-open: after the open time one call tries and the others go on skipping; its result closes or doubles."""
    circuits = Circuits()
    fail(circuits, 3, 20, 1_000.0)
    assert circuits.why_skipped(STRANGER, "openai", 1_004.0)
    assert circuits.why_skipped(STRANGER, "openai", 1_006.0) is None
    circuits.begin(STRANGER, "openai", False, 1_006.0)
    assert circuits.why_skipped(("w8", "c8", "m"), "openai", 1_006.1)

    circuits.record_failure(STRANGER, "openai", DOWN, 1_006.5)
    assert circuits.why_skipped(("w8", "c8", "m"), "openai", 1_015.0)
    circuits.begin(("w8", "c8", "m"), "openai", False, 1_017.0)
    circuits.record_success(("w8", "c8", "m"), "openai", 1_017.2)

    assert circuits.why_skipped(("w7", "c7", "m"), "openai", 1_017.3) is None


async def test_an_outage_at_a_provider_spares_the_other_customers(tmp_path: Path) -> None:
    """The 21st customer's call goes to OpenRouter at once, and its receipt says why."""
    async with open_rig(tmp_path, **TIMES) as rig:
        rig.script(*itertools.chain.from_iterable([refusal(503), whole_answer()] for _ in range(20)), whole_answer())
        for n in range(20):
            await rig.call(await rig.workspace(f"w{n}", "openrouter", "openai"))
        rig.script(whole_answer())
        workspace = await rig.workspace("fresh", "openrouter", "openai")
        caller = await rig.call(workspace)

        assert caller.status == 200
        assert rig.upstream.hosts == ["openrouter"]
        skips = (await rig.receipt(workspace))["skips"]
        assert "fails for many customers" in skips[0]["why"]
        await rig.check()


# --- what the gateway asks of the rest of the house


class Refresh:
    """A price refresh by hand: activates a price, or not."""

    def __init__(self, rig: Rig, found: bool) -> None:
        self._rig = rig
        self._found = found
        self.asked: list[str] = []

    async def refresh(self, slug: str, timeout_s: float) -> bool:
        self.asked.append(slug)
        return self._found


@pytest.mark.parametrize(("found", "status", "requests"), [(True, 200, 2), (False, 404, 1)])
async def test_a_price_limit_that_fits_no_endpoint_is_looked_up_again_once(
    tmp_path: Path, found: bool, status: int, requests: int
) -> None:
    """Prices: a 404 that our own max_price caused refreshes the price, and the route is tried again."""
    async with open_rig(tmp_path, **TIMES) as rig:
        refresh = Refresh(rig, found)
        rig.gateway._house = replace(rig.house, price_refresh=refresh)
        workspace = await rig.workspace("a", "openrouter")
        await rig.cap(workspace, 10**9)
        rig.script(
            Exchange([NO_ENDPOINTS], status=404, headers={"content-type": "application/json"}), whole_answer()
        )
        caller = await rig.call(workspace)

        assert (caller.status, len(rig.upstream.sent)) == (status, requests)
        assert refresh.asked == [MINI]
        await rig.check()


async def test_a_rejection_that_a_free_probe_denies_speaks_of_the_model_only(desk: Rig) -> None:
    """Health: where `mark` says that the key is good, the rejection is a matter of scope: the next model answers."""
    workspace = await desk.workspace("a", "openrouter")
    marked: list[Health] = []

    class Denies:
        def mark(self, credential: Any, health: Health, *_: Any, **__: Any) -> bool:
            marked.append(health)
            return False

    desk.gateway._house = replace(desk.house, health=Denies())  # type: ignore[arg-type]
    desk.script(refusal(401), whole_answer())
    caller = await desk.call(workspace, SEVERAL)

    assert caller.status == 200
    assert marked[0] is Health.REJECTED
    receipt = await desk.receipt(workspace)
    assert [a["failure"] for a in receipt["attempts"]] == ["scope", None]
    desk.script(whole_answer())
    await desk.call(workspace, SEVERAL)
    assert "does not serve the model" in (await desk.receipt(workspace))["skips"][0]["why"]
    await desk.check()
