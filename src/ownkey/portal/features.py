"""Features: one switch per task. Off counts from the next call, and the host product goes on without it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ownkey.control.features import FeatureView
from ownkey.control.problems import Problem
from ownkey.control.totals import UseRow
from ownkey.domain.activity import Amounts
from ownkey.domain.phrases import together
from ownkey.domain.portal import SIGHTS, Page, Sight
from ownkey.domain.product import Task
from ownkey.pages.http import Answer
from ownkey.portal.visit import PortalRoute, Visit, page_label

PATH: Final = "/portal/features"
DONE: Final = frozenset({"on", "off", "options"})

_EFFECTS: Final[Mapping[str, str]] = {
    "auto_triage": "Sorts, labels and assigns what comes in.",
    "draft_reply": "Writes a reply for a person to check and send.",
    "auto_reply": "Answers by itself where it is sure enough.",
    "similar_tickets": "Finds earlier cases that resemble this one.",
    "translation": "Translates between your customers' languages and yours.",
    "knowledge": "Searches your own articles for what fits a question.",
    "name_project": "Finds a name for a new project.",
    "plan_app": "Plans what is to be built.",
    "build_app": "Builds the app.",
    "edit_code": "Changes code as asked.",
    "explain_error": "Explains what went wrong, and how to mend it.",
}
_OPTIONS: Final[Mapping[tuple[str, str], tuple[str, str]]] = {
    ("auto_reply", "threshold"): (
        "Auto-reply threshold", "How sure an answer must be to be sent by itself, from 0 to 100. Others become drafts.",
    ),
}
"""(task, option) → its label and its help."""


@dataclass(frozen=True, slots=True)
class Option:
    """One of a task's own numbers. `typed` is what its field shows, `now` what is in force; `error` is "" where what
    was typed is right."""

    name: str
    label: str
    help: str
    typed: str
    error: str
    now: int


@dataclass(frozen=True, slots=True)
class Card:
    """One task. `version` changes with its switch or options; `use` are this month's figures."""

    view: FeatureView
    effect: str
    version: str
    use: UseRow
    options: tuple[Option, ...]
    stale: bool

    @property
    def task(self) -> Task:
        return self.view.task


@dataclass(frozen=True, slots=True)
class Wrong:
    """What a form came back with: its task, what was typed, and what is wrong with which option. `stale`: it was made
    for another state than now."""

    task: str = ""
    typed: Mapping[str, str] | None = None
    problem: Problem | None = None
    stale: bool = False


async def show(visit: Visit) -> Answer:
    return await _page(visit)


async def _page(visit: Visit, wrong: Wrong = Wrong(), status: int = 200) -> Answer:
    uses = await visit.desk.totals.by_task(visit.workspace)
    cards = [_card(visit, view, uses, wrong) for view in visit.desk.features.list(visit.workspace)]
    done, task = visit.request.asks("done"), visit.request.asks("task")
    named = next((card for card in cards if card.task.name == task), None)
    found = {
        _option_id(card, option): option.error for card in cards for option in card.options if option.error
    }
    return visit.show(
        "features.html", title=visit.say("Features"), status=status, cards=cards, path=PATH, wrong=found,
        done=done if done in DONE and named is not None else "", done_card=named, option_id=_option_id,
        period=visit.desk.totals.period(visit.workspace),
        keys_page=visit.say(page_label(visit.product, Page.CREDENTIALS)), with_spend=_sees_spend(visit),
    )


def _sees_spend(visit: Visit) -> bool:
    """Whoever sees no amounts under Spend sees none here, whether this visit has that page or not."""
    return SIGHTS[Page.SPEND][visit.session.role] in (Sight.READ, Sight.MANAGE)


def _option_id(card: Card, option: Option) -> str:
    return f"{card.task.name}-{option.name}"


def _card(visit: Visit, view: FeatureView, uses: Mapping[str, UseRow], wrong: Wrong) -> Card:
    task = view.task
    concerned = wrong.task == task.name
    effect = _EFFECTS.get(task.name, "Calls a model for this part of the product.")
    return Card(
        view=view, effect=visit.say(effect), version=version_of(view),
        use=uses.get(task.name) or UseRow(task.name, Amounts(), 0, None),
        options=tuple(_option(visit, view, name, value, wrong if concerned else Wrong())
                      for name, value in view.settings.items()),
        stale=concerned and wrong.stale,
    )


def _option(visit: Visit, view: FeatureView, name: str, value: int, wrong: Wrong) -> Option:
    plain = name.replace("_", " ").capitalize()
    label, helped = _OPTIONS.get((view.task.name, name), (plain, ""))
    problem = wrong.problem
    mine = problem is not None and problem.param == f"settings.{name}"
    return Option(
        name, visit.say(label), visit.say(helped) if helped else "", (wrong.typed or {}).get(name, str(value)),
        visit.say(together(problem.message, problem.fix)) if problem is not None and mine else "", value,
    )


def version_of(view: FeatureView) -> str:
    """What a form is made for: the switch and the options as they stand."""
    return "-".join(["on" if view.on else "off", *(f"{name}.{value}" for name, value in sorted(view.settings.items()))])


async def switch(visit: Visit) -> Answer:
    """On or off, from the next call on."""
    view = _named(visit)
    if view is None or visit.is_stale(version_of(view)):
        return await _stale(visit)
    on = visit.request.field("on") == "on"
    await visit.desk.features.save(visit.workspace, view.task.name, on, {}, visit.actor)
    return visit.go(f"{PATH}?done={'on' if on else 'off'}&task={view.task.name}#{view.task.name}")


async def save_options(visit: Visit) -> Answer:
    """The task's own numbers, all of its form or none."""
    view = _named(visit)
    if view is None:
        return await _stale(visit)
    sent = {name: f"option_{name}" for name in view.settings}
    if visit.is_stale(version_of(view)):
        return await _stale(visit, {
            name: visit.request.field(key)[:20] for name, key in sent.items() if key in visit.request.form
        })
    typed = {name: visit.request.field(key) for name, key in sent.items()}
    try:
        settings = {name: _whole(view, name, text) for name, text in typed.items()}
        await visit.desk.features.save(visit.workspace, view.task.name, None, settings, visit.actor)
    except Problem as problem:
        return await _page(visit, Wrong(view.task.name, typed, problem), 422)
    return visit.go(f"{PATH}?done=options&task={view.task.name}#{view.task.name}")


def _whole(view: FeatureView, name: str, text: str) -> int:
    """A whole number as typed; -1, which no option takes, for what is none. The use case has the words for it."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else -1


def _named(visit: Visit) -> FeatureView | None:
    task = visit.request.params["task"]
    return next((view for view in visit.desk.features.list(visit.workspace) if view.task.name == task), None)


async def _stale(visit: Visit, typed: Mapping[str, str] | None = None) -> Answer:
    """Somebody else was quicker, or the product has no such task any more: the values of now, beside what was typed."""
    return await _page(visit, Wrong(visit.request.params["task"], typed, stale=True), 409)


ROUTES: tuple[PortalRoute, ...] = (
    PortalRoute("GET", PATH, Page.FEATURES, Sight.READ, show),
    PortalRoute("POST", f"{PATH}/{{task}}", Page.FEATURES, Sight.MANAGE, switch),
    PortalRoute("POST", f"{PATH}/{{task}}/options", Page.FEATURES, Sight.MANAGE, save_options),
)
