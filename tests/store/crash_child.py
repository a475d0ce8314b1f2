"""Makes calls until it is killed, and tells its parent what was acknowledged: `h` a hold, `e` an end, one a line."""

import asyncio
import os
import random
import sys
from pathlib import Path

from store_kit import ACTOR, NOV, add_workspace, credits_request, finish, open_store, receipt, release, request, settle

from ownkey.domain.booking import HoldGranted


def tell(text: str) -> None:
    os.write(1, f"{text}\n".encode())


async def main(path: Path, seed: int) -> None:
    dice = random.Random(seed)
    store = open_store(path, boot_id=f"child-{seed}")
    ws = await store.load_workspace("ws_acme")
    if ws is None:
        ws = await add_workspace(store)
        await store.save_cap(ws.id, 10**9, 80, at_ms=NOV, actor=ACTOR)
    await store.grant_credits(ws.id, 10_000, "topup", expires_at_ms=None, idem_key="g", at_ms=NOV, actor=ACTOR)
    tell("ready")

    async def caller(name: str) -> None:
        n = 0
        while True:
            n += 1
            ident = f"{seed}-{name}-{n}"
            make = credits_request if dice.random() < 0.3 else request
            req = make(ws.id, 1_000, hold_id=f"hold_{ident}", call_id=f"call_{ident}")
            if not isinstance(await store.hold(req), HoldGranted):
                return
            tell(f"h {req.hold_id}")
            await asyncio.sleep(dice.random() / 300)
            end = settle(req, dice.randrange(1_000)) if dice.random() < 0.8 else release(req)
            if dice.random() < 0.2:
                await store.end_attempt(end)
                await store.end_call(None, receipt(req, (req, end)))
            else:
                await finish(store, req, end)
            tell(f"e {req.hold_id}")

    await asyncio.gather(*[caller(str(n)) for n in range(8)])


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
