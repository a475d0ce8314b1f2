"""Caps, task switches, credits, prices, receipts and the payer in force."""

from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import product as every
from pathlib import Path

import pytest
from tests.control.house import ACTOR, KEYS, House, open_house

from ownkey.control.caps import parse_cap
from ownkey.control.prices import Override
from ownkey.control.problems import Problem
from ownkey.control.receipts import Scope
from ownkey.control.status import describe_status
from ownkey.domain.booking import MoneyView
from ownkey.domain.pricing import OPERATOR
from ownkey.domain.records import ReceiptFilter
from ownkey.domain.workspace import EntitlementState


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(("text", "nusd"), [
    (None, None), ("", None), ("  ", None), ("0", 0), ("50", 50 * 10**9), ("US$50.00", 50 * 10**9),
    ("$1,000.50", 1_000_500_000_000), ("0.000000001", 1),
])
def test_a_cap_is_read_as_people_type_it(text: str | None, nusd: int | None) -> None:
    """T21: blank is no cap, 0 is no AI."""
    assert parse_cap(text) == nusd


@pytest.mark.parametrize("text", ["abc", "-5", "1e9", "nan", "inf", "5,5", "١٢", "50 USD", "0x10", "1_000", "9" * 40])
def test_what_is_no_amount_is_told(text: str) -> None:
    """Every clumsy amount gets its sentence and fix."""
    with pytest.raises(Problem) as caught:
        parse_cap(text)

    assert caught.value.param == "cap_usd"
    assert caught.value.fix


async def test_a_cap_counts_at_once(house: House) -> None:
    """T25: 0 pauses now, raising resumes now; the threshold is kept when not named."""
    workspace = await house.workspace()
    first = await house.desk.caps.save(workspace, "50", 90, ACTOR)
    none = await house.desk.caps.save(workspace, "0", None, ACTOR)
    again = await house.desk.caps.save(workspace, "50", None, ACTOR)

    assert (first.state, none.state, again.state) == ("active", "paused", "active")
    assert again.threshold == 90
    with pytest.raises(Problem):
        await house.desk.caps.save(workspace, "50", 101, ACTOR)


async def test_task_switches(house: House) -> None:
    """T24: defaults, switching, and the task's own knob with its limits."""
    workspace = await house.workspace()
    desk = house.desk.features
    knob = next(iter(house.product.tasks["auto_reply"].settings))
    saved = await desk.save(workspace, "auto_reply", True, {knob: 70}, ACTOR)
    view = {v.task.name: v for v in desk.list(await house.again(workspace))}["auto_reply"]

    assert saved.on
    assert (view.on, view.settings[knob]) == (True, 70)
    for task, settings in (("auto_repli", {}), ("auto_reply", {"no_such": 1}), ("auto_reply", {knob: 101})):
        with pytest.raises(Problem) as caught:
            await desk.save(workspace, task, True, settings, ACTOR)
        assert caught.value.fix


async def test_credits_exist_only_where_the_product_has_them(house: House, tmp_path: Path) -> None:
    """T2: support-desk has none; app-builder grants once a key."""
    with pytest.raises(Problem, match="has no credits"):
        await house.desk.credits.grant(await house.workspace(), 5, "operator", None, None, ACTOR)
    (tmp_path / "b").mkdir()
    async with open_house(tmp_path / "b", "app-builder") as builder:
        workspace = await builder.workspace()
        before = (await builder.desk.credits.show(workspace)).balance_credits
        for _ in range(3):
            await builder.desk.credits.grant(workspace, 5, "topup", None, "order-7", ACTOR)

        assert (await builder.desk.credits.show(workspace)).balance_credits == before + 5
        with pytest.raises(Problem):
            await builder.desk.credits.grant(workspace, 0, "topup", None, None, ACTOR)
        assert not (await builder.desk.verify.run()).findings


async def test_a_price_override_is_a_new_version(house: House) -> None:
    """Money, section 2: all or nothing, and the author is named."""
    before = house.desk.prices.current()
    book = await house.desk.prices.override(
        [Override("openai", "gpt-4.1-mini", {"input": "0.40", "output": "1.60"})], ACTOR
    )
    price = book.find("openai", "gpt-4.1-mini")

    assert book.version > before.version
    assert price is not None
    assert (price.dearest("input"), price.source) == (400_000_000, OPERATOR)
    for wrong in (
        Override("opnai", "m", {"input": "1"}), Override("openai", "m", {"inpt": "1"}),
        Override("openai", "m", {"input": "x"}), Override("openai", "m", {}), Override("openai", "m", {"input": "0"}),
    ):
        with pytest.raises(Problem):
            await house.desk.prices.override([wrong], ACTOR)
    assert house.desk.prices.current().version == book.version


async def test_receipts_say_why_and_sum_up(house: House) -> None:
    """X2, T29: one receipt, its sentence, its conversation's meter and its share of the month."""
    workspace = await house.with_key()
    result = await house.desk.key_test.run(
        workspace, "openrouter", None, address="a", actor=ACTOR, token_id="tok_test"
    )
    assert result.receipt is not None
    page = await house.desk.receipts.list(workspace, ReceiptFilter(limit=1))
    spend = await house.desk.receipts.spend(workspace, "task", None)

    assert [r["id"] for r in page.receipts] == [result.receipt]
    assert "made 2 small calls" in await house.desk.receipts.why(workspace, result.receipt)
    assert sum(row["cost_nusd"] for row in spend.rows) == result.cost_nusd
    assert (await house.desk.receipts.meter(workspace, "none")).calls == 0
    for by, month in (("tsk", None), ("task", "2026-13"), ("task", "now")):
        with pytest.raises(Problem):
            await house.desk.receipts.spend(workspace, by, month)


