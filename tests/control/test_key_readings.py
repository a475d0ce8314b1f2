"""Readings of OpenRouter's own figures: when they are taken, what they are compared with, and who hears of a drift.

The last tests ask the emulator over real sockets, with time moved by hand: calls are sent to it and booked, so that
its totals and our books are two independent accounts of the same calls.
"""

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from house import ACTOR, KEYS, House, open_house
from tests.emulator_process import EmulatorHandle, start_emulator
from tests.store.store_kit import attempt, credits_request, receipt, request, settle, take

from ownkey.control.key_readings import KeyReadings, ReadingView
from ownkey.control.probes import AuthProber, read_usage
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.failures import UpstreamError
from ownkey.domain.key_readings import Verdict
from ownkey.domain.money import parse_usd_nusd
from ownkey.domain.receipts import Basis
from ownkey.domain.records import Finding
from ownkey.domain.routing import Route
from ownkey.domain.workspace import WorkspaceState
from ownkey.providers.egress import parse_origin
from ownkey.providers.openrouter import OpenRouterProvider
from ownkey.providers.upstream import Upstream

BOUND = 5_000_000
HOUR = 3_600


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, "app-builder") as opened:
        yield opened


def figures(usage: Any = "0", byok: Any = "0", **more: Any) -> tuple[int, bytes]:
    """`GET /key` with amounts as JSON numbers of exactly these digits."""
    fields = {"label": "sk-or-v1-5a7…", "limit": None, "limit_remaining": None, "limit_reset": None, **more}
    text = json.dumps({"data": fields}).encode()
    return 200, text.replace(b'{"data": {', f'{{"data": {{"usage": {usage}, "byok_usage": {byok}, '.encode())


async def booked(
    house: House, workspace: WorkspaceState, cost_nusd: int, *, basis: Basis = Basis.ACTUAL, version: int = 1,
    credential_id: str | None = None,
) -> str:
    """One call over OpenRouter, a second long, with its receipt."""
    now = house.clock.at_ms
    req = request(workspace.id, BOUND, at_ms=now, expires_at_ms=now + 180_000)
    await take(house.store, req)
    house.clock.pass_s(1)
    end = settle(req, cost_nusd, basis=basis, at_ms=house.clock.at_ms)
    one = replace(
        attempt(req, end), credential_id=credential_id or workspace.credentials["openrouter"].id, ended_ms=1_000,
        credential_version=version,
    )
    await house.store.end_call(end, receipt(req, attempts=(one,), cost_nusd=cost_nusd, basis=basis))
    return req.call_id


async def keyed(house: House, usage: Any = "1.5", **more: Any) -> WorkspaceState:
    """A workspace whose key was read when it was saved, an hour ago."""
    house.upstream.script["/key"] = figures(usage, **more)
    workspace = await house.with_key(plan="enterprise")
    house.clock.pass_s(HOUR)
    return await house.again(workspace)


async def read(house: House, workspace: WorkspaceState, usage: Any, byok: Any = "0", **more: Any) -> ReadingView:
    house.upstream.script["/key"] = figures(usage, byok, **more)
    house.clock.pass_s(HOUR)
    return await house.desk.key_readings.read_now(await house.again(workspace))


async def findings(house: House) -> list[Finding]:
    return list(await house.store.verify(house.clock.at_ms))


async def events(house: House, kind: str = "books_differ") -> list[Any]:
    return [row for row in await house.store.load_outbox(None, limit=100) if row["kind"] == kind]


async def test_saving_and_testing_a_key_reads_it(house: House) -> None:
    """No request of their own: both ask `GET /key` anyway."""
    workspace = await keyed(house)
    (first,) = await house.desk.key_readings.list(workspace, 10)
    house.upstream.script["/key"] = figures("1.5")
    asked = len([r for r in house.upstream.sent if r.path == "/key"])

    await house.desk.key_test.run(
        workspace, "openrouter", None, address="192.0.2.1", actor=ACTOR, token_id="tok_test"
    )

    second, _ = await house.desk.key_readings.list(workspace, 10)
    assert (first.reading.origin, first.reading.verdict) == ("save", Verdict.STARTED)
    assert (second.reading.origin, second.reading.verdict) == ("test", Verdict.AGREES)
    assert len([r for r in house.upstream.sent if r.path == "/key"]) == asked + 1
    assert await findings(house) == []


