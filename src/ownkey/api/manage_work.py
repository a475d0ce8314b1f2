"""Long work, exports and what is read beside them: what each route does, and the rows of the URL map."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ownkey.api import manage_schemas as out
from ownkey.api import manage_views as show
from ownkey.api.authorisation import Right, Subject
from ownkey.api.manage_call import Call, Download, ManageRoute
from ownkey.control.export_work import wish_of
from ownkey.control.exports import CSV_TYPE, STREAM_MOST
from ownkey.control.problems import Problem, ProblemCode, invalid, not_found
from ownkey.control.receipts import Scope
from ownkey.control.work import WorkView
from ownkey.domain.phrases import as_plain
from ownkey.domain.records import ReceiptFilter
from ownkey.domain.work import WorkKind

_W = "/workspaces/{workspace}"
_FILTERS = (
    "task", "project", "model", "provider", "credential", "trace", "funding", "outcome", "code", "month", "since",
    "until",
)


class CallsQuery(out.Request):
    """Which calls; all are optional, and days are the workspace's own."""

    task: str = ""
    project: str = ""
    model: Annotated[str, Meta(description="Any name of a model that was asked for, called or served.")] = ""
    provider: str = ""
    credential: Annotated[str, Meta(description="The id of a credential that was used.")] = ""
    trace: Annotated[str, Meta(description="A conversation's id.")] = ""
    funding: Annotated[str, Meta(description="byok, credits or nobody.")] = ""
    outcome: Annotated[str, Meta(description="ok, refused, failed or cancelled.")] = ""
    code: Annotated[str, Meta(description="A refusal's code.")] = ""
    month: Annotated[str, Meta(description="Such as 2026-11.")] = ""
    since: Annotated[str, Meta(description="A date, included.")] = ""
    until: Annotated[str, Meta(description="A date, included.")] = ""


class SpendTableQuery(out.Request):
    by: str = "task"
    month: Annotated[str, Meta(description="Such as 2026-11; this month if left out.")] = ""


class MonthQuery(out.Request):
    month: Annotated[str, Meta(description="Such as 2026-11; this month if left out.")] = ""


class StatementQuery(out.Request):
    before: Annotated[int | None, Meta(description="Pages backwards: an entry's number, exclusive.")] = None
    limit: out.Limit = 50


class WorkNew(out.Request):
    """`export`: calls as CSV; `replay`: a month under other settings; `export_all`: the workspace's data as a zip."""

    kind: Literal["export", "replay", "export_all"]
    calls: Annotated[CallsQuery | None, Meta(description="For an export: which calls.")] = None
    replay: Annotated[dict[str, Any] | None, Meta(
        description="For a replay: month, direct (providers with a direct key), own_key, always_use_key, cap_usd, "
                    "markup_percent, fee_percent. What is left out stays as it is.",
    )] = None
    member: Annotated[str, Meta(description="A member's id, who gets an e-mail when it has ended.")] = ""


class UpkeepNew(out.Request):
    """`ledger_check`: recompute the books; `reconcile`: ask Stripe; `price_sync`: read the price lists."""

    kind: Literal["ledger_check", "reconcile", "price_sync"]


class WorkOut(out.Answer):
    """A piece of work. `per_second` is its pace, `remaining_s` what is left, each null while nobody can know it."""

    work: str
    workspace: str | None
    kind: str
    name: str
    state: str
    step: str
    done: int
    total: int | None
    per_second: str | None
    remaining_s: int | None
    stalled: bool
    words: str
    error: str
    result: dict[str, Any]
    can_fetch: Annotated[bool, Meta(description="Whether its file is there.")]
    can_cancel: bool
    started_by: str
    created_at: out.Time
    heartbeat_at: out.Time | None
    ended_at: out.Time | None


class WorksOut(out.Answer):
    work: list[WorkOut]


class StatementOut(out.Answer):
    rows: list[dict[str, Any]]
    next_before: int | None


