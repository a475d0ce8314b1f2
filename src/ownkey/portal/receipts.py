"""One call: who paid and why, each attempt in time, the rules it met, its money, and its technical side.

A call that still runs has no receipt yet; the page says so and comes again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ownkey.control.call_facts import Rule
from ownkey.control.problems import Problem, ProblemCode
from ownkey.control.receipts import to_receipt, why_sentence
from ownkey.domain.activity import Outcome, outcome_of
from ownkey.domain.phrases import Phrase
from ownkey.domain.portal import Page, Sight
from ownkey.domain.product import PROVIDERS
from ownkey.domain.receipts import KEY_TEST, AttemptRecord, Basis, HoldState, Receipt, Skip, provider_name
from ownkey.domain.refusals import Code
from ownkey.domain.routing import Route
from ownkey.domain.usage import Usage
from ownkey.pages import charts, figures
from ownkey.pages.http import Answer
from ownkey.pages.receipts import json_text, own_words, result_of
from ownkey.portal.links import activity_url
from ownkey.portal.visit import PortalRoute, Visit, flow_url

REFRESH_S: Final = 3

_CREDIT_RULES = frozenset({"always_use_key", "credits_if_key_fails", "credits_if_key_fails_limit"})
_AMOUNT_RULES = frozenset({"cap_nusd", "credits_if_key_fails_limit"})

_FLOWS: Mapping[str, str] = {
    Code.ADDON_REQUIRED: "addon", Code.ADDON_INACTIVE: "addon", Code.MINIMUM_BALANCE_REQUIRED: "credits",
    Code.INSUFFICIENT_CREDITS: "credits", Code.AI_PAUSED: "cap", Code.SPEND_CAP_BUSY: "cap",
    Code.SPEND_CAP_TOO_LOW: "cap",
}
_KEY_CODES = frozenset({
    Code.OPENROUTER_KEY_REQUIRED, Code.ALWAYS_USE_KEY_UNAVAILABLE, Code.CREDENTIAL_REJECTED,
    Code.CREDENTIAL_OUT_OF_FUNDS,
})


@dataclass(frozen=True, slots=True)
class TokenClass:
    """One disjoint class of tokens. `name` is a text of the catalogue."""

    name: str
    count: int


async def show(visit: Visit) -> Answer:
    ident = visit.request.params["receipt"]
    try:
        stored = await visit.desk.receipts.one(visit.workspace, ident)
    except Problem as problem:
        running = await visit.desk.call_facts.running(visit.workspace, ident)
        if running is None:
            if problem.code is not ProblemCode.NOT_FOUND:
                raise
            return visit.problem(
                problem, title=visit.say("There is no such call"), status=404,
                back="/portal/activity" if visit.may_see(Page.ACTIVITY) else "/portal",
            )
        return visit.show("receipt_running.html", title=visit.say("A call that is running"), running=running,
                          refresh_s=REFRESH_S)
    return await _show_receipt(visit, stored)


async def _show_receipt(visit: Visit, stored: Mapping[str, Any]) -> Answer:
    receipt, full = to_receipt(stored), visit.sees_figures
    rules = await visit.desk.call_facts.rules(visit.workspace, stored)
    flow = fix_flow(receipt)
    return visit.show(
        "receipt.html", title=visit.say("Call receipt"), receipt=receipt, full=full,
        headline=await visit.desk.receipts.headline(visit.workspace, stored, figures=full),
        why=why_sentence(stored) if full else "", paid_by=paid_by(visit, receipt),
        outcome=outcome_name(visit, receipt), attempts=receipt.attempts, skips=receipt.skips,
        waterfall=_waterfall(visit, receipt.attempts), result_of=result_of, own_words=own_words,
        skip_reason=_skip_reason(full),
        rules_met=[rule for rule in rules if _is_shown(visit, rule)], rule_text=lambda rule: rule_text(visit, rule),
        hold_text=lambda attempt: hold_text(visit, attempt), bases=BASES, tokens=token_classes(receipt.usage),
        json_text=json_text(stored) if full else "", fix_url=flow_url(visit, flow) if flow else "",
        trace_url=_trace_url(visit, receipt), activity_url="/portal/activity" if visit.may_see(Page.ACTIVITY) else "",
        member=_member(visit, receipt), is_test=receipt.task == KEY_TEST,
    )


async def download(visit: Visit) -> Answer:
    """The receipt as JSON."""
    stored = await visit.desk.receipts.one(visit.workspace, visit.request.params["receipt"])
    name = "".join(c for c in str(stored["id"]) if c.isalnum() or c == "_")
    return Answer(200, json_text(stored).encode(), "application/json; charset=utf-8", [
        ("content-disposition", f'attachment; filename="{name}.json"'),
    ])


def fix_flow(receipt: Receipt) -> str:
    """Which page puts right what this call met; "" where nothing needs it."""
    if receipt.code in _KEY_CODES:
        last = receipt.attempts[-1].provider if receipt.attempts else "openrouter"
        on_own_key = not receipt.attempts or receipt.attempts[-1].route is not Route.CREDITS
        return f"credential:{last}" if last in PROVIDERS and on_own_key else "credential:openrouter"
    if receipt.code == Code.FEATURE_DISABLED and receipt.task:
        return f"feature:{receipt.task}"
    return _FLOWS.get(receipt.code or "", "")


def paid_by(visit: Visit, receipt: Receipt) -> str:
    """`Your OpenRouter key …9f3c`, `Credits` or `Nobody`; the hint only for those who see hints."""
    billed = [a for a in receipt.attempts if a.cost_nusd != 0 or a.failure is None]
    if not billed or (receipt.code is not None and receipt.cost_nusd == 0 and not receipt.charge_nusd):
        return visit.say("Nobody")
    last = billed[-1]
    if last.route is Route.CREDITS:
        return visit.say("Credits")
    told = visit.say("Your {provider} key", provider=provider_name(last.provider))
    tail = last.credential_hint.partition("…")[2]
    return f"{told} …{tail}" if tail and visit.sees_figures else told


_OUTCOMES: Mapping[Outcome, str] = {
    Outcome.OK: Phrase("ok"), Outcome.REFUSED: Phrase("refused"), Outcome.FAILED: Phrase("failed"),
    Outcome.CANCELLED: Phrase("cancelled"),
}
OUTCOME_BADGES: Mapping[str, str] = {"ok": "success", "refused": "warning", "failed": "danger", "cancelled": ""}


def outcome_name(visit: Visit, receipt: Receipt) -> str:
    return visit.say(_OUTCOMES[outcome_of(receipt)])


def _skip_reason(full: bool) -> Any:
    """Why a candidate was left out. Credits are left out with figures in the reason."""
    def reason(skip: Skip) -> str:
        return skip.why if full or skip.route is not Route.CREDITS else Phrase("credits could not step in")

    return reason


def hold_text(visit: Visit, attempt: AttemptRecord) -> str:
    """What became of the room that was set aside: hold → settle, release or expire."""
    if attempt.bound_nusd is None and attempt.state is not HoldState.SETTLED:
        return visit.say("nothing was held: the model has no price")
    held = visit.say("no price") if attempt.bound_nusd is None else figures.usd_exact(attempt.bound_nusd)
    match attempt.state:
        case HoldState.RELEASED:
            return visit.say("{held} held → released", held=held)
        case HoldState.EXPIRED:
            return visit.say("{held} held → expired, {cost} booked", held=held,
                             cost=figures.usd_exact(attempt.cost_nusd))
        case HoldState.SETTLED:
            return visit.say("{held} held → settled at {cost}", held=held, cost=figures.usd_exact(attempt.cost_nusd))
        case HoldState.HELD:
            return visit.say("{held} held", held=held)


def _waterfall(visit: Visit, attempts: Sequence[AttemptRecord]) -> str:
    """The picture of the attempts; "" where there is none."""
    if not attempts:
        return ""
    spans, told = [], []
    for attempt in attempts:
        name, taken = provider_name(attempt.provider) or visit.say("Provider"), attempt.ended_ms - attempt.started_ms
        words = f"{attempt.n} · {name} · {visit.say(result_of(attempt))} · {figures.duration(taken)}"
        spans.append(charts.Span(
            figures.clip(words, 60), attempt.started_ms, attempt.first_content_ms, attempt.ended_ms,
            attempt.failure is not None,
        ))
        did = "{provider} answered in {time}" if attempt.failure is None else "{provider} failed after {time}"
        told.append(visit.say(did, provider=figures.clip(name, 30), time=figures.duration(taken)))
    return charts.waterfall("waterfall", f"{', '.join(told)}.", spans, visit.say("time since the call came"))


def token_classes(usage: Usage | None) -> list[TokenClass]:
    """Every class that was counted, side work included under its model's name."""
    if usage is None:
        return []
    names = {
        "input": Phrase("Input tokens"), "cache_read": Phrase("Read from a cache"),
        "cache_write_5m": Phrase("Written to a cache for 5 minutes"),
        "cache_write_1h": Phrase("Written to a cache for an hour"), "output": Phrase("Output tokens"),
        "reasoning": Phrase("Reasoning"), "audio_input": Phrase("Sound in"), "audio_output": Phrase("Sound out"),
        "audio_cache_read": Phrase("Sound read from a cache"),
    }
    found = [TokenClass(text, getattr(usage, name)) for name, text in names.items() if getattr(usage, name)]
    found += [TokenClass(name, count) for name, count in usage.units]
    for model, other in usage.others:
        found += [
            TokenClass(
                Phrase("{model}: {name}", model=model, name=one.name) if model else one.name, one.count
            ) for one in token_classes(other)
        ]
    return found


