"""Every notice there is: whom it is for, what it says, and which page of the product puts it right.

A notice is decided where the books change and told later, so a row carries figures and states only; the words are
made here, once, for the mail's subject, its text, its HTML and the event's summary. Nothing here ever sees a key, a
prompt or a provider's answer: an event carries the fields named in `RULES` and no other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, assert_never

from ownkey.domain.money import format_usd
from ownkey.domain.receipts import provider_name
from ownkey.domain.workspace import Role

Payload = Mapping[str, Any]

NAME_LIMIT = 80


class Kind(StrEnum):
    SPEND_THRESHOLD = "spend_threshold"
    AI_PAUSED = "ai_paused"
    AI_RESUMED = "ai_resumed"
    OVERAGE = "overage"
    CREDENTIAL_UNHEALTHY = "credential_unhealthy"
    CREDENTIAL_RECOVERED = "credential_recovered"
    CREDITS_STEP_IN = "credits_step_in"
    PAYER_CHANGED = "payer_changed"
    SETTINGS_CHANGED = "settings_changed"
    ADDON_ACTIVE = "addon_active"
    ADDON_INCLUDED = "addon_included"
    ADDON_CANCELLED = "addon_cancelled"
    ADDON_PAYMENT_FAILED = "addon_payment_failed"
    ADDON_GRACE = "addon_grace"
    ADDON_GRACE_ENDING = "addon_grace_ending"
    ADDON_INACTIVE = "addon_inactive"
    ADDON_ENDED = "addon_ended"
    BALANCE_LOW = "balance_low"
    BALANCE_RESTORED = "balance_restored"
    TOPUP_RECEIVED = "topup_received"
    REFUND_BOOKED = "refund_booked"
    DISPUTE_OPENED = "dispute_opened"
    DISPUTE_WON = "dispute_won"
    DISPUTE_LOST = "dispute_lost"
    PAYMENT_QUARANTINED = "payment_quarantined"
    BOOKS_DIFFER = "books_differ"
    EXPORT_READY = "export_ready"


class Topic(StrEnum):
    """What a member can mute, and what nobody can: who pays and who changed it, and payments."""

    SPEND = "spend"
    KEYS = "keys"
    SECURITY = "security"
    PAYMENT = "payment"


MUTEABLE = frozenset({Topic.SPEND, Topic.KEYS})
TOLD = frozenset({Role.OWNER, Role.ADMIN})
"""Whose mailbox notices go to."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`event` is the type that the host's endpoint sees; `fields` what it is told; `flow` the page of the button.

    `when` and `once` are for the documentation: what makes the notice, and what makes it unique.
    """

    topic: Topic
    event: str
    flow: str
    button: str
    when: str
    once: str
    fields: tuple[str, ...]


_CAP_FIELDS = ("period", "cap_version", "threshold", "cap_nusd", "spent_nusd", "held_nusd", "reason", "resets_at", "at")
_KEY_FIELDS = ("provider", "hint", "label", "cause", "since", "at")
_CHANGE_FIELDS = ("changes", "by", "payer_before", "payer_after", "at")
_ADDON_FIELDS = ("plan", "entitlement_before", "entitlement", "until", "payer_after", "at")
_BALANCE_FIELDS = ("balance_credits", "minimum_credits", "at")
_MONEY_FIELDS = ("amount_cents", "currency", "credits", "at")
_PAY, _KEYS, _SPEND, _SAFE = Topic.PAYMENT, Topic.KEYS, Topic.SPEND, Topic.SECURITY
_ON_CHANGE = "change"

RULES: Mapping[Kind, Rule] = {
    Kind.SPEND_THRESHOLD: Rule(
        _SPEND, "spend.threshold", "cap", "Change the spend cap", "spend passes the alert threshold of the cap",
        "period, cap version and threshold", _CAP_FIELDS),
    Kind.AI_PAUSED: Rule(
        _SPEND, "ai.paused", "cap", "Raise the spend cap", "the cap is reached, or no call fits under it any more",
        "period and cap version", _CAP_FIELDS),
    Kind.AI_RESUMED: Rule(
        _SPEND, "ai.resumed", "cap", "Look at the spend cap", "a paused workspace goes on: new cap, new month, or a "
        "correction", "period and cap version", ("period", "cap_version", "cap_nusd", "spent_nusd", "cause", "at")),
    Kind.OVERAGE: Rule(
        _SPEND, "spend.overage", "cap", "Look at the spend", "a provider billed more for an attempt than it was held "
        "to", "attempt", ("call", "hold", "bound_nusd", "cost_nusd", "at")),
    Kind.CREDENTIAL_UNHEALTHY: Rule(
        _KEYS, "credential.unhealthy", "credential:{provider}", "Check the key", "a provider refuses the key, its "
        "account is out of funds, or it cannot be decrypted", "incident", _KEY_FIELDS),
    Kind.CREDENTIAL_RECOVERED: Rule(
        _KEYS, "credential.recovered", "credential:{provider}", "Look at the key", "the key works again",
        "incident", _KEY_FIELDS),
    Kind.CREDITS_STEP_IN: Rule(
        _SAFE, "payer.credits_step_in", "credential:{provider}", "Fix the key", "credits pay for a call because the "
        "workspace's own key fails", "incident", (*_KEY_FIELDS, "limit_credits")),
    Kind.PAYER_CHANGED: Rule(
        _SAFE, "payer.changed", "credential:openrouter", "Look at the AI keys", "a key or switch was changed, and "
        "calls have another payer from now on", _ON_CHANGE, _CHANGE_FIELDS),
    Kind.SETTINGS_CHANGED: Rule(
        _SAFE, "settings.changed", "credential:{provider}", "Look at the AI keys", "a key or switch was changed, and "
        "the payer stays", _ON_CHANGE, _CHANGE_FIELDS),
    Kind.ADDON_ACTIVE: Rule(
        _PAY, "addon.active", "addon", "Look at the add-on", "the add-on is paid, or was granted", _ON_CHANGE,
        _ADDON_FIELDS),
    Kind.ADDON_INCLUDED: Rule(
        _PAY, "addon.included", "addon", "Look at the plan", "the plan now includes calls with an own key",
        _ON_CHANGE, _ADDON_FIELDS),
    Kind.ADDON_CANCELLED: Rule(
        _PAY, "addon.cancelled", "addon", "Keep the add-on", "the add-on was cancelled and works to the end of its "
        "period", _ON_CHANGE, _ADDON_FIELDS),
    Kind.ADDON_PAYMENT_FAILED: Rule(
        _PAY, "addon.payment_failed", "addon", "Pay the add-on", "a payment for the add-on failed; days of grace "
        "begin", _ON_CHANGE, _ADDON_FIELDS),
    Kind.ADDON_GRACE: Rule(
        _PAY, "addon.grace", "addon", "Subscribe to the add-on", "a plan that includes own keys was left; days of "
        "grace begin", _ON_CHANGE, _ADDON_FIELDS),
    Kind.ADDON_GRACE_ENDING: Rule(
        _PAY, "addon.grace_ending", "addon", "Pay the add-on", "24 hours before the end of grace", "end of grace",
        _ADDON_FIELDS),
    Kind.ADDON_INACTIVE: Rule(
        _PAY, "addon.inactive", "addon", "Renew the add-on", "grace is over without a payment", _ON_CHANGE,
        _ADDON_FIELDS),
    Kind.ADDON_ENDED: Rule(
        _PAY, "addon.ended", "addon", "Subscribe to the add-on", "the cancelled add-on, or the grace after a change "
        "of plan, has ended", _ON_CHANGE, _ADDON_FIELDS),
    Kind.BALANCE_LOW: Rule(
        _PAY, "balance.low", "credits", "Add credits", "the balance falls below the minimum that calls with an own "
        "key need", "crossing", _BALANCE_FIELDS),
    Kind.BALANCE_RESTORED: Rule(
        _PAY, "balance.restored", "credits", "Look at the credits", "the balance is back at the minimum",
        "crossing", _BALANCE_FIELDS),
    Kind.TOPUP_RECEIVED: Rule(
        _PAY, "payment.topup", "credits", "Look at the credits", "credits that were bought have arrived", "payment",
        _MONEY_FIELDS),
    Kind.REFUND_BOOKED: Rule(
        _PAY, "payment.refund", "credits", "Look at the credits", "a payment was refunded, and its credits are taken "
        "back", "refund", _MONEY_FIELDS),
    Kind.DISPUTE_OPENED: Rule(
        _PAY, "payment.dispute_opened", "credits", "Look at the credits", "a payment is disputed, and its credits are "
        "frozen", "dispute", _MONEY_FIELDS),
    Kind.DISPUTE_WON: Rule(
        _PAY, "payment.dispute_won", "credits", "Look at the credits", "a dispute ended in favour of the payment",
        "dispute", _MONEY_FIELDS),
    Kind.DISPUTE_LOST: Rule(
        _PAY, "payment.dispute_lost", "credits", "Add credits", "a dispute ended against the payment", "dispute",
        _MONEY_FIELDS),
    Kind.PAYMENT_QUARANTINED: Rule(
        _PAY, "payment.quarantined", "addon", "Look at the plan", "a payment does not fit what was ordered, and "
        "grants nothing until an operator has looked", "payment", ("object", "at")),
    Kind.BOOKS_DIFFER: Rule(
        _SPEND, "books.differ", "cap", "Look at the spend", "costs are booked on an OpenRouter key that its own figure "
        "does not hold; an event only, operators look into it", "reading",
        ("provider", "reading", "since", "grown_nusd", "ours_nusd", "missing_nusd", "at")),
    Kind.EXPORT_READY: Rule(
        _SAFE, "export.ready", "export:{work}", "Open the export", "an export or a replay that a member asked for has "
        "ended; only that member is told", "piece of work", ("work", "what", "state", "rows", "until", "at")),
}


@dataclass(frozen=True, slots=True)
class PayerFacts:
    """What decides who pays, as a change finds and leaves it. `key` is the OpenRouter key's state: "enabled",
    "disabled", "undecryptable" or "missing"; `entitled` whether the plan or the add-on lets it be used."""

    key: str
    entitled: bool
    always: bool
    credits_if_key_fails: bool

    @property
    def payer(self) -> str:
        """"your_key", "credits" or "nobody". Where the product has no credits, "credits" means nobody."""
        if self.entitled and self.key == "enabled":
            return "your_key"
        stuck = self.entitled and self.key == "undecryptable" and not self.credits_if_key_fails
        return "nobody" if self.always or stuck else "credits"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a notice is read: the workspace's name, the product's, and how the product pays and links."""

    workspace: str
    product: str
    with_credits: bool
    entry_url: str

    def url(self, flow: str) -> str:
        return self.entry_url.replace("{flow}", flow)


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice in words. `facts` are label and value; `mute` is "" where it cannot be muted; `where` names the
    workspace and the product."""

    kind: Kind
    subject: str
    headline: str
    facts: tuple[tuple[str, str], ...]
    calls_now: str
    button: str
    url: str
    why: str
    mute: str
    where: str = ""


def write_notice(kind: Kind, payload: Payload, place: Place) -> Notice:
    """The whole notice. A field that an older row does not carry is left out, never guessed."""
    rule = RULES[kind]
    told = headline(kind, payload, place)
    return Notice(
        kind=kind,
        subject=f"{clean(place.workspace)}: {told.subject}",
        headline=told.sentence,
        facts=_facts(payload),
        calls_now=told.calls_now,
        button=rule.button,
        url=place.url(_flow(rule, payload)),
        why=_why(kind, place),
        mute=_mute(rule.topic),
        where=f"{clean(place.workspace)} · {clean(place.product)}",
    )


def _flow(rule: Rule, payload: Payload) -> str:
    provider, work = str(payload.get("provider") or "openrouter"), str(payload.get("work") or "")
    return rule.flow.replace("{provider}", provider).replace("{work}", work)


def _why(kind: Kind, place: Place) -> str:
    if kind is Kind.EXPORT_READY:
        return f"You get this because you asked for it in {clean(place.product)}."
    return f"You get this because you are an owner or admin of {clean(place.workspace)} in {clean(place.product)}."


def event_of(kind: Kind, payload: Payload, place: Place) -> tuple[str, dict[str, Any]]:
    """(type, data) for the host's endpoint: the rule's fields, the payer in the product's own terms, the headline."""
    rule = RULES[kind]
    data: dict[str, Any] = {name: payload[name] for name in rule.fields if name in payload}
    for name in ("payer_before", "payer_after"):
        if name in data:
            data[name] = _payer_here(data[name], place)
    return rule.event, data | {"headline": headline(kind, payload, place).sentence}


