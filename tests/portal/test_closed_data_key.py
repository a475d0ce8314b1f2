"""A workspace whose data key does not open (damaged, or its master key is gone): every door says so, clearly and as our
own fault; nothing is sent, stored or lost, operators are told, and no page stays green.
"""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.management import open_management
from tests.control.house import ACTOR, KEYS, House
from tests.portal.key_pages import PATH, card, every_key, save
from tests.portal.test_credentials_sign_in import Browser, begin, way_back
from tests.portal.visiting import Portal, Seen, open_portal

from ownkey.control.operator_setup import Seeds
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.workspace import Role, WorkspaceState

TOLD = "The data key that this is sealed with cannot be opened"


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as opened:
        yield opened


async def damage(house: House, workspace: WorkspaceState) -> None:
    """A byte of the wrapped data key is another one, as after a bad restore."""
    await house.store.writer.submit(lambda conn: conn.execute(
        "UPDATE dek SET ciphertext = zeroblob(length(ciphertext)) WHERE workspace_id = ?", (workspace.id,)
    ))
    house.store._forget(workspace.id)


def asked(portal: Portal) -> int:
    return len(portal.control.upstream.sent)


def is_told(seen: Seen, status: int = 503) -> None:
    assert seen.status == status, seen.text
    assert TOLD in seen.text
    assert "restore the master key, or the data key from a backup" in seen.text
    assert every_key(seen.html) == []


async def test_a_saved_key_turns_undecryptable_with_its_test(
    portal: Portal, caplog: pytest.LogCaptureFixture
) -> None:
    """Test of the saved key: the card says what is so, the pill is not green, and the log alarms operators."""
    await save(portal)
    await damage(portal.control, portal.workspace)
    before = asked(portal)
    seen = await portal.post(f"{PATH}/openrouter/test")
    counts = await portal.control.desk.overview.counts()

    is_told(seen)
    assert card(seen).state == "undecryptable"
    assert card(seen).result == "refused"
    assert card(seen).buttons == ["Replace", "Disconnect"]
    assert "AI on" not in seen.text
    assert asked(portal) == before
    assert counts.undecryptable == 1
    assert any(portal.workspace.id in line.getMessage() and line.levelno == logging.CRITICAL for line in caplog.records)


@pytest.mark.parametrize("way", ["test", "save"])
async def test_a_typed_key_is_sent_nowhere(portal: Portal, way: str) -> None:
    """Test and Save of another key: refused before any provider is asked; what was saved is marked, and stays."""
    await save(portal, "anthropic")
    await damage(portal.control, portal.workspace)
    before = asked(portal)
    seen = await portal.post(f"{PATH}/openrouter/{way}", {"key": KEYS["openrouter"], "label": "Mine"})
    await portal.control.store.writer.submit(lambda conn: None)
    after = await portal.get(PATH)

    is_told(seen)
    assert 'value="Mine"' in card(seen).html
    assert asked(portal) == before
    assert card(after, "anthropic").state == "undecryptable"
    assert card(after).state == "empty"


async def test_a_sealed_candidate_that_does_not_open(portal: Portal) -> None:
    """Between a Test and its Save without JavaScript: the fault is ours, not that the page is too old."""
    tested = await portal.post(f"{PATH}/openrouter/test", {"key": KEYS["openrouter"], "label": ""})
    candidate = card(tested).hidden("candidate")
    await damage(portal.control, portal.workspace)
    for way in ("test", "save"):
        is_told(await portal.post(f"{PATH}/openrouter/{way}", {"candidate": candidate}))


@pytest.mark.parametrize("label", ["", "x" * 200])
async def test_nothing_else_that_is_wrong_hides_it_or_breaks(portal: Portal, label: str) -> None:
    """A bad label beside it is told first, and the key is not kept in the page."""
    await damage(portal.control, portal.workspace)
    seen = await portal.post(f"{PATH}/openrouter/save", {"key": KEYS["openrouter"], "label": label})

    assert seen.status == (422 if label else 503)
    assert 'name="candidate"' not in seen.html


