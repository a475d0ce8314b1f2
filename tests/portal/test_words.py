"""The catalogue of the portal's texts, and a host's own words in their place."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from tests.control.house import ACTOR, KEYS
from tests.portal.receipts_made import CAP, write
from tests.portal.visiting import open_portal
from tools.words.__main__ import collect, encode, wrong_phrases

from ownkey.domain.notices import SAMPLES, Kind, Place, write_notice
from ownkey.notify.mail import render_text
from ownkey.pages import words as words_module
from ownkey.pages.words import FIXED, TEXTS, Words, check_words, known_texts

ROOT = Path(__file__).resolve().parents[2]
PLACE = Place("Acme", "Desk", True, "https://app.example.com/ai?open={flow}")


def test_the_catalogue_is_what_the_pages_say() -> None:
    """`make words` was run after the last text was changed."""
    written = Path(words_module.__file__).with_name(TEXTS).read_bytes()

    assert written == encode(collect())


def test_no_exact_label_is_offered_for_change() -> None:
    """T8, G16: the products' own documents name these labels."""
    assert set(known_texts()).isdisjoint(FIXED)


@pytest.mark.parametrize(("text", "expected"), [
    ("Save", "'Save' is a label that cannot be changed."),
    ("All cals", "The pages have no text 'All cals'. Did you mean 'All calls'?"),
    ("zzzz", "The pages have no text 'zzzz'."),
])
def test_what_no_page_says_cannot_be_replaced(text: str, expected: str) -> None:
    assert check_words({text: "x"}, known_texts()) == [expected]


@pytest.mark.parametrize(("own", "expected"), [
    ("Zurück zu {produkt}", "Your text for 'Back to {product}' has a gap {produkt} that nothing fills. Did you mean "
                            "{product}?"),
    ("Zurück", "Your text for 'Back to {product}' leaves out {product}: put it where the value stands."),
    ("{product}: zurück, {product}", None),
    ("Zu {product} {day}", "Your text for 'Back to {product}' has a gap {day} that nothing fills. Leave it out."),
])
def test_a_text_of_ones_own_has_the_same_gaps(own: str, expected: str | None) -> None:
    """A value that is not shown, or a gap that stands there empty, is told before anybody reads it."""
    assert check_words({"Back to {product}": own}, known_texts()) == ([] if expected is None else [expected])


def test_every_gap_of_every_phrase_is_filled_where_it_is_made() -> None:
    """A gap without a value would be shown in braces."""
    assert wrong_phrases() == []


async def test_the_example_of_the_documentation_works(tmp_path: Path) -> None:
    """docs/portal.md: pages, a receipt's headline and an e-mail, as the example says; what answers say stays ours."""
    text = (ROOT / "docs" / "portal.md").read_text("utf-8").partition("### Your own words")[2]
    own = tomllib.loads(text.partition("```toml")[2].partition("```")[0])["portal"]["words"]
    async with open_portal(tmp_path, "app-builder", words=own) as portal:
        platform = await portal.control.desk.workspaces.platform(ACTOR)
        await portal.control.desk.credentials.save(
            platform, "openrouter", KEYS["openrouter"], label="", save_anyway=False, address="", actor=ACTOR,
        )
        keys, spend = await portal.get("/portal/credentials"), await portal.get("/portal/spend")
        told = await write(
            portal, code="ai_paused", status=402, row="F7", served_model=None, finish_reason=None,
            cap=replace(CAP, spent_before_nusd=50_000_000_000),
        )
        receipt = await portal.get(f"/portal/calls/{told.id}")
        status = await portal.control.desk.status.show(await portal.control.again(portal.workspace))
    notice = write_notice(Kind.AI_PAUSED, SAMPLES[Kind.AI_PAUSED], PLACE).in_words(own)

    assert check_words(own, known_texts()) == []
    assert "Every AI call uses your App builder credits." in keys.text
    assert "Costs" in spend.text
    assert "Not billed: the US$50.00 cap was reached." in receipt.text
    assert "What this means: AI calls are refused" in render_text(notice)
    assert status.sentence == "App builder credits pay for every AI call."


def test_a_gap_is_filled_in_the_hosts_own_text_too() -> None:
    say = Words({"Back to {product}": "Zurück zu {product}"})

    assert say("Back to {product}", product="Acme") == "Zurück zu Acme"


async def test_a_hosts_words_stand_in_the_pages_and_are_escaped(tmp_path: Path) -> None:
    async with open_portal(tmp_path, words={"API Keys": "AI <keys>", "Spend": "Costs"}) as portal:
        seen = await portal.get("/portal/credentials")

        assert "AI &lt;keys&gt;" in seen.html
        assert "Costs" in seen.text
        assert "AI <keys>" not in seen.html


async def test_a_text_around_a_countdown_is_the_hosts_whole(tmp_path: Path) -> None:
    """The seconds stand where the host has put the gap, whatever else the text holds."""
    own = {"This session ends in {time}. What you have not saved would be lost.": "Save | or lose: {time} left."}
    async with open_portal(tmp_path, words=own) as portal:
        seen = await portal.get("/portal/credentials")

    assert "<p>Save | or lose: <span data-countdown></span> left.</p>" in seen.html
