"""Environment variables: one table, and a clear sentence for what cannot be used."""

from pathlib import Path

import pytest

from ownkey.settings.environment import PREFIX, VARIABLES, read_environment
from ownkey.settings.tables import SettingsError


def test_an_empty_environment_says_nothing() -> None:
    actual = read_environment({})

    assert actual.config_path == Path("ownkey.toml")
    assert (actual.data_dir, actual.host, actual.port, actual.url, actual.token) == (None, None, None, None, None)
    assert (actual.testing, actual.failpoint) == (False, None)


def test_every_variable_is_read() -> None:
    actual = read_environment({
        "OWNKEY_CONFIG": "/etc/ownkey.toml", "OWNKEY_DATABASE_URL": "sqlite", "OWNKEY_DATA_DIR": "/var/ownkey",
        "OWNKEY_HOST": "0.0.0.0", "OWNKEY_PORT": "80", "OWNKEY_URL": "https://ownkey.example/",
        "OWNKEY_TOKEN": "ok_secret", "OWNKEY_TESTING": "1", "OWNKEY_FAILPOINT": "after-hold",
    })  # fmt: skip

    assert actual.config_path == Path("/etc/ownkey.toml")
    assert (actual.data_dir, actual.host, actual.port) == (Path("/var/ownkey"), "0.0.0.0", 80)
    assert (actual.url, actual.token) == ("https://ownkey.example", "ok_secret")
    assert (actual.testing, actual.failpoint) == (True, "after-hold")
    assert "ok_secret" not in repr(actual)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"OWNKEY_DATABASE_URL": "postgresql://u:p@host/db"}, "not supported by this version"),
        ({"OWNKEY_DATABASE_URL": "postgres://host/db"}, "not supported by this version"),
        ({"OWNKEY_DATABASE_URL": "postgresql+psycopg://host/db"}, "not supported by this version"),
        ({"OWNKEY_DATABASE_URL": "mysql://host/db"}, "not supported"),
        ({"OWNKEY_PORT": "http"}, "OWNKEY_PORT"),
        ({"OWNKEY_PORT": "70000"}, "OWNKEY_PORT"),
        ({"OWNKEY_FAILPOINT": "in-settle"}, "OWNKEY_TESTING"),
        ({"OWNKEY_CONFG": "x"}, "Did you mean OWNKEY_CONFIG?"),
    ],
)
def test_what_cannot_be_used_is_refused(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence.replace("?", r"\?")):
        read_environment(environ)


def test_a_refused_database_url_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        read_environment({"OWNKEY_DATABASE_URL": "postgresql://user:hunter2@host/db"})

    assert "hunter2" not in str(caught.value)


def test_the_names_that_kubernetes_adds_are_not_ours() -> None:
    actual = read_environment({"OWNKEY_PORT": "tcp://10.0.0.1:80", "OWNKEY_SERVICE_HOST": "10.0.0.1"})

    assert actual.port is None


def test_the_table_is_complete_and_explains_itself() -> None:
    names = [variable.name for variable in VARIABLES]

    assert len(set(names)) == len(names)
    assert all(v.name.startswith(PREFIX) and v.meaning.endswith(".") and v.default for v in VARIABLES)
    assert {v.name for v in VARIABLES if v.secret} == {
        "OWNKEY_MASTER_KEY", "OWNKEY_TOKEN", "OWNKEY_SMTP_PASSWORD", "OWNKEY_EVENT_SECRETS", "OWNKEY_STRIPE_KEY",
        "OWNKEY_STRIPE_WEBHOOK_SECRETS", "OWNKEY_OIDC_CLIENT_SECRET",
    }
