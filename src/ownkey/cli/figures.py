"""`ownkey cap`, `feature`, `credits`, `receipts`, `why`, `explain`, `verify`, `prices`: figures and reasons."""

import sys
from typing import Annotated, Any, get_args
from urllib.parse import unquote

import typer

from ownkey.cli import output
from ownkey.cli.connection import Connection, segment
from ownkey.cli.output import JsonFlag, WorkspaceOption
from ownkey.cli.problems import CliError
from ownkey.cli.workspace_choice import choose_workspace
from ownkey.control.problems import suggest
from ownkey.domain.pricing import DIMENSIONS
from ownkey.domain.receipts import provider_name
from ownkey.domain.wire import Endpoint

ENDPOINTS: tuple[str, ...] = get_args(Endpoint)
MESSAGES_MAX_TOKENS = 1_024
"""Anthropic's format demands a limit: what explain assumes where none is given."""

# A negative number is an amount to be refused in words, not an unknown option.
_SIGNED = {"ignore_unknown_options": True}

cap_app = typer.Typer(no_args_is_help=True, help="The monthly spend cap.")
feature_app = typer.Typer(no_args_is_help=True, help="Task switches.")
credits_app = typer.Typer(no_args_is_help=True, help="Credits (products that have them).")


def _show_cap(row: dict[str, Any]) -> None:
    output.say(row["sentence"])
    output.fields({
        "held by calls in flight": f"US${row['held_usd']}",
        "left": f"US${row['left_usd']}" if row["left_usd"] else None,
        "at this pace": f"US${row['projected_usd']} by the end of the month" if row["projected_usd"] else None,
        "cap reached": f"about {row['reaches_cap_at']}" if row["reaches_cap_at"] else None,
        "alert at": f"{row['threshold_percent']}%", "time zone": row["timezone"],
    })


