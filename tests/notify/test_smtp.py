"""E-mail against a real SMTP conversation: what each answer means, and that a batch is one connection."""

import socket
import ssl
import time
from collections.abc import Iterator
from email.headerregistry import Address
from html import escape
from typing import Any

import pytest
from tests.mailbox_process import MailboxHandle, mailbox

from ownkey.domain.errors import ChannelDown, DeliveryError, Undeliverable
from ownkey.domain.notices import SAMPLES, Kind, Place, write_notice
from ownkey.domain.records import Due, Member
from ownkey.domain.workspace import Role
from ownkey.notify.mail import message_id
from ownkey.notify.smtp import SmtpMailer

PLACE = Place("Füße ✓", "Desk", True, "https://x.example/{flow}")
NOTICE = write_notice(Kind.AI_PAUSED, SAMPLES[Kind.AI_PAUSED], PLACE)
SENDER = Address("Acme AI", addr_spec="ai@acme.example")


@pytest.fixture(scope="module")
def box() -> Iterator[MailboxHandle]:
    with mailbox() as running:
        yield running


@pytest.fixture(autouse=True)
def empty(box: MailboxHandle) -> None:
    box.clear()


def mailer(box: MailboxHandle, **changes: Any) -> SmtpMailer:
    values: dict[str, Any] = {
        "host": "127.0.0.1", "port": box.smtp_port, "tls": "none", "user": "", "password": None, "sender": SENDER,
        "instance": "inst_1", "timeout_s": 1.0,
    }
    return SmtpMailer(**(values | changes))


def due(n: int = 1) -> Due:
    return Due(n, "ws", "Füße ✓", "ext", f"alert:{n}", "ai_paused", {}, 1, 1_794_873_600_000)


async def send(smtp: SmtpMailer, to: str = "ada@example.com", n: int = 1) -> None:
    await smtp.send(due(n), Member("ws", to, to, "", Role.OWNER), NOTICE, 1_794_873_600_000)


async def test_a_batch_is_one_connection_and_each_message_its_own(box: MailboxHandle) -> None:
    before = box.connections()
    smtp = mailer(box)
    for n in range(5):
        await send(smtp, f"p{n}@example.com", n)
    await smtp.close()

    mails = box.mails()
    assert box.connections() - before == 1
    assert [mail["recipients"] for mail in mails] == [[f"p{n}@example.com"] for n in range(5)]
    assert len({mail["message_id"] for mail in mails}) == 5
    first = mails[0]
    assert first["message_id"] == message_id("alert:0", "p0@example.com", "inst_1")
    assert first["subject"] == "Füße ✓: AI paused, spend cap reached"
    assert first["from"] == "Acme AI <ai@acme.example>"
    assert first["envelope_from"] == "ai@acme.example"
    assert NOTICE.headline in first["text"]
    assert escape(NOTICE.headline) in first["html"]
    assert dict(first["headers"])["Auto-Submitted"] == "auto-generated"
    assert dict(first["headers"])["Date"].startswith("Tue, 17 Nov 2026")


async def test_the_same_message_again_is_the_same_to_the_byte(box: MailboxHandle) -> None:
    smtp = mailer(box)
    await send(smtp)
    await send(smtp)
    await smtp.close()

    one, two = ({k: v for k, v in mail.items() if k not in ("n", "at")} for mail in box.mails())
    assert one == two


@pytest.mark.parametrize(("stage", "code", "kind", "for_all"), [
    ("rcpt", 550, Undeliverable, None), ("rcpt", 553, Undeliverable, None), ("body", 554, Undeliverable, None),
    ("rcpt", 451, ChannelDown, False), ("body", 452, ChannelDown, False), ("data", 451, ChannelDown, False),
    ("mail", 451, ChannelDown, True), ("mail", 550, ChannelDown, True), ("connect", 554, ChannelDown, True),
    ("rcpt", 421, ChannelDown, True), ("rcpt", "reset", ChannelDown, True), ("body", "reset", ChannelDown, True),
    ("connect", "stall", ChannelDown, True), ("body", "stall", ChannelDown, True),
])
async def test_permanent_and_passing_troubles_are_told_apart(
    box: MailboxHandle, stage: str, code: int | str, kind: type[DeliveryError], for_all: bool | None
) -> None:
    """5xx about a recipient or a content is final; all else waits, and only the server's own trouble stops a batch."""
    box.add_fault(stage, code)
    smtp = mailer(box)
    began = time.monotonic()
    with pytest.raises(DeliveryError) as caught:
        await send(smtp)
    assert type(caught.value) is kind
    assert for_all is None or getattr(caught.value, "for_all", None) is for_all
    assert "as the fault says" not in str(caught.value), "a server's own words are not kept"
    assert time.monotonic() - began < 8

    await send(smtp, n=2)  # the next message passes, over a new connection where it must
    await smtp.close()
    assert len(box.mails()) == 1


async def test_a_server_that_is_not_there_is_told_so() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        smtp = SmtpMailer(host="127.0.0.1", port=held.getsockname()[1], tls="none", user="", password=None,
                          sender=SENDER, instance="i", timeout_s=1.0)
        with pytest.raises(ChannelDown, match="not reachable"):
            await send(smtp)


async def test_starttls_that_is_not_offered_sends_nothing(box: MailboxHandle) -> None:
    """No silent downgrade: without TLS not a byte of the message leaves."""
    smtp = mailer(box, tls="starttls")
    with pytest.raises(ChannelDown, match="does not offer"):
        await send(smtp)

    assert box.mails() == []


async def test_implicit_tls_to_a_server_without_it_is_down(box: MailboxHandle) -> None:
    with pytest.raises(ChannelDown):
        await send(mailer(box, tls="implicit", tls_context=ssl.create_default_context))


async def test_a_login_is_used_and_a_wrong_one_is_the_channels_trouble() -> None:
    with mailbox("--user", "own", "--password", "s3cret") as box:
        right = mailer(box, user="own", password="s3cret")
        await send(right)
        await right.close()
        with pytest.raises(ChannelDown, match="refused the login: 535") as caught:
            await send(mailer(box, user="own", password="wr0ng"))

        assert len(box.mails()) == 1
        assert "wr0ng" not in str(caught.value)
        assert "s3cret" not in repr(right)


@pytest.mark.parametrize("address", ["no address", "a@b\r\nRCPT TO:<eve@evil.example>", "", "@", "a@b>"])
async def test_an_address_that_is_none_is_refused_before_anything_is_sent(box: MailboxHandle, address: str) -> None:
    with pytest.raises(Undeliverable):
        await send(mailer(box), address)

    assert box.mails() == []
