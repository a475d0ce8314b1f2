"""A typed key is tested, found out about, moved and saved, without being pasted twice and without ever being shown."""

import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.control.house import KEYS
from tests.portal.key_pages import BROKEN, PATH, REJECTED, CardSeen, card, every_key, save
from tests.portal.visiting import Portal, Seen, open_portal

from ownkey.control.pace import PaceLimits
from ownkey.domain.failures import UpstreamError
from ownkey.domain.workspace import Health

NO_MONEY = (402, {"error": {"code": 402, "message": "Insufficient credits"}})


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as opened:
        yield opened


async def run(portal: Portal, provider: str = "openrouter", key: str | None = None, **fields: Any) -> Seen:
    """Test, as the form of an open card sends it."""
    typed = KEYS[provider] if key is None else key
    return await portal.post(f"{PATH}/{provider}/test", {"key": typed, "label": "", "version": "0", **fields})


async def keys_of(portal: Portal) -> dict[str, Any]:
    return dict((await portal.control.again(portal.workspace)).credentials)


def in_state(seen: Seen, state: str, provider: str = "openrouter") -> CardSeen:
    """The card is in this state, and tells it to whoever loads the page and to whoever swaps its result only."""
    found = card(seen, provider)
    assert found.state == state, found.text
    assert f'data-card-state="{state}"' in found.html
    assert f'id="result-{provider}"' in found.html
    return found


async def test_works(portal: Portal) -> None:
    """T10, T20: latency, model, cost, what it reaches; nothing is stored."""
    seen = await run(portal)
    found = in_state(seen, "works")

    assert seen.status == 200
    assert "The key works" in found.text
    for word in ("Model", "Latency", "Cost of this Test", "The key's own limit", "no limit of its own"):
        assert word in found.text
    assert found.text.count("works") >= 6
    assert "Draft replies" in found.text
    assert found.buttons == ["Sign in with OpenRouter", "Test", "Save"]
    assert await keys_of(portal) == {}


async def test_no_balance(portal: Portal) -> None:
    """X6: a real key without money may be saved, is told where to be topped up, and keeps its warning."""
    portal.control.upstream.script["/chat/completions"] = NO_MONEY
    seen = await run(portal)
    found = in_state(seen, "works_no_balance")
    saved = await portal.follow(await save(portal))

    assert "has no money left" in found.text
    assert "https://openrouter.ai/settings/credits" in found.html
    assert "Save" in found.buttons
    assert "OpenRouter API key saved successfully." in saved.text
    assert 'data-state="unhealthy"' in card(saved).html
    assert "out of funds" in card(saved).text


async def test_restricted(portal: Portal) -> None:
    """T20: task by task, what works and what is refused; the warning stays after Save."""
    portal.control.upstream.script["/models/user"] = (200, {"data": [{"id": "openai/gpt-4.1-mini"}]})
    found = in_state(await run(portal), "restricted")
    saved = await portal.follow(await save(portal))

    assert found.html.count("badge-danger") >= 2
    assert "Auto-triage" in found.text
    assert "refused the model is not among those this key may use" in found.text
    assert "saved successfully" in saved.text
    assert "did not reach the models of every task" in card(saved).text


async def test_rejected(portal: Portal) -> None:
    """X6: what the provider answered, the likely causes, and the way back into the field; Save refuses too."""
    portal.control.upstream.script["/key"] = REJECTED
    found = in_state(await run(portal), "rejected")
    refused = await save(portal)

    assert "OpenRouter does not accept this key (401" in found.text
    assert "mistyped, revoked or expired" in found.text
    assert 'href="#key-openrouter">Try again</a>' in found.html
    assert 'name="candidate"' not in found.html
    assert (refused.status, card(refused).state) == (422, "rejected")
    assert 'role="alert"' in card(refused).html
    assert await keys_of(portal) == {}


