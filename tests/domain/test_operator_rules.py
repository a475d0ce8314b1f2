"""Operators' rules: passwords, secrets, addresses behind proxies, and where a sign-in may lead."""

import pytest

from ownkey.domain.operators import (
    account_key,
    address_key,
    client_address,
    csrf_token,
    is_csrf_token,
    normal_email,
    own_path,
    password_problem,
    recovery_code,
    recovery_digest,
    secret_digest,
)


def problem(password: str) -> str | None:
    return password_problem(password, email="grace.hopper@example.com", name="Grace Hopper", product="Tickets Desk")


@pytest.mark.parametrize("password", [
    "short", "elevenchars", "grace.hopper@example.com", "grace.hopper99", "Tickets desk!", "Hopper123456",
    "passwordpassword", "Password12345!", "12345password", "aaaaaaaaaaaaaaaa", "ababababababab", "123456789012",
    "qwertyuiop123", "abcdefghijklmnop", "ownkey!!!!12", "x" * 1_025, "letmein20262026",
])
def test_passwords_that_are_tried_first_are_refused(password: str) -> None:
    """Short ones, names at hand, well-known words with something around them, runs of keys, repetitions."""
    assert problem(password) is not None


@pytest.mark.parametrize("password", [
    "violet canoe under tuesday", "correct horse battery staple", "x7#kQ9!mPz2$", "пароль из четырёх слов",
    "Grace's four unrelated bicycle keys", "日本語のパスワードです。長い",
])
def test_long_passwords_of_any_language_are_taken(password: str) -> None:
    """No demand for digits or signs, and every alphabet."""
    assert problem(password) is None


def test_secrets_are_recognised_by_form() -> None:
    """Whatever is no secret of ours is looked up nowhere."""
    assert secret_digest("A" * 43) is not None
    assert [secret_digest(text) for text in ("", "A" * 42, "A" * 44, "A" * 42 + "=", "ä" * 43, "A" * 42 + "\n")] == [
        None] * 6


def test_a_forms_token_follows_from_the_session_and_not_back() -> None:
    """HMAC(secret, "csrf"): another session's token is refused, and so is rubbish."""
    one, other = "A" * 43, "B" * 43

    assert is_csrf_token(one, csrf_token(one))
    assert csrf_token(one) not in (one, csrf_token(other))
    assert not any(is_csrf_token(one, token) for token in ("", csrf_token(other), one, "\ud800", "ä"))


def test_recovery_codes_are_found_however_they_are_typed() -> None:
    """80 bits, in small letters with hyphens; typed in capitals, with blanks, or in one piece."""
    code = recovery_code(bytes(range(10)))

    assert len(code) == 19
    assert recovery_digest(code) == recovery_digest(code.upper()) == recovery_digest(f" {code.replace('-', ' ')} ")
    assert [recovery_digest(text) for text in ("", "123456", code[:-1], code + "a", "0" * 16, "é" * 16)] == [None] * 6


@pytest.mark.parametrize(("peer", "forwarded", "proxies", "expected"), [
    ("203.0.113.9", ["198.51.100.1"], [], "203.0.113.9"),
    ("10.0.0.1", ["198.51.100.1"], ["10.0.0.0/8"], "198.51.100.1"),
    ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], ["10.0.0.0/8"], "198.51.100.1"),
    ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], ["10.0.0.0/8"], "198.51.100.1"),
    ("10.0.0.1", ["198.51.100.1, 10.0.0.7"], ["10.0.0.0/8"], "198.51.100.1"),
    ("10.0.0.1", ["198.51.100.1, rubbish"], ["10.0.0.0/8"], "10.0.0.1"),
    ("10.0.0.1", [], ["10.0.0.0/8"], "10.0.0.1"),
    ("::1", ["2001:db8::5"], ["::1"], "2001:db8::5"),
    ("127.0.0.1", ["::ffff:198.51.100.1"], ["127.0.0.1"], "198.51.100.1"),
    ("", ["198.51.100.1"], ["10.0.0.0/8"], ""),
])
def test_only_configured_proxies_are_believed(
    peer: str, forwarded: list[str], proxies: list[str], expected: str
) -> None:
    """From the right, as far as the hops are ours: what a caller writes in front counts for nothing."""
    assert client_address(peer, forwarded, proxies) == expected


def test_one_caller_is_counted_once() -> None:
    """An IPv6 network is one place; an address and its mapped form are one; accounts are counted by normal form."""
    assert address_key("2001:db8:1:2::5") == address_key("2001:db8:1:2:ffff::9") != address_key("2001:db8:1:3::5")
    assert address_key("::ffff:192.0.2.1") == address_key("192.0.2.1") != address_key("192.0.2.2")
    assert account_key(" Ada@Example.com ") == account_key("ada@example.com") != account_key("ada@example.org")
    assert len({account_key("nobody"), address_key("nobody")}) == 2


@pytest.mark.parametrize("path", [
    "https://evil.test/", "//evil.test", "/\\evil.test", "/portal", "/consolex", "/console/../portal//x",
    "/console//evil.test", "/console/a\r\nset-cookie: x=y", "javascript:alert(1)", "", "/console?x=<script>",
])
def test_a_sign_in_leads_to_the_console_only(path: str) -> None:
    """No open redirect: whatever is no page of ours becomes the first page."""
    assert own_path(path) == "/console"


def test_a_sign_in_leads_back_to_where_one_was() -> None:
    assert own_path("/console/workspaces/ws_1?tab=calls&q=a%20b") == "/console/workspaces/ws_1?tab=calls&q=a%20b"


@pytest.mark.parametrize("typed", ["", "ada", "ada@", "@example.com", "a b@example.com", "a@b@c", "a@example.com\0"])
def test_other_texts_are_no_addresses(typed: str) -> None:
    assert normal_email(typed) is None