def clean(text: object) -> str:
    """A foreign text that may stand in a header or a sentence: one line, printable, of bounded length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= NAME_LIMIT else line[: NAME_LIMIT - 1] + "…"


def usd(amount_nusd: object) -> str:
    """"US$12.40"; the exact figure, as the books have it."""
    return f"US${format_usd(int(str(amount_nusd)))}"


def moment(text: object) -> str:
    """"2026-12-01T00:00:00Z" → "1 Dec 2026 00:00 UTC"; "" for nothing."""
    if not text:
        return ""
    at = datetime.fromisoformat(str(text).replace("Z", "+00:00")).astimezone(UTC)
    return f"{at.day} {at:%b %Y %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Told:
    """A subject without the workspace's name, the sentence, and what calls do now."""

    subject: str
    sentence: str
    calls_now: str


def headline(kind: Kind, payload: Payload, place: Place) -> Told:
    """What happened, in one subject and one sentence, and what calls do from now on."""
    match kind:
        case Kind.SPEND_THRESHOLD | Kind.AI_PAUSED | Kind.AI_RESUMED | Kind.OVERAGE | Kind.BOOKS_DIFFER:
            return _told_of_spend(kind, payload)
        case Kind.CREDENTIAL_UNHEALTHY | Kind.CREDENTIAL_RECOVERED | Kind.CREDITS_STEP_IN:
            return _told_of_key(kind, payload, place)
        case Kind.PAYER_CHANGED | Kind.SETTINGS_CHANGED:
            return _told_of_change(kind, payload, place)
        case Kind.BALANCE_LOW | Kind.BALANCE_RESTORED:
            return _told_of_balance(kind, payload)
        case (
            Kind.ADDON_ACTIVE | Kind.ADDON_INCLUDED | Kind.ADDON_CANCELLED | Kind.ADDON_PAYMENT_FAILED
            | Kind.ADDON_GRACE | Kind.ADDON_GRACE_ENDING | Kind.ADDON_INACTIVE | Kind.ADDON_ENDED
        ):
            return _told_of_addon(kind, payload, place)
        case (
            Kind.TOPUP_RECEIVED | Kind.REFUND_BOOKED | Kind.DISPUTE_OPENED | Kind.DISPUTE_WON | Kind.DISPUTE_LOST
            | Kind.PAYMENT_QUARANTINED
        ):
            return _told_of_payment(kind, payload)
        case Kind.EXPORT_READY:
            return _told_of_work(payload)
        case _:
            assert_never(kind)


