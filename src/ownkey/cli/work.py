"""`ownkey work`, `ownkey export`, `ownkey replay`: long work, watched; files, fetched; a month under other settings."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ownkey.cli import output
from ownkey.cli.connection import Connection, segment
from ownkey.cli.output import JsonFlag, WorkspaceOption
from ownkey.cli.problems import CliError
from ownkey.cli.workspace_choice import choose_workspace

work_app = typer.Typer(no_args_is_help=True, help="Long work: exports, replays, checks. What runs, and how far it is.")
export_app = typer.Typer(no_args_is_help=True, help="CSV files: calls, spend, credits; a workspace's data as a zip.")

POLL_S = 0.5
_OPEN = ("waiting", "running")
_TOO_MANY = "too_many_rows"
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="The file to write; - is stdout.")]
WorkArgument = Annotated[str, typer.Argument(help="The id of a piece of work, as `ownkey work list` shows it.")]
Upkeep = Literal["ledger_check", "reconcile", "price_sync"]


@work_app.command("list")
def list_work(
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 20,
    workspace: WorkspaceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List long work, newest first: of all workspaces, or of one with --workspace."""
    with Connection() as api:
        base = "" if workspace is None else choose_workspace(api, workspace)
        found = api.manage("GET", f"{base}/work", limit=limit)
    output.emit(found, as_json, lambda page: output.table(
        ("work", "what", "workspace", "state", "done", "of", "says"),
        [(w["work"], w["name"], w["workspace"], w["state"], w["done"], w["total"], w["words"]) for w in page["work"]],
        empty="There is no long work.",
    ))


