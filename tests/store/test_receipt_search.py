"""Activity's pages: what is found is what a look at every receipt would find, in the same order, from any place on."""

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from activity_kit import MODELS, PROJECTS, REFUSALS, TASKS, TRACES, live, live_a_call
from store_kit import ACTOR, NOV, Clock, add_workspace, open_store

from ownkey.domain.activity import model_slug, outcome_of
from ownkey.domain.receipts import Receipt
from ownkey.domain.records import ReceiptFilter
from ownkey.store import SQLiteStore, receipt_search

WS, OTHER = "ws_acme", "ws_other"
CALLS = 300


@pytest.fixture
async def lived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SQLiteStore]:
    """A past of a few hundred calls; walks so short that every way of searching is taken."""
    monkeypatch.setattr(receipt_search, "WALKS", (3, 9))
    store = open_store(tmp_path / "ownkey.db", Clock())
    for name in ("acme", "other"):
        await add_workspace(store, name)
        await store.grant_credits(f"ws_{name}", 200, "topup", expires_at_ms=None, idem_key=name, at_ms=NOV, actor=ACTOR)
    await live(store, WS, CALLS, 1)
    await live(store, OTHER, 40, 2)
    yield store
    await store.close()


async def everything(store: SQLiteStore) -> list[Receipt]:
    """Newest first, read without any filter."""
    rows = await store.load_receipts(WS, ReceiptFilter(limit=1_000))
    return [msgspec.convert(row, Receipt, strict=False) for row in rows]


def matches(r: Receipt, q: ReceiptFilter) -> bool:
    """The filter as its description says it."""
    slugs = {model_slug(name) for name in (r.requested_model, r.served_model or "", *(a.model for a in r.attempts))}
    return all((
        q.task is None or (r.task or "") == q.task, q.project is None or (r.project or "") == q.project,
        q.provider is None or (r.provider or "") == q.provider, q.funding is None or (r.funding or "") == q.funding,
        q.code is None or (r.code or "") == q.code, q.refused is None or (r.code is not None) is q.refused,
        q.outcome is None or outcome_of(r) == q.outcome, q.model is None or model_slug(q.model) in slugs,
        q.credential is None or q.credential in {a.credential_id for a in r.attempts},
        q.conversation is None or r.conversation == q.conversation,
        q.since_ms is None or r.at_ms >= q.since_ms, q.until_ms is None or r.at_ms < q.until_ms,
    ))


def random_filter(dice: random.Random) -> ReceiptFilter:
    choices: dict[str, tuple[Any, ...]] = {
        "task": TASKS, "project": PROJECTS, "provider": ("openrouter", "anthropic", ""), "model": MODELS,
        "funding": ("byok", "credits", ""), "outcome": ("ok", "refused", "failed", "cancelled"), "code": REFUSALS,
        "refused": (True, False), "credential": ("cred_openai", "cred_openrouter", "cred_nobody"),
        "conversation": (*TRACES, "never"), "since_ms": (NOV + 20 * 86_400_000,), "until_ms": (NOV + 40 * 86_400_000,),
    }
    names = dice.sample(sorted(choices), dice.choice((0, 1, 1, 2, 2, 3)))
    return ReceiptFilter(**{name: dice.choice(choices[name]) for name in names})


async def test_every_filter_finds_what_matches_page_by_page(lived: SQLiteStore) -> None:
    """200 filters by chance, single ones and combinations: all pages together are all that match, newest first."""
    past, dice = await everything(lived), random.Random(5)
    assert len(past) == CALLS
    for _ in range(200):
        query, limit = random_filter(dice), dice.choice((1, 7, 20))
        expected = [r.id for r in past if matches(r, query)]
        found: list[str] = []
        before = None
        while True:
            page = await lived.load_receipts(WS, replace(query, before=before, limit=limit))
            found += [row["id"] for row in page]
            if len(page) < limit:
                break
            before = found[-1]

        assert found == expected, query


async def test_conversations_are_one_line_each(lived: SQLiteStore) -> None:
    """For any filter: those with a call that matches, the latest such call first, each with the sums of those calls;
    paged without a gap or a repetition."""
    past, dice = await everything(lived), random.Random(6)
    for _ in range(60):
        query = replace(random_filter(dice), limit=2)
        expected: dict[str, list[Receipt]] = {}
        for r in past:
            if r.conversation and matches(r, query):
                expected.setdefault(r.conversation, []).append(r)
        found = []
        cursor: str | None = None
        while True:
            lines, cursor = await lived.load_traces(WS, query, cursor)
            found += lines
            if cursor is None:
                break

        assert [line.conversation for line in found] == list(expected), query
        for line in found:
            calls = expected[line.conversation]
            assert line.calls == len(calls)
            assert line.cost_nusd >= sum(r.cost_nusd or 0 for r in calls)
            assert line.charge_credits == sum(r.charge_credits for r in calls)
            assert (line.last_at_ms, line.first_at_ms) == (calls[0].at_ms, calls[-1].at_ms)


