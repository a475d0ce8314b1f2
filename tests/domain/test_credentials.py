"""A pasted key becomes a credential, or one sentence that says what to paste instead."""

import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownkey.domain.credentials import (
    AcceptedCredential,
    CredentialFormError,
    Wrapping,
    accept_credential,
    credential_hint,
    unwrap_pasted,
)
from ownkey.domain.secret import Secret

OPENROUTER = "sk-or-v1-" + "0123456789abcdef" * 4
OPENAI = "sk-proj-" + "Abc123_-" * 8
ANTHROPIC = "sk-ant-api03-" + "Xyz789_-" * 8
GOOGLE = "AQ.Ab8" + "RN6Jq_-" * 6
GOOGLE_OLD = "AIzaSy" + "D4e5F6g7" * 4


@pytest.mark.parametrize(
    ("provider", "key", "hint"),
    [
        ("openrouter", OPENROUTER, "sk-or-…cdef"),
        ("openai", OPENAI, "sk-proj-…23_-"),
        ("openai", "sk-" + "T3BlbkFJ" * 6, "sk-…bkFJ"),
        ("anthropic", ANTHROPIC, "sk-ant-…89_-"),
        ("google", GOOGLE, "AQ.…Jq_-"),
        ("google", GOOGLE_OLD, "AIza…F6g7"),
        ("openrouter", "or2-" + "k" * 40, "…kkkk"),
        ("acme", "sk-" + "acme4567" * 4, "sk-…4567"),
    ],
)
def test_a_key_is_accepted_as_it_is(provider: str, key: str, hint: str) -> None:
    """Every provider's own prefixes, prefixes nobody knows, and any prefix of a provider we do not know."""
    accepted = accept_credential(provider, key)

    assert accepted.secret == Secret(key)
    assert accepted.bytes_to_seal() == key.encode()
    assert accepted.hint == hint
    assert accepted.unwrapped == ()


@pytest.mark.parametrize(
    ("pasted", "removed"),
    [
        ("  {}\n", [Wrapping.BLANKS]),
        ("{}\r\n", [Wrapping.BLANKS]),
        ("\u200b\ufeff{}\xa0", [Wrapping.BLANKS]),
        ("\u202a{}\u202c\u00ad", [Wrapping.BLANKS]),
        ('"{}"', [Wrapping.QUOTES]),
        ("'{}'", [Wrapping.QUOTES]),
        ("`{}`", [Wrapping.QUOTES]),
        ("“{}”", [Wrapping.QUOTES]),
        ('"{}",', [Wrapping.QUOTES]),
        ("'{}';", [Wrapping.QUOTES]),
        ("Bearer {}", [Wrapping.BEARER]),
        ("bearer\t{}", [Wrapping.BEARER]),
        ("Bearer\u00a0{}", [Wrapping.BEARER]),
        ("Authorization: Bearer {}", [Wrapping.HEADER, Wrapping.BLANKS, Wrapping.BEARER]),
        ("authorization:Bearer {}", [Wrapping.HEADER, Wrapping.BEARER]),
        ("x-api-key: {}", [Wrapping.HEADER, Wrapping.BLANKS]),
        ("OPENROUTER_API_KEY={}", [Wrapping.ASSIGNMENT]),
        ("X={}", [Wrapping.ASSIGNMENT]),
        ("export X={}", [Wrapping.ASSIGNMENT]),
        ("export my_key = {}", [Wrapping.ASSIGNMENT, Wrapping.BLANKS]),
        ('export OPENAI_API_KEY="{}"', [Wrapping.QUOTES, Wrapping.ASSIGNMENT]),
        (" export K='Bearer {}'; \n", [Wrapping.BLANKS, Wrapping.QUOTES, Wrapping.ASSIGNMENT, Wrapping.BEARER]),
    ],
)
def test_what_surrounds_a_key_is_taken_off_and_named(pasted: str, removed: list[Wrapping]) -> None:
    """People paste from terminals, files, chats and documents; the page says what was cleaned."""
    accepted = accept_credential("openrouter", pasted.format(OPENROUTER))

    assert accepted.secret == Secret(OPENROUTER)
    assert set(accepted.unwrapped) == set(removed)


def accepted_or_error(provider: str, text: str) -> AcceptedCredential | CredentialFormError:
    try:
        return accept_credential(provider, text)
    except CredentialFormError as refused:
        return refused


KEYS = st.builds(
    str.__add__,
    st.sampled_from(["sk-or-", "sk-or-v1-", "or-", "key_"]),
    st.text(alphabet=string.ascii_letters + string.digits + "-_.", min_size=1, max_size=400),
)
AROUND = st.sampled_from(
    [" {}", "{}\n", "\u200b{}\u2060", '"{}"', "'{}'", "Bearer {}", "Authorization: {}", "export KEY={}", "A_B={}"]
)


@settings(max_examples=500)
@given(key=KEYS, around=st.lists(AROUND, max_size=6))
def test_any_nest_of_wrappings_gives_the_key_back(key: str, around: list[str]) -> None:
    """Whatever the order and depth of the wrapping."""
    pasted = key
    for wrapping in around:
        pasted = wrapping.format(pasted)

    assert accept_credential("openrouter", pasted).secret == Secret(key)


@settings(max_examples=500)
@given(st.text(max_size=200))
def test_unwrapping_is_done_once_and_for_all(text: str) -> None:
    """A second time changes nothing: what was tested is what is saved."""
    once, _ = unwrap_pasted(text)

    assert unwrap_pasted(once) == (once, ())


