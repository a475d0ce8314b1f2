"""All workspaces, and one of them whole: what is in force, where it comes from, who pays, and what was done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ownkey.console.visit import ConsoleRoute, ConsoleVisit, status_of
from ownkey.control.effective import Effective, Level
from ownkey.control.problems import Problem
from ownkey.domain.overview import TROUBLES, AuditQuery, Trouble, WorkspaceQuery
from ownkey.domain.records import TokenRow
from ownkey.domain.workspace import WorkspaceState
from ownkey.pages import figures
from ownkey.pages.http import Answer

PATH = "/console/workspaces"
PAGE = 50
TROUBLE_NAMES: Mapping[str, str] = {
    "": "All", "paused": "Paused by their cap", "suspended": "Suspended", "unhealthy": "Unhealthy key",
    "undecryptable": "Key that cannot be opened", "past_due": "Past due",
}


@dataclass(frozen=True, slots=True)
class Act:
    """What is being confirmed on a workspace's page: "" is nothing. `form` is what was typed, `nonce` makes one form
    one deed. `target` names the credential or token; `coming` is who pays afterwards."""

    name: str = ""
    target: str = ""
    form: Mapping[str, str] | None = None
    nonce: str = ""
    coming: str = ""
    problem: Problem | None = None


async def show_list(visit: ConsoleVisit) -> Answer:
    asked = {name: visit.request.asks(name) for name in ("q", "trouble", "plan", "after")}
    trouble: Trouble = next((name for name in TROUBLES if name == asked["trouble"]), "")
    query = WorkspaceQuery(asked["q"][:200], trouble, asked["plan"], asked["after"], PAGE)
    lines, following = await visit.desk.overview.workspaces(query)
    plans = [("", visit.say("Every plan")), *((p.name, p.title) for p in visit.product.plans.values())]
    return visit.page(
        "console/workspaces.html", "Workspaces", lines=lines, asked={**asked, "trouble": trouble}, plans=plans,
        troubles=[(key, visit.say(name)) for key, name in TROUBLE_NAMES.items()],
        filtered=bool(asked["q"] or trouble or asked["plan"]),
        newest=visit.request.with_query(after=None) if asked["after"] else "",
        older=visit.request.with_query(after=following) if following else "",
    )


async def show_one(visit: ConsoleVisit) -> Answer:
    return await page(visit, await find(visit))


async def find(visit: ConsoleVisit) -> WorkspaceState:
    """By id or external id; the platform's own is nobody's. Raises Problem."""
    return await visit.desk.workspaces.find(visit.request.params["workspace"])


async def page(visit: ConsoleVisit, workspace: WorkspaceState, act: Act = Act()) -> Answer:
    desk = visit.desk
    cap = await desk.caps.show(workspace)
    billing = await desk.billing.show(workspace)
    audit = await desk.overview.audit(AuditQuery(workspace_id=workspace.id, limit=15))
    spend = await desk.totals.spend(workspace, "funding", None)
    recent = await desk.overview.calls(desk.overview.read_calls_filter({"workspace": workspace.id}), limit=8)
    return visit.page(
        "console/workspace.html", workspace.name, status=status_of(act.problem), workspace=workspace, cap=cap,
        billing=billing, standing=await desk.status.show(workspace), cards=desk.credentials.list(workspace),
        groups=await desk.effective.show(workspace, cap), tell=lambda one, value: value_text(visit, one, value),
        level=Level, incidents=await desk.incidents.list(workspace, 10), spend=spend, recent=recent.calls,
        tokens=await desk.tokens.list(workspace), token_state=lambda row: token_state(visit, row),
        members=await desk.members.list(workspace), visits=await desk.portal_sessions.list(workspace),
        wallet=await desk.credits.show(workspace) if visit.with_credits else None, audit=audit,
        people=await people(visit), act=act, url=url_of(workspace), act_form=act.form or {},
        work=await desk.work.list(workspace, 5), problem=act.problem,
        version=version_of(workspace, act.name, act.target),
    )


def version_of(workspace: WorkspaceState, act: str, target: str = "") -> str:
    """What a form is made for: the present state of what it changes; "" for one that only adds or takes for good."""
    match act:
        case "status":
            return workspace.status
        case "comp":
            return workspace.entitlement.value
        case "disable" if target in workspace.credentials:
            credential = workspace.credentials[target]
            return f"{credential.version}-{credential.status}"
        case _:
            return ""


def url_of(workspace: WorkspaceState) -> str:
    return f"{PATH}/{quote(workspace.id, safe='')}"


async def people(visit: ConsoleVisit) -> Mapping[str, str]:
    """Operators' ids → names, for the log of what was done."""
    return {one.id: one.name for one in await visit.desk.operators.list()}


def token_state(visit: ConsoleVisit, row: TokenRow) -> str:
    """"works", "revoked" or "expired"."""
    if row.revoked_at_ms is not None:
        return "revoked"
    return "expired" if row.expires_at_ms is not None and row.expires_at_ms <= visit.now_ms else "works"


def value_text(visit: ConsoleVisit, one: Effective, value: Any) -> str:
    """A setting's value as people read it."""
    say = visit.say
    if value is None:
        return say("no cap") if one.kind == "usd" else say("no limit")
    match one.kind:
        case "switch":
            return say("On") if value else say("Off")
        case "usd":
            return figures.usd_exact(value)
        case "credits":
            return figures.credits(value)
        case "percent":
            return f"{value}%"
        case "days":
            return say.plural("{count} day", "{count} days", value)
        case "seconds":
            return f"{value:g} s"
        case "list":
            return ", ".join(_names(value)) or say("none")
        case "text":
            words = {"fallback": "use the OpenRouter key", "fail": "fail the call"}
            return say(words[value]) if value in words else str(value)


def _names(value: Sequence[Any]) -> Sequence[str]:
    return [str(one) for one in value]


ROUTES: tuple[ConsoleRoute, ...] = (
    ConsoleRoute("GET", PATH, show_list),
    ConsoleRoute("GET", f"{PATH}/{{workspace}}", show_one),
)
