"""`x-ownkey-stream: whole` and the waiting before the first content: gathered answers, and comments meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import TIMES
from tests.gateway.gateway_kit import CHAT, STREAM, Exchange, Rig, broken, delta, open_rig, refusal, sse, whole_answer
from tests.gateway.test_commit_rules import ENDINGS
from tests.gateway.test_routes_and_keys import balance, customer

STREAMED = {**CHAT, "stream": True}
WHOLE = ((b"x-ownkey-stream", b"whole"),)
ANSWER = b"".join(STREAM[:3] + STREAM[4:])
"""The whole stream as a caller gets it who did not ask for usage."""


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[Rig]:
    """A desk that keeps callers waiting with comments after a moment."""
    async with open_rig(tmp_path, **TIMES, keepalive_after_s=0.1, keepalive_every_s=0.05) as rig:
        yield rig


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_stream_that_breaks_in_the_middle_is_restarted(desk: Rig, ending: str) -> None:
    """X4: gathered, a cut, stalled or garbled stream never reaches the caller; the next route's whole answer does."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    desk.script(Exchange([*sse(delta("pelicans ")), 0.01, *ENDINGS[ending]]), Exchange(STREAM))

    caller = await desk.call(workspace, STREAMED, headers=WHOLE)

    assert caller.body == ANSWER
    assert caller.head["x-ownkey-route"] == "openrouter:openrouter"
    receipt = await desk.receipt(workspace)
    assert [a["failure"] is None for a in receipt["attempts"]] == [False, True]
    assert receipt["attempts"][0]["basis"] == "estimated"
    await desk.check()


@pytest.mark.parametrize("ending", ENDINGS)
async def test_nothing_of_a_gathered_answer_is_shown_where_nothing_heals_it(desk: Rig, ending: str) -> None:
    """X4: a whole answer or a clear error with its own status; never a part."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange([*sse(delta("pelicans ")), 0.01, *ENDINGS[ending]]))

    caller = await desk.call(workspace, STREAMED, headers=WHOLE)

    assert (caller.status, caller.error["code"]) == (503, "provider_unavailable")
    assert b"pelicans" not in caller.body
    await desk.check()


async def test_a_task_can_ask_for_whole_streams_and_a_call_can_say_otherwise(desk: Rig) -> None:
    """The product's task says whole; the header is above it."""
    workspace = await desk.workspace("a", "openrouter")
    tasks = {**desk.product.tasks}
    tasks["auto_triage"] = replace(tasks["auto_triage"], stream="whole")
    object.__setattr__(desk.product, "tasks", tasks)
    seen = []
    for headers in ((), ((b"x-ownkey-stream", b"live"),)):
        gate = asyncio.Event()
        desk.script(Exchange([*STREAM[:2], gate, *STREAM[2:]]))
        task, caller = desk.begin(workspace, {**STREAMED, "model": "task:auto_triage"}, headers=headers)
        await desk.upstream.begun.wait()
        await asyncio.sleep(0.05)
        seen.append(caller.started.is_set())
        gate.set()
        await task
        assert caller.body.endswith(b"data: [DONE]\n\n")

    assert seen == [False, True]
    await desk.check()


async def test_an_unknown_stream_mode_is_refused(desk: Rig) -> None:
    """Bad input: the header's two values are named."""
    workspace = await desk.workspace("a", "openrouter")
    caller = await desk.call(workspace, STREAMED, headers=((b"x-ownkey-stream", b"complete"),))

    assert (caller.status, caller.error["code"], caller.error["param"]) == (400, "bad_request", "x-ownkey-stream")
    assert "live and whole" in caller.error["message"]


async def test_an_answer_too_large_to_gather_is_refused(tmp_path: Path) -> None:
    """Gathering is bounded: no caller can make this process keep any amount of memory."""
    async with open_rig(tmp_path, **TIMES, whole_bytes=65_536) as desk:
        workspace = await desk.workspace("a", "openrouter", "openai")
        desk.script(Exchange(sse(delta("x" * 70_000), b"[DONE]")))
        caller = await desk.call(workspace, STREAMED, headers=WHOLE)

        assert (caller.status, caller.error["code"]) == (503, "provider_unavailable")
        assert caller.head["x-should-retry"] == "false"
        assert len(desk.upstream.sent) == 1
        await desk.check()