def _told_of_spend(kind: Kind, p: Payload) -> Told:
    if kind is Kind.OVERAGE:
        return Told(
            "an AI call cost more than it was held to",
            f"A provider billed {usd(p['cost_nusd'])} for an attempt that was held to {usd(p['bound_nusd'])}.",
            "Calls go on. The whole cost counts towards the spend cap, and the model counts as unpriced until its "
            "price is right.",
        )
    if kind is Kind.BOOKS_DIFFER:
        return Told(
            "our books and OpenRouter's differ",
            f"{usd(p['missing_nusd'])} of the costs booked on the OpenRouter key are not in OpenRouter's own figure "
            "for it.",
            "Calls go on and nothing was changed. An operator looks into it.",
        )
    if kind is Kind.SPEND_THRESHOLD:
        return Told(
            f"AI spend at {p['threshold']}% of {usd(p['cap_nusd']).removesuffix('.00')}",
            f"AI spend has passed {p['threshold']}% of this month's cap: {usd(p['spent_nusd'])} of "
            f"{usd(p['cap_nusd'])}.",
            "AI works. It pauses when the cap is reached.",
        )
    if kind is Kind.AI_PAUSED and int(str(p["cap_nusd"])) == 0:
        return Told(
            "AI is off, the spend cap is US$0",
            "AI is off: this month's spend cap was set to US$0, which allows no calls.",
            "AI calls are refused until the cap is raised or removed. Everything else goes on.",
        )
    if kind is Kind.AI_PAUSED:
        sentence = f"AI is paused: this month's spend cap of {usd(p['cap_nusd'])} is reached."
        if p.get("reason") == "no_room":
            sentence = (
                f"AI is paused: what is left under this month's spend cap of {usd(p['cap_nusd'])} is too little "
                "for another call."
            )
        return Told(
            "AI paused, spend cap reached", sentence,
            f"AI calls are refused until the cap is raised or the month ends, {moment(p['resets_at'])}. "
            "Everything else goes on.",
        )
    why = {
        "cap_changed": "the spend cap was changed", "new_period": "a new month has begun",
        "corrected": "a cost was corrected downwards",
    }[p["cause"]]
    return Told("AI resumed", f"AI works again: {why}.", "AI calls are answered.")


