"""Lost costs asked for at OpenRouter: what is sent, what is booked, what is tried again, and when it is given up."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from house import ACTOR, KEYS, House, open_house
from tests.store.store_kit import attempt, receipt, request, settle, take

from ownkey.control.late_costs import LateCosts, read_cost_nusd
from ownkey.control.probes import AuthProber
from ownkey.control.receipts import why_sentence
from ownkey.domain.failures import UpstreamError
from ownkey.domain.late_costs import LIFETIME_MS
from ownkey.domain.money import format_usd
from ownkey.domain.receipts import Basis
from ownkey.domain.workspace import WorkspaceState
from ownkey.providers.egress import parse_origin
from ownkey.providers.openrouter import OpenRouterProvider

GENERATION = "gen-1795000000-abc"
BOUND = 90_000
ESTIMATE = 80_000


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened
        assert list(await opened.store.verify(opened.clock.at_ms)) == []


def late_costs(house: House) -> LateCosts:
    origins = {"openrouter": parse_origin("https://openrouter.ai/api/v1")}
    prober = AuthProber(house.upstream, {"openrouter": OpenRouterProvider()}, origins, house.clock)
    return LateCosts(house.store, house.opener, prober, house.clock)


async def cut_call(house: House, workspace: WorkspaceState) -> str:
    """A call over OpenRouter whose answer broke off; returns its receipt's id."""
    now = house.clock.at_ms
    req = request(workspace.id, BOUND, at_ms=now, expires_at_ms=now + 180_000)
    await take(house.store, req)
    end = settle(req, ESTIMATE, basis=Basis.ESTIMATED, maybe_billed=True)
    one = replace(
        attempt(req, end), request_id=GENERATION, maybe_billed=True, ended_ms=1_000,
        credential_id=workspace.credentials["openrouter"].id,
    )
    await house.store.end_call(end, receipt(req, attempts=(one,), cost_nusd=ESTIMATE, basis=Basis.ESTIMATED))
    return req.call_id


def record(cost: Any = 0.0000123, **fields: Any) -> tuple[int, Any]:
    known = {"id": GENERATION, "total_cost": cost, "is_byok": False, "upstream_inference_cost": 0}
    return 200, {"data": {**known, **fields}}


async def stored(house: House, workspace: WorkspaceState, call: str) -> Any:
    return await house.store.load_receipt(workspace.id, call)


async def test_the_record_is_asked_for_once_with_the_key_that_paid(house: House) -> None:
    """Not before ten seconds have passed, and never again after it was booked."""
    workspace = await house.with_key()
    call = await cut_call(house, workspace)
    house.upstream.script["/generation"] = record()
    job = late_costs(house)
    house.upstream.sent.clear()

    early = await job.look_up_due()
    house.clock.pass_s(11)
    asked = [await job.look_up_due() for _ in range(3)]

    assert (early, asked) == (0, [1, 0, 0])
    (sent,) = house.upstream.sent
    assert (sent.method, sent.path) == ("GET", f"/generation?id={GENERATION}")
    assert KEYS["openrouter"] not in repr(sent)
    told = await stored(house, workspace, call)
    assert (told["cost_nusd"], told["basis"]) == (12_300, "actual")
    assert told["attempts"][0]["correction"]["estimated_nusd"] == ESTIMATE


async def test_a_record_that_is_not_there_yet_is_asked_for_again(house: House) -> None:
    """10 s, then a minute, then ten: by the clock, not by the rounds of the job."""
    workspace = await house.with_key()
    call = await cut_call(house, workspace)
    house.upstream.script["/generation"] = (404, {"error": {"code": 404, "message": "Generation not found"}})
    job = late_costs(house)
    house.upstream.sent.clear()
    for wait in (11, 59, 2, 598, 3):
        house.clock.pass_s(wait)
        await job.look_up_due()
    assert len(house.upstream.sent) == 3

    house.upstream.script["/generation"] = record()
    house.clock.pass_s(3_600)
    await job.look_up_due()

    assert (await stored(house, workspace, call))["cost_nusd"] == 12_300


async def test_a_first_zero_is_asked_again(house: House) -> None:
    """There is one correction a hold: a record that is not finished must not take it."""
    workspace = await house.with_key()
    call = await cut_call(house, workspace)
    house.upstream.script["/generation"] = record(0)
    house.clock.pass_s(11)
    await late_costs(house).look_up_due()
    assert (await stored(house, workspace, call))["cost_nusd"] == ESTIMATE

    house.clock.pass_s(61)
    await late_costs(house).look_up_due()

    told = await stored(house, workspace, call)
    assert (told["cost_nusd"], told["basis"]) == (0, "actual")
    assert why_sentence(told).endswith(
        f"Cost: US$0.00 (as the provider reported it; corrected, first booked as US${format_usd(ESTIMATE)})."
    )


