"""Rotation of the master key: each step in its order, refused out of it, resumed in the middle, and no row lost."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.control.house import ACTOR, KEYS, House, open_house

from ownkey.control.master_key_work import RewrapWorker, Wrapper
from ownkey.control.problems import Problem
from ownkey.control.work import Worker, WorkRunner
from ownkey.domain.errors import StoreError
from ownkey.domain.master_key import BEAT_MS, LEAVING_MS, LIVE_MS, KeyProcess, LoadedKey
from ownkey.domain.work import WorkKind, WorkState
from ownkey.domain.workspace import WorkspaceState, WrappedDek
from ownkey.store.export_files import ExportFiles
from ownkey.vault.keyset import generate_keyset_text
from ownkey.vault.keyset_file import KeysetFile


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        await opened.key_keeper.run()
        yield opened


def file_of(house: House) -> KeysetFile:
    return KeysetFile(house.folder / "master.key")


async def add(house: House) -> LoadedKey:
    """A new key in the file, loaded by this process."""
    kek_id = file_of(house).add()
    await house.key_keeper.run()
    return next(key for key in house.ring.keys if key.kek_id == kek_id)


async def promote(house: House) -> LoadedKey:
    key = await add(house)
    await house.desk.master_key.check_promote(key.kek_id, key.fingerprint)
    file_of(house).promote(key.kek_id)
    await house.key_keeper.run()
    return key


def runner(house: House, worker: Worker | None = None, batch: int = 7) -> WorkRunner:
    inner = worker or RewrapWorker(house.ring, house.store, house.key_check, house.clock, batch=batch)
    return WorkRunner(house.store, {WorkKind.REWRAP: inner}, ExportFiles(house.folder / "exports"), house.clock)


async def rewrap(house: House) -> dict[str, Any]:
    started = await house.desk.master_key.start_rewrap(ACTOR)
    await runner(house).run_due()
    ended = await house.desk.work.show(None, started.work.id)
    assert ended.work.state is WorkState.DONE, ended.work.error
    return dict(ended.work.result)


async def other_process(house: House, *keys: LoadedKey, age_ms: int = 0, problem: str = "") -> None:
    """A second node, as its own row tells of it."""
    now = house.clock.now_ms() - age_ms
    await house.store.save_key_process(
        KeyProcess("other", "there", 2, now, now, keys, problem), stale_ms=0, actor=ACTOR
    )


async def make(house: House, workspace_id: str, like: WorkspaceState, dek: WrappedDek) -> None:
    """A workspace whose data key was wrapped before something else happened."""
    await house.store.create_workspace(
        workspace_id=workspace_id, name="Late", external_id=f"x-{workspace_id}", plan=like.plan, timezone="UTC",
        entitlement=like.entitlement, credits_if_key_fails=False, credits_if_key_fails_limit=None, dek=dek, features={},
        at_ms=house.clock.at_ms, actor=ACTOR,
    )


async def told(house: House) -> list[tuple[str, str]]:
    rows = await house.store.load_audit(None, limit=100)
    return [(row["action"], row["target"]) for row in reversed(rows) if row["action"].startswith("master_key.")]


async def test_a_whole_rotation_loses_nothing(house: House) -> None:
    """§12: add, promote, rewrap, retire; credentials open throughout, new workspaces end on the new key, and the
    deployment's chain tells each step once."""
    old = house.ring.keys[0]
    workspaces = [await house.with_key(name=f"W{n}", external_id=f"w{n}") for n in range(20)]
    held = house.opener.open(workspaces[0], workspaces[0].credentials["openrouter"])
    key = await promote(house)
    born = await house.with_key(name="Born", external_id="born")
    result = await rewrap(house)
    view = await house.desk.master_key.show()
    with pytest.raises(Problem, match="first key"):
        await house.desk.master_key.retire(key.kek_id, ACTOR)
    await house.desk.master_key.retire(old.kek_id, ACTOR)
    file_of(house).retire(old.kek_id)
    await house.key_keeper.run()
    after = [await house.again(workspace) for workspace in workspaces]

    assert born.dek.kek_id == key.kek_id
    assert result == {"to": key.kek_id, "rewrapped": 21, "left": 0, "undecryptable": 0, "named": []}
    assert (view.left, {line.kek_id: line.data_keys for line in view.keys}) == (0, {key.kek_id: 22, old.kek_id: 0})
    assert {workspace.dek.kek_id for workspace in after} == {key.kek_id}
    assert [k.kek_id for k in house.ring.keys] == [key.kek_id]
    house.vault.forget_left()
    assert house.opener.open(after[0], after[0].credentials["openrouter"]) == held
    assert house.ring.opens_audit_key()
    assert await told(house) == [
        ("master_key.added", old.kek_id), ("master_key.added", key.kek_id), ("master_key.promoted", key.kek_id),
        ("master_key.rewrapped", key.kek_id), ("master_key.retired", old.kek_id),
    ]
    assert (await house.key_check.sweep()).bad == 0
    with pytest.raises(StoreError, match="retired"):
        await house.store.save_rewrapped([(after[0].id, after[0].dek, replace(after[0].dek, kek_id=old.kek_id))])
    with pytest.raises(StoreError, match="retired"):
        await make(house, "ws_late", after[0], replace(after[0].dek, kek_id=old.kek_id))


