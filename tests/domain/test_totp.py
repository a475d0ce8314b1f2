"""One-time codes: the RFC's own vectors, and each code once."""

from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from ownkey.domain.totp import NEVER, code_of, enrolment_uri, matching_step, seed_text, step_of

SEEDS = {"sha1": b"1234567890" * 2, "sha256": b"1234567890" * 3 + b"12", "sha512": b"1234567890" * 6 + b"1234"}

# RFC 6238, appendix B.
VECTORS = [
    (59, "sha1", "94287082"), (59, "sha256", "46119246"), (59, "sha512", "90693936"),
    (1111111109, "sha1", "07081804"), (1111111109, "sha256", "68084774"), (1111111109, "sha512", "25091201"),
    (1111111111, "sha1", "14050471"), (1111111111, "sha256", "67062674"), (1111111111, "sha512", "99943326"),
    (1234567890, "sha1", "89005924"), (1234567890, "sha256", "91819424"), (1234567890, "sha512", "93441116"),
    (2000000000, "sha1", "69279037"), (2000000000, "sha256", "90698825"), (2000000000, "sha512", "38618901"),
    (20000000000, "sha1", "65353130"), (20000000000, "sha256", "77737706"), (20000000000, "sha512", "47863826"),
]
SEED = SEEDS["sha1"]
AT_MS = 1_795_000_000_000


@pytest.mark.parametrize(("seconds", "digest", "code"), VECTORS)
def test_the_vectors_of_the_rfc(seconds: int, digest: str, code: str) -> None:
    """RFC 6238, appendix B: all eighteen."""
    assert code_of(SEEDS[digest], step_of(seconds * 1_000), digits=8, digest=digest) == code


def test_the_vectors_of_rfc_4226() -> None:
    """RFC 4226, appendix D: six digits, as apps show them."""
    codes = [code_of(SEED, count) for count in range(10)]

    assert codes == ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]


@pytest.mark.parametrize(("away", "found"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_half_a_minute_off(away: int, found: bool) -> None:
    """One step to either side, no more."""
    step = step_of(AT_MS) + away

    assert matching_step(SEED, code_of(SEED, step), AT_MS, NEVER) == (step if found else None)


def test_a_code_counts_once() -> None:
    """Neither the same code again nor an older one, once a step was used; the next one does."""
    now = step_of(AT_MS)

    assert matching_step(SEED, code_of(SEED, now), AT_MS, now) is None
    assert matching_step(SEED, code_of(SEED, now - 1), AT_MS, now) is None
    assert matching_step(SEED, code_of(SEED, now + 1), AT_MS, now) == now + 1


@pytest.mark.parametrize("typed", ["", "12345", "1234567", "abcdef", "１２３４５６", "\ud800", "0" * 1_000])
def test_other_texts_are_no_codes(typed: str) -> None:
    assert matching_step(SEED, typed, AT_MS, NEVER) is None


def test_what_an_app_reads() -> None:
    """The seed is the same as text and in the QR code's address; no name can bring a parameter along."""
    uri = enrolment_uri(SEED, "ada@example.com&secret=AAAA", "Tickets: the desk?issuer=x")
    query = parse_qs(urlsplit(uri).query)

    assert uri.startswith("otpauth://totp/")
    assert query["secret"] == [seed_text(SEED).replace(" ", "")]
    assert query["issuer"] == ["Tickets  the desk?issuer=x"]
    assert (query["digits"], query["period"], query["algorithm"]) == (["6"], ["30"], ["SHA1"])
    assert unquote(urlsplit(uri).path) == "/Tickets  the desk?issuer=x:ada@example.com&secret=AAAA"