def _is_shown(visit: Visit, rule: Rule) -> bool:
    """Switches about credits only where there are credits, amounts only for those who see them."""
    if rule.name in _CREDIT_RULES and not visit.house.with_credits:
        return False
    return visit.sees_figures or rule.name not in _AMOUNT_RULES


_ENTITLEMENTS: Mapping[str, Phrase] = {
    "none": Phrase("none"), "active": Phrase("active"), "included": Phrase("included"),
    "cancelling": Phrase("cancelling"), "grace": Phrase("grace"), "inactive": Phrase("inactive"),
}
BASES: Mapping[Basis, Phrase] = {
    Basis.ACTUAL: Phrase("actual"), Basis.COMPUTED: Phrase("computed"), Basis.ESTIMATED: Phrase("estimated"),
    Basis.NONE: Phrase("none"), Basis.UNKNOWN: Phrase("unknown"),
}


def rule_text(visit: Visit, rule: Rule) -> tuple[str, str]:
    """(name, value) of a rule as people read them."""
    say, value = visit.say, rule.value
    match rule.name:
        case "always_use_key":
            return say("Always use this key"), say("On") if value else say("Off")
        case "credits_if_key_fails":
            return say("Use credits if my key fails"), say("On") if value else say("Off")
        case "credits_if_key_fails_limit":
            return say("Monthly limit of that"), say("none") if value is None else figures.credits(value)
        case "on_direct_auth_failure":
            rejected = say("use my OpenRouter key") if value == "fallback" else say("fail the call")
            return say("If a direct key is rejected"), rejected
        case "entitlement":
            return say("Calls with your own key"), say(_ENTITLEMENTS.get(str(value), str(value)))
        case "cap_nusd":
            return say("Monthly spend cap (USD)"), say("no cap") if value is None else figures.usd_exact(value)
        case _:
            return say("Price version"), say("none was needed") if value is None else str(value)


def _trace_url(visit: Visit, receipt: Receipt) -> str:
    return activity_url(visit, trace=receipt.conversation) if receipt.conversation else ""


def _member(visit: Visit, receipt: Receipt) -> str:
    """For whom the call was made; only those who see figures learn it of others."""
    own = receipt.member == visit.session.member_id
    return receipt.member or "" if visit.sees_figures or own else ""


ROUTES: tuple[PortalRoute, ...] = (
    PortalRoute("GET", "/portal/calls/{receipt}", Page.CALLS, Sight.PARTLY, show),
    PortalRoute("GET", "/portal/calls/{receipt}/receipt.json", Page.CALLS, Sight.READ, download),
)
