"""Every notice in words: complete, honest about what calls do, and harmless whatever a name says."""

import re
from dataclasses import replace
from email.headerregistry import Address
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownkey.domain.notices import (
    GIVE_UP_MS,
    MUTEABLE,
    RULES,
    SAMPLES,
    Kind,
    PayerFacts,
    Place,
    Topic,
    clean,
    event_of,
    next_try_ms,
    write_notice,
)
from ownkey.notify.mail import make_message, render_html, render_text

ENTRY = "https://app.example.com/ai?open={flow}"
SENDER = Address("Ai", addr_spec="ai@example.com")
PLACE = Place("Acme", "Desk", True, ENTRY)
HOSTILE = [
    "<script>alert(1)</script>", "<img src=http://evil.example/x.png>", 'Acme" onload="x',
    "Acme\r\nBcc: eve@evil.example",
    "\u202egpj.exe", "A" * 500, "&amp;<b>", "javascript:alert(1)",
    "Füße & Söhne ✓", "\x00\x07",
]


class Words(HTMLParser):
    """The visible words of a page, and every address that it names."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[str] = []
        self._begins = True
        self.links: list[str] = []
        self.tags: list[str] = []
        self._hidden = False

    @property
    def text(self) -> list[str]:
        return [" ".join(piece.split()) for piece in self._pieces if piece.strip()]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._begins |= tag not in ("span", "strong")
        self._hidden = tag in ("style", "title")
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "srcset", "action")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._hidden:
            return
        if self._begins:
            self._pieces.append("")
        self._pieces[-1] += data
        self._begins = False

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        self._begins |= tag not in ("span", "strong")


def words(html: str) -> Words:
    found = Words()
    found.feed(html)
    return found


def test_every_kind_has_its_rule_its_sample_and_an_event_of_its_own() -> None:
    assert set(RULES) == set(SAMPLES) == set(Kind)
    assert len({rule.event for rule in RULES.values()}) == len(Kind)


def test_who_pays_and_payments_can_never_be_muted() -> None:
    never = {
        Kind.PAYER_CHANGED, Kind.SETTINGS_CHANGED, Kind.CREDITS_STEP_IN, Kind.ADDON_PAYMENT_FAILED, Kind.BALANCE_LOW,
    }

    assert not {RULES[kind].topic for kind in never} & MUTEABLE
    assert frozenset({Topic.SPEND, Topic.KEYS}) == MUTEABLE


@pytest.mark.parametrize("kind", Kind)
def test_text_and_html_say_the_same(kind: Kind) -> None:
    """What happened, since when, what calls do now, one button, why, how to mute: in both, from one value."""
    notice = write_notice(kind, SAMPLES[kind], PLACE)
    text, html = " ".join(render_text(notice).split()), words(render_html(notice))

    shown = " ".join(html.text)
    for part in (notice.headline, f"{notice.asks} {notice.calls_now}", notice.button, notice.why, notice.mute):
        assert part in text
        assert part in shown
    for label, value in notice.facts:
        assert f"{label}: {value}" in text
        assert label in html.text
        assert value in html.text
    assert html.links == [url for url in (notice.url, notice.call_url, notice.mute_url) if url]
    assert all(url in text for url in html.links)
    muteable = RULES[kind].topic in MUTEABLE
    assert bool(notice.mute) is muteable
    assert notice.mute_url == (ENTRY.replace("{flow}", "notices") if muteable else "")
    assert (f"{notice.opens_mute}: {notice.mute_url}" in text) is muteable
    assert set(html.tags) <= {"html", "head", "meta", "title", "style", "body", "div", "h1", "table", "tr", "th", "td",
                              "p", "a", "strong", "span"}
    assert "url(" not in render_html(notice)
    assert "{" not in notice.subject + notice.headline + notice.calls_now + notice.url


def test_a_long_list_of_changes_is_no_headline() -> None:
    """On a phone it would fill the screen in bold: the heading says what it is about, the list stands below, whole."""
    changes = [{"what": name, "before": True, "after": False} for name in ("always_use_key", "credits_if_key_fails")]
    notice = write_notice(Kind.SETTINGS_CHANGED, {**SAMPLES[Kind.SETTINGS_CHANGED], "changes": changes * 2}, PLACE)
    html = render_html(notice)

    assert ">AI settings were changed.</h1>" in html
    assert notice.headline.partition(": ")[2][1:] in " ".join(words(html).text)
    assert render_text(notice).startswith(notice.headline)


def test_of_several_sentences_the_first_is_the_heading() -> None:
    """What follows from it stands below, in the weight of text."""
    html = render_html(write_notice(Kind.ADDON_INACTIVE, SAMPLES[Kind.ADDON_INACTIVE], PLACE))

    assert ">The OpenRouter add-on is inactive because it was not paid.</h1>" in html
    assert ">The key is kept, not used, and works again when it is paid.</p>" in html


def test_a_keys_hint_stays_on_one_line() -> None:
    """`sk-` at the end of a line and the rest on the next is no hint that anybody recognises; long names still wrap."""
    long = {**SAMPLES[Kind.CREDENTIAL_UNHEALTHY], "hint": "sk-or-…9f3c"}
    shown = render_html(write_notice(Kind.CREDENTIAL_UNHEALTHY, long, PLACE))
    place = replace(PLACE, workspace="x" * 200)

    assert '<span style="white-space:nowrap">(sk-or-…9f3c)</span>' in shown
    assert "nowrap" not in render_html(write_notice(Kind.BALANCE_LOW, SAMPLES[Kind.BALANCE_LOW], place)).partition(
        "<h1")[2].partition("<table")[0]


def test_a_mail_names_the_workspace_and_the_product_above_its_headline() -> None:
    """Somebody who owns several workspaces sees which one it is about."""
    html = words(render_html(write_notice(Kind.AI_PAUSED, SAMPLES[Kind.AI_PAUSED], PLACE)))

    assert html.text[0] == f"{PLACE.workspace} · {PLACE.product}"


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", Kind)
def test_a_hostile_name_stays_text(kind: Kind, name: str) -> None:
    """In a header it is one line, in HTML it is escaped, and it never makes the message longer without end."""
    payload = {**SAMPLES[kind], "label": name, "hint": name, "by": name, "call": name, "call_headline": name}
    notice = write_notice(kind, payload, Place(name, name, False, ENTRY))

    message = make_message(notice, sender=SENDER, to="ada@example.com", ident="<1@x>", created_at_ms=0)
    raw = message.as_bytes()
    html = words(render_html(notice))
    assert len(notice.subject) < 250
    assert notice.subject.isprintable()
    assert b"\nBcc:" not in raw.split(b"\r\n\r\n")[0]
    assert "bcc" not in [key.lower() for key in message]
    assert not {"script", "img", "b"} & set(html.tags)
    assert html.links == [url for url in (notice.url, notice.call_url, notice.mute_url) if url]
    assert [key.lower() for key in message].count("subject") == 1


def test_an_event_carries_the_fields_of_its_rule_and_no_other() -> None:
    """What a provider said is in the row for operators, and leaves by no channel."""
    payload = {**SAMPLES[Kind.CREDENTIAL_UNHEALTHY], "signal": "sk-or-v1-secret said no"}
    event, data = event_of(Kind.CREDENTIAL_UNHEALTHY, payload, PLACE)

    assert event == "credential.unhealthy"
    assert set(data) <= {*RULES[Kind.CREDENTIAL_UNHEALTHY].fields, "headline"}
    assert "said no" not in str(data) + render_text(write_notice(Kind.CREDENTIAL_UNHEALTHY, payload, PLACE))


def test_a_product_without_credits_never_speaks_of_them() -> None:
    place = Place("Acme", "Desk", False, ENTRY)
    for kind in (Kind.CREDENTIAL_UNHEALTHY, Kind.ADDON_ENDED, Kind.PAYER_CHANGED):
        payload = {**SAMPLES[kind], "payer_after": "credits", "credits_if_key_fails": True}
        assert "redit" not in render_text(write_notice(kind, payload, place)).replace("credits_if", "")
    assert event_of(Kind.PAYER_CHANGED, {**SAMPLES[Kind.PAYER_CHANGED], "payer_after": "credits"}, place)[1][
        "payer_after"] == "nobody"


@pytest.mark.parametrize(("key", "entitled", "always", "if_fails", "payer"), [
    ("enabled", True, False, False, "your_key"), ("enabled", True, True, True, "your_key"),
    ("enabled", False, False, True, "credits"), ("enabled", False, True, True, "nobody"),
    ("disabled", True, False, False, "credits"), ("disabled", True, True, False, "nobody"),
    ("missing", True, False, False, "credits"), ("missing", True, True, True, "nobody"),
    ("undecryptable", True, False, True, "credits"), ("undecryptable", True, False, False, "nobody"),
    ("undecryptable", True, True, True, "nobody"),
])
def test_the_payer_of_a_change_is_the_decisions(
    key: str, entitled: bool, always: bool, if_fails: bool, payer: str
) -> None:
    """money.md section 9, with enough credits: never credits while Always is on."""
    assert PayerFacts(key, entitled, always, if_fails).payer == payer


@given(st.integers(1, 60), st.integers(0, 2 * GIVE_UP_MS), st.integers(0, 999))
def test_a_message_is_tried_until_a_day_is_over(attempts: int, age_ms: int, chance: int) -> None:
    again = next_try_ms(attempts, 1_000, 1_000 + age_ms, chance)

    if age_ms >= GIVE_UP_MS:
        assert again is None
    else:
        assert again is not None
        assert 1_000 + age_ms < again <= 1_000 + GIVE_UP_MS


def test_a_day_holds_about_thirty_tries() -> None:
    tries, at = 1, 0
    while (again := next_try_ms(tries, 0, at, 500)) is not None:
        tries, at = tries + 1, again

    assert 25 <= tries <= 35
    assert at == GIVE_UP_MS


@given(st.text(max_size=300))
def test_cleaned_text_is_one_printable_line(text: str) -> None:
    found = clean(text)

    assert found.isprintable()
    assert len(found) <= 80
    assert not re.search(r"\s\s", found)


def test_a_link_that_is_no_web_address_is_none() -> None:
    """The entry URL is the operator's, but a button must never run anything."""
    notice = write_notice(Kind.AI_PAUSED, SAMPLES[Kind.AI_PAUSED], Place("A", "B", True, "javascript:alert(1)//{flow}"))

    assert words(render_html(notice)).links == ["about:blank"] * 3
    assert "javascript" not in render_text(notice)


@pytest.mark.parametrize(("by", "told"), [
    ("member:ada@example.com", "a member (ada@example.com)"), ("operator:op_1", "an operator"),
    ("service:tok_1", "the product"), ("workspace:tok_1", "the product"),
])
def test_who_changed_it_is_told_as_people_say_it(by: str, told: str) -> None:
    """A letter names no kinds and no tokens; the event to the host does."""
    payload = {**SAMPLES[Kind.SETTINGS_CHANGED], "by": by}

    assert f"Changed by: {told}\n" in render_text(write_notice(Kind.SETTINGS_CHANGED, payload, PLACE))
    assert event_of(Kind.SETTINGS_CHANGED, payload, PLACE)[1]["by"] == by
