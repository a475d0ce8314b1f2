"""[portal] in ownkey.toml: pages, sites and looks that are whole and exact, or a sentence that names the setting."""

from pathlib import Path

import pytest

from ownkey.domain.portal import Page, PortalRules
from ownkey.settings.product import SettingsError, load_settings
from ownkey.settings.starter import write_config_text


def load(folder: Path, text: str, preset: str = "support-desk") -> PortalRules:
    path = folder / "ownkey.toml"
    path.write_text(f'preset = "{preset}"\n' + text)
    return load_settings(path, {}).portal


@pytest.mark.parametrize(("preset", "pages"), [
    ("support-desk", (Page.CREDENTIALS, Page.FEATURES, Page.SPEND, Page.ACTIVITY)),
    ("app-builder", (Page.CREDENTIALS, Page.SPEND, Page.ACTIVITY, Page.PLANS, Page.PROJECTS)),
])
def test_what_holds_without_it(tmp_path: Path, preset: str, pages: tuple[Page, ...]) -> None:
    """The preset's pages, framed by nobody, for a quarter of an hour."""
    assert load(tmp_path, "", preset) == PortalRules(pages=pages)
    assert (PortalRules().session_s, PortalRules().session_most_s) == (900, 3_600)


def test_a_whole_section(tmp_path: Path) -> None:
    """Pages in the file's order, origins as browsers write them, and the pages of [connect] to go back to."""
    rules = load(tmp_path, """
[connect]
return_urls = ["https://app.example.com/ai"]
[portal]
pages = ["spend", "credentials", "spend"]
origins = ["https://App.example.com:443/", "http://localhost:3000", "https://app.example.com"]
return_urls = ["https://app.example.com/keys"]
refresh_urls = ["https://app.example.com/ownkey/session"]
session_s = 600
session_most_s = 1200
logo_text = " Example  AI "
support_url = "https://help.example.com/ai"
[portal.words]
"API Keys" = "AI keys"
"Saved." = "Gespeichert."
[portal.theme]
radius = "8px"
[portal.theme.light]
primary = "#123456"
primary-foreground = "#fff"
""")

    assert rules.pages == (Page.SPEND, Page.CREDENTIALS)
    assert rules.origins == ("https://app.example.com", "http://localhost:3000")
    assert rules.return_urls == ("https://app.example.com/ai", "https://app.example.com/keys")
    assert rules.refresh_urls == ("https://app.example.com/ownkey/session",)
    assert (rules.session_s, rules.session_most_s) == (600, 1_200)
    assert (rules.logo_text, rules.support_url) == ("Example AI", "https://help.example.com/ai")
    assert rules.words == {"API Keys": "AI keys", "Saved.": "Gespeichert."}
    assert rules.theme.light == {"primary": "#123456", "primary-foreground": "#fff", "radius": "8px"}
    assert rules.theme.warnings == ()


def test_a_shorter_most_is_the_usual_time_too(tmp_path: Path) -> None:
    """Nobody has to say the same thing twice."""
    assert load(tmp_path, "[portal]\nsession_most_s = 300\n").session_s == 300


@pytest.mark.parametrize(("line", "named"), [
    ('pages = ["keys"]', "portal.pages"),
    ('pages = ["credential"]', "Did you mean 'credentials'"),
    ('pages = ["calls"]', "portal.pages"),
    ("pages = []", "at least one page"),
    ('origins = ["https://*.example.com"]', "portal.origins"),
    ('origins = ["*"]', "portal.origins"),
    ('origins = ["https://app.example.com/ai"]', "portal.origins"),
    ('origins = ["https://app.example.com; script-src *"]', "portal.origins"),
    ('origins = ["https://a@app.example.com"]', "portal.origins"),
    ('origins = ["https://app.example.com:99999"]', "portal.origins"),
    ('origins = ["http://app.example.com"]', "is not https"),
    ('refresh_urls = ["/session"]', "portal.refresh_urls"),
    ('return_urls = ["javascript:alert(1)"]', "portal.return_urls"),
    ("session_s = 30", "portal.session_s"),
    ("session_s = 3601", "portal.session_s"),
    ("session_most_s = 7200", "portal.session_most_s"),
    ('support_url = "help.example.com"', "portal.support_url"),
    (f'logo_text = "{"x" * 41}"', "portal.logo_text"),
    ('logotext = "x"', "Did you mean 'logo_text'"),
    ('[portal.theme.light]\nprimary = "url(x)"', "portal.theme.light.primary"),
    ('[portal.theme.dark]\nprimry = "#fff"', "did you mean primary"),
    ('[portal.theme]\nradius = "big"', "portal.theme.radius"),
    ('[portal.theme.high]\nprimary = "#fff"', "portal.theme.high"),
    ('[portal.words]\n"API Keys" = ""', "API Keys"),
    ('[portal.words]\n"API Keys" = "sk-or-v1-0123456789abcdef0123"', "looks like a key"),
    ('[portal.words]\n"API Keys" = 5', "must be text"),
])
def test_what_cannot_be_used_is_named(tmp_path: Path, line: str, named: str) -> None:
    """A start with a setting that is not meant would frame, lead or look otherwise than its operator believes."""
    with pytest.raises(SettingsError) as error:
        load(tmp_path, f"[portal]\n{line}\n")

    assert named in str(error.value)


@pytest.mark.parametrize("preset", ["support-desk", "app-builder"])
def test_the_starters_own_section_can_be_used(tmp_path: Path, preset: str) -> None:
    """What `ownkey init` writes as a comment works when its marks are taken away."""
    text = write_config_text(preset)
    section = text[text.index("# [portal]"):].partition("\n\n")[0]
    uncommented = "\n".join(line.removeprefix("# ") for line in section.splitlines())
    path = tmp_path / "ownkey.toml"
    path.write_text(f"{text}\n{uncommented}\n")
    rules = load_settings(path, {}).portal

    assert rules.pages == load(tmp_path, "", preset).pages
    assert rules.origins == ("https://app.example.com",)
    assert rules.theme.warnings == ()