def _told_of_key(kind: Kind, p: Payload, place: Place) -> Told:
    provider = provider_name(p["provider"])
    key = f"{provider} key ({clean(p['hint'])})" if p.get("hint") else f"{provider} key"
    if kind is Kind.CREDENTIAL_RECOVERED:
        return Told(f"your {provider} key works again", f"Your {key} works again.", "It is used again.")
    if kind is Kind.CREDITS_STEP_IN:
        limit = p.get("limit_credits")
        most = "" if limit is None else f", up to {limit} credits this month"
        return Told(
            "AI calls now use credits",
            f"Your {key} fails, and credits pay because \"Use credits if my key fails\" is on.",
            f"Credits pay for AI calls until the key works again{most}.",
        )
    cause = {
        "rejected": f"{provider} refuses it", "no_funds": f"its {provider} account is out of funds or at its limit",
        "undecryptable": "it is stored, but we cannot open it: the fault is ours, and operators know",
    }.get(str(p.get("cause")), "it was refused")
    return Told(
        f"your {provider} key stopped working", f"Your {key} stopped working: {cause}.",
        _calls_without(p, place),
    )


def _calls_without(p: Payload, place: Place) -> str:
    """What calls do while a key fails."""
    if p["provider"] != "openrouter":
        if p.get("on_direct_auth_failure") == "fail":
            return "Calls to this provider's models fail until the key works, because the workspace chose so."
        return "Your OpenRouter key answers instead, where it is connected."
    if "always" not in p:
        return "AI calls that need this key fail until it works again."
    if p["always"]:
        return "AI calls fail: Always use this key is on. Credits are not touched."
    if place.with_credits and p.get("credits_if_key_fails"):
        return "Credits pay meanwhile, within the workspace's limit."
    return "AI calls that need this key fail until it works again" + (
        "; credits are not used." if place.with_credits else ".")