@pytest.mark.parametrize("answer", [BROKEN, UpstreamError("no route", timeout=False, sent=False, received=False)])
async def test_unreachable(portal: Portal, answer: Any) -> None:
    """X6: says nothing about the key; stored only by Save anyway, which the result offers."""
    portal.control.upstream.script["/key"] = answer
    found = in_state(await run(portal), "unreachable")
    refused = await save(portal)
    offered = card(refused)
    anyway = await portal.post(f"{PATH}/openrouter/save", {
        "candidate": offered.hidden("candidate"), "save_anyway": "1", "version": "0",
    })
    saved = await portal.follow(anyway)

    assert "this says nothing about the key" in found.text
    assert found.buttons[1:] == ["Retry", "Save anyway", "Test", "Save"]
    assert (refused.status, offered.state) == (422, "unreachable")
    assert "save_anyway=true" not in refused.text
    assert "OpenRouter API key saved, unverified." in saved.text
    assert (await keys_of(portal))["openrouter"].health is Health.UNKNOWN


async def test_only_unreachable_can_be_saved_anyway(portal: Portal) -> None:
    """A form that asks for it all the same is refused."""
    portal.control.upstream.script["/key"] = REJECTED
    found = card(await run(portal))
    refused = await save(portal, save_anyway="1")

    assert "Save anyway" not in found.buttons
    assert refused.status == 422
    assert await keys_of(portal) == {}


async def test_a_management_key_is_the_wrong_kind(portal: Portal) -> None:
    """No field would take it, so none is offered."""
    portal.control.upstream.script["/key"] = (200, {"data": {"is_management_key": True}})
    found = in_state(await run(portal), "wrong_kind")

    assert "A management key cannot run models." in found.text
    assert "Move to" not in found.text


@pytest.mark.parametrize("way", ["test", "save"])
async def test_a_key_in_the_wrong_field_moves_without_a_second_paste(portal: Portal, way: str) -> None:
    """T12: it travels sealed to the field where it belongs, and is saved there."""
    wrong = await portal.post(f"{PATH}/openrouter/{way}", {"key": KEYS["anthropic"], "version": "0"})
    found = in_state(wrong, "wrong_kind")
    moved_key = _value(wrong, "moved")
    moved = await portal.post(f"{PATH}/anthropic/paste", {"moved": moved_key})
    there = card(moved, "anthropic")
    saved = await portal.post(f"{PATH}/anthropic/save", {"candidate": there.hidden("candidate"), "version": "0"})

    assert "Move to the Anthropic field" in found.buttons
    assert f'formaction="{PATH}/anthropic/paste"' in found.html
    assert (moved.status, there.state) == (200, "editing")
    assert "The key from the other field is here now" in there.text
    assert card(moved).state == "empty"
    assert saved.headers["location"] == f"{PATH}?saved=anthropic"
    assert every_key(wrong.html + moved.html) == []


