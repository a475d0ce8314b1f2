"""Which addresses a browser may be sent to, and what OpenRouter's sign-in page is asked."""

import hashlib
from base64 import urlsafe_b64encode
from urllib.parse import parse_qs, urlsplit

import pytest

from ownkey.domain.connect import (
    ConnectRules,
    KeyWish,
    address_problem,
    authorization_url,
    is_listed,
    is_loopback,
    s256,
    state_digest,
    with_query,
)

LISTED = ("https://app.example.com/settings/ai", "http://localhost:3000/done")


@pytest.mark.parametrize("url", [
    "https://app.example.com/settings/ai",
    "https://APP.example.com:443/settings/ai?tab=keys",
    "http://localhost:3000/done?x=1",
])
def test_a_listed_page_may_be_returned_to(url: str) -> None:
    """Scheme, host, port and path decide; the query is the product's own."""
    assert is_listed(url, LISTED)


@pytest.mark.parametrize("url", [
    "https://evil.example.com/settings/ai",
    "http://app.example.com/settings/ai",
    "https://app.example.com:8443/settings/ai",
    "https://app.example.com/settings/ai/",
    "https://app.example.com/settings/ai/../../evil",
    "https://app.example.com/settings",
    "https://app.example.com@evil.example.com/settings/ai",
    "https://evil.example.com\\@app.example.com/settings/ai",
    "https://app.example.com/settings/ai#part",
    "https://app.example.com.evil.example/settings/ai",
    "//app.example.com/settings/ai",
    "/settings/ai",
    "javascript:alert(1)",
    "https://app.example.com/settings/ai\r\nset-cookie: a=b",
    "https://app.example.com/settings/ai?ownkey_connect=saved",
    "https://app.example.com/settings/ai?code=1",
    "https://äpp.example.com/settings/ai",
    "https://app.example.com:0/settings/ai",
    "https://app.example.com:99999/settings/ai",
    "https://app.example.com/" + "a" * 3_000,
    "",
])
def test_nothing_else_is(url: str) -> None:
    """No open redirect: an address that differs, or that two parsers could read differently, is not listed."""
    assert not is_listed(url, LISTED)


def test_plain_http_is_for_this_machine_only() -> None:
    """A code must not cross a network unencrypted."""
    assert address_problem("http://localhost:51234/callback") is None
    assert address_problem("https://app.example.com/back") is None
    assert "https" in (address_problem("http://app.example.com/back") or "")
    assert is_loopback("http://127.0.0.1:9/x")
    assert not is_loopback("https://localhost.example.com/x")


def test_the_challenge_is_that_of_rfc_7636() -> None:
    """Appendix B of the RFC."""
    assert s256("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_the_address_to_open_carries_everything_once() -> None:
    """The state travels inside callback_url, encoded; what was not asked for is left out."""
    state = urlsafe_b64encode(b"s" * 32).rstrip(b"=").decode()
    url = authorization_url(
        ConnectRules(), "https://own.example.com/back?a=1", state, "c" * 43, KeyWish("Acme & Co", "12.50", "monthly")
    )
    found = parse_qs(urlsplit(url).query)

    assert url.startswith("https://openrouter.ai/auth?")
    assert found == {
        "callback_url": [f"https://own.example.com/back?a=1&state={state}"], "code_challenge": ["c" * 43],
        "code_challenge_method": ["S256"], "key_label": ["Acme & Co"], "limit": ["12.50"],
        "usage_limit_type": ["monthly"],
    }


def test_only_a_state_of_our_form_is_looked_up() -> None:
    """Anything else, of whatever length or alphabet, reaches no database."""
    state = "A" * 43
    assert state_digest(state) == hashlib.sha256(state.encode()).digest()
    assert [state_digest(text) for text in ("", "A" * 42, "A" * 44, "ä" * 43, "A" * 42 + "=", "A" * 43 + "\n")] == [
        None] * 6


def test_parameters_join_an_address_with_or_without_a_query() -> None:
    """And are encoded whole."""
    assert with_query("https://a/b", {"x": "1 &"}) == "https://a/b?x=1%20%26"
    assert with_query("https://a/b?c=d", {"x": "é"}) == "https://a/b?c=d&x=%C3%A9"
