"""Every notice there is: whom it is for, what it says, and which page of the product puts it right.

A notice is decided where the books change and told later, so a row carries figures and states only; the words are
made here, once, for the mail's subject, its text, its HTML and the event's summary. Nothing here ever sees a key, a
prompt or a provider's answer: an event carries the fields named in `RULES` and no other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, assert_never

from ownkey.domain.days import tell_date, tell_month_of
from ownkey.domain.money import format_usd
from ownkey.domain.phrases import Phrase, retell, together
from ownkey.domain.receipts import provider_name

Payload = Mapping[str, Any]

NAME_LIMIT = 80
HEADLINE_LIMIT = 400

CALL, CALL_HEADLINE = "call", "call_headline"
"""Fields of a payload: the call that set the notice off, and its headline once that is known."""


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
MUTE_FLOW = "notices"
"""The page on which a member mutes topics."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`event` is the type that the host's endpoint sees; `fields` what it is told; `flow` the page of the button.

    `when` is what makes the notice, as the page on which it is muted says it too; `once`, what makes it unique, is for
    the documentation.
    """

    topic: Topic
    event: str
    flow: str
    button: str
    when: str
    once: str
    fields: tuple[str, ...]


_CAP_FIELDS = (
    "period", "cap_version", "threshold", "cap_nusd", "spent_nusd", "held_nusd", "reason", "resets_at", "call", "at",
)
_KEY_FIELDS = ("provider", "hint", "label", "cause", "since", "at")
_CHANGE_FIELDS = ("changes", "by", "payer_before", "payer_after", "at")
_ADDON_FIELDS = ("plan", "entitlement_before", "entitlement", "until", "payer_after", "at")
_BALANCE_FIELDS = ("balance_credits", "minimum_credits", "at")
_MONEY_FIELDS = ("amount_cents", "currency", "credits", "at")
_PAY, _KEYS, _SPEND, _SAFE = Topic.PAYMENT, Topic.KEYS, Topic.SPEND, Topic.SECURITY
_ON_CHANGE = "change"

RULES: Mapping[Kind, Rule] = {
    Kind.SPEND_THRESHOLD: Rule(
        _SPEND, "spend.threshold", "cap", Phrase("Change the spend cap"),
        Phrase("spend passes the alert threshold of the cap"),
        "period, cap version and threshold", _CAP_FIELDS),
    Kind.AI_PAUSED: Rule(
        _SPEND, "ai.paused", "cap", Phrase("Raise the spend cap"),
        Phrase("the cap is reached, or no call fits under it any more"),
        "period and cap version", _CAP_FIELDS),
    Kind.AI_RESUMED: Rule(
        _SPEND, "ai.resumed", "cap", Phrase("Look at the spend cap"),
        Phrase("a paused workspace goes on: new cap, new month, or a correction"),
        "period and cap version", ("period", "cap_version", "cap_nusd", "spent_nusd", "cause", "at")),
    Kind.OVERAGE: Rule(
        _SPEND, "spend.overage", "cap", Phrase("Look at the spend"),
        Phrase("a provider billed more for an attempt than it was held to"),
        "attempt", ("call", "hold", "bound_nusd", "cost_nusd", "at")),
    Kind.CREDENTIAL_UNHEALTHY: Rule(
        _KEYS, "credential.unhealthy", "credential:{provider}", Phrase("Check the key"),
        Phrase("a provider refuses the key, its account is out of funds, or it cannot be decrypted"),
        "incident", _KEY_FIELDS),
    Kind.CREDENTIAL_RECOVERED: Rule(
        _KEYS, "credential.recovered", "credential:{provider}", Phrase("Look at the key"),
        Phrase("the key works again"),
        "incident", _KEY_FIELDS),
    Kind.CREDITS_STEP_IN: Rule(
        _SAFE, "payer.credits_step_in", "credential:{provider}", Phrase("Fix the key"),
        Phrase("credits pay for a call because the workspace's own key fails"),
        "incident", (*_KEY_FIELDS, "limit_credits", "call")),
    Kind.PAYER_CHANGED: Rule(
        _SAFE, "payer.changed", "credential:openrouter", Phrase("Look at the AI keys"),
        Phrase("a key or switch was changed, and calls have another payer from now on"),
        _ON_CHANGE, _CHANGE_FIELDS),
    Kind.SETTINGS_CHANGED: Rule(
        _SAFE, "settings.changed", "credential:{provider}", Phrase("Look at the AI keys"),
        Phrase("a key or switch was changed, and the payer stays"),
        _ON_CHANGE, _CHANGE_FIELDS),
    Kind.ADDON_ACTIVE: Rule(
        _PAY, "addon.active", "addon", Phrase("Look at the add-on"),
        Phrase("the add-on is paid, or was granted"),
        _ON_CHANGE, _ADDON_FIELDS),
    Kind.ADDON_INCLUDED: Rule(
        _PAY, "addon.included", "addon", Phrase("Look at the plan"),
        Phrase("the plan now includes calls with an own key"),
        _ON_CHANGE, _ADDON_FIELDS),
    Kind.ADDON_CANCELLED: Rule(
        _PAY, "addon.cancelled", "addon", Phrase("Keep the add-on"),
        Phrase("the add-on was cancelled and works to the end of its period"),
        _ON_CHANGE, _ADDON_FIELDS),
    Kind.ADDON_PAYMENT_FAILED: Rule(
        _PAY, "addon.payment_failed", "addon", Phrase("Pay the add-on"),
        Phrase("a payment for the add-on failed; days of grace begin"),
        _ON_CHANGE, _ADDON_FIELDS),
    Kind.ADDON_GRACE: Rule(
        _PAY, "addon.grace", "addon", Phrase("Subscribe to the add-on"),
        Phrase("a plan that includes own keys was left; days of grace begin"),
        _ON_CHANGE, _ADDON_FIELDS),
    Kind.ADDON_GRACE_ENDING: Rule(
        _PAY, "addon.grace_ending", "addon", Phrase("Pay the add-on"),
        Phrase("grace ends in 24 hours"),
        "end of grace", _ADDON_FIELDS),
    Kind.ADDON_INACTIVE: Rule(
        _PAY, "addon.inactive", "addon", Phrase("Renew the add-on"),
        Phrase("grace is over without a payment"),
        _ON_CHANGE, _ADDON_FIELDS),
    Kind.ADDON_ENDED: Rule(
        _PAY, "addon.ended", "addon", Phrase("Subscribe to the add-on"),
        Phrase("the cancelled add-on, or the grace after a change of plan, has ended"),
        _ON_CHANGE, _ADDON_FIELDS),
    Kind.BALANCE_LOW: Rule(
        _PAY, "balance.low", "credits", Phrase("Add credits"),
        Phrase("the balance falls below the minimum that calls with an own key need"),
        "crossing", _BALANCE_FIELDS),
    Kind.BALANCE_RESTORED: Rule(
        _PAY, "balance.restored", "credits", Phrase("Look at the credits"),
        Phrase("the balance is back at the minimum"),
        "crossing", _BALANCE_FIELDS),
    Kind.TOPUP_RECEIVED: Rule(
        _PAY, "payment.topup", "credits", Phrase("Look at the credits"),
        Phrase("credits that were bought have arrived"),
        "payment", _MONEY_FIELDS),
    Kind.REFUND_BOOKED: Rule(
        _PAY, "payment.refund", "credits", Phrase("Look at the credits"),
        Phrase("a payment was refunded, and its credits are taken back"),
        "refund", _MONEY_FIELDS),
    Kind.DISPUTE_OPENED: Rule(
        _PAY, "payment.dispute_opened", "credits", Phrase("Look at the credits"),
        Phrase("a payment is disputed, and its credits are frozen"),
        "dispute", _MONEY_FIELDS),
    Kind.DISPUTE_WON: Rule(
        _PAY, "payment.dispute_won", "credits", Phrase("Look at the credits"),
        Phrase("a dispute ended in favour of the payment"),
        "dispute", _MONEY_FIELDS),
    Kind.DISPUTE_LOST: Rule(
        _PAY, "payment.dispute_lost", "credits", Phrase("Add credits"),
        Phrase("a dispute ended against the payment"),
        "dispute", _MONEY_FIELDS),
    Kind.PAYMENT_QUARANTINED: Rule(
        _PAY, "payment.quarantined", "addon", Phrase("Look at the plan"),
        Phrase("a payment does not fit what was ordered, and grants nothing until an operator has looked"),
        "payment", ("object", "at")),
    Kind.BOOKS_DIFFER: Rule(
        _SPEND, "books.differ", "cap", Phrase("Look at the spend"),
        Phrase(
            "costs are booked on an OpenRouter key that its own figure does not hold; an event only, "
            "operators look into it"
        ),
        "reading", ("provider", "reading", "since", "grown_nusd", "ours_nusd", "missing_nusd", "at")),
    Kind.EXPORT_READY: Rule(
        _SAFE, "export.ready", "export:{work}", Phrase("Open the export"),
        Phrase("an export or a replay that a member asked for has ended; only that member is told"),
        "piece of work", ("work", "what", "state", "rows", "until", "at")),
}


WITHOUT_MAIL = frozenset({Kind.BOOKS_DIFFER})
"""Told to the host and to operators, and to nobody by e-mail."""

WITH_CREDITS_ONLY = frozenset({
    Kind.CREDITS_STEP_IN, Kind.BALANCE_LOW, Kind.BALANCE_RESTORED, Kind.TOPUP_RECEIVED, Kind.REFUND_BOOKED,
    Kind.DISPUTE_OPENED, Kind.DISPUTE_WON, Kind.DISPUTE_LOST,
})
"""What a product without credits never tells."""

WITH_ADDON_ONLY = frozenset(kind for kind in Kind if RULES[kind].event.startswith("addon."))
"""What a product never tells whose every plan includes own keys."""


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
    """One notice in words. `facts` are label and value; `mute` and `mute_url` are "" where it cannot be muted; `where`
    names the workspace and the product; `call` is the headline of the call that set it off, `call_url` its receipt (""
    for none)."""

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
    call: str = ""
    call_url: str = ""
    asks: str = ""
    caused_by: str = Phrase("The call that set this off:")
    opens_receipt: str = Phrase("Open its receipt")
    mute_url: str = ""
    opens_mute: str = Phrase("Choose your e-mails")

    def in_words(self, own: Mapping[str, str]) -> "Notice":
        """The same in a host's own words, as plain text."""
        texts: dict[str, Any] = {
            field.name: retell(value, own) for field in fields(self)
            if isinstance(value := getattr(self, field.name), str) and field.name != "kind"
        }
        # A header is one line, and a host's text may have several.
        texts["subject"] = clean(texts["subject"], HEADLINE_LIMIT)
        facts = tuple((retell(label, own), retell(value, own)) for label, value in self.facts)
        return replace(self, facts=facts, **texts)


