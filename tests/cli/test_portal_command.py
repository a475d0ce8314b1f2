"""`ownkey portal`, as an operator types it: a link to try the pages out, who is looking, and an end to it."""

import json
from pathlib import Path

import pytest
from tests.cli.terminal import Terminal
from tests.deployment import deployed

CONNECT = '[connect]\npublic_url = "https://own.example.com"\nreturn_urls = ["https://app.example.com/ai"]\n'


@pytest.fixture
def desk(tmp_path: Path) -> Terminal:
    terminal = Terminal(tmp_path)
    terminal.good("init", "--preset", "support-desk", "--dir", str(tmp_path))
    (tmp_path / "ownkey.toml").write_text(
        f'preset = "support-desk"\n[prices]\nsync = false\n{CONNECT}'
        '[portal]\norigins = ["https://app.example.com"]\n[portal.theme.light]\nprimary = "#ffff00"\n'
        'primary-foreground = "#ffffff"\n'
    )
    terminal.good("workspace", "add", "Acme", "-x", "acme")
    return terminal


def test_link_sessions_revoke(desk: Terminal) -> None:
    """A link for an operator's own try-out; then the visit is listed and ended."""
    link = desk.json("portal", "link", "acme", "--email", "ada@example.com", "--role", "admin", "--flow", "cap")
    frame = desk.good("portal", "link", "--email", "bo@example.com", "--frame", "--return-url",
                      "https://app.example.com/ai").out
    (second, first) = desk.json("portal", "sessions")["sessions"]
    ended = desk.good("portal", "revoke", first["session"]).out
    rest = desk.good("portal", "revoke", "--member", "bo@example.com").out
    none = desk.good("portal", "sessions").out

    assert link["url"].startswith("https://own.example.com/portal/enter?code=")
    assert "opens once" in frame
    assert (first["member"], first["role"], first["mode"]) == ("ada@example.com", "admin", "page")
    assert (second["role"], second["mode"]) == ("owner", "frame")
    assert "has ended" in ended
    assert "1 session has ended." in rest
    assert "Nobody is looking." in none


def test_a_look_without_a_member(desk: Terminal) -> None:
    """`view-as` needs no address and makes nobody a member."""
    assert desk.json("portal", "view-as")["url"]
    assert desk.json("member", "list")["members"] == []


@pytest.mark.parametrize(("words", "told"), [
    (("link", "acme"), "--email"),
    (("link", "acme", "--email", "ada"), "e-mail address"),
    (("link", "acme", "--email", "ada@example.com", "--role", "boss"), "boss"),
    (("link", "acme", "--email", "ada@example.com", "--flow", "keys"), "keys"),
    (("link", "acme", "--email", "ada@example.com", "--ttl", "5"), "--ttl"),
    (("link", "acme", "--email", "ada@example.com", "--return-url", "https://evil.test/"), "return_urls"),
    (("link", "other", "--email", "ada@example.com"), "other"),
    (("revoke",), "--member"),
    (("revoke", "ses_1", "--member", "u1"), "--member"),
    (("revoke", "ses_none"), "ses_none"),
])
def test_what_cannot_be_done(desk: Terminal, words: tuple[str, ...], told: str) -> None:
    """A sentence and a fix, in the command's own words."""
    said = desk.type("portal", *words)

    assert said.code in (1, 2)
    assert told in said.err
    assert "Fix:" in said.err


def test_doctor_tells_of_colours_that_are_hard_to_read(desk: Terminal) -> None:
    """A theme that few can read is used, and told."""
    checks = json.loads(desk.type("doctor", "--json").out)["checks"]
    (theme,) = [check for check in checks if check["name"] == "theme"]

    assert theme["state"] == "warn"
    assert "primary-foreground on primary has a contrast of 1.0" in str(theme)


def test_without_an_address_a_link_leads_to_the_running_server(tmp_path: Path) -> None:
    """On one machine nothing has to be configured; where no server runs there is nowhere to lead."""
    with deployed(tmp_path / "home") as deployment:
        deployment.cli("workspace", "add", "Acme", "-x", "acme")
        running = deployment.cli("portal", "link", "--email", "ada@example.com", "--json")
        deployment.kill()
        alone = deployment.cli("portal", "link", "--email", "ada@example.com")

        assert running.returncode == 0, running.stderr
        assert json.loads(running.stdout)["url"].startswith(f"{deployment.url}/portal/enter?code=")
        assert alone.returncode != 0
        assert "ownkey serve" in alone.stderr


def test_a_workspace_is_also_known_by_a_name_that_only_one_has(desk: Terminal) -> None:
    """Id, then the host's own id, then the exact name; more than one, or none, says where they are listed. To delete
    one takes an id: a name may be another's by then."""
    desk.good("workspace", "add", "Beta Ltd", "-x", "b1")
    desk.good("workspace", "add", "Twin", "-x", "t1")
    desk.good("workspace", "add", "Twin", "-x", "t2")
    desk.good("workspace", "add", "acme", "-x", "a2")
    beta = desk.json("workspace", "show", "Beta Ltd")
    own_id_first = desk.json("workspace", "show", "acme")
    link = desk.json("portal", "link", "Beta Ltd", "--email", "ada@example.com")
    twin = desk.type("portal", "link", "Twin", "--email", "ada@example.com")
    none = desk.type("cap", "show", "--workspace", "beta ltd")
    work = desk.json("work", "list", "--workspace", "Beta Ltd")
    gone = desk.type("workspace", "delete", "Beta Ltd", "--yes")

    assert (beta["external_id"], own_id_first["external_id"]) == ("b1", "acme")
    assert link["url"]
    assert "2 workspaces are named Twin: t1, t2." in twin.err or "2 workspaces are named Twin: t2, t1." in twin.err
    assert "There is no workspace beta ltd here." in none.err
    for said in (twin, none):
        assert said.code in (1, 2)
        assert "ownkey workspace list" in said.err
    assert work["work"] == []
    assert gone.code == 1
    assert desk.json("workspace", "show", "b1")["status"] == "active"
