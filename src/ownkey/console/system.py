"""The deployment itself: version, keys, jobs and long work; e-mails, the audit log, the configuration."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from ownkey.console import backups
from ownkey.console.home import bytes_text
from ownkey.console.visit import ConsoleRoute, ConsoleVisit, status_of
from ownkey.console.workspaces import people
from ownkey.control.notices import EMAIL, STATES, place_of
from ownkey.control.problems import Problem, ProblemCode
from ownkey.control.verification import ASSUMPTIONS
from ownkey.control.work import WorkView
from ownkey.domain.notices import RULES, SAMPLES, Kind, Notice, write_notice
from ownkey.domain.operators import OperatorRole
from ownkey.domain.overview import AuditQuery
from ownkey.domain.work import NAMES, OPEN, WorkKind
from ownkey.notify.mail import render_html, render_text
from ownkey.pages import figures
from ownkey.pages.http import Answer, content_policy

PATH: Final = "/console/system"
SHOWN: Final = 50
LOOKED_THROUGH: Final = 500
REFRESH_S: Final = 2

MAIL_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
    "sandbox"
)
"""An e-mail carries its few styles inside and nothing else: this one document may have them, and may run nothing."""

ORIGINS: Final[Mapping[str, str]] = {
    "file": "ownkey.toml", "preset": "preset", "default": "default", "environment": "environment",
}


UPKEEP: Final = (WorkKind.LEDGER_CHECK, WorkKind.PRICE_SYNC)
"""What may be started from the list. Other work has a form of its own, which asks for more."""


async def show(visit: ConsoleVisit) -> Answer:
    return await _page(visit)


async def _page(visit: ConsoleVisit, act: str = "", problem: Problem | None = None) -> Answer:
    """`act` opens one form: "rewrap"."""
    machine, desk = visit.house.machine, visit.desk
    work = await desk.work.list_all(30)
    busy = any(view.work.state in OPEN for view in work)
    disk = machine.disk()
    return visit.page(
        "console/system.html", "System", machine=machine, jobs=machine.jobs(), keyring=await desk.master_key.show(),
        act=act, problem=problem, status=status_of(problem), reason=visit.request.form.get("reason", ""),
        work=work, startable=[(kind.value, visit.say(NAMES[kind])) for kind in UPKEEP],
        free="" if disk is None else bytes_text(disk[0]), busy=busy, every_s=REFRESH_S,
        chains=await desk.overview.chains(), assumptions=ASSUMPTIONS, backup=await backups.card(visit),
        came_of=lambda view: came_of(visit, view), names=await _names(visit, work),
    )


async def _names(visit: ConsoleVisit, work: Sequence[WorkView]) -> Mapping[str, str]:
    """Workspaces' names of the work that is listed; what was deleted meanwhile keeps its id."""
    found = {}
    for ident in {view.work.workspace_id for view in work} - {""}:
        try:
            found[ident] = (await visit.desk.workspaces.find(ident)).name
        except Problem:
            found[ident] = ident
    return found


def came_of(visit: ConsoleVisit, view: WorkView) -> Sequence[str]:
    """What a piece of work has found, a line each; its own small values where there is no better word for them."""
    result = view.work.result
    if view.work.kind is WorkKind.LEDGER_CHECK and "clean" in result:
        if result["clean"]:
            return [visit.say("The books balance: every counter agrees with its rows.")]
        number = int(result.get("findings", 0))
        told = visit.say.plural(
            "{count} finding: nothing was repaired.", "{count} findings: nothing was repaired.", number
        )
        return [told, *(_finding(one) for one in result.get("shown", ()))]
    if view.work.kind is WorkKind.REWRAP and "rewrapped" in result:
        told = visit.say.plural(
            "{count} data key moved to {key}; left: {left}.", "{count} data keys moved to {key}; left: {left}.",
            int(result["rewrapped"]), key=str(result["to"]), left=figures.count(int(result["left"])),
        )
        bad = int(result.get("undecryptable", 0))
        return [told] if not bad else [told, visit.say.plural(
            "{count} does not open under any key here and stays as it is: {names}.",
            "{count} do not open under any key here and stay as they are: {names}.", bad,
            names=", ".join(map(str, result.get("named", ()))),
        )]
    if isinstance(result.get("name"), str) and isinstance(result.get("bytes"), int):
        return [f"{result['name']}, {bytes_text(result['bytes'])}"]
    plain = [
        f"{name.replace('_', ' ')}: {value}" for name, value in result.items() if not isinstance(value, list | dict)
    ]
    return [" · ".join(plain)] if plain else []


def _finding(one: object) -> str:
    if isinstance(one, Mapping):
        return " · ".join(str(value) for value in one.values() if value)
    return str(one)


async def start_work(visit: ConsoleVisit) -> Answer:
    """The same work that is open already is found: a second click starts nothing."""
    kind = visit.request.field("kind")
    if kind not in {one.value for one in UPKEEP}:
        raise Problem(ProblemCode.INVALID, "There is no such work here.", "Choose one of the list.", param="kind")
    await visit.desk.work.start(None, kind, {}, visit.actor)
    return visit.go(f"{PATH}#work")


async def cancel_work(visit: ConsoleVisit) -> Answer:
    whose = visit.request.field("workspace")
    workspace = await visit.desk.workspaces.find(whose) if whose else None
    await visit.desk.work.cancel(workspace, visit.request.params["work"], visit.actor)
    return visit.go(f"{PATH}#work")


