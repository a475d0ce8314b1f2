"""A workspace's data is its owner's alone: everything as one file without a key, and an end that asks for the name."""

import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.control.house import ACTOR, KEYS
from tests.portal.key_pages import every_key, save
from tests.portal.visiting import Portal, open_portal

from ownkey.control.export_work import ExportAllWorker
from ownkey.control.portal_sessions import PortalWish
from ownkey.control.problems import Problem, ProblemCode
from ownkey.control.work import WorkRunner
from ownkey.domain.work import WorkKind
from ownkey.domain.workspace import Role
from ownkey.store.export_files import ExportFiles

PATH = "/portal/data"


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as opened:
        await save(opened, label="Main")
        yield opened


async def run_work(portal: Portal) -> None:
    house = portal.control
    files = ExportFiles(house.folder / "exports")
    worker = ExportAllWorker(house.store, house.desk.exports, files)
    await WorkRunner(house.store, {WorkKind.EXPORT_ALL: worker}, files, house.clock).run_due()


async def fetch(portal: Portal, path: str, role: Role = Role.OWNER) -> tuple[int, dict[str, str], bytes]:
    """A download, byte by byte as it was sent."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    seen = await portal.get(PATH, role)  # puts the visitor at the door
    assert seen.status in (200, 403)
    await portal.app({
        "type": "http", "method": "GET", "path": path, "query_string": b"", "scheme": "http", "client": None,
        "headers": [(b"host", b"ownkey.test")],
    }, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("role", [Role.ADMIN, Role.MEMBER, Role.VIEWER])
async def test_only_an_owner_comes_here(portal: Portal, role: Role) -> None:
    """Page and forms alike; an operator who looks as the owner does may not either."""
    pages = [await portal.get(PATH, role), await portal.post(f"{PATH}/export", {}, role),
             await portal.post(f"{PATH}/delete", {"name": "Acme"}, role)]
    portal.more = {"kind": "view_as"}
    pages.append(await portal.get(PATH))

    assert [seen.status for seen in pages] == [403] * 4
    assert (await portal.control.again(portal.workspace)).name == "Acme"
    assert await portal.control.desk.work.list(portal.workspace) == []


async def test_export_all(portal: Portal) -> None:
    """Started once, however often it is clicked; told while it waits; fetched when it is there; no key in it."""
    started = await portal.follow(await portal.post(f"{PATH}/export"))
    await portal.post(f"{PATH}/export")
    rows = await portal.control.desk.work.list(portal.workspace)
    await run_work(portal)
    done = await portal.get(PATH)
    status, headers, data = await fetch(portal, f"{PATH}/export/{rows[0].work.id}")
    files = zipfile.ZipFile(io.BytesIO(data))

    assert "Waiting to begin." in started.text
    assert '<meta http-equiv="refresh" content="3">' in started.html
    assert 'id="start-export"' not in started.html
    assert len(rows) == 1
    assert rows[0].work.member_id == "u_1"
    assert f'href="{PATH}/export/{rows[0].work.id}" download' in done.html
    assert (status, headers["content-type"]) == (200, "application/zip")
    assert headers["content-disposition"].startswith('attachment; filename="')
    assert files.namelist()
    assert every_key("".join(files.read(name).decode() for name in files.namelist())) == []


async def test_an_export_can_be_cancelled(portal: Portal) -> None:
    """And begun again."""
    await portal.post(f"{PATH}/export")
    row = (await portal.control.desk.work.list(portal.workspace))[0]
    seen = await portal.follow(await portal.post(f"{PATH}/export/{row.work.id}/cancel"))

    assert "Cancelled." in seen.text
    assert 'id="start-export"' in seen.html
    assert (await fetch(portal, f"{PATH}/export/{row.work.id}"))[0] == 404


async def test_other_work_and_other_workspaces_are_not_fetched_here(portal: Portal) -> None:
    """An id of another kind or another workspace is unknown."""
    desk = portal.control.desk
    other = await portal.control.workspace("Other")
    theirs = await desk.work.start(other, "export_all", {}, portal.session(Role.OWNER).actor)
    replay = await desk.work.start(portal.workspace, "replay", {}, portal.session(Role.OWNER).actor)

    for work in (theirs.work.id, replay.work.id, "work_nobody"):
        assert (await portal.get(f"{PATH}/export/{work}")).status == 404
        assert (await portal.post(f"{PATH}/export/{work}/cancel")).status == 404


async def test_deleting_says_what_goes_and_what_stays(portal: Portal) -> None:
    """Before anything is typed."""
    seen = await portal.get(PATH)

    assert "1 saved API key, and the data key that opens it" in seen.text
    assert "all access tokens" in seen.text
    assert "What stays: receipts, ledger and audit log" in seen.text
    assert "Type the workspace's name to confirm" in seen.text


@pytest.mark.parametrize("typed", ["", "acme", "Acme Ltd", "<b>Acme</b>", KEYS["openrouter"]])
async def test_another_name_deletes_nothing(portal: Portal, typed: str) -> None:
    """What was typed stays, escaped."""
    seen = await portal.post(f"{PATH}/delete", {"name": typed})

    assert seen.status == 422
    assert "This is not the workspace's name, so nothing was deleted." in seen.text
    assert "<b>Acme</b>" not in seen.html
    assert (await portal.control.again(portal.workspace)).credentials


async def test_the_name_deletes_it(portal: Portal) -> None:
    """The key and the data key are gone, books stay, sessions have ended, and the last page leads back."""
    portal.more = {"return_url": "https://app.example.com/settings/ai"}
    sessions = portal.control.desk.portal_sessions
    wish = PortalWish("u_1", "ada@example.com", Role.OWNER, "page")
    minted = await sessions.mint(portal.workspace, wish, ACTOR)
    entered = await sessions.enter(minted.code, mode="page")
    tested = await portal.post("/portal/credentials/openrouter/test")
    seen = await portal.post(f"{PATH}/delete", {"name": "  Acme "})
    audit = await portal.control.desk.audit.list(portal.workspace, 1)
    with pytest.raises(Problem) as gone:
        await portal.control.again(portal.workspace)

    assert tested.status == 200
    assert (seen.status, "The workspace is deleted" in seen.text) == (200, True)
    assert 'href="https://app.example.com/settings/ai" target="_top"' in seen.html
    assert "Back to Support desk" in seen.text
    assert gone.value.code is ProblemCode.NOT_FOUND
    assert audit[0]["action"] == "workspace.deleted"
    assert await sessions.find(entered.secret) is None
    assert not (await portal.control.desk.verify.run()).findings


async def test_forms_opened_as_pages_lead_back(portal: Portal) -> None:
    """A reload of a form's address."""
    assert (await portal.get(f"{PATH}/delete")).headers["location"] == PATH
    assert (await portal.get(f"{PATH}/export")).headers["location"] == PATH
