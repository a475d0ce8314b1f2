"""Long work: exports, replays and checks as rows, through death, cancelling and the end of their day."""

import asyncio
import contextlib
import csv
import io
import json
import zipfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.control.house import ACTOR, House, open_house

from ownkey.control.export_work import ExportAllWorker, ExportWorker, query_of, wish_of
from ownkey.control.problems import Problem
from ownkey.control.replay import ReplayWorker
from ownkey.control.upkeep_work import LedgerCheckWorker
from ownkey.control.work import Made, Teller, Worker, WorkRunner
from ownkey.domain.pricing import ModelPrice, Rate
from ownkey.domain.receipts import AttemptRecord, Basis, HoldState, Receipt
from ownkey.domain.records import Member, ReceiptFilter
from ownkey.domain.routing import Funding, Route
from ownkey.domain.usage import Usage
from ownkey.domain.work import FILE_KEPT_MS, MOST_OPEN, Work, WorkKind, WorkState
from ownkey.domain.workspace import Role, WorkspaceState
from ownkey.store.export_files import ExportFiles

MODEL = "anthropic/claude-haiku-4.5"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


def a_receipt(workspace: WorkspaceState, n: int, at_ms: int, **changes: Any) -> Receipt:
    attempt = AttemptRecord(
        n=1, route=Route.OPENROUTER, provider="openrouter", model=MODEL, credential_id="cred_1",
        credential_label="Main", credential_hint="sk-or-…abcd", hold_id=f"hold_{n}", bound_nusd=10**7,
        state=HoldState.SETTLED, basis=Basis.ACTUAL, cost_nusd=1_000_000 + n, usage=Usage(input=1_000, output=100),
        status=200, failure=None, signal="", message="", request_id=None, started_ms=0, first_content_ms=1, ended_ms=2,
    )
    values: dict[str, Any] = {
        "id": f"rcpt_{n:08}", "workspace_id": workspace.id, "at_ms": at_ms, "token_id": "t", "endpoint": "chat",
        "dialect": "openai", "task": "draft_reply", "requested_model": MODEL, "served_model": MODEL, "stream": False,
        "project": None, "conversation": f"c{n % 7}", "member": None, "row": "F8", "funding": Funding.BYOK,
        "route": Route.OPENROUTER, "provider": "openrouter", "status": 200, "code": None, "message": "",
        "attempts": (attempt,), "cost_nusd": 1_000_000 + n, "basis": Basis.ACTUAL,
    }
    return Receipt(**(values | changes))


async def fill(house: House, workspace: WorkspaceState, count: int, **changes: Any) -> list[Receipt]:
    """Receipts without holds: what exports and replays read."""
    made = [a_receipt(workspace, n, house.clock.at_ms - (count - n) * 1_000, **changes) for n in range(count)]
    for receipt in made:
        await house.store.end_call(None, receipt)
    return made


def files_of(house: House) -> ExportFiles:
    return ExportFiles(house.folder / "exports")


def runner(house: House, **workers: Worker) -> WorkRunner:
    files, desk = files_of(house), house.desk
    every: dict[WorkKind, Worker] = {
        WorkKind.EXPORT: ExportWorker(house.store, desk.exports, files),
        WorkKind.EXPORT_ALL: ExportAllWorker(house.store, desk.exports, files),
        WorkKind.REPLAY: ReplayWorker(house.store, house.store, house.store, house.clock, house.product),
        WorkKind.LEDGER_CHECK: LedgerCheckWorker(house.store, house.clock),
    }
    every |= {WorkKind(kind): worker for kind, worker in workers.items()}
    return WorkRunner(house.store, every, files, house.clock)


async def fetched(house: House, workspace: WorkspaceState, work_id: str) -> tuple[str, bytes]:
    name, content = await house.desk.work.fetch(workspace, work_id)
    return name, b"".join([data async for data in content])


