"""Why: one call, or a workspace at a time; what happened, which rules held then, and what would happen now.

The answer stands there in words too, to be copied into a ticket as it is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from ownkey.console.visit import ConsoleRoute, ConsoleVisit, status_of
from ownkey.console.workspaces import url_of
from ownkey.control.call_facts import Rule
from ownkey.control.gates import TaskGates
from ownkey.control.problems import Problem, ProblemCode, invalid
from ownkey.control.receipts import to_receipt, why_sentence
from ownkey.dialects.openai_chat import OpenAIDialect
from ownkey.domain import models
from ownkey.domain.overview import FoundCall
from ownkey.domain.receipts import Receipt
from ownkey.domain.wire import Endpoint
from ownkey.domain.workspace import Principal, TokenKind, WorkspaceState
from ownkey.gateway.calls import CallRequest
from ownkey.pages import figures
from ownkey.pages.http import Answer
from ownkey.pages.receipts import json_text, result_of
from ownkey.pages.site import told

AROUND_MS: Final = 10 * 60_000
"""How far around a time calls are looked for."""

USUAL_CHARACTERS: Final = 2_000
CHARACTERS_A_TOKEN: Final = 4
MOST_CHARACTERS: Final = 2_000_000
MOST_A_LINE: Final = 1_500
LAST_YEAR: Final = 2_200
_DIALECT = OpenAIDialect()
_CREDIT_RULES = frozenset({"always_use_key", "credits_if_key_fails", "credits_if_key_fails_limit"})


@dataclass(frozen=True, slots=True)
class Now:
    """What the same call would meet now. `code` "": it would be answered; `sentence` says either."""

    sentence: str
    code: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Then:
    """The rules that held at a moment, as (name, value, who changed it last and when)."""

    at_ms: int
    rules: Sequence[tuple[str, str, str]]


async def show(visit: ConsoleVisit) -> Answer:
    asked = {name: visit.request.asks(name)[:200] for name in ("receipt", "workspace", "at")}
    if asked["receipt"]:
        return await _leads_to(visit, asked)
    if not asked["workspace"] and not asked["at"]:
        return _ask(visit, asked)
    try:
        workspace = await _workspace(visit, asked["workspace"])
        at_ms = read_moment(asked["at"]) if asked["at"] else visit.now_ms
    except Problem as problem:
        return _ask(visit, asked, problem)
    return await _around(visit, workspace, at_ms, asked)


async def show_call(visit: ConsoleVisit) -> Answer:
    ident = visit.request.params["receipt"]
    desk = visit.desk
    workspace = await desk.workspaces.find(await desk.overview.owner_of(ident))
    try:
        stored = await desk.receipts.one(workspace, ident)
    except Problem:
        running = await desk.call_facts.running(workspace, ident)
        if running is None:
            raise
        return visit.page("console/call_running.html", "A call that is running", workspace=workspace, running=running,
                          url=url_of(workspace), refresh_s=3)
    receipt = to_receipt(stored)
    headline = await desk.receipts.headline(workspace, stored)
    then, now = await _then(visit, workspace, stored), await foresee(visit, workspace, receipt)
    return visit.page(
        "console/call.html", "Call receipt", workspace=workspace, url=url_of(workspace), receipt=receipt,
        headline=headline, why=why_sentence(stored), then=then, now=now, result_of=result_of,
        answer=_answer(visit, workspace, receipt, headline, why_sentence(stored), now), json_text=json_text(stored),
        explained=visit.house.explainer is not None,
    )


async def _leads_to(visit: ConsoleVisit, asked: Mapping[str, str]) -> Answer:
    try:
        await visit.desk.overview.owner_of(asked["receipt"])
    except Problem as problem:
        return _ask(visit, asked, Problem(ProblemCode.NOT_FOUND, problem.message, problem.fix, param="receipt"))
    return visit.go(f"/console/calls/{quote(asked['receipt'], safe='')}")


def _ask(visit: ConsoleVisit, asked: Mapping[str, str], problem: Problem | None = None) -> Answer:
    return visit.page("console/why.html", "Why", asked=asked, problem=problem, status=status_of(problem), calls=None,
                      workspace=None, then=None, gates=(), standing=None, answer="", url="", now=None)


async def _workspace(visit: ConsoleVisit, reference: str) -> WorkspaceState:
    if not reference:
        raise invalid("workspace", "A time alone says nothing: name the workspace.", "Use its id or external id.")
    try:
        return await visit.desk.workspaces.find(reference)
    except Problem as problem:
        raise Problem(problem.code, problem.message, problem.fix, param="workspace") from problem


async def _around(visit: ConsoleVisit, workspace: WorkspaceState, at_ms: int, asked: Mapping[str, str]) -> Answer:
    desk = visit.desk
    calls = await desk.overview.calls_around(workspace.id, at_ms, AROUND_MS)
    standing, gates = await desk.status.show(workspace), await desk.gates.show(workspace)
    nearest = min(calls, key=lambda call: abs(call.receipt["at_ms"] - at_ms), default=None)
    stored = {"at_ms": at_ms, "cap": None, "price_version": None}
    return visit.page(
        "console/why.html", "Why", asked=asked, calls=calls, nearest=nearest, workspace=workspace,
        url=url_of(workspace), then=await _then(visit, workspace, stored), gates=gates, standing=standing, at_ms=at_ms,
        answer=_answer_of_state(visit, workspace, at_ms, calls, standing.sentence, gates), now=None,
    )


# --- what held then


async def _then(visit: ConsoleVisit, workspace: WorkspaceState, stored: Mapping[str, Any]) -> Then:
    rules = await visit.desk.call_facts.rules(workspace, stored)
    shown = [
        rule for rule in rules
        if (visit.with_credits or rule.name not in _CREDIT_RULES) and (rule.name != "price_version" or rule.value)
    ]
    return Then(stored["at_ms"], [_rule_text(visit, rule) for rule in shown])


def _rule_text(visit: ConsoleVisit, rule: Rule) -> tuple[str, str, str]:
    say, value = visit.say, rule.value
    changed = "" if rule.changed_at_ms is None else say(
        "{when} by {who}", when=figures.moment(rule.changed_at_ms, "UTC"), who=rule.changed_by
    )
    match rule.name:
        case "always_use_key":
            named = say("Always use this key"), say("On") if value else say("Off")
        case "credits_if_key_fails":
            named = say("Use credits if my key fails"), say("On") if value else say("Off")
        case "credits_if_key_fails_limit":
            named = say("Monthly limit of that"), say("no limit") if value is None else figures.credits(value)
        case "on_direct_auth_failure":
            words = {"fallback": say("use the OpenRouter key"), "fail": say("fail the call")}
            named = say("If a direct key is rejected"), words.get(value, str(value))
        case "entitlement":
            named = say("Calls with the own key"), str(value).replace("_", " ")
        case "cap_nusd":
            named = say("Monthly spend cap (USD)"), say("no cap") if value is None else figures.usd_exact(value)
        case _:
            named = say("Price version"), str(value)
    return (*named, changed)


# --- what would happen now


async def foresee(visit: ConsoleVisit, workspace: WorkspaceState, receipt: Receipt) -> Now | None:
    """The same task or model, project and size, through the gateway's own admission. Nothing is sent or held."""
    explainer = visit.house.explainer
    if explainer is None:
        return None
    found = await explainer.explain(_same_call(workspace, receipt))
    if found["would"] == "refuse":
        return Now(found["message"], found["code"], found["fix"]["text"])
    return Now(found["sentence"], "")