def show_work(view: WorkView) -> WorkOut:
    work, progress = view.work, view.progress
    rate = progress.per_second_hundredths
    return WorkOut(
        work=work.id, workspace=work.workspace_id or None, kind=work.kind.value, name=view.name, state=work.state.value,
        step=work.step, done=work.done, total=work.total,
        per_second=None if rate is None else f"{rate // 100}.{rate % 100:02d}", remaining_s=progress.remaining_s,
        stalled=progress.stalled, words=progress.words, error=work.error, result=show.plain_row(work.result),
        can_fetch=view.can_fetch, can_cancel=view.can_cancel, started_by=work.started_by,
        created_at=show.iso(work.created_at_ms), heartbeat_at=show.iso_or_none(work.heartbeat_ms),
        ended_at=show.iso_or_none(work.ended_at_ms),
    )


def _filter(call: Call, given: CallsQuery | None) -> ReceiptFilter:
    values = {} if given is None else {name: getattr(given, name) for name in _FILTERS}
    return call.desk.activity.read_filter(call.own, values)


async def start_work(call: Call) -> WorkOut:
    body: WorkNew = call.body
    wish: dict[str, Any] = {}
    kind = WorkKind(body.kind)
    if kind is WorkKind.EXPORT:
        wish = wish_of(_filter(call, body.calls))
    elif kind is WorkKind.REPLAY:
        wish = call.desk.replay.read_wish(call.own, body.replay or {})
    for name, allowed in (("calls", WorkKind.EXPORT), ("replay", WorkKind.REPLAY)):
        if getattr(body, name) is not None and kind is not allowed:
            raise invalid(name, f"`{name}` is for another kind of work.", f"Leave it out, or start {allowed.value}.")
    return show_work(await call.desk.work.start(call.own, body.kind, wish, call.actor, body.member))


async def start_upkeep(call: Call) -> WorkOut:
    body: UpkeepNew = call.body
    return show_work(await call.desk.work.start(None, body.kind, {}, call.actor))


async def list_work(call: Call) -> WorksOut:
    return WorksOut(work=[show_work(view) for view in await call.desk.work.list(call.own, call.query.limit)])


async def list_all_work(call: Call) -> WorksOut:
    return WorksOut(work=[show_work(view) for view in await call.desk.work.list_all(call.query.limit)])


async def read_work(call: Call) -> WorkOut:
    return show_work(await call.desk.work.show(call.workspace, call.path["work"]))


async def cancel_work(call: Call) -> WorkOut:
    return show_work(await call.desk.work.cancel(call.workspace, call.path["work"], call.actor))


async def fetch_work(call: Call) -> Download:
    name, content = await call.desk.work.fetch(call.own, call.path["work"])
    return Download(name, "application/zip" if name.endswith(".zip") else CSV_TYPE, content)


async def export_receipts(call: Call) -> Download:
    query = _filter(call, call.query)
    rows = await call.desk.exports.count(call.own, query)
    if rows > STREAM_MOST:
        raise Problem(
            ProblemCode.TOO_MANY_ROWS, f"These are {rows:,} rows; up to {STREAM_MOST:,} are sent at once.",
            "Start an export (POST …/work) and fetch its file, or narrow the filter.",
            details={"rows": rows, "most": STREAM_MOST},
        )
    return Download(call.desk.exports.file_name(call.own, "receipts"), CSV_TYPE, _receipts(call, query))


async def _receipts(call: Call, query: ReceiptFilter) -> AsyncIterator[bytes]:
    async for chunk in call.desk.exports.receipts(call.own, query):
        yield chunk.text.encode()


async def export_spend(call: Call) -> Download:
    text = await call.desk.exports.spend(call.own, call.query.by, call.query.month or None)
    return Download(call.desk.exports.file_name(call.own, "spend"), CSV_TYPE, _whole(text))


async def export_credits(call: Call) -> Download:
    return Download(call.desk.exports.file_name(call.own, "credits"), CSV_TYPE, _statement(call))


