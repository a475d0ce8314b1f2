"""Test finds one of six outcomes, stores nothing, is counted and paced, and never says more than it may."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.control.house import ACTOR, KEYS, House, chat_answer, open_house

from ownkey.control.key_test import KeyTestResult, Outcome
from ownkey.control.pace import KeyTestPace, PaceLimits
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.failures import UpstreamError
from ownkey.domain.health import Evidence, Sign
from ownkey.domain.models import native_id
from ownkey.domain.records import ReceiptFilter
from ownkey.domain.workspace import Health, WorkspaceState


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


async def run(
    house: House, workspace: WorkspaceState, typed: str | None, provider: str = "openrouter"
) -> KeyTestResult:
    return await house.desk.key_test.run(
        await house.again(workspace), provider, typed, address="192.0.2.1", actor=ACTOR, token_id="tok_test"
    )


REJECTED = (401, {"error": {"code": 401, "message": "User not found."}})
ANTHROPIC_REJECTED = (401, {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}})


async def test_a_working_key_works(house: House) -> None:
    """T10, T20: a live call, with model, latency, cost and a task-by-task answer."""
    workspace = await house.workspace()

    result = await run(house, workspace, KEYS["openrouter"])

    assert result.outcome is Outcome.WORKS
    assert result.paid_call == "answered"
    assert result.cost_nusd == 4_220
    assert {row.task for row in result.reach} == set(house.product.tasks)
    assert all(row.state == "works" for row in result.reach)
    assert result.hint.endswith(KEYS["openrouter"][-4:])


async def test_a_test_stores_nothing_but_its_receipt(house: House) -> None:
    """T10: the typed key is not saved; the cost is counted under the task key_test."""
    workspace = await house.workspace()
    result = await run(house, workspace, KEYS["openrouter"])

    receipts = await house.store.load_receipts(workspace.id, ReceiptFilter(task="key_test"))
    cap = await house.desk.caps.show(workspace)

    assert not (await house.again(workspace)).credentials
    assert [r["id"] for r in receipts] == [result.receipt]
    assert cap.spent_nusd == 4_220
    assert cap.held_nusd == 0
    assert not (await house.desk.verify.run()).findings


@pytest.mark.parametrize("provider", ["anthropic", "openai", "google"])
async def test_direct_keys_are_tested_in_the_same_way(house: House, provider: str) -> None:
    """T12, T16: the free probe carries the key in the provider's own header, never in the URL."""
    workspace = await house.workspace()
    house.upstream.script[":generateContent"] = (200, {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "ok"}]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 1, "totalTokenCount": 9}, "responseId": "r",
    })
    natives = [native_id(slug, {}) for task in house.product.tasks.values() for slug in task.models]
    listed = [found[1] for found in natives if found is not None and found[0] == provider]
    house.upstream.script["/models"] = (200, {"data": [{"id": name} for name in listed]} if provider != "google" else
                                        {"models": [{"name": f"models/{name}"} for name in listed]})

    result = await run(house, workspace, KEYS[provider], provider)

    assert result.outcome is Outcome.WORKS, result
    assert result.reach
    assert all(KEYS[provider] not in request.path for request in house.upstream.sent)
    assert all(request.credential is not None for request in house.upstream.sent)


@pytest.mark.parametrize(("key", "belongs_to"), [
    (KEYS["anthropic"], "anthropic"), (KEYS["openai"], "openai"), ("sk-ant-admin01-" + "a" * 30, None),
])
async def test_another_fields_key_is_the_wrong_kind(house: House, key: str, belongs_to: str | None) -> None:
    """Step 1 needs no request."""
    result = await run(house, await house.workspace(), key)

    assert result.outcome is Outcome.WRONG_KIND
    assert result.belongs_to == belongs_to
    assert not house.upstream.sent


async def test_a_management_key_is_the_wrong_kind(house: House) -> None:
    """OpenRouter tells it in GET /key; no model is called."""
    house.upstream.script["/key"] = (200, {"data": {"is_management_key": True}})

    result = await run(house, await house.workspace(), KEYS["openrouter"])

    assert result.outcome is Outcome.WRONG_KIND
    assert len(house.upstream.sent) == 1


