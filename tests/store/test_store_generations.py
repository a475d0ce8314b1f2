"""What OpenRouter's clients ask the books: an answer by its id, and what calls came to since when."""

from dataclasses import replace
from typing import Any

import pytest
from store_kit import DAY, NOV, add_workspace, receipt, release, request, settle, take

from ownkey.domain.records import UsageSince, UsageSums
from ownkey.domain.routing import Route
from ownkey.store import SQLiteStore

NONE: frozenset[str] = frozenset()
# NOV is a Tuesday's midnight: its day, its Monday, its month.
SINCE = UsageSince(NOV, NOV - DAY, NOV - 16 * DAY)


async def call(
    store: SQLiteStore, workspace_id: str, cost: int | None, *, response_id: str | None = None,
    request_id: str | None = None, refused: bool = False, **changes: Any,
) -> str:
    """One finished call of an unpriced model (so that its cost is free to choose); returns the receipt's id."""
    req = request(workspace_id, None, **({"at_ms": changes["at_ms"]} if "at_ms" in changes else {}))
    await take(store, req)
    end = release(req) if refused else settle(req, cost)
    made = receipt(req, (req, end), **({"code": "provider_unavailable"} if refused else {}), **changes)
    made = replace(made, attempts=(replace(made.attempts[0], response_id=response_id, request_id=request_id),))
    await store.end_call(end, made)
    return made.id


async def test_an_answer_is_found_by_its_id_or_its_receipt(store: SQLiteStore) -> None:
    """The id inside the answer first, else the provider's name for the exchange; a failure carried none."""
    ws = await add_workspace(store)
    by_body = await call(store, ws.id, 5, response_id="chatcmpl-1", request_id="req_1")
    by_head = await call(store, ws.id, 5, request_id="req_2")
    failed = await call(store, ws.id, None, response_id="gen-3", refused=True)

    async def found(ident: str) -> str | None:
        doc = await store.load_generation(ws.id, ident)
        return None if doc is None else doc["id"]

    assert [await found(i) for i in ("chatcmpl-1", by_body, "req_2", by_head, failed)] == [
        by_body, by_body, by_head, by_head, failed]
    assert [await found(i) for i in ("req_1", "gen-3", "", "nothing")] == [None] * 4


async def test_another_workspaces_answer_is_not_there(store: SQLiteStore) -> None:
    """Also where both got the same id from a provider: each finds its own."""
    ws, other = await add_workspace(store), await add_workspace(store, "other")
    mine = await call(store, ws.id, 5, response_id="same")
    theirs = await call(store, other.id, 7, response_id="same")

    assert (await store.load_generation(ws.id, "same") or {})["id"] == mine
    assert (await store.load_generation(other.id, "same") or {})["id"] == theirs
    assert await store.load_generation(ws.id, theirs) is None


async def test_sums_by_carrier_and_time(store: SQLiteStore) -> None:
    """Each moment in every window that it belongs to, edges included; unknown costs are no guess."""
    ws, other = await add_workspace(store), await add_workspace(store, "other")
    for at_ms, cost in ((NOV - 17 * DAY, 1), (NOV - 16 * DAY, 10), (NOV - DAY - 1, 100), (NOV - DAY, 1_000),
                        (NOV - 1, 10_000), (NOV, 100_000), (NOV + DAY - 1, 1_000_000)):
        await call(store, ws.id, cost, at_ms=at_ms)
    await call(store, ws.id, 7, provider="anthropic", route=Route.DIRECT)
    await call(store, ws.id, None, provider="anthropic", route=Route.DIRECT)
    await call(store, other.id, 9_000_000)

    assert await store.load_usage(ws.id, SINCE, tasks=NONE, projects=NONE) == {
        "openrouter": UsageSums(1_111_111, 1_100_000, 1_111_000, 1_111_110), "direct": UsageSums(7, 7, 7, 7),
    }


@pytest.mark.parametrize(("tasks", "projects", "total"), [
    (NONE, NONE, 111), (frozenset({"chat"}), NONE, 11), (frozenset({"chat", "other"}), NONE, 111),
    (NONE, frozenset({"p"}), 1), (frozenset({"other"}), frozenset({"p"}), 0), (frozenset({"' OR 1=1"}), NONE, 0),
])
async def test_a_limited_view_sums_its_part(
    store: SQLiteStore, tasks: frozenset[str], projects: frozenset[str], total: int
) -> None:
    """Tasks and projects both must be allowed."""
    ws = await add_workspace(store)
    await call(store, ws.id, 1, project="p")
    await call(store, ws.id, 10)
    await call(store, ws.id, 100, task="other")
    found = await store.load_usage(ws.id, SINCE, tasks=tasks, projects=projects)

    assert found.get("openrouter", UsageSums()).total == total
