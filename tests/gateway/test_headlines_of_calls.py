"""The headlines of real calls: what the gateway's own receipts say in a breath, case by case of the contract."""

import re

from tests.gateway.gateway_kit import (
    CHAT,
    MINI,
    NOV,
    STALL,
    Exchange,
    Rig,
    broken,
    delta,
    refusal,
    sse,
    whole_answer,
)
from tests.gateway.test_routes_and_keys import customer
from tests.store.store_kit import ACTOR, finish, request, settle, take

from ownkey.control.receipts import ReceiptControl
from ownkey.domain.records import ReceiptFilter

STREAM = {**CHAT, "stream": True}
DIRECT = {**CHAT, "model": MINI}
COST = r"US\$0\.\d{4,9}"


async def headline(rig: Rig, workspace: str, *, figures: bool = True, code: str | None = None) -> str:
    """Of the newest call, or of the newest with this code."""
    state = await rig.store.load_workspace(workspace)
    assert state is not None
    found = await rig.store.load_receipts(workspace, ReceiptFilter(code=code))
    return await ReceiptControl(rig.store, rig.clock, rig.product).headline(state, found[0], figures=figures)


def check(said: str, pattern: str) -> None:
    assert re.fullmatch(pattern, said), said


async def test_a_direct_key_that_answers_and_one_that_is_rescued(desk: Rig) -> None:
    """X2, T14, T15: who paid how much; and who failed before, so that another key answered."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    desk.script(whole_answer())
    await desk.call(workspace, DIRECT)
    check(await headline(desk, workspace), rf"Your OpenAI key \(…abcd\) paid {COST}\. One attempt\.")

    desk.script(refusal(429), whole_answer())
    await desk.call(workspace, DIRECT)
    check(await headline(desk, workspace), r"OpenAI answered 429 \(rate limit\), so your OpenRouter key answered and "
          rf"paid {COST}\.")


async def test_all_failed_cut_and_hung_up(desk: Rig) -> None:
    """X4: nobody answered; the answer broke off; the caller left. Each says what it cost."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    desk.script(broken(sent=False, received=False), refusal(503), refusal(503))
    await desk.call(workspace, DIRECT)
    check(await headline(desk, workspace), r"Nobody answered: OpenAI was unreachable, then OpenRouter answered 503\.")

    other = await desk.workspace("b", "openrouter")
    desk.script(Exchange([*sse(delta("one")), STALL]))
    await desk.call(other, STREAM)
    check(await headline(desk, other),
          rf"The answer was cut after it began, so it was not restarted; {COST} was spent\.")

    third = await desk.workspace("c", "openrouter")
    desk.script(Exchange([*sse(delta("one")), STALL]))
    task, caller = desk.begin(third, STREAM)
    await caller.started.wait()
    caller.hang_up()
    await task
    check(await headline(desk, third), r"The caller hung up while OpenRouter was answering; your OpenRouter key "
          rf"\(…abcd\) paid {COST} \(estimated\)\.")


async def test_the_cap_names_its_amount_its_day_and_its_end(desk: Rig) -> None:
    """T22, T25: and to a member none of its amount."""
    workspace = await desk.workspace("a", "openrouter")
    await desk.cap(workspace, 50 * 10**9)
    asked = request(workspace, 50 * 10**9, at_ms=NOV - 60_000, call_id="call_before")
    await take(desk.store, asked)
    await finish(desk.store, asked, settle(asked, 50 * 10**9, at_ms=NOV))
    await desk.call(workspace)

    assert await headline(desk, workspace, code="ai_paused") == (
        "Nobody paid: the US$50.00 cap was reached on 17 Nov. AI resumes 1 Dec 00:00 UTC or when the cap is raised."
    )
    assert await headline(desk, workspace, figures=False, code="ai_paused") == (
        "Nobody paid: the spend cap was reached on 17 Nov. AI resumes 1 Dec 00:00 UTC or when the cap is raised."
    )


async def test_busy_and_too_low_are_no_pause(desk: Rig) -> None:
    """Only other calls stand in the way, or this one is too large: nothing is reached."""
    workspace = await desk.workspace("a", "openrouter")
    await desk.cap(workspace, 10**9)
    await take(desk.store, request(workspace, 10**9, at_ms=desk.clock.now_ms()))
    await desk.call(workspace)

    assert await headline(desk, workspace) == (
        "Nobody paid: other calls in flight held what was left under the US$1.00 cap. No provider was called."
    )


async def test_a_missing_key_is_the_reason(desk: Rig) -> None:
    """T2: nothing is saved."""
    bare = await desk.workspace("a")
    await desk.call(bare)
    assert await headline(desk, bare) == (
        "Nobody paid: an OpenRouter key is required and none is saved. No provider was called."
    )


async def test_always_with_a_disabled_key_is_the_reason(builder: Rig) -> None:
    """G17 to G19: nobody pays, and credits least of all."""
    always = await customer(builder, always_use_key=True)
    await builder.store.set_credential_status(always, "openrouter", "disabled", at_ms=NOV, actor=ACTOR)
    await builder.call(always)
    assert await headline(builder, always) == (
        "Nobody paid: Always use this key is on and the key is disabled. No provider was called."
    )


async def test_credits_that_step_in(builder: Rig) -> None:
    """F10 in the call that found the key without money, and in the next, which leaves it out."""
    workspace = await customer(builder)
    builder.script(refusal(402), whole_answer())
    await builder.call(workspace)
    check(await headline(builder, workspace), r"Your OpenRouter key failed \(402, no money\)\. (\d+ credits?|The rest "
          r'of an earlier credit) paid because "Use credits if my key fails" is on\.')
    builder.script(whole_answer())
    await builder.call(workspace)
    check(await headline(builder, workspace), r"Your OpenRouter key was left out: it is marked no_funds \(.+\)\. .+ "
          r'paid because "Use credits if my key fails" is on\.')
    assert not re.search(r"\d+ credit", await headline(builder, workspace, figures=False))


async def test_a_process_that_died_leaves_a_headline(desk: Rig) -> None:
    """Its hold expires, and the receipt says that nobody reported."""
    workspace = await desk.workspace("a", "openrouter")
    asked = request(workspace, 10_000_000, at_ms=NOV, expires_at_ms=NOV + 1)
    await take(desk.store, asked)
    await desk.store.expire_holds(NOV + 60_000)

    assert await headline(desk, workspace) == "The call ended without a report; US$0.0100 is booked as estimated."


async def test_a_task_that_is_off_is_named(desk: Rig) -> None:
    """T24: the switch is the reason."""
    workspace = await desk.workspace("a", "openrouter", features={"auto_triage": False})
    await desk.call(workspace, {**CHAT, "model": "task:auto_triage"})

    assert await headline(desk, workspace) == (
        f'Nobody paid: the task "{desk.product.tasks["auto_triage"].title}" is switched off. No provider was called.'
    )
