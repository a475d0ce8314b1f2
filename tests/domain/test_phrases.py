"""Phrases: English text everywhere, and the same told in somebody else's words, gap by gap."""

import copy
import json
from email.headerregistry import Address

import msgspec
import pytest
from tests.domain.marked import MARKED, unmarked
from tests.domain.test_headline import answered, failing, refused

from ownkey.domain.headline import headline
from ownkey.domain.notices import SAMPLES, Kind, Place, write_notice
from ownkey.domain.phrases import Phrase, as_plain, fill, gaps_of, in_turn, listed, retell, together
from ownkey.domain.receipt_words import describe
from ownkey.notify.mail import make_message, render_html

FAILED = Phrase("{name} answered {status}", name="Anthropic", status=429)
PLACE = Place("Acme", "Desk", True, "https://app.example.com/ai?open={flow}")


def test_a_phrase_is_its_english_text() -> None:
    assert FAILED == "Anthropic answered 429"
    assert f"{FAILED}." == "Anthropic answered 429."
    assert json.dumps([FAILED]) == '["Anthropic answered 429"]'
    assert msgspec.json.encode({"it": FAILED}, enc_hook=as_plain) == b'{"it":"Anthropic answered 429"}'
    assert type(str(FAILED)) is str
    assert copy.deepcopy(FAILED).told({"{name} answered {status}": "{status}: {name}"}) == "429: Anthropic"


def test_encoders_learn_of_phrases_only() -> None:
    with pytest.raises(NotImplementedError, match="object"):
        as_plain(object())


def test_a_phrase_inside_a_phrase_is_told_too() -> None:
    """Whole sentences are made of parts: each has its own place in the catalogue."""
    own = {"{failure}, so we went on": "Weiter nach: {failure}", "{name} answered {status}": "{name} sagte {status}"}

    assert Phrase("{failure}, so we went on", failure=FAILED).told(own) == "Weiter nach: Anthropic sagte 429"
    assert Phrase("{failure}, so we went on", failure=FAILED).told({}) == "Anthropic answered 429, so we went on"
    assert retell("Anthropic answered 429", own) == "Anthropic answered 429"


def test_what_stands_in_a_gap_is_never_filled_again() -> None:
    """A project may be called "{amount}"."""
    phrase = Phrase("{name} cost {amount}", name="{amount}", amount="US$1.00")

    assert phrase == "{amount} cost US$1.00"
    assert phrase.told({"{name} cost {amount}": "{amount}: {name}"}) == "US$1.00: {amount}"
    assert fill("{unknown} stays", {}) == "{unknown} stays"
    assert fill("{name.__class__} {name!r} {0} { {name}", {"name": "n"}) == "{name.__class__} {name!r} {0} { n"
    assert gaps_of("{a} and {b_2}, {A} and {}") == {"a", "b_2"}


def test_the_first_letter_is_fitted_after_telling() -> None:
    own = {"your key failed": "dein Schlüssel versagte"}

    assert Phrase("your key failed").capital() == "Your key failed"
    assert Phrase("your key failed").capital().told(own) == "Dein Schlüssel versagte"
    assert Phrase("Credits paid").small() == "credits paid"


def test_several_become_one() -> None:
    one, two, three = Phrase("one"), Phrase("two"), Phrase("three")
    own = {
        "two": "zwei", "{first}, then {second}": "{first}, dann {second}", "{first} and {last}": "{first} und {last}",
    }

    assert together(one, "", two) == "one two"
    assert together(one, two, between="; ").told(own) == "one; zwei"
    assert in_turn([one, two, one, three]).told(own) == "one, dann zwei, dann three"
    assert [listed(parts).told(own) for parts in ([two], [one, two], [one, two, three])] == [
        "zwei", "one und zwei", "one, zwei und three",
    ]


@pytest.mark.parametrize("generate", [refused, answered, failing])
def test_no_word_of_a_receipt_is_out_of_a_hosts_reach(generate: object) -> None:
    """Section 3: with every text of the catalogue replaced, nothing of ours is left in any headline or reason."""
    assert callable(generate)
    left = {
        part for receipt in generate() for told in (headline(receipt), describe(receipt))
        for part in unmarked(retell(told, MARKED))
    }

    assert left == set()


@pytest.mark.parametrize("kind", Kind)
def test_no_word_of_an_email_is_out_of_a_hosts_reach(kind: Kind) -> None:
    """Sections 3 and 6: the e-mail's readers know the pages, which speak in the host's words."""
    notice = write_notice(kind, {**SAMPLES[kind], "call_headline": ""}, PLACE).in_words(MARKED)
    texts = [
        notice.subject, notice.headline, notice.calls_now, notice.button, notice.why, notice.mute, notice.asks,
        notice.caused_by, notice.opens_receipt, notice.opens_mute, *(text for fact in notice.facts for text in fact),
    ]

    assert [part for text in texts for part in unmarked(text)] == []
    assert notice.subject.startswith("‹Acme: ‹")


def test_a_hosts_text_is_text_in_an_email_too() -> None:
    """HTML in it is shown, and a second line cannot begin a header."""
    own = {"Raise the spend cap": "<b>Raise</b> it", "AI paused, spend cap reached": "Paused\nBcc: eve@evil.example"}
    notice = write_notice(Kind.AI_PAUSED, SAMPLES[Kind.AI_PAUSED], PLACE).in_words(own)
    raw = make_message(
        notice, sender=Address("Ai", addr_spec="ai@example.com"), to="ada@example.com", ident="<1@x>", created_at_ms=0
    ).as_bytes()

    assert "&lt;b&gt;Raise&lt;/b&gt; it" in render_html(notice)
    assert notice.subject == "Acme: Paused Bcc: eve@evil.example"
    assert b"\nBcc:" not in raw.split(b"\r\n\r\n")[0]
