"""Disable, Enable, Disconnect and the switches: each says first who will pay, and changes nothing that is stale."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.control.house import ACTOR, KEYS
from tests.portal.key_pages import PATH, card, entitle, every_key, save
from tests.portal.visiting import Portal, open_portal

from ownkey.domain.workspace import CredentialStatus, WorkspaceState


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as portal:
        await save(portal)
        yield portal


@pytest.fixture
async def builder(tmp_path: Path) -> AsyncIterator[Portal]:
    """App builder, entitled, with a key, and a platform key behind its credits."""
    async with open_portal(tmp_path, "app-builder") as portal:
        platform = await portal.control.desk.workspaces.platform(ACTOR)
        await portal.control.desk.credentials.save(
            platform, "openrouter", "sk-or-v1-" + "ab" * 32, label="", save_anyway=False, address="", actor=ACTOR,
        )
        await entitle(portal)
        await save(portal)
        yield portal


async def now(portal: Portal) -> WorkspaceState:
    return await portal.control.again(portal.workspace)


async def test_disable_says_first_what_it_does(desk: Portal) -> None:
    """G20: its own page, with the coming payer; nothing has changed until it is sent."""
    seen = await desk.get(f"{PATH}/openrouter/disable")
    asked = card(seen)

    assert "Disable the OpenRouter key sk-or-…5a7e?" in asked.text
    assert "The key stays stored, encrypted" in asked.text
    assert "From then on: AI features are off: the OpenRouter API key is disabled." in asked.text
    assert asked.buttons == ["Disable"]
    assert f'href="{PATH}#openrouter">Cancel' in asked.html
    assert "Also turn off" not in asked.text
    assert (await now(desk)).credentials["openrouter"].status is CredentialStatus.ENABLED


async def test_disable_and_enable(desk: Portal) -> None:
    """G20, G26: one click to undo, without a paste, and the page says what is so."""
    off = await desk.follow(await desk.post(f"{PATH}/openrouter/disable", {"version": "1"}))
    late = await desk.post(f"{PATH}/openrouter/disable", {"version": "1"})
    form = {"version": card(off).hidden("version")}
    on = await desk.follow(await desk.post(f"{PATH}/openrouter/enable", form))

    assert "The OpenRouter key is disabled: kept encrypted, and not used." in off.text
    assert card(off).state == "disabled"
    assert late.status == 409
    assert "The OpenRouter key is enabled and used from the next call on." in on.text
    assert "Your OpenRouter key (…5a7e) pays for every AI call." in on.text


async def test_disconnect_destroys_the_key(desk: Portal) -> None:
    """G25, G27: it cannot be undone, Disable is offered instead, and the card is empty afterwards."""
    asked = card(await desk.get(f"{PATH}/openrouter/disconnect"))
    seen = await desk.follow(await desk.post(f"{PATH}/openrouter/disconnect", {"version": asked.hidden("version")}))
    files = b"".join(path.read_bytes() for path in desk.control.folder.glob("ownkey.db*"))

    assert "This cannot be undone" in asked.text
    assert "Disable it instead" in asked.text
    assert "From then on: AI features are off until an OpenRouter API key is saved." in asked.text
    assert "The OpenRouter key is disconnected and destroyed." in seen.text
    assert 'data-provider="openrouter" data-state="empty" data-event="credential-disconnected"' in seen.html
    assert card(seen).state == "empty"
    assert every_key(files.decode("latin-1")) == []


async def test_disconnecting_openrouter_warns_of_direct_keys(desk: Portal) -> None:
    """T5, T17: without an OpenRouter key AI stops, whatever direct keys there are."""
    alone = card(await desk.get(f"{PATH}/openrouter/disconnect"))
    await save(desk, "anthropic")
    warned = card(await desk.get(f"{PATH}/openrouter/disconnect"))
    direct = card(await desk.get(f"{PATH}/anthropic/disconnect"), "anthropic")

    assert "direct keys" not in alone.text
    assert "Your direct keys stay saved but wait" in warned.text
    assert "without an OpenRouter key they are not used, and AI stops." in warned.text
    assert "From then on: Your OpenRouter key (…5a7e) pays for every AI call." in direct.text


async def test_disconnecting_reverts_to_credits(builder: Portal) -> None:
    """G20–G22, G27: the coming sentence is the one that is so afterwards."""
    asked = card(await builder.get(f"{PATH}/openrouter/disconnect"))
    seen = await builder.follow(await builder.post(f"{PATH}/openrouter/disconnect", {"version": "1"}))

    assert "From then on: App builder credits pay for every AI call." in asked.text
    assert "From the next call on: App builder credits pay for every AI call." in seen.text


@pytest.mark.parametrize("act", ["disable", "disconnect"])
async def test_always_on_says_that_ai_will_stop(builder: Portal, act: str) -> None:
    """G17–G19: said before, with both ways it can go on, and so it is."""
    await builder.post(f"{PATH}/always", {"always_use_key": "on"})
    asked = card(await builder.get(f"{PATH}/openrouter/{act}"))
    stopped = await builder.follow(await builder.post(f"{PATH}/openrouter/{act}", {"version": "1"}))
    after = await now(builder)

    assert "Always use this key is on, so AI will stop." in asked.text
    assert "Credits are not touched." in asked.text
    assert "From then on:" not in asked.text, "it is said once"
    assert "Also turn off Always use this key Then: App builder credits pay for every AI call." in asked.text
    assert "AI calls are stopped" in stopped.text
    assert after.always_use_key is True


@pytest.mark.parametrize("act", ["disable", "disconnect"])
async def test_always_goes_off_with_the_key(builder: Portal, act: str) -> None:
    """G20–G22: one change, so that no call in between finds AI stopped; both stand in the audit log."""
    await builder.post(f"{PATH}/always", {"always_use_key": "on"})
    done = await builder.post(f"{PATH}/openrouter/{act}", {"version": "1", "also_turn_off_always": "on"})
    seen = await builder.follow(done)
    after = await now(builder)
    audit = await builder.control.desk.audit.list(builder.workspace, 5)
    told = [row for row in await builder.control.store.load_outbox(builder.workspace.id, limit=50)
            if "always_use_key" in str(row) and act in ("disable", "disconnect")]

    assert after.always_use_key is False
    assert "From the next call on: App builder credits pay for every AI call." in seen.text
    assert {row["action"] for row in audit[:2]} == {
        "workspace.changed", "credential.status" if act == "disable" else "credential.deleted",
    }
    assert audit[0]["at_ms"] == audit[1]["at_ms"]
    assert told


async def test_a_direct_key_leaves_always_alone(desk: Portal) -> None:
    """Only the OpenRouter key goes with that switch: a made-up field changes nothing."""
    await save(desk, "anthropic")
    await desk.post(f"{PATH}/anthropic/disable", {"version": "1", "also_turn_off_always": "on"})
    audit = await desk.control.desk.audit.list(desk.workspace, 3)

    assert audit[0]["action"] == "credential.status"
    assert "workspace.changed" not in {row["action"] for row in audit}


@pytest.mark.parametrize("act", ["enable", "disable", "disconnect"])
async def test_a_stale_form_changes_nothing(desk: Portal, act: str) -> None:
    """Somebody replaced the key meanwhile: 409 with the key as it is now."""
    await save(desk)
    before = await now(desk)
    seen = await desk.post(f"{PATH}/openrouter/{act}", {"version": "1"})

    assert seen.status == 409
    assert "Somebody has changed the OpenRouter key meanwhile, so nothing was changed now." in seen.text
    if act != "enable":
        assert card(seen).hidden("version") == "2"
    assert await now(desk) == before


async def test_nothing_saved_is_told(desk: Portal) -> None:
    """A form for a key that is gone answers in words."""
    await desk.post(f"{PATH}/openrouter/disconnect", {"version": "1"})
    seen = await desk.post(f"{PATH}/openrouter/disable")

    assert seen.status == 404
    assert "No OpenRouter API key is saved here." in seen.text


# --- the switches


async def test_a_support_desk_has_no_switches(desk: Portal) -> None:
    """Only products with credits have anything to switch; a form sent all the same is refused in words."""
    seen = await desk.get(PATH)
    sent = await desk.post(f"{PATH}/always", {"always_use_key": "on"})

    assert "Always use this key" not in seen.text
    assert sent.status == 400
    assert "has no credits" in sent.text


async def test_always_use_this_key(builder: Portal) -> None:
    """G17–G19: the switch, its consequence beside it, and the sentence on top."""
    off = await builder.get(PATH)
    on = await builder.follow(await builder.post(f"{PATH}/always", {
        "always_use_key": "on", "version": str((await now(builder)).settings_version),
    }))

    assert 'role="switch" id="s-always_use_key" name="always_use_key" value="on"' in off.html
    assert "Off: if the key is disabled or disconnected, App builder credits pay." in off.text
    assert "On: every AI call goes through your key, and App builder credits are never used" in on.text
    assert "Always use this key is on. From the next call on: Your key (…5a7e) pays for every AI call." in on.text
    assert 'value="on" checked' in on.html


async def test_turning_always_on_without_a_usable_key_is_warned_of(builder: Portal) -> None:
    """The consequence speaks of the key as it is."""
    await builder.post(f"{PATH}/openrouter/disable")
    off = (await builder.get(PATH)).text
    await builder.post(f"{PATH}/always", {"always_use_key": "on"})
    on = (await builder.get(PATH)).text

    assert "Switched on now, AI calls stop at once, because the key cannot be used." in off
    assert "On, and the key cannot be used: AI calls are stopped. Credits are not touched." in on


async def test_credits_if_my_key_fails(builder: Portal) -> None:
    """G20–G22: on with a limit, or off; the sentence on top follows."""
    await builder.post(f"{PATH}/credits-limit", {"limit": "1,200"})
    limited = await builder.get(PATH)
    await builder.post(f"{PATH}/credits-limit", {"limit": ""})
    unlimited = await builder.get(PATH)
    await builder.post(f"{PATH}/if-key-fails", {"credits_if_key_fails": "off"})
    off = await builder.get(PATH)

    assert "credits pay, up to 1200 this month." in limited.text
    assert 'value="1200"' in limited.html
    assert "If it fails, App builder credits pay." in unlimited.text
    assert "Used this month: 0 credits." in unlimited.text
    assert "Off: a call that fails because of the key fails; credits are not used." in off.text


@pytest.mark.parametrize("typed", ["-1", "1.5", "many", "99999999999", "٣"])
async def test_a_limit_is_a_whole_number(builder: Portal, typed: str) -> None:
    """What was typed stays, with what is wrong beside it; nothing has changed."""
    before = await now(builder)
    seen = await builder.post(f"{PATH}/credits-limit", {"limit": typed})

    assert seen.status == 422
    assert "The limit is a whole number of credits, from 0 to one billion." in seen.text
    assert f'value="{typed}"' in seen.html
    assert 'aria-invalid="true"' in seen.html
    assert await now(builder) == before


@pytest.mark.parametrize("form", [("if-key-fails", {"credits_if_key_fails": "on"}), ("credits-limit", {"limit": "5"})])
async def test_credits_are_inert_while_always_is_on(builder: Portal, form: tuple[str, dict[str, str]]) -> None:
    """G17–G19: shown with the reason, disabled; a form sent all the same is refused."""
    await builder.post(f"{PATH}/always", {"always_use_key": "on"})
    seen = await builder.get(PATH)
    before = await now(builder)
    sent = await builder.post(f"{PATH}/{form[0]}", form[1])

    assert "Without effect while Always use this key is on: credits are never used." in seen.text
    assert 'name="credits_if_key_fails" value="on" checked disabled' in seen.html
    assert "Save limit" not in seen.text
    assert sent.status == 409
    assert "Switch Always use this key off first." in sent.text
    assert await now(builder) == before


@pytest.mark.parametrize(("path", "form"), [
    ("always", {"always_use_key": "on"}), ("if-key-fails", {"credits_if_key_fails": "off"}),
    ("credits-limit", {"limit": "5"}), ("on-rejection", {"on_direct_auth_failure": "fail"}),
])
async def test_stale_switches_change_nothing(builder: Portal, path: str, form: dict[str, str]) -> None:
    """409 with the current values and a form that can be sent again."""
    version = (await now(builder)).settings_version
    await builder.control.desk.workspaces.change(await now(builder), {"name": "Acme Ltd"}, ACTOR)
    before = await now(builder)
    seen = await builder.post(f"{PATH}/{path}", {**form, "version": str(version)})

    assert seen.status == 409
    assert "Somebody has changed these settings meanwhile" in seen.text
    assert f'name="version" value="{before.settings_version}"' in seen.html
    assert await now(builder) == before


async def test_a_stale_limit_keeps_what_was_typed(builder: Portal) -> None:
    """Portal 1.6: the limit of now is told beside the one that was typed."""
    version = (await now(builder)).settings_version
    await builder.control.desk.workspaces.change(await now(builder), {"credits_if_key_fails_limit": 300}, ACTOR)
    seen = await builder.post(f"{PATH}/credits-limit", {"limit": "450", "version": str(version)})

    assert seen.status == 409
    assert "The limit is 300 now; the field holds what you typed." in seen.text
    assert 'name="limit" type="text" value="450"' in seen.html
    assert (await now(builder)).credits_if_key_fails_limit == 300


async def test_what_a_rejected_direct_key_does(desk: Portal) -> None:
    """The answer holds for all direct keys, and each of their cards asks."""
    await save(desk, "anthropic")
    before = await desk.get(PATH)
    after = await desk.follow(await desk.post(f"{PATH}/on-rejection", {"on_direct_auth_failure": "fail"}))
    wrong = await desk.post(f"{PATH}/on-rejection", {"on_direct_auth_failure": "perhaps"})

    assert 'id="fallback-anthropic" name="on_direct_auth_failure" value="fallback" checked' in before.html
    assert "If this key is rejected" not in card(before).text
    assert 'value="fail" checked' in card(after, "anthropic").html
    assert "The choice is saved." in after.text
    assert wrong.status == 400


async def test_changes_name_who_made_them(desk: Portal) -> None:
    """Rule 6: the audit log has the member, the change, before and after, and no key."""
    await desk.post(f"{PATH}/openrouter/disable", {"version": "1"})
    newest = (await desk.control.desk.audit.list(desk.workspace, 1))[0]

    assert (newest["actor_kind"], newest["actor_id"]) == ("member", "u_1")
    assert (newest["before"]["status"], newest["after"]["status"]) == ("enabled", "disabled")
    assert KEYS["openrouter"] not in str(newest)
