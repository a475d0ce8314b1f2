"""E-mails: which of them an owner or admin gets, topic by topic, and which nobody can switch off, and why.

Each person chooses for themselves. An operator who looks sees how many get what, and no choice of anybody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ownkey.control.notices import EMAIL
from ownkey.control.problems import not_found
from ownkey.domain.notices import (
    MUTEABLE,
    RULES,
    WITH_ADDON_ONLY,
    WITH_CREDITS_ONLY,
    WITHOUT_MAIL,
    Kind,
    Topic,
    muted_topics,
)
from ownkey.domain.phrases import Phrase
from ownkey.domain.portal import Page, Sight
from ownkey.domain.records import Member
from ownkey.domain.workspace import EntitlementState, Role
from ownkey.pages.http import Answer
from ownkey.portal.visit import PortalRoute, Visit

PATH: Final = "/portal/notices"
_TOLD: Final = frozenset({Role.OWNER, Role.ADMIN})

_NAMES: Final[Mapping[Kind, Phrase]] = {
    Kind.SPEND_THRESHOLD: Phrase("Alert threshold passed"),
    Kind.AI_PAUSED: Phrase("AI paused"),
    Kind.AI_RESUMED: Phrase("AI resumed"),
    Kind.OVERAGE: Phrase("Call dearer than expected"),
    Kind.CREDENTIAL_UNHEALTHY: Phrase("Key stopped working"),
    Kind.CREDENTIAL_RECOVERED: Phrase("Key works again"),
    Kind.CREDITS_STEP_IN: Phrase("Credits step in"),
    Kind.PAYER_CHANGED: Phrase("Payer changed"),
    Kind.SETTINGS_CHANGED: Phrase("Key settings changed"),
    Kind.ADDON_ACTIVE: Phrase("Add-on active"),
    Kind.ADDON_INCLUDED: Phrase("Included in the plan"),
    Kind.ADDON_CANCELLED: Phrase("Add-on cancelled"),
    Kind.ADDON_PAYMENT_FAILED: Phrase("Payment failed"),
    Kind.ADDON_GRACE: Phrase("No longer in the plan"),
    Kind.ADDON_GRACE_ENDING: Phrase("Grace ends soon"),
    Kind.ADDON_INACTIVE: Phrase("Add-on inactive"),
    Kind.ADDON_ENDED: Phrase("Add-on ended"),
    Kind.BALANCE_LOW: Phrase("Credits too low"),
    Kind.BALANCE_RESTORED: Phrase("Enough credits again"),
    Kind.TOPUP_RECEIVED: Phrase("Credits received"),
    Kind.REFUND_BOOKED: Phrase("Payment refunded"),
    Kind.DISPUTE_OPENED: Phrase("Payment disputed"),
    Kind.DISPUTE_WON: Phrase("Dispute won"),
    Kind.DISPUTE_LOST: Phrase("Dispute lost"),
    Kind.PAYMENT_QUARANTINED: Phrase("Payment being checked"),
    Kind.EXPORT_READY: Phrase("Export or replay ended"),
}
_TITLES: Final[Mapping[Topic, Phrase]] = {Topic.SPEND: Phrase("Spend"), Topic.KEYS: Phrase("Key health")}


@dataclass(frozen=True, slots=True)
class Mail:
    """One kind of e-mail: its name, and the sentence of when it is sent."""

    kind: Kind
    name: str
    when: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A topic that can be switched off. `on`: this person gets its e-mails. `others` is how many owners and admins
    besides get them; `version` is the switch as it stands; `stale`: its form was made for another."""

    topic: Topic
    title: str
    mails: tuple[Mail, ...]
    on: bool
    others: int
    stale: bool

    @property
    def version(self) -> str:
        return version_of(self.on)


@dataclass(frozen=True, slots=True)
class Fixed:
    """E-mails that nobody can switch off, and why not, in one sentence."""

    id: str
    title: str
    why: str
    mails: tuple[Mail, ...]


async def show(visit: Visit) -> Answer:
    return await _page(visit)


async def switch(visit: Visit) -> Answer:
    """On or off, for this person alone, from the next e-mail."""
    topic = _named(visit.request.params["topic"])
    me = _me(visit, await visit.desk.members.list(visit.workspace))
    if visit.is_stale(version_of(_gets(me, topic))):
        return await _page(visit, stale=topic, status=409)
    on = visit.request.field("on") == "on"
    await visit.desk.members.mute(visit.workspace, visit.session.member_id, topic, visit.actor, muted=not on)
    return visit.go(f"{PATH}?done={version_of(on)}&topic={topic}#{topic}")