async def test_what_stays_unknown_for_a_day_is_given_up_in_words(house: House) -> None:
    workspace = await house.with_key()
    call = await cut_call(house, workspace)
    house.upstream.script["/generation"] = (404, {"error": {"code": 404, "message": "Generation not found"}})
    job = late_costs(house)
    house.upstream.sent.clear()
    for _ in range(LIFETIME_MS // 600_000 + 12):
        await job.look_up_due()
        house.clock.pass_s(600)

    assert len(house.upstream.sent) == 7
    told = await stored(house, workspace, call)
    assert (told["cost_nusd"], told["basis"]) == (ESTIMATE, "estimated")
    assert told["notes"] == ["The cost stays an estimate: OpenRouter has no record of it."]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (UpstreamError("connection refused", sent=False, received=False), "OpenRouter said connection refused"),
        ((401, {"error": {"code": 401, "message": "User not found."}}), "OpenRouter said 401 auth"),
        ((503, b"<html>"), "OpenRouter said 503 overload"),
        (record(None), "OpenRouter's record of it holds no cost"),
        (record(-1), "OpenRouter's record of it holds no cost"),
        (record("free"), "OpenRouter's record of it holds no cost"),
        ((200, b"<html>"), "OpenRouter said 200 without JSON"),
        ((200, {"data": {"id": "gen-another", "total_cost": 0}}), "OpenRouter's record of it holds no cost"),
    ],
    ids=["network", "auth", "overload", "null", "negative", "text", "html", "another"],
)
async def test_nothing_is_booked_from_an_answer_that_tells_no_cost(house: House, answer: Any, reason: str) -> None:
    """The estimate stands until a record says otherwise; why is kept beside the next time."""
    workspace = await house.with_key()
    call = await cut_call(house, workspace)
    house.upstream.script["/generation"] = answer
    house.clock.pass_s(11)

    await late_costs(house).look_up_due()

    (late,) = await house.store.load_due_late_costs(house.clock.at_ms + 60_000, 9)
    assert late.tries == 1
    assert (await stored(house, workspace, call))["cost_nusd"] == ESTIMATE
    reasons = await house.store._read(lambda conn: conn.execute("SELECT reason FROM late_cost").fetchall())
    assert reasons == [(reason,)]


@pytest.mark.parametrize("change", ["disconnected", "replaced"])
async def test_without_the_key_that_paid_nobody_is_asked(house: House, change: str) -> None:
    """Another key is another account: it has no such generation."""
    workspace = await house.with_key()
    call = await cut_call(house, workspace)
    if change == "replaced":
        await house.save_key(workspace, key="sk-or-v1-" + "66" * 32)
    else:
        await house.store.delete_credential(
            workspace.id, "openrouter", at_ms=house.clock.at_ms, actor=ACTOR
        )
    house.clock.pass_s(11)
    house.upstream.sent.clear()

    await late_costs(house).look_up_due()

    assert house.upstream.sent == []
    told = await stored(house, workspace, call)
    assert told["notes"] == ["The cost stays an estimate: the key that paid is not stored any more."]


async def test_a_key_that_is_switched_off_is_not_opened(house: House) -> None:
    """Switched on again within the day, it is asked after all."""
    workspace = await house.with_key()
    call = await cut_call(house, workspace)
    house.upstream.script["/generation"] = record()
    await house.store.set_credential_status(
        workspace.id, "openrouter", "disabled", at_ms=house.clock.at_ms, actor=ACTOR
    )
    house.clock.pass_s(11)
    house.upstream.sent.clear()
    await late_costs(house).look_up_due()
    assert house.upstream.sent == []

    await house.store.set_credential_status(
        workspace.id, "openrouter", "enabled", at_ms=house.clock.at_ms, actor=ACTOR
    )
    house.clock.pass_s(61)
    await late_costs(house).look_up_due()

    assert (await stored(house, workspace, call))["cost_nusd"] == 12_300


async def test_a_key_that_cannot_be_opened_waits(house: House) -> None:
    workspace = await house.with_key()
    await cut_call(house, workspace)
    house.clock.pass_s(11)
    house.opener.broken = True

    await late_costs(house).look_up_due()

    (late,) = await house.store.load_due_late_costs(house.clock.at_ms + 60_000, 9)
    assert late.tries == 1


@pytest.mark.parametrize(
    ("data", "cost"),
    [
        ({"total_cost": 0}, 0),
        ({"total_cost": "0.0015"}, 1_500_000),
        ({"total_cost": "0.0000000001"}, 1),
        ({"total_cost": "0.001", "is_byok": False, "upstream_inference_cost": "0.001"}, 1_000_000),
        ({"total_cost": "0.00005", "is_byok": True, "upstream_inference_cost": "0.001"}, 1_050_000),
        ({"total_cost": "0.0000000001", "is_byok": True, "upstream_inference_cost": "0.0000000001"}, 1),
        ({"total_cost": 0, "is_byok": True, "upstream_inference_cost": None}, None),
        ({"total_cost": True}, None),
        ({"total_cost": "NaN"}, None),
        ({"total_cost": "1e30"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_what_a_record_costs(data: dict[str, Any], cost: int | None) -> None:
    """The fee and, with a provider key inside OpenRouter, the provider's bill; exact digits, rounded up once."""
    assert read_cost_nusd({"data": data}, GENERATION) == cost
    assert read_cost_nusd({"data": None}, GENERATION) is None