async def test_a_typed_key_that_is_not_saved_is_not_read(house: House) -> None:
    """Its figures are those of another key than the one in the books."""
    workspace = await keyed(house)
    await house.desk.key_test.run(
        workspace, "openrouter", "sk-or-v1-" + "1f" * 32, address="192.0.2.1", actor=ACTOR, token_id="tok_test"
    )

    assert len(await house.desk.key_readings.list(workspace, 10)) == 1


async def test_a_tests_own_call_lies_after_its_reading(house: House) -> None:
    """The figures are asked for before the paid call: the next reading finds its cost, and it counts as ours."""
    workspace = await keyed(house)
    await house.desk.key_test.run(
        workspace, "openrouter", None, address="192.0.2.1", actor=ACTOR, token_id="tok_test"
    )

    lacking = await read(house, workspace, "1.5")

    assert lacking.reading.ours_nusd > 0
    assert lacking.reading.verdict is Verdict.DRIFT


async def test_digits_are_read_exactly(house: House) -> None:
    """More digits than a float has: the books keep nano-dollars, rounded up once, and both totals."""
    workspace = await keyed(house, "1.5")

    view = await read(
        house, workspace, "1234567.123456789000000001", "0.0000000001", limit=100, limit_remaining=74.5,
        limit_reset="monthly", usage_daily=0.25, byok_usage_daily=0, usage_weekly=-1,
    )

    usage = view.reading.usage
    assert (usage.usage_nusd, usage.byok_nusd) == (1_234_567_123_456_790, 1)
    assert (usage.limit_nusd, usage.limit_left_nusd, usage.limit_reset) == (100 * 10**9, 74_500_000_000, "monthly")
    assert (usage.usage_daily_nusd, usage.byok_daily_nusd, usage.usage_weekly_nusd) == (250_000_000, 0, None)
    assert view.resets_at_ms is not None
    assert view.resets_at_ms > house.clock.at_ms


async def test_growth_and_books_agree(house: House) -> None:
    """O5, X9: what OpenRouter says the key used is what its calls are booked with."""
    workspace = await keyed(house, "1.5")
    await booked(house, workspace, 300_000)
    await booked(house, workspace, 20_000, basis=Basis.ESTIMATED)

    view = await read(house, workspace, "1.500320")

    assert (view.reading.verdict, view.reading.grown_nusd) == (Verdict.AGREES, 320_000)
    assert (view.reading.ours_nusd, view.reading.unsure_nusd) == (300_000, 20_000)
    last = await house.desk.key_readings.last(await house.again(workspace))
    assert last == view
    assert await findings(house) == []


