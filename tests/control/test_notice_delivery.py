"""Delivery over the real store: who gets what, once, in order, whatever fails; without a network."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.fresh_database import lay_database

from ownkey.control.notices import LEASE_MS, EventDelivery, MailDelivery
from ownkey.domain.errors import ChannelDown, Undeliverable
from ownkey.domain.notices import GIVE_UP_MS, Kind, Notice
from ownkey.domain.product import Payers, Product
from ownkey.domain.records import Actor, Due, Member
from ownkey.domain.workspace import EntitlementState, Role, WrappedDek
from ownkey.settings.product import load_settings
from ownkey.store import SQLiteStore

NOV = 1_794_873_600_000
ACTOR = Actor("operator", "test")


class Clock:
    def __init__(self) -> None:
        self.ms = NOV

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1_000

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_1"


@dataclass
class FakeMailer:
    """Keeps what it took; `fail` says what happens to a message instead."""

    fail: Callable[[Due, Member], Exception | None] = lambda due, member: None
    taken: list[tuple[str, str, str]] = field(default_factory=list)
    closed: int = 0

    async def send(self, due: Due, member: Member, notice: Notice, created_at_ms: int) -> None:
        await asyncio.sleep(0)
        error = self.fail(due, member)
        if error is not None:
            raise error
        self.taken.append((member.member_id, notice.kind.value, due.key))

    async def close(self) -> None:
        self.closed += 1


@dataclass
class FakeSender:
    fail: Callable[[str], Exception | None] = lambda key: None
    taken: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)

    async def send(self, key: str, event: str, data: Mapping[str, Any], *, happened_at: str, at_ms: int) -> None:
        await asyncio.sleep(0)
        error = self.fail(key)
        if error is not None:
            raise error
        self.taken.append((key, event, data))


@dataclass
class House:
    store: SQLiteStore
    clock: Clock
    product: Product

    def mail(self, mailer: FakeMailer | None) -> MailDelivery:
        return MailDelivery(self.store, mailer, self.clock, self.product)

    def events(self, sender: FakeSender | None) -> EventDelivery:
        return EventDelivery(self.store, sender, self.clock, self.product)

    async def add(self, name: str = "acme", *, people: tuple[str, ...] = ("ann", "bob"), muted: str = "") -> str:
        ws = await self.store.create_workspace(
            workspace_id=f"ws_{name}", name=name, external_id=f"ext-{name}", plan="pro", timezone="UTC",
            entitlement=EntitlementState.INCLUDED, credits_if_key_fails=False, credits_if_key_fails_limit=None,
            dek=WrappedDek("d", "k", b"n" * 12, b"c" * 48), features={}, at_ms=NOV, actor=ACTOR,
        )
        for person in people:
            topics = frozenset(muted.split()) if person == people[-1] else frozenset()
            await self.store.save_member(
                Member(ws.id, person, f"{person}@example.com", person, Role.OWNER, topics), at_ms=NOV, actor=ACTOR
            )
        return ws.id

    async def both_alerts(self, workspace: str) -> None:
        """80% and 100%, from one call."""
        from ownkey.domain.booking import AttemptEnd, HoldRequest
        from ownkey.domain.bounds import Terms
        from ownkey.domain.receipts import Basis, HoldState
        from ownkey.domain.routing import Funding

        await self.store.save_cap(workspace, 1_000, 80, at_ms=NOV, actor=ACTOR)
        await self.store.hold(HoldRequest(
            hold_id=f"h_{workspace}", workspace_id=workspace, call_id=f"c_{workspace}", attempt=1,
            funding=Funding.BYOK, terms=Terms(0, 1_000_000, (1, 1), 0, 1_000, 1_000), price_version=1, at_ms=NOV,
            expires_at_ms=NOV + 9, timezone="UTC", shrink=False, context="{}",
        ))
        await self.store.end_attempt(AttemptEnd(
            f"h_{workspace}", workspace, HoldState.SETTLED, Basis.ACTUAL, 1_000, 1_000, False, 1, NOV,
        ))

    async def any_waiting(self) -> bool:
        return bool(await self.store.load_outbox(None, limit=1, state="waiting"))

    async def states(self, channel: str = "email") -> dict[str, list[str]]:
        rows = await self.store.load_outbox(None, limit=500)
        found: dict[str, list[str]] = {}
        for row in reversed(rows):
            if row["channel"] == channel:
                found.setdefault(row["kind"], []).append(row["state"])
        return found


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = Clock()
    config = tmp_path / "ownkey.toml"
    config.write_text('preset = "app-builder"\n')
    product = load_settings(config, {}).product
    assert product.payers is Payers.WITH_CREDITS
    store = SQLiteStore.open(
        lay_database(tmp_path / "a.db"), clock_ms=clock.now_ms, boot_id="b", audit_key=b"k" * 32
    )
    yield House(store, clock, product)
    findings = await store.verify(clock.ms)
    await store.close()

    # These calls are holds and their ends only; that they have no receipt is no matter of notices.
    assert [finding for finding in findings if finding.check != "receipt.missing"] == []


async def test_everybody_who_should_gets_80_then_100_once(house: House) -> None:
    ws = await house.add()
    await house.both_alerts(ws)
    mailer = FakeMailer()
    told = await house.mail(mailer).deliver_due()
    again = await house.mail(mailer).deliver_due()

    assert [(who, kind) for who, kind, _ in mailer.taken] == [
        ("ann", "spend_threshold"), ("bob", "spend_threshold"), ("ann", "ai_paused"), ("bob", "ai_paused"),
    ]
    assert (told.sent, again.sent, mailer.closed) == (2, 0, 2)


@pytest.mark.parametrize("deliverers", [2, 8])
async def test_many_deliverers_send_each_message_once(house: House, deliverers: int) -> None:
    """M11: claims are leases; nobody sends what another has claimed, and the order within a workspace stays."""
    for n in range(12):
        await house.both_alerts(await house.add(f"w{n}"))
    mailer, sender = FakeMailer(), FakeSender()
    for _ in range(3):
        await asyncio.gather(*(house.mail(mailer).deliver_due() for _ in range(deliverers)),
                             *(house.events(sender).deliver_due() for _ in range(deliverers)))

    assert len(mailer.taken) == len(set(mailer.taken)) == 12 * 2 * 2
    assert len(sender.taken) == len({key for key, _, _ in sender.taken}) == 24
    for n in range(12):
        mine = [kind for who, kind, key in mailer.taken if who == "ann" and key.startswith("alert:") and
                f"ws_w{n}" in [r["workspace_id"] for r in await house.store.load_outbox(f"ws_w{n}", limit=9)
                               if r["dedupe_key"] == key]]
        assert mine == ["spend_threshold", "ai_paused"]


async def test_a_server_that_is_away_keeps_everything_waiting_in_order(house: House) -> None:
    """One connection tried, not one a message; later, everything in its order; events went on meanwhile."""
    ws = await house.add()
    await house.both_alerts(ws)
    await house.add("other")
    await house.both_alerts("ws_other")
    tries: list[str] = []

    def away(due: Due, member: Member) -> Exception:
        tries.append(due.key)
        return ChannelDown("the mail server is not reachable")

    sender = FakeSender()
    await house.mail(FakeMailer(away)).deliver_due()
    await house.events(sender).deliver_due()
    assert len(tries) == 1
    assert len(sender.taken) == 4
    assert set((await house.states())["ai_paused"]) == {"waiting"}
    row = (await house.store.load_outbox(ws, limit=9, state="waiting"))[-1]
    assert "not reachable" in row["reason"] or row["attempts"] == 0

    mailer = FakeMailer()
    for _ in range(4):
        house.clock.ms += 60_000
        await house.mail(mailer).deliver_due()
    mine = [kind for who, kind, _ in mailer.taken if who == "ann"]
    assert sorted(mine) == ["ai_paused", "ai_paused", "spend_threshold", "spend_threshold"]
    keys = [(due, kind) for _, kind, due in mailer.taken]
    for ws_keys in {key.split(":")[1] for key, _ in keys}:
        order = [kind for key, kind in keys if key.split(":")[1] == ws_keys]
        assert order == sorted(order, reverse=True), "80 before 100"


async def test_one_bad_mailbox_keeps_nobody_else_waiting(house: House) -> None:
    """A 4xx of one recipient is tried again for that one only; the others have both messages at once."""
    ws = await house.add()
    await house.both_alerts(ws)
    bad = [True]
    mailer = FakeMailer(
        lambda due, member: ChannelDown("451", for_all=False) if bad[0] and member.member_id == "bob" else None
    )
    await house.mail(mailer).deliver_due()
    assert [(who, kind) for who, kind, _ in mailer.taken] == [("ann", "spend_threshold"), ("ann", "ai_paused")]

    bad[0] = False
    house.clock.ms += 60_000
    await house.mail(mailer).deliver_due()

    assert [who for who, _, _ in mailer.taken] == ["ann", "ann", "bob", "bob"]
    assert await house.states() == {"spend_threshold": ["sent"], "ai_paused": ["sent"]}


async def test_a_refused_recipient_is_final_and_visible(house: House) -> None:
    ws = await house.add(people=("ann",))
    await house.both_alerts(ws)
    await house.mail(FakeMailer(lambda due, member: Undeliverable("refused: 550"))).deliver_due()

    rows = await house.store.load_outbox(ws, limit=9, state="failed")
    assert {(row["channel"], row["reason"]) for row in rows} == {("email", "refused: 550")}
    assert len(rows) == 2
    mailer = FakeMailer()
    assert await house.store.retry_outbox(rows[-1]["id"], at_ms=NOV, actor=ACTOR)
    assert (await house.mail(mailer).deliver_due()).sent == 1
    assert [kind for _, kind, _ in mailer.taken] == ["spend_threshold"]


async def test_after_a_day_a_message_has_failed(house: House) -> None:
    """Visible, with its reason, and verify stays clean: it is a message that failed, not a book that is wrong."""
    ws = await house.add()
    await house.both_alerts(ws)
    delivery = house.mail(FakeMailer(lambda due, member: ChannelDown("away")))
    events = house.events(FakeSender(lambda key: ChannelDown("away")))
    rounds = 0
    while await house.any_waiting():
        await delivery.deliver_due()
        await events.deliver_due()
        house.clock.ms += 600_000
        rounds += 1
        assert rounds < 400
    assert house.clock.ms - NOV >= GIVE_UP_MS
    rows = await house.store.load_outbox(ws, limit=9)
    assert {(row["state"], row["reason"]) for row in rows} == {("failed", "away")}


@pytest.mark.parametrize(("muted", "people", "state"), [
    ("spend", ("ann",), "skipped"), ("keys", ("ann",), "sent"), ("spend", ("ann", "bob"), "sent"), ("", (), "skipped"),
    ("security payment", ("ann",), "sent"),
])
async def test_who_has_muted_it_gets_none(house: House, muted: str, people: tuple[str, ...], state: str) -> None:
    ws = await house.add(people=people, muted=muted)
    await house.both_alerts(ws)
    mailer = FakeMailer()
    await house.mail(mailer).deliver_due()

    assert await house.states() == {"spend_threshold": [state], "ai_paused": [state]}
    assert {who for who, _, _ in mailer.taken} == ({"ann"} if state == "sent" else set())


async def test_security_cannot_be_muted(house: House) -> None:
    ws = await house.add(people=("ann",), muted="spend keys security payment")
    await house.store.save_settings(ws, {"always_use_key": True}, at_ms=NOV, actor=ACTOR)
    mailer = FakeMailer()
    await house.mail(mailer).deliver_due()

    assert [kind for _, kind, _ in mailer.taken] == [Kind.PAYER_CHANGED]


async def test_a_lease_that_ran_out_is_taken_over_and_the_late_report_changes_nothing(house: House) -> None:
    ws = await house.add(people=("ann",))
    await house.both_alerts(ws)
    (slow,) = await house.store.claim_outbox("event", NOV, NOV + LEASE_MS, limit=1)
    sender = FakeSender()
    assert (await house.events(sender).deliver_due()).sent == 0
    house.clock.ms += LEASE_MS
    await house.events(sender).deliver_due()

    assert sender.taken[0][0] == slow.key
    assert not await house.store.save_outbox_result(slow, "waiting", NOV, reason="late", at_ms=NOV)
    assert await house.states("event") == {"spend_threshold": ["sent"], "ai_paused": ["sent"]}


async def test_an_endpoint_that_is_gone_is_believed_and_one_refusal_holds_up_nothing_else(house: House) -> None:
    await house.both_alerts(await house.add())
    await house.both_alerts(await house.add("other"))
    first: list[str] = []

    def answer(key: str) -> Exception | None:
        first.append(key)
        answers = {1: Undeliverable("410"), 2: ChannelDown("500", for_all=False)}
        return answers.get(len(first))

    sender = FakeSender(answer)
    told = await house.events(sender).deliver_due()

    assert (told.failed, told.sent, told.waiting) == (1, 1, 1)
    house.clock.ms += 60_000
    assert (await house.events(sender).deliver_due()).sent == 2


async def test_without_a_channel_rows_end_as_skipped(house: House) -> None:
    await house.both_alerts(await house.add())
    assert (await house.mail(None).deliver_due()).skipped == 2
    assert (await house.events(None).deliver_due()).skipped == 2
    assert (await house.mail(FakeMailer()).deliver_due()).sent == 0

    assert await house.states() == {"spend_threshold": ["skipped"], "ai_paused": ["skipped"]}


async def test_events_name_the_workspace_in_the_hosts_own_words(house: House) -> None:
    await house.both_alerts(await house.add())
    sender = FakeSender()
    await house.events(sender).deliver_due()

    assert [event for _, event, _ in sender.taken] == ["spend.threshold", "ai.paused"]
    data = sender.taken[1][2]
    assert (data["workspace"], data["external_id"], data["kind"]) == ("ws_acme", "ext-acme", "ai_paused")
    assert (data["cap_nusd"], data["spent_nusd"], data["reason"]) == ("1000", "1000", "reached")