def version_of(on: bool) -> str:
    """What a form is made for: the switch as it stands."""
    return "on" if on else "off"


# --- the steps


async def _page(visit: Visit, *, stale: Topic | None = None, status: int = 200) -> Answer:
    members = await visit.desk.members.list(visit.workspace)
    me = _me(visit, members)
    choices = [_choice(visit, topic, me, members, stale) for topic in Topic if topic in MUTEABLE]
    done, topic = visit.request.asks("done"), visit.request.asks("topic")
    return visit.show(
        "notices.html", title=visit.say("E-mails"), status=status, path=PATH, choices=choices, fixed=_fixed(visit),
        email=visit.session.member_email if me is None else me.email, without_mail=not _mail_works(visit),
        done=next((one for one in choices if one.topic == topic and one.version == done), None),
    )


def _me(visit: Visit, members: Sequence[Member]) -> Member | None:
    """None for an operator who looks: operators are nobody's members, whatever their id."""
    mine = visit.session.member_id if visit.session.kind == "member" else None
    return next((member for member in members if member.member_id == mine), None)


def _gets(member: Member | None, topic: Topic) -> bool:
    return member is None or topic not in muted_topics(member.muted or frozenset())


def _choice(
    visit: Visit, topic: Topic, me: Member | None, members: Sequence[Member], stale: Topic | None
) -> Choice:
    others = [
        member for member in members if member is not me and member.role in _TOLD and member.email
    ]
    return Choice(
        topic, visit.say(_TITLES[topic]), _mails(visit, [kind for kind in Kind if RULES[kind].topic is topic]),
        _gets(me, topic), sum(_gets(member, topic) for member in others), topic is stale,
    )


def _fixed(visit: Visit) -> tuple[Fixed, ...]:
    asked = [Kind.EXPORT_READY]
    safety = [kind for kind in Kind if RULES[kind].topic is Topic.SECURITY and kind not in asked]
    payment = [kind for kind in Kind if RULES[kind].topic is Topic.PAYMENT]
    fixed = (
        Fixed("security", visit.say("Keys and who pays"), visit.say(
            "Every owner and admin gets these, so that nobody changes a key or the payer unnoticed."
        ), _mails(visit, safety)),
        Fixed("payment", visit.say("Plan and payments"), visit.say(
            "Every owner and admin gets these, because money has moved or calls are about to stop."
        ), _mails(visit, payment)),
        Fixed("asked", visit.say("What you asked for"), visit.say(
            "Only the person who started it gets this, because they wait for it."
        ), _mails(visit, asked)),
    )
    return tuple(one for one in fixed if one.mails)


def _mails(visit: Visit, kinds: Sequence[Kind]) -> tuple[Mail, ...]:
    """In the order of the kinds, without those that this product never sends."""
    never = _never(visit)
    return tuple(
        Mail(kind, visit.say(_NAMES[kind]), visit.say("When {what}.", what=visit.say(RULES[kind].when)))
        for kind in kinds if kind not in never
    )


def _never(visit: Visit) -> frozenset[Kind]:
    """Kinds that this workspace is never sent: its product has no credits, or nothing that is bought."""
    with_addon = visit.workspace.entitlement is not EntitlementState.INCLUDED or any(
        plan.byok == "addon" for plan in visit.product.plans.values()
    )
    never = WITHOUT_MAIL if with_addon else WITHOUT_MAIL | WITH_ADDON_ONLY
    if visit.house.with_credits:
        return never
    return never | WITH_CREDITS_ONLY | (frozenset() if with_addon else {Kind.PAYMENT_QUARANTINED})


def _mail_works(visit: Visit) -> bool:
    return not visit.desk.outbox.channels().get(EMAIL, "")


def _named(name: str) -> Topic:
    """Raises Problem where there is no such topic; whether it can be muted is the use case's to say."""
    try:
        return Topic(name)
    except ValueError:
        raise not_found("topic", name[:40], "here") from None


ROUTES: tuple[PortalRoute, ...] = (
    PortalRoute("GET", PATH, Page.NOTICES, Sight.READ, show),
    PortalRoute("POST", f"{PATH}/{{topic}}", Page.NOTICES, Sight.MANAGE, switch),
)
