"""The command line beside a running server, after a crash, and over the network with a token."""

import json
import os
import stat
from pathlib import Path

from tests.deployment import deployed


def test_commands_go_through_the_running_server(tmp_path: Path) -> None:
    """The server owns the database; commands find it by run.json, and by OWNKEY_URL from elsewhere."""
    with deployed(tmp_path / "home") as deployment:
        run_file = deployment.home / "data" / "run.json"
        made = deployment.cli("workspace", "add", "Acme", "-x", "acme", "--json")
        seen = deployment.manage("GET", "workspaces/acme")
        remote = deployment.cli(
            "workspace", "show", "--json", OWNKEY_URL=deployment.url, OWNKEY_TOKEN=deployment.service,
            OWNKEY_CONFIG=str(tmp_path / "nothing.toml"),
        )
        refused = deployment.cli(
            "token", "list", "--service", "--json", OWNKEY_URL=deployment.url, OWNKEY_TOKEN=deployment.service
        )
        unknown = deployment.cli("workspace", "list", OWNKEY_URL=deployment.url, OWNKEY_TOKEN="ok_" + "x" * 36)
        doctor = deployment.cli("doctor", "--json")

        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout)["id"] == seen["id"]
        assert json.loads(remote.stdout)["external_id"] == "acme"
        assert refused.returncode == 1
        assert json.loads(refused.stderr)["error"]["code"] == "forbidden"
        assert unknown.returncode == 1
        assert "xxxx" not in unknown.stderr
        assert {"name": "server", "state": "ok"}.items() <= next(
            c for c in json.loads(doctor.stdout)["checks"] if c["name"] == "server"
        ).items()
        assert stat.S_IMODE(os.stat(run_file).st_mode) == 0o600

        deployment.kill()
        after = deployment.cli("workspace", "list", "--json")

        assert run_file.exists()
        assert [w["external_id"] for w in json.loads(after.stdout)["workspaces"]] == ["acme"], after.stderr
