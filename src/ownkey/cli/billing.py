"""`ownkey billing`: plans and prices, the add-on of a workspace, credits for money, and Stripe's events."""

from typing import Annotated, Any

import typer

from ownkey.cli import output
from ownkey.cli.connection import Connection, segment
from ownkey.cli.output import JsonFlag, WorkspaceOption
from ownkey.cli.workspace_choice import choose_workspace

billing_app = typer.Typer(no_args_is_help=True, help="Plans & pricing, the add-on, payments.")

ReturnUrl = Annotated[
    str, typer.Option("--return-url", help="Where the person comes back to; one of billing.return_urls.")
]


@billing_app.command("pricing")
def pricing(as_json: JsonFlag = False) -> None:
    """Show what is sold: plans, the add-on, packs of credits."""
    with Connection() as api:
        found = api.manage("GET", "/pricing")

    def human(page: dict[str, Any]) -> None:
        price = page["addon_price"] or (f"{page['addon_credits']:,} credits" if page["addon_credits"] else None)
        output.fields({
            "add-on": page["addon_name"] if price else None, "a month": price,
            "sold by": page["host_url"] or ("the host product" if page["rail"] == "host" else None),
            "days of grace": page["grace_days"],
        })
        output.say(page["note"])
        output.table(
            ("plan", "title", "own keys", "minimum balance", "credits once", "credits a month", "roll over"),
            [(p["plan"], p["title"], p["byok"], p["minimum_balance_credits"], p["grant_credits"], p["cycle_credits"],
              p["cycle_rollover"] if p["cycle_credits"] else None) for p in page["plans"]], empty="No plans.",
        )
        output.table(
            ("pack", "credits", "price"), [(p["pack"], p["credits"], p["price"]) for p in page["packs"]],
            empty="No packs of credits are sold.",
        )

    output.emit(found, as_json, human)


def _show(row: dict[str, Any]) -> None:
    output.say(row["sentence"])
    output.fields({
        "state": row["state"].replace("_", " "),
        "price": row["price"] or (f"{row['price_credits']:,} credits a month" if row["price_credits"] else None),
        "renews": row["renews_at"], "works until": row["works_until"],
        "minimum balance": row["minimum_balance_credits"] or None, "balance": row["balance_credits"],
        "payment page": row["checkout_url"], "billing at": row["host_url"],
        "mode": "test: no real money" if row["test_mode"] else None,
    })


def _show_step(step: dict[str, Any]) -> None:
    output.say(step["message"])
    if step["url"]:
        output.say(step["url"])
    else:
        _show(step["billing"])


@billing_app.command("show")
def show(workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """Show where a workspace's add-on stands."""
    with Connection() as api:
        found = api.manage("GET", f"{choose_workspace(api, workspace)}/billing")
    output.emit(found, as_json, _show)


@billing_app.command("subscribe")
def subscribe(return_url: ReturnUrl = "", workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """Buy the add-on: prints the page to pay on, or takes its credits."""
    with Connection() as api:
        step = api.manage(
            "POST", f"{choose_workspace(api, workspace)}/billing/subscribe", {"return_url": return_url}
        )
    output.emit(step, as_json, _show_step)


@billing_app.command("topup")
def top_up(
    pack: Annotated[str, typer.Argument(help="One of the packs that `ownkey billing pricing` lists.")],
    return_url: ReturnUrl = "", workspace: WorkspaceOption = None, as_json: JsonFlag = False,
) -> None:
    """Buy a pack of credits: prints the page to pay on."""
    with Connection() as api:
        step = api.manage("POST", f"{choose_workspace(api, workspace)}/billing/topup", {
            "pack": pack, "return_url": return_url,
        })
    output.emit(step, as_json, _show_step)


@billing_app.command("confirm")
def confirm(workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """Ask Stripe what became of the open payments."""
    _act("confirm", workspace, as_json)


@billing_app.command("cancel")
def cancel(workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """Do not renew the add-on; it works to the end of what is paid."""
    _act("cancel", workspace, as_json)


@billing_app.command("keep")
def keep(workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """Undo a cancellation while the paid period runs."""
    _act("keep", workspace, as_json)


def _act(what: str, workspace: str | None, as_json: bool) -> None:
    with Connection() as api:
        found = api.manage("POST", f"{choose_workspace(api, workspace)}/billing/{what}", {})
    output.emit(found, as_json, _show)


@billing_app.command("manage")
def manage(return_url: ReturnUrl = "", workspace: WorkspaceOption = None, as_json: JsonFlag = False) -> None:
    """Print the address of Stripe's page for the card and the invoices."""
    with Connection() as api:
        found = api.manage("POST", f"{choose_workspace(api, workspace)}/billing/manage", {"return_url": return_url})
    output.emit(found, as_json, lambda row: output.say(row["url"]))


@billing_app.command("payments")
def payments(
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 50,
    workspace: WorkspaceOption = None, as_json: JsonFlag = False,
) -> None:
    """List what was paid by card."""
    with Connection() as api:
        found = api.manage("GET", f"{choose_workspace(api, workspace)}/billing/payments", limit=limit)
    output.emit(found, as_json, lambda page: output.table(
        ("payment", "for", "amount", "credits", "period from", "paid", "taken back (cents)"),
        [(p["id"], p["purpose"], p["price"], p["credits"], p["period_start"], p["at"],
          None if p["taken_back_cents"] == "0" else p["taken_back_cents"]) for p in page["payments"]],
        empty="Nothing was paid by card yet.",
    ))


@billing_app.command("events")
def events(
    state: Annotated[
        str | None, typer.Option(help="processed, ignored, quarantined, failed or duplicate.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 50, as_json: JsonFlag = False,
) -> None:
    """List Stripe's events and what became of them."""
    with Connection() as api:
        found = api.manage("GET", "/billing/events", state=state, limit=limit)

    def human(page: dict[str, Any]) -> None:
        output.say(", ".join(f"{count} {name}" for name, count in sorted(page["counts"].items())))
        output.table(
            ("event", "type", "object", "workspace", "state", "came", "reason"),
            [(e["id"], e["type"], e["object"], e["workspace"], e["state"], e["deliveries"], e["reason"])
             for e in page["events"]], empty="No events yet.",
        )

    output.emit(found, as_json, human)


@billing_app.command("retry")
def retry(
    event: Annotated[str, typer.Argument(help="The event's id at Stripe (evt_…).")], as_json: JsonFlag = False
) -> None:
    """Work on a failed or quarantined event once more."""
    with Connection() as api:
        done = api.manage("POST", f"/billing/events/{segment(event)}/retry", {})
    output.emit(done, as_json, lambda row: output.say(f"{row['state']}. {row['reason']}".strip()))


@billing_app.command("reconcile")
def reconcile(as_json: JsonFlag = False) -> None:
    """Ask Stripe for whatever no webhook has brought."""
    with Connection() as api:
        done = api.manage("POST", "/billing/reconcile", {})

    def human(row: dict[str, Any]) -> None:
        output.say(row["message"])
        output.fields({
            "missed events": row["missed_events"], "open orders asked for": row["orders"],
            "subscriptions asked for": row["subscriptions"], "wishes passed on": row["wishes"],
        })

    output.emit(done, as_json, human)
