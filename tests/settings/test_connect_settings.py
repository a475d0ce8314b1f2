"""[connect] in ownkey.toml: addresses that are whole and safe, or a sentence that names the setting."""

from pathlib import Path

import pytest

from ownkey.domain.connect import ConnectRules
from ownkey.settings.product import SettingsError, load_settings


def load(folder: Path, text: str) -> ConnectRules:
    path = folder / "ownkey.toml"
    path.write_text('preset = "support-desk"\n' + text)
    return load_settings(path, {}).connect


def test_what_holds_without_it(tmp_path: Path) -> None:
    """OpenRouter's own page, and no address of ours."""
    assert load(tmp_path, "") == ConnectRules("", (), "https://openrouter.ai/auth")


def test_a_whole_section(tmp_path: Path) -> None:
    """A slash at the end of public_url is no part of it; the sign-in page goes with the origin."""
    rules = load(tmp_path, (
        '[connect]\npublic_url = "https://ownkey.example.com/"\nreturn_urls = ["https://app.example.com/ai"]\n'
        '[origins]\nallow_insecure = true\nopenrouter = "http://127.0.0.1:9/openrouter/api/v1"\n'
    ))

    assert rules == ConnectRules(
        "https://ownkey.example.com", ("https://app.example.com/ai",), "http://127.0.0.1:9/openrouter/auth")


def test_an_origin_of_another_form_names_no_page(tmp_path: Path) -> None:
    """It is not guessed; the operator says it."""
    origin = '[origins]\nopenrouter = "https://proxy.example.com/or"\n'
    assert load(tmp_path, origin).auth_url == ""
    assert load(tmp_path, origin + '[connect]\nauth_url = "https://sign.example.com/in"\n').auth_url == (
        "https://sign.example.com/in")


@pytest.mark.parametrize(("line", "named"), [
    ('public_url = "ownkey.example.com"', "connect.public_url"),
    ('public_url = "http://ownkey.example.com"', "https"),
    ('public_url = "https://ownkey.example.com/?a=1"', "without a query"),
    ('return_urls = ["https://app.example.com/ai", "/settings"]', "connect.return_urls"),
    ('return_urls = ["https://*.example.com/"]', "connect.return_urls"),
    ('return_urls = ["https://app.example.com/ai#x"]', "connect.return_urls"),
    ('auth_url = "javascript:alert(1)"', "connect.auth_url"),
    ('return_url = []', "Did you mean 'return_urls'"),
])
def test_what_cannot_be_used_is_refused_at_the_start(tmp_path: Path, line: str, named: str) -> None:
    """No server runs with an address that a browser may not be sent to."""
    with pytest.raises(SettingsError, match=named):
        load(tmp_path, f"[connect]\n{line}\n")
