"""The spend cap's form: on Spend, and where the product shows it there too, beside the keys.

A cap at or below what is spent pauses AI at once, so that one asks first, on a panel with an address of its own. Every
save counts from the next call.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import urlencode
from zoneinfo import available_timezones

from ownkey.control.caps import parse_cap
from ownkey.control.problems import Problem, invalid
from ownkey.control.verification import ASSUMPTIONS
from ownkey.control.workspaces import check_timezone
from ownkey.domain.caps import is_reached
from ownkey.domain.money import format_usd
from ownkey.domain.phrases import Phrase, together
from ownkey.domain.portal import Page, Sight
from ownkey.domain.records import CapSetting
from ownkey.pages.http import Answer
from ownkey.portal.visit import PortalRoute, Visit

_PATHS: Final[Mapping[Page, str]] = {Page.SPEND: "/portal/spend", Page.CREDENTIALS: "/portal/credentials"}
_FIELDS: Final[Mapping[str, str]] = {
    "cap_usd": "cap-amount", "threshold_percent": "cap-threshold", "timezone": "cap-zone",
}
"""What a problem's `param` is called in the page."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A form as it was sent, text by text."""

    cap: str
    threshold: str
    timezone: str


@dataclass(frozen=True, slots=True)
class CapForm:
    """What the form shows. `wrong` maps a field's id to what is wrong with it; `stale`: the cap was changed meanwhile,
    and the page tells the values of `now` beside what was typed; `saved` is what became of the last save: "", "saved",
    "paused" or "resumed"."""

    action: str
    back: str
    version: str
    typed: Typed
    now: Typed
    setting: CapSetting
    wrong: Mapping[str, str] = field(default_factory=dict)
    stale: bool = False
    saved: str = ""
    zones: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ASSUMPTIONS


async def cap_form(
    visit: Visit, *, typed: Typed | None = None, wrong: Mapping[str, str] | None = None, stale: bool = False
) -> CapForm:
    """The form for the page that is being shown; `typed` keeps what somebody has typed. Its template is
    `portal/cap_form.html`, which finds it as `cap`."""
    setting = await visit.desk.caps.show(visit.workspace)
    path, now = _PATHS[visit.page], _now(visit, setting)
    said = visit.request.asks("cap")
    return CapForm(
        action=f"{path}/cap", back=path, version=_version(visit, setting), typed=typed or now, now=now, setting=setting,
        wrong=wrong or {}, stale=stale, saved=_truth(said, setting) if visit.request.method == "GET" else "",
        zones=_zones(),
    )


def _now(visit: Visit, setting: CapSetting) -> Typed:
    """The form as it would be typed for what is in force."""
    cap = "" if setting.cap_nusd is None else format_usd(setting.cap_nusd)
    return Typed(cap, str(setting.threshold), visit.workspace.timezone)


def _truth(said: str, setting: CapSetting) -> str:
    """What an address says was done, as far as it is so."""
    if said == "paused":
        return said if setting.state == "paused" else ""
    if said in ("saved", "resumed"):
        return said if setting.state == "active" else "saved"
    return ""


def _version(visit: Visit, setting: CapSetting) -> str:
    return f"{setting.version}.{visit.workspace.timezone}"


@lru_cache(maxsize=1)
def _zones() -> tuple[str, ...]:
    """The zones that are named after places, and UTC."""
    places = {name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "SystemV/"))}
    return ("UTC", *sorted(places))