def _told_of_change(kind: Kind, p: Payload, place: Place) -> Told:
    changes = "; ".join(_change(change) for change in p["changes"])
    after = _payer_here(p["payer_after"], place)
    sentence = f"AI settings were changed: {changes}."
    if kind is Kind.SETTINGS_CHANGED:
        return Told("AI key settings changed", sentence, _PAYS[after])
    subject = {
        "your_key": "AI calls now use your key", "credits": "AI calls now use credits",
        "nobody": "AI is off, nobody can pay",
    }[after]
    return Told(f"AI key settings changed: {subject}", sentence, _PAYS[after])


_PAYS = {
    "your_key": "The workspace's own OpenRouter key pays for AI calls.",
    "credits": "Credits pay for AI calls.",
    "nobody": "AI calls are refused: nobody can pay for them.",
}
_SWITCHES = {
    "always_use_key": "Always use this key", "credits_if_key_fails": "Use credits if my key fails",
    "credits_if_key_fails_limit": "the monthly limit of Use credits if my key fails",
    "on_direct_auth_failure": "If a direct key is rejected",
}
_KEY_CHANGES = {
    ("missing", "enabled"): "was connected", ("enabled", "missing"): "was disconnected and destroyed",
    ("disabled", "missing"): "was disconnected and destroyed",
    ("undecryptable", "missing"): "was disconnected and destroyed",
    ("enabled", "disabled"): "was disabled", ("disabled", "enabled"): "was enabled",
}