@settings(max_examples=500)
@given(provider=st.sampled_from(["openrouter", "openai", "anthropic", "google", "acme"]), text=st.text(max_size=600))
def test_any_text_is_accepted_or_refused_with_a_code(provider: str, text: str) -> None:
    """Nothing else is ever raised, and what is accepted is visible ASCII of at most 512 characters."""
    outcome = accepted_or_error(provider, text)

    if isinstance(outcome, CredentialFormError):
        assert outcome.code in {"wrong_kind", "empty", "not_ascii", "too_long", "inner_whitespace"}
        assert outcome.sentence.endswith(".")
        assert outcome.fix.endswith(".")
    else:
        plaintext = outcome.bytes_to_seal()
        assert 1 <= len(plaintext) <= 512
        assert all(0x21 <= byte <= 0x7E for byte in plaintext)


@pytest.mark.parametrize("key", ["Zm9vYmFyMDEy==", "ABC123==", "keyid:secret=part", "AB=="])
def test_base64_padding_is_no_assignment(key: str) -> None:
    """Keys of providers yet to come may end in `=`."""
    assert accept_credential("openrouter", key).secret == Secret(key)


REFUSALS = {
    "nothing": ("", "empty", "There is no key in the field."),
    "only blanks": (" \u200b\n", "empty", "There is no key in the field."),
    "only a name": ("OPENROUTER_API_KEY=", "empty", "There is no key in the field."),
    "only a scheme": ("Authorization: Bearer ", "empty", "There is no key in the field."),
    "two keys": (
        f"{OPENROUTER}\n{OPENROUTER}",
        "inner_whitespace",
        "There is a space or a line break inside the key.",
    ),
    "a sentence": ("my key is secret", "inner_whitespace", "There is a space or a line break inside the key."),
    "a no-break space": (
        "sk-or-v1\xa0abc",
        "inner_whitespace",
        "There is a space or a line break inside the key.",
    ),
    "the short form": ("sk-or-v1-abc…def", "not_ascii", "The key contains a character that no key has."),
    "bullets": ("••••••••", "not_ascii", "The key contains a character that no key has."),
    "a Cyrillic letter": ("sk-or-v1-аbc", "not_ascii", "The key contains a character that no key has."),
    "a NUL": ("sk-or-v1\0abc", "not_ascii", "The key contains a character that no key has."),
    "a lone surrogate": ("sk-or-\ud800", "not_ascii", "The key contains a character that no key has."),
    "513 characters": ("k" * 513, "too_long", "This is longer than 512 characters; no key is."),
    "a file": ("lorem ipsum " * 10_000, "too_long", "This is longer than 512 characters; no key is."),
}


@pytest.mark.parametrize(("text", "code", "sentence"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_form_that_no_key_has_is_refused(text: str, code: str, sentence: str) -> None:
    """Each refusal has its sentence."""
    with pytest.raises(CredentialFormError) as refused:
        accept_credential("openrouter", text)

    assert (refused.value.code, refused.value.sentence) == (code, sentence)
    assert refused.value.belongs_to is None


def test_512_characters_are_accepted() -> None:
    """The limit itself is allowed, after trimming."""
    assert len(accept_credential("openrouter", f' "{"k" * 512}" ').secret) == 512


FOREIGN = {
    "openrouter": (OPENROUTER, "This looks like an OpenRouter key; paste it in the OpenRouter field."),
    "openai": (OPENAI, "This looks like an OpenAI key; paste it in the OpenAI field."),
    "anthropic": (ANTHROPIC, "This looks like an Anthropic key; paste it in the Anthropic field."),
    "google": (GOOGLE, "This looks like a Google key; paste it in the Google field."),
}


@pytest.mark.parametrize("field", FOREIGN)
@pytest.mark.parametrize("owner", FOREIGN)
def test_another_providers_key_names_its_field(field: str, owner: str) -> None:
    """All twelve confusions, and the page can move the key to where it belongs."""
    key, sentence = FOREIGN[owner]
    if field == owner:
        assert accept_credential(field, key).secret == Secret(key)
        return

    with pytest.raises(CredentialFormError) as refused:
        accept_credential(field, f"export K={key}")

    assert (refused.value.code, refused.value.sentence) == ("wrong_kind", sentence)
    assert refused.value.belongs_to == owner


@pytest.mark.parametrize("field", FOREIGN)
@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("sk-ant-admin01-" + "a" * 40, "This is an Anthropic admin key; it cannot run models."),
        ("sk-admin-" + "a" * 40, "This is an OpenAI admin key; it cannot run models."),
        ("ok_" + "a" * 36, "This is an Ownkey access token, not a provider's key."),
        ("sk_live_" + "a" * 40, "This is a Stripe key, not an AI provider's key."),
        ("whsec_" + "a" * 40, "This is a webhook secret, not a provider's key."),
    ],
)
def test_a_key_of_the_wrong_kind_is_refused_in_every_field(field: str, key: str, sentence: str) -> None:
    """Admin keys, our own tokens and keys of other trades run no model anywhere."""
    with pytest.raises(CredentialFormError) as refused:
        accept_credential(field, key)

    assert (refused.value.code, refused.value.sentence) == ("wrong_kind", sentence)
    assert refused.value.belongs_to is None


def test_a_short_key_shows_no_ending() -> None:
    """Four characters of a short key are too much of it."""
    assert credential_hint("sk-or-" + "a" * 17) == "…"
    assert credential_hint("sk-or-" + "a" * 18) == "sk-or-…aaaa"


def test_hostile_texts_take_no_time() -> None:
    """The longest nests of wrappings that are looked at stay far below a request's patience."""
    started = time.perf_counter()
    for text in ("X=" * 2_048, "Bearer " * 585, "'\"" * 2_048, "A" * 4_096, "export " * 585, '";' * 2_048):
        unwrap_pasted(text)

    assert time.perf_counter() - started < 1
