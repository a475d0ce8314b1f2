"""E-mails about a call say its headline, by the function of the receipt's own page, and never another one later."""

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.control.house import ACTOR
from tests.portal.key_pages import entitle, save
from tests.portal.receipts_made import failed, make_receipt
from tests.portal.visiting import Portal, open_portal
from tests.store.store_kit import credits_request, finish, request, settle

from ownkey.control.notice_calls import WAIT_MS, NoticeCalls
from ownkey.control.notices import CALL_RUNS, MailDelivery
from ownkey.control.receipts import ReceiptControl
from ownkey.domain.errors import ChannelDown
from ownkey.domain.health import Evidence, Sign
from ownkey.domain.notices import Kind, Notice
from ownkey.domain.records import Due, Member
from ownkey.domain.routing import Route
from ownkey.domain.workspace import Role
from ownkey.notify.mail import render_html, render_text

HOSTILE = "<b>sk-or-v1-" + "ab" * 32 + "</b>"


@dataclass
class Mailbox:
    """Keeps what it took; who is `away` is not reached."""

    away: set[str] = field(default_factory=set)
    taken: list[tuple[str, Notice]] = field(default_factory=list)

    async def send(self, due: Due, member: Member, notice: Notice, created_at_ms: int) -> None:
        if member.member_id in self.away:
            raise ChannelDown("not now", for_all=False)
        self.taken.append((member.member_id, notice))

    async def close(self) -> None:
        pass

    def one(self, kind: Kind) -> Notice:
        found = {repr(notice): notice for _, notice in self.taken if notice.kind is kind}
        assert len(found) == 1, [notice.kind for _, notice in self.taken]
        return next(iter(found.values()))


def mail(portal: Portal, mailbox: Mailbox, words: Mapping[str, str] | None = None) -> MailDelivery:
    house = portal.control
    calls = NoticeCalls(house.store, ReceiptControl(house.store, house.clock, house.product), house.clock, words or {})
    return MailDelivery(house.store, mailbox, house.clock, house.product, calls=calls, words=words)


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path, "app-builder") as opened:
        house = opened.control
        await entitle(opened)
        await save(opened)
        for name in ("ann", "bob"):
            await house.store.save_member(
                Member(opened.workspace.id, name, f"{name}@example.com", name, Role.OWNER, frozenset()),
                at_ms=house.clock.now_ms(), actor=ACTOR,
            )
        await mail(opened, Mailbox()).deliver_due()
        yield opened


async def reach_the_cap(portal: Portal, *, ended: bool = True) -> str:
    """One call takes the whole cap; its id. Not `ended`: it is billed, and its receipt is still to come."""
    house, ident = portal.control, portal.workspace.id
    await house.desk.caps.save(await house.again(portal.workspace), "0.01", 80, ACTOR)
    now = house.clock.now_ms()
    wish = request(ident, 10_000_000, at_ms=now, expires_at_ms=now + 180_000)
    await house.store.hold(wish)
    if ended:
        await finish(house.store, wish, settle(wish, 10_000_000))
    else:
        await house.store.end_attempt(settle(wish, 10_000_000))
    house.clock.pass_s(2)
    return wish.call_id


async def test_the_cap_is_reached_by_a_call_that_is_named(portal: Portal) -> None:
    """Section 4.5: the e-mail's sentence is the receipt's, and its link opens the receipt; the button stays the one."""
    call = await reach_the_cap(portal)
    mailbox = Mailbox()
    await mail(portal, mailbox).deliver_due()
    notice = mailbox.one(Kind.AI_PAUSED)
    stored = await portal.control.desk.receipts.one(portal.workspace, call)

    assert notice.call == await portal.control.desk.receipts.headline(portal.workspace, stored)
    assert "paid US$0.0100. One attempt." in notice.call
    assert notice.call_url.endswith(f"receipt:{call}")
    assert notice.url.endswith("cap")
    for text in (render_text(notice), render_html(notice)):
        assert "The call that set this off:" in text
        assert f"receipt:{call}" in text


