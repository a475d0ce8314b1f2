"""Exports, replays and long work from the command line, beside a running server and without one."""

import csv
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.deployment import Deployment, TestWorkspace, deployed

MODEL = "openai/gpt-4.1-mini"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A server with a workspace that has made a few calls."""
    with deployed(tmp_path_factory.mktemp("work") / "home") as deployment:
        workspace = deployment.add_workspace(external_id="acme")
        for n in range(6):
            workspace.post("/v1/chat/completions", {
                "model": MODEL, "max_tokens": 20, "messages": [{"role": "user", "content": f"call {n}"}],
            })
        yield deployment


def test_calls_spend_and_a_workspace_are_exported(running: Deployment, tmp_path: Path) -> None:
    """To a file or to stdout; each file is whole, private, and what the API says."""
    place = tmp_path / "calls.csv"
    to_file = running.cli("export", "receipts", "--outcome", "ok", "--out", str(place))
    printed = running.cli("export", "spend", "--by", "model")
    packed = running.cli("export", "workspace", "--out", str(tmp_path / "all.zip"))
    wrong = running.cli("export", "receipts", "--outcome", "okay")
    rows = list(csv.DictReader(io.StringIO(place.read_text(), newline="")))
    spend = list(csv.DictReader(io.StringIO(printed.stdout, newline="")))

    assert to_file.returncode == 0, to_file.stderr
    assert {row["outcome"] for row in rows} == {"ok"}
    assert sum(int(row["cost_nano_usd"] or 0) for row in spend) == sum(int(row["cost_nano_usd"] or 0) for row in rows)
    assert packed.returncode == 0, packed.stderr
    assert "calls.csv" in zipfile.ZipFile(tmp_path / "all.zip").namelist()
    assert place.stat().st_mode & 0o077 == 0
    assert wrong.returncode != 0
    assert "outcome" in wrong.stderr
    assert not list(tmp_path.glob("*.part"))


def test_work_is_watched_line_by_line_where_it_is_piped(running: Deployment) -> None:
    """JSON lines on a pipe; the same row in the list, on its own, and over HTTP."""
    started = running.cli("work", "start", "ledger_check", "--no-follow", "--json")
    work = json.loads(started.stdout)["work"]
    followed = running.cli("work", "follow", work)
    listed = json.loads(running.cli("work", "list", "--json").stdout)["work"]
    lines = [json.loads(line) for line in followed.stdout.splitlines()]

    assert followed.returncode == 0, followed.stderr
    assert lines[-1]["state"] == "done"
    assert {row["work"]: row["state"] for row in listed}[work] == "done"
    assert json.loads(running.cli("work", "show", work, "--json").stdout)["result"]["clean"] is True
    assert running.cli("work", "show", "work_nobody").returncode == 1


def test_a_month_is_replayed(running: Deployment) -> None:
    """X7: both sides of every figure, and what nobody can know."""
    month = json.loads(running.cli("receipts", "--json").stdout)["receipts"][0]["at"][:7]
    said = running.cli("replay", "--month", month, "--cap", "0.000001", "--json")
    result = json.loads(said.stdout)["result"]
    shown = running.cli("replay", "--month", month, "--direct", "openai").stdout

    assert result["calls"] == 6
    assert result["newly_refused"] == 5
    assert result["before_usd"] != "0.00"
    assert "as it was" in shown
    assert "nobody knows" in shown


def test_a_backup_is_made_and_fetched_while_calls_go_on(running: Deployment, tmp_path: Path) -> None:
    """S8: through the server, with progress a line where it is piped; no call fails meanwhile, and the file is whole,
    private and what the server keeps."""
    token = running.manage("POST", "workspaces/acme/tokens", {"label": "b"})["token"]
    workspace = TestWorkspace(running, "acme", token)
    statuses: list[int] = []
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            statuses.append(workspace.post("/v1/chat/completions", {
                "model": MODEL, "max_tokens": 20, "messages": [{"role": "user", "content": "meanwhile"}],
            }).status_code)

    caller = threading.Thread(target=call)
    caller.start()
    place = tmp_path / "a.backup"
    made = running.cli("backup", "--out", str(place))
    over.set()
    caller.join()
    kept = list((running.home / "data" / "backups").iterdir())

    assert made.returncode == 0, made.stderr
    assert '"state": "done"' in made.stdout
    assert len(statuses) > 5
    assert set(statuses) == {200}
    assert [path.read_bytes() for path in kept] == [place.read_bytes()]
    assert place.stat().st_mode & 0o777 == 0o600
    audited = running.manage("GET", "audit", token=running.operator)["rows"]
    assert ("backup.fetched", kept[0].name) in [(row["action"], row["target"]) for row in audited]
    for other in (running.service, token):
        answer = running.try_manage("GET", f"backups/{kept[0].name}/file", token=other)
        assert answer.status_code == 403


def test_a_download_says_what_it_is(running: Deployment) -> None:
    """An attachment of its own type, never stored by anybody in between; a limited token gets none of it."""
    base = f"{running.url}/manage/v1/workspaces/acme"
    answer = httpx.get(f"{base}/receipts.csv", headers={"authorization": f"Bearer {running.service}"})
    nobody = httpx.get(f"{base}/receipts.csv", headers={"authorization": "Bearer ok_" + "x" * 36})
    token = running.manage("POST", "workspaces/acme/tokens", {"label": "caller"})["token"]
    caller = httpx.get(f"{base}/receipts.csv", headers={"authorization": f"Bearer {token}"})

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["content-disposition"].startswith('attachment; filename="ownkey-receipts-')
    assert answer.headers["cache-control"] == "no-store"
    assert (nobody.status_code, caller.status_code) == (401, 403)


def test_without_a_server_the_command_does_the_work(tmp_path: Path) -> None:
    """`ownkey export workspace` beside a stopped server: the same file, made in this process."""
    with deployed(tmp_path / "home") as deployment:
        deployment.add_workspace()
        deployment.stop()
        packed = deployment.cli("export", "workspace", "--out", str(tmp_path / "all.zip"))
        checked = deployment.cli("work", "start", "ledger_check", "--json")

        assert packed.returncode == 0, packed.stderr
        assert "workspace.json" in zipfile.ZipFile(tmp_path / "all.zip").namelist()
        assert json.loads(checked.stdout)["state"] == "done"