def write_notice(kind: Kind, payload: Payload, place: Place) -> Notice:
    """The whole notice. A field that an older row does not carry is left out, never guessed."""
    rule = RULES[kind]
    told = headline(kind, payload, place)
    return Notice(
        kind=kind,
        subject=Phrase("{workspace}: {subject}", workspace=clean(place.workspace), subject=told.subject),
        headline=told.sentence,
        facts=_facts(payload),
        calls_now=told.calls_now,
        button=rule.button,
        url=place.url(_flow(rule, payload)),
        why=_why(kind, place),
        mute=_mute(rule.topic),
        mute_url=place.url(MUTE_FLOW) if rule.topic in MUTEABLE else "",
        where=f"{clean(place.workspace)} · {clean(place.product)}",
        asks=Phrase("What happens now:") if kind is Kind.EXPORT_READY else Phrase("What calls do now:"),
        call=clean(payload.get(CALL_HEADLINE) or "", HEADLINE_LIMIT),
        call_url=place.url(f"receipt:{payload[CALL]}") if payload.get(CALL) else "",
    )


def _flow(rule: Rule, payload: Payload) -> str:
    provider, work = str(payload.get("provider") or "openrouter"), str(payload.get("work") or "")
    return rule.flow.replace("{provider}", provider).replace("{work}", work)