@cap_app.command("show")
def show_cap(workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """Show the cap and where this month stands."""
    with Connection() as api:
        found = api.manage("GET", f"{choose_workspace(api, workspace)}/cap")
    output.emit(found, as_json, _show_cap)


@cap_app.command("set", context_settings=_SIGNED)
def set_cap(
    amount: Annotated[str, typer.Argument(help="US dollars a month, such as 50. 0 is no AI.")],
    threshold: Annotated[
        int | None, typer.Option(help="Alert at this percentage of the cap, 1 to 99; at 100% there is always one.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Set the cap; it counts at once."""
    _put_cap(amount, threshold, workspace, as_json)


@cap_app.command("clear")
def clear_cap(workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """Remove the cap."""
    _put_cap(None, None, workspace, as_json)


def _put_cap(amount: str | None, threshold: int | None, workspace: str | None, as_json: bool) -> None:
    body: dict[str, Any] = {"cap_usd": amount}
    if threshold is not None:
        body["threshold_percent"] = threshold
    with Connection() as api:
        saved = api.manage("PUT", f"{choose_workspace(api, workspace)}/cap", body)
    output.emit(saved, as_json, _show_cap)


@feature_app.command("list")
def list_features(workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """List tasks with their switches."""
    with Connection() as api:
        found = api.manage("GET", f"{choose_workspace(api, workspace)}/features")
    output.emit(found, as_json, lambda page: output.table(
        ("task", "title", "on", "models", "settings"),
        [(f["task"], f["title"], f["on"], f["models"], [f"{k}={v}" for k, v in f["settings"].items()])
         for f in page["features"]],
        empty="This product has no tasks.",
    ))


TaskName = Annotated[str, typer.Argument(help="The task, as `ownkey feature list` names it.")]


@feature_app.command("on")
def feature_on(task: TaskName, workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """Switch a task on."""
    _put_feature(task, {"on": True}, workspace, as_json)


@feature_app.command("off")
def feature_off(task: TaskName, workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """Switch a task off: its next call is refused."""
    _put_feature(task, {"on": False}, workspace, as_json)


@feature_app.command("set")
def feature_set(
    task: TaskName,
    settings: Annotated[list[str], typer.Argument(help="NAME=NUMBER, such as threshold=85.")],
    workspace: WorkspaceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Set a task's own knobs."""
    knobs = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not value.isascii() or not value.isdigit():
            raise CliError(f"{setting[:40]!r} is not NAME=NUMBER.", "Write it as threshold=85.")
        knobs[name] = int(value)
    _put_feature(task, {"settings": knobs}, workspace, as_json)


def _put_feature(task: str, body: dict[str, Any], workspace: str | None, as_json: bool) -> None:
    with Connection() as api:
        saved = api.manage("PUT", f"{choose_workspace(api, workspace)}/features/{segment(task)}", body)

    def human(row: dict[str, Any]) -> None:
        knobs = "".join(f", {k}={v}" for k, v in row["settings"].items())
        output.say(f"{row['title']} is {'on' if row['on'] else 'off'}{knobs}.")

    output.emit(saved, as_json, human)


@credits_app.command("show")
def show_credits(workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """Show the balance."""
    with Connection() as api:
        found = api.manage("GET", f"{choose_workspace(api, workspace)}/credits")
    output.emit(found, as_json, _show_credits)


def count_credits(number: int) -> str:
    return f"{number} credit{'' if number == 1 else 's'}"


def _show_credits(row: dict[str, Any]) -> None:
    output.say(f"{count_credits(row['balance_credits'])}, {row['held_credits']} held by calls in flight.")


@credits_app.command("grant", context_settings=_SIGNED)
def grant_credits(
    amount: Annotated[int, typer.Argument(help="How many credits.")],
    origin: Annotated[str, typer.Option(help="plan, topup, promo or operator.")] = "operator",
    expires: Annotated[str | None, typer.Option(help="RFC 3339; never if left out.")] = None,
    once: Annotated[str | None, typer.Option("--once", help="A key of yours: the same key grants once.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Grant credits."""
    with Connection() as api:
        path = choose_workspace(api, workspace)
        row = api.request(
            "POST", f"/manage/v1{path}/credits/grants",
            body={"amount_credits": amount, "origin": origin, "expires_at": expires},
            headers={"idempotency-key": once} if once else {},
        )
    output.emit(row, as_json, _show_credits)


@credits_app.command("ledger")
def show_ledger(
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many entries.")] = 50,
    workspace: WorkspaceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show ledger entries, newest first."""
    with Connection() as api:
        found = api.manage("GET", f"{choose_workspace(api, workspace)}/credits/ledger", limit=limit)

    def human(page: dict[str, Any]) -> None:
        rows = [
            (entry.get("at"), entry.get("kind"), posting.get("source"), posting.get("destination"),
             posting.get("amount_credits"), entry.get("idem_key"))
            for entry in page["rows"] for posting in entry.get("postings", [{}])
        ]
        output.table(("time", "kind", "from", "to", "credits", "key"), rows, empty="No entries yet.")

    output.emit(found, as_json, human)


def list_receipts(
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model, asked for or called; any of its names.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    funding: Annotated[str | None, typer.Option(help="byok or credits.")] = None,
    code: Annotated[str | None, typer.Option(help="Only this refusal code.")] = None,
    refused: Annotated[bool | None, typer.Option("--refused/--answered", help="One of the two.")] = None,
    conversation: Annotated[str | None, typer.Option(help="Only this conversation.")] = None,
    project: Annotated[str | None, typer.Option(help="Only this project.")] = None,
    since: Annotated[str | None, typer.Option(help="RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option(help="RFC 3339.")] = None,
    before: Annotated[str | None, typer.Option(help="Page backwards from this receipt.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 20,
    workspace: WorkspaceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List receipts, newest first."""
    with Connection() as api:
        found = api.manage(
            "GET", f"{choose_workspace(api, workspace)}/receipts", task=task, model=model, provider=provider,
            funding=funding, code=code, refused=refused, conversation=conversation, project=project, since=since,
            until=until, before=before, limit=limit,
        )

    output.emit(found, as_json, _show_receipts)


SHORT_ID = 8
_ESTIMATED = "≈"


def _show_receipts(page: dict[str, Any]) -> None:
    """At most 120 columns: the end of each id, times to the minute. --json has everything in full."""
    rows = page["receipts"]
    output.table(
        ("receipt", "time, UTC", "task", "model", "paid by", "outcome", "cost US$"),
        [("…" + r["id"][-SHORT_ID:], str(r.get("at"))[5:16].replace("T", " "), _cut(r.get("task"), 14),
          _cut(r.get("served_model") or r.get("requested_model"), 28), _payer(r), _outcome(r), _cost(r))
         for r in rows],
        empty="No calls match.",
    )
    if any(r.get("basis") == "estimated" for r in rows):
        output.say(f"{_ESTIMATED} estimated, because the provider's report is missing.")
    if rows:
        output.say("Why: ownkey why, with the end of a receipt's id.")
    if page["next_before"]:
        output.say(f"More: add --before {page['next_before']}")


def _cut(text: str | None, width: int) -> str | None:
    return text if text is None or len(text) <= width else text[: width - 1] + "…"


def _payer(receipt: dict[str, Any]) -> str | None:
    if not receipt.get("attempts"):
        return None
    if receipt.get("funding") == "credits":
        return count_credits(receipt.get("charge_credits") or 0)
    return "own key"


def _outcome(receipt: dict[str, Any]) -> str:
    return "hung up" if receipt.get("hung_up") else receipt.get("code") or "ok"


def _cost(receipt: dict[str, Any]) -> str:
    amount = receipt.get("cost_usd")
    if amount is None:
        return "unknown"
    return f"{_ESTIMATED}{amount}" if receipt.get("basis") == "estimated" else str(amount)


def _whole_id(api: Connection, path: str, receipt: str) -> str:
    """The whole id for the end of one, as the list shows it: looked for among the newest receipts."""
    end = receipt.removeprefix("…")
    if "_" in end or len(end) < 4:
        return receipt
    page = api.manage("GET", f"{path}/receipts", limit=200)["receipts"]
    found = [row["id"] for row in page if row["id"].endswith(end)]
    if len(found) > 1:
        raise CliError(f"More than one receipt ends in {end}.", "Give more of the id; --json lists whole ids.")
    return found[0] if found else receipt


def why(
    receipt: Annotated[
        str, typer.Argument(help="The receipt's id (header x-ownkey-receipt of the answer), or its end in the list.")
    ],
    workspace: WorkspaceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say in plain words who paid for a call, and why; then every attempt, and what was left out."""
    with Connection() as api:
        path = choose_workspace(api, workspace)
        ident = _whole_id(api, path, receipt)
        told = api.manage("GET", f"{path}/receipts/{segment(ident)}/why")
        found = {**api.manage("GET", f"{path}/receipts/{segment(ident)}"), **told}
    output.emit(found, as_json, _show_why)


def _show_why(row: dict[str, Any]) -> None:
    """The headline, the same at length, and what that has no room for."""
    output.say(row["headline"])
    output.say(row["why"])
    attempts = row.get("attempts") or []
    if len(attempts) > 1 or any(map(_is_remarkable, attempts)):
        output.say("Attempts:")
        for attempt in attempts:
            output.say(f"  {attempt['n']}. {_tell_attempt(attempt)}")
            for line in _tell_remarks(attempt):
                output.say(f"     {line}")
    _show_list("Routes that were not tried:", [
        f"{_ROUTES.get(s['route'], s['route'])} for {s['model']}: {s['why']}" for s in row.get("skips") or []
    ])
    _show_list("Notes:", row.get("notes") or [])


_ROUTES = {"direct": "the direct key", "openrouter": "the OpenRouter key", "credits": "credits"}


def _show_list(heading: str, lines: list[str]) -> None:
    if lines:
        output.say(heading)
        for line in dict.fromkeys(lines):
            output.say(f"  - {line}")


def _is_remarkable(attempt: dict[str, Any]) -> bool:
    return any(attempt.get(name) for name in ("failure", "dropped", "shrunk", "correction"))


def _tell_attempt(attempt: dict[str, Any]) -> str:
    """Who was asked with which key, how it ended, after how long, and what it cost."""
    key = f" key {attempt['credential_hint']}" if attempt["credential_hint"] else ""
    payer = "the platform's key" if attempt["route"] == "credits" else f"{attempt['route']}{key}"
    end = attempt.get("signal") or "answered"
    if attempt.get("failure"):
        status = f", status {attempt['status']}" if attempt.get("status") else ""
        end = f"failed ({attempt['failure']}: {attempt['signal']}{status})"
    seconds = (attempt["ended_ms"] - attempt["started_ms"]) / 1_000
    return (
        f"{provider_name(attempt['provider'])}, {attempt['model']}, {payer}: {end} after {seconds:.1f} s, "
        f"cost {_dollars(attempt.get('cost_usd'))} ({attempt['basis']})"
    )


def _dollars(amount: str | None) -> str:
    return "unknown" if amount is None else f"US${amount}"


def _tell_remarks(attempt: dict[str, Any]) -> list[str]:
    lines = []
    if attempt.get("message"):
        lines.append(f"It said: {attempt['message']}")
    if attempt.get("dropped"):
        lines.append(f"Left out of the request: {', '.join(attempt['dropped'])}")
    if attempt.get("shrunk"):
        lines.append(f"Output limit lowered to {attempt['output_limit']} tokens, so that it fits.")
    late = attempt.get("correction")
    if late:
        lines.append(
            f"Cost corrected at {late['at']}: {late['estimated_basis']} as {_dollars(late['estimated_usd'])}, "
            f"then reported as {_dollars(late['reported_usd'])}"
        )
    return lines


def explain(
    task: Annotated[str | None, typer.Option(help="A task of the product.")] = None,
    model: Annotated[str | None, typer.Option(help="A model's slug, such as openai/gpt-4.1-mini.")] = None,
    text: Annotated[str, typer.Option(help="The prompt whose size counts.")] = "Hello",
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="The output limit.")] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(help=f"As a call of this endpoint: {', '.join(ENDPOINTS)}. Else the task's own, or chat."),
    ] = None,
    project: Annotated[str | None, typer.Option(help="As a call of this project.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what a call would do now, and why, without making it."""
    if endpoint is not None and endpoint not in ENDPOINTS:
        raise CliError(f"There is no endpoint {endpoint[:40]!r} to explain.", suggest(endpoint, ENDPOINTS))
    with Connection() as api:
        tasks = {t["task"]: t for t in api.manage("GET", "/product")["tasks"]}
        if (task is None) == (model is None):
            example = next(iter(tasks), "NAME")
            raise CliError("Name a task or a model, one of the two.", f"For example: ownkey explain --task {example}.")
        named = choose_workspace(api, workspace).rpartition("/")[2]
        asked = endpoint or (tasks[task]["endpoint"] if task in tasks else "chat")
        body = _explained_body(asked, f"task:{task}" if task else str(model), text, max_tokens)
        headers = {"x-ownkey-workspace": unquote(named), **({"x-ownkey-project": project} if project else {})}
        params = {"endpoint": endpoint} if endpoint else {}
        found = api.request("POST", "/v1/explain", body=body, params=params, headers=headers)
    output.emit(found, as_json, _show_explained)


def _explained_body(endpoint: str, model: str, text: str, max_tokens: int | None) -> dict[str, Any]:
    """A request of the endpoint's own form."""
    body: dict[str, Any] = {"model": model}
    if endpoint in ("responses", "embeddings"):
        body["input"] = text
    else:
        body["messages"] = [{"role": "user", "content": text}]
    if endpoint == "messages":
        body["max_tokens"] = MESSAGES_MAX_TOKENS
    if max_tokens is not None and endpoint not in ("embeddings", "count_tokens"):
        body["max_output_tokens" if endpoint == "responses" else "max_tokens"] = max_tokens
    return body


def _show_explained(row: Any, indent: str = "") -> None:
    """Explain's answer as indented lines: whatever it tells is shown."""
    if isinstance(row, dict):
        for name, value in row.items():
            if isinstance(value, dict | list) and value:
                output.say(f"{indent}{name}:")
                _show_explained(value, indent + "  ")
            elif value not in (None, [], {}, ""):
                output.say(f"{indent}{name}: {value}")
    elif isinstance(row, list):
        for n, value in enumerate(row, 1):
            if isinstance(value, dict | list):
                output.say(f"{indent}{n}.")
                _show_explained(value, indent + "  ")
            else:
                output.say(f"{indent}- {value}")


def verify(as_json: JsonFlag = False) -> None:
    """Recompute every counter from rows. Exit 0: clean; 1: drift; 2: not run."""
    try:
        with Connection() as api:
            found = api.manage("POST", "/verify", {})
    except CliError as error:
        error.exit_code = 2
        raise

    def human(row: dict[str, Any]) -> None:
        if row["clean"]:
            output.say("Clean: every counter agrees with its rows.")
        for finding in row["findings"]:
            output.say(f"DRIFT {finding['check']} {finding['workspace'] or ''}: {finding['detail']} "
                       f"[{', '.join(finding['ids'])}]")
        output.say("This rests on:")
        for assumption in row["assumptions"]:
            output.say(f"  - {assumption}")

    output.emit(found, as_json, human)
    if not found["clean"]:
        raise typer.Exit(1)


def prices(
    search: Annotated[str, typer.Argument(help="Only models whose name contains this.")] = "",
    set_price: Annotated[
        list[str] | None,
        typer.Option("--set", help="PROVIDER MODEL-ID DIMENSION=USD-per-million, as one text; repeat it."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show prices in force, or override some (`--set "openai gpt-4.1-mini input=0.40 output=1.60"`)."""
    overrides = [_override(text) for text in set_price or ()]
    with Connection() as api:
        found = api.manage("PUT", "/prices", {"overrides": overrides}) if overrides else api.manage("GET", "/prices")
    found["prices"] = [p for p in found["prices"] if search.lower() in f"{p['provider']} {p['model']}".lower()]
    named = {(o["provider"], o["model"]): o["usd_per_million"] for o in overrides}
    if named:
        found["prices"] = [p for p in found["prices"] if (p["provider"], p["model"]) in named]

    def human(page: dict[str, Any]) -> None:
        output.say(f"Price version {page['version']}, made by {page['created_by']}. US$ per million tokens:")
        output.table(
            ("provider", "model", "input", "output", "cache read", "source"),
            [(p["provider"], p["model"], p["usd_per_million"].get("input"), p["usd_per_million"].get("output"),
              p["usd_per_million"].get("cache_read"), p["source"]) for p in page["prices"]],
            empty="No model matches.",
        )
        for price in page["prices"]:
            if (price["provider"], price["model"]) in named:
                _show_rest(price, named[price["provider"], price["model"]])

    output.emit(found, as_json, human)


def _show_rest(price: dict[str, Any], named: dict[str, str]) -> None:
    """What an override did not name: kept as it was, or without a price of its own."""
    kept = [f"{name} {amount}" for name, amount in price["usd_per_million"].items() if name not in named]
    bare = [name for name in DIMENSIONS if name not in price["usd_per_million"]]
    if kept:
        output.say(f"{price['model']} keeps: {', '.join(kept)}.")
    if bare:
        output.say(f"{price['model']} has no own price for: {', '.join(bare)}.")


def _override(text: str) -> dict[str, Any]:
    words = text.split()
    if len(words) < 3 or any("=" not in word for word in words[2:]):
        raise CliError(f"{text[:60]!r} is not PROVIDER MODEL-ID DIMENSION=USD.",
                       'Write it as one text: --set "openai gpt-4.1-mini input=0.40 output=1.60".')
    amounts = dict(word.split("=", 1) for word in words[2:])
    return {"provider": words[0], "model": words[1], "usd_per_million": amounts}


def openapi() -> None:
    """Print the management API's description (OpenAPI 3.1)."""
    import json

    from ownkey.api.manage_routes import PREFIX, ROUTES
    from ownkey.api.openapi import describe_api

    sys.stdout.write(json.dumps(describe_api(ROUTES, PREFIX), indent=2, ensure_ascii=False) + "\n")