# --- master key


async def ask_rewrap(visit: ConsoleVisit) -> Answer:
    return await _page(visit, "rewrap")


async def rewrap(visit: ConsoleVisit) -> Answer:
    """The same rewrap that is under way is found: a second click starts nothing."""
    try:
        await visit.desk.master_key.check_rewrap()
        await visit.desk.overview.note_reason(
            None, "master_key.rewrap", "every data key", visit.request.field("reason"), visit.actor
        )
        await visit.desk.master_key.start_rewrap(visit.actor)
    except Problem as problem:
        if problem.code not in (ProblemCode.INVALID, ProblemCode.CONFLICT):
            raise
        return await _page(visit, "rewrap", problem)
    return visit.go(f"{PATH}?done=rewrap#keys")


# --- audit


async def show_audit(visit: ConsoleVisit) -> Answer:
    asked = {name: visit.request.asks(name)[:200] for name in ("workspace", "action", "actor", "before")}
    problem, whose = None, None
    if asked["workspace"] == "deployment":
        whose = ""
    elif asked["workspace"]:
        try:
            whose = (await visit.desk.workspaces.find(asked["workspace"])).id
        except Problem as wrong:
            problem, whose = wrong, "-"
    place = asked["before"]
    before = int(place) if place.isascii() and place.isdigit() and len(place) < 18 else None
    lines = await visit.desk.overview.audit(
        AuditQuery(whose, asked["action"], asked["actor"], before, SHOWN + 1)
    )
    shown = lines[:SHOWN]
    checked = await visit.desk.overview.verify_chains() if visit.request.asks("check") == "1" else None
    older = visit.request.with_query(before=str(shown[-1].seq), check=None) if len(lines) > SHOWN else ""
    return visit.page(
        "console/system_audit.html", "Audit log", lines=shown, asked=asked, chains=await visit.desk.overview.chains(),
        findings=checked, people=await people(visit), older=older, problem=problem, status=status_of(problem),
        newest=visit.request.with_query(before=None, check=None) if before is not None else "",
        filtered=any(asked[name] for name in ("workspace", "action", "actor")),
        check_url=visit.request.with_query(check="1"),
    )


# --- configuration


async def show_configuration(visit: ConsoleVisit) -> Answer:
    wanted = visit.request.asks("q")[:100].lower()
    origin = visit.request.asks("origin")
    lines = [
        line for line in visit.house.machine.configuration
        if wanted in f"{line.name} {line.value}".lower() and (origin not in ORIGINS or line.origin == origin)
    ]
    return visit.page(
        "console/system_configuration.html", "Configuration", lines=lines, q=wanted, origin=origin,
        origins=[("", visit.say("Everything")), *((key, visit.say(name)) for key, name in ORIGINS.items())],
        origin_names=ORIGINS, machine=visit.house.machine, every=len(visit.house.machine.configuration),
    )


# --- e-mails


async def show_mail(visit: ConsoleVisit) -> Answer:
    asked = visit.request.asks("kind")
    kind = Kind(asked) if asked in tuple(Kind) else Kind.SPEND_THRESHOLD
    state = visit.request.asks("state")
    rows = await visit.desk.outbox.list(None, state if state in STATES else None, LOOKED_THROUGH)
    notice = _sample(visit, kind)
    return visit.page(
        "console/system_mail.html", "E-mails", kind=kind, notice=notice, text=render_text(notice), rule=RULES[kind],
        kinds=[(one.value, RULES[one].when) for one in Kind], state=state, states=STATES,
        frame=f"{PATH}/mail/{quote(kind.value)}.html", no_mail=visit.desk.outbox.channels().get(EMAIL),
        rows=[row for row in rows if row["channel"] == EMAIL][:SHOWN],
        headers=[("content-security-policy", f"{content_policy()}; frame-src 'self'")],
    )


async def show_mail_html(visit: ConsoleVisit) -> Answer:
    asked = visit.request.params["kind"]
    if asked not in tuple(Kind):
        raise Problem(ProblemCode.NOT_FOUND, "There is no such e-mail.", "Choose one of the list.")
    return Answer(200, render_html(_sample(visit, Kind(asked))).encode(),
                  headers=[("content-security-policy", MAIL_POLICY)])


def _sample(visit: ConsoleVisit, kind: Kind) -> Notice:
    """The notice with made-up figures, in the host's words and with its links: as it would be sent."""
    written = write_notice(kind, SAMPLES[kind], place_of(visit.product, visit.say("Example workspace")))
    return written.in_words(visit.house.machine.mail_words)


_OPS = OperatorRole.OPS

ROUTES: tuple[ConsoleRoute, ...] = (
    ConsoleRoute("GET", PATH, show),
    ConsoleRoute("POST", f"{PATH}/work", start_work, _OPS),
    ConsoleRoute("POST", f"{PATH}/work/{{work}}/cancel", cancel_work, _OPS),
    ConsoleRoute("GET", f"{PATH}/rewrap", ask_rewrap, _OPS, fresh=True),
    ConsoleRoute("POST", f"{PATH}/rewrap", rewrap, _OPS, fresh=True),
    ConsoleRoute("GET", f"{PATH}/audit", show_audit),
    ConsoleRoute("GET", f"{PATH}/configuration", show_configuration),
    ConsoleRoute("GET", f"{PATH}/mail", show_mail),
    ConsoleRoute("GET", f"{PATH}/mail/{{kind}}.html", show_mail_html),
)
