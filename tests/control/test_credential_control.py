"""Credentials: checked, sealed, shown as a hint, switched and destroyed; never repeated."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.control.house import ACTOR, KEYS, House, open_house

from ownkey.control.credentials import CardState, CredentialControl
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.failures import UpstreamError
from ownkey.domain.workspace import CredentialStatus, EntitlementState, Health, WorkspaceState


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, "app-builder") as opened:
        yield opened


async def test_saving_says_the_exact_words(house: House) -> None:
    """G16: "OpenRouter API key saved successfully." """
    workspace = await house.workspace()

    saved = await house.save_key(workspace)

    assert saved.message == "OpenRouter API key saved successfully."
    assert (await house.again(workspace)).credentials["openrouter"].hint == "sk-or-…" + KEYS["openrouter"][-4:]


async def test_a_saved_key_opens_and_travels(house: House) -> None:
    """T28: what was sealed is what the provider gets, and nothing else is stored."""
    workspace = await house.with_key()
    opened = house.opener.open(workspace, workspace.credentials["openrouter"])

    assert opened.reveal() == KEYS["openrouter"]
    stored = (house.folder / "ownkey.db").read_bytes() + (house.folder / "ownkey.db-wal").read_bytes()
    assert KEYS["openrouter"].encode()[:30] not in stored
    assert KEYS["openrouter"].encode()[-20:] not in stored


async def test_a_replacement_is_one_version_higher(house: House) -> None:
    """The same credential, a new version; the old ciphertext is gone."""
    workspace = await house.with_key()
    before = workspace.credentials["openrouter"]

    saved = await house.save_key(workspace, key="sk-or-v1-" + "beef" * 16)

    after = (await house.again(workspace)).credentials["openrouter"]
    assert saved.replaced
    assert (after.id, after.version) == (before.id, before.version + 1)
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize(("typed", "code"), [
    ("sk-or-v1-abc def", ProblemCode.CREDENTIAL_MALFORMED), ("", ProblemCode.CREDENTIAL_MALFORMED),
    (KEYS["anthropic"], ProblemCode.CREDENTIAL_WRONG_KIND), ("sk-or-•••", ProblemCode.CREDENTIAL_MALFORMED),
])
async def test_a_clumsy_paste_is_told_and_not_repeated(house: House, typed: str, code: ProblemCode) -> None:
    """The sentence says what is wrong; the key is not in it."""
    workspace = await house.workspace()
    with pytest.raises(Problem) as caught:
        await house.desk.credentials.save(
            workspace, "openrouter", typed, label="", save_anyway=False, address="a", actor=ACTOR
        )

    assert caught.value.code is code
    assert not typed or typed not in str((caught.value.message, caught.value.fix, caught.value.details))
    assert not house.upstream.sent


async def test_a_rejected_key_leaves_the_older_one_in_service(house: House) -> None:
    """Portal, 4.1: wrong_kind and rejected are refused."""
    workspace = await house.with_key()
    house.upstream.script["/key"] = (401, {"error": {"code": 401, "message": "no"}})

    with pytest.raises(Problem) as caught:
        await house.save_key(workspace, key="sk-or-v1-" + "dead" * 16)

    assert caught.value.code is ProblemCode.CREDENTIAL_NOT_ACCEPTED
    assert (await house.again(workspace)).credentials["openrouter"].version == 1


async def test_save_anyway_is_for_an_unreachable_provider_only(house: House) -> None:
    """T11: an outage does not keep anyone from saving, once it was said; a refusal does."""
    workspace = await house.workspace()
    save = house.desk.credentials.save
    house.upstream.script["/key"] = UpstreamError("connect refused", sent=False, received=False)
    with pytest.raises(Problem) as caught:
        await house.save_key(workspace)
    key = KEYS["openrouter"]
    saved = await save(workspace, "openrouter", key, label="", save_anyway=True, address="a", actor=ACTOR)
    house.upstream.script["/key"] = (401, {"error": {"code": 401, "message": "no"}})
    with pytest.raises(Problem) as still:
        await save(workspace, "openrouter", key, label="", save_anyway=True, address="a", actor=ACTOR)

    assert caught.value.code is ProblemCode.CREDENTIAL_UNREACHABLE
    assert saved.view.credential is not None
    assert saved.view.credential.health is Health.UNKNOWN
    assert still.value.code is ProblemCode.CREDENTIAL_NOT_ACCEPTED


async def test_a_key_without_money_is_saved_with_a_warning(house: House) -> None:
    """Portal, 4.1: works_no_balance is saved."""
    house.upstream.script["/key"] = (200, {"data": {"limit": 5, "limit_remaining": 0}})

    saved = await house.save_key(await house.workspace())

    assert saved.view.credential.health is Health.NO_FUNDS
    assert "no money" in saved.check.sentence


async def test_what_a_test_found_speaks_for_the_key_that_is_saved_next(house: House) -> None:
    """Portal, 4.1: only the Test's call meets an empty account; the warning stays after Save, until a Test works or the
    page would have forgotten the key."""
    workspace = await house.workspace()
    empty = (402, {"error": {"code": 402, "message": "Insufficient credits"}})

    async def test_it(**answers: Any) -> None:
        house.upstream.script.update(answers)
        await house.desk.key_test.run(
            workspace, "openrouter", KEYS["openrouter"], address="192.0.2.1", actor=ACTOR, token_id="tok_test"
        )

    await test_it(**{"/chat/completions": empty, "/embeddings": empty})
    warned = await house.save_key(workspace)
    house.clock.pass_s(601)
    later = await house.save_key(workspace)
    await test_it()
    house.upstream.script.pop("/chat/completions")
    house.upstream.script.pop("/embeddings")
    await test_it()
    topped_up = await house.save_key(workspace)

    assert warned.view.credential.health is Health.NO_FUNDS
    assert any("no money" in warning for warning in warned.warnings)
    assert later.view.credential.health is Health.OK
    assert topped_up.view.credential.health is Health.OK


async def test_direct_keys_wait_for_openrouter(tmp_path: Path) -> None:
    """T5, T17: kept, shown as inactive, and in force once the OpenRouter key is there."""
    async with open_house(tmp_path, "support-desk") as house:
        workspace = await house.with_key("anthropic")
        waiting = house.desk.credentials.view(workspace, "anthropic")
        await house.save_key(workspace)
        workspace = await house.again(workspace)

        assert waiting.state is CardState.WAITING
        assert house.desk.credentials.view(workspace, "anthropic").state is CardState.CONNECTED
        assert (await house.desk.status.show(workspace)).sentence.endswith(
            "Claude calls use your Anthropic key first; if it fails, your OpenRouter key answers."
        )


async def test_disable_keeps_and_enable_restores(house: House) -> None:
    """G20–G22: one click each way; the ciphertext stays."""
    included = next(p.name for p in house.product.plans.values() if p.byok == "included")
    workspace = await house.with_key(plan=included)
    off = await house.desk.credentials.set_enabled(workspace, "openrouter", False, ACTOR)
    on = await house.desk.credentials.set_enabled(workspace, "openrouter", True, ACTOR)

    assert off.state is CardState.DISABLED
    assert off.credential is not None
    assert off.credential.status is CredentialStatus.DISABLED
    assert on.state is CardState.CONNECTED


async def test_disconnecting_under_always_asks_first(house: House) -> None:
    """G17, G25: AI would stop, and nobody is surprised by that."""
    workspace = await house.with_key()
    workspace = await house.desk.workspaces.change(workspace, {"always_use_key": True}, ACTOR)
    with pytest.raises(Problem) as caught:
        await house.desk.credentials.disconnect(workspace, "openrouter", False, ACTOR)
    await house.desk.credentials.disconnect(workspace, "openrouter", True, ACTOR)

    assert caught.value.code is ProblemCode.ACKNOWLEDGEMENT_REQUIRED
    assert "every AI call stops" in caught.value.message
    assert not (await house.again(workspace)).credentials


async def test_a_disconnected_keys_bytes_are_gone(house: House) -> None:
    """The ciphertext is destroyed; a new key is a new credential."""
    workspace = await house.with_key()
    before = workspace.credentials["openrouter"]
    await house.desk.credentials.disconnect(workspace, "openrouter", False, ACTOR)
    stored = (house.folder / "ownkey.db").read_bytes()

    assert before.sealed.ciphertext not in stored
    await house.save_key(workspace)
    assert (await house.again(workspace)).credentials["openrouter"].id != before.id


async def test_an_inactive_add_on_parks_the_key(house: House) -> None:
    """G9: kept encrypted, not used, works again when paid without a new paste."""
    workspace = await house.with_key()
    parked = await house.desk.workspaces.set_entitlement(workspace, EntitlementState.INACTIVE, ACTOR)
    paid = await house.desk.workspaces.set_entitlement(parked, EntitlementState.ACTIVE, ACTOR)

    assert house.desk.credentials.view(parked, "openrouter").state is CardState.PARKED
    assert house.desk.credentials.view(paid, "openrouter").state is CardState.CONNECTED


async def _view(desk: CredentialControl, workspace: WorkspaceState, provider: str) -> object:
    return desk.view(workspace, provider)


ACTIONS: dict[str, Callable[[CredentialControl, WorkspaceState, str], Awaitable[object]]] = {
    "save": lambda desk, w, p: desk.save(w, p, "x", label="", save_anyway=False, address="a", actor=ACTOR),
    "enable": lambda desk, w, p: desk.set_enabled(w, p, True, ACTOR),
    "disconnect": lambda desk, w, p: desk.disconnect(w, p, True, ACTOR),
    "view": _view,
}


@pytest.mark.parametrize("action", ACTIONS)
async def test_an_unknown_provider_gets_a_suggestion(house: House, action: str) -> None:
    """`opnrouter` → did you mean openrouter?"""
    workspace = await house.workspace()
    with pytest.raises(Problem) as caught:
        await ACTIONS[action](house.desk.credentials, workspace, "opnrouter")

    assert caught.value.code is ProblemCode.UNKNOWN_PROVIDER
    assert "openrouter" in caught.value.fix


async def test_a_parked_key_says_why(house: House) -> None:
    """A plan without calls with an own key: the key is kept, and the card and the answer say what it waits for."""
    workspace = await house.workspace(plan="free")
    saved = await house.save_key(workspace)
    words = (
        "The free plan does not include calls with an own key; the key is kept and works once the add-on is bought or "
        "the plan includes it."
    )

    assert saved.view.state is CardState.PARKED
    assert saved.view.sentence == words
    assert words in saved.warnings


async def test_an_unverified_key_is_never_said_to_pay(tmp_path: Path) -> None:
    """Saved while the provider was down: the message, the card and the payer's sentence all say so."""
    async with open_house(tmp_path) as desk:
        workspace = await desk.workspace()
        desk.upstream.script["/key"] = UpstreamError("connect refused", sent=False, received=False)
        saved = await desk.desk.credentials.save(
            workspace, "openrouter", KEYS["openrouter"], label="", save_anyway=True, address="a", actor=ACTOR
        )
        status = await desk.desk.status.show(await desk.again(workspace))

        assert saved.message == "OpenRouter API key saved, unverified."
        assert saved.view.sentence.startswith("Saved, unverified")
        assert "is saved, unverified: it pays for every AI call if OpenRouter accepts it." in status.sentence


async def test_save_anyway_does_not_put_a_word_in_a_good_keys_place(house: House) -> None:
    """`hello` begins like no key: beside a key that tested well it is refused, alone it is saved with a warning."""
    save = house.desk.credentials.save
    workspace, bare = await house.with_key(), await house.workspace("Bare")
    house.upstream.script["/key"] = UpstreamError("connect refused", sent=False, received=False)
    with pytest.raises(Problem) as caught:
        await save(workspace, "openrouter", "hello", label="", save_anyway=True, address="a", actor=ACTOR)
    alone = await save(bare, "openrouter", "hello", label="", save_anyway=True, address="a", actor=ACTOR)
    other = await save(
        workspace, "openrouter", "sk-or-v1-" + "77aa" * 16, label="", save_anyway=True, address="a", actor=ACTOR
    )

    assert caught.value.code is ProblemCode.CREDENTIAL_MALFORMED
    assert "tested well" in caught.value.message
    assert "disconnect" in caught.value.fix
    assert any("does not look like an OpenRouter key" in warning for warning in alone.warnings)
    assert any(warning.startswith("It replaces the key sk-or-…") for warning in other.warnings)
