"""Explain: what would happen to a call now, told by the gateway's own admission. Nothing is sent, held or stored.

The form makes a call of the asked size out of filler text: of a call's text only its length counts before it is sent.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ownkey.dialects.openai_chat import OpenAIDialect
from ownkey.domain import models
from ownkey.domain.failures import FailureClass
from ownkey.domain.money import parse_usd_nusd
from ownkey.domain.phrases import Phrase
from ownkey.domain.portal import Page, Sight
from ownkey.domain.receipts import provider_name
from ownkey.domain.refusals import Code, Refusal
from ownkey.domain.routing import Route
from ownkey.domain.wire import Endpoint
from ownkey.domain.workspace import Principal, TokenKind
from ownkey.gateway.calls import CallRequest
from ownkey.pages.http import Answer
from ownkey.portal.visit import PortalRoute, Visit
from ownkey.portal.why import Fix, fix_of

MOST_CHARACTERS = 2_000_000
MOST_TOKENS = 1_000_000
USUAL_CHARACTERS = 2_000

_DIALECT = OpenAIDialect()


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked about, checked. `task` or `model` is there; `tokens` None: the task's own limit, or the usual."""

    task: str
    model: str
    project: str
    characters: int
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """What some failures lead to, in words."""

    failures: str
    then: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A route that would be tried, or was left out (`why_not`). Amounts in nano-USD; None: no price, or none needed."""

    n: int
    provider: str
    model: str
    key: str
    payer: str
    most_nusd: int | None
    most_credits: int | None
    output_limit: int | None
    steps: tuple[Step, ...] = ()
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """`code` "": it would be answered. `held_nusd` and `held_credits` are what the first attempt reserves."""

    sentence: str
    code: str
    message: str
    fix: Fix | None
    row: str
    payer: str
    held_nusd: int | None
    held_credits: int | None
    output_limit: int | None
    shrunk: bool
    at_most_attempts: int
    tried: tuple[Candidate, ...]
    left_out: tuple[Candidate, ...]
    always: tuple[Step, ...] = ()
    """What ends the call whichever attempt it befalls, and with which code."""


async def show(visit: Visit) -> Answer:
    asked = {name: visit.request.asks(name) for name in ("task", "model", "project", "size", "tokens")}
    begun = bool(asked["task"] or asked["model"] or "size" in visit.request.query)
    wish, errors = _read(visit, asked) if begun else (None, {})
    story = None if wish is None else _tell(visit, await visit.house.explainer.explain(_request(visit, wish)))
    return visit.show(
        "explain.html", title=visit.say("Explain a call"), status=422 if errors else 200, asked=asked, errors=errors,
        story=story, wish=wish, usual=USUAL_CHARACTERS,
        tasks=[("", visit.say("No task")), *((task.name, task.title) for task in visit.product.tasks.values())],
        projects=[("", visit.say("No project")), *sorted(visit.workspace.projects.items(), key=lambda one: one[1])],
    )


# --- the form


def _read(visit: Visit, asked: Mapping[str, str]) -> tuple[Wish | None, dict[str, str]]:
    say, errors = visit.say, {}
    if not asked["task"] and not asked["model"]:
        errors["f-task"] = say("Choose a task, or name a model.")
    if asked["task"] and asked["task"] not in visit.product.tasks:
        errors["f-task"] = say("There is no such task. Choose one of the list.")
    if len(asked["model"]) > 200:
        errors["f-model"] = say("A model's name has at most 200 characters.")
    if asked["project"] and asked["project"] not in visit.workspace.projects:
        errors["f-project"] = say("There is no such project. Choose one of the list.")
    characters = _whole(asked["size"] or str(USUAL_CHARACTERS), MOST_CHARACTERS)
    if characters is None:
        errors["f-size"] = say("Write a whole number from 0 to {most}.", most=f"{MOST_CHARACTERS:,}")
    tokens = _whole(asked["tokens"], MOST_TOKENS) if asked["tokens"] else None
    if asked["tokens"] and not tokens:
        errors["f-tokens"] = say("Write a whole number from 1 to {most}, or leave it empty.", most=f"{MOST_TOKENS:,}")
    if errors or characters is None:
        return None, errors
    return Wish(asked["task"], asked["model"], asked["project"], characters, tokens), {}


def _whole(text: str, most: int) -> int | None:
    bare = text.replace(",", "").replace(" ", "")
    if not (bare.isascii() and bare.isdigit() and len(bare) <= 9):
        return None
    return int(bare) if int(bare) <= most else None


def _request(visit: Visit, wish: Wish) -> CallRequest:
    """The call that a host would make for this wish, with the workspace's own token."""
    endpoint = _endpoint(visit, wish)
    filler = "x" * wish.characters
    body: dict[str, Any] = {"model": wish.model or f"task:{wish.task}"}
    if endpoint == "embeddings":
        body["input"] = filler or "x"
    else:
        body["messages"] = [{"role": "user", "content": filler}]
        if wish.tokens is not None:
            body["max_tokens"] = wish.tokens
    workspace = visit.workspace
    return CallRequest(
        Principal("portal", TokenKind.WORKSPACE, workspace.id, frozenset({"call"})), workspace, _DIALECT, endpoint,
        json.dumps(body).encode(), task=wish.task or None, project=wish.project or None,
    )