def _value(seen: Seen, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', seen.html)
    assert found
    return found[1]


async def test_a_builder_without_that_field_offers_no_move(tmp_path: Path) -> None:
    """A product without direct keys has nowhere to move it to."""
    async with open_portal(tmp_path, "app-builder") as builder:
        found = card(await run(builder, key=KEYS["anthropic"]))

        assert found.state == "wrong_kind"
        assert "Move to" not in found.text


async def test_what_was_around_the_key_is_said(portal: Portal) -> None:
    """A line out of a terminal: taken as the key alone, and told, by Test and by Save."""
    pasted = f'export OPENROUTER_API_KEY="{KEYS["openrouter"]}"  '
    tested = card(await run(portal, key=pasted))
    saved = await portal.follow(await portal.post(f"{PATH}/openrouter/save", {"key": pasted, "version": "0"}))

    assert "Taken off around the key: white space, quotes, NAME=." in tested.text
    assert "Taken off around the key: white space, quotes, NAME=." in saved.text


@pytest.mark.parametrize(("typed", "words"), [
    ("", "There is no key in the field."), ("   ", "There is no key in the field."),
    ("sk-or-v1 abc", "There is a space or a line break inside the key."),
    ("sk-or-v1-••••••••", "a character that no key has"), ("x" * 600, "no key is"),
])
@pytest.mark.parametrize("way", ["test", "save"])
async def test_what_is_no_key_is_told(portal: Portal, typed: str, words: str, way: str) -> None:
    """Bad input gets a sentence and keeps the label that was typed; nothing is sent."""
    seen = await portal.post(f"{PATH}/openrouter/{way}", {"key": typed, "label": "Main", "version": "0"})
    found = card(seen)

    assert seen.status == 422
    assert (found.state, found.result) == ("editing", "refused")
    assert words in found.text
    assert 'aria-invalid="true"' in found.html
    assert 'value="Main"' in found.html
    assert not typed.strip() or typed not in seen.html
    assert portal.control.upstream.sent == []


# --- Test, then Save, without a second paste


async def test_a_tested_key_is_saved_without_pasting_it_again(portal: Portal) -> None:
    """T10, T11, G16: the journey without JavaScript: Test, Save, the exact words, and who pays."""
    tested = await run(portal, label="Main")
    form = card(tested)
    saved = await portal.post(f"{PATH}/openrouter/save", {
        "key": "", "candidate": form.hidden("candidate"), "label": "Main", "version": form.hidden("version"),
    })
    after = await portal.follow(saved)

    assert 'value="Main"' in form.html
    assert (saved.status, saved.headers["location"]) == (303, f"{PATH}?saved=openrouter")
    assert "OpenRouter API key saved successfully." in after.text
    assert "From the next call on: Your OpenRouter key (…5a7e) pays for every AI call." in after.text
    assert 'data-provider="openrouter" data-state="connected" data-event="credential-saved"' in after.html
    assert 'id="result-openrouter"' not in after.html
    assert (await keys_of(portal))["openrouter"].hint.endswith("5a7e")


async def test_what_is_typed_wins_over_what_was_tested(portal: Portal) -> None:
    """With JavaScript the field stays: a key that was corrected after its Test is the one that is saved."""
    other = KEYS["openrouter"][:-4] + "beef"
    form = card(await run(portal))
    await portal.post(f"{PATH}/openrouter/save", {"key": other, "candidate": form.hidden("candidate"), "version": "0"})

    assert (await keys_of(portal))["openrouter"].hint.endswith("beef")


async def test_a_tested_key_can_be_tested_again(portal: Portal) -> None:
    """Retry, with nothing in the field."""
    portal.control.upstream.script["/key"] = BROKEN
    form = card(await run(portal))
    portal.control.upstream.script.pop("/key")
    again = await run(portal, key="", candidate=form.hidden("candidate"))

    assert in_state(again, "works").hidden("candidate")


@pytest.mark.parametrize("case", ["late", "another visit", "another field", "another workspace", "changed", "nonsense"])
async def test_a_candidate_opens_here_and_now_only(portal: Portal, case: str) -> None:
    """Bound to visit, workspace, field and ten minutes; whatever is wrong, it is one answer, and nothing is saved."""
    candidate, provider = card(await run(portal)).hidden("candidate"), "openrouter"
    match case:
        case "late":
            portal.control.clock.pass_s(601)
        case "another visit":
            portal.more = {"id": "ps_2"}
        case "another field":
            provider = "anthropic"
        case "another workspace":
            portal.workspace = await portal.control.workspace("Other")
        case "changed":
            candidate = candidate[:60] + ("A" if candidate[60] != "A" else "B") + candidate[61:]
        case "nonsense":
            candidate = "é" * 10
    seen = await portal.post(f"{PATH}/{provider}/save", {"key": "", "candidate": candidate, "version": "0"})

    assert seen.status == 422
    assert "The tested key is no longer in this page" in card(seen, provider).text
    assert "Paste the key again." in card(seen, provider).text
    assert await keys_of(portal) == {}


async def test_an_almost_late_candidate_is_saved(portal: Portal) -> None:
    """Ten minutes are ten minutes; its end is part of the seal and cannot be put off."""
    candidate = card(await run(portal)).hidden("candidate")
    portal.control.clock.pass_s(599)
    seen = await portal.post(f"{PATH}/openrouter/save", {"key": "", "candidate": candidate, "version": "0"})

    assert seen.status == 303


async def test_a_moved_key_opens_in_its_own_field_only(portal: Portal) -> None:
    """The seal for Anthropic's field is none for OpenAI's."""
    moved = _value(await run(portal, key=KEYS["anthropic"]), "moved")
    elsewhere = await portal.post(f"{PATH}/openai/paste", {"moved": moved})

    assert elsewhere.status == 422
    assert card(elsewhere, "openai").result == "refused"


# --- what must never be seen


async def test_a_typed_key_is_nowhere(portal: Portal, caplog: pytest.LogCaptureFixture) -> None:
    """T28, security 4: not in HTML, an address, a header, a log, the audit log or the database's file."""
    caplog.set_level(logging.DEBUG)
    seen = [await run(portal, provider) for provider in ("openrouter", "anthropic", "openai")]
    seen += [await run(portal, key=KEYS["openai"]), await run(portal, key=KEYS["openrouter"] + " x")]
    seen += [await save(portal, "openrouter"), await save(portal, "anthropic")]
    seen.append(await portal.get(PATH))
    files = b"".join(path.read_bytes() for path in portal.control.folder.glob("ownkey.db*"))
    audit = await portal.control.desk.audit.list(portal.workspace, 100)

    for one in seen:
        assert every_key(one.html + str(one.headers)) == []
    assert every_key(caplog.text + str(audit)) == []
    assert every_key(files.decode("latin-1")) == []


async def test_a_sealed_candidate_looks_different_every_time(portal: Portal) -> None:
    """Nothing can be told from it: not even that it is the same key."""
    first = card(await run(portal)).hidden("candidate")
    second = card(await run(portal)).hidden("candidate")

    assert first[20:] != second[20:]


async def test_forms_need_their_token(portal: Portal) -> None:
    """Another site's form tests and saves nothing."""
    seen = await portal.post(f"{PATH}/openrouter/save", {"key": KEYS["openrouter"], "csrf": "0" * 64})

    assert seen.status == 403
    assert portal.control.upstream.sent == []


# --- limits, versions


async def test_too_many_tests_are_told_with_the_time(tmp_path: Path) -> None:
    """Security 5: Test is no oracle; the sentence says how long to wait, and the key need not be pasted again."""
    limits = PaceLimits(per_minute=2, per_day=30, keys_per_day=10, address_per_minute=20)
    async with open_portal(tmp_path, pace=limits) as portal:
        for _ in range(2):
            assert (await run(portal)).status == 200
        seen = await run(portal)
        found = card(seen)
        portal.control.clock.pass_s(61)
        saved = await portal.post(f"{PATH}/openrouter/save", {"candidate": found.hidden("candidate"), "version": "0"})

    assert seen.status == 429
    assert "Too many Tests here: the limit is 2 a minute." in found.text
    assert "Wait 60 seconds, then test again" in found.text
    assert saved.status == 303


MANY = {"per_minute": 100, "per_day": 100, "keys_per_day": 100, "address_per_minute": 100}


@pytest.mark.parametrize(("limit", "told", "wait"), [
    ("per_minute", "the limit is 1 a minute.", "60 seconds"), ("per_day", "the limit is 1 a day.", "24 hours"),
    ("keys_per_day", "the limit is 1 different keys a day.", "24 hours"),
    ("address_per_minute", "the limit is 1 a minute.", "60 seconds"),
])
async def test_a_limit_is_told_in_words_of_what_was_tried(tmp_path: Path, limit: str, told: str, wait: str) -> None:
    """Security 5: each of the four limits, told to a Test as a Test and to a Save as a Save, with when it is over."""
    async with open_portal(tmp_path, pace=PaceLimits(**{**MANY, limit: 1})) as portal:
        await run(portal, key=KEYS["openrouter"][:-4] + "beef")
        tested, saved = card(await run(portal)), card(await save(portal))
        stored = await keys_of(portal)

    where = " from your address" if limit == "address_per_minute" else " here"
    assert f"Too many Tests{where}: {told}" in tested.text
    assert f"Wait {wait}, then test again; a saved key stays in service." in tested.text
    assert f"Too many Tests and Saves{where}: a Save tests the key too, and {told}" in saved.text
    assert f"Wait {wait}, then save again; nothing was saved now" in saved.text
    assert "test again" not in saved.text
    assert stored == {}


async def test_a_saved_key_above_the_limit_keeps_its_card(tmp_path: Path) -> None:
    """The refusal stands on the card with when to come again; nothing opens, and no field is red."""
    async with open_portal(tmp_path, pace=PaceLimits(**{**MANY, "per_minute": 1})) as portal:
        await save(portal)
        seen = await portal.post(f"{PATH}/openrouter/test")
        found = card(seen)

    assert seen.status == 429
    assert (found.state, found.result) == ("connected", "refused")
    assert 'id="tested-openrouter"' in found.html
    assert "Too many Tests here: the limit is 1 a minute. Wait 60 seconds, then test again" in found.text
    assert 'id="key-openrouter"' not in found.html
    assert "aria-invalid" not in found.html
    assert found.buttons == ["Test", "Replace", "Disable", "Disconnect"]


async def test_a_test_of_a_key_that_is_gone_is_told(portal: Portal) -> None:
    """Another tab disconnected it: that is what the page says, not that the field is empty."""
    seen = await portal.post(f"{PATH}/openrouter/test")

    assert seen.status == 409
    assert "Somebody has changed the OpenRouter key meanwhile" in seen.text
    assert "There is no key in the field" not in seen.text


async def test_the_address_counts(tmp_path: Path) -> None:
    """Security 5: the browser's address is one of the counters, whatever the workspace."""
    limits = PaceLimits(per_minute=100, per_day=100, keys_per_day=100, address_per_minute=1)
    async with open_portal(tmp_path, pace=limits) as portal:
        await run(portal)
        portal.workspace = await portal.control.workspace("Other")
        seen = await run(portal)

    assert seen.status == 429


async def test_a_save_for_an_older_key_is_refused(portal: Portal) -> None:
    """Two tabs: the second Save says that the key was changed meanwhile, and shows the one that is there."""
    await save(portal, version="0")
    seen = await save(portal, version="0", label="Second tab")

    assert seen.status == 409
    assert "Somebody has changed the OpenRouter key meanwhile" in seen.text
    assert card(seen).hidden("version") == "1"
    assert 'value="Second tab"' in card(seen).html
    assert (await keys_of(portal))["openrouter"].version == 1


async def test_a_replacement_takes_over_with_its_save(portal: Portal) -> None:
    """T11: until then the old version serves; its label stays unless another is typed."""
    await save(portal, label="Main")
    opened = card(await portal.get(f"{PATH}/openrouter/replace"))
    other = KEYS["openrouter"][:-4] + "beef"
    await portal.post(f"{PATH}/openrouter/save", {"key": other, "version": opened.hidden("version"), "label": "Main"})
    now = (await keys_of(portal))["openrouter"]

    assert opened.state == "editing"
    assert "The saved key sk-or-…5a7e serves until the new one is saved." in opened.text
    assert (now.version, now.hint, now.label) == (2, "sk-or-…beef", "Main")


async def test_a_test_with_an_empty_field_tests_the_saved_key(portal: Portal) -> None:
    """T10: the typed key, else the saved one."""
    await save(portal)
    seen = await run(portal, key="", version="1")

    assert in_state(seen, "works").text.count("sk-or-…5a7e") >= 1
    assert (await keys_of(portal))["openrouter"].version == 1


async def test_a_test_runs_while_the_key_is_disabled(portal: Portal) -> None:
    """T10: and changes nothing about that."""
    await save(portal)
    await portal.post(f"{PATH}/openrouter/disable")
    seen = await portal.post(f"{PATH}/openrouter/test")

    assert card(seen).state == "disabled"
    assert card(seen).result == "works"


async def test_direct_keys_are_tested_and_saved_in_the_same_way(portal: Portal) -> None:
    """T12, T16: Anthropic's field, from Test to the exact words."""
    tested = await run(portal, "anthropic")
    form = in_state(tested, "works", "anthropic")
    saved = await portal.follow(await portal.post(f"{PATH}/anthropic/save", {
        "candidate": form.hidden("candidate"), "version": "0",
    }))

    assert "Anthropic API key saved successfully." in saved.text
    assert card(saved, "anthropic").state == "waiting_for_openrouter"


async def test_a_bad_label_keeps_the_key(portal: Portal) -> None:
    """The label is wrong, so the label's field says it; the key waits sealed."""
    seen = await save(portal, label="x" * 200, version="0")
    found = card(seen)
    saved = await portal.post(f"{PATH}/openrouter/save", {"candidate": found.hidden("candidate"), "version": "0"})

    assert seen.status == 422
    assert 'id="label-openrouter-error"' in found.html
    assert saved.status == 303


async def test_a_key_that_came_back_undecryptable_can_be_replaced(portal: Portal) -> None:
    """Replace from a key that we cannot open: the new one serves."""
    await save(portal)
    portal.control.opener.broken = True
    broken = await portal.post(f"{PATH}/openrouter/test")
    portal.control.opener.broken = False
    saved = await portal.post(f"{PATH}/openrouter/save", {"key": KEYS["openrouter"], "version": "1"})

    assert broken.status == 409
    assert "The saved key cannot be opened: our fault" in broken.text
    assert saved.status == 303
    assert (await keys_of(portal))["openrouter"].undecryptable is False
