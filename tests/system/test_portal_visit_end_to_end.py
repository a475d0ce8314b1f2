"""A visit to the pages through a real server: minted by a host's backend, opened by a browser, ended by the host."""

from pathlib import Path

import httpx
from tests.deployment import deployed

BODY = {"member": {"id": "u1", "email": "ada@example.com"}, "role": "owner", "mode": "page", "return_url": ""}
COOKIE = "__Host-ownkey-portal"


def test_from_the_hosts_backend_to_the_end(tmp_path: Path) -> None:
    """X5, S7: the link opens once; the session goes on until the host ends it, and no file has its secrets."""
    with deployed(tmp_path / "home") as deployment:
        path = "workspaces/acme/portal-sessions"
        deployment.cli("workspace", "add", "Acme", "-x", "acme")
        made = deployment.manage("POST", path, BODY)
        with httpx.Client(trust_env=False) as browser:
            head = browser.head(made["url"])
            entered = browser.get(made["url"])
            secret = entered.headers["set-cookie"].partition("=")[2].partition(";")[0]
            own = {"cookie": f"{COOKIE}={secret}"}
            # A cookie jar keeps a Secure cookie from http, as browsers do but for loopback: it is sent by hand.
            browser.cookies.clear()
            inside = browser.get(f"{deployment.url}{entered.headers['location']}", headers=own)
            nobody = browser.get(f"{deployment.url}{entered.headers['location']}")
            again = browser.get(made["url"])
            forged = browser.post(
                f"{deployment.url}/portal/leave", data={"csrf": "x"}, headers={**own, "origin": "https://evil.example"})
            deployment.manage("DELETE", f"{path}/{made['session']}")
            ended = browser.get(f"{deployment.url}{entered.headers['location']}", headers=own)
        files = [file for file in deployment.home.rglob("*") if file.is_file()]

        assert (head.status_code, entered.status_code, again.status_code) == (200, 303, 409)
        assert (inside.status_code, nobody.status_code, forged.status_code, ended.status_code) == (200, 401, 403, 401)
        assert "frame-ancestors 'none'" in inside.headers["content-security-policy"]
        for shown in (made["code"], secret):
            assert shown not in inside.text
            assert [file.name for file in files if shown[8:24].encode() in file.read_bytes()] == []
        rows = deployment.manage("GET", "workspaces/acme/audit")["rows"]
        assert [row["action"] for row in rows if row["action"].startswith("portal.")] == [
            "portal.ended", "portal.entered", "portal.minted"]
