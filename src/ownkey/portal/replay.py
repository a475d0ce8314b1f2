"""Replay: a month's calls under other settings, and what that would have cost. It changes nothing and calls nobody."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ownkey.control.problems import Problem, invalid, not_found
from ownkey.control.work import WorkView
from ownkey.domain.days import tell_month_of
from ownkey.domain.phrases import together
from ownkey.domain.portal import Page, Sight
from ownkey.domain.product import DIRECT_PROVIDERS
from ownkey.domain.receipts import provider_name
from ownkey.domain.routing import Route
from ownkey.domain.work import OPEN, WorkKind, WorkState
from ownkey.domain.workspace import CredentialStatus
from ownkey.pages import figures
from ownkey.pages.http import Answer
from ownkey.pages.statuses import PROBLEM_STATUSES
from ownkey.portal.exports import COME_AGAIN_S, check_person, find, may_again, may_cancel, start_again, started_by
from ownkey.portal.visit import PortalRoute, Visit

PATH: Final = "/portal/explain/replay"
MONTHS: Final = 12
_FIELD_OF: Final[Mapping[str, str]] = {
    "month": "f-month", "own_key": "f-own_key", "always_use_key": "f-always_use_key", "cap_usd": "f-cap_usd",
    "markup_percent": "f-markup_percent", "fee_percent": "f-fee_percent", "direct": "f-direct",
}


@dataclass(frozen=True, slots=True)
class Compared:
    """One line of a result: then, and under the other settings."""

    label: str
    before: str
    after: str
    change: str


async def show(visit: Visit) -> Answer:
    return await _form(visit, await _as_now(visit))


async def _form(
    visit: Visit, typed: Mapping[str, str], *, status: int = 200, problem: Problem | None = None
) -> Answer:
    errors = {}
    if problem is not None and problem.param is not None:
        errors[_FIELD_OF.get(problem.param, "f-month")] = visit.say(together(problem.message, problem.fix))
    months = await _months(visit)
    past = [view for view in await visit.desk.work.list(visit.workspace) if view.work.kind is WorkKind.REPLAY]
    return visit.show(
        "replay.html", title=visit.say("Replay a month"), status=status, typed=typed, errors=errors, path=PATH,
        problem=problem if problem is not None and not errors else None, months=months, past=past,
        direct=[(name, provider_name(name), typed.get(f"direct_{name}") == "on") for name in _direct(visit)],
        may_start=visit.session.kind == "member", states=_STATES, settings_of=lambda view: _settings(visit, view),
        pick=[("", visit.say("as it is now")), ("on", visit.say("on")), ("off", visit.say("off"))],
        caps=[("now", visit.say("as it is now")), ("none", visit.say("no cap")), ("amount", visit.say("this amount"))],
    )


def _direct(visit: Visit) -> Sequence[str]:
    return [name for name in visit.product.direct_providers if name in DIRECT_PROVIDERS]


async def _as_now(visit: Visit) -> dict[str, str]:
    """The form as it begins: the newest month that has calls, the keys as they are."""
    months = await _months(visit)
    typed = {"month": months[0][0] if months else "", "cap": "now"}
    for name in _direct(visit):
        credential = visit.workspace.credentials.get(name)
        if credential is not None and credential.status is CredentialStatus.ENABLED:
            typed[f"direct_{name}"] = "on"
    return typed


async def _months(visit: Visit) -> list[tuple[str, str]]:
    """The months that have calls, newest first, as the workspace's calendar has them."""
    keys = sorted((row.keys["month"] or "" for row in await visit.desk.totals.months(visit.workspace)), reverse=True)
    return [(key, visit.say(tell_month_of(int(key[:4]), int(key[5:])))) for key in keys[:MONTHS]]


async def start(visit: Visit) -> Answer:
    check_person(visit)
    form = visit.request.form
    typed = {name: form[name].strip()[:100] for name in form if name not in ("csrf", "version")}
    try:
        if typed.get("month", "") not in dict(await _months(visit)):
            told, fix = visit.say("That month has no calls to replay."), visit.say("Choose one of the list.")
            raise invalid("month", told, fix)
        wish = visit.desk.replay.read_wish(visit.workspace, _given(visit, typed))
        view = await visit.desk.work.start(
            visit.workspace, WorkKind.REPLAY, wish, visit.actor, visit.session.member_id
        )
    except Problem as problem:
        status = 422 if problem.param is not None else PROBLEM_STATUSES[problem.code]
        return await _form(visit, typed, status=status, problem=problem)
    return visit.go(f"{PATH}/{view.work.id}")


def _given(visit: Visit, typed: Mapping[str, str]) -> dict[str, Any]:
    """The form as a wish: what is left as it is now is left out."""
    given: dict[str, Any] = {"month": typed.get("month", "")}
    if _direct(visit):
        given["direct"] = [name for name in _direct(visit) if typed.get(f"direct_{name}") == "on"]
    for name in ("own_key", "always_use_key"):
        if visit.house.with_credits and typed.get(name) in ("on", "off"):
            given[name] = typed[name] == "on"
    match typed.get("cap"):
        case "none":
            given["cap_usd"] = ""
        case "amount":
            # An empty amount would mean no cap, which is a choice of its own here.
            given["cap_usd"] = typed.get("cap_usd") or "?"
    for name in ("markup_percent", "fee_percent"):
        if typed.get(name) and (name == "fee_percent" or visit.house.with_credits):
            given[name] = typed[name]
    return {name: value for name, value in given.items() if name != "month" or value}