async def test_what_has_come_since_is_counted(lived: SQLiteStore) -> None:
    """"12 new": the calls that match and were written after the page was read, whenever they began."""
    mark = await lived.load_last_written(WS)
    assert mark is not None
    base = ReceiptFilter()
    written = [r["id"] for r in await lived.load_receipts(WS, ReceiptFilter(limit=1_000))]
    assert mark in written
    assert await lived.count_since(WS, base, mark, most=99) == 0
    latest = max(r.at_ms for r in await everything(lived))
    new = []
    for n in range(12):
        new.append(await live_a_call(lived, WS, random.Random(n), latest + n - 3_000))
    for query in (base, ReceiptFilter(outcome="ok"), ReceiptFilter(task="chat"), ReceiptFilter(conversation="c1")):
        expected = sum(matches(r, query) for r in new)

        assert await lived.count_since(WS, query, mark, most=99) == expected
    assert await lived.count_since(WS, base, mark, most=5) == 5
    assert await lived.count_since(WS, base, "rcpt_nobody", most=5) == 0
    assert await lived.count_since(WS, base, "", most=999) == sum(matches(r, base) for r in await everything(lived))


async def test_a_receipt_is_found_by_its_id_in_its_own_workspace(lived: SQLiteStore) -> None:
    """T27: another workspace's receipt, cursor or conversation is nothing here."""
    (theirs,) = await lived.load_receipts(OTHER, ReceiptFilter(limit=1))
    (ours,) = await lived.load_receipts(WS, ReceiptFilter(limit=1))

    assert await lived.load_receipts(WS, ReceiptFilter(receipt=ours["id"])) == [ours]
    assert await lived.load_receipts(WS, ReceiptFilter(receipt=theirs["id"])) == []
    assert await lived.load_receipts(WS, ReceiptFilter(before=theirs["id"])) == []
    assert await lived.count_since(WS, ReceiptFilter(), theirs["id"], most=9) == 0


async def test_a_months_dearest_conversations_and_meters(lived: SQLiteStore) -> None:
    """T25, T29: by cost, known at once; a meter counts all that its conversation has ever cost."""
    past = [r for r in await everything(lived) if r.conversation == "c1"]
    costly = await lived.load_costly_traces(WS, "2026-12", limit=3)
    meter = await lived.load_meter(WS, "c1", frozenset(), frozenset())
    chat = await lived.load_meter(WS, "c1", frozenset({"chat"}), frozenset())
    nothing = await lived.load_meter(WS, "never", frozenset(), frozenset())

    assert len(costly) == 3
    assert [line.cost_nusd for line in costly] == sorted((line.cost_nusd for line in costly), reverse=True)
    assert (meter.calls, meter.charge_credits) == (len(past), sum(r.charge_credits for r in past))
    assert meter.cost_nusd == sum(r.cost_nusd or 0 for r in past)
    assert (meter.last_at_ms, meter.first_at_ms) == (past[0].at_ms, past[-1].at_ms)
    assert chat.calls == sum(r.task == "chat" for r in past)
    assert (nothing.calls, nothing.last_at_ms) == (0, None)


async def test_last_calls_and_choices(lived: SQLiteStore) -> None:
    """What there is to filter by, and when each was called last."""
    past = await everything(lived)
    last = await lived.load_last_calls(WS, "task")
    choices = await lived.load_choices(WS)

    assert last == {
        name: max(r.at_ms for r in past if (r.task or "") == name) for name in {r.task or "" for r in past}
    }
    assert choices.tasks == tuple(sorted({r.task for r in past if r.task}))
    assert choices.projects == tuple(sorted({r.project for r in past if r.project}))
    assert set(choices.models) == {model_slug(model) for model in MODELS}
    assert "cred_openrouter" in choices.credentials


async def test_hours_add_up_to_the_calls(lived: SQLiteStore) -> None:
    """The histogram of a day, and of a conversation, count each call once."""
    past = await everything(lived)
    day = ReceiptFilter(since_day="2026-12-01", until_day="2026-12-01")
    hours = await lived.load_hours(WS, day)
    trace = await lived.load_hours(WS, ReceiptFilter(conversation="c2"))

    assert sum(calls for *_, calls in hours) == len(await lived.load_receipts(WS, replace(day, limit=1_000)))
    assert sum(calls for *_, calls in trace) == sum(r.conversation == "c2" for r in past)