async def test_an_export_becomes_a_file_and_is_fetched(house: House) -> None:
    """Every row, the documented columns, one e-mail to the member who asked, and nothing to anybody else."""
    workspace = await house.workspace()
    made = await fill(house, workspace, 1_203)
    await house.store.save_member(
        Member(workspace.id, "m1", "ann@example.com", "Ann", Role.VIEWER), at_ms=house.clock.at_ms, actor=ACTOR
    )
    started = await house.desk.work.start(workspace, "export", {}, ACTOR, "m1")
    await runner(house).run_due()
    done = await house.desk.work.show(workspace, started.work.id)
    name, content = await fetched(house, workspace, started.work.id)
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))

    assert (started.work.state, done.work.state, done.progress.words) == (WorkState.WAITING, WorkState.DONE, "Done.")
    assert name.startswith("ownkey-receipts-")
    assert [row["receipt"] for row in rows] == [receipt.id for receipt in reversed(made)]
    assert sum(int(row["cost_nano_usd"]) for row in rows) == sum(receipt.cost_nusd or 0 for receipt in made)
    told = await house.store.claim_outbox("email", house.clock.at_ms, house.clock.at_ms + 1, limit=9)
    assert [due.kind for due in told] == ["export_ready"]
    assert told[0].payload["rows"] == 1_203
    assert [m.member_id for m in await house.store.load_told(workspace.id, told[0].payload["member"])] == ["m1"]
    assert (house.folder / "exports" / done.work.file).stat().st_mode & 0o077 == 0


class Dies:
    """A worker whose process dies after some tellings."""

    def __init__(self, inner: Worker, after: int) -> None:
        self.inner, self.after = inner, after

    async def run(self, work: Work, teller: Teller) -> Made:
        count = 0
        real = teller.tell

        async def tell(
            step: str, done: int, total: int | None, checkpoint: Mapping[str, Any], *, now: bool = False
        ) -> None:
            nonlocal count
            await real(step, done, total, checkpoint, now=True)
            count += 1
            if count > self.after:
                raise asyncio.CancelledError

        teller.tell = tell  # type: ignore[method-assign]
        return await self.inner.run(work, teller)


@pytest.mark.parametrize("torn", [0, 13], ids=["clean", "half a line more on the disk"])
async def test_an_export_goes_on_after_its_process_died(house: House, torn: int) -> None:
    """The file of two runs is the file of one: no row lost, none twice, though more was on the disk than was told."""
    workspace = await house.workspace()
    await fill(house, workspace, 1_700)
    whole = "".join([chunk.text async for chunk in house.desk.exports.receipts(workspace, ReceiptFilter())])
    started = await house.desk.work.start(workspace, "export", {}, ACTOR)
    dying = Dies(ExportWorker(house.store, house.desk.exports, files_of(house)), 2)
    with contextlib.suppress(asyncio.CancelledError):
        await runner(house, export=dying).run_due()
    part = house.folder / "exports" / f"{started.work.id}.part"
    with part.open("ab") as file:
        file.write(b"x" * torn)
    stopped = await house.desk.work.show(workspace, started.work.id)
    assert stopped.work.state is WorkState.RUNNING
    assert 0 < stopped.work.done < 1_700
    assert await runner(house).run_due() == 0, "the lease is another's"
    house.clock.pass_s(61)
    await runner(house).run_due()
    _, content = await fetched(house, workspace, started.work.id)

    assert content.decode() == whole
    assert (await house.desk.work.show(workspace, started.work.id)).work.runs == 2


async def test_what_dies_again_and_again_has_failed(house: House) -> None:
    """Not for ever: after five runs it says so."""
    workspace = await house.workspace()
    await fill(house, workspace, 30)
    started = await house.desk.work.start(workspace, "export", {}, ACTOR)
    for _ in range(6):
        with contextlib.suppress(asyncio.CancelledError):
            dying = Dies(ExportWorker(house.store, house.desk.exports, files_of(house)), 0)
            await runner(house, export=dying).run_due()
        house.clock.pass_s(61)
    done = await house.desk.work.show(workspace, started.work.id)

    assert done.work.state is WorkState.FAILED
    assert "interrupted" in done.work.error


async def test_cancelled_work_stops_and_leaves_no_file(house: House) -> None:
    """At the next beat; what has ended cannot be cancelled."""
    workspace = await house.workspace()
    await fill(house, workspace, 1_200)
    started = await house.desk.work.start(workspace, "export", {}, ACTOR)

    class Cancels(Dies):
        async def run(self, work: Work, teller: Teller) -> Made:
            await house.desk.work.cancel(workspace, work.id, ACTOR)
            return await self.inner.run(work, teller)

    await runner(house, export=Cancels(ExportWorker(house.store, house.desk.exports, files_of(house)), 0)).run_due()
    done = await house.desk.work.show(workspace, started.work.id)

    assert done.work.state is WorkState.CANCELLED
    assert list((house.folder / "exports").iterdir()) == []
    with pytest.raises(Problem):
        await house.desk.work.fetch(workspace, started.work.id)
    assert (await house.desk.work.cancel(workspace, started.work.id, ACTOR)).work.state is WorkState.CANCELLED