def _why(kind: Kind, place: Place) -> str:
    if kind is Kind.EXPORT_READY:
        return Phrase("You get this because you asked for it in {product}.", product=clean(place.product))
    return Phrase(
        "You get this because you are an owner or admin of {workspace} in {product}.",
        workspace=clean(place.workspace), product=clean(place.product),
    )


def event_of(kind: Kind, payload: Payload, place: Place) -> tuple[str, dict[str, Any]]:
    """(type, data) for the host's endpoint: the rule's fields, the payer in the product's own terms, the headline."""
    rule = RULES[kind]
    data: dict[str, Any] = {name: payload[name] for name in rule.fields if name in payload}
    for name in ("payer_before", "payer_after"):
        if name in data:
            data[name] = _payer_here(data[name], place)
    return rule.event, data | {"headline": headline(kind, payload, place).sentence}


def clean(text: object, limit: int = NAME_LIMIT) -> str:
    """A foreign text that may stand in a header or a sentence: one line, printable, of bounded length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def usd(amount_nusd: object) -> str:
    """"US$12.40"; the exact figure, as the books have it."""
    return f"US${format_usd(int(str(amount_nusd)))}"


def moment(text: object) -> str:
    """"2026-12-01T00:00:00Z" → "1 Dec 2026 00:00 UTC"; "" for nothing."""
    if not text:
        return ""
    at = datetime.fromisoformat(str(text).replace("Z", "+00:00")).astimezone(UTC)
    return Phrase("{date} {time} UTC", date=tell_date(at.day, at.month, at.year), time=f"{at:%H:%M}")


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
            Phrase("an AI call cost more than it was held to"),
            Phrase(
                "A provider billed {cost} for an attempt that was held to {bound}.", cost=usd(p["cost_nusd"]),
                bound=usd(p["bound_nusd"]),
            ),
            Phrase(
                "Calls go on. The whole cost counts towards the spend cap, and the model counts as unpriced until "
                "its price is right."
            ),
        )
    if kind is Kind.BOOKS_DIFFER:
        return Told(
            Phrase("our books and OpenRouter's differ"),
            Phrase(
                "{amount} of the costs booked on the OpenRouter key are not in OpenRouter's own figure for it.",
                amount=usd(p["missing_nusd"]),
            ),
            Phrase("Calls go on and nothing was changed. An operator looks into it."),
        )
    if kind is Kind.SPEND_THRESHOLD:
        return Told(
            Phrase(
                "AI spend at {threshold}% of {cap}", threshold=p["threshold"],
                cap=usd(p["cap_nusd"]).removesuffix(".00"),
            ),
            Phrase(
                "AI spend has passed {threshold}% of this month's cap: {spent} of {cap}.",
                threshold=p["threshold"], spent=usd(p["spent_nusd"]), cap=usd(p["cap_nusd"]),
            ),
            Phrase("AI works. It pauses when the cap is reached."),
        )
    if kind is Kind.AI_PAUSED and int(str(p["cap_nusd"])) == 0:
        return Told(
            Phrase("AI is off, the spend cap is US$0"),
            Phrase("AI is off: this month's spend cap was set to US$0, which allows no calls."),
            Phrase("AI calls are refused until the cap is raised or removed. Everything else goes on."),
        )
    if kind is Kind.AI_PAUSED:
        sentence = Phrase("AI is paused: this month's spend cap of {cap} is reached.", cap=usd(p["cap_nusd"]))
        if p.get("reason") == "no_room":
            sentence = Phrase(
                "AI is paused: what is left under this month's spend cap of {cap} is too little for another "
                "call.", cap=usd(p["cap_nusd"]),
            )
        return Told(
            Phrase("AI paused, spend cap reached"), sentence,
            Phrase(
                "AI calls are refused until the cap is raised or the month ends, {at}. Everything else goes on.",
                at=moment(p["resets_at"]),
            ),
        )
    why = {
        "cap_changed": Phrase("the spend cap was changed"), "new_period": Phrase("a new month has begun"),
        "corrected": Phrase("a cost was corrected downwards"),
    }[p["cause"]]
    return Told(Phrase("AI resumed"), Phrase("AI works again: {why}.", why=why), Phrase("AI calls are answered."))


def _told_of_key(kind: Kind, p: Payload, place: Place) -> Told:
    provider = provider_name(p["provider"])
    key = Phrase("{provider} key", provider=provider)
    if p.get("hint"):
        key = Phrase("{provider} key ({hint})", provider=provider, hint=clean(p["hint"]))
    if kind is Kind.CREDENTIAL_RECOVERED:
        return Told(
            Phrase("your {provider} key works again", provider=provider), Phrase("Your {key} works again.", key=key),
            Phrase("It is used again.")
        )
    if kind is Kind.CREDITS_STEP_IN:
        limit = p.get("limit_credits")
        most = "" if limit is None else Phrase(", up to {limit} credits this month", limit=limit)
        return Told(
            Phrase("AI calls now use credits"),
            Phrase(
                'Your {key} fails, and credits pay because "Use credits if my key fails" is on.', key=key,
            ),
            Phrase("Credits pay for AI calls until the key works again{most}.", most=most),
        )
    cause = {
        "rejected": Phrase("{provider} refuses it", provider=provider),
        "no_funds": Phrase("its {provider} account is out of funds or at its limit", provider=provider),
        "undecryptable": Phrase("it is stored, but we cannot open it: the fault is ours, and operators know"),
    }.get(str(p.get("cause")), Phrase("it was refused"))
    return Told(
        Phrase("your {provider} key stopped working", provider=provider),
        Phrase("Your {key} stopped working: {cause}.", key=key, cause=cause),
        _calls_without(p, place),
    )


def _calls_without(p: Payload, place: Place) -> str:
    """What calls do while a key fails."""
    if p["provider"] != "openrouter":
        if p.get("on_direct_auth_failure") == "fail":
            return Phrase(
                "Calls to this provider's models fail until the key works, because the workspace chose so."
            )
        return Phrase("Your OpenRouter key answers instead, where it is connected.")
    if "always" not in p:
        return Phrase("AI calls that need this key fail until it works again.")
    if p["always"]:
        return Phrase("AI calls fail: Always use this key is on. Credits are not touched.")
    if place.with_credits and p.get("credits_if_key_fails"):
        return Phrase("Credits pay meanwhile, within the workspace's limit.")
    if place.with_credits:
        return Phrase("AI calls that need this key fail until it works again; credits are not used.")
    return Phrase("AI calls that need this key fail until it works again.")


def _told_of_change(kind: Kind, p: Payload, place: Place) -> Told:
    changes = together(*(_change(change) for change in p["changes"]), between="; ")
    after = _payer_here(p["payer_after"], place)
    sentence = Phrase("AI settings were changed: {changes}.", changes=changes)
    if kind is Kind.SETTINGS_CHANGED:
        return Told(Phrase("AI key settings changed"), sentence, _PAYS[after])
    subject = {
        "your_key": Phrase("AI calls now use your key"), "credits": Phrase("AI calls now use credits"),
        "nobody": Phrase("AI is off, nobody can pay"),
    }[after]
    return Told(Phrase("AI key settings changed: {subject}", subject=subject), sentence, _PAYS[after])


_PAYS = {
    "your_key": Phrase("The workspace's own OpenRouter key pays for AI calls."),
    "credits": Phrase("Credits pay for AI calls."),
    "nobody": Phrase("AI calls are refused: nobody can pay for them."),
}
_SWITCHES = {
    "always_use_key": Phrase("Always use this key"), "credits_if_key_fails": Phrase("Use credits if my key fails"),
    "credits_if_key_fails_limit": Phrase("the monthly limit of Use credits if my key fails"),
    "on_direct_auth_failure": Phrase("If a direct key is rejected"),
}
_KEY_CHANGES = {
    ("missing", "enabled"): Phrase("was connected"), ("enabled", "missing"): Phrase("was disconnected and destroyed"),
    ("disabled", "missing"): Phrase("was disconnected and destroyed"),
    ("undecryptable", "missing"): Phrase("was disconnected and destroyed"),
    ("enabled", "disabled"): Phrase("was disabled"), ("disabled", "enabled"): Phrase("was enabled"),
}


def _change(change: Mapping[str, Any]) -> str:
    what, before, after = change["what"], change.get("before"), change.get("after")
    if what == "credential":
        return Phrase(
            "the {provider} key ({hint}) {change}", provider=provider_name(change["provider"]),
            hint=clean(change["hint"]),
            change=_KEY_CHANGES.get((str(before), str(after)), Phrase("was replaced")),
        )
    return Phrase(
        "{setting} is now {after} (was {before})", setting=_SWITCHES.get(what, clean(what)), after=_value(after),
        before=_value(before),
    )


def _value(value: object) -> str:
    if isinstance(value, bool):
        return Phrase("on") if value else Phrase("off")
    if value is None:
        return Phrase("no limit")
    return {"fallback": Phrase("use my OpenRouter key"), "fail": Phrase("fail the call")}.get(str(value), clean(value))


def _payer_here(payer: str, place: Place) -> str:
    return "nobody" if payer == "credits" and not place.with_credits else payer


def _told_of_addon(kind: Kind, p: Payload, place: Place) -> Told:
    until = moment(p.get("until"))
    after = _PAYS[_payer_here(p.get("payer_after", "credits"), place)]
    works, paid = Phrase("Your key goes on working."), Phrase("It works to the end of the paid month.")
    stops = Phrase("Calls with your own OpenRouter key stop soon unless the add-on is paid.")
    if until:
        works = Phrase("Your key goes on working until {until}.", until=until)
        paid = Phrase("It works until {until}.", until=until)
        stops = Phrase("Calls with your own OpenRouter key stop at {until} unless the add-on is paid.", until=until)
    table: Mapping[Kind, tuple[str, str, str]] = {
        Kind.ADDON_ACTIVE: (
            Phrase("the OpenRouter add-on is active"), Phrase("The OpenRouter add-on is active."), after
        ),
        Kind.ADDON_INCLUDED: (
            Phrase("your plan includes OpenRouter"),
            Phrase("The workspace's plan now includes calls with an own OpenRouter key."),
            after),
        Kind.ADDON_CANCELLED: (
            Phrase("the OpenRouter add-on was cancelled"),
            together(Phrase("The OpenRouter add-on was cancelled."), paid), works),
        Kind.ADDON_PAYMENT_FAILED: (
            Phrase("payment for the OpenRouter add-on failed"), Phrase("A payment for the OpenRouter add-on failed."),
            works),
        Kind.ADDON_GRACE: (
            Phrase("your plan no longer includes OpenRouter"),
            Phrase("The workspace's plan no longer includes calls with an own OpenRouter key."), works),
        Kind.ADDON_GRACE_ENDING: (
            Phrase("your OpenRouter key stops soon"),
            stops, works),
        Kind.ADDON_INACTIVE: (
            Phrase("the OpenRouter add-on is inactive"), Phrase(
                "The OpenRouter add-on is inactive because it was not paid. The key is kept, not used, and works "
                "again when it is paid."
            ), after),
        Kind.ADDON_ENDED: (
            Phrase("the OpenRouter add-on has ended"), Phrase(
                "The workspace is no longer entitled to calls with an own OpenRouter key. The key is kept and not "
                "used."
            ), after),
    }
    return Told(*table[kind])


def _told_of_balance(kind: Kind, p: Payload) -> Told:
    balance, minimum = p["balance_credits"], p["minimum_credits"]
    if kind is Kind.BALANCE_LOW:
        return Told(
            Phrase("AI calls stopped, credits below {minimum}", minimum=minimum),
            Phrase(
                "The credit balance is {balance}; calls with your own key need at least {minimum} on this plan.",
                balance=balance, minimum=minimum,
            ),
            Phrase(
                "AI calls with your key are refused until credits are added. None of them is used by those calls."
            ),
        )
    if not minimum:
        return Told(
            Phrase("AI calls work again, no minimum balance"),
            Phrase("Calls with your own key need no minimum balance any more."),
            Phrase("AI calls with your key are answered."),
        )
    return Told(
        Phrase("AI calls work again, enough credits"),
        Phrase(
            "The credit balance is {balance}, at least the {minimum} that calls with your own key need.",
            balance=balance, minimum=minimum,
        ),
        Phrase("AI calls with your key are answered."),
    )


def _told_of_payment(kind: Kind, p: Payload) -> Told:
    if kind is Kind.PAYMENT_QUARANTINED:
        return Told(
            Phrase("a payment is being checked"),
            Phrase("A payment arrived that does not fit what was ordered. Nothing was granted for it yet."),
            Phrase("Nothing has changed for AI calls. An operator looks into it."),
        )
    amount, credits = _amount(p), p["credits"]
    table: Mapping[Kind, tuple[str, str, str]] = {
        Kind.TOPUP_RECEIVED: (
            Phrase("credits have arrived"),
            Phrase("{credits} credits were bought for {amount}.", credits=credits, amount=amount),
            Phrase("The credits can be used at once.")),
        Kind.REFUND_BOOKED: (
            Phrase("a payment was refunded"), Phrase(
                "{amount} were refunded, and {credits} credits are taken back.", amount=amount, credits=credits,
            ),
            Phrase("Calls that credits pay for go on while the balance suffices.")),
        Kind.DISPUTE_OPENED: (
            Phrase("a payment is disputed"), Phrase(
                "A payment of {amount} is disputed. {credits} credits are frozen until it is decided.", amount=amount,
                credits=credits,
            ), Phrase("Calls that credits pay for go on while the rest of the balance suffices.")),
        Kind.DISPUTE_WON: (
            Phrase("a dispute has ended"), Phrase(
                "The dispute over {amount} is decided for the payment: {credits} credits are back.", amount=amount,
                credits=credits,
            ),
            Phrase("The credits can be used again.")),
        Kind.DISPUTE_LOST: (
            Phrase("a dispute has ended"), Phrase(
                "The dispute over {amount} is decided against the payment: {credits} credits are gone.",
                amount=amount, credits=credits,
            ), Phrase("Calls that credits pay for go on while the balance suffices.")),
    }
    return Told(*table[kind])


def _told_of_work(p: Payload) -> Told:
    what = {
        "export": Phrase("export"), "export_all": Phrase("export of the workspace"), "replay": Phrase("replay")
    }.get(str(p["what"]), Phrase("work"))
    if p["state"] != "done":
        return Told(
            Phrase("your {what} has failed", what=what),
            Phrase("Your {what} has failed. Nothing was changed.", what=what), Phrase("Start it again there.")
        )
    rows = "" if p["what"] == "replay" else _tell_rows(int(p["rows"]))
    until = moment(p.get("until"))
    kept = Phrase("The result is kept for 30 days.")
    if until:
        kept = Phrase("The file is kept until {until}.", until=until)
    return Told(
        Phrase("your {what} is ready", what=what), together(Phrase("Your {what} is ready.", what=what), rows), kept
    )


def _tell_rows(rows: int) -> Phrase:
    return Phrase("It has 1 row.") if rows == 1 else Phrase("It has {rows} rows.", rows=f"{rows:,}")


def _amount(p: Payload) -> str:
    """Cents as they are paid: "US$5.00", "5.00 EUR"."""
    whole, cents = divmod(int(p["amount_cents"]), 100)
    currency = str(p.get("currency") or "usd").upper()
    return f"US${whole}.{cents:02d}" if currency == "USD" else f"{whole}.{cents:02d} {clean(currency)}"


def _facts(p: Payload) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    if p.get("since"):
        found.append((Phrase("Since"), moment(p["since"])))
    elif p.get("at"):
        found.append((Phrase("When"), moment(p["at"])))
    if "spent_nusd" in p and p.get("cap_nusd") not in (None, "None"):
        found.append((Phrase("Spent"), Phrase(
            "{spent} of {cap}", spent=usd(p["spent_nusd"]), cap=usd(p["cap_nusd"])
        )))
    elif "spent_nusd" in p:
        found.append((Phrase("Spent"), Phrase("{spent}, no cap", spent=usd(p["spent_nusd"]))))
    if p.get("period"):
        found.append((Phrase("Month"), _month(str(p["period"]))))
    if p.get("resets_at") and str(p.get("cap_nusd")) != "0":
        found.append((Phrase("Resets"), moment(p["resets_at"])))
    if p.get("label"):
        found.append((Phrase("Key"), clean(p["label"])))
    if p.get("by"):
        found.append((Phrase("Changed by"), _tell_actor(str(p["by"]))))
    return tuple(found)


def _tell_actor(by: str) -> str:
    """"member:u_1" as a person reads it; whose token or which machine it was is told by the audit log."""
    kind, _, who = by.partition(":")
    match kind:
        case "member":
            return Phrase("a member ({who})", who=clean(who))
        case "operator":
            return Phrase("an operator")
        case "service" | "workspace":
            return Phrase("the product")
        case _:
            return clean(by)


def _month(key: str) -> str:
    """"2026-11" → "November 2026"; anything else as it is."""
    try:
        month = datetime.strptime(key, "%Y-%m")
        return tell_month_of(month.year, month.month)
    except ValueError:
        return clean(key)


def _mute(topic: Topic) -> str:
    if topic not in MUTEABLE:
        return ""
    name = {Topic.SPEND: Phrase("spend"), Topic.KEYS: Phrase("key health")}[topic]
    return Phrase("You can stop e-mails about {name} for yourself.", name=name)


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
    Kind.AI_PAUSED: {
        **_SPENT, "threshold": 100, "spent_nusd": "50000000000", "reason": "reached", "call": "call_0193",
        "call_headline": "Your OpenRouter key (…9f3c) paid US$0.0312. One attempt.",
    },
    Kind.AI_RESUMED: {
        "period": "2026-12", "cap_version": 3, "cap_nusd": "50000000000", "spent_nusd": "0", "cause": "new_period",
        "at": "2026-12-01T00:00:00Z",
    },
    Kind.OVERAGE: {
        "call": "call_0193", "call_headline": "Your OpenRouter key (…9f3c) paid US$0.0015. One attempt.",
        "hold": "hold_0193", "bound_nusd": "1200000", "cost_nusd": "1500000"
    },
    Kind.CREDENTIAL_UNHEALTHY: {
        **_KEY, "cause": "rejected", "since": "2026-11-14T09:28:00Z", "always": False, "credits_if_key_fails": True,
        "call": "call_0193",
        "call_headline": "Nobody answered: your OpenRouter key failed (401, rejected).",
    },
    Kind.CREDENTIAL_RECOVERED: _KEY,
    Kind.CREDITS_STEP_IN: {
        **_KEY, "since": "2026-11-14T09:28:00Z", "limit_credits": 500,
        "call": "call_0193", "call_headline": "Your OpenRouter key failed (401, rejected). 3 credits paid because "
        '"Use credits if my key fails" is on.',
    },
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
