"""Stop and commit: nothing before the first content, nothing cut passed off as whole, failures say so."""

from typing import Any

import pytest
from tests.gateway.gateway_kit import (
    CHAT,
    CLAUDE,
    FINISH,
    JSON_TYPE,
    STREAM,
    Exchange,
    Rig,
    body_of,
    broken,
    delta,
    refusal,
    sse,
    usage,
    whole_answer,
)

STREAMED = {**CHAT, "stream": True}
ROLE = delta("", delta={"role": "assistant", "content": ""})
BEFORE_CONTENT = {
    "role frames": sse(ROLE, ROLE),
    "comments": [b": OPENROUTER PROCESSING\n\n"],
    "nothing": [],
}
ENDINGS: dict[str, list[Any]] = {
    "cut": [broken()],
    "EOF without finish": [],
    "DONE without finish": sse(b"[DONE]"),
    "silence": [9.0],
    "error chunk": sse({"error": {"code": 502, "message": "host"}, "choices": []}),
    "malformed event": [b'data: {"broken\n\n'],
    "a page": [b"<html>bad gateway</html>\n\n"],
}


@pytest.mark.parametrize("before", BEFORE_CONTENT)
@pytest.mark.parametrize("ending", ENDINGS)
async def test_before_the_first_content_another_route_answers(desk: Rig, before: str, ending: str) -> None:
    """T6, T15, X4: whatever breaks before any content, the caller sees only the answer of the next route."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    desk.script(Exchange([*BEFORE_CONTENT[before], *ENDINGS[ending]]), Exchange(STREAM))

    caller = await desk.call(workspace, STREAMED)

    assert caller.body == b"".join(STREAM[:3] + STREAM[4:])
    assert caller.head["x-ownkey-route"] == "openrouter:openrouter"
    assert [a["provider"] for a in (await desk.receipt(workspace))["attempts"]] == ["openai", "openrouter"]
    await desk.check()


@pytest.mark.parametrize("model", [CHAT["model"], CLAUDE])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_after_the_first_content_a_failure_is_an_error_event(desk: Rig, ending: str, model: str) -> None:
    """X4: passed through or translated, a stream that breaks ends in an error and never in a terminator."""
    workspace = await desk.workspace("a", "openrouter", "anthropic")
    first = sse(delta("pelicans "))
    if model == CLAUDE:
        first = [
            b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","model":"claude",'
            b'"usage":{"input_tokens":10,"output_tokens":1}}}\n\n',
            b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
            b'"content_block":{"type":"text","text":""}}\n\n',
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
            b'"delta":{"type":"text_delta","text":"pelicans "}}\n\n',
        ]
    desk.script(Exchange([*first, 0.01, *ENDINGS[ending]]))

    caller = await desk.call(workspace, {**STREAMED, "model": model})

    assert b"pelicans" in caller.body
    assert caller.ended
    last = [line for line in caller.body.splitlines() if line.startswith(b"data: ")][-1]
    assert b'"error"' in last
    assert b"data: [DONE]" not in caller.body
    assert len(desk.upstream.sent) == 1
    receipt = await desk.receipt(workspace)
    assert (receipt["status"], receipt["code"]) == (200, "provider_unavailable")
    assert receipt["attempts"][0]["basis"] == "estimated"
    await desk.check()


@pytest.mark.parametrize(
    "body", [body_of(finish=None), body_of()[:-30], b"", b"<html>login</html>", b'{"choices": []}',
             b'{"error": {"code": 502, "message": "host"}}'],
    ids=["no finish", "cut", "empty", "a page", "no choices", "an error in a 200"],
)
async def test_a_broken_whole_answer_is_no_answer(desk: Rig, body: bytes) -> None:
    """X4: what is not a whole answer goes to the next route, or is refused; it is never passed on."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    desk.script(Exchange([body], headers=JSON_TYPE), whole_answer(text="whole"))
    answered = await desk.call(workspace)
    desk.script(Exchange([body], headers=JSON_TYPE))
    refused = await desk.call(workspace)

    assert answered.json["choices"][0]["message"]["content"] == "whole"
    assert (refused.status, refused.error["code"]) == (503, "provider_unavailable")
    await desk.check()


@pytest.mark.parametrize("stream", [True, False])
async def test_an_empty_but_complete_answer_is_an_answer(desk: Rig, stream: bool) -> None:
    """The whole limit went into hidden reasoning: no content, a finish; the caller gets it, and pays it."""
    workspace = await desk.workspace("a", "openrouter")
    end = delta("", finish_reason="length")
    desk.script(
        Exchange(sse(ROLE, end, usage(10, 100), b"[DONE]")) if stream
        else whole_answer(text="", finish="length")
    )

    caller = await desk.call(workspace, {**CHAT, "stream": stream})

    assert caller.status == 200
    assert b"length" in caller.body
    receipt = await desk.receipt(workspace)
    assert (receipt["code"], receipt["attempts"][0]["state"]) == (None, "settled")
    assert receipt["cost_nusd"] > 0
    await desk.check()


async def test_the_head_waits_for_the_commit(desk: Rig) -> None:
    """A refusal keeps its status though a stream was asked for; route and payer on the head are true."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(refusal(400, "invalid_request_error"))

    caller = await desk.call(workspace, STREAMED)

    assert (caller.status, caller.error["code"]) == (400, "bad_request")
    assert caller.head["x-ownkey-route"] == "none"
    assert caller.head["content-type"] == "application/json"


async def test_the_last_bytes_wait_for_the_books(desk: Rig) -> None:
    """The terminator reaches the caller only when the call is booked."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(Exchange(STREAM))
    seen: list[bytes] = []
    end_call = desk.store.end_call
    task, caller = desk.begin(workspace, STREAMED)

    async def watched(*args: Any) -> Any:
        seen.append(caller.body)
        return await end_call(*args)

    desk.store.end_call = watched  # type: ignore[method-assign]
    await task

    assert b"[DONE]" not in seen[0]
    assert caller.body.endswith(b"[DONE]\n\n")


async def test_a_refusal_inside_a_good_answer_is_passed_on(desk: Rig) -> None:
    """Class policy inside a 200 is the dialect's own refusal, paid for and never retried elsewhere."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    refused = delta("", delta={"refusal": "I cannot help with that."})
    desk.script(Exchange(sse(refused, FINISH, usage(), b"[DONE]")))

    caller = await desk.call(workspace, STREAMED)

    assert b"I cannot help" in caller.body
    assert len(desk.upstream.sent) == 1
    assert (await desk.receipt(workspace))["code"] is None


async def test_a_flood_before_the_first_content_is_cut_off(desk: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held back until the first content is bounded."""
    monkeypatch.setattr(desk.house.runner, "_limit_bytes", 10_000)
    workspace = await desk.workspace("a", "openrouter", "openai")
    desk.script(Exchange([b": " + b"x" * 1_000 + b"\n\n"] * 50), Exchange(STREAM))

    caller = await desk.call(workspace, STREAMED)

    assert b"pelicans" in caller.body
    assert b"xxx" not in caller.body
    await desk.check()