def _change(change: Mapping[str, Any]) -> str:
    what, before, after = change["what"], change.get("before"), change.get("after")
    if what == "credential":
        key = f"the {provider_name(change['provider'])} key ({clean(change['hint'])})"
        return f"{key} {_KEY_CHANGES.get((str(before), str(after)), 'was replaced')}"
    return f"{_SWITCHES.get(what, clean(what))} is now {_value(after)} (was {_value(before)})"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "no limit"
    return {"fallback": "use my OpenRouter key", "fail": "fail the call"}.get(str(value), clean(value))


def _payer_here(payer: str, place: Place) -> str:
    return "nobody" if payer == "credits" and not place.with_credits else payer


def _told_of_addon(kind: Kind, p: Payload, place: Place) -> Told:
    until = moment(p.get("until"))
    till = f" until {until}" if until else ""
    paid_till = till or " to the end of the paid month"
    stops = f"at {until}" if until else "soon"
    after = _PAYS[_payer_here(p.get("payer_after", "credits"), place)]
    works = f"Your key goes on working{till}."
    table: Mapping[Kind, tuple[str, str, str]] = {
        Kind.ADDON_ACTIVE: ("the OpenRouter add-on is active", "The OpenRouter add-on is active.", after),
        Kind.ADDON_INCLUDED: (
            "your plan includes OpenRouter", "The workspace's plan now includes calls with an own OpenRouter key.",
            after),
        Kind.ADDON_CANCELLED: (
            "the OpenRouter add-on was cancelled",
            f"The OpenRouter add-on was cancelled. It works{paid_till}.", works),
        Kind.ADDON_PAYMENT_FAILED: (
            "payment for the OpenRouter add-on failed", "A payment for the OpenRouter add-on failed.", works),
        Kind.ADDON_GRACE: (
            "your plan no longer includes OpenRouter", "The workspace's plan no longer includes calls with an own "
            "OpenRouter key.", works),
        Kind.ADDON_GRACE_ENDING: (
            "your OpenRouter key stops soon",
            f"Calls with your own OpenRouter key stop {stops} unless the add-on is paid.", works),
        Kind.ADDON_INACTIVE: (
            "the OpenRouter add-on is inactive", "The OpenRouter add-on is inactive because it was not paid. The key "
            "is kept, not used, and works again when it is paid.", after),
        Kind.ADDON_ENDED: (
            "the OpenRouter add-on has ended", "The workspace is no longer entitled to calls with an own OpenRouter "
            "key. The key is kept and not used.", after),
    }
    return Told(*table[kind])


def _told_of_balance(kind: Kind, p: Payload) -> Told:
    balance, minimum = p["balance_credits"], p["minimum_credits"]
    if kind is Kind.BALANCE_LOW:
        return Told(
            f"AI calls stopped, credits below {minimum}",
            f"The credit balance is {balance}; calls with your own key need at least {minimum} on this plan.",
            "AI calls with your key are refused until credits are added. None of them is used by those calls.",
        )
    if not minimum:
        return Told(
            "AI calls work again, no minimum balance", "Calls with your own key need no minimum balance any more.",
            "AI calls with your key are answered.",
        )
    return Told(
        "AI calls work again, enough credits",
        f"The credit balance is {balance}, at least the {minimum} that calls with your own key need.",
        "AI calls with your key are answered.",
    )


def _told_of_payment(kind: Kind, p: Payload) -> Told:
    if kind is Kind.PAYMENT_QUARANTINED:
        return Told(
            "a payment is being checked",
            "A payment arrived that does not fit what was ordered. Nothing was granted for it yet.",
            "Nothing has changed for AI calls. An operator looks into it.",
        )
    amount, credits = _amount(p), p["credits"]
    table: Mapping[Kind, tuple[str, str, str]] = {
        Kind.TOPUP_RECEIVED: (
            "credits have arrived", f"{credits} credits were bought for {amount}.", "The credits can be used at once."),
        Kind.REFUND_BOOKED: (
            "a payment was refunded", f"{amount} were refunded, and {credits} credits are taken back.",
            "Calls that credits pay for go on while the balance suffices."),
        Kind.DISPUTE_OPENED: (
            "a payment is disputed", f"A payment of {amount} is disputed. {credits} credits are frozen until it is "
            "decided.", "Calls that credits pay for go on while the rest of the balance suffices."),
        Kind.DISPUTE_WON: (
            "a dispute has ended", f"The dispute over {amount} is decided for the payment: {credits} credits are back.",
            "The credits can be used again."),
        Kind.DISPUTE_LOST: (
            "a dispute has ended", f"The dispute over {amount} is decided against the payment: {credits} credits are "
            "gone.", "Calls that credits pay for go on while the balance suffices."),
    }
    return Told(*table[kind])


