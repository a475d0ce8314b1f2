"""Access tokens that a scanner recognises and a typo cannot pass for."""

import hashlib
import re
import string
import zlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownkey.domain.scrub import looks_like_secret
from ownkey.domain.tokens import digest, is_well_formed, make_token

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase


@settings(max_examples=500)
@given(st.binary(min_size=32, max_size=64))
def test_every_token_has_the_form_and_passes_its_check(entropy: bytes) -> None:
    """`ok_`, 30 and 6 base62 characters; text and bytes alike; and the scrubber knows it."""
    token = make_token(entropy)

    assert re.fullmatch(r"ok_[0-9A-Za-z]{36}", token)
    assert is_well_formed(token)
    assert is_well_formed(token.encode())
    assert looks_like_secret(token)


def test_the_checksum_is_the_crc_of_the_random_part() -> None:
    """Computed here a second way, as a scanner would."""
    token = make_token(bytes(range(32)))
    checksum = 0
    for character in token[-6:]:
        checksum = checksum * 62 + BASE62.index(character)

    assert zlib.crc32(token[3:33].encode()) == checksum


def test_a_known_token_stays_the_same() -> None:
    """Tokens in use must never change their form."""
    assert make_token(bytes(32)) == "ok_0000000000000000000000000000002C8GjS"
    assert make_token(bytes(range(32))) == "ok_CTQj2uNU3MFagCXG9LRKRcwGkBIDlf2PsEUb"


def test_one_wrong_character_is_found() -> None:
    """Every substitution at every place, and every swap of neighbours."""
    token = make_token(b"one wrong character is found...!")
    wrong = {
        token[:at] + other + token[at + 1 :]
        for at in range(len(token))
        for other in BASE62 + "_-"
        if other != token[at]
    }
    wrong |= {token[:at] + token[at + 1] + token[at] + token[at + 2 :] for at in range(3, len(token) - 1)} - {token}

    assert [candidate for candidate in wrong if is_well_formed(candidate)] == []
    assert len(wrong) > 2_000


@pytest.mark.parametrize(
    "text",
    ["", "ok_", "Bearer x", "ok_" + "0" * 36, "ok_" + "é" * 36, "\ud800", b"\xff" * 39, b"", "ok_" + "a" * 10_000],
)
def test_other_texts_are_refused(text: str | bytes) -> None:
    """Whatever stands in a header: an answer, never an error."""
    assert not is_well_formed(text)


def test_nothing_may_stand_around_a_token() -> None:
    """Length is exact: no blank, no line feed, no second token."""
    token = make_token(b"x" * 32)

    for text in (token + "\n", " " + token, token + token, token[:-1], token.upper(), token.replace("ok_", "OK_")):
        assert not is_well_formed(text)


@given(st.one_of(st.text(max_size=60), st.binary(max_size=60)))
def test_the_check_is_total(text: str | bytes) -> None:
    """Any text and any bytes; so is the digest."""
    assert is_well_formed(text) in {True, False}
    assert len(digest(text)) == 32


def test_the_digest_is_sha256_of_the_bytes() -> None:
    """Text and bytes of a token are found under one digest."""
    token = make_token(b"y" * 32)

    assert digest(token) == hashlib.sha256(token.encode()).digest()
    assert digest(token) == digest(token.encode())


def test_too_little_randomness_is_refused() -> None:
    """A weak token is not made."""
    with pytest.raises(ValueError, match="a token needs 32 random bytes, got 31"):
        make_token(b"x" * 31)


def test_characters_are_evenly_spread() -> None:
    """Over 2,000 tokens every character of the alphabet turns up about as often as any other."""
    counts = Counter(
        character for n in range(2_000) for character in make_token(hashlib.sha256(str(n).encode()).digest())[3:33]
    )
    expected = 2_000 * 30 / 62

    assert set(counts) == set(BASE62)
    assert sum((counts[c] - expected) ** 2 / expected for c in BASE62) < 110  # chi-square, 61 degrees, p < 0.0001