async def test_a_refused_key_is_rejected(house: House) -> None:
    """Class auth in step 2 or in step 4."""
    workspace = await house.workspace()
    house.upstream.script["/key"] = REJECTED
    first = await run(house, workspace, KEYS["openrouter"])
    house.upstream.script.pop("/key")
    house.upstream.script["/chat/completions"] = house.upstream.script["/embeddings"] = REJECTED
    second = await run(house, workspace, KEYS["openrouter"])

    assert (first.outcome, second.outcome) == (Outcome.REJECTED, Outcome.REJECTED)
    assert first.receipt is None
    assert second.receipt is not None
    assert not any(row.state == "works" for result in (first, second) for row in result.reach)


@pytest.mark.parametrize("answer", [
    UpstreamError("connect refused", sent=False, received=False),
    UpstreamError("no head in 15 s", sent=True, received=False, timeout=True),
    (503, b"<html>"), (429, {"error": {"code": 429, "message": "slow down"}}),
])
async def test_an_unreachable_provider_says_nothing_about_the_key(house: House, answer: Any) -> None:
    """Outages, time-outs, overload and rate limits are no verdict."""
    house.upstream.script["/key"] = answer

    result = await run(house, await house.workspace(), KEYS["openrouter"])

    assert result.outcome is Outcome.UNREACHABLE
    assert "nothing about the key" in result.sentence


async def test_unreachable_tells_how_far_it_came(house: House) -> None:
    """A key that was accepted is told so, even where the model call did not come back."""
    house.upstream.script["/chat/completions"] = (429, {"error": {"code": 429, "message": "slow down"}})

    result = await run(house, await house.workspace(), KEYS["openrouter"])

    assert result.outcome is Outcome.UNREACHABLE
    assert result.sentence.startswith("The key is accepted, but")


@pytest.mark.parametrize("where", ["limit", "call"])
async def test_a_key_without_money_is_real(house: House, where: str) -> None:
    """A used-up limit, or class funds."""
    if where == "limit":
        house.upstream.script["/key"] = (200, {"data": {"limit": 5, "limit_remaining": 0}})
    else:
        for path in ("/chat/completions", "/embeddings"):
            house.upstream.script[path] = (402, {"error": {"code": 402, "message": "Insufficient credits"}})

    result = await run(house, await house.workspace(), KEYS["openrouter"])

    assert result.outcome is Outcome.WORKS_NO_BALANCE
    assert {row.state for row in result.reach} == {"not_tested"}, result.reach


async def test_what_answered_works_though_the_rest_lacks_money(house: House) -> None:
    """The embeddings answered and the chat model found no funds: only the tasks whose model answered work."""
    house.upstream.script["/chat/completions"] = (402, {"error": {"code": 402, "message": "Insufficient credits"}})

    result = await run(house, await house.workspace(), KEYS["openrouter"])

    assert result.outcome is Outcome.WORKS_NO_BALANCE
    assert {row.model for row in result.reach if row.state == "works"} == {"openai/text-embedding-3-small"}
    assert any(row.reason == "there is no money behind the key" for row in result.reach)


async def test_a_key_that_lacks_a_tasks_model_is_restricted(house: House) -> None:
    """T20: the matrix names the task."""
    models = {slug for task in house.product.tasks.values() for slug in task.models}
    missing = house.product.tasks["translation"].models[0]
    house.upstream.script["/models/user"] = (200, {"data": [{"id": slug} for slug in models - {missing}]})

    result = await run(house, await house.workspace(), KEYS["openrouter"])

    assert result.outcome is Outcome.RESTRICTED
    refused = [row.task for row in result.reach if row.state == "refused"]
    assert "translation" in refused
    assert "translation" in result.sentence


async def test_a_restricted_openai_key_is_not_rejected(house: House) -> None:
    """OpenAI answers 401 "Missing scopes" where a restricted key may not list models; the call decides."""
    house.upstream.script["/models"] = (401, {"error": {
        "message": "You have insufficient permissions for this operation. Missing scopes: api.model.read.",
        "type": "invalid_request_error", "param": None, "code": None,
    }})

    result = await run(house, await house.workspace(), KEYS["openai"], "openai")

    assert result.outcome in (Outcome.WORKS, Outcome.RESTRICTED), result
    assert any(row.state == "works" for row in result.reach)