def _told_of_work(p: Payload) -> Told:
    what = {"export": "export", "export_all": "export of the workspace", "replay": "replay"}.get(str(p["what"]), "work")
    if p["state"] != "done":
        return Told(f"your {what} has failed", f"Your {what} has failed. Nothing was changed.", "Start it again there.")
    rows = f" It has {int(p['rows']):,} rows." if what != "replay" else ""
    until = moment(p.get("until"))
    kept = f"The file is kept until {until}." if until else "The result is kept for 30 days."
    return Told(f"your {what} is ready", f"Your {what} is ready.{rows}", kept)


def _amount(p: Payload) -> str:
    """Cents as they are paid: "US$5.00", "5.00 EUR"."""
    whole, cents = divmod(int(p["amount_cents"]), 100)
    currency = str(p.get("currency") or "usd").upper()
    return f"US${whole}.{cents:02d}" if currency == "USD" else f"{whole}.{cents:02d} {clean(currency)}"


def _facts(p: Payload) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    if p.get("since"):
        found.append(("Since", moment(p["since"])))
    elif p.get("at"):
        found.append(("When", moment(p["at"])))
    if "spent_nusd" in p and p.get("cap_nusd") not in (None, "None"):
        found.append(("Spent", f"{usd(p['spent_nusd'])} of {usd(p['cap_nusd'])}"))
    elif "spent_nusd" in p:
        found.append(("Spent", f"{usd(p['spent_nusd'])}, no cap"))
    if p.get("period"):
        found.append(("Month", _month(str(p["period"]))))
    if p.get("resets_at") and str(p.get("cap_nusd")) != "0":
        found.append(("Resets", moment(p["resets_at"])))
    if p.get("label"):
        found.append(("Key", clean(p["label"])))
    if p.get("call"):
        found.append(("Receipt", clean(p["call"])))
    if p.get("by"):
        found.append(("Changed by", clean(p["by"])))
    return tuple(found)


def _month(key: str) -> str:
    """"2026-11" → "November 2026"; anything else as it is."""
    try:
        return f"{datetime.strptime(key, '%Y-%m'):%B %Y}"
    except ValueError:
        return clean(key)


def _mute(topic: Topic) -> str:
    if topic not in MUTEABLE:
        return ""
    name = {Topic.SPEND: "spend", Topic.KEYS: "key health"}[topic]
    return f"To stop e-mails about {name}, switch them off for your account in the product's AI settings (“{topic}”)."


_AT, _UNTIL = "2026-11-14T09:30:00Z", "2026-11-17T09:30:00Z"
_KEY = {"provider": "openrouter", "hint": "sk-or-…9f3c", "label": "Main key", "at": _AT}
_SPENT = {
    "period": "2026-11", "cap_version": 3, "cap_nusd": "50000000000", "held_nusd": "0", "at": _AT,
    "resets_at": "2026-12-01T00:00:00Z",
}
_ADDON = {"plan": "pro", "entitlement_before": "active", "payer_after": "your_key", "until": _UNTIL, "at": _AT}

_PAID = {"amount_cents": "500", "currency": "usd", "credits": "500", "at": _AT}