async def test_a_sign_in_cannot_be_begun(portal: Portal) -> None:
    """Before anybody is led to OpenRouter."""
    await damage(portal.control, portal.workspace)
    is_told(await portal.post(f"{PATH}/openrouter/sign-in"))


async def test_a_sign_in_that_was_begun_ends_without_a_key(portal: Portal) -> None:
    """The code is not exchanged, so no key is made that would be lost."""
    _, url = await begin(portal)
    await damage(portal.control, portal.workspace)
    back = await Browser(portal, portal.session(Role.OWNER)).open(way_back(url))
    after = await portal.get(back.headers["location"].removeprefix("https://ownkey.test"))

    assert back.status_code == 303
    assert "ownkey_code=data_key_closed" in back.headers["location"]
    assert "OpenRouter is not connected" in after.text
    assert "our fault" in after.text
    assert not [sent for sent in portal.control.upstream.sent if sent.path.endswith("/auth/keys")]


async def test_a_comparison_of_figures(portal: Portal) -> None:
    """Compare now, under Spend, opens the key too."""
    await save(portal)
    await damage(portal.control, portal.workspace)
    seen = await portal.post("/portal/spend/compare")

    assert 400 <= seen.status < 500
    assert "cannot be opened" in seen.text


@pytest.mark.parametrize("role", list(Role))
async def test_every_page_still_opens(portal: Portal, role: Role) -> None:
    """Nobody is shut out by it, and changes that seal nothing go on."""
    await save(portal)
    await damage(portal.control, portal.workspace)
    for page in ("credentials", "features", "spend", "activity", "plans", "projects", "why", "notices", "data"):
        assert (await portal.get(f"/portal/{page}", role)).status in (200, 403), page
    if role is Role.OWNER:
        for act in ("disable", "enable", "disconnect"):
            assert (await portal.post(f"{PATH}/openrouter/{act}")).status == 303


async def test_the_api_answers_in_its_own_form(tmp_path: Path) -> None:
    """Test, Save, and both ends of a sign-in: 503 data_key_closed with a sentence and a fix."""
    async with open_management(tmp_path) as api:
        base = f"/workspaces/{api.own.id}"
        started = await api.good("POST", f"{base}/connect/openrouter", {"callback_url": "http://localhost:3000/cb"})
        state = started["authorization_url"].partition("state%3D")[2][:43]
        await damage(api.house, api.own)
        asks: list[tuple[str, str, dict[str, Any]]] = [
            ("POST", f"{base}/credentials/openrouter/test", {"key": KEYS["openrouter"]}),
            ("PUT", f"{base}/credentials/openrouter", {"key": KEYS["openrouter"]}),
            ("POST", f"{base}/connect/openrouter", {"callback_url": "http://localhost:3000/cb"}),
            ("POST", f"{base}/connect/openrouter/finish", {"state": state, "code": "the-code"}),
        ]
        for method, path, body in asks:
            error = await api.bad(503, method, path, body)
            assert error["code"] == "data_key_closed", path
            assert error["message"].startswith(TOLD)
            assert "ownkey verify" in error["fix"]["text"]


async def test_an_operators_seed(portal: Portal) -> None:
    """The platform's own data key: neither opening a seed nor sealing a new one breaks, and no useless new link is
    asked for."""
    house = portal.control

    class Platform:
        async def platform(self, actor: Any) -> WorkspaceState:
            return await house.desk.workspaces.platform(ACTOR)

    seeds = Seeds(house.vault, Platform())
    sealed = await seeds.seal("op_1", b"a seed of twenty byte")
    await damage(house, await Platform().platform(None))
    for ask in (lambda: seeds.open("op_1", sealed), lambda: seeds.seal("op_1", b"another")):
        with pytest.raises(Problem) as found:
            await ask()
        assert found.value.code is ProblemCode.DATA_KEY_CLOSED
        assert "new link" not in found.value.fix
