"""Reports that say less than was seen: a missing last word is estimated, a stated 0 is a value."""

import pytest
from tests.gateway.gateway_kit import CHAT, CLAUDE, FINISH, STALL, Exchange, Rig, cost, delta, sse, usage

STREAMED = {**CHAT, "stream": True, "model": "openai/gpt-4.1-mini"}


CLAUDE_HALF = [
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","model":"claude","usage":'
    b'{"input_tokens":10,"output_tokens":1}}}\n\n',
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
    b'{"type":"text","text":""}}\n\n',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
    b'{"type":"text_delta","text":"' + b"pelicans " * 20 + b'"}}\n\n',
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
]
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


@pytest.mark.parametrize("report", ["", ',"usage":null', ',"usage":{}', ',"usage":{"output_tokens":null}'])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_an_interim_report_is_not_the_last_word(desk: Rig, report: str, path: str) -> None:
    """T26: a stream whose end reports nothing has told its input only: its output is estimated from its content."""
    workspace = await desk.workspace("a", "openrouter", "anthropic")
    await desk.cap(workspace, 10**9)
    last = f'{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}}{report}}}'
    desk.script(Exchange([*CLAUDE_HALF, f"event: message_delta\ndata: {last}\n\n".encode(), STOP]))
    caller = await desk.call(workspace, {**STREAMED, "model": CLAUDE}, path=path)

    assert caller.status == 200
    attempt = (await desk.receipt(workspace))["attempts"][0]
    assert (attempt["provider"], attempt["basis"], attempt["maybe_billed"]) == ("anthropic", "estimated", True)
    assert attempt["usage"]["output"] >= 180
    assert b'"completion_tokens":1' not in caller.body
    await desk.check()


async def test_a_reported_zero_is_believed_beside_content(desk: Rig) -> None:
    """A reported 0 is a value, also beside content: steps of a programmatic tool call are recorded like that."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    await desk.cap(workspace, 10**9)
    desk.script(Exchange(sse(delta("pelicans"), FINISH, usage(0, 0), b"[DONE]")))
    await desk.call(workspace, STREAMED)

    attempt = (await desk.receipt(workspace))["attempts"][0]
    assert (attempt["basis"], await desk.spent(workspace)) == ("computed", 0)


async def test_a_zero_for_an_empty_answer_is_believed(desk: Rig) -> None:
    """A reported 0 is a value: nothing was written, and nothing is billed for it."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    await desk.cap(workspace, 10**9)
    desk.script(Exchange(sse(delta("", finish_reason="length"), usage(10, 0), b"[DONE]")))
    await desk.call(workspace, STREAMED)

    attempt = (await desk.receipt(workspace))["attempts"][0]
    assert (attempt["basis"], await desk.spent(workspace)) == ("computed", cost(10, 0))


async def test_an_event_that_was_on_its_way_counts(desk: Rig) -> None:
    """M12: the bytes of an event that never ended may be content that is billed."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    await desk.cap(workspace, 10**9)
    half = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"x" * 60
    body = {**STREAMED, "max_tokens": 1_000}
    desk.script(Exchange([*sse(delta("pelicans ")), 0.01, half, STALL]))
    await desk.call(workspace, body)
    with_half = await desk.spent(workspace)
    desk.script(Exchange([*sse(delta("pelicans ")), 0.01, STALL]))
    await desk.call(workspace, body)
    without = await desk.spent(workspace) - with_half

    assert with_half - without == cost(0, len(half))
    await desk.check()