async def one(visit: Visit) -> Answer:
    view = await _find(visit)
    work = view.work
    done = work.state is WorkState.DONE
    return visit.show(
        "replayed.html", title=_title(visit, view), view=view, path=PATH, by=started_by(visit, view), states=_STATES,
        refresh_s=COME_AGAIN_S if work.state in OPEN else None, may_cancel=may_cancel(visit, view),
        may_again=may_again(visit, view), compared=_compared(visit, work.result) if done else (),
        told=_told(visit, work.result) if done else (), settings=_settings(visit, view),
        cannot_know=work.result.get("cannot_know", ()) if done else (),
    )


async def again(visit: Visit) -> Answer:
    check_person(visit)
    view = await _find(visit)
    try:
        return visit.go(f"{PATH}/{await start_again(visit, view)}")
    except Problem as problem:
        return await _form(visit, await _as_now(visit), status=PROBLEM_STATUSES[problem.code], problem=problem)


async def cancel(visit: Visit) -> Answer:
    check_person(visit)
    view = await _find(visit)
    if may_cancel(visit, view):
        await visit.desk.work.cancel(visit.workspace, view.work.id, visit.actor)
    return visit.go(f"{PATH}/{view.work.id}")


async def _find(visit: Visit) -> WorkView:
    view = await find(visit, visit.request.params["work"])
    if view.work.kind is not WorkKind.REPLAY:
        raise not_found("replay", view.work.id)
    return view


# --- the result in words


def _title(visit: Visit, view: WorkView) -> str:
    return visit.say("Replay of {month}", month=_month_name(view.work.wish.get("month", "")))


def _month_name(key: str) -> str:
    return figures.month_of_year(key)


def _compared(visit: Visit, found: Mapping[str, Any]) -> Sequence[Compared]:
    say = visit.say
    rows = [
        _money(say("Paid with your own keys"), found["before_nusd"], found["after_nusd"]),
        _money(
            say("OpenRouter's fee on buying credits there ({percent}%)", percent=_percent(found["fee_bps"])),
            found["before_fee_nusd"], found["after_fee_nusd"],
        ),
    ]
    if visit.house.with_credits:
        rows.append(_count(say("Credits used"), found["before_credits"], found["after_credits"]))
    return [*rows, _count(say("Calls refused"), found["before_refused"], found["after_refused"])]


def _money(label: str, before: int, after: int) -> Compared:
    return Compared(label, figures.usd_exact(before), figures.usd_exact(after), _signed(after - before, money=True))


def _count(label: str, before: int, after: int) -> Compared:
    return Compared(label, f"{before:,}", f"{after:,}", _signed(after - before, money=False))


def _signed(change: int, *, money: bool) -> str:
    if change == 0:
        return "±0"
    text = figures.usd_exact(abs(change)) if money else f"{abs(change):,}"
    return f"{'+' if change > 0 else '−'}{text}"


def _percent(bps: int) -> str:
    whole, rest = divmod(bps, 100)
    return f"{whole}.{rest:02d}".rstrip("0").rstrip(".") if rest else str(whole)


def _told(visit: Visit, found: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """What stands beside the comparison: (what, how many)."""
    say = visit.say
    names = {
        Route.DIRECT.value: say("Calls by a direct key"), Route.OPENROUTER.value: say("Calls by the OpenRouter key"),
        Route.CREDITS.value: say("Calls by credits"),
    }
    told = [
        (say("Calls replayed"), found["calls"]), *((names[name], n) for name, n in sorted(found["routes"].items())),
        (say("Calls that would have gone another way"), found["moved"]),
        (say("Calls answered then that would have been refused"), found["newly_refused"]),
        (say("Calls refused then that would have run, cost unknown"), found["would_run"]),
        (say("Calls whose new cost is unknown"), found["unknown"]), (say("Tests of keys, left out"), found["tests"]),
    ]
    lines = [(label, f"{n:,}") for label, n in told]
    if found["paused_at_ms"] is not None:
        lines.append((say("The cap would have been reached"), figures.moment(
            found["paused_at_ms"], visit.workspace.timezone
        )))
    return [*lines, (say("Price list"), say("version {n}", n=found["price_version"]))]


def _settings(visit: Visit, view: WorkView) -> str:
    """What was changed, in a line."""
    say, wish = visit.say, view.work.wish
    parts = []
    if "direct" in wish:
        names = ", ".join(provider_name(name) for name in wish["direct"]) or say("none")
        parts.append(say("direct keys: {names}", names=names))
    for name, label in (("own_key", say("OpenRouter key")), ("always_use_key", say("Always use this key"))):
        if name in wish:
            parts.append(f"{label}: {say('on') if wish[name] else say('off')}")
    if "cap_usd" in wish:
        amount = wish["cap_usd"].strip().removeprefix("US").removeprefix("$")
        parts.append(say("cap: {cap}", cap=f"US${amount}" if amount else say("none")))
    for name, label in (("markup_percent", say("markup")), ("fee_percent", say("fee"))):
        if name in wish:
            parts.append(f"{label}: {wish[name]}%")
    return "; ".join(parts) or say("nothing changed")


_STATES: Final[Mapping[str, tuple[str, str]]] = {
    "waiting": ("Waiting", ""), "running": ("Running", "primary"), "done": ("Done", "success"),
    "failed": ("Failed", "danger"), "cancelled": ("Cancelled", ""),
}

ROUTES = (
    PortalRoute("GET", PATH, Page.EXPLAIN, Sight.READ, show),
    PortalRoute("POST", PATH, Page.EXPLAIN, Sight.READ, start),
    PortalRoute("GET", f"{PATH}/{{work}}", Page.EXPLAIN, Sight.READ, one),
    PortalRoute("POST", f"{PATH}/{{work}}/again", Page.EXPLAIN, Sight.READ, again),
    PortalRoute("POST", f"{PATH}/{{work}}/cancel", Page.EXPLAIN, Sight.READ, cancel),
)
