"""The console's section about the master key: who has which, what is left, the rewrap, and what does not open."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.console.console_pages import Console, open_console
from tests.control.house import ACTOR

from ownkey.control.master_key_work import RewrapWorker
from ownkey.control.work import WorkRunner
from ownkey.domain.master_key import KeyProcess
from ownkey.domain.work import WorkKind
from ownkey.store.export_files import ExportFiles
from ownkey.vault.keyset_file import KeysetFile


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    async with open_console(tmp_path) as opened:
        yield opened


async def test_the_master_key_is_rotated_from_the_page(console: Console) -> None:
    """portal.md §10: keys, processes and what is left; the rewrap needs a reason and leaves one in the log; its
    progress is on the page, and support sees all of it and can start nothing."""
    house, file = console.control, KeysetFile(console.control.folder / "master.key")
    await house.with_key()
    await house.key_keeper.run()
    old = file.read().primary_id
    calm = await console.get("/console/system")
    new = file.add()
    file.promote(new)
    await house.key_keeper.run()
    seen, looked = await console.get("/console/system"), await console.get("/console/system", "support")
    home = await console.get("/console")
    form = await console.get("/console/system/rewrap")
    unreasoned = await console.post("/console/system/rewrap", {"reason": ""})
    started = await console.post("/console/system/rewrap", {"reason": "Yearly rotation, OPS-12"})
    running = await console.follow(started)
    worker = RewrapWorker(house.ring, house.store, house.key_check, house.clock)
    await WorkRunner(
        house.store, {WorkKind.REWRAP: worker}, ExportFiles(house.folder / "exports"), house.clock
    ).run_due()
    ended = await console.get("/console/system")

    assert "Every data key is under the first key." in calm.text
    assert "/console/system/rewrap" not in calm.html
    assert f"{new} primary 0" in seen.text
    assert f"{old} 3" in seen.text
    assert "3 data keys hang on another key than the first" in seen.text
    assert "here:1" in seen.text
    assert "1 of 1" in seen.text
    assert 'href="/console/system/rewrap"' in seen.html
    assert 'href="/console/system/rewrap"' not in looked.html
    assert "3 data keys are left under older keys." in home.text
    assert 'name="reason"' in form.html
    assert (unreasoned.status, "A reason has" in unreasoned.text) == (422, True)
    assert "The rewrap has begun" in running.text
    assert "Waiting to begin." in running.text
    assert f"3 data keys moved to {new}; left: 0." in ended.text
    assert [(action, after) for action, _, after in await console.audit() if action == "operator.reason"] == [
        ("operator.reason", {"for": "master_key.rewrap", "reason": "Yearly rotation, OPS-12"})]
    assert file.path.read_text().split(":")[1][:20] not in ended.html


async def test_the_page_says_why_a_rewrap_has_to_wait(console: Console) -> None:
    """A process with another first key: the sentence stands beside the form, with what was typed."""
    house = console.control
    await house.workspace()
    await house.key_keeper.run()
    old = house.ring.keys[0]
    new = KeysetFile(house.folder / "master.key").add()
    KeysetFile(house.folder / "master.key").promote(new)
    await house.key_keeper.run()
    now = house.clock.now_ms()
    other = KeyProcess("b", "<i>there</i>", 7, now, now, (old,), "")
    await house.store.save_key_process(other, stale_ms=0, actor=ACTOR)
    seen = await console.post("/console/system/rewrap", {"reason": "Yearly rotation"})

    assert seen.status == 409
    assert "operator.reason" not in {action for action, _, _ in await console.audit()}
    assert "has another first key" in seen.text
    assert 'value="Yearly rotation"' in seen.html
    assert "<i>there" not in seen.html


async def test_no_page_stays_green_over_what_does_not_open(console: Console) -> None:
    """§12: home and System say that a row does not open, and how many; before the first look home does not say well."""
    house = console.control
    workspace = await house.with_key(name="Broken")
    await house.key_keeper.run()
    early = await console.get("/console")
    await house.key_check.run()
    well = await console.get("/console")
    house.store._writing.execute("UPDATE credential SET ciphertext = x'00' WHERE workspace_id = ?", (workspace.id,))
    await house.key_check.run()
    bad, system = await console.get("/console"), await console.get("/console/system", "support")
    house.store._writing.execute("UPDATE operator SET totp_ciphertext = x'00' WHERE email = 'sam@example.com'")
    await house.key_check.run()
    worse = await console.get("/console/system")

    assert "2 sealed rows do not open (data keys: 0, credentials: 1, operators' seeds: 1)." in worse.text
    assert "seed of sam@example.com" in worse.text
    assert "Not every sealed row has been looked at yet." in early.text
    assert "Every sealed row opens." in well.text
    assert "1 sealed row does not open." in bad.text
    assert "1 sealed row does not open (data keys: 0, credentials: 1, operators' seeds: 0)." in system.text
    assert f"/console/workspaces/{workspace.id}" in system.html
    assert "All of them open." not in system.text


async def test_a_refused_keyset_is_on_the_page(console: Console) -> None:
    """What lies there now is not what is in force, and the page says so."""
    house = console.control
    await house.key_keeper.run()
    (house.folder / "master.key").write_text("nonsense\n")
    await house.key_keeper.run()
    seen, home = await console.get("/console/system"), await console.get("/console")

    assert "A changed keyset was refused, and the old one stays in force" in seen.text
    assert "A changed keyset was refused" in home.text
    assert "nonsense" not in seen.html
