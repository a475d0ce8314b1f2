"""Long gathered answers, comments and heads: what a stream costs us, and that it is said once."""

import asyncio
import time
from typing import Any

from tests.gateway.gateway_kit import CHAT, FINISH, Exchange, Rig, broken, delta, sse, usage, whole_answer
from tests.gateway.test_routes_and_keys import grant

STREAMED = {**CHAT, "stream": True}
WHOLE = ((b"x-ownkey-stream", b"whole"),)


async def test_gathering_takes_time_in_proportion_to_the_answer(desk: Rig) -> None:
    """X4: four times the answer takes about four times the work, not sixteen: others wait while it is done."""
    workspace = await desk.workspace("a", "openrouter")
    took: dict[int, list[float]] = {10_000: [], 40_000: []}
    # The least of several is this process's own work, whatever else the machine does in between.
    for pieces in (*took, *took, *took):
        chunks = [*sse(delta("x", padding="y" * 200))] * pieces
        desk.script(Exchange([*chunks, *sse(FINISH, usage(), b"[DONE]")]))
        began = time.process_time()
        caller = await desk.call(workspace, STREAMED, headers=WHOLE)
        took[pieces].append(time.process_time() - began)
        assert (caller.status, len(caller.body) > pieces * 200) == (200, True)

    assert min(took[40_000]) < 8 * min(took[10_000])
    await desk.check()


async def test_a_hang_up_during_the_second_hold_closes_the_first_attempts_row(builder: Rig) -> None:
    """X2: the receipt is the call's last word; nothing of the first attempt waits for recovery, and what the platform
    bore for it stands on the receipt."""
    await builder.workspace("platform", "openrouter", kind="platform")
    workspace = await builder.workspace("a")
    await grant(builder, workspace, 1_000)
    builder.script(broken(), whole_answer())
    hold, holds = builder.store.hold, []

    async def second_is_left(request: Any) -> Any:
        answer = await hold(request)
        holds.append(request)
        if len(holds) == 2:
            caller.hang_up()
            await asyncio.sleep(0.05)
        return answer

    builder.store.hold = second_is_left  # type: ignore[method-assign]
    task, caller = builder.begin(workspace)
    await task

    receipt = await builder.receipt(workspace)
    assert len(holds) == 2
    assert [attempt["route"] for attempt in receipt["attempts"]] == ["credits"]
    assert int(receipt["absorbed_nusd"]) == int(receipt["cost_nusd"]) > 0
    await builder.check()