async def _whole(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


async def _statement(call: Call) -> AsyncIterator[bytes]:
    async for text in call.desk.exports.statement(call.own):
        yield text.encode()


async def read_statement(call: Call) -> StatementOut:
    page = await call.desk.statement.page(call.own, call.query.before, call.query.limit)
    return StatementOut(
        rows=[show.plain_row(msgspec.to_builtins(line, enc_hook=as_plain)) for line in page.lines],
        next_before=page.next_before,
    )


async def read_savings(call: Call) -> dict[str, Any]:
    if call.scope != Scope():
        # Sums of the whole workspace are not a limited token's to see.
        raise not_found("sum of", "savings", "for a limited token")
    found = await call.desk.savings.month(call.own, call.query.month or None)
    shown: dict[str, Any] = show.plain_row(msgspec.to_builtins(found, enc_hook=as_plain))
    return shown


_READ, _MANAGE = Right.READ, Right.MANAGE
_ALL, _BOOKS = Subject.WHOLE_WORKSPACE, Subject.DEPLOYMENT

ROUTES: tuple[ManageRoute, ...] = (
    ManageRoute("GET", f"{_W}/receipts.csv", "export_receipts", _ALL, _READ, export_receipts,
                "Calls as CSV, up to 10,000 at once.", str, query=CallsQuery, media=CSV_TYPE),
    ManageRoute("GET", f"{_W}/spend.csv", "export_spend", _ALL, _READ, export_spend,
                "A month's spend as CSV, by task, model, provider, project, day …", str, query=SpendTableQuery,
                media=CSV_TYPE),
    ManageRoute("GET", f"{_W}/credits.csv", "export_credits", _ALL, _READ, export_credits,
                "Every movement of credits as CSV.", str, media=CSV_TYPE),
    ManageRoute("GET", f"{_W}/credits/statement", "read_statement", Subject.CREDITS, _READ, read_statement,
                "Every movement of credits with the balance after it, newest first.", StatementOut,
                query=StatementQuery),
    ManageRoute("GET", f"{_W}/savings", "read_savings", Subject.RECEIPTS, _READ, read_savings,
                "What direct keys saved in a month, and could have saved.", dict[str, Any], query=MonthQuery),
    ManageRoute("POST", f"{_W}/work", "start_work", _ALL, _READ, start_work,
                "Start an export or a replay; the same that is open already is found, not started twice.", WorkOut,
                WorkNew, status=202),
    ManageRoute("GET", f"{_W}/work", "list_work", _ALL, _READ, list_work, "Long work, newest first.", WorksOut,
                query=out.LimitQuery),
    ManageRoute("GET", f"{_W}/work/{{work}}", "read_work", _ALL, _READ, read_work, "How far one piece of work is.",
                WorkOut),
    ManageRoute("POST", f"{_W}/work/{{work}}/cancel", "cancel_work", _ALL, _READ, cancel_work,
                "Cancel what waits or runs.", WorkOut, out.Nothing),
    ManageRoute("GET", f"{_W}/work/{{work}}/file", "fetch_work", _ALL, _READ, fetch_work,
                "The finished file; kept for 24 hours.", str, media="application/octet-stream"),
    ManageRoute("POST", "/work", "start_upkeep", _BOOKS, _MANAGE, start_upkeep,
                "Start the deployment's own long work.", WorkOut, UpkeepNew, status=202),
    ManageRoute("GET", "/work", "list_all_work", _BOOKS, _READ, list_all_work,
                "Long work of all workspaces and of the deployment, newest first.", WorksOut, query=out.LimitQuery),
    ManageRoute("GET", "/work/{work}", "read_upkeep", _BOOKS, _READ, read_work,
                "How far one piece of the deployment's work is.", WorkOut),
    ManageRoute("POST", "/work/{work}/cancel", "cancel_upkeep", _BOOKS, _MANAGE, cancel_work,
                "Cancel what waits or runs.", WorkOut, out.Nothing),
)