async def test_drift_is_told_and_nothing_is_mended(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """X9: a critical line, an event to the host, a finding of verify, and books that stay as they are."""
    workspace = await keyed(house, "1.5")
    call = await booked(house, workspace, 300_000)

    with caplog.at_level(logging.CRITICAL, "ownkey.key_readings"):
        view = await read(house, workspace, "1.5001")

    assert (view.reading.verdict, view.reading.off_nusd) == (Verdict.DRIFT, 200_000 - 3)
    assert "199997 nano-USD" in caplog.text
    (event,) = await events(house)
    assert (event["channel"], event["kind"]) == ("event", "books_differ")
    (finding,) = await findings(house)
    assert (finding.check, finding.workspace_id, finding.ids) == ("key.drift", workspace.id, (str(view.reading.id),))
    stored = await house.store.load_receipt(workspace.id, call)
    assert stored is not None
    assert stored["cost_nusd"] == 300_000
    await read(house, workspace, "1.5001")
    assert len(await events(house)) == 1, "the same gap alarms once"


async def test_a_drift_stays_until_somebody_says_why(house: House) -> None:
    """Verify repeats it until an operator has looked; the reason is kept and audited."""
    workspace = await keyed(house, "1.5")
    await booked(house, workspace, 300_000)
    view = await read(house, workspace, "1.5")
    await read(house, workspace, "9")
    readings, ident = house.desk.key_readings, str(view.reading.id)
    assert len(await findings(house)) == 1

    for reason in ("", " ", "x" * 501):
        with pytest.raises(Problem):
            await readings.accept(workspace, ident, reason, ACTOR)
    for unknown in ("999", "abc", "1" * 30):
        with pytest.raises(Problem) as refused:
            await readings.accept(workspace, unknown, "seen", ACTOR)
        assert refused.value.code is ProblemCode.NOT_FOUND
    kept = await readings.accept(workspace, ident, "OpenRouter refunded it", ACTOR)

    assert (kept.reading.accepted_reason, kept.reading.accepted_by) == ("OpenRouter refunded it", "service:tok_test")
    assert await findings(house) == []
    with pytest.raises(Problem) as again:
        await readings.accept(workspace, ident, "once more", ACTOR)
    assert again.value.code is ProblemCode.CONFLICT
    audit = await house.store.load_audit(workspace.id, limit=5)
    assert audit[0]["action"] == "key_reading.accepted"


async def test_another_workspaces_reading_does_not_exist(house: House) -> None:
    workspace = await keyed(house, "1.5")
    await booked(house, workspace, 300_000)
    view = await read(house, workspace, "1.5")
    other = await house.workspace("Other")

    with pytest.raises(Problem) as refused:
        await house.desk.key_readings.accept(other, str(view.reading.id), "mine now", ACTOR)

    assert refused.value.code is ProblemCode.NOT_FOUND
    assert await house.desk.key_readings.list(other, 10) == []


async def test_a_replaced_key_and_a_shrunken_total_begin_anew(house: House) -> None:
    """Two totals of different keys are not compared, nor two of which the second is smaller; both say so."""
    workspace = await keyed(house, "1.5")
    house.upstream.script["/key"] = figures("0.2")
    await house.save_key(workspace, key="sk-or-v1-" + "77" * 32)
    house.clock.pass_s(HOUR)
    replaced = await house.desk.key_readings.last(await house.again(workspace))

    shrunk = await read(house, workspace, "0.1")

    assert replaced is not None
    assert (replaced.reading.version, replaced.reading.start) == (2, "replaced")
    assert "since the key was replaced" in replaced.sentence
    assert (shrunk.reading.start, shrunk.reading.verdict) == ("shrank", Verdict.STARTED)
    assert "new series" in shrunk.sentence
    assert await findings(house) == []


async def test_a_running_call_of_the_old_key_is_not_looked_for_on_the_new_one(house: House) -> None:
    """It began after the new key was saved, with the old one: its cost is not in the new key's total."""
    workspace = await keyed(house, "1.5")
    house.upstream.script["/key"] = figures("0")
    await house.save_key(workspace, key="sk-or-v1-" + "77" * 32)
    house.clock.pass_s(HOUR)
    await booked(house, workspace, 300_000, version=1)

    assert (await read(house, workspace, "0")).reading.verdict is Verdict.AGREES


async def test_a_call_in_flight_may_be_in_the_total_already(house: House) -> None:
    """Its hold is the most that it can have added: growth up to that blames nobody."""
    workspace = await keyed(house, "1.5")
    now = house.clock.at_ms
    req = request(workspace.id, BOUND, at_ms=now + 3_599_000, expires_at_ms=now + 7_200_000)
    await take(house.store, req)

    within = await read(house, workspace, "1.505")
    house.clock.pass_s(-HOUR + 60)

    assert (within.reading.verdict, within.reading.unsure_nusd) == (Verdict.AGREES, BOUND)


async def test_the_job_reads_each_enabled_key_once_a_day(house: House) -> None:
    """A day after the last reading, however it was taken; a disabled key is left alone."""
    workspace = await keyed(house, "1.5")
    resting = await house.with_key(name="Resting", plan="enterprise")
    await house.desk.credentials.set_enabled(await house.again(resting), "openrouter", False, ACTOR)
    job = house.desk.key_readings

    early = await job.read_due()
    house.clock.pass_s(24 * HOUR)
    rounds = [await job.read_due() for _ in range(3)]

    assert (early, rounds) == (0, [1, 0, 0])
    newest = (await job.list(workspace, 1))[0].reading
    assert newest.origin == "daily"


async def test_a_key_that_cannot_be_asked_about_waits_an_hour(house: House) -> None:
    """A provider that is down is not asked again every ten minutes, and stops nobody else's reading."""
    await keyed(house, "1.5")
    house.clock.pass_s(24 * HOUR)
    house.upstream.script["/key"] = UpstreamError("connection refused", timeout=False, sent=False, received=False)
    job = house.desk.key_readings
    rounds = [await job.read_due() for _ in range(3)]
    house.clock.pass_s(HOUR + 1)
    house.upstream.script["/key"] = figures("1.5")

    assert rounds == [1, 0, 0]
    assert [await job.read_due(), await job.read_due()] == [1, 0]


@pytest.mark.parametrize("answer", [
    (200, {"data": {"usage": 1.5}}), (200, {"data": {"usage": "many", "byok_usage": 0}}),
    (200, {"data": {"usage": -1, "byok_usage": 0}}), (200, {"data": []}), (200, {"data": {"usage": True,
                                                                                       "byok_usage": 0}}),
    (503, {"error": {"code": 503, "message": "no"}}), (401, {"error": {"code": 401, "message": "no"}}),
], ids=["a total missing", "no number", "negative", "no object", "a boolean", "down", "refused"])
async def test_an_answer_without_figures_is_no_reading(house: House, answer: tuple[int, Any]) -> None:
    """Unknown is never 0: nothing is kept, nothing is compared, and who asked is told."""
    workspace = await keyed(house, "1.5")
    house.upstream.script["/key"] = answer

    with pytest.raises(Problem) as refused:
        await house.desk.key_readings.read_now(workspace)

    assert refused.value.code in (ProblemCode.CREDENTIAL_UNREACHABLE, ProblemCode.CREDENTIAL_NOT_ACCEPTED)
    assert KEYS["openrouter"] not in refused.value.message
    assert len(await house.desk.key_readings.list(workspace, 10)) == 1


async def test_without_an_enabled_key_there_is_nothing_to_ask(house: House) -> None:
    bare = await house.workspace("Bare", plan="enterprise")
    workspace = await keyed(house, "1.5")
    await house.desk.credentials.set_enabled(workspace, "openrouter", False, ACTOR)

    with pytest.raises(Problem) as none:
        await house.desk.key_readings.read_now(bare)
    with pytest.raises(Problem) as disabled:
        await house.desk.key_readings.read_now(await house.again(workspace))

    assert (none.value.code, disabled.value.code) == (ProblemCode.NOT_FOUND, ProblemCode.CONFLICT)
    assert await house.desk.key_readings.last(bare) is None


async def test_two_readings_at_once_are_one(house: House) -> None:
    """A reading that was asked for before the last one had its answer cannot follow it."""
    workspace = await keyed(house, "1.5")
    usage = read_usage({"data": {"usage": 1, "byok_usage": 0}}, house.clock.at_ms - 2 * HOUR * 1_000,
                       house.clock.at_ms)
    assert usage is not None

    kept = await house.desk.key_readings.note(workspace, workspace.credentials["openrouter"], usage, "asked")  # type: ignore[arg-type]

    assert kept is None
    assert len(await house.desk.key_readings.list(workspace, 10)) == 1


async def test_many_receipts_are_read_page_by_page(house: House) -> None:
    """No page forgets or repeats a receipt."""
    workspace = await keyed(house, "1.5")
    for _ in range(7):
        await booked(house, workspace, 100_000)
    house.upstream.script["/key"] = figures("1.5007")
    house.clock.pass_s(HOUR)
    origins = {"openrouter": parse_origin("https://openrouter.ai/api/v1")}
    prober = AuthProber(house.upstream, {"openrouter": OpenRouterProvider()}, origins, house.clock)
    small = KeyReadings(
        house.store, house.store, house.store, house.opener, prober, house.clock, house.product, page=3
    )

    view = await small.read_now(workspace)

    assert (view.reading.ours_nusd, view.reading.verdict) == (700_000, Verdict.AGREES)


async def test_the_platforms_key_pays_for_calls_of_every_workspace(house: House) -> None:
    """Its figure is compared with all that credits paid for, whoever called."""
    platform = await house.desk.workspaces.platform(ACTOR)
    house.upstream.script["/key"] = figures("1")
    await house.desk.credentials.save(
        platform, "openrouter", KEYS["openrouter"], label="", save_anyway=False, address="192.0.2.1", actor=ACTOR
    )
    house.clock.pass_s(HOUR)
    for name in ("One", "Two"):
        tenant = await house.workspace(name)
        await house.desk.credits.grant(tenant, 1_000, "operator", None, None, ACTOR)
        now = house.clock.at_ms
        req = credits_request(tenant.id, BOUND, at_ms=now, expires_at_ms=now + 180_000)
        await take(house.store, req)
        end = settle(req, 400_000, at_ms=now + 1_000)
        one = replace(attempt(req, end), route=Route.CREDITS, credential_id="", ended_ms=1_000, credential_version=1)
        await house.store.end_call(end, receipt(req, attempts=(one,), cost_nusd=400_000))

    house.upstream.script["/key"] = figures("1.0008")
    house.clock.pass_s(HOUR)
    agrees = await house.desk.key_readings.read_now(await house.desk.workspaces.platform(ACTOR))

    assert (agrees.reading.verdict, agrees.reading.ours_nusd) == (Verdict.AGREES, 800_000)


# --- two accounts of the same calls: the emulator's and ours


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorHandle]:
    handle = start_emulator()
    yield handle
    handle.stop()


