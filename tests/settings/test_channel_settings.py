"""[mail] and [events]: whole and safe, or a sentence that names the setting; secrets from outside the file only."""

from pathlib import Path

import pytest

from ownkey.bootstrap import check_channels
from ownkey.settings.product import Settings, SettingsError, load_settings

PRODUCT = '[product]\nentry_url = "https://app.example.com/ai?open={flow}"\n'
MAIL = '[mail]\nhost = "smtp.example.com"\nfrom = "Acme AI <ai@example.com>"\n'
EVENTS = '[events]\nurl = "https://app.example.com/hooks"\n'
SECRET = "whsec_c2VjcmV0IG9mIHRoaXJ0eS10d28gYnl0ZXMhIQ=="


def load(folder: Path, text: str, **environ: str) -> Settings:
    path = folder / "ownkey.toml"
    path.write_text('preset = "support-desk"\n' + text)
    return load_settings(path, environ)


def test_without_them_there_is_no_channel(tmp_path: Path) -> None:
    settings = load(tmp_path, "")

    assert (settings.mail, settings.events) == (None, None)
    check_channels(settings)


@pytest.mark.parametrize(("line", "port", "tls"), [
    ("", 587, "starttls"), ('tls = "implicit"\n', 465, "implicit"), ("port = 2525\n", 2525, "starttls"),
])
def test_the_port_follows_the_encryption(tmp_path: Path, line: str, port: int, tls: str) -> None:
    mail = load(tmp_path, PRODUCT + MAIL + line).mail

    assert mail is not None
    assert (mail.port, mail.tls, mail.sender.addr_spec, mail.sender.display_name) == (
        port, tls, "ai@example.com", "Acme AI")


def test_secrets_come_from_the_environment_first_then_from_files(tmp_path: Path) -> None:
    """A file named in the environment wins over one named in the configuration; neither is ever printed."""
    (tmp_path / "a").write_text("from-config\n")
    (tmp_path / "b").write_text("from-environment-file\n")
    text = PRODUCT + MAIL + 'user = "u"\npassword_file = "a"\n'
    found = [
        load(tmp_path, text, **env).mail for env in (
            {}, {"OWNKEY_SMTP_PASSWORD_FILE": str(tmp_path / "b")},
            {"OWNKEY_SMTP_PASSWORD": "direct", "OWNKEY_SMTP_PASSWORD_FILE": str(tmp_path / "b")},
        )
    ]

    assert [mail and mail.password for mail in found] == ["from-config", "from-environment-file", "direct"]
    assert not [mail for mail in found if str(mail and mail.password) in repr(mail)]
    events = load(tmp_path, EVENTS, OWNKEY_EVENT_SECRETS=f"{SECRET} {SECRET}").events
    assert events is not None
    assert events.secrets == (SECRET, SECRET)
    assert SECRET not in repr(events)


@pytest.mark.parametrize(("text", "told"), [
    (PRODUCT + MAIL + 'user = "u"\n', "OWNKEY_SMTP_PASSWORD"),
    (PRODUCT + MAIL + 'user = "u"\npassword_file = "nowhere"\n', "cannot be read"),
    (EVENTS, "OWNKEY_EVENT_SECRETS"),
])
def test_a_channel_by_half_loads_for_commands_and_is_refused_at_start(tmp_path: Path, text: str, told: str) -> None:
    settings = load(tmp_path, text)

    with pytest.raises(ValueError, match=told):
        check_channels(settings)


@pytest.mark.parametrize(("text", "told"), [
    (MAIL, "product.entry_url"),
    (PRODUCT + '[mail]\nport = 25\n', "mail.port"),
    (PRODUCT + '[mail]\nhost = "smtp.example.com"\n', "mail.from"),
    (PRODUCT + MAIL + 'tls = "none"\n', "loopback"),
    (PRODUCT + MAIL + 'tls = "ssl"\n', "mail.tls"),
    (PRODUCT + MAIL.replace("smtp.example.com", "smtp.example.com/x"), "mail.host"),
    (PRODUCT + MAIL.replace("ai@example.com", "nobody"), "mail.from"),
    (PRODUCT + MAIL.replace("Acme AI", "Acme\\r\\nBcc: eve@evil.example"), "mail.from"),
    (PRODUCT + MAIL + 'password = "hunter2"\n', "mail.password"),
    ('[events]\nsecret_file = "x"\n', "events.secret_file"),
    ('[events]\nurl = "http://app.example.com/hooks"\n', "allow_insecure"),
    ('[events]\nurl = "https://127.0.0.1/hooks"\n', "allow_insecure"),
    ('[events]\nurl = "https://user:pw@app.example.com/hooks"\n', "events.url"),
    ('[events]\nurl = "ftp://app.example.com/hooks"\n', "events.url"),
    ('[events]\nurl = "https://app.example.com/hooks?token=1"\n', "events.url"),
])
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)

    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "user:pw" not in str(caught.value)


def test_three_secrets_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="two at most"):
        load(tmp_path, EVENTS, OWNKEY_EVENT_SECRETS=f"{SECRET} {SECRET} {SECRET}")