async def test_each_step_waits_for_every_process(house: House) -> None:
    """Promote needs the key everywhere, the same bytes; rewrap the same first key; retire neither rows nor a laggard.
    A process that was silent for a minute does not count."""
    await house.workspace()
    old, key, desk = house.ring.keys[0], await add(house), house.desk.master_key
    await other_process(house, old)
    with pytest.raises(Problem, match="there:2 has not loaded"):
        await desk.check_promote(key.kek_id, key.fingerprint)
    await other_process(house, old, LoadedKey(key.kek_id, "0" * 16))
    with pytest.raises(Problem, match="there:2 has not loaded"):
        await desk.check_promote(key.kek_id, key.fingerprint)
    view = await desk.show()
    await other_process(house, old, key)
    await desk.check_promote(key.kek_id, key.fingerprint)
    with pytest.raises(Problem, match="has not loaded"):
        await desk.check_promote(key.kek_id, "1" * 16)
    file_of(house).promote(key.kek_id)
    await house.key_keeper.run()
    with pytest.raises(Problem, match="there:2 has another first key"):
        await desk.start_rewrap(ACTOR)
    await other_process(house, key, old)
    with pytest.raises(Problem, match="2 data keys still hang"):
        await desk.retire(old.kek_id, ACTOR)
    await rewrap(house)
    await other_process(house, old, key)
    with pytest.raises(Problem, match="there:2 still has"):
        await desk.retire(old.kek_id, ACTOR)
    house.clock.pass_s(LIVE_MS / 1_000 + 1)
    await house.key_keeper.run()
    await desk.retire(old.kek_id, ACTOR)
    with pytest.raises(Problem, match="was retired"):
        await desk.check_promote(old.kek_id, old.fingerprint)

    assert [line.differs for line in view.keys] == [False, True]
    assert [p.name for p in (await desk.show()).processes] == ["here:1"]