@contextlib.asynccontextmanager
async def asking(house: House, emulator: EmulatorHandle) -> AsyncIterator[KeyReadings]:
    """The use case with a real way out to the emulator."""
    upstream = Upstream(connect_s=3.0, allow_insecure_origins=True)
    prober = AuthProber(
        upstream, {"openrouter": OpenRouterProvider()}, {"openrouter": parse_origin(emulator.base("openrouter"))},
        house.clock,
    )
    try:
        yield KeyReadings(house.store, house.store, house.store, house.opener, prober, house.clock, house.product)
    finally:
        await upstream.aclose()


def call(emulator: EmulatorHandle, key: str) -> int:
    """One real call of the key at the emulator; what it says it cost, in nano-USD."""
    answer = httpx.post(
        emulator.base("openrouter") + "/chat/completions", timeout=20, trust_env=False,
        headers={"authorization": f"Bearer {key}"},
        json={"model": "openai/gpt-4.1-mini", "messages": [{"role": "user", "content": "Pelicans?"}],
              "max_tokens": 50},
    )
    assert answer.status_code == 200, answer.text
    return parse_usd_nusd(str(json.loads(answer.text, parse_float=str)["usage"]["cost"]))


async def play(
    house: House, emulator: EmulatorHandle, readings: KeyReadings, sent: int, books: Sequence[int]
) -> ReadingView:
    """Send calls with the key, book those named by number (-1: one that was never sent), and compare."""
    workspace = await house.again(await keyed_at(house, emulator, readings))
    costs = [call(emulator, KEYS["openrouter"]) for _ in range(sent)]
    for n in books:
        await booked(house, workspace, costs[n] if n >= 0 else max(costs))
    house.clock.pass_s(HOUR)
    return await readings.read_now(workspace)