@work_app.command("start")
def start(
    kind: Annotated[Upkeep, typer.Argument(help="ledger_check, reconcile or price_sync.")],
    follow_it: Annotated[bool, typer.Option("--follow/--no-follow", help="Watch it until it ends.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Start the deployment's own long work. Exit 1: it failed."""
    with Connection() as api:
        found = api.manage("POST", "/work", {"kind": kind})
        if follow_it:
            found = watch(api, "/work/", found, as_json=as_json)
    output.emit(found, as_json, _show)
    _judge(found)


@work_app.command("show")
def show(work: WorkArgument, workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """Show one piece of work and what came of it."""
    with Connection() as api:
        found = api.manage("GET", _place(api, work, workspace) + segment(work))
    output.emit(found, as_json, _show)


@work_app.command("follow")
def follow(work: WorkArgument, workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """Watch a piece of work: a bar on a terminal, one JSON object a line where it is piped. Exit 1: it failed."""
    with Connection() as api:
        base = _place(api, work, workspace)
        found = watch(api, base, api.manage("GET", base + segment(work)), as_json=as_json)
    if sys.stdout.isatty() and not as_json:
        _show(found)
    _judge(found)


@work_app.command("cancel")
def cancel(work: WorkArgument, workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """Cancel what waits or runs."""
    with Connection() as api:
        found = api.manage("POST", f"{_place(api, work, workspace)}{segment(work)}/cancel", {})
    output.emit(found, as_json, _show)


def _place(api: Connection, work: str, workspace: str | None) -> str:
    """Where this work is read: of the named workspace, else wherever the list of all has it."""
    if workspace is not None:
        return f"{choose_workspace(api, workspace)}/work/"
    rows = api.manage("GET", "/work", limit=200)["work"]
    owner = next((row["workspace"] for row in rows if row["work"] == work), None)
    return "/work/" if owner is None else f"/workspaces/{segment(owner)}/work/"


def watch(api: Connection, base: str, found: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    """Until it has ended. Progress goes to stderr where stdout holds the result."""
    if found["state"] in _OPEN:
        api.do_work()
        found = api.manage("GET", base + segment(found["work"]))
    terminal = Console(stderr=True)
    if not terminal.is_terminal or as_json:
        return _watch_lines(api, base, found, quiet=as_json)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), console=terminal,
        transient=True,
    ) as bar:
        task = bar.add_task(found["name"], total=found["total"], words=found["words"])
        while found["state"] in _OPEN:
            api.wait(POLL_S)
            found = api.manage("GET", base + segment(found["work"]))
            bar.update(task, completed=found["done"], total=found["total"], words=found["words"])
    return found


def _watch_lines(api: Connection, base: str, found: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    told = ""
    while True:
        line = json.dumps({
            name: found[name] for name in (
                "work", "state", "step", "done", "total", "per_second", "remaining_s", "stalled", "words")
        }, ensure_ascii=False)
        if line != told and not quiet:
            sys.stderr.write(line + "\n") if sys.stdout.isatty() else sys.stdout.write(line + "\n")
            sys.stdout.flush()
        told = line
        if found["state"] not in _OPEN:
            return found
        api.wait(POLL_S)
        found = api.manage("GET", base + segment(found["work"]))


def _show(found: dict[str, Any]) -> None:
    output.fields({
        "work": found["work"], "what": found["name"], "workspace": found["workspace"], "state": found["state"],
        "says": found["words"], "started": found["created_at"], "by": found["started_by"], "ended": found["ended_at"],
        "file": "ownkey export fetch " + found["work"] if found["can_fetch"] else None,
    })
    for name, value in found["result"].items():
        if isinstance(value, list | dict):
            value = json.dumps(value, ensure_ascii=False)
        output.say(f"  {name}: {value}")


def _judge(found: dict[str, Any]) -> None:
    if found["state"] in ("failed", "cancelled"):
        raise typer.Exit(1)


# --- exports


@export_app.command("receipts")
def export_receipts(
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    project: Annotated[str | None, typer.Option(help="Only this project.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model, asked for or served; any of its names.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    credential: Annotated[str | None, typer.Option(help="Only calls that used this credential.")] = None,
    trace: Annotated[str | None, typer.Option(help="Only this conversation.")] = None,
    funding: Annotated[str | None, typer.Option(help="byok, credits or nobody.")] = None,
    outcome: Annotated[str | None, typer.Option(help="ok, refused, failed or cancelled.")] = None,
    code: Annotated[str | None, typer.Option(help="Only this refusal code.")] = None,
    month: Annotated[str | None, typer.Option(help="Only this month, such as 2026-11.")] = None,
    since: Annotated[str | None, typer.Option(help="From this day on, such as 2026-11-01.")] = None,
    until: Annotated[str | None, typer.Option(help="Up to this day.")] = None,
    out: OutOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Export calls as CSV, to --out or to stdout. More than 10,000 rows are long work, which is watched."""
    given = {
        "task": task, "project": project, "model": model, "provider": provider, "credential": credential,
        "trace": trace, "funding": funding, "outcome": outcome, "code": code, "month": month, "since": since,
        "until": until,
    }
    calls = {name: value for name, value in given.items() if value is not None}
    with Connection() as api:
        base = choose_workspace(api, workspace)
        try:
            _fetch(api, f"{base}/receipts.csv", out, **calls)
            return
        except CliError as error:
            if error.code != _TOO_MANY:
                raise
        found = api.manage("POST", f"{base}/work", {"kind": "export", "calls": calls})
        _finish(api, f"{base}/work/", found, out)


@export_app.command("spend")
def export_spend(
    by: Annotated[str, typer.Option(help="day, task, model, provider, project, funding, credential …")] = "task",
    month: Annotated[str | None, typer.Option(help="Such as 2026-11; this month if left out.")] = None,
    out: OutOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Export a month's spend as CSV."""
    with Connection() as api:
        _fetch(api, f"{choose_workspace(api, workspace)}/spend.csv", out, by=by, month=month)


@export_app.command("credits")
def export_credits(out: OutOption = None, workspace: WorkspaceOption = None) -> None:
    """Export every movement of credits with the balance after it."""
    with Connection() as api:
        _fetch(api, f"{choose_workspace(api, workspace)}/credits.csv", out)


@export_app.command("workspace")
def export_workspace(out: OutOption = None, workspace: WorkspaceOption = None) -> None:
    """Export all data of a workspace as a zip: settings without keys, calls, credits, ledger, audit, members."""
    with Connection() as api:
        base = choose_workspace(api, workspace)
        found = api.manage("POST", f"{base}/work", {"kind": "export_all"})
        _finish(api, f"{base}/work/", found, out)


@export_app.command("fetch")
def fetch(work: WorkArgument, out: OutOption = None, workspace: WorkspaceOption = None) -> None:
    """Fetch the file of a finished export; it is kept for 24 hours."""
    with Connection() as api:
        base = _place(api, work, workspace)
        if base == "/work/":
            raise CliError(f"There is no export {work[:80]}.", "See `ownkey work list`.", code="not_found")
        _fetch(api, f"{base}{segment(work)}/file", out)


def _finish(api: Connection, base: str, found: dict[str, Any], out: Path | None) -> None:
    found = watch(api, base, found, as_json=True)
    if found["state"] != "done":
        raise CliError(found["words"], "See `ownkey work list`; start it again.", code="work_failed")
    _fetch(api, f"{base}{segment(found['work'])}/file", out)


def _fetch(api: Connection, path: str, out: Path | None, **params: Any) -> None:
    """Into the file, whole or not at all; or to stdout."""
    if out is None or str(out) == "-":
        api.fetch(path, _to_stdout, **params)
        sys.stdout.flush()
        return
    fresh = out.with_name(out.name + ".part")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            api.fetch(path, file.write, **params)
        fresh.replace(out)
    except OSError as error:
        raise CliError(f"{out} cannot be written: {error.strerror}.", "Name another file.", code="file") from error
    finally:
        fresh.unlink(missing_ok=True)
    sys.stderr.write(f"{out}\n")


def _to_stdout(data: bytes) -> None:
    """Bytes as they are, a zip too; a stdout that takes text only (a test's) gets text."""
    raw = getattr(sys.stdout, "buffer", None)
    if raw is None:
        sys.stdout.write(data.decode("utf-8", "replace"))
    else:
        raw.write(data)


# --- replay


def replay(
    month: Annotated[str | None, typer.Option(help="Such as 2026-10; last month if left out.")] = None,
    direct: Annotated[list[str] | None, typer.Option(help="A provider with a direct key; repeat it, or none.")] = None,
    own_key: Annotated[bool | None, typer.Option("--own-key/--no-own-key", help="With an OpenRouter key?")] = None,
    always: Annotated[bool | None, typer.Option("--always/--no-always", help="Always use this key?")] = None,
    cap: Annotated[str | None, typer.Option(help="A monthly spend cap in US dollars; none: no cap.")] = None,
    markup: Annotated[str | None, typer.Option(help="Per cent on what managed AI costs.")] = None,
    fee: Annotated[str | None, typer.Option(help="OpenRouter's fee in per cent.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what a month would have come to under other settings. Changes nothing and calls nobody."""
    wish: dict[str, Any] = {
        "month": month, "direct": None if direct is None else [name for name in direct if name != "none"],
        "own_key": own_key, "always_use_key": always, "cap_usd": "" if cap == "none" else cap, "markup_percent": markup,
        "fee_percent": fee,
    }
    with Connection() as api:
        base = choose_workspace(api, workspace)
        body = {"kind": "replay", "replay": {name: value for name, value in wish.items() if value is not None}}
        found = watch(api, f"{base}/work/", api.manage("POST", f"{base}/work", body), as_json=True)
    output.emit(found, as_json, _show_replay)
    _judge(found)


def _show_replay(found: dict[str, Any]) -> None:
    result = found["result"]
    if not result:
        output.say(found["words"])
        return
    rows: list[tuple[str, Callable[[str], object]]] = [
        ("paid with own keys, US$", lambda side: result[f"{side}_usd"]),
        ("OpenRouter's fee on it, US$", lambda side: result[f"{side}_fee_usd"]),
        ("credits", lambda side: result[f"{side}_credits"]), ("refused calls", lambda side: result[f"{side}_refused"]),
    ]
    output.say(f"{result['month']}: {result['calls']:,} calls.")
    shown = [(name, read("before"), read("after")) for name, read in rows]
    output.table(("", "as it was", "replayed"), shown, empty="")
    output.fields({
        "calls on another way": result["moved"], "of unknown cost": result["unknown"],
        "refused then, would have run": result["would_run"], "answered then, would be refused": result["newly_refused"],
        "AI would have paused": result["paused_at"],
    })
    for sentence in result["cannot_know"]:
        output.say(f"- {sentence}")
