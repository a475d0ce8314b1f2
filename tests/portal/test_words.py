"""The catalogue of the portal's texts, and a host's own words in their place."""

from pathlib import Path

import pytest
from tests.portal.visiting import open_portal
from tools.words.__main__ import collect, encode

from ownkey.pages import words as words_module
from ownkey.pages.words import FIXED, TEXTS, Words, check_words, known_texts


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


def test_a_gap_is_filled_in_the_hosts_own_text_too() -> None:
    say = Words({"Back to {product}": "Zurück zu {product}"})

    assert say("Back to {product}", product="Acme") == "Zurück zu Acme"


async def test_a_hosts_words_stand_in_the_pages_and_are_escaped(tmp_path: Path) -> None:
    async with open_portal(tmp_path, words={"API Keys": "AI <keys>", "Spend": "Costs"}) as portal:
        seen = await portal.get("/portal/credentials")

        assert "AI &lt;keys&gt;" in seen.html
        assert "Costs" in seen.text
        assert "AI <keys>" not in seen.html