async def test_while_paused_only_the_free_checks_run(house: House) -> None:
    """Money, section 5: the paid probe runs only where it fits, and the result says that it did not."""
    workspace = await house.workspace()
    await house.desk.caps.save(workspace, "0", None, ACTOR)

    result = await run(house, workspace, KEYS["openrouter"])

    assert result.outcome is Outcome.WORKS
    assert result.paid_call.startswith("skipped: ")
    assert "cap" in result.paid_call
    assert not [r for r in house.upstream.sent if r.path.startswith("/chat")]


async def test_a_paused_cap_with_room_still_admits_the_probe(house: House) -> None:
    """The probe is admitted by arithmetic alone."""
    workspace = await house.workspace()
    await house.desk.caps.save(workspace, "5", None, ACTOR)

    assert (await run(house, workspace, KEYS["openrouter"])).paid_call == "answered"


async def test_the_saved_key_is_tested_when_none_is_typed(house: House) -> None:
    """T10: and a good Test restores an unhealthy key at once."""
    workspace = await house.with_key()
    credential = workspace.credentials["openrouter"]
    await house.store.note_health(
        workspace.id, credential.id, credential.version, Evidence(Sign.REJECTED, "401", house.clock.at_ms)
    )

    result = await run(house, workspace, None)

    assert result.outcome is Outcome.WORKS
    assert (await house.again(workspace)).credentials["openrouter"].health is Health.OK


async def test_a_failed_test_marks_the_saved_key(house: House) -> None:
    """X6: calls skip a key that the provider refused in a Test."""
    workspace = await house.with_key()
    house.upstream.script["/key"] = REJECTED

    await run(house, workspace, None)

    assert (await house.again(workspace)).credentials["openrouter"].health is Health.REJECTED


async def test_a_test_without_any_key_is_told(house: House) -> None:
    """Nothing typed, nothing saved."""
    with pytest.raises(Problem) as caught:
        await run(house, await house.workspace(), None)

    assert caught.value.param == "key"


async def test_a_key_that_cannot_be_opened_is_our_fault(house: House) -> None:
    """The sentence says so, and what to do."""
    workspace = await house.with_key()
    house.opener.broken = True

    with pytest.raises(Problem) as caught:
        await run(house, workspace, None)

    assert "our fault" in caught.value.message
    await house.store.check_writable()
    assert (await house.again(workspace)).credentials["openrouter"].undecryptable


async def test_a_key_that_opens_again_needs_no_new_paste(house: House) -> None:
    """The operator has brought the master key back: a good Test restores, with one notice for each end."""
    workspace = await house.with_key()
    house.opener.broken = True
    for _ in range(2):
        with pytest.raises(Problem):
            await run(house, workspace, None)
    house.opener.broken = False

    assert (await run(house, workspace, None)).outcome is Outcome.WORKS
    assert not (await house.again(workspace)).credentials["openrouter"].undecryptable
    kinds = [r["kind"] for r in await house.store.load_outbox(workspace.id, limit=9) if r["channel"] == "email"]
    assert sorted(kinds) == ["credential_recovered", "credential_unhealthy", "payer_changed"]


async def test_the_audit_log_has_the_fingerprint_and_not_the_key(house: House) -> None:
    """Security, section 5: audited, and nothing of the key but its fingerprint."""
    workspace = await house.workspace()
    await run(house, workspace, KEYS["openrouter"])

    rows = [row for row in await house.desk.audit.list(workspace, 50) if row["action"] == "credential.tested"]

    assert rows[0]["after"]["outcome"] == "works"
    assert len(rows[0]["after"]["fingerprint"]) == 16
    assert KEYS["openrouter"][10:40] not in str(rows)


async def test_a_refused_save_is_audited_as_the_test_that_it_is(house: House) -> None:
    """Save asks the provider too: whoever tries keys out by saving them leaves each one's fingerprint."""
    workspace = await house.workspace()
    house.upstream.script["/key"] = REJECTED
    with pytest.raises(Problem):
        await house.save_key(workspace)

    rows = [row for row in await house.desk.audit.list(workspace, 50) if row["action"] == "credential.tested"]

    assert [(row["after"]["outcome"], row["after"]["saved"]) for row in rows] == [("rejected", False)]
    assert len(rows[0]["after"]["fingerprint"]) == 16