async def test_a_second_click_starts_nothing(house: House) -> None:
    """The same wish that is open is found; five may be open; other workspaces have their own."""
    workspace, other = await house.workspace(), await house.workspace("Other")
    first = await house.desk.work.start(workspace, "export", {"task": "a"}, ACTOR)
    again = await house.desk.work.start(workspace, "export", {"task": "a"}, ACTOR)
    for n in range(MOST_OPEN - 1):
        await house.desk.work.start(workspace, "export", {"task": str(n)}, ACTOR)

    assert first.work.id == again.work.id
    with pytest.raises(Problem, match="open here"):
        await house.desk.work.start(workspace, "export", {"task": "more"}, ACTOR)
    assert (await house.desk.work.start(other, "export", {}, ACTOR)).work.state is WorkState.WAITING
    with pytest.raises(Problem):
        await house.desk.work.show(other, first.work.id)
    for place, kind in ((workspace, "ledger_check"), (None, "export"), (workspace, "exprot")):
        with pytest.raises(Problem):
            await house.desk.work.start(place, kind, {}, ACTOR)


async def test_files_are_kept_for_a_day(house: House) -> None:
    """Then the file goes, the row stays and says so."""
    workspace = await house.workspace()
    await fill(house, workspace, 3)
    started = await house.desk.work.start(workspace, "export", {}, ACTOR)
    run = runner(house)
    await run.run_due()
    house.clock.at_ms += FILE_KEPT_MS - 1
    kept = await run.drop_stale_files()
    house.clock.at_ms += 1
    dropped = await run.drop_stale_files()

    assert (kept, dropped) == (0, 1)
    assert list((house.folder / "exports").iterdir()) == []
    shown = await house.desk.work.show(workspace, started.work.id)
    assert (shown.work.state, shown.can_fetch) == (WorkState.DONE, False)
    with pytest.raises(Problem, match="24 hours"):
        await house.desk.work.fetch(workspace, started.work.id)


async def test_a_workspace_in_one_archive(house: House) -> None:
    """Settings without keys, members, calls, credits, ledger, audit: everything, and no secret."""
    workspace = await house.with_key()
    await fill(house, workspace, 12)
    await house.store.save_member(
        Member(workspace.id, "m1", "ann@example.com", "Ann", Role.OWNER), at_ms=house.clock.at_ms, actor=ACTOR
    )
    started = await house.desk.work.start(workspace, "export_all", {}, ACTOR)
    await runner(house).run_due()
    name, content = await fetched(house, workspace, started.work.id)
    archive = zipfile.ZipFile(io.BytesIO(content))
    told = {entry: archive.read(entry).decode() for entry in archive.namelist()}
    settings = json.loads(told["workspace.json"])

    assert name.endswith(".zip")
    assert {"workspace.json", "members.json", "projects.json", "calls.csv", "receipts.jsonl", "credits.csv",
            "audit.jsonl"} <= set(told)
    assert settings["credentials"][0]["hint"].startswith("sk-or")
    assert json.loads(told["members.json"])[0]["email"] == "ann@example.com"
    assert len(told["receipts.jsonl"].splitlines()) == len(told["calls.csv"].splitlines()) - 1 >= 12
    assert any("credential" in line for line in told["audit.jsonl"].splitlines())
    for secret in ("ciphertext", "5a7e5a7e", "commitment"):
        assert not any(secret in text for text in told.values()), secret


async def test_the_books_are_checked_as_work(house: House) -> None:
    """X9: a row like any other, with the verdict as its result."""
    started = await house.desk.work.start(None, "ledger_check", {}, ACTOR)
    await runner(house).run_due()
    done = await house.desk.work.show(None, started.work.id)

    assert done.work.state is WorkState.DONE
    assert done.work.result["clean"] is True


async def test_what_is_not_configured_says_so(house: House) -> None:
    """No Stripe, no comparison with it."""
    started = await house.desk.work.start(None, "reconcile", {}, ACTOR)
    await runner(house).run_due()

    assert "not configured" in (await house.desk.work.show(None, started.work.id)).progress.words


async def replayed(house: House, workspace: WorkspaceState, **wish: Any) -> Mapping[str, Any]:
    given = house.desk.replay.read_wish(workspace, {"month": "2026-11", **wish})
    started = await house.desk.work.start(workspace, "replay", given, ACTOR)
    await runner(house).run_due()
    done = await house.desk.work.show(workspace, started.work.id)
    assert done.work.state is WorkState.DONE, done.work.error
    return done.work.result