async def test_pages_follow_each_other_without_gaps(house: House) -> None:
    """Keyset paging: every receipt once, newest first."""
    workspace = await house.with_key()
    made = []
    for _ in range(5):
        house.clock.pass_s(61)
        result = await house.desk.key_test.run(
            workspace, "openrouter", None, address="a", actor=ACTOR, token_id="t"
        )
        made.append(result.receipt)
    seen, before = [], None
    while True:
        page = await house.desk.receipts.list(workspace, ReceiptFilter(before=before, limit=2))
        seen += [r["id"] for r in page.receipts]
        before = page.next_before
        if before is None:
            break

    assert seen == made[::-1]


async def test_a_limited_token_sees_its_own_tasks_only(house: House) -> None:
    """A token for one task reads no other task's receipts."""
    workspace = await house.with_key()
    result = await house.desk.key_test.run(workspace, "openrouter", None, address="a", actor=ACTOR, token_id="t")
    assert result.receipt is not None
    scope = Scope(tasks=frozenset({"draft_reply"}))

    assert not (await house.desk.receipts.list(workspace, ReceiptFilter(), scope)).receipts
    with pytest.raises(Problem):
        await house.desk.receipts.one(workspace, result.receipt, scope)
    with pytest.raises(Problem):
        await house.desk.receipts.spend(workspace, "task", None, scope)


async def test_the_payer_sentence_is_true_in_every_state(tmp_path: Path) -> None:
    """Portal 4.1 on real decisions: the sentence names a payer exactly where the decision has one."""
    async with open_house(tmp_path, "app-builder") as house:
        with_key = await house.with_key()
        bare = await house.workspace("Bare")
        for workspace, always, fails, entitlement, balance in every(
            (with_key, bare), (True, False), (True, False), EntitlementState, (0, 1_000)
        ):
            state = replace(workspace, always_use_key=always, credits_if_key_fails=fails, entitlement=entitlement,
                            credits_if_key_fails_limit=500)
            found = describe_status(
                house.product, state, MoneyView(False, False, balance, 0, 0, None), platform_key=True,
                now_ms=house.clock.at_ms,
            )

            if found.payer == "credits":
                assert found.sentence.endswith("credits pay for every AI call.")
            elif found.payer == "your_key":
                assert found.sentence.startswith("Your key")
            else:
                assert found.refusal is not None
                assert found.headline in ("AI off", "AI paused")
                assert "pays" not in found.sentence.split(":")[0]
            if always:
                assert found.payer != "credits"


async def test_the_status_tells_the_one_fix(house: House) -> None:
    """T2: no key, AI is off, and the fix is the key's page."""
    off = await house.desk.status.show(await house.workspace())
    workspace = await house.with_key(name="Other")
    await house.desk.caps.save(workspace, "0", None, ACTOR)
    paused = await house.desk.status.show(workspace)

    assert (off.headline, off.payer) == ("AI off", "nobody")
    assert off.sentence == "AI features are off until an OpenRouter API key is saved."
    assert off.refusal is not None
    assert off.refusal.flow == "credential:openrouter"
    assert (paused.headline, paused.row) == ("AI paused", "F7")
    assert KEYS["openrouter"] not in repr(paused)


@pytest.mark.parametrize("name", [
    "anthropic/claude-haiku-4.5", "claude-haiku-4-5", "claude-haiku-4-5-20251001", "Anthropic/Claude-Haiku-4.5",
    "anthropic/claude-haiku-4.5-20251001",
])
async def test_receipts_are_found_by_any_name_of_a_model(house: House, name: str) -> None:
    """Slug, native id, dated id: what people copy from anywhere finds the call."""
    workspace = await house.with_key()
    result = await house.desk.key_test.run(
        workspace, "openrouter", None, address="a", actor=ACTOR, token_id="tok_test"
    )
    found = await house.desk.receipts.list(workspace, ReceiptFilter(model=name))
    other = await house.desk.receipts.list(workspace, ReceiptFilter(model="openai/gpt-4.1-nano"))

    assert [receipt["id"] for receipt in found.receipts] == [result.receipt]
    assert not other.receipts


async def test_an_override_keeps_what_it_does_not_name(house: House) -> None:
    """Only the named dimensions change; `free` leaves none."""
    desk, key = house.desk.prices, ("openrouter", "made/up")
    await desk.override([Override(*key, {"input": "1", "output": "4", "cache_read": "0.1"})], ACTOR)
    changed = await desk.override([Override(*key, {"input": "2"})], ACTOR)
    free = await desk.override([Override(*key, {}, free=True)], ACTOR)

    assert {name: tiers[0].nusd_per_million for name, tiers in changed.prices[key].rates.items()} == {
        "input": 2 * 10**9, "output": 4 * 10**9, "cache_read": 10**8
    }
    assert not free.prices[key].rates


async def test_the_assumptions_are_printed_in_whole_sentences(house: House) -> None:
    """They stand beside every verdict, and promise nothing that this version has not."""
    verdict = await house.desk.verify.run()

    assert len(verdict.assumptions) == 7
    assert all(text.endswith(".") and len(text) > 30 for text in verdict.assumptions)
    assert "PostgreSQL" not in " ".join(verdict.assumptions)