async def test_a_cancelled_test_is_settled(house: House) -> None:
    """Whoever closes the page leaves no hold behind."""
    workspace = await house.workspace()
    reached = asyncio.Event()

    original = house.upstream.send

    async def hang(request: Any, *, head_timeout_s: float) -> Any:
        if request.path.startswith("/chat"):
            reached.set()
            await asyncio.Event().wait()
        return await original(request, head_timeout_s=head_timeout_s)

    house.upstream.send = hang  # type: ignore[method-assign]
    task = asyncio.create_task(run(house, workspace, KEYS["openrouter"]))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    cap = await house.desk.caps.show(workspace)
    assert cap.held_nusd == 0
    assert cap.spent_nusd > 0


async def test_a_cost_that_is_not_reported_is_computed_or_estimated(house: House) -> None:
    """Never 0 by accident."""
    house.upstream.script["/chat/completions"] = (200, chat_answer(cost=None))

    result = await run(house, await house.workspace(), KEYS["openrouter"])

    assert result.cost_nusd is not None
    assert result.cost_nusd > 0


def test_pace_admits_and_refuses_exactly() -> None:
    """Security, section 5: 5 a minute, 30 and 10 different keys a day; 20 a minute from one address."""
    pace, at = KeyTestPace(PaceLimits()), 1_000_000

    for _ in range(5):
        pace.admit("w", b"k", "a", at)
    with pytest.raises(Problem) as minute:
        pace.admit("w", b"k", "a", at)
    assert (minute.value.code, minute.value.retry_after_s) == (ProblemCode.TOO_MANY_TESTS, 60)
    pace.admit("w", b"k", "a", at + 60_000)

    for n in range(24):
        pace.admit("w", b"k", "a", at + 120_000 + n * 60_000)
    with pytest.raises(Problem, match="30 a day"):
        pace.admit("w", b"k", "a", at + 3_600_000)

    for n in range(10):
        pace.admit("v", bytes([n]), "b", at + n * 60_000)
    with pytest.raises(Problem, match="10 different keys") as keys:
        pace.admit("v", b"new", "b", at + 900_000)
    assert "A key that was tested within the last day counts as no other one." in keys.value.fix
    assert "counts as no other one" not in minute.value.fix
    pace.admit("v", b"\x00", "b", at + 900_000)

    for n in range(20):
        pace.admit(f"w{n}", b"k", "c", at)
    with pytest.raises(Problem, match="from your address: the limit is 20 a minute"):
        pace.admit("w99", b"k", "c", at)


async def test_saving_is_paced_like_testing(tmp_path: Path) -> None:
    """Save checks with the provider too: it must not become the oracle that Test is not."""
    async with open_house(tmp_path, pace=PaceLimits(per_minute=1)) as house:
        workspace = await house.workspace()
        await house.save_key(workspace)
        with pytest.raises(Problem, match="1 a minute"):
            await house.save_key(workspace)


async def test_the_receipt_tells_every_call_of_the_test(house: House) -> None:
    """Two paid calls, one receipt: both models by name, one cost, and the list's model is one that answered."""
    workspace = await house.workspace()
    works = await run(house, workspace, KEYS["openrouter"])
    house.upstream.script["/embeddings"] = (404, {"error": {"code": 404, "message": "no such model"}})
    fails = await run(house, workspace, KEYS["openrouter"])
    assert works.receipt is not None
    assert fails.receipt is not None
    first, second = [await house.desk.receipts.one(workspace, r) for r in (works.receipt, fails.receipt)]
    chat, vectors = [attempt["model"] for attempt in first["attempts"]]

    assert (first["served_model"], second["served_model"]) == (chat, chat)
    why = await house.desk.receipts.why(workspace, works.receipt)
    assert why.startswith(
        f"A Test of the OpenRouter key sk-or-…{KEYS['openrouter'][-4:]} made 2 small calls: {chat} answered, {vectors} "
        "answered. Paid by that key, because "
    )
    assert f"{chat} answered, {vectors} failed (" in await house.desk.receipts.why(workspace, fails.receipt)