async def test_credits_pay_nothing_for_a_gathered_answer_that_broke(builder: Rig) -> None:
    """M3: content that was gathered and never handed over is not delivered; the platform bears it."""
    workspace = await customer(builder, credits_if_key_fails=True)
    before = await balance(builder, workspace)
    builder.script(refusal(401), Exchange([*sse(delta("pelicans " * 500)), broken()]))

    caller = await builder.call(workspace, STREAMED, headers=WHOLE)

    assert caller.status == 503
    receipt = await builder.receipt(workspace)
    assert [a["route"] for a in receipt["attempts"]][-1] == "credits"
    assert await balance(builder, workspace) == before
    await builder.check()


async def test_a_silent_stream_is_kept_open_with_comments(patient: Rig) -> None:
    """Streams: after a while a head with the receipt goes out, then comments; then the answer, whole and in order."""
    workspace = await patient.workspace("a", "openrouter")
    patient.script(Exchange([0.25, *STREAM]))

    caller = await patient.call(workspace, STREAMED)

    assert caller.status == 200
    assert caller.head["x-ownkey-receipt"]
    assert "x-ownkey-route" not in caller.head
    assert caller.head["content-type"].startswith("text/event-stream")
    comments, _, rest = caller.body.rpartition(b": keep-alive\n\n")
    assert comments.replace(b": keep-alive\n\n", b"") == b""
    assert rest == ANSWER
    receipt = await patient.receipt(workspace)
    assert (receipt["status"], receipt["code"]) == (200, None)
    await patient.check()


@pytest.mark.parametrize("headers", [(), WHOLE], ids=["live", "whole"])
async def test_a_failure_after_comments_is_an_error_event(patient: Rig, headers: Any) -> None:
    """X4: once the 200 head is out, a refusal is said inside the stream, with its code, and never a terminator."""
    workspace = await patient.workspace("a", "openrouter")
    patient.script(Exchange(before_head=[0.25], status=400, parts=[b'{"error":{"code":400,"message":"no"}}']))

    caller = await patient.call(workspace, STREAMED, headers=headers)

    assert caller.status == 200
    last = [line for line in caller.body.splitlines() if line.startswith(b"data: ")][-1]
    assert json.loads(last[6:])["error"]["code"] == "bad_request"
    assert b"[DONE]" not in caller.body
    receipt = await patient.receipt(workspace)
    assert (receipt["status"], receipt["code"]) == (200, "bad_request")
    await patient.check()


async def test_a_hang_up_while_waiting_ends_the_comments(patient: Rig) -> None:
    """A caller who leaves between two comments ends the call, its hold and its comments."""
    workspace = await patient.workspace("a", "openrouter", "openai")
    patient.script(Exchange([5.0, *STREAM]))
    task, caller = patient.begin(workspace, STREAMED)
    await caller.started.wait()
    caller.hang_up()
    await task

    receipt = await patient.receipt(workspace)
    assert receipt["hung_up"]
    assert len(asyncio.all_tasks()) < 10
    await patient.check()


async def test_a_caller_who_gets_content_soon_sees_no_comment(patient: Rig) -> None:
    """The head that names route and payer is the usual one."""
    workspace = await patient.workspace("a", "openrouter")
    patient.script(Exchange([*STREAM[:2], 0.15, *STREAM[2:]]))

    caller = await patient.call(workspace, STREAMED)

    assert caller.head["x-ownkey-route"] == "openrouter:openrouter"
    assert caller.body == ANSWER
    await patient.check()


async def test_whole_answers_need_no_comments(patient: Rig) -> None:
    """`stream: false` keeps its status to the end, however long it takes."""
    workspace = await patient.workspace("a", "openrouter")
    patient.script(Exchange(whole_answer().parts, headers=whole_answer().headers, before_head=[0.25]))

    caller = await patient.call(workspace)

    assert caller.json["choices"]
    assert caller.head["x-ownkey-route"] == "openrouter:openrouter"
    await patient.check()