@pytest.mark.parametrize(("spoil", "sentence"), [
    (lambda path: path.unlink(), "cannot be opened"),
    (lambda path: path.write_text("k1:short\n"), "base64"),
    (lambda path: path.write_text(generate_keyset_text()), "not the master key that the saved keys"),
    (lambda path: path.write_text(path.read_text().split(":")[0] + ":" + generate_keyset_text().split(":")[1]),
     "not the key that went by it before"),
    (lambda path: path.chmod(0o644), "open to others"),
], ids=["gone", "short", "in use absent", "other bytes", "exposed"])
async def test_an_unusable_keyset_changes_nothing(
    house: House, spoil: Any, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The old keys stay in force, calls go on, and the refusal is in the log, in the view and in the audit chain; what
    is put right is taken by itself."""
    workspace = await house.with_key()
    path, good, before = house.folder / "master.key", (house.folder / "master.key").read_text(), house.ring.keys
    spoil(path)
    with caplog.at_level(logging.CRITICAL):
        await house.key_keeper.run()
        await house.key_keeper.run()
    view = await house.desk.master_key.show()

    assert house.ring.keys == before
    assert house.opener.open(workspace, workspace.credentials["openrouter"]) is not None
    assert len(view.problems) == 1
    assert sentence in view.problems[0]
    assert [record.levelname for record in caplog.records].count("CRITICAL") == 1
    assert good.split(":")[1].strip() not in caplog.text
    assert ("master_key.refused", "here:1") in await told(house)
    path.unlink(missing_ok=True)
    path.write_text(good)
    path.chmod(0o600)
    await house.key_keeper.run()
    assert (await house.desk.master_key.show()).problems == []


async def test_a_key_that_left_opens_for_calls_that_began_before(house: House) -> None:
    """A call that was admitted before the rotation keeps what it read; ten minutes later nothing opens with the old
    key any more."""
    old = house.ring.keys[0]
    before = await house.with_key()
    await promote(house)
    await rewrap(house)
    await house.desk.master_key.retire(old.kek_id, ACTOR)
    file_of(house).retire(old.kek_id)
    await house.key_keeper.run()
    house.vault.forget_deks()
    assert house.opener.open(before, before.credentials["openrouter"]) is not None
    house.clock.at_ms += LEAVING_MS  # a clock that jumps
    await house.key_keeper.run()
    house.vault.forget_deks()
    assert house.opener.open(before, before.credentials["openrouter"]) is not None
    house.clock.pass_s(LEAVING_MS / 1_000)
    await house.key_keeper.run()
    with pytest.raises(ValueError, match="kek_missing"):
        house.opener.open(before, before.credentials["openrouter"])
    after = await house.again(before)
    assert house.opener.open(after, after.credentials["openrouter"]) is not None


async def test_a_rewrap_goes_on_where_it_died(house: House) -> None:
    """What was moved stays moved, the rest follows, and the count is of all."""
    for n in range(30):
        await house.workspace(name=f"W{n}", external_id=f"w{n}")
    key = await promote(house)

    class Dies(RewrapWorker):
        async def _pass(self, *arguments: Any) -> int:
            saved, count = house.store.save_rewrapped, 0

            async def save(changes: Any) -> int:
                nonlocal count
                count += 1
                if count == 3:
                    raise asyncio.CancelledError
                return await saved(changes)

            house.store.save_rewrapped = save  # type: ignore[method-assign]
            try:
                return await super()._pass(*arguments)
            finally:
                house.store.save_rewrapped = saved  # type: ignore[method-assign]

    started = await house.desk.master_key.start_rewrap(ACTOR)
    with contextlib.suppress(asyncio.CancelledError):
        await runner(house, Dies(house.ring, house.store, house.key_check, house.clock, batch=7)).run_due()
    halfway = (await house.desk.master_key.show()).left
    again = await house.desk.master_key.start_rewrap(ACTOR)
    house.clock.pass_s(61)
    await runner(house).run_due()
    ended = await house.desk.work.show(None, started.work.id)

    assert again.work.id == started.work.id
    assert halfway == 31 - 14
    assert (ended.work.state, ended.work.done, ended.work.total) == (WorkState.DONE, ended.work.total, ended.work.total)
    assert await house.store.count_deks_elsewhere(key.kek_id) == 0


async def test_what_does_not_open_is_counted_named_and_kept(house: House) -> None:
    """§12: an undecryptable data key is never overwritten; the old master key cannot be retired over it; verify, the
    view and the credential's page say so."""
    good, bad = await house.with_key(name="Good"), await house.with_key(name="Bad", external_id="bad")
    spoilt = bytes([bad.dek.ciphertext[0] ^ 1]) + bad.dek.ciphertext[1:]
    house.store._writing.execute("UPDATE dek SET ciphertext = ? WHERE workspace_id = ?", (spoilt, bad.id))
    old, key = house.ring.keys[0], await promote(house)
    result = await rewrap(house)
    with pytest.raises(Problem, match="1 data keys still hang"):
        await house.desk.master_key.retire(old.kek_id, ACTOR)
    verdict = await house.desk.verify.run()
    found = {(finding.workspace_id, finding.ids[0].split()[0]) for finding in verdict.findings
             if finding.check == "undecryptable"}
    row = house.store._near.execute("SELECT kek_id, ciphertext FROM dek WHERE workspace_id = ?", (bad.id,)).fetchone()
    await asyncio.sleep(0.05)

    assert (result["undecryptable"], result["named"], result["left"]) == (1, [bad.id], 1)
    assert row == (old.kek_id, spoilt)
    assert found == {(bad.id, "data"), (bad.id, "credential")}
    assert (await house.desk.master_key.show()).undecryptable == 2
    assert (await house.again(bad)).credentials["openrouter"].undecryptable
    assert not (await house.again(good)).credentials["openrouter"].undecryptable
    assert (await house.again(good)).dek.kek_id == key.kek_id


async def test_a_row_that_changed_meanwhile_is_not_overwritten(house: House) -> None:
    """The update names the row as it was read; a workspace that was deleted meanwhile does not come back."""
    workspace, gone = await house.workspace(name="A"), await house.workspace(name="B", external_id="b")
    await promote(house)
    rows = list(await house.store.load_deks_elsewhere(house.ring.keys[0].kek_id, "", limit=10))
    first = house.ring.rewrap(rows)
    second = house.ring.rewrap(rows)
    await house.desk.workspaces.delete(await house.again(gone), ACTOR)
    changes = [(place, old, new) for (place, old), new in zip(rows, first, strict=True) if new is not None]
    late = [(place, old, new) for (place, old), new in zip(rows, second, strict=True) if new is not None]
    moved = await house.store.save_rewrapped(changes)
    again = await house.store.save_rewrapped(late)

    assert (moved, again) == (len(rows) - 1, 0)
    assert (await house.again(workspace)).dek == dict(zip([r[0] for r in rows], first, strict=True))[workspace.id]


async def test_saves_and_new_workspaces_go_on_during_a_rewrap(house: House) -> None:
    """What is saved and made while rows move opens afterwards, and a workspace that was about to be made on the old key
    ends on the new one."""
    workspaces = [await house.workspace(name=f"W{n}", external_id=f"w{n}") for n in range(25)]
    like, stale = workspaces[0], house.vault.new_dek("ws_late")
    await promote(house)

    class Busy(RewrapWorker):
        async def _pass(self, *arguments: Any) -> int:
            moved = await super()._pass(*arguments)
            if await house.store.load_workspace("ws_late") is None:
                await house.save_key(workspaces[3])
                await make(house, "ws_late", like, stale)
            return moved

    await house.desk.master_key.start_rewrap(ACTOR)
    await runner(house, Busy(house.ring, house.store, house.key_check, house.clock, batch=5)).run_due()
    saved = await house.again(workspaces[3])

    assert (await house.desk.master_key.show()).left == 0
    assert house.opener.open(saved, saved.credentials["openrouter"]) is not None
    assert KEYS["openrouter"][-4:] in saved.credentials["openrouter"].hint


async def test_a_second_promotion_stops_the_first_rewrap(house: House) -> None:
    """Rows never go to a key that is not the first any more; a new rewrap moves all of them."""
    for n in range(9):
        await house.workspace(name=f"W{n}", external_id=f"w{n}")
    await promote(house)
    started = await house.desk.master_key.start_rewrap(ACTOR)
    third = await promote(house)
    await runner(house).run_due()
    failed = await house.desk.work.show(None, started.work.id)
    result = await rewrap(house)

    assert failed.work.state is WorkState.FAILED
    assert "Start the rewrap again" in failed.work.error
    assert (result["to"], result["left"]) == (third.kek_id, 0)


async def test_a_process_tells_of_itself_now_and_then(house: House) -> None:
    """A row at start and every fifteen seconds, not every round; none any more once it has left."""
    first = (await house.desk.master_key.show()).processes[0]
    house.clock.pass_s(3)
    await house.key_keeper.run()
    second = (await house.desk.master_key.show()).processes[0]
    house.clock.pass_s(BEAT_MS / 1_000)
    await house.key_keeper.run()
    third = (await house.desk.master_key.show()).processes[0]
    await house.key_keeper.leave()

    assert first.beat_at_ms == second.beat_at_ms < third.beat_at_ms
    assert (await house.desk.master_key.show()).processes == []


async def test_a_full_disk_is_not_told_as_a_key_that_does_not_open(house: House) -> None:
    """The audit key's file could not be written: the work says so, and the next one ends what is left."""
    await promote(house)

    class Full(Wrapper):
        keys = house.ring.keys
        rewrap, audit_kek_id = house.ring.rewrap, house.ring.audit_kek_id

        def rewrap_audit_key(self) -> bool | None:
            raise OSError(28, "No space left on device")

    started = await house.desk.master_key.start_rewrap(ACTOR)
    await runner(house, RewrapWorker(Full(), house.store, house.key_check, house.clock)).run_due()
    failed = await house.desk.work.show(None, started.work.id)
    told = await house.store.load_audit(None, limit=5)

    assert failed.work.state is WorkState.FAILED
    assert "No space left on device" in failed.work.error
    assert "master_key.rewrap_stopped" in {row["action"] for row in told}
    assert (await rewrap(house))["left"] == 0


async def test_nothing_is_retired_while_the_audit_key_cannot_be_read(house: House) -> None:
    """Nobody can tell then what it hangs on; the log's key is worth as much as any workspace's."""
    old = house.ring.keys[0]
    await promote(house)
    await rewrap(house)
    (house.folder / "audit.key").write_bytes(b"{}")
    with pytest.raises(Problem, match=r"audit\.key cannot be read"):
        await house.desk.master_key.retire(old.kek_id, ACTOR)
    result = await rewrap(house)

    assert result["named"] == ["audit.key"]
    assert house.ring.problem == ""
