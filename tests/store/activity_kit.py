"""A workspace's past by chance: every kind of call, written through the books, with corrections and dead processes."""

import random
from dataclasses import replace
from typing import Any

from store_kit import NOV, credits_request, receipt, release, request, settle

from ownkey.domain.booking import HoldGranted
from ownkey.domain.receipts import AttemptRecord, Basis, Receipt
from ownkey.domain.routing import Funding, Route
from ownkey.domain.usage import Usage
from ownkey.store import SQLiteStore

TASKS = ("chat", "triage", None, "key_test")
PROJECTS = (None, "p1", "p2", "=cmd|p3")
MODELS = ("anthropic/claude-haiku-4.5", "openai/gpt-4.1-mini", "openai/gpt-4.1-mini-2025-04-14", "x/strange")
REFUSALS = ("ai_paused", "feature_disabled", "bad_request")
FAILURES = ("provider_unavailable", "credential_rejected")
TRACES = (None, "c1", "c2", "c3", "+c4")


def shaped(dice: random.Random, attempt: AttemptRecord, model: str, direct: bool) -> AttemptRecord:
    """An attempt on one of the ways there are."""
    owner = model.partition("/")[0]
    provider = owner if direct and owner in ("anthropic", "openai") else "openrouter"
    route = attempt.route if attempt.route is Route.CREDITS else \
        Route.OPENROUTER if provider == "openrouter" else Route.DIRECT
    return replace(
        attempt, provider=provider, model=model, route=route, credential_id=f"cred_{provider}",
        usage=Usage(input=dice.randrange(900), output=dice.randrange(900), cache_read=dice.randrange(90)),
    )


async def live_a_call(store: SQLiteStore, workspace_id: str, dice: random.Random, at_ms: int) -> Receipt:
    """One call, refused, failed, rescued, answered, hung up, paid with credits, or of unknown cost."""
    model, luck = dice.choice(MODELS), dice.random()
    common: dict[str, Any] = {
        "at_ms": at_ms, "task": dice.choice(TASKS), "project": dice.choice(PROJECTS),
        "conversation": dice.choice(TRACES), "requested_model": model, "served_model": model,
        "hung_up": dice.random() < 0.05,
    }
    if luck < 0.15:
        refused = receipt(request(workspace_id, 5, at_ms=at_ms), funding=None, provider=None,
                          **common | {"code": dice.choice(REFUSALS), "served_model": None, "hung_up": False})
        return await store.end_call(None, refused)
    by_credits = luck > 0.85
    first = (credits_request if by_credits else request)(workspace_id, 50_000_000, at_ms=at_ms)
    granted = await store.hold(first)
    if not isinstance(granted, HoldGranted):
        return await store.end_call(None, receipt(first, **common | {"code": "insufficient_credits", "provider": None}))
    cost = dice.randrange(40_000_000)
    code = dice.choice(FAILURES) if luck < 0.25 else None
    if 0.25 < luck < 0.45:
        return await _rescued(store, first, model, cost, dice, common)
    end = settle(first, None, basis=Basis.UNKNOWN) if 0.45 < luck < 0.5 and not by_credits else settle(first, cost)
    if code is not None and dice.random() < 0.5:
        end = release(first)
    whole = receipt(first, (first, end), funding=Funding.CREDITS if by_credits else Funding.BYOK, code=code, **common)
    attempt = whole.attempts[0]
    if by_credits:
        attempt = replace(attempt, route=Route.CREDITS)
    attempt = shaped(dice, attempt, model, not by_credits)
    if code is not None:
        attempt = replace(attempt, failure="overload")
    return await store.end_call(end, replace(
        whole, attempts=(attempt,), provider=attempt.provider, usage=attempt.usage, route=attempt.route
    ))


async def _rescued(
    store: SQLiteStore, first: Any, model: str, cost: int, dice: random.Random, common: dict[str, Any]
) -> Receipt:
    lost = settle(first, cost // 3, basis=Basis.ESTIMATED) if dice.random() < 0.5 else release(first)
    await store.end_attempt(lost)
    second = replace(first, hold_id=first.hold_id + "b", attempt=2, context="")
    assert isinstance(await store.hold(second), HoldGranted)
    end = settle(second, cost)
    whole = receipt(first, (first, lost), (second, end), **common)
    attempts = (
        replace(shaped(dice, whole.attempts[0], model, True), failure="rate_limit"),
        replace(shaped(dice, whole.attempts[1], model, False)),
    )
    return await store.end_call(end, replace(whole, attempts=attempts, provider="openrouter"))


async def live(store: SQLiteStore, workspace_id: str, calls: int, seed: int, days: int = 70) -> list[Receipt]:
    """Many calls over some weeks, in no strict order of time; some costs are corrected afterwards."""
    dice = random.Random(seed)
    made = []
    for _ in range(calls):
        at_ms = NOV + dice.randrange(days) * 86_400_000 + dice.randrange(86_400_000)
        made.append(await live_a_call(store, workspace_id, dice, at_ms))
        if dice.random() < 0.1 and made[-1].attempts:
            await store.correct_hold(
                workspace_id, made[-1].attempts[-1].hold_id, dice.randrange(30_000_000), delivered_cost_nusd=0,
                origin="operator", at_ms=at_ms + 5,
            )
    return made