SAMPLES: Mapping[Kind, Payload] = {
    Kind.SPEND_THRESHOLD: {**_SPENT, "threshold": 80, "spent_nusd": "40120000000", "reason": None},
    Kind.AI_PAUSED: {**_SPENT, "threshold": 100, "spent_nusd": "50000000000", "reason": "reached"},
    Kind.AI_RESUMED: {
        "period": "2026-12", "cap_version": 3, "cap_nusd": "50000000000", "spent_nusd": "0", "cause": "new_period",
        "at": "2026-12-01T00:00:00Z",
    },
    Kind.OVERAGE: {"call": "call_0193", "hold": "hold_0193", "bound_nusd": "1200000", "cost_nusd": "1500000"},
    Kind.CREDENTIAL_UNHEALTHY: {
        **_KEY, "cause": "rejected", "since": "2026-11-14T09:28:00Z", "always": False, "credits_if_key_fails": True,
    },
    Kind.CREDENTIAL_RECOVERED: _KEY,
    Kind.CREDITS_STEP_IN: {**_KEY, "since": "2026-11-14T09:28:00Z", "limit_credits": 500},
    Kind.PAYER_CHANGED: {
        "changes": [{"what": "credential", "provider": "openrouter", "hint": "sk-or-…9f3c", "before": "missing",
                     "after": "enabled"}],
        "by": "service:host", "payer_before": "credits", "payer_after": "your_key", "at": _AT,
    },
    Kind.SETTINGS_CHANGED: {
        "changes": [{"what": "always_use_key", "before": False, "after": True}], "by": "service:host",
        "payer_before": "your_key", "payer_after": "your_key", "at": _AT,
    },
    Kind.ADDON_ACTIVE: {**_ADDON, "entitlement_before": "none", "entitlement": "active", "until": None},
    Kind.ADDON_INCLUDED: {**_ADDON, "plan": "enterprise", "entitlement": "included", "until": None},
    Kind.ADDON_CANCELLED: {**_ADDON, "entitlement": "cancelling"},
    Kind.ADDON_PAYMENT_FAILED: {**_ADDON, "entitlement": "grace"},
    Kind.ADDON_GRACE: {**_ADDON, "entitlement_before": "included", "entitlement": "grace"},
    Kind.ADDON_GRACE_ENDING: {**_ADDON, "entitlement_before": "grace", "entitlement": "grace"},
    Kind.ADDON_INACTIVE: {
        **_ADDON, "entitlement_before": "grace", "entitlement": "inactive", "until": None, "payer_after": "credits",
    },
    Kind.ADDON_ENDED: {
        **_ADDON, "entitlement_before": "cancelling", "entitlement": "none", "until": None, "payer_after": "credits",
    },
    Kind.BALANCE_LOW: {"balance_credits": 8, "minimum_credits": 10, "at": _AT},
    Kind.BALANCE_RESTORED: {"balance_credits": 58, "minimum_credits": 10, "at": _AT},
    Kind.TOPUP_RECEIVED: _PAID,
    Kind.REFUND_BOOKED: _PAID,
    Kind.DISPUTE_OPENED: _PAID,
    Kind.DISPUTE_WON: _PAID,
    Kind.DISPUTE_LOST: _PAID,
    Kind.PAYMENT_QUARANTINED: {"object": "cs_test_a1b2", "at": _AT},
    Kind.BOOKS_DIFFER: {
        "provider": "openrouter", "reading": 12, "since": "2026-11-13T09:30:00Z", "grown_nusd": "1000000000",
        "ours_nusd": "1200000000", "missing_nusd": "200000000", "at": _AT,
    },
    Kind.EXPORT_READY: {
        "work": "work_0193", "what": "export", "state": "done", "rows": 48_211, "until": "2026-11-15T09:30:00Z",
        "at": _AT,
    },
}
"""One payload of every kind, as the books write it: for previews, the documentation and the tests."""

FIRST_WAITS_S = (5, 15, 60, 300, 900, 1_800)
LATER_WAIT_S = 3_600
GIVE_UP_MS = 24 * 3_600_000


def next_try_ms(attempts: int, created_at_ms: int, at_ms: int, chance: int) -> int | None:
    """When a message that could not be delivered is tried again; None: 24 hours are over, it has failed.

    `attempts` counts those made (at least 1); `chance` is 0 to 999 and spreads the tries of many rows by a fifth.
    """
    if at_ms >= created_at_ms + GIVE_UP_MS:
        return None
    wait_ms = 1_000 * (FIRST_WAITS_S[attempts - 1] if attempts <= len(FIRST_WAITS_S) else LATER_WAIT_S)
    return min(at_ms + wait_ms + wait_ms * chance // 5_000, created_at_ms + GIVE_UP_MS)


def muted_topics(names: frozenset[str]) -> frozenset[Topic]:
    """What a member's mute settings really switch off: names of topics that may be muted."""
    return frozenset(topic for topic in MUTEABLE if topic.value in names)
