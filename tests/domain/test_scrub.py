"""Nothing that looks like a key, and not one byte of this call's own key, passes on to be read."""

import json
import random
import time
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownkey.domain.scrub import CredentialTail, looks_like_secret, scrub, scrub_provider_text
from ownkey.domain.tokens import make_token

SECRETS = {
    "openrouter": "sk-or-v1-" + "0123456789abcdef" * 4,
    "anthropic": "sk-ant-api03-" + "Xyz789_-" * 11,
    "anthropic admin": "sk-ant-admin01-" + "Xyz789_-" * 8,
    "openai": "sk-" + "T3BlbkFJ" * 6,
    "openai project": "sk-proj-" + "Abc123_-" * 16,
    "openai half masked": "sk-proj-********************wxyz",
    "google": "AIzaSyD4e5F6g7h8I9j0K1l2M3n4O5p6Q7r8S9t",
    "google new": "AQ.Ab8RN6Jq_-RN6Jq_-RN6Jq_-RN6Jq_-",
    "access token": make_token(b"x" * 32),
    "webhook secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "stripe": "sk_live_51HqJ2eK4fJ8sK2mN7pQ",
    "stripe test": "sk_test_51HqJ2eK4fJ8sK2mN7pQ",
}
named = pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())


@named
@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "Incorrect API key provided: {}.",
        '{{"error":{{"message":"key {} is wrong"}}}}',
        "https://host/v1?key={}&x=1",
        "header=Bearer%20{}",
        "line\\n{}",
        "({})",
        "<b>{}</b>",
        "key:{},",
        "\t{}\n",
        "日本{}語",
    ],
)
def test_every_format_is_masked_wherever_it_stands(secret: str, around: str) -> None:
    """Quoted, glued to escapes, in URLs and markup: the key goes, the rest of the text stays."""
    before, _, after = around.format("{}").partition("{}")
    text, hits = scrub(before + secret + after)

    assert hits == 1
    assert secret[-8:] not in text
    assert secret[4:16] not in text
    assert text.endswith(after if not secret.startswith("whsec") else "")
    assert looks_like_secret(before + secret + after)


@named
def test_a_key_in_json_or_a_url_is_masked(secret: str) -> None:
    """The formats survive the two escapings that logs use."""
    for escaped in (json.dumps({"k": [secret]}), "https://h/?k=" + quote(secret, safe="*")):
        text, hits = scrub(escaped)

        assert hits >= 1
        assert secret[-8:] not in text


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc",
        "bearer abc12345",
        "Bearer  abcdefghijklmnopqrstuvwxyz",
        "Bearer%20abc12345",
    ],
)
def test_a_bearer_value_of_any_form_is_masked(text: str) -> None:
    """What follows the scheme is a secret, whatever it looks like; the scheme stays to be read."""
    masked, hits = scrub(text)

    assert hits == 1
    assert masked.lower().rstrip("*").replace("%20", " ").strip().endswith("bearer")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "task-force, disk-or-tape, risk-or-reward, ask-ant-hills",
        "sk-or-…cdef is the hint of your key",
        "the prefix sk-ant- is Anthropic's",
        "Bearer authentication is required",
        "bearer token missing",
        "lookup_ok_status is_ok_now book_ok_",
        "FAQ.answers and AQ.short",
        "scikit-learn; sk-learn",
        "req_011CSHoEeqs5C35K2UUqR7Fy gen-1755000000-abc chatcmpl-abc cred_0123456789",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    """A false hit raises an alarm, so words, hints and ids are not hits."""
    assert scrub(text) == (text, 0)
    assert not looks_like_secret(text)


def test_every_hit_counts() -> None:
    """The count feeds a metric that raises an alarm."""
    text, hits = scrub(f"{SECRETS['openrouter']} and {SECRETS['google']}, {SECRETS['openrouter']}")

    assert (text, hits) == ("*** and ***, ***", 3)


@settings(max_examples=300)
@given(before=st.text(max_size=60), after=st.text(max_size=60), secret=st.sampled_from(list(SECRETS.values())))
def test_no_surrounding_text_hides_a_key(before: str, after: str, secret: str) -> None:
    """Any neighbours at all, letters and digits without a gap included."""
    text, hits = scrub(before + secret + after)

    assert hits >= 1
    assert secret not in text


def test_hostile_texts_take_linear_time() -> None:
    """A provider chooses the text that is searched: a megabyte of near misses stays far below a second."""
    for text in ("sk-" * 300_000, "sk-a" * 250_000, "bearer " * 140_000, "AQ." * 300_000, "xsk-" + "a" * 1_000_000):
        started = time.perf_counter()
        scrub(text)
        assert time.perf_counter() - started < 1


# Provider texts -----------------------------------------------------------------------------------------------


def test_a_provider_text_is_cut_and_scrubbed() -> None:
    """At most 300 characters of it, and `…` says that there was more."""
    assert scrub_provider_text("short") == ("short", 0)
    assert scrub_provider_text("a" * 300) == ("a" * 300, 0)
    assert scrub_provider_text("a " * 300) == ("a " * 150 + "…", 0)
    assert scrub_provider_text(f"wrong key {SECRETS['openai']}, sorry", limit=20) == ("wrong key ***…", 1)