async def test_a_replay_of_nothing_changed_is_the_month_itself(house: House) -> None:
    """X7: the same settings give the same cost, credits and refusals, to the nano-USD."""
    workspace = await house.with_key()
    made = await fill(house, workspace, 40)
    result = await replayed(house, workspace)

    assert result["calls"] == 40
    assert result["before_nusd"] == result["after_nusd"] == sum(r.cost_nusd or 0 for r in made)
    assert (result["after_refused"], result["moved"], result["unknown"], result["newly_refused"]) == (0, 0, 0, 0)
    assert result["after_fee_nusd"] == result["after_nusd"] * 550 // 10_000


async def test_a_replay_with_a_direct_key_prices_the_same_tokens(house: House) -> None:
    """X7, T4: what would have gone directly is computed from the tokens and the list, and pays no fee."""
    workspace = await house.with_key()
    await house.store.activate_prices(
        [ModelPrice("anthropic", "claude-haiku-4-5", {"input": (Rate(0, 10**9),), "output": (Rate(0, 5 * 10**9),)})],
        {}, author="t", at_ms=house.clock.at_ms,
    )
    await fill(house, workspace, 10)
    result = await replayed(house, workspace, direct=["anthropic"])

    assert (result["moved"], result["unknown"]) == (10, 0)
    assert result["after_nusd"] == 10 * (1_000 * 1_000 + 100 * 5_000)
    assert result["after_fee_nusd"] == 0
    assert result["routes"] == {"direct": 10}
    assert any("nobody knows" in sentence for sentence in result["cannot_know"])


async def test_a_replay_under_a_cap_pauses_where_it_would_have(house: House) -> None:
    """Calls after the cap is reached would have been refused; refused calls that would have run are only counted."""
    workspace = await house.with_key()
    await fill(house, workspace, 20)
    await house.store.end_call(None, a_receipt(
        workspace, 99, house.clock.at_ms - 500, code="ai_paused", attempts=(), cost_nusd=0, served_model=None,
        provider=None, funding=None, basis=Basis.NONE,
    ))
    capped = await replayed(house, workspace, cap_usd="0.005")
    free = await replayed(house, workspace, cap_usd="")

    assert (capped["newly_refused"], capped["after_refused"], capped["would_run"]) == (15, 16, 0)
    assert capped["paused_at_ms"] is not None
    assert (free["would_run"], free["after_refused"], free["before_refused"]) == (1, 0, 1)


async def test_a_replay_without_a_key_takes_credits(tmp_path: Path) -> None:
    """app-builder: the same calls, paid with credits through one carry, with another markup."""
    async with open_house(tmp_path, "app-builder") as house:
        workspace = await house.with_key()
        made = await fill(house, workspace, 30)
        result = await replayed(house, workspace, own_key=False, markup_percent="50")
        cost = sum(r.cost_nusd or 0 for r in made)
        price = house.product.credits.price_nusd

        assert result["after_nusd"] == 0
        assert result["routes"] == {"credits": 30}
        assert 0 <= result["after_credits"] * price - sum(-(-(r.cost_nusd or 0) * 15 // 10) for r in made) < price
        assert result["after_credits"] >= cost // price
        always = await replayed(house, workspace, own_key=False, always_use_key=True)
        assert (always["after_refused"], always["newly_refused"], always["after_credits"]) == (30, 30, 0)


@pytest.mark.parametrize(("given", "param"), [
    ({"month": "2026-13"}, "month"), ({"direct": ["opnai"]}, "direct"), ({"cap_usd": "x"}, "cap_usd"),
    ({"markup_percent": "-1"}, "markup_percent"), ({"fee_percent": "1e9"}, "fee_percent"),
    ({"nonsense": 1}, "nonsense"),
    ({"always_use_key": "maybe"}, "replay"), ({"own_key": False}, "own_key"),
])
async def test_what_cannot_be_replayed_is_told(house: House, given: dict[str, Any], param: str) -> None:
    """Each with the field at fault."""
    with pytest.raises(Problem) as caught:
        house.desk.replay.read_wish(await house.workspace(), given)

    assert caught.value.param == param
    assert caught.value.fix


def test_a_wish_keeps_its_filter() -> None:
    """What an export's row remembers is what was asked for."""
    query = ReceiptFilter(task="a", outcome="ok", since_day="2026-11-01", refused=False)

    assert query_of(wish_of(query)) == query
    assert query_of(wish_of(replace(query, before="x", limit=3))) == query