async def save(visit: Visit) -> Answer:
    """Checks all fields, asks where AI would pause, else saves and shows what came of it."""
    typed = Typed(*(visit.request.field(name) for name in _FIELDS))
    setting = await visit.desk.caps.show(visit.workspace)
    version = _version(visit, setting)
    if visit.is_stale(version):
        return await _show_stale(visit, visit.request.form)
    wrong, cap_nusd, threshold = _read(typed)
    if wrong:
        return _show_form(visit, await cap_form(visit, typed=typed, wrong=wrong), 422)
    pauses = cap_nusd != setting.cap_nusd and is_reached(cap_nusd, setting.spent_nusd)
    path = _PATHS[visit.page]
    if pauses and visit.request.field("confirmed") != "yes":
        asked = urlencode({"cap_usd": typed.cap, "threshold_percent": typed.threshold, "timezone": typed.timezone})
        return visit.go(f"{path}/cap/confirm?{asked}&version={version}")
    if typed.timezone and typed.timezone != visit.workspace.timezone:
        await visit.desk.workspaces.change(visit.workspace, {"timezone": typed.timezone}, visit.actor)
    after = setting
    if (cap_nusd, threshold) != (setting.cap_nusd, setting.threshold):
        after = await visit.desk.caps.save(visit.workspace, typed.cap, threshold, visit.actor)
    resumed = setting.state == "paused" and after.state == "active"
    done = "paused" if after.state == "paused" else "resumed" if resumed else "saved"
    return visit.go(f"{path}?cap={done}#cap")


def _read(typed: Typed) -> tuple[dict[str, str], int | None, int]:
    """(what is wrong by field id, the cap, the threshold): every field is looked at, so that all is said at once."""
    wrong: dict[str, str] = {}
    cap_nusd, threshold = None, 0
    try:
        cap_nusd = parse_cap(typed.cap)
    except Problem as problem:
        wrong[_FIELDS["cap_usd"]] = together(problem.message, problem.fix)
    try:
        threshold = _read_threshold(typed.threshold)
    except Problem as problem:
        wrong[_FIELDS["threshold_percent"]] = together(problem.message, problem.fix)
    try:
        if typed.timezone:
            check_timezone(typed.timezone)
    except Problem as problem:
        wrong[_FIELDS["timezone"]] = together(problem.message, problem.fix)
    return wrong, cap_nusd, threshold


def _read_threshold(text: str) -> int:
    bare = text.removesuffix("%").strip()
    if not (bare.isascii() and bare.isdigit() and len(bare) <= 2 and 1 <= int(bare) <= 99):
        raise invalid(
            "threshold_percent", Phrase("The alert threshold is a whole number from 1 to 99."),
            Phrase("Use 80 to be told at 80% of the cap; at 100% there is always an alert."),
        )
    return int(bare)


async def confirm(visit: Visit) -> Answer:
    """Says that AI would pause now, and saves only then. An address that asks nothing sensible shows the form."""
    asks = visit.request.asks
    typed = Typed(asks("cap_usd"), asks("threshold_percent"), asks("timezone"))
    wrong, cap_nusd, _ = _read(typed)
    form = await cap_form(visit, typed=typed, wrong=wrong)
    if wrong or not is_reached(cap_nusd, form.setting.spent_nusd):
        return _show_form(visit, form, 422 if wrong else 200)
    if asks("version") != form.version:
        return await _show_stale(visit, visit.request.query)
    return visit.show(
        "cap.html", title=visit.say("Spend cap"), cap=form, asking=True, new_cap_nusd=cap_nusd,
    )


async def _show_stale(visit: Visit, sent: Mapping[str, str]) -> Answer:
    """The form with what was typed, and what is so now beside it. What was not sent at all is not an empty field, which
    would mean no cap."""
    now = (await cap_form(visit)).now
    typed = Typed(
        sent.get("cap_usd", now.cap).strip(), sent.get("threshold_percent", now.threshold).strip(),
        sent.get("timezone", now.timezone).strip(),
    )
    return _show_form(visit, await cap_form(visit, typed=typed, stale=True), 409)


def _show_form(visit: Visit, form: CapForm, status: int) -> Answer:
    """The form on a page of its own, with what went wrong."""
    return visit.show(
        "cap.html", title=visit.say("Spend cap"), status=status, cap=form, asking=False, new_cap_nusd=None,
    )


ROUTES: tuple[PortalRoute, ...] = tuple(
    route
    for page, path in _PATHS.items()
    for route in (
        PortalRoute("POST", f"{path}/cap", page, Sight.MANAGE, save),
        PortalRoute("GET", f"{path}/cap/confirm", page, Sight.MANAGE, confirm),
    )
)
