"""The mailbox: shows what came without running any of it, and believes no event that is not signed."""

import base64
import hashlib
import hmac
import smtplib
import time
from collections.abc import Iterator
from email.message import EmailMessage

import httpx
import pytest
from tests.mailbox_process import SECRET, MailboxHandle, mailbox

HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture(scope="module")
def box() -> Iterator[MailboxHandle]:
    with mailbox() as running:
        yield running


@pytest.fixture(autouse=True)
def empty(box: MailboxHandle) -> None:
    box.clear()


def deliver(box: MailboxHandle, subject: str, body: str) -> None:
    """By the standard library's client: the server speaks SMTP, not our own idea of it."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.com", "b@example.com", subject
    message.set_content(body)
    message.add_alternative(f"<p>{body}</p><script>alert(1)</script><img src=http://evil.example/x>", subtype="html")
    with smtplib.SMTP("127.0.0.1", box.smtp_port, timeout=5) as smtp:
        smtp.send_message(message)


def test_a_page_shows_hostile_mail_as_text_and_lets_nothing_run(box: MailboxHandle) -> None:
    deliver(box, HOSTILE, HOSTILE)
    listed = httpx.get(f"{box.url}/", trust_env=False)
    shown = httpx.get(f"{box.url}/mail?n=1", trust_env=False)

    for page in (listed, shown):
        assert "<script" not in page.text.lower()
        assert "<img" not in page.text
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "img-src" not in policy
    assert 'iframe sandbox=""' in shown.text
    assert httpx.get(f"{box.url}/mail?n=2", trust_env=False).status_code == 404


def test_lines_that_begin_with_a_dot_and_long_mails_arrive_whole(box: MailboxHandle) -> None:
    body = "\n".join([".", "..", ".hidden", "x" * 900, "end"])
    deliver(box, "dots", body)

    assert box.mails()[0]["text"].replace("\r\n", "\n").rstrip("\n") == body


def test_faults_are_played_once_and_bad_ones_refused(box: MailboxHandle) -> None:
    box.add_fault("rcpt", 550)
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        deliver(box, "one", "x")
    deliver(box, "two", "x")
    wrong = httpx.post(f"{box.url}/api/faults", json={"stage": "moon", "code": 1}, trust_env=False)

    assert [mail["subject"] for mail in box.mails()] == ["two"]
    assert wrong.status_code == 400


@pytest.mark.parametrize("broken", ["", "body", "secret", "time", "id", "version"])
def test_only_a_signed_event_is_believed(box: MailboxHandle, broken: str) -> None:
    body, ident = b'{"type":"ai.paused","data":{}}', "msg_1"
    at = str(int(time.time()) - (900 if broken == "time" else 0))
    key = base64.b64decode(SECRET.removeprefix("whsec_")) if broken != "secret" else b"another secret of some length"
    mac = base64.b64encode(hmac.digest(key, f"{ident}.{at}.".encode() + body, hashlib.sha256)).decode()
    headers = {
        "webhook-id": "msg_2" if broken == "id" else ident, "webhook-timestamp": at,
        "webhook-signature": f"{'v0' if broken == 'version' else 'v1'},{mac}",
    }
    sent = body + (b" " if broken == "body" else b"")
    answer = httpx.post(f"{box.url}/events", content=sent, headers=headers, trust_env=False)

    assert answer.status_code == (401 if broken else 204)
    assert box.events()[0]["verified"] is (not broken)
