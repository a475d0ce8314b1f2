"""A limit lowered to fit the cap, where the body says how much to think: what cannot be lowered is never begun."""

from tests.gateway.gateway_kit import CLAUDE, JSON_TYPE, Exchange, Rig

ANSWER = Exchange(
    [b'{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"hi"}],'
     b'"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":2}}'],
    headers=JSON_TYPE,
)  # fmt: skip
CHAT = {"model": CLAUDE, "max_tokens": 4000, "messages": [{"role": "user", "content": "hi"}]}


async def test_a_translated_thinking_budget_that_no_longer_fits_is_a_refusal_and_no_error_of_ours(desk: Rig) -> None:
    """Room for 1,700 tokens, and 2,000 to think with: the call as it is asked does not fit, and is told so."""
    workspace = await desk.workspace("a", "openrouter", "anthropic")
    await desk.cap(workspace, 800_000)
    desk.script(ANSWER)
    caller = await desk.call(workspace, CHAT, reasoning_effort=None, reasoning={"max_tokens": 2000})

    assert (caller.status, caller.error["code"]) == (402, "spend_cap_too_low"), caller.body
    assert desk.upstream.sent == []
    await desk.check()


async def test_a_body_that_thinks_with_a_named_twice_field_is_refused_before_anything_is_held(desk: Rig) -> None:
    """The budget would have to be lowered with the limit; which of two is meant, readers disagree about."""
    workspace = await desk.workspace("a", "openrouter", "anthropic")
    await desk.cap(workspace, 800_000)
    desk.script(ANSWER)
    body = b'{"model":"%s","max_tokens":4000,"messages":[{"role":"user","content":"hi"}],' % CLAUDE.encode()
    thinking = b'"thinking":{"type":"enabled","budget_tokens":2000,"budget_tokens":3000}}'
    caller = await desk.call(workspace, body + thinking, path="/v1/messages")

    assert caller.status == 400, caller.body
    await desk.check()


async def test_without_a_budget_the_limit_is_lowered_as_ever(desk: Rig) -> None:
    """The refusal above is the budget's, not the cap's."""
    workspace = await desk.workspace("a", "openrouter", "anthropic")
    await desk.cap(workspace, 800_000)
    desk.script(ANSWER)
    caller = await desk.call(workspace, CHAT)

    assert caller.status == 200, caller.body
    assert (await desk.receipt(workspace))["attempts"][0]["shrunk"] is True
    await desk.check()
