"""Traps of the first day: however a call ends, its holds end once, for at least what was billed, with a receipt."""

import asyncio
from typing import Any

import pytest
from tests.gateway.gateway_kit import (
    CHAT,
    FINISH,
    GEMINI,
    MINI,
    STALL,
    STREAM,
    Exchange,
    Rig,
    broken,
    cost,
    delta,
    refusal,
    sse,
    usage,
    whole_answer,
)

from ownkey.domain.booking import HoldGranted
from ownkey.domain.errors import Unavailable

STREAMED = {**CHAT, "stream": True}
FIRST = sse(delta("pelicans "))


async def hang_up_when_sent(rig: Rig, workspace: str, body: Any = STREAMED) -> Any:
    """A call whose caller leaves once the provider has the request, and a little after. Returns the receipt."""
    task, caller = rig.begin(workspace, body)
    await rig.upstream.begun.wait()
    await asyncio.sleep(0.02)
    caller.hang_up()
    await task
    await rig.check()
    return await rig.receipt(workspace)


@pytest.mark.parametrize(
    "exchange", [Exchange([STALL]), Exchange(before_head=[STALL]), Exchange([*FIRST, STALL])],
    ids=["before the first content", "before the head", "in the middle"],
)
async def test_a_hang_up_settles_and_leaves_a_receipt(desk: Rig, exchange: Exchange) -> None:
    """The caller hangs up while the provider is silent: settled high, never released, and told on the receipt."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(exchange)

    receipt = await hang_up_when_sent(desk, workspace)

    assert receipt["hung_up"] is True
    assert receipt["status"] == 499
    assert receipt["attempts"][0]["state"] == "settled"
    assert receipt["attempts"][0]["maybe_billed"] is True
    assert await desk.spent(workspace) == receipt["cost_nusd"] > 0


async def test_a_hang_up_during_the_hold_gives_it_back(desk: Rig) -> None:
    """The hold is being written when the caller leaves: it is released, and nothing was sent."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(whole_answer())
    release, asked, hold = asyncio.Event(), asyncio.Event(), desk.store.hold

    async def slow_hold(request: Any) -> Any:
        granted = await hold(request)
        asked.set()
        await release.wait()
        return granted

    desk.store.hold = slow_hold  # type: ignore[method-assign]
    task, caller = desk.begin(workspace)
    await asked.wait()
    caller.hang_up()
    await asyncio.sleep(0.02)
    release.set()
    await task

    await desk.check()
    assert desk.upstream.sent == []
    assert await desk.spent(workspace) == 0
    receipt = await desk.receipt(workspace)
    assert (receipt["hung_up"], receipt["status"], receipt["attempts"]) == (True, 499, [])


async def test_a_hang_up_while_waiting_for_room_leaves_a_receipt(desk: Rig) -> None:
    """Other calls' holds stand in the way and the caller leaves meanwhile."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange([STALL]))
    first, first_caller = desk.begin(workspace, STREAMED)
    await desk.upstream.begun.wait()
    await desk.cap(workspace, 250_000)
    task, caller = desk.begin(workspace, CHAT)
    await asyncio.sleep(0.05)
    caller.hang_up()
    await task

    receipt = await desk.receipt(workspace)
    assert (receipt["hung_up"], receipt["status"], receipt["attempts"]) == (True, 499, [])
    first_caller.hang_up()
    await first
    await desk.check()


async def test_a_hang_up_during_a_retry_wait_leaves_a_receipt(desk: Rig) -> None:
    """Between two attempts no hold is open; the receipt has the attempt that failed."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(refusal(503))

    receipt = await hang_up_when_sent(desk, workspace, CHAT)

    assert receipt["hung_up"] is True
    assert [a["state"] for a in receipt["attempts"]] == ["released"]
    assert len(desk.upstream.sent) == 1


async def test_a_hang_up_during_the_settlement_changes_nothing(desk: Rig) -> None:
    """The answer is there and is being booked: it is booked once, as reported."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(whole_answer())
    release, asked, end_call = asyncio.Event(), asyncio.Event(), desk.store.end_call

    async def slow_end(*args: Any) -> Any:
        asked.set()
        await release.wait()
        return await end_call(*args)

    desk.store.end_call = slow_end  # type: ignore[method-assign]
    task, caller = desk.begin(workspace)
    await asked.wait()
    caller.hang_up()
    await asyncio.sleep(0.02)
    release.set()
    await task

    await desk.check()
    assert await desk.spent(workspace) == cost(10, 5)
    assert (await desk.receipt(workspace))["attempts"][0]["basis"] == "computed"


async def test_a_hang_up_between_two_attempts_settlement_and_the_next(desk: Rig) -> None:
    """A failed attempt is being booked when the caller leaves: no second one is made."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    desk.script(refusal(503), whole_answer())
    release, asked, end_attempt = asyncio.Event(), asyncio.Event(), desk.store.end_attempt

    async def slow_end(end: Any) -> Any:
        asked.set()
        await release.wait()
        return await end_attempt(end)

    desk.store.end_attempt = slow_end  # type: ignore[method-assign]
    task, caller = desk.begin(workspace)
    await asked.wait()
    caller.hang_up()
    await asyncio.sleep(0.02)
    release.set()
    await task

    await desk.check()
    assert desk.upstream.hosts == ["openai"]
    assert (await desk.receipt(workspace))["status"] == 499


