"""Odd bodies: whatever JSON a caller sends, the answer is a clear refusal or an answer, never an error of ours."""

from typing import Any

import pytest
from tests.gateway.gateway_kit import CLAUDE, JSON_TYPE, Caller, Exchange, Rig

from ownkey.providers.upstream import _encode_head

MESSAGES = {"model": CLAUDE, "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
ANSWER = Exchange(
    [b'{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"hi"}],'
     b'"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":2}}'],
    headers=JSON_TYPE,
)


def said(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/api/v1/messages"])
@pytest.mark.parametrize(
    "odd",
    [
        said([{"type": []}]),
        said([{"type": {}}]),
        said([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": ["text"]}]}]),
        {"context_management": {"edits": [{"type": []}]}},
        {"context_management": {"edits": [{"type": {"a": 1}}]}},
    ],
    ids=["list", "object", "nested list", "edit's list", "edit's object"],
)
async def test_a_type_that_is_no_text_is_no_error_of_ours(desk: Rig, path: str, odd: dict[str, Any]) -> None:
    """A block's or an edit's `type` may be any JSON: it is held as what is not known, or refused."""
    workspace = await desk.workspace("a", "openrouter", "anthropic")
    desk.script(Exchange([b'{"input_tokens":14}'], headers=JSON_TYPE) if path.endswith("count_tokens") else ANSWER)
    caller = await desk.call(workspace, {**MESSAGES, **odd}, path=path)

    assert caller.status < 500, caller.body
    await desk.check()


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"model":"\xff"}', b'{"model":' + b"[" * 100_000],
                         ids=["deep", "not utf-8", "deep inside"])
async def test_explaining_a_body_that_cannot_be_read_is_a_refusal(desk: Rig, body: bytes) -> None:
    """Explain guesses the endpoint from the body, which may be anything."""
    workspace = await desk.workspace("a", "openrouter")
    caller: Caller = await desk.call(workspace, body, path="/v1/explain")

    assert (caller.status, caller.json["code"]) == (200, "bad_request")


@pytest.mark.parametrize(
    ("path", "name"),
    [("/v1/messages", b"anthropic-beta"), ("/api/v1/chat/completions", b"x-title"),
     ("/api/v1/chat/completions", b"http-referer")],
)
async def test_a_header_that_cannot_be_sent_on_is_the_callers_mistake(desk: Rig, path: str, name: bytes) -> None:
    """Refused by name; it is no outage of the provider, whose circuit is everybody's."""
    workspace = await desk.workspace("a", "openrouter", "anthropic")
    send = desk.upstream.send

    async def strict(request: Any, *, head_timeout_s: float) -> Any:
        _encode_head(request)
        return await send(request, head_timeout_s=head_timeout_s)

    desk.upstream.send = strict  # type: ignore[method-assign]
    desk.script(ANSWER)
    caller = await desk.call(workspace, MESSAGES, path=path, headers=((name, "Café".encode()),))

    assert caller.status == 400, caller.body
    assert caller.error["param"].lower() in (name.decode(), "x-openrouter-title")
    assert not desk.house.circuits._circuits
    await desk.check()