def _endpoint(visit: Visit, wish: Wish) -> Endpoint:
    if wish.task and not wish.model:
        return visit.product.tasks[wish.task].endpoint
    slug = models.normalize_requested(wish.model)
    return "embeddings" if slug is not None and models.makes_embeddings(slug) else "chat"


# --- the answer


def _tell(visit: Visit, found: Mapping[str, Any]) -> Story:
    say = visit.say
    left_out = tuple(_left_out(visit, skip) for skip in found["skipped"])
    if found["would"] == "refuse":
        refusal = Refusal(Code(found["code"]), found["message"], found["fix"]["text"], found["flow"])
        return Story(
            say("It would be refused."), found["code"], found["message"], fix_of(visit, refusal), found["row"] or "",
            say("Nobody"), None, None, None, False, 0, (), left_out,
        )
    hold = found["hold"]
    attempts = found["attempts"][: found["at_most_attempts"]]
    always = _always(attempts)
    tried = tuple(_candidate(visit, one, always) for one in attempts)
    return Story(
        found["sentence"], "", "", None, found["row"], tried[0].payer, _nusd(hold["usd"]), hold["credits"],
        hold["output_limit"], hold["shrunk"], found["at_most_attempts"], tried, left_out,
        tuple(Step(visit.say(_FAILURES[FailureClass(name)]), code) for name, code in always.items()),
    )


def _always(attempts: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
    """Failure → code, for those that end the call with one and the same code on every attempt."""
    found: dict[str, set[Any]] = {}
    for one in attempts:
        for after in one["after"]:
            for name in after["failures"]:
                found.setdefault(name, set()).add(None if after["again"] else after["code"])
    return {name: next(iter(codes)) for name, codes in found.items() if len(codes) == 1 and None not in codes}


def _candidate(visit: Visit, one: Mapping[str, Any], always: Mapping[str, str]) -> Candidate:
    credits = one["route"] == Route.CREDITS.value
    name = provider_name(one["provider"])
    payer = visit.say("{product} credits", product=visit.product.name) if credits else visit.say(
        "Your {provider} key {hint}", provider=name, hint=one["key"]
    )
    return Candidate(
        one["n"], name, one["model"], "" if credits else one["key"], payer, _nusd(one["at_most_usd"]),
        one["at_most_credits"], one["output_limit"], tuple(
            _step(visit, {**after, "failures": own}) for after in one["after"]
            if (own := [name for name in after["failures"] if name not in always])
        ),
    )


def _left_out(visit: Visit, skip: Mapping[str, Any]) -> Candidate:
    name = provider_name(skip["provider"] or "openrouter")
    return Candidate(0, name, skip["model"], "", _routes(visit)[skip["route"]], None, None, None, (), skip["why"])


def _routes(visit: Visit) -> Mapping[str, str]:
    say = visit.say
    return {
        Route.DIRECT.value: say("Direct key"), Route.OPENROUTER.value: say("OpenRouter key"),
        Route.CREDITS.value: say("Credits"),
    }


def _step(visit: Visit, after: Mapping[str, Any]) -> Step:
    say = visit.say
    failures = _listed(visit, [say(_FAILURES[FailureClass(name)]) for name in after["failures"]])
    if after["next"] is not None:
        then = say("attempt {n} follows", n=after["next"])
    else:
        then = say("the call ends with {code}", code=after["code"])
    return Step(failures, say("tried once more, then {then}", then=then) if after["again"] else then)


def _listed(visit: Visit, words: Sequence[str]) -> str:
    if len(words) == 1:
        return words[0]
    return visit.say("{first} or {last}", first=", ".join(words[:-1]), last=words[-1])


def _nusd(text: str | None) -> int | None:
    return None if text is None else parse_usd_nusd(text)


_FAILURES: Mapping[FailureClass, Phrase] = {
    FailureClass.NETWORK: Phrase("not reachable"), FailureClass.OVERLOAD: Phrase("overloaded"),
    FailureClass.TIMEOUT: Phrase("no answer in time"), FailureClass.RATE_LIMIT: Phrase("rate limit"),
    FailureClass.AUTH: Phrase("key refused"), FailureClass.SCOPE: Phrase("key without this model"),
    FailureClass.FUNDS: Phrase("no money behind the key"), FailureClass.MODEL_MISSING: Phrase("model not there"),
    FailureClass.REQUEST: Phrase("request refused"), FailureClass.TOO_LONG: Phrase("text too long"),
    FailureClass.POLICY: Phrase("content refused"), FailureClass.BAD_OUTPUT: Phrase("unusable answer"),
}

ROUTES = (PortalRoute("GET", "/portal/explain", Page.EXPLAIN, Sight.READ, show),)