async def test_a_slow_caller_is_a_hang_up_and_no_bug(desk: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Who takes nothing for `client_stall_s` is gone: the stream is closed and settled, and no bug is logged."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange([*FIRST, 0.02, *sse(delta("fly")), STALL]))
    task, caller = desk.begin(workspace, STREAMED)
    caller.slow = asyncio.Event()
    await asyncio.wait_for(task, 2)

    await desk.check()
    receipt = await desk.receipt(workspace)
    assert receipt["hung_up"] is True
    assert receipt["code"] is None
    assert caplog.records == []
    assert not caller.ended


async def test_a_slow_caller_does_not_make_the_provider_look_stalled(desk: Rig) -> None:
    """Time that the caller takes is not the provider's: what it sent meanwhile is delivered whole."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange([*FIRST, 0.01, *STREAM]))
    task, caller = desk.begin(workspace, STREAMED)
    caller.slow = asyncio.Event()
    await caller.started.wait()
    await asyncio.sleep(0.25)
    caller.slow.set()
    await task

    assert caller.body.endswith(b"data: [DONE]\n\n")
    assert (await desk.receipt(workspace))["code"] is None
    await desk.check()


async def test_what_has_arrived_is_counted_before_a_stream_is_left(desk: Rig) -> None:
    """A slow caller hangs up while the whole answer is already here: it is billed, so its report is read."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange([*FIRST, *STREAM]))
    task, caller = desk.begin(workspace, STREAMED)
    caller.slow = asyncio.Event()
    await caller.started.wait()
    await asyncio.sleep(0.05)
    caller.hang_up()
    await task

    assert await desk.spent(workspace) == cost(10, 5)
    assert (await desk.receipt(workspace))["attempts"][0]["basis"] == "computed"
    await desk.check()


async def test_an_unreadable_answer_is_settled_whole(desk: Rig) -> None:
    """What follows a malformed event cannot be counted, and is billed."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange([*FIRST, 0.01, b'data: {"broken' + b"\n\n", *STREAM]))

    await desk.call(workspace, STREAMED)

    receipt = await desk.receipt(workspace)
    assert receipt["cost_nusd"] == receipt["attempts"][0]["bound_nusd"]
    await desk.check()


async def test_a_provider_that_bills_on_is_read_to_the_end(desk: Rig) -> None:
    """Google goes on after a hang-up: its report is waited for, and the bill is what it says."""
    workspace = await desk.workspace("a", "openrouter", "google")
    chunks = [
        {"candidates": [{"content": {"parts": [{"text": "pelicans "}]}}],
         "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 1}},
        {"candidates": [{"content": {"parts": [{"text": "fly"}]}, "finishReason": "STOP"}],
         "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 60}},
    ]
    desk.script(Exchange([*sse(chunks[0]), 0.1, *sse(chunks[1])]))

    receipt = await hang_up_when_sent(desk, workspace, {**STREAMED, "model": GEMINI})

    assert receipt["hung_up"] is True
    assert receipt["attempts"][0]["basis"] == "computed"
    assert await desk.spent(workspace) == cost(10, 60)


@pytest.mark.parametrize("model", [GEMINI, "openai/o4-mini"])
async def test_what_may_be_billed_unseen_is_settled_whole(desk: Rig, model: str) -> None:
    """A provider that bills on and is not read to the end, or that hides its reasoning: the whole hold is spend."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange([*FIRST, STALL]))

    receipt = await hang_up_when_sent(desk, workspace, {**STREAMED, "model": model})

    assert receipt["cost_nusd"] == receipt["attempts"][0]["bound_nusd"]


async def test_draining_is_bounded_in_time_and_number(desk: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """`drain_s`, and so many at once: the others settle their whole hold at once."""
    monkeypatch.setattr("ownkey.gateway.attempt.MAX_DRAINS", 1)
    workspace = await desk.workspace("a", "openrouter", "google")
    more = [{"candidates": [{"content": {"parts": [{"text": "x"}]}}]}]
    desk.script(*(Exchange([p for _ in range(40) for p in (*sse(*more), 0.05)]) for _ in range(2)))
    calls = [desk.begin(workspace, {**STREAMED, "model": GEMINI}) for _ in range(2)]
    for _, caller in calls:
        await caller.started.wait()
    began = desk.clock.monotonic()
    for _, caller in calls:
        caller.hang_up()
    await asyncio.gather(*(task for task, _ in calls))

    assert 0.25 < desk.clock.monotonic() - began < 1.0
    await desk.check()


async def test_the_server_stops_in_the_middle_of_a_stream(desk: Rig) -> None:
    """Cancelled by the server's shutdown: settled, and the stream ends in an error event, not in silence."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange([*FIRST, STALL]))
    task, caller = desk.begin(workspace, STREAMED)
    await caller.started.wait()
    task.cancel()
    await task

    assert caller.ended
    assert b'"error"' in caller.body
    assert b"[DONE]" not in caller.body
    receipt = await desk.receipt(workspace)
    assert (receipt["code"], receipt["hung_up"]) == ("provider_unavailable", False)
    await desk.check()


@pytest.mark.parametrize("exchange", [Exchange(before_head=[STALL]), Exchange([STALL])])
async def test_the_server_stops_before_an_answer(desk: Rig, exchange: Exchange) -> None:
    """Nothing has reached the caller: a 503 that says so and when to come back."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(exchange)
    task, caller = desk.begin(workspace, STREAMED)
    await desk.upstream.begun.wait()
    await asyncio.sleep(0.02)
    task.cancel()
    await task

    assert (caller.status, caller.error["code"], caller.head["retry-after"]) == (503, "provider_unavailable", "1")
    await desk.check()


async def test_stopping_waits_until_every_call_has_settled(desk: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server leaves in flight is cancelled and waited for before the books close."""
    monkeypatch.setattr("ownkey.api.dataplane.SETTLE_S", 0.1)
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange([*FIRST, STALL]))
    calls = [desk.begin(workspace, STREAMED) for _ in range(5)]
    for _, caller in calls:
        await caller.started.wait()

    await desk.app.stop()

    await desk.check()
    assert all(caller.ended and b'"error"' in caller.body for _, caller in calls)


async def test_a_fallback_after_a_billed_attempt_settles_both(desk: Rig) -> None:
    """Each attempt has its own hold: the silent one costs its whole hold, the answer what it reports."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    desk.script(broken(received=False), whole_answer())

    caller = await desk.call(workspace)

    assert caller.status == 200
    receipt = await desk.receipt(workspace)
    first, second = receipt["attempts"]
    assert first["cost_nusd"] == first["bound_nusd"] > 0
    assert receipt["cost_nusd"] == first["cost_nusd"] + second["cost_nusd"] == await desk.spent(workspace)
    await desk.check()


async def test_nothing_sent_costs_nothing(desk: Rig) -> None:
    """A refused connection is released."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    desk.script(broken(sent=False, received=False), whole_answer())

    await desk.call(workspace)

    receipt = await desk.receipt(workspace)
    assert [a["state"] for a in receipt["attempts"]] == ["released", "settled"]
    assert await desk.spent(workspace) == cost(10, 5)
    await desk.check()


async def test_a_refused_status_whose_body_breaks_off_is_still_that_status(desk: Rig) -> None:
    """A 401 is a 401 and unbilled, whatever becomes of its body."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange([b'{"err', broken()], status=401, headers={}))

    caller = await desk.call(workspace)

    assert (caller.status, caller.error["code"]) == (502, "credential_rejected")
    assert await desk.spent(workspace) == 0
    await desk.check()


async def test_no_usage_event_is_settled_from_what_was_seen(desk: Rig) -> None:
    """A whole answer without a report is a success; its cost is estimated, never 0."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange(sse(delta("pelicans"), FINISH, b"[DONE]")))

    caller = await desk.call(workspace, STREAMED)

    assert caller.body.endswith(b"data: [DONE]\n\n")
    attempt = (await desk.receipt(workspace))["attempts"][0]
    assert (attempt["state"], attempt["basis"]) == ("settled", "estimated")
    assert attempt["cost_nusd"] >= cost(10, len("pelicans"))
    await desk.check()


async def test_the_cap_refuses_the_fallbacks_hold(desk: Rig) -> None:
    """The second attempt's hold is refused: that code, with the attempt that was made, and both booked."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    await desk.cap(workspace, 200_000)
    desk.script(broken(received=False), whole_answer())

    caller = await desk.call(workspace)

    assert caller.status == 402
    assert caller.error["code"] in ("spend_cap_too_low", "ai_paused")
    assert caller.error["attempts"][0]["provider"] == "openai"
    assert len(desk.upstream.sent) == 1
    await desk.check()


async def test_a_bug_in_an_attempt_ends_its_hold_whole(desk: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """An exception of ours in the middle: 500 with a receipt, the hold settled, the trace in the log."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(RuntimeError("a bug"))

    caller = await desk.call(workspace)

    assert (caller.status, caller.error["code"]) == (500, "internal_error")
    receipt = await desk.receipt(workspace)
    assert receipt["cost_nusd"] == receipt["attempts"][0]["bound_nusd"]
    assert "a bug" in caplog.text
    await desk.check()


async def test_a_bug_between_an_attempt_and_its_booking_ends_its_hold(desk: Rig) -> None:
    """Not even a mistake in deciding what follows leaves a hold open."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(whole_answer())

    def mistaken(key: Any) -> None:
        raise KeyError("a bug")

    desk.house.circuits.record_success = mistaken  # type: ignore[method-assign]
    caller = await desk.call(workspace)

    assert caller.status == 500
    assert await desk.spent(workspace) == cost(10, 5)
    await desk.check()


async def test_a_stream_whose_end_cannot_be_booked_ends_in_an_error(desk: Rig) -> None:
    """The disk is full at the settlement: no truncated stream passes for a whole one. The hold stays and expires."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange(STREAM))

    async def full(*args: Any) -> Any:
        raise Unavailable("The database cannot be written now.")

    end_call, desk.store.end_call = desk.store.end_call, full  # type: ignore[method-assign]
    caller = await desk.call(workspace, STREAMED)
    whole = await desk.call(workspace, CHAT)
    desk.store.end_call = end_call  # type: ignore[method-assign]

    assert caller.ended
    assert b"[DONE]" not in caller.body
    assert caller.body.rstrip().splitlines()[-1].startswith(b"data: ")
    assert b'"error"' in caller.body
    assert whole.status == 503
    await desk.store.expire_holds(desk.clock.now_ms() + 3_600_000)
    await desk.check()


async def test_a_hold_that_cannot_be_written_sends_nothing(desk: Rig) -> None:
    """Store unavailable: no hold, no call."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(whole_answer())

    async def full(request: Any) -> HoldGranted:
        raise Unavailable("The database cannot be written now.")

    desk.store.hold = full  # type: ignore[method-assign]
    caller = await desk.call(workspace)

    assert (caller.status, caller.error["code"]) == (503, "provider_unavailable")
    assert desk.upstream.sent == []
    await desk.check()


async def test_the_deadline_holds_on_a_stream_that_never_pauses(desk: Rig) -> None:
    """A provider that never stops sending is left at the deadline."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange([p for _ in range(3_000) for p in (*sse(delta("x")), 0.0005)]))
    task, caller = desk.begin(workspace, STREAMED)
    await caller.started.wait()
    desk.clock.ahead_s = 10.0
    await asyncio.wait_for(task, 1)

    assert b"[DONE]" not in caller.body
    assert b'"error"' in caller.body
    await desk.check()


async def test_pings_after_the_end_do_not_keep_a_call_open(desk: Rig) -> None:
    """Complete, but neither usage nor end within `tail_s`: a success whose end Ownkey writes."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange([*sse(delta("hi"), FINISH), *[p for _ in range(200) for p in (b": ping\n\n", 0.02)]]))
    task, caller = desk.begin(workspace, STREAMED)
    await asyncio.wait_for(task, 1)

    assert caller.body.endswith(b"data: [DONE]\n\n")
    await desk.check()


async def test_two_hundred_hang_ups_at_random_points(desk: Rig) -> None:
    """M5, M12 in small: whatever the moment, nothing is left open and nothing is booked at 0 that was sent."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    chunks = [p for text in "pelicans" for p in (0.002, *sse(delta(text)))]
    desk.script(Exchange([*chunks, *sse(FINISH, usage(), b"[DONE]")], before_head=[0.003]))
    calls = []
    for n in range(200):
        task, caller = desk.begin(workspace, {**STREAMED, "model": MINI})
        asyncio.get_running_loop().call_later(n % 40 / 1_000, caller.hang_up)
        calls.append(task)
    await asyncio.gather(*calls)

    await desk.check()
    rows = desk.store._near.execute("SELECT state, cost_nusd, bound_nusd FROM hold").fetchall()
    assert all(cost_nusd <= bound for _, cost_nusd, bound in rows)
    assert all(cost_nusd > 0 for state, cost_nusd, _ in rows if state == "settled")
    assert len([t for t in asyncio.all_tasks() if "watch_for_hang_up" in repr(t)]) == 0
