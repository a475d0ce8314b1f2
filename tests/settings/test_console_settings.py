"""[console] in ownkey.toml: safe without a word, or a sentence that names the setting."""

from pathlib import Path

import pytest

from ownkey.domain.operators import ConsoleRules
from ownkey.settings.console import ConsoleSettings
from ownkey.settings.product import SettingsError, load_settings

WITH_ADDRESS = '[connect]\npublic_url = "https://ownkey.example.com"\n'
OIDC = WITH_ADDRESS + (
    '[console.oidc]\nissuer = "https://login.example.com/realms/staff"\nclient_id = "ownkey"\n'
    'ops = ["Ada@Example.com"]\n'
)
SECRET = {"OWNKEY_OIDC_CLIENT_SECRET": "s3cret"}


def load(folder: Path, text: str, environ: dict[str, str] | None = None) -> ConsoleSettings:
    path = folder / "ownkey.toml"
    path.write_text('preset = "support-desk"\n' + text)
    return load_settings(path, environ or {}).console


def test_what_holds_without_it(tmp_path: Path) -> None:
    """On, with passwords and codes, half an hour idle, twelve hours in all, and no proxy believed."""
    assert load(tmp_path, "") == ConsoleSettings(ConsoleRules(True, True, 1_800_000, 43_200_000, (), None), None)


def test_a_whole_section(tmp_path: Path) -> None:
    """A provider switches passwords off; its own origin comes first; addresses are compared in small letters."""
    found = load(tmp_path, OIDC + 'support = ["@Example.com"]\norigins = ["https://keys.example.com/"]\n'
                 '[server]\nproxies = ["10.0.0.0/8", "::1"]\n[console]\nidle_s = 600\nsession_s = 3600\n', SECRET)
    assert found.oidc is not None

    assert found.rules == ConsoleRules(True, False, 600_000, 3_600_000, ("10.0.0.0/8", "::1/128"), None)
    assert (found.oidc.ops, found.oidc.support) == (("ada@example.com",), ("@example.com",))
    assert found.oidc.origins == ("https://login.example.com", "https://keys.example.com")
    assert found.oidc.problem == ""
    assert "s3cret" not in repr(found)


def test_a_second_way_in_is_asked_for(tmp_path: Path) -> None:
    assert load(tmp_path, OIDC + "[console]\npasswords = true\n", SECRET).rules.passwords


def test_the_secret_is_a_file_or_the_environments_and_never_the_configurations(tmp_path: Path) -> None:
    (tmp_path / "oidc.secret").write_text("from-a-file\n")
    from_file = load(tmp_path, OIDC + 'client_secret_file = "oidc.secret"\n').oidc
    named = load(tmp_path, OIDC, {"OWNKEY_OIDC_CLIENT_SECRET_FILE": str(tmp_path / "oidc.secret")}).oidc
    missing, public = load(tmp_path, OIDC).oidc, load(tmp_path, OIDC + "public_client = true\n").oidc
    assert from_file is not None
    assert named is not None
    assert missing is not None
    assert public is not None

    assert from_file.secret == named.secret == "from-a-file"
    assert "OWNKEY_OIDC_CLIENT_SECRET" in missing.problem
    assert (public.secret, public.problem) == ("", "")
    with pytest.raises(SettingsError, match=r"console\.oidc\.client_secret'? is unknown"):
        load(tmp_path, OIDC + 'client_secret = "s3cret"\n')


@pytest.mark.parametrize(("text", "words"), [
    ("[console]\nidle_s = 3600\n", "console.idle_s"),
    ("[console]\nidle_s = 1\n", "console.idle_s"),
    ("[console]\nsession_s = 86400\n", "console.session_s"),
    ("[console]\npasswords = false\n", "nobody could sign in"),
    ('[server]\nproxies = ["10.0.0.1/8"]\n', "server.proxies"),
    ('[server]\nproxies = ["proxy.example.com"]\n', "server.proxies"),
    ("[console]\nidel_s = 60\n", "idle_s"),
    ('[console.oidc]\nclient_id = "x"\n', "without console.oidc.issuer"),
    (OIDC.replace("https://login", "http://login"), "plain http"),
    (OIDC.replace("https://login.example.com", "https://localhost:1"), "loopback"),
    (OIDC.replace("https://login", "https://user:pw@login"), "console.oidc.issuer"),
    (OIDC.replace("/realms/staff", "/?a=b"), "console.oidc.issuer"),
    (OIDC + 'origins = ["https://keys.example.com/path"]\n', "console.oidc.origins"),
    (OIDC.replace('ops = ["Ada@Example.com"]\n', ""), "lets nobody in"),
    (OIDC.replace("Ada@Example.com", "ada"), "console.oidc.ops"),
    (OIDC.replace("Ada@Example.com", "@"), "console.oidc.ops"),
    (OIDC.removeprefix(WITH_ADDRESS), "connect.public_url"),
    (OIDC.replace('"ownkey"', '""'), "console.oidc.client_id"),
])
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)

    assert words in str(caught.value)


def test_a_test_provider_may_be_on_loopback(tmp_path: Path) -> None:
    text = OIDC.replace("https://login.example.com/realms/staff", "http://127.0.0.1:9")
    found = load(tmp_path, "[origins]\nallow_insecure = true\n" + text, SECRET).oidc
    assert found is not None

    assert found.origins == ("http://127.0.0.1:9",)