async def test_a_message_waits_a_little_for_its_receipt(portal: Portal) -> None:
    """A call that streams on is no reason to say nothing for minutes: then the link leads to the running call."""
    call = await reach_the_cap(portal, ended=False)
    mailbox, delivery = Mailbox(), mail(portal, Mailbox())
    told = await delivery.deliver_due()
    rows = await portal.control.store.load_outbox(portal.workspace.id, limit=9, state="waiting")
    portal.control.clock.pass_s(WAIT_MS // 1_000 + 5)
    await mail(portal, mailbox).deliver_due()
    await mail(portal, mailbox).deliver_due()
    notice = mailbox.one(Kind.AI_PAUSED)

    assert told.waiting == 1
    assert CALL_RUNS in {row["reason"] for row in rows}
    assert notice.call == ""
    assert notice.call_url.endswith(f"receipt:{call}")
    assert "The call that set this off:" not in render_text(notice)


async def test_a_receipt_that_cannot_be_read_holds_no_message_back(portal: Portal) -> None:
    """One of a later version, after a step back: the mail goes with its link, and those behind it go too."""
    call = await reach_the_cap(portal)
    newer = json.dumps({"attempts": "of another shape"})
    with contextlib.closing(sqlite3.connect(portal.control.folder / "ownkey.db")) as conn, conn:
        conn.execute("UPDATE receipt SET doc = json_patch(doc, ?) WHERE id = ?", (newer, call))
    mailbox = Mailbox()
    await mail(portal, mailbox).deliver_due()

    for kind in (Kind.SPEND_THRESHOLD, Kind.AI_PAUSED):
        assert (mailbox.one(kind).call, mailbox.one(kind).call_url[-len(call):]) == ("", call)


async def test_a_repeat_says_the_same_whatever_is_changed_meanwhile(portal: Portal) -> None:
    """One Message-ID is one text: what the first was told is kept with the message."""
    await reach_the_cap(portal)
    first, second = Mailbox(away={"bob"}), Mailbox()
    text = "Your {name} key{hint} {paid}. One attempt."
    await mail(portal, first, {text: "Paid{hint}: {name}, {paid}."}).deliver_due()
    portal.control.clock.pass_s(30)
    for _ in range(2):
        await mail(portal, second, {text: "{name}{hint}{paid}!"}).deliver_due()
    told = [(who, notice.call) for box in (first, second) for who, notice in box.taken
            if notice.kind is Kind.SPEND_THRESHOLD]

    assert told == [(who, "Paid (…abcd): OpenRouter, paid US$0.0100.") for who in ("ann", "bob")]


async def test_credits_that_step_in_name_the_call_they_paid(portal: Portal) -> None:
    house, ident = portal.control, portal.workspace.id
    key = (await house.again(portal.workspace)).credentials["openrouter"]
    now = house.clock.now_ms()
    await house.desk.workspaces.change(await house.again(portal.workspace), {"credits_if_key_fails": True}, ACTOR)
    await house.store.note_health(ident, key.id, key.version, Evidence(Sign.REJECTED, "401 auth", now))
    await house.desk.credits.grant(
        await house.again(portal.workspace), 1_000, "operator", None, "grant_1", ACTOR,
    )
    wish = credits_request(ident, 10_000_000, at_ms=now, expires_at_ms=now + 180_000, key_failed=True)
    await house.store.hold(wish)
    await finish(house.store, wish, settle(wish, 10_000_000))
    mailbox = Mailbox()
    for _ in range(2):
        await mail(portal, mailbox).deliver_due()
        house.clock.pass_s(WAIT_MS // 1_000)
    await mail(portal, mailbox).deliver_due()
    notice = mailbox.one(Kind.CREDITS_STEP_IN)

    assert "paid" in notice.call
    assert notice.call_url.endswith(f"receipt:{wish.call_id}")


async def test_a_key_that_stopped_names_the_call_that_found_out(portal: Portal) -> None:
    """The failed attempt nearest to the incident's beginning; nothing that the provider said is in it."""
    house = portal.control
    key = (await house.again(portal.workspace)).credentials["openrouter"]
    made = make_receipt(
        portal, failed(1, Route.OPENROUTER, "openrouter", failure="auth", status=401, signal=HOSTILE, message=HOSTILE),
        status=503, code="provider_unavailable", served_model=None, finish_reason=None, message=HOSTILE,
    )
    attempts = tuple(replace(one, credential_id=key.id) for one in made.attempts)
    receipt = await house.store.end_call(None, replace(made, attempts=attempts))
    since = receipt.at_ms + attempts[0].ended_ms
    await house.store.note_health(portal.workspace.id, key.id, key.version, Evidence(Sign.REJECTED, "401 auth", since))
    house.clock.pass_s(2)
    mailbox = Mailbox()
    await mail(portal, mailbox).deliver_due()
    notice = mailbox.one(Kind.CREDENTIAL_UNHEALTHY)

    assert notice.call == "Nobody answered: OpenRouter answered 401 (key rejected)."
    assert notice.call_url.endswith(f"receipt:{receipt.id}")
    assert "abab" not in render_html(notice) + render_text(notice)


async def test_a_call_that_failed_for_another_reason_found_nothing_out(portal: Portal) -> None:
    """An outage just before the incident began is nearer to it than the rejection; the mail names the rejection."""
    house = portal.control
    key = (await house.again(portal.workspace)).credentials["openrouter"]
    calls = []
    for cls, status in (("auth", 401), ("overload", 503)):
        one = failed(1, Route.OPENROUTER, "openrouter", failure=cls, status=status)
        made = make_receipt(
            portal, replace(one, credential_id=key.id), status=503, code="provider_unavailable", served_model=None,
            finish_reason=None,
        )
        calls.append(await house.store.end_call(None, made))
        house.clock.pass_s(1)
    since = calls[1].at_ms + calls[1].attempts[0].ended_ms
    await house.store.note_health(portal.workspace.id, key.id, key.version, Evidence(Sign.REJECTED, "401 auth", since))
    house.clock.pass_s(2)
    mailbox = Mailbox()
    await mail(portal, mailbox).deliver_due()

    assert mailbox.one(Kind.CREDENTIAL_UNHEALTHY).call_url.endswith(f"receipt:{calls[0].id}")


async def test_a_key_that_a_probe_found_names_no_call(portal: Portal) -> None:
    house = portal.control
    key = (await house.again(portal.workspace)).credentials["openrouter"]
    await house.store.note_health(
        portal.workspace.id, key.id, key.version, Evidence(Sign.REJECTED, "401 auth", house.clock.now_ms()))
    house.clock.pass_s(WAIT_MS // 1_000)
    mailbox = Mailbox()
    await mail(portal, mailbox).deliver_due()
    notice = mailbox.one(Kind.CREDENTIAL_UNHEALTHY)

    assert (notice.call, notice.call_url) == ("", "")
    assert "Open its receipt" not in render_html(notice)