def _same_call(workspace: WorkspaceState, receipt: Receipt) -> CallRequest:
    """A call like it: the text itself was never kept, so that its length stands for it."""
    usage = receipt.usage
    size = USUAL_CHARACTERS if usage is None else min(MOST_CHARACTERS, usage.total_input * CHARACTERS_A_TOKEN)
    model = receipt.requested_model or (f"task:{receipt.task}" if receipt.task else "")
    body: dict[str, Any] = {"model": model}
    slug = models.normalize_requested(model)
    vectors = receipt.endpoint == "embeddings" or (slug is not None and models.makes_embeddings(slug))
    endpoint: Endpoint = "embeddings" if vectors else "chat"
    if endpoint == "embeddings":
        body["input"] = "x" * max(1, size)
    else:
        body["messages"] = [{"role": "user", "content": "x" * size}]
    return CallRequest(
        Principal("console", TokenKind.WORKSPACE, workspace.id, frozenset({"call"})), workspace, _DIALECT, endpoint,
        json.dumps(body).encode(), task=receipt.task, project=receipt.project,
    )


# --- the answer to be copied


def _answer(
    visit: ConsoleVisit, workspace: WorkspaceState, receipt: Receipt, headline: str, why: str, now: Now | None
) -> str:
    lines = [
        f"{workspace.name} ({workspace.external_id}), {figures.moment(receipt.at_ms, 'UTC')}, call {receipt.id}",
        headline, *([why] if why != headline else []),
    ]
    if now is not None:
        lines.append(visit.say("The same call now: {sentence}", sentence=now.sentence))
        if now.fix:
            lines.append(visit.say("To put it right: {fix}", fix=now.fix))
    return _told(lines)


def _answer_of_state(
    visit: ConsoleVisit, workspace: WorkspaceState, at_ms: int, calls: Sequence[FoundCall], sentence: str,
    gates: Sequence[TaskGates],
) -> str:
    minutes = AROUND_MS // 60_000
    lines = [f"{workspace.name} ({workspace.external_id}), {figures.moment(at_ms, 'UTC')}"]
    if calls:
        lines += [f"{figures.moment(c.receipt['at_ms'], 'UTC')}  {c.receipt['id']}  {why_sentence(c.receipt)}"
                  for c in calls[:10]]
    else:
        lines.append(visit.say("No call came within {minutes} minutes of it.", minutes=minutes))
    lines.append(visit.say("Now: {sentence}", sentence=sentence))
    lines += [f"{one.task.title}: {one.first.sentence}" for one in gates if one.first is not None]
    return _told(lines)


def _told(lines: Sequence[str]) -> str:
    """Names and providers' words are in it: scrubbed line by line, and cut."""
    return "\n".join(told(line, MOST_A_LINE) for line in lines)


def read_moment(text: str) -> int:
    """ "2026-11-14 09:31", with a T or without, a date alone, or Unix milliseconds; UTC where no zone is named. Raises
    Problem."""
    bare = text.strip().removesuffix("UTC").strip()
    if bare.isascii() and bare.isdigit() and len(bare) == 13:
        return int(bare)
    try:
        at = datetime.fromisoformat(bare.replace("Z", "+00:00"))
    except ValueError:
        at = None
    if at is None or not 1_970 < at.year < LAST_YEAR:
        raise invalid("at", f"{text[:40]!r} is no time of a call.", "Write it as 2026-11-14 09:31, in UTC.")
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return int(at.timestamp() * 1_000)


ROUTES: tuple[ConsoleRoute, ...] = (
    ConsoleRoute("GET", "/console/why", show),
    ConsoleRoute("GET", "/console/calls/{receipt}", show_call),
)