@named
def test_the_cut_leaves_no_piece_of_a_key(secret: str) -> None:
    """For every place of the key around the cut, and many keys before it: no five characters of it remain."""
    pieces = {secret[at : at + 8] for at in range(6, len(secret) - 8)} - {"********"}
    for offset in range(30, 61):
        for before in (" " * offset, f"{secret} " * 3 + " " * offset):
            text, hits = scrub_provider_text(before + secret + " end " + secret * 4, limit=60)

            assert [piece for piece in pieces if piece in text] == []
            assert hits >= 1 or offset == 60


@settings(max_examples=200)
@given(text=st.text(max_size=2_000), limit=st.integers(min_value=1, max_value=400))
def test_a_provider_text_never_exceeds_its_limit_by_more_than_a_mask(text: str, limit: int) -> None:
    """The mask of a hit at the cut, its scheme, and the sign of the cut are all that may stand behind it."""
    cut, _ = scrub_provider_text(text, limit)

    assert len(cut) <= limit + 32


# One credential in a stream -----------------------------------------------------------------------------------

KEY = SECRETS["openrouter"].encode()


def run(tail: CredentialTail, chunks: list[bytes]) -> bytes:
    return b"".join([*(tail.feed(chunk) for chunk in chunks), tail.flush()])


def test_a_stream_without_the_credential_passes_untouched_and_at_once() -> None:
    """No byte waits: chunks that end in a line feed come out as the object that went in."""
    tail = CredentialTail(KEY)

    for chunk in (b'data: {"delta":"sk-or-v1"}\n\n', b": comment\n\n", b"data: [DONE]\n\n"):
        assert tail.feed(chunk) is chunk
    assert tail.flush() == b""
    assert tail.hits == 0


@pytest.mark.parametrize("secret", [KEY, b"abab", b"aab", b"aaaa", b"k"], ids=["key", "abab", "aab", "aaaa", "k"])
def test_the_credential_is_masked_at_every_split(secret: bytes) -> None:
    """Three echoes, cut in two and in three at every byte: the same as masking the whole."""
    whole = b"data: " + secret + b" x " + secret + secret + secret[:-1] + b"\n\n" + secret[:3]
    expected = whole.replace(secret, b"***")

    for first in range(len(whole) + 1):
        for second in {first, min(first + 1, len(whole)), (first + len(whole)) // 2}:
            tail = CredentialTail(secret)
            assert run(tail, [whole[:first], whole[first:second], whole[second:]]) == expected
            assert tail.hits == whole.count(secret)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_the_credential_is_masked_in_crumbs(size: int) -> None:
    """One byte at a time is the worst that a network does."""
    whole = (b"data: " + KEY + b"\n\n") * 3
    tail = CredentialTail(KEY)

    assert run(tail, [whole[at : at + size] for at in range(0, len(whole), size)]) == whole.replace(KEY, b"***")
    assert tail.hits == 3


@settings(max_examples=1_000)
@given(
    secret=st.binary(min_size=1, max_size=6).map(lambda raw: bytes(97 + byte % 3 for byte in raw)),
    text=st.binary(max_size=80).map(lambda raw: bytes(97 + byte % 4 for byte in raw)),
    seed=st.integers(),
)
def test_splitting_never_changes_what_comes_out(secret: bytes, text: bytes, seed: int) -> None:
    """A small alphabet makes beginnings, overlaps and near misses of the credential as often as possible."""
    randomness = random.Random(seed)
    cuts = sorted(randomness.randint(0, len(text)) for _ in range(randomness.randint(0, 12)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    tail = CredentialTail(secret)

    assert run(tail, chunks) == text.replace(secret, b"***")
    assert tail.hits == text.count(secret)


@settings(max_examples=500)
@given(
    chunks=st.lists(st.one_of(st.binary(max_size=30), st.sampled_from([KEY, KEY[:20], KEY[20:], KEY[:1]])), max_size=12)
)
def test_only_a_beginning_of_the_credential_is_ever_held_back(chunks: list[bytes]) -> None:
    """What has come out so far lacks at most a proper beginning of the credential, and nothing else."""
    tail = CredentialTail(KEY)
    fed = out = b""

    for chunk in chunks:
        fed += chunk
        out += tail.feed(chunk)
        masked = fed.replace(KEY, b"***")
        held = masked[len(out) :]

        assert masked.startswith(out)
        assert len(held) < len(KEY)
        assert KEY.startswith(held)


def test_a_tokens_id_is_no_secret_and_the_token_is() -> None:
    """Ids of ours are shown; whatever stands before a token, it is masked."""
    ident = "tok_01a202257bfaab24a409d1f2e0cfc1ce"

    assert scrub(f"Access token {ident}, revoked") == (f"Access token {ident}, revoked", 0)
    assert not looks_like_secret(ident)
    for before in ("t", "\\t", "tok_ t", "at", "_t"):
        token = make_token(b"x" * 32)
        assert token not in scrub(before + token)[0]
        assert scrub(before + token)[1] == 1
    assert scrub(f"{ident}0123")[1] == 1
    assert scrub(f"at{ident.removeprefix('t')}")[1] == 1


def test_an_empty_credential_is_refused() -> None:
    """It would be found everywhere."""
    with pytest.raises(ValueError, match="empty credential"):
        CredentialTail(b"")
