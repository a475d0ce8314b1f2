"""`ownkey mail` and `ownkey outbox`: what notices look like, whether they get out, and what became of them."""

import asyncio
import os
import re
import tempfile
import time
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ownkey.cli import output
from ownkey.cli.connection import Connection, read_settings, segment
from ownkey.cli.output import JsonFlag
from ownkey.cli.problems import CliError
from ownkey.control.notices import place_of
from ownkey.domain.errors import DeliveryError
from ownkey.domain.notices import SAMPLES, Kind, Place, write_notice
from ownkey.domain.records import Due, Member
from ownkey.domain.workspace import Role
from ownkey.notify.mail import render_html, render_text
from ownkey.providers.upstream import Upstream
from ownkey.settings.product import Settings

mail_app = typer.Typer(no_args_is_help=True, help="E-mails: what they look like, and whether they get out.")
outbox_app = typer.Typer(no_args_is_help=False, invoke_without_command=True, help="Messages: sent, waiting, failed.")

_ADDRESS = re.compile(r"[^\s@,;<>\"]{1,64}@[^\s@,;<>\"]{1,190}\Z")
_SAMPLE_WORKSPACE = "Acme"


def sample_place() -> tuple[Place, Mapping[str, str]]:
    """The configured product and its own words if there is one here, else an example."""
    try:
        settings = read_settings(dict(os.environ))
    except CliError:
        return Place(_SAMPLE_WORKSPACE, "Example", True, "https://app.example.com/settings/ai?open={flow}"), {}
    return place_of(settings.product, _SAMPLE_WORKSPACE), settings.portal.words


@mail_app.command("preview")
def preview(
    kind: Annotated[str | None, typer.Argument(help="One kind, such as ai_paused. Left out: all.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write .txt and .html files into this folder.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open them in the browser.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show every e-mail with sample values, as text; as files with --out or --open. Sends nothing."""
    if kind is not None and kind not in {str(known) for known in Kind}:
        raise CliError(f"There is no e-mail {kind[:40]!r}.", f"Use one of {', '.join(Kind)}.", code="unknown_kind")
    place, words = sample_place()
    notices = [write_notice(one, SAMPLES[one], place).in_words(words) for one in Kind if kind in (None, one.value)]
    folder = Path(tempfile.mkdtemp(prefix="ownkey-mail-")) if show and out is None else out
    files: list[str] = []
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for notice in notices:
            for suffix, text in (("txt", render_text(notice)), ("html", render_html(notice))):
                path = folder / f"{notice.kind.value}.{suffix}"
                path.write_text(text, "utf-8")
                files.append(str(path))
    told = [{"kind": n.kind.value, "subject": n.subject, "text": render_text(n)} for n in notices]
    output.emit({"mails": told, "files": files}, as_json, _show_preview)
    if show and folder is not None:
        for notice in notices:
            webbrowser.open((folder / f"{notice.kind.value}.html").resolve().as_uri())


def _show_preview(found: dict[str, Any]) -> None:
    if found["files"]:
        for name in found["files"]:
            output.say(name)
        return
    for mail in found["mails"]:
        output.say(f"── {mail['kind']}")
        output.say(f"Subject: {mail['subject']}\n\n{mail['text']}")


@mail_app.command("test")
def send_test(
    address: Annotated[str, typer.Argument(help="Where a sample e-mail goes.")], as_json: JsonFlag = False
) -> None:
    """Send one sample e-mail through the configured mail server, now, past the outbox."""
    settings = read_settings(dict(os.environ))
    if not _ADDRESS.match(address):
        raise CliError("This is not an e-mail address.", "Use an address such as ada@example.com.")
    if settings.mail is None:
        raise CliError("No mail server is configured.", f"Add [mail] to {settings.config_path.name}.", code="no_mail")
    if settings.mail.problem:
        raise CliError(settings.mail.problem, "Then run it again.", code="no_mail")
    try:
        asyncio.run(_send(settings, address))
    except DeliveryError as error:
        raise CliError(
            f"The e-mail was not taken by {settings.mail.host}: {error}.", "Correct [mail], then try again.",
            code="mail_failed",
        ) from error
    output.emit({"sent_to": address, "host": settings.mail.host}, as_json, lambda row: output.say(
        f"{row['host']} took the e-mail for {row['sent_to']}. Look into that mailbox, and into its spam folder."))


async def _send(settings: Settings, address: str) -> None:
    from ownkey.bootstrap import make_channels

    upstream = Upstream()
    mailer, _ = make_channels(settings, os.urandom(8).hex(), upstream)
    await upstream.aclose()
    assert mailer is not None
    kind = Kind.SPEND_THRESHOLD
    place = place_of(settings.product, f"{_SAMPLE_WORKSPACE} (a test)")
    notice = write_notice(kind, SAMPLES[kind], place).in_words(settings.portal.words)
    due = Due(0, "", "", "", "test", kind.value, SAMPLES[kind], 1, 0)
    member = Member("", "test", address, "", Role.OWNER)
    try:
        await mailer.send(due, member, notice, time.time_ns() // 1_000_000)
    finally:
        await mailer.close()


@outbox_app.callback()
def list_outbox(
    context: typer.Context,
    failed: Annotated[bool, typer.Option("--failed", help="Only what was given up.")] = False,
    skipped: Annotated[bool, typer.Option("--skipped", help="Only what there was nobody, or no channel, for.")] = False,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only what is still to be sent.")] = False,
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1, max=200)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List e-mails and events of all workspaces, newest first."""
    if context.invoked_subcommand is not None:
        return
    states = [name for name, on in (("failed", failed), ("skipped", skipped), ("waiting", waiting)) if on]
    if len(states) > 1:
        raise CliError("Choose one of --failed, --skipped and --waiting.", "Leave the others out.")
    with Connection() as api:
        found = api.manage("GET", "/outbox", limit=limit, state=states[0] if states else None)
    output.emit(found, as_json, _show_outbox)


def _show_outbox(found: dict[str, Any]) -> None:
    for channel, problem in found["channels"].items():
        if problem:
            output.say(f"{channel}: {problem}")
    output.table(
        ("id", "written", "workspace", "channel", "kind", "state", "tries", "why"),
        [(r["id"], r["created_at"], r["workspace_id"], r["channel"], r["kind"], r["state"], r["attempts"], r["reason"])
         for r in found["rows"]],
        empty="Nothing here.",
    )


@outbox_app.command("retry")
def retry(
    row: Annotated[str, typer.Argument(help="The message's id, from `ownkey outbox`.")], as_json: JsonFlag = False
) -> None:
    """Try a message again that failed or was skipped."""
    with Connection() as api:
        done = api.manage("POST", f"/outbox/{segment(row)}/retry", {})
    output.emit(done, as_json, lambda told: output.say(told["message"]))