async def keyed_at(house: House, emulator: EmulatorHandle, readings: KeyReadings) -> WorkspaceState:
    emulator.add_key("openrouter", KEYS["openrouter"])
    workspace = await house.with_key(plan="enterprise")
    first = await readings.read_now(workspace)
    assert first.reading.verdict is Verdict.STARTED
    house.clock.pass_s(HOUR)
    return workspace


async def test_the_emulators_account_and_ours_agree(house: House, emulator: EmulatorHandle) -> None:
    """X9: twenty calls, each booked with what its answer said: the key's total grew by exactly that."""
    async with asking(house, emulator) as readings:
        view = await play(house, emulator, readings, 20, range(20))

    assert view.reading.verdict is Verdict.AGREES
    assert view.reading.grown_nusd == view.reading.ours_nusd == emulator.total_nusd(KEYS["openrouter"]) > 0
    assert await findings(house) == []


async def test_use_outside_shows_in_the_emulators_account(house: House, emulator: EmulatorHandle) -> None:
    """X9: three calls of ten were never ours; that much, to the nano-dollar but two, was used elsewhere."""
    async with asking(house, emulator) as readings:
        view = await play(house, emulator, readings, 10, range(7))

    elsewhere = view.reading.grown_nusd - view.reading.ours_nusd
    assert (view.reading.verdict, view.reading.off_nusd) == (Verdict.ELSEWHERE, elsewhere - 2)
    assert elsewhere > 0
    assert await findings(house) == []


async def test_a_booking_that_the_emulators_account_lacks_is_drift(house: House, emulator: EmulatorHandle) -> None:
    """X9: one booking of eleven has no call behind it: verify says so, with the reading's id."""
    async with asking(house, emulator) as readings:
        view = await play(house, emulator, readings, 10, [*range(10), -1])

    assert view.reading.verdict is Verdict.DRIFT
    assert view.reading.off_nusd == view.reading.ours_nusd - view.reading.grown_nusd - 13
    (finding,) = await findings(house)
    assert (finding.check, finding.ids) == ("key.drift", (str(view.reading.id),))


